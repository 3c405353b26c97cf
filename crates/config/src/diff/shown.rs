//! Values as one line of text, cut to what a reader takes in.

use serde_json::Value;

use gridwatch_base::{message, message::Message};

/// Maximum length of a value in characters.
const MAX_CHARS: usize = 60;

/// `2s → 5s`; just `changed` if the cut texts are the same.
pub(super) fn values(old: Option<&Value>, new: Option<&Value>) -> Message {
    match (value(old), value(new)) {
        (old, new) if old == new => "changed".into(),
        (old, new) => message!("{old} → {new}", old, new),
    }
}

/// Ids, separated by commas.
pub(super) fn ids(list: Option<&Value>) -> String {
    let ids = list.and_then(Value::as_array).into_iter().flatten();
    let ids: Vec<&str> = ids.filter_map(Value::as_str).collect();
    cut(&ids.join(", "))
}

fn value(value: Option<&Value>) -> Message {
    match value {
        None => "unset".into(),
        Some(Value::String(text)) if text.is_empty() || text.contains(char::is_control) => {
            cut(&format!("{text:?}")).into()
        }
        Some(Value::String(text)) => cut(text).into(),
        Some(Value::Array(list)) => {
            let text = Value::from(list.as_slice()).to_string().replace(',', ", ");
            match cut(&text) {
                whole if whole == text => whole.into(),
                cut => message!("{cut} ({n} entries)", cut, n = list.len()),
            }
        }
        Some(other) => cut(&other.to_string()).into(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
