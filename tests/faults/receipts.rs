//! A platform that gives receipts has every case at its newest revision with all its pictures, whatever is lost in between: the broker
//! acknowledges cases and pictures and drops them, receipts are lost, late, repeated and in the wrong order, the broker dies without its
//! state, connections are cut, the platform crashes between receiving, committing and answering, and it is restored from old backups, after
//! which the operator of each box runs `gridwatch outbox resend`. Two boxes, one with MQTT 5 and one with MQTT 3.1.1, file 1,000 cases.

mod committing_platform;
mod filing_box;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use gridwatch_contract::CaseRecord;
use gridwatch_mqtt::Protocol;
use gridwatch_store::Filter;

use self::{
    committing_platform::{Backup, CommittingPlatform},
    filing_box::FilingBox,
};
use crate::{
    broker::{self, Broker, Subscriber, topic, within},
    faulty_proxy::ProxyMode,
    message_faults::{FaultRates, MessageCounts, MessageFaults},
};

const CASES: u32 = 1_000;

const RATES: FaultRates = FaultRates {
    dropped_cases: 8,
    dropped_pictures: 4,
    lost_receipts: 8,
    repeated_receipts: 6,
    late_receipts: 8,
};

/// Cases for which the platform has given receipts before it is restored for the first time.
const RECEIVED_BEFORE_RESTORE: usize = 30;

/// Receipts that the broker keeps for a box that is offline during a restore: fewer than it sends at once when the box is back.
const OUTDATED_RECEIPTS: u64 = 5;

/// A fault of everything, not of single messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    BrokerDies,
    Cut,
    CrashBeforeCommit,
    CrashBeforeReceipts,
    /// Not a fault; a later restore goes back to it.
    Backup,
    Restore,
}

impl Fault {
    /// How often each is injected in a round.
    const TIMES: [(Self, usize); 6] = [
        (Self::BrokerDies, 3),
        (Self::Cut, 4),
        (Self::CrashBeforeCommit, 3),
        (Self::CrashBeforeReceipts, 3),
        (Self::Backup, 3),
        (Self::Restore, 2),
    ];

    /// The faults of a round in random order, behind a backup.
    fn schedule(random: &mut fastrand::Rng) -> Vec<Self> {
        let mut faults: Vec<Self> = Self::TIMES
            .into_iter()
            .flat_map(|(fault, times)| std::iter::repeat_n(fault, times))
            .collect();
        random.shuffle(&mut faults);
        faults.insert(0, Self::Backup);
        faults
    }
}

/// What the operators had sent again.
#[derive(Debug, Clone, Copy, Default)]
struct Resends {
    commands: u32,
    while_offline: u32,
    cases: u64,
    pictures: u64,
}

struct Harness {
    seed: u64,
    random: fastrand::Rng,
    broker: Broker,
    platform: CommittingPlatform,
    boxes: Vec<FilingBox>,
    backups: Vec<Backup>,
    broker_deaths: u32,
    cuts: u32,
    restores: u32,
    resends: Resends,
}

impl Harness {
    async fn start(seed: u64) -> Self {
        let broker = Broker::start();
        let platform = CommittingPlatform::start(broker.port).await;
        let mut boxes = Vec::new();
        for (node, protocol) in [("box-5", Protocol::V5), ("box-311", Protocol::V311)] {
            boxes.push(FilingBox::start(node, protocol, broker.port, MessageFaults::new(seed, RATES)).await);
        }
        Self {
            seed,
            random: fastrand::Rng::with_seed(seed),
            broker,
            platform,
            boxes,
            backups: Vec::new(),
            broker_deaths: 0,
            cuts: 0,
            restores: 0,
            resends: Resends::default(),
        }
    }

    /// Files the cases from `first` to before `end` on random boxes, and withdraws some.
    fn file(&mut self, first: u32, end: u32) {
        tokio::task::block_in_place(|| {
            for n in first..end {
                let of = self.random.usize(..self.boxes.len());
                self.boxes[of].file(n);
                if self.random.u8(..10) == 0 {
                    self.boxes[of].withdraw(&mut self.random);
                }
            }
        });
    }

    async fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::BrokerDies => {
                self.broker.kill();
                self.broker_deaths += 1;
                tokio::time::sleep(Duration::from_millis(self.random.u64(50..500))).await;
                self.broker.restart();
                self.platform.reconnected().await;
            }
            Fault::Cut => {
                let of = self.random.usize(..self.boxes.len());
                self.boxes[of].proxy.set_mode(ProxyMode::Cut);
                self.cuts += 1;
                self.platform
                    .serve(Duration::from_millis(self.random.u64(50..500)))
                    .await;
                self.boxes[of].proxy.set_mode(ProxyMode::Transparent);
            }
            Fault::CrashBeforeCommit => self.platform.crash_before_commit().await,
            Fault::CrashBeforeReceipts => self.platform.crash_before_receipts().await,
            Fault::Backup => self.backups.push(self.platform.backup()),
            Fault::Restore => self.restore().await,
        }
    }

    /// Restores the platform, first from the oldest backup. One box is offline meanwhile, and the broker keeps receipts of before the
    /// restore for it; the other one runs on. The operator has both send again what changed since the backup.
    async fn restore(&mut self) {
        within(async {
            while self.platform.complete() < RECEIVED_BEFORE_RESTORE {
                self.platform.serve(Duration::from_millis(50)).await;
            }
        })
        .await;
        let which = match self.restores {
            0 => 0,
            _ => self.random.usize(..self.backups.len()),
        };
        let backup = self.backups[which].clone();
        let offline = self.restores as usize % self.boxes.len();
        self.restores += 1;
        let node = Some(self.boxes[offline].node.as_str());
        self.platform.receive_cases(node, OUTDATED_RECEIPTS).await;
        self.boxes[offline].proxy.set_mode(ProxyMode::Cut);
        self.platform.counts.outdated += self.platform.cases_in_batch(node);
        self.platform.answer().await;
        self.platform.restore(&backup).await;
        let since = self.platform.since();
        for (i, of) in self.boxes.iter().enumerate() {
            if i != offline {
                of.wait_announced(|announced| announced.since.is_some_and(|s| s.timestamp() == since))
                    .await;
            }
            let resent = tokio::task::block_in_place(|| of.resend(backup.at));
            assert_eq!(resent.gone, 0, "{}: pictures are gone", self.seed);
            self.resends.commands += 1;
            self.resends.while_offline += u32::from(i == offline);
            self.resends.cases += resent.cases;
            self.resends.pictures += resent.pictures;
        }
        self.boxes[offline].proxy.set_mode(ProxyMode::Transparent);
    }

    /// Waits until every outbox is empty.
    async fn drain(&mut self) {
        let patience = Instant::now() + broker::PATIENCE * 2;
        while !self.boxes.iter().all(FilingBox::is_outbox_empty) {
            let depths: Vec<_> = self.boxes.iter().map(|of| of.store.outbox_depth().unwrap()).collect();
            assert!(Instant::now() < patience, "seed {}: {depths:?}", self.seed);
            self.platform.serve(Duration::from_millis(200)).await;
        }
    }

    fn message_counts(&self) -> MessageCounts {
        let mut all = MessageCounts::default();
        for of in &self.boxes {
            all += of.faults.counts();
        }
        all
    }

    fn print(&self, took: Duration) {
        let (messages, platform, resends) = (self.message_counts(), self.platform.counts, self.resends);
        println!(
            "seed {}: {} cases at the platform, from {} case messages and {} pictures ({} repeated), in {} s; \
             {} of {} case messages, {} of {} pictures and {} of {} receipts acknowledged and dropped, {} receipts late and {} twice; \
             {} receipts with missing pictures; {} broker deaths, {} cuts; {} case messages lost in crashes before the commit, {} not answered \
             in crashes after it; {} restores forgot {} cases ({} older than the backup) and {} pictures, {} receipts of before for boxes that were offline; `outbox resend` {} times ({} offline), {} cases and {} pictures",
            self.seed,
            self.platform.committed.cases.len(),
            platform.case_messages,
            platform.picture_messages,
            platform.repeated,
            took.as_secs(),
            messages.dropped_cases,
            messages.cases,
            messages.dropped_pictures,
            messages.pictures,
            messages.lost_receipts,
            messages.receipts,
            messages.late_receipts,
            messages.repeated_receipts,
            platform.incomplete,
            self.broker_deaths,
            self.cuts,
            platform.uncommitted,
            platform.unanswered,
            self.restores,
            platform.forgotten_cases,
            platform.forgotten_older,
            platform.forgotten_pictures,
            platform.outdated,
            resends.commands,
            resends.while_offline,
            resends.cases,
            resends.pictures,
        );
    }

    /// The platform has each case of the boxes once, at its newest revision and with its pictures.
    fn assert_all_arrived(&self) {
        let seed = self.seed;
        let committed = &self.platform.committed;
        let mut pictures = BTreeSet::new();
        let mut filed = 0;
        for of in &self.boxes {
            let all = Filter {
                state: None,
                limit: u32::MAX,
            };
            for case in of.store.cases(all).unwrap() {
                let file = of.store.case(&case.case_id).unwrap().unwrap();
                let arrived = committed.cases.get(&case.case_id);
                assert_eq!(arrived, Some(&file.record), "seed {seed}");
                assert_eq!(file.quarantined, None, "seed {seed}");
                let received = file.received.map(|received| received.revision);
                assert_eq!(received, Some(file.record.revision), "seed {seed}: {}", case.case_id);
                self.assert_pictures_arrived(&file.record, &mut pictures);
                filed += 1;
            }
        }
        assert_eq!(
            (filed, committed.cases.len()),
            (CASES as usize, CASES as usize),
            "seed {seed}"
        );
        assert_eq!(pictures.len(), 3 * filed, "seed {seed}: each shows one case");
    }

    fn assert_pictures_arrived(&self, record: &CaseRecord, pictures: &mut BTreeSet<String>) {
        for item in &record.evidence {
            assert!(
                self.platform.committed.pictures.contains(&item.sha256),
                "seed {}: the platform lacks {} of {}",
                self.seed,
                item.id,
                record.case_id
            );
            pictures.insert(item.sha256.clone());
        }
    }

    /// Each kind of fault was injected and had an effect.
    fn assert_injected(&self) {
        let (messages, platform, resends) = (self.message_counts(), self.platform.counts, self.resends);
        let injected = [
            ("dropped cases", messages.dropped_cases),
            ("dropped pictures", messages.dropped_pictures),
            ("lost receipts", messages.lost_receipts),
            ("late receipts", messages.late_receipts),
            ("repeated receipts", messages.repeated_receipts),
            ("receipts with missing pictures", platform.incomplete),
            ("broker deaths", self.broker_deaths.into()),
            ("cuts", self.cuts.into()),
            ("crashes before the commit", platform.uncommitted),
            ("crashes before receipts", platform.unanswered),
            (
                "receipts of before a restore for a box that was offline",
                platform.outdated,
            ),
            ("forgotten cases", platform.forgotten_cases),
            (
                "forgotten cases that are older than the backup",
                platform.forgotten_older,
            ),
            ("forgotten pictures", platform.forgotten_pictures),
            ("cases sent again", resends.cases),
            ("pictures sent again", resends.pictures),
        ];
        for (what, times) in injected {
            assert!(times > 0, "seed {}: no {what}", self.seed);
        }
        // What was dropped did not arrive.
        assert!(platform.case_messages + messages.dropped_cases <= messages.cases);
        assert!(platform.picture_messages + messages.dropped_pictures <= messages.pictures);
    }
}

/// Files 1,000 cases during a schedule of faults, and checks what arrived.
async fn round(seed: u64) {
    println!("seed {seed}");
    let begun = Instant::now();
    let mut harness = Harness::start(seed).await;
    let faults = Fault::schedule(&mut harness.random);
    let steps = faults.len() as u32;
    for (step, fault) in (0..).zip(faults) {
        harness.file(CASES * step / steps, CASES * (step + 1) / steps);
        harness.inject(fault).await;
        let pause = Duration::from_millis(harness.random.u64(100..600));
        harness.platform.serve(pause).await;
    }
    harness.drain().await;
    harness.print(begun.elapsed());
    harness.assert_all_arrived();
    harness.assert_injected();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_with_receipts_has_each_case_once_and_whole_whatever_is_lost() {
    let end = Instant::now() + Duration::from_mins(crate::soak_minutes().unwrap_or(0));
    let mut seeds = fastrand::Rng::with_seed(crate::seed());
    let mut seed = seeds.get_seed();
    loop {
        round(seed).await;
        if Instant::now() >= end {
            return;
        }
        seed = seeds.u64(..);
    }
}

/// The messages that the subscriber received so far: everything published before a message of the test.
async fn received(subscriber: &mut Subscriber) -> Vec<String> {
    subscriber.publish("gridwatch/end", "", None).await;
    let mut topics = Vec::new();
    loop {
        match topic(&subscriber.next().await) {
            "gridwatch/end" => return topics,
            topic => topics.push(topic.to_owned()),
        }
    }
}

async fn what_is_dropped_is_acknowledged_and_does_not_arrive(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = CommittingPlatform::start(broker.port).await;
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let mut this = FilingBox::start(
        "box-1",
        protocol,
        broker.port,
        MessageFaults::new(1, FaultRates::default()),
    )
    .await;
    for (dropped, arrived) in [
        (
            FaultRates {
                dropped_cases: 100,
                ..FaultRates::default()
            },
            3,
        ),
        (
            FaultRates {
                dropped_pictures: 100,
                ..FaultRates::default()
            },
            1,
        ),
        (
            FaultRates {
                dropped_cases: 100,
                dropped_pictures: 100,
                ..FaultRates::default()
            },
            0,
        ),
    ] {
        this.set_rates(dropped);
        received(&mut subscriber).await;
        this.file(arrived);
        within(async {
            while this.store.outbox_depth().unwrap().sent < 4 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let topics = received(&mut subscriber).await;
        let kinds = ["/case", "/evidence/"].map(|kind| topics.iter().any(|topic| topic.contains(kind)));
        let is_dropped = [dropped.dropped_cases, dropped.dropped_pictures].map(|rate| rate > 0);
        assert_eq!(kinds, is_dropped.map(|is| !is), "{topics:?}");
        // With that over, the box and the platform find out what is missing.
        this.set_rates(FaultRates::default());
        within(async {
            while !this.is_outbox_empty() {
                platform.serve(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
    assert_eq!(
        (platform.committed.cases.len(), platform.committed.pictures.len()),
        (3, 9)
    );
    assert!(platform.counts.incomplete >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_acknowledged_and_does_not_arrive_with_mqtt_5() {
    what_is_dropped_is_acknowledged_and_does_not_arrive(Protocol::V5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_acknowledged_and_does_not_arrive_with_mqtt_3_1_1() {
    what_is_dropped_is_acknowledged_and_does_not_arrive(Protocol::V311).await;
}
