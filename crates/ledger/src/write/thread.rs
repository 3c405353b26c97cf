//! The thread that owns the files of the ledger: it writes them, deletes the oldest, and repairs what a crash left.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
};

use jiff::Timestamp;
use metrics::counter;

use super::{NewFile, WriterJob, configured_frame, file_start};
use crate::{
    LedgerError, Settings,
    code::Decoder,
    file::{self, FrameError, FrameReader},
    plans::keep::PlanKeeper,
};
use gridwatch_base::{disk, metric};
use gridwatch_engine::Plan;

/// The thread that owns the files.
pub(super) struct Writer {
    settings: Settings,
    is_broken: Arc<AtomicBool>,
    /// Set once the directory was opened.
    directory: Option<Directory>,
    current: Option<CurrentFile>,
    is_failing: bool,
    first_failure: Option<LedgerError>,
}

/// The locked directory of the ledger.
struct Directory {
    /// Held until the writer ends.
    _lock: File,
    /// The undamaged files, oldest first.
    files: Vec<RetainedFile>,
    plans: PlanKeeper,
}

/// The file being written.
struct CurrentFile {
    file: File,
    path: PathBuf,
    /// Length of its whole records in bytes.
    length: u64,
}

/// A file that may be deleted for its age.
struct RetainedFile {
    number: u64,
    path: PathBuf,
    bytes: u64,
    started_at: Timestamp,
}

impl Writer {
    pub(super) fn new(settings: Settings, is_broken: Arc<AtomicBool>) -> Self {
        Self {
            settings,
            is_broken,
            directory: None,
            current: None,
            is_failing: false,
            first_failure: None,
        }
    }

    /// Processes jobs until the recorder is dropped; returns the first error.
    pub(super) fn run(mut self, inbox: &Receiver<WriterJob>) -> Option<LedgerError> {
        for job in inbox {
            let records = job.records();
            let result = match job {
                WriterJob::StartFile(file) => self.start_file(*file),
                WriterJob::Append { .. } | WriterJob::Configured { .. } if self.current.is_none() => {
                    counter!(metric::LEDGER_LOST).increment(records);
                    continue;
                }
                WriterJob::Append { bytes, .. } => self.append(&bytes),
                WriterJob::Configured { config_sha256, plan } => self.configured(&config_sha256, &plan),
            };
            if let Err(error) = result {
                counter!(metric::LEDGER_LOST).increment(records);
                self.failed(error);
            }
        }
        if let Err(error) = self.finish() {
            self.failed(error);
        }
        self.first_failure
    }

    fn failed(&mut self, error: LedgerError) {
        self.is_broken.store(true, Ordering::Release);
        self.current = None;
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(%error, "Cannot write the ledger; records are dropped and cannot be replayed. Retrying every minute");
        }
        self.first_failure.get_or_insert(error);
    }

    fn start_file(&mut self, file: NewFile) -> Result<(), LedgerError> {
        self.finish()?;
        let mut directory = match self.directory.take() {
            Some(directory) => directory,
            None => self.open_directory()?,
        };
        let created = self.create_file(&mut directory, file);
        self.directory = Some(directory);
        self.current = Some(created?);
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("Writing the ledger again");
        }
        Ok(())
    }

    fn create_file(&self, directory: &mut Directory, new: NewFile) -> Result<CurrentFile, LedgerError> {
        let Directory { files, plans, .. } = directory;
        self.remove_expired(files, plans, new.at)?;
        let dir = &self.settings.dir;
        // Damaged files keep their numbers.
        let newest = file::list(dir)?.last().map_or(0, |f| f.number);
        let number = newest.max(files.last().map_or(0, |f| f.number)) + 1;
        let mut head = new.head;
        head.plan = plans.store(&new.plan, number)?;
        let mut bytes = file_start(new.started_at, &head);
        bytes.extend(new.frames);
        let path = dir.join(file::file_name(number));
        let create = |e| LedgerError::io("create", &path, e);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(disk::PRIVATE_FILE)
            .open(&path)
            .map_err(create)?;
        let length = bytes.len() as u64;
        files.push(RetainedFile {
            number,
            path: path.clone(),
            bytes: length,
            started_at: new.at,
        });
        if let Err(e) = file.write_all(&bytes) {
            // An incomplete header would look like damage later.
            files.pop();
            let _ = fs::remove_file(&path);
            return Err(LedgerError::io("write", &path, e));
        }
        // Flush the directory, so that the name survives a power cut.
        File::open(dir).and_then(|d| d.sync_all()).map_err(create)?;
        Ok(CurrentFile { file, path, length })
    }

    /// Stores the plan, then appends the record that names it.
    fn configured(&mut self, config_sha256: &str, plan: &Arc<Plan>) -> Result<(), LedgerError> {
        let Some(Directory { files, plans, .. }) = &mut self.directory else {
            return Ok(());
        };
        let number = files.last().map_or(0, |f| f.number);
        let plan = plans.store(plan, number)?;
        self.append(&configured_frame(config_sha256, plan))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        if let Err(e) = current.file.write_all(bytes) {
            // A partial record would look like damage once a newer file follows. If truncating fails too, it will.
            let _ = current.file.set_len(current.length);
            return Err(LedgerError::io("write", &current.path, e));
        }
        current.length += bytes.len() as u64;
        if let Some(directory) = &mut self.directory
            && let Some(newest) = directory.files.last_mut()
        {
            newest.bytes = current.length;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), LedgerError> {
        match self.current.take() {
            Some(current) => current
                .file
                .sync_all()
                .map_err(|e| LedgerError::io("flush", &current.path, e)),
            None => Ok(()),
        }
    }

    /// Locks the directory, repairs the end of the newest file and lists the files.
    fn open_directory(&self) -> Result<Directory, LedgerError> {
        let dir = &self.settings.dir;
        disk::create_private_dir(dir).map_err(|e| LedgerError::io("create", dir, e))?;
        let path = dir.join("ledger.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(disk::PRIVATE_FILE)
            .open(&path)
            .map_err(|e| LedgerError::io("open", &path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::Busy { dir: dir.clone() }),
            Err(TryLockError::Error(e)) => return Err(LedgerError::io("lock", &path, e)),
        }
        if let Some(newest) = file::list(dir)?.iter().rfind(|f| !f.is_damaged) {
            repair_tail(&newest.path)?;
        }
        let mut files: Vec<RetainedFile> = Vec::new();
        for listed in file::list(dir)?.into_iter().filter(|f| !f.is_damaged) {
            let before = files.last().map_or(Timestamp::MIN, |f| f.started_at);
            files.push(RetainedFile {
                number: listed.number,
                bytes: fs::metadata(&listed.path).map_or(0, |m| m.len()),
                // A file with an unreadable header counts as old as the one before it.
                started_at: FrameReader::open(&listed.path).map_or(before, |f| f.started_at),
                path: listed.path,
            });
        }
        let newest = file::list(dir)?.last().map_or(0, |f| f.number);
        let plans = PlanKeeper::open(dir, newest)?;
        Ok(Directory {
            _lock: lock,
            files,
            plans,
        })
    }

    /// Deletes the oldest files while a new one would exceed the size limit, and files that are too old.
    /// Then the plans that none of those that are left names.
    fn remove_expired(
        &self,
        files: &mut Vec<RetainedFile>,
        plans: &mut PlanKeeper,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let Settings {
            file_bytes,
            keep_bytes,
            keep_for,
            ..
        } = &self.settings;
        let oldest = at.checked_sub(*keep_for).unwrap_or(Timestamp::MIN);
        let plan_bytes = plans.bytes()?;
        loop {
            let total: u64 = plan_bytes + files.iter().map(|f| f.bytes).sum::<u64>();
            // The newest record of a file is older than the start of the next file.
            let newest_record = files.get(1).map_or(at, |next| next.started_at);
            let is_expired = total + file_bytes > *keep_bytes || newest_record < oldest;
            if files.is_empty() || !is_expired {
                break;
            }
            let old = files.remove(0);
            fs::remove_file(&old.path).map_err(|e| LedgerError::io("remove", &old.path, e))?;
            tracing::debug!(file = %old.path.display(), "Deleted old ledger file");
        }
        // Damaged files are read up to the damage.
        let oldest = file::list(&self.settings.dir)?.first().map(|f| f.number);
        plans.remove_unused(oldest.unwrap_or(u64::MAX))
    }
}

/// Cuts off an incomplete record at the end of the newest file, as left by a crash. Renames the file if it is damaged
/// elsewhere.
fn repair_tail(path: &Path) -> Result<(), LedgerError> {
    let error = match FrameReader::open(path) {
        Ok(mut frames) => {
            let mut decoder = Decoder::new(frames.started_at);
            loop {
                let offset = frames.offset();
                match frames.next() {
                    Ok(None) => return Ok(()),
                    Ok(Some(payload)) => {
                        if let Err(reason) = decoder.entry(payload) {
                            break FrameError::Broken {
                                offset,
                                reason,
                                frame_follows: true,
                            };
                        }
                    }
                    Err(error) => break error,
                }
            }
        }
        Err(error) => error,
    };
    match error {
        FrameError::Io(e) => Err(LedgerError::io("read", path, e)),
        // Written by a newer version: leave it alone.
        FrameError::Newer(_) => Ok(()),
        FrameError::Broken {
            offset,
            frame_follows: false,
            ..
        } if offset >= file::HEADER_BYTES => {
            let length = fs::metadata(path).map_or(offset, |m| m.len());
            File::options()
                .write(true)
                .open(path)
                .and_then(|f| {
                    f.set_len(offset)?;
                    f.sync_all()
                })
                .map_err(|e| LedgerError::io("truncate", path, e))?;
            tracing::warn!(file = %path.display(), offset, bytes = length - offset, "Newest ledger file ended in an incomplete record, as after a crash; cut it off");
            Ok(())
        }
        FrameError::Broken { offset, reason, .. } => {
            let renamed_to = file::damaged_name(path);
            fs::rename(path, &renamed_to).map_err(|e| LedgerError::io("rename", path, e))?;
            tracing::error!(file = %path.display(), offset, reason, renamed_to = %renamed_to.display(), "Ledger file is damaged; renamed it. Replays read it up to the damage");
            Ok(())
        }
    }
}
