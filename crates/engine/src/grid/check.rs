//! Checks that the cells form a grid, i.e. that no ground lies in two. A grid that [`Grid::parse`] accepts can still
//! overlap or have self-intersecting borders; look-ups then return an answer, but not the city's. Ground that lies in no
//! cell is found where the file is checked, because it needs a geometry library that the engine does not.

use std::fmt;

use super::{Cell, CellCode, Grid, LocalPlane, LonLat, border};

/// Ground thinner than this on average is a border drawn twice, metres: two roundings to six decimals, the coarsest
/// that exports write, are 0.16 m apart.
const SLIVER_WIDTH_M: f64 = 0.2;
/// Ground smaller than this is negligible too, square metres: no problem is filed on it.
const SLIVER_AREA_M2: f64 = 1.0;
/// Areas below this are rounding, square metres: borders with corners on one side only are off by micrometres.
const ROUNDING_M2: f64 = 0.01;
/// Overlaps after which the search ends. A grid with so many is wrong as a whole, and of cells stacked on each other every pair overlaps.
const MAX_OVERLAPS: usize = 1000;
/// How far both edges must extend past each other to count as a self-intersection, degrees: a millimetre.
const CROSSING_DEPTH: f64 = 1e-8;

/// Defects of a grid that parses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GridDefects {
    /// Invalid rings, in order of the codes.
    pub rings: Vec<RingFault>,
    /// Ground that two cells claim, in order of the codes; the first thousand.
    pub overlaps: Vec<Overlap>,
    /// Overlaps too thin or too small to matter, from rounded borders.
    pub overlap_slivers: Slivers,
}

/// Negligible pieces of ground, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Slivers {
    /// Number of pieces.
    pub count: usize,
    /// Their total area, square metres.
    pub area_m2: f64,
    /// Area and position of the largest.
    pub largest: Option<(f64, LonLat)>,
}

impl Slivers {
    /// Counts one.
    pub fn add(&mut self, area_m2: f64, at: LonLat) {
        self.count += 1;
        self.area_m2 += area_m2;
        if self.largest.is_none_or(|(largest, _)| area_m2 > largest) {
            self.largest = Some((area_m2, at));
        }
    }
}

/// Ground that two cells claim; cases there are filed under the lower code.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlap {
    /// The cells, lower code first.
    pub cells: [CellCode; 2],
    /// Area, square metres.
    pub area_m2: f64,
    /// A point in it.
    pub at: LonLat,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = &self.cells;
        let LonLat { lon, lat } = self.at;
        let area = self.area_m2;
        write!(f, "cells {a} and {b} overlap by {area:.0} m² at [{lon:.6}, {lat:.6}]")
    }
}

/// A ring that encloses no area, or crosses itself.
#[derive(Debug, Clone, PartialEq)]
pub struct RingFault {
    /// The cell.
    pub cell: CellCode,
    /// Index of the polygon.
    pub polygon: usize,
    /// Index of the ring; 0 is the outline.
    pub ring: usize,
    /// The two edges that cross (each by the index of its first corner) and where; `None` for a ring without area.
    pub crossing: Option<([usize; 2], LonLat)>,
}

impl fmt::Display for RingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cell, polygon, ring, ..
        } = self;
        write!(f, "cell {cell}, polygon {polygon}, ring {ring} ")?;
        match self.crossing {
            None => f.write_str("has no area"),
            Some(([a, b], LonLat { lon, lat })) => {
                write!(f, "crosses itself at [{lon:.6}, {lat:.6}] (edges {a} and {b})")
            }
        }
    }
}

impl Grid {
    /// All defects of the grid. Takes some seconds for 100,000 cells (see docs/performance.md): run it when the file
    /// changes, not per candidate.
    pub fn check(&self) -> GridDefects {
        let mut found = GridDefects::default();
        for cell in self.cells.iter() {
            check_rings(cell, &mut found.rings);
        }
        self.overlaps(&mut found);
        found
    }

    fn overlaps(&self, found: &mut GridDefects) {
        for (a, b) in self.near_pairs(0.0) {
            let (a, b) = (&self.cells[a], &self.cells[b]);
            let Some(shared) = border::intersection(a, b).filter(|c| c.area_m2 > ROUNDING_M2) else {
                continue;
            };
            if is_sliver(shared.area_m2, shared.width_m) {
                found.overlap_slivers.add(shared.area_m2, shared.at);
            } else {
                found.overlaps.push(Overlap {
                    cells: [a.code.clone(), b.code.clone()],
                    area_m2: shared.area_m2,
                    at: shared.at,
                });
                if found.overlaps.len() == MAX_OVERLAPS {
                    return;
                }
            }
        }
    }
}

/// True if ground of this area and mean width is negligible: no problem is filed on it, or its border is drawn twice.
pub fn is_sliver(area_m2: f64, width_m: f64) -> bool {
    area_m2 < SLIVER_AREA_M2 || width_m < SLIVER_WIDTH_M
}

/// Twice the area by the shoelace formula, relative to the first corner to keep the numbers small; positive if
/// counter-clockwise.
fn twice_area(mut ring: impl Iterator<Item = (f64, f64)>) -> f64 {
    let Some((x0, y0)) = ring.next() else { return 0.0 };
    let mut from = (0.0, 0.0);
    let mut sum = 0.0;
    for (x, y) in ring {
        let to = (x - x0, y - y0);
        sum += from.0 * to.1 - from.1 * to.0;
        from = to;
    }
    sum
}

/// At most one fault per ring: a border that crosses itself usually does so many times.
fn check_rings(cell: &Cell, found: &mut Vec<RingFault>) {
    let plane = LocalPlane::at(cell.extent.centre());
    for (polygon, rings) in cell.polygons.iter().enumerate() {
        for (ring, corners) in rings.iter().enumerate() {
            let crossing = self_crossing(corners);
            let area_m2 = twice_area(corners.iter().map(|p| plane.metres(*p))).abs() / 2.0;
            if crossing.is_some() || area_m2 < ROUNDING_M2 {
                found.push(RingFault {
                    cell: cell.code.clone(),
                    polygon,
                    ring,
                    crossing,
                });
            }
        }
    }
}

/// The first two edges that cross, by a sweep from the south: each edge is compared with those that begin before it
/// ends.
fn self_crossing(corners: &[LonLat]) -> Option<([usize; 2], LonLat)> {
    let mut edges: Vec<_> = border::edges(corners).map(|e| (e.extent(), e)).enumerate().collect();
    edges.sort_by(|(_, (a, _)), (_, (b, _))| a.south.total_cmp(&b.south));
    for (i, (first, (extent, edge))) in edges.iter().enumerate() {
        let beside = edges[i + 1..]
            .iter()
            .take_while(|(_, (other, _))| other.south <= extent.north);
        for (second, (other_extent, other)) in beside {
            // Adjacent edges share a corner, which does not count as crossing.
            if extent.intersects(other_extent)
                && let Some(at) = edge.crossing(other, CROSSING_DEPTH)
            {
                return Some(([*first.min(second), *first.max(second)], at));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{code, feature, file, lattice, parse, ring};

    use super::*;

    fn grid(cells: &[Value]) -> Grid {
        let features = cells
            .iter()
            .enumerate()
            .map(|(n, rings)| feature(json!(code(n)), rings.clone()));
        parse(&file(features.collect())).unwrap()
    }

    #[test]
    fn a_lattice_has_no_defects() {
        assert_eq!(lattice(30, 20).check(), GridDefects::default());
    }

    #[test]
    fn an_overlap_is_reported_with_its_cells_and_area() {
        // 0.0001° of 0.001°: 9.2 m by 110.9 m.
        let found = grid(&[
            json!([ring(113.0, 34.0, 0.0011, 0.001)]),
            json!([ring(113.001, 34.0, 0.001, 0.001)]),
        ])
        .check();
        assert_eq!(found.overlap_slivers.count, 0);
        let [overlap] = &found.overlaps[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            overlap.to_string(),
            "cells 410105001001000 and 410105001001001 overlap by 1025 m² at [113.001050, 34.000500]"
        );
    }

    #[test]
    fn a_rounded_border_is_a_sliver() {
        let found = grid(&[
            json!([ring(113.0, 34.0, 0.001_001, 0.001)]),
            json!([ring(113.001, 34.0, 0.001, 0.001)]),
        ])
        .check();
        assert_eq!((found.overlaps.len(), found.overlap_slivers.count), (0, 1));
        assert!((found.overlap_slivers.area_m2 - 10.2).abs() < 0.2, "{found:?}");
    }

    #[test]
    fn of_stacked_cells_the_first_overlaps_are_reported() {
        let stacked = vec![json!([ring(113.0, 34.0, 0.001, 0.001)]); 60];
        assert_eq!(grid(&stacked).check().overlaps.len(), MAX_OVERLAPS);
    }

    #[test]
    fn a_cell_in_a_hole_does_not_overlap_and_one_without_the_hole_does() {
        let inner = ring(113.001, 34.001, 0.001, 0.001);
        let outer = ring(113.0, 34.0, 0.003, 0.003);
        let holed = grid(&[json!([outer, inner]), json!([inner])]).check();
        assert_eq!(holed, GridDefects::default());
        let whole = grid(&[json!([outer]), json!([inner])]).check();
        assert_eq!(whole.overlaps.len(), 1, "{whole:?}");
        assert!((whole.overlaps[0].area_m2 - 10_240.0).abs() < 50.0, "{whole:?}");
    }

    #[test]
    fn a_border_with_more_corners_on_one_side_is_no_defect() {
        // A slanted border, halved on one side only, so the extra corner cannot lie on it exactly.
        let west = json!([[
            [113.0, 34.0],
            [113.001, 34.0],
            [113.0013, 34.0037],
            [113.0, 34.0037],
            [113.0, 34.0]
        ]]);
        let (lon, lat) = (f64::midpoint(113.001, 113.0013), f64::midpoint(34.0, 34.0037));
        let east = json!([[
            [113.001, 34.0],
            [113.003, 34.0],
            [113.003, 34.0037],
            [113.0013, 34.0037],
            [lon, lat],
            [113.001, 34.0]
        ]]);
        assert_eq!(grid(&[west, east]).check(), GridDefects::default());
    }

    #[test]
    fn rings_without_area_or_crossing_themselves_are_reported() {
        let bow = json!([[
            [113.0, 34.0],
            [113.001, 34.001],
            [113.001, 34.0],
            [113.0, 34.001],
            [113.0, 34.0]
        ]]);
        let flat = json!([[[114.0, 34.0], [114.001, 34.0], [114.002, 34.0], [114.0, 34.0]]]);
        let found = grid(&[bow, flat]).check();
        let messages: Vec<String> = found.rings.iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "cell 410105001001000, polygon 0, ring 0 crosses itself at [113.000500, 34.000500] (edges 0 and 2)",
                "cell 410105001001001, polygon 0, ring 0 has no area",
            ]
        );
    }
}
