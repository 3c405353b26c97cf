//! What is decided here reaches the box, in order and once.

use gridwatch_engine::CaseState;
use gridwatch_hub::{HubError, workflow::Act};
use jiff::Timestamp;

use crate::{
    broker::Broker,
    case_fixture::NODE,
    databases::{TestDatabase, kinds},
    edge_box::EdgeBox,
    running::{RunningHub, command, settings},
};

#[tokio::test]
async fn decisions_reach_the_box_in_their_order() {
    for kind in kinds() {
        let (broker, database, mut edge) = (Broker::start(), TestDatabase::start(kind), EdgeBox::new());
        let id = edge.file(1);
        let mut link = edge.link(broker.port);
        let hub = RunningHub::start_for(settings(&database, broker.port), &edge).await;
        edge.wait_empty().await;
        let due = Timestamp::now() + jiff::SignedDuration::from_hours(4);
        let dispatch = Act::Dispatch {
            unit: "unit 3".into(),
            due: Some(due),
        };
        for act in [Act::Accept, dispatch, Act::Dispose] {
            hub.database
                .decide(&id, &act, None, "clerk", Timestamp::now())
                .await
                .unwrap();
        }
        let mut replies = Vec::new();
        for _ in 0..3 {
            let reply = link.next_reply().await;
            replies.push((
                reply.message.state,
                reply.message.due_at.is_some(),
                reply.message.platform_task_no.clone(),
            ));
            let _ = reply.committed.send(());
        }
        let number = replies[0].2.clone().unwrap();
        assert!(number.ends_with("-000001"), "{number}");
        assert_eq!(
            replies,
            [
                (CaseState::Accepted, false, Some(number.clone())),
                (CaseState::Dispatched, true, Some(number.clone())),
                (CaseState::Disposed, false, Some(number)),
            ],
            "{kind:?}"
        );
        crate::broker::within(async {
            while hub.database.count_unsent_replies().await.unwrap() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
        assert!(link.replies.try_recv().is_err(), "each reply is sent once");
        hub.stop().await;
    }
}

#[tokio::test]
async fn two_clerks_cannot_decide_differently_at_the_same_time() {
    for kind in kinds() {
        let (broker, database, mut edge) = (Broker::start(), TestDatabase::start(kind), EdgeBox::new());
        let id = edge.file(1);
        let _link = edge.link(broker.port);
        let hub = RunningHub::start_for(settings(&database, broker.port), &edge).await;
        edge.wait_empty().await;
        let reject = Act::Reject { reason: "no".into() };
        let close = Act::Duplicate { of: "none".into() };
        let (a, b, c) = tokio::join!(
            hub.database.decide(&id, &Act::Accept, None, "a", Timestamp::now()),
            hub.database.decide(&id, &Act::Accept, None, "b", Timestamp::now()),
            hub.database.decide(&id, &close, None, "c", Timestamp::now()),
        );
        assert!(a.is_ok() != b.is_ok(), "{kind:?}: {a:?} {b:?}");
        assert!(matches!(c, Err(HubError::NotFound(_) | HubError::Conflict(_))));
        hub.database
            .decide(&id, &reject, None, "a", Timestamp::now())
            .await
            .unwrap();
        let events = hub.database.case_events(&id).await.unwrap();
        assert_eq!(events.len(), 3);
        hub.stop().await;
    }
}

#[tokio::test]
async fn the_commands_do_the_same() {
    for kind in kinds() {
        let (broker, database, mut edge) = (Broker::start(), TestDatabase::start(kind), EdgeBox::new());
        let id = edge.file(1);
        let mut link = edge.link(broker.port);
        let hub = RunningHub::start_for(settings(&database, broker.port), &edge).await;
        edge.wait_empty().await;
        let run = |args: &[&str]| command(&database, args);
        let (code, out, _) = run(&["boxes", "list"]);
        assert_eq!(code, 0);
        assert!(out.contains(NODE) && out.contains("confirmed"), "{out}");
        let wrong = gridwatch_custody::SigningKey::generate()
            .unwrap()
            .1
            .public()
            .to_string();
        let (code, out, _) = run(&["boxes", "confirm", "box-8", "--key", &wrong]);
        assert_eq!((code, out.contains("0 dead letters taken")), (0, true), "{out}");
        let (code, _, error) = run(&["boxes", "confirm", NODE]);
        assert_eq!((code, error.contains("are confirmed")), (3, true), "{error}");
        let (code, out, error) = run(&["cases", "accept", &id[id.len() - 6..]]);
        assert_eq!((code, out.contains("accepted, task ")), (0, true), "{out}{error}");
        assert_eq!(link.next_reply().await.message.state, CaseState::Accepted);
        let (code, _, error) = run(&["cases", "reopen", &id, "--reason", "no"]);
        assert_eq!(code, 3);
        assert!(
            error.contains("a case that is accepted cannot be reopened; possible: dispatched"),
            "{error}"
        );
        let (code, out, _) = run(&[
            "cases",
            "show",
            &id,
            "--pictures",
            &database.folder.path().join("shown").display().to_string(),
        ]);
        assert_eq!(code, 0);
        assert!(out.contains("暴露垃圾") && out.contains("accepted"), "{out}");
        assert_eq!(
            std::fs::read_dir(database.folder.path().join("shown")).unwrap().count(),
            2
        );
        let (code, out, _) = run(&["cases", "list", "--state", "accepted", "--json"]);
        let row: serde_json::Value = serde_json::from_str(out.trim()).unwrap();
        assert_eq!((code, row["case_id"].as_str()), (0, Some(id.as_str())));
        let (code, out, _) = run(&["cases", "list", "--state", "filed"]);
        assert_eq!((code, out.trim()), (0, "No such cases."));
        let (code, _, error) = run(&["cases", "show", "ZZZZZZ"]);
        assert_eq!((code, error.contains("no case ZZZZZZ")), (3, true));
        hub.stop().await;
    }
}

#[tokio::test]
async fn what_is_accepted_is_dispatched_as_the_table_says() {
    for kind in kinds() {
        let (broker, database, mut edge) = (Broker::start(), TestDatabase::start(kind), EdgeBox::new());
        let id = edge.file(1);
        let mut link = edge.link(broker.port);
        let mut settings = settings(&database, broker.port);
        let table = include_str!("../../../../configs/platform/dispatch.toml");
        settings.dispatch = Some(table.parse().unwrap());
        let hub = RunningHub::start_for(settings, &edge).await;
        edge.wait_empty().await;
        hub.database
            .decide(&id, &Act::Accept, None, "clerk", Timestamp::now())
            .await
            .unwrap();
        for state in [CaseState::Accepted, CaseState::Dispatched] {
            let reply = link.next_reply().await;
            assert_eq!(
                (reply.message.state, reply.message.due_at.is_some()),
                (state, state == CaseState::Dispatched)
            );
            let _ = reply.committed.send(());
        }
        let case = hub.database.case(&id).await.unwrap();
        assert_eq!(case.unit.as_deref(), Some("Sanitation"));
        assert!(case.due_at.is_some_and(|due| due > Timestamp::now()));
        let events = hub.database.case_events(&id).await.unwrap();
        let who: Vec<&str> = events.iter().map(|event| event.who.as_str()).collect();
        assert_eq!(who, [NODE, "clerk", "hub"]);
        hub.stop().await;
    }
}

#[tokio::test]
async fn replies_that_nobody_takes_do_not_hold_up_others() {
    for kind in kinds() {
        let (broker, database, mut edge) = (Broker::start(), TestDatabase::start(kind), EdgeBox::new());
        let ids: Vec<String> = (1..=40).map(|n| edge.file(n)).collect();
        let hub = RunningHub::start_for(settings(&database, broker.port), &edge).await;
        let link = edge.link(broker.port);
        edge.wait_empty().await;
        hub.stop().await;
        drop(link);
        let opened = gridwatch_hub::database::Database::open(&database.url).await.unwrap();
        let now = Timestamp::now();
        for id in &ids {
            for act in [Act::Accept, Act::Dispose] {
                opened.decide(id, &act, None, "clerk", now).await.unwrap();
            }
        }
        // The first 39 cannot be sent now; the last one is due.
        let taken = opened.take_replies(100, now).await.unwrap();
        assert_eq!(taken.len(), 40, "the first reply of each case");
        assert!(taken.iter().all(|reply| reply.payload.contains("accepted")));
        let last = taken.iter().find(|reply| reply.case_id == ids[39]).unwrap();
        opened.reply_due(last, now).await.unwrap();
        let again = opened.take_replies(32, now).await.unwrap();
        assert_eq!(again, std::slice::from_ref(last));
        opened.reply_sent(last, now).await.unwrap();
        let next = opened.take_replies(32, now).await.unwrap();
        assert_eq!((next.len(), next[0].case_id.as_str()), (1, ids[39].as_str()));
        assert!(next[0].payload.contains("disposed"));
        opened.close().await;
    }
}

#[tokio::test]
async fn a_decision_for_a_state_that_has_passed_is_refused() {
    for kind in kinds() {
        let (broker, database, mut edge) = (Broker::start(), TestDatabase::start(kind), EdgeBox::new());
        let id = edge.file(1);
        let hub = RunningHub::start_for(settings(&database, broker.port), &edge).await;
        let _link = edge.link(broker.port);
        edge.wait_empty().await;
        let by_person = Act::Dispatch {
            unit: "unit 3".into(),
            due: None,
        };
        let by_table = Act::Dispatch {
            unit: "unit 4".into(),
            due: None,
        };
        hub.database
            .decide(&id, &Act::Accept, None, "clerk", Timestamp::now())
            .await
            .unwrap();
        hub.database
            .decide(&id, &by_person, None, "clerk", Timestamp::now())
            .await
            .unwrap();
        let late = hub
            .database
            .decide(&id, &by_table, Some(CaseState::Accepted), "hub", Timestamp::now())
            .await;
        assert!(matches!(late, Err(HubError::Conflict(_))), "{late:?}");
        assert_eq!(hub.database.case(&id).await.unwrap().unit.as_deref(), Some("unit 3"));
        hub.stop().await;
    }
}

#[test]
fn a_database_that_cannot_be_reached_is_named_without_its_password() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gridwatch-hub"))
        .args([
            "--database",
            "postgres://clerk:hunter2@127.0.0.1:1/hub",
            "boxes",
            "list",
        ])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(
        error.contains("postgres://clerk@127.0.0.1:1/hub") && error.contains("refused"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}
