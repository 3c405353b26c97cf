//! Writing: records are packed where they arise and handed, once a second, to a thread that owns the files. Whoever
//! records never waits for a disk.
//!
//! What cannot be written is counted, said once, and left out; a minute later a new file is tried, which says that
//! something is missing before it.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
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
    code::{Begun, Decoder, Encoder, Head},
    file::{self, Flaw, Frames},
};
use gridwatch_base::metric;
use gridwatch_engine::{CaseId, Elsewhere, Engine, Input, Known};

/// A kill loses at most what was recorded since the last hand-over.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// More than this is handed over at once, whatever the time.
const FLUSH_BYTES: usize = 256 << 10;
/// Hand-overs that may wait for a slow disk: a minute of them.
const QUEUE: usize = 64;
/// How long a disk that failed is left alone.
const RETRY: Duration = Duration::from_secs(60);
/// Files are begun at least this often, so that age can be told by the file.
const FILE_AGE: Duration = Duration::from_hours(24);

/// Which run records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// When it began.
    pub started_at: Timestamp,
    /// The kernel's boot id; empty where it has none.
    pub boot: String,
    /// SHA-256 of the configuration file in lower-case hex.
    pub config_sha256: String,
}

enum Job {
    /// A new file, with its first bytes; `at` is the newest time known.
    Begin { at: Timestamp, bytes: Vec<u8> },
    /// More of it.
    Append { bytes: Vec<u8>, records: u64 },
}

/// Records what it is given; the file is another thread's.
#[derive(Debug)]
pub struct Recorder {
    jobs: Option<SyncSender<Job>>,
    /// Gives the first failure, if there was one.
    thread: Option<JoinHandle<Option<LedgerError>>>,
    /// Waits for the disk rather than lose a record.
    is_patient: bool,
    /// Set by the thread when it cannot write, cleared when a file was begun.
    is_broken: Arc<AtomicBool>,
    file_bytes: u64,
    run: Run,
    encoder: Encoder,
    buffer: Vec<u8>,
    /// Records in the buffer.
    records: u64,
    /// Handed over of this file, the buffer left out.
    handed: u64,
    begun: Timestamp,
    /// The newest input's time.
    now: Timestamp,
    flushed: Instant,
    /// Nothing is recorded before then.
    paused_until: Option<Instant>,
    /// Where the record that is being written begins in the buffer.
    frame: Option<usize>,
}

impl Recorder {
    /// Begins a file for `run`. The folder is opened by the thread: whatever is wrong with it is logged and counted there,
    /// and tried again.
    ///
    /// # Errors
    /// Where the system gives no more threads.
    pub fn spawn(settings: Settings, run: Run) -> std::io::Result<Self> {
        Self::begin_run(settings, run, false)
    }

    /// The same for a record that is made as fast as it can be written, by a simulation: it waits for the disk, and
    /// [`Recorder::finish`] says whether all of it was written.
    ///
    /// # Errors
    /// Where the system gives no more threads.
    pub fn patient(settings: Settings, run: Run) -> std::io::Result<Self> {
        Self::begin_run(settings, run, true)
    }

    fn begin_run(settings: Settings, run: Run, is_patient: bool) -> std::io::Result<Self> {
        let (jobs, inbox) = sync_channel(QUEUE);
        let is_broken = Arc::new(AtomicBool::new(false));
        let file_bytes = settings.file_bytes;
        let thread = {
            let writer = Writer::new(settings, Arc::clone(&is_broken));
            std::thread::Builder::new()
                .name("ledger".into())
                .spawn(move || writer.run(&inbox))?
        };
        let begun = file::begun(run.started_at);
        let mut recorder = Self {
            jobs: Some(jobs),
            thread: Some(thread),
            is_patient,
            is_broken,
            file_bytes,
            now: run.started_at,
            run,
            encoder: Encoder::new(begun),
            buffer: Vec::new(),
            records: 0,
            handed: 0,
            begun,
            flushed: Instant::now(),
            paused_until: None,
            frame: None,
        };
        recorder.begin(Begun::Start, &Engine::new());
        Ok(recorder)
    }

    /// Records an input before it is applied; [`Recorder::applied`] must follow. `engine` is as it was before it.
    pub(super) fn input(&mut self, input: &Input, engine: &Engine) {
        self.now = time_of(input).unwrap_or(self.now);
        if let Some(until) = self.paused_until {
            if Instant::now() < until {
                counter!(metric::LEDGER_LOST).increment(1);
                return;
            }
            self.paused_until = None;
            self.begin(Begun::Loss, engine);
        } else if self.handed + self.buffer.len() as u64 >= self.file_bytes || self.is_old() {
            self.begin(Begun::Rotation, engine);
        }
        if self.paused_until.is_none() {
            self.frame = Some(file::open_frame(&mut self.buffer));
            self.encoder.input(input, &self.run.config_sha256, &mut self.buffer);
        }
    }

    /// Ends the record of [`Recorder::input`] with the cases that the engine opened.
    pub(super) fn applied<'a>(&mut self, filed: impl Iterator<Item = &'a CaseId>) {
        if let Some(start) = self.frame.take() {
            for case in filed {
                self.encoder.filed(case, &mut self.buffer);
            }
            file::close_frame(&mut self.buffer, start);
            self.records += 1;
            if self.buffer.len() >= FLUSH_BYTES {
                self.hand_over(Instant::now());
            }
        }
    }

    /// From now on another configuration is recorded as the run's.
    pub(super) fn reconfigured(&mut self, config_sha256: &str) {
        config_sha256.clone_into(&mut self.run.config_sha256);
    }

    /// Hands over what was recorded, if a second has passed. To be called about once a second.
    pub fn turn(&mut self, now: Instant) {
        if now.saturating_duration_since(self.flushed) >= FLUSH_EVERY {
            self.hand_over(now);
        }
    }

    fn is_old(&self) -> bool {
        // A clock set back leaves the file as it is.
        let age = self.now.duration_since(self.begun);
        Duration::try_from(age).is_ok_and(|age| age >= FILE_AGE)
    }

    fn begin(&mut self, why: Begun, engine: &Engine) {
        self.hand_over(Instant::now());
        if self.paused_until.is_some() {
            return;
        }
        self.begun = file::begun(self.now);
        self.encoder = Encoder::new(self.begun);
        let mut bytes = file::header(self.begun).to_vec();
        let head = Head {
            started_at: self.run.started_at,
            boot: self.run.boot.clone(),
            config_sha256: self.run.config_sha256.clone(),
            program: env!("CARGO_PKG_VERSION").into(),
            begun: why,
        };
        file::frame(&mut bytes, |out| self.encoder.head(&head, out));
        for case in engine.remembered() {
            file::frame(&mut bytes, |out| self.encoder.known(case, out));
        }
        for claim in engine.claims() {
            let news = Input::Elsewhere(Elsewhere {
                at: self.now,
                what: Known::Claimed(claim.clone()),
            });
            file::frame(&mut bytes, |out| {
                self.encoder.input(&news, &self.run.config_sha256, out);
            });
        }
        self.handed = bytes.len() as u64;
        // It is being tried again: what the thread said of the file before holds no more.
        self.is_broken.store(false, Ordering::Release);
        self.send(Job::Begin { at: self.now, bytes });
    }

    fn hand_over(&mut self, now: Instant) {
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
        self.handed += bytes.len() as u64;
        self.send(Job::Append { bytes, records });
    }

    fn send(&mut self, job: Job) {
        let Some(jobs) = &self.jobs else { return };
        if self.is_patient {
            // It fails only where the thread is gone, which `finish` tells.
            let _ = jobs.send(job);
            return;
        }
        if let Err(e) = jobs.try_send(job) {
            let (TrySendError::Full(job) | TrySendError::Disconnected(job)) = e;
            if let Job::Append { records, .. } = job {
                counter!(metric::LEDGER_LOST).increment(records);
            }
            tracing::error!(
                "The disk does not keep up with the ledger: what happens now cannot be replayed. Judging goes on; a new file is tried in a minute."
            );
            self.pause(Instant::now());
        }
    }

    fn pause(&mut self, now: Instant) {
        self.paused_until = Some(now + RETRY);
    }

    /// Hands over the rest, waits for the disk to have it, and says whether everything was written.
    ///
    /// # Errors
    /// The first thing that could not be written, though writing may have gone on after it.
    pub fn finish(mut self) -> Result<(), LedgerError> {
        self.end().map_or(Ok(()), Err)
    }

    fn end(&mut self) -> Option<LedgerError> {
        self.hand_over(Instant::now());
        self.jobs = None;
        self.thread.take()?.join().unwrap_or_else(|_| {
            tracing::error!("The ledger's thread had panicked; please report it.");
            let source = std::io::Error::other("the ledger's thread had panicked");
            Some(LedgerError::io("write", std::path::Path::new("the ledger"), source))
        })
    }
}

impl Drop for Recorder {
    /// Hands over the rest and waits for the disk to have it.
    fn drop(&mut self) {
        // What failed was logged when it did.
        self.end();
    }
}

/// When an input happened, where it says so.
pub(super) fn time_of(input: &Input) -> Option<Timestamp> {
    match input {
        Input::Observed(look) => Some(look.at),
        Input::Reply(reply) => Some(reply.at),
        Input::Tick(at) | Input::Reaimed { at, .. } => Some(*at),
        Input::Elsewhere(news) => Some(news.at),
        Input::Configured(_) | Input::Restored(_) | Input::Resumed(_) | Input::EvidenceFailed { .. } => None,
    }
}

/// Owns the files.
struct Writer {
    settings: Settings,
    is_broken: Arc<AtomicBool>,
    /// Held while the folder is ours; with it, what lies there.
    folder: Option<(File, Vec<Kept>)>,
    /// The file that is written, and how many bytes of it are whole records.
    current: Option<(File, PathBuf, u64)>,
    is_failing: bool,
    first_failure: Option<LedgerError>,
}

/// A file that may be removed for its age.
struct Kept {
    number: u64,
    path: PathBuf,
    bytes: u64,
    begun: Timestamp,
}

impl Writer {
    fn new(settings: Settings, is_broken: Arc<AtomicBool>) -> Self {
        Self {
            settings,
            is_broken,
            folder: None,
            current: None,
            is_failing: false,
            first_failure: None,
        }
    }

    /// Writes what comes until no more can; gives the first failure.
    fn run(mut self, inbox: &Receiver<Job>) -> Option<LedgerError> {
        for job in inbox {
            let (result, records) = match job {
                Job::Begin { at, bytes } => (self.begin(at, &bytes), 0),
                Job::Append { records, .. } if self.current.is_none() => {
                    counter!(metric::LEDGER_LOST).increment(records);
                    continue;
                }
                Job::Append { bytes, records } => (self.append(&bytes), records),
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
            tracing::error!(%error, "The ledger cannot be written: what happens now cannot be replayed. Judging goes on; it is tried again every minute.");
        }
        self.first_failure.get_or_insert(error);
    }

    fn begin(&mut self, at: Timestamp, bytes: &[u8]) -> Result<(), LedgerError> {
        self.finish()?;
        let mut folder = match self.folder.take() {
            Some(folder) => folder,
            None => self.open_folder()?,
        };
        let begun = self.begin_in(&mut folder.1, at, bytes);
        self.folder = Some(folder);
        self.current = Some(begun?);
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("The ledger is written again.");
        }
        Ok(())
    }

    fn begin_in(&self, kept: &mut Vec<Kept>, at: Timestamp, bytes: &[u8]) -> Result<(File, PathBuf, u64), LedgerError> {
        self.make_room(kept, at)?;
        let dir = &self.settings.dir;
        // Files set apart keep their numbers.
        let newest = file::list(dir)?.last().map_or(0, |f| f.number);
        let number = newest.max(kept.last().map_or(0, |k| k.number)) + 1;
        let path = dir.join(file::name(number));
        let create = |e| LedgerError::io("create", &path, e);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(create)?;
        kept.push(Kept {
            number,
            path: path.clone(),
            bytes: bytes.len() as u64,
            begun: at,
        });
        if let Err(e) = file.write_all(bytes) {
            // Nothing of it is worth keeping, and half a header would be taken for damage.
            kept.pop();
            let _ = fs::remove_file(&path);
            return Err(LedgerError::io("write", &path, e));
        }
        // The name, too, must outlast a power cut.
        File::open(dir).and_then(|d| d.sync_all()).map_err(create)?;
        Ok((file, path, bytes.len() as u64))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let Some((file, path, whole)) = &mut self.current else {
            return Ok(());
        };
        if let Err(e) = file.write_all(bytes) {
            // Half a record at its end would be taken for damage once a newer file follows. Where even this fails, it is.
            let _ = file.set_len(*whole);
            return Err(LedgerError::io("write", path, e));
        }
        *whole += bytes.len() as u64;
        if let Some((_, kept)) = &mut self.folder
            && let Some(newest) = kept.last_mut()
        {
            newest.bytes = *whole;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), LedgerError> {
        match self.current.take() {
            Some((file, path, _)) => file.sync_all().map_err(|e| LedgerError::io("flush", &path, e)),
            None => Ok(()),
        }
    }

    /// Makes the folder ours, and mends the end of its newest file.
    fn open_folder(&self) -> Result<(File, Vec<Kept>), LedgerError> {
        let dir = &self.settings.dir;
        fs::create_dir_all(dir).map_err(|e| LedgerError::io("create", dir, e))?;
        let path = dir.join("ledger.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| LedgerError::io("open", &path, e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::Busy { dir: dir.clone() }),
            Err(TryLockError::Error(e)) => return Err(LedgerError::io("lock", &path, e)),
        }
        if let Some(newest) = file::list(dir)?.iter().rfind(|f| !f.is_damaged) {
            mend(&newest.path)?;
        }
        let mut kept: Vec<Kept> = Vec::new();
        for stored in file::list(dir)?.into_iter().filter(|f| !f.is_damaged) {
            let before = kept.last().map_or(Timestamp::MIN, |k| k.begun);
            kept.push(Kept {
                number: stored.number,
                bytes: fs::metadata(&stored.path).map_or(0, |m| m.len()),
                // One whose header cannot be read is as old as the one before it.
                begun: Frames::open(&stored.path).map_or(before, |f| f.begun),
                path: stored.path,
            });
        }
        Ok((lock, kept))
    }

    /// Removes the oldest files until a new one has room, and those that are too old.
    fn make_room(&self, kept: &mut Vec<Kept>, at: Timestamp) -> Result<(), LedgerError> {
        let Settings {
            file_bytes,
            keep_bytes,
            keep_for,
            ..
        } = &self.settings;
        let oldest = at.checked_sub(*keep_for).unwrap_or(Timestamp::MIN);
        loop {
            let total: u64 = kept.iter().map(|k| k.bytes).sum();
            // A file's newest record is older than the beginning of the next.
            let newest_record = kept.get(1).map_or(at, |next| next.begun);
            let goes = total + file_bytes > *keep_bytes || newest_record < oldest;
            if kept.is_empty() || !goes {
                return Ok(());
            }
            let old = kept.remove(0);
            fs::remove_file(&old.path).map_err(|e| LedgerError::io("remove", &old.path, e))?;
            tracing::debug!(file = %old.path.display(), "An old file of the ledger was removed.");
        }
    }
}

/// Cuts off what a crash left at the end of the newest file; sets the file apart where it is damaged elsewhere.
fn mend(path: &std::path::Path) -> Result<(), LedgerError> {
    let flaw = match Frames::open(path) {
        Ok(mut frames) => {
            let mut decoder = Decoder::new(frames.begun);
            loop {
                let offset = frames.offset();
                match frames.next() {
                    Ok(None) => return Ok(()),
                    Ok(Some(payload)) => {
                        if let Err(reason) = decoder.entry(payload) {
                            break Flaw::Broken {
                                offset,
                                reason,
                                goes_on: true,
                            };
                        }
                    }
                    Err(flaw) => break flaw,
                }
            }
        }
        Err(flaw) => flaw,
    };
    match flaw {
        Flaw::Io(e) => Err(LedgerError::io("read", path, e)),
        // Another program's: it is left as it is.
        Flaw::Newer(_) => Ok(()),
        Flaw::Broken {
            offset, goes_on: false, ..
        } if offset >= file::HEADER => {
            let length = fs::metadata(path).map_or(offset, |m| m.len());
            File::options()
                .write(true)
                .open(path)
                .and_then(|f| {
                    f.set_len(offset)?;
                    f.sync_all()
                })
                .map_err(|e| LedgerError::io("cut off the torn end of", path, e))?;
            tracing::warn!(file = %path.display(), offset, bytes = length - offset, "The ledger's newest file ended in the middle of a record, as a crash leaves it; the torn end was cut off.");
            Ok(())
        }
        Flaw::Broken { offset, reason, .. } => {
            let aside = file::damaged_name(path);
            fs::rename(path, &aside).map_err(|e| LedgerError::io("set aside", path, e))?;
            tracing::error!(file = %path.display(), offset, reason, set_aside = %aside.display(), "A file of the ledger is damaged; it was set aside. A replay reads it up to the damage.");
            Ok(())
        }
    }
}
