//! Nothing is lost or taken twice while hubs, the broker and the database are killed.

use std::time::Duration;

use gridwatch_hub::database::Database;
use jiff::Timestamp;

use crate::{
    broker::Broker,
    case_fixture::NODE,
    databases::{Kind, TestDatabase, kinds},
    delivery::all,
    edge_box::EdgeBox,
    running::HubProcess,
};

const CASES: u32 = 60;

async fn confirm(database: &TestDatabase, edge: &EdgeBox) {
    let opened = Database::open(&database.url).await.unwrap();
    opened
        .confirm_key(NODE, &edge.key, "operator", Timestamp::now())
        .await
        .unwrap();
    opened.close().await;
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Every case once, in its newest revision, with all its pictures.
async fn assert_complete(database: &TestDatabase, ids: &[String]) {
    let opened = Database::open(&database.url).await.unwrap();
    let mut cases = all(&opened).await;
    cases.sort_by(|a, b| a.case_id.cmp(&b.case_id));
    assert_eq!(cases.iter().map(|case| case.case_id.clone()).collect::<Vec<_>>(), ids);
    for case in &cases {
        let (record, _) = opened.record(case).await.unwrap();
        for item in record.evidence {
            let file = database
                .pictures()
                .join(&item.sha256[..2])
                .join(&item.sha256[2..4])
                .join(&item.sha256);
            let bytes = std::fs::read(file).unwrap();
            assert_eq!(gridwatch_base::digest::sha256_hex(&bytes), item.sha256);
            assert!(opened.has_picture(&item.sha256).await.unwrap());
        }
    }
    assert_eq!(opened.count_dead_letters().await.unwrap(), 0);
    opened.close().await;
}

#[tokio::test]
async fn a_killed_hub_loses_nothing() {
    for kind in kinds() {
        let (broker, database, mut edge) = (Broker::start(), TestDatabase::start(kind), EdgeBox::new());
        confirm(&database, &edge).await;
        let _link = edge.link(broker.port);
        let mut ids = Vec::new();
        for round in 0..6 {
            let mut hub = HubProcess::start(&database, broker.port, &[]);
            for n in 0..CASES / 6 {
                ids.push(edge.file(round * CASES / 6 + n + 1));
                pause(fastrand::u64(0..30)).await;
            }
            pause(fastrand::u64(100..900)).await;
            hub.kill();
        }
        let mut hub = HubProcess::start(&database, broker.port, &[]);
        edge.wait_empty().await;
        hub.assert_runs();
        assert_complete(&database, &ids).await;
    }
}

#[tokio::test]
async fn a_database_that_is_killed_loses_nothing() {
    if !kinds().contains(&Kind::Postgres) {
        return;
    }
    let (broker, mut database, mut edge) = (Broker::start(), TestDatabase::start(Kind::Postgres), EdgeBox::new());
    confirm(&database, &edge).await;
    let _hub = HubProcess::start(&database, broker.port, &[]);
    let _link = edge.link(broker.port);
    let mut ids = Vec::new();
    for n in 1..=CASES {
        ids.push(edge.file(n));
        pause(20).await;
        if n % 20 == 10 {
            database.restart();
        }
    }
    edge.wait_empty().await;
    assert_complete(&database, &ids).await;
}

#[tokio::test]
async fn hubs_that_share_a_subscription_take_each_case_once() {
    for kind in kinds() {
        let (mut broker, database, mut edge) = (Broker::start(), TestDatabase::start(kind), EdgeBox::new());
        confirm(&database, &edge).await;
        let start = |id: &str| HubProcess::start(&database, broker.port, &["--group", "hubs", "--client-id", id]);
        let (mut first, mut second) = (start("hub-1"), start("hub-2"));
        let _link = edge.link(broker.port);
        let mut ids = Vec::new();
        for n in 1..=CASES {
            ids.push(edge.file(n));
            pause(10).await;
            if n == CASES / 3 {
                second.kill();
            }
            if n == CASES / 2 {
                second = start("hub-2");
            }
        }
        broker.restart();
        edge.wait_empty().await;
        assert_complete(&database, &ids).await;
        first.assert_runs();
        second.assert_runs();
    }
}

#[tokio::test]
async fn hubs_that_start_together_make_one_database() {
    for kind in kinds() {
        let (broker, database) = (Broker::start(), TestDatabase::start(kind));
        let start = |n: u32| HubProcess::start(&database, broker.port, &["--client-id", &format!("hub-{n}")]);
        let mut hubs: Vec<HubProcess> = (0..4).map(start).collect();
        let subscriber = crate::broker::Subscriber::start(broker.port, "gridwatch/v1/platform").await;
        drop(subscriber);
        pause(3000).await;
        for hub in &mut hubs {
            hub.assert_runs();
        }
    }
}
