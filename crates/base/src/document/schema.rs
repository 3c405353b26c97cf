//! A file held against the JSON Schema of its type, and what a breach of it means in plain words.
//!
//! Breaches are told without the offending value: it may be a password in the wrong place.

use std::collections::BTreeSet;

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use schemars::{JsonSchema, Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::Value;

use super::{At, Document, Fault, Step};

/// What the schema of a kind of file cannot say itself.
pub struct Words {
    /// What it means that a text does not match a pattern.
    pub patterns: &'static [Pattern],
    /// A list with too few elements: message and remedy, by the list's key, how many there are and how many are needed.
    pub too_few: fn(&str, usize, u64) -> Option<(String, &'static str)>,
    /// True for an element of a list whose elements are judged one by one: a faulty one does not take the others with it.
    pub is_listed: fn(&At) -> bool,
}

/// A pattern of the schema in words.
pub struct Pattern {
    /// As the schema has it.
    pub pattern: &'static str,
    /// What is wrong with a text that does not match.
    pub message: &'static str,
    /// What to write.
    pub remedy: &'static str,
    /// What stands in for a faulty text while the rest is read: something that its type can be made from.
    pub stand_in: &'static str,
}

/// For files whose schema says it all.
pub const NO_WORDS: Words = Words {
    patterns: &[],
    too_few: |_, _, _| None,
    is_listed: |_| false,
};

/// The JSON Schema (draft 2020-12) of `T` as a TOML file.
pub fn of<T: JsonSchema>() -> Value {
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
pub struct Sound {
    pub value: Value,
    /// The places of what was taken out or put in.
    pub taken: BTreeSet<At>,
}

/// Every breach of the schema of `T`, and what is sound.
pub fn check<T: JsonSchema>(document: &Document, words: &Words, faults: &mut Vec<Fault>) -> Sound {
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
        sound.take(words, at);
    }
    for error in validator
        .iter_errors(&document.value)
        .filter(|e| !e.instance().is_null())
    {
        tell(document, words, &schema, &error, faults);
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
            sound.mend(words, &schema, &error);
        }
        if sound.value == before {
            return sound;
        }
    }
}

impl Sound {
    fn mend(&mut self, words: &Words, schema: &Value, error: &ValidationError<'_>) {
        let at = place(error, &self.value);
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                unexpected.iter().for_each(|key| self.take(words, at.key(key)))
            }
            Kind::Required { property } => {
                let Some(key) = property.as_str() else { return };
                let of = siblings(schema, error, "properties").and_then(|p| p.get(key));
                if let (Some(of), Some(Value::Object(table))) = (of, at.of_mut(&mut self.value)) {
                    table.insert(key.to_owned(), stand_in(words, schema, of));
                    self.taken.insert(at.key(key));
                }
            }
            // A stand-in need not keep to the schema further than serde asks.
            _ if self.taken.contains(&at) => {}
            _ => self.take(words, at),
        }
    }

    fn take(&mut self, words: &Words, mut at: At) {
        while let Some((parent, last)) = at.split() {
            match last {
                Step::Index(_) if (words.is_listed)(&at) => {
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
fn stand_in(words: &Words, root: &Value, of: &Value) -> Value {
    if let Some(target) = of.get("$ref").and_then(Value::as_str) {
        let pointer = target.trim_start_matches('#');
        return root
            .pointer(pointer)
            .map_or(Value::Null, |of| stand_in(words, root, of));
    }
    if let Some(first) = of.pointer("/oneOf/0/const").or_else(|| of.pointer("/enum/0")) {
        return first.clone();
    }
    match of.get("type").and_then(Value::as_str) {
        Some("string") => {
            let pattern = of.get("pattern").and_then(Value::as_str);
            let known = words.patterns.iter().find(|p| Some(p.pattern) == pattern);
            known.map_or("", |p| p.stand_in).into()
        }
        Some("integer" | "number") => 0.into(),
        Some("boolean") => false.into(),
        Some("array") => Value::Array(Vec::new()),
        // Its own required fields are mended in the next round.
        Some("object") => Value::Object(serde_json::Map::new()),
        _ => Value::Null,
    }
}

/// Puts an error into words.
fn tell(document: &Document, words: &Words, schema: &Value, error: &ValidationError<'_>, faults: &mut Vec<Fault>) {
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
            let told = match at.steps().last() {
                Some(Step::Key(key)) => (words.too_few)(key, got, *limit),
                _ => None,
            };
            let (message, remedy) =
                told.unwrap_or_else(|| (format!("{got} entries, {limit} or more are needed"), "add one"));
            push(&at, message, remedy.into());
        }
        Kind::MaxItems { limit } => {
            let got = error.instance().as_array().map_or(0, Vec::len);
            push(&at, format!("{got} entries, {limit} at most"), String::new());
        }
        Kind::MinLength { .. } => push(&at, "is empty".into(), "write something that names it".into()),
        Kind::Pattern { pattern } => match words.patterns.iter().find(|p| p.pattern == pattern) {
            Some(known) => push(&at, known.message.into(), known.remedy.into()),
            None => push(&at, format!("does not match {pattern}"), String::new()),
        },
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
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let allowed = name.chars().count() / 3;
    known
        .map(|k| (strsim::damerau_levenshtein(&name.to_lowercase(), &k.to_lowercase()), k))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, k)| k)
}
