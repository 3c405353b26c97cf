//! A decoded picture's YUV planes straight into the network's input tensor, in one pass over the samples.
//!
//! Shrinking averages over each target pixel's area, enlarging interpolates between the two nearest samples; both are
//! weighted sums along one axis, so each plane is reduced first over rows, then over columns, and only what remains, a
//! few hundred pixels across, is turned into colour. Y'CbCr to R'G'B' is linear, so reducing before converting gives
//! what reducing the converted picture would, save that colours outside the RGB cube (which the codec may make) are cut
//! off after averaging and not before. A chroma sample stands for its 2×2 pixels: its weight is the sum of theirs.
//!
//! Nothing the size of the picture is allocated or copied.

use super::manifest::{Colour, Fit, Input, Shape};
use gridwatch_frame::{Coefficients, Frame, FrameError, Layout};

/// Where the picture lies in the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Its left edge, pixels of the input.
    pub x: u32,
    /// Its top edge.
    pub y: u32,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Width and height of the input itself.
    pub canvas: (u32, u32),
}

impl Placement {
    /// Where a picture of `width` × `height` goes. Its sides are rounded to whole pixels, so the two scales may differ by
    /// half a pixel; boxes are taken back with the true ones.
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

    /// Corners in pixels of the input to fractions of the picture, cut off at its edges.
    pub fn fractions(self, [x1, y1, x2, y2]: [f32; 4]) -> [f32; 4] {
        let x = |v: f32| ((v - self.x as f32) / self.width as f32).clamp(0.0, 1.0);
        let y = |v: f32| ((v - self.y as f32) / self.height as f32).clamp(0.0, 1.0);
        [x(x1), y(y1), x(x2), y(y2)]
    }
}

/// Sides of an input with [`Shape::Picture`] are multiples of this, the coarsest stride of the networks that take any shape.
const STEP: u32 = 32;

/// Width and height of the input for a picture: with [`Shape::Picture`] those in which it is drawn largest, among all that
/// have no more pixels than the manifest says, or a hundredth more.
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
        // The last is for pictures whose own shape would be too high: as high as may be.
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

/// Weights that take samples along one axis to fewer or more of them.
struct Taps {
    /// First sample of each target.
    first: Vec<usize>,
    /// `per` weights for each target; they sum to 1.
    weights: Vec<f32>,
    /// The most samples that one target needs. Targets that need fewer have zeros.
    per: usize,
}

impl Taps {
    /// `from` samples to `to` of them.
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        Self::build(from, to, |target| {
            if scale > 1.0 {
                // The stretch of samples that the target pixel covers; the outer two count by the part covered.
                let (start, end) = (target as f64 * scale, (target + 1) as f64 * scale);
                let last = (end.ceil() as usize).min(from);
                let covered = move |i: usize| (end.min((i + 1) as f64) - start.max(i as f64)).max(0.0) / scale;
                (start as usize..last).map(|i| (i, covered(i))).collect()
            } else {
                // Centres lie at half pixels; outside the outermost two the edge sample goes on.
                let at = ((target as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
                let (low, part) = (at as usize, at.fract());
                vec![(low, 1.0 - part), ((low + 1).min(from - 1), part)]
            }
        })
    }

    /// The same reduction for chroma, of which one sample covers two.
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
            // Near the end the window moves back, so that it never reaches beyond the last sample.
            let first = weights.first().map_or(0, |(i, _)| *i).min(from - per);
            taps.first.push(first);
            for (i, w) in weights {
                taps.weights[target * per + i - first] += *w as f32;
            }
        }
        taps
    }

    /// The samples of one target with their weights, those without weight left out.
    fn of(&self, target: usize) -> impl Iterator<Item = (usize, f32)> {
        let weights = &self.weights[target * self.per..][..self.per];
        let first = self.first[target];
        weights
            .iter()
            .enumerate()
            .filter(|(_, w)| **w != 0.0)
            .map(move |(k, w)| (first + k, *w))
    }

    /// Reduces a row of which every `STEP`th sample from `offset` on belongs to the channel.
    fn reduce<const STEP: usize>(&self, row: &[f32], offset: usize, out: &mut [f32]) {
        // Full HD to 416 needs 6 samples for luma and 4 for chroma. Numbers that the compiler
        // knows are unrolled.
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

/// Everything that depends on the picture's size alone.
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

/// A worker looks at cameras of several sizes in turn; the tables of the newest few are kept (about 30 KB each).
const GEOMETRIES: usize = 4;

/// Fills one network's input. Owned by one worker: tensor and scratch rows are used again and again.
pub struct Letterbox {
    input: Input,
    /// The newest last.
    geometries: Vec<Geometry>,
    /// What the tensor's padding was written for.
    placed: Option<Placement>,
    tensor: Vec<f32>,
    /// A row of a plane summed over a target row's height.
    sum: Vec<f32>,
    /// Y, U and V of one target row.
    yuv: [Vec<f32>; 3],
}

impl Letterbox {
    /// Makes one for this input.
    pub fn new(input: &Input) -> Self {
        Self {
            input: input.clone(),
            geometries: Vec::new(),
            placed: None,
            tensor: Vec::new(),
            sum: Vec::new(),
            yuv: Default::default(),
        }
    }

    /// Draws the picture into the tensor `[1, 3, height, width]`, sides as [`Placement::canvas`], and says where in it the
    /// picture lies.
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
        if self.placed != Some(geometry.placement) {
            self.pad(geometry.placement.canvas);
            self.placed = Some(geometry.placement);
        }
        self.fill(frame, &geometry);
        let placement = geometry.placement;
        if self.geometries.len() == GEOMETRIES {
            self.geometries.remove(0);
        }
        self.geometries.push(geometry);
        Ok(placement)
    }

    /// The input tensor `[1, 3, height, width]`, row-major, as last drawn.
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
        let colours = Colours::new(frame.coefficients(), &self.input);
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

/// Sums rows of a plane by their weights, three in one pass: the sum is then seldom loaded and stored again.
fn sum_rows(frame: &Frame, plane: usize, mut rows: impl Iterator<Item = (usize, f32)>, sum: &mut Vec<f32>) {
    sum.resize(frame.plane_size(plane).0, 0.0);
    let mut next = || rows.next().map(|(y, weight)| (frame.row(plane, y), weight));
    let mut first = true;
    while let Some((a, wa)) = next() {
        // A row that is not there weighs nothing.
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

/// `(sample / scale - mean) / std` of each channel as `sample · gain + shift`.
fn normal(input: &Input) -> [(f32, f32); 3] {
    [0, 1, 2].map(|c| (1.0 / (input.scale * input.std[c]), -input.mean[c] / input.std[c]))
}

/// The frame's coefficients and the input's normalisation.
struct Colours {
    k: Coefficients,
    /// `value · gain + shift` for each channel of the tensor.
    normal: [(f32, f32); 3],
    blue_first: bool,
}

impl Colours {
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
