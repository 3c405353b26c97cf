//! Decodes single keyframes without delay in this process: one keyframe in, one frame out.
//!
//! A [`PipelineDecoder`] owns the decoding pipelines of one look worker: one per codec, shared by all cameras, because a keyframe
//! with its parameter sets decodes alone. Damaged keyframes are reported as errors; no partial picture is returned.
//!
//! How a stream decoder is made to serve single pictures:
//!
//! - **No delay.** Decoders hold pictures back for reordering: one per thread, two for B-frames. With one thread and
//!   a SEGMENT flagged `TRICKMODE | TRICKMODE_KEY_UNITS` on its sink pad, the decoder drains after every picture. A GAP
//!   event follows each keyframe: once it comes out, everything before it has, so a keyframe that yields no picture is
//!   detected at once instead of by timeout.
//! - **No copy.** The frame stays in the decoder's buffer, which becomes [`Frame::data`].
//! - **No concealed errors.** Decoders fill undecodable areas with plausible samples, and libav's for H.265 does not even log it. So the slices are
//!   checked before decoding ([`gridwatch_bitstream::SliceCheck`]), and libav's log messages are counted (`gst_frame`).
//!
//! The pipeline's source is named after the decoder, and so is its thread (`decode0:src`), so that a benchmark can tell
//! how much CPU time decoding takes.
//!
//! An element that fails to start, or a hardware decoder that fails on its first keyframe, is left out for a while and tried again: the cause may
//! have been a moment without descriptors or memory.

use std::{
    sync::{atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::DecodeError;
use crate::{
    Backend, Codec, Keyframe,
    gst_frame::{self, ConcealmentCount, SampleError},
};
use gridwatch_base::backoff::Backoff;
use gridwatch_frame::Frame;

/// Pause after a failure of the software decoder.
const SOFTWARE_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Pause after a failure of a hardware decoder. A driver that hangs costs one look each time.
const HARDWARE_RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// How often the pipeline's errors are read while a keyframe is decoded.
const ERROR_POLL: Duration = Duration::from_millis(100);

/// Decodes keyframes of any camera for one look worker.
pub(super) struct PipelineDecoder {
    name: String,
    backend: Backend,
    timeout: Duration,
    h264: CodecDecoders,
    h265: CodecDecoders,
    serial: u64,
}

/// The decoders of one codec: the elements to try and the running pipeline.
#[derive(Default)]
struct CodecDecoders {
    /// Best last; `None` before the first keyframe.
    candidates: Option<Vec<Candidate>>,
    pipeline: Option<DecodePipeline>,
}

/// A decoder element to try.
pub(crate) struct Candidate {
    element: String,
    is_hardware: bool,
    backoff: Backoff,
    /// It failed and is not tried before.
    retry_at: Option<Instant>,
}

impl Candidate {
    fn new(element: &str, is_hardware: bool) -> Self {
        let (first, longest) = if is_hardware { HARDWARE_RETRY } else { SOFTWARE_RETRY };
        Self {
            element: element.to_owned(),
            is_hardware,
            backoff: Backoff::new(first, longest),
            retry_at: None,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| at <= now)
    }

    fn fail(&mut self) {
        self.retry_at = Some(Instant::now() + self.backoff.next_delay(fastrand::f64()));
    }

    fn succeed(&mut self) {
        self.retry_at = None;
        self.backoff.reset();
    }
}

impl PipelineDecoder {
    /// Creates a decoder whose threads are named after `name`, at most 11 bytes long. A keyframe that takes longer than `timeout` is an error.
    pub(super) fn new(name: &str, backend: Backend, timeout: Duration) -> Result<Self, DecodeError> {
        gst_frame::init().map_err(|e| DecodeError::Broken(e.to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            backend,
            timeout,
            h264: CodecDecoders::default(),
            h265: CodecDecoders::default(),
            serial: 0,
        })
    }

    /// Loads the plugins of the hardware elements that may be needed and opens the best decoder of each codec, so that decoding opens no more files.
    /// Returns the hardware elements; without any, software decoders open when they are needed, with what [`preload`] has loaded.
    pub(super) fn prepare(&mut self) -> Vec<String> {
        let mut hardware = Vec::new();
        for codec in [Codec::H264, Codec::H265] {
            let mut candidates = candidates(codec, self.backend);
            if candidates.iter().all(|candidate| !candidate.is_hardware) {
                self.decoders(codec).candidates = Some(candidates);
                continue;
            }
            for candidate in &candidates {
                // An element that cannot be made fails again, and is reported, when it is needed.
                let _ = gst::ElementFactory::make(&candidate.element).build();
                if candidate.is_hardware {
                    hardware.push(candidate.element.clone());
                }
            }
            if let Some(best) = candidates.last_mut() {
                match DecodePipeline::open(&self.name, codec, best) {
                    Ok(pipeline) => self.decoders(codec).pipeline = Some(pipeline),
                    Err(_) => best.fail(),
                }
            }
            self.decoders(codec).candidates = Some(candidates);
        }
        hardware
    }

    /// The GStreamer element in use for `codec`; `None` before its first keyframe.
    pub(super) fn element(&self, codec: Codec) -> Option<&str> {
        let decoders = match codec {
            Codec::H264 => &self.h264,
            Codec::H265 => &self.h265,
        };
        let used = decoders.pipeline.as_ref().filter(|p| p.is_playing);
        used.map(|p| p.element.as_str())
    }

    fn decoders(&mut self, codec: Codec) -> &mut CodecDecoders {
        match codec {
            Codec::H264 => &mut self.h264,
            Codec::H265 => &mut self.h265,
        }
    }

    /// Decodes `keyframe`. The decoder remains usable after every error.
    pub(super) fn decode(&mut self, keyframe: &Keyframe) -> Result<Frame, DecodeError> {
        self.serial += 1;
        let decoders = match keyframe.codec {
            Codec::H264 => &mut self.h264,
            Codec::H265 => &mut self.h265,
        };
        let candidates = decoders
            .candidates
            .get_or_insert_with(|| candidates(keyframe.codec, self.backend));
        // A better decoder than the running one whose pause is over.
        if let Some(running) = &decoders.pipeline
            && let now = Instant::now()
            && let Some(best) = candidates.iter().rev().find(|c| c.is_due(now))
            && best.element != running.element
            && best.is_hardware
        {
            decoders.pipeline = None;
        }
        // Until an element has decoded a picture, its failure leads to the next best.
        let mut tried = Vec::new();
        loop {
            let pipeline = match &mut decoders.pipeline {
                Some(pipeline) => pipeline,
                None => {
                    let now = Instant::now();
                    let Some(candidate) = candidates.iter_mut().rev().find(|c| c.is_due(now)) else {
                        return Err(no_decoder(keyframe.codec, self.backend, candidates, &tried));
                    };
                    match DecodePipeline::open(&self.name, keyframe.codec, candidate) {
                        Ok(pipeline) => decoders.pipeline.insert(pipeline),
                        Err(error) => {
                            tracing::debug!(element = candidate.element, "Decoder failed to start: {error}");
                            tried.push(candidate.element.clone());
                            candidate.fail();
                            continue;
                        }
                    }
                }
            };
            let result = pipeline.decode(keyframe, self.serial, self.timeout);
            let candidate = candidates.iter_mut().find(|c| c.element == pipeline.element);
            match result {
                Ok(frame) => {
                    if !pipeline.proven {
                        pipeline.proven = true;
                        log_choice(pipeline, self.backend, keyframe.codec);
                        if let Some(candidate) = candidate {
                            candidate.succeed();
                        }
                    }
                    return Ok(frame);
                }
                Err(error) => {
                    let unproven = !pipeline.proven && pipeline.is_hardware;
                    // A pipeline that does not even start says nothing about the keyframe.
                    let unstarted = !pipeline.is_playing;
                    if unproven || unstarted || pipeline.broken {
                        decoders.pipeline = None;
                    }
                    // Until a hardware decoder has worked once, its errors are not blamed on the keyframe.
                    if (unproven || unstarted)
                        && let Some(failed) = candidate
                    {
                        tracing::debug!(
                            element = failed.element,
                            "Decoder failed on its first keyframe: {error}"
                        );
                        tried.push(failed.element.clone());
                        failed.fail();
                        continue;
                    }
                    return Err(error);
                }
            }
        }
    }
}

fn no_decoder(codec: Codec, backend: Backend, candidates: &[Candidate], tried: &[String]) -> DecodeError {
    let now = Instant::now();
    let mut names: Vec<String> = tried.to_vec();
    for paused in candidates.iter().filter(|c| !tried.contains(&c.element)) {
        let left = paused
            .retry_at
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        names.push(format!("{}, again in {} s", paused.element, left.as_secs() + 1));
    }
    DecodeError::NoDecoder {
        codec,
        backend,
        tried: if names.is_empty() {
            "none installed".into()
        } else {
            names.join(", ")
        },
        hint: hint(backend, is_out_of_files()),
    }
}

/// What to do about a missing decoder.
pub(super) fn hint(backend: Backend, is_out_of_files: bool) -> &'static str {
    match backend {
        _ if is_out_of_files => "no more files can be opened: raise LimitNOFILE= in the service's unit (ulimit -n)",
        Backend::Hardware => "set decode.backend = \"auto\", or install the driver's GStreamer plugin",
        _ => "install gstreamer1.0-libav and gstreamer1.0-plugins-bad",
    }
}

fn log_choice(pipeline: &DecodePipeline, backend: Backend, codec: Codec) {
    let element = pipeline.element.as_str();
    if pipeline.is_hardware {
        tracing::info!(element, ?codec, "Using hardware decoder");
    } else if backend == Backend::Auto && !hardware(codec).is_empty() {
        tracing::warn!(
            element,
            ?codec,
            "Hardware decoders present but none works; using software decoder"
        );
    } else {
        tracing::debug!(element, ?codec, "Using software decoder");
    }
}

pub(crate) fn software(codec: Codec) -> Candidate {
    Candidate::new(software_element(codec), false)
}

pub(super) fn software_element(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "avdec_h264",
        Codec::H265 => "avdec_h265",
    }
}

/// Loads the plugins of the software decoders, and returns the hardware decoders in GStreamer's registry. Opens no element, so that this process can fork:
/// an open one has descriptors that the forked processes would share.
pub(super) fn preload() -> Result<Vec<String>, String> {
    gst_frame::init().map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    for codec in [Codec::H264, Codec::H265] {
        let element = gst::ElementFactory::make(software_element(codec));
        // Without them, each worker says what is missing.
        let _ = (element.build(), gst::ElementFactory::make(parser(codec)).build());
        found.extend(hardware(codec).into_iter().map(|candidate| candidate.element));
    }
    for element in ["appsrc", "appsink", "videoconvert"] {
        let _ = gst::ElementFactory::make(element).build();
    }
    Ok(found)
}

fn parser(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "h264parse",
        Codec::H265 => "h265parse",
    }
}

/// The hardware decoders for `codec` in GStreamer's registry, best last.
fn hardware(codec: Codec) -> Vec<Candidate> {
    let caps = byte_stream_caps(codec);
    let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
    // From rank NONE: Debian gives the new VA and V4L2 decoders this rank, although they work.
    let mut found: Vec<_> = gst::ElementFactory::factories_with_type(kind, gst::Rank::NONE)
        .into_iter()
        .filter(|f| f.metadata("klass").is_some_and(|k| k.contains("Hardware")) && f.can_sink_any_caps(&caps))
        .collect();
    found.sort_by_key(|f| f.rank());
    found.into_iter().map(|f| Candidate::new(&f.name(), true)).collect()
}

fn candidates(codec: Codec, backend: Backend) -> Vec<Candidate> {
    match backend {
        Backend::Software => vec![software(codec)],
        Backend::Hardware => hardware(codec),
        Backend::Auto => {
            let mut all = vec![software(codec)];
            all.extend(hardware(codec));
            all
        }
    }
}

/// Caps of complete access units in Annex B format.
pub(crate) fn byte_stream_caps(codec: Codec) -> gst::Caps {
    gst::Caps::builder(match codec {
        Codec::H264 => "video/x-h264",
        Codec::H265 => "video/x-h265",
    })
    .field("stream-format", "byte-stream")
    .field("alignment", "au")
    .build()
}

/// Builds `source ! parser ! decoder ! videoconvert ! sink` and returns it with the decoder's sink pad. videoconvert passes
/// I420 and NV12 through unchanged.
pub(crate) fn build_pipeline(
    source: &gst_app::AppSrc,
    codec: Codec,
    candidate: &Candidate,
    sink: &gst_app::AppSink,
    concealments: &ConcealmentCount,
) -> Result<(gst::Pipeline, gst::Pad), gst::glib::BoolError> {
    let parser = gst::ElementFactory::make(parser(codec)).build()?;
    let decoder = gst::ElementFactory::make(&candidate.element).build()?;
    // One thread: no frame is held back, and log messages come on the streaming thread.
    if decoder.has_property("max-threads") {
        decoder.set_property("max-threads", 1i32);
    }
    // With it, libav decodes into two buffers of GStreamer's, and those of pictures with a coded height beyond their own (1080p) are copied to two more.
    // Without, into one of its own.
    if decoder.has_property("direct-rendering") {
        decoder.set_property("direct-rendering", false);
    }
    let convert = gst::ElementFactory::make("videoconvert")
        .property("n-threads", 1u32)
        .build()?;
    let pipeline = gst::Pipeline::new();
    let chain = [source.upcast_ref(), &parser, &decoder, &convert, sink.upcast_ref()];
    pipeline.add_many(chain)?;
    gst::Element::link_many(chain)?;
    let input = decoder
        .static_pad("sink")
        .ok_or_else(|| gst::glib::bool_error!("{} has no sink pad", candidate.element))?;
    gst_frame::count_concealments(&input, concealments);
    Ok((pipeline, input))
}

/// Output of a pipeline, in order.
enum DecoderOutput {
    Picture(gst::Sample),
    /// The GAP event with this timestamp: everything pushed before it has come out.
    Gap(gst::ClockTime),
}

/// A running decoding pipeline.
struct DecodePipeline {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    outputs: mpsc::Receiver<DecoderOutput>,
    concealments: ConcealmentCount,
    element: String,
    is_hardware: bool,
    is_playing: bool,
    /// It has decoded a picture.
    proven: bool,
    /// It must be replaced.
    broken: bool,
}

impl DecodePipeline {
    /// Builds the pipeline and opens its devices; no thread runs yet.
    fn open(name: &str, codec: Codec, candidate: &Candidate) -> Result<Self, DecodeError> {
        let broken = |e: gst::glib::BoolError| DecodeError::Broken(e.to_string());
        let source = gst_app::AppSrc::builder()
            .name(name)
            .caps(&byte_stream_caps(codec))
            .format(gst::Format::Time)
            .is_live(false)
            .max_bytes(0)
            .build();
        let sink = gst_frame::frame_sink();
        let outputs = collect_outputs(&sink);
        let concealments = ConcealmentCount::default();
        let (pipeline, input) = build_pipeline(&source, codec, candidate, &sink, &concealments).map_err(broken)?;
        drain_every_keyframe(&input);
        let this = Self {
            pipeline,
            source,
            outputs,
            concealments,
            element: candidate.element.clone(),
            is_hardware: candidate.is_hardware,
            is_playing: false,
            proven: false,
            broken: false,
        };
        this.pipeline
            .set_state(gst::State::Ready)
            .map_err(|e| DecodeError::Broken(e.to_string()))?;
        Ok(this)
    }

    fn decode(&mut self, keyframe: &Keyframe, serial: u64, timeout: Duration) -> Result<Frame, DecodeError> {
        if !self.is_playing {
            self.pipeline
                .set_state(gst::State::Playing)
                .map_err(|e| DecodeError::Broken(e.to_string()))?;
            self.is_playing = true;
        }
        let damaged = |what: String| DecodeError::Damaged {
            camera: keyframe.camera.clone(),
            what,
        };
        // A second apart, so that the decoder does not take pictures of different cameras as simultaneous.
        let pts = gst::ClockTime::from_seconds(serial);
        let mut buffer = gst::Buffer::from_slice(keyframe.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(pts);
            buffer.set_dts(pts);
        }
        self.concealments.store(0, Ordering::Relaxed);
        let pushed = self.source.push_buffer(buffer).is_ok()
            && self.source.send_event(gst::event::Gap::new(pts, gst::ClockTime::NONE));
        let mut picture = None;
        let mut done = false;
        let mut bus_error = None;
        if pushed {
            let deadline = Instant::now() + timeout;
            // Outputs with another timestamp are left over from a keyframe that timed out.
            while !done {
                let left = deadline.saturating_duration_since(Instant::now());
                match self.outputs.recv_timeout(left.min(ERROR_POLL)) {
                    Ok(DecoderOutput::Picture(sample)) => {
                        if sample.buffer().and_then(|b| b.pts()) == Some(pts) {
                            picture = Some(sample);
                        }
                    }
                    Ok(DecoderOutput::Gap(at)) => done = at == pts,
                    // After an error nothing comes out any more.
                    Err(mpsc::RecvTimeoutError::Timeout) if left > ERROR_POLL => {
                        bus_error = gst_frame::bus_error(&self.pipeline);
                        if bus_error.is_some() {
                            break;
                        }
                    }
                    Err(_) => break,
                }
            }
        }
        if let Some(error) = bus_error.or_else(|| gst_frame::bus_error(&self.pipeline)) {
            self.broken = true;
            return Err(damaged(format!("{} reports: {error}", self.element)));
        }
        if !done {
            self.broken = true;
            return Err(DecodeError::Timeout {
                camera: keyframe.camera.clone(),
                element: self.element.clone(),
            });
        }
        let Some(sample) = picture else {
            return Err(damaged(format!("{} outputs no picture", self.element)));
        };
        let concealments = self.concealments.load(Ordering::Relaxed);
        if concealments > 0 {
            return Err(damaged(format!(
                "{} concealed errors ({concealments} messages)",
                self.element
            )));
        }
        let corrupted = sample
            .buffer()
            .is_some_and(|b| b.flags().contains(gst::BufferFlags::CORRUPTED));
        if corrupted {
            return Err(damaged(format!("{} flags the picture as corrupted", self.element)));
        }
        gst_frame::frame(&sample, keyframe.captured_at).map_err(|e: SampleError| DecodeError::Broken(e.to_string()))
    }
}

impl Drop for DecodePipeline {
    fn drop(&mut self) {
        // Stopping a hung decoder may block forever, so it gets a thread of its own.
        let pipeline = self.pipeline.clone();
        if self.broken {
            let _ = std::thread::Builder::new()
                .name("decode-stop".into())
                .spawn(move || pipeline.set_state(gst::State::Null));
        } else {
            let _ = pipeline.set_state(gst::State::Null);
        }
    }
}

/// True if this process or the system has reached its limit of open files, which GStreamer reports as a plugin that does not load.
fn is_out_of_files() -> bool {
    /// Linux: `ENFILE` and `EMFILE`.
    const LIMIT_REACHED: [i32; 2] = [23, 24];
    std::fs::File::open("/dev/null").is_err_and(|e| e.raw_os_error().is_some_and(|code| LIMIT_REACHED.contains(&code)))
}

/// Receives the sink's pictures and GAP events. appsink (1.22) does not report GAP events, so a pad probe does.
fn collect_outputs(sink: &gst_app::AppSink) -> mpsc::Receiver<DecoderOutput> {
    let (pictures, outputs) = mpsc::channel();
    let gaps = pictures.clone();
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                // Fails only after the decoder was dropped.
                let _ = pictures.send(DecoderOutput::Picture(sample));
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    if let Some(pad) = sink.static_pad("sink") {
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(event) = info.event()
                && let gst::EventView::Gap(gap) = event.view()
            {
                let _ = gaps.send(DecoderOutput::Gap(gap.get().0));
            }
            gst::PadProbeReturn::Ok
        });
    }
    outputs
}

/// Flags every segment event on `pad`, a decoder's sink pad, so that the decoder drains after each keyframe.
fn drain_every_keyframe(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
        let flagged = info.event().and_then(|event| match event.view() {
            gst::EventView::Segment(s) => {
                let mut segment = s.segment().clone();
                segment
                    .set_flags(segment.flags() | gst::SegmentFlags::TRICKMODE | gst::SegmentFlags::TRICKMODE_KEY_UNITS);
                Some(gst::event::Segment::builder(&segment).seqnum(event.seqnum()).build())
            }
            _ => None,
        });
        if let Some(event) = flagged {
            info.data = Some(gst::PadProbeData::Event(event));
        }
        gst::PadProbeReturn::Ok
    });
}
