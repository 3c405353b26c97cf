//! The grid, and where on it each camera looks.

use std::fs;

use super::{At, Checker, cameras::View, top};
use crate::{Fault, raw};
use gridwatch_engine::{
    CameraId, FixedPlace, LonLat, Place,
    geometry::Crs,
    grid::{Grid, GridFault, GridSpec, Slivers},
};

/// Of one kind of fault in a grid file, whose cells are many and often wrong in one way.
const MOST_TOLD: usize = 10;

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
            Ok(grid) => {
                self.cells(&grid, &inside);
                self.draft.rest.grid = Some((raw, grid));
            }
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

    /// Tells what keeps the cells from being a grid: what files cases in a wrong cell is a fault, what files none a warning.
    fn cells(&mut self, grid: &Grid, inside: &dyn Fn(String) -> Fault) {
        let found = grid.check();
        let draft = &mut *self.draft;
        let remedied = |message: String, remedy: &str| Fault {
            remedy: remedy.into(),
            ..inside(message)
        };
        let rings = found.rings.iter().map(|r| {
            let remedy = "list its corners in order around the cell: which ground it holds cannot be told";
            remedied(r.to_string(), remedy)
        });
        told(&mut draft.faults, rings, inside);
        let overlaps = found.overlaps.iter().map(|o| {
            let remedy = "give that ground to one of them: till then it would be filed in the lower code";
            remedied(o.to_string(), remedy)
        });
        told(&mut draft.faults, overlaps, inside);
        let gaps = found.gaps.iter().map(|g| {
            let remedy =
                "give it to a cell, unless it is left out on purpose: what lies there is not filed (outside_grid)";
            remedied(format!("{g}, though cells surround it"), remedy)
        });
        told(&mut draft.warnings, gaps, inside);
        for (slivers, what) in [(found.overlap_slivers, "overlap"), (found.gap_slivers, "leave gaps")] {
            if let Some((area, LonLat { lon, lat })) = slivers.largest {
                let Slivers { count, area_m2, .. } = slivers;
                let message = format!(
                    "in {count} places borders that should be one {what} a little, {area_m2:.1} m² in all; the largest, \
                     {area:.1} m², is at [{lon:.6}, {lat:.6}]"
                );
                let remedy = "as coordinates round to six decimals it does no harm; export with more, from cells that share corners";
                draft.warnings.push(remedied(message, remedy));
            }
        }
    }

    /// What `text` states, or `default` where nothing is stated.
    pub(super) fn crs(&mut self, at: &At, text: Option<&str>, default: Crs) -> Option<Crs> {
        if self.is_taken(at) {
            return None;
        }
        match text.map_or(Ok(default), str::parse) {
            Ok(crs) => Some(crs),
            Err(e) => {
                self.fault(at, e.to_string(), "");
                None
            }
        }
    }

    /// What the grid is in. Where it is faulty itself there is no plan to get wrong.
    fn grid_crs(&self) -> Crs {
        match &self.draft.rest.grid {
            Some((raw, _)) => raw.crs.parse().unwrap_or(Crs::Cgcs2000),
            None => Crs::Cgcs2000,
        }
    }

    /// What the camera's places are in; `None` where that cannot be said.
    pub(super) fn camera_crs(&mut self, at: &At, raw: &raw::Camera) -> Option<Crs> {
        let crs_at = at.key("crs");
        let crs = self.crs(&crs_at, raw.crs.as_deref(), self.grid_crs())?;
        if !crs.is_degrees() {
            self.fault(
                &crs_at,
                "is a plane in metres, and `place` is a longitude and a latitude",
                "state it in calibration.crs, for the pairs alone",
            );
            return None;
        }
        Some(crs)
    }

    /// Where the things that the camera sees in `view` are; `None` where that cannot be said.
    pub(super) fn place(&mut self, view: &View, id: &CameraId, crs: Crs) -> Option<Place> {
        let grid_crs = self.grid_crs();
        let fixed = self.fixed(&view.at, &view.place, crs, grid_crs)?;
        let calibration_at = view.at.key("calibration");
        if self.is_taken(&calibration_at) {
            return None;
        }
        let Some(calibration) = &view.calibration else {
            return Some(Place::Fixed(fixed));
        };
        let stated = self.crs(&calibration_at.key("crs"), calibration.crs.as_deref(), crs)?;
        let survey = self.survey(&calibration_at, calibration, stated, grid_crs)?;
        let fitted = survey.calibration.clone();
        for (i, residual) in fitted
            .residuals_m()
            .iter()
            .enumerate()
            .filter(|(_, r)| **r > RESIDUAL_M)
        {
            self.warn(
                &calibration_at.key("points").index(i),
                format!("lies {residual:.1} m from where the other pairs put it"),
                "check that its picture and ground points are the same spot; `gridwatch calibrate` draws them",
            );
        }
        self.draft.surveys.insert(id.clone(), survey);
        Some(Place::Calibrated {
            calibration: fitted,
            max_uncertainty_m: calibration.max_uncertainty_m,
            fallback: fixed,
        })
    }

    /// The view's own place.
    fn fixed(&mut self, at: &At, place: &raw::Place, crs: Crs, grid_crs: Crs) -> Option<FixedPlace> {
        let place_at = at.key("place");
        let typed = [place.lon, place.lat];
        let fixed = match crs.to_degrees(typed, grid_crs) {
            Ok(at) => FixedPlace {
                at,
                uncertainty_m: place.uncertainty_m,
            },
            Err(e) => {
                self.fault(&place_at, e.to_string(), "");
                return None;
            }
        };
        if !self.is_taken(&place_at)
            && let Some((_, grid)) = &self.draft.rest.grid
            && grid.cell_of(fixed.at).is_none()
        {
            let lies_in_a_cell = |crs: Crs, typed| {
                let at = crs.to_degrees(typed, grid_crs).ok();
                at.is_some_and(|at| grid.cell_of(at).is_some())
            };
            let remedy = if lies_in_a_cell(crs, [place.lat, place.lon]) {
                "lon and lat are exchanged"
            } else if crs != Crs::Gcj02 && lies_in_a_cell(Crs::Gcj02, typed) {
                "if it was read off a Chinese web map, state the camera's crs = \"GCJ-02\"; else write a point of the ground \
                 that the view shows"
            } else {
                "write a point of the ground that the view shows, in the grid's own coordinate system or in one that the \
                 camera's crs states"
            };
            self.warn(
                &place_at,
                "lies in no cell of the grid: what is placed there is not filed (outside_grid)",
                remedy,
            );
        }
        Some(fixed)
    }
}

/// Adds the first few; the rest is counted.
fn told(list: &mut Vec<Fault>, all: impl ExactSizeIterator<Item = Fault>, inside: &dyn Fn(String) -> Fault) {
    let more = all.len().saturating_sub(MOST_TOLD);
    list.extend(all.take(MOST_TOLD));
    if more > 0 {
        list.push(inside(format!("and {more} more of these")));
    }
}
