//! What may be known of the box's keys: the public one, where the private ones are, and whether they are being replaced. Reads no private key.

use gridwatch_base::digest::sha256_hex;
use gridwatch_config::Config;
use gridwatch_custody::{
    PublicKey,
    keys::{OriginalsKey, SigningKeyPlace},
};
use gridwatch_store::{Store, StoreError};
use schemars::JsonSchema;
use serde::Serialize;

/// What may be known of the box's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyStatus {
    /// The public key by which the platform verifies this box's cases, as the chain of custody has it; `None` before the first start.
    pub public_key: Option<String>,
    /// SHA-256 of its bytes, in lower-case hex: to compare by telephone.
    pub fingerprint: Option<String>,
    /// Where the private signing key is.
    pub signing_key: KeyLocation,
    /// Where the key is that encrypts originals; `None` if originals are not kept.
    pub originals_key: Option<KeyLocation>,
    /// A rotation of the signing key was interrupted.
    pub is_signing_rotation_pending: bool,
    /// The key of the originals is being replaced, or that was interrupted.
    pub is_originals_rotation_pending: bool,
    /// Keys that other users of the box can read, with the remedy.
    pub faults: Vec<String>,
}

/// Where a private key is. Names and paths of places outside the state directory are not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyLocation {
    /// In `keys/` of the state directory: who steals the disk has it.
    StateDirectory,
    /// In a PKCS#11 token or TPM.
    Token,
    /// In a file outside the state directory.
    File,
    /// In a systemd credential.
    Credential,
}

/// The keys of the box with this configuration.
///
/// # Errors
/// The database cannot be read. A missing one is no error: the box was not started yet.
pub fn status(config: &Config) -> Result<KeyStatus, StoreError> {
    let known = match Store::open_read_only(&config.state_dir) {
        Ok(store) => store.chain_keys()?,
        Err(StoreError::Missing { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let ring = config.keys();
    let public_key = known.into_iter().next();
    let fingerprint = public_key.as_deref().and_then(|key| {
        let key: PublicKey = key.parse().ok()?;
        Some(sha256_hex(key.as_bytes()))
    });
    Ok(KeyStatus {
        public_key,
        fingerprint,
        signing_key: match ring.signing_place() {
            SigningKeyPlace::Own => KeyLocation::StateDirectory,
            SigningKeyPlace::Token(_) => KeyLocation::Token,
        },
        originals_key: config.evidence.originals.as_ref().map(|place| match place {
            OriginalsKey::Own => KeyLocation::StateDirectory,
            OriginalsKey::File(_) => KeyLocation::File,
            OriginalsKey::Credential(_) => KeyLocation::Credential,
        }),
        is_signing_rotation_pending: ring.is_signing_rotation_pending(),
        is_originals_rotation_pending: ring.is_originals_rotation_pending(),
        faults: ring.unprotected([]).iter().map(ToString::to_string).collect(),
    })
}
