//! A camera whose stream crashes the native decoder, and decode workers that are killed, cost the other camera no look.

use std::{fs, process::Command, time::Duration};

use crate::broker::Broker;
use crate::daemon::{Daemon, root};
use gridwatch_farm::{self as farm, Farm, FarmConfig, MountConfig};

/// 10-bit monochrome H.265 in a file, received with GStreamer, too,, which ends a process that decodes it with GStreamer 1.22.
fn deep_clip(dir: &std::path::Path) -> std::path::PathBuf {
    let file = dir.join("deep.mp4");
    let out = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc=size=320x240:rate=10",
            "-frames:v",
            "20",
        ])
        .args([
            "-pix_fmt",
            "gray10le",
            "-c:v",
            "libx265",
            "-tag:v",
            "hvc1",
            "-x265-params",
        ])
        .arg("log-level=none:keyint=10:min-keyint=10:open-gop=0:bframes=0")
        .arg(&file)
        .output()
        .expect("ffmpeg is installed (edge-deploy/setup.sh)");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    file
}

/// The ids of the daemon's decode workers.
fn workers(daemon: &Daemon) -> Vec<u32> {
    let daemon = daemon.id().to_string();
    let processes = fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|p| p.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_worker = |id: &u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let has = |field: &str, value: &str| {
            status
                .lines()
                .any(|l| l.strip_prefix(field).is_some_and(|v| v.trim() == value))
        };
        has("PPid:", &daemon) && status.starts_with("Name:\tdecode")
    };
    ids.filter(is_worker).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_stream_that_crashes_decoders_nor_dying_workers_cost_the_other_camera_a_look() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |name: &str, file: std::path::PathBuf| MountConfig {
        name: name.to_owned(),
        clip: farm::clip(file).unwrap(),
        offset: Duration::ZERO,
    };
    let farm = Farm::start(FarmConfig {
        mounts: vec![
            mount("square-c", root().join("demo/clips/square-c.mp4")),
            mount("street-a", deep_clip(dir.path())),
        ],
        ..FarmConfig::default()
    })
    .unwrap();
    let broker = Broker::start();
    let file = url::Url::from_file_path(dir.path().join("deep.mp4")).unwrap();
    let cameras = ["square-c", "street-a", "street-b"];
    let mut daemon = Daemon::start_with(dir.path(), &farm, &cameras, broker.port, |config| {
        for camera in config.cameras.iter_mut().filter(|c| c.id == "street-b") {
            camera.url = file.to_string();
        }
    });
    daemon.until("the format named", |d| {
        let (_, body) = d.get("/readyz")?;
        body.contains("street-a: no clear look yet: sends H.265 video with 10 bits per sample, monochrome")
            .then_some(())
    });
    assert_eq!(
        daemon.metric("gridwatch_camera_state", "street-a\",state=\"unsupported"),
        1.0
    );
    // A file is decoded where GStreamer reads it: three of its processes end, not this one.
    daemon.until("the file set aside", |d| {
        (d.metric("gridwatch_camera_state", "street-b\",state=\"set_aside") == 1.0).then_some(())
    });
    assert_eq!(daemon.metric("gridwatch_decode_crashes_total", "street-b"), 3.0);
    let looks = |d: &Daemon| d.metric("gridwatch_looks_total", "square-c");
    let mut seen = looks(&daemon);
    for signal in [rustix::process::Signal::ABORT, rustix::process::Signal::KILL] {
        let killed = daemon.until("a decode worker", |d| Some(workers(d)).filter(|w| !w.is_empty()));
        for id in &killed {
            let id = rustix::process::Pid::from_raw(i32::try_from(*id).unwrap()).unwrap();
            // One that has ended meanwhile was replaced.
            let _ = rustix::process::kill_process(id, signal);
        }
        // Reaped at once, not at the next look.
        daemon.until("the end of those killed", |d| {
            workers(d).iter().all(|id| !killed.contains(id)).then_some(())
        });
        daemon.until("three more looks", |d| (looks(d) >= seen + 3.0).then_some(()));
        seen = looks(&daemon);
        assert!(workers(&daemon).iter().all(|id| !killed.contains(id)));
    }
    // A worker that was killed in the middle of a picture costs this one look; as a rule they are idle.
    let failed = daemon.metric("gridwatch_looks_failed_total", "square-c");
    assert!(failed <= 2.0, "{}", daemon.log());
    assert_eq!(daemon.get("/healthz").unwrap().0, 200);
    let log = daemon.log();
    let told = log
        .lines()
        .filter(|l| l.contains("Camera unsupported") && l.contains("street-a"));
    assert_eq!(told.count(), 1, "logged once: {log}");
    let left = workers(&daemon);
    assert!(daemon.stop().success());
    assert!(
        left.iter()
            .all(|id| !std::path::Path::new(&format!("/proc/{id}")).exists())
    );
}
