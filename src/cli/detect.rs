//! `gridwatch detect`: runs a model on pictures and clips, without cameras, rules or a broker.

mod overlay;

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use image::{DynamicImage, ImageError, ImageReader};
use jiff::Timestamp;
use serde::Serialize;

use gridwatch_base::error::Class;
use gridwatch_engine::Detection;
use gridwatch_frame as frame;
use gridwatch_frame::Frame;
use gridwatch_model::{Model, ModelError, ModelSet, runtime};

/// Run a model on pictures and clips.
///
/// Use it to see how a model performs on your own streets before a rule relies on it, and to choose thresholds. Each picture
/// is preprocessed as a camera's would be (scaled and padded as the model's manifest says) and run through the model once.
/// Nothing is filed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch detect --model models/garbage_nano_416 street.jpg
  gridwatch detect --model models/yolox_nano_416_coco --min-score 0.4 --json *.jpg > found.jsonl
  gridwatch detect --model models/garbage_nano_416 --json demo/clips/street-a.mp4

With --json it prints one line per picture:
  {\"image\":\"street.jpg\",\"width\":1920,\"height\":1080,\"detections\":[{\"label\":\"garbage\",\"score\":0.71,\"box\":[812.0,655.5,990.2,801.0]}]}
A box is [left, top, right, bottom] in pixels of the picture after its EXIF rotation.
A clip gives one line per frame, with its number (\"frame\", from 0) and its time (\"time_s\").

Exit codes: 0 all were processed; 3 the model or the ONNX Runtime library is not usable; 5 some could not be read (each is
reported on standard error; the others were processed).")]
pub struct Args {
    /// Model folder: model.onnx, model.toml, CARD.md.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// DetectReport only detections with at least this score, 0 to 1. [default: the manifest's score_floor and label_floors]
    #[arg(long, value_name = "S", value_parser = score)]
    min_score: Option<f32>,

    /// Print JSON Lines.
    #[arg(long)]
    json: bool,

    /// Also write each picture with its detections drawn, to DIR/NAME.png (for a clip, one file per frame). Faces and plates
    /// are not masked.
    #[arg(long, value_name = "DIR")]
    overlay: Option<PathBuf>,

    /// ONNX Runtime shared library. [default: the one that edge-deploy/setup.sh installs]
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,

    /// Pictures (JPEG, PNG, WebP or BMP) and clips (any format GStreamer reads); the type is detected from the content.
    #[arg(required = true, value_name = "PICTURE|CLIP")]
    pictures: Vec<PathBuf>,
}

pub(super) fn score(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(score) if (0.0..=1.0).contains(&score) => Ok(score),
        _ => Err("not a score from 0 to 1".into()),
    }
}

/// Runs the command on standard output and standard error.
///
/// # Errors
/// As [`run_to`].
pub fn run(args: Args) -> Result<ExitCode, ModelError> {
    run_to(args, &mut BufWriter::new(io::stdout().lock()), &mut io::stderr()).map(ExitCode::from)
}

/// Runs the command: detections go to `out`, one line for each unreadable picture to `err`. Returns the exit code.
///
/// # Errors
/// An unusable model or ONNX Runtime library, before any picture is read.
pub fn run_to(args: Args, out: &mut impl Write, err: &mut impl Write) -> Result<u8, ModelError> {
    let model = Model::load(&args.model)?;
    let mut models = ModelSet::new(&runtime::init(args.onnxruntime.as_deref())?, [&model])?;
    if let Some(floor) = args.min_score {
        models.set_floor(floor);
    }
    let mut code = 0;
    for path in &args.pictures {
        match detect(&mut models, path, &args, out) {
            Ok(()) => {}
            // The reader closed the pipe (`| head`).
            Err(PictureError::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => break,
            Err(e) => {
                // Standard error may be closed too; the exit code still reports the failure.
                let _ = writeln!(err, "{}: {e}", path.display());
                code = Class::Data.exit_code();
            }
        }
    }
    Ok(code)
}

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

/// A picture, or one frame of a clip.
pub(super) struct SourceFrame {
    pub(super) frame: Frame,
    /// For a clip: the frame's number, from 0, and its time in seconds.
    pub(super) in_clip: Option<(u64, f64)>,
}

/// The contents of a file: one picture, or the frames of a clip.
pub(super) fn frames_of(
    path: &Path,
) -> Result<Box<dyn Iterator<Item = Result<SourceFrame, PictureError>>>, PictureError> {
    // Detected from the content, as `upright` does. A format that `image` does not know may be a clip.
    #[cfg(feature = "gst")]
    if ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(PictureError::Open)?
        .format()
        .is_none()
    {
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

fn detect(models: &mut ModelSet, path: &Path, args: &Args, out: &mut impl Write) -> Result<(), PictureError> {
    for source in frames_of(path)? {
        let source = source?;
        let found = models.input(&source.frame).detect(0)?;
        let report = DetectReport::new(path, &source, &found);
        if args.json {
            serde_json::to_writer(&mut *out, &report).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            report.write(out)?;
        }
        out.flush()?;
        if let Some(dir) = &args.overlay {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = source
                .in_clip
                .map_or(stem.to_string(), |(n, _)| format!("{stem}-{n:06}"));
            overlay::write(dir, &name, source.frame.to_rgb()?, &found).map_err(PictureError::Overlay)?;
        }
    }
    Ok(())
}

/// One line of the JSON output.
#[derive(Serialize)]
struct DetectReport<'a> {
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_s: Option<f64>,
    width: u32,
    height: u32,
    detections: Vec<DetectionBox<'a>>,
}

#[derive(Serialize)]
struct DetectionBox<'a> {
    label: &'a str,
    score: f32,
    #[serde(rename = "box")]
    corners: [f32; 4],
}

impl<'a> DetectReport<'a> {
    fn new(path: &Path, source: &SourceFrame, found: &'a [Detection]) -> Self {
        let (width, height) = (source.frame.width, source.frame.height);
        let line = |d: &'a Detection| {
            let (w, h) = (width as f32, height as f32);
            DetectionBox {
                label: d.label.as_str(),
                score: d.score,
                corners: [d.bbox.x1 * w, d.bbox.y1 * h, d.bbox.x2 * w, d.bbox.y2 * h],
            }
        };
        Self {
            image: path.display().to_string(),
            frame: source.in_clip.map(|(number, _)| number),
            time_s: source.in_clip.map(|(_, time)| time),
            width,
            height,
            detections: found.iter().map(line).collect(),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "{}", self.image)?;
        if let (Some(frame), Some(time)) = (self.frame, self.time_s) {
            write!(out, " frame {frame} at {time:.2} s")?;
        }
        writeln!(
            out,
            " ({}×{}): {} found",
            self.width,
            self.height,
            self.detections.len()
        )?;
        for DetectionBox {
            label,
            score,
            corners: [x1, y1, x2, y2],
        } in &self.detections
        {
            writeln!(
                out,
                "  {score:.2} {label:<16} x {x1:.0} to {x2:.0}, y {y1:.0} to {y2:.0}"
            )?;
        }
        Ok(())
    }
}
