//! A recognised line of text.

use gridwatch_engine::{BBox, half_width};

use super::{ctc::RecognisedChar, lines::LineBox, privacy};

/// A recognised line of text. Personal names and identity numbers in it are masked.
#[derive(Debug, Clone, PartialEq)]
pub struct TextLine {
    /// Its box, in pixels of the picture.
    pub line: LineBox,
    /// Width and height of the picture in pixels.
    pub frame: [f32; 2],
    /// Its characters, half-width where there is such a form. Writing outside the recogniser's alphabet is skipped, or read as
    /// random characters with a low score.
    pub chars: Vec<RecognisedChar>,
    /// Looks that voted on the characters; 1 for a single reading.
    pub looks: usize,
}

impl TextLine {
    /// A line as it was recognised, with personal data masked.
    pub(super) fn new(line: LineBox, frame: [f32; 2], mut chars: Vec<RecognisedChar>) -> Self {
        for c in &mut chars {
            c.char = half_width(c.char);
        }
        privacy::mask(&mut chars);
        Self {
            line,
            frame,
            chars,
            looks: 1,
        }
    }

    /// The characters as a string.
    pub fn text(&self) -> String {
        self.chars.iter().map(|l| l.char).collect()
    }

    /// Mean score of the characters, 0..=1; 0 without characters.
    pub fn score(&self) -> f32 {
        self.chars.iter().map(|c| c.score).sum::<f32>() / self.chars.len().max(1) as f32
    }

    /// Corners as fractions of the picture, in reading order from the top left.
    pub fn corners(&self) -> [[f32; 2]; 4] {
        let [w, h] = self.frame;
        self.line.corners().map(|[x, y]| [x / w, y / h])
    }

    /// Axis-aligned bounding box as fractions of the picture, clamped to its edges.
    pub fn bbox(&self) -> BBox {
        bounding_box(&self.corners())
    }
}

/// Axis-aligned bounding box of corners given as fractions of the picture, clamped to its edges.
pub(super) fn bounding_box(corners: &[[f32; 2]; 4]) -> BBox {
    let of = |axis: usize, pick: fn(f32, f32) -> f32, start: f32| {
        let values = corners.iter().map(|c| c[axis].clamp(0.0, 1.0));
        values.fold(start, pick)
    };
    BBox {
        x1: of(0, f32::min, 1.0),
        y1: of(1, f32::min, 1.0),
        x2: of(0, f32::max, 0.0),
        y2: of(1, f32::max, 0.0),
    }
}
