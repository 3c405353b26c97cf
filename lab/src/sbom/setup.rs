//! What `edge-deploy/setup.sh --runtime` installs on a box, as `--list` prints it.

use std::{path::Path, process::Command};

use super::{Component, ComponentKind, ExternalReference, Hash, LicenceChoice, SbomError, output_of};

/// Packages and library of the set-up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setup {
    /// Names of Debian packages.
    pub(super) packages: Vec<String>,
    version: String,
    library_sha256: String,
    wheel_sha256: String,
}

impl Setup {
    pub(super) fn of(checkout: &Path) -> Result<Self, SbomError> {
        Self::parse(&output_of(
            Command::new(checkout.join("edge-deploy/setup.sh")).arg("--list"),
        )?)
    }

    fn parse(text: &str) -> Result<Self, SbomError> {
        let unexpected = |line: &str| SbomError::Output {
            command: "edge-deploy/setup.sh --list".into(),
            line: line.into(),
        };
        let (mut packages, mut runtime) = (Vec::new(), None);
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["package", name] => packages.push(name.to_owned()),
                ["onnxruntime", version, library, wheel] => runtime = Some((version, library, wheel)),
                _ => return Err(unexpected(line)),
            }
        }
        let Some((version, library_sha256, wheel_sha256)) = runtime else {
            return Err(unexpected(""));
        };
        Ok(Self {
            packages,
            version: version.to_owned(),
            library_sha256: library_sha256.to_owned(),
            wheel_sha256: wheel_sha256.to_owned(),
        })
    }

    /// The shared library, with the wheel that it comes from.
    pub(super) fn onnx_runtime(&self) -> Component {
        let purl = format!("pkg:pypi/onnxruntime@{}", self.version);
        Component {
            version: Some(self.version.clone()),
            description: Some(format!("libonnxruntime.so.{} of the wheel", self.version)),
            hashes: vec![Hash::sha256(&self.library_sha256)],
            licences: vec![LicenceChoice::spdx("MIT")],
            purl: Some(purl.clone()),
            external_references: vec![ExternalReference {
                kind: "distribution",
                url: purl.clone(),
                hashes: vec![Hash::sha256(&self.wheel_sha256)],
            }],
            ..Component::new(ComponentKind::Library, purl, "onnxruntime")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_another_form_is_an_error() {
        assert!(Setup::parse("package a\nonnxruntime 1.2.3 aa bb\n").is_ok());
        for text in [
            "package a\n",
            "package a b\nonnxruntime 1.2.3 aa bb\n",
            "onnxruntime 1.2.3 aa\n",
        ] {
            assert!(matches!(Setup::parse(text), Err(SbomError::Output { .. })), "{text}");
        }
    }
}
