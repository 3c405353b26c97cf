//! The grid, and where on it each camera looks.

use std::fs;

use super::{At, Checker, top};
use crate::{
    config::{fault::Fault, raw},
    digest::sha256_hex,
    engine::{
        FixedPlace, LonLat, Place, Point,
        geometry::Calibration,
        grid::{Grid, GridFault, GridSpec},
    },
};

/// A pair that lies farther than this from where the others put it is worth a second look: aim and map together are good
/// for half of it near the camera.
const RESIDUAL_M: f64 = 3.0;

impl Checker<'_> {
    /// Reads the grid file; its faults name that file.
    pub(super) fn grid(&mut self) {
        let at = top("grid");
        let Some(raw) = self.required::<raw::Grid>(&at) else {
            return;
        };
        let file_at = at.key("file");
        if self
            .existing(&file_at, &raw.file, "the GeoJSON of the city's cells")
            .is_none()
        {
            return;
        }
        let file = self.shown(&raw.file);
        let inside = |message: String| Fault {
            path: file_at.to_string(),
            file: file.clone(),
            line: None,
            message,
            remedy: String::new(), // Each grid fault says what to do.
        };
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) => {
                self.draft.faults.push(inside(format!("cannot be read: {e}")));
                return;
            }
        };
        let spec = GridSpec {
            crs: raw.crs.clone(),
            code_property: raw.code_property.clone(),
            code_pattern: raw.code_pattern.clone(),
        };
        match Grid::parse(&text, &spec) {
            Ok(grid) => self.draft.rest.grid = Some((raw, grid)),
            Err(faults) => {
                for fault in faults {
                    match fault {
                        GridFault::BadPattern { .. } => self.fault(&at.key("code_pattern"), fault.to_string(), ""),
                        other => self.draft.faults.push(inside(other.to_string())),
                    }
                }
            }
        }
    }

    /// Where the things that a camera sees are; `None` where that cannot be said.
    pub(super) fn place(&mut self, at: &At, raw: &raw::Camera) -> Option<Place> {
        let fixed = FixedPlace {
            at: LonLat {
                lon: raw.place.lon,
                lat: raw.place.lat,
            },
            uncertainty_m: raw.place.uncertainty_m,
        };
        let place_at = at.key("place");
        if !self.is_taken(&place_at)
            && let Some((_, grid)) = &self.draft.rest.grid
            && grid.cell_of(fixed.at).is_none()
        {
            let exchanged = LonLat {
                lon: raw.place.lat,
                lat: raw.place.lon,
            };
            let remedy = if grid.cell_of(exchanged).is_some() {
                "lon and lat are exchanged"
            } else {
                "write a point of the ground that the view shows, in the grid's own coordinate system"
            };
            self.warn(
                &place_at,
                "lies in no cell of the grid: what is placed there is not filed (outside_grid)",
                remedy,
            );
        }
        let calibration_at = at.key("calibration");
        if self.is_taken(&calibration_at) {
            return None;
        }
        let Some(calibration) = &raw.calibration else {
            return Some(Place::Fixed(fixed));
        };
        let points_at = calibration_at.key("points");
        let pairs: Vec<(Point, LonLat)> = calibration
            .points
            .iter()
            .map(|p| {
                let ([x, y], [lon, lat]) = (p.picture, p.ground);
                (Point { x, y }, LonLat { lon, lat })
            })
            .collect();
        let fitted = match Calibration::fit(&pairs) {
            Ok(fitted) => fitted,
            Err(e) => {
                let message = format!("{e}; the picture points are {}", listed(&pairs));
                self.fault(
                    &points_at,
                    message,
                    "pair corners of paving, kerbs or markings that the map shows too, spread over the ground",
                );
                return None;
            }
        };
        for (i, residual) in fitted
            .residuals_m()
            .iter()
            .enumerate()
            .filter(|(_, r)| **r > RESIDUAL_M)
        {
            self.warn(
                &points_at.index(i),
                format!("lies {residual:.1} m from where the other pairs put it"),
                "check that its picture and ground points are the same spot",
            );
        }
        Some(Place::Calibrated {
            calibration: fitted,
            max_uncertainty_m: calibration.max_uncertainty_m,
            fallback: fixed,
        })
    }
}

fn listed(pairs: &[(Point, LonLat)]) -> String {
    pairs
        .iter()
        .map(|(p, _)| format!("[{}, {}]", p.x, p.y))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Names a calibration by its points: changed points are another calibration, whatever the file is called.
pub(super) fn version(calibration: &raw::Calibration) -> String {
    let points = calibration.points.iter();
    let values = points.flat_map(|p| p.picture.into_iter().chain(p.ground));
    let bytes: Vec<u8> = values.flat_map(f64::to_be_bytes).collect();
    sha256_hex(&bytes)[..12].to_owned()
}
