//! Files that are replaced whole, with the owner and mode of what they replace, and the lock that serialises saves.

use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::EditError;

/// A save takes milliseconds, and a second on a slow card.
const LOCK_WITHIN: Duration = Duration::from_secs(10);
const LOCK_EVERY: Duration = Duration::from_millis(10);

/// Mode of files that only the daemon's user may read.
pub(super) const PRIVATE: u32 = 0o600;

/// The lock of a configuration: exclusive, on the directory of its main file, and gone when its holder is.
pub(super) struct Lock {
    _directory: File,
}

impl Lock {
    /// Waits for the lock of the configuration `main`.
    pub(super) fn take(main: &Path) -> Result<Self, EditError> {
        let path = directory(main);
        let directory = File::open(path).map_err(EditError::io("open", path))?;
        let until = Instant::now() + LOCK_WITHIN;
        loop {
            match directory.try_lock() {
                Ok(()) => return Ok(Self { _directory: directory }),
                Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOCK_EVERY),
                Err(TryLockError::WouldBlock) => return Err(EditError::Busy),
                Err(TryLockError::Error(e)) => return Err(EditError::io("lock", path)(e)),
            }
        }
    }
}

fn directory(path: &Path) -> &Path {
    path.parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Owner and mode of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ownership {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode: u32,
}

impl Ownership {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            uid: metadata.uid(),
            gid: metadata.gid(),
            mode: metadata.mode() & 0o7777,
        }
    }
}

/// Whether [`stage`] can make its file beside the one at `path`, tried before anything is recorded.
pub(super) fn expect_writable(path: &Path) -> Result<(), EditError> {
    let target = fs::canonicalize(path).map_err(EditError::io("find", path))?;
    let ownership = Ownership::of(&target.metadata().map_err(EditError::io("read", path))?);
    let temporary = temporary(&target);
    remove(&temporary)?;
    let written = write(&temporary, b"", ownership, path);
    remove(&temporary)?;
    written
}

/// A new file that is written and synced beside the one it is to replace. If it has not replaced that when it is dropped, it is removed.
pub(super) struct Staged {
    path: PathBuf,
    /// What `path` leads to.
    target: PathBuf,
    temporary: PathBuf,
}

impl Staged {
    /// Puts the new file in the place of the old one, which is durable after [`Staged::sync`].
    pub(super) fn rename(&self) -> Result<(), EditError> {
        fs::rename(&self.temporary, &self.target).map_err(EditError::io("replace", &self.path))
    }

    /// Makes the renaming durable.
    pub(super) fn sync(&self) -> Result<(), EditError> {
        sync_directory(&self.target)
    }

    /// Replaces the old file, durably.
    pub(super) fn replace(&self) -> Result<(), EditError> {
        self.rename()?;
        self.sync()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Best effort: the name is never read, and the next save removes it. After the renaming it is free.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Replaces the file at `path` with `bytes`, durably: a new file in the same directory ([`stage`]), fsync, rename, fsync of the directory.
pub(super) fn replace(path: &Path, bytes: &[u8], otherwise: Ownership) -> Result<(), EditError> {
    stage(path, bytes, otherwise)?.replace()
}

/// Writes what is to replace the file at `path`. A symbolic link stays, and what it leads to is replaced. Owner and mode are those of the
/// old file; of a new one, `otherwise`.
pub(super) fn stage(path: &Path, bytes: &[u8], otherwise: Ownership) -> Result<Staged, EditError> {
    let (target, ownership) = match fs::canonicalize(path) {
        Ok(target) => {
            let metadata = target.metadata().map_err(EditError::io("read", path))?;
            (target, Ownership::of(&metadata))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => (path.into(), otherwise),
        Err(e) => return Err(EditError::io("find", path)(e)),
    };
    let staged = Staged {
        path: path.into(),
        temporary: temporary(&target),
        target,
    };
    // The lock is held: one that is there was left by a save that was killed.
    remove(&staged.temporary)?;
    write(&staged.temporary, bytes, ownership, path)?;
    Ok(staged)
}

fn write(temporary: &Path, bytes: &[u8], ownership: Ownership, path: &Path) -> Result<(), EditError> {
    // A link that takes the name's place is not followed.
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(temporary)
        .map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => EditError::Unwritable {
                dir: directory(temporary).into(),
                source,
            },
            _ => EditError::io("write beside", path)(source),
        })?;
    file.write_all(bytes).map_err(EditError::io("write beside", path))?;
    let metadata = file.metadata().map_err(EditError::io("read", path))?;
    let Ownership { uid, gid, mode } = ownership;
    if (metadata.uid(), metadata.gid()) != (uid, gid) {
        fchown(&file, Some(uid), Some(gid)).map_err(|_| EditError::Owner {
            path: path.into(),
            uid,
            gid,
        })?;
    }
    file.set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.sync_all())
        .map_err(EditError::io("write beside", path))
}

/// `.edge.toml.new` beside `edge.toml`: hidden, and so no file of `conf.d`.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), EditError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(match e.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => EditError::Unwritable {
                dir: directory(path).into(),
                source: e,
            },
            _ => EditError::io("remove", path)(e),
        }),
        _ => Ok(()),
    }
}

/// Makes what was done in the directory of `path` durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), EditError> {
    let path = directory(path);
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(EditError::io("write", path))
}

/// Makes a directory with the owner of its parent, if it is missing.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), EditError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = directory(path);
    let above = parent.metadata().map_err(EditError::io("read", parent))?;
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(EditError::io("make", path))?;
    let made = File::open(path).map_err(EditError::io("open", path))?;
    let metadata = made.metadata().map_err(EditError::io("read", path))?;
    if (metadata.uid(), metadata.gid()) != (above.uid(), above.gid()) {
        // Fails only where the parent is another user's, who let this one write there.
        let _ = fchown(&made, Some(above.uid()), Some(above.gid()));
    }
    sync_directory(path)
}
