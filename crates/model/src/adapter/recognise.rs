//! Recognises the family of a network: the exporter's metadata narrows the choice, names and shapes decide.

use super::{Adapter, FAMILIES, Family, LayoutError, Mismatch, NetworkFacts, list, unsupported};

/// The family and the order of its outputs.
pub(super) fn family(adapter: Adapter, facts: &NetworkFacts<'_>) -> Result<(&'static Family, Vec<usize>), LayoutError> {
    if let Some(task) = facts.metadata.get("task").filter(|task| *task != "detect") {
        return Err(LayoutError::Task {
            task: task.clone(),
            outputs: list(facts.outputs) + &resembling(facts),
        });
    }
    let outputs = || list(facts.outputs);
    if adapter != Adapter::Auto {
        let fits = |family: &&&'static Family| (family.fit)(facts).is_ok();
        let why = match FAMILIES.into_iter().find(|family| family.adapter == adapter) {
            Some(family) => match (family.fit)(facts) {
                Ok(order) => return Ok((family, order)),
                Err(misfit) => misfit.needs,
            },
            None => "it decodes text, not boxes".into(),
        };
        let fitting: Vec<Adapter> = FAMILIES.iter().filter(fits).map(|f| f.adapter).collect();
        return Err(LayoutError::AdapterMismatch {
            adapter,
            why,
            outputs: match fitting.is_empty() {
                true => outputs() + &resembling(facts),
                false => outputs(),
            },
            fitting,
        });
    }
    let possible = by_metadata(facts);
    let candidates = FAMILIES
        .into_iter()
        .filter(|family| possible.is_none_or(|possible| possible.contains(&family.adapter)));
    let mut fitting: Vec<(&'static Family, Vec<usize>)> = Vec::new();
    let mut reasons = Vec::new();
    for family in candidates {
        match (family.fit)(facts) {
            Ok(order) => fitting.push((family, order)),
            Err(Mismatch { needs, near: true }) => reasons.push(format!("for {} {needs}", family.adapter)),
            Err(_) => {}
        }
    }
    match fitting.len() {
        0 => Err(LayoutError::Unknown {
            outputs: outputs(),
            classes: facts.classes,
            size: facts.size,
            reasons: match reasons.is_empty() {
                true => "no family has similar outputs".to_owned(),
                false => reasons.join("; "),
            } + &resembling(facts),
        }),
        1 => Ok(fitting.remove(0)),
        _ => Err(LayoutError::Ambiguous {
            outputs: outputs(),
            choices: fitting.iter().map(|(family, _)| family.adapter).collect(),
        }),
    }
}

/// A sentence about what the outputs look like, to continue the one before; empty if they resemble nothing known.
fn resembling(facts: &NetworkFacts<'_>) -> String {
    let looks_like = unsupported::describe(facts, Some(facts.classes));
    looks_like.map_or_else(String::new, |what| format!(". It looks like {what}"))
}

/// Families compatible with the exporter's metadata; `None` if the metadata does not narrow the choice.
///
/// Ultralytics writes `task`, `names`, `description` ("Ultralytics YOLO11n model …"), and by version `args`, `head` and
/// `end2end` (`engine/exporter.py`); YOLOv5's own exporter `names` and `stride` alone (`export.py`).
fn by_metadata(facts: &NetworkFacts<'_>) -> Option<&'static [Adapter]> {
    let value = |key: &str| facts.metadata.get(key).map(String::as_str).unwrap_or_default();
    let is_ultralytics = !value("task").is_empty() || value("description").starts_with("Ultralytics");
    let is_rtdetr = value("head") == "RTDETRDecoder" || value("description").to_lowercase().contains("rtdetr");
    let has_nms = value("end2end") == "True" || value("args").contains("'nms': True");
    match (is_ultralytics, has_nms, is_rtdetr) {
        (true, true, _) => Some(&[Adapter::End2end]),
        (true, false, true) => Some(&[Adapter::RtdetrUltralytics]),
        (true, false, false) => Some(&[Adapter::Yolov8, Adapter::End2end]),
        (false, ..) if !value("stride").is_empty() && !value("names").is_empty() => Some(&[Adapter::Yolov5]),
        (false, ..) => None,
    }
}
