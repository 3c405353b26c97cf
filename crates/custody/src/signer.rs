//! What signs for the box: a key in a file, or one that never leaves a token.

use std::sync::Arc;

use super::{
    keys::KeyError,
    signature::{PublicKey, SIGNATURE_MEMBER, SigningKey},
};

/// A key that signs records, claims and the end of the chain.
pub trait Signer: Send + Sync {
    /// The public key.
    fn public(&self) -> PublicKey;

    /// Signs `message`; returns the signature in base64, as [`PublicKey::verifies`] takes it. Returns within seconds.
    ///
    /// # Errors
    /// [`KeyError::Token`] of a key in a token; a key in a file always signs.
    fn sign(&self, message: &[u8]) -> Result<String, KeyError>;
}

impl Signer for SigningKey {
    fn public(&self) -> PublicKey {
        Self::public(self)
    }

    fn sign(&self, message: &[u8]) -> Result<String, KeyError> {
        Ok(Self::sign(self, message).trim_end().to_owned())
    }
}

impl<T: Signer + ?Sized> Signer for Arc<T> {
    fn public(&self) -> PublicKey {
        (**self).public()
    }

    fn sign(&self, message: &[u8]) -> Result<String, KeyError> {
        (**self).sign(message)
    }
}

/// Appends a signature over the bytes of a JSON object to that object, as its last member.
///
/// # Errors
/// As [`Signer::sign`].
pub fn seal(key: &dyn Signer, object: &str) -> Result<String, KeyError> {
    let open = object.strip_suffix('}').unwrap_or(object);
    Ok(format!("{open}{SIGNATURE_MEMBER}{}\"}}", key.sign(object.as_bytes())?))
}
