//! Values as one line of text, cut to what a reader takes in.

use serde_json::Value;

/// Maximum length of a value in characters.
const MAX_CHARS: usize = 60;

/// `2s → 5s`; just `changed` if the cut texts are the same.
pub(super) fn values(old: Option<&Value>, new: Option<&Value>) -> String {
    match (value(old), value(new)) {
        (old, new) if old == new => "changed".into(),
        (old, new) => format!("{old} → {new}"),
    }
}

/// Ids, separated by commas.
pub(super) fn ids(list: Option<&Value>) -> String {
    let ids = list.and_then(Value::as_array).into_iter().flatten();
    let ids: Vec<&str> = ids.filter_map(Value::as_str).collect();
    cut(&ids.join(", "))
}

fn value(value: Option<&Value>) -> String {
    match value {
        None => "unset".into(),
        Some(Value::String(text)) if text.is_empty() || text.contains(char::is_control) => cut(&format!("{text:?}")),
        Some(Value::String(text)) => cut(text),
        Some(Value::Array(list)) => {
            let text = Value::from(list.as_slice()).to_string().replace(',', ", ");
            match cut(&text) {
                whole if whole == text => whole,
                cut => format!("{cut} ({} entries)", list.len()),
            }
        }
        Some(other) => cut(&other.to_string()),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}
