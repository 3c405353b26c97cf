//! The newest acts in the audit log.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use gridwatch_web::{Access, Actor, Rejection, Role, i18n::Phrase};

use super::{PartLink, parts};
use crate::{
    app::{App, Routes},
    page::Page,
    system::{
        audit::{self, AuditQuery, ChainFaultAnswer},
        expect_whole_box,
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/system/audit", Access::Role(Role::Admin), show)
}

struct ActRow {
    line: u64,
    at: String,
    act: String,
    result: Phrase,
    who: String,
    case_id: String,
    details: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "system_audit.html")]
struct AuditTemplate<'a> {
    page: &'a Page,
    parts: Vec<PartLink>,
    rows: Vec<ActRow>,
    next: Option<u64>,
    fault: Option<ChainFaultAnswer>,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    let found = audit::read(&app, query?.0).await?;
    let t = &page.t.system;
    let template = AuditTemplate {
        parts: parts(&app, &page),
        rows: found
            .acts
            .into_iter()
            .map(|act| ActRow {
                line: act.line,
                at: act.at.map(|at| page.time(at)).unwrap_or_default(),
                act: act.act,
                result: match act.result {
                    "done" => t.done,
                    "refused" => t.result_refused,
                    _ => t.failed,
                },
                who: act.who,
                case_id: act.case_id.unwrap_or_default(),
                details: act.details,
            })
            .collect(),
        next: found.next,
        fault: found.fault,
        page: &page,
    };
    page.show(&template)
}
