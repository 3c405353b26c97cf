//! gridwatch: watches street cameras, files one case per problem, place and grid cell, and verifies whether it was cleared.
//!
//! This crate is the daemon and the command line; the work is done by the crates under `crates/`, in the direction of the data:
//! `gridwatch_camera` receives and decodes, `gridwatch_vision` decides whether a view can be trusted, `gridwatch_model` detects,
//! `gridwatch_engine` decides, `gridwatch_evidence` makes the pictures, `gridwatch_store` keeps what must not be lost, and
//! `gridwatch_link` delivers it to the platform. `gridwatch_ledger` records the engine's inputs and replays them. `daemon`
//! (features `gst` and `ort`) owns the threads. See `docs/architecture.md`.

pub mod camera;
pub mod cli;
pub mod clock;
pub mod config;
pub mod custody;
#[cfg(all(feature = "gst", feature = "ort"))]
pub mod daemon;
pub mod digest;
pub mod disk;
pub mod document;
pub mod engine;
pub mod error;
pub mod eval;
pub mod evidence;
#[cfg(feature = "farm")]
pub mod farm;
pub mod frame;
pub mod ledger;
pub mod link;
pub mod model;
pub mod reading;
pub mod replay;
pub mod secret;
pub mod simulate;
pub mod store;
pub mod telemetry;
pub mod views;
pub mod vision;
