//! Decodes every frame of a video file, as fast as possible: for `gridwatch detect CLIP`.
//!
//! One pipeline per clip. No frame is dropped, and playback is not synchronised to a clock.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use jiff::Timestamp;

use super::{gst_frame, gst_source, source_pipeline};
use gridwatch_base::{error::Class, file};
use gridwatch_frame::Frame;

/// Longest wait for the next frame of a local file.
const FRAME_TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(30);

/// Why a clip cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("clip {path}: {what}")]
pub struct ClipError {
    path: PathBuf,
    what: String,
}

impl ClipError {
    /// Always [`Class::Data`].
    pub fn class(&self) -> Class {
        Class::Data
    }
}

/// Opens the first video stream of a file in any format that GStreamer supports.
///
/// # Errors
/// The file cannot be opened, or GStreamer cannot be initialised. Faults inside the file are reported by the iterator.
pub fn frames(path: &Path) -> Result<ClipFrames, ClipError> {
    let bad = |what: String| ClipError {
        path: path.to_owned(),
        what,
    };
    // GStreamer waits for a FIFO. It reads a clip piece by piece, so any size is fine.
    file::open(path, u64::MAX).map_err(|e| bad(e.to_string()))?;
    let url = gst_source::file_url(path).map_err(|e| bad(e.to_string()))?;
    gst_frame::init().map_err(|e| bad(e.to_string()))?;
    let sink = gst_frame::frame_sink();
    sink.set_max_buffers(2);
    let pipeline =
        source_pipeline::build_pipeline(url.as_str(), &sink, |_| (), |_| true).map_err(|e| bad(e.to_string()))?;
    let _ = pipeline.set_state(gst::State::Playing);
    Ok(ClipFrames {
        path: path.to_owned(),
        pipeline,
        sink,
        finished: false,
    })
}

/// The frames of a clip in presentation order. `captured_at` is 1970-01-01 plus the time within the clip. Ends after the
/// first error.
#[derive(Debug)]
pub struct ClipFrames {
    path: PathBuf,
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    finished: bool,
}

impl Iterator for ClipFrames {
    type Item = Result<Frame, ClipError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let result = self.pull().transpose();
        self.finished = !matches!(result, Some(Ok(_)));
        result
    }
}

impl ClipFrames {
    fn pull(&self) -> Result<Option<Frame>, ClipError> {
        let bad = |what: String| ClipError {
            path: self.path.clone(),
            what,
        };
        let deadline = std::time::Instant::now() + Duration::from(FRAME_TIMEOUT);
        loop {
            if let Some(sample) = self.sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
                let at = sample.buffer().and_then(|b| b.pts()).unwrap_or_default();
                let at = Timestamp::UNIX_EPOCH + Duration::from(at);
                return gst_frame::frame(&sample, at).map(Some).map_err(|e| bad(e.to_string()));
            }
            // After an error the sink gets no EOS; the error is on the bus.
            if let Some(error) = gst_frame::bus_error(&self.pipeline) {
                return Err(bad(error));
            }
            if self.sink.is_eos() {
                return Ok(None);
            }
            if std::time::Instant::now() > deadline {
                return Err(bad(format!("no frame decoded for {FRAME_TIMEOUT}")));
            }
        }
    }
}

impl Drop for ClipFrames {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
