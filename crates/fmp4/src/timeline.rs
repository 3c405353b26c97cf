//! Decoding and composition times from RTP timestamps, which say when a picture is shown and wrap every 13 hours.
//!
//! Pictures come in decoding order. Where no picture is reordered, both times are the same. Otherwise a picture is decoded at the time at
//! which, `depth` pictures ago, one was shown: the times of showing, sorted and delayed by the number of reordered pictures. Decoding times
//! always grow, whatever a camera sends; composition times may lie before them.
//!
//! A timestamp that repeats or jumps (a camera that sets its clock, or starts anew) is replaced by the time of arrival, so that a player
//! sees neither a gap nor a step back.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::TIMESCALE;

/// Composition time of the first picture, in ticks: room for the decoding times of reordered pictures before it.
const ORIGIN: i64 = 2 * TIMESCALE as i64;
/// Larger steps of a timestamp are jumps. Cameras pause up to some seconds between pictures ("smart" codecs, one picture a second), and
/// reordered pictures lie within a fraction of a second.
const MAX_STEP: i64 = 10 * TIMESCALE as i64;
const MAX_STEP_BACK: i64 = TIMESCALE as i64;
/// Shortest time between two pictures that share a timestamp: a thousand pictures a second.
const MIN_STEP: i64 = TIMESCALE as i64 / 1_000;
/// Most pictures that a stream may reorder: the capacity of a decoder's buffer (H.264 A.3.1, H.265 A.4.1).
pub(crate) const MAX_DEPTH: usize = 16;
/// Duration of a picture before any was measured: 25 pictures a second.
const USUAL_DURATION: i64 = TIMESCALE as i64 / 25;

/// When a picture is decoded and shown, in ticks of [`TIMESCALE`] since the timeline began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PictureTime {
    pub(crate) decode: i64,
    pub(crate) composition: i64,
}

/// The newest RTP timestamp.
#[derive(Debug, Clone, Copy)]
struct Reference {
    rtp: u32,
    composition: i64,
    received_at: Instant,
}

/// The times of one stream, and of those that continue it.
#[derive(Debug)]
pub(crate) struct Timeline {
    clock_rate: u32,
    reference: Option<Reference>,
    /// Latest composition time so far.
    newest: i64,
    /// Newest decoding time.
    decoded: Option<i64>,
    /// Time between two decoded pictures, as last measured.
    interval: i64,
    /// Pictures that may be reordered.
    depth: usize,
    /// Composition times of pictures for which no decoding time was taken, in order; at most `depth` after each call.
    waiting: Vec<i64>,
    /// Composition times of the newest pictures since the beginning or the last gap, at most `MAX_DEPTH`.
    recent: VecDeque<i64>,
}

impl Timeline {
    pub(crate) fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate: rate(clock_rate),
            reference: None,
            newest: ORIGIN,
            decoded: None,
            interval: USUAL_DURATION,
            depth: 0,
            waiting: Vec::new(),
            recent: VecDeque::new(),
        }
    }

    /// Another stream begins, and continues directly after the newest picture.
    pub(crate) fn restart(&mut self, clock_rate: u32) {
        self.clock_rate = rate(clock_rate);
        if self.reference.take().is_some() {
            self.newest = self.newest.max(self.decoded.unwrap_or_default()) + self.interval;
        }
        self.depth = 0;
        self.gap();
    }

    /// Pictures are missing: the next one is a keyframe and is not preceded by any that is shown later.
    pub(crate) fn gap(&mut self) {
        self.waiting.clear();
        self.recent.clear();
    }

    /// How many pictures may be reordered, as the parameter sets say.
    pub(crate) fn set_depth(&mut self, depth: usize) {
        self.depth = depth.min(MAX_DEPTH);
    }

    /// Duration of a picture that none follows.
    pub(crate) fn usual_duration(&self) -> i64 {
        self.interval
    }

    /// The times of the next picture in decoding order.
    pub(crate) fn next(&mut self, rtp: u32, received_at: Instant) -> PictureTime {
        let composition = self.composition(rtp, received_at);
        self.reference = Some(Reference {
            rtp,
            composition,
            received_at,
        });
        self.newest = self.newest.max(composition);
        let decode = self.decode(composition);
        if let Some(before) = self.decoded {
            // A pause is not the usual duration.
            let step = decode - before;
            if (MIN_STEP..=i64::from(TIMESCALE)).contains(&step) {
                self.interval = step;
            }
        }
        self.decoded = Some(decode);
        PictureTime { decode, composition }
    }

    fn composition(&self, rtp: u32, received_at: Instant) -> i64 {
        let Some(reference) = self.reference else {
            return self.newest;
        };
        // The difference of the shorter way round.
        let step =
            i64::from(rtp.wrapping_sub(reference.rtp) as i32) * i64::from(TIMESCALE) / i64::from(self.clock_rate);
        let composition = reference.composition.saturating_add(step);
        let is_plausible = step != 0 && step <= MAX_STEP && composition >= self.newest - MAX_STEP_BACK;
        if is_plausible {
            return composition;
        }
        let elapsed = ticks(received_at.saturating_duration_since(reference.received_at));
        self.newest.saturating_add(elapsed.clamp(MIN_STEP, MAX_STEP))
    }

    fn decode(&mut self, composition: i64) -> i64 {
        // Pictures that came before and are shown later may be more than the parameter sets say, or they say nothing.
        let later = self.recent.iter().filter(|t| **t > composition).count();
        self.depth = self.depth.max(later);
        let at = self.waiting.partition_point(|t| *t <= composition);
        self.waiting.insert(at, composition);
        let wanted = if self.waiting.len() > self.depth {
            self.waiting.remove(0)
        } else {
            // The first ones: before the first that is shown.
            let missing = self.depth.saturating_sub(self.recent.len()) as i64;
            self.waiting.first().copied().unwrap_or(composition) - missing * self.interval
        };
        if self.recent.len() == MAX_DEPTH {
            self.recent.pop_front();
        }
        self.recent.push_back(composition);
        match self.decoded {
            Some(before) => wanted.max(before + 1),
            None => wanted.max(0),
        }
    }
}

/// RFC 6184 and RFC 7798 prescribe 90,000; an SDP that says 0 means that.
fn rate(clock_rate: u32) -> u32 {
    if clock_rate == 0 { TIMESCALE } else { clock_rate }
}

fn ticks(duration: Duration) -> i64 {
    let ticks = duration.as_nanos() * u128::from(TIMESCALE) / 1_000_000_000;
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
