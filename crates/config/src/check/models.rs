//! The detection models: their folders, manifests and signatures.

use std::{collections::BTreeMap, path::Path};

use super::{Checker, FieldPath, RELATIVE, prefixed, section};
use crate::{Fault, Faults, Model, raw};
use gridwatch_base::file;
use gridwatch_model::{Manifest, registry::verify_signature};

/// What the checks of cameras and rules need from each model, faulty or not.
pub(super) struct ModelFacts {
    /// The manifest's id; `None` if the model is faulty.
    pub(super) id: Option<String>,
    pub(super) labels: Vec<String>,
}

impl Checker<'_> {
    /// Checks each model's folder and reads the id and labels from its manifest.
    pub(super) fn models(&mut self) -> Vec<ModelFacts> {
        let mut known: BTreeMap<String, FieldPath> = BTreeMap::new();
        let mut facts = Vec::new();
        for (at, raw) in self.elements::<raw::Model>(&section("models")) {
            let at = at.key("dir");
            facts.push(ModelFacts {
                id: None,
                labels: Vec::new(),
            });
            if self.is_invalid(&at) {
                continue;
            }
            let Some(manifest) = self.manifest(&at, &raw.dir) else {
                continue;
            };
            if !manifest.adapter.detects_objects() {
                self.fault(
                    &at,
                    format!(
                        "adapter {} belongs to a text model, which detects no objects",
                        manifest.adapter
                    ),
                    "use it as `finder` or `speller` in [reading] instead",
                );
                continue;
            }
            if let Some(before) = known.insert(manifest.id.clone(), at.clone()) {
                self.fault(
                    &at,
                    format!("model id {:?} is already used by {before}", manifest.id),
                    "give one of them another id in its model.toml",
                );
                continue;
            }
            self.draft.models.push(Model {
                id: manifest.id.clone(),
                dir: self.absolute(&raw.dir),
            });
            if let Some(last) = facts.last_mut() {
                *last = ModelFacts {
                    labels: manifest.reported_labels().into_iter().map(str::to_owned).collect(),
                    id: Some(manifest.id),
                };
            }
        }
        facts
    }

    /// Reads the manifest of a model's folder and reports its faults.
    pub(super) fn manifest(&mut self, at: &FieldPath, dir: &Path) -> Option<Manifest> {
        let bytes = self.read_source(at, &dir.join("model.toml"), file::MAX_TEXT);
        let dir = self.resolve(dir);
        if !dir.is_dir() {
            self.fault(
                at,
                format!("{} is not a directory", dir.display()),
                format!("name a folder with model.onnx and model.toml; {RELATIVE}"),
            );
            return None;
        }
        let toml = dir.join("model.toml");
        if !toml.is_file() {
            self.fault(
                at,
                format!("{} does not exist", toml.display()),
                "a model is a folder with model.onnx and its manifest model.toml; see models/ for examples",
            );
            return None;
        }
        if !dir.join("model.onnx").is_file() {
            self.fault(
                at,
                format!("{} has no model.onnx", dir.display()),
                "put model.onnx beside model.toml",
            );
        }
        self.check_signature(at, &dir);
        let bytes = bytes.map_err(|e| {
            let fault = Fault::whole(
                &toml,
                format!("cannot read the file: {e}"),
                "make it readable by this user",
            );
            Faults(vec![fault])
        });
        match bytes.and_then(|bytes| Manifest::parse(&toml, bytes)) {
            Ok(manifest) => Some(manifest),
            Err(faults) => {
                self.draft.faults.extend(faults.0.into_iter().map(|f| prefixed(at, f)));
                None
            }
        }
    }

    /// With `registry.keys`, every model that looks is signed, not only installed versions.
    fn check_signature(&mut self, at: &FieldPath, dir: &Path) {
        let keys = self.draft.rest.registry.as_ref().map_or(&[][..], |r| &r.keys);
        if let Err(error) = verify_signature(keys, dir) {
            let text = error.to_string();
            let (what, remedy) = text.split_once("; ").unwrap_or((&text, "check its files"));
            self.fault(at, what.to_owned(), remedy.to_owned());
        }
    }
}
