//! Reading small ads: telephone numbers on walls.
//!
//! [`lines`] finds where text stands in a text detector's probability map, [`crop`] takes those places out of the decoder's
//! YUV planes, turned upright, [`spell`] takes a recogniser's output to characters and [`numbers`] finds the telephone numbers
//! among them. What a number means is the engine's matter.

pub mod crop;
pub mod lines;
pub mod numbers;
#[cfg(feature = "ort")]
pub mod reader;
pub mod spell;
