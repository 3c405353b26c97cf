//! Decodes every access unit of one stream in this process, and keeps the newest intact picture: the decoder behind `full_decode`.
//!
//! A picture is intact if none of its reference frames is known to be damaged: from a complete keyframe, or from the end of a recovery point's
//! refresh (intra refresh), until the next packet loss or concealment.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use gridwatch_bitstream::sei;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use jiff::Timestamp;

use super::{pipeline, protocol::UnitInfo};
use crate::{
    Codec,
    gst_frame::{self, ConcealmentCount},
};
use gridwatch_frame::Frame;

/// Access units that wait in front of the decoder.
const MAX_QUEUED: u64 = 2;
/// How often a full queue is looked at.
const QUEUE_POLL: Duration = Duration::from_millis(2);

/// A decoder for all pictures of one stream.
pub(crate) struct StreamDecoder {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    shared: Arc<Shared>,
    codec: Codec,
    references: ReferenceState,
    is_playing: bool,
}

/// State shared with the decoder's thread.
struct Shared {
    /// Pictures from this stream time on, in nanoseconds, are intact; `u64::MAX` while none are.
    intact_from: AtomicU64,
    /// The decoder concealed errors since the last access unit.
    concealed: AtomicBool,
    /// The newest intact picture. Its time is [`UnitInfo::at_us`] after 1970.
    newest: Mutex<Option<Frame>>,
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

impl StreamDecoder {
    /// Opens the decoder; no thread runs before the first access unit. Threads are named after `name`.
    pub(crate) fn new(name: &str, codec: Codec) -> Result<Self, String> {
        gst_frame::init().map_err(|e| e.to_string())?;
        let source = gst_app::AppSrc::builder()
            .name(name)
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
            concealed: AtomicBool::new(false),
            newest: Mutex::new(None),
        });
        keep_newest(&sink, &shared, concealments);
        pipeline.set_state(gst::State::Ready).map_err(|e| e.to_string())?;
        Ok(Self {
            pipeline,
            source,
            shared,
            codec,
            references: ReferenceState::default(),
            is_playing: false,
        })
    }

    /// Decodes the next access unit. Waits while the decoder is busy with earlier ones. After an error the decoder must be replaced.
    pub(crate) fn decode(&mut self, data: Bytes, info: UnitInfo) -> Result<(), String> {
        if !self.is_playing {
            self.pipeline
                .set_state(gst::State::Playing)
                .map_err(|e| e.to_string())?;
            self.is_playing = true;
        }
        loop {
            if let Some(error) = gst_frame::bus_error(&self.pipeline) {
                return Err(error);
            }
            if self.source.current_level_buffers() < MAX_QUEUED {
                break;
            }
            std::thread::sleep(QUEUE_POLL);
        }
        let concealed = self.shared.concealed.swap(false, Ordering::Relaxed);
        let recovery = sei::recovery_point(self.codec, &data);
        let references = std::mem::take(&mut self.references);
        self.references = references.next(info.is_keyframe, info.is_damaged || concealed, recovery);
        let pts = info.at_us.saturating_mul(1000);
        match self.references {
            ReferenceState::Intact => {
                let _ = self
                    .shared
                    .intact_from
                    .compare_exchange(u64::MAX, pts, Ordering::AcqRel, Ordering::Relaxed);
            }
            _ => self.shared.intact_from.store(u64::MAX, Ordering::Release),
        }
        let mut buffer = gst::Buffer::from_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(pts));
            buffer.set_dts(gst::ClockTime::from_nseconds(pts));
            if !info.is_keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        match self.source.push_buffer(buffer) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The newest intact picture, once, and its [`UnitInfo::at_us`] as a time after 1970.
    pub(crate) fn take_picture(&self) -> Option<Frame> {
        self.shared.newest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How much older than its access unit a picture of [`StreamDecoder::take_picture`] is.
pub(crate) fn age(info: UnitInfo, frame: &Frame) -> Duration {
    let at = frame.captured_at.duration_since(Timestamp::UNIX_EPOCH).unsigned_abs();
    Duration::from_micros(info.at_us).saturating_sub(at)
}

impl Drop for StreamDecoder {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Keeps the sink's newest picture in `shared` if it is intact.
fn keep_newest(sink: &gst_app::AppSink, shared: &Arc<Shared>, concealments: ConcealmentCount) {
    let shared = Arc::clone(shared);
    let new_sample = move |sink: &gst_app::AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        if concealments.swap(0, Ordering::Relaxed) > 0 {
            shared.concealed.store(true, Ordering::Relaxed);
            return Ok(gst::FlowSuccess::Ok);
        }
        let intact_pts = sample.buffer().and_then(|b| {
            let corrupted = b.flags().contains(gst::BufferFlags::CORRUPTED);
            let pts = b.pts().filter(|_| !corrupted)?.nseconds();
            (pts >= shared.intact_from.load(Ordering::Acquire)).then_some(pts)
        });
        let at = intact_pts.and_then(|pts| Timestamp::UNIX_EPOCH.checked_add(Duration::from_nanos(pts)).ok());
        if let Some(at) = at
            && let Ok(frame) = gst_frame::frame(&sample, at)
        {
            *shared.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame);
        }
        Ok(gst::FlowSuccess::Ok)
    };
    sink.set_callbacks(gst_app::AppSinkCallbacks::builder().new_sample(new_sample).build());
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
