//! Records and replays a week of 32 cameras: bytes, seconds, and whether memory stays constant.
//! `cargo bench --no-default-features --bench replay` (set DAYS and CAMERAS in the environment for a smaller run).

use std::{
    collections::BTreeMap,
    env, fs,
    sync::Arc,
    time::{Duration, Instant},
};

use gridwatch_engine::{
    Appearance, BBox, CameraId, CameraPlan, Category, Detection, FixedPlace, Input, Intake, Light, LonLat, Observation,
    Place, Plan, Rule, Scores, Stands, View,
    calendar::{Calendar, Hours},
    grid::{Grid, GridSpec},
};
use gridwatch_ledger::{
    Reader, RecordedEngine, Recorder, RunInfo, Settings,
    replay::{Replay, Window},
};
use jiff::Timestamp;

const HERE: LonLat = LonLat { lon: 113.6, lat: 34.7 };
const LOOK_EVERY: u32 = 10;

fn main() {
    let number = |name: &str, or: u32| env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(or);
    let (days, cameras) = (number("DAYS", 7), number("CAMERAS", 32));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let plan = Arc::new(plan(cameras));
    let started = Instant::now();
    let (looks, boxes, filed) = record(dir.path(), &plan, days);
    let recorded = started.elapsed();
    let bytes: u64 = fs::read_dir(dir.path())
        .expect("the directory exists")
        .filter_map(|e| e.ok()?.metadata().ok())
        .map(|m| m.len())
        .sum();
    println!(
        "recorded  {looks} looks, {boxes} boxes, {filed} cases: {:.1} MB, {:.1} bytes a look with its boxes, {:.1} s",
        bytes as f64 / 1e6,
        bytes as f64 / f64::from(looks),
        recorded.as_secs_f64()
    );

    let started = Instant::now();
    let mut reader = Reader::open(dir.path(), None).expect("it was just recorded");
    let mut records = 0u64;
    while reader.next_entry().expect("it was just recorded").is_some() {
        records += 1;
    }
    println!("read      {records} records: {:.2} s", started.elapsed().as_secs_f64());

    let started = Instant::now();
    let mut reader = Reader::open(dir.path(), None).expect("it was just recorded");
    let mut replay = Replay::new(plan, Window::default());
    let (mut applied, mut after_a_tenth) = (0u64, 0.0);
    while let Some(entry) = reader.next_entry().expect("it was just recorded") {
        replay.apply(entry);
        applied += 1;
        if applied == records / 10 {
            after_a_tenth = resident_mb();
        }
    }
    let tally = replay.tally();
    assert_eq!(tally.cases, filed, "a replay opens the same cases");
    println!(
        "replayed  {} looks, {} cases: {:.2} s; resident {after_a_tenth:.1} MB after a tenth, {:.1} MB at the end",
        tally.looks,
        tally.cases,
        started.elapsed().as_secs_f64(),
        resident_mb()
    );
}

fn resident_mb() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(f64::NAN);
    pages * rustix::param::page_size() as f64 / 1e6
}

/// A realistic street: two permanent objects in each picture, heaps of garbage that appear for an hour twice a day, and passers-by.
fn record(dir: &std::path::Path, plan: &Arc<Plan>, days: u32) -> (u32, u64, u64) {
    let settings = Settings {
        dir: dir.to_path_buf(),
        file_bytes: 64 << 20,
        keep_bytes: u64::MAX,
        keep_for: Duration::MAX,
    };
    let start = Timestamp::from_second(1_750_000_000).expect("a time");
    let run = RunInfo {
        started_at: start,
        boot: String::new(),
        config_sha256: String::new(),
    };
    let recorder = Recorder::spawn(settings, run).expect("a thread");
    let mut live = RecordedEngine::start(Arc::clone(plan), Vec::new(), Some(recorder));
    let mut rng = fastrand::Rng::with_seed(7);
    let names: Vec<CameraId> = plan.cameras.keys().cloned().collect();
    let (mut looks, mut boxes, mut filed) = (0, 0, 0);
    for round in 0..days * 86400 / LOOK_EVERY {
        for (n, camera) in (0u32..).zip(&names) {
            let s = round * LOOK_EVERY;
            let at = start + Duration::from_nanos(u64::from(s) * 1_000_000_000 + u64::from(n) * 311_000_017);
            let mut detections = vec![
                seen("garbage_bin", 0.1, 0.8, &mut rng),
                seen("sign", 0.3, 0.6, &mut rng),
            ];
            if (s / 3600 + n).is_multiple_of(12) {
                detections.push(seen("garbage", 0.5, 0.7, &mut rng));
            }
            if rng.f32() < 0.5 {
                let x = rng.f32() * 0.8;
                detections.push(seen("person", x, 0.7, &mut rng));
            }
            looks += 1;
            boxes += detections.len() as u64;
            let look = Observation {
                camera: camera.clone(),
                at,
                view: View::Clear,
                light: Light::Day,
                detections,
                not_searched: Vec::new(),
            };
            let effects = live.apply(Input::Observed(look));
            for effect in effects {
                if let gridwatch_engine::Effect::Open(case) = effect {
                    filed += 1;
                    // The platform closes it at once, so that open cases do not accumulate.
                    live.apply(Input::Reply(gridwatch_engine::Reply {
                        case: case.id,
                        state: gridwatch_engine::CaseState::Closed,
                        at,
                        reason: None,
                        due: None,
                    }));
                }
            }
            // Time runs thousands of times faster than live; give the disk time to keep up.
            if looks % 100_000 == 0 {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    (looks, boxes, filed)
}

fn seen(label: &str, x: f32, score: f32, rng: &mut fastrand::Rng) -> Detection {
    // A colour per object, with some sensor noise.
    let colour = label
        .bytes()
        .fold(x.to_bits(), |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    let mut colours = fastrand::Rng::with_seed(colour.into());
    let appearance = std::array::from_fn(|_| colours.u8(60..196).wrapping_add(rng.u8(0..6)));
    let mut jitter = || (rng.f32() - 0.5) * 0.02;
    let (dx, dy) = (jitter(), jitter());
    Detection {
        label: label.into(),
        score: score + jitter(),
        appearance: Some(Appearance(appearance)),
        number: None,
        second_look: None,
        bbox: BBox {
            x1: x + dx,
            y1: 0.5 + dy,
            x2: x + 0.12 + dx,
            y2: 0.62 + dy,
        },
    }
}

fn plan(cameras: u32) -> Plan {
    let cell = serde_json::json!({
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "EPSG:4490"}},
        "features": [{
            "type": "Feature",
            "properties": {"code": "410105001001001"},
            "geometry": {"type": "Polygon", "coordinates": [[
                [113.5, 34.6], [113.7, 34.6], [113.7, 34.8], [113.5, 34.8], [113.5, 34.6]
            ]]},
        }],
    });
    let spec = GridSpec {
        crs: "EPSG:4490".into(),
        code_property: "code".into(),
        code_pattern: r"^\d{15}$".into(),
    };
    let rule = |id: &str, label: &str, dwell| Rule {
        id: id.into(),
        category: Category {
            code: "0102".into(),
            scheme: "bench@1".into(),
            name_zh: "暴露垃圾".into(),
            name_en: "Exposed garbage".into(),
        },
        labels: vec![label.into()],
        day: Scores { start: 0.5, keep: 0.3 },
        night: Scores { start: 0.5, keep: 0.3 },
        dwell: Duration::from_secs(dwell),
        seen_n: 3,
        seen_m: 5,
        present_share: 0.6,
        max_move: 0.5,
        max_move_m: None,
        min_area: 0.0005,
        min_area_m2: None,
        min_count: None,
        gather: 0.0,
        attended: None,
        second_look: None,
        outside_containers: true,
        beyond: None,
        stands: Stands::Ground,
        except_approved: false,
        hours: Hours::default(),
        forget_after: Duration::from_secs(600),
        max_gap: Duration::from_secs(90),
        merge_radius_m: 8.0,
    };
    let camera = |n: u32| {
        let at = LonLat {
            lon: HERE.lon + f64::from(n) * 0.001,
            ..HERE
        };
        let plan = CameraPlan {
            look_every: Duration::from_secs(LOOK_EVERY.into()),
            away: Duration::ZERO,
            zones: Vec::new(),
            place: Place::Fixed(FixedPlace { at, uncertainty_m: 5.0 }),
            approved: None,
        };
        (CameraId::from(format!("camera-{n:02}")), plan)
    };
    Plan {
        node: "bench".into(),
        cameras: (0..cameras).map(camera).collect::<BTreeMap<_, _>>(),
        rules: vec![rule("garbage", "garbage", 1800), rule("loiterer", "person", 300)],
        grid: Grid::parse(&cell.to_string(), &spec).expect("a valid grid"),
        intake: Intake {
            per_camera_day: u32::MAX,
            per_box_day: u32::MAX,
            let_go_after: None,
        },
        verification: gridwatch_engine::Verification::default(),
        picture_interval: Duration::ZERO,
        calendar: Calendar::default(),
    }
}
