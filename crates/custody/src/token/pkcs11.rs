//! Signing through a PKCS#11 module (OASIS PKCS#11 v2.40 and v3.0).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::{
        Mechanism, MechanismType,
        eddsa::{EddsaParams, EddsaSignatureScheme},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};

use super::{TokenError, TokenUri, worker::Device};
use crate::{Algorithm, PublicKey, keys::KeyError};
use gridwatch_base::disk::write_private;

/// Maximum number of tokens named in an error.
const NAMED: usize = 8;

/// OBJECT IDENTIFIERs in DER, as tokens expect them in CKA_EC_PARAMS.
const OID_ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";
const OID_P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// The other form of Ed25519 in PKCS#11 v3.0: a PrintableString "edwards25519".
const NAME_ED25519: &[u8] = b"\x13\x0cedwards25519";

/// The modules of this process: a module is initialised once a process, however many signers use it.
static MODULES: Mutex<BTreeMap<PathBuf, Loaded>> = Mutex::new(BTreeMap::new());

struct Loaded {
    module: Pkcs11,
    users: usize,
}

fn modules() -> MutexGuard<'static, BTreeMap<PathBuf, Loaded>> {
    MODULES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load(path: &Path) -> Result<Pkcs11, TokenError> {
    let failed = |reason: String| TokenError::Module {
        path: path.into(),
        reason,
    };
    if !path.is_file() {
        return Err(failed("no such file".into()));
    }
    let module = Pkcs11::new(path).map_err(|e| failed(e.to_string()))?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        // Such as a TPM that does not answer.
        Err(e) => Err(TokenError::Unavailable {
            reason: format!("the PKCS#11 module {} cannot be initialised: {e}", path.display()),
        }),
    }
}

/// A signer's use of a module.
struct ModuleUse {
    path: PathBuf,
}

impl ModuleUse {
    fn new(path: &Path) -> Result<Self, TokenError> {
        let mut modules = modules();
        match modules.get_mut(path) {
            Some(loaded) => loaded.users += 1,
            None => {
                let module = load(path)?;
                modules.insert(path.into(), Loaded { module, users: 1 });
            }
        }
        Ok(Self { path: path.into() })
    }

    fn module(&self) -> Result<Pkcs11, TokenError> {
        let modules = modules();
        let loaded = modules.get(&self.path).map(|loaded| loaded.module.clone());
        loaded.ok_or_else(|| TokenError::Unavailable {
            reason: "its module could not be initialised again".into(),
        })
    }

    /// Initialises the module again: many list the tokens that were there when they were initialised, and no others. Not while another
    /// signer may be using it.
    fn restart(&self) -> Result<(), TokenError> {
        let mut modules = modules();
        if let Some(Loaded { users: 2.., .. }) = modules.get(&self.path) {
            return Ok(());
        }
        if let Some(loaded) = modules.remove(&self.path) {
            // A module whose token is gone may fail to say goodbye to it.
            let _ = loaded.module.finalize();
        }
        let module = load(&self.path)?;
        modules.insert(self.path.clone(), Loaded { module, users: 1 });
        Ok(())
    }
}

impl Drop for ModuleUse {
    fn drop(&mut self) {
        // Stays loaded: unloading runs code of the module.
        if let Some(loaded) = modules().get_mut(&self.path) {
            loaded.users = loaded.users.saturating_sub(1);
        }
    }
}

/// A session that is logged in, and its key.
struct OpenKey {
    session: Session,
    key: ObjectHandle,
    public: PublicKey,
}

/// A key in a token, opened again when the token was away.
pub(super) struct TokenDevice {
    uri: TokenUri,
    marker: PathBuf,
    module: Option<ModuleUse>,
    open: Option<OpenKey>,
    /// The key at the start.
    public: Option<PublicKey>,
}

impl TokenDevice {
    pub(super) fn new(uri: TokenUri, marker: PathBuf) -> Self {
        Self {
            uri,
            marker,
            module: None,
            open: None,
            public: None,
        }
    }

    /// Opens the token; creates the key if it has none and `create` is set.
    pub(super) fn open(mut self, create: bool) -> Result<(Self, PublicKey), KeyError> {
        let public = self.open_key(create)?.public.clone();
        self.public = Some(public.clone());
        Ok((self, public))
    }

    fn open_key(&mut self, create: bool) -> Result<&OpenKey, KeyError> {
        let module = match &self.module {
            Some(used) => used.module()?,
            None => self.module.insert(ModuleUse::new(&self.uri.module)?).module()?,
        };
        let slot = self.slot(&module)?;
        let session = match create {
            true => module.open_rw_session(slot),
            false => module.open_ro_session(slot),
        };
        let session = session.map_err(unavailable)?;
        self.log_in(&module, slot, &session)?;
        let key = match self.find_key(&session)? {
            Some(key) => key,
            None if create => self.create_key(&module, slot, &session)?,
            None => {
                return Err(TokenError::NoKey {
                    uri: self.uri.to_string(),
                }
                .into());
            }
        };
        let public = self.public_key(&session, key)?;
        self.expect_mechanism(&module, slot, public.algorithm())?;
        Ok(self.open.insert(OpenKey { session, key, public }))
    }

    fn slot(&self, module: &Pkcs11) -> Result<Slot, TokenError> {
        let (mut found, mut labels) = (Vec::new(), Vec::new());
        for slot in module.get_slots_with_token().map_err(unavailable)? {
            // A token that was just removed.
            let Ok(info) = module.get_token_info(slot) else {
                continue;
            };
            labels.push(format!("{:?}", info.label()));
            let has = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
            if has(&self.uri.token, info.label())
                && has(&self.uri.serial, info.serial_number())
                && has(&self.uri.manufacturer, info.manufacturer_id())
                && has(&self.uri.model, info.model())
            {
                found.push(slot);
            }
        }
        match found[..] {
            [slot] => Ok(slot),
            [] => {
                labels.truncate(NAMED);
                Err(TokenError::NoToken {
                    uri: self.uri.to_string(),
                    found: match labels.is_empty() {
                        true => "none".into(),
                        false => labels.join(", "),
                    },
                })
            }
            _ => Err(TokenError::Ambiguous {
                what: "tokens",
                count: found.len(),
                uri: self.uri.to_string(),
                remedy: "serial=…",
            }),
        }
    }

    /// Logs in, unless that could lock the token.
    fn log_in(&self, module: &Pkcs11, slot: Slot, session: &Session) -> Result<(), KeyError> {
        let rejected = || TokenError::PinRejected {
            marker: self.marker.clone(),
        };
        if self.marker.exists() {
            return Err(rejected().into());
        }
        let info = module.get_token_info(slot).map_err(unavailable)?;
        let locked = |state| {
            let uri = self.uri.to_string();
            Err(TokenError::PinLocked { uri, state }.into())
        };
        if info.user_pin_locked() {
            return locked("has locked its PIN");
        }
        if info.user_pin_final_try() {
            return locked("would lock its PIN after one more wrong one");
        }
        let pin = self.uri.pin.read()?;
        let result = session.login(UserType::User, Some(&AuthPin::from(pin.as_str())));
        match result {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                let note = "The token rejected the PIN. Correct it, then delete this file.\n";
                write_private(&self.marker, note.as_bytes()).map_err(|source| KeyError::Io {
                    doing: "write",
                    path: self.marker.clone(),
                    source,
                })?;
                Err(rejected().into())
            }
            Err(Error::Pkcs11(RvError::PinLocked, _)) => locked("has locked its PIN"),
            Err(e) => Err(unavailable(e).into()),
        }
    }

    /// The attributes that name the key.
    fn names(&self) -> Vec<Attribute> {
        let label = self
            .uri
            .object
            .as_ref()
            .map(|label| Attribute::Label(label.as_bytes().to_vec()));
        label
            .into_iter()
            .chain(self.uri.id.clone().map(Attribute::Id))
            .collect()
    }

    fn find_key(&self, session: &Session) -> Result<Option<ObjectHandle>, TokenError> {
        let mut template = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Sign(true)];
        template.extend(self.names());
        match session.find_objects(&template).map_err(unavailable)?[..] {
            [] => Ok(None),
            [key] => Ok(Some(key)),
            ref keys => Err(TokenError::Ambiguous {
                what: "private keys",
                count: keys.len(),
                uri: self.uri.to_string(),
                remedy: "id=…",
            }),
        }
    }

    /// The public key of a private one: the public object with the same CKA_ID, or with the same label if it has none.
    fn public_key(&self, session: &Session, key: ObjectHandle) -> Result<PublicKey, TokenError> {
        let unsuitable = |reason: &str| TokenError::UnsuitableKey {
            uri: self.uri.to_string(),
            reason: reason.into(),
        };
        let mut template = vec![Attribute::Class(ObjectClass::PUBLIC_KEY)];
        let id = session.get_attributes(key, &[AttributeType::Id]).map_err(unavailable)?;
        match id
            .into_iter()
            .find(|a| matches!(a, Attribute::Id(id) if !id.is_empty()))
        {
            Some(id) => template.push(id),
            None => template.extend(self.names()),
        }
        let public = session.find_objects(&template).map_err(unavailable)?;
        let [public] = public[..] else {
            return Err(unsuitable(
                "the token must have exactly one public key with the same id",
            ));
        };
        let wanted = [AttributeType::KeyType, AttributeType::EcParams, AttributeType::EcPoint];
        let (mut kind, mut curve, mut point) = (None, Vec::new(), Vec::new());
        for attribute in session.get_attributes(public, &wanted).map_err(unavailable)? {
            match attribute {
                Attribute::KeyType(found) => kind = Some(found),
                Attribute::EcParams(found) => curve = found,
                Attribute::EcPoint(found) => point = found,
                _ => {}
            }
        }
        let algorithm = match (kind, &curve[..]) {
            (Some(KeyType::EC_EDWARDS), OID_ED25519 | NAME_ED25519) => Algorithm::Ed25519,
            (Some(KeyType::EC), OID_P256) => Algorithm::EcdsaP256Sha256,
            _ => {
                return Err(unsuitable(
                    "it is neither an Ed25519 key nor an EC key on P-256; create one of these",
                ));
            }
        };
        // A DER OCTET STRING, or in some modules the bytes themselves.
        let bytes = match &point[..] {
            whole if whole.len() == algorithm.key_length() => whole.to_vec(),
            [0x04, length, rest @ ..] if usize::from(*length) == rest.len() => rest.to_vec(),
            _ => Vec::new(),
        };
        PublicKey::new(algorithm, bytes)
            .ok_or_else(|| unsuitable("the token describes its public key in an unknown form"))
    }

    fn expect_mechanism(&self, module: &Pkcs11, slot: Slot, algorithm: Algorithm) -> Result<(), TokenError> {
        let (mechanism, name, remedy) = match algorithm {
            Algorithm::Ed25519 => (
                MechanismType::EDDSA,
                "CKM_EDDSA",
                "use an EC key on P-256 (CKM_ECDSA) instead",
            ),
            Algorithm::EcdsaP256Sha256 => (MechanismType::ECDSA, "CKM_ECDSA", "use another token"),
        };
        match has(module, slot, mechanism)? {
            true => Ok(()),
            false => Err(TokenError::NoMechanism {
                uri: self.uri.to_string(),
                mechanism: name,
                remedy,
            }),
        }
    }

    fn create_key(&self, module: &Pkcs11, slot: Slot, session: &Session) -> Result<ObjectHandle, TokenError> {
        let kinds = [
            (
                MechanismType::EDDSA,
                MechanismType::ECC_EDWARDS_KEY_PAIR_GEN,
                Mechanism::EccEdwardsKeyPairGen,
                OID_ED25519,
            ),
            (
                MechanismType::ECDSA,
                MechanismType::ECC_KEY_PAIR_GEN,
                Mechanism::EccKeyPairGen,
                OID_P256,
            ),
        ];
        let mut kind = None;
        for (sign, generate, mechanism, curve) in kinds {
            if has(module, slot, sign)? && has(module, slot, generate)? {
                kind = Some((mechanism, curve));
                break;
            }
        }
        let (mechanism, curve) = kind.ok_or_else(|| TokenError::NoMechanism {
            uri: self.uri.to_string(),
            mechanism: "CKM_EDDSA or CKM_ECDSA with key generation",
            remedy: "use another token",
        })?;
        let mut names = self.names();
        if self.uri.id.is_none() {
            // Ties the two halves together.
            let mut id = [0; 8];
            SystemRandom::new().fill(&mut id).map_err(|_| TokenError::Unavailable {
                reason: "no random numbers from the operating system".into(),
            })?;
            names.push(Attribute::Id(id.to_vec()));
        }
        let mut public = vec![
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(curve.to_vec()),
        ];
        let mut private = vec![
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ];
        public.extend(names.clone());
        private.extend(names);
        let created = session.generate_key_pair(&mechanism, &public, &private);
        Ok(created.map_err(unavailable)?.1)
    }
}

/// Whether the token has a mechanism.
fn has(module: &Pkcs11, slot: Slot, mechanism: MechanismType) -> Result<bool, TokenError> {
    // Not `get_mechanism_list`, which logs an error for each mechanism that the crate does not know.
    match module.get_mechanism_info(slot, mechanism) {
        Ok(_) => Ok(true),
        Err(Error::Pkcs11(RvError::MechanismInvalid, _)) => Ok(false),
        Err(e) => Err(unavailable(e)),
    }
}

impl Device for TokenDevice {
    fn sign(&mut self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        if let Some(open) = &self.open {
            match sign(open, message) {
                Ok(signature) => return Ok(signature),
                // The session may be that of a token that was away; once more with a new one.
                Err(error) => tracing::warn!(%error, "Signing key's token failed; opening it again"),
            }
            self.open = None;
        }
        if let Some(used) = &self.module {
            used.restart()?;
        }
        let known = self.public.clone();
        let open = self.open_key(false)?;
        if known.is_some_and(|known| known != open.public) {
            self.open = None;
            let reason = "it holds another key than at the start".into();
            return Err(TokenError::Unavailable { reason }.into());
        }
        let signed = sign(open, message);
        if signed.is_err() {
            self.open = None;
        }
        Ok(signed?)
    }
}

fn sign(open: &OpenKey, message: &[u8]) -> Result<Vec<u8>, TokenError> {
    let OpenKey { session, key, public } = open;
    match public.algorithm() {
        Algorithm::Ed25519 => {
            let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
            session.sign(&mechanism, *key, message).map_err(unavailable)
        }
        Algorithm::EcdsaP256Sha256 => {
            let hash = digest(&SHA256, message);
            let signature = session
                .sign(&Mechanism::Ecdsa, *key, hash.as_ref())
                .map_err(unavailable)?;
            let (r, s) = signature
                .split_at_checked(32)
                .filter(|(_, s)| s.len() == 32)
                .ok_or_else(|| TokenError::Unavailable {
                    reason: "it returned a signature that is not 64 bytes long".into(),
                })?;
            Ok(to_der(r, s))
        }
    }
}

/// An ECDSA signature as OpenSSL and X.509 have it: SEQUENCE { INTEGER r, INTEGER s } (RFC 3279, section 2.2.3).
fn to_der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
        let bytes = &bytes[start..];
        let sign: &[u8] = if bytes[0] >= 0x80 { &[0] } else { &[] };
        // At most 33 bytes.
        [&[0x02, (sign.len() + bytes.len()) as u8], sign, bytes].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, body.len() as u8], &body[..]].concat()
}

fn unavailable(error: Error) -> TokenError {
    TokenError::Unavailable {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_encoded_as_openssl_does() {
        let mut r = [0; 32];
        r[31] = 0x80;
        let mut s = [0x7f; 32];
        assert_eq!(to_der(&r, &s)[..7], [0x30, 38, 2, 2, 0, 0x80, 2]);
        s[0] = 0xff;
        let der = to_der(&[0xff; 32], &s);
        assert_eq!((der.len(), &der[..5]), (72, &[0x30, 70, 2, 33, 0][..]));
        assert_eq!(to_der(&[0; 32], &[0; 32]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
    }
}
