//! Measures how much of the labelled faces, heads and plates is covered by masks.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::{Deserialize, Serialize};

use crate::cli::Failure;
use gridwatch_base::{error::Class, file, text::counted};
use gridwatch_engine::BBox;

/// A label counts as covered from this share of its area: boxes are drawn by hand, a pixel or two off.
const COVERED: f64 = 0.8;
/// Below this share of its area a label counts as missed.
const PARTLY: f64 = 0.3;
/// Boundaries between size classes: label height, pixels.
const SIZES: [f64; 3] = [12.0, 24.0, 48.0];

/// What a label marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LabelKind {
    /// A frontal or nearly frontal face with visible features.
    Face,
    /// Any other head: from behind, in profile, distant or blurred.
    Head,
    /// A licence plate.
    Plate,
}

impl fmt::Display for LabelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Face => "face",
            Self::Head => "head",
            Self::Plate => "plate",
        })
    }
}

/// The labels of each picture by file name: boxes in pixels, by kind.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct MaskTruth(BTreeMap<String, BTreeMap<LabelKind, Vec<[f64; 4]>>>);

impl MaskTruth {
    pub(super) fn read(file: &Path) -> Result<Self, Failure> {
        let fault = |message: String| Failure::new(Class::Config, format!("--truth {}: {message}", file.display()));
        let text = file::read_text(file, file::MAX_DATA).map_err(|e| fault(format!("cannot read the file: {e}")))?;
        let truth: Self = serde_json::from_str(&text).map_err(|e| {
            fault(format!(
                "{e}; expected the boxes of each picture: {{\"street.jpg\": {{\"face\": [[366, 280, 382, 297]]}}}}"
            ))
        })?;
        for (picture, kinds) in &truth.0 {
            for (kind, corners) in kinds.iter().flat_map(|(k, all)| all.iter().map(move |c| (k, c))) {
                let [x1, y1, x2, y2] = *corners;
                if !(x1 < x2 && y1 < y2 && x1 >= 0.0 && y1 >= 0.0) {
                    return Err(fault(format!(
                        "{picture}: {kind} {corners:?} is not a box; expected [left, top, right, bottom]"
                    )));
                }
            }
        }
        Ok(truth)
    }

    /// The labels of a picture with their coverage.
    pub(super) fn labels(&self, picture: &str, coverage: &Coverage) -> Vec<MaskLabel> {
        let kinds = self.0.get(picture).into_iter().flatten();
        let label = |(kind, corners): (LabelKind, &[f64; 4])| MaskLabel {
            kind,
            corners: *corners,
            covered: coverage.of(*corners),
        };
        kinds
            .flat_map(|(kind, all)| all.iter().map(|c| (*kind, c)))
            .map(label)
            .collect()
    }
}

/// A labelled face, head or plate and its coverage.
#[derive(Debug, Serialize)]
pub(super) struct MaskLabel {
    pub(super) kind: LabelKind,
    /// Left, top, right, bottom, in pixels.
    #[serde(rename = "box")]
    pub(super) corners: [f64; 4],
    /// Covered share of its area, 0..=1.
    pub(super) covered: f64,
}

impl MaskLabel {
    pub(super) fn is_covered(&self) -> bool {
        self.covered >= COVERED
    }
}

/// The masked pixels of a picture.
pub(super) struct Coverage {
    size: (u32, u32),
    regions: Vec<BBox>,
    pixels: Vec<bool>,
}

impl Coverage {
    pub(super) fn new((width, height): (u32, u32), regions: &[BBox]) -> Self {
        let mut pixels = vec![false; width as usize * height as usize];
        let regions: Vec<BBox> = regions.iter().filter_map(|r| r.within_picture()).collect();
        for region in &regions {
            // As the mask is drawn: every pixel that the region touches.
            let (left, right) = (region.x1 * width as f32, region.x2 * width as f32);
            let (top, bottom) = (region.y1 * height as f32, region.y2 * height as f32);
            for y in top as usize..(bottom.ceil() as usize).min(height as usize) {
                let row = y * width as usize;
                pixels[row + left as usize..row + (right.ceil() as usize).min(width as usize)].fill(true);
            }
        }
        let size = (width, height);
        Self { size, regions, pixels }
    }

    /// The masked regions, `[left, top, right, bottom]` in pixels.
    pub(super) fn regions(&self) -> Vec<[f64; 4]> {
        let (w, h) = (f64::from(self.size.0), f64::from(self.size.1));
        let corners = |r: &BBox| {
            let [x1, y1, x2, y2] = [r.x1, r.y1, r.x2, r.y2].map(f64::from);
            [x1 * w, y1 * h, x2 * w, y2 * h].map(|v| (v * 10.0).round() / 10.0)
        };
        self.regions.iter().map(corners).collect()
    }

    /// The masked share of a box, 0..=1. Its part outside the picture counts as covered.
    fn of(&self, [x1, y1, x2, y2]: [f64; 4]) -> f64 {
        let inside = |from: f64, to: f64, size: u32| from.round() as usize..(to.round() as usize).min(size as usize);
        let (across, down) = (inside(x1, x2, self.size.0), inside(y1, y2, self.size.1));
        let all = across.len() * down.len();
        let covered: usize = down
            .map(|y| y * self.size.0 as usize)
            .map(|row| {
                self.pixels[row + across.start..row + across.end]
                    .iter()
                    .filter(|p| **p)
                    .count()
            })
            .sum();
        if all == 0 { 1.0 } else { covered as f64 / all as f64 }
    }
}

/// Totals over all pictures.
#[derive(Debug, Serialize)]
pub(super) struct MaskSummary {
    pictures: usize,
    /// Mean masked share of a picture, 0..=1.
    masked: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    against_truth: Option<BTreeMap<LabelKind, Vec<SizeClass>>>,
}

/// The labels of one kind and size class.
#[derive(Debug, Clone, Default, Serialize)]
struct SizeClass {
    /// Lower limit of the label height, pixels.
    from_px: f64,
    labels: usize,
    /// At least [`COVERED`] of the area masked.
    covered: usize,
    /// At least [`PARTLY`], less than [`COVERED`].
    partly: usize,
    missed: usize,
}

impl MaskSummary {
    pub(super) fn new(has_truth: bool) -> Self {
        Self {
            pictures: 0,
            masked: 0.0,
            against_truth: has_truth.then(BTreeMap::new),
        }
    }

    pub(super) fn add(&mut self, masked: f64, labels: &[MaskLabel]) {
        self.pictures += 1;
        self.masked += (masked - self.masked) / self.pictures as f64;
        let Some(kinds) = &mut self.against_truth else {
            return;
        };
        for label in labels {
            let sizes = kinds.entry(label.kind).or_insert_with(|| {
                let class = |from_px| SizeClass {
                    from_px,
                    ..SizeClass::default()
                };
                [&[0.0], &SIZES[..]].concat().into_iter().map(class).collect()
            });
            let height = label.corners[3] - label.corners[1];
            let class = &mut sizes[SIZES.iter().filter(|from| height >= **from).count()];
            class.labels += 1;
            class.covered += usize::from(label.is_covered());
            class.partly += usize::from(!label.is_covered() && label.covered >= PARTLY);
            class.missed += usize::from(label.covered < PARTLY);
        }
    }
}

impl fmt::Display for MaskSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pictures, percent) = (counted(self.pictures, "picture", "pictures"), self.masked * 100.0);
        writeln!(f, "{pictures}, {percent:.1} % of the area masked on average.")?;
        let Some(kinds) = &self.against_truth else {
            return Ok(());
        };
        writeln!(
            f,
            "\n{:<7}{:<14}{:>7}{:>9}{:>8}{:>8}",
            "", "height", "labels", "covered", "partly", "missed"
        )?;
        for (kind, sizes) in kinds {
            for (i, class) in sizes.iter().enumerate().filter(|(_, s)| s.labels > 0) {
                let height = match sizes.get(i + 1) {
                    Some(next) => format!("{} to {} px", class.from_px, next.from_px - 1.0),
                    None => format!("{} px and more", class.from_px),
                };
                let SizeClass {
                    labels,
                    covered,
                    partly,
                    missed,
                    ..
                } = class;
                let kind = kind.to_string();
                writeln!(f, "{kind:<7}{height:<14}{labels:>7}{covered:>9}{partly:>8}{missed:>8}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(x1: f32, y1: f32, x2: f32, y2: f32) -> BBox {
        BBox { x1, y1, x2, y2 }
    }

    #[test]
    fn overlapping_regions_count_once() {
        let coverage = Coverage::new((100, 50), &[region(0.0, 0.0, 0.5, 1.0), region(0.25, 0.0, 0.75, 1.0)]);
        assert!((coverage.of([0.0, 0.0, 100.0, 50.0]) - 0.75).abs() < 1e-9);
        assert!((coverage.of([70.0, 10.0, 80.0, 20.0]) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn regions_and_labels_may_extend_beyond_the_picture() {
        let coverage = Coverage::new((100, 50), &[region(-0.5, 0.9, 0.1, 1.4), region(1.1, 0.0, 1.2, 0.1)]);
        assert!((coverage.of([0.0, 0.0, 100.0, 50.0]) - 0.01).abs() < 1e-9);
        assert!((coverage.of([0.0, 45.0, 10.0, 60.0]) - 1.0).abs() < 1e-9);
        assert!((coverage.of([200.0, 100.0, 210.0, 110.0]) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_summary_counts_by_kind_and_height() {
        let label = |kind, height: f64, covered| MaskLabel {
            kind,
            corners: [0.0, 0.0, 10.0, height],
            covered,
        };
        let mut summary = MaskSummary::new(true);
        summary.add(
            0.1,
            &[
                label(LabelKind::Face, 11.9, 0.79),
                label(LabelKind::Face, 12.0, 0.8),
                label(LabelKind::Face, 100.0, 0.29),
                label(LabelKind::Plate, 30.0, 1.0),
            ],
        );
        summary.add(0.3, &[]);
        let text = summary.to_string();
        assert!(text.starts_with("2 pictures, 20.0 % of the area masked"), "{text}");
        for line in [
            "face   0 to 11 px          1        0       1       0",
            "face   12 to 23 px         1        1       0       0",
            "face   48 px and more      1        0       0       1",
            "plate  24 to 47 px         1        1       0       0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
