//! What a look at a view gives, and what it is told.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::region::FEATURES;
use gridwatch_engine::{BBox, Detection};

/// What a network found in a box that explains that something new is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occupant {
    /// A person. Nothing is judged or learned behind people.
    Person,
    /// An animal; treated like a person.
    Animal,
    /// A vehicle. Nothing is learned behind it; parked, it is a new region that it explains.
    Vehicle,
}

impl Occupant {
    /// The kind of what a detection's label names, whether the label is COCO's or another; `None` if it explains nothing.
    pub fn of_label(label: &str) -> Option<Self> {
        const PEOPLE: [&str; 4] = ["person", "pedestrian", "rider", "people"];
        const ANIMALS: [&str; 8] = ["dog", "cat", "bird", "horse", "sheep", "cow", "goat", "animal"];
        const VEHICLES: [&str; 12] = [
            "bicycle",
            "car",
            "motorcycle",
            "motorbike",
            "bus",
            "truck",
            "train",
            "van",
            "tricycle",
            "scooter",
            "taxi",
            "vehicle",
        ];
        [
            (Self::Person, &PEOPLE[..]),
            (Self::Animal, &ANIMALS),
            (Self::Vehicle, &VEHICLES),
        ]
        .into_iter()
        .find_map(|(occupant, labels)| labels.contains(&label).then_some(occupant))
    }

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Animal => "animal",
            Self::Vehicle => "vehicle",
        }
    }
}

/// The boxes of people, animals and vehicles, which explain that something new stands there.
pub fn occupants(detections: &[Detection]) -> Vec<(BBox, Occupant)> {
    /// Below, most boxes are mistakes, and nothing is learned behind one.
    const MIN_SCORE: f32 = 0.25;
    /// Share of the picture above which a box is a mistake: a network takes a whole façade for a train.
    const MAX_AREA: f64 = 0.4;
    let found = detections
        .iter()
        .filter(|d| d.score >= MIN_SCORE && d.bbox.area() <= MAX_AREA);
    found
        .filter_map(|d| Some((d.bbox, Occupant::of_label(d.label.as_str())?)))
        .collect()
}

/// Whether a look was compared with the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeState {
    /// Most of the view is not learned yet.
    Learning,
    /// The look was compared.
    Judged,
    /// Too much of the view changed: it is in a light that is not learned, or hidden. Nothing is told.
    OtherLight,
}

/// A part of the view that is new and still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewRegion {
    /// Where it is.
    pub bbox: BBox,
    /// How likely it is a thing rather than a change of light, 0..=1.
    pub score: f32,
    /// When it was first seen there.
    pub since: Timestamp,
    /// What explains it, if a network found it.
    pub explained_by: Option<Occupant>,
    /// This look is the first that reports it.
    pub is_first: bool,
}

/// The result of one look.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeLook {
    /// Whether the look was compared.
    pub state: ChangeState,
    /// The new regions, those that are explained among them.
    pub regions: Vec<NewRegion>,
    /// Share of the judged cells that differ from the background, 0..=1.
    pub changed: f32,
    /// Displacement that was compensated, as a share of the picture's width: right and down.
    pub shift: (f32, f32),
    /// The map has changed enough to be saved.
    pub should_save: bool,
    /// What was measured, whatever its score; for fitting the score.
    pub measured: Vec<Measured>,
}

/// A part of the view that is new and still in one look, as it was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Where it is.
    pub bbox: BBox,
    /// Its features; the names are in `docs/seeing.md`.
    pub features: [f32; FEATURES],
    /// Log odds of a thing, by the score in use.
    pub log_odds: f32,
}

/// The settings of a change map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeSettings {
    /// Width of the working picture in pixels.
    pub width: u32,
    /// Time after which what stays belongs to the background.
    pub absorb_after: Duration,
}

impl Default for ChangeSettings {
    fn default() -> Self {
        Self {
            width: 480,
            absorb_after: Duration::from_secs(24 * 3600),
        }
    }
}
