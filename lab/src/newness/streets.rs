//! Measures cases, not boxes: composed streets with known problems go through the change map, the models and the engine with the
//! rules that ship, and what is filed is compared with what was put there.
//!
//! The looks are composed one by one and judged at once; only their times say that minutes lie between them.

mod pipeline;
mod script;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::pipeline::{Setup, SetupError};
use self::{pipeline::Pipeline, script::Script};
use super::Assets;
use gridwatch_engine::BBox;
use gridwatch_model::ModelError;

/// What was filed on the streets, and what should have been.
#[derive(Debug, Default, Serialize)]
pub struct StreetsReport {
    /// Scenes.
    pub scenes: u32,
    /// Looks.
    pub looks: u32,
    /// By category code.
    pub categories: BTreeMap<String, Counts>,
    /// What went wrong, scene by scene.
    pub mistakes: Vec<String>,
}

/// Cases of one category.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    /// Problems that were there.
    pub problems: u32,
    /// Of these, filed.
    pub filed: u32,
    /// Cases of a problem beyond its first.
    pub repeated: u32,
    /// Cases of nothing.
    pub false_cases: u32,
}

impl Counts {
    /// Share of the problems that were filed, with its limits (Wilson, 95 %).
    pub fn recall(&self) -> (f64, f64, f64) {
        wilson(self.filed, self.problems)
    }

    /// Share of the cases that are about a problem and its first, with its limits.
    pub fn precision(&self) -> (f64, f64, f64) {
        wilson(self.filed, self.filed + self.repeated + self.false_cases)
    }
}

/// A share and its 95 % limits (Wilson's score interval); 1, 0 and 1 without observations.
fn wilson(hits: u32, of: u32) -> (f64, f64, f64) {
    const Z: f64 = 1.96;
    if of == 0 {
        return (1.0, 0.0, 1.0);
    }
    let (n, p) = (f64::from(of), f64::from(hits) / f64::from(of));
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    (p, centre - half, centre + half)
}

/// Composes `scenes` streets and judges them; `progress` is told after each.
///
/// # Errors
/// A model fails.
pub fn streets(
    assets: &Assets,
    setup: &Setup,
    scenes: u32,
    seed: u64,
    mut progress: impl FnMut(u32),
) -> Result<StreetsReport, ModelError> {
    let mut report = StreetsReport::default();
    let mut pipeline = Pipeline::new(setup)?;
    for index in 0..scenes {
        let mut script = Script::new(assets, index, seed);
        pipeline.start();
        let mut cases = Vec::new();
        for t in 0..script.looks {
            let picture = script.look(t);
            cases.extend(pipeline.look(&picture, script.period)?);
        }
        report.scenes += 1;
        report.looks += script.looks;
        compare(&script, &cases, &mut report);
        progress(index + 1);
    }
    Ok(report)
}

/// A filed case.
struct Filed {
    category: String,
    bbox: BBox,
}

fn compare(script: &Script<'_>, cases: &[Filed], report: &mut StreetsReport) {
    let mut filed = vec![0_u32; script.problems.len()];
    for case in cases {
        let is_it = |p: &script::Problem| p.category == case.category && shows(&case.bbox, &p.bbox);
        let counts = report.categories.entry(case.category.clone()).or_default();
        match script.problems.iter().position(is_it) {
            Some(i) => {
                filed[i] += 1;
                if filed[i] > 1 {
                    counts.repeated += 1;
                    report
                        .mistakes
                        .push(format!("{}: filed again: {}", script.name, script.problems[i].name));
                }
            }
            None => {
                counts.false_cases += 1;
                let BBox { x1, y1, x2, y2 } = case.bbox;
                report.mistakes.push(format!(
                    "{}: false {} at {x1:.2} {y1:.2} {x2:.2} {y2:.2}",
                    script.name, case.category
                ));
            }
        }
    }
    for (problem, times) in script.problems.iter().zip(filed) {
        let counts = report.categories.entry(problem.category.to_owned()).or_default();
        counts.problems += 1;
        counts.filed += u32::from(times > 0);
        if times == 0 {
            report
                .mistakes
                .push(format!("{}: missed: {}", script.name, problem.name));
        }
    }
}

/// A case is about a problem if its box covers a part of it worth a visit.
fn shows(case: &BBox, problem: &BBox) -> bool {
    case.iou(problem) >= 0.1 || case.is_part_of(problem) || problem.is_part_of(case)
}
