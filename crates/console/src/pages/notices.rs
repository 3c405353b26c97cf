//! What pages say of a change: saved and what it changed, or not saved and why. In place, above what was entered.

use std::sync::Arc;

use askama::Template;
use gridwatch_config::{Fault, diff::Change, element::ElementPath};
use gridwatch_web::Rejection;

use crate::{
    app::App,
    configuration::{Conflict, EditOutcome, fault_line, history, shown_name},
    page::Page,
};

/// Lines in a notice, at most.
const MAX_LINES: usize = 30;

#[derive(Template)]
#[template(path = "saved.html")]
struct SavedTemplate<'a> {
    page: &'a Page,
    headline: String,
    lines: Vec<String>,
}

#[derive(Template)]
#[template(path = "not_saved.html")]
struct NotSavedTemplate {
    headline: String,
    /// Stands above the lines.
    label: String,
    lines: Vec<String>,
    advice: String,
}

#[derive(Template)]
#[template(path = "configuration_state.html")]
struct StateTemplate<'a> {
    page: &'a Page,
}

fn rendered(template: &impl Template) -> Result<String, Rejection> {
    template.render().map_err(|error| Rejection::internal(&error))
}

/// Changes as lines, with the number of those that are left out.
fn lines<'a>(page: &Page, changes: impl Iterator<Item = &'a Change>) -> Vec<String> {
    let mut lines: Vec<String> = changes.map(|change| page.message(&change.message())).collect();
    bound(page, &mut lines);
    lines
}

fn bound(page: &Page, lines: &mut Vec<String>) {
    let more = lines.len().saturating_sub(MAX_LINES);
    if more > 0 {
        lines.truncate(MAX_LINES);
        lines.push(page.t.configuration.more_lines.with("n", more).to_string());
    }
}

/// Whether the files are in force.
pub(super) fn state(page: &Page) -> Result<String, Rejection> {
    rendered(&StateTemplate { page })
}

/// What a version, by default the newest, changed in a part, and whether the files are in force; without a version of that number, only the
/// latter.
pub(super) async fn saved(
    app: &Arc<App>,
    page: &Page,
    version: Option<u64>,
    part: Option<&ElementPath>,
) -> Result<String, Rejection> {
    let Some(found) = history::version_changes(app, version).await? else {
        return state(page);
    };
    let in_part = |change: &&Change| {
        let path = change.path.parse::<ElementPath>();
        part.is_none_or(|part| path.is_ok_and(|path| path.steps().starts_with(part.steps())))
    };
    rendered(&SavedTemplate {
        headline: page.t.configuration.saved.with("n", found.version.id).to_string(),
        lines: lines(page, found.changes.iter().filter(in_part)),
        page,
    })
}

/// A sentence about what was done.
pub(super) fn done(page: &Page, headline: &str) -> Result<String, Rejection> {
    rendered(&SavedTemplate {
        headline: headline.to_owned(),
        lines: Vec::new(),
        page,
    })
}

/// A headline with lines.
pub(super) fn listed(headline: gridwatch_web::i18n::Phrase, lines: Vec<String>) -> Result<String, Rejection> {
    rendered(&NotSavedTemplate {
        headline: headline.to_string(),
        label: String::new(),
        lines,
        advice: String::new(),
    })
}

/// A sentence about what was not done.
pub(super) fn refused(page: &Page, headline: &str) -> Result<String, Rejection> {
    faulty(page, headline, &[])
}

/// Why the files cannot be read.
pub(super) fn unreadable(page: &Page, faults: &[Fault]) -> Result<String, Rejection> {
    faulty(page, &page.t.configuration.unreadable.to_string(), faults)
}

fn faulty(page: &Page, headline: &str, faults: &[Fault]) -> Result<String, Rejection> {
    let mut lines: Vec<String> = faults.iter().map(|fault| fault_line(fault, page.language)).collect();
    bound(page, &mut lines);
    rendered(&NotSavedTemplate {
        headline: headline.to_owned(),
        label: String::new(),
        lines,
        advice: String::new(),
    })
}

/// Why a change was not saved; `None` if it was.
pub(super) fn not_saved(page: &Page, outcome: &EditOutcome) -> Result<Option<String>, Rejection> {
    let t = &page.t.configuration;
    match outcome {
        EditOutcome::Saved(..) => Ok(None),
        EditOutcome::Faults(faults) => faulty(page, &t.not_saved_faults.to_string(), faults).map(Some),
        EditOutcome::Conflict(Conflict { by, at, changes }) => {
            let by = by
                .as_ref()
                .map_or_else(|| t.somebody.to_string(), |by| shown_name(page, by));
            let at = at.map(|at| page.time(at)).unwrap_or_default();
            let (label, lines) = match changes {
                Some(changes) => (t.conflict_theirs, lines(page, changes.iter())),
                None => (t.conflict_unknown, Vec::new()),
            };
            let headline = t.not_saved_conflict.with("by", by).with("at", at);
            rendered(&NotSavedTemplate {
                headline: headline.to_string(),
                label: label.to_string(),
                lines,
                advice: t.conflict_choose.to_string(),
            })
            .map(Some)
        }
    }
}

/// The status of the page that shows again what was entered, and what the audit log says of the act; `None` if it was done.
pub(super) fn refusal(outcome: &EditOutcome) -> Option<(axum::http::StatusCode, &'static str)> {
    use axum::http::StatusCode;
    match outcome {
        EditOutcome::Saved(..) => None,
        EditOutcome::Conflict(_) => Some((StatusCode::CONFLICT, "somebody else has changed the same")),
        EditOutcome::Faults(_) => Some((StatusCode::UNPROCESSABLE_ENTITY, "the configuration would have faults")),
    }
}

/// What a text without faults would do.
pub(super) fn checked(page: &Page, checked: &history::Checked) -> Result<String, Rejection> {
    let t = &page.t.configuration;
    let mut found = rendered(&SavedTemplate {
        page,
        headline: t.file_checked.to_string(),
        lines: lines(page, checked.changes.iter()),
    })?;
    if !checked.warnings.is_empty() {
        found.push_str(&faulty(page, &t.file_warnings.to_string(), &checked.warnings)?);
    }
    Ok(found)
}
