//! Evidence pictures on the disk: `evidence/ab/abcd….jpg`, named by the hash of their content and never changed.
//!
//! A file is whole or not there: written under another name, flushed, renamed, and the folder flushed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::digest::sha256_hex;

use super::StoreError;

/// Where the picture with that hash is, below the state directory `dir`.
pub fn path(dir: &Path, sha256: &str) -> PathBuf {
    let folder = sha256.get(..2).unwrap_or("00");
    dir.join("evidence").join(folder).join(format!("{sha256}.jpg"))
}

/// Writes a picture below the state directory `dir` and gives its hash. Written already, it stays as it is.
///
/// # Errors
/// [`StoreError::DiskFull`] or [`StoreError::Io`]; no half-written picture is left under its name.
pub fn write(dir: &Path, bytes: &[u8]) -> Result<String, StoreError> {
    let sha256 = sha256_hex(bytes);
    let path = path(dir, &sha256);
    let folder = path.parent().unwrap_or(dir);
    fs::create_dir_all(folder).map_err(|e| StoreError::io("create", folder, e))?;
    if fs::metadata(&path).is_ok_and(|m| m.len() == bytes.len() as u64) {
        return Ok(sha256);
    }
    // The process id keeps two programs on one folder from writing into the same file.
    let temporary = folder.join(format!("{sha256}.{}.tmp", std::process::id()));
    let written = write_through(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
    if let Err(e) = written {
        // Best effort: what is left over has no name that anybody reads.
        let _ = fs::remove_file(&temporary);
        return Err(StoreError::io("write", &path, e));
    }
    for folder in [folder, &dir.join("evidence")] {
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(|e| StoreError::io("flush", folder, e))?;
    }
    Ok(sha256)
}

fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a picture and checks that it still is what its name says.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] where the content does not have that hash, or what the disk says.
pub fn read(dir: &Path, sha256: &str) -> io::Result<Vec<u8>> {
    let bytes = fs::read(path(dir, sha256))?;
    if sha256_hex(&bytes) == sha256 {
        Ok(bytes)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "its content is not what its name says: it was changed or damaged",
        ))
    }
}
