//! The ledger keeps the configuration that held at each moment, and a replay judges with it.

use std::{fs, path::Path, sync::Arc, time::Duration};

use crate::engine_support::{HEAP, HERE, at, fixed, fixed_at, garbage, plan, rule, zone};
use crate::ledger_support::{files, look, read, settings, start};
use gridwatch_engine::{
    BBox, CameraPlan, Detection, Effect, Input, LonLat, OpenCase, Plan, Resumed, Rule, ZoneKind, calendar::Calendar,
};
use gridwatch_ledger::{
    PlanError, Reader, RecordedEngine, RecordedEvent, Settings,
    replay::{Replay, Window},
};
use jiff::tz::TimeZone;

/// Left of the middle.
const LEFT: BBox = BBox {
    x1: 0.1,
    y1: 0.5,
    x2: 0.2,
    y2: 0.6,
};

/// A camera with one zone, whose id is that of a site.
fn with_zone(id: &str, x: (f64, f64)) -> CameraPlan {
    CameraPlan {
        zones: vec![zone(id, ZoneKind::Watch, x, (0.3, 1.0))],
        ..fixed()
    }
}

/// Far from the other camera.
fn elsewhere() -> CameraPlan {
    fixed_at(LonLat {
        lon: HERE.lon + 0.003,
        ..HERE
    })
}

fn dwelling(seconds: u64) -> Rule {
    Rule {
        dwell: Duration::from_secs(seconds),
        ..rule()
    }
}

fn street(cameras: impl IntoIterator<Item = (&'static str, CameraPlan)>, dwell: u64) -> Arc<Plan> {
    Arc::new(Plan {
        calendar: Calendar {
            zone: TimeZone::get("Asia/Shanghai").unwrap(),
            ..Calendar::default()
        },
        ..plan(cameras, vec![dwelling(dwell)])
    })
}

/// Looks of both cameras every 10 s, which see a heap in the middle and one on the left.
fn looks(from: u32, to: u32) -> impl Iterator<Item = Input> {
    let seen = || -> Vec<Detection> { vec![garbage(0.8, HEAP), garbage(0.7, LEFT)] };
    (from..to).step_by(10).flat_map(move |s| {
        ["a", "b"].map(|camera| Input::Observed(look(camera, f64::from(s) + 0.1 * f64::from(camera == "b"), seen())))
    })
}

fn apply(live: &mut RecordedEngine, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
    inputs.into_iter().flat_map(|input| live.apply(input)).collect()
}

fn replayed(dir: &Path, mut replay: Replay) -> (Vec<Effect>, Replay) {
    let mut reader = Reader::open(dir, None).unwrap();
    let mut effects = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        effects.extend(replay.apply(entry));
    }
    (effects, replay)
}

fn as_judged(dir: &Path) -> (Vec<Effect>, Replay) {
    replayed(dir, Replay::recorded(dir, Window::default()))
}

fn cases(effects: &[Effect]) -> Vec<(String, i64)> {
    let case = |effect: &Effect| match effect {
        Effect::Open(case) => Some((case.camera.to_string(), case.dwell.as_secs() as i64)),
        _ => None,
    };
    effects.iter().filter_map(case).collect()
}

/// Two runs, with changes of everything in the middle of the first.
fn record(settings: Settings) -> Vec<Effect> {
    let both = |id, x| [("a", with_zone(id, x)), ("b", elsewhere())];
    let mut live = start(
        settings.clone(),
        at(0.0),
        &street(both("middle", (0.4, 0.9)), 60),
        vec![],
    );
    let mut effects = apply(&mut live, looks(1, 100));
    // The zone is moved to the left heap.
    effects.extend(live.configure(street(both("left", (0.0, 0.3)), 60), "01"));
    effects.extend(apply(&mut live, looks(101, 200)));
    // The dwell is changed, and a camera is taken away.
    effects.extend(live.configure(street([("a", with_zone("all", (0.0, 0.9)))], 120), "02"));
    effects.extend(apply(&mut live, looks(201, 400)));
    // It is added again.
    effects.extend(live.configure(street(both("all", (0.0, 0.9)), 120), "03"));
    effects.extend(apply(&mut live, looks(401, 600)));
    let (snapshot, restored) = (live.engine().snapshot(), live.engine().remembered().cloned());
    let restored: Vec<OpenCase> = restored.collect();
    live.finish().unwrap();
    let mut live = start(settings, at(700.0), &street(both("all", (0.0, 0.9)), 30), restored);
    let pictures = snapshot.firsts().collect();
    effects.extend(live.apply(Input::Resumed(Box::new(Resumed { snapshot, pictures }))));
    effects.extend(apply(&mut live, looks(701, 800)));
    live.finish().unwrap();
    effects
}

#[test]
fn a_replay_judges_each_moment_with_the_configuration_that_held() {
    let dir = tempfile::tempdir().unwrap();
    let live = record(settings(dir.path()));
    let (again, replay) = as_judged(dir.path());
    assert_eq!(format!("{again:?}"), format!("{live:?}"));
    assert_eq!(replay.unjudged().count(), 0);
    assert!(cases(&live).len() >= 3, "{:?}", cases(&live));

    // One plan for everything gives other cases.
    let one = street([("a", with_zone("middle", (0.4, 0.9))), ("b", elsewhere())], 60);
    let (tried, _) = replayed(dir.path(), Replay::new(one, Window::default()));
    assert_ne!(cases(&tried), cases(&live));

    // Five plans and a grid.
    assert_eq!(fs::read_dir(dir.path().join("plans")).unwrap().count(), 5 + 1 + 1);
    let named = read(dir.path()).0.into_iter().filter_map(|entry| match entry.event {
        RecordedEvent::Configured { config_sha256, plan } => Some((config_sha256, plan.is_some())),
        _ => None,
    });
    let named: Vec<_> = named.collect();
    assert_eq!(named, [("01".into(), true), ("02".into(), true), ("03".into(), true)]);
}

#[test]
fn rotated_files_name_the_plan_and_a_replay_can_start_with_any_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let small = Settings {
        file_bytes: 3000,
        ..settings(dir.path())
    };
    let live = record(small);
    let all = files(dir.path());
    assert!(all.len() > 4, "{all:?}");
    assert_eq!(format!("{:?}", as_judged(dir.path()).0), format!("{live:?}"));
    fs::remove_file(&all[0]).unwrap();
    let (again, replay) = as_judged(dir.path());
    assert!(replay.tally().looks > 50);
    assert_eq!(replay.unjudged().count(), 0);
    // What stood there is seen anew, and judged with the dwell that held by then.
    assert_eq!(cases(&again).first(), Some(&("a".into(), 120)), "{:?}", cases(&again));
}

#[test]
fn plans_are_deleted_with_the_last_ledger_file_that_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let small = Settings {
        file_bytes: 3000,
        keep_bytes: 14_000,
        ..settings(dir.path())
    };
    record(small);
    let kept = files(dir.path());
    assert!(!kept[0].ends_with("ledger-00000001.gwl"), "{kept:?}");
    let stored = fs::read_dir(dir.path().join("plans")).unwrap().count();
    assert!(stored < 5 + 1 + 1, "{stored}");
    let (_, replay) = as_judged(dir.path());
    assert!(replay.tally().looks > 0);
    assert_eq!(replay.unjudged().count(), 0, "what is left can be judged");
}

#[test]
fn time_whose_plan_is_missing_or_damaged_is_not_judged_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let live = record(settings(dir.path()));
    let second = read(dir.path()).0.into_iter().find_map(|entry| match entry.event {
        RecordedEvent::Configured { config_sha256, plan } if config_sha256 == "02" => plan,
        _ => None,
    });
    let path = dir
        .path()
        .join("plans")
        .join(format!("{}.json.gz", second.unwrap().as_str()));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let (_, replay) = as_judged(dir.path());
    let spans: Vec<_> = replay.unjudged().collect();
    let [span] = spans[..] else { panic!("{spans:?}") };
    assert_eq!((span.from, span.to, span.looks), (at(201.0), at(391.1), 40));
    assert!(matches!(span.error, PlanError::Damaged { .. }), "{span:?}");
    let text = span.describe();
    assert!(
        text.contains("restore it from a backup") && text.contains("--config FILE"),
        "{text}"
    );
    fs::remove_file(&path).unwrap();
    let (again, replay) = as_judged(dir.path());
    assert!(matches!(
        replay.unjudged().next().unwrap().error,
        PlanError::Missing { .. }
    ));
    // What came before is the same.
    assert_eq!(cases(&again)[0], cases(&live)[0]);
    // And the run after it begins as the live one did.
    assert_eq!(cases(&again).last(), cases(&live).last());
}

#[test]
fn a_ledger_without_plans_is_judged_with_a_given_one_only() {
    let dir = tempfile::tempdir().unwrap();
    let live = record(settings(dir.path()));
    fs::remove_dir_all(dir.path().join("plans")).unwrap();
    let (none, replay) = as_judged(dir.path());
    assert_eq!((cases(&none).len(), replay.tally().looks), (0, 0));
    let plan = street([("a", with_zone("middle", (0.4, 0.9))), ("b", elsewhere())], 60);
    let (given, replay) = replayed(dir.path(), Replay::new(plan, Window::default()));
    assert_eq!(cases(&given)[0], cases(&live)[0]);
    assert_eq!(replay.unjudged().count(), 0);
}
