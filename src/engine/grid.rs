//! The city's unit grid cells.

use super::types::{CellCode, LonLat};

/// What a grid file must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridSpec {
    /// The CRS the file must state: `EPSG:4490` or `EPSG:4326`.
    pub crs: String,
    /// The property that holds a cell's code.
    pub code_property: String,
    /// What every code must match, a regular expression (ASCII classes).
    pub code_pattern: String,
}

/// Something wrong with a grid file; the text says where and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GridFault {
    /// Not GeoJSON, or no FeatureCollection.
    #[error("{0}")]
    NotGeoJson(String),
}

/// The city's cells.
#[derive(Debug, Clone)]
pub struct Grid {}

impl Grid {
    /// Reads a grid; every fault at once.
    pub fn parse(geojson: &str, spec: &GridSpec) -> Result<Self, Vec<GridFault>> {
        let _ = (geojson, spec);
        Err(vec![GridFault::NotGeoJson("not read yet".into())])
    }

    /// The cell that holds `at`.
    pub fn cell_of(&self, at: LonLat) -> Option<&CellCode> {
        let _ = at;
        None
    }
}
