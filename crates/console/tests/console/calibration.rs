//! The calibration's page, and the fit behind it.

use std::fs;

use gridwatch_console::daemon::Daemon as _;
use gridwatch_engine::{CameraId, Place};
use serde_json::{Value, json};

use crate::{
    street::Served,
    zones::{data_of, scripting, send_json},
};

const PAGE: &str = "/cameras/street-a/calibration";
const FIT: &str = "/api/v1/views/street-a/calibration/fit";

fn points(served: &Served) -> Vec<Value> {
    let page = served.logged_in("viewer").get(PAGE);
    data_of(&page, "ground-calibration")["points"]
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn pairs_are_fitted_as_the_configuration_would() {
    let served = Served::with_users();
    let mut viewer = scripting(&served, "viewer");
    let points = points(&served);
    let body = json!({ "points": points, "crs": "EPSG:4490", "max_uncertainty_m": 5.0, "distortion": null });
    let answer = send_json(&mut viewer, "POST", FIT, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let fit = answer.json();
    assert_eq!(fit["residuals_m"].as_array().unwrap().len(), points.len());
    assert!(fit["rms_m"].as_f64().unwrap() < 0.1, "{fit}");
    let lines = fit["grid"]["lines"].as_array().unwrap();
    assert!(
        lines.len() > 5 && fit["grid"]["step_m"].as_f64().unwrap() >= 1.0,
        "{fit}"
    );
    assert!(lines.iter().flat_map(|line| line.as_array().unwrap()).all(|point| {
        let (x, y) = (point[0].as_f64().unwrap(), point[1].as_f64().unwrap());
        (-0.5..=1.5).contains(&x) && (-0.5..=1.5).contains(&y)
    }));
    assert!(answer.body.len() < 200_000, "{}", answer.body.len());
    let acts = served.street.acts();
    assert!(!acts.iter().any(|(name, _)| name.contains("fit")), "a fit is no act");
}

#[test]
fn pairs_that_give_no_calibration_are_told_in_the_language_of_the_page() {
    let served = Served::with_users();
    let mut viewer = scripting(&served, "viewer");
    let good = points(&served);
    let mut twice = good.clone();
    twice[3]["picture"] = twice[0]["picture"].clone();
    let mut far = good.clone();
    far[2]["ground"] = json!([500, 1e308]);
    for (points, crs, code, pairs, words) in [
        (good[..3].to_vec(), "EPSG:4490", "too_few", json!([]), "至少需要四对"),
        (twice, "EPSG:4490", "duplicate", json!([0, 3]), "第 1 点与第 4 点重合"),
        (far, "EPSG:4490", "out_of_range", json!([2]), "第 3 点"),
        (good.clone(), "EPSG:1", "invalid", json!([]), "EPSG:1"),
        (vec![good[0].clone(); 300], "EPSG:4490", "invalid", json!([]), "300"),
    ] {
        let answer = send_json(&mut viewer, "POST", FIT, &json!({ "points": points, "crs": crs }));
        let told = answer.json();
        assert_eq!(
            (answer.status, &told["code"], &told["pairs"]),
            (422, &json!(code), &pairs),
            "{told}"
        );
        assert!(told["message"].as_str().unwrap().contains(words), "{told}");
    }
    let lens = json!({ "points": good, "distortion": { "k1": -0.9, "k2": 0.0, "aspect": 1.78 } });
    assert_eq!(send_json(&mut viewer, "POST", FIT, &lens).json()["code"], "lens");
    for wrong in [
        json!({}),
        json!({ "points": [{ "picture": [0] }] }),
        json!({ "points": "x" }),
    ] {
        assert_eq!(send_json(&mut viewer, "POST", FIT, &wrong).status, 400, "{wrong}");
    }
    assert_eq!(
        send_json(&mut scripting(&served, "east"), "POST", FIT, &lens).status,
        404
    );
}

#[test]
fn pairs_are_saved_by_the_form_and_shown_again_if_they_are_not() {
    let served = Served::with_users();
    let mut operator = served.logged_in("operator");
    let mut points = points(&served);
    let revision = |browser: &mut crate::http::Client| {
        browser.get("/api/v1/views/street-a/calibration").json()["revision"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first = revision(&mut operator);
    points.remove(5);
    let text = Value::Array(points.clone()).to_string();
    let answer = served.post(&mut operator, PAGE, PAGE, &[("revision", &first), ("points", &text)]);
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/cameras/street-a/calibration?saved=2")),
        "{}",
        answer.text()
    );
    let page = operator.get("/cameras/street-a/calibration?saved=2");
    assert!(
        page.contains("已保存为第 2 版") && page.contains("calibration.points"),
        "{}",
        page.text()
    );
    let written = fs::read_to_string(served.main()).unwrap();
    assert!(
        written.contains("max_uncertainty_m = 5.0"),
        "settings beside the points stay"
    );
    // Another's page is older now.
    let mut admin = served.logged_in("admin");
    let mine = Value::Array(points[..4].to_vec()).to_string();
    let refused = served.post(&mut admin, PAGE, PAGE, &[("revision", &first), ("points", &mine)]);
    assert_eq!(refused.status, 409);
    assert!(
        refused.contains("operator于") && refused.contains("以我的内容保存"),
        "{}",
        refused.text()
    );
    assert_eq!(
        data_of(&refused, "ground-calibration")["points"]
            .as_array()
            .unwrap()
            .len(),
        4,
        "what was entered is still there"
    );
    assert_eq!(fs::read_to_string(served.main()).unwrap(), written);
    // Three pairs are a fault, and none is no calibration.
    let now = revision(&mut operator);
    let three = Value::Array(points[..3].to_vec()).to_string();
    let refused = served.post(&mut operator, PAGE, PAGE, &[("revision", &now), ("points", &three)]);
    assert_eq!(refused.status, 422);
    assert!(refused.contains("calibration.points"), "{}", refused.text());
    assert_eq!(
        served
            .post(&mut operator, PAGE, PAGE, &[("revision", &now), ("points", "[]")])
            .status,
        303
    );
    let place = &served.street.config().plan.cameras[&CameraId::from("street-a")]
        .place
        .clone();
    assert!(matches!(place, Place::Fixed(_)), "{place:?}");
    // And anew, where there was none.
    let now = revision(&mut operator);
    let all = Value::Array(points).to_string();
    assert_eq!(
        served
            .post(&mut operator, PAGE, PAGE, &[("revision", &now), ("points", &all)])
            .status,
        303
    );
    for wrong in ["", "{}", "[", "null"] {
        let answer = served.post(&mut operator, PAGE, PAGE, &[("revision", &now), ("points", wrong)]);
        assert_eq!(answer.status, 400, "{wrong}");
    }
    let viewer = served.post(
        &mut served.logged_in("viewer"),
        PAGE,
        PAGE,
        &[("revision", &now), ("points", "[]")],
    );
    assert_eq!(viewer.status, 403);
}
