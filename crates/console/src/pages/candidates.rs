//! Why things were not filed: candidates with what happened to them and what was missing, as a list and as a part of a case's page.

use std::borrow::Cow;
use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::Response,
};
use gridwatch_config::Config;
use gridwatch_engine::{CameraId, NotFiled};
use gridwatch_ledger::history::{
    Requirement, Shortfall,
    candidates::{CandidateHistory, CandidateList, Outcome},
};
use gridwatch_web::{Access, Actor, Rejection, Role, form::given, i18n::Phrase};
use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date, tz::TimeZone};
use serde::Deserialize;

use super::span;
use crate::{
    access::CameraAccess as _,
    app::{App, Routes},
    cases,
    i18n::{LedgerTexts, reasons},
    ledger::{self, CandidateQuestion, LedgerFault, MAX_CANDIDATE_DAYS, MAX_CANDIDATES, PAGE_PATIENCE, Progress},
    overlay::percent,
    page::Page,
};

/// Candidates on a page of the list.
const PAGE: usize = 40;

pub(super) fn routes(routes: Routes) -> Routes {
    let viewer = Access::Role(Role::Viewer);
    routes
        .get("/candidates", viewer, list)
        .get("/cases/{id}/candidate", viewer, of_case)
}

/// What candidates are filtered by, as in the page's form.
#[derive(Debug, Clone, Default, Deserialize)]
struct CandidatesQuery {
    camera: Option<String>,
    rule: Option<String>,
    reason: Option<String>,
    from: Option<String>,
    until: Option<String>,
    unstarted: Option<String>,
    page: Option<usize>,
}

impl CandidatesQuery {
    fn filter(&self) -> Result<CandidatesFilter, CandidatesFault> {
        let short = |text: &str| text.chars().take(64).collect::<String>();
        let date = |text: &Option<String>| match given(text.clone()) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| CandidatesFault::Date(short(&text))),
        };
        let reason = given(self.reason.clone())
            .map(|key| reasons::not_filed_of(&key).ok_or_else(|| CandidatesFault::Reason(short(&key))));
        Ok(CandidatesFilter {
            camera: given(self.camera.clone()),
            rule: given(self.rule.clone()),
            reason: reason.transpose()?,
            from: date(&self.from)?,
            until: date(&self.until)?,
            with_unstarted: given(self.unstarted.clone()).is_some_and(|text| text != "0" && text != "false"),
        })
    }
}

/// What candidates are filtered by.
#[derive(Debug, Clone, Default)]
pub(crate) struct CandidatesFilter {
    /// A camera with all its presets, or one preset.
    pub(crate) camera: Option<String>,
    pub(crate) rule: Option<String>,
    pub(crate) reason: Option<NotFiled>,
    /// By default the day before the last.
    pub(crate) from: Option<Date>,
    /// By default today.
    pub(crate) until: Option<Date>,
    pub(crate) with_unstarted: bool,
}

/// Why candidates cannot be asked for like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CandidatesFault {
    #[error("{0:?} is not a date such as 2026-06-01")]
    Date(String),
    #[error("at most {MAX_CANDIDATE_DAYS} days at once, and not the last before the first; choose fewer")]
    Days,
    #[error("{0:?} is not a reason")]
    Reason(String),
}

impl CandidatesFault {
    fn text(&self, t: &LedgerTexts, bad_request: Phrase) -> String {
        match self {
            Self::Days => t.too_long.with("n", MAX_CANDIDATE_DAYS).to_string(),
            Self::Date(text) | Self::Reason(text) => bad_request.with("what", text).to_string(),
        }
    }
}

impl From<CandidatesFault> for Rejection {
    fn from(fault: CandidatesFault) -> Self {
        Self::Unfit(fault.to_string().into())
    }
}

/// Candidates that are asked for.
#[derive(Debug, Clone)]
pub(crate) struct CandidateAsked {
    pub(crate) question: CandidateQuestion,
    rule: Option<String>,
    reason: Option<NotFiled>,
    from: Date,
    until: Date,
}

impl CandidateAsked {
    /// Finds the time that the days are, in the city's time zone.
    ///
    /// # Errors
    /// [`CandidatesFault::Days`].
    pub(crate) fn new(filter: CandidatesFilter, zone: &TimeZone, now: Timestamp) -> Result<Self, CandidatesFault> {
        let until: Date = filter.until.unwrap_or_else(|| now.to_zoned(zone.clone()).date());
        let from: Date = match filter.from {
            Some(from) => from,
            None => until.checked_sub(1.day()).map_err(|_| CandidatesFault::Days)?,
        };
        let start = |day: Date| {
            let start = day.to_zoned(zone.clone()).map_err(|_| CandidatesFault::Days)?;
            Ok(start.timestamp())
        };
        let end = start(until.checked_add(1.day()).map_err(|_| CandidatesFault::Days)?)?;
        let begin = start(from)?;
        let length = end.duration_since(begin);
        // An hour more for a change of the clocks.
        let longest = SignedDuration::from_hours(24 * MAX_CANDIDATE_DAYS + 1);
        if !(SignedDuration::ZERO..=longest).contains(&length) || length.is_zero() {
            return Err(CandidatesFault::Days);
        }
        Ok(Self {
            question: CandidateQuestion {
                from: begin,
                to: (end <= now).then_some(end),
                camera: filter.camera,
                with_filed: false,
                with_unstarted: filter.with_unstarted,
            },
            rule: filter.rule,
            reason: filter.reason,
            from,
            until,
        })
    }

    /// Those of the found ones that are asked for and that the user may see, and how many there are of each reason.
    pub(crate) fn select<'a>(
        &self,
        list: &'a CandidateList,
        actor: &Actor,
        config: &Config,
    ) -> (Vec<Cow<'a, CandidateHistory>>, BTreeMap<NotFiled, usize>) {
        let seen = actor.cameras(config);
        let of_rule = |candidate: &&CandidateHistory| {
            let is_seen = sees(seen.as_deref(), &candidate.camera);
            is_seen && self.rule.as_ref().is_none_or(|rule| *rule == candidate.rule.as_str())
        };
        let mut counts = BTreeMap::new();
        let mut found = Vec::new();
        for candidate in list.candidates.iter().filter(of_rule) {
            let reason = match candidate.outcome {
                Outcome::NotFiled(reason) => Some(reason),
                Outcome::Filed | Outcome::Ongoing => None,
            };
            if let Some(reason) = reason {
                *counts.entry(reason).or_default() += 1;
            }
            if self.reason.is_none() || self.reason == reason {
                found.push(match candidate.outcome {
                    // The case at its site may be of a camera that the user does not see.
                    Outcome::NotFiled(_) if seen.is_some() && candidate.case.is_some() => {
                        Cow::Owned(CandidateHistory {
                            case: None,
                            ..candidate.clone()
                        })
                    }
                    _ => Cow::Borrowed(candidate),
                });
            }
        }
        (found, counts)
    }
}

fn sees(seen: Option<&[String]>, camera: &CameraId) -> bool {
    seen.is_none_or(|seen| seen.iter().any(|known| known == camera.device()))
}

/// One line of what happened.
struct Step {
    at: String,
    at_machine: String,
    text: String,
    times: String,
}

/// A candidate as the list and a case's page show it.
pub(super) struct CandidateView {
    outcome: Phrase,
    class: &'static str,
    camera: String,
    rule: String,
    category: String,
    seen: String,
    lasted: String,
    missing: Vec<String>,
    steps: Vec<Step>,
    /// Id of its case; empty without one.
    case: String,
    /// For the history of looks: just after its last sighting.
    before: String,
}

impl CandidateView {
    fn new(page: &Page, config: &Config, candidate: &CandidateHistory) -> Self {
        let (t, reasons) = (&page.t.ledger, &page.t.reasons);
        let first = Step {
            at: page.time(candidate.first_seen_at),
            at_machine: page.machine_time(candidate.first_seen_at),
            text: t.first_seen.to_string(),
            times: String::new(),
        };
        let mut entries: Vec<_> = candidate.steps.iter().collect();
        entries.sort_by_key(|entry| entry.first_at);
        let steps = entries.into_iter().map(|entry| Step {
            at: page.time(entry.first_at),
            at_machine: page.machine_time(entry.first_at),
            text: reasons.event(entry.reason).to_string(),
            times: match entry.times {
                0 | 1 => String::new(),
                n => t.times.with("n", n).with("time", page.time(entry.last_at)).to_string(),
            },
        });
        let names = config.categories.get(&candidate.category);
        let name = names.map(|names| if page.is_zh() { &names.name_zh } else { &names.name_en });
        let lasted = t.lasted.with("dwell", span(page, candidate.dwell_s));
        let lasted = lasted.with("looks", candidate.looks).with("seen", candidate.looks_seen);
        let end = candidate.last_seen_at.checked_add(SignedDuration::from_secs(1));
        Self {
            outcome: reasons.outcome(candidate.outcome),
            class: match candidate.outcome {
                Outcome::Filed => "done",
                Outcome::Ongoing => "open",
                Outcome::NotFiled(_) => "held",
            },
            camera: candidate.camera.to_string(),
            rule: candidate.rule.to_string(),
            category: name.cloned().unwrap_or_else(|| candidate.category.clone()),
            seen: t
                .seen_from_to
                .with("from", page.time(candidate.first_seen_at))
                .with("to", page.time(candidate.last_seen_at))
                .to_string(),
            lasted: lasted.with("score", percent(candidate.score)).to_string(),
            missing: candidate
                .missing
                .iter()
                .map(|missing| shortfall(page, *missing))
                .collect(),
            steps: std::iter::once(first).chain(steps).collect(),
            case: candidate.case.as_ref().map(ToString::to_string).unwrap_or_default(),
            before: end.unwrap_or(Timestamp::MAX).to_string(),
        }
    }
}

fn shortfall(page: &Page, missing: Shortfall) -> String {
    let number = |value: f64| match missing.what {
        Requirement::Dwell => span(page, value),
        Requirement::SeenN => format!("{value:.0}"),
        Requirement::StartScore | Requirement::PresentShare | Requirement::AttendedShare => {
            format!("{:.0} %", value * 100.0)
        }
    };
    let text = page.t.reasons.requirement(missing.what);
    let text = text.with("has", number(missing.has));
    text.with("needs", number(missing.needs)).to_string()
}

struct Choice {
    value: String,
    name: String,
    is_chosen: bool,
}

#[derive(Template)]
#[template(path = "candidates.html")]
struct CandidatesTemplate<'a> {
    page: &'a Page,
    query: CandidatesQuery,
    from: String,
    until: String,
    cameras: Vec<Choice>,
    rules: Vec<Choice>,
    reasons: Vec<Choice>,
    has_unstarted: bool,
    /// Why there is no list; empty if there is one or it is on its way.
    fault: String,
    /// Finished per cent of the search, while there is no list yet.
    loading: Option<u32>,
    /// Query of this page.
    this: String,
    candidates: Vec<CandidateView>,
    count: String,
    left_out: String,
    gaps: Vec<String>,
    /// Query of the next page; empty if there is none.
    next: String,
}

async fn list(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<CandidatesQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(query) = query?;
    let config = app.config();
    let asked = query
        .filter()
        .and_then(|filter| CandidateAsked::new(filter, &config.timezone, Timestamp::now()));
    let mut template = form(&page, &actor, &config, query, asked.as_ref().ok());
    let t = &page.t.ledger;
    let asked = match asked {
        Ok(asked) => asked,
        Err(fault) => {
            template.fault = fault.text(t, gridwatch_web::i18n::Texts::of(page.language).errors.bad_request);
            return page.show(&template);
        }
    };
    match ledger::candidates(&app, asked.question.clone(), PAGE_PATIENCE).await {
        Err(fault) => template.fault = fault.text(t),
        Ok(Progress::Running(thousandths)) => template.loading = Some(thousandths / 10),
        Ok(Progress::Done(list)) => {
            let (found, counts) = asked.select(&list, &actor, &config);
            let number = template.query.page.unwrap_or(1).max(1);
            let on_page = found.iter().skip((number - 1).saturating_mul(PAGE)).take(PAGE);
            template.candidates = on_page
                .map(|candidate| CandidateView::new(&page, &config, candidate))
                .collect();
            template.count = t.candidate_count.with("n", found.len()).to_string();
            if number.saturating_mul(PAGE) < found.len() {
                template.next = link(&template.query, number + 1);
            }
            if list.left_out > 0 {
                template.left_out = t.left_out.with("n", MAX_CANDIDATES).to_string();
            }
            template.gaps = list.gaps.describe();
            template.reasons = counts
                .into_iter()
                .map(|(reason, n)| Choice {
                    value: reason.as_str().to_owned(),
                    name: format!("{} ({n})", page.t.reasons.not_filed(reason)),
                    is_chosen: asked.reason == Some(reason),
                })
                .collect();
        }
    }
    // One that was chosen stays in the list, though there is none of it.
    if let Some(reason) = asked.reason
        && !template.reasons.iter().any(|choice| choice.is_chosen)
    {
        template.reasons.push(Choice {
            value: reason.as_str().to_owned(),
            name: page.t.reasons.not_filed(reason).to_string(),
            is_chosen: true,
        });
    }
    page.show(&template)
}

fn form<'a>(
    page: &'a Page,
    actor: &Actor,
    config: &Config,
    query: CandidatesQuery,
    asked: Option<&CandidateAsked>,
) -> CandidatesTemplate<'a> {
    let choice = |value: String, chosen: &Option<String>| Choice {
        is_chosen: chosen.as_deref() == Some(value.as_str()),
        name: value.clone(),
        value,
    };
    let cameras = config.cameras.iter().filter(|camera| actor.sees(camera));
    let day = |text: &Option<String>, of: fn(&CandidateAsked) -> Date| {
        asked.map_or_else(|| text.clone().unwrap_or_default(), |asked| of(asked).to_string())
    };
    CandidatesTemplate {
        page,
        from: day(&query.from, |asked| asked.from),
        until: day(&query.until, |asked| asked.until),
        cameras: cameras
            .map(|camera| choice(camera.id.to_string(), &query.camera))
            .collect(),
        rules: config
            .plan
            .rules
            .iter()
            .map(|rule| choice(rule.id.to_string(), &query.rule))
            .collect(),
        reasons: Vec::new(),
        has_unstarted: asked.is_some_and(|asked| asked.question.with_unstarted),
        fault: String::new(),
        loading: None,
        this: link(&query, query.page.unwrap_or(1)),
        candidates: Vec::new(),
        count: String::new(),
        left_out: String::new(),
        gaps: Vec::new(),
        next: String::new(),
        query,
    }
}

/// The query of a page of the list.
fn link(query: &CandidatesQuery, number: usize) -> String {
    let mut link = url::form_urlencoded::Serializer::new(String::new());
    let fields = [
        ("camera", &query.camera),
        ("rule", &query.rule),
        ("reason", &query.reason),
        ("from", &query.from),
        ("until", &query.until),
        ("unstarted", &query.unstarted),
    ];
    for (name, value) in fields {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            link.append_pair(name, value);
        }
    }
    link.append_pair("page", &number.to_string());
    link.finish()
}

/// What happened until a case was filed: a part of the case's page.
#[derive(Template)]
#[template(path = "candidate_of_case.html")]
struct OfCaseTemplate<'a> {
    page: &'a Page,
    id: String,
    candidate: Option<CandidateView>,
    fault: String,
    loading: Option<u32>,
}

async fn of_case(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = path?;
    let record = cases::find(&app, &actor, &id).await?.record;
    let confirmed = record.confirmed_at.timestamp();
    let question = CandidateQuestion {
        from: record.first_seen_at.timestamp(),
        // The record's times are in milliseconds.
        to: Some(
            confirmed
                .saturating_add(SignedDuration::from_secs(1))
                .unwrap_or(confirmed),
        ),
        camera: Some(record.view()),
        with_filed: true,
        with_unstarted: false,
    };
    let mut template = OfCaseTemplate {
        page: &page,
        candidate: None,
        fault: String::new(),
        loading: None,
        id,
    };
    match ledger::candidates(&app, question, PAGE_PATIENCE).await {
        Err(LedgerFault::Empty) => template.fault = page.t.ledger.candidate_gone.to_string(),
        Err(fault) => template.fault = fault.text(&page.t.ledger),
        Ok(Progress::Running(thousandths)) => template.loading = Some(thousandths / 10),
        Ok(Progress::Done(list)) => {
            let is_it = |candidate: &&CandidateHistory| {
                candidate.outcome == Outcome::Filed
                    && candidate.case.as_ref().is_some_and(|case| case.as_str() == template.id)
            };
            match list.candidates.iter().find(is_it) {
                Some(found) => {
                    template.candidate = Some(CandidateView {
                        // The page is that case's.
                        case: String::new(),
                        ..CandidateView::new(&page, &app.config(), found)
                    });
                }
                None => template.fault = page.t.ledger.candidate_gone.to_string(),
            }
        }
    }
    page.show(&template)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(from: &str, until: &str) -> CandidatesQuery {
        CandidatesQuery {
            from: Some(from.to_owned()),
            until: Some(until.to_owned()),
            ..CandidatesQuery::default()
        }
    }

    #[test]
    fn days_are_those_of_the_city_and_few_at_once() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let now: Timestamp = "2026-06-10T04:00:00Z".parse().unwrap();
        let ask = |query: &CandidatesQuery| {
            let filter = query.filter()?;
            CandidateAsked::new(filter, &zone, now)
        };
        let today = ask(&CandidatesQuery::default()).unwrap().question;
        assert_eq!(today.from.to_string(), "2026-06-08T16:00:00Z");
        assert_eq!(today.to, None);
        let past = ask(&query("2026-06-01", "2026-06-02")).unwrap().question;
        assert_eq!(past.to.unwrap().to_string(), "2026-06-02T16:00:00Z");
        for (from, until) in [
            ("2026-01-01", "2026-06-02"),
            ("0001-01-01", "9999-12-31"),
            ("-009999-01-01", "-009999-01-01"),
            ("2026-06-03", "2026-06-01"),
        ] {
            assert_eq!(
                ask(&query(from, until)).unwrap_err(),
                CandidatesFault::Days,
                "{from} {until}"
            );
        }
        assert!(matches!(ask(&query("yesterday", "")), Err(CandidatesFault::Date(_))));
        let wrong = CandidatesQuery {
            reason: Some("because".into()),
            ..CandidatesQuery::default()
        };
        assert!(matches!(ask(&wrong), Err(CandidatesFault::Reason(_))));
    }
}
