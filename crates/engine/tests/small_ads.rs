//! Phone numbers on walls: one case per advertiser and wall, looks that do not read numbers are not absence, and
//! approved numbers are not filed.

use std::time::Duration;

use crate::engine_support::*;
use gridwatch_engine::{
    ApprovedSign, BBox, CameraPlan, Detection, Input, Label, Light, NotFiled, Observation, PhoneNumber, Rule, Stands,
    TextReading, Validity, View,
};

const READ_EVERY_S: u32 = 600;
const LOOK_EVERY_S: u32 = 10;
const LOCKSMITH: &str = "13800138000";
const MOVER: &str = "037167890123";

fn small_ads() -> Rule {
    Rule {
        id: "small-ads".into(),
        labels: vec![Label::small_ad()],
        dwell: Duration::from_secs(2 * 3600),
        seen_n: 2,
        min_area: 0.0004,
        stands: Stands::Wall,
        except_approved: true,
        forget_after: Duration::from_secs(45 * 60),
        max_gap: Duration::from_secs(31 * 60),
        ..rule()
    }
}

fn wall(approved: Vec<ApprovedSign>) -> CameraPlan {
    CameraPlan {
        approved: Some(approved),
        ..fixed()
    }
}

/// A line of digits somewhere on the wall.
fn place(n: u8) -> BBox {
    let y = 0.1 + 0.1 * f32::from(n);
    bbox(0.3, y, 0.4, y + 0.02)
}

fn ad(number: &str, at: BBox) -> Detection {
    Detection {
        number: Some(PhoneNumber::from(number)),
        ..Detection::new(Label::small_ad(), 0.95, at)
    }
}

/// A look that does not read numbers, like most.
fn look_without_reading(harness: &mut Harness, seconds: u32, view: View) {
    harness.apply(Input::Observed(Observation {
        camera: "wall".into(),
        at: at(f64::from(seconds)),
        view,
        light: Light::Day,
        detections: Vec::new(),
        not_searched: vec![Label::small_ad()],
    }));
}

/// Looks every 10 s until shortly after the dwell; every sixtieth look reads what `read` returns.
fn watch(camera: CameraPlan, read: impl Fn(u32) -> Vec<Detection>) -> Harness {
    let mut harness = Harness::new(plan([("wall", camera)], vec![small_ads()]));
    continue_watching(&mut harness, 0, 14, read);
    harness
}

fn continue_watching(harness: &mut Harness, from: u32, readings: u32, read: impl Fn(u32) -> Vec<Detection>) {
    for s in (from * READ_EVERY_S..(from + readings) * READ_EVERY_S).step_by(LOOK_EVERY_S as usize) {
        if s % READ_EVERY_S == 0 {
            harness.look("wall", s.into(), read(s / READ_EVERY_S));
        } else {
            look_without_reading(harness, s, View::Clear);
        }
    }
}

fn numbers(harness: &Harness) -> Vec<&str> {
    let opened = harness.opened().into_iter();
    let mut numbers: Vec<&str> = opened
        .map(|c| c.number.as_ref().map_or("none", |n| n.as_str()))
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn looks_that_do_not_read_are_neither_presence_nor_absence() {
    let mut harness = watch(wall(vec![]), |_| vec![ad(LOCKSMITH, place(0))]);
    assert_eq!(numbers(&harness), [LOCKSMITH]);
    let case = harness.opened()[0].clone();
    assert_eq!(case.dwell, Duration::from_secs(2 * 3600));
    assert_eq!((case.looks_seen, case.looks), (13, 13), "only looks that read count");
    harness.close();

    // If every look had read numbers, it would be missing in 59 of 60.
    let mut harness = Harness::new(plan([("wall", wall(vec![]))], vec![small_ads()]));
    for s in (0..14 * READ_EVERY_S).step_by(LOOK_EVERY_S as usize) {
        let seen = (s % READ_EVERY_S == 0).then(|| ad(LOCKSMITH, place(0)));
        harness.look("wall", s.into(), seen.into_iter().collect());
    }
    assert_eq!(numbers(&harness), [""; 0]);
    harness.close();
}

#[test]
fn a_number_leaves_by_the_looks_that_read() {
    let mut harness = watch(
        wall(vec![]),
        |n| if n < 3 { vec![ad(LOCKSMITH, place(0))] } else { vec![] },
    );
    assert_eq!(numbers(&harness), [""; 0]);
    assert_eq!(harness.not_filed(), [NotFiled::LeftBeforeDwell]);
    harness.close();
}

#[test]
fn a_blind_look_between_two_reading_looks_makes_their_interval_blind() {
    let mut harness = Harness::new(plan([("wall", wall(vec![]))], vec![small_ads()]));
    for n in 0..14 {
        harness.look("wall", f64::from(n * READ_EVERY_S), vec![ad(LOCKSMITH, place(0))]);
        look_without_reading(&mut harness, n * READ_EVERY_S + 100, View::Clear);
        look_without_reading(&mut harness, n * READ_EVERY_S + 200, View::Dark);
        look_without_reading(&mut harness, n * READ_EVERY_S + 300, View::Clear);
    }
    assert_eq!(numbers(&harness), [""; 0], "unknown what hung there in between");
    harness.close();
}

#[test]
fn reading_continues_after_a_restart() {
    let ads = |_| vec![ad(LOCKSMITH, place(0))];
    let mut harness = Harness::new(plan([("wall", wall(vec![]))], vec![small_ads()]));
    continue_watching(&mut harness, 0, 7, ads);
    harness.restart(plan([("wall", wall(vec![]))], vec![small_ads()]), |_| true);
    continue_watching(&mut harness, 7, 8, ads);
    assert_eq!(numbers(&harness), [LOCKSMITH]);
    harness.close();
}

#[test]
fn each_advertiser_on_a_wall_is_one_case() {
    let mut harness = watch(wall(vec![]), |_| {
        vec![ad(LOCKSMITH, place(0)), ad(MOVER, place(1)), ad(LOCKSMITH, place(4))]
    });
    assert_eq!(numbers(&harness), [MOVER, LOCKSMITH]);
    assert!(
        harness.not_filed().contains(&NotFiled::OpenCaseAtSite),
        "the locksmith's second flyer"
    );
    let mut keys: Vec<&str> = harness.opened().iter().map(|c| c.dedup_key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            format!("410105001001044/0102/view:wall:{MOVER}"),
            format!("410105001001044/0102/view:wall:{LOCKSMITH}"),
        ]
    );
    // A flyer stuck over the locksmith's: another number is another object.
    let world_before = harness.opened().len();
    continue_watching(&mut harness, 14, 14, |_| vec![ad("4001234567", place(0))]);
    assert_eq!(harness.opened().len(), world_before + 1);
    harness.close();
}

#[test]
fn a_number_misread_once_is_not_a_case() {
    let mut harness = watch(wall(vec![]), |n| {
        let number = if n == 5 { "13800138008" } else { LOCKSMITH };
        vec![ad(number, place(0))]
    });
    assert_eq!(numbers(&harness), [LOCKSMITH]);
    harness.close();
}

#[test]
fn approved_numbers_and_numbers_on_approved_boards_are_not_filed() {
    let board = bbox(0.2, 0.05, 0.6, 0.25);
    let approved = vec![
        ApprovedSign {
            label: Label::small_ad(),
            bbox: place(3),
            number: Some(LOCKSMITH.into()),
            text: None,
            valid: Validity::ALWAYS,
        },
        ApprovedSign {
            label: "sign".into(),
            bbox: board,
            number: None,
            text: None,
            valid: Validity::ALWAYS,
        },
    ];
    let mut harness = watch(wall(approved), |_| {
        vec![ad(LOCKSMITH, place(6)), ad("4008123123", place(0)), ad(MOVER, place(3))]
    });
    assert_eq!(numbers(&harness), [MOVER], "even where the approved number hung");
    assert!(
        harness.not_filed().iter().all(|r| *r == NotFiled::ApprovedSign),
        "{:?}",
        harness.not_filed()
    );
    harness.close();
}

/// An ad without a phone number.
fn text_ad(text: &str, score: f32, at: BBox) -> Detection {
    Detection {
        text: Some(TextReading {
            text: text.into(),
            score,
        }),
        ..Detection::new(Label::small_ad(), 0.9, at)
    }
}

fn texts(harness: &Harness) -> Vec<String> {
    let opened = harness.opened().into_iter();
    opened
        .map(|c| c.text.as_ref().map_or_else(String::new, |t| t.text.to_string()))
        .collect()
}

#[test]
fn the_same_text_on_a_wall_is_one_case_and_another_text_is_another() {
    let mut harness = watch(wall(vec![]), |n| {
        // Misread once in a while.
        let locks = if n % 4 == 3 {
            "专业开领换锁微信kaisuo88"
        } else {
            "专业开锁换锁微信kaisuo88"
        };
        vec![
            text_ad(locks, if n == 5 { 0.95 } else { 0.9 }, place(0)),
            text_ad("高价回收烟酒加V huishou66", 0.9, place(1)),
            text_ad("专业开锁换锁 微信kaisuo88", 0.8, place(4)),
        ]
    });
    let mut opened = texts(&harness);
    opened.sort_unstable();
    assert_eq!(opened, ["专业开锁换锁微信kaisuo88", "高价回收烟酒加V huishou66"]);
    assert!(
        harness.not_filed().contains(&NotFiled::OpenCaseAtSite),
        "the second flyer"
    );
    let mut keys: Vec<&str> = harness.opened().iter().map(|c| c.dedup_key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "410105001001044/0102/view:wall:专业开锁换锁微信kaisuo88",
            "410105001001044/0102/view:wall:高价回收烟酒加vhuishou66",
        ]
    );
    harness.close();
}

#[test]
fn a_text_over_an_old_one_is_another_object() {
    let mut harness = watch(wall(vec![]), |_| {
        vec![text_ad("专业开锁换锁微信kaisuo88", 0.9, place(0))]
    });
    continue_watching(&mut harness, 14, 14, |_| {
        vec![text_ad("疏通下水管道加V tongxia66", 0.9, place(0))]
    });
    assert_eq!(texts(&harness).len(), 2);
    harness.close();
}

#[test]
fn a_text_that_is_approved_in_the_view_of_any_camera_is_not_filed() {
    let shop = |text: &str, number: Option<&str>| ApprovedSign {
        label: "sign".into(),
        bbox: bbox(0.2, 0.05, 0.6, 0.25),
        number: number.map(Into::into),
        text: Some(text.into()),
        valid: Validity::ALWAYS,
    };
    let signs = vec![
        shop("老王开锁服务部微信laowang88", None),
        shop("四季鲜果超市欢迎光临", Some(MOVER)),
    ];
    let cameras = [("wall", wall(vec![])), ("market", wall(signs))];
    let mut harness = Harness::new(plan(cameras, vec![small_ads()]));
    continue_watching(&mut harness, 0, 14, |_| {
        let with_number = |number: &str, at| Detection {
            number: Some(number.into()),
            ..text_ad("四季鲜果超市欢迎光临", 0.9, at)
        };
        vec![
            text_ad("老王开锁服务部 微信laowang88", 0.9, place(0)),
            text_ad("专业开锁换锁微信kaisuo88", 0.9, place(1)),
            with_number(MOVER, place(2)),
            with_number(LOCKSMITH, place(3)),
        ]
    });
    let mut opened = texts(&harness);
    opened.sort_unstable();
    assert_eq!(
        opened,
        ["专业开锁换锁微信kaisuo88", "四季鲜果超市欢迎光临"],
        "another number under an approved text is not approved"
    );
    assert_eq!(numbers(&harness), [LOCKSMITH, "none"]);
    harness.close();
}

#[test]
fn a_restart_remembers_the_texts_of_open_cases() {
    let ads = |_| vec![text_ad("专业开锁换锁微信kaisuo88", 0.9, place(0))];
    let mut harness = watch(wall(vec![]), ads);
    assert_eq!(texts(&harness).len(), 1);
    harness.restart(plan([("wall", wall(vec![]))], vec![small_ads()]), |_| true);
    continue_watching(&mut harness, 14, 14, |_| {
        vec![
            text_ad("专业开锁换锁微信kaisuo88", 0.9, place(5)),
            text_ad("疏通下水管道加V tongxia66", 0.9, place(2)),
        ]
    });
    assert_eq!(texts(&harness).len(), 2, "only the new text");
    harness.close();
}
