//! The first picture, with what the shipped models find in it. It is made while the streams are still received.

use std::{
    fmt,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::Instant,
};

use gridwatch_base::error::Class;
use gridwatch_camera::receive::MeasuredStream;
use serde::Serialize;

use super::super::Failure;

/// A first picture that was written.
#[derive(Debug, Serialize)]
pub(super) struct FirstPicture {
    file: PathBuf,
    width: u32,
    height: u32,
    /// Labels and scores of what was found, best first.
    found: Vec<Found>,
    /// From the start of the command until it was written, in seconds.
    after_s: f64,
}

#[derive(Debug, Serialize)]
struct Found {
    label: String,
    score: f32,
}

impl fmt::Display for FirstPicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            width,
            height,
            found,
            after_s,
        } = self;
        write!(
            f,
            "{}: {width}×{height}, unmasked, after {after_s:.1} s; ",
            file.display()
        )?;
        if found.is_empty() {
            return f.write_str("nothing found in it");
        }
        let found: Vec<String> = found.iter().map(|f| format!("{} {:.2}", f.label, f.score)).collect();
        write!(f, "found: {}", found.join(", "))
    }
}

type Made = Result<FirstPicture, Failure>;

/// Makes the picture once the first keyframe is there.
pub(super) struct PictureJob {
    file: PathBuf,
    began: Instant,
    thread: Option<JoinHandle<Made>>,
}

impl PictureJob {
    /// # Errors
    /// The picture's format cannot be written, or this build has no models.
    pub(super) fn prepare(file: &Path) -> Result<Self, Failure> {
        if !cfg!(all(feature = "gst", feature = "ort")) {
            let message = "--picture: this build has no decoder or no ONNX Runtime; use the full one";
            return Err(Failure::new(Class::Config, message));
        }
        let format = image::ImageFormat::from_path(file).ok();
        if !format.is_some_and(|format| format.writing_enabled()) {
            let message = format!("--picture {}: expected .jpg, .png, .webp or .bmp", file.display());
            return Err(Failure::new(Class::Config, message));
        }
        Ok(Self {
            file: file.to_owned(),
            began: Instant::now(),
            thread: None,
        })
    }

    /// Starts making it, beside the reception.
    pub(super) fn start(&mut self, stream: &MeasuredStream) {
        let Some(keyframe) = stream.keyframe.clone().filter(|_| self.thread.is_none()) else {
            return;
        };
        let (file, began, codec) = (self.file.clone(), self.began, stream.format.codec);
        self.thread = Some(std::thread::spawn(move || make(file, began, codec, keyframe)));
    }

    /// # Errors
    /// Why there is no picture.
    pub(super) fn finish(self) -> Made {
        let Some(thread) = self.thread else {
            return Err(Failure::new(Class::Transient, "--picture: no keyframe came"));
        };
        thread
            .join()
            .unwrap_or_else(|_| Err(Failure::new(Class::Bug, "the thread that makes the picture panicked")))
    }
}

#[cfg(all(feature = "gst", feature = "ort"))]
fn make(file: PathBuf, began: Instant, codec: gridwatch_camera::receive::VideoCodec, keyframe: Vec<u8>) -> Made {
    use super::super::{overlay, private, share::share, try_out};
    use gridwatch_camera::Backend;
    use gridwatch_model::{Model, ModelSet};

    let unusable = |e: String| Failure::new(Class::Data, format!("the first keyframe cannot be decoded: {e}"));
    let frame = crate::first_picture::decode(codec, keyframe, Backend::Auto).map_err(unusable)?;
    let frame = frame.ok_or_else(|| unusable("this build has no decoder".to_owned()))?;
    let models = share()?.join("models");
    let models = try_out::SHIPPED.iter().map(|name| Model::load(&models.join(name)));
    let models = models.collect::<Result<Vec<_>, _>>()?;
    let runtime = gridwatch_model::runtime::init(None).map_err(gridwatch_model::ModelError::from)?;
    let mut set = ModelSet::new(&runtime, &models)?;
    let mut input = set.input(&frame);
    let mut found = Vec::new();
    for i in 0..models.len() {
        found.extend(input.detect(i)?);
    }
    found.retain(|d| d.score >= try_out::SHOWN_SCORE);
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut picture = frame.to_rgb().map_err(|e| Failure::new(e.class(), e.to_string()))?;
    overlay::draw(&mut picture, &found);
    private::save_picture_as_named(&picture, &file)
        .map_err(|e| Failure::new(Class::Config, format!("cannot write {}: {e}", file.display())))?;
    let found = found.iter().map(|d| Found {
        label: d.label.to_string(),
        score: d.score,
    });
    Ok(FirstPicture {
        width: picture.width(),
        height: picture.height(),
        found: found.collect(),
        after_s: began.elapsed().as_secs_f64(),
        file,
    })
}

#[cfg(not(all(feature = "gst", feature = "ort")))]
fn make(_file: PathBuf, _began: Instant, _codec: gridwatch_camera::receive::VideoCodec, _keyframe: Vec<u8>) -> Made {
    Err(Failure::new(
        Class::Bug,
        "a picture was asked for that this build cannot make",
    ))
}
