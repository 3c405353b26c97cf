//! Decodes the first keyframe of a stream that was measured, as a look does.

use gridwatch_camera::{
    Backend, Codec,
    receive::{self, VideoCodec},
};
use gridwatch_frame::Frame;
use jiff::Timestamp;

/// Decodes a keyframe: Annex B, or a whole JPEG. `None` if this build has no decoder for it.
///
/// # Errors
/// Why it cannot be decoded.
pub(crate) fn decode(codec: VideoCodec, data: Vec<u8>, backend: Backend) -> Result<Option<Frame>, String> {
    let codec = match codec {
        VideoCodec::Jpeg => return receive::decode_jpeg(&data, Timestamp::now()).map(Some),
        VideoCodec::H264 => Codec::H264,
        VideoCodec::H265 => Codec::H265,
    };
    decode_keyframe(codec, data, backend)
}

#[cfg(feature = "gst")]
fn decode_keyframe(codec: Codec, data: Vec<u8>, backend: Backend) -> Result<Option<Frame>, String> {
    use crate::decoders;
    use gridwatch_camera::{
        Keyframe,
        decode::{CrashLog, Decoder},
    };
    let keyframe = Keyframe {
        camera: "check".into(),
        seq: 0,
        captured_at: Timestamp::now(),
        codec,
        data: data.into(),
    };
    let mode = decoders::mode(CrashLog::default());
    let mut decoder = Decoder::with_mode("check", backend, &mode).map_err(|e| e.to_string())?;
    decoder.decode(&keyframe).map(Some).map_err(|e| e.to_string())
}

#[cfg(not(feature = "gst"))]
fn decode_keyframe(_codec: Codec, _data: Vec<u8>, _backend: Backend) -> Result<Option<Frame>, String> {
    Ok(None)
}
