//! What happens on one composed street, and which of it is a problem.

use image::RgbImage;
use jiff::SignedDuration;

use super::super::{
    Assets,
    canvas::{Cutout, HEIGHT, PixelBox, WIDTH, uniform},
    scene::{LEAD, Nuisance, Scene, Thing, person_height},
};
use gridwatch_engine::BBox;

const W: f32 = WIDTH as f32;
const H: f32 = HEIGHT as f32;
/// A problem that is there long enough to be filed.
pub(super) struct Problem {
    pub(super) category: &'static str,
    pub(super) bbox: BBox,
    pub(super) name: String,
}

/// The kinds of streets, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plot {
    Bags,
    Stall,
    Banner,
    StallWithoutParasol,
    /// Nothing unlawful: bags are put out and soon collected, somebody waits, a bicycle is parked.
    Quiet,
    GoodsOnTheGround,
    SmallAd,
    Board,
    /// Nothing unlawful: a public notice or a picture is hung on the wall, and somebody waits with luggage.
    Notice,
}

const PLOTS: [Plot; 9] = [
    Plot::Bags,
    Plot::Stall,
    Plot::Banner,
    Plot::StallWithoutParasol,
    Plot::Quiet,
    Plot::GoodsOnTheGround,
    Plot::SmallAd,
    Plot::Board,
    Plot::Notice,
];

/// Light and weather, in turn.
const WEATHERS: [&[Nuisance]; 5] = [
    &[Nuisance::People],
    &[Nuisance::People, Nuisance::Clouds],
    &[Nuisance::People, Nuisance::SoftShadow],
    &[Nuisance::People, Nuisance::Lamps],
    &[Nuisance::People, Nuisance::Wet],
];

/// Their names in reports.
const LIGHTS: [&str; 5] = ["even light", "clouds", "soft shadows", "dusk with lamps", "wet ground"];

/// One street: looks in order, and its problems.
pub(super) struct Script<'a> {
    pub(super) name: String,
    /// Light and weather.
    pub(super) light: &'static str,
    pub(super) looks: u32,
    /// Time between two looks.
    pub(super) period: SignedDuration,
    pub(super) problems: Vec<Problem>,
    scene: Scene<'a>,
}

impl<'a> Script<'a> {
    /// The street of this number; the same number and seed give the same street.
    pub(super) fn new(assets: &'a Assets, index: u32, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ (u64::from(index) << 20));
        let plot = PLOTS[index as usize % PLOTS.len()];
        let light = index as usize % WEATHERS.len();
        let weather = WEATHERS[light];
        let (background, canvas) = &assets.backgrounds[index as usize % assets.backgrounds.len()];
        // Long dwells need fewer looks an hour; all rules allow a look every 80 s. A doubted advert is read again after its dwell of two hours.
        let (seconds, looks) = match plot {
            Plot::Bags => (30, 170),
            Plot::Banner | Plot::SmallAd | Plot::Board | Plot::Notice => (80, 280),
            Plot::Stall | Plot::StallWithoutParasol | Plot::GoodsOnTheGround => (10, 190),
            Plot::Quiet => (30, 200),
        };
        let mut nuisances = weather.to_vec();
        if plot == Plot::Quiet {
            nuisances.push(Nuisance::Bicycle);
        }
        let mut scene = Scene::new(canvas, &nuisances, &assets.noise, seed ^ u64::from(index));
        scene.walkers.clone_from(&assets.people.walking);
        let mut script = Self {
            name: format!("{index} {plot:?} {background} {weather:?}"),
            light: LIGHTS[light],
            looks,
            period: SignedDuration::from_secs(seconds),
            problems: Vec::new(),
            scene,
        };
        script.play(assets, plot, &mut random);
        script
    }

    /// The picture of look `t`.
    pub(super) fn look(&mut self, t: u32) -> RgbImage {
        self.scene.look(t)
    }

    fn play(&mut self, assets: &Assets, plot: Plot, random: &mut fastrand::Rng) {
        let from = LEAD + random.u32(5..15);
        match plot {
            Plot::Bags => self.put_bags(assets, from, u32::MAX, random, Some("0102")),
            Plot::Stall => {
                let stall = assets.people.stall.clone();
                self.put_stall(assets, stall, 1.25, from, random);
            }
            Plot::StallWithoutParasol => {
                let (w, h) = assets.people.stall.0.dimensions();
                let table = image::imageops::crop_imm(&assets.people.stall.0, 0, h / 2, w, h - h / 2).to_image();
                self.put_stall(assets, Cutout(table), 0.62, from, random);
            }
            Plot::GoodsOnTheGround => {
                let cloth = Cutout(goods_on_a_cloth(random));
                self.put_stall(assets, cloth, 0.30, from, random);
            }
            Plot::Banner => {
                let banner = choice(&assets.prints.banners, random);
                self.hang(
                    banner,
                    uniform(random, 26.0, 44.0),
                    from,
                    random,
                    Some(("0202", "banner")),
                );
            }
            Plot::SmallAd => {
                let sheet = choice(&assets.prints.small_ads, random);
                let height = uniform(random, 60.0, 110.0);
                self.hang(sheet, height, from, random, Some(("0201", "small ad")));
            }
            Plot::Board => {
                let (x, foot) = (uniform(random, 0.1 * W, 0.8 * W), uniform(random, 0.74 * H, 0.95 * H));
                let height = 0.55 * person_height(foot);
                let board = choice(&assets.prints.boards, random);
                let bbox = self.put(board, (x, foot - height), height, true, (from, u32::MAX), "board");
                self.problem("0203", bbox, &format!("board of {height:.0} pixels"));
            }
            Plot::Notice => {
                let sheet = choice(&assets.prints.lawful, random);
                let height = uniform(random, 60.0, 110.0);
                self.hang(sheet, height, from, random, None);
                let foot = (uniform(random, 0.1 * W, 0.8 * W), uniform(random, 0.75 * H, 0.95 * H));
                let tall = person_height(foot.1);
                let times = (from + 10, from + 22);
                self.put_person(&assets.people.standing[random.usize(..2)], foot, times);
                let size = 0.28 * tall;
                let beside = (foot.0 - 0.7 * size, foot.1 - size);
                self.put(Cutout(suitcase(random)), beside, size, true, times, "suitcase");
            }
            Plot::Quiet => {
                // Bags that are collected after ten minutes, somebody who waits for twenty, and a bicycle.
                self.put_bags(assets, from, from + 20, random, None);
                let foot = (uniform(random, 0.1 * W, 0.8 * W), uniform(random, 0.75 * H, 0.95 * H));
                self.put_person(&assets.people.standing[random.usize(..2)], foot, (from + 10, from + 50));
            }
        }
    }

    /// Something on the wall, `height` pixels high; a problem of the category, with its name, if given.
    fn hang(
        &mut self,
        sheet: Cutout,
        height: f32,
        from: u32,
        random: &mut fastrand::Rng,
        problem: Option<(&'static str, &str)>,
    ) {
        let (w, h) = sheet.0.dimensions();
        let width = height * w as f32 / h as f32;
        let x = uniform(random, 30.0, (W - width - 30.0).max(31.0));
        let y = uniform(random, 0.12 * H, 0.40 * H);
        let bbox = self.put(sheet, (x, y), height, false, (from, u32::MAX), "print");
        if let Some((category, name)) = problem {
            self.problem(category, bbox, &format!("{name} of {height:.0} pixels"));
        }
    }

    /// Bags in a heap; a problem of `category`, if given.
    fn put_bags(
        &mut self,
        assets: &Assets,
        from: u32,
        until: u32,
        random: &mut fastrand::Rng,
        category: Option<&'static str>,
    ) {
        let (x, y) = (uniform(random, 0.12 * W, 0.8 * W), uniform(random, 0.78 * H, 0.95 * H));
        let size = uniform(random, 26.0, 60.0);
        let count = random.u32(1..5);
        let mut all: Option<PixelBox> = None;
        for i in 0..count {
            let bag = assets.things[random.usize(..assets.things.len())].clone();
            let at = (x + size * 0.8 * i as f32, y - size + uniform(random, -4.0, 4.0));
            let [x1, y1, x2, y2] = self.put(bag, at, size * uniform(random, 0.8, 1.1), true, (from, until), "bag");
            all = Some(all.map_or([x1, y1, x2, y2], |[a, b, c, d]| {
                [a.min(x1), b.min(y1), c.max(x2), d.max(y2)]
            }));
        }
        if let (Some(bbox), Some(category)) = (all, category) {
            self.problem(category, bbox, &format!("{count} bags of {size:.0} pixels"));
        }
    }

    /// Goods with a person beside them, who stays. `scale` is the height of the goods in heights of the person.
    fn put_stall(&mut self, assets: &Assets, goods: Cutout, scale: f32, from: u32, random: &mut fastrand::Rng) {
        let foot = uniform(random, 0.80 * H, 0.96 * H);
        let tall = person_height(foot);
        let (w, h) = goods.0.dimensions();
        let height = scale * tall;
        let width = height * w as f32 / h as f32;
        let x = uniform(random, 0.08 * W, (W - width - 0.3 * tall).max(0.1 * W));
        let times = (from, u32::MAX);
        let bbox = self.put(goods, (x, foot - height), height, true, times, "goods");
        let beside = (x + width + 0.02 * W, foot);
        let person = assets.people.standing[random.usize(..2)].clone();
        self.put_person(&person, beside, times);
        self.problem("0501", bbox, "goods with a vendor");
    }

    fn put_person(&mut self, person: &Cutout, (x, foot): (f32, f32), times: (u32, u32)) {
        let tall = person_height(foot);
        self.put(person.clone(), (x, foot - tall), tall, true, times, "person");
    }

    fn put(
        &mut self,
        cutout: Cutout,
        (x, y): (f32, f32),
        height: f32,
        on_ground: bool,
        (from, until): (u32, u32),
        name: &str,
    ) -> PixelBox {
        let thing = Thing {
            cutout,
            x,
            y,
            height,
            on_ground,
            from,
            until,
            name: name.into(),
        };
        let bbox = thing.pixel_box();
        self.scene.things.push(thing);
        bbox
    }

    fn problem(&mut self, category: &'static str, [x1, y1, x2, y2]: PixelBox, name: &str) {
        self.problems.push(Problem {
            category,
            bbox: BBox {
                x1: x1 / W,
                y1: y1 / H,
                x2: x2 / W,
                y2: y2 / H,
            },
            name: name.into(),
        });
    }
}

fn choice(cutouts: &[Cutout], random: &mut fastrand::Rng) -> Cutout {
    cutouts[random.usize(..cutouts.len())].clone()
}

/// A cloth on the ground with small things on it.
fn goods_on_a_cloth(random: &mut fastrand::Rng) -> image::RgbaImage {
    let (w, h) = (240_u32, 90_u32);
    let colour: [f32; 3] = std::array::from_fn(|_| uniform(random, 30.0, 220.0));
    let mut cloth = image::RgbaImage::from_fn(w, h, |x, y| {
        // Seen from the front, the far edge is shorter.
        let inset = 40.0 * (1.0 - y as f32 / h as f32);
        if (x as f32) < inset || x as f32 > w as f32 - inset {
            return image::Rgba([0; 4]);
        }
        let fold = 1.0 + 0.08 * (x as f32 * 0.13).sin() + 0.05 * (y as f32 * 0.31).cos();
        let [r, g, b] = colour.map(|v| (v * fold).clamp(0.0, 255.0) as u8);
        image::Rgba([r, g, b, 255])
    });
    for _ in 0..random.u32(14..26) {
        let (cx, cy) = (uniform(random, 45.0, 195.0), uniform(random, 14.0, 78.0));
        let (rx, ry) = (uniform(random, 6.0, 14.0), uniform(random, 5.0, 12.0));
        let tone: [f32; 3] = std::array::from_fn(|_| uniform(random, 20.0, 250.0));
        let is_round = random.bool();
        for y in (cy - ry).max(0.0) as u32..((cy + ry) as u32).min(h) {
            for x in (cx - rx).max(0.0) as u32..((cx + rx) as u32).min(w) {
                let (dx, dy) = ((x as f32 - cx) / rx, (y as f32 - cy) / ry);
                if !is_round || dx * dx + dy * dy < 1.0 {
                    let light = 1.05 - 0.3 * (dx + dy);
                    let [r, g, b] = tone.map(|v| (v * light).clamp(0.0, 255.0) as u8);
                    cloth.put_pixel(x, y, image::Rgba([r, g, b, 255]));
                }
            }
        }
    }
    cloth
}

/// A suitcase on wheels, seen from the side: ribs, a handle, wheels.
fn suitcase(random: &mut fastrand::Rng) -> image::RgbaImage {
    let colour: [f32; 3] = std::array::from_fn(|_| uniform(random, 20.0, 160.0));
    image::RgbaImage::from_fn(90, 170, |x, y| {
        let (x, y) = (x as f32, y as f32);
        let is_handle =
            y < 45.0 && ((x - 30.0).abs() < 3.0 || (x - 60.0).abs() < 3.0 || y < 7.0 && (27.0..63.0).contains(&x));
        let is_wheel = y >= 158.0 && ((x - 16.0).hypot(y - 162.0) < 8.0 || (x - 74.0).hypot(y - 162.0) < 8.0);
        let corner = ((6.0 - x).max(x - 83.0).max(0.0)).hypot((51.0 - y).max(y - 153.0).max(0.0));
        if is_handle || is_wheel {
            return image::Rgba([60, 60, 62, 255]);
        }
        if corner > 6.0 || !(45.0..160.0).contains(&y) {
            return image::Rgba([0; 4]);
        }
        let rib = 1.0 + 0.22 * (x * 0.55).sin();
        let light = 1.1 - 0.35 * x / 90.0;
        let [r, g, b] = colour.map(|v| (v * rib * light).clamp(0.0, 255.0) as u8);
        image::Rgba([r, g, b, 255])
    })
}
