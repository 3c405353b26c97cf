//! Originals at rest: the bytes that a camera sent, encrypted with AES-256-GCM (NIST SP 800-38D), in `<state_dir>/originals/`.
//!
//! A file is `GWO1`, a byte that says what it is, a nonce of 12 bytes drawn for it, and the ciphertext with its tag of 16. The
//! original's hash and that byte are bound to it as associated data: a file that was put in another's place does not open.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

use gridwatch_base::{digest::sha256_hex, disk::write_private};

const MAGIC: &[u8; 4] = b"GWO1";

/// What an original is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginalFormat {
    /// A keyframe as the camera sent it, with its parameter sets: H.264, Annex B.
    H264,
    /// The same in H.265.
    H265,
    /// A picture of a source that gives decoded ones, losslessly.
    Png,
}

impl OriginalFormat {
    const ALL: [Self; 3] = [Self::H264, Self::H265, Self::Png];

    /// The ending of its file's name, decrypted.
    pub fn extension(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
            Self::Png => "png",
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::H264 => b'4',
            Self::H265 => b'5',
            Self::Png => b'P',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.byte() == byte)
    }
}

/// The originals of one box.
pub struct Vault {
    dir: PathBuf,
    key: VaultKey,
}

impl Vault {
    /// That of the box whose state is in `state_dir`.
    pub fn new(state_dir: &Path, key: VaultKey) -> Self {
        Self {
            dir: state_dir.join("originals"),
            key,
        }
    }

    /// Encrypts an original and writes it; gives its hash. One that is there stays as it is.
    ///
    /// # Errors
    /// What the disk says; no half-written file is left under its name.
    pub fn put(&self, format: OriginalFormat, original: &[u8]) -> io::Result<String> {
        let sha256 = sha256_hex(original);
        let path = path(&self.dir, &sha256);
        if !path.exists() {
            let chance = || io::Error::other("the system gives no random numbers");
            let sealed = self.key.seal(&sha256, format, original).ok_or_else(chance)?;
            write_private(&path, &sealed)?;
        }
        Ok(sha256)
    }

    /// Decrypts the original with that hash.
    ///
    /// # Errors
    /// What the disk says, or [`io::ErrorKind::InvalidData`] where the file was changed or the key is not the one.
    pub fn open(&self, sha256: &str) -> io::Result<(OriginalFormat, Vec<u8>)> {
        let sealed = fs::read(path(&self.dir, sha256))?;
        let opened = self
            .key
            .open(sha256, &sealed)
            .filter(|(_, bytes)| sha256_hex(bytes) == sha256);
        let changed = "it does not open: it was changed, or the key of the originals is another now";
        opened.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, changed))
    }
}

/// Size of the encrypted original with that hash, in bytes; `None` where there is none.
pub fn size(state_dir: &Path, sha256: &str) -> Option<u64> {
    Some(fs::metadata(path(&state_dir.join("originals"), sha256)).ok()?.len())
}

/// Where the original with that hash is, below `dir`.
fn path(dir: &Path, sha256: &str) -> PathBuf {
    dir.join(sha256.get(..2).unwrap_or("00")).join(format!("{sha256}.gwo"))
}

/// Removes an original; one that is gone already is no error.
///
/// # Errors
/// What the disk says.
pub fn remove(state_dir: &Path, sha256: &str) -> io::Result<()> {
    match fs::remove_file(path(&state_dir.join("originals"), sha256)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// What originals are encrypted with. It has no `Debug`.
pub struct VaultKey(LessSafeKey);

impl VaultKey {
    /// The key of these bytes; `None` where they are not 32.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// Encrypts the original with that hash. `None` where the system gives no random numbers.
    fn seal(&self, sha256: &str, format: OriginalFormat, original: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut body = original.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(unique, bound(sha256, format), &mut body)
            .ok()?;
        let head = [&MAGIC[..], &[format.byte()], &nonce].concat();
        body.splice(..0, head);
        Some(body)
    }

    /// Decrypts what [`VaultKey::seal`] made for the original with that hash; `None` where it was changed, is another's, or the
    /// key is not the one.
    fn open(&self, sha256: &str, file: &[u8]) -> Option<(OriginalFormat, Vec<u8>)> {
        let (format, rest) = file.strip_prefix(MAGIC)?.split_first()?;
        let format = OriginalFormat::of(*format)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let length = self
            .0
            .open_in_place(nonce, bound(sha256, format), &mut body)
            .ok()?
            .len();
        body.truncate(length);
        Some((format, body))
    }
}

fn bound(sha256: &str, format: OriginalFormat) -> Aad<Vec<u8>> {
    Aad::from([sha256.as_bytes(), &[format.byte()]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_for_its_name_and_key_alone() {
        let key = VaultKey::new(&[7; 32]).unwrap();
        let sealed = key.seal("name", OriginalFormat::H264, b"street").unwrap();
        assert_ne!(
            sealed,
            key.seal("name", OriginalFormat::H264, b"street").unwrap(),
            "a nonce of its own each"
        );
        assert!(!sealed.windows(6).any(|w| w == b"street"));
        assert_eq!(key.open("name", &sealed).unwrap(), (OriginalFormat::H264, b"street".to_vec()));
        assert!(key.open("other", &sealed).is_none());
        assert!(VaultKey::new(&[8; 32]).unwrap().open("name", &sealed).is_none());
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert!(key.open("name", &changed).is_none(), "byte {i}");
        }
        assert!(key.open("name", &sealed[..10]).is_none());
        assert!(VaultKey::new(&[7; 31]).is_none());
    }

    #[test]
    fn originals_are_kept_by_their_hash_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path(), VaultKey::new(&[7; 32]).unwrap());
        let sha256 = vault.put(OriginalFormat::Png, b"street").unwrap();
        assert_eq!(vault.put(OriginalFormat::Png, b"street").unwrap(), sha256, "once");
        assert_eq!(vault.open(&sha256).unwrap(), (OriginalFormat::Png, b"street".to_vec()));
        let other = Vault::new(dir.path(), VaultKey::new(&[8; 32]).unwrap());
        assert_eq!(other.open(&sha256).unwrap_err().kind(), io::ErrorKind::InvalidData);
        remove(dir.path(), &sha256).unwrap();
        remove(dir.path(), &sha256).unwrap();
        assert_eq!(vault.open(&sha256).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
