//! The static town: cells, street corners with the places where objects appear, and cameras.
//!
//! A corner is a piece of street 24 m long, seen by one to three cameras on poles at its ends. In its local plane x runs along
//! the street and y to the left across it, in metres from its centre; the roadway is |y| < 3.5, with a pavement on each side.

use fastrand::Rng;
use serde_json::{Value, json};

use super::random::{Distributions, stream};
use gridwatch_engine::{BBox, LonLat, Point, geometry::LocalPlane};

/// The town's origin, as in configs/grid/example.geojson.
const ORIGIN: LonLat = LonLat { lon: 120.0, lat: 30.0 };
/// Distance between corners, along a street and between streets: two views of 20 m never overlap.
const CORNER_EVERY_M: f64 = 140.0;
/// Corners per street.
const IN_A_ROW: usize = 10;
/// Approximate cell size (0.04 km²; Beijing Chaoyang's average is 0.058). The corners of the cells are shifted by up to
/// `CELL_SHIFT_M`, since real cells follow streets and are no lattice.
const CELL_M: f64 = 200.0;
const CELL_SHIFT_M: f64 = 30.0;
/// Cameras at successive corners: three views of the same ground, two, and single ones.
const AT_A_CORNER: [usize; 5] = [3, 2, 1, 1, 1];
/// The camera at every fifth corner has no calibration, and neither has the last one of every other group of three: few cities
/// have surveyed all their cameras.
const UNCALIBRATED_EVERY: usize = 5;
/// The poles' x and y: the ends of the street piece, on its pavements.
const POLES: [(f64, f64); 3] = [(-15.0, 8.0), (15.0, 8.0), (14.0, -8.5)];
/// Range of the cameras' heights.
const HEIGHT_M: (f64, f64) = (5.5, 7.0);
/// Error of a person who clicks a calibration point: 0.1° of the view (the aim error of docs/judging.md § 5).
const CLICK_ERROR: f64 = 1.0 / 600.0;
/// Error of the map in metres.
const MAP_ERROR_M: f64 = 0.3;
/// Minimum distance of two places, and minimum margin between a place and another's zone.
const APART_M: f64 = 2.2;
const MARGIN_M: f64 = 0.9;
/// Fraction of cameras that switch to infrared at night; the other streets are lit well enough for colour.
const INFRARED_SHARE: f64 = 0.4;

/// The use of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// Where people dump rubbish.
    Dump,
    /// Where a house puts out its bags for collection.
    Kerb,
    /// Where unlicensed vendors stand.
    Pitch,
    /// A permitted pitch (规范设摊), with hours.
    Market,
    /// Waste containers, inside a container zone.
    Containers,
    /// A bus stop; an exclude zone for the vendor rules, since people wait there under umbrellas.
    BusStop,
    /// In front of a café that stacks its tables there.
    Terrace,
    /// Beyond a shop's line: goods of the shop here have spilled over.
    Frontage,
    /// A shop's own ground, behind its line.
    Shop,
    /// A wall with an approved sign.
    Sign,
    /// A wall where any sign is new.
    Wall,
}

impl Ground {
    /// Range of |y|; width and height of an object placed here as seen from the front; and its height above the ground;
    /// in metres.
    fn extent(self) -> ((f64, f64), (f64, f64), f64) {
        match self {
            Self::Shop => ((SHOP_M, SHOP_M), (2.0, 1.6), 0.0),
            Self::Frontage => ((FRONTAGE_M, FRONTAGE_M), (2.0, 1.6), 0.0),
            Self::Sign | Self::Wall => ((8.4, 8.4), (2.2, 1.0), 2.4),
            _ => ((4.6, 6.8), (2.0, 2.2), 0.0),
        }
    }
}

/// Distance of a shop's own ground, and of the pavement beyond its line, from the centre of the roadway.
const SHOP_M: f64 = 7.6;
const FRONTAGE_M: f64 = 4.9;

/// The places of a corner by use: the number, at every n-th corner.
const GROUNDS: [(Ground, usize, usize); 10] = [
    (Ground::Frontage, 1, 3),
    (Ground::Dump, 2, 1),
    (Ground::Kerb, 1, 2),
    (Ground::Pitch, 2, 1),
    (Ground::Market, 1, 3),
    (Ground::Containers, 2, 2),
    (Ground::BusStop, 1, 3),
    (Ground::Terrace, 1, 2),
    (Ground::Sign, 2, 1),
    (Ground::Wall, 1, 2),
];

/// A place where objects appear.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) ground: Ground,
    /// x and y, in metres.
    pub(super) at: (f64, f64),
}

impl Place {
    /// Half the size of the zone drawn around it, along and across the street. People need more space than things.
    fn zone_m(&self) -> (f64, f64) {
        match self.ground {
            Ground::Market | Ground::BusStop => (1.9, 1.5),
            Ground::Frontage | Ground::Shop => (1.9, 1.2),
            _ => (1.3, 0.9),
        }
    }

    /// True if objects at both places neither overlap nor reach into each other's zone.
    fn is_free_of(&self, other: &Self) -> bool {
        let (dx, dy) = ((self.at.0 - other.at.0).abs(), (self.at.1 - other.at.1).abs());
        let (a, b) = (self.zone_m(), other.zone_m());
        dx.hypot(dy) >= APART_M && (dx >= a.0.max(b.0) + MARGIN_M || dy >= a.1.max(b.1) + MARGIN_M)
    }

    /// The shop behind this frontage.
    fn shop(&self) -> Self {
        Self {
            ground: Ground::Shop,
            at: (self.at.0, SHOP_M.copysign(self.at.1)),
        }
    }

    /// The corners of the zone.
    pub(super) fn outline(&self) -> [(f64, f64); 4] {
        let ((x, y), (a, b)) = (self.at, self.zone_m());
        [(x - a, y - b), (x + a, y - b), (x + a, y + b), (x - a, y + b)]
    }
}

/// A piece of street.
#[derive(Debug, Clone)]
pub(super) struct Corner {
    plane: LocalPlane,
    /// Sine and cosine of the street's bearing.
    bearing: (f64, f64),
    pub(super) places: Vec<Place>,
    /// Its cameras, as indices into [`Town::cameras`].
    pub(super) cameras: Vec<usize>,
}

impl Corner {
    /// The map coordinates of x and y.
    pub(super) fn lon_lat(&self, (x, y): (f64, f64)) -> LonLat {
        let (sin, cos) = self.bearing;
        self.plane.lon_lat(x * sin - y * cos, x * cos + y * sin)
    }

    /// The two pavements as polygons of x and y.
    pub(super) fn pavements() -> [[(f64, f64); 4]; 2] {
        [1.0, -1.0].map(|side| [(-12.0, 3.4), (12.0, 3.4), (12.0, 8.0), (-12.0, 8.0)].map(|(x, y)| (x, side * y)))
    }
}

/// A camera on its pole.
#[derive(Debug, Clone)]
pub(super) struct StreetCamera {
    pub(super) id: String,
    pub(super) corner: usize,
    pub(super) lens: Pinhole,
    pub(super) is_infrared: bool,
    /// Calibration point pairs (picture, ground); empty if the camera has no calibration.
    pub(super) pairs: Vec<(Point, LonLat)>,
}

impl StreetCamera {
    /// True if a vehicle on the roadway may stand between the camera and `at`.
    pub(super) fn is_across(&self, at: (f64, f64)) -> bool {
        at.1 * self.lens.pole.1 < 0.0
    }
}

/// The static town.
#[derive(Debug, Clone)]
pub(super) struct Town {
    pub(super) corners: Vec<Corner>,
    pub(super) cameras: Vec<StreetCamera>,
    /// Its cells as GeoJSON.
    pub(super) cells: Value,
}

impl Town {
    /// Builds a town with this number of cameras.
    pub(super) fn build(seed: u64, cameras: usize) -> Self {
        let mut town = Self {
            corners: Vec::new(),
            cameras: Vec::new(),
            cells: Value::Null,
        };
        while town.cameras.len() < cameras {
            let count = AT_A_CORNER[town.corners.len() % AT_A_CORNER.len()];
            town.corner(seed, count.min(cameras - town.cameras.len()));
        }
        let rows = town.corners.len().div_ceil(IN_A_ROW);
        town.cells = cells(seed, IN_A_ROW as f64 * CORNER_EVERY_M, rows as f64 * CORNER_EVERY_M);
        town
    }

    fn corner(&mut self, seed: u64, cameras: usize) {
        let index = self.corners.len();
        let mut rng = stream(seed, "corner", &[index as u64]);
        let town = LocalPlane::at(ORIGIN);
        let east = (index % IN_A_ROW) as f64 * CORNER_EVERY_M;
        let north = (index / IN_A_ROW) as f64 * CORNER_EVERY_M;
        let middle = town.lon_lat(east + rng.between(-15.0, 15.0), north + rng.between(-15.0, 15.0));
        let mut corner = Corner {
            plane: LocalPlane::at(middle),
            bearing: rng.between(0.0, std::f64::consts::TAU).sin_cos(),
            places: Vec::new(),
            cameras: Vec::new(),
        };
        let first = self.cameras.len();
        for (n, pole) in POLES.into_iter().take(cameras).enumerate() {
            let is_surveyed = !(index % UNCALIBRATED_EVERY == UNCALIBRATED_EVERY - 1
                || (n == POLES.len() - 1 && index.is_multiple_of(2 * AT_A_CORNER.len())));
            let lens = Pinhole::towards(pole, rng.between(HEIGHT_M.0, HEIGHT_M.1), rng.between(-0.08, 0.08));
            let pairs = if is_surveyed {
                survey(&corner, &lens, &mut rng)
            } else {
                Vec::new()
            };
            corner.cameras.push(self.cameras.len());
            self.cameras.push(StreetCamera {
                id: format!("c{:03}", self.cameras.len() + 1),
                corner: index,
                lens,
                is_infrared: rng.happens(INFRARED_SHARE),
                pairs,
            });
        }
        let views = &self.cameras[first..];
        for (ground, count, every) in GROUNDS {
            for _ in 0..if index.is_multiple_of(every) { count } else { 0 } {
                let found = free_place(&corner.places, ground, views, &mut rng);
                // A frontage comes with its shop behind it.
                let shop = found.as_ref().filter(|_| ground == Ground::Frontage).map(Place::shop);
                corner.places.extend(found.into_iter().chain(shop));
            }
        }
        self.corners.push(corner);
    }
}

/// A free place that one of the cameras sees well; `None` if none is found.
fn free_place(taken: &[Place], ground: Ground, views: &[StreetCamera], rng: &mut Rng) -> Option<Place> {
    let (across, size, up) = ground.extent();
    (0..200).find_map(|_| {
        let side = if rng.bool() { 1.0 } else { -1.0 };
        let at = (rng.between(-10.0, 10.0), side * rng.between(across.0, across.1));
        let place = Place { ground, at };
        let is_free = |p: &Place| taken.iter().all(|t| p.is_free_of(t));
        let is_well_visible =
            |c: &StreetCamera, p: &Place| c.lens.project_box(p.at, size, up).is_some_and(|b| is_well_inside(&b));
        // A frontage is only useful if its shop is visible, too.
        let places: Vec<Place> = match ground {
            Ground::Frontage => vec![place.clone(), place.shop()],
            _ => vec![place.clone()],
        };
        let is_seen = views.iter().any(|c| places.iter().all(|p| is_well_visible(c, p)));
        (is_seen && places.iter().all(is_free)).then_some(place)
    })
}

fn is_well_inside(bbox: &BBox) -> bool {
    bbox.x1 > 0.03 && bbox.x2 < 0.97 && bbox.y1 > 0.03 && bbox.y2 < 0.97
}

/// Ground marks that a person finds in the picture and on the map, each with its error.
fn survey(corner: &Corner, lens: &Pinhole, rng: &mut Rng) -> Vec<(Point, LonLat)> {
    let marks = [-10.0, -5.0, 0.0, 5.0, 10.0]
        .into_iter()
        .flat_map(|x| [-7.5, -3.5, 3.5, 7.5].map(|y| (x, y)));
    let seen = marks.filter_map(|at| {
        let (point, _) = lens.project(at, 0.0)?;
        let is_inside = (0.03..0.97).contains(&point.x) && (0.03..0.97).contains(&point.y);
        is_inside.then_some((point, at))
    });
    seen.map(|(point, (x, y))| {
        let clicked = Point {
            x: point.x + CLICK_ERROR * rng.between(-1.0, 1.0),
            y: point.y + CLICK_ERROR * 16.0 / 9.0 * rng.between(-1.0, 1.0),
        };
        let mapped = (
            x + MAP_ERROR_M * rng.between(-1.0, 1.0),
            y + MAP_ERROR_M * rng.between(-1.0, 1.0),
        );
        (clicked, corner.lon_lat(mapped))
    })
    .collect()
}

/// Quadrilateral cells with shared corners and 15-digit codes, covering the town and one cell beyond.
fn cells(seed: u64, width_m: f64, height_m: f64) -> Value {
    let (plane, mut rng) = (LocalPlane::at(ORIGIN), stream(seed, "cells", &[]));
    let across = (width_m / CELL_M).ceil() as usize + 2;
    let up = (height_m / CELL_M).ceil() as usize + 2;
    let corners: Vec<Vec<[f64; 2]>> = (0..=up)
        .map(|row| {
            let mut corner = |column: usize| {
                let mut shifted = |n: usize| (n as f64 - 1.0) * CELL_M + CELL_SHIFT_M * rng.between(-1.0, 1.0);
                let at = plane.lon_lat(shifted(column), shifted(row));
                // Seven decimals (1 cm), as in a city's file.
                [at.lon, at.lat].map(|degrees| (degrees * 1e7).round() / 1e7)
            };
            (0..=across).map(&mut corner).collect()
        })
        .collect();
    let features = (0..up)
        .flat_map(|row| (0..across).map(move |column| (row, column)))
        .map(|(row, column)| {
            let at = |up: usize, right: usize| corners[row + up][column + right];
            json!({
                "type": "Feature",
                "properties": {"code": format!("000000001001{:03}", row * across + column + 1)},
                "geometry": {"type": "Polygon", "coordinates": [[at(0, 0), at(0, 1), at(1, 1), at(1, 0), at(0, 0)]]},
            })
        });
    json!({
        "type": "FeatureCollection",
        "name": "unit cells of a simulated town",
        "crs": {"type": "name", "properties": {"name": "EPSG:4490"}},
        "features": features.collect::<Vec<_>>(),
    })
}

/// An ideal pinhole camera over flat ground: 60° wide, 16:9.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pinhole {
    /// x and y of its pole.
    pole: (f64, f64),
    height_m: f64,
    /// Sine and cosine of its heading, from x = 0 towards y.
    heading: (f64, f64),
    /// Sine and cosine of its tilt below the horizon.
    tilt: (f64, f64),
}

/// Tangents of half the horizontal and vertical field of view.
const HALF_WIDTH: f64 = 0.577_350_269_189_625_8;
const HALF_HEIGHT: f64 = HALF_WIDTH * 9.0 / 16.0;
/// Minimum depth in front of the camera; nearer points are beside or behind it.
const MIN_DEPTH_M: f64 = 1.0;

impl Pinhole {
    /// A camera at `pole` aimed at the corner's centre, `off` radians beside it.
    fn towards(pole: (f64, f64), height_m: f64, off: f64) -> Self {
        let heading = (-pole.1).atan2(-pole.0) + off;
        let tilt = height_m.atan2(pole.0.hypot(pole.1));
        Self {
            pole,
            height_m,
            heading: heading.sin_cos(),
            tilt: tilt.sin_cos(),
        }
    }

    /// Depth of a point in front of the camera; linear in the point.
    fn depth(&self, (x, y): (f64, f64), up: f64) -> f64 {
        let (dx, dy, dz) = (x - self.pole.0, y - self.pole.1, up - self.height_m);
        (dx * self.heading.1 + dy * self.heading.0) * self.tilt.1 - dz * self.tilt.0
    }

    /// The point's position in the picture (possibly outside it) and its depth; `None` beside and behind the camera.
    pub(super) fn project(&self, (x, y): (f64, f64), up: f64) -> Option<(Point, f64)> {
        let depth = self.depth((x, y), up);
        if depth < MIN_DEPTH_M {
            return None;
        }
        let (dx, dy, dz) = (x - self.pole.0, y - self.pole.1, up - self.height_m);
        let ahead = dx * self.heading.1 + dy * self.heading.0;
        let right = dx * self.heading.0 - dy * self.heading.1;
        let down = -ahead * self.tilt.0 - dz * self.tilt.1;
        let point = Point {
            x: 0.5 + right / depth / (2.0 * HALF_WIDTH),
            y: 0.5 + down / depth / (2.0 * HALF_HEIGHT),
        };
        Some((point, depth))
    }

    /// The box of an upright object at `at`, with its width and height in metres and its lower edge `up` metres above the ground.
    pub(super) fn project_box(&self, at: (f64, f64), (width_m, height_m): (f64, f64), up: f64) -> Option<BBox> {
        let (foot, depth) = self.project(at, up)?;
        let (half, high) = (
            width_m / 2.0 / depth / (2.0 * HALF_WIDTH),
            height_m / depth / (2.0 * HALF_HEIGHT),
        );
        Some(BBox {
            x1: (foot.x - half) as f32,
            y1: (foot.y - high) as f32,
            x2: (foot.x + half) as f32,
            y2: foot.y as f32,
        })
    }

    /// A ground polygon projected into the picture and clipped to it; `None` if too little of it is visible.
    pub(super) fn outline(&self, ground: &[(f64, f64)]) -> Option<Vec<[f64; 2]>> {
        let ahead: Vec<[f64; 2]> = ground.iter().map(|(x, y)| [*x, *y]).collect();
        let ahead = clip(&ahead, |[x, y]| self.depth((x, y), 0.0) - 1.5 * MIN_DEPTH_M);
        let mut shown: Vec<[f64; 2]> = ahead
            .iter()
            .filter_map(|[x, y]| self.project((*x, *y), 0.0).map(|(p, _)| [p.x, p.y]))
            .collect();
        for axis in [0, 1] {
            shown = clip(&shown, |p| p[axis]);
            shown = clip(&shown, |p| 1.0 - p[axis]);
        }
        let shown: Vec<[f64; 2]> = shown
            .iter()
            .map(|p| p.map(|v| (v.clamp(0.0, 1.0) * 1e4).round() / 1e4))
            .collect();
        let twice = shown
            .iter()
            .zip(shown.iter().cycle().skip(1))
            .map(|(a, b)| a[0] * b[1] - a[1] * b[0])
            .sum::<f64>();
        // Less than a thousandth of the picture is a sliver at its edge.
        (twice.abs() > 2e-3).then_some(shown)
    }
}

/// The part of a convex polygon where `inside`, which is linear, is not negative (Sutherland and Hodgman 1974).
fn clip(polygon: &[[f64; 2]], inside: impl Fn([f64; 2]) -> f64) -> Vec<[f64; 2]> {
    let mut kept: Vec<[f64; 2]> = Vec::new();
    for (from, to) in polygon.iter().zip(polygon.iter().cycle().skip(1)) {
        let (a, b) = (inside(*from), inside(*to));
        if a >= 0.0 {
            kept.push(*from);
        }
        if (a >= 0.0) != (b >= 0.0) {
            let t = a / (a - b);
            kept.push([0, 1].map(|i| from[i] + t * (to[i] - from[i])));
        }
    }
    kept
}
