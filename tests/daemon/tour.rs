//! A touring camera in the whole daemon: it judges nothing until its presets are confirmed and nothing between them, and files
//! cases from each preset.

use crate::daemon;
use std::{sync::Arc, time::Duration};

use crate::broker::Broker;
use crate::daemon::{Daemon, changed_clip, gridwatch, json_lines, root};
use gridwatch_config::raw;
use gridwatch_farm as farm;
use gridwatch_farm::{Clip, Farm, FarmConfig, MountConfig};
use gridwatch_ledger::{Reader, RecordedEvent};

const CAMERA: &str = "street-a";

/// The picture at one of the camera's stops: another camera's clip.
fn clip(id: &str) -> Arc<Clip> {
    farm::clip(root().join(format!("demo/clips/{id}.mp4"))).unwrap()
}

/// Makes `street-a` tour between its own street and the square, with a short tour.
fn make_tour(file: &mut raw::File, square: &raw::Camera) {
    let camera = &mut file.cameras[0];
    let preset = |id: &str, of: &raw::Camera| raw::Preset {
        id: id.into(),
        address: Some(format!("{id} of the corner")),
        place: of.place.clone().unwrap(),
        calibration: None,
        approved_signs: None,
        zones: of.zones.clone(),
    };
    let presets = vec![preset("north", camera), preset("south", square)];
    *camera = raw::Camera {
        place: None,
        calibration: None,
        approved_signs: None,
        address: None,
        zones: Vec::new(),
        presets,
        tour: Some(raw::Span(Duration::from_secs(60))),
        ..camera.clone()
    };
}

fn standings(daemon: &Daemon) -> Vec<(String, String)> {
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    json_lines(&["view", "list", "--json", "--config", daemon.config()])
        .iter()
        .map(|line| (text(&line["camera"]), text(&line["standing"])))
        .collect()
}

fn standings_of(north: &str, south: &str) -> Vec<(String, String)> {
    [("north", north), ("south", south)]
        .map(|(preset, standing)| (format!("{CAMERA}.{preset}"), standing.to_owned()))
        .into()
}

fn confirm(daemon: &Daemon, view: &str) {
    let out = gridwatch(&["view", "confirm", view, "--config"])
        .arg(daemon.config())
        .output()
        .unwrap();
    assert!(out.status.success(), "{view}: {out:?}\n{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touring_camera_files_cases_from_its_confirmed_presets() {
    let dir = tempfile::tempdir().unwrap();
    let [north, south] = ["street-a", "square-c"].map(clip);
    // Halfway between the presets and still zoomed in: the heap is in the picture.
    let on_the_way = changed_clip(
        dir.path(),
        "on-the-way",
        &["-vf", "crop=1152:648:128:72,scale=1280:720"],
    );
    let farm = Farm::start(FarmConfig {
        mounts: vec![MountConfig {
            name: CAMERA.into(),
            clip: Arc::clone(&north),
            offset: Duration::ZERO,
        }],
        ..FarmConfig::default()
    })
    .unwrap();
    let broker = Broker::start();
    let mut daemon = Daemon::start_with(dir.path(), &farm, &[CAMERA], broker.port, |file| {
        make_tour(file, &daemon::camera("square-c"));
    });

    // The heap is in view, but no preset is confirmed yet.
    daemon.until("looks at no known preset", |d| {
        (d.metric("gridwatch_looks_total", "between_presets") >= 8.0).then_some(())
    });
    assert_eq!(standings(&daemon), standings_of("learning", "learning"));
    assert_eq!(daemon.metric("gridwatch_cases_total", ""), 0.0);

    confirm(&daemon, &format!("{CAMERA}.north"));
    farm.swap(CAMERA, Arc::clone(&south)).unwrap();
    daemon.until("the camera to have turned", |d| {
        let turned = d.metric("gridwatch_looks_total", "between_presets");
        (turned >= 14.0).then_some(())
    });
    confirm(&daemon, &format!("{CAMERA}.south"));
    assert_eq!(standings(&daemon), standings_of("aimed", "aimed"));
    daemon.until("a case from the south", |d| {
        (d.metric("gridwatch_cases_total", "vendor") == 1.0).then_some(())
    });

    farm.swap(CAMERA, on_the_way).unwrap();
    let before = daemon.metric("gridwatch_looks_total", "between_presets");
    daemon.until("looks on the way", |d| {
        (d.metric("gridwatch_looks_total", "between_presets") >= before + 10.0).then_some(())
    });
    assert_eq!(daemon.metric("gridwatch_cases_total", "garbage"), 0.0);

    farm.swap(CAMERA, north).unwrap();
    daemon.until("a case from the north", |d| {
        (d.metric("gridwatch_cases_total", "garbage") == 1.0).then_some(())
    });
    // The approved signs of a preset are recorded from looks at that preset.
    let signs = dir.path().join("north.toml");
    let recorded = gridwatch(&[
        "signs",
        "record",
        &format!("{CAMERA}.north"),
        "--looks",
        "2",
        "--every",
        "2s",
        "--out",
    ])
    .arg(&signs)
    .args(["--config", daemon.config()])
    .output()
    .unwrap();
    assert!(recorded.status.success(), "{recorded:?}");
    let recorded = gridwatch_config::read_signs(&signs).unwrap();
    assert_eq!(recorded.camera, format!("{CAMERA}.north"));
    assert!(!recorded.signs.is_empty(), "two boards hang there");

    let config = daemon.config().to_owned();
    assert!(daemon.stop().success());

    let cases = json_lines(&["cases", "list", "--json", "--config", &config]);
    let mut filed: Vec<[String; 4]> = cases
        .iter()
        .map(|case| {
            let id = case["case_id"].as_str().unwrap();
            let record = &json_lines(&["cases", "show", id, "--json", "--config", &config])[0]["record"];
            let fields = [
                &record["camera"]["preset_id"],
                &record["camera"]["local_id"],
                &record["address"],
                &case["category_code"],
            ];
            fields.map(|field| field.as_str().unwrap_or_default().to_owned())
        })
        .collect();
    filed.sort();
    let wanted = [("north", "0102"), ("south", "0501")];
    assert_eq!(
        filed,
        wanted.map(|(preset, category)| {
            [preset, CAMERA, &format!("{preset} of the corner"), category].map(String::from)
        })
    );

    let mut recorded = Reader::open(&dir.path().join("state/ledger"), None).unwrap();
    let (mut reaimed, mut looked) = (Vec::new(), std::collections::BTreeSet::new());
    while let Some(entry) = recorded.next_entry().unwrap() {
        match entry.event {
            RecordedEvent::Reaimed(r) => reaimed.push(r.camera.to_string()),
            RecordedEvent::Observed(look) => {
                looked.insert(look.camera.to_string());
            }
            _ => {}
        }
    }
    let views = ["north", "south"].map(|preset| format!("{CAMERA}.{preset}"));
    assert_eq!(reaimed, views);
    assert_eq!(looked.into_iter().collect::<Vec<_>>(), views);
}
