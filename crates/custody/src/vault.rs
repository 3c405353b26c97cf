//! Originals at rest: the bytes that the camera sent, encrypted with AES-256-GCM (NIST SP 800-38D), in
//! `<state_dir>/originals/`.
//!
//! A file consists of `GWO1`, a format byte, a random nonce of 12 bytes, and the ciphertext with its 16-byte tag. The
//! hash of the original and the format byte are authenticated as associated data, so a file renamed to another hash
//! does not decrypt. Other files of the box with unmasked pictures are encrypted in the same way, under a name of their own
//! in place of the hash ([`VaultKey::seal_file`]). A file does not name its key: while the key is rotated, each is tried in turn.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

use gridwatch_base::{digest::sha256_hex, disk::write_private};

const MAGIC: &[u8; 4] = b"GWO1";

/// Format byte of a file that is not an original.
const FILE: u8 = b'F';

/// Format of an original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginalFormat {
    /// An H.264 keyframe as the camera sent it, with parameter sets, in Annex B format.
    H264,
    /// The same in H.265.
    H265,
    /// A lossless copy of a frame from a source that delivers decoded frames.
    Png,
}

impl OriginalFormat {
    pub(crate) const ALL: [Self; 3] = [Self::H264, Self::H265, Self::Png];

    /// File name extension of the decrypted original.
    pub fn extension(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
            Self::Png => "png",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::H264 => b'4',
            Self::H265 => b'5',
            Self::Png => b'P',
        }
    }

    fn from_code(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.code() == byte)
    }
}

/// The encrypted originals of a box.
pub struct Vault {
    dir: PathBuf,
    key: VaultKey,
}

impl Vault {
    /// The vault below the state directory `state_dir`.
    pub fn new(state_dir: &Path, key: VaultKey) -> Self {
        Self {
            dir: state_dir.join("originals"),
            key,
        }
    }

    /// A vault in the folder `dir`, for pictures that belong to no case.
    pub fn at(dir: PathBuf, key: VaultKey) -> Self {
        Self { dir, key }
    }

    /// Whether there is an original with that hash, readable or not.
    pub fn contains(&self, sha256: &str) -> bool {
        path(&self.dir, sha256).is_file()
    }

    /// Deletes the original with that hash, if it exists.
    ///
    /// # Errors
    /// The I/O error.
    pub fn remove(&self, sha256: &str) -> io::Result<()> {
        remove_file(&path(&self.dir, sha256))
    }

    /// Encrypts and writes an original; returns its SHA-256. An existing file is left as it is.
    ///
    /// # Errors
    /// The I/O error; no partial file is left under its name.
    pub fn put(&self, format: OriginalFormat, original: &[u8]) -> io::Result<String> {
        let sha256 = sha256_hex(original);
        let path = path(&self.dir, &sha256);
        if !path.exists() {
            let sealed = self.key.seal(&sha256, format.code(), original).ok_or_else(no_random)?;
            write_private(&path, &sealed)?;
        }
        Ok(sha256)
    }

    /// Decrypts the original with that hash.
    ///
    /// # Errors
    /// The I/O error, or [`io::ErrorKind::InvalidData`] if the file was changed or encrypted with another key.
    pub fn open(&self, sha256: &str) -> io::Result<(OriginalFormat, Vec<u8>)> {
        let sealed = fs::read(path(&self.dir, sha256))?;
        let opened = self
            .key
            .open(sha256, &sealed)
            .filter(|(_, bytes)| sha256_hex(bytes) == sha256)
            .and_then(|(code, bytes)| Some((OriginalFormat::from_code(code)?, bytes)));
        let changed = "cannot be decrypted: the file was changed, or the key of the originals was replaced";
        opened.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, changed))
    }
}

/// Size in bytes of the encrypted original with that hash; `None` if there is none.
pub fn size(state_dir: &Path, sha256: &str) -> Option<u64> {
    Some(fs::metadata(path(&state_dir.join("originals"), sha256)).ok()?.len())
}

/// Path of the original with that hash, below `dir`.
fn path(dir: &Path, sha256: &str) -> PathBuf {
    dir.join(sha256.get(..2).unwrap_or("00")).join(format!("{sha256}.gwo"))
}

/// Deletes an original, if it exists.
///
/// # Errors
/// The I/O error.
pub fn remove(state_dir: &Path, sha256: &str) -> io::Result<()> {
    remove_file(&path(&state_dir.join("originals"), sha256))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The key that encrypts originals, and while it is rotated those that still decrypt some. Clones share one key.
#[derive(Clone)]
pub struct VaultKey(Arc<Keys>);

struct Keys {
    current: LessSafeKey,
    /// Decrypt only, newest first.
    previous: Vec<LessSafeKey>,
}

impl fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultKey(***)")
    }
}

/// Length of a key in bytes.
pub(crate) const KEY_LEN: usize = 32;

fn aes(bytes: &[u8]) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?))
}

/// What a file needs after a rotation of the key.
pub(crate) enum Resealed {
    /// Nothing: the new key encrypted it.
    Current,
    /// To be replaced by this.
    Anew(Vec<u8>),
    /// No key decrypts it.
    Unreadable,
}

impl VaultKey {
    /// A key from 32 bytes; `None` for any other length.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        Self::with_previous(bytes, bytes.get(..0)?)
    }

    /// A key, and the previous ones that decrypt what it did not encrypt yet; 32 bytes each.
    pub(crate) fn with_previous(current: &[u8], previous: &[u8]) -> Option<Self> {
        Some(Self(Arc::new(Keys {
            current: aes(current)?,
            previous: previous.chunks(KEY_LEN).map(aes).collect::<Option<_>>()?,
        })))
    }

    /// Whether files may still be encrypted with a previous key.
    pub fn is_being_rotated(&self) -> bool {
        !self.0.previous.is_empty()
    }

    /// Encrypts a file with the current key if a previous one encrypted it, under the same name and format.
    pub(crate) fn reseal(&self, name: &str, file: &[u8]) -> io::Result<Resealed> {
        if open_with(&self.0.current, name, file).is_some() {
            return Ok(Resealed::Current);
        }
        match self.open(name, file) {
            Some((code, content)) => self
                .seal(name, code, &content)
                .map(Resealed::Anew)
                .ok_or_else(no_random),
            None => Ok(Resealed::Unreadable),
        }
    }

    /// Encrypts a file of the box, to be opened under the same `name`. `None` if the operating system provides no random
    /// numbers.
    pub fn seal_file(&self, name: &str, content: &[u8]) -> Option<Vec<u8>> {
        self.seal(name, FILE, content)
    }

    /// Decrypts the result of [`VaultKey::seal_file`]. `None` if it was changed, has another name, or was encrypted with
    /// another key.
    pub fn open_file(&self, name: &str, file: &[u8]) -> Option<Vec<u8>> {
        self.open(name, file)
            .filter(|(code, _)| *code == FILE)
            .map(|(_, content)| content)
    }

    /// Encrypts what has that name: the hash of an original. `None` if the operating system provides no random numbers.
    fn seal(&self, name: &str, code: u8, content: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut body = content.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0
            .current
            .seal_in_place_append_tag(unique, associated_data(name, code), &mut body)
            .ok()?;
        let head = [&MAGIC[..], &[code], &nonce].concat();
        body.splice(..0, head);
        Some(body)
    }

    /// Decrypts the result of [`VaultKey::seal`] under that name; the format byte and the content. `None` if it was changed,
    /// has another name, or was encrypted with another key.
    fn open(&self, name: &str, file: &[u8]) -> Option<(u8, Vec<u8>)> {
        let Keys { current, previous } = &*self.0;
        std::iter::once(current)
            .chain(previous)
            .find_map(|key| open_with(key, name, file))
    }
}

fn open_with(key: &LessSafeKey, name: &str, file: &[u8]) -> Option<(u8, Vec<u8>)> {
    let (&code, rest) = file.strip_prefix(MAGIC)?.split_first()?;
    let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut body = body.to_vec();
    let length = key
        .open_in_place(nonce, associated_data(name, code), &mut body)
        .ok()?
        .len();
    body.truncate(length);
    Some((code, body))
}

fn no_random() -> io::Error {
    io::Error::other("no random numbers from the operating system")
}

/// True if the file was encrypted with a [`VaultKey`].
pub fn is_sealed(file: &[u8]) -> bool {
    file.starts_with(MAGIC)
}

fn associated_data(name: &str, code: u8) -> Aad<Vec<u8>> {
    Aad::from([name.as_bytes(), &[code]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_original_opens_only_with_its_hash_and_key() {
        let key = VaultKey::new(&[7; 32]).unwrap();
        let code = OriginalFormat::H264.code();
        let sealed = key.seal("name", code, b"street").unwrap();
        assert_ne!(
            sealed,
            key.seal("name", code, b"street").unwrap(),
            "each with its own nonce"
        );
        assert!(!sealed.windows(6).any(|w| w == b"street"));
        assert_eq!(key.open("name", &sealed).unwrap(), (code, b"street".to_vec()));
        assert!(
            key.open_file("name", &sealed).is_none(),
            "an original does not open as another file"
        );
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
    fn originals_are_stored_under_their_hash_and_removed() {
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
