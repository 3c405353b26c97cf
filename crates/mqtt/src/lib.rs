//! An MQTT client that is the same for MQTT 5 and MQTT 3.1.1: connections with TLS, publishes with their outcome, manual
//! acknowledgements, and why a connection ended.
//!
//! [`connect`] opens one connection. It does not reconnect, and keeps no message that was not acknowledged: both are for the
//! caller to decide. `v5` and `v311` adapt two client crates of one family; `adapter` is what they share. They translate and
//! make no decisions.
//!
//! The crate knows no topics and no program. What messages for operators call the settings, and the program itself, is given
//! as [`Wording`].
//!
//! # Example
//! A receiver that acknowledges each message once it is stored:
//! ```no_run
//! # use std::time::Duration;
//! use gridwatch_mqtt::{
//!     ConnectOptions, Disconnect, Event, Protocol, RetainHandling, SessionMode, Wording, connect, pump,
//! };
//!
//! async fn receive(wording: &'static Wording) -> Disconnect {
//!     let options = ConnectOptions {
//!         host: "broker.example".into(),
//!         port: 1883,
//!         protocol: Protocol::V5,
//!         tls: None, // or Some(TlsClientConfig::load(&tls, wording)?)
//!         login: None,
//!         client_id: "hub-1".into(),
//!         keep_alive: Duration::from_secs(30),
//!         session: SessionMode::Persistent { expiry: Duration::from_hours(168) },
//!         will: None,
//!         max_unacknowledged: 16,
//!         receive_maximum: 20,
//!         max_incoming: 16 << 20,
//!         wording,
//!     };
//!     let (client, event_loop) = connect(&options);
//!     let (sender, mut events) = tokio::sync::mpsc::channel(8);
//!     let pump = tokio::spawn(pump(event_loop, sender));
//!     let ended = loop {
//!         match events.recv().await {
//!             Some(Event::Connected(_)) => {
//!                 let filters = vec!["$share/hub/gridwatch/v1/+/case".to_owned()];
//!                 // The outcome comes while the event loop is polled: do not await it before the next event.
//!                 match client.subscribe(filters, RetainHandling::SkipRetained) {
//!                     Ok(outcome) => drop(tokio::spawn(async move {
//!                         println!("{:?}", outcome.await); // SubscribeOutcome::Granted, if all is well
//!                     })),
//!                     Err(error) => println!("{error}"),
//!                 }
//!             }
//!             Some(Event::Message(message)) => {
//!                 println!("{}: {} bytes", message.topic, message.payload.len());
//!                 // Once the message is stored.
//!                 message.ack.ack();
//!             }
//!             Some(Event::Disconnected(disconnect)) => break disconnect,
//!             None => break Disconnect::without_reason(),
//!         }
//!     };
//!     pump.abort();
//!     ended
//! }
//! ```

mod adapter;
mod client;
mod disconnect;
mod message;
mod options;
mod stream;
mod tls;
mod trust;
mod v311;
mod v5;

use tokio::sync::mpsc;

pub use self::{
    client::{
        BrokerLimits, Client, ConnAck, EnqueueError, Event, EventLoop, PublishOutcome, RetainHandling, SubscribeOutcome,
    },
    disconnect::{BrokerFeature, Disconnect, DisconnectCause},
    message::{AckHandle, InboundMessage, OutboundMessage, Qos},
    options::{CONNECT_TIMEOUT, ConnectOptions, Protocol, SessionMode, Wording},
    tls::{ServerTrust, Tls, TlsClientConfig, TlsError},
};

/// Opens a connection. It moves only while its event loop is polled; [`pump`] does that.
pub fn connect(options: &ConnectOptions) -> (Box<dyn Client>, Box<dyn EventLoop>) {
    match options.protocol {
        Protocol::V5 => v5::connect(options),
        Protocol::V311 => v311::connect(options),
    }
}

/// Polls the event loop and sends its events to `events`, until the connection ends or the receiver is dropped. To be spawned
/// as a task of its own, so that nothing else delays keep-alives and acknowledgements.
///
/// While `events` is full, the connection stands still, keep-alives included: its receiver must not wait for the broker. It
/// holds up to its capacity of messages, each of up to [`ConnectOptions::max_incoming`] bytes.
///
/// The disconnect event is forwarded before the event loop is dropped, so that the receiver sees the cause before pending
/// publishes resolve as lost.
pub async fn pump(mut event_loop: Box<dyn EventLoop>, events: mpsc::Sender<Event>) {
    loop {
        let event = event_loop.next().await;
        let last = matches!(event, Event::Disconnected(_));
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}
