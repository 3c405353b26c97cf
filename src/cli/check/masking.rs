//! Whether what has to be masked is found by the model versions that will run: those of the registry, where they replace the
//! configuration's folders.

use std::collections::BTreeMap;

use super::{CheckRow, CheckState};
use gridwatch_base::text::counted;
use gridwatch_config::{Camera, Draft};
use gridwatch_engine::Label;
use gridwatch_evidence as evidence;
use gridwatch_model::{
    Model,
    registry::{ModelState, Registry, Version, version_name},
};

const WHAT: &str = "masking";

/// A row if versions of the registry search the cameras' pictures; the configuration's own models are checked with the file.
pub(super) fn row(draft: &Draft) -> Option<CheckRow> {
    let by_mask_models = draft.labels_of_mask_models()?;
    let registry = draft.registry().filter(|r| r.journal().path().exists())?;
    // The row of the model says why it cannot be read.
    let state = registry.state().ok()?;
    if !draft.faults_in("models").is_empty() || !draft.faults_in("evidence").is_empty() {
        return None;
    }
    let mut versions = Versions {
        registry: &registry,
        loaded: BTreeMap::new(),
    };
    let mut searched = 0;
    let (mut without_persons, mut without_vehicles) = (Vec::new(), Vec::new());
    for camera in &draft.cameras {
        let mut labels = by_mask_models.to_vec();
        let mut replaced = Vec::new();
        for model in camera.models.iter().filter_map(|m| draft.models.get(*m)) {
            let (version, found) = versions.live(model, &state.model(&model.id), camera)?;
            if version.is_some() {
                replaced.push(format!("{}@{}", model.id, version_name(&version)));
            }
            labels.extend(found);
        }
        if replaced.is_empty() {
            continue;
        }
        searched += 1;
        let named = || format!("{} ({})", camera.id, replaced.join(", "));
        if !labels.iter().any(evidence::is_of_person) {
            without_persons.push(named());
        } else if !labels
            .iter()
            .any(|l| evidence::is_masked(l) && !evidence::is_of_person(l))
        {
            without_vehicles.push(named());
        }
    }
    let remedy = "run `gridwatch model rollback`, install a version with these labels, or add a model that has them to evidence.mask_models";
    if !without_persons.is_empty() {
        return Some(CheckRow::wrong(
            WHAT,
            format!(
                "no live model detects faces or persons in the pictures of {}, so they cannot be masked and no case of them is filed",
                without_persons.join(", ")
            ),
            remedy,
        ));
    }
    if !without_vehicles.is_empty() {
        let message = format!(
            "no live model detects vehicles in the pictures of {}, so licence plates leave the box unmasked",
            without_vehicles.join(", ")
        );
        return Some(CheckRow::new(WHAT, CheckState::Warning, message).remedy(remedy));
    }
    (searched > 0).then(|| {
        let cameras = counted(searched, "camera", "cameras");
        CheckRow::ok(
            WHAT,
            format!("persons and vehicles are found at the {cameras} with versions of the registry"),
        )
    })
}

/// The versions that the daemon would start with.
struct Versions<'a> {
    registry: &'a Registry,
    /// By model and version.
    loaded: BTreeMap<(String, Version), Option<Vec<Label>>>,
}

impl Versions<'_> {
    /// The version of `model` that a start makes live at `camera`, and its labels: the registry's live one, or if that cannot be
    /// loaded, the one before. `None` if the configuration's folder cannot be loaded, which has a row of its own.
    fn live(
        &mut self,
        model: &gridwatch_config::Model,
        state: &ModelState,
        camera: &Camera,
    ) -> Option<(Version, Vec<Label>)> {
        let id = camera.id.as_str();
        let scope = state.has_own_version(id).then_some(id);
        let live = state.live(scope);
        let before = state.previous_version(scope).flatten();
        let mut versions = [live, before, None].into_iter();
        versions.find_map(|version| Some((version.clone(), self.labels(model, version)?)))
    }

    fn labels(&mut self, model: &gridwatch_config::Model, version: Version) -> Option<Vec<Label>> {
        let registry = self.registry;
        let labels = self
            .loaded
            .entry((model.id.clone(), version.clone()))
            .or_insert_with(|| {
                let loaded = match &version {
                    Some(version) => registry.load(&model.id, version).ok(),
                    None => Model::load(&model.dir).ok(),
                };
                loaded.map(|loaded| loaded.manifest().engine_labels())
            });
        labels.clone()
    }
}
