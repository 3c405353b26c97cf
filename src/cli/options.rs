//! Options and value parsers that several commands share.

use std::path::{Path, PathBuf};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::Failure;
use gridwatch_base::{error::Class, language::Language};
use gridwatch_config as config;
use gridwatch_config::{Config, Draft, Faults};
use gridwatch_contract::{Form, Topics};
use gridwatch_custody::keys::{KeyRing, OriginalsKey};
use gridwatch_store::{Filter, Store, StoreError};

/// Locates the state directory: `--state` or `--config`.
#[derive(Debug, clap::Args)]
pub(super) struct StateArgs {
    /// State directory (`node.state_dir` in the configuration), which holds gridwatch.db, evidence/ and keys/.
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        env = "GRIDWATCH_STATE",
        default_value = "/var/lib/gridwatch"
    )]
    state: PathBuf,
    /// Take the state directory, the place of its keys and the time zone from this configuration file instead of --state.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl StateArgs {
    /// The state directory. Other faults in the configuration are ignored; `gridwatch check` reports them.
    ///
    /// # Errors
    /// The configuration's faults, if it names no state directory.
    pub(super) fn dir(&self) -> Result<PathBuf, Faults> {
        Ok(self.locate()?.dir)
    }

    /// The state directory with the city's time zone.
    ///
    /// # Errors
    /// As [`StateArgs::dir`].
    pub(super) fn locate(&self) -> Result<BoxState, Faults> {
        let Some(path) = &self.config else {
            return Ok(BoxState {
                keys: KeyRing::of(&self.state),
                originals_key: OriginalsKey::Own,
                dir: self.state.clone(),
                timezone: None,
                form: None,
            });
        };
        let draft = config::examine(path);
        match &draft.state_dir {
            Some(dir) => Ok(BoxState {
                keys: KeyRing::with_signing(dir, draft.signing_key()),
                originals_key: draft.originals_key().cloned().unwrap_or_default(),
                dir: dir.clone(),
                timezone: draft.timezone.clone(),
                form: form(&draft),
            }),
            None => Err(Faults(draft.faults)),
        }
    }
}

/// The state directory of a box, and what is known about its city.
pub(super) struct BoxState {
    pub(super) dir: PathBuf,
    /// Its keys. Without a configuration, those in the state directory.
    pub(super) keys: KeyRing,
    /// Where the key is that encrypts originals.
    pub(super) originals_key: OriginalsKey,
    /// The configured time zone; `None` if no configuration was given, or it states none.
    timezone: Option<TimeZone>,
    /// How messages are published; `None` if no configuration was given, or it has faults there.
    form: Option<Form>,
}

impl BoxState {
    /// How messages are published.
    ///
    /// # Errors
    /// No configuration was given, or it does not say.
    pub(super) fn form(&self) -> Result<Form, Failure> {
        self.form.clone().ok_or_else(|| {
            Failure::new(
                Class::Config,
                "the topics are not known; use --config FILE, with a valid [node] and [broker]",
            )
        })
    }

    /// The zone in which to print the times in `store`: the configured one, else the UTC offset of the newest case.
    pub(super) fn zone(&self, store: &Store) -> Result<TimeZone, StoreError> {
        if let Some(zone) = &self.timezone {
            return Ok(zone.clone());
        }
        let newest = store.cases(Filter { state: None, limit: 1 })?;
        Ok(newest
            .first()
            .map_or(TimeZone::UTC, |case| TimeZone::fixed(case.confirmed_at.offset())))
    }
}

/// How the box of a configuration publishes messages; `None` if its id or broker is missing or faulty.
fn form(draft: &Draft) -> Option<Form> {
    let (node, broker) = (draft.node.as_ref()?, draft.broker.as_ref()?);
    Some(Form {
        topics: Topics::new(&broker.topic_prefix, node),
        template: broker.template.clone(),
        shares_sites: None,
    })
}

/// The configuration of a command whose subcommands do not all need one.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// Configuration that the daemon runs with.
    #[arg(
        long,
        short,
        value_name = "FILE",
        global = true,
        required = false,
        env = "GRIDWATCH_CONFIG"
    )]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    /// Reads the configuration without connecting to anything or reading credentials.
    ///
    /// # Errors
    /// No `--config`, or the configuration's faults.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        let file = self
            .config
            .as_deref()
            .ok_or_else(|| Failure::new(Class::Config, "no configuration given; use --config FILE"))?;
        Ok(config::load_offline(file)?)
    }
}

/// Options of the commands that run a model without a configuration.
#[cfg(feature = "ort")]
#[derive(Debug, clap::Args)]
pub(super) struct RuntimeArgs {
    /// ONNX Runtime shared library. [default: the one that edge-deploy/setup.sh installs]
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,
}

#[cfg(feature = "ort")]
impl RuntimeArgs {
    /// Loads ONNX Runtime.
    pub(super) fn load(&self) -> Result<gridwatch_model::Runtime, gridwatch_model::ModelError> {
        Ok(gridwatch_model::runtime::init(self.onnxruntime.as_deref())?)
    }
}

/// A day, which begins when it does in the city, or a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Point {
    Day(Date),
    Time(Timestamp),
}

/// Parses a day or a time.
pub(super) fn point(text: &str) -> Result<Point, String> {
    // A time is a date, too, to the parser of dates.
    if let Ok(time) = text.parse() {
        return Ok(Point::Time(time));
    }
    match text.contains('T') {
        true => Err("expected a time with its offset from UTC, such as 2026-05-01T08:30:00+08:00".into()),
        false => text
            .parse()
            .map(Point::Day)
            .map_err(|_| "expected a day such as 2026-05-01, or a time such as 2026-05-01T08:30:00+08:00".into()),
    }
}

impl Point {
    /// The time; of a day, its beginning in `zone`.
    pub(super) fn timestamp(self, zone: &TimeZone) -> Result<Timestamp, Failure> {
        match self {
            Self::Time(time) => Ok(time),
            Self::Day(day) => day
                .to_zoned(zone.clone())
                .map(|begin| begin.timestamp())
                .map_err(|e| Failure::new(Class::Config, format!("{day}: {e}"))),
        }
    }
}

/// Parses a score or share from 0 to 1.
pub(super) fn fraction<T>(text: &str) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + From<u8>,
{
    match text.parse::<T>() {
        Ok(value) if (T::from(0)..=T::from(1)).contains(&value) => Ok(value),
        _ => Err("not a number from 0 to 1".into()),
    }
}

/// Parses a language, `zh` or `en`.
pub fn language(text: &str) -> Result<Language, String> {
    match text {
        "zh" => Ok(Language::Zh),
        "en" => Ok(Language::En),
        _ => Err("expected zh or en".into()),
    }
}

/// A path in the working directory that does not exist: `name`, or `name-2` ….
///
/// # Errors
/// If a thousand of them exist.
pub fn free_path(name: &str) -> Result<PathBuf, Failure> {
    let here = std::env::current_dir()
        .map_err(|e| Failure::new(Class::Config, format!("cannot use the working directory: {e}")))?;
    let names = std::iter::once(name.to_owned()).chain((2..=1000).map(|n| format!("{name}-{n}")));
    let mut free = names.map(|name| here.join(name)).filter(|path| !path.exists());
    free.next().ok_or_else(|| {
        Failure::new(
            Class::Config,
            format!("1000 folders {name} exist in {}; delete some", here.display()),
        )
    })
}

/// Fails if `path` exists: what a command writes there must be new.
pub(super) fn must_be_new(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        let message = format!("--out: {} already exists; name a new folder", path.display());
        return Err(Failure::new(Class::Config, message));
    }
    Ok(())
}
