//! Embedded files: what is served, how long it is kept, and how much a first visit loads.

use std::path::Path;

use gridwatch_base::digest::sha256_hex;

use crate::{http::Client, street::Served};

/// URLs of the assets in a page.
fn linked(page: &str) -> Vec<String> {
    let parts = page.split('"').filter(|part| part.starts_with("/assets/"));
    parts.map(str::to_owned).collect()
}

fn gzipped(served: &Served) -> Client {
    served.browser().with("Accept-Encoding", "gzip")
}

#[test]
fn assets_are_kept_for_ever_under_their_version_and_checked_otherwise() {
    let served = Served::start();
    let mut browser = gzipped(&served);
    let urls = linked(browser.get("/").text());
    assert!(urls.len() >= 5, "{urls:?}");
    for url in &urls {
        let answer = browser.get(url);
        assert_eq!(answer.status, 200, "{url}");
        assert_eq!(
            answer.header("cache-control"),
            Some("public, max-age=31536000, immutable"),
            "{url}"
        );
        let tag = answer.header("etag").unwrap().to_owned();
        assert!(tag.starts_with('"'), "a strong tag");
        let again = browser.clone().with("If-None-Match", &tag).get(url);
        assert_eq!((again.status, again.body.len()), (304, 0), "{url}");
    }
    let css = browser.get("/assets/other/css/console.css");
    assert_eq!((css.status, css.header("cache-control")), (200, Some("no-cache")));
    assert_eq!(css.header("content-encoding"), Some("gzip"));
    assert_eq!(css.body, served.browser().get("/assets/other/css/console.css").body);
}

#[test]
fn no_path_leads_out_of_the_assets() {
    let served = Served::start();
    for path in [
        "/assets/x/../../Cargo.toml",
        "/assets/x/..%2f..%2fCargo.toml",
        "/assets/x/%2e%2e/%2e%2e/src/lib.rs",
        "/assets/x//etc/passwd",
        "/assets/x/css/../css/console.css",
        "/assets/x/VENDORED.md",
        "/assets/x/",
        "/assets/../users",
    ] {
        let answer = served.browser().get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
}

/// At 1 Mb/s, 125 kB take a second: the page and all it needs come in less, the first screen's thumbnails in a second more.
#[test]
fn the_first_visit_of_the_wall_is_light_with_64_cameras() {
    let served = Served::start_with(
        |file| {
            let first = file.cameras[0].clone();
            file.cameras = (0..64)
                .map(|i| gridwatch_config::raw::Camera {
                    id: format!("camera-{i:02}"),
                    url: format!("rtsp://192.0.2.1/{i}"),
                    approved_signs: None,
                    ..first.clone()
                })
                .collect();
        },
        |_| {},
    );
    let mut browser = gzipped(&served);
    let page = browser.get("/");
    assert_eq!(page.text().matches("<li class=\"tile\"").count(), 64);
    let mut total = page.sent;
    let mut urls = linked(page.text());
    urls.sort();
    urls.dedup();
    for url in &urls {
        total += browser.get(url).sent;
    }
    assert!(total < 100_000, "{total} bytes");
    println!(
        "the wall with 64 cameras: {total} bytes, of which the page {}",
        page.sent
    );
    assert_eq!(page.text().matches("loading=\"lazy\"").count(), 64);
    let thumbnail = browser.get("/cameras/camera-00/thumbnail?at=10");
    assert!(
        thumbnail.status == 200 && thumbnail.body.len() <= 8 << 10,
        "{}",
        thumbnail.body.len()
    );
}

#[test]
fn files_by_others_are_as_they_were_published() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    let notes = std::fs::read_to_string(assets.join("VENDORED.md")).unwrap();
    let mut checked = 0;
    for entry in std::fs::read_dir(assets.join("vendor")).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("`vendor/{}`", path.file_name().unwrap().to_str().unwrap());
        let row = notes
            .lines()
            .find(|line| line.contains(&name))
            .unwrap_or_else(|| panic!("{name} is not in VENDORED.md"));
        assert!(row.contains(&sha256_hex(&std::fs::read(&path).unwrap())), "{name}");
        checked += 1;
    }
    assert!(checked >= 2);
}
