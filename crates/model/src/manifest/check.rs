//! Validation of a manifest beyond its JSON Schema: values that depend on each other, files inside the model folder.

use std::{
    collections::BTreeSet,
    path::{Component, Path},
};

use super::{Adapter, Fit, Input, Manifest, Shape};
use gridwatch_base::document::{
    Document, Fault, Faults, FieldPath,
    schema::{self, NO_MESSAGES, Sanitized},
};
use gridwatch_engine::BBox;

pub(super) fn validate(read: Result<(Document, Vec<Fault>), Vec<Fault>>) -> Result<Manifest, Faults> {
    let (document, mut faults) = read.map_err(Faults)?;
    let sound = schema::check::<Manifest>(&document, &NO_MESSAGES, &mut faults);
    let manifest = match serde_path_to_error::deserialize::<_, Manifest>(&sound.value) {
        Ok(manifest) => manifest,
        // The schema accepts `2.0` as an integer; serde does not.
        Err(e) => {
            let at = e.path().iter().filter_map(|s| match s {
                serde_path_to_error::Segment::Map { key } => Some(key.clone()),
                _ => None,
            });
            let at = at.fold(FieldPath::default(), |at, key| at.key(&key));
            faults.push(document.fault(&at, e.inner().to_string(), ""));
            return Err(Faults(faults));
        }
    };
    let mut checker = Checker {
        document: &document,
        sound: &sound,
        faults: &mut faults,
    };
    checker.check(&manifest);
    if faults.is_empty() {
        return Ok(manifest);
    }
    faults.sort_by_key(|f| f.line);
    Err(Faults(faults))
}

struct Checker<'a> {
    document: &'a Document,
    sound: &'a Sanitized,
    faults: &'a mut Vec<Fault>,
}

impl Checker<'_> {
    /// Reports a fault at `at` unless `valid`, or unless the schema check already reported that place.
    fn require(&mut self, valid: bool, at: &[&str], message: impl FnOnce() -> String, remedy: &'static str) {
        let at = at.iter().fold(FieldPath::default(), |at, key| at.key(key));
        if !valid
            && !self
                .sound
                .invalid
                .iter()
                .any(|t| t.starts_with(&at) || at.starts_with(t))
        {
            self.faults.push(self.document.fault(&at, message(), remedy));
        }
    }

    fn check(&mut self, m: &Manifest) {
        let is_name_char = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        self.require(
            (1..=64).contains(&m.id.len()) && m.id.chars().all(is_name_char),
            &["id"],
            || format!("{:?} is not usable as a name", m.id),
            "use 1 to 64 letters, digits, `-` and `_`",
        );
        let is_version_char = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        self.require(
            (1..=64).contains(&m.version.len())
                && m.version.chars().all(is_version_char)
                && !m.version.starts_with('.'),
            &["version"],
            || format!("{:?} is not usable as a version", m.version),
            "write it like 1.0.0; every case records it",
        );
        self.require(
            !m.licence.trim().is_empty(),
            &["licence"],
            || "is empty".into(),
            "name the licence of the weights, or write `unknown` and what they may be used for",
        );
        self.require(
            !m.source.trim().is_empty(),
            &["source"],
            || "is empty".into(),
            "name the origin of the weights: repository, commit, who trained them",
        );
        let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        self.require(
            m.sha256.len() == 64 && m.sha256.chars().all(is_hex),
            &["sha256"],
            || format!("{:?} is not a SHA-256", m.sha256),
            "write 64 lower-case hexadecimal digits, as sha256sum prints them",
        );
        self.labels(m);
        self.scores(m);
        self.input(&m.input);
        self.self_tests(m);
    }

    fn labels(&mut self, m: &Manifest) {
        let unique: BTreeSet<&String> = m.labels.iter().collect();
        if m.adapter.detects_objects() {
            self.require(
                !m.labels.is_empty(),
                &["labels"],
                || "missing or empty".into(),
                "list every class of the network, in the network's order",
            );
        } else {
            self.require(
                m.labels.is_empty(),
                &["labels"],
                || "a text model has no labels".into(),
                "remove the field",
            );
        }
        self.require(
            unique.len() == m.labels.len() && !m.labels.iter().any(String::is_empty),
            &["labels"],
            || "duplicate or empty name".into(),
            "give every class a unique name",
        );
        for class in m.rename.keys() {
            self.require(
                unique.contains(class),
                &["rename", class],
                || format!("{class:?} is not in `labels`"),
                "put a class of `labels` on the left",
            );
        }
        for (class, label) in &m.rename {
            self.require(
                !label.is_empty(),
                &["rename", class],
                || "the new name is empty".into(),
                "to drop a class, list it in `ignore`",
            );
        }
        for class in &m.ignore {
            self.require(
                unique.contains(class),
                &["ignore"],
                || format!("{class:?} is not in `labels`"),
                "list classes of `labels`",
            );
        }
        self.require(
            m.labels.is_empty() || !m.reported_labels().is_empty(),
            &["ignore"],
            || "every class is ignored".into(),
            "leave at least one class, or the model reports nothing",
        );
        self.require(
            m.alphabet.is_some() == (m.adapter == Adapter::Ctc),
            &["alphabet"],
            || "required with adapter `ctc`, not allowed with any other".into(),
            "name the file that lists the characters, or remove the field",
        );
        if let Some(file) = &m.alphabet {
            self.require_inside(file, &["alphabet"]);
        }
    }

    fn scores(&mut self, m: &Manifest) {
        const REMEDY: &str = "write a number between 0 and 1";
        let is_fraction = |v: f32| v > 0.0 && v < 1.0;
        let message = |v: f32| move || format!("{v} is not between 0 and 1");
        self.require(
            is_fraction(m.score_floor),
            &["score_floor"],
            message(m.score_floor),
            REMEDY,
        );
        if let Some(iou) = m.nms_iou {
            self.require(is_fraction(iou), &["nms_iou"], message(iou), REMEDY);
        }
        let labels = m.reported_labels();
        for (label, &floor) in &m.label_floors {
            let at = ["label_floors", label.as_str()];
            self.require(
                labels.contains(&label.as_str()),
                &at,
                || format!("the model does not report {label:?}"),
                "use a label after `rename`",
            );
            self.require(is_fraction(floor), &at, message(floor), REMEDY);
        }
    }

    fn input(&mut self, input: &Input) {
        self.require(
            !input.name.is_empty(),
            &["input", "name"],
            || "is empty".into(),
            "name the graph's image input; `gridwatch model inspect` lists the inputs",
        );
        if input.shape == Shape::Picture {
            for (key, side) in [("width", input.width), ("height", input.height)] {
                self.require(
                    side % 32 == 0,
                    &["input", key],
                    || format!("{side} is not a multiple of 32"),
                    "shape = \"picture\" needs multiples of 32",
                );
            }
            self.require(
                input.fit != Fit::Stretch,
                &["input", "fit"],
                || "shape = \"picture\" cannot be combined with stretching".into(),
                "write \"top_left\" or \"centre\"; the small remainder is padded",
            );
        }
        self.require(
            input.scale.is_finite() && input.scale > 0.0,
            &["input", "scale"],
            || format!("{} is not a positive number", input.scale),
            "write 255 for a network that takes 0..1, or remove the field",
        );
        self.require(
            input.std.iter().all(|v| v.is_finite() && *v > 0.0),
            &["input", "std"],
            || format!("{:?} is not three positive numbers", input.std),
            "write three numbers above 0",
        );
    }

    fn self_tests(&mut self, m: &Manifest) {
        let labels = m.reported_labels();
        for (i, test) in m.self_test.iter().enumerate() {
            let test_at = FieldPath::default().key("self_test").index(i);
            let mut faults = Vec::new();
            if !is_inside(&test.picture) {
                faults.push((test_at.key("picture"), OUTSIDE.into(), OUTSIDE_REMEDY));
            }
            if !(test.above > 0.0 && test.above < 1.0) {
                let message = format!("{} is not between 0 and 1", test.above);
                faults.push((test_at.key("above"), message, "remove the field for the default of 0.3"));
            }
            for (j, expected) in test.expect.iter().enumerate() {
                let at = test_at.key("expect").index(j);
                if !labels.contains(&expected.label.as_str()) {
                    let message = format!("the model does not report {:?}", expected.label);
                    faults.push((at.key("label"), message, "use a label after `rename`"));
                }
                if !(0.0..=1.0).contains(&expected.score) {
                    let message = format!("{} is not a score", expected.score);
                    faults.push((at.key("score"), message, "write a number from 0 to 1"));
                }
                let [x1, y1, x2, y2] = expected.corners;
                let bbox = BBox { x1, y1, x2, y2 };
                if bbox.within_picture() != Some(bbox) {
                    let message = format!("{:?} is not a box inside the picture", expected.corners);
                    let remedy = "write [left, top, right, bottom] as fractions of the picture, with left < right and top < bottom";
                    faults.push((at.key("box"), message, remedy));
                }
            }
            for (at, message, remedy) in faults {
                if !self
                    .sound
                    .invalid
                    .iter()
                    .any(|t| t.starts_with(&at) || at.starts_with(t))
                {
                    self.faults.push(self.document.fault(&at, message, remedy));
                }
            }
        }
    }

    fn require_inside(&mut self, file: &Path, at: &[&str]) {
        self.require(is_inside(file), at, || OUTSIDE.into(), OUTSIDE_REMEDY);
    }
}

const OUTSIDE: &str = "path leads outside the model folder";
const OUTSIDE_REMEDY: &str = "move the file into the model folder and give its path relative to that folder";

/// True for a path inside the model folder: a package must be complete, and must not read other files of the box.
fn is_inside(file: &Path) -> bool {
    !file.as_os_str().is_empty() && file.components().all(|c| matches!(c, Component::Normal(_)))
}
