//! The evidence settings of each view, and the models for masking, from the configuration.

use std::collections::BTreeMap;

use super::{error::StartError, record::ModelDescriptor};
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_engine::CameraId;
use gridwatch_evidence as evidence;
use gridwatch_model::{
    Model, ModelError, Runtime, TiledDetector,
    selftest::{self, Step},
};

/// The models used for masking.
pub(super) struct MaskDetector {
    pub(super) detector: TiledDetector,
    /// Persons or faces are among what they find.
    pub(super) finds_persons: bool,
}

/// Loads the models used for masking; `None` if the configuration masks nothing or names none.
///
/// # Errors
/// A model cannot be loaded, or fails its self-test: one that finds nothing would let pictures out as masked.
pub(super) fn mask_detector(config: &Config, runtime: &Runtime) -> Result<Option<MaskDetector>, StartError> {
    if !config.evidence.mask || config.evidence.mask_models.is_empty() {
        return Ok(None);
    }
    let models: Vec<Model> = config
        .evidence
        .mask_models
        .iter()
        .map(|dir| Model::load(dir))
        .collect::<Result<_, ModelError>>()?;
    for model in &models {
        let report = selftest::check(runtime, model);
        // A slow model masks late, but it masks.
        if let Some(wrong) = report.refusal_in(|step| step != Step::Speed) {
            return Err(StartError::ModelMismatch(format!(
                "mask model {}: self-test failed: {wrong}",
                report.model
            )));
        }
    }
    Ok(Some(MaskDetector {
        detector: TiledDetector::new(runtime, &models)?,
        finds_persons: config.evidence.mask_labels.iter().any(evidence::is_of_person),
    }))
}

/// The evidence settings of every view; `models` gives those that search a camera's looks.
pub(super) fn evidence_settings(
    config: &Config,
    models: impl Fn(&config::Camera) -> Vec<ModelDescriptor>,
) -> BTreeMap<CameraId, evidence::Settings> {
    let mut settings = BTreeMap::new();
    for camera in &config.cameras {
        let models = models(camera);
        let labels = models.iter().flat_map(|m| &m.labels);
        let finds_persons = labels.chain(&config.evidence.mask_labels).any(evidence::is_of_person);
        if config.evidence.mask && !finds_persons {
            // The configuration's own models were checked; a version of the registry may have other labels.
            tracing::error!(camera = %camera.id, "No model detects persons or faces, so pictures cannot be masked; cases of this camera are not filed");
        }
        for preset in &camera.presets {
            let of_view = evidence::Settings {
                jpeg_quality: config.evidence.jpeg_quality,
                max_bytes: config.evidence.max_picture_bytes,
                min_interval: config.evidence.min_interval,
                mask: config.evidence.mask,
                finds_persons,
                privacy: preset.privacy.clone(),
            };
            settings.insert(preset.view.clone(), of_view);
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::daemon::test_config::{demo_config, root};
    use gridwatch_model::runtime;

    /// A model folder whose network finds a face in every picture, with a self-test that expects one of this score.
    fn package(dir: &std::path::Path, score: f32) {
        let from = root().join("tests/fixtures/models/swap");
        fs::create_dir_all(dir).unwrap();
        fs::copy(from.join("model.onnx"), dir.join("model.onnx")).unwrap();
        fs::write(dir.join("CARD.md"), "").unwrap();
        image::RgbImage::from_pixel(64, 64, image::Rgb([128; 3]))
            .save(dir.join("grey.png"))
            .unwrap();
        let toml = fs::read_to_string(from.join("model.toml")).unwrap();
        let test = format!(
            "\n[[self_test]]\npicture = \"grey.png\"\nabove = 0.3\nexpect = [{{ label = \"face\", score = {score}, box = [0.0, 0.0, 0.1, 0.1] }}]\n"
        );
        fs::write(
            dir.join("model.toml"),
            toml.replace("\"garbage\"", "\"face\"")
                .replace("garbage_nano_416", "faces")
                + &test,
        )
        .unwrap();
    }

    #[test]
    fn a_mask_model_that_fails_its_self_test_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("faces");
        package(&model, 0.9);
        let config = demo_config(dir.path(), |file| file.evidence.mask_models.push(model));
        let runtime = runtime::init(None).unwrap_or_else(|e| panic!("{e}"));
        let error = mask_detector(&config, &runtime).err().map(|e| e.to_string());
        let error = error.expect("the expected box is not the one that the network finds");
        assert!(
            error.starts_with("mask model faces@2.0.0: self-test failed: "),
            "{error}"
        );
        assert!(mask_detector(&demo_config(dir.path(), |_| {}), &runtime).is_ok());
    }
}
