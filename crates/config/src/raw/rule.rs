//! The form of a rule: when a detection is a problem.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ID_PATTERN, Span, defaults};

/// When a detection is a problem: these labels, in these zones, this long.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique name.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// Code of the category its cases are filed as; must be in the categories file.
    pub category: String,
    /// Labels that count, as the models' manifests name them; all are one kind of thing to this rule.
    #[schemars(length(min = 1))]
    pub labels: Vec<String>,
    /// How long the thing must be seen to stay. Shorter files more and earlier, and more that is gone when the crew comes.
    pub dwell: Span,
    /// Score that starts a candidate, 0..1. Lower finds more and files more that is not there.
    #[serde(default = "defaults::start_score")]
    #[schemars(range(min = 0.01, max = 1.0))]
    pub start_score: f32,
    /// Score that keeps a candidate, 0..1, not above `start_score`. Lower bridges flickering detections.
    #[serde(default = "defaults::keep_score")]
    #[schemars(range(min = 0.01, max = 1.0))]
    pub keep_score: f32,
    /// The same two by night, when the camera has switched to infrared and its picture has no colour. Without it, the day's.
    #[serde(default)]
    pub night: Option<NightScores>,
    /// Present means seen in at least this many of the newest `seen_m` looks.
    #[serde(default = "defaults::seen_n")]
    #[schemars(range(min = 1, max = 64))]
    pub seen_n: u32,
    /// See `seen_n`.
    #[serde(default = "defaults::seen_m")]
    #[schemars(range(min = 1, max = 64))]
    pub seen_m: u32,
    /// Share of all looks since the first that must have seen it, 0..1.
    #[serde(default = "defaults::present_share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub present_share: f32,
    /// How far it may stray from where it was first seen, in diagonals of its first box. A vendor who keeps moving is none.
    #[serde(default = "defaults::max_move")]
    #[schemars(range(min = 0.05, max = 20.0))]
    pub max_move: f32,
    /// The same in metres on the ground, for cameras that are calibrated; `max_move` counts for the others.
    #[serde(default)]
    #[schemars(range(min = 0.1, max = 500.0))]
    pub max_move_m: Option<f64>,
    /// Least area of its box as a share of the picture, 0..1.
    #[serde(default = "defaults::min_area")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_area: f32,
    /// Least ground it covers in m² (a square as wide as its box), for cameras that are calibrated.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 10000.0))]
    pub min_area_m2: Option<f64>,
    /// Least number of boxes it is made of. With `min_area_m2` either is enough; without a calibration only this is asked.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub min_count: Option<u32>,
    /// Boxes whose gap is at most this many diagonals of the larger are one thing: bags are a heap, table and parasol a stall. 0: each is its own.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub gather: f32,
    /// Who must stand by it. Goods that nobody sells are no vendor, and people who wait have no goods.
    #[serde(default)]
    pub attended: Option<Attended>,
    /// A closer look at the thing alone, before a case of it is filed. Without it the looks at the whole picture decide.
    #[serde(default)]
    pub second_look: Option<SecondLook>,
    /// Unseen for this long through clear looks, it has left. Longer bridges passers-by who stand in front.
    #[serde(default = "defaults::forget_after")]
    pub forget_after: Span,
    /// A gap between looks longer than this (an outage) adds nothing to the dwell. Keep it above three times the slowest `look_every`.
    #[serde(default = "defaults::max_gap")]
    pub max_gap: Span,
    /// Cases of one category nearer to each other than this are one problem, in metres.
    #[serde(default = "defaults::merge_radius")]
    #[schemars(range(min = 0.0, max = 500.0))]
    pub merge_radius_m: f64,
    /// What stands in a `container` zone does not count. A rule about overflowing containers sets it to false.
    #[serde(default = "defaults::outside_containers")]
    pub outside_containers: bool,
    /// `shop`: only what stands outside the shop's own ground (a `shop` zone) and in a watch zone counts. On a camera without a `shop` zone the rule then finds nothing.
    #[serde(default)]
    pub beyond: Option<Beyond>,
    /// What its things are held by. `wall`: the middle of a box must lie in the zone instead of its foot, and the case lies at the camera's `place`, for nobody sees how high it hangs.
    #[serde(default)]
    pub stands: Stands,
    /// What a camera's `approved_signs` hold does not count: the rule is about what is new against them. A camera without that file then files nothing under this rule.
    #[serde(default)]
    pub except_approved: bool,
    /// Schedule in which the rule works. Other time is neither presence nor absence. Unset: always.
    #[serde(default)]
    pub active: Option<String>,
    /// Schedule in which the rule pauses, such as the hours of garbage collection: what is there then counts from its end.
    #[serde(default)]
    pub pause: Option<String>,
    /// How long the pause lasts after its schedule closed. Too short files what the lorry is on its way to.
    #[serde(default = "defaults::pause_after")]
    pub pause_after: Span,
}

/// Ground that a thing must have left to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Beyond {
    /// The shop's own: its `shop` zones.
    Shop,
}

/// What things are held by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stands {
    /// The ground.
    #[default]
    Ground,
    /// A wall, a pole, a fence: signs and banners.
    Wall,
}

/// Somebody who must be near a thing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attended {
    /// Labels that count as somebody.
    #[schemars(length(min = 1))]
    pub by: Vec<String>,
    /// How near: the gap between the boxes in diagonals of the thing's.
    #[serde(default = "defaults::attended_within")]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub within: f32,
    /// Share of the looks that saw the thing, 0..1, at which somebody must be near.
    #[serde(default = "defaults::attended_share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f32,
}

/// A closer look before a case is filed: at the part of the picture around the thing, with all its pixels.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecondLook {
    /// Least score of that look, 0..1, for one of the rule's labels. Higher files less that is not there, and less that is.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub score: f32,
    /// Id of the model that looks, as its model.toml has it; it need not be among the camera's. Without it, those of the camera's models that find the rule's labels.
    #[serde(default)]
    pub model: Option<String>,
}

/// Scores by night: detectors are less sure then, and sure of other things.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NightScores {
    /// Score that starts a candidate, 0..1.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub start_score: f32,
    /// Score that keeps a candidate, 0..1, not above `start_score`.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub keep_score: f32,
}
