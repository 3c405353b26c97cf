//! The form of `[evidence]`: how pictures are made, and how long they are kept.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// Evidence pictures.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Evidence {
    /// JPEG quality. Below 70 plates of goods and prints on bags blur.
    #[schemars(range(min = 50, max = 100))]
    pub jpeg_quality: u8,
    /// Most bytes of one picture, which travels as one MQTT message. A larger one is encoded with less quality, down to 60, then with
    /// fewer pixels. Keep it below the broker's largest packet.
    #[schemars(range(min = 50_000, max = 16_000_000))]
    pub max_picture_bytes: u32,
    /// Least time between the two looks that a case shows.
    pub min_interval: Span,
    /// Mask faces, the heads of persons and the plate regions of vehicles that a model found, in every picture that leaves the box.
    pub mask: bool,
    /// Folders of models that look for these in each picture before it leaves the box: `face`, `person`, `car`, `truck`, `bus` and
    /// `motorcycle` are masked. What the camera's own models found is masked, too. A relative path starts at this file.
    pub mask_models: Vec<PathBuf>,
    /// Days for which originals (the bytes that the camera sent, for each look of a case) are kept, encrypted. They never leave the box
    /// by themselves. 0: none are kept.
    #[schemars(range(max = 3650))]
    pub originals_days: u32,
    /// Room for originals in MiB; those of cases that are over go first, then the oldest.
    #[schemars(range(min = 1, max = 10_485_760))]
    pub originals_mb: u32,
    /// Where the key of the originals is. Unset: in `keys/` of the state directory, made at the first start.
    pub originals_key: Option<KeyPlace>,
    /// Days for which the pictures of a case are kept after it ended. 0: as long as there is room.
    #[schemars(range(max = 36500))]
    pub pictures_days: u32,
    /// Room for pictures in MiB. Those of open cases, and what was not sent, stay whatever room they take.
    #[schemars(range(min = 1, max = 10_485_760))]
    pub pictures_mb: u32,
}

/// A key that is kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyPlace {
    /// A file with 32 bytes in base64 (`openssl rand -base64 32`), readable by the daemon's user alone.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// A credential of the service (`LoadCredential=` or `LoadCredentialEncrypted=` of its unit), with the same in it.
    #[serde(default)]
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
            pictures_days: 0,
            pictures_mb: 32_768,
        }
    }
}
