//! State of the models, folded from the journal: what is installed, what is live on which camera, and which requests are pending.
//! A pure function: the same entries give the same state on every box and in every program.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::journal::{Entry, Event, Version};
use crate::trial::TrialReport;

/// State of all models.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RegistryState {
    /// By model id.
    pub models: BTreeMap<String, ModelState>,
}

/// State of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ModelState {
    /// Versions in the registry.
    pub installed: BTreeMap<String, Installed>,
    /// Live versions of the cameras without a version of their own, most recent last. Empty: the folder of the configuration is live.
    pub live: Vec<LiveVersion>,
    /// The same for each camera with a version of its own.
    pub cameras: BTreeMap<String, Vec<LiveVersion>>,
    /// Pending requests, oldest first: at most one per camera and one for all other cameras.
    #[serde(rename = "wishes")]
    pub requests: Vec<ModelRequest>,
    /// The pending or running shadow request.
    pub shadow: Option<ShadowRequest>,
    /// Latest outcome of each version that was tried.
    pub outcomes: BTreeMap<String, VersionOutcome>,
}

/// A version in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// Time of installation.
    pub at: Timestamp,
    /// SHA-256 of `model.onnx`.
    pub sha256: String,
    /// SHA-256 of `model.toml`.
    pub manifest_sha256: String,
    /// The key that signed it.
    pub signed_by: Option<String>,
}

/// A version that is or was live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveVersion {
    /// The version.
    pub version: Version,
    /// Time of activation.
    pub since: Timestamp,
}

/// An operator's pending request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelRequest {
    /// Id of the request.
    pub id: String,
    /// Time of the request.
    pub at: Timestamp,
    /// Only this camera; `None`: every camera without a version of its own.
    pub camera: Option<String>,
    /// The requested action.
    #[serde(rename = "what")]
    pub action: RequestAction,
    /// Start of its trial, in this daemon or an earlier one.
    pub trial_since: Option<Timestamp>,
}

/// Action of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestAction {
    /// Activate this version.
    Use {
        /// The version.
        version: Version,
        /// Activates immediately; the trial runs alongside and rolls back on failure.
        now: bool,
        /// Activates a version that neither the trial nor a self-test proves.
        force: bool,
    },
    /// Return to the previous version.
    Rollback,
}

/// A request to run a version beside the live one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShadowRequest {
    /// Id of the request.
    pub id: String,
    /// Time of the request.
    pub at: Timestamp,
    /// The version.
    pub version: Version,
    /// As in [`ModelRequest::camera`].
    pub camera: Option<String>,
    /// Number of looks.
    pub looks: u32,
}

/// Latest outcome of a version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionOutcome {
    /// Time of the outcome.
    pub at: Timestamp,
    /// Id of the request that it answers.
    #[serde(rename = "wish")]
    pub request: Option<String>,
    /// The camera, if the request was for one camera.
    pub camera: Option<String>,
    /// Kind of outcome.
    #[serde(rename = "verdict")]
    pub kind: OutcomeKind,
    /// Reason for operators; empty if the version went live.
    pub reason: String,
    /// Result of the trial.
    pub report: Option<Box<TrialReport>>,
}

/// Kind of outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The version went live; another one may have replaced it since.
    WentLive,
    /// The version never went live.
    Refused,
    /// The version was live and was rolled back.
    RolledBack,
    /// Its shadow run ended.
    Shadowed,
}

/// Name of the configuration's folder where a version is expected.
pub const CONFIGURED: &str = "configured";

/// A version for display.
pub fn version_name(version: &Version) -> &str {
    version.as_deref().unwrap_or(CONFIGURED)
}

impl RegistryState {
    /// Folds `entries` into a state.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut state = Self::default();
        for entry in entries {
            state.models.entry(entry.model.clone()).or_default().apply(entry);
        }
        state
    }

    /// State of one model; the default state for a model that the journal does not mention.
    pub fn model(&self, id: &str) -> ModelState {
        self.models.get(id).cloned().unwrap_or_default()
    }
}

impl ModelState {
    /// The version that is live on `camera`; with `None`, on cameras without a version of their own.
    pub fn live(&self, camera: Option<&str>) -> Version {
        let own = camera.and_then(|c| self.cameras.get(c)).and_then(|stack| stack.last());
        own.or(self.live.last()).and_then(|live| live.version.clone())
    }

    /// True if `camera` has a version of its own.
    pub fn has_own_version(&self, camera: &str) -> bool {
        self.cameras.get(camera).is_some_and(|stack| !stack.is_empty())
    }

    /// The version that a rollback returns to; `None` if there is none. For a camera's first own version, that is the version of all
    /// other cameras.
    pub fn previous_version(&self, camera: Option<&str>) -> Option<Version> {
        let stack = self.stack(camera);
        let (_, before) = stack.split_last()?;
        Some(match (before.last(), camera) {
            (Some(live), _) => live.version.clone(),
            (None, Some(_)) => self.live(None),
            (None, None) => None,
        })
    }

    fn stack(&self, camera: Option<&str>) -> &[LiveVersion] {
        match camera {
            Some(camera) => self.cameras.get(camera).map_or(&[], Vec::as_slice),
            None => &self.live,
        }
    }

    fn stack_mut(&mut self, camera: &Option<String>) -> &mut Vec<LiveVersion> {
        match camera {
            Some(camera) => self.cameras.entry(camera.clone()).or_default(),
            None => &mut self.live,
        }
    }

    /// Adds a request. It replaces an earlier one for the same cameras.
    fn add_request(&mut self, entry: &Entry, id: &str, camera: &Option<String>, action: RequestAction) {
        self.requests.retain(|r| r.camera != *camera);
        self.requests.push(ModelRequest {
            id: id.to_owned(),
            at: entry.at,
            camera: camera.clone(),
            action,
            trial_since: None,
        });
    }

    fn apply(&mut self, entry: &Entry) {
        let at = entry.at;
        match &entry.event {
            Event::Installed {
                version,
                sha256,
                manifest_sha256,
                signed_by,
            } => {
                self.installed.entry(version.clone()).or_insert_with(|| Installed {
                    at,
                    sha256: sha256.clone(),
                    manifest_sha256: manifest_sha256.clone(),
                    signed_by: signed_by.clone(),
                });
            }
            Event::Use {
                request,
                version,
                camera,
                now,
                force,
            } => {
                let action = RequestAction::Use {
                    version: version.clone(),
                    now: *now,
                    force: *force,
                };
                self.add_request(entry, request, camera, action);
            }
            Event::Rollback { request, camera } => self.add_request(entry, request, camera, RequestAction::Rollback),
            Event::Shadow {
                request,
                version,
                camera,
                looks,
            } => {
                self.shadow = Some(ShadowRequest {
                    id: request.clone(),
                    at,
                    version: version.clone(),
                    camera: camera.clone(),
                    looks: *looks,
                });
            }
            Event::ShadowStop {} => self.shadow = None,
            Event::TrialBegun { request, .. } => {
                for r in self.requests.iter_mut().filter(|r| r.id == *request) {
                    r.trial_since = Some(at);
                }
            }
            Event::WentLive { .. } | Event::Refused { .. } | Event::RolledBack { .. } | Event::ShadowEnded { .. } => {
                if let Some((version, outcome)) = self.apply_result(at, &entry.event) {
                    self.outcomes.insert(version_name(version).to_owned(), outcome);
                }
            }
        }
    }

    /// Applies the result of a request; returns the version and its outcome.
    fn apply_result<'e>(&mut self, at: Timestamp, event: &'e Event) -> Option<(&'e Version, VersionOutcome)> {
        let (version, camera, kind, reason, report) = match event {
            Event::WentLive {
                version,
                camera,
                report,
                ..
            } => {
                let stack = self.stack_mut(camera);
                if stack.last().is_none_or(|live| live.version != *version) {
                    stack.push(LiveVersion {
                        version: version.clone(),
                        since: at,
                    });
                }
                (version, camera.clone(), OutcomeKind::WentLive, "", report.clone())
            }
            Event::Refused {
                request,
                version,
                reason,
                report,
            } => {
                let pending = self.requests.iter().find(|r| r.id == *request);
                let camera = pending.and_then(|r| r.camera.clone());
                self.end_shadow(request);
                (version, camera, OutcomeKind::Refused, reason.as_str(), report.clone())
            }
            Event::RolledBack {
                from,
                camera,
                reason,
                report,
                ..
            } => {
                let stack = self.stack_mut(camera);
                // A version that was rolled back during its trial had not gone live.
                if stack.last().is_some_and(|live| live.version == *from) {
                    stack.pop();
                }
                (
                    from,
                    camera.clone(),
                    OutcomeKind::RolledBack,
                    reason.as_str(),
                    report.clone(),
                )
            }
            Event::ShadowEnded {
                request,
                version,
                cut_short,
                report,
            } => {
                let camera = self.end_shadow(request).and_then(|s| s.camera);
                let reason = cut_short.as_deref().unwrap_or_default();
                (version, camera, OutcomeKind::Shadowed, reason, Some(report.clone()))
            }
            _ => return None,
        };
        let request = event.answered_request();
        self.requests.retain(|r| Some(r.id.as_str()) != request);
        let outcome = VersionOutcome {
            at,
            request: request.map(str::to_owned),
            camera,
            kind,
            reason: reason.to_owned(),
            report,
        };
        Some((version, outcome))
    }

    /// Removes the shadow request with this id, if it is the current one.
    fn end_shadow(&mut self, request: &str) -> Option<ShadowRequest> {
        self.shadow.take_if(|s| s.id == request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(second: i64, event: Event) -> Entry {
        Entry {
            at: Timestamp::from_second(second).unwrap(),
            model: "m".into(),
            event,
        }
    }

    fn went_live(request: &str, version: Option<&str>, camera: Option<&str>) -> Event {
        Event::WentLive {
            request: request.into(),
            version: version.map(Into::into),
            camera: camera.map(Into::into),
            report: None,
        }
    }

    fn requested(request: &str, version: &str, camera: Option<&str>) -> Event {
        Event::Use {
            request: request.into(),
            version: Some(version.into()),
            camera: camera.map(Into::into),
            now: false,
            force: false,
        }
    }

    fn rolled_back(request: Option<&str>, from: Option<&str>, to: Option<&str>, camera: Option<&str>) -> Event {
        Event::RolledBack {
            request: request.map(Into::into),
            from: from.map(Into::into),
            to: to.map(Into::into),
            camera: camera.map(Into::into),
            reason: "it failed".into(),
            report: None,
        }
    }

    fn state(events: Vec<Event>) -> ModelState {
        let entries: Vec<Entry> = events.into_iter().zip(1..).map(|(e, s)| entry(s, e)).collect();
        RegistryState::of(&entries).model("m")
    }

    #[test]
    fn rollbacks_lead_back_to_the_folder_of_the_configuration() {
        let mut events = vec![requested("1", "1.1", None)];
        let pending = state(events.clone());
        assert_eq!((pending.live(None), pending.requests.len()), (None, 1));
        events.push(went_live("1", Some("1.1"), None));
        events.push(went_live("2", Some("1.2"), None));
        let live = state(events.clone());
        assert_eq!((live.live(Some("gate")), live.requests.len()), (Some("1.2".into()), 0));
        assert_eq!(live.previous_version(None), Some(Some("1.1".into())));
        events.push(rolled_back(None, Some("1.2"), Some("1.1"), None));
        assert_eq!(state(events.clone()).previous_version(None), Some(None));
        events.push(rolled_back(None, Some("1.1"), None, None));
        let back = state(events);
        assert_eq!((back.live(None), back.previous_version(None)), (None, None));
        assert_eq!(back.outcomes["1.2"].kind, OutcomeKind::RolledBack);
    }

    #[test]
    fn a_camera_with_its_own_version_is_independent_of_the_others() {
        let mut events = vec![
            went_live("1", Some("1.1"), Some("gate")),
            went_live("2", Some("1.2"), None),
        ];
        let apart = state(events.clone());
        assert_eq!(
            (apart.live(Some("gate")), apart.live(Some("yard"))),
            (Some("1.1".into()), Some("1.2".into()))
        );
        assert_eq!(
            apart.previous_version(Some("gate")),
            Some(Some("1.2".into())),
            "the version of all other cameras"
        );
        events.push(rolled_back(None, Some("1.1"), Some("1.2"), Some("gate")));
        let together = state(events);
        assert_eq!(
            (together.live(Some("gate")), together.has_own_version("gate")),
            (Some("1.2".into()), false)
        );
        assert_eq!(together.previous_version(Some("gate")), None);
    }

    #[test]
    fn a_request_replaces_an_earlier_one_for_the_same_cameras_only() {
        let state = state(vec![
            requested("1", "1.1", None),
            requested("2", "1.1", Some("gate")),
            requested("3", "1.2", None),
        ]);
        let ids: Vec<&str> = state.requests.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids, ["2", "3"]);
    }

    #[test]
    fn a_trial_interrupted_by_a_restart_stays_pending() {
        let begun = Event::TrialBegun {
            request: "1".into(),
            version: Some("1.1".into()),
            looks: 100,
        };
        let interrupted = state(vec![requested("1", "1.1", None), begun]);
        assert_eq!(
            interrupted.requests[0].trial_since,
            Some(Timestamp::from_second(2).unwrap())
        );
        assert_eq!(interrupted.live(None), None);
    }

    #[test]
    fn a_rollback_during_the_trial_keeps_the_live_version() {
        let state = state(vec![
            went_live("1", Some("1.1"), None),
            requested("2", "1.2", None),
            rolled_back(Some("2"), Some("1.2"), Some("1.1"), None),
        ]);
        assert_eq!((state.live(None), state.requests.len()), (Some("1.1".into()), 0));
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let version = prop_oneof![Just(None), (0..3u8).prop_map(|v| Some(format!("1.{v}")))];
        let camera = prop_oneof![Just(None), (0..2u8).prop_map(|c| Some(format!("cam{c}")))];
        let request = (0..4u8).prop_map(|r| r.to_string());
        let event =
            (0..4u8, version.clone(), version, camera, request).prop_map(|(kind, version, to, camera, request)| {
                match kind {
                    0 => Event::Use {
                        request,
                        version,
                        camera,
                        now: false,
                        force: false,
                    },
                    1 => Event::WentLive {
                        request,
                        version,
                        camera,
                        report: None,
                    },
                    2 => Event::Rollback { request, camera },
                    _ => Event::RolledBack {
                        request: Some(request),
                        from: version,
                        to,
                        camera,
                        reason: String::new(),
                        report: None,
                    },
                }
            });
        prop::collection::vec(event, 0..40)
    }

    proptest! {
        /// Compared with a slow, obvious model: a list of versions per camera, walked from the first entry.
        #[test]
        fn the_live_version_matches_a_plain_history(events in events()) {
            let entries: Vec<Entry> = events.into_iter().map(|e| entry(1, e)).collect();
            let state = RegistryState::of(&entries).model("m");
            for camera in [None, Some("cam0"), Some("cam1")] {
                let history = |of: Option<&str>| {
                    let mut history: Vec<Version> = Vec::new();
                    for e in &entries {
                        match &e.event {
                            Event::WentLive { version, camera, .. } if camera.as_deref() == of && history.last() != Some(version) => history.push(version.clone()),
                            Event::RolledBack { from, camera, .. } if camera.as_deref() == of && history.last() == Some(from) => {
                                history.pop();
                            }
                            _ => {}
                        }
                    }
                    history
                };
                let own = history(camera);
                let expected = own.last().or(history(None).last()).cloned().flatten();
                prop_assert_eq!(state.live(camera), expected);
                prop_assert_eq!(state.previous_version(camera).is_some(), !own.is_empty());
            }
        }

        /// An answered request is never pending, and at most one request per scope is.
        #[test]
        fn answered_requests_are_closed_and_each_scope_has_at_most_one_pending(events in events()) {
            let entries: Vec<Entry> = events.into_iter().map(|e| entry(1, e)).collect();
            let state = RegistryState::of(&entries).model("m");
            let mut scopes: Vec<_> = state.requests.iter().map(|r| &r.camera).collect();
            let count = scopes.len();
            scopes.sort();
            scopes.dedup();
            prop_assert_eq!(scopes.len(), count);
            for pending in &state.requests {
                let after_request = entries.iter().rev().take_while(|e| !matches!(&e.event, Event::Use { request, camera, .. } | Event::Rollback { request, camera } if *request == pending.id && *camera == pending.camera));
                let answered = after_request.filter(|e| matches!(&e.event, Event::WentLive { request, .. } if *request == pending.id) || matches!(&e.event, Event::RolledBack { request: Some(request), .. } if *request == pending.id)).count();
                prop_assert_eq!(answered, 0);
            }
        }
    }
}
