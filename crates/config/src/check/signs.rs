//! Approved-sign baselines: the signs that are allowed in each view.

use std::path::Path;

use jiff::{Timestamp, civil::Date};

use super::{Checker, FieldPath, models::ModelFacts, prefixed, section};
use crate::{Fault, Faults, Preset, raw, schema::MESSAGES};
use gridwatch_base::{
    document::{Document, schema},
    file, message,
    message::Message,
};
use gridwatch_engine::{AdvertText, ApprovedSign, BBox, Label, PhoneNumber, Rule, Validity};

impl raw::Sign {
    /// Its bounding box, if valid and within the image.
    fn bbox(&self) -> Option<BBox> {
        let [x1, y1, x2, y2] = self.corners;
        let bbox = BBox { x1, y1, x2, y2 };
        bbox.within_picture().filter(|within| *within == bbox)
    }
}

impl raw::Signs {
    /// The signs as the engine uses them; signs with an invalid box are skipped.
    pub fn approved(&self) -> Vec<ApprovedSign> {
        let sign = |sign: &raw::Sign| {
            Some(ApprovedSign {
                label: sign.label.as_str().into(),
                bbox: sign.bbox()?,
                number: sign.number.as_deref().map(PhoneNumber::from),
                text: sign.text.as_deref().map(AdvertText::from),
                valid: Validity {
                    from: None,
                    until: sign.valid_until.as_deref().and_then(|day| day.parse().ok()),
                },
            })
        };
        self.signs.iter().filter_map(sign).collect()
    }
}

/// Reads a baseline file, returning the document for further faults.
pub(crate) fn read(file: &Path) -> Result<(Document, raw::Signs), Faults> {
    parse(Document::read(file))
}

/// Checks what was read of a baseline file.
pub(crate) fn parse(document: Result<(Document, Vec<Fault>), Vec<Fault>>) -> Result<(Document, raw::Signs), Faults> {
    let (document, mut faults) = document.map_err(Faults)?;
    let sanitized = schema::check::<raw::Signs>(&document, &MESSAGES, &mut faults);
    let signs = serde_json::from_value::<raw::Signs>(sanitized.value).ok();
    if let Some(signs) = &signs {
        let mut fault =
            |at: FieldPath, message: Message, remedy: &'static str| faults.push(document.fault(&at, message, remedy));
        let whole = FieldPath::default();
        let recorded = whole.key("recorded");
        if !sanitized.invalid.contains(&recorded) && signs.recorded.parse::<Timestamp>().is_err() {
            let message = message!(
                "{recorded} is not a timestamp",
                recorded = format!("{:?}", signs.recorded)
            );
            fault(
                recorded,
                message,
                "use RFC 3339 with an offset, such as 2026-11-22T10:00:00+08:00",
            );
        }
        for (i, sign) in signs.signs.iter().enumerate() {
            let at = whole.key("signs").index(i);
            for (key, day) in [("added", &sign.added), ("valid_until", &sign.valid_until)] {
                if let Some(day) = day.as_ref().filter(|day| day.parse::<Date>().is_err()) {
                    fault(
                        at.key(key),
                        message!("{day} is not a date", day = format!("{day:?}")),
                        "use YYYY-MM-DD, such as 2026-11-22",
                    );
                }
            }
            if sign.bbox().is_none() {
                let message = message!(
                    "{corners} is not a box within the image",
                    corners = format!("{:?}", sign.corners)
                );
                fault(
                    at.key("box"),
                    message,
                    "use [left, top, right, bottom] as fractions of the image size, with left < right and top < bottom",
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
    /// Reads the baseline of the view at `at`; `None` if it has none or the file is faulty. Faults refer to that file.
    pub(super) fn approved(&mut self, at: &FieldPath, camera: &str, path: Option<&Path>) -> Option<Vec<ApprovedSign>> {
        let path = path?;
        let at = at.key("approved_signs");
        let bytes = self.read_source(&at, path, file::MAX_TEXT);
        self.existing_file(
            &at,
            path,
            "the file that `gridwatch signs record` writes for this camera",
        )?;
        let (document, file) = match parse(Document::of(&self.resolve(path), bytes)) {
            Ok(read) => read,
            Err(Faults(faults)) => {
                self.draft.faults.extend(faults.into_iter().map(|f| prefixed(&at, f)));
                return None;
            }
        };
        if file.camera != camera {
            let fault = document.fault(
                &FieldPath::default().key("camera"),
                message!(
                    "is {camera}, but the file is used for {view}",
                    camera = format!("{:?}", file.camera),
                    view = format!("{camera:?}")
                ),
                "give each view its own file; boxes recorded in another view would approve the wrong signs",
            );
            self.draft.faults.push(prefixed(&at, fault));
        }
        self.draft.rest.data_files.extend(&document.bytes);
        Some(file.approved())
    }

    /// Warns about rules without a baseline and baselines without a rule. Skipped if there are faults.
    pub(super) fn baselines(&mut self, models: &[ModelFacts]) {
        if !self.draft.faults.is_empty() {
            return;
        }
        let mut warnings = Vec::new();
        let rules: Vec<&Rule> = self.draft.rest.rules.iter().filter(|r| r.except_approved).collect();
        let cameras = self.draft.cameras.iter().enumerate();
        let views = cameras.flat_map(|(i, camera)| {
            let at = section("cameras").index(i);
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
                let mut assigned = camera.models.iter().filter_map(|m| models.get(*m));
                let is_read = camera.read_numbers && Label::of_text().iter().any(|l| l.as_str() == label);
                is_read || assigned.any(|m| m.labels.iter().any(|l| l == label))
            };
            let Some(signs) = &plan.approved else {
                let here = rules.iter().filter(|r| r.labels.iter().any(|l| finds(l.as_str())));
                let here: Vec<&str> = here.map(|r| r.id.as_str()).collect();
                if !here.is_empty() {
                    warnings.push((
                        at,
                        message!(
                            "missing: nothing is filed for this view under {here}",
                            here = here.join(", ")
                        ),
                        message!(
                            "record the approved signs: gridwatch signs record {view} --config FILE",
                            view = view.to_string()
                        ),
                    ));
                }
                continue;
            };
            let today = self.surroundings.today;
            let is_expired =
                |s: &&ApprovedSign| today.is_some_and(|today| s.valid.until.is_some_and(|last| last < today));
            let expired = signs.iter().filter(is_expired).count();
            if expired > 0 {
                warnings.push((
                    at.clone(),
                    message!(
                        "{expired} of {total} approved signs have expired and count as new ones",
                        expired,
                        total = signs.len()
                    ),
                    "set a later valid_until for those that were renewed, and delete the others".into(),
                ));
            }
            let unused = signs
                .iter()
                .find(|s| !rules.iter().any(|r| r.labels.contains(&s.label)));
            if let Some(unused) = unused {
                warnings.push((
                    at,
                    message!(
                        "approves {label}, but no rule with except_approved covers that label",
                        label = format!("{:?}", unused.label)
                    ),
                    "set except_approved = true in the rule it is meant for, or remove the sign".into(),
                ));
            }
        }
        for (at, message, remedy) in warnings {
            self.warn(&at, message, remedy);
        }
    }
}
