//! Encoding and decoding of records. The format is described in the documentation of the [crate](super).
//!
//! Looks and ticks make up nearly all records and are packed by hand. The rest is JSON, which tolerates new fields.

mod decode;
mod encode;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    decode::Decoder,
    encode::{Encoder, configured, head},
};
use crate::PlanId;
use gridwatch_engine::{CameraId, CaseId, Elsewhere, HeldBackCase, Observation, OpenCase, Reply, Resumed, View};

/// One record: an event, and the cases that the engine opened because of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The event.
    pub event: RecordedEvent,
    /// Cases opened by the running engine, under its own configuration.
    pub opened: Vec<CaseId>,
}

/// An event in the ledger: an input of the engine, or the head of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordedEvent {
    /// The first record of a file.
    Head(FileHead),
    /// A case known to the engine when a file was started during a run. Not an input; used by replays that start with
    /// this file.
    KnownCase(OpenCase),
    /// A case that the engine held back for another box's when a file was started during a run. Not an input, like
    /// [`RecordedEvent::KnownCase`].
    HeldBack(HeldBackCase),
    /// [`Input::Configured`](gridwatch_engine::Input::Configured) after the start of the run.
    Configured {
        /// SHA-256 of the new configuration file, lower-case hex.
        config_sha256: String,
        /// The new plan; `None` in records of earlier versions.
        plan: Option<PlanId>,
    },
    /// [`Input::Restored`](gridwatch_engine::Input::Restored).
    Restored(OpenCase),
    /// [`Input::Resumed`](gridwatch_engine::Input::Resumed).
    Resumed(Box<Resumed>),
    /// [`Input::Observed`](gridwatch_engine::Input::Observed).
    Observed(Observation),
    /// [`Input::Reply`](gridwatch_engine::Input::Reply).
    Reply(Reply),
    /// [`Input::EvidenceFailed`](gridwatch_engine::Input::EvidenceFailed).
    EvidenceFailed {
        /// The case id.
        case: CaseId,
    },
    /// [`Input::Tick`](gridwatch_engine::Input::Tick).
    Tick(Timestamp),
    /// [`Input::Reaimed`](gridwatch_engine::Input::Reaimed).
    Reaimed(Reaimed),
    /// [`Input::Elsewhere`](gridwatch_engine::Input::Elsewhere).
    Elsewhere(Elsewhere),
    /// Another box opened a case. Earlier versions told the engine so; it has no effect.
    OpenedElsewhere,
}

/// A camera was reaimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaimed {
    /// The camera.
    pub camera: CameraId,
    /// Time at which the daemon learned of it.
    pub at: Timestamp,
}

/// The first record of a file: the run of the daemon that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHead {
    /// Start of the run. A file of another run starts with a new engine.
    pub started_at: Timestamp,
    /// Boot id of the kernel; empty if unknown.
    #[serde(default)]
    pub boot: String,
    /// SHA-256 of the configuration file, lower-case hex.
    pub config_sha256: String,
    /// The plan in force when the file was started; `None` in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanId>,
    /// Version of the program.
    pub program: String,
    /// Why the file was started.
    #[serde(rename = "begun")]
    pub origin: FileOrigin,
}

/// Why a file was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOrigin {
    /// The daemon started.
    Start,
    /// The previous file was full or a day old.
    Rotation,
    /// Records before this file were lost.
    Loss,
}

/// Body of a record of a configuration change.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConfiguredRecord {
    pub(crate) config_sha256: String,
    pub(crate) plan: Option<PlanId>,
}

const HEAD: u8 = 0;
const KNOWN_CASE: u8 = 1;
const LOOK: u8 = 2;
const TICK: u8 = 3;
const REPLY: u8 = 4;
const EVIDENCE_FAILED: u8 = 5;
const RESTORED: u8 = 6;
const CONFIGURED: u8 = 7;
const RESUMED: u8 = 8;
const REAIMED: u8 = 9;
const ELSEWHERE: u8 = 10;
const HELD_BACK: u8 = 11;

/// Indexed by code; new views are appended.
const VIEWS: [View; 7] = [
    View::Clear,
    View::Dark,
    View::Blurred,
    View::Blocked,
    View::Frozen,
    View::Damaged,
    View::Moved,
];

/// In the place of a view's code: the view, and the flags that the view byte has no bits for, follow in another byte.
const EXTENDED: u8 = 0x07;
/// Flag of the extension byte: each detection has an optional newness.
const NEWNESS: u8 = 0x08;
/// Flag of the extension byte: each detection has a text, empty if none was read, and its score.
const TEXTS: u8 = 0x10;

/// Flag of the view byte: infrared look.
const NIGHT: u8 = 0x80;
/// Flag of the view byte: each detection has an optional second-look score.
const SECOND_LOOK: u8 = 0x08;
/// Flag of the view byte: the detections are followed by the labels that were not searched for.
const NOT_SEARCHED: u8 = 0x10;
/// Flag of the view byte: each detection has a phone number, empty if none was read.
const NUMBERS: u8 = 0x20;
/// Flag of the view byte: each detection has an optional appearance.
const APPEARANCES: u8 = 0x40;

fn view_code(view: View) -> u8 {
    match view {
        View::Clear => 0,
        View::Dark => 1,
        View::Blurred => 2,
        View::Blocked => 3,
        View::Frozen => 4,
        View::Damaged => 5,
        View::Moved => 6,
    }
}

#[cfg(test)]
mod tests;
