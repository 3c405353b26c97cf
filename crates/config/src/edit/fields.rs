//! Fields of one TOML document: set, pushed and removed with as little of the text changed as can be.

use serde_json::{Map, Value as Json};
use toml_edit::{Array, ArrayOfTables, InlineTable, Item, Table, TableLike, Value};

use crate::{
    document::is_same,
    element::{ElementStep, ids},
};
use gridwatch_base::document::{FieldPath, Step};

/// A table of at most so many plain values is written in one line.
const MAX_INLINE: usize = 4;

/// A list of tables of at most so many characters is written in one line.
const MAX_LINE: usize = 120;

/// Fields that people write first, in this order; the others follow by name.
const FIRST: [&str; 9] = ["id", "kind", "category", "labels", "url", "dir", "node", "lon", "lat"];

/// Follows steps with ids from `value`, which is at `head`; the last may be a field that is not there.
pub(super) fn local(head: FieldPath, value: &Json, steps: &[ElementStep]) -> Option<FieldPath> {
    let mut at = head;
    let mut value = Some(value);
    for step in steps {
        match step {
            ElementStep::Key(key) => {
                at = at.key(key);
                value = value.and_then(|v| v.get(key));
            }
            ElementStep::Id(id) => {
                let list = value?.as_array()?;
                let index = ids(list)?.iter().position(|known| known == id)?;
                at = at.index(index);
                value = list.get(index);
            }
        }
    }
    Some(at)
}

/// Sets the value at `at`; `None` if something on the way is no table.
pub(super) fn set(root: &mut Table, at: &FieldPath, value: &Json) -> Option<()> {
    let (parent, last) = at.split()?;
    match last {
        Step::Key(key) => {
            table_at(root, parent.steps(), true)?.set(key, value);
        }
        Step::Index(_) => table_at(root, at.steps(), false)?.update(value.as_object()?),
    }
    Some(())
}

/// Adds an element to the list at `at`; `None` if there is something else.
pub(super) fn push(root: &mut Table, at: &FieldPath, element: &Json) -> Option<()> {
    let (parent, Step::Key(key)) = at.split()? else {
        return None;
    };
    let mut parent = table_at(root, parent.steps(), true)?;
    let element = element.as_object()?;
    match parent.get_mut(key) {
        Some(Item::ArrayOfTables(list)) => list.push(table(element)),
        Some(Item::Value(Value::Array(list))) if !list.is_empty() => {
            let value = Value::InlineTable(inline_table(element));
            // As the last one is indented.
            let prefix = list.iter().last().and_then(|last| last.decor().prefix().cloned());
            list.push(value);
            if let (Some(prefix), Some(new)) = (prefix, list.iter_mut().last()) {
                new.decor_mut().set_prefix(prefix);
            }
        }
        Some(Item::Value(Value::Array(_)) | Item::None) | None => {
            parent.remove(key);
            parent.insert(key, &Json::Array(vec![element.clone().into()]));
        }
        Some(_) => return None,
    }
    Some(())
}

/// Removes what is at `at`; `None` if there is nothing.
pub(super) fn remove(root: &mut Table, at: &FieldPath) -> Option<()> {
    let (parent, last) = at.split()?;
    match last {
        Step::Key(key) => table_at(root, parent.steps(), false)?.remove(key).map(|_| ()),
        Step::Index(index) => {
            let (above, Step::Key(key)) = parent.split()? else {
                return None;
            };
            let mut table = table_at(root, above.steps(), false)?;
            let is_empty = match table.get_mut(key)? {
                Item::ArrayOfTables(list) if *index < list.len() => {
                    list.remove(*index);
                    list.is_empty()
                }
                Item::Value(Value::Array(list)) if *index < list.len() => {
                    list.remove(*index);
                    list.is_empty()
                }
                _ => return None,
            };
            if is_empty {
                table.remove(key);
            }
            Some(())
        }
    }
}

/// A table, as it is written.
enum Place<'t> {
    /// With a head and fields on lines of their own.
    Table(&'t mut Table),
    /// In one line, so that what it holds must be, too.
    Inline(&'t mut InlineTable),
}

impl<'t> Place<'t> {
    fn of(item: &'t mut Item) -> Option<Self> {
        match item {
            Item::Table(table) => Some(Self::Table(table)),
            Item::Value(Value::InlineTable(table)) => Some(Self::Inline(table)),
            _ => None,
        }
    }

    fn get_mut(&mut self, key: &str) -> Option<&mut Item> {
        match self {
            Self::Table(table) => table.get_mut(key),
            Self::Inline(table) => TableLike::get_mut(*table, key),
        }
    }

    fn into_item(self, key: &str) -> Option<&'t mut Item> {
        match self {
            Self::Table(table) => table.get_mut(key),
            Self::Inline(table) => TableLike::get_mut(table, key),
        }
    }

    fn insert(&mut self, key: &str, value: &Json) {
        match self {
            Self::Table(table) => drop(table.insert(key, item(value))),
            Self::Inline(table) => {
                let mut new = inline(value);
                // The space before the closing brace goes with the last value.
                if let Some((_, last)) = table.iter_mut().last() {
                    let suffix = last.decor().suffix().cloned();
                    last.decor_mut().set_suffix("");
                    new.decor_mut().set_prefix(" ");
                    new.decor_mut().set_suffix(suffix.unwrap_or_default());
                }
                table.insert(key, new);
            }
        }
    }

    fn remove(&mut self, key: &str) -> Option<Item> {
        match self {
            Self::Table(table) => table.remove(key),
            Self::Inline(table) => table.remove(key).map(Item::Value),
        }
    }

    fn keys(&self) -> Vec<String> {
        match self {
            Self::Table(table) => table.iter().map(|(key, _)| key.to_owned()).collect(),
            Self::Inline(table) => table.iter().map(|(key, _)| key.to_owned()).collect(),
        }
    }

    fn set(&mut self, key: &str, value: &Json) {
        let is_inline = matches!(self, Self::Inline(_));
        match self.get_mut(key).filter(|item| !item.is_none()) {
            Some(item) => update(item, value, is_inline),
            None => self.insert(key, value),
        }
    }

    /// Makes it hold the fields of `new`, and no others.
    fn update(&mut self, new: &Map<String, Json>) {
        for key in self.keys() {
            if new.get(&key).is_none_or(Json::is_null) {
                self.remove(&key);
            }
        }
        for (key, value) in ordered(new) {
            self.set(key, value);
        }
    }
}

/// The table at `steps`; missing ones on the way are made if `create`.
fn table_at<'t>(root: &'t mut Table, steps: &[Step], create: bool) -> Option<Place<'t>> {
    let mut place = Place::Table(root);
    let mut steps = steps.iter().peekable();
    while let Some(step) = steps.next() {
        let Step::Key(key) = step else { return None };
        let Some(Step::Index(index)) = steps.peek() else {
            if create && place.get_mut(key).is_none_or(|item| item.is_none()) {
                match &mut place {
                    Place::Table(table) => drop(table.insert(key, Item::Table(Table::new()))),
                    Place::Inline(table) => drop(table.insert(key, Value::InlineTable(InlineTable::new()))),
                }
            }
            place = Place::of(place.into_item(key)?)?;
            continue;
        };
        steps.next();
        place = match place.into_item(key)? {
            Item::ArrayOfTables(list) => Place::Table(list.get_mut(*index)?),
            Item::Value(Value::Array(list)) => Place::Inline(list.get_mut(*index)?.as_inline_table_mut()?),
            _ => return None,
        };
    }
    Some(place)
}

fn update(old: &mut Item, value: &Json, is_inline: bool) {
    if json(old).is_some_and(|old| is_same(&old, value)) {
        return;
    }
    match (&mut *old, value) {
        (Item::ArrayOfTables(list), Json::Array(new)) if !new.is_empty() && new.iter().all(Json::is_object) => {
            update_tables(list, new);
        }
        (Item::Table(_) | Item::Value(Value::InlineTable(_)), Json::Object(new)) => {
            if let Some(mut table) = Place::of(old) {
                table.update(new);
            }
        }
        (Item::Value(Value::Array(list)), Json::Array(new)) if is_on_lines(list) && !new.is_empty() => {
            update_array(list, new);
        }
        (Item::Value(before), _) => {
            let mut after = inline(value);
            *after.decor_mut() = before.decor().clone();
            *before = after;
        }
        _ if is_inline => *old = Item::Value(inline(value)),
        _ => *old = item(value),
    }
}

/// Makes a list of values on lines of their own hold `new`: those that stay keep their text, with the comments above and after them.
fn update_array(list: &mut Array, new: &[Json]) {
    // What follows a value on its line, and what stands on the lines above it, are in one prefix: of the next value, or of the bracket.
    let split = |text: Option<&str>| {
        let text = text.unwrap_or_default();
        let (after, above) = text.split_at(text.find('\n').unwrap_or(text.len()));
        (after.to_owned(), above.to_owned())
    };
    let prefixes = list
        .iter()
        .map(|value| split(value.decor().prefix().and_then(|text| text.as_str())));
    let prefixes: Vec<(String, String)> = prefixes.collect();
    let trailing = split(list.trailing().as_str());
    let after = |old: usize| prefixes.get(old + 1).map_or(&trailing.0, |(after, _)| after).clone();
    // Of a new value, the indentation alone.
    let indentation = prefixes
        .last()
        .map_or("", |(_, above)| &above[above.rfind('\n').unwrap_or(0)..]);
    let mut old: Vec<Option<Value>> = list.iter().cloned().map(Some).collect();
    let mut rest = prefixes.first().map(|(after, _)| after.clone()).unwrap_or_default();
    let mut values = Array::new();
    for value in new {
        let is_it = |old: &Option<Value>| {
            old.as_ref()
                .and_then(value_json)
                .is_some_and(|old| is_same(&old, value))
        };
        let place = old.iter().position(is_it);
        let above = place.map_or(indentation, |n| &prefixes[n].1);
        let mut written = place.and_then(|n| old[n].take()).unwrap_or_else(|| inline(value));
        written.decor_mut().set_prefix(format!("{rest}{above}"));
        values.push_formatted(written);
        rest = place.map(after).unwrap_or_default();
    }
    values.set_trailing(format!("{rest}{}", trailing.1));
    values.set_trailing_comma(list.trailing_comma());
    *values.decor_mut() = list.decor().clone();
    *list = values;
}

fn is_on_lines(list: &Array) -> bool {
    let has_line_end = |text: Option<&str>| text.is_some_and(|text| text.contains('\n'));
    let mut prefixes = list
        .iter()
        .map(|value| value.decor().prefix().and_then(|text| text.as_str()));
    prefixes.any(has_line_end)
}

/// Makes the list hold `new`: elements that stay keep their text, and the order is that of `new`.
fn update_tables(list: &mut ArrayOfTables, new: &[Json]) {
    let before: Vec<Json> = list.iter().map(|table| table_json(table)).collect();
    let known = ids(&before).unwrap_or_default();
    let wanted = ids(new).unwrap_or_else(|| (0..new.len()).map(|n| n.to_string()).collect());
    let mut old: Vec<Option<Table>> = list.iter().cloned().map(Some).collect();
    let mut positions: Vec<isize> = Vec::new();
    for table in old.iter().flatten() {
        collect_positions(table, &mut positions);
    }
    positions.sort_unstable();
    let mut after = Vec::new();
    for (id, value) in wanted.iter().zip(new) {
        let kept = known.iter().position(|known| known == id).and_then(|n| old[n].take());
        let Some(element) = value.as_object() else { continue };
        after.push(match kept {
            Some(mut kept) => {
                Place::Table(&mut kept).update(element);
                kept
            }
            None => table(element),
        });
    }
    // The text follows the positions, so those of the first elements must be the lowest.
    let mut positions = positions.into_iter();
    for table in &mut after {
        assign_positions(table, &mut positions);
    }
    *list = ArrayOfTables::from_iter(after);
}

fn collect_positions(table: &Table, found: &mut Vec<isize>) {
    found.extend(table.position());
    for (_, item) in table {
        match item {
            Item::Table(table) => collect_positions(table, found),
            Item::ArrayOfTables(list) => list.iter().for_each(|table| collect_positions(table, found)),
            _ => {}
        }
    }
}

fn assign_positions(table: &mut Table, positions: &mut impl Iterator<Item = isize>) {
    if table.position().is_some() {
        table.set_position(positions.next());
    }
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(table) => assign_positions(table, positions),
            Item::ArrayOfTables(list) => list.iter_mut().for_each(|table| assign_positions(table, positions)),
            _ => {}
        }
    }
}

/// The fields in the order in which they are written; `null` is no field.
fn ordered(table: &Map<String, Json>) -> impl Iterator<Item = (&String, &Json)> {
    let mut fields: Vec<_> = table.iter().filter(|(_, value)| !value.is_null()).collect();
    let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    fields.sort_by_key(|(key, _)| rank(key));
    fields.into_iter()
}

fn table(fields: &Map<String, Json>) -> Table {
    let mut table = Table::new();
    for (key, value) in ordered(fields) {
        table.insert(key, item(value));
    }
    table
}

fn inline_table(fields: &Map<String, Json>) -> InlineTable {
    ordered(fields)
        .map(|(key, value)| (key.as_str(), inline(value)))
        .collect()
}

/// A new value as people write it: small tables in one line, elements with ids as tables of their own.
fn item(value: &Json) -> Item {
    let is_plain = |value: &Json| !value.is_object() && !value.is_array();
    match value {
        Json::Object(fields) if fields.len() > MAX_INLINE || !fields.values().all(is_plain) => {
            Item::Table(table(fields))
        }
        Json::Array(list) if !list.is_empty() && ids(list).is_some() => {
            let tables = list.iter().filter_map(Json::as_object).map(table);
            Item::ArrayOfTables(ArrayOfTables::from_iter(tables))
        }
        Json::Array(list) if list.iter().any(Json::is_object) && value.to_string().len() > MAX_LINE => {
            let mut array: Array = list.iter().map(inline).collect();
            for value in array.iter_mut() {
                value.decor_mut().set_prefix("\n  ");
            }
            array.set_trailing("\n");
            array.set_trailing_comma(true);
            Item::Value(Value::Array(array))
        }
        other => Item::Value(inline(other)),
    }
}

fn inline(value: &Json) -> Value {
    match value {
        // TOML has no null; a list of values holds none.
        Json::Null => "".into(),
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64().unwrap_or_default().into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(list) => Value::Array(list.iter().map(inline).collect()),
        Json::Object(fields) => Value::InlineTable(inline_table(fields)),
    }
}

/// An item as JSON; `None` for a date, which no field of the configuration is.
fn json(item: &Item) -> Option<Json> {
    match item {
        Item::None => None,
        Item::Value(value) => value_json(value),
        Item::Table(table) => Some(table_json(table)),
        Item::ArrayOfTables(list) => Some(list.iter().map(|table| table_json(table)).collect()),
    }
}

fn table_json(table: &dyn TableLike) -> Json {
    let fields = table
        .iter()
        .map(|(key, item)| (key.to_owned(), json(item).unwrap_or(Json::Null)));
    Json::Object(fields.collect())
}

fn value_json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::String(text) => text.value().as_str().into(),
        Value::Integer(number) => (*number.value()).into(),
        Value::Float(number) => (*number.value()).into(),
        Value::Boolean(value) => (*value.value()).into(),
        Value::Datetime(_) => return None,
        Value::Array(list) => list.iter().map(value_json).collect::<Option<Vec<_>>>()?.into(),
        Value::InlineTable(table) => table_json(table),
    })
}
