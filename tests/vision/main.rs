//! View health and moved cameras.
#![cfg(feature = "opencv")]

#[path = "../support/vision.rs"]
mod vision_support;

mod health;
mod moved;
mod tour;
