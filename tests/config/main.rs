//! What the configuration accepts and rejects, and with which messages.

#[path = "../support/config.rs"]
mod config_support;

mod calendar;
mod calendar_faults;
mod example;
mod faults;
mod places;
mod presets;
mod reading;
mod second_look;
