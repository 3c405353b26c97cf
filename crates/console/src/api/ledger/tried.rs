//! The query of the operations that try thresholds. One table says what each parameter may be: to the parser, and to the description.

use std::{borrow::Cow, collections::BTreeSet};

use gridwatch_base::message;
use gridwatch_config::Config;
use gridwatch_engine::Rule;
use gridwatch_ledger::what_if::{Threshold, ThresholdRange};
use gridwatch_web::{Actor, Rejection};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::{ledger::MAX_DAYS, pages::Asked};

/// What the value of a parameter may be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Whole {
        min: f64,
        max: f64,
    },
    Number {
        min: f64,
        max: f64,
    },
    /// Name of a threshold.
    Threshold,
}

/// Parameters besides the thresholds, with their descriptions.
const PARAMETERS: [(&str, Kind, &str); 5] = [
    ("rule", Kind::Text, "Id of the rule; by default the first."),
    (
        "days",
        Kind::Whole {
            min: 1.0,
            max: MAX_DAYS as f64,
        },
        "Days back from the newest look. Default 7.",
    ),
    (
        "camera",
        Kind::Text,
        "Cameras or presets that are reported, separated by commas. Default all.",
    ),
    ("curve", Kind::Threshold, "Name of the threshold of the curve."),
    (
        "precision",
        Kind::Number { min: 0.0, max: 100.0 },
        "Per cent of right cases that a recommended value must reach. Default 90.",
    ),
];

impl Kind {
    fn of(threshold: Threshold) -> Self {
        let ThresholdRange { min, max, is_whole, .. } = threshold.range();
        match is_whole {
            true => Self::Whole { min, max },
            false => Self::Number { min, max },
        }
    }

    fn takes(self, text: &str) -> bool {
        let number = || text.parse::<f64>().ok();
        match self {
            Self::Text => !text.trim().is_empty(),
            Self::Whole { min, max } => number().is_some_and(|n| (min..=max).contains(&n) && n.fract() == 0.0),
            Self::Number { min, max } => number().is_some_and(|n| (min..=max).contains(&n)),
            Self::Threshold => Threshold::from_name(text).is_some(),
        }
    }

    fn asked(self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Threshold => "the name of a threshold".into(),
        }
    }

    fn schema(self) -> Value {
        match self {
            Self::Text => json!({ "type": "string", "pattern": r"\S" }),
            // As whole numbers, which they are.
            Self::Whole { min, max } => json!({ "type": "integer", "minimum": min as u64, "maximum": max as u64 }),
            Self::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
            Self::Threshold => json!({ "type": "string", "enum": Threshold::ALL.map(Threshold::as_str) }),
        }
    }
}

fn kind(name: &str) -> Option<Kind> {
    let known = PARAMETERS.iter().find(|(known, ..)| *known == name);
    let known = known.map(|(_, kind, _)| *kind);
    known.or_else(|| Threshold::from_name(name).map(Kind::of))
}

/// Thresholds to try, on which days, and the threshold of the curve. Those that are not given are as in force.
pub(super) struct TriedQuery;

impl TriedQuery {
    /// Reads the query more strictly than the page reads its form: a program that sends what is not taken learns it.
    pub(super) fn parse(query: &str, config: &Config, actor: &Actor) -> Result<Asked, Rejection> {
        let mut given = BTreeSet::new();
        let mut thresholds = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let bad = |what: String| Rejection::BadRequest(format!("{}: {what}", name.escape_debug()).into());
            let kind = kind(&name).ok_or_else(|| bad("no such parameter".into()))?;
            if !kind.takes(&value) {
                return Err(bad(format!("use {}", kind.asked())));
            }
            let named = match kind {
                Kind::Threshold => Threshold::from_name(&value),
                _ => Threshold::from_name(&name),
            };
            thresholds.extend(named);
            if !given.insert(name.to_string()) && name != "camera" {
                return Err(bad("given more than once".into()));
            }
        }
        let asked = Asked::parse(query, config, actor)?;
        expect_has(&asked.in_force, thresholds)?;
        Ok(asked)
    }
}

/// Refuses thresholds that the rule does not have.
pub(super) fn expect_has(rule: &Rule, thresholds: impl IntoIterator<Item = Threshold>) -> Result<(), Rejection> {
    let mut absent = thresholds.into_iter().filter(|threshold| threshold.get(rule).is_none());
    match absent.next() {
        None => Ok(()),
        Some(absent) => Err(Rejection::Unfit(message!(
            "the rule has no threshold {threshold}; configure it first",
            threshold = absent.as_str()
        ))),
    }
}

impl JsonSchema for TriedQuery {
    fn schema_name() -> Cow<'static, str> {
        "TriedQuery".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let described = |kind: Kind, description: &str| {
            let mut schema = kind.schema();
            schema["description"] = description.into();
            schema
        };
        let mut properties: Map<String, Value> = PARAMETERS
            .iter()
            .map(|(name, kind, description)| ((*name).to_owned(), described(*kind, description)))
            .collect();
        let value = "Value to try; durations are in seconds. Refused if the rule does not have this threshold.";
        properties.extend(Threshold::ALL.map(|threshold| {
            let name = threshold.as_str().to_owned();
            (name, described(Kind::of(threshold), value))
        }));
        json_schema!({ "type": "object", "properties": properties })
    }
}

/// Thresholds by name, to be written.
pub(super) struct ThresholdValues;

impl JsonSchema for ThresholdValues {
    fn schema_name() -> Cow<'static, str> {
        "ThresholdValues".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let schemas = Threshold::ALL.map(|threshold| (threshold.as_str().to_owned(), Kind::of(threshold).schema()));
        let properties: Map<String, Value> = schemas.into_iter().collect();
        json_schema!({
            "type": "object",
            "description": "Values by name; durations are in seconds. Refused if the rule does not have one of them.",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

/// Checks values by name against what [`ThresholdValues`] says.
pub(super) fn expect_valid(name: &str, value: f64) -> Result<Threshold, Rejection> {
    let threshold = Threshold::from_name(name);
    let threshold = threshold.ok_or_else(|| Rejection::BadRequest(format!("{name:?} is not a threshold").into()))?;
    let kind = Kind::of(threshold);
    match kind.takes(&value.to_string()) {
        true => Ok(threshold),
        false => Err(Rejection::BadRequest(format!("{name}: use {}", kind.asked()).into())),
    }
}
