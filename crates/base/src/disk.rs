//! Atomic file writes: a file is complete or absent.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown},
    path::Path,
};

/// Modes of a file and of a directory created for it, before the umask.
const EVERYBODY: (u32, u32) = (0o666, 0o777);
const OWNER: (u32, u32) = (0o600, 0o700);

/// The mode of a file that only this user may read, for `OpenOptionsExt::mode`.
pub const PRIVATE_FILE: u32 = OWNER.0;

/// Creates a directory and its missing parents with mode 0700, whatever the umask allows. An existing one is left as it is. What root
/// creates belongs to the owner of the folder that it is in, so that the daemon can use what `sudo` made for it.
///
/// # Errors
/// The underlying I/O error.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|folder| !exists_or_is_empty(folder))
        .collect();
    DirBuilder::new().recursive(true).mode(OWNER.1).create(path)?;
    for folder in missing.into_iter().rev() {
        if let Some((uid, gid)) = owner_to_follow(folder)? {
            lchown(folder, Some(uid), Some(gid))?;
        }
    }
    Ok(())
}

/// Opens a file for writing and creates it, and its folder, if they are missing, with mode 0600: for locks. Its contents are kept; a link is
/// not followed. Owner as with [`create_private_dir`].
///
/// # Errors
/// The underlying I/O error.
pub fn open_private(path: &Path) -> io::Result<File> {
    create_private_dir(path.parent().unwrap_or(path))?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(PRIVATE_FILE)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    give_to_folders_owner(&file, path)?;
    Ok(file)
}

/// True if something has this name; also for the empty path, the working directory.
fn exists_or_is_empty(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder.symlink_metadata().is_ok()
}

/// Owner and group of the folder of `path`, if this process is root and the folder is another user's.
fn owner_to_follow(path: &Path) -> io::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = fs::metadata(folder.unwrap_or(Path::new(".")))?;
    Ok((folder.uid() != 0).then_some((folder.uid(), folder.gid())))
}

fn give_to_folders_owner(file: &File, path: &Path) -> io::Result<()> {
    match owner_to_follow(path)? {
        Some((uid, gid)) if file.metadata()?.uid() != uid => fchown(file, Some(uid), Some(gid)),
        _ => Ok(()),
    }
}

/// Makes this process create its files for its own user only.
pub fn restrict_new_files() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Writes a file atomically and durably: to a temporary name, fsync, rename, then fsync of its directory and the parent. Missing
/// directories are created. File permissions follow the umask.
///
/// # Errors
/// The underlying I/O error. The temporary file is removed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, EVERYBODY)
}

/// Like [`write_atomic`], with modes 0600 and 0700 from the moment of creation; owner as with [`create_private_dir`].
///
/// # Errors
/// As [`write_atomic`].
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, OWNER)
}

fn write(path: &Path, bytes: &[u8], (mode, folder_mode): (u32, u32)) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let is_private = mode == OWNER.0;
    if is_private {
        create_private_dir(folder)?;
    } else {
        DirBuilder::new().recursive(true).mode(folder_mode).create(folder)?;
    }
    // The process id keeps two processes from sharing a temporary file; one left by a crash is overwritten.
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let open = || {
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            // A link that another user of the folder put there is not followed.
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)
    };
    let written = open()
        .and_then(|mut file| {
            if is_private {
                give_to_folders_owner(&file, path)?;
            }
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(e) = written {
        // Best effort: the temporary name is never read.
        let _ = fs::remove_file(&temporary);
        return Err(e);
    }
    for folder in [Some(folder), folder.parent()].into_iter().flatten() {
        if !folder.as_os_str().is_empty() {
            File::open(folder)?.sync_all()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_private_file_is_replaced_atomically_and_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        write_private(&path, b"first").unwrap();
        write_private(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn what_root_writes_for_another_user_belongs_to_that_user() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can write for another user");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        std::os::unix::fs::chown(&state, Some(4711), Some(4712)).unwrap();
        write_private(&state.join("a/b/file"), b"secret").unwrap();
        drop(open_private(&state.join("a/lock")).unwrap());
        for path in ["a", "a/b", "a/b/file", "a/lock"] {
            let found = fs::metadata(state.join(path)).unwrap();
            assert_eq!((found.uid(), found.gid()), (4711, 4712), "{path}");
        }
        std::os::unix::fs::symlink("/etc/passwd", state.join("a/link")).unwrap();
        assert!(open_private(&state.join("a/link")).is_err());
    }

    #[test]
    fn a_failed_write_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("in the way"), "").unwrap();
        assert!(write_atomic(&path, b"bytes").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
