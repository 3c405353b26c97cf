//! What is wrong with a stream, for the operator: at most once a minute for each kind, however often it happens. The
//! counters of [`StreamCounters`](crate::video::StreamCounters) have every case.

use std::time::{Duration, Instant};

/// Time between two reports of the same kind of problem.
pub const PROBLEM_INTERVAL: Duration = Duration::from_secs(60);
/// Time without a keyframe after which [`StreamProblem::NoKeyframes`] is reported. Keyframe intervals of cameras end at
/// 20 s.
pub const NO_KEYFRAMES_AFTER: Duration = Duration::from_secs(30);

/// Something that the camera, or the network, does wrong. Each is reported at most once in [`PROBLEM_INTERVAL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamProblem {
    /// An access unit was dropped because of its size.
    #[error("an access unit exceeds {limit} bytes and was dropped; lower the camera's resolution or bit rate")]
    OversizedUnit {
        /// The limit in bytes.
        limit: usize,
    },
    /// Packets of a kind that is not taken.
    #[error("packets of the type {name} are not supported; set the camera to packetization mode 1 (non-interleaved)")]
    UnsupportedPacketization {
        /// The name of the packet type.
        name: &'static str,
    },
    /// Only pictures that depend on others arrive.
    #[error("no keyframe for {} s, only pictures that depend on others; set the camera's \
         keyframe interval (GOP) to 2 s", .since.as_secs())]
    NoKeyframes {
        /// Time since the last keyframe, or since the stream began.
        since: Duration,
    },
    /// Keyframes cannot be decoded for lack of an SPS or PPS.
    #[error("keyframes arrive, but no SPS and PPS came with them or in SDP; restart the camera or update its firmware")]
    MissingParameterSets,
    /// A parameter set was refused.
    #[error(
        "a parameter set is cut off or exceeds {limit} bytes and was dropped; restart the camera or update its firmware"
    )]
    UnreadableParameterSet {
        /// The limit in bytes.
        limit: usize,
    },
    /// Packets of several payload types, none of which is the announced one.
    #[error(
        "packets of payload type {seen} arrive, but SDP announced {announced}; set the camera to send one video stream"
    )]
    OtherPayloadTypes {
        /// By SDP.
        announced: u8,
        /// In a packet.
        seen: u8,
    },
    /// Packets that are not valid RTP.
    #[error(
        "packets are not valid RTP (version, extension or padding); check what else sends to this port, or update \
         the camera's firmware"
    )]
    MalformedPackets,
    /// A JPEG whose header cannot be written.
    #[error("a JPEG picture cannot be assembled: {reason}")]
    UnusableJpeg {
        /// What is missing, and what to do.
        reason: &'static str,
    },
}

impl StreamProblem {
    /// Number of the kind, below [`KINDS`].
    fn kind(&self) -> usize {
        match self {
            Self::OversizedUnit { .. } => 0,
            Self::UnsupportedPacketization { .. } => 1,
            Self::NoKeyframes { .. } => 2,
            Self::MissingParameterSets => 3,
            Self::UnreadableParameterSet { .. } => 4,
            Self::OtherPayloadTypes { .. } => 5,
            Self::MalformedPackets => 6,
            Self::UnusableJpeg { .. } => 7,
        }
    }
}

const KINDS: usize = 8;

/// Lets each kind of problem through once in [`PROBLEM_INTERVAL`].
#[derive(Debug, Default)]
pub(crate) struct ProblemLimiter {
    reported_at: [Option<Instant>; KINDS],
}

impl ProblemLimiter {
    /// Whether to report the problem now.
    pub(crate) fn admits(&mut self, problem: &StreamProblem, now: Instant) -> bool {
        let reported_at = &mut self.reported_at[problem.kind()];
        let is_due = reported_at.is_none_or(|at| now.saturating_duration_since(at) >= PROBLEM_INTERVAL);
        if is_due {
            *reported_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_admitted_once_a_minute() {
        let now = Instant::now();
        let mut limiter = ProblemLimiter::default();
        let oversized = StreamProblem::OversizedUnit { limit: 1 };
        assert!(limiter.admits(&oversized, now));
        assert!(!limiter.admits(&oversized, now + Duration::from_secs(59)));
        assert!(limiter.admits(&StreamProblem::MissingParameterSets, now));
        assert!(limiter.admits(&oversized, now + PROBLEM_INTERVAL));
    }
}
