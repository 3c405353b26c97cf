//! The second look of a rule: a model runs on the crop around a detection, at the camera's full resolution.
//!
//! A network sees a whole street in about 170,000 pixels. A crop around one object fills the input with that object, so a false
//! positive seen from afar often scores lower. The caller chooses the models and what the score decides.

use gridwatch_engine::{BBox, Detection, Label};
use gridwatch_frame::Frame;

/// Side of the square crop as a multiple of the place's longer side: enough context to tell a heap from the wall behind it.
const MARGIN: f32 = 2.0;
/// Minimum side of the crop in pixels; a smaller crop would only be upscaled.
const MIN_SIDE: f32 = 160.0;
/// Maximum share of the picture; a larger crop shows no more detail than the first look.
const MAX_CROP_SHARE: f32 = 0.7;

/// The crop of a frame around a place.
pub struct SecondLook {
    place: BBox,
    /// Area of the crop, as fractions of the picture.
    area: BBox,
    crop: Frame,
}

impl SecondLook {
    /// Crops `frame` around `place`, given as fractions of the picture. `None` if the crop would be nearly the whole picture, or if
    /// the place is empty or outside the picture.
    pub fn around(frame: &Frame, place: &BBox) -> Option<Self> {
        let place = place.within_picture()?;
        let (width, height) = (frame.width as f32, frame.height as f32);
        let longer = ((place.x2 - place.x1) * width).max((place.y2 - place.y1) * height);
        let side = (longer * MARGIN).max(MIN_SIDE);
        let (w, h) = (side.min(width), side.min(height));
        if w * h > MAX_CROP_SHARE * width * height {
            return None;
        }
        let span = |low: f32, high: f32, length: f32, side: f32| {
            let start = (((low + high) * length - side) / 2.0).clamp(0.0, length - side);
            // Even, because 4:2:0 chroma is subsampled by two.
            let first = start as u32 & !1;
            (first, (start + side).round() as u32 - first)
        };
        let (left, w) = span(place.x1, place.x2, width, w);
        let (top, h) = span(place.y1, place.y2, height, h);
        let crop = frame.crop(left, top, w, h);
        let area = BBox {
            x1: left as f32 / width,
            y1: top as f32 / height,
            x2: (left + crop.width) as f32 / width,
            y2: (top + crop.height) as f32 / height,
        };
        Some(Self { place, area, crop })
    }

    /// The frame to run the model on.
    pub fn crop(&self) -> &Frame {
        &self.crop
    }

    /// Highest score among the detections of the crop that have one of `labels` and belong to the place, 0..=1; 0 if there is none.
    pub fn score(&self, found: &[Detection], labels: &[Label]) -> f32 {
        let matching = found
            .iter()
            .filter(|d| labels.contains(&d.label) && self.to_picture(&d.bbox).is_part_of(&self.place));
        matching.map(|d| d.score).fold(0.0, f32::max)
    }

    /// The detections of the crop with their boxes as fractions of the whole picture.
    pub fn in_picture(&self, mut found: Vec<Detection>) -> Vec<Detection> {
        for detection in &mut found {
            detection.bbox = self.to_picture(&detection.bbox);
        }
        found
    }

    fn to_picture(&self, bbox: &BBox) -> BBox {
        let (w, h) = (self.area.x2 - self.area.x1, self.area.y2 - self.area.y1);
        BBox {
            x1: self.area.x1 + bbox.x1 * w,
            y1: self.area.y1 + bbox.y1 * h,
            x2: self.area.x1 + bbox.x2 * w,
            y2: self.area.y1 + bbox.y2 * h,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_set::grey_frame;

    fn bbox(x1: f32, y1: f32, x2: f32, y2: f32) -> BBox {
        BBox { x1, y1, x2, y2 }
    }

    fn frame(width: u32, height: u32) -> Frame {
        let (w, h) = (width as usize, height as usize);
        let mut frame = grey_frame();
        (frame.width, frame.height) = (width, height);
        let chroma = w.div_ceil(2) * h.div_ceil(2);
        frame.data = vec![128; w * h + 2 * chroma].into();
        frame.planes[0].stride = w;
        for (i, plane) in frame.planes[1..].iter_mut().enumerate() {
            (plane.offset, plane.stride) = (w * h + i * chroma, w.div_ceil(2));
        }
        frame
    }

    #[test]
    fn the_crop_contains_the_place_and_stays_inside_the_picture() {
        let frame = frame(1921, 1079);
        for (place, size) in [
            (bbox(0.4, 0.4, 0.5, 0.45), (386, 386)),
            (bbox(0.0, 0.0, 0.02, 0.02), (160, 160)),
            (bbox(0.9, 0.7, 1.2, 1.0), (648, 648)),
            (bbox(0.97, 0.95, 1.0, 1.0), (160, 160)),
        ] {
            let second = SecondLook::around(&frame, &place).unwrap();
            let crop = second.crop();
            crop.validate().unwrap();
            // Clamping to even pixels may lose one, rounding may add one.
            assert!(
                crop.width.abs_diff(size.0) <= 2 && crop.height.abs_diff(size.1) <= 2,
                "{place:?}: {} x {}",
                crop.width,
                crop.height
            );
            let place = place.within_picture().unwrap();
            let edge = 1.5 / 1079.0;
            assert!(
                second.area.x1 <= place.x1 + edge && second.area.x2 >= place.x2 - edge,
                "{place:?} {:?}",
                second.area
            );
            assert!(
                second.area.y1 <= place.y1 + edge && second.area.y2 >= place.y2 - edge,
                "{place:?} {:?}",
                second.area
            );
        }
        assert!(
            SecondLook::around(&frame, &bbox(0.1, 0.1, 0.9, 0.9)).is_none(),
            "nearly the whole picture"
        );
        assert!(
            SecondLook::around(&frame, &bbox(0.5, 0.5, 0.5, 0.9)).is_none(),
            "empty place"
        );
        assert!(SecondLook::around(&frame, &bbox(f32::NAN, 0.5, 0.6, 0.9)).is_none());
        assert!(
            SecondLook::around(&self::frame(100, 100), &bbox(0.4, 0.4, 0.5, 0.5)).is_none(),
            "no resolution to gain"
        );
    }

    #[test]
    fn only_detections_at_the_place_are_scored() {
        let frame = frame(1000, 1000);
        let second = SecondLook::around(&frame, &bbox(0.4, 0.4, 0.6, 0.6)).unwrap();
        assert_eq!((second.crop().width, second.area.x1), (400, 0.3));
        let labels = ["garbage".into(), "bag".into()];
        let score = |found: &[Detection]| second.score(found, &labels);
        // The place is the central half of the crop.
        let there = bbox(0.25, 0.25, 0.75, 0.75);
        assert_eq!(
            score(&[Detection::new("garbage", 0.7, there), Detection::new("bag", 0.8, there)]),
            0.8
        );
        assert_eq!(score(&[Detection::new("sign", 0.9, there)]), 0.0, "another label");
        assert_eq!(score(&[]), 0.0);
        assert_eq!(
            score(&[Detection::new("bag", 0.6, bbox(0.3, 0.3, 0.5, 0.5))]),
            0.6,
            "a part of the heap"
        );
        assert_eq!(
            score(&[Detection::new("bag", 0.6, bbox(0.3, 0.3, 0.4, 0.4))]),
            0.0,
            "too small"
        );
        assert_eq!(
            score(&[Detection::new("bag", 0.6, bbox(0.0, 0.25, 0.4, 0.75))]),
            0.0,
            "a neighbouring heap"
        );
        assert_eq!(
            score(&[Detection::new("bag", 0.6, bbox(0.0, 0.0, 1.0, 1.0))]),
            0.0,
            "the whole street"
        );
    }
}
