//! The JSON Schema of the file, and what a file's breach of it means in plain words.
//!
//! The schema is generated from [`raw`] and checked in (`configs/schema/config.schema.json`) for editors and
//! for tools that write configurations. Breaches are told without the offending value: it may be a password in the wrong
//! place.

use std::collections::BTreeSet;

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::Value;

use super::{
    document::{At, Document, Step},
    fault::Fault,
    raw::{
        self, DATES_PATTERN, DAYS_PATTERN, ENV_PATTERN, GB_ID_PATTERN, ID_PATTERN, SEASON_PATTERN, SPAN_PATTERN,
        TIME_PATTERN, VIEW_PATTERN,
    },
};

/// The JSON Schema (draft 2020-12) of the configuration file.
pub fn generate() -> Value {
    of::<raw::File>()
}

/// As it is checked in: pretty, with a newline at its end.
pub fn generate_text() -> String {
    format!("{:#}\n", generate())
}

pub(super) fn of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12()
        .with_transform(RecursiveTransform(plain))
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// TOML has no null: what an `Option` adds to its schema would only blur the errors.
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

/// An `f32` of 0.3 is 0.30000001192092896 in JSON; people wrote 0.3.
fn shorten(value: &mut Value) {
    let short = value.as_f64().filter(|x| f64::from(*x as f32) == *x && value.is_f64());
    if let Some(short) = short.and_then(|x| (x as f32).to_string().parse::<f64>().ok()) {
        *value = short.into();
    }
}

/// What is left of a file once everything that breaks the schema is taken out of it.
///
/// In place of what is required but faulty or missing stands a value of the right type that means nothing, so that the rest
/// of its table can still be read: whoever uses a field asks first whether it was [`taken`](Self::taken). A faulty element
/// of a list of tables is `null`, so that the others keep their indices.
pub(super) struct Sound {
    pub(super) value: Value,
    /// The places of what was taken out or put in.
    pub(super) taken: BTreeSet<At>,
}

/// Every breach of the schema of `T`, and what is sound.
pub(super) fn check<T: JsonSchema>(document: &Document, faults: &mut Vec<Fault>) -> Sound {
    let schema = of::<T>();
    let validator = match jsonschema::validator_for(&schema) {
        Ok(validator) => validator,
        // Generated from our own types and covered by a test; if it happens all the same, the file cannot be judged.
        Err(e) => {
            faults.push(document.fault(
                &At::default(),
                format!("the schema is broken: {e}"),
                "report this as a bug",
            ));
            return Sound {
                value: Value::Null,
                taken: BTreeSet::new(),
            };
        }
    };
    let mut sound = Sound {
        value: document.value.clone(),
        taken: BTreeSet::new(),
    };
    for at in nulls(&document.value) {
        sound.take(at);
    }
    for error in validator
        .iter_errors(&document.value)
        .filter(|e| !e.instance().is_null())
    {
        tell(document, &schema, &error, faults);
    }
    // Taking a field out may leave its table without what it requires, and a stand-in may lack what it requires itself.
    loop {
        let errors: Vec<_> = validator
            .iter_errors(&sound.value)
            .filter(|e| !e.instance().is_null())
            .map(|e| e.to_owned())
            .collect();
        let before = sound.value.clone();
        for error in errors {
            sound.mend(&schema, &error);
        }
        if sound.value == before {
            return sound;
        }
    }
}

impl Sound {
    fn mend(&mut self, schema: &Value, error: &ValidationError<'_>) {
        let at = place(error, &self.value);
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => unexpected.iter().for_each(|key| self.take(at.key(key))),
            Kind::Required { property } => {
                let Some(key) = property.as_str() else { return };
                let of = siblings(schema, error, "properties").and_then(|p| p.get(key));
                if let (Some(of), Some(Value::Object(table))) = (of, at.of_mut(&mut self.value)) {
                    table.insert(key.to_owned(), stand_in(schema, of));
                    self.taken.insert(at.key(key));
                }
            }
            // A stand-in need not keep to the schema further than serde asks.
            _ if self.taken.contains(&at) => {}
            _ => self.take(at),
        }
    }

    fn take(&mut self, mut at: At) {
        while let Some((parent, last)) = at.split() {
            match last {
                Step::Index(_) if is_listed_table(&at) => {
                    if let Some(v) = at.of_mut(&mut self.value) {
                        *v = Value::Null;
                    }
                    self.taken.insert(at);
                    return;
                }
                // Half a polygon is none.
                Step::Index(_) => at = parent,
                Step::Key(key) => {
                    if let Some(map) = parent.of_mut(&mut self.value).and_then(Value::as_object_mut) {
                        map.remove(key);
                    }
                    self.taken.insert(at);
                    return;
                }
            }
        }
    }
}

/// `models[i]`, `schedules[i]`, `rules[i]`, `cameras[i]` and `cameras[i].zones[j]` are judged one by one.
fn is_listed_table(at: &At) -> bool {
    match at.steps() {
        [Step::Key(list), Step::Index(_)] => matches!(list.as_str(), "models" | "schedules" | "rules" | "cameras"),
        [Step::Key(list), Step::Index(_), Step::Key(zones), Step::Index(_)] => list == "cameras" && zones == "zones",
        _ => false,
    }
}

fn nulls(value: &Value) -> Vec<At> {
    fn walk(value: &Value, at: &At, found: &mut Vec<At>) {
        match value {
            Value::Null => found.push(at.clone()),
            Value::Array(a) => a.iter().enumerate().for_each(|(i, v)| walk(v, &at.index(i), found)),
            Value::Object(o) => o.iter().for_each(|(k, v)| walk(v, &at.key(k), found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(value, &At::default(), &mut found);
    found
}

/// Where in `value` the error lies. By the pointer's text: its segments would make a number of the key `0501`.
fn place(error: &ValidationError<'_>, value: &Value) -> At {
    let mut at = At::default();
    for token in error.instance_path().as_str().split('/').skip(1) {
        let index = at.of(value).filter(|v| v.is_array()).and_then(|_| token.parse().ok());
        at = match index {
            Some(index) => at.index(index),
            None => at.key(&token.replace("~1", "/").replace("~0", "~")),
        };
    }
    at
}

/// A value of the type that `of` asks for.
fn stand_in(root: &Value, of: &Value) -> Value {
    if let Some(target) = of.get("$ref").and_then(Value::as_str) {
        let pointer = target.trim_start_matches('#');
        return root.pointer(pointer).map_or(Value::Null, |of| stand_in(root, of));
    }
    if let Some(first) = of.pointer("/oneOf/0/const").or_else(|| of.pointer("/enum/0")) {
        return first.clone();
    }
    match of.get("type").and_then(Value::as_str) {
        Some("string") if of.get("pattern").and_then(Value::as_str) == Some(SPAN_PATTERN) => "1s".into(),
        Some("string") => "".into(),
        Some("integer" | "number") => 0.into(),
        Some("boolean") => false.into(),
        Some("array") => Value::Array(Vec::new()),
        // Its own required fields are mended in the next round.
        Some("object") => Value::Object(serde_json::Map::new()),
        _ => Value::Null,
    }
}

/// Puts an error into words.
fn tell(document: &Document, schema: &Value, error: &ValidationError<'_>, faults: &mut Vec<Fault>) {
    let at = place(error, &document.value);
    let mut push = |at: &At, message: String, remedy: String| faults.push(document.fault(at, message, remedy));
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            let known = siblings(schema, error, "properties");
            let known: Vec<&str> = known
                .and_then(Value::as_object)
                .map(|p| p.keys().map(String::as_str).collect())
                .unwrap_or_default();
            // What JSON cannot hold was told already.
            for key in unexpected
                .iter()
                .filter(|k| error.instance().get(k).is_some_and(|v| !v.is_null()))
            {
                let remedy = match nearest(key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("remove it; known here: {}", known.join(", ")),
                };
                push(&at.key(key), "unknown field".into(), remedy);
            }
        }
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let what = siblings(schema, error, "properties")
                .and_then(|p| p.get(name))
                .and_then(|p| p.get("description"))
                .and_then(Value::as_str)
                .unwrap_or_default();
            push(&at.key(name), "missing".into(), format!("add it: {}", one_line(what)));
        }
        Kind::Type { kind } => {
            let wanted = match kind {
                TypeKind::Single(t) => plain_type(&t.to_string()),
                TypeKind::Multiple(_) => "of another type",
            };
            let given = match error.instance().as_ref() {
                Value::String(_) => "text",
                Value::Bool(_) => "true or false",
                Value::Number(n) if n.is_f64() => "a number with a fraction",
                Value::Number(_) => "a number",
                Value::Array(_) => "a list",
                Value::Object(_) => "a table",
                Value::Null => "nothing",
            };
            push(&at, format!("is {given}, must be {wanted}"), String::new());
        }
        Kind::Enum { options } => push(&at, "not one of the known values".into(), choose(options, error)),
        Kind::OneOfNotValid { .. } | Kind::Constant { .. } => {
            let options: Vec<Value> = schema
                .pointer(error.schema_path().as_str())
                .and_then(Value::as_array)
                .map(|list| list.iter().filter_map(|o| o.get("const").cloned()).collect())
                .unwrap_or_default();
            push(
                &at,
                "not one of the known values".into(),
                choose(&Value::Array(options), error),
            );
        }
        Kind::Minimum { limit } => push(
            &at,
            format!("{} is less than {limit}", error.instance()),
            range(schema, error),
        ),
        Kind::Maximum { limit } => push(
            &at,
            format!("{} is more than {limit}", error.instance()),
            range(schema, error),
        ),
        Kind::MinItems { limit } => {
            let got = error.instance().as_array().map_or(0, Vec::len);
            let (message, remedy) = match at.steps().last() {
                Some(Step::Key(k)) if k == "polygon" => (
                    format!("{got} points, a polygon needs {limit} or more"),
                    "list its corners in order, as fractions of the picture: [[0.1, 0.9], [0.5, 0.4], [0.9, 0.9]]",
                ),
                Some(Step::Key(k)) if k == "points" => (
                    format!("{got} point pairs, a calibration needs {limit} or more"),
                    "add pairs spread over the visible ground",
                ),
                _ => (format!("{got} entries, {limit} or more are needed"), "add one"),
            };
            push(&at, message, remedy.into());
        }
        Kind::MaxItems { limit } => {
            let got = error.instance().as_array().map_or(0, Vec::len);
            push(&at, format!("{got} entries, {limit} at most"), String::new());
        }
        Kind::MinLength { .. } => push(&at, "is empty".into(), "write something that names it".into()),
        Kind::Pattern { pattern } => {
            let (message, remedy) = match pattern.as_str() {
                ID_PATTERN => (
                    "not usable as a name",
                    "use 1 to 64 letters, digits, `-` and `_`: it becomes part of MQTT topics and file names",
                ),
                VIEW_PATTERN => (
                    "names no view",
                    "write the camera's id, or CAMERA.PRESET of one that turns",
                ),
                SPAN_PATTERN => (
                    "not a length of time",
                    "write numbers with units, the largest first: 500ms, 10s, 5m, 1h 30m",
                ),
                ENV_PATTERN => (
                    "not the name of an environment variable",
                    "name the variable that holds user:password, such as GRIDWATCH_CAMERA_GATE; never write the password here",
                ),
                TIME_PATTERN => ("not a time of day", "write hours and minutes: 06:00, 18:30, 24:00"),
                DAYS_PATTERN => (
                    "not days that are known",
                    "write mon … sun, a range such as mon-fri, or one of: daily, workday, restday, holiday",
                ),
                SEASON_PATTERN => (
                    "not a part of the year",
                    "write month and day, both included: 04-01..10-31",
                ),
                DATES_PATTERN => ("not a date", "write 2026-10-01, or 2026-10-01..2026-10-07"),
                GB_ID_PATTERN => ("not 20 digits", "write the camera's GB/T 28181 id as text of 20 digits"),
                other => {
                    push(&at, format!("does not match {other}"), String::new());
                    return;
                }
            };
            push(&at, message.into(), remedy.into());
        }
        // Kinds that our types do not produce today: told as the validator tells them, without the value.
        _ => push(&at, error.masked().to_string(), String::new()),
    }
}

/// Another keyword of the schema object whose keyword failed.
fn siblings<'s>(schema: &'s Value, error: &ValidationError<'_>, keyword: &str) -> Option<&'s Value> {
    let path = error.schema_path().as_str();
    schema.pointer(&path[..path.rfind('/')?])?.get(keyword)
}

fn range(schema: &Value, error: &ValidationError<'_>) -> String {
    match (siblings(schema, error, "minimum"), siblings(schema, error, "maximum")) {
        (Some(min), Some(max)) => format!("write a number from {min} to {max}"),
        _ => String::new(),
    }
}

fn choose(options: &Value, error: &ValidationError<'_>) -> String {
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
        Some(near) => format!("did you mean \"{near}\"? Known: {}", options.join(", ")),
        None => format!("write one of: {}", options.join(", ")),
    }
}

fn plain_type(json: &str) -> &'static str {
    match json {
        "string" => "text in quotes",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        _ => "left out",
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The known name that `name` was probably meant to be: at most a third of its letters differ (Damerau–Levenshtein).
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let allowed = name.chars().count() / 3;
    known
        .map(|k| (strsim::damerau_levenshtein(&name.to_lowercase(), &k.to_lowercase()), k))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, k)| k)
}
