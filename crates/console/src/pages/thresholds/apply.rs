//! Writes tried thresholds into the configuration, where they are set or belong, and puts them into force.

use std::time::Duration;

use gridwatch_base::message::Message;
use gridwatch_config::{
    Fault, diff,
    edit::{EditError, Editor, SaveRequest},
    element::ElementPath,
    raw::Span,
};
use gridwatch_ledger::what_if::Threshold;
use gridwatch_web::audit::{Outcome, Person};
use serde_json::{Value, json};
use tokio::task;

use super::asked::Asked;
use crate::app::App;

/// Why thresholds are not in force.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ApplyFault {
    #[error("the configuration has these values already")]
    Nothing,
    /// With what was changed in the meantime, if that is known.
    #[error("the configuration was changed after the page was loaded; read it again and repeat the edit")]
    Conflict(Option<Vec<diff::Change>>),
    #[error("the configuration would have faults: {}", .0.join("; "))]
    Faults(Vec<Message>),
    #[error("{0}")]
    NotSaved(String),
    /// Saved, and then refused by the daemon.
    #[error("saved, but not in force: {}", .0.join("; "))]
    NotInForce(Vec<Message>),
}

impl ApplyFault {
    /// For the audit log.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Nothing | Self::Conflict(_) | Self::Faults(_) => Outcome::Refused(self.to_string()),
            Self::NotSaved(_) | Self::NotInForce(_) => Outcome::Failed(self.to_string()),
        }
    }
}

impl From<EditError> for ApplyFault {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Faults(faults) => Self::Faults(faults.0.iter().map(Fault::words).collect()),
            EditError::Conflict { changes, .. } => Self::Conflict(changes),
            error => Self::NotSaved(error.to_string()),
        }
    }
}

/// The revision of the configuration's files, which a page is made for.
///
/// # Errors
/// The faults of files that cannot be edited.
pub(crate) async fn revision(app: &App) -> Result<String, ApplyFault> {
    let main = app.config().file.clone();
    let read = task::spawn_blocking(move || Ok(Editor::open(&main)?.revision().to_owned()));
    read.await
        .unwrap_or_else(|error| Err(ApplyFault::NotSaved(error.to_string())))
}

/// Writes what differs from the rule in force, and returns what has changed.
///
/// # Errors
/// [`ApplyFault`]; unless it is [`ApplyFault::NotInForce`], nothing was written.
pub(crate) async fn apply(
    app: &App,
    person: &Person,
    asked: &Asked,
    revision: &str,
) -> Result<Vec<diff::Change>, ApplyFault> {
    if asked.changes().is_empty() {
        return Err(ApplyFault::Nothing);
    }
    let main = app.config().file.clone();
    let (asked, revision) = (asked.clone(), revision.to_owned());
    let who = person.user.clone().unwrap_or_else(|| "local user".to_owned());
    let saving = task::spawn_blocking(move || {
        let mut editor = Editor::open(&main)?;
        write(&mut editor, &asked)?;
        let why = format!("thresholds of rule {}", asked.in_force.id);
        let saved = editor.save(&SaveRequest {
            expected_revision: &revision,
            who: &who,
            why: &why,
        })?;
        Ok(saved.changes)
    });
    let changes = saving
        .await
        .unwrap_or_else(|error| Err(ApplyFault::NotSaved(error.to_string())))?;
    let answer = app.daemon.reload(false).await;
    if answer.accepted {
        return Ok(changes);
    }
    let faults = answer.faults.iter().map(Fault::words);
    Err(ApplyFault::NotInForce(
        faults.chain(answer.error.map(Message::from)).collect(),
    ))
}

fn write(editor: &mut Editor, asked: &Asked) -> Result<(), EditError> {
    let rules: ElementPath = "rules".parse()?;
    let rule = rules.id(asked.in_force.id.as_str());
    for threshold in Threshold::ALL {
        let (Some(now), Some(value)) = (threshold.get(&asked.in_force), threshold.get(&asked.tried)) else {
            continue;
        };
        if now.to_bits() == value.to_bits() {
            continue;
        }
        let (table, field) = place(threshold);
        // Without scores of its own, the night has those of the day.
        if table == Some("night") && editor.get(&rule.key("night").to_string())?.is_none() {
            continue;
        }
        let at = table.map_or_else(|| rule.clone(), |table| rule.key(table)).key(field);
        editor.set(&at.to_string(), &written(threshold, value))?;
    }
    Ok(())
}

/// Where a threshold is in a rule's table.
fn place(threshold: Threshold) -> (Option<&'static str>, &'static str) {
    match threshold {
        Threshold::NightStartScore => (Some("night"), "start_score"),
        Threshold::NightKeepScore => (Some("night"), "keep_score"),
        Threshold::SecondLook => (Some("second_look"), "score"),
        Threshold::ExceptScore => (Some("except_labels"), "score"),
        Threshold::AttendedWithin => (Some("attended"), "within"),
        Threshold::AttendedShare => (Some("attended"), "share"),
        Threshold::AttendedMinSize => (Some("attended"), "min_size"),
        other => (None, other.as_str()),
    }
}

/// A value as it is written in the file.
fn written(threshold: Threshold, value: f64) -> Value {
    match threshold {
        Threshold::Dwell | Threshold::UnidentifiedDwell | Threshold::ForgetAfter | Threshold::MaxGap => {
            json!(Span(Duration::from_secs_f64(value)).to_string())
        }
        Threshold::SeenN | Threshold::SeenM | Threshold::MinCount => json!(value as u32),
        _ => json!(value),
    }
}

#[cfg(test)]
mod tests {
    use gridwatch_config::raw;
    use schemars::SchemaGenerator;

    use super::*;

    /// A threshold that is written to a field that rules do not have would be refused by every save.
    #[test]
    fn every_threshold_has_its_field_in_the_schema_of_rules() {
        let mut generator = SchemaGenerator::default();
        generator.subschema_for::<raw::Rule>();
        let definitions = generator.definitions().clone();
        let properties = |name: &str| definitions[name]["properties"].as_object().cloned().unwrap();
        for threshold in Threshold::ALL {
            let (table, field) = place(threshold);
            let of = match table {
                None => "Rule",
                Some("night") => "NightScores",
                Some("second_look") => "SecondLook",
                Some("except_labels") => "ExceptLabels",
                Some("attended") => "Attended",
                Some(other) => panic!("{other}"),
            };
            assert!(properties(of).contains_key(field), "{threshold:?}: {of}.{field}");
            assert!(table.is_none_or(|table| properties("Rule").contains_key(table)));
        }
        assert_eq!(written(Threshold::Dwell, 5400.0), "1h 30m");
        assert_eq!(written(Threshold::SeenN, 3.0).to_string(), "3");
        assert_eq!(written(Threshold::StartScore, 0.45).to_string(), "0.45");
    }
}
