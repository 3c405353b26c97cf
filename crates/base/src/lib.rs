//! What every other crate stands on: error classes, hashes, private files, secrets, the clock, metric names and typed
//! documents that report all their faults. It depends on no other crate of the workspace.

pub mod backoff;
pub mod clock;
pub mod digest;
pub mod disk;
pub mod document;
pub mod error;
pub mod metric;
pub mod secret;
