//! The result of the checks, and the configurations built from it for the daemon and for a replay.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::{civil::Date, tz::TimeZone};

use super::{
    super::{
        Broker, Camera, Claims, Config, Console, EffectiveDocument, Evidence, Fault, Faults, Model, OcrSettings,
        Registry, Source, Telemetry, raw,
    },
    Survey,
};
use gridwatch_base::language::Language;
use gridwatch_camera::Backend;
use gridwatch_custody::keys::{OriginalsKey, SigningKeyPlace};
use gridwatch_engine as engine;
use gridwatch_engine::{
    CameraPlan, Category, Intake, NodeId, Plan, ScheduleId,
    calendar::{Calendar, DayKind, Schedule},
    grid::Grid,
};
use gridwatch_model as model;
use gridwatch_model::ocr::second_look::TextNeeded;
use gridwatch_vision::ViewLimits;

const DAY: Duration = Duration::from_hours(24);

/// The valid parts of a configuration file, and all its faults.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The file, with the path as given.
    pub file: PathBuf,
    /// False if the file could not be read or is not TOML, so that nothing else was checked.
    pub readable: bool,
    /// See [`Config::sources`]; of files that could not be read, too, so that they can be watched until they are mended.
    pub sources: Vec<Source>,
    /// Faults, ordered by line.
    pub faults: Vec<Fault>,
    /// Warnings: things that work but are probably not intended.
    pub warnings: Vec<Fault>,
    /// See [`Config::node`].
    pub node: Option<NodeId>,
    /// See [`Config::state_dir`].
    pub state_dir: Option<PathBuf>,
    /// See [`Config::timezone`].
    pub timezone: Option<TimeZone>,
    /// See [`Config::onnxruntime`].
    pub onnxruntime: Option<PathBuf>,
    /// See [`Config::inference`].
    pub inference: model::Options,
    /// See [`Config::decoders`].
    pub decoders: Option<Backend>,
    /// See [`Config::broker`]; `None` if anything in the section is faulty, so that nothing connects with a setting the file got
    /// wrong.
    pub broker: Option<Broker>,
    /// The valid entries of [`Config::models`].
    pub models: Vec<Model>,
    /// See [`Config::reading`].
    pub reading: Option<OcrSettings>,
    /// The valid entries of [`Config::cameras`]; without credentials if they could not be read. [`Camera::models`] is empty if a
    /// model is faulty. Nothing may connect to those in [`Draft::connection_faults`].
    pub cameras: Vec<Camera>,
    /// The cameras whose URL, credentials, `ca_file` or transport is faulty, with these faults. What the draft holds instead of a
    /// faulty setting would send a password unencrypted, or to the wrong host.
    pub connection_faults: BTreeMap<engine::CameraId, Vec<Fault>>,
    /// Paths of settings that protect a connection (`ca_file`, `credentials`, `tls`, `pin_sha256`) in tables that do not have them.
    /// Nothing may connect to [`Draft::broker`] if there are any, as they may be meant for it.
    pub misplaced: Vec<String>,
    /// The valid calibrations, by view.
    pub surveys: BTreeMap<engine::CameraId, Survey>,
    pub(super) rest: Rest,
}

/// Parts that are only used to build a [`Config`] or a [`ReplayConfig`].
#[derive(Debug, Clone, Default)]
pub(super) struct Rest {
    pub(super) second_looks: BTreeMap<engine::RuleId, usize>,
    pub(super) text_looks: BTreeMap<engine::RuleId, TextNeeded>,
    pub(super) config_sha256: String,
    pub(super) document: EffectiveDocument,
    pub(super) language: Language,
    pub(super) workers: Option<usize>,
    pub(super) claims: Option<Claims>,
    pub(super) telemetry: Option<Telemetry>,
    pub(super) console: Option<Console>,
    pub(super) evidence: Option<Evidence>,
    pub(super) audit: Option<raw::Audit>,
    pub(super) intake: Option<raw::Intake>,
    pub(super) verification: Option<engine::Verification>,
    /// The outer `None`: faulty or not checked yet; the inner one: disabled.
    pub(super) ledger: Option<Option<gridwatch_ledger::Settings>>,
    pub(super) view: Option<ViewLimits>,
    pub(super) change: Option<raw::Change>,
    pub(super) registry: Option<Registry>,
    pub(super) grid: Option<(raw::Grid, Grid)>,
    pub(super) categories: BTreeMap<String, Category>,
    pub(super) days: BTreeMap<Date, DayKind>,
    /// Ids of all schedules, faulty ones included.
    pub(super) schedule_ids: BTreeSet<String>,
    pub(super) schedules: BTreeMap<ScheduleId, Schedule>,
    pub(super) rules: Vec<engine::Rule>,
    pub(super) plans: BTreeMap<engine::CameraId, CameraPlan>,
    /// Concatenated bytes of the data files that decide: approved signs, and the words of adverts.
    pub(super) data_files: Vec<u8>,
}

impl Rest {
    /// Builds the engine's plan, moving the parts out of `self`; `None` if one is missing.
    fn plan(&mut self, node: NodeId, zone: TimeZone, grid: Grid) -> Option<Plan> {
        let (intake, evidence) = (self.intake.as_ref()?, self.evidence.as_ref()?);
        let verification = self.verification.take()?;
        Some(Plan {
            node,
            cameras: std::mem::take(&mut self.plans),
            rules: std::mem::take(&mut self.rules),
            grid,
            intake: Intake {
                per_camera_day: intake.per_camera_day,
                per_box_day: intake.per_box_day,
                let_go_after: (intake.let_go_days > 0).then(|| DAY * intake.let_go_days),
            },
            verification,
            picture_interval: evidence.min_interval,
            calendar: Calendar {
                zone,
                days: std::mem::take(&mut self.days),
                schedules: std::mem::take(&mut self.schedules),
            },
        })
    }
}

impl Draft {
    /// The faults of the table or field `head`, such as `broker`, and of what is in it.
    pub fn faults_in(&self, head: &str) -> Vec<Fault> {
        self.faults
            .iter()
            .filter(|f| is_or_is_in(&f.path, head))
            .cloned()
            .collect()
    }

    /// See [`Config::workers`]; 1 if the section is faulty.
    pub fn workers(&self) -> usize {
        self.rest.workers.unwrap_or(1)
    }

    /// The valid rules, in file order.
    pub fn rules(&self) -> &[engine::Rule] {
        &self.rest.rules
    }

    /// Where the key of the encrypted originals is stored; `None` if originals are not kept or the section is faulty.
    pub fn originals_key(&self) -> Option<&OriginalsKey> {
        self.rest.evidence.as_ref()?.originals.as_ref()
    }

    /// Where the signing key is; in the state directory if the section is faulty.
    pub fn signing_key(&self) -> SigningKeyPlace {
        let evidence = self.rest.evidence.as_ref();
        evidence.map(|e| e.signing_key.clone()).unwrap_or_default()
    }

    /// See [`Evidence::max_picture_bytes`]; 0 if the section is faulty.
    pub fn max_picture_bytes(&self) -> usize {
        self.rest.evidence.as_ref().map_or(0, |e| e.max_picture_bytes)
    }

    /// See [`Evidence::mask_labels`]; `None` if pictures are not masked, or the section is faulty.
    pub fn labels_of_mask_models(&self) -> Option<&[engine::Label]> {
        let evidence = self.rest.evidence.as_ref().filter(|e| e.mask)?;
        Some(&evidence.mask_labels)
    }

    /// See [`Evidence::mask_models`]; none if pictures are not masked, or the section is faulty.
    pub fn mask_models(&self) -> &[PathBuf] {
        let evidence = self.rest.evidence.as_ref().filter(|e| e.mask);
        evidence.map_or(&[], |e| &e.mask_models)
    }

    /// See [`Config::view`]; the defaults if the section is faulty.
    pub fn view(&self) -> ViewLimits {
        self.rest.view.clone().unwrap_or_default()
    }

    /// The complete configuration.
    ///
    /// # Errors
    /// All faults of the file, if there are any.
    pub fn into_config(self) -> Result<Config, Faults> {
        if !self.faults.is_empty() {
            return Err(Faults(self.faults));
        }
        let unexplained = self.unexplained();
        self.assemble().ok_or(unexplained)
    }

    /// The model registry; `None` if `node.state_dir` or `[registry]` is faulty.
    pub fn registry(&self) -> Option<model::registry::Registry> {
        let keys = self.rest.registry.as_ref()?.keys.clone();
        Some(model::registry::Registry::new(self.state_dir.as_deref()?, keys))
    }

    fn unexplained(&self) -> Faults {
        Faults(vec![Fault {
            path: String::new(),
            file: self.file.clone(),
            line: None,
            message: "the configuration is incomplete, but no check reported a fault".into(),
            remedy: "report this as a bug, and attach the file".into(),
        }])
    }

    /// Where the daemon would serve health and metrics, if the section is valid and names an address.
    pub fn listen(&self) -> Option<SocketAddr> {
        self.rest.telemetry.as_ref()?.listen
    }

    /// The part of the configuration that decides cases. A replay needs no credentials, models or broker, so faults in those
    /// sections are not errors here.
    ///
    /// # Errors
    /// The faults of the sections that decide cases.
    pub fn into_replay_config(self) -> Result<ReplayConfig, Faults> {
        let unexplained = self.unexplained();
        let (other_faults, faults): (Vec<Fault>, Vec<Fault>) =
            self.faults.into_iter().partition(|f| is_irrelevant_to_cases(&f.path));
        if !faults.is_empty() {
            return Err(Faults(faults));
        }
        let mut rest = self.rest;
        let (Some((_, grid)), Some(node), Some(zone)) = (rest.grid.take(), self.node, self.timezone) else {
            return Err(unexplained);
        };
        Ok(ReplayConfig {
            plan: Arc::new(rest.plan(node, zone, grid).ok_or(unexplained)?),
            config_sha256: rest.config_sha256,
            other_faults,
        })
    }

    fn assemble(self) -> Option<Config> {
        let mut rest = self.rest;
        let (raw_grid, grid) = rest.grid.take()?;
        let (node, timezone) = (self.node?, self.timezone?);
        let plan = rest.plan(node.clone(), timezone.clone(), grid)?;
        Some(Config {
            file: self.file,
            config_sha256: rest.config_sha256,
            sources: self.sources,
            document: rest.document,
            timezone,
            language: rest.language,
            state_dir: self.state_dir?,
            onnxruntime: self.onnxruntime,
            inference: self.inference,
            workers: rest.workers?,
            decoders: self.decoders?,
            broker: self.broker?,
            telemetry: rest.telemetry?,
            console: rest.console?,
            evidence: rest.evidence?,
            audit_to_syslog: rest.audit?.syslog,
            ledger: rest.ledger?,
            view: rest.view?,
            grid_version: raw_grid.version,
            crs: raw_grid.crs,
            categories: rest.categories,
            models: self.models,
            second_looks: rest.second_looks,
            text_looks: rest.text_looks,
            reading: self.reading,
            claims: rest.claims?,
            registry: rest.registry?,
            cameras: self.cameras,
            plan: Arc::new(plan),
            node,
            warnings: self.warnings,
        })
    }
}

/// The part of a configuration that decides cases, enough for a replay or a simulation.
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// The engine's plan.
    pub plan: Arc<Plan>,
    /// See [`Config::config_sha256`].
    pub config_sha256: String,
    /// Faults of the other sections, with which the daemon would not start.
    pub other_faults: Vec<Fault>,
}

/// True if the path `field` is `head` or a part of it.
pub(super) fn is_or_is_in(field: &str, head: &str) -> bool {
    field
        .strip_prefix(head)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', ':']))
}

/// True if the field affects how the box receives or sends, but not what becomes a case. A camera's URL is not included, because
/// a camera without a URL is dropped.
fn is_irrelevant_to_cases(path: &str) -> bool {
    const SECTIONS: [&str; 13] = [
        "audit",
        "broker",
        "claims",
        "runtime",
        "decode",
        "telemetry",
        "console",
        "ledger",
        "view",
        "change",
        "models",
        "reading",
        "registry",
    ];
    const OF_CAMERAS: [&str; 9] = [
        "credentials",
        "ca_file",
        "models",
        "read_numbers",
        "auth",
        "transport",
        "gb_device_id",
        "groups",
        "address",
    ];
    let of_camera = path
        .strip_prefix("cameras[")
        .and_then(|p| p.split_once("]."))
        .map(
            |(_, field)| match field.strip_prefix("presets[").and_then(|f| f.split_once("].")) {
                Some((_, field)) => field,
                None => field,
            },
        );
    SECTIONS.iter().any(|s| is_or_is_in(path, s))
        || is_or_is_in(path, "evidence.mask_models")
        || path == "node.state_dir"
        || path == "node.timezone"
        || of_camera.is_some_and(|field| OF_CAMERAS.iter().any(|s| is_or_is_in(field, s)))
}
