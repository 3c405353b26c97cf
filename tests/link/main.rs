//! The MQTT session against a real broker and a scripted one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/broker.rs"]
mod broker;
#[path = "../support/filing.rs"]
mod filing;
#[path = "../support/platform.rs"]
mod platform;
#[path = "../support/scripted_broker.rs"]
mod scripted;

mod broker_answers;
mod delivery;
mod replies;
mod secured;
mod settings;
mod sites;
mod template;
mod v311;
