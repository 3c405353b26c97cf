//! `gridwatch-lab sbom`, against the standard's schema, the built program, the files of the models, and dpkg.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use gridwatch_base::digest::sha256_hex;
use gridwatch_lab::sbom::{Component, ComponentKind};
use gridwatch_model::runtime;
use jsonschema::Registry;
use serde_json::Value;

use crate::{
    checkout, supply_chain,
    support::{binary, lab},
    walk,
};

fn schema(name: &str) -> Value {
    let file = checkout().join("lab/tests/supply_chain/cyclonedx").join(name);
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// Components by name and version.
fn by_name(components: &[Component]) -> BTreeMap<(String, String), &Component> {
    let key = |c: &Component| (c.name.clone(), c.version.clone().unwrap());
    components.iter().map(|c| (key(c), c)).collect()
}

#[test]
fn it_is_valid_cyclonedx_and_its_references_lead_somewhere() {
    let chain = supply_chain();
    let bill = serde_json::to_value(&chain.bom).unwrap();
    let registry = Registry::new()
        .add(
            "http://cyclonedx.org/schema/spdx.schema.json",
            schema("spdx.schema.json"),
        )
        .unwrap()
        .add(
            "http://cyclonedx.org/schema/jsf-0.82.schema.json",
            schema("jsf-0.82.schema.json"),
        )
        .unwrap()
        .prepare()
        .unwrap();
    let bom_schema = schema("bom-1.6.schema.json");
    let validator = jsonschema::options()
        .with_registry(&registry)
        .build(&bom_schema)
        .unwrap();
    let faults: Vec<String> = validator
        .iter_errors(&bill)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");

    let mut references = BTreeSet::from([chain.bom.metadata.component.reference.as_str()]);
    for component in &chain.bom.components {
        assert!(
            references.insert(&component.reference),
            "twice: {}",
            component.reference
        );
    }
    for dependency in &chain.bom.dependencies {
        for reference in dependency.depends_on.iter().chain([&dependency.reference]) {
            assert!(references.contains(reference.as_str()), "unknown: {reference}");
        }
    }
}

/// The schema checks single identifiers, not those in expressions.
#[test]
fn every_licence_expression_consists_of_spdx_identifiers() {
    let spdx = schema("spdx.schema.json");
    let known: BTreeSet<&str> = spdx["enum"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let bill = serde_json::to_value(&supply_chain().bom).unwrap();
    let mut seen = 0;
    for component in bill["components"].as_array().unwrap() {
        let Some(expression) = component["licenses"][0]["expression"].as_str() else {
            continue;
        };
        seen += 1;
        let words = expression.split([' ', '(', ')']).filter(|w| !w.is_empty());
        for word in words.filter(|w| !["AND", "OR", "WITH"].contains(w)) {
            assert!(known.contains(word), "{}: {expression}", component["name"]);
        }
    }
    assert!(seen > 100, "{seen} expressions");
}

#[test]
fn the_same_checkout_gives_the_same_bytes() {
    let (first, second) = (supply_chain(), supply_chain());
    let text = |bom| serde_json::to_string(&bom).unwrap();
    assert_eq!(text(first.bom), text(second.bom));
    assert_eq!(first.notices, second.notices);
}

/// Paths of sources in a program's panic messages and line tables name the crates that are really linked, whatever cargo says.
#[test]
fn every_crate_whose_source_the_program_names_is_listed_with_licence_and_checksum() {
    let output = Command::new("grep")
        .args(["-aoE", r"/registry/src/[^/]+/[A-Za-z0-9_-]+-[0-9]+\.[^/]+/"])
        .arg(binary())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let linked: BTreeSet<&str> = text
        .lines()
        .filter_map(|l| l.trim_end_matches('/').rsplit('/').next())
        .collect();
    assert!(linked.len() > 50, "{linked:?}");

    let chain = supply_chain();
    let lock = fs::read_to_string(checkout().join("Cargo.lock")).unwrap();
    let mut listed = BTreeSet::new();
    let is_crate = |c: &&Component| c.purl.as_ref().is_some_and(|p| p.starts_with("pkg:cargo/"));
    for c in chain.bom.components.iter().filter(is_crate) {
        let version = c.version.as_ref().unwrap();
        assert!(!c.licences.is_empty(), "{} has no licence", c.name);
        let [checksum] = &c.hashes[..] else {
            panic!("{}: one checksum expected", c.name);
        };
        let lines = [
            format!("name = \"{}\"", c.name),
            format!("version = \"{version}\""),
            format!("checksum = \"{}\"", checksum.content),
        ];
        let is_locked = |package: &str| lines.iter().all(|line| package.lines().any(|l| l == line));
        assert!(lock.split("[[package]]").any(is_locked), "not in Cargo.lock: {lines:?}");
        assert!(
            chain.notices.contains(&format!("\n{} {version}: ", c.name)),
            "{} is not in the licence texts",
            c.name
        );
        listed.insert(format!("{}-{version}", c.name));
    }
    let missing: Vec<&&str> = linked.iter().filter(|l| !listed.contains(**l)).collect();
    assert!(missing.is_empty(), "linked but not listed: {missing:?}");

    for (name, why) in [
        ("gridwatch-farm", "is for the lab only"),
        ("gstreamer-rtsp-server", "is for the lab only"),
        ("proptest", "is for tests only"),
        ("serde_derive", "runs in the compiler only"),
    ] {
        assert!(chain.bom.components.iter().all(|c| c.name != name), "{name} {why}");
    }
}

#[test]
fn sqlite_is_listed_in_the_version_that_is_linked() {
    let chain = supply_chain();
    let crate_ = chain
        .bom
        .components
        .iter()
        .find(|c| c.name == "libsqlite3-sys")
        .unwrap();
    let version = crate_.components[0].version.as_ref().unwrap();
    // SQLite's constant `sqlite3_version`, with the end of a C string. The linker may put it right behind another text.
    let status = Command::new("grep")
        .args(["-aqP", &format!(r"\Q{version}\E\x00")])
        .env("LC_ALL", "C")
        .arg(binary())
        .status()
        .unwrap();
    assert!(status.success(), "SQLite {version} is not in the program");
}

#[test]
fn every_model_is_listed_with_the_hash_of_its_file() {
    let chain = supply_chain();
    let models: Vec<&Component> = chain
        .bom
        .components
        .iter()
        .filter(|c| c.kind == ComponentKind::MachineLearningModel)
        .collect();
    let files: Vec<_> = walk(&checkout().join("models"))
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "onnx"))
        .collect();
    assert_eq!(models.len(), files.len());
    for file in files {
        let sha256 = sha256_hex(&fs::read(&file).unwrap());
        let of_file = |c: &&&Component| c.hashes.iter().any(|h| h.content == sha256);
        let model = models.iter().find(of_file);
        let model = model.unwrap_or_else(|| panic!("not listed: {}", file.display()));
        assert!(!model.licences.is_empty() && model.pedigree.is_some(), "{model:?}");
    }
}

#[test]
fn onnx_runtime_is_the_one_that_the_daemon_accepts() {
    let chain = supply_chain();
    let components = by_name(&chain.bom.components);
    let key = ("onnxruntime".to_owned(), runtime::PINNED_VERSION.to_owned());
    assert_eq!(components[&key].hashes[0].content, runtime::PINNED_SHA256.unwrap());
}

#[test]
fn debian_packages_are_listed_as_installed_with_what_they_need() {
    let chain = supply_chain();
    let components = by_name(&chain.bom.components);
    // libavcodec decodes hostile video, and only a dependency of a dependency installs it.
    let needed = chain
        .packages
        .iter()
        .map(String::as_str)
        .chain(["libc6", "libavcodec59"]);
    for name in needed {
        let output = Command::new("dpkg-query")
            .args(["-W", "-f", "${Version}", name])
            .output()
            .unwrap();
        let version = String::from_utf8(output.stdout).unwrap();
        let component = components.get(&(name.to_owned(), version.clone()));
        assert!(component.is_some(), "{name} {version}");
    }
    assert!(chain.packages.len() >= 8, "{:?}", chain.packages);
}

#[test]
fn the_command_writes_both_files_for_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let checkout = checkout();
    let run = |program: &str| {
        lab(&["sbom", "--out", dir.path().to_str().unwrap()])
            .args(["--checkout", checkout.to_str().unwrap(), "--program", program])
            .output()
            .unwrap()
    };
    let output = run(binary().to_str().unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bill: Value = serde_json::from_slice(&fs::read(dir.path().join("gridwatch.cdx.json")).unwrap()).unwrap();
    assert_eq!(bill["metadata"]["component"]["name"], "gridwatch");
    let texts = fs::read_to_string(dir.path().join("THIRD-PARTY-LICENSES.txt")).unwrap();
    assert!(texts.contains("Permission is hereby granted") && texts.contains("Apache License"));

    // A program that needs libraries which no box is given.
    let output = run("/usr/sbin/mosquitto");
    assert_eq!(output.status.code(), Some(3));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("/usr/sbin/mosquitto: needs lib"), "{message}");
}

#[test]
fn a_folder_that_is_no_checkout_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let output = lab(&["sbom", "--out", folder, "--checkout", folder]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Cargo.toml"));
}
