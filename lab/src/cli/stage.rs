//! The environment of `demo` and `bench`: a configuration, free ports, a broker.

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

/// Writes `configs/demo.toml`, edited by `edit`, into `dir`; relative paths in it are resolved against `configs` first.
///
/// # Errors
/// If the demo's configuration cannot be read or the new one cannot be written.
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

/// A free TCP port on loopback.
///
/// # Errors
/// If no port can be bound.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A mosquitto process on loopback, without persistence; killed on drop.
#[derive(Debug)]
pub(super) struct Broker {
    child: Child,
    /// Its port.
    pub(super) port: u16,
    config: PathBuf,
}

impl Broker {
    /// Starts mosquitto on a free port and waits until it accepts connections.
    ///
    /// # Errors
    /// If mosquitto is not installed or does not start.
    pub(super) fn start(dir: &Path) -> Result<Self, Failure> {
        let port = free_port().map_err(|e| Failure::new(Class::Transient, format!("no free port on loopback: {e}")))?;
        let config = dir.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest file {}\n",
            dir.join("mosquitto.log").display()
        );
        std::fs::write(&config, text)
            .map_err(|e| Failure::new(Class::Transient, format!("cannot write {}: {e}", config.display())))?;
        let child = spawn(&config)?;
        let broker = Self { child, port, config };
        broker.wait_until_up()?;
        Ok(broker)
    }

    /// Kills it with SIGKILL, like a power cut.
    pub(super) fn kill(&mut self) {
        // Ignored: it may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// True if the process has exited.
    pub(super) fn has_exited(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Restarts it on its port, unless something listens there already.
    ///
    /// # Errors
    /// If mosquitto does not start.
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
    // Debian installs it in /usr/sbin, which is not on every user's PATH.
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
                format!("cannot start mosquitto ({e}); install it with edge-deploy/setup.sh"),
            )
        })
}

/// A child process; killed on drop.
#[derive(Debug)]
pub(super) struct OwnedChild(pub(super) Child);

impl Drop for OwnedChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
