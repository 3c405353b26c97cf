//! Writing: records are encoded on the thread of the engine and passed, once a second, to a thread that owns the files.
//! The engine never waits for the disk.
//!
//! Records that cannot be written are dropped and counted, and the failure is logged once. After a minute a new file is
//! tried; its head states that records before it were lost.

mod thread;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::counter;

use self::thread::Writer;
use super::{
    LedgerError, PlanId, Settings,
    code::{self, ConfiguredRecord, Encoder, FileHead, FileOrigin},
    file,
};
use gridwatch_base::metric;
use gridwatch_engine::{CaseId, Engine, Input, Plan};

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
    /// Start a new file.
    StartFile(Box<NewFile>),
    /// Store the plan, and append a record of the change.
    Configured { config_sha256: String, plan: Arc<Plan> },
    /// Append to the current file.
    Append { bytes: Vec<u8>, records: u64 },
}

/// A file to be started: a header, the head, and frames.
struct NewFile {
    /// Time of the newest input.
    at: Timestamp,
    /// The same in the precision of the header.
    started_at: Timestamp,
    /// Without the name of the plan, which the thread stores.
    head: FileHead,
    plan: Arc<Plan>,
    frames: Vec<u8>,
}

impl WriterJob {
    /// Number of inputs that are recorded by it.
    fn records(&self) -> u64 {
        match self {
            Self::StartFile(_) => 0,
            Self::Append { records, .. } => *records,
            Self::Configured { .. } => 1,
        }
    }
}

/// The header of a file and its first frame.
fn file_start(started_at: Timestamp, head: &FileHead) -> Vec<u8> {
    let mut bytes = file::header(started_at).to_vec();
    file::frame(&mut bytes, |out| code::head(head, out));
    bytes
}

/// The frame of a configuration change.
fn configured_frame(config_sha256: &str, plan: Option<PlanId>) -> Vec<u8> {
    let config_sha256 = config_sha256.to_owned();
    let mut bytes = Vec::new();
    file::frame(&mut bytes, |out| {
        code::configured(&ConfiguredRecord { config_sha256, plan }, out)
    });
    bytes
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
    /// The plan in force; `None` before [`Recorder::begin`].
    plan: Option<Arc<Plan>>,
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
    /// A recorder for `run`, which [`RecordedEngine::start`](crate::RecordedEngine::start) begins. The thread opens the directory;
    /// errors are logged and counted there, and the file is tried again.
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
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            is_lossless,
            is_broken,
            file_bytes,
            now: run.started_at,
            run,
            plan: None,
            encoder: Encoder::new(started_at),
            buffer: Vec::new(),
            records: 0,
            bytes_sent: 0,
            started_at,
            flushed: Instant::now(),
            paused_until: None,
            frame: None,
        })
    }

    /// Starts the first file of the run, which has this plan.
    pub(super) fn begin(&mut self, plan: &Arc<Plan>) {
        self.plan = Some(Arc::clone(plan));
        self.start_file(FileOrigin::Start, &Engine::new());
    }

    /// Starts the first file in the midst of a run: what came before is recorded elsewhere, or not at all.
    pub(super) fn take_over(&mut self, plan: &Arc<Plan>, engine: &Engine) {
        self.plan = Some(Arc::clone(plan));
        self.start_file(FileOrigin::Loss, engine);
    }

    /// Records an input before it is applied to `engine`; [`Recorder::applied`] must follow. A new configuration is recorded by
    /// [`Recorder::configured`].
    pub(super) fn input(&mut self, input: &Input, engine: &Engine) {
        self.now = time_of(input).unwrap_or(self.now);
        if self.is_recording(engine) {
            self.frame = Some(file::open_frame(&mut self.buffer));
            self.encoder.input(input, &mut self.buffer);
        }
    }

    /// Records a new configuration before it is applied to `engine`; `None`: the configuration file is the same.
    pub(super) fn configured(&mut self, plan: &Arc<Plan>, config_sha256: Option<&str>, engine: &Engine) {
        let is_recording = self.is_recording(engine);
        // Also while nothing can be recorded: the head of the next file has it.
        self.plan = Some(Arc::clone(plan));
        if let Some(config_sha256) = config_sha256 {
            config_sha256.clone_into(&mut self.run.config_sha256);
        }
        if !is_recording {
            return;
        }
        self.send_buffer(Instant::now());
        if self.paused_until.is_some() {
            counter!(metric::LEDGER_LOST).increment(1);
            return;
        }
        let config_sha256 = self.run.config_sha256.clone();
        self.bytes_sent += configured_frame(&config_sha256, Some(PlanId::placeholder())).len() as u64;
        self.send(WriterJob::Configured {
            config_sha256,
            plan: Arc::clone(plan),
        });
    }

    /// Whether an input can be recorded; starts a new file if one is due. If not, the input counts as lost.
    fn is_recording(&mut self, engine: &Engine) -> bool {
        if let Some(until) = self.paused_until {
            if Instant::now() < until {
                counter!(metric::LEDGER_LOST).increment(1);
                return false;
            }
            self.paused_until = None;
            self.start_file(FileOrigin::Loss, engine);
        } else if self.bytes_sent + self.buffer.len() as u64 >= self.file_bytes || self.is_file_old() {
            self.start_file(FileOrigin::Rotation, engine);
        }
        self.paused_until.is_none()
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
        let Some(plan) = self.plan.clone() else { return };
        self.started_at = file::to_header_precision(self.now);
        self.encoder = Encoder::new(self.started_at);
        let head = FileHead {
            started_at: self.run.started_at,
            boot: self.run.boot.clone(),
            config_sha256: self.run.config_sha256.clone(),
            // The thread stores the plan and puts its name here.
            plan: Some(PlanId::placeholder()),
            program: env!("CARGO_PKG_VERSION").into(),
            origin,
        };
        let mut frames = Vec::new();
        for case in engine.remembered() {
            file::frame(&mut frames, |out| self.encoder.known_case(case, out));
        }
        for held in engine.held_back() {
            file::frame(&mut frames, |out| self.encoder.held_back(held, out));
        }
        self.bytes_sent = (file_start(self.started_at, &head).len() + frames.len()) as u64;
        // A new attempt: an error of the previous file no longer matters.
        self.is_broken.store(false, Ordering::Release);
        self.send(WriterJob::StartFile(Box::new(NewFile {
            at: self.now,
            started_at: self.started_at,
            head,
            plan,
            frames,
        })));
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
            counter!(metric::LEDGER_LOST).increment(job.records());
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
