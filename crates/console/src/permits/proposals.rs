//! Proposes permits from the ledger: places where things stood at similar hours on most days, as `gridwatch ledger places` finds them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gridwatch_contract::CaseRecord;
use gridwatch_engine::{BBox, CameraId, Rule, calendar::DAY};
use gridwatch_ledger::{
    LedgerError, Reader,
    places::{DayType, MAX_DAYS, PlaceFinder, PlaceNote, RegularHours, RegularPlace, Regularity, is_about_goods},
};
use gridwatch_store::CaseQuery;
use gridwatch_web::{Actor, Rejection};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{access::CameraAccess as _, app::App, cases, configuration};

/// Days that are searched if nothing else is asked for.
pub(crate) const DEFAULT_DAYS: u32 = 14;
/// Longest search: a quarter of a year of many cameras.
pub(crate) const TIME: Duration = Duration::from_mins(3);
/// Cases that are compared with the places.
const MAX_CASES: u32 = 5000;
/// Entries between two looks at whether the answer is still wanted.
const CHECK_EVERY: usize = 4096;

/// Why a place should be looked at before it is permitted, or should not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The platform accepted this case here: what stands here is a problem.
    Accepted(String),
    /// It stands there day and night, so it belongs to the background.
    Always,
    /// It begins after midnight, when a window belongs to another day.
    AfterMidnight,
}

/// A place that could be permitted.
#[derive(Debug, Clone)]
pub(crate) struct PlaceProposal {
    pub(crate) view: CameraId,
    pub(crate) rules: Vec<String>,
    pub(crate) bbox: BBox,
    pub(crate) hours: Vec<ProposedHours>,
    /// Cases that were filed here in that time.
    pub(crate) cases: usize,
    pub(crate) doubt: Option<Doubt>,
}

/// Hours of a place on days of one kind.
#[derive(Debug, Clone)]
pub(crate) struct ProposedHours {
    pub(crate) days: DayType,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) seen: u32,
    pub(crate) watched: u32,
}

impl PlaceProposal {
    /// The corners of its ground, rounded to what a hand can draw.
    pub(crate) fn polygon(&self) -> Value {
        let [x1, y1, x2, y2] = [self.bbox.x1, self.bbox.y1, self.bbox.x2, self.bbox.y2]
            .map(|side| (f64::from(side.clamp(0.0, 1.0)) * 1e3).round() / 1e3);
        json!([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    }

    /// The windows of its schedule; one for all days if their hours are equal.
    pub(crate) fn windows(&self) -> Value {
        let window = |days: &str, hours: &ProposedHours| json!({ "days": [days], "from": hours.from, "to": hours.to });
        match &self.hours[..] {
            [a, b] if (&a.from, &a.to) == (&b.from, &b.to) => json!([window("daily", a)]),
            hours => hours.iter().map(|one| window(one.days.name(), one)).collect(),
        }
    }
}

/// What was found, and in how many rules it was looked for.
pub(crate) struct Proposals {
    pub(crate) places: Vec<PlaceProposal>,
    /// No rule is about goods or tables, so there is nothing to permit.
    pub(crate) has_no_rule: bool,
}

/// Cancels a search when the browser has gone.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Searches the ledger for places in the views that the user may see. Reads the whole period: seconds for some weeks of many cameras.
pub(crate) async fn search(app: &Arc<App>, actor: &Actor, days: u32) -> Result<Proposals, Rejection> {
    let config = app.config();
    let rules: Vec<Rule> = config
        .plan
        .rules
        .iter()
        .filter(|rule| is_about_goods(rule))
        .cloned()
        .collect();
    let has_no_rule = rules.is_empty();
    let cameras = config.cameras.iter().filter(|camera| actor.sees(camera));
    let views: BTreeSet<CameraId> = cameras
        .flat_map(|camera| &camera.presets)
        .map(|preset| preset.view.clone())
        .collect();
    let ledger = config.ledger.as_ref().map(|ledger| ledger.dir.clone());
    let Some(ledger) = ledger.filter(|_| !has_no_rule) else {
        return Ok(Proposals {
            places: Vec::new(),
            has_no_rule,
        });
    };
    let wanted = Regularity {
        days: days.clamp(5, MAX_DAYS),
        ..Regularity::default()
    };
    let finder = PlaceFinder::new(&config.plan, rules, views, wanted);
    let guard = CancelOnDrop(Arc::new(AtomicBool::new(false)));
    let cancelled = Arc::clone(&guard.0);
    let from = Timestamp::now() - SignedDuration::from_hours(24 * i64::from(wanted.days + 1));
    let found = configuration::blocking(app, move |_| read(&ledger, from, finder, &cancelled)).await?;
    let found = match found {
        Ok(found) => found,
        // Nothing was recorded yet.
        Err(LedgerError::Missing { .. }) => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "The console cannot search the ledger for places");
            return Err(Rejection::Unavailable(error.to_string().into()));
        }
    };
    let filed = cases::list(
        app,
        actor,
        CaseQuery {
            from: Some(from),
            limit: MAX_CASES,
            ..CaseQuery::default()
        },
    );
    let filed = filed.await?;
    Ok(Proposals {
        places: found.iter().map(|place| proposal(place, &filed)).collect(),
        has_no_rule,
    })
}

fn read(
    ledger: &std::path::Path,
    from: Timestamp,
    mut finder: PlaceFinder,
    cancelled: &AtomicBool,
) -> Result<Vec<RegularPlace>, LedgerError> {
    let mut reader = Reader::open_near(ledger, from)?;
    let mut count = 0_usize;
    while let Some(entry) = reader.next_entry()? {
        finder.add(&entry.event);
        count += 1;
        if count.is_multiple_of(CHECK_EVERY) && cancelled.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
    }
    Ok(finder.finish())
}

fn proposal(place: &RegularPlace, filed: &[CaseRecord]) -> PlaceProposal {
    let is_here = |record: &&CaseRecord| record.bbox().is_some_and(|bbox| place.has(&record.view(), &bbox));
    let here: Vec<&CaseRecord> = filed.iter().filter(is_here).collect();
    // One that was accepted and withdrawn later was still a problem.
    let was_accepted = |record: &&&CaseRecord| record.states().any(|state| state.decision() == Some(true));
    let accepted = here.iter().find(was_accepted);
    let doubt = match (accepted, place.note) {
        (Some(record), _) => Some(Doubt::Accepted(record.case_id.clone())),
        (None, Some(PlaceNote::Always)) => Some(Doubt::Always),
        (None, Some(PlaceNote::AfterMidnight)) => Some(Doubt::AfterMidnight),
        (None, None) => None,
    };
    let hours = place.hours.iter().map(|hours: &RegularHours| ProposedHours {
        days: hours.kind,
        from: clock(hours.from),
        to: clock(hours.to),
        seen: hours.seen,
        watched: hours.watched,
    });
    PlaceProposal {
        view: place.view.clone(),
        rules: place.rules.iter().map(ToString::to_string).collect(),
        bbox: place.bbox,
        hours: hours.collect(),
        cases: here.len(),
        doubt,
    }
}

/// Minutes since 00:00 as a time; `24:00` is the end of the day, and later ones are of the next.
fn clock(minutes: u16) -> String {
    let minutes = if minutes > DAY { minutes - DAY } else { minutes };
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(days: DayType, from: u16, to: u16) -> ProposedHours {
        ProposedHours {
            days,
            from: clock(from),
            to: clock(to),
            seen: 9,
            watched: 10,
        }
    }

    #[test]
    fn a_proposal_has_an_outline_and_windows() {
        let mut proposal = PlaceProposal {
            view: "gate".into(),
            rules: vec!["vendor".into()],
            bbox: BBox {
                x1: 0.100_04,
                y1: 0.5,
                x2: 0.3,
                y2: 1.2,
            },
            hours: vec![hours(DayType::Workday, 420, 1440), hours(DayType::Restday, 420, 1440)],
            cases: 0,
            doubt: None,
        };
        assert_eq!(
            proposal.polygon(),
            json!([[0.1, 0.5], [0.3, 0.5], [0.3, 1.0], [0.1, 1.0]])
        );
        assert_eq!(
            proposal.windows(),
            json!([{ "days": ["daily"], "from": "07:00", "to": "24:00" }])
        );
        proposal.hours[1] = hours(DayType::Restday, 1080, 1560);
        assert_eq!(
            proposal.windows()[1],
            json!({ "days": ["restday"], "from": "18:00", "to": "02:00" })
        );
    }
}
