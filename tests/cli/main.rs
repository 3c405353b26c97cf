//! Tests of the commands, most of them run as a process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/broker.rs"]
mod broker;
#[cfg(feature = "gst")]
#[path = "../support/clips.rs"]
#[allow(unreachable_pub, reason = "other tests have it in a public module")]
mod clips;
#[cfg(all(feature = "gst", feature = "ort"))]
#[path = "../support/daemon.rs"]
mod daemon;
#[path = "../../crates/engine/tests/engine_support/mod.rs"]
mod engine_support;
#[path = "../support/filing.rs"]
mod filing;
#[path = "../support/ledger/mod.rs"]
mod ledger_support;
#[cfg(feature = "gst")]
#[path = "../../crates/onvif/tests/onvif/support/mod.rs"]
mod onvif_device;
#[path = "../support/packages.rs"]
mod packages;
#[path = "../support/softhsm.rs"]
mod softhsm;

mod audit;
mod boxes;
mod calibrate;
#[cfg(feature = "gst")]
mod camera_probe;
mod cases;
mod check_duplicate;
mod check_faulty_settings;
mod config_check;
mod config_versions;
#[cfg(feature = "gst")]
mod crashes;
mod detect;
mod eval;
mod evidence_bundle;
mod evidence_chain;
mod evidence_hostile;
mod evidence_mask;
mod first_hour;
mod hostile_files;
mod ledger_export;
mod ledger_places;
mod ledger_questions;
mod model_inspect;
mod moved;
mod ocr;
mod originals_key;
mod outbox;
mod read_only;
mod reference;
mod replay;
mod runtime_library;
mod signs;
mod store_commands;
mod store_retention;
mod support_bundle;
mod take_over;
mod token;
mod tune;
mod unit;
mod users;
mod view;
