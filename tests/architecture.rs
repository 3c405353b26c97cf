//! The workspace keeps to docs/architecture.md: which crate may use which, and what the engine and the box must not link.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

type Graph = BTreeMap<String, BTreeSet<String>>;

/// `cargo metadata` for this machine's platform: others' packages need not be there.
fn metadata() -> Value {
    let version = run(Command::new("rustc").arg("-vV"));
    let host = version
        .lines()
        .find_map(|l| l.strip_prefix("host: "))
        .expect("rustc names its host");
    let metadata = run(Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            host,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    serde_json::from_str(&metadata).expect("cargo metadata writes JSON")
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the toolchain is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// For each package, the packages that it needs to be built and run; tests' needs are left out.
fn normal_dependencies(metadata: &Value) -> Graph {
    let name = |id: &str| {
        let packages = metadata["packages"].as_array().expect("packages");
        let package = packages.iter().find(|p| p["id"] == id).expect("a package of this id");
        package["name"].as_str().expect("a name").to_owned()
    };
    let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
    nodes
        .iter()
        .map(|node| {
            let dependencies = node["deps"].as_array().expect("dependencies");
            let is_normal = |d: &&Value| {
                let kinds = d["dep_kinds"].as_array().expect("kinds");
                kinds.iter().any(|kind| kind["kind"].is_null())
            };
            let used = dependencies.iter().filter(is_normal);
            (
                name(node["id"].as_str().expect("an id")),
                used.map(|d| name(d["pkg"].as_str().expect("an id"))).collect(),
            )
        })
        .collect()
}

/// Everything that `from` needs, directly or not.
fn closure(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![from.to_owned()];
    while let Some(package) = left.pop() {
        for next in graph.get(&package).into_iter().flatten() {
            if found.insert(next.clone()) {
                left.push(next.clone());
            }
        }
    }
    found
}

/// The rows of the table of crates: `| name | owns | must not | uses |`.
fn documented() -> Graph {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let text = fs::read_to_string(file).expect("docs/architecture.md");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, _owns, _must_not, uses, _] = cells[..] else {
            return None;
        };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        let uses = uses
            .split(',')
            .map(|u| u.trim().trim_matches('`'))
            .filter(|u| !u.is_empty() && *u != "–");
        Some((package(name), uses.map(package).collect()))
    });
    rows.collect()
}

fn package(short: &str) -> String {
    match short {
        "gridwatch" => short.to_owned(),
        _ => format!("gridwatch-{short}"),
    }
}

#[test]
fn the_table_of_crates_is_what_cargo_builds() {
    let built: Graph = normal_dependencies(&metadata())
        .into_iter()
        .filter(|(name, _)| name.starts_with("gridwatch"))
        .map(|(name, uses)| (name, uses.into_iter().filter(|u| u.starts_with("gridwatch")).collect()))
        .collect();
    assert_eq!(
        documented(),
        built,
        "docs/architecture.md (left) and the manifests differ"
    );
}

#[test]
fn the_engine_does_no_input_or_output() {
    let needs = closure(&normal_dependencies(&metadata()), "gridwatch-engine");
    let banned = |name: &&String| {
        [
            "tokio",
            "mio",
            "socket2",
            "rusqlite",
            "libsqlite3-sys",
            "opencv",
            "ort",
            "ort-sys",
            "rustls",
            "tempfile",
            "tracing",
        ]
        .contains(&name.as_str())
            || ["rumqtt", "gst", "gio", "glib", "gridwatch"]
                .iter()
                .any(|family| name.starts_with(family))
    };
    let found: Vec<&String> = needs.iter().filter(banned).collect();
    assert!(found.is_empty(), "gridwatch-engine needs {found:?}");
}

#[test]
fn a_box_gets_no_rtsp_server_no_simulator_and_no_hub() {
    let needs = closure(&normal_dependencies(&metadata()), "gridwatch");
    for elsewhere in [
        "gridwatch-farm",
        "gridwatch-hub",
        "gridwatch-lab",
        "gstreamer-rtsp-server",
    ] {
        assert!(!needs.contains(elsewhere), "the box's program needs {elsewhere}");
    }
}
