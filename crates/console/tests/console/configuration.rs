//! The configuration's page: versions, differences, restoring, and files as texts.

use std::fs;

use gridwatch_console::daemon::Daemon as _;
use gridwatch_web::audit::Outcome;
use serde_json::json;

use crate::{
    http::Client,
    street::Served,
    zones::{ZONES, scripting, send_json},
};

/// Saves other zones of a camera, and returns the number of the version.
fn save_zone(browser: &mut Client, id: &str) -> u64 {
    let zones = json!([{ "id": id, "kind": "watch", "polygon": [[0.1, 0.5], [0.9, 0.5], [0.9, 0.9]] }]);
    let revision = browser.get(ZONES).json()["revision"].clone();
    let answer = send_json(browser, "PUT", ZONES, &json!({ "revision": revision, "zones": zones }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["version"].as_u64().unwrap()
}

fn revision(browser: &mut Client) -> String {
    browser.get(ZONES).json()["revision"].as_str().unwrap().to_owned()
}

#[test]
fn versions_are_listed_compared_and_restored() {
    let served = Served::with_users();
    let original = fs::read_to_string(served.main()).unwrap();
    let mut operator = scripting(&served, "operator");
    assert!(operator.get("/configuration").contains("还没有历史版本"));
    let version = save_zone(&mut operator, "one");
    assert_eq!(save_zone(&mut operator, "two"), version + 1);
    let page = operator.get("/configuration");
    assert!(
        page.contains("street-a 布控区域") && page.contains("在盒子上直接修改") && page.contains("配置文件已全部生效"),
        "{}",
        page.text()
    );
    let changes = operator.get("/configuration/changes?from=1&to=current");
    assert!(
        changes.contains("cameras[street-a].zones[two]") && !changes.contains("zones[one]"),
        "{}",
        changes.text()
    );
    assert!(!changes.contains("/restore"), "an operator restores nothing");
    let kinds = |from: &str, to: &str, operator: &mut Client| -> Vec<String> {
        let path = format!("/api/v1/configuration/changes?from={from}&to={to}");
        let changes = operator.get(&path).json();
        let changes = changes.as_array().unwrap().iter();
        changes
            .map(|change| change["text"].as_str().unwrap().to_owned())
            .collect()
    };
    let (one, two) = ("cameras[street-a].zones[one]", "cameras[street-a].zones[two]");
    assert_eq!(
        kinds("2", "3", &mut operator),
        [format!("{one}: removed (live)"), format!("{two}: added (live)")]
    );
    assert_eq!(
        kinds("current", "2", &mut operator),
        [format!("{one}: added (live)"), format!("{two}: removed (live)")]
    );
    assert!(kinds("current", "current", &mut operator).is_empty());
    let list = operator.get("/api/v1/configuration/versions").json();
    assert_eq!((&list[0]["who"], &list[2]["who"]), (&json!("operator"), &json!(null)));
    for wrong in ["from=x&to=1", "from=1", "from=-1&to=2", "from=1&to=2%00"] {
        assert_eq!(
            operator.get(&format!("/configuration/changes?{wrong}")).status,
            400,
            "{wrong}"
        );
    }
    assert_eq!(operator.get("/configuration/changes?from=99&to=1").status, 404);

    let mut admin = served.logged_in("admin");
    let shown = admin.get("/configuration/changes?from=1&to=current");
    assert!(shown.contains("/configuration/versions/1/restore"));
    let path = "/configuration/versions/1/restore";
    let old = admin.get("/api/v1/configuration/versions").json()[1]["revision"]
        .as_str()
        .unwrap()
        .to_owned();
    let stale = served.post(
        &mut admin,
        "/configuration",
        path,
        &[("revision", &old), ("why", "wrong zones")],
    );
    assert_eq!(stale.status, 409);
    assert!(
        stale.contains("没有覆盖任何内容") && stale.contains("value=\"wrong zones\""),
        "{}",
        stale.text()
    );
    let now = revision(&mut admin);
    let unreasoned = served.post(&mut admin, "/configuration", path, &[("revision", &now), ("why", " ")]);
    assert_eq!(unreasoned.status, 400);
    let answer = served.post(
        &mut admin,
        "/configuration",
        path,
        &[("revision", &now), ("why", "wrong zones")],
    );
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/configuration?saved=4")),
        "{}",
        answer.text()
    );
    assert_eq!(fs::read_to_string(served.main()).unwrap(), original);
    assert!(admin.get("/configuration?saved=4").contains("wrong zones"));
    let acts = served.street.acts.lock().unwrap();
    let act = acts.last().unwrap();
    assert_eq!(
        (act.name, &act.outcome),
        ("console configuration restore", &Outcome::Done)
    );
    assert!(act.details.contains(&("why", "wrong zones".into())) && act.details.contains(&("restored", "1".into())));
}

#[test]
fn restoring_and_texts_are_for_administrators_and_nothing_here_is_for_restricted_users() {
    let served = Served::with_users();
    let mut operator = scripting(&served, "operator");
    save_zone(&mut operator, "one");
    let now = revision(&mut operator);
    for (method, path) in [
        ("POST", "/configuration/versions/1/restore"),
        ("POST", "/api/v1/configuration/versions/1/restore"),
        ("GET", "/configuration/file"),
        ("POST", "/configuration/file"),
        ("GET", "/api/v1/configuration/text"),
        ("PUT", "/api/v1/configuration/text"),
    ] {
        let body = json!({ "revision": now, "why": "x", "file": "edge.toml", "text": "" });
        assert_eq!(
            send_json(&mut operator, method, path, &body).status,
            403,
            "{method} {path}"
        );
    }
    let mut east = served.logged_in("east");
    for path in [
        "/configuration",
        "/configuration/changes?from=1&to=2",
        "/api/v1/configuration",
        "/api/v1/configuration/versions",
        "/api/v1/configuration/changes?from=1&to=2",
    ] {
        let answer = east.get(path);
        assert_eq!(answer.status, 403, "{path}");
        assert!(!answer.contains("street-a"), "{path}");
    }
    assert!(!east.get("/").contains("href=\"/configuration\""));
    let own = east.get("/cameras/street-b/zones/saved");
    assert!(
        own.status == 200 && !own.contains("street-a"),
        "another camera's change is not told: {}",
        own.text()
    );
    let mut admin = served.logged_in("admin");
    assert_eq!(
        admin.post("/configuration/file", &[("file", "edge.toml")]).status,
        403,
        "without the code"
    );
}

#[test]
fn a_text_is_checked_with_lines_and_saved() {
    let served = Served::with_users();
    let mut admin = served.logged_in("admin");
    let text = fs::read_to_string(served.main()).unwrap();
    let page = admin.get("/configuration/file");
    assert!(
        page.contains("<textarea") && page.contains("look_every = &#34;2s&#34;"),
        "{}",
        page.text()
    );
    let now = revision(&mut admin);
    let form = |text: &str, action: &str, admin: &mut Client| {
        let fields = [
            ("file", "edge.toml"),
            ("text", text),
            ("revision", &now),
            ("why", "faster"),
            ("action", action),
        ];
        served.post(admin, "/account", "/configuration/file", &fields)
    };
    let line = text.lines().position(|line| line.starts_with("look_every")).unwrap() + 1;
    let wrong = text
        .replacen("look_every = \"2s\"", "look_every = \"1ms\"", 1)
        .replace('\n', "\r\n");
    for action in ["check", "save"] {
        let answer = form(&wrong, action, &mut admin);
        assert_eq!(answer.status, if action == "save" { 422 } else { 200 });
        assert!(
            answer.contains(&format!("data-line=\"{line}\"")) && answer.contains("1ms"),
            "{}",
            answer.text()
        );
        assert_eq!(fs::read_to_string(served.main()).unwrap(), text, "nothing was written");
    }
    let broken = form("[[cameras\n", "save", &mut admin);
    assert!(
        broken.status == 422 && broken.contains("edge.toml:1"),
        "{}",
        broken.text()
    );
    let right = text.replacen("look_every = \"2s\"", "look_every = \"3s\"", 1);
    let typed = right.replace('\n', "\r\n");
    let checked = form(&typed, "check", &mut admin);
    assert!(
        checked.contains("检查通过") && checked.contains("look_every：2s → 3s"),
        "{}",
        checked.text()
    );
    let saved = form(&typed, "save", &mut admin);
    assert_eq!(
        (saved.status, saved.header("location")),
        (303, Some("/configuration?saved=2")),
        "{}",
        saved.text()
    );
    assert_eq!(
        fs::read_to_string(served.main()).unwrap(),
        right,
        "with the line ends that the file had"
    );
    assert_eq!(served.street.config().cameras[0].look_every.as_secs(), 3);
    // Saved again from the older page: nothing is overwritten.
    let other = form(&text, "save", &mut admin);
    assert_eq!(other.status, 409);
    assert!(
        other.contains("look_every：2s → 3s") && other.contains("现有内容"),
        "{}",
        other.text()
    );
    assert_eq!(fs::read_to_string(served.main()).unwrap(), right);
    assert_eq!(form(&text, "format", &mut admin).status, 400);
}

#[test]
fn only_files_of_the_configuration_are_read_and_written() {
    let served = Served::with_users();
    fs::create_dir_all(served.main().with_file_name("conf.d")).unwrap();
    fs::write(served.main().with_file_name("secret.toml"), "password").unwrap();
    let mut admin = scripting(&served, "admin");
    let now = revision(&mut admin);
    for file in [
        "../edge.toml",
        "secret.toml",
        "conf.d/../secret.toml",
        "/etc/passwd",
        "conf.d/.hidden.toml",
        "conf.d/a.conf",
        "conf.d/a\u{0}.toml",
        "conf.d/a\n.toml",
        "conf.d/",
    ] {
        let query: String = url::form_urlencoded::byte_serialize(file.as_bytes()).collect();
        let page = admin.get(&format!("/configuration/file?file={query}"));
        assert!(
            page.status == 422 && !page.contains("password\n"),
            "{file:?}: {}",
            page.status
        );
        assert_eq!(
            admin.get(&format!("/api/v1/configuration/text?file={query}")).status,
            404,
            "{file:?}"
        );
        let body = json!({ "revision": now, "file": file, "text": "x = 1" });
        assert_eq!(
            send_json(&mut admin, "PUT", "/api/v1/configuration/text", &body).status,
            422,
            "{file:?}"
        );
    }
    assert!(
        admin
            .get("/configuration/file?file=conf.d%2Fnew.toml")
            .contains("新文件")
    );
    let body = json!({ "revision": now, "file": "conf.d/new.toml", "text": "# hours\n", "why": "for later" });
    let made = send_json(&mut admin, "PUT", "/api/v1/configuration/text", &body);
    assert_eq!(made.status, 200, "{}", made.text());
    assert!(admin.get("/configuration").contains("conf.d/new.toml"));
    // Others have changed another file since: no conflict.
    save_zone(&mut admin, "one");
    let body = json!({ "revision": made.json()["revision"], "file": "conf.d/new.toml", "text": "# night\n" });
    let again = send_json(&mut admin, "PUT", "/api/v1/configuration/text", &body);
    assert_eq!(again.status, 200, "{}", again.text());
    assert!(fs::read_to_string(served.main()).unwrap().contains("\"one\""));
    let gone = json!({ "revision": again.json()["revision"], "file": "conf.d/new.toml", "text": null });
    assert_eq!(
        send_json(&mut admin, "PUT", "/api/v1/configuration/text", &gone).status,
        200
    );
    assert!(!served.main().with_file_name("conf.d/new.toml").exists());
    let main = json!({ "revision": revision(&mut admin), "file": "edge.toml", "text": null });
    assert_eq!(
        send_json(&mut admin, "PUT", "/api/v1/configuration/text", &main).status,
        422
    );
    let large = json!({ "revision": now, "file": "edge.toml", "text": "#".repeat(300 << 10) });
    assert_eq!(
        send_json(&mut admin, "PUT", "/api/v1/configuration/text", &large).status,
        413
    );
}

#[test]
fn a_broken_file_can_be_mended_here_or_by_restoring() {
    let served = Served::with_users();
    let mut admin = scripting(&served, "admin");
    save_zone(&mut admin, "one");
    let good = fs::read_to_string(served.main()).unwrap();
    fs::write(served.main(), "[[cameras\n").unwrap();
    let page = admin.get("/configuration/file");
    assert!(page.status == 200 && page.contains("[[cameras"), "{}", page.text());
    assert_eq!(admin.get("/configuration").status, 200);
    let text = admin.get("/api/v1/configuration/text?file=edge.toml").json();
    let body = json!({ "revision": text["revision"], "file": "edge.toml", "text": good });
    assert_eq!(
        send_json(&mut admin, "PUT", "/api/v1/configuration/text", &body).status,
        200
    );
    fs::write(served.main(), "[[cameras\n").unwrap();
    let text = admin.get("/api/v1/configuration/text?file=edge.toml").json();
    let newest = admin.get("/api/v1/configuration/versions").json()[0]["id"].clone();
    let body = json!({ "revision": text["revision"], "why": "the file was cut" });
    let path = format!("/api/v1/configuration/versions/{newest}/restore");
    let answer = send_json(&mut admin, "POST", &path, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(fs::read_to_string(served.main()).unwrap(), good);
}

#[test]
fn a_file_that_was_saved_and_is_not_in_force_is_said_to_be_so() {
    let served = Served::with_users();
    *served.street.reload_error.lock().unwrap() = Some("a model cannot be loaded".into());
    let mut operator = scripting(&served, "operator");
    let revision = operator.get(ZONES).json()["revision"].clone();
    let answer = send_json(
        &mut operator,
        "PUT",
        ZONES,
        &json!({ "revision": revision, "zones": [] }),
    )
    .json();
    assert_eq!(
        (&answer["in_force"], &answer["error"]),
        (&json!(false), &json!("a model cannot be loaded")),
        "{answer}"
    );
    let page = operator.get("/configuration");
    assert!(
        page.contains("a model cannot be loaded") && page.contains("未生效"),
        "{}",
        page.text()
    );
    assert!(
        operator
            .get("/cameras/street-a/zones/saved")
            .contains("a model cannot be loaded")
    );
}
