//! From a decoded picture to the things in it.
//!
//! A model is a folder: `model.onnx`, `model.toml` (the [`Manifest`]) and `CARD.md`. [`Model`] is what such a folder
//! holds, checked against its sha256; with the feature `ort` a `ModelSet` looks with any number of them. [`preprocess`] turns the decoder's YUV planes straight into
//! the input tensor and [`adapter`] the output tensors into boxes.
//!
//! What a detection means is the engine's matter: nothing here knows of rules, zones or cases.

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
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::manifest::Manifest;
use self::{adapter::LayoutError, manifest::Provider};
#[cfg(feature = "ort")]
pub use self::{
    model_set::{FrameInput, LoadedModel, ModelSet},
    ocr::reader::{Reader, Reading, Text},
    runtime::Runtime,
    tiled::TiledDetector,
};
use gridwatch_base::{digest::sha256_hex, document::Faults, error::Class};
use gridwatch_frame::FrameError;

/// How a box runs networks. What is unset is for each model's manifest to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What to run on, the first that the box has. Without [`Provider::Cpu`] a box that has none of them refuses to run.
    pub providers: Option<Vec<Provider>>,
    /// Threads of one session, 1 or more.
    pub threads: Option<u16>,
}

/// A model's folder, read and verified. Cheap to clone.
#[derive(Clone)]
pub struct Model {
    manifest: Arc<Manifest>,
    file: Arc<Path>,
    #[cfg_attr(not(feature = "ort"), expect(dead_code, reason = "only a session reads the weights"))]
    bytes: Arc<[u8]>,
}

impl Model {
    /// Reads `model.toml` and `model.onnx` in `dir`, and checks the second against the first's sha256.
    ///
    /// # Errors
    /// A file that cannot be read, every fault of the manifest at once, or other weights than the manifest describes.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let read = |name| {
            let path = dir.join(name);
            match fs::read(&path) {
                Ok(bytes) => Ok((path, bytes)),
                Err(source) => Err(ModelError::Read { path, source }),
            }
        };
        let (toml, text) = read("model.toml")?;
        let manifest = Manifest::parse(&toml, text)?;
        let (file, bytes) = read("model.onnx")?;
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

    /// A file of the folder.
    #[cfg(feature = "ort")]
    fn beside(&self, file: &Path) -> PathBuf {
        self.file.with_file_name("").join(file)
    }

    /// What the folder says about itself.
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

/// What can go wrong between a model's folder and its detections.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file of the folder cannot be read.
    #[error("{}: {source}: a model's folder holds model.onnx, model.toml and CARD.md", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest says something impossible. Every fault is listed.
    #[error(transparent)]
    Manifest(#[from] Faults),
    /// The weights are not those that the manifest describes.
    #[error(
        "{}: its sha256 is {found}, but {} says {expected}: copy the file again, or, if it was exchanged on purpose, \
         write its sum and a new version there",
        .file.display(), .toml.display()
    )]
    Sha256 {
        /// The weights.
        file: PathBuf,
        /// Their sum.
        found: String,
        /// The manifest.
        toml: PathBuf,
        /// The sum it states.
        expected: String,
    },
    /// ONNX Runtime's shared library cannot be used.
    #[cfg(feature = "ort")]
    #[error(transparent)]
    Library(#[from] runtime::LibraryError),
    /// ONNX Runtime refuses the file.
    #[error("{}: ONNX Runtime cannot load it: {message}", .file.display())]
    Session {
        /// The weights.
        file: PathBuf,
        /// What ONNX Runtime says.
        message: String,
    },
    /// Nothing that the model may run on is there.
    #[error(
        "model {model}: {reasons}: name \"cpu\" last among the providers, or mend what is missing (a library of ONNX Runtime \
         built for it, its driver)"
    )]
    Provider {
        /// The manifest's id.
        model: String,
        /// Why each is not.
        reasons: String,
    },
    /// A reader needs two models, one that finds lines of text and one that spells them.
    #[error("model {model}: its adapter is {found}, and here a model with {needed} is needed: name the other one")]
    NotForReading {
        /// The manifest's id.
        model: String,
        /// Its adapter.
        found: manifest::Adapter,
        /// The adapter that is needed.
        needed: manifest::Adapter,
    },
    /// The characters are not those of the network.
    #[error("{}: {source}", .file.display())]
    Alphabet {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        source: crate::ocr::spell::AlphabetError,
    },
    /// The network's inputs or outputs are not those of the manifest's adapter.
    #[error("model {model}: {source}")]
    Layout {
        /// The manifest's id.
        model: String,
        /// What was expected and what is there.
        source: LayoutError,
    },
    /// ONNX Runtime failed at a look.
    #[error("model {model}: ONNX Runtime failed: {message}")]
    Run {
        /// The manifest's id.
        model: String,
        /// What ONNX Runtime says.
        message: String,
    },
    /// The picture cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl ModelError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Read { .. }
            | Self::Manifest(_)
            | Self::Sha256 { .. }
            | Self::Session { .. }
            | Self::Provider { .. }
            | Self::NotForReading { .. }
            | Self::Alphabet { .. } => Class::Config,
            #[cfg(feature = "ort")]
            Self::Library(e) => e.class(),
            Self::Layout { source, .. } => source.class(),
            Self::Run { .. } => Class::Bug,
            Self::Frame(e) => e.class(),
        }
    }
}
