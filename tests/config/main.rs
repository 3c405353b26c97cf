//! What the configuration accepts, refuses and says.

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
