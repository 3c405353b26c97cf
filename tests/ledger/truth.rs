//! `gridwatch replay --truth`: how cases are held against what was there.

use std::{fs, path::Path, sync::Arc};

use crate::engine_support::*;
use crate::ledger_support::folder::{Folder, lines};
use gridwatch_engine::{BBox, CaseState, Detection, Input, Light, LonLat, Observation, Plan, Reply, View, ZoneKind};
use gridwatch_ledger::replay::truth::{
    Truth, View as Seen, parse,
    trial::{Missed, Outcome, Trial, Verdict},
};

const HOUR: u32 = 3600;

/// A problem in `HEAP`'s place at the gate.
fn heap(id: &str, from: u32, to: u32) -> Truth {
    Truth {
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
        }],
    }
}

/// An engine and the trial of its cases.
struct Court {
    world: World,
    trial: Trial,
    verdicts: Vec<(Verdict, String)>,
}

impl Court {
    fn new(plan: Plan, truths: Vec<Truth>) -> Self {
        Self {
            world: World::new(plan.clone()),
            trial: Trial::new(truths, Arc::new(plan)),
            verdicts: Vec::new(),
        }
    }

    /// One camera without a calibration, and the test's rule: a dwell of a minute, so that three must be in sight.
    fn gate(truths: Vec<Truth>) -> Self {
        Self::new(plan([("gate", fixed())], vec![rule()]), truths)
    }

    /// Looks every 10 s from `from` to `to` that see `detections`.
    fn looks(&mut self, (from, to): (u32, u32), view: View, detections: &[Detection]) {
        for s in (from..=to).step_by(10) {
            let look = Observation {
                camera: "gate".into(),
                at: at(s.into()),
                view,
                light: Light::Day,
                detections: detections.to_vec(),
                not_searched: Vec::new(),
            };
            self.trial.look(&look);
            self.apply(Input::Observed(look));
        }
    }

    fn apply(&mut self, input: Input) {
        let effects = self.world.apply(input);
        let judged = self.trial.take(&effects).into_iter();
        self.verdicts
            .extend(judged.map(|(_, j)| (j.verdict, j.about.unwrap_or(j.kind))));
    }

    fn answer(&mut self, state: CaseState, seconds: u32) {
        let case = self.world.opened().last().unwrap().id.clone();
        self.apply(Input::Reply(Reply {
            case,
            state,
            at: at(seconds.into()),
            reason: None,
            due: None,
        }));
    }

    fn end(self) -> (Outcome, Vec<Missed>, Vec<(Verdict, String)>) {
        let (outcome, missed) = self.trial.finish();
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
fn a_case_of_a_problem_that_stands_is_right() {
    let mut court = Court::gate(vec![heap("h", 0, 600)]);
    court.looks((0, 590), View::Clear, &seen(HEAP));
    let (outcome, missed, verdicts) = court.end();
    assert_eq!(verdicts, [(Verdict::Right, "h".into())]);
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
fn what_nobody_told_is_missed_and_a_case_elsewhere_is_false() {
    let mut court = Court::gate(vec![heap("h", 0, 600)]);
    court.looks((0, 590), View::Clear, &seen(ELSEWHERE));
    let (outcome, missed, verdicts) = court.end();
    assert_eq!(verdicts, [(Verdict::False, "nothing".into())]);
    assert_eq!((outcome.all.precision, outcome.all.recall), (Some(0.0), Some(0.0)));
    assert_eq!(outcome.all.wrong_about["nothing"], 1);
    assert_eq!(
        (missed.len(), missed[0].id.as_str(), missed[0].in_sight_s),
        (1, "h", 590.0)
    );
}

#[test]
fn a_false_case_says_what_lawful_thing_it_is_about() {
    let lawful = Truth {
        problem: false,
        kind: "bags for the lorry".into(),
        ..heap("bags", 0, 600)
    };
    let mut court = Court::gate(vec![lawful]);
    court.looks((0, 590), View::Clear, &seen(HEAP));
    let (outcome, _, verdicts) = court.end();
    assert_eq!(verdicts, [(Verdict::False, "bags".into())]);
    assert_eq!(outcome.all.wrong_about["bags for the lorry"], 1);
    assert_eq!((outcome.all.problems, outcome.all.recall), (0, None));
}

#[test]
fn a_case_before_or_after_the_thing_is_false() {
    for (from, to) in [(1000, 2000), (0, 1)] {
        let mut court = Court::gate(vec![heap("h", from, to)]);
        court.looks((300, 600), View::Clear, &seen(HEAP));
        assert_eq!(court.end().2, [(Verdict::False, "nothing".into())], "{from} {to}");
    }
}

#[test]
fn what_stood_too_short_was_hidden_or_in_no_clear_view_is_not_asked_for() {
    let enough = heap("enough", 0, 190);
    let short = heap("short", 0, 170);
    let hidden = Truth {
        views: vec![Seen {
            hidden_s: vec![(20.0, 50.0), (60.0, 70.0)],
            ..enough.views[0].clone()
        }],
        ..heap("hidden", 0, 190)
    };
    let asked = |truth: Truth, view| {
        let mut court = Court::gate(vec![truth]);
        court.looks((0, 300), view, &[]);
        court.end().0.all.asked
    };
    assert_eq!(asked(enough.clone(), View::Clear), 1);
    assert_eq!(asked(short, View::Clear), 0);
    assert_eq!(asked(hidden, View::Clear), 0);
    assert_eq!(asked(enough, View::Blocked), 0);
}

#[test]
fn a_second_case_of_a_problem_repeats_it_unless_it_came_back() {
    // Rejected, and filed again when a box lies where the rejected one did not.
    let large = Truth {
        views: vec![Seen {
            bbox: bbox(0.3, 0.4, 0.7, 0.6),
            ..heap("h", 0, HOUR).views[0].clone()
        }],
        ..heap("h", 0, HOUR)
    };
    let mut court = Court::gate(vec![large]);
    court.looks((0, 200), View::Clear, &seen(bbox(0.32, 0.5, 0.40, 0.6)));
    court.answer(CaseState::Rejected, 205);
    court.looks((210, 800), View::Clear, &seen(bbox(0.6, 0.5, 0.68, 0.6)));
    let (outcome, _, verdicts) = court.end();
    assert_eq!(
        verdicts,
        [(Verdict::Right, "h".into()), (Verdict::Repeated, "h".into())]
    );
    assert_eq!((outcome.all.repeats, outcome.all.repeated), (1, Some(0.5)));
    assert_eq!(outcome.all.precision, Some(1.0), "it is about a problem all the same");
}

#[test]
fn a_linked_case_after_the_first_was_closed_is_no_repetition() {
    let mut court = Court::gate(vec![heap("h", 0, 5 * HOUR)]);
    court.looks((0, 200), View::Clear, &seen(HEAP));
    court.answer(CaseState::Closed, 205);
    // Nobody sees it for an hour, so that it is too late to reopen the case.
    court.looks((HOUR, 2 * HOUR), View::Clear, &[]);
    court.looks((2 * HOUR, 3 * HOUR), View::Clear, &seen(HEAP));
    let (outcome, _, verdicts) = court.end();
    assert_eq!(
        verdicts,
        [(Verdict::Right, "h".into()), (Verdict::Recurrence, "h".into())]
    );
    assert_eq!((outcome.all.repeats, outcome.all.recurrences), (0, 1));
}

#[test]
fn the_open_case_of_a_neighbour_speaks_for_a_problem_until_it_is_closed() {
    let beside = |from, to| Truth {
        views: vec![Seen {
            bbox: ELSEWHERE,
            ..heap("", 0, 1).views[0].clone()
        }],
        ..heap("beside", from, to)
    };
    let run = |closed: bool, to| {
        let mut court = Court::gate(vec![heap("h", 0, 600), beside(600, to)]);
        court.looks((0, 590), View::Clear, &seen(HEAP));
        if closed {
            court.answer(CaseState::Closed, 595);
        }
        court.looks((600, to), View::Clear, &[]);
        court.end().0.all
    };
    let held = run(false, 900);
    assert_eq!(
        (held.asked, held.held, held.missed),
        (1, 1, 0),
        "one zone, one open case"
    );
    let missed = run(true, 900);
    assert_eq!((missed.asked, missed.held, missed.missed), (2, 0, 1));

    // In another zone it is another site.
    let mut camera = fixed();
    camera.zones = vec![
        zone("left", ZoneKind::Watch, (0.0, 0.3), (0.0, 1.0)),
        zone("right", ZoneKind::Watch, (0.3, 1.0), (0.0, 1.0)),
    ];
    let plan = plan([("gate", camera)], vec![rule()]);
    let mut court = Court::new(plan, vec![heap("h", 0, 600), beside(600, 900)]);
    court.looks((0, 590), View::Clear, &seen(HEAP));
    court.looks((600, 900), View::Clear, &[]);
    assert_eq!(court.end().0.all.missed, 1);
}

#[test]
fn a_place_alone_is_matched_by_distance_in_calibrated_views() {
    let camera = Pinhole::towards_here((14.0, 2.0), 6.0);
    let plan_of = || plan([("gate", camera.plan(0.0))], vec![rule()]);
    let at_place = |east: f64| Truth {
        views: Vec::new(),
        place: Some(gridwatch_engine::geometry::LocalPlane::at(HERE).lon_lat(east, 0.0)),
        ..heap("h", 0, 600)
    };
    for (east, verdict) in [(0.5, Verdict::Right), (6.0, Verdict::False)] {
        let mut court = Court::new(plan_of(), vec![at_place(east)]);
        court.looks((0, 590), View::Clear, &seen(camera.frames((0.0, 0.0))));
        let (outcome, _, verdicts) = court.end();
        assert_eq!(verdicts[0].0, verdict, "{east} m off");
        assert_eq!(outcome.all.asked, 1);
    }
}

#[test]
fn a_line_that_is_no_truth_is_named_with_file_and_line() {
    let plan = plan([("gate", fixed())], vec![rule()]);
    let good = serde_json::to_string(&heap("a", 0, 600)).unwrap();
    let parsed = parse(Path::new("t.jsonl"), &format!("{good}\n\n"), &plan).unwrap();
    assert_eq!(parsed, [heap("a", 0, 600)]);
    let nowhere = Truth {
        views: Vec::new(),
        place: Some(LonLat { lon: 200.0, lat: 0.0 }),
        ..heap("b", 0, 600)
    };
    let hidden = Truth {
        views: vec![Seen {
            hidden_s: vec![(30.0, 20.0)],
            ..heap("b", 0, 1).views[0].clone()
        }],
        ..heap("b", 0, 600)
    };
    let line = |truth: &Truth| serde_json::to_string(truth).unwrap();
    for (second, reason) in [
        ("{".to_owned(), "no truth"),
        (good.clone(), "was given before"),
        (line(&heap("b", 600, 600)), "not later than"),
        (line(&nowhere), "no longitude"),
        (line(&hidden), "not in order"),
        (line(&heap("b", 0, 9)).replace("gate", "gait"), "no camera"),
        (line(&heap("b", 0, 9)).replace("\"x2\":0.55", "\"x2\":1.55"), "x1 < x2"),
        (line(&heap("b", 0, 9)).replace("\"kind\"", "\"sort\""), "sort"),
    ] {
        let error = parse(Path::new("t.jsonl"), &format!("{good}\n{second}\n"), &plan).unwrap_err();
        assert!(error.to_string().starts_with("t.jsonl:2: "), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn replay_ends_with_precision_recall_and_repeated() {
    let folder = Folder::new();
    let config = folder.config("edge.toml", &[]);
    let truth = folder.dir.path().join("truth.jsonl");
    // The record holds two stalls: one at the beginning, and one after an hour.
    let stall = |id: &str, from: f64, to: f64| Truth {
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
        }],
    };
    let text = |truths: &[Truth]| -> String {
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
    let told = lines(&folder.replay(&config, &with_truth));
    let [first, second, missed, summary] = &told[..] else {
        panic!("{told:?}")
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

    // Without it the same cases and counts, and nothing more.
    let plain = lines(&folder.replay(&config, &["--json"]));
    assert_eq!(plain.len(), 3);
    assert!(plain[2].get("precision").is_none() && plain[0].get("verdict").is_none());

    fs::write(&truth, "{}\n").unwrap();
    let refused = folder.replay(&config, &with_truth);
    let why = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{why}");
    assert!(why.contains("truth.jsonl:1: no truth"), "{why}");
    let both = folder.replay(&config, &["--truth", "t", "--compare", "o"]);
    assert_eq!(both.status.code(), Some(2));
}
