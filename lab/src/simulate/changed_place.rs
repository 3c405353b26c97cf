//! One place of a view that may differ from what its change map has learned, and since when.

use super::clock::Ms;
use gridwatch_engine::{BBox, Light};
use gridwatch_vision::change::Occupant;

/// Looks in which a place must be new and still before a box there is new (docs/seeing.md: a cell counts from its fourth look).
pub(super) const STILL_LOOKS: u32 = 4;
/// Looks that hide it and are bridged; more, and it counts from anew (docs/seeing.md).
const BRIDGED_LOOKS: u32 = 4;
/// Looks until a place is learned (docs/seeing.md).
pub(super) const LEARN_LOOKS: u32 = 30;
/// What becomes new around an object, in cells: its edge reaches a cell or two into the ground beside it (docs/seeing.md). Regions are
/// reported without one of them.
const EDGE: f32 = 1.5;
const REPORTED_EDGE: f32 = EDGE - 1.0;
/// Cells of the view, across and down.
const CELLS: (f32, f32) = (160.0, 90.0);

/// What is in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The object with this number.
    Object(u32),
    /// The ground where an object of the background stood.
    Left,
    /// Light that the map takes for a thing; of a false spot of the detector, if it has a name.
    Light(Option<u64>),
}

/// What one light of the view has learned about a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// The learned background is different: what is there is new.
    New,
    /// What is there is the background.
    Background,
    /// It is learned anew for this many more looks, and nothing can be told.
    Learning(u32),
    /// It was new when this light was learned. Nothing can be told until it leaves.
    Unknown,
}

/// What stands before a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cover {
    /// People, whom a network finds: the place waits.
    People,
    /// Something else.
    Other,
}

/// A place that may differ from the learned background.
#[derive(Debug, Clone)]
pub(super) struct ChangedPlace {
    pub(super) cause: Cause,
    /// When it came into being, and when it ends by itself.
    pub(super) from: Ms,
    pub(super) to: Ms,
    /// The visible parts, and what covers all of them.
    pub(super) boxes: Vec<BBox>,
    pub(super) cover: Option<Cover>,
    /// By [`light_index`].
    pub(super) known: [Knowledge; 2],
    /// The look since when it is new, and the looks since then in which it was new and still.
    pub(super) since: Option<Ms>,
    pub(super) looks: u32,
    pub(super) hidden: u32,
    /// Which share of its boxes the map finds new, 0..=1.
    pub(super) share: f64,
    /// How likely the map takes its region for a thing, 0..=1; `None` if it reports none.
    pub(super) score: Option<f32>,
    pub(super) explained_by: Option<Occupant>,
    /// Whether it came after the view was learned; `None` while nothing is learned.
    pub(super) appeared: Option<bool>,
    pub(super) was_reported: bool,
}

impl ChangedPlace {
    /// Something new to every light.
    pub(super) fn new(cause: Cause, (from, to): (Ms, Ms), share: f64, score: Option<f32>) -> Self {
        Self {
            cause,
            from,
            to,
            boxes: Vec::new(),
            cover: None,
            known: [Knowledge::New; 2],
            since: None,
            looks: 0,
            hidden: 0,
            share,
            score,
            explained_by: None,
            appeared: None,
            was_reported: false,
        }
    }

    /// Takes a look that was compared with the background of `light`.
    pub(super) fn count(&mut self, light: Light, now: Ms) {
        let known = &mut self.known[light_index(light)];
        match (*known, self.cover) {
            (_, Some(Cover::People)) | (Knowledge::Unknown, _) => {}
            (Knowledge::New, None) => {
                self.since.get_or_insert(now);
                self.looks += 1;
                self.hidden = 0;
            }
            (Knowledge::New, Some(Cover::Other)) => {
                self.hidden += 1;
                if self.hidden > BRIDGED_LOOKS {
                    self.forget();
                }
            }
            (Knowledge::Background, _) => self.forget(),
            (Knowledge::Learning(left), None) => {
                *known = match left {
                    0 | 1 => Knowledge::Background,
                    _ => Knowledge::Learning(left - 1),
                };
            }
            (Knowledge::Learning(_), Some(Cover::Other)) => {}
        }
    }

    /// Forgets since when it is new.
    pub(super) fn forget(&mut self) {
        (self.since, self.looks, self.hidden) = (None, 0, 0);
    }

    /// What is there when a light has been learned becomes its background, unless another light knows that it is new.
    pub(super) fn learned(&mut self, light: Light) {
        self.known[light_index(light)] = if self.looks >= STILL_LOOKS {
            Knowledge::Unknown
        } else {
            self.appeared = Some(false);
            Knowledge::Background
        };
    }

    /// Makes it part of the background, in every light.
    pub(super) fn absorb(&mut self) {
        self.known = [Knowledge::Learning(LEARN_LOOKS); 2];
        self.forget();
    }

    /// The map counts it as new and still.
    pub(super) fn is_new(&self, light: Light) -> bool {
        self.known[light_index(light)] == Knowledge::New && self.looks >= STILL_LOOKS
    }

    /// Nothing can be told about it.
    pub(super) fn is_unknown(&self, light: Light) -> bool {
        matches!(
            self.known[light_index(light)],
            Knowledge::Unknown | Knowledge::Learning(_)
        )
    }

    /// The box around its visible parts, as a region around it is reported.
    pub(super) fn outline(&self) -> Option<BBox> {
        let whole = self.boxes.iter().copied().reduce(around)?;
        with_edge(whole, REPORTED_EDGE).within_picture()
    }

    /// The fraction of `bbox` that its parts cover, 0..=1.
    pub(super) fn coverage(&self, bbox: &BBox) -> f64 {
        let covered: f64 = self.boxes.iter().map(|b| common_area(&with_edge(*b, EDGE), bbox)).sum();
        if bbox.area() > 0.0 {
            (covered / bbox.area()).min(1.0)
        } else {
            0.0
        }
    }

    /// True if a case with this box is about it.
    pub(super) fn is_at(&self, case: &BBox) -> bool {
        let outline = self.outline();
        outline.is_some_and(|o| 2.0 * common_area(&o, case) >= o.area().min(case.area()))
    }
}

/// Index of a light in [`ChangedPlace::known`].
pub(super) fn light_index(light: Light) -> usize {
    match light {
        Light::Day => 0,
        Light::Night => 1,
    }
}

fn with_edge(b: BBox, cells: f32) -> BBox {
    let (across, down) = (cells / CELLS.0, cells / CELLS.1);
    BBox {
        x1: b.x1 - across,
        y1: b.y1 - down,
        x2: b.x2 + across,
        y2: b.y2 + down,
    }
}

/// The box around two boxes.
pub(super) fn around(a: BBox, b: BBox) -> BBox {
    BBox {
        x1: a.x1.min(b.x1),
        y1: a.y1.min(b.y1),
        x2: a.x2.max(b.x2),
        y2: a.y2.max(b.y2),
    }
}

/// Area of the intersection.
pub(super) fn common_area(a: &BBox, b: &BBox) -> f64 {
    let wide = f64::from(a.x2.min(b.x2)) - f64::from(a.x1.max(b.x1));
    let high = f64::from(a.y2.min(b.y2)) - f64::from(a.y1.max(b.y1));
    wide.max(0.0) * high.max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bag() -> ChangedPlace {
        let mut place = ChangedPlace::new(Cause::Object(1), (0, Ms::MAX), 0.8, Some(0.9));
        place.boxes = vec![BBox {
            x1: 0.4,
            y1: 0.5,
            x2: 0.5,
            y2: 0.6,
        }];
        place
    }

    /// Looks every 10 s by day, from `from` on.
    fn look(place: &mut ChangedPlace, from: Ms, looks: Ms) {
        (0..looks).for_each(|n| place.count(Light::Day, from + n * 10_000));
    }

    #[test]
    fn it_is_new_from_its_fourth_look_and_since_its_first() {
        let mut place = bag();
        look(&mut place, 5, 3);
        assert!(!place.is_new(Light::Day));
        look(&mut place, 30_005, 1);
        assert!(place.is_new(Light::Day));
        assert_eq!(place.since, Some(5));
    }

    #[test]
    fn it_waits_behind_people_and_starts_anew_behind_a_vehicle() {
        for (cover, since) in [(Cover::People, 0), (Cover::Other, 150_000)] {
            let mut place = bag();
            look(&mut place, 0, 5);
            place.cover = Some(cover);
            look(&mut place, 50_000, 10);
            place.cover = None;
            look(&mut place, 150_000, 4);
            assert_eq!(place.since, Some(since), "{cover:?}");
        }
    }

    #[test]
    fn what_is_new_by_day_stays_unknown_in_infrared_and_what_is_not_becomes_background() {
        let mut place = bag();
        look(&mut place, 0, 5);
        place.learned(Light::Night);
        assert!(place.is_unknown(Light::Night) && place.is_new(Light::Day));
        let mut early = bag();
        early.learned(Light::Day);
        look(&mut early, 0, 10);
        assert!(!early.is_new(Light::Day) && !early.is_unknown(Light::Day));
        assert_eq!(early.appeared, Some(false));
    }

    #[test]
    fn what_is_absorbed_is_learned_for_thirty_looks_and_then_old() {
        let mut place = bag();
        look(&mut place, 0, 10);
        place.absorb();
        look(&mut place, 100_000, 29);
        assert!(place.is_unknown(Light::Day));
        look(&mut place, 400_000, 5);
        assert!(!place.is_unknown(Light::Day) && !place.is_new(Light::Day));
    }

    #[test]
    fn its_outline_covers_a_box_of_its_own_and_no_neighbour() {
        let place = bag();
        assert!(place.coverage(&place.boxes[0]) > 0.99);
        let beside = BBox {
            x1: 0.6,
            x2: 0.7,
            ..place.boxes[0]
        };
        assert!(place.coverage(&beside) < 1e-9);
        assert!(place.is_at(&place.boxes[0]) && !place.is_at(&beside));
    }
}
