//! Atomic file writes: a file is complete or absent.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// Modes of a file and of a directory created for it, before the umask.
const EVERYBODY: (u32, u32) = (0o666, 0o777);
const OWNER: (u32, u32) = (0o600, 0o700);

/// The mode of a file that only this user may read, for `OpenOptionsExt::mode`.
pub const PRIVATE_FILE: u32 = OWNER.0;

/// Creates a directory and its missing parents with mode 0700, whatever the umask allows. An existing one is left as it is.
///
/// # Errors
/// The underlying I/O error.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(OWNER.1).create(path)
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

/// Like [`write_atomic`], with modes 0600 and 0700 from the moment of creation.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, OWNER)
}

fn write(path: &Path, bytes: &[u8], (mode, folder_mode): (u32, u32)) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(folder_mode).create(folder)?;
    // The process id keeps two processes from sharing a temporary file; one left by a crash is overwritten.
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let open = || {
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)
    };
    let written = open()
        .and_then(|mut file| {
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
    fn a_failed_write_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("in the way"), "").unwrap();
        assert!(write_atomic(&path, b"bytes").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
