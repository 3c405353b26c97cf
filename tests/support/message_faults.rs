//! What a `FaultyProxy` does to single messages: acknowledges and drops cases and pictures of the box, and loses, repeats and delays receipts
//! for it. What befalls a message depends on the seed, on the message and on how often it was sent before, and not on the time.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::AddAssign,
    sync::Mutex,
    time::Duration,
};

use gridwatch_contract::ReceiptMessage;
use serde::Deserialize;

/// How many of a hundred messages each fault hits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultRates {
    pub dropped_cases: u64,
    pub dropped_pictures: u64,
    pub lost_receipts: u64,
    pub repeated_receipts: u64,
    pub late_receipts: u64,
}

/// Messages that passed, and faults injected so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// Sent by the box, the dropped ones among them.
    pub cases: u64,
    pub dropped_cases: u64,
    /// Sent by the box, the dropped ones among them.
    pub pictures: u64,
    pub dropped_pictures: u64,
    /// Sent by the broker, the lost ones among them.
    pub receipts: u64,
    pub lost_receipts: u64,
    pub repeated_receipts: u64,
    pub late_receipts: u64,
}

impl AddAssign for MessageCounts {
    fn add_assign(&mut self, other: Self) {
        self.cases += other.cases;
        self.dropped_cases += other.dropped_cases;
        self.pictures += other.pictures;
        self.dropped_pictures += other.dropped_pictures;
        self.receipts += other.receipts;
        self.lost_receipts += other.lost_receipts;
        self.repeated_receipts += other.repeated_receipts;
        self.late_receipts += other.late_receipts;
    }
}

/// What is done to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Forwarded,
    /// Acknowledged, and not forwarded.
    Dropped,
    /// Forwarded at once, and again after this time.
    Twice(Duration),
    /// Forwarded after this time; others overtake it.
    Late(Duration),
}

/// The longest time by which a receipt is late.
const LATEST_MS: u64 = 1_500;

/// The faults of one box's messages.
#[derive(Debug)]
pub struct MessageFaults {
    seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rates: FaultRates,
    counts: MessageCounts,
    /// How often each message was seen.
    seen: BTreeMap<String, u64>,
}

impl MessageFaults {
    pub fn new(seed: u64, rates: FaultRates) -> Self {
        Self {
            seed,
            inner: Mutex::new(Inner {
                rates,
                ..Inner::default()
            }),
        }
    }

    pub fn set_rates(&self, rates: FaultRates) {
        self.inner.lock().expect("no thread panics with it").rates = rates;
    }

    pub fn counts(&self) -> MessageCounts {
        self.inner.lock().expect("no thread panics with it").counts
    }

    /// What happens to a message of the box.
    pub fn of_box(&self, publish: &PublishPacket<'_>) -> Fate {
        #[derive(Deserialize)]
        struct Record {
            case_id: String,
            revision: u32,
        }
        let mut inner = self.inner.lock().expect("no thread panics with it");
        let (key, rate) = if publish.topic.ends_with("/case") {
            let record: Record = serde_json::from_slice(publish.payload).expect("a case record");
            inner.counts.cases += 1;
            let key = format!("case {} {}", record.case_id, record.revision);
            (key, inner.rates.dropped_cases)
        } else if let Some((_, sha256)) = publish.topic.split_once("/evidence/") {
            inner.counts.pictures += 1;
            (format!("picture {sha256}"), inner.rates.dropped_pictures)
        } else {
            return Fate::Forwarded;
        };
        let is_case = key.starts_with("case");
        if inner.draw(self.seed, key).u64(..100) >= rate {
            return Fate::Forwarded;
        }
        match is_case {
            true => inner.counts.dropped_cases += 1,
            false => inner.counts.dropped_pictures += 1,
        }
        Fate::Dropped
    }

    /// What happens to a receipt for the box. What the broker had kept for it while it was disconnected, so that it comes before the box has
    /// subscribed, is not late.
    pub fn of_receipt(&self, publish: &PublishPacket<'_>, has_subscribed: bool) -> Fate {
        let mut inner = self.inner.lock().expect("no thread panics with it");
        inner.counts.receipts += 1;
        let receipt: ReceiptMessage = serde_json::from_slice(publish.payload).expect("a receipt");
        let key = format!("receipt {} {}", receipt.case_id, receipt.revision);
        let mut random = inner.draw(self.seed, key);
        let (drawn, delay) = (random.u64(..100), Duration::from_millis(random.u64(50..LATEST_MS)));
        let rates = inner.rates;
        let counts = &mut inner.counts;
        let (lost, repeated) = (rates.lost_receipts, rates.lost_receipts + rates.repeated_receipts);
        if drawn < lost {
            counts.lost_receipts += 1;
            Fate::Dropped
        } else if drawn < repeated && has_subscribed {
            counts.repeated_receipts += 1;
            Fate::Twice(delay)
        } else if drawn < repeated + rates.late_receipts && has_subscribed {
            counts.late_receipts += 1;
            Fate::Late(delay)
        } else {
            Fate::Forwarded
        }
    }
}

impl Inner {
    /// Random numbers for a message.
    fn draw(&mut self, seed: u64, key: String) -> fastrand::Rng {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let seen = self.seen.entry(key).or_default();
        *seen += 1;
        (seed, *seen).hash(&mut hasher);
        fastrand::Rng::with_seed(hasher.finish())
    }
}

/// A PUBLISH packet (MQTT 5 and 3.1.1, section 3.3).
#[derive(Debug, PartialEq, Eq)]
pub struct PublishPacket<'a> {
    pub topic: &'a str,
    /// The packet id; `None` with QoS 0.
    pub id: Option<[u8; 2]>,
    pub payload: &'a [u8],
}

impl<'a> PublishPacket<'a> {
    /// Reads a whole packet; `None` if it is not a PUBLISH.
    pub fn read(packet: &'a [u8], is_v5: bool) -> Option<Self> {
        let (first, rest) = packet.split_first()?;
        if first & 0xf0 != 0x30 {
            return None;
        }
        let (_, rest) = variable_integer(rest)?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (topic, mut rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let mut id = None;
        if first & 0b110 != 0 {
            let (two, behind) = rest.split_first_chunk::<2>()?;
            (id, rest) = (Some(*two), behind);
        }
        if is_v5 {
            let (length, behind) = variable_integer(rest)?;
            rest = behind.get(length..)?;
        }
        Some(Self {
            topic: std::str::from_utf8(topic).ok()?,
            id,
            payload: rest,
        })
    }
}

/// A variable byte integer (MQTT 5, 1.5.5), and what follows.
pub fn variable_integer(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0usize;
    for (i, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}
