//! gridwatch: looks at street cameras, files one case per problem, place and grid cell, and looks again.
//!
//! Data goes one way: [`camera`] receives and decodes, [`vision`] says whether the view can be trusted, [`model`] finds
//! things, [`engine`] decides, [`evidence`] makes the pictures, [`store`] keeps what must not be lost and [`link`] carries
//! it to the platform. [`ledger`] records what the engine was told, and [`replay`] tells it again; [`simulate`] makes such a
//! record of a town whose truth is known. `daemon`, which needs the features `gst` and `ort`, owns the tasks and wires the
//! rooms; no room calls another sideways, and `engine` imports none of them. See `docs/architecture.md`.

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
