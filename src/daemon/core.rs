//! The single owner of the engine and the store. It handles one event at a time and carries out the engine's effects; no other
//! thread decides or commits. So it needs no locks, and the order of events is the order of the history.

mod commit;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::{counter, gauge};

use self::commit::Commit;
use super::{
    activity::Activity,
    disk_probe::storage_fault,
    filing_gate::FilingGate,
    held_places::{HeldPlaces, absorb_rejected},
    inbox::{Inbox, NoEvent},
    look_board::{LookBoard, LookPicture, find_persons},
    looks::LookScheduler,
    messages::{CoreEvent, EvidenceJob, NewConfiguration, PictureJob},
    pinned_frames::{FrameKey, PinnedFrame, PinnedFrames},
    record::RecordBuilder,
    start,
};
use crate::{audit, telemetry::Health};
use gridwatch_base::{message::Message, metric};
use gridwatch_config::Config;
use gridwatch_console::daemon::RemovedView;
use gridwatch_contract::When;
use gridwatch_engine::{
    CameraId, Case, CaseId, CaseState, Effect, Elsewhere, Input, Known, Resumed, RuleId, Snapshot, Verified,
};
use gridwatch_ledger::RecordedEngine;
use gridwatch_link::{IncomingReply, SiteNews};
use gridwatch_store::{ClaimRow, ClaimState, Pruned, Retention, Revision, Store};

/// Longest wait for an event, so that a stuck core can be told from an idle one.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Delay between two attempts of a failed commit.
const RETRY: Duration = Duration::from_secs(5);

/// Interval of the retention run.
const PRUNE_EVERY: Duration = Duration::from_mins(10);

/// Interval of the engine snapshots: a crash costs a dwell no more than this.
const SNAPSHOT_EVERY: Duration = Duration::from_mins(1);

/// Interval of the disk probe.
const PROBE_EVERY: Duration = Duration::from_mins(1);

/// What `/readyz` calls a case or a picture that cannot be stored.
const STORAGE: &str = "storage";

/// The core's state. It is lost with the process; the store holds what must survive.
pub(super) struct Core {
    /// The engine; it records every input in the ledger.
    pub(super) engine: RecordedEngine,
    pub(super) store: Store,
    pub(super) config: Arc<Config>,
    pub(super) records: Arc<RecordBuilder>,
    pub(super) pinned: PinnedFrames,
    /// Where looks are requested, and what the change maps are told.
    pub(super) looks: Arc<LookScheduler>,
    pub(super) held_places: HeldPlaces,
    /// The evidence worker's queue; `None` once the core is stopping.
    pub(super) evidence: Option<Sender<EvidenceJob>>,
    pub(super) health: Arc<Health>,
    /// What the console shows.
    pub(super) board: Arc<LookBoard>,
    /// Whether cases may be filed.
    pub(super) gate: FilingGate,
    /// Commits that failed for a transient reason (a full disk), or came while nothing may be filed, in order.
    pub(super) uncommitted: Vec<Commit>,
    /// Transitions that were refused, each logged once: a track that stays as it is asks again at every look.
    pub(super) refused_transitions: BTreeSet<(RuleId, &'static str, &'static str)>,
    pub(super) activity: Activity,
    /// What the last disk probe found.
    pub(super) storage_fault: Option<Message>,
}

impl Core {
    /// Runs until the inbox is closed: after [`CoreEvent::Stop`], when the evidence worker and the link have ended.
    pub(super) fn run(mut self, mut inbox: Inbox) {
        // Monotonic: a clock that is set back must not delay these.
        let mut retry_at = Instant::now();
        let mut snapshot_at = Instant::now() + SNAPSHOT_EVERY;
        let mut prune_at = Instant::now();
        let mut probe_at = Instant::now();
        self.gate.check(&self.store);
        loop {
            // Replies and claims wait in their channels while the gate is closed: they are stored with the time of the clock.
            let event = inbox.next(self.next_wait(), self.gate.is_open());
            // Before the event is handled: its time may be that of a clock that was just set.
            self.gate.check(&self.store);
            match event {
                Ok(CoreEvent::Stop) => self.evidence = None,
                Ok(event) if self.gate.is_open() => self.handle(event),
                Ok(event) => self.hold(event),
                Err(NoEvent::Timeout) => {}
                Err(NoEvent::Closed) => break,
            }
            self.health.beat();
            self.engine.flush_if_due(Instant::now());
            if Instant::now() >= probe_at {
                self.probe_disk();
                probe_at = Instant::now() + PROBE_EVERY;
            }
            if !self.gate.is_open() {
                continue;
            }
            let now = Timestamp::now();
            if self.engine.engine().next_deadline().is_some_and(|at| at <= now) {
                self.apply(Input::Tick(now), None);
            }
            if !self.uncommitted.is_empty() && Instant::now() >= retry_at {
                self.retry_commits();
                retry_at = Instant::now() + RETRY;
            }
            if Instant::now() >= prune_at {
                let keep = self.config.evidence.retention;
                self.prune(&keep);
                prune_at = Instant::now() + PRUNE_EVERY;
            }
            if Instant::now() >= snapshot_at {
                self.save_snapshot(now);
                self.log_activity();
                snapshot_at = Instant::now() + SNAPSHOT_EVERY;
            }
        }
        self.finish();
    }

    /// Commits what is waiting and saves the last snapshot, if the store may be written.
    fn finish(&mut self) {
        let may_write = self.gate.is_open();
        if may_write && !self.uncommitted.is_empty() {
            self.retry_commits();
        }
        for commit in &self.uncommitted {
            tracing::error!(commit = %commit.describe(), "Not committed before the shutdown; a problem that persists is confirmed again after the next start, and the broker redelivers replies");
        }
        if may_write {
            self.save_snapshot(Timestamp::now());
        }
    }

    /// Handles an event while nothing may be filed: looks count as not taken, decisions that were already made wait, and a
    /// reply that slipped in is left to the link, which delivers it again.
    fn hold(&mut self, event: CoreEvent) {
        match event {
            CoreEvent::Looked { .. } | CoreEvent::Reply(_) => {}
            event => self.handle(event),
        }
    }

    /// Reports a disk that has no room for a case before a case fails for it.
    fn probe_disk(&mut self) {
        let fault = storage_fault(&self.config.state_dir, self.config.evidence.max_picture_bytes);
        if fault == self.storage_fault {
            return;
        }
        if let (Some(reason), None) = (&fault, &self.storage_fault) {
            tracing::error!(%reason, "A case could not be stored now");
        }
        self.storage_fault = fault;
        // A commit that waits has its own reason, until it succeeds.
        if self.uncommitted.is_empty() {
            self.storage_works();
        }
    }

    /// A commit succeeded, or nothing waits for one: what the probe found is all that stands against storing.
    fn storage_works(&self) {
        self.health.set_blocker(STORAGE, self.storage_fault.clone());
    }

    fn log_activity(&mut self) {
        let cameras: Vec<&CameraId> = self.config.cameras.iter().map(|c| &c.id).collect();
        // Failing commits report a store that cannot be read.
        let outbox = self.store.outbox_depth().unwrap_or_default();
        tracing::info!("{}", self.activity.line(self.engine.engine(), &cameras, outbox));
    }

    /// Saves the state that must survive a restart. A failure is only logged: failing commits report the disk.
    fn save_snapshot(&mut self, now: Timestamp) {
        gauge!(metric::WAITING).set(self.engine.engine().waiting() as f64);
        self.pinned.write_aged(now);
        if let Err(error) = self.store.save_snapshot(now, &self.engine.engine().snapshot()) {
            tracing::warn!(%error, "Cannot save the engine snapshot; after a restart, candidates would start their dwell again");
        }
    }

    /// Deletes evidence beyond the retention limits; for its age only if the clock can be trusted with that.
    fn prune(&mut self, keep: &Retention) {
        if !self.gate.is_open() {
            return;
        }
        let mut keep = *keep;
        if !self.gate.may_delete_by_age() {
            (keep.originals.keep, keep.pictures.keep) = (None, None);
        }
        match self.store.prune(&keep, Timestamp::now()) {
            Ok(gone) if gone == Pruned::default() => {}
            Ok(Pruned { originals, pictures }) => {
                tracing::info!(originals, pictures, "Deleted evidence beyond the retention limits");
            }
            Err(error) => tracing::warn!(%error, "Cannot delete expired evidence"),
        }
    }

    /// Deletes all originals: on a full disk, cases that wait to be filed are worth more.
    fn delete_originals(&mut self) {
        let mut keep = self.config.evidence.retention;
        keep.originals.bytes = 0;
        self.prune(&keep);
    }

    /// Restores the engine's state from the last run's snapshot.
    pub(super) fn resume(&mut self, snapshot: Snapshot) {
        let pictures = self.pinned.restore(snapshot.firsts());
        self.apply(Input::Resumed(Box::new(Resumed { snapshot, pictures })), None);
    }

    fn next_wait(&self) -> Duration {
        let until = self
            .engine
            .engine()
            .next_deadline()
            .map(|at| at.duration_since(Timestamp::now()));
        until
            .and_then(|d| Duration::try_from(d).ok())
            .map_or(MAX_WAIT, |d| d.min(MAX_WAIT))
    }

    fn handle(&mut self, event: CoreEvent) {
        match event {
            CoreEvent::Looked {
                observation,
                picture,
                size,
                thumbnail,
                detected_by,
            } => {
                self.activity.count(&observation);
                let looked = LookPicture {
                    picture: picture.clone(),
                    size,
                    finds_persons: find_persons(&detected_by),
                    thumbnail,
                };
                let pinned = PinnedFrame {
                    picture,
                    detections: observation.detections.as_slice().into(),
                    detected_by,
                };
                let look = (observation.camera.clone(), observation.at);
                self.apply(Input::Observed(observation.clone()), Some((look, pinned)));
                self.board.looked(&observation, looked, self.engine.engine());
            }
            CoreEvent::Reaimed { camera, at } => self.apply(Input::Reaimed { camera, at }, None),
            CoreEvent::Reply(incoming) => self.apply_reply(incoming),
            CoreEvent::EvidenceReady {
                case,
                pictures,
                detected_by,
                records,
            } => self.commit(Commit::Case(case, pictures, detected_by, records)),
            CoreEvent::VerificationReady { answer, pictures } => self.commit(Commit::Verified(answer, pictures)),
            CoreEvent::Claim(news) => self.apply_claim(news),
            CoreEvent::EvidenceDelayed { reason, is_disk_full } => {
                if is_disk_full {
                    self.delete_originals();
                }
                self.health.block(STORAGE, reason);
            }
            CoreEvent::EvidenceFailed { case } => self.apply(Input::EvidenceFailed { case }, None),
            CoreEvent::Picture(request) => {
                if let Some(evidence) = &self.evidence {
                    // Without the worker, the request is dropped and its sender notices.
                    let _ = evidence.send(EvidenceJob::Console(request));
                }
            }
            CoreEvent::Configured(new) => self.configure(*new),
            CoreEvent::Stop => {}
        }
    }

    /// Applies one input and carries out its effects; `look` is the look that the input came from.
    fn apply(&mut self, input: Input, look: Option<(FrameKey, PinnedFrame)>) {
        let effects = self.engine.apply(input);
        let is_about_cases = |e: &Effect| matches!(e, Effect::Open(_) | Effect::Revise { .. });
        let are_cases_changed = effects.iter().any(is_about_cases);
        for effect in effects {
            self.carry_out(effect, look.as_ref());
        }
        if are_cases_changed {
            self.hold_open_cases();
        }
    }

    /// Keeps what open cases are about out of the views' backgrounds.
    pub(super) fn hold_open_cases(&mut self) {
        self.held_places.update(self.engine.engine().open_cases(), &self.looks);
    }

    fn carry_out(&mut self, effect: Effect, look: Option<&(FrameKey, PinnedFrame)>) {
        match effect {
            Effect::Look { camera, by } => self.looks.look_by(&camera, by),
            Effect::SecondLook { camera, rule, bbox } => self.looks.second_look_at(camera, rule, bbox),
            Effect::Pin { camera, at } => self.pinned.pin((camera, at), look),
            Effect::Unpin { camera, at } => {
                self.pinned.unpin((camera, at));
            }
            Effect::Open(case) => self.request_evidence(case),
            Effect::Revise {
                case,
                state,
                at,
                reason,
            } => {
                let revision = self.revision(case, state, at, reason);
                self.commit(Commit::Revision(revision));
            }
            Effect::Verified(answer) => self.request_verification_evidence(answer, look),
            Effect::ReplyRefused {
                case, reply, reason, ..
            } => {
                tracing::warn!(%case, reply = reply.as_str(), reason, "Reply does not fit the state of its case; recorded without effect");
                counter!(metric::REPLIES_REFUSED, "reply" => reply.as_str()).increment(1);
            }
            Effect::Transition {
                camera,
                rule,
                reason,
                at: _,
            } => {
                counter!(metric::PRESENCE, "camera" => camera.to_string(), "rule" => rule.to_string(), "reason" => reason.as_str()).increment(1);
            }
            Effect::TransitionRefused {
                camera,
                rule,
                stage,
                reason,
                at: _,
            } => {
                let reason = reason.as_str();
                if self.refused_transitions.insert((rule.clone(), stage, reason)) {
                    tracing::error!(%camera, %rule, stage, reason, "Illegal track transition refused. This is a bug in gridwatch; please report it with this line");
                }
            }
            Effect::NotFiled {
                camera,
                rule,
                reason,
                at: _,
            } => {
                tracing::debug!(%camera, %rule, reason = reason.as_str(), "Candidate not filed");
                counter!(metric::NOT_FILED, "camera" => camera.to_string(), "rule" => rule.to_string(), "reason" => reason.as_str()).increment(1);
            }
        }
    }

    fn request_evidence(&mut self, case: Box<Case>) {
        let first = self.pinned.unpin((case.camera.clone(), case.first_seen_at));
        let confirming = self.pinned.unpin((case.camera.clone(), case.confirmed_at));
        let id = case.id.clone();
        let job = first.zip(confirming).map(|(first, confirming)| PictureJob::Case {
            case,
            first,
            confirming,
            records: Arc::clone(&self.records),
        });
        let sent = match (job, &self.evidence) {
            (Some(job), Some(evidence)) => evidence.send(EvidenceJob::Pictures(job)).is_ok(),
            _ => false,
        };
        if !sent {
            tracing::warn!(case = %id, "Confirmed case has no pinned pictures; not filed");
            self.apply(Input::EvidenceFailed { case: id }, None);
        }
    }

    /// Sends a verification result to the platform, with pictures if a look decided it.
    fn request_verification_evidence(&mut self, answer: Box<Verified>, look: Option<&(FrameKey, PinnedFrame)>) {
        let look = look.filter(|((_, at), _)| answer.is_look && *at == answer.at);
        match (look, &self.evidence) {
            (Some((_, pinned)), Some(evidence)) => {
                let job = PictureJob::Verified {
                    answer,
                    look: pinned.clone(),
                };
                if let Err(mpsc::SendError(EvidenceJob::Pictures(PictureJob::Verified { answer, .. }))) =
                    evidence.send(EvidenceJob::Pictures(job))
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

    /// Applies the reply to the engine, which alone knows what it means for the case, and commits it together with the
    /// revision that follows.
    fn apply_reply(&mut self, incoming: IncomingReply) {
        let mut revision = None;
        for effect in self.engine.apply(Input::Reply(incoming.reply.clone())) {
            match effect {
                Effect::Revise {
                    case,
                    state,
                    at,
                    reason,
                } => revision = Some(self.revision(case, state, at, reason)),
                other => self.carry_out(other, None),
            }
        }
        self.hold_open_cases();
        if incoming.reply.state == CaseState::Rejected {
            absorb_rejected(self.engine.engine(), &incoming.reply.case, &self.looks);
        }
        self.commit(Commit::Reply(Box::new(incoming), revision));
    }

    fn apply_claim(&mut self, news: SiteNews) {
        let at = Timestamp::now();
        let mut yielded = None;
        let what = match news {
            SiteNews::Released(case) => Known::Released(case),
            SiteNews::Yielded { case, to, node } => {
                // The case may have been withdrawn meanwhile, or its claim granted after all.
                let is_wanted =
                    |row: &ClaimRow| row.claim.case == case && row.is_open && row.state == ClaimState::Wanted;
                let is_ours = self.engine.engine().open_cases().any(|open| open.id == case);
                // The link repeats it on each connection.
                let may_file = self.gate.is_open();
                if !may_file || !is_ours || !self.store.claims().is_ok_and(|rows| rows.iter().any(is_wanted)) {
                    return;
                }
                tracing::info!(%case, %to, node = ?node.as_str(), "Case not filed: another box was first");
                let reason = format!("Not filed: {node} confirmed the problem first, as case {to}.");
                yielded = Some(self.revision(case.clone(), CaseState::DuplicateOf, at, reason));
                Known::Yielded { case, to }
            }
        };
        self.apply(Input::Elsewhere(Elsewhere { at, what }), None);
        if let Some(revision) = yielded {
            self.commit(Commit::Yielded(revision));
        }
    }

    /// Puts another configuration into force, between two inputs of the engine. Cases that are confirmed already are filed by the one that
    /// confirmed them.
    fn configure(&mut self, new: NewConfiguration) {
        let NewConfiguration {
            config,
            evidence,
            occasion,
            done,
        } = new;
        let mut removed: BTreeMap<CameraId, RemovedView> = BTreeMap::new();
        let gone = self
            .config
            .plan
            .cameras
            .keys()
            .filter(|view| !config.plan.cameras.contains_key(*view));
        for view in gone {
            let open = self.engine.engine().open_cases().filter(|case| case.camera == *view);
            let open_cases = open.map(|case| case.id.clone()).collect();
            let view = view.clone();
            let ended = RemovedView {
                view: view.clone(),
                candidates: 0,
                open_cases,
            };
            removed.insert(view, ended);
        }
        if let Some(worker) = &self.evidence {
            // Its thread ends after the core.
            let _ = worker.send(EvidenceJob::Update(Box::new(evidence)));
        }
        if self.config.ledger != config.ledger {
            match start::recorder(&config, Timestamp::now()) {
                Ok(recorder) => self.engine.record_with(recorder, &self.config.plan),
                Err(error) => tracing::error!(%error, "Cannot change the ledger; it is written as before"),
            }
        }
        let shared_sites = self.config.broker.share_sites;
        self.records = Arc::new(RecordBuilder::new(&config));
        self.config = config;
        for effect in self
            .engine
            .configure(Arc::clone(&self.config.plan), &self.config.config_sha256)
        {
            if let Effect::NotFiled { camera, .. } = &effect
                && let Some(view) = removed.get_mut(camera)
            {
                view.candidates += 1;
            }
            self.carry_out(effect, None);
        }
        if shared_sites && !self.config.broker.share_sites {
            self.end_hold_backs();
        }
        // The views' change maps may be new.
        self.held_places = HeldPlaces::default();
        self.hold_open_cases();
        self.board.retain(|view| self.config.plan.cameras.contains_key(view));
        let configuration = audit::NewConfiguration {
            sha256: &self.config.config_sha256,
            file: &self.config.file,
            to_syslog: self.config.audit_to_syslog,
            occasion,
        };
        if let Err(error) = audit::record_configuration(&mut self.store, &configuration) {
            tracing::error!(%error, "Cannot record the changed configuration in the audit log; it is in force all the same");
        }
        // The reload may have been given up waiting.
        let _ = done.send(removed.into_values().collect());
    }

    /// Sites are no longer shared: nothing is held back for other boxes any more.
    pub(super) fn end_hold_backs(&mut self) {
        let held_for: BTreeSet<CaseId> = self.engine.engine().held_back().map(|held| held.to.clone()).collect();
        let at = Timestamp::now();
        for case in held_for {
            let what = Known::Released(case);
            self.apply(Input::Elsewhere(Elsewhere { at, what }), None);
        }
        if let Err(error) = self.store.end_hold_backs(None, at) {
            tracing::error!(%error, "Cannot record that cases are no longer held back for other boxes");
        }
    }
}
