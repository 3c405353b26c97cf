//! A connection: requests, their outcomes, and events.

use futures::future::BoxFuture;

use crate::{Disconnect, InboundMessage, OutboundMessage};

/// Sends requests over one connection. Never blocks: a request that cannot be queued is an error.
///
/// The queue has room for [`max_unacknowledged`](crate::ConnectOptions::max_unacknowledged) publishes and
/// [`receive_maximum`](crate::ConnectOptions::receive_maximum) acknowledgements. A client that leaves room for the
/// acknowledgements, by having no more publishes without an outcome, loses none of them.
pub trait Client: Send {
    /// Queues a publish; the future resolves when it is acknowledged (QoS 0: sent) or the connection ends. Dropping the future
    /// does not withdraw the message.
    ///
    /// # Errors
    /// See [`EnqueueError`].
    fn send(&self, message: OutboundMessage) -> Result<BoxFuture<'static, PublishOutcome>, EnqueueError>;

    /// Queues a subscription to `filters` with QoS 1. A filter may have wildcards, and may be shared:
    /// `$share/GROUP/FILTER` gives each message to one member of the group, and no retained ones.
    ///
    /// # Errors
    /// See [`EnqueueError`].
    fn subscribe(
        &self,
        filters: Vec<String>,
        retain: RetainHandling,
    ) -> Result<BoxFuture<'static, SubscribeOutcome>, EnqueueError>;

    /// Queues an unsubscription; its acknowledgement is not awaited.
    ///
    /// # Errors
    /// See [`EnqueueError`].
    fn unsubscribe(&self, filter: String) -> Result<(), EnqueueError>;

    /// Disconnects cleanly, after what is queued: the broker discards the last will. [`Event::Disconnected`] follows.
    fn disconnect(&self);
}

/// Drives one connection. Must be polled continuously: requests, acknowledgements and keep-alives only move while
/// [`EventLoop::next`] is awaited.
pub trait EventLoop: Send {
    /// The next event; not called again after [`Event::Disconnected`].
    fn next(&mut self) -> BoxFuture<'_, Event>;
}

/// An event of a connection.
#[derive(Debug)]
pub enum Event {
    /// The broker accepted the connection.
    Connected(ConnAck),
    /// A PUBLISH from the broker.
    Message(InboundMessage),
    /// The connection ended.
    Disconnected(Disconnect),
}

/// Contents of a CONNACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnAck {
    /// The broker resumed a session, with its subscriptions and queued messages.
    pub session_present: bool,
    /// What the broker supports.
    pub limits: BrokerLimits,
}

/// The limits in a CONNACK. An MQTT 3.1.1 broker announces none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Maximum packet size in bytes, if the broker limits it.
    pub max_packet: Option<u32>,
    /// Messages may be published with QoS 1.
    pub has_qos1: bool,
    /// Messages may be retained.
    pub has_retain: bool,
    /// Subscriptions may be shared.
    pub has_shared_subscriptions: bool,
}

impl BrokerLimits {
    /// Of a broker that announces none.
    pub const UNKNOWN: Self = Self {
        max_packet: None,
        has_qos1: true,
        has_retain: true,
        has_shared_subscriptions: true,
    };
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Acknowledged, and with MQTT 5 matched by at least one subscription, if the broker says so.
    Delivered,
    /// Acknowledged with "no matching subscribers" (0x10): the message is lost.
    NoSubscriber,
    /// Rejected permanently; retrying cannot help.
    Rejected(String),
    /// Rejected temporarily.
    Busy(String),
    /// The connection ended before the acknowledgement.
    Lost,
}

/// Why a request was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// The topic is not a valid MQTT topic name, or the filter not a valid one.
    #[error("invalid topic name or filter")]
    InvalidTopic,
    /// The client's queue is full, or the connection has failed and its disconnect event follows.
    #[error("the request queue is full, or the connection has failed")]
    QueueFull,
}

/// Retain handling of a subscription. MQTT 3.1.1 always sends retained messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainHandling {
    /// Do not send retained messages.
    SkipRetained,
    /// Send retained messages on every subscribe.
    SendRetained,
}

/// The broker's answer to a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscribeOutcome {
    /// All filters were granted.
    Granted,
    /// A filter was denied; the reason as a sentence.
    Denied(String),
    /// Granted with QoS 0 only, so that messages may be lost.
    Downgraded,
    /// The connection ended first.
    Lost,
}
