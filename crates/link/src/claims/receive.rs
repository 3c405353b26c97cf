//! Messages on site topics: of this box, which come back or are repeated by others, and of other boxes.

use super::{ClaimAction, ClaimProtocol, InvalidClaim, MAX_NODE_ID, Now, message};
use gridwatch_contract::{ClaimMessage, ClaimStage};
use gridwatch_engine::{CaseId, Claim};

impl ClaimProtocol {
    /// Handles a message on a site topic. `is_known` tells whether the store has a case of this box, open or not.
    ///
    /// # Errors
    /// Why the message is not a valid claim.
    pub(crate) fn received(
        &mut self,
        topic: &str,
        payload: &[u8],
        is_retained: bool,
        is_known: impl Fn(&CaseId) -> bool,
        now: Now,
    ) -> Result<Vec<ClaimAction>, InvalidClaim> {
        let (node, case) = self.settings.topics.parse(topic).ok_or(InvalidClaim::Topic)?;
        let is_own = node == self.settings.node.as_str();
        if payload.is_empty() {
            let mut actions = Vec::new();
            if is_own {
                self.own_cleared(&case, now, &mut actions);
            }
            return Ok(actions);
        }
        let read = self.read(topic, payload, now);
        match (read, is_own) {
            (Ok((claim, message)), true) => self.own_received(claim, &message, is_retained, is_known, now),
            (Ok((claim, message)), false) => self.peer_received(claim, &message, now),
            (Err(invalid), true) => {
                // It took the place of this box's claim.
                self.republish_soon(&case, now);
                Err(invalid)
            }
            (Err(invalid), false) => Err(invalid),
        }
    }

    /// Parses and verifies a claim.
    fn read(&mut self, topic: &str, payload: &[u8], now: Now) -> Result<(Claim, ClaimMessage), InvalidClaim> {
        let message = message::parse(payload)?;
        let claim = message.claim().ok_or(InvalidClaim::Location)?;
        // Before the signature: who is not enrolled is remembered by this id.
        let is_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_valid = message.node_id.len() <= MAX_NODE_ID && message.node_id.chars().all(is_id);
        if self.settings.topics.of(&claim) != topic || !is_valid {
            return Err(InvalidClaim::TopicMismatch);
        }
        self.verifier.verify(&message, payload, now.mono)?;
        Ok((claim, message))
    }

    /// Handles a message that this box signed: its own coming back, or one that was kept or repeated by somebody else.
    fn own_received(
        &mut self,
        claim: Claim,
        message: &ClaimMessage,
        is_retained: bool,
        is_known: impl Fn(&CaseId) -> bool,
        now: Now,
    ) -> Result<Vec<ClaimAction>, InvalidClaim> {
        let mut actions = Vec::new();
        if let Some(own) = self.own.get(&claim.case) {
            if own.published.is_some_and(|last| message.until.timestamp() < last) {
                // Kept by the broker from before this connection; its successor is on the way.
                if is_retained {
                    return Ok(actions);
                }
                self.republish_soon(&claim.case, now);
                return Err(InvalidClaim::OwnOlder);
            }
            if !is_retained && !message.released {
                self.own_echoed(&claim.case, &message.saying, now, &mut actions);
            }
            return Ok(actions);
        }
        let is_of_known = is_known(&claim.case);
        // A case that was never filed is filed anew; the others no longer wait for its claim after a while.
        if !is_of_known && is_retained && message.filed {
            return self.peer_received(claim, message, now);
        }
        // The case is over, and somebody repeats an old claim for it. Before the store's claims were read, it may be open.
        if is_of_known && !message.released && self.has_own && self.contradictions.take(now.mono) {
            self.publish_claim(&claim, ClaimStage::Released, fastrand::u64(..), now, &mut actions);
            let topic = self.settings.topics.of(&claim);
            actions.push(ClaimAction::Clear { topic });
        }
        Ok(actions)
    }

    fn peer_received(
        &mut self,
        claim: Claim,
        message: &ClaimMessage,
        now: Now,
    ) -> Result<Vec<ClaimAction>, InvalidClaim> {
        self.peers.admit(&claim.node, now)?;
        let mut actions = Vec::new();
        let until = message.until.timestamp();
        let case = claim.case.clone();
        if message.released {
            let had_claim = self.peers.released(&claim.node, &case, until, now)?;
            actions.push(ClaimAction::Remember {
                node: claim.node,
                case: case.clone(),
                until,
            });
            // Without its claim, it may not be the box whose case was yielded to.
            if had_claim {
                self.yielded_to.entry(case).and_modify(|is_known| *is_known = true);
            }
        } else {
            let cell = (self.settings.cell_of)(claim.located.at);
            if cell.as_ref() != Some(&claim.located.cell) || !self.settings.cells.contains(&claim.located.cell) {
                return Err(InvalidClaim::Cell);
            }
            self.peers.claimed(claim, message.filed, until, now)?;
            if message.filed {
                self.yielded_to.entry(case).and_modify(|is_known| *is_known = true);
            }
        }
        self.peers_changed(now, &mut actions);
        Ok(actions)
    }
}
