//! Checks that the cells form a grid, i.e. that every piece of ground lies in exactly one. A grid that [`Grid::parse`]
//! accepts can still overlap, leave gaps, or have self-intersecting borders; look-ups then return an answer, but not
//! the city's.

use std::fmt;

use geo::{BoundingRect, Contains, InteriorPoint, LineString, algorithm::unary_union};

use super::{Cell, CellCode, Extent, Grid, LocalPlane, LonLat, border};

/// Ground thinner than this on average is a border drawn twice, metres: two roundings to six decimals, the coarsest
/// that exports write, are 0.16 m apart.
const SLIVER_WIDTH_M: f64 = 0.2;
/// Ground smaller than this is negligible too, square metres: no problem is filed on it.
const SLIVER_AREA_M2: f64 = 1.0;
/// Areas below this are rounding, square metres: borders with corners on one side only are off by micrometres.
const ROUNDING_M2: f64 = 0.01;
/// How far both edges must extend past each other to count as a self-intersection, degrees: a millimetre.
const CROSSING_DEPTH: f64 = 1e-8;

/// Defects of a grid that parses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GridDefects {
    /// Invalid rings, in order of the codes.
    pub rings: Vec<RingFault>,
    /// Ground that two cells claim, in order of the codes.
    pub overlaps: Vec<Overlap>,
    /// Overlaps too thin or too small to matter, from rounded borders.
    pub overlap_slivers: Slivers,
    /// Enclosed ground that belongs to no cell, the largest first.
    pub gaps: Vec<Gap>,
    /// Gaps too thin or too small to matter.
    pub gap_slivers: Slivers,
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
    fn add(&mut self, area_m2: f64, at: LonLat) {
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

/// Enclosed ground that belongs to no cell; nothing there is filed.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    /// Area, square metres.
    pub area_m2: f64,
    /// A point in it.
    pub at: LonLat,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LonLat { lon, lat } = self.at;
        write!(f, "no cell covers {:.0} m² at [{lon:.6}, {lat:.6}]", self.area_m2)
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
        for cell in &self.cells {
            check_rings(cell, &mut found.rings);
        }
        self.overlaps(&mut found);
        self.gaps(&mut found);
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
            }
        }
    }

    /// Gaps are the holes in the union of all cells.
    fn gaps(&self, found: &mut GridDefects) {
        let polygons: Vec<geo::Polygon> = self
            .cells
            .iter()
            .flat_map(|c| &c.polygons)
            .filter_map(oriented)
            .collect();
        let islands = unary_union(&polygons);
        for (i, island) in islands.iter().enumerate() {
            for hole in island.interiors() {
                let Some(bounds) = hole.bounding_rect() else { continue };
                let extent = [bounds.min(), bounds.max()]
                    .into_iter()
                    .fold(Extent::EMPTY, |e, c| e.including(LonLat { lon: c.x, lat: c.y }));
                let plane = LocalPlane::at(extent.centre());
                // Cells that stand apart inside the hole are not part of the gap.
                let around = geo::Polygon::new(hole.clone(), Vec::new());
                let within: Vec<&LineString> = islands
                    .iter()
                    .enumerate()
                    .filter(|(other, _)| *other != i)
                    .map(|(_, other)| other.exterior())
                    .filter(|ring| ring.0.first().is_some_and(|c| bounds.contains(c) && around.contains(c)))
                    .collect();
                let area_m2 = area_m2(hole, &plane) - within.iter().map(|ring| area_m2(ring, &plane)).sum::<f64>();
                if area_m2 < ROUNDING_M2 {
                    continue;
                }
                let (unit_lon, unit_lat) = plane.degrees(1.0);
                let diagonal_m =
                    ((extent.east - extent.west) / unit_lon).hypot((extent.north - extent.south) / unit_lat);
                let gap = geo::Polygon::new(hole.clone(), within.into_iter().cloned().collect());
                let at = gap
                    .interior_point()
                    .map_or(extent.centre(), |p| LonLat { lon: p.x(), lat: p.y() });
                if is_sliver(area_m2, area_m2 / diagonal_m) {
                    found.gap_slivers.add(area_m2, at);
                } else {
                    found.gaps.push(Gap { area_m2, at });
                }
            }
        }
        found.gaps.sort_by(|a, b| b.area_m2.total_cmp(&a.area_m2));
    }
}

fn is_sliver(area_m2: f64, width_m: f64) -> bool {
    area_m2 < SLIVER_AREA_M2 || width_m < SLIVER_WIDTH_M
}

/// Outline counter-clockwise, holes clockwise, because the union counts winding numbers.
fn oriented(rings: &super::Polygon) -> Option<geo::Polygon> {
    let turned = |ring: &Vec<LonLat>, is_left: bool| {
        let mut corners: Vec<geo::Coord> = ring.iter().map(|p| geo::Coord { x: p.lon, y: p.lat }).collect();
        if (twice_area(ring.iter().map(|p| (p.lon, p.lat))) > 0.0) != is_left {
            corners.reverse();
        }
        LineString::new(corners)
    };
    let (outline, holes) = rings.split_first()?;
    let holes = holes.iter().map(|hole| turned(hole, false)).collect();
    Some(geo::Polygon::new(turned(outline, true), holes))
}

fn area_m2(ring: &LineString, plane: &LocalPlane) -> f64 {
    let metres = |c: &geo::Coord| plane.metres(LonLat { lon: c.x, lat: c.y });
    twice_area(ring.0.iter().map(metres)).abs() / 2.0
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
    use geo::{Area, BooleanOps};
    use proptest::prelude::*;
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
    fn enclosed_ground_without_a_cell_is_a_gap() {
        // Nine cells without the middle one and one at the rim: a bay, not a gap.
        let cells: Vec<Value> = (0..9)
            .filter(|n| ![1, 4].contains(n))
            .map(|n| {
                json!([ring(
                    113.0 + f64::from(n % 3) * 0.001,
                    34.0 + f64::from(n / 3) * 0.001,
                    0.001,
                    0.001
                )])
            })
            .collect();
        assert_eq!(grid(&cells).check().gaps, [], "open to the south");
        let south = json!([ring(113.001, 34.0, 0.001, 0.0009)]);
        let mut closed = cells.clone();
        closed.push(south);
        let found = grid(&closed).check();
        let [gap] = &found.gaps[..] else { panic!("{found:?}") };
        assert!((gap.area_m2 - 11_264.0).abs() < 50.0, "{gap}");
        assert!(
            (113.001..113.002).contains(&gap.at.lon) && (34.0009..34.002).contains(&gap.at.lat),
            "{gap}"
        );
        // A cell inside the gap takes its part of it.
        closed.push(json!([ring(113.0012, 34.0012, 0.0006, 0.0006)]));
        let less = grid(&closed).check();
        assert!((less.gaps[0].area_m2 - (gap.area_m2 - 3686.0)).abs() < 20.0, "{less:?}");
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

    proptest! {
        #[test]
        fn the_shared_area_matches_a_boolean_operation(
            // Star-shaped rings, so that neither crosses itself.
            radii in prop::collection::vec((0.2f64..1.0, 0.2f64..1.0), 3..14),
            dx in -1.0f64..1.0, dy in -1.0f64..1.0,
        ) {
            let n = radii.len() as f64;
            let star = |radii: Vec<f64>, lon: f64, lat: f64| -> Vec<LonLat> {
                radii.iter().enumerate().map(|(i, r)| {
                    let (sin, cos) = (i as f64 / n * std::f64::consts::TAU).sin_cos();
                    LonLat { lon: lon + r * cos * 0.001, lat: lat + r * sin * 0.001 }
                }).collect()
            };
            let a = star(radii.iter().map(|r| r.0).collect(), 113.0, 34.0);
            let b = star(radii.iter().map(|r| r.1).collect(), 113.0 + dx * 0.001, 34.0 + dy * 0.001);
            let cell = |ring: &Vec<LonLat>| Cell {
                code: "1".into(),
                polygons: vec![vec![ring.clone()]],
                extent: ring.iter().fold(Extent::EMPTY, |e, p| e.including(*p)),
            };
            let polygon = |ring: &Vec<LonLat>| oriented(&vec![ring.clone()]).unwrap();
            let found = border::intersection(&cell(&a), &cell(&b)).map_or(0.0, |c| c.area_m2);
            let square_degrees = polygon(&a).intersection(&polygon(&b)).unsigned_area();
            let (unit_lon, unit_lat) = LocalPlane::at(LonLat { lon: 113.0, lat: 34.0 }).degrees(1.0);
            let truth = square_degrees / unit_lon / unit_lat;
            // The boolean operation snaps to a grid, and its metres are those of another latitude.
            prop_assert!((found - truth).abs() < 0.5 + truth * 1e-3, "{found} {truth}");
        }
    }
}
