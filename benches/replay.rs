//! Records and replays a week of 32 cameras: bytes, seconds, and whether memory stays constant.
//! `cargo bench --no-default-features --bench replay` (set DAYS and CAMERAS in the environment for a smaller run).

#[path = "../crates/engine/tests/engine_support/mod.rs"]
mod engine_support;

use std::{
    env, fs,
    sync::Arc,
    time::{Duration, Instant},
};

use gridwatch_engine::{
    Appearance, CameraId, CaseState, Detection, Effect, Input, Light, LonLat, Observation, Plan, Reply, Rule, View,
};
use gridwatch_ledger::{
    Reader, RecordedEngine, Recorder, RunInfo, Settings,
    replay::{Replay, Window},
};
use jiff::Timestamp;

use self::engine_support::{bbox, fixed_at, garbage, rule};

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

/// A realistic street: two permanent objects in each picture, heaps of garbage that appear for an hour twice a day, and
/// passers-by.
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
                if let Effect::Open(case) = effect {
                    filed += 1;
                    // The platform closes it at once, so that open cases do not accumulate.
                    live.apply(Input::Reply(Reply {
                        case: case.id,
                        state: CaseState::Closed,
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
        appearance: Some(Appearance(appearance)),
        ..garbage(score + jitter(), bbox(x + dx, 0.5 + dy, x + 0.12 + dx, 0.62 + dy))
    }
}

/// Up to 100 cameras, each in a grid cell of its own, and two rules.
fn plan(cameras: u32) -> Plan {
    let rule = |id: &str, label: &str, dwell| Rule {
        id: id.into(),
        labels: vec![label.into()],
        dwell: Duration::from_secs(dwell),
        forget_after: Duration::from_secs(600),
        ..rule()
    };
    let camera = |n: u32| {
        let at = LonLat {
            lon: 113.5965 + f64::from(n % 10) * 0.001,
            lat: 34.6965 + f64::from(n / 10) * 0.001,
        };
        (CameraId::from(format!("camera-{n:02}")), fixed_at(at))
    };
    let rules = vec![rule("garbage", "garbage", 1800), rule("loiterer", "person", 300)];
    Plan {
        cameras: (0..cameras).map(camera).collect(),
        ..engine_support::plan([], rules)
    }
}
