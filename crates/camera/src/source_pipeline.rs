//! Reads one source with GStreamer in this process: anything that `uridecodebin` opens. Behind `gst_source`, which runs it in a confined process.
//!
//! Every frame is decoded, and nearly all are dropped right behind the decoder.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gstreamer as gst;
use gstreamer::{glib, prelude::*};
use gstreamer_app as gst_app;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{gst_frame, gst_source::SourceError};
use gridwatch_frame::Frame;

/// How to read one source: what its process is told. It has no `Debug`, because it holds the password.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SourceSetup {
    /// For `uridecodebin`, without user and password.
    pub(crate) url: String,
    pub(crate) login: Option<(String, String)>,
    pub(crate) ca_file: Option<PathBuf>,
    /// Least time between two frames.
    pub(crate) every: Duration,
    /// Restart a file at its end.
    pub(crate) looped: bool,
}

impl SourceSetup {
    pub(crate) fn is_file(&self) -> bool {
        self.url.starts_with("file:")
    }
}

/// What a source gives next.
pub(crate) enum Next {
    Frame(Frame),
    /// None came in time.
    Nothing,
    /// A file that plays once has ended.
    Ended,
}

/// A running source. It stops on drop.
pub(crate) struct SourcePipeline {
    pipeline: gst::Pipeline,
    is_file: bool,
    is_looped: bool,
    newest: Arc<Mutex<Option<Frame>>>,
    rejected: CertificateFaults,
}

impl Drop for SourcePipeline {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl SourcePipeline {
    /// Starts reading.
    pub(crate) fn start(setup: &SourceSetup) -> Result<Self, SourceError> {
        // Before any element is created: this may be the first camera of the process.
        gst_frame::init().map_err(|e| SourceError::Missing(e.to_string()))?;
        if let Some(path) = &setup.ca_file {
            gio::TlsFileDatabase::new(path).map_err(|e| SourceError::CaFile {
                path: path.clone(),
                what: e.to_string(),
            })?;
        }
        let newest = Arc::new(Mutex::new(None));
        let sink = newest_sink(setup, &newest);
        let rejected = CertificateFaults::default();
        let pipeline = build_pipeline(
            &setup.url,
            &sink,
            {
                let (setup, rejected) = (setup.clone(), Arc::clone(&rejected));
                move |source| configure_source(source, &setup, &rejected)
            },
            frame_filter(setup),
        )
        .map_err(|e| SourceError::Missing(e.to_string()))?;
        // If this fails, the bus has the reason.
        let _ = pipeline.set_state(gst::State::Playing);
        Ok(Self {
            pipeline,
            is_file: setup.is_file(),
            is_looped: setup.looped,
            newest,
            rejected,
        })
    }

    /// The newest frame that was not returned yet. Waits for it, no longer than `longest`.
    pub(crate) fn next(&self, longest: Duration) -> Result<Next, SourceError> {
        let deadline = Instant::now() + longest;
        let bus = self
            .pipeline
            .bus()
            .ok_or_else(|| SourceError::Missing("the pipeline has no bus".into()))?;
        loop {
            if let Some(frame) = self.newest.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Ok(Next::Frame(frame));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = gst::ClockTime::try_from(left).unwrap_or(gst::ClockTime::ZERO);
            // A new frame is a message, too.
            match bus.timed_pop(wait) {
                Some(message) => {
                    if self.handle(&message)?.is_break() {
                        return Ok(Next::Ended);
                    }
                }
                None => return Ok(Next::Nothing),
            }
            if left.is_zero() {
                return Ok(Next::Nothing);
            }
        }
    }

    /// Handles one bus message. Breaks at the end of a file.
    fn handle(&self, message: &gst::Message) -> Result<ControlFlow<()>, SourceError> {
        match message.view() {
            gst::MessageView::Error(e) => {
                if let Some(faults) = *self.rejected.lock().unwrap_or_else(PoisonError::into_inner) {
                    return Err(SourceError::UntrustedCertificate(format!("{faults:?}")));
                }
                if e.error().matches(gst::ResourceError::NotAuthorized) {
                    return Err(SourceError::Refused(error_text(e)));
                }
                let element = e.src().map_or_else(String::new, |s| s.name().to_string());
                return Err(SourceError::Pipeline(format!("{element}: {}", error_text(e))));
            }
            gst::MessageView::Eos(_) if !self.is_file => return Err(SourceError::Ended),
            gst::MessageView::Eos(_) if self.is_looped => {
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

/// A sink that stores each frame in `newest` and wakes who waits on the bus.
fn newest_sink(setup: &SourceSetup, newest: &Arc<Mutex<Option<Frame>>>) -> gst_app::AppSink {
    let sink = gst_frame::frame_sink();
    // Files play in real time; live frames are taken as they come.
    sink.set_sync(setup.is_file());
    sink.set_max_buffers(1);
    sink.set_drop(true);
    let newest = Arc::clone(newest);
    let new_sample = move |sink: &gst_app::AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        match gst_frame::frame(&sample, Timestamp::now()) {
            Ok(frame) => {
                *newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(frame);
                let message = gst::message::Application::builder(gst::Structure::new_empty("frame"));
                let _ = sink.post_message(message.src(sink).build());
                Ok(gst::FlowSuccess::Ok)
            }
            Err(error) => {
                gst::element_error!(sink, gst::StreamError::Format, ["{error}"]);
                Err(gst::FlowError::Error)
            }
        }
    };
    sink.set_callbacks(gst_app::AppSinkCallbacks::builder().new_sample(new_sample).build());
    sink
}

/// Thins out the decoded frames to one per `setup.every`.
fn frame_filter(setup: &SourceSetup) -> impl FnMut(Option<gst::ClockTime>) -> bool + Send + 'static {
    let (every, is_file, started_at) = (setup.every, setup.is_file(), Instant::now());
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
fn configure_source(source: &gst::Element, setup: &SourceSetup, rejected: &CertificateFaults) {
    if let Some((user, password)) = &setup.login
        && source.has_property("user-id")
        && source.has_property("user-pw")
    {
        // GStreamer would send the login to whatever host a redirect names.
        if source.has_property("automatic-redirect") {
            source.set_property("automatic-redirect", false);
        }
        source.set_property("user-id", user);
        source.set_property("user-pw", password);
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
    // `start` has checked the file. If it has gone since, the system's authorities apply, and they trust no camera.
    if let Some(Ok(trusted)) = setup.ca_file.as_ref().map(gio::TlsFileDatabase::new)
        && source.has_property("tls-database")
        && source.has_property("tls-validation-flags")
    {
        source.set_property("tls-database", &trusted);
        // Cameras are addressed by IP, and their certificates carry a serial number.
        let without_host_name = gio::TlsCertificateFlags::VALIDATE_ALL - gio::TlsCertificateFlags::BAD_IDENTITY;
        source.set_property("tls-validation-flags", without_host_name);
    }
}

const JPEG_DECODERS: [&str; 2] = ["avdec_mjpeg", "jpegdec"];

/// Drops JPEG pictures without an end: decoders fill what is missing with grey.
fn drop_cut_pictures(decoder: &gst::Element) {
    let Some(input) = decoder.static_pad("sink") else {
        return;
    };
    input.add_probe(gst::PadProbeType::BUFFER, |pad, info| {
        // In a segment of bytes, a buffer is any piece of a file.
        let segment = pad.sticky_event::<gst::event::Segment>(0);
        let are_pictures = segment.is_some_and(|s| s.segment().format() == gst::Format::Time);
        let data = info.buffer().and_then(|b| b.map_readable().ok());
        if are_pictures && data.is_some_and(|data| is_cut_jpeg(&data)) {
            info.data = None;
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
}

/// True for a JPEG whose end marker is missing. Between the start of the last scan and the end of the picture, no data contains the marker
/// (ITU-T T.81, B.1.1.5).
fn is_cut_jpeg(data: &[u8]) -> bool {
    let last = |marker: u8| memchr::memmem::rfind(data, &[0xff, marker]);
    data.starts_with(&[0xff, 0xd8]) && last(0xd9) <= last(0xda)
}

/// Builds `uridecodebin ! videoconvert ! sink` for the first video stream of `uri`. `configure` is called with the source
/// element. `keep` is called with the timestamp of each decoded frame; frames for which it returns false are dropped.
pub(crate) fn build_pipeline(
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
        let factory = element.factory().map(|f| f.name());
        if factory.is_some_and(|name| JPEG_DECODERS.contains(&name.as_str())) {
            drop_cut_pictures(element);
        }
        // MJPEG over HTTP is one stream. Without this, the demultiplexer does not say that no other follows, and decodebin waits for 2 MB before it
        // decodes: minutes at a few small pictures a second.
        if element.has_property("single-stream") {
            element.set_property("single-stream", true);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_without_its_end_is_cut() {
        let head = b"\xff\xd8\xff\xe1thumbnail\xff\xda..\xff\xd9\xff\xda";
        let whole = [&head[..], b"entropy\xff\x00coded\xff\xd9"].concat();
        assert!(!is_cut_jpeg(&whole));
        assert!(!is_cut_jpeg(&[&whole[..], b"\r\n\0\0"].concat()), "padding follows");
        assert!(is_cut_jpeg(&whole[..whole.len() - 3]));
        assert!(is_cut_jpeg(head), "the end is the thumbnail's");
        assert!(!is_cut_jpeg(b"no JPEG"));
    }
}
