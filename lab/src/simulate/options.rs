//! What a simulation is asked for, and what it counts.

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;

use gridwatch_engine::{Detection, Label};

/// The parameters of a simulation.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of cameras, 1..=10000.
    pub cameras: usize,
    /// Number of days, 1..=366.
    pub days: u32,
    /// Random seed.
    pub seed: u64,
    /// Interval between a camera's looks.
    pub look_every: Duration,
    /// Fraction of daytime looks that detect an unobstructed object, at the rule's keep score; 0.01..=0.99.
    pub recall: f64,
    /// False detections per look, at the rule's keep score; 0..=10.
    pub false_per_look: f64,
    /// Fraction of the looks that detect the most persistent false object while it lasts, 0..=1; others are detected less often.
    pub stubborn: f64,
    /// Whether the views have change maps. Without, nothing is known to be new, and what no network has a label for is not found.
    pub has_change_map: bool,
    /// New regions per look that are only light, 0..=1; and the same again for each passing false object of the detector.
    pub false_regions: f64,
    /// Start of the simulated time.
    pub start: Timestamp,
    /// A configuration whose rules and hours replace the shipped ones.
    pub rules: Option<PathBuf>,
}

/// The counts of a simulation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Looks that reached the engine.
    pub looks: u64,
    /// Detections in them.
    pub boxes: u64,
    /// Detections of something new in the view.
    pub new_boxes: u64,
    /// New regions that no network had a label for, counted in each look.
    pub unlabelled: u64,
    /// Clear looks in which the change map could not tell what is new.
    pub untold: u64,
    /// Cases that the engine opened.
    pub cases: u64,
    /// Starts of the daemon.
    pub starts: u64,
    /// Objects in the truth file, lawful ones included.
    pub truths: u64,
    /// Places in the truth file that the detector or the change map falsely reported.
    pub false_places: u64,
    /// Entries that are problems.
    pub problems: u64,
}

impl Summary {
    /// Counts a look; `searched`: for unknown objects, too.
    pub(super) fn count(&mut self, detections: &[Detection], searched: bool) {
        self.looks += 1;
        self.boxes += detections.len() as u64;
        let is_new = |d: &&Detection| d.newness.is_some_and(|n| n.is_new());
        self.new_boxes += detections.iter().filter(is_new).count() as u64;
        let object = Label::object();
        self.unlabelled += detections.iter().filter(|d| d.label == object).count() as u64;
        self.untold += u64::from(!searched);
    }
}
