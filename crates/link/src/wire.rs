//! What a session needs of MQTT, in words of its own: connections, letters, acknowledgements, and why a connection ended.
//!
//! Two client crates of one family speak the two versions of the protocol, MQTT 5 ([`v5`]) and 3.1.1 ([`v311`]). Both are
//! thin: they translate, and decide nothing.

mod tls;
mod v311;
mod v5;

use std::{error::Error, fmt, io, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{LinkError, Settings};
use crate::Protocol;
use gridwatch_contract::{Presence, SCHEMA_VERSION, StatusMessage, Topics, When};
use gridwatch_custody::PublicKey;

/// Replies that may be waiting for the daemon at once; the broker holds the others.
const REPLIES_IN_FLIGHT: u16 = 16;

/// Longest wait for a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a publish may add to its payload: topic (at most 64 KiB by the standard, about 150 bytes here), properties.
const PACKET_OVERHEAD: usize = 1024;

const JSON: &str = "application/json";
const JPEG: &str = "image/jpeg";

/// Everything that a connection is made from.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) settings: Settings,
    pub(super) topics: Topics,
    tls: Option<tls::Secured>,
    /// What the box's cases are checked with.
    public_key: Option<PublicKey>,
}

/// What goes out.
#[derive(Debug, Clone)]
pub(super) struct OutboundMessage {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) sort: MessageKind,
}

/// What a letter is, which says how it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MessageKind {
    /// Retained.
    Status,
    /// Retained, for as long as it counts.
    Claim,
    /// Of the moment: neither acknowledged nor sent again.
    Health,
    Evidence,
    Case {
        id: String,
        /// Where its replies go.
        reply: String,
    },
}

impl MessageKind {
    fn is_retained(&self) -> bool {
        matches!(self, Self::Status | Self::Claim)
    }

    fn is_acknowledged(&self) -> bool {
        *self != Self::Health
    }
}

/// What became of one letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The broker has it, and somebody to give it to (MQTT 3.1.1 does not say whether).
    Delivered,
    /// The broker has it and nobody to give it to: as good as lost.
    Unheard,
    /// Never: what it says will not change by trying again.
    Refused(String),
    /// Not now.
    Busy(String),
    /// The connection ended first; the row is sent again on the next.
    Lost,
}

impl Verdict {
    /// The metric label's value.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Unheard => "unheard",
            Self::Refused(_) => "refused",
            Self::Busy(_) => "busy",
            Self::Lost => "lost",
        }
    }
}

/// Why a letter was not even queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    /// No broker could take it: its topic is none.
    Topic,
    /// The queue is full, or the connection gone and its error on its way.
    Now,
}

/// Which messages are wanted. A broker of MQTT 3.1.1 passes on what is retained in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// What is said from here on.
    New,
    /// What is retained, too, at each connection.
    Retained,
}

/// The broker's answer to a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SubscribeOutcome {
    /// Messages reach us.
    Yes,
    /// It does not let us; as a sentence.
    Forbidden(String),
    /// The connection ended first.
    Lost,
}

/// Our end of one connection. Nothing waits: what cannot be queued now is told.
pub(super) trait Client: Send {
    /// Queues a letter. What becomes of it is known when the broker has answered.
    fn send(&self, letter: OutboundMessage) -> Result<BoxFuture<'static, Verdict>, Unsent>;

    /// Asks for the messages of `topics`; `what` of them.
    fn listen(&self, topics: Vec<String>, what: Wanted) -> Result<BoxFuture<'static, SubscribeOutcome>, Unsent>;

    /// Takes leave: no last will is published.
    fn leave(&self);
}

/// The broker's end of it. Has to be asked again and again, or nothing moves.
pub(super) trait EventLoop: Send {
    /// What comes next. After [`Event::Ended`] it is not asked again.
    fn next(&mut self) -> BoxFuture<'_, Event>;
}

/// What a connection tells.
#[derive(Debug)]
pub(super) enum Event {
    /// The broker has us.
    Greeted(ConnAck),
    /// Somebody wrote to us.
    Message(Message),
    /// The connection is over.
    Ended(Disconnect),
}

/// How the broker took us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnAck {
    /// It knows us from before, with our subscription and what was said meanwhile.
    pub(super) session_present: bool,
    /// Largest packet it takes, where it said so.
    pub(super) max_packet: Option<u32>,
}

/// A message to us.
#[derive(Debug)]
pub(super) struct Message {
    /// Lossy where it is no UTF-8, which a broker must not let through.
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) is_retained: bool,
    /// QoS 0: it has no flow control, and does not come again.
    pub(super) is_fleeting: bool,
    /// MQTT 3.1.1 has none.
    pub(super) correlation: Option<Bytes>,
    pub(super) receipt: Receipt,
}

/// Acknowledges a message, once.
pub(super) struct Receipt(Box<dyn FnOnce() + Send>);

impl Receipt {
    /// Where the connection is gone, the message comes again and is applied twice to the same effect.
    pub(super) fn give(self) {
        (self.0)();
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disconnect {
    /// As a sentence without credentials.
    pub(super) said: String,
    pub(super) blame: Blame,
}

impl Disconnect {
    fn of_nobody(said: impl Into<String>) -> Self {
        Self {
            said: said.into(),
            blame: Blame::Nobody,
        }
    }
}

/// What a connection may have died of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Blame {
    /// No message.
    Nobody,
    /// The other side fell silent or hung up, and said nothing. Brokers do that over a message they do not like, those of MQTT 3.1.1
    /// have nothing else; and so does every failing line.
    Silence,
    /// A message of ours, by the broker's own word.
    Ours(String),
    /// A message to us, too large to be taken. It would come again with each connection.
    Theirs,
}

/// How a connection presents itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    /// The box: with a session that outlives the connection, and a last will.
    Node,
    /// Nothing outlives it; under this name.
    Visitor(String),
}

impl Wire {
    pub(super) fn new(settings: Settings, public_key: Option<PublicKey>) -> Result<Self, LinkError> {
        if settings.keep_alive < Duration::from_secs(1) || settings.keep_alive.as_secs() > u64::from(u16::MAX) {
            return Err(LinkError::Settings("keep_alive must be 1 s to 65535 s".into()));
        }
        if settings.in_flight == 0 {
            return Err(LinkError::Settings("in_flight must be 1 or more".into()));
        }
        Ok(Self {
            topics: Topics::new(&settings.topic_prefix, &settings.node),
            tls: settings.tls.as_ref().map(tls::Secured::read).transpose()?,
            settings,
            public_key,
        })
    }

    /// A connection. The broker's side of the session (subscription, waiting replies) outlives it; ours does not: what was
    /// not acknowledged is in the outbox.
    pub(super) fn connect(&self) -> (Box<dyn Client>, Box<dyn EventLoop>) {
        self.connect_as(&Role::Node)
    }

    fn connect_as(&self, role: &Role) -> (Box<dyn Client>, Box<dyn EventLoop>) {
        match self.settings.protocol {
            Protocol::V5 => v5::connect(self, role),
            Protocol::V311 => v311::connect(self, role),
        }
    }

    /// Makes the broker forget the session, and with it the messages that wait for us.
    ///
    /// # Errors
    /// Why the broker could not be reached, as a sentence.
    pub(super) async fn forget_session(&self) -> Result<(), String> {
        self.visit(self.client_id()).await
    }

    /// Connects with a session that ends with the connection, and takes leave again.
    async fn visit(&self, name: String) -> Result<(), String> {
        let (client, mut line) = self.connect_as(&Role::Visitor(name));
        let mut greeted = false;
        let talk = async {
            loop {
                match line.next().await {
                    Event::Greeted(_) => {
                        greeted = true;
                        client.leave();
                    }
                    Event::Message(_) => {}
                    // It ends because we left.
                    Event::Ended(_) if greeted => return Ok(()),
                    Event::Ended(trouble) => return Err(self.explain(trouble, false)),
                }
            }
        };
        tokio::time::timeout(CONNECT_TIMEOUT, talk)
            .await
            .unwrap_or_else(|_| Err(format!("it did not answer within {} s", CONNECT_TIMEOUT.as_secs())))
    }

    /// What happened, with what may be wrong where the broker hung up without a word before it took us.
    pub(super) fn explain(&self, trouble: Disconnect, greeted: bool) -> String {
        let Disconnect { mut said, blame } = trouble;
        if greeted || blame != Blame::Silence {
            return said;
        }
        said += " before it took us";
        match &self.settings.tls {
            Some(tls) if tls.client.is_none() => said += ": does it ask for a certificate of the box (broker.client)?",
            Some(_) => said += ": does it trust the authority of the box's certificate (broker.client)?",
            None => said += ": is its port one for TLS (mqtts://)?",
        }
        if self.settings.protocol == Protocol::V5 {
            said += " Does it know MQTT 5 (else broker.protocol = \"3.1.1\")?";
        }
        said
    }

    fn client_id(&self) -> String {
        format!("gridwatch-{}", self.settings.node)
    }

    fn keep_alive_s(&self) -> u16 {
        u16::try_from(self.settings.keep_alive.as_secs()).unwrap_or(u16::MAX)
    }

    /// The most publishes of ours that wait for an acknowledgement: the outbox's, and what is said about the box itself. The
    /// client holds a slot for each from the start; for all that MQTT allows they would be 14 MB.
    fn unacknowledged(&self) -> u16 {
        self.settings.in_flight.saturating_add(12)
    }

    /// Requests that a client may hold.
    fn capacity(&self) -> usize {
        usize::from(self.unacknowledged()) + usize::from(REPLIES_IN_FLIGHT)
    }

    /// What is said of the box itself.
    pub(super) fn status(&self, state: Presence, since: Option<jiff::Timestamp>) -> OutboundMessage {
        OutboundMessage {
            topic: self.topics.status(),
            payload: self.status_text(state, since).into_bytes(),
            sort: MessageKind::Status,
        }
    }

    fn status_text(&self, state: Presence, since: Option<jiff::Timestamp>) -> String {
        let message = StatusMessage {
            schema_version: SCHEMA_VERSION,
            node_id: self.settings.node.to_string(),
            state,
            since: since.map(|at| When::new(at, &self.settings.zone)),
            version: env!("CARGO_PKG_VERSION").into(),
            public_key: self.public_key.as_ref().map(ToString::to_string),
        };
        serde_json::to_string(&message).unwrap_or_default()
    }
}

/// True where a payload of `bytes` fits into the largest packet the broker takes.
pub(super) fn fits(bytes: usize, max_packet: Option<u32>) -> bool {
    max_packet.is_none_or(|max| bytes + PACKET_OVERHEAD <= max as usize)
}

/// What a failing connection says of itself, where neither TLS nor MQTT had a word for it. The clients wrap the system's errors in one way
/// where they read and in another where they write.
fn by_cause(error: &(dyn Error + 'static)) -> Disconnect {
    let causes = std::iter::successors(Some(error), |e| (*e).source());
    match causes.filter_map(|e| e.downcast_ref::<io::Error>()).next() {
        Some(e) => match e.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => hung_up(),
            _ => Disconnect::of_nobody(e.to_string()),
        },
        None => Disconnect::of_nobody(error.to_string()),
    }
}

fn hung_up() -> Disconnect {
    Disconnect {
        said: "the broker closed the connection without a word".into(),
        blame: Blame::Silence,
    }
}

/// Connects once, with another client id and a session of its own, and takes leave again: is the broker there, does it
/// take us?
///
/// # Errors
/// [`LinkError::TlsFile`], [`LinkError::Tls`], [`LinkError::Settings`] or [`LinkError::Refused`].
pub async fn probe(settings: Settings) -> Result<(), LinkError> {
    let wire = Wire::new(settings, None)?;
    let name = format!("{}-check-{}", wire.client_id(), std::process::id());
    wire.visit(name).await.map_err(|reason| LinkError::Refused {
        host: wire.settings.host.clone(),
        port: wire.settings.port,
        reason,
    })
}
