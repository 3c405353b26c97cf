//! What the configuration accepts and rejects, and with which messages.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/config.rs"]
mod config_support;

mod calendar;
mod calendar_faults;
mod change;
mod claims;
mod credentials;
mod example;
mod faults;
mod files;
mod newness;
mod places;
mod presets;
mod reading;
mod registry;
mod second_look;
