//! Thresholds of a rule, tried on the recorded days: what would be filed, what comes and goes, the curve of one of them; and applied.

mod answer;
pub(crate) mod apply;
mod asked;
mod chart;

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use gridwatch_config::{Role, diff, raw::Span};
use gridwatch_ledger::what_if::{CurveRequest, Estimate, Threshold, WhatIfAnswer, WhatIfCurve};

use self::{
    answer::{AnswerTemplate, Evaluation},
    asked::curve_values,
    chart::Chart,
};
pub(crate) use self::{apply::ApplyFault, asked::Asked};
use crate::{
    app::App,
    error::Rejection,
    i18n::Phrase,
    identity::Actor,
    ledger::{self, API_PATIENCE, LedgerFault, LoadedDays, PAGE_PATIENCE, Progress},
    page::Page,
    routes::{Access, ActDetails, Routes},
};

pub(super) fn routes(routes: Routes) -> Routes {
    let viewer = Access::Role(Role::Viewer);
    routes
        .get("/thresholds", viewer, show)
        .get("/thresholds/curve", viewer, show_curve)
        .post(
            "/thresholds",
            Access::Role(Role::Operator),
            "console thresholds",
            apply_and_show,
        )
}

/// A threshold's fields in the form.
struct ThresholdField {
    name: &'static str,
    label: Phrase,
    unit: Phrase,
    value: String,
    in_force: String,
    in_force_text: String,
    /// Of the number field.
    min: f64,
    max: f64,
    /// Of the slider, which covers the useful part.
    slider_max: f64,
    step: f64,
    is_curve: bool,
}

struct Choice {
    value: String,
    is_chosen: bool,
}

/// What the page says about an application of thresholds.
#[derive(Default)]
struct Notice {
    is_good: bool,
    text: String,
    lines: Vec<String>,
}

#[derive(Template)]
#[template(path = "thresholds.html")]
struct ThresholdsTemplate<'a> {
    page: &'a Page,
    rules: Vec<Choice>,
    cameras: Vec<Choice>,
    days: u32,
    max_days: u32,
    fields: Vec<ThresholdField>,
    precision: f64,
    notice: Notice,
    /// Why there is no answer; empty if there is one or it is on its way.
    fault: String,
    /// Finished per cent of the reading, while there is no answer yet.
    loading: Option<u32>,
    /// Query of this page.
    query: String,
    /// Query with the values in force.
    reset: String,
    answer: Option<AnswerTemplate<'a>>,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    RawQuery(query): RawQuery,
) -> Result<Response, Rejection> {
    let template = template(&app, &actor, &page, &query.unwrap_or_default(), Notice::default()).await?;
    page.show(&template)
}

async fn template<'a>(
    app: &Arc<App>,
    actor: &Actor,
    page: &'a Page,
    fields: &str,
    notice: Notice,
) -> Result<ThresholdsTemplate<'a>, Rejection> {
    let config = app.config();
    let (asked, fault) = match Asked::parse(fields, &config, actor) {
        Ok(asked) => (asked, None),
        Err(fault) => {
            let text = fault.text(&page.t.ledger);
            // The form is there to mend it in, unless there is nothing to choose from.
            match Asked::parse("", &config, actor) {
                Ok(asked) => (asked, Some(text)),
                Err(_) => return Err(Rejection::BadRequest(text)),
            }
        }
    };
    let mut template = form(app, actor, page, &asked, notice);
    if let Some(fault) = fault {
        template.fault = fault;
        return Ok(template);
    }
    let evaluated = match ledger::days(app, asked.days, PAGE_PATIENCE).await {
        Ok(Progress::Done(loaded)) => {
            let evaluation = Evaluation::of(app, &loaded, &asked).await;
            evaluation.map(|evaluation| Some((loaded, evaluation)))
        }
        Ok(Progress::Running(thousandths)) => {
            template.loading = Some(thousandths / 10);
            Ok(None)
        }
        Err(fault) => Err(fault),
    };
    match evaluated {
        Ok(Some((loaded, evaluation))) => {
            let answer = AnswerTemplate::new(page, app, actor, &asked, &loaded, &evaluation).await?;
            template.answer = Some(answer);
        }
        Ok(None) => {}
        Err(fault) => template.fault = fault.text(&page.t.ledger),
    }
    Ok(template)
}

fn form<'a>(app: &App, actor: &Actor, page: &'a Page, asked: &Asked, notice: Notice) -> ThresholdsTemplate<'a> {
    let config = app.config();
    let rules = config.plan.rules.iter().map(|rule| Choice {
        value: rule.id.to_string(),
        is_chosen: rule.id == asked.in_force.id,
    });
    let cameras = config.cameras.iter().filter(|camera| actor.sees(camera));
    let cameras = cameras.map(|camera| Choice {
        value: camera.id.to_string(),
        is_chosen: asked.cameras.contains(camera.id.as_str()),
    });
    let mut reset = url::form_urlencoded::Serializer::new(String::new());
    reset.append_pair("rule", asked.in_force.id.as_str());
    reset.append_pair("days", &asked.days.to_string());
    for camera in &asked.cameras {
        reset.append_pair("camera", camera);
    }
    ThresholdsTemplate {
        page,
        rules: rules.collect(),
        cameras: cameras.collect(),
        days: asked.days,
        max_days: ledger::MAX_DAYS,
        fields: asked
            .thresholds()
            .filter_map(|threshold| ThresholdField::new(page, asked, threshold))
            .collect(),
        precision: (asked.min_precision * 100.0).round(),
        notice,
        fault: String::new(),
        loading: None,
        query: asked.query_with("", ""),
        reset: reset.finish(),
        answer: None,
    }
}

impl ThresholdField {
    fn new(page: &Page, asked: &Asked, threshold: Threshold) -> Option<Self> {
        let (now, tried) = (threshold.get(&asked.in_force)?, threshold.get(&asked.tried)?);
        let (range, t) = (threshold.range(), &page.t.ledger);
        let is_share = range.max <= 1.0 && range.step >= 0.05;
        // A week of dwell is possible, and of no use on a slider.
        let slider_max = match is_share {
            true => range.max,
            false => (now.max(tried) * 3.0).max(range.step * 20.0).ceil().min(range.max),
        };
        Some(Self {
            name: threshold.as_str(),
            label: t.threshold(threshold),
            unit: t.unit(threshold),
            value: tried.to_string(),
            in_force: now.to_string(),
            in_force_text: t.in_force.with("value", value_text(page, threshold, now)).to_string(),
            min: range.min,
            max: range.max,
            slider_max,
            step: if is_share { 0.01 } else { range.step },
            is_curve: asked.curve == threshold,
        })
    }
}

/// A threshold's value with its unit, as in a table.
fn value_text(page: &Page, threshold: Threshold, value: f64) -> String {
    let t = &page.t.ledger;
    match t.unit(threshold) {
        unit if unit == t.unit_seconds => {
            let span = std::time::Duration::try_from_secs_f64(value).unwrap_or_default();
            Span(span).to_string()
        }
        unit if unit == t.unit_metres => format!("{value} m"),
        unit if unit == t.unit_square_metres => format!("{value} m²"),
        _ => value.to_string(),
    }
}

/// A share with its counts and confidence limits.
fn estimate_text(page: &Page, estimate: Option<Estimate>) -> String {
    let t = &page.t.ledger;
    let Some(estimate) = estimate else {
        return t.unknown.to_string();
    };
    let percent = |share: f64| format!("{:.0}", share * 100.0);
    let text = t.estimate.with("share", percent(estimate.share));
    let text = text.with("hits", estimate.hits).with("of", estimate.of);
    text.with("low", percent(estimate.low))
        .with("high", percent(estimate.high))
        .to_string()
}

/// What the tried thresholds file, for programs.
///
/// # Errors
/// [`LedgerFault`].
pub(crate) async fn whatif(app: &App, loaded: &Arc<LoadedDays>, asked: &Asked) -> Result<WhatIfAnswer, LedgerFault> {
    Ok(Evaluation::of(app, loaded, asked).await?.tried)
}

/// The curve of the chosen threshold.
///
/// # Errors
/// [`LedgerFault`].
pub(crate) async fn curve(app: &App, loaded: Arc<LoadedDays>, asked: &Asked) -> Result<WhatIfCurve, LedgerFault> {
    let asked = asked.clone();
    ledger::evaluate(app, loaded, move |days, task| {
        let value_in = |rule| asked.curve.get(rule).unwrap_or_default();
        let values = curve_values(asked.curve, value_in(&asked.in_force), value_in(&asked.tried));
        let request = CurveRequest {
            rule: &asked.tried,
            threshold: asked.curve,
            values: &values,
            min_precision: asked.min_precision,
            cameras: asked.views.as_ref(),
        };
        days.what_if.curve(&request, task)
    })
    .await
}

/// The revision of the configuration's files, for programs.
///
/// # Errors
/// [`ApplyFault`].
pub(crate) async fn revision(app: &App) -> Result<String, ApplyFault> {
    apply::revision(app).await
}

#[derive(Template)]
#[template(path = "thresholds_curve.html")]
struct CurveTemplate<'a> {
    page: &'a Page,
    name: Phrase,
    chart: Option<Chart>,
    recommendation: String,
    /// Value that can be tried, with its text and the query of the page; empty without.
    use_value: String,
    use_query: String,
    fault: String,
}

async fn show_curve(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    RawQuery(query): RawQuery,
) -> Result<Response, Rejection> {
    let t = &page.t.ledger;
    let asked = Asked::parse(&query.unwrap_or_default(), &app.config(), &actor);
    let asked = asked.map_err(|fault| Rejection::BadRequest(fault.text(t)))?;
    let mut template = CurveTemplate {
        page: &page,
        name: t.threshold(asked.curve),
        chart: None,
        recommendation: String::new(),
        use_value: String::new(),
        use_query: String::new(),
        fault: String::new(),
    };
    // The page has loaded them already.
    let found = match ledger::days(&app, asked.days, API_PATIENCE).await {
        Ok(Progress::Done(loaded)) => curve(&app, loaded, &asked).await,
        Ok(Progress::Running(_)) => Err(LedgerFault::Busy),
        Err(fault) => Err(fault),
    };
    match found {
        Err(fault) => template.fault = fault.text(t),
        Ok(curve) => {
            let tried = asked.curve.get(&asked.tried).unwrap_or_default();
            let chosen = curve.chosen.and_then(|index| curve.points.get(index));
            template.recommendation = match chosen {
                None => t.chosen_none.to_string(),
                Some(point) => {
                    let text = if curve.is_precise_enough {
                        t.chosen
                    } else {
                        t.chosen_best
                    };
                    let text = text.with("value", value_text(&page, asked.curve, point.value));
                    text.with("precision", (asked.min_precision * 100.0).round())
                        .to_string()
                }
            };
            if let Some(point) = chosen.filter(|point| point.value != tried) {
                let text = value_text(&page, asked.curve, point.value);
                template.use_value = t.use_value.with("value", text).to_string();
                template.use_query = asked.query_with(asked.curve.as_str(), point.value);
            }
            template.chart = Some(Chart::new(&page, &curve, tried));
        }
    }
    page.show(&template)
}

/// A line for each change.
fn change_lines(changes: &[diff::Change]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

async fn apply_and_show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    body: String,
) -> Result<Response, Rejection> {
    let t = &page.t.ledger;
    let asked = Asked::parse(&body, &app.config(), &actor);
    let asked = asked.map_err(|fault| Rejection::BadRequest(fault.text(t)))?;
    let revision = url::form_urlencoded::parse(body.as_bytes()).find(|(name, _)| name == "revision");
    let revision = revision.map(|(_, value)| value.into_owned()).unwrap_or_default();
    let applied = apply::apply(&app, &actor.person(), &asked, &revision).await;
    let mut details = ActDetails::new("rule", &asked.in_force.id);
    for (threshold, now, tried) in asked.changes() {
        details = details.with(threshold.as_str(), format!("{now} → {tried}"));
    }
    let (status, notice, outcome) = match applied {
        Ok(changes) => {
            let notice = Notice {
                is_good: true,
                text: t.applied.to_string(),
                lines: change_lines(&changes),
            };
            (StatusCode::OK, notice, None)
        }
        Err(fault) => {
            let outcome = fault.outcome();
            let (status, text, lines) = match fault {
                ApplyFault::Nothing => (StatusCode::BAD_REQUEST, t.nothing_to_apply.to_string(), Vec::new()),
                ApplyFault::Conflict(Some(changes)) => {
                    (StatusCode::CONFLICT, t.conflict.to_string(), change_lines(&changes))
                }
                ApplyFault::Conflict(None) => (StatusCode::CONFLICT, t.conflict_unknown.to_string(), Vec::new()),
                ApplyFault::Faults(faults) => (StatusCode::UNPROCESSABLE_ENTITY, t.faults.to_string(), faults),
                ApplyFault::NotSaved(what) => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    t.not_saved.with("what", what).to_string(),
                    Vec::new(),
                ),
                ApplyFault::NotInForce(faults) => {
                    (StatusCode::UNPROCESSABLE_ENTITY, t.not_in_force.to_string(), faults)
                }
            };
            let notice = Notice {
                is_good: false,
                text,
                lines,
            };
            (status, notice, Some(outcome))
        }
    };
    let shown = template(&app, &actor, &page, &body, notice).await?;
    let mut response = details.on(page.show_with(status, &shown)?);
    if let Some(outcome) = outcome {
        response.extensions_mut().insert(outcome);
    }
    Ok(response)
}
