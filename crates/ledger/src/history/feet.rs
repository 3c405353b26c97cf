//! Where things stand in each view: the foot points of the detections, counted on a raster, so that a zone is drawn where things happen.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{HistoryError, Task};
use crate::{Damage, Reader, RecordedEvent, replay::Window};
use gridwatch_engine::{CameraId, Label, Point, View};

/// Cells of the raster across and down the picture: 1 % of its width, as wide as the jitter of a distant box.
const RASTER: (usize, usize) = (96, 54);
/// Views and labels of one answer; a box has 128 presets and two dozen labels at most.
const MAX_KEYS: usize = 4096;

/// Which foot points are asked for.
#[derive(Debug, Clone, Default)]
pub struct FeetFilter {
    /// Only these cameras or presets.
    pub cameras: Option<BTreeSet<CameraId>>,
    /// Only these labels.
    pub labels: Option<BTreeSet<Label>>,
    /// Only detections with at least this score, 0..=1.
    pub min_score: f32,
}

/// The foot points of one label in one view.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FootPoints {
    /// The camera or preset.
    pub camera: CameraId,
    /// The label.
    pub label: Label,
    /// Detections in all.
    pub detections: u64,
    /// The cells with the most detections, the fullest first.
    pub points: Vec<FootPoint>,
    /// Detections in cells that were left out.
    pub left_out: u64,
}

/// The foot points in one cell of the raster.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FootPoint {
    /// Their mean, as fractions of the picture.
    pub at: Point,
    /// Their number.
    pub count: u32,
    /// Their highest score, 0..=1.
    pub score: f32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    x: f64,
    y: f64,
    count: u32,
    score: f32,
}

/// The foot points of the clear looks in the window, at most `limit` cells for each view and label, and the files that are damaged.
/// Reads the ledger without judging it.
///
/// # Errors
/// [`HistoryError`].
pub fn foot_points(
    ledger: &std::path::Path,
    window: Window,
    filter: &FeetFilter,
    limit: usize,
    task: Task<'_>,
) -> Result<(Vec<FootPoints>, Vec<Damage>), HistoryError> {
    let mut reader = match window.from {
        Some(from) => Reader::open_near(ledger, from)?,
        None => Reader::open(ledger, None)?,
    };
    let mut rasters: BTreeMap<(CameraId, Label), BTreeMap<usize, Cell>> = BTreeMap::new();
    let mut count = 0_u32;
    while let Some(entry) = reader.next_entry()? {
        count = count.wrapping_add(1);
        if count.is_multiple_of(super::CHECK_EVERY) && task.cancelled.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(HistoryError::Cancelled);
        }
        let RecordedEvent::Observed(look) = entry.event else {
            continue;
        };
        if window.to.is_some_and(|to| look.at >= to) {
            break;
        }
        let is_wanted = filter
            .cameras
            .as_ref()
            .is_none_or(|cameras| cameras.contains(&look.camera));
        if look.view != View::Clear || !window.contains(look.at) || !is_wanted {
            continue;
        }
        for detection in look.detections {
            let is_wanted = filter
                .labels
                .as_ref()
                .is_none_or(|labels| labels.contains(&detection.label));
            let Some(bbox) = detection.bbox.within_picture().filter(|_| is_wanted) else {
                continue;
            };
            // False for NaN.
            if detection.score < filter.min_score || detection.score.is_nan() {
                continue;
            }
            let key = (look.camera.clone(), detection.label);
            if rasters.len() >= MAX_KEYS && !rasters.contains_key(&key) {
                continue;
            }
            let foot = bbox.foot();
            let place = |at: f64, cells: usize| ((at * cells as f64) as usize).min(cells - 1);
            let index = place(foot.y, RASTER.1) * RASTER.0 + place(foot.x, RASTER.0);
            let cell = rasters.entry(key).or_default().entry(index).or_default();
            cell.x += foot.x;
            cell.y += foot.y;
            cell.count = cell.count.saturating_add(1);
            cell.score = cell.score.max(detection.score);
        }
    }
    let points = rasters.into_iter().map(|((camera, label), cells)| {
        let mut points: Vec<FootPoint> = cells.into_values().map(Cell::point).collect();
        let detections = points.iter().map(|p| u64::from(p.count)).sum();
        // Equal ones stay in the order of the raster.
        points.sort_by_key(|p| std::cmp::Reverse(p.count));
        let left_out = points.iter().skip(limit).map(|p| u64::from(p.count)).sum();
        points.truncate(limit);
        FootPoints {
            camera,
            label,
            detections,
            points,
            left_out,
        }
    });
    Ok((points.collect(), reader.damage().to_vec()))
}

impl Cell {
    fn point(self) -> FootPoint {
        let n = f64::from(self.count);
        FootPoint {
            at: Point {
                x: self.x / n,
                y: self.y / n,
            },
            count: self.count,
            score: self.score,
        }
    }
}
