//! Loads a week of 32 simulated cameras for the questions of the thresholds page, and measures the answers.
//!
//! `gridwatch-lab simulate --cameras 32 --days 7 --seed 7 --out D`, then `WEEK=D cargo bench --no-default-features --bench what_if`.

use std::{
    collections::BTreeMap,
    env, fs,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use gridwatch_engine::{Plan, Rule};
use gridwatch_ledger::{
    PlanReader, Reader, RecordedEngine, RecordedEvent, Recorder, RunInfo, Settings,
    replay::{Replay, Window},
    what_if::{CurveRequest, Task, Threshold, WhatIf, WhatIfRequest},
};
use jiff::Timestamp;

fn main() {
    let Some(week) = env::var_os("WEEK").map(PathBuf::from) else {
        println!("skipped: set WEEK to a folder that `gridwatch-lab simulate` has written");
        return;
    };
    let plan = gridwatch_config::examine(&week.join("config.toml"))
        .into_replay_config()
        .expect("a configuration")
        .plan;
    store(&plan, "the plan");
    store(&with_large_grid(&plan), "the same with a grid of 20,000 cells");
    let ledger = week.join("ledger");
    let cancelled = AtomicBool::new(false);
    let task = Task {
        cancelled: &cancelled,
        progress: &|_| (),
    };
    let started = Instant::now();
    let request = WhatIfRequest {
        ledger: &ledger,
        plan: &plan,
        window: Window::default(),
        max_bytes: WhatIf::MAX_BYTES,
    };
    let what_if = WhatIf::load(&request, task).expect("a ledger");
    println!(
        "loaded     {} looks: {:.2} s, {:.0} MB; {} rules",
        what_if.looks(),
        started.elapsed().as_secs_f64(),
        what_if.bytes() as f64 / 1e6,
        plan.rules.len()
    );
    let mut slowest = Duration::ZERO;
    for rule in &plan.rules {
        for threshold in Threshold::ALL {
            let Some(value) = threshold.get(rule) else { continue };
            let mut changed = rule.clone();
            let other = if threshold.range().is_whole {
                value + 1.0
            } else {
                value * 1.2
            };
            if threshold.set(&mut changed, other).is_err() {
                continue;
            }
            let (started, cpu) = (Instant::now(), cpu_s());
            let answer = what_if.evaluate(&[changed.clone()], None, task).expect("an answer");
            let took = started.elapsed();
            slowest = slowest.max(took);
            let c = answer.against_current;
            println!(
                "{:20} {:18} {value:9.3} -> {other:9.3}: {:4.0} ms ({:.2} s of CPU), {} of {} rules judged; {} same, {} shifted, {} new, {} gone",
                rule.id.to_string(),
                threshold.as_str(),
                took.as_secs_f64() * 1e3,
                cpu_s() - cpu,
                answer.judged.len(),
                plan.rules.len(),
                c.same,
                c.shifted,
                c.new,
                c.gone
            );
            if threshold == Threshold::StartScore {
                check(&ledger, &plan, &changed, &answer);
            }
        }
        let started = Instant::now();
        let values: Vec<f64> = (6..20).map(|n| f64::from(n) / 20.0).collect();
        let request = CurveRequest {
            rule,
            threshold: Threshold::StartScore,
            values: &values,
            min_precision: 0.9,
            cameras: None,
        };
        let curve = what_if.curve(&request, task).expect("a curve");
        println!(
            "{:20} curve of {} values: {:.2} s; chosen {:?}",
            rule.id.to_string(),
            values.len(),
            started.elapsed().as_secs_f64(),
            curve.chosen.map(|i| values[i])
        );
    }
    println!("slowest answer: {:.2} s", slowest.as_secs_f64());
}

/// Processor time of this process so far, seconds (proc_pid_stat(5), fields 14 and 15, in hundredths).
fn cpu_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

/// Stores a plan beside a ledger, and reads it again.
fn store(plan: &Arc<Plan>, name: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = Settings {
        dir: dir.path().to_path_buf(),
        file_bytes: 1 << 20,
        keep_bytes: u64::MAX,
        keep_for: Duration::MAX,
    };
    let run = RunInfo {
        started_at: Timestamp::UNIX_EPOCH,
        boot: String::new(),
        config_sha256: String::new(),
    };
    let started = Instant::now();
    let recorder = Recorder::lossless(settings, run).expect("a thread");
    let live = RecordedEngine::start(Arc::clone(plan), Vec::new(), Some(recorder));
    let waited = started.elapsed();
    live.finish().expect("a disk");
    let stored = started.elapsed();
    let sizes = fs::read_dir(dir.path().join("plans")).expect("plans").filter_map(|e| {
        let entry = e.ok()?;
        Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.len()))
    });
    let sizes: Vec<u64> = sizes
        .filter(|(name, _)| name.ends_with(".gz"))
        .map(|(_, bytes)| bytes)
        .collect();
    let id = Reader::open(dir.path(), None)
        .expect("a ledger")
        .next_entry()
        .expect("a head")
        .expect("a head");
    let RecordedEvent::Head(head) = id.event else { return };
    let started = Instant::now();
    PlanReader::new(dir.path())
        .get(&head.plan.expect("a plan"))
        .expect("a plan");
    println!(
        "stored     {name}: files of {sizes:?} bytes; the engine waited {:.3} ms, the disk had it after {:.0} ms; read in {:.0} ms",
        waited.as_secs_f64() * 1e3,
        stored.as_secs_f64() * 1e3,
        started.elapsed().as_secs_f64() * 1e3
    );
}

/// A city of 20,000 cells with twelve corners each.
fn with_large_grid(plan: &Plan) -> Arc<Plan> {
    let cells: BTreeMap<String, Vec<Vec<Vec<[f64; 2]>>>> = (0..20_000)
        .map(|n| {
            let (west, south) = (
                113.0 + f64::from(n % 150) * 0.002_1,
                34.0 + f64::from(n / 150) * 0.001_9,
            );
            let corner = |k: u32| {
                let angle = f64::from(k) / 12.0 * std::f64::consts::TAU;
                [west + 0.001 * angle.cos(), south + 0.0009 * angle.sin()]
            };
            (format!("4101050010{n:05}"), vec![vec![(0..12).map(corner).collect()]])
        })
        .collect();
    let text = serde_json::to_string(&cells).expect("a grid");
    Arc::new(Plan {
        grid: serde_json::from_str(&text).expect("a grid"),
        ..plan.clone()
    })
}

/// Compares an answer with a plain replay.
fn check(ledger: &std::path::Path, plan: &Plan, changed: &Rule, answer: &gridwatch_ledger::what_if::WhatIfAnswer) {
    if env::var_os("CHECK").is_none() {
        return;
    }
    let mut plan = plan.clone();
    for rule in plan.rules.iter_mut().filter(|r| r.id == changed.id) {
        *rule = changed.clone();
    }
    let started = Instant::now();
    let mut replay = Replay::new(Arc::new(plan), Window::default());
    let mut reader = Reader::open(ledger, None).expect("a ledger");
    let mut cases = BTreeMap::new();
    while let Some(entry) = reader.next_entry().expect("a ledger") {
        for effect in replay.apply(entry) {
            if let gridwatch_engine::Effect::Open(case) = effect {
                cases.insert(case.id.to_string(), case.confirmed_at);
            }
        }
    }
    let answered: BTreeMap<_, _> = answer
        .cases
        .iter()
        .map(|c| (c.case.case_id.to_string(), c.case.confirmed_at))
        .collect();
    assert_eq!(answered, cases, "not the cases of a plain replay");
    println!(
        "    equal to the plain replay, which took {:.1} s",
        started.elapsed().as_secs_f64()
    );
}
