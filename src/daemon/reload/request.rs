//! A request to put the configuration files' content into force, and its answer.

use std::{path::PathBuf, sync::PoisonError};

use jiff::Timestamp;
use metrics::{counter, gauge};
use serde::{Deserialize, Serialize};

use super::Reloader;
use gridwatch_base::{metric, text::counted};
use gridwatch_config::{
    self as config, Config, Fault,
    diff::{self, Applies, Change},
};
use gridwatch_console::daemon::{Change as ConsoleChange, RemovedView};

/// What is asked of a [`Reloader`].
#[derive(Debug, Clone)]
pub struct ReloadRequest {
    /// The file to check in place of the one that the daemon runs with; only for a dry run.
    pub file: Option<PathBuf>,
    /// Check and prepare everything, and change nothing.
    pub dry_run: bool,
    /// What brought it about.
    pub occasion: ReloadOccasion,
}

/// What brought a reload about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOccasion {
    /// A file of the configuration changed.
    FileChange,
    /// SIGHUP.
    Signal,
    /// `gridwatch reload`.
    Command,
    /// A change that was made in the console.
    Console,
}

impl ReloadOccasion {
    /// The occasion as the audit log names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FileChange => "reload: file changed",
            Self::Signal => "reload: SIGHUP",
            Self::Command => "reload",
            Self::Console => "reload: console",
        }
    }
}

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadOutcome {
    /// The configuration in force is that of the files.
    Unchanged,
    /// It is in force, but for what needs a restart.
    Applied,
    /// A dry run: it would be.
    WouldApply,
    /// The one before stays in force: the files have faults, or something that they name cannot be used.
    Rejected,
}

impl ReloadOutcome {
    /// The outcome as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Applied => "applied",
            Self::WouldApply => "would_apply",
            Self::Rejected => "rejected",
        }
    }
}

/// What a reload changed, would change, or why it did not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// How it ended.
    pub outcome: ReloadOutcome,
    /// The file that was read.
    pub file: PathBuf,
    /// What differs from the configuration in force; for what needs a restart, from the one that the daemon started with.
    pub changes: Vec<Change>,
    /// The faults of the files.
    pub faults: Vec<Fault>,
    /// What the files name and cannot be used, in one sentence.
    pub error: Option<String>,
    /// What works but is probably not intended.
    pub warnings: Vec<Fault>,
    /// What was going on at views that are no longer configured.
    pub removed: Vec<RemovedView>,
    /// SHA-256 of the files, as cases name it; absent if they have faults.
    pub config_sha256: Option<String>,
}

impl ReloadReport {
    fn new(file: PathBuf, outcome: ReloadOutcome) -> Self {
        Self {
            outcome,
            file,
            changes: Vec::new(),
            faults: Vec::new(),
            error: None,
            warnings: Vec::new(),
            removed: Vec::new(),
            config_sha256: None,
        }
    }

    /// The changes that wait for a restart.
    pub fn pending(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|c| c.applies == Applies::Restart)
    }
}

impl Reloader {
    /// Reads and checks the configuration with everything that it names and, unless it is a dry run, puts it into force. The outcome is
    /// logged, counted, and kept for `/readyz`. It blocks.
    pub fn reload(&self, request: &ReloadRequest) -> ReloadReport {
        let _reloading = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let in_force = self.config();
        let file = request.file.clone().unwrap_or_else(|| in_force.file.clone());
        let report = match config::load(&file) {
            Ok(new) => self.put_into_force(&in_force, new, request),
            Err(faults) => ReloadReport {
                faults: faults.0,
                ..ReloadReport::new(file, ReloadOutcome::Rejected)
            },
        };
        if !request.dry_run {
            self.note(&report, request.occasion);
        }
        report
    }

    fn put_into_force(&self, in_force: &Config, mut new: Config, request: &ReloadRequest) -> ReloadReport {
        let mut changes = diff::changes(in_force, &new);
        changes.retain(|c| c.applies == Applies::Live);
        let since_start = diff::changes(&self.started_with, &new);
        changes.extend(since_start.into_iter().filter(|c| c.applies == Applies::Restart));
        let mut report = ReloadReport {
            changes,
            warnings: new.warnings.clone(),
            config_sha256: Some(new.config_sha256.clone()),
            ..ReloadReport::new(new.file.clone(), ReloadOutcome::Unchanged)
        };
        let is_same = new.config_sha256 == in_force.config_sha256;
        if is_same && report.changes.iter().all(|c| c.applies == Applies::Restart) {
            return report;
        }
        keep_until_restart(&self.started_with, &mut new);
        let result = match request.dry_run {
            true => self.rehearse(new).map(|()| (ReloadOutcome::WouldApply, Vec::new())),
            false => self
                .apply(new, request.occasion.as_str())
                .map(|removed| (ReloadOutcome::Applied, removed)),
        };
        match result {
            Ok((outcome, removed)) => (report.outcome, report.removed) = (outcome, removed),
            Err(error) => (report.outcome, report.error) = (ReloadOutcome::Rejected, Some(error.to_string())),
        }
        report
    }

    /// Logs and counts the outcome, and keeps for `/readyz` why the files are not what is in force.
    fn note(&self, report: &ReloadReport, occasion: ReloadOccasion) {
        let file = report.file.display();
        let asked = occasion != ReloadOccasion::FileChange;
        let occasion = occasion.as_str();
        counter!(metric::CONFIG_RELOADS, "outcome" => report.outcome.as_str()).increment(1);
        let is_rejected = report.outcome == ReloadOutcome::Rejected;
        gauge!(metric::CONFIG_REJECTED).set(if is_rejected { 1.0 } else { 0.0 });
        for warning in &report.warnings {
            if report.outcome == ReloadOutcome::Applied {
                tracing::warn!(%warning, remedy = warning.remedy.as_str(), "Configuration warning");
            }
        }
        match report.outcome {
            ReloadOutcome::Rejected => {
                for fault in &report.faults {
                    tracing::error!(%fault, remedy = fault.remedy.as_str(), "Configuration fault");
                }
                let error = report.error.as_deref().unwrap_or_default();
                tracing::error!(%file, occasion, faults = report.faults.len(), error, "Changed configuration rejected; the one before stays in force");
            }
            ReloadOutcome::Applied => {
                for change in &report.changes {
                    tracing::info!(%change, "Configuration changed");
                }
                for removed in &report.removed {
                    let cases: Vec<&str> = removed.open_cases.iter().map(|c| c.as_str()).collect();
                    tracing::warn!(view = %removed.view, candidates = removed.candidates, open_cases = cases.join(", "), "View is no longer configured: its candidates were given up, and its open cases stay open but are not looked at again");
                }
                tracing::info!(%file, occasion, changes = report.changes.len(), "Configuration reloaded");
            }
            // Somebody who asked wants to know.
            ReloadOutcome::Unchanged if asked => tracing::info!(%file, occasion, "Configuration unchanged"),
            ReloadOutcome::Unchanged | ReloadOutcome::WouldApply => {}
        }
        self.shared.health.set_configuration(self.reason_not_in_force(report));
        if report.outcome == ReloadOutcome::Applied {
            self.record_version();
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if report.outcome == ReloadOutcome::Applied {
            last.0 = Timestamp::now();
        }
        last.1 = Some(report.clone());
        drop(last);
        self.shared.board.tell(ConsoleChange::Status);
    }

    fn reason_not_in_force(&self, report: &ReloadReport) -> Option<String> {
        let file = report.file.display();
        if report.outcome == ReloadOutcome::Rejected {
            let now = Timestamp::now().to_zoned(self.config().timezone.clone());
            let at = now.strftime("%F %T%:z");
            let reason = match (report.faults.first(), &report.error) {
                (Some(first), _) => {
                    let count = counted(report.faults.len(), "fault", "faults");
                    format!("{count}, the first: {first}")
                }
                (None, error) => error.clone().unwrap_or_default(),
            };
            return Some(format!(
                "configuration: {file}, as read at {at}, is not in force; the one before is: {reason}"
            ));
        }
        let pending: Vec<&str> = report.pending().map(|c| c.path.as_str()).collect();
        (!pending.is_empty()).then(|| {
            let paths = pending.join(", ");
            format!("configuration: {file}: changed, and in force after a restart: {paths}")
        })
    }
}

/// Leaves what needs a restart as it was when the daemon started.
fn keep_until_restart(started_with: &Config, new: &mut Config) {
    let keep = started_with;
    new.state_dir.clone_from(&keep.state_dir);
    new.onnxruntime.clone_from(&keep.onnxruntime);
    new.workers = keep.workers;
    new.telemetry.listen = keep.telemetry.listen;
    // Whether originals are kept is live, where their key is is not.
    new.evidence.originals = new.evidence.originals.take().map(|_| keep.originals_key().clone());
    new.evidence.signing_key = keep.evidence.signing_key.clone();
}
