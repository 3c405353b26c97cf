//! Streams that other players show are received, and those that cannot be looked at are named.

use std::path::Path;

use crate::support::{
    Camera,
    clips::{self, SMALL, Spec},
    odd_camera::{Marker, OddCamera, Oddities, nal_kind, nals},
    settings, until,
};
use gridwatch_camera::{
    Backend, CameraState, Codec, Keyframe, Picture, Transport, decode::Decoder, receive::ReceiverSettings,
};

fn kinds(keyframe: &Keyframe) -> Vec<u8> {
    nals(&keyframe.data).map(|nal| nal_kind(keyframe.codec, nal)).collect()
}

#[test]
fn every_random_access_picture_of_h265_is_a_keyframe() {
    // x265's default: an IDR picture at the start, CRA pictures from then on.
    const CRA: u8 = 21;
    let clip = clips::clip(Spec {
        h265: true,
        b_frames: 3,
        more: "open-gop=1",
        ..SMALL
    });
    let second = clip.units().iter().skip(1).position(|u| u.keyframe).unwrap() + 1;
    let server = OddCamera::start(
        &clip,
        Oddities {
            loop_from: second,
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    let mut decoder = Decoder::new("decode0", Backend::Software).unwrap();
    for after in 1..4 {
        let keyframe = camera.keyframe_after(after);
        assert!(kinds(&keyframe).contains(&CRA), "{:?}", kinds(&keyframe));
        assert_eq!(decoder.decode(&keyframe).unwrap().height, 240);
    }
    assert_eq!(camera.slot().state(), CameraState::Live);
}

#[test]
fn a_parameter_set_that_nobody_here_can_read_is_left_to_the_decoder() {
    let sps = "67640016acb405017fcb08000003000800000300a46d04423c";
    let sps: Vec<u8> = (0..sps.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&sps[i..i + 2], 16).unwrap())
        .collect();
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            sps: Some(sps.clone()),
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    let keyframe = camera.keyframe_after(1);
    assert!(nals(&keyframe.data).any(|nal| nal == sps));
    assert_eq!(camera.slot().stats().damaged, 0);
}

#[test]
fn a_new_source_at_each_keyframe_is_followed() {
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            ssrc_every: Some(25),
            fps: 50,
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    for after in 0..5 {
        camera.keyframe_after(after);
    }
    let stats = camera.slot().stats();
    assert_eq!((stats.damaged, stats.lost_packets, server.connections()), (0, 0, 1));
}

#[test]
fn a_marker_on_every_slice_does_not_split_pictures() {
    let clip = clips::clip(Spec {
        more: "slices=4",
        ..SMALL
    });
    let server = OddCamera::start(
        &clip,
        Oddities {
            no_delimiters: true,
            marker: Marker::EndOfSlice,
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    let mut decoder = Decoder::new("decode0", Backend::Software).unwrap();
    for after in 0..3 {
        let keyframe = camera.keyframe_after(after);
        assert_eq!(kinds(&keyframe).iter().filter(|k| **k == 5).count(), 4, "slices");
        decoder.decode(&keyframe).unwrap();
    }
    assert_eq!(camera.slot().stats().damaged, 0);
}

/// The same picture parameter set under the id 1: ue(0) is `1`, ue(1) is `010` (H.264, 7.3.2.2).
fn with_id_1(pps: &[u8]) -> Vec<u8> {
    let bits: String = pps[1..].iter().map(|byte| format!("{byte:08b}")).collect();
    let mut bits = format!("010{}", &bits.trim_end_matches('0')[1..]);
    while bits.len() % 8 != 0 {
        bits.push('0');
    }
    let bytes = bits.as_bytes().chunks(8);
    let bytes = bytes.map(|b| u8::from_str_radix(std::str::from_utf8(b).unwrap(), 2).unwrap());
    [pps[0]].into_iter().chain(bytes).collect()
}

#[test]
fn all_parameter_sets_of_a_camera_come_with_each_keyframe() {
    let clip = clips::clip(SMALL);
    let pps = nals(&clip.units()[0].data)
        .find(|nal| nal_kind(Codec::H264, nal) == 8)
        .unwrap();
    let second = with_id_1(pps);
    let server = OddCamera::start(
        &clip,
        Oddities {
            second_pps: Some(second.clone()),
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    let keyframe = camera.keyframe_after(1);
    let found: Vec<_> = nals(&keyframe.data)
        .filter(|nal| nal_kind(Codec::H264, nal) == 8)
        .collect();
    assert!(found.contains(&pps) && found.contains(&second.as_slice()), "{found:x?}");
    let mut decoder = Decoder::new("decode0", Backend::Software).unwrap();
    decoder.decode(&keyframe).unwrap();
}

#[test]
fn ten_bit_monochrome_video_is_named_and_never_decoded() {
    let clip = clips::clip(Spec {
        h265: true,
        pixels: "gray10le",
        ..SMALL
    });
    let server = OddCamera::start(&clip, Oddities::default());
    let camera = Camera::receive(settings(&server.url()));
    let what = until("the format is refused", || match camera.slot().state() {
        CameraState::Unsupported { what } => Some(what),
        _ => None,
    });
    assert!(what.contains("10 bits") && what.contains("monochrome"), "{what}");
    assert_eq!(camera.slot().seq(), 0);
}

#[test]
fn motion_jpeg_is_decoded_now_and_then() {
    let jpeg = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/rtsp/fixtures/420.jpg");
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            jpeg: Some(std::fs::read(jpeg).unwrap()),
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    let frame = until("three pictures", || match camera.slot().latest() {
        Some((3.., Picture::Frame(frame))) => Some(frame),
        _ => None,
    });
    assert!(frame.width >= 16 && frame.full_range);
    assert_eq!(camera.slot().state(), CameraState::Live);
    let stats = camera.slot().stats();
    assert!(stats.frames > 2 * camera.slot().seq(), "{stats:?}");
}

#[test]
fn losses_over_udp_are_told_with_their_share_and_not_as_a_keyframe_interval() {
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            lose_every: Some(10),
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(ReceiverSettings {
        transport: Transport::Udp,
        ..settings(&server.url())
    });
    let share = until("loss", || match camera.slot().state() {
        CameraState::Loss { share } if share > 0.05 => Some(share),
        _ => None,
    });
    assert!(share < 0.2, "{share}");
    let shown = camera.slot().state().to_string();
    assert!(shown.contains('%') && !shown.contains("GOP"), "{shown}");
}
