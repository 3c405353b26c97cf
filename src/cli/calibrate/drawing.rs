//! Draws the ground grid of a calibration into a picture.

use image::{Rgb, RgbImage};

use crate::cli::layer::Layer;
use gridwatch_config::Survey;
use gridwatch_engine::{
    LonLat, Point,
    geometry::{Calibration, LocalPlane},
};

const THIN: Rgb<u8> = Rgb([120, 230, 255]);
const THICK: Rgb<u8> = Rgb([0, 190, 255]);
const NUMBER: Rgb<u8> = Rgb([255, 230, 120]);
const LIMIT: Rgb<u8> = Rgb([255, 140, 0]);
const PAIR: Rgb<u8> = Rgb([255, 255, 255]);
const RESIDUAL: Rgb<u8> = Rgb([255, 40, 40]);
const BLACK: Rgb<u8> = Rgb([0, 0, 0]);

/// Spacing of thin and of thick lines, metres.
const STEPS_M: [f64; 2] = [1.0, 5.0];
/// Lines closer together than this are omitted; a fraction of the picture's width (7 px at 1080p).
const MIN_SPACING: f64 = 7.0 / 1920.0;
/// Lines are drawn in segments of this length, metres, short enough to follow lens distortion.
const SEGMENT_M: f64 = 0.25;
/// Drawing range around the first pair, metres.
const RANGE_M: f64 = 150.0;
/// Directions within this angle count as equal, radians: 1°, or half a metre at 30 m.
const SAME_DIRECTION: f64 = 0.0175;

/// The grid's axes, in metres from the first pair: `a` along the pairs' main direction, `b` perpendicular to it.
struct Axes {
    plane: LocalPlane,
    sin: f64,
    cos: f64,
}

impl Axes {
    fn of(pairs: &[(Point, LonLat)]) -> Option<Self> {
        let plane = LocalPlane::at(pairs.first()?.1);
        let metres: Vec<(f64, f64)> = pairs.iter().map(|(_, g)| plane.metres(*g)).collect();
        // Each line between two pairs votes for its direction and the perpendicular one: corners of paving lie along kerbs, so
        // the kerb wins over the diagonals. Votes are weighted by squared length, as short lines have noisy directions.
        let mut lines = Vec::new();
        for (i, a) in metres.iter().enumerate() {
            for b in &metres[i + 1..] {
                let (dx, dy) = (b.0 - a.0, b.1 - a.1);
                lines.push((dy.atan2(dx), dx.hypot(dy)));
            }
        }
        let quarter = std::f64::consts::FRAC_PI_2;
        let angle_between = |a: f64, b: f64| {
            let angle = (a - b).rem_euclid(quarter);
            angle.min(quarter - angle)
        };
        let votes = |direction: f64| -> f64 {
            let along = lines
                .iter()
                .filter(|(d, _)| angle_between(*d, direction) < SAME_DIRECTION);
            along.map(|(_, length)| length * length).sum()
        };
        let best = lines.iter().max_by(|a, b| votes(a.0).total_cmp(&votes(b.0)))?;
        let (sin, cos) = best.0.sin_cos();
        Some(Self { plane, sin, cos })
    }

    fn lon_lat(&self, a: f64, b: f64) -> LonLat {
        self.plane
            .lon_lat(a * self.cos - b * self.sin, a * self.sin + b * self.cos)
    }

    fn of_ground(&self, at: LonLat) -> (f64, f64) {
        let (east, north) = self.plane.metres(at);
        (east * self.cos + north * self.sin, north * self.cos - east * self.sin)
    }
}

/// Draws the ground grid, the limit of `max_uncertainty_m`, and the pairs with their residuals.
pub(super) fn draw(picture: &mut RgbImage, survey: &Survey, calibration: &Calibration) {
    let scene = Scene {
        calibration,
        size: (f64::from(picture.width()), f64::from(picture.height())),
        max_uncertainty_m: survey.max_uncertainty_m,
    };
    let unit = (scene.size.0 / 960.0).max(1.0);
    let Some(axes) = Axes::of(&survey.pairs) else { return };
    let mut grid = GridLines {
        thin: Layer::of(picture),
        thick: Layer::of(picture),
        unit,
    };
    scene.grid(&axes, &mut grid);
    grid.thin.over(picture, THIN, 0.55);
    grid.thick.clone().grown().over(picture, BLACK, 0.35);
    grid.thick.over(picture, THICK, 0.95);

    let mut limit = Layer::of(picture);
    scene.limit(&mut limit, unit);
    limit.over_outlined(picture, LIMIT, 1, 0.5);

    let mut numbers = Layer::of(picture);
    scene.numbers(&axes, &mut numbers, unit);
    numbers.over_outlined(picture, NUMBER, 2, 0.6);

    let (mut rings, mut arrows) = (Layer::of(picture), Layer::of(picture));
    for (i, (p, g)) in survey.pairs.iter().enumerate() {
        let from = scene.pixel(*p);
        rings.ring(from, 6.0 * unit, 1.2 * unit);
        rings.text(&i.to_string(), (from.0 + 9.0 * unit, from.1 - 9.0 * unit), 2.0 * unit);
        if let Some(to) = calibration.picture(*g) {
            arrows.arrow(from, scene.pixel(to), unit);
        }
    }
    rings.over_outlined(picture, PAIR, 2, 0.7);
    arrows.over_outlined(picture, RESIDUAL, 1, 0.7);
}

/// The layers of the ground grid; `unit` is the line width in pixels.
struct GridLines {
    thin: Layer,
    thick: Layer,
    unit: f64,
}

struct Scene<'a> {
    calibration: &'a Calibration,
    size: (f64, f64),
    max_uncertainty_m: f64,
}

impl Scene<'_> {
    fn pixel(&self, p: Point) -> (f64, f64) {
        (p.x * self.size.0, p.y * self.size.1)
    }

    /// The ground position under a picture point, if its uncertainty is within `max_uncertainty_m`.
    fn trusted(&self, p: Point) -> Option<LonLat> {
        let (at, uncertainty_m) = self.calibration.ground(p)?;
        (uncertainty_m <= self.max_uncertainty_m).then_some(at)
    }

    /// The pixel of a ground position, up to half a picture outside the frame, and whether it is inside and trusted.
    fn project(&self, at: LonLat) -> Option<((f64, f64), bool)> {
        let p = self.calibration.picture(at)?;
        let within = |margin: f64| {
            let span = -margin..=1.0 + margin;
            span.contains(&p.x) && span.contains(&p.y)
        };
        within(0.5).then(|| (self.pixel(p), within(0.0) && self.trusted(p).is_some()))
    }

    /// The pixel of a ground position, if it is in the picture and trusted.
    fn visible(&self, at: LonLat) -> Option<(f64, f64)> {
        self.project(at)
            .filter(|(_, is_visible)| *is_visible)
            .map(|(pixel, _)| pixel)
    }

    fn grid(&self, axes: &Axes, lines: &mut GridLines) {
        let Some([from_a, to_a, from_b, to_b]) = self.extent(axes) else {
            return;
        };
        let along_a = |a: f64, b: f64| axes.lon_lat(a, b);
        let along_b = |b: f64, a: f64| axes.lon_lat(a, b);
        self.parallel_lines(&along_a, (from_b, to_b), (from_a, to_a), lines);
        self.parallel_lines(&along_b, (from_a, to_a), (from_b, to_b), lines);
    }

    /// The lines of one direction, one per metre of `across`; `at(along, across)` gives the ground position.
    fn parallel_lines(
        &self,
        at: &dyn Fn(f64, f64) -> LonLat,
        across: (f64, f64),
        along: (f64, f64),
        lines: &mut GridLines,
    ) {
        let min_spacing = MIN_SPACING * self.size.0;
        let [fine, coarse] = STEPS_M;
        for line in (across.0.floor() as i64)..=(across.1.ceil() as i64) {
            let c = line as f64;
            let is_thick = line.rem_euclid(coarse as i64) == 0;
            let mut last = None;
            // One more segment at both ends, so that lines reach the picture's edge.
            for segment in -1..=((along.1 - along.0) / SEGMENT_M).ceil() as i64 + 1 {
                let s = along.0 + segment as f64 * SEGMENT_M;
                let here = self.project(at(s, c));
                if let (Some((from, is_from_visible)), Some((to, is_to_visible))) = (last, here)
                    && (is_from_visible || is_to_visible)
                {
                    let spacing = |step: f64| {
                        let next = self.calibration.picture(at(s, c + step)).map(|p| self.pixel(p));
                        next.map_or(0.0, |(x, y)| (x - to.0).hypot(y - to.1))
                    };
                    if is_thick && spacing(coarse) >= min_spacing {
                        lines.thick.line(from, to, 1.0 * lines.unit);
                    } else if spacing(fine) >= min_spacing {
                        lines.thin.line(from, to, 0.5 * lines.unit);
                    }
                }
                last = here;
            }
        }
    }

    /// The extent of the trusted ground along both axes, within the drawing range: `[a_min, a_max, b_min, b_max]`.
    fn extent(&self, axes: &Axes) -> Option<[f64; 4]> {
        let mut extent: Option<[f64; 4]> = None;
        for (i, j) in (0..=48).flat_map(|i| (0..=48).map(move |j| (i, j))) {
            let p = Point {
                x: f64::from(i) / 48.0,
                y: f64::from(j) / 48.0,
            };
            let Some(at) = self.trusted(p) else { continue };
            let (a, b) = axes.of_ground(at);
            let (a, b) = (a.clamp(-RANGE_M, RANGE_M), b.clamp(-RANGE_M, RANGE_M));
            let [a1, a2, b1, b2] = extent.unwrap_or([a, a, b, b]);
            extent = Some([a1.min(a), a2.max(a), b1.min(b), b2.max(b)]);
        }
        extent
    }

    /// The line where, going up the picture, the uncertainty first exceeds the limit.
    fn limit(&self, layer: &mut Layer, unit: f64) {
        let mut last: Option<(f64, f64)> = None;
        for column in 0..=240 {
            let x = f64::from(column) / 240.0;
            let is_trusted = |y: f64| self.trusted(Point { x, y }).is_some();
            let here = is_trusted(1.0)
                .then(|| {
                    (0..200)
                        .map(|i| 1.0 - f64::from(i + 1) / 200.0)
                        .find(|y| !is_trusted(*y))
                })
                .flatten()
                .map(|above| {
                    // Bisect to a hundredth of a step.
                    let (mut above, mut below) = (above, above + 1.0 / 200.0);
                    for _ in 0..7 {
                        let middle = f64::midpoint(above, below);
                        if is_trusted(middle) {
                            below = middle;
                        } else {
                            above = middle;
                        }
                    }
                    self.pixel(Point { x, y: below })
                });
            if let (Some(from), Some(to)) = (last, here) {
                layer.line(from, to, 1.2 * unit);
            }
            last = here;
        }
    }

    /// Distances from the first pair, metres, along the two thick lines through it.
    fn numbers(&self, axes: &Axes, layer: &mut Layer, unit: f64) {
        let step = STEPS_M[1];
        let count = (RANGE_M / step) as i32;
        for along_b in [false, true] {
            let mut placed: Vec<(f64, f64)> = Vec::new();
            for n in (1..=count).flat_map(|n| [n, -n]) {
                let metres = f64::from(n) * step;
                let at = if along_b {
                    axes.lon_lat(0.0, metres)
                } else {
                    axes.lon_lat(metres, 0.0)
                };
                let Some(here) = self.visible(at) else { continue };
                // Far away the numbers would overlap.
                if placed.iter().any(|t| (t.0 - here.0).hypot(t.1 - here.1) < 28.0 * unit) {
                    continue;
                }
                placed.push(here);
                layer.text(
                    &format!("{metres}"),
                    (here.0 + 3.0 * unit, here.1 - 5.0 * unit),
                    1.7 * unit,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_follows_the_pairs_main_direction() {
        // A kerb 30° north of east, a perpendicular corner, and a stray point.
        let plane = LocalPlane::at(LonLat { lon: 120.0, lat: 30.0 });
        let (sin, cos) = 30f64.to_radians().sin_cos();
        let pairs: Vec<(Point, LonLat)> = [
            (0.0, 0.0),
            (10.0, 0.0),
            (20.0, 0.0),
            (20.0, 6.0),
            (0.0, 6.0),
            (7.0, 3.3),
        ]
        .map(|(a, b)| {
            let at = plane.lon_lat(a * cos - b * sin, a * sin + b * cos);
            (Point { x: 0.5, y: 0.5 }, at)
        })
        .into();
        let axes = Axes::of(&pairs).unwrap();
        let turn = axes.sin.atan2(axes.cos).to_degrees().rem_euclid(90.0);
        assert!((turn - 30.0).abs() < 1e-6, "{turn}");
        let (a, b) = axes.of_ground(axes.lon_lat(3.0, -4.0));
        assert!((a - 3.0).abs() < 1e-6 && (b + 4.0).abs() < 1e-6);
    }
}
