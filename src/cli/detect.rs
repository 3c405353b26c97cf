//! `gridwatch detect`: what a model finds in pictures and clips, without cameras, rules or a broker.

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

/// Say what a model finds in pictures and clips.
///
/// Each picture is treated as a camera's would be: scaled and padded as the model's manifest says, judged once. Nothing
/// is filed. Use it to see what a model can do on your own streets before a rule relies on it, and to choose thresholds.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch detect --model models/garbage_nano_416 street.jpg
  gridwatch detect --model models/yolox_nano_416_coco --min-score 0.4 --json *.jpg > found.jsonl
  gridwatch detect --model models/garbage_nano_416 --json demo/clips/street-a.mp4

With --json each picture gives one line:
  {\"image\":\"street.jpg\",\"width\":1920,\"height\":1080,\"detections\":[{\"label\":\"garbage\",\"score\":0.71,\"box\":[812.0,655.5,990.2,801.0]}]}
A box is [left, top, right, bottom] in pixels of the picture as it is shown (turned as its EXIF data says).
Each frame of a clip gives a line, with its number (\"frame\", from 0) and time (\"time_s\").

Exit codes: 0 all were judged; 3 the model or ONNX Runtime's library is not usable; 5 some could not be read: each is
named on standard error, and the others were judged.")]
pub struct Args {
    /// The model's folder: model.onnx, model.toml, CARD.md.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// Report only what scores at least this, 0 to 1. [default: the manifest's score_floor and label_floors]
    #[arg(long, value_name = "S", value_parser = score)]
    min_score: Option<f32>,

    /// Print one JSON object a line, for programs.
    #[arg(long)]
    json: bool,

    /// Also write each picture with what was found drawn into it, as DIR/NAME.png (of a clip one for each frame). Nothing is
    /// masked: keep them to yourself.
    #[arg(long, value_name = "DIR")]
    overlay: Option<PathBuf>,

    /// ONNX Runtime's shared library. [default: where edge-deploy/setup.sh puts it]
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,

    /// Pictures (JPEG, PNG, WebP or BMP, told by their content) and clips (what GStreamer opens).
    #[arg(required = true, value_name = "PICTURE|CLIP")]
    pictures: Vec<PathBuf>,
}

pub(super) fn score(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(score) if (0.0..=1.0).contains(&score) => Ok(score),
        _ => Err("a score is a number from 0 to 1".into()),
    }
}

/// Runs the command on standard output and standard error.
///
/// # Errors
/// As [`run_to`].
pub fn run(args: Args) -> Result<ExitCode, ModelError> {
    run_to(args, &mut BufWriter::new(io::stdout().lock()), &mut io::stderr()).map(ExitCode::from)
}

/// Runs the command: what it finds goes to `out`, pictures that cannot be read are named on `err`. Returns the exit code.
///
/// # Errors
/// A model or library that cannot be used, before any picture is read.
pub fn run_to(args: Args, out: &mut impl Write, err: &mut impl Write) -> Result<u8, ModelError> {
    let model = Model::load(&args.model)?;
    let mut panel = ModelSet::new(&runtime::init(args.onnxruntime.as_deref())?, [&model])?;
    if let Some(floor) = args.min_score {
        panel.set_floor(floor);
    }
    let mut code = 0;
    for path in &args.pictures {
        match judge(&mut panel, path, &args, out) {
            Ok(()) => {}
            // Whoever reads us has seen enough: `| head`.
            Err(Failure::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => break,
            Err(e) => {
                // Standard error may be closed too; the exit code still tells.
                let _ = writeln!(err, "{}: {e}", path.display());
                code = Class::Data.exit_code();
            }
        }
    }
    Ok(code)
}

/// What may befall one picture. The next one may be better.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot be read: {0}")]
    Open(io::Error),
    #[error("is not a picture that can be decoded (JPEG, PNG, WebP or BMP is needed): {0}")]
    Decode(ImageError),
    #[error("its overlay cannot be written: {0}")]
    Overlay(ImageError),
    #[cfg(feature = "gst")]
    #[error("{0}")]
    Clip(#[from] gridwatch_camera::clip::ClipError),
    #[error("{0}")]
    Frame(#[from] gridwatch_frame::FrameError),
    #[error("{0}")]
    Model(#[from] ModelError),
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// One picture to be judged, and what of a clip it is.
pub(super) struct Shot {
    pub(super) frame: Frame,
    /// Number of the frame in its clip, from 0, and its time in seconds.
    pub(super) in_clip: Option<(u64, f64)>,
}

/// What a file holds to be judged: one picture, or the frames of a clip.
pub(super) fn frames_of(path: &Path) -> Result<Box<dyn Iterator<Item = Result<Shot, Failure>>>, Failure> {
    // Told by content, like `upright` does: what `image` does not know may still be a clip.
    #[cfg(feature = "gst")]
    if ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(Failure::Open)?
        .format()
        .is_none()
    {
        let frames = gridwatch_camera::clip::frames(path)?;
        let shot = |(i, frame): (usize, Result<Frame, _>)| {
            let frame: Frame = frame?;
            let time_s = frame.captured_at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64();
            Ok(Shot {
                frame,
                in_clip: Some((i as u64, time_s)),
            })
        };
        return Ok(Box::new(frames.enumerate().map(shot)));
    }
    let frame = picture(path)?;
    Ok(Box::new(std::iter::once(Ok(Shot { frame, in_clip: None }))))
}

/// The picture that a file holds.
pub(super) fn picture(path: &Path) -> Result<Frame, Failure> {
    Ok(Frame::from_rgb(&upright(path)?.into_rgb8(), Timestamp::UNIX_EPOCH)?)
}

/// The picture as a viewer shows it: phones store it as the sensor lay and say in EXIF how to turn it.
pub(super) fn upright(path: &Path) -> Result<DynamicImage, Failure> {
    frame::upright(path).map_err(|e| match e {
        ImageError::IoError(e) => Failure::Open(e),
        e => Failure::Decode(e),
    })
}

fn judge(panel: &mut ModelSet, path: &Path, args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    for shot in frames_of(path)? {
        let shot = shot?;
        let found = panel.shown(&shot.frame).detect(0)?;
        let report = Report::new(path, &shot, &found);
        if args.json {
            serde_json::to_writer(&mut *out, &report).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            report.write(out)?;
        }
        out.flush()?;
        if let Some(dir) = &args.overlay {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = shot.in_clip.map_or(stem.to_string(), |(n, _)| format!("{stem}-{n:06}"));
            overlay::write(dir, &name, shot.frame.to_rgb()?, &found).map_err(Failure::Overlay)?;
        }
    }
    Ok(())
}

/// One line of the command's JSON.
#[derive(Serialize)]
struct Report<'a> {
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_s: Option<f64>,
    width: u32,
    height: u32,
    detections: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    label: &'a str,
    score: f32,
    #[serde(rename = "box")]
    corners: [f32; 4],
}

impl<'a> Report<'a> {
    fn new(path: &Path, shot: &Shot, found: &'a [Detection]) -> Self {
        let (width, height) = (shot.frame.width, shot.frame.height);
        let line = |d: &'a Detection| {
            let (w, h) = (width as f32, height as f32);
            Line {
                label: d.label.as_str(),
                score: d.score,
                corners: [d.bbox.x1 * w, d.bbox.y1 * h, d.bbox.x2 * w, d.bbox.y2 * h],
            }
        };
        Self {
            image: path.display().to_string(),
            frame: shot.in_clip.map(|(number, _)| number),
            time_s: shot.in_clip.map(|(_, time)| time),
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
        for Line {
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
