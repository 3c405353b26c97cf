//! The key of the originals is replaced, and the command may be killed at any moment.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use gridwatch_custody::{
    keys::{KeyRing, OriginalsKey},
    vault::{OriginalFormat, Vault, VaultKey},
};
use gridwatch_store::Store;

const ORIGINALS: u32 = 400;

/// A state directory with originals, a learned view and a candidate's first picture.
struct State {
    dir: tempfile::TempDir,
    originals: Vec<String>,
}

impl State {
    fn new(key: impl FnOnce(&Path) -> VaultKey) -> Self {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        let key = key(dir.path());
        let vault = Vault::new(dir.path(), key.clone());
        let originals = (0..ORIGINALS).map(|i| vault.put(OriginalFormat::H265, &i.to_be_bytes()).unwrap());
        let originals = originals.collect();
        for (folder, file, name) in [
            ("views", "gate.view", "view gate.view"),
            ("pinned", "gate@17", "gate@17"),
        ] {
            let path = dir.path().join(folder);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(file), key.seal_file(name, b"a street").unwrap()).unwrap();
        }
        Self { dir, originals }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn expect_readable(&self, key: &VaultKey) {
        let vault = Vault::new(self.path(), key.clone());
        for (i, sha256) in self.originals.iter().enumerate() {
            let content = (i as u32).to_be_bytes().to_vec();
            assert_eq!(vault.open(sha256).unwrap(), (OriginalFormat::H265, content));
        }
        let read = |path: &str| fs::read(self.path().join(path)).unwrap();
        assert_eq!(
            key.open_file("view gate.view", &read("views/gate.view")).unwrap(),
            b"a street"
        );
        assert_eq!(key.open_file("gate@17", &read("pinned/gate@17")).unwrap(), b"a street");
    }

    /// The files of the originals, each with its identity, which changes when it is written anew.
    fn files(&self) -> Vec<(PathBuf, u64)> {
        let folders = fs::read_dir(self.path().join("originals")).unwrap();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
        let paths = files.map(|file| file.unwrap().path());
        let identified = paths.filter_map(|path| {
            let inode = fs::metadata(&path).ok()?.ino();
            Some((path, inode))
        });
        identified
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "gwo"))
            .collect()
    }

    fn rotate(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gridwatch"));
        command.args(["keys", "rotate", "--originals"]).args(more);
        if !more.contains(&"--config") {
            command.arg("--state").arg(self.path());
        }
        command
            .env_remove("GRIDWATCH_STATE")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

#[test]
fn a_rotation_killed_while_it_writes_is_finished_by_the_next_one() {
    let state = State::new(|dir| KeyRing::of(dir).adopt_originals(&OriginalsKey::Own).unwrap());
    let ring = KeyRing::of(state.path());
    let first = ring.originals(&OriginalsKey::Own).unwrap();
    let mut interrupted = 0;
    for _ in 0..3 {
        let before = state.files();
        let mut child = state.rotate(&[]).spawn().unwrap();
        while child.try_wait().unwrap().is_none()
            && state.files().iter().filter(|file| !before.contains(file)).count() < 40
        {}
        // It may have ended; then the next one begins anew.
        let _ = child.kill();
        child.wait().unwrap();
        let key = ring.adopt_originals(&OriginalsKey::Own).unwrap();
        interrupted += u32::from(key.is_being_rotated());
        state.expect_readable(&key);
    }
    assert!(interrupted > 0, "killed too late each time");
    let output = state.rotate(&[]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let key = ring.adopt_originals(&OriginalsKey::Own).unwrap();
    assert!(!key.is_being_rotated());
    state.expect_readable(&key);
    let vault = Vault::new(state.path(), first);
    assert!(
        state.originals.iter().all(|sha256| vault.open(sha256).is_err()),
        "the first key opens nothing"
    );
    let leftovers = fs::read_dir(state.path().join("keys")).unwrap();
    let names: Vec<_> = leftovers.map(|file| file.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name == "originals.previous"), "{names:?}");
}

#[test]
fn a_key_in_a_file_is_replaced_by_the_operator() {
    let new_key = |path: &Path| {
        let output = Command::new("openssl")
            .args(["rand", "-base64", "-out"])
            .arg(path)
            .arg("32")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let keys = tempfile::tempdir().unwrap();
    let place = keys.path().join("originals.key");
    new_key(&place);
    let from = OriginalsKey::File(place.clone());
    let state = State::new(|dir| KeyRing::of(dir).adopt_originals(&from).unwrap());
    let config = keys.path().join("edge.toml");
    let text = format!(
        "[node]\nid = \"box\"\nstate_dir = {:?}\n[evidence]\noriginals_key = {{ file = {place:?} }}\n",
        state.path()
    );
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let old = keys.path().join("old.key");
    fs::rename(&place, &old).unwrap();
    new_key(&place);

    let refused = state.rotate(&["--config", config]).output().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && message.contains("--old-key"), "{message}");
    let output = state
        .rotate(&["--config", config, "--old-key", old.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(printed, format!("{} files encrypted with the new key\n", ORIGINALS + 2));
    state.expect_readable(&KeyRing::of(state.path()).adopt_originals(&from).unwrap());
}

#[test]
fn a_running_daemon_keeps_the_key_from_being_replaced() {
    let state = State::new(|dir| KeyRing::of(dir).adopt_originals(&OriginalsKey::Own).unwrap());
    let running = Store::open(state.path()).unwrap();
    let refused = state.rotate(&[]).output().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && message.contains("is in use by another gridwatch"),
        "{message}"
    );
    drop(running);
    assert!(
        !KeyRing::of(state.path())
            .originals(&OriginalsKey::Own)
            .unwrap()
            .is_being_rotated()
    );
}
