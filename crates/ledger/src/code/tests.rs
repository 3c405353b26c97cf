//! Records come back as they went in.

use proptest::prelude::*;

use super::*;

fn at(ns: i128) -> Timestamp {
    Timestamp::from_nanosecond(ns).unwrap()
}

fn look(at: Timestamp, detections: Vec<Detection>) -> Input {
    Input::Observed(Observation {
        camera: "gate".into(),
        at,
        view: View::Clear,
        light: Light::Day,
        detections,
        not_searched: Vec::new(),
    })
}

fn garbage() -> Detection {
    Detection {
        label: "garbage".into(),
        score: f32::NAN,
        bbox: BBox {
            x1: -0.0,
            y1: f32::MIN_POSITIVE,
            x2: f32::INFINITY,
            y2: 0.1,
        },
        appearance: None,
        number: None,
        closer: None,
    }
}

const BEGUN: i128 = 1_750_000_000_000_000_000;

#[test]
fn a_look_is_small_and_exact() {
    let (mut encoder, mut decoder) = (Encoder::new(at(BEGUN)), Decoder::new(at(BEGUN)));
    let mut sizes = Vec::new();
    let known = || Detection {
        appearance: Some(Appearance([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255])),
        ..garbage()
    };
    for (i, seen) in [
        vec![garbage()],
        vec![],
        vec![garbage()],
        vec![garbage(), garbage()],
        vec![known(), garbage()],
    ]
    .into_iter()
    .enumerate()
    {
        // Ten seconds and a bit, to the nanosecond.
        let input = look(at(BEGUN + 10_000_000_007 * i as i128), seen);
        let mut out = Vec::new();
        encoder.input(&input, "", &mut out);
        sizes.push(out.len());
        let Input::Observed(wanted) = input else { unreachable!() };
        let entry = decoder.entry(&out).unwrap();
        // NaN is not equal to itself; its text is.
        assert_eq!(format!("{:?}", entry.event), format!("{:?}", RecordedEvent::Observed(wanted)));
    }
    let frame = super::super::file::FRAME_HEADER_BYTES as usize;
    assert!(sizes[1] + frame <= 40, "{sizes:?}");
    assert_eq!(sizes[3] - sizes[2], MIN_DETECTION_BYTES);
    assert_eq!(sizes[4] - sizes[3], 12 + 2, "an appearance, and who has one");
}

#[test]
fn numbers_closer_looks_and_what_was_not_looked_for_survive() {
    let (mut encoder, mut decoder) = (Encoder::new(at(BEGUN)), Decoder::new(at(BEGUN)));
    let numbered = Detection {
        score: 0.5,
        number: Some("13800138000".into()),
        ..garbage()
    };
    let other = Detection {
        score: 0.5,
        ..garbage()
    };
    let doubted = Detection {
        score: 0.5,
        closer: Some(0.0),
        ..garbage()
    };
    for (seen, not_searched) in [
        (vec![other.clone(), numbered.clone()], vec![]),
        (vec![], vec![Label::small_ad()]),
        (vec![numbered.clone()], vec![Label::small_ad(), "sign".into()]),
        (vec![doubted.clone(), other.clone()], vec![]),
        (vec![numbered, doubted], vec!["sign".into()]),
        (vec![other], vec![]),
    ] {
        let Input::Observed(look) = look(at(BEGUN), seen) else {
            unreachable!()
        };
        let look = Observation { not_searched, ..look };
        let mut out = Vec::new();
        encoder.input(&Input::Observed(look.clone()), "", &mut out);
        assert_eq!(decoder.entry(&out).unwrap().event, RecordedEvent::Observed(look));
    }
}

#[test]
fn a_new_aim_survives() {
    let (mut encoder, mut decoder) = (Encoder::new(at(BEGUN)), Decoder::new(at(BEGUN)));
    let (camera, at) = (CameraId::from("gate"), at(BEGUN + 1));
    let mut out = Vec::new();
    let input = Input::Reaimed {
        camera: camera.clone(),
        at,
    };
    encoder.input(&input, "", &mut out);
    let told = decoder.entry(&out).unwrap().event;
    assert_eq!(told, RecordedEvent::Reaimed(Reaimed { camera, at }));
}

#[test]
fn every_view_has_its_code() {
    for (code, view) in VIEWS.into_iter().enumerate() {
        assert_eq!(usize::from(view_code(view)), code);
    }
}

proptest! {
    #[test]
    fn any_two_times_survive(a in Timestamp::MIN.as_nanosecond()..Timestamp::MAX.as_nanosecond(),
                             b in Timestamp::MIN.as_nanosecond()..Timestamp::MAX.as_nanosecond()) {
        let (mut encoder, mut decoder) = (Encoder::new(at(BEGUN)), Decoder::new(at(BEGUN)));
        for at in [at(a), at(b)] {
            let mut out = Vec::new();
            encoder.input(&Input::Tick(at), "", &mut out);
            prop_assert_eq!(decoder.entry(&out).unwrap().event, RecordedEvent::Tick(at));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Decoder::new(at(BEGUN)).entry(&bytes);
    }
}
