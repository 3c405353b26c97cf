//! Box outlines and the crop area of closeups.

use image::{Rgb, RgbImage};

use gridwatch_engine::BBox;

/// An area of a picture in pixels, inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// `bbox` in pixels, rounded outwards and clipped to the picture; at least one pixel wide and high.
pub(super) fn area(picture: &RgbImage, bbox: BBox) -> Area {
    let (w, h) = (picture.width(), picture.height());
    let span = |a: f32, b: f32, size: u32| {
        let start = ((a * size as f32).floor().max(0.0) as u32).min(size - 1);
        let end = ((b * size as f32).ceil().max(0.0) as u32).clamp(start + 1, size);
        (start, end - start)
    };
    let (x, width) = span(bbox.x1, bbox.x2, w);
    let (y, height) = span(bbox.y1, bbox.y2, h);
    Area { x, y, width, height }
}

/// The crop area of a closeup: twice the size of the box, so that a clerk can see the problem and where it is. At least
/// a quarter of the view wide and high, so that a bag at the far kerb is shown with the kerb, and at least as wide as it is
/// high, so that a standing person is shown with what is next to them.
pub(super) fn surroundings(picture: &RgbImage, bbox: BBox) -> Area {
    let aspect = picture.height() as f32 / picture.width() as f32;
    let span = |a: f32, b: f32, least: f32| {
        let half = (b - a).max(least);
        let (start, end) = ((a + b) / 2.0 - half, (a + b) / 2.0 + half);
        let shift = (-start).max(0.0) - (end - 1.0).max(0.0);
        ((start + shift).max(0.0), (end + shift).min(1.0))
    };
    let (y1, y2) = span(bbox.y1, bbox.y2, 0.125);
    let (x1, x2) = span(bbox.x1, bbox.x2, ((y2 - y1) * aspect / 2.0).max(0.125));
    area(picture, BBox { x1, y1, x2, y2 })
}

/// Outlines the box in yellow and black, visible on any background. Drawn outside the box so that nothing in it is hidden.
pub(super) fn outline(picture: &mut RgbImage, bbox: BBox) {
    let thick = (picture.width() / 480).max(2);
    let inner = area(picture, bbox);
    for (distance, colour) in [(0, Rgb([255, 214, 0])), (thick, Rgb([0, 0, 0]))] {
        frame(picture, inner, distance, thick, colour);
    }
}

/// Draws a band `thick` pixels wide around `area`, at a distance of `distance` pixels.
fn frame(picture: &mut RgbImage, area: Area, distance: u32, thick: u32, colour: Rgb<u8>) {
    let (w, h) = (i64::from(picture.width()), i64::from(picture.height()));
    let (d, t) = (i64::from(distance), i64::from(thick));
    let (x1, y1) = (i64::from(area.x) - d, i64::from(area.y) - d);
    let (x2, y2) = (i64::from(area.x + area.width) + d, i64::from(area.y + area.height) + d);
    for y in (y1 - t).max(0)..(y2 + t).min(h) {
        for x in (x1 - t).max(0)..(x2 + t).min(w) {
            if x < x1 || x >= x2 || y < y1 || y >= y2 {
                picture.put_pixel(x as u32, y as u32, colour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: BBox = BBox {
        x1: 0.25,
        y1: 0.25,
        x2: 0.5,
        y2: 0.5,
    };

    #[test]
    fn outline_is_drawn_outside_the_box() {
        let mut picture = RgbImage::from_pixel(480, 480, Rgb([9, 9, 9]));
        outline(&mut picture, BOX);
        let a = area(&picture, BOX);
        for y in a.y..a.y + a.height {
            for x in a.x..a.x + a.width {
                assert_eq!(picture.get_pixel(x, y), &Rgb([9, 9, 9]));
            }
        }
        assert_eq!(picture.get_pixel(a.x - 1, a.y), &Rgb([255, 214, 0]));
        assert_eq!(picture.get_pixel(a.x - 3, a.y), &Rgb([0, 0, 0]));
    }

    #[test]
    fn box_at_the_edge_is_outlined_and_cropped_within_the_picture() {
        let mut picture = RgbImage::new(100, 50);
        for bbox in [
            BBox {
                x1: 0.0,
                y1: 0.0,
                x2: 1.0,
                y2: 1.0,
            },
            BBox {
                x1: 0.99,
                y1: 0.99,
                x2: 1.0,
                y2: 1.0,
            },
            BBox {
                x1: 1.0,
                y1: 1.0,
                x2: 1.0,
                y2: 1.0,
            },
            BBox {
                x1: 0.0,
                y1: 0.3,
                x2: 0.01,
                y2: 0.31,
            },
        ] {
            outline(&mut picture, bbox);
            let a = surroundings(&picture, bbox);
            assert!(a.width >= 25 && a.height >= 12, "{a:?}");
            assert!(a.x + a.width <= 100 && a.y + a.height <= 50, "{a:?}");
        }
    }

    #[test]
    fn surroundings_contain_the_box() {
        let picture = RgbImage::new(1000, 1000);
        let a = surroundings(&picture, BOX);
        assert!(a.x <= 250 && a.x + a.width >= 500);
        assert!(a.y <= 250 && a.y + a.height >= 500);
    }
}
