//! What a model must find for a configuration to keep its promise, when another takes its place.

use super::{Camera, Config};
use gridwatch_engine::Label;
use gridwatch_evidence as evidence;

impl Config {
    /// What nobody would find any more at `cameras` if the model at `model` (an index into [`Config::models`]) found `new` and no
    /// longer `old`; `finds` gives the labels of the other models. One sentence for each label that a rule or the masking of
    /// evidence needs; none where nothing is lost.
    pub fn lacking<'a>(
        &self,
        model: usize,
        cameras: impl IntoIterator<Item = &'a Camera>,
        (old, new): (&[Label], &[Label]),
        finds: &dyn Fn(usize) -> Vec<Label>,
    ) -> Vec<String> {
        let lost: Vec<&Label> = old.iter().filter(|l| !new.contains(l)).collect();
        let mut told = Vec::new();
        // What looks closer for a rule decides alone, wherever it looks: what it does not find is doubted for ever.
        for rule in &self.plan.rules {
            if self.second_looks.get(&rule.id) != Some(&model) {
                continue;
            }
            told.extend(rule.labels.iter().filter(|l| lost.contains(l)).map(|label| {
                format!(
                    "rule {:?} has it look closer at what is {:?}, which it does not find",
                    rule.id.as_str(),
                    label.as_str()
                )
            }));
        }
        for camera in cameras.into_iter().filter(|c| c.models.contains(&model)) {
            let others: Vec<Label> = camera
                .models
                .iter()
                .filter(|m| **m != model)
                .flat_map(|m| finds(*m))
                .collect();
            for label in lost.iter().filter(|l| !others.contains(l)) {
                for rule in &self.plan.rules {
                    let attends = rule.attended.as_ref().is_some_and(|a| a.labels.contains(label));
                    if rule.labels.contains(label) || attends {
                        told.push(format!(
                            "rule {:?} needs the label {:?}, which it does not find",
                            rule.id.as_str(),
                            label.as_str()
                        ));
                    }
                }
                let masks = &self.evidence;
                if masks.mask && evidence::is_masked(label) && !masks.mask_labels.contains(label) {
                    told.push(format!(
                        "evidence is masked where {:?} is found (evidence.mask), and it does not find it",
                        label.as_str()
                    ));
                }
            }
        }
        told.sort();
        told.dedup();
        told
    }
}
