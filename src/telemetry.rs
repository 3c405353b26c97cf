//! Logs, metrics and health. The crates log with `tracing` and count with `metrics`; this module sets up where both go.
//!
//! Dashboards and alerts depend on the metric names, which are listed in [`gridwatch_base::metric`].

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use gridwatch_base::{error::Class, metric};
use gridwatch_config::raw::LogFormat;

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter does not parse.
    #[error(
        "telemetry.filter: invalid log filter {filter:?} ({reason}); use for example \"info\" or \"gridwatch=debug,info\""
    )]
    Filter {
        /// The filter as configured.
        filter: String,
        /// The parser's error.
        reason: String,
    },
    /// The address cannot be bound.
    #[error("telemetry.listen: cannot bind {address} ({source}); use another port, or \"\" to disable the endpoint")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// A metrics recorder or a log subscriber is installed already.
    #[error("telemetry was started twice")]
    Twice,
}

impl TelemetryError {
    /// The error's class.
    pub fn class(&self) -> Class {
        match self {
            Self::Filter { .. } | Self::Listen { .. } => Class::Config,
            Self::Twice => Class::Bug,
        }
    }
}

/// Starts logging to standard error.
///
/// # Errors
/// If the filter does not parse, or logging was started before.
pub fn start_logs(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter).map_err(|e| TelemetryError::Filter {
        filter: filter.to_owned(),
        reason: e.to_string(),
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // No escape codes in a file or the journal.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().try_init(),
    }
    .map_err(|_| TelemetryError::Twice)
}

/// Histogram buckets, in seconds, for work that takes milliseconds.
const WORK_SECONDS: [f64; 14] = [
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0,
];

/// Histogram buckets, in seconds, for lateness: 1 ms to 100 s in steps of 25 %, so that a quantile is at most 25 % off.
fn lateness_seconds() -> Vec<f64> {
    std::iter::successors(Some(0.001), |b| Some(b * 1.25))
        .take_while(|b| *b < 100.0)
        .collect()
}

/// Installs the metrics recorder; the handle renders the metrics.
///
/// # Errors
/// If a recorder is installed already.
pub fn start_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&WORK_SECONDS)
        .and_then(|b| b.set_buckets_for_metric(Matcher::Full(metric::LATENESS.into()), &lateness_seconds()))
        .map_err(|_| TelemetryError::Twice)?
        .install_recorder()
        .map_err(|_| TelemetryError::Twice)?;
    describe();
    Ok(handle)
}

fn describe() {
    use gridwatch_base::metric::*;
    describe_counter!(LOOKS, "Looks, by camera and view state");
    describe_counter!(LOOKS_FAILED, "Looks that failed, by camera and reason");
    describe_gauge!(LAST_LOOK, "Unix time of the newest picture looked at, by camera");
    describe_gauge!(
        VIEW_MOVED,
        "1 while the camera points away from its learned view, or misses the preset; by camera"
    );
    describe_histogram!(LATENESS, "Seconds from a look being due to its start");
    describe_gauge!(
        STRETCH,
        "Factor by which every look period is stretched under overload; 1 if not stretched"
    );
    describe_histogram!(DECODE, "Seconds to decode one keyframe");
    describe_histogram!(
        DETECT,
        "Seconds for letterbox, inference and decoding of the output, by model"
    );
    describe_histogram!(SECOND_LOOK, "Seconds for a second look at one place, by model");
    describe_gauge!(
        MODEL_LIVE,
        "1 for live versions, 0 for those that were live before, by model and version"
    );
    describe_counter!(
        MODEL_CHANGES,
        "Versions that went live, were refused or were rolled back, by model and change"
    );
    describe_gauge!(
        MODEL_TRIAL_LOOKS,
        "Looks so far in the newest trial or shadow run, by model"
    );
    describe_gauge!(KEYFRAME_INTERVAL, "Seconds between the two newest keyframes, by camera");
    describe_gauge!(
        CAMERA_STATE,
        "1 for the current state of the camera, by camera and state"
    );
    describe_counter!(VERIFIED, "Verified cases, by finding");
    describe_counter!(
        REPLIES_REFUSED,
        "Replies of the platform that do not fit the state of their case, by reply"
    );
    describe_counter!(
        LEDGER_LOST,
        "Engine inputs that could not be recorded and are missing from replays"
    );
    describe_counter!(LOST_PACKETS, "RTP packets lost, by camera");
    describe_counter!(DAMAGED, "Damaged keyframes, which are not looked at, by camera");
    describe_counter!(RECONNECTS, "Reconnects to the camera, by camera");
    describe_counter!(
        NOT_FILED,
        "Candidates that did not become a case of their own, by camera, rule and reason"
    );
    describe_counter!(
        PRESENCE,
        "State changes of tracked candidates (appeared, hidden, blind, confirmed, ...), by camera, rule and reason"
    );
    describe_gauge!(WAITING, "Confirmed problems held back by the daily cap");
    describe_counter!(CASES, "Cases filed, by rule");
    describe_gauge!(PINNED, "Looks pinned as possible evidence");
    describe_gauge!(LINK_CONNECTED, "1 while the broker connection is up");
    describe_gauge!(OUTBOX_DEPTH, "Messages waiting in the outbox");
    describe_gauge!(
        OUTBOX_QUARANTINED,
        "Messages in quarantine, which are not sent until an operator releases them"
    );
    describe_counter!(PUBLISHES, "Publishes, by kind of message and result");
    describe_histogram!(
        PUBLISH_SECONDS,
        "Seconds from a publish to its acknowledgement by the broker, by kind of message"
    );
    describe_counter!(REPLIES, "Messages on the reply topic, by result");
    describe_counter!(
        CLAIMS_REJECTED,
        "Messages on the site topics that are not valid claims of another box"
    );
    describe_histogram!(
        COMMIT,
        "Seconds from the confirmation of a case to its commit with its pictures"
    );
}

/// The parts of the daemon that report faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthFault {
    /// The clock is not believed.
    Clock,
    /// The database is gone.
    Database,
    /// Something cannot be committed, or a picture cannot be written.
    Commit,
}

/// The daemon's own health, as `/healthz` and `/readyz` report it.
#[derive(Debug)]
pub struct Health {
    started: AtomicBool,
    /// Monotonic: a step of the wall clock must neither hide a stuck core nor make it look stuck.
    since: Instant,
    /// Seconds from `since` to the last beat.
    last_beat: AtomicU64,
    faults: Mutex<BTreeMap<HealthFault, String>>,
}

/// The core counts as stuck after this long without a beat; it beats at least once a second.
const STUCK_AFTER_S: u64 = 60;

impl Default for Health {
    fn default() -> Self {
        Self {
            started: AtomicBool::new(false),
            since: Instant::now(),
            last_beat: AtomicU64::new(0),
            faults: Mutex::default(),
        }
    }
}

impl Health {
    /// Marks the start as complete: everything is loaded and looks have begun.
    pub fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// Records that the core is running.
    pub fn beat(&self) {
        self.last_beat.store(self.since.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// Sets or clears a fault that needs an operator. Faults make the box not ready, but alive.
    pub fn set_fault(&self, of: HealthFault, reason: Option<String>) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            Some(reason) => faults.insert(of, reason),
            None => faults.remove(&of),
        };
    }

    /// True if the core has beaten within the limit.
    pub fn is_alive(&self) -> bool {
        self.is_alive_after(self.since.elapsed().as_secs())
    }

    fn is_alive_after(&self, elapsed: u64) -> bool {
        elapsed.saturating_sub(self.last_beat.load(Ordering::Relaxed)) < STUCK_AFTER_S
    }

    /// Why the box is not ready; empty if it is.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.is_alive() {
            reasons.push(format!("the core has not responded for {STUCK_AFTER_S} s"));
        }
        if !self.started.load(Ordering::Relaxed) {
            reasons.push("the daemon is still starting".into());
        }
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.extend(faults.values().cloned());
        reasons
    }

    fn readiness(&self) -> Readiness {
        let reasons = self.reasons();
        Readiness {
            ready: reasons.is_empty(),
            reasons,
        }
    }
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
}

/// Updates the gauges that are cheaper to read on a scrape than to keep current.
pub type RefreshGauges = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone)]
struct HttpState {
    health: Arc<Health>,
    metrics: PrometheusHandle,
    refresh: RefreshGauges,
}

/// Serves `/healthz`, `/readyz` and `/metrics` until the runtime ends. Returns the bound address.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    health: Arc<Health>,
    metrics: PrometheusHandle,
    refresh: RefreshGauges,
) -> Result<SocketAddr, TelemetryError> {
    let listen = |source| TelemetryError::Listen { address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(HttpState {
            health,
            metrics,
            refresh,
        });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "Metrics and health server failed");
        }
    });
    Ok(bound)
}

async fn healthz(State(state): State<HttpState>) -> impl IntoResponse {
    if state.health.is_alive() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the core is stuck\n")
    }
}

async fn readyz(State(state): State<HttpState>) -> impl IntoResponse {
    let readiness = state.health.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

async fn render(State(state): State<HttpState>) -> impl IntoResponse {
    (state.refresh)();
    state.metrics.run_upkeep();
    ([("content-type", "text/plain; version=0.0.4")], state.metrics.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_started_and_while_there_are_no_faults() {
        let health = Health::default();
        assert!(!health.readiness().ready);
        health.started();
        assert!(health.readiness().ready);
        health.set_fault(HealthFault::Commit, Some("disk full".into()));
        let readiness = health.readiness();
        assert_eq!(
            (readiness.ready, readiness.reasons),
            (false, vec!["disk full".to_owned()])
        );
    }

    #[test]
    fn not_alive_after_the_core_stops_beating() {
        let health = Health::default();
        assert!(health.is_alive());
        assert!(!health.is_alive_after(STUCK_AFTER_S));
        health.beat();
        assert!(health.is_alive_after(STUCK_AFTER_S - 1));
    }

    #[test]
    fn lateness_buckets_reach_from_a_millisecond_to_over_a_minute() {
        let bounds = lateness_seconds();
        assert_eq!(bounds.first(), Some(&0.001));
        assert!(bounds.last().is_some_and(|b| *b > 60.0));
    }
}
