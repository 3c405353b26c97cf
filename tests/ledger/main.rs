//! Recording, replay, and evaluation against ground truth.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../crates/engine/tests/engine_support/mod.rs"]
mod engine_support;
#[path = "../support/ledger/mod.rs"]
mod ledger_support;

mod configuration;
mod damage;
mod places;
mod replay;
mod rotation;
mod truth;
