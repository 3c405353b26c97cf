//! `journal.jsonl`: what was asked of the models of a box and what came of it, a line each, only ever appended.
//!
//! Operators' commands and the daemon both write it, each line under the file's lock, flushed to the disk. A line that a
//! power cut tore, or that is none, is left where it is and not counted: nothing behind it is lost, and nothing is deleted.
//! What it all amounts to is the `state` module's; nothing here judges.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::package::match_owner;
use crate::trial::TrialReport;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was written.
    pub at: Timestamp,
    /// The manifest's id.
    pub model: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A version of a model: `None` is the folder that the configuration names.
pub type Version = Option<String>;

/// What can happen to a model. A `wish` is asked by an operator and answered by the daemon with the same name: by exactly one
/// of `went_live`, `refused`, `rolled_back`, `shadow_ended`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A package was put into the registry.
    Installed {
        /// Its version.
        version: String,
        /// Of `model.onnx`.
        sha256: String,
        /// Of `model.toml`, which holds the former.
        manifest_sha256: String,
        /// Which of the configured keys signed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signed_by: Option<String>,
    },
    /// Asked: look with this version.
    Use {
        /// Names the wish.
        wish: String,
        /// Which.
        version: Version,
        /// Only there; `None`: wherever no version of the camera's own is in force.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
        /// It decides from its first look; the one before looks on beside it.
        #[serde(default)]
        now: bool,
    },
    /// Asked: look again with the version before, without a trial.
    Rollback {
        /// Names the wish.
        wish: String,
        /// As in `use`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
    },
    /// Asked: run this version beside the live one, deciding nothing.
    Shadow {
        /// Names the wish.
        wish: String,
        /// Which.
        version: Version,
        /// As in `use`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
        /// For so many looks.
        looks: u32,
    },
    /// Asked: end what runs beside, and say what it saw.
    ShadowStop {},
    /// The version runs beside the live one (or the live one beside it, where `now` was asked).
    TrialBegun {
        /// Whose.
        wish: String,
        /// Which.
        version: Version,
        /// For so many looks.
        looks: u32,
    },
    /// The version decides now.
    WentLive {
        /// Whose.
        wish: String,
        /// Which.
        version: Version,
        /// As in `use`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
        /// What the trial saw.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Box<TrialReport>>,
    },
    /// The version does not go live.
    Refused {
        /// Whose.
        wish: String,
        /// Which.
        version: Version,
        /// Why, for people.
        reason: String,
        /// What the trial saw.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Box<TrialReport>>,
    },
    /// The version that decided was taken back.
    RolledBack {
        /// Whose, where somebody asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wish: Option<String>,
        /// What decided.
        from: Version,
        /// What decides now.
        to: Version,
        /// As in `use`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        camera: Option<String>,
        /// Why, for people.
        reason: String,
        /// What the trial saw, where it was on trial.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Box<TrialReport>>,
    },
    /// What ran beside is done.
    ShadowEnded {
        /// Whose.
        wish: String,
        /// Which.
        version: Version,
        /// Why before its time, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut_short: Option<String>,
        /// What it saw.
        report: Box<TrialReport>,
    },
}

impl Event {
    /// The wish that it answers: nothing more comes of that.
    pub fn answered_request(&self) -> Option<&str> {
        match self {
            Self::WentLive { wish, .. } | Self::Refused { wish, .. } | Self::ShadowEnded { wish, .. } => Some(wish),
            Self::RolledBack { wish, .. } => wish.as_deref(),
            Self::Installed { .. }
            | Self::Use { .. }
            | Self::Rollback { .. }
            | Self::Shadow { .. }
            | Self::ShadowStop {}
            | Self::TrialBegun { .. } => None,
        }
    }
}

/// The file.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JournalContents {
    /// In the order of writing.
    pub entries: Vec<Entry>,
    /// Numbers, from 1, of the lines that are none; the last line is not among them while it may still be being written.
    pub unreadable: Vec<usize>,
}

impl Journal {
    /// The journal in the registry's folder, which need not be there.
    pub fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("journal.jsonl"),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far: another number than before says that there is news.
    pub fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |m| m.len())
    }

    /// Writes a line, and waits until the disk has it.
    ///
    /// # Errors
    /// When the disk takes nothing.
    pub fn append(&self, model: &str, at: Timestamp, event: Event) -> io::Result<()> {
        if let Some(dir) = self.path.parent().filter(|dir| !dir.exists()) {
            fs::create_dir_all(dir)?;
            match_owner(dir);
        }
        let mut file = File::options().read(true).append(true).create(true).open(&self.path)?;
        // Dropped with the file.
        file.lock()?;
        match_owner(&self.path);
        let mut line = Vec::new();
        if is_torn(&mut file)? {
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

    /// Everything that was written; nothing where there is no file.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(&self) -> io::Result<JournalContents> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(parse(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(JournalContents::default()),
            Err(e) => Err(e),
        }
    }
}

/// True where the last line has no end.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn parse(bytes: &[u8]) -> JournalContents {
    let mut told = JournalContents::default();
    for (i, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(entry) => told.entries.push(entry),
            Err(_) if !line.ends_with(b"\n") || line.trim_ascii().is_empty() => {}
            Err(_) => told.unreadable.push(i + 1),
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollback(wish: &str) -> Event {
        Event::Rollback {
            wish: wish.into(),
            camera: None,
        }
    }

    fn wishes(told: &JournalContents) -> Vec<&str> {
        told.entries
            .iter()
            .map(|e| match &e.event {
                Event::Rollback { wish, .. } => wish.as_str(),
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
    fn what_is_appended_is_read_in_order() {
        let (_dir, journal) = journal();
        assert_eq!((journal.length(), journal.read().unwrap()), (0, JournalContents::default()));
        for wish in ["a", "b", "c"] {
            journal.append("m", Timestamp::UNIX_EPOCH, rollback(wish)).unwrap();
        }
        let told = journal.read().unwrap();
        assert_eq!((wishes(&told), told.unreadable.len()), (vec!["a", "b", "c"], 0));
        assert_eq!(journal.length(), fs::read(journal.path()).unwrap().len() as u64);
    }

    #[test]
    fn a_torn_line_costs_nothing_but_itself() {
        let (_dir, journal) = journal();
        journal.append("m", Timestamp::UNIX_EPOCH, rollback("a")).unwrap();
        let whole = fs::read(journal.path()).unwrap();
        for cut in 1..whole.len() {
            fs::write(journal.path(), [&whole[..], &whole[..cut]].concat()).unwrap();
            let told = journal.read().unwrap();
            // A line that lacks nothing but its end is one.
            let expected = if cut == whole.len() - 1 {
                vec!["a", "a"]
            } else {
                vec!["a"]
            };
            assert_eq!(
                (wishes(&told), &told.unreadable[..]),
                (expected.clone(), &[][..]),
                "{cut}"
            );
            journal.append("m", Timestamp::UNIX_EPOCH, rollback("b")).unwrap();
            let told = journal.read().unwrap();
            assert_eq!(wishes(&told), [expected, vec!["b"]].concat(), "{cut}");
            assert_eq!(told.unreadable.is_empty(), cut == whole.len() - 1, "{cut}");
        }
    }

    #[test]
    fn a_line_of_a_newer_program_is_passed_over_and_stays() {
        let (_dir, journal) = journal();
        journal.append("m", Timestamp::UNIX_EPOCH, rollback("a")).unwrap();
        let mut text = fs::read_to_string(journal.path()).unwrap();
        text.push_str("{\"at\":\"1970-01-01T00:00:00Z\",\"model\":\"m\",\"event\":\"dreamt\"}\nno json\n");
        fs::write(journal.path(), &text).unwrap();
        journal.append("m", Timestamp::UNIX_EPOCH, rollback("b")).unwrap();
        let told = journal.read().unwrap();
        assert_eq!((wishes(&told), &told.unreadable[..]), (vec!["a", "b"], &[2, 3][..]));
        assert!(fs::read_to_string(journal.path()).unwrap().starts_with(&text));
    }

    #[test]
    fn many_writers_do_not_mix_their_lines() {
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
        let told = journal.read().unwrap();
        assert_eq!((told.entries.len(), told.unreadable.len()), (100, 0));
    }
}
