//! Judges what was found out about a camera: advice with a code, values and texts in Chinese and English (`advice/texts.toml`).
//!
//! A threshold is a constant with its reason. Nothing here asks a camera: the same facts give the same advice.

use gridwatch_base::language::Language;
use gridwatch_base::message::Message;
use serde::Serialize;

mod judge;
mod texts;

pub use judge::{LookNeed, judge, proposed};

use crate::brand::StreamRole;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The stream cannot be used as it is.
    Problem,
    /// It works, at a price that is named.
    Warning,
    /// Good to know.
    Note,
}

/// Advice on one matter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// How much it matters.
    pub severity: Severity,
    /// The stream that it is about; `None`: the camera.
    pub stream: Option<StreamRole>,
    /// What was found, with values.
    #[serde(flatten)]
    pub finding: Finding,
    /// Where the setting is in the camera's menu, in both languages, if that is known.
    pub menu: Option<Menu>,
}

/// A place in a camera's menu.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Menu {
    /// In the Chinese interface.
    pub zh: String,
    /// In the English one.
    pub en: String,
}

/// What was found. The name in JSON is the key of its texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Finding {
    /// The stream cannot be opened.
    StreamFails {
        /// Why, with a remedy.
        error: Message,
    },
    /// The format cannot be looked at.
    FormatUnsupported {
        /// The format, with a remedy.
        format: String,
    },
    /// No keyframe came.
    NoKeyframe {
        /// Time waited, in seconds.
        waited_s: f64,
        /// Recommended interval in pictures.
        pictures: u32,
    },
    /// Keyframes come rarely.
    KeyframeIntervalLong {
        /// The longest interval in seconds.
        interval_s: f64,
        /// Recommended interval in pictures.
        pictures: u32,
        /// The same in seconds.
        wanted_s: f64,
        /// The brand's smart codec.
        smart_codec: String,
    },
    /// The interval between keyframes changes: a smart codec stretches it.
    SmartCodec {
        /// The shortest interval in seconds.
        shortest_s: f64,
        /// The longest interval in seconds.
        longest_s: f64,
        /// The brand's smart codec.
        smart_codec: String,
    },
    /// Too few lines for what is looked for.
    ResolutionLow {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Height that is needed.
        needed: u32,
    },
    /// More pixels than are of use.
    ResolutionHigh {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A high bit rate.
    BitRateHigh {
        /// In Mb/s.
        mbps: f64,
        /// Recommended at most, in Mb/s.
        wanted_mbps: f64,
    },
    /// Keyframes have few bits for their size.
    PictureCoarse {
        /// Size of a keyframe in kB.
        keyframe_kb: f64,
        /// Recommended at least, in kB.
        wanted_kb: f64,
    },
    /// Few pictures a second.
    FrameRateLow {
        /// Pictures a second.
        frame_rate: f64,
    },
    /// Motion JPEG.
    MotionJpeg {
        /// In Mb/s.
        mbps: f64,
    },
    /// Packets are lost.
    PacketLoss {
        /// Share in percent.
        percent: f64,
        /// `tcp`, `udp` or `http`.
        transport: &'static str,
    },
    /// The camera's clock differs from this machine's.
    ClockWrong {
        /// Camera minus this machine, in seconds.
        difference_s: f64,
        /// `onvif` or `rtcp`.
        by: &'static str,
    },
    /// The stream needs no login.
    NoLogin,
    /// The password was sent readably.
    PasswordInClear,
    /// The camera redirects.
    Redirected {
        /// The target.
        to: String,
    },
    /// The device named an address at another host.
    AddressElsewhere {
        /// What the address is for.
        what: &'static str,
        /// The host that it named.
        host: String,
    },
    /// Something was wrong with the stream.
    StreamProblem {
        /// What.
        what: String,
    },
    /// ONVIF asks for a login, and none was given.
    OnvifLoginMissing,
    /// ONVIF refuses the login.
    OnvifLoginRefused,
    /// ONVIF is of no use.
    OnvifFails {
        /// Why.
        error: Message,
    },
    /// No sub stream was found.
    NoSubStream,
    /// The sub stream is enough.
    SubStreamEnough {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Its bit rate in Mb/s.
        mbps: f64,
        /// That of the main stream.
        main_mbps: f64,
    },
    /// The sub stream is not enough.
    SubStreamSmall {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Height that is needed.
        needed: u32,
    },
}

impl Advice {
    /// The key of its texts, such as `keyframe_interval_long`.
    pub fn key(&self) -> String {
        texts::key(&self.finding)
    }

    /// The text, with its values and where the setting is.
    pub fn text(&self, language: Language) -> String {
        texts::text(self, language)
    }
}
