//! Random faults lose no case: the box is killed, the broker dies without its state, connections are cut, left half open and
//! robbed of acknowledgements, the disk fills up, the database is deleted and restored, the box starts with its clock a year
//! ahead, and a clone of it runs. Every case arrives once, with all its pictures; no original is deleted, and the clone files
//! nothing.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crate::{
    broker::{self, Broker, Subscriber},
    faulty_proxy::{FaultyProxy, ProxyMode},
    filing::{self, NODE, case, pictures_of, record},
    platform::Platform,
};
use gridwatch_base::{
    clock::trust::{ClockReading, ClockTrust},
    digest::sha256_hex,
    installation::{Installation, request_take_over},
};
use gridwatch_contract::{Form, Presence, StatusMessage, When};
use gridwatch_custody::vault::{OriginalFormat, Vault, VaultKey};
use gridwatch_engine::CaseState;
use gridwatch_link::{Link, SiteSharing};
use gridwatch_store::{Budget, Filter, Retention, Store, StoreError};
use jiff::Timestamp;
use tokio::sync::mpsc;

const CHILD_DIR: &str = "GRIDWATCH_FAULTS_CHILD_DIR";
const CHILD: &str = "GRIDWATCH_FAULTS_CHILD";

/// Exit code of a child that found its database gone.
const DATABASE_GONE: i32 = 3;
/// Cases of the clone have numbers from here.
const CLONED_CASES: u32 = 1_000_000;
/// Every tenth case ends at once, so that its original may be deleted for its age.
const ENDED: u32 = 10;

/// What a child process is told.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Orders {
    port: u16,
    /// Number of the first case.
    first: u32,
    /// How many cases to file.
    cases: u64,
    /// Unix time in milliseconds at which the harness started.
    begun: i64,
    /// How far the clock is ahead.
    days_ahead: i64,
}

impl Orders {
    /// The child's clock. The cases of this test begin in 2026-05.
    fn clock(&self) -> ClockReading {
        let since = Timestamp::now().as_millisecond() - self.begun;
        ClockReading {
            wall: filing::at(1801 + since / 1000 + self.days_ahead * 86_400),
            monotonic: Instant::now(),
            // A clock that is far off is one that nothing has set yet.
            is_synchronised: self.days_ahead == 0,
        }
    }
}

/// The child process, which stands for the box: files a case every few milliseconds up to the wanted number, and publishes
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return; // Not the child process; the test is below.
    };
    let orders: Orders = serde_json::from_str(&std::env::var(CHILD).unwrap()).unwrap();
    let mut store = Store::open(Path::new(&dir)).unwrap();
    let settings = gridwatch_link::Settings {
        keep_alive: Duration::from_secs(1),
        in_flight: 16,
        installation: Some(Installation::of(Path::new(&dir)).unwrap()),
        ..filing::settings(orders.port)
    };
    let (replies, _none) = mpsc::channel(1);
    // No other box sees its sites, but each claim must still come back before its case is published.
    let sharing = SiteSharing {
        cells: [case(0).located.cell].into(),
        cell_of: Box::new(|_| None),
        boxes: gridwatch_link::EnrolledBoxes::default(),
        wait: Duration::from_hours(24),
        yielded_to: std::collections::BTreeSet::new(),
        news: mpsc::channel(1).0,
    };
    let _link = Link::spawn(settings, &store, replies, Some(sharing)).unwrap();
    let mut clock = ClockTrust::new(store.newest_trusted_time().unwrap());
    loop {
        match work(&mut store, &mut clock, &orders) {
            Err(StoreError::Gone { .. }) => std::process::exit(DATABASE_GONE),
            done => done.unwrap(),
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
    }
}

/// Files the next case and deletes old evidence, both if the clock is believed, as the daemon does.
fn work(store: &mut Store, clock: &mut ClockTrust, orders: &Orders) -> Result<(), StoreError> {
    let reading = orders.clock();
    let assessment = clock.assess(reading);
    store.check_files()?;
    let filed = case_ids(store).len() as u64;
    if filed < orders.cases && assessment.filing.is_ok() {
        file(store, orders.first + filed as u32, reading.wall)?;
    }
    if assessment.deletion.is_ok() {
        let month = Budget {
            keep: Some(Duration::from_hours(30 * 24)),
            bytes: u64::MAX,
        };
        let keep = Retention {
            originals: month,
            pictures: month,
        };
        store.prune(&keep, reading.wall)?;
    }
    Ok(())
}

/// Files the `n`th case, at times with a full disk or after a jump of the clock.
fn file(store: &mut Store, n: u32, now: Timestamp) -> Result<(), StoreError> {
    let mut case = case(n);
    let jump = Duration::from_secs(fastrand::u64(0..3) * 86_400);
    (case.first_seen_at, case.confirmed_at) = (case.first_seen_at + jump, case.confirmed_at + jump);
    let mut evidence = pictures_of(store.dir(), n, fastrand::usize(1_000..60_000));
    evidence[0].derived_from = Some(vault(store.dir()).put(OriginalFormat::H264, &original(n)).unwrap());
    let mut record = record(&case, evidence);
    record.filed_at = When::new(now, &filing::zone());
    let is_full = fastrand::u8(..10) == 0;
    if is_full {
        store.limit_pages(1).unwrap();
    }
    match store.commit_case(&record, &case, &form()) {
        Err(StoreError::DiskFull { .. }) if is_full => {
            store.limit_pages(u32::MAX - 1).unwrap();
            store.commit_case(&record, &case, &form())?;
        }
        first => first?,
    }
    store.limit_pages(u32::MAX - 1).unwrap();
    if n.is_multiple_of(ENDED) {
        let mut end = filing::revision(&record.case_id, CaseState::Withdrawn, 0, "gone");
        end.at = When::new(now, &filing::zone());
        store.revise(&end, &form())?;
    }
    Ok(())
}

/// What the camera sent for the `n`th case.
fn original(n: u32) -> Vec<u8> {
    format!("original of case {n}").into_bytes()
}

fn vault(dir: &Path) -> Vault {
    Vault::new(dir, VaultKey::new(&[7; 32]).unwrap())
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
    orders: Orders,
    process: Child,
}

impl BoxProcess {
    fn start(dir: &Path, orders: Orders) -> Self {
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["outages::child", "--exact", "--nocapture"])
            .env(CHILD_DIR, dir)
            .env(CHILD, serde_json::to_string(&orders).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self {
            dir: dir.into(),
            orders,
            process,
        }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn restart(&mut self, days_ahead: i64) {
        self.kill();
        let orders = Orders {
            days_ahead,
            ..self.orders
        };
        *self = Self::start(&self.dir, orders);
    }

    /// Stops it as SIGSTOP does, or lets it go on.
    fn set_stopped(&self, is_stopped: bool) {
        let signal = match is_stopped {
            true => rustix::process::Signal::STOP,
            false => rustix::process::Signal::CONT,
        };
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn store(&self) -> Option<Store> {
        Store::open_read_only(&self.dir).ok()
    }

    fn filed(&self) -> u64 {
        self.store().map_or(0, |store| case_ids(&store).len() as u64)
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
    lost_databases: u32,
    years_ahead: u32,
    clones: u32,
}

/// The parts in which faults are injected.
struct Harness {
    broker: Broker,
    proxy: FaultyProxy,
    subscriber: Subscriber,
    box_process: BoxProcess,
    faults: Faults,
    /// How often the box was seen to go offline.
    offline: u32,
}

impl Harness {
    /// Injects one random fault; an outage lasts for a part of `pause`.
    async fn inject(&mut self, platform: &mut Platform, pause: Duration) {
        match fastrand::u8(..9) {
            0 => {
                self.box_process.restart(0);
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
            5 => self.lose_database().await,
            6 => self.start_a_year_ahead(pause).await,
            7 => self.clone_box(platform).await,
            _ => self.proxy.set_mode(ProxyMode::Transparent),
        }
    }

    /// Deletes the database of the running box, which must notice, and restores a backup of that moment.
    async fn lose_database(&mut self) {
        let dir = self.box_process.dir.clone();
        let backups = tempfile::tempdir().unwrap();
        let backup = backups.path().join("backup.db");
        if self.box_process.store().is_none() {
            return; // It has not created one yet.
        }
        self.box_process.set_stopped(true);
        // Opened now, when nothing changes any more.
        self.box_process.store().unwrap().backup(&backup).unwrap();
        for file in ["gridwatch.db", "gridwatch.db-wal", "gridwatch.db-shm"] {
            let _ = std::fs::remove_file(dir.join(file));
        }
        self.box_process.set_stopped(false);
        let status = self.box_process.process.wait().unwrap();
        assert_eq!(status.code(), Some(DATABASE_GONE), "it notices and stops");
        let refused = Store::open(&dir);
        assert!(matches!(refused, Err(StoreError::Lost { .. })), "{refused:?}");
        Store::restore(&dir, &backup).unwrap();
        self.box_process = BoxProcess::start(&dir, self.box_process.orders);
        self.faults.lost_databases += 1;
    }

    /// Restarts the box with a clock that is a year ahead for a while: it files nothing, and deletes nothing.
    async fn start_a_year_ahead(&mut self, pause: Duration) {
        if self.box_process.filed() == 0 {
            return; // Nothing tells it the time.
        }
        self.box_process.kill();
        let filed = self.box_process.filed();
        self.box_process.restart(366);
        tokio::time::sleep(pause / 2).await;
        assert_eq!(
            self.box_process.filed(),
            filed,
            "filed with a clock that is a year ahead"
        );
        self.box_process.restart(0);
        self.faults.years_ahead += 1;
    }

    /// Waits until the retained status says that the box came online after that time.
    async fn wait_online_since(&self, time: Timestamp) {
        let topic = filing::topics().status();
        let mut statuses = Subscriber::start(self.broker.port, &topic).await;
        loop {
            let status: StatusMessage = serde_json::from_slice(&statuses.next().await.payload).unwrap();
            let since = status.since.filter(|_| status.state == Presence::Online);
            if since.is_some_and(|since| since.timestamp() >= time) {
                return;
            }
        }
    }

    /// Runs a second box with the same node id beside the first, which is connected: it publishes nothing.
    async fn clone_box(&mut self, platform: &mut Platform) {
        self.proxy.set_mode(ProxyMode::Transparent);
        let restarted_at = Timestamp::now();
        self.box_process.restart(0);
        self.wait_online_since(restarted_at).await;
        let dir = tempfile::tempdir().unwrap();
        let orders = Orders {
            first: CLONED_CASES,
            cases: 5,
            port: self.broker.port,
            ..self.box_process.orders
        };
        let offline = self.offline;
        let mut clone = BoxProcess::start(dir.path(), orders);
        self.receive(platform, Duration::from_secs(3)).await;
        clone.kill();
        assert_eq!(clone.filed(), 5, "it has filed cases");
        let cloned: BTreeSet<String> = (0..5).map(|n| case(CLONED_CASES + n).id.to_string()).collect();
        let has_published = platform.cases.keys().any(|id| cloned.contains(id));
        // On a machine without time the first box loses its connection, and the clone may take its place.
        assert!(!has_published || self.offline > offline, "the clone published a case");
        platform.cases.retain(|id, _| !cloned.contains(id));
        // As an operator does once the clone is gone: then the first box gave way to it, and waits.
        request_take_over(&self.box_process.dir).unwrap();
        self.faults.clones += 1;
    }

    /// Receives messages for `pause`.
    async fn receive(&mut self, platform: &mut Platform, pause: Duration) {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if let Ok(message) = tokio::time::timeout(left, self.subscriber.next()).await {
                let is_offline = serde_json::from_slice::<StatusMessage>(&message.payload)
                    .is_ok_and(|status| status.state == Presence::Offline);
                self.offline += u32::from(is_offline);
                platform.receive(&message);
            }
        }
    }

    fn print(&self, platform: &Platform) {
        let (counts, faults) = (self.proxy.counts(), &self.faults);
        println!(
            "{} cases, {} messages ({} repeated); {} kills, {} broker deaths, {} cuts, {} half-open connections, {} deleted databases, \
             {} starts with a clock a year ahead, {} clones, {} connections, {} acknowledgements withheld and {} duplicated",
            platform.cases.len(),
            platform.messages,
            platform.repeated,
            faults.kills,
            faults.broker_deaths,
            faults.cuts,
            faults.half_open,
            faults.lost_databases,
            faults.years_ahead,
            faults.clones,
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
    let minutes = crate::soak_minutes();
    let seed = crate::seed();
    println!("seed {seed}");
    fastrand::seed(seed);
    // The box files about thirty cases a second. Faults are injected until all are filed, and for at least this long.
    let wanted = if minutes.is_some() { 1000 } else { 60 };
    let end = Instant::now() + Duration::from_secs(minutes.map_or(20, |m| m * 60));
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let proxy = FaultyProxy::start(broker.port).await;
    let orders = Orders {
        port: proxy.port,
        first: 0,
        cases: wanted,
        begun: Timestamp::now().as_millisecond(),
        days_ahead: 0,
    };
    let mut harness = Harness {
        subscriber: Subscriber::start(broker.port, "gridwatch/#").await,
        box_process: BoxProcess::start(dir.path(), orders),
        broker,
        proxy,
        faults: Faults::default(),
        offline: 0,
    };
    let mut platform = Platform::default();
    let mut filed = 0;
    while Instant::now() < end || filed < wanted {
        let pause = Duration::from_millis(fastrand::u64(200..2_000));
        harness.receive(&mut platform, pause).await;
        harness.inject(&mut platform, pause).await;
        filed = harness.box_process.filed();
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

/// The platform's record of each case equals the box's, the box's custody chain is intact, all originals are there, and no file was
/// set aside as corrupt.
fn assert_store_matches(dir: &Path, platform: &Platform, wanted: u64, seed: u64) {
    let store = Store::open(dir).unwrap();
    let ids = case_ids(&store);
    assert_eq!(ids, platform.cases.keys().cloned().collect());
    for (id, record) in &platform.cases {
        assert_eq!(store.case(id).unwrap().unwrap().record, *record);
    }
    let first = ids.first().unwrap();
    let excerpt = store.chain_excerpt(first, None).unwrap();
    let segment = excerpt
        .read()
        .unwrap_or_else(|broken| panic!("seed {seed}: {broken:?}"));
    // A box that was killed between a case and its end has filed it and never ends it.
    let ended = platform
        .cases
        .values()
        .filter(|r| r.state == CaseState::Withdrawn)
        .count() as u64;
    assert!(
        (1..=wanted.div_ceil(ENDED.into())).contains(&ended),
        "seed {seed}: {ended}"
    );
    assert_eq!(segment.lines.len() as u64, wanted + ended, "a line for each revision");
    for n in 0..wanted as u32 {
        let stored = vault(dir).open(&sha256_hex(&original(n)));
        assert!(stored.is_ok(), "seed {seed}: the original of case {n} is gone");
    }
    let corrupt: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("corrupt"))
        .collect();
    assert!(corrupt.is_empty(), "{corrupt:?}");
}
