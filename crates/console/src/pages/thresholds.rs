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
use gridwatch_base::message::Message;
use gridwatch_config::{diff, raw::Span};
use gridwatch_ledger::what_if::{CurveRequest, Estimate, Threshold, WhatIfAnswer, WhatIfCurve};
use gridwatch_web::{Access, Actor, Rejection, Role, audit::ActDetails, i18n::Phrase};

use self::{
    answer::{AnswerTemplate, Evaluation},
    asked::curve_values,
    chart::Chart,
};
pub(crate) use self::{apply::ApplyFault, asked::Asked};
use crate::{
    access::CameraAccess as _,
    app::{App, Routes},
    error,
    ledger::{self, API_PATIENCE, LedgerFault, LoadedDays, PAGE_PATIENCE, Progress},
    page::Page,
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
    slider_min: f64,
    slider_max: f64,
    step: f64,
    is_curve: bool,
    is_seldom: bool,
    is_changed: bool,
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
                Err(_) => return Err(Rejection::BadRequest(text.into())),
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

/// Range of a slider. The number field takes the rest: a week of dwell is possible, and of no use on a slider.
#[derive(Debug, PartialEq)]
struct Slider {
    min: f64,
    max: f64,
    step: f64,
}

impl Slider {
    /// For values up to three times `value`, in steps that people write.
    fn of(threshold: Threshold, value: f64) -> Self {
        let range = threshold.range();
        if range.max <= 1.0 && range.step >= 0.05 {
            return Self {
                min: range.min,
                max: range.max,
                step: 0.01,
            };
        }
        let wanted = if value > 0.0 { value * 3.0 } else { range.step * 20.0 };
        let step = match range.is_whole {
            true => 1.0,
            // A power of ten that gives 20 steps or more.
            false => range.step.min(10_f64.powf((wanted / 20.0).log10().floor())),
        };
        Self {
            // A slider counts its steps from its minimum.
            min: if range.min > 0.0 { range.min.max(step) } else { 0.0 },
            max: ((wanted / step).ceil() * step).clamp(range.min + step, range.max),
            step,
        }
    }
}

/// Thresholds that are seldom changed: folded away as long as they are as in force.
fn is_seldom(threshold: Threshold) -> bool {
    !matches!(
        threshold,
        Threshold::StartScore
            | Threshold::KeepScore
            | Threshold::NightStartScore
            | Threshold::NightKeepScore
            | Threshold::SecondLook
            | Threshold::Dwell
            | Threshold::SeenN
            | Threshold::SeenM
            | Threshold::PresentShare
            | Threshold::MinArea
            | Threshold::MinAreaM2
    )
}

impl ThresholdField {
    fn new(page: &Page, asked: &Asked, threshold: Threshold) -> Option<Self> {
        let (now, tried) = (threshold.get(&asked.in_force)?, threshold.get(&asked.tried)?);
        let (range, t) = (threshold.range(), &page.t.ledger);
        let slider = Slider::of(threshold, now.max(tried));
        Some(Self {
            name: threshold.as_str(),
            label: t.threshold(threshold),
            unit: t.unit(threshold),
            value: tried.to_string(),
            in_force: now.to_string(),
            in_force_text: t.in_force.with("value", value_text(page, threshold, now)).to_string(),
            min: range.min,
            max: range.max,
            slider_min: slider.min,
            slider_max: slider.max,
            step: slider.step,
            is_curve: asked.curve == threshold,
            is_seldom: is_seldom(threshold),
            is_changed: now.to_bits() != tried.to_bits(),
        })
    }
}

impl ThresholdsTemplate<'_> {
    /// The fields that are shown at once, or those that are folded away.
    fn fields_of(&self, seldom: bool) -> impl Iterator<Item = &ThresholdField> {
        self.fields.iter().filter(move |field| field.is_seldom == seldom)
    }

    fn has_seldom(&self) -> bool {
        self.fields.iter().any(|field| field.is_seldom)
    }

    /// True if one that is folded away was changed.
    fn is_unfolded(&self) -> bool {
        self.fields.iter().any(|field| field.is_seldom && field.is_changed)
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
    let asked = asked.map_err(|fault| Rejection::BadRequest(fault.text(t).into()))?;
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
fn change_lines(page: &Page, changes: &[diff::Change]) -> Vec<String> {
    changes.iter().map(|change| page.message(&change.message())).collect()
}

async fn apply_and_show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    body: String,
) -> Result<Response, Rejection> {
    // A rule is of all cameras.
    if actor.is_restricted() {
        return Err(error::restricted());
    }
    let t = &page.t.ledger;
    let asked = Asked::parse(&body, &app.config(), &actor);
    let asked = asked.map_err(|fault| Rejection::BadRequest(fault.text(t).into()))?;
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
                lines: change_lines(&page, &changes),
            };
            (StatusCode::OK, notice, None)
        }
        Err(fault) => {
            let outcome = fault.outcome();
            let messages = |all: &[Message]| all.iter().map(|message| page.message(message)).collect();
            let (status, text, lines) = match fault {
                ApplyFault::Nothing => (StatusCode::BAD_REQUEST, t.nothing_to_apply.to_string(), Vec::new()),
                ApplyFault::Conflict(Some(changes)) => (
                    StatusCode::CONFLICT,
                    t.conflict.to_string(),
                    change_lines(&page, &changes),
                ),
                ApplyFault::Conflict(None) => (StatusCode::CONFLICT, t.conflict_unknown.to_string(), Vec::new()),
                ApplyFault::Faults(faults) => (
                    StatusCode::UNPROCESSABLE_ENTITY,
                    t.faults.to_string(),
                    messages(&faults),
                ),
                ApplyFault::NotSaved(what) => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    t.not_saved.with("what", what).to_string(),
                    Vec::new(),
                ),
                ApplyFault::NotInForce(faults) => (
                    StatusCode::UNPROCESSABLE_ENTITY,
                    t.not_in_force.to_string(),
                    messages(&faults),
                ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slider_has_steps_that_reach_the_value_and_values_that_are_valid() {
        for (threshold, value) in [
            (Threshold::StartScore, 0.5),
            (Threshold::Dwell, 12.0),
            (Threshold::Dwell, 1800.0),
            (Threshold::Dwell, 604_800.0),
            (Threshold::SeenN, 3.0),
            (Threshold::SeenM, 64.0),
            (Threshold::MinArea, 0.0005),
            (Threshold::MinArea, 0.0),
            (Threshold::MergeRadiusM, 8.0),
            (Threshold::Gather, 0.0),
        ] {
            let (slider, range) = (Slider::of(threshold, value), threshold.range());
            assert!(
                slider.min >= range.min && slider.max <= range.max,
                "{threshold:?} {value}: {slider:?}"
            );
            assert!(
                slider.max >= value && slider.min < slider.max,
                "{threshold:?} {value}: {slider:?}"
            );
            let steps = (value - slider.min) / slider.step;
            assert!(
                (steps - steps.round()).abs() < 1e-6 || value == 0.0,
                "{threshold:?} {value}: {slider:?}"
            );
        }
        assert_eq!(
            Slider::of(Threshold::Dwell, 1800.0),
            Slider {
                min: 30.0,
                max: 5400.0,
                step: 30.0
            }
        );
    }
}
