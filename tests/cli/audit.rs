//! The audit log: every command that changes something is recorded in the chain, and nobody can make it say something else.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use clap::CommandFactory;
use gridwatch_custody::{
    keys::{KeyRing, OriginalsKey},
    vault::{OriginalFormat, Vault},
};
use gridwatch_store::Store;
use serde_json::Value;

use crate::filing;

/// Commands that change nothing on the box and take nothing from it that is encrypted there or that only the box has. Those that write files
/// write what they were given, or what a camera shows to anyone with its password.
const READ_ONLY: [&str; 43] = [
    "audit",
    "boxes list",
    "calibrate",
    "camera probe",
    "cases list",
    "cases show",
    "check",
    "config diff",
    "config history",
    "config show",
    "crashes list",
    "decode-worker",
    "detect",
    "discover",
    "eval",
    "evidence mask",
    "evidence verify",
    "init",
    "keys show",
    "ledger places",
    "ledger what-if",
    "ledger why-not",
    "model bench",
    "model check",
    "model compare",
    "model draft",
    "model inspect",
    "model keygen",
    "model list",
    "model record",
    "model sign",
    "ocr",
    "outbox list",
    "outbox show",
    "replay",
    "schema",
    "signs list",
    "snapshot",
    "try",
    "tune",
    "users list",
    "users token list",
    "view list",
];

/// The commands that are recorded, with arguments that the sample box lets them run with, or refuse or fail for.
const RECORDED: [(&str, &[&str]); 30] = [
    (
        "boxes confirm",
        &[
            "box-2",
            "--key",
            "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=",
            "--state",
            "STATE",
        ],
    ),
    ("boxes remove", &["box-2", "--state", "STATE"]),
    ("cases export", &["CASE", "--out", "OUT/cases", "--state", "STATE"]),
    ("config restore", &["1", "--config", "CONFIG"]),
    (
        "crashes export",
        &["0123456789abcdef", "--out", "OUT/crash.h264", "--config", "CONFIG"],
    ),
    ("keys rotate", &["--state", "STATE"]),
    ("keys new", &["--state", "STATE"]),
    (
        "ledger export",
        &["--labelled", "--out", "OUT/ledger", "--config", "CONFIG"],
    ),
    ("model install", &["OUT/none.tar", "--config", "CONFIG"]),
    ("model use", &["garbage_nano_416@9.9.9", "--config", "CONFIG"]),
    ("model rollback", &["garbage_nano_416", "--config", "CONFIG"]),
    ("model shadow", &["garbage_nano_416@9.9.9", "--config", "CONFIG"]),
    ("reload", &["--config", "CONFIG", "--state", "STATE"]),
    ("outbox export", &["--out", "OUT/outbox", "--state", "STATE"]),
    ("outbox resend", &["--since", "2026-05-01", "--config", "CONFIG"]),
    ("outbox retry", &["CASE", "--state", "STATE"]),
    (
        "signs record",
        &["gate", "--config", "CONFIG", "--pictures", "OUT/none.jpg"],
    ),
    ("support-bundle", &["--out", "OUT/support.tar.gz", "--config", "CONFIG"]),
    ("take-over", &["--state", "STATE"]),
    // Without a password on standard input.
    ("users add", &["wang", "--role", "admin", "--config", "CONFIG"]),
    ("users passwd", &["wang", "--state", "STATE"]),
    ("users role", &["wang", "operator", "--state", "STATE"]),
    ("users remove", &["wang", "--state", "STATE"]),
    (
        "users token add",
        &["dashboard", "--role", "viewer", "--state", "STATE"],
    ),
    ("users token remove", &["dashboard", "--state", "STATE"]),
    (
        "view absorb",
        &["gate", "--box", "0.1,0.1,0.3,0.3", "--wait", "0", "--config", "CONFIG"],
    ),
    ("view confirm", &["gate", "--wait", "0", "--config", "CONFIG"]),
    (
        "view show",
        &["gate", "--out", "OUT/view.png", "--wait", "0", "--config", "CONFIG"],
    ),
    // These replace the database, so they come last.
    ("store backup", &["--out", "OUT/backup.db", "--state", "STATE"]),
    ("store rebuild", &["--state", "STATE"]),
];

/// The same, each of which begins another database.
const RECOVERING: [(&str, &[&str]); 2] = [
    ("store restore", &["OUT/backup.db", "--state", "STATE"]),
    ("store new", &["--state", "STATE"]),
];

/// The daemon records what it does itself: a test of the daemon covers it.
const DAEMON: &str = "run";

struct SampleBox {
    dir: tempfile::TempDir,
    case: String,
}

impl SampleBox {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = fs::read_to_string("tests/golden/good.toml").unwrap();
        let text = text.replace("@ROOT@", env!("CARGO_MANIFEST_DIR"));
        fs::write(dir.path().join("edge.toml"), text).unwrap();
        let secret = dir.path().join("gate.secret");
        fs::write(&secret, "user:password").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        let mut store = Store::open(&dir.path().join("state")).unwrap();
        let case = filing::file(&mut store, 1);
        Self { dir, case }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn command(&self, command: &str, arguments: &[&str]) -> Command {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let filled = arguments.iter().map(|argument| match *argument {
            "CASE" => self.case.clone(),
            "STATE" => path("state"),
            "CONFIG" => path("edge.toml"),
            other => other.replace("OUT", &path("out")),
        });
        let mut gridwatch = Command::new(env!("CARGO_BIN_EXE_gridwatch"));
        gridwatch
            .args(command.split(' '))
            .args(filled)
            .env_remove("GRIDWATCH_STATE")
            .env_remove("GRIDWATCH_CONFIG");
        gridwatch
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        self.command(command, arguments).output().unwrap()
    }

    /// Exit code of `audit`, and what it printed to standard output.
    fn audit(&self, more: &[&str]) -> (Option<i32>, String) {
        let output = self.run("audit", &[&["--state", "STATE"], more].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    fn acts(&self, more: &[&str]) -> Vec<Value> {
        let (code, text) = self.audit(&[&["--json"], more].concat());
        assert_eq!(code, Some(0), "{text}");
        let acts = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        // Without the key that the chain begins with.
        acts.filter(|act| act.get("who").is_some()).collect()
    }

    fn newest(&self) -> Value {
        self.acts(&[]).pop().expect("an act")
    }
}

fn leaves(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
    let mut is_leaf = true;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        is_leaf = false;
        leaves(sub, format!("{path} {}", sub.get_name()).trim(), found);
    }
    if is_leaf {
        found.insert(path.to_owned());
    }
}

#[test]
fn every_command_that_changes_something_is_recorded() {
    let mut commands = BTreeSet::new();
    leaves(&gridwatch::cli::Cli::command(), "", &mut commands);
    let recorded: Vec<_> = RECORDED.into_iter().chain(RECOVERING).collect();
    for command in &commands {
        assert!(
            command == DAEMON
                || READ_ONLY.contains(&command.as_str())
                || recorded.iter().any(|(name, _)| name == command),
            "`gridwatch {command}` is new: does it change something? Then run it through `audited` and add it to RECORDED, else to READ_ONLY"
        );
    }
    // The build with all features has all of them.
    #[cfg(all(feature = "gst", feature = "ort"))]
    for command in READ_ONLY.iter().chain(recorded.iter().map(|(name, _)| name)) {
        assert!(
            commands.contains(*command),
            "`gridwatch {command}` is listed here, but is no command"
        );
    }
    let own = SampleBox::new();
    for (command, arguments) in recorded.into_iter().filter(|(name, _)| commands.contains(*name)) {
        let before = own.acts(&[]).len();
        let output = own.run(command, arguments);
        assert_ne!(output.status.code(), Some(2), "{command}: {output:?}");
        let acts = own.acts(&[]);
        let act = acts.last().unwrap_or_else(|| panic!("{command}: {output:?}"));
        assert_eq!(act["act"], command, "{output:?}");
        let result = act["result"].as_str().unwrap();
        assert_eq!(output.status.success(), result == "done", "{act}: {output:?}");
        assert_eq!(act.get("error").is_some(), result != "done", "{act}");
        if !command.starts_with("store") {
            assert_eq!(acts.len(), before + 1, "{command}");
        }
    }
}

#[test]
fn acts_are_found_by_case_person_and_time() {
    let own = SampleBox::new();
    assert!(
        own.run("cases export", &["CASE", "--out", "OUT", "--state", "STATE"])
            .status
            .success()
    );
    let again = own.run("cases export", &["CASE", "--out", "OUT", "--state", "STATE"]);
    assert_eq!(again.status.code(), Some(3), "the folder is there");
    own.run("outbox retry", &["--state", "STATE"]);
    let count = |more: &[&str]| own.acts(more).len();
    assert_eq!((count(&[]), count(&["--case", "CASE"])), (3, 2));
    let acts = own.acts(&["--case", "CASE"]);
    assert_eq!(
        (&acts[0]["result"], &acts[1]["result"]),
        (&"done".into(), &"refused".into())
    );
    assert!(
        acts[1]["error"].as_str().unwrap().contains("exists already"),
        "{acts:?}"
    );
    let uid = acts[0]["who"]["uid"].to_string();
    assert_eq!(
        (count(&["--who", &uid]), count(&["--who", "nobody-of-this-name"])),
        (3, 0)
    );
    let at = acts[1]["at"].as_str().unwrap();
    assert_eq!((count(&["--since", at]), count(&["--until", at])), (2, 1));
    assert_eq!(count(&["--since", "2199-01-01"]), 0);
    assert_eq!(own.run("audit", &["--since", "yesterday"]).status.code(), Some(2));
}

#[test]
fn a_forged_sudo_user_is_not_recorded() {
    let own = SampleBox::new();
    let mut command = own.command("outbox retry", &["--state", "STATE"]);
    command.envs([
        ("SUDO_USER", "mallory"),
        ("SUDO_UID", "4711"),
        ("USER", "mallory"),
        ("LOGNAME", "mallory"),
    ]);
    assert!(command.output().unwrap().status.success());
    let act = own.newest();
    assert!(
        !act.to_string().contains("mallory") && !act.to_string().contains("4711"),
        "{act}"
    );
    let uid = fs::metadata("/proc/self").map(|process| std::os::unix::fs::MetadataExt::uid(&process));
    assert_eq!(act["who"]["uid"], uid.unwrap());
}

#[test]
fn hostile_texts_are_bounded_kept_as_data_and_escaped_when_shown() {
    let own = SampleBox::new();
    let hostile = "\u{1b}]0;owned\u{7}\n       9  2026-05-01  root  keys rotate\u{202e}";
    own.run(
        "cases export",
        &[
            "CASE",
            "--out",
            "OUT",
            "--originals",
            "--reason",
            hostile,
            "--state",
            "STATE",
        ],
    );
    let opened = own.acts(&["--case", "CASE"]);
    assert_eq!(
        (&opened[0]["act"], &opened[0]["reason"]),
        (&"originals opened".into(), &hostile.into())
    );
    let (code, text) = own.audit(&[]);
    assert_eq!(
        (code, text.lines().count()),
        (Some(0), 4),
        "title, begun, opened, exported: {text}"
    );
    assert!(
        !text.contains(['\u{1b}', '\u{7}', '\u{202e}']) && text.contains("\\u001b]0;owned\\u0007\\u000a"),
        "{text}"
    );

    // A reason that nobody can read is refused before anything is opened.
    let long = "x".repeat(100_000);
    for (reason, fault) in [(long.as_str(), "give at most 1000"), ("  ", "give a reason")] {
        let export = [
            "CASE",
            "--out",
            "OUT/again",
            "--originals",
            "--reason",
            reason,
            "--state",
            "STATE",
        ];
        let output = own.run("cases export", &export);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr).unwrap().contains(fault));
    }
    // Whatever else a person types is cut.
    let size = || fs::metadata(own.state().join("gridwatch.db")).unwrap().len();
    let before = size();
    own.run("outbox retry", &[&long, "--state", "STATE"]);
    let act = own.newest();
    assert!(
        act["what"]["case"].as_str().unwrap().ends_with("(100000 bytes)"),
        "{act}"
    );
    assert!(size() < before + 50_000);
}

#[test]
fn a_changed_chain_is_named_line_by_line() {
    let own = SampleBox::new();
    own.run("outbox retry", &["--state", "STATE"]);
    own.run("take-over", &["--state", "STATE"]);
    assert_eq!(own.audit(&[]).0, Some(0));
    let pristine = fs::read(own.state().join("gridwatch.db")).unwrap();
    for (change, fault) in [
        (
            "UPDATE chain SET details = replace(details, '\"uid\":', '\"uid\":4') WHERE seq = 2",
            "was changed",
        ),
        ("UPDATE chain SET details = NULL WHERE seq = 2", "are missing"),
        (
            "UPDATE chain SET event = replace(event, 'outbox retry', 'nothing at all') WHERE seq = 2",
            "the event was changed",
        ),
        ("UPDATE chain SET event = NULL WHERE seq = 2", "the event is missing"),
        (
            "UPDATE chain SET line = replace(line, '\"at\":\"2', '\"at\":\"1') WHERE seq = 2",
            "is not the one that was stored",
        ),
        ("DELETE FROM chain WHERE seq = 2", "1 entries are missing before it"),
        ("DELETE FROM chain WHERE seq = 0", "1 entries are missing before it"),
        (
            "UPDATE chain SET line = 'nothing' WHERE seq = 2",
            "not an entry of the chain",
        ),
    ] {
        fs::write(own.state().join("gridwatch.db"), &pristine).unwrap();
        let db = rusqlite::Connection::open(own.state().join("gridwatch.db")).unwrap();
        assert_eq!(db.execute(change, []).unwrap(), 1, "{change}");
        drop(db);
        // Whatever is asked for.
        let (code, text) = own.audit(&["--who", "nobody-of-this-name"]);
        assert_eq!(code, Some(1), "{change}: {text}");
        assert!(text.contains("WRONG: ") && text.contains(fault), "{change}: {text}");
    }
}

/// As a person's command of a new version finds it beside the daemon of the old one; so it is with any database that cannot be written.
#[test]
fn what_cannot_be_recorded_is_done_with_a_warning_but_no_original_is_opened() {
    let own = SampleBox::new();
    let key = KeyRing::of(&own.state()).originals(&OriginalsKey::Own).unwrap();
    let original = Vault::new(&own.state(), key)
        .put(OriginalFormat::Png, b"street")
        .unwrap();
    let db = rusqlite::Connection::open(own.state().join("gridwatch.db")).unwrap();
    let row = "INSERT INTO originals (case_id, sha256, bytes, captured_at) VALUES (?1, ?2, 6, 0)";
    db.execute(row, [&own.case, &original]).unwrap();
    db.pragma_update(None, "user_version", 4).unwrap();
    db.execute_batch("UPDATE chain SET line = line; ALTER TABLE chain RENAME COLUMN event TO event_later")
        .unwrap();
    drop(db);
    let output = own.run("outbox export", &["--out", "OUT/outbox", "--state", "STATE"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{message}");
    assert!(
        message.contains("warning: this act is not in the audit log") && message.contains("restart the daemon"),
        "{message}"
    );

    let originals = [
        "CASE",
        "--out",
        "OUT",
        "--originals",
        "--reason",
        "complaint",
        "--state",
        "STATE",
    ];
    let output = own.run("cases export", &originals);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(!own.dir.path().join("out").join(&own.case).exists());
}

#[test]
fn the_chain_goes_on_where_an_older_version_ended() {
    let own = SampleBox::new();
    let old = "{\"seq\":0,\"at\":\"2026-05-01T00:00:00Z\",\"kind\":\"opened\",\"case_id\":\"01JW\",\"sha256\":[],\"by\":\"uid 1000\",\
               \"reason\":\"old reason\",\"prev\":\"PREV\"}";
    let db = rusqlite::Connection::open(own.state().join("gridwatch.db")).unwrap();
    let old = old.replace("PREV", gridwatch_custody::chain::START);
    db.execute("DELETE FROM chain", []).unwrap();
    let hash = gridwatch_base::digest::sha256_hex(old.as_bytes());
    db.execute(
        "INSERT INTO chain (seq, line, hash, case_id) VALUES (0, ?1, ?2, '01JW')",
        [&old, &hash],
    )
    .unwrap();
    drop(db);
    assert!(own.run("outbox retry", &["--state", "STATE"]).status.success());
    let (code, text) = own.audit(&["--who", "1000"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("uid 1000") && text.contains("reason: old reason"),
        "{text}"
    );
}
