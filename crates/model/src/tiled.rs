//! Detection on the whole frame and on overlapping tiles of it, at nearly the camera's own resolution.
//!
//! A network sees a whole street in about 170,000 pixels; a person at the far end is then a dozen pixels high and easily missed. For
//! a rule that costs a case at most. For masking it would expose a face, so masking models also run on tiles.

use super::{Model, ModelError, ModelSet, Runtime, preprocess::Placement};
use gridwatch_engine::{BBox, Detection};
use gridwatch_frame::Frame;

/// Maximum tiles per axis: a 4K picture then takes 17 inferences per model.
const MAX_TILES: u32 = 4;
/// Overlap of neighbouring tiles as a share of their side, so that an object cut by one tile is complete in the next.
const OVERLAP: f64 = 0.25;
/// Distance in pixels from an inner tile edge at which a detection counts as cut off.
const CUT_MARGIN: f32 = 2.0;

/// Models that run on the whole frame and on its tiles. Owned by one thread.
pub struct TiledDetector {
    set: ModelSet,
    models: usize,
}

impl TiledDetector {
    /// Loads the models.
    ///
    /// # Errors
    /// As [`ModelSet::new`].
    pub fn new(runtime: &Runtime, models: &[Model]) -> Result<Self, ModelError> {
        Ok(Self {
            set: ModelSet::new(runtime, models)?,
            models: models.len(),
        })
    }

    /// Detections of all models in picture coordinates. An object may be reported several times, by the whole frame and by tiles.
    ///
    /// # Errors
    /// As [`super::FrameInput::detect`].
    pub fn detect(&mut self, frame: &Frame) -> Result<Vec<Detection>, ModelError> {
        let mut found = Vec::new();
        for i in 0..self.models {
            found.extend(self.set.input(frame).detect(i)?);
            let drawn = Placement::of(&self.set.manifest(i).input, frame.width, frame.height);
            for tile in tiles(frame, drawn.width) {
                let in_tile = self.set.input(&tile.frame).detect(i)?;
                found.extend(in_tile.into_iter().filter_map(|d| tile.to_picture(d)));
            }
        }
        Ok(found)
    }
}

/// A part of a frame.
struct Tile {
    frame: Frame,
    /// Top left corner, in pixels of the picture.
    origin: (u32, u32),
    /// Width and height of the whole picture.
    size: (u32, u32),
}

/// Tiles for a network that draws the picture `drawn` pixels wide: as many as it takes to see each at full resolution or, because
/// of the overlap, at four fifths of it at least.
fn tiles(frame: &Frame, drawn: u32) -> Vec<Tile> {
    let count = frame.width.div_ceil(drawn.max(1)).min(MAX_TILES);
    if count < 2 {
        return Vec::new();
    }
    let spans = |whole: u32| {
        let length = f64::from(whole) / (f64::from(count) * (1.0 - OVERLAP) + OVERLAP);
        (0..count).map(move |i| {
            // Even, because 4:2:0 chroma is subsampled by two.
            let start = (f64::from(i) * length * (1.0 - OVERLAP)) as u32 & !1;
            let rest = whole - start;
            // The last tile reaches the edge of the picture despite rounding.
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
        .map(|((left, width), (top, height))| Tile {
            frame: frame.crop(left, top, width, height),
            origin: (left, top),
            size: (frame.width, frame.height),
        })
        .collect()
}

impl Tile {
    /// Converts a detection from tile to picture coordinates; `None` if an inner edge of the tile cuts it off.
    fn to_picture(&self, found: Detection) -> Option<Detection> {
        let span = |from: f32, to: f32, part: u32, at: u32, size: u32| {
            let (part, at, size) = (part as f32, at as f32, size as f32);
            let (from, to) = (from * part, to * part);
            let is_cut = (at > 0.0 && from < CUT_MARGIN) || (at + part < size && to > part - CUT_MARGIN);
            (!is_cut).then_some(((at + from) / size, (at + to) / size))
        };
        let b = found.bbox;
        let (x1, x2) = span(b.x1, b.x2, self.frame.width, self.origin.0, self.size.0)?;
        let (y1, y2) = span(b.y1, b.y2, self.frame.height, self.origin.1, self.size.1)?;
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

    fn detection(x1: f32, y1: f32, x2: f32, y2: f32) -> Detection {
        Detection::new("person", 0.5, BBox { x1, y1, x2, y2 })
    }

    #[test]
    fn tiles_are_drawn_near_full_resolution_and_cover_the_picture() {
        for (width, height, drawn) in [
            (1920, 1080, 555),
            (1920, 1080, 1280),
            (719, 405, 555),
            (2560, 1440, 1280),
        ] {
            let tiles = tiles(&frame(width, height), drawn);
            for p in &tiles {
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
                let holds = |p: &Tile| {
                    let (left, top) = p.origin;
                    (left..left + p.frame.width).contains(&x) && (top..top + p.frame.height).contains(&y)
                };
                assert!(tiles.iter().any(holds), "{x}, {y} of {width}×{height} at {drawn}");
            }
        }
    }

    #[test]
    fn a_small_picture_has_no_tiles_and_a_huge_one_is_limited() {
        assert!(tiles(&frame(640, 360), 640).is_empty());
        assert!(tiles(&frame(320, 180), 640).is_empty());
        assert_eq!(tiles(&frame(4096, 2304), 555).len(), 16);
    }

    #[test]
    fn detections_cut_by_a_tile_are_dropped_and_others_are_mapped_to_the_picture() {
        let tiles = tiles(&frame(1000, 500), 600);
        let first = &tiles[0];
        let (w, h) = (first.frame.width as f32, first.frame.height as f32);
        let found = first
            .to_picture(detection(0.0, 0.0, 0.5, 0.5))
            .expect("it touches only the edges of the picture");
        assert_eq!(
            found.bbox,
            BBox {
                x1: 0.0,
                y1: 0.0,
                x2: 0.5 * w / 1000.0,
                y2: 0.5 * h / 500.0
            }
        );
        assert!(first.to_picture(detection(0.5, 0.1, 1.0, 0.5)).is_none());
        assert!(first.to_picture(detection(0.1, 0.5, 0.5, 1.0)).is_none());
        let last = &tiles[3];
        assert!(last.to_picture(detection(0.5, 0.5, 1.0, 1.0)).is_some());
        assert!(last.to_picture(detection(0.0, 0.5, 0.4, 0.9)).is_none());
    }
}
