//! `gridwatch crashes` on the state directory of a box whose decode worker ended.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use gridwatch_base::digest::sha256_hex;
use gridwatch_custody::{
    keys::{KeyRing, OriginalsKey},
    vault::{OriginalFormat, Vault},
};

/// Exit code, standard output and standard error.
fn crashes(config: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .arg("crashes")
        .args(arguments)
        .args(["--config", config.to_str().unwrap()])
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A record as the daemon writes it.
fn record(folder: &Path, picture: &[u8], camera: &str, minute: u32) -> String {
    let sha256 = sha256_hex(picture);
    let text = serde_json::json!({
        "at": format!("2026-05-01T08:{minute:02}:00Z"),
        "camera": camera,
        "codec": "H.264",
        "bytes": picture.len(),
        "sha256": sha256,
        "cause": "signal: 11 (SIGSEGV)\u{1b}[2J",
    });
    fs::write(folder.join(format!("{sha256}.json")), text.to_string()).unwrap();
    sha256
}

#[test]
fn kept_pictures_are_listed_and_exported_and_called_hostile() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let config = dir.path().join("edge.toml");
    let text = fs::read_to_string("tests/golden/good.toml").unwrap();
    let text = text.replace("@ROOT@", env!("CARGO_MANIFEST_DIR"));
    let line = text.lines().find(|l| l.starts_with("state_dir")).unwrap().to_owned();
    fs::write(&config, text.replace(&line, &format!("state_dir = {state:?}"))).unwrap();
    let secret = dir.path().join("gate.secret");
    fs::write(&secret, "admin:hunter2\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let (code, out, err) = crashes(&config, &["list"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "No picture has ended a decode worker.\n"),
        "{err}"
    );

    let folder = state.join("decode-crashes");
    fs::create_dir_all(&folder).unwrap();
    let kept = record(&folder, b"kept picture", "gate", 1);
    let lost = record(&folder, b"lost picture", "yard", 2);
    let key = KeyRing::of(&state).originals(&OriginalsKey::Own).unwrap();
    Vault::at(folder, key)
        .put(OriginalFormat::H264, b"kept picture")
        .unwrap();

    let (code, out, err) = crashes(&config, &["list"]);
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines,
        [
            format!("2026-05-01T08:01:00Z  gate  H.264  12 bytes  {kept}  kept  signal: 11 (SIGSEGV)?[2J"),
            format!("2026-05-01T08:02:00Z  yard  H.264  12 bytes  {lost}  not kept  signal: 11 (SIGSEGV)?[2J"),
        ]
    );
    let (_, out, _) = crashes(&config, &["list", "--json"]);
    let listed: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(
        (listed[0]["is_kept"].as_bool(), listed[1]["is_kept"].as_bool()),
        (Some(true), Some(false))
    );
    assert_eq!(
        (&listed[0]["camera"], &listed[1]["sha256"]),
        (&"gate".into(), &lost.as_str().into())
    );

    let file = dir.path().join("crash.h264");
    let out = file.to_str().unwrap();
    let (code, text, err) = crashes(&config, &["export", &kept[..8], "--out", out]);
    assert_eq!(code, Some(0), "{err}");
    assert!(text.contains("hostile input"), "{text}");
    assert_eq!(fs::read(&file).unwrap(), b"kept picture");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (_, json, _) = crashes(&config, &["export", &kept, "--json", "--out", out]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(
        json["warning"].as_str().unwrap().contains("hostile input") && json["path"] == out,
        "{json}"
    );

    for (digits, code, message) in [
        (&lost[..], 5, "is not kept; only its record is"),
        ("00000000", 3, "no such picture"),
        ("5f", 3, "at least 8 digits"),
    ] {
        let (found, _, err) = crashes(&config, &["export", digits, "--out", out]);
        assert!(found == Some(code) && err.contains(message), "{found:?}: {err}");
    }
}
