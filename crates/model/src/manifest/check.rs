//! What a manifest must hold beyond its schema: numbers that fit each other, files that lie beside it.

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

pub(super) fn judge(read: Result<(Document, Vec<Fault>), Vec<Fault>>) -> Result<Manifest, Faults> {
    let (document, mut faults) = read.map_err(Faults)?;
    let sound = schema::check::<Manifest>(&document, &NO_MESSAGES, &mut faults);
    let manifest = match serde_path_to_error::deserialize::<_, Manifest>(&sound.value) {
        Ok(manifest) => manifest,
        // What the schema cannot say: `2.0` where a whole number stands.
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
    /// Unless it is good, or was told already as a breach of the schema.
    fn unless(&mut self, good: bool, at: &[&str], message: impl FnOnce() -> String, remedy: &str) {
        let at = at.iter().fold(FieldPath::default(), |at, key| at.key(key));
        if !good
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
        let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        self.unless(
            (1..=64).contains(&m.id.len()) && m.id.chars().all(name),
            &["id"],
            || format!("{:?} is not usable as a name", m.id),
            "use 1 to 64 letters, digits, `-` and `_`",
        );
        let version = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        self.unless(
            (1..=64).contains(&m.version.len()) && m.version.chars().all(version) && !m.version.starts_with('.'),
            &["version"],
            || format!("{:?} is not usable as a version", m.version),
            "write it like 1.0.0: every case states it",
        );
        self.unless(
            !m.licence.trim().is_empty(),
            &["licence"],
            || "is empty".into(),
            "weights without one are not used: name it, or say `unknown` and for what they may be used",
        );
        self.unless(
            !m.source.trim().is_empty(),
            &["source"],
            || "is empty".into(),
            "say where the weights come from: repository, commit, by whom they were trained",
        );
        let hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        self.unless(
            m.sha256.len() == 64 && m.sha256.chars().all(hex),
            &["sha256"],
            || format!("{:?} is no SHA-256", m.sha256),
            "write 64 small hexadecimal digits, as sha256sum prints them",
        );
        self.labels(m);
        self.scores(m);
        self.input(&m.input);
        self.self_tests(m);
    }

    fn labels(&mut self, m: &Manifest) {
        let unique: BTreeSet<&String> = m.labels.iter().collect();
        if m.adapter.finds_things() {
            self.unless(
                !m.labels.is_empty(),
                &["labels"],
                || "is empty, or missing".into(),
                "name every class of the network, in its order",
            );
        } else {
            self.unless(
                m.labels.is_empty(),
                &["labels"],
                || "a model of text has none".into(),
                "leave it out",
            );
        }
        self.unless(
            unique.len() == m.labels.len() && !m.labels.iter().any(String::is_empty),
            &["labels"],
            || "two are the same, or one is empty".into(),
            "every class needs a name of its own",
        );
        for class in m.rename.keys() {
            self.unless(
                unique.contains(class),
                &["rename", class],
                || format!("{class:?} is not among the labels"),
                "name a class of `labels` on the left",
            );
        }
        for (class, label) in &m.rename {
            self.unless(
                !label.is_empty(),
                &["rename", class],
                || "is renamed to nothing".into(),
                "to leave a class out, list it under `ignore`",
            );
        }
        for class in &m.ignore {
            self.unless(
                unique.contains(class),
                &["ignore"],
                || format!("{class:?} is not among the labels"),
                "name classes of `labels`",
            );
        }
        self.unless(
            m.labels.is_empty() || !m.found().is_empty(),
            &["ignore"],
            || "every class is ignored".into(),
            "leave one at least, or the model finds nothing",
        );
        self.unless(
            m.alphabet.is_some() == (m.adapter == Adapter::Ctc),
            &["alphabet"],
            || "is for `ctc`, which needs it, and for nothing else".into(),
            "name the file with the characters, or leave it out",
        );
        if let Some(file) = &m.alphabet {
            self.beside(file, &["alphabet"]);
        }
    }

    fn scores(&mut self, m: &Manifest) {
        const REMEDY: &str = "write a number between 0 and 1";
        let share = |v: f32| v > 0.0 && v < 1.0;
        let told = |v: f32| move || format!("{v} does not lie between 0 and 1");
        self.unless(share(m.score_floor), &["score_floor"], told(m.score_floor), REMEDY);
        if let Some(iou) = m.nms_iou {
            self.unless(share(iou), &["nms_iou"], told(iou), REMEDY);
        }
        let found = m.found();
        for (label, &floor) in &m.label_floors {
            let at = ["label_floors", label.as_str()];
            self.unless(
                found.contains(&label.as_str()),
                &at,
                || format!("the model does not find {label:?}"),
                "name one of `labels`, as `rename` has it",
            );
            self.unless(share(floor), &at, told(floor), REMEDY);
        }
    }

    fn input(&mut self, input: &Input) {
        self.unless(
            !input.name.is_empty(),
            &["input", "name"],
            || "is empty".into(),
            "name the graph's input; `gridwatch model inspect` lists it",
        );
        if input.shape == Shape::Picture {
            for (key, side) in [("width", input.width), ("height", input.height)] {
                self.unless(
                    side % 32 == 0,
                    &["input", key],
                    || format!("{side} is no multiple of 32"),
                    "with shape = \"picture\" both sides are",
                );
            }
            self.unless(
                input.fit != Fit::Stretch,
                &["input", "fit"],
                || "an input of the picture's shape is not stretched".into(),
                "write \"top_left\" or \"centre\": what little is left over is padded",
            );
        }
        self.unless(
            input.scale.is_finite() && input.scale > 0.0,
            &["input", "scale"],
            || format!("{}: samples are divided by it", input.scale),
            "write 255 for a network that takes 0..1, or leave it out",
        );
        self.unless(
            input.std.iter().all(|v| v.is_finite() && *v > 0.0),
            &["input", "std"],
            || format!("{:?}: each channel is divided by it", input.std),
            "write three numbers above 0",
        );
    }

    fn self_tests(&mut self, m: &Manifest) {
        let found = m.found();
        for (i, test) in m.self_test.iter().enumerate() {
            let whole = FieldPath::default().key("self_test").index(i);
            let mut wrong = Vec::new();
            if !is_beside(&test.picture) {
                wrong.push((whole.key("picture"), OUTSIDE.into(), BESIDE));
            }
            if !(test.above > 0.0 && test.above < 1.0) {
                let message = format!("{} does not lie between 0 and 1", test.above);
                wrong.push((whole.key("above"), message, "leave it out for 0.3"));
            }
            for (j, thing) in test.expect.iter().enumerate() {
                let at = whole.key("expect").index(j);
                if !found.contains(&thing.label.as_str()) {
                    let message = format!("the model does not find {:?}", thing.label);
                    wrong.push((at.key("label"), message, "name one of `labels`, as `rename` has it"));
                }
                if !(0.0..=1.0).contains(&thing.score) {
                    let message = format!("{} is no score", thing.score);
                    wrong.push((at.key("score"), message, "write a number from 0 to 1"));
                }
                let [x1, y1, x2, y2] = thing.corners;
                let bbox = BBox { x1, y1, x2, y2 };
                if bbox.within_picture() != Some(bbox) {
                    let message = format!("{:?} is no box in the picture", thing.corners);
                    let remedy = "write [left, top, right, bottom] as fractions of it, the smaller first";
                    wrong.push((at.key("box"), message, remedy));
                }
            }
            for (at, message, remedy) in wrong {
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

    fn beside(&mut self, file: &Path, at: &[&str]) {
        self.unless(is_beside(file), at, || OUTSIDE.into(), BESIDE);
    }
}

const OUTSIDE: &str = "lies outside the model's folder";
const BESIDE: &str = "keep what the model needs in its folder and name it from there";

/// A package is complete, and cannot read the rest of the box.
fn is_beside(file: &Path) -> bool {
    !file.as_os_str().is_empty() && file.components().all(|c| matches!(c, Component::Normal(_)))
}
