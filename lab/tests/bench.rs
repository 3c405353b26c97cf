//! `gridwatch-lab bench cameras` measures a daemon of its own on cameras of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use serde_json::Value;

#[test]
fn a_short_bench_reports_looks_cpu_and_memory() {
    // Finds `gridwatch`, which the bench starts, or builds it.
    support::gridwatch(&["--version"]).output().unwrap();
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/clips/street-a.mp4");
    let output = support::lab(&[
        "bench",
        "cameras",
        "--count",
        "2",
        "--seconds",
        "3",
        "--look-every",
        "2s",
    ])
    .args(["--comparator", "0", "--json", "--clip"])
    .arg(clip)
    .output()
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(report["cameras"], 2);
    for measured in [
        &report["looks"],
        &report["memory_mb_per_camera"],
        &report["cpu_ms_per_camera_s"]["all"],
        &report["wall"]["memory_mb_per_camera"],
        &report["wall"]["pictures"],
    ] {
        assert!(measured.as_f64().unwrap() > 0.0, "{report}");
    }
}
