//! Checks the sections of a file against each other and against the files, variables and addresses they refer to, and builds a
//! [`Draft`] from what is valid.
//!
//! A fault in one place does not hide a fault in another: a camera with a bad id still has its zones checked. Anything that
//! depends on a faulty field is skipped, so that one mistake is reported once.

mod adverts;
mod calendar;
mod cameras;
mod change;
mod claims;
mod console;
mod draft;
mod evidence;
mod grid_gaps;
mod grid_messages;
mod ledger;
mod masking;
mod misplaced;
mod models;
mod outside;
mod place;
mod registry;
mod rules;
mod signs;
mod survey;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(super) use self::{
    adverts::read as read_adverts,
    signs::{parse as parse_signs, read as read_signs},
    survey::read as read_survey,
};
pub use self::{
    draft::{Draft, ReplayConfig},
    survey::Survey,
};
use self::{models::ModelFacts, rules::RuleFacts};
use super::{
    EffectiveDocument, Source, Telemetry,
    element::ElementPath,
    files::ConfigFiles,
    raw::{self, Span},
    schema::MESSAGES,
};
use gridwatch_base::{
    digest::sha256_hex,
    document::{
        Document, Fault, FieldPath,
        schema::{self, Sanitized, nearest},
    },
    file, message,
    message::Message,
};
use gridwatch_contract::topics::RESERVED_NODE_IDS;
use gridwatch_engine as engine;
use gridwatch_engine::NodeId;
use gridwatch_model as model;

const DAY: Duration = Duration::from_hours(24);

/// One second suits a demonstration; an answer spread over more than a day comes too late.
const VERIFIED_OVER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));
const VERIFIED_WITHIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_hours(7 * 24));

/// Upper limit of the default for `workers` (one per core), because the box runs other software too.
const DEFAULT_WORKERS: usize = 4;

/// What the checks use besides files.
pub(super) struct Surroundings<'a> {
    /// The environment variables.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The current date; `None` skips the checks that depend on it.
    pub(super) today: Option<Date>,
    /// For commands that open no connection: credentials that only the daemon's environment has get a dummy value.
    pub(super) is_offline: bool,
}

impl Surroundings<'static> {
    /// Those of this process.
    pub(super) fn of_process() -> Self {
        Self {
            variable: &|name| std::env::var(name).ok(),
            today: Some(Timestamp::now().to_zoned(TimeZone::UTC).date()),
            is_offline: false,
        }
    }

    /// Those of a command that opens no connection.
    pub(super) fn of_offline_command() -> Self {
        Self {
            is_offline: true,
            ..Self::of_process()
        }
    }
}

/// Validates and checks a configuration.
pub(super) fn examine(files: &ConfigFiles, surroundings: &Surroundings<'_>) -> Draft {
    let file = files.main();
    let mut draft = Draft {
        file: file.into(),
        sources: files.iter().map(Source::own).collect(),
        ..Draft::default()
    };
    let document = match files.document() {
        Ok((document, faults)) => {
            draft.faults = faults;
            document
        }
        Err(mut faults) => {
            for fault in &mut faults {
                fault.remedy = message!(
                    "{remedy}; configs/edge.toml is an example to start from",
                    remedy = fault.remedy.clone()
                );
            }
            draft.faults = faults;
            return draft;
        }
    };
    draft.readable = true;
    let sanitized = schema::check::<raw::File>(&document, &MESSAGES, &mut draft.faults);
    Checker {
        document: &document,
        sanitized: &sanitized,
        surroundings,
        draft: &mut draft,
    }
    .run();
    if draft.faults.is_empty() {
        draft.rest.document = EffectiveDocument::of(&sanitized.value);
    }
    draft.rest.config_sha256 = sha256_hex(&[&document.bytes[..], &draft.rest.data_files].concat());
    let by_line = |f: &Fault| (f.file != *file, f.file.clone(), f.line, f.path.clone());
    draft.faults.sort_by_cached_key(by_line);
    draft.faults.dedup();
    draft.warnings.sort_by_cached_key(by_line);
    draft
}

/// The state shared by all checks of one file.
struct Checker<'a> {
    document: &'a Document,
    sanitized: &'a Sanitized,
    surroundings: &'a Surroundings<'a>,
    draft: &'a mut Draft,
}

/// Prefixes the path of a fault in another file with the field `at` that refers to that file.
fn prefixed(at: &FieldPath, fault: Fault) -> Fault {
    let path = if fault.path.is_empty() {
        at.to_string()
    } else {
        format!("{at}: {}", fault.path)
    };
    Fault { path, ..fault }
}

fn section(name: &str) -> FieldPath {
    FieldPath::default().key(name)
}

impl Checker<'_> {
    fn run(mut self) {
        self.node();
        self.calendar();
        self.runtime();
        self.broker();
        self.claims();
        self.telemetry();
        self.console();
        self.registry();
        self.evidence();
        self.draft.rest.audit = self.optional(&section("audit"));
        self.draft.rest.intake = self.optional(&section("intake"));
        self.verification();
        self.ledger();
        self.draft.rest.view = self.optional(&section("view"));
        self.change();
        self.draft.rest.categories = self.categories();
        let models: Vec<ModelFacts> = self.models();
        self.reading();
        let rules: Vec<RuleFacts> = self.rules(&models);
        self.grid();
        self.cameras(&models, &rules);
        self.misplaced_settings();
        self.masking(&models);
        self.shops();
        self.baselines(&models);
        self.idle_schedules();
    }

    fn fault(&mut self, at: &FieldPath, message: impl Into<Message>, remedy: impl Into<Message>) {
        let fault = self.document.fault(at, message, remedy);
        self.draft.faults.push(fault);
    }

    fn warn(&mut self, at: &FieldPath, message: impl Into<Message>, remedy: impl Into<Message>) {
        let warning = self.document.fault(at, message, remedy);
        self.draft.warnings.push(warning);
    }

    /// True if the field, a part of it or a parent violated the schema, so that its current value is not what the file says.
    fn is_invalid(&self, at: &FieldPath) -> bool {
        self.sanitized
            .invalid
            .iter()
            .any(|t| t.starts_with(at) || at.starts_with(t))
    }

    /// Deserializes a value that satisfies the schema.
    fn deserialize<T: DeserializeOwned>(&mut self, at: &FieldPath, value: &Value) -> Option<T> {
        match serde_path_to_error::deserialize(value) {
            Ok(part) => Some(part),
            Err(e) => {
                // What the schema cannot express: `1s 1h`, or `2.0` for an integer.
                let mut at = at.clone();
                for segment in e.path() {
                    match segment {
                        serde_path_to_error::Segment::Seq { index } => at = at.index(*index),
                        serde_path_to_error::Segment::Map { key } => at = at.key(key),
                        _ => {}
                    }
                }
                self.fault(&at, e.inner().to_string(), "");
                None
            }
        }
    }

    /// The section at `at`; `None` if it is faulty or absent.
    fn required<T: DeserializeOwned>(&mut self, at: &FieldPath) -> Option<T> {
        let sanitized = self.sanitized;
        let value = at.get(&sanitized.value).filter(|v| !v.is_null())?;
        self.deserialize(at, value)
    }

    /// The section at `at`, or its defaults if it is absent; `None` if it is faulty.
    fn optional<T: DeserializeOwned + Default>(&mut self, at: &FieldPath) -> Option<T> {
        if at.get(&self.document.value).is_none() {
            Some(T::default())
        } else {
            self.required(at)
        }
    }

    /// The valid elements of an array of tables, with their paths.
    fn elements<T: DeserializeOwned>(&mut self, list: &FieldPath) -> Vec<(FieldPath, T)> {
        let sanitized = self.sanitized;
        let elements = list
            .get(&sanitized.value)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        elements
            .iter()
            .enumerate()
            .filter(|(_, v)| !v.is_null())
            .filter_map(|(i, v)| {
                let at = list.index(i);
                Some((at.clone(), self.deserialize(&at, v)?))
            })
            .collect()
    }

    /// The ids of all elements of an array, faulty elements included; a duplicate is a fault.
    fn unique_ids(&mut self, list: &FieldPath, field: &str) -> BTreeSet<String> {
        let document = self.document;
        let elements = list
            .get(&document.value)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (i, id) in elements
            .iter()
            .enumerate()
            .filter_map(|(i, e)| Some((i, e.get(field)?.as_str()?)))
        {
            if let Some(before) = first.get(id) {
                let at = list.index(i).key(field);
                let before = list.index(*before);
                let (here, there) = (document.place(&at), document.place(&before.key(field)));
                let mut place = before.to_string();
                if let ((file, _), (other, Some(line))) = (here, there)
                    && file != other
                {
                    place = format!("{place} ({}:{line})", other.display());
                }
                let message = message!("already used by {place}", place);
                self.fault(
                    &at,
                    message,
                    message!("choose a unique {field}", field = field.to_string()),
                );
            } else {
                first.insert(id, i);
            }
        }
        first.into_keys().map(str::to_owned).collect()
    }

    /// Resolves `path` against the directory of the configuration file.
    fn resolve(&self, path: &Path) -> PathBuf {
        self.document.file.parent().unwrap_or(Path::new("")).join(path)
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        let shown = self.resolve(path);
        // Fails only for an empty path or without a working directory; then the path is used as it is.
        std::path::absolute(&shown).unwrap_or(shown)
    }

    /// The absolute path of a regular file that must exist. `what` completes the remedy "name …".
    fn existing_file(&mut self, at: &FieldPath, path: &Path, what: &str) -> Option<PathBuf> {
        let shown = self.resolve(path);
        match fs::metadata(&shown) {
            Ok(m) if m.is_file() => Some(self.absolute(path)),
            Ok(_) => {
                self.fault(
                    at,
                    message!("{shown} is not a regular file", shown = shown.display().to_string()),
                    message!("name {what}", what = what.to_string()),
                );
                None
            }
            Err(e) => {
                self.fault(
                    at,
                    message!(
                        "cannot read {shown}: {e}",
                        shown = shown.display().to_string(),
                        e = e.to_string()
                    ),
                    message!(
                        "name {what}; {relative}",
                        what = what.to_string(),
                        relative = RELATIVE.to_string()
                    ),
                );
                None
            }
        }
    }

    /// Reads a file of at most `limit` bytes that the configuration names at `at`, and notes it as a source.
    fn read_source(&mut self, at: &FieldPath, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = file::read(&self.resolve(path), limit);
        self.draft.sources.push(Source {
            field: ElementPath::of(at, &self.document.value).to_string(),
            file: self.absolute(path),
            sha256: bytes.as_deref().ok().map(sha256_hex),
        });
        bytes
    }

    /// Reads and validates the data file that the configuration names at `at`; its faults refer to that file.
    fn data_file<T: JsonSchema + DeserializeOwned>(
        &mut self,
        at: &FieldPath,
        path: &Path,
        what: &str,
    ) -> Option<(Document, T)> {
        let bytes = self.read_source(at, path, file::MAX_TEXT);
        self.existing_file(at, path, what)?;
        let document = match Document::of(&self.resolve(path), bytes) {
            Ok((document, faults)) => {
                self.draft.faults.extend(faults.into_iter().map(|f| prefixed(at, f)));
                document
            }
            Err(faults) => {
                self.draft.faults.extend(faults.into_iter().map(|f| prefixed(at, f)));
                return None;
            }
        };
        let mut faults = Vec::new();
        let sanitized = schema::check::<T>(&document, &MESSAGES, &mut faults);
        self.draft.faults.extend(faults.into_iter().map(|f| prefixed(at, f)));
        let data = serde_json::from_value(sanitized.value).ok()?;
        Some((document, data))
    }

    fn node(&mut self) {
        let at = section("node");
        let Some(raw) = self.required::<raw::Node>(&at) else {
            return;
        };
        let zone = at.key("timezone");
        if !self.is_invalid(&zone) {
            self.draft.timezone = TimeZone::get(&raw.timezone).ok();
            if self.draft.timezone.is_none() {
                let names: Vec<String> = jiff::tz::db().available().map(|n| n.to_string()).collect();
                let remedy = match nearest(&raw.timezone, names.iter().map(String::as_str)) {
                    Some(near) => message!("did you mean \"{near}\"?", near = near.to_string()),
                    None if names.is_empty() => "install the system's time zone database (package tzdata)".into(),
                    None => "use an IANA name such as \"Asia/Shanghai\"".into(),
                };
                self.fault(
                    &zone,
                    message!("unknown time zone {timezone}", timezone = format!("{:?}", raw.timezone)),
                    remedy,
                );
            }
        }
        if self.is_invalid(&at.key("state_dir")) {
            // Reported by the schema check.
        } else if raw.state_dir.as_os_str().is_empty() {
            self.fault(
                &at.key("state_dir"),
                "must not be empty",
                "name a directory, such as /var/lib/gridwatch",
            );
        } else {
            let dir = self.absolute(&raw.state_dir);
            if dir.exists() && !dir.is_dir() {
                self.fault(
                    &at.key("state_dir"),
                    message!("{dir} is not a directory", dir = dir.display().to_string()),
                    "name a directory, or a path where one can be created",
                );
            } else {
                self.draft.state_dir = Some(dir);
            }
        }
        self.draft.rest.language = raw.language;
        if RESERVED_NODE_IDS.contains(&raw.id.as_str()) {
            self.fault(
                &at.key("id"),
                message!(
                    "{id} is a level of the topics of all boxes",
                    id = format!("{:?}", raw.id)
                ),
                "use another id, such as \"box-1\"",
            );
        }
        self.draft.node = (!self.is_invalid(&at.key("id"))).then(|| NodeId::from(raw.id));
    }

    fn runtime(&mut self) {
        let at = section("runtime");
        if let Some(raw) = self.optional::<raw::Runtime>(&at) {
            if let Some(path) = &raw.onnxruntime {
                self.draft.onnxruntime = self.existing_file(
                    &at.key("onnxruntime"),
                    path,
                    "libonnxruntime.so, or remove the line to use the library installed by edge-deploy/setup.sh",
                );
            }
            self.draft.inference = model::Options {
                providers: raw.providers,
                threads: raw.model_threads,
            };
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            self.draft.rest.workers = Some(raw.workers.map_or(cores.min(DEFAULT_WORKERS), |n| n as usize));
        }
        self.draft.decoders = self.optional::<raw::Decode>(&section("decode")).map(|d| d.backend);
    }

    fn verification(&mut self) {
        let at = section("verification");
        let Some(raw) = self.optional::<raw::Verification>(&at) else {
            return;
        };
        let are_in_range = [
            self.check_range(&at.key("over"), raw.over, VERIFIED_OVER),
            self.check_range(&at.key("within"), raw.within, VERIFIED_WITHIN),
        ];
        if are_in_range == [true; 2] && raw.within.0 < raw.over.0 {
            self.fault(
                &at.key("within"),
                message!(
                    "{within} is shorter than verification.over ({over}), so no verification could finish in time",
                    within = raw.within.to_string(),
                    over = raw.over.to_string()
                ),
                "make it several times as long as over",
            );
        }
        self.draft.rest.verification = Some(engine::Verification {
            looks: raw.looks,
            over: raw.over.0,
            within: raw.within.0,
            hidden_by: raw.hidden_by.iter().map(|l| l.as_str().into()).collect(),
        });
    }

    /// Checks that a duration lies within inclusive limits. False if it does not, or if the field was invalid already.
    fn check_range(&mut self, at: &FieldPath, span: Span, (least, most): (Duration, Duration)) -> bool {
        if self.is_invalid(at) {
            return false;
        }
        let is_in_range = (least..=most).contains(&span.0);
        if !is_in_range {
            let (side, limit) = if span.0 < least {
                ("below the minimum", least)
            } else {
                ("above the maximum", most)
            };
            self.fault(
                at,
                message!(
                    "{span} is {side} of {limit}",
                    span = span.to_string(),
                    side = Message::from(side),
                    limit = Span(limit).to_string()
                ),
                message!(
                    "use a duration from {least} to {most}",
                    least = Span(least).to_string(),
                    most = Span(most).to_string()
                ),
            );
        }
        is_in_range
    }

    fn telemetry(&mut self) {
        let at = section("telemetry");
        let Some(raw) = self.optional::<raw::Telemetry>(&at) else {
            return;
        };
        let listen_at = at.key("listen");
        let listen = if raw.listen.is_empty() || self.is_invalid(&listen_at) {
            None
        } else {
            match raw.listen.parse::<SocketAddr>() {
                Ok(a) if a.ip().is_loopback() => Some(a),
                Ok(a) => {
                    self.fault(
                        &listen_at,
                        message!("{ip} is not a loopback address and would be reachable from the network", ip = a.ip().to_string()),
                        "use a loopback address such as 127.0.0.1:9464 and put an authenticating proxy in front of it; \"\" turns the endpoint off",
                    );
                    None
                }
                Err(_) => {
                    self.fault(
                        &listen_at,
                        "not an address with a port",
                        "use an address like 127.0.0.1:9464",
                    );
                    None
                }
            }
        };
        let filter_at = at.key("filter");
        if !self.is_invalid(&filter_at)
            && let Err(e) = tracing_subscriber::EnvFilter::builder().parse(&raw.filter)
        {
            self.fault(
                &filter_at,
                message!("invalid log filter: {e}", e = e.to_string()),
                "use a level, or targets with levels, such as gridwatch=debug,info",
            );
        }
        self.draft.rest.telemetry = Some(Telemetry {
            listen,
            log: raw.log,
            filter: raw.filter,
            max_blind_share: raw.max_blind_share,
        });
    }
}

const RELATIVE: &str = "relative paths start at the directory of the configuration file";
