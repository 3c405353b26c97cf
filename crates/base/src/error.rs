//! What an error means for whoever meets it. Each room has its own error type; each answers [`Class`].

/// What to do about an error. It decides retry, quarantine or exit, and the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// What was typed is wrong: say where, and stop. Exit code 3.
    Config,
    /// Something outside is away: try again. Exit code 4.
    Transient,
    /// Data that cannot be right: quarantine it and go on. Exit code 5.
    Data,
    /// Our own fault. Exit code 70.
    Bug,
}

impl Class {
    /// The process's exit code for an error that ends a command (0 success, 1 a check that found faults, 2 usage).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Config => 3,
            Self::Transient => 4,
            Self::Data => 5,
            Self::Bug => 70,
        }
    }
}
