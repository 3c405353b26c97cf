//! Why the daemon could not start.

use std::{io, path::PathBuf};

use crate::telemetry::TelemetryError;
use gridwatch_base::error::Class;
use gridwatch_camera::decode::DecodeError;
use gridwatch_console::ConsoleError;
use gridwatch_custody::keys::KeyError;
use gridwatch_link as link;
use gridwatch_model as model;
use gridwatch_model::{ModelError, registry::RegistryError};
use gridwatch_store::StoreError;

/// Why the daemon could not start. Once it runs, only a signal ends it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A model cannot be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model registry's folder cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A model does not match the configuration.
    #[error("{0}")]
    ModelMismatch(String),
    /// ONNX Runtime cannot be loaded.
    #[error(transparent)]
    Library(#[from] model::runtime::LibraryError),
    /// No decoder is available.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key that encrypts originals cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The MQTT settings are invalid.
    #[error(transparent)]
    Link(#[from] link::LinkError),
    /// Metrics and health cannot be served.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The console cannot be served.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// The identity of the installation cannot be read or created.
    #[error("{}: cannot read or create the installation's identity: {source}; make the directory writable for this user", .state_dir.display())]
    Installation {
        /// The state directory.
        state_dir: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A thread could not be spawned.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

impl StartError {
    /// The error's class.
    pub fn class(&self) -> Class {
        match self {
            Self::Model(e) => e.class(),
            Self::Registry(e) => e.class(),
            Self::ModelMismatch(_) => Class::Config,
            Self::Library(e) => e.class(),
            Self::Decode(e) => e.class(),
            Self::Store(e) => e.class(),
            Self::Key(e) => e.class(),
            Self::Link(e) => e.class(),
            Self::Telemetry(e) => e.class(),
            Self::Console(e) => e.class(),
            Self::Installation { .. } | Self::Thread(_) => Class::Transient,
        }
    }
}
