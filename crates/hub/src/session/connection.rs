//! One connection, from CONNECT to its end.

use std::{collections::VecDeque, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use gridwatch_contract::{ReceiptMessage, Topics, platform_filters};
use gridwatch_mqtt::{
    AckHandle, Client, ConnAck, Disconnect, DisconnectCause, EnqueueError, Event, InboundMessage, OutboundMessage,
    PublishOutcome, RetainHandling, SubscribeOutcome, connect, pump,
};
use jiff::Timestamp;
use metrics::counter;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{interval, timeout},
};
use tracing::{info, warn};

use super::{
    OUTGOING, Session, announcement, ends,
    replies::{self, Outgoing},
    workers::{Done, Job, Workers},
};
use crate::{database::Database, metric};

/// Time for the broker to close the connection after DISCONNECT.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Health messages (QoS 0, without flow control) that wait to be taken, at most; more are dropped, as the next ones come within a minute.
const MAX_UNCONTROLLED: usize = 256;

/// How often confirmed keys are looked for.
const CONFIRMATIONS_EVERY: Duration = Duration::from_secs(2);

/// Maximum size of a QoS 0 message, in bytes. QoS 0 has no flow control, so this bounds the memory that such messages take.
const MAX_UNCONTROLLED_BYTES: usize = 256 << 10;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    Shutdown,
    /// Temporary: try again.
    Lost(String),
    /// Not temporary: the operator must change a setting here or at the broker.
    Unusable(String),
}

/// What was published.
enum Published {
    Announcement,
    /// A receipt, for the message at this place; `None` without one.
    Receipt(Option<u64>),
    Reply(oneshot::Sender<PublishOutcome>),
}

type Outcome = BoxFuture<'static, (Published, PublishOutcome)>;

pub(super) struct Connection<'a> {
    session: &'a Session,
    since: &'a mut Timestamp,
    client: Box<dyn Client>,
    workers: Workers,
    /// Place of the first message in `unacknowledged`.
    first: u64,
    /// Messages in the order in which they came, until they are acknowledged.
    unacknowledged: VecDeque<(AckHandle, bool)>,
    uncontrolled: usize,
    waiting: VecDeque<(Published, OutboundMessage)>,
    outcomes: FuturesUnordered<Outcome>,
    subscriptions: FuturesUnordered<BoxFuture<'static, SubscribeOutcome>>,
}

impl<'a> Connection<'a> {
    /// Runs a connection until it ends.
    pub(super) async fn run(
        session: &'a Session,
        since: &'a mut Timestamp,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Ended {
        let settings = &session.settings;
        let (client, event_loop) = connect(&settings.connect);
        let (events_in, mut events) = mpsc::channel(4);
        let (done_in, mut done) = mpsc::unbounded_channel();
        let (replies_in, mut outgoing) = mpsc::channel(usize::from(OUTGOING));
        // They end with this function.
        let mut tasks = JoinSet::new();
        tasks.spawn(pump(event_loop, events_in));
        let mut connection = Self {
            session,
            since,
            client,
            workers: Workers::start(&session.ingest, &settings.prefix, settings.group.is_some(), &done_in),
            first: 0,
            unacknowledged: VecDeque::new(),
            uncontrolled: 0,
            waiting: VecDeque::new(),
            outcomes: FuturesUnordered::new(),
            subscriptions: FuturesUnordered::new(),
        };
        let (confirmed_in, mut confirmed) = mpsc::channel(1);
        let mut senders = Some((replies_in, confirmed_in));
        loop {
            let has_room = connection.waiting.len() < usize::from(OUTGOING);
            tokio::select! {
                () = ends(shutdown) => {
                    connection.disconnect(&mut events).await;
                    return Ended::Shutdown;
                }
                event = events.recv() => match event {
                    Some(Event::Connected(ack)) => {
                        if let Err(ended) = connection.begin(ack) {
                            return ended;
                        }
                    }
                    Some(Event::Message(message)) => connection.receive(message),
                    Some(Event::Disconnected(disconnect)) => return ended(disconnect),
                    None => return Ended::Lost("the connection ended".into()),
                },
                Some(outcome) = connection.subscriptions.next() => {
                    if let Some(ended) = subscribed(outcome) {
                        connection.disconnect(&mut events).await;
                        return ended;
                    }
                    if connection.subscriptions.is_empty() {
                        connection.is_ready();
                        if let Some((replies_in, confirmed_in)) = senders.take() {
                            tasks.spawn(replies::send_all(session.database.clone(), replies_in));
                            tasks.spawn(watch_confirmations(session.database.clone(), confirmed_in));
                        }
                    }
                }
                Some(done) = done.recv() => connection.done(done),
                Some((published, outcome)) = connection.outcomes.next() => connection.published(published, outcome),
                Some(()) = confirmed.recv() => {
                    // Boxes send at once what was refused before.
                    *connection.since = Timestamp::now();
                    if let Err(ended) = connection.announce() {
                        return ended;
                    }
                }
                Some(outgoing) = outgoing.recv(), if has_room => connection.reply(outgoing),
            }
            connection.flush();
        }
    }

    /// Announces and subscribes.
    fn begin(&mut self, ack: ConnAck) -> Result<(), Ended> {
        let settings = &self.session.settings;
        if settings.group.is_some() && !ack.limits.has_shared_subscriptions {
            return Err(Ended::Unusable(
                "the broker has no shared subscriptions: run one hub without --group, or use another broker".into(),
            ));
        }
        if !ack.session_present {
            // The broker may have lost what it had acknowledged to boxes.
            *self.since = Timestamp::now();
        }
        self.announce()?;
        let filters = platform_filters(&settings.prefix);
        let is_status = |filter: &&String| filter.ends_with("/status");
        // Not shared: those who join a shared subscription get no retained messages.
        let status: Vec<String> = filters.iter().filter(is_status).cloned().collect();
        let others = filters.iter().filter(|filter| !is_status(filter));
        let others: Vec<String> = match &settings.group {
            Some(group) => others.map(|filter| format!("$share/{group}/{filter}")).collect(),
            None => others.cloned().collect(),
        };
        for (filters, retain) in [
            (status, RetainHandling::SendRetained),
            (others, RetainHandling::SkipRetained),
        ] {
            match self.client.subscribe(filters, retain) {
                Ok(outcome) => self.subscriptions.push(outcome),
                Err(error) => return Err(Ended::Unusable(format!("cannot subscribe: {error}"))),
            }
        }
        Ok(())
    }

    fn announce(&mut self) -> Result<(), Ended> {
        let message = announcement(&self.session.settings, *self.since).map_err(|e| Ended::Unusable(e.to_string()))?;
        self.waiting.push_back((Published::Announcement, message));
        Ok(())
    }

    fn is_ready(&self) {
        let session = self.session;
        info!(broker = %session.broker(), prefix = session.settings.prefix, "Connected to MQTT broker; receiving cases");
        metrics::gauge!(metric::CONNECTED).set(1.0);
    }

    fn receive(&mut self, message: InboundMessage) {
        let place = if message.is_qos0 {
            // Boxes send only their health so, without flow control.
            let is_health = message.topic.ends_with("/health");
            if !is_health || self.uncontrolled >= MAX_UNCONTROLLED || message.payload.len() > MAX_UNCONTROLLED_BYTES {
                counter!(metric::MESSAGES, "kind" => "other", "result" => "dropped").increment(1);
                return;
            }
            self.uncontrolled += 1;
            None
        } else {
            self.unacknowledged.push_back((message.ack, false));
            Some(self.first + self.unacknowledged.len() as u64 - 1)
        };
        self.workers.take(Job {
            place,
            topic: message.topic,
            payload: message.payload,
        });
    }

    fn done(&mut self, done: Done) {
        if done.is_uncontrolled {
            self.uncontrolled = self.uncontrolled.saturating_sub(1);
        }
        let Some((node, receipt)) = done.receipt else {
            self.acknowledge(done.place);
            return;
        };
        match receipt_message(&self.session.settings.prefix, &node, &receipt) {
            Ok(message) => self.waiting.push_back((Published::Receipt(done.place), message)),
            Err(error) => {
                warn!(%error, case = receipt.case_id, "Cannot write a receipt");
                self.acknowledge(done.place);
            }
        }
        let result = if receipt.missing.is_empty() {
            "complete"
        } else {
            "missing"
        };
        counter!(metric::RECEIPTS, "result" => result).increment(1);
    }

    fn reply(&mut self, outgoing: Outgoing) {
        let topic = Topics::new(&self.session.settings.prefix, &outgoing.reply.node.as_str().into()).reply();
        let message = OutboundMessage {
            correlation: Some(outgoing.reply.case_id.clone().into()),
            ..OutboundMessage::json(topic, outgoing.reply.payload)
        };
        self.waiting.push_back((Published::Reply(outgoing.outcome), message));
    }

    /// Publishes what waits, as far as there is room: no more than so many publishes are without an outcome, so that acknowledgements always find a
    /// place in the client's queue.
    fn flush(&mut self) {
        while self.outcomes.len() < usize::from(OUTGOING) {
            let Some((published, message)) = self.waiting.pop_front() else {
                return;
            };
            let place = match &published {
                Published::Receipt(place) => *place,
                _ => None,
            };
            match self.client.send(message.clone()) {
                Ok(outcome) => {
                    self.outcomes.push(Box::pin(async move { (published, outcome.await) }));
                    // A receipt that is lost now is given again when the box repeats its case.
                    self.acknowledge(place);
                }
                Err(EnqueueError::InvalidTopic) => {
                    warn!(topic = ?message.topic, "Cannot publish to a topic that is not one");
                    self.acknowledge(place);
                }
                // The end of the connection follows.
                Err(EnqueueError::QueueFull) => {
                    self.waiting.push_front((published, message));
                    return;
                }
            }
        }
    }

    #[allow(clippy::needless_pass_by_value, reason = "the outcome ends here")]
    fn published(&mut self, published: Published, outcome: PublishOutcome) {
        match published {
            Published::Reply(answer) => {
                // The task that waits for it ends with the connection.
                let _ = answer.send(outcome);
            }
            Published::Announcement => {
                if let PublishOutcome::Rejected(reason) = outcome {
                    warn!(
                        reason,
                        "The broker refuses the announcement of receipts; allow the hub to write PREFIX/v1/platform"
                    );
                }
            }
            Published::Receipt(_) => {
                if let PublishOutcome::Rejected(reason) = outcome {
                    warn!(
                        reason,
                        "The broker refuses a receipt; allow the hub to write PREFIX/v1/+/receipt"
                    );
                }
            }
        }
    }

    /// Marks a message as done, and acknowledges all up to the first one that is not.
    fn acknowledge(&mut self, place: Option<u64>) {
        let Some(place) = place else { return };
        let index = usize::try_from(place - self.first).unwrap_or(usize::MAX);
        if let Some((_, is_done)) = self.unacknowledged.get_mut(index) {
            *is_done = true;
        }
        while self.unacknowledged.front().is_some_and(|(_, is_done)| *is_done) {
            if let Some((ack, _)) = self.unacknowledged.pop_front() {
                ack.ack();
                self.first += 1;
            }
        }
    }

    async fn disconnect(&mut self, events: &mut mpsc::Receiver<Event>) {
        self.client.disconnect();
        let end = async {
            while let Some(event) = events.recv().await {
                if matches!(event, Event::Disconnected(_)) {
                    return;
                }
            }
        };
        let _ = timeout(DISCONNECT_TIMEOUT, end).await;
    }
}

/// Tells when a key of a box was confirmed.
async fn watch_confirmations(database: Database, confirmed: mpsc::Sender<()>) {
    let mut ticks = interval(CONFIRMATIONS_EVERY);
    let mut last = None;
    loop {
        ticks.tick().await;
        // While the database does not answer, nothing is confirmed either.
        let Ok(newest) = database.last_confirmation().await else {
            continue;
        };
        if last.replace(newest).is_some_and(|before| before != newest) && confirmed.send(()).await.is_err() {
            return;
        }
    }
}

fn receipt_message(prefix: &str, node: &str, receipt: &ReceiptMessage) -> Result<OutboundMessage, serde_json::Error> {
    let topic = Topics::new(prefix, &node.into()).receipt();
    Ok(OutboundMessage::json(topic, serde_json::to_vec(receipt)?))
}

fn subscribed(outcome: SubscribeOutcome) -> Option<Ended> {
    match outcome {
        SubscribeOutcome::Granted => None,
        SubscribeOutcome::Denied(reason) => Some(Ended::Unusable(format!(
            "the broker denies a subscription ({reason}): allow the hub to read PREFIX/v1/+/case, evidence/+, status and health"
        ))),
        SubscribeOutcome::Downgraded => Some(Ended::Unusable(
            "the broker grants QoS 0 only, with which cases are lost: allow QoS 1".into(),
        )),
        SubscribeOutcome::Lost => Some(Ended::Lost("the connection ended while subscribing".into())),
    }
}

fn ended(disconnect: Disconnect) -> Ended {
    match disconnect.cause {
        DisconnectCause::TakenOver => Ended::Unusable(
            "another client connected with this client id: give each hub on a broker its own --client-id".into(),
        ),
        DisconnectCause::Unsuitable(_) => Ended::Unusable(disconnect.message),
        _ => Ended::Lost(disconnect.message),
    }
}
