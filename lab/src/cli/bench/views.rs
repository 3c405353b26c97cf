//! `gridwatch-lab bench views`: how often a view that cannot be trusted is detected, and a sound view accepted.
//!
//! Each picture is a street. A camera looks at its centre, learns that view, and is then shown it altered: in other light, behind
//! other objects, aimed elsewhere. Every look has sensor noise, a clock in its corner, and JPEG losses. All randomness comes from
//! the seed and the picture's index.

mod tour;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use fastrand::Rng;
use image::{Rgb, RgbImage, codecs::jpeg::JpegEncoder, imageops};
use jiff::Timestamp;
use serde::Serialize;

use gridwatch::cli::{Failure, layer::Layer, print};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_engine::{Light, View};
use gridwatch_frame::Frame;
use gridwatch_vision::{Aim, AimLimits, Health, ViewLimits};

#[derive(Debug, Args)]
pub(super) struct ViewsArgs {
    /// A folder of street pictures (JPEG, PNG, WebP or BMP), searched recursively. Each should show a different street.
    #[arg(long, value_name = "DIR", required = true)]
    pictures: Vec<PathBuf>,
    /// Maximum number of pictures, spread evenly over all that are found.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(2..))]
    count: u16,
    /// Random seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Fraction of the picture's width that the camera sees; the rest is where it can be aimed instead.
const SEEN_FRACTION: f32 = 0.75;
/// Width of the camera's frames in pixels.
const WIDTH: u32 = 640;

/// The camera's aim relative to the learned view.
#[derive(Clone, Copy)]
struct AimOffset {
    /// Fractions of the view's width.
    right: f32,
    down: f32,
    degrees: f32,
    zoom: f32,
}

const STRAIGHT: AimOffset = AimOffset {
    right: 0.0,
    down: 0.0,
    degrees: 0.0,
    zoom: 1.0,
};

/// An alteration of a view.
#[derive(Clone, Copy)]
enum Alteration {
    /// A map from luma to luma.
    Light(fn(f32) -> f32),
    /// Other shadows, contrast and sun direction.
    Relit,
    /// Two lamps in the dark.
    Lamps,
    /// Streaks and less contrast.
    Rain,
    /// A vehicle fills this fraction of the view.
    Bus(f32),
    /// This many people in the view.
    Crowd(u32),
    /// The camera is aimed elsewhere.
    Aim(AimOffset),
    /// Out of focus, by this fraction of the width.
    Defocus(f32),
    /// Covered.
    Cover(fn(f32, f32) -> f32),
    /// Another street.
    Other,
}

/// One row of the table: the alterations, in order, and the expected view state.
struct ViewTrial {
    name: &'static str,
    changes: &'static [Alteration],
    wanted: View,
}

const fn trial(name: &'static str, wanted: View, changes: &'static [Alteration]) -> ViewTrial {
    ViewTrial { name, changes, wanted }
}

const fn right(share: f32) -> Alteration {
    Alteration::Aim(AimOffset {
        right: share,
        ..STRAIGHT
    })
}

const TRIALS: [ViewTrial; 31] = [
    trial("as it is", View::Clear, &[]),
    trial("shaken by 0.6 % of the width", View::Clear, &[right(0.006)]),
    trial("35 % of the light", View::Clear, &[Alteration::Light(|v| v * 0.35)]),
    trial("15 % of the light", View::Clear, &[Alteration::Light(|v| v * 0.15)]),
    trial(
        "haze, 20 % of the contrast",
        View::Clear,
        &[Alteration::Light(|v| v * 0.2 + 140.0)],
    ),
    trial(
        "inverted, as infrared does to leaves",
        View::Clear,
        &[Alteration::Light(|v| 255.0 - v)],
    ),
    trial("other shadows and sun", View::Clear, &[Alteration::Relit]),
    trial("two lamps in the dark", View::Clear, &[Alteration::Lamps]),
    trial("rain", View::Clear, &[Alteration::Rain]),
    trial("a crowd of 20", View::Clear, &[Alteration::Crowd(20)]),
    trial("a bus over a third", View::Clear, &[Alteration::Bus(0.33)]),
    trial(
        "a bus over a third, other sun",
        View::Clear,
        &[Alteration::Bus(0.33), Alteration::Relit],
    ),
    trial("a bus over half", View::Clear, &[Alteration::Bus(0.5)]),
    trial("a bus over two thirds", View::Clear, &[Alteration::Bus(0.66)]),
    trial("3 % of the light", View::Dark, &[Alteration::Light(|v| v * 0.03)]),
    trial("5 % of the light", View::Dark, &[Alteration::Light(|v| v * 0.05)]),
    trial(
        "defocus of 1.5 % of the width",
        View::Blurred,
        &[Alteration::Defocus(0.015)],
    ),
    trial(
        "defocus of 3 % of the width",
        View::Blurred,
        &[Alteration::Defocus(0.03)],
    ),
    trial("covered by one tone", View::Blocked, &[Alteration::Cover(|_, _| 90.0)]),
    trial(
        "covered by one that fades",
        View::Blocked,
        &[Alteration::Cover(|x, y| 40.0 + 35.0 * x + 10.0 * y)],
    ),
    trial("panned by 3 % of the width", View::Moved, &[right(0.03)]),
    trial(
        "tilted by 3 % of the width",
        View::Moved,
        &[Alteration::Aim(AimOffset { down: 0.03, ..STRAIGHT })],
    ),
    trial("panned by 8 % of the width", View::Moved, &[right(0.08)]),
    trial(
        "turned by 2°",
        View::Moved,
        &[Alteration::Aim(AimOffset {
            degrees: 2.0,
            ..STRAIGHT
        })],
    ),
    trial(
        "turned by 3°",
        View::Moved,
        &[Alteration::Aim(AimOffset {
            degrees: -3.0,
            ..STRAIGHT
        })],
    ),
    trial(
        "zoomed in by 5 %",
        View::Moved,
        &[Alteration::Aim(AimOffset { zoom: 1.05, ..STRAIGHT })],
    ),
    trial(
        "zoomed out by 5 %",
        View::Moved,
        &[Alteration::Aim(AimOffset { zoom: 0.95, ..STRAIGHT })],
    ),
    trial(
        "panned by 3 %, other sun",
        View::Moved,
        &[right(-0.03), Alteration::Relit],
    ),
    trial(
        "panned by 3 %, a bus over a third",
        View::Moved,
        &[right(-0.03), Alteration::Bus(0.33)],
    ),
    trial("another street", View::Moved, &[Alteration::Other]),
    trial(
        "another street by other light",
        View::Moved,
        &[Alteration::Other, Alteration::Relit],
    ),
];

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct ViewBenchReport {
    pictures: usize,
    seed: u64,
    /// Wall time of one look's assessment, including the comparison with the reference, in ms.
    ms_per_look: f64,
    trials: Vec<TrialRow>,
    /// The same pictures as the presets of touring cameras.
    tours: tour::TourBenchReport,
}

#[derive(Debug, Serialize)]
struct TrialRow {
    change: &'static str,
    wanted: View,
    looks: usize,
    /// Looks assessed as `clear`, and likewise below.
    clear: usize,
    dark: usize,
    blurred: usize,
    blocked: usize,
    moved: usize,
    /// Looks assessed as expected.
    right: usize,
}

pub(super) fn run(args: &ViewsArgs) -> Result<(), Failure> {
    if !Health::judges_texture() {
        let message = "this build has no OpenCV; build with the feature `opencv`";
        return Err(Failure::new(Class::Config, message));
    }
    let streets = streets(args)?;
    eprintln!(
        "{}, {} at each …",
        counted(streets.len(), "picture", "pictures"),
        counted(TRIALS.len(), "look", "looks")
    );
    let mut rows: Vec<TrialRow> = TRIALS.iter().map(TrialRow::of).collect();
    let (mut spent, mut looks) = (Duration::ZERO, 0);
    for i in 0..streets.len() {
        // Half the list away: neighbours often show the same street.
        let other = &streets[(i + streets.len() / 2) % streets.len()];
        let scene = Scene {
            street: &streets[i],
            other: &imageops::resize(
                other,
                streets[i].width(),
                streets[i].height(),
                imageops::FilterType::Triangle,
            ),
        };
        let mut rng = Rng::with_seed(args.seed.wrapping_mul(1_000_003).wrapping_add(i as u64));
        let mut camera = BenchCamera::new();
        for second in 0..LEARNING_LOOKS {
            camera.look(&sent(aimed(scene.street, STRAIGHT), &mut rng), second)?;
        }
        for (trial, row) in TRIALS.iter().zip(&mut rows) {
            let (view, took) = scene.judged(&camera, trial, &mut rng)?;
            row.count(view);
            spent += took;
            looks += 1;
        }
    }
    let report = ViewBenchReport {
        pictures: streets.len(),
        seed: args.seed,
        ms_per_look: spent.as_secs_f64() * 1e3 / f64::from(looks),
        trials: rows,
        tours: tour::run(&streets, args.seed)?,
    };
    if args.json {
        let text = serde_json::to_string(&report).map_err(|e| Failure::new(Class::Bug, e.to_string()))?;
        print(&format!("{text}\n"))
    } else {
        print(&table(&report))
    }
}

fn table(report: &ViewBenchReport) -> String {
    let mut text = format!(
        "{:<40}{:<9}{:>8}{:>8}{:>7}{:>9}{:>9}{:>7}\n",
        "", "wanted", "right", "clear", "dark", "blurred", "blocked", "moved"
    );
    for r in &report.trials {
        let share = 100.0 * r.right as f64 / r.looks.max(1) as f64;
        let wanted = format!("{:?}", r.wanted).to_lowercase();
        text += &format!(
            "{:<40}{wanted:<9}{share:>6.1} %{:>8}{:>7}{:>9}{:>9}{:>7}\n",
            r.change, r.clear, r.dark, r.blurred, r.blocked, r.moved
        );
    }
    text + &format!(
        "\n{}, seed {}; {:.2} ms a look.\n{}",
        counted(report.pictures, "picture", "pictures"),
        report.seed,
        report.ms_per_look,
        report.tours.summary()
    )
}

impl TrialRow {
    fn of(trial: &ViewTrial) -> Self {
        Self {
            change: trial.name,
            wanted: trial.wanted,
            looks: 0,
            clear: 0,
            dark: 0,
            blurred: 0,
            blocked: 0,
            moved: 0,
            right: 0,
        }
    }

    fn count(&mut self, view: View) {
        self.looks += 1;
        self.right += usize::from(view == self.wanted);
        match view {
            View::Clear => self.clear += 1,
            View::Dark => self.dark += 1,
            View::Blurred => self.blurred += 1,
            View::Blocked => self.blocked += 1,
            View::Moved => self.moved += 1,
            // A trial has no damaged data, and too few looks for a frozen view.
            View::Damaged | View::Frozen => {}
        }
    }
}

/// The pictures, scaled so that the camera's part is [`WIDTH`] pixels wide.
fn streets(args: &ViewsArgs) -> Result<Vec<RgbImage>, Failure> {
    let mut files = Vec::new();
    for folder in &args.pictures {
        search(folder, &mut files).map_err(|e| Failure::new(Class::Config, format!("{}: {e}", folder.display())))?;
    }
    files.sort();
    let step = files.len().div_ceil(usize::from(args.count)).max(1);
    let mut streets = Vec::new();
    for file in files.iter().step_by(step) {
        match gridwatch_frame::open_upright(file) {
            Ok(picture) => {
                let width = (WIDTH as f32 / SEEN_FRACTION).ceil() as u32;
                let height = (width * picture.height() / picture.width()).max(1);
                streets.push(imageops::resize(
                    &picture.into_rgb8(),
                    width,
                    height,
                    imageops::FilterType::Triangle,
                ));
            }
            Err(e) => eprintln!("{}: {e}; skipped", file.display()),
        }
    }
    if streets.len() < 2 {
        let message = "at least two pictures are needed, since one of the trials shows another street";
        return Err(Failure::new(Class::Config, message));
    }
    Ok(streets)
}

fn search(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_picture = |end: &std::ffi::OsStr| {
            let end = end.to_string_lossy().to_lowercase();
            ["jpg", "jpeg", "png", "webp", "bmp"].contains(&end.as_str())
        };
        if path.is_dir() {
            search(&path, files)?;
        } else if path.extension().is_some_and(is_picture) {
            files.push(path);
        }
    }
    Ok(())
}

struct Scene<'a> {
    street: &'a RgbImage,
    /// The same size as `street`.
    other: &'a RgbImage,
}

impl Scene<'_> {
    /// How a camera that has learned the view assesses the altered view, and how long that took.
    fn judged(&self, camera: &BenchCamera, trial: &ViewTrial, rng: &mut Rng) -> Result<(View, Duration), Failure> {
        let picture = self.shown(trial, rng);
        camera.clone().look(&sent(picture, rng), LEARNING_LOOKS)
    }

    /// The altered view.
    fn shown(&self, trial: &ViewTrial, rng: &mut Rng) -> RgbImage {
        let changes = trial.changes.iter();
        changes.fold(aimed(self.street, STRAIGHT), |picture, change| {
            self.changed(picture, *change, rng)
        })
    }

    fn changed(&self, picture: RgbImage, change: Alteration, rng: &mut Rng) -> RgbImage {
        let (width, height) = picture.dimensions();
        let (w, h) = (width as f32, height as f32);
        match change {
            Alteration::Light(light) => lit(picture, |_, _, v| light(v)),
            Alteration::Cover(tone) => lit(picture, |x, y, _| tone(x, y)),
            Alteration::Aim(at) => aimed(self.street, at),
            Alteration::Other => aimed(self.other, STRAIGHT),
            Alteration::Defocus(share) => imageops::fast_blur(&picture, w * share),
            Alteration::Relit => {
                let [a, b] = [(); 2].map(|()| rng.f32() * std::f32::consts::TAU);
                let [c, d] = [(); 2].map(|()| 1.0 + 3.0 * rng.f32());
                let gamma = 0.6 + rng.f32();
                // Shadow bands: direction, distance from the centre, half width.
                let bands = [(); 3].map(|()| {
                    let direction = rng.f32() * std::f32::consts::PI;
                    (direction.sin_cos(), rng.f32() * 0.8 - 0.4, 0.05 + 0.2 * rng.f32())
                });
                lit(picture, |x, y, v| {
                    let sun = 1.0 + 0.5 * (a + x * c).sin() * (b + y * d).cos();
                    let shade = bands
                        .iter()
                        .filter(|((sin, cos), from, half)| ((x - 0.5) * cos + (y - 0.5) * sin - from).abs() < *half);
                    255.0 * (v / 255.0).powf(gamma) * sun * 0.45_f32.powi(shade.count() as i32)
                })
            }
            Alteration::Lamps => {
                let lamps = [(); 2].map(|()| (rng.f32(), rng.f32()));
                lit(picture, |x, y, v| {
                    let lamp = |(a, b): &(f32, f32)| 0.5 * (-((x - a).powi(2) + (y - b).powi(2)) / 0.05).exp();
                    v * (0.05 + lamps.iter().map(lamp).sum::<f32>())
                })
            }
            Alteration::Rain => {
                let mut wet = lit(picture, |_, _, v| v * 0.6 + 50.0);
                let mut streaks = Layer::of(&wet);
                for _ in 0..300 {
                    let (x, y) = (f64::from(rng.f32() * w), f64::from(rng.f32() * h));
                    let length = 8.0 + 16.0 * rng.f64();
                    streaks.line((x, y), (x + length / 4.0, y + length), 0.5);
                }
                streaks.over(&mut wet, Rgb([230; 3]), 0.35);
                wet
            }
            Alteration::Bus(share) => {
                // Four fifths of the view's height, at its lower edge.
                let size = ((w * share / 0.8).min(w) as u32, (h * 0.8) as u32);
                let at = (rng.u32(0..=width - size.0), height - size.1);
                pasted(picture, &aimed(self.other, STRAIGHT), at, at, size)
            }
            Alteration::Crowd(count) => {
                let clothes = aimed(self.other, STRAIGHT);
                (0..count).fold(picture, |picture, _| {
                    let wide = rng.u32(width / 26..width / 11);
                    let size = (wide, (3 * wide).min(height));
                    let place = |rng: &mut Rng| (rng.u32(0..=width - size.0), rng.u32(0..=height - size.1));
                    let (from, to) = (place(rng), place(rng));
                    pasted(picture, &clothes, from, to, size)
                })
            }
        }
    }
}

/// Looks needed to learn a view.
const LEARNING_LOOKS: i64 = 3;

#[derive(Clone)]
struct BenchCamera {
    health: Health,
    aim: Aim,
}

impl BenchCamera {
    fn new() -> Self {
        let settings = ViewLimits::default();
        Self {
            aim: Aim::new(AimLimits::from(&settings)),
            health: Health::new(settings),
        }
    }

    /// The look's assessment, and how long it took.
    fn look(&mut self, picture: &RgbImage, second: i64) -> Result<(View, Duration), Failure> {
        let at = Timestamp::from_second(second).unwrap_or_default();
        let frame = Frame::from_rgb(picture, at).map_err(|e| Failure::new(e.class(), e.to_string()))?;
        let start = Instant::now();
        let (view, small) = self
            .health
            .look(&frame)
            .map_err(|e| Failure::new(e.class(), e.to_string()))?;
        let view = match small {
            Some(small) if view == View::Clear => self.aim.look(&small, at, Light::Day).view,
            _ => view,
        };
        Ok((view, start.elapsed()))
    }
}

/// The camera's view of the street at an aim.
fn aimed(street: &RgbImage, at: AimOffset) -> RgbImage {
    let (w, h) = (street.width() as f32, street.height() as f32);
    let (sin, cos) = at.degrees.to_radians().sin_cos();
    let height = ((h * SEEN_FRACTION) as u32).max(2);
    let step = 1.0 / at.zoom;
    RgbImage::from_fn(WIDTH, height, |x, y| {
        let x = (x as f32 + 0.5 - WIDTH as f32 / 2.0) * step;
        let y = (y as f32 + 0.5 - height as f32 / 2.0) * step;
        let from = (
            (w / 2.0 + at.right * WIDTH as f32 + cos * x - sin * y - 0.5).clamp(0.0, w - 1.0),
            (h / 2.0 + at.down * WIDTH as f32 + sin * x + cos * y - 0.5).clamp(0.0, h - 1.0),
        );
        imageops::interpolate_bilinear(street, from.0, from.1).unwrap_or(Rgb([0; 3]))
    })
}

/// Maps each value by its position (0..=1) and itself.
fn lit(mut picture: RgbImage, light: impl Fn(f32, f32, f32) -> f32) -> RgbImage {
    let (w, h) = (picture.width() as f32, picture.height() as f32);
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        for value in &mut pixel.0 {
            *value = light(x as f32 / w, y as f32 / h, f32::from(*value)).round() as u8;
        }
    }
    picture
}

fn pasted(
    mut picture: RgbImage,
    of: &RgbImage,
    from: (u32, u32),
    to: (u32, u32),
    (width, height): (u32, u32),
) -> RgbImage {
    let piece = imageops::crop_imm(of, from.0, from.1, width, height).to_image();
    imageops::replace(&mut picture, &piece, to.0.into(), to.1.into());
    picture
}

/// The frame as the camera sends it: with a burnt-in clock and name, sensor noise and JPEG losses. The noise is that of a
/// 1280-pixel frame (standard deviation 2) at half the size: 1.
fn sent(mut picture: RgbImage, rng: &mut Rng) -> RgbImage {
    let mut clock = Layer::of(&picture);
    let time = format!("2026-03-14 08.{:02}.{:02}", rng.u8(0..60), rng.u8(0..60));
    clock.text(&time, (12.0, 8.0), 2.5);
    clock.text(
        "0571-0142",
        (f64::from(WIDTH) - 120.0, f64::from(picture.height()) - 24.0),
        2.5,
    );
    clock.over(&mut picture, Rgb([255; 3]), 1.0);
    for value in picture.iter_mut() {
        // The sum of four uniform bytes approximates a normal distribution.
        let dice: u32 = rng.u32(..).to_le_bytes().map(u32::from).iter().sum();
        let noise = (dice as f32 - 510.0) * (1.75 / 255.0);
        *value = (f32::from(*value) + noise).round() as u8;
    }
    let mut jpeg = Vec::new();
    // Neither fails for a picture in memory; if it did, the look would only be sharper.
    let written = JpegEncoder::new_with_quality(&mut jpeg, 60).encode_image(&picture);
    match written.and_then(|()| image::load_from_memory(&jpeg)) {
        Ok(lossy) => lossy.into_rgb8(),
        Err(_) => picture,
    }
}
