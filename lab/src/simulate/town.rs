//! The town that stands still: cells, corners of streets, the ground at them where things happen, and the cameras.
//!
//! A corner is a piece of street 24 m long, seen from outside by one to three cameras. Its own plane has x along the street
//! and y across to the left, in metres from its middle; the roadway lies at |y| < 3.5, the pavements on both sides of it.

use fastrand::Rng;
use serde_json::{Value, json};

use super::chance::{Chance, stream};
use gridwatch_engine::{BBox, LonLat, Point, geometry::LocalPlane};

/// The middle of the town: nowhere in particular, as in configs/grid/example.geojson.
const HERE: LonLat = LonLat { lon: 120.0, lat: 30.0 };
/// Corners are this far apart along a street and from street to street: two views of 20 m each never reach one another.
const CORNER_EVERY_M: f64 = 140.0;
/// Corners in a street.
const IN_A_ROW: usize = 10;
/// Cells are about this large (0.04 km²; Beijing Chaoyang's average 0.058), their corners shifted by up to `CELL_SHIFT_M`,
/// for cities' cells follow streets and are no lattice.
const CELL_M: f64 = 200.0;
const CELL_SHIFT_M: f64 = 30.0;
/// Cameras at successive corners: three views of one ground, two, and single ones.
const AT_A_CORNER: [usize; 5] = [3, 2, 1, 1, 1];
/// Every fifth corner's camera has no calibration, and of every other group of three the last one has none either: few cities
/// have surveyed all their cameras.
const UNCALIBRATED_EVERY: usize = 5;
/// Poles stand there, x and y: the ends of the street piece, on its pavements.
const POLES: [(f64, f64); 3] = [(-15.0, 8.0), (15.0, 8.0), (14.0, -8.5)];
/// How high a street camera hangs.
const HEIGHT_M: (f64, f64) = (5.5, 7.0);
/// What a person clicks wrong when pairing points: 0.1° of the view (the aim error of docs/judging.md § 5).
const CLICK: f64 = 1.0 / 600.0;
/// What the map is wrong by, in metres.
const MAP_M: f64 = 0.3;
/// Nearer than this two things would stand in one another; and so far they lie from each other's zones at least.
const APART_M: f64 = 2.2;
const MARGIN_M: f64 = 0.9;
/// Share of the cameras that switch to infrared by night; the others' streets are lit well enough for colour.
const INFRARED_SHARE: f64 = 0.4;

/// What a piece of ground is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// Where people leave rubbish.
    Dump,
    /// Where a house's bags are put out for the lorry.
    Kerb,
    /// Where vendors like to stand.
    Pitch,
    /// A permitted pitch (规范设摊), with hours.
    Market,
    /// Containers, inside a drawn zone.
    Containers,
    /// A bus stop; vendors' rules are excluded here, for people wait under umbrellas.
    BusStop,
    /// In front of a café, which stacks its tables there.
    Terrace,
    /// Before a shop's line: what the shop puts here has spilled over.
    Frontage,
    /// A shop's own ground, behind its line.
    Shop,
    /// A wall with a sign that has its permit.
    Sign,
    /// A wall where a sign would be new.
    Wall,
}

impl Ground {
    /// How far across the street it lies, from and to; how large what is put there seems, and how high it begins, in metres.
    fn lies(self) -> ((f64, f64), (f64, f64), f64) {
        match self {
            Self::Shop => ((SHOP_M, SHOP_M), (2.0, 1.6), 0.0),
            Self::Frontage => ((FRONTAGE_M, FRONTAGE_M), (2.0, 1.6), 0.0),
            Self::Sign | Self::Wall => ((8.4, 8.4), (2.2, 1.0), 2.4),
            _ => ((4.6, 6.8), (2.0, 2.2), 0.0),
        }
    }
}

/// How far from the middle of the roadway a shop's own ground and the pavement before its line lie.
const SHOP_M: f64 = 7.6;
const FRONTAGE_M: f64 = 4.9;

/// A corner's ground, by use: how many, and at every how many-th corner.
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

/// A piece of ground where things happen.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) ground: Ground,
    /// x and y.
    pub(super) at: (f64, f64),
}

impl Place {
    /// Half of the ground that is drawn around it, where a zone is: along and across. People need more of it than things.
    fn zone_m(&self) -> (f64, f64) {
        match self.ground {
            Ground::Market | Ground::BusStop => (1.9, 1.5),
            Ground::Frontage | Ground::Shop => (1.9, 1.2),
            _ => (1.3, 0.9),
        }
    }

    /// True where two things can be put down without standing in one another, or in the zone that is drawn around one.
    fn is_free_of(&self, other: &Self) -> bool {
        let (dx, dy) = ((self.at.0 - other.at.0).abs(), (self.at.1 - other.at.1).abs());
        let (a, b) = (self.zone_m(), other.zone_m());
        dx.hypot(dy) >= APART_M && (dx >= a.0.max(b.0) + MARGIN_M || dy >= a.1.max(b.1) + MARGIN_M)
    }

    /// The shop whose frontage this is.
    fn shop(&self) -> Self {
        Self {
            ground: Ground::Shop,
            at: (self.at.0, SHOP_M.copysign(self.at.1)),
        }
    }

    /// The corners of the drawn ground.
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
    /// Where x and y are on the map.
    pub(super) fn lon_lat(&self, (x, y): (f64, f64)) -> LonLat {
        let (sin, cos) = self.bearing;
        self.plane.lon_lat(x * sin - y * cos, x * cos + y * sin)
    }

    /// The two pavements, x and y of their corners.
    pub(super) fn pavements() -> [[(f64, f64); 4]; 2] {
        [1.0, -1.0].map(|side| [(-12.0, 3.4), (12.0, 3.4), (12.0, 8.0), (-12.0, 8.0)].map(|(x, y)| (x, side * y)))
    }
}

/// A camera on its pole.
#[derive(Debug, Clone)]
pub(super) struct Camera {
    pub(super) id: String,
    pub(super) corner: usize,
    pub(super) lens: Pinhole,
    pub(super) is_infrared: bool,
    /// Point pairs, picture and ground, as a surveyor would have found them; empty where nobody did.
    pub(super) pairs: Vec<(Point, LonLat)>,
}

impl Camera {
    /// True where a vehicle on the roadway may stand between the camera and `at`.
    pub(super) fn is_across(&self, at: (f64, f64)) -> bool {
        at.1 * self.lens.pole.1 < 0.0
    }
}

/// Everything that stands still.
#[derive(Debug, Clone)]
pub(super) struct Town {
    pub(super) corners: Vec<Corner>,
    pub(super) cameras: Vec<Camera>,
    /// GeoJSON of its cells.
    pub(super) cells: Value,
}

impl Town {
    /// A town with so many cameras.
    pub(super) fn build(seed: u64, cameras: usize) -> Self {
        let mut town = Self {
            corners: Vec::new(),
            cameras: Vec::new(),
            cells: Value::Null,
        };
        while town.cameras.len() < cameras {
            let wanted = AT_A_CORNER[town.corners.len() % AT_A_CORNER.len()];
            town.corner(seed, wanted.min(cameras - town.cameras.len()));
        }
        let rows = town.corners.len().div_ceil(IN_A_ROW);
        town.cells = cells(seed, IN_A_ROW as f64 * CORNER_EVERY_M, rows as f64 * CORNER_EVERY_M);
        town
    }

    fn corner(&mut self, seed: u64, cameras: usize) {
        let index = self.corners.len();
        let mut chance = stream(seed, "corner", &[index as u64]);
        let town = LocalPlane::at(HERE);
        let east = (index % IN_A_ROW) as f64 * CORNER_EVERY_M;
        let north = (index / IN_A_ROW) as f64 * CORNER_EVERY_M;
        let middle = town.lon_lat(east + chance.between(-15.0, 15.0), north + chance.between(-15.0, 15.0));
        let mut corner = Corner {
            plane: LocalPlane::at(middle),
            bearing: chance.between(0.0, std::f64::consts::TAU).sin_cos(),
            places: Vec::new(),
            cameras: Vec::new(),
        };
        let first = self.cameras.len();
        for (n, pole) in POLES.into_iter().take(cameras).enumerate() {
            let is_surveyed = !(index % UNCALIBRATED_EVERY == UNCALIBRATED_EVERY - 1
                || (n == POLES.len() - 1 && index.is_multiple_of(2 * AT_A_CORNER.len())));
            let lens = Pinhole::towards(
                pole,
                chance.between(HEIGHT_M.0, HEIGHT_M.1),
                chance.between(-0.08, 0.08),
            );
            let pairs = if is_surveyed {
                survey(&corner, &lens, &mut chance)
            } else {
                Vec::new()
            };
            corner.cameras.push(self.cameras.len());
            self.cameras.push(Camera {
                id: format!("c{:03}", self.cameras.len() + 1),
                corner: index,
                lens,
                is_infrared: chance.happens(INFRARED_SHARE),
                pairs,
            });
        }
        let views = &self.cameras[first..];
        for (ground, count, every) in GROUNDS {
            for _ in 0..if index.is_multiple_of(every) { count } else { 0 } {
                let found = free_place(&corner.places, ground, views, &mut chance);
                // Behind a frontage lies its shop.
                let shop = found.as_ref().filter(|_| ground == Ground::Frontage).map(Place::shop);
                corner.places.extend(found.into_iter().chain(shop));
            }
        }
        self.corners.push(corner);
    }
}

/// A free spot on the pavements that one of the cameras sees well; `None` where none is found.
fn free_place(taken: &[Place], ground: Ground, views: &[Camera], chance: &mut Rng) -> Option<Place> {
    let (across, size, up) = ground.lies();
    (0..200).find_map(|_| {
        let side = if chance.bool() { 1.0 } else { -1.0 };
        let at = (chance.between(-10.0, 10.0), side * chance.between(across.0, across.1));
        let place = Place { ground, at };
        let is_free = |p: &Place| taken.iter().all(|t| p.is_free_of(t));
        let shows = |c: &Camera, p: &Place| c.lens.frames(p.at, size, up).is_some_and(|b| is_well_inside(&b));
        // A frontage is judged where its shop is seen too.
        let whole: Vec<Place> = match ground {
            Ground::Frontage => vec![place.clone(), place.shop()],
            _ => vec![place.clone()],
        };
        let is_seen = views.iter().any(|c| whole.iter().all(|p| shows(c, p)));
        (is_seen && whole.iter().all(is_free)).then_some(place)
    })
}

fn is_well_inside(bbox: &BBox) -> bool {
    bbox.x1 > 0.03 && bbox.x2 < 0.97 && bbox.y1 > 0.03 && bbox.y2 < 0.97
}

/// Marks of the ground that a person finds in the picture and on the map, each a little off.
fn survey(corner: &Corner, lens: &Pinhole, chance: &mut Rng) -> Vec<(Point, LonLat)> {
    let marks = [-10.0, -5.0, 0.0, 5.0, 10.0]
        .into_iter()
        .flat_map(|x| [-7.5, -3.5, 3.5, 7.5].map(|y| (x, y)));
    let seen = marks.filter_map(|at| {
        let (point, _) = lens.sees(at, 0.0)?;
        let is_inside = (0.03..0.97).contains(&point.x) && (0.03..0.97).contains(&point.y);
        is_inside.then_some((point, at))
    });
    seen.map(|(point, (x, y))| {
        let clicked = Point {
            x: point.x + CLICK * chance.between(-1.0, 1.0),
            y: point.y + CLICK * 16.0 / 9.0 * chance.between(-1.0, 1.0),
        };
        let mapped = (
            x + MAP_M * chance.between(-1.0, 1.0),
            y + MAP_M * chance.between(-1.0, 1.0),
        );
        (clicked, corner.lon_lat(mapped))
    })
    .collect()
}

/// Quadrilaterals that share their corners, 15 digits each, over the whole town and one cell beyond.
fn cells(seed: u64, width_m: f64, height_m: f64) -> Value {
    let (plane, mut chance) = (LocalPlane::at(HERE), stream(seed, "cells", &[]));
    let across = (width_m / CELL_M).ceil() as usize + 2;
    let up = (height_m / CELL_M).ceil() as usize + 2;
    let corners: Vec<Vec<[f64; 2]>> = (0..=up)
        .map(|row| {
            let mut corner = |column: usize| {
                let mut shifted = |n: usize| (n as f64 - 1.0) * CELL_M + CELL_SHIFT_M * chance.between(-1.0, 1.0);
                let at = plane.lon_lat(shifted(column), shifted(row));
                // As a city's file writes them: seven decimals are a centimetre.
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
        "name": "unit cells of a simulated town, of no real one",
        "crs": {"type": "name", "properties": {"name": "EPSG:4490"}},
        "features": features.collect::<Vec<_>>(),
    })
}

/// A camera without a lens error, 60° wide, 16:9, over flat ground.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pinhole {
    /// x and y of its foot.
    pole: (f64, f64),
    height_m: f64,
    /// Sine and cosine of its heading, from x = 0 towards y.
    heading: (f64, f64),
    /// Sine and cosine of its tilt below the horizon.
    tilt: (f64, f64),
}

/// Tangents of half the width and half the height of the view.
const HALF_WIDTH: f64 = 0.577_350_269_189_625_8;
const HALF_HEIGHT: f64 = HALF_WIDTH * 9.0 / 16.0;
/// What is nearer to the lens's plane than this is beside or behind the camera.
const NEAREST_M: f64 = 1.0;

impl Pinhole {
    /// One at `pole` that looks at the corner's middle, `off` radians beside it.
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

    /// How far in front of the lens's plane a point is: linear in the point.
    fn depth(&self, (x, y): (f64, f64), up: f64) -> f64 {
        let (dx, dy, dz) = (x - self.pole.0, y - self.pole.1, up - self.height_m);
        (dx * self.heading.1 + dy * self.heading.0) * self.tilt.1 - dz * self.tilt.0
    }

    /// Where a point is in the picture, inside of it or not, and how far away; `None` beside and behind the camera.
    pub(super) fn sees(&self, (x, y): (f64, f64), up: f64) -> Option<(Point, f64)> {
        let depth = self.depth((x, y), up);
        if depth < NEAREST_M {
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

    /// The box of an upright thing at `at`, so many metres wide and high, its lower edge `up` metres above the ground.
    pub(super) fn frames(&self, at: (f64, f64), (width_m, height_m): (f64, f64), up: f64) -> Option<BBox> {
        let (foot, depth) = self.sees(at, up)?;
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

    /// A piece of ground as it is drawn into the picture; `None` where too little of it is seen.
    pub(super) fn outline(&self, ground: &[(f64, f64)]) -> Option<Vec<[f64; 2]>> {
        let ahead: Vec<[f64; 2]> = ground.iter().map(|(x, y)| [*x, *y]).collect();
        let ahead = cut(&ahead, |[x, y]| self.depth((x, y), 0.0) - 1.5 * NEAREST_M);
        let mut shown: Vec<[f64; 2]> = ahead
            .iter()
            .filter_map(|[x, y]| self.sees((*x, *y), 0.0).map(|(p, _)| [p.x, p.y]))
            .collect();
        for axis in [0, 1] {
            shown = cut(&shown, |p| p[axis]);
            shown = cut(&shown, |p| 1.0 - p[axis]);
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
        // Less than a thousandth of the picture is a sliver at its rim.
        (twice.abs() > 2e-3).then_some(shown)
    }
}

/// The part of a convex polygon where `inside`, linear, is not negative (Sutherland and Hodgman 1974).
fn cut(polygon: &[[f64; 2]], inside: impl Fn([f64; 2]) -> f64) -> Vec<[f64; 2]> {
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
