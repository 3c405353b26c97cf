//! Executes the actions of [`ClaimProtocol`]: publishes claims, updates the store and notifies the engine.

use std::collections::VecDeque;

use metrics::counter;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, warn};

use super::{Session, connection::Connection, sending::PendingPublish};
use crate::{
    SiteSharing,
    claims::{ClaimAction, ClaimProtocol, Now},
    wire::{Connector, InboundMessage, MessageKind, OutboundMessage, PublishOutcome, SubscribeOutcome},
};
use gridwatch_base::metric;
use gridwatch_contract::topics::SiteTopics;
use gridwatch_engine::Known;
use gridwatch_store::{Store, StoreError};

/// Claims awaiting acknowledgement at a time; few, compared with the outbox.
const CLAIMS_IN_FLIGHT: usize = 4;

/// The claim protocol with its outgoing queue and its channel to the engine.
pub(super) struct SiteClaims {
    protocol: ClaimProtocol,
    topics: SiteTopics,
    filters: Vec<String>,
    to_publish: VecDeque<OutboundMessage>,
    engine: UnboundedSender<Known>,
    /// "Broker denies site topics" has been logged.
    logged_denied: bool,
}

impl SiteClaims {
    pub(super) fn new(connector: &Connector, sharing: SiteSharing) -> Self {
        let topics = SiteTopics::new(&connector.settings.topic_prefix);
        Self {
            filters: sharing.cells.iter().map(|cell| topics.filter(cell)).collect(),
            protocol: ClaimProtocol::new(
                connector.settings.node.clone(),
                topics.clone(),
                connector.settings.zone.clone(),
                sharing.cells,
                sharing.known,
                Now::read(),
            ),
            topics,
            to_publish: VecDeque::new(),
            engine: sharing.news,
            logged_denied: false,
        }
    }

    /// Handles CONNACK. Claims left unsent by the last connection are generated again.
    pub(super) fn connected(&mut self, is_new_session: bool) {
        self.to_publish.clear();
        self.protocol.connected(is_new_session, Now::read());
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
                    let payload = serde_json::to_vec(&message).unwrap_or_default();
                    self.to_publish.push_back(claim_message(topic, payload));
                    Ok(())
                }
                ClaimAction::Clear { topic } => {
                    self.to_publish.push_back(claim_message(topic, Vec::new()));
                    Ok(())
                }
                ClaimAction::Grant(case) => store.grant_claim(&case),
                ClaimAction::GrantUnconfirmed(case) => {
                    warn!(
                        %case,
                        "Broker did not send the box's own claim back; filing the case without it, so another box may file it too. Allow \
                         the box to publish and subscribe to its site topics in the broker's ACL, or set broker.share_sites = false"
                    );
                    store.grant_claim(&case)
                }
                ClaimAction::Forget(case) => store.remove_claim(&case),
                ClaimAction::Yield { case, to } => {
                    self.notify(Known::Yielded { case, to });
                    Ok(())
                }
                ClaimAction::Notify(known) => {
                    self.notify(known);
                    Ok(())
                }
            };
            // Continue after a failure: the next outbox poll repeats the failed action.
            result = result.and(done);
        }
        result
    }

    /// Fails only while the daemon is stopping; the next connection notifies again.
    fn notify(&self, known: Known) {
        let _ = self.engine.send(known);
    }
}

fn claim_message(topic: String, payload: Vec<u8>) -> OutboundMessage {
    OutboundMessage {
        topic,
        payload,
        kind: MessageKind::Claim,
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
            match sites
                .protocol
                .received(&message.topic, &message.payload, message.is_retained, Now::read())
            {
                Ok(actions) => {
                    if let Err(e) = sites.execute(actions, &mut session.store) {
                        self.store_failed(&e);
                    }
                }
                Err(invalid) => {
                    counter!(metric::CLAIMS_REJECTED).increment(1);
                    if let Some(suppressed) = session.log_limit.admit(std::time::Instant::now()) {
                        // Debug-formatted: escapes control characters, so that a sender cannot forge log lines.
                        warn!(topic = ?message.topic, reason = ?invalid.to_string(), suppressed, "Rejected a message on a site topic");
                    }
                }
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
