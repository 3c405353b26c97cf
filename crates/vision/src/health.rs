//! Whether there is anything to be seen: dark, blurred, blocked and frozen views.

use std::hash::{DefaultHasher, Hasher};

use jiff::Timestamp;

use super::{Luma, VisionError};
use crate::ViewLimits as Thresholds;
use gridwatch_engine::View;
use gridwatch_frame::Frame;

/// What was measured in a picture's luma at 320 pixels across, on a scale of 0..=255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measures {
    /// Mean.
    pub mean: f64,
    /// Variance of the Laplacian: how much fine structure there is. `None` without the feature `opencv`.
    pub texture: Option<f64>,
    /// Standard deviation. `None` without the feature `opencv`.
    pub deviation: Option<f64>,
}

/// The health of one camera's view: thresholds, and what must be remembered from look to look.
#[derive(Debug, Clone)]
pub struct Health {
    thresholds: Thresholds,
    newest: Option<Look>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    captured_at: Timestamp,
    fingerprint: u64,
    /// How many pictures in a row had this fingerprint.
    repeats: u32,
    measures: Measures,
}

impl Health {
    /// A view of which nothing is known yet.
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            newest: None,
        }
    }

    /// Judges the next picture of this camera. Frozen outranks dark, dark outranks the rest: each makes what follows
    /// meaningless. The same picture judged twice (by its time of capture) counts once: between keyframes there is
    /// nothing new to see, which does not make the camera frozen.
    ///
    /// # Errors
    /// A frame whose planes do not fit its data; OpenCV's own failures.
    pub fn judge(&mut self, frame: &Frame) -> Result<View, VisionError> {
        self.look(frame).map(|(view, _)| view)
    }

    /// [`Self::judge`], and the small picture that was judged. `None` without the feature `opencv`.
    ///
    /// # Errors
    /// As [`Self::judge`].
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
        Ok((self.verdict(&look), small))
    }

    /// What the newest picture measured, for those who tune thresholds.
    pub fn measures(&self) -> Option<Measures> {
        self.newest.map(|look| look.measures)
    }

    /// Whether this build tells blurred and blocked views.
    pub fn judges_texture() -> bool {
        cfg!(feature = "opencv")
    }

    fn verdict(&self, look: &Look) -> View {
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

/// Every eighth row of luma, hashed. A living sensor's noise differs in each of them from picture to picture.
fn fingerprint(frame: &Frame) -> u64 {
    let mut hasher = DefaultHasher::new();
    for y in (0..frame.height as usize).step_by(8) {
        hasher.write(frame.y_row(y));
    }
    hasher.finish()
}

/// A mean of luma samples on a scale of 0..=255, whatever the frame's range.
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

    /// Wide enough that a street's fine structure is there, narrow enough that a sensor's noise is averaged away.
    const WIDTH: i32 = 320;

    // Its own threads would compete with the workers, and wait for each other longer than a look takes.
    static ONE_THREAD: Once = Once::new();
    ONE_THREAD.call_once(|| {
        if let Err(e) = opencv::core::set_num_threads(0) {
            tracing::warn!(error = %e, "OpenCV goes on with threads of its own; looks cost more than they need.");
        }
    });

    let plane = frame.planes[0];
    let (width, height) = (frame.width as i32, frame.height as i32);
    let small_width = WIDTH.min(width);
    let small_height = (height * small_width / width).max(1);
    // Two rows of the picture for each of the small one: with all the columns that is enough to average noise away (12
    // samples of full HD), and every further row costs as much again.
    let step = (height / small_height / 2).max(1) as usize;
    // A view of the plane, not a copy: rows as long as `step` of the plane's, of which all but the first one's samples
    // are left out. The last goes where what follows it is not in the buffer.
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
        // `resize` made it without padding.
        samples: small.data_bytes()?.to_vec(),
    };
    Ok((measures, Some(small)))
}
