//! Templates that turn case records into a platform's own JSON: its field names, codes and nesting.
//!
//! A template is JSON of the wanted form. In its strings, `${path}` stands for a value of the record
//! ([`CaseRecord`](super::CaseRecord), `configs/schema/case.schema.json`). A string that consists of a single `${path}`
//! becomes the value with its type. `${sealed}` is the signed record itself, as a string. Three objects are operators:
//!
//! ```json
//! {"$each": "evidence", "as": {"id": "${.id}", "case": "${case_id}"}}    an array; `${.path}` refers to the current item
//! {"$map": "${state}", "to": {"filed": 1, "withdrawn": 9}, "else": 0}    a value mapped to another; absent if unmapped and without `else`
//! {"$time": "${filed_at}", "format": "%Y-%m-%d %H:%M:%S"}                a time in strftime format
//! ```
//!
//! A member whose value is absent from the record is omitted; within a longer string an absent value is empty.

use jiff::fmt::strtime;
use serde_json::{Map, Value};

use super::MessageType;

/// A parsed template. Every path in it exists in the record's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Node);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Literal(Value),
    /// A value of the record, with its type.
    Value(Path),
    /// A string with interpolated values.
    Text(Vec<Piece>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
    Each(Path, Box<Node>),
    Map(Path, Map<String, Value>, Option<Box<Node>>),
    Time(Path, String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Value(Path),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Path {
    /// Starts at the current item of the innermost `$each` instead of the record.
    of_item: bool,
    steps: Vec<String>,
}

/// An error in a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct TemplateFault {
    /// JSON pointer to the place in the template.
    pub at: String,
    /// What is wrong and how to fix it.
    pub what: String,
}

/// The path that stands for the signed record as a string.
const SEALED: &str = "sealed";

/// Most paths in a template. With at most one list within another's items and the signed record outside of lists, this bounds a message
/// to a few hundred times the record, whatever the template says.
const MAX_PATHS: usize = 500;

impl Template {
    /// Parses a template and checks every path against the record's schema.
    ///
    /// # Errors
    /// Every fault in the template.
    pub fn parse(text: &str) -> Result<Self, Vec<TemplateFault>> {
        let value: Value = serde_json::from_str(text).map_err(|e| {
            vec![TemplateFault {
                at: "/".into(),
                what: format!("invalid JSON: {e}"),
            }]
        })?;
        let schema = serde_json::from_str(&MessageType::Case.schema()).unwrap_or_default();
        let mut parser = Parser {
            schema: &schema,
            faults: Vec::new(),
            paths: 0,
        };
        let node = parser.node(&value, "", None);
        if parser.faults.is_empty() {
            Ok(Self(node))
        } else {
            Err(parser.faults)
        }
    }

    /// Fills the template from `sealed`, a signed record as JSON.
    pub fn fill(&self, sealed: &str) -> String {
        let mut record: Value = serde_json::from_str(sealed).unwrap_or_default();
        if let Value::Object(members) = &mut record {
            members.insert(SEALED.into(), sealed.into());
        }
        fill(&self.0, &record, None).unwrap_or_default().to_string()
    }
}

fn fill(node: &Node, record: &Value, item: Option<&Value>) -> Option<Value> {
    let at = |path: &Path| path.of(record, item);
    match node {
        Node::Literal(value) => Some(value.clone()),
        Node::Value(path) => at(path).cloned(),
        Node::Text(pieces) => {
            let text = pieces.iter().map(|piece| match piece {
                Piece::Literal(text) => text.clone(),
                Piece::Value(path) => at(path).map(plain).unwrap_or_default(),
            });
            Some(text.collect::<String>().into())
        }
        Node::List(nodes) => Some(nodes.iter().filter_map(|n| fill(n, record, item)).collect()),
        Node::Object(members) => {
            let filled = members
                .iter()
                .filter_map(|(name, n)| Some((name.clone(), fill(n, record, item)?)));
            Some(Value::Object(filled.collect()))
        }
        Node::Each(path, node) => {
            let items = at(path).and_then(Value::as_array);
            let filled = items.into_iter().flatten().filter_map(|i| fill(node, record, Some(i)));
            Some(filled.collect())
        }
        Node::Map(path, to, otherwise) => {
            let known = at(path).and_then(|value| to.get(&plain(value))).cloned();
            known.or_else(|| fill(otherwise.as_deref()?, record, item))
        }
        Node::Time(path, format) => {
            let time = zoned(at(path)?.as_str()?)?;
            strtime::format(format, &time).ok().map(Into::into)
        }
    }
}

/// Parses an RFC 3339 time, keeping its UTC offset.
fn zoned(text: &str) -> Option<jiff::Zoned> {
    let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset()?;
    let at: jiff::Timestamp = text.parse().ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::fixed(offset)))
}

/// A value as it appears within a string.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Path {
    fn of<'a>(&self, record: &'a Value, item: Option<&'a Value>) -> Option<&'a Value> {
        let start = if self.of_item { item? } else { record };
        self.steps.iter().try_fold(start, |value, step| match value {
            Value::Array(values) => values.get(step.parse::<usize>().ok()?),
            other => other.get(step),
        })
    }
}

/// Parses a template, collecting faults.
struct Parser<'a> {
    schema: &'a Value,
    faults: Vec<TemplateFault>,
    /// Paths so far.
    paths: usize,
}

impl Parser<'_> {
    fn fault(&mut self, at: &str, what: impl Into<String>) {
        self.faults.push(TemplateFault {
            at: if at.is_empty() { "/".into() } else { at.into() },
            what: what.into(),
        });
    }

    /// Parses one value; `item` is the schema of the items of the innermost `$each`.
    fn node(&mut self, value: &Value, at: &str, item: Option<&Value>) -> Node {
        match value {
            Value::String(text) => self.text(text, at, item),
            Value::Array(values) => {
                let nodes = values.iter().enumerate();
                Node::List(nodes.map(|(i, v)| self.node(v, &format!("{at}/{i}"), item)).collect())
            }
            Value::Object(members) => self.object(members, at, item),
            other => Node::Literal(other.clone()),
        }
    }

    fn object(&mut self, members: &Map<String, Value>, at: &str, item: Option<&Value>) -> Node {
        let Some((key, _)) = members.iter().find(|(name, _)| name.starts_with('$')) else {
            let nodes = members.iter();
            return Node::Object(
                nodes
                    .map(|(name, v)| (name.clone(), self.node(v, &format!("{at}/{name}"), item)))
                    .collect(),
            );
        };
        let (needed, optional): (&[&str], &[&str]) = match key.as_str() {
            "$each" => (&["$each", "as"], &[]),
            "$map" => (&["$map", "to"], &["else"]),
            "$time" => (&["$time", "format"], &[]),
            other => {
                self.fault(at, format!("unknown operator {other:?}; use $each, $map or $time"));
                return Node::Literal(Value::Null);
            }
        };
        for name in members
            .keys()
            .filter(|n| !needed.contains(&n.as_str()) && !optional.contains(&n.as_str()))
        {
            self.fault(
                at,
                format!("unknown member {name:?} of {key}; it requires {}", needed.join(", ")),
            );
        }
        if let Some(missing) = needed.iter().find(|n| !members.contains_key(**n)) {
            self.fault(at, format!("{key} requires the member {missing:?}"));
            return Node::Literal(Value::Null);
        }
        let path = |this: &mut Self| this.path_of(&members[key], &format!("{at}/{key}"), item);
        match key.as_str() {
            "$each" => {
                let Some((path, schema)) = path(self) else {
                    return Node::Literal(Value::Null);
                };
                let items = schema.get("items").map(|s| self.resolved(s).clone());
                if items.is_none() {
                    self.fault(at, "$each requires the path of a list");
                }
                if item.is_some() && !path.of_item {
                    self.fault(
                        at,
                        "an $each inside another requires a list of its item: a path that starts with a dot",
                    );
                }
                let node = self.node(&members["as"], &format!("{at}/as"), items.as_ref());
                Node::Each(path, Box::new(node))
            }
            "$map" => {
                let Some((path, _)) = path(self) else {
                    return Node::Literal(Value::Null);
                };
                let Value::Object(to) = &members["to"] else {
                    self.fault(
                        at,
                        "\"to\" must be an object that maps values of the record to new values",
                    );
                    return Node::Literal(Value::Null);
                };
                let otherwise = members.get("else").map(|v| self.node(v, &format!("{at}/else"), item));
                Node::Map(path, to.clone(), otherwise.map(Box::new))
            }
            _ => {
                let Some((path, _)) = path(self) else {
                    return Node::Literal(Value::Null);
                };
                let format = members["format"].as_str().unwrap_or_default();
                let example = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
                if let Err(e) = strtime::format(format, &example) {
                    self.fault(at, format!("\"format\" {format:?}: {e}"));
                }
                Node::Time(path, format.into())
            }
        }
    }

    /// Parses an operator's path, with or without `${}`.
    fn path_of(&mut self, value: &Value, at: &str, item: Option<&Value>) -> Option<(Path, Value)> {
        let text = value.as_str().unwrap_or_default();
        let inner = text
            .strip_prefix("${")
            .and_then(|t| t.strip_suffix('}'))
            .unwrap_or(text);
        self.path(inner, at, item)
    }

    fn text(&mut self, text: &str, at: &str, item: Option<&Value>) -> Node {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            let Some((path, after)) = behind.split_once('}') else {
                self.fault(at, format!("unclosed \"${{\" in {text:?}"));
                return Node::Literal(Value::Null);
            };
            if !before.is_empty() {
                pieces.push(Piece::Literal(before.into()));
            }
            if let Some((path, _)) = self.path(path, at, item) {
                pieces.push(Piece::Value(path));
            }
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.into()));
        }
        match &pieces[..] {
            [Piece::Value(path)] => Node::Value(path.clone()),
            [] => Node::Literal("".into()),
            [Piece::Literal(text)] => Node::Literal(text.as_str().into()),
            _ => Node::Text(pieces),
        }
    }

    /// Parses a path and looks up the schema of its value.
    fn path(&mut self, text: &str, at: &str, item: Option<&Value>) -> Option<(Path, Value)> {
        let (of_item, names) = match text.strip_prefix('.') {
            Some(names) => (true, names),
            None => (false, text),
        };
        let steps: Vec<String> = names.split('.').map(Into::into).collect();
        let path = Path { of_item, steps };
        self.paths += 1;
        if self.paths == MAX_PATHS + 1 {
            self.fault(at, format!("more than {MAX_PATHS} paths in the template"));
        }
        if names == SEALED && !of_item {
            if item.is_some() {
                self.fault(
                    at,
                    "the signed record cannot be repeated for each item; put it outside of the $each",
                );
            }
            return Some((path, Value::Null));
        }
        let start = match (of_item, item) {
            (true, None) => {
                self.fault(at, format!("${{{text}}} refers to an item, but is not inside an $each"));
                return None;
            }
            (true, Some(item)) => item.clone(),
            (false, _) => self.schema.clone(),
        };
        let mut schema = self.resolved(&start).clone();
        for step in &path.steps {
            let is_index = step.parse::<usize>().is_ok();
            let next = if is_index {
                schema.get("items")
            } else {
                schema.get("properties").and_then(|p| p.get(step))
            };
            let Some(next) = next else {
                let known = schema.get("properties").and_then(Value::as_object);
                let known: Vec<&str> = known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                let near = gridwatch_base::document::schema::nearest(step, known.iter().copied());
                let hint = near.map_or_else(
                    || "see configs/schema/case.schema.json".into(),
                    |near| format!("did you mean {near:?}?"),
                );
                self.fault(at, format!("unknown path ${{{text}}}: no field {step:?}; {hint}"));
                return None;
            };
            schema = self.resolved(next).clone();
        }
        Some((path, schema))
    }

    /// Follows `$ref`, and takes the non-null alternative of an optional value.
    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            return name
                .strip_prefix('#')
                .and_then(|pointer| self.schema.pointer(pointer))
                .unwrap_or(schema);
        }
        let options = schema.get("anyOf").and_then(Value::as_array);
        let some = options
            .into_iter()
            .flatten()
            .find(|o| o.get("type") != Some(&"null".into()));
        some.map_or(schema, |s| self.resolved(s))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record() -> String {
        let file = format!("{}/../../tests/fixtures/contract/case.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(file).unwrap()
    }

    fn filled(template: &Value) -> Value {
        let template = Template::parse(&template.to_string()).unwrap_or_else(|e| panic!("{e:?}"));
        serde_json::from_str(&template.fill(&record())).unwrap()
    }

    #[test]
    fn a_template_renames_nests_maps_and_formats_values() {
        let made = filled(&json!({
            "taskInfo": {
                "外部案件号": "${case_id}",
                "问题来源": "7",
                "小类": "${category_code}",
                "状态": {"$map": "${state}", "to": {"filed": 1, "withdrawn": 9}},
                "采集时间": {"$time": "${confirmed_at}", "format": "%Y/%m/%d %H:%M:%S"},
                "coordinate": "${location.lon},${location.lat}",
                "x": "${location.lon}",
                "taskNo": "${platform_task_no}",
            },
            "media": {"$each": "evidence", "as": {"key": "${.sha256}", "of": "${case_id}", "type": {"$map": "${.role}", "to": {"scene": "A"}, "else": "B"}}},
            "first": "${evidence.0.id}",
        }));
        let whole: Value = serde_json::from_str(&record()).unwrap();
        assert_eq!(made["taskInfo"]["外部案件号"], whole["case_id"]);
        assert_eq!(
            (&made["taskInfo"]["状态"], &made["taskInfo"]["问题来源"]),
            (&json!(1), &json!("7"))
        );
        assert_eq!(made["taskInfo"]["采集时间"], "2026/05/01 10:16:40");
        assert_eq!(
            made["taskInfo"]["x"], whole["location"]["lon"],
            "a number keeps its type"
        );
        assert_eq!(made["taskInfo"]["coordinate"], "121.5,31.2");
        assert!(
            made["taskInfo"].get("taskNo").is_none(),
            "a member without a value is omitted"
        );
        let media = made["media"].as_array().unwrap();
        assert_eq!(media.len(), whole["evidence"].as_array().unwrap().len());
        assert_eq!(
            media[0],
            json!({"key": whole["evidence"][0]["sha256"], "of": whole["case_id"], "type": "A"})
        );
        assert_eq!(made["first"], whole["evidence"][0]["id"]);
    }

    #[test]
    fn sealed_inserts_the_signed_record() {
        let made = filled(&json!({"raw": "${sealed}"}));
        assert_eq!(made["raw"], record());
    }

    #[test]
    fn every_fault_is_reported_with_its_place() {
        let faults = Template::parse(
            &json!({
                "a": "${case_idd}",
                "b": ["${location.longitude}"],
                "c": "${case_id",
                "d": {"$each": "case_id", "as": 1},
                "e": {"$map": "${state}"},
                "f": "${.sha256}",
                "g": {"$loop": 1},
                "h": {"$time": "${filed_at}", "format": "%Q%"},
            })
            .to_string(),
        )
        .unwrap_err();
        let places: Vec<&str> = faults.iter().map(|f| f.at.as_str()).collect();
        assert_eq!(
            places,
            ["/a", "/b/0", "/c", "/d", "/e", "/f", "/g", "/h"],
            "{faults:#?}"
        );
        assert!(faults[0].what.contains("did you mean \"case_id\"?"), "{}", faults[0]);
        let bombs = Template::parse(
            &json!({
                "a": {"$each": "evidence", "as": {"$each": "evidence", "as": 1}},
                "b": {"$each": "evidence", "as": "${sealed}"},
                "c": vec!["${case_id}"; MAX_PATHS],
            })
            .to_string(),
        );
        let places: Vec<String> = bombs.unwrap_err().into_iter().map(|f| f.at).collect();
        assert_eq!(places, ["/a/as", "/b/as", &format!("/c/{}", MAX_PATHS - 4)]);
        assert!(Template::parse("{").unwrap_err()[0].what.contains("invalid JSON"));
    }
}
