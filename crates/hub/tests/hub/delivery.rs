//! Cases from a box's outbox to the database.

use std::time::Duration;

use gridwatch_engine::CaseState;
use gridwatch_hub::database::{CaseFilter, Database};
use gridwatch_mqtt::Protocol;
use jiff::Timestamp;

use crate::{
    broker::{Broker, within},
    case_fixture::NODE,
    databases::{Kind, TestDatabase, kinds},
    edge_box::EdgeBox,
    running::{RunningHub, settings},
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
        let hub = RunningHub::start(settings).await;
        edge.wait_empty().await;
        let mut cases = all(&hub.database).await;
        cases.sort_by(|a, b| a.case_id.cmp(&b.case_id));
        assert_eq!(
            cases.iter().map(|case| case.case_id.clone()).collect::<Vec<_>>(),
            ids,
            "{kind:?}"
        );
        for case in &cases {
            assert_eq!(
                (case.state, case.revision, case.verified_by.as_ref()),
                (CaseState::Filed, 1, None)
            );
            let (record, _) = hub.database.record(case).await.unwrap();
            for item in record.evidence {
                let bytes = hub.pictures.get(&item.sha256).await.unwrap().unwrap();
                assert_eq!(gridwatch_base::digest::sha256_hex(&bytes), item.sha256);
            }
        }
        // The key is confirmed, and what was held is to be decided.
        let freed = hub
            .database
            .confirm_key(NODE, &edge.key, "operator", Timestamp::now())
            .await
            .unwrap();
        assert_eq!(freed, 5);
        let boxes = hub.database.boxes().await.unwrap();
        assert_eq!((boxes.len(), boxes[0].cases, boxes[0].held), (1, 5, 0));
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
        let hub = RunningHub::start(settings(&database, broker.port)).await;
        let _link = edge.link(broker.port);
        edge.wait_empty().await;
        hub.database
            .confirm_key(NODE, &edge.key, "operator", Timestamp::now())
            .await
            .unwrap();
        hub.stop().await;
        edge.revise(&id, CaseState::Withdrawn, "seen empty for a day");
        edge.file(2);
        let hub = RunningHub::start(settings(&database, broker.port)).await;
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
    let hub = RunningHub::start(settings(&database, broker.port)).await;
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
