//! What can fail, and what to do about it.

use gridwatch_base::error::Class;

/// Why the hub, or a command of it, failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The database cannot be reached or used, or refused a statement.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The tables cannot be brought to this version's form.
    #[error("database: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The place of the pictures cannot be reached or used.
    #[error("pictures: {0}")]
    Pictures(#[from] object_store::Error),
    /// The broker cannot be used with these settings.
    #[error("broker: {0}")]
    Broker(String),
    /// Something that a person gave is wrong; the message names it and what to do.
    #[error("{0}")]
    Input(String),
    /// What was asked for contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// A row holds what this version cannot read.
    #[error("database: {what} is damaged: {reason}")]
    Damaged {
        /// The row.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl HubError {
    /// The class that decides between retry and exit.
    pub fn class(&self) -> Class {
        match self {
            Self::Database(_) | Self::Pictures(_) | Self::Io { .. } => Class::Transient,
            Self::Migration(_) | Self::Broker(_) | Self::Input(_) | Self::Conflict(_) | Self::NotFound(_) => {
                Class::Config
            }
            Self::Damaged { .. } => Class::Data,
        }
    }
}
