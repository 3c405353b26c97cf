//! Shared area, and distance, of two cells along their border. Plane geometry in degrees scaled to metres at the
//! border; cells are a few hundred metres across, where that is exact enough.

use super::{Cell, Extent, LocalPlane, LonLat};

/// Widths below this are floating-point rounding, metres.
const ROUNDING_M: f64 = 1e-3;

/// An edge from its lower to its upper end, whichever way the ring runs, so that a shared edge is identical from both
/// sides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    low: LonLat,
    high: LonLat,
}

impl Edge {
    fn new(a: LonLat, b: LonLat) -> Self {
        if (a.lat, a.lon) <= (b.lat, b.lon) {
            Self { low: a, high: b }
        } else {
            Self { low: b, high: a }
        }
    }

    pub(super) fn extent(&self) -> Extent {
        Extent::EMPTY.including(self.low).including(self.high)
    }

    /// Its longitude at a latitude between its ends.
    fn lon_at(&self, lat: f64) -> f64 {
        let along = (lat - self.low.lat) / (self.high.lat - self.low.lat);
        self.low.lon + along * (self.high.lon - self.low.lon)
    }

    /// Where it and `other` cross, if each extends past the other by more than `depth` degrees.
    pub(super) fn crossing(&self, other: &Self, depth: f64) -> Option<LonLat> {
        let off = |e: &Self, p: LonLat| {
            let (dx, dy) = (e.high.lon - e.low.lon, e.high.lat - e.low.lat);
            (dx * (p.lat - e.low.lat) - dy * (p.lon - e.low.lon)) / dx.hypot(dy)
        };
        let (a, b) = (off(self, other.low), off(self, other.high));
        let (c, d) = (off(other, self.low), off(other, self.high));
        let passes = |x: f64, y: f64| (x > depth && y < -depth) || (x < -depth && y > depth);
        (passes(a, b) && passes(c, d)).then(|| {
            let along = c / (c - d);
            LonLat {
                lon: self.low.lon + along * (self.high.lon - self.low.lon),
                lat: self.low.lat + along * (self.high.lat - self.low.lat),
            }
        })
    }

    /// Distance to `other` in metres, 0 if they cross; `plane` is close to both.
    fn distance_m(&self, other: &Self, plane: &LocalPlane) -> f64 {
        if self.crossing(other, 0.0).is_some() {
            return 0.0;
        }
        let to = |p: LonLat, e: &Self| {
            let ((px, py), (ax, ay), (bx, by)) = (plane.metres(p), plane.metres(e.low), plane.metres(e.high));
            let (dx, dy) = (bx - ax, by - ay);
            let along = (((px - ax) * dx + (py - ay) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
            // A zero-length edge gives NaN; use its end.
            let along = if along.is_nan() { 0.0 } else { along };
            (ax + along * dx - px).hypot(ay + along * dy - py)
        };
        to(other.low, self)
            .min(to(other.high, self))
            .min(to(self.low, other))
            .min(to(self.high, other))
    }
}

/// The edges of a ring, including the closing one.
pub(super) fn edges(ring: &[LonLat]) -> impl Iterator<Item = Edge> {
    let next = ring.iter().cycle().skip(1);
    ring.iter().zip(next).map(|(a, b)| Edge::new(*a, *b))
}

fn edges_within(cell: &Cell, window: Extent) -> Vec<Edge> {
    let all = cell.polygons.iter().flatten().flat_map(|ring| edges(ring));
    all.filter(|e| e.extent().intersects(&window)).collect()
}

/// The ground that two cells share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Intersection {
    pub(super) area_m2: f64,
    /// Mean width: area divided by the diagonal of its extent, metres.
    pub(super) width_m: f64,
    /// A point in it.
    pub(super) at: LonLat,
}

/// The ground that both cells contain by the even-odd rule; `None` if there is none beyond rounding.
///
/// The plane is cut at every latitude where an edge begins, ends or crosses an edge of the other cell. Between two cuts
/// the shared length is linear, so its value at mid-height times the height is the exact area.
pub(super) fn intersection(a: &Cell, b: &Cell) -> Option<Intersection> {
    let window = a.extent.intersection(&b.extent);
    let plane = LocalPlane::at(window.centre());
    let (unit_lon, unit_lat) = plane.degrees(1.0);
    if window.east - window.west < ROUNDING_M * unit_lon || window.north - window.south < ROUNDING_M * unit_lat {
        return None;
    }
    // Edges east and west of the window count too: inside and outside follow from all edges that a latitude crosses.
    let band = Extent {
        west: f64::NEG_INFINITY,
        east: f64::INFINITY,
        ..window
    };
    let of_a = edges_within(a, band);
    let of_b = edges_within(b, band);
    let mut cuts = vec![window.south, window.north];
    let ends = of_a.iter().chain(&of_b).flat_map(|e| [e.low.lat, e.high.lat]);
    cuts.extend(ends.filter(|lat| (window.south..window.north).contains(lat)));
    for e in &of_a {
        let extent = e.extent();
        let met = of_b.iter().filter(|f| f.extent().intersects(&extent));
        cuts.extend(met.filter_map(|f| Some(e.crossing(f, 0.0)?.lat)));
    }
    cuts.sort_unstable_by(f64::total_cmp);
    cuts.dedup();
    let mut held = Extent::EMPTY;
    let mut thickest = (0.0, window.centre());
    let mut area_m2 = 0.0;
    let (mut lons_a, mut lons_b) = (Vec::new(), Vec::new());
    for cut in cuts.windows(2) {
        let (south, north) = (cut[0], cut[1]);
        let lat = f64::midpoint(south, north);
        if lat <= south || lat >= north {
            continue;
        }
        let height_m = (north - south) / unit_lat;
        crossing_lons(&of_a, lat, &mut lons_a);
        crossing_lons(&of_b, lat, &mut lons_b);
        for (west, east) in intersect_spans(&lons_a, &lons_b) {
            let length_m = (east - west) / unit_lon;
            if length_m < ROUNDING_M {
                continue;
            }
            let piece = length_m * height_m;
            area_m2 += piece;
            held = held
                .including(LonLat { lon: west, lat: south })
                .including(LonLat { lon: east, lat: north });
            if piece > thickest.0 {
                let lon = f64::midpoint(west, east);
                thickest = (piece, LonLat { lon, lat });
            }
        }
    }
    let diagonal_m = ((held.east - held.west) / unit_lon).hypot((held.north - held.south) / unit_lat);
    let width_m = area_m2 / diagonal_m;
    (area_m2 > 0.0 && width_m > ROUNDING_M).then_some(Intersection {
        area_m2,
        width_m,
        at: thickest.1,
    })
}

/// Longitudes, from the west, at which edges cross a latitude that is not an end of any of them.
fn crossing_lons(edges: &[Edge], lat: f64, lons: &mut Vec<f64>) {
    lons.clear();
    let cut = edges.iter().filter(|e| e.low.lat < lat && lat < e.high.lat);
    lons.extend(cut.map(|e| e.lon_at(lat)));
    lons.sort_unstable_by(f64::total_cmp);
}

/// The intersection of two ordered lists of spans (from, to).
fn intersect_spans<'a>(a: &'a [f64], b: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    let (a, _) = a.as_chunks::<2>();
    let (b, _) = b.as_chunks::<2>();
    a.iter().flat_map(move |[a1, a2]| {
        b.iter().filter_map(move |[b1, b2]| {
            let (from, to) = (a1.max(*b1), a2.min(*b2));
            (from < to).then_some((from, to))
        })
    })
}

/// True if the borders of the cells come within `reach_m` of each other.
pub(super) fn are_within(a: &Cell, b: &Cell, reach_m: f64) -> bool {
    let window = a.extent.intersection(&b.extent);
    let plane = LocalPlane::at(window.centre());
    let (lon, lat) = plane.degrees(reach_m);
    let window = window.expanded(lon, lat);
    let of_b = edges_within(b, window);
    edges_within(a, window).iter().any(|e| {
        let around = e.extent().expanded(lon, lat);
        let near = of_b.iter().filter(|f| f.extent().intersects(&around));
        near.into_iter().any(|f| e.distance_m(f, &plane) <= reach_m)
    })
}
