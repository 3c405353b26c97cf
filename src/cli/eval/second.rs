//! What a closer look before filing (`second_look` of a rule) does to precision and recall: the same code as in the daemon,
//! asked about every box that is found.

use std::fmt::Write;

use serde::Serialize;

use gridwatch_engine::Detection;
use gridwatch_frame::Frame;
use gridwatch_model::{
    Model, ModelError, ModelSet, Runtime,
    eval::{self, Guess, Picture},
    second_look::Closer,
};

/// The scores that are asked of a closer look, the first of none.
const ASKED: [f32; 8] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7];

/// Takes closer looks.
pub(super) struct Second {
    panel: ModelSet,
    name: String,
    /// Faintest box that is looked at again.
    at: f32,
    /// For each guess of each picture.
    scores: Vec<Vec<f32>>,
    looks: usize,
}

/// What is printed of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: String,
    /// So many closer looks were taken.
    looks: usize,
    labels: Vec<OfLabel>,
}

#[derive(Debug, Serialize)]
struct OfLabel {
    label: String,
    /// By what was asked of the closer look.
    asked: Vec<Asked>,
}

#[derive(Debug, Serialize)]
struct Asked {
    /// Score of the closer look, at least; 0: any.
    closer: f32,
    precision: Option<f64>,
    recall: Option<f64>,
    wrong: usize,
}

impl Second {
    pub(super) fn new(runtime: &Runtime, model: &Model, at: f32) -> Result<Self, ModelError> {
        let manifest = model.manifest();
        Ok(Self {
            panel: ModelSet::new(runtime, [model])?,
            name: format!("{}@{}", manifest.id, manifest.version),
            at,
            scores: Vec::new(),
            looks: 0,
        })
    }

    /// Looks closer at what was found in one picture.
    pub(super) fn look(&mut self, frame: &Frame, found: &[Detection]) -> Result<(), ModelError> {
        let mut scores = vec![0.0; found.len()];
        for (score, detection) in scores.iter_mut().zip(found).filter(|(_, d)| d.score >= self.at) {
            *score = match Closer::on(frame, &detection.bbox) {
                Some(closer) => {
                    self.looks += 1;
                    let seen = self.panel.shown(closer.part()).detect(0)?;
                    closer.score(&seen, std::slice::from_ref(&detection.label))
                }
                None => detection.score,
            };
        }
        self.scores.push(scores);
        Ok(())
    }

    pub(super) fn report(self, pictures: &[Picture], labels: &[String]) -> Report {
        let thresholds = vec![self.at; labels.len()];
        let at = |asked: f32| -> Vec<Asked> {
            let (mut right, mut wrong, mut things) =
                (vec![0; labels.len()], vec![0; labels.len()], vec![0; labels.len()]);
            for (picture, scores) in pictures.iter().zip(&self.scores) {
                let sure = |(guess, score): (&Guess, &f32)| (*score >= asked).then(|| guess.clone());
                let picture = Picture {
                    truths: picture.truths.clone(),
                    guesses: picture.guesses.iter().zip(scores).filter_map(sure).collect(),
                };
                let judged = eval::judge(&picture, &thresholds);
                for (truth, guess) in &judged.taken {
                    things[truth.class] += 1;
                    if truth.class == guess.class {
                        right[guess.class] += 1;
                    } else {
                        wrong[guess.class] += 1;
                    }
                }
                judged.missed.iter().for_each(|truth| things[truth.class] += 1);
                judged.wrong.iter().for_each(|guess| wrong[guess.class] += 1);
            }
            let share = |part: usize, all: usize| (all > 0).then(|| part as f64 / all as f64);
            (0..labels.len())
                .map(|class| Asked {
                    closer: asked,
                    precision: share(right[class], right[class] + wrong[class]),
                    recall: share(right[class], things[class]),
                    wrong: wrong[class],
                })
                .collect()
        };
        let mut of_labels: Vec<OfLabel> = labels
            .iter()
            .map(|label| OfLabel {
                label: label.clone(),
                asked: Vec::new(),
            })
            .collect();
        for asked in ASKED {
            for (of_label, asked) in of_labels.iter_mut().zip(at(asked)) {
                of_label.asked.push(asked);
            }
        }
        Report {
            model: self.name,
            looks: self.looks,
            labels: of_labels,
        }
    }
}

impl Report {
    pub(super) fn table(&self, at: f32) -> String {
        let share = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.2}"));
        let mut text = format!(
            "\nAfter {} closer looks of {} at what scored {at:.2} or more, by the score asked of them (precision, recall, wrong boxes):\n",
            self.looks, self.model
        );
        for OfLabel { label, asked } in &self.labels {
            let _ = write!(text, "{label:<16}");
            for a in asked {
                let asked = if a.closer > 0.0 {
                    format!("{:.1}", a.closer)
                } else {
                    "none".into()
                };
                let _ = write!(
                    text,
                    "  {asked}: {} {} {}",
                    share(a.precision),
                    share(a.recall),
                    a.wrong
                );
            }
            text.push('\n');
        }
        text
    }
}
