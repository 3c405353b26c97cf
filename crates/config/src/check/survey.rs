//! Point pairs: in the grid's system, behind their lens, fitted.

use std::path::Path;

use super::{At, Checker, Draft};
use crate::{Fault, Faults, raw, schema::WORDS};
use gridwatch_base::{
    digest::sha256_hex,
    document::{Document, schema},
};
use gridwatch_engine::{
    LonLat, Point,
    geometry::{Calibration, Crs, Lens},
};

/// The pairs of one camera, and what follows from them.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Picture and ground, in the file's order; the ground in the grid's system, or in EPSG:4490 where there is none.
    pub pairs: Vec<(Point, LonLat)>,
    /// What their ground points were written in.
    pub crs: Crs,
    /// A place less certain than this is not used, metres.
    pub max_uncertainty_m: f64,
    /// What was fitted, through the lens that is stated.
    pub calibration: Calibration,
}

impl Survey {
    /// Names the calibration by its points and its lens: changed, they are another calibration, whatever the file is called.
    pub(super) fn version(&self) -> String {
        let points = self.pairs.iter().flat_map(|(p, g)| [p.x, p.y, g.lon, g.lat]);
        let lens = self.calibration.lens().map(|lens| lens.coefficients().into());
        let lens = lens.into_iter().flat_map(|k: [f64; 2]| k);
        let bytes: Vec<u8> = points.chain(lens).flat_map(f64::to_be_bytes).collect();
        sha256_hex(&bytes)[..12].to_owned()
    }
}

impl Checker<'_> {
    /// The calibration at `at`, its ground points given in `stated` and wanted in `wanted`.
    pub(super) fn survey(&mut self, at: &At, raw: &raw::Calibration, stated: Crs, wanted: Crs) -> Option<Survey> {
        let points_at = at.key("points");
        let mut pairs = Vec::with_capacity(raw.points.len());
        for (i, pair) in raw.points.iter().enumerate() {
            let [x, y] = pair.picture;
            match stated.to_degrees(pair.ground, wanted) {
                Ok(ground) => pairs.push((Point { x, y }, ground)),
                Err(e) => self.fault(
                    &points_at.index(i).key("ground"),
                    e.to_string(),
                    "write it as the crs of the calibration has it",
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
                        format!("k1 = {k1} and k2 = {k2} fold the picture: two places would be shown at one point"),
                        "with k2 = 0 write a k1 above -0.14; a fisheye cannot be calibrated",
                    );
                    return None;
                }
                lens
            }
        };
        if pairs.len() < raw.points.len() {
            return None;
        }
        match Calibration::fit_through(&pairs, lens) {
            Ok(calibration) => Some(Survey {
                pairs,
                crs: stated,
                max_uncertainty_m: raw.max_uncertainty_m,
                calibration,
            }),
            Err(e) => {
                let message = format!("{e}; the picture points are {}", listed(&pairs));
                self.fault(
                    &points_at,
                    message,
                    "pair corners of paving, kerbs or markings that the map shows too, spread over the ground",
                );
                None
            }
        }
    }
}

fn listed(pairs: &[(Point, LonLat)]) -> String {
    pairs
        .iter()
        .map(|(p, _)| format!("[{}, {}]", p.x, p.y))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reads a file of point pairs; the ground points come out in EPSG:4490.
pub(crate) fn read(file: &Path) -> Result<Survey, Faults> {
    let mut draft = Draft::default();
    let (document, faults) = Document::read(file).map_err(Faults)?;
    draft.faults = faults;
    let sound = schema::check::<raw::Points>(&document, &WORDS, &mut draft.faults);
    let mut checker = Checker {
        document: &document,
        sound: &sound,
        env: &|_| None,
        today: None,
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
        let whole = At::default();
        let sound = self.sound;
        let raw: raw::Points = self.part(&whole, &sound.value)?;
        let stated = self.crs(&whole.key("crs"), Some(&raw.crs), Crs::Cgcs2000)?;
        if self.is_taken(&whole.key("points")) || self.is_taken(&whole.key("distortion")) {
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
