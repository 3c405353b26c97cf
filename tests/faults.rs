//! Everything fails at random, and nothing is lost: the box is killed, the broker dies without memory, the line is cut, left half open
//! and robbed of acknowledgements, the disk fills up, and the clock jumps. Every case arrives, with all its pictures, and once.
//!
//! `make test` runs it for some seconds; `make soak MINUTES=30` for as long as one likes, and prints what was done.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/broker.rs"]
mod broker;
#[path = "support/filing.rs"]
mod filing;
#[path = "support/meddler.rs"]
mod meddler;
#[path = "support/platform.rs"]
mod platform;

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use broker::{Broker, Subscriber};
use filing::{NODE, case, pictures_of, record};
use gridwatch_contract::Form;
use gridwatch_custody::chain::Segment;
use gridwatch_link::{Link, SiteSharing};
use gridwatch_store::{Filter, Store, StoreError};
use meddler::{Meddler, Mood};
use platform::Platform;
use tokio::sync::mpsc;

const VICTIM: &str = "GRIDWATCH_FAULTS_VICTIM";
const PORT: &str = "GRIDWATCH_FAULTS_PORT";
const CASES: &str = "GRIDWATCH_FAULTS_CASES";
const MINUTES: &str = "GRIDWATCH_SOAK_MINUTES";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What the box does: files cases, one a moment, until there are enough, and sends them.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Some(dir) = std::env::var_os(VICTIM) else {
        return; // Not the child: the test below is the one that counts.
    };
    let mut store = Store::open(Path::new(&dir)).unwrap();
    let settings = gridwatch_link::Settings {
        keep_alive: Duration::from_secs(1),
        in_flight: 16,
        ..filing::settings(number(PORT).unwrap().try_into().unwrap())
    };
    let (replies, _none) = mpsc::channel(1);
    // Its sites are its own, and each claim has to come back all the same before its case goes.
    let sharing = SiteSharing {
        cells: [case(0).located.cell].into(),
        known: Vec::new(),
        news: mpsc::unbounded_channel().0,
    };
    let _link = Link::spawn(settings, &store, replies, Some(sharing)).unwrap();
    let wanted = number(CASES).unwrap();
    loop {
        let filed = store
            .cases(Filter {
                state: None,
                limit: u32::MAX,
            })
            .unwrap()
            .len() as u64;
        if filed < wanted {
            file(&mut store, filed as u32);
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
    }
}

/// Files the `n`th case; now and then on a disk that is full for the moment, and by a clock that jumps.
fn file(store: &mut Store, n: u32) {
    let mut case = case(n);
    let jump = Duration::from_secs(fastrand::u64(0..3) * 86_400);
    (case.first_seen_at, case.confirmed_at) = (case.first_seen_at + jump, case.confirmed_at + jump);
    let record = record(&case, pictures_of(store.dir(), n, fastrand::usize(1_000..60_000)));
    let is_full = fastrand::u8(..10) == 0;
    if is_full {
        store.limit_pages(1).unwrap();
    }
    let first = store.commit_case(&record, &case, &form());
    match first {
        Err(StoreError::DiskFull { .. }) if is_full => {
            store.limit_pages(u32::MAX - 1).unwrap();
            store.commit_case(&record, &case, &form()).unwrap();
        }
        first => first.unwrap(),
    }
    store.limit_pages(u32::MAX - 1).unwrap();
}

fn form() -> Form {
    Form {
        shares_sites: Some(NODE.into()),
        ..filing::form()
    }
}

fn victim_of(dir: &Path, port: u16, cases: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["victim", "--exact", "--nocapture"])
        .env(VICTIM, dir)
        .env(PORT, port.to_string())
        .env(CASES, cases.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_each_case_arrives_whole_and_once() {
    if std::env::var_os(VICTIM).is_some() {
        return;
    }
    let minutes = number(MINUTES);
    let seed = number("GRIDWATCH_FAULTS_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    fastrand::seed(seed);
    // Some thirty cases a second are filed; the harness lasts until all were, and for so many minutes at least.
    let wanted = if minutes.is_some() { 1000 } else { 60 };
    let end = Instant::now() + Duration::from_secs(minutes.map_or(15, |m| m * 60));
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let line = Meddler::start(broker.port).await;
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let mut platform = Platform::default();
    let mut victim = victim_of(dir.path(), line.port, wanted);
    let (mut kills, mut deaths, mut cuts, mut half_open) = (0, 0, 0, 0);
    let mut filed = 0;
    while Instant::now() < end || filed < wanted {
        let pause = Duration::from_millis(fastrand::u64(200..2_000));
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if let Ok(message) = tokio::time::timeout(left, subscriber.next()).await {
                platform.take(&message);
            }
        }
        match fastrand::u8(..6) {
            0 => {
                victim.kill().unwrap();
                victim.wait().unwrap();
                kills += 1;
                victim = victim_of(dir.path(), line.port, wanted);
            }
            1 => {
                broker.kill();
                deaths += 1;
                tokio::time::sleep(pause / 2).await;
                broker.restart();
                subscriber.listens().await;
            }
            2 => {
                line.is(Mood::Cut);
                cuts += 1;
                tokio::time::sleep(pause / 4).await;
                line.is(Mood::Honest);
            }
            3 => {
                line.is(Mood::HalfOpen);
                half_open += 1;
            }
            4 => line.is(Mood::Meddling),
            _ => line.is(Mood::Honest),
        }
        filed = Store::open_read_only(dir.path()).map_or(0, |store| {
            store
                .cases(Filter {
                    state: None,
                    limit: u32::MAX,
                })
                .unwrap()
                .len() as u64
        });
    }
    line.is(Mood::Honest);
    let patience = Instant::now() + broker::PATIENCE * 2;
    while (platform.cases.len() as u64) < wanted {
        assert!(
            Instant::now() < patience,
            "seed {seed}: {} of {wanted} cases arrived; {:?}",
            platform.cases.len(),
            Store::open_read_only(dir.path()).unwrap().outbox_depth()
        );
        if let Ok(message) = tokio::time::timeout(Duration::from_secs(1), subscriber.next()).await {
            platform.take(&message);
        }
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    let counts = line.counts();
    println!(
        "{} cases, {} messages ({} repeated); {kills} kills, {deaths} broker deaths, {cuts} cuts, {half_open} half-open lines, {} \
         connections, {} acknowledgements withheld and {} doubled",
        platform.cases.len(),
        platform.messages,
        platform.repeated,
        counts.connections.load(Ordering::Relaxed),
        counts.withheld.load(Ordering::Relaxed),
        counts.doubled.load(Ordering::Relaxed)
    );

    // The platform's record of each case is the box's, and the box's chain is whole.
    let store = Store::open(dir.path()).unwrap();
    let ids: BTreeSet<String> = store
        .cases(Filter {
            state: None,
            limit: u32::MAX,
        })
        .unwrap()
        .into_iter()
        .map(|c| c.case_id)
        .collect();
    assert_eq!(ids, platform.cases.keys().cloned().collect());
    for (id, record) in &platform.cases {
        assert_eq!(store.case(id).unwrap().unwrap().record, *record);
    }
    let first = ids.first().unwrap();
    let chain = store.chain_of(first).unwrap().join("\n");
    let segment = Segment::read(&chain).unwrap_or_else(|broken| panic!("seed {seed}: {broken:?}"));
    assert_eq!(segment.lines.len() as u64, wanted);
    let strangers: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("corrupt"))
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}
