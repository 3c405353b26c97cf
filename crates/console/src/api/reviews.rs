//! Operations of the JSON API about reviews, the check of evidence and the map of cells.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use gridwatch_store::{CaseCheck, ChainState, PictureState, Review, ReviewVerdict, SignatureState};
use gridwatch_web::{
    Actor, Rejection, Role,
    audit::NotAnAct,
    openapi::{Answer, Operation, schema},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CasesQuery;
use crate::{
    app::{App, Routes},
    cases,
    cell_map::{self, CellMap, MAX_CASES},
    pages::{Agreement, undone},
    reviews::{self, Opinion, OpinionFault},
    values::JsonObject,
};

/// Adds the operations.
pub(super) fn routes(routes: Routes) -> Routes {
    let get = |path, id, summary, answer| Operation {
        method: Method::GET,
        path,
        id,
        summary,
        role: Role::Viewer,
        act: None,
        answer,
        body: None,
        query: None,
    };
    let change = |method, id, summary, act, body| Operation {
        method,
        path: "/api/v1/cases/{id}/review",
        id,
        summary,
        role: Role::Operator,
        act: Some(act),
        answer: Answer::Nothing,
        body,
        query: None,
    };
    let told = Answer::Json(schema::<Vec<ReviewAnswer>>);
    let progress = Answer::Json(schema::<ProgressAnswer>);
    let check = Answer::Json(schema::<CheckAnswer>);
    let map = Answer::Json(schema::<CellMap>);
    routes
        .api(
            Operation {
                query: Some(schema::<CasesQuery>),
                ..get(
                    "/api/v1/cases/map",
                    "case_map",
                    "Cells with their cases, for a map; `after` and `limit` have no effect",
                    map,
                )
            },
            cell_map,
        )
        .api(
            get(
                "/api/v1/cases/{id}/check",
                "check_case",
                "Whether the stored evidence of a case holds",
                check,
            ),
            check_case,
        )
        .api(
            get("/api/v1/cases/{id}/reviews", "case_reviews", "Reviews of a case", told),
            list_reviews,
        )
        .api(
            change(
                Method::PUT,
                "review_case",
                "Review a case, in the place of an earlier review by the same user",
                reviews::ACT,
                Some(schema::<ReviewBody>),
            ),
            review_case,
        )
        .api(
            change(
                Method::DELETE,
                "unreview_case",
                "Take the own review of a case back",
                reviews::UNDO,
                None,
            ),
            unreview_case,
        )
        .api(
            get(
                "/api/v1/reviews/progress",
                "review_progress",
                "How far the reviews are, and how they agree with the platform",
                progress,
            ),
            show_progress,
        )
}

async fn cell_map(
    State(app): State<Arc<App>>,
    actor: Actor,
    query: Result<Query<CasesQuery>, QueryRejection>,
) -> Result<Json<CellMap>, Rejection> {
    let Query(query) = query?;
    Ok(Json(
        cell_map::of(&app, &actor, query.to_store(&actor, MAX_CASES)).await?,
    ))
}

/// A review.
#[derive(Debug, Serialize, JsonSchema)]
struct ReviewAnswer {
    /// A user's name, `token:NAME` for a program, or empty on a console without users.
    reviewer: String,
    verdict: Verdict,
    /// For a duplicate: the other case.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate_of: Option<String>,
    /// RFC 3339.
    at: String,
}

/// What a person says of a case.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// A problem that should be filed.
    True,
    /// Not a problem.
    False,
    /// A problem that another case is about already.
    Duplicate,
    /// The pictures do not tell.
    Unsure,
}

impl From<ReviewVerdict> for Verdict {
    fn from(verdict: ReviewVerdict) -> Self {
        match verdict {
            ReviewVerdict::True => Self::True,
            ReviewVerdict::False => Self::False,
            ReviewVerdict::Duplicate => Self::Duplicate,
            ReviewVerdict::Unsure => Self::Unsure,
        }
    }
}

impl From<Verdict> for ReviewVerdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::True => Self::True,
            Verdict::False => Self::False,
            Verdict::Duplicate => Self::Duplicate,
            Verdict::Unsure => Self::Unsure,
        }
    }
}

impl From<Review> for ReviewAnswer {
    fn from(review: Review) -> Self {
        Self {
            reviewer: review.reviewer,
            verdict: review.verdict.into(),
            duplicate_of: review.duplicate_of,
            at: review.at.to_string(),
        }
    }
}

async fn list_reviews(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Vec<ReviewAnswer>>, Rejection> {
    let Path(id) = path?;
    cases::expect(&app, &actor, &id).await?;
    let told = cases::reviews_of(&app, &id).await?;
    Ok(Json(told.into_iter().map(ReviewAnswer::from).collect()))
}

/// A review to be stored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReviewBody {
    verdict: Verdict,
    /// For a duplicate: the other case.
    #[serde(default)]
    duplicate_of: Option<String>,
}

async fn review_case(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonObject<ReviewBody>, Rejection>,
) -> Result<Response, Rejection> {
    let (Path(id), JsonObject(body)) = (path?, body?);
    let opinion = Opinion {
        verdict: body.verdict.into(),
        duplicate_of: body.duplicate_of,
    };
    reviews::set(&app, &actor, &id, opinion).await?.map_err(|fault| {
        Rejection::Unfit(match fault {
            OpinionFault::NoOther => "duplicate_of: name the other case".into(),
            OpinionFault::UnknownOther(other) => format!("duplicate_of: there is no case {other:?}").into(),
            OpinionFault::Itself => "duplicate_of: a case is not a duplicate of itself".into(),
            OpinionFault::Circular => "duplicate_of: you marked that case as a duplicate of this one".into(),
        })
    })?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    // In the audit log with others.
    response.extensions_mut().insert(NotAnAct);
    Ok(response)
}

async fn unreview_case(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = path?;
    let removed = reviews::remove(&app, &actor, &id).await?;
    Ok(undone(removed, StatusCode::NO_CONTENT.into_response()))
}

/// How far the reviews are, over the cases that the user sees.
#[derive(Debug, Serialize, JsonSchema)]
struct ProgressAnswer {
    /// All cases.
    cases: u32,
    /// Of these, reviewed by the user.
    by_user: u32,
    /// Of these, reviewed by anyone.
    by_anyone: u32,
    /// Of these, right for one reviewer and not for another.
    disputed: u32,
    /// Cases with undisputed reviews and a decision of the platform.
    decided: u32,
    /// Of these, with the same answer.
    agreed: u32,
    /// Of these, right by the reviews, and rejected.
    right_but_rejected: u32,
    /// Of these, not right by the reviews, and accepted.
    wrong_but_accepted: u32,
}

async fn show_progress(State(app): State<Arc<App>>, actor: Actor) -> Result<Json<ProgressAnswer>, Rejection> {
    let progress = reviews::progress(&app, &actor).await?;
    let agreement = Agreement::of(&progress);
    Ok(Json(ProgressAnswer {
        cases: progress.cases,
        by_user: progress.by_person,
        by_anyone: progress.by_anyone,
        disputed: progress.disputed,
        decided: agreement.decided,
        agreed: agreement.agreed,
        right_but_rejected: agreement.right_but_rejected,
        wrong_but_accepted: agreement.wrong_but_accepted,
    }))
}

/// Whether the stored evidence of a case holds.
#[derive(Debug, Serialize, JsonSchema)]
struct CheckAnswer {
    /// True if nothing speaks against it.
    holds: bool,
    pictures: Vec<PictureAnswer>,
    /// `valid`, `absent` or `invalid`.
    signature: &'static str,
    /// Public key of the signature, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// `complete`, `not_in_chain`, `broken` or `absent`.
    chain: &'static str,
    /// Number of the chain's line with the hash of the newest record.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    /// Why the chain is broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A picture's file.
#[derive(Debug, Serialize, JsonSchema)]
struct PictureAnswer {
    /// Evidence id.
    id: String,
    /// `intact`, `deleted` at the end of its retention period, `missing` or `changed`.
    state: &'static str,
}

impl From<CaseCheck> for CheckAnswer {
    fn from(check: CaseCheck) -> Self {
        let holds = check.holds();
        let pictures = check.pictures.into_iter().map(|(id, state)| PictureAnswer {
            id,
            state: match state {
                PictureState::Intact => "intact",
                PictureState::Deleted => "deleted",
                PictureState::Missing => "missing",
                PictureState::Changed => "changed",
            },
        });
        let (signature, public_key) = match check.signature {
            SignatureState::Valid { public_key } => ("valid", Some(public_key)),
            SignatureState::Absent => ("absent", None),
            SignatureState::Invalid => ("invalid", None),
        };
        let (chain, line, reason) = match check.chain {
            ChainState::Complete { line, .. } => ("complete", Some(line), None),
            ChainState::NotInChain => ("not_in_chain", None, None),
            ChainState::Broken { reason } => ("broken", None, Some(reason)),
            ChainState::Absent => ("absent", None, None),
        };
        Self {
            holds,
            pictures: pictures.collect(),
            signature,
            public_key,
            chain,
            line,
            reason,
        }
    }
}

async fn check_case(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<CheckAnswer>, Rejection> {
    let Path(id) = path?;
    cases::expect(&app, &actor, &id).await?;
    Ok(Json(cases::check(&app, &id).await?.into()))
}
