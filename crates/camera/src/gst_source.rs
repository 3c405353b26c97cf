//! Camera sources other than plain RTSP: anything that GStreamer's `uridecodebin` opens, such as files, HTTP and MJPEG.
//!
//! One thread and one confined process per camera (`source_pipeline`), filling the camera's [`Slot`] with decoded frames. Every frame is
//! decoded, which costs far more than `receive`, so plain `rtsp` cameras do not use it. A process that ends costs the time until the source is
//! opened again.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use url::Url;

use super::{
    decode::{DecodeMode, SourceWorker},
    live::VideoSource,
    reconnect::{ConnectionEnd, RetrySchedule},
    slot::{CameraState, Slot},
    source_pipeline::{Next, SourcePipeline, SourceSetup},
};
use gridwatch_base::{
    error::Class,
    file,
    message::Message,
    secret::{CredentialError, CredentialSource},
};
use gridwatch_engine::CameraId;
use gridwatch_frame::Frame;

/// How often the thread checks whether to stop.
const STOP_POLL: Duration = Duration::from_millis(200);

/// How to read one source.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The camera's id.
    pub camera: CameraId,
    /// URL for `uridecodebin`. A user or password in it is ignored.
    pub url: Url,
    /// For source elements with the properties `user-id` and `user-pw` (RTSP, HTTP). Read anew for each connection.
    pub credentials: Option<CredentialSource>,
    /// For TLS: PEM file of the only trusted certificates. The host name is then not checked. `None` means the system's
    /// certificate authorities and a host name check.
    pub ca_file: Option<PathBuf>,
    /// Least interval between delivered frames; frames in between are dropped. Half of the look period is a good value.
    pub every: Duration,
    /// Restart a file at its end. Otherwise the source ends there.
    pub looped: bool,
    /// Without a frame for this long the source is restarted.
    pub idle: Duration,
    /// Where GStreamer runs.
    pub mode: DecodeMode,
}

/// Why a source failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// An error of a GStreamer element, which it begins with.
    #[error("{0}")]
    Pipeline(String),
    /// What the source sends ended the process that reads it, or made it hang.
    #[error("the process that reads the source ended ({cause})")]
    Crashed {
        /// How it ended.
        cause: String,
        /// Until when the camera is set aside, if this was one time too many.
        set_aside_until: Option<Timestamp>,
    },
    /// No process could be started, or it ended for a reason that no source explains.
    #[error("process for the source: {0}")]
    NoWorker(String),
    /// The camera refuses the login.
    #[error(
        "login rejected by the camera ({0}); correct the user or password that its `credentials` setting refers to"
    )]
    Refused(String),
    /// The credentials cannot be read.
    #[error("cannot log in: `credentials`: {0}")]
    Credentials(CredentialError),
    /// `ca_file` cannot be read.
    #[error("ca_file {}: {what}; it must be a PEM file with the certificate of the camera or of its authority", .path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The error of GIO.
        what: String,
    },
    /// The URL names something else than a regular file, which GStreamer would wait for or read without end.
    #[error("{}: {source}; name a video file", .path.display())]
    File {
        /// The path of the URL.
        path: PathBuf,
        /// What it leads to, or why it cannot be opened.
        source: std::io::Error,
    },
    /// The URL names no local path.
    #[error("{0} is not a local path; use file:// with an absolute path: file:///clips/a.mp4")]
    NotLocal(Url),
    /// The camera's certificate is not trusted.
    #[error(
        "the camera's certificate is not trusted ({0}); set the camera's ca_file to this certificate or to its \
         authority's (`openssl s_client -connect HOST:PORT` prints it)"
    )]
    UntrustedCertificate(String),
    /// No frame within the idle timeout.
    #[error("no frame received for {0:?}")]
    NoFrames(Duration),
    /// A live source ended.
    #[error("the stream ended")]
    Ended,
    /// GStreamer or one of its plugins is missing.
    #[error("GStreamer: {0}; install the packages listed in edge-deploy/setup.sh")]
    Missing(String),
    /// A bug in the source or in a binding.
    #[error("internal error in the source: {0}; please report it")]
    Panicked(String),
}

impl SourceError {
    fn panicked(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Self::Panicked(text.unwrap_or("no message").to_owned())
    }

    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Missing(_)
            | Self::Refused(_)
            | Self::Credentials(_)
            | Self::CaFile { .. }
            | Self::File { .. }
            | Self::NotLocal(_)
            | Self::UntrustedCertificate(_) => Class::Config,
            Self::Panicked(_) => Class::Bug,
            _ => Class::Transient,
        }
    }
}

/// A running source. It stops on drop.
pub struct GstSource {
    slot: Arc<Slot>,
    /// Its number among those that fill the slot.
    live: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for GstSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GstSource into {:?}", self.slot)
    }
}

impl GstSource {
    /// Starts reading into `slot`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(settings: SourceSettings, slot: Arc<Slot>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("source".into()).spawn({
            let (slot, stop) = (Arc::clone(&slot), Arc::clone(&stop));
            move || supervise(&settings, &slot, &stop)
        })?;
        Ok(Self {
            live: slot.live().open(VideoSource::Gstreamer),
            slot,
            stop,
            thread: Some(thread),
        })
    }

    /// The slot that it fills.
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Drop for GstSource {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        self.slot.live().close(self.live);
    }
}

fn supervise(settings: &SourceSettings, slot: &Arc<Slot>, stop: &AtomicBool) {
    let camera = &settings.camera;
    let mut schedule = RetrySchedule::new();
    while !stop.load(Ordering::Relaxed) {
        let started_at = Instant::now();
        // A panic is handled as an error; a dead thread would leave the camera's state at "live".
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(settings, slot, stop)));
        let error = match run.unwrap_or_else(|panic| Err(SourceError::panicked(&*panic))) {
            Ok(()) => {
                if !stop.load(Ordering::Relaxed) {
                    slot.set_state(CameraState::Ended);
                    tracing::info!(%camera, "End of file reached; camera stopped");
                }
                return;
            }
            Err(error) => error,
        };
        let mut set_aside = None;
        if let SourceError::Crashed { set_aside_until, .. } = &error {
            slot.count_crash();
            set_aside = *set_aside_until;
        }
        let end = match (&error, slot.received_state()) {
            (SourceError::Refused(_), _) => ConnectionEnd::LoginRefused,
            (SourceError::Crashed { .. }, _) => ConnectionEnd::Failed,
            (_, CameraState::Live) => ConnectionEnd::Delivered,
            _ => ConnectionEnd::Failed,
        };
        let (text, now) = (Message::from(error.to_string()), Timestamp::now());
        let wait = match set_aside {
            Some(until) => until.duration_since(now).unsigned_abs(),
            None => schedule.wait(end, started_at.elapsed(), fastrand::f64()),
        };
        let is_known = match slot.received_state() {
            CameraState::Down { error, .. } | CameraState::Refused { error, .. } => error == text,
            _ => false,
        };
        if !is_known || set_aside.is_some() {
            tracing::warn!(%camera, retry_in = ?wait, "Camera down: {text}");
        }
        match (set_aside, end) {
            (Some(until), _) => slot.set_state(CameraState::SetAside {
                reason: text.to_string(),
                until,
            }),
            (None, ConnectionEnd::LoginRefused) => slot.set_refused(text, now, now.checked_add(wait).unwrap_or(now)),
            _ => slot.set_down(text, error.class(), now),
        }
        slot.count_reconnect();
        let until = Instant::now() + wait;
        while !stop.load(Ordering::Relaxed) && Instant::now() < until {
            std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// What reads the source.
enum Reader {
    Here(SourcePipeline),
    Worker(Box<SourceWorker>),
}

impl Reader {
    fn start(settings: &SourceSettings, setup: &SourceSetup) -> Result<Self, SourceError> {
        match &settings.mode {
            DecodeMode::InProcess => SourcePipeline::start(setup).map(Self::Here),
            DecodeMode::Workers(workers) => {
                SourceWorker::start(workers, &settings.camera, setup).map(|worker| Self::Worker(Box::new(worker)))
            }
        }
    }

    fn next(&mut self) -> Result<Next, SourceError> {
        match self {
            Self::Here(pipeline) => pipeline.next(STOP_POLL),
            Self::Worker(worker) => worker.next(STOP_POLL),
        }
    }
}

/// Reads the source once. Returns `Ok` at the end of a file or when `stop` is set.
fn read(settings: &SourceSettings, slot: &Slot, stop: &AtomicBool) -> Result<(), SourceError> {
    if settings.url.scheme() == "file" {
        expect_file(&settings.url)?;
    }
    let credentials = settings.credentials.as_ref().map(CredentialSource::read).transpose();
    let credentials = credentials.map_err(SourceError::Credentials)?;
    let mut url = settings.url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let setup = SourceSetup {
        url: url.into(),
        login: credentials.map(|c| (c.user.expose().to_owned(), c.password.expose().to_owned())),
        ca_file: settings.ca_file.clone(),
        every: settings.every,
        looped: settings.looped,
    };
    let mut reader = Reader::start(settings, &setup)?;
    let mut last_frame_at = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match reader.next()? {
            Next::Frame(frame) => {
                last_frame_at = Instant::now();
                store(slot, frame);
            }
            Next::Ended => break,
            Next::Nothing if last_frame_at.elapsed() > settings.idle => {
                return Err(SourceError::NoFrames(settings.idle));
            }
            Next::Nothing => {}
        }
    }
    Ok(())
}

fn store(slot: &Slot, frame: Frame) {
    if slot.received_state() != CameraState::Live {
        slot.set_state(CameraState::Live);
    }
    slot.count_received(1, frame.data.len() as u64, 0, frame.captured_at);
    slot.store_frame(Arc::new(frame));
}

/// Fails unless the `file://` URL names a regular file: GStreamer opens whatever it is given, and waits for the writer of a FIFO in a
/// call that cannot be interrupted.
fn expect_file(url: &Url) -> Result<(), SourceError> {
    let path = url.to_file_path().map_err(|()| SourceError::NotLocal(url.clone()))?;
    match file::open(&path, u64::MAX) {
        Ok(_) => Ok(()),
        Err(source) => Err(SourceError::File { path, source }),
    }
}

/// The `file://` URL of `path`.
///
/// # Errors
/// The path cannot be made absolute.
pub fn file_url(path: &Path) -> std::io::Result<Url> {
    let path = std::path::absolute(path)?;
    Url::from_file_path(&path)
        .map_err(|()| std::io::Error::other(format!("{} is not an absolute path", path.display())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    /// The state of a source of `url` once it has failed.
    fn failure(url: &str) -> (String, Class) {
        let slot = Slot::new("gate".into(), Arc::new(Notify::new()));
        let settings = SourceSettings {
            camera: "gate".into(),
            url: Url::parse(url).unwrap(),
            credentials: None,
            ca_file: None,
            every: Duration::from_secs(1),
            looped: true,
            idle: Duration::from_secs(20),
            mode: DecodeMode::InProcess,
        };
        let _source = GstSource::spawn(settings, Arc::clone(&slot)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let CameraState::Down { error, class, .. } = slot.state() {
                return (error.to_string(), class);
            }
            assert!(Instant::now() < deadline, "{:?}", slot.state());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn only_a_regular_file_is_given_to_gstreamer() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success()
        );
        let of = |path: &Path| failure(file_url(path).unwrap().as_str());
        for (path, what) in [
            (fifo.as_path(), "a FIFO, not a regular file"),
            (Path::new("/dev/zero"), "a device, not a regular file"),
            (dir.path(), "a folder, not a regular file"),
        ] {
            let (error, class) = of(path);
            assert_eq!(error, format!("{}: {what}; name a video file", path.display()));
            assert_eq!(class, Class::Config);
        }
        let (error, _) = failure("file://elsewhere/clip.mp4");
        assert!(error.contains("is not a local path"), "{error}");
    }
}
