//! The approved-sign baseline: which detections are signs that an operator has approved.
//!
//! A camera cannot see whether a sign is lawful, but it can see that a sign is new compared with the approved baseline.
//! This module decides whether a box is one of the approved signs.

use std::borrow::Cow;

use jiff::{Timestamp, civil::Date};

use super::types::{ApprovedSign, BBox, CameraPlan, Detection, Label, NotFiled, Plan, Rule};

/// IoU at which a box is taken for the approved sign at that place; a poster that covers less than half of an approved
/// board is not. Jitter rarely reaches that far: of 1,348 boxes of 115 signs that `garbage_nano_416` found in façades
/// it was not trained on (each in 12 looks with varied light, noise, JPEG and 3 pixels of shake), 1.3 % overlapped
/// their sign's median box less, too few for any `present_share` to confirm a case.
const SAME_SIGN_IOU: f64 = 0.5;
/// An approved sign of which less than this share lies within another one hangs beside it ...
const NEIGHBOUR: f64 = 0.5;
/// ... and a box that covers at least this share of it hangs over it. Jitter hardly ever covers a whole neighbour.
const COVERED: f64 = 0.8;

/// Why a detection does not count under a rule with `except_approved`; `None` if it counts, or the rule has no such
/// exception.
pub(super) fn approval(
    plan: &Plan,
    rule: &Rule,
    camera: &CameraPlan,
    detection: &Detection,
    bbox: &BBox,
    at: Timestamp,
) -> Option<NotFiled> {
    if !rule.except_approved {
        return None;
    }
    let Some(signs) = &camera.approved else {
        return Some(NotFiled::NoBaseline);
    };
    let today = plan.calendar.date(at);
    let signs = valid_on(signs, today);
    let is_lawful = match &detection.number {
        // Approved: on an approved shop board, or a recorded number anywhere in the view. Any other number is not, even
        // where an approved one hung.
        Some(number) => signs.iter().any(|sign| match &sign.number {
            Some(lawful) => lawful == number,
            None => share_within(bbox, &sign.bbox) >= COVERED,
        }),
        None => is_approved(&signs, &detection.label, bbox),
    };
    (is_lawful || bears_approved_text(plan, detection, today)).then_some(NotFiled::ApprovedSign)
}

/// The signs that are approved on a day. One that has expired is treated as if it had never been approved.
fn valid_on(signs: &[ApprovedSign], day: Date) -> Cow<'_, [ApprovedSign]> {
    let is_valid = |sign: &&ApprovedSign| sign.valid.includes(day);
    match signs.iter().all(|sign| is_valid(&sign)) {
        true => Cow::Borrowed(signs),
        false => signs.iter().filter(is_valid).cloned().collect(),
    }
}

/// True if the detection bears the text of a sign that is approved in the view of any camera: a shop's name is as lawful
/// on its van as above its door. Another phone number under the same text is not approved.
fn bears_approved_text(plan: &Plan, detection: &Detection, today: Date) -> bool {
    let Some(read) = &detection.text else { return false };
    let signs = plan
        .cameras
        .values()
        .flat_map(|camera| camera.approved.iter().flatten());
    signs
        .filter(|sign| sign.valid.includes(today))
        .filter(|sign| !matches!((&sign.number, &detection.number), (Some(a), Some(b)) if a != b))
        .filter_map(|sign| sign.text.as_ref())
        .any(|lawful| lawful.is_same_as(&read.text))
}

/// True if an object of `label` in `bbox` is one of `signs`: same label, place and size.
pub fn is_approved(signs: &[ApprovedSign], label: &Label, bbox: &BBox) -> bool {
    let signs = || signs.iter().filter(|s| s.label == *label).map(|s| &s.bbox);
    signs().any(|sign| {
        // Slightly larger than the sign is jitter; also covering its neighbour is a banner. A part of the sign itself,
        // such as a panel recorded on its own, is not a neighbour.
        let is_neighbour = |other: &&BBox| share_within(other, sign) < NEIGHBOUR;
        let hangs_over_another = || {
            signs()
                .filter(is_neighbour)
                .any(|other| share_within(other, bbox) >= COVERED)
        };
        bbox.iou(sign) >= SAME_SIGN_IOU && !hangs_over_another()
    })
}

/// Share of `part` that lies within `whole`, 0..=1.
fn share_within(part: &BBox, whole: &BBox) -> f64 {
    let both = BBox {
        x1: part.x1.max(whole.x1),
        y1: part.y1.max(whole.y1),
        x2: part.x2.min(whole.x2),
        y2: part.y2.min(whole.y2),
    };
    if part.area() > 0.0 {
        both.area() / part.area()
    } else {
        0.0
    }
}
