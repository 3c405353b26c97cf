//! The letterbox against a simple reference that shares no code with it: every pixel is converted to RGB in double precision, then
//! area-averaged or interpolated.

use bytes::Bytes;
use gridwatch_frame::{Frame, Layout, Matrix, Plane};
use gridwatch_model::{
    manifest::{Colour, Fit, Input, Shape},
    preprocess::{Letterbox, Placement},
};
use jiff::Timestamp;
use proptest::prelude::*;

/// Maximum difference on a scale of 0..=255: the rounding error of single-precision sums of some hundred products.
const TOLERANCE: f64 = 0.02;

fn input(width: u32, height: u32, fit: Fit, colour: Colour) -> Input {
    Input {
        name: "images".into(),
        width,
        height,
        shape: Shape::Fixed,
        layout: None,
        scale: 1.0,
        colour,
        mean: [10.0, 20.0, 30.0],
        std: [2.0, 0.5, 1.0],
        fit,
        pad: 114,
    }
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    layout: Layout,
    matrix: Matrix,
    full_range: bool,
    /// Padding bytes per row.
    padding: usize,
}

/// A frame whose samples come from `sample(plane, x, y)`, where plane 1 is U and plane 2 is V in either layout. The padding is
/// filled with a value that would show in the result.
fn frame(width: u32, height: u32, kind: Kind, sample: impl Fn(usize, usize, usize) -> u8) -> Frame {
    let mut frame = Frame {
        width,
        height,
        layout: kind.layout,
        matrix: kind.matrix,
        full_range: kind.full_range,
        planes: [Plane { offset: 0, stride: 0 }; 3],
        data: Bytes::new(),
        captured_at: Timestamp::UNIX_EPOCH,
    };
    let mut data = vec![0xEE; 5];
    for p in 0..frame.plane_count() {
        let (row, rows) = frame.plane_size(p);
        frame.planes[p] = Plane {
            offset: data.len(),
            stride: row + kind.padding,
        };
        for y in 0..rows {
            data.extend((0..row).map(|x| match (p, kind.layout) {
                (1, Layout::Nv12) => sample(1 + x % 2, x / 2, y),
                _ => sample(p, x, y),
            }));
            data.extend(std::iter::repeat_n(0xEE, kind.padding));
        }
    }
    frame.data = data.into();
    frame
}

/// R'G'B' of one pixel, unclamped: BT.601-7 §2.5, BT.709-6 §3.
fn rgb(frame: &Frame, kind: Kind, x: usize, y: usize) -> [f64; 3] {
    let chroma = |uv: usize| match kind.layout {
        Layout::I420 => frame.row(1 + uv, y / 2)[x / 2],
        Layout::Nv12 => frame.row(1, y / 2)[x / 2 * 2 + uv],
    };
    let (kr, kb) = match kind.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let luma = f64::from(frame.y_row(y)[x]);
    let (luma, scale) = match kind.full_range {
        true => (luma / 255.0, 255.0),
        false => ((luma - 16.0) / 219.0, 224.0),
    };
    let cb = (f64::from(chroma(0)) - 128.0) / scale;
    let cr = (f64::from(chroma(1)) - 128.0) / scale;
    let r = luma + 2.0 * (1.0 - kr) * cr;
    let b = luma + 2.0 * (1.0 - kb) * cb;
    let g = (luma - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|v| v * 255.0)
}

/// Weights of the `from` source samples for one of `to` target samples.
fn weights(from: usize, to: usize, target: usize) -> Vec<(usize, f64)> {
    let scale = from as f64 / to as f64;
    if scale > 1.0 {
        let (start, end) = (target as f64 * scale, (target as f64 + 1.0) * scale);
        let part = |i: usize| ((i as f64 + 1.0).min(end) - (i as f64).max(start)).max(0.0) / scale;
        (0..from).map(|i| (i, part(i))).filter(|(_, w)| *w > 0.0).collect()
    } else {
        let at = ((target as f64 + 0.5) * scale - 0.5).max(0.0);
        let low = (at.floor() as usize).min(from - 1);
        vec![(low, 1.0 - at.fract()), ((low + 1).min(from - 1), at.fract())]
    }
}

/// The whole tensor, computed pixel by pixel.
fn reference(frame: &Frame, kind: Kind, input: &Input, placement: Placement) -> Vec<f64> {
    let (w, h) = (input.width as usize, input.height as usize);
    let axis = |from: u32, to: u32| -> Vec<_> {
        (0..to as usize)
            .map(|t| weights(from as usize, to as usize, t))
            .collect()
    };
    let (across, down) = (axis(frame.width, placement.width), axis(frame.height, placement.height));
    let mut tensor = vec![0.0; 3 * w * h];
    for y in 0..h {
        for x in 0..w {
            let (px, py) = (
                x.wrapping_sub(placement.x as usize),
                y.wrapping_sub(placement.y as usize),
            );
            let inside = px < placement.width as usize && py < placement.height as usize;
            let pixel = if inside {
                let mut sum = [0.0; 3];
                for &(sy, wy) in &down[py] {
                    for &(sx, wx) in &across[px] {
                        for (sum, v) in sum.iter_mut().zip(rgb(frame, kind, sx, sy)) {
                            *sum += wy * wx * v;
                        }
                    }
                }
                sum.map(|v| v.clamp(0.0, 255.0))
            } else {
                [114.0; 3]
            };
            for channel in 0..3 {
                let colour = if input.colour == Colour::Bgr {
                    2 - channel
                } else {
                    channel
                };
                tensor[(channel * h + y) * w + x] =
                    (pixel[colour] - f64::from(input.mean[channel])) / f64::from(input.std[channel]);
            }
        }
    }
    tensor
}

/// The largest difference, on a scale of 0..=255.
fn max_difference(input: &Input, ours: &[f32], reference: &[f64]) -> f64 {
    let plane = (input.width * input.height) as usize;
    let differences = ours.iter().zip(reference).enumerate();
    differences
        .map(|(i, (a, b))| (f64::from(*a) - b).abs() * f64::from(input.std[i / plane]))
        .fold(0.0, f64::max)
}

fn kinds() -> impl Strategy<Value = Kind> {
    (any::<bool>(), any::<bool>(), any::<bool>(), 0_usize..40).prop_map(|(nv12, hd, full_range, padding)| Kind {
        layout: if nv12 { Layout::Nv12 } else { Layout::I420 },
        matrix: if hd { Matrix::Bt709 } else { Matrix::Bt601 },
        full_range,
        padding,
    })
}

fn inputs() -> impl Strategy<Value = Input> {
    let side = prop_oneof![Just(32_u32), Just(64)];
    let fit = prop_oneof![Just(Fit::TopLeft), Just(Fit::Centre), Just(Fit::Stretch)];
    (side.clone(), side, fit, any::<bool>())
        .prop_map(|(w, h, fit, rgb)| input(w, h, fit, if rgb { Colour::Rgb } else { Colour::Bgr }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any size (odd, portrait, smaller than the input, one sample short of it), any stride, both layouts, matrices, ranges and
    /// channel orders, all three fits. The samples are noise, the hardest case for a resampler.
    #[test]
    fn any_frame_matches_the_reference(
        width in 2_u32..200, height in 2_u32..200, kind in kinds(), input in inputs(), seed in any::<u64>(),
    ) {
        let noise = |plane: usize, x: usize, y: usize| {
            let mixed = (seed ^ ((plane as u64) << 40 | (y as u64) << 20 | x as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            ((mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 56) as u8
        };
        let frame = frame(width, height, kind, noise);
        let mut letterbox = Letterbox::new(&input);
        let placement = letterbox.draw(&frame).unwrap();
        let difference = max_difference(&input, letterbox.tensor(), &reference(&frame, kind, &input, placement));
        prop_assert!(difference < TOLERANCE, "{difference}");
    }

    /// Boxes in the input map back to the same fractions of the picture for any placement.
    #[test]
    fn boxes_map_back_to_the_picture(width in 2_u32..5000, height in 2_u32..5000, input in inputs()) {
        let p = Placement::of(&input, width, height);
        prop_assert!(p.x + p.width <= input.width && p.y + p.height <= input.height);
        let at = |fx: f32, fy: f32| (p.x as f32 + fx * p.width as f32, p.y as f32 + fy * p.height as f32);
        let ((x1, y1), (x2, y2)) = (at(0.25, 0.5), at(0.75, 1.0));
        let back = p.fractions([x1, y1, x2, y2]);
        for (have, want) in back.iter().zip([0.25, 0.5, 0.75, 1.0]) {
            prop_assert!((have - want).abs() < 1e-4, "{back:?}");
        }
        prop_assert_eq!(p.fractions([-1e4, -1e4, 1e4, 1e4]), [0.0, 0.0, 1.0, 1.0]);
    }
}

/// Real frame and input sizes, once for each layout.
#[test]
fn full_hd_matches_the_reference() {
    let input = input(416, 416, Fit::TopLeft, Colour::Bgr);
    for (layout, padding, (width, height)) in [(Layout::I420, 0, (1920, 1080)), (Layout::Nv12, 64, (1080, 1920))] {
        let kind = Kind {
            layout,
            matrix: Matrix::Bt709,
            full_range: false,
            padding,
        };
        // Contains edges at every scale.
        let picture = |plane: usize, x: usize, y: usize| match plane {
            0 => 16 + ((x ^ y) % 220) as u8,
            1 => 100 + (x * y % 57) as u8,
            _ => 90 + ((x + 3 * y) % 70) as u8,
        };
        let frame = frame(width, height, kind, picture);
        let mut letterbox = Letterbox::new(&input);
        let placement = letterbox.draw(&frame).unwrap();
        let (w, h) = if width > height { (416, 234) } else { (234, 416) };
        assert_eq!(
            placement,
            Placement {
                x: 0,
                y: 0,
                width: w,
                height: h,
                canvas: (416, 416),
            }
        );
        let difference = max_difference(&input, letterbox.tensor(), &reference(&frame, kind, &input, placement));
        assert!(difference < TOLERANCE, "{layout:?}: {difference}");
    }
}

/// `shape = "picture"` takes the aspect ratio of the picture at about the configured pixel count, and draws like a fixed input of
/// that size.
#[test]
fn a_picture_shaped_input_keeps_the_aspect_ratio_and_pixel_count() {
    let square = input(416, 416, Fit::TopLeft, Colour::Bgr);
    let free = Input {
        shape: Shape::Picture,
        ..square.clone()
    };
    let canvas = |width, height| Placement::of(&free, width, height).canvas;
    assert_eq!(canvas(1920, 1080), (544, 320));
    assert_eq!(canvas(1280, 720), (544, 320));
    assert_eq!(canvas(640, 480), (480, 352));
    assert_eq!(canvas(1080, 1920), (320, 544));
    assert_eq!(canvas(500, 500), (416, 416));
    let kind = Kind {
        layout: Layout::I420,
        matrix: Matrix::Bt601,
        full_range: true,
        padding: 0,
    };
    let frame = frame(320, 180, kind, |p, x, y| (p * 50 + x * 3 + y * 7) as u8);
    let (mut letterbox, (width, height)) = (Letterbox::new(&free), canvas(320, 180));
    letterbox.draw(&frame).unwrap();
    let mut fixed = Letterbox::new(&input(width, height, Fit::TopLeft, Colour::Bgr));
    fixed.draw(&frame).unwrap();
    assert!(letterbox.tensor() == fixed.tensor());
}

proptest! {
    #[test]
    fn a_picture_shaped_input_never_exceeds_the_pixel_count(width in 16_u32..8000, height in 16_u32..8000) {
        let fixed = input(416, 416, Fit::Centre, Colour::Rgb);
        let free = Input { shape: Shape::Picture, ..fixed.clone() };
        let (p, q) = (Placement::of(&free, width, height), Placement::of(&fixed, width, height));
        let (w, h) = p.canvas;
        prop_assert!(w % 32 == 0 && h % 32 == 0 && f64::from(w * h) <= 416.0 * 416.0 * 1.01, "{w}x{h}");
        prop_assert!(p.x + p.width <= w && p.y + p.height <= h);
        // Drawn at least as large as in the square, up to rounding.
        prop_assert!(p.width + 1 >= q.width && p.height + 1 >= q.height, "{p:?} {q:?}");
    }
}

/// One letterbox serves cameras of many sizes in turn, more than it caches tables for.
#[test]
fn previous_frames_do_not_affect_the_result() {
    let input = input(64, 64, Fit::Centre, Colour::Rgb);
    let kind = Kind {
        layout: Layout::I420,
        matrix: Matrix::Bt601,
        full_range: true,
        padding: 3,
    };
    let sizes = [(90, 40), (40, 90), (64, 64), (31, 17), (200, 10), (10, 200), (90, 40)];
    let mut used = Letterbox::new(&input);
    for (width, height) in sizes.into_iter().chain(sizes) {
        let frame = frame(width, height, kind, |p, x, y| (p * 50 + x * 3 + y * 7) as u8);
        let mut fresh = Letterbox::new(&input);
        assert_eq!(used.draw(&frame).unwrap(), fresh.draw(&frame).unwrap());
        assert!(used.tensor() == fresh.tensor(), "{width}×{height}");
    }
}

/// Planes that exceed the data are an error, not a panic.
#[test]
fn a_frame_that_does_not_fit_its_data_is_refused() {
    let kind = Kind {
        layout: Layout::Nv12,
        matrix: Matrix::Bt601,
        full_range: true,
        padding: 0,
    };
    let mut broken = frame(64, 64, kind, |_, _, _| 0);
    broken.data = broken.data.slice(..broken.data.len() - 1);
    assert!(
        Letterbox::new(&input(32, 32, Fit::TopLeft, Colour::Bgr))
            .draw(&broken)
            .is_err()
    );
}
