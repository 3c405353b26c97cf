//! Categories, models and rules: what is filed, who finds it, when it is a problem.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use super::{At, Checker, RELATIVE, inside, top};
use crate::{Model, Reading, raw};
use gridwatch_base::document::schema::nearest;
use gridwatch_engine as engine;
use gridwatch_engine::{Attended, Beyond, Category, Label, RuleId, Scores, Stands, ZoneKind, calendar::Hours};
use gridwatch_model::{Manifest, manifest::Adapter};

/// From one second (a demonstration) to thirty days (longer than any case stays open).
const DWELL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30 * 86400));

/// More often than every 10 s it would do nothing else; less often than every 6 h a dwell of hours never ends.
const READ_EVERY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(6 * 3600));

/// How many of the slowest camera's looks should fit into `max_gap`: one missed look is no outage.
const LOOKS_PER_GAP: u32 = 3;

/// What cameras and rules need to know of a model, faulty or not.
pub(super) struct ModelFacts {
    /// The manifest's id, where it could be read.
    pub(super) id: Option<String>,
    pub(super) labels: Vec<String>,
}

/// What cameras need to know of a rule, faulty or not.
pub(super) struct RuleFacts {
    pub(super) id: String,
}

impl Checker<'_> {
    /// Reads the categories file; its faults name that file.
    pub(super) fn categories(&mut self) -> BTreeMap<String, Category> {
        let at = top("grid").key("categories");
        // Read from what was typed, so that a fault elsewhere in [grid] does not hide this file's.
        let Some(path) = at
            .of(&self.document.value)
            .and_then(|v| v.as_str())
            .map(std::path::PathBuf::from)
        else {
            return BTreeMap::new();
        };
        let what = "the city's categories, such as categories/default.toml";
        let Some((_, raw)) = self.data::<raw::Categories>(&at, &path, what) else {
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

    /// Finds each model's folder and reads what its manifest calls it and its labels.
    pub(super) fn models(&mut self) -> Vec<ModelFacts> {
        let mut known: BTreeMap<String, At> = BTreeMap::new();
        let mut facts = Vec::new();
        for (at, raw) in self.each::<raw::Model>(&top("models")) {
            let at = at.key("dir");
            facts.push(ModelFacts {
                id: None,
                labels: Vec::new(),
            });
            if self.is_taken(&at) {
                continue;
            }
            let Some(manifest) = self.manifest(&at, &raw.dir) else {
                continue;
            };
            if !manifest.adapter.finds_things() {
                self.fault(
                    &at,
                    format!(
                        "its adapter is {}: it is a model of text, and finds nothing",
                        manifest.adapter
                    ),
                    "name it as `finder` or `speller` in [reading] instead",
                );
                continue;
            }
            if let Some(before) = known.insert(manifest.id.clone(), at.clone()) {
                self.fault(
                    &at,
                    format!("its id {:?} is that of {before} too", manifest.id),
                    "give one of them another id in its model.toml",
                );
                continue;
            }
            self.draft.models.push(Model {
                id: manifest.id.clone(),
                dir: self.absolute(&raw.dir),
            });
            if let Some(last) = facts.last_mut() {
                *last = ModelFacts {
                    labels: manifest.found().into_iter().map(str::to_owned).collect(),
                    id: Some(manifest.id),
                };
            }
        }
        facts
    }

    /// What is said of a model's folder; its faults are told.
    pub(super) fn manifest(&mut self, at: &At, dir: &Path) -> Option<Manifest> {
        let dir = self.shown(dir);
        if !dir.is_dir() {
            self.fault(
                at,
                format!("{} is no directory", dir.display()),
                format!("name a folder with model.onnx and model.toml; {RELATIVE}"),
            );
            return None;
        }
        let toml = dir.join("model.toml");
        if !toml.is_file() {
            self.fault(
                at,
                format!("{} cannot be read: there is none", toml.display()),
                "a model is a folder with model.onnx and its manifest model.toml; models/ has examples",
            );
            return None;
        }
        if !dir.join("model.onnx").is_file() {
            self.fault(
                at,
                format!("{} has no model.onnx", dir.display()),
                "put the network beside its model.toml",
            );
        }
        match Manifest::read(&toml) {
            Ok(manifest) => Some(manifest),
            Err(faults) => {
                self.draft.faults.extend(faults.0.into_iter().map(|f| inside(at, f)));
                None
            }
        }
    }

    /// True where [reading] was typed, whatever is wrong with it.
    pub(super) fn has_reading(&self) -> bool {
        top("reading").of(&self.document.value).is_some()
    }

    /// A find carries one closer score: rules about the same labels must have it from the same model.
    fn second_looks_agree(&mut self) {
        let rules = &self.draft.rest.rules;
        let asked = |r: &engine::Rule| self.draft.rest.second_looks.get(&r.id).copied();
        let closer: Vec<usize> = (0..rules.len()).filter(|i| rules[*i].second_look.is_some()).collect();
        let mut faults = Vec::new();
        for (nth, &i) in closer.iter().enumerate() {
            let disagrees = |j: &&usize| {
                let (one, other) = (&rules[i], &rules[**j]);
                asked(one) != asked(other) && one.labels.iter().any(|l| other.labels.contains(l))
            };
            if let Some(&other) = closer[..nth].iter().find(disagrees) {
                faults.push((rules[i].id.clone(), rules[other].id.clone()));
            }
        }
        for (rule, other) in faults {
            self.fault(
                &top("rules"),
                format!(
                    "{:?} and {:?} are about the same label and have different models look closer",
                    rule.as_str(),
                    other.as_str()
                ),
                "name the same second_look.model in both",
            );
        }
    }

    /// How telephone numbers are read.
    pub(super) fn reading(&mut self) {
        let at = top("reading");
        let Some(raw) = self.required::<raw::Reading>(&at) else {
            return;
        };
        let told = self.draft.faults.len();
        for (key, dir, needed) in [
            ("finder", &raw.finder, Adapter::Db),
            ("speller", &raw.speller, Adapter::Ctc),
        ] {
            let at = at.key(key);
            if self.is_taken(&at) {
                continue;
            }
            if let Some(manifest) = self.manifest(&at, dir).filter(|m| m.adapter != needed) {
                self.fault(
                    &at,
                    format!("the adapter of {} is {}, and {needed} is needed", manifest.id, manifest.adapter),
                    "name the folder of a model that finds lines of text as `finder`, and of one that spells them as `speller`",
                );
            }
        }
        self.between(&at.key("every"), raw.every, READ_EVERY);
        if self.draft.faults.len() == told {
            self.draft.reading = Some(Reading {
                finder: self.absolute(&raw.finder),
                speller: self.absolute(&raw.speller),
                every: raw.every.0,
            });
        }
    }

    /// Checks each rule, and compiles the sound ones.
    pub(super) fn rules(&mut self, models: &[ModelFacts]) -> Vec<RuleFacts> {
        let list = top("rules");
        let facts = self.ids(&list, "id").into_iter().map(|id| RuleFacts { id }).collect();
        let looks = self.slowest_look();
        for (at, raw) in self.each::<raw::Rule>(&list) {
            self.scores(&at, &raw);
            // What is read is looked for at those looks alone.
            let is_read = raw.labels.iter().all(|l| *l == *Label::small_ad().as_str());
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

    /// A rule about what lies beyond a shop needs a shop. Asked only where all else is sound: a zone that was left out may
    /// have been it.
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
                &top("rules").index(i).key("beyond"),
                "no camera has a shop zone for this rule: it finds nothing",
                "draw the shop's lawful ground as a zone with kind = \"shop\", or remove the line",
            );
        }
    }

    fn scores(&mut self, at: &At, raw: &raw::Rule) {
        let night = raw.night.map(|n| (at.key("night"), n.keep_score, n.start_score));
        for (at, keep, start) in [(at.clone(), raw.keep_score, raw.start_score)].into_iter().chain(night) {
            let (keep_at, start_at) = (at.key("keep_score"), at.key("start_score"));
            if keep > start && !self.is_taken(&keep_at) && !self.is_taken(&start_at) {
                self.fault(
                    &keep_at,
                    format!("{keep} is above start_score {start}"),
                    "keep it lower, so that a flickering detection goes on with what it started",
                );
            }
        }
        let (n, m) = (at.key("seen_n"), at.key("seen_m"));
        if raw.seen_n > raw.seen_m && !self.is_taken(&n) && !self.is_taken(&m) {
            self.fault(
                &n,
                format!("{} of the newest {} looks cannot be", raw.seen_n, raw.seen_m),
                "make seen_m as large as seen_n, or larger",
            );
        }
    }

    fn times(&mut self, at: &At, raw: &raw::Rule, looks: Option<&(String, Duration)>) {
        let dwell_at = at.key("dwell");
        let good = self.between(&dwell_at, raw.dwell, DWELL);
        if let Some(interval) = self.draft.rest.evidence.as_ref().map(|e| e.min_interval)
            && good
            && raw.dwell.0 < interval
        {
            self.fault(
                &dwell_at,
                format!("{} is less than evidence.min_interval {}", raw.dwell, raw::Span(interval)),
                "a case shows its first and its confirming look, which would lie too close together: make the dwell longer",
            );
        }
        let Some((what, look_every)) = looks else { return };
        let (gap_at, forget_at) = (at.key("max_gap"), at.key("forget_after"));
        if !self.is_taken(&gap_at) {
            let every = raw::Span(*look_every);
            if raw.max_gap.0 < *look_every {
                self.fault(
                    &gap_at,
                    format!(
                        "{} is less than {what} {every}: every gap would count as an outage and no dwell would pass",
                        raw.max_gap
                    ),
                    format!("make it {} or more", raw::Span(*look_every * LOOKS_PER_GAP)),
                );
            } else if raw.max_gap.0 < *look_every * LOOKS_PER_GAP {
                self.warn(
                    &gap_at,
                    format!(
                        "{} is less than three times {what} {every}: one or two late looks count as an outage",
                        raw.max_gap
                    ),
                    format!("make it {} or more", raw::Span(*look_every * LOOKS_PER_GAP)),
                );
            }
        }
        if raw.forget_after.0 < *look_every && !self.is_taken(&forget_at) {
            self.fault(
                &forget_at,
                format!(
                    "{} is less than {what} {}: whatever is missed once would be forgotten",
                    raw.forget_after,
                    raw::Span(*look_every)
                ),
                format!("make it {} or more", raw::Span(*look_every * LOOKS_PER_GAP)),
            );
        }
    }

    fn labels(&mut self, at: &At, raw: &raw::Rule, models: &[ModelFacts]) {
        if models.iter().any(|m| m.id.is_none()) {
            return; // Who knows what the faulty one names.
        }
        let mut known: BTreeSet<&str> = models.iter().flat_map(|m| &m.labels).map(String::as_str).collect();
        let small_ad = Label::small_ad();
        if self.has_reading() {
            known.insert(small_ad.as_str());
        }
        if known.is_empty() {
            return;
        }
        let by = raw.attended.iter().flat_map(|a| a.by.iter().enumerate());
        let by = by.map(|(i, label)| (at.key("attended").key("by").index(i), label));
        let own = raw.labels.iter().enumerate();
        let own = own.map(|(i, label)| (at.key("labels").index(i), label));
        for (at, label) in own.chain(by).filter(|(_, l)| !known.contains(l.as_str())) {
            let remedy = match nearest(label, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "write a label of a model's model.toml, or add a model that knows this one".into(),
            };
            self.fault(&at, format!("no model finds {label:?}"), remedy);
        }
    }

    /// The model that looks closer must find what the rule is about.
    fn second_look(&mut self, at: &At, raw: &raw::Rule, models: &[ModelFacts]) {
        let Some(second) = &raw.second_look else { return };
        if models.iter().any(|m| m.id.is_none()) {
            return; // Who knows what the faulty one is called.
        }
        let at = at.key("second_look");
        let finds = |m: &ModelFacts| raw.labels.iter().any(|l| m.labels.contains(l));
        let Some(named) = &second.model else {
            if !models.is_empty() && !models.iter().any(finds) {
                self.fault(
                    &at,
                    "no model finds this rule's labels in a picture: there is nothing to look closer with",
                    "remove the line; what is read has its own scores",
                );
            }
            return;
        };
        let at = at.key("model");
        let Some(index) = self.draft.models.iter().position(|m| m.id == *named) else {
            let known = models.iter().filter_map(|m| m.id.as_deref());
            let remedy = match nearest(named, known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "write the id of one of [[models]], or add its folder there".into(),
            };
            self.fault(&at, format!("there is no model {named:?}"), remedy);
            return;
        };
        if models.iter().any(|m| m.id.as_ref() == Some(named) && !finds(m)) {
            self.fault(
                &at,
                format!("{named:?} finds none of this rule's labels"),
                "name a model that finds one of them, or remove the line",
            );
            return;
        }
        self.draft
            .rest
            .second_looks
            .insert(RuleId::from(raw.id.as_str()), index);
    }

    fn category(&mut self, at: &At, raw: &raw::Rule) -> Option<Category> {
        if self.is_taken(&at.key("category")) {
            return None;
        }
        let categories = &self.draft.rest.categories;
        if let Some(category) = categories.get(&raw.category) {
            return Some(category.clone());
        }
        // Without a categories file every code is unknown: that is told once, there.
        if !categories.is_empty() {
            let codes: Vec<&str> = categories.keys().map(String::as_str).collect();
            let remedy = format!("write one of its codes, or add this one there: {}", codes.join(", "));
            self.fault(
                &at.key("category"),
                format!("no category has the code {:?}", raw.category),
                remedy,
            );
        }
        None
    }

    /// What camera is looked at most rarely, and how rarely.
    fn slowest_look(&self) -> Option<(String, Duration)> {
        let list = top("cameras");
        let cameras = list.of(&self.sound.value)?.as_array()?;
        let default = serde_json::json!("10s");
        cameras
            .iter()
            .enumerate()
            .filter(|(i, c)| !c.is_null() && !self.is_taken(&list.index(*i).key("look_every")))
            .filter_map(|(i, c)| {
                let every: raw::Span = c.get("look_every").unwrap_or(&default).as_str()?.parse().ok()?;
                Some((format!("{}'s look_every", list.index(i)), every.0))
            })
            .rev() // Of equals the first, which is the last to max_by_key.
            .max_by_key(|(_, every)| *every)
    }
}

fn compile(raw: raw::Rule, category: Category, hours: Hours) -> engine::Rule {
    let day = Scores {
        start: raw.start_score,
        keep: raw.keep_score,
    };
    engine::Rule {
        id: RuleId::from(raw.id),
        category,
        labels: raw.labels.into_iter().map(Label::from).collect(),
        day,
        night: raw.night.map_or(day, |n| Scores {
            start: n.start_score,
            keep: n.keep_score,
        }),
        dwell: raw.dwell.0,
        seen_n: raw.seen_n,
        seen_m: raw.seen_m,
        present_share: raw.present_share,
        max_move: raw.max_move,
        max_move_m: raw.max_move_m,
        min_area: raw.min_area,
        min_area_m2: raw.min_area_m2,
        min_count: raw.min_count,
        gather: raw.gather,
        attended: raw.attended.map(|a| Attended {
            labels: a.by.into_iter().map(Label::from).collect(),
            within: a.within,
            share: a.share,
        }),
        second_look: raw.second_look.map(|s| s.score),
        forget_after: raw.forget_after.0,
        max_gap: raw.max_gap.0,
        merge_radius_m: raw.merge_radius_m,
        outside_containers: raw.outside_containers,
        beyond: raw.beyond.map(|raw::Beyond::Shop| Beyond::Shop),
        stands: match raw.stands {
            raw::Stands::Ground => Stands::Ground,
            raw::Stands::Wall => Stands::Wall,
        },
        except_approved: raw.except_approved,
        hours,
    }
}
