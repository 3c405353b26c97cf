//! Paths to fields that name the elements of a list by their ids, so that they stay valid when the list changes:
//! `cameras[gate].zones[pavement].polygon`.

use std::{fmt, str::FromStr};

use serde_json::Value;

use gridwatch_base::document::{FieldPath, Step};

/// Longer than any path of the schema with ids of their maximum length.
const MAX_LENGTH: usize = 1024;

/// Path to a field or an element: keys and ids, outermost first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ElementPath(Vec<ElementStep>);

/// One part of an [`ElementPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ElementStep {
    /// A key of a table.
    Key(String),
    /// The id of an element of a list of tables; of elements with equal ids, the second is `ID#2`.
    Id(String),
}

/// Why a text is not an [`ElementPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a path to a field; write it like cameras[gate].zones[pavement].polygon")]
pub struct InvalidPath;

impl ElementPath {
    /// The path of `key` in the table at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(ElementStep::Key(key.into()))
    }

    /// The path of the element with this id of the list at this path.
    #[must_use]
    pub fn id(&self, id: &str) -> Self {
        self.with(ElementStep::Id(id.into()))
    }

    fn with(&self, step: ElementStep) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The parts, outermost first.
    pub fn steps(&self) -> &[ElementStep] {
        &self.0
    }

    /// The value at this path.
    pub fn get<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |value, step| match step {
            ElementStep::Key(key) => value.get(key),
            ElementStep::Id(id) => {
                let list = value.as_array()?;
                list.get(ids(list)?.iter().position(|known| known == id)?)
            }
        })
    }

    /// The path with ids of the field at `at` in `document`; an index stays where an element has no id.
    pub fn of(at: &FieldPath, document: &Value) -> Self {
        let mut path = Self::default();
        let mut value = Some(document);
        for step in at.steps() {
            match step {
                Step::Key(key) => {
                    path = path.key(key);
                    value = value.and_then(|v| v.get(key));
                }
                Step::Index(index) => {
                    let list = value.and_then(Value::as_array);
                    let id = list.and_then(|list| ids(list)?.into_iter().nth(*index));
                    path = path.id(&id.unwrap_or_else(|| index.to_string()));
                    value = list.and_then(|list| list.get(*index));
                }
            }
        }
        path
    }
}

/// The ids of a list's elements, with `#2` and so on after equal ones. `None` if an element has none: then the list is one value.
pub(crate) fn ids(list: &[Value]) -> Option<Vec<String>> {
    numbered(list.iter().map(|element| id_of(element).map(str::to_owned)))
}

/// What an element is known by: its `id`, the `node` of a box, or the `dir` of a model.
pub(crate) fn id_of(element: &Value) -> Option<&str> {
    ["id", "node", "dir"]
        .into_iter()
        .find_map(|key| element.get(key)?.as_str())
}

/// Tells equal ids apart.
pub(crate) fn numbered(ids: impl Iterator<Item = Option<String>>) -> Option<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let mut counts: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for id in ids {
        let id = id?;
        let count = counts.entry(id.clone()).or_default();
        *count += 1;
        found.push(if *count > 1 { format!("{id}#{count}") } else { id });
    }
    Some(found)
}

fn is_bare(text: &str, more: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "-_".contains(c) || more.contains(c);
    !text.is_empty() && text.chars().all(is_plain)
}

impl fmt::Display for ElementPath {
    /// As people write it. Keys and ids with other characters are in quotes, as in JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str, more: &str| match is_bare(text, more) {
            true => text.to_owned(),
            false => Value::from(text).to_string(),
        };
        for (i, step) in self.0.iter().enumerate() {
            match step {
                ElementStep::Id(id) => write!(f, "[{}]", text(id, "./#:"))?,
                ElementStep::Key(key) if i == 0 => f.write_str(&text(key, ""))?,
                ElementStep::Key(key) => write!(f, ".{}", text(key, ""))?,
            }
        }
        Ok(())
    }
}

impl FromStr for ElementPath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        if text.is_empty() || text.len() > MAX_LENGTH {
            return Err(InvalidPath);
        }
        let mut rest = text;
        let mut path = Self::default();
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[').filter(|_| !path.0.is_empty()) {
                let (id, after) = part(inside, "./#:")?;
                rest = after.strip_prefix(']').ok_or(InvalidPath)?;
                path = path.id(&id);
            } else {
                let start = if path.0.is_empty() {
                    Some(rest)
                } else {
                    rest.strip_prefix('.')
                };
                let (key, after) = part(start.ok_or(InvalidPath)?, "")?;
                rest = after;
                path = path.key(&key);
            }
        }
        Ok(path)
    }
}

/// A key or id at the beginning of `text`, and the rest.
fn part<'t>(text: &'t str, more: &str) -> Result<(String, &'t str), InvalidPath> {
    if text.starts_with('"') {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let Some(Ok(key)) = values.next() else {
            return Err(InvalidPath);
        };
        return Ok((key, &text[values.byte_offset()..]));
    }
    let end = text.char_indices().find(|(_, c)| !is_bare(&c.to_string(), more));
    let (key, rest) = text.split_at(end.map_or(text.len(), |(at, _)| at));
    if key.is_empty() {
        Err(InvalidPath)
    } else {
        Ok((key.into(), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_they_are_written() {
        for text in [
            "cameras[gate].zones[pavement].polygon",
            "node.id",
            "models[../models/yolox_nano_416].dir",
            "claims.boxes[box-2#2]",
            "schedules[\"a b]\"].windows",
            "\"a.b\".c",
        ] {
            let path: ElementPath = text.parse().unwrap();
            assert_eq!(path.to_string(), text);
        }
        for text in ["", "a..b", ".a", "[a]", "a[", "a[b", "a[]", "a b", "a[b]c", "\"a"] {
            assert_eq!(text.parse::<ElementPath>(), Err(InvalidPath), "{text:?}");
        }
    }
}
