//! The state of the box at a glance.

use std::sync::Arc;

use gridwatch_base::clock;
use gridwatch_config::Config;
use gridwatch_store::Budget;
use gridwatch_support::{
    crashes::{self, CrashRecord},
    disk::DiskUsage,
    keys::{self, KeyStatus},
};
use gridwatch_web::{Actor, Rejection};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    access::CameraAccess as _,
    app::App,
    daemon::{LinkStatus, Readiness},
    error::OrReject as _,
};

/// Crashes that are shown, the newest.
const MAX_CRASHES: usize = 50;

/// The state of the box.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Overview {
    /// Whether problems would be filed now.
    pub(crate) readiness: Readiness,
    /// Version of the program.
    pub(crate) version: &'static str,
    /// Version of ONNX Runtime, if it is loaded.
    pub(crate) onnxruntime: Option<String>,
    /// SHA-256 of the configuration in force.
    pub(crate) configuration_sha256: String,
    /// Since when it is in force, RFC 3339.
    #[schemars(with = "String")]
    pub(crate) configuration_since: Timestamp,
    /// When the daemon was started, RFC 3339.
    #[schemars(with = "Option<String>")]
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) clock: ClockState,
    pub(crate) link: LinkAnswer,
    pub(crate) disk: DiskUsage,
    pub(crate) retention: RetentionAnswer,
    pub(crate) keys: KeyStatus,
    /// Pictures that ended decoders, the newest first.
    pub(crate) crashes: Vec<CrashAnswer>,
}

/// How well the clock is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum ClockState {
    /// By a time source.
    Synchronised {
        /// Offset that is not corrected yet; positive: the clock is ahead.
        offset_ms: i64,
        /// Maximum error.
        error_ms: u64,
    },
    /// By none.
    Unsynchronised,
    /// The system does not tell.
    Unknown,
}

impl ClockState {
    fn read() -> Self {
        match clock::read() {
            Ok(Some(sync)) => Self::Synchronised {
                offset_ms: sync.offset_ms,
                error_ms: sync.error_ms,
            },
            Ok(None) => Self::Unsynchronised,
            Err(_) => Self::Unknown,
        }
    }
}

/// The link to the broker and the outbox.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LinkAnswer {
    /// True while connected and subscribed.
    pub(crate) connected: bool,
    /// When the last usable connection ended, RFC 3339.
    #[schemars(with = "Option<String>")]
    pub(crate) down_since: Option<Timestamp>,
    /// Why the last connection ended.
    pub(crate) error: Option<String>,
    /// Messages that wait in the outbox.
    pub(crate) waiting: u32,
    /// Messages in quarantine.
    pub(crate) quarantined: u32,
}

impl From<LinkStatus> for LinkAnswer {
    fn from(link: LinkStatus) -> Self {
        Self {
            connected: link.connected,
            down_since: link.down_since,
            error: link.error,
            waiting: link.waiting,
            quarantined: link.quarantined,
        }
    }
}

/// How long files are kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RetentionAnswer {
    pub(crate) pictures: BudgetAnswer,
    /// Absent: originals are not kept.
    pub(crate) originals: Option<BudgetAnswer>,
}

/// Limits of one kind of file.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BudgetAnswer {
    /// Longest time in days; absent: no limit.
    pub(crate) days: Option<u64>,
    /// Largest size of all in bytes.
    pub(crate) bytes: u64,
}

impl RetentionAnswer {
    fn of(config: &Config) -> Self {
        let budget = |budget: Budget| BudgetAnswer {
            days: budget.keep.map(|keep| keep.as_secs() / 86_400),
            bytes: budget.bytes,
        };
        let evidence = &config.evidence;
        Self {
            pictures: budget(evidence.retention.pictures),
            originals: evidence
                .originals
                .as_ref()
                .map(|_| budget(evidence.retention.originals)),
        }
    }
}

/// A picture that ended a decoder.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CrashAnswer {
    /// RFC 3339.
    #[schemars(with = "String")]
    pub(crate) at: Timestamp,
    pub(crate) camera: String,
    /// `H.264` or `H.265`.
    pub(crate) codec: String,
    /// Size of the picture, compressed.
    pub(crate) bytes: usize,
    /// SHA-256 of the picture.
    pub(crate) sha256: String,
    /// How the decoder ended.
    pub(crate) cause: String,
}

impl From<CrashRecord> for CrashAnswer {
    fn from(record: CrashRecord) -> Self {
        Self {
            at: record.at,
            camera: record.camera,
            codec: record.codec,
            bytes: record.bytes,
            sha256: record.sha256,
            cause: record.cause,
        }
    }
}

/// The state of the box, with the crashes of the cameras that the user may see.
pub(crate) async fn read(app: &Arc<App>, actor: &Actor) -> Result<Overview, Rejection> {
    let config = app.config();
    let seen = actor.cameras(&config);
    let of = Arc::clone(&config);
    let (keys, crashes) = super::scan(app, move || {
        let keys = keys::status(&of).or_reject()?;
        Ok((keys, crashes::records(&of.state_dir)))
    })
    .await?;
    let is_seen = |record: &CrashRecord| {
        // The id of a preset's view begins with that of its camera.
        let camera = record.camera.split('.').next().unwrap_or_default();
        seen.as_ref().is_none_or(|seen| seen.iter().any(|seen| seen == camera))
    };
    let (readiness, configuration) = actor.standing(&*app.daemon);
    Ok(Overview {
        readiness,
        version: env!("CARGO_PKG_VERSION"),
        onnxruntime: app.daemon.onnxruntime(),
        configuration_sha256: configuration.sha256,
        configuration_since: configuration.since,
        started_at: app.daemon.started_at(),
        clock: ClockState::read(),
        link: app.daemon.link().into(),
        disk: super::disk_usage(app).await?,
        retention: RetentionAnswer::of(&config),
        keys,
        crashes: crashes
            .into_iter()
            .rev()
            .filter(is_seen)
            .take(MAX_CRASHES)
            .map(CrashAnswer::from)
            .collect(),
    })
}
