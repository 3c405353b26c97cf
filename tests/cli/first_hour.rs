//! The commands of somebody who has just built gridwatch: `try`, `snapshot` and `init`, all without a configuration.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::broker::Broker;

fn run_in(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .env_remove("GRIDWATCH_CONFIG")
        .env_remove("GRIDWATCH_STATE")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn init_writes_a_configuration_that_check_accepts_and_keeps_the_password_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let cameras = [
        "--camera",
        "gate=rtsp://admin:hunter%402@192.0.2.10:554/stream",
        "--camera",
        "lane=rtsp://192.0.2.11/1",
    ];
    let more = [
        "--place",
        "-70.66,-33.44",
        "--local-broker",
        "--dwell",
        "1m",
        "--language",
        "en",
        "--json",
    ];
    let report = json(&run_in(dir.path(), &[&["init"][..], &cameras, &more].concat()));
    assert_eq!(
        (&report["config"], &report["made_up_place"]),
        (&"gridwatch/gridwatch.toml".into(), &false.into())
    );
    let written = dir.path().join("gridwatch");
    let text = fs::read_to_string(written.join("gridwatch.toml")).unwrap();
    assert!(!text.contains("hunter") && !text.contains("admin"), "{text}");
    assert!(
        text.contains("# how long it must stay"),
        "the comments are kept:\n{text}"
    );
    let secret = written.join("gate.secret");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "admin:hunter@2\n");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(written.join("mosquitto.conf").is_file());

    let checked = run_in(
        dir.path(),
        &["check", "--offline", "--config", "gridwatch/gridwatch.toml"],
    );
    let printed = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{printed}{}", stderr(&checked));
    let config = gridwatch_config::load(&written.join("gridwatch.toml")).unwrap();
    assert_eq!(
        config.cameras.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(),
        ["gate", "lane"]
    );
    assert!(config.plan.rules.iter().all(|rule| rule.dwell.as_secs() == 60));

    let again = run_in(dir.path(), &[&["init"][..], &cameras].concat());
    assert_eq!(again.status.code(), Some(3));
    assert!(stderr(&again).contains("already exists"), "{}", stderr(&again));
}

#[test]
fn init_without_a_camera_or_with_a_wrong_one_says_what_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let none = run_in(dir.path(), &["init"]);
    assert_eq!(none.status.code(), Some(3));
    assert!(stderr(&none).contains("--camera ID=URL"), "{}", stderr(&none));
    for (camera, expected) in [
        ("gate", "expected ID=URL"),
        ("a/b=rtsp://192.0.2.1/", "is no id"),
        ("gate=rtsp://admin:hunt/er2@host/", "%2F"),
    ] {
        let wrong = run_in(dir.path(), &["init", "--camera", camera]);
        assert_eq!(wrong.status.code(), Some(2), "{camera}");
        assert!(stderr(&wrong).contains(expected), "{}", stderr(&wrong));
    }
    for camera in [
        "gate=rtsp://u:hunter2#x@host/1",
        "gate=rtsp://u:hunter2%0a@host/1",
        "gate=rtsp://u%3a:hunter2@host/1",
    ] {
        let wrong = run_in(dir.path(), &["init", "--camera", camera]);
        assert_eq!(wrong.status.code(), Some(2), "{camera}");
        assert!(!stderr(&wrong).contains("hunter2"), "{}", stderr(&wrong));
    }
    for setting in [
        ["--timezone", "Mars/X"],
        ["--dwell", "1ms"],
        ["--broker", "http://x"],
        ["--broker", "mqtt://u:hunter2@h"],
    ] {
        let wrong = run_in(
            dir.path(),
            &[&["init", "--camera", "a=rtsp://192.0.2.1/"][..], &setting].concat(),
        );
        assert_eq!(wrong.status.code(), Some(3), "{setting:?}: {}", stderr(&wrong));
        assert!(
            !stderr(&wrong).contains("hunter2") && !stderr(&wrong).contains(".gridwatch-init"),
            "{}",
            stderr(&wrong)
        );
    }
    let twice = run_in(
        dir.path(),
        &[
            "init",
            "--camera",
            "a=rtsp://192.0.2.1/",
            "--camera",
            "a=rtsp://192.0.2.2/",
        ],
    );
    assert!(stderr(&twice).contains("two cameras have the id"), "{}", stderr(&twice));
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is left of what failed"
    );
}

#[test]
fn init_with_a_broker_with_tls_wants_its_ca_and_check_then_trusts_it() {
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls");
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(&format!(
        "certfile {0}/server.pem\nkeyfile {0}/server.key\n",
        tls.display()
    ));
    let url = format!("mqtts://localhost:{}", broker.port);
    fs::copy(tls.join("ca.pem"), dir.path().join("ca.pem")).unwrap();
    fs::write(dir.path().join("no.pem"), "a certificate in DER").unwrap();
    let init = |more: &[&str]| {
        let arguments = ["init", "--camera", "gate=rtsp://127.0.0.1:1/"];
        run_in(dir.path(), &[&arguments[..], more].concat())
    };
    for (more, expected) in [
        (&["--broker", &url][..], "give --ca-file FILE"),
        (&["--broker", &url, "--ca-file", "missing.pem"], "missing.pem"),
        (&["--broker", &url, "--ca-file", "no.pem"], "no certificate in it"),
        (&["--broker", "mqtt://localhost", "--ca-file", "ca.pem"], "mqtts://"),
    ] {
        let wrong = init(more);
        assert_eq!(wrong.status.code(), Some(3), "{more:?}: {}", stderr(&wrong));
        assert!(stderr(&wrong).contains(expected), "{}", stderr(&wrong));
    }
    let written = init(&["--broker", &url, "--ca-file", "ca.pem"]);
    assert!(written.status.success(), "{}", stderr(&written));
    let checked = run_in(dir.path(), &["check", "--config", "gridwatch/gridwatch.toml", "--json"]);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let rows = report["checks"].as_array().unwrap();
    let row = rows.iter().find(|row| row["what"] == "broker").unwrap();
    assert!(
        row["state"] == "ok" && row["message"].as_str().unwrap().contains("TLS"),
        "{row}"
    );
}

#[cfg(all(feature = "gst", feature = "ort"))]
mod with_models {
    use std::{
        io::{BufRead, BufReader, Read},
        time::{Duration, Instant},
    };

    use super::*;
    use crate::daemon::{farm, root};

    #[test]
    fn a_clip_is_tried_and_shows_the_heap_that_would_be_filed() {
        let dir = tempfile::tempdir().unwrap();
        let clip = root().join("demo/clips/street-a.mp4");
        let report = json(&run_in(
            dir.path(),
            &[
                "try",
                clip.to_str().unwrap(),
                "--for",
                "20s",
                "--language",
                "zh",
                "--json",
            ],
        ));
        assert_eq!((&report["looks"], &report["judged"]), (&10.into(), &true.into()));
        let [case] = report["cases"].as_array().unwrap().as_slice() else {
            panic!("one case, not {}", report["cases"])
        };
        assert_eq!((&case["category"], &case["rule"]), (&"0102".into(), &"garbage".into()));
        let folder = dir.path().join("gridwatch-try");
        let page = fs::read_to_string(folder.join("report.html")).unwrap();
        assert!(page.contains("暴露垃圾"), "{page}");
        let pictures = case["pictures"]
            .as_array()
            .unwrap()
            .iter()
            .chain(report["pictures"].as_array().unwrap());
        let mut count = 0;
        for picture in pictures {
            let file = picture["file"].as_str().unwrap();
            assert_eq!(image::image_dimensions(folder.join(file)).unwrap(), (1280, 720));
            assert!(page.contains(file), "{file}");
            count += 1;
        }
        assert_eq!(count, 8, "two of the case and six others");
    }

    #[test]
    fn single_pictures_are_searched_but_not_judged_and_reports_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let picture = root().join("tests/fixtures/pictures/bags.jpg");
        for folder in ["gridwatch-try", "gridwatch-try-2"] {
            let output = run_in(dir.path(), &["try", picture.to_str().unwrap(), "--language", "en"]);
            assert!(output.status.success(), "{}", stderr(&output));
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(
                printed.contains("1 look\n") && printed.contains("garbage") && !printed.contains("would be filed"),
                "{printed}"
            );
            assert!(dir.path().join(folder).join("report.html").is_file());
        }
    }

    #[test]
    fn a_live_camera_is_tried_and_photographed() {
        let farm = farm(&["street-a"]);
        let dir = tempfile::tempdir().unwrap();
        let url = farm.url("street-a");
        let with_query = format!("{url}?password=hunter2");
        let arguments = ["try", &with_query, "--for", "4s", "--every", "2s", "--json"];
        let tried = run_in(dir.path(), &arguments);
        let report = json(&tried);
        assert!(report["looks"].as_u64().unwrap() >= 2, "{report}");
        let page = fs::read_to_string(dir.path().join("gridwatch-try/report.html")).unwrap();
        for shown in [page, report.to_string(), stderr(&tried)] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        let shot = run_in(dir.path(), &["snapshot", &url, "--out", "a.png"]);
        assert!(shot.status.success(), "{}", stderr(&shot));
        let picture = dir.path().join("a.png");
        assert_eq!(image::image_dimensions(&picture).unwrap(), (1280, 720));
        assert_eq!(
            fs::metadata(picture).unwrap().permissions().mode() & 0o777,
            0o600,
            "it is not masked"
        );
    }

    #[test]
    fn a_camera_that_fails_is_reported_with_the_reason_at_once() {
        let clip = gridwatch_farm::clip(root().join("demo/clips/street-a.mp4")).unwrap();
        let farm = gridwatch_farm::Farm::start(gridwatch_farm::FarmConfig {
            mounts: vec![gridwatch_farm::MountConfig {
                name: "street-a".into(),
                clip,
                offset: Duration::ZERO,
            }],
            auth: Some(gridwatch_farm::Auth {
                method: gridwatch_farm::AuthMethod::Digest,
                user: "viewer".into(),
                password: "right-horse".into(),
            }),
            ..gridwatch_farm::FarmConfig::default()
        })
        .unwrap();
        let with_login = |path: &str, login: &str| farm.url(path).replace("rtsp://", &format!("rtsp://{login}@"));
        let closed = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            format!("rtsp://{}/stream", listener.local_addr().unwrap())
        };
        let dir = tempfile::tempdir().unwrap();
        for (url, code, expected) in [
            (closed, 4, "Connection refused"),
            (with_login("elsewhere", "viewer:right-horse"), 3, "status 404"),
            (with_login("street-a", "viewer:wrong-horse"), 3, "login rejected"),
        ] {
            for command in [&["try", "--for", "4s"][..], &["snapshot"]] {
                let start = Instant::now();
                let output = run_in(dir.path(), &[command, &[url.as_str()]].concat());
                let message = stderr(&output);
                assert_eq!(output.status.code(), Some(code), "{command:?}: {message}");
                assert!(message.contains(expected) && message.contains("; c"), "{message}");
                assert!(message.contains("error: rtsp://127.0.0.1:"), "{message}");
                assert!(!message.contains("horse"), "{message}");
                assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
            }
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }

    /// Runs `try` on the stream and interrupts it `after` it has begun to look.
    fn interrupted(dir: &Path, url: &str, after: Duration) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args([
                "try",
                url,
                "--for",
                "60s",
                "--every",
                "1s",
                "--language",
                "en",
                "--json",
            ])
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        errors.read_line(&mut text).unwrap();
        assert!(text.starts_with("Looking at"), "{text}");
        std::thread::sleep(after);
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
        errors.read_to_string(&mut text).unwrap();
        let output = child.wait_with_output().unwrap();
        Output {
            stderr: text.into_bytes(),
            ..output
        }
    }

    #[test]
    fn an_interrupted_trial_keeps_the_report_of_what_was_seen() {
        let farm = farm(&["street-a"]);
        let dir = tempfile::tempdir().unwrap();
        let output = interrupted(dir.path(), &farm.url("street-a"), Duration::from_secs(8));
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(130), "{message}");
        assert!(message.contains("Interrupted; the report covers"), "{message}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["ended_early"], "interrupted");
        assert!(report["looks"].as_u64().unwrap() >= 1, "{report}");
        let page = dir.path().join("gridwatch-try/report.html");
        let mode = fs::metadata(&page).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let page = fs::read_to_string(page).unwrap();
        assert!(page.contains("Ended early"), "{page}");
        for picture in report["pictures"].as_array().unwrap() {
            let file = dir.path().join("gridwatch-try").join(picture["file"].as_str().unwrap());
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_trial_that_is_interrupted_before_its_first_look_leaves_nothing() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let url = format!("rtsp://{}/stream", silent.local_addr().unwrap());
        let output = interrupted(dir.path(), &url, Duration::ZERO);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(130), "{message}");
        assert!(message.contains("no report is written"), "{message}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_tried_is_named_and_leaves_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let broken = dir.path().join("broken.mp4");
        fs::write(&broken, "no clip").unwrap();
        for (arguments, code, expected) in [
            (vec!["try", "missing.mp4"], 5, "missing.mp4"),
            (vec!["try", "broken.mp4"], 5, "broken.mp4"),
            (vec!["try", "rtsp://admin:hunter2@"], 3, "not a stream URL"),
            (vec!["try", "broken.mp4", "--every", "1ms"], 3, "--every"),
            (vec!["try", "broken.mp4", "--for", "0s"], 3, "--for"),
            (vec!["try", "rtsp//admin:hunter2@192.0.2.1/"], 3, "rtsp://"),
            (vec!["snapshot", "gate"], 3, "--config"),
            (vec!["snapshot", "rtsp://192.0.2.1/", "--out", "a.gif"], 3, ".jpg"),
        ] {
            let output = run_in(dir.path(), &arguments);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
            let message = stderr(&output);
            assert!(message.contains(expected) && !message.contains("hunter2"), "{message}");
        }
        assert!(!dir.path().join("gridwatch-try").exists());
    }
}
