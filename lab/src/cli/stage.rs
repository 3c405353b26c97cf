//! What `demo` and `bench` set up around the daemon: the project's own files, free ports, a broker.

use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use gridwatch::cli::Failure;
use gridwatch_base::error::Class;
use gridwatch_config::raw;

/// Where the project's files (`configs`, `models`, `demo`) are: `$GRIDWATCH_SHARE`, the working directory or one above
/// it, the folder of a build, or where a package puts them.
///
/// # Errors
/// When they are in none of these places.
pub(super) fn share() -> Result<PathBuf, Failure> {
    const PACKAGED: &str = "/usr/share/gridwatch";
    let has_files = |dir: &&Path| dir.join("configs/demo.toml").is_file() && dir.join("models").is_dir();
    if let Some(dir) = std::env::var_os("GRIDWATCH_SHARE").map(PathBuf::from) {
        return has_files(&dir.as_path()).then_some(dir.clone()).ok_or_else(|| {
            Failure::new(
                Class::Config,
                format!(
                    "GRIDWATCH_SHARE={} holds no configs/demo.toml and models",
                    dir.display()
                ),
            )
        });
    }
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .chain([Path::new(PACKAGED)])
        .find(has_files)
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            Failure::new(
                Class::Config,
                format!("configs/demo.toml and models are neither above the working directory nor in {PACKAGED}; run this inside a clone, or set GRIDWATCH_SHARE to one"),
            )
        })
}

/// `configs/demo.toml` with `edit` made to it, written into `dir`; paths in it still start at `configs`.
///
/// # Errors
/// When the demo's configuration cannot be read or the new one not written.
pub(super) fn derive_config(share: &Path, dir: &Path, edit: impl FnOnce(&mut raw::File)) -> Result<PathBuf, Failure> {
    let configs = share.join("configs");
    let demo = configs.join("demo.toml");
    let failure =
        |path: &Path, e: &dyn std::fmt::Display| Failure::new(Class::Config, format!("{}: {e}", path.display()));
    let text = std::fs::read_to_string(&demo).map_err(|e| failure(&demo, &e))?;
    let mut file: raw::File = toml::from_str(&text).map_err(|e| failure(&demo, &e))?;
    for path in file.data_paths_mut() {
        *path = configs.join(&*path);
    }
    edit(&mut file);
    let path = dir.join("gridwatch.toml");
    let text = toml::to_string(&file).map_err(|e| Failure::new(Class::Bug, e.to_string()))?;
    std::fs::write(&path, text).map_err(|e| failure(&path, &e))?;
    Ok(path)
}

/// A TCP port on loopback that nothing listens on now.
///
/// # Errors
/// When loopback gives none.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A mosquitto of our own on loopback, without persistence; killed when dropped.
#[derive(Debug)]
pub(super) struct Broker {
    child: Child,
    /// Where it listens.
    pub(super) port: u16,
    config: PathBuf,
}

impl Broker {
    /// Starts mosquitto on a free port and waits until it accepts connections.
    ///
    /// # Errors
    /// When mosquitto is not installed or does not come up.
    pub(super) fn start(dir: &Path) -> Result<Self, Failure> {
        let port = free_port().map_err(|e| Failure::new(Class::Transient, format!("no free port on loopback: {e}")))?;
        let config = dir.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest file {}\n",
            dir.join("mosquitto.log").display()
        );
        std::fs::write(&config, text)
            .map_err(|e| Failure::new(Class::Transient, format!("{} cannot be written: {e}", config.display())))?;
        let child = spawn(&config)?;
        let broker = Self { child, port, config };
        broker.wait_until_up()?;
        Ok(broker)
    }

    /// Kills it without a word, as a power cut would.
    pub(super) fn kill(&mut self) {
        // Gone already is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// True once the process is gone.
    pub(super) fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Starts it again on its port, unless something else already listens there.
    ///
    /// # Errors
    /// When mosquitto does not come up.
    pub(super) fn restart(&mut self) -> Result<(), Failure> {
        if !is_up(self.port) {
            self.child = spawn(&self.config)?;
            self.wait_until_up()?;
        }
        Ok(())
    }

    fn wait_until_up(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_up(self.port) {
            if Instant::now() > deadline {
                return Err(Failure::new(
                    Class::Transient,
                    format!("mosquitto does not listen on port {} after 10 s", self.port),
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_up(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn spawn(config: &Path) -> Result<Child, Failure> {
    // Debian puts it in /usr/sbin, which is not on every user's PATH.
    let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
        .into_iter()
        .find(|p| Path::new(p).exists());
    Command::new(program.unwrap_or("mosquitto"))
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| {
            Failure::new(
                Class::Transient,
                format!("mosquitto cannot be started ({e}); run edge-deploy/setup.sh, which installs it"),
            )
        })
}

/// A child process that does not outlive us.
#[derive(Debug)]
pub(super) struct OwnedChild(pub(super) Child);

impl Drop for OwnedChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
