//! The configuration file's form, one type a table. Field comments become the JSON Schema's descriptions: they say what
//! a field does, its unit, its default, and what goes wrong when it is set badly.
//!
//! No `flatten` and no untagged enums: they make serde's and the schema's errors unreadable.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

pub use gridwatch_camera::Backend;
pub use gridwatch_contract::Language;
use gridwatch_vision::ViewLimits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use gridwatch_engine as engine;
use gridwatch_model::manifest::Provider;

mod broker;
mod calendar;
mod camera;
mod evidence;
mod rule;
mod signs;
mod span;

pub(super) use calendar::{DATES_PATTERN, DAYS_PATTERN, SEASON_PATTERN, TIME_PATTERN};
pub(super) use span::SPAN_PATTERN;
pub use {
    broker::{Broker, ClientCertificate},
    calendar::{Calendar, CalendarFile, Schedule, Window},
    camera::*,
    evidence::{Evidence, KeyPlace},
    rule::*,
    signs::{Sign, Signs},
    span::Span,
};

/// What ids are made of: they end up in MQTT topics and file names.
pub(super) const ID_PATTERN: &str = r"^[A-Za-z0-9_-]{1,64}$";

/// What POSIX calls the name of an environment variable.
pub(super) const ENV_PATTERN: &str = r"^[A-Za-z_][A-Za-z0-9_]*$";

/// What names one view: a camera, or one of its presets.
pub(super) const VIEW_PATTERN: &str = r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64})?$";

/// GB/T 28181 annex D: 8 centre + 2 industry + 3 type + 1 network + 6 serial.
pub(super) const GB_ID_PATTERN: &str = r"^[0-9]{20}$";

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// This box.
    pub node: Node,
    /// The shared libraries and worker threads.
    #[serde(default)]
    pub runtime: Runtime,
    /// Decoding of keyframes.
    #[serde(default)]
    pub decode: Decode,
    /// The MQTT broker of the grid platform.
    pub broker: Broker,
    /// Logs, metrics and health.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// The city's grid and its categories.
    pub grid: Grid,
    /// Evidence pictures.
    #[serde(default)]
    pub evidence: Evidence,
    /// How many cases a day the platform is given.
    #[serde(default)]
    pub intake: Intake,
    /// What it takes to say that something is gone, or still there.
    #[serde(default)]
    pub verification: Verification,
    /// The record of everything that was judged.
    #[serde(default)]
    pub ledger: Ledger,
    /// When a view cannot be trusted.
    #[serde(default)]
    pub view: ViewLimits,
    /// Holidays and make-up working days.
    #[serde(default)]
    pub calendar: Calendar,
    /// Hours with a name, for zones and rules to refer to.
    #[serde(default)]
    pub schedules: Vec<Schedule>,
    /// The models that look.
    #[schemars(length(min = 1))]
    pub models: Vec<Model>,
    /// Reading of telephone numbers on walls (非法小广告). Unset: none are read.
    #[serde(default)]
    pub reading: Option<Reading>,
    /// Further versions of these models, brought to the box while it runs: `gridwatch model`.
    #[serde(default)]
    pub registry: Registry,
    /// When a detection is a problem.
    #[schemars(length(min = 1))]
    pub rules: Vec<Rule>,
    /// The cameras.
    #[schemars(length(min = 1))]
    pub cameras: Vec<Camera>,
}

impl File {
    /// The models and the city's files that it names, to be moved to where they are when the configuration is written elsewhere.
    pub fn data_paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let models = self.models.iter_mut().map(|m| &mut m.dir);
        let reading = self.reading.iter_mut().flat_map(|r| [&mut r.finder, &mut r.speller]);
        let signs = self.cameras.iter_mut().filter_map(|c| c.approved_signs.as_mut());
        [&mut self.grid.file, &mut self.grid.categories]
            .into_iter()
            .chain(models)
            .chain(reading)
            .chain(&mut self.evidence.mask_models)
            .chain(signs)
    }
}

/// This box.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The box's id on the platform: the `{node}` of every MQTT topic. Letters, digits, `-` and `_`.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// The city's time zone (IANA name). Times are kept in UTC and shown in this zone.
    #[serde(default = "defaults::timezone")]
    pub timezone: String,
    /// Where the database and the evidence live. A relative path starts at this file.
    pub state_dir: PathBuf,
    /// The language of case texts.
    #[serde(default)]
    pub language: Language,
}

/// The shared libraries and worker threads.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// ONNX Runtime's shared library (1.20 or newer). Unset: where `edge-deploy/setup.sh` puts it.
    pub onnxruntime: Option<PathBuf>,
    /// Threads that decode, look and judge, each with its own decoder and sessions. Unset: one a core, at most 4.
    #[schemars(range(min = 1, max = 64))]
    pub workers: Option<u32>,
    /// What networks run on, the first that this box has: `["cuda", "cpu"]`. Without `cpu` a box that has none of them refuses to
    /// start. Unset: what each model's manifest says, as a rule the processor.
    #[schemars(length(min = 1))]
    pub providers: Option<Vec<Provider>>,
    /// Threads of one session. Unset: what each model's manifest says, as a rule 1: there is a session for each worker.
    #[schemars(range(min = 1, max = 64))]
    pub model_threads: Option<u16>,
}

/// Reading of telephone numbers on walls: what rules find under the label `small_ad`, at the cameras with `read_numbers`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Folder of the model that finds lines of text (adapter `db`). A relative path starts at this file.
    pub finder: PathBuf,
    /// Folder of the model that spells a line (adapter `ctc`). A relative path starts at this file.
    pub speller: PathBuf,
    /// How often a camera is read. It takes half a second of a core for each megapixel watched, so not at every look; a rule's `max_gap` must be longer, for the looks in between are none of its looks.
    #[serde(default = "defaults::read_every")]
    pub every: Span,
}

/// Decoding of keyframes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Decode {
    /// Which decoders to use.
    pub backend: Backend,
}

/// A user and a password, never in the file itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Environment variable that holds `user:password`.
    #[serde(default)]
    #[schemars(regex(pattern = ENV_PATTERN))]
    pub env: Option<String>,
    /// File whose first line is `user:password`; readable by the daemon's user alone.
    #[serde(default)]
    pub file: Option<PathBuf>,
}

/// Logs, metrics and health.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Where `/healthz`, `/readyz` and `/metrics` are served. A loopback address, or nothing is served beyond the box by accident. Empty: not served.
    pub listen: String,
    /// How logs are written.
    pub log: LogFormat,
    /// Which logs, as a `tracing` filter: `info`, `gridwatch=debug,info`.
    pub filter: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9464".into(),
            log: LogFormat::Text,
            filter: "info".into(),
        }
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One sentence a line, for people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// The city's grid and its categories.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// GeoJSON of the unit cells: polygons with a code as a string.
    pub file: PathBuf,
    /// The coordinate reference system of that file, of every case, and of every coordinate here that states no other: `EPSG:4490` or `EPSG:4326`. It must be the one the file states.
    #[schemars(extend("enum" = ["EPSG:4490", "EPSG:4326"]))]
    pub crs: String,
    /// The property that holds a cell's code.
    #[serde(default = "defaults::code_property")]
    pub code_property: String,
    /// What every cell code must match. The default is 15 digits; older cities use 14.
    #[serde(default = "defaults::code_pattern")]
    pub code_pattern: String,
    /// The grid's version, stated in each case.
    #[schemars(length(min = 1))]
    pub version: String,
    /// The categories file.
    pub categories: PathBuf,
}

/// How many cases the platform is given on one calendar day, and how long those count that nobody answers. Clerks have two
/// minutes for each: what is more waits for the next day, the surest and longest there first, and is filed if it is still there.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Intake {
    /// By one camera. A camera that reaches it nearly every day is aimed or tuned badly.
    #[schemars(range(min = 1, max = 10000))]
    pub per_camera_day: u32,
    /// By the box.
    #[schemars(range(min = 1, max = 100000))]
    pub per_box_day: u32,
    /// Days without a word of the platform after which the box takes a case back, once its place has been empty for a day. Only
    /// time of clear looks counts, while the rule works. While the case is open nothing else is filed there. 0: never, and a case
    /// that nobody answers keeps its place for ever.
    #[schemars(range(max = 365))]
    pub let_go_days: u32,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            per_camera_day: 10,
            per_box_day: 100,
            let_go_days: 7,
        }
    }
}

/// What it takes to say that a case's thing is gone, or still there, where the platform asks (`verify_requested`) or a crew says that
/// it dealt with it (`disposed`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Verification {
    /// So many clear looks at the place, which nothing hides.
    #[schemars(range(min = 2, max = 1000))]
    pub looks: u32,
    /// From the first to the last of them.
    pub over: Span,
    /// What could not be verified so long after it was asked is said to be unverifiable; a verdict is still given when there is one.
    pub within: Span,
    /// Labels of what hides a place that it covers half of, where the rule is not about them.
    pub hidden_by: Vec<String>,
}

impl Default for Verification {
    fn default() -> Self {
        let engine::Verification {
            looks,
            over,
            within,
            hidden_by,
        } = engine::Verification::default();
        Self {
            looks,
            over: Span(over),
            within: Span(within),
            hidden_by: hidden_by.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The record of everything that was judged: what `gridwatch replay` and `gridwatch tune` read. It holds boxes, labels, scores
/// and times, no pictures.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// False records nothing: then no case can be explained or tried again with other thresholds.
    pub enabled: bool,
    /// Its folder. Unset: `ledger` in `node.state_dir`. A relative path starts at this file.
    pub dir: Option<PathBuf>,
    /// A file this large, in MiB, is followed by a new one; the oldest file is what goes when room is needed.
    #[schemars(range(min = 1, max = 1024))]
    pub file_mb: u32,
    /// All files together, in MiB, at least twice `file_mb`. 32 cameras with three boxes in each picture write 230 a week.
    #[schemars(range(min = 2, max = 1048576))]
    pub keep_mb: u32,
    /// Days after which a file goes whatever its size. Thresholds can be tried on as many days as are kept.
    #[schemars(range(min = 1, max = 3650))]
    pub keep_days: u32,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: None,
            file_mb: 64,
            keep_mb: 2048,
            keep_days: 30,
        }
    }
}

/// One model.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its folder: `model.onnx`, `model.toml`, `CARD.md`.
    pub dir: PathBuf,
}

/// Further versions of the models, in `models` of `node.state_dir`. The live one of an id goes before the folder of `[[models]]`
/// until it is rolled back: `gridwatch model list` says which looks.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    /// Ed25519 public keys, in base64. Where there are any, only packages that one of them signed are installed, and only those
    /// look. Empty: whoever can write to `node.state_dir` can bring a model.
    pub keys: Vec<String>,
    /// Looks for which a new version runs beside the one that decides, before it takes over. Fewer tell less; while they last each
    /// costs two models' time.
    #[schemars(range(min = 1, max = 100000))]
    pub trial_looks: u32,
    /// A new version whose median look takes more than so many times the running one's is refused. Raise it to bring a larger
    /// network on purpose.
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub slower_at_most: f64,
    /// A new version is refused if more than one in twenty of its looks takes longer than this, decoding not counted.
    pub latency_budget: Span,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            trial_looks: 100,
            slower_at_most: 4.0,
            latency_budget: Span(Duration::from_millis(500)),
        }
    }
}

/// The categories file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Categories {
    /// `name@version`.
    #[schemars(length(min = 1))]
    pub scheme: String,
    /// By code.
    pub categories: BTreeMap<String, CategoryNames>,
}

/// What a category is called.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CategoryNames {
    /// In Chinese.
    pub zh: String,
    /// In English.
    pub en: String,
}

/// Where each default's value comes from is said in `configs/edge.toml`.
mod defaults {
    use std::time::Duration;

    use super::Span;

    pub(super) fn timezone() -> String {
        "Asia/Shanghai".into()
    }
    pub(super) fn read_every() -> Span {
        Span(Duration::from_secs(600))
    }
    pub(super) fn code_property() -> String {
        "code".into()
    }
    pub(super) fn code_pattern() -> String {
        r"^\d{15}$".into()
    }
    pub(super) fn attended_within() -> f32 {
        1.0
    }
    pub(super) fn attended_share() -> f32 {
        0.5
    }
    pub(super) fn start_score() -> f32 {
        0.5
    }
    pub(super) fn keep_score() -> f32 {
        0.3
    }
    pub(super) fn seen_n() -> u32 {
        3
    }
    pub(super) fn seen_m() -> u32 {
        5
    }
    pub(super) fn present_share() -> f32 {
        0.6
    }
    pub(super) fn max_move() -> f32 {
        0.5
    }
    pub(super) fn min_area() -> f32 {
        0.0005
    }
    pub(super) fn forget_after() -> Span {
        Span(Duration::from_secs(120))
    }
    pub(super) fn max_gap() -> Span {
        Span(Duration::from_secs(90))
    }
    pub(super) fn merge_radius() -> f64 {
        8.0
    }
    pub(super) fn outside_containers() -> bool {
        true
    }
    pub(super) fn pause_after() -> Span {
        Span(Duration::from_mins(30))
    }
    pub(super) fn look_every() -> Span {
        Span(Duration::from_secs(10))
    }
    pub(super) fn place_uncertainty() -> f64 {
        30.0
    }
    pub(super) fn fixed() -> bool {
        true
    }
    pub(super) fn aspect() -> f64 {
        16.0 / 9.0
    }
    pub(super) fn max_uncertainty() -> f64 {
        15.0
    }
}
