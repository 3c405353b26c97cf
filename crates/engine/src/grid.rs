//! The city's unit grid cells: parsed once, looked up for every candidate.
//!
//! Cells are polygons with a code, taken from the city's file unchanged; nothing here generates a lattice or converts
//! between reference systems. A file that does not state its system is rejected, because the wrong one is off by 50–500
//! m and looks right.

mod border;
mod check;
mod neighbours;
mod quoted;
mod stored;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use geojson::{FeatureCollection, GeometryValue, Position};
use regex_lite::Regex;

use super::{
    geometry::{Crs, LocalPlane, Side, side_of},
    types::{CellCode, LonLat},
};

pub use check::{GridDefects, Overlap, RingFault, Slivers, is_sliver};
pub use neighbours::CellIndex;
use neighbours::Neighbours;

/// What a grid file must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridSpec {
    /// The CRS the file must state: `EPSG:4490` or `EPSG:4326`, short or as a URN.
    pub crs: String,
    /// The property that holds a cell's code.
    pub code_property: String,
    /// Regular expression that every code must match; `\d` is the ten ASCII digits.
    pub code_pattern: String,
}

/// A fault in a grid file. The message says where and what to do. Features are counted from 0, as in a JSON path.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GridFault {
    /// Not JSON, or not a FeatureCollection.
    #[error("not a GeoJSON FeatureCollection: {0}")]
    NotGeoJson(String),
    /// The configured CRS is not one that the grid may be in.
    #[error("unsupported crs {configured:?}: convert the grid and state EPSG:4490 or EPSG:4326")]
    CrsUnsupported {
        /// The configured CRS.
        configured: String,
    },
    /// RFC 7946 dropped the `crs` member, so many exports lack it; a Chinese file may then be in GCJ-02.
    #[error(
        "the file does not state its CRS: ask its owner which one it uses, then add \
         \"crs\": {{\"type\": \"name\", \"properties\": {{\"name\": \"{expected}\"}}}} beside \"type\": \"FeatureCollection\""
    )]
    CrsUnstated {
        /// The configured CRS.
        expected: String,
    },
    /// The file and the configuration disagree.
    #[error(
        "the file states {stated:?} but the configuration {expected:?}: convert the file or correct the configuration"
    )]
    CrsDiffers {
        /// The CRS that the file states.
        stated: String,
        /// The configured CRS.
        expected: String,
    },
    /// The configured code pattern is not a valid regular expression.
    #[error("code_pattern `{pattern}` is not a valid regular expression: {detail}")]
    BadPattern {
        /// The configured pattern.
        pattern: String,
        /// What is wrong with it.
        detail: String,
    },
    /// No features.
    #[error("the file contains no cells: export the unit cells as polygons")]
    Empty,
    /// One feature is not a cell.
    #[error("features[{feature}]{}: {fault}", CodeSuffix(.code))]
    Cell {
        /// Its index in `features`.
        feature: usize,
        /// Its code, if it has one.
        code: Option<String>,
        /// What is wrong with it.
        fault: CellFault,
    },
}

struct CodeSuffix<'a>(&'a Option<String>);

impl fmt::Display for CodeSuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |code| write!(f, " (code {code:?})"))
    }
}

/// Why a feature is not a cell.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CellFault {
    /// The code property is missing.
    #[error("no property {property:?}: name the one that holds the code in code_property")]
    NoCode {
        /// The configured property.
        property: String,
    },
    /// The code is not a string. A number loses leading zeros, and digits past 2⁵³.
    #[error("property {property:?} is {found}, but a code must be a string: export it as text")]
    CodeNotText {
        /// The configured property.
        property: String,
        /// Its value.
        found: String,
    },
    /// The code does not match the pattern.
    #[error("the code does not match `{pattern}`: correct the code, or code_pattern")]
    CodeForm {
        /// The configured pattern.
        pattern: String,
    },
    /// Two cells with the same code.
    #[error("features[{first}] has the same code: merge the two into a MultiPolygon, or correct one")]
    Duplicate {
        /// Index of the earlier one.
        first: usize,
    },
    /// Neither a polygon nor a multipolygon.
    #[error("the geometry is {found}; a cell must be a Polygon or a MultiPolygon")]
    NotAPolygon {
        /// The geometry's type.
        found: String,
    },
    /// Fewer than three corners.
    #[error(
        "polygon {polygon}, ring {ring} has {positions} positions; a ring needs 4 or more, the last equal to the first"
    )]
    RingTooShort {
        /// Index of the polygon.
        polygon: usize,
        /// Index of the ring; 0 is the outline.
        ring: usize,
        /// Number of positions.
        positions: usize,
    },
    /// The last position differs from the first.
    #[error("polygon {polygon}, ring {ring} is not closed: repeat its first position at its end")]
    RingOpen {
        /// Index of the polygon.
        polygon: usize,
        /// Index of the ring.
        ring: usize,
    },
    /// A position that is not a longitude and latitude.
    #[error(
        "polygon {polygon}, ring {ring} has the position {position}, which is not [lon, lat] in degrees: the order may be \
         swapped, or the file projected to metres"
    )]
    OutOfRange {
        /// Index of the polygon.
        polygon: usize,
        /// Index of the ring.
        ring: usize,
        /// The position.
        position: String,
    },
}

/// A bounding rectangle in longitude and latitude.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Extent {
    west: f64,
    south: f64,
    east: f64,
    north: f64,
}

impl Extent {
    const EMPTY: Self = Self {
        west: f64::INFINITY,
        south: f64::INFINITY,
        east: f64::NEG_INFINITY,
        north: f64::NEG_INFINITY,
    };

    /// The extent of all corners.
    fn of(polygons: &[Polygon]) -> Self {
        let corners = polygons.iter().flatten().flatten();
        corners.fold(Self::EMPTY, |extent, p| extent.including(*p))
    }

    fn including(self, p: LonLat) -> Self {
        Self {
            west: self.west.min(p.lon),
            south: self.south.min(p.lat),
            east: self.east.max(p.lon),
            north: self.north.max(p.lat),
        }
    }

    /// The common part; inverted if there is none.
    fn intersection(&self, other: &Self) -> Self {
        Self {
            west: self.west.max(other.west),
            south: self.south.max(other.south),
            east: self.east.min(other.east),
            north: self.north.min(other.north),
        }
    }

    /// Expanded on every side, degrees.
    fn expanded(&self, lon: f64, lat: f64) -> Self {
        Self {
            west: self.west - lon,
            south: self.south - lat,
            east: self.east + lon,
            north: self.north + lat,
        }
    }

    fn centre(&self) -> LonLat {
        LonLat {
            lon: f64::midpoint(self.west, self.east),
            lat: f64::midpoint(self.south, self.north),
        }
    }

    fn intersects(&self, other: &Self) -> bool {
        self.west <= other.east && other.west <= self.east && self.south <= other.north && other.south <= self.north
    }
}

/// Rings without the repeated last position: the outline, then the holes.
pub type Polygon = Vec<Vec<LonLat>>;

#[derive(Debug, Clone, PartialEq)]
struct Cell {
    code: CellCode,
    polygons: Vec<Polygon>,
    extent: Extent,
}

impl Cell {
    fn contains(&self, at: LonLat) -> bool {
        self.polygons.iter().any(|polygon| {
            let (Some(outline), holes) = (polygon.first(), polygon.iter().skip(1)) else {
                return false;
            };
            match side_of(outline, at) {
                Side::Outside => false,
                Side::Edge => true,
                Side::Inside => !holes.clone().any(|hole| side_of(hole, at) == Side::Inside),
            }
        })
    }

    /// Metres from the origin of `plane` to the nearest edge.
    fn edge_distance_m(&self, plane: &LocalPlane) -> f64 {
        let rings = self.polygons.iter().flatten();
        rings.fold(f64::INFINITY, |nearest, ring| {
            let Some(last) = ring.last() else {
                return nearest;
            };
            let mut from = plane.metres(*last);
            ring.iter().fold(nearest, |nearest, corner| {
                let to = plane.metres(*corner);
                let (dx, dy) = (to.0 - from.0, to.1 - from.1);
                // Where on the edge the point nearest to the origin lies: 0 at `from`, 1 at `to`.
                let along = (-(from.0 * dx + from.1 * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
                // A zero-length edge gives NaN; use its corner.
                let along = if along.is_nan() { 0.0 } else { along };
                let distance = (from.0 + along * dx).hypot(from.1 + along * dy);
                from = to;
                nearest.min(distance)
            })
        })
    }
}

/// The city's cells, by code, with a uniform bucket index over longitude and latitude.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Sorted by code, so that the lowest index has the lowest code.
    cells: Arc<Vec<Cell>>,
    extent: Extent,
    columns: usize,
    rows: usize,
    /// Bucket `b` contains `in_buckets[starts[b]..starts[b + 1]]`, ascending.
    starts: Arc<Vec<u32>>,
    in_buckets: Arc<Vec<u32>>,
    /// Computed on first use.
    neighbours: OnceLock<Arc<Neighbours>>,
}

/// Two grids are the same if their cells are.
impl PartialEq for Grid {
    fn eq(&self, other: &Self) -> bool {
        self.cells == other.cells
    }
}

/// Maximum buckets per side: 1024² starts are 4 MiB, enough for one bucket per cell in a city of a million cells.
const MAX_BUCKETS: usize = 1024;

impl Grid {
    /// Parses the city's grid.
    ///
    /// # Errors
    /// All faults of the file, in its order; faults that concern the file as a whole are returned alone.
    pub fn parse(geojson: &str, spec: &GridSpec) -> Result<Self, Vec<GridFault>> {
        let mut faults = Vec::new();
        // Only systems that a case can state: cells in GCJ-02 or in metres must be converted by the city.
        let expected = spec
            .crs
            .parse()
            .ok()
            .filter(|crs| matches!(crs, Crs::Cgcs2000 | Crs::Wgs84));
        if expected.is_none() {
            faults.push(GridFault::CrsUnsupported {
                configured: spec.crs.clone(),
            });
        }
        let pattern = Regex::new(&spec.code_pattern);
        if let Err(e) = &pattern {
            faults.push(GridFault::BadPattern {
                pattern: spec.code_pattern.clone(),
                detail: e.to_string(),
            });
        }
        let file: FeatureCollection = match geojson.parse() {
            Ok(file) => file,
            Err(e) => {
                faults.push(GridFault::NotGeoJson(quoted::without_values(&e.to_string())));
                return Err(faults);
            }
        };
        match stated_crs(&file) {
            None => faults.push(GridFault::CrsUnstated {
                expected: spec.crs.clone(),
            }),
            Some(stated) if expected.is_some() && stated.parse().ok() != expected => {
                faults.push(GridFault::CrsDiffers {
                    stated,
                    expected: spec.crs.clone(),
                });
            }
            Some(_) => {}
        }
        if file.features.is_empty() {
            faults.push(GridFault::Empty);
        }
        let (Ok(pattern), true) = (pattern, faults.is_empty()) else {
            return Err(faults);
        };
        let mut cells: BTreeMap<CellCode, (usize, Cell)> = BTreeMap::new();
        for (feature, geo) in file.features.iter().enumerate() {
            let fault = |code: Option<&str>, fault| GridFault::Cell {
                feature,
                code: code.map(Into::into),
                fault,
            };
            let code = match read_code(geo, spec, &pattern) {
                Ok(code) => code,
                Err(e) => {
                    let code = geo.property(&spec.code_property).and_then(|v| v.as_str());
                    faults.push(fault(code, e));
                    continue;
                }
            };
            if let Some((first, _)) = cells.get(&code) {
                faults.push(fault(Some(code.as_str()), CellFault::Duplicate { first: *first }));
                continue;
            }
            match read_polygons(geo) {
                Ok(polygons) => {
                    let extent = Extent::of(&polygons);
                    cells.insert(code.clone(), (feature, Cell { code, polygons, extent }));
                }
                Err(found) => faults.extend(found.into_iter().map(|f| fault(Some(code.as_str()), f))),
            }
        }
        if faults.is_empty() {
            Ok(Self::indexed(cells.into_values().map(|(_, cell)| cell).collect()))
        } else {
            Err(faults)
        }
    }

    fn indexed(cells: Vec<Cell>) -> Self {
        let extent = cells.iter().fold(Extent::EMPTY, |all, c| Extent {
            west: all.west.min(c.extent.west),
            south: all.south.min(c.extent.south),
            east: all.east.max(c.extent.east),
            north: all.north.max(c.extent.north),
        });
        // About one bucket per cell, so that a bucket contains only a few cells.
        let side = ((cells.len() as f64).sqrt().ceil() as usize).clamp(1, MAX_BUCKETS);
        let mut grid = Self {
            cells: Arc::new(cells),
            extent,
            columns: side,
            rows: side,
            starts: Arc::default(),
            in_buckets: Arc::default(),
            neighbours: OnceLock::new(),
        };
        let mut buckets = vec![Vec::new(); side * side];
        for (index, cell) in (0..).zip(&*grid.cells) {
            for bucket in grid.buckets(&cell.extent) {
                buckets[bucket].push(index);
            }
        }
        let (mut starts, mut in_buckets) = (vec![0], Vec::new());
        for bucket in buckets {
            in_buckets.extend(bucket);
            starts.push(in_buckets.len() as u32);
        }
        (grid.starts, grid.in_buckets) = (Arc::new(starts), Arc::new(in_buckets));
        grid
    }

    /// The buckets that `extent` intersects. Float casts saturate, so anything outside falls into the outermost bucket.
    fn buckets(&self, extent: &Extent) -> impl Iterator<Item = usize> + use<> {
        let place = |at: f64, from: f64, to: f64, count: usize| {
            ((((at - from) / (to - from)) * count as f64) as usize).min(count - 1)
        };
        let all = self.extent;
        let columns =
            place(extent.west, all.west, all.east, self.columns)..=place(extent.east, all.west, all.east, self.columns);
        let rows =
            place(extent.south, all.south, all.north, self.rows)..=place(extent.north, all.south, all.north, self.rows);
        let width = self.columns;
        rows.flat_map(move |row| columns.clone().map(move |column| row * width + column))
    }

    fn cells_intersecting(&self, extent: Extent) -> impl Iterator<Item = usize> {
        let buckets = extent
            .intersects(&self.extent)
            .then(|| self.buckets(&extent))
            .into_iter()
            .flatten();
        buckets
            .flat_map(|b| &self.in_buckets[self.starts[b] as usize..self.starts[b + 1] as usize])
            .map(|index| *index as usize)
            .filter(move |index| self.cells[*index].extent.intersects(&extent))
    }

    /// The cell that contains `at`. On a shared edge, and where cells overlap, the lowest code wins.
    pub fn cell_of(&self, at: LonLat) -> Option<&CellCode> {
        self.cell_index_at(at).map(|index| &self.cells[index].code)
    }

    fn cell_index_at(&self, at: LonLat) -> Option<usize> {
        // A point lies in one bucket, whose cells are in order.
        self.cells_intersecting(Extent::EMPTY.including(at))
            .find(|index| self.cells[*index].contains(at))
    }

    /// The cells that contain `at` or come within `radius_m` of it, in order of their codes.
    pub fn cells_within(&self, at: LonLat, radius_m: f64) -> Vec<&CellCode> {
        let plane = LocalPlane::at(at);
        let around = Extent::EMPTY
            .including(plane.lon_lat(-radius_m, -radius_m))
            .including(plane.lon_lat(radius_m, radius_m));
        let mut near: Vec<usize> = self.cells_intersecting(around).collect();
        near.sort_unstable();
        near.dedup();
        near.into_iter()
            .map(|index| &self.cells[index])
            .filter(|cell| cell.contains(at) || cell.edge_distance_m(&plane) <= radius_m)
            .map(|cell| &cell.code)
            .collect()
    }

    /// Each pair of cells whose extents come within `reach_m` of each other: a few per cell. Lower index first, in
    /// order.
    fn near_pairs(&self, reach_m: f64) -> impl Iterator<Item = (usize, usize)> {
        self.cells.iter().enumerate().flat_map(move |(index, cell)| {
            let (lon, lat) = LocalPlane::at(cell.extent.centre()).degrees(reach_m);
            let around = self.cells_intersecting(cell.extent.expanded(lon, lat));
            let mut near: Vec<usize> = around.filter(|other| *other > index).collect();
            near.sort_unstable();
            near.dedup();
            near.into_iter().map(move |other| (index, other))
        })
    }

    /// The polygons of all cells, in order of the codes.
    pub fn polygons(&self) -> impl Iterator<Item = &Polygon> {
        self.cells.iter().flat_map(|cell| &cell.polygons)
    }

    /// The polygons of the cell with this code; none if there is no such cell.
    pub fn polygons_of(&self, code: &CellCode) -> &[Polygon] {
        let found = self.cells.binary_search_by(|cell| cell.code.cmp(code));
        found.map_or(&[], |index| &self.cells[index].polygons)
    }

    /// Number of cells; never 0 for a parsed grid.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// True if there are no cells.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }
}

/// The name in the `crs` member of the GeoJSON 2008 specification, §3.1.
fn stated_crs(file: &FeatureCollection) -> Option<String> {
    let name = file
        .foreign_members
        .as_ref()?
        .get("crs")?
        .get("properties")?
        .get("name")?;
    name.as_str().map(Into::into)
}

fn read_code(geo: &geojson::Feature, spec: &GridSpec, pattern: &Regex) -> Result<CellCode, CellFault> {
    let property = || spec.code_property.clone();
    match geo.property(&spec.code_property) {
        None | Some(serde_json::Value::Null) => Err(CellFault::NoCode { property: property() }),
        Some(serde_json::Value::String(code)) if pattern.is_match(code) => Ok(code.as_str().into()),
        Some(serde_json::Value::String(_)) => Err(CellFault::CodeForm {
            pattern: spec.code_pattern.clone(),
        }),
        Some(other) => Err(CellFault::CodeNotText {
            property: property(),
            found: other.to_string(),
        }),
    }
}

fn read_polygons(geo: &geojson::Feature) -> Result<Vec<Polygon>, Vec<CellFault>> {
    let polygons: &[Vec<Vec<Position>>] = match geo.geometry.as_ref().map(|g| &g.value) {
        Some(GeometryValue::Polygon { coordinates }) => std::slice::from_ref(coordinates),
        Some(GeometryValue::MultiPolygon { coordinates }) => coordinates,
        other => {
            let found = other.map_or("missing", GeometryValue::type_name).into();
            return Err(vec![CellFault::NotAPolygon { found }]);
        }
    };
    if polygons.iter().all(Vec::is_empty) {
        return Err(vec![CellFault::NotAPolygon { found: "empty".into() }]);
    }
    let mut faults = Vec::new();
    let mut read = Vec::with_capacity(polygons.len());
    for (polygon, rings) in polygons.iter().enumerate() {
        let mut kept: Polygon = Vec::with_capacity(rings.len());
        for (ring, positions) in rings.iter().enumerate() {
            match read_ring(positions, polygon, ring) {
                Ok(corners) => kept.push(corners),
                Err(fault) => faults.push(fault),
            }
        }
        read.push(kept);
    }
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

fn read_ring(positions: &[Position], polygon: usize, ring: usize) -> Result<Vec<LonLat>, CellFault> {
    let mut corners = Vec::with_capacity(positions.len());
    for position in positions {
        match position[..] {
            [lon, lat, ..] if (-180.0..=180.0).contains(&lon) && (-90.0..=90.0).contains(&lat) => {
                corners.push(LonLat { lon, lat });
            }
            _ => {
                return Err(CellFault::OutOfRange {
                    polygon,
                    ring,
                    position: format!("{:?}", &position[..]),
                });
            }
        }
    }
    if corners.len() < 4 {
        return Err(CellFault::RingTooShort {
            polygon,
            ring,
            positions: corners.len(),
        });
    }
    if corners.first() != corners.last() {
        return Err(CellFault::RingOpen { polygon, ring });
    }
    corners.pop();
    Ok(corners)
}

#[cfg(test)]
mod tests;
