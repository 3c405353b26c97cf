//! What can fail, and what to do about it.

use gridwatch_base::error::Class;

/// Why the hub, or a command of it, failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The database cannot be reached or used, or refused a statement.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// The database cannot be reached when a program starts.
    #[error(
        "database {url}: {reason}; check that the server runs, the address, and the login (PGPASSWORD or ~/.pgpass for PostgreSQL)"
    )]
    Unreachable {
        /// Its address, without a password.
        url: String,
        /// The driver's reason.
        reason: String,
    },
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
            // What was to be stored cannot be, now or later.
            Self::Database(sqlx::Error::Database(error)) if is_about_data(error.code().as_deref()) => Class::Data,
            Self::Database(_) | Self::Unreachable { .. } | Self::Pictures(_) | Self::Io { .. } => Class::Transient,
            Self::Migration(_) | Self::Broker(_) | Self::Input(_) | Self::Conflict(_) | Self::NotFound(_) => {
                Class::Config
            }
            Self::Damaged { .. } => Class::Data,
        }
    }
}

/// Whether an SQLSTATE says that a value is the cause: data exception, integrity constraint, or a limit of the program (PostgreSQL, appendix A).
/// SQLite's codes are plain numbers.
fn is_about_data(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.len() == 5 && ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_a_database_refuses_are_not_tried_again() {
        // A character that it cannot store, a key that is too long, a row that is there; not: a deadlock, a shutdown, SQLite's "busy".
        for (code, is_data) in [
            ("22021", true),
            ("54000", true),
            ("23505", true),
            ("40P01", false),
            ("57P01", false),
            ("5", false),
        ] {
            assert_eq!(is_about_data(Some(code)), is_data, "{code}");
        }
        assert!(!is_about_data(None));
    }
}
