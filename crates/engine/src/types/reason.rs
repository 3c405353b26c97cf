//! Reasons for transitions and events of tracked objects.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::NotFiled;

/// Why a tracked object changed its stage, or what happened to it. Together with [`NotFiled`] there is one for every
/// transition that the engine's table allows. Each is counted by the metric `gridwatch_presence_total{reason}` and kept
/// in the case's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It scored high enough to become a candidate.
    Appeared,
    /// It was missed so often that it no longer counts as present.
    Hidden,
    /// It counts as present again.
    SeenAgain,
    /// Its view was not clear, or there was no look: that time does not count.
    Blind,
    /// The rule was not active: that time does not count.
    Rested,
    /// The daemon restarted and resumed the track.
    Restarted,
    /// Its first picture is lost; another is taken when it is next seen.
    PictureLost,
    /// It has a first picture again.
    PictureTaken,
    /// It met the rule's dwell and presence, and its site had no case: a case is filed.
    Confirmed,
    /// The case that it belonged to, or was held back for, ended or was forgotten: it may become another.
    CaseOver,
    /// It moved away from where it was judged; there it is a new object.
    WentElsewhere,
    /// The configuration changed: what held it back may no longer apply.
    Replanned,
    /// It left, and nothing depended on it.
    Left,
    /// For a case: unanswered for long and its place empty, so the box withdrew it.
    LetGo,
    /// It was not filed, for this reason.
    #[serde(untagged)]
    NotFiled(NotFiled),
}

impl Reason {
    /// The metric label's value, also used in logs and in the case's history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Appeared => "appeared",
            Self::Hidden => "hidden",
            Self::SeenAgain => "seen_again",
            Self::Blind => "blind",
            Self::Rested => "rested",
            Self::Restarted => "restarted",
            Self::PictureLost => "picture_lost",
            Self::PictureTaken => "picture_taken",
            Self::Confirmed => "confirmed",
            Self::CaseOver => "case_over",
            Self::WentElsewhere => "went_elsewhere",
            Self::Replanned => "replanned",
            Self::Left => "left",
            Self::LetGo => "let_go",
            Self::NotFiled(reason) => reason.as_str(),
        }
    }
}

/// Occurrences of one reason in an object's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The reason.
    pub reason: Reason,
    /// First occurrence.
    pub first_at: Timestamp,
    /// Latest occurrence.
    pub last_at: Timestamp,
    /// Number of occurrences.
    pub times: u32,
}
