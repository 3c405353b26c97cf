//! What the other boxes claim, within limits for each of them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{Now, expiry, message::InvalidClaim};
use crate::limit::TokenBucket;
use gridwatch_engine::{CaseId, Claim, NodeId};

/// Without a renewal for this long, a claim whose case is not filed is void.
pub(super) const UNFILED_TIMEOUT: Duration = Duration::from_mins(5);
/// How long claims received before the broker lost its retained messages stay valid unless published again.
const RESET_GRACE: Duration = Duration::from_mins(10);
/// Open claims of one box; more than a box files in months.
pub(super) const MAX_CLAIMS_PER_BOX: usize = 500;
/// Released claims of one box that are remembered, so that old messages about them are known to be old.
pub(crate) const MAX_RELEASED_PER_BOX: u32 = 1_000;
/// How far the clock of another box may be ahead.
const CLOCK_TOLERANCE: Duration = Duration::from_hours(24);
/// Messages of one box: so many at once, which covers all its claims after a reconnect, and then one per interval.
pub(super) const RATE: (u32, Duration) = (2_000, Duration::from_millis(500));

/// A case of another box, or of a lost database of this one.
type PeerCase = (NodeId, CaseId);

/// The claim of another box's case, or of a case of this box that its database no longer has.
#[derive(Debug)]
pub(super) struct PeerClaim {
    pub(super) claim: Claim,
    pub(super) is_filed: bool,
    /// When it was first received.
    first_received: Instant,
    /// When it was last received.
    received: Instant,
    /// When it expires by its own word; of two messages about a case, the later one is newer.
    until: Timestamp,
    /// The same by the monotonic clock: a wall clock that is set must not end what others have open.
    expires: Instant,
    /// Received since the broker last lost its retained messages.
    is_confirmed: bool,
    /// Not filed in time. It blocks no other claims, even if it is renewed, until it is filed.
    is_void: bool,
}

/// What one box may have and send.
#[derive(Debug)]
struct BoxQuota {
    claims: usize,
    messages: TokenBucket,
}

/// The claims of all other boxes.
#[derive(Debug)]
pub(super) struct PeerClaims {
    claims: BTreeMap<PeerCase, PeerClaim>,
    /// Cases whose release was received, with the time that it carried.
    released: BTreeMap<PeerCase, Timestamp>,
    quotas: BTreeMap<NodeId, BoxQuota>,
    /// How long a claim may stay unfiled.
    wait: Duration,
    /// When the broker may have lost its retained messages; claims not confirmed within [`RESET_GRACE`] are dropped.
    reset_at: Option<Instant>,
}

impl PeerClaims {
    pub(super) fn new(wait: Duration, now: Now) -> Self {
        Self {
            claims: BTreeMap::new(),
            released: BTreeMap::new(),
            quotas: BTreeMap::new(),
            wait,
            reset_at: Some(now.mono),
        }
    }

    /// Takes over what the store remembers of released claims.
    pub(super) fn restore_released(&mut self, released: impl IntoIterator<Item = (NodeId, CaseId, Timestamp)>) {
        let released = released.into_iter().map(|(node, case, until)| ((node, case), until));
        self.released.extend(released);
    }

    /// Handles CONNACK: the broker sends its retained claims again. `is_new_session`: it may have lost some.
    pub(super) fn connected(&mut self, is_new_session: bool, now: Now) {
        self.reset_at = Some(now.mono);
        if is_new_session {
            self.claims.values_mut().for_each(|p| p.is_confirmed = false);
        }
    }

    /// Whether retained claims may still be on their way.
    pub(super) fn is_complete(&self) -> bool {
        self.reset_at.is_none()
    }

    /// Counts a message of `node`, whose signature was verified.
    ///
    /// # Errors
    /// [`InvalidClaim::TooFast`].
    pub(super) fn admit(&mut self, node: &NodeId, now: Now) -> Result<(), InvalidClaim> {
        match self.quota(node, now).messages.take(now.mono) {
            true => Ok(()),
            false => Err(InvalidClaim::TooFast(node.to_string())),
        }
    }

    /// Handles a claim that is valid until `until` by its own word.
    ///
    /// # Errors
    /// [`InvalidClaim::Stale`], [`InvalidClaim::Clock`] or [`InvalidClaim::TooMany`].
    pub(super) fn claimed(
        &mut self,
        claim: Claim,
        is_filed: bool,
        until: Timestamp,
        now: Now,
    ) -> Result<(), InvalidClaim> {
        let id = (claim.node.clone(), claim.case.clone());
        let before = self.claims.get(&id);
        if before.is_some_and(|b| b.until > until) || self.released.get(&id).is_some_and(|at| *at >= until) {
            return Err(InvalidClaim::Stale);
        }
        // A later message of the box would look older, so that it could not end the claim.
        expect_clock(&id.0, until, now)?;
        // None for longer than the full time, whatever the sender's clock says.
        let valid_for = Duration::try_from(until.min(expiry(now.wall)).duration_since(now.wall));
        let valid_for = valid_for.map_err(|_| InvalidClaim::Stale)?;
        if before.is_none() {
            let quota = self.quota(&id.0, now);
            if quota.claims >= MAX_CLAIMS_PER_BOX {
                return Err(InvalidClaim::TooMany(id.0.to_string()));
            }
            quota.claims += 1;
        }
        let before = self.claims.remove(&id);
        let first_received = before.as_ref().map_or(now.mono, |b| b.first_received);
        let was_void = before.is_some_and(|b| b.is_void);
        let peer = PeerClaim {
            claim,
            is_filed,
            first_received,
            received: now.mono,
            until,
            expires: now.mono + valid_for,
            is_confirmed: true,
            is_void: was_void && !is_filed,
        };
        self.claims.insert(id, peer);
        Ok(())
    }

    /// Handles the last message about a case. Returns whether there was a claim.
    ///
    /// # Errors
    /// [`InvalidClaim::Stale`] or [`InvalidClaim::Clock`].
    pub(super) fn released(
        &mut self,
        node: &NodeId,
        case: &CaseId,
        until: Timestamp,
        now: Now,
    ) -> Result<bool, InvalidClaim> {
        expect_clock(node, until, now)?;
        let id = (node.clone(), case.clone());
        if self.claims.get(&id).is_some_and(|claim| claim.until > until)
            || self.released.get(&id).is_some_and(|at| *at >= until)
        {
            return Err(InvalidClaim::Stale);
        }
        let had_claim = self.claims.contains_key(&id);
        self.remove(&id);
        let of_box = (id.0.clone(), CaseId::from(""))..;
        let of_box = self.released.range(of_box).take_while(|((other, _), _)| other == node);
        if of_box.clone().count() >= MAX_RELEASED_PER_BOX as usize
            && let Some((oldest, _)) = of_box.min_by_key(|(_, until)| **until)
        {
            let oldest = oldest.clone();
            self.released.remove(&oldest);
        }
        self.released.insert(id, until);
        Ok(had_claim)
    }

    /// Drops a claim that is this box's own after all.
    pub(super) fn forget(&mut self, node: &NodeId, case: &CaseId) {
        self.remove(&(node.clone(), case.clone()));
    }

    /// Drops the claims of boxes for which `is_kept` is false.
    pub(super) fn retain_boxes(&mut self, is_kept: impl Fn(&NodeId) -> bool) {
        let gone: Vec<PeerCase> = self.claims.keys().filter(|(node, _)| !is_kept(node)).cloned().collect();
        gone.iter().for_each(|id| self.remove(id));
        self.quotas.retain(|node, _| is_kept(node));
        self.released.retain(|(node, _), _| is_kept(node));
    }

    /// Drops what has expired.
    pub(super) fn tick(&mut self, now: Now) {
        let is_grace_over = self.reset_at.is_some_and(|then| now.since(then) >= RESET_GRACE);
        if is_grace_over {
            self.reset_at = None;
        }
        let mut gone = Vec::new();
        for (id, peer) in &mut self.claims {
            if peer.expires < now.mono || (is_grace_over && !peer.is_confirmed) {
                gone.push(id.clone());
            } else if !peer.is_filed {
                let is_silent = now.since(peer.received) >= UNFILED_TIMEOUT;
                peer.is_void |= is_silent || now.since(peer.first_received) >= self.wait;
            }
        }
        gone.iter().for_each(|id| self.remove(id));
        self.released.retain(|_, until| *until > now.wall);
    }

    /// The valid claim at the site of `own`, this box's claim; a filed one is preferred.
    pub(super) fn blocking(&self, own: &Claim) -> Option<&PeerClaim> {
        let there = self
            .claims
            .values()
            .filter(|p| !p.is_void && own.is_same_site_as(&p.claim));
        there.max_by_key(|p| p.is_filed)
    }

    /// Whether a box claims `case` as filed.
    pub(super) fn has_filed(&self, case: &CaseId) -> bool {
        self.claims.values().any(|p| p.is_filed && p.claim.case == *case)
    }

    fn remove(&mut self, id: &PeerCase) {
        if self.claims.remove(id).is_some()
            && let Some(quota) = self.quotas.get_mut(&id.0)
        {
            quota.claims = quota.claims.saturating_sub(1);
        }
    }

    fn quota(&mut self, node: &NodeId, now: Now) -> &mut BoxQuota {
        self.quotas.entry(node.clone()).or_insert_with(|| BoxQuota {
            claims: 0,
            messages: TokenBucket::new(RATE.0, RATE.1, now.mono),
        })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.claims.len()
    }
}

fn expect_clock(node: &NodeId, until: Timestamp, now: Now) -> Result<(), InvalidClaim> {
    let latest = expiry(now.wall)
        .saturating_add(CLOCK_TOLERANCE)
        .unwrap_or(Timestamp::MAX);
    match until > latest {
        true => Err(InvalidClaim::Clock(node.to_string())),
        false => Ok(()),
    }
}
