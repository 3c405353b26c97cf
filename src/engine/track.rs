//! One thing seen again and again by one camera for one rule, and which of the new boxes are it.
//!
//! Looks come 1 to 20 s apart, so there is no motion to follow: things that matter stay. A box is matched by where it lies
//! and how large it is; nothing is predicted, and what a track means for a case is not decided here.

use jiff::Timestamp;

use super::{
    presence::Presence,
    types::{BBox, CaseId},
};

/// How far a thing may seem to shift between two looks, in its own diagonals, whatever its rule allows it to move. Detectors
/// jitter by a fifth; two equal things side by side, touching, are 0.71 apart.
const LEAST_REACH: f64 = 0.45;
/// Least quotient of two areas that may be one thing: a box halved both ways by somebody standing in front, and jitter.
const LEAST_SIZE_RATIO: f64 = 0.2;
/// Two boxes of one look that overlap this much are one thing found twice (by two models, or under two labels). Above the
/// 0.45–0.6 at which detectors suppress within a label, so that neighbours they left apart stay apart.
const TWICE_IOU: f64 = 0.6;

/// A look that saw the thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sighting {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub bbox: BBox,
}

/// What a track is waiting for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// Known, not a candidate: its case is over, or it moved away from where it was judged. It starts anew when it is
    /// next seen well enough.
    Idle,
    /// May become a case. Its first look is pinned.
    Candidate {
        /// The pinned look.
        first: Sighting,
        /// Not confirmed before this: a case of it failed for want of evidence.
        not_before: Option<Timestamp>,
        /// The moment for which a look was asked.
        asked: Option<Timestamp>,
    },
    /// Its case could not be evidenced: the next look that sees it is pinned in place of the lost one.
    Retry {
        /// Not confirmed before this.
        until: Timestamp,
    },
    /// It is what an open case is about.
    AtCase(CaseId),
    /// It stands where and when it may. It starts anew when it is next seen well enough out of either.
    Permitted,
    /// Judged, and not to be filed: it lies outside the grid (`None`) or the platform has refused it as this case.
    HeldBack(Option<CaseId>),
}

/// One thing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Track {
    /// Where it was when it became a candidate: movement is measured from here.
    pub origin: BBox,
    /// Where it was last seen.
    pub bbox: BBox,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// How it was seen since it became a candidate.
    pub presence: Presence,
    /// What it waits for.
    pub stage: Stage,
}

/// How well `bbox` continues what was last seen at `last`: 0 = not at all, up to 1. `reach` in diagonals of `last`.
pub(super) fn affinity(last: &BBox, bbox: &BBox, reach: f64) -> f64 {
    let (small, large) = (last.area().min(bbox.area()), last.area().max(bbox.area()));
    let (size, shift) = (small / large, last.shift_to(bbox));
    let reach = reach.max(LEAST_REACH);
    // Written so that NaN is no match.
    if !(size >= LEAST_SIZE_RATIO && shift <= reach) {
        return 0.0;
    }
    // Overlap says most where there is any; closeness and size decide between things that moved off their old boxes. The
    // weights only order matches, the gates above decide whether there is one.
    0.5 * last.iou(bbox) + 0.3 * (1.0 - shift / reach) + 0.2 * size
}

/// Which track each box continues, best pair first over all, so that no track takes a box that is more another's. Ties go to
/// the older track, then to the earlier box.
pub(super) fn associate(tracks: &[Track], boxes: &[BBox], reach: f64) -> Vec<Option<usize>> {
    let mut pairs = Vec::new();
    for (t, track) in tracks.iter().enumerate() {
        for (b, bbox) in boxes.iter().enumerate() {
            let affinity = affinity(&track.bbox, bbox, reach);
            if affinity > 0.0 {
                pairs.push((affinity, t, b));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut taken = vec![false; tracks.len()];
    let mut continues = vec![None; boxes.len()];
    for (_, t, b) in pairs {
        if !taken[t] && continues[b].is_none() {
            taken[t] = true;
            continues[b] = Some(t);
        }
    }
    continues
}

/// True where `bbox` is the same thing as one of `others`, found twice in one look.
pub(super) fn is_found_twice<'a>(bbox: &BBox, mut others: impl Iterator<Item = &'a BBox>) -> bool {
    others.any(|other| bbox.iou(other) >= TWICE_IOU)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bbox(x: f32, y: f32, w: f32, h: f32) -> BBox {
        BBox {
            x1: x,
            y1: y,
            x2: x + w,
            y2: y + h,
        }
    }

    fn track(bbox: BBox) -> Track {
        Track {
            origin: bbox,
            bbox,
            last_seen: Timestamp::UNIX_EPOCH,
            presence: Presence::begin(0.5),
            stage: Stage::Idle,
        }
    }

    #[test]
    fn neighbours_that_touch_do_not_steal_from_each_other() {
        let (left, right) = (bbox(0.4, 0.5, 0.1, 0.1), bbox(0.5, 0.5, 0.1, 0.1));
        let tracks = [track(left), track(right)];
        assert_eq!(associate(&tracks, &[right, left], 0.5), [Some(1), Some(0)]);
        assert_eq!(
            associate(&tracks, &[right], 0.5),
            [Some(1)],
            "the left one is hidden, not shifted"
        );
        assert_eq!(
            associate(&tracks[..1], &[right], 0.5),
            [None],
            "a new neighbour is a new thing"
        );
    }

    #[test]
    fn the_best_pair_is_made_first_whatever_the_order() {
        // The only box is nearer to the younger track.
        let tracks = [track(bbox(0.40, 0.5, 0.1, 0.1)), track(bbox(0.44, 0.5, 0.1, 0.1))];
        assert_eq!(associate(&tracks, &[bbox(0.43, 0.5, 0.1, 0.1)], 0.5), [Some(1)]);
        // Where they tie, the older.
        let same = [track(bbox(0.4, 0.5, 0.1, 0.1)), track(bbox(0.4, 0.5, 0.1, 0.1))];
        assert_eq!(associate(&same, &[bbox(0.4, 0.5, 0.1, 0.1)], 0.5), [Some(0)]);
    }

    #[test]
    fn a_thing_half_hidden_is_still_itself() {
        let whole = bbox(0.4, 0.4, 0.2, 0.2);
        assert!(affinity(&whole, &bbox(0.4, 0.4, 0.1, 0.2), 0.5) > 0.0, "left half");
        assert!(affinity(&whole, &bbox(0.5, 0.5, 0.1, 0.1), 0.5) > 0.0, "one quarter");
        assert_eq!(
            affinity(&whole, &bbox(0.48, 0.48, 0.05, 0.05), 0.5),
            0.0,
            "a bag that lies in front"
        );
        assert_eq!(affinity(&whole, &bbox(0.7, 0.4, 0.2, 0.2), 0.5), 0.0);
        assert!(
            affinity(&whole, &bbox(0.7, 0.4, 0.2, 0.2), 2.0) > 0.0,
            "unless its rule lets it walk"
        );
    }

    #[test]
    fn twice_found_is_one() {
        let b = bbox(0.4, 0.4, 0.2, 0.2);
        assert!(is_found_twice(&bbox(0.42, 0.4, 0.2, 0.2), [b].iter()));
        assert!(!is_found_twice(&bbox(0.5, 0.4, 0.2, 0.2), [b].iter()));
    }
}
