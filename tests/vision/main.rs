//! View health and moved cameras.

#[path = "../support/vision.rs"]
mod vision_support;

mod health;
mod moved;
mod tour;
