//! Reading a ledger from its oldest file to its newest, also beside the daemon that writes it. Changes nothing.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    LedgerError,
    code::{FileOrigin, Decoder, Entry, RecordedEvent},
    file::{self, FrameError, FrameReader, LedgerFile, damaged_name},
};

/// What could not be read: from `offset` to the file's end. The next file was read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at byte {offset}: {reason}. {lost} bytes of it are not read; what comes after is read from the next file", .path.display())]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The first byte that could not be read.
    pub offset: u64,
    /// Why not.
    pub reason: &'static str,
    /// Bytes from there to the file's end.
    pub lost: u64,
    /// The file's name says so already.
    pub is_quarantined: bool,
}

impl Damage {
    /// The file's name as it was before it was set apart: the same whenever it is asked.
    pub fn file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_suffix(".damaged").unwrap_or(&name).to_owned()
    }
}

/// Sets a damaged file apart by its name, so that no daemon removes it for its age; what is whole of it is still read.
/// `None`: it was set apart before.
///
/// # Errors
/// What the system says.
pub fn quarantine(damage: &Damage) -> Result<Option<PathBuf>, LedgerError> {
    if damage.is_quarantined {
        return Ok(None);
    }
    let to = damaged_name(&damage.path);
    fs::rename(&damage.path, &to).map_err(|e| LedgerError::io("rename", &damage.path, e))?;
    Ok(Some(to))
}

/// Gives the records one by one; holds one at a time, however long the ledger is.
#[derive(Debug)]
pub struct Reader {
    files: VecDeque<LedgerFile>,
    open: Option<OpenFile>,
    damage: Vec<Damage>,
    /// Bytes at the end of the newest file that are no whole record: torn off by a crash, or still being written.
    unfinished: u64,
}

#[derive(Debug)]
struct OpenFile {
    stored: LedgerFile,
    frames: FrameReader,
    decoder: Decoder,
}

impl Reader {
    /// Opens the ledger in `dir`. With `from`, reading begins with the newest run that had begun by then, for what came
    /// before a start bears on nothing after it; where no such run is kept any more, with the oldest file.
    ///
    /// # Errors
    /// [`LedgerError::Missing`] where there is none, or what the system says.
    pub fn open(dir: &Path, from: Option<Timestamp>) -> Result<Self, LedgerError> {
        if !dir.is_dir() {
            return Err(LedgerError::Missing { dir: dir.into() });
        }
        let mut files: VecDeque<LedgerFile> = file::list(dir)?.into();
        if files.is_empty() {
            return Err(LedgerError::Missing { dir: dir.into() });
        }
        if let Some(from) = from {
            let first = files.iter().rposition(|f| begins_a_run(&f.path, from)).unwrap_or(0);
            files.drain(..first);
        }
        Ok(Self {
            files,
            open: None,
            damage: Vec::new(),
            unfinished: 0,
        })
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// What the system says, or [`LedgerError::Newer`]. Damage is no error: see [`Reader::damage`].
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
            let (stored, length) = (open.stored.clone(), open.frames.length());
            self.open = None;
            self.handle_frame_error(stored, length, error)?;
        }
    }

    /// What could not be read so far, in the order of the files.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// How many bytes at the end of the newest file are no whole record (yet).
    pub fn unfinished(&self) -> u64 {
        self.unfinished
    }

    fn open_next(&mut self) -> Result<bool, LedgerError> {
        let Some(stored) = self.files.pop_front() else {
            return Ok(false);
        };
        match FrameReader::open(&stored.path) {
            Ok(frames) => {
                let decoder = Decoder::new(frames.begun);
                self.open = Some(OpenFile {
                    stored,
                    frames,
                    decoder,
                });
            }
            // The daemon removed it for its age since the folder was listed.
            Err(FrameError::Io(e)) if e.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let length = fs::metadata(&stored.path).map_or(0, |m| m.len());
                self.handle_frame_error(stored, length, error)?;
            }
        }
        Ok(true)
    }

    fn handle_frame_error(&mut self, stored: LedgerFile, length: u64, error: FrameError) -> Result<(), LedgerError> {
        match error {
            FrameError::Io(e) => Err(LedgerError::io("read", &stored.path, e)),
            FrameError::Newer(found) => Err(LedgerError::Newer {
                path: stored.path,
                found,
                known: file::VERSION,
            }),
            FrameError::Broken {
                offset,
                reason,
                frame_follows,
            } => {
                let lost = length - offset;
                if self.files.is_empty() && !frame_follows && !stored.is_damaged {
                    self.unfinished = lost;
                } else {
                    self.damage.push(Damage {
                        path: stored.path,
                        offset,
                        reason,
                        lost,
                        is_quarantined: stored.is_damaged,
                    });
                }
                Ok(())
            }
        }
    }
}

/// True where a daemon began this file at its start, not later than `by`.
fn begins_a_run(path: &Path, by: Timestamp) -> bool {
    let Ok(mut frames) = FrameReader::open(path) else {
        return false;
    };
    let begun = frames.begun;
    let Ok(Some(first)) = frames.next() else { return false };
    let head = Decoder::new(begun).entry(first).map(|e| e.event);
    matches!(head, Ok(RecordedEvent::Head(h)) if h.begun == FileOrigin::Start && h.started_at <= by)
}
