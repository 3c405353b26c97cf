//! The pure core: what was seen goes in, what to do comes out.
//!
//! No clock, no files, no network, no threads, no environment, no hash-order iteration (clippy.toml holds the bans, this
//! module turns them on): [`Engine::apply`] on the same inputs gives the same effects, byte for byte. Live and replay run
//! this code.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod geometry;
pub mod grid;
pub mod types;

pub use types::*;
