//! docs/licences.md names everything by others, wherever it is in the repository or on a box.

use std::fs;

use crate::{checkout, supply_chain, walk};

fn page() -> String {
    fs::read_to_string(checkout().join("docs/licences.md")).unwrap()
}

/// Rows of the page's tables whose first cell is `name` in code quotes, or a link to it.
fn has_row(page: &str, name: &str) -> bool {
    page.lines().any(|line| {
        let cell = line.strip_prefix("| ").and_then(|l| l.split(" |").next());
        cell.is_some_and(|cell| cell.trim_matches('`') == name || cell.contains(&format!("](../{name})")))
    })
}

#[test]
fn every_model_folder_has_a_row() {
    let page = page();
    let manifests = walk(&checkout().join("models"));
    let manifests: Vec<_> = manifests.iter().filter(|p| p.ends_with("model.toml")).collect();
    assert!(manifests.len() >= 7);
    for manifest in manifests {
        let folder = manifest.parent().unwrap().file_name().unwrap().to_str().unwrap();
        assert!(
            has_row(&page, folder),
            "docs/licences.md has no row for models/{folder}"
        );
    }
}

/// A folder with work by others has an ATTRIBUTION.md in it or above it, which the page links.
#[test]
fn every_file_that_looks_like_work_by_others_is_below_an_attribution() {
    const KINDS: [&str; 12] = [
        "jpg", "jpeg", "png", "mp4", "onnx", "h264", "h265", "ttf", "otf", "wav", "npy", "pdf",
    ];
    /// Encoded test patterns, made for this project.
    const OWN: [&str; 2] = ["src/cli/check/keyframe.h264", "src/cli/check/keyframe.h265"];
    let (root, page) = (checkout(), page());
    let files = walk(&root);
    let mut attributed = 0;
    for file in &files {
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if !KINDS.contains(&extension) {
            continue;
        }
        let path = file.strip_prefix(&root).unwrap();
        if path.starts_with("models") || OWN.iter().any(|own| path.ends_with(own)) {
            // By every_model_folder_has_a_row, and models/LICENSES.md.
            continue;
        }
        let near = path
            .ancestors()
            .skip(1)
            .find(|f| root.join(f).join("ATTRIBUTION.md").is_file());
        let near = near.unwrap_or_else(|| panic!("{}: no ATTRIBUTION.md in its folder or above", path.display()));
        let attribution = near.join("ATTRIBUTION.md");
        assert!(
            has_row(&page, attribution.to_str().unwrap()),
            "docs/licences.md does not link {}",
            attribution.display()
        );
        attributed += 1;
    }
    assert!(attributed > 30, "{attributed} files");
    for file in files.iter().filter(|f| f.ends_with("ATTRIBUTION.md")) {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        assert!(has_row(&page, path), "docs/licences.md does not link {path}");
    }
}

#[test]
fn every_debian_package_of_a_box_has_a_row() {
    let page = page();
    for package in supply_chain().packages {
        // The version is a part of the names of OpenCV's libraries.
        let name = package.trim_end_matches(|c: char| c.is_ascii_digit());
        let is_versioned = name.starts_with("libopencv");
        let row = if is_versioned { name } else { package.as_str() };
        assert!(has_row(&page, row), "docs/licences.md has no row for the package {row}");
    }
}

#[test]
fn the_licences_of_the_crates_are_counted_right() {
    let page = page();
    for (licence, count) in supply_chain().licences {
        let row = format!("| {licence} | {count} |");
        assert!(page.contains(&row), "docs/licences.md has no row {row:?}");
    }
}
