//! Whether a camera's view can be trusted at a look. Anything but [`View::Clear`](gridwatch_engine::View) is blind time to the
//! engine.
//!
//! Judged on luma alone, scaled to 320 pixels across, so that thresholds mean the same on every camera. [`Health`] says
//! whether there is anything to be seen, [`Aim`] whether it is what the camera's zones were drawn on, [`Tour`] which preset of a
//! camera that turns it is. Without the feature
//! `opencv` only dark and frozen views are noticed, and [`Health::judges_texture`] says so.
//!
//! How often each is noticed, and how often a sound view is called so, is in `docs/judging.md`, measured by
//! `gridwatch bench views` on street pictures; run it on your own. It touches no files: [`crate::views`] keeps references.

mod health;
mod limits;
mod moved;
pub mod views;

pub use self::{
    health::{Health, Measures},
    limits::ViewLimits,
    moved::{Agreement, Aim, Change, Field, Kept, Limits, Reference, Seen, Shift, Stood, Tour, TourChange, Verdict},
};
use gridwatch_base::error::Class;
use gridwatch_frame::FrameError;

/// Why a picture could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    /// Its planes do not fit its data.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// OpenCV failed: memory, or our own fault.
    #[cfg(feature = "opencv")]
    #[error("OpenCV failed to measure a picture: {0}")]
    OpenCv(#[from] opencv::Error),
}

impl VisionError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Frame(e) => e.class(),
            #[cfg(feature = "opencv")]
            Self::OpenCv(_) => Class::Bug,
        }
    }
}

/// A small grey picture, without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luma {
    /// Pixels across, at least 1.
    pub width: usize,
    /// Pixels down, at least 1.
    pub height: usize,
    /// Row by row.
    pub samples: Vec<u8>,
}

impl Luma {
    /// As a picture, for people; `None` where its samples are not as many as its size says.
    pub fn to_gray(&self) -> Option<image::GrayImage> {
        image::GrayImage::from_raw(self.width as u32, self.height as u32, self.samples.clone())
    }

    /// Its samples at another size, each the mean of the samples that it covers.
    fn scaled(&self, width: usize, height: usize) -> Vec<u8> {
        let span = |i: usize, from: usize, to: usize| {
            let start = i * from / to;
            start..((i + 1) * from / to).max(start + 1)
        };
        let mut out = Vec::with_capacity(width * height);
        for y in 0..height {
            let rows = span(y, self.height, height);
            for x in 0..width {
                let columns = span(x, self.width, width);
                let count = (rows.len() * columns.len()) as u32;
                let sum: u32 = rows
                    .clone()
                    .flat_map(|row| &self.samples[row * self.width..][columns.clone()])
                    .map(|v| u32::from(*v))
                    .sum();
                out.push(((sum + count / 2) / count) as u8);
            }
        }
        out
    }
}
