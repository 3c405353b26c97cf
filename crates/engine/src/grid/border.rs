//! What two cells have in common along their border: area, length, distance. Plane geometry in degrees that are scaled to
//! metres at the border; a cell is some hundred metres, where that is exact enough by far.

use super::{Cell, Extent, LocalPlane, LonLat};

/// Thinner than this is how floats round, not how maps are drawn: metres.
const ROUNDING_M: f64 = 1e-3;

/// From its lower to its upper end, whichever way its ring runs: a shared edge is the same from both sides.
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

    /// Where it and `other` cross, each going past the other by more than `depth` degrees.
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

    /// Metres between the two, 0 where they cross; `plane` lies near them.
    fn distance_m(&self, other: &Self, plane: &LocalPlane) -> f64 {
        if self.crossing(other, 0.0).is_some() {
            return 0.0;
        }
        let to = |p: LonLat, e: &Self| {
            let ((px, py), (ax, ay), (bx, by)) = (plane.metres(p), plane.metres(e.low), plane.metres(e.high));
            let (dx, dy) = (bx - ax, by - ay);
            let along = (((px - ax) * dx + (py - ay) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
            // An edge without length gives NaN: then its end is meant.
            let along = if along.is_nan() { 0.0 } else { along };
            (ax + along * dx - px).hypot(ay + along * dy - py)
        };
        to(other.low, self)
            .min(to(other.high, self))
            .min(to(self.low, other))
            .min(to(self.high, other))
    }
}

/// The edges of a ring, its closing one included.
pub(super) fn edges(ring: &[LonLat]) -> impl Iterator<Item = Edge> {
    let next = ring.iter().cycle().skip(1);
    ring.iter().zip(next).map(|(a, b)| Edge::new(*a, *b))
}

fn edges_within(cell: &Cell, window: Extent) -> Vec<Edge> {
    let all = cell.polygons.iter().flatten().flat_map(|ring| edges(ring));
    all.filter(|e| e.extent().intersects(&window)).collect()
}

/// Ground that two cells claim.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Intersection {
    pub(super) area_m2: f64,
    /// Its mean width: its area by the diagonal of what holds it, metres.
    pub(super) width_m: f64,
    /// A place in it.
    pub(super) at: LonLat,
}

/// The ground that both cells hold by the even-odd rule; `None` for none, and for less than floats can tell.
///
/// The plane is cut at every latitude where an edge begins, ends or is crossed by one of the other cell. Between two cuts the
/// length that both hold grows linearly, so its value in the middle times the height is the area exactly.
pub(super) fn intersection(a: &Cell, b: &Cell) -> Option<Intersection> {
    let window = a.extent.intersection(&b.extent);
    let plane = LocalPlane::at(window.centre());
    let (unit_lon, unit_lat) = plane.degrees(1.0);
    if window.east - window.west < ROUNDING_M * unit_lon || window.north - window.south < ROUNDING_M * unit_lat {
        return None;
    }
    // Edges beside the window count too: only all that a latitude crosses say between which of them a cell lies.
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

/// The longitudes at which edges cross a latitude that is no end of any of them, from the west.
fn crossing_lons(edges: &[Edge], lat: f64, lons: &mut Vec<f64>) {
    lons.clear();
    let cut = edges.iter().filter(|e| e.low.lat < lat && lat < e.high.lat);
    lons.extend(cut.map(|e| e.lon_at(lat)));
    lons.sort_unstable_by(f64::total_cmp);
}

/// What two lists of pairs (from, to) have in common, in order.
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

/// True where the borders of the cells come within `reach_m` of each other.
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
