//! Messages of parsers, without what they repeat of a file.

/// A parser's message without the values that it quotes: the file may be one that whoever reads the message may not read.
pub(super) fn without_values(message: &str) -> String {
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
