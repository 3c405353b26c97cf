//! The MQTT link against a real mosquitto and a scripted broker.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/broker.rs"]
mod broker;
#[path = "../support/filing.rs"]
mod filing;
#[path = "../support/platform.rs"]
mod platform;
#[path = "../support/scripted_broker.rs"]
mod scripted_broker;

/// Declares each test function, which takes a `Protocol`, as a test for MQTT 5 (`v5::NAME`) and for MQTT 3.1.1
/// (`v311::NAME`).
macro_rules! for_both_protocols {
    ($($test:ident),+ $(,)?) => {
        mod v5 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(gridwatch_mqtt::Protocol::V5).await;
            })+
        }

        mod v311 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(gridwatch_mqtt::Protocol::V311).await;
            })+
        }
    };
}

mod acknowledgements;
mod client;
mod delivery;
mod duplicate;
mod probe;
mod receipts;
mod rejections;
mod replies;
mod secured;
mod settings;
mod sites;
mod status;
mod template;
mod unsuitable;

use gridwatch_link::{IncomingReply, LinkHandle, Settings};
use gridwatch_mqtt::Protocol;
use gridwatch_store::Store;
use tokio::sync::mpsc::Receiver;

use crate::{
    broker::{Broker, within},
    filing::{NODE, at, form, revision},
};

fn settings(port: u16, protocol: Protocol) -> Settings {
    Settings {
        protocol,
        ..filing::settings(port)
    }
}

/// Starts a link on `store`, and returns the replies that it receives.
fn link(port: u16, protocol: Protocol, store: &Store) -> (LinkHandle, Receiver<IncomingReply>) {
    filing::link_with(settings(port, protocol), store)
}

async fn connected(link: &LinkHandle) {
    within(link.state().wait_for(|s| s.connected)).await.unwrap();
}

async fn disconnected(link: &LinkHandle) {
    within(link.state().wait_for(|s| !s.connected)).await.unwrap();
}

/// Commits a reply, as the daemon does.
fn commit(store: &mut Store, incoming: IncomingReply) {
    let decided = revision(incoming.reply.case.as_str(), incoming.reply.state, 5000, "已派单");
    store
        .apply_reply(&incoming.message, at(5000), Some(&decided), &form())
        .unwrap();
    incoming.committed.send(()).unwrap();
}

/// A connection as mosquitto logs it: protocol and clean-session flag.
fn logged_as(protocol: Protocol, is_clean: bool) -> String {
    let version = match protocol {
        Protocol::V5 => 5,
        Protocol::V311 => 2,
    };
    format!("p{version}, c{}", u8::from(is_clean))
}

/// The connections of `client_id` that mosquitto logged, in the form of [`logged_as`].
fn connections_of(broker: &Broker, client_id: &str) -> Vec<String> {
    let log = broker.log();
    let lines = log.lines().filter(|l| l.contains("New client connected"));
    let flags = lines.filter_map(|l| l.split_once(&format!(" as {client_id} ("))?.1.split_once(", k"));
    flags.map(|(flags, _)| flags.to_owned()).collect()
}

fn client_id() -> String {
    format!("gridwatch-{NODE}")
}
