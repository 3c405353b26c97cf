//! The `[[rules]]` section: when a detection is a problem.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ID_PATTERN, Span, defaults};
use gridwatch_model::ocr::second_look::TextNeeded;

/// A rule: which labels, for how long and under which conditions, are a problem to be filed as a case.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique id.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// Code of the category under which cases are filed; must be in the categories file.
    pub category: String,
    /// Labels that the rule applies to, as named in the models' manifests. The rule treats them as one kind of object.
    #[schemars(length(min = 1))]
    pub labels: Vec<String>,
    /// How long the object must be present before a case is filed, 1s to 30 days. Shorter dwells file more cases, and more of them are gone when the crew arrives.
    pub dwell: Span,
    /// The same for a new object that no model recognises in most looks (label `object`), not below `dwell`. Longer values keep shadows and luggage near waiting people from being vendors. Default `dwell`.
    #[serde(default)]
    pub unidentified_dwell: Option<Span>,
    /// Minimum score that starts a candidate, 0..1. Default 0.5. Lower values find more objects and cause more false cases.
    #[serde(default = "defaults::start_score")]
    #[schemars(range(min = 0.01, max = 1.0))]
    pub start_score: f32,
    /// Minimum score that continues a candidate, 0..1, not above `start_score`. Default 0.3. Lower values bridge flickering detections.
    #[serde(default = "defaults::keep_score")]
    #[schemars(range(min = 0.01, max = 1.0))]
    pub keep_score: f32,
    /// Scores at night, when the camera has switched to infrared and its image has no colour. Unset: the same scores as by day.
    #[serde(default)]
    pub night: Option<NightScores>,
    /// Whether the object must be new in the view, which the camera learns by itself. `required`: what was there when the view was learned starts no candidate. `preferred`: it starts one from `old_start_score`. Default `ignored`.
    #[serde(default)]
    pub appeared: Appeared,
    /// Minimum score that starts a candidate for an object that is new in the view, 0..1, not above `start_score`. Default `keep_score`, or `new_keep_score` if that is set. Needs `appeared`.
    #[serde(default)]
    #[schemars(range(min = 0.01, max = 1.0))]
    pub new_start_score: Option<f32>,
    /// Minimum score that continues a candidate for an object that is new in the view, and that a second look at it must reach, 0..1, not above `new_start_score` and `keep_score`. At night it is raised by as much as `keep_score`. A model is less sure of small objects, and newness is evidence of its own. Default: as for all objects. Needs `appeared`.
    #[serde(default)]
    #[schemars(range(min = 0.01, max = 1.0))]
    pub new_keep_score: Option<f32>,
    /// With `appeared = "preferred"`: minimum score that starts a candidate for an object that was there when the view was learned, 0..1, not below `start_score`. Default: halfway between `start_score` and 1.
    #[serde(default)]
    #[schemars(range(min = 0.01, max = 1.0))]
    pub old_start_score: Option<f32>,
    /// An object is present if it was detected in at least `seen_n` of the last `seen_m` looks. Default 3.
    #[serde(default = "defaults::seen_n")]
    #[schemars(range(min = 1, max = 64))]
    pub seen_n: u32,
    /// See `seen_n`. Default 5.
    #[serde(default = "defaults::seen_m")]
    #[schemars(range(min = 1, max = 64))]
    pub seen_m: u32,
    /// Fraction of all looks since the first in which the object must have been detected, 0..1. Default 0.6. Lower values tolerate more occlusion, and more false detections.
    #[serde(default = "defaults::present_share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub present_share: f32,
    /// How far the object may move from its first position, in diagonals of its first box. Default 0.5. Beyond that, it is a new candidate, so moving vendors are not filed.
    #[serde(default = "defaults::max_move")]
    #[schemars(range(min = 0.05, max = 20.0))]
    pub max_move: f32,
    /// The same in metres on the ground, for calibrated cameras; `max_move` applies to the others. Unset: `max_move` applies to all.
    #[serde(default)]
    #[schemars(range(min = 0.1, max = 500.0))]
    pub max_move_m: Option<f64>,
    /// Minimum area of the object's box as a fraction of the image, 0..1. Default 0.0005, which is 32×32 pixels at 1080p.
    #[serde(default = "defaults::min_area")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_area: f32,
    /// Minimum ground area in m² (a square as wide as the box), for calibrated cameras. Unset: any.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 10000.0))]
    pub min_area_m2: Option<f64>,
    /// Minimum number of boxes that make up the object. Together with `min_area_m2`, either is sufficient; without a calibration, only this applies. Unset: any.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    pub min_count: Option<u32>,
    /// Maximum gap between boxes that are merged into one object, in diagonals of the larger box, so that bags become a heap, and table and parasol a stall. Default 0: boxes are not merged. Too large, and neighbouring objects become one.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub gather: f32,
    /// Labels of other rules: in looks in which a detection with one of them covers most of an object, the object does not count here. Keeps garbage with somebody waiting beside it from being a vendor. Unset: none.
    #[serde(default)]
    pub except_labels: Option<ExceptLabels>,
    /// Requires people near the object: unattended goods are not a vendor. Unset: no one is required.
    #[serde(default)]
    pub attended: Option<Attended>,
    /// Second look at the object alone, at full resolution, before a case is filed. Unset: no second look.
    #[serde(default)]
    pub second_look: Option<SecondLook>,
    /// Time without a detection in clear looks after which the object has left. Default `2m`. Longer values bridge people or vehicles in front of it, but close candidates later.
    #[serde(default = "defaults::forget_after")]
    pub forget_after: Span,
    /// Maximum gap between looks that counts toward the dwell; a longer gap is an outage and adds nothing. Default `90s`. Use at least three times the longest `look_every`.
    #[serde(default = "defaults::max_gap")]
    pub max_gap: Span,
    /// Distance in metres below which cases of one category are the same problem. Default 8. Too large, and separate problems are not filed; too small, and one problem is filed twice.
    #[serde(default = "defaults::merge_radius")]
    #[schemars(range(min = 0.0, max = 500.0))]
    pub merge_radius_m: f64,
    /// Ignore objects in `container` zones. Default true. Set it to false for rules about overflowing containers.
    #[serde(default = "defaults::outside_containers")]
    pub outside_containers: bool,
    /// With `shop`, only objects in a watch zone and outside the shop's own ground (a `shop` zone) count. On a camera without a `shop` zone, the rule then files nothing. Unset: all watched ground.
    #[serde(default)]
    pub beyond: Option<Beyond>,
    /// What the objects are attached to. Default `ground`. With `wall`, the centre of a box must lie in the zone instead of its foot point, and cases are located at the view's `place`, because the height above ground is unknown.
    #[serde(default)]
    pub stands: Stands,
    /// Ignore signs listed in the view's `approved_signs`, so that only new ones are filed. Default false. Views without that file file nothing under this rule.
    #[serde(default)]
    pub except_approved: bool,
    /// Schedule during which the rule is active. Other time counts neither as presence nor as absence. Unset: always.
    #[serde(default)]
    pub active: Option<String>,
    /// Schedule during which the rule is paused, such as the hours of garbage collection. The dwell of objects present then starts at its end. Unset: never.
    #[serde(default)]
    pub pause: Option<String>,
    /// How long the pause continues after its schedule closes, up to 24h. Default `30m`. Too short, and garbage is filed that the lorry is about to collect.
    #[serde(default = "defaults::pause_after")]
    pub pause_after: Span,
}

/// Whether an object must be new in the view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Appeared {
    /// Newness does not count.
    #[default]
    Ignored,
    /// New objects start a candidate at a lower score, others at a higher one.
    Preferred,
    /// Only new objects start a candidate. In a view that is not learned yet, none does.
    Required,
}

/// Ground outside of which an object must be to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Beyond {
    /// The shop's own ground: its `shop` zones.
    Shop,
}

/// What objects are attached to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stands {
    /// The ground.
    #[default]
    Ground,
    /// A wall, a pole or a fence: signs and banners.
    Wall,
}

/// Labels that tell that an object is another rule's.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExceptLabels {
    /// Labels, such as `["garbage"]`.
    #[schemars(length(min = 1))]
    pub labels: Vec<String>,
    /// Minimum score of such a detection, 0..1. Default 0.5.
    #[serde(default = "defaults::start_score")]
    #[schemars(range(min = 0.01, max = 1.0))]
    pub score: f32,
}

/// People required near an object.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attended {
    /// Labels that count as people, usually `["person"]`.
    #[schemars(length(min = 1))]
    pub by: Vec<String>,
    /// Maximum gap between the boxes, in diagonals of the object's box. Default 1.
    #[serde(default = "defaults::attended_within")]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub within: f32,
    /// Fraction of the looks with the object, 0..1, in which someone must be near it. Default 0.5.
    #[serde(default = "defaults::attended_share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f32,
    /// Minimum area of the object's box, as a fraction of the person's box. Luggage is smaller than goods. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub min_size: f32,
}

/// Second look before a case is filed: the area around the object, at full resolution.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecondLook {
    /// Minimum score of the second look for one of the rule's labels, 0..1. Higher values file fewer false cases, and miss more true ones.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub score: f32,
    /// Id of the model that takes the second look, from its model.toml; it need not be one of the camera's models. Unset: the camera's models that detect the rule's labels or, with `text`, none.
    #[serde(default)]
    pub model: Option<String>,
    /// Text that the object must bear, as read in the second look by the models of `[reading]` and voted over several looks. If it does not, the score is 0; if it does, the score is that of the text, or of `model` where one is named. The text is added to the case. Unset: it is not read.
    #[serde(default)]
    pub text: Option<TextNeeded>,
}

/// Scores at night, when detectors are less accurate.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NightScores {
    /// Minimum score that starts a candidate, 0..1.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub start_score: f32,
    /// Minimum score that continues a candidate, 0..1, not above `start_score`.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub keep_score: f32,
}
