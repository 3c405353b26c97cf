//! The pages of permits, and their API.

use std::fs;

use serde_json::json;

use crate::{
    http::Client,
    street::Served,
    zones::{scripting, send_json},
};

fn revision(browser: &mut Client) -> String {
    browser.get("/api/v1/permits").json()["revision"]
        .as_str()
        .unwrap()
        .to_owned()
}

const WINDOWS: &str = r#"[{"days":["mon-fri"],"from":"06:00","to":"09:30"}]"#;

#[test]
fn a_permit_is_added_on_grounds_of_two_cameras_changed_ended_and_removed() {
    let served = Served::with_users();
    let mut operator = served.logged_in("operator");
    assert!(operator.get("/permits").contains("还没有许可"));
    let new = operator.get("/permits/new");
    assert!(
        new.contains("value=\"street-a/pavement\"") && new.contains("value=\"street-b/*\""),
        "{}",
        new.text()
    );
    let now = revision(&mut operator);
    let mut fields = vec![
        ("revision", &*now),
        ("ground", "street-a/pavement"),
        ("ground", "street-b/*"),
        ("rule", "vendor"),
        ("schedule", ""),
        ("windows", WINDOWS),
        ("valid_from", "2026-05-01"),
        ("valid_until", "2099-10-31"),
        ("permit", "城管许〔2026〕118号"),
        ("note", "早点摊 \"王\" <b>"),
        ("id", "market"),
    ];
    // Shown first: nothing is written, and what was entered is still there.
    fields.push(("preview", "1"));
    let shown = served.post(&mut operator, "/permits", "/permits", &fields);
    assert_eq!(shown.status, 200, "{}", shown.text());
    assert!(
        shown.contains("cameras[street-a].zones[market]") && shown.contains("value=\"城管许〔2026〕118号\""),
        "{}",
        shown.text()
    );
    assert_eq!(revision(&mut operator), now);
    fields.pop();
    let saved = served.post(&mut operator, "/permits", "/permits", &fields);
    assert_eq!(saved.status, 303, "{}", saved.text());
    let list = operator.get(saved.header("location").unwrap());
    assert!(
        list.contains("城管许〔2026〕118号") && list.contains("2099-10-31"),
        "{}",
        list.text()
    );
    assert!(list.contains("早点摊 &#34;王&#34; &#60;b&#62;"), "{}", list.text());
    let text = fs::read_to_string(served.main()).unwrap();
    assert!(
        text.contains("id = \"market\"") && text.contains("permit = \"城管许〔2026〕118号\""),
        "{text}"
    );
    let permits = operator.get("/api/v1/permits").json();
    assert_eq!(
        (&permits["permits"][0]["view"], &permits["permits"][1]["view"]),
        (&json!("street-a"), &json!("street-b"))
    );
    assert_eq!(permits["permits"][0]["schedule"], "market", "{permits}");
    let config = served.config();
    let plan = &config.plan;
    assert_eq!(
        plan.cameras[&"street-b".into()]
            .zones
            .iter()
            .filter(|z| z.id.as_str() == "market")
            .count(),
        1
    );

    // An older page is told of the other's change; nothing is overwritten.
    let edit = "/permits/street-a/market";
    let mine = [
        ("revision", &*revision(&mut operator)),
        ("rule", "vendor"),
        ("schedule", "market"),
        ("note", "mine"),
    ];
    let old = [
        ("revision", &*now),
        ("rule", "garbage"),
        ("schedule", "market"),
        ("note", "theirs"),
    ];
    assert_eq!(served.post(&mut operator, "/permits", edit, &mine).status, 303);
    let refused = served.post(&mut operator, "/permits", edit, &old);
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.contains("value=\"theirs\""), "what was entered is shown again");
    let page = operator.get(edit);
    assert!(
        page.contains("value=\"mine\"") && !page.contains("2099-10-31"),
        "the days were removed"
    );

    // Ended, and one that has expired is a warning, not a fault.
    let end = [("revision", &*revision(&mut operator)), ("last", "2026-06-30")];
    assert_eq!(
        served
            .post(&mut operator, "/permits", "/permits/street-a/market/end", &end)
            .status,
        303
    );
    assert!(operator.get("/permits").contains("已过期"));
    let wrong = [("revision", &*revision(&mut operator)), ("last", "tomorrow")];
    assert_eq!(
        served
            .post(&mut operator, "/permits", "/permits/street-a/market/end", &wrong)
            .status,
        400
    );

    // The schedule goes with the last permit that names it.
    for (view, is_last) in [("street-a", false), ("street-b", true)] {
        let path = format!("/permits/{view}/market/remove");
        let fields = [("revision", &*revision(&mut operator))];
        assert_eq!(served.post(&mut operator, "/permits", &path, &fields).status, 303);
        let schedules = operator.get("/api/v1/schedules").json();
        assert_eq!(
            schedules["schedules"].as_array().unwrap().is_empty(),
            is_last,
            "{schedules}"
        );
    }
    let gone = [("revision", &*revision(&mut operator))];
    assert_eq!(
        served
            .post(&mut operator, "/permits", "/permits/street-a/market/remove", &gone)
            .status,
        404
    );
    let acts: Vec<&str> = served
        .street
        .acts()
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| name.contains("permit"))
        .collect();
    assert_eq!(
        acts.iter().filter(|name| **name == "console permit add").count(),
        1,
        "a preview is no act: {acts:?}"
    );
    for name in ["console permit", "console permit end", "console permit remove"] {
        assert!(acts.contains(&name), "{name}: {acts:?}");
    }
}

#[test]
fn what_is_wrong_is_said_in_place_and_nothing_is_written() {
    let served = Served::with_users();
    let mut operator = served.logged_in("operator");
    let now = revision(&mut operator);
    let base = [
        ("revision", &*now),
        ("schedule", ""),
        ("windows", WINDOWS),
        ("id", "market"),
    ];
    let none = served.post(&mut operator, "/permits", "/permits", &base);
    assert_eq!(none.status, 422);
    assert!(none.contains("请至少选择一处许可地面"), "{}", none.text());
    for (field, wrong, status) in [
        ("ground", "street-a/nowhere", 400),
        ("ground", "nowhere/*", 404),
        ("valid_until", "2026-02-30", 422),
        ("valid_from", "2027-01-01", 422),
        ("rule", "nothing", 422),
        ("windows", "[]", 422),
        ("windows", "{", 400),
        ("id", "a b", 400),
    ] {
        let mut fields: Vec<(&str, &str)> = base.iter().copied().filter(|(name, _)| *name != field).collect();
        if field != "ground" {
            fields.push(("ground", "street-a/*"));
        }
        if field == "valid_from" {
            fields.push(("valid_until", "2026-12-31"));
        }
        fields.push((field, wrong));
        let answer = served.post(&mut operator, "/permits", "/permits", &fields);
        assert_eq!(answer.status, status, "{field}={wrong}: {}", answer.text());
    }
    assert_eq!(revision(&mut operator), now);
    assert_eq!(operator.get("/permits/new?polygon=[[0,0]]").status, 400);
    assert_eq!(
        operator.get("/permits/street-a/pavement").status,
        404,
        "a watch zone is no permit"
    );
}

#[test]
fn the_api_sets_and_removes_permits_by_role_and_group() {
    let served = Served::with_users();
    let mut operator = scripting(&served, "operator");
    let path = "/api/v1/views/street-b/permits/stall";
    let body = json!({
        "revision": revision(&mut operator),
        "polygon": [[0.1, 0.5], [0.4, 0.5], [0.4, 0.9]],
        "rules": ["vendor"],
        "windows": [{ "from": "00:00", "to": "24:00" }],
        "valid_until": "2099-12-31",
    });
    let mut viewer = scripting(&served, "viewer");
    assert_eq!(send_json(&mut viewer, "PUT", path, &body).status, 403);
    let saved = send_json(&mut operator, "PUT", path, &body);
    assert_eq!(saved.status, 200, "{}", saved.text());
    let permits = viewer.get("/api/v1/permits").json();
    assert_eq!(permits["permits"][0]["state"], "open", "{permits}");
    assert!(viewer.get("/permits").contains("许可中"));
    assert!(!viewer.get("/permits").contains("/permits/street-b/stall/remove"));
    // A user of the group sees it, and others' views are none.
    let mut east = scripting(&served, "east");
    assert_eq!(
        east.get("/api/v1/permits").json()["permits"].as_array().unwrap().len(),
        1
    );
    assert!(east.get("/permits").contains("stall"));
    let other = json!({ "revision": revision(&mut operator), "polygon": [[0.1, 0.5], [0.4, 0.5], [0.4, 0.9]], "schedule": "stall" });
    assert_eq!(
        send_json(&mut operator, "PUT", "/api/v1/views/nowhere/permits/a", &other).status,
        404
    );
    let shared = send_json(&mut operator, "PUT", "/api/v1/views/street-a/permits/stall", &other);
    assert_eq!(shared.status, 200, "{}", shared.text());
    assert!(!east.get("/api/v1/permits").text().contains("street-a"));
    // Hours of its own, where another names the schedule: a new one is made.
    let own = json!({ "revision": revision(&mut operator), "windows": [{ "from": "06:00", "to": "07:00" }] });
    assert_eq!(send_json(&mut operator, "PUT", path, &own).status, 200);
    let permits = operator.get("/api/v1/permits").json();
    assert_eq!(permits["permits"][1]["schedule"], "stall-2", "{permits}");
    let now = revision(&mut operator);
    let missing = json!({ "revision": now, "schedule": "stall" });
    assert_eq!(
        send_json(&mut operator, "PUT", "/api/v1/views/street-a/permits/none", &missing).status,
        404
    );
    let gone = operator.send("DELETE", &format!("{path}?revision={now}"), "", b"");
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(
        operator.get("/api/v1/permits/proposals").json(),
        json!([]),
        "nothing was recorded"
    );
    assert_eq!(operator.get("/api/v1/permits/proposals?days=4").status, 400);
    assert!(
        operator
            .get("/permits/proposals?days=14")
            .contains("没有找到规律摆放点")
    );
}
