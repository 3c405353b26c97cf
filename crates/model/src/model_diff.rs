//! Compares the detections of two models on the same pictures: per label what both found and what only one found, and the largest
//! disagreements.
//!
//! This module only counts; `trial` and people judge the result.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use gridwatch_engine::{BBox, Detection, Label};

/// Minimum IoU at which two boxes of one label count as the same object (COCO's loosest threshold).
pub(crate) const MATCH_IOU: f64 = 0.5;

/// Number of disagreements kept.
const MAX_WORST: usize = 12;

/// Score threshold of a label that no rule names; the same as in `eval`.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// Minimum score by label. Labels that are not listed use [`DEFAULT_THRESHOLD`].
pub type ScoreThresholds = BTreeMap<Label, f32>;

/// Cumulative comparison of an old and a new model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelDiff {
    /// Number of pictures compared.
    pub pictures: u64,
    /// Counts by label.
    pub labels: BTreeMap<String, LabelDiff>,
    /// The detections with the largest score difference that only one model counts, largest first.
    pub worst: Vec<Disagreement>,
}

/// Counts of one label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelDiff {
    /// Objects that both models found.
    pub both: u64,
    /// Objects that only the old model found at or above the threshold.
    pub only_old: u64,
    /// Objects that only the new model found at or above the threshold.
    pub only_new: u64,
    /// Mean of new score minus old score over the matched boxes.
    pub mean_score_difference: f64,
    /// Mean intersection over union of the matched boxes.
    pub mean_iou: f64,
    /// Number of matched boxes; one box of a pair may be below the threshold.
    pub pairs: u64,
}

/// One of the two compared models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiffSide {
    /// The running model, or the one named first.
    Old,
    /// The other model.
    New,
}

/// A detection that only one of the models counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disagreement {
    /// Source of the picture: a camera id or a file name.
    pub source: String,
    /// Capture time, for camera pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Label of the detection.
    pub label: String,
    /// The model that found diff.
    pub found_by: DiffSide,
    /// Its score, 0..=1.
    pub score: f32,
    /// Score of the other model's matching box, if it has one.
    pub other_score: Option<f32>,
    /// Its box, as fractions of the picture.
    pub bbox: BBox,
}

impl ModelDiff {
    /// Adds the detections of both models in one picture.
    pub fn add(
        &mut self,
        source: &str,
        at: Option<Timestamp>,
        thresholds: &ScoreThresholds,
        old: &[Detection],
        new: &[Detection],
    ) {
        self.pictures += 1;
        let counts = |d: &Detection| d.score >= thresholds.get(&d.label).copied().unwrap_or(DEFAULT_THRESHOLD);
        let pairs = match_boxes(old, new);
        for &(o, n) in &pairs {
            let (old, new) = (&old[o], &new[n]);
            let label = self.labels.entry(old.label.as_str().to_owned()).or_default();
            match (counts(old), counts(new)) {
                (true, true) => label.both += 1,
                (true, false) => label.only_old += 1,
                (false, true) => label.only_new += 1,
                (false, false) => continue,
            }
            label.pairs += 1;
            let share = 1.0 / label.pairs as f64;
            let update = |mean: &mut f64, value: f64| *mean += (value - *mean) * share;
            update(
                &mut label.mean_score_difference,
                f64::from(new.score) - f64::from(old.score),
            );
            update(&mut label.mean_iou, old.bbox.iou(&new.bbox));
            match (counts(old), counts(new)) {
                (true, false) => self.record_disagreement(source, at, old, DiffSide::Old, Some(new.score)),
                (false, true) => self.record_disagreement(source, at, new, DiffSide::New, Some(old.score)),
                _ => {}
            }
        }
        for (side, found) in [(DiffSide::Old, old), (DiffSide::New, new)] {
            for (i, single) in found.iter().enumerate().filter(|(_, d)| counts(d)) {
                let is_paired = pairs
                    .iter()
                    .any(|&(o, n)| i == if side == DiffSide::Old { o } else { n });
                if is_paired {
                    continue;
                }
                let label = self.labels.entry(single.label.as_str().to_owned()).or_default();
                match side {
                    DiffSide::Old => label.only_old += 1,
                    DiffSide::New => label.only_new += 1,
                }
                self.record_disagreement(source, at, single, side, None);
            }
        }
    }

    /// Keeps a disagreement if it is among the largest by score difference. A missing detection scores 0.
    fn record_disagreement(
        &mut self,
        source: &str,
        at: Option<Timestamp>,
        detection: &Detection,
        found_by: DiffSide,
        other: Option<f32>,
    ) {
        let gap = |score: f32, other: Option<f32>| score - other.unwrap_or(0.0);
        let new_gap = gap(detection.score, other);
        let rank = self.worst.partition_point(|d| gap(d.score, d.other_score) >= new_gap);
        if rank >= MAX_WORST {
            return;
        }
        let disagreement = Disagreement {
            source: source.to_owned(),
            at,
            label: detection.label.as_str().to_owned(),
            found_by,
            score: detection.score,
            other_score: other,
            bbox: detection.bbox,
        };
        self.worst.insert(rank, disagreement);
        self.worst.truncate(MAX_WORST);
    }
}

/// Matches boxes of the same label by overlap, greedily from the highest IoU; each box is used once.
fn match_boxes(old: &[Detection], new: &[Detection]) -> Vec<(usize, usize)> {
    let mut candidates: Vec<(f64, usize, usize)> = Vec::new();
    for (o, a) in old.iter().enumerate() {
        for (n, b) in new.iter().enumerate().filter(|(_, b)| b.label == a.label) {
            let iou = a.bbox.iou(&b.bbox);
            if iou >= MATCH_IOU {
                candidates.push((iou, o, n));
            }
        }
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (_, o, n) in candidates {
        if !pairs.iter().any(|&(po, pn)| po == o || pn == n) {
            pairs.push((o, n));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn detection(label: &str, score: f32, x: f32) -> Detection {
        let (y1, x2, y2) = (0.1, x + 0.1, 0.3);
        Detection::new(label, score, BBox { x1: x, y1, x2, y2 })
    }

    fn diff(old: &[Detection], new: &[Detection]) -> ModelDiff {
        let mut diff = ModelDiff::default();
        diff.add("gate", None, &ScoreThresholds::from([("bag".into(), 0.4)]), old, new);
        diff
    }

    #[test]
    fn an_object_found_by_both_is_no_disagreement() {
        let diff = diff(&[detection("bag", 0.5, 0.1)], &[detection("bag", 0.75, 0.12)]);
        let bag = diff.labels["bag"];
        assert_eq!((bag.both, bag.only_old, bag.only_new), (1, 0, 0));
        assert!((bag.mean_score_difference - 0.25).abs() < 1e-6 && (bag.mean_iou - 0.08 / 0.12).abs() < 1e-3);
        assert!(diff.worst.is_empty());
    }

    #[test]
    fn a_box_below_the_threshold_counts_only_as_the_score_of_the_other_model() {
        assert!(diff(&[detection("bag", 0.39, 0.1)], &[]).labels.is_empty());
        let diff = diff(&[detection("bag", 0.3, 0.1)], &[detection("bag", 0.9, 0.1)]);
        assert_eq!((diff.labels["bag"].only_new, diff.labels["bag"].pairs), (1, 1));
        assert_eq!(
            (diff.worst[0].found_by, diff.worst[0].other_score),
            (DiffSide::New, Some(0.3))
        );
    }

    #[test]
    fn a_different_label_in_the_same_place_is_a_different_object() {
        let diff = diff(&[detection("bag", 0.9, 0.1)], &[detection("bin", 0.9, 0.1)]);
        assert_eq!((diff.labels["bag"].only_old, diff.labels["bin"].only_new), (1, 1));
    }

    #[test]
    fn only_the_largest_disagreements_are_kept() {
        let mut diff = ModelDiff::default();
        for i in 0..40 {
            let score = 0.5 + f32::from((i * 7 % 40) as u8) / 100.0;
            diff.add(
                &i.to_string(),
                None,
                &ScoreThresholds::new(),
                &[detection("bag", score, 0.1)],
                &[],
            );
        }
        assert_eq!(diff.worst.len(), MAX_WORST);
        assert_eq!(diff.worst[0].score, 0.89);
        assert!(diff.worst.windows(2).all(|w| w[0].score >= w[1].score));
    }

    fn detections() -> impl Strategy<Value = Vec<Detection>> {
        let one = (0..2u8, 0.0..1.0f32, 0.0..0.9f32)
            .prop_map(|(l, score, x)| detection(if l == 0 { "bag" } else { "bin" }, score, x));
        prop::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn every_detection_above_the_threshold_is_counted_once(old in detections(), new in detections()) {
            let thresholds = ScoreThresholds::new();
            let mut diff = ModelDiff::default();
            diff.add("gate", None, &thresholds, &old, &new);
            let sum = |f: fn(&LabelDiff) -> u64| diff.labels.values().map(f).sum::<u64>();
            let counted = |all: &[Detection]| all.iter().filter(|d| d.score >= DEFAULT_THRESHOLD).count() as u64;
            prop_assert_eq!(sum(|l| l.both + l.only_old), counted(&old));
            prop_assert_eq!(sum(|l| l.both + l.only_new), counted(&new));
            let mut reversed = ModelDiff::default();
            reversed.add("gate", None, &thresholds, &new, &old);
            let swapped: u64 = reversed.labels.values().map(|l| l.only_new).sum();
            prop_assert_eq!(sum(|l| l.only_old), swapped);
            let mut same = ModelDiff::default();
            same.add("gate", None, &thresholds, &old, &old);
            prop_assert!(same.worst.is_empty());
        }
    }
}
