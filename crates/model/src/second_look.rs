//! A closer look: the part of a picture around something that was found, with all the pixels that the camera gives.
//!
//! A network sees a whole street in some 170,000 pixels. Around one thing alone it sees that as large as it can, and what
//! merely looked like it from afar may look otherwise. Which models look, and what becomes of the score, is not decided here.

use gridwatch_engine::{BBox, Detection, Label};
use gridwatch_frame::Frame;

/// The part is so many times as long and as high as the place's longer side: room enough to tell a heap from its wall.
const AROUND: f32 = 2.0;
/// Pixels of the part's side, at least: fewer would only be blown up.
const LEAST: f32 = 160.0;
/// A part with more of the picture than this shows nothing that was not seen at the first look.
const NEARLY_ALL: f32 = 0.7;
/// So much of what is found must lie within the place: the bags of a heap count for it, its neighbours do not.
const WITHIN: f64 = 0.5;
/// So much of the place it must cover: one bottle is no heap.
const COVERED: f64 = 0.1;

/// The part of one picture around a place.
pub struct SecondLook {
    place: BBox,
    /// Where the part lies, as fractions of the picture.
    at: BBox,
    part: Frame,
}

impl SecondLook {
    /// The part of `frame` around `place`, given as fractions of the picture; `None` where that is nearly all of it, or where the
    /// place is none.
    pub fn on(frame: &Frame, place: &BBox) -> Option<Self> {
        let place = place.within_picture()?;
        let (width, height) = (frame.width as f32, frame.height as f32);
        let longer = ((place.x2 - place.x1) * width).max((place.y2 - place.y1) * height);
        let side = (longer * AROUND).max(LEAST);
        let (w, h) = (side.min(width), side.min(height));
        if w * h > NEARLY_ALL * width * height {
            return None;
        }
        let span = |low: f32, high: f32, all: f32, part: f32| {
            let start = (((low + high) * all - part) / 2.0).clamp(0.0, all - part);
            // Even, as chroma has it.
            let first = start as u32 & !1;
            (first, (start + part).round() as u32 - first)
        };
        let (left, w) = span(place.x1, place.x2, width, w);
        let (top, h) = span(place.y1, place.y2, height, h);
        let part = frame.part(left, top, w, h);
        let at = BBox {
            x1: left as f32 / width,
            y1: top as f32 / height,
            x2: (left + part.width) as f32 / width,
            y2: (top + part.height) as f32 / height,
        };
        Some(Self { place, at, part })
    }

    /// The picture to be looked at.
    pub fn part(&self) -> &Frame {
        &self.part
    }

    /// How sure a look at the part is that one of `labels` is at the place, 0..=1; 0 where it found none there.
    pub fn score(&self, found: &[Detection], labels: &[Label]) -> f32 {
        let there = found
            .iter()
            .filter(|d| labels.contains(&d.label) && is_of(&self.in_picture(&d.bbox), &self.place));
        there.map(|d| d.score).fold(0.0, f32::max)
    }

    fn in_picture(&self, bbox: &BBox) -> BBox {
        let (w, h) = (self.at.x2 - self.at.x1, self.at.y2 - self.at.y1);
        BBox {
            x1: self.at.x1 + bbox.x1 * w,
            y1: self.at.y1 + bbox.y1 * h,
            x2: self.at.x1 + bbox.x2 * w,
            y2: self.at.y1 + bbox.y2 * h,
        }
    }
}

/// True where what is in `bbox` is what lies at `place`, or a part of it; both as fractions of one picture.
pub fn is_of(bbox: &BBox, place: &BBox) -> bool {
    let across = f64::from(bbox.x2.min(place.x2)) - f64::from(bbox.x1.max(place.x1));
    let down = f64::from(bbox.y2.min(place.y2)) - f64::from(bbox.y1.max(place.y1));
    let common = across.max(0.0) * down.max(0.0);
    // Written so that NaN is not.
    common >= WITHIN * bbox.area() && common >= COVERED * place.area() && common > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_set::grey;

    fn bbox(x1: f32, y1: f32, x2: f32, y2: f32) -> BBox {
        BBox { x1, y1, x2, y2 }
    }

    fn frame(width: u32, height: u32) -> Frame {
        let (w, h) = (width as usize, height as usize);
        let mut frame = grey();
        (frame.width, frame.height) = (width, height);
        let chroma = w.div_ceil(2) * h.div_ceil(2);
        frame.data = vec![128; w * h + 2 * chroma].into();
        frame.planes[0].stride = w;
        for (i, plane) in frame.planes[1..].iter_mut().enumerate() {
            (plane.offset, plane.stride) = (w * h + i * chroma, w.div_ceil(2));
        }
        frame
    }

    fn find(label: &str, score: f32, bbox: BBox) -> Detection {
        Detection {
            label: label.into(),
            score,
            bbox,
            appearance: None,
            number: None,
            closer: None,
        }
    }

    #[test]
    fn the_part_holds_the_place_and_keeps_within_the_picture() {
        let frame = frame(1921, 1079);
        for (place, size) in [
            (bbox(0.4, 0.4, 0.5, 0.45), (386, 386)),
            (bbox(0.0, 0.0, 0.02, 0.02), (160, 160)),
            (bbox(0.9, 0.7, 1.2, 1.0), (648, 648)),
            (bbox(0.97, 0.95, 1.0, 1.0), (160, 160)),
        ] {
            let closer = SecondLook::on(&frame, &place).unwrap();
            let part = closer.part();
            part.validate().unwrap();
            // One pixel may be lost to the edge, and one be gained by rounding.
            assert!(
                part.width.abs_diff(size.0) <= 2 && part.height.abs_diff(size.1) <= 2,
                "{place:?}: {} x {}",
                part.width,
                part.height
            );
            let place = place.within_picture().unwrap();
            let edge = 1.5 / 1079.0;
            assert!(
                closer.at.x1 <= place.x1 + edge && closer.at.x2 >= place.x2 - edge,
                "{place:?} {:?}",
                closer.at
            );
            assert!(
                closer.at.y1 <= place.y1 + edge && closer.at.y2 >= place.y2 - edge,
                "{place:?} {:?}",
                closer.at
            );
        }
        assert!(
            SecondLook::on(&frame, &bbox(0.1, 0.1, 0.9, 0.9)).is_none(),
            "it was looked at"
        );
        assert!(SecondLook::on(&frame, &bbox(0.5, 0.5, 0.5, 0.9)).is_none(), "no place");
        assert!(SecondLook::on(&frame, &bbox(f32::NAN, 0.5, 0.6, 0.9)).is_none());
        assert!(
            SecondLook::on(&self::frame(100, 100), &bbox(0.4, 0.4, 0.5, 0.5)).is_none(),
            "no pixels to gain"
        );
    }

    #[test]
    fn what_lies_there_counts_and_what_lies_beside_it_does_not() {
        let frame = frame(1000, 1000);
        let closer = SecondLook::on(&frame, &bbox(0.4, 0.4, 0.6, 0.6)).unwrap();
        assert_eq!((closer.part().width, closer.at.x1), (400, 0.3));
        let labels = ["garbage".into(), "bag".into()];
        let score = |found: &[Detection]| closer.score(found, &labels);
        // The place is the middle half of the part.
        let there = bbox(0.25, 0.25, 0.75, 0.75);
        assert_eq!(score(&[find("garbage", 0.7, there), find("bag", 0.8, there)]), 0.8);
        assert_eq!(score(&[find("sign", 0.9, there)]), 0.0, "something else");
        assert_eq!(score(&[]), 0.0);
        assert_eq!(
            score(&[find("bag", 0.6, bbox(0.3, 0.3, 0.5, 0.5))]),
            0.6,
            "a part of a heap"
        );
        assert_eq!(score(&[find("bag", 0.6, bbox(0.3, 0.3, 0.4, 0.4))]), 0.0, "a bottle");
        assert_eq!(
            score(&[find("bag", 0.6, bbox(0.0, 0.25, 0.4, 0.75))]),
            0.0,
            "the heap beside it"
        );
        assert_eq!(
            score(&[find("bag", 0.6, bbox(0.0, 0.0, 1.0, 1.0))]),
            0.0,
            "the whole street"
        );
    }
}
