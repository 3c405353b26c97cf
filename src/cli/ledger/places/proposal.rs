//! What is proposed for a place: a schedule and a permitted zone as TOML, with what speaks for it; or why not.

use std::{collections::BTreeSet, fmt};

use jiff::civil::Date;
use serde::Serialize;

use gridwatch_base::text::counted;
use gridwatch_config::{self as config, Config};
use gridwatch_engine::{BBox, CameraId, CaseState, RuleId, calendar::DAY};
use gridwatch_ledger::places::{DayType, PlaceNote, RegularHours, RegularPlace};

/// A case that was filed at a place.
#[derive(Debug, Clone)]
pub(super) struct CaseHere {
    pub(super) case_id: String,
    pub(super) rule: RuleId,
    /// The day on which it was confirmed.
    pub(super) day: Date,
    /// The states that it has had, the current one last.
    pub(super) states: Vec<CaseState>,
}

impl CaseHere {
    /// Whether the platform ever accepted it. One that was accepted and withdrawn later was still a problem.
    fn is_accepted(&self) -> bool {
        self.states.iter().any(|s| s.decision() == Some(true))
    }

    fn is_rejected(&self) -> bool {
        !self.is_accepted() && self.states.last() == Some(&CaseState::Rejected)
    }
}

/// The cases at a place, by decision.
#[derive(Debug, Clone, Serialize)]
struct CaseCounts {
    filed: usize,
    accepted: usize,
    rejected: usize,
    undecided: usize,
}

/// The outcome for one place; printed as TOML with comments, or as a line of JSON.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Proposal {
    camera: CameraId,
    rules: Vec<RuleId>,
    /// Left, top, right, bottom, as fractions of the picture.
    #[serde(rename = "box")]
    corners: [f32; 4],
    hours: Vec<HoursLine>,
    /// First and last day of the period.
    from: Date,
    to: Date,
    cases: CaseCounts,
    /// Why no zone is proposed; absent if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_proposed: Option<String>,
    /// The schedule and the zone; absent if none is proposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    toml: Option<ProposedToml>,
}

#[derive(Debug, Clone, Serialize)]
struct HoursLine {
    days: DayType,
    from: String,
    to: String,
    days_seen: u32,
    days_watched: u32,
}

#[derive(Debug, Clone, Serialize)]
struct ProposedToml {
    /// A `[[schedules]]` table, for anywhere at the top level.
    schedule: String,
    /// A `[[cameras.zones]]` or `[[cameras.presets.zones]]` table, for after the camera's or preset's own fields.
    zone: String,
}

/// Proposes zones with ids that the configuration does not have yet.
pub(super) struct Proposals<'a> {
    config: &'a Config,
    schedules: BTreeSet<String>,
}

impl<'a> Proposals<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        let schedules = config.plan.calendar.schedules.keys();
        Self {
            config,
            schedules: schedules.map(ToString::to_string).collect(),
        }
    }

    pub(super) fn propose(&mut self, place: &RegularPlace, cases: &[CaseHere]) -> Proposal {
        let count = |is_such: fn(&CaseHere) -> bool| cases.iter().filter(|c| is_such(c)).count();
        let (accepted, rejected) = (count(CaseHere::is_accepted), count(CaseHere::is_rejected));
        let BBox { x1, y1, x2, y2 } = place.bbox;
        let not_proposed = reason_against(place, cases);
        Proposal {
            camera: place.view.clone(),
            rules: place.rules.clone(),
            corners: [x1, y1, x2, y2],
            hours: place.hours.iter().map(HoursLine::new).collect(),
            from: place.period.0,
            to: place.period.1,
            cases: CaseCounts {
                filed: cases.len(),
                accepted,
                rejected,
                undecided: cases.len() - accepted - rejected,
            },
            toml: not_proposed.is_none().then(|| self.toml(place)),
            not_proposed,
        }
    }

    fn toml(&mut self, place: &RegularPlace) -> ProposedToml {
        let view = place.view.as_str().replace('.', "-");
        let known = self.config.plan.cameras.get(&place.view).map(|c| &c.zones);
        let is_zone = |id: &str| known.into_iter().flatten().any(|z| z.id.as_str() == id);
        // One number for both ids, free among the schedules and in the view.
        let mut n = 1;
        let (schedule, zone) = loop {
            let (schedule, zone) = (format!("{view}-place-{n}"), format!("place-{n}"));
            if !self.schedules.contains(&schedule) && !is_zone(&zone) {
                break (schedule, zone);
            }
            n += 1;
        };
        self.schedules.insert(schedule.clone());
        let is_preset =
            config::find_view(&self.config.cameras, place.view.as_str()).is_some_and(|(_, p)| p.id.is_some());
        let table = if is_preset {
            "cameras.presets.zones"
        } else {
            "cameras.zones"
        };
        let BBox { x1, y1, x2, y2 } = place.bbox;
        let rules: Vec<String> = place.rules.iter().map(|r| format!("{:?}", r.as_str())).collect();
        ProposedToml {
            schedule: format!(
                "[[schedules]]\nid = {schedule:?}\nwindows = [\n{}]\n",
                windows(&place.hours)
            ),
            zone: format!(
                "[[{table}]]\nid = {zone:?}\nkind = \"permitted\"\nschedule = {schedule:?}\n\
                 polygon = [[{x1:.3}, {y1:.3}], [{x2:.3}, {y1:.3}], [{x2:.3}, {y2:.3}], [{x1:.3}, {y2:.3}]]\nrules = [{}]\n",
                rules.join(", ")
            ),
        }
    }
}

/// Why no zone is proposed.
fn reason_against(place: &RegularPlace, cases: &[CaseHere]) -> Option<String> {
    if let Some(case) = cases.iter().find(|c| c.is_accepted()) {
        let CaseHere { case_id, rule, day, .. } = case;
        return Some(format!(
            "the platform accepted case {case_id} here on {day} (rule {rule}), so what stands here is a problem"
        ));
    }
    place.note.map(|note| match note {
        PlaceNote::Always => format!(
            "something stands here day and night; if it belongs to the street, absorb it: gridwatch view absorb {} --box {}",
            place.view,
            box_text(&place.bbox)
        ),
        PlaceNote::AfterMidnight => "it begins after midnight, when a window belongs to the next day; draw the zone by hand".into(),
    })
}

fn box_text(BBox { x1, y1, x2, y2 }: &BBox) -> String {
    format!("{x1:.3},{y1:.3},{x2:.3},{y2:.3}")
}

/// The windows of a schedule; one for all days if their hours are equal.
fn windows(hours: &[RegularHours]) -> String {
    let line = |days: &str, h: &RegularHours| {
        let (from, to) = (clock(h.from), clock(h.to));
        format!("  {{ days = [{days:?}], from = {from:?}, to = {to:?} }},\n")
    };
    match hours {
        [a, b] if (a.from, a.to) == (b.from, b.to) => line("daily", a),
        _ => hours.iter().map(|h| line(h.kind.name(), h)).collect(),
    }
}

/// Minutes since 00:00 as a time; `24:00` is the end of the day, and later ones are of the next.
fn clock(minutes: u16) -> String {
    let minutes = if minutes > DAY { minutes - DAY } else { minutes };
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

impl HoursLine {
    fn new(hours: &RegularHours) -> Self {
        Self {
            days: hours.kind,
            from: clock(hours.from),
            to: clock(hours.to),
            days_seen: hours.seen,
            days_watched: hours.watched,
        }
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x1, y1, x2, y2] = self.corners;
        let rules: Vec<&str> = self.rules.iter().map(RuleId::as_str).collect();
        writeln!(
            f,
            "# View {}, box {}, rules {}: from {} to {}, something stood here",
            self.camera,
            box_text(&BBox { x1, y1, x2, y2 }),
            rules.join(", "),
            self.from,
            self.to
        )?;
        for hours in &self.hours {
            let days = counted(
                hours.days_watched,
                hours.days.name(),
                &format!("{}s", hours.days.name()),
            );
            writeln!(
                f,
                "#   on {} of {days}, {} to {}",
                hours.days_seen, hours.from, hours.to
            )?;
        }
        let CaseCounts {
            filed,
            accepted,
            rejected,
            undecided,
        } = self.cases;
        let filed = counted(filed, "case", "cases");
        writeln!(
            f,
            "# Filed here in that time: {filed} ({accepted} accepted, {rejected} rejected, {undecided} undecided)."
        )?;
        if let Some(reason) = &self.not_proposed {
            return writeln!(f, "# No zone proposed: {reason}.\n");
        }
        let Some(toml) = &self.toml else { return Ok(()) };
        writeln!(
            f,
            "{}\n# Paste this after the fields of {} in the configuration:\n{}",
            toml.schedule, self.camera, toml.zone
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(kind: DayType, from: u16, to: u16) -> RegularHours {
        RegularHours {
            kind,
            from,
            to,
            seen: 9,
            watched: 10,
            filled: 0.9,
        }
    }

    #[test]
    fn equal_hours_are_one_window_and_the_next_day_counts_from_midnight() {
        let both = [hours(DayType::Workday, 420, 1440), hours(DayType::Restday, 420, 1440)];
        assert_eq!(
            windows(&both),
            "  { days = [\"daily\"], from = \"07:00\", to = \"24:00\" },\n"
        );
        let evening = [hours(DayType::Workday, 420, 660), hours(DayType::Restday, 1080, 1560)];
        assert_eq!(
            windows(&evening),
            "  { days = [\"workday\"], from = \"07:00\", to = \"11:00\" },\n  { days = [\"restday\"], from = \"18:00\", to = \"02:00\" },\n"
        );
    }

    #[test]
    fn a_case_that_was_accepted_once_speaks_against_it_whatever_became_of_it() {
        let case = |states: &[CaseState]| CaseHere {
            case_id: "01K".into(),
            rule: "vendor".into(),
            day: Date::constant(2026, 5, 1),
            states: states.to_vec(),
        };
        let place = RegularPlace {
            view: "gate".into(),
            rules: vec!["vendor".into()],
            bbox: BBox {
                x1: 0.1,
                y1: 0.1,
                x2: 0.2,
                y2: 0.2,
            },
            hours: vec![hours(DayType::Workday, 420, 660)],
            period: (Date::constant(2026, 5, 1), Date::constant(2026, 5, 14)),
            note: None,
        };
        use CaseState::{Accepted, Closed, Filed, Rejected, Withdrawn};
        let accepted = [case(&[Filed, Rejected]), case(&[Filed, Accepted, Closed, Withdrawn])];
        assert!(reason_against(&place, &accepted).unwrap().contains("accepted case 01K"));
        assert_eq!(
            reason_against(&place, &[case(&[Filed, Rejected]), case(&[Filed])]),
            None
        );
    }
}
