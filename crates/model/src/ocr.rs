//! Text recognition: reads the phone numbers of small ads (非法小广告).
//!
//! [`Reader`] runs two networks. The text detector returns a probability map, in which [`lines`] finds lines of text; [`crop`]
//! samples each line, rotated upright, from the decoder's YUV planes; the recogniser's output is decoded by [`spell`], and
//! [`numbers`] finds the phone numbers in the text. The engine interprets the numbers.

pub mod crop;
pub mod lines;
pub mod numbers;
pub mod spell;
