//! Runs one MQTT connection after another until the link is stopped. Each connection publishes the outbox from its oldest
//! row and ends at the first error.
//!
//! Little survives a connection: the reconnect delay, which message may have broken earlier connections, and which
//! warnings were logged already.

mod connection;
mod duplicate;
mod replies;
mod sender;
mod sending;
mod sites;

use std::time::Duration;

use jiff::Timestamp;
use metrics::gauge;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tracing::{debug, error, info, warn};

pub use self::duplicate::find_duplicate;
use self::{duplicate::DuplicateWatch, sites::SiteClaims};
use super::{
    LinkProblem, LinkState, SiteSharing, connector::Connector, limit::ReplyLimit, poison::PoisonMessageDetector,
    reply::IncomingReply, shortcomings,
};
use gridwatch_base::{backoff::Backoff, log_limit::LogLimit, metric};
use gridwatch_contract::{Form, PlatformMessage};
use gridwatch_mqtt::{Disconnect, DisconnectCause};
use gridwatch_store::{OutboxState, Store};

/// After this long on a live connection, the broker has forwarded what it acknowledged. A broker that crashes sooner may
/// have lost messages it acknowledged, so they are kept for re-sending until then.
const FORWARDED_AFTER: Duration = Duration::from_secs(60);

/// A connection that lasted this long resets the reconnect delay.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// First and longest delay between connections.
const RECONNECT_DELAYS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Delay before the next attempt where only an operator can help. It is short enough to see that one did.
const SLOW_RETRY: Duration = Duration::from_secs(60);

/// How often an operator's request is looked for.
const REQUEST_POLL: Duration = Duration::from_secs(1);

/// How a connection ended.
enum ConnectionEnd {
    /// The link was told to stop, or its handle was dropped.
    Stopped,
    /// The connection failed, or was not opened; the reason as a sentence.
    Lost(LinkProblem, String),
}

impl ConnectionEnd {
    fn lost(reason: impl Into<String>) -> Self {
        Self::Lost(LinkProblem::Unreachable, reason.into())
    }
}

/// State that outlives a connection.
pub(super) struct Session {
    pub(super) connector: Connector,
    pub(super) store: Store,
    replies: mpsc::Sender<IncomingReply>,
    health: mpsc::Receiver<String>,
    state: watch::Sender<LinkState>,
    poison: PoisonMessageDetector,
    /// This connection delivered at least one outbox message.
    has_delivered: bool,
    /// "No subscriber for cases" has been logged and still holds.
    warned_no_case_subscriber: bool,
    /// "No subscriber for pictures" has been logged.
    warned_no_picture_subscriber: bool,
    /// Limits replies per case.
    reply_limit: ReplyLimit,
    /// Limits receipts per case.
    pub(super) receipt_limit: ReplyLimit,
    /// Limits log lines about invalid messages.
    pub(super) log_limit: LogLimit,
    /// What the platform announced last.
    pub(super) platform: Option<PlatformMessage>,
    /// How records are queued.
    pub(super) form: Form,
    /// Present if sites are shared with other boxes.
    sites: Option<SiteClaims>,
    duplicate: DuplicateWatch,
}

/// Connects a session with the link's handle and the daemon.
pub(super) struct Channels {
    /// Replies to the daemon.
    pub(super) replies: mpsc::Sender<IncomingReply>,
    /// Health messages to publish.
    pub(super) health: mpsc::Receiver<String>,
    /// Connection state for the handle.
    pub(super) state: watch::Sender<LinkState>,
}

impl Session {
    pub(super) fn new(connector: Connector, store: Store, channels: Channels, sharing: Option<SiteSharing>) -> Self {
        // Not known: as if nothing was announced; the retained announcement follows.
        let platform = store.platform().unwrap_or_else(|error| {
            warn!(%error, "Cannot read what the platform announced last");
            None
        });
        let form = Form {
            topics: connector.topics.clone(),
            template: connector.settings.template.clone(),
            shares_sites: None,
        };
        Self {
            sites: sharing.and_then(|sharing| SiteClaims::new(&connector, sharing)),
            connector,
            store,
            replies: channels.replies,
            health: channels.health,
            state: channels.state,
            poison: PoisonMessageDetector::default(),
            has_delivered: false,
            warned_no_case_subscriber: false,
            warned_no_picture_subscriber: false,
            duplicate: DuplicateWatch::new(),
            reply_limit: ReplyLimit::default(),
            receipt_limit: ReplyLimit::default(),
            platform,
            form,
            log_limit: LogLimit::default(),
        }
    }

    /// Runs connections until `stopped` fires.
    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut backoff = Backoff::new(RECONNECT_DELAYS.0, RECONNECT_DELAYS.1);
        loop {
            self.update_outbox_gauges();
            let begun = Instant::now();
            let conflict = tokio::select! {
                conflict = self.duplicate.conflict(&self.connector) => conflict,
                _ = &mut stopped => return,
            };
            let end = match conflict {
                Some(reason) => ConnectionEnd::Lost(LinkProblem::DuplicateNodeId, reason),
                None => self.connection(&mut stopped).await,
            };
            let ConnectionEnd::Lost(problem, reason) = end else {
                self.set_state(|s| s.connected = false);
                return;
            };
            if std::mem::take(&mut self.has_delivered) || begun.elapsed() >= STABLE_AFTER {
                backoff.reset();
            }
            let pause = match problem {
                LinkProblem::Unreachable => backoff.next_delay(fastrand::f64()),
                LinkProblem::Unsuitable | LinkProblem::DuplicateNodeId => SLOW_RETRY,
            };
            self.report_lost(problem, reason, pause);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.take_over_request(), if problem == LinkProblem::DuplicateNodeId => {}
                _ = &mut stopped => return,
            }
        }
    }

    /// Logs and publishes why the connection was lost. A repeated reason is logged at debug level.
    fn report_lost(&self, problem: LinkProblem, reason: String, pause: Duration) {
        let (host, port) = (&self.connector.settings.host, self.connector.settings.port);
        let is_new = {
            let s = self.state.borrow();
            s.connected || s.last_error.as_ref() != Some(&reason)
        };
        let retry_ms = pause.as_millis() as u64;
        match problem {
            _ if !is_new => debug!(host, port, reason, retry_ms, "Still not connected to the MQTT broker"),
            LinkProblem::Unreachable => warn!(
                host,
                port, reason, retry_ms, "Broker unreachable; cases stay queued in the outbox"
            ),
            LinkProblem::Unsuitable => error!(
                host,
                port,
                reason,
                retry_ms,
                "Broker cannot serve this box; no case is published, cases stay queued in the outbox"
            ),
            LinkProblem::DuplicateNodeId => error!(
                host,
                port,
                reason,
                retry_ms,
                "Another box uses this node id; this one publishes no case, cases stay queued in the outbox"
            ),
        }
        self.set_state(|s| {
            if std::mem::take(&mut s.connected) {
                s.down_since = Some(Timestamp::now());
            }
            s.problem = Some(problem);
            s.last_error = Some(reason);
        });
    }

    /// Changes the state, and the gauges that show it.
    fn set_state(&self, change: impl FnOnce(&mut LinkState)) {
        self.state.send_modify(change);
        let state = self.state.borrow();
        gauge!(metric::LINK_CONNECTED).set(if state.connected { 1.0 } else { 0.0 });
        for problem in LinkProblem::ALL {
            let is = if state.problem == Some(problem) { 1.0 } else { 0.0 };
            gauge!(metric::LINK_PROBLEM, "problem" => problem.as_str()).set(is);
        }
    }

    /// A message of the outbox was sent.
    fn row_sent(&self) {
        self.state.send_if_modified(|s| {
            let is_first = s.unacknowledged_since.is_none();
            s.unacknowledged_since.get_or_insert_with(Timestamp::now);
            is_first
        });
    }

    /// The broker acknowledged a message of the outbox, and has `in_flight` more to acknowledge.
    fn row_acknowledged(&self, in_flight: usize) {
        self.state
            .send_modify(|s| s.unacknowledged_since = (in_flight > 0).then(Timestamp::now));
    }

    /// Completes when an operator requests that this box uses its node id although another one does.
    async fn take_over_request(&self) {
        let Some(installation) = &self.connector.settings.installation else {
            return std::future::pending().await;
        };
        while !installation.has_take_over_request() {
            sleep(REQUEST_POLL).await;
        }
    }

    /// Handles a connection that the broker or the network ended, and quarantines the outbox message that caused it once
    /// that message is identified.
    fn lost(&mut self, in_flight: &[i64], disconnect: Disconnect, was_connected: bool) -> ConnectionEnd {
        if let Some((seq, reason)) = self.poison.connection_ended(in_flight, &disconnect.cause) {
            match self.store.outbox_quarantine(seq, &reason) {
                Ok(rows) => error!(
                    seq,
                    rows,
                    reason,
                    "Message breaks every connection; its case is quarantined. Fix the cause, then run: gridwatch outbox retry"
                ),
                Err(e) => error!(error = %e, "Cannot quarantine a message that breaks every connection"),
            }
        }
        match disconnect.cause {
            DisconnectCause::Unsuitable(lacking) => {
                let reason = shortcomings::without(lacking).to_owned();
                return ConnectionEnd::Lost(LinkProblem::Unsuitable, reason);
            }
            DisconnectCause::NoReason if was_connected => self.duplicate.closed_without_reason(),
            DisconnectCause::TakenOver => {
                if let Some(conflict) = self.duplicate.taken_over(Instant::now()) {
                    return ConnectionEnd::Lost(LinkProblem::DuplicateNodeId, conflict);
                }
            }
            DisconnectCause::NoReason | DisconnectCause::Unrelated | DisconnectCause::Outgoing(_) => {}
        }
        ConnectionEnd::lost(disconnect.message)
    }

    /// Deletes rows that were acknowledged longer than [`FORWARDED_AFTER`] ago.
    fn delete_forwarded(&mut self) {
        let then = Timestamp::now()
            .saturating_sub(FORWARDED_AFTER)
            .unwrap_or(Timestamp::MIN);
        if let Err(e) = self.store.outbox_forget_acknowledged(then) {
            warn!(error = %e, "Cannot delete acknowledged messages from the outbox");
        }
    }

    pub(super) fn update_outbox_gauges(&self) {
        if self.sites.is_some() {
            match self.store.held_back(u32::MAX) {
                Ok(held_back) => gauge!(metric::HELD_BACK).set(held_back.len() as f64),
                Err(e) => warn!(error = %e, "Cannot read which cases are held back"),
            }
        }
        match self.store.outbox_depth() {
            Ok(depth) => {
                gauge!(metric::OUTBOX_DEPTH).set(depth.waiting as f64);
                gauge!(metric::OUTBOX_QUARANTINED).set(depth.quarantined as f64);
                let states = [depth.waiting, depth.sent, depth.missing, depth.quarantined];
                for (state, messages) in OutboxState::ALL.into_iter().zip(states) {
                    gauge!(metric::OUTBOX_MESSAGES, "state" => state.as_str()).set(f64::from(messages));
                }
                let age = depth
                    .unreceived_since
                    .map(|since| Timestamp::now().duration_since(since).as_secs_f64());
                gauge!(metric::OUTBOX_UNRECEIVED_SECONDS).set(age.unwrap_or(0.0));
            }
            Err(e) => warn!(error = %e, "Cannot read the outbox depth"),
        }
    }

    /// Restarts the outbox at its oldest row. A broker without our session may also have lost what it acknowledged
    /// recently, so those rows are queued again.
    fn rewind_outbox(&mut self, is_new_session: bool) -> Result<(), gridwatch_store::StoreError> {
        let rows = match is_new_session {
            true => self.store.outbox_resend_acknowledged(Timestamp::now())?,
            false => 0,
        };
        self.store.outbox_resend_unheard()?;
        self.settle_without_receipts()?;
        if rows > 0 {
            info!(
                rows,
                "Broker has no session for this box; resending recently acknowledged messages"
            );
        }
        Ok(())
    }
}
