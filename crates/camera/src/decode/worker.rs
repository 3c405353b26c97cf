//! The daemon's side of a decode worker: starts it, hands it keyframes, takes frames, and replaces it when it ends or hangs.
//!
//! Pictures come in buffers that the daemon creates and maps for reading. A frame holds its buffer, which returns to the pool when the frame
//! is dropped, so a frame that is kept does not hold up the next one.
//!
//! A worker that ends while it decodes is blamed on the keyframe, with one exception: SIGKILL that the daemon did not send comes from
//! the system, for want of memory as a rule.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
};

use super::{
    DECODE_TIMEOUT, DecodeError, DecodeWorkers, pipeline,
    protocol::{self, Answer, Enforced, Failure, MAX_PICTURE, Request, SINGLE_USE, Shape},
    shared_memory::{self, Mapping, WritableMapping},
};
use crate::{Backend, Codec, Keyframe};
use gridwatch_base::backoff::Backoff;
use gridwatch_frame::Frame;

/// Longest start of a worker. GStreamer looks through all plugins when it starts for the first time.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time for the first keyframe of a hardware decoder, which starts with it.
const HARDWARE_START_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed start.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Time is counted in steps of this length at most: on a box that was suspended, none has passed for the worker either.
const STEP: Duration = Duration::from_millis(250);
/// Buffers kept for pictures. Beyond them, each picture gets a buffer of its own.
const MAX_BUFFERS: u8 = 4;
/// Buffers are multiples of this many bytes.
const BUFFER_STEP: usize = 1 << 20;
/// Smallest input buffer.
const MIN_INPUT: usize = 512 << 10;
/// Largest keyframe.
const MAX_KEYFRAME: usize = 32 << 20;

/// Variables that a worker keeps: where GStreamer and drivers find their files.
const VARIABLES: [&str; 12] = [
    "GST_PLUGIN_FEATURE_RANK",
    "GST_PLUGIN_PATH",
    "GST_PLUGIN_PATH_1_0",
    "GST_PLUGIN_SCANNER",
    "GST_PLUGIN_SCANNER_1_0",
    "GST_PLUGIN_SYSTEM_PATH",
    "GST_PLUGIN_SYSTEM_PATH_1_0",
    "GST_REGISTRY",
    "HOME",
    "LD_LIBRARY_PATH",
    "LIBVA_DRIVER_NAME",
    "XDG_CACHE_HOME",
];

/// Decodes in a worker process.
pub(super) struct WorkerDecoder {
    name: String,
    backend: Backend,
    workers: DecodeWorkers,
    worker: Option<Worker>,
    backoff: Backoff,
    /// After a failed start; with the reason.
    paused: Option<(Instant, String)>,
    elements: [Option<String>; 2],
}

/// A running worker.
struct Worker {
    child: Child,
    socket: OwnedFd,
    uses_hardware: bool,
    has_decoded: bool,
    input: Option<WritableMapping>,
    pool: Pool,
}

/// The idle buffers of one worker. Those in frames return to it.
#[derive(Default)]
struct Pool {
    idle: Arc<Mutex<Vec<Buffer>>>,
    /// Numbers below this one are taken.
    created: u8,
}

#[derive(Debug)]
struct Buffer {
    number: u8,
    memory: Mapping,
}

/// The memory of a frame.
struct FrameMemory {
    buffer: Option<Buffer>,
    idle: Arc<Mutex<Vec<Buffer>>>,
}

impl AsRef<[u8]> for FrameMemory {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |b| b.memory.as_ref())
    }
}

impl Drop for FrameMemory {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take().filter(|b| b.number != SINGLE_USE) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

impl Pool {
    /// The largest idle buffer.
    fn take(&mut self) -> Option<Buffer> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let largest = (0..idle.len()).max_by_key(|i| idle[*i].memory.len())?;
        Some(idle.swap_remove(largest))
    }

    /// The number of a new buffer.
    fn new_number(&mut self) -> u8 {
        if self.created == MAX_BUFFERS {
            return SINGLE_USE;
        }
        self.created += 1;
        self.created - 1
    }

    fn put_back(&self, buffer: Buffer) {
        drop(FrameMemory {
            buffer: Some(buffer),
            idle: Arc::clone(&self.idle),
        });
    }
}

/// Why a worker gave no answer.
enum Lost {
    /// It ended or must be ended.
    Ended(io::Error),
    Hung,
    /// It sent what no sound worker sends.
    Invalid,
    /// This process or the system is short of descriptors or memory; the worker is unharmed.
    Shortage(io::Error),
}

impl WorkerDecoder {
    pub(super) fn new(name: &str, backend: Backend, workers: DecodeWorkers) -> Self {
        Self {
            name: name.to_owned(),
            backend,
            workers,
            worker: None,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            paused: None,
            elements: [None, None],
        }
    }

    pub(super) fn element(&self, codec: Codec) -> Option<&str> {
        self.elements[codec as usize].as_deref()
    }

    pub(super) fn decode(&mut self, keyframe: &Keyframe) -> Result<Frame, DecodeError> {
        if let Some(refusal) = self.workers.crashes.refusal(keyframe) {
            return Err(refusal);
        }
        if keyframe.data.len() > MAX_KEYFRAME {
            return Err(DecodeError::Damaged {
                camera: keyframe.camera.clone(),
                what: format!(
                    "it has {} bytes; no keyframe has more than {MAX_KEYFRAME}",
                    keyframe.data.len()
                ),
            });
        }
        // A worker that ended while idle has nothing to do with this keyframe.
        if self.worker.as_mut().is_some_and(Worker::has_ended) {
            self.worker = None;
        }
        let worker = match &mut self.worker {
            Some(worker) => worker,
            None => self.start()?,
        };
        match worker.decode(keyframe) {
            Ok((answer, buffer)) => self.take(keyframe, answer, buffer),
            Err(Lost::Shortage(error)) => Err(DecodeError::NoWorker(format!("cannot hand over a keyframe: {error}"))),
            Err(lost) => Err(self.bury(keyframe, &lost)),
        }
    }

    /// Starts a worker, unless one failed to start a moment ago.
    fn start(&mut self) -> Result<&mut Worker, DecodeError> {
        let now = Instant::now();
        if let Some((until, reason)) = &self.paused
            && now < *until
        {
            let left = until.saturating_duration_since(now).as_secs() + 1;
            return Err(DecodeError::NoWorker(format!("{reason}; trying again in {left} s")));
        }
        let started = Worker::start(&self.workers, &self.name, self.backend);
        match started {
            Ok(worker) => {
                self.paused = None;
                self.elements = [None, None];
                Ok(self.worker.insert(worker))
            }
            Err(reason) => {
                self.pause(&reason);
                Err(DecodeError::NoWorker(reason))
            }
        }
    }

    fn pause(&mut self, reason: &str) {
        let delay = self.backoff.next_delay(fastrand::f64());
        self.paused = Some((Instant::now() + delay, reason.to_owned()));
    }

    fn take(&mut self, keyframe: &Keyframe, answer: Answer, buffer: Option<Buffer>) -> Result<Frame, DecodeError> {
        let (shape, element) = match (answer, self.worker.as_mut()) {
            (Answer::Picture { shape, element }, Some(_)) => (shape, element),
            (Answer::Failed { failure, text }, Some(worker)) => {
                if let Some(buffer) = buffer {
                    worker.pool.put_back(buffer);
                }
                return Err(self.failed(keyframe, failure, text));
            }
            _ => return Err(self.bury(keyframe, &Lost::Invalid)),
        };
        let frame = match (self.worker.as_mut(), buffer) {
            (Some(worker), Some(buffer)) => {
                worker.has_decoded = true;
                frame(keyframe, shape, buffer, &worker.pool)
            }
            _ => None,
        };
        let Some(frame) = frame else {
            return Err(self.bury(keyframe, &Lost::Invalid));
        };
        self.backoff.reset();
        let known = &mut self.elements[keyframe.codec as usize];
        if known.as_deref() != Some(element.as_str()) {
            tracing::debug!(decoder = self.name, element, codec = ?keyframe.codec, "Decoding");
            *known = Some(element);
        }
        Ok(frame)
    }

    fn failed(&mut self, keyframe: &Keyframe, failure: Failure, text: String) -> DecodeError {
        match failure {
            Failure::Damaged => DecodeError::Damaged {
                camera: keyframe.camera.clone(),
                what: text,
            },
            Failure::NoDecoder | Failure::NoFiles => {
                // A confined worker cannot load what it lacks, so another one starts after a pause.
                self.worker = None;
                self.pause("no decoder worked");
                DecodeError::NoDecoder {
                    codec: keyframe.codec,
                    backend: self.backend,
                    tried: text,
                    hint: pipeline::hint(self.backend, failure == Failure::NoFiles),
                }
            }
            Failure::Broken => DecodeError::Broken(text),
        }
    }

    /// Ends the worker, and blames the keyframe if that is where the fault lies.
    fn bury(&mut self, keyframe: &Keyframe, lost: &Lost) -> DecodeError {
        let status = self
            .worker
            .take()
            .map(|worker| worker.end(matches!(lost, Lost::Ended(_))));
        let cause = match (lost, status) {
            (Lost::Hung, _) => format!("no answer for {DECODE_TIMEOUT:?}"),
            (Lost::Invalid, _) => "invalid answer".to_owned(),
            (_, Some(Some(status))) if is_killed_by_the_system(status) => {
                return DecodeError::NoWorker("killed by the system, which may be out of memory; restarting it".into());
            }
            (_, Some(Some(status))) => status.to_string(),
            (Lost::Ended(error) | Lost::Shortage(error), _) => error.to_string(),
        };
        let set_aside_until = self.workers.crashes.record(keyframe, &cause);
        DecodeError::Crashed {
            camera: keyframe.camera.clone(),
            cause,
            set_aside_until,
        }
    }
}

fn is_killed_by_the_system(status: ExitStatus) -> bool {
    status.signal() == Some(rustix::process::Signal::KILL.as_raw())
}

/// The frame in `buffer`; `None` if it cannot be there.
fn frame(keyframe: &Keyframe, shape: Shape, buffer: Buffer, pool: &Pool) -> Option<Frame> {
    let (planes, bytes) = shape.planes().filter(|(_, bytes)| *bytes <= buffer.memory.len())?;
    let memory = FrameMemory {
        buffer: Some(buffer),
        idle: Arc::clone(&pool.idle),
    };
    let frame = Frame {
        width: shape.width,
        height: shape.height,
        layout: shape.layout,
        matrix: shape.matrix,
        full_range: shape.full_range,
        planes,
        data: Bytes::from_owner(memory).slice(..bytes),
        captured_at: keyframe.captured_at,
    };
    frame.validate().is_ok().then_some(frame)
}

impl Worker {
    fn start(workers: &DecodeWorkers, name: &str, backend: Backend) -> Result<Self, String> {
        let cannot = |e: io::Error| format!("cannot start {}: {e}", workers.program.display());
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| cannot(e.into()))?;
        let variables = VARIABLES
            .iter()
            .filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let child = Command::new(&workers.program)
            .arg0("gridwatch")
            .args(["decode-worker", name, backend.as_str()])
            .env_clear()
            .envs(variables)
            // ORC would write and run code; its precompiled functions do. One heap for all threads takes less memory.
            .envs([("ORC_CODE", "backup"), ("MALLOC_ARENA_MAX", "1")])
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(cannot)?;
        let mut worker = Self {
            child,
            socket,
            uses_hardware: false,
            has_decoded: false,
            input: None,
            pool: Pool::default(),
        };
        match worker.answer(START_TIMEOUT) {
            Ok(Answer::Ready {
                landlock,
                seccomp,
                hardware,
            }) => {
                worker.uses_hardware = !hardware.is_empty();
                log_confinement(landlock, seccomp, &hardware);
                Ok(worker)
            }
            Ok(Answer::Failed { text, .. }) => {
                worker.end(false);
                Err(text)
            }
            Err(Lost::Ended(_)) => match worker.end(true) {
                Some(status) => Err(format!("ended while starting ({status})")),
                None => Err("ended while starting".into()),
            },
            _ => {
                worker.end(false);
                Err("did not start".into())
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The worker's answer, and the buffer that a picture lies in.
    fn decode(&mut self, keyframe: &Keyframe) -> Result<(Answer, Option<Buffer>), Lost> {
        let data = &keyframe.data;
        let new_input = match &self.input {
            Some(input) if input.len() >= data.len() => None,
            _ => {
                let fd =
                    shared_memory::create(data.len().next_power_of_two().max(MIN_INPUT)).map_err(Lost::Shortage)?;
                self.input = Some(Mapping::writable(&fd).map_err(Lost::Shortage)?);
                Some(fd)
            }
        };
        if let Some(input) = &mut self.input {
            input.as_mut()[..data.len()].copy_from_slice(data);
        }
        let buffer = self.pool.take();
        let request = Request::Decode {
            codec: keyframe.codec,
            len: data.len() as u32,
            buffer: buffer.as_ref().map_or(SINGLE_USE, |b| b.number),
            input: new_input.is_some(),
        };
        let fds: Vec<_> = new_input.iter().map(AsFd::as_fd).collect();
        // A worker that cannot be reached has not seen the keyframe.
        protocol::send(&self.socket, &request.encode(), &fds).map_err(|e| self.abandon(e))?;
        let timeout = if self.uses_hardware && !self.has_decoded {
            HARDWARE_START_TIMEOUT
        } else {
            DECODE_TIMEOUT
        };
        let bytes = match self.answer(timeout)? {
            Answer::TooSmall { bytes } => bytes as usize,
            answer => return Ok((answer, buffer)),
        };
        if bytes > MAX_PICTURE || buffer.as_ref().is_some_and(|b| b.memory.len() >= bytes) {
            return Err(Lost::Invalid);
        }
        // The old one goes first, so that both do not take memory at once.
        let number = buffer.map_or_else(|| self.pool.new_number(), |b| b.number);
        let buffer = self.hand_over(number, bytes).map_err(|e| self.abandon(e))?;
        Ok((self.answer(DECODE_TIMEOUT)?, Some(buffer)))
    }

    /// Creates a buffer for `bytes` and hands it to the worker.
    fn hand_over(&self, number: u8, bytes: usize) -> io::Result<Buffer> {
        let fd = shared_memory::create(bytes.max(1).next_multiple_of(BUFFER_STEP))?;
        let memory = Mapping::read_only(&fd)?;
        let request = Request::Buffer { buffer: number };
        protocol::send(&self.socket, &request.encode(), &[fd.as_fd()])?;
        Ok(Buffer { number, memory })
    }

    /// Ends a worker that waits for something that does not come. The next keyframe starts another one.
    fn abandon(&mut self, error: io::Error) -> Lost {
        let _ = self.child.kill();
        let _ = self.child.wait();
        Lost::Shortage(error)
    }

    fn answer(&self, timeout: Duration) -> Result<Answer, Lost> {
        let mut left = timeout;
        loop {
            let step = left.min(STEP);
            let started = Instant::now();
            let wait = Timespec::try_from(step).map_err(|_| Lost::Hung)?;
            let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut polled, Some(&wait)) {
                Ok(0) if left <= STEP => return Err(Lost::Hung),
                Ok(0) => left -= step,
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => left = left.saturating_sub(started.elapsed().min(step)),
                Err(e) => return Err(Lost::Shortage(e.into())),
            }
        }
        match protocol::receive(&self.socket) {
            // Descriptors that a worker sends are closed here.
            Ok(Some((message, _))) => Answer::decode(&message).ok_or(Lost::Invalid),
            Ok(None) => Err(Lost::Ended(io::ErrorKind::UnexpectedEof.into())),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(Lost::Invalid),
            Err(e) => Err(Lost::Ended(e)),
        }
    }

    /// Ends the worker; with `by_itself` its own end is waited for a moment, for its cause.
    fn end(mut self, by_itself: bool) -> Option<ExitStatus> {
        let patience = Instant::now() + Duration::from_secs(1);
        while by_itself && Instant::now() < patience {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(_) => break,
            }
        }
        None
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails only if it has ended. Waiting reaps it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Logs what the kernel lacks, once per process.
fn log_confinement(landlock: Enforced, seccomp: Enforced, hardware: &str) {
    static LOGGED: AtomicBool = AtomicBool::new(false);
    if LOGGED.swap(true, Ordering::Relaxed) {
        return;
    }
    if landlock == Enforced::No {
        tracing::warn!(
            "The kernel has no Landlock (Linux 5.13, lsm=…,landlock): decode workers rely on their seccomp filter alone"
        );
    }
    if seccomp != Enforced::Fully {
        tracing::warn!(
            "The kernel allows no seccomp filter: a decode worker that is taken over can make any system call"
        );
    }
    if hardware.is_empty() {
        tracing::debug!(?landlock, ?seccomp, "Decode workers are confined");
    } else {
        tracing::info!(
            ?landlock,
            ?seccomp,
            hardware,
            "Decode workers are confined, with access to hardware decoders"
        );
    }
}
