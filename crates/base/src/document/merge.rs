//! Merges documents: tables key by key, and arrays of tables one after the other.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value, map::Entry};

use super::{Document, Fault, FieldPath, SourceLine, Step};
use crate::message;

impl Document {
    /// Adds what `other` holds, and returns the faults of values that both set. Tables merge key by key. Two arrays of tables are
    /// joined, those of `other` last, so that their indices count over all files. Anything else may be in one file only; of two, the
    /// first is kept. Values keep the file and line in which they are written.
    pub fn merge(&mut self, other: Self) -> Vec<Fault> {
        let file = self.others.len() + 1;
        let mut merger = Merger::default();
        if let (Value::Object(into), Value::Object(from)) = (&mut self.value, other.value) {
            merger.tables(into, from, &FieldPath::default());
        }
        let faults = merger.conflicts.iter().map(|at| {
            let line = other.places.get(at).map(|place| place.line);
            let (first, first_line) = self.place(at);
            Fault {
                path: at.to_string(),
                file: other.file.clone(),
                line,
                message: message!("already set in {place}", place = shown(first, first_line)),
                remedy: "set it in one of the two files; only tables, and lists of tables such as [[cameras]], may be in several"
                    .into(),
            }
        });
        let faults = faults.collect();
        for (at, place) in other.places {
            let at = merger.shifted(at);
            // What both have, such as the head of a table, is where the first file has it.
            self.places.entry(at).or_insert(SourceLine { file, line: place.line });
        }
        self.others.push(other.file);
        self.bytes.extend(other.bytes);
        faults
    }
}

fn shown(file: &Path, line: Option<usize>) -> String {
    match line {
        Some(line) => format!("{}:{line}", file.display()),
        None => file.display().to_string(),
    }
}

#[derive(Default)]
struct Merger {
    /// Arrays that were joined: how many elements the first files have.
    offsets: BTreeMap<FieldPath, usize>,
    conflicts: Vec<FieldPath>,
}

impl Merger {
    fn tables(&mut self, into: &mut Map<String, Value>, from: Map<String, Value>, at: &FieldPath) {
        for (key, value) in from {
            let here = at.key(&key);
            match into.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(mut entry) => match (entry.get_mut(), value) {
                    (Value::Object(into), Value::Object(from)) => self.tables(into, from, &here),
                    (Value::Array(into), Value::Array(from)) if are_tables(into, &from) => {
                        self.offsets.insert(here, into.len());
                        into.extend(from);
                    }
                    _ => self.conflicts.push(here),
                },
            }
        }
    }

    /// The path in the merged document of what was at `at`.
    fn shifted(&self, mut at: FieldPath) -> FieldPath {
        let array = |at: &FieldPath| at.0.iter().position(|step| matches!(step, Step::Index(_)));
        if let Some(n) = array(&at)
            && let Some(offset) = self.offsets.get(&FieldPath(at.0[..n].to_vec()))
            && let Some(Step::Index(index)) = at.0.get_mut(n)
        {
            *index += offset;
        }
        at
    }
}

/// Whether two arrays hold tables and nothing else; an empty one may be joined to such an array.
fn are_tables(one: &[Value], other: &[Value]) -> bool {
    let mut elements = one.iter().chain(other).peekable();
    elements.peek().is_some() && elements.all(Value::is_object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(name: &str, text: &str) -> Document {
        Document::parse(Path::new(name), text.as_bytes().to_vec()).unwrap().0
    }

    #[test]
    fn tables_merge_key_by_key_and_lists_of_tables_are_joined_with_their_places() {
        let mut one = parse(
            "a.toml",
            "[node]\nid = 'a'\n\n[[cameras]]\nid = 'gate'\nzones = [{ id = 'z' }]\n",
        );
        let other = parse(
            "b.toml",
            "[node]\nzone = 'b'\n\n\n[[cameras]]\nid = 'lane'\nzones = [{ id = 'y' }]\n",
        );
        assert_eq!(one.merge(other), []);
        assert_eq!(
            one.value,
            json!({
                "node": { "id": "a", "zone": "b" },
                "cameras": [{ "id": "gate", "zones": [{ "id": "z" }] }, { "id": "lane", "zones": [{ "id": "y" }] }],
            })
        );
        let cameras = FieldPath::default().key("cameras");
        let (a, b) = (Path::new("a.toml"), Path::new("b.toml"));
        assert_eq!(one.place(&FieldPath::default().key("node").key("id")), (a, Some(2)));
        assert_eq!(one.place(&FieldPath::default().key("node").key("zone")), (b, Some(2)));
        assert_eq!(one.place(&cameras.index(0).key("url")), (a, Some(4)));
        assert_eq!(one.place(&cameras.index(1).key("url")), (b, Some(5)));
        // An array within a joined one is that of its own table.
        let zone = cameras.index(1).key("zones").index(0).key("id");
        assert_eq!(
            (one.place(&zone), zone.get(&one.value)),
            ((b, Some(7)), Some(&json!("y")))
        );

        assert_eq!(one.merge(parse("c.toml", "cameras = [{ id = 'third' }]\n")), []);
        assert_eq!(one.place(&cameras.index(2).key("id")), (Path::new("c.toml"), Some(1)));
        assert_eq!(one.files().count(), 3);
    }

    #[test]
    fn what_two_files_set_is_a_fault_that_names_both_and_the_first_counts() {
        let mut one = parse("a.toml", "top = 1\nwords = []\n[node]\nid = 'a'\nt = {}\n");
        let other = parse("b.toml", "top = 1\nwords = []\n[node]\nid = 'b'\nt = 3\n");
        let faults: Vec<String> = one.merge(other).iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "node.id: already set in a.toml:4 (b.toml:4)",
                "node.t: already set in a.toml:5 (b.toml:5)",
                "top: already set in a.toml:1 (b.toml:1)",
                "words: already set in a.toml:2 (b.toml:2)",
            ]
        );
        assert_eq!(one.value["node"]["id"], "a");
    }
}
