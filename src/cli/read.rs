//! `gridwatch read`: the telephone numbers in pictures and clips, without cameras, rules or a broker; and how many of those that
//! are there it reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    Failure,
    detect::{self, Shot, frames_of},
};
use gridwatch_base::error::Class;
use gridwatch_model::{Model, Reading, ocr::reader::Reader, runtime};

/// Read the telephone numbers in pictures and clips.
///
/// Mainland China's mobile, landline (with area code), 400 and 800 numbers, however they are punctuated. Dates, clocks, plates
/// and ids are none. Each picture is read in its own size: digits must be some 14 pixels high. Nothing is filed. With --truth it
/// says how many of the numbers that are there were read exactly, and how many were read that are not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch read wall.jpg
  gridwatch read --json *.jpg > numbers.jsonl
  gridwatch read --truth flyers/truth.json flyers/*.jpg     how well it reads; docs/reading.md makes such a folder

With --json each picture gives one line:
  {\"image\":\"wall.jpg\",\"width\":1280,\"height\":720,\"numbers\":[{\"number\":\"13800138000\",\"score\":0.98,\"text\":\"Tel: 138-0013-8000\",\"corners\":[[812.0,655.5],…]}]}
The score is the least of its digits' probabilities; corners are pixels of the picture, from the line's left top.
The truth names the numbers of each picture by its file's name, and a picture without any may be left out:
  {\"wall.jpg\": [{\"number\": \"13800138000\"}]}

Exit codes: 0 all were read; 3 a model, the truth or ONNX Runtime's library is not usable; 5 some could not be read: each is
named on standard error, and the others were.")]
pub struct Args {
    /// The model that finds lines of text, adapter `db`.
    #[arg(long, value_name = "DIR", default_value = "models/ppocr_v3_text_det")]
    finder: PathBuf,

    /// The model that spells a line, adapter `ctc`.
    #[arg(long, value_name = "DIR", default_value = "models/ppocr_v2_number_rec")]
    speller: PathBuf,

    /// Numbers that are there, as JSON: tells how many were read.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,

    /// Print one JSON object a line, for programs; the summary is the last.
    #[arg(long)]
    json: bool,

    /// ONNX Runtime's shared library. [default: where edge-deploy/setup.sh puts it]
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,

    /// Pictures (JPEG, PNG, WebP or BMP, told by their content) and clips (what GStreamer opens).
    #[arg(required = true, value_name = "PICTURE|CLIP")]
    pictures: Vec<PathBuf>,
}

/// By the file's name.
type Truth = BTreeMap<String, Vec<True>>;

/// A number that is in a picture; whatever else is said of it is for people.
#[derive(Debug, Deserialize)]
struct True {
    number: String,
}

/// What all pictures add up to.
#[derive(Debug, Default, Serialize)]
struct Summary {
    pictures: usize,
    /// Pictures with a number, whatever the truth.
    with_numbers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    against_truth: Option<Score>,
    /// Mean time of one, in milliseconds.
    ms: f64,
}

#[derive(Debug, Default, Serialize)]
struct Score {
    /// Numbers that are there, each once a picture.
    there: usize,
    /// And were read, all digits right.
    exact: usize,
    /// Numbers that were read and are not there.
    wrong: usize,
    /// Pictures with such a one.
    pictures_with_wrong: usize,
}

/// Runs the command on standard output and standard error.
///
/// # Errors
/// As [`run_to`].
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    run_to(args, &mut BufWriter::new(io::stdout().lock()), &mut io::stderr()).map(ExitCode::from)
}

/// Runs the command: what it reads goes to `out`, pictures that cannot be read are named on `err`. Returns the exit code.
///
/// # Errors
/// A model, truth or library that cannot be used, before any picture is read.
pub fn run_to(args: &Args, out: &mut impl Write, err: &mut impl Write) -> Result<u8, Failure> {
    let truth = args.truth.as_deref().map(truth).transpose()?;
    let runtime = runtime::init(args.onnxruntime.as_deref()).map_err(gridwatch_model::ModelError::from)?;
    let mut reader = Reader::new(&runtime, &Model::load(&args.finder)?, &Model::load(&args.speller)?)?;
    let mut summary = Summary {
        against_truth: truth.as_ref().map(|_| Score::default()),
        ..Summary::default()
    };
    let (mut code, mut spent) = (0, Duration::ZERO);
    for path in &args.pictures {
        let mut each = |shot: &Shot, read: &[Reading], took: Duration| {
            spent += took;
            summary.add(path, read, truth.as_ref());
            show(path, shot, read, args.json, out)
        };
        match read_all(&mut reader, path, &mut each) {
            Ok(()) => {}
            // Whoever reads us has seen enough: `| head`.
            Err(detect::Failure::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(code),
            Err(e) => {
                // Standard error may be closed too; the exit code still tells.
                let _ = writeln!(err, "{}: {e}", path.display());
                code = Class::Data.exit_code();
            }
        }
    }
    summary.ms = spent.as_secs_f64() * 1000.0 / summary.pictures.max(1) as f64;
    let told = if args.json {
        writeln!(out, "{}", serde_json::json!({ "summary": summary }))
    } else {
        summary.write(out)
    };
    match told.and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(Class::Transient, e.to_string())),
        _ => Ok(code),
    }
}

fn truth(file: &Path) -> Result<Truth, Failure> {
    let wrong = |message: String| Failure::new(Class::Config, format!("{}: {message}", file.display()));
    let text = fs::read(file).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    serde_json::from_slice(&text).map_err(|e| {
        wrong(format!(
            "{e}: it must name the numbers of each picture: {{\"wall.jpg\": [{{\"number\": \"13800138000\"}}]}}"
        ))
    })
}

fn read_all(
    reader: &mut Reader,
    path: &Path,
    each: &mut impl FnMut(&Shot, &[Reading], Duration) -> io::Result<()>,
) -> Result<(), detect::Failure> {
    for shot in frames_of(path)? {
        let shot = shot?;
        let start = Instant::now();
        let read = reader.read(&shot.frame, &[])?;
        each(&shot, &read, start.elapsed())?;
    }
    Ok(())
}

impl Summary {
    fn add(&mut self, path: &Path, read: &[Reading], truth: Option<&Truth>) {
        self.pictures += 1;
        self.with_numbers += usize::from(!read.is_empty());
        let (Some(score), Some(truth)) = (&mut self.against_truth, truth) else {
            return;
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let there = truth.get(&*name).map(Vec::as_slice).unwrap_or_default();
        let there: BTreeSet<&str> = there.iter().map(|t| t.number.as_str()).collect();
        let read: BTreeSet<&str> = read.iter().map(|r| r.number.as_str()).collect();
        let wrong = read.difference(&there).count();
        score.there += there.len();
        score.exact += there.intersection(&read).count();
        score.wrong += wrong;
        score.pictures_with_wrong += usize::from(wrong > 0);
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let share = |n: usize, of: usize| 100.0 * n as f64 / of.max(1) as f64;
        let Self {
            pictures, with_numbers, ..
        } = *self;
        writeln!(
            out,
            "{pictures} pictures, numbers in {with_numbers} of them ({:.1} %), {:.0} ms each.",
            share(with_numbers, pictures),
            self.ms
        )?;
        if let Some(score) = &self.against_truth {
            writeln!(
                out,
                "Of {} numbers that are there {} were read exactly ({:.1} %); {} were read that are not there, in {} pictures \
                 ({:.1} %).",
                score.there,
                score.exact,
                share(score.exact, score.there),
                score.wrong,
                score.pictures_with_wrong,
                share(score.pictures_with_wrong, pictures)
            )?;
        }
        Ok(())
    }
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
    numbers: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    number: &'a str,
    score: f32,
    text: &'a str,
    corners: [[f32; 2]; 4],
}

fn show(path: &Path, shot: &Shot, read: &[Reading], json: bool, out: &mut impl Write) -> io::Result<()> {
    let (width, height) = (shot.frame.width, shot.frame.height);
    let numbers = read.iter().map(|r| Line {
        number: r.number.as_str(),
        score: r.score,
        text: &r.text,
        corners: r.corners.map(|[x, y]| [x * width as f32, y * height as f32]),
    });
    let report = Report {
        image: path.display().to_string(),
        frame: shot.in_clip.map(|(number, _)| number),
        time_s: shot.in_clip.map(|(_, time)| time),
        width,
        height,
        numbers: numbers.collect(),
    };
    if json {
        serde_json::to_writer(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", report.image)?;
        if let (Some(frame), Some(time)) = (report.frame, report.time_s) {
            write!(out, " frame {frame} at {time:.2} s")?;
        }
        writeln!(out, " ({width}×{height}): {} found", report.numbers.len())?;
        for Line {
            number,
            score,
            text,
            corners: [[x, y], ..],
        } in &report.numbers
        {
            writeln!(out, "  {score:.2} {number:<13} at x {x:.0}, y {y:.0}  {text:?}")?;
        }
    }
    out.flush()
}
