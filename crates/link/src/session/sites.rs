//! Carries out what [`Claims`] decides: over the connection, in the store, and towards the engine.

use std::collections::VecDeque;

use futures::FutureExt;
use metrics::counter;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, warn};

use super::{Link, connection::Connection, sending::Sent};
use crate::{
    Sharing,
    claims::{Act, Claims, Moment},
    wire::{Message, MessageKind, OutboundMessage, SubscribeOutcome, Verdict, Wire},
};
use gridwatch_contract::topics::SiteTopic;
use gridwatch_engine::Known;
use gridwatch_store::{Store, StoreError};

/// Claims that wait for the broker's word at once: beside the outbox's messages they are few.
const IN_FLIGHT: usize = 4;

/// The claims of this box and of others, and what is to be said of them.
pub(super) struct Sites {
    claims: Claims,
    topics: SiteTopic,
    filters: Vec<String>,
    to_say: VecDeque<OutboundMessage>,
    engine: UnboundedSender<Known>,
    /// The broker lets us neither hear nor say claims, and that has been said.
    forbidden_said: bool,
}

impl Sites {
    pub(super) fn new(wire: &Wire, sharing: Sharing) -> Self {
        let topics = SiteTopic::new(&wire.settings.topic_prefix);
        Self {
            filters: sharing.cells.iter().map(|cell| topics.filter(cell)).collect(),
            claims: Claims::new(
                wire.settings.node.clone(),
                topics.clone(),
                wire.settings.zone.clone(),
                sharing.cells,
                sharing.known,
                Moment::now(),
            ),
            topics,
            to_say: VecDeque::new(),
            engine: sharing.news,
            forbidden_said: false,
        }
    }

    /// The broker has us. What the last connection did not say is said anew.
    pub(super) fn greeted(&mut self, is_new: bool) {
        self.to_say.clear();
        self.claims.greeted(is_new, Moment::now());
    }

    pub(super) fn holds(&self, topic: &str) -> bool {
        self.topics.holds(topic)
    }

    /// What to listen to.
    pub(super) fn filters(&self) -> Vec<String> {
        self.filters.clone()
    }

    fn carry_out(&mut self, acts: Vec<Act>, store: &mut Store) -> Result<(), StoreError> {
        let mut failed = Ok(());
        for act in acts {
            let done = match act {
                Act::Say { topic, message } => {
                    let payload = serde_json::to_vec(&message).unwrap_or_default();
                    self.to_say.push_back(claim(topic, payload));
                    Ok(())
                }
                Act::TakeBack { topic } => {
                    self.to_say.push_back(claim(topic, Vec::new()));
                    Ok(())
                }
                Act::File(case) => store.claim_granted(&case),
                Act::FileUnheard(case) => {
                    warn!(
                        %case,
                        "The broker did not pass the box's claim on a site back to it, so the case is filed without: another box may file it, \
                         too. Let the box read and write its site topics in the broker's ACL, or set broker.share_sites = false."
                    );
                    store.claim_granted(&case)
                }
                Act::Forget(case) => store.claim_over(&case),
                Act::Yield { case, to } => {
                    self.tell(Known::Yielded { case, to });
                    Ok(())
                }
                Act::Tell(known) => {
                    self.tell(known);
                    Ok(())
                }
            };
            // The rest is done all the same: what failed is found again at the next stocktaking.
            failed = failed.and(done);
        }
        failed
    }

    /// Where the daemon is ending, nobody listens: the next connection says it again.
    fn tell(&self, known: Known) {
        let _ = self.engine.send(known);
    }
}

fn claim(topic: String, payload: Vec<u8>) -> OutboundMessage {
    OutboundMessage {
        topic,
        payload,
        sort: MessageKind::Claim,
    }
}

impl Connection {
    /// The broker has us: what is ours is said, and what is to become ours is asked for.
    pub(super) fn begin_claims(&mut self, link: &mut Link, heard: SubscribeOutcome) {
        let Some(sites) = &mut link.sites else { return };
        let is_heard = match heard {
            SubscribeOutcome::Yes => true,
            SubscribeOutcome::Forbidden(reason) => {
                if !std::mem::replace(&mut sites.forbidden_said, true) {
                    error!(
                        reason,
                        "The broker does not let the box hear what other boxes have open; each may file the same problem. Allow it in the \
                         broker's ACL, or set broker.share_sites = false."
                    );
                }
                false
            }
            SubscribeOutcome::Lost => return,
        };
        let rows = link.store.claims();
        let done = rows.and_then(|rows| {
            let acts = sites.claims.begin(rows, is_heard, Moment::now());
            sites.carry_out(acts, &mut link.store)
        });
        if let Err(e) = done {
            self.store_failed(&e);
        }
    }

    /// The store may have new cases, and others may be over.
    pub(super) fn own_claims(&mut self, link: &mut Link) {
        let (Some(sites), true) = (&mut link.sites, self.up_since.is_some()) else {
            return;
        };
        let rows = link.store.claims();
        let done = rows.and_then(|rows| {
            let acts = sites.claims.news(rows, Moment::now());
            sites.carry_out(acts, &mut link.store)
        });
        if let Err(e) = done {
            self.store_failed(&e);
        }
    }

    /// Time passes.
    pub(super) fn claims_wait(&mut self, link: &mut Link) {
        let Some(sites) = &mut link.sites else { return };
        let acts = sites.claims.tick(Moment::now());
        if let Err(e) = sites.carry_out(acts, &mut link.store) {
            self.store_failed(&e);
        }
    }

    /// A message on a site topic.
    pub(super) fn claim(&mut self, link: &mut Link, message: Message) {
        if let Some(sites) = &mut link.sites {
            match sites
                .claims
                .heard(&message.topic, &message.payload, message.is_retained, Moment::now())
            {
                Ok(acts) => {
                    if let Err(e) = sites.carry_out(acts, &mut link.store) {
                        self.store_failed(&e);
                    }
                }
                Err(nonsense) => {
                    counter!("gridwatch_claims_refused_total").increment(1);
                    // Debug form: whoever wrote it must not write into the log.
                    warn!(topic = ?message.topic, reason = ?nonsense.to_string(), "A message on a site topic was thrown away.");
                }
            }
        }
        self.take(message.receipt);
    }

    /// Says what is to be said, a few at a time.
    pub(super) fn say_claims(&mut self, link: &mut Link) {
        let Some(sites) = &mut link.sites else { return };
        while self.unanswered_claims < IN_FLIGHT {
            let Some(letter) = sites.to_say.front() else { return };
            let sent = Sent::claim(letter.topic.clone());
            let Ok(verdict) = self.client.send(letter.clone()) else {
                // The queue is full, or the connection is ending.
                return;
            };
            sites.to_say.pop_front();
            self.unanswered_claims += 1;
            self.sent.push(verdict.map(|verdict| (sent, verdict)).boxed());
        }
    }

    /// The broker's word on a claim. What it passes on comes back to us; a refusal alone is told here.
    pub(super) fn claim_answered(&mut self, link: &mut Link, topic: &str, verdict: Verdict) {
        self.unanswered_claims = self.unanswered_claims.saturating_sub(1);
        let (Some(sites), Verdict::Refused(reason)) = (&mut link.sites, verdict) else {
            return;
        };
        if !std::mem::replace(&mut sites.forbidden_said, true) {
            error!(
                topic,
                reason,
                "The broker does not take what the box says of its sites; another box may file the same problem."
            );
        }
        let acts = sites.claims.refused(topic, Moment::now());
        if let Err(e) = sites.carry_out(acts, &mut link.store) {
            self.store_failed(&e);
        }
    }
}
