//! The command line: one file a command. Each parses what was typed, calls the library, and says how it went by its
//! exit code: 0 done, 1 a check found faults, 2 usage, 3 configuration, 4 something outside is away, 5 bad data, 70 our
//! own fault.

#[cfg(feature = "ort")]
pub mod detect;
