//! Cost of a look before inference: letterboxing a full HD frame, and the view health check.
//! Run with `cargo bench --bench letterbox`.

use divan::{Bencher, black_box};
use gridwatch_frame::{Frame, Layout, Matrix, Plane};
use gridwatch_model::{
    manifest::{Colour, Fit, Input, Shape},
    preprocess::Letterbox,
};
use gridwatch_vision::Health;
use jiff::Timestamp;

fn main() {
    divan::main();
}

fn frame(width: u32, height: u32, layout: Layout) -> Frame {
    let (w, h) = (width as usize, height as usize);
    let plane = |offset, stride| Plane { offset, stride };
    let planes = match layout {
        Layout::I420 => [plane(0, w), plane(w * h, w / 2), plane(w * h * 5 / 4, w / 2)],
        Layout::Nv12 => [plane(0, w), plane(w * h, w), plane(0, 0)],
    };
    Frame {
        width,
        height,
        layout,
        matrix: Matrix::Bt709,
        full_range: false,
        planes,
        data: (0..w * h * 3 / 2)
            .map(|i| (i * 7 + i / 1000) as u8)
            .collect::<Vec<_>>()
            .into(),
        captured_at: Timestamp::UNIX_EPOCH,
    }
}

fn letterbox() -> Letterbox {
    Letterbox::new(&Input {
        name: "images".into(),
        width: 416,
        height: 416,
        shape: Shape::Fixed,
        layout: None,
        scale: 1.0,
        colour: Colour::Bgr,
        mean: [0.0; 3],
        std: [1.0; 3],
        fit: Fit::TopLeft,
        pad: 114,
    })
}

#[divan::bench(args = [Layout::I420, Layout::Nv12])]
fn full_hd_to_416(bencher: Bencher, layout: Layout) {
    let frame = frame(1920, 1080, layout);
    let mut letterbox = letterbox();
    bencher.bench_local(|| letterbox.draw(black_box(&frame)));
}

/// A worker that alternates between cameras of different sizes: tables are cached, padding is rewritten.
#[divan::bench]
fn full_hd_and_vga_in_turn(bencher: Bencher) {
    let frames = [frame(1920, 1080, Layout::I420), frame(640, 480, Layout::I420)];
    let mut letterbox = letterbox();
    bencher.bench_local(|| frames.each_ref().map(|frame| letterbox.draw(black_box(frame))));
}

#[divan::bench]
fn view_of_full_hd(bencher: Bencher) {
    let frame = frame(1920, 1080, Layout::I420);
    let mut health = Health::new(Default::default());
    bencher.bench_local(|| health.judge(black_box(&frame)));
}

#[divan::bench(args = [Layout::I420, Layout::Nv12])]
fn full_hd_to_rgb(bencher: Bencher, layout: Layout) {
    let frame = frame(1920, 1080, layout);
    bencher.bench_local(|| black_box(&frame).to_rgb());
}
