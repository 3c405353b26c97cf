//! Validates a file against the JSON Schema of its type, and messages the violations for the operator.
//!
//! Messages never quote text from the file: it may be a password in the wrong place.

use std::collections::BTreeSet;

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::Value;

use super::{Document, Fault, FieldPath, Step};
use crate::{message, message::Message};

/// Messages and rules for one kind of file that its schema cannot express.
pub struct Messages {
    /// Messages for strings that do not match a pattern.
    pub patterns: &'static [Pattern],
    /// Message and remedy for an array with too few elements, by its key, the actual and the required length.
    pub too_few: fn(&str, usize, u64) -> Option<(Message, &'static str)>,
    /// True for an array element that is validated on its own: if it is faulty, the other elements are kept.
    pub is_independent: fn(&FieldPath) -> bool,
}

/// Messages for one `pattern` of the schema.
pub struct Pattern {
    /// The regular expression, exactly as in the schema.
    pub pattern: &'static str,
    /// What is wrong with a string that does not match.
    pub message: &'static str,
    /// What to write instead.
    pub remedy: &'static str,
    /// Placeholder for a faulty string while the rest is read; the field's type must deserialize from it.
    pub placeholder: &'static str,
}

/// No messages beyond the generic ones.
pub const NO_MESSAGES: Messages = Messages {
    patterns: &[],
    too_few: |_, _, _| None,
    is_independent: |_| false,
};

/// The JSON Schema (draft 2020-12) of `T` as written in TOML.
pub fn generate<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12()
        .with_transform(RecursiveTransform(plain))
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// Removes the null alternatives that `Option` adds: TOML has no null, and they would only blur the errors.
fn plain(schema: &mut Schema) {
    let Some(map) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|t| t != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            map.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(any)) = map.get_mut("anyOf") {
        any.retain(|s| s.get("type") != Some(&Value::from("null")));
        if let [Value::Object(one)] = any.as_slice() {
            let one = one.clone();
            map.remove("anyOf");
            map.extend(one);
        }
    }
    match map.get_mut("default") {
        Some(Value::Null) => drop(map.remove("default")),
        Some(Value::Object(fields)) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(shorten);
        }
        Some(number) => shorten(number),
        None => {}
    }
}

/// Writes an `f32` of 0.3 as 0.3 instead of 0.30000001192092896; other values stay as they are.
pub fn shorten(value: &mut Value) {
    let short = value.as_f64().filter(|x| f64::from(*x as f32) == *x && value.is_f64());
    if let Some(short) = short.and_then(|x| (x as f32).to_string().parse::<f64>().ok()) {
        *value = short.into();
    }
}

/// A file's content with everything that violates the schema removed or replaced.
///
/// A required field that is faulty or missing gets a placeholder of the right type, so that the rest of its table can still be
/// read. Callers must check [`invalid`](Self::invalid) before using a field. A faulty element of an array of tables becomes
/// `null`, so that the other elements keep their indices.
pub struct Sanitized {
    /// The content, which deserializes as `T` except for `null` elements.
    pub value: Value,
    /// Paths of the values that were removed or replaced by a placeholder.
    pub invalid: BTreeSet<FieldPath>,
}

/// Validates `document` against the schema of `T`: adds every violation to `faults` and returns the usable content.
pub fn check<T: JsonSchema>(document: &Document, messages: &Messages, faults: &mut Vec<Fault>) -> Sanitized {
    let schema = generate::<T>();
    let validator = match jsonschema::validator_for(&schema) {
        Ok(validator) => validator,
        // The schema is generated from our own types and covered by a test; without it the file cannot be validated.
        Err(e) => {
            faults.push(document.fault(
                &FieldPath::default(),
                message!("internal error: invalid schema: {e}", e = e.to_string()),
                "report this as a bug",
            ));
            return Sanitized {
                value: Value::Null,
                invalid: BTreeSet::new(),
            };
        }
    };
    let mut sanitized = Sanitized {
        value: document.value.clone(),
        invalid: BTreeSet::new(),
    };
    for at in null_paths(&document.value) {
        sanitized.remove(messages, at);
    }
    for error in validator
        .iter_errors(&document.value)
        .filter(|e| !e.instance().is_null())
    {
        report(document, messages, &schema, &error, faults);
    }
    // Removing a field may leave its table without a required one, and a placeholder may itself lack required fields.
    loop {
        let errors: Vec<_> = validator
            .iter_errors(&sanitized.value)
            .filter(|e| !e.instance().is_null())
            .map(|e| e.to_owned())
            .collect();
        let before = sanitized.value.clone();
        for error in errors {
            sanitized.repair(messages, &schema, &error);
        }
        if sanitized.value == before {
            return sanitized;
        }
    }
}

impl Sanitized {
    fn repair(&mut self, messages: &Messages, schema: &Value, error: &ValidationError<'_>) {
        let at = place(error, &self.value);
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                unexpected.iter().for_each(|key| self.remove(messages, at.key(key)))
            }
            Kind::Required { property } => {
                let Some(key) = property.as_str() else { return };
                let of = siblings(schema, error, "properties").and_then(|p| p.get(key));
                if let (Some(of), Some(Value::Object(table))) = (of, at.get_mut(&mut self.value)) {
                    table.insert(key.to_owned(), placeholder(messages, schema, of));
                    self.invalid.insert(at.key(key));
                }
            }
            // A placeholder only has to deserialize; it need not satisfy the schema.
            _ if self.invalid.contains(&at) => {}
            _ => self.remove(messages, at),
        }
    }

    fn remove(&mut self, messages: &Messages, mut at: FieldPath) {
        while let Some((parent, last)) = at.split() {
            match last {
                Step::Index(_) if (messages.is_independent)(&at) => {
                    if let Some(v) = at.get_mut(&mut self.value) {
                        *v = Value::Null;
                    }
                    self.invalid.insert(at);
                    return;
                }
                // An array without one of its elements (a polygon without a corner) is not usable: remove the whole array.
                Step::Index(_) => at = parent,
                Step::Key(key) => {
                    if let Some(map) = parent.get_mut(&mut self.value).and_then(Value::as_object_mut) {
                        map.remove(key);
                    }
                    self.invalid.insert(at);
                    return;
                }
            }
        }
    }
}

fn null_paths(value: &Value) -> Vec<FieldPath> {
    fn walk(value: &Value, at: &FieldPath, found: &mut Vec<FieldPath>) {
        match value {
            Value::Null => found.push(at.clone()),
            Value::Array(a) => a.iter().enumerate().for_each(|(i, v)| walk(v, &at.index(i), found)),
            Value::Object(o) => o.iter().for_each(|(k, v)| walk(v, &at.key(k), found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(value, &FieldPath::default(), &mut found);
    found
}

/// Path of the error in `value`. Parses the JSON pointer's text, because its segments would turn the key `0501` into an index.
fn place(error: &ValidationError<'_>, value: &Value) -> FieldPath {
    let mut at = FieldPath::default();
    for token in error.instance_path().as_str().split('/').skip(1) {
        let index = at.get(value).filter(|v| v.is_array()).and_then(|_| token.parse().ok());
        at = match index {
            Some(index) => at.index(index),
            None => at.key(&token.replace("~1", "/").replace("~0", "~")),
        };
    }
    at
}

/// A placeholder value of the type that the schema `of` requires.
fn placeholder(messages: &Messages, root: &Value, of: &Value) -> Value {
    if let Some(target) = of.get("$ref").and_then(Value::as_str) {
        let pointer = target.trim_start_matches('#');
        return root
            .pointer(pointer)
            .map_or(Value::Null, |of| placeholder(messages, root, of));
    }
    if let Some(first) = of.pointer("/oneOf/0/const").or_else(|| of.pointer("/enum/0")) {
        return first.clone();
    }
    match of.get("type").and_then(Value::as_str) {
        Some("string") => {
            let pattern = of.get("pattern").and_then(Value::as_str);
            let known = messages.patterns.iter().find(|p| Some(p.pattern) == pattern);
            known.map_or("", |p| p.placeholder).into()
        }
        Some("integer" | "number") => 0.into(),
        Some("boolean") => false.into(),
        Some("array") => Value::Array(Vec::new()),
        // Its own required fields are filled in the next round.
        Some("object") => Value::Object(serde_json::Map::new()),
        _ => Value::Null,
    }
}

/// Reports a validation error as one or more faults.
fn report(
    document: &Document,
    messages: &Messages,
    schema: &Value,
    error: &ValidationError<'_>,
    faults: &mut Vec<Fault>,
) {
    let at = place(error, &document.value);
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            // Values that became null were reported when the file was parsed.
            let unexpected = unexpected
                .iter()
                .filter(|key| error.instance().get(key).is_some_and(|v| !v.is_null()));
            let remedies = unknown_field_remedies(schema, error, unexpected);
            faults.extend(remedies.map(|(key, remedy)| document.fault(&at.key(key), "unknown field", remedy)));
        }
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let description = siblings(schema, error, "properties")
                .and_then(|p| p.get(name))
                .and_then(|p| p.get("description"))
                .and_then(Value::as_str)
                .unwrap_or_default();
            let remedy = message!("add it: {description}", description = one_line(description));
            faults.push(document.fault(&at.key(name), "missing", remedy));
        }
        _ => {
            let (message, remedy) = describe(messages, schema, error, &at);
            faults.push(document.fault(&at, message, remedy));
        }
    }
}

/// A remedy for each unknown field: the field that was probably meant, or all valid ones.
fn unknown_field_remedies<'k>(
    schema: &Value,
    error: &ValidationError<'_>,
    unexpected: impl Iterator<Item = &'k String>,
) -> impl Iterator<Item = (&'k str, Message)> {
    let known: Vec<&str> = siblings(schema, error, "properties")
        .and_then(Value::as_object)
        .map(|p| p.keys().map(String::as_str).collect())
        .unwrap_or_default();
    unexpected.map(move |key| {
        let remedy = match nearest(key, known.iter().copied()) {
            Some(near) => message!("did you mean `{near}`?", near = near.to_string()),
            None => message!("remove it; valid fields: {known}", known = known.join(", ")),
        };
        (key.as_str(), remedy)
    })
}

/// Message and remedy for an error of the value at `at` itself.
fn describe(messages: &Messages, schema: &Value, error: &ValidationError<'_>, at: &FieldPath) -> (Message, Message) {
    let length = || error.instance().as_array().map_or(0, Vec::len);
    match error.kind() {
        Kind::Type { kind } => (type_mismatch(kind, error.instance().as_ref()), Message::default()),
        Kind::Enum { options } => ("unknown value".into(), choose(options, error)),
        Kind::OneOfNotValid { .. } | Kind::Constant { .. } => {
            let options: Vec<Value> = schema
                .pointer(error.schema_path().as_str())
                .and_then(Value::as_array)
                .map(|list| list.iter().filter_map(|o| o.get("const").cloned()).collect())
                .unwrap_or_default();
            ("unknown value".into(), choose(&Value::Array(options), error))
        }
        Kind::Minimum { limit } => (
            message!(
                "{instance} is below the minimum of {limit}",
                instance = error.instance().to_string(),
                limit = limit.to_string()
            ),
            range(schema, error),
        ),
        Kind::Maximum { limit } => (
            message!(
                "{instance} is above the maximum of {limit}",
                instance = error.instance().to_string(),
                limit = limit.to_string()
            ),
            range(schema, error),
        ),
        Kind::MinItems { limit } => {
            let got = length();
            let custom = match at.steps().last() {
                Some(Step::Key(key)) => (messages.too_few)(key, got, *limit),
                _ => None,
            };
            let (message, remedy) = custom.unwrap_or_else(|| {
                let message = message!(
                    "{got} entries, at least {limit} required",
                    got = got.to_string(),
                    limit = limit.to_string()
                );
                (message, "add the missing entries")
            });
            (message, remedy.into())
        }
        Kind::MaxItems { limit } => (
            message!(
                "{length} entries, at most {limit} allowed",
                length = length().to_string(),
                limit = limit.to_string()
            ),
            Message::default(),
        ),
        Kind::MinLength { .. } => ("must not be empty".into(), "enter a value".into()),
        Kind::Pattern { pattern } => match messages.patterns.iter().find(|p| p.pattern == pattern) {
            Some(known) => (known.message.into(), known.remedy.into()),
            None => (
                message!("does not match the pattern {pattern}", pattern = pattern.to_string()),
                Message::default(),
            ),
        },
        // Kinds that our types do not produce today: the validator's own message, without the value.
        _ => (error.masked().to_string().into(), Message::default()),
    }
}

fn type_mismatch(kind: &TypeKind, value: &Value) -> Message {
    let expected = match kind {
        TypeKind::Single(t) => plain_type(&t.to_string()),
        TypeKind::Multiple(_) => "a different type",
    };
    let found = match value {
        Value::String(_) => "a string",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a float",
        Value::Number(_) => "an integer",
        Value::Array(_) => "an array",
        Value::Object(_) => "a table",
        Value::Null => "null",
    };
    message!(
        "expected {expected}, found {found}",
        expected = Message::from(expected),
        found = Message::from(found)
    )
}

/// The value of another keyword in the schema object whose keyword failed.
fn siblings<'s>(schema: &'s Value, error: &ValidationError<'_>, keyword: &str) -> Option<&'s Value> {
    let path = error.schema_path().as_str();
    schema.pointer(&path[..path.rfind('/')?])?.get(keyword)
}

fn range(schema: &Value, error: &ValidationError<'_>) -> Message {
    match (siblings(schema, error, "minimum"), siblings(schema, error, "maximum")) {
        (Some(min), Some(max)) => message!(
            "use a number from {min} to {max}",
            min = min.to_string(),
            max = max.to_string()
        ),
        _ => Message::default(),
    }
}

fn choose(options: &Value, error: &ValidationError<'_>) -> Message {
    let options: Vec<&str> = options
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let near = error
        .instance()
        .as_str()
        .and_then(|v| nearest(v, options.iter().copied()));
    match near {
        Some(near) => message!(
            "did you mean \"{near}\"? Valid values: {options}",
            near = near.to_string(),
            options = options.join(", ")
        ),
        None => message!("use one of: {options}", options = options.join(", ")),
    }
}

fn plain_type(json: &str) -> &'static str {
    match json {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "a boolean (true or false)",
        "array" => "an array",
        "object" => "a table",
        _ => "another type",
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The known name that `name` most likely misspells: the nearest by Damerau–Levenshtein distance, at most a third of its length.
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let allowed = name.chars().count() / 3;
    known
        .map(|k| (strsim::damerau_levenshtein(&name.to_lowercase(), &k.to_lowercase()), k))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, k)| k)
}
