//! Two networks that read: one says where text stands, the other what one line of it says.

use std::{fs, sync::Arc};

use super::{
    Manifest, Model, ModelError, Runtime,
    adapter::{LayoutError, Output},
    manifest::{Adapter, Input},
    network::Network,
    panel::grey,
};
use gridwatch_engine::{BBox, Detection, Label, PhoneNumber};
use gridwatch_frame::Frame;
use crate::ocr::{numbers, crop::{Crop, Normalisation}, lines::{self, DbParams, LineBox, ProbabilityMap}, spell::{Alphabet, RecognisedChar}};

/// PaddleOCR's own values for the map; measured on rendered flyers (docs/reading.md) neither more nor less of each reads more.
const THRESHOLD: f32 = 0.3;
const UNCLIP: f32 = 1.6;
const THINNEST: f32 = 3.0;
/// A number has seven digits or more: what is less than this many times as wide as it is high holds none.
const MIN_ASPECT: f32 = 3.0;
/// A street full of lettering has some forty lines; a pattern that looks like text must not hold a worker up for long.
const MAX_LINES: usize = 100;
/// Parts of a picture that is larger than the network's input overlap by this share of it: a line of 14 digits, 36 pixels high.
const OVERLAP: f64 = 0.25;

/// Reads telephone numbers. Owned by one worker thread: ONNX Runtime's sessions are not shared.
///
/// Pictures are read in their own size, for digits of 14 pixels bear no shrinking. So it takes some 400 ms of one core for each
/// megapixel, which is for whoever calls it to bear in mind.
pub struct Reader {
    finder: Network,
    speller: Network,
    alphabet: Alphabet,
    cut: DbParams,
    /// The input of whichever network runs.
    tensor: Vec<f32>,
}

/// A line of text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextLine {
    /// Where, in pixels of the picture.
    pub line: LineBox,
    /// What it says, as far as the network's alphabet goes: other writing comes out as nothing, or as nonsense of low score.
    pub letters: Vec<RecognisedChar>,
}

/// A telephone number.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberReading {
    /// Its digits.
    pub number: PhoneNumber,
    /// The least of its digits' probabilities, 0..=1.
    pub score: f32,
    /// All that its line says.
    pub text: String,
    /// The line's corners as fractions of the picture, in reading order from the left top.
    pub corners: [[f32; 2]; 4],
}

impl TextLine {
    /// Its characters.
    pub fn spelled(&self) -> String {
        self.letters.iter().map(|l| l.char).collect()
    }
}

impl NumberReading {
    /// The upright box around its line, as fractions of the picture and cut off at its edges.
    pub fn bbox(&self) -> BBox {
        let of = |axis: usize, pick: fn(f32, f32) -> f32, start: f32| {
            let values = self.corners.iter().map(|c| c[axis].clamp(0.0, 1.0));
            values.fold(start, pick)
        };
        BBox {
            x1: of(0, f32::min, 1.0),
            y1: of(1, f32::min, 1.0),
            x2: of(0, f32::max, 0.0),
            y2: of(1, f32::max, 0.0),
        }
    }

    /// What the engine is told of it.
    pub fn detection(self) -> Detection {
        Detection {
            label: Label::small_ad(),
            score: self.score,
            bbox: self.bbox(),
            appearance: None,
            number: Some(self.number),
            closer: None,
        }
    }
}

impl Reader {
    /// Loads both networks, each into a session of its own. Both have looked at a grey picture, so that what cannot be read
    /// fails here and not at the first look.
    ///
    /// # Errors
    /// [`ModelError::WrongAdapter`] where the adapters are not `db` and `ctc`, [`ModelError::Alphabet`] for another network's
    /// alphabet; otherwise as [`super::ModelSet::new`].
    pub fn new(runtime: &Runtime, finder: &Model, speller: &Model) -> Result<Self, ModelError> {
        for (model, adapter) in [(finder, Adapter::Db), (speller, Adapter::Ctc)] {
            let manifest = model.manifest();
            if manifest.adapter != adapter {
                return Err(ModelError::WrongAdapter {
                    model: manifest.id.clone(),
                    found: manifest.adapter,
                    needed: adapter,
                });
            }
        }
        let file = speller.beside(
            speller
                .manifest()
                .alphabet
                .as_deref()
                .unwrap_or("alphabet.txt".as_ref()),
        );
        let text = fs::read_to_string(&file).map_err(|source| ModelError::Read {
            path: file.clone(),
            source,
        })?;
        let mut speller_network = Network::open(runtime, speller)?;
        let Input { width, height, .. } = speller.manifest().input;
        let grey_line = vec![0.0; 3 * width as usize * height as usize];
        let classes = speller_network.run(&grey_line, (width, height), |outputs| steps(outputs).map(|(_, n)| n))?;
        let alphabet = Alphabet::parse(&text, classes).map_err(|source| ModelError::Alphabet { file, source })?;
        let mut reader = Self {
            finder: Network::open(runtime, finder)?,
            speller: speller_network,
            alphabet,
            cut: DbParams {
                threshold: THRESHOLD,
                floor: finder.manifest().score_floor,
                unclip: UNCLIP,
                thinnest: THINNEST,
            },
            tensor: Vec::new(),
        };
        reader.texts(&grey(), &[])?;
        Ok(reader)
    }

    /// What its two models say about themselves: the finder of lines, and the speller.
    pub fn manifests(&self) -> [&Arc<Manifest>; 2] {
        [self.finder.manifest(), self.speller.manifest()]
    }

    /// The telephone numbers in `regions` (fractions of the picture; none: all of it), the surest first; each once at one place.
    /// A line that reaches over a region's edge is left out: its number may be cut off.
    ///
    /// # Errors
    /// [`ModelError::Frame`] for a broken frame, [`ModelError::Layout`] for outputs that cannot be read (numbers that are
    /// not finite among them), [`ModelError::Run`] where ONNX Runtime itself fails.
    pub fn read(&mut self, frame: &Frame, regions: &[BBox]) -> Result<Vec<NumberReading>, ModelError> {
        let floor = self.speller.manifest().score_floor;
        let (w, h) = (frame.width as f32, frame.height as f32);
        let mut readings: Vec<NumberReading> = Vec::new();
        for text in self.texts(frame, regions)? {
            let spelled = text.spelled();
            for found in numbers::find(&spelled) {
                let digits = text.letters[found.at].iter().filter(|l| l.char.is_ascii_digit());
                let reading = NumberReading {
                    number: found.number,
                    score: digits.map(|l| l.score).fold(1.0, f32::min),
                    text: spelled.clone(),
                    corners: text.line.corners().map(|[x, y]| [x / w, y / h]),
                };
                if reading.score >= floor {
                    readings.push(reading);
                }
            }
        }
        readings.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut kept: Vec<NumberReading> = Vec::with_capacity(readings.len());
        for reading in readings {
            // Where parts of the picture overlap it is read twice.
            let is_known = |k: &NumberReading| k.number == reading.number && k.bbox().holds(reading.bbox().centre());
            if !kept.iter().any(is_known) {
                kept.push(reading);
            }
        }
        Ok(kept)
    }

    /// The lines of text in `regions` that are long enough for a number, whatever they say.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn texts(&mut self, frame: &Frame, regions: &[BBox]) -> Result<Vec<TextLine>, ModelError> {
        frame.validate()?;
        let Input { width, height, .. } = self.finder.manifest().input;
        let mut found = Vec::new();
        for region in regions.iter().chain(regions.is_empty().then_some(&WHOLE)) {
            let side = |from: f32, to: f32, size: u32| {
                let pixel = |v: f32| (v.clamp(0.0, 1.0) * size as f32).round() as u32;
                (pixel(from), pixel(to))
            };
            let (x, y) = (
                side(region.x1, region.x2, frame.width),
                side(region.y1, region.y2, frame.height),
            );
            for (y1, y2) in parts(y, height) {
                for (x1, x2) in parts(x, width) {
                    self.lines(frame, [x1, y1, x2, y2], &mut found)?;
                }
            }
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(MAX_LINES);
        found.into_iter().map(|line| self.spell(frame, line)).collect()
    }

    /// Adds the lines that lie within a part of the picture.
    fn lines(&mut self, frame: &Frame, part: [u32; 4], found: &mut Vec<LineBox>) -> Result<(), ModelError> {
        let crop = Crop::of_part(part, 1.0);
        let (columns, rows) = (crop.width.next_multiple_of(32), crop.height.next_multiple_of(32));
        let scaling = scaling(&self.finder.manifest().input);
        crop.draw(frame, &scaling, columns, rows, &mut self.tensor);
        let cut = &self.cut;
        let lines = self
            .finder
            .run(&self.tensor, (columns as u32, rows as u32), |outputs| {
                let map = ProbabilityMap {
                    values: map(outputs, columns, rows)?,
                    stride: columns,
                    width: crop.width,
                    height: crop.height,
                };
                Ok(lines::find(map, cut))
            })?;
        let (w, h) = (crop.width as f32, crop.height as f32);
        let is_within = |line: &LineBox| {
            let inside = |[x, y]: [f32; 2]| (0.0..=w).contains(&x) && (0.0..=h).contains(&y);
            line.corners().into_iter().all(inside)
        };
        let long = lines.into_iter().filter(|l| l.width >= MIN_ASPECT * l.height);
        found.extend(long.filter(is_within).map(|line| LineBox {
            centre: crop.in_picture(line.centre),
            ..line
        }));
        Ok(())
    }

    fn spell(&mut self, frame: &Frame, line: LineBox) -> Result<TextLine, ModelError> {
        let input = &self.speller.manifest().input;
        let crop = Crop::of_line(&line, input.height as usize, input.width as usize);
        let scaling = scaling(input);
        crop.draw(frame, &scaling, crop.width, crop.height, &mut self.tensor);
        let alphabet = &self.alphabet;
        let size = (crop.width as u32, crop.height as u32);
        let letters = self.speller.run(&self.tensor, size, |outputs| {
            let (values, classes) = steps(outputs)?;
            if classes != alphabet.classes() {
                return Err(unfit(Adapter::Ctc, "as many classes at every look", outputs));
            }
            Ok(alphabet.spell(values))
        })?;
        Ok(TextLine { line, letters })
    }
}

const WHOLE: BBox = BBox {
    x1: 0.0,
    y1: 0.0,
    x2: 1.0,
    y2: 1.0,
};

fn scaling(input: &Input) -> Normalisation {
    Normalisation {
        colour: input.colour,
        // The manifest divides by `scale` before it subtracts.
        mean: input.mean.map(|v| v * input.scale),
        std: input.std.map(|v| v * input.scale),
    }
}

/// Cuts a stretch of pixels into as few as possible of at most `longest`, which overlap. Nothing for an empty one.
fn parts((from, to): (u32, u32), longest: u32) -> Vec<(u32, u32)> {
    if to <= from {
        return Vec::new();
    }
    let length = to - from;
    if length <= longest {
        return vec![(from, to)];
    }
    let step = (f64::from(longest) * (1.0 - OVERLAP)).max(1.0);
    let count = (f64::from(length - longest) / step).ceil() as u32 + 1;
    // Spread evenly.
    let start = |i: u32| from + (u64::from(length - longest) * u64::from(i) / u64::from(count - 1)) as u32;
    (0..count).map(|i| (start(i), start(i) + longest)).collect()
}

/// A DB head's map: `[1, 1, rows, columns]`.
fn map<'a>(outputs: &[Output<'a>], columns: usize, rows: usize) -> Result<&'a [f32], LayoutError> {
    match outputs {
        [only] if only.dimensions().eq([1, 1, rows as i64, columns as i64]) => finite(only.data),
        _ => Err(unfit(
            Adapter::Db,
            &format!("one output [1, 1, {rows}, {columns}], as large as the input"),
            outputs,
        )),
    }
}

/// A CTC head's steps and how many classes each has: `[1, steps, classes]`.
fn steps<'a>(outputs: &[Output<'a>]) -> Result<(&'a [f32], usize), LayoutError> {
    let [only] = outputs else {
        return Err(unfit(Adapter::Ctc, "one output [1, steps, classes]", outputs));
    };
    match only.dimensions().collect::<Vec<_>>()[..] {
        [1, steps, classes] if steps > 0 && classes > 1 => Ok((finite(only.data)?, classes as usize)),
        _ => Err(unfit(Adapter::Ctc, "one output [1, steps, classes]", outputs)),
    }
}

fn finite(values: &[f32]) -> Result<&[f32], LayoutError> {
    match values.iter().all(|v| v.is_finite()) {
        true => Ok(values),
        false => Err(LayoutError::NotFinite { index: 0 }),
    }
}

fn unfit(adapter: Adapter, needs: &str, outputs: &[Output<'_>]) -> LayoutError {
    let shapes: Vec<String> = outputs.iter().map(|o| format!("{:?}", o.shape)).collect();
    LayoutError::AdapterMismatch {
        adapter,
        why: format!("it needs {needs}"),
        outputs: shapes.join(", "),
        fitting: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_stretch_is_cut_into_parts_that_overlap() {
        assert_eq!(parts((10, 10), 64), []);
        assert_eq!(parts((10, 74), 64), [(10, 74)]);
        for length in [65, 100, 112, 113, 1000, 3840] {
            let parts = parts((7, 7 + length), 64);
            assert_eq!((parts[0].0, parts[parts.len() - 1].1), (7, 7 + length));
            for pair in parts.windows(2) {
                assert_eq!(pair[0].1 - pair[0].0, 64);
                assert!(pair[0].1 - pair[1].0 >= 16, "{length}: {pair:?}");
            }
        }
    }
}
