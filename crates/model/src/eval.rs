//! How good detections are: average precision and recall as COCO defines them, curves, thresholds and confusion.
//!
//! Pure: boxes in, figures out; no file, no network that detects. The definitions are those of the COCO evaluation
//! (cocodataset/cocoapi, `PythonAPI/pycocotools/cocoeval.py`, `iouType = "bbox"`), whose figures these are to the last digits:
//! `tests/eval_reference.rs` holds them against it.

pub mod data;
mod matching;

use self::matching::ClassMatches;

/// Sides of a box in pixels of its picture.
pub type Corners = [f64; 4];

/// A thing that people marked.
#[derive(Debug, Clone, PartialEq)]
pub struct GroundTruth {
    /// Index of its label.
    pub class: usize,
    /// Left, top, right, bottom.
    pub corners: Corners,
    /// By which its [`SizeRange`] goes: COCO's files state that of its outline, other labels have but the box's.
    pub area: f64,
    /// Many things that nobody told apart (COCO's `iscrowd`): finding some of them is neither right nor wrong.
    pub is_crowd: bool,
}

/// A thing that a model found.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Index of its label.
    pub class: usize,
    /// 0..=1.
    pub score: f32,
    /// Left, top, right, bottom.
    pub corners: Corners,
}

/// One picture: what is there, and what was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvalPicture {
    /// What people marked.
    pub truths: Vec<GroundTruth>,
    /// What the model found; COCO counts the best 100 of each label.
    pub predictions: Vec<Prediction>,
}

/// How large things are, by their boxes' area in pixels of their picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeRange {
    /// Any.
    All,
    /// Up to 32².
    Small,
    /// 32² to 96².
    Medium,
    /// 96² and more.
    Large,
}

impl SizeRange {
    /// In this order everywhere.
    pub const ALL: [Self; 4] = [Self::All, Self::Small, Self::Medium, Self::Large];

    /// COCO's bounds, both of which belong to it.
    fn holds(self, area: f64) -> bool {
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

/// Metrics over one set of things; `None` where there are none of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Metrics {
    /// Things there are.
    pub truths: usize,
    /// Average precision, the mean over overlaps of 0.5 to 0.95 in steps of 0.05.
    pub ap: Option<f64>,
    /// Average precision at an overlap of 0.5.
    pub ap50: Option<f64>,
    /// Average precision at an overlap of 0.75.
    pub ap75: Option<f64>,
    /// The share of things that are found at an overlap of 0.5, whatever the score.
    pub recall50: Option<f64>,
}

/// What a threshold gives, at an overlap of 0.5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrPoint {
    /// Guesses that score this or more count.
    pub score: f32,
    /// The share of them that are right.
    pub precision: f64,
    /// The share of things that they find.
    pub recall: f64,
}

impl PrPoint {
    /// Harmonic mean of precision and recall; 0 where both are.
    pub fn f1(&self) -> f64 {
        let sum = self.precision + self.recall;
        if sum > 0.0 {
            2.0 * self.precision * self.recall / sum
        } else {
            0.0
        }
    }
}

/// Of one label.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassMetrics {
    /// In the order of [`SizeRange::ALL`].
    pub by_size: [Metrics; 4],
    /// Thresholds from the highest score that was given to the lowest.
    pub curve: Vec<PrPoint>,
}

impl ClassMetrics {
    /// Of things of any size.
    pub fn all(&self) -> &Metrics {
        &self.by_size[0]
    }

    /// The threshold with the best [`PrPoint::f1`]; of equal ones the highest. `None` where nothing was found rightly.
    pub fn best(&self) -> Option<PrPoint> {
        let right = self.curve.iter().filter(|p| p.f1() > 0.0);
        right
            .copied()
            .reduce(|best, p| if p.f1() > best.f1() { p } else { best })
    }
}

/// All figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// By label.
    pub classes: Vec<ClassMetrics>,
    /// Means over the labels that have things of that size, in the order of [`SizeRange::ALL`].
    pub mean: [Metrics; 4],
}

/// Evaluation what was found in `pictures`. Classes are those below `classes`; others are left out.
pub fn evaluate(pictures: &[EvalPicture], classes: usize) -> Evaluation {
    let classes: Vec<ClassMetrics> = (0..classes).map(|class| of_class(pictures, class)).collect();
    let mean = std::array::from_fn(|size| mean(classes.iter().map(|c| &c.by_size[size])));
    Evaluation { classes, mean }
}

fn of_class(pictures: &[EvalPicture], class: usize) -> ClassMetrics {
    let by_size = SizeRange::ALL.map(|size| ClassMatches::of(pictures, class, size));
    ClassMetrics {
        curve: by_size[0].curve(),
        by_size: by_size.each_ref().map(ClassMatches::figures),
    }
}

fn mean<'a>(figures: impl Iterator<Item = &'a Metrics> + Clone) -> Metrics {
    let of = |figure: fn(&Metrics) -> Option<f64>| {
        let there: Vec<f64> = figures.clone().filter_map(figure).collect();
        (!there.is_empty()).then(|| there.iter().sum::<f64>() / there.len() as f64)
    };
    Metrics {
        truths: figures.clone().map(|f| f.truths).sum(),
        ap: of(|f| f.ap),
        ap50: of(|f| f.ap50),
        ap75: of(|f| f.ap75),
        recall50: of(|f| f.recall50),
    }
}

/// One picture at a threshold for each label: what was matched for what, at an overlap of 0.5.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PictureMatches<'a> {
    /// A thing, and what found it, under its own label or another.
    pub matched: Vec<(&'a GroundTruth, &'a Prediction)>,
    /// What was not found.
    pub missed: Vec<&'a GroundTruth>,
    /// What was found where nothing is.
    pub wrong: Vec<&'a Prediction>,
}

/// The surest guess takes the thing that it overlaps most, of whatever label, if that is by half or more. What lies in a crowd is
/// neither right nor wrong. `thresholds` has one for each label.
pub fn match_picture<'a>(picture: &'a EvalPicture, thresholds: &[f32]) -> PictureMatches<'a> {
    let counts = |g: &&Prediction| thresholds.get(g.class).is_some_and(|t| g.score >= *t);
    let mut predictions: Vec<&Prediction> = picture.predictions.iter().filter(counts).collect();
    predictions.sort_by(|a, b| b.score.total_cmp(&a.score));
    let known = picture.truths.iter().filter(|t| t.class < thresholds.len());
    let (crowds, mut missed): (Vec<&GroundTruth>, Vec<&GroundTruth>) = known.partition(|t| t.is_crowd);
    let mut judged = PictureMatches::default();
    for guess in predictions {
        let overlaps = missed.iter().map(|t| matching::iou(&t.corners, &guess.corners, false));
        let best = overlaps.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((i, _)) = best.filter(|(_, overlap)| *overlap >= 0.5) {
            judged.matched.push((missed.remove(i), guess));
        } else if !crowds
            .iter()
            .any(|t| matching::iou(&t.corners, &guess.corners, true) >= 0.5)
        {
            judged.wrong.push(guess);
        }
    }
    PictureMatches { missed, ..judged }
}

/// How often each label was matched for each. Row: what is there, column: what it was matched for; the last row is what was found
/// where nothing is, the last column what was not found. `thresholds` has one for each label.
pub fn confusion(pictures: &[EvalPicture], thresholds: &[f32]) -> Vec<Vec<usize>> {
    let nothing = thresholds.len();
    let mut counts = vec![vec![0; nothing + 1]; nothing + 1];
    for judged in pictures.iter().map(|p| match_picture(p, thresholds)) {
        judged.matched.iter().for_each(|(t, g)| counts[t.class][g.class] += 1);
        judged.missed.iter().for_each(|t| counts[t.class][nothing] += 1);
        judged.wrong.iter().for_each(|g| counts[nothing][g.class] += 1);
    }
    counts
}
