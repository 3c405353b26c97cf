//! A box signs with a key that never leaves a token: SoftHSM 2, a token in software.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use crate::{
    filing,
    softhsm::{MODULE, PIN, SoftToken},
};
use gridwatch_base::error::Class;
use gridwatch_custody::{
    bundle::{self, CheckOptions, Verdict},
    keys::{KeyRing, SigningKeyPlace},
};
use gridwatch_engine::CaseState;
use gridwatch_store::Store;

/// A token, a configuration whose signing key is in it, and a state directory.
struct Token(SoftToken);

impl Token {
    fn new() -> Self {
        let token = Self(SoftToken::new());
        token.configure(Some("box"));
        token
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Configures the key with that label, or the one in the state directory.
    fn configure(&self, object: Option<&str>) {
        self.configure_uri(object.map(|object| self.0.uri(object)));
    }

    fn configure_uri(&self, uri: Option<String>) {
        let key = uri.map(|uri| format!("signing_key = {uri:?}\n")).unwrap_or_default();
        let state = self.state();
        let text = format!("[node]\nid = \"box\"\nstate_dir = {state:?}\n[evidence]\n{key}");
        fs::write(self.path("edge.toml"), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gridwatch"));
        command.args(arguments).arg("--config").arg(self.path("edge.toml"));
        command
            .env_remove("GRIDWATCH_STATE")
            .env("SOFTHSM2_CONF", self.0.conf());
        command.output().unwrap()
    }

    /// What a command prints.
    fn print(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The error of a command that fails for its configuration.
    fn error(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!message.contains(PIN), "{message}");
        message
    }

    /// Runs one of the ignored tests of this file, which use the store as the daemon does, in a process with this token: the module reads
    /// the place of its tokens from the environment.
    fn in_process(&self, test: &str) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("token::{test}"), "--ignored", "--nocapture"])
            .env("SOFTHSM2_CONF", self.0.conf())
            .env("TOKEN_TEST_DIR", self.path(""))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{test}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Exports the case and checks it with the key, and with OpenSSL.
    fn expect_authentic(&self, case: &str, key: &str, algorithm: &str) {
        let out = self.path("out");
        let _ = fs::remove_dir_all(&out);
        self.print(&["cases", "export", case, "--out", out.to_str().unwrap()]);
        let folder = out.join(case);
        let key = key.parse().unwrap();
        let options = CheckOptions {
            key: Some(&key),
            ..CheckOptions::default()
        };
        let report = bundle::check(&folder, &options).unwrap();
        assert_eq!(report.verdict, Verdict::Authentic, "{report:?}");
        let record: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
        assert_eq!(record["signature_algorithm"], algorithm);
        let verified = Command::new("openssl")
            .args("pkeyutl -verify -pubin -inkey public-key.pem -rawin -in case.json -sigfile case.sig".split(' '))
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }
}

/// The store of a test that [`Token::in_process`] runs.
fn open_store() -> (Store, PathBuf) {
    let dir = PathBuf::from(std::env::var_os("TOKEN_TEST_DIR").expect("set by the test that runs this one"));
    let text = fs::read_to_string(dir.join("edge.toml")).unwrap();
    let uri = text
        .split("signing_key = \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let place = SigningKeyPlace::Token(Box::new(uri.parse().unwrap()));
    let state = dir.join("state");
    (
        Store::open_with(&state, &KeyRing::with_signing(&state, place)).unwrap(),
        dir,
    )
}

#[test]
fn a_box_hands_over_to_a_token_and_back_and_every_case_verifies() {
    let token = Token::new();
    let mut store = Store::open(&token.state()).unwrap();
    let first = filing::file(&mut store, 1);
    drop(store);
    let created = token.print(&["keys", "new"]);
    assert_eq!(token.print(&["keys", "new"]), created, "once");
    assert!(
        token
            .error(&["keys", "rotate", "--originals"])
            .contains("hand over to it with `gridwatch keys rotate")
    );

    assert_eq!(token.print(&["keys", "rotate"]), created);
    assert!(!token.state().join("keys/signing.pem").exists());
    assert_eq!(token.print(&["keys", "rotate"]), created, "done already");
    assert_eq!(token.print(&["keys", "show"]), created);
    token.in_process("files_with_the_token");
    let listed = token.print(&["cases", "list", "--json"]);
    let ids = listed.lines().map(|line| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["case_id"]
            .as_str()
            .unwrap()
            .to_owned()
    });
    let second = ids.into_iter().find(|id| *id != first).unwrap();
    token.expect_authentic(&second, &created, "ed25519");
    token.expect_authentic(&first, &created, "ed25519");

    // A key on P-256, which is all that most TPMs have.
    let pem = token.path("ec.pem");
    let made = Command::new("openssl")
        .args("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out".split(' '))
        .arg(&pem)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    token.0.util(&[
        "--import",
        pem.to_str().unwrap(),
        "--token",
        "gridwatch",
        "--label",
        "ec",
        "--id",
        "02",
        "--pin",
        PIN,
    ]);
    token.configure(Some("ec"));
    assert!(
        token.error(&["keys", "rotate"]).contains("signing.pem"),
        "there is no such key"
    );
    let from = token.0.uri("box");
    let p256 = token.print(&["keys", "rotate", "--from", &from]);
    assert!(p256.starts_with("ecdsa-p256-sha256:"), "{p256}");
    token.in_process("revises_with_the_token");
    token.expect_authentic(&second, &p256, "ecdsa-p256-sha256");
    token.expect_authentic(&first, &p256, "ed25519");

    token.configure(None);
    let own = token.print(&["keys", "rotate", "--from", &token.0.uri("ec")]);
    assert_eq!(own, token.print(&["keys", "show"]));
    token.expect_authentic(&second, &own, "ecdsa-p256-sha256");
    token.expect_authentic(&first, &own, "ed25519");
}

#[test]
#[ignore = "run by the tests of this file"]
fn files_with_the_token() {
    let (mut store, _) = open_store();
    filing::file(&mut store, 2);
}

#[test]
#[ignore = "run by the tests of this file"]
fn revises_with_the_token() {
    let (mut store, _) = open_store();
    let cases = store.cases(gridwatch_store::Filter::default()).unwrap();
    let second = cases.iter().map(|case| &case.case_id).max().unwrap();
    let back = filing::revision(second, CaseState::Withdrawn, 90_000, "gone");
    store.revise(&back, &filing::form()).unwrap();
}

#[test]
fn a_token_that_goes_away_delays_cases_and_loses_none() {
    let token = Token::new();
    token.print(&["keys", "new"]);
    token.in_process("files_again_once_the_token_is_back");
}

#[test]
#[ignore = "run by the tests of this file"]
fn files_again_once_the_token_is_back() {
    let (mut store, dir) = open_store();
    let first = filing::file(&mut store, 1);
    fs::rename(dir.join("tokens"), dir.join("away")).unwrap();
    let gone = filing::revision(&first, CaseState::Withdrawn, 90_000, "gone");
    let error = store.revise(&gone, &filing::form()).unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{error}");
    assert!(error.to_string().contains("token"), "{error}");
    assert!(store.signed_chain_head("box", filing::at(90_001)).is_err());
    fs::rename(dir.join("away"), dir.join("tokens")).unwrap();
    store.revise(&gone, &filing::form()).unwrap();
    assert!(store.signed_chain_head("box", filing::at(90_002)).unwrap().is_some());
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let token = Token::new();
    token.0.set_pin("314159");
    let message = token.error(&["keys", "new"]);
    assert!(
        message.contains("rejected the PIN") && !message.contains("314159"),
        "{message}"
    );
    // Not tried, or it would be accepted.
    token.0.set_pin(PIN);
    let message = token.error(&["keys", "new"]);
    let marker = token.state().join("keys/pin-rejected");
    assert!(
        message.contains(&format!("then delete {}", marker.display())),
        "{message}"
    );
    fs::remove_file(marker).unwrap();
    token.print(&["keys", "new"]);
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    let token = Token::new();
    let uri = token.0.uri("box");
    for (uri, parts) in [
        (
            uri.replace("token=gridwatch", "token=other"),
            ["no token matches pkcs11:token=other", "connected tokens: \"gridwatch\""],
        ),
        (
            uri.replace(MODULE, "/nowhere/module.so"),
            [
                "cannot load the PKCS#11 module /nowhere/module.so",
                "correct module-path",
            ],
        ),
        (
            uri.replace(MODULE, "/etc/passwd"),
            ["cannot load the PKCS#11 module /etc/passwd", "correct module-path"],
        ),
        (uri.replace("/pin", "/no-pin"), ["cannot read", "no-pin"]),
    ] {
        token.configure_uri(Some(uri));
        let message = token.error(&["keys", "new"]);
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    token.configure(Some("box"));
    let message = token.error(&["keys", "show"]);
    assert!(
        message.contains("no private key") && message.contains("gridwatch keys new"),
        "{message}"
    );
    fs::set_permissions(token.path("pin"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(token.error(&["keys", "new"]).contains("chmod 600"));
    token.configure_uri(Some(token.0.uri("box").replace("pin-source=file:", "pin-value=")));
    assert!(
        token.error(&["check"]).contains("pin-value")
            || token.run(&["check"]).stdout.windows(9).any(|w| w == b"pin-value")
    );
}
