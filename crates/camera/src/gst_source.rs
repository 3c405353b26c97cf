//! The second kind of camera: whatever GStreamer's `uridecodebin` opens. Files, `rtsps`, HTTP, MJPEG.
//!
//! Owns one thread and one pipeline a camera, and fills the same [`Slot`] with decoded pictures. It decodes every frame
//! and throws nearly all away, directly behind the decoder: dear next to `receive`, which is why a plain `rtsp` camera
//! never comes here.

use std::{
    fmt,
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
    backoff::Backoff,
    gst_frame,
    slot::{Slot, State},
};
use gridwatch_base::{error::Class, secret::Credentials};
use gridwatch_engine::CameraId;

/// How often the thread looks whether it is to stop.
const POLL: gst::ClockTime = gst::ClockTime::from_mseconds(200);

/// A source to read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The camera's id.
    pub camera: CameraId,
    /// What `uridecodebin` is to open. A user or password in it is not used.
    pub url: Url,
    /// For sources that know `user-id` and `user-pw` (RTSP, HTTP).
    pub credentials: Option<Credentials>,
    /// For sources over TLS: PEM of the only authority that is believed, whatever name its certificates state. `None`: the
    /// system's authorities, and the name must be right.
    pub ca_file: Option<PathBuf>,
    /// Pictures nearer to each other than this are thrown away undelivered; half of `look_every` is right.
    pub every: Duration,
    /// A file starts again at its end. Otherwise the camera ends with it.
    pub looped: bool,
    /// Without a picture for so long, the source counts as dead.
    pub idle: Duration,
}

/// Why a source stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// GStreamer's own words.
    #[error("{element}: {what}")]
    Pipeline {
        /// Which element says so.
        element: String,
        /// What.
        what: String,
    },
    /// Whom to believe cannot be read.
    #[error("ca_file {}: {what}: a PEM file with the camera's certificate or its authority's is needed", .path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// What GIO says.
        what: String,
    },
    /// The camera does not prove who it is.
    #[error(
        "the camera's certificate is not believed ({0:?}): name it, or its authority's, as the camera's ca_file; `openssl \
         s_client -connect HOST:PORT` shows it"
    )]
    Certificate(gio::TlsCertificateFlags),
    /// It gives nothing.
    #[error("no picture for {0:?}")]
    Idle(Duration),
    /// A live source came to an end.
    #[error("the source has ended")]
    Ended,
    /// GStreamer lacks something.
    #[error("GStreamer: {0}; install the packages that edge-deploy/setup.sh names")]
    Missing(String),
    /// Our fault, or a binding's.
    #[error("the source failed inside: {0}; please report it")]
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

    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Missing(_) | Self::Authority { .. } | Self::Certificate(_) => Class::Config,
            Self::Panicked(_) => Class::Bug,
            _ => Class::Transient,
        }
    }
}

/// A source at work. Dropping it ends it.
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
    /// The system gives no thread.
    pub fn spawn(settings: Settings, slot: Arc<Slot>) -> std::io::Result<Self> {
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

    /// Where its pictures are.
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

fn supervise(settings: &Settings, slot: &Arc<Slot>, stop: &AtomicBool) {
    let camera = &settings.camera;
    let mut backoff = Backoff::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        // A panic is this camera's error like any other: a thread that is silently gone would leave it "live" for ever.
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(settings, slot, stop)));
        let error = match run.unwrap_or_else(|panic| Err(SourceError::panicked(&*panic))) {
            Ok(()) => {
                if !stop.load(Ordering::Relaxed) {
                    slot.set_state(State::Ended);
                    tracing::info!(%camera, "The file has been read to its end.");
                }
                return;
            }
            Err(error) => error,
        };
        let live = match slot.state() {
            State::Live => began.elapsed(),
            _ => Duration::ZERO,
        };
        let wait = backoff.failed(live, fastrand::f64());
        let text = error.to_string();
        if !matches!(slot.state(), State::Down { error, .. } if error == text) {
            tracing::warn!(%camera, ?wait, "Camera is away: {text}. It is tried again.");
        }
        slot.set_down(text, Timestamp::now());
        slot.count_reconnect();
        let until = Instant::now() + wait;
        while !stop.load(Ordering::Relaxed) && Instant::now() < until {
            std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

/// Stops the pipeline however reading ends.
struct Running(gst::Pipeline);
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// One run of the pipeline. `Ok` at the end of a file, or when told to stop.
fn read(settings: &Settings, slot: &Arc<Slot>, stop: &AtomicBool) -> Result<(), SourceError> {
    let missing = |e: glib::BoolError| SourceError::Missing(e.to_string());
    // Before anything of GStreamer is made: this may be the first camera of the process.
    gst_frame::init().map_err(|e| SourceError::Missing(e.to_string()))?;
    let file = settings.url.scheme() == "file";
    let sink = gst_frame::picture_sink();
    // A file is shown as fast as it was filmed; what is live comes when it comes.
    sink.set_sync(file);
    sink.set_max_buffers(1);
    sink.set_drop(true);
    let last = Arc::new(Mutex::new(Instant::now()));
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample({
                let (slot, last) = (Arc::clone(slot), Arc::clone(&last));
                move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    match gst_frame::frame(&sample, Timestamp::now()) {
                        Ok(frame) => {
                            *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                            if slot.state() != State::Live {
                                slot.set_state(State::Live);
                            }
                            slot.count_frame(frame.data.len(), 0, frame.captured_at);
                            slot.offer_frame(Arc::new(frame));
                            Ok(gst::FlowSuccess::Ok)
                        }
                        Err(error) => {
                            gst::element_error!(sink, gst::StreamError::Format, ["{error}"]);
                            Err(gst::FlowError::Error)
                        }
                    }
                }
            })
            .build(),
    );
    let mut url = settings.url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let refused = Refused::default();
    if let Some(path) = &settings.ca_file {
        gio::TlsFileDatabase::new(path).map_err(|e| SourceError::Authority {
            path: path.clone(),
            what: e.to_string(),
        })?;
    }
    let pipeline = decoding(
        url.as_str(),
        &sink,
        {
            let (settings, refused) = (settings.clone(), Arc::clone(&refused));
            move |source| prepare(source, &settings, &refused)
        },
        {
            let (every, began) = (settings.every, Instant::now());
            let mut last: Option<Duration> = None;
            move |pts| {
                // A file would be decoded to its end at once if nothing reached the sink, which keeps the time: so its
                // pictures are chosen by the file's own time, those of a live source by the clock.
                let now = match pts {
                    Some(pts) if file => Duration::from(pts),
                    _ => began.elapsed(),
                };
                // Time goes back where a loop starts again.
                let keep = last.is_none_or(|last| now >= last + every || now < last);
                if keep {
                    last = Some(now);
                }
                keep
            }
        },
    )
    .map_err(missing)?;
    let running = Running(pipeline);
    let pipeline = &running.0;
    let bus = pipeline
        .bus()
        .ok_or_else(|| SourceError::Missing("a pipeline has a bus".into()))?;
    // An error to change state is on the bus, with its reason.
    let _ = pipeline.set_state(gst::State::Playing);
    while !stop.load(Ordering::Relaxed) {
        if let Some(message) = bus.timed_pop(POLL) {
            match message.view() {
                gst::MessageView::Error(e) => {
                    if let Some(faults) = *refused.lock().unwrap_or_else(PoisonError::into_inner) {
                        return Err(SourceError::Certificate(faults));
                    }
                    return Err(SourceError::Pipeline {
                        element: e.src().map_or_else(String::new, |s| s.name().to_string()),
                        what: reason(e),
                    });
                }
                gst::MessageView::Eos(_) if file && settings.looped => {
                    let start = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
                    if pipeline.seek_simple(start, gst::ClockTime::ZERO).is_err() {
                        return Err(SourceError::Ended);
                    }
                }
                gst::MessageView::Eos(_) if file => return Ok(()),
                gst::MessageView::Eos(_) => return Err(SourceError::Ended),
                gst::MessageView::Latency(_) => {
                    let _ = pipeline.recalculate_latency();
                }
                _ => {}
            }
        }
        let idle = last.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if idle > settings.idle {
            return Err(SourceError::Idle(settings.idle));
        }
    }
    Ok(())
}

/// GStreamer's error, with the cause that it keeps for its debug text: "could not open resource" is said of a wrong
/// password and of a closed port alike. Neither names credentials: the URL holds none.
fn reason(message: &gst::message::Error) -> String {
    let error = message.error().to_string();
    match message.debug() {
        Some(debug) => match debug.lines().last().map(str::trim) {
            Some(cause) if !cause.is_empty() => format!("{error} {cause}"),
            _ => error,
        },
        None => error,
    }
}

/// What was wrong with a certificate, where one was refused: GStreamer's own error (1.22) does not tell.
type Refused = Arc<Mutex<Option<gio::TlsCertificateFlags>>>;

/// Tells the element that reads who we are and whom it may believe, where it wants to know.
fn prepare(source: &gst::Element, settings: &Settings, refused: &Refused) {
    if let Some(credentials) = &settings.credentials
        && source.has_property("user-id")
        && source.has_property("user-pw")
    {
        source.set_property("user-id", credentials.user.expose());
        source.set_property("user-pw", credentials.password.expose());
    }
    if glib::subclass::SignalId::lookup("accept-certificate", source.type_()).is_some() {
        let refused = Arc::clone(refused);
        // Asked only about a certificate that is at fault.
        source.connect("accept-certificate", false, move |values| {
            let faults = values.last().and_then(|v| v.get::<gio::TlsCertificateFlags>().ok());
            *refused.lock().unwrap_or_else(PoisonError::into_inner) = faults;
            Some(false.to_value())
        });
    }
    // The file was read a moment ago. Where it has gone since, the system's authorities count, who know no camera.
    if let Some(Ok(trusted)) = settings.ca_file.as_ref().map(gio::TlsFileDatabase::new)
        && source.has_property("tls-database")
        && source.has_property("tls-validation-flags")
    {
        source.set_property("tls-database", &trusted);
        // Cameras are called by their address and state a serial number.
        let all_but_the_name = gio::TlsCertificateFlags::VALIDATE_ALL - gio::TlsCertificateFlags::BAD_IDENTITY;
        source.set_property("tls-validation-flags", all_but_the_name);
    }
}

/// `uridecodebin ! videoconvert ! sink` for the first video of `uri`. `prepare` gets the element that reads; `keep` is asked of each picture, by its time,
/// as it leaves the decoder.
pub(super) fn decoding(
    uri: &str,
    sink: &gst_app::AppSink,
    prepare: impl Fn(&gst::Element) + Send + Sync + 'static,
    keep: impl FnMut(Option<gst::ClockTime>) -> bool + Send + 'static,
) -> Result<gst::Pipeline, glib::BoolError> {
    let source = gst::ElementFactory::make("uridecodebin")
        .property("uri", uri)
        // Whatever memory it lies in: a hardware decoder's is not the system's, and plain `video/x-raw` refuses even
        // libav (1.22).
        .property("caps", gst::Caps::builder("video/x-raw").any_features().build())
        // Sound is not even decoded.
        .property("expose-all-streams", false)
        .build()?;
    source.connect("source-setup", false, move |values| {
        if let Some(element) = values.get(1).and_then(|v| v.get::<gst::Element>().ok()) {
            prepare(&element);
        }
        None
    });
    let convert = gst::ElementFactory::make("videoconvert")
        .property("n-threads", 1u32)
        .build()?;
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &convert, sink.upcast_ref()])?;
    convert.link(sink)?;
    // libav starts a thread a core for each camera unless told not to.
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
            // `Drop` would log a GStreamer-CRITICAL for each buffer.
            info.data = None;
            gst::PadProbeReturn::Handled
        }
    });
    source.connect_pad_added(move |_, pad| {
        if !input.is_linked() {
            // Refused only if the pipeline is being taken down.
            let _ = pad.link(&input);
        }
    });
    Ok(pipeline)
}

/// The `file://` address of `path`.
///
/// # Errors
/// The path has no absolute form.
pub fn file_url(path: &Path) -> std::io::Result<Url> {
    let path = std::path::absolute(path)?;
    Url::from_file_path(&path).map_err(|()| std::io::Error::other(format!("{} is no absolute path", path.display())))
}
