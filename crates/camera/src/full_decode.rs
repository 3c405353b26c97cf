//! Fallback for streams without usable keyframes: decodes every frame and stores the newest.
//!
//! One decoder per degraded camera, at about twenty times the cost of decoding keyframes on demand. A frame is stored only
//! if none of its reference frames is known to be damaged: from a complete keyframe, or from the end of a recovery point's
//! refresh (intra refresh), until the next packet loss or concealment.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use gridwatch_bitstream::sei;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use jiff::Timestamp;

use super::{
    Codec, Slot,
    decode::pipeline,
    gst_frame::{self, ConcealmentCount},
};

/// Access units that may queue for the decoder. A longer queue means that the decoder cannot keep up.
const MAX_QUEUED: u64 = 64;

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

/// A decoder for all frames of one stream.
pub(super) struct FullDecoder {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    shared: Arc<Shared>,
    codec: Codec,
    started_at: Timestamp,
    references: ReferenceState,
    /// Parameter sets to prepend to the next access unit.
    parameter_sets: Mutex<Option<Vec<u8>>>,
    broken: bool,
}

/// State shared by the receiver and the decoder's thread.
#[derive(Default)]
struct Shared {
    /// Frames from this stream time on, in nanoseconds, are intact; `u64::MAX` while none are.
    intact_from: AtomicU64,
    /// The decoder concealed errors since the last access unit.
    concealed: AtomicBool,
}

/// Whether the reference frames of the next access unit are intact. Pure.
#[derive(Debug, Default, PartialEq)]
enum ReferenceState {
    Intact,
    /// Intact after this many more access units.
    Recovering(u32),
    #[default]
    Damaged,
}

impl ReferenceState {
    /// The state after an access unit. `recovery` is the unit's recovery point, in pictures.
    fn next(self, is_keyframe: bool, is_damaged: bool, recovery: Option<u32>) -> Self {
        let before = if is_damaged { Self::Damaged } else { self };
        match (before, recovery) {
            _ if is_keyframe => Self::Intact,
            (Self::Damaged, Some(0)) | (Self::Recovering(0), _) => Self::Intact,
            (Self::Damaged, Some(pictures)) => Self::Recovering(pictures - 1),
            (Self::Recovering(left), _) => Self::Recovering(left - 1),
            (same, _) => same,
        }
    }
}

impl FullDecoder {
    /// Starts a decoder that stores at most one frame per `every` in `slot`.
    pub(super) fn start(codec: Codec, slot: Arc<Slot>, every: Duration) -> Result<Self, String> {
        gst_frame::init().map_err(|e| e.to_string())?;
        let started_at = Timestamp::now();
        let source = gst_app::AppSrc::builder()
            .name("full")
            .caps(&pipeline::byte_stream_caps(codec))
            .format(gst::Format::Time)
            .is_live(true)
            .max_bytes(0)
            .build();
        let sink = gst_frame::frame_sink();
        sink.set_max_buffers(1);
        sink.set_drop(true);
        let concealments = ConcealmentCount::default();
        let pipeline = pipeline::build_pipeline(&source, codec, &pipeline::software(codec), &sink, &concealments)
            .map_err(|e| e.to_string())?
            .0;
        let shared = Arc::new(Shared {
            intact_from: AtomicU64::new(u64::MAX),
            ..Shared::default()
        });
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample({
                    let shared = Arc::clone(&shared);
                    let mut stored_at: Option<Instant> = None;
                    move |sink| {
                        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                        if concealments.swap(0, Ordering::Relaxed) > 0 {
                            shared.concealed.store(true, Ordering::Relaxed);
                            return Ok(gst::FlowSuccess::Ok);
                        }
                        if stored_at.is_some_and(|at| at.elapsed() < every) {
                            return Ok(gst::FlowSuccess::Ok);
                        }
                        let intact_pts = sample.buffer().and_then(|b| {
                            let corrupted = b.flags().contains(gst::BufferFlags::CORRUPTED);
                            let pts = b.pts().filter(|_| !corrupted)?.nseconds();
                            (pts >= shared.intact_from.load(Ordering::Acquire)).then_some(pts)
                        });
                        if let Some(pts) = intact_pts {
                            let captured_at = started_at + Duration::from_nanos(pts);
                            if let Ok(frame) = gst_frame::frame(&sample, captured_at) {
                                stored_at = Some(Instant::now());
                                slot.store_frame(Arc::new(frame));
                            }
                        }
                        Ok(gst::FlowSuccess::Ok)
                    }
                })
                .build(),
        );
        let this = Self {
            pipeline,
            source,
            shared,
            codec,
            started_at,
            references: ReferenceState::default(),
            parameter_sets: Mutex::new(None),
            broken: false,
        };
        this.pipeline
            .set_state(gst::State::Playing)
            .map_err(|e| e.to_string())?;
        Ok(this)
    }

    /// True after the pipeline has failed; it must be replaced.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Sets parameter sets (Annex B) to insert before the next access unit: a stream without keyframes may never send them
    /// in band.
    pub(super) fn set_parameter_sets(&self, sets: Option<Vec<u8>>) {
        *self.parameter_sets.lock().unwrap_or_else(PoisonError::into_inner) = sets;
    }

    /// Decodes the next access unit of the stream.
    pub(super) fn push(&mut self, unit: AccessUnit) {
        if gst_frame::bus_error(&self.pipeline).is_some() {
            self.broken = true;
            return;
        }
        let queue_full = self.source.current_level_buffers() >= MAX_QUEUED;
        let concealed = self.shared.concealed.swap(false, Ordering::Relaxed);
        let recovery = sei::recovery_point(self.codec, &unit.data);
        let references = std::mem::take(&mut self.references);
        self.references = references.next(
            unit.is_keyframe && !queue_full,
            unit.is_damaged || concealed || queue_full,
            recovery,
        );
        let since = unit.arrived_at.duration_since(self.started_at);
        let pts = u64::try_from(since.as_nanos()).unwrap_or(0);
        match self.references {
            ReferenceState::Intact => {
                let _ = self
                    .shared
                    .intact_from
                    .compare_exchange(u64::MAX, pts, Ordering::AcqRel, Ordering::Relaxed);
            }
            _ => self.shared.intact_from.store(u64::MAX, Ordering::Release),
        }
        if queue_full {
            return;
        }
        let sets = self
            .parameter_sets
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let data = match sets {
            // Once per connection and after each change.
            Some(mut sets) => {
                sets.extend_from_slice(&unit.data);
                Bytes::from(sets)
            }
            None => unit.data,
        };
        let mut buffer = gst::Buffer::from_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(pts));
            buffer.set_dts(gst::ClockTime::from_nseconds(pts));
            if !unit.is_keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        self.broken = self.source.push_buffer(buffer).is_err();
    }
}

impl Drop for FullDecoder {
    fn drop(&mut self) {
        let pipeline = self.pipeline.clone();
        // Stopping waits for the decoder's thread, so it must not happen on the receivers' runtime.
        let _ = std::thread::Builder::new()
            .name("full-stop".into())
            .spawn(move || pipeline.set_state(gst::State::Null));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_intact_from_a_keyframe_to_the_next_loss() {
        let r = ReferenceState::default();
        assert_eq!(r, ReferenceState::Damaged);
        let r = r.next(false, false, None);
        assert_eq!(r, ReferenceState::Damaged, "joined mid-GOP");
        let r = r.next(true, true, None);
        assert_eq!(r, ReferenceState::Intact, "a keyframe needs no references");
        let r = r.next(false, false, None);
        assert_eq!(r, ReferenceState::Intact);
        assert_eq!(r.next(false, true, None), ReferenceState::Damaged);
    }

    #[test]
    fn recovery_point_restores_references_after_its_pictures() {
        let r = ReferenceState::Damaged.next(false, false, Some(2));
        let r = r.next(false, false, None);
        assert_eq!(r, ReferenceState::Recovering(0));
        assert_eq!(r.next(false, false, Some(2)), ReferenceState::Intact);
        let r = ReferenceState::Recovering(1).next(false, true, Some(3));
        assert_eq!(r, ReferenceState::Recovering(2), "a loss restarts the recovery");
        assert_eq!(
            ReferenceState::Intact.next(false, false, Some(9)),
            ReferenceState::Intact
        );
        assert_eq!(
            ReferenceState::Damaged.next(false, false, Some(0)),
            ReferenceState::Intact
        );
    }
}
