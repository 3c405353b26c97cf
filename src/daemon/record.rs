//! Builds case records: the engine's decision with the camera, the models, the pictures and the configuration.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use gridwatch_base::clock;
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_contract::{
    CameraInfo, CaseRecord, EvidenceItem, EvidenceRole, Form, ModelInfo, RecordContext, Topics, When,
};
use gridwatch_engine::{CameraId, Case, Label};
use gridwatch_evidence::{EvidencePicture, Role};

/// A model's identity in case records, and the labels it detects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ModelDescriptor {
    pub(super) info: ModelInfo,
    pub(super) labels: Vec<Label>,
}

/// Builds records for one configuration.
pub(super) struct RecordBuilder {
    config: Arc<Config>,
    pub(super) form: Form,
    /// Camera and preset by view id.
    views: BTreeMap<CameraId, (config::Camera, config::Preset)>,
    rules: BTreeMap<gridwatch_engine::RuleId, Vec<Label>>,
}

impl RecordBuilder {
    pub(super) fn new(config: &Arc<Config>) -> Self {
        Self {
            config: Arc::clone(config),
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

    /// The record of a new case. `detected_by` are the models that searched its confirming look; `None` if the camera is not
    /// configured or none of these models detects the rule's labels, neither of which the engine lets happen.
    pub(super) fn case_record(
        &self,
        case: &Case,
        pictures: &[EvidencePicture],
        detected_by: &[ModelDescriptor],
    ) -> Option<CaseRecord> {
        let config = &self.config;
        let (camera, preset) = self.views.get(&case.camera)?;
        let labels = self.rules.get(&case.rule)?;
        let mut detectors = detected_by
            .iter()
            .filter(|m| m.labels.iter().any(|l| labels.contains(l)))
            .map(|m| m.info.clone());
        let model = detectors.next()?;
        let scene = pictures.iter().rfind(|p| p.role == Role::Scene)?;
        Some(CaseRecord::new(
            case,
            RecordContext {
                node: config.node.as_str(),
                language: config.language,
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
                other_models: detectors.collect(),
                config_sha256: &config.config_sha256,
                picture: (scene.width, scene.height),
                evidence: pictures
                    .iter()
                    .enumerate()
                    .map(|(i, p)| self.evidence_item(i, p))
                    .collect(),
                filed_at: Timestamp::now(),
                clock: clock::try_read(),
            },
        ))
    }

    /// The evidence items of a verification look.
    pub(super) fn verification_evidence(&self, pictures: &[EvidencePicture]) -> Vec<EvidenceItem> {
        let item = |(i, picture)| self.evidence_item(i, picture);
        pictures.iter().enumerate().map(item).collect()
    }

    fn evidence_item(&self, index: usize, picture: &EvidencePicture) -> EvidenceItem {
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
            captured_at: When::new(picture.captured_at, &self.config.timezone),
            derived_from: picture.derived_from.clone(),
            masked: picture.masked,
            topic_or_uri: self.form.topics.evidence(&picture.sha256),
            // `CaseRecord` writes the captions: it knows what the pictures show.
            caption: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::{
        new_regions::describe_change_map,
        test_config::{demo_config, root},
    };
    use gridwatch_config::raw;
    use gridwatch_engine::{BBox, Location, LonLat, PlaceMethod};

    /// A case about an unknown object names the change map as what found it: no network has that label, and a record without a model could
    /// not be filed.
    #[test]
    fn a_left_object_is_filed_as_found_by_the_change_map() {
        let dir = tempfile::tempdir().unwrap();
        let config = demo_config(dir.path(), |file| {
            let catalogue = std::fs::read_to_string(root().join("configs/rules/catalogue.toml")).unwrap();
            let catalogue: toml::Table = toml::from_str(&catalogue).unwrap();
            let rules = catalogue["rules"].as_array().unwrap();
            let left = rules.iter().find(|r| r["id"].as_str() == Some("left-object")).unwrap();
            let rule: raw::Rule = left.clone().try_into().unwrap();
            // Of a category that the demo has.
            let category = file.rules[0].category.clone();
            file.rules = vec![raw::Rule { category, ..rule }];
            // They name the demo's rules.
            file.cameras.iter_mut().for_each(|camera| camera.zones.clear());
        });
        let rule = &config.plan.rules[0];
        assert_eq!(rule.labels, [Label::object()]);
        let (at, bbox) = (
            Timestamp::UNIX_EPOCH,
            BBox {
                x1: 0.1,
                y1: 0.1,
                x2: 0.2,
                y2: 0.2,
            },
        );
        let case = Case {
            id: "01KQGKEW010000000000000001".into(),
            rule: rule.id.clone(),
            category: rule.category.clone(),
            camera: config.cameras[0].presets[0].view.clone(),
            zone: None,
            schedule: None,
            located: Location {
                at: LonLat { lon: 121.5, lat: 31.2 },
                uncertainty_m: 4.5,
                method: PlaceMethod::CameraPoint,
                cell: "310115001001042".into(),
            },
            dedup_key: "310115001001042/0507/site".into(),
            first_seen_at: at,
            first_box: bbox,
            confirmed_at: at,
            confirmed_box: bbox,
            dwell: rule.dwell,
            looks_seen: 300,
            looks: 300,
            confidence: 0.8,
            second_look_score: None,
            appearance: None,
            number: None,
            text: None,
            count: 1,
            area_m2: None,
            is_unidentified: true,
            merge_radius_m: rule.merge_radius_m,
            recurrence: None,
            journal: Vec::new(),
        };
        let scene = EvidencePicture {
            role: Role::Scene,
            jpeg: vec![0],
            sha256: "ab".repeat(32),
            width: 1920,
            height: 1080,
            captured_at: at,
            derived_from: None,
            masked: true,
            masked_share: 0.0,
        };
        let config = Arc::new(config);
        let builder = RecordBuilder::new(&config);
        let network = ModelDescriptor {
            labels: vec!["umbrella".into()],
            ..describe_change_map()
        };
        let networks = std::slice::from_ref(&network);
        assert!(
            builder
                .case_record(&case, std::slice::from_ref(&scene), networks)
                .is_none()
        );
        let record = builder
            .case_record(&case, &[scene], &[network.clone(), describe_change_map()])
            .unwrap();
        assert_eq!(
            (record.model.id.as_str(), record.model.sha256.len()),
            ("change_map", 64)
        );
        assert!(record.unidentified && record.other_models.is_empty());
    }
}
