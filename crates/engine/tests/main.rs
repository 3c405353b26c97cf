//! The engine: each module one behaviour, each test a street and what is filed of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_support;

mod advert;
mod blind;
mod calendar;
mod dwell;
mod elsewhere;
mod intake;
mod let_go;
mod lifecycle;
mod permits;
mod properties;
mod reasons;
mod recurrence;
mod restart;
mod second_look;
mod sites;
mod small_ads;
mod streets;
mod tour;
mod vendor;
mod verify;
