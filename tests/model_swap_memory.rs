//! Two hundred swaps in one process, as a worker makes them: what the sessions held is given back (onnxruntime#17451 says that
//! some runtimes keep it). In a process of its own, so that nothing else's memory is measured.
#![cfg(feature = "ort")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

#[path = "support/packages.rs"]
mod packages;

use std::fs;

use gridwatch_frame::Frame;
use gridwatch_model::{LoadedModel, Model, ModelSet, runtime};
use image::RgbImage;
use jiff::Timestamp;
use packages::package;

/// Swaps before the first measurement: allocators keep what a few sessions at once needed.
const SETTLING: u32 = 40;
const SWAPS: u32 = 200;
/// A session is 15 to 18 MB: one that is kept in ten swaps would be 240 MB here, one in a hundred 24.
const MOST_GROWN_MIB: f64 = 16.0;

fn resident_mib() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as f64 / f64::from(1 << 20)
}

#[test]
fn two_hundred_swaps_leave_memory_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime::init(None).unwrap_or_else(|e| panic!("{e}"));
    let models = ["1.0.1", "1.0.2"].map(|v| Model::load(&package(&dir.path().join(v), v)).unwrap());
    let street = Frame::from_rgb(&RgbImage::new(640, 360), Timestamp::UNIX_EPOCH).unwrap();
    let mut panel = ModelSet::new(&runtime, [&models[0]]).unwrap();
    let swap = |panel: &mut ModelSet, n: u32| {
        // The new one beside the old for a look, then alone: two seats, turn by turn.
        let (old, new) = ((n % 2) as usize, (n % 2 + 1) as usize % 2);
        panel.seat(new, Some(LoadedModel::new(&runtime, &models[new]).unwrap()));
        let mut shown = panel.input(&street);
        shown.detect(old).unwrap();
        shown.detect(new).unwrap();
        drop(panel.seat(old, None).unwrap());
    };
    let mut measured = Vec::new();
    for n in 0..SWAPS {
        swap(&mut panel, n);
        if n >= SETTLING && n % 20 == 0 {
            measured.push(resident_mib());
        }
    }
    let (first, last) = (measured[0], resident_mib());
    println!("MiB resident, every 20 swaps: {measured:.1?}, last {last:.1}");
    assert!(
        last - first < MOST_GROWN_MIB,
        "{first:.1} MiB grew to {last:.1}: {measured:.1?}"
    );
}
