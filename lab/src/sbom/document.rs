//! The parts of CycloneDX 1.6 (ECMA-424) that the bill uses.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::LicenceChoice;

/// A bill of materials. It has no serial number, which would differ for the same contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Bom {
    #[serde(rename = "$schema")]
    pub schema: &'static str,
    pub bom_format: &'static str,
    pub spec_version: &'static str,
    pub version: u32,
    pub metadata: Metadata,
    pub components: Vec<Component>,
    pub dependencies: Vec<Dependency>,
}

impl Bom {
    /// A bill with its parts in order of their references.
    pub fn new(metadata: Metadata, mut components: Vec<Component>, mut dependencies: Vec<Dependency>) -> Self {
        components.sort_by(|a, b| a.reference.cmp(&b.reference));
        dependencies.sort_by(|a, b| a.reference.cmp(&b.reference));
        Self {
            schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
            bom_format: "CycloneDX",
            spec_version: "1.6",
            version: 1,
            metadata,
            components,
            dependencies,
        }
    }
}

/// What the bill is about, and from when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Metadata {
    /// Time of the commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    pub tools: Tools,
    pub component: Component,
}

impl Metadata {
    /// Of a program, written by this one.
    pub fn new(component: Component, timestamp: Option<Timestamp>) -> Self {
        let tool = Component {
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ..Component::new(ComponentKind::Application, "gridwatch-lab", "gridwatch-lab")
        };
        Self {
            timestamp,
            tools: Tools { components: vec![tool] },
            component,
        }
    }
}

/// The programs that wrote the bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Tools {
    pub components: Vec<Component>,
}

/// A crate, package, library or model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Component {
    #[serde(rename = "type")]
    pub kind: ComponentKind,
    #[serde(rename = "bom-ref")]
    pub reference: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hashes: Vec<Hash>,
    #[serde(rename = "licenses", skip_serializing_if = "Vec::is_empty")]
    pub licences: Vec<LicenceChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pedigree: Option<Pedigree>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external_references: Vec<ExternalReference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
}

impl Component {
    /// A component with nothing but its name.
    pub fn new(kind: ComponentKind, reference: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            reference: reference.into(),
            name: name.into(),
            version: None,
            description: None,
            hashes: Vec::new(),
            licences: Vec::new(),
            cpe: None,
            purl: None,
            pedigree: None,
            external_references: Vec::new(),
            components: Vec::new(),
            properties: Vec::new(),
        }
    }
}

/// Kind of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum ComponentKind {
    Application,
    File,
    Library,
    MachineLearningModel,
}

/// Digest of the file that a component consists of, or was unpacked from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Hash {
    pub alg: &'static str,
    /// Lower-case hex digits.
    pub content: String,
}

impl Hash {
    /// A SHA-256 of 64 hex digits.
    pub fn sha256(hex: impl Into<String>) -> Self {
        Self {
            alg: "SHA-256",
            content: hex.into(),
        }
    }
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Pedigree {
    pub notes: String,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct ExternalReference {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub url: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hashes: Vec<Hash>,
}

/// A fact that the standard has no field for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Property {
    pub name: &'static str,
    pub value: String,
}

/// What a component needs, by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Dependency {
    #[serde(rename = "ref")]
    pub reference: String,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub depends_on: BTreeSet<String>,
}

impl Dependency {
    /// `reference` needs `on`.
    pub fn new(reference: impl Into<String>, on: impl IntoIterator<Item = String>) -> Self {
        Self {
            reference: reference.into(),
            depends_on: on.into_iter().collect(),
        }
    }
}
