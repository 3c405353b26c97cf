//! Many model swaps in one process release the memory of the sessions; some runtimes leak it (onnxruntime#17451). This test
//! has its own process so that no other test's memory is measured.
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

/// Swaps before the first measurement, because allocators keep the peak of the first sessions.
const WARM_UP_SWAPS: u32 = 20;
const SWAPS: u32 = 80;
/// A session takes 15–18 MB: of the 60 measured, a leak of one in ten swaps would show as 90 MB, of one in thirty as 30 MB.
const MAX_GROWTH_MIB: f64 = 16.0;

fn resident_mib() -> f64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as f64 / f64::from(1 << 20)
}

#[test]
fn eighty_swaps_do_not_leak_memory() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime::init(None).unwrap_or_else(|e| panic!("{e}"));
    let models = ["1.0.1", "1.0.2"].map(|v| Model::load(&package(&dir.path().join(v), v)).unwrap());
    let street = Frame::from_rgb(&RgbImage::new(640, 360), Timestamp::UNIX_EPOCH).unwrap();
    let mut set = ModelSet::new(&runtime, [&models[0]]).unwrap();
    let swap = |models_in_use: &mut ModelSet, n: u32| {
        // Both versions run on one frame, then the old one is unloaded; the two slots alternate.
        let (old, new) = ((n % 2) as usize, (n % 2 + 1) as usize % 2);
        models_in_use.replace(new, Some(LoadedModel::new(&runtime, &models[new]).unwrap()));
        let mut input = models_in_use.input(&street);
        input.detect(old).unwrap();
        input.detect(new).unwrap();
        drop(models_in_use.replace(old, None).unwrap());
    };
    let mut measured = Vec::new();
    for n in 0..SWAPS {
        swap(&mut set, n);
        if n >= WARM_UP_SWAPS && n % 20 == 0 {
            measured.push(resident_mib());
        }
    }
    let (first, last) = (measured[0], resident_mib());
    println!("MiB resident, every 20 swaps: {measured:.1?}, last {last:.1}");
    assert!(
        last - first < MAX_GROWTH_MIB,
        "{first:.1} MiB grew to {last:.1}: {measured:.1?}"
    );
}
