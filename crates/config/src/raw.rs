//! The format of the configuration file: one type per table. Field comments become the descriptions in the JSON Schema, so they
//! state what a field does, its unit, its default, and the risk of a bad value.
//!
//! No `flatten` and no untagged enums: they make the errors of serde and of the schema unreadable.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

pub use gridwatch_base::language::Language;
pub use gridwatch_camera::Backend;
use gridwatch_vision::ViewLimits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use gridwatch_engine as engine;
use gridwatch_model::manifest::Provider;

mod adverts;
mod broker;
mod calendar;
mod camera;
mod change;
mod claims;
mod console;
mod evidence;
mod redacted;
mod rule;
mod signs;
mod span;

pub(super) use calendar::{DATES_PATTERN, DAY_PATTERN, DAYS_PATTERN, SEASON_PATTERN, TIME_PATTERN};
pub(super) use span::SPAN_PATTERN;
pub use {
    adverts::{Adverts, BannerShape, MessengerForm, MessengerWords, TradeWords},
    broker::{Broker, ClientCertificate},
    calendar::{Calendar, CalendarFile, Schedule, Window},
    camera::*,
    change::{CameraChange, Change},
    claims::{Claims, EnrolledBox},
    console::{Console, TlsMode},
    evidence::{Evidence, KeyPlace},
    rule::*,
    signs::{Sign, Signs},
    span::Span,
};

/// Ids, which become part of MQTT topics and file names.
pub(super) const ID_PATTERN: &str = r"^[A-Za-z0-9_-]{1,64}$";

/// Names of environment variables, as defined by POSIX.
pub(super) const ENV_PATTERN: &str = r"^[A-Za-z_][A-Za-z0-9_]*$";

/// Names of systemd credentials: file names without a path (systemd.exec(5)).
pub(super) const CREDENTIAL_PATTERN: &str = r"^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,254}$";

/// SHA-256 of a certificate: 64 hex digits, in pairs separated by colons or not.
pub(super) const PIN_PATTERN: &str = r"^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$";

/// Names of views: `CAMERA` or `CAMERA.PRESET`.
pub(super) const VIEW_PATTERN: &str = r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64})?$";

/// GB/T 28181 annex D: 8 digits centre code, 2 industry, 3 type, 1 network, 6 serial number.
pub(super) const GB_ID_PATTERN: &str = r"^[0-9]{20}$";

/// The gridwatch configuration file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Identity and storage of this box.
    pub node: Node,
    /// Inference runtime and worker threads.
    #[serde(default)]
    pub runtime: Runtime,
    /// Video decoding.
    #[serde(default)]
    pub decode: Decode,
    /// Connection to the MQTT broker of the grid platform.
    pub broker: Broker,
    /// Claims of other boxes that see the same street.
    #[serde(default)]
    pub claims: Claims,
    /// Logs, metrics and health endpoint.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// The console: pages and JSON API.
    #[serde(default)]
    pub console: Console,
    /// The city's grid of unit cells and its case categories.
    pub grid: Grid,
    /// Evidence pictures: encoding, masking, retention.
    #[serde(default)]
    pub evidence: Evidence,
    /// The audit log: acts of persons on the box.
    #[serde(default)]
    pub audit: Audit,
    /// Daily limits on the number of cases filed.
    #[serde(default)]
    pub intake: Intake,
    /// Requirements for verifying that a problem is gone or still there.
    #[serde(default)]
    pub verification: Verification,
    /// The ledger: a record of all observations and decisions.
    #[serde(default)]
    pub ledger: Ledger,
    /// Thresholds for unusable views: dark, blurred, blocked, frozen or moved.
    #[serde(default)]
    pub view: ViewLimits,
    /// The change map: what is new and still in a view.
    #[serde(default)]
    pub change: Change,
    /// Public holidays and make-up working days.
    #[serde(default)]
    pub calendar: Calendar,
    /// Named opening hours that zones and rules refer to.
    #[serde(default)]
    pub schedules: Vec<Schedule>,
    /// Detection models.
    #[schemars(length(min = 1), extend("x-ordered" = true))]
    pub models: Vec<Model>,
    /// OCR of text on walls: small ads (非法小广告) and banners. Unset: nothing is read.
    #[serde(default)]
    pub reading: Option<Reading>,
    /// Installation of further model versions at run time, with `gridwatch model`.
    #[serde(default)]
    pub registry: Registry,
    /// Rules that decide when a detection is a problem.
    #[schemars(length(min = 1), extend("x-ordered" = true))]
    pub rules: Vec<Rule>,
    /// The cameras. There may be none yet: they can be added on the console.
    #[serde(default)]
    pub cameras: Vec<Camera>,
}

impl File {
    /// Paths of the models and of the city's data files, for rewriting them when the configuration is written to another directory.
    pub fn data_paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let models = self.models.iter_mut().map(|m| &mut m.dir);
        let reading = self.reading.iter_mut();
        let reading = reading.map(|r| [Some(&mut r.finder), Some(&mut r.speller), r.adverts.as_mut()]);
        let reading = reading.flatten().flatten();
        let signs = self.cameras.iter_mut().filter_map(|c| c.approved_signs.as_mut());
        [&mut self.grid.file, &mut self.grid.categories]
            .into_iter()
            .chain(models)
            .chain(reading)
            .chain(&mut self.evidence.mask_models)
            .chain(signs)
    }
}

/// Identity and storage of this box.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Id of the box on the platform, the `{node}` in every MQTT topic. Letters, digits, `-` and `_`. Must be unique in the city: of two boxes with one id, the later one publishes nothing (see docs/contract.md).
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// Time zone of the city (IANA name), for display and for schedules; timestamps are UTC internally. Default `Asia/Shanghai`. A wrong zone shifts every schedule.
    #[serde(default = "defaults::timezone")]
    pub timezone: String,
    /// Directory of the database and the evidence; created if missing. Relative paths start at this file's directory. Losing it loses all cases that the broker has not yet acknowledged. A change takes effect at a restart.
    #[schemars(extend("x-applies" = "restart"))]
    pub state_dir: PathBuf,
    /// Language of the case texts. Default `zh`.
    #[serde(default)]
    pub language: Language,
}

/// Inference runtime and worker threads.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// Path of ONNX Runtime's shared library, version 1.20 or newer. Unset: the one installed by `edge-deploy/setup.sh`. A change takes effect at a restart.
    #[schemars(extend("x-applies" = "restart"))]
    pub onnxruntime: Option<PathBuf>,
    /// Worker threads for decoding and inference. Each has its own decoders and model sessions, which take tens of MB. Unset: one per core, at most 4. A change takes effect at a restart.
    #[schemars(range(min = 1, max = 64), extend("x-applies" = "restart"))]
    pub workers: Option<u32>,
    /// Execution providers for inference, in order of preference, such as `["cuda", "cpu"]`; the first available one is used. Without
    /// `cpu`, the daemon refuses to start if none is available. Unset: as given by each model's manifest, usually `cpu`.
    #[schemars(length(min = 1))]
    pub providers: Option<Vec<Provider>>,
    /// Threads per inference session. Unset: as given by each model's manifest, usually 1. Each worker has its own sessions, so more threads rarely help.
    #[schemars(range(min = 1, max = 64))]
    pub model_threads: Option<u16>,
}

/// OCR of text on walls: in the watch zones of cameras with `read_numbers`, where small ads are reported under the label `small_ad` and banners under `text_banner`, and in second looks with `text`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Folder of the text detection model (adapter `db`). Relative paths start at this file's directory.
    pub finder: PathBuf,
    /// Folder of the text recognition model (adapter `ctc`). Relative paths start at this file's directory.
    pub speller: PathBuf,
    /// Time between two readings of a camera. Default `10m`. Reading takes about 0.2 s of one core per watched megapixel, so short intervals overload the box. `max_gap` of the rules about `small_ad` and `text_banner` must be longer, as they ignore the looks in between.
    #[serde(default = "defaults::read_every")]
    pub every: Span,
    /// TOML file of the trades, phrases and messengers of small ads, and of what makes a line a banner, such as `adverts/default.toml`. Unset: a small ad is what bears a phone number, and nothing is a banner.
    #[serde(default)]
    pub adverts: Option<PathBuf>,
}

/// Video decoding.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Decode {
    /// Which video decoders to use. Default `auto`.
    pub backend: Backend,
}

/// Where to read a user name and a password. They are never part of this file. Set exactly one of `env`, `file` and `credential`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Name of the environment variable that holds `user:password`.
    #[serde(default)]
    #[schemars(regex(pattern = ENV_PATTERN))]
    pub env: Option<String>,
    /// File whose first line is `user:password`. Other users must not have access to it (mode 0600).
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Name of a systemd credential whose first line is `user:password` (`LoadCredential=` or `LoadCredentialEncrypted=` in the unit).
    #[serde(default)]
    #[schemars(regex(pattern = CREDENTIAL_PATTERN))]
    pub credential: Option<String>,
}

/// Logs, metrics and health endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Address of the HTTP server for `/healthz`, `/readyz` and `/metrics`. Default `127.0.0.1:9464`. Must be a loopback address, as there is no authentication. Empty: no server. A change takes effect at a restart.
    #[schemars(extend("x-applies" = "restart"))]
    pub listen: String,
    /// Log format. Default `text`.
    pub log: LogFormat,
    /// Log filter in `tracing` syntax, such as `gridwatch=debug,info`. Default `info`.
    pub filter: String,
    /// Largest share of cameras without a clear view, 0 to 1, with which `/readyz` is still ready. Default 1: the box is ready as long as one camera has a clear view.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_blind_share: f64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9464".into(),
            log: LogFormat::Text,
            filter: "info".into(),
            max_blind_share: 1.0,
        }
    }
}

/// Log format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One human-readable line per event.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// The city's grid of unit cells and its case categories.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// GeoJSON file of the unit cells: polygons with a cell code as a string property.
    pub file: PathBuf,
    /// Coordinate reference system of the grid file, of all cases, and of all coordinates in this file that give no other: `EPSG:4490` or `EPSG:4326`. Must match the one stated in the grid file; convert GCJ-02 data first, which is off by 50 to 700 m.
    #[schemars(extend("enum" = ["EPSG:4490", "EPSG:4326"]))]
    pub crs: String,
    /// Feature property that holds the cell code. Default `code`.
    #[serde(default = "defaults::code_property")]
    pub code_property: String,
    /// Regular expression that every cell code must match. Default: 15 digits; older city grids use 14.
    #[serde(default = "defaults::code_pattern")]
    pub code_pattern: String,
    /// Version of the grid, recorded in each case.
    #[schemars(length(min = 1))]
    pub version: String,
    /// TOML file of the case categories.
    pub categories: PathBuf,
}

/// Daily limits on the number of cases filed, and the lifetime of cases without a reply. A clerk spends about two minutes on each
/// case. Cases beyond the limit wait for the next day, ranked by confidence and duration, and are filed if the problem is still there.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Intake {
    /// Maximum cases per camera and calendar day. Default 10. A camera that reaches the limit nearly every day is badly aimed or tuned.
    #[schemars(range(min = 1, max = 10000))]
    pub per_camera_day: u32,
    /// Maximum cases per calendar day for the whole box. Default 100.
    #[schemars(range(min = 1, max = 100000))]
    pub per_box_day: u32,
    /// Days without a reply from the platform after which the box withdraws a case, once its site has been clear for a day. Only time
    /// with clear looks while the rule is active counts. Default 7. 0: never; a case without a reply then blocks its site for
    /// good, because nothing else is filed there while it is open.
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

/// Requirements for verifying that a problem is gone or still there, when the platform asks (`verify_requested`) or reports it as
/// dealt with (`disposed`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Verification {
    /// Number of clear, unobstructed looks at the site that are needed for a result. Default 3. Fewer make wrong results more likely.
    #[schemars(range(min = 2, max = 1000))]
    pub looks: u32,
    /// Minimum time from the first to the last of these looks. Default `10m`.
    pub over: Span,
    /// Time after the request at which `unverifiable` is reported if there is no result yet. Default `1h`. A result that is reached later is still reported.
    pub within: Span,
    /// Labels of objects that hide a site if they cover half of it, unless the rule is about that label. Default: people and vehicles.
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

/// The ledger: a record of all observations and decisions, the input of `gridwatch replay` and `gridwatch tune`. It contains boxes,
/// labels, scores and times, but no pictures.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// Write the ledger. Default true. Without it, cases cannot be explained or replayed with other thresholds.
    pub enabled: bool,
    /// Folder of the ledger. Unset: `ledger` in `node.state_dir`. Relative paths start at this file's directory.
    pub dir: Option<PathBuf>,
    /// Size in MiB at which a new file is started. Default 64. The oldest file is deleted when space is needed.
    #[schemars(range(min = 1, max = 1024))]
    pub file_mb: u32,
    /// Maximum size of all files in MiB, at least twice `file_mb`. Default 2048. 32 cameras with three detections per look write 230 MiB a week.
    #[schemars(range(min = 2, max = 1048576))]
    pub keep_mb: u32,
    /// Days after which a file is deleted, even if there is space. Default 30. Limits how far back a replay can go.
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

/// A detection model.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Folder with `model.onnx`, `model.toml` and `CARD.md`.
    pub dir: PathBuf,
}

/// Model versions installed at run time, in `models` below `node.state_dir`. The live version of an id replaces the folder given
/// in `[[models]]` until it is rolled back; `gridwatch model list` shows which version is live.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    /// Ed25519 public keys in base64. If set, only models signed with one of them are used: packages that are installed, and the folders that `models`, `evidence.mask_models` and `reading` name. Empty (the default):
    /// anyone who can write to `node.state_dir` can install a model.
    pub keys: Vec<String>,
    /// Length of a trial: the number of looks for which a new version runs beside the live one before it takes over. Default 100.
    /// Fewer are less conclusive. During a trial, each look costs the time of both models.
    #[schemars(range(min = 1, max = 100000))]
    pub trial_looks: u32,
    /// A new version is rejected if its median inference time exceeds this multiple of the live version's. Default 4. Raise it to
    /// install a larger network on purpose.
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub slower_at_most: f64,
    /// A new version is rejected if its 95th percentile inference time exceeds this, video decoding excluded. Default `500ms`.
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

/// The audit log: acts of persons on the box, which are always recorded in the chain of custody (`gridwatch audit`, docs/audit.md).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Send each act to the system log, too (`/dev/log`, RFC 5424, facility authpriv), from where a log server can get it. Default `false`.
    /// Without it, the only copy is on the box. The messages contain names of users and the reasons they gave.
    pub syslog: bool,
}

/// The file of case categories.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Categories {
    /// Category scheme as `name@version`, recorded in each case.
    #[schemars(length(min = 1))]
    pub scheme: String,
    /// Categories by code.
    pub categories: BTreeMap<String, CategoryNames>,
}

/// Names of a category.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CategoryNames {
    /// Chinese name.
    pub zh: String,
    /// English name.
    pub en: String,
}

/// Default values; `configs/edge.toml` explains how they were chosen.
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
