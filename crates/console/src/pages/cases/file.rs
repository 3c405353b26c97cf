//! A case's page: pictures, facts, history, the platform's replies, reviews, and on request the check of its evidence.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::Response,
};
use gridwatch_contract::{CaseRecord, EvidenceItem, EvidenceRole, ModelInfo, Purpose, When};
use gridwatch_store::{CaseCheck, CaseFile, ChainState, HistoryRow, PictureState, SignatureState};
use gridwatch_web::{Actor, Rejection, i18n::Phrase};
use serde::Deserialize;

use super::{ReviewLine, category_of, is_disputed, span, state_class};
use crate::{access::CameraAccess as _, app::App, cases, overlay::percent, page::Page, web_texts};

/// A fact about a case: name and value.
struct Fact {
    name: Phrase,
    value: String,
    /// Link of the value, below the base; empty: none.
    link: String,
    /// True for what the configuration, a model or the case's own language say: not in the page's.
    is_data: bool,
}

struct Picture {
    id: String,
    role: Phrase,
    at: String,
    width: u32,
    height: u32,
    is_masked: bool,
    is_hidden: bool,
    caption: String,
}

struct HistoryLine {
    state: Phrase,
    class: &'static str,
    author: Phrase,
    is_reply: bool,
    at: String,
    at_machine: String,
    reason: String,
    times: String,
    omitted: String,
}

struct PresenceLine {
    at: String,
    at_machine: String,
    reason: String,
    times: String,
}

struct VerificationLine {
    finding: Phrase,
    at: String,
    looks: String,
    /// Names and ids of its pictures.
    pictures: Vec<(String, String)>,
}

/// A thing that was checked, and the result.
struct CheckLine {
    what: String,
    result: String,
    is_sound: bool,
}

struct Check {
    holds: bool,
    lines: Vec<CheckLine>,
}

#[derive(Template)]
#[template(path = "case.html")]
struct CaseTemplate<'a> {
    page: &'a Page,
    id: String,
    category: String,
    state: Phrase,
    state_class: &'static str,
    view: String,
    facts: Vec<Fact>,
    notes: Vec<String>,
    /// The newest picture before and after.
    compared: Option<(Picture, Picture)>,
    /// Texts of the browser module.
    texts: String,
    pictures: Vec<Picture>,
    history: Vec<HistoryLine>,
    presence: Vec<PresenceLine>,
    verification: Vec<VerificationLine>,
    reviews: Vec<ReviewLine>,
    is_disputed: bool,
    check: Option<Check>,
    /// The command that exports the case.
    export: String,
}

impl CaseTemplate<'_> {
    fn has_replies(&self) -> bool {
        self.history.iter().any(|line| line.is_reply)
    }
}

fn model(model: &ModelInfo) -> String {
    let hash = model.sha256.get(..12).unwrap_or_default();
    format!("{} {}（{hash}，{}）", model.id, model.version, model.runtime)
}

fn facts(page: &Page, record: &CaseRecord) -> Vec<Fact> {
    let t = &page.t.cases;
    let place = &record.location;
    let place = t
        .place_value
        .with("lon", format!("{:.6}", place.lon))
        .with("lat", format!("{:.6}", place.lat))
        .with("crs", &place.crs)
        .with("m", format!("{:.0}", place.uncertainty_m));
    let time = |when: &When| Some(page.time(when.timestamp()));
    let share = |score: f64| format!("{} %", percent(score as f32));
    let extent = match record.extent.area_m2 {
        Some(area) => t
            .count_and_area
            .with("n", record.extent.count)
            .with("m2", format!("{area:.1}")),
        None => t.count.with("n", record.extent.count),
    };
    let clock = match (record.clock_offset_ms, record.clock_error_ms) {
        (Some(offset), Some(error)) => t.clock_value.with("offset", offset).with("error", error).to_string(),
        _ => t.clock_unknown.to_string(),
    };
    let looks = t
        .looks_seen
        .with("looks", record.rule.frames_sampled)
        .with("seen", record.rule.frames_seen);
    let other_models = record.other_models.iter().map(model).collect::<Vec<_>>().join("; ");
    let brackets = |text: String| match page.is_zh() {
        true => text,
        false => text.replace('（', " (").replace('，', ", ").replace('）', ")"),
    };
    let facts = [
        (t.description, Some(record.description.clone())),
        (t.camera, Some(record.view())),
        (t.address, record.address.clone()),
        (t.cell, Some(record.cell_code.clone())),
        (t.place, Some(place.to_string())),
        (t.first_seen, time(&record.first_seen_at)),
        (t.confirmed, time(&record.confirmed_at)),
        (t.filed, time(&record.filed_at)),
        (t.last_seen, time(&record.last_seen_at)),
        (t.dwell, Some(span(page, record.rule.dwell_s))),
        (t.looks, Some(looks.to_string())),
        (t.confidence, Some(share(record.confidence))),
        (t.second_look, record.confidence_closer.map(share)),
        (t.count_area, Some(extent.to_string())),
        (t.advert_number, record.advert_number.clone()),
        (t.advert_text, record.advert_text.clone()),
        (t.rule, Some(record.rule.id.clone())),
        (t.zone, record.rule.zone_id.clone()),
        (t.model, Some(brackets(model(&record.model)))),
        (
            t.other_models,
            (!other_models.is_empty()).then(|| brackets(other_models)),
        ),
        (t.task_no, record.platform_task_no.clone()),
        (t.clock, Some(clock)),
        (t.config, Some(record.config_sha256.clone())),
    ];
    let known = facts.into_iter().filter_map(|(name, value)| {
        Some(Fact {
            name,
            value: value?,
            link: String::new(),
            is_data: [t.description, t.address, t.advert_text, t.model, t.other_models].contains(&name),
        })
    });
    let mut facts: Vec<Fact> = known.collect();
    for fact in &mut facts {
        if fact.name == t.camera {
            fact.link = format!("/cameras/{}", fact.value);
        } else if fact.name == t.cell {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.append_pair("cell", &fact.value);
            fact.link = format!("/cases?{}", query.finish());
        }
    }
    facts
}

fn notes(page: &Page, case: &CaseFile) -> Vec<String> {
    let (t, record) = (&page.t.cases, &case.record);
    let mut notes = vec![match record.purpose {
        Purpose::LeadOnly => t.lead_only.to_string(),
        Purpose::PenaltyCandidate => t.penalty.to_string(),
    }];
    if record.unidentified {
        notes.push(t.unidentified.to_string());
    }
    if let Some(earlier) = &record.recurrence {
        notes.push(
            t.recurrence
                .with("n", earlier.count)
                .with("id", &earlier.of_case_id)
                .to_string(),
        );
    }
    if let Some(held) = &case.held_back_for {
        let node = &held.node_id;
        notes.push(t.held_back.with("node", node).with("case", &held.case_id).to_string());
    }
    if case.queued > 0 {
        notes.push(t.queued.with("n", case.queued).to_string());
    }
    if let Some(why) = &case.quarantined {
        notes.push(t.quarantined.with("why", why).to_string());
    }
    notes
}

impl Picture {
    fn new(page: &Page, item: &EvidenceItem, sees_unmasked: bool) -> Self {
        let caption = item
            .caption
            .as_ref()
            .map(|text| if page.is_zh() { &text.zh } else { &text.en });
        Self {
            id: item.id.clone(),
            role: page.t.names.evidence(item.role),
            at: page.time(item.captured_at.timestamp()),
            width: item.width,
            height: item.height,
            is_masked: item.masked,
            is_hidden: !item.masked && !sees_unmasked,
            caption: caption.cloned().unwrap_or_default(),
        }
    }
}

/// The pictures of the newest verification that has some: before, and the last one after. Masked ones only: an unmasked one is shown on its
/// own, so that its view is recorded knowingly.
fn compared<'a>(record: &'a CaseRecord) -> Option<(&'a EvidenceItem, &'a EvidenceItem)> {
    let is_shown = |item: &&EvidenceItem, role| item.masked && item.role == role;
    let of_verification = |id: &str| record.evidence.iter().find(|item| item.id == id);
    let newest = record.verification.iter().rev().find_map(|result| {
        let items = result.evidence_ids.iter().filter_map(|id| of_verification(id));
        let items: Vec<&EvidenceItem> = items.collect();
        let after = items.iter().rfind(|item| is_shown(item, EvidenceRole::After))?;
        let before = items.iter().find(|item| is_shown(item, EvidenceRole::Before));
        Some((before.copied(), *after))
    });
    let find = |role| record.evidence.iter().rfind(move |item| is_shown(item, role));
    let (before, after) = match newest {
        Some((before, after)) => (before, after),
        None => (None, find(EvidenceRole::After)?),
    };
    let before: &'a EvidenceItem = before.or_else(|| find(EvidenceRole::Before))?;
    // Scaled over each other, pictures of different shapes would mislead.
    let is_alike = (before.width, before.height) == (after.width, after.height);
    is_alike.then_some((before, after))
}

fn times(page: &Page, times: u32, last: Option<jiff::Timestamp>) -> String {
    match last {
        Some(last) if times > 1 => {
            let text = page.t.cases.times.with("n", times);
            text.with("time", page.time(last)).to_string()
        }
        _ => String::new(),
    }
}

fn history_line(page: &Page, entry: &HistoryRow) -> HistoryLine {
    HistoryLine {
        state: page.t.names.case_state(entry.state),
        class: state_class(entry.state),
        author: page.t.names.author(&entry.author),
        is_reply: entry.author == "platform",
        at: page.time(entry.at),
        at_machine: page.machine_time(entry.at),
        reason: entry.reason.clone().unwrap_or_default(),
        times: times(page, entry.times, entry.last_at),
        omitted: match entry.omitted {
            0 => String::new(),
            n => page.t.cases.omitted.with("n", n).to_string(),
        },
    }
}

fn presence_lines(page: &Page, record: &CaseRecord) -> Vec<PresenceLine> {
    let lines = record.presence.iter().map(|entry| {
        let name = page.t.cases.presence_reason(&entry.reason);
        let at = entry.first_at.timestamp();
        PresenceLine {
            at: page.time(at),
            at_machine: page.machine_time(at),
            reason: name.map_or_else(|| entry.reason.clone(), |name| name.to_string()),
            times: times(page, entry.times, Some(entry.last_at.timestamp())),
        }
    });
    lines.collect()
}

fn verification_lines(page: &Page, record: &CaseRecord) -> Vec<VerificationLine> {
    let lines = record.verification.iter().map(|result| {
        let pictures = record
            .evidence
            .iter()
            .filter(|item| result.evidence_ids.contains(&item.id));
        let looks = page.t.cases.looks_seen.with("looks", result.looks);
        VerificationLine {
            finding: page.t.names.finding(result.result),
            at: page.time(result.checked_at.timestamp()),
            looks: looks.with("seen", result.looks_seen).to_string(),
            pictures: pictures
                .map(|item| (page.t.names.evidence(item.role).to_string(), item.id.clone()))
                .collect(),
        }
    });
    lines.collect()
}

impl Check {
    fn new(page: &Page, record: &CaseRecord, check: &CaseCheck) -> Self {
        let t = &page.t.cases;
        let pictures = record.evidence.iter().filter_map(|item| {
            let state = check.pictures.get(&item.id)?;
            let (result, is_sound) = match state {
                PictureState::Intact => (t.picture_intact, true),
                PictureState::Deleted => (t.picture_deleted, true),
                PictureState::Missing => (t.picture_missing, false),
                PictureState::Changed => (t.picture_changed, false),
            };
            let hash = item.sha256.get(..12).unwrap_or_default();
            Some(CheckLine {
                what: format!("{} {} ({hash})", page.t.names.evidence(item.role), item.id),
                result: result.to_string(),
                is_sound,
            })
        });
        let (signature, is_signed) = match &check.signature {
            SignatureState::Valid { public_key } => (t.signature_valid.with("key", public_key).to_string(), true),
            SignatureState::Absent => (t.signature_absent.to_string(), false),
            SignatureState::Invalid => (t.signature_invalid.to_string(), false),
        };
        let (chain, is_complete) = match &check.chain {
            ChainState::Complete { lines, line } => (
                t.chain_complete.with("lines", lines).with("line", line).to_string(),
                true,
            ),
            ChainState::NotInChain => (t.chain_not_in.to_string(), false),
            ChainState::Broken { reason } => (t.chain_broken.with("reason", reason).to_string(), false),
            ChainState::Absent => (t.chain_absent.to_string(), false),
        };
        let rest = [(t.signature, signature, is_signed), (t.chain, chain, is_complete)];
        let rest = rest.map(|(what, result, is_sound)| CheckLine {
            what: what.to_string(),
            result,
            is_sound,
        });
        Self {
            holds: check.holds(),
            lines: pictures.chain(rest).collect(),
        }
    }
}

/// What is shown besides the case.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ShowQuery {
    /// Anything: check the evidence.
    check: Option<String>,
}

/// `GET /cases/{id}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<ShowQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (Path(id), Query(query)) = (path?, query?);
    let case = cases::find(&app, &actor, &id).await?;
    let reviews = cases::reviews_of(&app, &id).await?;
    let record = &case.record;
    let check = match query.check {
        None => None,
        Some(_) => Some(Check::new(&page, record, &cases::check(&app, &id).await?)),
    };
    let sees_unmasked = actor.sees_unmasked(&app.config());
    let picture = |item: &EvidenceItem| Picture::new(&page, item, sees_unmasked);
    page.show(&CaseTemplate {
        page: &page,
        id: record.case_id.clone(),
        category: category_of(&page, record),
        state: page.t.names.case_state(record.state),
        state_class: state_class(record.state),
        view: record.view(),
        facts: facts(&page, record),
        notes: notes(&page, &case),
        compared: compared(record).map(|(before, after)| (picture(before), picture(after))),
        texts: web_texts::of(page.language, &["compare."]),
        pictures: record.evidence.iter().map(picture).collect(),
        history: case.history.iter().map(|entry| history_line(&page, entry)).collect(),
        presence: presence_lines(&page, record),
        verification: verification_lines(&page, record),
        is_disputed: is_disputed(&reviews),
        reviews: reviews.iter().map(|review| ReviewLine::new(&page, review)).collect(),
        check,
        export: format!(
            "gridwatch cases export {} --out DIR --config {}",
            record.case_id,
            app.config().file.display()
        ),
    })
}
