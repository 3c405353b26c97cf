//! Which labels a configuration needs from a model, to be checked before another version replaces it.

use super::{Camera, Config};
use gridwatch_engine::Label;
use gridwatch_evidence as evidence;

impl Config {
    /// What would no longer be detected on `cameras` if the labels of the model at `model` (an index into [`Config::models`]) changed
    /// from `old` to `new`; `finds` returns the labels of another model. One sentence, in which "it" is the new version, for each
    /// label that a rule or evidence masking needs; empty if nothing is lost.
    pub fn lost_coverage<'a>(
        &self,
        model: usize,
        cameras: impl IntoIterator<Item = &'a Camera>,
        (old, new): (&[Label], &[Label]),
        finds: &dyn Fn(usize) -> Vec<Label>,
    ) -> Vec<String> {
        let lost: Vec<&Label> = old.iter().filter(|l| !new.contains(l)).collect();
        let mut losses = Vec::new();
        // The second-look model of a rule decides alone, on every camera: a label that it cannot detect is never confirmed.
        for rule in &self.plan.rules {
            if self.second_looks.get(&rule.id) != Some(&model) {
                continue;
            }
            losses.extend(rule.labels.iter().filter(|l| lost.contains(l)).map(|label| {
                format!(
                    "rule {:?} uses it for the second look at {:?}, which it does not detect",
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
                        losses.push(format!(
                            "rule {:?} needs the label {:?}, which it does not detect",
                            rule.id.as_str(),
                            label.as_str()
                        ));
                    }
                }
                let masks = &self.evidence;
                if masks.mask && evidence::is_masked(label) && !masks.mask_labels.contains(label) {
                    losses.push(format!(
                        "evidence masking (evidence.mask) needs the label {:?}, which it does not detect",
                        label.as_str()
                    ));
                }
            }
        }
        losses.sort();
        losses.dedup();
        losses
    }
}
