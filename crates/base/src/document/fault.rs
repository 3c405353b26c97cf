//! Faults of a file: place, message, remedy.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{message, message::Message};

/// An error or a warning at one place of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Fault {
    /// Path of the field, such as `cameras[3].zones[0].polygon`; empty for the whole file.
    pub path: String,
    /// The file, with the path as the user would type it.
    pub file: PathBuf,
    /// Line number, from 1, if known.
    pub line: Option<usize>,
    /// What is wrong. Never contains a credential.
    pub message: Message,
    /// How to fix it; empty if the message already says so.
    pub remedy: Message,
}

impl Fault {
    /// A fault of the file as a whole.
    pub fn whole(file: &Path, message: impl Into<Message>, remedy: impl Into<Message>) -> Self {
        Self {
            path: String::new(),
            file: file.into(),
            line: None,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// The fault with its place, without the remedy.
    pub fn words(&self) -> Message {
        let place = self.file.display().to_string();
        let place = self.line.map_or(place.clone(), |line| format!("{place}:{line}"));
        let what = self.message.clone();
        match self.path.is_empty() {
            true => message!("{what} ({place})", what, place),
            false => message!("{path}: {what} ({place})", path = &self.path, what, place),
        }
    }
}

impl fmt::Display for Fault {
    /// One line: `cameras[3].zones[0].polygon: 2 points, a polygon needs 3 or more (configs/edge.toml:41)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

/// All faults of a file, ordered by line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    /// One line per fault, each followed by an indented line with its remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
            if !fault.remedy.is_empty() {
                write!(f, "\n    {}", fault.remedy)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl Faults {
    /// Always [`Class::Config`](crate::error::Class::Config): retrying does not help.
    pub fn class(&self) -> crate::error::Class {
        crate::error::Class::Config
    }
}
