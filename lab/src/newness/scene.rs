//! A street from one picture, with light, weather, people and things put down, look by look.

use std::f32::consts::TAU;

use image::{Rgba, RgbaImage};

use super::canvas::{
    Canvas, Cutout, HEIGHT, PixelBox, Plane, SensorNoise, WIDTH, blurred, enlarged, normal, patches, poisson, uniform,
};

/// What disturbs a scene besides what is put down. Several may come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Nuisance {
    /// Strong sensor noise.
    Noise,
    /// A swaying mount: ± 4 pixels of full HD.
    Shake,
    Leaves,
    /// Screens that change their picture.
    Screens,
    /// People who pass.
    People,
    /// People who stand for one to three looks.
    Standing,
    /// Slow changes of exposure.
    Clouds,
    /// Sudden changes of exposure and white balance.
    Steps,
    /// Shadows with hard edges that move with the sun, faster than it does.
    HardShadow,
    SoftShadow,
    /// Shadows that are bluer than usual.
    Blue,
    /// The ground gets wet and dries.
    Wet,
    /// Dusk; lamps go on.
    Lamps,
    /// The camera switches to infrared and back.
    Infrared,
    Rain,
    Headlights,
    /// A bicycle is parked for a while.
    Bicycle,
}

/// Looks before anything happens.
pub(super) const LEAD: u32 = 60;

/// What was put down.
#[derive(Clone)]
pub(super) struct Thing {
    pub(super) cutout: Cutout,
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) height: f32,
    pub(super) on_ground: bool,
    /// Looks at which it comes and goes.
    pub(super) from: u32,
    pub(super) until: u32,
    pub(super) name: String,
}

struct Figure {
    x: f32,
    y: f32,
    looks: u32,
    seed: u64,
}

struct Shadow {
    x: f32,
    y: f32,
    radius: f32,
    depth: f32,
    speed: (f32, f32),
    corners: usize,
    phase: f32,
}

/// A scene; looks must be asked for in order.
pub(super) struct Scene<'a> {
    background: Canvas,
    nuisances: Vec<Nuisance>,
    noise: &'a SensorNoise,
    random: fastrand::Rng,
    pub(super) things: Vec<Thing>,
    figures: Vec<Figure>,
    /// Cut-outs of people who pass; drawn ones if empty.
    pub(super) walkers: Vec<Cutout>,
    /// The boxes of people in the newest look.
    pub(super) people: Vec<PixelBox>,
    shadows: Vec<Shadow>,
    trees: Vec<PixelBox>,
    leaves: Plane,
    screens: Vec<(PixelBox, Cutout, u32)>,
    wetness: Plane,
    reflection: Option<Canvas>,
    exposure: f32,
    balance: [f32; 3],
    phases: [f32; 2],
    lamp: (f32, f32),
    /// The parked bicycle: foot and size.
    bicycle: Option<(f32, f32, f32)>,
    /// Its box, after it was parked for the first time.
    pub(super) bicycle_box: Option<PixelBox>,
}

const W: f32 = WIDTH as f32;
const H: f32 = HEIGHT as f32;
/// The pavement begins here, as a share of the height.
const PAVEMENT: f32 = 0.62;
/// Height of a person whose feet are at the lower edge, and at the wall.
const NEAR: f32 = 0.62 * H;
const FAR: f32 = 0.36 * H;

/// Height in pixels of a person whose feet are at row `foot`.
pub(super) fn person_height(foot: f32) -> f32 {
    let depth = ((foot / H - PAVEMENT) / (1.0 - PAVEMENT)).clamp(0.0, 1.0);
    FAR + (NEAR - FAR) * depth
}

impl<'a> Scene<'a> {
    pub(super) fn new(background: &Canvas, nuisances: &[Nuisance], noise: &'a SensorNoise, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let r = &mut random;
        let shadow = |r: &mut fastrand::Rng| Shadow {
            x: uniform(r, 0.0, W),
            y: uniform(r, 0.25 * H, H),
            radius: uniform(r, 60.0, 320.0),
            depth: uniform(r, 0.35, 0.65),
            speed: (uniform(r, -1.2, 1.2), uniform(r, -0.3, 0.3)),
            corners: r.usize(5..9),
            phase: uniform(r, 0.0, TAU),
        };
        let rectangle = |r: &mut fastrand::Rng, w: (f32, f32), h: (f32, f32), lowest: f32| {
            let (x, y) = (uniform(r, 40.0, W - 200.0), uniform(r, 0.0, H * lowest));
            [x, y, x + uniform(r, w.0, w.1), y + uniform(r, h.0, h.1)]
        };
        let has = |n: Nuisance| nuisances.contains(&n);
        Self {
            shadows: (0..4).map(|_| shadow(r)).collect(),
            trees: (0..2)
                .map(|_| rectangle(r, (120.0, 220.0), (100.0, 200.0), 0.4))
                .collect(),
            screens: (0..2)
                .map(|_| (rectangle(r, (50.0, 110.0), (35.0, 80.0), 0.5), flyer(r, 40, 30), 0))
                .collect(),
            leaves: if has(Nuisance::Leaves) {
                patches(r, 3.0)
            } else {
                Plane::new()
            },
            wetness: if has(Nuisance::Wet) || has(Nuisance::Leaves) {
                patches(r, 36.0)
            } else {
                Plane::new()
            },
            reflection: has(Nuisance::Wet).then(|| reflection(background)),
            phases: [uniform(r, 0.0, TAU), uniform(r, 0.0, TAU)],
            lamp: (uniform(r, 0.2 * W, 0.8 * W), 0.7 * H),
            background: background.clone(),
            nuisances: nuisances.to_vec(),
            noise,
            random,
            things: Vec::new(),
            figures: Vec::new(),
            walkers: Vec::new(),
            people: Vec::new(),
            exposure: 1.0,
            balance: [1.0; 3],
            bicycle: None,
            bicycle_box: None,
        }
    }

    fn has(&self, nuisance: Nuisance) -> bool {
        self.nuisances.contains(&nuisance)
    }

    /// The picture of look `t`.
    pub(super) fn look(&mut self, t: u32) -> image::RgbImage {
        let mut canvas = self.background.clone();
        self.draw_things(&mut canvas, t);
        self.draw_people(&mut canvas);
        self.draw_weather(&mut canvas, t);
        self.light(&mut canvas, t);
        let mut sigma = if self.has(Nuisance::Noise) { 7.0 } else { 2.5 };
        if self.has(Nuisance::Infrared) && t >= LEAD && (t - LEAD) / 75 % 2 == 1 {
            infrared(&mut canvas);
            sigma = 6.0;
        }
        let sway = if self.has(Nuisance::Shake) { 2.0 } else { 0.15 };
        let r = &mut self.random;
        let canvas = canvas.shifted(uniform(r, -sway, sway), uniform(r, -sway, sway));
        canvas.finish(self.noise, sigma, r.u8(55..80), r)
    }

    fn draw_things(&mut self, canvas: &mut Canvas, t: u32) {
        if self.has(Nuisance::Leaves) {
            self.draw_leaves(canvas);
        }
        if self.has(Nuisance::Screens) {
            let r = &mut self.random;
            for (place, picture, left) in &mut self.screens {
                if *left == 0 {
                    *left = [1, 1, 2, 3, 4, 6, 9, 13][r.usize(..8)];
                    *picture = flyer(r, (place[2] - place[0]) as u32, (place[3] - place[1]) as u32);
                }
                *left -= 1;
                let gain = uniform(r, 0.8, 1.15);
                canvas.insert(&picture.brightened(gain), place[0], place[1], place[3] - place[1]);
            }
        }
        for thing in self.things.iter().filter(|o| (o.from..o.until).contains(&t)) {
            if thing.on_ground {
                canvas.ground_shadow(thing.pixel_box());
            }
            canvas.insert(&thing.cutout, thing.x, thing.y, thing.height);
        }
        if self.has(Nuisance::Bicycle) && t >= LEAD {
            let r = &mut self.random;
            match (t - LEAD) % 150 {
                20 => {
                    self.bicycle = Some((
                        uniform(r, 60.0, W - 160.0),
                        uniform(r, 0.6 * H, 0.9 * H),
                        uniform(r, 50.0, 110.0),
                    ));
                }
                80 => self.bicycle = None,
                _ => {}
            }
            if let Some(place) = self.bicycle {
                self.bicycle_box = Some(bicycle(canvas, place));
            }
        }
    }

    fn draw_leaves(&mut self, canvas: &mut Canvas) {
        for tree in self.trees.clone() {
            let (dx, dy) = (
                uniform(&mut self.random, -4.0, 4.0),
                uniform(&mut self.random, -4.0, 4.0),
            );
            let (leaves, gaps) = (&self.leaves, &self.wetness);
            // Each part of the tree sways by itself.
            let phase = uniform(&mut self.random, 0.0, TAU);
            canvas.over(tree[0], tree[1], tree[2], tree[3], |x, y, p| {
                let sway = 5.0 * ((x / 17.0 + phase).sin() + (y / 13.0 - phase).cos());
                let at = |x: f32, y: f32| (y.clamp(0.0, H - 1.0) as usize) * WIDTH + x.clamp(0.0, W - 1.0) as usize;
                if gaps[at(x, y)] > -0.6 {
                    let v = 70.0 + 38.0 * leaves[at(x + dx + sway, y + dy + sway)];
                    *p = [v * 0.8, v, v * 0.55];
                }
            });
        }
    }

    fn draw_people(&mut self, canvas: &mut Canvas) {
        let r = &mut self.random;
        let place = |r: &mut fastrand::Rng, looks: u32| Figure {
            x: uniform(r, 0.0, W - 60.0),
            y: uniform(r, 0.25 * H, 0.75 * H),
            looks,
            seed: r.u64(..),
        };
        if self.nuisances.contains(&Nuisance::People) {
            let count = poisson(r, 1.5);
            self.figures.extend((0..count).map(|_| place(r, 1)));
        }
        if self.nuisances.contains(&Nuisance::Standing) && r.f32() < 0.25 {
            let looks = r.u32(1..4);
            self.figures.push(place(r, looks));
        }
        self.people.clear();
        for figure in &mut self.figures {
            let (x, y) = (figure.x + 1.2 * normal(r), figure.y + 0.6 * normal(r));
            let height = 70.0 + 90.0 * figure.y / H + 0.5 * normal(r);
            let bbox = if self.walkers.is_empty() {
                canvas.insert(&person(figure.seed), x, y, height)
            } else {
                // Cut-outs of people are of their true height on the pavement.
                let foot = H * (PAVEMENT + 0.08) + (y - 0.25 * H) * (0.28 / 0.5);
                let tall = person_height(foot);
                let cutout = &self.walkers[figure.seed as usize % self.walkers.len()];
                let (w, h) = cutout.0.dimensions();
                let across = tall * w as f32 / h as f32;
                canvas.ground_shadow([x, foot - tall, x + across, foot]);
                canvas.insert(cutout, x, foot - tall, tall)
            };
            self.people.push(bbox);
            figure.looks -= 1;
            // Now and then the next look shows another posture.
            if r.f32() < 0.3 {
                figure.seed = r.u64(..);
            }
        }
        self.figures.retain(|f| f.looks > 0);
    }

    fn draw_weather(&mut self, canvas: &mut Canvas, t: u32) {
        if let Some(reflection) = &self.reflection {
            wet(canvas, reflection, &self.wetness, t);
        }
        if self.has(Nuisance::HardShadow) || self.has(Nuisance::SoftShadow) {
            self.draw_shadows(canvas, t);
        }
        if self.has(Nuisance::Rain) {
            canvas.change(|_, p| p.iter_mut().for_each(|v| *v = *v * 0.93 + 10.0));
            for _ in 0..250 {
                let r = &mut self.random;
                let (x, y, long) = (uniform(r, 0.0, W), uniform(r, 0.0, H), uniform(r, 8.0, 30.0));
                let light = uniform(r, 20.0, 60.0);
                canvas.over(x, y, x + 1.0, y + long, |_, _, p| {
                    p.iter_mut().for_each(|v| *v += light)
                });
            }
        }
    }

    fn draw_shadows(&mut self, canvas: &mut Canvas, t: u32) {
        const STEP: usize = 2;
        let (w, h) = (WIDTH / STEP, HEIGHT / STEP);
        let mut shade = vec![0.0_f32; w * h];
        for s in &self.shadows {
            let cx = (s.x + s.speed.0 * t as f32).rem_euclid(W + 400.0) - 200.0;
            let cy = s.y + s.speed.1 * t as f32 * 0.3;
            let corner = |i: usize| {
                let angle = TAU * i as f32 / s.corners as f32 + s.phase;
                let radius = s.radius * (0.6 + 0.4 * (3.0 * angle + s.phase).cos());
                (
                    (cx + radius * angle.cos() * 1.6) / STEP as f32,
                    (cy + radius * angle.sin() * 0.5) / STEP as f32,
                )
            };
            let corners: Vec<_> = (0..s.corners).map(corner).collect();
            fill(&corners, w, h, |i| shade[i] = shade[i].max(s.depth));
        }
        let is_soft = self.has(Nuisance::SoftShadow);
        let shade = enlarged(&blurred(&shade, w, if is_soft { 6.0 } else { 1.2 }), w, STEP);
        let colour = if self.has(Nuisance::Blue) {
            [1.0, 0.9, 0.6]
        } else {
            [1.0, 0.95, 0.85]
        };
        canvas.change(|i, p| {
            p.iter_mut().zip(colour).for_each(|(v, c)| *v *= 1.0 - shade[i] * c);
        });
    }

    fn light(&mut self, canvas: &mut Canvas, t: u32) {
        if self.has(Nuisance::Clouds) {
            let t = t as f32;
            self.exposure = 1.0 + 0.35 * (t / 17.0 + self.phases[0]).sin() + 0.15 * (t / 5.0 + self.phases[1]).sin();
        }
        if self.has(Nuisance::Steps) && self.random.f32() < 0.06 {
            self.exposure = uniform(&mut self.random, 0.5, 1.6);
            self.balance = std::array::from_fn(|_| uniform(&mut self.random, 0.8, 1.2));
        }
        if self.has(Nuisance::Steps) || self.has(Nuisance::Clouds) {
            let gamma = uniform(&mut self.random, 0.95, 1.05);
            let gains = self.balance.map(|b| b * self.exposure);
            // A table of the curve: `powf` of each sample would take most of the time.
            let curve: Vec<f32> = (0..=1024).map(|i| 255.0 * (i as f32 / 1024.0).powf(gamma)).collect();
            canvas.change(|_, p| {
                p.iter_mut().zip(gains).for_each(|(v, g)| {
                    *v = curve[((*v * g).clamp(0.0, 255.0) * (1024.0 / 255.0)) as usize];
                });
            });
        }
        if self.has(Nuisance::Lamps) {
            let dusk = ((t.saturating_sub(LEAD)) as f32 / 120.0).min(1.0);
            let ambient = 1.0 - 0.78 * dusk;
            let lamp = if t > LEAD + 100 { [0.8, 0.64, 0.44] } else { [0.0; 3] };
            let centre = self.lamp;
            canvas.change(|i, p| {
                let (x, y) = ((i % WIDTH) as f32, (i / WIDTH) as f32);
                let near = (-(((x - centre.0) / (0.2 * W)).powi(2) + ((y - centre.1) / (0.25 * H)).powi(2))).exp();
                p.iter_mut().zip(lamp).for_each(|(v, l)| *v *= ambient + l * near);
            });
            let gain = (95.0 / canvas.mean()).clamp(1.0, 2.2);
            canvas.change(|_, p| p.iter_mut().for_each(|v| *v *= gain));
        }
        if self.has(Nuisance::Headlights) && self.random.f32() < 0.3 {
            let (cx, cy) = (uniform(&mut self.random, 0.0, W), uniform(&mut self.random, 0.5 * H, H));
            canvas.over(cx - 360.0, cy - 120.0, cx + 360.0, cy + 120.0, |x, y, p| {
                let near = (-(((x - cx) / 120.0).powi(2) + ((y - cy) / 40.0).powi(2))).exp();
                p.iter_mut().for_each(|v| *v += 130.0 * near);
            });
        }
    }
}

impl Thing {
    pub(super) fn pixel_box(&self) -> PixelBox {
        let (w, h) = self.cutout.0.dimensions();
        let width = self.height * w as f32 / h as f32;
        [self.x, self.y, self.x + width, self.y + self.height]
    }
}

impl Cutout {
    fn brightened(&self, gain: f32) -> Self {
        let mut out = self.clone();
        for pixel in out.0.pixels_mut() {
            for v in &mut pixel.0[..3] {
                *v = (f32::from(*v) * gain) as u8;
            }
        }
        out
    }
}

/// The upper half mirrored and smeared downwards, as a wet pavement shows it.
fn reflection(background: &Canvas) -> Canvas {
    let planes: Vec<Plane> = (0..3)
        .map(|i| {
            let mirrored: Plane = (0..HEIGHT)
                .rev()
                .flat_map(|y| background.0[y * WIDTH..][..WIDTH].iter().map(move |p| p[i]))
                .collect();
            blurred(&mirrored, WIDTH, 10.0)
        })
        .collect();
    Canvas(
        (0..WIDTH * HEIGHT)
            .map(|i| [planes[0][i], planes[1][i], planes[2][i]])
            .collect(),
    )
}

/// The ground gets wet within 15 looks and dries within 100.
fn wet(canvas: &mut Canvas, reflection: &Canvas, wetness: &[f32], t: u32) {
    let since = t as f32 - LEAD as f32;
    let amount = ((since - 20.0) / 15.0).clamp(0.0, 1.0) * (1.0 - (since - 150.0) / 100.0).clamp(0.0, 1.0);
    if amount == 0.0 {
        return;
    }
    let level = 1.6 - 2.6 * amount;
    canvas.change(|i, p| {
        let ground = (((i / WIDTH) as f32 - 0.45 * H) / 40.0).clamp(0.0, 1.0) * amount;
        if ground > 0.0 {
            let share = ground / (1.0 + (-(wetness[i] - level) * 6.0).exp());
            let glint = 25.0 * share * (wetness[i] - 1.0).clamp(0.0, 1.0);
            for (v, mirrored) in p.iter_mut().zip(reflection.0[i]) {
                *v = *v * (1.0 - 0.42 * share) + share * 0.22 * mirrored + glint;
            }
        }
    });
}

/// Infrared light from the camera: bright in the middle, without colour, and foliage shines.
fn infrared(canvas: &mut Canvas) {
    canvas.change(|i, p| {
        let (x, y) = ((i % WIDTH) as f32 / W, (i / WIDTH) as f32 / H);
        let light = 0.35 + 0.9 * (-(((x - 0.5) / 0.35).powi(2) + ((y - 0.65) / 0.4).powi(2))).exp();
        let grey = 0.6 * p[0] + 0.2 * p[1] + 0.2 * p[2] + 0.7 * (p[1] - p[0]).clamp(0.0, 60.0);
        *p = [grey * light; 3];
    });
}

/// Calls `paint` for each pixel inside a polygon.
fn fill(corners: &[(f32, f32)], width: usize, height: usize, mut paint: impl FnMut(usize)) {
    for y in 0..height {
        let at = y as f32 + 0.5;
        let mut crossings: Vec<f32> = (0..corners.len())
            .filter_map(|i| {
                let ((x1, y1), (x2, y2)) = (corners[i], corners[(i + 1) % corners.len()]);
                ((y1 <= at) != (y2 <= at)).then(|| x1 + (at - y1) / (y2 - y1) * (x2 - x1))
            })
            .collect();
        crossings.sort_by(f32::total_cmp);
        for pair in crossings.chunks_exact(2) {
            let from = (pair[0].max(0.0) as usize).min(width);
            let to = (pair[1].max(0.0) as usize).min(width);
            (from..to).for_each(|x| paint(y * width + x));
        }
    }
}

/// A sheet with lines that look like writing.
pub(super) fn flyer(random: &mut fastrand::Rng, width: u32, height: u32) -> Cutout {
    const PAPERS: [[u8; 3]; 5] = [
        [245, 245, 245],
        [220, 60, 60],
        [250, 230, 80],
        [200, 240, 200],
        [90, 200, 230],
    ];
    let paper = PAPERS[random.usize(..PAPERS.len())];
    let mut sheet = RgbaImage::from_pixel(width * 4, height * 4, Rgba([paper[0], paper[1], paper[2], 255]));
    let is_light = paper.iter().map(|v| u32::from(*v)).sum::<u32>() > 420;
    let ink = if is_light {
        Rgba([20, 20, 20, 255])
    } else {
        Rgba([250, 250, 250, 255])
    };
    let lines = if width > 3 * height { 1 } else { random.u32(3..7) };
    let pitch = height * 4 / (lines + 1);
    for line in 1..=lines {
        let (mut x, y) = (width / 3, line * pitch - pitch * 2 / 5);
        let tall = (pitch * 3 / 5).max(2);
        while x + tall / 2 < width * 4 - width / 3 {
            // A stroke or two for each letter.
            for _ in 0..random.u32(2..4) {
                let (sx, sy) = (random.u32(..tall.max(2) / 2), random.u32(..tall));
                let is_upright = random.bool();
                for k in 0..tall {
                    let (px, py) = if is_upright {
                        (x + sx, y + k)
                    } else {
                        (x + k * 2 / 3, y + sy)
                    };
                    for thick in 0..(tall / 7).max(1) {
                        let (px, py) = if is_upright { (px + thick, py) } else { (px, py + thick) };
                        if px < width * 4 && py < height * 4 {
                            sheet.put_pixel(px, py, ink);
                        }
                    }
                }
            }
            x += tall * 4 / 5 + 1;
        }
    }
    Cutout(sheet)
}

/// A drawn person: head, jacket, trousers, each in a colour of its own with folds.
fn person(seed: u64) -> Cutout {
    const SIZE: (u32, u32) = (48, 128);
    let mut r = fastrand::Rng::with_seed(seed);
    let mut cloth = || -> [f32; 3] { std::array::from_fn(|_| uniform(&mut r, 15.0, 200.0)) };
    let (jacket, trousers) = (cloth(), cloth().map(|v| v * 0.6));
    let (stride, lean) = (uniform(&mut r, 2.0, 11.0), uniform(&mut r, -3.0, 3.0));
    let phase = uniform(&mut r, 0.0, TAU);
    let light = uniform(&mut r, 0.6, 1.1);
    Cutout(RgbaImage::from_fn(SIZE.0, SIZE.1, |x, y| {
        let (x, y) = (x as f32 - 24.0, y as f32);
        let folds = 1.0 + 0.15 * (x * 0.7 + y * 0.21 + phase).sin() + 0.1 * (y * 0.5 - phase).cos();
        let leg = |side: f32| (x - side * (2.0 + stride * (y - 70.0) / 58.0)).abs() < 5.5 - (y - 70.0) / 25.0;
        let colour = if (x - lean).hypot((y - 10.0) * 0.85) < 8.0 {
            if y < 7.0 {
                [35.0, 30.0, 28.0]
            } else {
                [190.0, 150.0, 125.0]
            }
        } else if (18.0..74.0).contains(&y) && x.abs() < 9.0 + 5.0 * ((y - 18.0) / 20.0).min(1.0) {
            jacket
        } else if y >= 70.0 && (leg(-1.0) || leg(1.0)) {
            trousers
        } else {
            return Rgba([0; 4]);
        };
        let [red, green, blue] = colour.map(|v| (v * folds * light).clamp(0.0, 255.0) as u8);
        Rgba([red, green, blue, 255])
    }))
}

fn bicycle(canvas: &mut Canvas, (x, y, s): (f32, f32, f32)) -> PixelBox {
    const COLOUR: [f32; 3] = [40.0, 35.0, 35.0];
    let (radius, thick) = (s * 0.28, (s * 0.035).max(1.0));
    let (rear, front) = ((x, y), (x + 0.95 * s, y));
    let (pedals, saddle, bar) = (
        (x + 0.4 * s, y),
        (x + 0.3 * s, y - 0.5 * s),
        (x + 0.75 * s, y - 0.55 * s),
    );
    canvas.ring(rear, radius, thick, COLOUR);
    canvas.ring(front, radius, thick, COLOUR);
    for (a, b) in [
        (rear, pedals),
        (rear, saddle),
        (pedals, saddle),
        (pedals, bar),
        (saddle, bar),
        (bar, front),
    ] {
        canvas.line(a, b, thick, COLOUR);
    }
    canvas.line(
        (saddle.0 - 0.12 * s, saddle.1),
        (saddle.0 + 0.12 * s, saddle.1),
        0.08 * s,
        COLOUR,
    );
    [rear.0 - radius, bar.1, front.0 + radius, y + radius]
}
