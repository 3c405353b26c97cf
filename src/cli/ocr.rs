//! `gridwatch ocr`: reads the text of small ads and banners in pictures and clips, without cameras, rules or a broker, and measures
//! the accuracy against a list of the true texts.

mod accuracy;

use std::{
    fmt,
    io::{self, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use self::accuracy::{Accuracy, Truth};
use super::{
    Failure,
    options::RuntimeArgs,
    pictures::{PictureError, PictureRow, SourceFrame, frames_of},
    share::share,
    terminal, written_to_stdout,
};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_model::{
    Model,
    ocr::{AdvertKind, Phrasebook, Reader, TextLine, TextMemory, WallText, adverts},
};

/// Read small ads and banners in pictures and clips.
///
/// Use it to see how well text is read at your cameras' resolution: Chinese and Latin characters and digits at least 16 pixels high,
/// at full resolution. It tells small ads (mainland China's mobile, landline, 400 and 800 numbers in any punctuation, or a trade with
/// a messenger id) and banners from other text; dates, times, licence plates and ID numbers are rejected. Names and ID numbers in the
/// text are replaced by asterisks. Nothing is filed. With --truth it reports the share of characters, lines and numbers read exactly.
#[derive(Debug, clap::Args)]
#[command(
    visible_alias = "read",
    after_help = "\
Examples:
  gridwatch ocr wall.jpg
  gridwatch ocr --json *.jpg > texts.jsonl
  gridwatch ocr --truth flyers/truth.json flyers/*.jpg     measure accuracy (see docs/reading.md)
  gridwatch ocr --looks 3 --truth looks/truth.json looks/*.jpg     three pictures of each wall
  gridwatch ocr --crops --truth lines/truth.json lines/*.jpg     pictures of one line each

With --json the output has one line per picture, then the summary:
  {\"image\":\"wall.jpg\",\"width\":1280,\"height\":720,
   \"adverts\":[{\"kind\":\"small_ad\",\"score\":0.98,\"number\":\"13800138000\",\"trades\":[\"locks\"],\"text\":\"开锁 138-0013-8000\",\"corners\":[[812.0,655.5],…]}],
   \"numbers\":[{\"number\":\"13800138000\",\"score\":0.98,\"text\":\"开锁 138-0013-8000\",\"corners\":[[812.0,655.5],…]}],
   \"lines\":[{\"text\":\"138-0013-8000\",\"score\":0.99,\"corners\":[[812.0,655.5],…]},…]}
An advert's score is the lowest probability of any digit of its number, or the lower of those of trade and messenger id. Corners are in
pixels, clockwise from the top left of the text. `numbers` are the adverts with a phone number.
The truth file lists the texts and numbers of each picture by file name; pictures without any may be left out. All fields are optional;
the height of the characters in pixels splits the figures:
  {\"wall.jpg\": [{\"text\": \"开锁 138-0013-8000\", \"number\": \"13800138000\", \"height\": 18}]}

Exit codes: 0 all were processed; 3 a model, the adverts or truth file or the ONNX Runtime library is not usable; 5 some could not be
read (each is reported on standard error; the others were processed)."
)]
pub struct OcrArgs {
    /// Model that finds lines of text (adapter `db`). [default: gridwatch's own models/ppocr_v6_text_det]
    #[arg(long, value_name = "DIR")]
    finder: Option<PathBuf>,

    /// Model that recognises the characters of a line (adapter `ctc`). [default: gridwatch's own models/ppocr_v6_rec]
    #[arg(long, value_name = "DIR")]
    speller: Option<PathBuf>,

    /// File of the trades, phrases and messengers of small ads. [default: gridwatch's own configs/adverts/default.toml]
    #[arg(long, value_name = "FILE")]
    adverts: Option<PathBuf>,

    /// JSON file of the true texts; report the accuracy against it.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,

    /// Every N pictures, or frames of a clip, in order are looks at the same view: their readings are voted on, as the daemon does,
    /// and the last of them is reported.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    looks: u32,

    /// Each picture is one line of text and nothing else; the finder is not used.
    #[arg(long)]
    crops: bool,

    /// Print JSON Lines; the last line is the summary.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    runtime: RuntimeArgs,

    /// Pictures (JPEG, PNG, WebP or BMP) and clips (any format GStreamer reads); the type is detected from the content.
    #[arg(required = true, value_name = "PICTURE|CLIP")]
    pictures: Vec<PathBuf>,
}

/// Totals over all pictures.
#[derive(Debug, Default, Serialize)]
struct OcrSummary {
    pictures: usize,
    /// Pictures in which a number was read, right or wrong.
    with_numbers: usize,
    /// Pictures with an advert, with a number or not.
    with_adverts: usize,
    /// Lines of text read.
    lines: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    against_truth: Option<Accuracy>,
    /// Mean time per picture, milliseconds.
    ms: f64,
}

/// Runs the command on standard output and standard error.
///
/// # Errors
/// As [`run_to`].
pub fn run(args: &OcrArgs) -> Result<ExitCode, Failure> {
    run_to(args, &mut BufWriter::new(terminal::stdout()), &mut terminal::stderr()).map(ExitCode::from)
}

/// Runs the command: texts go to `out`, one line for each unreadable picture to `err`. Returns the exit code.
///
/// # Errors
/// An unusable model, adverts or truth file or ONNX Runtime library, before any picture is read.
pub fn run_to(args: &OcrArgs, out: &mut impl Write, err: &mut impl Write) -> Result<u8, Failure> {
    let truth = args.truth.as_deref().map(Truth::read).transpose()?;
    let mut ocr = Ocr::new(args)?;
    let mut summary = OcrSummary {
        against_truth: truth.as_ref().map(|_| Accuracy::default()),
        ..OcrSummary::default()
    };
    let (mut code, mut spent) = (0, Duration::ZERO);
    for path in &args.pictures {
        let mut each = |source: &SourceFrame, read: &PictureText, took: Duration| {
            spent += took;
            summary.add(read);
            if let (Some(accuracy), Some(truth)) = (&mut summary.against_truth, &truth) {
                let numbers = read
                    .adverts
                    .iter()
                    .filter_map(|a| a.number.as_ref().map(|n| n.as_str()));
                accuracy.add(truth.of(path), &read.texts(args.crops), &numbers.collect(), args.crops);
            }
            let texts = Texts::new(read, (source.frame.width, source.frame.height));
            PictureRow::of(path, source, texts).write(args.json, out)
        };
        match ocr.read_all(path, &mut each) {
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

/// The reader and the words of adverts.
struct Ocr {
    reader: Reader,
    phrasebook: Phrasebook,
    crops: bool,
    looks: u32,
    /// What was read in the looks so far at the present view, and how many they are.
    memory: (TextMemory, u32),
}

/// What was read in one picture.
struct PictureText {
    lines: Vec<TextLine>,
    adverts: Vec<WallText>,
}

impl Ocr {
    fn new(args: &OcrArgs) -> Result<Self, Failure> {
        let own = |named: &Option<PathBuf>, own: &str| -> Result<PathBuf, Failure> {
            match named {
                Some(path) => Ok(path.clone()),
                None => Ok(share()?.join(own)),
            }
        };
        let phrasebook = gridwatch_config::read_adverts(&own(&args.adverts, "configs/adverts/default.toml")?)?;
        let runtime = args.runtime.load()?;
        let finder = Model::load(&own(&args.finder, "models/ppocr_v6_text_det")?)?;
        let speller = Model::load(&own(&args.speller, "models/ppocr_v6_rec")?)?;
        Ok(Self {
            reader: Reader::new(&runtime, &finder, &speller)?,
            phrasebook,
            crops: args.crops,
            looks: args.looks,
            memory: (TextMemory::default(), 0),
        })
    }

    fn read_all(
        &mut self,
        path: &std::path::Path,
        each: &mut impl FnMut(&SourceFrame, &PictureText, Duration) -> io::Result<()>,
    ) -> Result<(), PictureError> {
        for source in frames_of(path)? {
            let source = source?;
            let start = Instant::now();
            let lines = match self.crops {
                true => vec![self.reader.line(&source.frame)?],
                false => self.reader.lines(&source.frame, &[])?,
            };
            let (memory, looks) = &mut self.memory;
            let at = Timestamp::from_second(i64::from(*looks)).unwrap_or_default();
            let lines = memory.vote(at, lines);
            *looks += 1;
            if *looks < self.looks {
                continue;
            }
            self.memory = (TextMemory::default(), 0);
            let adverts = adverts::find(&lines, &self.phrasebook, self.reader.floor());
            each(&source, &PictureText { lines, adverts }, start.elapsed())?;
        }
        Ok(())
    }
}

impl PictureText {
    /// The texts that true texts are looked for in: each line of a crop, or the lines of each thing on the wall in reading order.
    fn texts(&self, crops: bool) -> Vec<String> {
        match crops {
            true => self.lines.iter().map(TextLine::text).collect(),
            false => adverts::texts(&self.lines),
        }
    }
}

impl OcrSummary {
    fn add(&mut self, read: &PictureText) {
        self.pictures += 1;
        self.lines += read.lines.len();
        self.with_adverts += usize::from(!read.adverts.is_empty());
        self.with_numbers += usize::from(read.adverts.iter().any(|a| a.number.is_some()));
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let share = |n: usize| 100.0 * n as f64 / self.pictures.max(1) as f64;
        let Self {
            pictures,
            with_numbers,
            with_adverts,
            ..
        } = *self;
        writeln!(
            out,
            "{}, {with_numbers} with numbers ({:.1} %), {with_adverts} with adverts ({:.1} %), {}, {:.0} ms per picture.",
            counted(pictures, "picture", "pictures"),
            share(with_numbers),
            share(with_adverts),
            counted(self.lines, "line", "lines"),
            self.ms
        )?;
        match &self.against_truth {
            Some(accuracy) => accuracy.write(pictures, out),
            None => Ok(()),
        }
    }
}

/// The text in one picture.
#[derive(Serialize)]
struct Texts<'a> {
    adverts: Vec<AdvertBox<'a>>,
    numbers: Vec<NumberBox<'a>>,
    lines: Vec<LineText>,
}

#[derive(Serialize)]
struct AdvertBox<'a> {
    kind: &'static str,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messenger: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    trades: &'a [String],
    text: &'a str,
    /// Pixels, clockwise from the top left of the text.
    corners: [[f32; 2]; 4],
}

#[derive(Serialize)]
struct NumberBox<'a> {
    number: &'a str,
    score: f32,
    text: &'a str,
    corners: [[f32; 2]; 4],
}

#[derive(Serialize)]
struct LineText {
    text: String,
    score: f32,
    corners: [[f32; 2]; 4],
}

impl<'a> Texts<'a> {
    fn new(read: &'a PictureText, (width, height): (u32, u32)) -> Self {
        let (w, h) = (width as f32, height as f32);
        let pixels = |corners: [[f32; 2]; 4]| corners.map(|[x, y]| [x * w, y * h]);
        let advert = |a: &'a WallText| AdvertBox {
            kind: match a.kind {
                Some(AdvertKind::Banner) => "banner",
                Some(AdvertKind::Notice) => "notice",
                _ => "small_ad",
            },
            score: a.score,
            number: a.number.as_ref().map(|n| n.as_str()),
            messenger: a.messenger.as_deref(),
            trades: &a.trades,
            text: a.text.text.as_str(),
            corners: pixels(a.corners),
        };
        let adverts: Vec<AdvertBox<'a>> = read.adverts.iter().map(advert).collect();
        let number = |a: &AdvertBox<'a>| {
            Some(NumberBox {
                number: a.number?,
                score: a.score,
                text: a.text,
                corners: a.corners,
            })
        };
        Self {
            numbers: adverts.iter().filter_map(number).collect(),
            adverts,
            lines: read
                .lines
                .iter()
                .map(|line| LineText {
                    text: line.text(),
                    score: line.score(),
                    corners: pixels(line.corners()),
                })
                .collect(),
        }
    }
}

impl fmt::Display for Texts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let adverts = counted(self.adverts.len(), "advert", "adverts");
        write!(f, "{adverts}, {}", counted(self.lines.len(), "line", "lines"))?;
        for AdvertBox {
            kind,
            score,
            number,
            messenger,
            text,
            corners: [[x, y], ..],
            ..
        } in &self.adverts
        {
            let contact = number.or(*messenger).unwrap_or_default();
            write!(
                f,
                "\n  {score:.2} {kind:<8} {contact:<13} at x {x:.0}, y {y:.0}  {text:?}"
            )?;
        }
        Ok(())
    }
}
