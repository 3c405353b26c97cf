//! The stages of a tracked object under one rule, and the table of legal transitions between them.
//!
//! [`Track::change_stage`] is the only way from one stage to another: it checks the table, records the reason in the
//! track's journal, emits the effect, and unpins the candidate's picture when it is no longer needed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    track::Track,
    types::{BBox, CameraId, CaseId, Effect, JournalEntry, NotFiled, Reason, RuleId},
};

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
    Candidate {
        /// The pinned first look.
        first: Sighting,
        /// No confirmation before this time: the evidence of an earlier case failed, or a second look was not confident
        /// enough.
        not_before: Option<Timestamp>,
        /// The time for which an extra look was last requested.
        asked: Option<Timestamp>,
        /// Ready to file, but the daily cap is reached.
        waits: bool,
        /// Result of the second look, for rules that require one.
        #[serde(default, rename = "closer")]
        second_look: SecondLook,
    },
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
    fn phase(&self) -> Phase {
        match self {
            Self::Idle => Phase::Idle,
            Self::Candidate { waits: false, .. } => Phase::Candidate,
            Self::Candidate { waits: true, .. } => Phase::Waiting,
            Self::Retry { .. } => Phase::Retry,
            Self::AtCase(_) => Phase::AtCase,
            Self::Permitted => Phase::Permitted,
            Self::HeldBack(_) => Phase::HeldBack,
        }
    }
}

/// A [`Stage`] without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
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

/// The phase that follows `from` for `reason`; `None` if the table does not allow it.
fn transition(from: Phase, reason: Reason) -> Option<Phase> {
    use Phase::{AtCase, Candidate, Gone, HeldBack, Idle, Permitted, Retry, Waiting};
    let to = match (reason, from) {
        // A confident sighting where the object is not permitted. A new track starts as idle.
        (Reason::Appeared, Idle | Permitted) => Candidate,
        // Presence events do not change the stage.
        (Reason::Hidden | Reason::SeenAgain | Reason::Blind | Reason::Rested, Candidate | Waiting) => from,
        (Reason::Restarted, Idle | Candidate | Waiting | Retry | AtCase | Permitted | HeldBack) => from,
        (Reason::NotFiled(NotFiled::Doubted), Candidate | Waiting) => from,
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

/// What a transition is reported with, and where.
pub(super) struct TransitionContext<'a> {
    pub(super) camera: &'a CameraId,
    pub(super) rule: &'a RuleId,
    pub(super) at: Timestamp,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl Track {
    /// Moves to `stage` for `reason`.
    pub(super) fn change_stage(&mut self, stage: Stage, reason: Reason, context: TransitionContext<'_>) {
        debug_assert_eq!(
            transition(self.stage.phase(), reason),
            Some(stage.phase()),
            "{reason:?}"
        );
        self.set_stage(stage, reason, context);
    }

    /// Records an event that does not change the stage.
    pub(super) fn record_event(&mut self, reason: Reason, mut context: TransitionContext<'_>) {
        debug_assert_eq!(
            transition(self.stage.phase(), reason),
            Some(self.stage.phase()),
            "{reason:?}"
        );
        self.log(reason, context.at);
        context.emit(reason);
    }

    /// Ends the track. A candidate ends with `reason`, any other stage with [`Reason::Left`].
    pub(super) fn end(&mut self, reason: NotFiled, context: TransitionContext<'_>) {
        let reason = match self.stage {
            Stage::Candidate { .. } => Reason::NotFiled(reason),
            _ => Reason::Left,
        };
        debug_assert_eq!(transition(self.stage.phase(), reason), Some(Phase::Gone), "{reason:?}");
        self.set_stage(Stage::Idle, reason, context);
    }

    fn set_stage(&mut self, stage: Stage, reason: Reason, mut context: TransitionContext<'_>) {
        self.log(reason, context.at);
        let before = std::mem::replace(&mut self.stage, stage);
        context.emit(reason);
        let Stage::Candidate { first, .. } = before else { return };
        let keeps_picture = matches!(self.stage, Stage::Candidate { .. })
            // Handed over with the case.
            || reason == Reason::Confirmed
            // There is no picture left to unpin.
            || reason == Reason::PictureLost;
        if !keeps_picture {
            context.effects.push(Effect::Unpin {
                camera: context.camera.clone(),
                at: first.at,
            });
        }
    }

    /// Keeps one entry per reason, so that an object that flickers for days does not grow its journal.
    fn log(&mut self, reason: Reason, at: Timestamp) {
        match self.journal.iter_mut().find(|n| n.reason == reason) {
            Some(noted) => {
                noted.last_at = at;
                noted.times = noted.times.saturating_add(1);
            }
            None => self.journal.push(JournalEntry {
                reason,
                first_at: at,
                last_at: at,
                times: 1,
            }),
        }
    }
}

impl TransitionContext<'_> {
    pub(super) fn emit(&mut self, reason: Reason) {
        let (camera, rule, at) = (self.camera.clone(), self.rule.clone(), self.at);
        self.effects.push(match reason {
            Reason::NotFiled(reason) => Effect::NotFiled {
                camera,
                rule,
                reason,
                at,
            },
            reason => Effect::Transition {
                camera,
                rule,
                reason,
                at,
            },
        });
    }
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

    /// One row per reason, one column per phase in the order of `PHASES`; the letter is the new phase, `-` is `Gone`.
    #[test]
    fn the_whole_transition_table() {
        use NotFiled as N;
        use Reason as R;
        let reasons = [
            R::Appeared,
            R::Hidden,
            R::SeenAgain,
            R::Blind,
            R::Rested,
            R::Restarted,
            R::PictureLost,
            R::PictureTaken,
            R::Confirmed,
            R::CaseOver,
            R::WentElsewhere,
            R::Replanned,
            R::Left,
            R::LetGo,
        ];
        let not_filed = [
            N::ScoreTooLow,
            N::OutsideZones,
            N::ApprovedSign,
            N::NoBaseline,
            N::Permitted,
            N::TooSmall,
            N::LeftBeforeDwell,
            N::SeenTooRarely,
            N::Moved,
            N::Unattended,
            N::Doubted,
            N::OpenCaseAtSite,
            N::OpenElsewhere,
            N::KnownOtherwise,
            N::OverDailyCap,
            N::LeftWhileWaiting,
            N::CaseReopened,
            N::RejectedBefore,
            N::OutsideGrid,
            N::EvidenceFailed,
            N::BlindTooLong,
            N::Reaimed,
            N::Reconfigured,
        ];
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
        let all = reasons.into_iter().chain(not_filed.map(R::NotFiled));
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
                "....... outside_zones",
                "....... approved_sign",
                "....... no_baseline",
                "PPPP... permitted",
                "....... too_small",
                ".-..... left_before_dwell",
                ".-..... seen_too_rarely",
                ".II.... moved",
                ".-..... unattended",
                ".CW.... doubted",
                ".AA.... open_case_at_site",
                ".AA.A.. open_elsewhere",
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
