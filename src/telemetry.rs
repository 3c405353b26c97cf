//! Logs, metrics and health. Rooms log with `tracing` and count with `metrics`; this module says where both go.
//!
//! The metric names are the contract with whoever watches the boxes: they are listed in [`gridwatch_base::metric`].

use std::{
    io::IsTerminal,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use jiff::Timestamp;
use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use gridwatch_base::{error::Class, metric};
use gridwatch_config::raw::LogFormat;

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter is not one.
    #[error(
        "telemetry.filter: {filter:?} is not a log filter ({reason}); write for example \"info\" or \"gridwatch=debug,info\""
    )]
    Filter {
        /// As typed.
        filter: String,
        /// What the parser said.
        reason: String,
    },
    /// The address cannot be listened on.
    #[error(
        "telemetry.listen: {address} cannot be listened on ({source}); choose another port, or \"\" to serve nothing"
    )]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A recorder or subscriber is there already.
    #[error("telemetry was started twice")]
    Twice,
}

impl TelemetryError {
    /// What it means.
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
/// When the filter does not parse or logging was started before.
pub fn start_logs(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter).map_err(|e| TelemetryError::Filter {
        filter: filter.to_owned(),
        reason: e.to_string(),
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A file or the journal is no place for colours.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().try_init(),
    }
    .map_err(|_| TelemetryError::Twice)
}

/// Bounds for work measured in milliseconds.
const WORK_SECONDS: [f64; 14] = [
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0,
];

/// Bounds for lateness: 1 ms to 100 s, a quarter apart, so that a quantile read from them is at most a quarter off.
fn lateness_seconds() -> Vec<f64> {
    std::iter::successors(Some(0.001), |b| Some(b * 1.25))
        .take_while(|b| *b < 100.0)
        .collect()
}

/// Starts counting; the handle renders what was counted.
///
/// # Errors
/// When a recorder is installed already.
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
    describe_counter!(LOOKS, "Looks that were judged, by camera and by what the view was");
    describe_counter!(LOOKS_FAILED, "Looks that could not be judged, by camera and reason");
    describe_gauge!(LAST_LOOK, "Unix time of the newest judged picture, by camera");
    describe_gauge!(
        VIEW_MOVED,
        "1 while the camera looks elsewhere than where its zones were drawn, or does not come to the preset any more, by camera"
    );
    describe_histogram!(LATENESS, "Seconds from a look being due to its start");
    describe_gauge!(
        STRETCH,
        "Factor by which every look period is stretched under overload; 1 is none"
    );
    describe_histogram!(DECODE, "Seconds to decode one keyframe");
    describe_histogram!(
        DETECT,
        "Seconds for letterbox, inference and decoding of the output, by model"
    );
    describe_histogram!(
        LOOK_CLOSER,
        "Seconds for a closer look at one place before a case is filed, by model"
    );
    describe_gauge!(
        MODEL_LIVE,
        "1 for the versions that look, 0 for those that did, by model and version"
    );
    describe_counter!(
        MODEL_CHANGES,
        "Versions that went live, were refused or were taken back, by model and change"
    );
    describe_gauge!(
        MODEL_TRIAL_LOOKS,
        "Looks that the newest version on trial or in the shadow has had, by model"
    );
    describe_gauge!(KEYFRAME_INTERVAL, "Seconds between the newest two keyframes, by camera");
    describe_gauge!(CAMERA_STATE, "1 for the state the camera is in, by camera and state");
    describe_counter!(VERIFIED, "Cases that were looked at again, by what was found");
    describe_counter!(
        REPLIES_REFUSED,
        "Answers of the platform that do not fit where their case stands, by answer"
    );
    describe_counter!(
        LEDGER_LOST,
        "Inputs that could not be recorded, so that no replay knows them"
    );
    describe_counter!(LOST_PACKETS, "RTP packets that never came, by camera");
    describe_counter!(DAMAGED, "Keyframes that were not whole and never judged, by camera");
    describe_counter!(RECONNECTS, "Connections to the camera that ended, by camera");
    describe_counter!(
        NOT_FILED,
        "Candidates that did not become a case of their own, by camera, rule and reason"
    );
    describe_counter!(
        PRESENCE,
        "Steps of things that are followed (appeared, hidden, blind, confirmed, ...), by camera, rule and reason"
    );
    describe_gauge!(WAITING, "Problems that are confirmed and wait for another day's room");
    describe_counter!(CASES, "Cases committed, by rule");
    describe_gauge!(PINNED, "Looks kept as possible evidence");
    describe_histogram!(
        COMMIT,
        "Seconds from a case being confirmed to its commit with all its pictures"
    );
}

/// What the daemon knows of its own health.
#[derive(Debug)]
pub struct Health {
    started: AtomicBool,
    last_beat: AtomicI64,
    faults: Mutex<Vec<String>>,
}

/// The core is called stuck when it has not turned for this long; it turns at least once a second.
const STUCK_AFTER_S: i64 = 60;

impl Default for Health {
    fn default() -> Self {
        Self {
            started: AtomicBool::new(false),
            last_beat: AtomicI64::new(Timestamp::now().as_second()),
            faults: Mutex::default(),
        }
    }
}

impl Health {
    /// Everything is loaded and the first looks are under way.
    pub fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// The core turned.
    pub fn beat(&self) {
        self.last_beat.store(Timestamp::now().as_second(), Ordering::Relaxed);
    }

    /// Replaces the list of what an operator must act on: it makes the box unready, not dead.
    pub fn set_faults(&self, faults: Vec<String>) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// True while the core turns.
    pub fn is_alive(&self) -> bool {
        Timestamp::now().as_second() - self.last_beat.load(Ordering::Relaxed) < STUCK_AFTER_S
    }

    fn readiness(&self) -> Readiness {
        let mut reasons = self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !self.started.load(Ordering::Relaxed) {
            reasons.insert(0, "the daemon is still starting".into());
        }
        if !self.is_alive() {
            reasons.insert(0, format!("the core has not turned for {STUCK_AFTER_S} s"));
        }
        Readiness {
            ready: reasons.is_empty(),
            reasons,
        }
    }
}

/// What `/readyz` answers.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
}

/// Brings gauges up to date that are cheaper to read than to keep.
pub type Refresh = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone)]
struct Served {
    health: Arc<Health>,
    metrics: PrometheusHandle,
    refresh: Refresh,
}

/// Serves `/healthz`, `/readyz` and `/metrics` until the runtime ends. Returns the bound address.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    health: Arc<Health>,
    metrics: PrometheusHandle,
    refresh: Refresh,
) -> Result<SocketAddr, TelemetryError> {
    let listen = |source| TelemetryError::Listen { address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(Served {
            health,
            metrics,
            refresh,
        });
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "Metrics and health are no longer served.");
        }
    });
    Ok(bound)
}

async fn healthz(State(served): State<Served>) -> impl IntoResponse {
    if served.health.is_alive() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the core is stuck\n")
    }
}

async fn readyz(State(served): State<Served>) -> impl IntoResponse {
    let readiness = served.health.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

async fn render(State(served): State<Served>) -> impl IntoResponse {
    (served.refresh)();
    served.metrics.run_upkeep();
    ([("content-type", "text/plain; version=0.0.4")], served.metrics.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_ready_when_it_has_started_and_nothing_is_at_fault() {
        let health = Health::default();
        assert!(!health.readiness().ready);
        health.started();
        assert!(health.readiness().ready);
        health.set_faults(vec!["disk full".into()]);
        let readiness = health.readiness();
        assert_eq!(
            (readiness.ready, readiness.reasons),
            (false, vec!["disk full".to_owned()])
        );
    }

    #[test]
    fn a_core_that_stopped_turning_is_not_alive() {
        let health = Health::default();
        health
            .last_beat
            .store(Timestamp::now().as_second() - 2 * STUCK_AFTER_S, Ordering::Relaxed);
        assert!(!health.is_alive());
        health.beat();
        assert!(health.is_alive());
    }

    #[test]
    fn lateness_bounds_reach_from_a_millisecond_to_over_a_minute() {
        let bounds = lateness_seconds();
        assert_eq!(bounds.first(), Some(&0.001));
        assert!(bounds.last().is_some_and(|b| *b > 60.0));
    }
}
