//! The pages of cases: list, timeline, map of cells, a case with its pictures, and the pictures themselves.

mod file;
mod list;
mod map;

use std::sync::Arc;

use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use gridwatch_contract::{CaseRecord, EvidenceItem, EvidenceRole};
use gridwatch_engine::CaseState;
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::{Act, Outcome},
    i18n::Phrase,
};

use super::{Keep, jpeg};
use crate::{
    access::CameraAccess as _,
    app::{App, Routes},
    cases::{self, PictureFault},
    error,
    page::Page,
    reviews,
};

pub(super) fn routes(routes: Routes) -> Routes {
    let viewer = Access::Role(Role::Viewer);
    routes
        .get("/cases", viewer, list::show)
        .get("/cases/map", viewer, map::show)
        .get("/cases/map/basemap", viewer, map::basemap)
        .get("/cases/{id}", viewer, file::show)
        .get("/cases/{id}/evidence/{item}", viewer, evidence)
}

/// Something to choose from a list.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) name: String,
    pub(super) is_chosen: bool,
}

pub(super) fn state_class(state: CaseState) -> &'static str {
    if state.is_open() { "open" } else { "done" }
}

pub(super) fn category_of(page: &Page, record: &CaseRecord) -> String {
    let name = match (&record.category_names, page.is_zh()) {
        (Some(names), true) => &names.zh,
        (Some(names), false) => &names.en,
        (None, _) => &record.category_name,
    };
    format!("{} {name}", record.category_code)
}

/// The newest masked picture with one of these roles, in order of preference.
pub(super) fn picture_of<'a>(record: &'a CaseRecord, roles: &[EvidenceRole]) -> Option<&'a EvidenceItem> {
    let newest = |role: &EvidenceRole| record.evidence.iter().rfind(|item| item.masked && item.role == *role);
    roles.iter().find_map(newest)
}

/// A time span in words.
pub(super) fn span(page: &Page, seconds: f64) -> String {
    let t = &page.t.cases;
    match seconds {
        s if s < 120.0 => t.seconds.with("n", format!("{s:.0}")).to_string(),
        s if s < 7200.0 => t.minutes.with("n", format!("{:.0}", s / 60.0)).to_string(),
        s => t.hours.with("n", format!("{:.1}", s / 3600.0)).to_string(),
    }
}

/// The name of a reviewer in a page.
pub(super) fn reviewer_name(page: &Page, reviewer: &str) -> String {
    match reviews::as_token(reviewer) {
        _ if reviewer.is_empty() => page.t.review.anyone.to_string(),
        Some(token) => page.t.review.program.with("name", token).to_string(),
        None => reviewer.to_owned(),
    }
}

/// One review, as pages show it.
pub(super) struct ReviewLine {
    pub(super) reviewer: String,
    pub(super) verdict: Phrase,
    pub(super) class: &'static str,
    /// Id of the case that it is a duplicate of; empty otherwise.
    pub(super) duplicate_of: String,
    pub(super) at: String,
}

impl ReviewLine {
    pub(super) fn new(page: &Page, review: &gridwatch_store::Review) -> Self {
        Self {
            reviewer: reviewer_name(page, &review.reviewer),
            verdict: page.t.review.name(review.verdict),
            class: review.verdict.as_str(),
            duplicate_of: review.duplicate_of.clone().unwrap_or_default(),
            at: page.time(review.at),
        }
    }
}

/// True if one reviewer says that the case is right and another that it is not.
pub(super) fn is_disputed(reviews: &[gridwatch_store::Review]) -> bool {
    let says = |right| reviews.iter().any(|review| review.verdict.is_right() == Some(right));
    says(true) && says(false)
}

async fn evidence(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path((id, item)) = path?;
    match evidence_picture(&app, &actor, &id, &item).await? {
        Ok(response) => Ok(response),
        Err(PictureFault::Gone) => Err(error::gone()),
        Err(PictureFault::Changed) => {
            tracing::error!(case = id, item, "A picture of a case does not match its recorded hash");
            let message = page.t.cases.bad_evidence.to_string();
            let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
            page.show_with(
                status,
                &super::ErrorTemplate {
                    page: &page,
                    message: &message,
                },
            )
        }
    }
}

/// A picture of a case. A view of an unmasked one is in the audit log before it is shown.
pub(crate) async fn evidence_picture(
    app: &Arc<App>,
    actor: &Actor,
    id: &str,
    item: &str,
) -> Result<Result<Response, PictureFault>, Rejection> {
    let case = cases::find(app, actor, id).await?;
    let found = case.record.evidence.iter().find(|picture| picture.id == item);
    let found = found.ok_or(Rejection::NotFound)?;
    if !found.masked {
        if !actor.sees_unmasked(&app.config()) {
            return Err(error::unmasked());
        }
        let act = Act {
            name: "console unmasked picture",
            by: actor.person(),
            subject: Some(id.to_owned()),
            details: vec![("picture", item.to_owned()), ("sha256", found.sha256.clone())],
            outcome: Outcome::Done,
        };
        app.daemon.record(act).await?;
    }
    let keep = if found.masked { Keep::Long } else { Keep::Never };
    let bytes = cases::picture(app, found.sha256.clone()).await;
    Ok(bytes.map(|bytes| jpeg(bytes, keep).into_response()))
}
