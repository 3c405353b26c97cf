//! `gridwatch read`: reads phone numbers in pictures and clips, without cameras, rules or a broker, and measures the accuracy
//! against a list of the true numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    Failure,
    options::RuntimeArgs,
    pictures::{PictureError, PictureRow, SourceFrame, frames_of},
    share::share,
    written_to_stdout,
};
use gridwatch_base::{error::Class, file, text::counted};
use gridwatch_model::{
    Model,
    ocr::{NumberReading, Reader},
};

/// Read phone numbers in pictures and clips.
///
/// Use it to see how well small ads are read at your cameras' resolution. It reads mainland China's mobile, landline (with area
/// code), 400 and 800 numbers in any punctuation; dates, times, licence plates and ID numbers are rejected. Pictures are read
/// at full resolution; digits should be at least 14 pixels high. Nothing is filed. With --truth it reports the share of
/// numbers read exactly and the count of false ones.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch read wall.jpg
  gridwatch read --json *.jpg > numbers.jsonl
  gridwatch read --truth flyers/truth.json flyers/*.jpg     measure accuracy (see docs/reading.md)

With --json it prints one line per picture, then the summary:
  {\"image\":\"wall.jpg\",\"width\":1280,\"height\":720,\"numbers\":[{\"number\":\"13800138000\",\"score\":0.98,\"text\":\"Tel: 138-0013-8000\",\"corners\":[[812.0,655.5],…]}]}
The score is the lowest probability of any digit. Corners are in pixels, clockwise from the top left of the text line.
The truth file lists the numbers of each picture by file name; pictures without numbers may be left out:
  {\"wall.jpg\": [{\"number\": \"13800138000\"}]}

Exit codes: 0 all were processed; 3 a model, the truth file or the ONNX Runtime library is not usable; 5 some could not be
read (each is reported on standard error; the others were processed).")]
pub struct ReadArgs {
    /// Model that finds lines of text (adapter `db`). [default: gridwatch's own models/ppocr_v3_text_det]
    #[arg(long, value_name = "DIR")]
    finder: Option<PathBuf>,

    /// Model that recognises the characters of a line (adapter `ctc`). [default: gridwatch's own models/ppocr_v2_number_rec]
    #[arg(long, value_name = "DIR")]
    speller: Option<PathBuf>,

    /// JSON file of the true numbers; report the accuracy against it.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,

    /// Print JSON Lines; the last line is the summary.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    runtime: RuntimeArgs,

    /// Pictures (JPEG, PNG, WebP or BMP) and clips (any format GStreamer reads); the type is detected from the content.
    #[arg(required = true, value_name = "PICTURE|CLIP")]
    pictures: Vec<PathBuf>,
}

/// The true numbers of each picture, by file name.
type TrueNumbers = BTreeMap<String, Vec<TrueNumber>>;

/// A number that is in a picture. Other fields of the truth file are ignored.
#[derive(Debug, Deserialize)]
struct TrueNumber {
    number: String,
}

/// Totals over all pictures.
#[derive(Debug, Default, Serialize)]
struct ReadSummary {
    pictures: usize,
    /// Pictures in which a number was read, right or wrong.
    with_numbers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    against_truth: Option<ReadAccuracy>,
    /// Mean time per picture, milliseconds.
    ms: f64,
}

#[derive(Debug, Default, Serialize)]
struct ReadAccuracy {
    /// True numbers, each counted once per picture.
    there: usize,
    /// True numbers that were read exactly.
    exact: usize,
    /// Numbers that were read but are not in the picture.
    wrong: usize,
    /// Pictures with at least one wrong number.
    pictures_with_wrong: usize,
}

/// Runs the command on standard output and standard error.
///
/// # Errors
/// As [`run_to`].
pub fn run(args: &ReadArgs) -> Result<ExitCode, Failure> {
    run_to(args, &mut BufWriter::new(io::stdout().lock()), &mut io::stderr()).map(ExitCode::from)
}

/// Runs the command: numbers go to `out`, one line for each unreadable picture to `err`. Returns the exit code.
///
/// # Errors
/// An unusable model, truth file or ONNX Runtime library, before any picture is read.
pub fn run_to(args: &ReadArgs, out: &mut impl Write, err: &mut impl Write) -> Result<u8, Failure> {
    let truth = args.truth.as_deref().map(read_truth).transpose()?;
    let runtime = args.runtime.load()?;
    let model = |named: &Option<PathBuf>, own: &str| -> Result<Model, Failure> {
        let dir = match named {
            Some(dir) => dir.clone(),
            None => share()?.join("models").join(own),
        };
        Ok(Model::load(&dir)?)
    };
    let finder = model(&args.finder, "ppocr_v3_text_det")?;
    let speller = model(&args.speller, "ppocr_v2_number_rec")?;
    let mut reader = Reader::new(&runtime, &finder, &speller)?;
    let mut summary = ReadSummary {
        against_truth: truth.as_ref().map(|_| ReadAccuracy::default()),
        ..ReadSummary::default()
    };
    let (mut code, mut spent) = (0, Duration::ZERO);
    for path in &args.pictures {
        let mut each = |source: &SourceFrame, read: &[NumberReading], took: Duration| {
            spent += took;
            summary.add(path, read, truth.as_ref());
            let numbers = Numbers::new(read, (source.frame.width, source.frame.height));
            PictureRow::of(path, source, numbers).write(args.json, out)
        };
        match read_all(&mut reader, path, &mut each) {
            Ok(()) => {}
            // The reader closed the pipe (`| head`).
            Err(PictureError::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(code),
            Err(e) => {
                // Standard error may be closed too; the exit code still reports the failure.
                let _ = writeln!(err, "{}: {e}", path.display());
                code = Class::Data.exit_code();
            }
        }
    }
    summary.ms = spent.as_secs_f64() * 1000.0 / summary.pictures.max(1) as f64;
    let written = if args.json {
        writeln!(out, "{}", serde_json::json!({ "summary": summary }))
    } else {
        summary.write(out)
    };
    written_to_stdout(written.and_then(|()| out.flush()))?;
    Ok(code)
}

fn read_truth(file: &Path) -> Result<TrueNumbers, Failure> {
    let fault = |message: String| Failure::new(Class::Config, format!("--truth {}: {message}", file.display()));
    let text = file::read_text(file, file::MAX_DATA).map_err(|e| fault(format!("cannot read the file: {e}")))?;
    serde_json::from_str(&text).map_err(|e| {
        fault(format!(
            "{e}; expected the numbers of each picture: {{\"wall.jpg\": [{{\"number\": \"13800138000\"}}]}}"
        ))
    })
}

fn read_all(
    reader: &mut Reader,
    path: &Path,
    each: &mut impl FnMut(&SourceFrame, &[NumberReading], Duration) -> io::Result<()>,
) -> Result<(), PictureError> {
    for source in frames_of(path)? {
        let source = source?;
        let start = Instant::now();
        let read = reader.read(&source.frame, &[])?;
        each(&source, &read, start.elapsed())?;
    }
    Ok(())
}

impl ReadSummary {
    fn add(&mut self, path: &Path, read: &[NumberReading], truth: Option<&TrueNumbers>) {
        self.pictures += 1;
        self.with_numbers += usize::from(!read.is_empty());
        let (Some(accuracy), Some(truth)) = (&mut self.against_truth, truth) else {
            return;
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let there = truth.get(&*name).map(Vec::as_slice).unwrap_or_default();
        let there: BTreeSet<&str> = there.iter().map(|t| t.number.as_str()).collect();
        let read: BTreeSet<&str> = read.iter().map(|r| r.number.as_str()).collect();
        let wrong = read.difference(&there).count();
        accuracy.there += there.len();
        accuracy.exact += there.intersection(&read).count();
        accuracy.wrong += wrong;
        accuracy.pictures_with_wrong += usize::from(wrong > 0);
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let share = |n: usize, of: usize| 100.0 * n as f64 / of.max(1) as f64;
        let Self {
            pictures, with_numbers, ..
        } = *self;
        writeln!(
            out,
            "{}, {with_numbers} with numbers ({:.1} %), {:.0} ms per picture.",
            counted(pictures, "picture", "pictures"),
            share(with_numbers, pictures),
            self.ms
        )?;
        if let Some(accuracy) = &self.against_truth {
            writeln!(
                out,
                "{} of {} read exactly ({:.1} %); {} in {} ({:.1} %).",
                accuracy.exact,
                counted(accuracy.there, "true number", "true numbers"),
                share(accuracy.exact, accuracy.there),
                counted(accuracy.wrong, "false number", "false numbers"),
                counted(accuracy.pictures_with_wrong, "picture", "pictures"),
                share(accuracy.pictures_with_wrong, pictures)
            )?;
        }
        Ok(())
    }
}

/// The phone numbers in one picture.
#[derive(Serialize)]
struct Numbers<'a> {
    numbers: Vec<NumberBox<'a>>,
}

#[derive(Serialize)]
struct NumberBox<'a> {
    number: &'a str,
    score: f32,
    text: &'a str,
    /// Pixels, clockwise from the top left of the text line.
    corners: [[f32; 2]; 4],
}

impl<'a> Numbers<'a> {
    fn new(read: &'a [NumberReading], (width, height): (u32, u32)) -> Self {
        let (w, h) = (width as f32, height as f32);
        let number = |r: &'a NumberReading| NumberBox {
            number: r.number.as_str(),
            score: r.score,
            text: &r.text,
            corners: r.corners.map(|[x, y]| [x * w, y * h]),
        };
        Self {
            numbers: read.iter().map(number).collect(),
        }
    }
}

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} found", self.numbers.len())?;
        for NumberBox {
            number,
            score,
            text,
            corners: [[x, y], ..],
        } in &self.numbers
        {
            write!(f, "\n  {score:.2} {number:<13} at x {x:.0}, y {y:.0}  {text:?}")?;
        }
        Ok(())
    }
}
