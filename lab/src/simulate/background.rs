//! What the change map of a view tells of the simulated street: what stood there when the view was learned, what is new since when,
//! and what it takes for new although it is light.
//!
//! It follows the rules of `crates/vision/src/change` ([seeing](../../../docs/seeing.md)) for whole objects instead of cells of the
//! picture; the rates of its errors are those measured there. New regions are searched by the program's own `CloseLooks`.

use fastrand::Rng;

use super::{
    changed_place::{
        Cause, ChangedPlace, Cover, Knowledge, LEARN_LOOKS, STILL_LOOKS, around, common_area, light_index,
    },
    clock::{Ms, TownClock},
    detector::{SPOT_MIN, SimulatedDetector, SimulatedLook, random_box},
    random::{Distributions, stream},
    street::StreetObject,
    town::Ground,
};
use gridwatch_engine::{BBox, Detection, Label, Light, Newness, Plan};
use gridwatch_vision::change::{CloseLooks, NewRegion, Occupant, occupants};

/// Looks in another light before it is learned: three where the picture lost or got its colour (docs/seeing.md).
const OTHER_LIGHT_LOOKS: u32 = 3;
/// Looks after which a thing put down was reported as a region (docs/seeing.md).
const REPORTED_LOOKS: u32 = 6;
/// Largest reported region, as a fraction of the view (docs/seeing.md).
const MAX_REGION: f64 = 0.12;
/// Interval between saves of the learned view (docs/seeing.md); what is new since then is found anew after a restart.
const SAVE_EVERY: Ms = 6 * 3_600_000;
/// Fraction of the things put down that are reported, by their height in pixels of full HD (docs/seeing.md: 28 of 36 at 20 to 30, 35
/// of 36 at 40 to 60, 36 of 36 at 90 to 120), and of flyers and banners (47 of 54).
const FOUND: [(f64, f64); 3] = [(35.0, 28.0 / 36.0), (75.0, 35.0 / 36.0), (f64::INFINITY, 1.0)];
const FOUND_ON_WALLS: f64 = 47.0 / 54.0;
const FULL_HD_HEIGHT: f64 = 1080.0;
/// Fraction of the detections of new things whose box is new enough (`Newness::MIN_SHARE`: 33 of 36 composed bags), the share of such a
/// box that is new, and of the others.
const SHARED: f64 = 33.0 / 36.0;
const NEW_SHARE: (f64, f64) = (0.6, 1.0);
const LITTLE_SHARE: (f64, f64) = (0.0, 0.25);
/// Region scores of things and of light. Regions are reported from 0.5; how scores are distributed above is assumed.
const THING_SCORE: (f64, f64) = (0.7, 0.98);
const LIGHT_SCORE: (f64, f64) = (0.5, 0.8);
/// Fraction of a place that detected people must cover for it to wait.
const COVERED: f64 = 0.5;
/// Fraction of a box about which nothing can be told, from which its newness is unknown (`ChangeMap::new_share`).
const MOSTLY: f64 = 0.5;

/// The default of `--false-regions`: 5 false regions in 7,860 looks of composed nuisances (docs/seeing.md, all rows), per 1,000 looks.
pub const FALSE_REGIONS: f64 = 0.64;

/// The parameters of all change maps.
#[derive(Debug, Clone)]
pub(super) struct ChangeProfile {
    absorb_after: Ms,
    /// False new regions per look: anywhere in the view, and again at each passing false spot of the detector.
    false_per_look: f64,
    /// The rules' labels.
    labels: Vec<Label>,
    /// A rule asks for newness or unknown objects.
    is_wanted: bool,
}

impl ChangeProfile {
    /// `false_per_look` is in 0..=1, `absorb_after` in milliseconds.
    pub(super) fn new(absorb_after: Ms, false_per_look: f64, plan: &Plan) -> Self {
        let labels: Vec<Label> = plan.rules.iter().flat_map(|r| r.labels.iter().cloned()).collect();
        Self {
            absorb_after,
            false_per_look,
            is_wanted: labels.contains(&Label::object()) || plan.rules.iter().any(|r| r.appeared.is_some()),
            labels,
        }
    }
}

/// Something that only the change map sees, for the truth.
#[derive(Debug, Clone)]
pub(super) struct FalseRegion {
    pub(super) kind: &'static str,
    pub(super) bbox: BBox,
    pub(super) from: Ms,
    pub(super) to: Ms,
}

/// What one light of the view has learned.
#[derive(Debug, Clone, Copy, Default)]
struct LearnedLight {
    /// Looks in this light before it was learned.
    strange: u32,
    /// Looks it was learned from, at most [`LEARN_LOOKS`].
    looks: u32,
}

impl LearnedLight {
    fn is_learned(&self) -> bool {
        self.looks >= LEARN_LOOKS
    }
}

/// The change map of one view.
#[derive(Debug)]
pub(super) struct SimulatedChangeMap {
    seed: u64,
    camera: usize,
    rng: Rng,
    lights: [LearnedLight; 2],
    places: Vec<ChangedPlace>,
    /// The boxes of open cases.
    held: Vec<BBox>,
    close_looks: CloseLooks,
    ended: Vec<FalseRegion>,
}

impl SimulatedChangeMap {
    pub(super) fn new(seed: u64, camera: usize, profile: &ChangeProfile) -> Self {
        Self {
            seed,
            camera,
            rng: stream(seed, "change map", &[camera as u64]),
            lights: Default::default(),
            places: Vec::new(),
            held: Vec::new(),
            close_looks: CloseLooks::new(profile.labels.iter().cloned()),
            ended: Vec::new(),
        }
    }

    /// Sets the boxes of the view's open cases: what is new there stays new.
    pub(super) fn hold(&mut self, boxes: Vec<BBox>) {
        self.held = boxes;
    }

    /// What is in `bbox` belongs to the background: a clerk rejected the case.
    pub(super) fn absorb(&mut self, bbox: &BBox) {
        let held = &self.held;
        let is_free = |p: &ChangedPlace| !held.iter().any(|h| p.is_at(h));
        let rejected = self.places.iter_mut().filter(|p| p.is_at(bbox) && is_free(p));
        rejected.for_each(ChangedPlace::absorb);
    }

    /// Restarts with the state that was saved last.
    pub(super) fn restart(&mut self, now: Ms, profile: &ChangeProfile) {
        let saved_at = now - now % SAVE_EVERY;
        for place in self.places.iter_mut().filter(|p| p.since.is_some_and(|s| s > saved_at)) {
            place.forget();
        }
        for light in self.lights.iter_mut().filter(|l| !l.is_learned()) {
            *light = LearnedLight::default();
        }
        self.close_looks = CloseLooks::new(profile.labels.iter().cloned());
    }

    /// Compares a clear look with the background: adds what is found in new regions to `found`, and tells how new each detection is.
    /// Returns false if the look did not search for unknown objects. `is_aimed` is false for a view that was moved.
    pub(super) fn look(
        &mut self,
        look: &SimulatedLook<'_>,
        (objects, detector): (&mut [StreetObject], &SimulatedDetector),
        (profile, clock): (&ChangeProfile, &TownClock),
        is_aimed: bool,
        found: &mut Vec<Detection>,
    ) -> bool {
        self.follow_objects(look, objects, found);
        // A moved view is new all over, which is too much to judge.
        let is_judged = is_aimed && self.judge(look.light);
        for object in objects.iter_mut() {
            let place = self.places.iter().find(|p| p.cause == Cause::Object(object.number));
            if let Some(appeared) = place.and_then(|p| p.appeared) {
                object.sightings[look.nth].appeared = Some(appeared);
            }
        }
        if !is_judged {
            return !profile.is_wanted;
        }
        self.add_false_regions(look.now, profile, detector);
        let Self { places, held, .. } = self;
        for place in places.iter_mut() {
            place.count(look.light, look.now);
            let is_old = place.since.is_some_and(|s| look.now - s >= profile.absorb_after);
            if is_old && place.looks >= STILL_LOOKS && !held.iter().any(|h| place.is_at(h)) {
                place.absorb();
            }
        }
        let mut searched = true;
        if profile.is_wanted {
            let regions = self.regions(look, clock);
            let rng = &mut self.rng;
            self.close_looks.add(&regions, found, |place| {
                Some(detector.look_closely(look, objects, place, rng))
            });
            searched = self.knows_held(look.light);
        }
        for detection in found.iter_mut() {
            detection.newness = self.newness(&detection.bbox, look.light, clock);
        }
        searched
    }

    /// Learns a light from its first looks; true if the look can be compared with the background of its light.
    fn judge(&mut self, light: Light) -> bool {
        let is_first = self.lights.iter().all(|l| !l.is_learned());
        let learned = &mut self.lights[light_index(light)];
        if learned.is_learned() {
            return true;
        }
        if !is_first && learned.strange < OTHER_LIGHT_LOOKS {
            learned.strange += 1;
            return false;
        }
        learned.looks += 1;
        if learned.is_learned() {
            self.places.iter_mut().for_each(|p| p.learned(light));
        }
        false
    }

    /// Notes where the objects are, what covers them, and which have left.
    fn follow_objects(&mut self, look: &SimulatedLook<'_>, objects: &[StreetObject], found: &[Detection]) {
        let people: Vec<BBox> = occupants(found)
            .into_iter()
            .filter(|(_, occupant)| *occupant != Occupant::Vehicle)
            .map(|(bbox, _)| bbox)
            .collect();
        for object in objects.iter().filter(|o| o.is_there(look.now) && o.is_still()) {
            let Some(shown) = shown(look, object, &people) else {
                continue;
            };
            let cause = Cause::Object(object.number);
            let known = self.places.iter().position(|p| p.cause == cause);
            let known = known.unwrap_or_else(|| {
                self.places.push(self.new_object(object, &shown.whole));
                self.places.len() - 1
            });
            let place = &mut self.places[known];
            place.cover = shown.cover;
            // Behind a cover, the map remembers where it was.
            if !shown.boxes.is_empty() {
                place.boxes = shown.boxes;
            }
        }
        let lights = self.lights;
        let is_background =
            |(light, known): (&LearnedLight, &Knowledge)| !light.is_learned() || *known == Knowledge::Background;
        let is_gone = |p: &ChangedPlace| match p.cause {
            Cause::Object(number) => objects.iter().all(|o| o.number != number || !o.is_there(look.now)),
            Cause::Left => lights.iter().zip(&p.known).all(is_background),
            Cause::Light(_) => p.to <= look.now,
        };
        let gone: Vec<ChangedPlace> = self.places.extract_if(.., |p| is_gone(p)).collect();
        for place in gone {
            self.leave(place, look.now);
        }
    }

    /// A place for an object that the map meets for the first time.
    fn new_object(&self, object: &StreetObject, whole: &BBox) -> ChangedPlace {
        let mut rng = stream(self.seed, "newness", &[self.camera as u64, u64::from(object.number)]);
        let high = whole.height() * FULL_HD_HEIGHT;
        let found = match object.kind.ground {
            Ground::Wall | Ground::Sign => FOUND_ON_WALLS,
            _ => FOUND
                .iter()
                .find(|(below, _)| high < *below)
                .map_or(1.0, |(_, found)| *found),
        };
        let (least, most) = if rng.happens(SHARED) { NEW_SHARE } else { LITTLE_SHARE };
        let share = rng.between(least, most);
        let score = rng
            .happens(found)
            .then(|| rng.between(THING_SCORE.0, THING_SCORE.1) as f32);
        let mut place = ChangedPlace::new(Cause::Object(object.number), (object.from, object.to), share, score);
        place.explained_by = object.kind.parts.iter().find_map(|p| vehicle(p.label));
        place.appeared = self.lights.iter().any(LearnedLight::is_learned).then_some(true);
        place
    }

    /// An object, or light, has gone. Where an object of the background stood, the ground is new.
    fn leave(&mut self, place: ChangedPlace, now: Ms) {
        if !matches!(place.cause, Cause::Object(_)) {
            self.ended.extend(false_region(&place, now));
            return;
        }
        let is_background = |i: usize| self.lights[i].is_learned() && place.known[i] == Knowledge::Background;
        let known = [0, 1].map(|i| {
            if is_background(i) {
                Knowledge::New
            } else {
                Knowledge::Background
            }
        });
        if known.contains(&Knowledge::New) {
            // How often the map takes bare ground for a thing was not measured; assumed always, which is the worst.
            let score = self.rng.between(LIGHT_SCORE.0, THING_SCORE.1) as f32;
            let share = self.rng.between(NEW_SHARE.0, NEW_SHARE.1);
            let left = ChangedPlace::new(Cause::Left, (now, Ms::MAX), share, Some(score));
            self.places.push(ChangedPlace {
                boxes: place.boxes,
                known,
                appeared: Some(true),
                ..left
            });
        }
    }

    /// Draws the light that this look takes for something new.
    fn add_false_regions(&mut self, now: Ms, profile: &ChangeProfile, detector: &SimulatedDetector) {
        let passing = detector.spots(now).filter(|s| !s.is_recurring);
        let passing = passing.map(|s| (Some(s.name), s.bbox, s.to));
        for (name, bbox, to) in passing.chain([(None, random_box(&mut self.rng), Ms::MAX)]) {
            let is_known = name.is_some() && self.places.iter().any(|p| p.cause == Cause::Light(name));
            if is_known || !self.rng.happens(profile.false_per_look) {
                continue;
            }
            let lasts = self.rng.log_normal(SPOT_MIN.0, SPOT_MIN.1) * 60_000.0;
            let to = to.min(now + lasts as Ms);
            let share = self.rng.between(NEW_SHARE.0, NEW_SHARE.1);
            let score = self.rng.between(LIGHT_SCORE.0, LIGHT_SCORE.1) as f32;
            self.places.push(ChangedPlace {
                boxes: vec![bbox],
                appeared: Some(true),
                ..ChangedPlace::new(Cause::Light(name), (now, to), share, Some(score))
            });
        }
    }

    /// The regions that this look reports.
    fn regions(&mut self, look: &SimulatedLook<'_>, clock: &TownClock) -> Vec<NewRegion> {
        let reported = self
            .places
            .iter_mut()
            .filter(|p| p.is_new(look.light) && p.looks >= REPORTED_LOOKS);
        reported
            .filter_map(|place| {
                let (bbox, score, since) = (place.outline()?, place.score?, place.since?);
                let is_first = !std::mem::replace(&mut place.was_reported, true);
                (bbox.area() <= MAX_REGION).then(|| NewRegion {
                    bbox,
                    score,
                    since: clock.at(since),
                    explained_by: place.explained_by,
                    is_first,
                })
            })
            .collect()
    }

    /// True if the map can tell for every open case whether something new is in its place.
    fn knows_held(&self, light: Light) -> bool {
        let is_unknown = |held: &BBox| {
            let mut unknown = self.places.iter().filter(|p| p.is_unknown(light));
            unknown.any(|p| p.coverage(held) >= MOSTLY)
        };
        !self.held.iter().any(is_unknown)
    }

    /// How new a box is; `None` if most of it is not learned.
    fn newness(&self, bbox: &BBox, light: Light, clock: &TownClock) -> Option<Newness> {
        let mut newest = Newness {
            share: 0.0,
            since: None,
        };
        for place in &self.places {
            if place.is_unknown(light) && place.coverage(bbox) >= MOSTLY {
                return None;
            }
            let share = if place.is_new(light) {
                (place.share * place.coverage(bbox)) as f32
            } else {
                0.0
            };
            if share > newest.share {
                let since = place.since.map(|s| clock.at(s));
                newest = Newness { share, since };
            }
        }
        Some(newest)
    }

    /// Ends the simulation; returns what only the map saw.
    pub(super) fn finish(mut self, now: Ms) -> Vec<FalseRegion> {
        self.ended
            .extend(self.places.iter().filter_map(|p| false_region(p, now)));
        self.ended
    }
}

/// The truth about a place in which there is no object.
fn false_region(place: &ChangedPlace, now: Ms) -> Option<FalseRegion> {
    let kind = match place.cause {
        Cause::Object(_) => return None,
        Cause::Left => "ground that something left",
        Cause::Light(_) => "light taken for something new",
    };
    Some(FalseRegion {
        kind,
        bbox: place.boxes.iter().copied().reduce(around)?,
        from: place.from,
        to: place.to.min(now),
    })
}

/// Where an object is in a look.
struct ShownObject {
    whole: BBox,
    boxes: Vec<BBox>,
    cover: Option<Cover>,
}

/// The parts of an object that stay; `None` if it has none in the picture. People stand still, too, but networks find them.
fn shown(look: &SimulatedLook<'_>, object: &StreetObject, people: &[BBox]) -> Option<ShownObject> {
    let stays = |label: &str| matches!(Occupant::of_label(label), None | Some(Occupant::Vehicle));
    let parts = object.kind.parts.iter().enumerate();
    let parts = parts.filter(|(i, part)| object.has(*i) && stays(part.label));
    let parts: Vec<_> = parts.filter_map(|(i, _)| look.part(object, i)).collect();
    let whole = parts.iter().map(|p| p.whole).reduce(around)?;
    let boxes: Vec<BBox> = parts.iter().filter_map(|p| p.seen).collect();
    let covered: f64 = people.iter().map(|p| common_area(p, &whole)).sum();
    let cover = if covered >= COVERED * whole.area() || look.occluders.visible(whole, false).is_none() {
        Some(Cover::People)
    } else {
        boxes.is_empty().then_some(Cover::Other)
    };
    Some(ShownObject { whole, boxes, cover })
}

fn vehicle(label: &str) -> Option<Occupant> {
    Occupant::of_label(label).filter(|o| *o == Occupant::Vehicle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_NIGHT: [Light; 2] = [Light::Day, Light::Night];

    fn profile() -> ChangeProfile {
        ChangeProfile {
            absorb_after: 86_400_000,
            false_per_look: 0.0,
            labels: vec!["garbage".into(), Label::object()],
            is_wanted: true,
        }
    }

    fn map() -> SimulatedChangeMap {
        SimulatedChangeMap::new(7, 0, &profile())
    }

    /// The looks of `judge` that were compared, of `n` in this light.
    fn judged(map: &mut SimulatedChangeMap, light: Light, n: usize) -> usize {
        (0..n).filter(|_| map.judge(light)).count()
    }

    fn thing(number: u32, x: f32) -> ChangedPlace {
        ChangedPlace {
            boxes: vec![BBox {
                x1: x,
                y1: 0.5,
                x2: x + 0.1,
                y2: 0.6,
            }],
            appeared: Some(true),
            ..ChangedPlace::new(Cause::Object(number), (0, Ms::MAX), 0.8, Some(0.9))
        }
    }

    #[test]
    fn each_light_is_learned_on_first_sight_and_known_from_then_on() {
        let mut map = map();
        assert_eq!(judged(&mut map, Light::Night, 40), 10, "the first from its first look");
        assert_eq!(judged(&mut map, Light::Day, 40), 7, "another after three looks more");
        assert_eq!(judged(&mut map, Light::Night, 5), 5);
        map.restart(0, &profile());
        assert_eq!(
            judged(&mut map, Light::Day, 5),
            5,
            "what was learned is kept over a restart"
        );
    }

    #[test]
    fn what_stands_there_when_a_light_is_learned_is_its_background_and_leaves_new_ground() {
        let mut map = map();
        map.places.push(thing(1, 0.2));
        judged(&mut map, Light::Day, 30);
        map.places.push(thing(2, 0.6));
        let known = |map: &SimulatedChangeMap| map.places.iter().map(|p| p.known[0]).collect::<Vec<_>>();
        assert_eq!(known(&map), [Knowledge::Background, Knowledge::New]);
        for place in std::mem::take(&mut map.places) {
            map.leave(place, 1000);
        }
        let causes: Vec<Cause> = map.places.iter().map(|p| p.cause).collect();
        assert_eq!(causes, [Cause::Left], "only where the background's thing stood");
        assert_eq!(known(&map), [Knowledge::New]);
        assert_eq!(
            map.places[0].known[1],
            Knowledge::Background,
            "infrared is not learned yet"
        );
    }

    #[test]
    fn a_rejected_case_is_absorbed_unless_an_open_one_holds_it() {
        let mut map = map();
        map.places = vec![thing(1, 0.2), thing(2, 0.6)];
        let boxes: Vec<BBox> = map.places.iter().map(|p| p.boxes[0]).collect();
        map.hold(vec![boxes[1]]);
        boxes.iter().for_each(|b| map.absorb(b));
        let is_unknown: Vec<bool> = map.places.iter().map(|p| p.is_unknown(Light::Day)).collect();
        assert_eq!(is_unknown, [true, false]);
        map.hold(boxes);
        assert!(!map.knows_held(Light::Day), "a held place is learned anew");
    }

    #[test]
    fn the_newness_of_a_box_is_that_of_what_it_shows() {
        let clock = TownClock::midnight();
        let mut map = map();
        let mut new = thing(1, 0.2);
        (0..5).for_each(|n| new.count(Light::Day, 1000 + n * 10_000));
        let mut learning = thing(2, 0.6);
        learning.absorb();
        map.places = vec![new, learning];
        let newness = |x: f32| map.newness(&thing(0, x).boxes[0], Light::Day, &clock);
        let new = newness(0.2).unwrap();
        assert!(new.is_new() && (new.share - 0.8).abs() < 1e-3, "{new:?}");
        assert_eq!(new.since, Some(clock.at(1000)));
        assert_eq!(
            newness(0.4).unwrap(),
            Newness {
                share: 0.0,
                since: None
            }
        );
        assert_eq!(newness(0.6), None);
    }

    #[test]
    fn what_was_new_since_the_last_save_counts_from_anew_after_a_restart() {
        let mut map = map();
        for since in [SAVE_EVERY - 1, SAVE_EVERY + 1] {
            let mut place = thing(1, 0.2);
            (0..5).for_each(|_| place.count(Light::Day, since));
            map.places.push(place);
        }
        map.restart(SAVE_EVERY + 60_000, &profile());
        assert_eq!(DAY_NIGHT.map(|l| map.places[0].is_new(l)), [true, true]);
        assert_eq!(DAY_NIGHT.map(|l| map.places[1].is_new(l)), [false, false]);
    }
}
