//! `gridwatch support-bundle`: what it writes, readable by one user only, and that no secret and no place of the box is in it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use flate2::read::GzDecoder;
use gridwatch_store::Store;

use crate::filing;

const PASSWORD: &str = "n0t-in-the-bundle";

fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(path).unwrap()));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name, text)
    });
    files.collect()
}

#[test]
fn a_bundle_is_written_without_secrets_and_with_places_only_if_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string("tests/golden/good.toml").unwrap();
    let text = text.replace("@ROOT@", env!("CARGO_MANIFEST_DIR"));
    fs::write(dir.path().join("edge.toml"), format!("# {PASSWORD}\n{text}")).unwrap();
    let secret = dir.path().join("gate.secret");
    fs::write(&secret, format!("operator:{PASSWORD}")).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let mut store = Store::open(&dir.path().join("state")).unwrap();
    let case = filing::file(&mut store, 1);
    drop(store);
    let pem = fs::read_to_string(dir.path().join("state/keys/signing.pem")).unwrap();
    let run = |more: &[&str]| {
        let out = dir.path().join("support.tar.gz");
        let done = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args(["support-bundle", "--config"])
            .arg(dir.path().join("edge.toml"))
            .arg("--out")
            .arg(&out)
            .args(more)
            .env("SOME_TOKEN", PASSWORD)
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        let mode = fs::metadata(&out).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        (String::from_utf8(done.stdout).unwrap(), unpacked(&out))
    };
    let (told, files) = run(&[]);
    assert!(told.contains("Left out:") && told.contains("passwords"), "{told}");
    for (name, text) in &files {
        for part in [
            PASSWORD,
            "gate.secret",
            pem.lines().nth(1).unwrap(),
            "120.00",
            "30.00",
            "\"cell_code\"",
        ] {
            assert!(!text.contains(part), "{name} has {part}: {text}");
        }
    }
    assert!(files["cases.jsonl"].contains(&case), "{}", files["cases.jsonl"]);
    assert!(
        files["configuration.json"].contains("\"credentials\": \"***\""),
        "{}",
        files["configuration.json"]
    );
    // No daemon runs, which the manifest tells.
    let manifest = &files["MANIFEST.txt"];
    assert!(
        manifest.contains("metrics.txt (") && !files.contains_key("metrics.txt"),
        "{manifest}"
    );
    let (_, files) = run(&["--with-places"]);
    assert!(files["configuration.json"].contains("120.001") && files["cases.jsonl"].contains("\"cell_code\""));
    let (told, _) = run(&["--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["files"][0]["name"], "versions.json");
}
