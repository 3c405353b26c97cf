//! The effect of a rule's second look (`second_look`) on precision and recall, measured with the daemon's code on every
//! detected box.

use std::fmt::Write;

use serde::Serialize;

use gridwatch_engine::Detection;
use gridwatch_frame::Frame;
use gridwatch_model::{
    Model, ModelError, ModelSet, Runtime,
    eval::{self, EvalPicture, Prediction},
    second_look::SecondLook,
};

/// The minimum scores of the second look that are evaluated; 0 is without a second look.
const MIN_SCORES: [f32; 8] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7];

/// Takes second looks and keeps their scores.
pub(super) struct SecondLookEval {
    models: ModelSet,
    name: String,
    /// Minimum first-look score of a box.
    at: f32,
    /// The second look's score of each guess of each picture.
    scores: Vec<Vec<f32>>,
    looks: usize,
}

/// The part of the command's output on the second look.
#[derive(Debug, Serialize)]
pub(super) struct SecondLookReport {
    model: String,
    /// Number of second looks taken.
    looks: usize,
    labels: Vec<SecondLookLabel>,
}

#[derive(Debug, Serialize)]
struct SecondLookLabel {
    label: String,
    /// One entry for each of [`MIN_SCORES`].
    #[serde(rename = "asked")]
    points: Vec<SecondLookPoint>,
}

#[derive(Debug, Serialize)]
struct SecondLookPoint {
    /// Minimum score of the second look; 0: any.
    #[serde(rename = "closer")]
    min_score: f32,
    precision: Option<f64>,
    recall: Option<f64>,
    wrong: usize,
}

impl SecondLookEval {
    pub(super) fn new(runtime: &Runtime, model: &Model, at: f32) -> Result<Self, ModelError> {
        let manifest = model.manifest();
        Ok(Self {
            models: ModelSet::new(runtime, [model])?,
            name: format!("{}@{}", manifest.id, manifest.version),
            at,
            scores: Vec::new(),
            looks: 0,
        })
    }

    /// Takes a second look at each detection of one picture.
    pub(super) fn look(&mut self, frame: &Frame, found: &[Detection]) -> Result<(), ModelError> {
        let mut scores = vec![0.0; found.len()];
        for (score, detection) in scores.iter_mut().zip(found).filter(|(_, d)| d.score >= self.at) {
            *score = match SecondLook::around(frame, &detection.bbox) {
                Some(closer) => {
                    self.looks += 1;
                    let seen = self.models.input(closer.crop()).detect(0)?;
                    closer.score(&seen, std::slice::from_ref(&detection.label))
                }
                None => detection.score,
            };
        }
        self.scores.push(scores);
        Ok(())
    }

    pub(super) fn report(self, pictures: &[EvalPicture], labels: &[String]) -> SecondLookReport {
        let thresholds = vec![self.at; labels.len()];
        let points_at = |min_score: f32| -> Vec<SecondLookPoint> {
            let (mut right, mut wrong, mut truths) =
                (vec![0; labels.len()], vec![0; labels.len()], vec![0; labels.len()]);
            for (picture, scores) in pictures.iter().zip(&self.scores) {
                let confirmed = |(guess, score): (&Prediction, &f32)| (*score >= min_score).then(|| guess.clone());
                let picture = EvalPicture {
                    truths: picture.truths.clone(),
                    predictions: picture.predictions.iter().zip(scores).filter_map(confirmed).collect(),
                };
                let judged = eval::match_picture(&picture, &thresholds);
                for (truth, guess) in &judged.matched {
                    truths[truth.class] += 1;
                    if truth.class == guess.class {
                        right[guess.class] += 1;
                    } else {
                        wrong[guess.class] += 1;
                    }
                }
                judged.missed.iter().for_each(|truth| truths[truth.class] += 1);
                judged.false_positives.iter().for_each(|guess| wrong[guess.class] += 1);
            }
            let share = |part: usize, all: usize| (all > 0).then(|| part as f64 / all as f64);
            (0..labels.len())
                .map(|class| SecondLookPoint {
                    min_score,
                    precision: share(right[class], right[class] + wrong[class]),
                    recall: share(right[class], truths[class]),
                    wrong: wrong[class],
                })
                .collect()
        };
        let mut by_label: Vec<SecondLookLabel> = labels
            .iter()
            .map(|label| SecondLookLabel {
                label: label.clone(),
                points: Vec::new(),
            })
            .collect();
        for min_score in MIN_SCORES {
            for (label, point) in by_label.iter_mut().zip(points_at(min_score)) {
                label.points.push(point);
            }
        }
        SecondLookReport {
            model: self.name,
            looks: self.looks,
            labels: by_label,
        }
    }
}

impl SecondLookReport {
    pub(super) fn table(&self, at: f32) -> String {
        let share = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.2}"));
        let mut text = format!(
            "\nAfter {} second looks with {} at boxes scoring {at:.2} or more, by their minimum score (precision, recall, false boxes):\n",
            self.looks, self.model
        );
        for SecondLookLabel { label, points } in &self.labels {
            let _ = write!(text, "{label:<16}");
            for point in points {
                let min_score = if point.min_score > 0.0 {
                    format!("{:.1}", point.min_score)
                } else {
                    "none".into()
                };
                let _ = write!(
                    text,
                    "  {min_score}: {} {} {}",
                    share(point.precision),
                    share(point.recall),
                    point.wrong
                );
            }
            text.push('\n');
        }
        text
    }
}
