//! Executes the actions of [`ClaimProtocol`]: signs and publishes claims, updates the store and notifies the engine.

use std::collections::VecDeque;

use jiff::Timestamp;
use metrics::counter;
use tokio::sync::mpsc::{Sender, error::TrySendError};
use tracing::{error, info, warn};

use super::{Session, connection::Connection, sending::PendingPublish};
use crate::{
    EnrolledBoxes, SiteNews, SiteSharing,
    claims::{
        CLAIM_TTL, ClaimAction, ClaimProtocol, ClaimSettings, InvalidClaim, MAX_RELEASED_PER_BOX, Now, UnknownBox,
    },
    connector::Connector,
};
use gridwatch_base::{log_limit::LogLimit, metric};
use gridwatch_contract::topics::SiteTopics;
use gridwatch_engine::{CaseId, NodeId};
use gridwatch_mqtt::{InboundMessage, OutboundMessage, PublishOutcome, RetainHandling, SubscribeOutcome};
use gridwatch_store::{Store, StoreError};

/// Claims awaiting acknowledgement at a time; few, compared with the outbox.
const CLAIMS_IN_FLIGHT: usize = 4;

/// The claim protocol with its outgoing queue and its channel to the engine.
pub(super) struct SiteClaims {
    protocol: ClaimProtocol,
    topics: SiteTopics,
    filters: Vec<String>,
    to_publish: VecDeque<OutboundMessage>,
    /// What the engine was not told yet, because its channel is full. All of it is about this box's own cases.
    to_notify: VecDeque<SiteNews>,
    engine: Sender<SiteNews>,
    /// The boxes of the configuration.
    configured: EnrolledBoxes,
    /// "Broker denies site topics" has been logged.
    logged_denied: bool,
}

impl SiteClaims {
    /// `None` if there is no key to sign claims with.
    pub(super) fn new(connector: &Connector, sharing: SiteSharing) -> Option<Self> {
        let topics = SiteTopics::new(&connector.settings.topic_prefix);
        let filters = sharing.cells.iter().map(|cell| topics.filter(cell)).collect();
        let settings = ClaimSettings {
            node: connector.settings.node.clone(),
            public_key: connector.public_key.clone()?,
            topics: topics.clone(),
            zone: connector.settings.zone.clone(),
            cells: sharing.cells,
            cell_of: sharing.cell_of,
            wait: sharing.wait,
        };
        Some(Self {
            filters,
            protocol: ClaimProtocol::new(settings, sharing.boxes.clone(), sharing.yielded_to, Now::read()),
            topics,
            to_publish: VecDeque::new(),
            to_notify: VecDeque::new(),
            engine: sharing.news,
            configured: sharing.boxes,
            logged_denied: false,
        })
    }

    /// Reads which boxes an operator has confirmed. Returns whether that changed.
    fn read_enrolled(&mut self, store: &mut Store) -> Result<bool, StoreError> {
        let confirmed = store.boxes()?.into_iter().filter(|known| known.confirmed_at.is_some());
        let confirmed = confirmed.filter_map(|known| {
            let node = NodeId::from(known.node_id.as_str());
            Some((node, known.public_key.parse().ok()?))
        });
        let enrolled = self.configured.with(confirmed);
        let count = enrolled.len();
        let (is_changed, actions) = self.protocol.enroll(enrolled, Now::read());
        if is_changed {
            info!(boxes = count, "Enrolled boxes changed");
        }
        self.execute(actions, store)?;
        Ok(is_changed)
    }

    /// Handles CONNACK. Claims left unsent by the last connection are generated again.
    pub(super) fn connected(&mut self, is_new_session: bool, store: &mut Store) -> Result<(), StoreError> {
        self.to_publish.clear();
        self.protocol.connected(is_new_session, Now::read());
        // Before the retained claims come.
        self.protocol.restore_released(store.released_claims()?);
        self.read_enrolled(store).map(drop)
    }

    pub(super) fn is_site_topic(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// Topic filters to subscribe to, one per cell.
    pub(super) fn filters(&self) -> Vec<String> {
        self.filters.clone()
    }

    fn execute(&mut self, actions: Vec<ClaimAction>, store: &mut Store) -> Result<(), StoreError> {
        let mut result = Ok(());
        for action in actions {
            let done = match action {
                ClaimAction::Publish { topic, message } => {
                    let object = serde_json::to_string(&message).unwrap_or_default();
                    store.seal(&object).map(|sealed| {
                        self.to_publish.push_back(claim_message(topic, sealed.into_bytes()));
                    })
                }
                ClaimAction::Clear { topic } => {
                    self.to_publish.push_back(claim_message(topic, Vec::new()));
                    Ok(())
                }
                ClaimAction::Grant(case) => store.grant_claim(&case, Timestamp::now()),
                ClaimAction::GrantUnconfirmed(case) => {
                    warn!(
                        %case,
                        "Broker did not send the box's own claim back; filing the case without it, so another box may file it too. Allow \
                         the box to publish and subscribe to its site topics in the broker's ACL, or set broker.share_sites = false"
                    );
                    store.grant_claim(&case, Timestamp::now())
                }
                ClaimAction::GrantAfterWait(case) => {
                    warn!(%case, "Filing a case that was held back for another box, which has not filed its own");
                    store.grant_claim(&case, Timestamp::now())
                }
                ClaimAction::HoldBack {
                    case,
                    by,
                    other,
                    is_filed,
                } => {
                    info!(%case, node = ?by.as_str(), other = ?other.as_str(), is_filed, "Case held back: another box claims its site");
                    store.hold_back(&case, (&by, &other), is_filed, Timestamp::now())
                }
                ClaimAction::Forget(case) => store.remove_claim(&case),
                ClaimAction::Remember { node, case, until } => {
                    store.claim_released((&node, &case), until, MAX_RELEASED_PER_BOX, Timestamp::now())
                }
                ClaimAction::Yield { case, to, node } => {
                    self.to_notify.push_back(SiteNews::Yielded { case, to, node });
                    Ok(())
                }
                ClaimAction::Released(case) => {
                    let done = store.end_hold_backs(Some(&case), Timestamp::now());
                    self.to_notify.push_back(SiteNews::Released(case));
                    done
                }
            };
            // Continue after a failure: the next outbox poll repeats the failed action.
            result = result.and(done);
        }
        self.notify();
        result
    }

    /// Tells the engine what its channel has room for.
    fn notify(&mut self) {
        while let Some(news) = self.to_notify.pop_front() {
            // Closed only while the daemon is stopping; the next connection notifies again.
            if let Err(TrySendError::Full(news)) = self.engine.try_send(news) {
                self.to_notify.push_front(news);
                return;
            }
        }
    }

    /// Records boxes that are not enrolled, and says so once.
    fn record_unknown(&mut self, store: &mut Store, log_limit: &mut LogLimit) -> Result<(), StoreError> {
        for UnknownBox { node, public_key } in self.protocol.take_first_seen() {
            let is_new = store.box_seen(&node, &public_key, Timestamp::now())?;
            if !is_new || log_limit.admit(std::time::Instant::now()).is_none() {
                continue;
            }
            // Its id was checked: it can be shown.
            let command = format!("gridwatch boxes confirm {node} --key {public_key}");
            if self.protocol.is_enrolled(&node) {
                warn!(
                    "A claim of box {node} is signed with another key than it is enrolled with; it is ignored. If that box has a new key, compare it with \
                     `gridwatch keys show` there, then run: {command}. If not, somebody publishes in its name"
                );
            } else {
                warn!(
                    "Box {node} shares sites with this one and is not enrolled: its claims are ignored, so the same problem may be filed twice. Compare its \
                     key with `gridwatch keys show` there, then run: {command}"
                );
            }
        }
        Ok(())
    }
}

fn claim_message(topic: String, payload: Vec<u8>) -> OutboundMessage {
    OutboundMessage {
        is_retained: true,
        expiry: Some(CLAIM_TTL),
        ..OutboundMessage::json(topic, payload)
    }
}

impl Connection {
    /// After SUBACK: publishes the claims of open cases and requests those of new cases.
    pub(super) fn start_claims(&mut self, session: &mut Session, subscription: SubscribeOutcome) {
        let Some(sites) = &mut session.sites else { return };
        let is_subscribed = match subscription {
            SubscribeOutcome::Granted | SubscribeOutcome::Downgraded => true,
            SubscribeOutcome::Denied(reason) => {
                if !std::mem::replace(&mut sites.logged_denied, true) {
                    error!(
                        reason,
                        "Broker denies the subscription to other boxes' claims; the same problem may be filed more than once. Allow it in \
                         the broker's ACL, or set broker.share_sites = false"
                    );
                }
                false
            }
            SubscribeOutcome::Lost => return,
        };
        let rows = session.store.claims();
        let done = rows.and_then(|rows| {
            let actions = sites.protocol.subscribed(rows, is_subscribed, Now::read());
            sites.execute(actions, &mut session.store)
        });
        if let Err(e) = done {
            self.store_failed(&e);
        }
    }

    /// Compares the store's claims with what was published: cases may have been opened or closed.
    pub(super) fn update_own_claims(&mut self, session: &mut Session) {
        let (Some(sites), true) = (&mut session.sites, self.sender.is_ready()) else {
            return;
        };
        let rows = session.store.claims();
        let done = rows.and_then(|rows| {
            let actions = sites.protocol.rows_changed(rows, Now::read());
            sites.execute(actions, &mut session.store)
        });
        if let Err(e) = done {
            self.store_failed(&e);
        }
    }

    /// Applies what operators changed about the enrolled boxes. The broker is asked for its retained claims again: those of a box
    /// that was just confirmed were ignored.
    pub(super) fn update_enrolled(&mut self, session: &mut Session) {
        let (Some(sites), true) = (&mut session.sites, self.sender.is_ready()) else {
            return;
        };
        match sites.read_enrolled(&mut session.store) {
            Ok(true) => {
                // If the queue is full, the claims come with the next connection or renewal. The outcome was logged for the first one.
                let _ = self.client.subscribe(sites.filters(), RetainHandling::SendRetained);
            }
            Ok(false) => {}
            Err(e) => self.store_failed(&e),
        }
    }

    /// Runs the protocol's timers.
    pub(super) fn tick_claims(&mut self, session: &mut Session) {
        let Some(sites) = &mut session.sites else { return };
        let actions = sites.protocol.tick(Now::read());
        if let Err(e) = sites.execute(actions, &mut session.store) {
            self.store_failed(&e);
        }
    }

    /// Handles a message on a site topic.
    pub(super) fn claim_received(&mut self, session: &mut Session, message: InboundMessage) {
        if let Some(sites) = &mut session.sites {
            let (topic, payload) = (&message.topic, &message.payload);
            // A store that cannot be read knows of no lost case.
            let is_known = |case: &CaseId| session.store.has_case(case.as_str()).unwrap_or(true);
            let received = sites
                .protocol
                .received(topic, payload, message.is_retained, is_known, Now::read());
            let done = match received {
                Ok(actions) => sites.execute(actions, &mut session.store),
                Err(invalid) => {
                    counter!(metric::CLAIMS_REJECTED, "reason" => invalid.as_str()).increment(1);
                    // A box that is not enrolled is reported once, by `record_unknown`; a retained message overtakes queued ones.
                    let is_usual = matches!(
                        invalid,
                        InvalidClaim::NotEnrolled(_) | InvalidClaim::Stale | InvalidClaim::OwnOlder
                    );
                    if !is_usual && let Some(suppressed) = session.log_limit.admit(std::time::Instant::now()) {
                        // Debug-formatted: escapes control characters, so that a sender cannot forge log lines.
                        warn!(topic = ?shortened(&message.topic), reason = ?invalid.to_string(), suppressed, "Rejected a message on a site topic");
                    }
                    sites.record_unknown(&mut session.store, &mut session.log_limit)
                }
            };
            if let Err(e) = done {
                self.store_failed(&e);
            }
        }
        self.replies.acknowledge(message.ack);
    }

    /// Publishes queued claims, a few at a time.
    pub(super) fn publish_claims(&mut self, session: &mut Session) {
        let Some(sites) = &mut session.sites else { return };
        while self.claims_in_flight < CLAIMS_IN_FLIGHT {
            let Some(message) = sites.to_publish.front() else {
                return;
            };
            let publish = PendingPublish::Claim(message.topic.clone());
            let Ok(outcome) = self.client.send(message.clone()) else {
                // The queue is full, or the connection is closing.
                return;
            };
            sites.to_publish.pop_front();
            self.claims_in_flight += 1;
            self.await_outcome(publish, outcome);
        }
    }

    /// Handles the outcome of a published claim. An accepted claim is handled when the broker sends it back; only a
    /// rejection is handled here.
    pub(super) fn claim_published(&mut self, session: &mut Session, topic: &str, outcome: PublishOutcome) {
        self.claims_in_flight = self.claims_in_flight.saturating_sub(1);
        let (Some(sites), PublishOutcome::Rejected(reason)) = (&mut session.sites, outcome) else {
            return;
        };
        if !std::mem::replace(&mut sites.logged_denied, true) {
            error!(
                topic,
                reason, "Broker rejects the box's claims; another box may file the same problem"
            );
        }
        let actions = sites.protocol.rejected(topic, Now::read());
        if let Err(e) = sites.execute(actions, &mut session.store) {
            self.store_failed(&e);
        }
    }
}

/// The start of a topic: another client may have chosen one of 65 kB.
fn shortened(topic: &str) -> &str {
    topic
        .get(..200)
        .or_else(|| topic.get(..100))
        .unwrap_or(if topic.len() > 200 { "…" } else { topic })
}
