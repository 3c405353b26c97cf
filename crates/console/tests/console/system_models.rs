//! Model versions on the console: a real registry, real packages, requests in the journal, and uploads of hostile files.

use std::{fs, io::Write as _, path::PathBuf};

use flate2::{Compression, write::GzEncoder};
use gridwatch_custody::SigningKey;
use gridwatch_model::registry::{Event, Registry};
use gridwatch_model::trial::TrialReport;
use gridwatch_web::audit::Outcome;
use jiff::Timestamp;

use crate::{
    http::{Client, Response},
    street::{Served, root},
};

const ID: &str = "garbage_nano_416";

fn swap(file: &str) -> Vec<u8> {
    let folder: PathBuf = root().join("tests/fixtures/models/swap");
    fs::read(folder.join(file)).unwrap()
}

fn manifest(version: &str) -> Vec<u8> {
    let text = String::from_utf8(swap("model.toml")).unwrap();
    text.replace("\"2.0.0\"", &format!("{version:?}")).into_bytes()
}

fn entry(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    // As it is: `set_path` would refuse what a hostile package has.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    archive.append(&header, bytes).unwrap();
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        entry(&mut archive, name, bytes);
    }
    archive.into_inner().unwrap()
}

pub(crate) fn package(version: &str) -> Vec<u8> {
    archive(&[
        ("swap/model.toml", &manifest(version)),
        ("swap/model.onnx", &swap("model.onnx")),
    ])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A browser that sends the code with each request, as the page's script does.
fn with_code(mut browser: Client) -> Client {
    let code = browser.get("/system/models").csrf();
    browser.with("X-CSRF-Token", &code)
}

fn upload(browser: &mut Client, bytes: &[u8]) -> Response {
    browser.send(
        "POST",
        "/api/v1/models/install?name=swap.tar",
        "application/x-tar",
        bytes,
    )
}

fn registry(served: &Served) -> Registry {
    Registry::new(&served.state_dir(), Vec::new())
}

/// Nothing of an upload is left.
fn expect_nothing_left(served: &Served) {
    for (folder, prefix) in [("console", "upload-"), ("models", ".installing-")] {
        let entries = fs::read_dir(served.state_dir().join(folder)).into_iter().flatten();
        let left: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(prefix))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn events(served: &Served) -> Vec<Event> {
    let contents = registry(served).journal().read().unwrap();
    contents.entries.into_iter().map(|entry| entry.event).collect()
}

#[test]
fn a_package_is_uploaded_used_shadowed_and_rolled_back() {
    let served = Served::with_users();
    let mut operator = with_code(served.logged_in("operator"));
    let installed = upload(&mut operator, &gzip(&package("2.0.0")));
    assert_eq!(installed.status, 200, "{}", installed.text());
    assert_eq!(
        (
            installed.json()["version"].as_str(),
            installed.json()["self_test"].as_u64()
        ),
        (Some("2.0.0"), Some(0))
    );
    let again = upload(&mut operator, &package("2.0.0"));
    assert_eq!(
        (again.status, again.json()["was_installed"].as_bool()),
        (200, Some(true))
    );
    expect_nothing_left(&served);
    let registry = registry(&served);
    let daemon = registry.lock_for_daemon().unwrap();
    let page = operator.get("/system/models");
    assert!(page.contains("2.0.0") && page.contains("1.2.0"), "{}", page.text());

    // Without a self-test it takes `force`, as for the command.
    let unproven = served.post(
        &mut operator,
        "/system/models",
        &format!("/system/models/{ID}/use"),
        &[("version", "2.0.0")],
    );
    assert_eq!(unproven.status, 409, "{}", unproven.text());
    assert!(unproven.contains("self-test"), "{}", unproven.text());
    let fields = [("version", "2.0.0"), ("force", "on"), ("looks", "1000"), ("camera", "")];
    let used = served.post(
        &mut operator,
        "/system/models",
        &format!("/system/models/{ID}/use"),
        &fields,
    );
    assert_eq!(used.status, 303, "{}", used.text());
    let Some(Event::Use {
        request,
        version,
        camera,
        force: true,
        now: false,
    }) = events(&served).pop()
    else {
        panic!("{:?}", events(&served))
    };
    assert_eq!((version.as_deref(), camera), (Some("2.0.0"), None));
    let status = format!("/system/models/{ID}/status");
    assert!(
        operator.get(&status).contains("hx-trigger=\"every 2s\""),
        "asks until the daemon has answered"
    );

    // The daemon answers.
    let report = || TrialReport {
        looks: 100,
        errors: 1,
        old_found: 0,
        new_missed: 0,
        finds: Default::default(),
        old_ms: Default::default(),
        new_ms: Default::default(),
        differences: Default::default(),
    };
    let live = Event::WentLive {
        request,
        version: Some("2.0.0".into()),
        camera: None,
        report: Some(Box::new(report())),
    };
    registry.journal().append(ID, Timestamp::now(), live).unwrap();
    let answered = operator.get(&status);
    assert!(
        !answered.contains("hx-trigger") && answered.contains("100"),
        "{}",
        answered.text()
    );
    let models = operator.get("/api/v1/models").json();
    let model = models
        .as_array()
        .unwrap()
        .iter()
        .find(|model| model["id"] == ID)
        .unwrap();
    assert_eq!(
        (model["live"].as_str(), model["can_roll_back"].as_bool()),
        (Some("2.0.0"), Some(true))
    );
    assert_eq!(model["versions"][1]["outcome"]["report"]["looks"], 100);

    let shadow = br#"{"version":"1.2.0","camera":"street-a","looks":50}"#;
    let shadowed = operator.send(
        "POST",
        &format!("/api/v1/models/{ID}/shadow"),
        "application/json",
        shadow,
    );
    assert_eq!(shadowed.status, 200, "{}", shadowed.text());
    assert!(matches!(
        events(&served).pop(),
        Some(Event::Shadow {
            looks: 50,
            version: None,
            ..
        })
    ));
    assert_eq!(
        served
            .post(
                &mut operator,
                "/system/models",
                &format!("/system/models/{ID}/shadow/stop"),
                &[]
            )
            .status,
        303
    );
    assert_eq!(
        served
            .post(
                &mut operator,
                "/system/models",
                &format!("/system/models/{ID}/shadow/stop"),
                &[]
            )
            .status,
        409
    );
    assert_eq!(
        served
            .post(
                &mut operator,
                "/system/models",
                &format!("/system/models/{ID}/rollback"),
                &[]
            )
            .status,
        303
    );
    assert!(matches!(events(&served).pop(), Some(Event::Rollback { .. })));
    drop(daemon);
    assert!(operator.get("/system/models").contains("守护进程未在处理"));

    let acts = served.street.acts.lock().unwrap();
    let names: Vec<_> = acts
        .iter()
        .map(|act| act.name)
        .filter(|name| name.starts_with("model"))
        .collect();
    assert_eq!(
        names,
        [
            "model install",
            "model install",
            "model use",
            "model use",
            "model shadow",
            "model shadow",
            "model shadow",
            "model rollback"
        ]
    );
    let uses: Vec<_> = acts.iter().filter(|act| act.name == "model use").collect();
    assert!(
        matches!(&uses[0].outcome, Outcome::Refused(why) if why.contains("self-test")),
        "{uses:?}"
    );
    assert_eq!(uses[0].details[0], ("model", format!("{ID}@2.0.0")));
    assert_eq!(uses[1].outcome, Outcome::Done);
    assert_eq!(
        acts.iter().find(|act| act.name == "model install").unwrap().details[0],
        ("package", "swap.tar".into())
    );
}

#[test]
fn hostile_uploads_are_refused_and_nothing_of_them_stays() {
    let served = Served::with_users();
    let mut operator = with_code(served.logged_in("operator"));
    let good = manifest("2.0.0");
    let many: Vec<(String, Vec<u8>)> = (0..600).map(|i| (format!("f{i}"), Vec::new())).collect();
    let many: Vec<(&str, &[u8])> = many
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    let zeros = vec![0; 64 << 20];
    let mut bomb = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for i in 0..9 {
        let mut header = tar::Header::new_gnu();
        header.set_size(zeros.len() as u64);
        header.set_cksum();
        bomb.append_data(&mut header, format!("zeros{i}"), zeros.as_slice())
            .unwrap();
    }
    let bomb = bomb.into_inner().unwrap().finish().unwrap();
    assert!(bomb.len() < 4 << 20);
    let mut link = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    link.append_link(&mut header, "model.toml", "/etc/passwd").unwrap();
    let other = String::from_utf8(good.clone())
        .unwrap()
        .replace(ID, "another_model")
        .into_bytes();
    let onnx = swap("model.onnx");
    let cases: [(&str, Vec<u8>); 11] = [
        ("nothing", Vec::new()),
        ("not a tar", b"MZ this is no archive".repeat(100)),
        ("a cut gzip", gzip(&package("2.0.0"))[..200].to_vec()),
        ("no manifest", archive(&[("a", b"b")])),
        (
            "a path that leads outside",
            archive(&[("../../escaped", b"x"), ("model.toml", &good), ("model.onnx", &onnx)]),
        ),
        (
            "an absolute path",
            archive(&[("/tmp/escaped", b"x"), ("model.toml", &good), ("model.onnx", &onnx)]),
        ),
        ("a link", link.into_inner().unwrap()),
        ("too many files", archive(&many)),
        ("a bomb", bomb),
        (
            "another network",
            archive(&[("model.toml", &good), ("model.onnx", b"other")]),
        ),
        (
            "a model that the box does not use",
            archive(&[("model.toml", &other), ("model.onnx", &onnx)]),
        ),
    ];
    for (what, bytes) in cases {
        let answer = upload(&mut operator, &bytes);
        assert!(
            [400, 409].contains(&answer.status),
            "{what}: {} {}",
            answer.status,
            answer.text()
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{what}"
        );
        let text = answer.text().to_owned();
        assert!(
            !text.contains("/upload-") && !text.contains("installing-"),
            "no paths of the box: {text}"
        );
        expect_nothing_left(&served);
    }
    assert!(!served.state_dir().join("../escaped").exists() && !PathBuf::from("/tmp/escaped").exists());
    *served.street.model_refusal.lock().unwrap() = Some("finds nothing in its own pictures".into());
    let answer = upload(&mut operator, &package("2.0.0"));
    assert_eq!(answer.status, 409);
    assert!(
        answer.contains("finds nothing in its own pictures"),
        "{}",
        answer.text()
    );
    assert!(events(&served).is_empty(), "the registry is as it was");
    let acts = served.street.acts.lock().unwrap();
    let refused = acts.iter().filter(|act| act.name == "model install");
    assert!(refused.clone().count() == 12 && refused.clone().all(|act| matches!(act.outcome, Outcome::Refused(_))));
}

#[test]
fn an_upload_without_end_is_cut_off_by_its_size() {
    let served = Served::start();
    let browser = with_code(served.browser());
    // Announced too large: refused before anything is sent.
    let answer = browser.announce("POST", "/api/v1/models/install", "application/x-tar", 600 << 20);
    assert_eq!(answer.status, 413, "{}", answer.text());
    // Not announced, in chunks that do not end.
    let sent = browser.flood("/api/v1/models/install", "application/x-tar", 1 << 30);
    assert!(sent < 700 << 20, "{sent}");
    expect_nothing_left(&served);
}

#[test]
fn only_signed_packages_are_installed_where_keys_are_configured() {
    let (_, key) = SigningKey::generate().unwrap();
    let public = key.public().to_string();
    let served = Served::start();
    served
        .street
        .configure(|config| config.registry.keys = vec![key.public()]);
    let mut browser = with_code(served.browser());
    let unsigned = upload(&mut browser, &package("2.0.0"));
    assert_eq!(unsigned.status, 409);
    assert!(
        unsigned.contains("registry.keys requires a signature"),
        "{}",
        unsigned.text()
    );
    let (_, other) = SigningKey::generate().unwrap();
    let signed_by = |key: &SigningKey| {
        let toml = manifest("2.0.0");
        let signature = key.sign(&toml);
        archive(&[
            ("model.toml", &toml),
            ("model.onnx", &swap("model.onnx")),
            ("model.sig", signature.as_bytes()),
        ])
    };
    assert_eq!(upload(&mut browser, &signed_by(&other)).status, 409);
    let installed = upload(&mut browser, &signed_by(&key));
    assert_eq!(
        (installed.status, installed.json()["signed_by"].as_str()),
        (200, Some(public.as_str()))
    );
}

#[test]
fn bad_requests_about_models_are_refused_with_words() {
    let served = Served::start();
    let mut browser = with_code(served.browser());
    for (path, body, status, words) in [
        (
            "nothing/use",
            r#"{"version":"1.2.0"}"#,
            409,
            "the configuration has no model",
        ),
        (
            "garbage_nano_416/use",
            r#"{"version":"9.9.9"}"#,
            409,
            "is not installed",
        ),
        (
            "garbage_nano_416/use",
            r#"{"version":"../../x"}"#,
            409,
            "is not installed",
        ),
        (
            "garbage_nano_416/use",
            r#"{"version":"1.2.0","camera":"nowhere"}"#,
            409,
            "no camera",
        ),
        ("garbage_nano_416/rollback", "{}", 409, "no previous version"),
        (
            "garbage_nano_416/shadow",
            r#"{"version":"1.2.0","looks":0}"#,
            400,
            "looks",
        ),
        ("garbage_nano_416/shadow", r#"{}"#, 422, "version"),
        (
            "garbage_nano_416/shadow",
            r#"{"stop":true}"#,
            409,
            "no shadow is running",
        ),
    ] {
        let answer = browser.send(
            "POST",
            &format!("/api/v1/models/{path}"),
            "application/json",
            body.as_bytes(),
        );
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        assert!(answer.contains(words), "{path} {body}: {}", answer.text());
    }
    assert!(events(&served).is_empty());
}

#[test]
fn an_upload_takes_the_code_of_the_page_and_the_role() {
    let served = Served::with_users();
    assert_eq!(upload(&mut served.logged_in("operator"), &package("2.0.0")).status, 403);
    let mut viewer = served.logged_in("viewer");
    let code = viewer.get("/cases").csrf();
    assert_eq!(
        upload(&mut viewer.with("X-CSRF-Token", &code), &package("2.0.0")).status,
        403
    );
    assert!(events(&served).is_empty());
}
