//! Random faults lose no case: the box is killed, the broker dies without its state, connections are cut, left half open and
//! robbed of acknowledgements, the disk fills up, and the clock jumps. Every case arrives once, with all its pictures.
//!
//! `make test` runs it for some seconds; `make soak MINUTES=30` runs it longer and prints the faults injected.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/broker.rs"]
mod broker;
#[path = "support/faulty_proxy.rs"]
mod faulty_proxy;
#[path = "support/filing.rs"]
mod filing;
#[path = "support/platform.rs"]
mod platform;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use broker::{Broker, Subscriber};
use faulty_proxy::{FaultyProxy, ProxyMode};
use filing::{NODE, case, pictures_of, record};
use gridwatch_contract::Form;
use gridwatch_custody::chain::Segment;
use gridwatch_link::{Link, SiteSharing};
use gridwatch_store::{Filter, Store, StoreError};
use platform::Platform;
use tokio::sync::mpsc;

const CHILD_DIR: &str = "GRIDWATCH_FAULTS_CHILD_DIR";
const PORT: &str = "GRIDWATCH_FAULTS_PORT";
const CASES: &str = "GRIDWATCH_FAULTS_CASES";
const MINUTES: &str = "GRIDWATCH_SOAK_MINUTES";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The child process, which stands for the box: files a case every few milliseconds up to the wanted number, and publishes
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return; // Not the child process; the test is below.
    };
    let mut store = Store::open(Path::new(&dir)).unwrap();
    let settings = gridwatch_link::Settings {
        keep_alive: Duration::from_secs(1),
        in_flight: 16,
        ..filing::settings(number(PORT).unwrap().try_into().unwrap())
    };
    let (replies, _none) = mpsc::channel(1);
    // No other box sees its sites, but each claim must still come back before its case is published.
    let sharing = SiteSharing {
        cells: [case(0).located.cell].into(),
        known: Vec::new(),
        news: mpsc::unbounded_channel().0,
    };
    let _link = Link::spawn(settings, &store, replies, Some(sharing)).unwrap();
    let wanted = number(CASES).unwrap();
    loop {
        let filed = case_ids(&store).len() as u64;
        if filed < wanted {
            file(&mut store, filed as u32);
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
    }
}

/// Files the `n`th case, at times with a full disk or after a jump of the clock.
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

fn case_ids(store: &Store) -> BTreeSet<String> {
    let cases = store.cases(Filter {
        state: None,
        limit: u32::MAX,
    });
    cases.unwrap().into_iter().map(|c| c.case_id).collect()
}

/// The child process, which can be killed and started again on the same store.
struct BoxProcess {
    dir: PathBuf,
    port: u16,
    cases: u64,
    process: Child,
}

impl BoxProcess {
    fn start(dir: &Path, port: u16, cases: u64) -> Self {
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(CHILD_DIR, dir)
            .env(PORT, port.to_string())
            .env(CASES, cases.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self {
            dir: dir.into(),
            port,
            cases,
            process,
        }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn restart(&mut self) {
        self.kill();
        *self = Self::start(&self.dir, self.port, self.cases);
    }
}

impl Drop for BoxProcess {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.process.kill();
    }
}

/// The faults injected.
#[derive(Default)]
struct Faults {
    kills: u32,
    broker_deaths: u32,
    cuts: u32,
    half_open: u32,
}

/// The parts in which faults are injected.
struct Harness {
    broker: Broker,
    proxy: FaultyProxy,
    subscriber: Subscriber,
    box_process: BoxProcess,
    faults: Faults,
}

impl Harness {
    /// Injects one random fault; an outage lasts for a part of `pause`.
    async fn inject(&mut self, pause: Duration) {
        match fastrand::u8(..6) {
            0 => {
                self.box_process.restart();
                self.faults.kills += 1;
            }
            1 => {
                self.broker.kill();
                self.faults.broker_deaths += 1;
                tokio::time::sleep(pause / 2).await;
                self.broker.restart();
                self.subscriber.wait_subscribed().await;
            }
            2 => {
                self.proxy.set_mode(ProxyMode::Cut);
                self.faults.cuts += 1;
                tokio::time::sleep(pause / 4).await;
                self.proxy.set_mode(ProxyMode::Transparent);
            }
            3 => {
                self.proxy.set_mode(ProxyMode::HalfOpen);
                self.faults.half_open += 1;
            }
            4 => self.proxy.set_mode(ProxyMode::FaultyAcks),
            _ => self.proxy.set_mode(ProxyMode::Transparent),
        }
    }

    /// Receives messages for `pause`.
    async fn receive(&mut self, platform: &mut Platform, pause: Duration) {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if let Ok(message) = tokio::time::timeout(left, self.subscriber.next()).await {
                platform.receive(&message);
            }
        }
    }

    fn print(&self, platform: &Platform) {
        let (counts, faults) = (self.proxy.counts(), &self.faults);
        println!(
            "{} cases, {} messages ({} repeated); {} kills, {} broker deaths, {} cuts, {} half-open connections, {} connections, {} \
             acknowledgements withheld and {} duplicated",
            platform.cases.len(),
            platform.messages,
            platform.repeated,
            faults.kills,
            faults.broker_deaths,
            faults.cuts,
            faults.half_open,
            counts.connections.load(Ordering::Relaxed),
            counts.withheld.load(Ordering::Relaxed),
            counts.duplicated.load(Ordering::Relaxed)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_case_arrives_whole_and_once_despite_random_faults() {
    if std::env::var_os(CHILD_DIR).is_some() {
        return;
    }
    let minutes = number(MINUTES);
    let seed = number("GRIDWATCH_FAULTS_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    fastrand::seed(seed);
    // The box files about thirty cases a second. Faults are injected until all are filed, and for at least this long.
    let wanted = if minutes.is_some() { 1000 } else { 60 };
    let end = Instant::now() + Duration::from_secs(minutes.map_or(15, |m| m * 60));
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let proxy = FaultyProxy::start(broker.port).await;
    let mut harness = Harness {
        subscriber: Subscriber::start(broker.port, "gridwatch/#").await,
        box_process: BoxProcess::start(dir.path(), proxy.port, wanted),
        broker,
        proxy,
        faults: Faults::default(),
    };
    let mut platform = Platform::default();
    let mut filed = 0;
    while Instant::now() < end || filed < wanted {
        let pause = Duration::from_millis(fastrand::u64(200..2_000));
        harness.receive(&mut platform, pause).await;
        harness.inject(pause).await;
        filed = Store::open_read_only(dir.path()).map_or(0, |store| case_ids(&store).len() as u64);
    }
    harness.proxy.set_mode(ProxyMode::Transparent);
    let patience = Instant::now() + broker::PATIENCE * 2;
    while (platform.cases.len() as u64) < wanted {
        assert!(
            Instant::now() < patience,
            "seed {seed}: {} of {wanted} cases arrived; {:?}",
            platform.cases.len(),
            Store::open_read_only(dir.path()).unwrap().outbox_depth()
        );
        harness.receive(&mut platform, Duration::from_secs(1)).await;
    }
    harness.box_process.kill();
    harness.print(&platform);
    assert_store_matches(dir.path(), &platform, wanted, seed);
}

/// The platform's record of each case equals the box's, the box's custody chain is intact, and no file was set aside as corrupt.
fn assert_store_matches(dir: &Path, platform: &Platform, wanted: u64, seed: u64) {
    let store = Store::open(dir).unwrap();
    let ids = case_ids(&store);
    assert_eq!(ids, platform.cases.keys().cloned().collect());
    for (id, record) in &platform.cases {
        assert_eq!(store.case(id).unwrap().unwrap().record, *record);
    }
    let first = ids.first().unwrap();
    let chain = store.chain_of(first).unwrap().join("\n");
    let segment = Segment::read(&chain).unwrap_or_else(|broken| panic!("seed {seed}: {broken:?}"));
    assert_eq!(segment.lines.len() as u64, wanted);
    let corrupt: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("corrupt"))
        .collect();
    assert!(corrupt.is_empty(), "{corrupt:?}");
}
