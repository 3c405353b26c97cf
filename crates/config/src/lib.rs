//! What the operator typed becomes what the daemon works to, or every fault in it.
//!
//! [`raw`] holds the file's form (serde and JSON Schema). Loading goes in four steps, and each collects every fault it can
//! find, with path and line, before the next: TOML and its schema ([`gridwatch_base::document`]), the sections against each other
//! and the world they name (`check`), and the result, [`Config`]: checked, immutable, everything resolved.
//!
//! It must not open a connection, start anything, or show a credential. It reads the files that the configuration names,
//! the environment variables that hold credentials, the time zone database, and what day it is; nothing else.

pub mod raw;
pub mod schema;
mod secret;

mod check;
mod needs;
mod polygon;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use url::Url;

pub use self::{
    check::{Draft, Judged, Survey},
    raw::LogFormat,
};
pub use gridwatch_base::{
    document::{Fault, Faults},
    secret::{Credentials, Secret},
};
use gridwatch_camera::{Backend, Transport};
pub use gridwatch_contract::Language;
use gridwatch_contract::Template;
use gridwatch_custody::{PublicKey, keys::OriginalsKey};
use gridwatch_engine::{CameraId, Category, Label, NodeId, Plan, Point, RuleId};
use gridwatch_ledger as ledger;
use gridwatch_link::Protocol;
use gridwatch_model as model;
use gridwatch_store::Retention;
use gridwatch_vision::ViewLimits;

/// A configuration that holds: every reference resolves, every path is absolute, every credential is read.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from, as it was named.
    pub file: PathBuf,
    /// SHA-256 in lower-case hex, stated in each case: of that file's bytes, followed by those of the approved-sign files that
    /// its cameras name, in their order (`cat edge.toml signs/*.toml | sha256sum`).
    pub config_sha256: String,
    /// This box.
    pub node: NodeId,
    /// The city's time zone: times are UTC inside and shown in this.
    pub timezone: TimeZone,
    /// The language of case texts.
    pub language: Language,
    /// Where the database and the evidence live (absolute; not created here).
    pub state_dir: PathBuf,
    /// ONNX Runtime's shared library, where the file names one (absolute).
    pub onnxruntime: Option<PathBuf>,
    /// What networks run on.
    pub inference: model::Options,
    /// Threads that decode, look and judge, 1..=64.
    pub workers: usize,
    /// Which decoders to use.
    pub decoders: Backend,
    /// The MQTT broker of the grid platform.
    pub broker: Broker,
    /// Logs, metrics and health.
    pub telemetry: Telemetry,
    /// Evidence pictures.
    pub evidence: Evidence,
    /// Where what is judged is recorded; `None`: nowhere.
    pub ledger: Option<ledger::Settings>,
    /// When a view cannot be trusted.
    pub view: ViewLimits,
    /// The grid's version, stated in each case.
    pub grid_version: String,
    /// `EPSG:4490` or `EPSG:4326`: of the grid and of every coordinate.
    pub crs: String,
    /// The city's categories, by code.
    pub categories: BTreeMap<String, Category>,
    /// The models that look, in the file's order.
    pub models: Vec<Model>,
    /// The model that takes the second look for a rule, where the rule names one: an index into `models`.
    pub second_looks: BTreeMap<RuleId, usize>,
    /// Reading of telephone numbers, where any camera is read.
    pub reading: Option<Reading>,
    /// Further versions of them.
    pub registry: Registry,
    /// The cameras, in the file's order.
    pub cameras: Vec<Camera>,
    /// What the engine works to.
    pub plan: Arc<Plan>,
    /// What works but should be looked at.
    pub warnings: Vec<Fault>,
}

/// The MQTT broker.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Which MQTT it speaks.
    pub protocol: Protocol,
    /// `None`: plain TCP (`mqtt://`).
    pub tls: Option<Tls>,
    /// Who the box is to the broker.
    pub credentials: Option<Credentials>,
    /// Keep-alive, 5 s..=1 h, whole seconds.
    pub keep_alive: Duration,
    /// Publishes not yet acknowledged, at most.
    pub in_flight: u16,
    /// What topics begin with, before `/v1/`.
    pub topic_prefix: String,
    /// Other boxes are told of this one's cases, and file none of the same problem.
    pub share_sites: bool,
    /// How long the broker keeps replies for a box that is away; whole seconds.
    pub session_expiry: Duration,
    /// The city's words for a case; `None`: the contract's own.
    pub template: Option<Template>,
}

/// How broker and box know each other.
#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM of the authority that signed the broker's certificate (absolute; exists).
    pub ca_file: PathBuf,
    /// PEM of the box's own certificate and of its key (absolute; both exist), where the broker asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Logs, metrics and health.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// A loopback address; `None`: not served.
    pub listen: Option<SocketAddr>,
    /// How logs are written.
    pub log: LogFormat,
    /// Which logs.
    pub filter: String,
}

/// Evidence pictures.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// JPEG quality, 50..=100.
    pub jpeg_quality: u8,
    /// Most bytes of one picture.
    pub max_picture_bytes: usize,
    /// Least time between the two looks that a case shows.
    pub min_interval: Duration,
    /// Mask faces and plates in whatever leaves the box.
    pub mask: bool,
    /// Models that look for these in each picture (absolute folders), and what they find.
    pub mask_models: Vec<PathBuf>,
    /// What of it they find.
    pub mask_labels: Vec<Label>,
    /// Where the key of the originals is; `None`: none are kept.
    pub originals: Option<OriginalsKey>,
    /// How long, and how much, is kept.
    pub retention: Retention,
}

/// How further versions of the models come to look.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Only what one of them signed is used; empty: anything.
    pub keys: Vec<PublicKey>,
    /// Looks of a trial, 1 or more.
    pub trial_looks: u32,
    /// A new version's median look may take so many times the running one's, 1 or more.
    pub slower_at_most: f64,
    /// 95 in 100 of its looks may take no longer.
    pub latency_budget: Duration,
}

/// One model's folder; its manifest belongs to [`gridwatch_model`].
#[derive(Debug, Clone)]
pub struct Model {
    /// The manifest's id, which `cameras[].models` names.
    pub id: String,
    /// Holds `model.onnx` and `model.toml` (absolute; both exist).
    pub dir: PathBuf,
}

/// How telephone numbers are read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Folder of the model that finds lines of text (absolute; exists).
    pub finder: PathBuf,
    /// Folder of the model that spells a line (absolute; exists).
    pub speller: PathBuf,
    /// How often a camera is read; at the looks in between nothing is looked for under [`Label::small_ad`].
    ///
    /// [`Label::small_ad`]: gridwatch_engine::Label::small_ad
    pub every: Duration,
}

/// One camera.
#[derive(Debug, Clone)]
pub struct Camera {
    /// Unique on the box.
    pub id: CameraId,
    /// Where its stream is. Holds no user and no password.
    pub url: Url,
    /// Who the box is to the camera.
    pub credentials: Option<Credentials>,
    /// For `rtsps`: PEM of the only authority that is believed. `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// How RTP travels.
    pub transport: Transport,
    /// How often it is looked at when nothing presses.
    pub look_every: Duration,
    /// The models that look at it, as indices into [`Config::models`]; never empty.
    pub models: Vec<usize>,
    /// Telephone numbers are read in its watch zones ([`Config::reading`]).
    pub reads: bool,
    /// 20-digit GB/T 28181 id.
    pub gb_device_id: Option<String>,
    /// Reference of the legal and technical review; without it its cases are leads only.
    pub legal_review_ref: Option<String>,
    /// How it is aimed.
    pub aim: Aim,
    /// What it looks at: one of a camera that stays or wanders, never none.
    pub presets: Vec<Preset>,
}

/// How a camera is aimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// It stays where it looks, so that it is noticed when it was moved.
    Fixed,
    /// It turns, and nothing tells where it looks.
    Unwatched,
    /// It turns, and stands at one of its presets now and then.
    Tour {
        /// The longest time until it is back at one.
        away: Duration,
    },
}

/// What a camera looks at while it stands still.
#[derive(Debug, Clone)]
pub struct Preset {
    /// What the engine calls it, the key into [`Plan::cameras`]: the camera's own id, or [`CameraId::at_preset`].
    pub view: CameraId,
    /// Its id within a camera that turns; `None` where the camera has but this.
    pub id: Option<String>,
    /// Address in words.
    pub address: Option<String>,
    /// Names the calibration's very points: 12 hex digits of their SHA-256. `None`: no calibration.
    pub calibration_version: Option<String>,
    /// The baseline of signs that may hang in its view, where one is named (absolute; it need not be there in a [`Draft`]).
    pub approved_signs: Option<PathBuf>,
    /// Polygons masked in every picture that leaves the box and never judged; corners as fractions of the picture.
    pub privacy: Vec<Vec<Point>>,
}

/// The view that `id` names, and its camera: that of a camera without presets, or `CAMERA.PRESET`.
pub fn view_called<'a>(cameras: &'a [Camera], id: &str) -> Option<(&'a Camera, &'a Preset)> {
    let mut views = cameras.iter().flat_map(|c| c.presets.iter().map(move |p| (c, p)));
    views.find(|(_, preset)| preset.view.as_str() == id)
}

/// What [`view_called`] knows, for whoever named another.
pub fn view_names(cameras: &[Camera]) -> String {
    let views: Vec<&str> = cameras
        .iter()
        .flat_map(|c| &c.presets)
        .map(|p| p.view.as_str())
        .collect();
    views.join(", ")
}

/// Reads and checks a configuration; every fault at once.
pub fn load(path: &Path) -> Result<Config, Faults> {
    examine(path).into_config()
}

/// The same for a command that opens no connection: credentials in environment variables that are not set here, as in an
/// operator's shell beside the service, are not missed. They are none, and must not be used.
pub fn load_unconnected(path: &Path) -> Result<Config, Faults> {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let variable = |name: &str| std::env::var(name).ok().or_else(|| Some("unset:unset".into()));
    check::examine(path, &variable, Some(today)).into_config()
}

/// Reads a configuration as far as it can be read: what is sound in it, and everything wrong with it. For `check`, which
/// goes on to probe what is sound.
pub fn examine(path: &Path) -> Draft {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    check::examine(path, &|name| std::env::var(name).ok(), Some(today))
}

/// [`examine`] with the environment given, for tests and tools; what depends on the day it is asked is not asked.
pub fn examine_with(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Draft {
    check::examine(path, env, None)
}

/// [`examine_with`] on a given day.
pub fn examine_on(path: &Path, env: &dyn Fn(&str) -> Option<String>, today: Date) -> Draft {
    check::examine(path, env, Some(today))
}

/// Reads a baseline of approved signs, as `gridwatch signs` writes it; every fault at once, in the words of [`examine`].
pub fn read_signs(path: &Path) -> Result<raw::Signs, Faults> {
    check::read_signs(path).map(|(_, signs)| signs)
}

/// Reads a file of point pairs (`raw::Points`), as `gridwatch calibrate` takes it; every fault at once, in the words of
/// [`examine`].
pub fn read_survey(path: &Path) -> Result<Survey, Faults> {
    check::read_survey(path)
}
