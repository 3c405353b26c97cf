//! Pictures in floating point, and what is done to them: inserting, lighting, blurring, sensor noise, compression.

use std::{io::Cursor, path::Path};

use image::{DynamicImage, ImageReader, RgbImage, RgbaImage, codecs::jpeg::JpegEncoder, imageops::FilterType};

/// Size of the composed pictures: half of full HD each way.
pub(super) const WIDTH: usize = 960;
pub(super) const HEIGHT: usize = 540;

/// A picture of [`WIDTH`] × [`HEIGHT`] pixels, red, green and blue from 0 to 255.
#[derive(Clone)]
pub(super) struct Canvas(pub(super) Vec<[f32; 3]>);

/// A plane of weights of the same size.
pub(super) type Plane = Vec<f32>;

/// A cut-out with transparency.
#[derive(Clone, Default)]
pub(super) struct Cutout(pub(super) RgbaImage);

/// A box in pixels: left, top, right, bottom.
pub(super) type PixelBox = [f32; 4];

impl Canvas {
    /// Scales a picture to cover the canvas, and crops the rest equally.
    pub(super) fn covering(picture: &DynamicImage) -> Self {
        let filled = picture.resize_to_fill(WIDTH as u32, HEIGHT as u32, FilterType::CatmullRom);
        Self(filled.to_rgb8().pixels().map(|p| p.0.map(f32::from)).collect())
    }

    pub(super) fn mean(&self) -> f32 {
        self.0.iter().flatten().sum::<f32>() / (self.0.len() * 3) as f32
    }

    /// Changes each pixel, given its position.
    pub(super) fn change(&mut self, mut change: impl FnMut(usize, &mut [f32; 3])) {
        self.0.iter_mut().enumerate().for_each(|(i, p)| change(i, p));
    }

    /// Inserts a cut-out scaled to `height` pixels with its top left corner at `x`, `y`; returns its box.
    pub(super) fn insert(&mut self, cutout: &Cutout, x: f32, y: f32, height: f32) -> PixelBox {
        let (w, h) = cutout.0.dimensions();
        let height = (height.round() as u32).max(3);
        let width = ((w * height) as f32 / h as f32).round().max(3.0) as u32;
        let scaled = image::imageops::resize(&cutout.0, width, height, FilterType::Triangle);
        let (x, y) = (x.round() as i64, y.round() as i64);
        for (dx, dy, pixel) in scaled.enumerate_pixels() {
            let (px, py) = (x + i64::from(dx), y + i64::from(dy));
            if (0..WIDTH as i64).contains(&px) && (0..HEIGHT as i64).contains(&py) {
                let alpha = f32::from(pixel.0[3]) / 255.0;
                let under = &mut self.0[py as usize * WIDTH + px as usize];
                for (under, over) in under.iter_mut().zip(&pixel.0) {
                    *under += alpha * (f32::from(*over) - *under);
                }
            }
        }
        [
            x as f32,
            y as f32,
            (x + i64::from(width)) as f32,
            (y + i64::from(height)) as f32,
        ]
    }

    /// Darkens the ground below a thing in a box.
    pub(super) fn ground_shadow(&mut self, [x1, y1, x2, y2]: PixelBox) {
        let (cx, cy) = ((x1 + x2) / 2.0, y2 - (y2 - y1) / 10.0);
        let (rx, ry) = ((x2 - x1) * 0.6, ((y2 - y1) / 6.0).max(2.0));
        self.over(cx - 1.5 * rx, cy - 1.5 * ry, cx + 1.5 * rx, cy + 1.5 * ry, |x, y, p| {
            let distance = (((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2)).sqrt();
            let shade = 1.0 - 0.45 * ((1.3 - distance) / 0.6).clamp(0.0, 1.0);
            p.iter_mut().for_each(|v| *v *= shade);
        });
    }

    /// Changes the pixels of a rectangle, given their position.
    pub(super) fn over(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, mut change: impl FnMut(f32, f32, &mut [f32; 3])) {
        let range =
            |a: f32, b: f32, size: usize| (a.max(0.0) as usize).min(size)..(b.max(0.0).ceil() as usize).min(size);
        for y in range(y1, y2, HEIGHT) {
            for x in range(x1, x2, WIDTH) {
                change(x as f32, y as f32, &mut self.0[y * WIDTH + x]);
            }
        }
    }

    /// A line of the given thickness.
    pub(super) fn line(&mut self, (x1, y1): (f32, f32), (x2, y2): (f32, f32), thick: f32, colour: [f32; 3]) {
        let (dx, dy) = (x2 - x1, y2 - y1);
        let length = (dx * dx + dy * dy).max(1e-3);
        let reach = thick + 1.0;
        let (left, right) = (x1.min(x2) - reach, x1.max(x2) + reach);
        self.over(left, y1.min(y2) - reach, right, y1.max(y2) + reach, |x, y, p| {
            let t = (((x - x1) * dx + (y - y1) * dy) / length).clamp(0.0, 1.0);
            let distance = (x - x1 - t * dx).hypot(y - y1 - t * dy);
            let alpha = (thick / 2.0 + 0.5 - distance).clamp(0.0, 1.0);
            p.iter_mut().zip(colour).for_each(|(v, c)| *v += alpha * (c - *v));
        });
    }

    /// A circle's outline.
    pub(super) fn ring(&mut self, (cx, cy): (f32, f32), radius: f32, thick: f32, colour: [f32; 3]) {
        let reach = radius + thick + 1.0;
        self.over(cx - reach, cy - reach, cx + reach, cy + reach, |x, y, p| {
            let alpha = (thick / 2.0 + 0.5 - ((x - cx).hypot(y - cy) - radius).abs()).clamp(0.0, 1.0);
            p.iter_mut().zip(colour).for_each(|(v, c)| *v += alpha * (c - *v));
        });
    }

    /// Moves the picture by a part of a pixel or a few; edges are continued.
    pub(super) fn shifted(&self, right: f32, down: f32) -> Self {
        const PAD: usize = 4;
        let (x0, y0) = ((-right).floor(), (-down).floor());
        let (fx, fy) = (-right - x0, -down - y0);
        let row = |y: usize, by: f32| {
            let y = (y as i64 + by as i64).clamp(0, HEIGHT as i64 - 1) as usize;
            &self.0[y * WIDTH..][..WIDTH]
        };
        let mut out = Vec::with_capacity(self.0.len());
        let mut padded = vec![[0.0_f32; 3]; WIDTH + 2 * PAD];
        for y in 0..HEIGHT {
            let (upper, lower) = (row(y, y0), row(y, y0 + 1.0));
            for ((p, a), b) in padded[PAD..].iter_mut().zip(upper).zip(lower) {
                *p = std::array::from_fn(|i| a[i] + fy * (b[i] - a[i]));
            }
            let (first, last) = (padded[PAD], padded[PAD + WIDTH - 1]);
            padded[..PAD].fill(first);
            padded[PAD + WIDTH..].fill(last);
            let start = (PAD as f32 + x0.clamp(-(PAD as f32), PAD as f32 - 1.0)) as usize;
            let pairs = padded[start..].iter().zip(&padded[start + 1..]);
            out.extend(
                pairs
                    .take(WIDTH)
                    .map(|(a, b)| -> [f32; 3] { std::array::from_fn(|i| a[i] + fx * (b[i] - a[i])) }),
            );
        }
        Self(out)
    }

    /// What a sensor and a camera's encoder make of it.
    pub(super) fn finish(&self, noise: &SensorNoise, sigma: f32, quality: u8, random: &mut fastrand::Rng) -> RgbImage {
        let (ox, oy) = (random.usize(..SensorNoise::PAD), random.usize(..SensorNoise::PAD));
        let sigma = if random.bool() { sigma } else { -sigma };
        let mut bytes = Vec::with_capacity(WIDTH * HEIGHT * 3);
        for y in 0..HEIGHT {
            let noise = &noise.0[(y + oy) * SensorNoise::SIDE + ox..][..WIDTH];
            for (pixel, noise) in self.0[y * WIDTH..][..WIDTH].iter().zip(noise) {
                bytes.extend(pixel.iter().zip(noise).map(|(v, n)| (v + sigma * n + 0.5) as u8));
            }
        }
        let mut jpeg = Vec::new();
        let encoded = JpegEncoder::new_with_quality(&mut jpeg, quality).encode(
            &bytes,
            WIDTH as u32,
            HEIGHT as u32,
            image::ExtendedColorType::Rgb8,
        );
        let decoded =
            encoded.and_then(|()| ImageReader::with_format(Cursor::new(jpeg), image::ImageFormat::Jpeg).decode());
        decoded.map_or_else(|_| RgbImage::new(WIDTH as u32, HEIGHT as u32), DynamicImage::into_rgb8)
    }
}

/// Noise with a standard deviation of 1, correlated a little from pixel to pixel; each picture takes it from another place.
pub(super) struct SensorNoise(Vec<[f32; 3]>);

impl SensorNoise {
    const PAD: usize = 200;
    const SIDE: usize = WIDTH + Self::PAD;

    pub(super) fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let count = Self::SIDE * (HEIGHT + Self::PAD);
        let mut white: Vec<[f32; 3]> = (0..count)
            .map(|_| std::array::from_fn(|_| normal(&mut random)))
            .collect();
        for i in (1..count).rev() {
            let before = white[i - 1];
            white[i]
                .iter_mut()
                .zip(before)
                .for_each(|(v, b)| *v = 0.95 * *v + 0.3 * b);
        }
        Self(white)
    }
}

/// A normally distributed number.
pub(super) fn normal(random: &mut fastrand::Rng) -> f32 {
    // Box and Muller.
    let (a, b) = (random.f32().max(1e-9), random.f32());
    (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}

/// Uniformly distributed in a range.
pub(super) fn uniform(random: &mut fastrand::Rng, from: f32, to: f32) -> f32 {
    from + (to - from) * random.f32()
}

/// A Poisson-distributed number (Knuth).
pub(super) fn poisson(random: &mut fastrand::Rng, mean: f32) -> usize {
    let (limit, mut product, mut count) = ((-mean).exp(), random.f32(), 0);
    while product > limit {
        product *= random.f32();
        count += 1;
    }
    count
}

/// Smooths a plane with three box filters, close to a Gaussian of standard deviation `sigma` pixels.
pub(super) fn blurred(plane: &[f32], width: usize, sigma: f32) -> Plane {
    let radius = ((sigma * sigma * 4.0 + 1.0).sqrt() / 2.0).round() as usize;
    let height = plane.len() / width;
    let mut out = plane.to_vec();
    let mut line = Vec::new();
    for _ in 0..3 {
        for y in 0..height {
            line.clear();
            line.extend_from_slice(&out[y * width..][..width]);
            box_filter(&line, radius, |x, v| out[y * width + x] = v);
        }
        for x in 0..width {
            line.clear();
            line.extend((0..height).map(|y| out[y * width + x]));
            box_filter(&line, radius, |y, v| out[y * width + x] = v);
        }
    }
    out
}

fn box_filter(line: &[f32], radius: usize, mut set: impl FnMut(usize, f32)) {
    let at = |i: i64| line[i.clamp(0, line.len() as i64 - 1) as usize];
    let radius = radius as i64;
    let mut sum: f32 = (-radius..=radius).map(at).sum();
    for i in 0..line.len() as i64 {
        set(i as usize, sum / (2 * radius + 1) as f32);
        sum += at(i + radius + 1) - at(i - radius);
    }
}

/// Smooth random values with a standard deviation of 1 on a grid scaled up to the canvas.
pub(super) fn patches(random: &mut fastrand::Rng, sigma: f32) -> Plane {
    const STEP: usize = 4;
    let (w, h) = (WIDTH / STEP, HEIGHT / STEP);
    let white: Vec<f32> = (0..w * h).map(|_| normal(random)).collect();
    let smooth = blurred(&white, w, sigma / STEP as f32);
    let deviation = (smooth.iter().map(|v| v * v).sum::<f32>() / smooth.len() as f32).sqrt();
    enlarged(&smooth, w, STEP).into_iter().map(|v| v / deviation).collect()
}

/// Scales a plane up with linear interpolation.
pub(super) fn enlarged(plane: &[f32], width: usize, times: usize) -> Plane {
    let height = plane.len() / width;
    let split = |i: usize, n: usize| {
        let at = ((i as f32 + 0.5) / times as f32 - 0.5).clamp(0.0, (n - 1) as f32);
        (at as usize, (at as usize + 1).min(n - 1), at.fract())
    };
    let mut out = Vec::with_capacity(plane.len() * times * times);
    for y in 0..height * times {
        let (y0, y1, fy) = split(y, height);
        for x in 0..width * times {
            let (x0, x1, fx) = split(x, width);
            let row = |y: usize| plane[y * width + x0] * (1.0 - fx) + plane[y * width + x1] * fx;
            out.push(row(y0) * (1.0 - fy) + row(y1) * fy);
        }
    }
    out
}

/// Up to `limit` pictures of a folder that fit, taken evenly by name; files that are no pictures are skipped.
pub(super) fn pictures_in(
    folder: &Path,
    limit: usize,
    fits: impl Fn(&DynamicImage) -> bool,
) -> std::io::Result<Vec<(String, DynamicImage)>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)?
        .filter_map(|e| Some(e.ok()?.path()))
        .collect();
    paths.sort();
    // The golden ratio visits a list evenly, however many are taken.
    let order = (0..paths.len()).map(|i| (i as f64 * 0.618_034).fract());
    let mut order: Vec<(f64, usize)> = order.zip(0..).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let open = |path: &std::path::PathBuf| {
        let picture = image::open(path).ok().filter(&fits)?;
        Some((path.file_stem()?.to_string_lossy().into_owned(), picture))
    };
    Ok(order.iter().filter_map(|(_, i)| open(&paths[*i])).take(limit).collect())
}
