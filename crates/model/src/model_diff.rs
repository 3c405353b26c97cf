//! Where two models differ on the same pictures: by label what both found and what one alone did, and the worst of it.
//!
//! It compares; what a difference means is for `trial` and for people.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use gridwatch_engine::{BBox, Detection, Label};

/// Two boxes of one label that overlap at least so much are one thing (COCO's loosest).
const SAME_IOU: f64 = 0.5;

/// So many of the worst differences are kept.
const WORST: usize = 12;

/// A label that no rule names counts from this score, as `eval` does.
pub const BAR: f32 = 0.5;

/// From which score a label counts; others count from [`BAR`].
pub type Bars = BTreeMap<Label, f32>;

/// What was compared so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Pictures compared.
    pub pictures: u64,
    /// By label.
    pub labels: BTreeMap<String, OfLabel>,
    /// The surest things that only one of the two found, the surest first.
    pub worst: Vec<Difference>,
}

/// One label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct OfLabel {
    /// Things that both found.
    pub both: u64,
    /// Things that only the old one found, or only it at a score that counts.
    pub only_old: u64,
    /// The same of the new one.
    pub only_new: u64,
    /// Of the boxes that both have: mean of the new score less the old one.
    pub mean_score_difference: f64,
    /// Of the same: mean intersection over union.
    pub mean_iou: f64,
    /// How many those are: one of a pair may score too little to count.
    pub pairs: u64,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The one that looks now, or was named first.
    Old,
    /// The other.
    New,
}

/// Something that one found and the other did not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Of which picture: a camera, or a file.
    pub source: String,
    /// When it was taken, of a camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What it is said to be.
    pub label: String,
    /// Who says so.
    pub found_by: Side,
    /// How surely, 0..=1.
    pub score: f32,
    /// What the other scores there, if anything.
    pub other_score: Option<f32>,
    /// Where.
    pub bbox: BBox,
}

impl Tally {
    /// Compares what the two found in one picture.
    pub fn add(&mut self, source: &str, at: Option<Timestamp>, bars: &Bars, old: &[Detection], new: &[Detection]) {
        self.pictures += 1;
        let counts = |d: &Detection| d.score >= bars.get(&d.label).copied().unwrap_or(BAR);
        let pairs = pairs(old, new);
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
            let grow = |mean: &mut f64, value: f64| *mean += (value - *mean) * share;
            grow(
                &mut label.mean_score_difference,
                f64::from(new.score) - f64::from(old.score),
            );
            grow(&mut label.mean_iou, old.bbox.iou(&new.bbox));
            match (counts(old), counts(new)) {
                (true, false) => self.differ(source, at, old, Side::Old, Some(new.score)),
                (false, true) => self.differ(source, at, new, Side::New, Some(old.score)),
                _ => {}
            }
        }
        for (side, found) in [(Side::Old, old), (Side::New, new)] {
            for (i, lone) in found.iter().enumerate().filter(|(_, d)| counts(d)) {
                let is_paired = pairs.iter().any(|&(o, n)| i == if side == Side::Old { o } else { n });
                if is_paired {
                    continue;
                }
                let label = self.labels.entry(lone.label.as_str().to_owned()).or_default();
                match side {
                    Side::Old => label.only_old += 1,
                    Side::New => label.only_new += 1,
                }
                self.differ(source, at, lone, side, None);
            }
        }
    }

    /// How far apart a difference's two scores are; what the other does not see at all it scores nought.
    fn differ(&mut self, source: &str, at: Option<Timestamp>, it: &Detection, found_by: Side, other: Option<f32>) {
        let weight = |score: f32, other: Option<f32>| score - other.unwrap_or(0.0);
        let here = weight(it.score, other);
        let rank = self.worst.partition_point(|d| weight(d.score, d.other_score) >= here);
        if rank >= WORST {
            return;
        }
        let difference = Difference {
            source: source.to_owned(),
            at,
            label: it.label.as_str().to_owned(),
            found_by,
            score: it.score,
            other_score: other,
            bbox: it.bbox,
        };
        self.worst.insert(rank, difference);
        self.worst.truncate(WORST);
    }
}

/// Boxes of one label that are the same thing, the best overlap first, each box once.
fn pairs(old: &[Detection], new: &[Detection]) -> Vec<(usize, usize)> {
    let mut near: Vec<(f64, usize, usize)> = Vec::new();
    for (o, a) in old.iter().enumerate() {
        for (n, b) in new.iter().enumerate().filter(|(_, b)| b.label == a.label) {
            let iou = a.bbox.iou(&b.bbox);
            if iou >= SAME_IOU {
                near.push((iou, o, n));
            }
        }
    }
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (_, o, n) in near {
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
        Detection {
            label: label.into(),
            score,
            bbox: BBox {
                x1: x,
                y1: 0.1,
                x2: x + 0.1,
                y2: 0.3,
            },
            appearance: None,
            number: None,
            second_look: None,
        }
    }

    fn tally(old: &[Detection], new: &[Detection]) -> Tally {
        let mut tally = Tally::default();
        tally.add("gate", None, &Bars::from([("bag".into(), 0.4)]), old, new);
        tally
    }

    #[test]
    fn a_thing_that_both_found_is_no_difference() {
        let it = tally(&[detection("bag", 0.5, 0.1)], &[detection("bag", 0.75, 0.12)]);
        let bag = it.labels["bag"];
        assert_eq!((bag.both, bag.only_old, bag.only_new), (1, 0, 0));
        assert!((bag.mean_score_difference - 0.25).abs() < 1e-6 && (bag.mean_iou - 0.08 / 0.12).abs() < 1e-3);
        assert!(it.worst.is_empty());
    }

    #[test]
    fn a_thing_under_the_bar_counts_for_nobody_but_is_told_where_the_other_is_sure() {
        assert!(tally(&[detection("bag", 0.39, 0.1)], &[]).labels.is_empty());
        let it = tally(&[detection("bag", 0.3, 0.1)], &[detection("bag", 0.9, 0.1)]);
        assert_eq!((it.labels["bag"].only_new, it.labels["bag"].pairs), (1, 1));
        assert_eq!((it.worst[0].found_by, it.worst[0].other_score), (Side::New, Some(0.3)));
    }

    #[test]
    fn another_label_in_the_same_place_is_another_thing() {
        let it = tally(&[detection("bag", 0.9, 0.1)], &[detection("bin", 0.9, 0.1)]);
        assert_eq!((it.labels["bag"].only_old, it.labels["bin"].only_new), (1, 1));
    }

    #[test]
    fn the_worst_are_the_surest_and_few() {
        let mut it = Tally::default();
        for i in 0..40 {
            let score = 0.5 + f32::from((i * 7 % 40) as u8) / 100.0;
            it.add(&i.to_string(), None, &Bars::new(), &[detection("bag", score, 0.1)], &[]);
        }
        assert_eq!(it.worst.len(), WORST);
        assert_eq!(it.worst[0].score, 0.89);
        assert!(it.worst.windows(2).all(|w| w[0].score >= w[1].score));
    }

    fn detections() -> impl Strategy<Value = Vec<Detection>> {
        let one = (0..2u8, 0.0..1.0f32, 0.0..0.9f32)
            .prop_map(|(l, score, x)| detection(if l == 0 { "bag" } else { "bin" }, score, x));
        prop::collection::vec(one, 0..8)
    }

    proptest! {
        #[test]
        fn every_thing_that_counts_is_counted_once(old in detections(), new in detections()) {
            let bars = Bars::new();
            let mut it = Tally::default();
            it.add("gate", None, &bars, &old, &new);
            let sum = |f: fn(&OfLabel) -> u64| it.labels.values().map(f).sum::<u64>();
            let counted = |all: &[Detection]| all.iter().filter(|d| d.score >= BAR).count() as u64;
            prop_assert_eq!(sum(|l| l.both + l.only_old), counted(&old));
            prop_assert_eq!(sum(|l| l.both + l.only_new), counted(&new));
            let mut turned = Tally::default();
            turned.add("gate", None, &bars, &new, &old);
            let swapped: u64 = turned.labels.values().map(|l| l.only_new).sum();
            prop_assert_eq!(sum(|l| l.only_old), swapped);
            let mut same = Tally::default();
            same.add("gate", None, &bars, &old, &old);
            prop_assert!(same.worst.is_empty());
        }
    }
}
