//! Which configuration is in force, its versions and what differs between them, going back to one, and the files as texts.

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
use gridwatch_base::message;
use gridwatch_config::{
    Fault,
    diff::{Applies, Change, ChangeKind},
    files::{CONF_DIR, ConfigFiles},
};
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::{ActDetails, NotAnAct, NotDone},
    routes::MAX_BODY,
};
use serde::Deserialize;
use serde_json::Value;

use super::notices;
use crate::{
    api::configuration::reason,
    app::{App, Routes},
    configuration::{
        self, EditOutcome, MAX_CHANGES, MAX_FAULTS, fault_line,
        history::{self, Side, TextEdit},
    },
    error,
    page::Page,
};

/// Values in a table of changes are cut at this length, in characters.
const MAX_VALUE: usize = 2000;
/// Lines of a text field, at most; a longer text is scrolled in it.
const MAX_ROWS: usize = 3000;

pub(super) fn routes(routes: Routes) -> Routes {
    let (viewer, admin) = (Access::Role(Role::Viewer), Access::Role(Role::Admin));
    routes
        .get("/configuration", viewer, show)
        .get("/configuration/changes", viewer, changes)
        .post(
            "/configuration/versions/{id}/restore",
            admin,
            "console configuration restore",
            restore,
        )
        .get("/configuration/file", admin, file)
        .post("/configuration/file", admin, "console configuration text", save_file)
}

/// All pages here concern all cameras.
fn expect_unrestricted(actor: &Actor) -> Result<(), Rejection> {
    match actor.is_restricted() {
        true => Err(error::restricted()),
        false => Ok(()),
    }
}

struct VersionRow {
    id: u64,
    at: String,
    who: String,
    why: String,
    /// The version before it, if that is kept.
    before: Option<u64>,
}

#[derive(Template)]
#[template(path = "configuration.html")]
struct ConfigurationTemplate<'a> {
    page: &'a Page,
    notice: String,
    since: String,
    files: Vec<String>,
    versions: Vec<VersionRow>,
}

#[derive(Deserialize)]
struct SavedQuery {
    /// Number of the version that was just saved.
    saved: Option<u64>,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<SavedQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    expect_unrestricted(&actor)?;
    let Query(SavedQuery { saved }) = query?;
    let notice = match saved {
        Some(version) => notices::saved(&app, &page, Some(version), None).await?,
        None => String::new(),
    };
    let names = |main: &std::path::Path| ConfigFiles::read(main).iter().map(|file| file.name.clone()).collect();
    let files: Vec<String> = configuration::blocking(&app, names).await?;
    let versions = configuration::versions(&app).await?;
    let before = versions.iter().skip(1).map(|version| Some(version.id)).chain([None]);
    let rows = versions.iter().zip(before).map(|(version, before)| VersionRow {
        id: version.id,
        at: page.time(version.at),
        who: match &version.who {
            Some(who) => configuration::shown_name(&page, who),
            None => page.t.configuration.by_hand.to_string(),
        },
        why: version
            .why
            .as_deref()
            .map(|why| reason_shown(&page, why))
            .unwrap_or_default(),
        before,
    });
    page.show(&ConfigurationTemplate {
        notice,
        since: page.time(page.configuration.since),
        files,
        versions: rows.collect(),
        page: &page,
    })
}

/// The reason of a version: one that the console gave itself is recorded in English, and shown in the page's language.
fn reason_shown(page: &Page, why: &str) -> String {
    let t = &page.t.configuration;
    let after = |start: &str| why.strip_prefix(start);
    match why {
        "camera added on the console" => t.why_camera_added.to_string(),
        "camera removed on the console" => t.why_camera_removed.to_string(),
        _ => match (
            after("hours of "),
            after("zones of "),
            after("calibration of "),
            after("thresholds of rule "),
        ) {
            (Some(id), ..) => match id.strip_suffix(" removed") {
                Some(id) => t.why_hours_removed.with("id", id).to_string(),
                None => t.why_hours.with("id", id).to_string(),
            },
            (_, Some(id), ..) => t.why_zones.with("id", id).to_string(),
            (_, _, Some(id), _) => t.why_calibration.with("id", id).to_string(),
            (.., Some(id)) => t.why_thresholds.with("id", id).to_string(),
            _ => why.to_owned(),
        },
    }
}

struct ChangeRow {
    path: String,
    old: String,
    new: String,
    /// What stands in place of the values.
    note: String,
    applies: String,
}

impl ChangeRow {
    fn new(page: &Page, change: &Change) -> Self {
        let t = &page.t.configuration;
        Self {
            path: change.path.clone(),
            old: value(change.old.as_ref()),
            new: value(change.new.as_ref()),
            note: match change.kind {
                ChangeKind::Secret => t.secret.to_string(),
                ChangeKind::Contents => t.contents.to_string(),
                _ => String::new(),
            },
            applies: match change.applies {
                Applies::Live => t.live.to_string(),
                Applies::Restart => t.restart.to_string(),
            },
        }
    }
}

/// A value as a person reads it: a text as it is, a table with a line for each key, anything else as JSON.
fn value(value: Option<&Value>) -> String {
    let text = match value {
        None => return "–".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(table)) => {
            let lines: Vec<String> = table.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            lines.join("\n")
        }
        Some(other) => other.to_string(),
    };
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[derive(Template)]
#[template(path = "configuration_changes.html")]
struct ChangesTemplate<'a> {
    page: &'a Page,
    heading: String,
    notice: String,
    rows: Vec<ChangeRow>,
    /// Changes that are not listed.
    more: usize,
    /// The version that can be restored here: the first of the two, compared with the present files.
    restorable: Option<u64>,
    revision: String,
    why: String,
}

async fn changes_template<'a>(
    app: &Arc<App>,
    page: &'a Page,
    from: Side,
    to: Side,
) -> Result<ChangesTemplate<'a>, Rejection> {
    let t = &page.t.configuration;
    let found = history::changes(app, from, to).await?;
    let name = |side: Side| match side {
        Side::Version(id) => t.version_n.with("n", id).to_string(),
        Side::Present => t.current.to_string(),
    };
    let restorable = match (from, to) {
        (Side::Version(id), Side::Present) if page.may_administer() => Some(id),
        _ => None,
    };
    let revision = configuration::blocking(app, |main| ConfigFiles::read(main).revision());
    Ok(ChangesTemplate {
        heading: t
            .changes_title
            .with("from", name(from))
            .with("to", name(to))
            .to_string(),
        notice: String::new(),
        rows: found
            .iter()
            .take(MAX_CHANGES)
            .map(|change| ChangeRow::new(page, change))
            .collect(),
        more: found.len().saturating_sub(MAX_CHANGES),
        restorable,
        revision: revision.await?,
        why: String::new(),
        page,
    })
}

#[derive(Deserialize)]
struct SidesQuery {
    from: String,
    to: String,
}

async fn changes(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<SidesQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    expect_unrestricted(&actor)?;
    let Query(SidesQuery { from, to }) = query?;
    page.show(&changes_template(&app, &page, Side::parse(&from)?, Side::parse(&to)?).await?)
}

#[derive(Deserialize)]
struct RestoreForm {
    revision: String,
    why: String,
}

async fn restore(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<u64>, PathRejection>,
    form: Result<Form<RestoreForm>, FormRejection>,
) -> Result<Response, Rejection> {
    expect_unrestricted(&actor)?;
    let (Path(id), Form(form)) = (path?, form?);
    let why = reason(&form.why)?;
    let details = ActDetails::new("restored", id).with("why", &why);
    let outcome = history::restore(&app, &actor, id, form.revision, why.clone()).await?;
    if let EditOutcome::Saved(saved, _) = &outcome {
        let target = format!("/configuration?saved={}", saved.version);
        return Ok(details.with("version", saved.version).on(page.redirect(&target)));
    }
    let (status, reason) = notices::refusal(&outcome).unwrap_or((StatusCode::OK, ""));
    let mut shown = changes_template(&app, &page, Side::Version(id), Side::Present).await?;
    shown.notice = notices::not_saved(&page, &outcome)?.unwrap_or_default();
    shown.why = why;
    let mut response = page.show_with(status, &shown)?;
    response.extensions_mut().insert(NotDone(reason.into()));
    Ok(details.on(response))
}

struct FaultRow {
    /// In the file that is edited.
    line: Option<usize>,
    text: String,
}

#[derive(Template)]
#[template(path = "configuration_file.html")]
struct FileTemplate<'a> {
    page: &'a Page,
    file: String,
    notice: String,
    faults: Vec<FaultRow>,
    is_new: bool,
    is_part: bool,
    is_large: bool,
    revision: String,
    text: String,
    numbers: String,
    rows: usize,
    why: String,
    /// The present text, after somebody else has changed it.
    theirs: Option<String>,
}

impl<'a> FileTemplate<'a> {
    fn new(page: &'a Page, file: String, text: String) -> Self {
        let lines = text.lines().count() + 1;
        let numbers: String = (1..=lines).map(|n| format!("{n}\n")).collect();
        // As a form sends it, with room for the other fields.
        let sent: usize = url::form_urlencoded::byte_serialize(text.as_bytes())
            .map(str::len)
            .sum();
        Self {
            is_part: file.starts_with(CONF_DIR),
            file,
            notice: String::new(),
            faults: Vec::new(),
            is_new: false,
            is_large: sent > MAX_BODY - (16 << 10),
            revision: String::new(),
            numbers,
            rows: lines.min(MAX_ROWS),
            why: String::new(),
            theirs: None,
            text,
            page,
        }
    }

    fn set_faults(&mut self, faults: &[Fault]) {
        let language = self.page.language;
        let of_file = |fault: &Fault| {
            let name = self.file.rsplit('/').next().unwrap_or_default();
            let is_part = fault
                .file
                .parent()
                .and_then(std::path::Path::file_name)
                .is_some_and(|dir| dir == CONF_DIR);
            fault.file.file_name().is_some_and(|file| file == name) && is_part == self.is_part
        };
        let rows = faults.iter().take(MAX_FAULTS).map(|fault| FaultRow {
            line: fault.line.filter(|_| of_file(fault)),
            text: fault_line(fault, language),
        });
        self.faults = rows.collect();
    }
}

#[derive(Deserialize)]
struct FileQuery {
    file: Option<String>,
}

async fn file(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<FileQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    expect_unrestricted(&actor)?;
    let file = query?.0.file.map(|file| file.trim().to_owned());
    let file = file.unwrap_or_else(|| configuration::main_name(&app));
    let texts = match history::read_text(&app, file.clone()).await? {
        Ok(texts) => texts,
        Err(faults) => {
            let mut shown = FileTemplate::new(&page, file, String::new());
            shown.set_faults(&faults);
            return page.show(&shown);
        }
    };
    if texts.text.is_none() {
        // A name that no file may have is refused before somebody writes a text for it.
        let probe = TextEdit {
            file: file.clone(),
            text: Some(String::new()),
            revision: String::new(),
            why: String::new(),
        };
        history::expect_name(&app, probe).await?;
    }
    let mut shown = FileTemplate::new(&page, file, texts.text.clone().unwrap_or_default());
    shown.is_new = texts.text.is_none();
    shown.revision = texts.revision;
    page.show(&shown)
}

#[derive(Deserialize)]
struct FileForm {
    file: String,
    text: String,
    revision: String,
    #[serde(default)]
    why: String,
    /// `check`, `save` or `remove`.
    action: String,
}

async fn save_file(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    form: Result<Form<FileForm>, FormRejection>,
) -> Result<Response, Rejection> {
    expect_unrestricted(&actor)?;
    let Form(form) = form?;
    // Forms send CR LF; a file keeps the line ends that it has.
    let before = history::read_text(&app, form.file.clone())
        .await?
        .ok()
        .and_then(|texts| texts.text);
    let is_new = before.is_none();
    let plain = form.text.replace("\r\n", "\n");
    let text = match before.is_some_and(|text| text.contains("\r\n")) {
        true => plain.replace('\n', "\r\n"),
        false => plain.clone(),
    };
    let edit = TextEdit {
        file: form.file.clone(),
        text: (form.action != "remove").then_some(text),
        revision: form.revision.clone(),
        why: form.why.trim().to_owned(),
    };
    let mut shown = FileTemplate::new(&page, form.file.clone(), plain);
    shown.is_new = is_new;
    shown.why = form.why.clone();
    shown.revision = form.revision;
    match form.action.as_str() {
        "check" => {
            let checked = history::check_text(&app, edit).await?;
            shown.set_faults(&checked.faults);
            if checked.faults.is_empty() {
                shown.notice = notices::checked(&page, &checked)?;
            }
            let mut response = page.show(&shown)?;
            // Nothing is changed.
            response.extensions_mut().insert(NotAnAct);
            return Ok(response);
        }
        "save" | "remove" => {}
        _ => return Err(Rejection::BadRequest(message!("action: use check, save or remove"))),
    }
    let details = ActDetails::new("file", &form.file).with("why", form.why.trim());
    let outcome = history::save_text(&app, &actor, edit).await?;
    match &outcome {
        EditOutcome::Saved(saved, _) => {
            let target = format!("/configuration?saved={}", saved.version);
            return Ok(details.with("version", saved.version).on(page.redirect(&target)));
        }
        EditOutcome::Faults(faults) => shown.set_faults(faults),
        EditOutcome::Conflict(_) => {
            shown.notice = notices::not_saved(&page, &outcome)?.unwrap_or_default();
            if let Ok(present) = history::read_text(&app, form.file).await? {
                shown.revision = present.revision;
                shown.theirs = Some(present.text.unwrap_or_default());
            }
        }
    }
    let (status, why) = notices::refusal(&outcome).unwrap_or((StatusCode::OK, ""));
    let mut response = page.show_with(status, &shown)?;
    response.extensions_mut().insert(NotDone(why.into()));
    Ok(details.on(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_people_read_them() {
        assert_eq!(value(None), "–");
        assert_eq!(value(Some(&Value::from("5s"))), "5s");
        assert_eq!(value(Some(&Value::from(0.5))), "0.5");
        let zone = serde_json::json!({ "id": "a", "polygon": [[0.5, 1.0]] });
        assert_eq!(value(Some(&zone)), "id = \"a\"\npolygon = [[0.5,1.0]]");
        let long = value(Some(&Value::from("街".repeat(3000))));
        assert_eq!(long.chars().count(), MAX_VALUE + 1);
    }
}
