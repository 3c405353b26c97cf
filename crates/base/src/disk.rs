//! Files that are whole or not there.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// Who may read a file, and a folder that is made for it.
const EVERYBODY: (u32, u32) = (0o666, 0o777);
const OWNER: (u32, u32) = (0o600, 0o700);

/// Writes a file whole or not at all: under another name, flushed, renamed, its folder and the one above flushed. Folders are made if
/// need be. The system's mask (umask) says who may read it.
///
/// # Errors
/// What the disk says; nothing is left under its name then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, EVERYBODY)
}

/// The same, for its owner's eyes alone from the first byte on.
///
/// # Errors
/// As [`write_whole`].
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, OWNER)
}

fn write(path: &Path, bytes: &[u8], (mode, folder_mode): (u32, u32)) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(folder_mode).create(folder)?;
    // The process id keeps two programs on one folder from writing into the same file; what one left over is written over.
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let open = || {
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&beside)
    };
    let written = open()
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&beside, path));
    if let Err(e) = written {
        // Best effort: what is left over has no name that anybody reads.
        let _ = fs::remove_file(&beside);
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
    fn a_file_is_replaced_whole_and_a_private_one_is_its_owners() {
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
            "nothing beside it"
        );
    }

    #[test]
    fn where_it_cannot_be_written_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("in the way"), "").unwrap();
        assert!(write_whole(&path, b"bytes").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
