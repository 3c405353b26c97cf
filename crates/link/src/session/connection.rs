//! One connection, from its greeting to its end: what comes in, and when what goes out.

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

use super::{End, Link, SETTLES, sending::Sent};
use crate::{
    backoff::Backoff,
    reply::{self, IncomingReply},
    wire::{
        Blame, Client, ConnAck, Disconnect, Event, EventLoop, Message, MessageKind, OutboundMessage, Receipt,
        SubscribeOutcome, Verdict, Wanted,
    },
};
use gridwatch_contract::Presence;
use gridwatch_store::StoreError;

/// Rows released by another process (`gridwatch outbox retry`) are found within this time.
const STOCKTAKING: Duration = Duration::from_secs(15);

/// A broker that says nothing of a message for so many keep-alives has forgotten it; a slow line may take one or two for the pictures
/// before it.
const KEEP_ALIVES: u32 = 4;

/// After the store failed: disks recover slowly or not at all.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// How long taking leave may last.
const FAREWELL: Duration = Duration::from_secs(4);

/// QoS 0 replies have no flow control: more than this many at once are dropped.
const MAX_REPLIES: usize = 64;

impl Link {
    /// Lives one connection.
    pub(super) async fn connection(&mut self, stopped: &mut oneshot::Receiver<()>) -> End {
        let (client, line) = self.wire.connect();
        let (events_in, events) = mpsc::channel(32);
        // The event loop runs beside us: what we wait for must not keep it from answering the broker.
        let pump = tokio::spawn(pump(line, events_in));
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
            unanswered_claims: 0,
        };
        let end = connection.live(self, stopped).await;
        pump.abort();
        end
    }
}

/// Drives the client. What ended the connection is passed on before the client is dropped, so that it is known before its
/// publishes are lost.
async fn pump(mut line: Box<dyn EventLoop>, events: mpsc::Sender<Event>) {
    loop {
        let event = line.next().await;
        let last = matches!(event, Event::Ended(_));
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

/// One connection.
pub(super) struct Connection {
    pub(super) client: Box<dyn Client>,
    events: mpsc::Receiver<Event>,
    /// Letters whose acknowledgement is awaited.
    pub(super) sent: FuturesUnordered<BoxFuture<'static, (Sent, Verdict)>>,
    /// The outbox rows among `sent`, and since when.
    pub(super) seqs: BTreeMap<i64, Instant>,
    /// Replies that the daemon had no room for yet.
    to_hand_over: VecDeque<IncomingReply>,
    /// Handed to the daemon or about to be, in the order they came: MQTT wants them acknowledged in that order.
    waiting_replies: FuturesOrdered<BoxFuture<'static, (Receipt, bool)>>,
    /// The broker has us: a farewell is due.
    greeted: bool,
    /// The broker knows nothing of us: it is another, or has lost its memory, and with it perhaps what it acknowledged last.
    is_new_to_broker: bool,
    /// The broker's answers to our subscriptions: to replies, and to other boxes' claims.
    subscribing: Option<BoxFuture<'static, (SubscribeOutcome, SubscribeOutcome)>>,
    /// Since when the broker has us and replies reach us: no case is sent before its answer could be heard.
    pub(super) up_since: Option<Instant>,
    /// Largest packet the broker takes.
    pub(super) max_packet: Option<u32>,
    pub(super) paused_until: Option<Instant>,
    pub(super) pauses: Backoff,
    /// Taking leave, until then at most.
    pub(super) leaving: Option<Instant>,
    /// Claims among `sent`.
    pub(super) unanswered_claims: usize,
}

impl Connection {
    async fn live(mut self, link: &mut Link, stopped: &mut oneshot::Receiver<()>) -> End {
        let news = link.store.news();
        let daemon = link.replies.clone();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut stocktaking = tokio::time::interval(STOCKTAKING.min(link.wire.settings.keep_alive));
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        loop {
            let ready = self.up_since.is_some() && self.leaving.is_none() && self.paused_until.is_none();
            if ready && let Err(e) = self.fill(link) {
                self.store_failed(&e);
            }
            if self.up_since.is_some() && self.leaving.is_none() {
                self.say_claims(link);
            }
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(Event::Greeted(greeting)) => self.begin(link, greeting),
                    Some(Event::Message(message)) => match &link.sites {
                        Some(sites) if sites.holds(&message.topic) => self.claim(link, message),
                        _ => self.reply(link, message),
                    },
                    Some(Event::Ended(_)) | None if self.leaving.is_some() => return End::Stopped,
                    Some(Event::Ended(trouble)) => return self.lost(link, trouble),
                    None => return End::Lost("the MQTT client ended".into()),
                },
                answers = maybe(&mut self.subscribing) => self.up(link, answers),
                Some((sent, verdict)) = self.sent.next(), if !self.sent.is_empty() => self.settle(link, sent, verdict),
                Some((receipt, committed)) = self.waiting_replies.next(), if !self.waiting_replies.is_empty() => {
                    let result = if committed { "committed" } else { "not_committed" };
                    counter!("gridwatch_replies_total", "result" => result).increment(1);
                    if !committed {
                        // A new connection makes the broker deliver it again.
                        return End::Lost("a reply could not be committed".into());
                    }
                    receipt.give();
                }
                room = daemon.reserve(), if !self.to_hand_over.is_empty() => match (room, self.to_hand_over.pop_front()) {
                    (Ok(room), Some(reply)) => room.send(reply),
                    _ => return End::Lost("the daemon takes no replies".into()),
                },
                Some(health) = link.health.recv() => if self.up_since.is_some() {
                    // Of the moment: a full queue means that there is more important traffic.
                    let letter = OutboundMessage { topic: link.wire.topics.health(), payload: health.into_bytes(), sort: MessageKind::Health };
                    let _ = self.client.send(letter);
                },
                stop = &mut *stopped, if self.leaving.is_none() => match stop {
                    Ok(()) if self.greeted => self.leave(link),
                    _ => return End::Stopped,
                },
                () = sleep_until(self.leaving.unwrap_or(far)) => return End::Stopped,
                () = sleep_until(self.paused_until.unwrap_or(far)) => self.paused_until = None,
                () = news.notified() => {
                    link.measure_outbox();
                    self.own_claims(link);
                }
                _ = second.tick(), if link.sites.is_some() && self.up_since.is_some() => self.claims_wait(link),
                _ = stocktaking.tick() => {
                    link.measure_outbox();
                    // What another process did, and what failed before.
                    self.own_claims(link);
                    // While the broker is away, what it said last is not settled.
                    if self.up_since.is_some_and(|up| up.elapsed() >= SETTLES) {
                        link.settle();
                    }
                    let patience = link.wire.settings.keep_alive * KEEP_ALIVES;
                    if self.seqs.values().any(|since| since.elapsed() > patience) {
                        let said = format!("the broker has not acknowledged a message for {} s", patience.as_secs());
                        return self.lost(link, Disconnect { said, blame: Blame::Silence });
                    }
                }
            }
        }
    }

    /// The broker has us: say so, and listen for replies.
    fn begin(&mut self, link: &mut Link, greeting: ConnAck) {
        self.greeted = true;
        if let Some(sites) = &mut link.sites {
            sites.greeted(!greeting.session_present);
        }
        self.is_new_to_broker = !greeting.session_present;
        self.max_packet = greeting.max_packet;
        info!(
            host = link.wire.settings.host,
            port = link.wire.settings.port,
            protocol = link.wire.settings.protocol.as_str(),
            resumed = greeting.session_present,
            "The broker has us."
        );
        let online = link.wire.status(Presence::Online, Some(Timestamp::now()));
        // Retained messages on the reply topic would be said again at every connection.
        let replies = self.client.listen(vec![link.wire.topics.reply()], Wanted::New);
        let claims = link.sites.as_ref().map_or_else(
            || Ok(std::future::ready(SubscribeOutcome::Yes).boxed()),
            |sites| self.client.listen(sites.filters(), Wanted::Retained),
        );
        match (self.client.send(online), replies, claims) {
            (Ok(_), Ok(replies), Ok(claims)) => self.subscribing = Some(futures::future::join(replies, claims).boxed()),
            (status, replies, claims) => error!(
                status = ?status.err(),
                replies = ?replies.err(),
                claims = ?claims.err(),
                "The first messages of a connection did not fit into its queue."
            ),
        }
    }

    /// The broker has answered our subscriptions: from here on cases go out, and what was sent in vain goes again.
    fn up(&mut self, link: &mut Link, (replies, claims): (SubscribeOutcome, SubscribeOutcome)) {
        match replies {
            SubscribeOutcome::Yes => {}
            SubscribeOutcome::Forbidden(reason) => {
                let topic = link.wire.topics.reply();
                error!(
                    topic,
                    reason,
                    "The broker does not let the box listen for replies; cases are sent all the same. Allow it in the broker's ACL."
                );
            }
            // The connection is gone, and its error is on its way to us.
            SubscribeOutcome::Lost => return,
        }
        self.up_since = Some(Instant::now());
        gauge!("gridwatch_link_connected").set(1.0);
        link.state.send_modify(|s| s.connected = true);
        if let Err(e) = link.take_up(self.is_new_to_broker) {
            self.store_failed(&e);
        }
        self.begin_claims(link, claims);
    }

    /// Acknowledges a message in its turn.
    pub(super) fn take(&mut self, receipt: Receipt) {
        self.waiting_replies.push_back(async move { (receipt, true) }.boxed());
    }

    fn reply(&mut self, link: &mut Link, message: Message) {
        if self.leaving.is_some() {
            return;
        }
        if message.is_fleeting && self.waiting_replies.len() >= MAX_REPLIES {
            counter!("gridwatch_replies_total", "result" => "flood").increment(1);
            debug!("A reply sent with QoS 0 was dropped: too many came at once.");
            return;
        }
        let receipt = message.receipt;
        match reply::read(
            &message.payload,
            message.is_retained,
            message.correlation.as_deref(),
            &link.store,
        ) {
            Ok(Ok((message, reply))) => {
                info!(case = %reply.case, state = reply.state.as_str(), "The platform replied.");
                let (committed, answer) = oneshot::channel();
                self.to_hand_over.push_back(IncomingReply {
                    message,
                    reply,
                    committed,
                });
                self.waiting_replies
                    .push_back(answer.map(|committed| (receipt, committed.is_ok())).boxed());
            }
            Ok(Err(forged)) => {
                counter!("gridwatch_replies_total", "result" => forged.as_str()).increment(1);
                // Debug form: whoever wrote it must not write into the log.
                warn!(reason = ?forged.to_string(), bytes = message.payload.len(), "A message on the reply topic was thrown away.");
                self.waiting_replies.push_back(async move { (receipt, true) }.boxed());
            }
            Err(e) => {
                self.store_failed(&e);
                self.waiting_replies.push_back(async move { (receipt, false) }.boxed());
            }
        }
    }

    pub(super) fn pause(&mut self, length: Duration) {
        self.paused_until = Some(Instant::now() + length);
    }

    pub(super) fn store_failed(&mut self, e: &StoreError) {
        error!(error = %e, "The outbox cannot be worked on; it is tried again.");
        self.pause(STORE_PAUSE);
    }

    fn lost(&self, link: &mut Link, trouble: Disconnect) -> End {
        let in_flight: Vec<i64> = self.seqs.keys().copied().collect();
        link.lost(&in_flight, trouble, self.greeted)
    }

    /// Says `offline`, behind what is in flight.
    fn leave(&mut self, link: &Link) {
        self.leaving = Some(Instant::now() + FAREWELL);
        let offline = link.wire.status(Presence::Offline, Some(Timestamp::now()));
        let sent = Sent::status(offline.topic.clone());
        if let Ok(verdict) = self.client.send(offline) {
            self.sent.push(verdict.map(|verdict| (sent, verdict)).boxed());
        }
        self.part();
    }

    /// Taking leave, and nothing is in flight any more: disconnect.
    pub(super) fn part(&self) {
        if self.leaving.is_some() && self.sent.is_empty() {
            self.client.leave();
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
