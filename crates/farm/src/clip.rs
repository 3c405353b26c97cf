//! Reads the access units of a clip into memory, without decoding them.

use std::path::Path;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::{glib, prelude::*};
use gstreamer_app as gst_app;

use super::FarmError;
use gridwatch_camera::Codec;

/// An access unit. Keyframes carry their parameter sets.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// Annex B byte stream.
    pub data: Bytes,
    /// Presentation time since the start of the clip.
    pub pts: gst::ClockTime,
    /// Decoding time since the start of the clip, at which the unit is sent. Never decreases.
    pub dts: gst::ClockTime,
    /// It is a random access point.
    pub keyframe: bool,
}

/// A clip in decoding order.
#[derive(Debug)]
pub struct Clip {
    codec: Codec,
    units: Vec<AccessUnit>,
    duration: gst::ClockTime,
}

/// Longest wait for the next access unit of a local file.
const READ_TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(20);

/// Frame interval of elementary streams that state no frame rate: 25 fps.
const DEFAULT_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(40);

impl Clip {
    /// Reads an H.264 or H.265 clip: MP4, MKV, MPEG-TS or an elementary stream.
    ///
    /// # Errors
    /// [`FarmError::Clip`] if the file cannot be read, has no such video, or does not begin with a keyframe.
    pub fn open(path: &Path) -> Result<Self, FarmError> {
        gst::init()?;
        let bad = |what: String| FarmError::Clip {
            path: path.to_owned(),
            what,
        };
        // The codec, and so the parser, is known only once the pad of parsebin appears.
        let pipeline = gst::Pipeline::new();
        let make = |name: &str| gst::ElementFactory::make(name).build().map_err(|e| bad(e.to_string()));
        let source = make("filesrc")?;
        source.set_property("location", path);
        let parse = make("parsebin")?;
        let sink = gst_app::AppSink::builder().sync(false).max_buffers(16).build();
        pipeline
            .add_many([&source, &parse, sink.upcast_ref()])
            .and_then(|()| source.link(&parse))
            .map_err(|e| bad(e.to_string()))?;
        parse.connect_pad_added({
            let (pipeline, sink) = (pipeline.downgrade(), sink.clone());
            move |_, pad| {
                let Some(pipeline) = pipeline.upgrade() else {
                    return;
                };
                // Pads of audio, subtitles and other codecs stay unlinked. `open` reports a clip without video.
                let _ = link(&pipeline, pad, &sink);
            }
        });
        let stop = StopOnDrop(&pipeline);
        pipeline
            .set_state(gst::State::Playing)
            .map_err(|_| bad(reason(&pipeline)))?;
        let (mut codec, mut interval, mut units) = (None, DEFAULT_INTERVAL, Vec::new());
        loop {
            let Some(sample) = sink.try_pull_sample(READ_TIMEOUT) else {
                if sink.is_eos() {
                    break;
                }
                return Err(bad(reason(&pipeline)));
            };
            if codec.is_none()
                && let Some(format) = sample.caps().and_then(|c| c.structure(0))
            {
                codec = codec_of(format.name());
                if let Ok(rate) = format.get::<gst::Fraction>("framerate") {
                    interval = gst::ClockTime::SECOND
                        .mul_div_floor(rate.denom().max(1) as u64, rate.numer().max(1) as u64)
                        .filter(|t| !t.is_zero())
                        .unwrap_or(DEFAULT_INTERVAL);
                }
            }
            let Some(buffer) = sample.buffer_owned() else {
                continue;
            };
            units.push(raw_unit(buffer).map_err(&bad)?);
        }
        drop(stop);
        let codec = codec.ok_or_else(|| bad("no H.264 or H.265 video".into()))?;
        if !units.first().is_some_and(|u| u.keyframe) {
            return Err(bad("the first frame is not a keyframe".into()));
        }
        let (units, duration) = retime(units, interval);
        Ok(Self { codec, units, duration })
    }

    #[cfg(test)]
    pub(super) fn from_units(codec: Codec, units: Vec<AccessUnit>, duration: gst::ClockTime) -> Self {
        Self { codec, units, duration }
    }

    /// The codec of its video.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The access units in decoding order; the first is a keyframe.
    pub fn units(&self) -> &[AccessUnit] {
        &self.units
    }

    /// Length of the clip, including the interval of its last frame.
    pub fn duration(&self) -> gst::ClockTime {
        self.duration
    }
}

/// Stops the pipeline on drop.
struct StopOnDrop<'a>(&'a gst::Pipeline);
impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

fn codec_of(caps_name: &str) -> Option<Codec> {
    match caps_name {
        "video/x-h264" => Some(Codec::H264),
        "video/x-h265" => Some(Codec::H265),
        _ => None,
    }
}

fn link(pipeline: &gst::Pipeline, pad: &gst::Pad, sink: &gst_app::AppSink) -> Result<(), glib::BoolError> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let name = caps.structure(0).map(|s| s.name().to_string());
    let parser = match name.as_deref().and_then(codec_of) {
        Some(Codec::H264) => "h264parse",
        Some(Codec::H265) => "h265parse",
        None => return Ok(()),
    };
    // -1: insert the parameter sets before every keyframe, so that clients may join anywhere.
    let parser = gst::ElementFactory::make(parser)
        .property("config-interval", -1)
        .build()?;
    let caps = gst::Caps::builder(name.as_deref().unwrap_or_default())
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .build();
    sink.set_caps(Some(&caps));
    pipeline.add(&parser)?;
    parser.link(sink)?;
    parser.sync_state_with_parent()?;
    let target = parser
        .static_pad("sink")
        .ok_or_else(|| glib::bool_error!("a parser has a sink pad"))?;
    pad.link(&target)
        .map_err(|e| glib::bool_error!("the parser refuses the stream: {e}"))?;
    Ok(())
}

/// An access unit as read. Some containers and elementary streams have no timestamps.
struct RawUnit {
    data: Bytes,
    pts: Option<gst::ClockTime>,
    dts: Option<gst::ClockTime>,
    keyframe: bool,
}

fn raw_unit(buffer: gst::Buffer) -> Result<RawUnit, String> {
    let keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let (pts, dts) = (buffer.pts(), buffer.dts());
    let data = buffer
        .into_mapped_buffer_readable()
        .map_err(|_| "cannot map the buffer of an access unit".to_owned())?;
    Ok(RawUnit {
        data: Bytes::from_owner(data),
        pts,
        dts,
        keyframe,
    })
}

/// Completes the timestamps of all units, with the first DTS at zero, and returns the units with the clip's duration.
///
/// Matroska has no DTS: the sorted PTS serve as DTS, and the PTS are delayed so that none precedes its DTS. Elementary
/// streams may have no timestamps at all: their units follow one another at `interval`.
fn retime(raw: Vec<RawUnit>, interval: gst::ClockTime) -> (Vec<AccessUnit>, gst::ClockTime) {
    let count = raw.len() as u64;
    let mut pts: Vec<_> = match raw.iter().map(|r| r.pts).collect::<Option<Vec<_>>>() {
        Some(pts) => pts,
        None => (0..count).map(|i| interval * i).collect(),
    };
    let mut dts = match raw.iter().map(|r| r.dts).collect::<Option<Vec<_>>>() {
        Some(dts) if dts.is_sorted() => dts,
        _ => {
            let mut sorted = pts.clone();
            sorted.sort_unstable();
            sorted
        }
    };
    let delay = dts.iter().zip(&pts).map(|(d, p)| d.saturating_sub(*p)).max();
    let first = dts.first().copied().unwrap_or_default();
    for (p, d) in pts.iter_mut().zip(&mut dts) {
        *p = (*p + delay.unwrap_or_default()).saturating_sub(first);
        *d = d.saturating_sub(first);
    }
    let duration = match dts.last() {
        Some(&last) if count > 1 && last > gst::ClockTime::ZERO => last + last / (count - 1),
        _ => interval * count,
    };
    let units = raw
        .into_iter()
        .zip(pts.into_iter().zip(dts))
        .map(|(r, (pts, dts))| AccessUnit {
            data: r.data,
            pts,
            dts,
            keyframe: r.keyframe,
        })
        .collect();
    (units, duration)
}

/// The error on the pipeline's bus.
fn reason(pipeline: &gst::Pipeline) -> String {
    pipeline
        .bus()
        .and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]))
        .and_then(|m| match m.view() {
            gst::MessageView::Error(e) => Some(e.error().to_string()),
            _ => None,
        })
        .unwrap_or_else(|| "cannot be read as video".into())
}
