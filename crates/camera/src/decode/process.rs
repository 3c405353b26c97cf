//! A worker process as the daemon sees it: its start, one request at a time, the memory of pictures, and its end.
//!
//! Pictures come in buffers that the daemon creates and maps for reading. A frame holds its buffer, which returns to the pool when the frame
//! is dropped, so a frame that is kept does not hold up the next one.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use jiff::Timestamp;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair},
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
};

use super::{
    DecodeWorkers, WorkerKind,
    protocol::{self, Answer, Enforced, ForkRequest, MAX_PICTURE, Request, SINGLE_USE, Shape, Transfer},
    shared_memory::{self, Mapping, WritableMapping},
};
use crate::Backend;
use gridwatch_frame::Frame;

/// Longest start of a worker. GStreamer looks through all plugins when it starts for the first time.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest time for a fork of the template.
const FORK_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time between the end of a worker's socket and its own.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Time is counted in steps of this length at most: on a box that was suspended, none has passed for the worker either.
const STEP: Duration = Duration::from_millis(250);
/// Buffers kept for pictures. Beyond them, each picture gets a buffer of its own.
const MAX_BUFFERS: u8 = 4;
/// Buffers are multiples of this many bytes.
const BUFFER_STEP: usize = 1 << 20;
/// Smallest input buffer.
const MIN_INPUT: usize = 512 << 10;

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

/// Settings of libraries in a worker. ORC would write and run code; its precompiled functions do. One heap for all threads takes less memory.
/// GIO needs neither the desktop's settings nor its proxies, nor a view of the network interfaces.
const SETTINGS: [(&str, &str); 6] = [
    ("ORC_CODE", "backup"),
    ("MALLOC_ARENA_MAX", "1"),
    ("GIO_USE_NETWORK_MONITOR", "base"),
    ("GIO_USE_PROXY_RESOLVER", "dummy"),
    ("GIO_USE_VFS", "local"),
    ("GSETTINGS_BACKEND", "memory"),
];

/// A running worker. It is killed on drop.
pub(crate) struct WorkerProcess {
    process: ReapedChild,
    socket: OwnedFd,
    /// The hardware decoders that it may use; empty if there are none.
    pub(super) hardware: String,
    input: Option<WritableMapping>,
    pool: Pool,
}

/// Why a worker gave no answer.
pub(crate) enum Lost {
    /// It ended or must be ended.
    Ended(io::Error),
    Hung,
    /// It sent what no sound worker sends.
    Invalid,
    /// This process or the system is short of descriptors or memory. The worker is unharmed, or ended by this side.
    Shortage(io::Error),
}

/// The idle buffers of one worker. Those in frames return to it.
#[derive(Default)]
struct Pool {
    idle: Arc<Mutex<Vec<Buffer>>>,
    /// Numbers below this one are taken.
    created: u8,
}

/// Memory for a picture.
#[derive(Debug)]
pub(crate) struct Buffer {
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

/// The process that decode workers are forked from: it has loaded the libraries and plugins, which the workers share with it, and never sees what a
/// camera sends. Started by the first worker.
#[derive(Default)]
pub(super) struct Template {
    process: Mutex<Option<WorkerProcess>>,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Template")
    }
}

impl Template {
    /// Forks a worker with this socket as standard input. `None` if it needs libraries of hardware decoders, which are not loaded here.
    fn fork(&self, program: &Path, worker: &ForkRequest, socket: &OwnedFd) -> Result<Option<ReapedChild>, String> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let template = match &mut *process {
            Some(running) if !running.has_ended() => running,
            ended => ended.insert(WorkerProcess::execute(
                program,
                WorkerKind::Template,
                "template",
                Backend::Software,
                None,
            )?),
        };
        let needs_hardware = worker.kind == WorkerKind::Keyframes && worker.backend != Backend::Software;
        if needs_hardware && !template.hardware.is_empty() {
            return Ok(None);
        }
        let forked = template.fork(worker, socket);
        if forked.is_err() {
            *process = None;
        }
        forked.map(Some)
    }
}

impl WorkerProcess {
    /// Starts a worker and waits until it is confined.
    pub(super) fn start(
        workers: &DecodeWorkers,
        kind: WorkerKind,
        name: &str,
        backend: Backend,
    ) -> Result<Self, String> {
        let (socket, theirs) = socket_pair().map_err(|e| e.to_string())?;
        let worker = ForkRequest {
            kind,
            backend,
            name: name.to_owned(),
        };
        match workers.template.fork(&workers.program, &worker, &theirs)? {
            Some(process) => {
                drop(theirs);
                Self::new(process, socket).ready()
            }
            None => Self::execute(&workers.program, kind, name, backend, None),
        }
    }

    /// Starts a process of the program and waits until it is confined. `setup` is what it is told before that.
    pub(super) fn execute(
        program: &Path,
        kind: WorkerKind,
        name: &str,
        backend: Backend,
        setup: Option<&[u8]>,
    ) -> Result<Self, String> {
        let cannot = |e: io::Error| format!("cannot start {}: {e}", program.display());
        let (socket, theirs) = socket_pair().map_err(cannot)?;
        let variables = VARIABLES
            .iter()
            .filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let mut command = Command::new(program);
        command
            .arg0("gridwatch")
            .args(["decode-worker", kind.as_str(), name, backend.as_str()])
            .env_clear()
            .envs(variables)
            .envs(SETTINGS)
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let worker = Self::new(ReapedChild::spawn(command).map_err(cannot)?, socket);
        if let Some(setup) = setup {
            protocol::send(&worker.socket, setup, &[]).map_err(cannot)?;
        }
        worker.ready()
    }

    fn new(process: ReapedChild, socket: OwnedFd) -> Self {
        Self {
            process,
            socket,
            hardware: String::new(),
            input: None,
            pool: Pool::default(),
        }
    }

    /// Waits until it says that it is confined.
    fn ready(mut self) -> Result<Self, String> {
        match self.answer(START_TIMEOUT) {
            Ok(Answer::Ready {
                landlock,
                seccomp,
                hardware,
            }) => {
                log_confinement(landlock, seccomp, &hardware);
                self.hardware = hardware;
                Ok(self)
            }
            // A template is not confined: it gets names only.
            Ok(Answer::Loaded { hardware }) => {
                self.hardware = hardware;
                Ok(self)
            }
            Ok(Answer::Failed { text, .. }) => Err(text),
            Err(Lost::Ended(_)) => match self.process.wait(END_TIMEOUT) {
                Some(status) => Err(format!("ended while starting ({status})")),
                None => Err("ended while starting".into()),
            },
            _ => Err("did not start".into()),
        }
    }

    /// Has the template fork a worker.
    fn fork(&self, worker: &ForkRequest, socket: &OwnedFd) -> Result<ReapedChild, String> {
        let cannot = |what: &str| format!("cannot fork a decode worker: {what}");
        protocol::send(&self.socket, &worker.encode(), &[socket.as_fd()]).map_err(|e| cannot(&e.to_string()))?;
        match self.answer(FORK_TIMEOUT) {
            Ok(Answer::Forked { id }) => ReapedChild::adopt(id).map_err(|e| cannot(&e.to_string())),
            Ok(Answer::Failed { text, .. }) => Err(cannot(&text)),
            _ => Err(cannot("the template does not answer")),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.process.status().is_some()
    }

    /// Sends a request, with `data` for the input, and returns the answer and the buffer that a picture lies in.
    pub(crate) fn exchange(
        &mut self,
        data: Option<&[u8]>,
        timeout: Duration,
        request: impl FnOnce(Transfer) -> Request,
    ) -> Result<(Answer, Option<Buffer>), Lost> {
        let new_input = match data {
            Some(data) => self.write_input(data).map_err(Lost::Shortage)?,
            None => None,
        };
        let buffer = self.pool.take();
        let request = request(Transfer {
            len: data.map_or(0, <[u8]>::len) as u32,
            buffer: buffer.as_ref().map_or(SINGLE_USE, |b| b.number),
            input: new_input.is_some(),
        });
        let fds: Vec<_> = new_input.iter().map(AsFd::as_fd).collect();
        // A worker that cannot be reached has not seen the data.
        protocol::send(&self.socket, &request.encode(), &fds).map_err(|e| self.abandon(e))?;
        let bytes = match self.answer(timeout)? {
            Answer::TooSmall { bytes } => bytes as usize,
            answer @ Answer::Picture { .. } => return Ok((answer, buffer)),
            answer => {
                if let Some(buffer) = buffer {
                    self.pool.put_back(buffer);
                }
                return Ok((answer, None));
            }
        };
        if bytes > MAX_PICTURE || buffer.as_ref().is_some_and(|b| b.memory.len() >= bytes) {
            return Err(Lost::Invalid);
        }
        // The old one goes first, so that both do not take memory at once.
        let number = buffer.map_or_else(|| self.pool.new_number(), |b| b.number);
        let buffer = self.hand_over(number, bytes).map_err(|e| self.abandon(e))?;
        Ok((self.answer(timeout)?, Some(buffer)))
    }

    /// Copies `data` to the input; returns a new input if the old one was too small.
    fn write_input(&mut self, data: &[u8]) -> io::Result<Option<OwnedFd>> {
        let mut new = None;
        if self.input.as_ref().is_none_or(|input| input.len() < data.len()) {
            let fd = shared_memory::create(data.len().next_power_of_two().max(MIN_INPUT))?;
            self.input = Some(Mapping::writable(&fd)?);
            new = Some(fd);
        }
        if let Some(input) = &mut self.input {
            input.as_mut()[..data.len()].copy_from_slice(data);
        }
        Ok(new)
    }

    /// Creates a buffer for `bytes` and hands it to the worker.
    fn hand_over(&self, number: u8, bytes: usize) -> io::Result<Buffer> {
        let fd = shared_memory::create(bytes.max(1).next_multiple_of(BUFFER_STEP))?;
        let memory = Mapping::read_only(&fd)?;
        let request = Request::Buffer { buffer: number };
        protocol::send(&self.socket, &request.encode(), &[fd.as_fd()])?;
        Ok(Buffer { number, memory })
    }

    /// Ends a worker that waits for something that does not come. The next request needs another one.
    fn abandon(&mut self, error: io::Error) -> Lost {
        self.process.kill();
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

    /// The frame in `buffer`; `None` if it cannot be there.
    pub(crate) fn frame(&self, shape: Shape, buffer: Buffer, captured_at: Timestamp) -> Option<Frame> {
        let (planes, bytes) = shape.planes().filter(|(_, bytes)| *bytes <= buffer.memory.len())?;
        let memory = FrameMemory {
            buffer: Some(buffer),
            idle: Arc::clone(&self.pool.idle),
        };
        let frame = Frame {
            width: shape.width,
            height: shape.height,
            layout: shape.layout,
            matrix: shape.matrix,
            full_range: shape.full_range,
            planes,
            data: Bytes::from_owner(memory).slice(..bytes),
            captured_at,
        };
        frame.validate().is_ok().then_some(frame)
    }

    /// Ends a lost worker. Returns what a person is told, or `None` if the system killed it, for want of memory as a rule.
    pub(crate) fn cause_of(self, lost: &Lost, timeout: Duration) -> Option<String> {
        let (Lost::Ended(error) | Lost::Shortage(error)) = lost else {
            return Some(match lost {
                Lost::Hung => format!("no answer for {timeout:?}"),
                _ => "invalid answer".to_owned(),
            });
        };
        match self.process.wait(END_TIMEOUT) {
            Some(status) if status.signal() == Some(Signal::KILL.as_raw()) => None,
            Some(status) => Some(status.to_string()),
            None => Some(error.to_string()),
        }
    }

    /// Tells the worker to end, and waits a moment until it has.
    pub(crate) fn close(self) {
        if shutdown(&self.socket, Shutdown::Both).is_ok() {
            self.process.wait(END_TIMEOUT);
        }
    }
}

fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// A child process that a thread reaps as soon as it ends. It is killed on drop.
struct ReapedChild {
    id: Pid,
    /// Set when it has been reaped. While it is locked, the id belongs to this child.
    status: Arc<Mutex<Option<ExitStatus>>>,
    /// Disconnected when it has been reaped.
    ended: mpsc::Receiver<()>,
}

impl ReapedChild {
    /// Starts `command` from the thread that reaps it: it, and what it forks, ends with this thread, which outlives it.
    fn spawn(mut command: Command) -> io::Result<Self> {
        Self::reap(move || Ok(command.spawn()?.id()))
    }

    /// Takes over a child that another child has forked.
    fn adopt(id: u32) -> io::Result<Self> {
        Self::reap(move || Ok(id))
    }

    fn reap(start: impl FnOnce() -> io::Result<u32> + Send + 'static) -> io::Result<Self> {
        let status = Arc::new(Mutex::new(None));
        let (started, id) = mpsc::channel();
        let (alive, ended) = mpsc::channel();
        std::thread::Builder::new().name("reaper".into()).spawn({
            let status = Arc::clone(&status);
            move || {
                let _alive: mpsc::Sender<()> = alive;
                let invalid = || io::Error::from(io::ErrorKind::InvalidData);
                let child = start().and_then(|id| i32::try_from(id).ok().and_then(Pid::from_raw).ok_or_else(invalid));
                let id = child.as_ref().ok().copied();
                let _ = started.send(child);
                if let Some(id) = id {
                    reap_at_end(id, &status);
                }
            }
        })?;
        let id = id.recv().map_err(io::Error::other)??;
        Ok(Self { id, status, ended })
    }

    /// How it ended, if it has.
    fn status(&self) -> Option<ExitStatus> {
        *lock(&self.status)
    }

    /// Waits for its end.
    fn wait(&self, longest: Duration) -> Option<ExitStatus> {
        let _ = self.ended.recv_timeout(longest);
        self.status()
    }

    fn kill(&self) {
        let status = lock(&self.status);
        if status.is_none() {
            let _ = kill_process(self.id, Signal::KILL);
        }
    }
}

impl Drop for ReapedChild {
    fn drop(&mut self) {
        self.kill();
        // Until it is reaped: SIGKILL cannot be put off.
        let _ = self.ended.recv();
    }
}

/// Waits for the end of a child and reaps it.
fn reap_at_end(id: Pid, status: &Mutex<Option<ExitStatus>>) {
    // Without the lock and without reaping: until it is reaped, the id belongs to this child and can be killed.
    let until_its_end = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(id), until_its_end));
    let mut status = lock(status);
    let ended = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(id), WaitIdOptions::EXITED));
    let raw = ended.ok().flatten().map_or(0, |ended| {
        let signal = ended.terminating_signal().unwrap_or(0);
        ended.exit_status().map_or(signal, |code| code << 8)
    });
    *status = Some(ExitStatus::from_raw(raw));
}

fn lock(status: &Mutex<Option<ExitStatus>>) -> MutexGuard<'_, Option<ExitStatus>> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
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
