//! One connection from CONNACK to disconnect: dispatches incoming events and decides when to send.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use jiff::Timestamp;
use metrics::{counter, gauge};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tracing::{debug, error, info, warn};

use super::{ConnectionEnd, Session, FORWARDED_AFTER, sending::PendingPublish};
use crate::{backoff::Backoff, reply::{self, IncomingReply}, wire::{DisconnectCause, Client, Event, ConnAck, SubscribeOutcome, OutboundMessage, EventLoop, InboundMessage, AckHandle, MessageKind, Disconnect, PublishOutcome, RetainHandling}};
use gridwatch_contract::Presence;
use gridwatch_store::StoreError;

/// How often the outbox is polled for rows that another process released (`gridwatch outbox retry`).
const OUTBOX_POLL: Duration = Duration::from_secs(15);

/// After this many keep-alives without an acknowledgement, the broker has lost the message. A slow uplink may need one or
/// two for the pictures queued before it.
const ACK_TIMEOUT_KEEP_ALIVES: u32 = 4;

/// Pause after a store error; disks recover slowly or not at all.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// Maximum time for publishing `offline` and disconnecting.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);

/// QoS 0 replies have no flow control: with this many replies pending, further ones are dropped.
const MAX_PENDING_REPLIES: usize = 64;

impl Session {
    /// Opens one connection and runs it to its end.
    pub(super) async fn connection(&mut self, stopped: &mut oneshot::Receiver<()>) -> ConnectionEnd {
        let (client, event_loop) = self.connector.connect();
        let (events_in, events) = mpsc::channel(32);
        // In a task of its own, so that nothing awaited here can delay keep-alives and acknowledgements.
        let pump = tokio::spawn(pump(event_loop, events_in));
        let connection = Connection {
            client,
            events,
            pending: FuturesUnordered::new(),
            in_flight: BTreeMap::new(),
            undelivered_replies: VecDeque::new(),
            pending_acks: FuturesOrdered::new(),
            is_connected: false,
            is_new_session: false,
            subscribing: None,
            ready_since: None,
            max_packet: None,
            paused_until: None,
            backoff: Backoff::default(),
            closing_until: None,
            claims_in_flight: 0,
        };
        let end = connection.run(self, stopped).await;
        pump.abort();
        end
    }
}

/// Polls the client's event loop. The disconnect event is forwarded before the event loop is dropped, so that the
/// connection sees the cause before its pending publishes resolve as lost.
async fn pump(mut event_loop: Box<dyn EventLoop>, events: mpsc::Sender<Event>) {
    loop {
        let event = event_loop.next().await;
        let last = matches!(event, Event::Disconnected(_));
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

/// One connection.
pub(super) struct Connection {
    pub(super) client: Box<dyn Client>,
    events: mpsc::Receiver<Event>,
    /// Publishes awaiting acknowledgement.
    pub(super) pending: FuturesUnordered<BoxFuture<'static, (PendingPublish, PublishOutcome)>>,
    /// Outbox rows among `pending`, with the time each was sent.
    pub(super) in_flight: BTreeMap<i64, Instant>,
    /// Replies for which the daemon's channel had no capacity yet.
    undelivered_replies: VecDeque<IncomingReply>,
    /// Incoming messages to acknowledge, in order of arrival as MQTT requires; false: not committed.
    pending_acks: FuturesOrdered<BoxFuture<'static, (AckHandle, bool)>>,
    /// CONNACK received: shutdown must publish `offline`.
    is_connected: bool,
    /// The broker has no session for this box, so it may also have lost what it acknowledged recently.
    is_new_session: bool,
    /// Outcomes of the subscriptions to replies and to other boxes' claims.
    subscribing: Option<BoxFuture<'static, (SubscribeOutcome, SubscribeOutcome)>>,
    /// When the reply subscription was confirmed. No case is published before: its reply could be missed.
    pub(super) ready_since: Option<Instant>,
    /// Maximum packet size of the broker, in bytes.
    pub(super) max_packet: Option<u32>,
    pub(super) paused_until: Option<Instant>,
    pub(super) backoff: Backoff,
    /// Shutting down; the connection is dropped at this time.
    pub(super) closing_until: Option<Instant>,
    /// Claims among `pending`.
    pub(super) claims_in_flight: usize,
}

impl Connection {
    async fn run(mut self, session: &mut Session, stopped: &mut oneshot::Receiver<()>) -> ConnectionEnd {
        let news = session.store.news();
        let daemon = session.replies.clone();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut poll = tokio::time::interval(OUTBOX_POLL.min(session.connector.settings.keep_alive));
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        loop {
            let may_send = self.ready_since.is_some() && self.closing_until.is_none() && self.paused_until.is_none();
            if may_send && let Err(e) = self.fill(session) {
                self.store_failed(&e);
            }
            if self.ready_since.is_some() && self.closing_until.is_none() {
                self.publish_claims(session);
            }
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(Event::Connected(connack)) => self.subscribe(session, connack),
                    Some(Event::Message(message)) => match &session.sites {
                        Some(sites) if sites.is_site_topic(&message.topic) => self.claim_received(session, message),
                        _ => self.reply_received(session, message),
                    },
                    Some(Event::Disconnected(_)) | None if self.closing_until.is_some() => return ConnectionEnd::Stopped,
                    Some(Event::Disconnected(disconnect)) => return self.lost(session, disconnect),
                    None => return ConnectionEnd::Lost("the MQTT client ended".into()),
                },
                outcomes = maybe(&mut self.subscribing) => self.subscribed(session, outcomes),
                Some((publish, outcome)) = self.pending.next(), if !self.pending.is_empty() => self.settle(session, publish, outcome),
                Some((ack, committed)) = self.pending_acks.next(), if !self.pending_acks.is_empty() => {
                    let result = if committed { "committed" } else { "not_committed" };
                    counter!("gridwatch_replies_total", "result" => result).increment(1);
                    if !committed {
                        // The broker redelivers it on the next connection.
                        return ConnectionEnd::Lost("a reply could not be committed".into());
                    }
                    ack.ack();
                }
                permit = daemon.reserve(), if !self.undelivered_replies.is_empty() => match (permit, self.undelivered_replies.pop_front()) {
                    (Ok(permit), Some(reply)) => permit.send(reply),
                    _ => return ConnectionEnd::Lost("the daemon no longer receives replies".into()),
                },
                Some(health) = session.health.recv() => if self.ready_since.is_some() {
                    // A full queue has more important messages in it; this one is simply dropped.
                    let message = OutboundMessage { topic: session.connector.topics.health(), payload: health.into_bytes(), kind: MessageKind::Health };
                    let _ = self.client.send(message);
                },
                stop = &mut *stopped, if self.closing_until.is_none() => match stop {
                    Ok(()) if self.is_connected => self.begin_shutdown(session),
                    _ => return ConnectionEnd::Stopped,
                },
                () = sleep_until(self.closing_until.unwrap_or(far)) => return ConnectionEnd::Stopped,
                () = sleep_until(self.paused_until.unwrap_or(far)) => self.paused_until = None,
                () = news.notified() => {
                    session.update_outbox_gauges();
                    self.update_own_claims(session);
                }
                _ = second.tick(), if session.sites.is_some() && self.ready_since.is_some() => self.tick_claims(session),
                _ = poll.tick() => {
                    session.update_outbox_gauges();
                    // Changes by another process, and actions that failed before.
                    self.update_own_claims(session);
                    // Only a broker that has stayed up since has certainly forwarded what it acknowledged.
                    if self.ready_since.is_some_and(|since| since.elapsed() >= FORWARDED_AFTER) {
                        session.delete_forwarded();
                    }
                    let timeout = session.connector.settings.keep_alive * ACK_TIMEOUT_KEEP_ALIVES;
                    if self.in_flight.values().any(|since| since.elapsed() > timeout) {
                        let message = format!("the broker has not acknowledged a message for {} s", timeout.as_secs());
                        return self.lost(session, Disconnect { message, cause: DisconnectCause::NoReason });
                    }
                }
            }
        }
    }

    /// After CONNACK: publishes `online` and subscribes to replies and claims.
    fn subscribe(&mut self, session: &mut Session, connack: ConnAck) {
        self.is_connected = true;
        if let Some(sites) = &mut session.sites {
            sites.connected(!connack.session_present);
        }
        self.is_new_session = !connack.session_present;
        self.max_packet = connack.max_packet;
        info!(
            host = session.connector.settings.host,
            port = session.connector.settings.port,
            protocol = session.connector.settings.protocol.as_str(),
            resumed = connack.session_present,
            "Connected to MQTT broker"
        );
        let online = session.connector.status(Presence::Online, Some(Timestamp::now()));
        // A retained reply would be applied again on every connection.
        let replies = self.client.subscribe(vec![session.connector.topics.reply()], RetainHandling::SkipRetained);
        let claims = session.sites.as_ref().map_or_else(
            || Ok(std::future::ready(SubscribeOutcome::Granted).boxed()),
            |sites| self.client.subscribe(sites.filters(), RetainHandling::SendRetained),
        );
        match (self.client.send(online), replies, claims) {
            (Ok(_), Ok(replies), Ok(claims)) => self.subscribing = Some(futures::future::join(replies, claims).boxed()),
            (status, replies, claims) => error!(
                status = ?status.err(),
                replies = ?replies.err(),
                claims = ?claims.err(),
                "Cannot queue the first messages of a connection"
            ),
        }
    }

    /// After SUBACK: starts publishing cases, beginning with those an earlier connection did not deliver.
    fn subscribed(&mut self, session: &mut Session, (replies, claims): (SubscribeOutcome, SubscribeOutcome)) {
        match replies {
            SubscribeOutcome::Granted => {}
            SubscribeOutcome::Denied(reason) => {
                let topic = session.connector.topics.reply();
                error!(
                    topic,
                    reason,
                    "Broker denies the subscription to replies; cases are published without them. Allow the topic in the broker's ACL"
                );
            }
            // The disconnect event follows.
            SubscribeOutcome::Lost => return,
        }
        self.ready_since = Some(Instant::now());
        gauge!("gridwatch_link_connected").set(1.0);
        session.state.send_modify(|s| s.connected = true);
        if let Err(e) = session.rewind_outbox(self.is_new_session) {
            self.store_failed(&e);
        }
        self.start_claims(session, claims);
    }

    /// Queues the acknowledgement of a message that needs no commit.
    pub(super) fn acknowledge(&mut self, ack: AckHandle) {
        self.pending_acks.push_back(async move { (ack, true) }.boxed());
    }

    fn reply_received(&mut self, session: &mut Session, message: InboundMessage) {
        if self.closing_until.is_some() {
            return;
        }
        if message.is_qos0 && self.pending_acks.len() >= MAX_PENDING_REPLIES {
            counter!("gridwatch_replies_total", "result" => "flood").increment(1);
            debug!("Dropped a QoS 0 reply: too many replies pending");
            return;
        }
        let ack = message.ack;
        match reply::read(
            &message.payload,
            message.is_retained,
            message.correlation.as_deref(),
            &session.store,
        ) {
            Ok(Ok((message, reply))) => {
                info!(case = %reply.case, state = reply.state.as_str(), "Received a reply from the platform");
                let (committed, is_committed) = oneshot::channel();
                self.undelivered_replies.push_back(IncomingReply {
                    message,
                    reply,
                    committed,
                });
                self.pending_acks
                    .push_back(is_committed.map(|committed| (ack, committed.is_ok())).boxed());
            }
            Ok(Err(rejected)) => {
                counter!("gridwatch_replies_total", "result" => rejected.as_str()).increment(1);
                // Debug-formatted: escapes control characters, so that a sender cannot forge log lines.
                warn!(reason = ?rejected.to_string(), bytes = message.payload.len(), "Rejected a message on the reply topic");
                self.pending_acks.push_back(async move { (ack, true) }.boxed());
            }
            Err(e) => {
                self.store_failed(&e);
                self.pending_acks.push_back(async move { (ack, false) }.boxed());
            }
        }
    }

    /// Stops sending outbox messages for `length`.
    pub(super) fn pause(&mut self, length: Duration) {
        self.paused_until = Some(Instant::now() + length);
    }

    pub(super) fn store_failed(&mut self, e: &StoreError) {
        error!(error = %e, "Cannot access the outbox; retrying");
        self.pause(STORE_RETRY);
    }

    fn lost(&self, session: &mut Session, disconnect: Disconnect) -> ConnectionEnd {
        let in_flight: Vec<i64> = self.in_flight.keys().copied().collect();
        session.lost(&in_flight, disconnect, self.is_connected)
    }

    /// Publishes `offline` behind what is in flight; the connection closes when all of it is acknowledged.
    fn begin_shutdown(&mut self, session: &Session) {
        self.closing_until = Some(Instant::now() + SHUTDOWN_TIMEOUT);
        let offline = session.connector.status(Presence::Offline, Some(Timestamp::now()));
        let publish = PendingPublish::status(offline.topic.clone());
        if let Ok(outcome) = self.client.send(offline) {
            self.pending.push(outcome.map(|outcome| (publish, outcome)).boxed());
        }
        self.disconnect_if_drained();
    }

    /// Disconnects if shutting down and everything is acknowledged.
    pub(super) fn disconnect_if_drained(&self) {
        if self.closing_until.is_some() && self.pending.is_empty() {
            self.client.disconnect();
        }
    }
}

/// Awaits `future` and clears it; pends forever if it is `None`.
async fn maybe<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(waiting) => {
            let value = waiting.await;
            *future = None;
            value
        }
        None => std::future::pending().await,
    }
}
