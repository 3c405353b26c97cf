//! Which guess is of which thing, as COCO has it, and what follows from that for one label and size.

use super::{Corners, Figures, Guess, Picture, Point, Size, Truth};

/// Overlaps that are asked for: 0.5, 0.55 … 0.95.
const OVERLAPS: usize = 10;
/// Index of 0.75.
const THREE_QUARTERS: usize = 5;
/// Of a picture's guesses under one label so many count, the surest.
const MOST_GUESSES: usize = 100;
/// Recalls at which precision is read: 0, 0.01 … 1.
const RECALLS: usize = 101;

fn overlap_asked(index: usize) -> f64 {
    0.5 + 0.05 * index as f64
}

/// Intersection over union; over the guess's own area where the thing is a crowd. 0 where there is none.
pub(super) fn iou(truth: &Corners, guess: &Corners, is_crowd: bool) -> f64 {
    let side = |low: f64, high: f64| (high - low).max(0.0);
    let common =
        side(truth[0].max(guess[0]), truth[2].min(guess[2])) * side(truth[1].max(guess[1]), truth[3].min(guess[3]));
    let whole = if is_crowd {
        area(guess)
    } else {
        area(truth) + area(guess) - common
    };
    if common > 0.0 { common / whole } else { 0.0 }
}

fn area(corners: &Corners) -> f64 {
    (corners[2] - corners[0]).max(0.0) * (corners[3] - corners[1]).max(0.0)
}

/// One guess, at each overlap that is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    Right,
    Wrong,
    /// Of a crowd, or of a thing of another size.
    Uncounted,
}

/// What became of all guesses of one label, for things of one size.
pub(super) struct Outcomes {
    truths: usize,
    /// The surest first; of equal ones, by picture.
    guesses: Vec<(f32, [Verdict; OVERLAPS])>,
}

impl Outcomes {
    pub(super) fn of(pictures: &[Picture], class: usize, size: Size) -> Self {
        let mut this = Self {
            truths: 0,
            guesses: Vec::new(),
        };
        for picture in pictures {
            this.add(picture, class, size);
        }
        this.guesses.sort_by(|a, b| b.0.total_cmp(&a.0));
        this
    }

    fn add(&mut self, picture: &Picture, class: usize, size: Size) {
        let mut guesses: Vec<&Guess> = picture.guesses.iter().filter(|g| g.class == class).collect();
        guesses.sort_by(|a, b| b.score.total_cmp(&a.score));
        guesses.truncate(MOST_GUESSES);
        let is_counted = |t: &Truth| !t.is_crowd && size.holds(t.area);
        let mut truths: Vec<&Truth> = picture.truths.iter().filter(|t| t.class == class).collect();
        // Those that count are asked first.
        truths.sort_by_key(|t| !is_counted(t));
        let counted = truths.iter().filter(|t| is_counted(t)).count();
        self.truths += counted;
        let overlaps: Vec<Vec<f64>> = guesses
            .iter()
            .map(|g| truths.iter().map(|t| iou(&t.corners, &g.corners, t.is_crowd)).collect())
            .collect();
        let first = self.guesses.len();
        self.guesses
            .extend(guesses.iter().map(|g| (g.score, [Verdict::Wrong; OVERLAPS])));
        for asked in 0..OVERLAPS {
            let mut is_taken = vec![false; truths.len()];
            for (i, guess) in guesses.iter().enumerate() {
                let is_free = |t: &usize| !is_taken[*t] || truths[*t].is_crowd;
                let found = best(&overlaps[i], counted, overlap_asked(asked), is_free);
                self.guesses[first + i].1[asked] = match found {
                    Some(t) => {
                        is_taken[t] = true;
                        if t < counted {
                            Verdict::Right
                        } else {
                            Verdict::Uncounted
                        }
                    }
                    None if size.holds(area(&guess.corners)) => Verdict::Wrong,
                    None => Verdict::Uncounted,
                };
            }
        }
    }

    /// Precision and recall at an overlap of 0.5 after each score.
    pub(super) fn curve(&self) -> Vec<Point> {
        let mut curve: Vec<Point> = Vec::new();
        for (score, precision, recall) in self.steps(0) {
            // Of equal scores the last has seen them all.
            if curve.last().is_some_and(|p| p.score == score) {
                curve.pop();
            }
            curve.push(Point {
                score,
                precision,
                recall,
            });
        }
        curve
    }

    /// Score, precision and recall after each guess that counts, the surest first.
    fn steps(&self, asked: usize) -> impl Iterator<Item = (f32, f64, f64)> {
        let counted = self.guesses.iter().filter(move |g| g.1[asked] != Verdict::Uncounted);
        counted.scan((0.0, 0.0), move |(right, all), (score, verdicts)| {
            *all += 1.0;
            *right += if verdicts[asked] == Verdict::Right { 1.0 } else { 0.0 };
            // Without things there is no recall.
            Some((*score, *right / *all, *right / (self.truths as f64).max(1.0)))
        })
    }

    pub(super) fn figures(&self) -> Figures {
        if self.truths == 0 {
            return Figures::default();
        }
        let ap: [f64; OVERLAPS] = std::array::from_fn(|asked| self.average_precision(asked));
        Figures {
            truths: self.truths,
            ap: Some(ap.iter().sum::<f64>() / OVERLAPS as f64),
            ap50: Some(ap[0]),
            ap75: Some(ap[THREE_QUARTERS]),
            recall50: Some(self.steps(0).last().map_or(0.0, |(_, _, recall)| recall)),
        }
    }

    /// The mean, over 101 recalls, of the best precision at that recall or a higher one.
    fn average_precision(&self, asked: usize) -> f64 {
        let mut steps: Vec<(f64, f64)> = self
            .steps(asked)
            .map(|(_, precision, recall)| (precision, recall))
            .collect();
        for i in (1..steps.len()).rev() {
            steps[i - 1].0 = steps[i - 1].0.max(steps[i].0);
        }
        let at = |recall: f64| {
            let reached = steps.partition_point(|(_, r)| *r < recall);
            steps.get(reached).map_or(0.0, |(precision, _)| *precision)
        };
        (0..RECALLS).map(|i| at(0.01 * i as f64)).sum::<f64>() / RECALLS as f64
    }
}

/// The free thing that a guess overlaps most, by what is asked or more; of equal ones the last. One that counts goes before all
/// that do not.
fn best(overlaps: &[f64], counted: usize, asked: f64, is_free: impl Fn(&usize) -> bool) -> Option<usize> {
    let among = |range: std::ops::Range<usize>| {
        let enough = range.filter(&is_free).filter(|t| overlaps[*t] >= asked);
        enough.max_by(|a, b| overlaps[*a].total_cmp(&overlaps[*b]))
    };
    among(0..counted).or_else(|| among(counted..overlaps.len()))
}
