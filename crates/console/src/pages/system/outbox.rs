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
use gridwatch_store::OutboxState;
use gridwatch_web::{Access, Actor, Rejection, Role, form, i18n::Phrase};
use serde::Deserialize;

use super::{PartLink, parts};
use crate::{
    app::{App, Routes},
    page::Page,
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
    /// How many times it was sent; empty if it does not await a receipt.
    times: String,
    /// When it is sent again; empty if it is not.
    due: String,
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
    sent: u32,
    missing: u32,
    /// Since when the oldest message awaits its receipt; empty if none does.
    unreceived_since: String,
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
                state: match (message.state, message.unheard) {
                    (OutboxState::Quarantined, _) => t.state_quarantined,
                    (OutboxState::Missing, _) => t.state_missing,
                    (OutboxState::Sent, _) => t.state_sent,
                    (OutboxState::Queued, true) => t.state_unheard,
                    (OutboxState::Queued, false) => t.state_waiting,
                },
                times: match message.attempts {
                    0 => String::new(),
                    n => t.sent_times.with("n", n).to_string(),
                },
                due: message.due_at.map(|at| page.time(at)).unwrap_or_default(),
                reason: message.quarantined.unwrap_or_default(),
                case_id: message.case_id,
            })
            .collect(),
        waiting: found.waiting,
        sent: found.sent,
        missing: found.missing,
        unreceived_since: found.unreceived_since.map(|at| page.time(at)).unwrap_or_default(),
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
