//! The claim protocol: decides which of several boxes files a problem that they all see. The first to claim it files it,
//! in the order in which the broker forwards messages.
//!
//! For each of its open cases a box publishes a retained *claim* that says where the case is. A new case is held back until
//! its claim has come back from the broker. Every box that sees the same cells subscribes to these claims, and a broker
//! forwards messages in one order, so any claim published before the box's own arrives before it. If no other claim for the
//! same site stands by then, the box was first and files its case. Otherwise it waits until the other case is filed and
//! then yields. So two boxes can never both be first. If neither is (both lost the broker in between), both clear their
//! claims and retry after random delays.
//!
//! **A box that is offline keeps its sites**, because its cases are open at the platform: its claims stand until it clears
//! them, or for [`CLAIM_TTL`] after it last published them. Only a claim whose case is not filed is void sooner, after
//! [`UNFILED_TIMEOUT`] without a renewal. Boxes publish all their claims again to a broker that lost its retained messages;
//! what they received from it before stays valid for another [`RESET_GRACE`].
//!
//! **A box that lost its database** finds its own retained claims at the broker, about cases that it does not know. It treats
//! them as another box's: the platform has these cases, so their sites are not filed again while the claims stand.
//!
//! This module is pure: no clock, store or connection. Inputs return [`ClaimAction`]s, to be executed in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use jiff::{Timestamp, tz::TimeZone};

use gridwatch_contract::{ClaimMessage, SiteTopics, When};
use gridwatch_engine::{CaseId, CellCode, Claim, Known, NodeId};
use gridwatch_store::{ClaimRow, ClaimState};

/// How long a claim is valid after it was last published.
pub(super) const CLAIM_TTL: Duration = Duration::from_hours(8 * 24);
/// How often the claim of a filed case is renewed.
const RENEW_INTERVAL: Duration = Duration::from_hours(24);
/// How often the claim of a case not filed yet is renewed, to show that its box is still trying.
const UNFILED_RENEW_INTERVAL: Duration = Duration::from_mins(1);
/// Without a renewal for this long, a claim whose case is not filed is void.
const UNFILED_TIMEOUT: Duration = Duration::from_mins(5);
/// A broker that has not sent a claim back within this time does not forward claims; the case is filed without.
const ECHO_TIMEOUT: Duration = Duration::from_secs(30);
/// Boxes that blocked each other retry after a random delay up to this. With equal delays they would block each other again.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(2);
/// How long claims received before the broker lost its retained messages stay valid unless published again.
const RESET_GRACE: Duration = Duration::from_mins(10);
/// Maximum number of claims of other boxes; far more than can be open in the cells around one box.
const MAX_PEER_CLAIMS: usize = 10_000;
/// Maximum size of a claim; they take a few hundred bytes.
const MAX_BYTES: usize = 4096;

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
    /// Clear a claim: publish an empty retained message.
    Clear { topic: String },
    /// This box was first: release the case's messages.
    Grant(CaseId),
    /// Release the case's messages although the claim is unconfirmed: the broker does not forward claims.
    GrantUnconfirmed(CaseId),
    /// This box's case yields to another box's.
    Yield { case: CaseId, to: CaseId },
    /// Notify the engine.
    Notify(Known),
    /// The claim of a closed case is cleared at the broker; delete its row.
    Forget(CaseId),
}

/// State of the claim of one of this box's cases.
#[derive(Debug, Clone, Copy, PartialEq)]
enum OwnClaimState {
    /// Not published yet.
    Pending,
    /// Published; the broker has not sent it back yet. `nonce` tells this publish from earlier ones.
    Requested { nonce: u64, since: Instant },
    /// Another box was first but has not filed yet; this claim is cleared. Not requested again before `retry_at`.
    Blocked { retry_at: Instant },
    /// This box files the site's case.
    Held { is_filed: bool, published: Instant },
    /// Another box was first and has filed; waiting for the store to record it.
    Yielded,
    /// The case is closed; the claim is being cleared.
    Clearing,
}

/// The claim of one of this box's cases.
#[derive(Debug)]
struct OwnClaim {
    claim: Claim,
    state: OwnClaimState,
}

/// The claim of another box's case, or of a case of this box that its database no longer has.
#[derive(Debug)]
struct PeerClaim {
    claim: Claim,
    is_filed: bool,
    /// When it was last received.
    received: Instant,
    /// When it expires. Monotonic: a wall clock that is set must not end what others have open.
    expires: Instant,
    /// Received since the broker last lost its retained messages.
    is_confirmed: bool,
    /// Not filed in time; no longer blocks other claims.
    is_void: bool,
}

/// State of the protocol.
#[derive(Debug)]
pub(super) struct ClaimProtocol {
    node: NodeId,
    topics: SiteTopics,
    zone: TimeZone,
    /// Cells that other boxes may see too.
    cells: BTreeSet<CellCode>,
    own: BTreeMap<CaseId, OwnClaim>,
    peers: BTreeMap<CaseId, PeerClaim>,
    /// The broker granted the subscription to claims.
    is_subscribed: bool,
    /// When the broker may have lost its retained messages; peer claims not confirmed within [`RESET_GRACE`] are dropped.
    reset_at: Option<Instant>,
}

impl ClaimProtocol {
    /// `known` are the other boxes' claims that the engine remembers from the last run.
    pub(super) fn new(
        node: NodeId,
        topics: SiteTopics,
        zone: TimeZone,
        cells: BTreeSet<CellCode>,
        known: Vec<Claim>,
        now: Now,
    ) -> Self {
        let peers = known.into_iter().map(|claim| {
            let peer = PeerClaim {
                claim,
                // If not, the broker's retained message will correct it.
                is_filed: true,
                received: now.mono,
                expires: now.mono + CLAIM_TTL,
                is_confirmed: false,
                is_void: false,
            };
            (peer.claim.case.clone(), peer)
        });
        Self {
            node,
            topics,
            zone,
            cells,
            own: BTreeMap::new(),
            peers: peers.collect(),
            is_subscribed: false,
            // They may have been cleared while this box was offline.
            reset_at: Some(now.mono),
        }
    }

    /// Handles CONNACK. `is_new_session`: the broker has no session for this box and may have lost its retained messages.
    pub(super) fn connected(&mut self, is_new_session: bool, now: Now) {
        if is_new_session {
            self.reset_at = Some(now.mono);
            self.peers.values_mut().for_each(|p| p.is_confirmed = false);
        }
    }

    /// Handles SUBACK. `is_subscribed`: the broker granted the subscription to claims. `rows` are the store's claims.
    pub(super) fn subscribed(&mut self, rows: Vec<ClaimRow>, is_subscribed: bool, now: Now) -> Vec<ClaimAction> {
        self.is_subscribed = is_subscribed;
        let mut actions = Vec::new();
        // Renewals go last: nothing waits for them.
        let mut renewals = Vec::new();
        self.own.clear();
        for row in rows {
            let id = row.claim.case.clone();
            let topic = self.topics.of(&row.claim);
            // A broker may send retained claims before SUBACK.
            self.peer_gone(&id, now, &mut actions);
            let state = match (row.is_open, row.state) {
                (false, _) => OwnClaimState::Clearing,
                (true, ClaimState::Wanted) => OwnClaimState::Pending,
                (true, ClaimState::Sent | ClaimState::Filed) => OwnClaimState::Held {
                    is_filed: row.state == ClaimState::Filed,
                    published: now.mono,
                },
            };
            self.own.insert(
                id.clone(),
                OwnClaim {
                    claim: row.claim,
                    state,
                },
            );
            match state {
                OwnClaimState::Clearing => actions.push(ClaimAction::Clear { topic }),
                OwnClaimState::Held { .. } => self.renew(&id, now, &mut renewals),
                OwnClaimState::Pending => {
                    if is_subscribed {
                        // Others may already have acted on a claim from an earlier connection; this one starts afresh.
                        actions.push(ClaimAction::Clear { topic });
                    }
                    self.request(&id, now, &mut actions);
                }
                _ => {}
            }
        }
        actions.extend(renewals);
        actions
    }

    /// Handles a change of the store's claims.
    pub(super) fn rows_changed(&mut self, rows: Vec<ClaimRow>, now: Now) -> Vec<ClaimAction> {
        let mut actions = Vec::new();
        for row in rows {
            let id = row.claim.case.clone();
            let topic = self.topics.of(&row.claim);
            let own = self.own.entry(id.clone()).or_insert(OwnClaim {
                claim: row.claim,
                state: OwnClaimState::Pending,
            });
            match (row.is_open, own.state) {
                (false, OwnClaimState::Clearing) => {}
                (false, _) => {
                    own.state = OwnClaimState::Clearing;
                    actions.push(ClaimAction::Clear { topic });
                }
                (true, OwnClaimState::Pending) => self.request(&id, now, &mut actions),
                // The store failed to record an earlier grant.
                (true, OwnClaimState::Held { .. }) if row.state == ClaimState::Wanted => {
                    actions.push(ClaimAction::Grant(id));
                }
                (true, OwnClaimState::Held { is_filed: false, .. }) if row.state == ClaimState::Filed => {
                    own.state = OwnClaimState::Held {
                        is_filed: true,
                        published: now.mono,
                    };
                    self.renew(&id, now, &mut actions);
                }
                // Reopened: the platform knows the case, so it is held without a new request.
                (true, OwnClaimState::Clearing) => {
                    own.state = OwnClaimState::Held {
                        is_filed: true,
                        published: now.mono,
                    };
                    self.renew(&id, now, &mut actions);
                }
                _ => {}
            }
        }
        actions
    }

    /// Handles a message on a site topic.
    ///
    /// # Errors
    /// Why the message is not a valid claim.
    pub(super) fn received(
        &mut self,
        topic: &str,
        payload: &[u8],
        is_retained: bool,
        now: Now,
    ) -> Result<Vec<ClaimAction>, InvalidClaim> {
        let (node, case) = self.topics.parse(topic).ok_or(InvalidClaim::Topic)?;
        let is_own = node == self.node.as_str();
        let mut actions = Vec::new();
        if payload.is_empty() {
            match is_own {
                true => self.own_cleared(&case, now, &mut actions),
                false => self.peer_gone(&case, now, &mut actions),
            }
            return Ok(actions);
        }
        if payload.len() > MAX_BYTES {
            return Err(InvalidClaim::Oversized(payload.len()));
        }
        let message: ClaimMessage = serde_json::from_slice(payload).map_err(InvalidClaim::Malformed)?;
        let claim = message.claim().ok_or(InvalidClaim::Location)?;
        if self.topics.of(&claim) != topic {
            return Err(InvalidClaim::TopicMismatch);
        }
        // A case that was never filed is filed anew; the others no longer wait for its claim after a while.
        let is_of_lost_case = is_retained && message.filed && !self.own.contains_key(&case);
        if is_own && !is_of_lost_case {
            if !is_retained {
                self.own_echoed(&case, &message.saying, now, &mut actions);
            }
            return Ok(actions);
        }
        // Independent of the sender's clock: a claim published just now is valid for the full time, and none for longer.
        let until = match is_retained {
            true => message.until.timestamp().min(expiry(now.wall)),
            false => expiry(now.wall),
        };
        self.peer_claimed(claim, message.filed, until, now, &mut actions)?;
        Ok(actions)
    }

    /// The broker rejected the claim published on `topic`: file the case without it.
    pub(super) fn rejected(&mut self, topic: &str, now: Now) -> Vec<ClaimAction> {
        let requested = self.topics.parse(topic).map(|(_, case)| case).filter(|case| {
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
        let is_grace_over = self.reset_at.is_some_and(|then| now.since(then) >= RESET_GRACE);
        if is_grace_over {
            self.reset_at = None;
        }
        let mut gone = Vec::new();
        let mut void = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.expires < now.mono || (is_grace_over && !peer.is_confirmed) {
                gone.push(id.clone());
            } else if !peer.is_filed && !peer.is_void && now.since(peer.received) >= UNFILED_TIMEOUT {
                peer.is_void = true;
                void.push(id.clone());
            }
        }
        for id in gone {
            self.peer_gone(&id, now, &mut actions);
        }
        for id in void {
            actions.push(ClaimAction::Notify(Known::Released(id)));
        }
        self.retry_blocked(now, &mut actions);
        let is_overdue = |own: &OwnClaim| match own.state {
            OwnClaimState::Requested { since, .. } => now.since(since) >= ECHO_TIMEOUT,
            _ => false,
        };
        let is_due = |own: &OwnClaim| match own.state {
            OwnClaimState::Held { is_filed, published } => {
                now.since(published)
                    >= if is_filed {
                        RENEW_INTERVAL
                    } else {
                        UNFILED_RENEW_INTERVAL
                    }
            }
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
        if !self.is_subscribed || !self.cells.contains(&own.claim.located.cell) {
            self.hold(id, now);
            actions.push(ClaimAction::Grant(id.clone()));
            return;
        }
        let nonce = fastrand::u64(..);
        own.state = OwnClaimState::Requested { nonce, since: now.mono };
        self.publish(id, false, nonce, now, actions);
    }

    /// Handles this box's own claim coming back from the broker: grants it unless another claim came first.
    fn own_echoed(&mut self, id: &CaseId, echoed_nonce: &str, now: Now, actions: &mut Vec<ClaimAction>) {
        let Some(OwnClaim { claim, state }) = self.own.get(id) else {
            return;
        };
        match state {
            // An earlier publish may come back late.
            OwnClaimState::Requested { nonce, .. } if format!("{nonce:016x}") == echoed_nonce => {}
            _ => return,
        }
        match self.blocking(claim) {
            None => {
                self.hold(id, now);
                actions.push(ClaimAction::Grant(id.clone()));
            }
            Some(_) => {
                actions.push(ClaimAction::Clear {
                    topic: self.topics.of(claim),
                });
                if let Some(own) = self.own.get_mut(id) {
                    let retry_at = now.mono + MAX_RETRY_DELAY.mul_f64(fastrand::f64());
                    own.state = OwnClaimState::Blocked { retry_at };
                }
                self.retry_blocked(now, actions);
            }
        }
    }

    /// The valid claim of another box at the site of `claim`; a filed one is preferred.
    fn blocking(&self, claim: &Claim) -> Option<&PeerClaim> {
        let there = self
            .peers
            .values()
            .filter(|p| !p.is_void && p.claim.is_at_site_of(claim));
        there.max_by_key(|p| p.is_filed)
    }

    /// Re-examines blocked claims: yields if the blocking case is filed, requests again if nothing blocks any more.
    fn retry_blocked(&mut self, now: Now, actions: &mut Vec<ClaimAction>) {
        let blocked = self.own.iter().filter_map(|(id, own)| match own.state {
            OwnClaimState::Blocked { retry_at } => Some((id, &own.claim, retry_at)),
            _ => None,
        });
        let next: Vec<(CaseId, Option<CaseId>)> = blocked
            .filter_map(|(id, claim, retry_at)| match self.blocking(claim) {
                Some(p) if p.is_filed => Some((id.clone(), Some(p.claim.case.clone()))),
                None if now.mono >= retry_at => Some((id.clone(), None)),
                _ => None,
            })
            .collect();
        for (id, to) in next {
            match to {
                None => self.request(&id, now, actions),
                Some(to) => {
                    if let Some(own) = self.own.get_mut(&id) {
                        own.state = OwnClaimState::Yielded;
                    }
                    actions.push(ClaimAction::Yield { case: id, to });
                }
            }
        }
    }

    fn peer_claimed(
        &mut self,
        claim: Claim,
        is_filed: bool,
        until: Timestamp,
        now: Now,
        actions: &mut Vec<ClaimAction>,
    ) -> Result<(), InvalidClaim> {
        let Ok(valid_for) = Duration::try_from(until.duration_since(now.wall)) else {
            self.peer_gone(&claim.case.clone(), now, actions);
            return Ok(());
        };
        if self.peers.len() >= MAX_PEER_CLAIMS && !self.peers.contains_key(&claim.case) {
            return Err(InvalidClaim::TooMany);
        }
        let before = self.peers.remove(&claim.case);
        let is_known = before.as_ref().is_some_and(|b| b.claim == claim && !b.is_void);
        if !is_known {
            actions.push(ClaimAction::Notify(Known::Claimed(claim.clone())));
        }
        let peer = PeerClaim {
            claim,
            is_filed,
            received: now.mono,
            expires: now.mono + valid_for,
            is_confirmed: true,
            is_void: false,
        };
        self.peers.insert(peer.claim.case.clone(), peer);
        self.retry_blocked(now, actions);
        Ok(())
    }

    /// Another box's claim was cleared or has expired.
    fn peer_gone(&mut self, id: &CaseId, now: Now, actions: &mut Vec<ClaimAction>) {
        let Some(peer) = self.peers.remove(id) else { return };
        if !peer.is_void {
            actions.push(ClaimAction::Notify(Known::Released(id.clone())));
        }
        self.retry_blocked(now, actions);
    }

    /// Handles an empty message on the topic of this box's own claim.
    fn own_cleared(&mut self, id: &CaseId, now: Now, actions: &mut Vec<ClaimAction>) {
        match self.own.get(id).map(|own| own.state) {
            Some(OwnClaimState::Clearing) => {
                self.own.remove(id);
                actions.push(ClaimAction::Forget(id.clone()));
            }
            // Another client cleared it; it is still held.
            Some(OwnClaimState::Held { .. }) => self.renew(id, now, actions),
            _ => {}
        }
    }

    fn hold(&mut self, id: &CaseId, now: Now) {
        if let Some(own) = self.own.get_mut(id) {
            own.state = OwnClaimState::Held {
                is_filed: false,
                published: now.mono,
            };
        }
    }

    /// Publishes a held claim again.
    fn renew(&mut self, id: &CaseId, now: Now, actions: &mut Vec<ClaimAction>) {
        let Some(own) = self.own.get_mut(id) else { return };
        let OwnClaimState::Held { is_filed, published } = &mut own.state else {
            return;
        };
        *published = now.mono;
        let is_filed = *is_filed;
        if self.cells.contains(&own.claim.located.cell) {
            self.publish(id, is_filed, fastrand::u64(..), now, actions);
        }
    }

    fn publish(&self, id: &CaseId, is_filed: bool, nonce: u64, now: Now, actions: &mut Vec<ClaimAction>) {
        let Some(own) = self.own.get(id) else { return };
        let until = When::new(expiry(now.wall), &self.zone);
        actions.push(ClaimAction::Publish {
            topic: self.topics.of(&own.claim),
            message: Box::new(ClaimMessage::new(&own.claim, is_filed, nonce, until)),
        });
    }
}

/// When a claim published at `now` expires.
fn expiry(now: Timestamp) -> Timestamp {
    now.saturating_add(CLAIM_TTL).unwrap_or(Timestamp::MAX)
}

/// Why a message on a site topic is not a valid claim.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidClaim {
    #[error("not a site topic")]
    Topic,
    #[error("message of {0} bytes exceeds the maximum of {MAX_BYTES} bytes")]
    Oversized(usize),
    #[error("malformed claim: {0}")]
    Malformed(serde_json::Error),
    #[error("invalid location or merge radius")]
    Location,
    #[error("cell, category, box or case does not match the topic")]
    TopicMismatch,
    #[error("more than {MAX_PEER_CLAIMS} claims in the cells around this box")]
    TooMany,
}

#[cfg(test)]
mod tests;
