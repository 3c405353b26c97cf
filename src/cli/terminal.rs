//! The terminal: all that commands print goes through here, so that no text from outside controls it.

use std::io::{self, Stderr, StdoutLock, Write};

use gridwatch_base::text::EscapingWriter;

/// Standard output, for the result.
pub(super) fn stdout() -> EscapingWriter<StdoutLock<'static>> {
    EscapingWriter::new(io::stdout().lock())
}

/// Standard error, for notes and errors.
pub(super) fn stderr() -> EscapingWriter<Stderr> {
    EscapingWriter::new(io::stderr())
}

/// Writes a line to standard error. If that is closed, nobody reads it, and the exit code still tells the result.
pub(super) fn note(line: impl std::fmt::Display) {
    let _ = writeln!(stderr(), "{line}");
}
