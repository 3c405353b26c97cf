//! `decode.backend` selects the decoder. Without a decoder of the selected kind, decoding fails with an error.

use crate::support::clips::{self, SMALL};
use gridwatch_base::error::Class;
use gridwatch_camera::{
    Backend, Codec, Keyframe,
    decode::{DecodeError, Decoder},
};

fn keyframe() -> Keyframe {
    Keyframe {
        camera: "cam".into(),
        seq: 1,
        captured_at: jiff::Timestamp::UNIX_EPOCH,
        codec: Codec::H264,
        data: clips::clip(SMALL).units()[0].data.clone(),
    }
}

#[test]
fn auto_and_software_decode_on_any_box() {
    for backend in [Backend::Auto, Backend::Software] {
        let mut decoder = Decoder::new("decode0", backend).unwrap();
        let frame = decoder.decode(&keyframe()).unwrap();
        assert_eq!(frame.height, 240);
        assert!(decoder.element(Codec::H264).is_some());
    }
}

#[test]
fn hardware_backend_never_falls_back_to_software() {
    let mut decoder = Decoder::new("decode0", Backend::Hardware).unwrap();
    match decoder.decode(&keyframe()) {
        Ok(_) => assert!(!decoder.element(Codec::H264).unwrap().starts_with("avdec")),
        Err(e @ DecodeError::NoDecoder { .. }) => {
            assert_eq!(e.class(), Class::Config);
            assert!(e.to_string().contains("decode.backend"), "{e}");
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn decoder_thread_carries_the_decoders_name() {
    let mut decoder = Decoder::new("decode7", Backend::Software).unwrap();
    decoder.decode(&keyframe()).unwrap();
    let names: Vec<_> = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok())
        .collect();
    assert!(names.iter().any(|n| n.trim() == "decode7:src"), "{names:?}");
}
