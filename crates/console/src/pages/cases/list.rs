//! The list of cases and their timeline: filtered by the query of the URL, which can be passed on, and paged.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use gridwatch_contract::{CaseRecord, EvidenceRole};
use gridwatch_engine::CaseState;
use gridwatch_store::{CaseQuery, ReviewFilter};
use gridwatch_web::{Actor, Rejection, form::given, i18n::Phrase};
use jiff::{SignedDuration, Timestamp, civil::Date};
use serde::Deserialize;

use super::{Choice, category_of, picture_of, state_class};
use crate::{access::CameraAccess as _, app::App, cases, overlay::percent, page::Page, reviews};

/// Cases on a page of the list.
const PAGE: u32 = 50;

/// Length of a part of a case id: a whole one has 26 characters.
const MAX_ID_PART: usize = 26;

/// What the list is filtered by, as in its form.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ListQuery {
    /// `open`, or a state.
    state: Option<String>,
    camera: Option<String>,
    category: Option<String>,
    cell: Option<String>,
    /// First and last day, in the city's zone.
    from: Option<String>,
    until: Option<String>,
    /// Part of the id.
    id: Option<String>,
    /// `none`, `mine` or `disputed`.
    review: Option<String>,
    /// `timeline`; otherwise the list.
    view: Option<String>,
    /// Id of the last case of the page before.
    after: Option<String>,
}

impl ListQuery {
    /// The query of the store, with at most `limit` cases.
    pub(super) fn to_store(&self, page: &Page, app: &App, actor: &Actor, limit: u32) -> Result<CaseQuery, Rejection> {
        let t = &page.t.cases;
        let bad = |field: Phrase| Rejection::BadRequest(field.to_string().into());
        let zone = app.config().timezone.clone();
        let day = |text: &Option<String>, field: Phrase, days: i64| -> Result<Option<Timestamp>, Rejection> {
            let Some(text) = given(text.clone()) else {
                return Ok(None);
            };
            let day: Date = text.parse().map_err(|_| bad(field))?;
            let day = day
                .checked_add(SignedDuration::from_hours(24 * days))
                .map_err(|_| bad(field))?;
            Ok(Some(day.to_zoned(zone.clone()).map_err(|_| bad(field))?.timestamp()))
        };
        let (state, is_open) = match given(self.state.clone()).as_deref() {
            None => (None, None),
            Some("open") => (None, Some(true)),
            Some(name) => {
                let state = CaseState::ALL.into_iter().find(|state| state.as_str() == name);
                (Some(state.ok_or_else(|| bad(t.state))?), None)
            }
        };
        let review = match given(self.review.clone()).as_deref() {
            None => None,
            Some("none") => Some(ReviewFilter::NotByAnyone),
            Some("mine") => Some(ReviewFilter::NotBy(reviews::reviewer(actor))),
            Some("disputed") => Some(ReviewFilter::Disputed),
            Some(_) => return Err(bad(t.reviews)),
        };
        let id_part = given(self.id.clone());
        if id_part.as_ref().is_some_and(|part| part.len() > MAX_ID_PART) {
            return Err(bad(t.id_part));
        }
        Ok(CaseQuery {
            state,
            is_open,
            cameras: given(self.camera.clone()).map(|camera| vec![camera]),
            category: given(self.category.clone()),
            cell: given(self.cell.clone()),
            from: day(&self.from, t.from, 0)?,
            until: day(&self.until, t.until, 1)?,
            id_part,
            review,
            after: given(self.after.clone()),
            limit,
        })
    }

    pub(super) fn cell(&self) -> &str {
        self.cell.as_deref().unwrap_or_default()
    }

    pub(super) fn from(&self) -> &str {
        self.from.as_deref().unwrap_or_default()
    }

    pub(super) fn until(&self) -> &str {
        self.until.as_deref().unwrap_or_default()
    }

    pub(super) fn id_part(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// The filters that are set, in a fixed order.
    fn filters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let fields = [
            ("state", &self.state),
            ("camera", &self.camera),
            ("category", &self.category),
            ("cell", &self.cell),
            ("from", &self.from),
            ("until", &self.until),
            ("id", &self.id),
            ("review", &self.review),
        ];
        let set = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)));
        set.filter(|(_, value)| !value.is_empty())
    }

    pub(super) fn is_filtered(&self) -> bool {
        self.filters().next().is_some()
    }

    /// The query of a URL with the same filters and other fields; empty values are left out.
    pub(super) fn with(&self, other: &[(&str, &str)]) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.filters().filter(|(name, _)| other.iter().all(|(o, _)| o != name)) {
            query.append_pair(name, value);
        }
        for (name, value) in other.iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        query.finish()
    }

    fn is_timeline(&self) -> bool {
        self.view.as_deref() == Some("timeline")
    }
}

/// The form of the filters, and the ways to show the cases.
pub(super) struct Filters {
    pub(super) query: ListQuery,
    pub(super) states: Vec<Choice>,
    pub(super) cameras: Vec<Choice>,
    pub(super) categories: Vec<Choice>,
    pub(super) reviews: Vec<Choice>,
    /// Where the form leads to, below the base.
    pub(super) action: &'static str,
    /// Value of the hidden field `view`; empty: none.
    pub(super) view: &'static str,
    /// Links to the other ways to show the same cases: path with query, name, and whether it is this one.
    pub(super) ways: Vec<(String, Phrase, bool)>,
}

impl Filters {
    pub(super) fn new(page: &Page, app: &App, actor: &Actor, query: ListQuery, is_map: bool) -> Self {
        let t = &page.t.cases;
        let config = app.config();
        let chosen = |field: &Option<String>, value: &str| field.as_deref() == Some(value);
        let choice = |field: &Option<String>, value: &str, name: String| Choice {
            is_chosen: chosen(field, value),
            value: value.to_owned(),
            name,
        };
        let states = CaseState::ALL
            .into_iter()
            .map(|state| choice(&query.state, state.as_str(), page.t.names.case_state(state).to_string()));
        let states = std::iter::once(choice(&query.state, "open", t.open.to_string())).chain(states);
        let cameras = config.cameras.iter().filter(|camera| actor.sees(camera));
        let cameras = cameras.map(|camera| choice(&query.camera, camera.id.as_str(), camera.id.to_string()));
        let categories = config.categories.iter().map(|(code, category)| {
            let name = if page.is_zh() {
                &category.name_zh
            } else {
                &category.name_en
            };
            choice(&query.category, code, format!("{code} {name}"))
        });
        let reviews = [
            ("none", t.reviews_none),
            ("mine", t.reviews_mine),
            ("disputed", t.reviews_disputed),
        ];
        let reviews = reviews.map(|(value, name)| choice(&query.review, value, name.to_string()));
        let is_timeline = !is_map && query.is_timeline();
        let path = |path: &str, view: &str| match query.with(&[("view", view)]) {
            query if query.is_empty() => path.to_owned(),
            query => format!("{path}?{query}"),
        };
        Self {
            states: states.collect(),
            cameras: cameras.collect(),
            categories: categories.collect(),
            reviews: reviews.into(),
            action: if is_map { "/cases/map" } else { "/cases" },
            view: if is_timeline { "timeline" } else { "" },
            ways: vec![
                (path("/cases", ""), t.as_list, !is_map && !is_timeline),
                (path("/cases", "timeline"), t.as_timeline, is_timeline),
                (path("/cases/map", ""), t.as_map, is_map),
            ],
            query,
        }
    }
}

struct CaseRow {
    id: String,
    category: String,
    state: Phrase,
    state_class: &'static str,
    camera: String,
    cell: String,
    confirmed: String,
    confirmed_machine: String,
    /// Time of day.
    clock: String,
    /// The day, on its first case in a timeline; empty on the others.
    day: String,
    address: String,
    /// Id of the picture shown in the list; empty without one.
    picture: String,
    percent: u32,
}

impl CaseRow {
    fn new(page: &Page, record: &CaseRecord) -> Self {
        let at = record.confirmed_at.timestamp();
        let confirmed = page.time(at);
        let (day, clock) = confirmed.split_once(' ').unwrap_or((&confirmed, ""));
        let picture = picture_of(
            record,
            &[EvidenceRole::Closeup, EvidenceRole::Overlay, EvidenceRole::Scene],
        );
        Self {
            id: record.case_id.clone(),
            category: category_of(page, record),
            state: page.t.names.case_state(record.state),
            state_class: state_class(record.state),
            camera: record.view(),
            cell: record.cell_code.clone(),
            confirmed_machine: page.machine_time(at),
            clock: clock.to_owned(),
            day: day.to_owned(),
            address: record.address.clone().unwrap_or_default(),
            picture: picture.map(|item| item.id.clone()).unwrap_or_default(),
            percent: percent(record.confidence as f32),
            confirmed,
        }
    }
}

#[derive(Template)]
#[template(path = "cases.html")]
struct CasesTemplate<'a> {
    page: &'a Page,
    filters: Filters,
    is_timeline: bool,
    rows: Vec<CaseRow>,
    /// Query of the first page; empty on it.
    first: String,
    /// Query of the next page; empty if there is none.
    next: String,
}

/// `GET /cases`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(query) = query?;
    let found = cases::list(&app, &actor, query.to_store(&page, &app, &actor, PAGE)?).await?;
    let is_timeline = query.is_timeline();
    let view = if is_timeline { "timeline" } else { "" };
    let next = match found.last() {
        Some(last) if found.len() == PAGE as usize => query.with(&[("view", view), ("after", &last.case_id)]),
        _ => String::new(),
    };
    let first = match given(query.after.clone()) {
        Some(_) => query.with(&[("view", if is_timeline { "timeline" } else { "list" })]),
        None => String::new(),
    };
    let mut rows: Vec<CaseRow> = found.iter().map(|record| CaseRow::new(&page, record)).collect();
    for i in (1..rows.len()).rev() {
        if rows[i].day == rows[i - 1].day {
            rows[i].day.clear();
        }
    }
    page.show(&CasesTemplate {
        page: &page,
        filters: Filters::new(&page, &app, &actor, query, false),
        is_timeline,
        rows,
        first,
        next,
    })
}
