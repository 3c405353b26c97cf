//! Input pictures and clips of the commands that run models on files, and the row that they print for each.

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
};

use image::{DynamicImage, ImageError};
use jiff::Timestamp;
use serde::Serialize;

use super::Failure;
use gridwatch_base::error::Class;
#[cfg(feature = "gst")]
use gridwatch_base::file;
use gridwatch_frame as frame;
use gridwatch_frame::Frame;
use gridwatch_model::ModelError;

/// Why one picture or clip could not be processed; the others are.
#[derive(Debug, thiserror::Error)]
pub(super) enum PictureError {
    #[error("cannot read the file: {0}")]
    Open(io::Error),
    #[error("cannot decode the picture, expected JPEG, PNG, WebP or BMP: {0}")]
    Decode(ImageError),
    #[error("cannot write its overlay: {0}")]
    Overlay(ImageError),
    #[cfg(feature = "gst")]
    #[error("{0}")]
    Clip(#[from] gridwatch_camera::clip::ClipError),
    #[error("{0}")]
    Frame(#[from] gridwatch_frame::FrameError),
    #[error("{0}")]
    Model(#[from] ModelError),
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

impl PictureError {
    /// Ends the command with this error in the file at `path`.
    pub(super) fn in_file(self, path: &Path) -> Failure {
        Failure::new(Class::Data, format!("{}: {self}", path.display()))
    }
}

/// A picture, or one frame of a clip.
pub(super) struct SourceFrame {
    pub(super) frame: Frame,
    /// For a clip: the frame's number, from 0, and its time in seconds.
    pub(super) in_clip: Option<(u64, f64)>,
}

/// Whether the file is a picture rather than a clip; detected from the content, as [`upright`] does.
pub(super) fn is_picture(path: &Path) -> Result<bool, PictureError> {
    let reader = file::open(path, u64::MAX).map(|file| image::ImageReader::new(io::BufReader::new(file)));
    let guessed = reader
        .and_then(image::ImageReader::with_guessed_format)
        .map_err(PictureError::Open)?;
    Ok(guessed.format().is_some())
}

/// The contents of a file: one picture, or the frames of a clip.
pub(super) fn frames_of(
    path: &Path,
) -> Result<Box<dyn Iterator<Item = Result<SourceFrame, PictureError>>>, PictureError> {
    // A format that `image` does not know may be a clip.
    #[cfg(feature = "gst")]
    if !is_picture(path)? {
        let frames = gridwatch_camera::clip::frames(path)?;
        let source = |(i, frame): (usize, Result<Frame, _>)| {
            let frame: Frame = frame?;
            let time_s = frame.captured_at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64();
            Ok(SourceFrame {
                frame,
                in_clip: Some((i as u64, time_s)),
            })
        };
        return Ok(Box::new(frames.enumerate().map(source)));
    }
    let frame = picture(path)?;
    Ok(Box::new(std::iter::once(Ok(SourceFrame { frame, in_clip: None }))))
}

/// Reads a picture file.
pub(super) fn picture(path: &Path) -> Result<Frame, PictureError> {
    Ok(Frame::from_rgb(&upright(path)?.into_rgb8(), Timestamp::UNIX_EPOCH)?)
}

/// Reads a picture file and applies its EXIF rotation.
pub(super) fn upright(path: &Path) -> Result<DynamicImage, PictureError> {
    frame::open_upright(path).map_err(|e| match e {
        ImageError::IoError(e) => PictureError::Open(e),
        e => PictureError::Decode(e),
    })
}

/// One output row of `detect`, `read` and `evidence mask`: the picture, and the findings in it.
#[derive(Serialize)]
pub(super) struct PictureRow<F> {
    /// The path as given.
    image: String,
    /// For a clip: the frame's number, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<u64>,
    /// For a clip: the frame's time, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_s: Option<f64>,
    /// Pixels.
    width: u32,
    /// Pixels.
    height: u32,
    #[serde(flatten)]
    pub(super) findings: F,
}

impl<F: Serialize + Display> PictureRow<F> {
    /// The row of a picture, `size` being its width and height.
    pub(super) fn new(path: &Path, (width, height): (u32, u32), findings: F) -> Self {
        Self {
            image: path.display().to_string(),
            frame: None,
            time_s: None,
            width,
            height,
            findings,
        }
    }

    /// The row of a picture or a clip's frame.
    pub(super) fn of(path: &Path, source: &SourceFrame, findings: F) -> Self {
        Self {
            frame: source.in_clip.map(|(number, _)| number),
            time_s: source.in_clip.map(|(_, time)| time),
            ..Self::new(path, (source.frame.width, source.frame.height), findings)
        }
    }

    /// Writes and flushes the row: a line of JSON, or the picture's line with the findings' text.
    pub(super) fn write(&self, json: bool, out: &mut impl Write) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            writeln!(out)?;
            return out.flush();
        }
        write!(out, "{}", self.image)?;
        if let (Some(frame), Some(time)) = (self.frame, self.time_s) {
            write!(out, " frame {frame} at {time:.2} s")?;
        }
        writeln!(out, " ({}×{}): {}", self.width, self.height, self.findings)?;
        out.flush()
    }
}
