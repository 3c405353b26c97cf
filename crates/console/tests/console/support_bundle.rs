//! Support bundles: what is in them, and that no secret, picture or place is, wherever the box has one.

use std::{collections::BTreeMap, fs, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flate2::read::GzDecoder;
use gridwatch_config::raw;
use gridwatch_web::{Role, accounts::NewToken};

use crate::street::{PASSWORD, Served};

const CAMERA_PASSWORD: &str = "Cam3ra-pass/w:rd";
const BROKER_PASSWORD: &str = "br0ker secret";
const COMMENT: &str = "n0te-in-a-comment";
const ORIGINALS: &str = "b3JpZ2luYWxzLWtleS1vZi10aGlzLWJveC0zMmJ5dGVz";

/// A file that only its owner may read.
fn secret_file(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The files of a bundle by name, without the folder.
fn unpacked(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), text)
    });
    files.collect()
}

/// A box with secrets in its configuration, its files, its users, its log, its metrics and its faults.
fn planted() -> (Served, Vec<String>) {
    let secrets = tempfile::tempdir().unwrap().keep();
    secret_file(&secrets.join("camera"), &format!("operator:{CAMERA_PASSWORD}\n"));
    secret_file(&secrets.join("broker"), &format!("box:{BROKER_PASSWORD}\n"));
    let served = Served::with_users_and(|file| {
        let credentials = |name: &str| {
            Some(raw::Credentials {
                env: None,
                file: Some(secrets.join(name)),
                credential: None,
            })
        };
        file.cameras[0].credentials = credentials("camera");
        file.broker.credentials = credentials("broker");
        file.cameras[0].legal_review_ref = Some(format!("see rtsp://operator:{CAMERA_PASSWORD}@10.0.0.9/a"));
    });
    let state = served.state_dir();
    let file = state.join("../edge.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("# {COMMENT}\n{text}")).unwrap();
    served.file_case(1, "street-a", true);
    secret_file(&state.join("keys/originals.key"), ORIGINALS);
    let token = NewToken {
        name: "dashboard",
        role: Role::Viewer,
        groups: Default::default(),
        made_by: "admin",
        expires_at: None,
    };
    let token = served.accounts().add_token(&token).unwrap().to_string();
    let session = served.logged_in("viewer").cookies["gridwatch_session"].clone();
    let users = fs::read_to_string(state.join("console/users.json")).unwrap();
    let hash = users
        .split('"')
        .find(|text| text.starts_with("$argon2"))
        .unwrap()
        .to_owned();
    let pem = fs::read_to_string(state.join("keys/signing.pem")).unwrap();
    let signing = pem.lines().nth(1).unwrap().to_owned();
    let console_key = BASE64.encode(fs::read(state.join("console/key")).unwrap());
    let login = BASE64.encode(format!("operator:{CAMERA_PASSWORD}"));
    let encoded = CAMERA_PASSWORD.replace('/', "%2F").replace(':', "%3A");
    let secrets: Vec<String> = [
        CAMERA_PASSWORD,
        BROKER_PASSWORD,
        ORIGINALS,
        PASSWORD,
        &token,
        &session,
        &hash,
        &signing,
        &console_key,
        &login,
        "hunter2",
    ]
    .map(str::to_owned)
    .into();
    // As if somebody had logged all of them.
    let mut log: Vec<String> = secrets
        .iter()
        // Of these the box knows nothing by which they could be found in any place.
        .filter(|secret| ![PASSWORD, "hunter2"].contains(&secret.as_str()))
        .map(|secret| format!("2026-05-01T00:00:00Z  WARN gridwatch: leaked {secret} here"))
        .collect();
    log.push(format!(
        "WARN rtsp://operator:{encoded}@10.0.0.9/live refused; Authorization: Basic {login}"
    ));
    log.push(format!(
        "WARN form password={PASSWORD} token=hunter2",
        PASSWORD = PASSWORD.replace(' ', "+")
    ));
    log.push(pem.clone());
    log.push("WARN street-a at 121.5008, 31.2397: the zone is empty".into());
    served.street.log.lock().unwrap().extend(log);
    *served.street.metrics.lock().unwrap() = format!("gridwatch_ready{{url=\"rtsp://a:{CAMERA_PASSWORD}@h/\"}} 1\n");
    served.street.block(&format!(
        "camera street-a: rtsp://operator:{CAMERA_PASSWORD}@10.0.0.9/ refuses the login"
    ));
    let crash = format!(
        r#"{{"at":"2026-05-01T00:00:00Z","camera":"street-a","codec":"H.264","bytes":9,"sha256":"{}","cause":"{BROKER_PASSWORD}"}}"#,
        "a".repeat(64)
    );
    fs::create_dir_all(state.join("decode-crashes")).unwrap();
    fs::write(
        state.join("decode-crashes").join(format!("{}.json", "a".repeat(64))),
        crash,
    )
    .unwrap();
    (served, secrets)
}

#[test]
fn no_secret_of_the_box_is_in_a_bundle() {
    let (served, secrets) = planted();
    let mut admin = served.logged_in("admin");
    let answer = served.post(&mut admin, "/system/support", "/system/support/bundle", &[]);
    assert_eq!(answer.status, 200, "{:?}", answer.headers);
    let disposition = answer.header("content-disposition").unwrap();
    assert!(
        disposition.starts_with("attachment; filename=\"gridwatch-support-demo-box-"),
        "{disposition}"
    );
    let files = unpacked(&answer.body);
    for (name, text) in &files {
        for secret in &secrets {
            assert!(!text.contains(secret), "{name} has {secret}");
            assert!(!text.contains(&PASSWORD.replace(' ', "+")), "{name}");
        }
        assert!(!text.contains(COMMENT) && !text.contains("PRIVATE KEY"), "{name}");
        assert!(
            !text.contains("/9j/") && !text.contains("\u{fffd}"),
            "{name} has a picture"
        );
    }
    // It is not empty for that.
    for (name, part) in [
        ("versions.json", "\"gridwatch\""),
        ("versions.json", "1.23.0"),
        ("configuration.json", "\"street-a\""),
        ("readiness.json", "refuses the login"),
        ("link.json", "\"connected\": true"),
        ("metrics.txt", "gridwatch_ready"),
        ("log.txt", "Connected to MQTT broker"),
        ("log.txt", "leaked *** here"),
        ("outbox.json", "\"waiting\""),
        ("cases.jsonl", "0102"),
        ("models.json", "garbage_nano_416"),
        ("clock.json", "is_synchronised"),
        ("disk.json", "evidence"),
        ("keys.json", "\"signing_key\": \"state_directory\""),
        ("crashes.jsonl", "H.264"),
        ("MANIFEST.txt", "log.txt"),
        ("MANIFEST.txt", "Left out:"),
    ] {
        let text = files
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {:?}", files.keys()));
        assert!(text.contains(part), "{name}: {part}\n{text}");
    }
    let acts = served.street.acts.lock().unwrap();
    let act = acts.iter().find(|act| act.name == "support-bundle").unwrap();
    assert_eq!(
        (act.by.user.as_deref(), act.details[1].1.as_str()),
        (Some("admin"), "false")
    );
}

#[test]
fn places_are_in_a_bundle_only_if_they_are_asked_for() {
    let (served, _) = planted();
    let mut admin = served.logged_in("admin");
    let config = gridwatch_config::load(&served.state_dir().join("../edge.toml")).unwrap();
    let camera = &config.document.value()["cameras"][0];
    let (lon, address) = (
        camera["place"]["lon"].to_string(),
        camera["address"].as_str().unwrap().to_owned(),
    );
    served
        .street
        .log
        .lock()
        .unwrap()
        .push(format!("WARN street-a at {lon}, {address}"));
    let places = |bytes: &[u8]| {
        let text: String = unpacked(bytes).into_values().collect();
        [&lon, &address, "\"cell_code\"", "\"calibration\""].map(|part| text.contains(part))
    };
    let without = served.post(&mut admin, "/system/support", "/system/support/bundle", &[]);
    assert_eq!(places(&without.body), [false; 4], "{lon} {address}");
    let fields = [("with_places", "on")];
    let with = served.post(&mut admin, "/system/support", "/system/support/bundle", &fields);
    assert_eq!(places(&with.body), [true; 4]);
    let acts = served.street.acts.lock().unwrap();
    assert_eq!(acts.last().unwrap().details[1].1, "true");
}

#[test]
fn a_bundle_is_for_administrators_and_not_given_if_it_is_not_recorded() {
    let served = Served::with_users();
    let mut operator = served.logged_in("operator");
    assert_eq!(
        served
            .post(&mut operator, "/cases", "/system/support/bundle", &[])
            .status,
        403
    );
    let mut admin = served.logged_in("admin");
    let code = admin.get("/users").csrf();
    let mut program = admin.clone().with("X-CSRF-Token", &code);
    let body = br#"{"with_places":false}"#;
    let answer = program.send("POST", "/api/v1/support-bundle", "application/json", body);
    assert_eq!(answer.header("content-type"), Some("application/gzip"));
    // A box that never ran: what is missing is said.
    let manifest = unpacked(&answer.body)["MANIFEST.txt"].clone();
    assert!(
        manifest.contains("cases.jsonl (index of the newest cases): "),
        "{manifest}"
    );
    *served.street.is_unrecordable.lock().unwrap() = true;
    assert_eq!(
        served.post(&mut admin, "/users", "/system/support/bundle", &[]).status,
        500
    );
}
