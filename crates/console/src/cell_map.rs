//! The map of cells: the cells of the grid near the box's cameras and with cases, the cameras, and the cases, for the page and the JSON API.
//!
//! Coordinates are those of the configuration, longitude first. EPSG:4490 (CGCS2000) is shown as if it were WGS 84, which MapLibre and
//! GeoJSON expect: the two differ by less than a metre, less than a pixel on any zoom that shows a cell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gridwatch_config::Config;
use gridwatch_engine::{CellCode, LonLat, Place};
use gridwatch_store::CaseQuery;
use gridwatch_web::{Actor, Rejection};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{access::CameraAccess as _, app::App, cases};

/// Cells around a camera that are shown, in metres: a camera sees less far.
const AROUND_CAMERA_M: f64 = 300.0;
/// Cells in an answer, at most: some 300 kB.
const MAX_CELLS: usize = 1500;
/// Corners of all cells in an answer, at most; drawn borders may have thousands each.
const MAX_POSITIONS: usize = 60_000;
/// Cases that are marked, at most; the counts of the cells are complete.
pub(crate) const MAX_CASES: u32 = 1000;

/// The map of cells.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CellMap {
    /// Reference system of the coordinates as configured; WGS 84 for display.
    pub(crate) crs: String,
    /// The cells, by code.
    pub(crate) cells: CellCollection,
    /// The views of cameras.
    pub(crate) cameras: Vec<CameraPoint>,
    /// The newest cases.
    pub(crate) cases: Vec<CasePoint>,
    /// True: there are more cells than are here.
    pub(crate) cells_truncated: bool,
    /// True: there are more cases than are marked. The counts of the cells are complete.
    pub(crate) cases_truncated: bool,
}

/// A GeoJSON FeatureCollection (RFC 7946).
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CellCollection {
    /// `FeatureCollection`.
    #[serde(rename = "type")]
    kind: &'static str,
    pub(crate) features: Vec<CellFeature>,
}

/// A cell.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CellFeature {
    /// `Feature`.
    #[serde(rename = "type")]
    kind: &'static str,
    pub(crate) properties: CellProperties,
    pub(crate) geometry: CellGeometry,
}

/// What is known of a cell.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CellProperties {
    /// Its code.
    pub(crate) code: String,
    /// Cases in it that match.
    pub(crate) cases: u32,
    /// Of these, open.
    pub(crate) open: u32,
    /// Views whose place is in it.
    pub(crate) cameras: Vec<String>,
}

/// A GeoJSON MultiPolygon.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CellGeometry {
    /// `MultiPolygon`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Polygons of closed rings of longitude and latitude.
    pub(crate) coordinates: Vec<Vec<Vec<[f64; 2]>>>,
}

/// What a view shows: the place of its camera, or the middle of what it sees.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CameraPoint {
    /// `CAMERA`, or `CAMERA.PRESET`.
    pub(crate) view: String,
    pub(crate) lon: f64,
    pub(crate) lat: f64,
}

/// A case.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CasePoint {
    pub(crate) id: String,
    /// Category code.
    pub(crate) category: String,
    /// Code of its cell.
    pub(crate) cell: String,
    pub(crate) open: bool,
    pub(crate) lon: f64,
    pub(crate) lat: f64,
}

/// The map of the cases that match and that the user may see.
pub(crate) async fn of(app: &Arc<App>, actor: &Actor, query: CaseQuery) -> Result<CellMap, Rejection> {
    let config = app.config();
    let counted = CaseQuery {
        after: None,
        limit: MAX_CELLS as u32 + 1,
        ..query.clone()
    };
    let marked = CaseQuery {
        after: None,
        limit: MAX_CASES + 1,
        ..query
    };
    let counts = cases::count_by_cell(app, actor, counted).await?;
    let mut found = cases::list(app, actor, marked).await?;
    let cases_truncated = found.len() > MAX_CASES as usize;
    found.truncate(MAX_CASES as usize);
    let cameras = cameras(&config, actor);
    let is_open = |record: &gridwatch_contract::CaseRecord| record.state.is_open();
    let marked = found.iter().map(|record| CasePoint {
        id: record.case_id.clone(),
        category: record.category_code.clone(),
        cell: record.cell_code.clone(),
        open: is_open(record),
        lon: record.location.lon,
        lat: record.location.lat,
    });
    let marked = marked.collect();
    let mut order: Vec<(CellCode, u32, u32)> = counts
        .iter()
        .map(|count| (CellCode::from(count.cell.as_str()), count.cases, count.open))
        .collect();
    let mut known: BTreeSet<CellCode> = order.iter().map(|(code, ..)| code.clone()).collect();
    let mut in_cell: BTreeMap<CellCode, Vec<String>> = BTreeMap::new();
    for camera in &cameras {
        let at = LonLat {
            lon: camera.lon,
            lat: camera.lat,
        };
        if let Some(code) = config.plan.grid.cell_of(at) {
            in_cell.entry(code.clone()).or_default().push(camera.view.clone());
        }
        for code in config.plan.grid.cells_within(at, AROUND_CAMERA_M) {
            if order.len() > MAX_CELLS {
                break;
            }
            if known.insert(code.clone()) {
                order.push((code.clone(), 0, 0));
            }
        }
    }
    let mut features = Vec::new();
    let (mut positions, mut cells_truncated) = (0, false);
    for (code, cases, open) in order {
        // A case of an older grid may be in a cell that this one does not have.
        let polygons = config.plan.grid.polygons_of(&code);
        if polygons.is_empty() {
            continue;
        }
        positions += polygons.iter().flatten().map(Vec::len).sum::<usize>();
        if positions > MAX_POSITIONS || features.len() == MAX_CELLS {
            cells_truncated = true;
            break;
        }
        features.push(CellFeature {
            kind: "Feature",
            geometry: CellGeometry {
                kind: "MultiPolygon",
                coordinates: polygons
                    .iter()
                    .map(|polygon| polygon.iter().map(|ring| closed(ring)).collect())
                    .collect(),
            },
            properties: CellProperties {
                cameras: in_cell.remove(&code).unwrap_or_default(),
                code: code.to_string(),
                cases,
                open,
            },
        });
    }
    Ok(CellMap {
        crs: config.crs.clone(),
        cells: CellCollection {
            kind: "FeatureCollection",
            features,
        },
        cameras,
        cases: marked,
        cells_truncated,
        cases_truncated,
    })
}

/// The views that the user may see.
fn cameras(config: &Config, actor: &Actor) -> Vec<CameraPoint> {
    let seen = config.plan.cameras.iter();
    let seen = seen.filter(|(view, _)| actor.camera_of(config, view).is_some());
    let points = seen.map(|(view, plan)| {
        let place = match &plan.place {
            Place::Calibrated { fallback, .. } => fallback,
            Place::Fixed(place) => place,
        };
        CameraPoint {
            view: view.to_string(),
            lon: place.at.lon,
            lat: place.at.lat,
        }
    });
    points.collect()
}

/// A ring that ends where it began, as GeoJSON wants it.
fn closed(ring: &[LonLat]) -> Vec<[f64; 2]> {
    // 7 decimals are a centimetre.
    let rounded = |value: f64| (value * 1e7).round() / 1e7;
    let points = ring.iter().chain(ring.first());
    points.map(|at| [rounded(at.lon), rounded(at.lat)]).collect()
}
