//! What tried thresholds would file: numbers against those in force, and the cases that come and go with their pictures.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use gridwatch_contract::CaseRecord;
use gridwatch_engine::CaseId;
use gridwatch_ledger::{
    replay::compare::{CaseChange, ChangeCounts},
    what_if::{RuleScore, WhatIfAnswer, WhatIfChange, WhatIfError},
};
use gridwatch_web::{Actor, Rejection, i18n::Phrase};
use jiff::Timestamp;

use super::{apply, asked::Asked, chart::number, estimate_text, value_text};
use crate::{
    app::App,
    cases,
    ledger::{self, LedgerFault, LoadedDays},
    overlay::percent,
    page::Page,
    pages::span,
};

/// Changes that are listed with their pictures, of each comparison.
const MAX_LISTED: usize = 48;

/// Judged cases below which precision and recall say next to nothing: with 20 right ones of 20, the lower limit is 84 %.
const ENOUGH_JUDGED: u64 = 20;

/// What thresholds would file, and what those in force do.
pub(super) struct Evaluation {
    pub(super) tried: WhatIfAnswer,
    pub(super) in_force: WhatIfAnswer,
}

impl Evaluation {
    /// Judges the tried rule.
    ///
    /// # Errors
    /// [`LedgerFault`].
    pub(super) async fn of(app: &App, loaded: &Arc<LoadedDays>, asked: &Asked) -> Result<Self, LedgerFault> {
        let asked = asked.clone();
        ledger::evaluate(app, Arc::clone(loaded), move |days, task| {
            let views = asked.views.as_ref();
            let in_force = days.what_if.evaluate(&[], views, task)?;
            let tried = days.what_if.evaluate(std::slice::from_ref(&asked.tried), views, task)?;
            Ok::<_, WhatIfError>(Self { tried, in_force })
        })
        .await
    }
}

/// A number under the values in force, and under the tried ones.
struct MeasureRow {
    name: Phrase,
    now: String,
    tried: String,
}

struct ChangeRow {
    kind: Phrase,
    class: &'static str,
    at: String,
    at_machine: String,
    camera: String,
    cell: String,
    percent: u32,
    /// Why it goes, or by how much it shifts.
    note: String,
    verdict: Option<Phrase>,
    /// Id of its case in the store; empty if there is none.
    case: String,
    /// Id of a masked picture of that case; empty if there is none.
    picture: String,
    /// For the history of looks: just after its confirmation.
    before: String,
}

struct ChangeList {
    id: &'static str,
    title: Phrase,
    counts: String,
    rows: Vec<ChangeRow>,
    not_shown: String,
}

/// A value that would be written.
struct WriteRow {
    name: Phrase,
    now: String,
    tried: String,
}

/// The part of the page with the answer.
#[derive(Template)]
#[template(path = "thresholds_answer.html")]
pub(super) struct AnswerTemplate<'a> {
    page: &'a Page,
    span: String,
    measures: Vec<MeasureRow>,
    judged: String,
    also: Vec<String>,
    lists: Vec<ChangeList>,
    filed_unknown: String,
    gaps: Vec<String>,
    writes: Vec<WriteRow>,
    fields: Vec<(&'static str, String)>,
    /// Query of the curve.
    query: String,
    /// Of the configuration's files; empty if they cannot be edited, for the reason in `file_faults`.
    revision: String,
    file_faults: String,
}

impl<'a> AnswerTemplate<'a> {
    /// Puts the answer into words.
    pub(super) async fn new(
        page: &'a Page,
        app: &Arc<App>,
        actor: &Actor,
        asked: &Asked,
        loaded: &LoadedDays,
        evaluation: &Evaluation,
    ) -> Result<Self, Rejection> {
        let t = &page.t.ledger;
        let Evaluation { tried, in_force } = evaluation;
        let listed = tried.changes.iter().take(MAX_LISTED);
        let listed = listed.chain(tried.filed_changes.iter().take(MAX_LISTED));
        let ids = listed
            .filter_map(|change| change.evidence.as_ref())
            .map(CaseId::to_string);
        let records = cases::records(app, actor, ids.collect()).await?;
        let list = |id, title, changes: &[WhatIfChange], counts: ChangeCounts| ChangeList {
            id,
            title,
            counts: counts_text(page, counts),
            rows: changes
                .iter()
                .take(MAX_LISTED)
                .map(|change| ChangeRow::new(page, change, &records))
                .collect(),
            not_shown: match changes.len().saturating_sub(MAX_LISTED) {
                0 => String::new(),
                n => t.not_shown.with("n", n).to_string(),
            },
        };
        let revision = match page.may_operate() && !asked.changes().is_empty() {
            true => apply::revision(app).await.map_err(|fault| fault.to_string()),
            false => Ok(String::new()),
        };
        let (revision, file_faults) = match revision {
            Ok(revision) => (revision, String::new()),
            Err(what) => (String::new(), t.file_faults.with("what", what).to_string()),
        };
        let rule = asked.in_force.id.as_str();
        Ok(Self {
            page,
            span: t
                .span
                .with("from", page.time(loaded.from))
                .with("to", page.time(loaded.to))
                .with("looks", loaded.what_if.looks())
                .to_string(),
            measures: measures(page, of_rule(in_force, rule), of_rule(tried, rule)),
            judged: judged(page, of_rule(tried, rule)),
            also: also(page, rule, in_force, tried),
            lists: vec![
                list("now", t.against_now, &tried.changes, tried.against_current),
                list("filed", t.against_filed, &tried.filed_changes, tried.against_filed),
            ],
            filed_unknown: match tried.filed_unknown {
                0 => String::new(),
                n => t.filed_unknown.with("n", n).to_string(),
            },
            gaps: loaded.what_if.damage().iter().map(ToString::to_string).collect(),
            writes: asked
                .changes()
                .into_iter()
                .map(|(threshold, now, tried)| WriteRow {
                    name: t.threshold(threshold),
                    now: value_text(page, threshold, now),
                    tried: value_text(page, threshold, tried),
                })
                .collect(),
            fields: asked.fields(),
            query: asked.query_with("", ""),
            revision,
            file_faults,
        })
    }
}

fn of_rule<'a>(answer: &'a WhatIfAnswer, rule: &str) -> Option<&'a RuleScore> {
    answer.rules.iter().find(|score| score.rule.as_str() == rule)
}

fn measures(page: &Page, now: Option<&RuleScore>, tried: Option<&RuleScore>) -> Vec<MeasureRow> {
    let t = &page.t.ledger;
    let (Some(now), Some(tried)) = (now, tried) else {
        return Vec::new();
    };
    let row = |name, of: &dyn Fn(&RuleScore) -> String| MeasureRow {
        name,
        now: of(now),
        tried: of(tried),
    };
    vec![
        row(t.per_day, &|score| number(score.per_day)),
        row(t.cases, &|score| score.cases.to_string()),
        row(t.precision, &|score| estimate_text(page, score.precision)),
        row(t.recall, &|score| estimate_text(page, score.recall)),
        row(t.unlabelled, &|score| score.unlabelled.to_string()),
    ]
}

/// Says plainly when too few cases are judged.
fn judged(page: &Page, score: Option<&RuleScore>) -> String {
    let t = &page.t.ledger;
    let known = score.and_then(|score| {
        [score.precision, score.recall]
            .into_iter()
            .flatten()
            .map(|e| e.of)
            .max()
    });
    match known {
        None => t.none_judged.to_string(),
        Some(n) if n < ENOUGH_JUDGED => t.too_few.with("n", n).to_string(),
        Some(_) => String::new(),
    }
}

/// The other rules that file another number of cases.
fn also(page: &Page, rule: &str, in_force: &WhatIfAnswer, tried: &WhatIfAnswer) -> Vec<String> {
    let pairs = in_force.rules.iter().zip(&tried.rules);
    let others = pairs.filter(|(now, tried)| now.rule.as_str() != rule && now.cases != tried.cases);
    let text = |(now, tried): (&RuleScore, &RuleScore)| {
        let text = page.t.ledger.also_rule.with("rule", &now.rule);
        text.with("now", now.cases).with("tried", tried.cases).to_string()
    };
    others.map(text).collect()
}

fn counts_text(page: &Page, counts: ChangeCounts) -> String {
    let text = page.t.ledger.counts.with("same", counts.same);
    let text = text.with("shifted", counts.shifted).with("new", counts.new);
    text.with("gone", counts.gone).to_string()
}

impl ChangeRow {
    fn new(page: &Page, change: &WhatIfChange, records: &BTreeMap<String, CaseRecord>) -> Self {
        let t = &page.t.ledger;
        let case = change.change.case();
        let (kind, class, note) = match &change.change {
            CaseChange::New { .. } => (t.change_new, "new", String::new()),
            CaseChange::Gone { why, .. } => {
                let why = why.as_ref().map(|why| page.t.reasons.not_filed(why.reason).to_string());
                (t.change_gone, "gone", why.unwrap_or_default())
            }
            CaseChange::Shifted { later_s, .. } => {
                let text = if *later_s < 0.0 { t.earlier } else { t.later };
                let note = text.with("span", span(page, later_s.abs())).to_string();
                (t.change_shifted, "shifted", note)
            }
        };
        let record = change.evidence.as_ref().and_then(|id| records.get(id.as_str()));
        let picture = record.and_then(cases::masked_picture);
        // A look at that very time is on the page that ends just after it.
        let after = case.confirmed_at.checked_add(jiff::SignedDuration::from_secs(1));
        Self {
            kind,
            class,
            at: page.time(case.confirmed_at),
            at_machine: page.machine_time(case.confirmed_at),
            camera: case.camera.clone(),
            cell: case.cell.clone(),
            percent: percent(case.confidence),
            note,
            verdict: change.right.map(|is_right| if is_right { t.right } else { t.wrong }),
            case: record.map(|record| record.case_id.clone()).unwrap_or_default(),
            picture: picture.map(|item| item.id.clone()).unwrap_or_default(),
            before: after.unwrap_or(Timestamp::MAX).to_string(),
        }
    }
}
