//! The box: the daemon that wires the crates together, and the command line.
//!
//! Data flows one way. [`gridwatch_camera`] receives and decodes, [`gridwatch_vision`] decides whether a view can be trusted,
//! [`gridwatch_model`] detects, [`gridwatch_engine`] decides, [`gridwatch_evidence`] makes the pictures, [`gridwatch_store`]
//! keeps what must not be lost, and [`gridwatch_link`] delivers it to the platform. [`gridwatch_ledger`] records the engine's
//! inputs and replays them. `daemon` (features `gst` and `ort`) owns the threads. See `docs/architecture.md`.

pub mod cli;
#[cfg(all(feature = "gst", feature = "ort"))]
pub mod daemon;
pub mod telemetry;

mod audit;
mod broker;
#[cfg(feature = "gst")]
mod crashes;
#[cfg(feature = "gst")]
pub mod decoders;
mod first_picture;
mod open_files;
mod receiver;
