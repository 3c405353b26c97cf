//! View health, the aim of fixed cameras and the presets of touring cameras.
#![cfg(feature = "opencv")]

#[path = "../support/vision.rs"]
mod vision_support;

mod aim;
mod health;
mod tour;
