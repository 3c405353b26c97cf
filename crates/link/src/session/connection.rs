//! One connection from CONNACK to disconnect: dispatches incoming events and decides when to send.

use std::{collections::BTreeSet, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::Timestamp;
use metrics::counter;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tracing::{debug, error, info, warn};

use super::{
    ConnectionEnd, FORWARDED_AFTER, Session, replies::PendingReplies, sender::Sender, sending::PendingPublish,
    sites::SiteClaims,
};
use crate::{LinkProblem, Receipts, shortcomings};
use gridwatch_base::metric;
use gridwatch_contract::{Presence, When, topics::SiteTopics};
use gridwatch_mqtt::{
    AckHandle, BrokerFeature, Client, ConnAck, Disconnect, DisconnectCause, Event, InboundMessage, OutboundMessage,
    PublishOutcome, Qos, RetainHandling, SubscribeOutcome, pump,
};
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

/// Maximum number of stale site filters that a connection unsubscribes from; a box sees far fewer cells.
const MAX_STALE_FILTERS: usize = 1024;

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
            sender: Sender::new(self.connector.settings.in_flight.into()),
            replies: PendingReplies::default(),
            connack: None,
            subscribing: None,
            closing_until: None,
            refusal: None,
            claims_in_flight: 0,
            unsubscribed: BTreeSet::new(),
        };
        let end = connection.run(self, stopped).await;
        pump.abort();
        end
    }
}

/// One connection.
pub(super) struct Connection {
    pub(super) client: Box<dyn Client>,
    events: mpsc::Receiver<Event>,
    /// Publishes awaiting acknowledgement.
    pending: FuturesUnordered<BoxFuture<'static, (PendingPublish, PublishOutcome)>>,
    /// Which outbox rows are in flight, and which may be sent.
    pub(super) sender: Sender,
    pub(super) replies: PendingReplies,
    /// The CONNACK, once received; shutdown must then publish `offline`.
    connack: Option<ConnAck>,
    /// Outcomes of the subscriptions to replies, to other boxes' claims, and to receipts and the platform's announcement.
    subscribing: Option<BoxFuture<'static, [SubscribeOutcome; 3]>>,
    /// Shutting down; the connection is dropped at this time.
    pub(super) closing_until: Option<Instant>,
    /// What the broker lacks, if the connection is closing for that.
    refusal: Option<String>,
    /// Claims among `pending`.
    pub(super) claims_in_flight: usize,
    /// Site filters of an earlier run that this connection unsubscribed from.
    unsubscribed: BTreeSet<String>,
}

impl Connection {
    async fn run(mut self, session: &mut Session, stopped: &mut oneshot::Receiver<()>) -> ConnectionEnd {
        let news = session.store.outbox_notify();
        let daemon = session.replies.clone();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut poll = tokio::time::interval(OUTBOX_POLL.min(session.connector.settings.keep_alive));
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        loop {
            self.send_queued(session);
            tokio::select! {
                biased;
                event = self.events.recv() => if let Some(end) = self.handle(session, event) {
                    return end;
                },
                outcomes = maybe(&mut self.subscribing) => self.subscribed(session, outcomes),
                Some((publish, outcome)) = self.pending.next(), if !self.pending.is_empty() => {
                    self.published(session, publish, outcome);
                }
                Some((ack, is_committed)) = self.replies.acks.next(), if !self.replies.acks.is_empty() => {
                    if let Some(end) = acknowledge(ack, is_committed) {
                        return end;
                    }
                }
                permit = daemon.reserve(), if !self.replies.undelivered.is_empty() => {
                    match (permit, self.replies.undelivered.pop_front()) {
                        (Ok(permit), Some(reply)) => permit.send(reply),
                        _ => return ConnectionEnd::lost("the daemon no longer receives replies"),
                    }
                }
                Some(health) = session.health.recv() => self.publish_health(session, health),
                stop = &mut *stopped, if self.closing_until.is_none() => match stop {
                    Ok(()) if self.connack.is_some() => self.begin_shutdown(session),
                    _ => return ConnectionEnd::Stopped,
                },
                () = sleep_until(self.closing_until.unwrap_or(far)) => return self.closed(),
                () = sleep_until(self.sender.paused_until().unwrap_or(far)) => self.sender.resume(),
                () = news.notified() => {
                    session.update_outbox_gauges();
                    self.update_own_claims(session);
                }
                _ = second.tick(), if session.sites.is_some() && self.sender.is_ready() => self.tick_claims(session),
                _ = poll.tick() => if let Some(end) = self.poll_outbox(session) {
                    return end;
                },
            }
        }
    }

    /// Publishes rows and claims that may be sent now.
    fn send_queued(&mut self, session: &mut Session) {
        if self.closing_until.is_some() {
            return;
        }
        if self.sender.may_send(&session.poison)
            && let Err(e) = self.fill(session)
        {
            self.store_failed(&e);
        }
        if self.sender.is_ready() {
            self.publish_claims(session);
        }
    }

    /// Handles an event of the client; `Some` ends the connection.
    fn handle(&mut self, session: &mut Session, event: Option<Event>) -> Option<ConnectionEnd> {
        match event {
            Some(Event::Connected(connack)) => self.subscribe(session, connack),
            Some(Event::Message(message)) if message.topic == session.connector.topics.reply() => {
                self.reply_received(session, message);
            }
            Some(Event::Message(message)) if message.topic == session.connector.topics.receipt() => {
                self.settle_acknowledged(session);
                let applied = session.receipt_received(&message);
                self.acknowledge_applied(message, applied);
            }
            Some(Event::Message(message)) if message.topic == session.connector.platform_topic() => {
                let applied = session.announcement_received(&message.payload);
                self.acknowledge_applied(message, applied);
            }
            Some(Event::Message(message)) => match &session.sites {
                Some(sites) if sites.is_site_topic(&message.topic) => self.claim_received(session, message),
                _ => self.ignore(session, message),
            },
            Some(Event::Disconnected(_)) | None if self.closing_until.is_some() => return Some(self.closed()),
            Some(Event::Disconnected(disconnect)) => return Some(self.lost(session, disconnect)),
            None => return Some(ConnectionEnd::lost("the MQTT client ended")),
        }
        None
    }

    /// Applies the broker's acknowledgements received so far: a receipt counts for what was acknowledged before it.
    fn settle_acknowledged(&mut self, session: &mut Session) {
        while let Some(Some((publish, outcome))) = self.pending.next().now_or_never() {
            self.published(session, publish, outcome);
        }
    }

    /// Catches up with changes by another process and with actions that failed before, and ends the connection if a message
    /// was not acknowledged in time.
    fn poll_outbox(&mut self, session: &mut Session) -> Option<ConnectionEnd> {
        let now = Instant::now();
        session.update_outbox_gauges();
        self.update_own_claims(session);
        self.update_enrolled(session);
        if self.sender.is_ready() {
            session.duplicate.connected(&session.connector);
        }
        // Only a broker that has stayed up since has certainly forwarded what it acknowledged.
        if self.sender.ready_for(now).is_some_and(|ready| ready >= FORWARDED_AFTER) {
            session.delete_forwarded();
        }
        let timeout = session.connector.settings.keep_alive * ACK_TIMEOUT_KEEP_ALIVES;
        self.sender.has_overdue(timeout, now).then(|| {
            let disconnect = Disconnect {
                message: format!("the broker has not acknowledged a message for {} s", timeout.as_secs()),
                cause: DisconnectCause::NoReason,
            };
            self.lost(session, disconnect)
        })
    }

    /// After CONNACK: publishes `online` and subscribes to replies and claims.
    fn subscribe(&mut self, session: &mut Session, connack: ConnAck) {
        self.connack = Some(connack);
        let shortcomings = shortcomings::of(connack.limits, session.connector.settings.largest_payload);
        if !shortcomings.is_empty() {
            return self.refuse(shortcomings.join("; "));
        }
        if let Some(sites) = &mut session.sites
            && let Err(e) = sites.connected(!connack.session_present, &mut session.store)
        {
            self.store_failed(&e);
        }
        info!(
            host = session.connector.settings.host,
            port = session.connector.settings.port,
            protocol = session.connector.settings.protocol.as_str(),
            resumed = connack.session_present,
            "Connected to MQTT broker"
        );
        let since = Timestamp::now();
        session
            .duplicate
            .publishing(When::new(since, &session.connector.settings.zone), &session.connector);
        let online = session.connector.status(Presence::Online, Some(since));
        // A retained reply would be applied again on every connection.
        let replies = self
            .client
            .subscribe(vec![session.connector.topics.reply()], RetainHandling::SkipRetained);
        let filters = session.sites.as_ref().map(SiteClaims::filters).unwrap_or_default();
        // A box without cameras has no sites, and MQTT no subscription to nothing.
        let claims = match filters.is_empty() {
            true => Ok(std::future::ready(SubscribeOutcome::Granted).boxed()),
            false => self.client.subscribe(filters, RetainHandling::SendRetained),
        };
        // The announcement is retained. An old receipt that somebody retained says nothing new.
        let receipts = match session.connector.settings.receipts {
            Receipts::Off => Ok(std::future::ready(SubscribeOutcome::Granted).boxed()),
            Receipts::Auto | Receipts::Required => self.client.subscribe(
                vec![
                    session.connector.platform_topic().to_owned(),
                    session.connector.topics.receipt(),
                ],
                RetainHandling::SendRetained,
            ),
        };
        match (self.client.send(online), replies, claims, receipts) {
            (Ok(_), Ok(replies), Ok(claims), Ok(receipts)) => {
                let all = futures::future::join3(replies, claims, receipts);
                self.subscribing = Some(
                    all.map(|(replies, claims, receipts)| [replies, claims, receipts])
                        .boxed(),
                );
            }
            (status, replies, claims, receipts) => error!(
                status = ?status.err(),
                replies = ?replies.err(),
                claims = ?claims.err(),
                receipts = ?receipts.err(),
                "Cannot queue the first messages of a connection"
            ),
        }
    }

    /// Acknowledges a message that was applied here, after those received before it.
    fn acknowledge_applied(&mut self, message: InboundMessage, applied: Result<(), StoreError>) {
        if let Err(error) = &applied {
            self.store_failed(error);
        }
        match (message.is_qos0, applied) {
            (true, _) => {}
            (false, Ok(())) => self.replies.acknowledge(message.ack),
            // Ends the connection, so that the broker delivers it again.
            (false, Err(_)) => self.replies.refuse(message.ack),
        }
    }

    /// After SUBACK: starts publishing cases, beginning with those an earlier connection did not deliver.
    fn subscribed(&mut self, session: &mut Session, [replies, claims, receipts]: [SubscribeOutcome; 3]) {
        let denied = match &replies {
            SubscribeOutcome::Denied(reason) => Some(reason.clone()),
            _ => None,
        };
        session.set_state(|s| s.replies_denied = denied);
        if let SubscribeOutcome::Denied(reason) = &receipts {
            report_receipts_denied(session, reason);
        }
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
            SubscribeOutcome::Downgraded => return self.refuse(shortcomings::without(BrokerFeature::Qos1).to_owned()),
            // The disconnect event follows.
            SubscribeOutcome::Lost => return,
        }
        let (is_new_session, max_packet) = match self.connack {
            Some(connack) => (!connack.session_present, connack.limits.max_packet),
            None => (true, None),
        };
        self.sender.start(max_packet, Instant::now());
        session.duplicate.connected(&session.connector);
        session.set_state(|s| (s.connected, s.down_since, s.problem) = (true, None, None));
        if let Err(e) = session.rewind_outbox(is_new_session) {
            self.store_failed(&e);
        }
        self.start_claims(session, claims);
    }

    fn reply_received(&mut self, session: &mut Session, message: InboundMessage) {
        if self.closing_until.is_some() {
            return;
        }
        if let Err(e) = self.replies.received(message, session) {
            self.store_failed(&e);
        }
    }

    /// Ignores a message on a topic that this box did not subscribe to. A resumed session keeps the site filters of a run that
    /// shared sites; those are unsubscribed from as messages show them, since the earlier run's cells are not known.
    fn ignore(&mut self, session: &Session, message: InboundMessage) {
        counter!(metric::MESSAGES_IGNORED).increment(1);
        // Debug-formatted: escapes control characters, so that a sender cannot forge log lines.
        debug!(topic = ?message.topic, bytes = message.payload.len(), "Ignored a message on a topic that is not subscribed to");
        if let Some(filter) = SiteTopics::new(&session.connector.settings.topic_prefix).filter_of(&message.topic)
            && self.unsubscribed.len() < MAX_STALE_FILTERS
            && !self.unsubscribed.contains(&filter)
            // If the queue is full, the next message on that topic tries again.
            && self.client.unsubscribe(filter.clone()).is_ok()
        {
            if self.unsubscribed.is_empty() {
                info!(
                    filter,
                    "Unsubscribing from site filters of an earlier run, which shared sites"
                );
            }
            self.unsubscribed.insert(filter);
        }
        // QoS 0 messages have no flow control.
        if !message.is_qos0 {
            self.replies.acknowledge(message.ack);
        }
    }

    fn publish_health(&mut self, session: &Session, health: String) {
        if self.sender.is_ready() {
            // If the queue is full it holds more important messages, and this one is dropped.
            let _ = self.client.send(OutboundMessage {
                qos: Qos::AtMostOnce,
                ..OutboundMessage::json(session.connector.topics.health(), health)
            });
        }
    }

    /// Tracks a publish until its outcome is known.
    pub(super) fn await_outcome(&mut self, publish: PendingPublish, outcome: BoxFuture<'static, PublishOutcome>) {
        self.pending.push(outcome.map(|outcome| (publish, outcome)).boxed());
    }

    pub(super) fn store_failed(&mut self, e: &StoreError) {
        error!(error = %e, "Cannot access the outbox; retrying");
        self.sender.pause(STORE_RETRY, Instant::now());
    }

    fn lost(&self, session: &mut Session, disconnect: Disconnect) -> ConnectionEnd {
        session.lost(&self.sender.in_flight(), disconnect, self.connack.is_some())
    }

    /// Disconnects from a broker that lacks what the box needs.
    fn refuse(&mut self, reason: String) {
        self.refusal = Some(reason);
        self.closing_until = Some(Instant::now() + SHUTDOWN_TIMEOUT);
        self.client.disconnect();
    }

    /// How the connection ended that was closed from this side.
    fn closed(&mut self) -> ConnectionEnd {
        match self.refusal.take() {
            Some(reason) => ConnectionEnd::Lost(LinkProblem::Unsuitable, reason),
            None => ConnectionEnd::Stopped,
        }
    }

    /// Publishes `offline` behind what is in flight; the connection closes when all of it is acknowledged.
    fn begin_shutdown(&mut self, session: &Session) {
        self.closing_until = Some(Instant::now() + SHUTDOWN_TIMEOUT);
        let offline = session.connector.status(Presence::Offline, Some(Timestamp::now()));
        if let Ok(outcome) = self.client.send(offline) {
            self.await_outcome(PendingPublish::Status, outcome);
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

fn report_receipts_denied(session: &Session, reason: &str) {
    let topic = session.connector.topics.receipt();
    let platform = session.connector.platform_topic();
    match session.awaits_receipts() {
        true => error!(
            topic,
            platform,
            reason,
            "Broker denies the subscription to receipts; cases stay in the outbox. Allow the topics in the broker's ACL"
        ),
        false => warn!(
            topic,
            platform,
            reason,
            "Broker denies the subscription to receipts; a case counts as delivered when the broker acknowledges it. Allow the topics in the \
             broker's ACL, or set broker.receipts = \"off\""
        ),
    }
}

/// Acknowledges a reply that was committed or rejected; one that could not be committed ends the connection, so that the
/// broker redelivers it.
fn acknowledge(ack: AckHandle, is_committed: bool) -> Option<ConnectionEnd> {
    if !is_committed {
        return Some(ConnectionEnd::lost("a reply could not be committed"));
    }
    ack.ack();
    None
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
