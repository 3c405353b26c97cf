//! Labels of cases given by people: JSON lines, or CSV with a header line. Both have the same fields: `right` and
//! either `case_id`, or `camera`, `rule`, `at` and the bounding box as `x1`, `y1`, `x2`, `y2`.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use gridwatch_engine::BBox;

/// A label.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseLabel {
    /// What the label is about.
    pub subject: LabelSubject,
    /// Whether it was a problem that should be filed.
    pub right: bool,
}

/// What a label is about.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelSubject {
    /// A case, by id.
    Case(String),
    /// An object in a picture, whether a case was opened for it or not.
    Object {
        /// Id of the camera.
        camera: String,
        /// Id of the rule.
        rule: String,
        /// A time at which it was visible.
        at: Timestamp,
        /// Bounding box, as fractions of the picture.
        bbox: BBox,
    },
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LabelError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong, and the expected format.
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

const LABEL_FORMAT: &str = "expected `right` (true or false) and either `case_id`, or `camera`, `rule`, `at` (RFC 3339), `x1`, `y1`, `x2` and `y2`";

/// Parses labels; empty lines are skipped.
///
/// # Errors
/// The first invalid line.
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
                None => serde_json::from_str(text).map_err(|e| bad(format!("{e}; {LABEL_FORMAT}")))?,
                Some(columns) => object(columns, text).map_err(bad)?,
            };
            let row = serde_json::from_value(value).map_err(|e| bad(format!("{e}; {LABEL_FORMAT}")))?;
            label(row).ok_or_else(|| bad(LABEL_FORMAT.into()))
        })
        .collect()
}

/// A line of CSV as a JSON object. Quoting is not supported, because no id or number needs it.
fn object(columns: &[String], text: &str) -> Result<Value, String> {
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    if fields.len() != columns.len() {
        return Err(format!(
            "{} fields, but the header has {}: {}",
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
            field => {
                serde_json::from_str(field).map_err(|_| format!("{column}: invalid value {field:?}; {LABEL_FORMAT}"))?
            }
        };
        object.insert(column.clone(), value);
    }
    Ok(Value::Object(object))
}

fn label(row: Row) -> Option<CaseLabel> {
    let subject = match row.case_id {
        Some(id) => LabelSubject::Case(id),
        None => LabelSubject::Object {
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
    fn json_and_csv_give_the_same_labels() {
        let json = r#"{"case_id":"01JW","right":true}

{"camera":"gate","rule":"garbage","at":"2025-06-15T08:00:00Z","x1":0.1,"y1":0.2,"x2":0.3,"y2":0.4,"right":false}"#;
        let csv = "case_id,right,camera,rule,at,x1,y1,x2,y2\n01JW,true,,,,,,,\n,false,gate,garbage,2025-06-15T08:00:00Z,0.1,0.2,0.3,0.4\n";
        let labels = parse(json).unwrap();
        assert_eq!(labels, parse(csv).unwrap());
        assert_eq!(labels.len(), 2);
        assert!(matches!(&labels[1].subject, LabelSubject::Object { camera, .. } if camera == "gate"));
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn an_invalid_line_is_reported_with_its_number() {
        for (text, line, reason) in [
            ("{\"right\":true}", 1, "`case_id`"),
            ("{\"case_id\":\"01\",\"right\":true}\n{\"case_id\":\"01\"}", 2, "right"),
            ("case_id,right\n01JW", 2, "1 fields"),
            ("case_id,right\n01JW,yes", 2, "right: invalid value \"yes\""),
            ("case_id,correct\n01JW,true", 2, "correct"),
        ] {
            let bad = parse(text).unwrap_err();
            assert_eq!(bad.line, line, "{text}");
            assert!(bad.to_string().contains(reason), "{bad}");
        }
    }
}
