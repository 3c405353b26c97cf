//! What is known of a camera after it was asked and received for a few seconds. Serialised for programs: durations in seconds, rates in
//! bits a second, URLs without logins.

use std::time::Duration;

use gridwatch_base::{error::Class, message::Message, text::printable};
use gridwatch_camera::{
    Transport,
    receive::{MeasuredStream, VideoCodec, unsupported_format},
};
use serde::Serialize;
use url::Url;

use crate::{
    brand::StreamRole,
    device::{DeviceReport, Profile},
    discovery::FoundDevice,
    xml::cut,
};

/// Characters of a text of the camera that are kept.
const MAX_SHOWN: usize = 300;

/// Everything that was found out.
#[derive(Debug, Clone, Serialize)]
pub struct CameraFacts {
    /// The host that was named.
    pub host: String,
    /// Id of the brand, where it is known ([`crate::brand`]).
    pub brand: Option<String>,
    /// What it said to a search, if it was found by one.
    pub found: Option<FoundDevice>,
    /// What it said over ONVIF.
    pub device: Option<DeviceReport>,
    /// Why ONVIF was of no use.
    pub device_error: Option<Message>,
    /// The main stream, then the sub stream, as far as there are any.
    pub streams: Vec<StreamResult>,
    /// The stream to use.
    pub proposed: Option<StreamRole>,
}

impl CameraFacts {
    /// The stream of this role, if it plays.
    pub fn stream(&self, role: StreamRole) -> Option<&StreamFacts> {
        self.streams.iter().find(|s| s.role == role)?.outcome.facts()
    }

    /// The URL of the stream of this role.
    pub fn url(&self, role: StreamRole) -> Option<&Url> {
        self.streams.iter().find(|s| s.role == role).map(|s| &s.url)
    }
}

/// Where a stream's URL is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlSource {
    /// The person gave it.
    Given,
    /// The device named it (GetStreamUri).
    Onvif,
    /// A pattern of its brand.
    Brand,
}

/// A stream that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct StreamResult {
    /// Main or sub stream.
    pub role: StreamRole,
    /// Without user and password.
    #[serde(serialize_with = "crate::serialize::url")]
    pub url: Url,
    /// Where the URL is from.
    pub source: UrlSource,
    /// What the device says of it.
    pub announced: Option<Profile>,
    /// What came.
    pub outcome: StreamOutcome,
}

/// What came of a stream.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum StreamOutcome {
    /// It plays.
    Received(Box<StreamFacts>),
    /// It does not.
    Failed {
        /// Why, with a remedy.
        error: Message,
        /// The login is missing, refused or not sent.
        is_login: bool,
        /// There is no stream at this path.
        is_missing: bool,
        /// Whether the fault is in what was given rather than outside.
        #[serde(skip)]
        class: Class,
    },
}

impl StreamOutcome {
    /// The facts, if it plays.
    pub fn facts(&self) -> Option<&StreamFacts> {
        match self {
            Self::Received(facts) => Some(facts),
            Self::Failed { .. } => None,
        }
    }
}

/// How often keyframes come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct KeyframeInterval {
    /// The shortest, in seconds; equal to `longest_s` for the only one.
    pub shortest_s: f64,
    /// The longest, in seconds.
    pub longest_s: f64,
    /// Only that much time passed without a further keyframe: the interval is longer.
    pub is_at_least: bool,
}

/// What was measured of a stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamFacts {
    /// `h264`, `h265` or `jpeg`.
    pub codec: &'static str,
    /// Width in pixels; 0: not known.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Why the format cannot be looked at.
    pub unsupported: Option<String>,
    /// Pictures a second.
    pub frame_rate: f64,
    /// Bits a second, RTP headers included, over whole keyframe intervals where two keyframes came.
    pub bit_rate: f64,
    /// Between keyframes; `None` if none came.
    pub keyframe_interval: Option<KeyframeInterval>,
    /// Mean size of a keyframe in bytes; 0 if none came.
    pub keyframe_bytes: usize,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// `tcp`, `udp` or `http`.
    pub transport: &'static str,
    /// The connection is encrypted.
    pub is_encrypted: bool,
    /// Scheme of the login; `None`: none was asked for.
    pub login: Option<String>,
    /// From the start of the probe of this stream to its first picture, in seconds.
    pub first_picture_s: Option<f64>,
    /// How long it was received, in seconds.
    pub received_s: f64,
    /// The camera's clock minus this machine's in seconds, by RTCP.
    pub clock_difference_s: Option<f64>,
    /// The `Server` header.
    pub server: Option<String>,
    /// Where it redirected to.
    pub redirected_to: Option<String>,
    /// What was wrong with the stream, and why it ended before its time.
    pub problems: Vec<String>,
}

impl StreamFacts {
    /// The facts of a measured stream.
    pub fn of(measured: &MeasuredStream, transport: Transport, is_encrypted: bool) -> Self {
        let counters = &measured.counters;
        let received_s = measured.received_for.as_secs_f64();
        let (frame_rate, bit_rate) = rates(measured);
        let expected = counters.packets + counters.lost;
        let keyframes = &measured.keyframes;
        let size = measured.parameters.as_ref().map_or((0, 0), |p| (p.width, p.height));
        let text = |text: &String| printable(cut(text, MAX_SHOWN));
        Self {
            codec: match measured.format.codec {
                VideoCodec::H264 => "h264",
                VideoCodec::H265 => "h265",
                VideoCodec::Jpeg => "jpeg",
            },
            width: size.0,
            height: size.1,
            unsupported: measured.parameters.as_ref().and_then(unsupported_format),
            frame_rate,
            bit_rate,
            keyframe_interval: keyframe_interval(measured),
            keyframe_bytes: keyframes.iter().map(|k| k.bytes).sum::<usize>() / keyframes.len().max(1),
            loss: if expected == 0 {
                0.0
            } else {
                counters.lost as f64 / expected as f64
            },
            transport: match transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
                Transport::Http => "http",
            },
            is_encrypted,
            login: measured.login.clone(),
            first_picture_s: measured.first_keyframe_after.map(|after| after.as_secs_f64()),
            received_s,
            clock_difference_s: measured.clock_difference.map(|d| d.as_secs_f64()),
            server: measured.server.as_ref().map(text),
            redirected_to: measured.redirected_to.as_ref().map(text),
            problems: measured
                .problems
                .iter()
                .chain(&measured.ended_early)
                .map(text)
                .collect(),
        }
    }

    /// The login sent the password readably.
    pub fn is_password_in_clear(&self) -> bool {
        !self.is_encrypted && self.login.as_deref().is_some_and(|scheme| scheme.starts_with("Basic"))
    }
}

/// Pictures and bits a second. Between the first keyframe and the last, as a part of an interval has too few or too many of the bits in its
/// keyframe; cameras that send what they have stored at the start do that before the first one, too.
fn rates(measured: &MeasuredStream) -> (f64, f64) {
    if let [first, .., last] = measured.keyframes.as_slice() {
        let seconds = last.at.saturating_sub(first.at).as_secs_f64();
        // Shorter ones are those of Motion JPEG, or a burst.
        if seconds >= 1.0 {
            let pictures = last.pictures_before.saturating_sub(first.pictures_before);
            let bytes = last.bytes_until.saturating_sub(first.bytes_until);
            return (pictures as f64 / seconds, bytes as f64 * 8.0 / seconds);
        }
    }
    let seconds = measured.received_for.as_secs_f64().max(0.001);
    let counters = &measured.counters;
    (
        counters.access_units as f64 / seconds,
        counters.bytes as f64 * 8.0 / seconds,
    )
}

fn keyframe_interval(measured: &MeasuredStream) -> Option<KeyframeInterval> {
    let last = measured.keyframes.last()?;
    let gaps = measured
        .keyframes
        .windows(2)
        .map(|pair| pair[1].at.saturating_sub(pair[0].at));
    let bounds = gaps.fold(None, |bounds: Option<(Duration, Duration)>, gap| {
        Some(bounds.map_or((gap, gap), |(least, most)| (least.min(gap), most.max(gap))))
    });
    let open = measured.received_for.saturating_sub(last.at);
    let (shortest, longest, is_at_least) = match bounds {
        Some((shortest, longest)) if longest >= open => (shortest, longest, false),
        Some((shortest, _)) => (shortest, open, true),
        None => (open, open, true),
    };
    Some(KeyframeInterval {
        shortest_s: shortest.as_secs_f64(),
        longest_s: longest.as_secs_f64(),
        is_at_least,
    })
}

#[cfg(test)]
mod tests {
    use gridwatch_camera::receive::{KeyframeArrival, StreamCounters, VideoFormat};

    use super::*;

    fn measured(arrivals: &[(u64, u64, u64)], received: u64) -> MeasuredStream {
        let keyframe = |&(at, pictures_before, bytes_until): &(u64, u64, u64)| KeyframeArrival {
            at: Duration::from_millis(at),
            bytes: 100_000,
            pictures_before,
            bytes_until,
        };
        MeasuredStream {
            format: VideoFormat {
                codec: VideoCodec::H264,
                payload_type: 96,
                clock_rate: 90_000,
                fmtp: String::new(),
            },
            server: Some("\u{1b}server".into()),
            parameters: None,
            keyframe: None,
            redirected_to: None,
            login: Some("Basic".into()),
            first_keyframe_after: None,
            received_for: Duration::from_millis(received),
            keyframes: arrivals.iter().map(keyframe).collect(),
            counters: StreamCounters {
                packets: 990,
                lost: 10,
                bytes: 1_000_000,
                access_units: 100,
                ..StreamCounters::default()
            },
            clock_difference: None,
            problems: Vec::new(),
            ended_early: None,
        }
    }

    #[test]
    fn rates_are_those_of_whole_keyframe_intervals() {
        // 25 pictures and 250,000 bytes a second after a burst of stored pictures.
        let stream = measured(
            &[(0, 0, 900_000), (2_000, 50, 1_400_000), (4_000, 100, 1_900_000)],
            5_000,
        );
        let facts = StreamFacts::of(&stream, Transport::Tcp, false);
        assert_eq!((facts.frame_rate, facts.bit_rate), (25.0, 2_000_000.0));
        let interval = facts.keyframe_interval.unwrap();
        assert_eq!(
            (interval.shortest_s, interval.longest_s, interval.is_at_least),
            (2.0, 2.0, false)
        );
        assert_eq!((facts.loss, facts.keyframe_bytes), (0.01, 100_000));
        assert_eq!(facts.server.as_deref(), Some("\\u001bserver"));
        assert!(facts.is_password_in_clear());
        assert!(!StreamFacts::of(&stream, Transport::Tcp, true).is_password_in_clear());
    }

    #[test]
    fn an_interval_that_did_not_end_is_a_lower_bound() {
        let of =
            |stream: &MeasuredStream| keyframe_interval(stream).map(|k| (k.shortest_s, k.longest_s, k.is_at_least));
        assert_eq!(of(&measured(&[], 9_000)), None);
        assert_eq!(of(&measured(&[(1_000, 0, 0)], 21_000)), Some((20.0, 20.0, true)));
        assert_eq!(
            of(&measured(&[(0, 0, 0), (2_000, 0, 0)], 14_000)),
            Some((2.0, 12.0, true))
        );
    }
}
