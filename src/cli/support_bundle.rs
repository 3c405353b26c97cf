//! `gridwatch support-bundle`: one file of what helps to find a fault, without secrets and pictures.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Failure, audited::audited, json_line, options::ConfigArgs, print, private};
use crate::audit::Act;
use gridwatch_base::error::Class;
use gridwatch_config::Config;
use gridwatch_support::{Bundle, DaemonState, LinkState, Manifest, ReadinessState, file_name};

/// Lines of the log, at most.
const MAX_LINES: &str = "20000";
/// Largest answer of the daemon, and largest log, in bytes.
const MAX_ANSWER: u64 = 16 << 20;
/// Longest time for an answer of the daemon.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The unit whose log is read.
const UNIT: &str = "gridwatch.service";

/// Write a support bundle: what helps to find a fault, in one file.
///
/// The file is a .tar.gz with versions, the configuration, warnings, readiness, metrics, the log, an index of outbox and cases, models,
/// clock, disk, and records of decoder crashes. Passwords, keys and tokens are removed, and no picture is in it. Coordinates, addresses and
/// cells of the cameras are left out unless --with-places is given. MANIFEST.txt in it says what is there and what was left out; look
/// at it before you send the file. Works while the daemon runs; readiness and metrics are there only then. The log is that of the systemd
/// unit gridwatch.service.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch support-bundle --config /etc/gridwatch/edge.toml
  gridwatch support-bundle --out /media/usb/box-7.tar.gz --with-places

Exit codes: 0 written; 3 the configuration is faulty, or the file cannot be written.")]
pub struct SupportBundleArgs {
    /// Output file, readable by you only. Default: gridwatch-support-NODE-TIME.tar.gz in this folder.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Include coordinates, addresses and cells of the cameras.
    #[arg(long)]
    with_places: bool,
    /// Print one JSON object: the file and its manifest.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// The result, as printed with `--json`.
#[derive(Serialize)]
struct Written<'a> {
    path: &'a PathBuf,
    bytes: usize,
    #[serde(flatten)]
    manifest: &'a Manifest,
}

/// Runs the command.
///
/// # Errors
/// A faulty configuration, or a file that cannot be written.
pub fn run(args: &SupportBundleArgs) -> Result<ExitCode, Failure> {
    let config = args.config.load()?;
    let at = Timestamp::now();
    let path = args.out.clone().unwrap_or_else(|| file_name(&config, at).into());
    let act = Act::new("support-bundle")
        .with_path("out", &path)
        .with("with_places", args.with_places);
    let (manifest, bytes) = audited(&config.state_dir, act, |act| {
        let daemon = daemon_state(&config);
        let bundle = Bundle {
            config: &config,
            daemon: &daemon,
            with_places: args.with_places,
            at,
        };
        let failed = |e: io::Error| Failure::new(Class::Config, format!("--out {}: {e}", path.display()));
        let (manifest, bytes) = bundle.write(Vec::new()).map_err(failed)?;
        private::write(&path, &bytes).map_err(failed)?;
        act.add("bytes", bytes.len());
        Ok::<_, Failure>((manifest, bytes.len()))
    })?;
    if args.json {
        print(&json_line(&Written {
            path: &path,
            bytes,
            manifest: &manifest,
        })?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("{} written ({bytes} bytes). Left out:\n", path.display());
    for what in &manifest.left_out {
        text += &format!("  {what}\n");
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The body of `/readyz`, as far as it is needed here.
#[derive(Deserialize)]
struct ReadyAnswer {
    ready: bool,
    reasons: Vec<String>,
}

/// What another process can learn of the daemon.
fn daemon_state(config: &Config) -> DaemonState {
    let answer = |path: &str| match config.telemetry.listen {
        Some(address) => {
            get(address, path).map_err(|e| format!("the daemon does not answer at http://{address}{path}: {e}"))
        }
        None => Err("telemetry.listen is off".to_owned()),
    };
    let readiness = answer("/readyz").and_then(|text| {
        let found: ReadyAnswer = serde_json::from_str(&text).map_err(|e| format!("/readyz: {e}"))?;
        Ok(ReadinessState {
            ready: found.ready,
            blockers: found.reasons,
        })
    });
    let metrics = answer("/metrics");
    DaemonState {
        link: metrics.clone().and_then(|metrics| {
            let line = metrics
                .lines()
                .find_map(|line| line.strip_prefix("gridwatch_link_connected "));
            let connected = line.map(str::trim).ok_or("no metric of the link")?;
            Ok(LinkState {
                connected: connected == "1",
                down_since: None,
                error: None,
            })
        }),
        readiness,
        metrics,
        log: journal(),
        refused: Vec::new(),
        onnxruntime: None,
        started_at: None,
    }
}

/// The body of a small HTTP answer, whatever its status: `/readyz` answers 503 while not ready.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the body is not chunked, and ends with the connection.
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut text)?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

/// The newest lines of the unit's log.
fn journal() -> Result<Vec<String>, String> {
    let mut child = Command::new("journalctl")
        .args([
            "--unit",
            UNIT,
            "--lines",
            MAX_LINES,
            "--output",
            "short-iso",
            "--no-pager",
            "--quiet",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot run journalctl: {e}"))?;
    let mut bytes = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(MAX_ANSWER)
            .read_to_end(&mut bytes)
            .map_err(|e| format!("journalctl: {e}"))?;
    }
    // It is still writing if there was more.
    let _ = child.kill();
    let _ = child.wait();
    let lines: Vec<String> = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
    match lines.is_empty() {
        true => Err(format!(
            "journalctl shows no lines of {UNIT}; run the command as root, or as a member of the group adm"
        )),
        false => Ok(lines),
    }
}
