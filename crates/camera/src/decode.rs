//! Decodes single keyframes: one keyframe in, one frame out.
//!
//! Native decoders parse what cameras send, so the daemon runs them in decode workers: confined processes of the same program, one for each
//! [`Decoder`], which live as long as it. A worker that ends or hangs costs one look and is replaced (`worker`). [`DecodeMode::InProcess`], for tests, decodes in
//! this process (`pipeline`). Two more kinds of worker decode every picture of a stream (`stream`) and read a source with GStreamer (`source`).
//!
//! Before a decoder sees a keyframe, damage that needs no decoder to be seen (`corruption`, [`SliceCheck`]), formats that cannot be judged ([`mod@format`]) and pictures that ended a worker
//! before ([`CrashLog`]) are refused.

mod cage;
mod child;
mod crashes;
#[cfg(debug_assertions)]
mod faults;
pub(crate) mod pipeline;
mod process;
pub(crate) mod protocol;
mod shared_memory;
mod source;
mod source_cage;
pub(crate) mod stream;
pub(crate) mod worker;

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;

pub(crate) use self::source::SourceWorker;
pub use self::{
    child::{exit as exit_worker, run as run_worker},
    crashes::{CrashLog, CrashReport, KeepCrash},
};
use self::{pipeline::PipelineDecoder, process::Template, worker::WorkerDecoder};
use super::{Codec, Keyframe, corruption};
use crate::Backend;
use gridwatch_base::error::Class;
use gridwatch_bitstream::{Finding, SliceCheck, format};
use gridwatch_engine::CameraId;
use gridwatch_frame::Frame;

/// Longest time for one keyframe. A 4K keyframe takes a tenth of this on the slowest supported box; a decoder that needs
/// longer hangs.
const DECODE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a keyframe could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The keyframe is incomplete or corrupt.
    #[error("{camera}: damaged keyframe: {what}")]
    Damaged {
        /// The camera.
        camera: CameraId,
        /// The fault.
        what: String,
    },
    /// The camera's format cannot be judged.
    #[error("{camera}: unsupported format: {format}; set the camera to 8 bit")]
    Unsupported {
        /// The camera.
        camera: CameraId,
        /// The format, such as `10-bit H.265 (Main 10)`.
        format: String,
    },
    /// The decoder hung. It is replaced at the next keyframe.
    #[error("{camera}: decoder {element} gave no output for {DECODE_TIMEOUT:?}; restarting it")]
    Timeout {
        /// The camera that sent the keyframe.
        camera: CameraId,
        /// The GStreamer element.
        element: String,
    },
    /// The keyframe ended the decode worker, or made it hang. The worker is replaced at the next keyframe, and this one is not decoded again.
    #[error("{camera}: keyframe ended the decode worker ({cause}); it is not decoded again")]
    Crashed {
        /// The camera that sent the keyframe.
        camera: CameraId,
        /// How the worker ended.
        cause: String,
        /// Until when the camera is set aside, if this was one time too many.
        set_aside_until: Option<Timestamp>,
    },
    /// The same keyframe ended a decode worker before.
    #[error("{camera}: not decoded, because the same keyframe ended a decode worker before (SHA-256 {sha256})")]
    Known {
        /// The camera that sent it now.
        camera: CameraId,
        /// SHA-256 of its data.
        sha256: String,
    },
    /// The camera's keyframes ended several workers within an hour.
    #[error("{camera}: set aside until {until}, because its keyframes ended three decode workers within an hour")]
    SetAside {
        /// The camera.
        camera: CameraId,
        /// When its keyframes are decoded again.
        until: Timestamp,
    },
    /// No worker could be started, or it ended for a reason that no keyframe explains. It is tried again soon.
    #[error("decode worker: {0}")]
    NoWorker(String),
    /// No decoder of the configured kind works.
    #[error("no working {backend:?} decoder for {codec:?} on this box (tried: {tried}); {hint}")]
    NoDecoder {
        /// The codec of the keyframe.
        codec: Codec,
        /// The configured backend.
        backend: Backend,
        /// GStreamer elements that failed.
        tried: String,
        /// The remedy.
        hint: &'static str,
    },
    /// A GStreamer failure that no keyframe explains.
    #[error("GStreamer: {0}")]
    Broken(String),
}

impl DecodeError {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            // The same keyframe would end the next worker.
            Self::Damaged { .. }
            | Self::Unsupported { .. }
            | Self::Crashed { .. }
            | Self::Known { .. }
            | Self::SetAside { .. } => Class::Data,
            Self::Timeout { .. } | Self::NoWorker(_) => Class::Transient,
            Self::NoDecoder { .. } => Class::Config,
            Self::Broken(_) => Class::Bug,
        }
    }
}

/// Where decoders run.
#[derive(Debug, Clone)]
pub enum DecodeMode {
    /// In this process. A keyframe that crashes the decoder ends it.
    InProcess,
    /// In confined processes.
    Workers(DecodeWorkers),
}

/// How decode workers are started, and what ended earlier ones. Shared by all decoders of a process.
#[derive(Debug, Clone)]
pub struct DecodeWorkers {
    program: PathBuf,
    crashes: Arc<CrashLog>,
    template: Arc<Template>,
}

impl DecodeWorkers {
    /// Workers of `program`, which runs [`run_worker`] if its arguments are `decode-worker KIND NAME BACKEND`. `crashes` knows what ended earlier ones.
    pub fn new(program: PathBuf, crashes: CrashLog) -> Self {
        Self {
            program,
            crashes: Arc::new(crashes),
            template: Arc::default(),
        }
    }
}

/// What a worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerKind {
    /// Decodes keyframes of any camera.
    Keyframes,
    /// Decodes every access unit of one stream.
    Stream,
    /// Reads one source with GStreamer.
    Source,
    /// Forks the first two kinds.
    Template,
}

impl WorkerKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Keyframes => "keyframes",
            Self::Stream => "stream",
            Self::Source => "source",
            Self::Template => "template",
        }
    }
}

impl std::str::FromStr for WorkerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Keyframes, Self::Stream, Self::Source, Self::Template]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("unknown kind of worker {text:?}"))
    }
}

/// Decodes keyframes of any camera for one look worker.
pub struct Decoder {
    check: SliceCheck,
    runs: Runs,
}

enum Runs {
    InProcess(PipelineDecoder),
    Worker(WorkerDecoder),
}

impl Decoder {
    /// A decoder in this process. Its threads are named after `name`, at most 11 bytes long (`decode0`).
    ///
    /// # Errors
    /// [`DecodeError::Broken`] if GStreamer cannot be initialised.
    pub fn new(name: &str, backend: Backend) -> Result<Self, DecodeError> {
        Self::with_mode(name, backend, &DecodeMode::InProcess)
    }

    /// A decoder that runs where `mode` says. A worker starts with the first keyframe.
    ///
    /// # Errors
    /// [`DecodeError::Broken`] if GStreamer cannot be initialised.
    pub fn with_mode(name: &str, backend: Backend, mode: &DecodeMode) -> Result<Self, DecodeError> {
        let runs = match mode {
            DecodeMode::InProcess => Runs::InProcess(PipelineDecoder::new(name, backend, DECODE_TIMEOUT)?),
            DecodeMode::Workers(workers) => Runs::Worker(WorkerDecoder::new(
                WorkerKind::Keyframes,
                name,
                backend,
                workers.clone(),
            )),
        };
        Ok(Self {
            check: SliceCheck::default(),
            runs,
        })
    }

    /// The GStreamer element in use for `codec`; `None` before its first keyframe.
    pub fn element(&self, codec: Codec) -> Option<&str> {
        match &self.runs {
            Runs::InProcess(decoder) => decoder.element(codec),
            Runs::Worker(decoder) => decoder.element(codec),
        }
    }

    /// Decodes `keyframe`. Blocks while decoding, for a few seconds at most.
    ///
    /// # Errors
    /// [`DecodeError`]. The decoder remains usable after every error.
    pub fn decode(&mut self, keyframe: &Keyframe) -> Result<Frame, DecodeError> {
        if let Some(what) = corruption::find_corruption(&keyframe.data) {
            return Err(DecodeError::Damaged {
                camera: keyframe.camera.clone(),
                what: what.to_owned(),
            });
        }
        if let Some(format) = format::deeper_than_8_bits(keyframe.codec, &keyframe.data) {
            return Err(DecodeError::Unsupported {
                camera: keyframe.camera.clone(),
                format,
            });
        }
        match self.check.check(keyframe.codec, &keyframe.data) {
            Finding::Damaged(damage) => {
                return Err(DecodeError::Damaged {
                    camera: keyframe.camera.clone(),
                    what: damage.to_string(),
                });
            }
            Finding::Unknown(why) => tracing::debug!(camera = %keyframe.camera, "Slices not checked: {why}"),
            Finding::Intact => {}
        }
        match &mut self.runs {
            Runs::InProcess(decoder) => decoder.decode(keyframe),
            Runs::Worker(decoder) => decoder.decode(keyframe),
        }
    }
}
