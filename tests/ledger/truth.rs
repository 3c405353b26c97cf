//! `gridwatch replay --truth`: evaluation of cases against ground truth.

use std::{fs, ops::RangeInclusive, path::Path, sync::Arc};

use crate::engine_support::*;
use crate::ledger_support::{
    folder::{Folder, lines},
    look,
};
use gridwatch_engine::{
    Appeared, BBox, CaseState, Detection, Input, LonLat, Newness, Observation, Plan, Reply, Rule, View, ZoneKind,
};
use gridwatch_ledger::replay::truth::{
    GroundTruth, TruthView as Seen,
    evaluation::{CaseVerdict, EvaluationReport, Evaluator, JudgedCases, MissedProblem},
    parse,
};

const HOUR: u32 = 3600;

/// A problem at the position of `HEAP`, seen by the camera `gate`.
fn heap(id: &str, from: u32, to: u32) -> GroundTruth {
    GroundTruth {
        id: id.into(),
        kind: "heap".into(),
        category: "0102".into(),
        problem: true,
        from: at(from.into()),
        to: at(to.into()),
        place: None,
        views: vec![Seen {
            camera: "gate".into(),
            bbox: HEAP,
            hidden_s: Vec::new(),
            appeared: None,
        }],
    }
}

/// An engine and the evaluation of its cases.
struct Scenario {
    harness: Harness,
    evaluator: Evaluator,
    verdicts: Vec<(CaseVerdict, String)>,
}

impl Scenario {
    fn new(plan: Plan, truths: Vec<GroundTruth>) -> Self {
        Self {
            harness: Harness::new(plan.clone()),
            evaluator: Evaluator::new(truths, Arc::new(plan)),
            verdicts: Vec::new(),
        }
    }

    /// One camera without calibration, and the rule of the tests: with its dwell of a minute a problem must be visible
    /// for three.
    fn gate(truths: Vec<GroundTruth>) -> Self {
        Self::new(plan([("gate", fixed())], vec![rule()]), truths)
    }

    /// Looks every 10 s from `from` to `to`, with `detections`.
    fn looks(&mut self, seconds: RangeInclusive<u32>, view: View, detections: &[Detection]) {
        for s in seconds.step_by(10) {
            let look = Observation {
                view,
                ..look("gate", s.into(), detections.to_vec())
            };
            self.evaluator.observe(&look);
            self.apply(Input::Observed(look));
        }
    }

    fn apply(&mut self, input: Input) {
        let effects = self.harness.apply(input);
        let judged = self.evaluator.apply(&effects).into_iter();
        self.verdicts
            .extend(judged.map(|(_, j)| (j.verdict, j.about.unwrap_or(j.kind))));
    }

    fn answer(&mut self, state: CaseState, seconds: u32) {
        let case = self.harness.opened().last().unwrap().id.clone();
        self.apply(Input::Reply(Reply {
            case,
            state,
            at: at(seconds.into()),
            reason: None,
            due: None,
        }));
    }

    fn end(self) -> (EvaluationReport, Vec<MissedProblem>, Vec<(CaseVerdict, String)>) {
        let (outcome, missed) = self.evaluator.finish();
        (outcome, missed, self.verdicts)
    }
}

fn seen(bbox: BBox) -> Vec<Detection> {
    vec![garbage(0.8, bbox)]
}

const ELSEWHERE: BBox = BBox {
    x1: 0.1,
    y1: 0.7,
    x2: 0.2,
    y2: 0.8,
};

#[test]
fn a_case_about_a_present_problem_is_right() {
    let mut scenario = Scenario::gate(vec![heap("h", 0, 600)]);
    scenario.looks(0..=590, View::Clear, &seen(HEAP));
    let (outcome, missed, verdicts) = scenario.end();
    assert_eq!(verdicts, [(CaseVerdict::Right, "h".into())]);
    let all = &outcome.all;
    assert_eq!(
        (all.precision, all.recall, all.repeated),
        (Some(1.0), Some(1.0), Some(0.0))
    );
    assert_eq!((all.judged, all.asked, all.found), (1, 1, 1));
    assert_eq!(outcome.by_rule["garbage"], outcome.all);
    assert!(missed.is_empty());
}

#[test]
fn an_unfiled_problem_is_missed_and_a_case_elsewhere_is_false() {
    let mut scenario = Scenario::gate(vec![heap("h", 0, 600)]);
    scenario.looks(0..=590, View::Clear, &seen(ELSEWHERE));
    let (outcome, missed, verdicts) = scenario.end();
    assert_eq!(verdicts, [(CaseVerdict::False, "nothing".into())]);
    assert_eq!((outcome.all.precision, outcome.all.recall), (Some(0.0), Some(0.0)));
    assert_eq!(outcome.all.wrong_about["nothing"], 1);
    assert_eq!(
        (missed.len(), missed[0].id.as_str(), missed[0].in_sight_s),
        (1, "h", 590.0)
    );
}

#[test]
fn cases_of_rules_with_appeared_are_counted_by_how_new_their_objects_are() {
    let newness = |share| Some(Newness { share, since: None });
    let with = |newness, bbox| {
        vec![Detection {
            newness,
            ..garbage(0.9, bbox)
        }]
    };
    let scenario = |appeared, newness: Option<Newness>, bbox| {
        let rule = Rule { appeared, ..rule() };
        let mut scenario = Scenario::new(plan([("gate", fixed())], vec![rule]), vec![heap("h", 0, 600)]);
        scenario.looks(0..=590, View::Clear, &with(newness, bbox));
        scenario.end().0.newness
    };
    let preferred = Some(Appeared {
        new_start: 0.3,
        new_keep: None,
        old_start: Some(0.6),
    });
    let of = |judged, right| JudgedCases { judged, right };
    let new = scenario(preferred, newness(0.7), HEAP).unwrap();
    assert_eq!((new.new, new.old, new.unknown), (of(1, 1), of(0, 0), of(0, 0)));
    let old = scenario(preferred, newness(0.1), ELSEWHERE).unwrap();
    assert_eq!((old.new, old.old, old.unknown), (of(0, 0), of(1, 0), of(0, 0)));
    assert_eq!(scenario(preferred, None, HEAP), None, "no look tells");
    assert_eq!(scenario(None, newness(0.7), HEAP), None, "no rule asks");
}

#[test]
fn a_false_case_names_the_lawful_object_it_is_about() {
    let lawful = GroundTruth {
        problem: false,
        kind: "bags for the lorry".into(),
        ..heap("bags", 0, 600)
    };
    let mut scenario = Scenario::gate(vec![lawful]);
    scenario.looks(0..=590, View::Clear, &seen(HEAP));
    let (outcome, _, verdicts) = scenario.end();
    assert_eq!(verdicts, [(CaseVerdict::False, "bags".into())]);
    assert_eq!(outcome.all.wrong_about["bags for the lorry"], 1);
    assert_eq!((outcome.all.problems, outcome.all.recall), (0, None));
}

#[test]
fn a_case_before_or_after_the_problem_is_false() {
    for (from, to) in [(1000, 2000), (0, 1)] {
        let mut scenario = Scenario::gate(vec![heap("h", from, to)]);
        scenario.looks(300..=600, View::Clear, &seen(HEAP));
        assert_eq!(
            scenario.end().2,
            [(CaseVerdict::False, "nothing".into())],
            "{from} {to}"
        );
    }
}

#[test]
fn problems_visible_too_briefly_or_without_a_clear_view_are_not_expected() {
    let enough = heap("enough", 0, 190);
    let short = heap("short", 0, 170);
    let hidden = GroundTruth {
        views: vec![Seen {
            hidden_s: vec![(20.0, 50.0), (60.0, 70.0)],
            appeared: None,
            ..enough.views[0].clone()
        }],
        ..heap("hidden", 0, 190)
    };
    let asked = |truth: GroundTruth, view| {
        let mut scenario = Scenario::gate(vec![truth]);
        scenario.looks(0..=300, view, &[]);
        scenario.end().0.all.asked
    };
    assert_eq!(asked(enough.clone(), View::Clear), 1);
    assert_eq!(asked(short, View::Clear), 0);
    assert_eq!(asked(hidden, View::Clear), 0);
    assert_eq!(asked(enough, View::Blocked), 0);
}

#[test]
fn a_second_case_about_a_problem_is_repeated_unless_linked() {
    // Rejected, then filed again because the new box does not overlap the rejected one.
    let large = GroundTruth {
        views: vec![Seen {
            bbox: bbox(0.3, 0.4, 0.7, 0.6),
            ..heap("h", 0, HOUR).views[0].clone()
        }],
        ..heap("h", 0, HOUR)
    };
    let mut scenario = Scenario::gate(vec![large]);
    scenario.looks(0..=200, View::Clear, &seen(bbox(0.32, 0.5, 0.40, 0.6)));
    scenario.answer(CaseState::Rejected, 205);
    scenario.looks(210..=800, View::Clear, &seen(bbox(0.6, 0.5, 0.68, 0.6)));
    let (outcome, _, verdicts) = scenario.end();
    assert_eq!(
        verdicts,
        [(CaseVerdict::Right, "h".into()), (CaseVerdict::Repeated, "h".into())]
    );
    assert_eq!((outcome.all.repeats, outcome.all.repeated), (1, Some(0.5)));
    assert_eq!(outcome.all.precision, Some(1.0), "it is still about a problem");
}

#[test]
fn a_linked_case_after_closing_is_a_recurrence_and_not_repeated() {
    let mut scenario = Scenario::gate(vec![heap("h", 0, 5 * HOUR)]);
    scenario.looks(0..=200, View::Clear, &seen(HEAP));
    scenario.answer(CaseState::Closed, 205);
    // No look for an hour, so that it is too late to reopen the case.
    scenario.looks(HOUR..=2 * HOUR, View::Clear, &[]);
    scenario.looks(2 * HOUR..=3 * HOUR, View::Clear, &seen(HEAP));
    let (outcome, _, verdicts) = scenario.end();
    assert_eq!(
        verdicts,
        [(CaseVerdict::Right, "h".into()), (CaseVerdict::Recurrence, "h".into())]
    );
    assert_eq!((outcome.all.repeats, outcome.all.recurrences), (0, 1));
}

#[test]
fn the_open_case_of_another_problem_covers_a_site_until_it_is_closed() {
    let beside = |from, to| GroundTruth {
        views: vec![Seen {
            bbox: ELSEWHERE,
            ..heap("", 0, 1).views[0].clone()
        }],
        ..heap("beside", from, to)
    };
    let run = |closed: bool, to| {
        let mut scenario = Scenario::gate(vec![heap("h", 0, 600), beside(600, to)]);
        scenario.looks(0..=590, View::Clear, &seen(HEAP));
        if closed {
            scenario.answer(CaseState::Closed, 595);
        }
        scenario.looks(600..=to, View::Clear, &[]);
        scenario.end().0.all
    };
    let held = run(false, 900);
    assert_eq!(
        (held.asked, held.held, held.missed),
        (1, 1, 0),
        "one zone, one open case"
    );
    let missed = run(true, 900);
    assert_eq!((missed.asked, missed.held, missed.missed), (2, 0, 1));

    // Another zone is another site.
    let mut camera = fixed();
    camera.zones = vec![
        zone("left", ZoneKind::Watch, (0.0, 0.3), (0.0, 1.0)),
        zone("right", ZoneKind::Watch, (0.3, 1.0), (0.0, 1.0)),
    ];
    let plan = plan([("gate", camera)], vec![rule()]);
    let mut scenario = Scenario::new(plan, vec![heap("h", 0, 600), beside(600, 900)]);
    scenario.looks(0..=590, View::Clear, &seen(HEAP));
    scenario.looks(600..=900, View::Clear, &[]);
    assert_eq!(scenario.end().0.all.missed, 1);
}

#[test]
fn a_place_without_views_is_matched_by_distance_in_calibrated_views() {
    let camera = Pinhole::towards_here((14.0, 2.0), 6.0);
    let plan_of = || plan([("gate", camera.plan(0.0))], vec![rule()]);
    let at_place = |east: f64| GroundTruth {
        views: Vec::new(),
        place: Some(gridwatch_engine::geometry::LocalPlane::at(HERE).lon_lat(east, 0.0)),
        ..heap("h", 0, 600)
    };
    for (east, verdict) in [(0.5, CaseVerdict::Right), (6.0, CaseVerdict::False)] {
        let mut scenario = Scenario::new(plan_of(), vec![at_place(east)]);
        scenario.looks(0..=590, View::Clear, &seen(camera.frames((0.0, 0.0))));
        let (outcome, _, verdicts) = scenario.end();
        assert_eq!(verdicts[0].0, verdict, "{east} m off");
        assert_eq!(outcome.all.asked, 1);
    }
}

#[test]
fn an_invalid_line_is_reported_with_file_and_line() {
    let plan = plan([("gate", fixed())], vec![rule()]);
    let good = serde_json::to_string(&heap("a", 0, 600)).unwrap();
    let parsed = parse(Path::new("t.jsonl"), &format!("{good}\n\n"), &plan).unwrap();
    assert_eq!(parsed, [heap("a", 0, 600)]);
    let nowhere = GroundTruth {
        views: Vec::new(),
        place: Some(LonLat { lon: 200.0, lat: 0.0 }),
        ..heap("b", 0, 600)
    };
    let hidden = GroundTruth {
        views: vec![Seen {
            hidden_s: vec![(30.0, 20.0)],
            appeared: Some(true),
            ..heap("b", 0, 1).views[0].clone()
        }],
        ..heap("b", 0, 600)
    };
    let line = |truth: &GroundTruth| serde_json::to_string(truth).unwrap();
    for (second, reason) in [
        ("{".to_owned(), "invalid truth"),
        (good.clone(), "duplicate id"),
        (line(&heap("b", 600, 600)), "must be later than"),
        (line(&nowhere), "not a valid longitude"),
        (line(&hidden), "not in order"),
        (line(&heap("b", 0, 9)).replace("gate", "gait"), "unknown camera"),
        (line(&heap("b", 0, 9)).replace("\"x2\":0.55", "\"x2\":1.55"), "x1 < x2"),
        (line(&heap("b", 0, 9)).replace("\"kind\"", "\"sort\""), "sort"),
    ] {
        let error = parse(Path::new("t.jsonl"), &format!("{good}\n{second}\n"), &plan).unwrap_err();
        assert!(error.to_string().starts_with("t.jsonl:2: "), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn replay_reports_precision_recall_and_repeated_cases() {
    let folder = Folder::new();
    let config = folder.config("edge.toml", &[]);
    let truth = folder.dir.path().join("truth.jsonl");
    // The ledger has two stalls: one at the beginning, and one after an hour.
    let stall = |id: &str, from: f64, to: f64| GroundTruth {
        id: id.into(),
        kind: "stall".into(),
        category: "0501".into(),
        problem: true,
        from: at(from),
        to: at(to),
        place: None,
        views: vec![Seen {
            camera: "gate".into(),
            bbox: bbox(0.3, 0.5, 0.4, 0.7),
            hidden_s: Vec::new(),
            appeared: None,
        }],
    };
    let text = |truths: &[GroundTruth]| -> String {
        truths
            .iter()
            .map(|t| serde_json::to_string(t).unwrap() + "\n")
            .collect()
    };
    fs::write(
        &truth,
        text(&[stall("one", 0.0, 600.0), stall("never seen", 2000.0, 3000.0)]),
    )
    .unwrap();
    let with_truth = ["--json", "--truth", truth.to_str().unwrap()];
    let printed = lines(&folder.replay(&config, &with_truth));
    let [first, second, missed, summary] = &printed[..] else {
        panic!("{printed:?}")
    };
    assert_eq!((&first["verdict"], &first["about"]), (&"right".into(), &"one".into()));
    assert_eq!(second["verdict"], "false");
    assert_eq!(missed["missed"]["id"], "never seen");
    assert_eq!(
        (
            &summary["cases"],
            &summary["precision"],
            &summary["recall"],
            &summary["repeated"]
        ),
        (&2.into(), &0.5.into(), &0.5.into(), &0.0.into())
    );
    assert_eq!(
        (&summary["looks"], &summary["by_rule"]["vendor"]["found"]),
        (&540.into(), &1.into())
    );
    let table = String::from_utf8(folder.replay(&config, &with_truth[1..]).stdout).unwrap();
    assert!(
        table.contains("all: precision 50.0 % (1 of 2 cases), recall 50.0 % (1 of 2 problems)"),
        "{table}"
    );
    assert!(table.contains("MISSED: stall never seen"), "{table}");

    // Without --truth, the same cases and counts without the evaluation.
    let plain = lines(&folder.replay(&config, &["--json"]));
    assert_eq!(plain.len(), 3);
    assert!(plain[2].get("precision").is_none() && plain[0].get("verdict").is_none());

    fs::write(&truth, "{}\n").unwrap();
    let refused = folder.replay(&config, &with_truth);
    let why = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{why}");
    assert!(why.contains("truth.jsonl:1: invalid truth"), "{why}");
    let both = folder.replay(&config, &["--truth", "t", "--compare", "o"]);
    assert_eq!(both.status.code(), Some(2));
}
