//! The stages of a tracked object under one rule, and the table of legal transitions between them.
//!
//! [`Track`](super::track::Track) owns a stage and changes it through this table only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::types::{BBox, CaseId, NotFiled, Reason};

/// One look that saw the object.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Sighting {
    /// Time of the look.
    pub at: Timestamp,
    /// Bounding box in that look.
    pub bbox: BBox,
}

/// Where a tracked object stands under its rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Tracked, but not a candidate: its case ended, or it moved away from where it was judged. The next sufficiently
    /// confident sighting starts a new candidate.
    Idle,
    /// May become a case. Its first look is pinned.
    Candidate(Candidate),
    /// The first picture is lost; the next look that sees the object is pinned instead.
    Retry {
        /// No confirmation before this time.
        until: Timestamp,
    },
    /// Belongs to this open case.
    AtCase(CaseId),
    /// On permitted ground during permitted hours. A confident sighting outside either starts a new candidate.
    Permitted,
    /// Ready, but must not be filed: outside the grid (`None`), or the platform rejected it as this case.
    HeldBack(Option<CaseId>),
}

/// What is known of an object that may become a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Candidate {
    /// The pinned first look.
    first: Sighting,
    /// No confirmation before this time: the evidence of an earlier case failed, or a second look was not confident
    /// enough.
    pub not_before: Option<Timestamp>,
    /// The time for which an extra look was last requested.
    pub asked: Option<Timestamp>,
    /// Ready to file, but the daily cap is reached.
    waits: bool,
    /// Result of the second look, for rules that require one.
    #[serde(default, rename = "closer")]
    pub second_look: SecondLook,
}

impl Candidate {
    /// A candidate whose first look is pinned.
    pub(super) fn new(first: Sighting, not_before: Option<Timestamp>) -> Self {
        Self {
            first,
            not_before,
            asked: None,
            waits: false,
            second_look: SecondLook::default(),
        }
    }

    /// The same candidate, waiting for the next day's cap.
    pub(super) fn waiting(&self) -> Self {
        Self {
            waits: true,
            ..self.clone()
        }
    }

    /// The pinned first look.
    pub(super) fn first(&self) -> Sighting {
        self.first
    }

    /// Ready to file, but waiting for the next day's cap.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }
}

/// Second-look state of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum SecondLook {
    /// No second look so far; counts the looks that would have decided but came without one.
    Unanswered(u32),
    /// Confirmed by a second look with this score.
    Sure(f32),
    /// The latest second look scored too low. Not filed until another one scores high enough.
    Doubted,
}

impl Default for SecondLook {
    fn default() -> Self {
        Self::Unanswered(0)
    }
}

impl Stage {
    /// Its phase, which the table of transitions is about.
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Idle => Phase::Idle,
            Self::Candidate(candidate) if candidate.waits => Phase::Waiting,
            Self::Candidate(_) => Phase::Candidate,
            Self::Retry { .. } => Phase::Retry,
            Self::AtCase(_) => Phase::AtCase,
            Self::Permitted => Phase::Permitted,
            Self::HeldBack(_) => Phase::HeldBack,
        }
    }
}

/// A [`Stage`] without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    Candidate,
    /// A candidate that is ready and waits for the next day's cap.
    Waiting,
    Retry,
    AtCase,
    Permitted,
    HeldBack,
    /// No longer tracked.
    Gone,
}

impl Phase {
    /// Its name in reports of illegal transitions.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Candidate => "candidate",
            Self::Waiting => "waiting",
            Self::Retry => "retry",
            Self::AtCase => "at_case",
            Self::Permitted => "permitted",
            Self::HeldBack => "held_back",
            Self::Gone => "gone",
        }
    }
}

/// The phase that follows `from` for `reason`; `None` if the table does not allow it.
pub(super) fn transition(from: Phase, reason: Reason) -> Option<Phase> {
    use Phase::{AtCase, Candidate, Gone, HeldBack, Idle, Permitted, Retry, Waiting};
    let to = match (reason, from) {
        // A confident sighting where the object is not permitted. A new track starts as idle.
        (Reason::Appeared, Idle | Permitted) => Candidate,
        // Presence events do not change the stage.
        (Reason::Hidden | Reason::SeenAgain | Reason::Blind | Reason::Rested, Candidate | Waiting) => from,
        (Reason::Restarted, Idle | Candidate | Waiting | Retry | AtCase | Permitted | HeldBack) => from,
        (Reason::NotFiled(NotFiled::Doubted | NotFiled::FiledOtherwise), Candidate | Waiting) => from,
        // The picture was lost with a failed case or a restart.
        (Reason::PictureLost, Candidate | Waiting | AtCase) => Retry,
        (Reason::PictureTaken, Retry) => Candidate,
        // Ready: a new case, or one that the platform already has, had, or rejected.
        (Reason::Confirmed, Candidate | Waiting) => AtCase,
        (Reason::NotFiled(NotFiled::OpenCaseAtSite | NotFiled::CaseReopened), Candidate | Waiting) => AtCase,
        // If two boxes confirmed the same problem at the same time, one yields afterwards.
        (Reason::NotFiled(NotFiled::OpenElsewhere), Candidate | Waiting | AtCase) => AtCase,
        (Reason::NotFiled(NotFiled::KnownOtherwise | NotFiled::RejectedBefore), Candidate | Waiting) => HeldBack,
        (Reason::NotFiled(NotFiled::OutsideGrid), Candidate | Waiting) => HeldBack,
        (Reason::NotFiled(NotFiled::OverDailyCap), Candidate) => Waiting,
        // The case or the condition that held the object back is gone.
        (Reason::CaseOver, AtCase | HeldBack) => Idle,
        (Reason::Replanned, HeldBack) => Idle,
        (Reason::WentElsewhere, Retry | AtCase | Permitted | HeldBack) => Idle,
        // No problem as long as it stays on permitted ground during permitted hours.
        (Reason::NotFiled(NotFiled::Permitted), Idle | Candidate | Waiting | Retry) => Permitted,
        (Reason::NotFiled(NotFiled::Moved), Candidate | Waiting) => Idle,
        // It left, or it could no longer be observed.
        (Reason::NotFiled(NotFiled::LeftBeforeDwell | NotFiled::SeenTooRarely | NotFiled::Unattended), Candidate) => {
            Gone
        }
        (Reason::NotFiled(NotFiled::LeftWhileWaiting), Waiting) => Gone,
        (
            Reason::NotFiled(NotFiled::BlindTooLong | NotFiled::Reaimed | NotFiled::Reconfigured),
            Candidate | Waiting,
        ) => Gone,
        (Reason::Left, Idle | Retry | AtCase | Permitted | HeldBack) => Gone,
        _ => return None,
    };
    Some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 7] = [
        Phase::Idle,
        Phase::Candidate,
        Phase::Waiting,
        Phase::Retry,
        Phase::AtCase,
        Phase::Permitted,
        Phase::HeldBack,
    ];

    const REASONS: [Reason; 14] = [
        Reason::Appeared,
        Reason::Hidden,
        Reason::SeenAgain,
        Reason::Blind,
        Reason::Rested,
        Reason::Restarted,
        Reason::PictureLost,
        Reason::PictureTaken,
        Reason::Confirmed,
        Reason::CaseOver,
        Reason::WentElsewhere,
        Reason::Replanned,
        Reason::Left,
        Reason::LetGo,
    ];

    const NOT_FILED: [NotFiled; 26] = [
        NotFiled::ScoreTooLow,
        NotFiled::NotNew,
        NotFiled::OutsideZones,
        NotFiled::ApprovedSign,
        NotFiled::NoBaseline,
        NotFiled::Permitted,
        NotFiled::OtherLabel,
        NotFiled::TooSmall,
        NotFiled::LeftBeforeDwell,
        NotFiled::SeenTooRarely,
        NotFiled::Moved,
        NotFiled::Unattended,
        NotFiled::Doubted,
        NotFiled::OpenCaseAtSite,
        NotFiled::OpenElsewhere,
        NotFiled::FiledOtherwise,
        NotFiled::KnownOtherwise,
        NotFiled::OverDailyCap,
        NotFiled::LeftWhileWaiting,
        NotFiled::CaseReopened,
        NotFiled::RejectedBefore,
        NotFiled::OutsideGrid,
        NotFiled::EvidenceFailed,
        NotFiled::BlindTooLong,
        NotFiled::Reaimed,
        NotFiled::Reconfigured,
    ];

    /// One row per reason, one column per phase in the order of `PHASES`; the letter is the new phase, `-` is `Gone`.
    #[test]
    fn the_whole_transition_table() {
        let letter = |to| match to {
            None => '.',
            Some(Phase::Gone) => '-',
            Some(Phase::Idle) => 'I',
            Some(Phase::Candidate) => 'C',
            Some(Phase::Waiting) => 'W',
            Some(Phase::Retry) => 'R',
            Some(Phase::AtCase) => 'A',
            Some(Phase::Permitted) => 'P',
            Some(Phase::HeldBack) => 'H',
        };
        let all = REASONS.into_iter().chain(NOT_FILED.map(Reason::NotFiled));
        let table: Vec<String> = all
            .map(|reason| {
                let row: String = PHASES.iter().map(|from| letter(transition(*from, reason))).collect();
                format!("{row} {}", reason.as_str())
            })
            .collect();
        assert_eq!(
            table,
            [
                //ICWRAPH
                "C....C. appeared",
                ".CW.... hidden",
                ".CW.... seen_again",
                ".CW.... blind",
                ".CW.... rested",
                "ICWRAPH restarted",
                ".RR.R.. picture_lost",
                "...C... picture_taken",
                ".AA.... confirmed",
                "....I.I case_over",
                "...IIII went_elsewhere",
                "......I replanned",
                "-..---- left",
                // Reported for cases.
                "....... let_go",
                // Reported for single detections, which have no track.
                "....... score_too_low",
                "....... not_new",
                "....... outside_zones",
                "....... approved_sign",
                "....... no_baseline",
                "PPPP... permitted",
                "....... other_label",
                "....... too_small",
                ".-..... left_before_dwell",
                ".-..... seen_too_rarely",
                ".II.... moved",
                ".-..... unattended",
                ".CW.... doubted",
                ".AA.... open_case_at_site",
                ".AA.A.. open_elsewhere",
                ".CW.... filed_otherwise",
                ".HH.... known_otherwise",
                ".W..... over_daily_cap",
                "..-.... left_while_waiting",
                ".AA.... case_reopened",
                ".HH.... rejected_before",
                ".HH.... outside_grid",
                // Reported for a case; its tracks get `picture_lost`.
                "....... evidence_failed",
                ".--.... blind_too_long",
                ".--.... reaimed",
                ".--.... reconfigured",
            ]
        );
    }
}
