//! Detects dark, blurred, blocked and frozen views.

use std::hash::{DefaultHasher, Hasher};

use jiff::Timestamp;

use super::{Luma, VisionError};
use crate::ViewLimits as Thresholds;
use gridwatch_engine::View;
use gridwatch_frame::Frame;

/// Statistics of a frame's luma at 320 pixels across, on a scale of 0..=255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measures {
    /// Mean.
    pub mean: f64,
    /// Variance of the Laplacian, a measure of fine structure. `None` without the feature `opencv`.
    pub texture: Option<f64>,
    /// Standard deviation. `None` without the feature `opencv`.
    pub deviation: Option<f64>,
}

/// Assesses the health of one camera's view from look to look.
#[derive(Debug, Clone)]
pub struct Health {
    thresholds: Thresholds,
    newest: Option<Look>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    captured_at: Timestamp,
    fingerprint: u64,
    /// Number of consecutive frames with this fingerprint.
    repeats: u32,
    measures: Measures,
}

impl Health {
    /// The state before the first look.
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            newest: None,
        }
    }

    /// Assesses the camera's next frame. Frozen takes precedence over dark, and dark over the rest. A frame with the same
    /// capture time as the one before counts once: between keyframes there is no newer frame, and that is not a freeze.
    ///
    /// # Errors
    /// The frame is invalid, or OpenCV fails.
    pub fn judge(&mut self, frame: &Frame) -> Result<View, VisionError> {
        self.look(frame).map(|(view, _)| view)
    }

    /// Like [`Self::judge`], and returns the downscaled luma as well; `None` without the feature `opencv`.
    ///
    /// # Errors
    /// Like [`Self::judge`].
    pub fn look(&mut self, frame: &Frame) -> Result<(View, Option<Luma>), VisionError> {
        frame.validate()?;
        let fingerprint = fingerprint(frame);
        let repeats = match self.newest {
            Some(last) if last.captured_at == frame.captured_at => last.repeats,
            Some(last) if last.fingerprint == fingerprint => last.repeats.saturating_add(1),
            _ => 1,
        };
        let (measures, small) = measure(frame)?;
        let look = Look {
            captured_at: frame.captured_at,
            fingerprint,
            repeats,
            measures,
        };
        self.newest = Some(look);
        Ok((self.classify(&look), small))
    }

    /// The measures of the newest frame, for tuning the thresholds.
    pub fn measures(&self) -> Option<Measures> {
        self.newest.map(|look| look.measures)
    }

    /// True if this build detects blurred and blocked views.
    pub fn judges_texture() -> bool {
        cfg!(feature = "opencv")
    }

    fn classify(&self, look: &Look) -> View {
        let Thresholds {
            dark_below,
            blurred_below,
            blocked_below,
            frozen_after,
            ..
        } = self.thresholds;
        let Measures {
            mean,
            texture,
            deviation,
        } = look.measures;
        let featureless = texture.is_some_and(|t| t < blurred_below);
        if look.repeats >= frozen_after {
            View::Frozen
        } else if mean < dark_below {
            View::Dark
        } else if featureless && deviation.is_some_and(|d| d < blocked_below) {
            View::Blocked
        } else if featureless {
            View::Blurred
        } else {
            View::Clear
        }
    }
}

/// Hash of every eighth row of luma. On a working sensor, noise changes it from frame to frame.
fn fingerprint(frame: &Frame) -> u64 {
    let mut hasher = DefaultHasher::new();
    for y in (0..frame.height as usize).step_by(8) {
        hasher.write(frame.y_row(y));
    }
    hasher.finish()
}

/// Converts a mean of luma samples to a scale of 0..=255, according to the frame's range.
fn full_range(frame: &Frame, mean: f64) -> f64 {
    let k = frame.coefficients();
    (mean - f64::from(k.y_offset)) * f64::from(k.y_scale)
}

#[cfg(not(feature = "opencv"))]
fn measure(frame: &Frame) -> Result<(Measures, Option<Luma>), VisionError> {
    let (mut sum, mut count) = (0, 0);
    for y in (0..frame.height as usize).step_by(8) {
        let row = frame.y_row(y);
        sum += row.iter().map(|&v| u64::from(v)).sum::<u64>();
        count += row.len();
    }
    let measures = Measures {
        mean: full_range(frame, sum as f64 / count as f64),
        texture: None,
        deviation: None,
    };
    Ok((measures, None))
}

#[cfg(feature = "opencv")]
fn measure(frame: &Frame) -> Result<(Measures, Option<Luma>), VisionError> {
    use std::sync::Once;

    use opencv::{
        core::{CV_16S, Mat, Rect, Scalar, Size, mean_std_dev_def},
        imgproc::{INTER_AREA, laplacian_def, resize},
        prelude::*,
    };

    /// Wide enough to keep the fine structure of a street, narrow enough to average out sensor noise.
    const WIDTH: i32 = 320;

    // OpenCV's own threads would compete with the look workers, and synchronising them takes longer than the work.
    static ONE_THREAD: Once = Once::new();
    ONE_THREAD.call_once(|| {
        if let Err(e) = opencv::core::set_num_threads(0) {
            tracing::warn!(error = %e, "Cannot turn off OpenCV's own threads; looks take more CPU time");
        }
    });

    let plane = frame.planes[0];
    let (width, height) = (frame.width as i32, frame.height as i32);
    let small_width = WIDTH.min(width);
    let small_height = (height * small_width / width).max(1);
    // Two source rows per row of the small picture: with all columns these are 12 samples per pixel at full HD, enough to
    // average out noise, and each further row adds as much cost again.
    let step = (height / small_height / 2).max(1) as usize;
    // Skips rows without copying: a matrix whose rows are `step` rows of the plane long, cropped to the first of them. The
    // last row is dropped if the buffer ends before its `step` rows do.
    let long = plane.stride * step;
    let rows = (frame.height as usize / step).min((frame.data.len() - plane.offset) / long);
    let samples = &frame.data[plane.offset..][..rows * long];
    let padded = Mat::new_rows_cols_with_data(rows as i32, long as i32, samples)?;
    let luma = padded.roi(Rect::new(0, 0, width, rows as i32))?;
    let (mut small, mut edges) = (Mat::default(), Mat::default());
    resize(
        &luma,
        &mut small,
        Size::new(small_width, small_height),
        0.0,
        0.0,
        INTER_AREA,
    )?;
    laplacian_def(&small, &mut edges, CV_16S)?;
    let (mut mean, mut deviation) = (Scalar::default(), Scalar::default());
    mean_std_dev_def(&edges, &mut mean, &mut deviation)?;
    let texture = deviation[0] * deviation[0];
    mean_std_dev_def(&small, &mut mean, &mut deviation)?;
    let scale = f64::from(frame.coefficients().y_scale);
    let measures = Measures {
        mean: full_range(frame, mean[0]),
        texture: Some(texture * scale * scale),
        deviation: Some(deviation[0] * scale),
    };
    let small = Luma {
        width: small_width as usize,
        height: small_height as usize,
        // The output of `resize` has no padding.
        samples: small.data_bytes()?.to_vec(),
    };
    Ok((measures, Some(small)))
}
