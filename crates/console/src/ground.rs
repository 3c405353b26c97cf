//! What a calibration shows in the picture: residuals, a metre grid of the ground, the borders of the grid's cells, and where positions
//! become too uncertain. The mathematics is the engine's; this module only follows lines over the ground.
//!
//! The drawing of `gridwatch calibrate` follows the same rules.

use gridwatch_engine::{
    LonLat, Point,
    geometry::{Calibration, LocalPlane},
    grid::Grid,
};
use schemars::JsonSchema;
use serde::Serialize;

/// A line in fractions of the picture.
pub(crate) type Line = Vec<[f64; 2]>;

/// Lines are followed within this distance of the first pair, metres.
const RANGE_M: f64 = 150.0;
/// Length of a segment, as a share of the grid's step: short enough to follow a lens.
const SEGMENTS: f64 = 4.0;
/// Steps of the grid, metres; the first that gives at most [`MAX_LINES`] lines a direction.
const STEPS_M: [f64; 6] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0];
const MAX_LINES: f64 = 40.0;
/// Cells whose borders are drawn, at most: a view shows two or three.
const MAX_CELLS: usize = 16;
/// Corners of a cell's border that are followed, at most.
const MAX_CORNERS: usize = 2000;
/// Segments of a border, metres.
const BORDER_M: f64 = 1.0;
/// Borders are drawn up to this many times the largest uncertainty: beyond, they only crowd the horizon.
const BORDER_REACH: f64 = 4.0;
/// How far lines may leave the picture, in fractions of it, so that they reach its edge.
const MARGIN: f64 = 0.5;
/// Directions within this angle count as equal, radians: 1°, or half a metre at 30 m.
const SAME_DIRECTION: f64 = 0.0175;

/// A calibration in the picture.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct GroundAnswer {
    /// Distance between each pair's ground point and where the fit puts it, metres, in the pairs' order.
    pub(crate) residuals_m: Vec<f64>,
    /// Root mean square of the residuals, metres.
    pub(crate) rms_m: f64,
    /// The ground grid.
    pub(crate) grid: GridLines,
    /// Borders of the grid's cells that the view shows.
    pub(crate) cells: Vec<CellLines>,
    /// Where the uncertainty reaches the maximum.
    pub(crate) limit: Vec<Line>,
}

/// A metre grid of the ground, along the pairs' main direction.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct GridLines {
    /// Distance between lines, metres.
    pub(crate) step_m: f64,
    pub(crate) lines: Vec<Line>,
}

/// The border of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct CellLines {
    pub(crate) code: String,
    pub(crate) lines: Vec<Line>,
}

/// Projects the ground into the picture. The pairs' ground points are in the grid's coordinate system.
pub(crate) fn project(
    calibration: &Calibration,
    pairs: &[(Point, LonLat)],
    grid: &Grid,
    max_uncertainty_m: f64,
) -> GroundAnswer {
    let scene = Scene {
        calibration,
        max_uncertainty_m,
    };
    let axes = Axes::of(pairs);
    GroundAnswer {
        residuals_m: calibration.residuals_m().to_vec(),
        rms_m: calibration.rms_residual_m(),
        grid: scene.grid(&axes),
        cells: scene.cells(&axes, grid),
        limit: scene.limit(),
    }
}

/// Axes in metres from the first pair: `a` along the pairs' main direction, `b` perpendicular to it.
struct Axes {
    plane: LocalPlane,
    sin: f64,
    cos: f64,
}

impl Axes {
    fn of(pairs: &[(Point, LonLat)]) -> Self {
        let origin = pairs
            .first()
            .map_or(LonLat { lon: 0.0, lat: 0.0 }, |(_, ground)| *ground);
        let plane = LocalPlane::at(origin);
        let metres: Vec<(f64, f64)> = pairs.iter().map(|(_, ground)| plane.metres(*ground)).collect();
        // Each line between two pairs votes for its direction and the perpendicular one: corners of paving lie along kerbs, so the kerb wins
        // over the diagonals. Votes are weighted by squared length, as short lines have noisy directions.
        let mut lines = Vec::new();
        for (i, a) in metres.iter().enumerate() {
            for b in &metres[i + 1..] {
                let (dx, dy) = (b.0 - a.0, b.1 - a.1);
                lines.push((dy.atan2(dx), dx.hypot(dy)));
            }
        }
        let quarter = std::f64::consts::FRAC_PI_2;
        let votes = |direction: f64| -> f64 {
            let is_along = |other: f64| {
                let angle = (other - direction).rem_euclid(quarter);
                angle.min(quarter - angle) < SAME_DIRECTION
            };
            let along = lines.iter().filter(|(other, _)| is_along(*other));
            along.map(|(_, length)| length * length).sum()
        };
        let counted = lines.iter().map(|(direction, _)| (votes(*direction), *direction));
        let best = counted.max_by(|one, other| one.0.total_cmp(&other.0));
        let (sin, cos) = best.map_or(0.0, |(_, direction)| direction).sin_cos();
        Self { plane, sin, cos }
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

/// The extent of trusted ground along both axes, metres.
struct GroundExtent {
    a: (f64, f64),
    b: (f64, f64),
}

struct Scene<'a> {
    calibration: &'a Calibration,
    max_uncertainty_m: f64,
}

impl Scene<'_> {
    /// The ground under a picture point, if its uncertainty is within the maximum.
    fn trusted(&self, p: Point) -> Option<LonLat> {
        let (at, uncertainty_m) = self.calibration.ground(p)?;
        (uncertainty_m <= self.max_uncertainty_m).then_some(at)
    }

    /// The picture point of a ground position, up to [`MARGIN`] outside of the picture, if its uncertainty is at most `reach` metres. Behind the camera and beyond the horizon there is
    /// none: a picture point there would show another place.
    fn visible(&self, at: LonLat, reach: f64) -> Option<[f64; 2]> {
        let p = self.calibration.picture(at)?;
        let span = -MARGIN..=1.0 + MARGIN;
        let is_near = span.contains(&p.x) && span.contains(&p.y);
        let is_certain = |(_, uncertainty_m)| uncertainty_m <= reach;
        (is_near && self.calibration.ground(p).is_some_and(is_certain)).then_some([rounded(p.x), rounded(p.y)])
    }

    /// Splits what `points` gives into the lines that are visible and touch the picture.
    fn lines(&self, points: impl Iterator<Item = LonLat>, reach: f64) -> Vec<Line> {
        let mut lines = vec![Line::new()];
        for point in points {
            match (self.visible(point, reach), lines.last_mut()) {
                (Some(here), Some(line)) => line.push(here),
                (None, Some(line)) if !line.is_empty() => lines.push(Line::new()),
                _ => {}
            }
        }
        let in_picture = |[x, y]: &[f64; 2]| (0.0..=1.0).contains(x) && (0.0..=1.0).contains(y);
        lines.retain(|line| line.len() > 1 && line.iter().any(in_picture));
        lines.iter().map(|line| simplified(line)).collect()
    }

    fn extent(&self, axes: &Axes) -> Option<GroundExtent> {
        const SAMPLES: u32 = 32;
        let mut extent: Option<GroundExtent> = None;
        for (i, j) in (0..=SAMPLES).flat_map(|i| (0..=SAMPLES).map(move |j| (i, j))) {
            let p = Point {
                x: f64::from(i) / f64::from(SAMPLES),
                y: f64::from(j) / f64::from(SAMPLES),
            };
            let Some(at) = self.trusted(p) else { continue };
            let (a, b) = axes.of_ground(at);
            let (a, b) = (a.clamp(-RANGE_M, RANGE_M), b.clamp(-RANGE_M, RANGE_M));
            let known = extent.unwrap_or(GroundExtent { a: (a, a), b: (b, b) });
            extent = Some(GroundExtent {
                a: (known.a.0.min(a), known.a.1.max(a)),
                b: (known.b.0.min(b), known.b.1.max(b)),
            });
        }
        extent
    }

    fn grid(&self, axes: &Axes) -> GridLines {
        let Some(GroundExtent { a, b }) = self.extent(axes) else {
            return GridLines {
                step_m: STEPS_M[0],
                lines: Vec::new(),
            };
        };
        let widest = (a.1 - a.0).max(b.1 - b.0);
        let fits = |step: &&f64| widest / **step <= MAX_LINES;
        let step_m = STEPS_M.iter().find(fits).copied().unwrap_or(STEPS_M[5]);
        let count = |(from, to): (f64, f64)| {
            let first = (from / step_m).floor() as i64;
            first..=(to / step_m).ceil() as i64
        };
        // Lines end on lines.
        let along = |(from, to): (f64, f64)| {
            let (from, to) = ((from / step_m).floor() * SEGMENTS, (to / step_m).ceil() * SEGMENTS);
            (from as i64..=to as i64).map(move |n| n as f64 * step_m / SEGMENTS)
        };
        let mut lines = Vec::new();
        for line in count(b) {
            let across = line as f64 * step_m;
            lines.extend(self.lines(along(a).map(|s| axes.lon_lat(s, across)), f64::INFINITY));
        }
        for line in count(a) {
            let across = line as f64 * step_m;
            lines.extend(self.lines(along(b).map(|s| axes.lon_lat(across, s)), f64::INFINITY));
        }
        GridLines { step_m, lines }
    }

    fn cells(&self, axes: &Axes, grid: &Grid) -> Vec<CellLines> {
        let near = grid.cells_within(axes.lon_lat(0.0, 0.0), RANGE_M);
        let cells = near.into_iter().map(|code| {
            let rings = grid.polygons_of(code).iter().flatten();
            CellLines {
                code: code.to_string(),
                lines: rings.flat_map(|ring| self.border(axes, ring)).collect(),
            }
        });
        cells.filter(|cell| !cell.lines.is_empty()).take(MAX_CELLS).collect()
    }

    /// The visible parts of a ring.
    fn border(&self, axes: &Axes, ring: &[LonLat]) -> Vec<Line> {
        let metres: Vec<(f64, f64)> = ring.iter().take(MAX_CORNERS).map(|at| axes.of_ground(*at)).collect();
        let next = metres.iter().skip(1).chain(metres.first());
        let points = metres.iter().zip(next).flat_map(|(from, to)| {
            // A side may be kilometres long; what is near is followed.
            let (from, to) = within(*from, *to).unwrap_or((*from, *from));
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            let count = (length / BORDER_M).ceil().clamp(1.0, 4.0 * RANGE_M) as u32;
            (0..=count).map(move |n| {
                let share = f64::from(n) / f64::from(count);
                axes.lon_lat(from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1))
            })
        });
        self.lines(points, BORDER_REACH * self.max_uncertainty_m)
    }

    /// The line where, going up the picture, the uncertainty first exceeds the maximum.
    fn limit(&self) -> Vec<Line> {
        const COLUMNS: u32 = 60;
        const ROWS: u32 = 100;
        let mut lines = vec![Line::new()];
        for column in 0..=COLUMNS {
            let x = f64::from(column) / f64::from(COLUMNS);
            let is_trusted = |y: f64| self.trusted(Point { x, y }).is_some();
            let rows = (0..ROWS).map(|row| 1.0 - f64::from(row + 1) / f64::from(ROWS));
            let mut rows = rows.filter(|y| !is_trusted(*y));
            match (is_trusted(1.0).then(|| rows.next()).flatten(), lines.last_mut()) {
                (Some(above), Some(line)) => line.push([rounded(x), rounded(above + 0.5 / f64::from(ROWS))]),
                (None, Some(line)) if !line.is_empty() => lines.push(Line::new()),
                _ => {}
            }
        }
        lines.retain(|line| line.len() > 1);
        lines
    }
}

/// The part of a side within the range of the origin, by the parameters at which it enters and leaves the square (Liang and Barsky 1984).
fn within(from: (f64, f64), to: (f64, f64)) -> Option<((f64, f64), (f64, f64))> {
    let reach = 2.0 * RANGE_M;
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
    for (delta, at) in [(dx, from.0), (dy, from.1)] {
        if delta == 0.0 {
            if at.abs() > reach {
                return None;
            }
            continue;
        }
        let (one, other) = ((-reach - at) / delta, (reach - at) / delta);
        enter = enter.max(one.min(other));
        leave = leave.min(one.max(other));
    }
    let point = |share: f64| (from.0 + share * dx, from.1 + share * dy);
    (enter <= leave).then(|| (point(enter), point(leave)))
}

/// The line without the points that lie on the way between others: without a lens, two are left.
fn simplified(line: &[[f64; 2]]) -> Line {
    /// Largest distance from the way, in fractions of the picture: a fifth of a pixel.
    const TOLERANCE: f64 = 1e-4;
    let mut kept = Line::new();
    let mut from = 0;
    while let Some(start) = line.get(from) {
        kept.push(*start);
        let is_straight = |to: usize| {
            let (x, y) = (line[to][0] - start[0], line[to][1] - start[1]);
            let length = x.hypot(y).max(f64::MIN_POSITIVE);
            line[from + 1..to]
                .iter()
                .all(|p| (x * (p[1] - start[1]) - y * (p[0] - start[0])).abs() / length <= TOLERANCE)
        };
        // The first segment is straight in any case.
        let Some(next) = (from + 1..line.len()).take_while(|to| is_straight(*to)).last() else {
            break;
        };
        from = next;
    }
    kept
}

/// A fraction of the picture with five digits: a fiftieth of a pixel.
fn rounded(value: f64) -> f64 {
    (value * 1e5).round() / 1e5
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of a camera 6 m up that looks down 20°, north.
    fn pairs() -> Vec<(Point, LonLat)> {
        let plane = LocalPlane::at(LonLat { lon: 121.5, lat: 31.23 });
        let half = 30f64.to_radians().tan();
        let points = [(0.1, 0.9), (0.9, 0.9), (0.8, 0.4), (0.2, 0.4), (0.5, 0.6)];
        let ground = |(x, y): (f64, f64)| {
            let (right, down) = ((x - 0.5) * 2.0 * half, (y - 0.5) * 2.0 * half * 9.0 / 16.0);
            let (sin, cos) = 20f64.to_radians().sin_cos();
            let far = 6.0 / (sin + down * cos);
            (Point { x, y }, plane.lon_lat(far * right, far * (cos - down * sin)))
        };
        points.map(ground).into()
    }

    fn square(west: f64, south: f64) -> String {
        let (east, north) = (west + 0.01, south + 0.01);
        format!("[[[{west},{south}],[{east},{south}],[{east},{north}],[{west},{north}],[{west},{south}]]]")
    }

    fn grid() -> Grid {
        let cell = |code: &str, ring: String| {
            format!(
                "{{\"type\":\"Feature\",\"properties\":{{\"code\":\"{code}\"}},\"geometry\":{{\"type\":\"Polygon\",\"coordinates\":{ring}}}}}"
            )
        };
        // The border is 12 m north of the camera, and kilometres long.
        let border = LocalPlane::at(LonLat { lon: 121.5, lat: 31.23 }).lon_lat(0.0, 12.0).lat;
        let features = [
            cell("near", square(121.495, border - 0.01)),
            cell("far", square(121.495, border)),
        ]
        .join(",");
        let text = format!(
            "{{\"type\":\"FeatureCollection\",\"crs\":{{\"type\":\"name\",\"properties\":{{\"name\":\"EPSG:4490\"}}}},\"features\":[{features}]}}"
        );
        let spec = gridwatch_engine::grid::GridSpec {
            crs: "EPSG:4490".into(),
            code_property: "code".into(),
            code_pattern: "^[a-z]+$".into(),
        };
        Grid::parse(&text, &spec).unwrap()
    }

    #[test]
    fn lines_lie_where_the_calibration_puts_them_and_stay_below_the_horizon() {
        let pairs = pairs();
        let calibration = Calibration::fit(&pairs).unwrap();
        let shown = project(&calibration, &pairs, &grid(), 15.0);
        assert_eq!(shown.residuals_m.len(), 5);
        assert!(shown.rms_m < 1e-6 && shown.grid.lines.len() > 10, "{shown:?}");
        let all = shown
            .grid
            .lines
            .iter()
            .chain(shown.cells.iter().flat_map(|cell| &cell.lines));
        for [x, y] in all.flatten() {
            let (x, y) = (*x, *y);
            assert!((-0.5..=1.5).contains(&x) && (-0.5..=1.5).contains(&y));
            assert!(calibration.ground(Point { x, y }).is_some(), "{x} {y}");
        }
        let codes: Vec<&str> = shown.cells.iter().map(|cell| cell.code.as_str()).collect();
        assert_eq!(codes, ["far", "near"]);
        // The border crosses the picture, and every point of it is 12 m ahead.
        let plane = LocalPlane::at(LonLat { lon: 121.5, lat: 31.23 });
        for [x, y] in shown.cells[1].lines.iter().flatten() {
            let (at, _) = calibration.ground(Point { x: *x, y: *y }).unwrap();
            assert!((plane.metres(at).1 - 12.0).abs() < 0.05, "{x} {y}");
        }
    }

    #[test]
    fn the_limit_is_where_positions_become_uncertain() {
        let pairs = pairs();
        let calibration = Calibration::fit(&pairs).unwrap();
        let shown = project(&calibration, &pairs, &grid(), 1.5);
        assert_eq!(shown.limit.len(), 1);
        let [x, y] = shown.limit[0][30];
        let uncertainty = |y: f64| calibration.ground(Point { x, y }).unwrap().1;
        assert!(uncertainty(y + 0.01) <= 1.5 && uncertainty(y - 0.01) > 1.5, "{x} {y}");
    }

    #[test]
    fn a_straight_line_needs_two_points_and_a_bent_one_keeps_its_bends() {
        let straight: Line = (0..50).map(|n| [f64::from(n) / 50.0, f64::from(n) / 100.0]).collect();
        assert_eq!(simplified(&straight), [straight[0], straight[49]]);
        let bent: Line = (0..=50)
            .map(|n| f64::from(n) / 50.0)
            .map(|x| [x, 0.1 * x * x])
            .collect();
        let few = simplified(&bent);
        assert!(few.len() > 5 && few.len() < 51 && few.last() == bent.last(), "{few:?}");
        assert_eq!(simplified(&[]), Line::new());
    }

    #[test]
    fn a_side_is_cut_to_what_is_near() {
        let (from, to) = within((-1e6, 5.0), (1e6, 5.0)).unwrap();
        assert_eq!((from, to), ((-300.0, 5.0), (300.0, 5.0)));
        assert_eq!(within((400.0, 0.0), (400.0, 10.0)), None);
        assert_eq!(within((1.0, 2.0), (1.0, 2.0)), Some(((1.0, 2.0), (1.0, 2.0))));
    }
}
