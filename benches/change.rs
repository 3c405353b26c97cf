//! Cost of the change map's part of a look, with a copy of the frame as the machine's yardstick.
//! Run with `cargo bench --bench change`.

use divan::{Bencher, black_box};
use gridwatch_frame::{Frame, Layout, Matrix, Plane};
use gridwatch_vision::change::{ChangeBuffers, ChangeMap, ChangeSettings};
use jiff::{SignedDuration, Timestamp};

fn main() {
    divan::main();
}

/// Full HD with structure at every scale, and noise that differs from look to look.
fn frame(look: i64) -> Frame {
    const W: usize = 1920;
    const H: usize = 1080;
    let noise = |i: usize| (i.wrapping_mul(2_654_435_761).wrapping_add(look as usize * 40_503) >> 13) % 7;
    let at = |i: usize| 60 + (i % W / 24 * 37 + i / W / 18 * 53) % 120 + noise(i);
    let luma = (0..W * H).map(|i| at(i) as u8);
    let chroma = (0..W * H / 2).map(|i| (120 + i % 960 / 60) as u8);
    Frame {
        width: W as u32,
        height: H as u32,
        layout: Layout::I420,
        matrix: Matrix::Bt709,
        full_range: false,
        planes: [(0, W), (W * H, W / 2), (W * H * 5 / 4, W / 2)].map(|(offset, stride)| Plane { offset, stride }),
        data: luma.chain(chroma).collect::<Vec<_>>().into(),
        captured_at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(10 * look),
    }
}

#[divan::bench(args = [480, 720])]
fn look_at_full_hd(bencher: Bencher, width: u32) {
    let frames: Vec<Frame> = (0..4).map(frame).collect();
    let settings = ChangeSettings {
        width,
        ..ChangeSettings::default()
    };
    let (mut map, mut buffers) = (ChangeMap::new(settings), ChangeBuffers::default());
    let mut next = 0;
    let mut look = || {
        next += 1;
        map.look(black_box(&frames[next % 4]), &[], &mut buffers)
    };
    (0..40).for_each(|_| drop(look()));
    bencher.bench_local(look);
}

#[divan::bench]
fn copy_of_full_hd(bencher: Bencher) {
    let frame = frame(0);
    let mut copy = vec![0; frame.data.len()];
    bencher.bench_local(|| copy.copy_from_slice(black_box(&frame.data)));
}
