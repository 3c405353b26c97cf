//! Messages in both directions.

use std::{fmt, time::Duration};

use bytes::Bytes;

/// A message to publish, or a last will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundMessage {
    /// Topic name, without wildcards.
    pub topic: String,
    /// Payload; of a retained message, an empty one deletes what is retained on the topic.
    pub payload: Bytes,
    /// Whether the broker acknowledges it.
    pub qos: Qos,
    /// The broker keeps it for later subscribers.
    pub is_retained: bool,
    /// The payload is UTF-8 text; MQTT 5 only, as are all fields below.
    pub is_text: bool,
    /// Media type of the payload, such as `image/jpeg`.
    pub content_type: Option<&'static str>,
    /// The broker deletes it after so long if it was not delivered, and as a retained message in any case. Whole seconds, at
    /// most 2^32 - 1.
    pub expiry: Option<Duration>,
    /// Where to publish an answer.
    pub response_topic: Option<String>,
    /// To be repeated in the answer.
    pub correlation: Option<Bytes>,
}

impl OutboundMessage {
    /// A message of QoS 1 that is not retained and has no properties.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: Qos::AtLeastOnce,
            is_retained: false,
            is_text: false,
            content_type: None,
            expiry: None,
            response_topic: None,
            correlation: None,
        }
    }

    /// A message of QoS 1 with a JSON payload, which is not retained.
    pub fn json(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            is_text: true,
            content_type: Some("application/json"),
            ..Self::new(topic, payload)
        }
    }

    pub(crate) fn expiry_s(&self) -> Option<u32> {
        self.expiry
            .map(|expiry| u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX))
    }
}

/// Quality of service of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// QoS 0: not acknowledged, and lost with the connection.
    AtMostOnce,
    /// QoS 1: acknowledged.
    AtLeastOnce,
}

/// A message received from the broker.
#[derive(Debug)]
pub struct InboundMessage {
    /// Topic name. Decoded lossily; a conforming broker only sends UTF-8.
    pub topic: String,
    /// Payload; empty if the packet exceeds [`ConnectOptions::max_incoming`](crate::ConnectOptions::max_incoming).
    pub payload: Bytes,
    /// It was retained and is sent because of a subscription.
    pub is_retained: bool,
    /// Has no flow control and is not redelivered.
    pub is_qos0: bool,
    /// Where the sender wants its answer; MQTT 5 only.
    pub response_topic: Option<String>,
    /// Correlation data; MQTT 5 only.
    pub correlation: Option<Bytes>,
    /// Acknowledges it; without effect if it has QoS 0.
    pub ack: AckHandle,
}

/// Acknowledges one received message. MQTT wants messages acknowledged in the order in which they were received. One that is
/// not acknowledged counts against [`ConnectOptions::receive_maximum`](crate::ConnectOptions::receive_maximum) until the
/// connection ends, and the broker delivers it again on the next connection of a persistent session.
pub struct AckHandle(Box<dyn FnOnce() + Send>);

impl AckHandle {
    pub(crate) fn new(ack: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(ack))
    }

    /// Sends PUBACK. If the connection is gone, the broker redelivers the message.
    pub fn ack(self) {
        (self.0)();
    }
}

impl fmt::Debug for AckHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AckHandle")
    }
}
