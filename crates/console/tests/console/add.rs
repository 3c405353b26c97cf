//! Adding and removing cameras over HTTP: from a URL to a saved configuration, with a camera that answers over RTSP.

use std::{
    fs,
    io::Write,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex, atomic::Ordering},
    thread,
    time::Duration,
};

use gridwatch_base::secret::Credentials;
use gridwatch_config::raw;
use gridwatch_web::{Role, accounts::Accounts, audit::Outcome};
use serde_json::{Value, json};

use crate::{
    http::{Client, Response},
    rtsp_camera::{PASSWORD, RtspCamera, USER},
    street::Served,
};

/// Everything that the console and what it uses have logged in this process.
static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(|| {
    let log = Arc::<Mutex<Vec<u8>>>::default();
    let kept = Arc::clone(&log);
    let filter = "gridwatch_console=trace,gridwatch_onvif=trace,gridwatch_camera=trace,gridwatch_rtsp=trace,gridwatch_config=trace,debug";
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Kept(Arc::clone(&kept)))
        .init();
    log
});

struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The login appears in none of these, however it may be written.
fn expect_no_login(where_: &str, text: &str) {
    for secret in [
        PASSWORD,
        "hunter2",
        "Correct&horse",
        "Correct&amp;horse",
        "Correct%26horse",
        "wrong-horse",
    ] {
        assert!(!text.contains(secret), "{where_} has {secret:?}: {text}");
    }
}

fn main_file(served: &Served) -> PathBuf {
    served.state_dir().parent().unwrap().join("edge.toml")
}

/// Opens a wizard, and returns its path.
fn open(served: &Served, browser: &mut Client, target: &str, user: &str, password: &str) -> Result<String, Response> {
    let fields = [
        ("target", target),
        ("user", user),
        ("password", password),
        ("channel", "1"),
    ];
    let answer = served.post(browser, "/cameras/add", "/cameras/add/probe", &fields);
    expect_no_login("the answer", answer.text());
    match answer.header("location") {
        Some(path) => {
            expect_no_login("the path", path);
            Ok(path.to_owned())
        }
        None => Err(answer),
    }
}

/// Asks as the page does until the probe has ended, and returns what it shows then.
fn wait(browser: &mut Client, path: &str) -> String {
    for _ in 0..3000 {
        let answer = browser.get(&format!("{path}/progress"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        expect_no_login("the progress", answer.text());
        if !answer.contains("hx-trigger") {
            return answer.text().to_owned();
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the probe does not end");
}

/// The value of a field in a page.
fn value_of(page: &str, name: &str) -> String {
    let start = page
        .find(&format!("name=\"{name}\" value=\""))
        .unwrap_or_else(|| panic!("{name} in {page}"));
    let rest = &page[start + name.len() + 15..];
    rest[..rest.find('"').unwrap()].to_owned()
}

fn camera_fields<'a>(id: &'a str, revision: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("id", id),
        ("stream", "main"),
        ("address", "演示路 9 号 <b>\"&"),
        ("lon", "121.5003"),
        ("lat", "31.2302"),
        ("uncertainty", "12"),
        ("look_every", "5s"),
        ("model", "yolox_nano_416_coco"),
        ("groups", "east, gate"),
        ("revision", revision),
    ]
}

#[test]
fn from_a_url_to_a_saved_camera_with_its_login_nowhere_to_be_seen() {
    LazyLock::force(&LOG);
    let camera = RtspCamera::start();
    let served = Served::start();
    let file = main_file(&served);
    let before = format!(
        "# The box at the gate. Ask Li before changing it.\n{}",
        fs::read_to_string(&file).unwrap()
    );
    fs::write(&file, &before).unwrap();
    let mut browser = served.browser().with("Accept-Language", "en");
    // A pasted URL with its login in it.
    let pasted = camera
        .url()
        .replace("rtsp://", "rtsp://admin:hunter2%3ACorrect%26horse@");
    let path = open(&served, &mut browser, &pasted, "", "").unwrap();
    let page = browser.get(&path);
    assert!(page.contains("Trying 127.0.0.1"), "{}", page.text());
    let result = wait(&mut browser, &path);
    for part in [
        "H.264",
        "Digest MD5",
        "Channels/101",
        "Channels/102",
        "proposed",
        "Garbage 87 %",
        "<rect class=\"box",
    ] {
        assert!(
            result.contains(part) || result.to_lowercase().contains(&part.to_lowercase()),
            "{part}: {result}"
        );
    }
    let picture = browser.get(&format!("{path}/picture"));
    assert_eq!(
        (picture.status, picture.header("content-type")),
        (200, Some("image/jpeg"))
    );
    // In the other language, too.
    let chinese = served.browser().with("Accept-Language", "zh").get(&path);
    assert!(
        chinese.contains("建议") && chinese.contains("第一幅画面"),
        "{}",
        chinese.text()
    );
    expect_no_login("the page", chinese.text());

    let revision = value_of(&result, "revision");
    let save = format!("{path}/save");
    let mut fields = camera_fields("gate", &revision);
    fields[3].1 = "200";
    let refused = served.post(&mut browser, "/cameras/add", &save, &fields);
    assert_eq!(refused.status, 422);
    assert!(
        refused.contains("A number from -180 to 180.") && refused.contains("value=\"gate\""),
        "{}",
        refused.text()
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), before, "nothing was written");
    let saved = served.post(&mut browser, "/cameras/add", &save, &camera_fields("gate", &revision));
    assert_eq!(saved.status, 200, "{}", saved.text());
    assert!(
        saved.contains("/cameras/gate/zones") && saved.contains("/cameras/gate/calibration"),
        "{}",
        saved.text()
    );

    let after = fs::read_to_string(&file).unwrap();
    assert!(
        after.starts_with(&before[..before.len() - 1]),
        "what was there is untouched:\n{after}"
    );
    let written: raw::File = toml::from_str(&after).unwrap();
    let new = written.cameras.last().unwrap();
    assert_eq!((new.id.as_str(), new.url.as_str()), ("gate", camera.url().as_str()));
    assert_eq!(new.groups, ["east", "gate"]);
    assert_eq!(new.models, ["yolox_nano_416_coco"]);
    assert_eq!(new.address.as_deref(), Some("演示路 9 号 <b>\"&"));
    let login = served.state_dir().join("credentials/gate");
    assert_eq!(new.credentials.as_ref().unwrap().file.as_deref(), Some(login.as_path()));
    let stored = Credentials::read(&login).unwrap();
    assert_eq!((stored.user.expose(), stored.password.expose()), (USER, PASSWORD));
    assert_eq!(fs::metadata(&login).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(login.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    let config = gridwatch_console::Daemon::config(&*served.street);
    assert!(
        config.cameras.iter().any(|camera| camera.id.as_str() == "gate"),
        "it is in force"
    );

    // The wizard and its login are gone.
    assert_eq!(browser.get(&path).status, 404);
    assert_eq!(
        browser.get(&format!("{path}/progress")).status,
        286,
        "the page stops asking"
    );
    let acts = format!("{:?}", served.street.acts.lock().unwrap());
    for name in ["console camera probe", "console camera add"] {
        assert!(acts.contains(name), "{acts}");
    }
    expect_no_login("the audit log", &acts);
    expect_no_login("the configuration", &after);
    expect_no_login("the log", &String::from_utf8_lossy(&LOG.lock().unwrap()));
    for entry in fs::read_dir(served.state_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            expect_no_login(
                "a file of the state directory",
                &String::from_utf8_lossy(&fs::read(path).unwrap()),
            );
        }
    }

    // And out again.
    let page = browser.get("/cameras/gate/remove");
    assert!(page.contains("Remove the camera gate"), "{}", page.text());
    let revision = value_of(page.text(), "revision");
    let fields = [("revision", revision.as_str())];
    let removed = served.post(&mut browser, "/cameras/add", "/cameras/gate/remove", &fields);
    assert_eq!(removed.status, 200, "{}", removed.text());
    assert!(!login.exists());
    assert_eq!(fs::read_to_string(&file).unwrap().trim_end(), before.trim_end());
    assert_eq!(served.street.acts().last().unwrap().0, "console camera remove");
}

#[test]
fn two_wizards_with_one_id_leave_the_first_camera_as_it_is() {
    let camera = RtspCamera::start();
    let served = Served::start();
    fs::create_dir(main_file(&served).with_file_name("conf.d")).unwrap();
    let mut browser = served.browser().with("Accept-Language", "en");
    let url = camera.url();
    let first = open(&served, &mut browser, &url, USER, PASSWORD).unwrap();
    let second = open(&served, &mut browser, &url, USER, PASSWORD).unwrap();
    let other = open(&served, &mut browser, &url, USER, PASSWORD).unwrap();
    let revision = value_of(&wait(&mut browser, &first), "revision");
    wait(&mut browser, &second);
    wait(&mut browser, &other);
    let mut save = |path: &str, id: &str, revision: &str| {
        served.post(
            &mut browser,
            "/cameras/add",
            &format!("{path}/save"),
            &camera_fields(id, revision),
        )
    };
    let saved = save(&first, "gate", &revision);
    assert_eq!(saved.status, 200, "{}", saved.text());
    let own = main_file(&served).with_file_name("conf.d").join("gate.toml");
    let written = fs::read_to_string(&own).unwrap();
    let login = fs::read(served.state_dir().join("credentials/gate")).unwrap();
    let refused = save(&second, "gate", &revision);
    assert_eq!(refused.status, 409);
    assert!(
        refused.contains("There is a camera with this id already"),
        "{}",
        refused.text()
    );
    assert_eq!(fs::read_to_string(&own).unwrap(), written);
    assert_eq!(fs::read(served.state_dir().join("credentials/gate")).unwrap(), login);
    // Another id, from a page that is older than the first save: told, and saved the second time.
    let conflict = save(&other, "yard", &revision);
    assert_eq!(conflict.status, 409);
    assert!(conflict.contains("cameras[gate]: added"), "{}", conflict.text());
    assert!(
        !served.state_dir().join("credentials/yard").exists(),
        "its login was taken back"
    );
    let revision = value_of(conflict.text(), "revision");
    assert_eq!(save(&other, "yard", &revision).status, 200);
    assert_eq!(fs::read_to_string(&own).unwrap(), written);
    let acts = served.street.acts.lock().unwrap();
    let adds = acts.iter().filter(|act| act.name == "console camera add");
    let outcomes: Vec<bool> = adds.map(|act| act.outcome == Outcome::Done).collect();
    assert_eq!(outcomes, [true, false, false, true]);
}

#[test]
fn wrong_logins_and_dead_hosts_are_told_with_what_to_do() {
    let camera = RtspCamera::start();
    let served = Served::start();
    let mut browser = served.browser().with("Accept-Language", "en");
    let path = open(&served, &mut browser, &camera.url(), USER, "wrong-horse").unwrap();
    let result = wait(&mut browser, &path);
    assert!(result.contains("refuses the user name or password"), "{result}");
    assert!(!result.contains("name=\"revision\""), "nothing to save: {result}");
    assert!(camera.refused.load(Ordering::Relaxed) <= 2, "cameras lock users");
    let answer = served.post(
        &mut browser,
        "/cameras/add",
        &format!("{path}/save"),
        &camera_fields("gate", "x"),
    );
    assert_eq!(answer.status, 422);
    // The page of the wizard offers to try another login, and does not fill in the old one.
    let page = browser.get(&path);
    assert!(
        page.contains("<details class=\"again\" id=\"again\" open>") && page.contains(&camera.url()),
        "{}",
        page.text()
    );
    expect_no_login("the page", page.text());
    // A port that nothing listens on any more.
    let dead = camera.url();
    drop(camera);
    let path = open(&served, &mut browser, &dead, USER, PASSWORD).unwrap();
    let result = wait(&mut browser, &path);
    assert!(result.contains("refused") || result.contains("No usable"), "{result}");
    assert!(result.contains("No usable keyframe came."), "{result}");
}

#[test]
fn hostile_input_is_refused_and_never_repeated() {
    let served = Served::start();
    let mut browser = served.browser().with("Accept-Language", "en");
    let before = fs::read(main_file(&served)).unwrap();
    for (target, user, password) in [
        ("admin:hunter2@192.0.2.1", "", ""),
        ("rtsp://admin:hunter2/x@192.0.2.1/y", "", ""),
        ("rtsp://192.0.2.1/x?password=hunter2", "", ""),
        ("file:///etc/passwd", "", ""),
        ("", "", ""),
        ("rtsp://192.0.2.1/", "admin", ""),
        ("rtsp://192.0.2.1/", "ad\nmin", "hunter2"),
        ("\"><script>alert(1)</script>", "", ""),
    ] {
        let answer = open(&served, &mut browser, target, user, password).unwrap_err();
        assert_eq!(answer.status, 422, "{target}: {}", answer.text());
        assert!(!answer.contains("<script>alert"), "{target}");
    }
    expect_no_login("the audit log", &format!("{:?}", served.street.acts.lock().unwrap()));
    // JSON whose password is no text.
    let code = browser.get("/cameras/add").csrf();
    let mut program = browser.clone().with("X-CSRF-Token", &code);
    for body in [
        &br#"{"target":"192.0.2.1","user":"a","password":7771777}"#[..],
        b"{",
        b"[]",
        br#"{"target":"h","x":"7771777"}"#,
    ] {
        let answer = program.send("POST", "/api/v1/camera-probes", "application/json", body);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(!answer.contains("7771777"), "{}", answer.text());
    }
    assert!(!format!("{:?}", served.street.acts.lock().unwrap()).contains("7771777"));
    for path in [
        "/cameras/add/nowhere",
        "/cameras/add/nowhere/picture",
        "/api/v1/camera-probes/nowhere",
        "/cameras/nowhere/remove",
        "/cameras/add/%2e%2e%2fx",
    ] {
        assert_eq!(browser.get(path).status, 404, "{path}");
    }
    assert_eq!(fs::read(main_file(&served)).unwrap(), before);
    assert!(!served.state_dir().join("credentials").exists());
}

#[test]
fn an_operator_cannot_reach_the_box_through_a_probe_nor_see_anothers_wizard() {
    let camera = RtspCamera::start();
    let served = Served::with_users();
    let mut operator = served.logged_in("operator").with("Accept-Language", "en");
    for target in [
        camera.url(),
        format!("127.0.0.1:{}", served.address.port()),
        "http://169.254.169.254/latest/meta-data".into(),
        format!("rtsp://localhost:{}/x", camera.port),
        "rtsp://[::1]/x".into(),
    ] {
        let answer = open(&served, &mut operator, &target, USER, PASSWORD).unwrap_err();
        assert_eq!(answer.status, 403, "{target}");
        assert!(answer.contains("only an administrator may try it"), "{}", answer.text());
    }
    let mut admin = served.logged_in("admin");
    let path = open(&served, &mut admin, &camera.url(), USER, PASSWORD).unwrap();
    assert_eq!(operator.get(&path).status, 404, "another person's wizard");
    assert_eq!(operator.get(&format!("{path}/picture")).status, 404);
    assert_eq!(admin.get(&path).status, 200);
    let acts = served.street.acts.lock().unwrap().clone();
    let refused = acts
        .iter()
        .filter(|act| act.name == "console camera probe" && act.outcome != Outcome::Done);
    assert_eq!(refused.count(), 5);
}

#[test]
fn a_program_adds_and_removes_a_camera_with_ids_that_could_be_paths_refused() {
    let camera = RtspCamera::start();
    let served = Served::with_users();
    let token = token(&served.accounts());
    let mut program = served.browser().with("Authorization", &format!("Bearer {token}"));
    let mut send = |method: &str, path: &str, body: &Value| {
        let answer = program.send(method, path, "application/json", body.to_string().as_bytes());
        expect_no_login("an answer", answer.text());
        answer
    };
    let body = json!({ "target": camera.url(), "user": USER, "password": PASSWORD });
    let started = send("POST", "/api/v1/camera-probes", &body);
    assert_eq!(started.status, 200, "{}", started.text());
    let id = started.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/camera-probes/{id}");
    let probe = loop {
        let answer = send("GET", &path, &Value::Null).json();
        if answer["is_over"] == true {
            break answer;
        }
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(probe["streams"][0]["codec"], "h264", "{probe}");
    assert_eq!(probe["picture"]["detections"][0]["label"], "garbage");
    assert!(probe["picture"]["after_s"].as_f64().unwrap() < 60.0, "{probe}");
    assert!(
        probe["advice"][0]["zh"].is_string() && probe["advice"][0]["en"].is_string(),
        "{probe}"
    );
    let revision = probe["revision"].as_str().unwrap();
    let add = |id: &str| json!({ "probe": probe_id(&path), "id": id, "stream": "main", "lon": 121.5, "lat": 31.2, "look_every": "2s", "revision": revision });
    let before = fs::read(main_file(&served)).unwrap();
    for hostile in [
        "",
        "..",
        "../../etc/passwd",
        "a/b",
        "a.b",
        "门口",
        "add",
        "a b",
        "x\u{0}",
        &"x".repeat(65),
    ] {
        let answer = send("POST", "/api/v1/cameras", &add(hostile));
        // The path of the page that adds cameras is an id like others, and taken.
        let status = if hostile == "add" { 422 } else { 400 };
        assert_eq!(answer.status, status, "{hostile:?}: {}", answer.text());
    }
    assert_eq!(send("POST", "/api/v1/cameras", &add("street-a")).status, 409);
    assert_eq!(fs::read(main_file(&served)).unwrap(), before);
    let added = send("POST", "/api/v1/cameras", &add("gate"));
    assert_eq!(added.status, 200, "{}", added.text());
    assert_eq!(added.json()["problems"], json!([]));
    assert_eq!(
        send("DELETE", "/api/v1/cameras/gate?revision=old", &Value::Null).status,
        409
    );
    let removed = send("DELETE", "/api/v1/cameras/gate", &Value::Null);
    assert_eq!(removed.status, 200, "{}", removed.text());
    assert_eq!(send("DELETE", "/api/v1/cameras/gate", &Value::Null).status, 404);
}

fn probe_id(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

fn token(accounts: &Accounts) -> String {
    let token = gridwatch_web::accounts::NewToken {
        name: "installer",
        role: Role::Admin,
        groups: Default::default(),
        made_by: "admin",
        expires_at: None,
    };
    accounts.add_token(&token).unwrap().to_string()
}

#[test]
fn a_search_shows_what_answers_and_ends() {
    let served = Served::start();
    let mut browser = served.browser().with("Accept-Language", "en");
    assert_eq!(
        served
            .post(
                &mut browser,
                "/cameras/add",
                "/cameras/add/search",
                &[("interface", "192.0.2.77")]
            )
            .status,
        422,
        "no interface of this box"
    );
    let answer = served.post(&mut browser, "/cameras/add", "/cameras/add/search", &[]);
    let location = answer.header("location").unwrap().to_owned();
    let page = browser.get(&location);
    assert!(page.contains("Searching"), "{}", page.text());
    let id = location.split('=').nth(1).unwrap();
    let path = format!("/cameras/add/search/{id}");
    loop {
        let answer = browser.get(&path);
        if !answer.contains("hx-trigger") {
            assert!(
                answer.contains("No camera answered") || answer.contains("found"),
                "{}",
                answer.text()
            );
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(browser.get("/cameras/add/search/nowhere").status, 286);
}
