//! RTSP receiver: connects to a camera, stores its newest keyframe and reconnects after every failure.
//!
//! One supervised task per camera drives a [`gridwatch_rtsp::Client`], which does no I/O itself: the task owns the sockets,
//! passes in what arrives, and does what the client asks for. Bytes are read into the client's buffer, and a keyframe is
//! copied once, from there into the memory in which the decoder reads it. Nothing is decoded here but Motion JPEG; streams without usable
//! keyframes are handed to `full_decode`.
//!
//! Cameras are hostile input. One that sends too much is cut off (`budget`), one that is busy gives way to the others every
//! millisecond, and its log lines are bounded (`log`). A panic ends that camera's connection and affects no other.
//!
//! - `driver` runs one connection, or measures what comes over it for a while, `sockets` has its sockets, `tls` decides on certificates.
//! - `stream` handles the pictures, `states` judges how the camera does.

mod budget;
mod driver;
mod jpeg;
mod log;
mod sockets;
mod states;
mod stream;
mod tls;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::task::JoinHandle;
use url::Url;

use self::{driver::Attempt, log::CameraLog};
#[cfg(feature = "gst")]
use crate::decode::DecodeMode;
use crate::{
    Transport,
    live::VideoSource,
    reconnect::{ConnectionEnd, RetrySchedule},
    slot::{CameraState, Slot},
};
use gridwatch_base::{
    error::Class,
    message,
    message::Message,
    secret::{CredentialError, CredentialSource, Credentials},
};
use gridwatch_engine::CameraId;

pub use self::{
    budget::{MAX_BYTES_PER_SECOND, MAX_PACKETS_PER_SECOND},
    driver::{KeyframeArrival, MeasureLimits, MeasuredStream, measure, probe},
    jpeg::decode as decode_jpeg,
    states::unsupported as unsupported_format,
    tls::{connector as tls_connector, handshake as tls_handshake},
};
/// Why a connection failed or ended, as the client tells it.
pub use gridwatch_rtsp::Error as RtspError;
pub use gridwatch_rtsp::{
    LoginPolicy, LoginProblem, LoginSchemes, StreamCounters, Timeouts, VideoCodec, VideoFormat, VideoParameters,
};

/// While a camera refuses the login, corrected credentials are noticed within this time.
const CREDENTIALS_POLL: Duration = Duration::from_secs(10);

/// Whether a URL is received by the built-in client.
pub fn is_rtsp(url: &Url) -> bool {
    matches!(url.scheme(), "rtsp" | "rtsps")
}

/// Which certificates of a camera are trusted (`rtsps`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// What the system's authorities signed for the host in the URL.
    #[default]
    System,
    /// The certificates in this PEM file, and what they signed. The host name is not checked.
    CaFile(PathBuf),
    /// The certificate with this SHA-256, in lower-case hex.
    Pin(String),
}

/// How to receive one camera.
#[derive(Debug, Clone)]
pub struct ReceiverSettings {
    /// The camera's id.
    pub camera: CameraId,
    /// `rtsp://host[:port]/path` or `rtsps://…`. A user or password in it is ignored.
    pub url: Url,
    /// For Basic or Digest authentication, whichever the camera asks for. Read anew for each connection.
    pub credentials: Option<CredentialSource>,
    /// Which logins are answered. Remembers what the camera asked for, so it is kept for as long as the camera is configured.
    pub login: LoginPolicy,
    /// Which certificates are trusted.
    pub trust: Trust,
    /// Transport of the RTP packets.
    pub transport: Transport,
    /// Look period. If keyframes come much less often, the receiver falls back to decoding every frame.
    pub look_every: Duration,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Where every picture of a stream without keyframes is decoded.
    #[cfg(feature = "gst")]
    pub full_decoding: DecodeMode,
}

impl ReceiverSettings {
    /// Settings without a login, over TCP, with every limit at its default; what a stream without keyframes needs is decoded in this process.
    pub fn new(camera: CameraId, url: Url, look_every: Duration) -> Self {
        Self {
            camera,
            url,
            credentials: None,
            login: LoginPolicy::default(),
            trust: Trust::System,
            transport: Transport::Tcp,
            look_every,
            timeouts: Timeouts::default(),
            #[cfg(feature = "gst")]
            full_decoding: DecodeMode::InProcess,
        }
    }

    async fn read_credentials(&self) -> Result<Option<Credentials>, ReceiveError> {
        let read = match &self.credentials {
            None => return Ok(None),
            Some(CredentialSource::Fixed(credentials)) => return Ok(Some(credentials.clone())),
            // A file may lie on a disk that hangs.
            Some(source) => {
                let source = source.clone();
                tokio::task::spawn_blocking(move || source.read()).await
            }
        };
        match read {
            Ok(Ok(credentials)) => Ok(Some(credentials)),
            Ok(Err(error)) => Err(ReceiveError::Credentials(error)),
            Err(error) => Err(ReceiveError::Panicked(error.to_string())),
        }
    }
}

/// Why a connection failed or ended. The text never contains credentials.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReceiveError {
    /// An error of the connection or the protocol.
    Rtsp(RtspError),
    /// Packets arrive, but no picture is complete within the idle timeout.
    NoFrames(Duration),
    /// Decoding every picture gives none: the stream may not be what its description says any more.
    NothingDecoded(Duration),
    /// More than a camera may send.
    TooMuch {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        limit: u32,
    },
    /// The credentials cannot be read.
    Credentials(CredentialError),
    /// A bug.
    Panicked(String),
}

impl ReceiveError {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Rtsp(error) => error.class(),
            Self::Credentials(_) => Class::Config,
            Self::NoFrames(_) | Self::NothingDecoded(_) => Class::Transient,
            Self::TooMuch { .. } => Class::Data,
            Self::Panicked(_) => Class::Bug,
        }
    }

    /// What happened and what to do, for a person.
    pub fn message(&self) -> Message {
        match self {
            Self::Rtsp(error) => error.message(),
            Self::NoFrames(limit) => message!(
                "no frame received for {limit}, although packets arrive; restart the camera or update its firmware",
                limit = format!("{limit:?}")
            ),
            Self::NothingDecoded(limit) => message!(
                "no picture could be decoded for {limit}, although pictures arrive; asking the camera anew for what it sends",
                limit = format!("{limit:?}")
            ),
            Self::TooMuch { what, limit } => message!(
                "the number of {what} the camera sends exceeds the limit of {limit} a second; the connection was cut to protect this box; lower the camera's bit rate",
                what = *what,
                limit = *limit
            ),
            Self::Credentials(error) => message!("cannot log in: `credentials`: {error}", error = error.to_string()),
            Self::Panicked(what) => message!("internal error in the receiver: {what}; please report it", what),
        }
    }

    /// Whether the camera refused the login, of which `was_sent` tells whether there was one to refuse.
    fn refuses_login(&self) -> Option<bool> {
        match self {
            Self::Rtsp(RtspError::Unauthorized { login, .. }) => Some(match login {
                LoginProblem::Rejected { .. } => true,
                LoginProblem::Forbidden { tried } => !tried.is_empty(),
                LoginProblem::NoCredentials
                | LoginProblem::Withheld
                | LoginProblem::UnsupportedSchemes { .. }
                | LoginProblem::Downgraded
                | LoginProblem::NotAllowed { .. } => false,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

impl std::error::Error for ReceiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Rtsp(error) => Some(error),
            Self::Credentials(error) => Some(error),
            _ => None,
        }
    }
}

impl From<RtspError> for ReceiveError {
    fn from(error: RtspError) -> Self {
        Self::Rtsp(error)
    }
}

/// A running receiver. It stops on drop.
#[derive(Debug)]
pub struct Receiver {
    slot: Arc<Slot>,
    task: JoinHandle<()>,
    /// Its number among those that fill the slot.
    live: u64,
}

impl Receiver {
    /// Starts receiving into `slot` on the given runtime.
    pub fn spawn(settings: ReceiverSettings, slot: Arc<Slot>, runtime: &tokio::runtime::Handle) -> Self {
        slot.set_look_every(settings.look_every);
        let supervisor = Supervisor {
            log: Arc::new(CameraLog::new(settings.camera.clone())),
            settings: Arc::new(settings),
            slot: Arc::clone(&slot),
            schedule: RetrySchedule::new(),
            refused: None,
        };
        let live = slot.live().open(VideoSource::Pending);
        let task = runtime.spawn(supervisor.run());
        Self { slot, task, live }
    }

    /// Changes the look period; the connection goes on.
    pub fn set_look_every(&self, period: Duration) {
        self.slot.set_look_every(period);
    }

    /// The slot that it fills.
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
        self.slot.live().close(self.live);
    }
}

/// Aborts the task on drop.
struct AbortOnDrop<T>(JoinHandle<T>);
impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs one connection after the other.
struct Supervisor {
    settings: Arc<ReceiverSettings>,
    slot: Arc<Slot>,
    log: Arc<CameraLog>,
    schedule: RetrySchedule,
    /// The credentials that the camera refused last.
    refused: Option<Credentials>,
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            let began = Instant::now();
            let attempt = Arc::new(Attempt::default());
            let (error, credentials) = match self.settings.read_credentials().await {
                Ok(credentials) => {
                    self.note_login(credentials.as_ref());
                    let Some(error) = self.connect(credentials.clone(), &attempt).await else {
                        return;
                    };
                    (error, credentials)
                }
                Err(error) => (error, None),
            };
            let has_delivered = attempt.has_delivered.load(Ordering::Relaxed);
            let refused = error.refuses_login();
            let end = match refused {
                Some(true) => ConnectionEnd::LoginRefused,
                _ if has_delivered => ConnectionEnd::Delivered,
                _ => ConnectionEnd::Failed,
            };
            let wait = self.schedule.wait(end, began.elapsed(), fastrand::f64());
            self.report(&error, refused.is_some(), wait);
            self.refused = credentials.filter(|_| end == ConnectionEnd::LoginRefused);
            self.wait(wait).await;
        }
    }

    /// Credentials that differ from the refused ones are a new beginning.
    fn note_login(&mut self, credentials: Option<&Credentials>) {
        if self.refused.is_some() && self.refused.as_ref() != credentials {
            self.schedule.login_changed();
        }
    }

    /// One connection. `None`: the runtime is shutting down.
    async fn connect(&self, credentials: Option<Credentials>, attempt: &Arc<Attempt>) -> Option<ReceiveError> {
        // In its own task, so that a panic comes back as an error.
        let mut child = AbortOnDrop(tokio::spawn({
            let (settings, slot) = (Arc::clone(&self.settings), Arc::clone(&self.slot));
            let (log, attempt) = (Arc::clone(&self.log), Arc::clone(attempt));
            async move { driver::receive(&settings, credentials, &slot, &log, &attempt).await }
        }));
        match (&mut child.0).await {
            Ok(error) => Some(error),
            Err(join) if join.is_panic() => {
                let panic = join.into_panic();
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                Some(ReceiveError::Panicked(text.unwrap_or("no message").to_owned()))
            }
            Err(_) => None,
        }
    }

    fn report(&self, error: &ReceiveError, is_refusal: bool, wait: Duration) {
        let text = error.message();
        let now = Timestamp::now();
        // Told only when the error changes: a camera may be down for a week.
        let is_new = match self.slot.received_state() {
            CameraState::Down { error, .. } | CameraState::Refused { error, .. } => error != text,
            _ => true,
        };
        if is_refusal {
            let until = now.checked_add(wait).unwrap_or(now);
            // The next try moves away once: then it is worth another line.
            if is_new || (wait >= Duration::from_secs(60) && self.refused.is_some() && !self.is_far_known()) {
                self.log.warn(format_args!(
                    "Camera refuses the login: {text}; next try in {} s",
                    wait.as_secs()
                ));
            }
            self.slot.set_refused(text, now, until);
        } else {
            if is_new {
                self.log
                    .warn(format_args!("Camera down: {text}; next try in {wait:.1?}"));
            } else {
                tracing::debug!(camera = %self.settings.camera, ?wait, "Camera still down: {text}");
            }
            self.slot.set_down(text, error.class(), now);
        }
        self.slot.set_keyframe_interval(None);
        self.slot.count_reconnect();
    }

    /// Whether the camera's state already gives a try that is minutes away.
    fn is_far_known(&self) -> bool {
        matches!(self.slot.received_state(), CameraState::Refused { since, until, .. }
            if until.duration_since(since).unsigned_abs() >= Duration::from_secs(60))
    }

    /// Waits; corrected credentials are tried sooner.
    async fn wait(&self, wait: Duration) {
        let until = tokio::time::Instant::now() + wait;
        let rereads = self.refused.is_some() && !matches!(self.settings.credentials, Some(CredentialSource::Fixed(_)));
        while rereads && tokio::time::Instant::now() + CREDENTIALS_POLL < until {
            tokio::time::sleep(CREDENTIALS_POLL).await;
            let read = self.settings.read_credentials().await;
            if read.is_ok_and(|now| now != self.refused) {
                return;
            }
        }
        tokio::time::sleep_until(until).await;
    }
}
