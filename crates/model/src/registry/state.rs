//! What the journal amounts to: for each model what is installed, what looks where, and which wishes wait. A pure fold: the
//! same lines give the same state, on every box and in every program.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::journal::{Entry, Event, Version};
use crate::trial::TrialReport;

/// What is known of all models, by id.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RegistryState {
    /// By the manifest's id.
    pub models: BTreeMap<String, ModelState>,
}

/// What is known of one.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ModelState {
    /// What lies in the registry, by version.
    pub installed: BTreeMap<String, Installed>,
    /// What went live everywhere, the newest last; none: the configuration's folder looks.
    pub live: Vec<LiveVersion>,
    /// The same for cameras that look with a version of their own.
    pub cameras: BTreeMap<String, Vec<LiveVersion>>,
    /// Asked and not answered, the oldest first, one at most for each camera and one for the rest.
    pub wishes: Vec<ModelRequest>,
    /// Asked to run beside.
    pub shadow: Option<ShadowRequest>,
    /// What became of the versions that were tried: the last word on each.
    pub outcomes: BTreeMap<String, VersionOutcome>,
}

/// A version in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// Since when.
    pub at: Timestamp,
    /// Of `model.onnx`.
    pub sha256: String,
    /// Of `model.toml`.
    pub manifest_sha256: String,
    /// The key that signed it.
    pub signed_by: Option<String>,
}

/// A version that looks, or looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveVersion {
    /// Which.
    pub version: Version,
    /// Since when.
    pub since: Timestamp,
}

/// What an operator asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelRequest {
    /// Its name.
    pub id: String,
    /// When it was asked.
    pub at: Timestamp,
    /// Only there; `None`: wherever no version of the camera's own is in force.
    pub camera: Option<String>,
    /// What.
    pub what: RequestAction,
    /// When its trial began, in this daemon or an earlier one.
    pub trial_since: Option<Timestamp>,
}

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestAction {
    /// Look with this version.
    Use {
        /// Which.
        version: Version,
        /// It decides from its first look.
        now: bool,
    },
    /// Look with the version before.
    Rollback,
}

/// A version that is to run beside the live one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShadowRequest {
    /// The wish's name.
    pub id: String,
    /// When it was asked.
    pub at: Timestamp,
    /// Which.
    pub version: Version,
    /// As in [`ModelRequest::camera`].
    pub camera: Option<String>,
    /// For so many looks.
    pub looks: u32,
}

/// The last word on a version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionOutcome {
    /// When it was said.
    pub at: Timestamp,
    /// Whose wish was answered.
    pub wish: Option<String>,
    /// Only there.
    pub camera: Option<String>,
    /// What it is.
    pub verdict: OutcomeKind,
    /// Why, for people; empty where it went live.
    pub reason: String,
    /// What its trial saw.
    pub report: Option<Box<TrialReport>>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// It decides, or did until another was asked for.
    WentLive,
    /// It never decided.
    Refused,
    /// It decided and was taken back.
    RolledBack,
    /// It ran beside.
    Shadowed,
}

/// How the folder of the configuration is called where a version would stand.
pub const CONFIGURED: &str = "configured";

/// A version as people read it.
pub fn version_name(version: &Version) -> &str {
    version.as_deref().unwrap_or(CONFIGURED)
}

impl RegistryState {
    /// What all of `entries` amount to.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut state = Self::default();
        for entry in entries {
            state.models.entry(entry.model.clone()).or_default().apply(entry);
        }
        state
    }

    /// What is known of a model; nothing of one that the journal does not name.
    pub fn known(&self, model: &str) -> ModelState {
        self.models.get(model).cloned().unwrap_or_default()
    }
}

impl ModelState {
    /// The version that looks at `camera`; without one, wherever none of its own is in force.
    pub fn live(&self, camera: Option<&str>) -> Version {
        let own = camera.and_then(|c| self.cameras.get(c)).and_then(|stack| stack.last());
        own.or(self.live.last()).and_then(|live| live.version.clone())
    }

    /// True where `camera` looks with a version of its own.
    pub fn has_own(&self, camera: &str) -> bool {
        self.cameras.get(camera).is_some_and(|stack| !stack.is_empty())
    }

    /// The version that looked before the one that does; `None` where there is none to go back to. For a camera, the first one
    /// goes back to what looks everywhere else.
    pub fn before(&self, camera: Option<&str>) -> Option<Version> {
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

    /// A newer wish for the same cameras takes an older one's place: nobody wants both.
    fn ask(&mut self, entry: &Entry, id: &str, camera: &Option<String>, what: RequestAction) {
        self.wishes.retain(|w| w.camera != *camera);
        self.wishes.push(ModelRequest {
            id: id.to_owned(),
            at: entry.at,
            camera: camera.clone(),
            what,
            trial_since: None,
        });
    }

    fn answered(&mut self, wish: &str) {
        self.wishes.retain(|w| w.id != wish);
    }

    fn apply(&mut self, entry: &Entry) {
        let at = entry.at;
        let say = |known: &mut Self, version: &Version, outcome: VersionOutcome| {
            known.outcomes.insert(version_name(version).to_owned(), outcome);
        };
        let outcome =
            |wish: Option<&String>, camera: &Option<String>, verdict, reason: &str, report: &Option<Box<TrialReport>>| {
                VersionOutcome {
                    at,
                    wish: wish.cloned(),
                    camera: camera.clone(),
                    verdict,
                    reason: reason.to_owned(),
                    report: report.clone(),
                }
            };
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
                wish,
                version,
                camera,
                now,
            } => {
                let what = RequestAction::Use {
                    version: version.clone(),
                    now: *now,
                };
                self.ask(entry, wish, camera, what);
            }
            Event::Rollback { wish, camera } => self.ask(entry, wish, camera, RequestAction::Rollback),
            Event::Shadow {
                wish,
                version,
                camera,
                looks,
            } => {
                self.shadow = Some(ShadowRequest {
                    id: wish.clone(),
                    at,
                    version: version.clone(),
                    camera: camera.clone(),
                    looks: *looks,
                });
            }
            Event::ShadowStop {} => self.shadow = None,
            Event::TrialBegun { wish, .. } => {
                for w in self.wishes.iter_mut().filter(|w| w.id == *wish) {
                    w.trial_since = Some(at);
                }
            }
            Event::WentLive {
                wish,
                version,
                camera,
                report,
            } => {
                self.answered(wish);
                let stack = self.stack_mut(camera);
                if stack.last().is_none_or(|live| live.version != *version) {
                    stack.push(LiveVersion {
                        version: version.clone(),
                        since: at,
                    });
                }
                say(
                    self,
                    version,
                    outcome(Some(wish), camera, OutcomeKind::WentLive, "", report),
                );
            }
            Event::Refused {
                wish,
                version,
                reason,
                report,
            } => {
                let camera = self
                    .wishes
                    .iter()
                    .find(|w| w.id == *wish)
                    .and_then(|w| w.camera.clone());
                self.answered(wish);
                if self.shadow.as_ref().is_some_and(|s| s.id == *wish) {
                    self.shadow = None;
                }
                say(
                    self,
                    version,
                    outcome(Some(wish), &camera, OutcomeKind::Refused, reason, report),
                );
            }
            Event::RolledBack {
                wish,
                from,
                to: _,
                camera,
                reason,
                report,
            } => {
                if let Some(wish) = wish {
                    self.answered(wish);
                }
                let stack = self.stack_mut(camera);
                // One that was taken back while on trial had never gone live.
                if stack.last().is_some_and(|live| live.version == *from) {
                    stack.pop();
                }
                say(
                    self,
                    from,
                    outcome(wish.as_ref(), camera, OutcomeKind::RolledBack, reason, report),
                );
            }
            Event::ShadowEnded {
                wish,
                version,
                cut_short,
                report,
            } => {
                let camera = self
                    .shadow
                    .as_ref()
                    .filter(|s| s.id == *wish)
                    .and_then(|s| s.camera.clone());
                if self.shadow.as_ref().is_some_and(|s| s.id == *wish) {
                    self.shadow = None;
                }
                let reason = cut_short.as_deref().unwrap_or_default();
                // What is live stays so in the list, whatever ran beside it.
                let report = Some(report.clone());
                say(
                    self,
                    version,
                    outcome(Some(wish), &camera, OutcomeKind::Shadowed, reason, &report),
                );
            }
        }
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

    fn went_live(wish: &str, version: Option<&str>, camera: Option<&str>) -> Event {
        Event::WentLive {
            wish: wish.into(),
            version: version.map(Into::into),
            camera: camera.map(Into::into),
            report: None,
        }
    }

    fn asked(wish: &str, version: &str, camera: Option<&str>) -> Event {
        Event::Use {
            wish: wish.into(),
            version: Some(version.into()),
            camera: camera.map(Into::into),
            now: false,
        }
    }

    fn rolled_back(wish: Option<&str>, from: Option<&str>, to: Option<&str>, camera: Option<&str>) -> Event {
        Event::RolledBack {
            wish: wish.map(Into::into),
            from: from.map(Into::into),
            to: to.map(Into::into),
            camera: camera.map(Into::into),
            reason: "it failed".into(),
            report: None,
        }
    }

    fn known(events: Vec<Event>) -> ModelState {
        let entries: Vec<Entry> = events.into_iter().zip(1..).map(|(e, s)| entry(s, e)).collect();
        RegistryState::of(&entries).known("m")
    }

    #[test]
    fn a_version_goes_live_and_back_to_the_folder_of_the_configuration() {
        let mut events = vec![asked("1", "1.1", None)];
        let asked_for = known(events.clone());
        assert_eq!((asked_for.live(None), asked_for.wishes.len()), (None, 1));
        events.push(went_live("1", Some("1.1"), None));
        events.push(went_live("2", Some("1.2"), None));
        let live = known(events.clone());
        assert_eq!((live.live(Some("gate")), live.wishes.len()), (Some("1.2".into()), 0));
        assert_eq!(live.before(None), Some(Some("1.1".into())));
        events.push(rolled_back(None, Some("1.2"), Some("1.1"), None));
        assert_eq!(known(events.clone()).before(None), Some(None));
        events.push(rolled_back(None, Some("1.1"), None, None));
        let back = known(events);
        assert_eq!((back.live(None), back.before(None)), (None, None));
        assert_eq!(back.outcomes["1.2"].verdict, OutcomeKind::RolledBack);
    }

    #[test]
    fn a_camera_of_its_own_is_untouched_by_the_rest() {
        let mut events = vec![
            went_live("1", Some("1.1"), Some("gate")),
            went_live("2", Some("1.2"), None),
        ];
        let apart = known(events.clone());
        assert_eq!(
            (apart.live(Some("gate")), apart.live(Some("yard"))),
            (Some("1.1".into()), Some("1.2".into()))
        );
        assert_eq!(
            apart.before(Some("gate")),
            Some(Some("1.2".into())),
            "what looks everywhere else"
        );
        events.push(rolled_back(None, Some("1.1"), Some("1.2"), Some("gate")));
        let together = known(events);
        assert_eq!(
            (together.live(Some("gate")), together.has_own("gate")),
            (Some("1.2".into()), false)
        );
        assert_eq!(together.before(Some("gate")), None);
    }

    #[test]
    fn a_newer_wish_takes_the_place_of_an_older_one_for_the_same_cameras_only() {
        let known = known(vec![
            asked("1", "1.1", None),
            asked("2", "1.1", Some("gate")),
            asked("3", "1.2", None),
        ]);
        let ids: Vec<&str> = known.wishes.iter().map(|w| w.id.as_str()).collect();
        assert_eq!(ids, ["2", "3"]);
    }

    #[test]
    fn a_trial_that_a_restart_broke_off_is_still_wanted() {
        let begun = Event::TrialBegun {
            wish: "1".into(),
            version: Some("1.1".into()),
            looks: 100,
        };
        let broken_off = known(vec![asked("1", "1.1", None), begun]);
        assert_eq!(
            broken_off.wishes[0].trial_since,
            Some(Timestamp::from_second(2).unwrap())
        );
        assert_eq!(broken_off.live(None), None);
    }

    #[test]
    fn one_that_was_taken_back_on_trial_leaves_what_was_live() {
        let known = known(vec![
            went_live("1", Some("1.1"), None),
            asked("2", "1.2", None),
            rolled_back(Some("2"), Some("1.2"), Some("1.1"), None),
        ]);
        assert_eq!((known.live(None), known.wishes.len()), (Some("1.1".into()), 0));
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let version = prop_oneof![Just(None), (0..3u8).prop_map(|v| Some(format!("1.{v}")))];
        let camera = prop_oneof![Just(None), (0..2u8).prop_map(|c| Some(format!("cam{c}")))];
        let wish = (0..4u8).prop_map(|w| w.to_string());
        let event =
            (0..4u8, version.clone(), version, camera, wish).prop_map(|(kind, version, to, camera, wish)| match kind {
                0 => Event::Use {
                    wish,
                    version,
                    camera,
                    now: false,
                },
                1 => Event::WentLive {
                    wish,
                    version,
                    camera,
                    report: None,
                },
                2 => Event::Rollback { wish, camera },
                _ => Event::RolledBack {
                    wish: Some(wish),
                    from: version,
                    to,
                    camera,
                    reason: String::new(),
                    report: None,
                },
            });
        prop::collection::vec(event, 0..40)
    }

    proptest! {
        /// Against what is slow and obvious: a list of versions for each camera, walked from the first line.
        #[test]
        fn the_live_version_is_that_of_a_plain_history(events in events()) {
            let entries: Vec<Entry> = events.into_iter().map(|e| entry(1, e)).collect();
            let known = RegistryState::of(&entries).known("m");
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
                prop_assert_eq!(known.live(camera), expected);
                prop_assert_eq!(known.before(camera).is_some(), !own.is_empty());
            }
        }

        /// Reading on from any line gives what reading all of it gives: nothing is decided by what comes later.
        #[test]
        fn an_answered_wish_never_waits_and_one_waits_for_each_scope(events in events()) {
            let entries: Vec<Entry> = events.into_iter().map(|e| entry(1, e)).collect();
            let known = RegistryState::of(&entries).known("m");
            let mut scopes: Vec<_> = known.wishes.iter().map(|w| &w.camera).collect();
            let count = scopes.len();
            scopes.sort();
            scopes.dedup();
            prop_assert_eq!(scopes.len(), count);
            for waiting in &known.wishes {
                let after_asked = entries.iter().rev().take_while(|e| !matches!(&e.event, Event::Use { wish, camera, .. } | Event::Rollback { wish, camera } if *wish == waiting.id && *camera == waiting.camera));
                let answered = after_asked.filter(|e| matches!(&e.event, Event::WentLive { wish, .. } if *wish == waiting.id) || matches!(&e.event, Event::RolledBack { wish: Some(wish), .. } if *wish == waiting.id)).count();
                prop_assert_eq!(answered, 0);
            }
        }
    }
}
