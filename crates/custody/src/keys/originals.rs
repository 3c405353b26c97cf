//! The key that encrypts originals: where it is, whether it is the right one, and how it is replaced.
//!
//! Beside the key, `keys/` has two files. `originals.check` is encrypted with the key in use, so that another key is noticed before
//! anything is encrypted with it. `originals.previous` has the keys that are being replaced, encrypted with the new one: it exists
//! from before the first file is encrypted anew until after the last one, so that every file can be decrypted at any moment.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{KeyError, KeyRing, ORIGINALS_FILE, OriginalsKey, credential, io_error};
use crate::vault::{KEY_LEN, VaultKey};
use gridwatch_base::file;

const CHECK_FILE: &str = "originals.check";
const PREVIOUS_FILE: &str = "originals.previous";

type KeyBytes = Zeroizing<[u8; KEY_LEN]>;

/// The key in use with those that it is replacing, as bytes.
struct Keys {
    current: KeyBytes,
    /// One after the other; empty unless the key is being replaced.
    previous: Zeroizing<Vec<u8>>,
}

impl Keys {
    fn vault_key(&self) -> Result<VaultKey, KeyError> {
        VaultKey::with_previous(&*self.current, &self.previous).ok_or(KeyError::NoRandomness)
    }
}

/// A state directory's key check.
enum Check {
    /// No daemon of this version ran yet.
    Missing,
    /// The key in use, or one that it replaces, encrypted it.
    Fits,
    /// Another key did.
    Differs,
}

impl KeyRing {
    /// Loads the key that encrypts originals. Only a key in the state directory is generated if missing, and only if none was used before.
    ///
    /// # Errors
    /// [`KeyError`]; [`KeyError::OtherOriginalsKey`] if the box encrypted with another key.
    pub fn originals(&self, place: &OriginalsKey) -> Result<VaultKey, KeyError> {
        self.load_originals(place)?.vault_key()
    }

    /// [`KeyRing::originals`] for the daemon, which encrypts with the key: another one is refused from then on.
    ///
    /// # Errors
    /// As [`KeyRing::originals`].
    pub fn adopt_originals(&self, place: &OriginalsKey) -> Result<VaultKey, KeyError> {
        let keys = self.load_originals(place)?;
        if matches!(self.check(&keys)?, Check::Missing) {
            self.write_check(&keys)?;
        }
        keys.vault_key()
    }

    /// [`KeyRing::originals`], but generates nothing: `None` if the key in the state directory does not exist, and none was used.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn existing_originals(&self, place: &OriginalsKey) -> Result<Option<VaultKey>, KeyError> {
        match place {
            OriginalsKey::Own if !self.dir.join(ORIGINALS_FILE).exists() && !self.dir.join(CHECK_FILE).exists() => {
                Ok(None)
            }
            place => self.originals(place).map(Some),
        }
    }

    /// Begins to replace the key of the originals, or goes on with it: what is encrypted from now on is encrypted with the new key, and the
    /// result decrypts with both. A key in the state directory is generated; elsewhere, the operator has put the new key in its place, and
    /// `old` is a file with the previous one. The old key is kept, encrypted with the new one, until [`KeyRing::end_rotation`].
    ///
    /// # Errors
    /// [`KeyError`]; nothing is replaced then, or what was begun goes on at the next call.
    pub fn begin_rotation(&self, place: &OriginalsKey, old: Option<&Path>) -> Result<VaultKey, KeyError> {
        let path = self.originals_path(place)?;
        let current = read_key(&path)?;
        let previous = self.previous(&current)?;
        let mut keys = Keys { current, previous };
        let check = self.check(&keys)?;
        let wrong = |what: &str| KeyError::OtherOriginalsKey {
            path: path.clone(),
            what: what.into(),
        };
        if *place == OriginalsKey::Own {
            if matches!(check, Check::Differs) {
                return Err(differs(path, place));
            }
            if keys.previous.is_empty() {
                let previous = Zeroizing::new(keys.current.to_vec());
                keys = Keys {
                    current: generate()?,
                    previous,
                };
                self.write_previous(&keys)?;
                self.write_key(&path, &keys.current)?;
            }
        } else if let Some(old) = old {
            let old = read_key(old)?;
            if *old == *keys.current {
                return Err(wrong(
                    "--old-key is the same key; put the new key in its place first, and name the previous one with --old-key",
                ));
            }
            let mut previous = Zeroizing::new(Vec::with_capacity(MAX_PREVIOUS));
            previous.extend_from_slice(&*old);
            previous.extend_from_slice(&self.previous(&old)?);
            previous.extend_from_slice(&keys.previous);
            if previous.len() > MAX_PREVIOUS {
                return Err(wrong(
                    "too many keys are being replaced; finish with the key that is there now, without --old-key",
                ));
            }
            keys.previous = previous;
            if matches!(self.check(&keys)?, Check::Differs) {
                return Err(wrong(
                    "neither this key nor --old-key is the one that encrypted the originals; name that one with --old-key",
                ));
            }
            self.write_previous(&keys)?;
        } else if keys.previous.is_empty() {
            return Err(wrong(
                "put the new key in its place, and name a file with the previous one with --old-key",
            ));
        }
        self.write_check(&keys)?;
        keys.vault_key()
    }

    /// True while the key of the originals is being replaced, or that was interrupted: `gridwatch keys rotate --originals` goes on with it.
    pub fn is_originals_rotation_pending(&self) -> bool {
        self.dir.join(PREVIOUS_FILE).exists()
    }

    /// Ends a rotation, after nothing is encrypted with the previous keys: deletes them.
    ///
    /// # Errors
    /// [`KeyError::Io`].
    pub fn end_rotation(&self) -> Result<(), KeyError> {
        self.remove(PREVIOUS_FILE)
    }

    /// Accepts the key of the originals that is there, after the one in use was lost: what that one encrypted stays unreadable. Generates one
    /// in the state directory if it is missing. True if another key had been in use. A credential that this process was not given is left to
    /// the service.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn accept_originals(&self, place: &OriginalsKey) -> Result<bool, KeyError> {
        if let OriginalsKey::Credential(name) = place
            && !credential(name).is_ok_and(|path| path.exists())
        {
            return Ok(false);
        }
        match self.adopt_originals(place) {
            Ok(_) => Ok(false),
            Err(KeyError::OtherOriginalsKey { .. }) => {
                self.remove(CHECK_FILE)?;
                self.remove(PREVIOUS_FILE)?;
                self.adopt_originals(place).map(|_| true)
            }
            Err(e) => Err(e),
        }
    }

    fn load_originals(&self, place: &OriginalsKey) -> Result<Keys, KeyError> {
        let path = self.originals_path(place)?;
        let current = match read_key(&path) {
            Err(KeyError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && *place == OriginalsKey::Own =>
            {
                if self.dir.join(CHECK_FILE).exists() {
                    return Err(KeyError::OtherOriginalsKey {
                        path,
                        what: "the key of the originals is missing; put it back from a backup of keys/, or go on with a new one on purpose \
                               (`gridwatch keys new`): what the lost one encrypted stays unreadable"
                            .into(),
                    });
                }
                let key = generate()?;
                self.write_key(&path, &key)?;
                key
            }
            key => key?,
        };
        let previous = self.previous(&current)?;
        let keys = Keys { current, previous };
        match self.check(&keys)? {
            Check::Differs => Err(differs(path, place)),
            Check::Missing | Check::Fits => Ok(keys),
        }
    }

    fn originals_path(&self, place: &OriginalsKey) -> Result<PathBuf, KeyError> {
        match place {
            OriginalsKey::Own => Ok(self.dir.join(ORIGINALS_FILE)),
            OriginalsKey::File(path) => Ok(path.clone()),
            OriginalsKey::Credential(name) => credential(name),
        }
    }

    /// The keys that `current` is replacing. Those encrypted with another key belong to a rotation that never began.
    fn previous(&self, current: &KeyBytes) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let sealed = self.read(PREVIOUS_FILE)?;
        let key = VaultKey::new(&**current).ok_or(KeyError::NoRandomness)?;
        let opened = sealed.and_then(|sealed| key.open_file(PREVIOUS_FILE, &sealed));
        let opened = opened.filter(|keys| keys.len() <= MAX_PREVIOUS && keys.len().is_multiple_of(KEY_LEN));
        Ok(Zeroizing::new(opened.unwrap_or_default()))
    }

    fn check(&self, keys: &Keys) -> Result<Check, KeyError> {
        let Some(sealed) = self.read(CHECK_FILE)? else {
            return Ok(Check::Missing);
        };
        Ok(match keys.vault_key()?.open_file(CHECK_FILE, &sealed) {
            Some(_) => Check::Fits,
            None => Check::Differs,
        })
    }

    fn write_check(&self, keys: &Keys) -> Result<(), KeyError> {
        let sealed = keys.vault_key()?.seal_file(CHECK_FILE, b"");
        self.write_bytes(CHECK_FILE, &sealed.ok_or(KeyError::NoRandomness)?)
    }

    fn write_previous(&self, keys: &Keys) -> Result<(), KeyError> {
        let sealed = keys.vault_key()?.seal_file(PREVIOUS_FILE, &keys.previous);
        self.write_bytes(PREVIOUS_FILE, &sealed.ok_or(KeyError::NoRandomness)?)
    }

    fn write_key(&self, path: &Path, key: &KeyBytes) -> Result<(), KeyError> {
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LEN));
        BASE64.encode_string(key.as_slice(), &mut text);
        text.push('\n');
        self.write(path, &text)
    }

    fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), KeyError> {
        let path = self.dir.join(name);
        gridwatch_base::disk::write_private(&path, bytes).map_err(|e| io_error("write", &path, e))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, KeyError> {
        let path = self.dir.join(name);
        match file::read(&path, file::MAX_KEY) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("read", &path, e)),
        }
    }

    fn remove(&self, name: &str) -> Result<(), KeyError> {
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("delete", &path, e)),
            _ => Ok(()),
        }
    }
}

/// Total length of the keys that one key may replace, 16 of them: each interrupted rotation adds one.
const MAX_PREVIOUS: usize = 16 * KEY_LEN;

fn generate() -> Result<KeyBytes, KeyError> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    SystemRandom::new()
        .fill(&mut *key)
        .map_err(|_| KeyError::NoRandomness)?;
    Ok(key)
}

fn read_key(path: &Path) -> Result<KeyBytes, KeyError> {
    let text = file::read_secret(path, file::MAX_KEY).map_err(|e| io_error("read", path, e))?;
    // The decoder wants room for a whole group more.
    let mut bytes = Zeroizing::new([0; KEY_LEN + 4]);
    match BASE64.decode_slice(text.trim(), &mut *bytes) {
        Ok(KEY_LEN) => {
            let mut key = Zeroizing::new([0; KEY_LEN]);
            key.copy_from_slice(&bytes[..KEY_LEN]);
            Ok(key)
        }
        _ => Err(KeyError::Malformed {
            path: path.into(),
            what: "not a key of 32 bytes in base64; create one with `openssl rand -base64 32`".into(),
        }),
    }
}

fn differs(path: PathBuf, place: &OriginalsKey) -> KeyError {
    let what = match place {
        OriginalsKey::Own => {
            "not the key that encrypted this box's originals; put that one back from a backup of keys/, or go on with this one on purpose \
             (`gridwatch keys new`): what the other one encrypted stays unreadable"
        }
        _ => {
            "not the key that encrypted this box's originals; put that one back, encrypt them with this one \
             (`gridwatch keys rotate --originals --old-key FILE`), or go on with this one on purpose (`gridwatch keys new`): what the other one \
             encrypted stays unreadable"
        }
    };
    KeyError::OtherOriginalsKey {
        path,
        what: what.into(),
    }
}
