//! What the pages ask the ledger. Reading and replaying take seconds: every question runs on a thread of its own, is shared by all who ask the
//! same, bounded in time span, number and memory, and ended when nobody waits for it any more.
//!
//! Nothing here knows about pages or languages; [`LedgerFault::text`] says why there is no answer.

mod shared;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gridwatch_engine::{CameraId, Plan};
use gridwatch_ledger::{
    LedgerError, Reader,
    history::{
        HistoryError, HistorySource,
        candidates::{self, CandidateFilter, CandidateList},
        looks::{self, LookPage},
    },
    replay::{
        Window,
        tune::labels::{CaseLabel, LabelSubject},
    },
    what_if::{Task, WhatIf, WhatIfError, WhatIfRequest},
};
use gridwatch_store::Store;
use gridwatch_web::Rejection;
use jiff::{SignedDuration, Timestamp};
use tokio::{sync::Semaphore, task, time::timeout};

pub(crate) use self::shared::Progress;
use self::shared::{SharedWork, WorkLimits};
use crate::{app::App, i18n::LedgerTexts};

/// Days that thresholds are tried on, at most: a month of a district's 32 cameras does not fit into the memory anyway.
pub(crate) const MAX_DAYS: u32 = 31;

/// Days that are searched for candidates at once: two weeks of 32 cameras are replayed in about ten seconds.
pub(crate) const MAX_CANDIDATE_DAYS: i64 = 14;

/// Candidates that are found at once, at most; about 1 kB each.
pub(crate) const MAX_CANDIDATES: usize = 2000;

/// Looks on a page.
pub(crate) const PAGE_OF_LOOKS: usize = 40;

/// How far back a page of looks is searched for.
pub(crate) const LOOKS_SPAN: SignedDuration = SignedDuration::from_hours(6);

/// How long a page waits before it shows progress instead.
pub(crate) const PAGE_PATIENCE: Duration = Duration::from_millis(1500);

/// How long a program waits; it then asks again.
pub(crate) const API_PATIENCE: Duration = Duration::from_secs(20);

/// Evaluations at the same time; a curve takes all cores.
const EVALUATIONS: usize = 2;

/// Longest evaluation: below the limit of a request.
const EVALUATION_TIMEOUT: Duration = Duration::from_secs(25);

/// Why the ledger gives no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LedgerFault {
    #[error("the ledger is off; set enabled = true under [ledger]")]
    Disabled,
    #[error("the ledger has no look in that time")]
    Empty,
    #[error("the recorded looks need too much memory; choose fewer days")]
    TooLarge,
    #[error("too many questions to the ledger at once; try again in a moment")]
    Busy,
    #[error("it took too long; choose fewer days, or try again later")]
    TooSlow,
    #[error("cancelled; ask again")]
    Cancelled,
    #[error("the ledger cannot be read: {0}")]
    Unreadable(String),
    #[error("{0}")]
    Invalid(String),
}

impl LedgerFault {
    /// The text for a person.
    pub(crate) fn text(&self, t: &LedgerTexts) -> String {
        match self {
            Self::Disabled => t.disabled.to_string(),
            Self::Empty => t.empty.to_string(),
            Self::TooLarge => t.too_large.to_string(),
            Self::Busy => t.busy.to_string(),
            Self::TooSlow => t.too_slow.to_string(),
            Self::Cancelled => t.cancelled.to_string(),
            Self::Unreadable(what) => t.unreadable.with("what", what).to_string(),
            Self::Invalid(what) => what.clone(),
        }
    }
}

impl From<LedgerFault> for Rejection {
    fn from(fault: LedgerFault) -> Self {
        match fault {
            LedgerFault::TooLarge | LedgerFault::Invalid(_) => Self::Unfit(fault.to_string().into()),
            LedgerFault::Disabled | LedgerFault::Empty => Self::Missing(fault.to_string().into()),
            _ => Self::Unavailable(fault.to_string().into()),
        }
    }
}

impl From<LedgerError> for LedgerFault {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Missing { .. } => Self::Empty,
            error => {
                tracing::warn!(%error, "The console cannot read the ledger");
                Self::Unreadable(error.to_string())
            }
        }
    }
}

impl From<HistoryError> for LedgerFault {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Ledger(error) => error.into(),
            HistoryError::Cancelled => Self::Cancelled,
        }
    }
}

impl From<WhatIfError> for LedgerFault {
    fn from(error: WhatIfError) -> Self {
        match error {
            WhatIfError::Ledger(error) => error.into(),
            WhatIfError::Cancelled => Self::Cancelled,
            WhatIfError::TooLarge { .. } => Self::TooLarge,
            WhatIfError::Empty => Self::Empty,
            error @ (WhatIfError::UnknownRule { .. } | WhatIfError::NotLoaded { .. } | WhatIfError::Threshold(_)) => {
                Self::Invalid(error.to_string())
            }
        }
    }
}

/// The recorded inputs of some days.
pub(crate) struct LoadedDays {
    pub(crate) what_if: WhatIf,
    /// The time that is reported.
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// One load for each span and rule set.
struct DaysKey {
    plan: Arc<Plan>,
    days: u32,
}

impl PartialEq for DaysKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan) && self.days == other.days
    }
}

/// Which candidates are asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CandidateQuestion {
    pub(crate) from: Timestamp,
    /// `None`: until now.
    pub(crate) to: Option<Timestamp>,
    /// A camera with all its presets, or a preset.
    pub(crate) camera: Option<String>,
    pub(crate) with_filed: bool,
    pub(crate) with_unstarted: bool,
}

/// Which looks are asked for: the newest before a time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LooksQuestion {
    pub(crate) view: CameraId,
    pub(crate) before: Option<Timestamp>,
}

/// A page of looks, with the time in which they were searched.
pub(crate) struct FoundLooks {
    pub(crate) page: LookPage,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// The questions that are being answered, and the answers.
pub(crate) struct LedgerQueries {
    days: Arc<SharedWork<DaysKey, LoadedDays>>,
    candidates: Arc<SharedWork<CandidateQuestion, CandidateList>>,
    looks: Arc<SharedWork<LooksQuestion, FoundLooks>>,
    evaluations: Arc<Semaphore>,
}

impl LedgerQueries {
    pub(crate) fn new() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            days: SharedWork::new(WorkLimits {
                running: 1,
                // Each may take WhatIf::MAX_BYTES of memory.
                entries: 1,
                keep: minutes(10),
                max_age: minutes(60),
            }),
            // What is asked for is mostly today, where there is more after each look.
            candidates: SharedWork::new(WorkLimits {
                running: 1,
                entries: 4,
                keep: minutes(5),
                max_age: minutes(2),
            }),
            looks: SharedWork::new(WorkLimits {
                running: 1,
                entries: 8,
                keep: minutes(5),
                max_age: minutes(1),
            }),
            evaluations: Arc::new(Semaphore::new(EVALUATIONS)),
        }
    }
}

fn folder(app: &App) -> Result<PathBuf, LedgerFault> {
    let settings = app.config().ledger.clone().ok_or(LedgerFault::Disabled)?;
    Ok(settings.dir)
}

/// The last `days` days, 1..=[`MAX_DAYS`], back from the newest look, under the configuration in force.
///
/// # Errors
/// [`LedgerFault`].
pub(crate) async fn days(app: &App, days: u32, patience: Duration) -> Result<Progress<LoadedDays>, LedgerFault> {
    let dir = folder(app)?;
    let plan = Arc::clone(&app.config().plan);
    let key = DaysKey {
        plan: Arc::clone(&plan),
        days,
    };
    let load = move |task: Task<'_>| {
        let to = Reader::newest_time(&dir)?.ok_or(LedgerFault::Empty)?;
        let back = SignedDuration::from_hours(24 * i64::from(days));
        let from = to.checked_sub(back).unwrap_or(Timestamp::MIN);
        let request = WhatIfRequest {
            ledger: &dir,
            plan: &plan,
            window: Window {
                from: Some(from),
                to: None,
            },
            max_bytes: WhatIf::MAX_BYTES,
        };
        let what_if = WhatIf::load(&request, task)?;
        Ok(LoadedDays { what_if, from, to })
    };
    app.ledger.days.get(key, patience, load).await
}

/// The candidates that match, at most the newest [`MAX_CANDIDATES`].
///
/// # Errors
/// [`LedgerFault`].
pub(crate) async fn candidates(
    app: &App,
    question: CandidateQuestion,
    patience: Duration,
) -> Result<Progress<CandidateList>, LedgerFault> {
    let dir = folder(app)?;
    let asked = question.clone();
    let find = move |task: Task<'_>| {
        let source = HistorySource {
            ledger: &dir,
            window: Window {
                from: Some(asked.from),
                to: asked.to,
            },
            plan: None,
        };
        let filter = CandidateFilter {
            camera: asked.camera,
            with_filed: asked.with_filed,
            with_unstarted: asked.with_unstarted,
            ..CandidateFilter::default()
        };
        Ok(candidates::find(&source, &filter, MAX_CANDIDATES, task)?)
    };
    app.ledger.candidates.get(question, patience, find).await
}

/// A page of a view's looks.
///
/// # Errors
/// [`LedgerFault`].
pub(crate) async fn looks(
    app: &App,
    question: LooksQuestion,
    patience: Duration,
) -> Result<Progress<FoundLooks>, LedgerFault> {
    let dir = folder(app)?;
    let asked = question.clone();
    let find = move |task: Task<'_>| {
        let to = match asked.before {
            Some(before) => before,
            None => Reader::newest_time(&dir)?.ok_or(LedgerFault::Empty)?,
        };
        let from = to.checked_sub(LOOKS_SPAN).unwrap_or(Timestamp::MIN);
        let source = HistorySource {
            ledger: &dir,
            window: Window {
                from: Some(from),
                to: asked.before,
            },
            plan: None,
        };
        let page = looks::page(&source, &asked.view, PAGE_OF_LOOKS, task)?;
        Ok(FoundLooks { page, from, to })
    };
    app.ledger.looks.get(question, patience, find).await
}

/// Ends a computation when its request does.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks loaded days something, which is cancelled when the request ends.
///
/// # Errors
/// [`LedgerFault`].
pub(crate) async fn evaluate<T: Send + 'static>(
    app: &App,
    loaded: Arc<LoadedDays>,
    work: impl FnOnce(&LoadedDays, Task<'_>) -> Result<T, WhatIfError> + Send + 'static,
) -> Result<T, LedgerFault> {
    let evaluation = async {
        let place = Arc::clone(&app.ledger.evaluations).acquire_owned().await;
        let place = place.map_err(|_| LedgerFault::Cancelled)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let _guard = CancelOnDrop(Arc::clone(&cancelled));
        let state_dir = app.state_dir.clone();
        let done = task::spawn_blocking(move || {
            let task = Task {
                cancelled: &cancelled,
                progress: &|_| (),
            };
            // Without reviews, the platform's decisions are the labels.
            let labels = Store::open_read_only(&state_dir).and_then(|store| store.review_labels());
            if let Ok(labels) = labels {
                let label = |(id, right)| CaseLabel {
                    subject: LabelSubject::Case(id),
                    right,
                };
                loaded.what_if.set_labels(labels.right.into_iter().map(label).collect());
            }
            let result = work(&loaded, task);
            drop(place);
            result
        });
        let done = done.await.map_err(|error| LedgerFault::Unreadable(error.to_string()))?;
        Ok(done?)
    };
    timeout(EVALUATION_TIMEOUT, evaluation)
        .await
        .map_err(|_| LedgerFault::TooSlow)?
}
