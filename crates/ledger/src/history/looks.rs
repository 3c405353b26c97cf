//! The looks of one camera and what was made of them, the newest first.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

use super::{Gaps, HistoryError, HistorySource, Task};
use crate::RecordedEvent;
use gridwatch_engine::{
    BBox, CameraId, CaseId, DetectionOutcome, Effect, JudgedDetection, Label, Light, NotFiled, Reason, RuleId, View,
};

/// One look.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LookHistory {
    /// When the picture arrived.
    pub at: Timestamp,
    /// Whether its view could be trusted.
    pub view: View,
    /// Its light.
    pub light: Light,
    /// Everything that the models found.
    pub detections: Vec<SeenDetection>,
    /// Labels that were not searched for.
    pub not_searched: Vec<Label>,
    /// What each rule took the detections for.
    pub judged: Vec<JudgedSeen>,
    /// What happened to the rules' objects at this look.
    pub events: Vec<LookEvent>,
}

/// A detection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeenDetection {
    /// Its label.
    pub label: Label,
    /// Its score, 0..=1.
    pub score: f32,
    /// Its box, as fractions of the picture.
    #[serde(rename = "box")]
    pub bbox: BBox,
}

/// A detection, or a group of them, as one rule took it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgedSeen {
    /// The rule.
    pub rule: RuleId,
    /// Its box; `None` outside the picture.
    #[serde(rename = "box")]
    pub bbox: Option<BBox>,
    /// Its score, 0..=1.
    pub score: f32,
    /// Score that starts a candidate; `None` if nothing of its newness does.
    pub start_score: Option<f32>,
    /// `continues`, `starts`, `missed`, `not_counted` or `resting`.
    pub outcome: &'static str,
    /// Why it did not count.
    pub reason: Option<NotFiled>,
}

/// What happened to an object of a rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LookEvent {
    /// The rule.
    pub rule: RuleId,
    /// The reason.
    pub reason: Reason,
    /// The case, if one was opened.
    pub case: Option<CaseId>,
}

/// A page of looks.
#[derive(Debug, Clone, Default)]
pub struct LookPage {
    /// The newest first.
    pub looks: Vec<LookHistory>,
    /// There are older ones in the window. The next page has the time of the oldest of these as the end of its window.
    pub has_older: bool,
    /// What could not be read or judged.
    pub gaps: Gaps,
}

/// The newest `limit` looks of a camera, or preset, in the window. For the page after it, end the window at the oldest of them.
///
/// # Errors
/// [`HistoryError`].
pub fn page(
    source: &HistorySource<'_>,
    camera: &CameraId,
    limit: usize,
    task: Task<'_>,
) -> Result<LookPage, HistoryError> {
    let mut looks: VecDeque<LookHistory> = VecDeque::new();
    let mut page = LookPage::default();
    let (_, gaps) = source.replay(task, |replay, entry| {
        let look = match &entry.event {
            RecordedEvent::Observed(look) if look.camera == *camera && source.window.contains(look.at) => look.clone(),
            _ => {
                replay.apply(entry);
                return;
            }
        };
        let judged = match replay.plan() {
            Some(_) => replay.engine().explain(&look),
            None => Vec::new(),
        };
        let effects = replay.apply(entry);
        if looks.len() >= limit {
            looks.pop_front();
            page.has_older = true;
        }
        if limit == 0 {
            return;
        }
        looks.push_back(LookHistory {
            at: look.at,
            view: look.view,
            light: look.light,
            detections: look
                .detections
                .into_iter()
                .map(|d| SeenDetection {
                    label: d.label,
                    score: d.score,
                    bbox: d.bbox,
                })
                .collect(),
            not_searched: look.not_searched,
            judged: judged.into_iter().map(JudgedSeen::from).collect(),
            events: events(&effects),
        });
    })?;
    page.looks = looks.into_iter().rev().collect();
    page.gaps = gaps;
    Ok(page)
}

impl From<JudgedDetection> for JudgedSeen {
    fn from(judged: JudgedDetection) -> Self {
        let (outcome, reason) = match judged.outcome {
            DetectionOutcome::Continues => ("continues", None),
            DetectionOutcome::Starts => ("starts", None),
            DetectionOutcome::Missed(reason) => ("missed", Some(reason)),
            DetectionOutcome::NotCounted(reason) => ("not_counted", Some(reason)),
            DetectionOutcome::Resting => ("resting", None),
        };
        Self {
            rule: judged.rule,
            bbox: judged.bbox,
            score: judged.score,
            start_score: judged.start_score,
            outcome,
            reason,
        }
    }
}

fn events(effects: &[Effect]) -> Vec<LookEvent> {
    let event = |effect: &Effect| match effect {
        Effect::Open(case) => Some(LookEvent {
            rule: case.rule.clone(),
            reason: Reason::Confirmed,
            case: Some(case.id.clone()),
        }),
        // Told with its case.
        Effect::Transition {
            reason: Reason::Confirmed,
            ..
        } => None,
        Effect::Transition { rule, reason, .. } => Some(LookEvent {
            rule: rule.clone(),
            reason: *reason,
            case: None,
        }),
        Effect::NotFiled { rule, reason, .. } => Some(LookEvent {
            rule: rule.clone(),
            reason: Reason::NotFiled(*reason),
            case: None,
        }),
        _ => None,
    };
    effects.iter().filter_map(event).collect()
}
