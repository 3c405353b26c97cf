//! Compares two documents along the JSON Schema, whose annotations say what needs a restart (`x-applies`), what is secret (`x-secret`)
//! and which lists are read in order (`x-ordered`).

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{Applies, Change, ChangeKind};
use crate::{
    document::is_same,
    element::{ElementPath, ids},
    schema,
};

/// What is shown instead of a secret.
const HIDDEN: &str = "***";

static SCHEMA: LazyLock<Value> = LazyLock::new(schema::generate);

/// A field of the schema.
#[derive(Clone, Copy)]
struct Field<'s> {
    root: &'s Value,
    /// The schema object at the field, with its annotations; `None` for a field that the schema does not have.
    node: Option<&'s Value>,
}

impl<'s> Field<'s> {
    fn is(self, annotation: &str, value: &Value) -> bool {
        self.node.and_then(|node| node.get(annotation)) == Some(value)
    }

    /// The type that the field refers to.
    fn resolved(self) -> Option<&'s Value> {
        let node = self.node?;
        match node.get("$ref").and_then(Value::as_str) {
            Some(target) => self.root.pointer(target.trim_start_matches('#')),
            None => Some(node),
        }
    }

    fn at(self, node: Option<&'s Value>) -> Self {
        Self { node, ..self }
    }

    fn key(self, key: &str) -> Self {
        let of = self.resolved();
        let node = of.and_then(|of| {
            of.get("properties")?
                .get(key)
                .or_else(|| of.get("additionalProperties"))
        });
        self.at(node.filter(|node| node.is_object()))
    }

    fn items(self) -> Self {
        self.at(self.resolved().and_then(|of| of.get("items")))
    }

    fn needs_restart(self) -> bool {
        self.is("x-applies", &"restart".into())
    }

    /// Whether something in the table needs a restart.
    fn has_restart_within(self) -> bool {
        let properties = self.resolved().and_then(|of| of.get("properties")?.as_object());
        let mut keys = properties.into_iter().flat_map(Map::keys).map(|key| self.key(key));
        keys.any(|field| field.needs_restart() || field.has_restart_within())
    }
}

/// See [`super::documents`].
pub(super) fn changes(old: &Value, new: &Value) -> Vec<Change> {
    let root = Field {
        root: &SCHEMA,
        node: Some(&SCHEMA),
    };
    let mut changes = Vec::new();
    compare(
        root,
        &ElementPath::default(),
        (Some(old), Some(new)),
        Applies::Live,
        &mut changes,
    );
    changes
}

fn compare(
    field: Field<'_>,
    path: &ElementPath,
    (old, new): (Option<&Value>, Option<&Value>),
    applies: Applies,
    changes: &mut Vec<Change>,
) {
    match (old, new) {
        (Some(old), Some(new)) if is_same(old, new) => return,
        (None, None) => return,
        _ => {}
    }
    let applies = if field.needs_restart() {
        Applies::Restart
    } else {
        applies
    };
    let mut add = |path: &ElementPath, kind, old: Option<Value>, new: Option<Value>| {
        changes.push(Change {
            path: path.to_string(),
            kind,
            old,
            new,
            applies,
        });
    };
    if field.node.is_none() || field.is("x-secret", &true.into()) {
        return add(path, ChangeKind::Secret, None, None);
    }
    let nothing = Value::Object(Map::new());
    let split = |value: &Value| value.is_object() && field.has_restart_within();
    match (old, new) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                let values = (before.get(key), after.get(key));
                compare(field.key(key), &path.key(key), values, applies, changes);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => match (ids(before), ids(after)) {
            (Some(ids_before), Some(ids_after)) => {
                let element = |ids: &[String], list: &'_ [Value], id: &String| -> Option<Value> {
                    list.get(ids.iter().position(|known| known == id)?).cloned()
                };
                for id in &ids_before {
                    let was = element(&ids_before, before, id);
                    let is = element(&ids_after, after, id);
                    compare(
                        field.items(),
                        &path.id(id),
                        (was.as_ref(), is.as_ref()),
                        applies,
                        changes,
                    );
                }
                for id in ids_after.iter().filter(|id| !ids_before.contains(id)) {
                    let is = element(&ids_after, after, id);
                    compare(field.items(), &path.id(id), (None, is.as_ref()), applies, changes);
                }
                reordered(field, path, (&ids_before, &ids_after), applies, changes);
            }
            _ => add(path, ChangeKind::Set, redacted(field, old), redacted(field, new)),
        },
        (None, Some(after)) if split(after) => compare(field, path, (Some(&nothing), new), applies, changes),
        (Some(before), None) if split(before) => compare(field, path, (old, Some(&nothing)), applies, changes),
        (None, Some(Value::Object(_))) => add(path, ChangeKind::Added, None, redacted(field, new)),
        (Some(Value::Object(_)), None) => add(path, ChangeKind::Removed, redacted(field, old), None),
        _ => add(path, ChangeKind::Set, redacted(field, old), redacted(field, new)),
    }
}

/// Adds a change if the elements that both lists have are in another order, and the order counts.
fn reordered(
    field: Field<'_>,
    path: &ElementPath,
    (before, after): (&[String], &[String]),
    applies: Applies,
    changes: &mut Vec<Change>,
) {
    let common = |of: &[String], other: &[String]| -> Vec<String> {
        of.iter().filter(|id| other.contains(id)).cloned().collect()
    };
    if field.is("x-ordered", &true.into()) && common(before, after) != common(after, before) {
        changes.push(Change {
            path: path.to_string(),
            kind: ChangeKind::Reordered,
            old: Some(before.into()),
            new: Some(after.into()),
            applies,
        });
    }
}

/// See [`super::redacted`].
pub(super) fn without_secrets(document: &Value) -> Value {
    let root = Field {
        root: &SCHEMA,
        node: Some(&SCHEMA),
    };
    redacted(root, Some(document)).unwrap_or_default()
}

/// The value without the secrets in it.
fn redacted(field: Field<'_>, value: Option<&Value>) -> Option<Value> {
    value.map(|value| {
        if field.node.is_none() || field.is("x-secret", &true.into()) {
            return HIDDEN.into();
        }
        match value {
            Value::Object(table) => {
                let fields = table.iter().filter_map(|(key, value)| {
                    let value = redacted(field.key(key), Some(value))?;
                    Some((key.clone(), value))
                });
                Value::Object(fields.collect())
            }
            Value::Array(list) => list
                .iter()
                .filter_map(|value| redacted(field.items(), Some(value)))
                .collect(),
            Value::String(text) if may_hold_password(text) => HIDDEN.into(),
            other => other.clone(),
        }
    })
}

/// Whether a text looks like a URL with a login in it: the checks refuse or report those, but a version of the file may hold one.
fn may_hold_password(text: &str) -> bool {
    let lower = text.to_lowercase();
    let has_login = lower.split_once("://").is_some_and(|(_, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.contains('@')
    });
    has_login
        || ["password=", "passwd=", "pwd=", "pin-value="]
            .iter()
            .any(|part| lower.contains(part))
}
