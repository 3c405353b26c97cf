//! A street in which one heap is filed, one leaves, one scores too low, and one is judged by another dwell after a change.

use std::{collections::BTreeSet, sync::atomic::AtomicBool, time::Duration};

use super::{
    candidates::{CandidateFilter, CandidateHistory, CandidateList, Outcome, find},
    feet::{FeetFilter, foot_points},
    looks::page,
    *,
};
use crate::{RecordedEngine, Recorder, RunInfo, Settings};
use gridwatch_engine::{
    BBox, Detection, Input, Light, NotFiled, Observation, Reason, Rule, View, ZoneKind, calendar::Calendar,
};

use crate::engine_support::{at, bbox, fixed, garbage, plan, rule, zone};

fn place(n: u8) -> BBox {
    let x = 0.05 + 0.2 * f32::from(n);
    bbox(x, 0.5, x + 0.1, 0.6)
}

fn street(dwell: u64) -> Arc<Plan> {
    let zones = (0..4).map(|n| {
        let x = 0.2 * f64::from(n);
        zone(&format!("z{n}"), ZoneKind::Watch, (x, x + 0.2), (0.3, 1.0))
    });
    let camera = gridwatch_engine::CameraPlan {
        zones: zones.collect(),
        ..fixed()
    };
    let rule = Rule {
        dwell: Duration::from_secs(dwell),
        ..rule()
    };
    Arc::new(Plan {
        calendar: Calendar {
            zone: jiff::tz::TimeZone::get("Asia/Shanghai").unwrap(),
            ..Calendar::default()
        },
        ..plan([("a", camera)], vec![rule])
    })
}

/// Heap 0 stays and is filed. Heap 1 leaves after 40 s. Heap 2 never scores enough. Heap 3 comes after the dwell was raised to ten
/// minutes, and stays for two.
fn record(dir: &Path) {
    let settings = Settings {
        dir: dir.to_path_buf(),
        file_bytes: 1 << 20,
        keep_bytes: u64::MAX,
        keep_for: Duration::MAX,
    };
    let run = RunInfo {
        started_at: at(0.0),
        boot: String::new(),
        config_sha256: "ab".into(),
    };
    let recorder = Recorder::lossless(settings, run).unwrap();
    let mut live = RecordedEngine::start(street(60), Vec::new(), Some(recorder));
    for s in (10..1200).step_by(10) {
        if s == 500 {
            drop(live.configure(street(600), "cd"));
        }
        let mut detections = Vec::<Detection>::new();
        let mut seen = |n: u8, score: f32, during: std::ops::Range<i32>| {
            if during.contains(&s) {
                detections.push(garbage(score, place(n)));
            }
        };
        seen(0, 0.8, 0..1200);
        seen(1, 0.7, 100..150);
        seen(2, 0.45, 200..300);
        seen(3, 0.9, 600..720);
        let look = Observation {
            camera: "a".into(),
            at: at(f64::from(s)),
            view: if s == 50 { View::Dark } else { View::Clear },
            light: Light::Day,
            detections,
            not_searched: Vec::new(),
        };
        drop(live.apply(Input::Observed(look)));
    }
    live.finish().unwrap();
}

fn task(cancelled: &AtomicBool) -> Task<'_> {
    Task {
        cancelled,
        progress: &|_| (),
    }
}

fn all(dir: &Path) -> HistorySource<'_> {
    HistorySource {
        ledger: dir,
        window: Window::default(),
        plan: None,
    }
}

fn candidates(dir: &Path, filter: &CandidateFilter, limit: usize) -> CandidateList {
    find(&all(dir), filter, limit, task(&AtomicBool::new(false))).unwrap()
}

fn everything() -> CandidateFilter {
    CandidateFilter {
        with_filed: true,
        with_unstarted: true,
        ..CandidateFilter::default()
    }
}

/// The one about this heap.
fn about(list: &CandidateList, n: u8) -> CandidateHistory {
    let here: Vec<_> = list.candidates.iter().filter(|c| c.bbox.iou(&place(n)) > 0.9).collect();
    let [one] = here[..] else { panic!("{n}: {here:?}") };
    one.clone()
}

#[test]
fn each_candidate_is_told_with_its_reason_and_what_was_missing() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    let list = candidates(dir.path(), &everything(), 100);
    assert_eq!((list.candidates.len(), list.left_out), (4, 0), "{:?}", list.candidates);
    assert!(list.gaps.describe().is_empty());

    let filed = about(&list, 0);
    assert_eq!((filed.outcome, filed.missing.len()), (Outcome::Filed, 0));
    assert!(filed.case.is_some());
    let steps: Vec<_> = filed.steps.iter().map(|step| step.reason.as_str()).collect();
    assert_eq!(steps, ["appeared", "blind", "confirmed"]);

    let left = about(&list, 1);
    assert_eq!(left.outcome, Outcome::NotFiled(NotFiled::LeftBeforeDwell));
    assert_eq!((left.first_seen_at, left.last_seen_at), (at(100.0), at(140.0)));
    assert_eq!(
        (left.dwell_s, left.looks_seen, left.ended_at),
        (40.0, 5, Some(at(260.0)))
    );
    let dwell = left.missing.iter().find(|m| m.what == Requirement::Dwell).unwrap();
    assert_eq!((dwell.has, dwell.needs), (40.0, 60.0));
    assert_eq!(
        left.steps.last().unwrap().reason,
        Reason::NotFiled(NotFiled::LeftBeforeDwell)
    );

    let low = about(&list, 2);
    assert_eq!(low.outcome, Outcome::NotFiled(NotFiled::ScoreTooLow));
    assert_eq!((low.looks_seen, low.score, low.first_seen_at), (10, 0.45, at(200.0)));
    let [score] = low.missing[..] else { panic!("{low:?}") };
    assert_eq!((score.what, score.needs), (Requirement::StartScore, 0.5));

    // Judged with the dwell that held then, ten minutes.
    let later = about(&list, 3);
    assert_eq!(later.outcome, Outcome::NotFiled(NotFiled::LeftBeforeDwell));
    let dwell = later.missing.iter().find(|m| m.what == Requirement::Dwell).unwrap();
    assert_eq!((dwell.has, dwell.needs), (110.0, 600.0));
}

#[test]
fn candidates_are_filtered_and_limited_to_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    assert_eq!(
        candidates(dir.path(), &CandidateFilter::default(), 100)
            .candidates
            .len(),
        2,
        "two left"
    );
    let one = candidates(dir.path(), &everything(), 1);
    assert_eq!((one.candidates.len(), one.left_out), (1, 3));
    let reasons: Vec<_> = one.reasons.into_iter().collect();
    assert_eq!(reasons, [(NotFiled::ScoreTooLow, 1), (NotFiled::LeftBeforeDwell, 2)]);
    let only = |filter: CandidateFilter| candidates(dir.path(), &filter, 100).candidates.len();
    let low = CandidateFilter {
        reason: Some(NotFiled::ScoreTooLow),
        ..everything()
    };
    assert_eq!(only(low), 1);
    let elsewhere = CandidateFilter {
        camera: Some("b".into()),
        ..everything()
    };
    assert_eq!(only(elsewhere), 0);
    let other = CandidateFilter {
        rule: Some("vendor".into()),
        ..everything()
    };
    assert_eq!(only(other), 0);
    let late = HistorySource {
        window: Window {
            from: Some(at(700.0)),
            to: None,
        },
        ..all(dir.path())
    };
    let found = find(&late, &CandidateFilter::default(), 9, task(&AtomicBool::new(false))).unwrap();
    assert_eq!(found.candidates.len(), 1, "the one that was there at 710 s");
    let cancelled = find(&late, &CandidateFilter::default(), 9, task(&AtomicBool::new(true)));
    assert!(cancelled.is_ok(), "too short to be cancelled");
}

#[test]
fn looks_come_in_pages_from_the_newest_with_what_was_made_of_them() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    let page_to = |to: Option<Timestamp>| {
        let source = HistorySource {
            window: Window { from: None, to },
            ..all(dir.path())
        };
        page(&source, &"a".into(), 50, task(&AtomicBool::new(false))).unwrap()
    };
    let (mut to, mut times) = (None, Vec::new());
    loop {
        let page = page_to(to);
        times.extend(page.looks.iter().map(|look| look.at));
        to = page.looks.last().map(|look| look.at);
        if !page.has_older {
            break;
        }
    }
    let expected: Vec<_> = (1..120).rev().map(|n| at(f64::from(n) * 10.0)).collect();
    assert_eq!(times, expected);

    let looks = page_to(Some(at(301.0))).looks;
    let look = |s: f64| looks.iter().find(|look| look.at == at(s)).unwrap();
    let outcomes: Vec<_> = look(290.0).judged.iter().map(|j| (j.outcome, j.reason)).collect();
    assert_eq!(
        outcomes,
        [("continues", None), ("not_counted", Some(NotFiled::ScoreTooLow))]
    );
    let events: Vec<_> = look(260.0).events.iter().map(|e| e.reason.as_str()).collect();
    assert_eq!(events, ["left_before_dwell", "score_too_low"]);
    let opened = page_to(Some(at(101.0))).looks.into_iter().find_map(|look| {
        let case = look.events.iter().find_map(|e| e.case.clone())?;
        Some((look.at, case))
    });
    assert!(opened.is_some());
    let dark = page_to(Some(at(51.0))).looks;
    assert_eq!((dark[0].view, dark[0].judged.len()), (View::Dark, 0));
}

#[test]
fn foot_points_are_counted_on_a_raster_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path());
    let points = |filter: &FeetFilter, limit| {
        let none = AtomicBool::new(false);
        foot_points(dir.path(), Window::default(), filter, limit, task(&none))
            .unwrap()
            .0
    };
    let all = points(&FeetFilter::default(), 100);
    let [garbage] = &all[..] else { panic!("{all:?}") };
    assert_eq!(
        (garbage.points.len(), garbage.detections, garbage.left_out),
        (4, 118 + 5 + 10 + 12, 0)
    );
    assert_eq!(garbage.points[0].count, 118, "the dark look tells nothing");
    let foot = place(0).foot();
    assert!((garbage.points[0].at.x - foot.x).abs() < 1e-6 && (garbage.points[0].at.y - foot.y).abs() < 1e-6);
    let few = points(&FeetFilter::default(), 1);
    assert_eq!((few[0].points.len(), few[0].left_out), (1, 27));
    let confident = FeetFilter {
        min_score: 0.5,
        ..FeetFilter::default()
    };
    assert_eq!(points(&confident, 100)[0].points.len(), 3);
    let elsewhere = FeetFilter {
        cameras: Some(BTreeSet::from(["b".into()])),
        ..FeetFilter::default()
    };
    assert!(points(&elsewhere, 100).is_empty());
}
