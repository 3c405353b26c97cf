//! The page of the schedules.

use std::fs;

use serde_json::json;

use crate::{
    http::Client,
    street::Served,
    zones::{scripting, send_json},
};

fn revision(browser: &mut Client) -> String {
    browser.get("/api/v1/schedules").json()["revision"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn schedules_are_added_changed_and_removed_while_nothing_names_them() {
    let served = Served::with_users();
    let mut operator = served.logged_in("operator");
    assert!(operator.get("/hours").contains("还没有时段"));
    let add = [("revision", &*revision(&mut operator)), ("id", "market")];
    let answer = served.post(&mut operator, "/hours", "/hours", &add);
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/hours?saved=2")),
        "{}",
        answer.text()
    );
    let page = operator.get("/hours?saved=2");
    assert!(
        page.contains("schedules[market]：新增") && page.contains("尚未被区域或规则引用"),
        "{}",
        page.text()
    );
    let windows = r#"[{"days":["mon-fri"],"from":"06:00","to":"09:30"}]"#;
    let now = revision(&mut operator);
    let save = [("revision", &*now), ("windows", windows)];
    assert_eq!(served.post(&mut operator, "/hours", "/hours/market", &save).status, 303);
    assert_eq!(
        operator.get("/api/v1/schedules").json()["schedules"][0]["windows"][0]["from"],
        "06:00"
    );
    // Another's page is older; what it entered is shown again.
    let other = [("revision", &*now), ("windows", r#"[{"from":"01:00","to":"02:00"}]"#)];
    let refused = served.post(&mut operator, "/hours", "/hours/market", &other);
    assert_eq!(refused.status, 409);
    assert!(
        refused.contains("\"from\":\"01:00\"") && refused.contains("以我的内容保存"),
        "{}",
        refused.text()
    );
    let again = [("revision", &*revision(&mut operator)), ("id", "market")];
    assert_eq!(
        served.post(&mut operator, "/hours", "/hours", &again).status,
        409,
        "exists already"
    );
    // A zone names it: it cannot be removed.
    let mut script = scripting(&served, "operator");
    let zones = json!([{ "id": "stalls", "kind": "permitted", "schedule": "market", "rules": ["vendor"],
        "polygon": [[0.1, 0.7], [0.5, 0.7], [0.5, 0.9]] }]);
    let body = json!({ "revision": revision(&mut script), "zones": zones });
    assert_eq!(
        send_json(&mut script, "PUT", "/api/v1/views/street-a/zones", &body).status,
        200
    );
    assert!(operator.get("/hours").contains("引用：street-a/stalls"));
    let now = revision(&mut operator);
    let refused = served.post(&mut operator, "/hours", "/hours/market/remove", &[("revision", &now)]);
    assert_eq!(refused.status, 422);
    assert!(refused.contains("没有时段"), "{}", refused.text());
    let none = json!({ "revision": now, "zones": [] });
    assert_eq!(
        send_json(&mut script, "PUT", "/api/v1/views/street-a/zones", &none).status,
        200
    );
    let now = revision(&mut operator);
    assert_eq!(
        served
            .post(&mut operator, "/hours", "/hours/market/remove", &[("revision", &now)])
            .status,
        303
    );
    assert!(
        operator.get("/api/v1/schedules").json()["schedules"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert!(!fs::read_to_string(served.main()).unwrap().contains("market"));
}

#[test]
fn the_api_takes_what_the_page_takes() {
    let served = Served::with_users();
    let mut operator = scripting(&served, "operator");
    let now = revision(&mut operator);
    let path = "/api/v1/schedules/night";
    let body = |windows: serde_json::Value| json!({ "revision": now, "windows": windows });
    for wrong in [
        json!([]),
        json!([{ "from": "25:00", "to": "02:00" }]),
        json!([{ "from": "20:00", "to": "02:00", "days": ["someday"] }]),
        json!([{ "from": "20:00", "to": "02:00", "season": "winter" }]),
        json!([{ "from": "20:00" }]),
        json!([1]),
    ] {
        let answer = send_json(&mut operator, "PUT", path, &body(wrong.clone()));
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text());
    }
    let saved = send_json(
        &mut operator,
        "PUT",
        path,
        &body(json!([{ "from": "20:00", "to": "02:00" }])),
    );
    assert_eq!(saved.status, 200, "{}", saved.text());
    for id in ["..%2fnight", "a%20b", "%5B0%5D", &"a".repeat(65)] {
        let path = format!("/api/v1/schedules/{id}");
        assert_eq!(
            send_json(&mut operator, "PUT", &path, &body(json!([]))).status,
            400,
            "{id}"
        );
    }
    let now = revision(&mut operator);
    let gone = operator.send("DELETE", &format!("{path}?revision={now}"), "", b"");
    assert_eq!(gone.status, 200, "{}", gone.text());
    let now = revision(&mut operator);
    assert_eq!(
        operator
            .send("DELETE", &format!("{path}?revision={now}"), "", b"")
            .status,
        404
    );
    let mut viewer = scripting(&served, "viewer");
    assert_eq!(viewer.get("/hours").status, 200);
    assert_eq!(send_json(&mut viewer, "PUT", path, &body(json!([]))).status, 403);
    assert_eq!(served.logged_in("east").get("/hours").status, 403);
}
