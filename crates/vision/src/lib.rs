//! Assesses whether a camera's view can be trusted. To the engine, every look that is not
//! [`View::Clear`](gridwatch_engine::View) is blind time.
//!
//! Views are assessed by their luma, scaled to 320 pixels across so that the thresholds mean the same on every camera:
//!
//! - [`Health`] detects dark, blurred, blocked and frozen views.
//! - [`Aim`] detects that a fixed camera was moved away from the view in which its zones were drawn.
//! - [`Tour`] recognises the preset that a touring camera points at.
//! - [`views`] stores learned references on disk; the rest of the crate uses no files.
//!
//! Without the feature `opencv` only dark and frozen views are detected; see [`Health::judges_texture`].
//!
//! Detection and false alarm rates are in `docs/judging.md`, measured by `gridwatch-lab bench views` on street pictures.

mod aim;
pub mod change;
mod health;
mod limits;
pub mod views;

pub use self::{
    aim::{
        Agreement, Aim, AimChange, AimLimits, AimLook, EdgeField, Reference, SavedView, Shift, Tour, TourChange,
        TourLook, ViewMatch,
    },
    health::{Health, Measures},
    limits::ViewLimits,
};
use gridwatch_base::error::Class;
use gridwatch_frame::FrameError;

/// Why a frame could not be assessed.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    /// The frame is invalid.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// OpenCV failed: out of memory, or a bug.
    #[cfg(feature = "opencv")]
    #[error("OpenCV cannot measure the frame: {0}")]
    OpenCv(#[from] opencv::Error),
}

impl VisionError {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Frame(e) => e.class(),
            #[cfg(feature = "opencv")]
            Self::OpenCv(_) => Class::Bug,
        }
    }
}

/// A small greyscale picture without row padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luma {
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// `width` × `height` samples, row by row.
    pub samples: Vec<u8>,
}

impl Luma {
    /// Converts it to an image; `None` if the number of samples does not match its size.
    pub fn to_gray(&self) -> Option<image::GrayImage> {
        image::GrayImage::from_raw(self.width as u32, self.height as u32, self.samples.clone())
    }

    /// Resamples to another size; each sample is the mean of those it covers.
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
