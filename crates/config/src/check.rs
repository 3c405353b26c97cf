//! The sections of a file against each other and against the world they name: every fault, then what is sound.
//!
//! A fault in one place does not hide one in another: a camera with a bad id still has its zones checked. What hangs on a
//! field that is itself faulty is not judged, so that one mistake is told once.

mod calendar;
mod cameras;
mod draft;
mod ledger;
mod outside;
mod place;
mod registry;
mod rules;
mod signs;
mod survey;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{civil::Date, tz::TimeZone};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::rules::{ModelFacts, RuleFacts};
pub use self::{
    draft::{Draft, Judged},
    survey::Survey,
};
pub(super) use self::{signs::read as read_signs, survey::read as read_survey};
use super::{
    Evidence, Telemetry,
    raw::{self, Span},
    schema::WORDS,
};
use gridwatch_base::{
    digest::sha256_hex,
    document::{
        At, Document, Fault,
        schema::{self, Sound, nearest},
    },
};
use gridwatch_custody::keys::OriginalsKey;
use gridwatch_engine as engine;
use gridwatch_engine::{Label, NodeId};
use gridwatch_evidence as evidence;
use gridwatch_model as model;
use gridwatch_store::{Budget, Retention};

const DAY: Duration = Duration::from_hours(24);

/// A second is for a demonstration; a day's looks at a place are a day late.
const VERIFIED_OVER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));
const VERIFIED_WITHIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_hours(7 * 24));

/// Unset `workers`: one a core, but a box does other things too.
const DEFAULT_WORKERS: usize = 4;

/// The whole way from a path to a [`Draft`].
pub(super) fn examine(file: &Path, env: &dyn Fn(&str) -> Option<String>, today: Option<Date>) -> Draft {
    let mut draft = Draft {
        file: file.into(),
        ..Draft::default()
    };
    let document = match Document::read(file) {
        Ok((document, faults)) => {
            draft.faults = faults;
            document
        }
        Err(mut faults) => {
            for fault in &mut faults {
                fault.remedy.push_str("; configs/edge.toml is an example to copy");
            }
            draft.faults = faults;
            return draft;
        }
    };
    draft.readable = true;
    let sound = schema::check::<raw::File>(&document, &WORDS, &mut draft.faults);
    Checker {
        document: &document,
        sound: &sound,
        env,
        today,
        draft: &mut draft,
    }
    .run();
    draft.rest.config_sha256 = sha256_hex(&[&document.bytes[..], &draft.rest.baselines].concat());
    let by_line = |f: &Fault| (f.file != *file, f.file.clone(), f.line, f.path.clone());
    draft.faults.sort_by_cached_key(by_line);
    draft.faults.dedup();
    draft.warnings.sort_by_cached_key(by_line);
    draft
}

/// What every check has at hand.
struct Checker<'a> {
    document: &'a Document,
    sound: &'a Sound,
    env: &'a dyn Fn(&str) -> Option<String>,
    /// For what depends on the day it is asked; `None`: that is not asked.
    today: Option<Date>,
    draft: &'a mut Draft,
}

/// A fault in a file that the configuration names at `at`.
fn inside(at: &At, fault: Fault) -> Fault {
    let path = if fault.path.is_empty() {
        at.to_string()
    } else {
        format!("{at}: {}", fault.path)
    };
    Fault { path, ..fault }
}

fn top(section: &str) -> At {
    At::default().key(section)
}

impl Checker<'_> {
    fn run(mut self) {
        self.node();
        self.calendar();
        self.runtime();
        self.broker();
        self.telemetry();
        self.evidence();
        self.draft.rest.intake = self.optional(&top("intake"));
        self.verification();
        self.ledger();
        self.registry();
        self.draft.rest.view = self.optional(&top("view"));
        self.draft.rest.categories = self.categories();
        let models: Vec<ModelFacts> = self.models();
        self.reading();
        let rules: Vec<RuleFacts> = self.rules(&models);
        self.grid();
        self.cameras(&models, &rules);
        self.shops();
        self.baselines(&models);
        self.idle_schedules();
    }

    fn fault(&mut self, at: &At, message: impl Into<String>, remedy: impl Into<String>) {
        let fault = self.document.fault(at, message, remedy);
        self.draft.faults.push(fault);
    }

    fn warn(&mut self, at: &At, message: impl Into<String>, remedy: impl Into<String>) {
        let warning = self.document.fault(at, message, remedy);
        self.draft.warnings.push(warning);
    }

    /// True where the field or something in it broke the schema, so that what stands there now is not what was typed.
    fn is_taken(&self, at: &At) -> bool {
        self.sound.taken.iter().any(|t| t.starts_with(at) || at.starts_with(t))
    }

    /// A section that is there and keeps to the schema.
    fn part<T: DeserializeOwned>(&mut self, at: &At, value: &Value) -> Option<T> {
        match serde_path_to_error::deserialize(value) {
            Ok(part) => Some(part),
            Err(e) => {
                // What the schema cannot say: `1s 1h`, `2.0` where a whole number stands.
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

    /// The section at `at`, unless it is faulty or absent.
    fn required<T: DeserializeOwned>(&mut self, at: &At) -> Option<T> {
        let sound = self.sound;
        let value = at.of(&sound.value).filter(|v| !v.is_null())?;
        self.part(at, value)
    }

    /// The same for a section that may be left out.
    fn optional<T: DeserializeOwned + Default>(&mut self, at: &At) -> Option<T> {
        if at.of(&self.document.value).is_none() {
            Some(T::default())
        } else {
            self.required(at)
        }
    }

    /// The elements of a list of tables that keep to the schema, with their places.
    fn each<T: DeserializeOwned>(&mut self, list: &At) -> Vec<(At, T)> {
        let sound = self.sound;
        let elements = list
            .of(&sound.value)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        elements
            .iter()
            .enumerate()
            .filter(|(_, v)| !v.is_null())
            .filter_map(|(i, v)| {
                let at = list.index(i);
                Some((at.clone(), self.part(&at, v)?))
            })
            .collect()
    }

    /// The ids of a list's elements as they were typed, the faulty ones' too; a second one of a kind is a fault.
    fn ids(&mut self, list: &At, field: &str) -> BTreeSet<String> {
        let document = self.document;
        let elements = list
            .of(&document.value)
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
                self.fault(
                    &list.index(i).key(field),
                    format!("the same as that of {}", list.index(*before)),
                    "give each its own",
                );
            } else {
                first.insert(id, i);
            }
        }
        first.into_keys().map(str::to_owned).collect()
    }

    /// Where the file lives that the configuration calls `path`: relative paths start at the configuration.
    fn shown(&self, path: &Path) -> PathBuf {
        self.document.file.parent().unwrap_or(Path::new("")).join(path)
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        let shown = self.shown(path);
        // Fails only for an empty path or where there is no working directory; then the path as it is must do.
        std::path::absolute(&shown).unwrap_or(shown)
    }

    /// The absolute path of a file that must exist.
    fn existing(&mut self, at: &At, path: &Path, what: &str) -> Option<PathBuf> {
        let shown = self.shown(path);
        match fs::metadata(&shown) {
            Ok(m) if m.is_file() => Some(self.absolute(path)),
            Ok(_) => {
                self.fault(at, format!("{} is no file", shown.display()), format!("name {what}"));
                None
            }
            Err(e) => {
                self.fault(
                    at,
                    format!("{} cannot be read: {e}", shown.display()),
                    format!("name {what}; {RELATIVE}"),
                );
                None
            }
        }
    }

    /// A data file that the configuration names at `at`, if it keeps to its schema; its faults name that file.
    fn data<T: JsonSchema + DeserializeOwned>(&mut self, at: &At, path: &Path, what: &str) -> Option<(Document, T)> {
        self.existing(at, path, what)?;
        let document = match Document::read(&self.shown(path)) {
            Ok((document, faults)) => {
                self.draft.faults.extend(faults.into_iter().map(|f| inside(at, f)));
                document
            }
            Err(faults) => {
                self.draft.faults.extend(faults.into_iter().map(|f| inside(at, f)));
                return None;
            }
        };
        let mut faults = Vec::new();
        let sound = schema::check::<T>(&document, &WORDS, &mut faults);
        self.draft.faults.extend(faults.into_iter().map(|f| inside(at, f)));
        let data = serde_json::from_value(sound.value).ok()?;
        Some((document, data))
    }

    fn node(&mut self) {
        let at = top("node");
        let Some(raw) = self.required::<raw::Node>(&at) else {
            return;
        };
        let zone = at.key("timezone");
        if !self.is_taken(&zone) {
            self.draft.timezone = TimeZone::get(&raw.timezone).ok();
            if self.draft.timezone.is_none() {
                let names: Vec<String> = jiff::tz::db().available().map(|n| n.to_string()).collect();
                let remedy = match nearest(&raw.timezone, names.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None if names.is_empty() => "install the system's time zone database (package tzdata)".into(),
                    None => "write an IANA name such as \"Asia/Shanghai\"".into(),
                };
                self.fault(&zone, format!("no time zone is called {:?}", raw.timezone), remedy);
            }
        }
        if self.is_taken(&at.key("state_dir")) {
            // Told already.
        } else if raw.state_dir.as_os_str().is_empty() {
            self.fault(
                &at.key("state_dir"),
                "is empty",
                "name a directory, such as /var/lib/gridwatch",
            );
        } else {
            let dir = self.absolute(&raw.state_dir);
            if dir.exists() && !dir.is_dir() {
                self.fault(
                    &at.key("state_dir"),
                    format!("{} is no directory", dir.display()),
                    "name a directory, or one that can be made",
                );
            } else {
                self.draft.state_dir = Some(dir);
            }
        }
        self.draft.rest.language = raw.language;
        self.draft.node = (!self.is_taken(&at.key("id"))).then(|| NodeId::from(raw.id));
    }

    fn runtime(&mut self) {
        let at = top("runtime");
        if let Some(raw) = self.optional::<raw::Runtime>(&at) {
            if let Some(path) = &raw.onnxruntime {
                self.draft.onnxruntime = self.existing(
                    &at.key("onnxruntime"),
                    path,
                    "libonnxruntime.so, or remove the line to use the one edge-deploy/setup.sh installs",
                );
            }
            self.draft.inference = model::Options {
                providers: raw.providers,
                threads: raw.model_threads,
            };
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            self.draft.rest.workers = Some(raw.workers.map_or(cores.min(DEFAULT_WORKERS), |n| n as usize));
        }
        self.draft.decoders = self.optional::<raw::Decode>(&top("decode")).map(|d| d.backend);
    }

    fn verification(&mut self) {
        let at = top("verification");
        let Some(raw) = self.optional::<raw::Verification>(&at) else {
            return;
        };
        let are_good = [
            self.between(&at.key("over"), raw.over, VERIFIED_OVER),
            self.between(&at.key("within"), raw.within, VERIFIED_WITHIN),
        ];
        if are_good == [true; 2] && raw.within.0 < raw.over.0 {
            self.fault(
                &at.key("within"),
                format!(
                    "{} is less than over ({}): nothing could ever be verified in time",
                    raw.within, raw.over
                ),
                "write a time several times as long",
            );
        }
        self.draft.rest.verification = Some(engine::Verification {
            looks: raw.looks,
            over: raw.over.0,
            within: raw.within.0,
            hidden_by: raw.hidden_by.iter().map(|l| l.as_str().into()).collect(),
        });
    }

    /// True where a length of time was typed and lies within bounds, both included.
    fn between(&mut self, at: &At, span: Span, (least, most): (Duration, Duration)) -> bool {
        if self.is_taken(at) {
            return false;
        }
        let good = (least..=most).contains(&span.0);
        if !good {
            let (side, limit) = if span.0 < least {
                ("less", least)
            } else {
                ("more", most)
            };
            self.fault(
                at,
                format!("{span} is {side} than {}", Span(limit)),
                format!("write a length of time from {} to {}", Span(least), Span(most)),
            );
        }
        good
    }

    fn telemetry(&mut self) {
        let at = top("telemetry");
        let Some(raw) = self.optional::<raw::Telemetry>(&at) else {
            return;
        };
        let listen_at = at.key("listen");
        let listen = if raw.listen.is_empty() || self.is_taken(&listen_at) {
            None
        } else {
            match raw.listen.parse::<SocketAddr>() {
                Ok(a) if a.ip().is_loopback() => Some(a),
                Ok(a) => {
                    self.fault(
                        &listen_at,
                        format!("{} can be reached from outside the box", a.ip()),
                        "write a loopback address such as 127.0.0.1:9464 and let a proxy with a password serve others; \"\" serves nothing",
                    );
                    None
                }
                Err(_) => {
                    self.fault(&listen_at, "is not an address and a port", "write 127.0.0.1:9464");
                    None
                }
            }
        };
        let filter_at = at.key("filter");
        if !self.is_taken(&filter_at)
            && let Err(e) = tracing_subscriber::EnvFilter::builder().parse(&raw.filter)
        {
            self.fault(
                &filter_at,
                format!("no log filter: {e}"),
                "write a level, or targets with levels: gridwatch=debug,info",
            );
        }
        self.draft.rest.telemetry = Some(Telemetry {
            listen,
            log: raw.log,
            filter: raw.filter,
        });
    }

    fn key_place(&mut self, at: &At, place: &raw::KeyPlace) -> Option<OriginalsKey> {
        match (&place.file, &place.credential) {
            (Some(file), None) => {
                let file = self.existing(&at.key("file"), file, "a file that holds a key")?;
                Some(OriginalsKey::File(file))
            }
            (None, Some(name)) => Some(OriginalsKey::Credential(name.clone())),
            _ => {
                self.fault(
                    at,
                    "names not one place",
                    "write { file = \"/etc/gridwatch/originals.key\" } or { credential = \"originals\" }",
                );
                None
            }
        }
    }

    fn evidence(&mut self) {
        let at = top("evidence");
        let Some(raw) = self.optional::<raw::Evidence>(&at) else {
            return;
        };
        let interval_at = at.key("min_interval");
        let secs = Duration::from_secs;
        if self.between(&interval_at, raw.min_interval, (secs(1), secs(3600))) && raw.min_interval.0 < secs(10) {
            self.warn(
                &interval_at,
                format!(
                    "{} is less than the 10s between two pictures that GA/T 832 asks for",
                    raw.min_interval
                ),
                "keep it at 10s or more, except to try things out",
            );
        }
        if !raw.mask {
            self.warn(
                &at.key("mask"),
                "faces and plates leave the box as they are",
                "set it to true, unless the city's data protection review of these cameras says otherwise (PIPL art. 26)",
            );
        }
        let mut mask_labels = Vec::new();
        for (i, dir) in raw.mask_models.iter().enumerate() {
            let at = at.key("mask_models").index(i);
            let Some(manifest) = self.manifest(&at, dir) else {
                continue;
            };
            let labels = manifest.engine_labels();
            let masked: Vec<Label> = labels.into_iter().filter(evidence::is_masked).collect();
            if masked.is_empty() {
                self.fault(
                    &at,
                    format!("{} finds nothing that is masked", manifest.id),
                    "name a model that finds face, person, car, truck, bus or motorcycle",
                );
            }
            mask_labels.extend(masked);
        }
        let key = match &raw.originals_key {
            None => Some(OriginalsKey::Own),
            Some(place) => self.key_place(&at.key("originals_key"), place),
        };
        let budget = |days: u32, mb: u32| Budget {
            keep: (days > 0).then(|| DAY * days),
            bytes: u64::from(mb) << 20,
        };
        self.draft.rest.evidence = Some(Evidence {
            jpeg_quality: raw.jpeg_quality,
            max_picture_bytes: raw.max_picture_bytes as usize,
            min_interval: raw.min_interval.0,
            mask: raw.mask,
            mask_models: raw.mask_models.iter().map(|dir| self.absolute(dir)).collect(),
            mask_labels,
            originals: if raw.originals_days == 0 { None } else { key },
            retention: Retention {
                originals: budget(raw.originals_days, raw.originals_mb),
                pictures: budget(raw.pictures_days, raw.pictures_mb),
            },
        });
    }
}

const RELATIVE: &str = "a relative path starts at the configuration file";
