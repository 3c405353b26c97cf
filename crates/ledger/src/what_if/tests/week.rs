//! How long a week of 32 cameras takes. Measured, not asserted; that each answer is that of a plain replay is asserted:
//! `cargo test --release -p gridwatch-ledger a_week_of_32_cameras -- --ignored --nocapture`.

use std::{fs, time::Instant};

use super::*;

const CAMERAS: i64 = 32;
const DAYS: i64 = 7;
const LOOK_EVERY: i64 = 10;

/// A number that looks random, 0..1, the same for the same input.
fn chance(seed: i64) -> f32 {
    let mixed = (seed as u64).wrapping_mul(6_364_136_223_846_793_005).rotate_left(23) ^ 0x9E37_79B9_7F4A_7C15;
    let mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) as f32 / (1 << 24) as f32
}

/// A person and a car that pass, and for some of every half hour a heap of some score at some place.
fn detections(camera: i64, second: i64) -> Vec<Detection> {
    let slot = second / 1800;
    let of_slot = |n: i64| chance((slot * CAMERAS + camera) * 8 + n);
    let bbox = |x: f32, y: f32| BBox {
        x1: x,
        y1: y,
        x2: x + 0.08,
        y2: y + 0.08,
    };
    let mut found = vec![
        Detection::new("person", 0.8, bbox(0.9 * chance(second + camera), 0.8)),
        Detection::new("car", 0.7, bbox(0.9 * chance(second * 3 + camera), 0.7)),
    ];
    let begin = (of_slot(0) * 900.0) as i64;
    if of_slot(1) < 0.6 && (begin..begin + (of_slot(2) * 900.0) as i64).contains(&(second % 1800)) {
        let score = 0.25 + 0.5 * of_slot(3) + 0.2 * chance(second * 7 + camera);
        let mut heap = Detection::new("garbage", score, bbox(0.1 + 0.7 * of_slot(4), 0.75 + 0.1 * of_slot(5)));
        heap.set_second_look(&"garbage".into(), score);
        found.push(heap);
    }
    found
}

/// What the platform does with a case.
#[derive(Clone, Copy, Debug)]
enum Platform {
    /// It rejects each at once.
    Rejects,
    /// It closes each after some hours.
    ClosesAfter(i64),
}

fn record(plan: &Arc<Plan>, dir: &Path, platform: Platform) {
    let settings = Settings {
        dir: dir.to_path_buf(),
        file_bytes: 64 << 20,
        keep_bytes: u64::MAX,
        keep_for: Duration::MAX,
    };
    let run = RunInfo {
        started_at: at(0.0),
        boot: String::new(),
        config_sha256: "ab".into(),
    };
    let recorder = Recorder::lossless(settings, run).unwrap();
    let mut live = RecordedEngine::start(Arc::clone(plan), Vec::new(), Some(recorder));
    let mut open: std::collections::VecDeque<(i64, CaseId)> = Default::default();
    let (mut looks, mut cases) = (0, 0);
    for second in (LOOK_EVERY..DAYS * 86400).step_by(LOOK_EVERY as usize) {
        let reply = |case: &CaseId, state| {
            Input::Reply(Reply {
                case: case.clone(),
                state,
                at: at(second as f64),
                reason: None,
                due: None,
            })
        };
        while open.front().is_some_and(|(due, _)| *due <= second) {
            let closed = open
                .pop_front()
                .map(|(_, case)| live.apply(reply(&case, CaseState::Closed)));
            drop(closed);
        }
        for camera in 0..CAMERAS {
            let look = Observation {
                camera: format!("camera-{camera:02}").as_str().into(),
                at: at(second as f64),
                view: View::Clear,
                light: Light::Day,
                detections: detections(camera, second),
                not_searched: Vec::new(),
            };
            looks += 1;
            for effect in live.apply(Input::Observed(look)) {
                let Effect::Open(case) = effect else { continue };
                cases += 1;
                match platform {
                    Platform::Rejects => drop(live.apply(reply(&case.id, CaseState::Rejected))),
                    Platform::ClosesAfter(hours) => open.push_back((second + hours * 3600, case.id.clone())),
                }
            }
        }
    }
    live.finish().unwrap();
    println!("{looks} looks, {cases} cases");
}

/// Processor time of this process so far, seconds (proc_pid_stat(5), fields 14 and 15, in hundredths).
fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|field| field.parse().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

fn measured<T>(name: &str, what: impl FnOnce() -> T) -> T {
    let (started, cpu) = (Instant::now(), cpu_s());
    let result = what();
    let wall = started.elapsed().as_secs_f64();
    println!("    {name}: {wall:.2} s ({:.2} s of CPU)", cpu_s() - cpu);
    result
}

fn week(metres_apart: f64, platform: Platform) {
    println!("cameras {metres_apart} m apart, {platform:?}");
    let names: Vec<String> = (0..CAMERAS).map(|n| format!("camera-{n:02}")).collect();
    // The grid of the tests is 10 by 10 cells around `HERE`.
    let camera = |n: usize| {
        fixed_at(LonLat {
            lon: HERE.lon + (n % 8) as f64 * metres_apart / 91_400.0 - 0.004,
            lat: HERE.lat + (n / 8) as f64 * metres_apart / 110_900.0 - 0.004,
        })
    };
    let cameras = names
        .iter()
        .enumerate()
        .map(|(n, name)| (CameraId::from(name.as_str()), camera(n)));
    let rules = vec![
        Rule {
            dwell: Duration::from_secs(60),
            second_look: Some(0.3),
            seen_m: 5,
            ..of_category("garbage", "0102", &["garbage"])
        },
        of_category("vendor", "0501", &["stall"]),
        of_category("advert", "0505", &["small_ad"]),
    ];
    let plan = Arc::new(Plan {
        cameras: cameras.collect(),
        intake: Intake {
            per_camera_day: 1000,
            per_box_day: 10_000,
            let_go_after: Some(Duration::from_hours(72)),
        },
        ..crate::engine_support::plan([], rules)
    });
    let dir = tempfile::tempdir().unwrap();
    record(&plan, dir.path(), platform);
    let what_if = measured("load", || load(dir.path(), &plan));
    println!("    {} looks, {} MB", what_if.looks(), what_if.bytes() / 1_000_000);
    let none = AtomicBool::new(false);
    for tried in [
        vec![(Threshold::StartScore, 0.6)],
        vec![(Threshold::StartScore, 0.4)],
        vec![(Threshold::Dwell, 120.0)],
        vec![(Threshold::SeenN, 4.0), (Threshold::PresentShare, 0.8)],
    ] {
        let mut rule = plan.rules[0].clone();
        for (threshold, value) in &tried {
            threshold.set(&mut rule, *value).unwrap();
        }
        let rules = [rule];
        let answer = measured(&format!("{tried:?}"), || {
            what_if.evaluate(&rules, None, task(&none)).unwrap()
        });
        println!("        {:?}", answer.against_current);
        let answered: Vec<_> = answer.cases.iter().map(|c| c.case.clone()).collect();
        if std::env::var_os("CHECK").is_some() {
            let plain = measured("    plain replay", || plain(dir.path(), &with(&plan, &rules)));
            assert_eq!(answered, plain);
        }
    }
    for (threshold, values) in [
        (
            Threshold::StartScore,
            (6..20).map(|n| f64::from(n) / 20.0).collect::<Vec<_>>(),
        ),
        (Threshold::Dwell, (1..15).map(|n| f64::from(n) * 30.0).collect()),
    ] {
        let request = CurveRequest {
            rule: &plan.rules[0],
            threshold,
            values: &values,
            min_precision: 0.9,
            cameras: None,
        };
        let name = format!("curve of {threshold:?}, {} values", values.len());
        let curve = measured(&name, || what_if.curve(&request, task(&none)).unwrap());
        println!(
            "        {:?}",
            curve.points.iter().map(|p| p.score.cases).collect::<Vec<_>>()
        );
    }
}

#[test]
#[ignore = "measures, takes minutes"]
fn a_week_of_32_cameras() {
    week(0.0, Platform::Rejects);
    week(80.0, Platform::Rejects);
    week(80.0, Platform::ClosesAfter(12));
}
