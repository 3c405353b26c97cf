//! Letterboxing: resamples the YUV planes of a decoded frame directly into the network's input tensor, in one pass.
//!
//! Downscaling averages over each target pixel's area, upscaling interpolates linearly. Both are separable weighted sums: each
//! plane is reduced over rows, then over columns, and only the result, a few hundred pixels wide, is converted to RGB. Because
//! Y'CbCr to R'G'B' is linear, this equals resampling the converted picture, except that colours outside the RGB cube (which
//! codecs do produce) are clamped after averaging instead of before. A chroma sample covers 2×2 pixels; its weight is the sum of
//! their weights.
//!
//! No buffer of the size of the frame is allocated or copied.

use super::manifest::{Colour, Fit, Input, Shape};
use gridwatch_frame::{Coefficients, Frame, FrameError, Layout};

/// Placement of the picture in the network's input tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Left edge, in pixels of the input.
    pub x: u32,
    /// Top edge, in pixels of the input.
    pub y: u32,
    /// Width of the drawn picture, in pixels of the input.
    pub width: u32,
    /// Height of the drawn picture, in pixels of the input.
    pub height: u32,
    /// Width and height of the input.
    pub canvas: (u32, u32),
}

impl Placement {
    /// Placement of a picture of `width` × `height`. Its drawn sides are rounded to whole pixels, so the two scales may differ by
    /// half a pixel; boxes are mapped back with the actual scales.
    pub fn of(input: &Input, width: u32, height: u32) -> Self {
        let canvas = canvas(input, width, height);
        let across = f64::from(canvas.0) / f64::from(width);
        let down = f64::from(canvas.1) / f64::from(height);
        let scale = across.min(down);
        let side = |n: u32, limit: u32| ((f64::from(n) * scale).round() as u32).clamp(1, limit);
        let (w, h) = match input.fit {
            Fit::Stretch => canvas,
            Fit::TopLeft | Fit::Centre => (side(width, canvas.0), side(height, canvas.1)),
        };
        let (x, y) = match input.fit {
            Fit::Centre => ((canvas.0 - w) / 2, (canvas.1 - h) / 2),
            Fit::TopLeft | Fit::Stretch => (0, 0),
        };
        Self {
            x,
            y,
            width: w,
            height: h,
            canvas,
        }
    }

    /// Converts corners from pixels of the input to fractions of the picture, clamped to its edges.
    pub fn fractions(self, [x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
        let x = |v: f32| ((v - self.x as f32) / self.width as f32).clamp(0.0, 1.0);
        let y = |v: f32| ((v - self.y as f32) / self.height as f32).clamp(0.0, 1.0);
        [x(x1), y(y1), x(x2), y(y2)]
    }
}

/// Sides of an input with [`Shape::Picture`] are multiples of this, the largest stride of networks with dynamic shapes.
const STEP: u32 = 32;

/// Width and height of the input for a picture. With [`Shape::Picture`]: the size in which the picture is drawn largest without
/// exceeding the manifest's pixel count by more than 1 %.
fn canvas(input: &Input, width: u32, height: u32) -> (u32, u32) {
    let fixed = (input.width, input.height);
    if input.shape == Shape::Fixed {
        return fixed;
    }
    let budget = f64::from(input.width) * f64::from(input.height) * 1.01;
    let aspect = f64::from(width) / f64::from(height.max(1));
    let up = |side: f64| ((side / f64::from(STEP)).ceil() as u32 * STEP).max(STEP);
    let down = |side: f64| ((side / f64::from(STEP)).floor() as u32 * STEP).max(STEP);
    let mut best = (0.0, fixed);
    for across in (STEP..=4096).step_by(STEP as usize) {
        let ideal = f64::from(across) / aspect;
        // The third candidate serves portrait pictures: the greatest height within the pixel count.
        for high in [down(ideal), up(ideal), down(budget / f64::from(across))] {
            let scale = (f64::from(across) / f64::from(width)).min(f64::from(high) / f64::from(height));
            let area = f64::from(across) * f64::from(high);
            if area <= budget && scale > best.0 {
                best = (scale, (across, high));
            }
        }
    }
    best.1
}

/// Resampling weights along one axis.
struct Taps {
    /// Index of the first source sample of each target.
    first: Vec<usize>,
    /// `per` weights per target; they sum to 1.
    weights: Vec<f32>,
    /// Number of weights per target; targets that use fewer samples are padded with zeros.
    per: usize,
}

impl Taps {
    /// Weights for resampling `from` samples to `to`.
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        Self::build(from, to, |target| {
            if scale > 1.0 {
                // The range of samples that the target pixel covers; the outer two are weighted by the part covered.
                let (start, end) = (target as f64 * scale, (target + 1) as f64 * scale);
                let last = (end.ceil() as usize).min(from);
                let covered = move |i: usize| (end.min((i + 1) as f64) - start.max(i as f64)).max(0.0) / scale;
                (start as usize..last).map(|i| (i, covered(i))).collect()
            } else {
                // Pixel centres lie at half coordinates; beyond the outermost centres the edge sample is repeated.
                let at = ((target as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
                let (low, part) = (at as usize, at.fract());
                vec![(low, 1.0 - part), ((low + 1).min(from - 1), part)]
            }
        })
    }

    /// The same resampling for chroma, where one sample covers two pixels.
    fn halved(from: usize, to: usize) -> Self {
        let full = Self::new(from, to);
        Self::build(from.div_ceil(2), to, |target| {
            let weights = &full.weights[target * full.per..][..full.per];
            weights
                .iter()
                .enumerate()
                .map(|(k, w)| ((full.first[target] + k) / 2, f64::from(*w)))
                .collect()
        })
    }

    fn build(from: usize, to: usize, weights_of: impl Fn(usize) -> Vec<(usize, f64)>) -> Self {
        let all: Vec<Vec<(usize, f64)>> = (0..to)
            .map(|target| {
                let mut weights = weights_of(target);
                weights.retain(|(_, w)| *w > 0.0);
                weights
            })
            .collect();
        let span = |weights: &[(usize, f64)]| match weights {
            [] => 0,
            [(low, _), ..] => weights[weights.len() - 1].0 - low + 1,
        };
        let per = all.iter().map(|w| span(w)).max().unwrap_or(0);
        let mut taps = Self {
            first: Vec::with_capacity(to),
            weights: vec![0.0; to * per],
            per,
        };
        for (target, weights) in all.iter().enumerate() {
            // Near the end the window moves back so that it does not exceed the last sample.
            let first = weights.first().map_or(0, |(i, _)| *i).min(from - per);
            taps.first.push(first);
            for (i, w) in weights {
                taps.weights[target * per + i - first] += *w as f32;
            }
        }
        taps
    }

    /// The source samples of one target with their non-zero weights.
    fn of(&self, target: usize) -> impl Iterator<Item = (usize, f32)> {
        let weights = &self.weights[target * self.per..][..self.per];
        let first = self.first[target];
        weights
            .iter()
            .enumerate()
            .filter(|(_, w)| **w != 0.0)
            .map(move |(k, w)| (first + k, *w))
    }

    /// Resamples a row in which every `STEP`th sample from `offset` on belongs to the channel.
    fn reduce<const STEP: usize>(&self, row: &[f32], offset: usize, out: &mut [f32]) {
        // Full HD to 416 pixels takes 6 luma and 4 chroma samples. The compiler unrolls the constant sizes.
        match self.per {
            2 => self.reduce_known::<STEP, 2>(row, offset, out),
            3 => self.reduce_known::<STEP, 3>(row, offset, out),
            4 => self.reduce_known::<STEP, 4>(row, offset, out),
            5 => self.reduce_known::<STEP, 5>(row, offset, out),
            6 => self.reduce_known::<STEP, 6>(row, offset, out),
            _ => {
                let targets = self.first.iter().zip(self.weights.chunks_exact(self.per));
                for (out, (&first, weights)) in out.iter_mut().zip(targets) {
                    let samples = row[first * STEP + offset..].iter().step_by(STEP);
                    *out = weights.iter().zip(samples).map(|(w, s)| w * s).sum();
                }
            }
        }
    }

    fn reduce_known<const STEP: usize, const PER: usize>(&self, row: &[f32], offset: usize, out: &mut [f32]) {
        let (weights, _) = self.weights.as_chunks::<PER>();
        for (out, (&first, weights)) in out.iter_mut().zip(self.first.iter().zip(weights)) {
            let samples = &row[first * STEP + offset..][..(PER - 1) * STEP + 1];
            let mut sum = 0.0;
            for k in 0..PER {
                sum += weights[k] * samples[k * STEP];
            }
            *out = sum;
        }
    }
}

/// Tables that depend only on the size of the picture.
struct Geometry {
    size: (u32, u32),
    placement: Placement,
    luma: (Taps, Taps),
    chroma: (Taps, Taps),
}

impl Geometry {
    fn new(input: &Input, (width, height): (u32, u32)) -> Self {
        let placement = Placement::of(input, width, height);
        let (w, h) = (width as usize, height as usize);
        let (to_w, to_h) = (placement.width as usize, placement.height as usize);
        Self {
            size: (width, height),
            placement,
            luma: (Taps::new(w, to_w), Taps::new(h, to_h)),
            chroma: (Taps::halved(w, to_w), Taps::halved(h, to_h)),
        }
    }
}

/// Number of cached tables, about 30 KB each: a worker alternates between cameras of different sizes.
const GEOMETRIES: usize = 4;

/// Fills the input tensor of a network. Owned by one worker; reuses its tensor and scratch rows.
pub struct Letterbox {
    input: Input,
    /// Most recently used last.
    geometries: Vec<Geometry>,
    /// Placement that the padding was written for.
    padded_for: Option<Placement>,
    tensor: Vec<f32>,
    /// Weighted sum of the source rows of one target row.
    sum: Vec<f32>,
    /// Y, U and V of one target row.
    yuv: [Vec<f32>; 3],
}

impl Letterbox {
    /// Creates a letterbox for this input specification.
    pub fn new(input: &Input) -> Self {
        Self {
            input: input.clone(),
            geometries: Vec::new(),
            padded_for: None,
            tensor: Vec::new(),
            sum: Vec::new(),
            yuv: Default::default(),
        }
    }

    /// Draws a frame into the tensor `[1, 3, height, width]` of the size [`Placement::canvas`] and returns its placement.
    ///
    /// # Errors
    /// If the frame's planes do not fit its data.
    pub fn draw(&mut self, frame: &Frame) -> Result<Placement, FrameError> {
        frame.validate()?;
        let size = (frame.width, frame.height);
        let known = self.geometries.iter().position(|g| g.size == size);
        let geometry = match known {
            Some(i) => self.geometries.remove(i),
            None => Geometry::new(&self.input, size),
        };
        if self.padded_for != Some(geometry.placement) {
            self.pad(geometry.placement.canvas);
            self.padded_for = Some(geometry.placement);
        }
        self.fill(frame, &geometry);
        let placement = geometry.placement;
        if self.geometries.len() == GEOMETRIES {
            self.geometries.remove(0);
        }
        self.geometries.push(geometry);
        Ok(placement)
    }

    /// The input tensor `[1, 3, height, width]`, row-major, as drawn last.
    pub fn tensor(&self) -> &[f32] {
        &self.tensor
    }

    fn pad(&mut self, (width, height): (u32, u32)) {
        let plane = width as usize * height as usize;
        self.tensor.resize(3 * plane, 0.0);
        let normal = normal(&self.input);
        for (channel, (gain, shift)) in self.tensor.chunks_exact_mut(plane).zip(normal) {
            channel.fill(f32::from(self.input.pad) * gain + shift);
        }
    }

    fn fill(&mut self, frame: &Frame, geometry: &Geometry) {
        let Placement {
            x,
            y,
            width,
            height,
            canvas,
        } = geometry.placement;
        let pitch = canvas.0 as usize;
        let plane = pitch * canvas.1 as usize;
        let colours = ColourConversion::new(frame.coefficients(), &self.input);
        for channel in &mut self.yuv {
            channel.resize(width as usize, 0.0);
        }
        let [luma, u, v] = &mut self.yuv;
        for target in 0..height as usize {
            sum_rows(frame, 0, geometry.luma.1.of(target), &mut self.sum);
            geometry.luma.0.reduce::<1>(&self.sum, 0, luma);
            match frame.layout {
                Layout::I420 => {
                    sum_rows(frame, 1, geometry.chroma.1.of(target), &mut self.sum);
                    geometry.chroma.0.reduce::<1>(&self.sum, 0, u);
                    sum_rows(frame, 2, geometry.chroma.1.of(target), &mut self.sum);
                    geometry.chroma.0.reduce::<1>(&self.sum, 0, v);
                }
                Layout::Nv12 => {
                    sum_rows(frame, 1, geometry.chroma.1.of(target), &mut self.sum);
                    geometry.chroma.0.reduce::<2>(&self.sum, 0, u);
                    geometry.chroma.0.reduce::<2>(&self.sum, 1, v);
                }
            }
            let start = (y as usize + target) * pitch + x as usize;
            let (first, rest) = self.tensor.split_at_mut(plane);
            let (second, third) = rest.split_at_mut(plane);
            let row = start..start + width as usize;
            colours.convert(
                [luma, u, v],
                [&mut first[row.clone()], &mut second[row.clone()], &mut third[row]],
            );
        }
    }
}

/// Weighted sum of rows of a plane, three rows per pass to save loads and stores of the sum.
fn sum_rows(frame: &Frame, plane: usize, mut rows: impl Iterator<Item = (usize, f32)>, sum: &mut Vec<f32>) {
    sum.resize(frame.plane_size(plane).0, 0.0);
    let mut next = || rows.next().map(|(y, weight)| (frame.row(plane, y), weight));
    let mut first = true;
    while let Some((a, wa)) = next() {
        // Missing rows have weight 0.
        let (b, wb) = next().unwrap_or((a, 0.0));
        let (c, wc) = next().unwrap_or((a, 0.0));
        let rows = a.iter().zip(b).zip(c);
        let weighted = rows.map(|((&a, &b), &c)| wa * f32::from(a) + wb * f32::from(b) + wc * f32::from(c));
        if first {
            sum.iter_mut().zip(weighted).for_each(|(sum, v)| *sum = v);
        } else {
            sum.iter_mut().zip(weighted).for_each(|(sum, v)| *sum += v);
        }
        first = false;
    }
}

/// `(sample / scale - mean) / std` per channel, as `sample · gain + shift`.
fn normal(input: &Input) -> [(f32, f32); 3] {
    [0, 1, 2].map(|c| (1.0 / (input.scale * input.std[c]), -input.mean[c] / input.std[c]))
}

/// Colour conversion of the frame combined with the input's normalisation.
struct ColourConversion {
    k: Coefficients,
    /// (gain, shift) per channel of the tensor.
    normal: [(f32, f32); 3],
    blue_first: bool,
}

impl ColourConversion {
    fn new(k: Coefficients, input: &Input) -> Self {
        Self {
            k,
            normal: normal(input),
            blue_first: input.colour == Colour::Bgr,
        }
    }

    fn convert(&self, [luma, u, v]: [&[f32]; 3], [first, second, third]: [&mut [f32]; 3]) {
        let k = self.k;
        let [n0, n1, n2] = self.normal;
        let channel = |value: f32, (gain, shift): (f32, f32)| value.clamp(0.0, 255.0) * gain + shift;
        let (red, green, blue, n_red, n_blue) = match self.blue_first {
            true => (third, second, first, n2, n0),
            false => (first, second, third, n0, n2),
        };
        let samples = luma.iter().zip(u).zip(v);
        let out = red.iter_mut().zip(green).zip(blue);
        for (((red, green), blue), ((&luma, &u), &v)) in out.zip(samples) {
            let (y, u, v) = ((luma - k.y_offset) * k.y_scale, u - 128.0, v - 128.0);
            *red = channel(y + k.rv * v, n_red);
            *green = channel(y + k.gu * u + k.gv * v, n1);
            *blue = channel(y + k.bu * u, n_blue);
        }
    }
}
