//! The review of cases, one after the other, by keyboard or by buttons: works without scripts, which only add the keys.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{
        Path, Query, State,
        rejection::{FormRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::Response,
};
use gridwatch_contract::{CaseRecord, EvidenceRole};
use gridwatch_store::{CaseQuery, ReviewFilter, ReviewProgress, ReviewVerdict};
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::{ActDetails, NotAnAct},
    form::given,
    i18n::Phrase,
};
use serde::Deserialize;

use super::cases::{Choice, ReviewLine, category_of, picture_of, span, state_class};
use crate::{
    app::{App, Routes},
    cases,
    overlay::percent,
    page::Page,
    reviews::{self, Opinion, OpinionFault},
};

/// Cases that are offered as the other one of a duplicate.
const SIMILAR: usize = 8;

pub(super) fn routes(routes: Routes) -> Routes {
    let operator = Access::Role(Role::Operator);
    routes
        .get("/review", operator, show)
        .post("/review/{id}", operator, reviews::ACT, review)
        .post("/review/{id}/undo", operator, reviews::UNDO, undo)
}

/// Which cases are reviewed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Queue {
    /// Those that the user has not reviewed.
    #[default]
    Mine,
    /// Those that nobody has reviewed.
    Nobody,
    /// Those on which people disagree.
    Disputed,
}

impl Queue {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mine => "mine",
            Self::Nobody => "nobody",
            Self::Disputed => "disputed",
        }
    }

    fn filter(self, actor: &Actor) -> ReviewFilter {
        match self {
            Self::Mine => ReviewFilter::NotBy(reviews::reviewer(actor)),
            Self::Nobody => ReviewFilter::NotByAnyone,
            Self::Disputed => ReviewFilter::Disputed,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct ReviewQuery {
    #[serde(default)]
    queue: Queue,
    /// The case before; the next one in the list is shown.
    after: Option<String>,
    /// This case, whatever was said of it.
    case: Option<String>,
}

struct Shown {
    url: String,
    role: Phrase,
    at: String,
    width: u32,
    height: u32,
}

struct Similar {
    id: String,
    picture: String,
    confirmed: String,
    view: String,
    state: Phrase,
}

struct Reviewed {
    id: String,
    category: String,
    state: Phrase,
    state_class: &'static str,
    confirmed: String,
    view: String,
    percent: u32,
    dwell: String,
    description: String,
    pictures: Vec<Shown>,
    reviews: Vec<ReviewLine>,
    similar: Vec<Similar>,
    /// URL of the first picture of the case after this one, to be loaded ahead; empty without one.
    next_picture: String,
}

/// The newest review of the user.
struct Last {
    id: String,
    verdict: Phrase,
}

struct Progress {
    all: u32,
    own: u32,
    mine: String,
    anyone: String,
    disputed: String,
    agreement: String,
    differences: Vec<String>,
}

#[derive(Template)]
#[template(path = "review.html")]
struct ReviewTemplate<'a> {
    page: &'a Page,
    queue: &'static str,
    queues: Vec<Choice>,
    fault: String,
    opens_duplicate: bool,
    /// The other case as it was typed.
    other: String,
    case: Option<Reviewed>,
    /// True if the list was not begun at its start.
    is_continued: bool,
    last: Option<Last>,
    progress: Progress,
}

/// How the reviews agree with the platform's decisions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// Cases with both.
    pub(crate) decided: u32,
    /// Of these, with the same answer.
    pub(crate) agreed: u32,
    /// Of these, right by the reviews, and rejected.
    pub(crate) right_but_rejected: u32,
    /// Of these, not right by the reviews, and accepted.
    pub(crate) wrong_but_accepted: u32,
}

impl Agreement {
    pub(crate) fn of(progress: &ReviewProgress) -> Self {
        let mut agreement = Self::default();
        for ((state, right), count) in &progress.judged {
            let Some(accepted) = state.decision() else { continue };
            agreement.decided += count;
            match (right, accepted) {
                (true, false) => agreement.right_but_rejected += count,
                (false, true) => agreement.wrong_but_accepted += count,
                _ => agreement.agreed += count,
            }
        }
        agreement
    }
}

impl Progress {
    fn new(page: &Page, progress: &ReviewProgress) -> Self {
        let t = &page.t.review;
        let Agreement {
            decided,
            agreed,
            right_but_rejected,
            wrong_but_accepted,
        } = Agreement::of(progress);
        let agreement = match (agreed * 100).checked_div(decided) {
            None => t.agreement_none.to_string(),
            Some(percent) => {
                let text = t.agreement.with("n", agreed).with("all", decided);
                text.with("percent", percent).to_string()
            }
        };
        let differences = [(t.missed, right_but_rejected), (t.waved, wrong_but_accepted)];
        let told = differences.into_iter().filter(|(_, count)| *count > 0);
        let of_all = |text: Phrase, n: u32| text.with("n", n).with("all", progress.cases).to_string();
        Self {
            all: progress.cases.max(1),
            own: progress.by_person,
            mine: of_all(t.progress_mine, progress.by_person),
            anyone: of_all(t.progress_anyone, progress.by_anyone),
            disputed: match progress.disputed {
                0 => String::new(),
                n => t.progress_disputed.with("n", n).to_string(),
            },
            agreement,
            differences: told.map(|(text, count)| text.with("n", count).to_string()).collect(),
        }
    }
}

fn picture_url(page: &Page, case: &str, item: &str) -> String {
    let item = percent_encoding::utf8_percent_encode(item, percent_encoding::NON_ALPHANUMERIC);
    format!("{}/cases/{case}/evidence/{item}", page.base)
}

/// The pictures that tell most: the whole view with the object marked, and the object. Masked ones only.
fn pictures(page: &Page, record: &CaseRecord) -> Vec<Shown> {
    let whole = picture_of(record, &[EvidenceRole::Overlay, EvidenceRole::Scene]);
    let object = picture_of(record, &[EvidenceRole::Closeup]);
    let shown = whole.into_iter().chain(object).map(|item| Shown {
        url: picture_url(page, &record.case_id, &item.id),
        role: page.t.names.evidence(item.role),
        at: page.time(item.captured_at.timestamp()),
        width: item.width,
        height: item.height,
    });
    shown.collect()
}

/// Cases of the same category in the same cell or of the same camera, the nearest in time first.
async fn similar(app: &Arc<App>, actor: &Actor, page: &Page, record: &CaseRecord) -> Result<Vec<Similar>, Rejection> {
    let in_cell = CaseQuery {
        category: Some(record.category_code.clone()),
        cell: Some(record.cell_code.clone()),
        limit: 30,
        ..CaseQuery::default()
    };
    let of_camera = CaseQuery {
        cell: None,
        cameras: Some(vec![record.camera.local_id.clone()]),
        ..in_cell.clone()
    };
    let mut found = cases::list(app, actor, in_cell).await?;
    found.extend(cases::list(app, actor, of_camera).await?);
    let distance = |other: &CaseRecord| {
        let (one, other) = (record.confirmed_at.timestamp(), other.confirmed_at.timestamp());
        one.as_millisecond().abs_diff(other.as_millisecond())
    };
    found.retain(|other| other.case_id != record.case_id);
    found.sort_by_key(|other| (distance(other), other.case_id.clone()));
    found.dedup_by(|one, other| one.case_id == other.case_id);
    let offered = found.iter().take(SIMILAR).map(|other| {
        let picture = picture_of(
            other,
            &[EvidenceRole::Closeup, EvidenceRole::Overlay, EvidenceRole::Scene],
        );
        Similar {
            id: other.case_id.clone(),
            picture: picture.map(|item| item.id.clone()).unwrap_or_default(),
            confirmed: page.time(other.confirmed_at.timestamp()),
            view: other.view(),
            state: page.t.names.case_state(other.state),
        }
    });
    Ok(offered.collect())
}

async fn reviewed(
    app: &Arc<App>,
    actor: &Actor,
    page: &Page,
    record: &CaseRecord,
    next: Option<&CaseRecord>,
) -> Result<Reviewed, Rejection> {
    let told = cases::reviews_of(app, &record.case_id).await?;
    Ok(Reviewed {
        id: record.case_id.clone(),
        category: category_of(page, record),
        state: page.t.names.case_state(record.state),
        state_class: state_class(record.state),
        confirmed: page.time(record.confirmed_at.timestamp()),
        view: record.view(),
        percent: percent(record.confidence as f32),
        dwell: span(page, record.rule.dwell_s),
        // In the language of the box.
        description: if page.is_zh() {
            record.description.clone()
        } else {
            String::new()
        },
        pictures: pictures(page, record),
        reviews: told.iter().map(|review| ReviewLine::new(page, review)).collect(),
        similar: similar(app, actor, page, record).await?,
        next_picture: next
            .and_then(|next| pictures(page, next).into_iter().next())
            .map_or_else(String::new, |picture| picture.url),
    })
}

/// What the page says besides.
#[derive(Default)]
struct Fault {
    text: String,
    opens_duplicate: bool,
    other: String,
}

async fn render(
    app: &Arc<App>,
    actor: &Actor,
    page: &Page,
    query: ReviewQuery,
    fault: Fault,
) -> Result<Response, Rejection> {
    let queue = query.queue;
    let after = given(query.after);
    let (record, next) = match given(query.case) {
        Some(id) => (Some(cases::find(app, actor, &id).await?.record), None),
        None => {
            let wanted = CaseQuery {
                review: Some(queue.filter(actor)),
                after: after.clone(),
                limit: 2,
                ..CaseQuery::default()
            };
            let mut found = cases::list(app, actor, wanted).await?.into_iter();
            (found.next(), found.next())
        }
    };
    let case = match &record {
        Some(record) => Some(reviewed(app, actor, page, record, next.as_ref()).await?),
        None => None,
    };
    let t = &page.t.review;
    let queues = [
        (Queue::Mine, t.queue_mine),
        (Queue::Nobody, t.queue_nobody),
        (Queue::Disputed, t.queue_disputed),
    ];
    let queues = queues.map(|(which, name)| Choice {
        value: which.as_str().into(),
        name: name.to_string(),
        is_chosen: which == queue,
    });
    let last = reviews::newest(app, actor).await?.map(|review| Last {
        verdict: t.name(review.verdict),
        id: review.case_id,
    });
    let status = match fault.text.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::BAD_REQUEST,
    };
    page.show_with(
        status,
        &ReviewTemplate {
            page,
            queue: queue.as_str(),
            queues: queues.into(),
            fault: fault.text,
            opens_duplicate: fault.opens_duplicate,
            other: fault.other,
            case,
            is_continued: after.is_some(),
            last,
            progress: Progress::new(page, &reviews::progress(app, actor).await?),
        },
    )
}

/// `GET /review`.
async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<ReviewQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(query) = query?;
    render(&app, &actor, &page, query, Fault::default()).await
}

#[derive(Debug, Deserialize)]
struct ReviewForm {
    verdict: ReviewVerdict,
    #[serde(default)]
    queue: Queue,
    /// The other case, chosen from those that are offered.
    of: Option<String>,
    /// The other case, typed.
    other: Option<String>,
}

/// A review is in the audit log with others ([`reviews`]).
fn not_an_act(mut response: Response) -> Response {
    response.extensions_mut().insert(NotAnAct);
    response
}

/// `POST /review/{id}`.
async fn review(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<ReviewForm>, FormRejection>,
) -> Result<Response, Rejection> {
    let (Path(id), Form(form)) = (path?, form?);
    let typed = given(form.other).map(|other| other.to_ascii_uppercase());
    let other = typed.clone().unwrap_or_default();
    let opinion = Opinion {
        verdict: form.verdict,
        duplicate_of: typed.or_else(|| given(form.of)),
    };
    let t = &page.t.review;
    match reviews::set(&app, &actor, &id, opinion).await? {
        Ok(()) => {
            let next = format!("/review?queue={}&after={id}", form.queue.as_str());
            Ok(not_an_act(page.redirect(&next)))
        }
        Err(fault) => {
            let text = match fault {
                OpinionFault::NoOther => t.duplicate_missing.to_string(),
                OpinionFault::UnknownOther(other) => t.duplicate_unknown.with("id", other).to_string(),
                OpinionFault::Itself => t.duplicate_self.to_string(),
                OpinionFault::Circular => t.duplicate_cycle.to_string(),
            };
            let query = ReviewQuery {
                queue: form.queue,
                after: None,
                case: Some(id),
            };
            let fault = Fault {
                text,
                opens_duplicate: true,
                other,
            };
            Ok(not_an_act(render(&app, &actor, &page, query, fault).await?))
        }
    }
}

#[derive(Debug, Deserialize)]
struct UndoForm {
    #[serde(default)]
    queue: Queue,
}

/// `POST /review/{id}/undo`: takes the user's review back and shows the case again.
async fn undo(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<UndoForm>, FormRejection>,
) -> Result<Response, Rejection> {
    let (Path(id), Form(form)) = (path?, form?);
    let removed = reviews::remove(&app, &actor, &id).await?;
    let again = page.redirect(&format!("/review?queue={}&case={id}", form.queue.as_str()));
    Ok(undone(removed, again))
}

/// Records the undoing of a review that is in the audit log.
pub(crate) fn undone(removed: Option<(gridwatch_store::Review, bool)>, response: Response) -> Response {
    match removed {
        Some((review, true)) => {
            let mut details = ActDetails::new("verdict", review.verdict.as_str()).with("at", review.at);
            details.subject = Some(review.case_id);
            details.on(response)
        }
        _ => not_an_act(response),
    }
}

#[cfg(test)]
mod tests {
    use gridwatch_engine::CaseState;

    use super::*;

    #[test]
    fn agreement_counts_cases_that_both_decided() {
        let progress = ReviewProgress {
            judged: [
                ((CaseState::Closed, true), 5),
                ((CaseState::Rejected, false), 2),
                ((CaseState::Rejected, true), 3),
                ((CaseState::Accepted, false), 1),
                ((CaseState::Filed, true), 7),
            ]
            .into(),
            ..ReviewProgress::default()
        };
        let expected = Agreement {
            decided: 11,
            agreed: 7,
            right_but_rejected: 3,
            wrong_but_accepted: 1,
        };
        assert_eq!(Agreement::of(&progress), expected);
    }
}
