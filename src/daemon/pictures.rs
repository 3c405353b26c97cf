//! The evidence settings of each view, and the models for masking, from the configuration.

use std::collections::BTreeMap;

use super::record::ModelDescriptor;
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_engine::CameraId;
use gridwatch_evidence as evidence;
use gridwatch_model::{Model, ModelError, Runtime, TiledDetector};

/// Loads the models used for masking; `None` if the configuration masks nothing or names none.
pub(super) fn mask_detector(config: &Config, runtime: &Runtime) -> Result<Option<TiledDetector>, ModelError> {
    if !config.evidence.mask || config.evidence.mask_models.is_empty() {
        return Ok(None);
    }
    let models: Vec<Model> = config
        .evidence
        .mask_models
        .iter()
        .map(|dir| Model::load(dir))
        .collect::<Result<_, _>>()?;
    TiledDetector::new(runtime, &models).map(Some)
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
