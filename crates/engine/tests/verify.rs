//! Verification: after a crew's report or a request by the platform, the box checks whether the object is gone or still
//! there, and reports only what it saw.

use std::time::Duration;

use crate::engine_support::*;
use gridwatch_engine::{CaseId, CaseState, Detection, Effect, Finding, Input, Reply, Verified, View};

/// A street with a heap whose case was filed at 60 s.
struct Street {
    harness: Harness,
    case: CaseId,
    now: u32,
}

impl Street {
    fn new() -> Self {
        let mut harness = Harness::new(plan([("gate", fixed()), ("side", fixed())], vec![rule()]));
        harness.heap_stays("gate", 0, 60);
        let case = harness.opened()[0].id.clone();
        Self { harness, case, now: 60 }
    }

    fn reply(&mut self, state: CaseState) -> Vec<Effect> {
        self.now += 1;
        self.harness.apply(Input::Reply(Reply {
            case: self.case.clone(),
            state,
            at: at(self.now.into()),
            reason: None,
            due: None,
        }))
    }

    /// Looks every 10 s for `minutes`; `look` gives the view and detections by the seconds since the start.
    fn look_for(&mut self, minutes: u32, look: impl Fn(u32) -> (View, Vec<Detection>)) -> Vec<Verified> {
        let start = self.now;
        let mut answers = Vec::new();
        while self.now < start + minutes * 60 {
            self.now += 10;
            let (view, found) = look(self.now - start);
            answers.extend(verified(self.harness.see("gate", self.now.into(), view, found)));
        }
        answers
    }
}

fn verified(effects: Vec<Effect>) -> impl Iterator<Item = Verified> {
    effects.into_iter().filter_map(|e| match e {
        Effect::Verified(answer) => Some(*answer),
        _ => None,
    })
}

fn heap() -> Vec<Detection> {
    vec![garbage(0.8, HEAP)]
}

fn lorry() -> Detection {
    Detection::new("truck", 0.9, bbox(0.3, 0.2, 0.7, 0.65))
}

fn findings(answers: &[Verified]) -> Vec<Finding> {
    answers.iter().map(|a| a.finding).collect()
}

#[test]
fn a_place_empty_for_ten_minutes_is_cleared_once() {
    let mut street = Street::new();
    street.reply(CaseState::Disposed);
    let asked_at = at(street.now.into());
    let answers = street.look_for(30, |_| (View::Clear, Vec::new()));
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(
        (answer.finding, &answer.case, answer.bbox, answer.asked_at),
        (Finding::Cleared, &street.case, HEAP, asked_at)
    );
    // The first counted look came 10 s after the reply.
    assert_eq!(answer.at, asked_at + Duration::from_secs(610));
    assert_eq!((answer.looks, answer.looks_seen, answer.is_look), (61, 0, true));
    street.harness.close();
}

#[test]
fn an_object_still_there_is_reported() {
    let mut street = Street::new();
    street.reply(CaseState::VerifyRequested);
    // The detector misses it in every second look.
    let answers = street.look_for(30, |s| (View::Clear, if s % 20 == 0 { heap() } else { Vec::new() }));
    assert_eq!(findings(&answers), [Finding::StillPresent]);
    assert_eq!((answers[0].looks, answers[0].looks_seen), (62, 31));
    // A repeated request is verified again.
    assert!(street.reply(CaseState::VerifyRequested).is_empty());
    let answers = street.look_for(30, |_| (View::Clear, Vec::new()));
    assert_eq!(findings(&answers), [Finding::Cleared]);
    street.harness.close();
}

#[test]
fn the_box_verifies_when_the_crews_deadline_passes() {
    let dispatched = |street: &mut Street, minutes: u32| {
        street.now += 1;
        street.harness.apply(Input::Reply(Reply {
            case: street.case.clone(),
            state: CaseState::Dispatched,
            at: at(street.now.into()),
            reason: None,
            due: Some(at((street.now + minutes * 60).into())),
        }))
    };
    let mut street = Street::new();
    assert_eq!(dispatched(&mut street, 30).len(), 1, "a transition");
    let due = at((street.now + 30 * 60).into());
    assert!(
        street.look_for(29, |_| (View::Clear, heap())).is_empty(),
        "the deadline has not passed"
    );
    let answers = street.look_for(30, |_| (View::Clear, heap()));
    assert_eq!(findings(&answers), [Finding::StillPresent]);
    assert_eq!(answers[0].asked_at, due);

    // The deadline is extended, and the crew finishes early.
    assert!(dispatched(&mut street, 60).is_empty(), "no transition");
    assert!(street.look_for(50, |_| (View::Clear, heap())).is_empty());
    street.reply(CaseState::Disposed);
    let answers = street.look_for(60, |_| (View::Clear, Vec::new()));
    assert_eq!(findings(&answers), [Finding::Cleared], "reported once");
    street.harness.close();
}

#[test]
fn a_repeated_question_is_answered_once() {
    let mut street = Street::new();
    street.reply(CaseState::Disposed);
    street.look_for(5, |_| (View::Clear, Vec::new()));
    street.reply(CaseState::VerifyRequested);
    let mut answers = street.look_for(5, |_| (View::Clear, Vec::new()));
    street.reply(CaseState::VerifyRequested);
    answers.extend(street.look_for(60, |_| (View::Clear, Vec::new())));
    assert_eq!(findings(&answers), [Finding::Cleared]);
    street.harness.close();
}

#[test]
fn an_obstructed_place_is_not_cleared() {
    let mut street = Street::new();
    street.reply(CaseState::Disposed);
    let answers = street.look_for(59, |_| (View::Clear, vec![lorry()]));
    assert_eq!(findings(&answers), [], "less than an hour");
    let answers = street.look_for(2, |_| (View::Clear, vec![lorry()]));
    assert_eq!(findings(&answers), [Finding::Unverifiable]);
    assert_eq!((answers[0].looks, answers[0].is_look), (0, true));
    // The lorry leaves, and a verdict follows after all.
    let answers = street.look_for(20, |_| (View::Clear, Vec::new()));
    assert_eq!(findings(&answers), [Finding::Cleared]);
    street.harness.close();
}

#[test]
fn a_remainder_too_small_to_count_prevents_clearance() {
    let mut street = Street::new();
    street.reply(CaseState::Disposed);
    let rest = || vec![garbage(0.9, bbox(0.49, 0.55, 0.505, 0.565))];
    let answers = street.look_for(62, |_| (View::Clear, rest()));
    assert_eq!(findings(&answers), [Finding::Unverifiable]);
    street.harness.close();
}

#[test]
fn a_camera_without_looks_cannot_verify() {
    let mut street = Street::new();
    street.reply(CaseState::VerifyRequested);
    let asked = street.now;
    // Another camera's looks show another place.
    for s in (asked + 10..asked + 3600).step_by(10) {
        assert_eq!(verified(street.harness.look("side", s.into(), Vec::new())).count(), 0);
    }
    let mut answers = Vec::new();
    while answers.is_empty() {
        // Tracks have deadlines of their own.
        let deadline = street.harness.engine.next_deadline().unwrap();
        answers.extend(verified(street.harness.apply(Input::Tick(deadline))));
    }
    assert_eq!(findings(&answers), [Finding::Unverifiable]);
    assert_eq!(answers[0].at, at(f64::from(asked) + 3720.0));
    assert!(!answers[0].is_look, "there is no picture to show");
    let later = street.harness.apply(Input::Tick(at(f64::from(asked) + 9000.0)));
    assert_eq!(verified(later).count(), 0, "reported once");
    street.harness.close();
}

#[test]
fn the_end_of_a_case_drops_the_question() {
    for state in [CaseState::Closed, CaseState::Dispatched, CaseState::DuplicateOf] {
        let mut street = Street::new();
        street.reply(CaseState::Disposed);
        street.look_for(5, |_| (View::Clear, Vec::new()));
        street.reply(state);
        let answers = street.look_for(90, |_| (View::Clear, Vec::new()));
        assert_eq!(findings(&answers), [], "{state:?}");
        street.harness.close();
    }
}

#[test]
fn a_re_aimed_camera_cannot_verify() {
    let mut street = Street::new();
    street.reply(CaseState::Disposed);
    street.harness.apply(Input::Reaimed {
        camera: "gate".into(),
        at: at(street.now.into()),
    });
    let answers = street.look_for(62, |_| (View::Clear, Vec::new()));
    assert_eq!(findings(&answers), [Finding::Unverifiable]);
    street.harness.close();
}

#[test]
fn a_question_survives_a_restart() {
    let mut street = Street::new();
    street.reply(CaseState::Disposed);
    street.look_for(5, |_| (View::Clear, Vec::new()));
    let again = plan([("gate", fixed()), ("side", fixed())], vec![rule()]);
    street.harness.restart(again, |_| true);
    let answers = street.look_for(15, |_| (View::Clear, Vec::new()));
    assert_eq!(findings(&answers), [Finding::Cleared]);
    assert_eq!(answers[0].looks, 61, "looks before the restart count");
}

/// A hundred closures under realistic conditions: the detector misses three in ten, stray boxes come and go, people
/// pass, lorries stop in front, crews come late or not at all, and views go dark, are blocked or moved.
#[test]
fn a_hundred_closures_get_the_right_verdict() {
    let mut chance = fastrand::Rng::with_seed(7);
    let mut verdicts = [0; 3];
    for n in 0..100 {
        let blind = [View::Dark, View::Blocked, View::Moved, View::Blurred, View::Frozen][n % 5];
        let crew_after = chance.u32(0..10) * 60;
        let (is_blind, is_hidden, comes) = (n % 10 >= 8, n % 10 == 7, n % 10 < 4);
        let expected = match (is_blind || is_hidden, comes) {
            (true, _) => Finding::Unverifiable,
            (false, true) => Finding::Cleared,
            (false, false) => Finding::StillPresent,
        };
        let mut street = Street::new();
        let state = [CaseState::Disposed, CaseState::VerifyRequested][n % 2];
        street.reply(state);
        let rng = std::cell::RefCell::new(chance.fork());
        let answers = street.look_for(90, |s| {
            let mut rng = rng.borrow_mut();
            // A blind view has clear moments, too short for a verdict.
            if is_blind && s % 600 > 120 {
                return (blind, Vec::new());
            }
            let mut found = Vec::new();
            let is_there = !comes || s < crew_after;
            if is_there && rng.f32() < 0.7 {
                found = heap();
            } else if !is_there && rng.f32() < 0.02 {
                found = vec![garbage(0.35, bbox(0.47, 0.52, 0.56, 0.6))];
            }
            if is_blind || is_hidden || rng.f32() < 0.1 {
                found = vec![lorry()];
            }
            (View::Clear, found)
        });
        assert_eq!(findings(&answers), [expected], "closure {n}");
        verdicts[expected as usize] += 1;
        street.harness.close();
    }
    assert_eq!(verdicts, [30, 40, 30]);
}
