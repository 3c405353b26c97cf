//! Versions of the program and of what it stands on.

use std::{fs, process::Command};

use gridwatch_base::file;
use serde::Serialize;

/// Packages of the system that matter to the daemon, by the beginning of their names.
const PACKAGES: [&str; 12] = [
    "gridwatch",
    "libonnxruntime",
    "onnxruntime",
    "libgstreamer",
    "gstreamer1.0",
    "libopencv-core",
    "libopencv-imgproc",
    "mosquitto",
    "chrony",
    "systemd-timesyncd",
    "libc6",
    "intel-media-va-driver",
];

/// Largest list of packages that is read.
const MAX_LIST: usize = 4 << 20;

/// Versions of the program and of what it stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// Version of this program.
    pub gridwatch: &'static str,
    /// Version of ONNX Runtime, if it is loaded.
    pub onnxruntime: Option<String>,
    /// SHA-256 of the configuration.
    pub configuration_sha256: String,
    /// Version of the kernel.
    pub kernel: String,
    /// Name of the system (`PRETTY_NAME` of os-release(5)).
    pub system: Option<String>,
    /// Processor architecture.
    pub architecture: &'static str,
    /// Logical processors that the program may use.
    pub processors: Option<usize>,
    /// Memory of the machine in kB (`MemTotal` of /proc/meminfo).
    pub memory_kb: Option<u64>,
    /// Installed packages that matter, as `name version`; empty where dpkg is not the package manager.
    pub packages: Vec<String>,
}

/// Collects them. Runs `dpkg-query`, which takes some 20 ms.
pub fn collect(configuration_sha256: &str, onnxruntime: Option<String>) -> Versions {
    let kernel = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}"));
        text.map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    Versions {
        gridwatch: env!("CARGO_PKG_VERSION"),
        onnxruntime,
        configuration_sha256: configuration_sha256.to_owned(),
        kernel: format!("{} {} {}", kernel("ostype"), kernel("osrelease"), kernel("version")),
        system: system(),
        architecture: std::env::consts::ARCH,
        processors: std::thread::available_parallelism().ok().map(Into::into),
        memory_kb: memory_kb(),
        packages: packages(),
    }
}

fn system() -> Option<String> {
    let text = file::read_text("/etc/os-release".as_ref(), 64 << 10).ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

fn memory_kb() -> Option<u64> {
    // Its size is told as 0, so that `file::read` would refuse it.
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.split_whitespace().next()?.parse().ok()
}

fn packages() -> Vec<String> {
    let listed = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Abbrev} ${Package} ${Version}\n"])
        .output();
    let Ok(listed) = listed else { return Vec::new() };
    let text = String::from_utf8_lossy(&listed.stdout[..listed.stdout.len().min(MAX_LIST)]).into_owned();
    let installed = text.lines().filter_map(|line| line.strip_prefix("ii "));
    installed
        .map(str::trim)
        .filter(|line| PACKAGES.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect()
}
