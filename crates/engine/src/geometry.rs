//! Pure geometry: boxes, polygons, ground distances, calibration.
//!
//! Picture positions are fractions of width and height, so x and y have different units. Distances in a picture are
//! therefore measured in units of a box (see [`BBox::shift_to`]), where the aspect ratio cancels.

mod calibration;
mod crs;
mod homography;
mod lens;

pub use calibration::{Calibration, CalibrationError};
pub use crs::{Crs, CrsError, LocalFrame};
pub use lens::Lens;

use serde::{Deserialize, Serialize};

use super::types::{BBox, LonLat, Point};

/// WGS 84 semi-major axis in metres (NIMA TR8350.2, table 3.1); identical for CGCS2000.
const SEMI_MAJOR_M: f64 = 6_378_137.0;
/// WGS 84 first eccentricity squared (same table); CGCS2000 differs in the eleventh digit.
const ECCENTRICITY_SQUARED: f64 = 6.694_379_990_14e-3;

/// Minimum share of a part inside the place: the bags of a heap count for the heap, neighbouring objects do not.
const MIN_INSIDE: f64 = 0.5;
/// Minimum share of the place that a part covers: one bottle is not a heap.
const MIN_COVERED: f64 = 0.1;

/// Smallest ratio of the areas of two boxes of one thing, and share of the smaller that lies in the larger.
const MIN_SIZE_RATIO: f64 = 0.15;
const MIN_COMMON: f64 = 0.7;

impl BBox {
    /// The box clipped to the picture; `None` if nothing is left or a coordinate is not finite.
    pub fn within_picture(self) -> Option<Self> {
        let all = [self.x1, self.y1, self.x2, self.y2];
        if !all.iter().all(|v| v.is_finite()) {
            return None;
        }
        let [x1, y1, x2, y2] = all.map(|v| v.clamp(0.0, 1.0));
        (x1 < x2 && y1 < y2).then_some(Self { x1, y1, x2, y2 })
    }

    /// Width, as a fraction of the picture's.
    pub fn width(&self) -> f64 {
        f64::from(self.x2) - f64::from(self.x1)
    }

    /// Height, as a fraction of the picture's.
    pub fn height(&self) -> f64 {
        f64::from(self.y2) - f64::from(self.y1)
    }

    /// Area, as a share of the picture's.
    pub fn area(&self) -> f64 {
        self.width().max(0.0) * self.height().max(0.0)
    }

    /// Its centre.
    pub fn centre(&self) -> Point {
        Point {
            x: f64::midpoint(self.x1.into(), self.x2.into()),
            y: f64::midpoint(self.y1.into(), self.y2.into()),
        }
    }

    /// True if the point lies in it or on its edge.
    pub fn contains(&self, Point { x, y }: Point) -> bool {
        (f64::from(self.x1)..=self.x2.into()).contains(&x) && (f64::from(self.y1)..=self.y2.into()).contains(&y)
    }

    /// The middle of its lower edge, where the object touches the ground.
    pub fn foot(&self) -> Point {
        Point {
            x: f64::midpoint(self.x1.into(), self.x2.into()),
            y: self.y2.into(),
        }
    }

    /// Intersection over union, 0..=1; 0 for boxes without area.
    pub fn iou(&self, other: &Self) -> f64 {
        let both = self.intersection_area(other);
        if both <= 0.0 {
            return 0.0;
        }
        both / (self.area() + other.area() - both)
    }

    /// True if the box shows the object at `place` or a part of it, rather than a neighbour or what both stand on.
    pub fn is_part_of(&self, place: &Self) -> bool {
        let common = self.intersection_area(place);
        // False for NaN.
        common >= MIN_INSIDE * self.area() && common >= MIN_COVERED * place.area() && common > 0.0
    }

    /// The share of its area that lies in `other`, 0..=1; 0 for a box without area.
    pub fn share_in(&self, other: &Self) -> f64 {
        match self.area() {
            area if area > 0.0 => (self.intersection_area(other) / area).min(1.0),
            _ => 0.0,
        }
    }

    /// True if the two boxes are about one thing: the smaller lies mostly in the larger, and is not a small part of it. A region of change and a
    /// network's box of one thing overlap by an IoU of 0.2 to 0.6.
    pub fn is_same_thing_as(&self, other: &Self) -> bool {
        let (a, b) = (self.area(), other.area());
        let (small, large) = (a.min(b), a.max(b));
        small > 0.0 && small >= MIN_SIZE_RATIO * large && self.intersection_area(other) >= MIN_COMMON * small
    }

    /// The smallest box around both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            x1: self.x1.min(other.x1),
            y1: self.y1.min(other.y1),
            x2: self.x2.max(other.x2),
            y2: self.y2.max(other.y2),
        }
    }

    /// Area of the intersection.
    pub fn intersection_area(&self, other: &Self) -> f64 {
        let w = f64::from(self.x2.min(other.x2)) - f64::from(self.x1.max(other.x1));
        let h = f64::from(self.y2.min(other.y2)) - f64::from(self.y1.max(other.y1));
        w.max(0.0) * h.max(0.0)
    }

    /// Distance from its centre to the centre of `other`, in diagonals of this box: a shift by its whole width and
    /// height is 1, by its width alone 0.71. Infinite if this box has no area.
    pub fn shift_to(&self, other: &Self) -> f64 {
        let (a, b) = (self.centre(), other.centre());
        if self.area() <= 0.0 {
            return f64::INFINITY;
        }
        ((b.x - a.x) / self.width()).hypot((b.y - a.y) / self.height()) / std::f64::consts::SQRT_2
    }
}

/// A position in a plane: a picture, or degrees treated as a plane.
pub trait Planar: Copy {
    /// The x and y coordinates.
    fn xy(self) -> (f64, f64);
}

impl Planar for Point {
    fn xy(self) -> (f64, f64) {
        (self.x, self.y)
    }
}

impl Planar for LonLat {
    fn xy(self) -> (f64, f64) {
        (self.lon, self.lat)
    }
}

/// Where a point lies relative to a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Strictly inside.
    Inside,
    /// On an edge or corner, as far as floating point can tell.
    Edge,
    /// Strictly outside.
    Outside,
}

/// Where `p` lies relative to `ring` (corners in order, the first not repeated), by the even-odd rule.
///
/// Each edge is evaluated from its lower to its upper end whichever way the ring runs, so two polygons that share an
/// edge compute the same value for it: a point next to the edge is inside exactly one of them, whatever the rounding.
/// (Crossing number after W. R. Franklin, PNPOLY, with normalised edges.)
pub fn side_of<P: Planar>(ring: &[P], p: P) -> Side {
    let (px, py) = p.xy();
    let Some(last) = ring.last() else {
        return Side::Outside;
    };
    let mut inside = false;
    let mut from = last.xy();
    for corner in ring {
        let to = corner.xy();
        let (low, high) = if (from.1, from.0) <= (to.1, to.0) {
            (from, to)
        } else {
            (to, from)
        };
        from = to;
        if py < low.1 || py > high.1 {
            continue;
        }
        if low.1 == high.1 {
            if (low.0..=high.0).contains(&px) {
                return Side::Edge;
            }
            continue;
        }
        let left_of = (high.0 - low.0) * (py - low.1) - (px - low.0) * (high.1 - low.1);
        if left_of == 0.0 {
            return Side::Edge;
        }
        // Half open at the upper end, so that a corner between two edges is crossed once.
        if py < high.1 && left_of > 0.0 {
            inside = !inside;
        }
    }
    if inside { Side::Inside } else { Side::Outside }
}

/// Metres around a point, on the tangent plane of the ellipsoid. Accurate to 1 in 10⁴ within 10 km.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalPlane {
    origin: LonLat,
    m_per_degree_lon: f64,
    m_per_degree_lat: f64,
}

impl LocalPlane {
    /// The plane at `origin`, scaled by the ellipsoid's radii of curvature: in the prime vertical N = a / √(1 − e² sin²
    /// φ) and in the meridian M = N (1 − e²) / (1 − e² sin² φ) (Snyder, USGS PP 1395, 4-18 to 4-20).
    pub fn at(origin: LonLat) -> Self {
        let (sin, cos) = origin.lat.to_radians().sin_cos();
        let under = 1.0 - ECCENTRICITY_SQUARED * sin * sin;
        let n = SEMI_MAJOR_M / under.sqrt();
        let m = n * (1.0 - ECCENTRICITY_SQUARED) / under;
        Self {
            origin,
            m_per_degree_lon: (n * cos).to_radians(),
            m_per_degree_lat: m.to_radians(),
        }
    }

    /// Metres east and north of the origin.
    pub fn metres(&self, p: LonLat) -> (f64, f64) {
        // Take the shorter way round at the date line.
        let dlon = (p.lon - self.origin.lon + 540.0).rem_euclid(360.0) - 180.0;
        (
            dlon * self.m_per_degree_lon,
            (p.lat - self.origin.lat) * self.m_per_degree_lat,
        )
    }

    /// The degrees of longitude and latitude that span `metres` here.
    pub fn degrees(&self, metres: f64) -> (f64, f64) {
        (metres / self.m_per_degree_lon, metres / self.m_per_degree_lat)
    }

    /// The position `east` and `north` metres from the origin.
    pub fn lon_lat(&self, east: f64, north: f64) -> LonLat {
        LonLat {
            lon: self.origin.lon + east / self.m_per_degree_lon,
            lat: self.origin.lat + north / self.m_per_degree_lat,
        }
    }
}

/// Distance between two positions in metres, on the plane at the point between them (see [`LocalPlane`]).
pub fn distance_m(a: LonLat, b: LonLat) -> f64 {
    let plane = LocalPlane::at(LonLat {
        lon: a.lon,
        lat: f64::midpoint(a.lat, b.lat),
    });
    let ((east_a, north_a), (east_b, north_b)) = (plane.metres(a), plane.metres(b));
    (east_b - east_a).hypot(north_b - north_a)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bbox(x1: f32, y1: f32, x2: f32, y2: f32) -> BBox {
        BBox { x1, y1, x2, y2 }
    }

    #[test]
    fn boxes_are_measured() {
        let b = bbox(0.25, 0.5, 0.75, 1.0);
        assert_eq!(b.area(), 0.25);
        assert_eq!(b.foot(), Point { x: 0.5, y: 1.0 });
        assert_eq!(b.iou(&b), 1.0);
        assert_eq!(b.iou(&bbox(0.75, 0.5, 1.0, 1.0)), 0.0, "touching is not overlapping");
        assert!(
            (b.shift_to(&bbox(0.75, 1.0, 1.25, 1.5)) - 1.0).abs() < 1e-9,
            "one diagonal"
        );
        assert_eq!(bbox(f32::NAN, 0.0, 1.0, 1.0).within_picture(), None);
        assert_eq!(
            bbox(-0.5, 0.5, 0.5, 1.5).within_picture(),
            Some(bbox(0.0, 0.5, 0.5, 1.0))
        );
        assert_eq!(bbox(0.5, 0.5, 0.5, 0.9).within_picture(), None);
    }

    #[test]
    fn a_point_on_the_boundary_is_on_the_edge() {
        let ring = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)].map(|(x, y)| Point { x, y });
        for (x, y) in [(0.0, 0.0), (1.0, 1.0), (0.5, 0.0), (0.5, 1.0), (0.0, 0.5), (1.0, 0.5)] {
            assert_eq!(side_of(&ring, Point { x, y }), Side::Edge, "{x} {y}");
        }
        assert_eq!(side_of(&ring, Point { x: 0.5, y: 0.5 }), Side::Inside);
        assert_eq!(
            side_of(&ring, Point { x: 1.5, y: 1.0 }),
            Side::Outside,
            "level with a corner"
        );
        assert_eq!(side_of::<Point>(&[], Point { x: 0.0, y: 0.0 }), Side::Outside);
    }

    #[test]
    fn a_degree_of_latitude_and_longitude_have_the_ellipsoids_length() {
        // Snyder, USGS PP 1395, table 4: at 45° one degree of latitude is 111.132 km, of longitude 78.847 km.
        let at = |lon, lat| LonLat { lon, lat };
        assert!((distance_m(at(0.0, 44.5), at(0.0, 45.5)) - 111_132.0).abs() < 10.0);
        assert!((distance_m(at(7.0, 45.0), at(8.0, 45.0)) - 78_847.0).abs() < 10.0);
        assert!(
            distance_m(at(179.9999, 30.0), at(-179.9999, 30.0)) < 25.0,
            "across the date line"
        );
    }

    /// Slow reference: the sum of the angles subtended by the edges is ±2π inside and 0 outside.
    fn winds_around(ring: &[Point], p: Point) -> bool {
        let mut angle = 0.0;
        for (i, a) in ring.iter().enumerate() {
            let b = ring[(i + 1) % ring.len()];
            let (ax, ay, bx, by) = (a.x - p.x, a.y - p.y, b.x - p.x, b.y - p.y);
            angle += (ax * by - ay * bx).atan2(ax * bx + ay * by);
        }
        angle.abs() > std::f64::consts::PI
    }

    proptest! {
        #[test]
        fn side_agrees_with_the_winding_angle(
            // A star-shaped ring never crosses itself, so even-odd and winding must agree.
            radii in prop::collection::vec(0.1f64..0.5, 3..12),
            x in 0.0f64..1.0, y in 0.0f64..1.0, reverse: bool,
        ) {
            let n = radii.len() as f64;
            let mut ring: Vec<Point> = radii.iter().enumerate().map(|(i, r)| {
                let (sin, cos) = (i as f64 / n * std::f64::consts::TAU).sin_cos();
                Point { x: 0.5 + r * cos, y: 0.5 + r * sin }
            }).collect();
            if reverse {
                ring.reverse();
            }
            let p = Point { x, y };
            match side_of(&ring, p) {
                Side::Inside => prop_assert!(winds_around(&ring, p)),
                Side::Outside => prop_assert!(!winds_around(&ring, p)),
                Side::Edge => {}
            }
        }

        #[test]
        fn a_shared_edge_leaves_no_gap_and_no_overlap(
            a in (0.0f64..1.0, 0.0f64..1.0), b in (0.0f64..1.0, 0.0f64..1.0), t in 0.0f64..1.0,
        ) {
            // Two triangles on either side of the edge a–b, and points as close to it as floats allow.
            let (dx, dy) = (b.0 - a.0, b.1 - a.1);
            prop_assume!(dx.hypot(dy) > 1e-3);
            let point = |x, y| Point { x, y };
            let (mx, my) = (f64::midpoint(a.0, b.0), f64::midpoint(a.1, b.1));
            let left = [point(a.0, a.1), point(b.0, b.1), point(mx - 5.0 * dy, my + 5.0 * dx)];
            let right = [point(b.0, b.1), point(a.0, a.1), point(mx + 5.0 * dy, my - 5.0 * dx)];
            // Away from the ends, where the other edges come close too.
            let t = 0.01 + 0.98 * t;
            let p = point(a.0 + t * dx, a.1 + t * dy);
            match (side_of(&left, p), side_of(&right, p)) {
                (Side::Edge, Side::Edge) | (Side::Inside, Side::Outside) | (Side::Outside, Side::Inside) => {}
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn metres_round_trip(lon in -180.0f64..180.0, lat in -80.0f64..80.0, e in -5e3f64..5e3, n in -5e3f64..5e3) {
            let plane = LocalPlane::at(LonLat { lon, lat });
            let (east, north) = plane.metres(plane.lon_lat(e, n));
            prop_assert!((east - e).abs() < 1e-6 && (north - n).abs() < 1e-6);
        }
    }
}
