//! The approved-sign baseline: which detections are signs that may hang where they hang.
//!
//! Whether a sign is lawful cannot be seen. What can be seen is that something is new against what an operator recorded and
//! approved; this decides whether a box is one of those signs.

use super::types::{ApprovedSign, BBox, CameraPlan, Detection, Label, NotFiled, Rule};

/// Overlap by which a box is the approved sign that hung there: a poster that covers less than half of a lawful board is not
/// taken for it. Jitter seldom reaches so far: of 1,348 boxes of 115 signs that `garbage_nano_416` found in the façades it was
/// not trained on, each at 12 looks in other light, with noise, JPEG and 3 pixels of shake, 1.3 % overlapped their sign's median
/// box less, too few for any `present_share` to make a case of.
const SAME_SIGN_IOU: f64 = 0.5;
/// An approved sign less of which lies within another hangs beside it ...
const NEIGHBOUR: f64 = 0.5;
/// ... and a box that holds so much of it hangs over it. Jitter hardly ever reaches over a whole neighbour.
const COVERED: f64 = 0.8;

/// Why a box does not count for a rule that excepts approved signs; `None` where it does, or the rule does not.
pub(super) fn approval(rule: &Rule, camera: &CameraPlan, thing: &Detection, bbox: &BBox) -> Option<NotFiled> {
    if !rule.except_approved {
        return None;
    }
    let Some(signs) = &camera.approved else {
        return Some(NotFiled::NoBaseline);
    };
    let is_lawful = match &thing.number {
        // On the board of a shop that may hang there, or the number of one, wherever else in the view it is seen. Another
        // number is no lawful one, though it hangs where one hung.
        Some(number) => signs.iter().any(|sign| match &sign.number {
            Some(lawful) => lawful == number,
            None => share_within(bbox, &sign.bbox) >= COVERED,
        }),
        None => is_approved(signs, &thing.label, bbox),
    };
    is_lawful.then_some(NotFiled::ApprovedSign)
}

/// True where a thing of `label` in `bbox` is one of `signs`: of that label, at that place, of that size.
pub fn is_approved(signs: &[ApprovedSign], label: &Label, bbox: &BBox) -> bool {
    let signs = || signs.iter().filter(|s| s.label == *label).map(|s| &s.bbox);
    signs().any(|sign| {
        // Somewhat larger than the sign is jitter; over its neighbour as well is a banner. What is part of the sign itself, such
        // as a panel recorded on its own, is no neighbour.
        let is_neighbour = |other: &&BBox| share_within(other, sign) < NEIGHBOUR;
        let hangs_over_another = || {
            signs()
                .filter(is_neighbour)
                .any(|other| share_within(other, bbox) >= COVERED)
        };
        bbox.iou(sign) >= SAME_SIGN_IOU && !hangs_over_another()
    })
}

/// How much of `part` lies within `whole`, 0..=1.
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
