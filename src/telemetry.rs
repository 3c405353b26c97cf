//! Logs, metrics and health. The crates log with `tracing` and count with `metrics`; this module sets up where both go.
//!
//! Dashboards and alerts depend on the metric names, which are listed in [`gridwatch_base::metric`].

mod server;

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use tokio::net::TcpListener;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    layer::{Layered, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

pub use self::server::serve;
use gridwatch_base::{error::Class, message, message::Message, metric};
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

/// The layer below the log's format.
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;

/// Writes events in the configured format.
type LogFormatter = Box<dyn Layer<Filtered> + Send + Sync>;

/// Changes filter and format of the logs while the program runs.
static LOGS: OnceLock<(
    reload::Handle<EnvFilter, Registry>,
    reload::Handle<LogFormatter, Filtered>,
)> = OnceLock::new();

/// Starts logging to standard error.
///
/// # Errors
/// If the filter does not parse, or logging was started before.
pub fn start_logs(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let (filter, change_filter) = reload::Layer::new(parse(filter)?);
    let (formatter, change_format) = reload::Layer::new(formatter(format));
    tracing_subscriber::registry()
        .with(filter)
        .with(formatter)
        .try_init()
        .map_err(|_| TelemetryError::Twice)?;
    LOGS.set((change_filter, change_format))
        .map_err(|_| TelemetryError::Twice)
}

/// Changes the logs' format and filter. An invalid filter changes nothing; [`check_filter`] tells.
#[cfg(all(feature = "gst", feature = "ort"))]
pub(crate) fn change_logs(format: LogFormat, filter: &str) {
    if let (Some((change_filter, change_format)), Ok(filter)) = (LOGS.get(), parse(filter)) {
        // They fail only if the subscriber is gone.
        let _ = change_filter.reload(filter);
        let _ = change_format.reload(formatter(format));
    }
}

/// Tests a log filter.
///
/// # Errors
/// It does not parse.
#[cfg(all(feature = "gst", feature = "ort"))]
pub(crate) fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    // Their INFO lines are about themselves and alarm without cause; a filter that names these targets still wins.
    EnvFilter::try_new(format!("ort=warn,{filter}")).map_err(|e| TelemetryError::Filter {
        filter: filter.to_owned(),
        reason: e.to_string(),
    })
}

fn formatter(format: LogFormat) -> LogFormatter {
    let logs = tracing_subscriber::fmt::layer()
        // No escape codes in a file or the journal.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(LogWriter::default);
    match format {
        LogFormat::Text => logs.with_target(false).boxed(),
        LogFormat::Json => logs.json().boxed(),
    }
}

/// Lines of the log that are kept for the console and support bundles.
const TAIL_LINES: usize = 1000;

/// Longest line that is kept, in bytes.
const TAIL_LINE: usize = 2000;

static TAIL: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// The newest lines of the log, oldest first, at most `max`.
#[cfg(all(feature = "gst", feature = "ort"))]
pub(crate) fn log_tail(max: usize) -> Vec<String> {
    let tail = TAIL.lock().unwrap_or_else(PoisonError::into_inner);
    tail.iter().skip(tail.len().saturating_sub(max)).cloned().collect()
}

/// Writes the lines of one event to standard error, and keeps them.
#[derive(Default)]
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(line)?;
        let text = without_escapes(&String::from_utf8_lossy(line));
        let end = text.floor_char_boundary(TAIL_LINE.min(text.len()));
        let mut tail = TAIL.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() >= TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text[..end].trim_end().to_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The text without the colours of a terminal (`ESC [ … m`).
fn without_escapes(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| {
        plain + part.split_once('m').map_or(part, |(_, rest)| rest)
    })
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

/// Histogram buckets for the masked share of a picture: a street has a few per cent (docs/evidence.md); half of it is a mask gone wrong.
const SHARES: [f64; 10] = [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0];

/// Installs the metrics recorder; the handle renders the metrics.
///
/// # Errors
/// If a recorder is installed already.
pub fn start_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&WORK_SECONDS)
        .and_then(|b| b.set_buckets_for_metric(Matcher::Full(metric::LATENESS.into()), &lateness_seconds()))
        .and_then(|b| b.set_buckets_for_metric(Matcher::Full(metric::MASKED_SHARE.into()), &SHARES))
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
        CHANGE,
        "Seconds to compare a look with the learned background of its view"
    );
    describe_counter!(
        CHANGE_LOOKS,
        "Looks of the change map, by camera and state: learning, judged, or in a light that is not learned"
    );
    describe_counter!(
        NEW_REGIONS,
        "New still regions reported by the change map, by camera and what explains them: person, animal, vehicle or nothing"
    );
    describe_histogram!(
        DETECT,
        "Seconds for letterbox, inference and decoding of the output, by model"
    );
    describe_histogram!(SECOND_LOOK, "Seconds for a second look at one place, by model");
    describe_histogram!(
        CLOSE_LOOK,
        "Seconds for a look at the crop around something new, by model"
    );
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
    describe_counter!(
        DECODE_CRASHES,
        "Keyframes that ended a decode worker, which are not decoded again, by camera"
    );
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
    describe_gauge!(
        LINK_PROBLEM,
        "1 for what keeps the link from publishing (unreachable, unsuitable, duplicate_node_id), by problem"
    );
    describe_gauge!(
        READY,
        "1 while a problem in front of the cameras would be filed, as /readyz says"
    );
    describe_counter!(CONFIG_RELOADS, "Reloads of the configuration, by outcome");
    describe_gauge!(
        CONFIG_REJECTED,
        "1 while the configuration files were changed and have faults, so that the configuration before is in force"
    );
    describe_gauge!(OUTBOX_DEPTH, "Messages waiting in the outbox");
    describe_gauge!(OUTBOX_MESSAGES, "Messages in the outbox, by how far they have come");
    describe_gauge!(
        OUTBOX_UNRECEIVED_SECONDS,
        "Age of the oldest message that the broker acknowledged and the platform gave no receipt for"
    );
    describe_counter!(RECEIPTS, "Receipts of the platform, by result");
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
        "Messages on the site topics that are not claims to obey, by reason"
    );
    describe_counter!(
        MESSAGES_OVERSIZED,
        "Messages whose payload was skipped because they were too large"
    );
    describe_gauge!(HELD_BACK, "Cases held back because another box claims their site");
    describe_counter!(
        MESSAGES_IGNORED,
        "Messages on topics that the box does not subscribe to, as after broker.share_sites was switched off"
    );
    describe_counter!(
        EVIDENCE_PICTURES,
        "Evidence pictures made, by whether faces and licence plates were searched for and masked"
    );
    describe_histogram!(
        MASKED_SHARE,
        "Masked share of the area of a whole evidence picture, 0 to 1, privacy zones not counted"
    );
    describe_histogram!(
        COMMIT,
        "Seconds from the confirmation of a case to its commit with its pictures"
    );
}

/// The daemon's own health, as `/healthz` and `/readyz` report it.
#[derive(Debug)]
pub struct Health {
    started: AtomicBool,
    /// Monotonic: a step of the wall clock must neither hide a stuck core nor make it look stuck.
    since: Instant,
    /// Seconds from `since` to the last beat.
    last_beat: AtomicU64,
    blockers: Mutex<BTreeMap<&'static str, Message>>,
    degraded: Mutex<Vec<Message>>,
    /// Why the configuration in force is not the one of the file.
    configuration: Mutex<Option<String>>,
}

/// The core counts as stuck after this long without a beat; it beats at least once a second.
const STUCK_AFTER_S: u64 = 60;

impl Default for Health {
    fn default() -> Self {
        Self {
            started: AtomicBool::new(false),
            since: Instant::now(),
            last_beat: AtomicU64::new(0),
            blockers: Mutex::default(),
            degraded: Mutex::default(),
            configuration: Mutex::default(),
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

    /// Names what stands against filing a case now; a box with a blocker is not ready, but alive. `name` says what is
    /// concerned, such as `broker`; a second blocker of that name replaces the first.
    pub fn block(&self, name: &'static str, reason: impl Into<Message>) {
        self.blockers().insert(name, reason.into());
    }

    /// Removes the blocker `name`, if there is one.
    pub fn unblock(&self, name: &'static str) {
        self.blockers().remove(name);
    }

    /// Sets or removes the blocker `name`. True if it is another one than before.
    pub fn set_blocker(&self, name: &'static str, reason: Option<Message>) -> bool {
        let mut blockers = self.blockers();
        let before = match &reason {
            Some(reason) => blockers.insert(name, reason.clone()),
            None => blockers.remove(name),
        };
        before != reason
    }

    /// Replaces the list of what is impaired without making the box unready, such as single cameras.
    pub fn set_degraded(&self, reasons: Vec<Message>) {
        *self.degraded.lock().unwrap_or_else(PoisonError::into_inner) = reasons;
    }

    /// Notes why the configuration in force is not the one of the file; `None` if it is.
    pub fn set_configuration(&self, note: Option<String>) {
        *self.configuration.lock().unwrap_or_else(PoisonError::into_inner) = note;
    }

    /// Why the configuration in force is not the one of the file.
    pub fn configuration(&self) -> Option<String> {
        self.configuration
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn blockers(&self) -> MutexGuard<'_, BTreeMap<&'static str, Message>> {
        self.blockers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the core has beaten within the limit.
    pub fn is_alive(&self) -> bool {
        self.is_alive_after(self.since.elapsed().as_secs())
    }

    fn is_alive_after(&self, elapsed: u64) -> bool {
        elapsed.saturating_sub(self.last_beat.load(Ordering::Relaxed)) < STUCK_AFTER_S
    }

    /// Why the box is not ready; empty if it is.
    pub(crate) fn reasons(&self) -> Vec<Message> {
        let mut reasons = Vec::new();
        if !self.is_alive() {
            reasons.push(message!(
                "the core has not responded for {seconds} s",
                seconds = STUCK_AFTER_S
            ));
        }
        if !self.started.load(Ordering::Relaxed) {
            reasons.push("the daemon is still starting".into());
        }
        let blockers = self.blockers();
        let named = |(name, reason): (&&'static str, &Message)| {
            message!("{name}: {reason}", name = Message::from(*name), reason = reason.clone())
        };
        reasons.extend(blockers.iter().map(named));
        drop(blockers);
        reasons
    }

    /// Whether a problem in front of the cameras would be filed now, and what stands against it.
    pub fn readiness(&self) -> Readiness {
        let reasons = self.reasons();
        Readiness {
            ready: reasons.is_empty(),
            reasons,
            degraded: self.degraded.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
pub struct Readiness {
    /// True if a problem in front of the cameras would be filed now.
    pub ready: bool,
    /// What stands against it.
    pub reasons: Vec<Message>,
    /// What is impaired without standing against it.
    pub degraded: Vec<Message>,
}

/// Updates the gauges and the readiness, which are cheaper to read on a request than to keep current.
pub type RefreshGauges = Arc<dyn Fn() + Send + Sync>;

/// Binds the address of the HTTP endpoint. Done before anything else starts, so that a taken port stops the start at once.
///
/// # Errors
/// If the address cannot be bound.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, TelemetryError> {
    let listen = |source| TelemetryError::Listen { address, source };
    TcpListener::bind(address).await.map_err(listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_started_and_while_nothing_stands_against_it() {
        let health = Health::default();
        assert!(!health.readiness().ready);
        health.started();
        assert!(health.readiness().ready);
        health.block("storage", "disk full");
        health.block("broker", "connection refused");
        health.set_degraded(vec!["camera gate: login rejected".into()]);
        let readiness = health.readiness();
        assert!(!readiness.ready);
        assert_eq!(readiness.reasons, ["broker: connection refused", "storage: disk full"]);
        health.unblock("storage");
        health.set_blocker("broker", None);
        let readiness = health.readiness();
        assert!(readiness.ready, "{readiness:?}");
        assert_eq!(readiness.degraded, ["camera gate: login rejected"]);
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
