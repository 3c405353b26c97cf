//! The claim protocol: decides which of several boxes files a problem that they all see. The first to claim it files it,
//! in the order in which the broker forwards messages.
//!
//! For each of its open cases a box publishes a retained *claim* that says where the case is. A new case is held back until
//! its claim has come back from the broker. Every box that sees the same cells subscribes to these claims, and a broker
//! forwards messages in one order, so any claim published before the box's own arrives before it. If no other claim for the
//! same site stands by then, the box was first and files its case. Otherwise its case is held back: until the other one is filed,
//! to which it then yields, or for [`ClaimSettings::wait`] if the other one never is. So two boxes can never both be first. If neither is
//! (both lost the broker in between), both release their claims and retry after random delays.
//!
//! **A box that is offline keeps its sites**, because its cases are open at the platform: its claims stand until it releases
//! them, or for [`CLAIM_TTL`] after it last published them. Only a claim whose case is not filed is void sooner, after
//! [`peers::UNFILED_TIMEOUT`] without a renewal. Boxes publish all their claims again to a broker that lost its retained messages;
//! what they received from it before stays valid for some minutes.
//!
//! **A box that lost its database** finds its own retained claims at the broker, about cases that it does not know. It treats
//! them as another box's: the platform has these cases, so their sites are not filed again while the claims stand.
//!
//! **Others are not trusted further than needed.** Only signed claims of enrolled boxes count ([`message`]), and only so many of each
//! ([`peers`]). A claim holds back what lies in its cell and at its site by this box's own rule. It is ended by a signed message:
//! anyone may clear a topic.
//!
//! This module is pure: no clock, store, private key or connection. Inputs return [`ClaimAction`]s, to be executed in order.

mod message;
mod peers;
mod receive;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::{Duration, Instant},
};

use jiff::{Timestamp, ToSpan, tz::TimeZone};

pub use self::message::EnrolledBoxes;
pub(super) use self::message::InvalidClaim;
pub(super) use self::message::UnknownBox;
pub(super) use self::peers::MAX_RELEASED_PER_BOX;
use self::{message::ClaimVerifier, peers::PeerClaims};
use crate::limit::TokenBucket;
use gridwatch_contract::{ClaimKey, ClaimMessage, ClaimStage, SiteTopics, When};
use gridwatch_custody::PublicKey;
use gridwatch_engine::{CaseId, CellCode, Claim, LonLat, NodeId};
use gridwatch_store::{ClaimRow, ClaimState};

/// How long a claim is valid after it was last published.
pub(super) const CLAIM_TTL: Duration = Duration::from_hours(8 * 24);
/// How often the claim of a filed case is renewed.
const RENEW_INTERVAL: Duration = Duration::from_hours(24);
/// How often the claim of a case not filed yet is renewed, to show that its box is still trying.
const UNFILED_RENEW_INTERVAL: Duration = Duration::from_mins(1);
/// A broker that has not sent a claim back within this time does not forward claims; the case is filed without.
const ECHO_TIMEOUT: Duration = Duration::from_secs(30);
/// Boxes that blocked each other retry after a random delay up to this. With equal delays they would block each other again.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(2);
/// A claim that another client cleared is published again after this time, so that the two do not race.
const REPUBLISH_AFTER: Duration = Duration::from_secs(10);
/// Claims of ended cases that somebody else published again: so many are ended again at once, and then one per interval.
const CONTRADICTIONS: (u32, Duration) = (20, Duration::from_secs(1));
/// Longest id of a box, as in its configuration.
const MAX_NODE_ID: usize = 64;

/// The current time: wall-clock time, which may be set, and monotonic time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) wall: Timestamp,
    pub(super) mono: Instant,
}

impl Now {
    pub(super) fn read() -> Self {
        Self {
            wall: Timestamp::now(),
            mono: Instant::now(),
        }
    }

    fn since(self, then: Instant) -> Duration {
        self.mono.saturating_duration_since(then)
    }
}

/// What the caller must do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ClaimAction {
    /// Publish a claim, retained.
    Publish { topic: String, message: Box<ClaimMessage> },
    /// Clear a claim's topic: publish an empty retained message.
    Clear { topic: String },
    /// Record that this box's case is held back for another box's.
    HoldBack {
        case: CaseId,
        by: NodeId,
        other: CaseId,
        is_filed: bool,
    },
    /// This box was first: release the case's messages.
    Grant(CaseId),
    /// Release the case's messages although the claim is unconfirmed: the broker does not forward claims.
    GrantUnconfirmed(CaseId),
    /// The same after the case was held back for [`ClaimSettings::wait`] for a case that was not filed.
    GrantAfterWait(CaseId),
    /// This box's case yields to a case that another box has filed.
    Yield { case: CaseId, to: CaseId, node: NodeId },
    /// The case that others of this box yielded to has ended.
    Released(CaseId),
    /// The claim of a closed case is cleared at the broker; delete its row.
    Forget(CaseId),
    /// Remember that another box's case is over.
    Remember {
        node: NodeId,
        case: CaseId,
        until: Timestamp,
    },
}

/// State of the claim of one of this box's cases.
#[derive(Debug, Clone, Copy, PartialEq)]
enum OwnClaimState {
    /// Not published yet.
    Pending,
    /// Published; the broker has not sent it back yet. `nonce` tells this publish from earlier ones.
    Requested { nonce: u64, since: Instant },
    /// Another box was first but has not filed yet; this claim is released. Not requested again before `retry_at`.
    Blocked { retry_at: Instant },
    /// This box files the site's case.
    Held { is_filed: bool, renew_at: Instant },
    /// Another box was first and has filed; waiting for the store to record it.
    Yielded,
    /// The case is closed; the claim is being released.
    Clearing,
}

/// The claim of one of this box's cases.
#[derive(Debug)]
struct OwnClaim {
    claim: Claim,
    state: OwnClaimState,
    /// Since when it is held back for others, whichever they are.
    held_since: Option<Timestamp>,
    /// The case that it was last held back for.
    held_for: Option<(NodeId, CaseId)>,
    /// The `until` of the last message about it in this run.
    published: Option<Timestamp>,
}

/// How this box shares sites with others.
pub(super) struct ClaimSettings {
    pub(super) node: NodeId,
    /// Signs this box's claims.
    pub(super) public_key: PublicKey,
    pub(super) topics: SiteTopics,
    pub(super) zone: TimeZone,
    /// Cells that other boxes may see too.
    pub(super) cells: BTreeSet<CellCode>,
    /// The cell at a location in the grid's coordinates.
    pub(super) cell_of: CellOf,
    /// How long a case is held back for one that is not filed.
    pub(super) wait: Duration,
}

/// The cell at a location in the grid's coordinates; `None` outside the grid.
pub type CellOf = Box<dyn Fn(LonLat) -> Option<CellCode> + Send>;

/// State of the protocol.
pub(super) struct ClaimProtocol {
    settings: ClaimSettings,
    verifier: ClaimVerifier,
    own: BTreeMap<CaseId, OwnClaim>,
    peers: PeerClaims,
    /// Cases of other boxes that the engine holds cases of this box back for. True once a filed claim for it was received in this run.
    yielded_to: BTreeMap<CaseId, bool>,
    /// The broker granted the subscription to claims.
    is_subscribed: bool,
    /// The store's claims were read on this connection.
    has_own: bool,
    /// The latest expiry that was published: each message carries a later one.
    last_until: Timestamp,
    /// Limits what this box publishes because others sent messages in its name.
    contradictions: TokenBucket,
}

impl fmt::Debug for ClaimProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimProtocol")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl ClaimProtocol {
    /// `yielded_to` are the cases of other boxes for which the engine held cases back in the last run.
    pub(super) fn new(
        settings: ClaimSettings,
        enrolled: EnrolledBoxes,
        yielded_to: impl IntoIterator<Item = CaseId>,
        now: Now,
    ) -> Self {
        Self {
            verifier: ClaimVerifier::new(settings.node.clone(), settings.public_key.clone(), enrolled, now.mono),
            peers: PeerClaims::new(settings.wait, now),
            settings,
            own: BTreeMap::new(),
            yielded_to: yielded_to.into_iter().map(|case| (case, false)).collect(),
            is_subscribed: false,
            has_own: false,
            last_until: Timestamp::MIN,
            contradictions: TokenBucket::new(CONTRADICTIONS.0, CONTRADICTIONS.1, now.mono),
        }
    }

    /// Takes over which cases of other boxes are over.
    pub(super) fn restore_released(&mut self, released: impl IntoIterator<Item = (NodeId, CaseId, Timestamp)>) {
        self.peers.restore_released(released);
    }

    /// Whether the box is enrolled, with any key.
    pub(super) fn is_enrolled(&self, node: &NodeId) -> bool {
        self.verifier.enrolled.contains(node)
    }

    /// Handles CONNACK. `is_new_session`: the broker has no session for this box and may have lost its retained messages.
    pub(super) fn connected(&mut self, is_new_session: bool, now: Now) {
        self.has_own = false;
        self.peers.connected(is_new_session, now);
    }

    /// Replaces the enrolled boxes. Returns whether they changed: retained claims of new ones must then be requested again.
    pub(super) fn enroll(&mut self, enrolled: EnrolledBoxes, now: Now) -> (bool, Vec<ClaimAction>) {
        if self.verifier.enrolled == enrolled {
            return (false, Vec::new());
        }
        self.peers
            .retain_boxes(|node| *node == self.settings.node || enrolled.contains(node));
        self.verifier.enrolled = enrolled;
        let mut actions = Vec::new();
        self.peers_changed(now, &mut actions);
        (true, actions)
    }

    /// The boxes that were seen for the first time since the last call and are not enrolled.
    pub(super) fn take_first_seen(&mut self) -> Vec<UnknownBox> {
        self.verifier.take_first_seen()
    }

    /// Handles SUBACK. `is_subscribed`: the broker granted the subscription to claims. `rows` are the store's claims.
    pub(super) fn subscribed(&mut self, rows: Vec<ClaimRow>, is_subscribed: bool, now: Now) -> Vec<ClaimAction> {
        (self.is_subscribed, self.has_own) = (is_subscribed, true);
        let mut actions = Vec::new();
        // Renewals go last: nothing waits for them.
        let mut renewals = Vec::new();
        self.own.clear();
        for row in rows {
            let id = row.claim.case.clone();
            // A broker may send retained claims before SUBACK.
            self.peers.forget(&self.settings.node, &id);
            let state = match (row.is_open, row.state) {
                (false, _) => OwnClaimState::Clearing,
                (true, ClaimState::Wanted) => OwnClaimState::Pending,
                (true, ClaimState::Sent | ClaimState::Filed) => OwnClaimState::Held {
                    is_filed: row.state == ClaimState::Filed,
                    renew_at: now.mono,
                },
            };
            self.own.insert(
                id.clone(),
                OwnClaim {
                    claim: row.claim,
                    state,
                    held_since: row.held_since,
                    held_for: None,
                    published: None,
                },
            );
            match state {
                OwnClaimState::Clearing => self.release(&id, now, &mut actions),
                OwnClaimState::Held { .. } => self.renew(&id, now, &mut renewals),
                OwnClaimState::Pending => {
                    if is_subscribed {
                        // Others may already have acted on a claim from an earlier connection; this one starts afresh.
                        self.release(&id, now, &mut actions);
                    }
                    self.request(&id, now, &mut actions);
                }
                _ => {}
            }
        }
        self.peers_changed(now, &mut actions);
        actions.extend(renewals);
        actions
    }

    /// Handles a change of the store's claims.
    pub(super) fn rows_changed(&mut self, rows: Vec<ClaimRow>, now: Now) -> Vec<ClaimAction> {
        let mut actions = Vec::new();
        for row in rows {
            let id = row.claim.case.clone();
            let own = self.own.entry(id.clone()).or_insert(OwnClaim {
                claim: row.claim,
                state: OwnClaimState::Pending,
                held_since: None,
                held_for: None,
                published: None,
            });
            match (row.is_open, own.state) {
                (false, OwnClaimState::Clearing) => {}
                (false, _) => {
                    own.state = OwnClaimState::Clearing;
                    self.release(&id, now, &mut actions);
                }
                (true, OwnClaimState::Pending) => self.request(&id, now, &mut actions),
                // The store failed to record an earlier grant.
                (true, OwnClaimState::Held { .. }) if row.state == ClaimState::Wanted => {
                    actions.push(ClaimAction::Grant(id));
                }
                (true, OwnClaimState::Held { is_filed: false, .. }) if row.state == ClaimState::Filed => {
                    own.state = OwnClaimState::Held {
                        is_filed: true,
                        renew_at: now.mono,
                    };
                    self.renew(&id, now, &mut actions);
                }
                // Reopened: the platform knows the case, so it is held without a new request.
                (true, OwnClaimState::Clearing) => {
                    own.state = OwnClaimState::Held {
                        is_filed: true,
                        renew_at: now.mono,
                    };
                    self.renew(&id, now, &mut actions);
                }
                _ => {}
            }
        }
        actions
    }

    /// The broker rejected the claim published on `topic`: file the case without it.
    pub(super) fn rejected(&mut self, topic: &str, now: Now) -> Vec<ClaimAction> {
        let requested = self.settings.topics.parse(topic).map(|(_, case)| case).filter(|case| {
            let state = self.own.get(case).map(|own| own.state);
            matches!(state, Some(OwnClaimState::Requested { .. }))
        });
        let Some(case) = requested else { return Vec::new() };
        self.hold(&case, now);
        vec![ClaimAction::GrantUnconfirmed(case)]
    }

    /// Runs the timers; call it every second.
    pub(super) fn tick(&mut self, now: Now) -> Vec<ClaimAction> {
        let mut actions = Vec::new();
        self.peers.tick(now);
        self.peers_changed(now, &mut actions);
        let is_overdue = |own: &OwnClaim| match own.state {
            OwnClaimState::Requested { since, .. } => now.since(since) >= ECHO_TIMEOUT,
            _ => false,
        };
        let is_due = |own: &OwnClaim| match own.state {
            OwnClaimState::Held { renew_at, .. } => now.mono >= renew_at,
            _ => false,
        };
        let select = |is: &dyn Fn(&OwnClaim) -> bool| -> Vec<CaseId> {
            let selected = self.own.iter().filter(|(_, own)| is(own));
            selected.map(|(id, _)| id.clone()).collect()
        };
        let (overdue, due) = (select(&is_overdue), select(&is_due));
        for id in overdue {
            self.hold(&id, now);
            actions.push(ClaimAction::GrantUnconfirmed(id));
        }
        for id in due {
            self.renew(&id, now, &mut actions);
        }
        actions
    }

    /// Publishes the claim of `id`; or grants it at once if no other box sees its cell, or claims cannot be received.
    fn request(&mut self, id: &CaseId, now: Now, actions: &mut Vec<ClaimAction>) {
        let Some(own) = self.own.get_mut(id) else { return };
        if !self.is_subscribed || !self.settings.cells.contains(&own.claim.located.cell) {
            self.hold(id, now);
            actions.push(ClaimAction::Grant(id.clone()));
            return;
        }
        let nonce = fastrand::u64(..);
        own.state = OwnClaimState::Requested { nonce, since: now.mono };
        self.publish(id, ClaimStage::Wanted, nonce, now, actions);
    }

    /// Handles this box's own claim coming back from the broker: grants it unless another claim came first.
    fn own_echoed(&mut self, id: &CaseId, echoed_nonce: &str, now: Now, actions: &mut Vec<ClaimAction>) {
        let Some(OwnClaim { claim, state, .. }) = self.own.get(id) else {
            return;
        };
        match state {
            // An earlier publish may come back late.
            OwnClaimState::Requested { nonce, .. } if format!("{nonce:016x}") == echoed_nonce => {}
            _ => return,
        }
        match self.peers.blocking(claim) {
            None => {
                self.hold(id, now);
                actions.push(ClaimAction::Grant(id.clone()));
            }
            Some(_) => {
                self.release(id, now, actions);
                if let Some(own) = self.own.get_mut(id) {
                    let retry_at = now.mono + MAX_RETRY_DELAY.mul_f64(fastrand::f64());
                    own.state = OwnClaimState::Blocked { retry_at };
                }
                self.retry_blocked(now, actions);
            }
        }
    }

    /// What other boxes claim has changed: re-examines what waits for it.
    fn peers_changed(&mut self, now: Now, actions: &mut Vec<ClaimAction>) {
        let is_complete = self.peers.is_complete();
        self.yielded_to.retain(|case, is_known| {
            // After a start, its claim may not have been received yet.
            let is_over = (*is_known || is_complete) && !self.peers.has_filed(case);
            if is_over {
                actions.push(ClaimAction::Released(case.clone()));
            }
            !is_over
        });
        self.retry_blocked(now, actions);
    }

    /// Re-examines blocked claims: yields if the blocking case is filed, requests again if nothing blocks any more, and files
    /// without if that takes too long.
    fn retry_blocked(&mut self, now: Now, actions: &mut Vec<ClaimAction>) {
        let mut unblocked = Vec::new();
        let mut waited = Vec::new();
        for (id, own) in &mut self.own {
            let OwnClaimState::Blocked { retry_at } = own.state else {
                continue;
            };
            let Some(blocking) = self.peers.blocking(&own.claim) else {
                if now.mono >= retry_at {
                    unblocked.push(id.clone());
                }
                continue;
            };
            let (node, other) = (blocking.claim.node.clone(), blocking.claim.case.clone());
            let since = *own.held_since.get_or_insert(now.wall);
            let has_waited = Duration::try_from(now.wall.duration_since(since)).is_ok_and(|d| d >= self.settings.wait);
            if !blocking.is_filed && has_waited {
                waited.push(id.clone());
                continue;
            }
            let is_new = own.held_for.as_ref() != Some(&(node.clone(), other.clone()));
            if is_new || blocking.is_filed {
                own.held_for = Some((node.clone(), other.clone()));
                actions.push(ClaimAction::HoldBack {
                    case: id.clone(),
                    by: node.clone(),
                    other: other.clone(),
                    is_filed: blocking.is_filed,
                });
            }
            if blocking.is_filed {
                own.state = OwnClaimState::Yielded;
                self.yielded_to.insert(other.clone(), true);
                actions.push(ClaimAction::Yield {
                    case: id.clone(),
                    to: other,
                    node,
                });
            }
        }
        for id in unblocked {
            self.request(&id, now, actions);
        }
        for id in waited {
            self.hold(&id, now);
            actions.push(ClaimAction::GrantAfterWait(id));
        }
    }

    /// Handles an empty message on the topic of this box's own claim.
    fn own_cleared(&mut self, id: &CaseId, now: Now, actions: &mut Vec<ClaimAction>) {
        match self.own.get(id).map(|own| own.state) {
            Some(OwnClaimState::Clearing) => {
                self.own.remove(id);
                actions.push(ClaimAction::Forget(id.clone()));
            }
            // Another client cleared it; it is still held.
            Some(OwnClaimState::Held { .. }) => self.republish_soon(id, now),
            _ => {}
        }
    }

    /// Somebody else changed what the broker keeps in place of this claim.
    fn republish_soon(&mut self, id: &CaseId, now: Now) {
        if let Some(own) = self.own.get_mut(id)
            && let OwnClaimState::Held { renew_at, .. } = &mut own.state
        {
            *renew_at = (*renew_at).min(now.mono + REPUBLISH_AFTER);
        }
    }

    fn hold(&mut self, id: &CaseId, now: Now) {
        if let Some(own) = self.own.get_mut(id) {
            own.state = OwnClaimState::Held {
                is_filed: false,
                renew_at: now.mono + UNFILED_RENEW_INTERVAL,
            };
        }
    }

    /// Publishes a held claim again.
    fn renew(&mut self, id: &CaseId, now: Now, actions: &mut Vec<ClaimAction>) {
        let Some(own) = self.own.get_mut(id) else { return };
        let OwnClaimState::Held { is_filed, renew_at } = &mut own.state else {
            return;
        };
        let (stage, interval) = match is_filed {
            true => (ClaimStage::Filed, RENEW_INTERVAL),
            false => (ClaimStage::Wanted, UNFILED_RENEW_INTERVAL),
        };
        *renew_at = now.mono + interval;
        if self.settings.cells.contains(&own.claim.located.cell) {
            self.publish(id, stage, fastrand::u64(..), now, actions);
        }
    }

    /// Tells the others that the claim has ended, and clears its topic.
    fn release(&mut self, id: &CaseId, now: Now, actions: &mut Vec<ClaimAction>) {
        self.publish(id, ClaimStage::Released, fastrand::u64(..), now, actions);
        if let Some(own) = self.own.get(id) {
            let topic = self.settings.topics.of(&own.claim);
            actions.push(ClaimAction::Clear { topic });
        }
    }

    fn publish(&mut self, id: &CaseId, stage: ClaimStage, nonce: u64, now: Now, actions: &mut Vec<ClaimAction>) {
        let Some(claim) = self.own.get(id).map(|own| own.claim.clone()) else {
            return;
        };
        let until = self.publish_claim(&claim, stage, nonce, now, actions);
        if let Some(own) = self.own.get_mut(id) {
            own.published = Some(until);
        }
    }

    /// Publishes a message about `claim`; returns its `until`.
    fn publish_claim(
        &mut self,
        claim: &Claim,
        stage: ClaimStage,
        nonce: u64,
        now: Now,
        actions: &mut Vec<ClaimAction>,
    ) -> Timestamp {
        // A clock that was set back must not make a new message look old.
        let later = self
            .last_until
            .saturating_add(1.millisecond())
            .unwrap_or(Timestamp::MAX);
        let until = When::new(expiry(now.wall).max(later), &self.settings.zone);
        self.last_until = until.timestamp();
        let key = ClaimKey {
            algorithm: self.settings.public_key.algorithm().to_string(),
            public_key: self.settings.public_key.to_string(),
        };
        actions.push(ClaimAction::Publish {
            topic: self.settings.topics.of(claim),
            message: Box::new(ClaimMessage::new(claim, stage, nonce, until, &key)),
        });
        self.last_until
    }
}

/// When a claim published at `now` expires.
fn expiry(now: Timestamp) -> Timestamp {
    now.saturating_add(CLAIM_TTL).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
