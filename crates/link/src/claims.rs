//! Who files a problem that several boxes see: whoever says so first, in the broker's order.
//!
//! A box says of each of its cases, retained, where it is: a *claim*. Of a new case nothing is sent before the claim has come back
//! from the broker, to which every box listens that sees the same cells. A broker passes messages on in one order, so what had
//! been said before the box's own claim is known when that comes back: where no other claim of the same site stands then, the box
//! was first and files; otherwise it waits until the other's case is filed, and gives way. Two boxes can so not both be first, and
//! where neither is (they lost the broker in between) both take their claim back and try again, each after a moment of its own.
//!
//! **A box that is silent holds its sites**, for its cases are open at the platform: its claims stand until it takes them back or
//! [`KEPT`] after it renewed them last. Only what is claimed and not filed is taken for dead sooner, after [`UNFILED`] of silence. A broker that has lost
//! its memory is told everything again by whoever comes back; what was heard before counts [`REMEMBERED`] longer.
//!
//! This is the protocol alone, without clock, store or connection: what comes in gives [`Act`]s, in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use jiff::{Timestamp, tz::TimeZone};

use gridwatch_contract::{ClaimMessage, SiteTopic, When};
use gridwatch_engine::{CaseId, CellCode, Claim, Known, NodeId};
use gridwatch_store::{ClaimRow, ClaimState};

/// A claim counts for so long after it was last said.
pub(super) const KEPT: Duration = Duration::from_hours(8 * 24);
/// A case that is open is claimed anew so often.
const RENEWED: Duration = Duration::from_hours(24);
/// One that no broker has acknowledged, so often: its box is trying.
const TRYING: Duration = Duration::from_mins(1);
/// A box that has not filed what it claimed, and does not say for so long that it is trying, is not going to.
const UNFILED: Duration = Duration::from_mins(5);
/// A broker that does not pass on what is said to it, for so long, has no say in what is filed.
const UNHEARD: Duration = Duration::from_secs(30);
/// Two that were both behind the other try again within so long, each when it likes: in step they would meet for ever.
const HESITATION: Duration = Duration::from_secs(2);
/// What was heard before the broker lost its memory counts so much longer if nobody says it again.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Nobody has more open cases in the cells around one box.
const MAX_THEIRS: usize = 10_000;
/// A claim has a few hundred bytes.
const MAX_BYTES: usize = 4096;

/// Now: by the clock on the wall, which may be set, and by one that only runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) wall: Timestamp,
    pub(super) mono: Instant,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            wall: Timestamp::now(),
            mono: Instant::now(),
        }
    }

    fn since(self, then: Instant) -> Duration {
        self.mono.saturating_duration_since(then)
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// Publish, retained.
    Say { topic: String, message: Box<ClaimMessage> },
    /// Publish nothing in its place, retained.
    TakeBack { topic: String },
    /// Nobody was before us: send what there is about the case.
    File(CaseId),
    /// The same, because the broker does not pass claims on.
    FileUnheard(CaseId),
    /// This box's case gives way.
    Yield { case: CaseId, to: CaseId },
    /// The engine is to know.
    Tell(Known),
    /// Everybody has heard that the case is over.
    Forget(CaseId),
}

/// How it stands with a case of this box.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stand {
    /// To be said as soon as there is a connection.
    Unsaid,
    /// Said, and not heard back.
    Asked { saying: u64, since: Instant },
    /// Another was first, and has not filed yet; taken back until then. Not asked again before `until`.
    Behind { until: Instant },
    /// Ours.
    Held { is_filed: bool, said: Instant },
    /// Another was first, and has filed: to be over as soon as the store knows.
    Yielded,
    /// Over: taken back, and not heard back.
    Over,
}

#[derive(Debug)]
struct Ours {
    claim: Claim,
    stand: Stand,
}

#[derive(Debug)]
struct Theirs {
    claim: Claim,
    is_filed: bool,
    /// When it was said last, as far as we heard.
    heard: Instant,
    until: Timestamp,
    /// The broker that we have now has said it.
    is_confirmed: bool,
    /// Taken for dead.
    is_void: bool,
}

/// The protocol's state.
#[derive(Debug)]
pub(super) struct Claims {
    node: NodeId,
    topics: SiteTopic,
    zone: TimeZone,
    /// Cells in which other boxes may see the same sites.
    cells: BTreeSet<CellCode>,
    ours: BTreeMap<CaseId, Ours>,
    theirs: BTreeMap<CaseId, Theirs>,
    /// The broker has us, and passes claims on to us.
    is_heard: bool,
    /// The broker has lost its memory: what it does not say again by then was said to another.
    forgetful_since: Option<Instant>,
}

impl Claims {
    /// `known` are the claims that the engine remembers.
    pub(super) fn new(
        node: NodeId,
        topics: SiteTopic,
        zone: TimeZone,
        cells: BTreeSet<CellCode>,
        known: Vec<Claim>,
        now: Moment,
    ) -> Self {
        let theirs = known.into_iter().map(|claim| {
            let theirs = Theirs {
                claim,
                // If it is not, the broker says so.
                is_filed: true,
                heard: now.mono,
                until: kept(now.wall),
                is_confirmed: false,
                is_void: false,
            };
            (theirs.claim.case.clone(), theirs)
        });
        Self {
            node,
            topics,
            zone,
            cells,
            ours: BTreeMap::new(),
            theirs: theirs.collect(),
            is_heard: false,
            // The broker may have forgotten them while we were away.
            forgetful_since: Some(now.mono),
        }
    }

    /// The broker has us, and claims may come. `is_new`: it does not know us from before, and others perhaps as little.
    pub(super) fn greeted(&mut self, is_new: bool, now: Moment) {
        if is_new {
            self.forgetful_since = Some(now.mono);
            self.theirs.values_mut().for_each(|t| t.is_confirmed = false);
        }
    }

    /// What we say reaches the broker; `is_heard`: and claims reach us. `rows` is what the store has.
    pub(super) fn begin(&mut self, rows: Vec<ClaimRow>, is_heard: bool, now: Moment) -> Vec<Act> {
        self.is_heard = is_heard;
        let mut acts = Vec::new();
        // What stands is said last: nobody waits for it.
        let mut renewed = Vec::new();
        self.ours.clear();
        for row in rows {
            let id = row.claim.case.clone();
            let topic = self.topics.of(&row.claim);
            let stand = match (row.is_open, row.state) {
                (false, _) => Stand::Over,
                (true, ClaimState::Wanted) => Stand::Unsaid,
                (true, ClaimState::Sent | ClaimState::Filed) => Stand::Held {
                    is_filed: row.state == ClaimState::Filed,
                    said: now.mono,
                },
            };
            self.ours.insert(
                id.clone(),
                Ours {
                    claim: row.claim,
                    stand,
                },
            );
            match stand {
                Stand::Over => acts.push(Act::TakeBack { topic }),
                Stand::Held { .. } => self.renew(&id, now, &mut renewed),
                Stand::Unsaid => {
                    if is_heard {
                        // Others may have decided on what we said before; from here on it is said now.
                        acts.push(Act::TakeBack { topic });
                    }
                    self.ask(&id, now, &mut acts);
                }
                _ => {}
            }
        }
        acts.extend(renewed);
        acts
    }

    /// The store's rows changed.
    pub(super) fn news(&mut self, rows: Vec<ClaimRow>, now: Moment) -> Vec<Act> {
        let mut acts = Vec::new();
        for row in rows {
            let id = row.claim.case.clone();
            let topic = self.topics.of(&row.claim);
            let ours = self.ours.entry(id.clone()).or_insert(Ours {
                claim: row.claim,
                stand: Stand::Unsaid,
            });
            match (row.is_open, ours.stand) {
                (false, Stand::Over) => {}
                (false, _) => {
                    ours.stand = Stand::Over;
                    acts.push(Act::TakeBack { topic });
                }
                (true, Stand::Unsaid) => self.ask(&id, now, &mut acts),
                // The store did not take it before.
                (true, Stand::Held { .. }) if row.state == ClaimState::Wanted => acts.push(Act::File(id)),
                (true, Stand::Held { is_filed: false, .. }) if row.state == ClaimState::Filed => {
                    ours.stand = Stand::Held {
                        is_filed: true,
                        said: now.mono,
                    };
                    self.renew(&id, now, &mut acts);
                }
                // Closed and opened again: nobody has filed it meanwhile that we know of, and the platform knows it.
                (true, Stand::Over) => {
                    ours.stand = Stand::Held {
                        is_filed: true,
                        said: now.mono,
                    };
                    self.renew(&id, now, &mut acts);
                }
                _ => {}
            }
        }
        acts
    }

    /// A message on a site topic. What is none is nobody's.
    pub(super) fn heard(
        &mut self,
        topic: &str,
        payload: &[u8],
        is_retained: bool,
        now: Moment,
    ) -> Result<Vec<Act>, InvalidClaim> {
        let (node, case) = self.topics.parse(topic).ok_or(InvalidClaim::Topic)?;
        let is_ours = node == self.node.as_str();
        let mut acts = Vec::new();
        if payload.is_empty() {
            match is_ours {
                true => self.taken_back(&case, now, &mut acts),
                false => self.gone(&case, now, &mut acts),
            }
            return Ok(acts);
        }
        if payload.len() > MAX_BYTES {
            return Err(InvalidClaim::Oversized(payload.len()));
        }
        let message: ClaimMessage = serde_json::from_slice(payload).map_err(InvalidClaim::Unreadable)?;
        let claim = message.claim().ok_or(InvalidClaim::Place)?;
        if self.topics.of(&claim) != topic {
            return Err(InvalidClaim::Elsewhere);
        }
        if is_ours {
            if !is_retained {
                self.came_back(&case, &message.saying, now, &mut acts);
            }
            return Ok(acts);
        }
        // However far the other's clock is off: what is said now counts as long as ever, and nothing counts longer.
        let until = match is_retained {
            true => message.until.timestamp().min(kept(now.wall)),
            false => kept(now.wall),
        };
        self.theirs(claim, message.filed, until, now, &mut acts)?;
        Ok(acts)
    }

    /// The broker does not take what was said on `topic`: it has no say in what is filed.
    pub(super) fn refused(&mut self, topic: &str, now: Moment) -> Vec<Act> {
        let asked = self.topics.parse(topic).map(|(_, case)| case).filter(|case| {
            let stand = self.ours.get(case).map(|ours| ours.stand);
            matches!(stand, Some(Stand::Asked { .. }))
        });
        let Some(case) = asked else { return Vec::new() };
        self.hold(&case, now);
        vec![Act::FileUnheard(case)]
    }

    /// Time passes; to be called every second.
    pub(super) fn tick(&mut self, now: Moment) -> Vec<Act> {
        let mut acts = Vec::new();
        let is_forgotten = self.forgetful_since.is_some_and(|then| now.since(then) >= REMEMBERED);
        if is_forgotten {
            self.forgetful_since = None;
        }
        let mut gone = Vec::new();
        let mut void = Vec::new();
        for (id, theirs) in &mut self.theirs {
            if theirs.until < now.wall || (is_forgotten && !theirs.is_confirmed) {
                gone.push(id.clone());
            } else if !theirs.is_filed && !theirs.is_void && now.since(theirs.heard) >= UNFILED {
                theirs.is_void = true;
                void.push(id.clone());
            }
        }
        for id in gone {
            self.gone(&id, now, &mut acts);
        }
        for id in void {
            acts.push(Act::Tell(Known::Released(id)));
        }
        self.retry(now, &mut acts);
        let late = |ours: &Ours| match ours.stand {
            Stand::Asked { since, .. } => now.since(since) >= UNHEARD,
            _ => false,
        };
        let due = |ours: &Ours| match ours.stand {
            Stand::Held { is_filed, said } => now.since(said) >= if is_filed { RENEWED } else { TRYING },
            _ => false,
        };
        let of = |is: &dyn Fn(&Ours) -> bool| -> Vec<CaseId> {
            let those = self.ours.iter().filter(|(_, ours)| is(ours));
            those.map(|(id, _)| id.clone()).collect()
        };
        let (late, due) = (of(&late), of(&due));
        for id in late {
            self.hold(&id, now);
            acts.push(Act::FileUnheard(id));
        }
        for id in due {
            self.renew(&id, now, &mut acts);
        }
        acts
    }

    /// Claims `id`, or files it at once where no other box can see it or claims are not passed on.
    fn ask(&mut self, id: &CaseId, now: Moment, acts: &mut Vec<Act>) {
        let Some(ours) = self.ours.get_mut(id) else { return };
        if !self.is_heard || !self.cells.contains(&ours.claim.located.cell) {
            self.hold(id, now);
            acts.push(Act::File(id.clone()));
            return;
        }
        let saying = fastrand::u64(..);
        ours.stand = Stand::Asked {
            saying,
            since: now.mono,
        };
        self.say(id, false, saying, now, acts);
    }

    /// The claim came back from the broker: were we first?
    fn came_back(&mut self, id: &CaseId, heard: &str, now: Moment, acts: &mut Vec<Act>) {
        let Some(Ours { claim, stand }) = self.ours.get(id) else {
            return;
        };
        match stand {
            // An earlier saying may come back late.
            Stand::Asked { saying, .. } if format!("{saying:016x}") == heard => {}
            _ => return,
        }
        match self.before(claim) {
            None => {
                self.hold(id, now);
                acts.push(Act::File(id.clone()));
            }
            Some(_) => {
                acts.push(Act::TakeBack {
                    topic: self.topics.of(claim),
                });
                if let Some(ours) = self.ours.get_mut(id) {
                    let until = now.mono + HESITATION.mul_f64(fastrand::f64());
                    ours.stand = Stand::Behind { until };
                }
                self.retry(now, acts);
            }
        }
    }

    /// Whose claim stands at the site of `claim`: one that is filed before the others.
    fn before(&self, claim: &Claim) -> Option<&Theirs> {
        let there = self
            .theirs
            .values()
            .filter(|t| !t.is_void && t.claim.is_at_site_of(claim));
        there.max_by_key(|t| t.is_filed)
    }

    /// Looks after what is behind another's claim: gives way where that is filed, and tries again where it is no more.
    fn retry(&mut self, now: Moment, acts: &mut Vec<Act>) {
        let behind = self.ours.iter().filter_map(|(id, ours)| match ours.stand {
            Stand::Behind { until } => Some((id, &ours.claim, until)),
            _ => None,
        });
        let next: Vec<(CaseId, Option<CaseId>)> = behind
            .filter_map(|(id, claim, until)| match self.before(claim) {
                Some(t) if t.is_filed => Some((id.clone(), Some(t.claim.case.clone()))),
                None if now.mono >= until => Some((id.clone(), None)),
                _ => None,
            })
            .collect();
        for (id, to) in next {
            match to {
                None => self.ask(&id, now, acts),
                Some(to) => {
                    if let Some(ours) = self.ours.get_mut(&id) {
                        ours.stand = Stand::Yielded;
                    }
                    acts.push(Act::Yield { case: id, to });
                }
            }
        }
    }

    fn theirs(
        &mut self,
        claim: Claim,
        is_filed: bool,
        until: Timestamp,
        now: Moment,
        acts: &mut Vec<Act>,
    ) -> Result<(), InvalidClaim> {
        if until < now.wall {
            self.gone(&claim.case.clone(), now, acts);
            return Ok(());
        }
        if self.theirs.len() >= MAX_THEIRS && !self.theirs.contains_key(&claim.case) {
            return Err(InvalidClaim::TooMany);
        }
        let before = self.theirs.remove(&claim.case);
        let is_known = before.as_ref().is_some_and(|b| b.claim == claim && !b.is_void);
        if !is_known {
            acts.push(Act::Tell(Known::Claimed(claim.clone())));
        }
        let theirs = Theirs {
            claim,
            is_filed,
            heard: now.mono,
            until,
            is_confirmed: true,
            is_void: false,
        };
        self.theirs.insert(theirs.claim.case.clone(), theirs);
        self.retry(now, acts);
        Ok(())
    }

    /// Another box's case is over, or its claim void.
    fn gone(&mut self, id: &CaseId, now: Moment, acts: &mut Vec<Act>) {
        let Some(theirs) = self.theirs.remove(id) else { return };
        if !theirs.is_void {
            acts.push(Act::Tell(Known::Released(id.clone())));
        }
        self.retry(now, acts);
    }

    /// Our own message of nothing came back.
    fn taken_back(&mut self, id: &CaseId, now: Moment, acts: &mut Vec<Act>) {
        match self.ours.get(id).map(|ours| ours.stand) {
            Some(Stand::Over) => {
                self.ours.remove(id);
                acts.push(Act::Forget(id.clone()));
            }
            // Somebody cleaned up behind our back: it stands.
            Some(Stand::Held { .. }) => self.renew(id, now, acts),
            _ => {}
        }
    }

    fn hold(&mut self, id: &CaseId, now: Moment) {
        if let Some(ours) = self.ours.get_mut(id) {
            ours.stand = Stand::Held {
                is_filed: false,
                said: now.mono,
            };
        }
    }

    /// Says once more what is ours.
    fn renew(&mut self, id: &CaseId, now: Moment, acts: &mut Vec<Act>) {
        let Some(ours) = self.ours.get_mut(id) else { return };
        let Stand::Held { is_filed, said } = &mut ours.stand else {
            return;
        };
        *said = now.mono;
        let is_filed = *is_filed;
        if self.cells.contains(&ours.claim.located.cell) {
            self.say(id, is_filed, fastrand::u64(..), now, acts);
        }
    }

    fn say(&self, id: &CaseId, is_filed: bool, saying: u64, now: Moment, acts: &mut Vec<Act>) {
        let Some(ours) = self.ours.get(id) else { return };
        let until = When::new(kept(now.wall), &self.zone);
        acts.push(Act::Say {
            topic: self.topics.of(&ours.claim),
            message: Box::new(ClaimMessage::new(&ours.claim, is_filed, saying, until)),
        });
    }
}

fn kept(now: Timestamp) -> Timestamp {
    now.saturating_add(KEPT).unwrap_or(Timestamp::MAX)
}

/// Why a message on a site topic is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidClaim {
    #[error("its topic is no site's")]
    Topic,
    #[error("it has {0} bytes, a claim has {MAX_BYTES} at most")]
    Oversized(usize),
    #[error("it is no claim: {0}")]
    Unreadable(serde_json::Error),
    #[error("its place or its reach is none")]
    Place,
    #[error("it is of another cell, category, box or case than its topic")]
    Elsewhere,
    #[error("there are more than {MAX_THEIRS} claims in the cells around this box")]
    TooMany,
}

#[cfg(test)]
mod tests;
