//! Calibration point pairs: converted to the grid's coordinate system, corrected for the lens, and fitted.

use std::path::Path;

use super::{Checker, Draft, FieldPath, Surroundings};
use crate::{Fault, Faults, raw, schema::MESSAGES};
use gridwatch_base::{
    digest::sha256_hex,
    document::{Document, schema},
    message,
};
use gridwatch_engine::{
    LonLat, Point,
    geometry::{Calibration, Crs, Lens},
};

/// The point pairs of one view and the calibration fitted to them.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Image point and ground point, in file order. Ground points are in the grid's coordinate system, or EPSG:4490 without a grid.
    pub pairs: Vec<(Point, LonLat)>,
    /// The coordinate system in which the ground points were given.
    pub crs: Crs,
    /// Positions with a larger uncertainty are not used, in metres.
    pub max_uncertainty_m: f64,
    /// The fitted calibration, including the given lens distortion.
    pub calibration: Calibration,
}

impl Survey {
    /// The version of the calibration: 12 hex digits of the SHA-256 of its points and lens coefficients.
    pub(super) fn version(&self) -> String {
        let points = self.pairs.iter().flat_map(|(p, g)| [p.x, p.y, g.lon, g.lat]);
        let lens = self.calibration.lens().map(|lens| lens.coefficients().into());
        let lens = lens.into_iter().flat_map(|k: [f64; 2]| k);
        let bytes: Vec<u8> = points.chain(lens).flat_map(f64::to_be_bytes).collect();
        sha256_hex(&bytes)[..12].to_owned()
    }
}

impl Checker<'_> {
    /// Fits the calibration at `at`, converting its ground points from `stated` to `target`.
    pub(super) fn survey(
        &mut self,
        at: &FieldPath,
        raw: &raw::Calibration,
        stated: Crs,
        target: Crs,
    ) -> Option<Survey> {
        let points_at = at.key("points");
        let mut pairs = Vec::with_capacity(raw.points.len());
        for (i, pair) in raw.points.iter().enumerate() {
            let [x, y] = pair.picture;
            match stated.to_degrees(pair.ground, target) {
                Ok(ground) => pairs.push((Point { x, y }, ground)),
                Err(e) => self.fault(
                    &points_at.index(i).key("ground"),
                    e.to_string(),
                    "use the coordinate system given by the calibration's crs",
                ),
            }
        }
        let lens = match raw.distortion {
            None => None,
            Some(raw::Distortion { k1, k2, aspect }) => {
                let lens = Lens::new(k1, k2, aspect);
                if lens.is_none() {
                    self.fault(
                        &at.key("distortion"),
                        message!("k1 = {k1}, k2 = {k2} is not invertible: two points of the scene would share one image point", k1 = k1.to_string(), k2 = k2.to_string()),
                        "with k2 = 0, use a k1 above -0.14; fisheye lenses cannot be calibrated",
                    );
                    return None;
                }
                lens
            }
        };
        if pairs.len() < raw.points.len() {
            return None;
        }
        match Calibration::fit_with_lens(&pairs, lens) {
            Ok(calibration) => Some(Survey {
                pairs,
                crs: stated,
                max_uncertainty_m: raw.max_uncertainty_m,
                calibration,
            }),
            Err(e) => {
                let message = message!(
                    "{e}; image points: {pairs}",
                    e = e.to_string(),
                    pairs = image_points(&pairs)
                );
                self.fault(
                    &points_at,
                    message,
                    "pair corners of paving, kerbs or markings that are also on the map, spread over the ground",
                );
                None
            }
        }
    }
}

fn image_points(pairs: &[(Point, LonLat)]) -> String {
    pairs
        .iter()
        .map(|(p, _)| format!("[{}, {}]", p.x, p.y))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reads a file of point pairs and converts the ground points to EPSG:4490.
pub(crate) fn read(file: &Path) -> Result<Survey, Faults> {
    let mut draft = Draft::default();
    let (document, faults) = Document::read(file).map_err(Faults)?;
    draft.faults = faults;
    let sanitized = schema::check::<raw::Points>(&document, &MESSAGES, &mut draft.faults);
    let mut checker = Checker {
        document: &document,
        sanitized: &sanitized,
        surroundings: &Surroundings {
            variable: &|_| None,
            today: None,
            is_offline: false,
        },
        draft: &mut draft,
    };
    let survey = checker.points();
    draft.faults.sort_by_key(|f: &Fault| f.line);
    match survey {
        Some(survey) if draft.faults.is_empty() => Ok(survey),
        _ => Err(Faults(draft.faults)),
    }
}

impl Checker<'_> {
    fn points(&mut self) -> Option<Survey> {
        let whole = FieldPath::default();
        let sanitized = self.sanitized;
        let raw: raw::Points = self.deserialize(&whole, &sanitized.value)?;
        let stated = self.crs(&whole.key("crs"), Some(&raw.crs), Crs::Cgcs2000)?;
        if self.is_invalid(&whole.key("points")) || self.is_invalid(&whole.key("distortion")) {
            return None;
        }
        let calibration = raw::Calibration {
            points: raw.points,
            crs: None,
            distortion: raw.distortion,
            max_uncertainty_m: raw.max_uncertainty_m,
        };
        self.survey(&whole, &calibration, stated, Crs::Cgcs2000)
    }
}
