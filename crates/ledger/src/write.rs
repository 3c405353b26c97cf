//! Writing: records are encoded on the thread of the engine and passed, once a second, to a thread that owns the files.
//! The engine never waits for the disk.
//!
//! Records that cannot be written are dropped and counted, and the failure is logged once. After a minute a new file is
//! tried; its head states that records before it were lost.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::counter;

use super::{
    LedgerError, Settings,
    code::{Decoder, Encoder, FileHead, FileOrigin},
    file::{self, FrameError, FrameReader},
};
use gridwatch_base::{disk, metric};
use gridwatch_engine::{CaseId, Engine, Input};

/// A killed process loses at most this much.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// A larger buffer is passed on at once.
const FLUSH_BYTES: usize = 256 << 10;
/// Buffers that may wait for a slow disk; about a minute of them.
const QUEUE: usize = 64;
/// Pause after a write error.
const RETRY: Duration = Duration::from_secs(60);
/// Maximum age of a file, so that old records can be deleted file by file.
const FILE_AGE: Duration = Duration::from_hours(24);

/// The run that is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInfo {
    /// Start of the run.
    pub started_at: Timestamp,
    /// Boot id of the kernel; empty if unknown.
    pub boot: String,
    /// SHA-256 of the configuration file, lower-case hex.
    pub config_sha256: String,
}

enum WriterJob {
    /// Start a new file with these bytes; `at` is the time of the newest input.
    StartFile { at: Timestamp, bytes: Vec<u8> },
    /// Append to the current file.
    Append { bytes: Vec<u8>, records: u64 },
}

/// Records the inputs of an engine. The files are written by another thread.
#[derive(Debug)]
pub struct Recorder {
    jobs: Option<SyncSender<WriterJob>>,
    /// Returns the first error, if any.
    thread: Option<JoinHandle<Option<LedgerError>>>,
    /// Waits for the disk instead of dropping records.
    is_lossless: bool,
    /// Set by the thread on a write error, cleared when a file is started.
    is_broken: Arc<AtomicBool>,
    file_bytes: u64,
    run: RunInfo,
    encoder: Encoder,
    buffer: Vec<u8>,
    /// Number of records in the buffer.
    records: u64,
    /// Bytes of the current file that were passed on, without the buffer.
    bytes_sent: u64,
    started_at: Timestamp,
    /// Time of the newest input.
    now: Timestamp,
    flushed: Instant,
    /// Nothing is recorded until then.
    paused_until: Option<Instant>,
    /// Position in the buffer of the record being written.
    frame: Option<usize>,
}

impl Recorder {
    /// Starts a file for `run`. The thread opens the directory; errors are logged and counted there, and the file is
    /// tried again.
    ///
    /// # Errors
    /// If the operating system cannot start a thread.
    pub fn spawn(settings: Settings, run: RunInfo) -> std::io::Result<Self> {
        Self::begin_run(settings, run, false)
    }

    /// The same for simulations, which produce records faster than the disk takes them: waits for the disk, and
    /// [`Recorder::finish`] reports whether everything was written.
    ///
    /// # Errors
    /// If the operating system cannot start a thread.
    pub fn lossless(settings: Settings, run: RunInfo) -> std::io::Result<Self> {
        Self::begin_run(settings, run, true)
    }

    fn begin_run(settings: Settings, run: RunInfo, is_lossless: bool) -> std::io::Result<Self> {
        let (jobs, inbox) = sync_channel(QUEUE);
        let is_broken = Arc::new(AtomicBool::new(false));
        let file_bytes = settings.file_bytes;
        let thread = {
            let writer = Writer::new(settings, Arc::clone(&is_broken));
            std::thread::Builder::new()
                .name("ledger".into())
                .spawn(move || writer.run(&inbox))?
        };
        let started_at = file::to_header_precision(run.started_at);
        let mut recorder = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            is_lossless,
            is_broken,
            file_bytes,
            now: run.started_at,
            run,
            encoder: Encoder::new(started_at),
            buffer: Vec::new(),
            records: 0,
            bytes_sent: 0,
            started_at,
            flushed: Instant::now(),
            paused_until: None,
            frame: None,
        };
        recorder.start_file(FileOrigin::Start, &Engine::new());
        Ok(recorder)
    }

    /// Records an input before it is applied to `engine`; [`Recorder::applied`] must follow.
    pub(super) fn input(&mut self, input: &Input, engine: &Engine) {
        self.now = time_of(input).unwrap_or(self.now);
        if let Some(until) = self.paused_until {
            if Instant::now() < until {
                counter!(metric::LEDGER_LOST).increment(1);
                return;
            }
            self.paused_until = None;
            self.start_file(FileOrigin::Loss, engine);
        } else if self.bytes_sent + self.buffer.len() as u64 >= self.file_bytes || self.is_file_old() {
            self.start_file(FileOrigin::Rotation, engine);
        }
        if self.paused_until.is_none() {
            self.frame = Some(file::open_frame(&mut self.buffer));
            self.encoder.input(input, &self.run.config_sha256, &mut self.buffer);
        }
    }

    /// Completes the record of [`Recorder::input`] with the cases that the engine opened.
    pub(super) fn applied<'a>(&mut self, opened: impl Iterator<Item = &'a CaseId>) {
        if let Some(start) = self.frame.take() {
            for case in opened {
                self.encoder.opened_case(case, &mut self.buffer);
            }
            file::close_frame(&mut self.buffer, start);
            self.records += 1;
            if self.buffer.len() >= FLUSH_BYTES {
                self.send_buffer(Instant::now());
            }
        }
    }

    /// Sets the configuration hash for the following records.
    pub(super) fn reconfigured(&mut self, config_sha256: &str) {
        config_sha256.clone_into(&mut self.run.config_sha256);
    }

    /// Passes on buffered records if a second has passed. To be called about once a second.
    pub fn flush_if_due(&mut self, now: Instant) {
        if now.saturating_duration_since(self.flushed) >= FLUSH_EVERY {
            self.send_buffer(now);
        }
    }

    fn is_file_old(&self) -> bool {
        // Negative if the clock was set back; then the file is kept.
        let age = self.now.duration_since(self.started_at);
        Duration::try_from(age).is_ok_and(|age| age >= FILE_AGE)
    }

    fn start_file(&mut self, origin: FileOrigin, engine: &Engine) {
        self.send_buffer(Instant::now());
        if self.paused_until.is_some() {
            return;
        }
        self.started_at = file::to_header_precision(self.now);
        self.encoder = Encoder::new(self.started_at);
        let mut bytes = file::header(self.started_at).to_vec();
        let head = FileHead {
            started_at: self.run.started_at,
            boot: self.run.boot.clone(),
            config_sha256: self.run.config_sha256.clone(),
            program: env!("CARGO_PKG_VERSION").into(),
            origin,
        };
        file::frame(&mut bytes, |out| self.encoder.head(&head, out));
        for case in engine.remembered() {
            file::frame(&mut bytes, |out| self.encoder.known_case(case, out));
        }
        for held in engine.held_back() {
            file::frame(&mut bytes, |out| self.encoder.held_back(held, out));
        }
        self.bytes_sent = bytes.len() as u64;
        // A new attempt: an error of the previous file no longer matters.
        self.is_broken.store(false, Ordering::Release);
        self.send(WriterJob::StartFile { at: self.now, bytes });
    }

    fn send_buffer(&mut self, now: Instant) {
        self.flushed = now;
        if self.paused_until.is_none() && self.is_broken.load(Ordering::Acquire) {
            self.pause(now);
        }
        let (bytes, records) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.records));
        if records == 0 {
            return;
        }
        if self.paused_until.is_some() {
            counter!(metric::LEDGER_LOST).increment(records);
            return;
        }
        self.bytes_sent += bytes.len() as u64;
        self.send(WriterJob::Append { bytes, records });
    }

    fn send(&mut self, job: WriterJob) {
        let Some(jobs) = &self.jobs else { return };
        if self.is_lossless {
            // Fails only if the thread has ended, which `finish` reports.
            let _ = jobs.send(job);
            return;
        }
        if let Err(e) = jobs.try_send(job) {
            let (TrySendError::Full(job) | TrySendError::Disconnected(job)) = e;
            if let WriterJob::Append { records, .. } = job {
                counter!(metric::LEDGER_LOST).increment(records);
            }
            tracing::error!(
                "Disk too slow for the ledger; records are dropped and cannot be replayed. A new file is tried in a minute"
            );
            self.pause(Instant::now());
        }
    }

    fn pause(&mut self, now: Instant) {
        self.paused_until = Some(now + RETRY);
    }

    /// Passes on the rest, waits until it is written, and reports whether everything was.
    ///
    /// # Errors
    /// The first write error, even if later writes succeeded.
    pub fn finish(mut self) -> Result<(), LedgerError> {
        self.stop().map_or(Ok(()), Err)
    }

    fn stop(&mut self) -> Option<LedgerError> {
        self.send_buffer(Instant::now());
        self.jobs = None;
        self.thread.take()?.join().unwrap_or_else(|_| {
            tracing::error!("Ledger thread panicked; please report this");
            let source = std::io::Error::other("the ledger thread panicked");
            Some(LedgerError::io("write", std::path::Path::new("the ledger"), source))
        })
    }
}

impl Drop for Recorder {
    /// Passes on the rest and waits until it is written.
    fn drop(&mut self) {
        // Errors were logged when they occurred.
        self.stop();
    }
}

/// Time of an input, if it has one.
pub(super) fn time_of(input: &Input) -> Option<Timestamp> {
    match input {
        Input::Observed(look) => Some(look.at),
        Input::Reply(reply) => Some(reply.at),
        Input::Tick(at) | Input::Reaimed { at, .. } => Some(*at),
        Input::Elsewhere(news) => Some(news.at),
        Input::Configured(_) | Input::Restored(_) | Input::Resumed(_) | Input::EvidenceFailed { .. } => None,
    }
}

/// The thread that owns the files.
struct Writer {
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
    fn new(settings: Settings, is_broken: Arc<AtomicBool>) -> Self {
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
    fn run(mut self, inbox: &Receiver<WriterJob>) -> Option<LedgerError> {
        for job in inbox {
            let (result, records) = match job {
                WriterJob::StartFile { at, bytes } => (self.start_file(at, &bytes), 0),
                WriterJob::Append { records, .. } if self.current.is_none() => {
                    counter!(metric::LEDGER_LOST).increment(records);
                    continue;
                }
                WriterJob::Append { bytes, records } => (self.append(&bytes), records),
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

    fn start_file(&mut self, at: Timestamp, bytes: &[u8]) -> Result<(), LedgerError> {
        self.finish()?;
        let mut directory = match self.directory.take() {
            Some(directory) => directory,
            None => self.open_directory()?,
        };
        let created = self.create_file(&mut directory.files, at, bytes);
        self.directory = Some(directory);
        self.current = Some(created?);
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("Writing the ledger again");
        }
        Ok(())
    }

    fn create_file(
        &self,
        files: &mut Vec<RetainedFile>,
        at: Timestamp,
        bytes: &[u8],
    ) -> Result<CurrentFile, LedgerError> {
        self.remove_expired(files, at)?;
        let dir = &self.settings.dir;
        // Damaged files keep their numbers.
        let newest = file::list(dir)?.last().map_or(0, |f| f.number);
        let number = newest.max(files.last().map_or(0, |f| f.number)) + 1;
        let path = dir.join(file::file_name(number));
        let create = |e| LedgerError::io("create", &path, e);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(disk::PRIVATE_FILE)
            .open(&path)
            .map_err(create)?;
        files.push(RetainedFile {
            number,
            path: path.clone(),
            bytes: bytes.len() as u64,
            started_at: at,
        });
        if let Err(e) = file.write_all(bytes) {
            // An incomplete header would look like damage later.
            files.pop();
            let _ = fs::remove_file(&path);
            return Err(LedgerError::io("write", &path, e));
        }
        // Flush the directory, so that the name survives a power cut.
        File::open(dir).and_then(|d| d.sync_all()).map_err(create)?;
        let length = bytes.len() as u64;
        Ok(CurrentFile { file, path, length })
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
        Ok(Directory { _lock: lock, files })
    }

    /// Deletes the oldest files while a new one would exceed the size limit, and files that are too old.
    fn remove_expired(&self, files: &mut Vec<RetainedFile>, at: Timestamp) -> Result<(), LedgerError> {
        let Settings {
            file_bytes,
            keep_bytes,
            keep_for,
            ..
        } = &self.settings;
        let oldest = at.checked_sub(*keep_for).unwrap_or(Timestamp::MIN);
        loop {
            let total: u64 = files.iter().map(|f| f.bytes).sum();
            // The newest record of a file is older than the start of the next file.
            let newest_record = files.get(1).map_or(at, |next| next.started_at);
            let is_expired = total + file_bytes > *keep_bytes || newest_record < oldest;
            if files.is_empty() || !is_expired {
                return Ok(());
            }
            let old = files.remove(0);
            fs::remove_file(&old.path).map_err(|e| LedgerError::io("remove", &old.path, e))?;
            tracing::debug!(file = %old.path.display(), "Deleted old ledger file");
        }
    }
}

/// Cuts off an incomplete record at the end of the newest file, as left by a crash. Renames the file if it is damaged
/// elsewhere.
fn repair_tail(path: &std::path::Path) -> Result<(), LedgerError> {
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
