//! `gridwatch users`: the console's users and the tokens of programs, without the daemon.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt, fs::PermissionsExt, process::ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use gridwatch_store::Store;
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};
use serde_json::Value;

const PASSWORD: &str = "correct horse battery";

/// A state directory, which does not exist at first.
struct Users {
    dir: tempfile::TempDir,
}

impl Users {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// With the daemon's database and the administrator wang.
    fn with_admin() -> Self {
        let users = Self::new();
        drop(Store::open(&users.state()).unwrap());
        let (code, _, error) = users.run(&["add", "wang", "--role", "admin"], PASSWORD);
        assert_eq!(code, 0, "{error}");
        users
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gridwatch"));
        command
            .args(arguments)
            .arg("--state")
            .arg(self.state())
            .env_remove("GRIDWATCH_STATE")
            .env_remove("GRIDWATCH_CONFIG");
        command
    }

    /// Exit code, standard output and standard error of `gridwatch users …` with `input` and a line end on standard input.
    fn run(&self, arguments: &[&str], input: &str) -> (i32, String, String) {
        self.run_any(&[&["users"], arguments].concat(), &format!("{input}\n"))
    }

    fn run_any(&self, arguments: &[&str], input: &str) -> (i32, String, String) {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that asks for nothing may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn listed(&self, what: &[&str]) -> Vec<Value> {
        let (code, text, error) = self.run(&[what, &["--json"]].concat(), "");
        assert_eq!(code, 0, "{error}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn file(&self) -> String {
        fs::read_to_string(self.state().join("console/users.json")).unwrap()
    }
}

#[test]
fn users_added_before_the_first_start_make_a_state_directory_that_all_commands_take() {
    let users = Users::new();
    let (code, out, error) = users.run(&["add", "wang", "--role", "admin"], PASSWORD);
    assert_eq!((code, out.as_str()), (0, ""), "{error}");
    for part in [
        "is new: the daemon must have it",
        "begins with the daemon's first start",
        "wang is admin",
        "must log in",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let mode = |path: &str| fs::metadata(users.state().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(""), mode("console"), mode("console/users.json")),
        (0o700, 0o700, 0o600)
    );
    let (code, _, error) = users.run_any(&["take-over"], "");
    assert_eq!(code, 0, "{error}");
    fs::remove_dir_all(users.state()).unwrap();

    let (code, _, error) = users.run(&["add", "wang", "--role", "admin"], PASSWORD);
    assert_eq!(code, 0, "{error}");
    drop(Store::open(&users.state()).unwrap());
    assert_eq!(users.listed(&["list"])[0]["name"], "wang");
    let (code, _, error) = users.run(&["add", "li", "--role", "viewer"], PASSWORD);
    assert!(code == 0 && !error.contains("warning"), "{error}");
}

#[test]
fn users_and_tokens_are_added_listed_changed_and_removed() {
    let users = Users::with_admin();
    let (code, _, error) = users.run(
        &[
            "add",
            "zhao",
            "--role",
            "viewer",
            "--groups",
            "east,market",
            "--no-password",
        ],
        "",
    );
    assert_eq!(code, 0, "{error}");
    let listed = users.listed(&["list"]);
    assert_eq!(
        (&listed[0]["role"], &listed[0]["has_password"]),
        (&"admin".into(), &true.into())
    );
    assert_eq!(
        (&listed[1]["groups"], &listed[1]["has_password"]),
        (&serde_json::json!(["east", "market"]), &false.into())
    );
    let keys: Vec<&String> = listed[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["added_at", "groups", "has_password", "name", "role"]);
    let (_, table, _) = users.run(&["list"], "");
    assert!(
        table.lines().count() == 3 && table.contains("all cameras") && table.contains("east,market"),
        "{table}"
    );

    // Without --groups they stay.
    let groups = |users: &Users| users.listed(&["list"])[1]["groups"].clone();
    assert_eq!(users.run(&["role", "zhao", "operator"], "").0, 0);
    assert_eq!(
        (users.listed(&["list"])[1]["role"].clone(), groups(&users)),
        ("operator".into(), serde_json::json!(["east", "market"]))
    );
    assert_eq!(users.run(&["role", "zhao", "operator", "--groups", ""], "").0, 0);
    assert_eq!(groups(&users), serde_json::json!([]));

    let before = users.file();
    assert_eq!(users.run(&["passwd", "wang"], "another long password").0, 0);
    assert_ne!(users.file(), before);

    let (code, token, note) = users.run(&["token", "add", "dashboard", "--role", "viewer", "--days", "30"], "");
    assert_eq!(code, 0, "{note}");
    assert!(token.starts_with("gw_") && token.lines().count() == 1, "{token}");
    assert!(!note.contains("gw_") && !users.file().contains(token.trim()), "{note}");
    let tokens = users.listed(&["token", "list"]);
    assert_eq!(tokens[0]["name"], "dashboard");
    assert!(tokens[0]["expires_at"].is_string() && tokens[0].get("sha256").is_none());
    assert!(users.run(&["token", "list"], "").1.contains("dashboard"));
    assert_eq!(users.run(&["token", "remove", "dashboard"], "").0, 0);
    assert!(users.listed(&["token", "list"]).is_empty());

    assert_eq!(users.run(&["remove", "zhao"], "").0, 0);
    let (code, _, note) = users.run(&["remove", "wang"], "");
    assert!(code == 0 && note.contains("No users are left"), "{note}");
    assert!(users.listed(&["list"]).is_empty());
}

#[test]
fn what_is_refused_says_why_and_changes_nothing() {
    let users = Users::with_admin();
    let before = users.file();
    let long = "x".repeat(2000);
    for (arguments, input, code, reason) in [
        (
            &["add", "li", "--role", "king"][..],
            PASSWORD,
            2,
            "viewer, operator or admin",
        ),
        (&["add", "li"], PASSWORD, 2, "--role"),
        (
            &["add", "li", PASSWORD, "--role", "viewer"],
            "",
            2,
            "unexpected argument",
        ),
        (&["add", "li", "--role", "viewer"], "", 3, "no password"),
        (&["add", "li", "--role", "viewer"], "short", 3, "10 to 256 characters"),
        (&["add", "li", "--role", "viewer"], &long, 3, "10 to 256 characters"),
        (&["add", "a b", "--role", "viewer"], PASSWORD, 3, "not a name"),
        (&["add", "Wang", "--role", "viewer"], PASSWORD, 3, "already"),
        (&["add", "wang", "--role", "viewer"], "", 3, "already"),
        (
            &["add", "li", "--role", "viewer", "--groups", "a b"],
            PASSWORD,
            3,
            "not a group",
        ),
        (&["passwd", "li"], PASSWORD, 3, "no user with the name \"li\""),
        (&["role", "wang", "viewer"], "", 3, "only administrator"),
        (&["remove", "li"], "", 3, "no user"),
        (&["token", "add", "wang", "--role", "viewer"], "", 3, "already"),
        (
            &["token", "add", "x", "--role", "viewer", "--days", "0"],
            "",
            2,
            "1..=3650",
        ),
        (&["token", "remove", "x"], "", 3, "no user or token"),
    ] {
        let (found, out, error) = users.run(arguments, input);
        assert_eq!((found, out.as_str()), (code, ""), "{arguments:?}: {error}");
        assert!(error.contains(reason), "{arguments:?}: {error}");
        // The usage error repeats what was typed as an argument.
        assert!(code == 2 || !error.contains(PASSWORD), "{error}");
    }
    assert_eq!(users.file(), before);

    let other = Users::new();
    fs::create_dir(other.state()).unwrap();
    fs::write(other.state().join("photo.jpg"), "").unwrap();
    for arguments in [
        &["add", "wang", "--role", "admin"][..],
        &["list"],
        &["passwd", "wang"],
        &["token", "list"],
        &["token", "add", "x", "--role", "viewer"],
    ] {
        let (code, _, error) = other.run(arguments, PASSWORD);
        assert!(
            code == 3 && error.contains("not a state directory"),
            "{arguments:?}: {error}"
        );
    }
    assert_eq!(fs::read_dir(other.state()).unwrap().count(), 1);

    let first = Users::new();
    for more in [&["--role", "operator"][..], &["--role", "admin", "--no-password"]] {
        let (code, _, error) = first.run(&[&["add", "wang"], more].concat(), PASSWORD);
        assert!(code == 3 && error.contains("first user"), "{error}");
    }
}

#[test]
fn a_damaged_file_is_named_and_kept() {
    let users = Users::with_admin();
    let path = users.state().join("console/users.json");
    fs::write(&path, "{\"version\":1,\"users\":[{\"hash\":\"$argon2id$secret\"}]}").unwrap();
    for arguments in [&["list"][..], &["passwd", "wang"], &["remove", "wang"]] {
        let (code, _, error) = users.run(arguments, PASSWORD);
        assert!(
            code == 5 && error.contains("users.json") && !error.contains("$argon2id$"),
            "{error}"
        );
    }
    assert!(users.file().contains("$argon2id$secret"));
}

#[test]
fn acts_are_recorded_without_passwords_and_tokens() {
    let users = Users::with_admin();
    let (_, token, _) = users.run(&["token", "add", "dashboard", "--role", "viewer"], "");
    users.run(&["passwd", "wang"], "another long password");
    users.run(&["add", "li", "--role", "viewer"], "tiny one");
    let (code, acts, _) = users.run_any(&["audit", "--json"], "");
    assert_eq!(code, 0);
    let acts: Vec<Value> = acts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = acts
        .iter()
        .filter_map(|act| Some((act["act"].as_str()?, act["result"].as_str()?, act["what"].to_string())))
        .collect();
    let names: Vec<_> = found.iter().map(|(name, result, _)| (*name, *result)).collect();
    assert_eq!(
        names,
        [
            ("users add", "done"),
            ("users token add", "done"),
            ("users passwd", "done"),
            ("users add", "refused")
        ]
    );
    assert!(found[0].2.contains("wang") && found[0].2.contains("admin"), "{found:?}");
    let mut stored = Vec::new();
    for entry in fs::read_dir(users.state()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            stored.extend(fs::read(path).unwrap());
        }
    }
    let stored = String::from_utf8_lossy(&stored);
    for secret in [
        PASSWORD,
        "another long password",
        "tiny one",
        token.trim(),
        "$argon2id$",
    ] {
        assert!(!stored.contains(secret), "{secret}");
    }
}

/// The command at a terminal of its own.
struct AtTerminal {
    terminal: File,
    child: Child,
    stderr: ChildStderr,
    /// What the command wrote to standard error.
    written: String,
}

impl AtTerminal {
    fn start(users: &Users, arguments: &[&str]) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let other_end = File::options()
            .read(true)
            .write(true)
            .custom_flags(OpenptFlags::NOCTTY.bits().cast_signed())
            .open(name)
            .unwrap();
        let mut child = users
            .command(arguments)
            .stdin(OwnedFd::from(other_end))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            terminal: terminal.into(),
            stderr: child.stderr.take().unwrap(),
            child,
            written: String::new(),
        }
    }

    fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 256];
        while !self.written.contains(text) {
            let count = self.stderr.read(&mut bytes).unwrap();
            assert!(count > 0, "no {text:?} in: {}", self.written);
            self.written += &String::from_utf8_lossy(&bytes[..count]);
        }
    }

    fn type_line(&mut self, text: &str) {
        self.terminal.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    fn echoes(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap();
        modes.local_modes.contains(LocalModes::ECHO)
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until something holds, for as long as only a hang takes.
    fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(120);
        while !holds(self) {
            assert!(Instant::now() < end, "timed out: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_password_is_typed_twice_without_being_shown() {
    let users = Users::with_admin();
    for (again, code) in [("another one, mistyped", 3), ("another long one", 0)] {
        let mut terminal = AtTerminal::start(&users, &["users", "passwd", "wang"]);
        terminal.wait_for("New password of wang: ");
        assert!(!terminal.echoes());
        terminal.type_line("another long one");
        terminal.wait_for("The same again: ");
        assert!(!terminal.echoes());
        terminal.type_line(again);
        assert_eq!(terminal.child.wait().unwrap().code(), Some(code));
        assert!(terminal.echoes());
        terminal.stderr.read_to_string(&mut terminal.written).unwrap();
        assert!(!terminal.written.contains("another"), "{}", terminal.written);
        assert_eq!(terminal.written.contains("differ"), code == 3, "{}", terminal.written);
    }
}

#[test]
fn a_signal_at_the_prompt_ends_the_command_with_the_echo_on() {
    let users = Users::with_admin();
    let before = users.file();
    for (signal, number) in [(Signal::INT, 2), (Signal::TERM, 15), (Signal::HUP, 1)] {
        let mut terminal = AtTerminal::start(&users, &["users", "passwd", "wang"]);
        terminal.wait_for("New password of wang: ");
        assert!(!terminal.echoes());
        terminal.send(signal);
        assert_eq!(terminal.child.wait().unwrap().signal(), Some(number));
        assert!(terminal.echoes(), "{signal:?}");
    }
    assert_eq!(users.file(), before);

    // Ctrl-Z, and `fg`.
    let mut terminal = AtTerminal::start(&users, &["users", "passwd", "wang"]);
    terminal.wait_for("New password of wang: ");
    terminal.send(Signal::TSTP);
    terminal.wait_until("the echo is on while stopped", AtTerminal::echoes);
    terminal.send(Signal::CONT);
    terminal.wait_until("the echo is off again", |terminal| !terminal.echoes());
    terminal.send(Signal::INT);
    assert_eq!(terminal.child.wait().unwrap().signal(), Some(2));
    assert!(terminal.echoes());
}
