//! How long a week of 32 cameras takes, over HTTP. Measured, not asserted:
//! `cargo test --release -p gridwatch-console --test console a_week_of_32_cameras -- --ignored --nocapture`.

use std::{sync::Arc, time::Instant};

use gridwatch_config::raw;
use gridwatch_engine::{BBox, CaseState, Detection, Effect, Input, Light, Observation, Plan, Reply, RuleId, View};
use gridwatch_ledger::{RecordedEngine, Recorder, RunInfo, Settings};

use crate::{recorded::at, street::Served};

const CAMERAS: i64 = 32;
const DAYS: i64 = 7;
const LOOK_EVERY: i64 = 10;

/// A number that looks random, 0..1, the same for the same input.
fn chance(seed: i64) -> f32 {
    let mixed = (seed as u64).wrapping_mul(6_364_136_223_846_793_005).rotate_left(23) ^ 0x9E37_79B9_7F4A_7C15;
    let mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) as f32 / (1 << 24) as f32
}

/// Two people and cars that pass, and for some of every half hour a heap of some score at some place.
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
        heap.set_second_look(&RuleId::from("garbage"), score);
        found.push(heap);
    }
    found
}

fn record(plan: &Arc<Plan>, settings: Settings) -> (u64, usize) {
    let run = RunInfo {
        started_at: at(0),
        boot: String::new(),
        config_sha256: "ab".into(),
    };
    let recorder = Recorder::lossless(settings, run).unwrap();
    let mut live = RecordedEngine::start(Arc::clone(plan), Vec::new(), Some(recorder));
    let (mut looks, mut cases) = (0, 0);
    for second in (LOOK_EVERY..DAYS * 86400).step_by(LOOK_EVERY as usize) {
        for camera in 0..CAMERAS {
            let look = Observation {
                camera: format!("camera-{camera:02}").as_str().into(),
                at: at(second),
                view: View::Clear,
                light: Light::Day,
                detections: detections(camera, second),
                not_searched: Vec::new(),
            };
            looks += 1;
            for effect in live.apply(Input::Observed(look)) {
                let Effect::Open(case) = effect else { continue };
                cases += 1;
                // The cameras see one site, which is free for another case only when this one is not open any more.
                drop(live.apply(Input::Reply(Reply {
                    case: case.id.clone(),
                    state: CaseState::Rejected,
                    at: at(second),
                    reason: None,
                    due: None,
                })));
            }
        }
    }
    live.finish().unwrap();
    (looks, cases)
}

/// Processor time of this process so far, seconds (proc_pid_stat(5), fields 14 and 15, in hundredths).
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|field| field.parse().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

#[test]
#[ignore = "measures, takes minutes"]
fn a_week_of_32_cameras() {
    let served = Served::start_with(
        |file| {
            let first = file.cameras[0].clone();
            file.cameras = (0..CAMERAS)
                .map(|i| raw::Camera {
                    id: format!("camera-{i:02}"),
                    url: format!("rtsp://192.0.2.1/{i}"),
                    approved_signs: None,
                    ..first.clone()
                })
                .collect();
        },
        |_| {},
    );
    let config = served.config();
    let (looks, cases) = record(&config.plan, config.ledger.clone().unwrap());
    println!("{looks} looks, {cases} cases");
    let mut browser = served.browser().with("Accept-Language", "en");
    let mut measure = |name: &str, path: &str| {
        let (started, cpu) = (Instant::now(), cpu_s());
        let answer = browser.ask(path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        println!(
            "{name}: {:.2} s ({:.2} s of CPU), {} bytes",
            started.elapsed().as_secs_f64(),
            cpu_s() - cpu,
            answer.body.len()
        );
        answer
    };
    measure("first load", "/thresholds?rule=garbage&days=7");
    for query in [
        "start_score=0.6",
        "start_score=0.4",
        "dwell=120",
        "seen_n=4&present_share=0.8",
    ] {
        let answer = measure(query, &format!("/thresholds?rule=garbage&days=7&{query}"));
        let counts = answer
            .text()
            .split("<p>")
            .find(|part| part.contains("the same"))
            .unwrap();
        println!("    {}", counts.split('<').next().unwrap());
    }
    measure("curve", "/thresholds/curve?rule=garbage&days=7&curve=start_score");
    measure("candidates of two days", "/candidates?from=2026-06-04&until=2026-06-05");
    measure("candidates of a week", "/candidates?from=2026-06-01&until=2026-06-07");
    measure("looks", "/cameras/camera-07/looks");
}
