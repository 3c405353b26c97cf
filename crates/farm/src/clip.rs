//! A clip's access units, read once.
//!
//! Owns nothing after reading: the units are shared bytes. It does not decode.

use std::path::Path;

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::{glib, prelude::*};
use gstreamer_app as gst_app;

use super::FarmError;
use gridwatch_camera::Codec;

/// One coded picture as an Annex B byte stream. Keyframes carry their parameter sets.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// Start codes included.
    pub data: Bytes,
    /// When it is shown, from the start of the clip.
    pub pts: gst::ClockTime,
    /// When it is sent, from the start of the clip; the order of the units.
    pub dts: gst::ClockTime,
    /// It decodes alone.
    pub keyframe: bool,
}

/// A clip in coding order.
#[derive(Debug)]
pub struct Clip {
    codec: Codec,
    units: Vec<AccessUnit>,
    duration: gst::ClockTime,
}

/// Longest wait for one access unit of a local file; a file that stalls this long is not being read at all.
const READ_TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(20);

/// For elementary streams that state no rate: 25 pictures a second.
const DEFAULT_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(40);

impl Clip {
    /// Reads an H.264 or H.265 clip: MP4, MKV, MPEG-TS or an elementary stream.
    ///
    /// # Errors
    /// [`FarmError::Clip`] for a file that is not there, has no such video, or begins without a keyframe.
    pub fn open(path: &Path) -> Result<Self, FarmError> {
        gst::init()?;
        let bad = |what: String| FarmError::Clip {
            path: path.to_owned(),
            what,
        };
        // The codec is known only when the parser's pad appears, and with it which parser cuts the units.
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
                // A pad that stays unlinked is audio, subtitles, or a codec that `open` then reports as missing.
                let _ = link(&pipeline, pad, &sink);
            }
        });
        let stop = Stop(&pipeline);
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
                && let Some(form) = sample.caps().and_then(|c| c.structure(0))
            {
                codec = codec_of(form.name());
                if let Ok(rate) = form.get::<gst::Fraction>("framerate") {
                    interval = gst::ClockTime::SECOND
                        .mul_div_floor(rate.denom().max(1) as u64, rate.numer().max(1) as u64)
                        .filter(|t| !t.is_zero())
                        .unwrap_or(DEFAULT_INTERVAL);
                }
            }
            let Some(buffer) = sample.buffer_owned() else {
                continue;
            };
            units.push(unit(buffer).map_err(&bad)?);
        }
        drop(stop);
        let codec = codec.ok_or_else(|| bad("no H.264 or H.265 video in it".into()))?;
        if !units.first().is_some_and(|u| u.keyframe) {
            return Err(bad("it does not begin with a keyframe".into()));
        }
        let (units, duration) = retime(units, interval);
        Ok(Self { codec, units, duration })
    }

    #[cfg(test)]
    pub(super) fn from_units(codec: Codec, units: Vec<AccessUnit>, duration: gst::ClockTime) -> Self {
        Self { codec, units, duration }
    }

    /// What it is coded in.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// In coding order, the first a keyframe.
    pub fn units(&self) -> &[AccessUnit] {
        &self.units
    }

    /// From its first picture to the one that would follow its last.
    pub fn duration(&self) -> gst::ClockTime {
        self.duration
    }
}

/// Stops the pipeline however reading ends.
struct Stop<'a>(&'a gst::Pipeline);
impl Drop for Stop<'_> {
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
    // -1: the parameter sets before every keyframe, so that a stream joined anywhere is whole.
    let parser = gst::ElementFactory::make(parser)
        .property("config-interval", -1)
        .build()?;
    let form = gst::Caps::builder(name.as_deref().unwrap_or_default())
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .build();
    sink.set_caps(Some(&form));
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

/// A unit as it was read: not every container says when.
struct Raw {
    data: Bytes,
    pts: Option<gst::ClockTime>,
    dts: Option<gst::ClockTime>,
    keyframe: bool,
}

fn unit(buffer: gst::Buffer) -> Result<Raw, String> {
    let keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let (pts, dts) = (buffer.pts(), buffer.dts());
    let data = buffer
        .into_mapped_buffer_readable()
        .map_err(|_| "an access unit cannot be read".to_owned())?;
    Ok(Raw {
        data: Bytes::from_owner(data),
        pts,
        dts,
        keyframe,
    })
}

/// Gives every unit both times, the first sent at nought, and returns them with the clip's length.
///
/// Matroska states no decoding times: the presentation times in order stand in for them, late enough that no unit is
/// shown before it is sent. Elementary streams may state nothing: their units follow one another at `interval`.
fn retime(raw: Vec<Raw>, interval: gst::ClockTime) -> (Vec<AccessUnit>, gst::ClockTime) {
    let count = raw.len() as u64;
    let mut pts: Vec<_> = match raw.iter().map(|r| r.pts).collect::<Option<Vec<_>>>() {
        Some(pts) => pts,
        None => (0..count).map(|i| interval * i).collect(),
    };
    let mut dts = match raw.iter().map(|r| r.dts).collect::<Option<Vec<_>>>() {
        Some(dts) if dts.is_sorted() => dts,
        _ => {
            let mut shown = pts.clone();
            shown.sort_unstable();
            shown
        }
    };
    let late = dts.iter().zip(&pts).map(|(d, p)| d.saturating_sub(*p)).max();
    let first = dts.first().copied().unwrap_or_default();
    for (p, d) in pts.iter_mut().zip(&mut dts) {
        *p = (*p + late.unwrap_or_default()).saturating_sub(first);
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

/// What the pipeline says went wrong.
fn reason(pipeline: &gst::Pipeline) -> String {
    pipeline
        .bus()
        .and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]))
        .and_then(|m| match m.view() {
            gst::MessageView::Error(e) => Some(e.error().to_string()),
            _ => None,
        })
        .unwrap_or_else(|| "it cannot be read as video".into())
}
