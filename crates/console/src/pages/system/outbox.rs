//! The outbox, and the retry of messages in quarantine.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{
        Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    response::Response,
};
use gridwatch_config::Role;
use serde::Deserialize;

use super::{PartLink, parts};
use crate::{
    app::App,
    error::Rejection,
    form,
    i18n::Phrase,
    identity::Actor,
    page::Page,
    routes::{Access, Routes},
    system::{
        api, expect_whole_box,
        outbox::{self, MAX_SHOWN},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    let operator = Access::Role(Role::Operator);
    routes
        .get("/system/outbox", operator, show)
        .post("/system/outbox/retry", operator, "outbox retry", retry)
}

struct MessageRow {
    seq: i64,
    case_id: String,
    kind: Phrase,
    queued: String,
    state: Phrase,
    /// Why it is in quarantine; empty if it is not.
    reason: String,
}

#[derive(Template)]
#[template(path = "system_outbox.html")]
struct OutboxTemplate<'a> {
    page: &'a Page,
    parts: Vec<PartLink>,
    rows: Vec<MessageRow>,
    waiting: u32,
    quarantined: u32,
    is_filtered: bool,
    is_cut: bool,
    max: u32,
}

#[derive(Debug, Default, Deserialize)]
struct OutboxQuery {
    #[serde(default)]
    quarantined: Option<bool>,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<OutboxQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    let is_filtered = query?.quarantined.unwrap_or(false);
    let found = outbox::list(&app, is_filtered).await?;
    let messages = found.messages;
    let t = &page.t.system;
    let template = OutboxTemplate {
        parts: parts(&app, &page),
        is_cut: messages.len() == MAX_SHOWN as usize,
        rows: messages
            .into_iter()
            .map(|message| MessageRow {
                seq: message.seq,
                kind: match message.kind {
                    "case" => t.kind_case,
                    _ => t.kind_evidence,
                },
                queued: page.time(message.queued_at),
                state: match (&message.quarantined, message.unheard) {
                    (Some(_), _) => t.state_quarantined,
                    (None, true) => t.state_unheard,
                    (None, false) => t.state_waiting,
                },
                reason: message.quarantined.unwrap_or_default(),
                case_id: message.case_id,
            })
            .collect(),
        waiting: found.waiting,
        quarantined: found.quarantined,
        is_filtered,
        max: MAX_SHOWN,
        page: &page,
    };
    page.show(&template)
}

#[derive(Deserialize)]
struct RetryForm {
    #[serde(default)]
    case: Option<String>,
}

async fn retry(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    form: Result<Form<RetryForm>, FormRejection>,
) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    let Form(form) = form?;
    let (details, _) = api::retry(&app, form::given(form.case)).await?;
    Ok(details.on(page.redirect("/system/outbox")))
}
