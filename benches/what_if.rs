//! Loads a week of 32 simulated cameras for the questions of the thresholds page, and measures the answers.
//!
//! `gridwatch-lab simulate --cameras 32 --days 7 --seed 7 --out D`, then `WEEK=D cargo bench --no-default-features --bench what_if`.

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use gridwatch_engine::Rule;
use gridwatch_ledger::{
    Reader,
    replay::{Replay, Window},
    what_if::{Task, Threshold, WhatIf, WhatIfRequest},
};

fn main() {
    let Some(week) = env::var_os("WEEK").map(PathBuf::from) else {
        println!("skipped: set WEEK to a folder that `gridwatch-lab simulate` has written");
        return;
    };
    let plan = gridwatch_config::examine(&week.join("config.toml"))
        .into_replay_config()
        .expect("a configuration")
        .plan;
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
            let started = Instant::now();
            let answer = what_if.evaluate(&[changed.clone()], None, task).expect("an answer");
            let took = started.elapsed();
            slowest = slowest.max(took);
            let c = answer.against_current;
            println!(
                "{:20} {:18} {value:9.3} -> {other:9.3}: {:4.0} ms, {} of {} rules judged; {} same, {} shifted, {} new, {} gone",
                rule.id.to_string(),
                threshold.as_str(),
                took.as_secs_f64() * 1e3,
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
        let curve = what_if
            .curve(&rule.id, Threshold::StartScore, &values, 0.9, task)
            .expect("a curve");
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

/// Compares an answer with a plain replay.
fn check(
    ledger: &std::path::Path,
    plan: &gridwatch_engine::Plan,
    changed: &Rule,
    answer: &gridwatch_ledger::what_if::WhatIfAnswer,
) {
    if env::var_os("CHECK").is_none() {
        return;
    }
    let mut plan = plan.clone();
    for rule in plan.rules.iter_mut().filter(|r| r.id == changed.id) {
        *rule = changed.clone();
    }
    let started = Instant::now();
    let mut replay = Replay::new(std::sync::Arc::new(plan), Window::default());
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
