//! `gridwatch view list`: the state of each view, and what is new in it.

use std::fmt::Write;

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::cli::{Failure, json_line, print};
use gridwatch_base::text::counted;
use gridwatch_config::{Aim, Camera, Config, Preset};
use gridwatch_engine::{BBox, CameraId};
use gridwatch_vision::views::{ChangeStanding, ChangeStatus, RegionStatus, Standing, ViewFiles, ViewStatus};

/// A line of `view list --json`.
#[derive(Serialize)]
struct ViewLine<'a> {
    camera: &'a CameraId,
    /// False for a PTZ camera.
    fixed: bool,
    /// The preset of a PTZ camera.
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<&'a str>,
    #[serde(flatten)]
    status: Option<ViewStatus>,
    changes: Changes,
}

/// What a view's change map tells.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Changes {
    /// The camera has no change map.
    Off,
    /// No look was compared yet.
    Unknown,
    Learning(Published),
    Judging(Published),
    /// Looks are not compared: the camera was moved, or its light is not learned.
    Suspended(Published),
}

#[derive(Serialize)]
struct Published {
    /// The last look that changed something.
    at: Timestamp,
    looks_left: u8,
    variants: usize,
    regions: Vec<RegionStatus>,
    /// Regions that are not listed.
    more: usize,
}

impl Changes {
    fn of(camera: &Camera, files: &ViewFiles, standing: Option<Standing>) -> Result<Self, Failure> {
        if camera.change.is_none() {
            return Ok(Self::Off);
        }
        let Some(ChangeStatus {
            state,
            at,
            looks_left,
            variants,
            regions,
            more,
        }) = files.change_status()?
        else {
            return Ok(Self::Unknown);
        };
        let published = Published {
            at,
            looks_left,
            variants,
            regions,
            more,
        };
        // A view that was moved is not compared, and so nothing is published about it.
        Ok(match state {
            _ if standing == Some(Standing::Moved) => Self::Suspended(published),
            ChangeStanding::Learning => Self::Learning(published),
            ChangeStanding::Judging => Self::Judging(published),
            ChangeStanding::Suspended => Self::Suspended(published),
        })
    }

    fn text(&self, standing: Option<Standing>, now: Timestamp, zone: &TimeZone) -> String {
        let lights = |p: &Published| counted(p.variants, "light", "lights");
        let (state, published) = match self {
            Self::Off => return "  changes: off (change.enabled = false)\n".into(),
            Self::Unknown => return "  changes: no look compared yet\n".into(),
            Self::Learning(p) => {
                let left = counted(u32::from(p.looks_left), "look", "looks");
                (format!("learning, at least {left} left"), p)
            }
            Self::Judging(p) => (format!("judging, learned in {}", lights(p)), p),
            Self::Suspended(p) => {
                let why = match standing {
                    Some(Standing::Moved) => "the camera was moved",
                    _ => "in a light that is not learned, or hidden",
                };
                (format!("suspended: {why}; learned in {}", lights(p)), p)
            }
        };
        let mut text = format!("  changes: {state}\n");
        for region in &published.regions {
            let BBox { x1, y1, x2, y2 } = region.bbox;
            let since = region.since.to_zoned(zone.clone()).strftime("%F %H:%M").to_string();
            let _ = writeln!(
                text,
                "  new      {x1:.3},{y1:.3},{x2:.3},{y2:.3}  score {:.2}  since {since} ({})  {}",
                region.score,
                age(region.since, now),
                region
                    .explained_by
                    .as_ref()
                    .map_or("unexplained", |label| label.as_str()),
            );
        }
        if published.more > 0 {
            let _ = writeln!(text, "  new      and {} more", published.more);
        }
        text
    }
}

/// How long ago `since` was: `7 min`, `3 h 20 min`, `2 d 4 h`.
fn age(since: Timestamp, now: Timestamp) -> String {
    let minutes = now.duration_since(since).as_mins().max(0);
    match (minutes / (24 * 60), minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Runs the command.
pub(super) fn run(config: &Config, json: bool) -> Result<(), Failure> {
    let now = Timestamp::now();
    let mut text = String::new();
    let views = config
        .cameras
        .iter()
        .flat_map(|c| c.presets.iter().map(move |p| (c, p)));
    for (camera, preset) in views {
        let files = ViewFiles::new(&config.state_dir, preset.view.clone(), None);
        let status = files.status()?.filter(|_| camera.aim != Aim::Unwatched);
        let standing = status.as_ref().map(|s| s.standing);
        let changes = Changes::of(camera, &files, standing)?;
        if json {
            text += &json_line(&ViewLine {
                camera: &preset.view,
                fixed: camera.aim == Aim::Fixed,
                preset: preset.id.as_deref(),
                status,
                changes,
            })?;
            continue;
        }
        let state = aim_text(camera, preset, status, &config.timezone);
        let _ = writeln!(text, "{:<24} {state}", preset.view.as_str());
        text += &changes.text(standing, now, &config.timezone);
    }
    print(&text)
}

fn aim_text(camera: &Camera, preset: &Preset, status: Option<ViewStatus>, zone: &TimeZone) -> String {
    if camera.aim == Aim::Unwatched {
        return "not checked: moves by itself (fixed = false)".into();
    }
    let Some(ViewStatus {
        standing, since, shift, ..
    }) = status
    else {
        return "no look yet".into();
    };
    let since = since.to_zoned(zone.clone()).strftime("%F %H:%M:%S");
    match (standing, shift) {
        (Standing::Learning, _) if preset.id.is_some() => {
            format!(
                "UNKNOWN: move the camera there, then run `gridwatch view confirm {}`",
                preset.view
            )
        }
        (Standing::Learning, _) => format!("learning  since {since}"),
        (Standing::Aimed, _) => format!("aimed     since {since}"),
        (Standing::Moved, _) if preset.id.is_some() => {
            format!("MISSED    since {since}: the camera no longer reaches this preset")
        }
        (Standing::Moved, Some(shift)) => format!("MOVED     since {since}: {shift}"),
        (Standing::Moved, None) => format!("MOVED     since {since}: no part of the learned view found"),
    }
}
