//! Reads a ledger from its oldest file to its newest, also while the daemon writes it. Changes nothing, except for
//! [`quarantine`].

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    LedgerError,
    code::{Decoder, Entry, FileOrigin, RecordedEvent},
    file::{self, FrameError, FrameReader, LedgerFile, damaged_name},
};
use gridwatch_engine::Observation;

/// A damaged file: it was read up to `offset`, then reading continued with the next file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at byte {offset}: {reason}; skipped {lost} bytes up to the end of the file", .path.display())]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Position of the damage.
    pub offset: u64,
    /// What is wrong there.
    pub reason: &'static str,
    /// Number of bytes from there to the end of the file.
    pub lost: u64,
    /// The file was renamed earlier.
    pub is_quarantined: bool,
}

impl Damage {
    /// Name of the file before it was renamed, which stays the same for every replay.
    pub fn file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_suffix(".damaged").unwrap_or(&name).to_owned()
    }
}

/// Renames a damaged file so that no daemon deletes it for its age; the part before the damage is still read. Returns
/// the new path, or `None` if the file was renamed earlier.
///
/// # Errors
/// [`LedgerError::Io`].
pub fn quarantine(damage: &Damage) -> Result<Option<PathBuf>, LedgerError> {
    if damage.is_quarantined {
        return Ok(None);
    }
    let to = damaged_name(&damage.path);
    fs::rename(&damage.path, &to).map_err(|e| LedgerError::io("rename", &damage.path, e))?;
    Ok(Some(to))
}

/// Iterates over the records of a ledger. Only one record is in memory at a time.
#[derive(Debug)]
pub struct Reader {
    files: VecDeque<LedgerFile>,
    open: Option<OpenFile>,
    damage: Vec<Damage>,
    /// Bytes of an incomplete record at the end of the newest file, left by a crash or still being written.
    unfinished: u64,
}

#[derive(Debug)]
struct OpenFile {
    file: LedgerFile,
    frames: FrameReader,
    decoder: Decoder,
}

impl Reader {
    /// Opens the ledger in `dir`. With `from`, reading starts with the newest run that had started by then, since
    /// earlier runs do not affect it; if that run is no longer on disk, with the oldest file.
    ///
    /// # Errors
    /// [`LedgerError::Missing`] if there is none, or [`LedgerError::Io`].
    pub fn open(dir: &Path, from: Option<Timestamp>) -> Result<Self, LedgerError> {
        if !dir.is_dir() {
            return Err(LedgerError::Missing { dir: dir.into() });
        }
        let mut files: VecDeque<LedgerFile> = file::list(dir)?.into();
        if files.is_empty() {
            return Err(LedgerError::Missing { dir: dir.into() });
        }
        if let Some(from) = from {
            let first = files.iter().rposition(|f| starts_a_run(&f.path, from)).unwrap_or(0);
            files.drain(..first);
        }
        Ok(Self {
            files,
            open: None,
            damage: Vec::new(),
            unfinished: 0,
        })
    }

    /// Opens the ledger in `dir` at the newest file that was started by `from`, whether a run starts with it or not. Objects that were
    /// there before are seen anew, so a caller reads some time ahead of what it reports.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_near(dir: &Path, from: Timestamp) -> Result<Self, LedgerError> {
        let mut this = Self::open(dir, None)?;
        let is_by_then = |f: &LedgerFile| FrameReader::open(&f.path).is_ok_and(|frames| frames.started_at <= from);
        let first = this.files.iter().rposition(is_by_then).unwrap_or(0);
        this.files.drain(..first);
        Ok(this)
    }

    /// Time of the newest look or tick in the ledger; `None` if there is none. Reads the newest files.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn newest_time(dir: &Path) -> Result<Option<Timestamp>, LedgerError> {
        let files = Self::open(dir, None)?.files;
        for file in files.into_iter().rev() {
            let mut one = Self {
                files: VecDeque::from([file]),
                open: None,
                damage: Vec::new(),
                unfinished: 0,
            };
            let mut newest = None;
            while let Some(entry) = one.next_entry()? {
                if let RecordedEvent::Observed(Observation { at, .. }) | RecordedEvent::Tick(at) = entry.event {
                    newest = Some(at);
                }
            }
            if newest.is_some() {
                return Ok(newest);
            }
        }
        Ok(None)
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// [`LedgerError::Io`] or [`LedgerError::Newer`]. Damage is not an error, see [`Reader::damage`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LedgerError> {
        loop {
            let Some(open) = &mut self.open else {
                if !self.open_next()? {
                    return Ok(None);
                }
                continue;
            };
            let offset = open.frames.offset();
            let error = match open.frames.next() {
                Ok(None) => {
                    self.open = None;
                    continue;
                }
                Ok(Some(payload)) => match open.decoder.entry(payload) {
                    Ok(entry) => return Ok(Some(entry)),
                    Err(reason) => FrameError::Broken {
                        offset,
                        reason,
                        frame_follows: true,
                    },
                },
                Err(error) => error,
            };
            let (file, length) = (open.file.clone(), open.frames.length());
            self.open = None;
            self.handle_frame_error(file, length, error)?;
        }
    }

    /// The damage found so far, in the order of the files.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Size in bytes of the incomplete record at the end of the newest file.
    pub fn unfinished(&self) -> u64 {
        self.unfinished
    }

    fn open_next(&mut self) -> Result<bool, LedgerError> {
        let Some(file) = self.files.pop_front() else {
            return Ok(false);
        };
        match FrameReader::open(&file.path) {
            Ok(frames) => {
                let decoder = Decoder::new(frames.started_at);
                self.open = Some(OpenFile { file, frames, decoder });
            }
            // The daemon deleted it for its age after the directory was listed.
            Err(FrameError::Io(e)) if e.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let length = fs::metadata(&file.path).map_or(0, |m| m.len());
                self.handle_frame_error(file, length, error)?;
            }
        }
        Ok(true)
    }

    fn handle_frame_error(&mut self, file: LedgerFile, length: u64, error: FrameError) -> Result<(), LedgerError> {
        match error {
            FrameError::Io(e) => Err(LedgerError::io("read", &file.path, e)),
            FrameError::Newer(found) => Err(LedgerError::Newer {
                path: file.path,
                found,
                known: file::VERSION,
            }),
            FrameError::Broken {
                offset,
                reason,
                frame_follows,
            } => {
                let lost = length - offset;
                if self.files.is_empty() && !frame_follows && !file.is_damaged {
                    self.unfinished = lost;
                } else {
                    self.damage.push(Damage {
                        path: file.path,
                        offset,
                        reason,
                        lost,
                        is_quarantined: file.is_damaged,
                    });
                }
                Ok(())
            }
        }
    }
}

/// True if the daemon started this file at its own start, not later than `by`.
fn starts_a_run(path: &Path, by: Timestamp) -> bool {
    let Ok(mut frames) = FrameReader::open(path) else {
        return false;
    };
    let started_at = frames.started_at;
    let Ok(Some(first)) = frames.next() else { return false };
    let head = Decoder::new(started_at).entry(first).map(|e| e.event);
    matches!(head, Ok(RecordedEvent::Head(h)) if h.origin == FileOrigin::Start && h.started_at <= by)
}
