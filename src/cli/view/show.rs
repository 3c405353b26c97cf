//! `gridwatch view show`: the zones and what is new, drawn over the learned view and the newest look.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use image::{GrayImage, Rgb, RgbImage, imageops};
use jiff::tz::TimeZone;

use super::{pictures_key, wait_for_daemon};
use crate::cli::{Failure, layer::Layer, print, private, terminal::note};
use gridwatch_base::error::Class;
use gridwatch_config::{Config, Preset};
use gridwatch_engine::{BBox, Point, ZoneKind};
use gridwatch_vision::views::{RegionStatus, ViewFiles, ViewRequest};

/// Runs the command; prints the path of the picture.
pub(super) fn run(config: &Config, preset: &Preset, out: &Path, wait: Duration) -> Result<(), Failure> {
    let id = &preset.view;
    let key = pictures_key(&config.state_dir, config.evidence.originals.as_ref())?;
    let files = ViewFiles::new(&config.state_dir, id.clone(), key);
    let before = files.newest()?.map(|(_, at)| at);
    // One request a view at a time: this one would replace an absorption.
    let is_free = wait_for_daemon(&files, wait);
    if is_free {
        files.request(ViewRequest::Picture)?;
    }
    let is_taken = is_free && wait_for_daemon(&files, wait);
    // The request is picked up when the look begins; the picture is written once it is decoded.
    let end = Instant::now() + Duration::from_secs(10);
    while is_taken && files.newest()?.map(|(_, at)| at) == before && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
    }
    if is_free && !is_taken {
        files.cancel_request()?;
    }
    let kept = files.load()?.unwrap_or_default();
    let newest = files.newest()?;
    if let (false, Some((_, at))) = (is_taken, &newest) {
        let at = at.to_zoned(config.timezone.clone());
        note(format_args!(
            "The daemon took no look at camera {id} in that time; drawing the last saved one, from {}.",
            at.strftime("%F %H:%M:%S")
        ));
    }
    let learned = kept
        .references
        .iter()
        .max_by_key(|(_, reference, _)| reference.renewed_at());
    let learned = learned.and_then(|(_, _, picture)| picture.to_gray());
    let newest = newest.map(|(picture, _)| picture);
    if learned.is_none() && newest.is_none() {
        let message = format!(
            "no picture of camera {id} in {}, and the daemon does not answer; check that it is running",
            config.state_dir.display()
        );
        return Err(Failure::new(Class::Transient, message));
    }
    let regions = files.change_status()?.map(|s| s.regions).unwrap_or_default();
    let drawing = Drawing {
        zones: coloured_zones(config, preset),
        regions: &regions,
        zone: &config.timezone,
    };
    let picture = comparison(learned.as_ref(), newest.as_ref(), &drawing);
    private::save_picture(&picture, image::ImageFormat::Png, out)
        .map_err(|e| Failure::new(Class::Config, format!("--out {}: {e}", out.display())))?;
    if learned.is_none() {
        note(format_args!(
            "The view of camera {id} is not learned yet; only the newest look is drawn."
        ));
    }
    print(&format!("{}\n", out.display()))
}

/// The zones and privacy masks of a view, each with a colour for its kind.
fn coloured_zones(config: &Config, preset: &Preset) -> Vec<(Vec<Point>, Rgb<u8>)> {
    let zones = config.plan.cameras.get(&preset.view).map(|plan| &plan.zones);
    let coloured = zones.into_iter().flatten().map(|zone| {
        let colour = match &zone.kind {
            ZoneKind::Watch => Rgb([90, 220, 90]),
            ZoneKind::Exclude => Rgb([255, 80, 80]),
            ZoneKind::Permitted { .. } => Rgb([90, 160, 255]),
            ZoneKind::Container => Rgb([255, 200, 60]),
            ZoneKind::Shop => Rgb([220, 120, 255]),
        };
        (zone.polygon.clone(), colour)
    });
    let private = preset.privacy.iter().map(|p| (p.clone(), Rgb([20, 20, 20])));
    coloured.chain(private).collect()
}

/// Width of each picture on the sheet, pixels.
const PICTURE_WIDTH: u32 = 640;
const GAP: u32 = 8;

/// What is drawn over the pictures.
struct Drawing<'a> {
    zones: Vec<(Vec<Point>, Rgb<u8>)>,
    /// Drawn over the newest look only.
    regions: &'a [RegionStatus],
    /// The time zone of the labels.
    zone: &'a TimeZone,
}

/// The learned view, the newest look, and below them their red/cyan blend.
fn comparison(learned: Option<&GrayImage>, newest: Option<&GrayImage>, drawing: &Drawing<'_>) -> RgbImage {
    let size = |p: &GrayImage| (PICTURE_WIDTH, (PICTURE_WIDTH * p.height() / p.width().max(1)).max(1));
    let enlarged = |p: &GrayImage| imageops::resize(p, size(p).0, size(p).1, imageops::FilterType::Triangle);
    let (learned, newest) = (learned.map(enlarged), newest.map(enlarged));
    let high = learned.iter().chain(&newest).map(GrayImage::height).max().unwrap_or(1);
    let both = learned.as_ref().zip(newest.as_ref());
    let rows = if both.is_some() { 2 } else { 1 };
    let mut sheet = RgbImage::from_pixel(2 * PICTURE_WIDTH + GAP, rows * (high + GAP), Rgb([60; 3]));
    for (i, picture) in (0..).zip([&learned, &newest]) {
        let Some(picture) = picture else { continue };
        let mut drawn = RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
            Rgb([picture.get_pixel(x, y)[0]; 3])
        });
        draw_zones(&mut drawn, &drawing.zones);
        if i == 1 {
            draw_regions(&mut drawn, drawing);
        }
        imageops::replace(&mut sheet, &drawn, i * i64::from(PICTURE_WIDTH + GAP), 0);
    }
    if let Some((learned, newest)) = both {
        let over = RgbImage::from_fn(PICTURE_WIDTH, learned.height().min(newest.height()), |x, y| {
            let (old, new) = (learned.get_pixel(x, y)[0], newest.get_pixel(x, y)[0]);
            Rgb([old, new, new])
        });
        imageops::replace(&mut sheet, &over, 0, (high + GAP).into());
    }
    sheet
}

fn draw_zones(picture: &mut RgbImage, zones: &[(Vec<Point>, Rgb<u8>)]) {
    let (w, h) = (f64::from(picture.width()), f64::from(picture.height()));
    for (polygon, colour) in zones {
        let corners: Vec<(f64, f64)> = polygon.iter().map(|p| (p.x * w, p.y * h)).collect();
        let mut layer = Layer::of(picture);
        layer.polygon(&corners, 1.2);
        layer.over_outlined(picture, *colour, 1, 0.6);
    }
}

/// Boxes what is new, with its score and since when: the time, and before it the day if it was an earlier one.
fn draw_regions(picture: &mut RgbImage, drawing: &Drawing<'_>) {
    const UNEXPLAINED: Rgb<u8> = Rgb([255, 60, 60]);
    const EXPLAINED: Rgb<u8> = Rgb([255, 170, 60]);
    const DOT: f64 = 1.5;
    let (w, h) = (f64::from(picture.width()), f64::from(picture.height()));
    let day = |at: jiff::Timestamp| at.to_zoned(drawing.zone.clone()).strftime("%m-%d").to_string();
    let today = day(jiff::Timestamp::now());
    for region in drawing.regions {
        let BBox { x1, y1, x2, y2 } = region.bbox;
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(f64::from);
        let corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)].map(|(x, y)| (x * w, y * h));
        let since = region
            .since
            .to_zoned(drawing.zone.clone())
            .strftime("%H:%M")
            .to_string();
        let label = match day(region.since) {
            day if day == today => format!("{:.2} {since}", region.score),
            day => format!("{:.2} {day} {since}", region.score),
        };
        // Inside the picture, whatever the region touches.
        let width = 4.0 * DOT * label.len() as f64;
        let left = (x1 * w).min(w - width - 2.0).max(2.0);
        let top = (y1 * h - 7.0 * DOT).max(2.0);
        let mut layer = Layer::of(picture);
        layer.polygon(&corners, 1.0);
        layer.text(&label, (left, top), DOT);
        let colour = if region.explained_by.is_some() {
            EXPLAINED
        } else {
            UNEXPLAINED
        };
        layer.over_outlined(picture, colour, 1, 0.8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_regions_are_boxed_over_the_newest_look_only() {
        let region = |x1: f32, explained_by: Option<&str>| RegionStatus {
            bbox: BBox {
                x1,
                y1: 0.0,
                x2: x1 + 0.1,
                y2: 0.5,
            },
            score: 0.87,
            since: jiff::Timestamp::UNIX_EPOCH,
            explained_by: explained_by.map(Into::into),
        };
        let regions = [region(0.0, None), region(0.9, Some("vehicle"))];
        let drawing = Drawing {
            zones: Vec::new(),
            regions: &regions,
            zone: &TimeZone::UTC,
        };
        let grey = GrayImage::from_pixel(320, 180, image::Luma([128]));
        let sheet = comparison(Some(&grey), Some(&grey), &drawing);
        let coloured = |from: u32, to: u32| {
            let pixels = (from..to).flat_map(|x| (0..360).map(move |y| (x, y)));
            pixels.filter(|(x, y)| {
                let Rgb([r, g, b]) = *sheet.get_pixel(*x, *y);
                r > g.saturating_add(40) && r > b.saturating_add(40)
            })
        };
        assert_eq!(coloured(0, PICTURE_WIDTH).count(), 0, "the learned view");
        let newest = PICTURE_WIDTH + GAP;
        // The left edge of the first region, and the right edge of the second.
        assert!(coloured(newest, newest + 4).count() > 100);
        assert!(coloured(newest + PICTURE_WIDTH - 4, newest + PICTURE_WIDTH).count() > 100);
    }
}
