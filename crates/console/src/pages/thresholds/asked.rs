//! Which thresholds are tried on what: the fields of the page's forms and of the API's queries.

use std::{collections::BTreeSet, fmt::Display};

use gridwatch_config::Config;
use gridwatch_engine::{CameraId, Rule};
use gridwatch_ledger::what_if::{Threshold, ThresholdRange};
use gridwatch_web::{Actor, Rejection};

use crate::{access::CameraAccess as _, i18n::LedgerTexts, ledger::MAX_DAYS};

/// A week, as people look at it.
const DEFAULT_DAYS: u32 = 7;

/// Precision that a recommended value must reach if none is asked for.
const DEFAULT_PRECISION: f64 = 0.9;

/// Why what is asked for cannot be tried.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum AskFault {
    #[error("there are no rules in the configuration")]
    NoRules,
    #[error("no rule has the id {0:?}")]
    UnknownRule(String),
    #[error("at most {MAX_DAYS} days at once; choose fewer")]
    Days,
    #[error("{}: {value:?} is not valid; use {} to {}", .threshold.as_str(), .range.min, .range.max)]
    Value {
        threshold: Threshold,
        value: String,
        range: ThresholdRange,
    },
}

impl AskFault {
    /// The text for a person.
    pub(crate) fn text(&self, t: &LedgerTexts) -> String {
        match self {
            Self::NoRules => t.no_rules.to_string(),
            Self::UnknownRule(rule) => t.unknown_rule.with("rule", rule).to_string(),
            Self::Days => t.too_long.with("n", MAX_DAYS).to_string(),
            Self::Value {
                threshold,
                value,
                range,
            } => t
                .bad_value
                .with("name", t.threshold(*threshold))
                .with("value", value)
                .with("min", range.min)
                .with("max", range.max)
                .to_string(),
        }
    }
}

impl From<AskFault> for Rejection {
    fn from(fault: AskFault) -> Self {
        match fault {
            AskFault::UnknownRule(_) => Self::NotFound,
            AskFault::NoRules => Self::Missing(fault.to_string().into()),
            fault => Self::Unfit(fault.to_string().into()),
        }
    }
}

/// Thresholds that are tried.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The rule as it is in force.
    pub(crate) in_force: Rule,
    /// The rule as it is tried.
    pub(crate) tried: Rule,
    pub(crate) days: u32,
    /// Ids of cameras that were chosen; empty: all.
    pub(crate) cameras: BTreeSet<String>,
    /// Views that are reported; `None`: all.
    pub(crate) views: Option<BTreeSet<CameraId>>,
    pub(crate) curve: Threshold,
    pub(crate) min_precision: f64,
}

impl Asked {
    /// Reads form or query fields: `rule`, `days`, `camera` (several, or separated by commas), `curve`, `precision` in per cent, and
    /// thresholds by their names. Empty fields are as if not given, unknown ones are ignored.
    ///
    /// # Errors
    /// [`AskFault`].
    pub(crate) fn parse(fields: &str, config: &Config, actor: &Actor) -> Result<Self, AskFault> {
        let fields: Vec<(String, String)> = url::form_urlencoded::parse(fields.as_bytes())
            .map(|(name, value)| (name.into_owned(), value.trim().to_owned()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let field = |wanted: &str| {
            let found = fields.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        let rules = &config.plan.rules;
        let in_force = match field("rule") {
            Some(id) => rules
                .iter()
                .find(|rule| rule.id.as_str() == id)
                .ok_or_else(|| AskFault::UnknownRule(id.chars().take(64).collect()))?,
            None => rules.first().ok_or(AskFault::NoRules)?,
        };
        let days = match field("days") {
            None => DEFAULT_DAYS,
            Some(text) => {
                let days = text.parse().ok().filter(|days| (1..=MAX_DAYS).contains(days));
                days.ok_or(AskFault::Days)?
            }
        };
        let cameras: BTreeSet<String> = fields
            .iter()
            .filter(|(name, _)| name == "camera")
            .flat_map(|(_, value)| value.split(',').map(str::to_owned))
            .collect();
        let mut tried = in_force.clone();
        let mut first_changed = None;
        for threshold in Threshold::ALL {
            let (Some(text), Some(now)) = (field(threshold.as_str()), threshold.get(in_force)) else {
                continue;
            };
            let fault = || AskFault::Value {
                threshold,
                value: text.chars().take(32).collect(),
                range: threshold.range(),
            };
            let value: f64 = text.parse().map_err(|_| fault())?;
            // A value that was not changed must not move another that was set before it.
            if (value - now).abs() <= f64::EPSILON {
                continue;
            }
            threshold.set(&mut tried, value).map_err(|_| fault())?;
            first_changed = first_changed.or(Some(threshold));
        }
        let curve = field("curve").and_then(Threshold::from_name);
        let curve = curve.filter(|threshold| threshold.get(in_force).is_some());
        let percent = field("precision").and_then(|text| text.parse::<f64>().ok());
        Ok(Self {
            views: views(config, actor, &cameras),
            cameras,
            days,
            curve: curve.or(first_changed).unwrap_or(Threshold::StartScore),
            min_precision: percent.map_or(DEFAULT_PRECISION, |percent| (percent / 100.0).clamp(0.0, 1.0)),
            in_force: in_force.clone(),
            tried,
        })
    }

    /// The thresholds that the rule has, as an operator sees them: those of the night only where they differ from the day's.
    pub(crate) fn thresholds(&self) -> impl Iterator<Item = Threshold> {
        let rule = &self.in_force;
        let has_one_light = rule.day == rule.night;
        Threshold::ALL
            .into_iter()
            .filter(move |threshold| threshold.get(rule).is_some() && !(has_one_light && is_of_night(*threshold)))
    }

    /// The thresholds that differ, with those that had to move along, and their values in force and as tried.
    pub(crate) fn changes(&self) -> Vec<(Threshold, f64, f64)> {
        let changed = self.thresholds().filter_map(|threshold| {
            let (now, tried) = (threshold.get(&self.in_force)?, threshold.get(&self.tried)?);
            (now.to_bits() != tried.to_bits()).then_some((threshold, now, tried))
        });
        changed.collect()
    }

    /// The fields of this, for links and hidden inputs.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("rule", self.in_force.id.to_string()), ("days", self.days.to_string())];
        fields.extend(self.cameras.iter().map(|camera| ("camera", camera.clone())));
        let changes = self.changes().into_iter();
        fields.extend(changes.map(|(threshold, _, tried)| (threshold.as_str(), tried.to_string())));
        fields.push(("curve", self.curve.as_str().to_owned()));
        fields.push(("precision", (self.min_precision * 100.0).to_string()));
        fields
    }

    /// [`Asked::fields`] as a query, with one of them replaced.
    pub(crate) fn query_with(&self, name: &str, value: impl Display) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (known, value) in self.fields().iter().filter(|(known, _)| *known != name) {
            query.append_pair(known, value);
        }
        if !name.is_empty() {
            query.append_pair(name, &value.to_string());
        }
        query.finish()
    }
}

/// True for thresholds that hold at night only.
fn is_of_night(threshold: Threshold) -> bool {
    matches!(threshold, Threshold::NightStartScore | Threshold::NightKeepScore)
}

/// The views of the chosen cameras that the user may see; `None` for all.
fn views(config: &Config, actor: &Actor, chosen: &BTreeSet<String>) -> Option<BTreeSet<CameraId>> {
    let seen = actor.cameras(config);
    if seen.is_none() && chosen.is_empty() {
        return None;
    }
    let is_wanted = |view: &&CameraId| {
        let is_seen = seen
            .as_ref()
            .is_none_or(|seen| seen.iter().any(|camera| camera == view.device()));
        is_seen && (chosen.is_empty() || chosen.contains(view.device()) || chosen.contains(view.as_str()))
    };
    Some(config.plan.cameras.keys().filter(is_wanted).cloned().collect())
}

/// The values that a curve tries: over the range of shares, and around the value in force otherwise.
pub(crate) fn curve_values(threshold: Threshold, in_force: f64, tried: f64) -> Vec<f64> {
    let range = threshold.range();
    let is_share = range.max <= 1.0 && !range.is_whole && range.step >= 0.05;
    let mut values: Vec<f64> = match is_share {
        // Closer around the value in force: each value costs as much as an answer.
        true => {
            let near = [-0.05, 0.05].map(|step| ((in_force + step) * 1000.0).round() / 1000.0);
            (2..10).map(|n| f64::from(n) / 10.0).chain(near).collect()
        }
        false => {
            let factors = [0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2.0, 3.0];
            let base = if in_force > 0.0 { in_force } else { range.step };
            let value = |factor: f64| match range.is_whole {
                true => (base * factor).round(),
                // Without the digits that a product of fractions ends with.
                false => (base * factor * 1e6).round() / 1e6,
            };
            factors.map(value).to_vec()
        }
    };
    values.extend([in_force, tried]);
    values
        .iter_mut()
        .for_each(|value| *value = value.clamp(range.min, range.max));
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_the_value_in_force_and_the_tried_one_and_stays_in_range() {
        for (threshold, now, tried) in [
            (Threshold::StartScore, 0.5, 0.47),
            (Threshold::Dwell, 1800.0, 600.0),
            (Threshold::SeenN, 3.0, 1.0),
            (Threshold::Gather, 0.0, 0.3),
            (Threshold::MergeRadiusM, 500.0, 8.0),
        ] {
            let values = curve_values(threshold, now, tried);
            let range = threshold.range();
            assert!(
                values.contains(&now) && values.contains(&tried),
                "{threshold:?}: {values:?}"
            );
            assert!(values.is_sorted() && values.len() <= 18, "{threshold:?}: {values:?}");
            assert!(values.iter().all(|v| (range.min..=range.max).contains(v)), "{values:?}");
            assert!(!range.is_whole || values.iter().all(|v| v.fract() == 0.0), "{values:?}");
        }
    }
}
