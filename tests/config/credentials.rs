//! Where passwords come from, and what is wrong with them.

use crate::config_support::*;

#[test]
fn credentials() {
    let folder = Folder::new();
    folder.secret("open.secret", "admin:hunter2", 0o644);
    folder.secret("empty.secret", "", 0o600);
    folder.secret("latin.secret", "", 0o600);
    std::fs::write(folder.dir.path().join("latin.secret"), b"admin:caf\xe9").unwrap();
    let path = folder.dir.path().display().to_string() + "/";
    for (new, expected) in [
        ("{}", "credentials: neither env nor file is set"),
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
