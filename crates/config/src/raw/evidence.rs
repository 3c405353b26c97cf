//! The `[evidence]` section: encoding, masking and retention of pictures.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CREDENTIAL_PATTERN, Span};

/// Evidence pictures: encoding, masking, retention.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Evidence {
    /// JPEG quality. Default 88. Below 70, print on bags and signs becomes illegible.
    #[schemars(range(min = 50, max = 100))]
    pub jpeg_quality: u8,
    /// Maximum size of one picture in bytes; each is sent as one MQTT message. Default 400000. Larger pictures are re-encoded with lower
    /// quality, down to 60, and then scaled down. Must be below the broker's maximum packet size, or pictures are rejected.
    #[schemars(range(min = 50_000, max = 16_000_000))]
    pub max_picture_bytes: u32,
    /// Minimum time between the two looks shown in a case. Default `10s`, as required by GA/T 832; shorter intervals weaken the evidence.
    pub min_interval: Span,
    /// Mask faces, heads of persons and licence plate areas of vehicles in every picture that leaves the box. Default true. Without masking, personal data leaves the box (PIPL art. 26).
    pub mask: bool,
    /// Folders of additional models used for masking, run on every picture before it leaves the box. Masked labels are `face`, `person`,
    /// `car`, `truck`, `bus` and `motorcycle`; those detected by the camera's own models are masked too. Relative paths start at this file's directory.
    pub mask_models: Vec<PathBuf>,
    /// Days for which originals are kept, encrypted: the bytes sent by the camera for each look of a case. They are never sent
    /// automatically. Default 30. 0: originals are not kept.
    #[schemars(range(max = 3650))]
    pub originals_days: u32,
    /// Maximum size of all originals in MiB. Default 4096. Originals of closed cases are deleted first, then the oldest.
    #[schemars(range(min = 1, max = 10_485_760))]
    pub originals_mb: u32,
    /// Where the encryption key of the originals is stored. Unset: in `keys/` of the state directory, created at first start; a stolen box then reveals the key. A change takes effect at a restart.
    #[schemars(extend("x-applies" = "restart", "x-secret" = true))]
    pub originals_key: Option<KeyPlace>,
    /// Key in a PKCS#11 token or TPM that signs the box's cases, as a PKCS#11 URI (RFC 7512):
    /// `pkcs11:token=LABEL;object=LABEL?module-path=/PATH.so&pin-source=credential:NAME`. The key is Ed25519, or on P-256. `token` or `serial`,
    /// and `object` or `id`, are required; so is `pin-source`, a systemd credential or `file:/PATH`. The PIN itself does not belong here.
    /// Unset: in `keys/` of the state directory, created at first start. Hand over with `gridwatch keys rotate` when you change it. A change takes effect at a restart.
    #[schemars(extend("x-applies" = "restart", "x-secret" = true))]
    pub signing_key: Option<String>,
    /// Days for which the pictures of a case are kept after it has ended. Default 0: as long as there is space.
    #[schemars(range(max = 36500))]
    pub pictures_days: u32,
    /// Maximum size of all pictures in MiB. Default 32768. Pictures of open cases and unsent pictures are never deleted, even beyond this limit.
    #[schemars(range(min = 1, max = 10_485_760))]
    pub pictures_mb: u32,
}

/// Location of a key outside the state directory. Set exactly one of `file` and `credential`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyPlace {
    /// File with 32 random bytes in base64 (`openssl rand -base64 32`), accessible only to the daemon's user.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Name of a systemd credential with the same content (`LoadCredential=` or `LoadCredentialEncrypted=` in the unit).
    #[serde(default)]
    #[schemars(regex(pattern = CREDENTIAL_PATTERN))]
    pub credential: Option<String>,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            jpeg_quality: 88,
            max_picture_bytes: 400_000,
            min_interval: Span(Duration::from_secs(10)),
            mask: true,
            mask_models: Vec::new(),
            originals_days: 30,
            originals_mb: 4096,
            originals_key: None,
            signing_key: None,
            pictures_days: 0,
            pictures_mb: 32_768,
        }
    }
}
