//! Measures cases, not boxes: composed streets with known problems go through the change map, the models and the engine with the
//! rules that ship, and what is filed is compared with what was put there.
//!
//! The looks are composed one by one and judged at once; only their times say that minutes lie between them.

mod clip;
mod pipeline;
mod script;

use std::collections::BTreeMap;

use image::RgbImage;
use serde::Serialize;

pub use self::{
    clip::{ClipReport, quiet_clip},
    pipeline::{Setup, SetupError},
};
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
    /// By light and weather, all categories together.
    pub lights: BTreeMap<&'static str, Counts>,
    /// What went wrong, scene by scene.
    pub mistakes: Vec<Mistake>,
}

/// A problem that was missed, or a case that should not have been filed.
#[derive(Debug, Serialize)]
pub struct Mistake {
    /// Number, plot, background and weather of the scene.
    pub scene: String,
    /// What went wrong.
    pub kind: MistakeKind,
    /// Category code.
    pub category: String,
    /// What was missed or filed again; empty for a false case.
    pub what: String,
    /// The problem's box, or that of the false case.
    #[serde(rename = "box", serialize_with = "corners")]
    pub bbox: BBox,
    /// The look that filed the case; for a missed problem, the scene's last.
    #[serde(skip)]
    pub picture: RgbImage,
}

/// Kinds of mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MistakeKind {
    /// A problem without a case.
    Missed,
    /// A case of nothing.
    False,
    /// A second case of one problem.
    Repeated,
}

fn corners<S: serde::Serializer>(bbox: &BBox, serializer: S) -> Result<S::Ok, S::Error> {
    [bbox.x1, bbox.y1, bbox.x2, bbox.y2].serialize(serializer)
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

/// Composes the streets with these numbers and judges them; `progress` is told how many are done after each.
///
/// # Errors
/// A model fails.
pub fn streets(
    assets: &Assets,
    setup: &Setup,
    scenes: impl IntoIterator<Item = u32>,
    seed: u64,
    mut progress: impl FnMut(u32),
) -> Result<StreetsReport, ModelError> {
    let mut report = StreetsReport::default();
    let mut pipeline = Pipeline::new(setup)?;
    for index in scenes {
        let mut script = Script::new(assets, index, seed);
        pipeline.start();
        let mut cases = Vec::new();
        let mut last = RgbImage::default();
        for t in 0..script.looks {
            let picture = script.look(t);
            let filed = pipeline.look(&picture, script.period)?;
            cases.extend(filed.into_iter().map(|case| (case, picture.clone())));
            last = picture;
        }
        report.scenes += 1;
        report.looks += script.looks;
        report.compare(&script, cases, &last);
        progress(report.scenes);
    }
    Ok(report)
}

/// A filed case.
struct Filed {
    category: String,
    bbox: BBox,
}

impl StreetsReport {
    fn compare(&mut self, script: &Script<'_>, cases: Vec<(Filed, RgbImage)>, last: &RgbImage) {
        let mut filed = vec![0_u32; script.problems.len()];
        let mistake = |kind, category: &str, what: &str, bbox, picture| Mistake {
            scene: script.name.clone(),
            kind,
            category: category.to_owned(),
            what: what.to_owned(),
            bbox,
            picture,
        };
        for (case, picture) in cases {
            let is_it = |p: &script::Problem| p.category == case.category && shows(&case.bbox, &p.bbox);
            match script.problems.iter().position(is_it) {
                Some(i) => {
                    filed[i] += 1;
                    if filed[i] > 1 {
                        self.count(&case.category, script.light, |c| c.repeated += 1);
                        let what = &script.problems[i].name;
                        self.mistakes
                            .push(mistake(MistakeKind::Repeated, &case.category, what, case.bbox, picture));
                    }
                }
                None => {
                    self.count(&case.category, script.light, |c| c.false_cases += 1);
                    self.mistakes
                        .push(mistake(MistakeKind::False, &case.category, "", case.bbox, picture));
                }
            }
        }
        for (problem, times) in script.problems.iter().zip(filed) {
            self.count(problem.category, script.light, |c| {
                c.problems += 1;
                c.filed += u32::from(times > 0);
            });
            if times == 0 {
                self.mistakes.push(mistake(
                    MistakeKind::Missed,
                    problem.category,
                    &problem.name,
                    problem.bbox,
                    last.clone(),
                ));
            }
        }
    }

    fn count(&mut self, category: &str, light: &'static str, add: impl Fn(&mut Counts)) {
        add(self.categories.entry(category.to_owned()).or_default());
        add(self.lights.entry(light).or_default());
    }
}

/// A case is about a problem if its box covers a part of it worth a visit.
fn shows(case: &BBox, problem: &BBox) -> bool {
    case.iou(problem) >= 0.1 || case.is_part_of(problem) || problem.is_part_of(case)
}
