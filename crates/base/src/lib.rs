//! Shared foundations: error classes, hashes, files that people name, atomic and private files, the installation's identity, secrets, the person
//! behind a process, clock state, metric names, and TOML documents validated against a schema, with every fault reported at once. Depends on no other
//! crate of the workspace.

pub mod backoff;
pub mod clock;
pub mod digest;
pub mod disk;
pub mod document;
pub mod error;
pub mod file;
pub mod heap;
pub mod installation;
pub mod language;
pub mod log_limit;
pub mod message;
pub mod metric;
pub mod net;
pub mod person;
pub mod secret;
pub mod text;
