//! The one owner of the engine and the store: one event at a time goes in, the engine's effects are carried out, and
//! nothing else in the process decides or commits. So there are no locks, and the order of events is the order of history.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::{counter, gauge, histogram};

use super::{
    evidence_worker::Job,
    pinned_frames::{FrameKey, Pinned, PinnedFrames},
    record::{KnownModel, Records},
};
use crate::telemetry::Health;
use gridwatch_base::{error::Class, metric};
use gridwatch_camera::Picture;
use gridwatch_config::Config;
use gridwatch_contract::When;
use gridwatch_engine::{
    BBox, CameraId, Case, CaseId, CaseState, Effect, Elsewhere, Input, Known, Observation, Resumed, RuleId, Snapshot,
    Verified,
};
use gridwatch_evidence::EvidencePicture;
use gridwatch_ledger::Recorded;
use gridwatch_link::IncomingReply;
use gridwatch_store::{ClaimRow, ClaimState, Pruned, Retention, Revision, Store, StoreError};

/// What reaches the core.
pub(super) enum Event {
    /// A look was judged.
    Looked {
        observation: Observation,
        picture: Picture,
        /// The models that found what was found.
        seen_by: Arc<[KnownModel]>,
    },
    /// A camera was aimed anew, and an operator confirmed it.
    Reaimed { camera: CameraId, at: Timestamp },
    /// The platform answered.
    Reply(IncomingReply),
    /// A case has its pictures.
    Pictured {
        case: Box<Case>,
        pictures: Vec<EvidencePicture>,
        /// The models of its confirming look.
        seen_by: Arc<[KnownModel]>,
    },
    /// A case was looked at again, and these show it.
    Verified {
        answer: Box<Verified>,
        pictures: Vec<EvidencePicture>,
    },
    /// What another box has open, or has no more.
    Elsewhere(Known),
    /// A case's pictures cannot be made yet. `is_full`: for want of room.
    Waiting { reason: String, is_full: bool },
    /// A case's pictures can never be made.
    NotPictured { case: CaseId },
    /// No more looks will come; finish what is under way.
    Stop,
}

/// The core turns at least this often, so that a stuck core is told from an idle one.
const TURN: Duration = Duration::from_secs(1);

/// How long a commit that failed is left alone before the next try.
const RETRY: Duration = Duration::from_secs(5);

/// What is old goes this often.
const PRUNE_EVERY: Duration = Duration::from_mins(10);

/// What the engine knows beside its cases is kept this often: a crash costs a dwell no more than that.
const KEEP_EVERY: Duration = Duration::from_mins(1);

/// Asks a camera to be looked at sooner than its turn.
pub(super) type LookBy = Box<dyn Fn(&CameraId, Timestamp) + Send>;

/// Asks for a closer look at a place in a view, for a rule.
pub(super) type SecondLook = Box<dyn Fn(CameraId, RuleId, BBox) + Send>;

/// The core's state; everything in it dies with the process, what matters is in the store.
pub(super) struct Core {
    /// Every input goes through it, and into the ledger.
    pub(super) engine: Recorded,
    pub(super) store: Store,
    pub(super) config: Arc<Config>,
    pub(super) records: Records,
    pub(super) pins: PinnedFrames,
    /// Asks a camera to be looked at sooner.
    pub(super) look_by: LookBy,
    /// Asks for a closer look at the next one.
    pub(super) second_look_at: SecondLook,
    /// `None` once the core is stopping.
    pub(super) keeper: Option<Sender<Job>>,
    pub(super) health: Arc<Health>,
    /// What could not be committed for a reason that passes (a full disk), in order.
    pub(super) uncommitted: Vec<Commit>,
}

/// Something the engine decided that the store must hold.
pub(super) enum Commit {
    /// A new case with its pictures.
    Case(Box<Case>, Vec<EvidencePicture>, Arc<[KnownModel]>),
    /// A change of state that the box decided.
    Revision(Revision),
    /// A case of ours that another box was first to file.
    Yielded(Revision),
    /// What became of a case's thing, with the pictures that show it.
    Verified(Box<Verified>, Vec<EvidencePicture>),
    /// The platform's answer, and what the engine made of it; acknowledged to the broker only then.
    Reply(Box<IncomingReply>, Option<Revision>),
}

impl Core {
    /// Works until the keeper has handed back its last case after [`Event::Stop`].
    pub(super) fn run(mut self, events: &Receiver<Event>) {
        // Not wall time: a clock that is set back must not hold up what waits.
        let mut retry_at = Instant::now();
        let mut keep_at = Instant::now() + KEEP_EVERY;
        let mut prune_at = Instant::now();
        loop {
            match events.recv_timeout(self.patience()) {
                Ok(Event::Stop) => self.keeper = None,
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Timestamp::now();
            self.health.beat();
            self.engine.turn(Instant::now());
            if self.engine.engine().next_deadline().is_some_and(|at| at <= now) {
                self.apply(Input::Tick(now), None);
            }
            if !self.uncommitted.is_empty() && Instant::now() >= retry_at {
                self.commit_again();
                retry_at = Instant::now() + RETRY;
            }
            if Instant::now() >= prune_at {
                let keep = self.config.evidence.retention;
                self.prune(&keep);
                prune_at = Instant::now() + PRUNE_EVERY;
            }
            if Instant::now() >= keep_at {
                self.keep(now);
                keep_at = Instant::now() + KEEP_EVERY;
            }
        }
        if !self.uncommitted.is_empty() {
            self.commit_again();
        }
        for commit in &self.uncommitted {
            tracing::error!(what = %commit.what(), "This could not be committed before the stop. If the problem is still there, it is confirmed again after the start; the platform's answers come again.");
        }
        self.keep(Timestamp::now());
    }

    /// Keeps what a restart must not take away. Where the disk takes nothing, judging goes on: the cases' commits say so.
    fn keep(&mut self, now: Timestamp) {
        gauge!(metric::WAITING).set(self.engine.engine().waiting() as f64);
        self.pins.write(now);
        if let Err(error) = self.store.keep_snapshot(now, &self.engine.engine().snapshot()) {
            tracing::warn!(%error, "What the engine knows of problems that are no cases yet could not be kept; a restart now would have them dwell anew.");
        }
    }

    /// Lets go what is old or too much.
    fn prune(&mut self, keep: &Retention) {
        match self.store.prune(keep, Timestamp::now()) {
            Ok(gone) if gone == Pruned::default() => {}
            Ok(Pruned { originals, pictures }) => {
                tracing::info!(
                    originals,
                    pictures,
                    "Evidence that is old, or for which there is no room, was deleted."
                );
            }
            Err(error) => tracing::warn!(%error, "Evidence that is old could not be deleted."),
        }
    }

    /// The disk is full: what waits to be filed is worth more than any original.
    fn make_room(&mut self) {
        let mut keep = self.config.evidence.retention;
        keep.originals.bytes = 0;
        self.prune(&keep);
    }

    /// Gives the engine back what it knew when the last daemon stopped.
    pub(super) fn resume(&mut self, snapshot: Snapshot) {
        let pictures = self.pins.take_back(snapshot.firsts());
        self.apply(Input::Resumed(Box::new(Resumed { snapshot, pictures })), None);
    }

    fn patience(&self) -> Duration {
        let until = self
            .engine
            .engine()
            .next_deadline()
            .map(|at| at.duration_since(Timestamp::now()));
        until
            .and_then(|d| Duration::try_from(d).ok())
            .map_or(TURN, |d| d.min(TURN))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Looked {
                observation,
                picture,
                seen_by,
            } => {
                let pinned = Pinned {
                    picture,
                    detections: observation.detections.as_slice().into(),
                    seen_by,
                };
                let look = (observation.camera.clone(), observation.at);
                self.apply(Input::Observed(observation), Some((look, pinned)));
            }
            Event::Reaimed { camera, at } => self.apply(Input::Reaimed { camera, at }, None),
            Event::Reply(incoming) => self.reply(incoming),
            Event::Pictured {
                case,
                pictures,
                seen_by,
            } => self.commit(Commit::Case(case, pictures, seen_by)),
            Event::Verified { answer, pictures } => self.commit(Commit::Verified(answer, pictures)),
            Event::Elsewhere(known) => self.elsewhere(known),
            Event::Waiting { reason, is_full } => {
                if is_full {
                    self.make_room();
                }
                self.health.set_faults(vec![reason]);
            }
            Event::NotPictured { case } => self.apply(Input::EvidenceFailed { case }, None),
            Event::Stop => {}
        }
    }

    /// Puts one input to the engine and does what it wants; `look` is the picture the input came from.
    fn apply(&mut self, input: Input, look: Option<(FrameKey, Pinned)>) {
        for effect in self.engine.apply(input) {
            self.carry_out(effect, look.as_ref());
        }
    }

    fn carry_out(&mut self, effect: Effect, look: Option<&(FrameKey, Pinned)>) {
        match effect {
            Effect::Look { camera, by } => (self.look_by)(&camera, by),
            Effect::SecondLook { camera, rule, bbox } => (self.second_look_at)(camera, rule, bbox),
            Effect::Pin { camera, at } => self.pins.pin((camera, at), look),
            Effect::Unpin { camera, at } => {
                self.pins.unpin((camera, at));
            }
            Effect::Open(case) => self.open(case),
            Effect::Revise {
                case,
                state,
                at,
                reason,
            } => {
                let revision = self.revision(case, state, at, reason);
                self.commit(Commit::Revision(revision));
            }
            Effect::Verified(answer) => self.verified(answer, look),
            Effect::ReplyRefused {
                case, reply, reason, ..
            } => {
                tracing::warn!(%case, reply = reply.as_str(), reason, "The platform's answer does not fit the case; it is on record and changes nothing.");
                counter!(metric::REPLIES_REFUSED, "reply" => reply.as_str()).increment(1);
            }
            Effect::Turned {
                camera,
                rule,
                reason,
                at: _,
            } => {
                counter!(metric::PRESENCE, "camera" => camera.to_string(), "rule" => rule.to_string(), "reason" => reason.as_str()).increment(1);
            }
            Effect::NotFiled {
                camera,
                rule,
                reason,
                at: _,
            } => {
                tracing::debug!(%camera, %rule, reason = reason.as_str(), "A candidate was not filed.");
                counter!(metric::NOT_FILED, "camera" => camera.to_string(), "rule" => rule.to_string(), "reason" => reason.as_str()).increment(1);
            }
        }
    }

    fn open(&mut self, case: Box<Case>) {
        let first = self.pins.unpin((case.camera.clone(), case.first_seen_at));
        let confirming = self.pins.unpin((case.camera.clone(), case.confirmed_at));
        let id = case.id.clone();
        let job = first.zip(confirming).map(|(first, confirming)| Job::Case {
            case,
            first,
            confirming,
        });
        let sent = match (job, &self.keeper) {
            (Some(job), Some(keeper)) => keeper.send(job).is_ok(),
            _ => false,
        };
        if !sent {
            tracing::warn!(case = %id, "A case was confirmed but has no pictures to show, so it is not filed.");
            self.apply(Input::EvidenceFailed { case: id }, None);
        }
    }

    /// What became of a case goes to the platform with a picture of the look that showed it, where one did.
    fn verified(&mut self, answer: Box<Verified>, look: Option<&(FrameKey, Pinned)>) {
        let look = look.filter(|((_, at), _)| answer.is_look && *at == answer.at);
        match (look, &self.keeper) {
            (Some((_, pinned)), Some(keeper)) => {
                let look = pinned.clone();
                if let Err(mpsc::SendError(Job::Verified { answer, .. })) = keeper.send(Job::Verified { answer, look })
                {
                    self.commit(Commit::Verified(answer, Vec::new()));
                }
            }
            _ => self.commit(Commit::Verified(answer, Vec::new())),
        }
    }

    fn revision(&self, case: CaseId, state: CaseState, at: Timestamp, reason: String) -> Revision {
        Revision {
            case,
            state,
            at: When::new(at, &self.config.timezone),
            reason,
        }
    }

    /// The answer goes to the engine first, which alone knows what it means for the case, and is then committed together
    /// with what the engine made of it.
    fn reply(&mut self, incoming: IncomingReply) {
        let mut decided = None;
        for effect in self.engine.apply(Input::Reply(incoming.reply.clone())) {
            match effect {
                Effect::Revise {
                    case,
                    state,
                    at,
                    reason,
                } => decided = Some(self.revision(case, state, at, reason)),
                other => self.carry_out(other, None),
            }
        }
        self.commit(Commit::Reply(Box::new(incoming), decided));
    }

    fn elsewhere(&mut self, what: Known) {
        let at = Timestamp::now();
        let mut yielded = None;
        if let Known::Yielded { case, to } = &what {
            // Taken back or given way meanwhile, or free to be sent after all.
            let is_wanted = |row: &ClaimRow| row.claim.case == *case && row.is_open && row.state == ClaimState::Wanted;
            let is_ours = self.engine.engine().open_cases().any(|open| open.id == *case);
            if !is_ours || !self.store.claims().is_ok_and(|rows| rows.iter().any(is_wanted)) {
                return;
            }
            let theirs = self.engine.engine().claims().find(|claim| claim.case == *to);
            let node = theirs.map_or_else(|| "another box".into(), |claim| claim.node.to_string());
            tracing::info!(%case, %to, node, "A case is not filed: another box was first.");
            let reason = format!("Not filed: {node} was first to confirm the problem, as its case {to}.");
            yielded = Some(self.revision(case.clone(), CaseState::DuplicateOf, at, reason));
        }
        self.apply(Input::Elsewhere(Elsewhere { at, what }), None);
        if let Some(revision) = yielded {
            self.commit(Commit::Yielded(revision));
        }
    }

    fn commit_again(&mut self) {
        for commit in std::mem::take(&mut self.uncommitted) {
            self.commit(commit);
        }
        if self.uncommitted.is_empty() {
            self.health.set_faults(Vec::new());
            tracing::info!("What had waited to be committed is committed.");
        }
    }

    fn commit(&mut self, commit: Commit) {
        // Order is history: nothing overtakes what waits.
        if !self.uncommitted.is_empty() {
            self.uncommitted.push(commit);
            return;
        }
        match self.try_commit(&commit) {
            Ok(()) => {
                // The disk takes writes again: whatever the keeper had reported is over, or it says so again.
                self.health.set_faults(Vec::new());
                commit.acknowledge();
            }
            Err(error) if error.class() == Class::Transient => {
                tracing::error!(what = %commit.what(), %error, "This could not be committed; it is tried again.");
                if matches!(error, StoreError::DiskFull { .. }) {
                    self.make_room();
                }
                self.health
                    .set_faults(vec![format!("{} waits to be committed: {error}", commit.what())]);
                self.uncommitted.push(commit);
            }
            Err(error) => {
                tracing::error!(what = %commit.what(), %error, "This can never be committed and is dropped.");
                if let Commit::Case(case, ..) = &commit {
                    self.apply(Input::EvidenceFailed { case: case.id.clone() }, None);
                }
                // An answer that can never be kept must not come again for ever.
                commit.acknowledge();
            }
        }
    }

    fn try_commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        let form = &self.records.form;
        match commit {
            Commit::Revision(revision) => self.store.revise(revision, form).map(drop),
            Commit::Yielded(revision) => self.store.yielded(revision, form).map(drop),
            Commit::Reply(incoming, decided) => self
                .store
                .apply_reply(&incoming.message, incoming.reply.at, decided.as_ref(), form)
                .map(drop),
            Commit::Verified(answer, pictures) => {
                let pictures = self.records.after(&self.config, pictures);
                self.store.verified(answer, pictures, &self.config.timezone, form)?;
                counter!(metric::VERIFIED, "finding" => answer.finding.as_str()).increment(1);
                tracing::info!(case = %answer.case, finding = answer.finding.as_str(), looks = answer.looks, "A case was looked at again.");
                Ok(())
            }
            Commit::Case(case, pictures, seen_by) => {
                let Some(record) = self.records.of(&self.config, case, pictures, seen_by) else {
                    return Err(StoreError::NoEvidence {
                        case: case.id.clone(),
                        what: "its camera is no longer configured, or no model that looked there finds its labels"
                            .into(),
                    });
                };
                self.store.commit_case(&record, case, form)?;
                let waited = Timestamp::now().duration_since(case.confirmed_at).as_secs_f64();
                histogram!(metric::COMMIT).record(waited);
                counter!(metric::CASES, "rule" => case.rule.to_string()).increment(1);
                tracing::info!(case = %case.id, camera = %case.camera, category = %case.category.code, cell = %case.located.cell, "A case is filed.");
                Ok(())
            }
        }
    }
}

impl Commit {
    fn what(&self) -> String {
        match self {
            Self::Case(case, ..) => format!("case {}", case.id),
            Self::Revision(revision) | Self::Yielded(revision) => {
                format!("case {}'s new state {}", revision.case, revision.state.as_str())
            }
            Self::Verified(answer, _) => format!("what became of case {}", answer.case),
            Self::Reply(incoming, _) => format!("the platform's answer about case {}", incoming.reply.case),
        }
    }

    fn acknowledge(self) {
        if let Self::Reply(incoming, _) = self {
            // The link may have gone meanwhile; then the answer comes again and changes nothing.
            let _ = incoming.committed.send(());
        }
    }
}
