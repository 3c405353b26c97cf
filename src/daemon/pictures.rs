//! How the pictures of cases are made, from the configuration.

use super::record::KnownModel;
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_evidence as evidence;
use gridwatch_model::{Model, ModelError, Runtime, TiledDetector};

/// The models that look for what is masked.
pub(super) fn masks(config: &Config, runtime: &Runtime) -> Result<Option<TiledDetector>, ModelError> {
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

/// How the pictures of one view are made.
pub(super) fn settings(config: &Config, models: &[KnownModel], preset: &config::Preset) -> evidence::Settings {
    let mut found = models
        .iter()
        .flat_map(|m| &m.labels)
        .chain(&config.evidence.mask_labels);
    let finds_persons = found.any(|l| matches!(l.as_str(), "person" | "face"));
    evidence::Settings {
        jpeg_quality: config.evidence.jpeg_quality,
        max_bytes: config.evidence.max_picture_bytes,
        min_interval: config.evidence.min_interval,
        mask: config.evidence.mask,
        finds_persons,
        privacy: preset.privacy.clone(),
    }
}
