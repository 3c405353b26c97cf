//! Records survive encoding and decoding.

use proptest::prelude::*;

use super::{decode::MIN_DETECTION_BYTES, *};
use gridwatch_engine::{Appearance, BBox, Detection, Input, Label, Light, Newness, SecondLookScore, TextReading};

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
    Detection::new(
        "garbage",
        f32::NAN,
        BBox {
            x1: -0.0,
            y1: f32::MIN_POSITIVE,
            x2: f32::INFINITY,
            y2: 0.1,
        },
    )
}

const STARTED: i128 = 1_750_000_000_000_000_000;

#[test]
fn looks_are_encoded_compactly_and_exactly() {
    let (mut encoder, mut decoder) = (Encoder::new(at(STARTED)), Decoder::new(at(STARTED)));
    let mut sizes = Vec::new();
    let with_appearance = || Detection {
        appearance: Some(Appearance([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255])),
        ..garbage()
    };
    for (i, seen) in [
        vec![garbage()],
        vec![],
        vec![garbage()],
        vec![garbage(), garbage()],
        vec![with_appearance(), garbage()],
    ]
    .into_iter()
    .enumerate()
    {
        // Steps of ten seconds and a few nanoseconds.
        let input = look(at(STARTED + 10_000_000_007 * i as i128), seen);
        let mut out = Vec::new();
        encoder.input(&input, &mut out);
        sizes.push(out.len());
        let Input::Observed(look) = input else { unreachable!() };
        let entry = decoder.entry(&out).unwrap();
        // NaN is not equal to itself; its debug text is.
        assert_eq!(
            format!("{:?}", entry.event),
            format!("{:?}", RecordedEvent::Observed(look))
        );
    }
    let frame = super::super::file::FRAME_HEADER_BYTES as usize;
    assert!(sizes[1] + frame <= 40, "{sizes:?}");
    assert_eq!(sizes[3] - sizes[2], MIN_DETECTION_BYTES);
    assert_eq!(sizes[4] - sizes[3], 12 + 2, "an appearance, and a flag per detection");
}

#[test]
fn phone_numbers_texts_second_looks_and_labels_not_searched_for_survive() {
    let (mut encoder, mut decoder) = (Encoder::new(at(STARTED)), Decoder::new(at(STARTED)));
    let with_number = Detection {
        score: 0.5,
        number: Some("13800138000".into()),
        ..garbage()
    };
    let other = Detection {
        score: 0.5,
        ..garbage()
    };
    let with_second_look = Detection {
        score: 0.5,
        second_looks: vec![
            SecondLookScore {
                rule: Some("garbage".into()),
                score: 0.0,
            },
            SecondLookScore {
                rule: Some("new-banner".into()),
                score: 0.75,
            },
        ],
        ..garbage()
    };
    let with_text = Detection {
        score: 0.5,
        text: Some(TextReading {
            text: "专业开锁 13800138000".into(),
            score: 0.9,
        }),
        ..with_number.clone()
    };
    for (seen, not_searched) in [
        (vec![other.clone(), with_text.clone()], vec![]),
        (vec![with_text, with_second_look.clone()], vec!["sign".into()]),
        (vec![other.clone(), with_number.clone()], vec![]),
        (vec![], vec![Label::small_ad()]),
        (vec![with_number.clone()], vec![Label::small_ad(), "sign".into()]),
        (vec![with_second_look.clone(), other.clone()], vec![]),
        (vec![with_number, with_second_look], vec!["sign".into()]),
        (vec![other], vec![]),
    ] {
        let Input::Observed(look) = look(at(STARTED), seen) else {
            unreachable!()
        };
        let look = Observation { not_searched, ..look };
        let mut out = Vec::new();
        encoder.input(&Input::Observed(look.clone()), &mut out);
        assert_eq!(decoder.entry(&out).unwrap().event, RecordedEvent::Observed(look));
    }
}

#[test]
fn reaiming_a_camera_survives() {
    let (mut encoder, mut decoder) = (Encoder::new(at(STARTED)), Decoder::new(at(STARTED)));
    let (camera, at) = (CameraId::from("gate"), at(STARTED + 1));
    let mut out = Vec::new();
    let input = Input::Reaimed {
        camera: camera.clone(),
        at,
    };
    encoder.input(&input, &mut out);
    let decoded = decoder.entry(&out).unwrap().event;
    assert_eq!(decoded, RecordedEvent::Reaimed(Reaimed { camera, at }));
}

#[test]
fn a_claim_that_an_earlier_version_recorded_is_read_and_has_no_effect() {
    let decode = |json: &str| {
        let mut payload = vec![ELSEWHERE];
        encode::varint(json.len() as u128, &mut payload);
        payload.extend_from_slice(json.as_bytes());
        Decoder::new(at(STARTED)).entry(&payload).map(|entry| entry.event)
    };
    let claimed = r#"{"at":"2026-03-01T08:00:00Z","what":{"claimed":{"case":"theirs","node":"box-2"}}}"#;
    assert_eq!(decode(claimed), Ok(RecordedEvent::OpenedElsewhere));
    let released = r#"{"at":"2026-03-01T08:00:00Z","what":{"released":"theirs"}}"#;
    assert!(matches!(decode(released), Ok(RecordedEvent::Elsewhere(_))));
    assert!(decode(r#"{"at":"2026-03-01T08:00:00Z","what":{"sold":"theirs"}}"#).is_err());
}

#[test]
fn a_configuration_change_survives_and_one_of_an_earlier_version_is_read() {
    let decode = |payload: &[u8]| Decoder::new(at(STARTED)).entry(payload).map(|entry| entry.event);
    let plan = Some(PlanId::placeholder());
    let record = ConfiguredRecord {
        config_sha256: "ab".into(),
        plan: plan.clone(),
    };
    let mut payload = Vec::new();
    configured(&record, &mut payload);
    let config_sha256 = String::from("ab");
    assert_eq!(decode(&payload), Ok(RecordedEvent::Configured { config_sha256, plan }));

    let earlier = |json: &str| {
        let mut payload = vec![CONFIGURED];
        encode::varint(json.len() as u128, &mut payload);
        payload.extend_from_slice(json.as_bytes());
        decode(&payload)
    };
    let (config_sha256, plan) = (String::from("cd"), None);
    assert_eq!(
        earlier(r#""cd""#),
        Ok(RecordedEvent::Configured { config_sha256, plan })
    );
    // It would name a file elsewhere.
    assert!(earlier(r#"{"config_sha256":"cd","plan":"../../etc/passwd"}"#).is_err());
}

#[test]
fn view_codes_match_the_table() {
    for (code, view) in VIEWS.into_iter().enumerate() {
        assert_eq!(usize::from(view_code(view)), code);
    }
}

proptest! {
    #[test]
    fn any_two_times_survive(a in Timestamp::MIN.as_nanosecond()..Timestamp::MAX.as_nanosecond(),
                             b in Timestamp::MIN.as_nanosecond()..Timestamp::MAX.as_nanosecond()) {
        let (mut encoder, mut decoder) = (Encoder::new(at(STARTED)), Decoder::new(at(STARTED)));
        for at in [at(a), at(b)] {
            let mut out = Vec::new();
            encoder.input(&Input::Tick(at), &mut out);
            prop_assert_eq!(decoder.entry(&out).unwrap().event, RecordedEvent::Tick(at));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Decoder::new(at(STARTED)).entry(&bytes);
    }
}

#[test]
fn newness_survives_and_costs_nothing_where_it_is_unknown() {
    let (mut encoder, mut decoder) = (Encoder::new(at(STARTED)), Decoder::new(at(STARTED)));
    let with = |newness| Detection {
        score: 0.5,
        newness,
        ..garbage()
    };
    let unchanged = Some(Newness {
        share: 0.0,
        since: None,
    });
    let new = Some(Newness {
        share: 0.75,
        since: Some(at(STARTED - 3_600_000_000_001)),
    });
    let later = Some(Newness {
        share: 1.0,
        since: Some(at(STARTED + 1)),
    });
    let mut sizes = Vec::new();
    for seen in [
        vec![with(None)],
        vec![with(None)],
        vec![with(new), with(None)],
        vec![with(unchanged), with(later)],
    ] {
        let Input::Observed(mut look) = look(at(STARTED), seen) else {
            unreachable!()
        };
        look.view = View::Moved;
        let mut out = Vec::new();
        encoder.input(&Input::Observed(look.clone()), &mut out);
        sizes.push(out.len());
        let decoded = decoder.entry(&out).unwrap();
        assert_eq!(decoded.event, RecordedEvent::Observed(look));
    }
    // The names are spelled out in the first one. Five numbers of four bytes, the label, and seven bytes around it.
    assert_eq!(sizes[1], 26, "{sizes:?}");
}

#[test]
fn a_look_with_fields_of_a_later_version_is_refused() {
    let (mut encoder, mut decoder) = (Encoder::new(at(STARTED)), Decoder::new(at(STARTED)));
    let newness = Some(Newness {
        share: 0.5,
        since: None,
    });
    let mut out = Vec::new();
    encoder.input(&look(at(STARTED), vec![Detection { newness, ..garbage() }]), &mut out);
    // The extension byte follows the kind, the camera's name, the time and the view byte.
    let extension = out.iter().position(|b| *b == NEWNESS).unwrap();
    out[extension] |= 0x40;
    assert_eq!(decoder.entry(&out).unwrap_err(), "unknown fields of a look");
}
