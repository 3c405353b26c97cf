//! Which guess is of which thing, as COCO has it, and what follows from that for one label and size.

use super::{Corners, Metrics, Prediction, EvalPicture, PrPoint, SizeRange, GroundTruth};

/// Overlaps that are asked for: 0.5, 0.55 … 0.95.
const OVERLAPS: usize = 10;
/// Index of 0.75.
const THREE_QUARTERS: usize = 5;
/// Of a picture's predictions under one label so many count, the surest.
const MAX_PREDICTIONS: usize = 100;
/// Recalls at which precision is read: 0, 0.01 … 1.
const RECALLS: usize = 101;

fn overlap_asked(index: usize) -> f64 {
    0.5 + 0.05 * index as f64
}

/// Intersection over union; over the guess's own area where the thing is a crowd. 0 where there is none.
pub(super) fn iou(truth: &Corners, guess: &Corners, is_crowd: bool) -> f64 {
    let side = |low: f64, high: f64| (high - low).max(0.0);
    let common =
        side(truth[0].max(guess[0]), truth[2].min(guess[2])) * side(truth[1].max(guess[1]), truth[3].min(guess[3]));
    let whole = if is_crowd {
        area(guess)
    } else {
        area(truth) + area(guess) - common
    };
    if common > 0.0 { common / whole } else { 0.0 }
}

fn area(corners: &Corners) -> f64 {
    (corners[2] - corners[0]).max(0.0) * (corners[3] - corners[1]).max(0.0)
}

/// One guess, at each overlap that is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum MatchKind {
    TruePositive,
    FalsePositive,
    /// Of a crowd, or of a thing of another size.
    Ignored,
}

/// What became of all predictions of one label, for things of one size.
pub(super) struct ClassMatches {
    truths: usize,
    /// The surest first; of equal ones, by picture.
    predictions: Vec<(f32, [MatchKind; OVERLAPS])>,
}

impl ClassMatches {
    pub(super) fn of(pictures: &[EvalPicture], class: usize, size: SizeRange) -> Self {
        let mut this = Self {
            truths: 0,
            predictions: Vec::new(),
        };
        for picture in pictures {
            this.add(picture, class, size);
        }
        this.predictions.sort_by(|a, b| b.0.total_cmp(&a.0));
        this
    }

    fn add(&mut self, picture: &EvalPicture, class: usize, size: SizeRange) {
        let mut predictions: Vec<&Prediction> = picture.predictions.iter().filter(|g| g.class == class).collect();
        predictions.sort_by(|a, b| b.score.total_cmp(&a.score));
        predictions.truncate(MAX_PREDICTIONS);
        let is_counted = |t: &GroundTruth| !t.is_crowd && size.holds(t.area);
        let mut truths: Vec<&GroundTruth> = picture.truths.iter().filter(|t| t.class == class).collect();
        // Those that count are asked first.
        truths.sort_by_key(|t| !is_counted(t));
        let counted = truths.iter().filter(|t| is_counted(t)).count();
        self.truths += counted;
        let overlaps: Vec<Vec<f64>> = predictions
            .iter()
            .map(|g| truths.iter().map(|t| iou(&t.corners, &g.corners, t.is_crowd)).collect())
            .collect();
        let first = self.predictions.len();
        self.predictions
            .extend(predictions.iter().map(|g| (g.score, [MatchKind::FalsePositive; OVERLAPS])));
        for asked in 0..OVERLAPS {
            let mut is_taken = vec![false; truths.len()];
            for (i, guess) in predictions.iter().enumerate() {
                let is_free = |t: &usize| !is_taken[*t] || truths[*t].is_crowd;
                let found = best(&overlaps[i], counted, overlap_asked(asked), is_free);
                self.predictions[first + i].1[asked] = match found {
                    Some(t) => {
                        is_taken[t] = true;
                        if t < counted {
                            MatchKind::TruePositive
                        } else {
                            MatchKind::Ignored
                        }
                    }
                    None if size.holds(area(&guess.corners)) => MatchKind::FalsePositive,
                    None => MatchKind::Ignored,
                };
            }
        }
    }

    /// Precision and recall at an overlap of 0.5 after each score.
    pub(super) fn curve(&self) -> Vec<PrPoint> {
        let mut curve: Vec<PrPoint> = Vec::new();
        for (score, precision, recall) in self.steps(0) {
            // Of equal scores the last has seen them all.
            if curve.last().is_some_and(|p| p.score == score) {
                curve.pop();
            }
            curve.push(PrPoint {
                score,
                precision,
                recall,
            });
        }
        curve
    }

    /// Score, precision and recall after each guess that counts, the surest first.
    fn steps(&self, asked: usize) -> impl Iterator<Item = (f32, f64, f64)> {
        let counted = self.predictions.iter().filter(move |g| g.1[asked] != MatchKind::Ignored);
        counted.scan((0.0, 0.0), move |(right, all), (score, verdicts)| {
            *all += 1.0;
            *right += if verdicts[asked] == MatchKind::TruePositive { 1.0 } else { 0.0 };
            // Without things there is no recall.
            Some((*score, *right / *all, *right / (self.truths as f64).max(1.0)))
        })
    }

    pub(super) fn figures(&self) -> Metrics {
        if self.truths == 0 {
            return Metrics::default();
        }
        let ap: [f64; OVERLAPS] = std::array::from_fn(|asked| self.average_precision(asked));
        Metrics {
            truths: self.truths,
            ap: Some(ap.iter().sum::<f64>() / OVERLAPS as f64),
            ap50: Some(ap[0]),
            ap75: Some(ap[THREE_QUARTERS]),
            recall50: Some(self.steps(0).last().map_or(0.0, |(_, _, recall)| recall)),
        }
    }

    /// The mean, over 101 recalls, of the best precision at that recall or a higher one.
    fn average_precision(&self, asked: usize) -> f64 {
        let mut steps: Vec<(f64, f64)> = self
            .steps(asked)
            .map(|(_, precision, recall)| (precision, recall))
            .collect();
        for i in (1..steps.len()).rev() {
            steps[i - 1].0 = steps[i - 1].0.max(steps[i].0);
        }
        let at = |recall: f64| {
            let reached = steps.partition_point(|(_, r)| *r < recall);
            steps.get(reached).map_or(0.0, |(precision, _)| *precision)
        };
        (0..RECALLS).map(|i| at(0.01 * i as f64)).sum::<f64>() / RECALLS as f64
    }
}

/// The free thing that a guess overlaps most, by what is asked or more; of equal ones the last. One that counts goes before all
/// that do not.
fn best(overlaps: &[f64], counted: usize, asked: f64, is_free: impl Fn(&usize) -> bool) -> Option<usize> {
    let among = |range: std::ops::Range<usize>| {
        let enough = range.filter(&is_free).filter(|t| overlaps[*t] >= asked);
        enough.max_by(|a, b| overlaps[*a].total_cmp(&overlaps[*b]))
    };
    among(0..counted).or_else(|| among(counted..overlaps.len()))
}
