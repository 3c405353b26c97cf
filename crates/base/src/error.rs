//! Error classes. Each module has its own error type, and each of those maps to a [`Class`].

/// How an error is handled: retry, quarantine or exit, and with which exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wrong input or configuration: report where, and stop. Exit code 3.
    Config,
    /// Something outside the process is unavailable: retry. Exit code 4.
    Transient,
    /// Invalid data: quarantine it and continue. Exit code 5.
    Data,
    /// A bug in gridwatch. Exit code 70.
    Bug,
}

impl Class {
    /// Exit code of a command that ends with this error. Other codes: 0 success, 1 a check found faults, 2 usage error.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Config => 3,
            Self::Transient => 4,
            Self::Data => 5,
            Self::Bug => 70,
        }
    }
}
