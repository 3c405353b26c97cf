//! A street, cameras and a clock for driving the engine in tests.
#![allow(dead_code, unreachable_pub, reason = "each test file takes its own part of it")]

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use gridwatch_engine::{
    BBox, CameraId, CameraPlan, Case, Claim, Detection, Effect, Elsewhere, Engine, FixedPlace, Input, Intake, Known,
    Light, Location, LonLat, NotFiled, Observation, Place, PlaceMethod, Plan, Point, Reason, Resumed, Rule, Snapshot,
    View, Zone, ZoneKind,
    calendar::Calendar,
    geometry::{Calibration, LocalPlane},
    grid::{Grid, GridSpec},
};
use jiff::Timestamp;

mod rule;

pub use rule::rule;

/// Ground position of the street, in the middle of a cell.
pub const HERE: LonLat = LonLat {
    lon: 113.6005,
    lat: 34.7005,
};

/// 10 × 10 cells of 0.001° (92 m by 111 m); the street is in the middle of cell 044.
pub static GRID: LazyLock<Grid> = LazyLock::new(|| {
    let features: Vec<_> = (0..100)
        .map(|n| {
            let (w, s) = (
                113.5960 + f64::from(n % 10) * 0.001,
                34.6960 + f64::from(n / 10) * 0.001,
            );
            let (e, n_) = (w + 0.001, s + 0.001);
            serde_json::json!({
                "type": "Feature",
                "properties": {"code": format!("410105001001{n:03}")},
                "geometry": {"type": "Polygon", "coordinates": [[[w, s], [e, s], [e, n_], [w, n_], [w, s]]]},
            })
        })
        .collect();
    let file = serde_json::json!({
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "EPSG:4490"}},
        "features": features,
    });
    let spec = GridSpec {
        crs: "EPSG:4490".into(),
        code_property: "code".into(),
        code_pattern: r"^\d{15}$".into(),
    };
    Grid::parse(&file.to_string(), &spec).expect("the test's own grid")
});

/// A camera whose whole view is located at `HERE`, to within 5 m.
pub fn fixed() -> CameraPlan {
    fixed_at(HERE)
}

pub fn fixed_at(at: LonLat) -> CameraPlan {
    CameraPlan {
        look_every: Duration::from_secs(10),
        away: Duration::ZERO,
        zones: Vec::new(),
        place: Place::Fixed(FixedPlace { at, uncertainty_m: 5.0 }),
        approved: None,
    }
}

/// An axis-aligned rectangular zone.
pub fn zone(id: &str, kind: ZoneKind, x: (f64, f64), y: (f64, f64)) -> Zone {
    let polygon = [(x.0, y.0), (x.1, y.0), (x.1, y.1), (x.0, y.1)]
        .map(|(x, y)| Point { x, y })
        .to_vec();
    Zone {
        id: id.into(),
        kind,
        polygon,
        rules: Vec::new(),
    }
}

pub fn plan(cameras: impl IntoIterator<Item = (&'static str, CameraPlan)>, rules: Vec<Rule>) -> Plan {
    Plan {
        node: "box-1".into(),
        cameras: cameras.into_iter().map(|(id, camera)| (id.into(), camera)).collect(),
        rules,
        grid: GRID.clone(),
        intake: no_cap(),
        verification: gridwatch_engine::Verification::default(),
        picture_interval: Duration::ZERO,
        calendar: Calendar::default(),
    }
}

/// No daily cap, and no withdrawal.
pub fn no_cap() -> Intake {
    Intake {
        per_camera_day: u32::MAX,
        per_box_day: u32::MAX,
        let_go_after: None,
    }
}

/// `seconds` after the start of the tests' clock.
pub fn at(seconds: f64) -> Timestamp {
    Timestamp::from_millisecond(1_750_000_000_000 + (seconds * 1000.0).round() as i64).expect("in this century")
}

pub fn bbox(x1: f32, y1: f32, x2: f32, y2: f32) -> BBox {
    BBox { x1, y1, x2, y2 }
}

/// The box of a garbage heap in the middle of the picture.
pub const HEAP: BBox = BBox {
    x1: 0.45,
    y1: 0.5,
    x2: 0.55,
    y2: 0.6,
};

pub fn garbage(score: f32, bbox: BBox) -> Detection {
    Detection::new("garbage", score, bbox)
}

/// Another box's claim on garbage at `place`.
pub fn claim(case: &str, place: LonLat) -> Claim {
    Claim {
        case: case.into(),
        node: "box-2".into(),
        category: rule().category.code,
        located: Location {
            at: place,
            uncertainty_m: 5.0,
            method: PlaceMethod::CameraPoint,
            cell: GRID.cell_of(place).expect("within the grid").clone(),
        },
        merge_radius_m: 8.0,
        number: None,
        text: None,
    }
}

/// A change to another box's cases.
pub fn elsewhere(seconds: f64, what: Known) -> Input {
    Input::Elsewhere(Elsewhere { at: at(seconds), what })
}

/// Drives an engine, records its effects, and checks that pins are balanced.
pub struct Harness {
    pub engine: Engine,
    pub effects: Vec<Effect>,
    /// Reasons of all `Transition` effects, which `effects` leaves out.
    pub transitions: Vec<Reason>,
    pins: BTreeMap<(CameraId, Timestamp), u32>,
}

impl Harness {
    pub fn new(plan: Plan) -> Self {
        let mut harness = Self {
            engine: Engine::new(),
            effects: Vec::new(),
            transitions: Vec::new(),
            pins: BTreeMap::new(),
        };
        harness.apply(Input::Configured(Arc::new(plan)));
        harness
    }

    /// Applies one input and returns its effects without the `Transition`s.
    pub fn apply(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = self.engine.apply(input);
        let is_refused = |e: &&Effect| matches!(e, Effect::TransitionRefused { .. });
        assert_eq!(
            effects.iter().find(is_refused),
            None,
            "the engine keeps to its table of transitions"
        );
        effects.retain(|effect| match effect {
            Effect::Transition { reason, .. } => {
                self.transitions.push(*reason);
                false
            }
            _ => true,
        });
        for effect in &effects {
            match effect {
                Effect::Pin { camera, at } => *self.pins.entry((camera.clone(), *at)).or_default() += 1,
                Effect::Unpin { camera, at } => self.unpin(camera, *at),
                Effect::Open(case) => {
                    // Both looks are handed over to the evidence.
                    self.unpin(&case.camera, case.first_seen_at);
                    self.unpin(&case.camera, case.confirmed_at);
                }
                _ => {}
            }
        }
        self.effects.extend_from_slice(&effects);
        effects
    }

    /// Restarts the daemon under `plan` with the store's cases, the snapshot, and the pictures for which `has` returns
    /// true.
    pub fn restart(&mut self, plan: Plan, has: impl Fn(Timestamp) -> bool) {
        let snapshot = serde_json::to_string(&self.engine.snapshot()).expect("a snapshot is JSON");
        let snapshot: Snapshot = serde_json::from_str(&snapshot).expect("a snapshot parses");
        let pictures = snapshot.firsts().filter(|(_, at)| has(*at)).collect();
        let remembered: Vec<_> = self.engine.remembered().cloned().collect();
        // Pins do not survive the process.
        self.pins.clear();
        self.engine = Engine::new();
        self.apply(Input::Configured(Arc::new(plan)));
        for case in remembered {
            self.apply(Input::Restored(case));
        }
        self.apply(Input::Resumed(Box::new(Resumed { snapshot, pictures })));
    }

    fn unpin(&mut self, camera: &CameraId, at: Timestamp) {
        let key = (camera.clone(), at);
        let count = self.pins.get_mut(&key).expect("only pinned pictures are unpinned");
        *count -= 1;
        if *count == 0 {
            self.pins.remove(&key);
        }
    }

    /// Number of pins held.
    pub fn pins(&self) -> u32 {
        self.pins.values().sum()
    }

    pub fn look(&mut self, camera: &str, seconds: f64, detections: Vec<Detection>) -> Vec<Effect> {
        self.see(camera, seconds, View::Clear, detections)
    }

    pub fn see(&mut self, camera: &str, seconds: f64, view: View, detections: Vec<Detection>) -> Vec<Effect> {
        self.apply(Input::Observed(Observation {
            camera: camera.into(),
            at: at(seconds),
            view,
            light: Light::Day,
            detections,
            not_searched: Vec::new(),
        }))
    }

    /// Looks every 10 s from `from` to `to`, inclusive, that all see `HEAP`.
    pub fn heap_stays(&mut self, camera: &str, from: u32, to: u32) {
        for s in (from..=to).step_by(10) {
            self.look(camera, f64::from(s), vec![garbage(0.8, HEAP)]);
        }
    }

    pub fn opened(&self) -> Vec<&Case> {
        self.effects
            .iter()
            .filter_map(|e| {
                if let Effect::Open(case) = e {
                    Some(&**case)
                } else {
                    None
                }
            })
            .collect()
    }

    pub fn not_filed(&self) -> Vec<NotFiled> {
        let reason = |e: &Effect| {
            if let Effect::NotFiled { reason, .. } = e {
                Some(*reason)
            } else {
                None
            }
        };
        self.effects.iter().filter_map(reason).collect()
    }

    /// Removes every camera and rule; no pin may remain.
    pub fn close(&mut self) {
        self.apply(Input::Configured(Arc::new(plan([], Vec::new()))));
        assert_eq!(self.pins(), 0, "every pin is released or handed over");
    }
}

/// A pinhole camera, 60° wide, 16:9, over flat ground.
#[derive(Debug, Clone, Copy)]
pub struct Pinhole {
    /// Metres east and north of `HERE`.
    pub pole: (f64, f64),
    pub height_m: f64,
    /// Degrees clockwise from north.
    pub heading: f64,
    /// Degrees below the horizon.
    pub tilt: f64,
}

const HALF_WIDTH: f64 = 0.577_350_269_189_625_8;
const HALF_HEIGHT: f64 = HALF_WIDTH * 9.0 / 16.0;

impl Pinhole {
    /// A camera at `pole` that looks at `HERE`.
    pub fn towards_here(pole: (f64, f64), height_m: f64) -> Self {
        let heading = (-pole.0).atan2(-pole.1).to_degrees();
        let tilt = height_m.atan2(pole.0.hypot(pole.1)).to_degrees();
        Self {
            pole,
            height_m,
            heading,
            tilt,
        }
    }

    /// Picture position of a point (metres east, north and up of `HERE`), and its depth.
    pub fn sees(&self, (east, north, up): (f64, f64, f64)) -> (Point, f64) {
        let (dx, dy, dz) = (east - self.pole.0, north - self.pole.1, up - self.height_m);
        let (sin_h, cos_h) = self.heading.to_radians().sin_cos();
        let (sin_t, cos_t) = self.tilt.to_radians().sin_cos();
        let (ahead, right) = (dx * sin_h + dy * cos_h, dx * cos_h - dy * sin_h);
        let (depth, down) = (ahead * cos_t - dz * sin_t, -ahead * sin_t - dz * cos_t);
        let point = Point {
            x: 0.5 + right / depth / (2.0 * HALF_WIDTH),
            y: 0.5 + down / depth / (2.0 * HALF_HEIGHT),
        };
        (point, depth)
    }

    /// The box of an object at (east, north) of `HERE`, 1.6 m wide and 0.9 m high.
    pub fn frames(&self, (east, north): (f64, f64)) -> BBox {
        let (foot, depth) = self.sees((east, north, 0.0));
        let (half, high) = (0.8 / depth / (2.0 * HALF_WIDTH), 0.9 / depth / (2.0 * HALF_HEIGHT));
        bbox(
            (foot.x - half) as f32,
            (foot.y - high) as f32,
            (foot.x + half) as f32,
            foot.y as f32,
        )
    }

    /// Calibrated on six ground points around `HERE`, each clicked up to `blunder` off.
    pub fn plan(&self, blunder: f64) -> CameraPlan {
        let around = [
            (-3.5, -3.0),
            (3.5, -3.0),
            (3.5, 3.5),
            (-3.5, 3.5),
            (0.0, 0.5),
            (1.0, 2.5),
        ];
        self.plan_on(&around, blunder)
    }

    /// Calibrated on these ground points, metres east and north of `HERE`.
    pub fn plan_on(&self, points: &[(f64, f64)], blunder: f64) -> CameraPlan {
        let plane = LocalPlane::at(HERE);
        let pairs: Vec<_> = points
            .iter()
            .copied()
            .enumerate()
            .map(|(i, (east, north))| {
                let (mut p, _) = self.sees((east, north, 0.0));
                p.x += if i % 2 == 0 { blunder } else { -blunder };
                (p, plane.lon_lat(east, north))
            })
            .collect();
        CameraPlan {
            look_every: Duration::from_secs(10),
            away: Duration::ZERO,
            zones: Vec::new(),
            place: Place::Calibrated {
                calibration: Calibration::fit(&pairs).expect("points that determine a plane"),
                max_uncertainty_m: 15.0,
                fallback: FixedPlace {
                    at: HERE,
                    uncertainty_m: 30.0,
                },
            },
            approved: None,
        }
    }
}
