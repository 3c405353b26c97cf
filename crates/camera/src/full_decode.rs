//! Fallback for streams without usable keyframes: decodes every picture of the stream, in a decode worker of its own, and stores the newest.
//!
//! One thread and one decoder per degraded camera, at about twenty times the cost of decoding keyframes on demand. What goes wrong with a picture
//! costs the pictures that depend on it; a stream that ends workers is set aside as a keyframe that does (`decode`).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Instant,
};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    Backend, CameraState, Codec, Keyframe, Slot,
    decode::{
        DecodeError, DecodeMode, WorkerKind, protocol::UnitInfo, stream, stream::StreamDecoder, worker::WorkerDecoder,
    },
};
use gridwatch_frame::Frame;

/// Access units, and their bytes, that may wait for the decoder. More means that the decoder cannot keep up.
const MAX_QUEUED: usize = 64;
const MAX_QUEUED_BYTES: usize = 16 << 20;

/// An access unit as received.
pub(super) struct AccessUnit {
    /// Annex B.
    pub(super) data: Bytes,
    /// It is a complete keyframe.
    pub(super) is_keyframe: bool,
    /// Packets in it or right before it were lost.
    pub(super) is_damaged: bool,
    /// Arrival time.
    pub(super) arrived_at: Timestamp,
}

/// A decoder for all pictures of one stream. Its thread ends after the drop.
pub(super) struct FullDecoder {
    units: mpsc::SyncSender<AccessUnit>,
    queued_bytes: Arc<AtomicUsize>,
    /// An access unit was left out since the last one.
    has_gap: bool,
    problem: Arc<Mutex<Option<String>>>,
}

/// What the decoder's thread needs.
pub(super) struct FullDecodeSettings {
    pub(super) codec: Codec,
    /// Annex B. A stream without keyframes may never send them in band.
    pub(super) parameter_sets: Vec<u8>,
    pub(super) mode: DecodeMode,
}

impl FullDecoder {
    /// Starts a decoder that stores pictures in `slot`.
    pub(super) fn start(settings: FullDecodeSettings, slot: Arc<Slot>) -> Result<Self, String> {
        let (units, inbox) = mpsc::sync_channel::<AccessUnit>(MAX_QUEUED);
        let (queued_bytes, problem) = (Arc::<AtomicUsize>::default(), Arc::default());
        let runs = match &settings.mode {
            DecodeMode::InProcess => Runs::InProcess(None),
            DecodeMode::Workers(workers) => Runs::Worker(Box::new(WorkerDecoder::new(
                WorkerKind::Stream,
                &format!("stream-{}", slot.camera()),
                Backend::Software,
                workers.clone(),
            ))),
        };
        let mut thread = DecoderThread {
            settings,
            slot,
            runs,
            started_at: Timestamp::now(),
            stored_at: None,
            has_gap: false,
            problem: Arc::clone(&problem),
        };
        std::thread::Builder::new()
            .name("full-decode".into())
            .spawn({
                let queued_bytes = Arc::clone(&queued_bytes);
                move || {
                    while let Ok(unit) = inbox.recv() {
                        queued_bytes.fetch_sub(unit.data.len(), Ordering::Relaxed);
                        thread.decode(unit);
                    }
                    thread.slot.set_decode_fault(None);
                }
            })
            .map_err(|e| e.to_string())?;
        Ok(Self {
            units,
            queued_bytes,
            has_gap: false,
            problem,
        })
    }

    /// Hands over the next access unit of the stream. Never waits.
    pub(super) fn push(&mut self, mut unit: AccessUnit) {
        unit.is_damaged |= self.has_gap;
        let bytes = unit.data.len();
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.has_gap = queued + bytes > MAX_QUEUED_BYTES || self.units.try_send(unit).is_err();
        if self.has_gap {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Why no pictures come, once.
    pub(super) fn take_problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The thread of a [`FullDecoder`].
struct DecoderThread {
    settings: FullDecodeSettings,
    slot: Arc<Slot>,
    runs: Runs,
    started_at: Timestamp,
    stored_at: Option<Instant>,
    /// An access unit was not decoded since the last one.
    has_gap: bool,
    problem: Arc<Mutex<Option<String>>>,
}

enum Runs {
    InProcess(Option<StreamDecoder>),
    Worker(Box<WorkerDecoder>),
}

impl DecoderThread {
    fn decode(&mut self, unit: AccessUnit) {
        let since = unit.arrived_at.duration_since(self.started_at);
        let info = UnitInfo {
            at_us: u64::try_from(since.as_micros()).unwrap_or(0),
            is_keyframe: unit.is_keyframe,
            is_damaged: unit.is_damaged || self.has_gap,
            wants_picture: self
                .stored_at
                .is_none_or(|at| at.elapsed() >= self.slot.look_every() / 4),
        };
        let unit = Keyframe {
            camera: self.slot.camera().clone(),
            seq: 0,
            captured_at: unit.arrived_at,
            codec: self.settings.codec,
            data: unit.data,
        };
        let sets = &self.settings.parameter_sets;
        let decoded = match &mut self.runs {
            Runs::Worker(decoder) => decoder.decode_unit(&unit, info, sets),
            Runs::InProcess(decoder) => decode_here(decoder, &unit, info, sets),
        };
        self.has_gap = decoded.is_err();
        match decoded {
            Ok(None) => {}
            Ok(Some(frame)) => {
                self.stored_at = Some(Instant::now());
                self.slot.set_decode_fault(None);
                self.slot.store_frame(Arc::new(frame));
            }
            Err(error) => self.report(&error),
        }
    }

    fn report(&self, error: &DecodeError) {
        let until = match error {
            DecodeError::Crashed { set_aside_until, .. } => {
                self.slot.count_crash();
                tracing::warn!("{error}");
                *set_aside_until
            }
            DecodeError::SetAside { until, .. } => Some(*until),
            // Another one follows in a moment.
            DecodeError::Known { .. } | DecodeError::Damaged { .. } => None,
            other => {
                let text = format!("no keyframes, and the decoder for all pictures does not work: {other}");
                *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                None
            }
        };
        if let Some(until) = until {
            let reason = "its pictures ended three decode workers within an hour".to_owned();
            self.slot
                .set_decode_fault(Some(CameraState::SetAside { reason, until }));
        }
    }
}

fn decode_here(
    decoder: &mut Option<StreamDecoder>,
    unit: &Keyframe,
    info: UnitInfo,
    parameter_sets: &[u8],
) -> Result<Option<Frame>, DecodeError> {
    let (running, data) = match decoder {
        Some(running) => (running, unit.data.clone()),
        None => {
            let new = StreamDecoder::new("stream", unit.codec).map_err(DecodeError::Broken)?;
            (decoder.insert(new), [parameter_sets, &unit.data].concat().into())
        }
    };
    if let Err(error) = running.decode(data, info) {
        *decoder = None;
        return Err(DecodeError::Broken(error));
    }
    let picture = if info.wants_picture {
        running.take_picture()
    } else {
        None
    };
    Ok(picture.map(|frame| Frame {
        captured_at: unit.captured_at - stream::age(info, &frame),
        ..frame
    }))
}
