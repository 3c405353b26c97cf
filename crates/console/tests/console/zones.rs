//! The zone editor's page, and what it sends.

use std::{fs, sync::Arc};

use gridwatch_config::{Camera, raw};
use gridwatch_console::daemon::Daemon as _;
use gridwatch_engine::{BBox, CameraId, Detection, Input, Light, Observation, View};
use gridwatch_ledger::{RecordedEngine, Recorder, RunInfo};
use gridwatch_web::audit::Outcome;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    http::{Client, Response},
    street::Served,
};

pub(crate) const ZONES: &str = "/api/v1/views/street-a/zones";

/// A logged-in browser whose scripts send the code of a page.
pub(crate) fn scripting(served: &Served, user: &str) -> Client {
    let mut browser = served.logged_in(user);
    let code = browser.get("/account").csrf();
    browser.with("X-CSRF-Token", &code)
}

pub(crate) fn send_json(browser: &mut Client, method: &str, path: &str, body: &Value) -> Response {
    browser.send(method, path, "application/json", body.to_string().as_bytes())
}

/// The JSON inside an element of a page.
pub(crate) fn data_of(page: &Response, element: &str) -> Value {
    let text = page.text();
    let at = text.find(&format!("<{element} ")).unwrap_or_else(|| panic!("{text}"));
    let json = text[at..].split("<script type=\"application/json\">").nth(1).unwrap();
    serde_json::from_str(json.split("</script>").next().unwrap()).unwrap()
}

fn zone(id: &str, x: f64) -> Value {
    json!({ "id": id, "kind": "watch", "polygon": [[x, 0.5], [0.9, 0.5], [0.9, 0.9]] })
}

#[test]
fn the_page_has_what_the_editor_needs() {
    let served = Served::with_users();
    let mut operator = served.logged_in("operator");
    let page = operator.get("/cameras/street-a/zones");
    assert_eq!(page.status, 200, "{}", page.text());
    let data = data_of(&page, "zone-editor");
    assert_eq!(data["zones"][0]["id"], "pavement");
    assert_eq!(
        (data["width"].as_u64(), data["height"].as_u64()),
        (Some(1280), Some(720))
    );
    assert!(
        data["picture"]
            .as_str()
            .unwrap()
            .starts_with("/cameras/street-a/picture?at=")
    );
    assert_eq!(data["rules"][0]["label"], "暴露垃圾 (garbage)");
    assert_eq!(data["revision"].as_str().unwrap().len(), 64);
    assert!(page.contains("save-url=\"/api/v1/views/street-a/zones\"") && page.contains("\"zone.kind.shop\":"));
    let english = operator.with("Accept-Language", "en").get("/cameras/street-a/zones");
    assert!(english.contains("Zones of street-a") && english.contains("\"save.save\":\"Save\""));
    let viewer = served.logged_in("viewer").get("/cameras/street-a/zones");
    assert!(viewer.contains(" readonly>") && !viewer.contains("save-url"));
    assert_eq!(served.logged_in("east").get("/cameras/street-a/zones").status, 404);
    assert_eq!(served.logged_in("admin").get("/cameras/nowhere/zones").status, 404);
}

#[test]
fn zones_are_saved_with_comments_kept_and_are_in_force() {
    let served = Served::with_users();
    let text = fs::read_to_string(served.main()).unwrap();
    fs::write(served.main(), format!("# by hand\n{text}")).unwrap();
    let mut operator = scripting(&served, "operator");
    let page = operator.get(ZONES).json();
    let mut zones = page["zones"].as_array().unwrap().clone();
    zones.push(zone("corner", 0.2));
    let answer = send_json(
        &mut operator,
        "PUT",
        ZONES,
        &json!({ "revision": page["revision"], "zones": zones }),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let saved = answer.json();
    assert_eq!(
        (&saved["in_force"], &saved["changes"]),
        (&json!(true), &json!(["cameras[street-a].zones[corner]: added (live)"]))
    );
    let written = fs::read_to_string(served.main()).unwrap();
    assert!(written.starts_with("# by hand\n") && written.contains("id = \"corner\""));
    let config = served.street.config();
    assert!(
        config.plan.cameras[&CameraId::from("street-a")]
            .zones
            .iter()
            .any(|zone| zone.id.as_str() == "corner")
    );
    assert_eq!(operator.get(ZONES).json()["revision"], saved["revision"]);
    let notice = operator.get("/cameras/street-a/zones/saved");
    assert!(
        notice.contains("已保存为第 2 版") && notice.contains("zones[corner]：新增"),
        "{}",
        notice.text()
    );
    let acts = served.street.acts.lock().unwrap();
    let act = acts.last().unwrap();
    assert_eq!((act.name, &act.outcome), ("console zones", &Outcome::Done));
    assert_eq!(
        act.details,
        [("view", "street-a".to_owned()), ("version", "2".to_owned())]
    );
}

#[test]
fn of_two_operators_on_the_same_zones_the_second_is_told_and_nothing_is_overwritten() {
    let served = Served::with_users();
    let (mut first, mut second) = (scripting(&served, "operator"), scripting(&served, "admin"));
    let page = first.get(ZONES).json();
    let body = |zones: Value| json!({ "revision": page["revision"], "zones": zones });
    let mine = body(json!([zone("mine", 0.3)]));
    assert_eq!(send_json(&mut first, "PUT", ZONES, &mine).status, 200);
    let written = fs::read(served.main()).unwrap();
    let conflict = send_json(&mut second, "PUT", ZONES, &body(json!([zone("other", 0.1)])));
    assert_eq!(conflict.status, 409, "{}", conflict.text());
    let told = conflict.json();
    assert_eq!(
        (&told["by"], &told["zones"][0]["id"]),
        (&json!("operator"), &json!("mine"))
    );
    assert_eq!(told["at"].as_str().unwrap().len(), 19);
    assert!(
        told["changes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|change| change == "cameras[street-a].zones[mine]: added (live)")
    );
    assert_eq!(fs::read(served.main()).unwrap(), written, "nothing is overwritten");
    {
        let acts = served.street.acts.lock().unwrap();
        let refused = acts.last().unwrap();
        assert!(
            matches!(&refused.outcome, Outcome::Refused(why) if why.contains("somebody else")),
            "{refused:?}"
        );
    }
    // The merge is a change of the present revision.
    let merged = json!({ "revision": told["revision"], "zones": [zone("mine", 0.3), zone("other", 0.1)] });
    assert_eq!(send_json(&mut second, "PUT", ZONES, &merged).status, 200);
    assert_eq!(second.get(ZONES).json()["zones"].as_array().unwrap().len(), 2);
}

#[test]
fn operators_on_two_cameras_do_not_disturb_each_other() {
    let served = Served::with_users();
    let (mut first, mut second) = (scripting(&served, "operator"), scripting(&served, "admin"));
    let revision = first.get(ZONES).json()["revision"].clone();
    let other = "/api/v1/views/street-b/zones";
    let body = json!({ "revision": revision, "zones": [zone("mine", 0.3)] });
    assert_eq!(send_json(&mut first, "PUT", ZONES, &body).status, 200);
    let answer = send_json(&mut second, "PUT", other, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    for path in [ZONES, other] {
        assert_eq!(first.get(path).json()["zones"][0]["id"], "mine", "{path}");
    }
}

#[test]
fn faults_are_told_with_their_places_and_nothing_is_written() {
    let served = Served::with_users();
    let mut operator = scripting(&served, "operator");
    let revision = operator.get(ZONES).json()["revision"].clone();
    let before = fs::read(served.main()).unwrap();
    let long: Vec<[f64; 2]> = (0..5).map(|i| [f64::from(i) * 3.0, 0.0]).collect();
    for (zones, place) in [
        (
            json!([{ "id": "a", "kind": "watch", "polygon": [[0, 0], [1, 1]] }]),
            "zones[0].polygon",
        ),
        (
            json!([{ "id": "a", "kind": "watch", "polygon": long }]),
            "zones[0].polygon",
        ),
        (
            json!([{ "id": "a", "kind": "square", "polygon": [[0, 0], [1, 0], [1, 1]] }]),
            "zones[0].kind",
        ),
        (
            json!([{ "id": "a/../b", "kind": "watch", "polygon": [[0, 0], [1, 0], [1, 1]] }]),
            "zones[0].id",
        ),
        (json!([zone("a", 0.1), zone("a", 0.2)]), "zones[1].id"),
        (
            json!([{ "id": "a", "kind": "permitted", "polygon": [[0, 0], [1, 0], [1, 1]], "schedule": "none" }]),
            "zones[0].schedule",
        ),
        (
            json!([{ "id": "a", "kind": "watch", "polygon": [[0, 0], [1, 0], [1, 1]], "rules": ["nothing"] }]),
            "zones[0].rules[0]",
        ),
        (json!([1, "x", null]), "zones"),
        (json!([[[[[]]]]]), "zones"),
    ] {
        let answer = send_json(
            &mut operator,
            "PUT",
            ZONES,
            &json!({ "revision": revision, "zones": zones }),
        );
        assert_eq!(answer.status, 422, "{zones}: {}", answer.text());
        let faults = answer.json()["faults"].clone();
        let is_there = |fault: &Value| fault["path"].as_str().unwrap().contains(place) && fault["file"] == "edge.toml";
        assert!(faults.as_array().unwrap().iter().any(is_there), "{place}: {faults}");
    }
    assert_eq!(fs::read(served.main()).unwrap(), before);
    for wrong in [
        json!({}),
        json!({ "revision": 1, "zones": [] }),
        json!({ "revision": "x", "zones": {} }),
        json!([]),
    ] {
        assert_eq!(send_json(&mut operator, "PUT", ZONES, &wrong).status, 400, "{wrong}");
    }
    let large = format!("{{\"revision\":\"x\",\"zones\":[\"{}\"]}}", "a".repeat(300 << 10));
    assert_eq!(
        operator.send("PUT", ZONES, "application/json", large.as_bytes()).status,
        413
    );
    let unknown = json!({ "revision": "0".repeat(64), "zones": [] });
    assert_eq!(send_json(&mut operator, "PUT", ZONES, &unknown).status, 409);
    assert_eq!(fs::read(served.main()).unwrap(), before);
}

#[test]
fn a_change_needs_role_code_and_camera() {
    let served = Served::with_users();
    let body = json!({ "revision": served.logged_in("viewer").get(ZONES).json()["revision"], "zones": [] });
    assert_eq!(
        send_json(&mut scripting(&served, "viewer"), "PUT", ZONES, &body).status,
        403
    );
    assert_eq!(
        send_json(&mut served.logged_in("operator"), "PUT", ZONES, &body).status,
        403,
        "without the code"
    );
    assert_eq!(send_json(&mut served.browser(), "PUT", ZONES, &body).status, 401);
    for view in ["nowhere", "..%2f..%2fedge", "street-a%2f..", "street-a.toml", "%00"] {
        let path = format!("/api/v1/views/{view}/zones");
        assert_eq!(
            send_json(&mut scripting(&served, "operator"), "PUT", &path, &body).status,
            404,
            "{view}"
        );
    }
    assert_eq!(served.logged_in("east").get(ZONES).status, 404);
    let all_zones_gone = send_json(&mut scripting(&served, "operator"), "PUT", ZONES, &body);
    assert_eq!(all_zones_gone.status, 200, "{}", all_zones_gone.text());
    assert!(
        served.street.config().plan.cameras[&CameraId::from("street-a")]
            .zones
            .is_empty()
    );
}

/// Moves the first camera into a file of its own, and makes it one with a preset.
fn with_preset(served: &Served) {
    let mut file: raw::File = toml::from_str(&fs::read_to_string(served.main()).unwrap()).unwrap();
    let mut camera = file.cameras.remove(0);
    camera.id = "ptz".into();
    let view = raw::Preset {
        id: "north".into(),
        address: camera.address.take(),
        place: camera.place.take().unwrap(),
        calibration: camera.calibration.take(),
        approved_signs: None,
        zones: std::mem::take(&mut camera.zones),
    };
    // A file of signs is for one view.
    camera.approved_signs = None;
    camera.presets = vec![view];
    camera.tour = Some(raw::Span(std::time::Duration::from_secs(600)));
    let mut part = toml::Table::new();
    part.insert("cameras".into(), toml::Value::try_from([camera]).unwrap());
    fs::create_dir_all(served.main().with_file_name("conf.d")).unwrap();
    fs::write(
        served.main().with_file_name("conf.d/ptz.toml"),
        format!("# the camera on the mast\n{part}"),
    )
    .unwrap();
    fs::write(served.main(), toml::to_string(&file).unwrap()).unwrap();
    served.reload();
}

#[test]
fn a_preset_in_a_file_of_its_own_is_changed_there() {
    let served = Served::with_users();
    with_preset(&served);
    let main = fs::read(served.main()).unwrap();
    let views: Vec<String> = served
        .street
        .config()
        .cameras
        .iter()
        .map(|camera: &Camera| camera.id.to_string())
        .collect();
    assert!(views.contains(&"ptz".to_owned()), "{views:?}");
    let mut operator = scripting(&served, "operator");
    let path = "/api/v1/views/ptz.north/zones";
    let page = operator.get(path).json();
    assert_eq!(page["zones"][0]["id"], "pavement");
    let body = json!({ "revision": page["revision"], "zones": [zone("mast", 0.4)] });
    let answer = send_json(&mut operator, "PUT", path, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let part = fs::read_to_string(served.main().with_file_name("conf.d/ptz.toml")).unwrap();
    assert!(
        part.starts_with("# the camera on the mast\n") && part.contains("id = \"mast\""),
        "{part}"
    );
    assert_eq!(fs::read(served.main()).unwrap(), main, "the main file is not touched");
    assert!(operator.get("/cameras/ptz.north/zones").contains("ptz.north"));
    let shown = operator.get("/cameras/ptz.north/calibration");
    assert_eq!(
        data_of(&shown, "ground-calibration")["points"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
}

/// Records three looks, two of them at street-a.
pub(crate) fn record_feet(served: &Served) {
    let config = served.street.config();
    let settings = config.ledger.clone().unwrap();
    let now = Timestamp::now();
    let run = RunInfo {
        started_at: now,
        boot: String::new(),
        config_sha256: config.config_sha256.clone(),
    };
    let recorder = Recorder::lossless(settings, run).unwrap();
    let mut engine = RecordedEngine::start(Arc::clone(&config.plan), Vec::new(), Some(recorder));
    for camera in ["street-a", "street-a", "street-b"] {
        let bbox = BBox {
            x1: 0.2,
            y1: 0.5,
            x2: 0.4,
            y2: 0.8,
        };
        drop(engine.apply(Input::Observed(Observation {
            camera: camera.into(),
            at: now,
            view: View::Clear,
            light: Light::Day,
            detections: vec![Detection::new("garbage", 0.9, bbox)],
            not_searched: Vec::new(),
        })));
    }
    engine.finish().unwrap();
}

#[test]
fn behind_the_zones_lies_what_happened_in_the_last_week() {
    let served = Served::with_users();
    let mut viewer = served.logged_in("viewer");
    let layers = "/cameras/street-a/zones/layers";
    assert_eq!(
        viewer.get(layers).json(),
        json!({ "foot_points": [], "cases": [] }),
        "before the first start"
    );
    record_feet(&served);
    assert_eq!(viewer.get(layers).json()["foot_points"], json!([[0.3, 0.8, 2]]));
    assert_eq!(served.logged_in("east").get(layers).status, 404);
}

#[test]
fn files_that_cannot_be_read_are_told_and_not_edited() {
    let served = Served::with_users();
    let mut operator = scripting(&served, "operator");
    let page = operator.get(ZONES).json();
    fs::write(served.main(), "[[cameras\nurl = 1").unwrap();
    let shown = operator.get("/cameras/street-a/zones");
    assert_eq!(shown.status, 200);
    assert!(
        shown.contains("无法读取") && shown.contains("edge.toml:1") && !shown.contains("<zone-editor"),
        "{}",
        shown.text()
    );
    let answer = send_json(
        &mut operator,
        "PUT",
        ZONES,
        &json!({ "revision": page["revision"], "zones": [] }),
    );
    assert_eq!(
        (answer.status, answer.json()["faults"][0]["line"].as_u64()),
        (422, Some(1))
    );
    assert_eq!(operator.get(ZONES).status, 422);
    assert_eq!(fs::read_to_string(served.main()).unwrap(), "[[cameras\nurl = 1");
}
