//! What is in force, versions of the configuration's files, and the files as texts.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use gridwatch_base::message;
use gridwatch_config::Language;
use gridwatch_web::{Actor, Rejection, audit::ActDetails};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{answer, expect_unrestricted, problem};
use crate::{
    app::App,
    configuration::{
        self, FaultAnswer,
        history::{self, Side, TextEdit},
    },
    page::Page,
    values::{JsonObject, Text},
};

/// Which configuration is in force.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConfigurationAnswer {
    /// SHA-256 of the configuration in force.
    sha256: String,
    /// Since when; RFC 3339.
    since: String,
    /// Faults of a newer file that was refused; empty if the files are in force.
    refused: Vec<String>,
    /// Changed fields that take effect at the next start only.
    awaits_restart: Vec<String>,
}

pub(super) async fn status(State(app): State<Arc<App>>, actor: Actor) -> Result<Json<ConfigurationAnswer>, Rejection> {
    expect_unrestricted(&actor)?;
    let status = app.daemon.configuration();
    Ok(Json(ConfigurationAnswer {
        sha256: status.sha256,
        since: status.since.to_string(),
        refused: status.refused.iter().map(ToString::to_string).collect(),
        awaits_restart: status.awaits_restart,
    }))
}

/// A version of the configuration's files.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct VersionAnswer {
    /// Its number.
    id: u64,
    /// When it was saved, or found; RFC 3339.
    at: String,
    /// Who saved it; absent if the files were changed by other means.
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<String>,
    /// The reason given.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Revision of its files.
    revision: String,
    /// Names of its files.
    files: Vec<String>,
}

pub(super) async fn versions(State(app): State<Arc<App>>, actor: Actor) -> Result<Json<Vec<VersionAnswer>>, Rejection> {
    expect_unrestricted(&actor)?;
    let versions = configuration::versions(&app).await?.into_iter();
    let versions = versions.map(|version| VersionAnswer {
        id: version.id,
        at: version.at.to_string(),
        who: version.who,
        why: version.why,
        revision: version.revision,
        files: version.files.into_iter().map(|file| file.name).collect(),
    });
    Ok(Json(versions.collect()))
}

/// Two versions to be compared.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SidesQuery {
    /// Number of a version, or `current`.
    from: Side,
    /// Number of a version, or `current`.
    to: Side,
}

/// One difference.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ChangeAnswer {
    /// One line.
    text: String,
    /// The field or element, by ids.
    path: String,
    /// `set`, `added`, `removed`, `reordered`, `contents` or `secret`.
    #[schemars(with = "String")]
    kind: gridwatch_config::diff::ChangeKind,
    /// The value before; absent if it was not set, and for secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<Value>,
    /// The value after; absent if it is not set any more, and for secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<Value>,
    /// `live` or `restart`.
    #[schemars(with = "String")]
    applies: gridwatch_config::diff::Applies,
}

pub(super) async fn changes(
    State(app): State<Arc<App>>,
    actor: Actor,
    query: Result<Query<SidesQuery>, QueryRejection>,
) -> Result<Json<Vec<ChangeAnswer>>, Rejection> {
    expect_unrestricted(&actor)?;
    let Query(SidesQuery { from, to }) = query?;
    let changes = history::changes(&app, from, to).await?;
    let changes = changes
        .into_iter()
        .take(configuration::MAX_CHANGES)
        .map(|change| ChangeAnswer {
            text: change.to_string(),
            path: change.path,
            kind: change.kind,
            old: change.old,
            new: change.new,
            applies: change.applies,
        });
    Ok(Json(changes.collect()))
}

/// Number of a version.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Number(u64);

/// Why a version is restored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreBody {
    /// The revision of the present files.
    revision: String,
    /// The reason; it stands in the list of versions.
    #[schemars(length(max = MAX_REASON), regex(pattern = r"\S"))]
    why: String,
}

pub(super) async fn restore(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<Number>, PathRejection>,
    body: Result<JsonObject<RestoreBody>, Rejection>,
) -> Result<Response, Rejection> {
    expect_unrestricted(&actor)?;
    let (Path(Number(id)), JsonObject(body)) = (path?, body?);
    let why = reason(&body.why)?;
    let details = ActDetails::new("restored", id).with("why", &why);
    let outcome = history::restore(&app, &actor, id, body.revision, why).await?;
    Ok(answer(&page, details, outcome, Value::Null))
}

/// Longest reason, in characters.
const MAX_REASON: usize = 1000;

/// A reason that was given.
pub(crate) fn reason(text: &str) -> Result<String, Rejection> {
    let is_short = text.chars().count() <= MAX_REASON;
    let text = text.trim();
    match text.is_empty() || !is_short {
        true => Err(Rejection::BadRequest(message!(
            "why: give a reason of at most 1000 characters"
        ))),
        false => Ok(text.to_owned()),
    }
}

/// A file of the configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileQuery {
    /// `edge.toml`, or such as `conf.d/gate.toml`; default: the main file.
    file: Option<String>,
}

/// A file as text.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TextAnswer {
    /// Revision of the files, for a change.
    revision: String,
    /// Names of all files.
    files: Vec<String>,
    file: String,
    text: String,
}

pub(super) async fn text(
    State(app): State<Arc<App>>,
    actor: Actor,
    query: Result<Query<FileQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    expect_unrestricted(&actor)?;
    let Query(FileQuery { file }) = query?;
    let file = file.unwrap_or_else(|| configuration::main_name(&app));
    Ok(match history::read_text(&app, file.clone()).await? {
        Ok(texts) => Json(TextAnswer {
            revision: texts.revision,
            files: texts.names,
            file,
            text: texts.text.ok_or(Rejection::NotFound)?,
        })
        .into_response(),
        Err(faults) => problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the configuration's files cannot be read",
            json!({ "faults": FaultAnswer::list(&faults, Language::En) }),
        ),
    })
}

/// A file's text to be set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TextBody {
    /// The revision that the change is based on.
    revision: String,
    /// `edge.toml`, or such as `conf.d/gate.toml`, which may be new.
    file: String,
    /// The text; null: the file, which must lie in `conf.d`, is removed.
    text: Option<String>,
    /// The reason; it stands in the list of versions.
    #[serde(default)]
    why: Text<1000>,
}

pub(super) async fn set_text(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    body: Result<JsonObject<TextBody>, Rejection>,
) -> Result<Response, Rejection> {
    expect_unrestricted(&actor)?;
    let JsonObject(body) = body?;
    let details = ActDetails::new("file", &body.file).with("why", body.why.as_str().trim());
    let edit = TextEdit {
        file: body.file,
        text: body.text,
        revision: body.revision,
        why: body.why.as_str().trim().to_owned(),
    };
    let outcome = history::save_text(&app, &actor, edit).await?;
    Ok(answer(&page, details, outcome, Value::Null))
}
