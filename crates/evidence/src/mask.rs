//! Masks faces and licence plates.
//!
//! Detected faces, the top of every person box and the lower part of every vehicle box are pixelated. No face is recognised
//! and no plate is read. The person boxes cover faces that are too small for a face detector. What no model detects is
//! missed, so a picture counts as masked only if a model for faces or persons looked at it. Miss rates: docs/evidence.md.

use image::{Rgb, RgbImage};

use super::draw::{Area, area};
use gridwatch_engine::{BBox, Detection, Label, Point};

/// Least score of a detection to be masked. Far below the scores of the rules: an unnecessary mask costs little, a visible
/// face costs much.
const MASK_SCORE: f32 = 0.15;

/// Mosaic cells across the shorter side of a face. With 4 × 4 cells neither a person nor a face matcher recognises it.
const FACE_CELLS: u32 = 4;

/// Mosaic cells across a vehicle. A plate takes a quarter to a third of the width, so its seven characters share about five
/// cells and cannot be read, while the outline of the vehicle remains.
const VEHICLE_CELLS: u32 = 16;

/// Least size of a mosaic cell in pixels.
const MIN_CELL: u32 = 8;

/// A face above this share of the picture's area is close to the camera and scores high. Low scores at this size are house
/// fronts taken for faces at about 0.3 (models/yunet_n/CARD.md), and masking one would hide what the case is about.
const LARGE_FACE: f64 = 0.02;
const LARGE_FACE_SCORE: f32 = 0.6;

/// Likewise for vehicles: real ones of this size score 0.6 and more in the pictures of docs/evidence.md, and lower scores
/// were bins and heaps of garbage.
const LARGE_VEHICLE: f64 = 0.2;
const LARGE_VEHICLE_SCORE: f32 = 0.4;

/// True for labels of objects that are masked, wholly or in part.
pub fn is_masked(label: &Label) -> bool {
    matches!(
        label.as_str(),
        "face" | "person" | "car" | "truck" | "bus" | "motorcycle"
    )
}

/// True for labels by which persons, and so their faces, are found.
pub fn is_of_person(label: &Label) -> bool {
    matches!(label.as_str(), "face" | "person")
}

/// A region of the picture to be masked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    /// As fractions of the picture; may extend beyond it.
    pub(super) bbox: BBox,
    is_vehicle: bool,
}

/// The regions of faces, heads and plates, derived from the detections.
pub(super) fn regions(detections: &[Detection]) -> Vec<Region> {
    detections.iter().filter_map(region).collect()
}

fn region(d: &Detection) -> Option<Region> {
    if d.score < MASK_SCORE {
        return None;
    }
    let (w, h) = (d.bbox.x2 - d.bbox.x1, d.bbox.y2 - d.bbox.y1);
    let (bbox, is_vehicle) = match d.label.as_str() {
        "face" if d.bbox.area() > LARGE_FACE && d.score < LARGE_FACE_SCORE => return None,
        // Including hair and chin.
        "face" => {
            let around = BBox {
                x1: d.bbox.x1 - w * 0.15,
                y1: d.bbox.y1 - h * 0.2,
                x2: d.bbox.x2 + w * 0.15,
                y2: d.bbox.y2 + h * 0.15,
            };
            (around, false)
        }
        // The head is about an eighth of a standing person and a third of a sitting or cropped one.
        "person" => {
            let top = BBox {
                y1: d.bbox.y1 - h * 0.03,
                y2: d.bbox.y1 + h * 0.3,
                ..d.bbox
            };
            (top, false)
        }
        "car" | "truck" | "bus" | "motorcycle" if d.bbox.area() > LARGE_VEHICLE && d.score < LARGE_VEHICLE_SCORE => {
            return None;
        }
        // The full width: on a vehicle seen at an angle or cropped by the picture's edge, the plate is at the side of the
        // box.
        "car" | "truck" | "bus" | "motorcycle" => {
            let lower = BBox {
                y1: d.bbox.y1 + h * 0.4,
                ..d.bbox
            };
            (lower, true)
        }
        _ => return None,
    };
    Some(Region { bbox, is_vehicle })
}

/// The share of the picture's area that the regions cover, 0..=1; where they overlap, it counts once.
pub(super) fn share(picture: &RgbImage, regions: &[Region]) -> f64 {
    let width = picture.width() as usize;
    let mut covered = vec![false; width * picture.height() as usize];
    for region in regions {
        let place = area(picture, region.bbox);
        for row in covered
            .chunks_exact_mut(width)
            .skip(place.y as usize)
            .take(place.height as usize)
        {
            row[place.x as usize..][..place.width as usize].fill(true);
        }
    }
    covered.iter().filter(|c| **c).count() as f64 / covered.len().max(1) as f64
}

/// Pixelates regions of the picture.
pub(super) fn mosaics(picture: &mut RgbImage, regions: &[Region]) {
    for region in regions {
        let place = area(picture, region.bbox);
        let cell = match region.is_vehicle {
            true => place.width / VEHICLE_CELLS,
            false => place.width.min(place.height) / FACE_CELLS,
        };
        mosaic(picture, place, cell.max(MIN_CELL));
    }
}

/// Blackens a polygon (a privacy zone). Corners are fractions of the picture.
pub(super) fn polygon(picture: &mut RgbImage, corners: &[Point]) {
    let (w, h) = (f64::from(picture.width()), f64::from(picture.height()));
    for y in 0..picture.height() {
        let row = (f64::from(y) + 0.5) / h;
        for (from, to) in spans(corners, row) {
            let start = (from * w).floor().clamp(0.0, w) as u32;
            let end = (to * w).ceil().clamp(0.0, w) as u32;
            for x in start..end {
                picture.put_pixel(x, y, Rgb([0, 0, 0]));
            }
        }
    }
}

/// The intervals in x where the horizontal line at `y` is inside the polygon (even-odd rule).
fn spans(corners: &[Point], y: f64) -> impl Iterator<Item = (f64, f64)> {
    let mut crossings: Vec<f64> = corners
        .iter()
        .zip(corners.iter().cycle().skip(1))
        .filter(|(a, b)| (a.y <= y) != (b.y <= y))
        .map(|(a, b)| a.x + (y - a.y) / (b.y - a.y) * (b.x - a.x))
        .collect();
    crossings.sort_by(f64::total_cmp);
    let pairs: Vec<_> = crossings.chunks_exact(2).map(|c| (c[0], c[1])).collect();
    pairs.into_iter()
}

/// Replaces `region` by square cells of their mean colour; `cell` is the side in pixels.
fn mosaic(picture: &mut RgbImage, region: Area, cell: u32) {
    for top in (0..region.height).step_by(cell as usize) {
        for left in (0..region.width).step_by(cell as usize) {
            let (w, h) = (cell.min(region.width - left), cell.min(region.height - top));
            let (x0, y0) = (region.x + left, region.y + top);
            let mut sum = [0u64; 3];
            for y in y0..y0 + h {
                for x in x0..x0 + w {
                    for (s, c) in sum.iter_mut().zip(picture.get_pixel(x, y).0) {
                        *s += u64::from(c);
                    }
                }
            }
            let mean = Rgb(sum.map(|s| (s / u64::from(w * h)) as u8));
            for y in y0..y0 + h {
                for x in x0..x0 + w {
                    picture.put_pixel(x, y, mean);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chequered() -> RgbImage {
        RgbImage::from_fn(200, 200, |x, y| Rgb([if (x + y) % 2 == 0 { 255 } else { 0 }; 3]))
    }

    fn contrast(picture: &RgbImage, a: Area) -> u8 {
        let values =
            || (a.y..a.y + a.height).flat_map(|y| (a.x..a.x + a.width).map(move |x| picture.get_pixel(x, y).0[0]));
        values().max().unwrap() - values().min().unwrap()
    }

    #[test]
    fn head_of_a_person_is_masked_and_goods_at_the_feet_are_not() {
        let mut picture = chequered();
        let person = Detection::new(
            "person",
            0.3,
            BBox {
                x1: 0.2,
                y1: 0.1,
                x2: 0.5,
                y2: 0.9,
            },
        );
        mosaics(&mut picture, &regions(&[person]));
        assert!(
            contrast(
                &picture,
                Area {
                    x: 41,
                    y: 21,
                    width: 58,
                    height: 45
                }
            ) < 16,
            "head"
        );
        assert_eq!(
            contrast(
                &picture,
                Area {
                    x: 41,
                    y: 100,
                    width: 58,
                    height: 70
                }
            ),
            255,
            "feet"
        );
    }

    #[test]
    fn plate_at_the_side_of_a_vehicle_is_unreadable_and_the_roof_unchanged() {
        // A plate of seven characters, each a bar and a gap of equal width, on a quarter of a car that fills the picture.
        let bars = |x: u32| if ((x - 300) / 7).is_multiple_of(2) { 255 } else { 0 };
        let mut picture = RgbImage::from_fn(400, 200, |x, y| match (x, y) {
            (300..398, 130..155) => Rgb([bars(x); 3]),
            _ => Rgb([90; 3]),
        });
        let before = picture.clone();
        let car = Detection::new(
            "car",
            0.5,
            BBox {
                x1: 0.0,
                y1: 0.0,
                x2: 1.0,
                y2: 1.0,
            },
        );
        let doubtful = Detection {
            score: 0.3,
            ..car.clone()
        };
        assert!(
            regions(&[doubtful]).is_empty(),
            "a low score at this size is not a vehicle"
        );
        mosaics(&mut picture, &regions(&[car]));
        let levels: std::collections::BTreeSet<u8> = (300..398).map(|x| picture.get_pixel(x, 140).0[0]).collect();
        assert!(levels.len() <= 5, "{levels:?}");
        assert!((0..80).all(|y| (0..400).all(|x| picture.get_pixel(x, y) == before.get_pixel(x, y))));
    }

    #[test]
    fn the_masked_share_counts_overlapping_regions_once() {
        let face = |x1: f32| {
            let (y1, x2, y2) = (0.25, x1 + 0.25, 0.5);
            Region {
                bbox: BBox { x1, y1, x2, y2 },
                is_vehicle: false,
            }
        };
        let picture = chequered();
        assert_eq!(share(&picture, &[]), 0.0);
        assert_eq!(share(&picture, &[face(0.25)]), 0.0625);
        assert_eq!(share(&picture, &[face(0.25), face(0.25), face(0.375)]), 0.09375);
    }

    #[test]
    fn privacy_zone_is_black_and_the_rest_unchanged() {
        let mut picture = chequered();
        let p = |x, y| Point { x, y };
        polygon(&mut picture, &[p(0.5, 0.5), p(1.0, 0.5), p(1.0, 1.0), p(0.5, 1.0)]);
        assert_eq!(
            contrast(
                &picture,
                Area {
                    x: 100,
                    y: 100,
                    width: 100,
                    height: 100
                }
            ),
            0
        );
        assert_eq!(
            contrast(
                &picture,
                Area {
                    x: 0,
                    y: 0,
                    width: 100,
                    height: 200
                }
            ),
            255
        );
    }

    #[test]
    fn box_partly_outside_the_picture_is_masked() {
        let mut picture = chequered();
        for bbox in [
            BBox {
                x1: -0.5,
                y1: -0.5,
                x2: 0.1,
                y2: 0.1,
            },
            BBox {
                x1: 0.95,
                y1: 0.9,
                x2: 1.4,
                y2: 1.7,
            },
        ] {
            for label in ["person", "car"] {
                mosaics(&mut picture, &regions(&[Detection::new(label, 0.9, bbox)]));
            }
        }
    }
}
