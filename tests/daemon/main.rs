//! The whole daemon with real streams and a real broker.
#![cfg(all(feature = "gst", feature = "ort", feature = "opencv"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/broker.rs"]
mod broker;
#[path = "../support/daemon.rs"]
mod daemon;
#[path = "../support/packages.rs"]
mod packages;
#[path = "../support/softhsm.rs"]
mod softhsm;

mod console;
mod decode_workers;
mod kill_9;
mod looks_again;
mod lost_database;
mod model_swap;
mod moved_camera;
mod readiness;
mod reload;
mod restart;
mod sites;
mod small_ads;
mod start;
mod token;
mod tour;
