//! The audit log: records acts of persons in the chain of custody, and forwards them to the system log if the configuration says so.
//!
//! An act is recorded after it was done or failed, by the process that did it. Only originals are recorded before they are opened, because
//! nothing else that a command gives away is encrypted on the box. An act that cannot be recorded is done all the same, with a warning:
//! a box whose database is damaged must be repairable.

mod syslog;

use std::{io, path::Path};

use jiff::Timestamp;

use gridwatch_base::person::Person;
use gridwatch_custody::chain::{ActResult, Details};
use gridwatch_store::{AppendedLine, NewAct, Store, StoreError};

/// An act of a person, as it becomes known while a command runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Act {
    /// The command, such as `keys rotate`.
    name: &'static str,
    case: Option<String>,
    /// What exactly is done: names and values.
    what: Vec<(&'static str, String)>,
    reason: Option<String>,
    refusal: Option<String>,
}

impl Act {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// Adds what is done.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.add(name, value);
        self
    }

    /// Adds a file or folder, from the root: what a path is relative to is not known later.
    #[must_use]
    pub(crate) fn with_path(mut self, name: &'static str, path: &Path) -> Self {
        self.add_path(name, path);
        self
    }

    /// Adds a file or folder, from the root.
    pub(crate) fn add_path(&mut self, name: &'static str, path: &Path) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.add(name, absolute.display());
    }

    /// Adds what is done, if it is known.
    #[cfg(feature = "ort")]
    #[must_use]
    pub(crate) fn with_some(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds what is done.
    pub(crate) fn add(&mut self, name: &'static str, value: impl ToString) {
        self.what.push((name, value.to_string()));
    }

    /// The case that the act is about.
    pub(crate) fn set_case(&mut self, case: &str) {
        self.case = Some(case.to_owned());
    }

    /// The act was refused, although the command ended without an error.
    #[cfg(feature = "ort")]
    pub(crate) fn set_refused(&mut self, why: impl Into<String>) {
        self.refusal = Some(why.into());
    }

    /// Records the act of this process's user; `failure` says why it was not done, and whether it was refused. Returns why it could not be
    /// forwarded, if it could not.
    ///
    /// # Errors
    /// The act could not be recorded.
    pub(crate) fn record(
        self,
        store: &mut Store,
        failure: Option<(ActResult, String)>,
    ) -> Result<Option<ForwardError>, StoreError> {
        let mut details = Details::new(Person::current())?;
        details.what = self
            .what
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        details.reason = self.reason;
        let failure = failure.or_else(|| self.refusal.map(|why| (ActResult::Refused, why)));
        let result = failure.as_ref().map_or(ActResult::Done, |(result, _)| *result);
        details.error = failure.map(|(_, error)| error);
        let act = NewAct {
            act: self.name,
            case: self.case.as_deref(),
            result,
            details: &details,
        };
        let line = store.record_act(&act, Timestamp::now())?;
        Ok(forward(store, &act, &line))
    }
}

/// An act is in the chain, but not in the system log.
#[derive(Debug, thiserror::Error)]
#[error("cannot send an act to the system log ({source}); it is line {line} of the chain")]
pub(crate) struct ForwardError {
    line: u64,
    source: io::Error,
}

/// Records that this process's user is about to open the originals of `case`, and why. Returns why that could not be forwarded, if it could
/// not.
///
/// # Errors
/// It could not be recorded; the originals must not be opened then.
pub(crate) fn record_opening(
    store: &mut Store,
    case: &str,
    originals: &[String],
    reason: &str,
) -> Result<Option<ForwardError>, StoreError> {
    let mut details = Details::new(Person::current())?;
    details.reason = Some(reason.to_owned());
    let line = store.record_originals_opened(case, originals, &details, Timestamp::now())?;
    let act = NewAct {
        act: "originals opened",
        case: Some(case),
        result: ActResult::Done,
        details: &details,
    };
    Ok(forward(store, &act, &line))
}

/// Records an act of a user of the console in the chain of the box with this state directory. Returns why it could not be forwarded, if it
/// could not.
///
/// # Errors
/// It could not be recorded.
#[cfg(all(feature = "gst", feature = "ort"))]
pub(crate) fn record_console(
    state_dir: &Path,
    act: gridwatch_web::audit::Act,
) -> Result<Option<ForwardError>, StoreError> {
    use gridwatch_web::audit::{Means, Outcome};

    let mut store = Store::open_unlocked(state_dir)?;
    // The process is the daemon; who sits at the browser is known by the console alone.
    let mut details = Details::new(Person::current())?;
    let means = match &act.by.means {
        Means::Local => "on the box, without login".to_owned(),
        Means::Session(id) => format!("session {id}"),
        Means::Token(name) => format!("token {name}"),
        Means::Proxy => "reverse proxy".to_owned(),
    };
    let by = [
        ("console_user", act.by.user.clone()),
        ("console_role", act.by.role.map(|role| role.as_str().to_owned())),
        ("console_means", Some(means)),
        ("console_address", Some(act.by.address.to_string())),
    ];
    let by = by
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let what = act.details.into_iter().map(|(name, value)| (name.to_owned(), value));
    details.what = what.chain(by).collect();
    let (result, error) = match act.outcome {
        Outcome::Done => (ActResult::Done, None),
        Outcome::Refused(why) => (ActResult::Refused, Some(why)),
        Outcome::Failed(why) => (ActResult::Failed, Some(why)),
    };
    details.error = error;
    let new = NewAct {
        act: act.name,
        case: act.subject.as_deref(),
        result,
        details: &details,
    };
    let line = store.record_act(&new, Timestamp::now())?;
    Ok(forward(&store, &new, &line))
}

/// The configuration that the daemon uses from now on.
#[cfg(all(feature = "gst", feature = "ort"))]
pub(crate) struct NewConfiguration<'a> {
    pub(crate) sha256: &'a str,
    pub(crate) file: &'a Path,
    /// Whether acts go to the system log.
    pub(crate) to_syslog: bool,
    /// When it takes effect: `start` or `reload`.
    pub(crate) occasion: &'static str,
}

/// Records that the daemon uses another configuration than before; nothing if it is the same.
///
/// # Errors
/// It could not be recorded.
#[cfg(all(feature = "gst", feature = "ort"))]
pub(crate) fn record_configuration(store: &mut Store, new: &NewConfiguration<'_>) -> Result<(), StoreError> {
    let before = store.configuration()?;
    if before.as_deref() != Some(new.sha256) {
        // What turns the system log off is still sent there.
        if new.to_syslog {
            store.set_audits_to_syslog(true)?;
        }
        // First the line: if the daemon is killed in between, the next start repeats it.
        let forwarded = Act::new("configuration")
            .with("occasion", new.occasion)
            .with_path("file", new.file)
            .with("after", new.sha256)
            .with_some("before", before)
            .with("version", env!("CARGO_PKG_VERSION"))
            .record(store, None)?;
        if let Some(error) = forwarded {
            tracing::warn!(%error, "Audit log not forwarded");
        }
        store.set_configuration(new.sha256)?;
    }
    store.set_audits_to_syslog(new.to_syslog)
}

/// Sends the act to the system log, if the daemon's configuration says so.
fn forward(store: &Store, act: &NewAct<'_>, line: &AppendedLine) -> Option<ForwardError> {
    if !store.audits_to_syslog().unwrap_or(false) {
        return None;
    }
    let error = syslog::send(act, line).err();
    error.map(|source| ForwardError { line: line.seq, source })
}

#[cfg(all(test, feature = "gst", feature = "ort"))]
mod tests {
    use gridwatch_custody::chain::CustodyEvent;

    use super::*;

    #[test]
    fn another_configuration_is_recorded_once_with_the_hash_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        for (sha256, occasion) in [("a1", "start"), ("a1", "start"), ("b2", "reload"), ("b2", "start")] {
            let mut store = Store::open(dir.path()).unwrap();
            let new = NewConfiguration {
                sha256,
                file: Path::new("edge.toml"),
                to_syslog: false,
                occasion,
            };
            record_configuration(&mut store, &new).unwrap();
        }
        let mut recorded = Vec::new();
        let store = Store::open_read_only(dir.path()).unwrap();
        let read = store.read_chain(|line| {
            if let (Some(CustodyEvent::Act { act, .. }), Some(details)) = (line.event, line.details) {
                let fact = |name: &str| details.what.get(name).cloned().unwrap_or_default();
                recorded.push((act, fact("occasion"), fact("before"), fact("after")));
            }
            Ok::<_, StoreError>(())
        });
        read.unwrap();
        let act = |occasion: &str, before: &str, after: &str| {
            (
                "configuration".to_owned(),
                occasion.to_owned(),
                before.to_owned(),
                after.to_owned(),
            )
        };
        assert_eq!(recorded, [act("start", "", "a1"), act("reload", "a1", "b2")]);
    }

    #[test]
    fn acts_go_to_the_system_log_only_if_the_configuration_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        assert!(!store.audits_to_syslog().unwrap());
        store.set_audits_to_syslog(true).unwrap();
        // A command that is given the state directory alone knows it, too.
        assert!(Store::open_unlocked(dir.path()).unwrap().audits_to_syslog().unwrap());
        store.set_audits_to_syslog(false).unwrap();
        assert!(!store.audits_to_syslog().unwrap());
        let forwarded = Act::new("keys rotate").record(&mut store, None).unwrap();
        assert!(forwarded.is_none());
    }
}
