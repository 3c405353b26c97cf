//! Finds lines of text in the probability map of a text detector with a DB head.
//!
//! Source: Liao et al., Real-time Scene Text Detection with Differentiable Binarization (AAAI 2020), §3.6, as implemented in
//! PaddleOCR's `db_postprocess.py`: the map is binarised, each connected region gets its minimum-area rectangle, and the rectangle is
//! expanded on all sides by area · ratio / perimeter (Vatti's offset of a rectangle), because the network was trained on shrunken
//! regions. Pure; all coordinates are pixels of the map.

/// The rotated bounding box of a line of text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineBox {
    /// Centre (x, y) in pixels.
    pub centre: [f32; 2],
    /// Length along the text in pixels; at least `height`.
    pub width: f32,
    /// Height across the text in pixels.
    pub height: f32,
    /// Reading direction in radians clockwise from rightward, −π/2..π/2. Text that is upside down cannot be told from upright text.
    pub angle: f32,
    /// Mean probability of the region, 0..=1.
    pub score: f32,
}

/// Parameters of the DB post-processing. The values in use were chosen on rendered flyers; see docs/reading.md.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct DbParams {
    /// Probability above which a pixel is text.
    pub(super) threshold: f32,
    /// Minimum mean probability of a region.
    pub(super) min_score: f32,
    /// Expansion of a region: its area times this, divided by its perimeter.
    pub(super) unclip_ratio: f32,
    /// Minimum thickness of a region in pixels, before expansion.
    pub(super) min_thickness: f32,
}

/// Consecutive pixels above the threshold in one row.
struct Run {
    row: usize,
    start: usize,
    /// Index after the last pixel.
    end: usize,
}

impl LineBox {
    /// Corners in reading order: top left, top right, bottom right, bottom left.
    pub fn corners(&self) -> [[f32; 2]; 4] {
        let (sin, cos) = self.angle.sin_cos();
        [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)].map(|(x, y)| {
            let (x, y) = (x * self.width, y * self.height);
            [self.centre[0] + x * cos - y * sin, self.centre[1] + x * sin + y * cos]
        })
    }
}

/// A text detector's probability map.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbabilityMap<'a> {
    /// Probabilities in row-major order, each 0..=1.
    pub(super) values: &'a [f32],
    /// Values from one row to the next, at least `width`; the rest of a row is padding.
    pub(super) stride: usize,
    /// Width in pixels.
    pub(super) width: usize,
    /// Height in pixels.
    pub(super) height: usize,
}

impl<'a> ProbabilityMap<'a> {
    fn rows(&self) -> impl Iterator<Item = &'a [f32]> {
        let Self { width, height, .. } = *self;
        self.values
            .chunks(self.stride.max(1))
            .take(height)
            .map(move |row| &row[..width])
    }
}

/// Finds the lines of text in `map`, top to bottom.
///
/// # Panics
/// If `values` is shorter than the stated size.
pub(super) fn find(map: ProbabilityMap<'_>, params: &DbParams) -> Vec<LineBox> {
    let runs = find_runs(map, params.threshold);
    connected_regions(&runs)
        .iter()
        .filter_map(|region| line_box(map, region.iter().map(|&i| &runs[i]), params))
        .collect()
}

fn find_runs(map: ProbabilityMap<'_>, threshold: f32) -> Vec<Run> {
    let mut runs = Vec::new();
    for (row, values) in map.rows().enumerate() {
        let mut x = 0;
        while let Some(skip) = values[x..].iter().position(|&v| v > threshold) {
            let start = x + skip;
            let length = values[start..].iter().position(|&v| v <= threshold);
            let end = length.map_or(values.len(), |n| start + n);
            runs.push(Run { row, start, end });
            x = end;
        }
    }
    runs
}

/// Groups runs into 8-connected regions. The runs of a region are in order, the regions are ordered by their first run.
fn connected_regions(runs: &[Run]) -> Vec<Vec<usize>> {
    // Union-find forest over runs; the root of a region is its first run.
    let mut parent: Vec<usize> = (0..runs.len()).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let mut above = 0;
    for i in 0..runs.len() {
        let run = &runs[i];
        // Runs that end left of this one, or lie above the previous row, cannot touch later runs either.
        while above < i
            && (runs[above].row + 1 < run.row || (runs[above].row + 1 == run.row && runs[above].end < run.start))
        {
            above += 1;
        }
        let touching = runs[above..i]
            .iter()
            .take_while(|r| r.row + 1 == run.row && r.start <= run.end)
            .count();
        for j in above..above + touching {
            let (a, b) = (root(&mut parent, i), root(&mut parent, j));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut regions: Vec<Vec<usize>> = Vec::new();
    let mut of_root = vec![usize::MAX; runs.len()];
    for i in 0..runs.len() {
        let root = root(&mut parent, i);
        if of_root[root] == usize::MAX {
            of_root[root] = regions.len();
            regions.push(Vec::new());
        }
        regions[of_root[root]].push(i);
    }
    regions
}

fn line_box<'a>(map: ProbabilityMap<'_>, region: impl Iterator<Item = &'a Run>, params: &DbParams) -> Option<LineBox> {
    let (mut sum, mut count) = (0.0_f64, 0_usize);
    let mut outline = Vec::new();
    for run in region {
        let values = &map.values[run.row * map.stride..][run.start..run.end];
        sum += values.iter().map(|&v| f64::from(v)).sum::<f64>();
        count += values.len();
        // The outer corners of the run's first and last pixels determine the hull.
        for y in [run.row, run.row + 1] {
            outline.push([run.start as f32, y as f32]);
            outline.push([run.end as f32, y as f32]);
        }
    }
    let score = (sum / count.max(1) as f64) as f32;
    if score < params.min_score {
        return None;
    }
    let mut line = smallest_rectangle(&hull(outline))?;
    if line.height < params.min_thickness {
        return None;
    }
    let grow = line.width * line.height * params.unclip_ratio / (line.width + line.height);
    line.width += grow;
    line.height += grow;
    line.score = score;
    Some(line)
}

/// Convex hull, counter-clockwise with y pointing up, without collinear points (Andrew's monotone chain).
fn hull(mut points: Vec<[f32; 2]>) -> Vec<[f32; 2]> {
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    points.dedup();
    let cross = |o: [f32; 2], a: [f32; 2], b: [f32; 2]| (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
    let mut hull: Vec<[f32; 2]> = Vec::new();
    let half = |points: &mut dyn Iterator<Item = [f32; 2]>, hull: &mut Vec<[f32; 2]>| {
        let base = hull.len();
        for p in points {
            while let [.., a, b] = hull[base..] {
                if cross(a, b, p) > 0.0 {
                    break;
                }
                hull.pop();
            }
            hull.push(p);
        }
        // The last point is the first of the other half.
        hull.pop();
    };
    half(&mut points.iter().copied(), &mut hull);
    half(&mut points.iter().rev().copied(), &mut hull);
    hull
}

/// Minimum-area rectangle of a convex polygon; one of its sides lies along an edge of the polygon (Freeman and Shapira, 1975). `None`
/// for a polygon without edges.
fn smallest_rectangle(hull: &[[f32; 2]]) -> Option<LineBox> {
    let next = hull.iter().cycle().skip(1);
    let rectangles = hull.iter().zip(next).filter_map(|(a, b)| {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let length = dx.hypot(dy);
        if length == 0.0 {
            return None;
        }
        let (ux, uy) = (dx / length, dy / length);
        let mut low = [f32::INFINITY; 2];
        let mut high = [f32::NEG_INFINITY; 2];
        for p in hull {
            // Coordinates along and across the edge.
            let at = [p[0] * ux + p[1] * uy, p[1] * ux - p[0] * uy];
            for (axis, at) in at.into_iter().enumerate() {
                low[axis] = low[axis].min(at);
                high[axis] = high[axis].max(at);
            }
        }
        let middle = [(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0];
        Some(normalised(LineBox {
            centre: [middle[0] * ux - middle[1] * uy, middle[0] * uy + middle[1] * ux],
            width: high[0] - low[0],
            height: high[1] - low[1],
            angle: dy.atan2(dx),
            score: 0.0,
        }))
    });
    rectangles.min_by(|a, b| (a.width * a.height).total_cmp(&(b.width * b.height)))
}

/// The same rectangle with its longer side as width and its direction within −π/2..π/2.
fn normalised(mut line: LineBox) -> LineBox {
    use std::f32::consts::{FRAC_PI_2, PI};
    if line.width < line.height {
        (line.width, line.height) = (line.height, line.width);
        line.angle += FRAC_PI_2;
    }
    line.angle = (line.angle + FRAC_PI_2).rem_euclid(PI) - FRAC_PI_2;
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARAMS: DbParams = DbParams {
        threshold: 0.3,
        min_score: 0.5,
        unclip_ratio: 0.0,
        min_thickness: 2.0,
    };

    fn of(values: &[f32], width: usize) -> ProbabilityMap<'_> {
        ProbabilityMap {
            values,
            stride: width,
            width,
            height: values.len() / width,
        }
    }

    fn map(rows: &[&str]) -> (Vec<f32>, usize) {
        let values = rows
            .iter()
            .flat_map(|row| {
                row.bytes()
                    .map(|b| if b == b'.' { 0.0 } else { f32::from(b - b'0') / 10.0 })
            })
            .collect();
        (values, rows[0].len())
    }

    #[test]
    fn regions_are_separated_and_weak_or_thin_ones_dropped() {
        let (values, w) = map(&[
            "..........888...",
            ".9999.....888...",
            ".9999......999..",
            "..............88",
            "44444.......8888",
            "44444...........",
            ".........9999999",
        ]);
        let lines = find(of(&values, w), &PARAMS);
        // The two on the right touch at corners; the one at the lower left is weak, the lowest is thin.
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[1].centre, [3.0, 2.0]);
        assert_eq!([lines[1].width, lines[1].height, lines[1].angle], [4.0, 2.0, 0.0]);
        assert!((lines[1].score - 0.9).abs() < 1e-6);
    }

    #[test]
    fn a_rectangle_is_expanded_as_in_the_paper() {
        let (values, w) = map(&["99999999"; 4]);
        let line = find(
            of(&values, w),
            &DbParams {
                unclip_ratio: 1.5,
                ..PARAMS
            },
        )[0];
        // 8 · 4 · 1.5 / 24 = 2 on each side.
        assert_eq!([line.width, line.height], [12.0, 8.0]);
        assert_eq!(line.corners()[0], [-2.0, -2.0]);
    }

    #[test]
    fn padding_is_ignored() {
        let (values, stride) = map(&["....99", ".99999", ".99.99", "....99"]);
        let map = ProbabilityMap {
            values: &values,
            stride,
            width: 4,
            height: 3,
        };
        let lines = find(map, &PARAMS);
        assert_eq!(lines.len(), 1);
        assert_eq!([lines[0].width, lines[0].height], [3.0, 2.0]);
    }

    #[test]
    fn a_ring_and_the_region_inside_it_are_separate() {
        let (values, w) = map(&[
            "999999999",
            "9.......9",
            "9.999.999",
            "9.999.9..",
            "9.....9..",
            "9999999..",
        ]);
        assert_eq!(find(of(&values, w), &PARAMS).len(), 2);
    }

    /// Regions by flood fill.
    fn flood_fill(values: &[f32], w: usize, h: usize) -> Vec<Vec<usize>> {
        let mut seen = vec![false; values.len()];
        let mut regions = Vec::new();
        for first in 0..values.len() {
            if seen[first] || values[first] <= PARAMS.threshold {
                continue;
            }
            let (mut region, mut open) = (Vec::new(), vec![first]);
            seen[first] = true;
            while let Some(i) = open.pop() {
                region.push(i);
                let (x, y) = ((i % w) as i64, (i / w) as i64);
                for (dx, dy) in [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)] {
                    let (x, y) = (x + dx, y + dy);
                    if (0..w as i64).contains(&x) && (0..h as i64).contains(&y) {
                        let i = y as usize * w + x as usize;
                        if !seen[i] && values[i] > PARAMS.threshold {
                            seen[i] = true;
                            open.push(i);
                        }
                    }
                }
            }
            region.sort_unstable();
            regions.push(region);
        }
        regions
    }

    proptest! {
        #[test]
        fn regions_match_a_flood_fill(w in 1_usize..24, bits in proptest::collection::vec(any::<bool>(), 1..400)) {
            let h = bits.len() / w;
            prop_assume!(h > 0);
            let values: Vec<f32> = bits[..w * h].iter().map(|b| f32::from(u8::from(*b))).collect();
            let runs = find_runs(of(&values, w), PARAMS.threshold);
            let found: Vec<Vec<usize>> = connected_regions(&runs)
                .iter()
                .map(|region| {
                    let pixels = region.iter().flat_map(|&i| (runs[i].start..runs[i].end).map(move |x| (i, x)));
                    pixels.map(|(i, x)| runs[i].row * w + x).collect()
                })
                .collect();
            prop_assert_eq!(found, flood_fill(&values, w, h));
        }

        #[test]
        fn a_drawn_line_is_found_in_its_place(
            cx in 60.0_f32..100.0, cy in 60.0_f32..100.0, width in 40.0_f32..90.0, height in 8.0_f32..20.0, degrees in -60.0_f32..60.0,
        ) {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let values: Vec<f32> = (0..160 * 160)
                .map(|i| {
                    let (x, y) = ((i % 160) as f32 + 0.5 - cx, (i / 160) as f32 + 0.5 - cy);
                    let inside = (x * cos + y * sin).abs() <= width / 2.0 && (y * cos - x * sin).abs() <= height / 2.0;
                    if inside { 0.9 } else { 0.1 }
                })
                .collect();
            let lines = find(of(&values, 160), &PARAMS);
            prop_assert_eq!(lines.len(), 1);
            let line = lines[0];
            // Tolerances allow for the rasterisation.
            prop_assert!((line.centre[0] - cx).abs() < 1.5 && (line.centre[1] - cy).abs() < 1.5, "{:?}", line);
            prop_assert!((line.width - width).abs() < 3.0 && (line.height - height).abs() < 3.0, "{:?}", line);
            prop_assert!((line.angle.to_degrees() - degrees).abs() < 5.0, "{:?} {}", line, degrees);
        }

        #[test]
        fn any_map_gives_finite_boxes(w in 1_usize..40, values in proptest::collection::vec(0.0_f32..1.0, 1..600)) {
            let h = values.len() / w;
            for line in find(of(&values[..w * h], w), &DbParams { unclip_ratio: 1.6, min_score: 0.0, min_thickness: 0.0, ..PARAMS }) {
                prop_assert!(line.width >= line.height && line.height >= 1.0);
                prop_assert!(line.corners().iter().flatten().all(|v| v.is_finite()));
                prop_assert!(line.angle.abs() <= std::f32::consts::FRAC_PI_2 + 1e-6);
            }
        }
    }
}
