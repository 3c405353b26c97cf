//! The message by which boxes that see the same sites coordinate who files a case.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Method, SCHEMA_VERSION, When};
use gridwatch_engine::{AdvertText, CaseId, CellCode, Claim, Location, LonLat, PhoneNumber, PlaceMethod};

/// A box's claim on a site: it has an open case there. Retained, and signed: the message ends with the member `signature`, the
/// signature by `public_key` over the bytes of the object without it. When the case is closed, a last message says that it is `released`, and
/// an empty one clears the topic. An empty message alone means nothing, because anyone could send it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "gridwatch claim, version 1")]
pub struct ClaimMessage {
    /// Version of the contract; 1.
    pub schema_version: u32,
    /// Id of the case.
    #[schemars(regex(pattern = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"))]
    pub case_id: String,
    /// Id of the box that claims the site.
    pub node_id: String,
    /// Category code of the case.
    pub category_code: String,
    /// Code of the unit grid cell （单元网格编码）.
    pub cell_code: String,
    /// Longitude in degrees east, in the grid's coordinate reference system.
    #[schemars(range(min = -180, max = 180))]
    pub lon: f64,
    /// Latitude in degrees north, in the grid's coordinate reference system.
    #[schemars(range(min = -90, max = 90))]
    pub lat: f64,
    /// Radius around the coordinates within which the problem lies, in metres.
    #[schemars(range(min = 0))]
    pub uncertainty_m: f64,
    /// How the coordinates were obtained.
    #[schemars(with = "Method")]
    pub place_method: PlaceMethod,
    /// Minimum distance between separate sites under the case's rule, in metres.
    #[schemars(range(min = 0))]
    pub merge_radius_m: f64,
    /// Telephone number on a small ad: digits only, in national format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advert_number: Option<String>,
    /// Text on an advert or banner, at most 160 characters; names and identity numbers are masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 160))]
    pub advert_text: Option<String>,
    /// True once the broker has acknowledged the case. Until then, other boxes hold back their cases of this site.
    pub filed: bool,
    /// True in the last message of a claim: the case is closed, or another box was first.
    #[serde(default, skip_serializing_if = "is_false")]
    pub released: bool,
    /// Random value, new in each message, by which the box recognises its own message when the broker sends it back.
    #[schemars(regex(pattern = r"^[0-9a-f]{16}$"))]
    pub saying: String,
    /// The claim expires at this time unless published again. Of two messages about one case, the one with the later time is the newer.
    pub until: When,
    /// Algorithm of `signature`: `ed25519`, or `ecdsa-p256-sha256` with signatures in DER.
    #[schemars(length(min = 1, max = 40))]
    pub signature_algorithm: String,
    /// The box's public key, as printed by `gridwatch keys show`: 32 bytes of Ed25519 in base64; a key of another algorithm after `ALGORITHM:`.
    #[schemars(regex(pattern = r"^([A-Za-z0-9+/]{43}=|[a-z0-9-]{1,40}:[A-Za-z0-9+/]{40,400}={0,2})$"))]
    pub public_key: String,
    /// Signature over the message without this member, in base64. Absent until the message is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9+/]{40,400}={0,2}$"))]
    pub signature: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The key that signs claims, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimKey {
    /// Name of the signature algorithm.
    pub algorithm: String,
    /// The public key in its text form.
    pub public_key: String,
}

/// How a claim's message differs from the previous one of the same case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimStage {
    /// The case is not filed yet.
    Wanted,
    /// The broker has acknowledged the case.
    Filed,
    /// The case is closed, or was never filed.
    Released,
}

/// Largest plausible uncertainty and merge radius, in metres.
const MAX_RADIUS_M: f64 = 1000.0;

impl ClaimMessage {
    /// The message for `claim`, to be signed by `key`; `nonce` becomes the field `saying`.
    pub fn new(claim: &Claim, stage: ClaimStage, nonce: u64, until: When, key: &ClaimKey) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            case_id: claim.case.to_string(),
            node_id: claim.node.to_string(),
            category_code: claim.category.clone(),
            cell_code: claim.located.cell.to_string(),
            lon: claim.located.at.lon,
            lat: claim.located.at.lat,
            uncertainty_m: claim.located.uncertainty_m,
            place_method: claim.located.method,
            merge_radius_m: claim.merge_radius_m,
            advert_number: claim.number.as_ref().map(ToString::to_string),
            advert_text: claim.text.as_ref().map(ToString::to_string),
            filed: stage == ClaimStage::Filed,
            released: stage == ClaimStage::Released,
            saying: format!("{nonce:016x}"),
            until,
            signature_algorithm: key.algorithm.clone(),
            public_key: key.public_key.clone(),
            signature: None,
        }
    }

    /// The claim for the engine; `None` if a coordinate or radius is out of range.
    pub fn claim(&self) -> Option<Claim> {
        let is_radius = |m: f64| (0.0..=MAX_RADIUS_M).contains(&m);
        let is_location = (-180.0..=180.0).contains(&self.lon) && (-90.0..=90.0).contains(&self.lat);
        (is_location && is_radius(self.uncertainty_m) && is_radius(self.merge_radius_m)).then(|| Claim {
            case: CaseId::from(self.case_id.as_str()),
            node: self.node_id.as_str().into(),
            category: self.category_code.clone(),
            located: Location {
                at: LonLat {
                    lon: self.lon,
                    lat: self.lat,
                },
                uncertainty_m: self.uncertainty_m,
                method: self.place_method,
                cell: CellCode::from(self.cell_code.as_str()),
            },
            merge_radius_m: self.merge_radius_m,
            number: self.advert_number.as_deref().map(PhoneNumber::from),
            // Bounds the length.
            text: self.advert_text.as_deref().map(AdvertText::from),
        })
    }
}
