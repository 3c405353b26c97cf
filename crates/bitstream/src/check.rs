//! Whether the slices of a keyframe are intact.

use std::fmt;

use crate::{Codec, h264, h265};

/// Largest picture that is checked: `MaxLumaPs` of level 6.2 (H.265, table A.8).
pub(crate) const MAX_LUMA_SAMPLES: u64 = 35_651_584;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Every slice ends exactly where it should, and together they cover the picture.
    Intact,
    /// The keyframe uses something that is not checked.
    Unknown(&'static str),
    /// It is damaged.
    Damaged(Damage),
}

/// What is wrong with a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There is no slice.
    #[error("no slices")]
    NoSlices,
    /// The first slice is missing.
    #[error("the first slice is missing")]
    NoFirstSlice,
    /// A slice refers to a parameter set that does not precede it.
    #[error("the {0} parameter set is missing")]
    NoParameterSet(&'static str),
    /// A parameter set has a value outside its range, or does not end where it should.
    #[error("the {0} parameter set is damaged")]
    ParameterSet(&'static str),
    /// A slice's NAL unit header is not what it should be.
    #[error("a slice has an invalid NAL unit header")]
    NalHeader,
    /// A slice is damaged.
    #[error("slice {number} {fault}")]
    Slice {
        /// Its number in the picture, from 1; slice segments count each.
        number: usize,
        /// What is wrong.
        fault: SliceFault,
    },
}

/// What is wrong with a slice. Blocks are coding tree blocks (H.265) or macroblocks (H.264), counted in coding order from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceFault {
    /// Its header has a value outside its range.
    Header,
    /// It covers blocks that the slices before it cover.
    Repeats,
    /// Blocks between its end and the next slice, or the end of the picture, are missing.
    EndsEarly {
        /// How many.
        missing: u32,
    },
    /// It goes on behind the last block of the picture.
    EndsLate,
    /// Its data ends within a block.
    Ended {
        /// The block.
        block: u32,
    },
    /// Its data goes on after it says that a block is the last.
    EndsBeforeData {
        /// The block.
        block: u32,
    },
    /// Its end is not followed by a stop bit.
    Unaligned {
        /// The last block.
        block: u32,
    },
    /// A substream does not end behind the last block of its tile or row.
    Substream {
        /// The block before the end.
        block: u32,
    },
    /// A value is outside its range.
    Invalid {
        /// The block.
        block: u32,
        /// What it is a value of.
        what: &'static str,
    },
}

impl fmt::Display for SliceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("has an invalid header"),
            Self::Repeats => f.write_str("repeats blocks of an earlier one"),
            Self::EndsEarly { missing: 1 } => f.write_str("ends 1 block early"),
            Self::EndsEarly { missing } => write!(f, "ends {missing} blocks early"),
            Self::EndsLate => f.write_str("goes on behind the end of the picture"),
            Self::Ended { block } => write!(f, "is cut off in block {block}"),
            Self::EndsBeforeData { block } => write!(f, "ends at block {block}, before its data does"),
            Self::Unaligned { block } => write!(f, "ends at block {block} without a stop bit"),
            Self::Substream { block } => write!(f, "has a substream that does not end behind block {block}"),
            Self::Invalid { block, what } => write!(f, "has an invalid {what} in block {block}"),
        }
    }
}

/// Ends a check early.
#[derive(Debug)]
pub(crate) enum Stop {
    Damaged(Damage),
    Unknown(&'static str),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// Checks keyframes one after the other. Its buffers are reused; they grow to the largest keyframe.
#[derive(Debug, Default)]
pub struct SliceCheck {
    h264: h264::Checker,
    h265: h265::Checker,
}

impl SliceCheck {
    /// Checks an access unit with its parameter sets in Annex B. The time is bounded by the size of the picture.
    pub fn check(&mut self, codec: Codec, data: &[u8]) -> Finding {
        let result = match codec {
            Codec::H264 => self.h264.check(data),
            Codec::H265 => self.h265.check(data),
        };
        match result {
            Ok(()) => Finding::Intact,
            Err(Stop::Damaged(damage)) => Finding::Damaged(damage),
            Err(Stop::Unknown(why)) => Finding::Unknown(why),
        }
    }
}
