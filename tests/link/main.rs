//! The MQTT session against a real broker and a scripted one.

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
mod sites;
mod template;
mod v311;
