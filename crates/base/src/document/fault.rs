//! What is wrong with a file: where, why, and what to do.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// One thing wrong, or one thing worth a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Which field: `cameras[3].zones[0].polygon`. Empty: the whole file.
    pub path: String,
    /// The file it stands in, as its reader would type it.
    pub file: PathBuf,
    /// Its line there, counted from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong. Never holds a credential.
    pub message: String,
    /// What to do about it; empty where the message says it.
    pub remedy: String,
}

impl Fault {
    /// One of a file as a whole.
    pub fn whole(file: &Path, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            file: file.into(),
            line: None,
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Fault {
    /// One line: `cameras[3].zones[0].polygon: 2 points, a polygon needs 3 or more (configs/edge.toml:41)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{} ({}", self.message, self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(")")
    }
}

/// Every fault of a file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    /// A line each, with its remedy on the next.
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
    /// Always [`Class::Config`](crate::error::Class::Config): no retry mends it.
    pub fn class(&self) -> crate::error::Class {
        crate::error::Class::Config
    }
}
