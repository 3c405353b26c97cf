//! systemd credentials.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::sample::Folder;
use gridwatch_config::{Draft, examine_with};

fn examine(folder: &Folder, directory: Option<&str>) -> Draft {
    let directory = directory.map(|name| folder.path(name).display().to_string());
    examine_with(&folder.main(), &|name| {
        (name == "CREDENTIALS_DIRECTORY").then(|| directory.clone()).flatten()
    })
}

#[test]
fn a_camera_and_the_broker_take_theirs_from_the_unit() {
    let folder = Folder::new();
    folder.secret("credentials/gate", "admin:hunter2\n");
    folder.secret("credentials/broker.login", "box:hunter3\n");
    folder.replace("edge.toml", "{ file = \"gate.secret\" }", "{ credential = \"gate\" }");
    folder.replace(
        "edge.toml",
        ":1883\"",
        ":1883\"\ncredentials = { credential = \"broker.login\" }",
    );
    let config = examine(&folder, Some("credentials")).into_config().unwrap();
    let camera = &config.cameras[0];
    assert_eq!(camera.credentials.as_ref().unwrap().password.expose(), "hunter2");
    assert_eq!(config.broker.credentials.as_ref().unwrap().password.expose(), "hunter3");
    // Read anew at each login.
    folder.secret("credentials/gate", "admin:hunter4\n");
    let now = camera.credential_source.as_ref().unwrap().read().unwrap();
    assert_eq!(now.password.expose(), "hunter4");
    assert!(!format!("{config:?}").contains("hunter"));
}

#[test]
fn what_is_wrong_with_one_is_said_without_showing_it() {
    let folder = Folder::new();
    folder.secret("credentials/gate", "hunter2\n");
    folder.write("credentials/open", "admin:hunter2\n");
    fs::set_permissions(folder.path("credentials/open"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut before = "{ file = \"gate.secret\" }".to_owned();
    for (new, directory, expected) in [
        ("gate", None, "no systemd credentials: CREDENTIALS_DIRECTORY is not set"),
        (
            "gate",
            Some("nowhere"),
            "no systemd credentials: the directory that CREDENTIALS_DIRECTORY names does not exist",
        ),
        (
            "hunter2",
            Some("credentials"),
            "the unit has no credential of this name",
        ),
        (
            "gate",
            Some("credentials"),
            "the first line of the credential is not of the form user:password",
        ),
        (
            "open",
            Some("credentials"),
            "the credential is accessible to other users (mode 0644)",
        ),
        ("../gate.secret", Some("credentials"), "invalid credential name"),
        ("..", Some("credentials"), "invalid credential name"),
        ("/etc/passwd", Some("credentials"), "invalid credential name"),
        ("admin:hunter2", Some("credentials"), "invalid credential name"),
    ] {
        let table = format!("{{ credential = \"{new}\" }}");
        folder.replace("edge.toml", &before, &table);
        before = table;
        let draft = examine(&folder, directory);
        let found: Vec<String> = draft
            .faults
            .iter()
            .map(|f| format!("{}: {}", f.path, f.message))
            .collect();
        assert_eq!(
            found,
            [format!("cameras[0].credentials.credential: {expected}")],
            "{new}"
        );
        assert!(!format!("{draft:?}").contains("hunter2"), "{new}");
    }
    folder.replace(
        "edge.toml",
        &before,
        "{ credential = \"gate\", file = \"gate.secret\" }",
    );
    let faults = folder.faults();
    assert_eq!(
        faults,
        ["cameras[0].credentials: both file and credential are set (edge.toml:28)"]
    );
}

/// As in an operator's shell.
#[test]
fn commands_that_open_no_connection_do_without() {
    let folder = Folder::new();
    folder.replace("edge.toml", "{ file = \"gate.secret\" }", "{ credential = \"gate\" }");
    assert!(std::env::var_os("CREDENTIALS_DIRECTORY").is_none());
    let config = gridwatch_config::load_offline(&folder.main()).unwrap();
    assert!(config.cameras[0].credential_source.is_none());
}
