//! One keyframe in, one picture out, at once.
//!
//! Owns the decoding pipelines of one look worker: one a codec, whatever the number of cameras, since a keyframe with
//! its parameter sets decodes alone. It never receives, and never judges a picture that is not whole.
//!
//! Three things make a stream decoder serve single pictures:
//!
//! - **No delay.** A decoder holds pictures back to put them in order: one for each thread, two for B-frames. One thread,
//!   and a SEGMENT flagged `TRICKMODE | TRICKMODE_KEY_UNITS` at its sink, and it drains every picture. The GAP event
//!   behind each keyframe is our mark: when it comes out, everything before it has, so a keyframe that gives no picture
//!   is known at once and not after a timeout.
//! - **No copy.** The picture stays in the decoder's buffer, and the buffer in [`Frame::data`].
//! - **No trust.** libav fills what it cannot decode with something plausible. Its log is listened to
//!   (`gst_frame`), and H.265, where it says nothing at all, is looked at before (`torn`).
//!
//! The pipeline's source is named after the decoder, and so is its thread (`decode0:src`), which is how a bench tells
//! the decoding's share of CPU.

use std::{
    sync::{atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::{
    Codec, Keyframe,
    gst_frame::{self, Complaints, NotAPicture},
    torn,
};
use crate::Backend;
use gridwatch_base::error::Class;
use gridwatch_engine::CameraId;
use gridwatch_frame::Frame;

/// A 4K keyframe takes a tenth of this on the slowest box there is; whatever takes longer hangs.
const LIMIT: Duration = Duration::from_secs(3);

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The keyframe is not whole. It is counted, and never judged.
    #[error("{camera}: the keyframe is damaged: {what}")]
    Damaged {
        /// Whose.
        camera: CameraId,
        /// How it is known.
        what: String,
    },
    /// The decoder hung; it has been rebuilt.
    #[error("{camera}: the decoder {element} gave nothing for {LIMIT:?}; it is started anew")]
    Timeout {
        /// Whose keyframe it hung on.
        camera: CameraId,
        /// Which decoder.
        element: String,
    },
    /// No decoder of the kind that is asked for works here.
    #[error("no {backend:?} decoder for {codec:?} works on this box (tried: {tried}); {hint}")]
    NoDecoder {
        /// What was to be decoded.
        codec: Codec,
        /// What the configuration asks for.
        backend: Backend,
        /// Element names.
        tried: String,
        /// What to do.
        hint: &'static str,
    },
    /// GStreamer does not do as it is told.
    #[error("GStreamer: {0}")]
    Broken(String),
}

impl DecodeError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Damaged { .. } => Class::Data,
            Self::Timeout { .. } => Class::Transient,
            Self::NoDecoder { .. } => Class::Config,
            Self::Broken(_) => Class::Bug,
        }
    }
}

/// Decodes the keyframes of all cameras for one worker.
pub struct Decoder {
    name: String,
    backend: Backend,
    h264: CodecDecoders,
    h265: CodecDecoders,
    serial: u64,
}

/// The decoders of one codec: which to try, and the one at work.
#[derive(Default)]
struct CodecDecoders {
    /// Best last; `None` before the registry was asked.
    candidates: Option<Vec<Candidate>>,
    pipe: Option<Pipe>,
}

/// A decoder element that may be tried.
#[derive(Clone)]
pub(super) struct Candidate {
    element: String,
    hardware: bool,
}

impl Decoder {
    /// A decoder that names its threads `name`, at most 11 bytes (`decode0`).
    ///
    /// # Errors
    /// [`DecodeError::Broken`] where GStreamer does not start.
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

    /// The element that decodes `codec`, once one has.
    pub fn element(&self, codec: Codec) -> Option<&str> {
        let bench = match codec {
            Codec::H264 => &self.h264,
            Codec::H265 => &self.h265,
        };
        bench.pipe.as_ref().map(|p| p.element.as_str())
    }

    /// The picture of `keyframe`. Blocks for the time of decoding, at most a few seconds.
    ///
    /// # Errors
    /// [`DecodeError`]. After any of them the decoder serves the next keyframe.
    pub fn decode(&mut self, keyframe: &Keyframe) -> Result<Frame, DecodeError> {
        if let Some(what) = torn::torn(&keyframe.data) {
            return Err(DecodeError::Damaged {
                camera: keyframe.camera.clone(),
                what: what.to_owned(),
            });
        }
        self.serial += 1;
        let bench = match keyframe.codec {
            Codec::H264 => &mut self.h264,
            Codec::H265 => &mut self.h265,
        };
        let candidates = bench
            .candidates
            .get_or_insert_with(|| candidates(keyframe.codec, self.backend));
        // A decoder has proved itself when it has given a picture; until then the next best is tried.
        let mut tried = Vec::new();
        loop {
            let pipe = match &mut bench.pipe {
                Some(pipe) => pipe,
                None => {
                    let Some(candidate) = candidates.last() else {
                        return Err(DecodeError::NoDecoder {
                            codec: keyframe.codec,
                            backend: self.backend,
                            tried: if tried.is_empty() {
                                "none there".into()
                            } else {
                                tried.join(", ")
                            },
                            hint: match self.backend {
                                Backend::Hardware => {
                                    "set decode.backend = \"auto\", or install the driver's GStreamer plugin"
                                }
                                _ => "install gstreamer1.0-libav and gstreamer1.0-plugins-bad",
                            },
                        });
                    };
                    match Pipe::start(&self.name, keyframe.codec, candidate) {
                        Ok(pipe) => bench.pipe.insert(pipe),
                        Err(error) => {
                            tracing::debug!(element = candidate.element, "Decoder does not start: {error}.");
                            tried.push(candidate.element.clone());
                            candidates.pop();
                            continue;
                        }
                    }
                }
            };
            let result = pipe.decode(keyframe, self.serial);
            match result {
                Ok(frame) => {
                    if !pipe.proven {
                        pipe.proven = true;
                        announce(pipe, self.backend, keyframe.codec);
                    }
                    return Ok(frame);
                }
                Err(error) => {
                    let unproven = !pipe.proven && pipe.hardware;
                    if unproven || pipe.broken {
                        bench.pipe = None;
                    }
                    // Hardware that has never worked is not believed when it says that the keyframe is at fault.
                    if unproven && let Some(failed) = candidates.pop() {
                        tracing::debug!(element = failed.element, "Decoder does not decode: {error}.");
                        tried.push(failed.element);
                        continue;
                    }
                    return Err(error);
                }
            }
        }
    }
}

fn announce(pipe: &Pipe, backend: Backend, codec: Codec) {
    let element = pipe.element.as_str();
    if pipe.hardware {
        tracing::info!(element, ?codec, "Keyframes are decoded by hardware.");
    } else if backend == Backend::Auto && !hardware(codec).is_empty() {
        tracing::warn!(
            element,
            ?codec,
            "No hardware decoder of this box works; keyframes are decoded by software."
        );
    } else {
        tracing::debug!(element, ?codec, "Keyframes are decoded by software.");
    }
}

pub(super) fn software(codec: Codec) -> Candidate {
    Candidate {
        element: match codec {
            Codec::H264 => "avdec_h264",
            Codec::H265 => "avdec_h265",
        }
        .to_owned(),
        hardware: false,
    }
}

/// The registry's hardware decoders for `codec`, best last.
fn hardware(codec: Codec) -> Vec<Candidate> {
    let caps = form(codec);
    let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
    // NONE: Debian ranks the new VA and V4L2 decoders at nothing, and they work.
    let mut found: Vec<_> = gst::ElementFactory::factories_with_type(kind, gst::Rank::NONE)
        .into_iter()
        .filter(|f| f.metadata("klass").is_some_and(|k| k.contains("Hardware")) && f.can_sink_any_caps(&caps))
        .collect();
    found.sort_by_key(|f| f.rank());
    found
        .into_iter()
        .map(|f| Candidate {
            element: f.name().to_string(),
            hardware: true,
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

pub(super) fn form(codec: Codec) -> gst::Caps {
    gst::Caps::builder(match codec {
        Codec::H264 => "video/x-h264",
        Codec::H265 => "video/x-h265",
    })
    .field("stream-format", "byte-stream")
    .field("alignment", "au")
    .build()
}

/// `source ! parser ! decoder ! videoconvert ! sink`, and the decoder's sink pad. The conversion does nothing where the
/// decoder's own layout is one of ours.
pub(super) fn chain(
    source: &gst_app::AppSrc,
    codec: Codec,
    candidate: Candidate,
    sink: &gst_app::AppSink,
    complaints: &Complaints,
) -> Result<(gst::Pipeline, gst::Pad), gst::glib::BoolError> {
    let parser = gst::ElementFactory::make(match codec {
        Codec::H264 => "h264parse",
        Codec::H265 => "h265parse",
    })
    .build()?;
    let decoder = gst::ElementFactory::make(&candidate.element).build()?;
    // One thread: no delay, no frame held back, and the log's complaints come on the streaming thread.
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
    gst_frame::listen(&input, complaints);
    Ok((pipeline, input))
}

/// What comes out of a pipeline, in order.
enum Out {
    Picture(gst::Sample),
    /// All that went in before the GAP of this time has come out.
    Mark(gst::ClockTime),
}

/// One running pipeline.
struct Pipe {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    out: mpsc::Receiver<Out>,
    complaints: Complaints,
    element: String,
    hardware: bool,
    /// It has given a picture.
    proven: bool,
    /// It must be rebuilt.
    broken: bool,
}

impl Pipe {
    fn start(name: &str, codec: Codec, candidate: &Candidate) -> Result<Self, DecodeError> {
        let broken = |e: gst::glib::BoolError| DecodeError::Broken(e.to_string());
        let source = gst_app::AppSrc::builder()
            .name(name)
            .caps(&form(codec))
            .format(gst::Format::Time)
            .is_live(false)
            .max_bytes(0)
            .build();
        let sink = gst_frame::picture_sink();
        let out = outcome(&sink);
        let complaints = Complaints::default();
        let (pipeline, input) = chain(&source, codec, candidate.clone(), &sink, &complaints).map_err(broken)?;
        drain_every_keyframe(&input);
        let pipe = Self {
            pipeline,
            source,
            out,
            complaints,
            element: candidate.element.clone(),
            hardware: candidate.hardware,
            proven: false,
            broken: false,
        };
        pipe.pipeline
            .set_state(gst::State::Playing)
            .map_err(|e| DecodeError::Broken(e.to_string()))?;
        Ok(pipe)
    }

    fn decode(&mut self, keyframe: &Keyframe, serial: u64) -> Result<Frame, DecodeError> {
        let damaged = |what: String| DecodeError::Damaged {
            camera: keyframe.camera.clone(),
            what,
        };
        // Seconds apart, so that no decoder takes two cameras' pictures for one moment of one stream.
        let mark = gst::ClockTime::from_seconds(serial);
        let mut buffer = gst::Buffer::from_slice(keyframe.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(mark);
            buffer.set_dts(mark);
            if keyframe.codec == Codec::H265 && !self.hardware {
                buffer.append_memory(gst::Memory::from_slice(torn::TAIL));
            }
        }
        self.complaints.store(0, Ordering::Relaxed);
        let pushed = self.source.push_buffer(buffer).is_ok()
            && self.source.send_event(gst::event::Gap::new(mark, gst::ClockTime::NONE));
        let mut picture = None;
        let mut done = false;
        if pushed {
            let deadline = Instant::now() + LIMIT;
            // What a keyframe that timed out left behind is not ours.
            while !done
                && let Ok(out) = self
                    .out
                    .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                match out {
                    Out::Picture(sample) => {
                        if sample.buffer().and_then(|b| b.pts()) == Some(mark) {
                            picture = Some(sample);
                        }
                    }
                    Out::Mark(at) => done = at == mark,
                }
            }
        }
        if let Some(error) = gst_frame::bus_error(&self.pipeline) {
            self.broken = true;
            return Err(damaged(format!("{} says: {error}", self.element)));
        }
        if !done {
            self.broken = true;
            return Err(DecodeError::Timeout {
                camera: keyframe.camera.clone(),
                element: self.element.clone(),
            });
        }
        let Some(sample) = picture else {
            return Err(damaged(format!("{} makes no picture of it", self.element)));
        };
        let complaints = self.complaints.load(Ordering::Relaxed);
        if complaints > 0 {
            return Err(damaged(format!(
                "{} had to make parts of it up ({complaints} complaints)",
                self.element
            )));
        }
        let corrupted = sample
            .buffer()
            .is_some_and(|b| b.flags().contains(gst::BufferFlags::CORRUPTED));
        if corrupted {
            return Err(damaged(format!("{} marks it as corrupted", self.element)));
        }
        gst_frame::frame(&sample, keyframe.captured_at).map_err(|e: NotAPicture| DecodeError::Broken(e.to_string()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // A wedged decoder may never come to rest: it is given up in a thread of its own.
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

/// The sink's pictures and marks. appsink itself hands GAP events to nobody (1.22), so they are met on its pad.
fn outcome(sink: &gst_app::AppSink) -> mpsc::Receiver<Out> {
    let (pictures, out) = mpsc::channel();
    let marks = pictures.clone();
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                // Nobody listens once the decoder is gone.
                let _ = pictures.send(Out::Picture(sample));
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    if let Some(pad) = sink.static_pad("sink") {
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(event) = info.event()
                && let gst::EventView::Gap(gap) = event.view()
            {
                let _ = marks.send(Out::Mark(gap.get().0));
            }
            gst::PadProbeReturn::Ok
        });
    }
    out
}

/// Flags every segment that reaches `pad` so that the decoder behind it drains each keyframe.
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
