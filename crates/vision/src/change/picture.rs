//! A frame scaled to the working picture: its luma, and the brightness and colour of each cell.

use super::{
    cells::{box_max, log2},
    grid::{CELL, Grid},
};
use gridwatch_frame::{Frame, Layout};

/// Frame rows that are averaged into a row of luma, and of cells' chroma: enough to average out sensor noise. Each further
/// row costs as much again.
const LUMA_ROWS: usize = 4;
const CHROMA_ROWS: usize = 3;
/// Added to each colour channel before its logarithm is taken, as sensor noise and black level dominate below.
const BLACK: f32 = 8.0;
/// A cell with a brighter channel clips.
const CLIPS: u8 = 247;

/// The working picture of one look. Buffers are kept from look to look.
#[derive(Debug, Clone)]
pub(super) struct WorkingPicture {
    pub(super) grid: Grid,
    /// Luma 0..=255, full range.
    pub(super) luma: Vec<u8>,
    /// Mean of the channels' base-2 logarithms, by cell.
    pub(super) light: Vec<f32>,
    /// Base-2 logarithms of red and of blue against green, by cell.
    pub(super) red: Vec<f32>,
    pub(super) blue: Vec<f32>,
    /// Largest channel value in a cell and its neighbours.
    pub(super) peak: Vec<u8>,
    /// Whether a pixel of the cell or its neighbours clips.
    pub(super) clips: Vec<bool>,
    sums: Vec<u16>,
    columns: Columns,
    chroma: [Vec<u16>; 2],
    chroma_columns: Vec<Span>,
    peaks: Vec<u8>,
    cell_scratch: Vec<u8>,
}

/// The chroma samples of a column of cells.
#[derive(Debug, Clone)]
struct Span {
    from: usize,
    count: usize,
    /// 256 divided by `count`.
    scale: f32,
}

/// How a frame's columns map to the working picture.
#[derive(Debug, Clone, Default, PartialEq)]
struct Columns {
    frame: usize,
    /// First column of each span, and one beyond the last span.
    starts: Vec<u32>,
}

impl Columns {
    fn update(&mut self, frame: usize, working: usize) {
        if self.frame != frame || self.starts.len() != working + 1 {
            self.frame = frame;
            self.starts = (0..=working).map(|x| (x * frame / working) as u32).collect();
        }
    }
}

impl WorkingPicture {
    pub(super) fn new(grid: Grid) -> Self {
        let cells = grid.cells();
        Self {
            grid,
            luma: vec![0; grid.pixels()],
            light: vec![0.0; cells],
            red: vec![0.0; cells],
            blue: vec![0.0; cells],
            peak: vec![0; cells],
            clips: vec![false; cells],
            sums: Vec::new(),
            columns: Columns::default(),
            chroma: [vec![0; cells], vec![0; cells]],
            chroma_columns: Vec::new(),
            peaks: vec![0; cells],
            cell_scratch: Vec::new(),
        }
    }

    /// Scales the luma. The frame must be valid and at least as large as the working picture.
    pub(super) fn scale_luma(&mut self, frame: &Frame) {
        let Grid { width, height, .. } = self.grid;
        let (frame_width, frame_height) = (frame.width as usize, frame.height as usize);
        self.columns.update(frame_width, width);
        let k = frame.coefficients();
        for y in 0..height {
            let rows = y * frame_height / height..(y + 1) * frame_height / height;
            let count = rows.len().min(LUMA_ROWS);
            self.sums.clear();
            self.sums.resize(frame_width, 0);
            for i in 0..count {
                let row = frame.y_row(rows.start + i * rows.len() / count);
                for (sum, &sample) in self.sums.iter_mut().zip(row) {
                    *sum += u16::from(sample);
                }
            }
            let out = &mut self.luma[y * width..][..width];
            let (sums, starts) = (&self.sums, &self.columns.starts);
            match (frame_width % width, frame_width / width) {
                (0, 1) => narrow::<1>(sums, out, &k, count),
                (0, 2) => narrow::<2>(sums, out, &k, count),
                (0, 3) => narrow::<3>(sums, out, &k, count),
                (0, 4) => narrow::<4>(sums, out, &k, count),
                (0, 8) => narrow::<8>(sums, out, &k, count),
                _ => narrow_unevenly(sums, starts, out, &k, count),
            }
        }
    }

    /// Computes the cells' brightness and colour, with the view displaced by whole pixels `shift` (right, down).
    pub(super) fn measure_cells(&mut self, frame: &Frame, shift: (i32, i32)) {
        self.measure_chroma(frame, shift);
        self.measure_peaks(shift);
        let Grid { width, columns, .. } = self.grid;
        let k = frame.coefficients();
        let last_row = self.grid.height as i32 - 1;
        let last = width as i32 - 1;
        let mut sums = vec![0_u16; width];
        for row in 0..self.grid.rows {
            sums.fill(0);
            for y in 0..CELL {
                let y = (((row * CELL + y) as i32) + shift.1).clamp(0, last_row) as usize;
                for (sum, &sample) in sums.iter_mut().zip(&self.luma[y * width..][..width]) {
                    *sum += u16::from(sample);
                }
            }
            for column in 0..columns {
                let at = |i: usize| sums[((column * CELL + i) as i32 + shift.0).clamp(0, last) as usize];
                self.light[row * columns + column] = f32::from(at(0) + at(1) + at(2)) / 9.0;
            }
        }
        let planes = self.light.iter_mut().zip(&mut self.red).zip(&mut self.blue);
        let inputs = self.chroma[0].iter().zip(&self.chroma[1]).zip(&mut self.peaks);
        for (((light, red), blue), ((u, v), peak)) in planes.zip(inputs) {
            let y = *light;
            let u = f32::from(*u) / 256.0 - 128.0;
            let v = f32::from(*v) / 256.0 - 128.0;
            let (in_red, in_green, in_blue) = (k.rv * v, k.gu * u + k.gv * v, k.bu * u);
            let channel = |value: f32| log2(value.clamp(0.0, 255.0) + BLACK);
            let (r, g, b) = (channel(y + in_red), channel(y + in_green), channel(y + in_blue));
            *light = (r + g + b) / 3.0;
            *red = r - g;
            *blue = b - g;
            let brightest = in_red.max(in_green).max(in_blue).max(0.0);
            *peak = (f32::from(*peak) + brightest).min(255.0) as u8;
        }
        box_max(&self.peaks, self.grid, &mut self.cell_scratch, &mut self.peak);
        for (clips, peak) in self.clips.iter_mut().zip(&self.peak) {
            *clips = *peak > CLIPS;
        }
    }

    /// Mean chroma of each cell, in 1/256.
    fn measure_chroma(&mut self, frame: &Frame, shift: (i32, i32)) {
        let Grid {
            columns,
            rows,
            width,
            height,
            ..
        } = self.grid;
        let (chroma_width, chroma_height) = ((frame.width as usize).div_ceil(2), (frame.height as usize).div_ceil(2));
        // The displacement in chroma samples.
        let by = (
            shift.0 * chroma_width as i32 / width as i32,
            shift.1 * chroma_height as i32 / height as i32,
        );
        self.chroma_columns.clear();
        self.chroma_columns.extend((0..columns).map(|column| {
            let at = |i: usize| (i * chroma_width / columns) as i32 + by.0;
            let from = at(column).clamp(0, chroma_width as i32 - 1) as usize;
            let count = (at(column + 1).max(0) as usize).clamp(from + 1, chroma_width) - from;
            let scale = 256.0 / count as f32;
            Span { from, count, scale }
        }));
        let (step, planes) = match frame.layout {
            Layout::I420 => (1, [(1, 0), (2, 0)]),
            Layout::Nv12 => (2, [(1, 0), (1, 1)]),
        };
        for row in 0..rows {
            let source =
                row * chroma_height / rows..((row + 1) * chroma_height / rows).max(row * chroma_height / rows + 1);
            let count = source.len().min(CHROMA_ROWS);
            for (out, (plane, first)) in self.chroma.iter_mut().zip(planes) {
                if first == 0 || step == 1 {
                    self.sums.clear();
                    self.sums.resize(chroma_width * step, 0);
                    for i in 0..count {
                        let y = source.start + (2 * i + 1) * source.len() / (2 * count);
                        let y = (y as i32 + by.1).clamp(0, chroma_height as i32 - 1) as usize;
                        for (sum, &sample) in self.sums.iter_mut().zip(frame.row(plane, y)) {
                            *sum += u16::from(sample);
                        }
                    }
                }
                let out = &mut out[row * columns..][..columns];
                for (span, out) in self.chroma_columns.iter().zip(out) {
                    let sums = &self.sums[span.from * step + first..];
                    let sum: u32 = (0..span.count).map(|i| u32::from(sums[i * step])).sum();
                    *out = (sum as f32 * span.scale / count as f32) as u16;
                }
            }
        }
    }

    /// Largest luma of each cell and the pixels around it.
    fn measure_peaks(&mut self, shift: (i32, i32)) {
        let Grid {
            width,
            height,
            columns,
            rows,
            ..
        } = self.grid;
        let mut maxima = std::mem::take(&mut self.cell_scratch);
        maxima.resize(width, 0);
        for row in 0..rows {
            maxima.fill(0);
            for y in -1..=CELL as i32 {
                let y = ((row * CELL) as i32 + y + shift.1).clamp(0, height as i32 - 1) as usize;
                for (max, &sample) in maxima.iter_mut().zip(&self.luma[y * width..][..width]) {
                    *max = (*max).max(sample);
                }
            }
            for column in 0..columns {
                let from = (column * CELL) as i32 - 1 + shift.0;
                let to = (from + CELL as i32 + 2).clamp(1, width as i32) as usize;
                let from = from.clamp(0, to as i32 - 1) as usize;
                self.peaks[row * columns + column] = maxima[from..to].iter().copied().max().unwrap_or(0);
            }
        }
        self.cell_scratch = maxima;
    }
}

/// Conversion of a sum of samples to a full-range sample, in 16 fractional bits.
#[derive(Clone, Copy)]
struct Level {
    scale: i32,
    offset: i32,
}

impl Level {
    fn of(k: &gridwatch_frame::Coefficients, count: usize) -> Self {
        const ONE: f32 = 65_536.0;
        Self {
            scale: (k.y_scale / count as f32 * ONE) as i32,
            // Half a step, to round.
            offset: ((0.5 - k.y_offset * k.y_scale) * ONE) as i32,
        }
    }

    #[inline]
    fn sample(self, sum: i32) -> u8 {
        ((sum * self.scale + self.offset) >> 16).clamp(0, 255) as u8
    }
}

/// Averages groups of `N` column sums, each of `count` rows.
fn narrow<const N: usize>(sums: &[u16], out: &mut [u8], k: &gridwatch_frame::Coefficients, count: usize) {
    let level = Level::of(k, N * count);
    for (out, group) in out.iter_mut().zip(sums.as_chunks::<N>().0) {
        *out = level.sample(group.iter().map(|v| i32::from(*v)).sum());
    }
}

fn narrow_unevenly(sums: &[u16], starts: &[u32], out: &mut [u8], k: &gridwatch_frame::Coefficients, count: usize) {
    // Spans differ by one column.
    let shortest = sums.len() / out.len();
    let levels = [Level::of(k, shortest * count), Level::of(k, (shortest + 1) * count)];
    for (out, span) in out.iter_mut().zip(starts.windows(2)) {
        let group = &sums[span[0] as usize..span[1] as usize];
        let level = levels[usize::from(group.len() > shortest)];
        *out = level.sample(group.iter().map(|v| i32::from(*v)).sum());
    }
}
