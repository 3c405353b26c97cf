//! Text recognition: reads the phone numbers of small ads (非法小广告).
//!
//! `Reader` runs two networks. The text detector returns a probability map, in which `lines` finds lines of text; `crop` samples each
//! line, rotated upright, from the decoder's YUV planes; `ctc` decodes the recogniser's output, and `numbers` finds the phone numbers
//! in the text. The engine interprets the numbers.

mod crop;
mod ctc;
mod lines;
mod numbers;
#[cfg(feature = "ort")]
mod reader;

#[cfg(feature = "ort")]
pub use self::reader::{NumberReading, Reader, TextLine};
pub use self::{
    ctc::{AlphabetError, RecognisedChar},
    lines::LineBox,
};
