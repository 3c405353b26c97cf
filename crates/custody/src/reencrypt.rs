//! Encrypts everything of a box anew after its key was replaced ([`KeyRing::begin_rotation`]): originals, pictures of views, the
//! candidates' first pictures and those that ended decode workers.
//!
//! One file at a time is in memory, and each is replaced atomically, so that an interruption at any moment leaves every file encrypted
//! with one of the two keys; a second run passes over those that are done.
//!
//! [`KeyRing::begin_rotation`]: crate::keys::KeyRing::begin_rotation

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::vault::{Resealed, VaultKey, is_sealed};
use gridwatch_base::{disk::write_private, error::Class, file};

/// Folders of the state directory with encrypted files. Originals are in folders of their own, by the start of their hash.
const FOLDERS: [&str; 4] = ["originals", "decode-crashes", "views", "pinned"];
/// Largest file; an original has a few MB.
const MAX_FILE: u64 = file::MAX_PICTURE;
/// Beyond the largest file, which is on the disk twice for a moment: for the database and the log.
const RESERVE: u64 = 16 << 20;

/// Why not everything was encrypted anew. The old key is still needed then.
#[derive(Debug, thiserror::Error)]
pub enum ReencryptError {
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}; what is done stays done: correct this and run the command again", .path.display())]
    Io {
        /// The operation: `read` or `write`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The disk is too full for a second copy of the largest file.
    #[error("{} has {free} bytes free, but encrypting its files anew needs {needed}; make room and run the command again", .dir.display())]
    NoRoom {
        /// The state directory.
        dir: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
}

impl ReencryptError {
    /// The class of the error.
    pub fn class(&self) -> Class {
        Class::Transient
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files that were looked at.
    pub done: u64,
    /// Files in all.
    pub total: u64,
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reencrypted {
    /// Files that are encrypted anew.
    pub anew: u64,
    /// Files that were encrypted with the new key already.
    pub current: u64,
    /// The number of files that no key decrypts, which are left as they are, and the first of them.
    pub unreadable: (u64, Option<PathBuf>),
}

/// Encrypts every file below `state_dir` with the current key of `key` that one of its previous keys encrypted. Calls `progress` before
/// each. No daemon may run.
///
/// # Errors
/// [`ReencryptError`]; run it again then.
pub fn reencrypt(
    state_dir: &Path,
    key: &VaultKey,
    progress: &mut dyn FnMut(Progress),
) -> Result<Reencrypted, ReencryptError> {
    let mut so_far = Progress::default();
    let mut largest = 0;
    visit(state_dir, &mut |_, path| {
        let size = fs::metadata(path).map_err(|e| error("read", path, e))?.len();
        largest = size.max(largest);
        so_far.total += 1;
        Ok(())
    })?;
    expect_room(state_dir, largest)?;
    let mut result = Reencrypted::default();
    visit(state_dir, &mut |folder, path| {
        progress(so_far);
        so_far.done += 1;
        let sealed = file::open_unlinked(path, MAX_FILE).and_then(|opened| file::read_all(opened, MAX_FILE));
        let sealed = sealed.map_err(|e| error("read", path, e))?;
        // The references of an older version, which the daemon encrypts at its next start.
        if folder == "views" && !is_sealed(&sealed) {
            return Ok(());
        }
        match key.reseal(&sealed_name(folder, path), &sealed) {
            Ok(Resealed::Current) => result.current += 1,
            Ok(Resealed::Anew(bytes)) => {
                write_private(path, &bytes).map_err(|e| error("write", path, e))?;
                result.anew += 1;
            }
            Ok(Resealed::Unreadable) => {
                result.unreadable.0 += 1;
                result.unreadable.1.get_or_insert_with(|| path.to_path_buf());
            }
            Err(e) => return Err(error("encrypt", path, e)),
        }
        Ok(())
    })?;
    progress(so_far);
    Ok(result)
}

/// The name under which a file was encrypted.
fn sealed_name(folder: &str, path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match (folder, name.strip_suffix(".gwo")) {
        (_, Some(sha256)) => sha256.to_owned(),
        ("views", _) => format!("view {name}"),
        _ => name.into_owned(),
    }
}

/// Calls `each` with the folder and the path of every file that may be encrypted, and deletes what interrupted writes left.
fn visit(
    state_dir: &Path,
    each: &mut dyn FnMut(&str, &Path) -> Result<(), ReencryptError>,
) -> Result<(), ReencryptError> {
    for folder in FOLDERS {
        let mut left = vec![state_dir.join(folder)];
        while let Some(dir) = left.pop() {
            // A whole folder before its files are replaced: a file that is replaced while its folder is listed may be listed twice.
            for path in entries(&dir)? {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let kind = path
                    .symlink_metadata()
                    .map_err(|e| error("read", &path, e))?
                    .file_type();
                let is_top = dir.parent() == Some(state_dir);
                if kind.is_dir() {
                    if is_top {
                        left.push(path);
                    }
                } else if name.ends_with(".tmp") {
                    fs::remove_file(&path).map_err(|e| error("delete", &path, e))?;
                } else if kind.is_file() && may_be_sealed(folder, &name) {
                    each(folder, &path)?;
                }
            }
        }
    }
    Ok(())
}

/// Whether files of this name hold pictures.
fn may_be_sealed(folder: &str, name: &str) -> bool {
    match folder {
        "originals" | "decode-crashes" => name.ends_with(".gwo"),
        "views" => !name.ends_with(".request"),
        _ => true,
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, ReencryptError> {
    let listed =
        fs::read_dir(dir).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>());
    match listed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => {
            let mut listed = listed.map_err(|e| error("read", dir, e))?;
            listed.sort();
            Ok(listed)
        }
    }
}

fn expect_room(dir: &Path, largest: u64) -> Result<(), ReencryptError> {
    let needed = largest.saturating_add(RESERVE);
    let disk = rustix::fs::statvfs(dir).map_err(|e| error("read", dir, e.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match free < needed {
        true => Err(ReencryptError::NoRoom {
            dir: dir.into(),
            free,
            needed,
        }),
        false => Ok(()),
    }
}

fn error(doing: &'static str, path: &Path, source: io::Error) -> ReencryptError {
    ReencryptError::Io {
        doing,
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::MetadataExt,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    use super::*;
    use crate::{
        keys::{KeyError, KeyRing, OriginalsKey},
        vault::{OriginalFormat, Vault},
    };
    use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

    /// A state directory with a file of each kind, and the key that they are encrypted with.
    struct State {
        dir: tempfile::TempDir,
        originals: Vec<String>,
    }

    const CONTENT: &[u8] = b"a street";

    impl State {
        fn new(key: &VaultKey) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let vault = Vault::new(dir.path(), key.clone());
            let originals = (0..5)
                .map(|i| vault.put(OriginalFormat::H265, &[i; 99]).unwrap())
                .collect();
            Vault::at(dir.path().join("decode-crashes"), key.clone())
                .put(OriginalFormat::H264, CONTENT)
                .unwrap();
            write_private(&dir.path().join("decode-crashes/0.json"), b"{}").unwrap();
            for (path, name) in [
                ("views/gate.view", "view gate.view"),
                ("views/gate.newest", "view gate.newest"),
                ("pinned/gate@17", "gate@17"),
            ] {
                write_private(&dir.path().join(path), &key.seal_file(name, CONTENT).unwrap()).unwrap();
            }
            write_private(&dir.path().join("views/gate.request"), b"{}").unwrap();
            write_private(&dir.path().join("views/old.view"), b"not encrypted").unwrap();
            Self { dir, originals }
        }

        fn path(&self) -> &Path {
            self.dir.path()
        }

        /// Every file opens with `key`, under its own name only.
        fn expect_readable(&self, key: &VaultKey) {
            let vault = Vault::new(self.path(), key.clone());
            for (i, sha256) in self.originals.iter().enumerate() {
                assert_eq!(vault.open(sha256).unwrap(), (OriginalFormat::H265, vec![i as u8; 99]));
            }
            let read = |path: &str| fs::read(self.path().join(path)).unwrap();
            assert_eq!(
                key.open_file("view gate.view", &read("views/gate.view")).unwrap(),
                CONTENT
            );
            assert!(key.open_file("view gate.newest", &read("views/gate.view")).is_none());
            assert_eq!(key.open_file("gate@17", &read("pinned/gate@17")).unwrap(), CONTENT);
            assert_eq!(read("views/gate.request"), b"{}");
            assert_eq!(read("views/old.view"), b"not encrypted");
        }
    }

    #[test]
    fn a_rotation_interrupted_anywhere_leaves_every_file_readable_and_ends_with_the_new_key_alone() {
        for stop_at in 0..12 {
            let keys = tempfile::tempdir().unwrap();
            let ring = KeyRing::of(keys.path());
            let old = ring.adopt_originals(&OriginalsKey::Own).unwrap();
            let state = State::new(&old);
            let both = ring.begin_rotation(&OriginalsKey::Own, None).unwrap();
            let killed = catch_unwind(AssertUnwindSafe(|| {
                reencrypt(state.path(), &both, &mut |p| assert!(p.done < stop_at, "killed")).unwrap()
            }));
            assert_eq!(killed.is_err(), stop_at <= 10, "{stop_at}");
            // As a daemon that starts in between, and as the next run of the command.
            let key = ring.adopt_originals(&OriginalsKey::Own).unwrap();
            assert!(key.is_being_rotated());
            state.expect_readable(&key);
            let again = ring.begin_rotation(&OriginalsKey::Own, None).unwrap();
            let done = reencrypt(state.path(), &again, &mut |_| ()).unwrap();
            // The ninth file is not encrypted.
            let anew = match stop_at {
                0..=8 => 9 - stop_at,
                9 => 1,
                _ => 0,
            };
            assert_eq!((done.anew, done.current + done.anew), (anew, 9), "{stop_at}");
            ring.end_rotation().unwrap();
            let new = ring.adopt_originals(&OriginalsKey::Own).unwrap();
            assert!(!new.is_being_rotated());
            state.expect_readable(&new);
            let sealed = fs::read(state.path().join("pinned/gate@17")).unwrap();
            assert!(old.open_file("gate@17", &sealed).is_none(), "the old key opens nothing");
            assert_eq!(
                fs::metadata(state.path().join("pinned/gate@17")).unwrap().mode() & 0o777,
                0o600
            );
        }
    }

    #[test]
    fn killed_before_the_new_key_is_in_place_nothing_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::of(dir.path());
        let old = ring.adopt_originals(&OriginalsKey::Own).unwrap();
        let path = dir.path().join("keys/originals.key");
        let text = fs::read(&path).unwrap();
        ring.begin_rotation(&OriginalsKey::Own, None).unwrap();
        // The step before: the list of previous keys is there, the new key and its check are not.
        fs::write(&path, text).unwrap();
        write_private(
            &dir.path().join("keys/originals.check"),
            &old.seal_file("originals.check", b"").unwrap(),
        )
        .unwrap();
        let key = ring.adopt_originals(&OriginalsKey::Own).unwrap();
        assert!(!key.is_being_rotated());
        assert!(
            ring.begin_rotation(&OriginalsKey::Own, None)
                .unwrap()
                .is_being_rotated()
        );
    }

    #[test]
    fn an_operators_new_key_needs_the_old_one_and_any_other_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::of(dir.path());
        let file = |name: &str, byte: u8| {
            let path = dir.path().join(name);
            write_private(&path, BASE64.encode([byte; 32]).as_bytes()).unwrap();
            path
        };
        let place = OriginalsKey::File(file("key", 1));
        let state = State::new(&ring.adopt_originals(&place).unwrap());
        let other = |result: Result<VaultKey, KeyError>, part: &str| {
            let error = result.unwrap_err();
            assert!(
                matches!(error, KeyError::OtherOriginalsKey { .. }) && error.to_string().contains(part),
                "{error}"
            );
        };
        other(ring.begin_rotation(&place, None), "--old-key");
        other(ring.begin_rotation(&place, Some(&file("same", 1))), "the same key");

        file("key", 2);
        other(ring.adopt_originals(&place), "not the key that encrypted");
        other(
            ring.begin_rotation(&place, Some(&file("wrong", 3))),
            "neither this key nor --old-key",
        );
        let first = ring.begin_rotation(&place, Some(&file("old", 1))).unwrap();
        state.expect_readable(&first);
        // Interrupted before the first file, and the operator replaces the key once more: both old keys are needed.
        file("key", 4);
        other(ring.adopt_originals(&place), "not the key that encrypted");
        let second = ring.begin_rotation(&place, Some(&file("old", 2))).unwrap();
        state.expect_readable(&second);
        assert_eq!(reencrypt(state.path(), &second, &mut |_| ()).unwrap().anew, 9);
        ring.end_rotation().unwrap();
        state.expect_readable(&ring.adopt_originals(&place).unwrap());

        file("key", 5);
        assert!(
            ring.accept_originals(&place).unwrap(),
            "on purpose, after the keys were lost"
        );
        let lost = ring.adopt_originals(&place).unwrap();
        let done = reencrypt(state.path(), &lost, &mut |_| ()).unwrap();
        assert_eq!((done.anew, done.unreadable.0), (0, 9));
        assert!(done.unreadable.1.unwrap().starts_with(state.path()));
    }

    #[test]
    fn a_lost_key_of_the_state_directory_is_not_replaced_silently() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::of(dir.path());
        ring.adopt_originals(&OriginalsKey::Own).unwrap();
        fs::remove_file(dir.path().join("keys/originals.key")).unwrap();
        let error = ring.adopt_originals(&OriginalsKey::Own).unwrap_err().to_string();
        assert!(
            error.contains("is missing") && error.contains("gridwatch keys new"),
            "{error}"
        );
        assert!(ring.accept_originals(&OriginalsKey::Own).unwrap());
        assert!(!ring.accept_originals(&OriginalsKey::Own).unwrap());
    }

    #[test]
    fn a_disk_without_room_for_the_largest_file_is_refused_before_the_first() {
        let dir = tempfile::tempdir().unwrap();
        assert!(expect_room(dir.path(), 1).is_ok());
        let error = expect_room(dir.path(), u64::MAX).unwrap_err();
        assert!(matches!(error, ReencryptError::NoRoom { .. }), "{error}");
    }
}
