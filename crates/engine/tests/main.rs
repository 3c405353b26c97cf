//! The engine, one behaviour per module: each test drives a small street and checks what is filed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_support;

mod advert;
mod blind;
mod calendar;
mod dwell;
mod elsewhere;
mod intake;
mod lifecycle;
mod newness;
mod permits;
mod properties;
mod reasons;
mod recurrence;
mod restart;
mod second_look;
mod sites;
mod small_ads;
mod stored_plan;
mod streets;
mod tour;
mod vendor;
mod verify;
mod withdrawal;
