//! What the receiver hands out: a bounded queue, the counters, and the limits on reports.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    problem::{NO_KEYFRAMES_AFTER, ProblemLimiter, StreamProblem},
    video::{AccessUnit, StreamCounters, UnitKind, VideoOutput},
};

/// Outputs that may wait for `poll`. Callers poll after each packet, which can release the reorder buffer's 64.
const MAX_QUEUED_OUTPUTS: usize = 128;
/// Bytes of access units that may wait for `poll`: two of the largest.
const MAX_QUEUED_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) counters: StreamCounters,
    queue: VecDeque<VideoOutput>,
    bytes: usize,
    limiter: ProblemLimiter,
    /// Arrival of the newest keyframe, or the beginning.
    keyframe_at: Instant,
}

impl Outputs {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            counters: StreamCounters::default(),
            queue: VecDeque::new(),
            bytes: 0,
            limiter: ProblemLimiter::default(),
            keyframe_at: now,
        }
    }

    pub(crate) fn pop(&mut self) -> Option<VideoOutput> {
        let output = self.queue.pop_front()?;
        self.bytes -= len(&output);
        Some(output)
    }

    /// Queues an output. If the caller does not poll, the oldest ones go.
    pub(crate) fn push(&mut self, output: VideoOutput) {
        self.bytes += len(&output);
        self.queue.push_back(output);
        while self.queue.len() > MAX_QUEUED_OUTPUTS || (self.bytes > MAX_QUEUED_BYTES && self.queue.len() > 1) {
            self.pop();
            self.counters.dropped_outputs += 1;
        }
    }

    /// Queues an access unit and counts it.
    pub(crate) fn unit(&mut self, unit: AccessUnit) {
        if unit.kind == UnitKind::Keyframe {
            let counter = match unit.is_complete {
                true => &mut self.counters.keyframes,
                false => &mut self.counters.damaged_keyframes,
            };
            *counter += 1;
            self.keyframe_at = unit.last_packet_at;
        }
        self.push(VideoOutput::Unit(unit));
    }

    /// Checks, when a delta unit begins, how long ago the last keyframe came.
    #[inline]
    pub(crate) fn delta_begins(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.keyframe_at);
        if since >= NO_KEYFRAMES_AFTER {
            self.no_keyframes(since, now);
        }
    }

    #[cold]
    fn no_keyframes(&mut self, since: Duration, now: Instant) {
        self.problem(StreamProblem::NoKeyframes { since }, now);
    }

    pub(crate) fn problem(&mut self, problem: StreamProblem, now: Instant) {
        if self.limiter.admits(&problem, now) {
            self.push(VideoOutput::Problem(problem));
        }
    }
}

fn len(output: &VideoOutput) -> usize {
    match output {
        VideoOutput::Unit(unit) => unit.data.capacity(),
        _ => 0,
    }
}
