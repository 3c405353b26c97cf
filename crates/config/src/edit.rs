//! Edits.

pub(crate) mod journal;
