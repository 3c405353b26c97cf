//! `gridwatch view absorb`: the operator says that what is in a box belongs to the street.

use std::time::Duration;

use serde::Serialize;

use super::{find_view, wait_for_daemon};
use crate::audit::Act;
use crate::cli::{Failure, cases::full_id, json_line, print};
use gridwatch_base::error::Class;
use gridwatch_config::{Config, Preset};
use gridwatch_engine::{BBox, CameraId, CaseState};
use gridwatch_store::{Filter, Store};
use gridwatch_vision::views::{ViewFiles, ViewRequest};

/// Absorb what is in a box into the background: it belongs to the street.
///
/// The daemon learns the box anew from the next 30 looks, in every light. From then on, what stands there counts as background, and its removal
/// as a change. `gridwatch view list` prints the boxes of what is new, and `gridwatch view show` draws them. What an open case is about
/// stays out of the background until the platform has closed or rejected the case; what it rejects is absorbed by itself.
#[derive(Debug, clap::Args)]
pub(super) struct AbsorbArgs {
    /// Camera id, or CAMERA.PRESET for a PTZ camera (absorbed when the camera next reaches the preset). Not with --case.
    #[arg(required_unless_present = "case", conflicts_with = "case")]
    camera: Option<String>,
    /// Left, top, right and bottom edge as fractions of the picture, such as 0.40,0.55,0.48,0.70.
    #[arg(long = "box", value_name = "X1,Y1,X2,Y2", value_parser = parse_box, required_unless_present = "case", conflicts_with = "case")]
    bbox: Option<BBox>,
    /// Take the camera and the box from this case, which must have ended; its id, or its first characters.
    #[arg(long, value_name = "CASE_ID")]
    case: Option<String>,
    /// Seconds to wait for the daemon to process the request; it is processed at the next look in any case.
    #[arg(long, default_value_t = 60)]
    wait: u64,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Smallest side of a box, as a fraction of the picture: a cell at `change.width = 480` is 0.006 wide and 0.011 high, and a box that
/// covers no cell would absorb nothing.
const MIN_SIDE: f32 = 0.02;

/// Share of a box that an open case may cover; beyond it, there is nothing left to absorb.
const MAX_HELD: f64 = 0.5;

fn parse_box(text: &str) -> Result<BBox, String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|n| n.trim().parse::<f32>()).collect();
    let Some([x1, y1, x2, y2]) = numbers.ok().and_then(|n| <[f32; 4]>::try_from(n).ok()) else {
        return Err(
            "not four numbers; write X1,Y1,X2,Y2 as fractions of the picture, such as 0.40,0.55,0.48,0.70".into(),
        );
    };
    // NaN is in no range.
    if ![x1, y1, x2, y2].iter().all(|v| (0.0..=1.0).contains(v)) {
        return Err("not within 0..=1: edges are fractions of the picture's width and height, not pixels".into());
    }
    if x2 - x1 < MIN_SIDE || y2 - y1 < MIN_SIDE {
        return Err(format!("X2 must exceed X1, and Y2 exceed Y1, by {MIN_SIDE} or more"));
    }
    Ok(BBox { x1, y1, x2, y2 })
}

/// The result, with `--json`.
#[derive(Serialize)]
struct Absorbed<'a> {
    camera: &'a CameraId,
    /// Left, top, right, bottom, as fractions of the picture.
    #[serde(rename = "box")]
    corners: [f32; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    case_id: Option<&'a str>,
    /// Open cases that overlap the box; that part is not absorbed.
    held_by: Vec<String>,
}

/// What is to be absorbed.
struct Request<'a> {
    preset: &'a Preset,
    bbox: BBox,
    case_id: Option<String>,
}

/// Runs the command.
pub(super) fn run(config: &Config, args: &AbsorbArgs, act: &mut Act) -> Result<(), Failure> {
    let store = Store::open_read_only(&config.state_dir)?;
    let request = requested(config, &store, args)?;
    let id = &request.preset.view;
    let BBox { x1, y1, x2, y2 } = request.bbox;
    act.add("view", id);
    act.add("box", format!("{x1},{y1},{x2},{y2}"));
    if let Some(case) = &request.case_id {
        act.set_case(case);
    }
    let held_by = open_cases_in(&store, id, &request.bbox)?;
    if let Some((case, state, _)) = held_by.iter().find(|(.., share)| *share > MAX_HELD) {
        let message = format!(
            "case {case} is open ({}) and covers this box; what it is about stays out of the background until the platform closes \
             or rejects it. A rejected case is absorbed by itself",
            state.as_str()
        );
        return Err(Failure::new(Class::Config, message));
    }
    let files = ViewFiles::new(&config.state_dir, id.clone(), None);
    let wait = Duration::from_secs(args.wait);
    // One request a view at a time: a second would replace the first.
    let is_free = wait_for_daemon(&files, wait);
    if is_free {
        files.request(ViewRequest::Absorb(request.bbox))?;
    }
    if !is_free || !wait_for_daemon(&files, wait) {
        let what = match is_free {
            true => "it absorbs the box at its next look",
            false => "an earlier request is still waiting for it, so the box was not requested. Try again later",
        };
        let message = format!("the daemon took no look at camera {id} within {} s; {what}", args.wait);
        return Err(Failure::new(Class::Transient, message));
    }
    print(&report(&request, &held_by, args.json)?)
}

fn report(request: &Request<'_>, held_by: &[(String, CaseState, f64)], json: bool) -> Result<String, Failure> {
    let BBox { x1, y1, x2, y2 } = request.bbox;
    let id = &request.preset.view;
    if json {
        return json_line(&Absorbed {
            camera: id,
            corners: [x1, y1, x2, y2],
            case_id: request.case_id.as_deref(),
            held_by: held_by.iter().map(|(case, ..)| case.clone()).collect(),
        });
    }
    let mut text = format!(
        "Box {x1:.3},{y1:.3},{x2:.3},{y2:.3} of camera {id} becomes part of the background with the next clear looks.\n"
    );
    for (case, state, share) in held_by {
        let (percent, state) = ((share * 100.0).round().max(1.0), state.as_str());
        text += &format!("{percent} % of it stays out of the background: case {case} is open ({state}) there.\n");
    }
    Ok(text)
}

/// The view and the box that the arguments name.
fn requested<'a>(config: &'a Config, store: &Store, args: &AbsorbArgs) -> Result<Request<'a>, Failure> {
    let (camera, preset, bbox, case_id) = match (&args.case, &args.camera, args.bbox) {
        (Some(case), ..) => {
            let case_id = full_id(store, case)?;
            let (view, bbox) = ended_case(store, &case_id)?;
            let (camera, preset) = find_view(config, &view)?;
            (camera, preset, bbox, Some(case_id))
        }
        (None, Some(view), Some(bbox)) => {
            let (camera, preset) = find_view(config, view)?;
            (camera, preset, bbox, None)
        }
        // The parser requires one or the other.
        _ => return Err(Failure::new(Class::Config, "name a camera and --box, or --case")),
    };
    if camera.change.is_none() {
        let message = format!(
            "camera {} has no change map (change.enabled = false), so nothing counts as new there and there is nothing to absorb",
            camera.id
        );
        return Err(Failure::new(Class::Config, message));
    }
    Ok(Request { preset, bbox, case_id })
}

/// The view and the box of a case that has ended.
fn ended_case(store: &Store, id: &str) -> Result<(String, BBox), Failure> {
    let file = store.case(id)?;
    let record = file
        .map(|f| f.record)
        .ok_or_else(|| Failure::new(Class::Config, format!("no case {id}")))?;
    if record.state.is_open() {
        let message = format!(
            "case {id} is open ({}): what it is about stays out of the background until the platform closes or rejects it. A rejected \
             case is absorbed by itself; after a closed one, run this command again",
            record.state.as_str()
        );
        return Err(Failure::new(Class::Config, message));
    }
    let bbox = record.bbox().ok_or_else(|| {
        let message =
            format!("the record of case {id} has no picture, so its box is unknown; give the camera and --box");
        Failure::new(Class::Data, message)
    })?;
    Ok((record.view(), bbox))
}

/// The open cases of a view that overlap `bbox`, with the share of it that each covers.
fn open_cases_in(store: &Store, view: &CameraId, bbox: &BBox) -> Result<Vec<(String, CaseState, f64)>, Failure> {
    let mut found = Vec::new();
    for state in CaseState::ALL.into_iter().filter(|s| s.is_open()) {
        let filter = Filter {
            state: Some(state),
            limit: u32::MAX,
        };
        for case in store.cases(filter)? {
            let Some(record) = store.case(&case.case_id)?.map(|f| f.record) else {
                continue;
            };
            let share = record.bbox().map_or(0.0, |case_box| bbox.share_in(&case_box));
            if record.view() == view.as_str() && share > 0.0 {
                found.push((case.case_id, state, share));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_four_fractions_in_order() {
        let bbox = parse_box("0.1, 0.2,0.3,0.4").unwrap();
        assert_eq!((bbox.x1, bbox.y2), (0.1, 0.4));
        for (text, reason) in [
            ("0.1,0.2,0.3", "four numbers"),
            ("a,b,c,d", "four numbers"),
            ("100,200,300,400", "pixels"),
            ("NaN,0,1,1", "0..=1"),
            ("0.3,0.2,0.1,0.4", "must exceed"),
            ("0.1,0.2,0.101,0.4", "must exceed"),
        ] {
            let error = parse_box(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
