//! The grid, and the position of each view on it.

use super::{Checker, FieldPath, cameras::ViewDraft, grid_gaps, grid_messages as messages, section};
use crate::{Fault, raw};
use gridwatch_base::{file, message, message::Message};
use gridwatch_engine::{
    CameraId, FixedPlace, LonLat, Place,
    geometry::Crs,
    grid::{Grid, GridFault, GridSpec, Slivers},
};

/// Maximum number of faults reported per kind for a grid file: it has many cells, often all wrong in the same way.
const MAX_FAULTS_PER_KIND: usize = 10;

/// Residual above which a point pair is reported. Near the camera, pointing accuracy and map accuracy together are about half of
/// this.
const RESIDUAL_M: f64 = 3.0;

impl Checker<'_> {
    /// Reads the grid file; faults refer to that file.
    pub(super) fn grid(&mut self) {
        let at = section("grid");
        let Some(raw) = self.required::<raw::Grid>(&at) else {
            return;
        };
        let file_at = at.key("file");
        let bytes = self.read_source(&file_at, &raw.file, file::MAX_DATA);
        if self
            .existing_file(&file_at, &raw.file, "the GeoJSON file of the city's cells")
            .is_none()
        {
            return;
        }
        let file = self.resolve(&raw.file);
        let grid_fault = |message: Message| Fault {
            path: file_at.to_string(),
            file: file.clone(),
            line: None,
            message,
            remedy: Message::default(), // Grid faults include the remedy in their message.
        };
        let text = match bytes.and_then(file::text) {
            Ok(text) => text,
            Err(e) => {
                self.draft
                    .faults
                    .push(grid_fault(message!("cannot read the file: {e}", e = e.to_string())));
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
                self.cells(&grid, &grid_fault);
                self.draft.rest.grid = Some((raw, grid));
            }
            Err(faults) => {
                for fault in faults {
                    match fault {
                        GridFault::BadPattern { .. } => self.fault(&at.key("code_pattern"), messages::grid(&fault), ""),
                        other => self.draft.faults.push(grid_fault(messages::grid(&other))),
                    }
                }
            }
        }
    }

    /// Checks that the cells form a grid. Defects that file cases under a wrong cell are faults; defects that only leave cases
    /// unfiled are warnings.
    fn cells(&mut self, grid: &Grid, grid_fault: &dyn Fn(Message) -> Fault) {
        let found = grid.check();
        let enclosed = grid_gaps::find(grid);
        let draft = &mut *self.draft;
        let remedied = |message: Message, remedy: &'static str| Fault {
            remedy: remedy.into(),
            ..grid_fault(message)
        };
        let rings = found.rings.iter().map(|r| {
            let remedy = "list its corners in order around the cell; as it is, the area of the cell is undefined";
            remedied(messages::ring(r), remedy)
        });
        push_limited(&mut draft.faults, rings, grid_fault);
        let overlaps = found.overlaps.iter().map(|o| {
            let remedy = "assign the area to one of them; until then, it would be filed under the lower code";
            remedied(messages::overlap(o), remedy)
        });
        push_limited(&mut draft.faults, overlaps, grid_fault);
        let gaps = enclosed.gaps.iter().map(|g| {
            let remedy =
                "assign the area to a cell, unless the gap is intended; detections there are not filed (outside_grid)";
            remedied(message!("{g}, although cells surround it", g = g.message()), remedy)
        });
        push_limited(&mut draft.warnings, gaps, grid_fault);
        for (slivers, what) in [(found.overlap_slivers, "overlap"), (enclosed.slivers, "leave gaps")] {
            if let Some((area, LonLat { lon, lat })) = slivers.largest {
                let Slivers { count, area_m2, .. } = slivers;
                let message = message!(
                    "shared borders {what} slightly in {count} places, {area_m2} m² in total; the largest, {area} m², \
                     is at [{lon}, {lat}]",
                    what = Message::from(what),
                    count,
                    area_m2 = format!("{area_m2:.1}"),
                    area = format!("{area:.1}"),
                    lon = format!("{lon:.6}"),
                    lat = format!("{lat:.6}")
                );
                let remedy = "harmless if caused by rounding to six decimals; to avoid it, export more decimals from cells that share corners";
                draft.warnings.push(remedied(message, remedy));
            }
        }
    }

    /// Parses a coordinate system, or returns `default` if none is given.
    pub(super) fn crs(&mut self, at: &FieldPath, text: Option<&str>, default: Crs) -> Option<Crs> {
        if self.is_invalid(at) {
            return None;
        }
        match text.map_or(Ok(default), str::parse) {
            Ok(crs) => Some(crs),
            Err(e) => {
                self.fault(at, messages::crs(&e), "");
                None
            }
        }
    }

    /// The grid's coordinate system. If the grid is faulty, the value does not matter, because no plan is built.
    fn grid_crs(&self) -> Crs {
        match &self.draft.rest.grid {
            Some((raw, _)) => raw.crs.parse().unwrap_or(Crs::Cgcs2000),
            None => Crs::Cgcs2000,
        }
    }

    /// The coordinate system of the camera's places; `None` if it is faulty.
    pub(super) fn camera_crs(&mut self, at: &FieldPath, raw: &raw::Camera) -> Option<Crs> {
        let crs_at = at.key("crs");
        let crs = self.crs(&crs_at, raw.crs.as_deref(), self.grid_crs())?;
        if !crs.is_degrees() {
            self.fault(
                &crs_at,
                "is a local plane in metres, but `place` needs longitude and latitude",
                "set it in calibration.crs, for the point pairs only",
            );
            return None;
        }
        Some(crs)
    }

    /// The location of detections in `view`; `None` if it is faulty.
    pub(super) fn place(&mut self, view: &ViewDraft, id: &CameraId, crs: Crs) -> Option<Place> {
        let grid_crs = self.grid_crs();
        let fixed = self.fixed(&view.at, &view.place, crs, grid_crs)?;
        let calibration_at = view.at.key("calibration");
        if self.is_invalid(&calibration_at) {
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
                message!(
                    "is {residual} m from where the other pairs predict it",
                    residual = format!("{residual:.1}")
                ),
                "check that its image and ground points are the same spot; `gridwatch calibrate` draws them",
            );
        }
        self.draft.surveys.insert(id.clone(), survey);
        Some(Place::Calibrated {
            calibration: fitted,
            max_uncertainty_m: calibration.max_uncertainty_m,
            fallback: fixed,
        })
    }

    /// The fixed place of a view.
    fn fixed(&mut self, at: &FieldPath, place: &raw::Place, crs: Crs, grid_crs: Crs) -> Option<FixedPlace> {
        let place_at = at.key("place");
        let typed = [place.lon, place.lat];
        let fixed = match crs.to_degrees(typed, grid_crs) {
            Ok(at) => FixedPlace {
                at,
                uncertainty_m: place.uncertainty_m,
            },
            Err(e) => {
                self.fault(&place_at, messages::crs(&e), "");
                return None;
            }
        };
        if !self.is_invalid(&place_at)
            && let Some((_, grid)) = &self.draft.rest.grid
            && grid.cell_of(fixed.at).is_none()
        {
            let lies_in_a_cell = |crs: Crs, typed| {
                let at = crs.to_degrees(typed, grid_crs).ok();
                at.is_some_and(|at| grid.cell_of(at).is_some())
            };
            let remedy = if lies_in_a_cell(crs, [place.lat, place.lon]) {
                "lon and lat are swapped"
            } else if crs != Crs::Gcj02 && lies_in_a_cell(Crs::Gcj02, typed) {
                "if it comes from a Chinese web map, set the camera's crs = \"GCJ-02\"; otherwise use a point on the ground \
                 that the view shows"
            } else {
                "use a point on the ground that the view shows, in the grid's coordinate system or in the one given by the \
                 camera's crs"
            };
            self.warn(
                &place_at,
                "outside every cell of the grid: detections placed here are not filed (outside_grid)",
                remedy,
            );
        }
        Some(fixed)
    }
}

/// Adds the first faults, and one that counts the rest.
fn push_limited(
    list: &mut Vec<Fault>,
    all: impl ExactSizeIterator<Item = Fault>,
    grid_fault: &dyn Fn(Message) -> Fault,
) {
    let more = all.len().saturating_sub(MAX_FAULTS_PER_KIND);
    list.extend(all.take(MAX_FAULTS_PER_KIND));
    if more > 0 {
        list.push(grid_fault(message!(
            "and {more} more faults of this kind",
            more = more.to_string()
        )));
    }
}
