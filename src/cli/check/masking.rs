//! Whether what has to be masked is found: the self-test of each mask model, and the labels of the model versions that will run,
//! which are those of the registry where they replace the configuration's folders.

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

/// The self-test of each model in `evidence.mask_models`: one that finds nothing lets pictures out as masked.
#[cfg(feature = "ort")]
pub(super) fn mask_models(draft: &Draft) -> Vec<CheckRow> {
    if draft.mask_models().is_empty() || !draft.faults_in("runtime").is_empty() {
        return Vec::new();
    }
    // Without the library, its own row says why nothing is tested.
    let Ok(runtime) = gridwatch_model::runtime::init(draft.onnxruntime.as_deref()) else {
        return Vec::new();
    };
    let runtime = runtime.with(draft.inference.clone());
    draft
        .mask_models()
        .iter()
        .map(|dir| match Model::load(dir) {
            Ok(model) => self_test(&runtime, &model),
            Err(e) => CheckRow::new(
                format!("mask model {}", dir.display()),
                CheckState::Wrong,
                e.to_string(),
            ),
        })
        .collect()
}

#[cfg(not(feature = "ort"))]
pub(super) fn mask_models(_: &Draft) -> Vec<CheckRow> {
    Vec::new()
}

/// Runs the self-test that the daemon runs before it masks with a model.
#[cfg(feature = "ort")]
fn self_test(runtime: &gridwatch_model::Runtime, model: &Model) -> CheckRow {
    use gridwatch_model::selftest::{self, Step, StepResult};

    let manifest = model.manifest();
    let what = format!("mask model {}", manifest.id);
    let report = selftest::check(runtime, model);
    if let Some(refusal) = report.refusal_in(|step| step != Step::Speed) {
        return CheckRow::wrong(
            what,
            format!("self-test failed: {refusal}"),
            "install the model again; until then the daemon does not start, because pictures would leave unmasked",
        );
    }
    let is_unproven = |step: &selftest::StepReport| step.step == Step::Pictures && step.result == StepResult::Unproven;
    if report.findings.iter().any(is_unproven) {
        let message = format!(
            "version {} has no self-test, so nothing shows that it finds what has to be masked",
            manifest.version
        );
        return CheckRow::new(what, CheckState::Warning, message)
            .remedy("add pictures with people and vehicles to it: gridwatch model record");
    }
    CheckRow::ok(what, format!("version {}, passed its self-test", manifest.version))
}

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

#[cfg(all(test, feature = "ort"))]
mod tests {
    use super::*;

    #[test]
    fn a_mask_model_is_tested_and_one_without_a_self_test_is_a_warning() {
        let runtime = gridwatch_model::runtime::init(None).unwrap_or_else(|e| panic!("{e}"));
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let row = |dir: &str| {
            self_test(
                &runtime,
                &Model::load(&root.join(dir)).unwrap_or_else(|e| panic!("{e}")),
            )
        };
        let tested = row("models/yunet_n");
        assert_eq!(
            (tested.state, &*tested.what),
            (CheckState::Ok, "mask model yunet_n"),
            "{}",
            tested.message
        );
        let untested = row("tests/fixtures/models/swap");
        assert_eq!(untested.state, CheckState::Warning, "{}", untested.message);

        // The network of the fixture does not find what YuNet finds.
        let dir = tempfile::tempdir().unwrap();
        let copy = |from: &str, to: &str| {
            let to = dir.path().join(to);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(root.join(from), to).unwrap();
        };
        copy("tests/fixtures/models/swap/model.onnx", "model.onnx");
        copy("models/yunet_n/CARD.md", "CARD.md");
        copy("models/yunet_n/selftest/cars.jpg", "cars.jpg");
        let manifest = std::fs::read_to_string(root.join("tests/fixtures/models/swap/model.toml")).unwrap();
        let expected = "\n[[self_test]]\npicture = \"cars.jpg\"\nabove = 0.3\n\
                        expect = [{ label = \"garbage\", score = 0.9, box = [0.1, 0.1, 0.2, 0.2] }]\n";
        std::fs::write(dir.path().join("model.toml"), manifest + expected).unwrap();
        let blind = self_test(&runtime, &Model::load(dir.path()).unwrap_or_else(|e| panic!("{e}")));
        assert_eq!(blind.state, CheckState::Wrong, "{}", blind.message);
        assert!(blind.message.starts_with("self-test failed: "), "{}", blind.message);
    }
}
