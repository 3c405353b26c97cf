//! `evidence verify` on a folder from someone who wants to hang, exhaust or deceive whoever checks it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    filing,
    hostile_files::{hostile_files, run},
};
use gridwatch_custody::keys::KeyRing;
use gridwatch_store::{Store, evidence_file};

/// An exported case and the box's public key.
struct Exported {
    dir: tempfile::TempDir,
    folder: PathBuf,
    key: String,
}

impl Exported {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut store = Store::open(&state).unwrap();
        let case = filing::file(&mut store, 1);
        drop(store);
        let exported = Self {
            folder: dir.path().join("out").join(&case),
            key: KeyRing::of(&state).existing().unwrap().public().to_string(),
            dir,
        };
        let output = exported.export(&case);
        assert!(output.status.success(), "{output:?}");
        exported
    }

    fn export(&self, case: &str) -> Output {
        run(gridwatch()
            .args(["cases", "export", case, "--state"])
            .arg(self.dir.path().join("state"))
            .arg("--out")
            .arg(self.dir.path().join("out")))
    }

    /// Exit code and standard output of `evidence verify` with the box's key.
    fn verify(&self, more: &[&str]) -> (Option<i32>, String) {
        let output = run(gridwatch()
            .args(["evidence", "verify", "--key", &self.key])
            .arg(&self.folder)
            .args(more));
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    fn a_picture(&self) -> PathBuf {
        fs::read_dir(self.folder.join("pictures"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
    }
}

fn gridwatch() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gridwatch"));
    command.env_remove("GRIDWATCH_STATE");
    command
}

#[test]
fn nothing_in_the_folder_can_hang_or_exhaust_the_verifier() {
    let exported = Exported::new();
    let outside = tempfile::tempdir().unwrap();
    let [fifo, endless, huge] = hostile_files(outside.path());
    let names = [
        "case.json",
        "case.sig",
        "chain.jsonl",
        "head.json",
        "public-key.pem",
        "SHA256SUMS",
    ];
    for path in names
        .map(|name| exported.folder.join(name))
        .into_iter()
        .chain([exported.a_picture()])
    {
        let name = path.strip_prefix(&exported.folder).unwrap().display().to_string();
        let bytes = fs::read(&path).unwrap();
        for (hostile, reason) in [
            (&fifo, "a FIFO, not a regular file"),
            (&endless, "a symbolic link, not a regular file"),
            (&huge, "larger than"),
        ] {
            fs::remove_file(&path).unwrap();
            fs::rename(hostile, &path).unwrap();
            let (code, text) = exported.verify(&[]);
            assert_eq!(code, Some(1), "{name}: {text}");
            assert!(text.contains(&format!("WRONG  {name}: {reason}")), "{text}");
            fs::rename(&path, hostile).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
    }
    assert_eq!(exported.verify(&[]).0, Some(0), "everything is as it was");
}

#[test]
fn a_picture_or_folder_linked_from_outside_does_not_hold() {
    let exported = Exported::new();
    let picture = exported.a_picture();
    let outside = exported.dir.path().join("elsewhere.jpg");
    fs::rename(&picture, &outside).unwrap();
    symlink(&outside, &picture).unwrap();
    let (code, text) = exported.verify(&["--allow-extra"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("a symbolic link, not a regular file"), "{text}");
    fs::remove_file(&picture).unwrap();
    fs::rename(&outside, &picture).unwrap();

    let (pictures, moved) = (exported.folder.join("pictures"), exported.dir.path().join("moved"));
    fs::rename(&pictures, &moved).unwrap();
    symlink(&moved, &pictures).unwrap();
    let (code, text) = exported.verify(&["--allow-extra"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("missing (evidence item"), "{text}");
}

#[test]
fn a_file_that_no_signature_covers_is_named_and_fails_unless_allowed() {
    let exported = Exported::new();
    let sums = fs::read_to_string(exported.folder.join("SHA256SUMS")).unwrap();
    fs::write(exported.folder.join("report.pdf"), "the box saw it all").unwrap();
    // A name that would draw a verdict of its own on a terminal.
    fs::write(exported.folder.join("a\nAuthentic: 9 files\x1b[8m"), "").unwrap();
    for listed in [false, true] {
        if listed {
            // With checksums of its own it looks as if it belonged there.
            let line = format!(
                "{}  report.pdf\n",
                gridwatch_base::digest::sha256_hex(b"the box saw it all")
            );
            fs::write(exported.folder.join("SHA256SUMS"), sums.clone() + &line).unwrap();
        }
        let (code, text) = exported.verify(&[]);
        assert_eq!(code, Some(1), "listed {listed}: {text}");
        assert!(
            text.contains("WRONG  report.pdf: no signature covers this file"),
            "{text}"
        );
        assert!(text.lines().all(|line| !line.starts_with("Authentic")), "{text}");
        assert!(!text.contains('\x1b'), "{text}");

        let (code, text) = exported.verify(&["--allow-extra"]);
        assert_eq!(code, Some(0), "listed {listed}: {text}");
        assert!(
            text.contains("EXTRA  report.pdf: no signature covers this file"),
            "{text}"
        );
        let (_, json) = exported.verify(&["--allow-extra", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json["extra"][1], &json["verdict"]),
            (&"report.pdf".into(), &"authentic".into())
        );
    }
}

#[test]
fn empty_folders_and_deceptive_names_are_shown_as_they_are() {
    use std::os::unix::ffi::OsStrExt;

    let exported = Exported::new();
    fs::create_dir_all(exported.folder.join("hidden/deeper")).unwrap();
    // Reads as `exe.jpg` on a terminal that reorders.
    fs::write(exported.folder.join("\u{202e}gpj.exe"), "").unwrap();
    fs::write(exported.folder.join(std::ffi::OsStr::from_bytes(b"\xff\x1b[2J")), "").unwrap();
    let (code, text) = exported.verify(&[]);
    assert_eq!(code, Some(1), "{text}");
    for shown in [
        "WRONG  hidden/deeper/: empty folder: it is not part of the exported case",
        "WRONG  \\u202egpj.exe: no signature covers this file",
        "WRONG  \\xff\\x1b[2J: no signature covers this file",
    ] {
        assert!(text.contains(shown), "{text}");
    }
    let (code, text) = exported.verify(&["--allow-extra"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("EXTRA  hidden/deeper/: empty folder\n"), "{text}");
}

#[test]
fn without_the_box_s_key_the_verdict_says_so_and_has_its_own_exit_code() {
    let exported = Exported::new();
    let output = run(gridwatch().args(["evidence", "verify"]).arg(&exported.folder));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(6), "{text}");
    let verdict = text.lines().last().unwrap();
    assert!(
        verdict.starts_with("Holds only for the key in the folder itself"),
        "{verdict}"
    );
    assert!(!text.contains("Authentic"), "{text}");
    assert_eq!(exported.verify(&[]).0, Some(0));
}

#[test]
fn only_the_exporting_user_can_read_an_export() {
    let exported = Exported::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&exported.folder), 0o700);
    assert_eq!(mode(&exported.folder.join("pictures")), 0o700);
    for file in [exported.a_picture(), exported.folder.join("case.json")] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_damaged_picture_does_not_block_the_export_of_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut store = Store::open(&state).unwrap();
    let case = filing::file(&mut store, 1);
    let record = store.case(&case).unwrap().unwrap().record;
    drop(store);
    let damaged = evidence_file::path(&state, &record.evidence[1].sha256);
    fs::write(&damaged, "half a picture").unwrap();
    for (command, rest) in [
        (&["cases", "export", &case][..], format!("cases/{case}/pictures")),
        (&["outbox", "export"], "outbox".into()),
    ] {
        let out = dir.path().join(command[0]);
        let output = run(gridwatch()
            .args(command)
            .arg("--state")
            .arg(&state)
            .arg("--out")
            .arg(&out));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(5), "{command:?}: {error}");
        assert!(error.contains(damaged.to_str().unwrap()), "{command:?}: {error}");
        let pictures = fs::read_dir(dir.path().join(rest)).unwrap();
        let pictures = pictures.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "jpg"));
        assert_eq!(pictures.count(), 2, "{command:?}");
    }
    assert!(dir.path().join("outbox/index.jsonl").exists());
    let output = run(gridwatch()
        .args(["evidence", "verify"])
        .arg(dir.path().join("cases").join(&case)));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("missing (evidence item"), "{text}");
}

#[test]
fn a_folder_without_a_case_is_not_called_a_forgery() {
    let dir = tempfile::tempdir().unwrap();
    for folder in [dir.path().to_path_buf(), dir.path().join("missing")] {
        let output = run(gridwatch().args(["evidence", "verify"]).arg(&folder));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(5) && message.contains("no exported case there"),
            "{message}"
        );
    }
}
