//! ONNX models: from a decoded frame to detections.
//!
//! A model is a folder that holds `model.onnx`, `model.toml` (the [`Manifest`]) and `CARD.md`. [`Model::load`] reads it and checks
//! the weights against the manifest's SHA-256. With the feature `ort`, a `ModelSet` runs any number of models on a frame:
//! [`preprocess`] resamples the decoder's YUV planes directly into the input tensor, and [`adapter`] decodes the output tensors
//! into boxes. [`registry`] installs and activates model versions on a running box, [`ocr`] reads phone numbers, and [`eval`]
//! measures accuracy on labelled pictures.
//!
//! This crate knows nothing of rules, zones or cases: the engine interprets detections.

pub mod adapter;
#[cfg(feature = "ort")]
mod detector;
#[cfg(feature = "ort")]
pub mod draft;
pub mod eval;
pub mod graph;
pub mod manifest;
pub mod model_diff;
#[cfg(feature = "ort")]
mod model_set;
#[cfg(feature = "ort")]
mod network;
#[cfg_attr(
    not(any(feature = "ort", test)),
    allow(dead_code, reason = "without a reader, only the words of adverts are used")
)]
pub mod ocr;
pub mod preprocess;
pub mod registry;
#[cfg(feature = "ort")]
pub mod runtime;
#[cfg(feature = "ort")]
pub mod second_look;
#[cfg(feature = "ort")]
pub mod selftest;
#[cfg(feature = "ort")]
mod tiled;
pub mod trial;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::manifest::Manifest;
use self::{adapter::LayoutError, manifest::Provider};
#[cfg(feature = "ort")]
pub use self::{
    model_set::{FrameInput, LoadedModel, ModelSet},
    runtime::Runtime,
    tiled::TiledDetector,
};
use gridwatch_base::{digest::sha256_hex, document::Faults, error::Class, file};
use gridwatch_frame::FrameError;

/// Inference options of a box. Unset options are taken from each model's manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Execution providers in order of preference. Without [`Provider::Cpu`] in the list, loading fails if none is available.
    pub providers: Option<Vec<Provider>>,
    /// Intra-op threads per session, at least 1.
    pub threads: Option<u16>,
}

/// A model folder, read and verified. Cheap to clone.
#[derive(Clone)]
pub struct Model {
    manifest: Arc<Manifest>,
    file: Arc<Path>,
    #[cfg_attr(not(feature = "ort"), expect(dead_code, reason = "only a session reads the weights"))]
    bytes: Arc<[u8]>,
}

impl Model {
    /// Reads `model.toml` and `model.onnx` in `dir` and checks the weights against the manifest's SHA-256.
    ///
    /// # Errors
    /// An unreadable file, an invalid manifest (every fault is listed), or a checksum mismatch.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let read = |name, limit| {
            let path = dir.join(name);
            match file::read(&path, limit) {
                Ok(bytes) => Ok((path, bytes)),
                Err(source) => Err(ModelError::Read { path, source }),
            }
        };
        let (toml, text) = read("model.toml", file::MAX_TEXT)?;
        let manifest = Manifest::parse(&toml, text)?;
        let (file, bytes) = read("model.onnx", file::MAX_MODEL)?;
        let found = sha256_hex(&bytes);
        if found != manifest.sha256 {
            return Err(ModelError::Sha256 {
                file,
                found,
                toml,
                expected: manifest.sha256,
            });
        }
        Ok(Self {
            manifest: Arc::new(manifest),
            file: file.into(),
            bytes: bytes.into(),
        })
    }

    /// Path of a file in the model folder.
    #[cfg(feature = "ort")]
    fn path_of(&self, file: &Path) -> PathBuf {
        self.file.with_file_name("").join(file)
    }

    /// The manifest.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Model {} {} from {}",
            self.manifest.id,
            self.manifest.version,
            self.file.display()
        )
    }
}

/// Errors of loading and running a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file of the model folder cannot be read.
    #[error("{}: {source}: a model folder holds model.onnx, model.toml and CARD.md", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The manifest is invalid. Every fault is listed.
    #[error(transparent)]
    Manifest(#[from] Faults),
    /// The checksum of the weights differs from the manifest's.
    #[error(
        "{}: SHA-256 is {found}, but {} says {expected}; copy the file again or, if it was replaced on purpose, \
         update sha256 and version there",
        .file.display(), .toml.display()
    )]
    Sha256 {
        /// The weights.
        file: PathBuf,
        /// SHA-256 of the file.
        found: String,
        /// The manifest.
        toml: PathBuf,
        /// SHA-256 in the manifest.
        expected: String,
    },
    /// ONNX Runtime's shared library is missing or unusable.
    #[cfg(feature = "ort")]
    #[error(transparent)]
    Library(#[from] runtime::LibraryError),
    /// ONNX Runtime cannot load the file.
    #[error("{}: ONNX Runtime cannot load the file: {message}", .file.display())]
    Session {
        /// The weights.
        file: PathBuf,
        /// ONNX Runtime's message.
        message: String,
    },
    /// None of the model's execution providers is available.
    #[error(
        "model {model}: {reasons}; add \"cpu\" as the last of the providers, or install what is missing (an ONNX Runtime \
         build with that provider, its driver)"
    )]
    Provider {
        /// The manifest's id.
        model: String,
        /// Why each provider is unavailable.
        reasons: String,
    },
    /// Text recognition needs a `db` model (detector) and a `ctc` model (recogniser).
    #[error("model {model}: adapter is {found}, but a model with adapter {needed} is needed here")]
    WrongAdapter {
        /// The manifest's id.
        model: String,
        /// The model's adapter.
        found: manifest::Adapter,
        /// The required adapter.
        needed: manifest::Adapter,
    },
    /// The alphabet file does not match the recogniser.
    #[cfg(feature = "ort")]
    #[error("{}: {source}", .file.display())]
    Alphabet {
        /// The alphabet file.
        file: PathBuf,
        /// The fault.
        source: crate::ocr::AlphabetError,
    },
    /// The network's inputs or outputs do not match the manifest.
    #[error("model {model}: {source}")]
    Layout {
        /// The manifest's id.
        model: String,
        /// The mismatch.
        source: LayoutError,
    },
    /// ONNX Runtime failed during inference.
    #[error("model {model}: ONNX Runtime failed: {message}")]
    Run {
        /// The manifest's id.
        model: String,
        /// ONNX Runtime's message.
        message: String,
    },
    /// The frame is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl ModelError {
    /// Error class, which decides between retry, quarantine and exit.
    pub fn class(&self) -> Class {
        match self {
            Self::Read { .. }
            | Self::Manifest(_)
            | Self::Sha256 { .. }
            | Self::Session { .. }
            | Self::Provider { .. }
            | Self::WrongAdapter { .. } => Class::Config,
            #[cfg(feature = "ort")]
            Self::Alphabet { .. } => Class::Config,
            #[cfg(feature = "ort")]
            Self::Library(e) => e.class(),
            Self::Layout { source, .. } => source.class(),
            Self::Run { .. } => Class::Bug,
            Self::Frame(e) => e.class(),
        }
    }
}
