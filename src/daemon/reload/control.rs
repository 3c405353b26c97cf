//! The control socket in the state directory: by it `gridwatch reload` asks the running daemon, and gets its answer.
//!
//! One request per connection, one line of JSON each way. Only the daemon's user and root may connect, which the mode of the state
//! directory and of the socket see to.

use std::{
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{fs::PermissionsExt, net::UnixListener as StdListener},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

use super::{
    Reloader,
    request::{ReloadOccasion, ReloadReport, ReloadRequest},
};

/// The socket's name in the state directory.
const NAME: &str = "control.sock";
/// Connections at a time.
const MAX_CONNECTIONS: usize = 4;
/// Largest request and answer, in bytes. An answer shows whole values, such as all polygons of a new camera.
const MAX_REQUEST: u64 = 64 << 10;
const MAX_ANSWER: u64 = 64 << 20;
/// Time for the request to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum ControlRequest {
    /// Put the files' content into force, or, with `dry_run`, tell what would change.
    Reload { dry_run: bool, file: Option<PathBuf> },
}

/// Listens in `state_dir`; a socket that an earlier run left is replaced.
///
/// # Errors
/// The socket cannot be created.
pub(crate) fn listen(state_dir: &Path) -> io::Result<UnixListener> {
    let (_dir, path) = reachable(state_dir)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Removes the socket of a daemon that stops.
pub(crate) fn remove(state_dir: &Path) {
    // One that stays is replaced at the next start.
    let _ = fs::remove_file(state_dir.join(NAME));
}

/// The socket by a short path, which stays valid while the first part is held: the system takes no more than 107 bytes.
fn reachable(state_dir: &Path) -> io::Result<(rustix::fd::OwnedFd, PathBuf)> {
    let dir = rustix::fs::open(
        state_dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(NAME);
    Ok((dir, path))
}

/// Answers requests until the daemon ends.
pub(crate) async fn serve(listener: UnixListener, reloader: Arc<Reloader>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "Cannot accept a connection to the control socket; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let reloader = Arc::clone(&reloader);
        tokio::spawn(async move {
            if let Err(error) = answer(stream, reloader).await {
                tracing::debug!(%error, "Request on the control socket not answered");
            }
            drop(place);
        });
    }
}

async fn answer(mut stream: UnixStream, reloader: Arc<Reloader>) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    timeout(
        REQUEST_TIMEOUT,
        BufReader::new(read.take(MAX_REQUEST)).read_line(&mut line),
    )
    .await??;
    let ControlRequest::Reload { dry_run, file } = serde_json::from_str(&line)?;
    let request = ReloadRequest {
        // Only to be tried: what runs is always the file that the daemon was started with.
        file: file.filter(|_| dry_run),
        dry_run,
        occasion: ReloadOccasion::Command,
    };
    let report = tokio::task::spawn_blocking(move || reloader.reload(&request)).await?;
    let mut answer = serde_json::to_vec(&report)?;
    answer.push(b'\n');
    write.write_all(&answer).await
}

/// Why the running daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// None runs on this state directory, or it is of another version.
    #[error("no daemon runs on {} ({source}); start one with `gridwatch run`", .state_dir.display())]
    NotRunning {
        /// The state directory.
        state_dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the daemon gave no answer ({0}); its log says more")]
    NoAnswer(#[source] io::Error),
}

/// Asks the daemon that runs on `state_dir` to reload its configuration; with `dry_run` to tell what would change, with the content of
/// `file` if given (an absolute path). Waits until it is done.
///
/// # Errors
/// No daemon runs there, or it gave no answer.
pub(crate) fn request_reload(
    state_dir: &Path,
    dry_run: bool,
    file: Option<PathBuf>,
) -> Result<ReloadReport, ControlError> {
    use std::{
        io::{BufRead as _, Read as _, Write as _},
        os::unix::net::UnixStream,
    };
    let connected = reachable(state_dir).and_then(|(_dir, path)| UnixStream::connect(path));
    let mut stream = connected.map_err(|source| ControlError::NotRunning {
        state_dir: state_dir.into(),
        source,
    })?;
    let ask = || -> io::Result<ReloadReport> {
        let mut request = serde_json::to_vec(&ControlRequest::Reload { dry_run, file })?;
        request.push(b'\n');
        stream.write_all(&request)?;
        let mut line = String::new();
        io::BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    };
    ask().map_err(ControlError::NoAnswer)
}
