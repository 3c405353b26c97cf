//! What an operator of a group of cameras can reach of the others: each operation of the JSON API, with the camera in path, query and body.

use std::{collections::BTreeSet, fs};

use gridwatch_base::secret::Secret;
use gridwatch_config::edit::{Editor, SaveRequest};
use gridwatch_web::{Role, accounts::NewUser};
use serde_json::{Value, json};

use crate::{
    http::{Client, Response},
    street::{PASSWORD, Served},
};

/// With `east-operator`, who sees the camera street-b only.
fn served() -> Served {
    let served = Served::with_users();
    served
        .accounts()
        .add(&NewUser {
            name: "east-operator",
            role: Role::Operator,
            groups: BTreeSet::from(["east".to_owned()]),
            password: Some(&Secret::new(PASSWORD)),
        })
        .unwrap();
    served
}

fn operator(served: &Served) -> Client {
    let mut browser = served.logged_in("east-operator").with("Accept-Language", "en");
    let code = browser.get("/account").csrf();
    browser.with("X-CSRF-Token", &code)
}

fn send(browser: &mut Client, method: &str, path: &str, body: &Value) -> Response {
    match method {
        "GET" => browser.get(path),
        _ => browser.send(method, path, "application/json", body.to_string().as_bytes()),
    }
}

#[test]
fn every_operation_on_a_view_of_others_is_as_if_there_were_none() {
    let served = served();
    let mut browser = operator(&served);
    let revision = browser.get("/api/v1/views/street-b/zones").json()["revision"].clone();
    let pair = json!({ "picture": [0.5, 0.5], "ground": [121.5, 31.2] });
    let body = |path: &str| match path.rsplit('/').next() {
        Some("zones") => json!({ "revision": revision, "zones": [] }),
        Some("calibration") => json!({ "revision": revision, "points": [] }),
        Some("signs") => json!({ "revision": revision, "signs": [] }),
        Some("preset" | "presets") => json!({ "revision": revision, "id": "west", "lon": 121.5, "lat": 31.2 }),
        Some("{id}") => json!({ "revision": revision }),
        Some("fit") => json!({ "points": [pair, pair, pair, pair] }),
        _ => json!({}),
    };
    let mut tried = 0;
    for route in &served.routes {
        if !route.path.contains("{view}") || !route.path.starts_with("/api/") {
            continue;
        }
        for view in [
            "street-a",
            "street-a%2e",
            "street-b%2F..%2Fstreet-a",
            "street-a%00",
            "%C0%AE",
        ] {
            let mut path = route.path.replace("{view}", view).replace("{id}", "permit");
            if route.method == "DELETE" {
                path += "?revision=x";
            }
            let answer = send(&mut browser, &route.method, &path, &body(route.path));
            assert!(
                matches!(answer.status, 400 | 404),
                "{} {path}: {} {}",
                route.method,
                answer.status,
                answer.text()
            );
            assert!(view != "street-a" || answer.status == 404, "{path}: {}", answer.text());
        }
        tried += 1;
    }
    assert!(tried >= 12, "{tried}");
    let before = fs::read(&served.config().file).unwrap();
    for (method, path, body) in [
        ("DELETE", "/api/v1/cameras/street-a", Value::Null),
        ("GET", "/api/v1/configuration", Value::Null),
        ("GET", "/api/v1/configuration/versions", Value::Null),
        (
            "GET",
            "/api/v1/configuration/changes?from=current&to=current",
            Value::Null,
        ),
        ("GET", "/api/v1/schedules", Value::Null),
        (
            "PUT",
            "/api/v1/schedules/x",
            json!({ "revision": revision, "windows": [] }),
        ),
        (
            "POST",
            "/api/v1/rules/garbage/thresholds",
            json!({ "revision": revision, "thresholds": { "start_score": 0.4 } }),
        ),
        ("GET", "/api/v1/outbox", Value::Null),
        ("POST", "/api/v1/outbox/retry", json!({})),
        ("GET", "/api/v1/models", Value::Null),
        (
            "POST",
            "/api/v1/models/garbage_nano_416/use",
            json!({ "version": "1.0.0", "camera": "street-a" }),
        ),
        ("GET", "/api/v1/metrics", Value::Null),
    ] {
        let answer = send(&mut browser, method, path, &body);
        assert!(
            matches!(answer.status, 403 | 404),
            "{method} {path}: {} {}",
            answer.status,
            answer.text()
        );
    }
    assert_eq!(fs::read(&served.config().file).unwrap(), before, "nothing was written");
}

#[test]
fn what_is_recorded_of_others_is_not_listed_by_any_query() {
    let served = served();
    let other = served.record(None)[0].id.to_string();
    let own = served.file_case(7, "street-b", true);
    let mut browser = operator(&served);
    for path in [
        "/api/v1/views",
        "/api/v1/cases",
        "/api/v1/cases?camera=street-a",
        &format!("/api/v1/cases?id={}", &other[..8]),
        &format!("/api/v1/cases?after={own}"),
        "/api/v1/cases/map",
        "/api/v1/cases/map?camera=street-a",
        "/api/v1/candidates?from=2026-06-01&until=2026-06-01&unstarted=true",
        "/api/v1/candidates?from=2026-06-01&until=2026-06-01&camera=square-c",
        "/api/v1/what-if?rule=garbage&camera=street-a",
        "/api/v1/what-if?rule=garbage&start_score=0.4&camera=street-a,square-c",
        "/api/v1/reviews/progress",
        "/api/v1/system",
        "/api/v1/status",
    ] {
        let answer = browser.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        for hidden in ["street-a", "square-c", other.as_str()] {
            assert!(!answer.contains(hidden), "{path} tells of {hidden}: {}", answer.text());
        }
    }
    for (method, path) in [
        ("GET", ""),
        ("GET", "/check"),
        ("GET", "/reviews"),
        ("GET", "/evidence/e0"),
        ("DELETE", "/review"),
    ] {
        let path = format!("/api/v1/cases/{other}{path}");
        let answer = send(&mut browser, method, &path, &Value::Null);
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
    }
    let verdict = json!({ "verdict": "true" });
    let path = format!("/api/v1/cases/{other}/review");
    assert_eq!(send(&mut browser, "PUT", &path, &verdict).status, 404);
    // The same answer as for a case that does not exist.
    let mut duplicate = |of: &str| {
        let body = json!({ "verdict": "duplicate", "duplicate_of": of });
        let answer = send(&mut browser, "PUT", &format!("/api/v1/cases/{own}/review"), &body);
        (answer.status, answer.text().replace(of, "X"))
    };
    assert_eq!(duplicate(&other), duplicate("01J0000000000000000000000"));
}

#[test]
fn a_conflict_tells_of_the_own_camera_only() {
    let served = served();
    let mut browser = operator(&served);
    let old = browser.get("/api/v1/views/street-b/zones").json()["revision"].clone();
    // Somebody else changes both cameras, in the files.
    let mut editor = Editor::open(&served.config().file).unwrap();
    for camera in ["street-a", "street-b"] {
        let zones = json!([{ "id": "new", "kind": "watch", "polygon": [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]] }]);
        editor.set(&format!("cameras[{camera}].zones"), &zones).unwrap();
    }
    let revision = editor.revision().to_owned();
    editor
        .save(&SaveRequest {
            expected_revision: &revision,
            who: "wang",
            why: "",
        })
        .unwrap();
    served.reload();
    let body = json!({ "revision": old, "zones": [] });
    let conflict = send(&mut browser, "PUT", "/api/v1/views/street-b/zones", &body);
    assert_eq!(conflict.status, 409, "{}", conflict.text());
    assert!(
        conflict.contains("street-b") || conflict.contains("new"),
        "{}",
        conflict.text()
    );
    assert!(!conflict.contains("street-a"), "{}", conflict.text());
}

#[test]
fn the_faults_of_a_refused_configuration_are_not_for_users_of_a_group() {
    let served = served();
    *served.street.reload_error.lock().unwrap() = Some("cameras[street-a].url: unsupported scheme".into());
    for path in ["/", "/api/v1/status"] {
        let seen = operator(&served).get(path);
        assert!(
            seen.status == 200 && !seen.contains("unsupported scheme"),
            "{path}: {}",
            seen.text()
        );
        assert!(
            served.logged_in("operator").get(path).contains("unsupported scheme"),
            "{path}"
        );
    }
}

#[test]
fn thresholds_are_tried_by_users_of_a_group_and_applied_by_others() {
    let served = served();
    served.record(None);
    let mut browser = operator(&served);
    let page = browser.ask("/thresholds?rule=garbage&start_score=0.4");
    assert!(
        page.contains("restricted to groups") && !page.contains("name=\"revision\""),
        "{}",
        page.text()
    );
    let revision = Editor::open(&served.config().file).unwrap().revision().to_owned();
    let fields = [("rule", "garbage"), ("start_score", "0.4"), ("revision", &revision)];
    let answer = served.post(&mut browser, "/account", "/thresholds", &fields);
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_ne!(served.config().plan.rules[0].day.start, 0.4);
}
