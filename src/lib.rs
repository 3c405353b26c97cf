//! The box: the daemon that wires the crates together, and the command line.
//!
//! Data goes one way. [`gridwatch_camera`] receives and decodes, [`gridwatch_vision`] decides whether the view can be trusted,
//! [`gridwatch_model`] detects, [`gridwatch_engine`] decides, [`gridwatch_evidence`] makes the pictures, [`gridwatch_store`]
//! keeps what must not be lost and [`gridwatch_link`] carries it to the platform. [`gridwatch_ledger`] records the engine's
//! input and replays it. `daemon` (features `gst` and `ort`) owns the tasks. See `docs/architecture.md`.

pub mod cli;
#[cfg(all(feature = "gst", feature = "ort"))]
pub mod daemon;
pub mod telemetry;

mod broker;
