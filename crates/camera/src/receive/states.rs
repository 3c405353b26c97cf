//! The state of a camera whose stream plays, from what was seen of the stream lately. Pure: time is passed in.

use std::time::{Duration, Instant};

use gridwatch_rtsp::{StreamCounters, VideoCodec, VideoParameters};

use crate::slot::CameraState;

/// The losses of this long decide.
const WINDOW: Duration = Duration::from_secs(10);
/// With so many of a window's packets lost, the network needs attention even if keyframes get through.
const LOSSY_SHARE: f64 = 0.02;
/// A problem that was not repeated for this long is over: problems are reported once a minute.
const PROBLEM_LASTS: Duration = Duration::from_secs(75);

/// What was counted at one time.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    packets: u64,
    lost: u64,
    damaged: u64,
}

/// Packets, losses and damaged keyframes of the newest window, in two halves.
#[derive(Debug)]
struct LossWindow {
    began: Instant,
    at_begin: Counts,
    at_half: Counts,
    is_half: bool,
}

impl LossWindow {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            at_begin: Counts::default(),
            at_half: Counts::default(),
            is_half: false,
        }
    }

    /// What came since the window began.
    fn update(&mut self, now: Instant, total: Counts) -> Counts {
        let age = now.saturating_duration_since(self.began);
        if age >= WINDOW {
            (self.at_begin, self.at_half) = (self.at_half, total);
            self.began = now - WINDOW / 2;
        } else if age >= WINDOW / 2 && !self.is_half {
            (self.at_half, self.is_half) = (total, true);
        }
        Counts {
            packets: total.packets - self.at_begin.packets,
            lost: total.lost - self.at_begin.lost,
            damaged: total.damaged - self.at_begin.damaged,
        }
    }
}

/// Collects what is known of a stream and judges its state.
#[derive(Debug)]
pub(super) struct StreamJudge {
    window: LossWindow,
    recent: Counts,
    /// Longest tolerated time without a complete keyframe.
    limit: Duration,
    last_complete: Instant,
    last_damaged: Option<Instant>,
    /// Why the format cannot be looked at.
    unsupported: Option<String>,
    problem: Option<(Instant, String)>,
    /// The last judgement was loss.
    is_lossy: bool,
}

/// How the pictures of a stream without usable keyframes are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    /// Keyframes are used.
    Off,
    /// Every picture is decoded, and none has come out yet.
    Starting,
    /// Every picture is decoded.
    Delivering,
}

impl StreamJudge {
    pub(super) fn new(limit: Duration, now: Instant) -> Self {
        Self {
            window: LossWindow::new(now),
            recent: Counts::default(),
            limit,
            last_complete: now,
            last_damaged: None,
            unsupported: None,
            problem: None,
            is_lossy: false,
        }
    }

    /// Changes how long keyframes may take.
    pub(super) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// A keyframe arrived.
    pub(super) fn keyframe(&mut self, is_complete: bool, now: Instant) {
        if is_complete {
            self.last_complete = now;
        } else {
            self.last_damaged = Some(now);
        }
    }

    /// The format of the newest keyframe.
    pub(super) fn format(&mut self, parameters: Option<&VideoParameters>) {
        self.unsupported = parameters.and_then(unsupported);
    }

    pub(super) fn is_unsupported(&self) -> bool {
        self.unsupported.is_some()
    }

    /// Something is wrong with the stream.
    pub(super) fn problem(&mut self, text: String, now: Instant) {
        self.problem = Some((now, text));
    }

    pub(super) fn count(&mut self, counters: &StreamCounters, now: Instant) {
        let total = Counts {
            packets: counters.packets,
            lost: counters.lost,
            damaged: counters.damaged_keyframes,
        };
        self.recent = self.window.update(now, total);
    }

    /// Keyframes arrive, but are damaged: decoding every picture would not help.
    pub(super) fn are_keyframes_damaged(&self, now: Instant) -> bool {
        self.last_damaged
            .is_some_and(|at| now.saturating_duration_since(at) <= self.limit)
    }

    /// Share of the packets that was lost lately.
    fn lost_share(&self) -> f64 {
        let Counts { packets, lost, .. } = self.recent;
        if lost == 0 {
            return 0.0;
        }
        lost as f64 / (packets + lost) as f64
    }

    /// The state now. `interval` is the smoothed interval between keyframes.
    pub(super) fn state(&mut self, now: Instant, fallback: Fallback, interval: Option<Duration>) -> CameraState {
        if let Some(what) = &self.unsupported {
            return CameraState::Unsupported { what: what.clone() };
        }
        let share = self.lost_share();
        let waited = now.saturating_duration_since(self.last_complete);
        let are_missing = waited > self.limit;
        // The state ends where it began at half the share, so that it does not flicker.
        let lossy = if self.is_lossy { LOSSY_SHARE / 2.0 } else { LOSSY_SHARE };
        self.is_lossy = share > 0.0
            && (share >= lossy || self.recent.damaged > 0 || (are_missing && self.are_keyframes_damaged(now)));
        if self.is_lossy {
            return CameraState::Loss { share };
        }
        let interval = interval.unwrap_or_default().max(waited);
        match fallback {
            Fallback::Delivering => {
                return CameraState::Degraded {
                    reason: format!(
                        "a keyframe only every {} s or less often, so every frame is decoded at about twenty times the CPU \
                         cost; set the camera's keyframe interval (GOP) to 2 s",
                        interval.as_secs()
                    ),
                };
            }
            Fallback::Off | Fallback::Starting => {}
        }
        let problem = self
            .problem
            .as_ref()
            .filter(|(at, _)| now.saturating_duration_since(*at) < PROBLEM_LASTS);
        if let Some((_, reason)) = problem {
            return CameraState::Degraded { reason: reason.clone() };
        }
        if are_missing && self.are_keyframes_damaged(now) {
            return CameraState::Degraded {
                reason: "every keyframe is incomplete, although no packets are lost; restart the camera or update its firmware"
                    .into(),
            };
        }
        if are_missing || fallback == Fallback::Starting {
            return CameraState::NoKeyframes { interval };
        }
        CameraState::Live
    }
}

/// Why pictures with these parameters cannot be looked at, and what to do; `None` if they can. Looks and evidence work on 8-bit
/// samples; decoders convert other chroma formats.
pub fn unsupported(parameters: &VideoParameters) -> Option<String> {
    // Its own decoder converts every kind.
    if parameters.codec == VideoCodec::Jpeg {
        return None;
    }
    let depth = parameters.bit_depth_luma.max(parameters.bit_depth_chroma);
    let chroma = match parameters.chroma_format_idc {
        0 => "monochrome",
        1 => "4:2:0",
        2 => "4:2:2",
        _ => "4:4:4",
    };
    if depth <= 8 {
        return None;
    }
    let codec = match parameters.codec {
        VideoCodec::H264 => "H.264",
        VideoCodec::H265 => "H.265",
        VideoCodec::Jpeg => "JPEG",
    };
    Some(format!(
        "sends {codec} video with {depth} bits per sample, {chroma} (profile {}), which is not supported; set the camera to \
         8 bits (profile Main or High)",
        parameters.profile_idc
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(15);

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn counters(packets: u64, lost: u64, damaged_keyframes: u64) -> StreamCounters {
        StreamCounters {
            packets,
            lost,
            damaged_keyframes,
            ..StreamCounters::default()
        }
    }

    #[test]
    fn a_stream_with_keyframes_is_live() {
        let start = Instant::now();
        let mut judge = StreamJudge::new(LIMIT, start);
        judge.keyframe(true, start + s(1.0));
        judge.count(&counters(100, 0, 0), start + s(2.0));
        assert_eq!(judge.state(start + s(2.0), Fallback::Off, None), CameraState::Live);
    }

    #[test]
    fn a_stream_without_keyframes_gives_the_measured_interval() {
        let start = Instant::now();
        let mut judge = StreamJudge::new(LIMIT, start);
        assert_eq!(judge.state(start + s(14.0), Fallback::Off, None), CameraState::Live);
        let state = judge.state(start + s(16.0), Fallback::Starting, None);
        assert_eq!(state, CameraState::NoKeyframes { interval: s(16.0) });
        let CameraState::Degraded { reason } = judge.state(start + s(17.0), Fallback::Delivering, Some(s(25.0))) else {
            panic!("every picture is decoded");
        };
        assert!(reason.contains("every 25 s") && reason.contains("GOP"), "{reason}");
    }

    #[test]
    fn losses_are_told_with_their_share_and_never_as_a_keyframe_interval() {
        let start = Instant::now();
        let mut judge = StreamJudge::new(LIMIT, start);
        judge.count(&counters(0, 0, 0), start);
        judge.count(&counters(900, 100, 3), start + s(4.0));
        judge.keyframe(false, start + s(3.0));
        let state = judge.state(start + s(16.0), Fallback::Off, Some(s(20.0)));
        assert_eq!(state, CameraState::Loss { share: 0.1 });
        assert!(!state.to_string().contains("GOP"), "{state}");
    }

    #[test]
    fn a_loss_is_over_after_a_window_without_one() {
        let start = Instant::now();
        let mut judge = StreamJudge::new(LIMIT, start);
        for second in 0..40u32 {
            let now = start + s(f64::from(second));
            let lost = u64::from(second.min(5)) * 10;
            judge.keyframe(true, now);
            judge.count(&counters(u64::from(second) * 100, lost, 0), now);
            let state = judge.state(now, Fallback::Off, None);
            match second {
                1..=5 => assert!(matches!(state, CameraState::Loss { .. }), "{second}: {state:?}"),
                25.. => assert_eq!(state, CameraState::Live, "{second}"),
                _ => {}
            }
        }
    }

    #[test]
    fn damaged_keyframes_without_a_loss_are_told_as_such() {
        let start = Instant::now();
        let mut judge = StreamJudge::new(LIMIT, start);
        judge.keyframe(false, start + s(15.0));
        judge.count(&counters(500, 0, 15), start + s(16.0));
        let state = judge.state(start + s(16.0), Fallback::Off, None);
        assert!(
            matches!(&state, CameraState::Degraded { reason } if reason.contains("firmware")),
            "{state:?}"
        );
        assert!(judge.are_keyframes_damaged(start + s(16.0)));
    }

    #[test]
    fn formats_that_cannot_be_looked_at_are_named() {
        let start = Instant::now();
        let mut judge = StreamJudge::new(LIMIT, start);
        let mut parameters = VideoParameters {
            codec: VideoCodec::H265,
            profile_idc: 4,
            level_idc: 93,
            chroma_format_idc: 0,
            separate_colour_planes: false,
            bit_depth_luma: 10,
            bit_depth_chroma: 10,
            width: 320,
            height: 240,
        };
        judge.format(Some(&parameters));
        let state = judge.state(start, Fallback::Off, None);
        let text = state.to_string();
        assert!(matches!(state, CameraState::Unsupported { .. }));
        assert!(
            text.contains("10 bits") && text.contains("monochrome") && text.contains("H.265"),
            "{text}"
        );
        (
            parameters.chroma_format_idc,
            parameters.bit_depth_luma,
            parameters.bit_depth_chroma,
        ) = (1, 8, 8);
        judge.format(Some(&parameters));
        assert_eq!(
            judge.state(start, Fallback::Off, None),
            CameraState::Live,
            "the camera was set right"
        );
    }
}
