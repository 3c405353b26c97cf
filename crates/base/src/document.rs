//! A TOML file that a person typed: as a JSON value that remembers its lines (`Document`), held against the JSON Schema of
//! its type ([`schema`]), and every [`Fault`] in it told at once, with its place and what to do.
//!
//! Configurations, model manifests and baselines of signs are read with it. It knows none of them: what a kind of file needs
//! said in its own words comes as `schema::Words`.
//!
//! JSON, because the schema validator and the checks speak it. A value that JSON cannot hold (a date, `nan`, a number past
//! 64 bits) is a fault here and becomes `null`, which everything later passes over: TOML has no null of its own.

pub mod fault;
pub mod schema;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub use self::fault::{Fault, Faults};

/// The way to a value: keys and indices, outermost first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct At(Vec<Step>);

/// One step of the way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Into a table.
    Key(String),
    /// Into an array.
    Index(usize),
}

impl At {
    pub fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.into()));
        Self(steps)
    }

    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// Where it lies, and the last step there; `None` for the whole document.
    pub fn split(&self) -> Option<(Self, &Step)> {
        let (last, parents) = self.0.split_last()?;
        Some((Self(parents.to_vec()), last))
    }

    pub fn starts_with(&self, head: &Self) -> bool {
        self.0.starts_with(&head.0)
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The value there.
    pub fn of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |v, step| match step {
            Step::Key(k) => v.get(k),
            Step::Index(i) => v.get(i),
        })
    }

    /// The value there, to change it.
    pub fn of_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        self.0.iter().try_fold(value, |v, step| match step {
            Step::Key(k) => v.get_mut(k),
            Step::Index(i) => v.get_mut(i),
        })
    }
}

impl FromIterator<Step> for At {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

impl std::fmt::Display for At {
    /// As people write it: `cameras[3].zones[0].polygon`. A key that is no bare TOML key is quoted.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(n) => write!(f, "[{n}]")?,
                Step::Key(k) => {
                    if i > 0 {
                        f.write_str(".")?;
                    }
                    let bare = !k.is_empty() && k.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                    if bare { f.write_str(k)? } else { write!(f, "{k:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// A TOML file, read.
#[derive(Debug)]
pub struct Document {
    /// As the operator would type it.
    pub file: PathBuf,
    /// Its bytes; empty where it could not be read.
    pub bytes: Vec<u8>,
    /// What it says.
    pub value: Value,
    lines: BTreeMap<At, usize>,
}

impl Document {
    /// Reads `file`. `Err` holds every reason why it is no TOML.
    pub fn read(file: &Path) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let bytes = fs::read(file).map_err(|e| {
            vec![Fault::whole(
                file,
                format!("cannot be read: {e}"),
                "name an existing file that this user may read",
            )]
        })?;
        Self::parse(file, bytes)
    }

    /// The same of what was read from `file` already.
    pub fn parse(file: &Path, bytes: Vec<u8>) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let text = std::str::from_utf8(&bytes).map_err(|e| {
            let message = format!("byte {} is not UTF-8", e.valid_up_to());
            vec![Fault::whole(file, message, "save the file as UTF-8")]
        })?;
        let (table, errors) = DeTable::parse_recoverable(text);
        let line_of = Lines::new(text);
        if !errors.is_empty() {
            let mut faults: Vec<Fault> = errors
                .iter()
                .map(|e| Fault {
                    line: e.span().map(|s| line_of.at(s.start)),
                    ..Fault::whole(
                        file,
                        format!("not TOML: {}", e.message().replace('\n', ", ")),
                        "mend the syntax; nothing else of the file can be checked before that",
                    )
                })
                .collect();
            faults.sort_by_key(|f| f.line);
            return Err(faults);
        }
        let mut reader = Reader {
            line_of,
            lines: BTreeMap::new(),
            faults: Vec::new(),
        };
        let value = reader.table(table.get_ref(), &At::default());
        let Reader { lines, faults, .. } = reader;
        let document = Self {
            file: file.into(),
            value,
            lines,
            bytes: Vec::new(),
        };
        let faults = faults
            .into_iter()
            .map(|(at, message, remedy)| document.fault(&at, message, remedy))
            .collect();
        Ok((Self { bytes, ..document }, faults))
    }

    /// The line of `at`, or of the nearest thing around it that is written down.
    pub fn line(&self, at: &At) -> Option<usize> {
        (0..=at.0.len())
            .rev()
            .find_map(|n| self.lines.get(&At(at.0[..n].to_vec())).copied())
    }

    /// A fault at `at`.
    pub fn fault(&self, at: &At, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault {
            path: at.to_string(),
            file: self.file.clone(),
            line: self.line(at),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// Byte offset to line.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(
            text.bytes()
                .enumerate()
                .filter(|(_, b)| *b == b'\n')
                .map(|(i, _)| i)
                .collect(),
        )
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|newline| *newline < offset) + 1
    }
}

struct Reader {
    line_of: Lines,
    lines: BTreeMap<At, usize>,
    faults: Vec<(At, String, &'static str)>,
}

impl Reader {
    fn table(&mut self, table: &DeTable<'_>, at: &At) -> Value {
        let mut map = Map::new();
        for (key, value) in table {
            let here = at.key(key.get_ref());
            self.lines.insert(here.clone(), self.line_of.at(key.span().start));
            let value = self.value(value, &here);
            map.insert(key.get_ref().to_string(), value);
        }
        Value::Object(map)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, at: &At) -> Value {
        match value.get_ref() {
            DeValue::String(s) => Value::String(s.to_string()),
            DeValue::Boolean(b) => Value::Bool(*b),
            DeValue::Table(t) => self.table(t, at),
            DeValue::Array(a) => Value::Array(
                a.iter()
                    .enumerate()
                    .map(|(i, v)| {
                        let here = at.index(i);
                        self.lines.insert(here.clone(), self.line_of.at(v.span().start));
                        self.value(v, &here)
                    })
                    .collect(),
            ),
            DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
                Ok(n) => Value::from(n),
                Err(_) => self.refuse(at, "a number past 64 bits", "write a smaller one"),
            },
            DeValue::Float(x) => match x.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
                Some(x) => Value::Number(x),
                None => self.refuse(at, "not a finite number", "write a number with digits"),
            },
            DeValue::Datetime(_) => self.refuse(at, "a date or a time, which no field takes", "put text in quotes"),
        }
    }

    fn refuse(&mut self, at: &At, message: &str, remedy: &'static str) -> Value {
        self.faults.push((at.clone(), message.into(), remedy));
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Document, Vec<Fault>), Vec<Fault>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        fs::write(&file, text).unwrap();
        Document::read(&file)
    }

    #[test]
    fn keys_tables_and_elements_know_their_lines() {
        let (doc, faults) =
            read("top = 1\n\n[[cameras]]\nid = 'a'\n\n[[cameras]]\nid = 'b'\nzones = [\n  { id = 'z' },\n]\n").unwrap();
        assert!(faults.is_empty());
        let cameras = At::default().key("cameras");
        assert_eq!(doc.line(&At::default().key("top")), Some(1));
        assert_eq!(doc.line(&cameras.index(1)), Some(6));
        assert_eq!(doc.line(&cameras.index(1).key("id")), Some(7));
        assert_eq!(doc.line(&cameras.index(1).key("zones").index(0).key("id")), Some(9));
        assert_eq!(
            doc.line(&cameras.index(1).key("url")),
            Some(6),
            "a missing field is its table's"
        );
        assert_eq!(cameras.index(1).key("a b").to_string(), "cameras[1].\"a b\"");
    }

    #[test]
    fn every_syntax_error_is_told() {
        let faults = read("a = \nb = 'ok'\nc = = 2\n").unwrap_err();
        let lines: std::collections::BTreeSet<_> = faults.iter().filter_map(|f| f.line).collect();
        assert_eq!(lines, [1, 3].into());
    }

    #[test]
    fn what_json_cannot_hold_is_told_and_passed_over() {
        let (doc, faults) = read("a = nan\nb = 2026-01-01\nc = 99999999999999999999\nd = 0xff\n").unwrap();
        assert_eq!(faults.len(), 3);
        assert_eq!(doc.value["d"], 255);
        assert!(doc.value["a"].is_null() && doc.value["b"].is_null() && doc.value["c"].is_null());
    }
}
