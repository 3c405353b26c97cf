//! Looks closely at what is new in a view: the models search crops around new regions at the camera's full resolution.
//!
//! A network sees a whole street in about 170,000 pixels, in which a bag of 40 pixels is lost; a crop around something new shows it.
//! What a crop showed is remembered for as long as its region is there, because the region is still: it looks the same at the next look.
//! So a region costs an inference at its first look, and then more and more rarely.

use jiff::Timestamp;

use super::types::{NewRegion, Occupant};
use gridwatch_engine::{BBox, Detection, Label};

/// Regions searched in one look; others wait for the next. Bounds what a street in turmoil costs.
const MAX_CROPS: usize = 2;
/// Longest pause between two searches of a region, in looks. Passers-by hide it, and light changes.
const MAX_PAUSE: u32 = 32;
/// Regions remembered for a view.
const MAX_REGIONS: usize = 32;
/// Two boxes of one region in consecutive looks overlap by this IoU.
const SAME_REGION_IOU: f64 = 0.3;
/// Score from which a network's word tells what a region is.
const EXPLAINED_SCORE: f32 = 0.3;

/// What the models found in the new regions of one view.
#[derive(Debug, Default)]
pub struct CloseLooks {
    /// What the rules are about.
    labels: Vec<Label>,
    regions: Vec<SearchedRegion>,
}

#[derive(Debug)]
struct SearchedRegion {
    bbox: BBox,
    since: Timestamp,
    found: Vec<Detection>,
    /// Looks until it is searched again.
    pause: u32,
    /// The pause after the next search.
    next_pause: u32,
}

impl CloseLooks {
    /// Searches for these labels. People, animals and vehicles among them are left to the normal looks: they come and go.
    pub fn new(labels: impl IntoIterator<Item = Label>) -> Self {
        let stays = |l: &Label| Occupant::of_label(l.as_str()).is_none();
        Self {
            labels: labels.into_iter().filter(stays).collect(),
            regions: Vec::new(),
        }
    }

    /// Adds what the models find in the regions that no person, animal or vehicle explains to `found`, and an
    /// [`object`](Label::object) for each of them: something new, whatever a network takes it for. A network that is half sure that a cloth with
    /// goods is garbage, or a flyer a sign, in every other look must not make it come and go.
    /// `search` runs the models on the crop around a box and returns boxes of the whole picture; `None` if it failed.
    pub fn add(
        &mut self,
        regions: &[NewRegion],
        found: &mut Vec<Detection>,
        mut search: impl FnMut(&BBox) -> Option<Vec<Detection>>,
    ) {
        let unexplained = || regions.iter().filter(|r| r.explained_by.is_none()).take(MAX_REGIONS);
        let mut searched: Vec<SearchedRegion> = unexplained().map(|region| self.continued(region)).collect();
        // The one that has waited longest first.
        let mut due: Vec<&mut SearchedRegion> = searched.iter_mut().filter(|r| r.pause == 0).collect();
        due.sort_by_key(|r| (r.next_pause, r.since));
        for region in due.into_iter().take(MAX_CROPS) {
            if let Some(mut seen) = search(&region.bbox) {
                seen.retain(|d| self.labels.contains(&d.label) && d.bbox.is_part_of(&region.bbox));
                region.found = seen;
            }
            region.pause = region.next_pause;
            region.next_pause = (2 * region.next_pause).min(MAX_PAUSE);
        }
        for (region, searched) in unexplained().zip(&searched) {
            found.extend(searched.found.iter().cloned());
            found.push(Detection::new(Label::object(), region.score, region.bbox));
        }
        self.regions = searched;
    }

    /// The label of the most certain of these detections that tells what the region is. `None`: it is an unknown object.
    pub fn explanation(&self, region: &NewRegion, found: &[Detection]) -> Option<Label> {
        let explains =
            |d: &&Detection| self.labels.contains(&d.label) && d.label != Label::object() && d.score >= EXPLAINED_SCORE;
        found
            .iter()
            .filter(explains)
            .filter(|d| d.bbox.is_part_of(&region.bbox))
            .max_by(|a, b| a.score.total_cmp(&b.score))
            .map(|d| d.label.clone())
    }

    /// The region as it was searched before, one look later.
    fn continued(&mut self, region: &NewRegion) -> SearchedRegion {
        let before = self
            .regions
            .iter()
            .position(|r| r.since == region.since && r.bbox.iou(&region.bbox) >= SAME_REGION_IOU);
        match before.map(|i| self.regions.swap_remove(i)) {
            Some(before) => SearchedRegion {
                bbox: region.bbox,
                pause: before.pause.saturating_sub(1),
                ..before
            },
            None => SearchedRegion {
                bbox: region.bbox,
                since: region.since,
                found: Vec::new(),
                pause: 0,
                next_pause: 1,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bbox(x: f32) -> BBox {
        BBox {
            x1: x,
            y1: 0.5,
            x2: x + 0.1,
            y2: 0.6,
        }
    }

    fn region(x: f32, since: i64) -> NewRegion {
        NewRegion {
            bbox: bbox(x),
            since: Timestamp::from_second(since).unwrap(),
            score: 0.8,
            explained_by: None,
            is_first: false,
        }
    }

    fn looks() -> CloseLooks {
        CloseLooks::new(["garbage", "bench", "person"].map(Label::from))
    }

    fn labels(found: &[Detection]) -> Vec<&str> {
        found.iter().map(|d| d.label.as_str()).collect()
    }

    #[test]
    fn a_region_is_searched_at_once_and_then_more_and_more_rarely() {
        let mut looks = self::looks();
        let mut searched = Vec::new();
        for look in 0..100 {
            let mut found = Vec::new();
            looks.add(&[region(0.2, 1)], &mut found, |place| {
                searched.push(look);
                Some(vec![Detection::new("garbage", 0.5, *place)])
            });
            assert_eq!(labels(&found), ["garbage", "object"], "remembered at look {look}");
        }
        assert_eq!(searched, [0, 1, 3, 7, 15, 31, 63, 95]);
    }

    #[test]
    fn what_a_crop_shows_beside_the_region_is_not_added() {
        let mut looks = self::looks();
        let mut found = Vec::new();
        looks.add(&[region(0.2, 1)], &mut found, |_| {
            Some(vec![Detection::new("garbage", 0.5, bbox(0.3))])
        });
        assert_eq!(labels(&found), ["object"]);
        assert_eq!((found[0].score, found[0].bbox), (0.8, bbox(0.2)));
    }

    #[test]
    fn a_region_is_an_object_whatever_a_network_finds_there() {
        let mut looks = self::looks();
        let mut found = vec![Detection::new("bench", 0.9, bbox(0.21))];
        looks.add(&[region(0.2, 1)], &mut found, |_| None);
        assert_eq!(labels(&found), ["bench", "object"]);
        assert_eq!(looks.explanation(&region(0.2, 1), &found), Some("bench".into()));
        found[0].score = 0.29;
        assert_eq!(looks.explanation(&region(0.2, 1), &found), None);
    }

    #[test]
    fn a_look_searches_two_regions_and_the_next_look_the_others() {
        let mut looks = self::looks();
        let regions: Vec<NewRegion> = (0..5).map(|i| region(0.15 * i as f32, 1)).collect();
        let mut searched = Vec::new();
        for _ in 0..3 {
            let before = searched.len();
            looks.add(&regions, &mut Vec::new(), |place| {
                searched.push(place.x1);
                Some(Vec::new())
            });
            assert_eq!(searched.len() - before, MAX_CROPS);
        }
        searched.dedup();
        assert!(searched.len() >= 5, "{searched:?}");
    }

    #[test]
    fn what_a_person_or_vehicle_explains_is_not_searched() {
        let parked = NewRegion {
            explained_by: Some(Occupant::Vehicle),
            ..region(0.2, 1)
        };
        let mut found = Vec::new();
        looks().add(&[parked], &mut found, |_| panic!("searched"));
        assert_eq!(found, []);
    }

    #[test]
    fn what_no_rule_is_about_and_who_passes_is_not_added() {
        let mut looks = self::looks();
        let mut found = Vec::new();
        looks.add(&[region(0.2, 1)], &mut found, |place| {
            let see = |label: &str| Detection::new(label, 0.9, *place);
            Some(vec![see("cake"), see("person")])
        });
        assert_eq!(labels(&found), ["object"]);
    }

    #[test]
    fn a_region_that_left_is_forgotten() {
        let mut looks = self::looks();
        let garbage = |place: &BBox| Some(vec![Detection::new("garbage", 0.5, *place)]);
        looks.add(&[region(0.2, 1)], &mut Vec::new(), garbage);
        let mut found = Vec::new();
        looks.add(&[], &mut found, garbage);
        assert_eq!(found, []);
        looks.add(&[region(0.2, 2)], &mut found, |_| None);
        assert_eq!(labels(&found), ["object"], "another thing in the same place");
    }
}
