//! What one camera's receiver and viewers share: the muxer, the newest fragments, and why there are none.
//!
//! Fragments are numbered. A viewer is a number, so that there is nothing to copy to it and nothing that it can fill. Kept are the newest
//! GOP, from which new viewers start, and those before it for as long as [`SLACK`], so that a viewer that is a moment late misses nothing;
//! all of it within the limit of bytes.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gridwatch_fmp4::{Fragment, InitSegment, Muxer, Unit};
use gridwatch_rtsp::{AccessUnit, UnitKind};
use jiff::Timestamp;
use tokio::sync::{Notify, futures::Notified};

use super::{LiveChunk, NotAvailable};
use crate::Codec;

/// So much video before the newest GOP is kept for viewers that are late.
const SLACK: Duration = Duration::from_secs(2);

/// Where a camera's pictures come from, as far as live video is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VideoSource {
    /// Nothing receives the camera.
    None,
    /// The built-in client does; the camera has not described its stream yet.
    Pending,
    /// Access units come.
    Video {
        codec: Codec,
        /// Units of its RTP timestamps a second.
        clock_rate: u32,
    },
    MotionJpeg,
    #[cfg_attr(
        not(feature = "gst"),
        expect(dead_code, reason = "GStreamer sources need the feature")
    )]
    Gstreamer,
}

impl VideoSource {
    fn refusal(self) -> Option<NotAvailable> {
        match self {
            Self::None => Some(NotAvailable::NotReceived),
            Self::MotionJpeg => Some(NotAvailable::MotionJpeg),
            Self::Gstreamer => Some(NotAvailable::Gstreamer),
            Self::Pending | Self::Video { .. } => None,
        }
    }
}

/// Counters of a camera's live views since the daemon started, and what there is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveStats {
    /// Open views.
    pub views: usize,
    /// Fragments written, once for all viewers.
    pub fragments: u64,
    /// Access units that were left out: damaged, or not to be written.
    pub left_out: u64,
    /// Times that a viewer was too slow and skipped to a keyframe.
    pub skips: u64,
    /// Fragments kept now.
    pub kept: usize,
    /// Their bytes.
    pub kept_bytes: usize,
}

/// Where a viewer is.
#[derive(Debug)]
pub(super) struct Position {
    /// When this one is over, the view is.
    generation: u64,
    /// Number of the fragment that comes next.
    next: u64,
    /// The next one must be a keyframe.
    needs_keyframe: bool,
    /// Fragments were left out.
    has_gap: bool,
    /// The segment that the viewer has.
    init: Option<Arc<InitSegment>>,
    /// Number of the last interruption that was told.
    told: u64,
    is_over: bool,
}

/// What [`LiveHub::next`] found.
pub(super) enum Next {
    Chunk(LiveChunk),
    /// Wait for [`LiveHub::changed`].
    Nothing,
    /// There will be nothing more.
    Over,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct LiveHub {
    /// Outside the lock, because the receiver looks whenever something arrives.
    is_watched: AtomicBool,
    changed: Notify,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    source: VideoSource,
    /// The newest receiver.
    receiver: u64,
    /// Grows when all views end.
    generation: u64,
    muxer: Option<Muxer>,
    kept: Kept,
    /// Why no video comes.
    interruption: Option<String>,
    interruptions: u64,
    /// Why the views of the generation before ended.
    end_reason: String,
    stats: LiveStats,
}

/// The newest fragments.
#[derive(Debug, Default)]
struct Kept {
    fragments: VecDeque<(Fragment, Timestamp)>,
    /// Number of the first.
    first: u64,
    /// Numbers of the keyframes among them.
    keyframes: VecDeque<u64>,
    bytes: usize,
    limit: usize,
}

impl LiveHub {
    pub(crate) fn new() -> Self {
        Self {
            is_watched: AtomicBool::new(false),
            changed: Notify::new(),
            shared: Mutex::new(Shared {
                source: VideoSource::None,
                receiver: 0,
                generation: 0,
                muxer: None,
                kept: Kept::default(),
                interruption: None,
                interruptions: 0,
                end_reason: String::new(),
                stats: LiveStats::default(),
            }),
        }
    }

    /// Whether anybody watches: then all access units are to be offered.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// A receiver begins, and ends the views of another one. Returns its number, for [`LiveHub::close`].
    pub(crate) fn open(&self, source: VideoSource) -> u64 {
        let mut shared = self.lock();
        if shared.source != VideoSource::None {
            self.end(&mut shared, "the camera is received anew");
        }
        shared.source = source;
        shared.interruption = None;
        shared.receiver += 1;
        shared.receiver
    }

    /// The receiver with this number ends, and with it its views.
    pub(crate) fn close(&self, receiver: u64) {
        let mut shared = self.lock();
        // Another receiver may have taken over already.
        if shared.receiver == receiver {
            self.end(&mut shared, "the camera is no longer received");
            shared.source = VideoSource::None;
        }
    }

    /// Ends all views.
    fn end(&self, shared: &mut Shared, reason: &str) {
        shared.generation += 1;
        reason.clone_into(&mut shared.end_reason);
        shared.interruption = None;
        shared.stats.views = 0;
        self.release(shared);
        self.changed.notify_waiters();
    }

    /// A connection begins, whose stream is this.
    pub(crate) fn begin(&self, source: VideoSource) {
        let mut shared = self.lock();
        shared.interruption = None;
        shared.source = source;
        match (source, &mut shared.muxer) {
            (VideoSource::Video { codec, clock_rate }, Some(muxer)) => muxer.restart(codec, clock_rate),
            (VideoSource::Video { .. }, None) => {}
            (other, _) => {
                let reason = other.refusal().map(|refusal| refusal.to_string());
                self.end(&mut shared, &reason.unwrap_or_default());
            }
        }
    }

    /// No video comes, for this reason, until [`LiveHub::begin`] or another picture.
    pub(crate) fn interrupt(&self, reason: &str) {
        let mut shared = self.lock();
        if let Some(last) = shared.muxer.as_mut().and_then(Muxer::flush) {
            shared.keep(last);
        }
        shared.skip_to_keyframe();
        if shared.interruption.as_deref() != Some(reason) {
            shared.interrupt(reason);
        }
        self.changed.notify_waiters();
    }

    /// No keyframe comes: tells those who have no video yet why.
    pub(crate) fn waits_for_keyframe(&self, reason: &str) {
        let mut shared = self.lock();
        let is_written = shared.muxer.as_ref().is_some_and(Muxer::is_writing);
        if !is_written && shared.interruption.as_deref() != Some(reason) {
            shared.interrupt(reason);
            self.changed.notify_waiters();
        }
    }

    /// A picture is missing: those that follow are left out up to the next keyframe.
    pub(crate) fn skip_to_keyframe(&self) {
        self.lock().skip_to_keyframe();
    }

    /// Takes the next access unit in decoding order.
    pub(crate) fn offer(&self, unit: &AccessUnit) {
        let mut shared = self.lock();
        let VideoSource::Video { codec, clock_rate } = shared.source else {
            return;
        };
        // The last viewer may have left since the unit was assembled.
        if shared.stats.views == 0 {
            return;
        }
        let muxer = shared.muxer.get_or_insert_with(|| Muxer::new(codec, clock_rate));
        if !unit.is_complete {
            muxer.interrupt();
            shared.stats.left_out += 1;
            return;
        }
        let unit = Unit {
            data: &unit.data,
            is_keyframe: unit.kind == UnitKind::Keyframe,
            rtp_timestamp: unit.rtp_timestamp,
            received_at: unit.last_packet_at,
        };
        match muxer.push(unit) {
            Ok(Some(fragment)) => {
                shared.interruption = None;
                shared.keep(fragment);
                self.changed.notify_waiters();
            }
            Ok(None) => {}
            Err(error) => {
                shared.stats.left_out += 1;
                let reason = error.to_string();
                if shared.interruption.as_ref() != Some(&reason) {
                    shared.interrupt(&reason);
                    self.changed.notify_waiters();
                }
            }
        }
    }

    /// A viewer comes. `limit`: bytes of fragments that may be kept.
    pub(super) fn join(&self, limit: usize) -> Result<Position, NotAvailable> {
        let mut shared = self.lock();
        if let Some(refusal) = shared.source.refusal() {
            return Err(refusal);
        }
        shared.stats.views += 1;
        shared.kept.limit = limit;
        self.is_watched.store(true, Ordering::Relaxed);
        // Where nothing comes for now, what is kept is the past.
        let newest = shared.kept.keyframes.back().filter(|_| shared.interruption.is_none());
        Ok(Position {
            generation: shared.generation,
            next: newest.copied().unwrap_or(shared.kept.end()),
            needs_keyframe: true,
            has_gap: false,
            init: None,
            told: 0,
            is_over: false,
        })
    }

    /// A viewer goes.
    pub(super) fn leave(&self, position: &Position) {
        let mut shared = self.lock();
        if position.generation != shared.generation {
            return;
        }
        shared.stats.views = shared.stats.views.saturating_sub(1);
        if shared.stats.views == 0 {
            self.release(&mut shared);
        }
    }

    /// Frees what is kept for viewers.
    fn release(&self, shared: &mut Shared) {
        self.is_watched.store(false, Ordering::Relaxed);
        shared.muxer = None;
        let end = shared.kept.end();
        shared.kept = Kept {
            first: end,
            ..Kept::default()
        };
    }

    /// Waits for a change. To be enabled before looking.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// What comes next for the viewer.
    pub(super) fn next(&self, position: &mut Position) -> Next {
        let mut shared = self.lock();
        if position.is_over {
            return Next::Over;
        }
        if position.generation != shared.generation {
            position.is_over = true;
            let reason = shared.end_reason.clone();
            return Next::Chunk(LiveChunk::Ended { reason });
        }
        if position.next < shared.kept.first {
            position.next = shared.kept.first;
            position.needs_keyframe = true;
            position.has_gap |= position.init.is_some();
            shared.stats.skips += 1;
        }
        if position.needs_keyframe {
            let newest = shared.kept.keyframes.back().copied();
            match newest.filter(|at| *at >= position.next) {
                Some(at) => (position.next, position.needs_keyframe) = (at, false),
                None => position.next = shared.kept.end(),
            }
        }
        match shared.kept.get(position.next) {
            Some((fragment, at)) => Next::Chunk(position.advance(fragment, *at)),
            None => shared.interruption_for(position),
        }
    }

    pub(super) fn stats(&self) -> LiveStats {
        let shared = self.lock();
        LiveStats {
            kept: shared.kept.fragments.len(),
            kept_bytes: shared.kept.bytes,
            ..shared.stats
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // No code that holds this lock can panic and leave the state half updated.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Position {
    /// The fragment, or the initialization segment that it needs.
    fn advance(&mut self, fragment: &Fragment, at: Timestamp) -> LiveChunk {
        let init = &fragment.init;
        if !self.init.as_ref().is_some_and(|known| Arc::ptr_eq(known, init)) {
            self.init = Some(Arc::clone(init));
            return LiveChunk::Init {
                codec: init.codec.clone(),
                bytes: init.bytes.clone(),
                width: init.width,
                height: init.height,
            };
        }
        self.next += 1;
        LiveChunk::Fragment {
            bytes: fragment.bytes.clone(),
            is_key: fragment.is_keyframe,
            at,
            shown_at: fragment.shown_at,
            is_after_gap: std::mem::take(&mut self.has_gap),
        }
    }
}

impl Shared {
    fn interrupt(&mut self, reason: &str) {
        self.interruption = Some(reason.to_owned());
        self.interruptions += 1;
    }

    fn skip_to_keyframe(&mut self) {
        if let Some(muxer) = &mut self.muxer {
            muxer.interrupt();
        }
    }

    /// Tells a viewer that has everything why nothing more comes, once.
    fn interruption_for(&self, position: &mut Position) -> Next {
        match &self.interruption {
            Some(reason) if position.told != self.interruptions => {
                position.told = self.interruptions;
                position.needs_keyframe = true;
                position.init = None;
                Next::Chunk(LiveChunk::Ended { reason: reason.clone() })
            }
            _ => Next::Nothing,
        }
    }

    fn keep(&mut self, fragment: Fragment) {
        self.stats.fragments += 1;
        let at = wall_clock(fragment.received_at);
        self.kept.push(fragment, at);
    }
}

impl Kept {
    /// Number of the fragment that comes next.
    fn end(&self) -> u64 {
        self.first + self.fragments.len() as u64
    }

    fn get(&self, number: u64) -> Option<&(Fragment, Timestamp)> {
        let index = number.checked_sub(self.first)?;
        self.fragments.get(usize::try_from(index).ok()?)
    }

    fn push(&mut self, fragment: Fragment, at: Timestamp) {
        let newest = fragment.shown_at;
        if fragment.is_keyframe {
            self.keyframes.push_back(self.end());
        }
        self.bytes += fragment.bytes.len();
        self.fragments.push_back((fragment, at));
        // Whole GOPs, as long as those after them reach back far enough.
        while let Some(second) = self.keyframes.get(1).copied()
            && self
                .get(second)
                .is_some_and(|(keyframe, _)| newest.saturating_sub(keyframe.shown_at) >= SLACK)
        {
            while self.first < second {
                self.drop_first();
            }
        }
        while self.bytes > self.limit && self.fragments.len() > 1 {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some((fragment, _)) = self.fragments.pop_front() else {
            return;
        };
        self.bytes -= fragment.bytes.len();
        if self.keyframes.front() == Some(&self.first) {
            self.keyframes.pop_front();
        }
        self.first += 1;
    }
}

/// The wall clock's time of a moment that has passed.
fn wall_clock(moment: Instant) -> Timestamp {
    let now = Timestamp::now();
    now.checked_sub(moment.elapsed()).unwrap_or(now)
}

#[cfg(test)]
mod tests;
