//! View health, the aim of fixed cameras and the presets of touring cameras.
#![cfg(feature = "opencv")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aim;
mod health;
mod support;
mod tour;
