//! The thresholds, each with its reason.

use serde::Serialize;

use super::{Advice, Finding, Menu, Severity};
use crate::{
    brand::{self, Brand, Setting, StreamRole},
    device::{DeviceProblem, LoginNeeded},
    probe::{CameraFacts, StreamFacts, StreamOutcome, StreamResult},
};
use gridwatch_base::language::Language;

/// Recommended time between keyframes: what docs/cameras.md asks for, and the default of most cameras.
const WANTED_INTERVAL_S: f64 = 2.0;
/// Above it the age of what a look sees is worth a warning: twice the recommended interval.
const LONG_INTERVAL_S: f64 = 4.5;
/// Above it several looks see the same keyframe: the default look period is 10 s.
const LONGEST_INTERVAL_S: f64 = 10.0;
/// A fixed interval varies by a picture or two, and by the 40 ms in which connections are read; a smart codec doubles it and more.
const SMART_CODEC_RATIO: f64 = 1.5;
/// Shorter intervals are not worth a word, whatever varies them.
const SMART_CODEC_FROM_S: f64 = 2.5;
/// More pixels are no use: detectors take 416 × 416, second looks a part of the picture. 2560 × 1440 with a margin for 2592 × 1520.
const MOST_PIXELS: u64 = 4_000_000;
/// Twice the 4 Mb/s at which docs/performance.md measures 50 cameras on one box.
const HIGH_BIT_RATE: f64 = 8e6;
const WANTED_BIT_RATE: f64 = 4e6;
/// A quarter of the 0.6 bits per pixel that keyframes of street footage at 1080p and 4 Mb/s have (docs/cameras.md).
const COARSE_BITS_PER_PIXEL: f64 = 0.15;
/// Cameras below are near the 10 s without a picture that count as an outage once a picture is late.
const LOW_FRAME_RATE: f64 = 0.9;
/// Over TCP nothing may be lost; over UDP one packet in a thousand costs about one keyframe in ten (a keyframe has some 100).
const NOTABLE_LOSS: f64 = 0.001;
/// Every other keyframe is damaged.
const SEVERE_LOSS: f64 = 0.01;
/// More than network, keyframe age and ONVIF's whole seconds explain: it shows in the time that the camera writes into its pictures.
const CLOCK_DIFFERENCE_S: f64 = 5.0;
/// Problems of a stream that are passed on.
const MAX_PROBLEMS: usize = 4;

/// What a camera is looked at for, which decides how many lines of picture are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LookNeed {
    /// Large things near the camera, without second looks: the networks' own input has about 320 lines.
    Overview,
    /// Things of the shipped rules. Bags of 20 to 30 pixels in full HD are found (docs/seeing.md); in 720 lines they have 13 to 20.
    #[default]
    Objects,
    /// Small ads and banners, whose characters must be 16 pixels high (`read_numbers`).
    Text,
}

impl LookNeed {
    /// Lines that are needed.
    pub fn lines(self) -> u32 {
        match self {
            Self::Overview => 360,
            Self::Objects => 720,
            Self::Text => 1_080,
        }
    }
}

/// Which stream to use: the smaller one if it is enough and usable, as it costs less.
pub fn proposed(facts: &CameraFacts, need: LookNeed) -> Option<StreamRole> {
    let is_usable = |stream: &&StreamFacts| stream.unsupported.is_none() && stream.keyframe_interval.is_some();
    let stream = |role| facts.stream(role).filter(is_usable);
    match (stream(StreamRole::Main), stream(StreamRole::Sub)) {
        (_, Some(sub)) if sub.height >= need.lines() => Some(StreamRole::Sub),
        (Some(_), _) => Some(StreamRole::Main),
        (None, Some(_)) => Some(StreamRole::Sub),
        (None, None) => None,
    }
}

/// The advice for a camera, the gravest first.
pub fn judge(facts: &CameraFacts, need: LookNeed) -> Vec<Advice> {
    let mut advice = Judgement {
        brand: facts.brand.as_deref().and_then(brand::by_id),
        advice: Vec::new(),
    };
    advice.device(facts);
    for stream in &facts.streams {
        advice.stream(stream, facts, need);
    }
    advice.choice(facts, need);
    advice.clock(facts);
    // Stable: streams keep their order.
    advice.advice.sort_by_key(|advice| advice.severity);
    advice.advice
}

struct Judgement {
    brand: Option<&'static Brand>,
    advice: Vec<Advice>,
}

impl Judgement {
    fn add(&mut self, severity: Severity, stream: Option<StreamRole>, finding: Finding) {
        let setting = match &finding {
            Finding::NoKeyframe { .. } => Some(Setting::Keyframe),
            // Their menu has the keyframe interval, too.
            Finding::KeyframeIntervalLong { .. } => Some(Setting::Keyframe),
            Finding::SmartCodec { .. } => Some(Setting::SmartCodec),
            Finding::ClockWrong { .. } => Some(Setting::Clock),
            Finding::OnvifLoginMissing | Finding::OnvifLoginRefused | Finding::OnvifFails { .. } => {
                Some(Setting::Onvif)
            }
            _ => None,
        };
        let menu = setting.and_then(|setting| self.brand?.menu(setting)).map(|text| Menu {
            zh: text.of(Language::Zh).to_owned(),
            en: text.of(Language::En).to_owned(),
        });
        self.advice.push(Advice {
            severity,
            stream,
            finding,
            menu,
        });
    }

    fn smart_codec(&self) -> String {
        self.brand
            .map_or("H.264+/H.265+", |brand| brand.smart_codec.as_str())
            .to_owned()
    }

    fn device(&mut self, facts: &CameraFacts) {
        if let Some(error) = &facts.device_error {
            let error = error.clone();
            self.add(Severity::Note, None, Finding::OnvifFails { error });
        }
        let Some(device) = &facts.device else { return };
        match device.login_problem {
            Some(LoginNeeded::Missing) => self.add(Severity::Note, None, Finding::OnvifLoginMissing),
            Some(LoginNeeded::Refused) => self.add(Severity::Warning, None, Finding::OnvifLoginRefused),
            Some(LoginNeeded::InClear) => self.add(Severity::Warning, None, Finding::PasswordInClear),
            None => {}
        }
        for problem in &device.problems {
            if let DeviceProblem::Elsewhere { what, host } = problem {
                let host = host.clone();
                self.add(Severity::Warning, None, Finding::AddressElsewhere { what, host });
            }
        }
    }

    fn stream(&mut self, stream: &StreamResult, facts: &CameraFacts, need: LookNeed) {
        let role = Some(stream.role);
        let is_proposed = facts.proposed == role;
        match &stream.outcome {
            StreamOutcome::Failed { error, .. } => {
                // Of a stream that is not needed it is worth knowing, no more.
                let severity = match facts.proposed {
                    Some(_) => Severity::Note,
                    None => Severity::Problem,
                };
                let error = error.clone();
                self.add(severity, role, Finding::StreamFails { error });
            }
            StreamOutcome::Received(found) => {
                self.pictures(found, role, need, is_proposed);
                self.connection(found, role);
            }
        }
    }

    fn pictures(&mut self, found: &StreamFacts, role: Option<StreamRole>, need: LookNeed, is_proposed: bool) {
        if let Some(format) = &found.unsupported {
            let format = format.clone();
            self.add(Severity::Problem, role, Finding::FormatUnsupported { format });
        }
        self.keyframes(found, role);
        let (width, height) = (found.width, found.height);
        if is_proposed && height > 0 && height < need.lines() {
            let needed = need.lines();
            let finding = Finding::ResolutionLow { width, height, needed };
            self.add(Severity::Warning, role, finding);
        }
        let pixels = u64::from(width) * u64::from(height);
        if is_proposed && pixels > MOST_PIXELS {
            self.add(Severity::Note, role, Finding::ResolutionHigh { width, height });
        }
        let mbps = found.bit_rate / 1e6;
        if found.codec == "jpeg" {
            self.add(Severity::Note, role, Finding::MotionJpeg { mbps });
        } else if found.bit_rate > HIGH_BIT_RATE {
            let wanted_mbps = WANTED_BIT_RATE / 1e6;
            self.add(Severity::Warning, role, Finding::BitRateHigh { mbps, wanted_mbps });
        }
        let bits = found.keyframe_bytes as f64 * 8.0;
        if is_proposed && bits > 0.0 && pixels > 0 && bits / (pixels as f64) < COARSE_BITS_PER_PIXEL {
            let finding = Finding::PictureCoarse {
                keyframe_kb: found.keyframe_bytes as f64 / 1e3,
                wanted_kb: pixels as f64 * COARSE_BITS_PER_PIXEL / 8e3,
            };
            self.add(Severity::Warning, role, finding);
        }
        if found.frame_rate < LOW_FRAME_RATE && found.received_s > 3.0 {
            let frame_rate = found.frame_rate;
            self.add(Severity::Warning, role, Finding::FrameRateLow { frame_rate });
        }
    }

    fn keyframes(&mut self, found: &StreamFacts, role: Option<StreamRole>) {
        let pictures = ((found.frame_rate * WANTED_INTERVAL_S).round() as u32).max(1);
        let Some(interval) = found.keyframe_interval else {
            let waited_s = found.received_s;
            return self.add(Severity::Problem, role, Finding::NoKeyframe { waited_s, pictures });
        };
        let smart_codec = self.smart_codec();
        if interval.longest_s > LONG_INTERVAL_S {
            let severity = match interval.longest_s > LONGEST_INTERVAL_S {
                true => Severity::Problem,
                false => Severity::Warning,
            };
            let finding = Finding::KeyframeIntervalLong {
                interval_s: interval.longest_s,
                pictures,
                wanted_s: WANTED_INTERVAL_S,
                smart_codec,
            };
            self.add(severity, role, finding);
        } else if interval.longest_s > SMART_CODEC_FROM_S
            && !interval.is_at_least
            && interval.longest_s > interval.shortest_s * SMART_CODEC_RATIO
        {
            let finding = Finding::SmartCodec {
                shortest_s: interval.shortest_s,
                longest_s: interval.longest_s,
                smart_codec,
            };
            self.add(Severity::Warning, role, finding);
        }
    }

    fn connection(&mut self, found: &StreamFacts, role: Option<StreamRole>) {
        if found.loss > NOTABLE_LOSS {
            let severity = match found.loss > SEVERE_LOSS {
                true => Severity::Problem,
                false => Severity::Warning,
            };
            let finding = Finding::PacketLoss {
                percent: found.loss * 100.0,
                transport: found.transport,
            };
            self.add(severity, role, finding);
        }
        if found.login.is_none() {
            self.add(Severity::Warning, role, Finding::NoLogin);
        }
        if found.is_password_in_clear() {
            self.add(Severity::Warning, role, Finding::PasswordInClear);
        }
        if let Some(to) = &found.redirected_to {
            let to = to.clone();
            self.add(Severity::Warning, role, Finding::Redirected { to });
        }
        for what in found.problems.iter().take(MAX_PROBLEMS) {
            let what = what.clone();
            self.add(Severity::Warning, role, Finding::StreamProblem { what });
        }
    }

    fn choice(&mut self, facts: &CameraFacts, need: LookNeed) {
        let needed = need.lines();
        match (facts.stream(StreamRole::Main), facts.stream(StreamRole::Sub)) {
            (Some(main), Some(sub)) => {
                let (width, height) = (sub.width, sub.height);
                let finding = match facts.proposed {
                    Some(StreamRole::Sub) => Finding::SubStreamEnough {
                        width,
                        height,
                        mbps: sub.bit_rate / 1e6,
                        main_mbps: main.bit_rate / 1e6,
                    },
                    // Other reasons against it are there already.
                    _ if height >= needed => return,
                    _ => Finding::SubStreamSmall { width, height, needed },
                };
                self.add(Severity::Note, None, finding);
            }
            (Some(_), None) if facts.streams.len() == 1 => self.add(Severity::Note, None, Finding::NoSubStream),
            _ => {}
        }
    }

    fn clock(&mut self, facts: &CameraFacts) {
        let onvif = facts.device.as_ref().and_then(|device| device.clock);
        let rtcp = [StreamRole::Main, StreamRole::Sub]
            .into_iter()
            .find_map(|role| facts.stream(role)?.clock_difference_s);
        // What ONVIF says is the clock that the camera writes into its pictures.
        let (difference_s, by) = match (onvif, rtcp) {
            (Some(clock), _) => (clock.difference_s, "onvif"),
            (None, Some(difference)) => (difference, "rtcp"),
            (None, None) => return,
        };
        if difference_s.abs() > CLOCK_DIFFERENCE_S {
            self.add(Severity::Warning, None, Finding::ClockWrong { difference_s, by });
        }
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::probe::{KeyframeInterval, UrlSource};

    fn stream(width: u32, height: u32) -> StreamFacts {
        StreamFacts {
            codec: "h265",
            width,
            height,
            unsupported: None,
            frame_rate: 25.0,
            bit_rate: 4e6,
            keyframe_interval: Some(KeyframeInterval {
                shortest_s: 2.0,
                longest_s: 2.04,
                is_at_least: false,
            }),
            keyframe_bytes: (width * height) as usize / 13,
            loss: 0.0,
            transport: "tcp",
            is_encrypted: false,
            login: Some("Digest MD5".into()),
            first_picture_s: Some(0.5),
            received_s: 10.0,
            clock_difference_s: Some(0.1),
            server: None,
            redirected_to: None,
            problems: Vec::new(),
        }
    }

    fn facts(streams: Vec<StreamFacts>, need: LookNeed) -> CameraFacts {
        let roles = [StreamRole::Main, StreamRole::Sub];
        let mut facts = CameraFacts {
            host: "192.0.2.1".into(),
            brand: Some("hikvision".into()),
            found: None,
            device: None,
            device_error: None,
            streams: roles
                .into_iter()
                .zip(streams)
                .map(|(role, facts)| StreamResult {
                    role,
                    url: Url::parse("rtsp://192.0.2.1/x").unwrap(),
                    source: UrlSource::Onvif,
                    announced: None,
                    outcome: StreamOutcome::Received(Box::new(facts)),
                })
                .collect(),
            proposed: None,
        };
        facts.proposed = proposed(&facts, need);
        facts
    }

    fn keys(facts: &CameraFacts, need: LookNeed) -> Vec<String> {
        judge(facts, need).iter().map(Advice::key).collect()
    }

    fn of_one(change: impl FnOnce(&mut StreamFacts)) -> Vec<Advice> {
        let mut main = stream(1920, 1080);
        change(&mut main);
        let facts = facts(vec![main, stream(640, 360)], LookNeed::Objects);
        let mut advice = judge(&facts, LookNeed::Objects);
        advice.retain(|a| a.key() != "sub_stream_small");
        advice
    }

    fn interval(shortest_s: f64, longest_s: f64, is_at_least: bool) -> Vec<(String, Severity)> {
        let advice = of_one(|main| {
            main.keyframe_interval = Some(KeyframeInterval {
                shortest_s,
                longest_s,
                is_at_least,
            });
        });
        advice.iter().map(|a| (a.key(), a.severity)).collect()
    }

    #[test]
    fn a_well_set_camera_gets_no_advice_but_the_choice() {
        let small = facts(vec![stream(1920, 1080), stream(640, 360)], LookNeed::Objects);
        assert_eq!(
            (small.proposed, keys(&small, LookNeed::Objects)),
            (Some(StreamRole::Main), vec!["sub_stream_small".into()])
        );
        let enough = facts(vec![stream(3840, 2160), stream(1280, 720)], LookNeed::Objects);
        assert_eq!(
            (enough.proposed, keys(&enough, LookNeed::Objects)),
            (Some(StreamRole::Sub), vec!["sub_stream_enough".into()])
        );
        let text = facts(vec![stream(3840, 2160), stream(1280, 720)], LookNeed::Text);
        assert_eq!(text.proposed, Some(StreamRole::Main));
        assert!(keys(&text, LookNeed::Text).contains(&"resolution_high".into()));
    }

    #[test]
    fn keyframe_intervals_are_judged_by_their_length() {
        let key = |key: &str, severity| vec![(key.to_owned(), severity)];
        assert_eq!(interval(4.0, 4.04, false), []);
        assert_eq!(
            interval(5.0, 5.0, false),
            key("keyframe_interval_long", Severity::Warning)
        );
        assert_eq!(
            interval(12.0, 12.0, true),
            key("keyframe_interval_long", Severity::Problem)
        );
        assert_eq!(interval(2.0, 4.0, false), key("smart_codec", Severity::Warning));
        assert_eq!(interval(1.0, 2.0, false), []);
        let none = of_one(|main| main.keyframe_interval = None);
        assert_eq!(
            (none[0].key(), none[0].severity),
            ("no_keyframe".into(), Severity::Problem)
        );
        let long = of_one(|main| {
            main.keyframe_interval = Some(KeyframeInterval {
                shortest_s: 12.0,
                longest_s: 12.0,
                is_at_least: false,
            });
        });
        assert_eq!(
            long[0].text(Language::En),
            "Main stream: keyframe interval 12 s. Set the I-frame interval to 50 pictures (2 s) and turn off the smart codec \
             (H.264+/H.265+) (in its menu: Configuration → Video/Audio → Video → I Frame Interval): a look sees nothing newer than \
             the last keyframe."
        );
    }

    #[test]
    fn each_fault_of_a_stream_has_its_advice() {
        type Change = fn(&mut StreamFacts);
        let cases: [(&str, Severity, Change); 11] = [
            ("format_unsupported", Severity::Problem, |s| {
                s.unsupported = Some("10 bit".into())
            }),
            ("bit_rate_high", Severity::Warning, |s| s.bit_rate = 8.1e6),
            ("motion_jpeg", Severity::Note, |s| s.codec = "jpeg"),
            ("picture_coarse", Severity::Warning, |s| s.keyframe_bytes = 30_000),
            ("frame_rate_low", Severity::Warning, |s| s.frame_rate = 0.5),
            ("packet_loss", Severity::Warning, |s| s.loss = 0.002),
            ("packet_loss", Severity::Problem, |s| s.loss = 0.02),
            ("no_login", Severity::Warning, |s| s.login = None),
            ("password_in_clear", Severity::Warning, |s| {
                s.login = Some("Basic".into())
            }),
            ("redirected", Severity::Warning, |s| {
                s.redirected_to = Some("rtsp://other/".into())
            }),
            ("clock_wrong", Severity::Warning, |s| {
                s.clock_difference_s = Some(-3_600.0)
            }),
        ];
        for (key, severity, change) in cases {
            let advice = of_one(change);
            let found = advice.iter().find(|a| a.key() == key);
            let found = found.unwrap_or_else(|| panic!("{key}: {advice:?}"));
            assert_eq!(found.severity, severity, "{key}");
            assert!(!found.text(Language::Zh).is_empty());
        }
        assert_eq!(of_one(|_| ()), []);
    }

    #[test]
    fn a_low_resolution_is_told_of_the_stream_that_is_used() {
        let facts = facts(vec![stream(704, 576), stream(352, 288)], LookNeed::Objects);
        assert_eq!(keys(&facts, LookNeed::Objects), ["resolution_low", "sub_stream_small"]);
        assert_eq!(keys(&facts, LookNeed::Overview), ["sub_stream_small"]);
    }
}
