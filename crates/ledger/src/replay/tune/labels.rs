//! What people said of cases: JSON lines, or CSV with a first line that names the columns. Both have the same fields:
//! `right` and either `case_id`, or `camera`, `rule`, `at` and the box as `x1`, `y1`, `x2`, `y2`.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use gridwatch_engine::BBox;

/// One label.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseLabel {
    /// Of what.
    pub subject: LabelSubject,
    /// Whether it was a problem that should have been filed.
    pub right: bool,
}

/// What a label is about.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelSubject {
    /// A case, by its id.
    Case(String),
    /// A thing in a picture, whether a case was opened for it or not.
    Thing {
        /// Which camera.
        camera: String,
        /// Which rule it is, or is not, a problem of.
        rule: String,
        /// When it was seen there.
        at: Timestamp,
        /// Where in the picture, as fractions of its width and height.
        bbox: BBox,
    },
}

/// A line that is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LabelError {
    /// From 1.
    pub line: usize,
    /// What is wrong, and what to write.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    right: bool,
    case_id: Option<String>,
    camera: Option<String>,
    rule: Option<String>,
    at: Option<Timestamp>,
    x1: Option<f32>,
    y1: Option<f32>,
    x2: Option<f32>,
    y2: Option<f32>,
}

const LABEL_FORMAT: &str = "a label has `right` (true or false) and either `case_id`, or `camera`, `rule`, `at` (RFC 3339), `x1`, `y1`, `x2` and `y2`";

/// Reads labels; empty lines are passed over.
///
/// # Errors
/// The first line that is none.
pub fn parse(text: &str) -> Result<Vec<CaseLabel>, LabelError> {
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty())
        .peekable();
    let columns: Option<Vec<String>> = lines
        .next_if(|(_, first)| !first.starts_with('{'))
        .map(|(_, first)| first.split(',').map(|c| c.trim().to_owned()).collect());
    lines
        .map(|(line, text)| {
            let bad = |reason: String| LabelError { line, reason };
            let value = match &columns {
                None => serde_json::from_str(text).map_err(|e| bad(format!("{e}; {WANTED}")))?,
                Some(columns) => object(columns, text).map_err(bad)?,
            };
            let row = serde_json::from_value(value).map_err(|e| bad(format!("{e}; {WANTED}")))?;
            label(row).ok_or_else(|| bad(LABEL_FORMAT.into()))
        })
        .collect()
}

/// A line of CSV as the object that JSON would have. Quotes are not known: no id and no number needs them.
fn object(columns: &[String], text: &str) -> Result<Value, String> {
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    if fields.len() != columns.len() {
        return Err(format!(
            "{} fields, the first line names {}: {}",
            fields.len(),
            columns.len(),
            columns.join(",")
        ));
    }
    let is_text = |column: &str| matches!(column, "case_id" | "camera" | "rule" | "at");
    let mut object = Map::new();
    for (column, field) in columns.iter().zip(fields).filter(|(_, field)| !field.is_empty()) {
        let value = match field {
            field if is_text(column) => Value::String(field.into()),
            field => serde_json::from_str(field).map_err(|_| format!("{column}: {field:?} is no value; {WANTED}"))?,
        };
        object.insert(column.clone(), value);
    }
    Ok(Value::Object(object))
}

fn label(row: Row) -> Option<CaseLabel> {
    let subject = match row.case_id {
        Some(id) => LabelSubject::Case(id),
        None => LabelSubject::Thing {
            camera: row.camera?,
            rule: row.rule?,
            at: row.at?,
            bbox: BBox {
                x1: row.x1?,
                y1: row.y1?,
                x2: row.x2?,
                y2: row.y2?,
            },
        },
    };
    Some(CaseLabel {
        subject,
        right: row.right,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let json = r#"{"case_id":"01JW","right":true}

{"camera":"gate","rule":"garbage","at":"2025-06-15T08:00:00Z","x1":0.1,"y1":0.2,"x2":0.3,"y2":0.4,"right":false}"#;
        let csv = "case_id,right,camera,rule,at,x1,y1,x2,y2\n01JW,true,,,,,,,\n,false,gate,garbage,2025-06-15T08:00:00Z,0.1,0.2,0.3,0.4\n";
        let labels = parse(json).unwrap();
        assert_eq!(labels, parse(csv).unwrap());
        assert_eq!(labels.len(), 2);
        assert!(matches!(&labels[1].subject, LabelSubject::Thing { camera, .. } if camera == "gate"));
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn what_is_no_label_is_told_with_its_line() {
        for (text, line, told) in [
            ("{\"right\":true}", 1, "`case_id`"),
            ("{\"case_id\":\"01\",\"right\":true}\n{\"case_id\":\"01\"}", 2, "right"),
            ("case_id,right\n01JW", 2, "1 fields"),
            ("case_id,right\n01JW,yes", 2, "right: \"yes\""),
            ("case_id,correct\n01JW,true", 2, "correct"),
        ] {
            let bad = parse(text).unwrap_err();
            assert_eq!(bad.line, line, "{text}");
            assert!(bad.to_string().contains(told), "{bad}");
        }
    }
}
