//! The System pages but models and support bundles: what they show, to whom, and the retry of messages in quarantine.

use std::fs;

use gridwatch_base::person::Person;
use gridwatch_custody::chain::{ActResult, Details};
use gridwatch_store::NewAct;
use gridwatch_web::audit::Outcome;

use crate::street::{Served, at, open_store};

const HASH: &str = "5f2c90ab5f2c90ab5f2c90ab5f2c90ab5f2c90ab5f2c90ab5f2c90ab5f2c90ab";

fn crash(served: &Served, camera: &str, digit: char) {
    let folder = served.state_dir().join("decode-crashes");
    fs::create_dir_all(&folder).unwrap();
    let sha256 = HASH.replace('5', &digit.to_string());
    let record = format!(
        r#"{{"at":"2026-05-01T00:00:00Z","camera":"{camera}","codec":"H.264","bytes":2048,"sha256":"{sha256}","cause":"SIGSEGV of {camera}"}}"#
    );
    fs::write(folder.join(format!("{sha256}.json")), record).unwrap();
}

#[test]
fn the_overview_tells_the_state_of_the_box() {
    let served = Served::with_users();
    served.file_case(1, "street-a", true);
    crash(&served, "street-a", 'a');
    fs::write(served.state_dir().join("decode-crashes/broken.json"), "{").unwrap();
    let mut viewer = served.logged_in("viewer").with("Accept-Language", "en");
    let page = viewer.get("/system");
    assert_eq!(page.status, 200, "{}", page.text());
    for part in [
        env!("CARGO_PKG_VERSION"),
        "1.23.0",
        "SIGSEGV of street-a",
        "evidence",
        "gridwatch.db",
        "in the state directory",
        "connected",
    ] {
        assert!(page.contains(part), "{part}: {}", page.text());
    }
    let found = viewer.get("/api/v1/system").json();
    assert_eq!(found["link"]["waiting"], 3);
    assert_eq!(found["crashes"].as_array().unwrap().len(), 1);
    let key = open_store(&served.state_dir()).public_key().unwrap().to_string();
    assert_eq!(found["keys"]["public_key"], key.as_str());
    assert_eq!(found["keys"]["fingerprint"].as_str().unwrap().len(), 64);
    assert!(found["disk"]["free_bytes"].as_u64().unwrap() > 0);
    for name in ["admin", "operator", "east"] {
        assert!(!page.contains(&format!(">{name}<")), "the name of another user: {name}");
    }
    let pem = fs::read_to_string(served.state_dir().join("keys/signing.pem")).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    assert!(!page.contains(secret) && !found.to_string().contains(secret));
}

#[test]
fn a_box_that_never_ran_has_an_overview_and_empty_lists() {
    let served = Served::start();
    for path in [
        "/system",
        "/system/outbox",
        "/system/models",
        "/system/audit",
        "/system/log",
    ] {
        let page = served.browser().get(path);
        assert_eq!(page.status, 200, "{path}: {}", page.text());
    }
    let keys = served.browser().get("/api/v1/system").json()["keys"].clone();
    assert!(keys["public_key"].is_null(), "{keys}");
}

#[test]
fn each_role_gets_links_to_the_pages_that_it_may_use() {
    let served = Served::with_users();
    let operator_pages = ["/system/outbox", "/system/models", "/system/metrics"];
    let admin_pages = ["/system/log", "/system/audit", "/system/support"];
    for (user, may) in [
        ("viewer", vec![]),
        ("operator", operator_pages.to_vec()),
        ("admin", [operator_pages, admin_pages].concat()),
    ] {
        let mut browser = served.logged_in(user);
        let page = browser.get("/system");
        for path in [operator_pages, admin_pages].concat() {
            let link = format!("href=\"{path}\"");
            assert_eq!(page.contains(&link), may.contains(&path), "{user}: {path}");
            let status = if may.contains(&path) { 200 } else { 403 };
            assert_eq!(browser.get(path).status, status, "{user}: {path}");
        }
    }
}

#[test]
fn a_user_of_a_group_sees_the_crashes_of_its_cameras_only() {
    let served = Served::with_users();
    crash(&served, "street-a", 'a');
    crash(&served, "street-b.north", 'b');
    let page = served.logged_in("east").get("/system");
    assert!(page.contains("street-b.north") && !page.contains("SIGSEGV of street-a"));
    assert!(
        served
            .logged_in("viewer")
            .get("/system")
            .contains("SIGSEGV of street-a")
    );
}

#[test]
fn an_operator_of_a_group_changes_nothing_of_the_whole_box() {
    let served = Served::with_users();
    served
        .accounts()
        .set_role(
            "operator",
            gridwatch_web::Role::Operator,
            Some(&["east".to_owned()].into()),
        )
        .unwrap();
    let mut operator = served.logged_in("operator");
    for path in [
        "/system/outbox",
        "/system/models",
        "/system/metrics",
        "/api/v1/outbox",
        "/api/v1/models",
        "/api/v1/metrics",
    ] {
        assert_eq!(operator.get(path).status, 404, "{path}");
    }
    for path in ["/system/outbox/retry", "/system/models/garbage_nano_416/rollback"] {
        assert_eq!(served.post(&mut operator, "/cases", path, &[]).status, 404, "{path}");
    }
}

#[test]
fn messages_in_quarantine_are_shown_with_their_reason_and_retried() {
    let served = Served::with_users();
    let (one, other) = (
        served.file_case(1, "street-a", true),
        served.file_case(2, "street-a", true),
    );
    {
        let mut store = open_store(&served.state_dir());
        for case in [&one, &other] {
            let entries = store.outbox_entries(false, 100).unwrap();
            let seq = entries.iter().find(|entry| entry.case_id == **case).unwrap().seq;
            store.outbox_quarantine(seq, "packet too <large>").unwrap();
        }
    }
    let quarantined = || open_store(&served.state_dir()).outbox_depth().unwrap().quarantined;
    let before = quarantined();
    assert!(before >= 2);
    let mut operator = served.logged_in("operator");
    let page = operator.get("/system/outbox?quarantined=true");
    assert!(
        page.contains(&one) && page.contains("packet too &#60;large&#62;"),
        "{}",
        page.text()
    );
    assert!(!page.contains("payload"), "no contents");
    let fields = [("case", one.as_str())];
    assert_eq!(
        served
            .post(&mut operator, "/system/outbox", "/system/outbox/retry", &fields)
            .status,
        303
    );
    let left = quarantined();
    assert!(left > 0 && left < before, "{left} of {before}");
    let nowhere = [("case", "01J0000000000000000000000")];
    assert_eq!(
        served
            .post(&mut operator, "/system/outbox", "/system/outbox/retry", &nowhere)
            .status,
        404
    );
    assert_eq!(
        served
            .post(&mut operator, "/system/outbox", "/system/outbox/retry", &[])
            .status,
        303
    );
    assert_eq!(quarantined(), 0);
    let acts = served.street.acts.lock().unwrap();
    let retries: Vec<_> = acts.iter().filter(|act| act.name == "outbox retry").collect();
    assert_eq!(retries.len(), 3);
    assert_eq!(
        (retries[0].subject.as_deref(), &retries[0].outcome),
        (Some(one.as_str()), &Outcome::Done)
    );
    assert!(matches!(retries[1].outcome, Outcome::Refused(_)));
    assert_eq!(retries[2].details, [("released", left.to_string())]);
    drop(acts);
    let json = operator.get("/api/v1/outbox").json();
    assert!(
        json["messages"]
            .as_array()
            .unwrap()
            .iter()
            .all(|message| message["quarantined"].is_null()),
        "{json}"
    );
}

#[test]
fn the_log_is_filtered_escaped_and_without_secrets() {
    let served = Served::start();
    *served.street.log.lock().unwrap() = vec![
        "2026-05-01T00:00:00Z  INFO gridwatch: Connected to MQTT broker".into(),
        "2026-05-01T00:00:01Z  WARN gridwatch: Camera down url=rtsp://admin:hunter2@10.0.0.1/live".into(),
        "  caused by: <script>alert(1)</script>\u{1b}[31m\u{202e}".into(),
        r#"{"timestamp":"2026","level":"ERROR","fields":{"message":"disk full"}}"#.into(),
    ];
    let mut browser = served.browser();
    let all = browser.get("/system/log");
    assert!(all.contains("Connected") && all.contains("disk full"));
    assert!(all.contains("rtsp://***@10.0.0.1/live") && !all.contains("hunter2"));
    assert!(!all.contains("<script>alert") && !all.contains("\u{1b}") && !all.contains("\u{202e}"));
    let warnings = browser.get("/system/log/lines?level=WARN&text=CAMERA&follow=on");
    assert!(warnings.contains("Camera down") && !warnings.contains("Connected") && !warnings.contains("disk full"));
    let severe = browser.get("/api/v1/log?level=WARN").json();
    assert_eq!(
        severe.as_array().unwrap().len(),
        3,
        "with the line that continues one: {severe}"
    );
    assert_eq!(browser.get("/api/v1/log?level=LOUD").status, 400);
    assert!(!browser.get("/system/log").contains("hx-trigger=\"every"));
    assert!(browser.get("/system/log?follow=on").contains("hx-trigger=\"every"));
    *served.street.log.lock().unwrap() = (0..20_000).map(|i| format!("INFO {}{i}", "x".repeat(5000))).collect();
    let long = browser.get("/system/log/lines");
    assert!(long.body.len() < 3 << 20 && long.contains("…"), "{}", long.body.len());
}

#[test]
fn metrics_are_sketched_and_given_as_they_are() {
    let served = Served::start();
    *served.street.metrics.lock().unwrap() =
        "# TYPE x counter\ngridwatch_looks_total{camera=\"<b>\"} 7\ngridwatch_outbox_depth 3\nrubbish\n".into();
    let mut browser = served.browser();
    let page = browser.get("/system/metrics");
    assert!(page.contains("<svg") && page.contains("gridwatch_outbox_depth") && page.contains("&#60;b&#62;"));
    assert!(!page.contains("rubbish"));
    let text = browser.get("/api/v1/metrics");
    assert!(text.header("content-type").unwrap().starts_with("text/plain") && text.contains("rubbish"));
    assert_eq!(browser.get("/system/metrics/now").status, 200);
}

#[test]
fn the_audit_log_is_paged_the_newest_first_and_a_damage_is_named() {
    let served = Served::with_users();
    {
        let mut store = open_store(&served.state_dir());
        for i in 0..120 {
            let mut details = Details::new(Person::current()).unwrap();
            details.what.insert("number".into(), format!("n{i}\u{1b}<i>"));
            let act = NewAct {
                act: "keys rotate",
                case: None,
                result: ActResult::Done,
                details: &details,
            };
            store.record_act(&act, at(i)).unwrap();
        }
    }
    let mut admin = served.logged_in("admin");
    let first = admin.get("/api/v1/audit").json();
    assert_eq!(first["acts"].as_array().unwrap().len(), 50);
    assert_eq!(first["acts"][0]["details"][0][1], "n119\\u001b<i>");
    assert!(first["fault"].is_null());
    let second = admin.get(&format!("/api/v1/audit?before={}", first["next"])).json();
    assert_eq!(second["acts"][0]["details"][0][1], "n69\\u001b<i>");
    let last = admin.get(&format!("/api/v1/audit?before={}", second["next"])).json();
    assert_eq!(
        (last["acts"].as_array().unwrap().len(), last["next"].is_null()),
        (20, true)
    );
    let page = admin.get("/system/audit");
    assert!(
        page.contains("n119") && !page.contains("n69\\") && page.contains("&#60;i&#62;"),
        "{}",
        page.text()
    );
    assert_eq!(admin.get("/system/audit?before=x").status, 400);
}
