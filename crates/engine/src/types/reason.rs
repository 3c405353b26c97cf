//! Why a thing became what it is to its rule.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::NotFiled;

/// Why a thing that is followed changed its standing. With [`NotFiled`], every step that the engine's table of transitions
/// allows has one; each is counted by the metric `gridwatch_presence_total{reason}` and kept in the case's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It was scored high enough to become a candidate.
    Appeared,
    /// It was missed so often that it no longer counts as present.
    Hidden,
    /// It counts as present again.
    SeenAgain,
    /// Its view could not be trusted, or was not looked at: that time counts for nothing.
    Blind,
    /// The rule rested: that time counts for nothing.
    Rested,
    /// The daemon was started again and knows it still.
    Restarted,
    /// Its first picture is lost: another is taken when it is next seen.
    PictureLost,
    /// It has a first picture again.
    PictureTaken,
    /// It stayed as long and was seen as often as its rule asks, and its site had no case: it is one.
    Confirmed,
    /// The case that it belonged to, or was held back for, is over or forgotten: it may become another.
    CaseOver,
    /// It is no longer where it was judged: there it is another thing.
    WentElsewhere,
    /// The configuration changed: what held it back may not any more.
    Replanned,
    /// It went away, and nothing depended on it.
    Left,
    /// Said of a case: nobody had a word for it, its place is empty, and the box took it back.
    LetGo,
    /// Why it is not filed.
    #[serde(untagged)]
    NotFiled(NotFiled),
}

impl Reason {
    /// The metric label's value, also in logs and in the case's history.
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

/// What happened to a thing for one reason: once, or again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Why.
    pub reason: Reason,
    /// When it first did.
    pub first_at: Timestamp,
    /// When it last did.
    pub last_at: Timestamp,
    /// How often.
    pub times: u32,
}
