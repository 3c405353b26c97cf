//! A thorough look: the whole picture, and its parts at nearly the camera's own resolution.
//!
//! A network sees a whole street in some 170,000 pixels; a person at the far end is then a dozen of them high and found by luck. For
//! rules that costs a case at most. For what must not leave the box it costs a face, so whoever masks looks at parts, too.

use super::{Model, ModelError, ModelSet, Runtime, preprocess::Placement};
use gridwatch_engine::{BBox, Detection};
use gridwatch_frame::Frame;

/// Parts across and down, at most: a picture of 4K costs a model some 17 looks.
const MAX_TILES: u32 = 4;
/// How much of a part belongs to the next one, too: what is cut by one is whole in the other.
const OVERLAP: f64 = 0.25;
/// Pixels from an inner edge of a part within which what is found is a piece of something.
const CUT: f32 = 2.0;

/// Models that look at each picture thoroughly. Owned by one thread.
pub struct TiledDetector {
    panel: ModelSet,
    models: usize,
}

impl TiledDetector {
    /// Loads the models.
    ///
    /// # Errors
    /// As [`ModelSet::new`].
    pub fn new(runtime: &Runtime, models: &[Model]) -> Result<Self, ModelError> {
        Ok(Self {
            panel: ModelSet::new(runtime, models)?,
            models: models.len(),
        })
    }

    /// Everything that the models find; the same thing may come several times, from the whole picture and from parts of it.
    ///
    /// # Errors
    /// As [`super::FrameInput::detect`].
    pub fn find(&mut self, frame: &Frame) -> Result<Vec<Detection>, ModelError> {
        let mut found = Vec::new();
        for i in 0..self.models {
            found.extend(self.panel.input(frame).detect(i)?);
            let seen = Placement::of(&self.panel.manifest(i).input, frame.width, frame.height);
            for part in parts(frame, seen.width) {
                let seen = self.panel.input(&part.frame).detect(i)?;
                found.extend(seen.into_iter().filter_map(|d| part.whole(d)));
            }
        }
        Ok(found)
    }
}

/// A part of a picture.
struct Part {
    frame: Frame,
    /// Where it begins, in pixels of the picture.
    at: (u32, u32),
    /// Of the picture.
    size: (u32, u32),
}

/// The parts of a picture that a network draws `drawn` pixels wide: so many that it sees each at the camera's resolution, or at four
/// fifths of it.
fn parts(frame: &Frame, drawn: u32) -> Vec<Part> {
    let count = frame.width.div_ceil(drawn.max(1)).min(MAX_TILES);
    if count < 2 {
        return Vec::new();
    }
    let spans = |whole: u32| {
        let length = f64::from(whole) / (f64::from(count) * (1.0 - OVERLAP) + OVERLAP);
        (0..count).map(move |i| {
            // Even, as chroma has it.
            let start = (f64::from(i) * length * (1.0 - OVERLAP)) as u32 & !1;
            let rest = whole - start;
            // Rounding must not leave out the picture's last pixels.
            (
                start,
                if i + 1 == count {
                    rest
                } else {
                    (length.ceil() as u32).min(rest)
                },
            )
        })
    };
    spans(frame.height)
        .flat_map(|y| spans(frame.width).map(move |x| (x, y)))
        .map(|((left, width), (top, height))| Part {
            frame: frame.part(left, top, width, height),
            at: (left, top),
            size: (frame.width, frame.height),
        })
        .collect()
}

impl Part {
    /// What was found in the part, in the picture; `None` where the part's edge cuts it and the picture goes on.
    fn whole(&self, found: Detection) -> Option<Detection> {
        let span = |from: f32, to: f32, part: u32, at: u32, size: u32| {
            let (part, at, size) = (part as f32, at as f32, size as f32);
            let (from, to) = (from * part, to * part);
            let is_cut = (at > 0.0 && from < CUT) || (at + part < size && to > part - CUT);
            (!is_cut).then_some(((at + from) / size, (at + to) / size))
        };
        let b = found.bbox;
        let (x1, x2) = span(b.x1, b.x2, self.frame.width, self.at.0, self.size.0)?;
        let (y1, y2) = span(b.y1, b.y2, self.frame.height, self.at.1, self.size.1)?;
        Some(Detection {
            bbox: BBox { x1, y1, x2, y2 },
            ..found
        })
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use jiff::Timestamp;

    use super::*;

    fn frame(width: u32, height: u32) -> Frame {
        Frame::from_rgb(&RgbImage::new(width, height), Timestamp::UNIX_EPOCH).unwrap_or_else(|e| panic!("{e}"))
    }

    fn find(x1: f32, y1: f32, x2: f32, y2: f32) -> Detection {
        Detection {
            label: "person".into(),
            score: 0.5,
            bbox: BBox { x1, y1, x2, y2 },
            appearance: None,
            number: None,
            closer: None,
        }
    }

    #[test]
    fn parts_are_drawn_nearly_as_large_as_they_are_and_cover_the_picture() {
        for (width, height, drawn) in [
            (1920, 1080, 555),
            (1920, 1080, 1280),
            (719, 405, 555),
            (2560, 1440, 1280),
        ] {
            let parts = parts(&frame(width, height), drawn);
            for p in &parts {
                assert!(p.frame.width <= drawn + drawn / 4, "{} of {drawn}", p.frame.width);
                p.frame.validate().unwrap_or_else(|e| panic!("{e}"));
            }
            for (x, y) in [
                (0, 0),
                (width - 1, 0),
                (0, height - 1),
                (width - 1, height - 1),
                (width / 2, height / 2),
            ] {
                let holds = |p: &Part| {
                    let (left, top) = p.at;
                    (left..left + p.frame.width).contains(&x) && (top..top + p.frame.height).contains(&y)
                };
                assert!(parts.iter().any(holds), "{x}, {y} of {width}×{height} at {drawn}");
            }
        }
    }

    #[test]
    fn a_picture_that_is_drawn_whole_has_no_parts_and_a_huge_one_not_too_many() {
        assert!(parts(&frame(640, 360), 640).is_empty());
        assert!(parts(&frame(320, 180), 640).is_empty());
        assert_eq!(parts(&frame(4096, 2304), 555).len(), 16);
    }

    #[test]
    fn what_a_part_cuts_is_left_to_the_next_and_the_rest_is_where_it_is_in_the_picture() {
        let parts = parts(&frame(1000, 500), 600);
        let first = &parts[0];
        let (w, h) = (first.frame.width as f32, first.frame.height as f32);
        let found = first
            .whole(find(0.0, 0.0, 0.5, 0.5))
            .expect("it touches the picture's own edges");
        assert_eq!(
            found.bbox,
            BBox {
                x1: 0.0,
                y1: 0.0,
                x2: 0.5 * w / 1000.0,
                y2: 0.5 * h / 500.0
            }
        );
        assert!(first.whole(find(0.5, 0.1, 1.0, 0.5)).is_none());
        assert!(first.whole(find(0.1, 0.5, 0.5, 1.0)).is_none());
        let last = &parts[3];
        assert!(last.whole(find(0.5, 0.5, 1.0, 1.0)).is_some());
        assert!(last.whole(find(0.0, 0.5, 0.4, 0.9)).is_none());
    }
}
