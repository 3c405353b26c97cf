//! The approved-sign baselines: what may hang in each camera's view.

use std::path::Path;

use jiff::{Timestamp, civil::Date};

use super::{At, Checker, inside, rules::ModelFacts, top};
use crate::{Fault, Faults, Preset, raw, schema::WORDS};
use gridwatch_base::document::{Document, schema};
use gridwatch_engine::{ApprovedSign, BBox, Label, PhoneNumber, Rule};

impl raw::Sign {
    /// Where it hangs, if that is a box in the picture.
    fn bbox(&self) -> Option<BBox> {
        let [x1, y1, x2, y2] = self.corners;
        let bbox = BBox { x1, y1, x2, y2 };
        bbox.within_picture().filter(|within| *within == bbox)
    }
}

impl raw::Signs {
    /// As the engine knows them; those whose box is none are left out.
    pub fn approved(&self) -> Vec<ApprovedSign> {
        let sign = |sign: &raw::Sign| {
            Some(ApprovedSign {
                label: sign.label.as_str().into(),
                bbox: sign.bbox()?,
                number: sign.number.as_deref().map(PhoneNumber::from),
            })
        };
        self.signs.iter().filter_map(sign).collect()
    }
}

/// Reads a baseline; the document is what it stands in.
pub(crate) fn read(file: &Path) -> Result<(Document, raw::Signs), Faults> {
    let (document, mut faults) = Document::read(file).map_err(Faults)?;
    let sound = schema::check::<raw::Signs>(&document, &WORDS, &mut faults);
    let signs = serde_json::from_value::<raw::Signs>(sound.value).ok();
    if let Some(signs) = &signs {
        let mut fault = |at: At, message: String, remedy: &str| faults.push(document.fault(&at, message, remedy));
        let whole = At::default();
        let recorded = whole.key("recorded");
        if !sound.taken.contains(&recorded) && signs.recorded.parse::<Timestamp>().is_err() {
            let message = format!("{:?} is no moment", signs.recorded);
            fault(recorded, message, "write it with its offset: 2026-11-22T10:00:00+08:00");
        }
        for (i, sign) in signs.signs.iter().enumerate() {
            let at = whole.key("signs").index(i);
            if let Some(day) = sign.added.as_ref().filter(|day| day.parse::<Date>().is_err()) {
                fault(at.key("added"), format!("{day:?} is no day"), "write it as 2026-11-22");
            }
            if sign.bbox().is_none() {
                let message = format!("{:?} is no box in the picture", sign.corners);
                fault(
                    at.key("box"),
                    message,
                    "write [left, top, right, bottom] as fractions of it, the smaller first",
                );
            }
        }
    }
    match signs {
        Some(signs) if faults.is_empty() => Ok((document, signs)),
        _ => {
            faults.sort_by_key(|f: &Fault| f.line);
            Err(Faults(faults))
        }
    }
}

impl Checker<'_> {
    /// The baseline of the camera at `at`, `None` where none is named or it is faulty. Its faults name that file.
    pub(super) fn approved(&mut self, at: &At, camera: &str, path: Option<&Path>) -> Option<Vec<ApprovedSign>> {
        let path = path?;
        let at = at.key("approved_signs");
        self.existing(
            &at,
            path,
            "the file that `gridwatch signs record` writes for this camera",
        )?;
        let (document, file) = match read(&self.shown(path)) {
            Ok(read) => read,
            Err(Faults(faults)) => {
                self.draft.faults.extend(faults.into_iter().map(|f| inside(&at, f)));
                return None;
            }
        };
        if file.camera != camera {
            let fault = document.fault(
                &At::default().key("camera"),
                format!("is {:?}, and the camera is {camera:?}", file.camera),
                "name each camera's own file: another view's boxes approve the wrong things",
            );
            self.draft.faults.push(inside(&at, fault));
        }
        self.draft.rest.baselines.extend(&document.bytes);
        Some(file.approved())
    }

    /// Where baselines and rules that want them do not meet. Asked only where all else is sound.
    pub(super) fn baselines(&mut self, models: &[ModelFacts]) {
        if !self.draft.faults.is_empty() {
            return;
        }
        let mut told = Vec::new();
        let rules: Vec<&Rule> = self.draft.rest.rules.iter().filter(|r| r.except_approved).collect();
        let cameras = self.draft.cameras.iter().enumerate();
        let views = cameras.flat_map(|(i, camera)| {
            let at = top("cameras").index(i);
            camera
                .presets
                .iter()
                .enumerate()
                .map(move |(j, preset)| match preset.id {
                    Some(_) => (at.key("presets").index(j), camera, preset),
                    None => (at.clone(), camera, preset),
                })
        });
        for (at, camera, Preset { view, .. }) in views {
            let at = at.key("approved_signs");
            let Some(plan) = self.draft.rest.plans.get(view) else {
                continue;
            };
            let finds = |label: &str| {
                let mut looking = camera.models.iter().filter_map(|m| models.get(*m));
                let is_read = camera.reads && *label == *Label::small_ad().as_str();
                is_read || looking.any(|m| m.labels.iter().any(|l| l == label))
            };
            let Some(signs) = &plan.approved else {
                let here = rules.iter().filter(|r| r.labels.iter().any(|l| finds(l.as_str())));
                let here: Vec<&str> = here.map(|r| r.id.as_str()).collect();
                if !here.is_empty() {
                    told.push((
                        at,
                        format!("missing: of what it shows nothing is filed under {}", here.join(", ")),
                        format!("record what may hang there: gridwatch signs record {view} --config FILE"),
                    ));
                }
                continue;
            };
            let idle = signs
                .iter()
                .find(|s| !rules.iter().any(|r| r.labels.contains(&s.label)));
            if let Some(idle) = idle {
                told.push((
                    at,
                    format!("approves {:?}, which no rule with except_approved counts", idle.label),
                    "write except_approved = true in the rule that it is for, or remove the sign".to_owned(),
                ));
            }
        }
        for (at, message, remedy) in told {
            self.warn(&at, message, remedy);
        }
    }
}
