//! Cases from a box's outbox to the database.

use std::time::Duration;

use gridwatch_engine::CaseState;
use gridwatch_hub::database::{CaseFilter, Database};
use gridwatch_mqtt::Protocol;

use crate::{
    broker::{Broker, within},
    case_fixture::NODE,
    databases::{Kind, TestDatabase, kinds},
    edge_box::EdgeBox,
    running::{RunningHub, command, settings},
};

/// All cases.
pub(crate) async fn all(database: &Database) -> Vec<gridwatch_hub::database::CaseRow> {
    let filter = CaseFilter {
        limit: 10_000,
        ..CaseFilter::default()
    };
    database.cases(&filter).await.unwrap()
}

#[tokio::test]
async fn a_case_leaves_the_outbox_once_it_is_committed_with_its_pictures() {
    let runs = kinds()
        .into_iter()
        .map(|kind| (kind, Protocol::V5))
        .chain([(Kind::Sqlite, Protocol::V311)]);
    for (kind, protocol) in runs {
        let (broker, database, mut edge) = (Broker::start(), TestDatabase::start(kind), EdgeBox::new());
        let ids: Vec<String> = (1..=5).map(|n| edge.file(n)).collect();
        let _link = edge.link(broker.port);
        let mut settings = settings(&database, broker.port);
        settings.broker.protocol = protocol;
        let hub = RunningHub::start_for(settings, &edge).await;
        edge.wait_empty().await;
        let mut cases = all(&hub.database).await;
        cases.sort_by(|a, b| a.case_id.cmp(&b.case_id));
        assert_eq!(
            cases.iter().map(|case| case.case_id.clone()).collect::<Vec<_>>(),
            ids,
            "{kind:?}"
        );
        for case in &cases {
            assert_eq!((case.state, case.revision), (CaseState::Filed, 1));
            let (record, _) = hub.database.record(case).await.unwrap();
            for item in record.evidence {
                let bytes = hub.pictures.get(&item.sha256).await.unwrap().unwrap();
                assert_eq!(gridwatch_base::digest::sha256_hex(&bytes), item.sha256);
            }
        }
        let boxes = hub.database.boxes().await.unwrap();
        assert_eq!((boxes.len(), boxes[0].cases, boxes[0].dead_letters), (1, 5, 0));
        assert_eq!(boxes[0].presence.as_deref(), Some("online"));
        let copy = database.folder.path().join("copy.db");
        match kind {
            Kind::Sqlite => {
                hub.database.backup(&copy).await.unwrap();
                let copied = Database::open(&format!("sqlite:{}", copy.display())).await.unwrap();
                assert_eq!(all(&copied).await, all(&hub.database).await);
                assert!(hub.database.backup(&copy).await.is_err(), "a copy is not overwritten");
            }
            Kind::Postgres => assert!(hub.database.backup(&copy).await.is_err()),
        }
        hub.stop().await;
    }
}

#[tokio::test]
async fn a_hub_that_was_away_gets_everything_and_a_newer_revision_counts() {
    for kind in kinds() {
        let (broker, database, mut edge) = (Broker::start(), TestDatabase::start(kind), EdgeBox::new());
        let id = edge.file(1);
        let hub = RunningHub::start_for(settings(&database, broker.port), &edge).await;
        let _link = edge.link(broker.port);
        edge.wait_empty().await;
        hub.stop().await;
        edge.revise(&id, CaseState::Withdrawn, "seen empty for a day");
        edge.file(2);
        let hub = RunningHub::start_for(settings(&database, broker.port), &edge).await;
        edge.wait_empty().await;
        let case = hub.database.case(&id).await.unwrap();
        assert_eq!((case.state, case.revision), (CaseState::Withdrawn, 2));
        let events = hub.database.case_events(&id).await.unwrap();
        assert_eq!(
            events
                .iter()
                .map(|e| (e.seq, e.state, e.who.as_str()))
                .collect::<Vec<_>>(),
            [(1, CaseState::Filed, NODE), (2, CaseState::Withdrawn, NODE)]
        );
        assert_eq!(all(&hub.database).await.len(), 2);
        hub.stop().await;
    }
}

#[tokio::test]
async fn pictures_that_were_lost_are_asked_for_and_come_again() {
    let (broker, database, mut edge) = (Broker::start(), TestDatabase::start(Kind::Sqlite), EdgeBox::new());
    // Somebody else took the pictures: the broker acknowledged them to the box, and the hub never gets them.
    let subscriber = crate::broker::Subscriber::start(broker.port, "gridwatch/v1/+/evidence/+").await;
    let id = edge.file(1);
    let link = edge.link(broker.port);
    within(async {
        while edge.store.outbox_depth().unwrap().waiting > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    drop((subscriber, link));
    let hub = RunningHub::start_for(settings(&database, broker.port), &edge).await;
    let _link = edge.link(broker.port);
    edge.wait_empty().await;
    let (record, _) = hub
        .database
        .record(&hub.database.case(&id).await.unwrap())
        .await
        .unwrap();
    assert_eq!(record.evidence.len(), 2);
    for item in record.evidence {
        assert!(hub.pictures.get(&item.sha256).await.unwrap().is_some());
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_case_waits_in_its_box_until_the_key_is_confirmed() {
    for kind in kinds() {
        let (broker, database, mut edge) = (Broker::start(), TestDatabase::start(kind), EdgeBox::new());
        let hub = RunningHub::start(settings(&database, broker.port)).await;
        let ids = [edge.file(1), edge.file(2)];
        let _link = edge.link(broker.port);
        within(async {
            while hub.database.count_dead_letters().await.unwrap() < 2 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert!(all(&hub.database).await.is_empty());
        assert!(edge.store.outbox_depth().unwrap().sent > 0, "the box has no receipt");
        let letters = hub.database.dead_letters(10).await.unwrap();
        assert!(
            letters[0].reason.contains("boxes confirm box-7"),
            "{}",
            letters[0].reason
        );
        let (code, out, error) = command(&database, &["boxes", "confirm", NODE]);
        assert_eq!((code, out.contains("2 dead letters taken")), (0, true), "{out}{error}");
        // The box sends again at once: its pictures were not kept, and a receipt is due.
        edge.wait_empty().await;
        let mut found: Vec<String> = all(&hub.database).await.into_iter().map(|case| case.case_id).collect();
        found.sort();
        assert_eq!(
            (found, hub.database.count_dead_letters().await.unwrap()),
            (ids.to_vec(), 0)
        );
        hub.stop().await;
    }
}
