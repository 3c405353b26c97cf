//! One connection after another: each sends the outbox from its oldest row on and ends at the first trouble.
//!
//! Nothing is remembered from one connection to the next but how to be careful: how long to wait, and whether the last
//! one died of a message.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use jiff::Timestamp;
use metrics::{counter, gauge, histogram};
use rumqttc::{
    AsyncClient, ConnAck, ConnectionError, Event, EventLoop, Incoming, Publish, QoS, RetainForwardRule,
    SubscribeFilterInput, SubscribeNoticeError,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, error, info, warn};

use super::{
    LinkState,
    backoff::Backoff,
    contract::Presence,
    reply::{self, IncomingReply},
    wire::{self, Verdict, Wire},
};
use crate::store::{OutboxKind, OutboxRow, Store, StoreError, evidence_file};

/// A subscriber that lost the same broker is back by then: pictures that nobody heard within this time of our own
/// coming back are sent again, later ones count as pictures nobody wants.
const UNHEARD_GRACE: Duration = Duration::from_secs(5);

/// Rows released by another process (`gridwatch outbox retry`) are found within this time.
const STOCKTAKING: Duration = Duration::from_secs(15);

/// A broker that lives has passed on by then what it acknowledged; one that dies sooner may have forgotten it.
const SETTLES: Duration = Duration::from_secs(60);

/// A broker that says nothing of a message for so many keep-alives has forgotten it; a slow line may take one or two for the pictures
/// before it.
const KEEP_ALIVES: u32 = 4;

/// After the store failed: disks recover slowly or not at all.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// A connection that lived this long was no accident: the next failure starts from the shortest pause.
const SETTLED: Duration = Duration::from_secs(10);

/// How long taking leave may last.
const FAREWELL: Duration = Duration::from_secs(4);

/// QoS 0 replies have no flow control: more than this many at once are dropped.
const MAX_REPLIES: usize = 64;

/// How a connection ended.
enum End {
    /// We were told to stop, or nobody holds the handle any more.
    Stopped,
    /// Trouble, as a sentence.
    Lost(String),
}

/// A publish whose acknowledgement is awaited; `seq` is `None` for the status message.
struct Sent {
    seq: Option<i64>,
    case_id: String,
    kind: &'static str,
    topic: String,
    since: Instant,
}

type Acknowledgements = FuturesUnordered<BoxFuture<'static, (Sent, Verdict)>>;

/// What outlives a connection.
struct Link {
    wire: Wire,
    store: Store,
    replies: mpsc::Sender<IncomingReply>,
    health: mpsc::Receiver<String>,
    state: watch::Sender<LinkState>,
    /// The last connection died of a message: one at a time, until one is through or the culprit is known.
    suspicious: bool,
    /// Nobody hears our cases, and that has been said.
    unheard_said: bool,
    /// Nobody wants our pictures, and that has been said.
    pictures_unheard_said: bool,
}

/// Runs until told to stop.
pub(super) async fn run(
    wire: Wire,
    store: Store,
    replies: mpsc::Sender<IncomingReply>,
    health: mpsc::Receiver<String>,
    state: watch::Sender<LinkState>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut link = Link {
        wire,
        store,
        replies,
        health,
        state,
        suspicious: false,
        unheard_said: false,
        pictures_unheard_said: false,
    };
    let mut backoff = Backoff::default();
    loop {
        link.measure_outbox();
        let begun = Instant::now();
        let end = link.connection(&mut stopped).await;
        gauge!("gridwatch_link_connected").set(0.0);
        let End::Lost(trouble) = end else {
            link.state.send_modify(|s| s.connected = false);
            return;
        };
        if begun.elapsed() >= SETTLED {
            backoff.reset();
        }
        let pause = backoff.next();
        link.say_lost(trouble, pause);
        tokio::select! {
            () = sleep(pause) => {}
            _ = &mut stopped => return,
        }
    }
}

impl Link {
    /// A broker that stays away is a warning once, not at each attempt.
    fn say_lost(&self, trouble: String, pause: Duration) {
        let (host, port) = (&self.wire.settings.host, self.wire.settings.port);
        let news = {
            let s = self.state.borrow();
            s.connected || s.trouble.as_ref() != Some(&trouble)
        };
        let retry_ms = pause.as_millis() as u64;
        if news {
            warn!(
                host,
                port, trouble, retry_ms, "The broker is away; cases are kept in the outbox."
            );
        } else {
            debug!(host, port, trouble, retry_ms, "The broker is still away.");
        }
        self.state.send_replace(LinkState {
            connected: false,
            trouble: Some(trouble),
        });
    }

    /// What was acknowledged a while ago has been passed on.
    fn settle(&mut self) {
        let then = Timestamp::now().saturating_sub(SETTLES).unwrap_or(Timestamp::MIN);
        if let Err(e) = self.store.outbox_settled(then) {
            warn!(error = %e, "What was sent cannot be put away.");
        }
    }

    fn measure_outbox(&self) {
        match self.store.outbox_depth() {
            Ok(depth) => {
                gauge!("gridwatch_outbox_depth").set(depth.waiting as f64);
                gauge!("gridwatch_outbox_quarantined").set(depth.quarantined as f64);
            }
            Err(e) => warn!(error = %e, "The outbox cannot be measured."),
        }
    }

    async fn connection(&mut self, stopped: &mut oneshot::Receiver<()>) -> End {
        let (client, event_loop) = self.wire.connect();
        let (events_in, events) = mpsc::channel(32);
        // The event loop runs beside us: what we wait for must not keep it from answering the broker.
        let pump = tokio::spawn(pump(event_loop, events_in));
        let connection = Connection {
            client,
            events,
            sent: FuturesUnordered::new(),
            seqs: BTreeMap::new(),
            to_hand_over: VecDeque::new(),
            waiting_replies: FuturesOrdered::new(),
            greeted: false,
            is_new_to_broker: false,
            subscribing: None,
            up_since: None,
            max_packet: None,
            paused_until: None,
            pauses: Backoff::default(),
            leaving: None,
        };
        let end = connection.live(self, stopped).await;
        pump.abort();
        end
    }
}

/// Drives the client, and passes on what concerns us. The error that ends the connection is sent before the event loop
/// is dropped, so that it is known before its publishes are lost.
async fn pump(mut event_loop: EventLoop, events: mpsc::Sender<Result<Incoming, ConnectionError>>) {
    loop {
        let event = match event_loop.poll().await {
            Ok(Event::Incoming(packet @ (Incoming::ConnAck(_) | Incoming::Publish(_)))) => Ok(packet),
            Ok(_) => continue,
            Err(e) => Err(e),
        };
        let last = event.is_err();
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

/// One connection.
struct Connection {
    client: AsyncClient,
    events: mpsc::Receiver<Result<Incoming, ConnectionError>>,
    sent: Acknowledgements,
    /// The outbox rows among `sent`, and since when.
    seqs: BTreeMap<i64, Instant>,
    /// Replies that the daemon had no room for yet.
    to_hand_over: VecDeque<IncomingReply>,
    /// Handed to the daemon or about to be, in the order they came: MQTT wants them acknowledged in that order.
    waiting_replies: FuturesOrdered<BoxFuture<'static, (Publish, bool)>>,
    /// The broker has us: a farewell is due.
    greeted: bool,
    /// The broker knows nothing of us: it is another, or has lost its memory, and with it perhaps what it acknowledged last.
    is_new_to_broker: bool,
    /// The broker's answer to our subscription.
    subscribing: Option<BoxFuture<'static, Result<(), SubscribeNoticeError>>>,
    /// Since when the broker has us and replies reach us: no case is sent before its answer could be heard.
    up_since: Option<Instant>,
    /// Largest packet the broker takes.
    max_packet: Option<u32>,
    paused_until: Option<Instant>,
    pauses: Backoff,
    /// Taking leave, until then at most.
    leaving: Option<Instant>,
}

impl Connection {
    async fn live(mut self, link: &mut Link, stopped: &mut oneshot::Receiver<()>) -> End {
        let news = link.store.news();
        let daemon = link.replies.clone();
        let mut stocktaking = tokio::time::interval(STOCKTAKING.min(link.wire.settings.keep_alive));
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        loop {
            let ready = self.up_since.is_some() && self.leaving.is_none() && self.paused_until.is_none();
            if ready && let Err(e) = self.fill(link) {
                self.store_failed(&e);
            }
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(Ok(Incoming::ConnAck(ack))) => self.begin(link, &ack),
                    Some(Ok(Incoming::Publish(publish))) => self.reply(link, publish),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None if self.leaving.is_some() => return End::Stopped,
                    Some(Err(e)) => return self.lost(link, &e),
                    None => return End::Lost("the MQTT client ended".into()),
                },
                answer = maybe(&mut self.subscribing) => self.up(link, answer),
                Some((sent, verdict)) = self.sent.next(), if !self.sent.is_empty() => self.settle(link, sent, verdict),
                Some((publish, committed)) = self.waiting_replies.next(), if !self.waiting_replies.is_empty() => {
                    let result = if committed { "committed" } else { "not_committed" };
                    counter!("gridwatch_replies_total", "result" => result).increment(1);
                    if !committed {
                        // A new connection makes the broker deliver it again.
                        return End::Lost("a reply could not be committed".into());
                    }
                    self.acknowledge(&publish);
                }
                room = daemon.reserve(), if !self.to_hand_over.is_empty() => match (room, self.to_hand_over.pop_front()) {
                    (Ok(room), Some(reply)) => room.send(reply),
                    _ => return End::Lost("the daemon takes no replies".into()),
                },
                Some(health) = link.health.recv() => if self.up_since.is_some() {
                    // Of the moment: a full channel means that there is more important traffic.
                    let _ = self.client.try_publish(link.wire.topics.health(), health, Wire::health_options());
                },
                stop = &mut *stopped, if self.leaving.is_none() => match stop {
                    Ok(()) if self.greeted => self.leave(link),
                    _ => return End::Stopped,
                },
                () = sleep_until(self.leaving.unwrap_or(far)) => return End::Stopped,
                () = sleep_until(self.paused_until.unwrap_or(far)) => self.paused_until = None,
                () = news.notified() => link.measure_outbox(),
                _ = stocktaking.tick() => {
                    link.measure_outbox();
                    // While the broker is away, what it said last is not settled.
                    if self.up_since.is_some_and(|up| up.elapsed() >= SETTLES) {
                        link.settle();
                    }
                    let patience = link.wire.settings.keep_alive * KEEP_ALIVES;
                    if self.seqs.values().any(|since| since.elapsed() > patience) {
                        return End::Lost(format!("the broker has not acknowledged a message for {} s", patience.as_secs()));
                    }
                }
            }
        }
    }

    /// The broker has us: say so, and listen for replies.
    fn begin(&mut self, link: &mut Link, ack: &ConnAck) {
        self.greeted = true;
        self.is_new_to_broker = !ack.session_present;
        self.max_packet = ack.properties.as_ref().and_then(|p| p.max_packet_size);
        info!(
            host = link.wire.settings.host,
            port = link.wire.settings.port,
            resumed = ack.session_present,
            "The broker has us."
        );
        let online = link.wire.status(Presence::Online, Some(Timestamp::now()));
        let status = self
            .client
            .try_publish(link.wire.topics.status(), online, Wire::status_options());
        // Retained messages on the reply topic would be said again at every connection.
        let filter = SubscribeFilterInput::new(link.wire.topics.reply(), QoS::AtLeastOnce)
            .retain_forward_rule(RetainForwardRule::Never);
        match (status, self.client.try_subscribe_many_tracked([filter])) {
            (Ok(()), Ok(notice)) => self.subscribing = Some(notice.wait_completion_async().boxed()),
            (status, subscribe) => error!(
                ?status,
                ?subscribe,
                "The first messages of a connection did not fit into its queue."
            ),
        }
    }

    /// The broker has answered our subscription: from here on cases go out, and what was sent in vain goes again.
    fn up(&mut self, link: &mut Link, answer: Result<(), SubscribeNoticeError>) {
        match answer {
            Ok(()) => {}
            Err(e @ SubscribeNoticeError::V5SubAckFailure(_)) => {
                let topic = link.wire.topics.reply();
                error!(topic, error = %e, "The broker does not let the box listen for replies; cases are sent all the same. Allow it in the broker's ACL.");
            }
            // The connection is gone, and its error is on its way to us.
            Err(_) => return,
        }
        self.up_since = Some(Instant::now());
        gauge!("gridwatch_link_connected").set(1.0);
        link.state.send_modify(|s| s.connected = true);
        let forgotten = match self.is_new_to_broker {
            true => link.store.outbox_forgotten(),
            false => Ok(0),
        };
        match forgotten.and_then(|rows| link.store.outbox_rewind().map(|()| rows)) {
            Ok(0) => {}
            Ok(rows) => info!(
                rows,
                "The broker does not know us any more; what it acknowledged last is sent again."
            ),
            Err(e) => self.store_failed(&e),
        }
    }

    /// Sends the oldest rows that may go, up to the window.
    fn fill(&mut self, link: &mut Link) -> Result<(), StoreError> {
        let window = if link.suspicious {
            1
        } else {
            usize::from(link.wire.settings.in_flight)
        };
        if self.seqs.len() >= window {
            return Ok(());
        }
        // The rows in flight are among the oldest: behind them there are enough for the window.
        for row in link.store.outbox_next(window + self.seqs.len())? {
            if self.seqs.len() >= window || self.paused_until.is_some() {
                break;
            }
            if !self.seqs.contains_key(&row.seq) {
                self.send(link, row)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, link: &mut Link, row: OutboxRow) -> Result<(), StoreError> {
        let kind = row.kind.as_str();
        let sent = Sent {
            seq: Some(row.seq),
            case_id: row.case_id,
            kind,
            topic: row.topic,
            since: Instant::now(),
        };
        let (payload, options) = match row.kind {
            OutboxKind::Case { json } => (json.into_bytes(), link.wire.case_options(&sent.case_id)),
            OutboxKind::Evidence { sha256 } => match evidence_file::read(link.store.dir(), &sha256) {
                Ok(bytes) => (bytes, Wire::evidence_options()),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                    let path = evidence_file::path(link.store.dir(), &sha256);
                    return quarantine(link, &sent, &format!("{}: {e}", path.display()));
                }
                Err(source) => {
                    let path = evidence_file::path(link.store.dir(), &sha256);
                    return Err(StoreError::Io {
                        doing: "read",
                        path,
                        source,
                    });
                }
            },
        };
        if !wire::fits(payload.len(), self.max_packet) {
            let reason = format!(
                "it has {} bytes, and the broker takes packets of {} at most",
                payload.len(),
                self.max_packet.unwrap_or_default()
            );
            return quarantine(link, &sent, &reason);
        }
        match self.client.try_publish_tracked(sent.topic.clone(), payload, options) {
            Ok(notice) => {
                self.seqs.extend(sent.seq.map(|seq| (seq, sent.since)));
                self.sent
                    .push(wire::verdict(notice).map(|verdict| (sent, verdict)).boxed());
                Ok(())
            }
            Err(rumqttc::ClientError::InvalidRequest(_)) => quarantine(link, &sent, "its topic is none"),
            // The client is gone, and its error is on its way to us.
            Err(_) => {
                self.pause(Duration::from_millis(100));
                Ok(())
            }
        }
    }

    /// The broker's word on a publish. The row is still in the outbox until here.
    fn settle(&mut self, link: &mut Link, sent: Sent, verdict: Verdict) {
        let Some(seq) = sent.seq else { return self.part() };
        self.seqs.remove(&seq);
        counter!("gridwatch_publish_total", "kind" => sent.kind, "result" => verdict.as_str()).increment(1);
        let done = match verdict {
            Verdict::Delivered => {
                histogram!("gridwatch_publish_seconds", "kind" => sent.kind).record(sent.since.elapsed().as_secs_f64());
                link.suspicious = false;
                self.pauses.reset();
                if sent.kind == "case" && std::mem::take(&mut link.unheard_said) {
                    info!(topic = sent.topic, "Somebody listens to the cases again.");
                }
                link.store.outbox_done(seq, Timestamp::now())
            }
            Verdict::Unheard => self.unheard(link, &sent, seq),
            Verdict::Refused(reason) => quarantine(link, &sent, &reason),
            Verdict::Busy(reason) => {
                let pause = self.pauses.next();
                warn!(
                    topic = sent.topic,
                    reason,
                    retry_ms = pause.as_millis() as u64,
                    "The broker is busy; the message is sent again."
                );
                self.pause(pause);
                Ok(())
            }
            Verdict::Lost => Ok(()),
        };
        if let Err(e) = done {
            self.store_failed(&e);
        }
        if self.leaving.is_none() {
            link.measure_outbox();
        }
        self.part();
    }

    /// The broker took it and nobody listens. A case that nobody hears is lost, so it stays until somebody does, and its
    /// pictures with it. Pictures alone may be wanted by nobody: then the case goes without waiting for them.
    fn unheard(&mut self, link: &mut Link, sent: &Sent, seq: i64) -> Result<(), StoreError> {
        if sent.kind == "case" {
            if !std::mem::replace(&mut link.unheard_said, true) {
                warn!(
                    topic = sent.topic,
                    "The broker has nobody to give our cases to; they are kept and sent again until somebody subscribes."
                );
            }
            let pause = self.pauses.next();
            self.pause(pause);
            return link.store.outbox_rewind();
        }
        if self.up_since.is_some_and(|up| up.elapsed() < UNHEARD_GRACE) {
            self.pause(Duration::from_millis(250));
            return Ok(());
        }
        if !std::mem::replace(&mut link.pictures_unheard_said, true) {
            warn!(
                topic = sent.topic,
                "The broker has nobody to give our pictures to; cases are sent all the same."
            );
        }
        link.store.outbox_unheard(seq)
    }

    fn reply(&mut self, link: &mut Link, publish: Publish) {
        if self.leaving.is_some() {
            return;
        }
        let full = publish.qos == QoS::AtMostOnce && self.waiting_replies.len() >= MAX_REPLIES;
        let read = match full {
            true => {
                counter!("gridwatch_replies_total", "result" => "flood").increment(1);
                debug!("A reply sent with QoS 0 was dropped: too many came at once.");
                return;
            }
            false => reply::read(&publish, &link.store, Timestamp::now()),
        };
        match read {
            Ok(Ok((message, reply))) => {
                info!(case = %reply.case, state = reply.state.as_str(), "The platform replied.");
                let (committed, answer) = oneshot::channel();
                self.to_hand_over.push_back(IncomingReply {
                    message,
                    reply,
                    committed,
                });
                self.waiting_replies
                    .push_back(answer.map(|committed| (publish, committed.is_ok())).boxed());
            }
            Ok(Err(forged)) => {
                counter!("gridwatch_replies_total", "result" => forged.as_str()).increment(1);
                // Debug form: whoever wrote it must not write into the log.
                warn!(reason = ?forged.to_string(), bytes = publish.payload.len(), "A message on the reply topic was thrown away.");
                self.waiting_replies.push_back(async move { (publish, true) }.boxed());
            }
            Err(e) => {
                self.store_failed(&e);
                self.waiting_replies.push_back(async move { (publish, false) }.boxed());
            }
        }
    }

    fn acknowledge(&self, publish: &Publish) {
        // An error means that the connection is gone: the reply comes again, and is applied twice to the same effect.
        let _ = self.client.try_ack(publish);
    }

    fn pause(&mut self, length: Duration) {
        self.paused_until = Some(Instant::now() + length);
    }

    fn store_failed(&mut self, e: &StoreError) {
        error!(error = %e, "The outbox cannot be worked on; it is tried again.");
        self.pause(STORE_PAUSE);
    }

    /// The connection ended by itself. Where the broker laid the blame on a message, the next connection sends one at a
    /// time; and where the same happens to that one, it is quarantined.
    fn lost(&self, link: &mut Link, e: &ConnectionError) -> End {
        if let Some(blame) = wire::blamed_on_message(e) {
            match self.seqs.keys().next() {
                Some(&seq) if link.suspicious && self.seqs.len() == 1 => {
                    match link.store.outbox_quarantine(seq, &blame) {
                        Ok(rows) => error!(
                            seq,
                            rows,
                            reason = blame,
                            "A message ends every connection; its case is quarantined. Remove the cause, then run: gridwatch outbox retry"
                        ),
                        Err(e) => error!(error = %e, "A message that ends every connection cannot be quarantined."),
                    }
                }
                _ => link.suspicious = true,
            }
        }
        End::Lost(wire::explain(e))
    }

    /// Says `offline`, behind what is in flight.
    fn leave(&mut self, link: &Link) {
        self.leaving = Some(Instant::now() + FAREWELL);
        let (topic, offline) = (
            link.wire.topics.status(),
            link.wire.status(Presence::Offline, Some(Timestamp::now())),
        );
        let sent = Sent {
            seq: None,
            case_id: String::new(),
            kind: "status",
            topic: topic.clone(),
            since: Instant::now(),
        };
        if let Ok(notice) = self.client.try_publish_tracked(topic, offline, Wire::status_options()) {
            self.sent
                .push(wire::verdict(notice).map(|verdict| (sent, verdict)).boxed());
        }
        self.part();
    }

    /// Taking leave, and nothing is in flight any more: disconnect.
    fn part(&self) {
        if self.leaving.is_some() && self.sent.is_empty() {
            // An error means that there is nobody to take leave of.
            let _ = self.client.try_disconnect();
        }
    }
}

/// Waits for `future` once, and for ever where there is none.
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

/// An operator must act: nothing of this case goes out before.
fn quarantine(link: &mut Link, sent: &Sent, reason: &str) -> Result<(), StoreError> {
    let Some(seq) = sent.seq else { return Ok(()) };
    let rows = link
        .store
        .outbox_quarantine(seq, &format!("{}: {reason}", sent.topic))?;
    // None: another message of the case was refused first, and that has been said.
    if rows > 0 {
        error!(
            case = sent.case_id,
            topic = sent.topic,
            reason,
            rows,
            "A message can never be delivered; its case is quarantined. Remove the cause, then run: gridwatch outbox retry"
        );
    }
    Ok(())
}
