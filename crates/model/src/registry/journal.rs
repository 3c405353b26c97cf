//! `journal.jsonl`: requests about the models of a box and their results, one JSON object per line, append-only.
//!
//! Both operators' commands and the daemon append, each line under the file lock and flushed to disk. A line that a power failure
//! truncated, or that cannot be parsed, stays in the file and is skipped; the lines after it are read, and nothing is deleted. The
//! `state` module derives the current state; this module only reads and writes.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::package::match_owner;
use crate::trial::TrialReport;
use gridwatch_base::disk;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Time of writing.
    pub at: Timestamp,
    /// Id of the model.
    pub model: String,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// A version of a model; `None` stands for the folder named in the configuration.
pub type Version = Option<String>;

/// An event of a model. An operator's request (`use`, `rollback`, `shadow`) has an id, under which the daemon answers it with exactly
/// one of `went_live`, `refused`, `rolled_back`, `shadow_ended`. The key of the id in the file is `wish`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A package was installed in the registry.
    Installed {
        /// Version of the manifest.
        version: String,
        /// SHA-256 of `model.onnx`.
        sha256: String,
        /// SHA-256 of `model.toml`, which contains the checksum of `model.onnx`.
        manifest_sha256: String,
        /// The configured key that signed the package.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signed_by: Option<String>,
    },
    /// Request: activate this version after a trial.
    Use {
        /// Id of the request.
        #[serde(rename = "wish")]
        request: String,
        /// The version.
        version: Version,
        /// Only this camera; `None`: every camera without a version of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
        /// Activates immediately; the trial runs alongside and rolls back on failure.
        #[serde(default)]
        now: bool,
        /// Activates a version that neither the trial nor a self-test proves.
        #[serde(default)]
        force: bool,
    },
    /// Request: return to the previous version, without a trial.
    Rollback {
        /// Id of the request.
        #[serde(rename = "wish")]
        request: String,
        /// As in `use`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
    },
    /// Request: run this version beside the live one without using its detections.
    Shadow {
        /// Id of the request.
        #[serde(rename = "wish")]
        request: String,
        /// The version.
        version: Version,
        /// As in `use`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
        /// Number of looks.
        looks: u32,
    },
    /// Request: end the shadow run and report its result.
    ShadowStop {},
    /// The version runs beside the live one (with `now`: the previous version runs beside the new one).
    TrialBegun {
        /// Id of the request.
        #[serde(rename = "wish")]
        request: String,
        /// The version.
        version: Version,
        /// Number of looks.
        looks: u32,
    },
    /// The version is live.
    WentLive {
        /// Id of the request.
        #[serde(rename = "wish")]
        request: String,
        /// The version.
        version: Version,
        /// As in `use`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
        /// Result of the trial.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Box<TrialReport>>,
    },
    /// The version is rejected.
    Refused {
        /// Id of the request.
        #[serde(rename = "wish")]
        request: String,
        /// The version.
        version: Version,
        /// Reason for operators.
        reason: String,
        /// Result of the trial.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Box<TrialReport>>,
    },
    /// A live version was replaced by the previous one.
    RolledBack {
        /// Id of the request; `None` if the daemon rolled back by itself.
        #[serde(rename = "wish", default, skip_serializing_if = "Option::is_none")]
        request: Option<String>,
        /// The version that was live.
        from: Version,
        /// The version that is live now.
        to: Version,
        /// As in `use`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
        /// Reason for operators.
        reason: String,
        /// Result of the trial, if the version was on trial.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Box<TrialReport>>,
    },
    /// The shadow run ended.
    ShadowEnded {
        /// Id of the request.
        #[serde(rename = "wish")]
        request: String,
        /// The version.
        version: Version,
        /// Why it ended early, for operators.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut_short: Option<String>,
        /// Result of the shadow run.
        report: Box<TrialReport>,
    },
}

impl Event {
    /// Id of the request that this event answers and closes.
    pub fn answered_request(&self) -> Option<&str> {
        match self {
            Self::WentLive { request, .. } | Self::Refused { request, .. } | Self::ShadowEnded { request, .. } => {
                Some(request)
            }
            Self::RolledBack { request, .. } => request.as_deref(),
            Self::Installed { .. }
            | Self::Use { .. }
            | Self::Rollback { .. }
            | Self::Shadow { .. }
            | Self::ShadowStop {}
            | Self::TrialBegun { .. } => None,
        }
    }
}

/// The journal file.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
}

/// Contents of the journal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JournalContents {
    /// Entries in the order of writing.
    pub entries: Vec<Entry>,
    /// Numbers, from 1, of lines that cannot be parsed. An unterminated last line is not listed: it may still be being written.
    pub unreadable: Vec<usize>,
}

impl Journal {
    /// The journal in the registry's folder, which need not exist.
    pub fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("journal.jsonl"),
        }
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the file in bytes; it grows with every new entry.
    pub fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    /// Appends an entry and waits until it is on disk.
    ///
    /// # Errors
    /// An I/O error; the entry may then be missing or truncated.
    pub fn append(&self, model: &str, at: Timestamp, event: Event) -> io::Result<()> {
        if let Some(dir) = self.path.parent().filter(|dir| !dir.exists()) {
            disk::create_private_dir(dir)?;
            match_owner(dir);
        }
        let mut file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(disk::PRIVATE_FILE)
            .open(&self.path)?;
        // Released when the file is closed.
        file.lock()?;
        match_owner(&self.path);
        let mut line = Vec::new();
        if ends_mid_line(&mut file)? {
            line.push(b'\n');
        }
        let entry = Entry {
            at,
            model: model.to_owned(),
            event,
        };
        serde_json::to_writer(&mut line, &entry)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_data()
    }

    /// Reads the whole journal; empty if the file does not exist.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn read(&self) -> io::Result<JournalContents> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(parse(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(JournalContents::default()),
            Err(e) => Err(e),
        }
    }
}

/// True if the last line is not terminated.
fn ends_mid_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn parse(bytes: &[u8]) -> JournalContents {
    let mut contents = JournalContents::default();
    for (i, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(entry) => contents.entries.push(entry),
            Err(_) if !line.ends_with(b"\n") || line.trim_ascii().is_empty() => {}
            Err(_) => contents.unreadable.push(i + 1),
        }
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollback(request: &str) -> Event {
        Event::Rollback {
            request: request.into(),
            camera: None,
        }
    }

    fn requests(contents: &JournalContents) -> Vec<&str> {
        contents
            .entries
            .iter()
            .map(|e| match &e.event {
                Event::Rollback { request, .. } => request.as_str(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn journal() -> (tempfile::TempDir, Journal) {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(&dir.path().join("models"));
        (dir, journal)
    }

    #[test]
    fn entries_are_read_in_the_order_of_appending() {
        let (_dir, journal) = journal();
        assert_eq!(
            (journal.length(), journal.read().unwrap()),
            (0, JournalContents::default())
        );
        for request in ["a", "b", "c"] {
            journal.append("m", Timestamp::UNIX_EPOCH, rollback(request)).unwrap();
        }
        let contents = journal.read().unwrap();
        assert_eq!(
            (requests(&contents), contents.unreadable.len()),
            (vec!["a", "b", "c"], 0)
        );
        assert_eq!(journal.length(), fs::read(journal.path()).unwrap().len() as u64);
    }

    #[test]
    fn a_truncated_line_affects_no_other_line() {
        let (_dir, journal) = journal();
        journal.append("m", Timestamp::UNIX_EPOCH, rollback("a")).unwrap();
        let whole = fs::read(journal.path()).unwrap();
        for cut in 1..whole.len() {
            fs::write(journal.path(), [&whole[..], &whole[..cut]].concat()).unwrap();
            let contents = journal.read().unwrap();
            // A line that lacks only its newline is complete.
            let expected = if cut == whole.len() - 1 {
                vec!["a", "a"]
            } else {
                vec!["a"]
            };
            assert_eq!(
                (requests(&contents), &contents.unreadable[..]),
                (expected.clone(), &[][..]),
                "{cut}"
            );
            journal.append("m", Timestamp::UNIX_EPOCH, rollback("b")).unwrap();
            let contents = journal.read().unwrap();
            assert_eq!(requests(&contents), [expected, vec!["b"]].concat(), "{cut}");
            assert_eq!(contents.unreadable.is_empty(), cut == whole.len() - 1, "{cut}");
        }
    }

    #[test]
    fn a_line_of_a_newer_version_is_skipped_and_kept() {
        let (_dir, journal) = journal();
        journal.append("m", Timestamp::UNIX_EPOCH, rollback("a")).unwrap();
        let mut text = fs::read_to_string(journal.path()).unwrap();
        text.push_str("{\"at\":\"1970-01-01T00:00:00Z\",\"model\":\"m\",\"event\":\"future\"}\nnot json\n");
        fs::write(journal.path(), &text).unwrap();
        journal.append("m", Timestamp::UNIX_EPOCH, rollback("b")).unwrap();
        let contents = journal.read().unwrap();
        assert_eq!(
            (requests(&contents), &contents.unreadable[..]),
            (vec!["a", "b"], &[2, 3][..])
        );
        assert!(fs::read_to_string(journal.path()).unwrap().starts_with(&text));
    }

    #[test]
    fn concurrent_writers_do_not_interleave_lines() {
        let (_dir, journal) = journal();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let journal = &journal;
                scope.spawn(move || {
                    for n in 0..25 {
                        journal
                            .append("m", Timestamp::UNIX_EPOCH, rollback(&format!("{writer}-{n}")))
                            .unwrap();
                    }
                });
            }
        });
        let contents = journal.read().unwrap();
        assert_eq!((contents.entries.len(), contents.unreadable.len()), (100, 0));
    }

    #[test]
    fn request_ids_are_stored_under_the_key_wish() {
        let line = br#"{"at":"1970-01-01T00:00:00Z","model":"m","event":"rolled_back","wish":"a","from":"1.1","to":null,"reason":"r"}"#;
        let contents = parse(line);
        assert_eq!(contents.entries[0].event.answered_request(), Some("a"));
        assert_eq!(serde_json::to_vec(&contents.entries[0]).unwrap(), line);
        let line = r#"{"at":"1970-01-01T00:00:00Z","model":"m","event":"rollback","wish":"a"}"#;
        assert_eq!(requests(&parse(line.as_bytes())), ["a"]);
        let entry: Entry = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&entry).unwrap(), line);
    }
}
