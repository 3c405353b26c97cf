//! What operators wish, trials judge and failures force: who runs beside, who goes live, who is taken back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use metrics::counter;

use super::{Challenger, ModelManager, ModelSlot, NO_BUDGET, Proof, Running, Seated, Unfit};
use crate::daemon::record::KnownModel;
use gridwatch_base::metric;
use gridwatch_model::{
    LoadedModel,
    registry::{Event, Version, Wanted, Wish, name},
    trial::{self, Terms, Trial, Verdict},
};

impl ModelManager {
    /// Does what waits to be done.
    pub(super) fn process_requests(&mut self) {
        for model in 0..self.config.models.len() {
            self.process_request(model);
        }
    }

    fn process_request(&mut self, model: usize) {
        let mut known = self.known(model);
        known.wishes.retain(|w| !self.answered.contains(&w.id));
        known.shadow = known.shadow.filter(|s| !self.answered.contains(&s.id));
        let wish = known.wishes.first().cloned();
        if let Some(running) = self.beside.get(&model) {
            let id = &running.it.wish;
            let is_wanted = known.wishes.iter().any(|w| w.id == *id)
                || (known.shadow.as_ref().is_some_and(|s| s.id == *id) && wish.is_none());
            if is_wanted {
                return;
            }
            if !self.call_off(model, wish.as_ref()) {
                return;
            }
        }
        if let Some(wish) = wish {
            match &wish.what {
                Wanted::Use { version, now } => self.use_version(model, &wish, version, *now),
                Wanted::Rollback => self.roll_back(model, &wish),
            }
        } else if let Some(shadow) = known.shadow {
            let terms = Terms {
                looks: shadow.looks,
                bars: BTreeMap::new(),
                slower_at_most: f64::INFINITY,
                budget: NO_BUDGET,
                is_shadow: true,
            };
            if let Err(error) = self.begin(
                model,
                &shadow.id,
                &shadow.version,
                shadow.camera.as_deref(),
                terms,
                false,
            ) {
                self.refuse(model, &shadow.id, &shadow.version, error.to_string(), None);
            }
        }
    }

    /// Ends what runs beside before its time: another wish took its place, or it was stopped. False where that was all that
    /// the other wish is about.
    fn call_off(&mut self, model: usize, wish: Option<&Wish>) -> bool {
        let Some(running) = self.beside.remove(&model) else {
            return true;
        };
        self.publish(Vec::new());
        let report = Box::new(running.it.trial().report());
        let (id, version) = (running.it.wish.clone(), running.it.chair.version.clone());
        if running.is_shadow {
            let why = if wish.is_some() {
                "another version was asked for"
            } else {
                "it was stopped, or another shadow was asked for"
            };
            let event = Event::ShadowEnded {
                wish: id,
                version,
                cut_short: Some(why.into()),
                report,
            };
            self.write(model, event);
            return true;
        }
        let back = wish.filter(|w| w.what == Wanted::Rollback && w.camera == running.camera);
        self.refuse(model, &id, &version, "another wish took its place".into(), Some(report));
        let Some(back) = back else {
            return true;
        };
        let to = self.chair(model, running.camera.as_deref()).version.clone();
        let event = Event::RolledBack {
            wish: Some(back.id.clone()),
            from: version,
            to,
            camera: running.camera,
            reason: "an operator called its trial off".into(),
            report: None,
        };
        self.write(model, event);
        false
    }

    fn refuse(
        &mut self,
        model: usize,
        wish: &str,
        version: &Version,
        reason: String,
        report: Option<Box<trial::Report>>,
    ) {
        tracing::warn!(
            model = self.id(model),
            version = name(version),
            reason,
            "A version of a model is refused; the one that looks goes on."
        );
        counter!(metric::MODEL_CHANGES, "model" => self.id(model).to_owned(), "change" => "refused").increment(1);
        let event = Event::Refused {
            wish: wish.to_owned(),
            version: version.clone(),
            reason,
            report,
        };
        self.write(model, event);
    }

    fn use_version(&mut self, model: usize, wish: &Wish, version: &Version, now: bool) {
        let registry = &self.config.registry;
        let terms = Terms {
            looks: registry.trial_looks,
            bars: BTreeMap::new(),
            slower_at_most: registry.slower_at_most,
            budget: registry.latency_budget,
            is_shadow: false,
        };
        match self.begin(model, &wish.id, version, wish.camera.as_deref(), terms, now) {
            Ok(None) => {}
            // Nobody looks with it anywhere that is meant, so there is nothing to compare it with.
            Ok(Some((chair, sessions))) => {
                self.go_live(model, &wish.id, wish.camera.clone(), chair, sessions, None);
            }
            Err(error) => self.refuse(model, &wish.id, version, error.to_string(), None),
        }
    }

    /// Puts a version beside the one that looks; gives it back where no camera's look would show it.
    fn begin(
        &mut self,
        model: usize,
        wish: &str,
        version: &Version,
        camera: Option<&str>,
        terms: Terms,
        decides: bool,
    ) -> Result<Option<Seated>, Unfit> {
        if let Some(camera) = camera {
            let found = self.config.cameras.iter().find(|c| c.id.as_str() == camera);
            let looks = found.is_some_and(|c| c.models.contains(&model));
            if !looks {
                return Err(Unfit::Said(format!("no camera {camera:?} looks with this model")));
            }
        }
        let old = Arc::clone(self.chair(model, camera));
        // A camera may be given what looks everywhere, to keep it when that changes.
        let is_same_place = camera.is_none_or(|c| self.own.contains_key(&(model, c.to_owned())));
        if old.version == *version && (is_same_place || terms.is_shadow) {
            return Err(Unfit::Said("it looks already".into()));
        }
        let labels = |found: &KnownModel| found.labels.clone();
        let seated = self.seat(model, version, Proof::Asked)?;
        let new = &seated.0;
        if !terms.is_shadow {
            let finds = |other: usize| labels(&self.rest[other].known);
            let lacking = self.config.lacking(
                model,
                self.cameras(model, camera),
                (&old.known.labels, &new.known.labels),
                &finds,
            );
            if !lacking.is_empty() {
                if seated.1.is_some() {
                    self.taken.remove(&new.seat);
                }
                return Err(Unfit::Said(lacking.join("; ")));
            }
        }
        if self.cameras(model, camera).is_empty() || old.version == *version {
            return Ok(Some(seated));
        }
        let bars = trial::bars(&old.known.labels, &new.known.labels, &self.config.plan.rules);
        let looks = terms.looks;
        let (chair, sessions) = seated;
        let fresh = sessions.map(|s| (chair.seat, s));
        let is_shadow = terms.is_shadow;
        let running = Running {
            it: Arc::new(Challenger {
                chair,
                wish: wish.to_owned(),
                trial: Mutex::new(Trial::new(Terms { bars, ..terms })),
                decides,
            }),
            camera: camera.map(Into::into),
            is_shadow,
        };
        self.beside.insert(model, running);
        self.publish(fresh.into_iter().collect());
        tracing::info!(
            model = self.id(model),
            version = name(version),
            looks,
            shadow = is_shadow,
            decides,
            "A version of a model runs beside the one that looks."
        );
        let event = Event::TrialBegun {
            wish: wish.to_owned(),
            version: version.clone(),
            looks,
        };
        self.write(model, event);
        Ok(None)
    }

    fn put(&mut self, model: usize, camera: Option<&str>, chair: Arc<ModelSlot>) {
        match camera {
            Some(camera) => {
                self.own.insert((model, camera.to_owned()), chair);
            }
            None => self.rest[model] = chair,
        }
    }

    fn go_live(
        &mut self,
        model: usize,
        wish: &str,
        camera: Option<String>,
        chair: Arc<ModelSlot>,
        sessions: Option<Vec<LoadedModel>>,
        report: Option<Box<trial::Report>>,
    ) {
        let version = chair.version.clone();
        let fresh = sessions.map(|s| (chair.seat, s));
        self.put(model, camera.as_deref(), chair);
        self.publish(fresh.into_iter().collect());
        tracing::info!(
            model = self.id(model),
            version = name(&version),
            camera = camera.as_deref().unwrap_or("all"),
            "A version of a model went live."
        );
        counter!(metric::MODEL_CHANGES, "model" => self.id(model).to_owned(), "change" => "live").increment(1);
        let event = Event::WentLive {
            wish: wish.to_owned(),
            version,
            camera,
            report,
        };
        self.write(model, event);
    }

    /// A trial is over.
    pub(super) fn judged(&mut self, wish: &str, verdict: Verdict) {
        let Some(model) = self.beside.iter().find(|(_, r)| r.it.wish == wish).map(|(m, _)| *m) else {
            // It was called off meanwhile.
            return;
        };
        let Some(running) = self.beside.remove(&model) else {
            return;
        };
        let report = Box::new(running.it.trial().report());
        let chair = Arc::clone(&running.it.chair);
        let version = chair.version.clone();
        match verdict {
            _ if running.is_shadow => {
                self.publish(Vec::new());
                let cut_short = match verdict {
                    Verdict::Pass => None,
                    Verdict::Fail(reason) => Some(reason.to_string()),
                };
                tracing::info!(
                    model = self.id(model),
                    version = name(&version),
                    cut_short,
                    "A version of a model has run beside the one that looks; gridwatch model list shows where they differ."
                );
                let event = Event::ShadowEnded {
                    wish: wish.to_owned(),
                    version,
                    cut_short,
                    report,
                };
                self.write(model, event);
            }
            Verdict::Pass => self.go_live(model, wish, running.camera, chair, None, Some(report)),
            Verdict::Fail(reason) if running.it.decides => {
                let to = self.chair(model, running.camera.as_deref()).version.clone();
                self.publish(Vec::new());
                self.rolled_back(
                    model,
                    Some(wish),
                    (version, to),
                    running.camera,
                    reason.to_string(),
                    Some(report),
                );
            }
            Verdict::Fail(reason) => {
                self.publish(Vec::new());
                self.refuse(model, wish, &version, reason.to_string(), Some(report));
            }
        }
    }

    fn rolled_back(
        &mut self,
        model: usize,
        wish: Option<&str>,
        (from, to): (Version, Version),
        camera: Option<String>,
        reason: String,
        report: Option<Box<trial::Report>>,
    ) {
        let (id, camera_name) = (self.id(model).to_owned(), camera.as_deref().unwrap_or("all"));
        if report.is_some() || wish.is_none() {
            tracing::error!(
                model = id,
                from = name(&from),
                to = name(&to),
                camera = camera_name,
                reason,
                "A version of a model was taken back: another one looks in its place. Its makers should see why."
            );
        } else {
            tracing::info!(
                model = id,
                from = name(&from),
                to = name(&to),
                camera = camera_name,
                "A version of a model was taken back, as was asked."
            );
        }
        counter!(metric::MODEL_CHANGES, "model" => id, "change" => "rolled_back").increment(1);
        let event = Event::RolledBack {
            wish: wish.map(Into::into),
            from,
            to,
            camera,
            reason,
            report,
        };
        self.write(model, event);
    }

    /// An operator wants the version before, now.
    fn roll_back(&mut self, model: usize, wish: &Wish) {
        let from = self.chair(model, wish.camera.as_deref()).version.clone();
        let reason = "an operator asked for it".to_owned();
        match self.go_back(model, wish.camera.as_deref(), Some(&wish.id), &reason) {
            Ok(true) => {}
            Ok(false) => {
                let what = "there is no version before it: it is the configuration's folder that looks".to_owned();
                self.refuse(model, &wish.id, &from, what, None);
            }
            Err(error) => self.refuse(
                model,
                &wish.id,
                &from,
                format!("the version before cannot be used: {error}"),
                None,
            ),
        }
    }

    /// Puts the version before in its place; false where there is none.
    fn go_back(&mut self, model: usize, camera: Option<&str>, wish: Option<&str>, reason: &str) -> Result<bool, Unfit> {
        let known = self.known(model);
        let Some(to) = known.before(camera) else {
            return Ok(false);
        };
        let from = self.chair(model, camera).version.clone();
        let (chair, sessions) = self.seat(model, &to, Proof::Known)?;
        let fresh = sessions.map(|s| (chair.seat, s));
        let is_last = camera.is_some_and(|c| known.cameras.get(c).is_some_and(|stack| stack.len() <= 1));
        match camera {
            // From now on it looks with what looks everywhere.
            Some(camera) if is_last => {
                self.own.remove(&(model, camera.to_owned()));
            }
            _ => self.put(model, camera, chair),
        }
        self.publish(fresh.into_iter().collect());
        self.rolled_back(model, wish, (from, to), camera.map(Into::into), reason.to_owned(), None);
        Ok(true)
    }

    /// A model that decides fails look after look: back to the one before.
    pub(super) fn failing(&mut self, seat: usize, reason: &str) {
        let rest = self.rest.iter().filter(|c| c.seat == seat).map(|c| (c.model, None));
        let own = self
            .own
            .iter()
            .filter(|(_, c)| c.seat == seat)
            .map(|((model, camera), _)| (*model, Some(camera.clone())));
        let places: Vec<(usize, Option<String>)> = rest.chain(own).collect();
        for (model, camera) in places {
            let reason = format!("look after look failed: {reason}");
            match self.go_back(model, camera.as_deref(), None, &reason) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!(
                        model = self.id(model),
                        reason,
                        "A model fails look after look, and there is no version before it to go back to: nothing is seen with it."
                    );
                }
                Err(error) => {
                    tracing::error!(model = self.id(model), reason, %error, "A model fails look after look, and the version before it cannot be used: nothing is seen with it.");
                }
            }
        }
    }
}
