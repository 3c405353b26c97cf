//! Evidence pictures on disk: `evidence/ab/abcd….jpg`, named by the SHA-256 of their content and never changed.
//!
//! Writes are atomic: a temporary file is written and flushed, then renamed, and the directory is flushed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gridwatch_base::{digest::sha256_hex, disk::write_atomic};

use super::StoreError;

/// Path of the picture with that hash, below the state directory `dir`.
pub fn path(dir: &Path, sha256: &str) -> PathBuf {
    let folder = sha256.get(..2).unwrap_or("00");
    dir.join("evidence").join(folder).join(format!("{sha256}.jpg"))
}

/// Writes a picture below the state directory `dir` and returns its SHA-256. An existing file is left as it is.
///
/// # Errors
/// [`StoreError::DiskFull`] or [`StoreError::Io`]; no partial file is left under its name.
pub fn write(dir: &Path, bytes: &[u8]) -> Result<String, StoreError> {
    let sha256 = sha256_hex(bytes);
    let path = path(dir, &sha256);
    if !fs::metadata(&path).is_ok_and(|m| m.len() == bytes.len() as u64) {
        write_atomic(&path, bytes).map_err(|e| StoreError::io("write", &path, e))?;
    }
    Ok(sha256)
}

/// Reads a picture and verifies its hash.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if the content does not match the hash, or the I/O error.
pub fn read(dir: &Path, sha256: &str) -> io::Result<Vec<u8>> {
    let bytes = fs::read(path(dir, sha256))?;
    if sha256_hex(&bytes) == sha256 {
        Ok(bytes)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "content does not match the SHA-256 in the file name: the file was changed or is damaged",
        ))
    }
}
