//! Loads the configuration: turns the operator's file into a checked [`Config`], or reports every fault in it.
//!
//! [`raw`] defines the file format (serde and JSON Schema). Loading has these steps, each of which collects all faults it can find,
//! with path and line: read the configuration's own files, parse them and merge them ([`files`]); validate the result against the
//! schema ([`gridwatch_base::document`]); check the sections against each other and against the files, variables and addresses they
//! refer to (`check`); build the immutable [`Config`], with every reference resolved.
//!
//! [`diff`] says what differs between two configurations, and [`edit`] changes the files and keeps their versions.
//!
//! This crate opens no connection, starts nothing and prints no credential. It reads only the configuration's own files and those that
//! they name, the environment variables that hold credentials, the time zone database, and the current date; only [`edit`] writes.

pub mod diff;
pub mod edit;
pub mod element;
pub mod files;
pub mod raw;
pub mod rollout;
pub mod schema;

mod check;
mod console;
mod document;
mod needs;
mod polygon;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::{civil::Date, tz::TimeZone};
use url::Url;

use self::{check::Surroundings, files::ConfigFiles};

pub use self::{
    check::{Draft, ReplayConfig, Survey},
    console::{CONSOLE_DIR, Console},
    document::{EffectiveDocument, Source},
    raw::LogFormat,
};
pub use gridwatch_base::language::Language;
pub use gridwatch_base::{
    document::{Fault, Faults},
    secret::{CredentialSource, Credentials, Secret},
};
use gridwatch_camera::{Auth, Backend, StreamSource, Transport};
use gridwatch_contract::Template;
use gridwatch_custody::{
    PublicKey,
    keys::{KeyRing, OriginalsKey, SigningKeyPlace},
};
use gridwatch_engine::{CameraId, Category, Label, NodeId, Plan, Point, RuleId};
use gridwatch_ledger as ledger;
use gridwatch_link::{EnrolledBoxes, Receipts};
use gridwatch_model as model;
use gridwatch_model::ocr::{Phrasebook, second_look::TextNeeded};
use gridwatch_mqtt::{Protocol, Tls};
use gridwatch_store::Retention;
use gridwatch_vision::{ViewLimits, change::ChangeSettings};

/// A valid configuration: every reference is resolved, every path is absolute, every credential has been read.
#[derive(Debug, Clone)]
pub struct Config {
    /// The configuration file, with the path as given.
    pub file: PathBuf,
    /// SHA-256 in lower-case hex, recorded in each case: over the bytes of the file, followed by those of the files in `conf.d` by name, of
    /// the file of advert words, and of its cameras' approved-sign files in camera order
    /// (`cat edge.toml conf.d/*.toml signs/*.toml | sha256sum`).
    pub config_sha256: String,
    /// Every file that was read for it, the configuration's own files first: those to watch for changes.
    pub sources: Vec<Source>,
    /// What the files say, with the defaults of what they do not.
    pub document: EffectiveDocument,
    /// Id of this box.
    pub node: NodeId,
    /// The city's time zone, used for display and schedules; timestamps are UTC internally.
    pub timezone: TimeZone,
    /// Language of case texts.
    pub language: Language,
    /// Directory of the database and the evidence (absolute; not created here).
    pub state_dir: PathBuf,
    /// ONNX Runtime's shared library, if configured (absolute).
    pub onnxruntime: Option<PathBuf>,
    /// Execution providers and threads for inference.
    pub inference: model::Options,
    /// Worker threads for decoding and inference, 1..=64.
    pub workers: usize,
    /// Which video decoders to use.
    pub decoders: Backend,
    /// The MQTT broker of the grid platform.
    pub broker: Broker,
    /// Claims of other boxes that see the same streets.
    pub claims: Claims,
    /// Logs, metrics and health.
    pub telemetry: Telemetry,
    /// The console's web server.
    pub console: Console,
    /// Evidence pictures: encoding, masking, retention.
    pub evidence: Evidence,
    /// Acts of persons go to the system log, too.
    pub audit_to_syslog: bool,
    /// The ledger; `None` if disabled.
    pub ledger: Option<ledger::Settings>,
    /// Thresholds for view health.
    pub view: ViewLimits,
    /// Version of the grid, recorded in each case.
    pub grid_version: String,
    /// Coordinate reference system of the grid and of all coordinates: `EPSG:4490` or `EPSG:4326`.
    pub crs: String,
    /// The city's categories, by code.
    pub categories: BTreeMap<String, Category>,
    /// The detection models, in file order.
    pub models: Vec<Model>,
    /// For rules that name a second-look model: its index into `models`.
    pub second_looks: BTreeMap<RuleId, usize>,
    /// For rules whose second look reads text: the text that they need.
    pub text_looks: BTreeMap<RuleId, TextNeeded>,
    /// OCR of text, if configured.
    pub reading: Option<OcrSettings>,
    /// Installation of further model versions at run time.
    pub registry: Registry,
    /// The cameras, in file order.
    pub cameras: Vec<Camera>,
    /// The engine's input: rules, zones, grid, calendar.
    pub plan: Arc<Plan>,
    /// Warnings: things that work but are probably not intended.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// The box's keys.
    pub fn keys(&self) -> KeyRing {
        KeyRing::with_signing(&self.state_dir, self.evidence.signing_key.clone())
    }

    /// Where the key is that encrypts originals and pictures of views: in the state directory if originals are not kept.
    pub fn originals_key(&self) -> &OriginalsKey {
        self.evidence.originals.as_ref().unwrap_or(&OriginalsKey::Own)
    }
}

/// Connection to the MQTT broker.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// MQTT version.
    pub protocol: Protocol,
    /// TLS settings, whose files are absolute and exist; `None` for plain TCP (`mqtt://`).
    pub tls: Option<Tls>,
    /// User name and password for the broker.
    pub credentials: Option<Credentials>,
    /// Keep-alive interval, 5 s..=1 h, whole seconds.
    pub keep_alive: Duration,
    /// Maximum number of unacknowledged publishes.
    pub in_flight: u16,
    /// Topic prefix, before `/v1/`.
    pub topic_prefix: String,
    /// Share open cases with other boxes, so that each problem is filed once.
    pub share_sites: bool,
    /// How long the broker keeps replies for a box that is offline; whole seconds.
    pub session_expiry: Duration,
    /// Whether a case counts as delivered only with the platform's receipt.
    pub receipts: Receipts,
    /// Template for the city's own case format; `None` for the format of the contract.
    pub template: Option<Template>,
}

/// Claims of other boxes that see the same streets.
#[derive(Debug, Clone)]
pub struct Claims {
    /// How long a case is held back for another box's case that is not filed, 10 min to 7 days.
    pub wait: Duration,
    /// Boxes whose claims are obeyed; others need to be confirmed.
    pub boxes: EnrolledBoxes,
}

/// Logs, metrics and health.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Loopback address of the HTTP endpoint; `None` if it is off.
    pub listen: Option<SocketAddr>,
    /// Log format.
    pub log: LogFormat,
    /// Log filter, in `tracing` syntax.
    pub filter: String,
    /// `/readyz` is not ready if a larger share of the cameras has no clear view.
    pub max_blind_share: f64,
}

/// Evidence pictures: encoding, masking, retention.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// JPEG quality, 50..=100.
    pub jpeg_quality: u8,
    /// Maximum size of one picture in bytes.
    pub max_picture_bytes: usize,
    /// Minimum time between the two looks shown in a case.
    pub min_interval: Duration,
    /// Mask faces and licence plates in pictures that leave the box.
    pub mask: bool,
    /// Folders of the models used for masking, run on every picture (absolute).
    pub mask_models: Vec<PathBuf>,
    /// The masked labels that these models detect.
    pub mask_labels: Vec<Label>,
    /// Where the key of the encrypted originals is stored; `None` if originals are not kept.
    pub originals: Option<OriginalsKey>,
    /// Where the key that signs cases is.
    pub signing_key: SigningKeyPlace,
    /// Retention of originals and pictures.
    pub retention: Retention,
}

/// Installation of further model versions at run time.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Only packages signed with one of these keys are used; if empty, any package.
    pub keys: Vec<PublicKey>,
    /// Length of a trial in looks, 1 or more.
    pub trial_looks: u32,
    /// Maximum ratio of a new version's median inference time to the live version's, 1 or more.
    pub slower_at_most: f64,
    /// Maximum 95th percentile of a new version's inference time.
    pub latency_budget: Duration,
}

/// A model's folder; [`gridwatch_model`] reads its manifest.
#[derive(Debug, Clone)]
pub struct Model {
    /// Id from the manifest, as used in `cameras[].models`.
    pub id: String,
    /// Folder with `model.onnx` and `model.toml` (absolute; both exist).
    pub dir: PathBuf,
}

/// OCR of text (`[reading]`).
#[derive(Debug, Clone)]
pub struct OcrSettings {
    /// Folder of the text detection model (absolute; exists).
    pub finder: PathBuf,
    /// Folder of the text recognition model (absolute; exists).
    pub speller: PathBuf,
    /// Time between two readings of a camera; looks in between do not look for [`Label::of_text`].
    ///
    /// [`Label::of_text`]: gridwatch_engine::Label::of_text
    pub every: Duration,
    /// The words of small ads and banners.
    pub phrasebook: Phrasebook,
}

/// One camera.
#[derive(Debug, Clone)]
pub struct Camera {
    /// Unique id on the box.
    pub id: CameraId,
    /// Stream URL, without user name and password.
    pub url: Url,
    /// User name and password for the camera, as read with the configuration.
    pub credentials: Option<Credentials>,
    /// Where they are, to read them anew at each login.
    pub credential_source: Option<CredentialSource>,
    /// For `rtsps`: PEM of the only trusted CA; `None` for the system's CAs.
    pub ca_file: Option<PathBuf>,
    /// For `rtsps`: SHA-256 of the only trusted certificate, 64 lower-case hex digits.
    pub pin_sha256: Option<String>,
    /// Which logins it may ask for.
    pub auth: Auth,
    /// RTP transport.
    pub transport: Transport,
    /// What receives the stream.
    pub source: StreamSource,
    /// Time between two scheduled looks.
    pub look_every: Duration,
    /// The camera's models, as indices into [`Config::models`]; never empty.
    pub models: Vec<usize>,
    /// Read text in its watch zones ([`Config::reading`]).
    pub read_numbers: bool,
    /// GB/T 28181 device id, 20 digits.
    pub gb_device_id: Option<String>,
    /// Reference of the legal and technical review; without it, the camera's cases are leads only.
    pub legal_review_ref: Option<String>,
    /// Groups of cameras to which it belongs.
    pub groups: Vec<String>,
    /// Whether it is fixed or turns.
    pub aim: Aim,
    /// Its views' change maps; `None` if they have none.
    pub change: Option<ChangeSettings>,
    /// Its views: one per preset, or a single one for a camera without presets; never empty.
    pub presets: Vec<Preset>,
}

impl Camera {
    /// A camera that no configuration has, with the id `camera` and one view of that id: for commands that take a stream's URL.
    pub fn at(url: Url, credentials: Option<Credentials>) -> Self {
        let view = CameraId::from("camera");
        Self {
            id: view.clone(),
            url,
            credential_source: credentials.clone().map(CredentialSource::Fixed),
            credentials,
            ca_file: None,
            pin_sha256: None,
            auth: Auth::default(),
            transport: Transport::default(),
            source: StreamSource::default(),
            look_every: Duration::from_secs(2),
            models: Vec::new(),
            read_numbers: false,
            gb_device_id: None,
            legal_review_ref: None,
            groups: Vec::new(),
            aim: Aim::Unwatched,
            change: None,
            presets: vec![Preset {
                view,
                id: None,
                address: None,
                calibration_version: None,
                approved_signs: None,
                privacy: Vec::new(),
            }],
        }
    }
}

/// Whether a camera is fixed or turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Fixed: the daemon detects when it has been moved.
    Fixed,
    /// Turns without presets: its view is not monitored.
    Unwatched,
    /// Turns, and stops at its presets.
    Tour {
        /// Longest time between two stops at a preset.
        away: Duration,
    },
}

/// One view: a preset of a camera that turns, or the only view of another camera.
#[derive(Debug, Clone)]
pub struct Preset {
    /// Id of the view in the engine, the key into [`Plan::cameras`]: the camera's id, or [`CameraId::at_preset`].
    pub view: CameraId,
    /// Preset id within the camera; `None` for a camera without presets.
    pub id: Option<String>,
    /// Postal address or description of the place.
    pub address: Option<String>,
    /// Version of the calibration: 12 hex digits of the SHA-256 of its points and lens; `None` without a calibration.
    pub calibration_version: Option<String>,
    /// File of the approved signs, if configured (absolute; in a [`Draft`] it need not exist).
    pub approved_signs: Option<PathBuf>,
    /// Privacy zones, masked in every picture that leaves the box and ignored by detection; corners as fractions of the image.
    pub privacy: Vec<Vec<Point>>,
}

/// Finds a view and its camera by id: `CAMERA`, or `CAMERA.PRESET` for a camera with presets.
pub fn find_view<'a>(cameras: &'a [Camera], id: &str) -> Option<(&'a Camera, &'a Preset)> {
    let mut views = cameras.iter().flat_map(|c| c.presets.iter().map(move |p| (c, p)));
    views.find(|(_, preset)| preset.view.as_str() == id)
}

/// The ids of all views, comma-separated, for error messages about an unknown view.
pub fn view_names(cameras: &[Camera]) -> String {
    let views: Vec<&str> = cameras
        .iter()
        .flat_map(|c| &c.presets)
        .map(|p| p.view.as_str())
        .collect();
    views.join(", ")
}

/// Reads and checks a configuration.
///
/// # Errors
/// All faults of the file.
pub fn load(path: &Path) -> Result<Config, Faults> {
    examine(path).into_config()
}

/// Like [`load`], for commands that open no connection: an unset environment variable for credentials, as in an operator's shell,
/// is not a fault. It is replaced by a dummy value that must not be used.
///
/// # Errors
/// All faults of the file.
pub fn load_offline(path: &Path) -> Result<Config, Faults> {
    check::examine(&ConfigFiles::read(path), &Surroundings::of_offline_command()).into_config()
}

/// Reads a configuration as far as possible and returns its valid parts and all its faults. For `check`, which goes on to test the
/// valid parts.
pub fn examine(path: &Path) -> Draft {
    check::examine(&ConfigFiles::read(path), &Surroundings::of_process())
}

/// [`examine`] with a given environment, for tests and tools; checks that depend on the current date are skipped.
pub fn examine_with(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Draft {
    let surroundings = Surroundings {
        variable: env,
        today: None,
        is_offline: false,
    };
    check::examine(&ConfigFiles::read(path), &surroundings)
}

/// [`examine_with`], with the checks that depend on the date `today`.
pub fn examine_on(path: &Path, env: &dyn Fn(&str) -> Option<String>, today: Date) -> Draft {
    let surroundings = Surroundings {
        variable: env,
        today: Some(today),
        is_offline: false,
    };
    check::examine(&ConfigFiles::read(path), &surroundings)
}

/// Reads an approved-sign file, as written by `gridwatch signs`.
///
/// # Errors
/// All faults of the file.
pub fn read_signs(path: &Path) -> Result<raw::Signs, Faults> {
    check::read_signs(path).map(|(_, signs)| signs)
}

/// Reads a file of advert words (`reading.adverts`).
///
/// # Errors
/// All faults of the file.
pub fn read_adverts(path: &Path) -> Result<Phrasebook, Faults> {
    check::read_adverts(path).map(|(_, phrasebook)| phrasebook)
}

/// Reads a file of point pairs (`raw::Points`), the input of `gridwatch calibrate`.
///
/// # Errors
/// All faults of the file.
pub fn read_survey(path: &Path) -> Result<Survey, Faults> {
    check::read_survey(path)
}
