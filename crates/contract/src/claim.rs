//! What boxes say to each other of the sites that more than one of them sees.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Method, SCHEMA_VERSION, When};
use gridwatch_engine::{CaseId, CellCode, Claim, Located, LonLat, PhoneNumber, PlaceMethod};

/// A case that a box has open, retained on the site topic for the other boxes. An empty message in its place: it is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "gridwatch claim, version 1")]
pub struct ClaimMessage {
    /// 1.
    pub schema_version: u32,
    /// Which case.
    #[schemars(regex(pattern = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"))]
    pub case_id: String,
    /// The box that has it.
    pub node_id: String,
    /// 2-digit class + 2-digit subclass.
    pub category_code: String,
    /// The unit grid cell's code.
    pub cell_code: String,
    /// Degrees, in the grid's own coordinate reference system.
    #[schemars(range(min = -180, max = 180))]
    pub lon: f64,
    /// Degrees.
    #[schemars(range(min = -90, max = 90))]
    pub lat: f64,
    /// Metres.
    #[schemars(range(min = 0))]
    pub uncertainty_m: f64,
    /// How the place was found.
    #[schemars(with = "Method")]
    pub place_method: PlaceMethod,
    /// What the case's rule takes for one site at least, metres.
    #[schemars(range(min = 0))]
    pub merge_radius_m: f64,
    /// The telephone number of a small ad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advert_number: Option<String>,
    /// A broker has acknowledged the case. Until then another box's problem there waits.
    pub filed: bool,
    /// Drawn anew each time that the box says it: tells one saying from another.
    #[schemars(regex(pattern = r"^[0-9a-f]{16}$"))]
    pub saying: String,
    /// Not renewed by then, it counts for nothing.
    pub until: When,
}

/// Distances beyond this are none that two cameras' places could be confused over, metres.
const MAX_REACH_M: f64 = 1000.0;

impl ClaimMessage {
    /// What is said of `claim`.
    pub fn new(claim: &Claim, filed: bool, saying: u64, until: When) -> Self {
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
            filed,
            saying: format!("{saying:016x}"),
            until,
        }
    }

    /// For the engine; `None` where a number is none that a box would say.
    pub fn claim(&self) -> Option<Claim> {
        let is_reach = |m: f64| (0.0..=MAX_REACH_M).contains(&m);
        let is_place = (-180.0..=180.0).contains(&self.lon) && (-90.0..=90.0).contains(&self.lat);
        (is_place && is_reach(self.uncertainty_m) && is_reach(self.merge_radius_m)).then(|| Claim {
            case: CaseId::from(self.case_id.as_str()),
            node: self.node_id.as_str().into(),
            category: self.category_code.clone(),
            located: Located {
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
        })
    }
}
