//! The databases that the tests run on.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::broker::PATIENCE;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// The kinds that this machine has.
pub(crate) fn kinds() -> Vec<Kind> {
    match programs() {
        Some(_) => vec![Kind::Sqlite, Kind::Postgres],
        None => {
            eprintln!("skipped PostgreSQL: its server is not installed; run apt-get install postgresql");
            vec![Kind::Sqlite]
        }
    }
}

/// A database of its own, and a folder for pictures.
pub(crate) struct TestDatabase {
    pub(crate) url: String,
    pub(crate) folder: TempDir,
    server: Option<Server>,
}

impl TestDatabase {
    pub(crate) fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        match kind {
            Kind::Sqlite => Self {
                url: format!("sqlite:{}", folder.path().join("hub.db").display()),
                folder,
                server: None,
            },
            Kind::Postgres => {
                let server = Server::start();
                Self {
                    url: format!("postgres://hub@127.0.0.1:{}/postgres", server.port),
                    folder,
                    server: Some(server),
                }
            }
        }
    }

    pub(crate) fn pictures(&self) -> PathBuf {
        self.folder.path().join("pictures")
    }

    /// Kills PostgreSQL and starts it again; SQLite has no server.
    pub(crate) fn restart(&mut self) {
        if let Some(server) = &mut self.server {
            server.kill();
            server.spawn();
        }
    }
}

/// The folder of PostgreSQL's server programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions.filter_map(|v| Some(v.ok()?.path().join("bin"))).collect();
    folders.sort();
    folders.into_iter().rfind(|folder| folder.join("initdb").is_file())
}

/// A PostgreSQL server on a free port.
struct Server {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

/// `nobody` of Debian: PostgreSQL does not run as root.
const NOBODY: u32 = 65534;

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(programs().unwrap().join(program));
    command
        .current_dir(folder)
        .env("LC_ALL", "C.UTF-8")
        .stdout(Stdio::null());
    if rustix::process::getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if rustix::process::getuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made = command("initdb", folder.path())
            .args(["-D", "data", "-A", "trust", "-U", "hub", "--no-sync", "-E", "UTF8"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut server = Self {
            folder,
            port,
            process: None,
        };
        server.spawn();
        server
    }

    fn spawn(&mut self) {
        let port = self.port.to_string();
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        // Durable only as far as these tests kill it: the machine does not fail.
        let process = command("postgres", self.folder.path())
            .args([
                "-D",
                "data",
                "-k",
                ".",
                "-p",
                &port,
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
            ])
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let patience = Instant::now() + PATIENCE;
        while !self.is_ready() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < patience, "PostgreSQL does not start: {log}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_ready(&self) -> bool {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.contains("ready to accept connections") && TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        // Its children notice that it is gone; a new one refuses to start until they have.
        thread::sleep(Duration::from_millis(300));
        let _ = fs::remove_file(self.folder.path().join("data/postmaster.pid"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = rustix::process::Pid::from_child(&process);
            // SIGQUIT: an immediate shutdown, which takes its children along.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
            let _ = process.wait();
        }
    }
}
