//! The line that the daemon logs each minute: what it looked at, what may become a case and when, and what waits to be sent.

use std::{collections::BTreeMap, time::Duration};

use gridwatch_base::text::counted;
use gridwatch_config::raw::Span;
use gridwatch_engine::{CameraId, CandidateStatus, Engine, Observation, View};
use gridwatch_store::OutboxDepth;

/// Candidates named in a line; the rest are counted.
const MAX_NAMED: usize = 5;

/// Looks since the last line.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Clear and other looks, by camera.
    looks: BTreeMap<String, (u32, u32)>,
}

impl Activity {
    pub(super) fn count(&mut self, look: &Observation) {
        let (clear, unclear) = self.looks.entry(look.camera.device().to_owned()).or_default();
        *(if look.view == View::Clear { clear } else { unclear }) += 1;
    }

    /// Describes the time since the last line, in which `cameras` were to be looked at, and starts anew.
    pub(super) fn line(&mut self, engine: &Engine, cameras: &[&CameraId], outbox: OutboxDepth) -> String {
        let looks = std::mem::take(&mut self.looks);
        let (clear, unclear) = looks.values().fold((0, 0), |(a, b), (c, u)| (a + c, b + u));
        let mut line = format!("In the last minute: {}", counted(clear + unclear, "look", "looks"));
        if unclear > 0 {
            line += &format!(" ({unclear} through a view that cannot be judged)");
        }
        let missing: Vec<&str> = cameras
            .iter()
            .map(|c| c.as_str())
            .filter(|c| !looks.contains_key(*c))
            .collect();
        if !missing.is_empty() {
            line += &format!(", none at {}", missing.join(", "));
        }
        let mut candidates: Vec<CandidateStatus<'_>> = engine.candidates().collect();
        candidates.sort_by_key(|c| c.missing_dwell);
        line += &format!("; {}", counted(candidates.len(), "candidate", "candidates"));
        for (i, candidate) in candidates.iter().take(MAX_NAMED).enumerate() {
            let separator = if i == 0 { ": " } else { ", " };
            line += &format!(
                "{separator}{} at {} ({})",
                candidate.rule.id,
                candidate.camera,
                remaining(candidate)
            );
        }
        if candidates.len() > MAX_NAMED {
            line += &format!(" and {} more", candidates.len() - MAX_NAMED);
        }
        let open = engine.open_cases().count();
        line += &format!(
            "; {}; {} waiting to be sent",
            counted(open, "open case", "open cases"),
            counted(outbox.waiting, "message", "messages")
        );
        if outbox.awaiting_receipt() > 0 {
            line += &format!(", {} without a receipt of the platform", outbox.awaiting_receipt());
        }
        if outbox.quarantined > 0 {
            line += &format!(", {} in quarantine", counted(outbox.quarantined, "message", "messages"));
        }
        line
    }
}

fn remaining(candidate: &CandidateStatus<'_>) -> String {
    if candidate.waits_for_cap {
        return "waits for tomorrow, the daily limit is reached".to_owned();
    }
    if candidate.missing_dwell.is_zero() {
        return "stayed long enough, not yet seen steadily enough".to_owned();
    }
    // Whole seconds, rounded up: the last one reads as 1s.
    let seconds = candidate.missing_dwell.as_secs() + u64::from(candidate.missing_dwell.subsec_nanos() > 0);
    format!("{} to go", Span(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::daemon::test_config::demo_config;
    use gridwatch_engine::{BBox, Detection, Input, Light};
    use jiff::{Timestamp, ToSpan};

    fn depth(waiting: u32, quarantined: u32) -> OutboxDepth {
        OutboxDepth {
            waiting,
            quarantined,
            ..OutboxDepth::default()
        }
    }

    #[test]
    fn the_line_names_what_is_missing_and_what_may_become_a_case() {
        let dir = tempfile::tempdir().unwrap();
        let config = demo_config(dir.path(), |_| {});
        let mut engine = Engine::new();
        engine.apply(Input::Configured(Arc::clone(&config.plan)));
        let cameras: Vec<&CameraId> = config.cameras.iter().map(|c| &c.id).collect();
        let mut activity = Activity::default();
        let start = Timestamp::from_second(1_780_000_000).unwrap();
        let bbox = BBox {
            x1: 0.45,
            y1: 0.7,
            x2: 0.55,
            y2: 0.85,
        };
        for n in 0..3 {
            let look = Observation {
                camera: "street-a".into(),
                at: start + (2 * n).seconds(),
                view: View::Clear,
                light: Light::Day,
                detections: vec![Detection::new("garbage", 0.9, bbox)],
                not_searched: Vec::new(),
            };
            activity.count(&look);
            engine.apply(Input::Observed(look));
        }
        let line = activity.line(&engine, &cameras, depth(1, 0));
        assert_eq!(
            line,
            "In the last minute: 3 looks, none at street-b, square-c; 1 candidate: garbage at street-a (8s to go); \
             0 open cases; 1 message waiting to be sent"
        );
        let quiet = activity.line(&Engine::new(), &cameras, depth(0, 2));
        assert!(
            quiet.starts_with("In the last minute: 0 looks, none at street-a, street-b, square-c; 0 candidates;"),
            "{quiet}"
        );
        assert!(
            quiet.ends_with("0 messages waiting to be sent, 2 messages in quarantine"),
            "{quiet}"
        );
    }
}
