//! Text that commands, logs and errors print: English of our own, and text from outside made harmless.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// A count with its noun in singular or plural: `1 camera`, `2 cameras`.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    let noun = if count == N::from(1) { one } else { many };
    format!("{count} {noun}")
}

/// Text from outside as one line: line breaks and all that [`EscapingWriter`] escapes are written as `\u001b`. For what others can choose, such as
/// names of files in a bundle, reasons in a reply, or a camera's answer: a line break in it must not look like a line of ours.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\n' | '\t') || is_control(c) {
            shown += &escaped(c);
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Controls a terminal or changes how other text looks: control codes, and marks that reorder, hide or separate text.
fn is_control(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `\u001b`, which JSON reads as the same character. All that is escaped has four digits.
fn escaped(c: char) -> String {
    format!("\\u{:04x}", u32::from(c))
}

/// A terminal, as a writer that escapes control codes: whatever text from outside gets into our output, it cannot move the cursor, rename
/// the window, or reorder a line. Line breaks and tabs pass; [`printable`] escapes them, too. JSON stays the same JSON.
#[derive(Debug)]
pub struct EscapingWriter<W> {
    inner: W,
    /// The beginning of a character whose other bytes are still to come.
    partial: Vec<u8>,
}

impl<W: Write> EscapingWriter<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            partial: Vec::new(),
        }
    }

    fn write_text(&mut self, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(is_control) {
            let (clean, from) = rest.split_at(at);
            self.inner.write_all(clean.as_bytes())?;
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                self.inner.write_all(escaped(c).as_bytes())?;
            }
            rest = chars.as_str();
        }
        self.inner.write_all(rest.as_bytes())
    }
}

impl<W: Write> Write for EscapingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.partial.extend_from_slice(bytes);
        let given = std::mem::take(&mut self.partial);
        let mut chunks = given.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.write_text(chunk.valid())?;
            // The end of the bytes may be the middle of a character.
            if chunks.peek().is_none() && std::str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none()) {
                self.partial = chunk.invalid().to_vec();
            } else if !chunk.invalid().is_empty() {
                self.write_text("\u{fffd}")?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{EscapingWriter, counted, printable};

    /// What a terminal gets when this is written in pieces of `size` bytes.
    fn shown(bytes: &[u8], size: usize) -> String {
        let mut terminal = EscapingWriter::new(Vec::new());
        for piece in bytes.chunks(size) {
            terminal.write_all(piece).unwrap();
        }
        String::from_utf8(terminal.inner).unwrap()
    }

    #[test]
    fn text_from_outside_cannot_control_a_terminal() {
        let hostile = "\u{1b}]0;owned\u{7}\u{9b}31m a\tb\r\n\u{202e}gpj.exe 垃圾";
        let harmless = "\\u001b]0;owned\\u0007\\u009b31m a\tb\\u000d\n\\u202egpj.exe 垃圾";
        for size in [1, 2, 3, 1000] {
            assert_eq!(shown(hostile.as_bytes(), size), harmless, "{size}");
        }
        assert_eq!(shown(b"a\xff\xc3b", 1), "a\u{fffd}\u{fffd}b", "not UTF-8");
        assert_eq!(printable("a\nb\tc\u{1b}垃圾"), "a\\u000ab\\u0009c\\u001b垃圾");
    }

    #[test]
    fn only_one_is_singular() {
        let cameras = |n: usize| counted(n, "camera", "cameras");
        assert_eq!([0, 1, 2].map(cameras), ["0 cameras", "1 camera", "2 cameras"]);
    }
}
