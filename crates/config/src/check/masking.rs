//! Masking: whether what has to be masked can be found in the pictures of every camera.

use super::{Checker, models::ModelFacts, section};
use gridwatch_evidence as evidence;

/// Cameras named in a message; a box may have two hundred.
const MAX_NAMED: usize = 5;

impl Checker<'_> {
    /// With `evidence.mask`, no model for persons is a fault, because no picture of such a camera may leave the box; no model for
    /// vehicles is a warning, because there may be none in front of it.
    pub(super) fn masking(&mut self, models: &[ModelFacts]) {
        let at = section("evidence").key("mask_models");
        let Some(settings) = self.draft.rest.evidence.as_ref().filter(|e| e.mask) else {
            return;
        };
        // What faulty models would detect is unknown, and so is it of a camera whose list of models is faulty.
        let is_faulty = |f: &super::Fault| {
            let of_camera = f.path.starts_with("cameras[") && f.path.contains(".models");
            of_camera || f.path.starts_with("models") || f.path.starts_with("evidence.mask")
        };
        if self.is_invalid(&section("evidence").key("mask")) || self.draft.faults.iter().any(is_faulty) {
            return;
        }
        let models: Vec<&ModelFacts> = models.iter().filter(|m| m.id.is_some()).collect();
        let cameras_without = |is_found: fn(&str) -> bool| -> Vec<String> {
            let by_mask_models = settings.mask_labels.iter().any(|l| is_found(l.as_str()));
            let finds = |model: &usize| models.get(*model).is_some_and(|m| m.labels.iter().any(|l| is_found(l)));
            let cameras = self
                .draft
                .cameras
                .iter()
                .filter(|c| !by_mask_models && !c.models.iter().any(finds));
            cameras.map(|c| c.id.to_string()).collect()
        };
        let without_persons = cameras_without(|label| evidence::is_of_person(&label.into()));
        let without_vehicles = cameras_without(|label| {
            let label = label.into();
            evidence::is_masked(&label) && !evidence::is_of_person(&label)
        });
        if !without_persons.is_empty() {
            self.fault(
                &at,
                format!(
                    "no model detects faces or persons in the pictures of {}, so they cannot be masked and no case could be filed",
                    named(&without_persons)
                ),
                "name models that detect them, such as [\"../models/yunet_n\", \"../models/yolox_nano_416_coco\"]; or set mask = false, \
                 if the city's data protection review allows unmasked pictures (PIPL art. 26)",
            );
        } else if !without_vehicles.is_empty() {
            self.warn(
                &at,
                format!(
                    "no model detects vehicles in the pictures of {}, so licence plates leave the box unmasked",
                    named(&without_vehicles)
                ),
                "add a model that detects car, truck, bus and motorcycle, such as \"../models/yolox_nano_416_coco\"",
            );
        }
    }
}

/// `camera gate`, or `cameras gate, yard and 3 more`.
fn named(cameras: &[String]) -> String {
    match cameras {
        [only] => format!("camera {only}"),
        [..] if cameras.len() <= MAX_NAMED => format!("cameras {}", cameras.join(", ")),
        [..] => format!(
            "cameras {} and {} more",
            cameras[..MAX_NAMED].join(", "),
            cameras.len() - MAX_NAMED
        ),
    }
}
