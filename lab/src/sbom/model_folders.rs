//! The models that are copied to a box: every folder of `models/` with a manifest.

use std::{fs, path::Path};

use gridwatch_base::{
    digest::{sha256_hex, sha256_of},
    file,
};
use gridwatch_model::Manifest;

use super::{Component, ComponentKind, Hash, LicenceChoice, Pedigree, SbomError};

/// The models in `folder`; the weights of each must be those of its manifest.
pub(super) fn components(folder: &Path) -> Result<Vec<Component>, SbomError> {
    let unreadable = |source| SbomError::File {
        path: folder.to_owned(),
        source,
    };
    let mut models = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let model = entry.map_err(unreadable)?.path();
        let manifest = model.join("model.toml");
        if manifest.is_file() {
            models.push(component(
                &model,
                &Manifest::read(&manifest).map_err(SbomError::Manifest)?,
            )?);
        }
    }
    if models.is_empty() {
        return Err(SbomError::Contents {
            path: folder.to_owned(),
            fault: "no model; the bill is made in a checkout".into(),
        });
    }
    Ok(models)
}

fn component(folder: &Path, manifest: &Manifest) -> Result<Component, SbomError> {
    let weights = folder.join("model.onnx");
    let file_error = |path: &Path| {
        let path = path.to_owned();
        |source| SbomError::File { path, source }
    };
    let (sha256, _) = file::open(&weights, file::MAX_MODEL)
        .and_then(sha256_of)
        .map_err(file_error(&weights))?;
    if !sha256.eq_ignore_ascii_case(&manifest.sha256) {
        return Err(SbomError::Contents {
            path: weights,
            fault: format!(
                "its SHA-256 is {sha256}, but the manifest states {}; restore the file, or correct `sha256`",
                manifest.sha256
            ),
        });
    }
    let reference = format!("model:{}@{}", manifest.id, manifest.version);
    let mut parts = Vec::new();
    if let Some(alphabet) = &manifest.alphabet {
        let path = folder.join(alphabet);
        let bytes = file::read(&path, file::MAX_TEXT).map_err(file_error(&path))?;
        let name = alphabet.display().to_string();
        parts.push(Component {
            hashes: vec![Hash::sha256(sha256_hex(&bytes))],
            ..Component::new(ComponentKind::File, format!("{reference}#{name}"), name)
        });
    }
    Ok(Component {
        version: Some(manifest.version.clone()),
        hashes: vec![Hash::sha256(sha256)],
        licences: vec![LicenceChoice::stated(&manifest.licence)],
        pedigree: Some(Pedigree {
            notes: manifest.source.clone(),
        }),
        components: parts,
        ..Component::new(ComponentKind::MachineLearningModel, reference, manifest.id.clone())
    })
}
