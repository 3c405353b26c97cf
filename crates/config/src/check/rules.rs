//! Categories, models and rules: what is filed, which model detects it, and when it counts as a problem.

mod compile;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use self::compile::compile;
use super::{Checker, FieldPath, models::ModelFacts, section};
use crate::{OcrSettings, raw};
use gridwatch_base::{document::schema::nearest, message};
use gridwatch_engine as engine;
use gridwatch_engine::{Beyond, Category, Label, RuleId, ZoneKind};
use gridwatch_model::{manifest::Adapter, ocr::second_look::TextNeeded};

/// Limits of `dwell`: from one second (demonstrations) to thirty days (longer than any case stays open).
const DWELL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30 * 86400));

/// Limits of `reading.every`: below 10 s the box would do nothing else; above 6 h a dwell of hours would never complete.
const READ_EVERY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(6 * 3600));

/// How many look intervals of the slowest camera should fit into `max_gap`, so that one missed look is not an outage.
const LOOKS_PER_GAP: u32 = 3;

/// What the checks of cameras need from each rule, faulty or not.
pub(super) struct RuleFacts {
    pub(super) id: String,
}

impl Checker<'_> {
    /// Reads the categories file; faults refer to that file.
    pub(super) fn categories(&mut self) -> BTreeMap<String, Category> {
        let at = section("grid").key("categories");
        // Taken from the document itself, so that a fault elsewhere in [grid] does not hide the faults of this file.
        let Some(path) = at
            .get(&self.document.value)
            .and_then(|v| v.as_str())
            .map(std::path::PathBuf::from)
        else {
            return BTreeMap::new();
        };
        let what = "the file of the city's categories, such as categories/default.toml";
        let Some((_, raw)) = self.data_file::<raw::Categories>(&at, &path, what) else {
            return BTreeMap::new();
        };
        raw.categories
            .into_iter()
            .map(|(code, names)| {
                let category = Category {
                    code: code.clone(),
                    scheme: raw.scheme.clone(),
                    name_zh: names.zh,
                    name_en: names.en,
                };
                (code, category)
            })
            .collect()
    }

    /// True if the file has a [reading] section, valid or not.
    pub(super) fn has_reading(&self) -> bool {
        section("reading").get(&self.document.value).is_some()
    }

    /// A detection has only one second-look score, so rules that share a label must take the second look with the same model.
    fn second_looks_agree(&mut self) {
        let rules = &self.draft.rest.rules;
        let model_of = |r: &engine::Rule| self.draft.rest.second_looks.get(&r.id).copied();
        let with_second_look: Vec<usize> = (0..rules.len()).filter(|i| rules[*i].second_look.is_some()).collect();
        let mut faults = Vec::new();
        for (nth, &i) in with_second_look.iter().enumerate() {
            let disagrees = |j: &&usize| {
                let (one, other) = (&rules[i], &rules[**j]);
                model_of(one) != model_of(other) && one.labels.iter().any(|l| other.labels.contains(l))
            };
            if let Some(&other) = with_second_look[..nth].iter().find(disagrees) {
                faults.push((rules[i].id.clone(), rules[other].id.clone()));
            }
        }
        for (rule, other) in faults {
            self.fault(
                &section("rules"),
                message!(
                    "rules {one} and {other} share a label but use different models for the second look",
                    one = format!("{:?}", rule.as_str()),
                    other = format!("{:?}", other.as_str())
                ),
                "set the same second_look.model in both",
            );
        }
    }

    /// Checks `[reading]`: OCR of text.
    pub(super) fn reading(&mut self) {
        let at = section("reading");
        let Some(raw) = self.required::<raw::Reading>(&at) else {
            return;
        };
        let faults_before = self.draft.faults.len();
        for (key, dir, needed) in [
            ("finder", &raw.finder, Adapter::Db),
            ("speller", &raw.speller, Adapter::Ctc),
        ] {
            let at = at.key(key);
            if self.is_invalid(&at) {
                continue;
            }
            if let Some(manifest) = self.manifest(&at, dir).filter(|m| m.adapter != needed) {
                self.fault(
                    &at,
                    message!("{id} has adapter {adapter}, but {needed} is required", id = manifest.id.to_string(), adapter = manifest.adapter.to_string(), needed = needed.to_string()),
                    "use a text detection model (adapter db) as `finder`, and a text recognition model (adapter ctc) as `speller`",
                );
            }
        }
        self.check_range(&at.key("every"), raw.every, READ_EVERY);
        let phrasebook = self.phrasebook(&at.key("adverts"), raw.adverts.as_deref());
        if self.draft.faults.len() == faults_before {
            self.draft.reading = Some(OcrSettings {
                finder: self.absolute(&raw.finder),
                speller: self.absolute(&raw.speller),
                every: raw.every.0,
                phrasebook,
            });
        }
    }

    /// Checks each rule, and compiles the valid ones.
    pub(super) fn rules(&mut self, models: &[ModelFacts]) -> Vec<RuleFacts> {
        let list = section("rules");
        let facts = self
            .unique_ids(&list, "id")
            .into_iter()
            .map(|id| RuleFacts { id })
            .collect();
        let looks = self.slowest_look();
        for (at, raw) in self.elements::<raw::Rule>(&list) {
            self.scores(&at, &raw);
            // Small ads and banners are only looked for when text is read.
            let of_text = Label::of_text();
            let is_read = raw.labels.iter().all(|l| of_text.iter().any(|t| t.as_str() == l));
            let read = self.draft.reading.as_ref().filter(|_| is_read);
            let read = read.map(|r| ("reading.every".to_owned(), r.every));
            self.times(&at, &raw, read.as_ref().or(looks.as_ref()));
            self.labels(&at, &raw, models);
            self.second_look(&at, &raw, models);
            let hours = self.hours(&at, &raw);
            let category = self.category(&at, &raw);
            if let Some(category) = category {
                self.draft.rest.rules.push(compile(raw, category, hours));
            }
        }
        self.second_looks_agree();
        facts
    }

    /// Warns about rules with `beyond = "shop"` that have no shop zone. Skipped if there are faults, because a dropped zone may have
    /// been the shop.
    pub(super) fn shops(&mut self) {
        if !self.draft.faults.is_empty() {
            return;
        }
        let rules = &self.draft.rest.rules;
        let zones = || self.draft.rest.plans.values().flat_map(|c| &c.zones);
        let has_shop =
            |id: &RuleId| zones().any(|z| z.kind == ZoneKind::Shop && (z.rules.is_empty() || z.rules.contains(id)));
        let without: Vec<usize> = (0..rules.len())
            .filter(|i| rules[*i].beyond == Some(Beyond::Shop) && !has_shop(&rules[*i].id))
            .collect();
        for i in without {
            self.warn(
                &section("rules").index(i).key("beyond"),
                "no camera has a shop zone for this rule, so it never files anything",
                "draw the shop's own ground as a zone with kind = \"shop\", or remove the line",
            );
        }
    }

    fn scores(&mut self, at: &FieldPath, raw: &raw::Rule) {
        let night = raw.night.map(|n| (at.key("night"), n.keep_score, n.start_score));
        for (at, keep, start) in [(at.clone(), raw.keep_score, raw.start_score)].into_iter().chain(night) {
            let (keep_at, start_at) = (at.key("keep_score"), at.key("start_score"));
            if keep > start && !self.is_invalid(&keep_at) && !self.is_invalid(&start_at) {
                self.fault(
                    &keep_at,
                    message!(
                        "{keep} is above start_score ({start})",
                        keep = keep.to_string(),
                        start = start.to_string()
                    ),
                    "use a lower value, so that a flickering detection continues its candidate",
                );
            }
        }
        self.appeared(at, raw);
        let (n, m) = (at.key("seen_n"), at.key("seen_m"));
        if raw.seen_n > raw.seen_m && !self.is_invalid(&n) && !self.is_invalid(&m) {
            self.fault(
                &n,
                message!(
                    "{seen_n} is more than seen_m ({seen_m})",
                    seen_n = raw.seen_n.to_string(),
                    seen_m = raw.seen_m.to_string()
                ),
                "set seen_m to at least seen_n",
            );
        }
    }

    fn appeared(&mut self, at: &FieldPath, raw: &raw::Rule) {
        let (new_at, old_at, start_at) = (
            at.key("new_start_score"),
            at.key("old_start_score"),
            at.key("start_score"),
        );
        let has_change_maps = self.draft.rest.change.as_ref().is_none_or(|c| c.enabled);
        if raw.appeared != raw::Appeared::Ignored && !has_change_maps {
            self.fault(
                &at.key("appeared"),
                "needs the change map, which is disabled",
                "set change.enabled = true, or remove the line",
            );
        }
        let start = raw.start_score;
        let has_start = !self.is_invalid(&start_at);
        if let Some(new) = raw.new_start_score.filter(|_| !self.is_invalid(&new_at)) {
            if raw.appeared == raw::Appeared::Ignored {
                self.fault(
                    &new_at,
                    "has no effect without appeared",
                    "set appeared = \"preferred\" or \"required\", or remove the line",
                );
            } else if has_start && new > start {
                self.fault(
                    &new_at,
                    message!(
                        "{new} is above start_score ({start})",
                        new = new.to_string(),
                        start = start.to_string()
                    ),
                    "use a lower value: what is new needs less evidence",
                );
            }
        }
        let keep_at = at.key("new_keep_score");
        if let Some(keep) = raw.new_keep_score.filter(|_| !self.is_invalid(&keep_at)) {
            let new_start = raw.new_start_score.filter(|_| !self.is_invalid(&new_at));
            if raw.appeared == raw::Appeared::Ignored {
                self.fault(
                    &keep_at,
                    "has no effect without appeared",
                    "set appeared = \"preferred\" or \"required\", or remove the line",
                );
            } else if let Some(new_start) = new_start.filter(|start| keep > *start) {
                self.fault(
                    &keep_at,
                    message!(
                        "{keep} is above new_start_score ({new_start})",
                        keep = keep.to_string(),
                        new_start = new_start.to_string()
                    ),
                    "use a lower value: what continues a candidate needs less than what starts one",
                );
            } else if keep > raw.keep_score && !self.is_invalid(&at.key("keep_score")) {
                self.fault(
                    &keep_at,
                    message!(
                        "{keep} is above keep_score ({keep_score})",
                        keep = keep.to_string(),
                        keep_score = raw.keep_score.to_string()
                    ),
                    "use a lower value: what is new needs less evidence",
                );
            }
        }
        if let Some(old) = raw.old_start_score.filter(|_| !self.is_invalid(&old_at)) {
            if raw.appeared != raw::Appeared::Preferred {
                self.fault(
                    &old_at,
                    "has no effect without appeared = \"preferred\"",
                    "set it, or remove the line",
                );
            } else if has_start && old < start {
                self.fault(
                    &old_at,
                    message!(
                        "{old} is below start_score ({start})",
                        old = old.to_string(),
                        start = start.to_string()
                    ),
                    "use a higher value: what has always been there needs more evidence",
                );
            }
        }
    }

    fn unidentified_dwell(&mut self, at: &FieldPath, raw: &raw::Rule) {
        let longer_at = at.key("unidentified_dwell");
        let Some(longer) = raw
            .unidentified_dwell
            .filter(|d| self.check_range(&longer_at, *d, DWELL))
        else {
            return;
        };
        if self.is_invalid(&at.key("labels")) || raw.labels.is_empty() {
            // Its fault is reported.
        } else if !raw.labels.iter().any(|l| l == Label::object().as_str()) {
            self.fault(
                &longer_at,
                "the rule has no label `object`",
                "add the label, or remove the field: everything else is identified",
            );
        } else if longer.0 < raw.dwell.0 {
            self.fault(
                &longer_at,
                message!(
                    "{longer} is less than dwell ({dwell})",
                    longer = longer.to_string(),
                    dwell = raw.dwell.to_string()
                ),
                "use a longer one: what no model recognises needs more evidence",
            );
        }
    }

    fn times(&mut self, at: &FieldPath, raw: &raw::Rule, looks: Option<&(String, Duration)>) {
        self.unidentified_dwell(at, raw);
        let dwell_at = at.key("dwell");
        let is_in_range = self.check_range(&dwell_at, raw.dwell, DWELL);
        if let Some(interval) = self.draft.rest.evidence.as_ref().map(|e| e.min_interval)
            && is_in_range
            && raw.dwell.0 < interval
        {
            self.fault(
                &dwell_at,
                message!(
                    "{dwell} is less than evidence.min_interval ({interval})",
                    dwell = raw.dwell.to_string(),
                    interval = (raw::Span(interval)).to_string()
                ),
                "use a longer dwell: the first and the confirming look of a case would be too close together",
            );
        }
        let Some((what, look_every)) = looks else { return };
        let (gap_at, forget_at) = (at.key("max_gap"), at.key("forget_after"));
        if !self.is_invalid(&gap_at) {
            let every = raw::Span(*look_every);
            if raw.max_gap.0 < *look_every {
                self.fault(
                    &gap_at,
                    message!("{max_gap} is less than {what} ({every}): every gap would count as an outage, and no dwell would complete", max_gap = raw.max_gap.to_string(), what = what.to_string(), every = every.to_string()),
                    message!("use {looks_per_gap} or more", looks_per_gap = (raw::Span(*look_every * LOOKS_PER_GAP)).to_string()),
                );
            } else if raw.max_gap.0 < *look_every * LOOKS_PER_GAP {
                self.warn(
                    &gap_at,
                    message!(
                        "{max_gap} is less than three times {what} ({every}): one or two late looks count as an outage",
                        max_gap = raw.max_gap.to_string(),
                        what = what.to_string(),
                        every = every.to_string()
                    ),
                    message!(
                        "use {looks_per_gap} or more",
                        looks_per_gap = (raw::Span(*look_every * LOOKS_PER_GAP)).to_string()
                    ),
                );
            }
        }
        if raw.forget_after.0 < *look_every && !self.is_invalid(&forget_at) {
            self.fault(
                &forget_at,
                message!("{forget_after} is less than {what} ({look_every}): a single missed detection would end the candidate", forget_after = raw.forget_after.to_string(), what = what.to_string(), look_every = (raw::Span(*look_every)).to_string()),
                message!("use {looks_per_gap} or more", looks_per_gap = (raw::Span(*look_every * LOOKS_PER_GAP)).to_string()),
            );
        }
    }

    fn labels(&mut self, at: &FieldPath, raw: &raw::Rule, models: &[ModelFacts]) {
        if models.iter().any(|m| m.id.is_none()) {
            return; // The labels of a faulty model are unknown.
        }
        let mut known: BTreeSet<&str> = models.iter().flat_map(|m| &m.labels).map(String::as_str).collect();
        let of_text = Label::of_text();
        if self.has_reading() {
            known.extend(of_text.iter().map(Label::as_str));
        }
        let object = Label::object();
        let has_change_maps = self.draft.rest.change.as_ref().is_none_or(|c| c.enabled);
        if has_change_maps && !known.is_empty() {
            known.insert(object.as_str());
        }
        if known.is_empty() {
            return;
        }
        let except = raw.except_labels.iter().flat_map(|e| e.labels.iter().enumerate());
        for (i, label) in except.filter(|(_, label)| raw.labels.contains(label)) {
            self.fault(
                &at.key("except_labels").key("labels").index(i),
                message!("{label} is a label of the rule itself", label = format!("{label:?}")),
                "remove it here or from `labels`",
            );
        }
        let by = raw.attended.iter().flat_map(|a| a.by.iter().enumerate());
        let by = by.map(|(i, label)| (at.key("attended").key("by").index(i), label));
        // An exception that no model detects has no effect; one that is nearly such a label is a mistake.
        let except = raw.except_labels.iter().flat_map(|e| e.labels.iter().enumerate());
        let except = except.filter(|(_, label)| nearest(label, known.iter().copied()).is_some());
        let except = except.map(|(i, label)| (at.key("except_labels").key("labels").index(i), label));
        let own = raw.labels.iter().enumerate();
        let own = own.map(|(i, label)| (at.key("labels").index(i), label));
        for (at, label) in own.chain(by).chain(except).filter(|(_, l)| !known.contains(l.as_str())) {
            let remedy = match nearest(label, known.iter().copied()) {
                _ if *label == *object.as_str() => {
                    "set change.enabled = true: new objects are found by the change map".into()
                }
                Some(near) => message!("did you mean {near}?", near = format!("{near:?}")),
                None => "use a label from a model's model.toml, or add a model that detects this one".into(),
            };
            self.fault(
                &at,
                message!("no model detects {label}", label = format!("{label:?}")),
                remedy,
            );
        }
    }

    /// The model of a second look must detect at least one of the rule's labels. Reading text needs the models of `[reading]`.
    fn second_look(&mut self, at: &FieldPath, raw: &raw::Rule, models: &[ModelFacts]) {
        let Some(second) = &raw.second_look else { return };
        if let Some(text) = second.text {
            if !self.has_reading() {
                self.fault(
                    &at.key("second_look").key("text"),
                    "needs the [reading] section",
                    "add [reading] with `finder` and `speller`, or remove the line",
                );
            }
            self.draft.rest.text_looks.insert(RuleId::from(raw.id.as_str()), text);
        }
        if models.iter().any(|m| m.id.is_none()) {
            return; // The id of a faulty model is unknown.
        }
        let at = at.key("second_look");
        let finds = |m: &ModelFacts| raw.labels.iter().any(|l| m.labels.contains(l));
        let Some(named) = &second.model else {
            let is_judged_by_text = second.text.is_some_and(|text| text != TextNeeded::Any);
            if !models.is_empty() && !models.iter().any(finds) && !is_judged_by_text {
                self.fault(
                    &at,
                    "no model detects this rule's labels, so no second look is possible",
                    "remove the line; text that is read has its own scores",
                );
            }
            return;
        };
        let at = at.key("model");
        let Some(index) = self.draft.models.iter().position(|m| m.id == *named) else {
            let known = models.iter().filter_map(|m| m.id.as_deref());
            let remedy = match nearest(named, known) {
                Some(near) => message!("did you mean {near}?", near = format!("{near:?}")),
                None => "use the id of one of the [[models]], or add its folder there".into(),
            };
            self.fault(
                &at,
                message!("unknown model {named}", named = format!("{named:?}")),
                remedy,
            );
            return;
        };
        if models.iter().any(|m| m.id.as_ref() == Some(named) && !finds(m)) {
            self.fault(
                &at,
                message!(
                    "model {named} detects none of this rule's labels",
                    named = format!("{named:?}")
                ),
                "name a model that detects one of them, or remove the line",
            );
            return;
        }
        self.draft
            .rest
            .second_looks
            .insert(RuleId::from(raw.id.as_str()), index);
    }

    fn category(&mut self, at: &FieldPath, raw: &raw::Rule) -> Option<Category> {
        if self.is_invalid(&at.key("category")) {
            return None;
        }
        let categories = &self.draft.rest.categories;
        if let Some(category) = categories.get(&raw.category) {
            return Some(category.clone());
        }
        // Without categories every code is unknown; the categories file has been reported already.
        if !categories.is_empty() {
            let codes: Vec<&str> = categories.keys().map(String::as_str).collect();
            let remedy = message!(
                "use a code from grid.categories, or add this one there; known codes: {codes}",
                codes = codes.join(", ")
            );
            self.fault(
                &at.key("category"),
                message!(
                    "unknown category code {category}",
                    category = format!("{:?}", raw.category)
                ),
                remedy,
            );
        }
        None
    }

    /// The longest `look_every` of all cameras, and the field's path.
    fn slowest_look(&self) -> Option<(String, Duration)> {
        let list = section("cameras");
        let cameras = list.get(&self.sanitized.value)?.as_array()?;
        let default = serde_json::json!("10s");
        cameras
            .iter()
            .enumerate()
            .filter(|(i, c)| !c.is_null() && !self.is_invalid(&list.index(*i).key("look_every")))
            .filter_map(|(i, c)| {
                let every: raw::Span = c.get("look_every").unwrap_or(&default).as_str()?.parse().ok()?;
                Some((format!("{}'s look_every", list.index(i)), every.0))
            })
            .rev() // max_by_key returns the last of equal elements; we want the first camera.
            .max_by_key(|(_, every)| *every)
    }
}
