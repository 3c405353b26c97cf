//! Where decoders run, and a test of them with one keyframe of each codec: an element in GStreamer's registry may still fail.

use std::{path::PathBuf, sync::OnceLock};

use bytes::Bytes;
use jiff::Timestamp;

use gridwatch_camera::{
    Backend, Codec, Keyframe,
    decode::{CrashLog, DecodeError, DecodeMode, DecodeWorkers, Decoder},
};
use gridwatch_engine::CameraId;

/// Set to 1, it has the daemon decode in its own process: for measurements, and for a driver that does not work in a confined one.
const IN_PROCESS: &str = "GRIDWATCH_DECODE_IN_PROCESS";

static WORKER_PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the program that runs decode workers, which has the command `decode-worker`. Programs that decode call it first; without it,
/// as in tests, decoders run in the own process.
pub fn set_worker_program(program: PathBuf) {
    // The first one stays.
    let _ = WORKER_PROGRAM.set(program);
}

/// Where decoders run that share `crashes`.
pub(crate) fn mode(crashes: CrashLog) -> DecodeMode {
    let Some(program) = WORKER_PROGRAM.get() else {
        return DecodeMode::InProcess;
    };
    if std::env::var_os(IN_PROCESS).is_some_and(|value| value == "1") {
        tracing::warn!("{IN_PROCESS} is set: a stream that crashes a decoder ends the daemon");
        return DecodeMode::InProcess;
    }
    DecodeMode::Workers(DecodeWorkers::new(program.clone(), crashes))
}

/// A decoder that works.
pub(crate) struct WorkingDecoder {
    /// The GStreamer element.
    pub(crate) element: String,
    /// Width and height of the test picture.
    pub(crate) size: (u32, u32),
}

/// Decodes a test keyframe of each codec with the decoder that the daemon uses.
pub(crate) fn test(backend: Backend, mode: &DecodeMode) -> [(Codec, Result<WorkingDecoder, DecodeError>); 2] {
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
        let decoded = Decoder::with_mode("check", backend, mode).and_then(|mut decoder| {
            let frame = decoder.decode(&keyframe)?;
            Ok(WorkingDecoder {
                element: decoder.element(codec).unwrap_or_default().to_owned(),
                size: (frame.width, frame.height),
            })
        });
        (codec, decoded)
    })
}
