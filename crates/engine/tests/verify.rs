//! Where a crew says that it dealt with a case, or the platform asks, the box looks again: it says that a thing is gone, or still
//! there, where it saw that, and nothing else.

use std::time::Duration;

use crate::engine_support::*;
use gridwatch_engine::{CaseId, CaseState, Detection, Effect, Finding, Input, Reply, Verified, View};

/// A heap whose case was filed at 60 s, and how its street goes on.
struct Street {
    world: World,
    case: CaseId,
    now: u32,
}

impl Street {
    fn new() -> Self {
        let mut world = World::new(plan([("gate", fixed()), ("side", fixed())], vec![rule()]));
        world.heap_stays("gate", 0, 60);
        let case = world.opened()[0].id.clone();
        Self { world, case, now: 60 }
    }

    fn says(&mut self, state: CaseState) -> Vec<Effect> {
        self.now += 1;
        self.world.apply(Input::Reply(Reply {
            case: self.case.clone(),
            state,
            at: at(self.now.into()),
            reason: None,
            due: None,
        }))
    }

    /// Looks every 10 s for so many minutes; what each sees, by the seconds since these began.
    fn goes_on(&mut self, minutes: u32, look: impl Fn(u32) -> (View, Vec<Detection>)) -> Vec<Verified> {
        let start = self.now;
        let mut answers = Vec::new();
        while self.now < start + minutes * 60 {
            self.now += 10;
            let (view, found) = look(self.now - start);
            answers.extend(verified(self.world.see("gate", self.now.into(), view, found)));
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
    Detection {
        label: "truck".into(),
        ..garbage(0.9, bbox(0.3, 0.2, 0.7, 0.65))
    }
}

fn findings(answers: &[Verified]) -> Vec<Finding> {
    answers.iter().map(|a| a.finding).collect()
}

#[test]
fn a_place_that_is_empty_for_ten_minutes_is_cleared_and_said_once() {
    let mut street = Street::new();
    street.says(CaseState::Disposed);
    let asked_at = at(street.now.into());
    let answers = street.goes_on(30, |_| (View::Clear, Vec::new()));
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(
        (answer.finding, &answer.case, answer.bbox, answer.asked_at),
        (Finding::Cleared, &street.case, HEAP, asked_at)
    );
    // Its first look came 10 s after the answer.
    assert_eq!(answer.at, asked_at + Duration::from_secs(610));
    assert_eq!((answer.looks, answer.looks_seen, answer.is_look), (61, 0, true));
    street.world.close();
}

#[test]
fn what_is_still_there_is_said_to_be() {
    let mut street = Street::new();
    street.says(CaseState::VerifyRequested);
    // The detector misses it in every other look.
    let answers = street.goes_on(30, |s| (View::Clear, if s % 20 == 0 { heap() } else { Vec::new() }));
    assert_eq!(findings(&answers), [Finding::StillPresent]);
    assert_eq!((answers[0].looks, answers[0].looks_seen), (62, 31));
    // Asked again, it looks again.
    assert!(street.says(CaseState::VerifyRequested).is_empty());
    let answers = street.goes_on(30, |_| (View::Clear, Vec::new()));
    assert_eq!(findings(&answers), [Finding::Cleared]);
    street.world.close();
}

#[test]
fn when_a_crews_time_is_up_the_box_asks_itself() {
    let dispatched = |street: &mut Street, minutes: u32| {
        street.now += 1;
        street.world.apply(Input::Reply(Reply {
            case: street.case.clone(),
            state: CaseState::Dispatched,
            at: at(street.now.into()),
            reason: None,
            due: Some(at((street.now + minutes * 60).into())),
        }))
    };
    let mut street = Street::new();
    assert_eq!(dispatched(&mut street, 30).len(), 1, "a step of the case");
    let due = at((street.now + 30 * 60).into());
    assert!(
        street.goes_on(29, |_| (View::Clear, heap())).is_empty(),
        "the crew has time"
    );
    let answers = street.goes_on(30, |_| (View::Clear, heap()));
    assert_eq!(findings(&answers), [Finding::StillPresent]);
    assert_eq!(answers[0].asked_at, due);

    // It is given longer, and done before.
    assert!(dispatched(&mut street, 60).is_empty(), "no step");
    assert!(street.goes_on(50, |_| (View::Clear, heap())).is_empty());
    street.says(CaseState::Disposed);
    let answers = street.goes_on(60, |_| (View::Clear, Vec::new()));
    assert_eq!(findings(&answers), [Finding::Cleared], "said once");
    street.world.close();
}

#[test]
fn a_question_that_comes_twice_is_answered_once() {
    let mut street = Street::new();
    street.says(CaseState::Disposed);
    street.goes_on(5, |_| (View::Clear, Vec::new()));
    street.says(CaseState::VerifyRequested);
    let mut answers = street.goes_on(5, |_| (View::Clear, Vec::new()));
    street.says(CaseState::VerifyRequested);
    answers.extend(street.goes_on(60, |_| (View::Clear, Vec::new())));
    assert_eq!(findings(&answers), [Finding::Cleared]);
    street.world.close();
}

#[test]
fn what_hides_the_place_is_no_clearance() {
    let mut street = Street::new();
    street.says(CaseState::Disposed);
    let answers = street.goes_on(59, |_| (View::Clear, vec![lorry()]));
    assert_eq!(findings(&answers), [], "an hour is not over");
    let answers = street.goes_on(2, |_| (View::Clear, vec![lorry()]));
    assert_eq!(findings(&answers), [Finding::Unverifiable]);
    assert_eq!((answers[0].looks, answers[0].is_look), (0, true));
    // It drives away, and a verdict is given after all.
    let answers = street.goes_on(20, |_| (View::Clear, Vec::new()));
    assert_eq!(findings(&answers), [Finding::Cleared]);
    street.world.close();
}

#[test]
fn a_rest_that_does_not_count_is_no_clearance_either() {
    let mut street = Street::new();
    street.says(CaseState::Disposed);
    let rest = || vec![garbage(0.9, bbox(0.49, 0.55, 0.505, 0.565))];
    let answers = street.goes_on(62, |_| (View::Clear, rest()));
    assert_eq!(findings(&answers), [Finding::Unverifiable]);
    street.world.close();
}

#[test]
fn a_camera_that_gives_no_look_cannot_verify() {
    let mut street = Street::new();
    street.says(CaseState::VerifyRequested);
    let asked = street.now;
    // Another camera's looks are of another place.
    for s in (asked + 10..asked + 3600).step_by(10) {
        assert_eq!(verified(street.world.look("side", s.into(), Vec::new())).count(), 0);
    }
    let mut answers = Vec::new();
    while answers.is_empty() {
        // Other things have deadlines of their own.
        let deadline = street.world.engine.next_deadline().unwrap();
        answers.extend(verified(street.world.apply(Input::Tick(deadline))));
    }
    assert_eq!(findings(&answers), [Finding::Unverifiable]);
    assert_eq!(answers[0].at, at(f64::from(asked) + 3720.0));
    assert!(!answers[0].is_look, "there is no picture to show");
    let later = street.world.apply(Input::Tick(at(f64::from(asked) + 9000.0)));
    assert_eq!(verified(later).count(), 0, "said once");
    street.world.close();
}

#[test]
fn an_end_of_the_case_ends_the_question() {
    for state in [CaseState::Closed, CaseState::Dispatched, CaseState::DuplicateOf] {
        let mut street = Street::new();
        street.says(CaseState::Disposed);
        street.goes_on(5, |_| (View::Clear, Vec::new()));
        street.says(state);
        let answers = street.goes_on(90, |_| (View::Clear, Vec::new()));
        assert_eq!(findings(&answers), [], "{state:?}");
        street.world.close();
    }
}

#[test]
fn a_camera_that_was_aimed_anew_looks_at_another_place() {
    let mut street = Street::new();
    street.says(CaseState::Disposed);
    street.world.apply(Input::Reaimed {
        camera: "gate".into(),
        at: at(street.now.into()),
    });
    let answers = street.goes_on(62, |_| (View::Clear, Vec::new()));
    assert_eq!(findings(&answers), [Finding::Unverifiable]);
    street.world.close();
}

#[test]
fn a_question_outlives_a_restart() {
    let mut street = Street::new();
    street.says(CaseState::Disposed);
    street.goes_on(5, |_| (View::Clear, Vec::new()));
    let again = plan([("gate", fixed()), ("side", fixed())], vec![rule()]);
    street.world.restart(again, |_| true);
    let answers = street.goes_on(15, |_| (View::Clear, Vec::new()));
    assert_eq!(findings(&answers), [Finding::Cleared]);
    assert_eq!(answers[0].looks, 61, "what was seen before the restart counts");
}

/// A hundred closures on a street as it is: the detector misses three in ten, boxes that are not there come now and then, people
/// walk by, lorries stand before it, crews come late or not at all, and views go dark, are blocked or moved.
#[test]
fn a_hundred_closures_have_a_hundred_right_verdicts() {
    let mut chance = fastrand::Rng::with_seed(7);
    let mut told = [0; 3];
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
        street.says(state);
        let rng = std::cell::RefCell::new(chance.fork());
        let answers = street.goes_on(90, |s| {
            let mut rng = rng.borrow_mut();
            // A blind view may have an hour's clear moments, too short to tell.
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
        told[expected as usize] += 1;
        street.world.close();
    }
    assert_eq!(told, [30, 40, 30]);
}
