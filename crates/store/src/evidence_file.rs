//! Evidence pictures on the disk: `evidence/ab/abcd….jpg`, named by the hash of their content and never changed.
//!
//! A file is whole or not there: written under another name, flushed, renamed, and the folder flushed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gridwatch_base::{digest::sha256_hex, disk::write_atomic};

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
    if !fs::metadata(&path).is_ok_and(|m| m.len() == bytes.len() as u64) {
        write_atomic(&path, bytes).map_err(|e| StoreError::io("write", &path, e))?;
    }
    Ok(sha256)
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
