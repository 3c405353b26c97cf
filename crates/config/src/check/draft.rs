//! What the checks have made of a file so far, and what a daemon or a replay gets of it in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::{civil::Date, tz::TimeZone};

use super::{
    super::{Broker, Camera, Config, Evidence, Fault, Faults, Model, Reading, Registry, Telemetry, raw},
    Survey,
};
use gridwatch_camera::Backend;
use gridwatch_contract::Language;
use gridwatch_custody::keys::OriginalsKey;
use gridwatch_engine as engine;
use gridwatch_engine::{
    CameraPlan, Category, Intake, NodeId, Plan, ScheduleId,
    calendar::{Calendar, DayKind, Schedule},
    grid::Grid,
};
use gridwatch_model as model;
use gridwatch_vision::ViewLimits;

const DAY: Duration = Duration::from_hours(24);

/// A file as far as it is sound, and everything that is wrong with it.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The file, as it was named.
    pub file: PathBuf,
    /// False where it could not be read or is no TOML, so that nothing else was looked at.
    pub readable: bool,
    /// In the order of the lines.
    pub faults: Vec<Fault>,
    /// What works but should be looked at.
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
    /// See [`Config::broker`]; without credentials where theirs could not be read.
    pub broker: Option<Broker>,
    /// The sound ones of [`Config::models`].
    pub models: Vec<Model>,
    /// See [`Config::reading`].
    pub reading: Option<Reading>,
    /// The sound ones of [`Config::cameras`]; without credentials where theirs could not be read. [`Camera::models`] is
    /// empty where a model is faulty.
    pub cameras: Vec<Camera>,
    /// The sound calibrations, by camera.
    pub surveys: BTreeMap<engine::CameraId, Survey>,
    pub(super) rest: Rest,
}

/// What only a whole [`Config`] needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Rest {
    pub(super) second_looks: BTreeMap<engine::RuleId, usize>,
    pub(super) config_sha256: String,
    pub(super) language: Language,
    pub(super) workers: Option<usize>,
    pub(super) telemetry: Option<Telemetry>,
    pub(super) evidence: Option<Evidence>,
    pub(super) intake: Option<raw::Intake>,
    pub(super) verification: Option<engine::Verification>,
    /// The inner one: where it is enabled.
    pub(super) ledger: Option<Option<gridwatch_ledger::Settings>>,
    pub(super) view: Option<ViewLimits>,
    pub(super) registry: Option<Registry>,
    pub(super) grid: Option<(raw::Grid, Grid)>,
    pub(super) categories: BTreeMap<String, Category>,
    pub(super) days: BTreeMap<Date, DayKind>,
    /// As they were typed, the faulty ones' too.
    pub(super) schedule_ids: BTreeSet<String>,
    pub(super) schedules: BTreeMap<ScheduleId, Schedule>,
    pub(super) rules: Vec<engine::Rule>,
    pub(super) plans: BTreeMap<engine::CameraId, CameraPlan>,
    /// The bytes of the approved-sign files, one after the other.
    pub(super) baselines: Vec<u8>,
}

impl Rest {
    /// What the engine works to. Takes what it is made of.
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
    /// The sound rules, in the file's order.
    pub fn rules(&self) -> &[engine::Rule] {
        &self.rest.rules
    }

    /// Where the key of the originals is; `None` where none are kept, or the section is faulty.
    pub fn originals_key(&self) -> Option<&OriginalsKey> {
        self.rest.evidence.as_ref()?.originals.as_ref()
    }

    /// See [`Config::view`]; the defaults where the section is faulty.
    pub fn view(&self) -> ViewLimits {
        self.rest.view.clone().unwrap_or_default()
    }

    /// The configuration, if nothing is wrong with it.
    pub fn into_config(self) -> Result<Config, Faults> {
        if !self.faults.is_empty() {
            return Err(Faults(self.faults));
        }
        let unexplained = self.unexplained();
        self.assemble().ok_or(unexplained)
    }

    /// Where further versions of the models lie; `None` where the file does not soundly say.
    pub fn registry(&self) -> Option<model::registry::Registry> {
        let keys = self.rest.registry.as_ref()?.keys.clone();
        Some(model::registry::Registry::new(self.state_dir.as_deref()?, keys))
    }

    fn unexplained(&self) -> Faults {
        Faults(vec![Fault {
            path: String::new(),
            file: self.file.clone(),
            line: None,
            message: "something is missing, and no check says what".into(),
            remedy: "report this as a bug, with the file".into(),
        }])
    }

    /// What decides cases, if nothing is wrong with *that*: a replay needs neither credentials nor models nor a broker.
    pub fn into_judged(self) -> Result<Judged, Faults> {
        let unexplained = self.unexplained();
        let (other, faults): (Vec<Fault>, Vec<Fault>) =
            self.faults.into_iter().partition(|f| bears_on_no_case(&f.path));
        if !faults.is_empty() {
            return Err(Faults(faults));
        }
        let mut rest = self.rest;
        let (Some((_, grid)), Some(node), Some(zone)) = (rest.grid.take(), self.node, self.timezone) else {
            return Err(unexplained);
        };
        Ok(Judged {
            plan: Arc::new(rest.plan(node, zone, grid).ok_or(unexplained)?),
            config_sha256: rest.config_sha256,
            other,
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
            timezone,
            language: rest.language,
            state_dir: self.state_dir?,
            onnxruntime: self.onnxruntime,
            inference: self.inference,
            workers: rest.workers?,
            decoders: self.decoders?,
            broker: self.broker?,
            telemetry: rest.telemetry?,
            evidence: rest.evidence?,
            ledger: rest.ledger?,
            view: rest.view?,
            grid_version: raw_grid.version,
            crs: raw_grid.crs,
            categories: rest.categories,
            models: self.models,
            second_looks: rest.second_looks,
            reading: self.reading,
            registry: rest.registry?,
            cameras: self.cameras,
            plan: Arc::new(plan),
            node,
            warnings: self.warnings,
        })
    }
}

/// The part of a configuration that decides cases.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What the engine works to.
    pub plan: Arc<Plan>,
    /// See [`Config::config_sha256`].
    pub config_sha256: String,
    /// What is wrong with the rest: a daemon would not start with it.
    pub other: Vec<Fault>,
}

/// True where the field decides how the box sees or sends, not what becomes a case. A camera's URL is not among them: a
/// camera without one is none.
fn bears_on_no_case(path: &str) -> bool {
    const SECTIONS: [&str; 9] = [
        "broker",
        "runtime",
        "decode",
        "telemetry",
        "ledger",
        "view",
        "models",
        "reading",
        "registry",
    ];
    const OF_CAMERAS: [&str; 7] = [
        "credentials",
        "ca_file",
        "models",
        "read_numbers",
        "transport",
        "gb_device_id",
        "address",
    ];
    let is_or_is_in = |field: &str, head: &str| {
        field
            .strip_prefix(head)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
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
        || path == "node.state_dir"
        || path == "node.timezone"
        || of_camera.is_some_and(|field| OF_CAMERAS.iter().any(|s| is_or_is_in(field, s)))
}
