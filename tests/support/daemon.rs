//! Runs the `gridwatch` binary on the demo's cameras.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use gridwatch_config::raw;
use gridwatch_farm as farm;
use gridwatch_farm::{Clip, Farm, FarmConfig, MountConfig};

/// Timeout of every wait; nothing should come near it.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The repository root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A `gridwatch` command with these arguments.
pub fn gridwatch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gridwatch"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("GRIDWATCH_STATE")
        .env_remove("GRIDWATCH_CONFIG");
    command
}

/// The JSON lines that a successful command prints.
pub fn json_lines(arguments: &[&str]) -> Vec<serde_json::Value> {
    let output = gridwatch(arguments).output().expect("gridwatch starts");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout)
        .expect("UTF-8")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

/// Serves the demo's cameras with these ids from this process.
pub fn farm(cameras: &[&str]) -> Farm {
    let mounts = cameras.iter().map(|id| MountConfig {
        name: (*id).to_owned(),
        clip: farm::clip(root().join(format!("demo/clips/{id}.mp4"))).expect("the demo's clip"),
        offset: Duration::ZERO,
    });
    Farm::start(FarmConfig {
        mounts: mounts.collect(),
        ..FarmConfig::default()
    })
    .expect("the farm starts")
}

/// The clip of the demo's first camera, with ffmpeg filters applied.
pub fn changed_clip(dir: &Path, name: &str, change: &[&str]) -> Arc<Clip> {
    let clip = root().join("demo/clips/street-a.mp4");
    clip_from(dir, name, &["-i", clip.to_str().expect("UTF-8")], change)
}

/// A clip that ffmpeg encodes from `input` with the options in `change`.
pub fn clip_from(dir: &Path, name: &str, input: &[&str], change: &[&str]) -> Arc<Clip> {
    let file = dir.join(format!("{name}.mp4"));
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(input)
        .args(change)
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-crf",
            "23",
            "-pix_fmt",
            "yuv420p",
        ])
        .args([
            "-x264-params",
            "keyint=20:min-keyint=20:scenecut=0:bframes=0:log-level=error",
        ])
        .arg(&file)
        .output()
        .expect("ffmpeg is installed (edge-deploy/setup.sh)");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    farm::clip(file).expect("ffmpeg wrote a clip")
}

fn demo() -> raw::File {
    let text = fs::read_to_string(root().join("configs/demo.toml")).expect("the demo's configuration");
    toml::from_str(&text).expect("the demo's configuration parses")
}

/// A camera of the demo's configuration.
pub fn camera(id: &str) -> raw::Camera {
    let mut cameras = demo().cameras.into_iter();
    cameras.find(|c| c.id == id).expect("the demo has this camera")
}

/// A running `gridwatch run`; killed on drop.
pub struct Daemon {
    child: Child,
    http: u16,
    config: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with configs/demo.toml on the farm's cameras with these ids. State, configuration and log go into `dir`.
    pub fn start(dir: &Path, farm: &Farm, cameras: &[&str], broker: u16) -> Self {
        Self::start_with(dir, farm, cameras, broker, |_| {})
    }

    /// Like [`Daemon::start`], with the configuration edited by `change`.
    pub fn start_with(
        dir: &Path,
        farm: &Farm,
        cameras: &[&str],
        broker: u16,
        change: impl FnOnce(&mut raw::File),
    ) -> Self {
        Self::start_where(dir, farm, cameras, broker, None, change)
    }

    /// Like [`Daemon::start_with`], with a variable in its environment.
    pub fn start_where(
        dir: &Path,
        farm: &Farm,
        cameras: &[&str],
        broker: u16,
        variable: Option<(&str, &Path)>,
        change: impl FnOnce(&mut raw::File),
    ) -> Self {
        let configs = root().join("configs");
        let mut file = demo();
        let http = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        file.node.state_dir = dir.join("state");
        file.broker.url = format!("mqtt://127.0.0.1:{broker}");
        file.telemetry.listen = format!("127.0.0.1:{http}");
        file.telemetry.filter = "info".into();
        file.console.listen = "off".into();
        for path in file.data_paths_mut() {
            *path = configs.join(&*path);
        }
        file.cameras.retain(|c| cameras.contains(&c.id.as_str()));
        for camera in &mut file.cameras {
            camera.url = farm.url(&camera.id);
        }
        // Half the demo's dwell, for speed: four looks, not seven.
        for rule in file.rules.iter_mut().filter(|r| r.id == "garbage") {
            rule.dwell = raw::Span(Duration::from_secs(6));
        }
        file.evidence.min_interval = raw::Span(Duration::from_secs(4));
        // The banner is for the demo only: in these tests a camera has one problem.
        for rule in file.rules.iter_mut().filter(|r| r.except_approved) {
            rule.dwell = raw::Span(Duration::from_secs(3600));
        }
        change(&mut file);
        let config = dir.join("edge.toml");
        fs::write(&config, toml::to_string(&file).expect("the configuration serializes"))
            .expect("the folder is writable");
        let log = dir.join(format!("log-{http}"));
        let child = gridwatch(&["run", "--config"])
            .arg(&config)
            .envs(variable)
            .stderr(fs::File::create(&log).expect("the folder is writable"))
            .spawn()
            .expect("gridwatch starts");
        Self {
            child,
            http,
            config,
            log,
        }
    }

    pub fn config(&self) -> &str {
        self.config.to_str().expect("UTF-8")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Status and body of an HTTP GET; `None` while it does not listen.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// The sum of a metric over the samples whose labels contain `label`; 0 if there are none.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let (_, body) = self.get("/metrics").unwrap_or_default();
        body.lines()
            .filter(|l| l.starts_with(name) && l.contains(label))
            .filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// Polls `what` until it returns a value.
    pub fn until<T>(&mut self, goal: &str, mut what: impl FnMut(&Self) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = what(self) {
                return found;
            }
            let ended = self.child.try_wait().expect("the daemon is a child process");
            assert!(
                ended.is_none() && Instant::now() < end,
                "timed out waiting for {goal}; exit: {ended:?}; log:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("the daemon is a child process");
        self.child.wait().expect("the daemon is a child process");
    }

    /// Stops it with SIGTERM, like systemd.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait_for_exit()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).expect("the daemon is a child process");
    }

    /// Waits until it ends by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the daemon is a child process") {
                return status;
            }
            assert!(Instant::now() < end, "the daemon does not stop; log:\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ignored: it may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
