//! Zones and boxes over a picture, as SVG in fractions of it: whatever its size on the screen, they stay where they belong.

use std::fmt::Write as _;

use gridwatch_config::{Config, find_view};
use gridwatch_engine::{CameraId, Point, ZoneKind};
use gridwatch_web::i18n::Phrase;
use jiff::Timestamp;

use crate::{
    daemon::{Finding, Look},
    page::Page,
};

/// What is drawn over a picture.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) zones: Vec<ZoneShape>,
    pub(crate) signs: Vec<SignShape>,
    pub(crate) boxes: Vec<BoxShape>,
}

/// A zone.
#[derive(Debug)]
pub(crate) struct ZoneShape {
    /// Its id; of privacy zones, which have none in the engine, empty.
    pub(crate) id: String,
    /// `watch`, `exclude`, `permitted`, `container`, `shop` or `privacy`: its class in the style sheet.
    pub(crate) kind: &'static str,
    pub(crate) name: Phrase,
    /// `x,y` of the corners, in fractions of the picture.
    pub(crate) points: String,
}

/// An approved sign: struck out.
#[derive(Debug)]
pub(crate) struct SignShape {
    pub(crate) x1: f32,
    pub(crate) y1: f32,
    pub(crate) x2: f32,
    pub(crate) y2: f32,
    pub(crate) width: f32,
    pub(crate) height: f32,
    /// Its last day is over, so that it counts as a new one.
    pub(crate) is_expired: bool,
    pub(crate) name: Phrase,
}

/// A detection's box.
#[derive(Debug)]
pub(crate) struct BoxShape {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) width: f32,
    pub(crate) height: f32,
    pub(crate) label: String,
    pub(crate) percent: u32,
    pub(crate) counts: bool,
}

impl Overlay {
    /// The zones of a view, and the boxes of its look.
    pub(crate) fn of(page: &Page, config: &Config, view: &CameraId, look: Option<&Look>) -> Self {
        let names = &page.t.names;
        let plan = config.plan.cameras.get(view);
        let zones = plan.into_iter().flat_map(|plan| &plan.zones).map(|zone| {
            let (kind, name) = match zone.kind {
                ZoneKind::Watch => ("watch", names.zone_watch),
                ZoneKind::Exclude => ("exclude", names.zone_exclude),
                ZoneKind::Permitted { .. } => ("permitted", names.zone_permitted),
                ZoneKind::Container => ("container", names.zone_container),
                ZoneKind::Shop => ("shop", names.zone_shop),
            };
            ZoneShape {
                id: zone.id.to_string(),
                kind,
                name,
                points: points(&zone.polygon),
            }
        });
        let privacy = find_view(&config.cameras, view.as_str()).map(|(_, preset)| preset.privacy.as_slice());
        let privacy = privacy.unwrap_or_default().iter().map(|polygon| ZoneShape {
            id: String::new(),
            kind: "privacy",
            name: names.zone_privacy,
            points: points(polygon),
        });
        let today = config.plan.calendar.date(Timestamp::now());
        let signs = plan.into_iter().flat_map(|plan| plan.approved.iter().flatten());
        let signs = signs.map(|sign| {
            let is_expired = !sign.valid.includes(today);
            SignShape {
                x1: sign.bbox.x1,
                y1: sign.bbox.y1,
                x2: sign.bbox.x2,
                y2: sign.bbox.y2,
                width: sign.bbox.x2 - sign.bbox.x1,
                height: sign.bbox.y2 - sign.bbox.y1,
                is_expired,
                name: match is_expired {
                    true => page.t.signs.overlay_expired,
                    false => page.t.signs.overlay_approved,
                },
            }
        });
        let found = look.map_or(&[][..], |look| &look.detections);
        Self {
            zones: zones.chain(privacy).collect(),
            signs: signs.collect(),
            ..Self::of_findings(page, found)
        }
    }

    /// The boxes of a picture without zones.
    pub(crate) fn of_findings(page: &Page, findings: &[Finding]) -> Self {
        let boxes = findings.iter().map(|finding| BoxShape {
            x: finding.bbox.x1,
            y: finding.bbox.y1,
            width: (finding.bbox.x2 - finding.bbox.x1).max(0.0),
            height: (finding.bbox.y2 - finding.bbox.y1).max(0.0),
            label: page.label(&finding.label),
            percent: percent(finding.score),
            counts: finding.counts,
        });
        Self {
            zones: Vec::new(),
            signs: Vec::new(),
            boxes: boxes.collect(),
        }
    }
}

/// A score as whole per cent.
pub(crate) fn percent(score: f32) -> u32 {
    // In 0..=100, so that the conversion is exact; NaN becomes 0.
    (score.clamp(0.0, 1.0) * 100.0).round() as u32
}

fn points(polygon: &[Point]) -> String {
    let mut text = String::new();
    for point in polygon {
        // Four digits are a fifth of a pixel of a 2000 pixels wide picture.
        let _ = write!(text, "{:.4},{:.4} ", point.x, point.y);
    }
    text.truncate(text.trim_end().len());
    text
}
