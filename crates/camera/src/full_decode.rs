//! The fall-back for streams that have no keyframes to live on: every picture is decoded, the newest is shown.
//!
//! Owns one decoder for one camera, as long as the camera is degraded; twenty times the work of a keyframe now and
//! then. It shows a picture only when nothing in its past is known to be missing: from a whole keyframe, or from a
//! recovery point (intra refresh) that has run its course, until the next loss or the decoder's next complaint.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use jiff::Timestamp;

use super::{
    Codec, Slot, annexb, decode,
    gst_frame::{self, Complaints},
};

/// Access units that may wait for the decoder. More than this and the box does not keep up.
const MAX_WAITING: u64 = 64;

/// An access unit as it arrived.
pub(super) struct Unit {
    /// Annex B.
    pub(super) data: Bytes,
    /// A whole keyframe.
    pub(super) keyframe: bool,
    /// Something before it, or in it, is missing.
    pub(super) torn: bool,
    /// Its arrival.
    pub(super) at: Timestamp,
}

/// A decoder that follows one stream.
pub(super) struct FullDecode {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    shared: Arc<Shared>,
    codec: Codec,
    began: Timestamp,
    health: Health,
    parameters: Mutex<Option<Vec<u8>>>,
    broken: bool,
}

/// Between the receiver and the decoder's thread.
#[derive(Default)]
struct Shared {
    /// Pictures of this stream time, in nanoseconds, and later are whole; `u64::MAX` while none is.
    clean_from: AtomicU64,
    /// The decoder made something up.
    complained: AtomicBool,
}

/// Since when the pictures are whole. Pure.
#[derive(Debug, Default, PartialEq)]
enum Health {
    Clean,
    /// Whole after this many more access units.
    Recovering(u32),
    #[default]
    Torn,
}

impl Health {
    /// The state from this access unit on. `recovery` is the unit's recovery point, in pictures.
    fn next(self, keyframe: bool, torn: bool, recovery: Option<u32>) -> Self {
        let before = if torn { Self::Torn } else { self };
        match (before, recovery) {
            _ if keyframe => Self::Clean,
            (Self::Torn, Some(0)) | (Self::Recovering(0), _) => Self::Clean,
            (Self::Torn, Some(pictures)) => Self::Recovering(pictures - 1),
            (Self::Recovering(left), _) => Self::Recovering(left - 1),
            (same, _) => same,
        }
    }
}

impl FullDecode {
    /// Starts a decoder that shows a picture every `every` at most.
    pub(super) fn start(codec: Codec, slot: Arc<Slot>, every: Duration) -> Result<Self, String> {
        gst_frame::init().map_err(|e| e.to_string())?;
        let began = Timestamp::now();
        let source = gst_app::AppSrc::builder()
            .name("full")
            .caps(&decode::form(codec))
            .format(gst::Format::Time)
            .is_live(true)
            .max_bytes(0)
            .build();
        let sink = gst_frame::picture_sink();
        sink.set_max_buffers(1);
        sink.set_drop(true);
        let complaints = Complaints::default();
        let pipeline = decode::chain(&source, codec, decode::software(codec), &sink, &complaints)
            .map_err(|e| e.to_string())?
            .0;
        let shared = Arc::new(Shared {
            clean_from: AtomicU64::new(u64::MAX),
            ..Shared::default()
        });
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample({
                    let shared = Arc::clone(&shared);
                    let mut shown: Option<Instant> = None;
                    move |sink| {
                        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                        if complaints.swap(0, Ordering::Relaxed) > 0 {
                            shared.complained.store(true, Ordering::Relaxed);
                            return Ok(gst::FlowSuccess::Ok);
                        }
                        if shown.is_some_and(|at| at.elapsed() < every) {
                            return Ok(gst::FlowSuccess::Ok);
                        }
                        let whole = sample.buffer().and_then(|b| {
                            let corrupted = b.flags().contains(gst::BufferFlags::CORRUPTED);
                            let at = b.pts().filter(|_| !corrupted)?.nseconds();
                            (at >= shared.clean_from.load(Ordering::Acquire)).then_some(at)
                        });
                        if let Some(at) = whole {
                            let at = began + Duration::from_nanos(at);
                            if let Ok(frame) = gst_frame::frame(&sample, at) {
                                shown = Some(Instant::now());
                                slot.offer_frame(Arc::new(frame));
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
            began,
            health: Health::default(),
            parameters: Mutex::new(None),
            broken: false,
        };
        this.pipeline
            .set_state(gst::State::Playing)
            .map_err(|e| e.to_string())?;
        Ok(this)
    }

    /// True once the decoder gave up; a new one is needed.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Parameter sets, Annex B, to go before the next unit: a stream without keyframes may never carry them in band.
    pub(super) fn parameters(&self, sets: Option<Vec<u8>>) {
        *self.parameters.lock().unwrap_or_else(PoisonError::into_inner) = sets;
    }

    /// The next access unit of the stream.
    pub(super) fn push(&mut self, unit: Unit) {
        if gst_frame::bus_error(&self.pipeline).is_some() {
            self.broken = true;
            return;
        }
        let full = self.source.current_level_buffers() >= MAX_WAITING;
        let complained = self.shared.complained.swap(false, Ordering::Relaxed);
        let recovery = annexb::recovery_point(self.codec, &unit.data);
        let health = std::mem::take(&mut self.health);
        self.health = health.next(unit.keyframe && !full, unit.torn || complained || full, recovery);
        let since = unit.at.duration_since(self.began);
        let at = u64::try_from(since.as_nanos()).unwrap_or(0);
        match self.health {
            Health::Clean => {
                let _ = self
                    .shared
                    .clean_from
                    .compare_exchange(u64::MAX, at, Ordering::AcqRel, Ordering::Relaxed);
            }
            _ => self.shared.clean_from.store(u64::MAX, Ordering::Release),
        }
        if full {
            return;
        }
        let sets = self.parameters.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let data = match sets {
            // Once a connection, and at each change.
            Some(mut sets) => {
                sets.extend_from_slice(&unit.data);
                Bytes::from(sets)
            }
            None => unit.data,
        };
        let mut buffer = gst::Buffer::from_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(at));
            buffer.set_dts(gst::ClockTime::from_nseconds(at));
            if !unit.keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        self.broken = self.source.push_buffer(buffer).is_err();
    }
}

impl Drop for FullDecode {
    fn drop(&mut self) {
        let pipeline = self.pipeline.clone();
        // Joins the decoder's thread, which may be in the middle of a picture: not on the receivers' runtime.
        let _ = std::thread::Builder::new()
            .name("full-stop".into())
            .spawn(move || pipeline.set_state(gst::State::Null));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_from_a_keyframe_until_a_loss() {
        let h = Health::default();
        assert_eq!(h, Health::Torn);
        let h = h.next(false, false, None);
        assert_eq!(h, Health::Torn, "joined in the middle");
        let h = h.next(true, true, None);
        assert_eq!(h, Health::Clean, "a keyframe needs no past");
        let h = h.next(false, false, None);
        assert_eq!(h, Health::Clean);
        assert_eq!(h.next(false, true, None), Health::Torn);
    }

    #[test]
    fn a_recovery_point_takes_its_pictures() {
        let h = Health::Torn.next(false, false, Some(2));
        let h = h.next(false, false, None);
        assert_eq!(h, Health::Recovering(0));
        assert_eq!(h.next(false, false, Some(2)), Health::Clean);
        let h = Health::Recovering(1).next(false, true, Some(3));
        assert_eq!(h, Health::Recovering(2), "a loss starts it anew");
        assert_eq!(Health::Clean.next(false, false, Some(9)), Health::Clean);
        assert_eq!(Health::Torn.next(false, false, Some(0)), Health::Clean);
    }
}
