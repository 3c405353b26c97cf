//! The bill of materials is valid and complete, and every file by others has its licence in docs/licences.md.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod bill;
mod licences;

use std::path::{Path, PathBuf};

use gridwatch_lab::sbom::{Sources, SupplyChain};

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// What this checkout gives, without a look at the program.
fn supply_chain() -> SupplyChain {
    let sources = Sources {
        checkout: checkout(),
        program: None,
    };
    sources.collect().unwrap()
}

/// The files and folders below `folder`, but for what git ignores.
fn walk(folder: &Path) -> Vec<PathBuf> {
    const IGNORED: [&str; 7] = [
        ".git",
        ".cache",
        "target",
        "__pycache__",
        "node_modules",
        ".test-build",
        "shots",
    ];
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = left.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_ignored =
                IGNORED.contains(&name) || name.starts_with("gridwatch-demo") || name.starts_with("gridwatch-try");
            if is_ignored {
                continue;
            }
            if path.is_dir() {
                left.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}
