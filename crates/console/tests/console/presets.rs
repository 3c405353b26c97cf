//! The pages of a camera's presets, and their API.

use std::fs;

use gridwatch_vision::views::{Standing, ViewFiles, ViewRequest, ViewStatus};
use serde_json::{Value, json};

use crate::{
    http::Client,
    street::{Served, at},
    zones::{scripting, send_json},
};

fn state(browser: &mut Client, name: &str) -> Value {
    browser.get(&format!("/api/v1/views/{name}/presets")).json()
}

fn revision(browser: &mut Client, name: &str) -> String {
    state(browser, name)["revision"].as_str().unwrap().to_owned()
}

/// Makes the present view of street-b the preset `east`.
fn convert(served: &Served, operator: &mut Client) {
    let now = revision(operator, "street-b");
    let fields = [("revision", &*now), ("id", "east"), ("tour", "10m"), ("learn", "1")];
    let done = served.post(operator, "/", "/cameras/street-b/presets/convert", &fields);
    assert_eq!(
        (done.status, done.header("location")),
        (
            303,
            Some("/cameras/street-b.east/presets?saved=street-b.east&learning=true")
        ),
        "{}",
        done.text()
    );
}

#[test]
fn a_fixed_camera_gets_presets_which_are_recorded_renamed_and_removed() {
    let served = Served::with_users();
    let mut operator = served.logged_in("operator");
    let page = operator.get("/cameras/street-b/presets");
    assert!(
        page.contains("按固定摄像机查看") && page.contains("本系统不控制云台"),
        "{}",
        page.text()
    );
    let zones = operator.get("/api/v1/views/street-b/zones").json()["zones"].clone();
    assert!(!zones.as_array().unwrap().is_empty());
    convert(&served, &mut operator);
    // All that describes the view went along, and the approved signs are those of the new name.
    let config = served.config();
    let camera = config
        .cameras
        .iter()
        .find(|camera| camera.id.as_str() == "street-b")
        .unwrap();
    assert_eq!(camera.presets[0].view.as_str(), "street-b.east");
    assert!(
        camera.presets[0]
            .approved_signs
            .as_ref()
            .unwrap()
            .ends_with("signs/street-b.east.toml")
    );
    assert_eq!(operator.get("/api/v1/views/street-b.east/zones").json()["zones"], zones);
    let files = ViewFiles::new(&served.state_dir(), "street-b.east".into(), None);
    assert_eq!(
        files.take_request().unwrap(),
        Some(ViewRequest::Confirm),
        "it is being learned"
    );
    files
        .write_status(&ViewStatus {
            standing: Standing::Aimed,
            since: at(0),
            shift: None,
        })
        .unwrap();
    assert!(
        operator.get("/cameras/street-b/presets").contains("画面位置正常"),
        "by the camera's id, too"
    );

    // The present position is recorded.
    let list = "/cameras/street-b.east/presets";
    let now = revision(&mut operator, "street-b");
    let mut fields = vec![
        ("revision", &*now),
        ("id", "west"),
        ("address", "世纪大道西口"),
        ("lon", "113.63"),
        ("lat", "34.75"),
        ("uncertainty_m", "40"),
        ("learn", "1"),
    ];
    let done = served.post(&mut operator, "/", list, &fields);
    assert_eq!(done.status, 303, "{}", done.text());
    let west = ViewFiles::new(&served.state_dir(), "street-b.west".into(), None);
    assert!(west.has_request());
    fields[1] = ("id", "a b");
    assert_eq!(served.post(&mut operator, "/", list, &fields).status, 400);
    fields[1] = ("id", "west");
    assert_eq!(
        served.post(&mut operator, "/", list, &fields).status,
        409,
        "it is there"
    );
    let seen = state(&mut operator, "street-b.west");
    assert_eq!(seen["views"][1]["preset"], "west", "{seen}");
    assert_eq!(seen["views"][1]["pending"], true);

    // Renamed: its zones stay.
    let now = revision(&mut operator, "street-b");
    let rename = [
        ("revision", &*now),
        ("id", "gate"),
        ("address", ""),
        ("lon", "113.63"),
        ("lat", "34.75"),
    ];
    let done = served.post(&mut operator, "/", "/cameras/street-b.east/preset", &rename);
    assert_eq!(done.status, 303, "{}", done.text());
    assert_eq!(operator.get("/cameras/street-b.east/zones").status, 404);
    assert_eq!(operator.get("/api/v1/views/street-b.gate/zones").json()["zones"], zones);
    let text = fs::read_to_string(served.main().with_file_name("signs").join("street-b.gate.toml")).unwrap();
    assert!(text.contains("camera = \"street-b.gate\""), "{text}");
    let taken = [
        ("revision", &*revision(&mut operator, "street-b")),
        ("id", "west"),
        ("lon", "1"),
        ("lat", "1"),
    ];
    assert_eq!(
        served
            .post(&mut operator, "/", "/cameras/street-b.gate/preset", &taken)
            .status,
        409
    );
    assert!(
        !served
            .main()
            .with_file_name("signs")
            .join("street-b.west.toml")
            .exists(),
        "no copy is left"
    );

    // Removed with what is said of it; the last one stays.
    let ask = operator.get("/cameras/street-b.west/preset/remove");
    assert!(
        ask.contains("可在“配置”页恢复以前的版本") && ask.contains("这里没有未结案卷"),
        "{}",
        ask.text()
    );
    let now = revision(&mut operator, "street-b");
    let remove = |served: &Served, operator: &mut Client, view: &str, now: &str| {
        served.post(
            operator,
            "/",
            &format!("/cameras/{view}/preset/remove"),
            &[("revision", now)],
        )
    };
    assert_eq!(remove(&served, &mut operator, "street-b.west", &now).status, 303);
    assert!(
        operator
            .get("/cameras/street-b.gate/preset/remove")
            .contains("最后一个预置位不能删除")
    );
    let now = revision(&mut operator, "street-b");
    assert_eq!(remove(&served, &mut operator, "street-b.gate", &now).status, 409);
    let acts: Vec<&str> = served.street.acts().into_iter().map(|(name, _)| name).collect();
    for name in [
        "console preset convert",
        "console preset add",
        "console preset",
        "console preset remove",
    ] {
        assert!(acts.contains(&name), "{name}: {acts:?}");
    }
}

#[test]
fn presets_are_learned_anew_and_changed_by_operators_of_their_group() {
    let served = Served::with_users();
    let mut operator = scripting(&served, "operator");
    let add = json!({ "revision": revision(&mut operator, "street-b"), "id": "west", "lon": 113.6, "lat": 34.7 });
    let path = "/api/v1/views/street-b/presets";
    assert_eq!(
        send_json(&mut operator, "POST", path, &add).status,
        409,
        "it is a fixed camera"
    );
    convert(&served, &mut operator);
    ViewFiles::new(&served.state_dir(), "street-b.east".into(), None)
        .cancel_request()
        .unwrap();
    let learn = served.post(&mut operator, "/", "/cameras/street-b.east/preset/learn", &[]);
    assert_eq!(learn.status, 303, "{}", learn.text());
    let mut add = add;
    add["revision"] = revision(&mut operator, "street-b").into();
    for (key, wrong) in [
        ("id", json!("a/b")),
        ("lon", json!(181)),
        ("lat", json!(-91)),
        ("uncertainty_m", json!(0.5)),
        ("address", json!("a\nb")),
    ] {
        let mut body = add.clone();
        body[key] = wrong;
        let answer = send_json(&mut operator, "POST", path, &body);
        assert_eq!(answer.status, 400, "{key}: {}", answer.text());
    }
    let saved = send_json(&mut operator, "POST", path, &add);
    assert_eq!(saved.status, 200, "{}", saved.text());
    let mut viewer = scripting(&served, "viewer");
    assert_eq!(send_json(&mut viewer, "POST", path, &add).status, 403);
    let page = viewer.get("/cameras/street-b.east/presets");
    assert!(
        page.status == 200 && !page.contains("/preset/remove"),
        "{}",
        page.text()
    );
    let mut east = scripting(&served, "east");
    assert_eq!(east.get("/cameras/street-b.west/presets").status, 200);
    assert_eq!(
        (
            east.get("/cameras/street-a/presets").status,
            east.get("/api/v1/views/street-a/presets").status
        ),
        (404, 404)
    );
    let change = json!({ "revision": revision(&mut operator, "street-b"), "id": "west", "address": "西口", "lon": 113.6, "lat": 34.7, "uncertainty_m": 25 });
    let one = "/api/v1/views/street-b.west/preset";
    assert_eq!(send_json(&mut operator, "PUT", one, &change).status, 200);
    assert_eq!(state(&mut operator, "street-b")["views"][1]["address"], "西口");
    assert_eq!(
        send_json(&mut operator, "PUT", "/api/v1/views/street-a/preset", &change).status,
        404,
        "no preset"
    );
    let now = revision(&mut operator, "street-b");
    let gone = operator.send("DELETE", &format!("{one}?revision={now}"), "", b"");
    assert_eq!(gone.status, 200, "{}", gone.text());
}
