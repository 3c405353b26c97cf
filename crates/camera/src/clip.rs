//! A clip, picture by picture, as fast as it decodes: for `gridwatch detect CLIP`.
//!
//! Owns one pipeline until the end of the clip. Nothing is thrown away and nothing waits for a clock.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use jiff::Timestamp;

use super::{gst_frame, gst_source};
use gridwatch_base::error::Class;
use gridwatch_frame::Frame;

/// A local file that gives nothing for so long is not being read.
const LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(30);

/// Why a clip gives no picture.
#[derive(Debug, thiserror::Error)]
#[error("clip {path}: {what}")]
pub struct ClipError {
    path: PathBuf,
    what: String,
}

impl ClipError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        Class::Data
    }
}

/// Opens `path`; anything that GStreamer knows, its first video.
///
/// # Errors
/// The file is not there, or GStreamer does not start. What is wrong inside it comes with the pictures.
pub fn frames(path: &Path) -> Result<Frames, ClipError> {
    let bad = |what: String| ClipError {
        path: path.to_owned(),
        what,
    };
    std::fs::File::open(path).map_err(|e| bad(e.to_string()))?;
    let url = gst_source::file_url(path).map_err(|e| bad(e.to_string()))?;
    gst_frame::init().map_err(|e| bad(e.to_string()))?;
    let sink = gst_frame::picture_sink();
    sink.set_max_buffers(2);
    let pipeline = gst_source::decoding(url.as_str(), &sink, |_| (), |_| true).map_err(|e| bad(e.to_string()))?;
    let _ = pipeline.set_state(gst::State::Playing);
    Ok(Frames {
        path: path.to_owned(),
        pipeline,
        sink,
        over: false,
    })
}

/// The pictures of a clip in the order they are shown, each `captured_at` 1970 plus its time in the clip. Ends after
/// the first error.
#[derive(Debug)]
pub struct Frames {
    path: PathBuf,
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    over: bool,
}

impl Iterator for Frames {
    type Item = Result<Frame, ClipError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let result = self.pull().transpose();
        self.over = !matches!(result, Some(Ok(_)));
        result
    }
}

impl Frames {
    fn pull(&self) -> Result<Option<Frame>, ClipError> {
        let bad = |what: String| ClipError {
            path: self.path.clone(),
            what,
        };
        let deadline = std::time::Instant::now() + Duration::from(LIMIT);
        loop {
            if let Some(sample) = self.sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
                let at = sample.buffer().and_then(|b| b.pts()).unwrap_or_default();
                let at = Timestamp::UNIX_EPOCH + Duration::from(at);
                return gst_frame::frame(&sample, at).map(Some).map_err(|e| bad(e.to_string()));
            }
            // An error makes no end-of-stream at the sink; it is on the bus.
            if let Some(error) = gst_frame::bus_error(&self.pipeline) {
                return Err(bad(error));
            }
            if self.sink.is_eos() {
                return Ok(None);
            }
            if std::time::Instant::now() > deadline {
                return Err(bad(format!("no picture for {LIMIT}")));
            }
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
