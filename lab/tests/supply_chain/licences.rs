//! docs/licences.md names everything by others, wherever it is in the repository or on a box.

use std::{fs, path::Path};

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

/// Whether an attribution in `folder` names the file `path`, or the subfolder that holds it. Files beside the attribution need a name of their own.
fn names(attribution: &str, folder: &Path, path: &Path) -> bool {
    let inside = path.strip_prefix(folder).unwrap();
    let subfolder = inside.parent().unwrap();
    let is_named =
        |name: &Path, before: &str, after: &str| attribution.contains(&format!("{before}{}{after}", name.display()));
    let has_folder = !subfolder.as_os_str().is_empty()
        && (is_named(subfolder, "`", "/") || is_named(&folder.join(subfolder), " ", "\n"));
    has_folder || is_named(inside, "`", "`")
}

#[test]
fn an_attribution_covers_only_what_it_names() {
    let folder = Path::new("tests/fixtures");
    let text = "# Pictures in tests/fixtures/pictures\n\n`plain.jpg`, `models/real/*`";
    for path in ["pictures/a.jpg", "plain.jpg", "models/real/a.onnx"] {
        assert!(names(text, folder, &folder.join(path)), "{path}");
    }
    for path in [
        "other.jpg",
        "real/a.onnx",
        "models/new/a.onnx",
        "models/real/new/a.onnx",
        "pictures/new/a.jpg",
    ] {
        assert!(!names(text, folder, &folder.join(path)), "{path}");
    }
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

/// A folder with work by others has an ATTRIBUTION.md in it or above it, which names the file or its folder, and which the page links.
#[test]
fn every_file_that_looks_like_work_by_others_is_below_an_attribution() {
    const KINDS: [&str; 13] = [
        "jpg", "jpeg", "png", "webp", "mp4", "onnx", "h264", "h265", "ttf", "otf", "wav", "npy", "pdf",
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
        if OWN.iter().any(|own| path.ends_with(own)) {
            continue;
        }
        if path.starts_with("models") {
            // A model's folder has a row by the test above.
            let is_of_a_model = path
                .ancestors()
                .skip(1)
                .any(|f| root.join(f).join("model.toml").is_file());
            assert!(is_of_a_model, "{}: belongs to no model", path.display());
            continue;
        }
        let near = path
            .ancestors()
            .skip(1)
            .find(|f| root.join(f).join("ATTRIBUTION.md").is_file());
        let near = near.unwrap_or_else(|| panic!("{}: no ATTRIBUTION.md in its folder or above", path.display()));
        let attribution = near.join("ATTRIBUTION.md");
        let text = fs::read_to_string(root.join(&attribution)).unwrap();
        assert!(
            names(&text, near, path),
            "{}: {} names neither the file nor its folder",
            path.display(),
            attribution.display()
        );
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
    let (_, table) = page.split_once("| Licence | Crates |\n|---|---|\n").unwrap();
    let table = table.split("\n\n").next().unwrap().trim_end();
    let counts = supply_chain().licences;
    let rows: Vec<String> = counts
        .iter()
        .map(|(licence, count)| format!("| {licence} | {count} |"))
        .collect();
    let rows = rows.join("\n");
    assert!(table == rows, "docs/licences.md: the table of crates must be:\n{rows}");
}
