//! Tests the decoders with one keyframe of each codec: an element in GStreamer's registry may still fail.

use bytes::Bytes;
use jiff::Timestamp;

use gridwatch_camera::{
    Backend, Codec, Keyframe,
    decode::{DecodeError, Decoder},
};
use gridwatch_engine::CameraId;

/// A decoder that works.
pub(crate) struct WorkingDecoder {
    /// The GStreamer element.
    pub(crate) element: String,
    /// Width and height of the test picture.
    pub(crate) size: (u32, u32),
}

/// Decodes a test keyframe of each codec with the decoder that the daemon uses.
pub(crate) fn test(backend: Backend) -> [(Codec, Result<WorkingDecoder, DecodeError>); 2] {
    // ffmpeg's `testsrc` at 320×240, encoded with x264 (Main profile) and x265.
    let samples: [(Codec, &'static [u8]); 2] = [
        (Codec::H264, include_bytes!("cli/check/keyframe.h264")),
        (Codec::H265, include_bytes!("cli/check/keyframe.h265")),
    ];
    samples.map(|(codec, data)| {
        let keyframe = Keyframe {
            camera: CameraId::from("check"),
            seq: 0,
            captured_at: Timestamp::now(),
            codec,
            data: Bytes::from_static(data),
        };
        let decoded = Decoder::new("check", backend).and_then(|mut decoder| {
            let frame = decoder.decode(&keyframe)?;
            Ok(WorkingDecoder {
                element: decoder.element(codec).unwrap_or_default().to_owned(),
                size: (frame.width, frame.height),
            })
        });
        (codec, decoded)
    })
}
