//! Evaluation of detections: average precision and recall by COCO's definitions, precision-recall curves, thresholds, confusion
//! matrix.
//!
//! Pure functions over boxes; no I/O, no inference. The definitions are those of the COCO evaluation (cocodataset/cocoapi,
//! `PythonAPI/pycocotools/cocoeval.py`, `iouType = "bbox"`); `tests/model/eval_reference.rs` compares the results with it.

pub mod data;
mod matching;

use self::matching::ClassMatches;

/// Left, top, right, bottom of a box in pixels of its picture.
pub type Corners = [f64; 4];

/// An annotated object.
#[derive(Debug, Clone, PartialEq)]
pub struct GroundTruth {
    /// Index of the label.
    pub class: usize,
    /// Left, top, right, bottom.
    pub corners: Corners,
    /// Area in square pixels, which determines the [`SizeRange`]: COCO files state that of the outline, YOLO labels only have the box.
    pub area: f64,
    /// A group of objects annotated as one (COCO's `iscrowd`); detections inside it are ignored.
    pub is_crowd: bool,
}

/// A detection of the model under evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Index of the label.
    pub class: usize,
    /// Score, 0..=1.
    pub score: f32,
    /// Left, top, right, bottom.
    pub corners: Corners,
}

/// Ground truth and predictions of one picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvalPicture {
    /// Annotated objects.
    pub truths: Vec<GroundTruth>,
    /// Predictions; as in COCO, only the 100 highest scores per label count.
    pub predictions: Vec<Prediction>,
}

/// Range of object sizes, by area in square pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeRange {
    /// Any size.
    All,
    /// Up to 32².
    Small,
    /// 32² to 96².
    Medium,
    /// 96² and more.
    Large,
}

impl SizeRange {
    /// All ranges, in the order used by every array of metrics.
    pub const ALL: [Self; 4] = [Self::All, Self::Small, Self::Medium, Self::Large];

    /// COCO's bounds, both inclusive.
    fn contains(self, area: f64) -> bool {
        const SMALL: f64 = 32.0 * 32.0;
        const LARGE: f64 = 96.0 * 96.0;
        match self {
            Self::All => true,
            Self::Small => area <= SMALL,
            Self::Medium => (SMALL..=LARGE).contains(&area),
            Self::Large => area >= LARGE,
        }
    }
}

/// Metrics of one set of objects; `None` if the set is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DetectionMetrics {
    /// Number of annotated objects.
    pub truths: usize,
    /// Average precision, mean over IoU thresholds 0.50 to 0.95 in steps of 0.05.
    pub ap: Option<f64>,
    /// Average precision at IoU 0.5.
    pub ap50: Option<f64>,
    /// Average precision at IoU 0.75.
    pub ap75: Option<f64>,
    /// Recall at IoU 0.5 over all scores.
    pub recall50: Option<f64>,
}

/// A point of the precision-recall curve at IoU 0.5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrPoint {
    /// Score threshold; predictions at or above it count.
    pub score: f32,
    /// Share of those predictions that are correct.
    pub precision: f64,
    /// Share of annotated objects that they find.
    pub recall: f64,
}

impl PrPoint {
    /// Harmonic mean of precision and recall; 0 if both are 0.
    pub fn f1(&self) -> f64 {
        let sum = self.precision + self.recall;
        if sum > 0.0 {
            2.0 * self.precision * self.recall / sum
        } else {
            0.0
        }
    }
}

/// Metrics of one label.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassMetrics {
    /// Metrics by size, in the order of [`SizeRange::ALL`].
    pub by_size: [DetectionMetrics; 4],
    /// Precision-recall curve, from the highest score to the lowest.
    pub curve: Vec<PrPoint>,
}

impl ClassMetrics {
    /// Metrics over all sizes.
    pub fn all(&self) -> &DetectionMetrics {
        &self.by_size[0]
    }

    /// The point with the best [`PrPoint::f1`], the highest threshold of equal ones; `None` if no prediction is correct.
    pub fn best(&self) -> Option<PrPoint> {
        let useful = self.curve.iter().filter(|p| p.f1() > 0.0);
        useful
            .copied()
            .reduce(|best, p| if p.f1() > best.f1() { p } else { best })
    }
}

/// Metrics of all labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Metrics by label index.
    pub classes: Vec<ClassMetrics>,
    /// Means over the labels that have objects of a size, in the order of [`SizeRange::ALL`].
    pub mean: [DetectionMetrics; 4],
}

/// Evaluates `pictures` for the label indices below `classes`; others are ignored.
pub fn evaluate(pictures: &[EvalPicture], classes: usize) -> Evaluation {
    let classes: Vec<ClassMetrics> = (0..classes).map(|class| of_class(pictures, class)).collect();
    let mean = std::array::from_fn(|size| mean(classes.iter().map(|c| &c.by_size[size])));
    Evaluation { classes, mean }
}

fn of_class(pictures: &[EvalPicture], class: usize) -> ClassMetrics {
    let by_size = SizeRange::ALL.map(|size| ClassMatches::of(pictures, class, size));
    ClassMetrics {
        curve: by_size[0].curve(),
        by_size: by_size.each_ref().map(ClassMatches::metrics),
    }
}

fn mean<'a>(metrics: impl Iterator<Item = &'a DetectionMetrics> + Clone) -> DetectionMetrics {
    let mean_of = |metric: fn(&DetectionMetrics) -> Option<f64>| {
        let values: Vec<f64> = metrics.clone().filter_map(metric).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    DetectionMetrics {
        truths: metrics.clone().map(|f| f.truths).sum(),
        ap: mean_of(|f| f.ap),
        ap50: mean_of(|f| f.ap50),
        ap75: mean_of(|f| f.ap75),
        recall50: mean_of(|f| f.recall50),
    }
}

/// Matches between ground truth and predictions of one picture, at IoU 0.5 and one score threshold per label.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PictureMatches<'a> {
    /// Objects with the prediction that matched them, under the same or another label.
    pub matched: Vec<(&'a GroundTruth, &'a Prediction)>,
    /// Objects without a prediction.
    pub missed: Vec<&'a GroundTruth>,
    /// Predictions without an object.
    pub false_positives: Vec<&'a Prediction>,
}

/// Matches predictions to objects in descending score: each takes the unmatched object with the highest IoU, of any label, if that is
/// at least 0.5. Predictions inside a crowd are ignored. `thresholds` holds one score per label.
pub fn match_picture<'a>(picture: &'a EvalPicture, thresholds: &[f32]) -> PictureMatches<'a> {
    let counts = |p: &&Prediction| thresholds.get(p.class).is_some_and(|t| p.score >= *t);
    let mut predictions: Vec<&Prediction> = picture.predictions.iter().filter(counts).collect();
    predictions.sort_by(|a, b| b.score.total_cmp(&a.score));
    let known = picture.truths.iter().filter(|t| t.class < thresholds.len());
    let (crowds, mut missed): (Vec<&GroundTruth>, Vec<&GroundTruth>) = known.partition(|t| t.is_crowd);
    let mut matches = PictureMatches::default();
    for prediction in predictions {
        let overlaps = missed
            .iter()
            .map(|t| matching::iou(&t.corners, &prediction.corners, false));
        let best = overlaps.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((i, _)) = best.filter(|(_, overlap)| *overlap >= 0.5) {
            matches.matched.push((missed.remove(i), prediction));
        } else if !crowds
            .iter()
            .any(|t| matching::iou(&t.corners, &prediction.corners, true) >= 0.5)
        {
            matches.false_positives.push(prediction);
        }
    }
    PictureMatches { missed, ..matches }
}

/// Confusion matrix. Rows are the annotated labels, columns the predicted ones; the last row counts false positives, the last column
/// missed objects. `thresholds` holds one score per label.
pub fn confusion(pictures: &[EvalPicture], thresholds: &[f32]) -> Vec<Vec<usize>> {
    let nothing = thresholds.len();
    let mut counts = vec![vec![0; nothing + 1]; nothing + 1];
    for matches in pictures.iter().map(|p| match_picture(p, thresholds)) {
        matches.matched.iter().for_each(|(t, g)| counts[t.class][g.class] += 1);
        matches.missed.iter().for_each(|t| counts[t.class][nothing] += 1);
        matches
            .false_positives
            .iter()
            .for_each(|g| counts[nothing][g.class] += 1);
    }
    counts
}
