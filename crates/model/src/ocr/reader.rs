//! Reads text with two networks: a text detector and a recogniser.

use std::sync::Arc;

use crate::ocr::{
    crop::{Crop, Normalisation},
    ctc::Alphabet,
    line::TextLine,
    lines::{self, DbParams, LineBox, ProbabilityMap},
};
use crate::{
    Manifest, Model, ModelError, Runtime,
    adapter::{LayoutError, Output},
    manifest::{Adapter, Input},
    model_set::grey_frame,
    network::Network,
};
use gridwatch_base::file;
use gridwatch_engine::BBox;
use gridwatch_frame::Frame;

/// PaddleOCR's post-processing parameters; on rendered flyers (docs/reading.md) neither higher nor lower values read more numbers.
const THRESHOLD: f32 = 0.3;
const UNCLIP_RATIO: f32 = 1.6;
const MIN_THICKNESS: f32 = 3.0;
/// Minimum aspect ratio of a line: two Chinese characters side by side, as in 开锁. Single characters say nothing.
const MIN_ASPECT: f32 = 1.4;
/// Two lines are one if each centre lies within this share of the other's box, and their lengths differ by no more than
/// this ratio: overlapping parts of a picture are searched twice.
const SAME_LINE: f32 = 0.5;
/// Maximum lines per frame: a street full of lettering has some forty; a text-like pattern must not block a worker for long.
const MAX_LINES: usize = 100;
/// Overlap of the parts of a picture that is larger than the network's input, as a share of the input: the length of a line of 14
/// digits, 36 pixels high.
const OVERLAP: f64 = 0.25;

/// Reads lines of text. Owned by one worker thread: ONNX Runtime's sessions are not shared.
///
/// Frames are read at full resolution, because digits of 14 pixels cannot be downscaled. This takes about 400 ms of one core per
/// megapixel, so callers read seldom.
pub struct Reader {
    detector: Network,
    recogniser: Network,
    alphabet: Alphabet,
    params: DbParams,
    /// Reused input tensor of both networks.
    tensor: Vec<f32>,
}

impl Reader {
    /// Loads both networks, each into its own session, and runs them once, so that outputs that cannot be decoded fail here rather than
    /// at the first look.
    ///
    /// # Errors
    /// [`ModelError::WrongAdapter`] if the adapters are not `db` and `ctc`, [`ModelError::Alphabet`] if the alphabet does not match the
    /// recogniser; otherwise as [`ModelSet::new`](crate::ModelSet::new).
    pub fn new(runtime: &Runtime, detector: &Model, recogniser: &Model) -> Result<Self, ModelError> {
        for (model, adapter) in [(detector, Adapter::Db), (recogniser, Adapter::Ctc)] {
            let manifest = model.manifest();
            if manifest.adapter != adapter {
                return Err(ModelError::WrongAdapter {
                    model: manifest.id.clone(),
                    found: manifest.adapter,
                    needed: adapter,
                });
            }
        }
        let file = recogniser.path_of(
            recogniser
                .manifest()
                .alphabet
                .as_deref()
                .unwrap_or("alphabet.txt".as_ref()),
        );
        let text = file::read_text(&file, file::MAX_TEXT).map_err(|source| ModelError::Read {
            path: file.clone(),
            source,
        })?;
        let mut recogniser_network = Network::open(runtime, recogniser)?;
        let Input { width, height, .. } = recogniser.manifest().input;
        let grey_line = vec![0.0; 3 * width as usize * height as usize];
        let classes = recogniser_network.run(&grey_line, (width, height), |outputs| {
            step_probabilities(outputs).map(|(_, n)| n)
        })?;
        let alphabet = Alphabet::parse(&text, classes).map_err(|source| ModelError::Alphabet { file, source })?;
        let mut reader = Self {
            detector: Network::open(runtime, detector)?,
            recogniser: recogniser_network,
            alphabet,
            params: DbParams {
                threshold: THRESHOLD,
                min_score: detector.manifest().score_floor,
                unclip_ratio: UNCLIP_RATIO,
                min_thickness: MIN_THICKNESS,
            },
            tensor: Vec::new(),
        };
        reader.lines(&grey_frame(), &[])?;
        Ok(reader)
    }

    /// Manifests of the text detector and the recogniser.
    pub fn manifests(&self) -> [&Arc<Manifest>; 2] {
        [self.detector.manifest(), self.recogniser.manifest()]
    }

    /// Lowest score of a character that counts.
    pub fn floor(&self) -> f32 {
        self.recogniser.manifest().score_floor
    }

    /// Reads the lines of text in `regions` (fractions of the picture; empty: the whole picture), at most the hundred that are most
    /// certainly text. A line that crosses the edge of a region is skipped, because it may be cut off.
    ///
    /// # Errors
    /// [`ModelError::Frame`] for a malformed frame, [`ModelError::Layout`] for outputs that cannot be decoded (non-finite values
    /// included), [`ModelError::Run`] if ONNX Runtime fails.
    pub fn lines(&mut self, frame: &Frame, regions: &[BBox]) -> Result<Vec<TextLine>, ModelError> {
        frame.validate()?;
        let Input { width, height, .. } = self.detector.manifest().input;
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
            for (y1, y2) in split_span(y, height) {
                for (x1, x2) in split_span(x, width) {
                    self.detect_lines(frame, [x1, y1, x2, y2], &mut found)?;
                }
            }
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut lines: Vec<LineBox> = Vec::new();
        for line in found {
            if lines.len() < MAX_LINES && !lines.iter().any(|known| is_same_line(known, &line)) {
                lines.push(line);
            }
        }
        lines.into_iter().map(|line| self.recognise(frame, line)).collect()
    }

    /// Reads a picture that shows one line of text and nothing else, such as a crop of a data set, without the detector.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub fn line(&mut self, frame: &Frame) -> Result<TextLine, ModelError> {
        frame.validate()?;
        let (width, height) = (frame.width as f32, frame.height as f32);
        let line = LineBox {
            centre: [width / 2.0, height / 2.0],
            width,
            height,
            angle: 0.0,
            score: 1.0,
        };
        self.recognise(frame, line)
    }

    /// Adds the lines that lie completely within a part of the picture.
    fn detect_lines(&mut self, frame: &Frame, part: [u32; 4], found: &mut Vec<LineBox>) -> Result<(), ModelError> {
        let crop = Crop::of_part(part, 1.0);
        let (columns, rows) = (crop.width.next_multiple_of(32), crop.height.next_multiple_of(32));
        let normalisation = normalisation(&self.detector.manifest().input);
        crop.draw(frame, &normalisation, columns, rows, &mut self.tensor);
        let params = &self.params;
        let lines = self
            .detector
            .run(&self.tensor, (columns as u32, rows as u32), |outputs| {
                let map = ProbabilityMap {
                    values: probability_map(outputs, columns, rows)?,
                    stride: columns,
                    width: crop.width,
                    height: crop.height,
                };
                Ok(lines::find(map, params))
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

    fn recognise(&mut self, frame: &Frame, line: LineBox) -> Result<TextLine, ModelError> {
        let input = &self.recogniser.manifest().input;
        let crop = Crop::of_line(&line, input.height as usize, input.width as usize);
        let normalisation = normalisation(input);
        crop.draw(frame, &normalisation, crop.width, crop.height, &mut self.tensor);
        let alphabet = &self.alphabet;
        let size = (crop.width as u32, crop.height as u32);
        let chars = self.recogniser.run(&self.tensor, size, |outputs| {
            let (values, classes) = step_probabilities(outputs)?;
            if classes != alphabet.classes() {
                return Err(mismatch(Adapter::Ctc, "a constant number of classes", outputs));
            }
            Ok(alphabet.decode(values))
        })?;
        Ok(TextLine::new(line, [frame.width as f32, frame.height as f32], chars))
    }
}

/// True if the two boxes are of one line.
fn is_same_line(a: &LineBox, b: &LineBox) -> bool {
    let (sin, cos) = a.angle.sin_cos();
    let [dx, dy] = [0, 1].map(|i| b.centre[i] - a.centre[i]);
    let (along, across) = (dx * cos + dy * sin, dy * cos - dx * sin);
    let (short, long) = (a.width.min(b.width), a.width.max(b.width));
    across.abs() <= SAME_LINE * a.height.min(b.height) && along.abs() <= SAME_LINE * short && short >= SAME_LINE * long
}

const WHOLE: BBox = BBox {
    x1: 0.0,
    y1: 0.0,
    x2: 1.0,
    y2: 1.0,
};

fn normalisation(input: &Input) -> Normalisation {
    Normalisation {
        colour: input.colour,
        // In the manifest the samples are divided by `scale` before the mean is subtracted.
        mean: input.mean.map(|v| v * input.scale),
        std: input.std.map(|v| v * input.scale),
    }
}

/// Splits a span of pixels into as few overlapping parts of at most `longest` as possible. Empty for an empty span.
fn split_span((from, to): (u32, u32), longest: u32) -> Vec<(u32, u32)> {
    if to <= from {
        return Vec::new();
    }
    let length = to - from;
    if length <= longest {
        return vec![(from, to)];
    }
    let step = (f64::from(longest) * (1.0 - OVERLAP)).max(1.0);
    let count = (f64::from(length - longest) / step).ceil() as u32 + 1;
    // Distributed evenly.
    let start = |i: u32| from + (u64::from(length - longest) * u64::from(i) / u64::from(count - 1)) as u32;
    (0..count).map(|i| (start(i), start(i) + longest)).collect()
}

/// The probability map of a DB head: `[1, 1, rows, columns]`.
fn probability_map<'a>(outputs: &[Output<'a>], columns: usize, rows: usize) -> Result<&'a [f32], LayoutError> {
    match outputs {
        [only] if only.dimensions().eq([1, 1, rows as i64, columns as i64]) => require_finite(only.data),
        _ => Err(mismatch(
            Adapter::Db,
            &format!("one output [1, 1, {rows}, {columns}], of the size of the input"),
            outputs,
        )),
    }
}

/// The step probabilities of a CTC head, `[1, steps, classes]`, and the number of classes.
fn step_probabilities<'a>(outputs: &[Output<'a>]) -> Result<(&'a [f32], usize), LayoutError> {
    let [only] = outputs else {
        return Err(mismatch(Adapter::Ctc, "one output [1, steps, classes]", outputs));
    };
    match only.dimensions().collect::<Vec<_>>()[..] {
        [1, steps, classes] if steps > 0 && classes > 1 => Ok((require_finite(only.data)?, classes as usize)),
        _ => Err(mismatch(Adapter::Ctc, "one output [1, steps, classes]", outputs)),
    }
}

fn require_finite(values: &[f32]) -> Result<&[f32], LayoutError> {
    match values.iter().all(|v| v.is_finite()) {
        true => Ok(values),
        false => Err(LayoutError::NotFinite { index: 0 }),
    }
}

fn mismatch(adapter: Adapter, needs: &str, outputs: &[Output<'_>]) -> LayoutError {
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
    fn a_long_span_is_split_into_overlapping_parts() {
        assert_eq!(split_span((10, 10), 64), []);
        assert_eq!(split_span((10, 74), 64), [(10, 74)]);
        for length in [65, 100, 112, 113, 1000, 3840] {
            let parts = split_span((7, 7 + length), 64);
            assert_eq!((parts[0].0, parts[parts.len() - 1].1), (7, 7 + length));
            for pair in parts.windows(2) {
                assert_eq!(pair[0].1 - pair[0].0, 64);
                assert!(pair[0].1 - pair[1].0 >= 16, "{length}: {pair:?}");
            }
        }
    }
}
