//! Text recognition: reads the text of small ads (非法小广告) and banners.
//!
//! `Reader` runs two networks. The text detector returns a probability map, in which `lines` finds lines of text; `crop` samples each
//! line, rotated upright, from the decoder's YUV planes; `ctc` decodes the recogniser's output. Before a line leaves the reader,
//! `privacy` masks names and identity numbers in it. `vote` compares the readings of several looks, `numbers` and `phrases` find phone
//! numbers, trades and messenger ids in a text, `blocks` groups the lines of one thing, and `adverts` judges what it is. What becomes of it, the engine decides.

pub mod adverts;
mod blocks;
mod crop;
mod ctc;
mod line;
mod lines;
mod numbers;
pub mod phrases;
mod privacy;
#[cfg(feature = "ort")]
mod reader;
#[cfg_attr(not(feature = "ort"), expect(dead_code, reason = "only a session reads text"))]
pub mod second_look;
mod vote;

#[cfg(feature = "ort")]
pub use self::reader::Reader;
pub use self::{
    adverts::{AdvertKind, WallText},
    ctc::{AlphabetError, RecognisedChar},
    line::TextLine,
    lines::LineBox,
    phrases::Phrasebook,
    vote::TextMemory,
};
