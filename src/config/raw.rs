//! The configuration file's form, one type a table. Field comments become the JSON Schema's descriptions: they say what
//! a field does, its unit, its default, and what goes wrong when it is set badly.
//!
//! No `flatten` and no untagged enums: they make serde's and the schema's errors unreadable.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod calendar;

pub use calendar::{Calendar, CalendarFile, Schedule, Window};
pub(super) use calendar::{DATES_PATTERN, DAYS_PATTERN, SEASON_PATTERN, TIME_PATTERN};

/// A length of time with its unit: `500ms`, `10s`, `5m`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// What a [`Span`] looks like: numbers with `h`, `m`, `s` or `ms`, the largest unit first.
pub(super) const SPAN_PATTERN: &str = r"^([0-9]+h ?)?([0-9]+m ?)?([0-9]+s ?)?([0-9]+ms)?$";

/// What ids are made of: they end up in MQTT topics and file names.
pub(super) const ID_PATTERN: &str = r"^[A-Za-z0-9_-]{1,64}$";

/// What POSIX calls the name of an environment variable.
pub(super) const ENV_PATTERN: &str = r"^[A-Za-z_][A-Za-z0-9_]*$";

/// GB/T 28181 annex D: 8 centre + 2 industry + 3 type + 1 network + 6 serial.
pub(super) const GB_ID_PATTERN: &str = r"^[0-9]{20}$";

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.as_millis();
        let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
        let (mut rest, mut first) = (ms, true);
        for (unit, size) in units {
            if rest >= size || (ms == 0 && unit == "s") {
                let space = if first { "" } else { " " };
                write!(f, "{space}{}{unit}", rest / size)?;
                (rest, first) = (rest % size, false);
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no_span =
            || format!("{text:?} is no length of time: write numbers with units, the largest first: 10s, 5m, 1h 30m");
        // jiff reads more than this (ISO 8601, words); one way to write it is enough for a file that many people read.
        if !text.bytes().all(|b| b.is_ascii_digit() || b"hms ".contains(&b)) {
            return Err(no_span());
        }
        let span: jiff::SignedDuration = text.parse().map_err(|_| no_span())?;
        Duration::try_from(span).map(Self).map_err(|_| no_span())
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": SPAN_PATTERN,
            "minLength": 1,
            "description": "A length of time: numbers with units, the largest first: 500ms, 10s, 5m, 1h 30m.",
        })
    }
}

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
    /// The record of everything that was judged.
    #[serde(default)]
    pub ledger: Ledger,
    /// When a view cannot be trusted.
    #[serde(default)]
    pub view: View,
    /// Holidays and make-up working days.
    #[serde(default)]
    pub calendar: Calendar,
    /// Hours with a name, for zones and rules to refer to.
    #[serde(default)]
    pub schedules: Vec<Schedule>,
    /// The models that look.
    #[schemars(length(min = 1))]
    pub models: Vec<Model>,
    /// When a detection is a problem.
    #[schemars(length(min = 1))]
    pub rules: Vec<Rule>,
    /// The cameras.
    #[schemars(length(min = 1))]
    pub cameras: Vec<Camera>,
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

/// The language of what a clerk reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Chinese.
    #[default]
    Zh,
    /// English.
    En,
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
}

/// Decoding of keyframes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Decode {
    /// Which decoders to use.
    pub backend: Backend,
}

/// Which decoders to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The box's hardware decoder where it has one that works, software otherwise.
    #[default]
    Auto,
    /// Software only.
    Software,
    /// Hardware only: a box without a working one refuses to start.
    Hardware,
}

/// The MQTT broker of the grid platform.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// `mqtt://host:1883` or `mqtts://host:8883`. User and password are not part of it.
    pub url: String,
    /// Who the box is to the broker.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Certificate of the authority that signed the broker's, in PEM, for `mqtts`. Unset: refused, so that nothing is trusted by accident.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Keep-alive. A dead connection is noticed after one and a half of it.
    #[serde(default = "defaults::keep_alive")]
    pub keep_alive: Span,
    /// Publishes not yet acknowledged, at most. More is faster on a long line; the broker must hold them.
    #[serde(default = "defaults::in_flight")]
    #[schemars(range(min = 1, max = 1000))]
    pub in_flight: u16,
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

/// Evidence pictures.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Evidence {
    /// JPEG quality. Below 70 plates of goods and prints on bags blur.
    #[schemars(range(min = 50, max = 100))]
    pub jpeg_quality: u8,
    /// Least time between the two looks that a case shows.
    pub min_interval: Span,
    /// Mask the heads of persons and the plate regions of vehicles that a model found, in every picture that leaves the box.
    pub mask: bool,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            jpeg_quality: 88,
            min_interval: Span(Duration::from_secs(10)),
            mask: true,
        }
    }
}

/// How many cases the platform is given on one calendar day. Clerks have two minutes for each: what is more waits for the next
/// day, the surest and longest there first, and is filed if it is still there.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Intake {
    /// By one camera. A camera that reaches it nearly every day is aimed or tuned badly.
    #[schemars(range(min = 1, max = 10000))]
    pub per_camera_day: u32,
    /// By the box.
    #[schemars(range(min = 1, max = 100000))]
    pub per_box_day: u32,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            per_camera_day: 10,
            per_box_day: 100,
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
    /// All files together, in MiB, at least twice `file_mb`. 32 cameras with three boxes in each picture write 160 a week.
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

/// When a view cannot be trusted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct View {
    /// A picture whose mean luma (0..=255) is lower is dark. Higher takes lit night streets for dark.
    #[schemars(range(min = 0.0, max = 255.0))]
    pub dark_below: f64,
    /// A picture whose Laplacian variance at 320 pixels across is lower has no fine structure: it is blurred, or blocked. Higher takes dim and foggy streets for blurred.
    #[schemars(range(min = 0.0, max = 10000.0))]
    pub blurred_below: f64,
    /// A picture without fine structure whose luma also deviates less than this is blocked rather than blurred.
    #[schemars(range(min = 0.0, max = 255.0))]
    pub blocked_below: f64,
    /// This many looks with the very same samples in a row, and the view is frozen.
    #[schemars(range(min = 2, max = 1000))]
    pub frozen_after: u32,
}

impl Default for View {
    fn default() -> Self {
        Self {
            dark_below: 8.0,
            blurred_below: 8.0,
            blocked_below: 12.0,
            frozen_after: 6,
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
    #[serde(default = "defaults::seen_share")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub seen_share: f32,
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

/// One camera.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Unique name on the box.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// `rtsp://host/path`, `rtsps://`, `file:///` or what GStreamer's `uridecodebin` opens. User and password are not part of it.
    pub url: String,
    /// Who the box is to the camera.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// For `rtsps`: PEM of the authority that signed the camera's certificate, or that certificate itself where it signed itself.
    /// Nobody else is believed then; which name the certificate states does not matter. Without it, the system's authorities.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How RTP travels. TCP loses nothing; UDP suits cameras that stall on TCP.
    #[serde(default)]
    pub transport: Transport,
    /// How often it is looked at.
    #[serde(default = "defaults::look_every")]
    pub look_every: Span,
    /// Models that look at it, by manifest id. Empty: all.
    #[serde(default)]
    pub models: Vec<String>,
    /// 20-digit GB/T 28181 id, stated in each case.
    #[serde(default)]
    #[schemars(regex(pattern = GB_ID_PATTERN))]
    pub gb_device_id: Option<String>,
    /// Address in words, stated in each case.
    #[serde(default)]
    pub address: Option<String>,
    /// Reference of the legal and technical review of this camera (行政处罚法 art. 41). Without it its cases are leads only.
    #[serde(default)]
    pub legal_review_ref: Option<String>,
    /// What this camera's coordinates are in, where that is not `grid.crs`: `EPSG:4490`, `EPSG:4326` or `GCJ-02` (what Chinese web maps show). They are converted. Stating the wrong one puts every case 50 to 700 m off.
    #[serde(default)]
    pub crs: Option<String>,
    /// Where its view is: what it looks at, not where its pole stands.
    pub place: Place,
    /// Picture to ground, from pairs of points. Without it every case is at `place`.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// Drawn areas. Without a watch zone the whole picture is watched.
    #[serde(default)]
    pub zones: Vec<Zone>,
}

/// How RTP travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Interleaved in the RTSP connection.
    #[default]
    Tcp,
    /// In datagrams.
    Udp,
}

/// The place of a view.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Longitude, degrees, in the camera's `crs`.
    #[schemars(range(min = -180.0, max = 180.0))]
    pub lon: f64,
    /// Latitude, degrees, in the camera's `crs`.
    #[schemars(range(min = -90.0, max = 90.0))]
    pub lat: f64,
    /// Radius that holds all the view shows, in metres.
    #[serde(default = "defaults::place_uncertainty")]
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub uncertainty_m: f64,
}

/// Picture to ground.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Four pairs or more, spread over the ground, not in one line.
    #[schemars(length(min = 4))]
    pub points: Vec<PointPair>,
    /// What the pairs' ground points are in, where that is not the camera's `crs`: one of those, or `local:LON,LAT,BEARING` for metres measured from a corner (its place in EPSG:4490, and where y points in degrees from north).
    #[serde(default)]
    pub crs: Option<String>,
    /// How the lens bends. Unset: as if it did not, which a view wider than 90 degrees does not forgive. `gridwatch calibrate` finds it.
    #[serde(default)]
    pub distortion: Option<Distortion>,
    /// A case less certain than this is filed at the view's `place`, in metres.
    #[serde(default = "defaults::max_uncertainty")]
    #[schemars(range(min = 0.5, max = 500.0))]
    pub max_uncertainty_m: f64,
}

/// How a lens bends: a point at r half diagonals from the middle of a perfect picture is shown at r (1 + k1 r² + k2 r⁴).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distortion {
    /// Below 0 a barrel, as wide lenses have it; above 0 a cushion.
    #[schemars(range(min = -1.0, max = 1.0))]
    pub k1: f64,
    /// The next term; leave it out unless the lens was measured with a chart.
    #[serde(default)]
    #[schemars(range(min = -1.0, max = 1.0))]
    pub k2: f64,
    /// Width by height of what the sensor sees, with square pixels. Default 16:9, also where the camera squeezes its stream into another.
    #[serde(default = "defaults::aspect")]
    #[schemars(range(min = 0.2, max = 5.0))]
    pub aspect: f64,
}

/// A file of point pairs for `gridwatch calibrate`: a calibration that says by itself what it is in.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Points {
    /// `EPSG:4490`, `EPSG:4326`, `GCJ-02`, or `local:LON,LAT,BEARING`.
    pub crs: String,
    /// Four pairs or more, spread over the ground, not in one line.
    #[schemars(length(min = 4))]
    pub points: Vec<PointPair>,
    /// How the lens bends.
    #[serde(default)]
    pub distortion: Option<Distortion>,
    /// Places less certain than this are marked, in metres.
    #[serde(default = "defaults::max_uncertainty")]
    #[schemars(range(min = 0.5, max = 500.0))]
    pub max_uncertainty_m: f64,
}

/// The same point of the ground in the picture and on the map.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PointPair {
    /// `[x, y]` as fractions of the picture, origin top left.
    pub picture: [f64; 2],
    /// `[lon, lat]` in the calibration's `crs`, or `[x, y]` in metres where that is a local plane.
    pub ground: [f64; 2],
}

/// A drawn area of a camera's picture.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Unique within the camera.
    #[schemars(regex(pattern = ID_PATTERN))]
    pub id: String,
    /// What the area means.
    pub kind: ZoneKind,
    /// Corners `[x, y]` as fractions of the picture, three or more, in order.
    #[schemars(length(min = 3))]
    pub polygon: Vec<[f64; 2]>,
    /// Rules it is for, by id. Empty: all.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Of a `permitted` zone: the schedule while which what stands here is lawful.
    #[serde(default)]
    pub schedule: Option<String>,
}

/// What a drawn area means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ZoneKind {
    /// Problems whose foot stands here count.
    Watch,
    /// Problems whose foot stands here do not count.
    Exclude,
    /// Watched ground where what stands is lawful while `schedule` is open, and a problem outside its hours.
    Permitted,
    /// Containers' ground: does not count, but for rules with `outside_containers = false`.
    Container,
    /// A shop's lawful ground, inside and in front, for rules with `beyond = "shop"`.
    Shop,
    /// Masked in every picture that leaves the box, and never judged.
    Privacy,
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
    pub(super) fn keep_alive() -> Span {
        Span(Duration::from_secs(30))
    }
    pub(super) fn in_flight() -> u16 {
        16
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
    pub(super) fn seen_share() -> f32 {
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
    pub(super) fn aspect() -> f64 {
        16.0 / 9.0
    }
    pub(super) fn max_uncertainty() -> f64 {
        15.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_as_it_is_read() {
        for text in ["0s", "500ms", "10s", "5m", "1h 30m", "24h", "1m 500ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("1h30m".parse::<Span>().unwrap().0.as_secs(), 5400);
    }

    #[test]
    fn what_is_no_span_is_told_with_an_example() {
        for text in [
            "",
            "10",
            "10 apples",
            "-5s",
            "5s 1h",
            "PT10S",
            "1.5h",
            "99999999999999999999h",
        ] {
            let told = text.parse::<Span>().unwrap_err();
            assert!(told.contains("10s, 5m, 1h 30m"), "{text:?}: {told}");
        }
    }
}
