//! `gridwatch detect`: runs a model on pictures and clips, without cameras, rules or a broker.

use std::{
    fmt, fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use image::ImageFormat;
use serde::Serialize;

use super::{
    options::{RuntimeArgs, fraction},
    overlay,
    pictures::{PictureError, PictureRow, frames_of},
    private, terminal,
};
use gridwatch_base::error::Class;
use gridwatch_engine::Detection;
use gridwatch_model::{Model, ModelError, ModelSet};

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
pub struct DetectArgs {
    /// Model folder: model.onnx, model.toml, CARD.md.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// Report only detections with at least this score, 0 to 1. [default: the manifest's score_floor and label_floors]
    #[arg(long, value_name = "S", value_parser = fraction::<f32>)]
    min_score: Option<f32>,

    /// Print JSON Lines.
    #[arg(long)]
    json: bool,

    /// Also write each picture with its detections drawn, to DIR/NAME.png (for a clip, one file per frame). Faces and plates
    /// are not masked; only you can read the files.
    #[arg(long, value_name = "DIR")]
    overlay: Option<PathBuf>,

    #[command(flatten)]
    runtime: RuntimeArgs,

    /// Pictures (JPEG, PNG, WebP or BMP) and clips (any format GStreamer reads); the type is detected from the content.
    #[arg(required = true, value_name = "PICTURE|CLIP")]
    pictures: Vec<PathBuf>,
}

/// Runs the command on standard output and standard error.
///
/// # Errors
/// As [`run_to`].
pub fn run(args: DetectArgs) -> Result<ExitCode, ModelError> {
    run_to(args, &mut BufWriter::new(terminal::stdout()), &mut terminal::stderr()).map(ExitCode::from)
}

/// Runs the command: detections go to `out`, one line for each unreadable picture to `err`. Returns the exit code.
///
/// # Errors
/// An unusable model or ONNX Runtime library, before any picture is read.
pub fn run_to(args: DetectArgs, out: &mut impl Write, err: &mut impl Write) -> Result<u8, ModelError> {
    let model = Model::load(&args.model)?;
    let mut models = ModelSet::new(&args.runtime.load()?, [&model])?;
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

fn detect(models: &mut ModelSet, path: &Path, args: &DetectArgs, out: &mut impl Write) -> Result<(), PictureError> {
    for source in frames_of(path)? {
        let source = source?;
        let found = models.input(&source.frame).detect(0)?;
        let detections = Detections::new(&found, (source.frame.width, source.frame.height));
        PictureRow::of(path, &source, detections).write(args.json, out)?;
        if let Some(dir) = &args.overlay {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let name = source
                .in_clip
                .map_or(stem.to_string(), |(n, _)| format!("{stem}-{n:06}"));
            let mut picture = source.frame.to_rgb()?;
            overlay::draw(&mut picture, &found);
            fs::create_dir_all(dir)?;
            private::save_picture(&picture, ImageFormat::Png, &dir.join(format!("{name}.png")))
                .map_err(PictureError::Overlay)?;
        }
    }
    Ok(())
}

/// The detections in one picture.
#[derive(Serialize)]
struct Detections<'a> {
    detections: Vec<DetectionBox<'a>>,
}

#[derive(Serialize)]
struct DetectionBox<'a> {
    label: &'a str,
    score: f32,
    /// Left, top, right, bottom, in pixels.
    #[serde(rename = "box")]
    corners: [f32; 4],
}

impl<'a> Detections<'a> {
    fn new(found: &'a [Detection], (width, height): (u32, u32)) -> Self {
        let (w, h) = (width as f32, height as f32);
        let detection = |d: &'a Detection| DetectionBox {
            label: d.label.as_str(),
            score: d.score,
            corners: [d.bbox.x1 * w, d.bbox.y1 * h, d.bbox.x2 * w, d.bbox.y2 * h],
        };
        Self {
            detections: found.iter().map(detection).collect(),
        }
    }
}

impl fmt::Display for Detections<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} found", self.detections.len())?;
        for DetectionBox {
            label,
            score,
            corners: [x1, y1, x2, y2],
        } in &self.detections
        {
            write!(
                f,
                "\n  {score:.2} {label:<16} x {x1:.0} to {x2:.0}, y {y1:.0} to {y2:.0}"
            )?;
        }
        Ok(())
    }
}
