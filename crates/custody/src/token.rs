//! Signing keys in PKCS#11 tokens: smart cards, security modules, and TPMs through tpm2-pkcs11.
//!
//! The key never leaves the token, and the PIN is read from a file or a systemd credential. A token that hangs delays a signature by
//! [`SIGN_LIMIT`] at most; one that goes away is opened again at the next signature. A wrong PIN is tried once: tokens lock after a few.

mod pkcs11;
mod uri;
mod worker;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use self::uri::{PinSource, TokenUri};
use self::worker::Worker;
use super::{PublicKey, Signer, keys::KeyError};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use gridwatch_base::error::Class;

/// How long a signature may take. A TPM needs 0.1 to 0.5 s, and a commit holds the database meanwhile, for which others wait 10 s.
pub const SIGN_LIMIT: Duration = Duration::from_secs(5);
/// How long loading the module, logging in and creating a key may take; a TPM needs seconds.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// Why a token does not sign. No variant contains the PIN.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The module cannot be loaded.
    #[error("cannot load the PKCS#11 module {}: {reason}; install it, or correct module-path in evidence.signing_key", .path.display())]
    Module {
        /// The shared library.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// No token is the one that the URI describes.
    #[error(
        "no token matches {uri}; connected tokens: {found}. Connect or initialise it, or correct evidence.signing_key"
    )]
    NoToken {
        /// The key's URI.
        uri: String,
        /// The labels of the tokens that are there.
        found: String,
    },
    /// The URI describes several tokens or keys.
    #[error("{count} {what} match {uri}; add {remedy} to evidence.signing_key")]
    Ambiguous {
        /// `tokens` or `private keys`.
        what: &'static str,
        /// How many.
        count: usize,
        /// The key's URI.
        uri: String,
        /// The attribute that tells them apart.
        remedy: &'static str,
    },
    /// The token has no such key.
    #[error(
        "the token has no private key for signatures that matches {uri}; create it with `gridwatch keys new --config FILE`, or correct evidence.signing_key"
    )]
    NoKey {
        /// The key's URI.
        uri: String,
    },
    /// The key has another type.
    #[error("the key {uri} cannot be used: {reason}")]
    UnsuitableKey {
        /// The key's URI.
        uri: String,
        /// What it is, and the remedy.
        reason: String,
    },
    /// The token lacks the mechanism.
    #[error("the token of {uri} does not have the mechanism {mechanism}; {remedy}")]
    NoMechanism {
        /// The key's URI.
        uri: String,
        /// Its name in PKCS#11.
        mechanism: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The token rejected the PIN.
    #[error(
        "the token rejected the PIN of pin-source, now or at an earlier start; it is not tried again, because tokens lock after a few wrong \
         PINs. Correct the PIN, then delete {}",
        .marker.display()
    )]
    PinRejected {
        /// The file that keeps the PIN from being tried.
        marker: PathBuf,
    },
    /// The token accepts no PIN, or one more wrong one would lock it.
    #[error(
        "the token of {uri} {state}; unlock it, or log in once with its own tools (pkcs11-tool --login), then start gridwatch again"
    )]
    PinLocked {
        /// The key's URI.
        uri: String,
        /// What it says of its PIN.
        state: &'static str,
    },
    /// The token cannot be reached, or failed.
    #[error("the signing key's token is unavailable: {reason}")]
    Unavailable {
        /// The cause.
        reason: String,
    },
    /// The token did not answer in time.
    #[error("the signing key's token did not answer within {} s; restart gridwatch if it stays so", .limit.as_secs())]
    Hangs {
        /// The limit.
        limit: Duration,
    },
}

impl TokenError {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::NoToken { .. } | Self::Unavailable { .. } | Self::Hangs { .. } => Class::Transient,
            _ => Class::Config,
        }
    }
}

/// A key in a token.
pub struct TokenSigner {
    public: PublicKey,
    worker: Worker,
}

impl TokenSigner {
    /// Opens the token and finds the key. `marker` is the file that records a rejected PIN.
    ///
    /// # Errors
    /// [`KeyError::Token`], or the error of the file with the PIN.
    pub fn open(uri: &TokenUri, marker: &Path) -> Result<Self, KeyError> {
        Self::start(uri, marker, false)
    }

    /// Like [`TokenSigner::open`], but creates the key if the token has none: Ed25519 if the token can sign with it, else P-256.
    ///
    /// # Errors
    /// As [`TokenSigner::open`].
    pub fn open_or_create(uri: &TokenUri, marker: &Path) -> Result<Self, KeyError> {
        Self::start(uri, marker, true)
    }

    fn start(uri: &TokenUri, marker: &Path, create: bool) -> Result<Self, KeyError> {
        let device = pkcs11::TokenDevice::new(uri.clone(), marker.to_path_buf());
        let (worker, public) = Worker::spawn((OPEN_LIMIT, SIGN_LIMIT), move || device.open(create))?;
        Ok(Self { public, worker })
    }
}

impl Signer for TokenSigner {
    fn public(&self) -> PublicKey {
        self.public.clone()
    }

    /// Every error is transient: what is to be signed waits, whatever happened to the token.
    fn sign(&self, message: &[u8]) -> Result<String, KeyError> {
        let transient = |e: KeyError| match e.class() {
            Class::Transient => e,
            _ => TokenError::Unavailable { reason: e.to_string() }.into(),
        };
        let signature = BASE64.encode(self.worker.sign(message).map_err(transient)?);
        // A faulty token must not put a signature into the chain that never verifies.
        match self.public.verifies(message, &signature) {
            true => Ok(signature),
            false => Err(TokenError::Unavailable {
                reason: "it returned a signature that its public key does not verify".into(),
            }
            .into()),
        }
    }
}
