//! Requests for another version of a model, checked against the configuration before they are made: by `gridwatch model` and the console.
//!
//! Nothing is requested here: a caller appends the [`Event`] to the registry's journal. The daemon checks a request again when it tries the
//! version; here a person learns at once what it would be refused for.

use gridwatch_base::error::Class;
use gridwatch_engine::Label;
use gridwatch_model::{
    Manifest, Model, ModelError,
    registry::{Event, MANIFEST, ModelState, Registry, RegistryError, RegistryState, Version},
    trial,
};

use super::{Camera, Config};

/// Why another version of a model cannot be requested.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// The configuration has no such model.
    #[error("the configuration has no model {id:?}, only {known}; add it under [[models]] and restart the daemon")]
    UnknownModel {
        /// Id as given.
        id: String,
        /// Ids of the configured models.
        known: String,
    },
    /// The model does not run on that camera.
    #[error("no camera {camera:?} uses the model {id}; the cameras that do: {known}")]
    UnknownCamera {
        /// Camera as given.
        camera: String,
        /// Id of the model.
        id: String,
        /// Ids of the cameras that use the model.
        known: String,
    },
    /// The version lacks what rules or masking need.
    #[error("{id}@{version} rejected: {objections}")]
    Objections {
        /// Id of the model.
        id: String,
        /// Version of the model.
        version: String,
        /// What it lacks.
        objections: String,
    },
    /// There is no version to return to.
    #[error("{0}: no previous version to roll back to; the configuration's version is live")]
    NoPreviousVersion(String),
    /// There is no shadow run to stop.
    #[error("{0}: no shadow is running")]
    NoShadow(String),
    /// The version cannot be loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The registry cannot be read, or does not have the version.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl RolloutError {
    /// Error class.
    pub fn class(&self) -> Class {
        match self {
            Self::UnknownModel { .. } | Self::UnknownCamera { .. } | Self::NoPreviousVersion(_) | Self::NoShadow(_) => {
                Class::Config
            }
            Self::Objections { .. } => Class::Data,
            Self::Model(error) => error.class(),
            Self::Registry(error) => error.class(),
        }
    }
}

/// A request to switch to a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseRequest {
    /// Version of the manifest: one in the registry, or the configuration's.
    pub version: String,
    /// Activates immediately; the trial runs alongside and rolls back on failure.
    pub now: bool,
    /// Activates a version that neither the trial nor a self-test proves.
    pub force: bool,
}

/// What became of a [`UseRequest`].
#[derive(Debug)]
pub enum UsePlan {
    /// The version is live, and nothing else is requested.
    IsLive,
    /// To be appended to the journal.
    Request {
        /// The request.
        event: Event,
        /// Labels that its self-test does not show at the rules' scores: the trial has to prove them.
        unproven: Vec<Label>,
    },
}

/// The model, and perhaps the one camera, that requests are about.
#[derive(Debug)]
pub struct Rollout<'a> {
    config: &'a Config,
    registry: Registry,
    /// Its index in the configuration.
    model: usize,
    camera: Option<&'a str>,
}

impl<'a> Rollout<'a> {
    /// Requests about the model `id`, on `camera` only or on all cameras without a version of their own.
    ///
    /// # Errors
    /// The configuration does not have the model, or does not run it on that camera.
    pub fn new(config: &'a Config, id: &str, camera: Option<&'a str>) -> Result<Self, RolloutError> {
        let model = config.model_index(id)?;
        let users = || config.cameras.iter().filter(|c| c.models.contains(&model));
        if let Some(camera) = camera
            && !users().any(|c| c.id.as_str() == camera)
        {
            return Err(RolloutError::UnknownCamera {
                camera: camera.to_owned(),
                id: id.to_owned(),
                known: joined(users().map(|c| c.id.as_str())),
            });
        }
        Ok(Self {
            config,
            registry: config.model_registry(),
            model,
            camera,
        })
    }

    /// Id of the model.
    pub fn id(&self) -> &'a str {
        &self.config.models[self.model].id
    }

    /// The registry that the request is for.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Checks a request to switch to a version, to be made under the id `request`.
    ///
    /// # Errors
    /// [`RolloutError`], also if the version lacks a label that a rule or the masking needs, or a self-test that the live version has.
    pub fn use_version(&self, wanted: &UseRequest, request: String) -> Result<UsePlan, RolloutError> {
        let (version, new) = self.version(&wanted.version)?;
        let known = self.registry.state()?.model(self.id());
        let is_live =
            known.live(self.camera) == version && self.camera.is_none_or(|camera| known.has_own_version(camera));
        if is_live && known.requests.is_empty() {
            return Ok(UsePlan::IsLive);
        }
        let unproven = self.expect_replacement(&known, &new, wanted.force)?;
        Ok(UsePlan::Request {
            event: Event::Use {
                request,
                version,
                camera: self.camera.map(str::to_owned),
                now: wanted.now,
                force: wanted.force,
            },
            unproven,
        })
    }

    /// Checks a request to return to the version before.
    ///
    /// # Errors
    /// [`RolloutError`]; also if there is none, and no trial to cancel.
    pub fn roll_back(&self, request: String) -> Result<Event, RolloutError> {
        let known = self.registry.state()?.model(self.id());
        if known.previous_version(self.camera).is_none() && known.requests.is_empty() {
            return Err(RolloutError::NoPreviousVersion(self.id().to_owned()));
        }
        Ok(Event::Rollback {
            request,
            camera: self.camera.map(str::to_owned),
        })
    }

    /// Checks a request to run a version beside the live one for a number of looks.
    ///
    /// # Errors
    /// [`RolloutError`]: there is no such version.
    pub fn shadow(&self, version: &str, looks: u32, request: String) -> Result<Event, RolloutError> {
        let (version, _) = self.version(version)?;
        Ok(Event::Shadow {
            request,
            version,
            camera: self.camera.map(str::to_owned),
            looks,
        })
    }

    /// Checks a request to stop the running shadow.
    ///
    /// # Errors
    /// [`RolloutError`]; also if none is running.
    pub fn stop_shadow(&self) -> Result<Event, RolloutError> {
        match self.registry.state()?.model(self.id()).shadow {
            Some(_) => Ok(Event::ShadowStop {}),
            None => Err(RolloutError::NoShadow(self.id().to_owned())),
        }
    }

    /// The version as written in the journal (`None` for the configuration's own) and its model.
    fn version(&self, wanted: &str) -> Result<(Version, Model), RolloutError> {
        let shipped = Model::load(&self.config.models[self.model].dir)?;
        if shipped.manifest().version == wanted {
            return Ok((None, shipped));
        }
        let model = self.registry.load(self.id(), wanted)?;
        Ok((Some(wanted.to_owned()), model))
    }

    /// Fails if the new version lacks a label that a rule or the masking needs, or a self-test that the live version has. Returns the labels
    /// that only the trial can prove.
    fn expect_replacement(&self, known: &ModelState, new: &Model, is_forced: bool) -> Result<Vec<Label>, RolloutError> {
        let old = match known.live(self.camera) {
            Some(version) => self.registry.load(self.id(), &version)?,
            None => Model::load(&self.config.models[self.model].dir)?,
        };
        let labels = |model: &Model| -> Vec<Label> { model.manifest().engine_labels() };
        let others: Vec<Vec<Label>> = self
            .config
            .models
            .iter()
            .map(|m| Model::load(&m.dir).map(|m| labels(&m)).unwrap_or_default())
            .collect();
        let concerned = |c: &&Camera| {
            self.camera
                .map_or(!known.has_own_version(c.id.as_str()), |only| c.id.as_str() == only)
        };
        let cameras = self.config.cameras.iter().filter(concerned);
        let (old_labels, new_labels) = (labels(&old), labels(new));
        let mut objections = self
            .config
            .lost_coverage(self.model, cameras, (&old_labels, &new_labels), &|other| {
                others[other].clone()
            });
        let (manifest, shown) = (new.manifest(), new.manifest().self_tested_labels());
        if !is_forced && shown.is_empty() && !old.manifest().self_test.is_empty() {
            objections.push(trial::NO_SELF_TEST.to_owned());
        }
        if !objections.is_empty() {
            return Err(RolloutError::Objections {
                id: manifest.id.clone(),
                version: manifest.version.clone(),
                objections: objections.join("; "),
            });
        }
        let thresholds = trial::score_thresholds(&old_labels, &new_labels, &self.config.plan.rules);
        Ok(match is_forced {
            true => Vec::new(),
            false => trial::unproven_labels(&thresholds, &shown).into_iter().collect(),
        })
    }
}

/// A configured model with what the registry knows of it.
#[derive(Debug, Clone)]
pub struct ModelVersions<'a> {
    /// Its id.
    pub id: &'a str,
    /// Version of the configuration's folder; `None` if that cannot be read.
    pub shipped: Option<String>,
    /// The registry's versions, requests and outcomes.
    pub known: ModelState,
}

impl ModelVersions<'_> {
    /// The version that is live on all cameras without a version of their own; `None` if that is the configuration's and cannot be read.
    pub fn live(&self) -> Option<String> {
        self.known.live(None).or_else(|| self.shipped.clone())
    }
}

impl Config {
    /// The registry of model versions of this box.
    pub fn model_registry(&self) -> Registry {
        Registry::new(&self.state_dir, self.registry.keys.clone())
    }

    /// Index in [`Config::models`] of the model with this id.
    ///
    /// # Errors
    /// [`RolloutError::UnknownModel`].
    pub fn model_index(&self, id: &str) -> Result<usize, RolloutError> {
        let found = self.models.iter().position(|m| m.id == id);
        found.ok_or_else(|| RolloutError::UnknownModel {
            id: id.to_owned(),
            known: joined(self.models.iter().map(|m| m.id.as_str())),
        })
    }

    /// The configured models with what `state` knows of them. Reads their manifests, not their networks.
    pub fn model_versions<'a>(&'a self, state: &RegistryState) -> Vec<ModelVersions<'a>> {
        let of = |model: &'a super::Model| ModelVersions {
            id: &model.id,
            shipped: Manifest::read(&model.dir.join(MANIFEST))
                .ok()
                .map(|manifest| manifest.version),
            known: state.model(&model.id),
        };
        self.models.iter().map(of).collect()
    }

    /// Why a package cannot be installed on this box, apart from what its self-test finds: it is of a model that the configuration does not
    /// have, or has the configuration's version with other content.
    ///
    /// # Errors
    /// The reason, for a person.
    pub fn expect_installable(&self, model: &Model) -> Result<(), String> {
        let manifest = model.manifest();
        let index = self.model_index(&manifest.id).map_err(|e| e.to_string())?;
        let shipped = Manifest::read(&self.models[index].dir.join(MANIFEST)).map_err(|e| e.to_string())?;
        if shipped.version == manifest.version && shipped != **manifest {
            return Err(format!(
                "the configuration's model is {} too, with a different model.toml; give this one a higher `version`",
                manifest.version
            ));
        }
        Ok(())
    }
}

fn joined<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    ids.collect::<Vec<_>>().join(", ")
}
