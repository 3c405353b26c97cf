//! Hand-written TOML files, parsed into a JSON value with line numbers (`Document`) and validated against the JSON Schema of
//! their type ([`schema`]). Every [`Fault`] is reported at once, with its place and a remedy.
//!
//! Used for configurations, model manifests and approved-sign files, without knowledge of any of them: messages specific to
//! a kind of file are passed in as `schema::Messages`.
//!
//! Values are JSON because the schema validator and the checks work on JSON. A TOML value that JSON cannot represent (a date,
//! `nan`, an integer beyond 64 bits) is a fault and becomes `null`, which later steps ignore; TOML itself has no null.

pub mod fault;
mod merge;
pub mod schema;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub use self::fault::{Fault, Faults};
use crate::{file, message::Message};

/// Path to a value: keys and indices, outermost first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FieldPath(Vec<Step>);

/// One element of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A key of a table.
    Key(String),
    /// An index of an array.
    Index(usize),
}

impl FieldPath {
    /// The path of `key` in the table at this path.
    pub fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.into()));
        Self(steps)
    }

    /// The path of element `index` in the array at this path.
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// The parent path and the last step; `None` for the document itself.
    pub fn split(&self) -> Option<(Self, &Step)> {
        let (last, parents) = self.0.split_last()?;
        Some((Self(parents.to_vec()), last))
    }

    /// True if `head` is this path or one of its ancestors.
    pub fn starts_with(&self, head: &Self) -> bool {
        self.0.starts_with(&head.0)
    }

    /// The steps, outermost first.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The value at this path.
    pub fn get<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |v, step| match step {
            Step::Key(k) => v.get(k),
            Step::Index(i) => v.get(i),
        })
    }

    /// Mutable access to the value at this path.
    pub fn get_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        self.0.iter().try_fold(value, |v, step| match step {
            Step::Key(k) => v.get_mut(k),
            Step::Index(i) => v.get_mut(i),
        })
    }
}

impl FromIterator<Step> for FieldPath {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

impl std::fmt::Display for FieldPath {
    /// As people write it: `cameras[3].zones[0].polygon`. A key that is not a bare TOML key is quoted.
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

/// A parsed TOML file, or several that were merged ([`Document::merge`]).
#[derive(Debug)]
pub struct Document {
    /// The file, with the path as the user would type it; of several, the first.
    pub file: PathBuf,
    /// The file's bytes; of several files, one after the other.
    pub bytes: Vec<u8>,
    /// The content as JSON.
    pub value: Value,
    /// The files that were merged into the first one.
    others: Vec<PathBuf>,
    places: BTreeMap<FieldPath, SourceLine>,
}

/// Where a value is written.
#[derive(Debug, Clone, Copy)]
struct SourceLine {
    /// 0 for [`Document::file`], else 1 more than the index into [`Document::others`].
    file: usize,
    /// From 1.
    line: usize,
}

impl Document {
    /// Reads and parses `file`, also returning the faults of single values. `Err` holds every syntax error.
    pub fn read(file: &Path) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        Self::of(file, file::read(file, file::MAX_TEXT))
    }

    /// Parses what was read from `file`; if it could not be read, that is the fault.
    pub fn of(file: &Path, bytes: io::Result<Vec<u8>>) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let unreadable = |e: io::Error| {
            vec![Fault::whole(
                file,
                format!("cannot read the file: {e}"),
                "check that the file exists and that this user may read it",
            )]
        };
        Self::parse(file, bytes.map_err(unreadable)?)
    }

    /// Parses the bytes of `file`.
    pub fn parse(file: &Path, bytes: Vec<u8>) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let text = std::str::from_utf8(&bytes).map(file::without_mark).map_err(|e| {
            let message = format!("invalid UTF-8 at byte {}", e.valid_up_to());
            vec![Fault::whole(file, message, "save the file as UTF-8")]
        })?;
        let (table, errors) = DeTable::parse_recoverable(text);
        let line_index = LineIndex::new(text);
        if !errors.is_empty() {
            let mut faults: Vec<Fault> = errors
                .iter()
                .map(|e| Fault {
                    line: e.span().map(|s| line_index.at(s.start)),
                    ..Fault::whole(
                        file,
                        format!("invalid TOML: {}", e.message().replace('\n', ", ")),
                        "fix the syntax; the rest of the file cannot be checked until then",
                    )
                })
                .collect();
            faults.sort_by_key(|f| f.line);
            return Err(faults);
        }
        let mut converter = Converter {
            line_index,
            lines: BTreeMap::new(),
            faults: Vec::new(),
        };
        let value = converter.table(table.get_ref(), &FieldPath::default());
        let Converter { lines, faults, .. } = converter;
        let places = lines.into_iter().map(|(at, line)| (at, SourceLine { file: 0, line }));
        let document = Self {
            file: file.into(),
            value,
            places: places.collect(),
            others: Vec::new(),
            bytes: Vec::new(),
        };
        let faults = faults
            .into_iter()
            .map(|(at, message, remedy)| document.fault(&at, message, remedy))
            .collect();
        Ok((Self { bytes, ..document }, faults))
    }

    /// The file and line of `at`, or of its nearest ancestor that has one; the first file without a line if none has.
    pub fn place(&self, at: &FieldPath) -> (&Path, Option<usize>) {
        let known = |n: usize| self.places.get(&FieldPath(at.0[..n].to_vec()));
        match (0..=at.0.len()).rev().find_map(known) {
            Some(place) => (self.nth_file(place.file), Some(place.line)),
            None => (&self.file, None),
        }
    }

    /// The line of `at` in its file, or of its nearest ancestor that has one.
    pub fn line(&self, at: &FieldPath) -> Option<usize> {
        self.place(at).1
    }

    /// The files that the document was read from, in the order in which they were merged.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.file).chain(&self.others).map(PathBuf::as_path)
    }

    fn nth_file(&self, n: usize) -> &Path {
        self.files().nth(n).unwrap_or(&self.file)
    }

    /// Makes a fault at `at`.
    pub fn fault(&self, at: &FieldPath, message: impl Into<Message>, remedy: impl Into<Message>) -> Fault {
        let (file, line) = self.place(at);
        Fault {
            path: at.to_string(),
            file: file.into(),
            line,
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// Positions of the newlines, to map a byte offset to a line number.
struct LineIndex(Vec<usize>);

impl LineIndex {
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

struct Converter {
    line_index: LineIndex,
    lines: BTreeMap<FieldPath, usize>,
    faults: Vec<(FieldPath, String, &'static str)>,
}

impl Converter {
    fn table(&mut self, table: &DeTable<'_>, at: &FieldPath) -> Value {
        let mut map = Map::new();
        for (key, value) in table {
            let here = at.key(key.get_ref());
            self.lines.insert(here.clone(), self.line_index.at(key.span().start));
            let value = self.value(value, &here);
            map.insert(key.get_ref().to_string(), value);
        }
        Value::Object(map)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, at: &FieldPath) -> Value {
        match value.get_ref() {
            DeValue::String(s) => Value::String(s.to_string()),
            DeValue::Boolean(b) => Value::Bool(*b),
            DeValue::Table(t) => self.table(t, at),
            DeValue::Array(a) => Value::Array(
                a.iter()
                    .enumerate()
                    .map(|(i, v)| {
                        let here = at.index(i);
                        self.lines.insert(here.clone(), self.line_index.at(v.span().start));
                        self.value(v, &here)
                    })
                    .collect(),
            ),
            DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
                Ok(n) => Value::from(n),
                Err(_) => self.reject(at, "integer does not fit into 64 bits", "use a smaller number"),
            },
            DeValue::Float(x) => match x.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64) {
                Some(x) => Value::Number(x),
                None => self.reject(at, "not a finite number", "use a finite number"),
            },
            DeValue::Datetime(_) => {
                self.reject(at, "TOML dates and times are not supported", "put the value in quotes")
            }
        }
    }

    fn reject(&mut self, at: &FieldPath, message: &str, remedy: &'static str) -> Value {
        self.faults.push((at.clone(), message.into(), remedy));
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(text: &str) -> Result<(Document, Vec<Fault>), Vec<Fault>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        fs::write(&file, text).unwrap();
        Document::read(&file)
    }

    #[test]
    fn a_byte_order_mark_before_the_first_key_is_ignored() {
        let (doc, faults) = read("\u{feff}top = 1\nnext = 2\n").unwrap();
        assert!(faults.is_empty());
        assert_eq!(doc.value, serde_json::json!({"top": 1, "next": 2}));
        assert_eq!(doc.line(&FieldPath::default().key("next")), Some(2));
    }

    #[test]
    fn keys_tables_and_array_elements_have_line_numbers() {
        let (doc, faults) =
            read("top = 1\n\n[[cameras]]\nid = 'a'\n\n[[cameras]]\nid = 'b'\nzones = [\n  { id = 'z' },\n]\n").unwrap();
        assert!(faults.is_empty());
        let cameras = FieldPath::default().key("cameras");
        assert_eq!(doc.line(&FieldPath::default().key("top")), Some(1));
        assert_eq!(doc.line(&cameras.index(1)), Some(6));
        assert_eq!(doc.line(&cameras.index(1).key("id")), Some(7));
        assert_eq!(doc.line(&cameras.index(1).key("zones").index(0).key("id")), Some(9));
        assert_eq!(
            doc.line(&cameras.index(1).key("url")),
            Some(6),
            "a missing field has the line of its table"
        );
        assert_eq!(cameras.index(1).key("a b").to_string(), "cameras[1].\"a b\"");
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let faults = read("a = \nb = 'ok'\nc = = 2\n").unwrap_err();
        let lines: std::collections::BTreeSet<_> = faults.iter().filter_map(|f| f.line).collect();
        assert_eq!(lines, [1, 3].into());
    }

    #[test]
    fn values_that_json_cannot_represent_are_faults_and_become_null() {
        let (doc, faults) = read("a = nan\nb = 2026-01-01\nc = 99999999999999999999\nd = 0xff\n").unwrap();
        assert_eq!(faults.len(), 3);
        assert_eq!(doc.value["d"], 255);
        assert!(doc.value["a"].is_null() && doc.value["b"].is_null() && doc.value["c"].is_null());
    }
}
