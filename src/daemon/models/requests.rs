//! Carries out operators' requests, trial results and rollbacks: which version runs on trial, goes live, or is rolled back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use metrics::counter;

use super::{
    Challenger, LoadedSlot, ModelManager, ModelSlot, NO_LATENCY_BUDGET, RunningTrial, SelfTestPolicy, VersionError,
};
use gridwatch_base::metric;
use gridwatch_model::{
    LoadedModel,
    registry::{Event, ModelRequest, RequestAction, Version, version_name},
    trial::{self, Trial, TrialOutcome, TrialTerms},
};

/// A version to be run beside the live one.
struct TrialRequest<'a> {
    /// The request's id.
    id: &'a str,
    version: &'a Version,
    /// Only this camera; `None`: all cameras without a version of their own.
    camera: Option<&'a str>,
    terms: TrialTerms,
    /// True if its detections count from its first look.
    decides: bool,
    /// True if it may go live although neither the trial nor a self-test proves it.
    is_forced: bool,
}

/// A version that goes live.
struct Promotion {
    /// Only this camera; `None`: all cameras without a version of their own.
    camera: Option<String>,
    slot: Arc<ModelSlot>,
    /// `None` if the slot is in use already.
    sessions: Option<Vec<LoadedModel>>,
    /// The report of its trial, if there was one.
    report: Option<Box<trial::TrialReport>>,
}

/// A live version that was replaced by the one before.
struct Rollback {
    /// The request's id; `None`: it failed by itself.
    request: Option<String>,
    from: Version,
    to: Version,
    camera: Option<String>,
    reason: String,
    /// The report of its trial, if it was on trial.
    report: Option<Box<trial::TrialReport>>,
}

impl ModelManager {
    /// Carries out the pending requests.
    pub(super) fn process_requests(&mut self) {
        for model in 0..self.config.models.len() {
            self.process_request(model);
        }
    }

    fn process_request(&mut self, model: usize) {
        let mut history = self.history(model);
        history.requests.retain(|r| !self.answered.contains(&r.id));
        history.shadow = history.shadow.filter(|s| !self.answered.contains(&s.id));
        let request = history.requests.first().cloned();
        if let Some(running) = self.trials.get(&model) {
            let id = &running.challenger.request;
            let is_pending = history.requests.iter().any(|r| r.id == *id)
                || (history.shadow.as_ref().is_some_and(|s| s.id == *id) && request.is_none());
            if is_pending {
                return;
            }
            if !self.end_early(model, request.as_ref()) {
                return;
            }
        }
        if let Some(request) = request {
            match &request.action {
                RequestAction::Use { .. } => self.use_version(model, &request),
                RequestAction::Rollback => self.roll_back(model, &request),
            }
        } else if let Some(shadow) = history.shadow {
            let terms = TrialTerms {
                looks: shadow.looks,
                thresholds: BTreeMap::new(),
                to_prove: BTreeSet::new(),
                slower_at_most: f64::INFINITY,
                budget: NO_LATENCY_BUDGET,
                is_shadow: true,
            };
            let trial = TrialRequest {
                id: &shadow.id,
                version: &shadow.version,
                camera: shadow.camera.as_deref(),
                terms,
                decides: false,
                is_forced: false,
            };
            if let Err(error) = self.start_trial(model, trial) {
                self.refuse(model, &shadow.id, &shadow.version, error.to_string(), None);
            }
        }
    }

    /// Ends the trial or shadow run early: another request took its place, or it was stopped. False if that is all that the new
    /// request asks for (a rollback of the trial).
    fn end_early(&mut self, model: usize, request: Option<&ModelRequest>) -> bool {
        let Some(running) = self.trials.remove(&model) else {
            return true;
        };
        self.publish(Vec::new());
        let report = Box::new(running.challenger.trial().report());
        let (id, version) = (
            running.challenger.request.clone(),
            running.challenger.slot.version.clone(),
        );
        if running.is_shadow {
            let why = if request.is_some() {
                "another version was requested"
            } else {
                "it was stopped, or another shadow run was requested"
            };
            let event = Event::ShadowEnded {
                request: id,
                version,
                cut_short: Some(why.into()),
                report,
            };
            self.write(model, event);
            return true;
        }
        let rollback = request.filter(|r| r.action == RequestAction::Rollback && r.camera == running.camera);
        self.refuse(
            model,
            &id,
            &version,
            "superseded by another request".into(),
            Some(report),
        );
        let Some(rollback) = rollback else {
            return true;
        };
        let to = self.slot(model, running.camera.as_deref()).version.clone();
        let event = Event::RolledBack {
            request: Some(rollback.id.clone()),
            from: version,
            to,
            camera: running.camera,
            reason: "an operator cancelled its trial".into(),
            report: None,
        };
        self.write(model, event);
        false
    }

    pub(super) fn refuse(
        &mut self,
        model: usize,
        request: &str,
        version: &Version,
        reason: String,
        report: Option<Box<trial::TrialReport>>,
    ) {
        tracing::warn!(
            model = self.id(model),
            version = version_name(version),
            reason,
            "Model version refused; the live version stays in use"
        );
        counter!(metric::MODEL_CHANGES, "model" => self.id(model).to_owned(), "change" => "refused").increment(1);
        let event = Event::Refused {
            request: request.to_owned(),
            version: version.clone(),
            reason,
            report,
        };
        self.write(model, event);
    }

    fn use_version(&mut self, model: usize, request: &ModelRequest) {
        let RequestAction::Use { version, now, force } = &request.action else {
            return;
        };
        let registry = &self.config.registry;
        let terms = TrialTerms {
            looks: registry.trial_looks,
            thresholds: BTreeMap::new(),
            to_prove: BTreeSet::new(),
            slower_at_most: registry.slower_at_most,
            budget: registry.latency_budget,
            is_shadow: false,
        };
        let trial = TrialRequest {
            id: &request.id,
            version,
            camera: request.camera.as_deref(),
            terms,
            decides: *now,
            is_forced: *force,
        };
        match self.start_trial(model, trial) {
            Ok(None) => {}
            // No camera in scope uses the model, so there is nothing to compare it with.
            Ok(Some((slot, sessions))) => {
                let promotion = Promotion {
                    camera: request.camera.clone(),
                    slot,
                    sessions,
                    report: None,
                };
                self.go_live(model, &request.id, promotion);
            }
            Err(error) => self.refuse(model, &request.id, version, error.to_string(), None),
        }
    }

    /// Starts a trial or shadow run beside the live version; returns the loaded version if no camera's looks could run it.
    fn start_trial(&mut self, model: usize, request: TrialRequest<'_>) -> Result<Option<LoadedSlot>, VersionError> {
        let TrialRequest {
            id,
            version,
            camera,
            terms,
            decides,
            is_forced,
        } = request;
        if let Some(camera) = camera {
            let found = self.config.cameras.iter().find(|c| c.id.as_str() == camera);
            let looks = found.is_some_and(|c| c.models.contains(&model));
            if !looks {
                return Err(VersionError::Rejected(format!("no camera {camera:?} uses this model")));
            }
        }
        let old = Arc::clone(self.slot(model, camera));
        // A camera may be pinned to the version that is live everywhere, to keep it when that changes.
        let is_same_place = camera.is_none_or(|c| self.camera_slots.contains_key(&(model, c.to_owned())));
        if old.version == *version && (is_same_place || terms.is_shadow) {
            return Err(VersionError::Rejected("it is live already".into()));
        }
        let loaded = self.load_slot(model, version, SelfTestPolicy::Full)?;
        let new = &loaded.0;
        let thresholds =
            trial::score_thresholds(&old.descriptor.labels, &new.descriptor.labels, &self.config.plan.rules);
        let to_prove = match is_forced || terms.is_shadow {
            true => BTreeSet::new(),
            false => trial::unproven_labels(&thresholds, &new.self_tested),
        };
        let is_untried = self.cameras(model, camera).is_empty();
        let objection = match terms.is_shadow || old.version == *version {
            true => None,
            false => self.objection(model, camera, (&old, new), is_forced).or_else(|| {
                let untried = trial::untried(to_prove.clone()).filter(|_| is_untried);
                untried.map(|reason| reason.to_string())
            }),
        };
        if let Some(objection) = objection {
            if loaded.1.is_some() {
                self.used_slots.remove(&new.index);
            }
            return Err(VersionError::Rejected(objection));
        }
        if is_untried || old.version == *version {
            return Ok(Some(loaded));
        }
        let looks = terms.looks;
        let (slot, sessions) = loaded;
        let new_sessions = sessions.map(|s| (slot.index, s));
        let is_shadow = terms.is_shadow;
        let running = RunningTrial {
            challenger: Arc::new(Challenger {
                slot,
                request: id.to_owned(),
                trial: Mutex::new(Trial::new(TrialTerms {
                    thresholds,
                    to_prove,
                    ..terms
                })),
                decides,
            }),
            camera: camera.map(Into::into),
            is_shadow,
        };
        self.trials.insert(model, running);
        self.publish(new_sessions.into_iter().collect());
        tracing::info!(
            model = self.id(model),
            version = version_name(version),
            looks,
            shadow = is_shadow,
            decides,
            "Model version runs beside the live one"
        );
        let event = Event::TrialBegun {
            request: id.to_owned(),
            version: version.clone(),
            looks,
        };
        self.write(model, event);
        Ok(None)
    }

    /// Why the `new` version must not replace the `old` one, whatever a trial shows: it lacks a label that the configuration needs,
    /// or a self-test where the old one has one.
    fn objection(
        &self,
        model: usize,
        camera: Option<&str>,
        (old, new): (&ModelSlot, &ModelSlot),
        is_forced: bool,
    ) -> Option<String> {
        let finds = |other: usize| self.default_slots[other].descriptor.labels.clone();
        let labels = (&old.descriptor.labels[..], &new.descriptor.labels[..]);
        let missing = self
            .config
            .lost_coverage(model, self.cameras(model, camera), labels, &finds);
        if !missing.is_empty() {
            return Some(missing.join("; "));
        }
        let loses_self_test = new.self_tested.is_empty() && !old.self_tested.is_empty();
        (loses_self_test && !is_forced).then(|| trial::NO_SELF_TEST.to_owned())
    }

    fn make_live(&mut self, model: usize, camera: Option<&str>, slot: Arc<ModelSlot>) {
        match camera {
            Some(camera) => {
                self.camera_slots.insert((model, camera.to_owned()), slot);
            }
            None => self.default_slots[model] = slot,
        }
    }

    fn go_live(&mut self, model: usize, request: &str, promotion: Promotion) {
        let Promotion {
            camera,
            slot,
            sessions,
            report,
        } = promotion;
        let version = slot.version.clone();
        let new_sessions = sessions.map(|s| (slot.index, s));
        self.make_live(model, camera.as_deref(), slot);
        self.publish(new_sessions.into_iter().collect());
        tracing::info!(
            model = self.id(model),
            version = version_name(&version),
            camera = camera.as_deref().unwrap_or("all"),
            "Model version went live"
        );
        counter!(metric::MODEL_CHANGES, "model" => self.id(model).to_owned(), "change" => "live").increment(1);
        let event = Event::WentLive {
            request: request.to_owned(),
            version,
            camera,
            report,
        };
        self.write(model, event);
    }

    /// Handles the end of a trial or shadow run.
    pub(super) fn trial_ended(&mut self, request: &str, outcome: TrialOutcome) {
        let Some(model) = self
            .trials
            .iter()
            .find(|(_, r)| r.challenger.request == request)
            .map(|(m, _)| *m)
        else {
            // It was cancelled meanwhile.
            return;
        };
        let Some(running) = self.trials.remove(&model) else {
            return;
        };
        let report = Box::new(running.challenger.trial().report());
        let slot = Arc::clone(&running.challenger.slot);
        let version = slot.version.clone();
        match outcome {
            _ if running.is_shadow => {
                self.publish(Vec::new());
                let cut_short = match outcome {
                    TrialOutcome::Pass => None,
                    TrialOutcome::Fail(reason) => Some(reason.to_string()),
                };
                tracing::info!(
                    model = self.id(model),
                    version = version_name(&version),
                    cut_short,
                    "Shadow run ended; `gridwatch model list` shows the differences"
                );
                let event = Event::ShadowEnded {
                    request: request.to_owned(),
                    version,
                    cut_short,
                    report,
                };
                self.write(model, event);
            }
            TrialOutcome::Pass => {
                let promotion = Promotion {
                    camera: running.camera,
                    slot,
                    sessions: None,
                    report: Some(report),
                };
                self.go_live(model, request, promotion);
            }
            TrialOutcome::Fail(reason) if running.challenger.decides => {
                let to = self.slot(model, running.camera.as_deref()).version.clone();
                self.publish(Vec::new());
                let rollback = Rollback {
                    request: Some(request.to_owned()),
                    from: version,
                    to,
                    camera: running.camera,
                    reason: reason.to_string(),
                    report: Some(report),
                };
                self.rolled_back(model, rollback);
            }
            TrialOutcome::Fail(reason) => {
                self.publish(Vec::new());
                self.refuse(model, request, &version, reason.to_string(), Some(report));
            }
        }
    }

    fn rolled_back(&mut self, model: usize, rollback: Rollback) {
        let Rollback {
            request,
            from,
            to,
            camera,
            reason,
            report,
        } = rollback;
        let (id, camera_name) = (self.id(model).to_owned(), camera.as_deref().unwrap_or("all"));
        if report.is_some() || request.is_none() {
            tracing::error!(
                model = id,
                from = version_name(&from),
                to = version_name(&to),
                camera = camera_name,
                reason,
                "Model version rolled back; report the reason to the model's authors"
            );
        } else {
            tracing::info!(
                model = id,
                from = version_name(&from),
                to = version_name(&to),
                camera = camera_name,
                "Model version rolled back on request"
            );
        }
        counter!(metric::MODEL_CHANGES, "model" => id, "change" => "rolled_back").increment(1);
        let event = Event::RolledBack {
            request,
            from,
            to,
            camera,
            reason,
            report,
        };
        self.write(model, event);
    }

    /// Carries out an operator's rollback request.
    fn roll_back(&mut self, model: usize, request: &ModelRequest) {
        let from = self.slot(model, request.camera.as_deref()).version.clone();
        let reason = "requested by an operator".to_owned();
        match self.revert(model, request.camera.as_deref(), Some(&request.id), &reason) {
            Ok(true) => {}
            Ok(false) => {
                let reason_text =
                    "there is no version before it: the live one is the configuration's folder".to_owned();
                self.refuse(model, &request.id, &from, reason_text, None);
            }
            Err(error) => self.refuse(
                model,
                &request.id,
                &from,
                format!("the version before cannot be used: {error}"),
                None,
            ),
        }
    }

    /// Makes the version before live; false if there is none.
    fn revert(
        &mut self,
        model: usize,
        camera: Option<&str>,
        request: Option<&str>,
        reason: &str,
    ) -> Result<bool, VersionError> {
        let history = self.history(model);
        let Some(to) = history.previous_version(camera) else {
            return Ok(false);
        };
        let from = self.slot(model, camera).version.clone();
        let (slot, sessions) = self.load_slot(model, &to, SelfTestPolicy::Skip)?;
        let new_sessions = sessions.map(|s| (slot.index, s));
        let is_last = camera.is_some_and(|c| history.cameras.get(c).is_some_and(|stack| stack.len() <= 1));
        match camera {
            // From now on the camera uses the version that is live everywhere.
            Some(camera) if is_last => {
                self.camera_slots.remove(&(model, camera.to_owned()));
            }
            _ => self.make_live(model, camera, slot),
        }
        self.publish(new_sessions.into_iter().collect());
        let rollback = Rollback {
            request: request.map(Into::into),
            from,
            to,
            camera: camera.map(Into::into),
            reason: reason.to_owned(),
            report: None,
        };
        self.rolled_back(model, rollback);
        Ok(true)
    }

    /// Rolls back a live version that fails look after look.
    pub(super) fn model_failing(&mut self, slot: usize, reason: &str) {
        let default_slots = self
            .default_slots
            .iter()
            .enumerate()
            .filter(|(_, c)| c.index == slot)
            .map(|(model, _)| (model, None));
        let camera_slots = self
            .camera_slots
            .iter()
            .filter(|(_, c)| c.index == slot)
            .map(|((model, camera), _)| (*model, Some(camera.clone())));
        let places: Vec<(usize, Option<String>)> = default_slots.chain(camera_slots).collect();
        for (model, camera) in places {
            let reason = format!("too many looks failed in a row: {reason}");
            match self.revert(model, camera.as_deref(), None, &reason) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!(
                        model = self.id(model),
                        reason,
                        "Model fails on every look and has no earlier version to roll back to; it detects nothing"
                    );
                }
                Err(error) => {
                    tracing::error!(model = self.id(model), reason, %error, "Model fails on every look and the version before it cannot be used; it detects nothing");
                }
            }
        }
    }
}
