//! Camera sources other than plain RTSP: anything that GStreamer's `uridecodebin` opens, such as files, `rtsps`, HTTP and
//! MJPEG.
//!
//! One thread and one pipeline per camera, filling the camera's [`Slot`] with decoded frames. Every frame is decoded and
//! nearly all are dropped right behind the decoder. That costs far more than `receive`, so plain `rtsp` cameras do not use
//! it.

use std::{
    fmt,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gstreamer as gst;
use gstreamer::{glib, prelude::*};
use gstreamer_app as gst_app;
use jiff::Timestamp;
use url::Url;

use super::{
    gst_frame,
    reconnect::{ConnectionEnd, RetrySchedule},
    slot::{CameraState, Slot},
};
use gridwatch_base::{
    error::Class,
    file,
    secret::{CredentialError, CredentialSource, Credentials},
};
use gridwatch_engine::CameraId;

/// How often the thread checks whether to stop.
const STOP_POLL: gst::ClockTime = gst::ClockTime::from_mseconds(200);

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
}

/// Why a source failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// An error of a GStreamer element.
    #[error("{element}: {what}")]
    Pipeline {
        /// The element.
        element: String,
        /// Its error.
        what: String,
    },
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
        "the camera's certificate is not trusted ({0:?}); set the camera's ca_file to this certificate or to its \
         authority's (`openssl s_client -connect HOST:PORT` prints it)"
    )]
    UntrustedCertificate(gio::TlsCertificateFlags),
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
        let end = match (&error, slot.received_state()) {
            (SourceError::Refused(_), _) => ConnectionEnd::LoginRefused,
            (_, CameraState::Live) => ConnectionEnd::Delivered,
            _ => ConnectionEnd::Failed,
        };
        let wait = schedule.wait(end, started_at.elapsed(), fastrand::f64());
        let (text, now) = (error.to_string(), Timestamp::now());
        let is_known = match slot.received_state() {
            CameraState::Down { error, .. } | CameraState::Refused { error, .. } => error == text,
            _ => false,
        };
        if !is_known {
            tracing::warn!(%camera, retry_in = ?wait, "Camera down: {text}");
        }
        match end {
            ConnectionEnd::LoginRefused => slot.set_refused(text, now, now.checked_add(wait).unwrap_or(now)),
            _ => slot.set_down(text, error.class(), now),
        }
        slot.count_reconnect();
        let until = Instant::now() + wait;
        while !stop.load(Ordering::Relaxed) && Instant::now() < until {
            std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// A pipeline and what its callbacks report. It stops on drop.
struct RunningPipeline<'a> {
    settings: &'a SourceSettings,
    pipeline: gst::Pipeline,
    last_frame_at: Arc<Mutex<Instant>>,
    rejected: CertificateFaults,
}

impl Drop for RunningPipeline<'_> {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl RunningPipeline<'_> {
    /// Processes the bus until the source ends or `stop` is set.
    fn run(&self, stop: &AtomicBool) -> Result<(), SourceError> {
        let bus = self
            .pipeline
            .bus()
            .ok_or_else(|| SourceError::Missing("the pipeline has no bus".into()))?;
        // If this fails, the bus has the reason.
        let _ = self.pipeline.set_state(gst::State::Playing);
        while !stop.load(Ordering::Relaxed) {
            if let Some(message) = bus.timed_pop(STOP_POLL)
                && self.handle(&message)?.is_break()
            {
                break;
            }
            let idle = self
                .last_frame_at
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .elapsed();
            if idle > self.settings.idle {
                return Err(SourceError::NoFrames(self.settings.idle));
            }
        }
        Ok(())
    }

    /// Handles one bus message. Breaks at the end of a file.
    fn handle(&self, message: &gst::Message) -> Result<ControlFlow<()>, SourceError> {
        match message.view() {
            gst::MessageView::Error(e) => {
                if let Some(faults) = *self.rejected.lock().unwrap_or_else(PoisonError::into_inner) {
                    return Err(SourceError::UntrustedCertificate(faults));
                }
                if e.error().matches(gst::ResourceError::NotAuthorized) {
                    return Err(SourceError::Refused(error_text(e)));
                }
                return Err(SourceError::Pipeline {
                    element: e.src().map_or_else(String::new, |s| s.name().to_string()),
                    what: error_text(e),
                });
            }
            gst::MessageView::Eos(_) if !is_file(self.settings) => return Err(SourceError::Ended),
            gst::MessageView::Eos(_) if self.settings.looped => {
                let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
                if self.pipeline.seek_simple(flags, gst::ClockTime::ZERO).is_err() {
                    return Err(SourceError::Ended);
                }
            }
            gst::MessageView::Eos(_) => return Ok(ControlFlow::Break(())),
            gst::MessageView::Latency(_) => {
                let _ = self.pipeline.recalculate_latency();
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Runs the pipeline once. Returns `Ok` at the end of a file or when `stop` is set.
fn read(settings: &SourceSettings, slot: &Arc<Slot>, stop: &AtomicBool) -> Result<(), SourceError> {
    if is_file(settings) {
        expect_file(&settings.url)?;
    }
    // Before any element is created: this may be the first camera of the process.
    gst_frame::init().map_err(|e| SourceError::Missing(e.to_string()))?;
    let credentials = settings.credentials.as_ref().map(CredentialSource::read).transpose();
    let credentials = credentials.map_err(SourceError::Credentials)?;
    if let Some(path) = &settings.ca_file {
        gio::TlsFileDatabase::new(path).map_err(|e| SourceError::CaFile {
            path: path.clone(),
            what: e.to_string(),
        })?;
    }
    let last_frame_at = Arc::new(Mutex::new(Instant::now()));
    let sink = slot_sink(settings, slot, &last_frame_at);
    let mut url = settings.url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let rejected = CertificateFaults::default();
    let pipeline = build_pipeline(
        url.as_str(),
        &sink,
        {
            let (settings, rejected) = (settings.clone(), Arc::clone(&rejected));
            move |source| configure_source(source, &settings, credentials.as_ref(), &rejected)
        },
        frame_filter(settings),
    )
    .map_err(|e| SourceError::Missing(e.to_string()))?;
    let running = RunningPipeline {
        settings,
        pipeline,
        last_frame_at,
        rejected,
    };
    running.run(stop)
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

fn is_file(settings: &SourceSettings) -> bool {
    settings.url.scheme() == "file"
}

/// A sink that stores each frame in `slot` and its arrival in `last_frame_at`.
fn slot_sink(settings: &SourceSettings, slot: &Arc<Slot>, last_frame_at: &Arc<Mutex<Instant>>) -> gst_app::AppSink {
    let sink = gst_frame::frame_sink();
    // Files play in real time; live frames are taken as they come.
    sink.set_sync(is_file(settings));
    sink.set_max_buffers(1);
    sink.set_drop(true);
    let (slot, last_frame_at) = (Arc::clone(slot), Arc::clone(last_frame_at));
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                match gst_frame::frame(&sample, Timestamp::now()) {
                    Ok(frame) => {
                        *last_frame_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                        if slot.state() != CameraState::Live {
                            slot.set_state(CameraState::Live);
                        }
                        slot.count_received(1, frame.data.len() as u64, 0, frame.captured_at);
                        slot.store_frame(Arc::new(frame));
                        Ok(gst::FlowSuccess::Ok)
                    }
                    Err(error) => {
                        gst::element_error!(sink, gst::StreamError::Format, ["{error}"]);
                        Err(gst::FlowError::Error)
                    }
                }
            })
            .build(),
    );
    sink
}

/// Thins out the decoded frames to one per `settings.every`.
fn frame_filter(settings: &SourceSettings) -> impl FnMut(Option<gst::ClockTime>) -> bool + Send + 'static {
    let (every, is_file, started_at) = (settings.every, is_file(settings), Instant::now());
    let mut last_kept: Option<Duration> = None;
    move |pts| {
        // Files are filtered by their timestamps. Only the sink holds a file to real time, so with a filter by the clock
        // the whole file would be decoded at full speed and dropped.
        let now = match pts {
            Some(pts) if is_file => Duration::from(pts),
            _ => started_at.elapsed(),
        };
        // `now` goes back when a file restarts.
        let keep = last_kept.is_none_or(|last| now >= last + every || now < last);
        if keep {
            last_kept = Some(now);
        }
        keep
    }
}

/// GStreamer's error with the cause from its debug text, because the error alone ("could not open resource") is the same
/// for a wrong password and a closed port. Neither contains credentials, since the URL holds none.
fn error_text(message: &gst::message::Error) -> String {
    let error = message.error().to_string();
    match message.debug() {
        Some(debug) => match debug.lines().last().map(str::trim) {
            Some(cause) if !cause.is_empty() => format!("{error} {cause}"),
            _ => error,
        },
        None => error,
    }
}

/// The faults of a rejected certificate. GStreamer's own error (1.22) does not contain them.
type CertificateFaults = Arc<Mutex<Option<gio::TlsCertificateFlags>>>;

/// Sets credentials and trusted certificates on the source element, if it supports them.
fn configure_source(
    source: &gst::Element,
    settings: &SourceSettings,
    credentials: Option<&Credentials>,
    rejected: &CertificateFaults,
) {
    if let Some(credentials) = credentials
        && source.has_property("user-id")
        && source.has_property("user-pw")
    {
        source.set_property("user-id", credentials.user.expose());
        source.set_property("user-pw", credentials.password.expose());
    }
    if glib::subclass::SignalId::lookup("accept-certificate", source.type_()).is_some() {
        let rejected = Arc::clone(rejected);
        // The signal is emitted only for certificates with faults.
        source.connect("accept-certificate", false, move |values| {
            let faults = values.last().and_then(|v| v.get::<gio::TlsCertificateFlags>().ok());
            *rejected.lock().unwrap_or_else(PoisonError::into_inner) = faults;
            Some(false.to_value())
        });
    }
    // `read` has checked the file. If it has gone since, the system's authorities apply, and they trust no camera.
    if let Some(Ok(trusted)) = settings.ca_file.as_ref().map(gio::TlsFileDatabase::new)
        && source.has_property("tls-database")
        && source.has_property("tls-validation-flags")
    {
        source.set_property("tls-database", &trusted);
        // Cameras are addressed by IP, and their certificates carry a serial number.
        let without_host_name = gio::TlsCertificateFlags::VALIDATE_ALL - gio::TlsCertificateFlags::BAD_IDENTITY;
        source.set_property("tls-validation-flags", without_host_name);
    }
}

/// Builds `uridecodebin ! videoconvert ! sink` for the first video stream of `uri`. `configure` is called with the source
/// element. `keep` is called with the timestamp of each decoded frame; frames for which it returns false are dropped.
pub(super) fn build_pipeline(
    uri: &str,
    sink: &gst_app::AppSink,
    configure: impl Fn(&gst::Element) + Send + Sync + 'static,
    keep: impl FnMut(Option<gst::ClockTime>) -> bool + Send + 'static,
) -> Result<gst::Pipeline, glib::BoolError> {
    let source = gst::ElementFactory::make("uridecodebin")
        .property("uri", uri)
        // Any memory type: hardware decoders do not output system memory, and plain `video/x-raw` rejects even libav's
        // output (1.22).
        .property("caps", gst::Caps::builder("video/x-raw").any_features().build())
        // Do not decode audio.
        .property("expose-all-streams", false)
        .build()?;
    source.connect("source-setup", false, move |values| {
        if let Some(element) = values.get(1).and_then(|v| v.get::<gst::Element>().ok()) {
            configure(&element);
        }
        None
    });
    let convert = gst::ElementFactory::make("videoconvert")
        .property("n-threads", 1u32)
        .build()?;
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &convert, sink.upcast_ref()])?;
    convert.link(sink)?;
    // By default libav starts one thread per core for each camera.
    pipeline.connect_deep_element_added(|_, _, element| {
        if element.has_property("max-threads") {
            element.set_property("max-threads", 1i32);
        }
    });
    let input = convert
        .static_pad("sink")
        .ok_or_else(|| glib::bool_error!("videoconvert has a sink pad"))?;
    let keep = Mutex::new(keep);
    input.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let mut keep = keep.lock().unwrap_or_else(PoisonError::into_inner);
        if keep(info.buffer().and_then(|b| b.pts())) {
            gst::PadProbeReturn::Ok
        } else {
            // `PadProbeReturn::Drop` would log a GStreamer-CRITICAL per buffer.
            info.data = None;
            gst::PadProbeReturn::Handled
        }
    });
    source.connect_pad_added(move |_, pad| {
        if !input.is_linked() {
            // Fails only while the pipeline is shutting down.
            let _ = pad.link(&input);
        }
    });
    Ok(pipeline)
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
        };
        let _source = GstSource::spawn(settings, Arc::clone(&slot)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let CameraState::Down { error, class, .. } = slot.state() {
                return (error, class);
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
