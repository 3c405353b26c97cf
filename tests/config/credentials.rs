//! Where passwords come from, and what is wrong with them.

use crate::config_support::*;
use gridwatch_base::secret::CredentialSource;
use gridwatch_camera::receive::ReceiverSettings;

#[test]
fn credentials() {
    let folder = Folder::new();
    folder.secret("open.secret", "admin:hunter2", 0o644);
    folder.secret("empty.secret", "", 0o600);
    folder.secret("latin.secret", "", 0o600);
    std::fs::write(folder.dir.path().join("latin.secret"), b"admin:caf\xe9").unwrap();
    let path = folder.dir.path().display().to_string() + "/";
    for (new, expected) in [
        ("{}", "credentials: none of env, file and credential is set"),
        (
            "{ env = \"A\", file = \"gate.secret\" }",
            "credentials: both env and file are set",
        ),
        (
            "{ env = \"GRIDWATCH_TEST_UNSET\" }",
            "credentials.env: environment variable GRIDWATCH_TEST_UNSET is not set",
        ),
        (
            "{ env = \"GRIDWATCH_TEST_NO_COLON\" }",
            "credentials.env: the value of GRIDWATCH_TEST_NO_COLON is not of the form user:password",
        ),
        (
            "{ env = \"admin:hunter2\" }",
            "credentials.env: invalid environment variable name",
        ),
        (
            "{ file = \"admin:hunter2\" }",
            "credentials.file: the file does not exist; its name is not shown, as it may be a password",
        ),
        (
            "{ file = \"hunter2\" }",
            "credentials.file: the file does not exist; its name is not shown, as it may be a password",
        ),
        (
            "{ file = \"./no.secret\" }",
            "credentials.file: ./no.secret does not exist",
        ),
        (
            "{ file = \"latin.secret\" }",
            "credentials.file: latin.secret is not UTF-8 text",
        ),
        ("{ file = \".\" }", "credentials.file: . is not a regular file"),
        (
            "{ file = \"open.secret\" }",
            "credentials.file: open.secret is accessible to other users (mode 0644)",
        ),
        (
            "{ file = \"empty.secret\" }",
            "credentials.file: the first line of empty.secret is not of the form user:password",
        ),
        ("\"admin:hunter2\"", "credentials: expected a table, found a string"),
    ] {
        let draft = folder.with("{ file = \"gate.secret\" }", new);
        let messages: Vec<String> = messages(&draft.faults).iter().map(|t| t.replace(&path, "")).collect();
        assert_eq!(messages, [format!("cameras[0].{expected}")], "{new}");
        assert!(!format!("{draft:?}").contains("hunter2"), "{new}");
        assert_eq!(draft.cameras.len(), 1, "the camera is kept without credentials");
    }
}

#[test]
fn no_type_of_the_configuration_prints_a_secret_that_a_faulty_file_holds() {
    let folder = Folder::new();
    let evidence = "[evidence]\nsigning_key = \"pkcs11:token=a;object=b?module-path=/m.so&pin-value=hunter2\"\noriginals_key = { file = \"hunter2\" }\n\n[broker]";
    let good = std::fs::read_to_string("tests/golden/good.toml").unwrap();
    let text = good
        .replacen("mqtt://127", "mqtt://box:hunter2@127", 1)
        .replacen("rtsp://192", "rtsp://admin:hunter2@192", 1)
        .replacen("{ file = \"gate.secret\" }", "{ env = \"admin:hunter2\" }", 1)
        .replacen("[broker]", evidence, 1);
    let raw: gridwatch_config::raw::File = toml::from_str(&text).unwrap();
    assert!(text.matches("hunter2").count() == 5 && raw.cameras[0].url.contains("hunter2"));
    assert!(!format!("{raw:?} {raw:#?}").contains("hunter2"));
    // A path that does not exist is shown.
    let text = text.replacen("{ file = \"hunter2\" }", "{ credential = \"originals\" }", 1);
    let draft = gridwatch_config::examine_with(&folder.write(&text), &variable);
    assert!(!format!("{draft:?}").contains("hunter2"));
    let faults = messages(&draft.faults).join("\n");
    assert!(
        faults.contains("evidence.signing_key: `pin-value` is not accepted"),
        "{faults}"
    );
    assert!(
        !faults.contains("pin-value=hunter2") && !faults.contains("admin:hunter2"),
        "{faults}"
    );

    // A valid one holds the secrets themselves.
    let draft = folder.with(
        "url = \"mqtt://127.0.0.1:1883\"",
        "url = \"mqtt://127.0.0.1:1883\"\ncredentials = { env = \"GRIDWATCH_TEST_BROKER\" }",
    );
    let shown = format!("{draft:?}");
    let config = draft.into_config().unwrap();
    assert_eq!(config.broker.credentials.as_ref().unwrap().password.expose(), "hunter2");
    let camera = &config.cameras[0];
    assert_eq!(camera.credentials.as_ref().unwrap().password.expose(), "hunter2");
    let credentials = camera.credentials.clone().map(CredentialSource::Fixed);
    let receiver = ReceiverSettings {
        credentials,
        ..ReceiverSettings::new(camera.id.clone(), camera.url.clone(), camera.look_every)
    };
    for text in [shown, format!("{config:?} {config:#?}"), format!("{receiver:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_signing_key_in_a_token_is_checked() {
    let key = |uri: &str| format!("[evidence]\nsigning_key = \"{uri}\"\n\n[broker]");
    let place = |uri: &str| Folder::new().with("[broker]", &key(uri));
    let draft = place("pkcs11:token=a;object=b?module-path=/no/module.so&pin-source=credential:pin");
    assert_eq!(
        messages(&draft.faults),
        ["evidence.signing_key: the PKCS#11 module /no/module.so does not exist"]
    );
    let draft = place("pkcs11:token=a;object=b?module-path=/etc/passwd&pin-source=credential:pin");
    assert_eq!(messages(&draft.faults), [""; 0]);
    let keys = draft.into_config().unwrap().keys();
    assert!(format!("{:?}", keys.signing_place()).starts_with("Token("));
}
