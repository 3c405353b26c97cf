//! The compiler, whose standard library is linked into the program, and the commit.

use std::{env, path::Path, process::Command};

use jiff::Timestamp;

use super::{Component, ComponentKind, LicenceChoice, Property, SbomError, output_of};

/// The Rust compiler in use.
#[derive(Debug)]
pub(super) struct Toolchain {
    /// Such as `1.95.0`.
    pub(super) version: String,
    commit: Option<String>,
    /// Target triple of this machine, for which `make build` builds.
    pub(super) host: String,
}

impl Toolchain {
    pub(super) fn query() -> Result<Self, SbomError> {
        let compiler = env::var_os("RUSTC").unwrap_or("rustc".into());
        Self::parse(&output_of(Command::new(compiler).arg("-vV"))?)
    }

    fn parse(text: &str) -> Result<Self, SbomError> {
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(str::to_owned);
        let (Some(version), Some(host)) = (field("release: "), field("host: ")) else {
            return Err(SbomError::Output {
                command: "rustc -vV".into(),
                line: text.lines().next().unwrap_or_default().into(),
            });
        };
        Ok(Self {
            version,
            commit: field("commit-hash: "),
            host,
        })
    }

    /// The standard library.
    pub(super) fn component(&self) -> Component {
        let purl = format!("pkg:github/rust-lang/rust@{}", self.version);
        Component {
            version: Some(self.version.clone()),
            description: Some("Standard library of Rust".into()),
            licences: vec![LicenceChoice::spdx("MIT OR Apache-2.0")],
            cpe: Some(format!("cpe:2.3:a:rust-lang:rust:{}:*:*:*:*:*:*:*", self.version)),
            purl: Some(purl.clone()),
            properties: self.commit.iter().map(|c| commit_property(c)).collect(),
            ..Component::new(ComponentKind::Library, purl, "rust")
        }
    }
}

pub(super) fn commit_property(commit: &str) -> Property {
    Property {
        name: "gridwatch:commit",
        value: commit.to_owned(),
    }
}

/// The commit of the checkout, followed by `-dirty` if files differ from it. `None`: not a git checkout.
pub(super) fn commit(checkout: &Path) -> Option<String> {
    git(
        checkout,
        &["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
    )
}

/// `SOURCE_DATE_EPOCH` (reproducible-builds.org), or the time of the commit.
pub(super) fn timestamp(checkout: &Path) -> Result<Option<Timestamp>, SbomError> {
    let stated = env::var("SOURCE_DATE_EPOCH").ok();
    let Some(text) = stated.or_else(|| git(checkout, &["log", "-1", "--format=%ct"])) else {
        return Ok(None);
    };
    let time = text.trim().parse().ok().and_then(|s| Timestamp::from_second(s).ok());
    time.map(Some).ok_or(SbomError::SourceDate(text))
}

fn git(checkout: &Path, arguments: &[&str]) -> Option<String> {
    let output = output_of(Command::new("git").arg("-C").arg(checkout).args(arguments)).ok()?;
    Some(output.trim().to_owned())
}
