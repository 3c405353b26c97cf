//! What a case's record says beside the engine's decision: the camera, the models, the pictures, the configuration.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use gridwatch_base::clock;
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_contract::{
    CameraInfo, CaseRecord, Context, EvidenceItem, EvidenceRole, Form, Language, ModelInfo, Topics, When,
};
use gridwatch_engine::{CameraId, Case, Label};
use gridwatch_evidence::{EvidencePicture, Role};

/// A model as records name it, and the labels it can find.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KnownModel {
    pub(super) info: ModelInfo,
    pub(super) labels: Vec<Label>,
}

/// What records are made from; fixed while a configuration is in force.
pub(super) struct Records {
    pub(super) form: Form,
    /// By what the engine calls their views.
    views: BTreeMap<CameraId, (config::Camera, config::Preset)>,
    rules: BTreeMap<gridwatch_engine::RuleId, Vec<Label>>,
}

impl Records {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            form: Form {
                topics: Topics::new(&config.broker.topic_prefix, &config.node),
                template: config.broker.template.clone(),
                shares_sites: config.broker.share_sites.then(|| config.node.clone()),
            },
            views: config
                .cameras
                .iter()
                .flat_map(|c| c.presets.iter().map(move |p| (p.view.clone(), (c.clone(), p.clone()))))
                .collect(),
            rules: config
                .plan
                .rules
                .iter()
                .map(|r| (r.id.clone(), r.labels.clone()))
                .collect(),
        }
    }

    /// The record of a new case, whose confirming look was `seen_by` those models; `None` when its camera is not configured or
    /// none of them finds its labels, which the engine never lets happen.
    pub(super) fn of(
        &self,
        config: &Config,
        case: &Case,
        pictures: &[EvidencePicture],
        seen_by: &[KnownModel],
    ) -> Option<CaseRecord> {
        let (camera, preset) = self.views.get(&case.camera)?;
        let labels = self.rules.get(&case.rule)?;
        let mut finders = seen_by
            .iter()
            .filter(|m| m.labels.iter().any(|l| labels.contains(l)))
            .map(|m| m.info.clone());
        let model = finders.next()?;
        let scene = pictures.iter().rfind(|p| p.role == Role::Scene)?;
        Some(CaseRecord::new(
            case,
            Context {
                node: config.node.as_str(),
                language: match config.language {
                    config::Language::Zh => Language::Zh,
                    config::Language::En => Language::En,
                },
                zone: &config.timezone,
                grid_version: &config.grid_version,
                crs: &config.crs,
                camera: CameraInfo {
                    local_id: camera.id.to_string(),
                    gb_device_id: camera.gb_device_id.clone(),
                    preset_id: preset.id.clone(),
                    calibration_version: preset.calibration_version.clone(),
                    legal_review_ref: camera.legal_review_ref.clone(),
                },
                address: preset.address.clone(),
                model,
                other_models: finders.collect(),
                config_sha256: &config.config_sha256,
                picture: (scene.width, scene.height),
                evidence: pictures
                    .iter()
                    .enumerate()
                    .map(|(i, p)| self.item(config, i, p))
                    .collect(),
                filed_at: Timestamp::now(),
                clock: clock::kept(),
            },
        ))
    }

    /// The pictures of a look that was taken again.
    pub(super) fn after(&self, config: &Config, pictures: &[EvidencePicture]) -> Vec<EvidenceItem> {
        let item = |(i, picture)| self.item(config, i, picture);
        pictures.iter().enumerate().map(item).collect()
    }

    fn item(&self, config: &Config, index: usize, picture: &EvidencePicture) -> EvidenceItem {
        EvidenceItem {
            id: format!("e{}", index + 1),
            role: match picture.role {
                Role::Scene => EvidenceRole::Scene,
                Role::Closeup => EvidenceRole::Closeup,
                Role::Overlay => EvidenceRole::Overlay,
                Role::After => EvidenceRole::After,
            },
            sha256: picture.sha256.clone(),
            bytes: picture.jpeg.len() as u64,
            mime: "image/jpeg".into(),
            width: picture.width,
            height: picture.height,
            captured_at: When::new(picture.captured_at, &config.timezone),
            derived_from: picture.derived_from.clone(),
            masked: picture.masked,
            topic_or_uri: self.form.topics.evidence(&picture.sha256),
            // The record's to say: it knows what the pictures are of.
            caption: None,
        }
    }
}
