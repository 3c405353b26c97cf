//! Runs the change map over scenes and counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use gridwatch_engine::BBox;
use gridwatch_frame::Frame;
use gridwatch_vision::change::{ChangeBuffers, ChangeLook, ChangeMap, ChangeSettings, ChangeState, Measured, Occupant};
use jiff::{SignedDuration, Timestamp};

use super::{
    Assets, Row,
    canvas::{Cutout, HEIGHT, PixelBox, WIDTH, uniform},
    scene::{LEAD, Nuisance, Scene, Thing, flyer},
};

/// Interval of the looks.
const PERIOD: SignedDuration = SignedDuration::from_secs(10);
/// Looks after which an unseen region counts as another one when it comes back.
const FORGET: u32 = 40;

/// A view of a scene with its change map.
struct View {
    map: ChangeMap,
    buffers: ChangeBuffers,
    at: Timestamp,
    /// Time spent in the map.
    spent: Duration,
    looks: u32,
}

impl View {
    fn new(width: u32) -> Self {
        Self {
            map: ChangeMap::new(ChangeSettings {
                width,
                ..ChangeSettings::default()
            }),
            buffers: ChangeBuffers::default(),
            at: Timestamp::from_second(1_760_000_000).unwrap_or(Timestamp::UNIX_EPOCH),
            spent: Duration::ZERO,
            looks: 0,
        }
    }

    fn look(
        &mut self,
        scene: &mut Scene<'_>,
        t: u32,
        people_are_found: bool,
        random: &mut fastrand::Rng,
    ) -> ChangeLook {
        let picture = scene.look(t);
        self.at += PERIOD;
        let people = scene.people.iter().filter(|_| people_are_found && random.f32() < 0.8);
        let people: Vec<_> = people.map(|p| (normalised(*p), Occupant::Person)).collect();
        let frame = Frame::from_rgb(&picture, self.at).expect("the canvas has a valid size");
        let start = Instant::now();
        let look = self
            .map
            .look(&frame, &people, &mut self.buffers)
            .expect("a valid frame");
        self.spent += start.elapsed();
        self.looks += 1;
        look
    }
}

fn normalised([x1, y1, x2, y2]: PixelBox) -> BBox {
    BBox {
        x1: x1 / WIDTH as f32,
        y1: y1 / HEIGHT as f32,
        x2: x2 / WIDTH as f32,
        y2: y2 / HEIGHT as f32,
    }
}

fn area(b: &BBox) -> f32 {
    (b.x2 - b.x1).max(0.0) * (b.y2 - b.y1).max(0.0)
}

fn both(a: &BBox, b: &BBox) -> f32 {
    let (x, y) = (a.x2.min(b.x2) - a.x1.max(b.x1), a.y2.min(b.y2) - a.y1.max(b.y1));
    x.max(0.0) * y.max(0.0)
}

fn iou(a: &BBox, b: &BBox) -> f32 {
    both(a, b) / (area(a) + area(b) - both(a, b)).max(f32::MIN_POSITIVE)
}

/// Share of `b` within `a`.
fn cover(a: &BBox, b: &BBox) -> f32 {
    both(a, b) / area(b).max(f32::MIN_POSITIVE)
}

/// A region found for a thing: enough overlap, or a box around it that is not far too large.
fn finds(region: &BBox, thing: &BBox) -> bool {
    let least = 400.0 / (WIDTH * HEIGHT) as f32;
    iou(region, thing) >= 0.2 || cover(region, thing) > 0.5 && area(region) < 5.0 * area(thing).max(least)
}

/// Counts regions: one that is seen again within [`FORGET`] looks counts once.
#[derive(Default)]
struct Events {
    live: Vec<(BBox, u32)>,
    count: u32,
}

impl Events {
    fn add(&mut self, t: u32, regions: impl Iterator<Item = BBox>) {
        for region in regions {
            let same = |b: &BBox| iou(b, &region) > 0.1 || cover(b, &region) > 0.5 || cover(&region, b) > 0.5;
            match self.live.iter_mut().find(|(b, _)| same(b)) {
                Some(known) => *known = (region, t),
                None => {
                    self.live.push((region, t));
                    self.count += 1;
                }
            }
        }
        self.live.retain(|(_, seen)| t - seen < FORGET);
    }
}

/// False regions in one row of nuisances.
#[derive(Debug, Clone)]
pub struct FalseRegions {
    /// Looks counted.
    pub looks: u32,
    /// Regions reported where nothing was put down and nothing explains them.
    pub regions: u32,
    /// Parkings of the bicycle, and those that were found.
    pub bicycles: (u32, u32),
    /// Looks in which the map told nothing.
    pub silent: u32,
    /// Mean time of a look in the map.
    pub time: Duration,
}

/// Counts the false regions of `row` over all backgrounds, `looks` each.
pub fn false_regions(assets: &Assets, row: &Row, looks: u32, width: u32, seed: u64) -> FalseRegions {
    let mut all = FalseRegions {
        looks: 0,
        regions: 0,
        bicycles: (0, 0),
        silent: 0,
        time: Duration::ZERO,
    };
    let mut spent = (Duration::ZERO, 0);
    for (i, (_, background)) in assets.backgrounds.iter().enumerate() {
        let seed = seed + 100 + i as u64;
        let mut scene = Scene::new(background, row.nuisances, &assets.noise, seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut view, mut events) = (View::new(width), Events::default());
        let mut found = BTreeSet::new();
        for t in 0..LEAD + looks {
            let look = view.look(&mut scene, t, row.people_are_found, &mut random);
            if t < LEAD {
                continue;
            }
            all.looks += 1;
            all.silent += u32::from(look.state != ChangeState::Judged);
            // The bicycle is no false region, nor is what is left of it in the map for a few looks.
            let bicycle = scene.bicycle_box.map(normalised);
            let phase = (t - LEAD) % 150;
            if let Some(b) = bicycle.filter(|_| (20..80).contains(&phase))
                && look.regions.iter().any(|r| finds(&r.bbox, &b))
            {
                found.insert((t - LEAD) / 150);
            }
            let regions = look.regions.iter().filter(|r| r.explained_by.is_none()).map(|r| r.bbox);
            let is_bicycle = |r: &BBox| (20..84).contains(&phase) && bicycle.is_some_and(|b| iou(&b, r) > 0.02);
            events.add(t, regions.filter(|r| !is_bicycle(r)));
        }
        if row.nuisances.contains(&Nuisance::Bicycle) {
            all.bicycles.0 += (looks + 150 - 45) / 150;
            all.bicycles.1 += found.len() as u32;
        }
        all.regions += events.count;
        spent = (spent.0 + view.spent, spent.1 + view.looks);
    }
    all.time = spent.0 / spent.1.max(1);
    all
}

/// What was found of things of one kind.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Things put down, and things found.
    pub things: (u32, u32),
    /// Sum over the found ones of the looks until they were reported, and of the last overlap.
    pub delay: u32,
    /// See `delay`.
    pub iou: f32,
    /// Things still reported twelve looks after they were taken away.
    pub ghosts: u32,
}

/// Heights of bags, in pixels of full HD.
const BAGS: [u32; 6] = [20, 30, 40, 60, 90, 120];
/// Flyers and banners on the upper half: name, width and height in pixels of the canvas.
const SHEETS: [(&str, f32, f32); 3] = [
    ("flyer 40", 14.0, 20.0),
    ("flyer 80", 28.0, 40.0),
    ("banner 180", 90.0, 22.0),
];
/// Looks at which things come and go, and the last look.
const PUT_DOWN: u32 = 45;
const TAKEN: u32 = 59;
const END: u32 = 72;

/// The things of one scene, at places that do not overlap.
fn things(assets: &Assets, random: &mut fastrand::Rng) -> Vec<Thing> {
    let (w, h) = (WIDTH as f32, HEIGHT as f32);
    let mut used: Vec<BBox> = Vec::new();
    let mut things: Vec<Thing> = Vec::new();
    let mut place = |random: &mut fastrand::Rng, width: f32, height: f32, rows: (f32, f32)| {
        (0..200).find_map(|_| {
            let (x, y) = (
                uniform(random, 15.0, w - width - 15.0),
                uniform(random, rows.0 * h, rows.1 * h - height),
            );
            let free = normalised([x - 15.0, y - 15.0, x + width + 15.0, y + height + 15.0]);
            let is_free = used.iter().all(|u| both(u, &free) == 0.0);
            is_free.then(|| used.push(free)).map(|()| (x, y))
        })
    };
    for size in BAGS {
        let mut cutout = assets.things[random.usize(..assets.things.len())].clone();
        let is_dark = random.bool();
        if is_dark {
            let gain = if random.bool() { 0.3 } else { 0.8 };
            grey(&mut cutout, gain);
        }
        let height = size as f32 / 2.0;
        let width = height * cutout.0.width() as f32 / cutout.0.height() as f32;
        if let Some((x, y)) = place(random, width, height, (0.45, 0.97)) {
            things.push(Thing {
                cutout,
                x,
                y,
                height,
                on_ground: true,
                from: PUT_DOWN,
                until: TAKEN,
                name: format!("bag {size:3}"),
            });
        }
    }
    for (name, width, height) in SHEETS {
        if let Some((x, y)) = place(random, width, height, (0.08, 0.42)) {
            things.push(Thing {
                cutout: flyer(random, width as u32, height as u32),
                x,
                y,
                height,
                on_ground: false,
                from: PUT_DOWN,
                until: TAKEN,
                name: name.into(),
            });
        }
    }
    things
}

fn grey(cutout: &mut Cutout, gain: f32) {
    for pixel in cutout.0.pixels_mut() {
        let mean = pixel.0[..3].iter().map(|v| f32::from(*v)).sum::<f32>() / 3.0;
        pixel.0[..3].fill((mean * gain) as u8);
    }
}

/// Puts things down in each background, `repeats` times, and tells by kind what was found; and the false regions beside.
pub fn found(
    assets: &Assets,
    row: &Row,
    repeats: u64,
    width: u32,
    seed: u64,
) -> (BTreeMap<String, Found>, FalseRegions) {
    let mut by_kind: BTreeMap<String, Found> = BTreeMap::new();
    let mut beside = FalseRegions {
        looks: 0,
        regions: 0,
        bicycles: (0, 0),
        silent: 0,
        time: Duration::ZERO,
    };
    for repeat in 0..repeats {
        for (i, (_, background)) in assets.backgrounds.iter().enumerate() {
            let seed = seed + repeat * 1000 + i as u64;
            let mut random = fastrand::Rng::with_seed(seed);
            let mut scene = Scene::new(background, row.nuisances, &assets.noise, seed);
            scene.things = things(assets, &mut random);
            let boxes: Vec<BBox> = scene.things.iter().map(|o| normalised(o.pixel_box())).collect();
            let (mut view, mut events) = (View::new(width), Events::default());
            let mut first: Vec<Option<u32>> = vec![None; boxes.len()];
            let mut last = vec![0.0_f32; boxes.len()];
            for t in 0..END {
                let look = view.look(&mut scene, t, row.people_are_found, &mut random);
                if t < PUT_DOWN {
                    continue;
                }
                for (i, thing) in boxes.iter().enumerate() {
                    let hits = look.regions.iter().filter(|r| finds(&r.bbox, thing));
                    if let Some(best) = hits.map(|r| iou(&r.bbox, thing)).reduce(f32::max).filter(|_| t < TAKEN) {
                        first[i].get_or_insert(t - PUT_DOWN + 1);
                        last[i] = best;
                    }
                    let is_ghost = t + 1 == END && look.regions.iter().any(|r| iou(&r.bbox, thing) > 0.1);
                    by_kind.entry(scene.things[i].name.clone()).or_default().ghosts += u32::from(is_ghost);
                }
                if t < TAKEN {
                    beside.looks += 1;
                    let free = look.regions.iter().map(|r| r.bbox);
                    events.add(t, free.filter(|r| boxes.iter().all(|b| both(b, r) == 0.0)));
                }
            }
            beside.regions += events.count;
            for (i, thing) in scene.things.iter().enumerate() {
                let found = by_kind.entry(thing.name.clone()).or_default();
                found.things.0 += 1;
                if let Some(delay) = first[i] {
                    found.things.1 += 1;
                    found.delay += delay;
                    found.iou += last[i];
                }
            }
        }
    }
    (by_kind, beside)
}

/// Runs scenes in which things are put down under `row`'s nuisances, one for each of `scenes` backgrounds from the `first` on,
/// and returns what was measured with whether it was a thing.
pub fn samples(
    assets: &Assets,
    row: &Row,
    (first, scenes): (usize, usize),
    looks: u32,
    width: u32,
    seed: u64,
) -> Vec<(Measured, bool)> {
    let mut out = Vec::new();
    for (i, (_, background)) in assets.backgrounds.iter().cycle().skip(first).take(scenes).enumerate() {
        let seed = seed + (first + i) as u64;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut scene = Scene::new(background, row.nuisances, &assets.noise, seed);
        let mut view = View::new(width);
        for t in 0..LEAD + looks {
            // Things come and go in turn, so that they meet every state of the light.
            if t >= LEAD && (t - LEAD) % 40 == 10 {
                scene.things = things(assets, &mut random);
                for (i, thing) in (0..).zip(&mut scene.things) {
                    let from = t + i % 3 * 3;
                    (thing.from, thing.until) = (from, from + 16);
                }
            }
            let look = view.look(&mut scene, t, row.people_are_found, &mut random);
            let present = scene.things.iter().filter(|o| (o.from..o.until + 3).contains(&t));
            let boxes: Vec<BBox> = present.map(|o| normalised(o.pixel_box())).collect();
            let bicycle = scene.bicycle_box.map(normalised);
            for measured in look.measured {
                let is_thing = boxes.iter().any(|b| finds(&measured.bbox, b));
                // What only touches a thing says nothing either way.
                let touches = boxes.iter().chain(&bicycle).any(|b| both(b, &measured.bbox) > 0.0);
                if is_thing || !touches {
                    out.push((measured, is_thing));
                }
            }
        }
    }
    out
}
