//! COCO's matching of predictions to ground truth for one label and size range, and the metrics that follow from it.

use super::{Corners, DetectionMetrics, EvalPicture, GroundTruth, PrPoint, Prediction, SizeRange};

/// Number of IoU thresholds: 0.50, 0.55 … 0.95.
const IOU_THRESHOLDS: usize = 10;
/// Index of the IoU threshold 0.75.
const IOU_75: usize = 5;
/// Maximum predictions per picture and label, highest scores first.
const MAX_PREDICTIONS: usize = 100;
/// Number of recall levels at which precision is sampled: 0, 0.01 … 1.
const RECALL_LEVELS: usize = 101;

fn iou_threshold(index: usize) -> f64 {
    0.5 + 0.05 * index as f64
}

/// Intersection over union; for a crowd, intersection over the prediction's own area. 0 if the boxes are disjoint.
pub(super) fn iou(truth: &Corners, prediction: &Corners, is_crowd: bool) -> f64 {
    let side = |low: f64, high: f64| (high - low).max(0.0);
    let common = side(truth[0].max(prediction[0]), truth[2].min(prediction[2]))
        * side(truth[1].max(prediction[1]), truth[3].min(prediction[3]));
    let whole = if is_crowd {
        area(prediction)
    } else {
        area(truth) + area(prediction) - common
    };
    if common > 0.0 { common / whole } else { 0.0 }
}

fn area(corners: &Corners) -> f64 {
    (corners[2] - corners[0]).max(0.0) * (corners[3] - corners[1]).max(0.0)
}

/// Classification of a prediction at one IoU threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
enum MatchKind {
    TruePositive,
    FalsePositive,
    /// Matches a crowd or an object of another size, or is unmatched and of another size itself.
    Ignored,
}

/// A prediction with its classification at each IoU threshold.
struct MatchedPrediction {
    score: f32,
    kinds: [MatchKind; IOU_THRESHOLDS],
}

/// Matched predictions of one label and size range over all pictures.
pub(super) struct ClassMatches {
    truths: usize,
    /// Highest score first; equal scores in picture order.
    predictions: Vec<MatchedPrediction>,
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
        this.predictions.sort_by(|a, b| b.score.total_cmp(&a.score));
        this
    }

    fn add(&mut self, picture: &EvalPicture, class: usize, size: SizeRange) {
        let mut predictions: Vec<&Prediction> = picture.predictions.iter().filter(|p| p.class == class).collect();
        predictions.sort_by(|a, b| b.score.total_cmp(&a.score));
        predictions.truncate(MAX_PREDICTIONS);
        let is_counted = |t: &GroundTruth| !t.is_crowd && size.contains(t.area);
        let mut truths: Vec<&GroundTruth> = picture.truths.iter().filter(|t| t.class == class).collect();
        // Counted objects come first, so that they take precedence in matching.
        truths.sort_by_key(|t| !is_counted(t));
        let counted = truths.iter().filter(|t| is_counted(t)).count();
        self.truths += counted;
        let overlaps: Vec<Vec<f64>> = predictions
            .iter()
            .map(|p| truths.iter().map(|t| iou(&t.corners, &p.corners, t.is_crowd)).collect())
            .collect();
        let first = self.predictions.len();
        self.predictions.extend(predictions.iter().map(|p| MatchedPrediction {
            score: p.score,
            kinds: [MatchKind::FalsePositive; IOU_THRESHOLDS],
        }));
        for threshold in 0..IOU_THRESHOLDS {
            let mut is_taken = vec![false; truths.len()];
            for (i, prediction) in predictions.iter().enumerate() {
                let is_free = |t: &usize| !is_taken[*t] || truths[*t].is_crowd;
                let found = best(&overlaps[i], counted, iou_threshold(threshold), is_free);
                self.predictions[first + i].kinds[threshold] = match found {
                    Some(t) => {
                        is_taken[t] = true;
                        if t < counted {
                            MatchKind::TruePositive
                        } else {
                            MatchKind::Ignored
                        }
                    }
                    None if size.contains(area(&prediction.corners)) => MatchKind::FalsePositive,
                    None => MatchKind::Ignored,
                };
            }
        }
    }

    /// Precision and recall at IoU 0.5 for each distinct score.
    pub(super) fn curve(&self) -> Vec<PrPoint> {
        let mut curve: Vec<PrPoint> = Vec::new();
        for point in self.points(0) {
            // The last of equal scores includes them all.
            curve.pop_if(|last| last.score == point.score);
            curve.push(point);
        }
        curve
    }

    /// Precision and recall after each counted prediction, highest score first.
    fn points(&self, threshold: usize) -> impl Iterator<Item = PrPoint> {
        let counted = self.predictions.iter();
        let counted = counted.filter(move |p| p.kinds[threshold] != MatchKind::Ignored);
        counted.scan((0.0, 0.0), move |(correct, total), p| {
            *total += 1.0;
            *correct += if p.kinds[threshold] == MatchKind::TruePositive {
                1.0
            } else {
                0.0
            };
            Some(PrPoint {
                score: p.score,
                precision: *correct / *total,
                // Avoids a division by zero; `metrics` returns no recall in that case.
                recall: *correct / (self.truths as f64).max(1.0),
            })
        })
    }

    pub(super) fn metrics(&self) -> DetectionMetrics {
        if self.truths == 0 {
            return DetectionMetrics::default();
        }
        let ap: [f64; IOU_THRESHOLDS] = std::array::from_fn(|threshold| self.average_precision(threshold));
        DetectionMetrics {
            truths: self.truths,
            ap: Some(ap.iter().sum::<f64>() / IOU_THRESHOLDS as f64),
            ap50: Some(ap[0]),
            ap75: Some(ap[IOU_75]),
            recall50: Some(self.points(0).last().map_or(0.0, |p| p.recall)),
        }
    }

    /// Mean over 101 recall levels of the best precision at that recall or higher.
    fn average_precision(&self, threshold: usize) -> f64 {
        let mut points: Vec<PrPoint> = self.points(threshold).collect();
        for i in (1..points.len()).rev() {
            points[i - 1].precision = points[i - 1].precision.max(points[i].precision);
        }
        let at = |recall: f64| {
            let reached = points.partition_point(|p| p.recall < recall);
            points.get(reached).map_or(0.0, |p| p.precision)
        };
        (0..RECALL_LEVELS).map(|i| at(0.01 * i as f64)).sum::<f64>() / RECALL_LEVELS as f64
    }
}

/// Index of the free object with the highest IoU of at least `threshold`, the last of equal ones. Counted objects (the first `counted`)
/// take precedence over the others.
fn best(overlaps: &[f64], counted: usize, threshold: f64, is_free: impl Fn(&usize) -> bool) -> Option<usize> {
    let among = |range: std::ops::Range<usize>| {
        let enough = range.filter(&is_free).filter(|t| overlaps[*t] >= threshold);
        enough.max_by(|a, b| overlaps[*a].total_cmp(&overlaps[*b]))
    };
    among(0..counted).or_else(|| among(counted..overlaps.len()))
}
