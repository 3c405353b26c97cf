//! Messages of parsers, without what they repeat of a file.

/// A parser's message without the values that it quotes: the file may be one that whoever reads the message may not read.
pub(super) fn without_values(message: &str) -> String {
    let message = &without_names(message);
    let mut parts = message.split('"').peekable();
    let mut text = parts.next().unwrap_or_default().to_owned();
    let mut is_value = true;
    while let Some(part) = parts.next() {
        if !is_value {
            text.push_str(part);
        } else if part.ends_with('\\') && parts.peek().is_some() {
            // An escaped quotation mark: the value goes on.
            continue;
        } else {
            text.push('…');
        }
        is_value = !is_value;
    }
    text
}

/// The message without a name in backticks that its type does not have. The names after it are the type's own.
fn without_names(message: &str) -> String {
    for kind in ["unknown variant `", "unknown field `"] {
        if let Some((before, rest)) = message.split_once(kind) {
            let after = rest.rfind("`, ").map_or("", |end| &rest[end..]);
            return format!("{before}{kind}…{after}");
        }
    }
    message.to_owned()
}
