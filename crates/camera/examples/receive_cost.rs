//! Receives cameras without looking at them, and prints what that costs: `receive_cost BASE_URL COUNT SECONDS [VIEWERS]`. The
//! cameras are `BASE_URL/cam-000`, `BASE_URL/cam-001`, …, as `gridwatch-lab bench farm` serves them. With VIEWERS, each has so many live
//! views, whose fragments are taken as they come; how long after its last packet a picture's fragment came is printed, too.
#![allow(clippy::unwrap_used, reason = "a measurement ends by panicking")]

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use gridwatch_camera::{
    Slot, Transport,
    live::{LiveChunk, LiveLimits},
    receive::{LoginPolicy, Receiver, ReceiverSettings, Timeouts, Trust},
};
use jiff::Timestamp;

/// User and system time of this process in ms.
fn cpu_ms() -> f64 {
    const TICK_MS: f64 = 10.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let fields: Vec<f64> = after_name.split(' ').map(|f| f.parse().unwrap_or(0.0)).collect();
    (fields[11] + fields[12]) * TICK_MS
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (base, count, seconds) = (
        &arguments[0],
        arguments[1].parse::<u32>().unwrap(),
        arguments[2].parse::<u64>().unwrap(),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let before_kb = resident_kb();
    let receive = |i: u32| {
        let settings = ReceiverSettings {
            camera: format!("cam-{i:03}").as_str().into(),
            url: format!("{base}/cam-{i:03}").parse().unwrap(),
            credentials: None,
            login: LoginPolicy::default(),
            trust: Trust::System,
            transport: Transport::Tcp,
            look_every: Duration::from_secs(10),
            timeouts: Timeouts::default(),
            #[cfg(feature = "gst")]
            full_decoding: gridwatch_camera::decode::DecodeMode::InProcess,
        };
        let slot = Slot::new(settings.camera.clone(), Arc::default());
        Receiver::spawn(settings, slot, runtime.handle())
    };
    let receivers: Vec<_> = (0..count).map(receive).collect();
    while receivers.iter().any(|r| r.slot().seq() == 0) {
        thread::sleep(Duration::from_millis(100));
    }
    let viewers = arguments.get(3).map_or(0, |n| n.parse::<u32>().unwrap());
    let limits = LiveLimits::new((viewers * count) as usize, 8 << 20);
    let delays = Arc::new(Mutex::new(Vec::new()));
    for receiver in receivers.iter().cycle().take((viewers * count) as usize) {
        let (mut view, delays) = (receiver.slot().watch(&limits).unwrap(), Arc::clone(&delays));
        runtime.spawn(async move {
            while let Some(chunk) = view.next().await {
                if let LiveChunk::Fragment { at, .. } = chunk {
                    delays
                        .lock()
                        .unwrap()
                        .push(Timestamp::now().duration_since(at).as_secs_f64() * 1e3);
                }
            }
        });
    }
    while receivers.iter().any(|r| r.slot().live_stats().fragments == 0) && viewers > 0 {
        thread::sleep(Duration::from_millis(100));
    }
    let totals = || {
        let stats: Vec<_> = receivers.iter().map(|r| r.slot().stats()).collect();
        (
            stats.iter().map(|s| s.bytes).sum::<u64>(),
            stats.iter().map(|s| s.keyframes).sum::<u64>(),
        )
    };
    let (cpu, began, (bytes, keyframes)) = (cpu_ms(), Instant::now(), totals());
    thread::sleep(Duration::from_secs(seconds));
    let camera_seconds = began.elapsed().as_secs_f64() * f64::from(count);
    let (bytes_after, keyframes_after) = totals();
    println!(
        "{:.3} ms of CPU per camera-second, {:.2} Mb/s and {:.2} keyframes a second per camera, {} kB resident per camera",
        (cpu_ms() - cpu) / camera_seconds,
        (bytes_after - bytes) as f64 * 8e-6 / camera_seconds,
        (keyframes_after - keyframes) as f64 / camera_seconds,
        (resident_kb() - before_kb) / u64::from(count),
    );
    let mut delays = std::mem::take(&mut *delays.lock().unwrap());
    delays.sort_by(f64::total_cmp);
    if let (Some(median), Some(late)) = (delays.get(delays.len() / 2), delays.get(delays.len() * 99 / 100)) {
        println!(
            "{} fragments, {median:.1} ms after their last packet (median), {late:.1} ms (99 %)",
            delays.len()
        );
    }
}
