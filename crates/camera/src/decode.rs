//! Decodes single keyframes without delay: one keyframe in, one frame out.
//!
//! A [`Decoder`] owns the decoding pipelines of one look worker: one per codec, shared by all cameras, because a keyframe
//! with its parameter sets decodes alone. Damaged keyframes are reported as errors; no partial picture is returned.
//!
//! How a stream decoder is made to serve single pictures:
//!
//! - **No delay.** Decoders hold pictures back for reordering: one per thread, two for B-frames. With one thread and
//!   a SEGMENT flagged `TRICKMODE | TRICKMODE_KEY_UNITS` on its sink pad, the decoder drains after every picture. A GAP
//!   event follows each keyframe: once it comes out, everything before it has, so a keyframe that yields no picture is
//!   detected at once instead of by timeout.
//! - **No copy.** The frame stays in the decoder's buffer, which becomes [`Frame::data`].
//! - **No concealed errors.** libav fills undecodable areas with plausible samples. Its log messages are counted
//!   (`gst_frame`), and H.265, where it logs nothing, is checked before decoding (`corruption`).
//!
//! The pipeline's source is named after the decoder, and so is its thread (`decode0:src`), so that a benchmark can tell
//! how much CPU time decoding takes.

use std::{
    sync::{atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::{
    Codec, Keyframe, corruption,
    gst_frame::{self, ConcealmentCount, SampleError},
};
use crate::Backend;
use gridwatch_base::error::Class;
use gridwatch_engine::CameraId;
use gridwatch_frame::Frame;

/// Longest time for one keyframe. A 4K keyframe takes a tenth of this on the slowest supported box; a decoder that needs
/// longer hangs.
const DECODE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a keyframe could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The keyframe is incomplete or corrupt.
    #[error("{camera}: damaged keyframe: {what}")]
    Damaged {
        /// The camera.
        camera: CameraId,
        /// The fault.
        what: String,
    },
    /// The decoder hung. It is replaced at the next keyframe.
    #[error("{camera}: decoder {element} gave no output for {DECODE_TIMEOUT:?}; restarting it")]
    Timeout {
        /// The camera that sent the keyframe.
        camera: CameraId,
        /// The GStreamer element.
        element: String,
    },
    /// No decoder of the configured kind works.
    #[error("no working {backend:?} decoder for {codec:?} on this box (tried: {tried}); {hint}")]
    NoDecoder {
        /// The codec of the keyframe.
        codec: Codec,
        /// The configured backend.
        backend: Backend,
        /// GStreamer elements that failed.
        tried: String,
        /// The remedy.
        hint: &'static str,
    },
    /// A GStreamer failure that no keyframe explains.
    #[error("GStreamer: {0}")]
    Broken(String),
}

impl DecodeError {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Damaged { .. } => Class::Data,
            Self::Timeout { .. } => Class::Transient,
            Self::NoDecoder { .. } => Class::Config,
            Self::Broken(_) => Class::Bug,
        }
    }
}

/// Decodes keyframes of any camera for one worker.
pub struct Decoder {
    name: String,
    backend: Backend,
    h264: CodecDecoders,
    h265: CodecDecoders,
    serial: u64,
}

/// The decoders of one codec: the elements left to try and the running pipeline.
#[derive(Default)]
struct CodecDecoders {
    /// Best last; `None` before the first keyframe.
    candidates: Option<Vec<Candidate>>,
    pipeline: Option<DecodePipeline>,
}

/// A decoder element to try.
pub(super) struct Candidate {
    element: String,
    is_hardware: bool,
}

impl Decoder {
    /// Creates a decoder. Its threads are named after `name`, at most 11 bytes long (`decode0`).
    ///
    /// # Errors
    /// [`DecodeError::Broken`] if GStreamer cannot be initialised.
    pub fn new(name: &str, backend: Backend) -> Result<Self, DecodeError> {
        gst_frame::init().map_err(|e| DecodeError::Broken(e.to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            backend,
            h264: CodecDecoders::default(),
            h265: CodecDecoders::default(),
            serial: 0,
        })
    }

    /// The GStreamer element in use for `codec`; `None` before its first keyframe.
    pub fn element(&self, codec: Codec) -> Option<&str> {
        let decoders = match codec {
            Codec::H264 => &self.h264,
            Codec::H265 => &self.h265,
        };
        decoders.pipeline.as_ref().map(|p| p.element.as_str())
    }

    /// Decodes `keyframe`. Blocks while decoding, for a few seconds at most.
    ///
    /// # Errors
    /// [`DecodeError`]. The decoder remains usable after every error.
    pub fn decode(&mut self, keyframe: &Keyframe) -> Result<Frame, DecodeError> {
        if let Some(what) = corruption::find_corruption(&keyframe.data) {
            return Err(DecodeError::Damaged {
                camera: keyframe.camera.clone(),
                what: what.to_owned(),
            });
        }
        self.serial += 1;
        let decoders = match keyframe.codec {
            Codec::H264 => &mut self.h264,
            Codec::H265 => &mut self.h265,
        };
        let candidates = decoders
            .candidates
            .get_or_insert_with(|| candidates(keyframe.codec, self.backend));
        // Until an element has decoded a picture, its failure leads to the next best.
        let mut tried = Vec::new();
        loop {
            let pipeline = match &mut decoders.pipeline {
                Some(pipeline) => pipeline,
                None => {
                    let Some(candidate) = candidates.last() else {
                        return Err(DecodeError::NoDecoder {
                            codec: keyframe.codec,
                            backend: self.backend,
                            tried: if tried.is_empty() {
                                "none installed".into()
                            } else {
                                tried.join(", ")
                            },
                            hint: match self.backend {
                                _ if is_out_of_files() => {
                                    "no more files can be opened: raise LimitNOFILE= in the service's unit (ulimit -n)"
                                }
                                Backend::Hardware => {
                                    "set decode.backend = \"auto\", or install the driver's GStreamer plugin"
                                }
                                _ => "install gstreamer1.0-libav and gstreamer1.0-plugins-bad",
                            },
                        });
                    };
                    match DecodePipeline::start(&self.name, keyframe.codec, candidate) {
                        Ok(pipeline) => decoders.pipeline.insert(pipeline),
                        Err(error) => {
                            tracing::debug!(element = candidate.element, "Decoder failed to start: {error}");
                            tried.push(candidate.element.clone());
                            candidates.pop();
                            continue;
                        }
                    }
                }
            };
            let result = pipeline.decode(keyframe, self.serial);
            match result {
                Ok(frame) => {
                    if !pipeline.proven {
                        pipeline.proven = true;
                        log_choice(pipeline, self.backend, keyframe.codec);
                    }
                    return Ok(frame);
                }
                Err(error) => {
                    let unproven = !pipeline.proven && pipeline.is_hardware;
                    if unproven || pipeline.broken {
                        decoders.pipeline = None;
                    }
                    // Until a hardware decoder has worked once, its errors are not blamed on the keyframe.
                    if unproven && let Some(failed) = candidates.pop() {
                        tracing::debug!(
                            element = failed.element,
                            "Decoder failed on its first keyframe: {error}"
                        );
                        tried.push(failed.element);
                        continue;
                    }
                    return Err(error);
                }
            }
        }
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

pub(super) fn software(codec: Codec) -> Candidate {
    Candidate {
        element: match codec {
            Codec::H264 => "avdec_h264",
            Codec::H265 => "avdec_h265",
        }
        .to_owned(),
        is_hardware: false,
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
    found
        .into_iter()
        .map(|f| Candidate {
            element: f.name().to_string(),
            is_hardware: true,
        })
        .collect()
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
pub(super) fn byte_stream_caps(codec: Codec) -> gst::Caps {
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
pub(super) fn build_pipeline(
    source: &gst_app::AppSrc,
    codec: Codec,
    candidate: &Candidate,
    sink: &gst_app::AppSink,
    concealments: &ConcealmentCount,
) -> Result<(gst::Pipeline, gst::Pad), gst::glib::BoolError> {
    let parser = gst::ElementFactory::make(match codec {
        Codec::H264 => "h264parse",
        Codec::H265 => "h265parse",
    })
    .build()?;
    let decoder = gst::ElementFactory::make(&candidate.element).build()?;
    // One thread: no frame is held back, and log messages come on the streaming thread.
    if decoder.has_property("max-threads") {
        decoder.set_property("max-threads", 1i32);
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
    /// It has decoded a picture.
    proven: bool,
    /// It must be replaced.
    broken: bool,
}

impl DecodePipeline {
    fn start(name: &str, codec: Codec, candidate: &Candidate) -> Result<Self, DecodeError> {
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
            proven: false,
            broken: false,
        };
        this.pipeline
            .set_state(gst::State::Playing)
            .map_err(|e| DecodeError::Broken(e.to_string()))?;
        Ok(this)
    }

    fn decode(&mut self, keyframe: &Keyframe, serial: u64) -> Result<Frame, DecodeError> {
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
            if keyframe.codec == Codec::H265 && !self.is_hardware {
                buffer.append_memory(gst::Memory::from_slice(corruption::TAIL));
            }
        }
        self.concealments.store(0, Ordering::Relaxed);
        let pushed = self.source.push_buffer(buffer).is_ok()
            && self.source.send_event(gst::event::Gap::new(pts, gst::ClockTime::NONE));
        let mut picture = None;
        let mut done = false;
        if pushed {
            let deadline = Instant::now() + DECODE_TIMEOUT;
            // Outputs with another timestamp are left over from a keyframe that timed out.
            while !done
                && let Ok(output) = self
                    .outputs
                    .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                match output {
                    DecoderOutput::Picture(sample) => {
                        if sample.buffer().and_then(|b| b.pts()) == Some(pts) {
                            picture = Some(sample);
                        }
                    }
                    DecoderOutput::Gap(at) => done = at == pts,
                }
            }
        }
        if let Some(error) = gst_frame::bus_error(&self.pipeline) {
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
