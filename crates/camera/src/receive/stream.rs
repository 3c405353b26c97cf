//! Handles the access units of one connection: keyframes go to the slot, what else is needed is counted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gridwatch_rtsp::{AccessUnit, Assemble, Client, StreamCounters, StreamProblem, UnitKind, VideoCodec};
use jiff::Timestamp;

use super::{
    ReceiverSettings, jpeg,
    log::CameraLog,
    states::{Fallback, StreamJudge},
};
use crate::{
    Codec, Keyframe,
    cadence::KeyframeCadence,
    corruption,
    slot::{CameraState, Slot},
};

/// How often states and limits are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Why a live view gets nothing although the camera sends.
const NO_KEYFRAMES: &str =
    "the camera sends no keyframes, at which a player could start; set its keyframe interval (GOP) to 2 s";
/// Time in which decoding every picture must give one. Streams that renew their pictures slowly take some ten seconds.
const LONGEST_FALLBACK_START: Duration = Duration::from_mins(1);

/// Decoding of Motion JPEG.
#[derive(Default)]
struct JpegTurn {
    started_at: Option<Instant>,
    running: Option<tokio::task::JoinHandle<()>>,
}

/// The stream of one connection.
pub(super) struct StreamHandler<'a> {
    settings: &'a ReceiverSettings,
    slot: &'a Arc<Slot>,
    log: &'a CameraLog,
    codec: VideoCodec,
    began: Instant,
    cadence: KeyframeCadence,
    judge: StreamJudge,
    /// Counted in the slot so far.
    counted: Counted,
    last_unit_at: Instant,
    next_tick: Instant,
    falls_back: bool,
    /// Since when all pictures are assembled for live views.
    watched_since: Option<Instant>,
    /// Access units that were dropped without a trace, at the last one that was offered.
    dropped: u64,
    /// [`Slot::seq`] when the fallback began, and when that was.
    seq_before: u64,
    fell_back_at: Instant,
    jpeg: JpegTurn,
    #[cfg(feature = "gst")]
    full_decoder: Option<crate::full_decode::FullDecoder>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    access_units: u64,
    bytes: u64,
    lost: u64,
}

impl<'a> StreamHandler<'a> {
    pub(super) fn new(
        settings: &'a ReceiverSettings,
        slot: &'a Arc<Slot>,
        log: &'a CameraLog,
        codec: VideoCodec,
        now: Instant,
    ) -> Self {
        let cadence = KeyframeCadence::new(slot.look_every());
        Self {
            judge: StreamJudge::new(cadence.limit(), now),
            settings,
            slot,
            log,
            codec,
            began: now,
            cadence,
            counted: Counted::default(),
            last_unit_at: now,
            next_tick: now + TICK,
            falls_back: false,
            watched_since: None,
            dropped: 0,
            seq_before: 0,
            fell_back_at: now,
            jpeg: JpegTurn::default(),
            #[cfg(feature = "gst")]
            full_decoder: None,
        }
    }

    /// The stream begins now.
    pub(super) fn restart(&mut self, now: Instant) {
        (self.began, self.last_unit_at, self.next_tick) = (now, now, now + TICK);
        self.judge = StreamJudge::new(self.cadence.limit(), now);
    }

    /// When [`StreamHandler::tick`] is due.
    pub(super) fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// Whether a picture arrived, of whatever kind.
    pub(super) fn has_delivered(&self) -> bool {
        self.counted.access_units > 0
    }

    /// How long decoding every picture has given none, if that is too long: a camera that was switched to another codec says so in a new
    /// description only.
    pub(super) fn decodes_nothing(&self, now: Instant) -> Option<Duration> {
        let tried = now.saturating_duration_since(self.fell_back_at);
        (self.fallback() == Fallback::Starting && tried >= LONGEST_FALLBACK_START).then_some(tried)
    }

    /// Time since the newest picture.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_unit_at)
    }

    /// Passes the counters on.
    pub(super) fn count(&mut self, counters: &StreamCounters, now: Instant) {
        let before = self.counted;
        self.counted = Counted {
            access_units: counters.access_units,
            bytes: counters.bytes,
            lost: counters.lost,
        };
        let frames = counters.access_units - before.access_units;
        if frames > 0 {
            self.last_unit_at = now;
        }
        let (bytes, lost) = (counters.bytes - before.bytes, counters.lost - before.lost);
        self.slot.count_received(frames, bytes, lost, Timestamp::now());
        if frames > 0 && before.access_units == 0 {
            self.judge_state(counters, now);
        }
    }

    /// Looks at the state, and begins or ends the fallback.
    pub(super) fn tick(&mut self, client: &mut Client, now: Instant) {
        self.next_tick = now + TICK;
        self.cadence.set_look_every(self.slot.look_every());
        self.judge.set_limit(self.cadence.limit());
        self.cadence.update(now - self.began, false);
        self.update_fallback(client, now);
        if self.watched_since.is_some() && self.cadence.is_too_rare() {
            self.slot.live().waits_for_keyframe(NO_KEYFRAMES);
        }
        if let Some(counters) = client.stream_counters()
            && self.has_delivered()
        {
            self.judge_state(counters, now);
        }
    }

    /// Begins or ends the assembly of all pictures when the first viewer comes or the last one goes.
    #[inline]
    pub(super) fn update_live(&mut self, client: &mut Client, now: Instant) {
        if self.slot.live().is_watched() != self.watched_since.is_some() {
            self.watched_since = self.watched_since.is_none().then_some(now);
            self.set_assemble(client);
        }
    }

    fn set_assemble(&self, client: &mut Client) {
        let all = self.falls_back || self.watched_since.is_some();
        client.set_assemble(if all { Assemble::All } else { Assemble::Keyframes });
    }

    /// Hands the unit to the live views.
    fn offer(&mut self, client: &Client, unit: &AccessUnit) {
        // Between a keyframe that began before and the first picture assembled for viewers, some are missing.
        if self.watched_since.is_none_or(|since| unit.first_packet_at <= since) {
            return;
        }
        let dropped = client.stream_counters().map_or(0, |c| c.oversized + c.dropped_outputs);
        if dropped != self.dropped {
            self.dropped = dropped;
            self.slot.live().skip_to_keyframe();
        }
        self.slot.live().offer(unit);
    }

    pub(super) fn problem(&mut self, problem: &StreamProblem, now: Instant) {
        match problem {
            // Judged here, with the measured interval.
            StreamProblem::NoKeyframes { .. } => {}
            other => {
                self.log.warn(format_args!("Camera stream: {other}"));
                self.judge.problem(other.to_string(), now);
            }
        }
    }

    /// Takes an access unit.
    pub(super) fn unit(&mut self, client: &mut Client, unit: AccessUnit, now: Instant) {
        if self.watched_since.is_some() {
            self.offer(client, &unit);
        }
        let is_keyframe = unit.kind == UnitKind::Keyframe;
        if is_keyframe {
            self.judge.keyframe(unit.is_complete, now);
            self.judge.format(client.parameters().as_ref());
            if !unit.is_complete {
                self.slot.count_damaged();
            }
        }
        let is_usable = is_keyframe && unit.is_complete && !self.judge.is_unsupported();
        if is_keyframe && unit.is_complete {
            self.cadence.update(now - self.began, true);
            self.slot.set_keyframe_interval(self.cadence.interval());
            self.update_fallback(client, now);
        }
        if self.falls_back {
            self.decode_fully(client, unit, is_usable);
        } else if is_usable {
            self.store(unit, now);
        }
        if is_keyframe && let Some(counters) = client.stream_counters() {
            self.judge_state(counters, now);
        }
    }

    fn store(&mut self, unit: AccessUnit, now: Instant) {
        let codec = match self.codec {
            VideoCodec::H264 => Codec::H264,
            VideoCodec::H265 => Codec::H265,
            VideoCodec::Jpeg => return self.decode_jpeg(unit, now),
        };
        self.slot.store_keyframe(Arc::new(Keyframe {
            camera: self.settings.camera.clone(),
            seq: self.slot.next_seq(),
            captured_at: Timestamp::now(),
            codec,
            // A move, not a copy.
            data: unit.data.into(),
        }));
    }

    /// Decodes the picture, unless one was decoded a moment ago: cameras send more pictures than are looked at.
    fn decode_jpeg(&mut self, unit: AccessUnit, now: Instant) {
        let every = self.slot.look_every() / 4;
        let is_due = self
            .jpeg
            .started_at
            .is_none_or(|at| now.saturating_duration_since(at) >= every);
        let is_free = self
            .jpeg
            .running
            .as_ref()
            .is_none_or(tokio::task::JoinHandle::is_finished);
        if !is_due || !is_free {
            return;
        }
        let (slot, captured_at) = (Arc::clone(self.slot), Timestamp::now());
        self.jpeg.started_at = Some(now);
        self.jpeg.running = Some(tokio::task::spawn_blocking(move || {
            // RTP fixes the tables of JPEG, with which no data has such runs.
            let decoded = match corruption::find_corruption(&unit.data) {
                Some(damage) => Err(damage.to_owned()),
                None => jpeg::decode(&unit.data, captured_at),
            };
            match decoded {
                Ok(frame) => {
                    slot.report_decoding(Ok(()));
                    slot.store_frame(Arc::new(frame));
                }
                Err(error) => {
                    slot.report_decoding(Err(&error));
                    slot.count_damaged();
                }
            }
        }));
    }

    /// Decodes every picture while no keyframes come; keyframes that are only damaged will come again.
    fn update_fallback(&mut self, client: &mut Client, now: Instant) {
        let is_nal = self.codec != VideoCodec::Jpeg;
        let wanted = is_nal
            && cfg!(feature = "gst")
            && self.cadence.is_too_rare()
            && !self.judge.is_unsupported()
            && (self.falls_back || !self.judge.are_keyframes_damaged(now));
        if wanted == self.falls_back {
            return;
        }
        if wanted {
            // The keyframes that would tell it do not come.
            self.judge.format(client.parameters().as_ref());
            if self.judge.is_unsupported() {
                return;
            }
        }
        self.falls_back = wanted;
        self.seq_before = self.slot.seq();
        self.fell_back_at = now;
        self.set_assemble(client);
        #[cfg(feature = "gst")]
        if !wanted {
            self.full_decoder = None;
        }
    }

    fn fallback(&self) -> Fallback {
        match self.falls_back {
            false => Fallback::Off,
            true if self.slot.seq() == self.seq_before => Fallback::Starting,
            true => Fallback::Delivering,
        }
    }

    /// Sets the state, and logs it if it is another one than before.
    fn judge_state(&mut self, counters: &StreamCounters, now: Instant) {
        self.judge.count(counters, now);
        let state = self.judge.state(now, self.fallback(), self.cadence.interval());
        let before = self.slot.received_state();
        if state == before {
            return;
        }
        if state.as_str() != before.as_str() {
            match &state {
                CameraState::Live => self.log.info(format_args!("Camera live ({:?})", self.codec)),
                other => self.log.warn(format_args!("Camera {}: {other}", other.as_str())),
            }
        }
        self.slot.set_state(state);
    }

    #[cfg(not(feature = "gst"))]
    fn decode_fully(&mut self, _client: &Client, _unit: AccessUnit, _is_keyframe: bool) {}

    #[cfg(feature = "gst")]
    fn decode_fully(&mut self, client: &Client, unit: AccessUnit, is_keyframe: bool) {
        use crate::full_decode::{self, FullDecodeSettings, FullDecoder};
        let codec = match self.codec {
            VideoCodec::H264 => Codec::H264,
            VideoCodec::H265 => Codec::H265,
            VideoCodec::Jpeg => return,
        };
        let decoder = match &mut self.full_decoder {
            Some(decoder) => decoder,
            None => {
                let settings = FullDecodeSettings {
                    codec,
                    parameter_sets: client.parameter_sets(),
                    mode: self.settings.full_decoding.clone(),
                };
                match FullDecoder::start(settings, Arc::clone(self.slot)) {
                    Ok(decoder) => self.full_decoder.insert(decoder),
                    Err(error) => {
                        let text = format!("no keyframes, and no thread for decoding all pictures: {error}");
                        self.judge.problem(text, Instant::now());
                        return;
                    }
                }
            }
        };
        decoder.push(full_decode::AccessUnit {
            is_damaged: !unit.is_complete,
            data: unit.data.into(),
            is_keyframe,
            arrived_at: Timestamp::now(),
        });
        if let Some(problem) = decoder.take_problem() {
            self.judge.problem(problem, Instant::now());
        }
    }
}
