//! Enclosed ground that belongs to no cell: the holes in the union of all cells.
//!
//! It is found here and not in the engine, which works without it: the union of polygons needs a geometry library that
//! takes longer to compile than the engine.

use geo::{
    Area, BoundingRect, Contains, InteriorPoint, LineString, MapCoords, Winding,
    algorithm::{unary_union, winding_order::WindingOrder},
};

use gridwatch_base::{message, message::Message};
use gridwatch_engine::{
    LonLat,
    geometry::LocalPlane,
    grid::{Grid, Polygon, Slivers, is_sliver},
};

/// Areas below this are rounding, square metres: borders with corners on one side only are off by micrometres.
const ROUNDING_M2: f64 = 0.01;

/// Enclosed ground that belongs to no cell; nothing there is filed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gap {
    /// Area, square metres.
    pub(super) area_m2: f64,
    /// A point in it.
    pub(super) at: LonLat,
}

impl Gap {
    /// Where it is and how large.
    pub(super) fn message(&self) -> Message {
        let LonLat { lon, lat } = self.at;
        message!(
            "no cell covers {area} m² at [{lon}, {lat}]",
            area = format!("{:.0}", self.area_m2),
            lon = format!("{lon:.6}"),
            lat = format!("{lat:.6}")
        )
    }
}

/// The gaps of a grid.
#[derive(Debug, Default, PartialEq)]
pub(super) struct GridGaps {
    /// The largest first.
    pub(super) gaps: Vec<Gap>,
    /// Those too thin or too small to matter, from rounded borders.
    pub(super) slivers: Slivers,
}

/// Finds all gaps. Takes a second for 100,000 cells (see docs/performance.md).
pub(super) fn find(grid: &Grid) -> GridGaps {
    let polygons: Vec<geo::Polygon> = grid.polygons().filter_map(oriented).collect();
    let islands = unary_union(&polygons);
    let mut found = GridGaps::default();
    for (i, island) in islands.iter().enumerate() {
        let others = || islands.iter().enumerate().filter(move |(other, _)| *other != i);
        for hole in island.interiors() {
            // Cells that stand apart inside the hole are not part of the gap.
            let around = geo::Polygon::new(hole.clone(), Vec::new());
            let within = others()
                .map(|(_, other)| other.exterior())
                .filter(|ring| ring.0.first().is_some_and(|corner| around.contains(corner)));
            let gap = geo::Polygon::new(hole.clone(), within.cloned().collect());
            if let Some((gap, width_m)) = measure(&gap).filter(|(gap, _)| gap.area_m2 >= ROUNDING_M2) {
                if is_sliver(gap.area_m2, width_m) {
                    found.slivers.add(gap.area_m2, gap.at);
                } else {
                    found.gaps.push(gap);
                }
            }
        }
    }
    found.gaps.sort_by(|a, b| b.area_m2.total_cmp(&a.area_m2));
    found
}

/// The gap and its mean width in metres; `None` for a ring without corners.
fn measure(gap: &geo::Polygon) -> Option<(Gap, f64)> {
    let bounds = gap.bounding_rect()?;
    let centre = bounds.center();
    let centre = LonLat {
        lon: centre.x,
        lat: centre.y,
    };
    let plane = LocalPlane::at(centre);
    let in_metres = gap.map_coords(|c| plane.metres(LonLat { lon: c.x, lat: c.y }).into());
    let area_m2 = in_metres.unsigned_area();
    let (unit_lon, unit_lat) = plane.degrees(1.0);
    let diagonal_m = (bounds.width() / unit_lon).hypot(bounds.height() / unit_lat);
    let at = gap
        .interior_point()
        .map_or(centre, |p| LonLat { lon: p.x(), lat: p.y() });
    Some((Gap { area_m2, at }, area_m2 / diagonal_m))
}

/// Outline counter-clockwise, holes clockwise, because the union counts winding numbers.
fn oriented(rings: &Polygon) -> Option<geo::Polygon> {
    let ring = |corners: &Vec<LonLat>, order| {
        let mut ring = LineString::from_iter(corners.iter().map(|p| (p.lon, p.lat)));
        ring.close();
        ring.make_winding_order(order);
        ring
    };
    let (outline, holes) = rings.split_first()?;
    let holes = holes.iter().map(|hole| ring(hole, WindingOrder::Clockwise)).collect();
    Some(geo::Polygon::new(ring(outline, WindingOrder::CounterClockwise), holes))
}

#[cfg(test)]
mod tests {
    use geo::BooleanOps;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use gridwatch_engine::grid::GridSpec;

    use super::*;

    /// A grid whose cells have these polygons.
    fn grid(cells: &[Value]) -> Grid {
        let features: Vec<Value> = cells
            .iter()
            .enumerate()
            .map(|(n, rings)| {
                json!({
                    "type": "Feature",
                    "properties": {"code": format!("410105001{n:06}")},
                    "geometry": {"type": "Polygon", "coordinates": rings},
                })
            })
            .collect();
        let file = json!({
            "type": "FeatureCollection",
            "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4490"}},
            "features": features,
        });
        let spec = GridSpec {
            crs: "EPSG:4490".into(),
            code_property: "code".into(),
            code_pattern: r"^\d{15}$".into(),
        };
        Grid::parse(&file.to_string(), &spec).unwrap()
    }

    /// A rectangle from its south-west corner, closed.
    fn ring(lon: f64, lat: f64, width: f64, height: f64) -> Value {
        json!([
            [lon, lat],
            [lon + width, lat],
            [lon + width, lat + height],
            [lon, lat + height],
            [lon, lat]
        ])
    }

    #[test]
    fn enclosed_ground_without_a_cell_is_a_gap() {
        // Nine cells without the middle one and one at the rim: a bay, not a gap.
        let cells: Vec<Value> = (0..9)
            .filter(|n| ![1, 4].contains(n))
            .map(|n| {
                let (lon, lat) = (113.0 + f64::from(n % 3) * 0.001, 34.0 + f64::from(n / 3) * 0.001);
                json!([ring(lon, lat, 0.001, 0.001)])
            })
            .collect();
        assert_eq!(find(&grid(&cells)), GridGaps::default(), "open to the south");
        let mut closed = cells.clone();
        closed.push(json!([ring(113.001, 34.0, 0.001, 0.0009)]));
        let found = find(&grid(&closed));
        let [gap] = &found.gaps[..] else { panic!("{found:?}") };
        assert!((gap.area_m2 - 11_264.0).abs() < 50.0, "{gap:?}");
        assert!(
            (113.001..113.002).contains(&gap.at.lon) && (34.0009..34.002).contains(&gap.at.lat),
            "{gap:?}"
        );
        // A cell inside the gap takes its part of it.
        closed.push(json!([ring(113.0012, 34.0012, 0.0006, 0.0006)]));
        let less = find(&grid(&closed));
        assert!((less.gaps[0].area_m2 - (gap.area_m2 - 3686.0)).abs() < 20.0, "{less:?}");
    }

    #[test]
    fn a_hole_that_another_cell_fills_is_no_gap() {
        let inner = ring(113.001, 34.001, 0.001, 0.001);
        let outer = json!([ring(113.0, 34.0, 0.003, 0.003), inner]);
        assert_eq!(find(&grid(&[outer.clone(), json!([inner])])), GridGaps::default());
        assert_eq!(find(&grid(&[outer])).gaps.len(), 1);
    }

    #[test]
    fn a_gap_from_rounded_borders_is_a_sliver() {
        let cells = [
            ring(113.0, 34.0, 0.003, 0.001),
            ring(113.0, 34.001, 0.001, 0.001),
            ring(113.001_001, 34.001, 0.001_999, 0.001),
            ring(113.0, 34.002, 0.003, 0.001),
        ];
        let found = find(&grid(&cells.map(|ring| json!([ring]))));
        assert_eq!((found.gaps.len(), found.slivers.count), (0, 1), "{found:?}");
        assert!((found.slivers.area_m2 - 10.2).abs() < 0.2, "{found:?}");
    }

    /// Measures a figure in docs/performance.md: `cargo test -p gridwatch-config --lib gaps_at_scale -- --ignored
    /// --nocapture`.
    #[test]
    #[ignore = "takes seconds and asserts nothing about time"]
    #[allow(clippy::disallowed_methods, reason = "measures time")]
    fn gaps_at_scale() {
        let corner = |column: usize, row: usize| {
            let (x, y) = (column as f64, row as f64);
            [
                113.0 + x * 0.001 + y * 0.000_2 + (y * 1.7).sin() * 0.000_1,
                34.0 + y * 0.001 - x * 0.000_15,
            ]
        };
        let cells: Vec<Value> = (0..400 * 250)
            .map(|n| {
                let (c, r) = (n % 400, n / 400);
                let (a, b, d, e) = (corner(c, r), corner(c + 1, r), corner(c + 1, r + 1), corner(c, r + 1));
                let half = [f64::midpoint(a[0], b[0]), f64::midpoint(a[1], b[1])];
                json!([[a, half, b, d, e, a]])
            })
            .collect();
        let grid = grid(&cells);
        let start = std::time::Instant::now();
        let found = find(&grid);
        println!("gaps of {} cells: {:?}", grid.len(), start.elapsed());
        assert!(found.gaps.is_empty(), "{found:?}");
    }

    proptest! {
        /// The engine computes the ground that two cells share on its own.
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
            let rings = |ring: &[LonLat]| {
                let closed = ring.iter().chain(ring.first());
                json!([closed.map(|p| [p.lon, p.lat]).collect::<Vec<_>>()])
            };
            let defects = grid(&[rings(&a), rings(&b)]).check();
            let found = defects.overlaps.iter().map(|o| o.area_m2).sum::<f64>() + defects.overlap_slivers.area_m2;
            let polygon = |ring: &[LonLat]| oriented(&vec![ring.to_vec()]).unwrap();
            let square_degrees = polygon(&a).intersection(&polygon(&b)).unsigned_area();
            let (unit_lon, unit_lat) = LocalPlane::at(LonLat { lon: 113.0, lat: 34.0 }).degrees(1.0);
            let truth = square_degrees / unit_lon / unit_lat;
            // The boolean operation snaps to a grid, and its metres are those of another latitude.
            prop_assert!((found - truth).abs() < 0.5 + truth * 1e-3, "{found} {truth}");
        }
    }
}
