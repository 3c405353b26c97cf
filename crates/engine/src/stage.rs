//! What a thing that is followed is to its rule, and the one table of how it may become something else.
//!
//! [`Track::turn`] is the only way from one stage to another: it asks the table, keeps the reason in the track's journal,
//! tells it, and lets a candidate's picture go.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    track::Track,
    types::{BBox, CameraId, CaseId, Effect, NotFiled, JournalEntry, Reason, RuleId},
};

/// A look that saw the thing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Sighting {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub bbox: BBox,
}

/// What a track is waiting for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Known, not a candidate: its case is over, or it moved away from where it was judged. It starts anew when it is
    /// next seen well enough.
    Idle,
    /// May become a case. Its first look is pinned.
    Candidate {
        /// The pinned look.
        first: Sighting,
        /// Not confirmed before this: a case of it failed for want of evidence, or a closer look doubted it.
        not_before: Option<Timestamp>,
        /// The moment for which a look was asked.
        asked: Option<Timestamp>,
        /// It is a problem, and the day's cases are filed already.
        waits: bool,
        /// What a closer look made of it, where its rule asks for one.
        #[serde(default, rename = "closer")]
        second_look: SecondLook,
    },
    /// Its first picture is lost: the next look that sees it is pinned in its place.
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

/// What a closer look made of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum SecondLook {
    /// So many looks that would have decided came without one.
    Unanswered(u32),
    /// It is there by that look, too, which scored this.
    Sure(f32),
    /// The newest was not sure enough: without another that is, no case.
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

/// A [`Stage`] by its name alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Candidate,
    /// A candidate that is a problem, and waits for another day's room.
    Waiting,
    Retry,
    AtCase,
    Permitted,
    HeldBack,
    /// Not followed any more.
    Gone,
}

/// What a thing becomes for `reason`; `None` where that cannot be.
fn transition(from: Phase, reason: Reason) -> Option<Phase> {
    use Phase::{AtCase, Candidate, Gone, HeldBack, Idle, Permitted, Retry, Waiting};
    let to = match (reason, from) {
        // Seen well enough, where it may not be. What is new is idle until then.
        (Reason::Appeared, Idle | Permitted) => Candidate,
        // What its presence goes through changes nothing by itself.
        (Reason::Hidden | Reason::SeenAgain | Reason::Blind | Reason::Rested, Candidate | Waiting) => from,
        (Reason::Restarted, Idle | Candidate | Waiting | Retry | AtCase | Permitted | HeldBack) => from,
        (Reason::NotFiled(NotFiled::Doubted), Candidate | Waiting) => from,
        // Its picture goes with a failed case, or with the daemon.
        (Reason::PictureLost, Candidate | Waiting | AtCase) => Retry,
        (Reason::PictureTaken, Retry) => Candidate,
        // It is a problem: new, or one that the platform has, had, or has refused.
        (Reason::Confirmed, Candidate | Waiting) => AtCase,
        (Reason::NotFiled(NotFiled::OpenCaseAtSite | NotFiled::CaseReopened), Candidate | Waiting) => AtCase,
        // What was confirmed here and elsewhere at a time may give way afterwards.
        (Reason::NotFiled(NotFiled::OpenElsewhere), Candidate | Waiting | AtCase) => AtCase,
        (Reason::NotFiled(NotFiled::KnownOtherwise | NotFiled::RejectedBefore), Candidate | Waiting) => HeldBack,
        (Reason::NotFiled(NotFiled::OutsideGrid), Candidate | Waiting) => HeldBack,
        (Reason::NotFiled(NotFiled::OverDailyCap), Candidate) => Waiting,
        // What it depended on is over.
        (Reason::CaseOver, AtCase | HeldBack) => Idle,
        (Reason::Replanned, HeldBack) => Idle,
        (Reason::WentElsewhere, Retry | AtCase | Permitted | HeldBack) => Idle,
        // It is none, as long as it is there and then.
        (Reason::NotFiled(NotFiled::Permitted), Idle | Candidate | Waiting | Retry) => Permitted,
        (Reason::NotFiled(NotFiled::Moved), Candidate | Waiting) => Idle,
        // It went away, or nobody could tell.
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

/// Of whom a step is told, and to whom.
pub(super) struct TransitionContext<'a> {
    pub(super) camera: &'a CameraId,
    pub(super) rule: &'a RuleId,
    pub(super) at: Timestamp,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl Track {
    /// It becomes `stage`, for `reason`.
    pub(super) fn change_stage(&mut self, stage: Stage, reason: Reason, context: TransitionContext<'_>) {
        debug_assert_eq!(
            transition(self.stage.phase(), reason),
            Some(stage.phase()),
            "{reason:?}"
        );
        self.set_stage(stage, reason, context);
    }

    /// Something that changes nothing by itself happened to it.
    pub(super) fn record_event(&mut self, reason: Reason, mut context: TransitionContext<'_>) {
        debug_assert_eq!(
            transition(self.stage.phase(), reason),
            Some(self.stage.phase()),
            "{reason:?}"
        );
        self.log(reason, context.at);
        context.emit(reason);
    }

    /// It is not followed any more. A candidate's end is told with `reason`; for anything else nothing depended on it.
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
            // It is not there to be let go.
            || reason == Reason::PictureLost;
        if !keeps_picture {
            context.effects.push(Effect::Unpin {
                camera: context.camera.clone(),
                at: first.at,
            });
        }
    }

    /// One entry a reason: a thing that flickers for days has no longer a history than one that does not.
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

    /// Rows are reasons, columns what a thing is, in the order of `PHASES`; the letter is what it becomes, `-` is Gone.
    #[test]
    fn the_whole_table_of_steps() {
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
                // Said of a case.
                "....... let_go",
                // Said of single detections, which are followed by nobody.
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
                // Said of a case; its things lose their picture.
                "....... evidence_failed",
                ".--.... blind_too_long",
                ".--.... reaimed",
                ".--.... reconfigured",
            ]
        );
    }
}
