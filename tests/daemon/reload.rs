//! The configuration changes while the daemon runs: nothing that goes on is lost, a faulty one changes nothing, and `gridwatch reload` tells
//! beforehand.

use std::{fs, path::Path, process::Output, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use crate::broker::{Broker, Subscriber, topic};
use crate::daemon::{Daemon, farm, gridwatch};
use gridwatch_config::raw;

/// Rewrites the daemon's file with `change`.
fn edit(daemon: &Daemon, change: impl FnOnce(&mut raw::File)) {
    let text = fs::read_to_string(daemon.config()).unwrap();
    let mut file: raw::File = toml::from_str(&text).unwrap();
    change(&mut file);
    write(Path::new(daemon.config()), &toml::to_string(&file).unwrap());
}

/// Replaces the file as editors do.
fn write(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

fn secs(seconds: u64) -> raw::Span {
    raw::Span(Duration::from_secs(seconds))
}

fn reload(daemon: &Daemon, arguments: &[&str]) -> (Output, Value) {
    let output = gridwatch(&["reload", "--json", "--config", daemon.config()])
        .args(arguments)
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (output, report)
}

fn paths(report: &Value) -> Vec<String> {
    let changes = report["changes"].as_array().unwrap().iter();
    changes.map(|c| c["path"].as_str().unwrap().to_owned()).collect()
}

fn looks(daemon: &Daemon, camera: &str) -> f64 {
    daemon.metric("gridwatch_looks_total", &format!("camera=\"{camera}\""))
}

fn readiness(daemon: &Daemon) -> Value {
    serde_json::from_str(&daemon.get("/readyz").unwrap().1).unwrap()
}

fn is_live(daemon: &Daemon, camera: &str) -> bool {
    daemon.metric("gridwatch_camera_state", &format!("camera=\"{camera}\",state=\"live\"")) == 1.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_takes_effect_and_nothing_that_goes_on_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let farm = farm(&["street-a", "square-c"]);
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/+/case").await;
    let mut daemon = Daemon::start(dir.path(), &farm, &["street-a"], broker.port);
    daemon.until("the heap as a candidate", |d| {
        (d.metric("gridwatch_presence_total", "rule=\"garbage\",reason=\"appeared\"") >= 1.0).then_some(())
    });
    let before = looks(&daemon, "street-a");

    // A camera is added, and the other one's zone moves a little: its candidate goes on.
    let mut added = crate::daemon::camera("square-c");
    added.url = farm.url("square-c");
    added.approved_signs = None;
    edit(&daemon, |file| {
        file.cameras.push(added);
        file.cameras[0].zones[0].polygon[0][1] = 0.67;
    });
    daemon.until("the new camera's looks", |d| {
        (looks(d, "square-c") >= 1.0).then_some(())
    });
    let case = daemon.until("the case at the platform", |_| {
        platform.drain().into_iter().find(|m| topic(m).ends_with("/case"))
    });
    let case: Value = serde_json::from_slice(&case.payload).unwrap();
    let appeared = case["presence"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["reason"] == "appeared");
    assert_eq!(appeared.count(), 1, "{case}");
    assert_eq!(
        daemon.metric("gridwatch_not_filed_total", "reason=\"reconfigured\""),
        0.0
    );
    assert_eq!(daemon.metric("gridwatch_reconnects_total", "camera=\"street-a\""), 0.0);
    assert!(looks(&daemon, "street-a") > before, "its counters go on");
    let (_, report) = reload(&daemon, &[]);
    assert_eq!(report["outcome"], "unchanged", "{report}");

    // Another pace needs no other connection.
    edit(&daemon, |file| file.cameras[0].look_every = secs(1));
    daemon.until("the other pace", |d| {
        d.log().contains("cameras[street-a].look_every").then_some(())
    });
    let seen = looks(&daemon, "street-a");
    daemon.until("looks at the other pace", |d| {
        (looks(d, "street-a") >= seen + 2.0).then_some(())
    });
    let connections = |log: &str| {
        let live = log.lines().filter(|l| l.contains("Camera live"));
        live.filter(|l| l.contains("street-a")).count()
    };
    assert_eq!(connections(&daemon.log()), 1, "{}", daemon.log());

    // The camera with the open case is taken away.
    edit(&daemon, |file| file.cameras.retain(|c| c.id != "street-a"));
    daemon.until("the removal", |d| {
        d.log().contains("View is no longer configured").then_some(())
    });
    let log = daemon.log();
    let removal = log
        .lines()
        .find(|l| l.contains("View is no longer configured"))
        .unwrap();
    assert!(removal.contains(case["case_id"].as_str().unwrap()), "{removal}");
    assert!(!is_live(&daemon, "street-a"));
    let seen = looks(&daemon, "square-c");
    daemon.until("more looks at the other", |d| {
        (looks(d, "square-c") > seen + 2.0).then_some(())
    });
    let acts = gridwatch(&["audit", "--json", "--state"])
        .arg(dir.path().join("state"))
        .output()
        .unwrap();
    let acts = String::from_utf8(acts.stdout).unwrap();
    assert_eq!(acts.matches("reload: file changed").count(), 3, "{acts}");
    assert!(daemon.stop().success());
}

#[test]
fn a_faulty_file_changes_nothing_and_is_reported_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let (farm, broker) = (farm(&["street-a"]), Broker::start());
    let mut daemon = Daemon::start(dir.path(), &farm, &["street-a"], broker.port);
    daemon.until("a look", |d| (looks(d, "street-a") >= 1.0).then_some(()));
    let good = fs::read_to_string(daemon.config()).unwrap();
    let file = Path::new(daemon.config()).to_owned();
    for bad in [
        "not toml [".to_owned(),
        good.replace("dwell = \"6s\"", "dwell = \"6 parsecs\""),
        good.replace("models/garbage_nano_416", "models/none"),
        String::new(),
    ] {
        write(&file, &bad);
        daemon.until("the refusal", |d| {
            (d.metric("gridwatch_config_rejected", "") == 1.0).then_some(())
        });
        let degraded = readiness(&daemon)["degraded"].to_string();
        assert!(
            degraded.contains("configuration: ") && degraded.contains("is not in force"),
            "{degraded}"
        );
        let seen = looks(&daemon, "street-a");
        daemon.until("more looks", |d| (looks(d, "street-a") > seen + 1.0).then_some(()));
        write(&file, &good);
        daemon.until("the mended file", |d| {
            (d.metric("gridwatch_config_rejected", "") == 0.0).then_some(())
        });
        assert_eq!(readiness(&daemon)["degraded"].as_array().map(Vec::len), Some(0));
    }
    // The file may be gone for a while.
    fs::remove_file(&file).unwrap();
    daemon.until("the refusal", |d| {
        (d.metric("gridwatch_config_rejected", "") == 1.0).then_some(())
    });
    write(&file, &good);
    daemon.until("the file", |d| {
        (d.metric("gridwatch_config_rejected", "") == 0.0).then_some(())
    });
    assert!(daemon.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_broker_gets_the_cases_after_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let farm = farm(&["street-a"]);
    let (old, new) = (Broker::start(), Broker::start());
    let mut platform = Subscriber::start(new.port, "gridwatch/v1/+/case").await;
    let mut daemon = Daemon::start(dir.path(), &farm, &["street-a"], old.port);
    daemon.until("the first broker", |d| {
        (d.metric("gridwatch_link_connected", "") == 1.0).then_some(())
    });
    let port = new.port;
    edit(&daemon, |file| file.broker.url = format!("mqtt://127.0.0.1:{port}"));
    daemon.signal(Signal::HUP);
    daemon.until("the case at the second broker", |_| {
        platform.drain().into_iter().find(|m| topic(m).ends_with("/case"))
    });
    assert!(daemon.stop().success());
}

/// Thirty changed files, and what each would do: the paths of the changes, or the fault.
#[test]
fn a_dry_run_answers_for_thirty_changed_files_and_applies_none() {
    type Change = fn(&mut raw::File);
    let right: [(&[&str], Change); 19] = [
        (&[], |_| {}),
        (&["cameras[street-a].look_every"], |f| f.cameras[0].look_every = secs(3)),
        (&["cameras[street-a].zones[pavement].polygon"], |f| {
            f.cameras[0].zones[0].polygon[0][0] = 0.01
        }),
        (&["cameras[street-a].zones[pavement].rules"], |f| {
            f.cameras[0].zones[0].rules.truncate(1)
        }),
        (&["cameras[street-a].address"], |f| {
            f.cameras[0].address = Some("1 Rd".into())
        }),
        (&["cameras[street-b]"], |f| f.cameras.truncate(1)),
        (&["rules[garbage].dwell"], |f| f.rules[0].dwell = secs(7)),
        (&["rules[garbage].dwell", "rules[vendor].dwell"], |f| {
            f.rules[0].dwell = secs(7);
            f.rules[2].dwell = secs(13);
        }),
        (&["rules[garbage].start_score"], |f| f.rules[0].start_score = 0.91),
        (&["rules"], |f| f.rules.swap(0, 1)),
        (&["telemetry.filter"], |f| f.telemetry.filter = "debug".into()),
        (&["telemetry.max_blind_share"], |f| f.telemetry.max_blind_share = 0.25),
        (&["broker.in_flight"], |f| f.broker.in_flight = 3),
        (&["broker.topic_prefix"], |f| f.broker.topic_prefix = "city".into()),
        (&["evidence.jpeg_quality"], |f| f.evidence.jpeg_quality = 77),
        (&["node.language"], |f| f.node.language = raw::Language::En),
        (&["view.dark_below"], |f| f.view.dark_below = 9.0),
        (&["runtime.workers"], |f| f.runtime.workers = Some(2)),
        (&["telemetry.listen"], |f| f.telemetry.listen = String::new()),
    ];
    let wrong: [(&str, Change); 11] = [
        ("cameras[0].url", |f| f.cameras[0].url = "gopher://x/".into()),
        ("cameras[1].id", |f| f.cameras[1].id = "street-a".into()),
        ("cameras[0].models", |f| f.cameras[0].models = vec!["none".into()]),
        ("cameras[0].zones[0].polygon", |f| {
            f.cameras[0].zones[0].polygon.truncate(2)
        }),
        ("cameras[0].zones[0].rules", |f| {
            f.cameras[0].zones[0].rules.push("none".into())
        }),
        ("rules[0].dwell", |f| f.rules[0].dwell = secs(0)),
        ("rules[0].category", |f| f.rules[0].category = "9999".into()),
        ("grid.file", |f| f.grid.file = "none.geojson".into()),
        ("node.timezone", |f| f.node.timezone = "Mars/Olympus".into()),
        ("broker.url", |f| f.broker.url = "smtp://x".into()),
        ("telemetry.filter", |f| f.telemetry.filter = "a=b=c".into()),
    ];
    let dir = tempfile::tempdir().unwrap();
    let (farm, broker) = (farm(&["street-a", "street-b"]), Broker::start());
    let mut daemon = Daemon::start(dir.path(), &farm, &["street-a", "street-b"], broker.port);
    daemon.until("the start", |d| d.log().contains("gridwatch started").then_some(()));
    let text = fs::read_to_string(daemon.config()).unwrap();
    let changed = |change: Change| {
        let mut file: raw::File = toml::from_str(&text).unwrap();
        change(&mut file);
        let candidate = dir.path().join("candidate.toml");
        fs::write(&candidate, toml::to_string(&file).unwrap()).unwrap();
        reload(&daemon, &["--dry-run", "--candidate", candidate.to_str().unwrap()])
    };
    for (expected, change) in right {
        let (output, report) = changed(change);
        assert!(output.status.success(), "{expected:?}: {report}");
        assert_eq!(paths(&report), expected, "{report}");
    }
    for (path, change) in wrong {
        let (output, report) = changed(change);
        assert_eq!(
            (output.status.code(), &report["outcome"]),
            (Some(3), &Value::from("rejected")),
            "{path}"
        );
        let reasons = [&report["faults"][0]["path"], &report["error"]];
        let is_named = reasons.iter().any(|r| r.as_str().is_some_and(|r| r.starts_with(path)));
        assert!(is_named, "{path}: {report}");
    }
    assert!(!daemon.log().contains("Configuration reloaded"));
    let (_, report) = reload(&daemon, &["--dry-run"]);
    assert_eq!(
        (&report["outcome"], paths(&report)),
        (&Value::from("unchanged"), Vec::new())
    );
    assert!(daemon.stop().success());
}

#[test]
fn what_needs_a_restart_is_named_until_then() {
    let dir = tempfile::tempdir().unwrap();
    let (farm, broker) = (farm(&["street-a"]), Broker::start());
    let mut daemon = Daemon::start(dir.path(), &farm, &["street-a"], broker.port);
    daemon.until("a look", |d| (looks(d, "street-a") >= 1.0).then_some(()));
    edit(&daemon, |file| {
        file.runtime.workers = Some(3);
        file.evidence.jpeg_quality = 71;
    });
    let (_, report) = reload(&daemon, &[]);
    let mut changed = paths(&report);
    changed.sort();
    // The daemon may have noticed the file by itself.
    assert!(changed.contains(&"runtime.workers".to_owned()), "{report}");
    for _ in 0..2 {
        let degraded = readiness(&daemon)["degraded"].to_string();
        assert!(
            degraded.contains("in force after a restart: runtime.workers"),
            "{degraded}"
        );
        daemon.signal(Signal::HUP);
        let (_, report) = reload(&daemon, &[]);
        assert_eq!(
            (&report["outcome"], paths(&report)),
            (&Value::from("unchanged"), vec!["runtime.workers".into()])
        );
    }
    let text = gridwatch(&["reload", "--config", daemon.config()]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&text.stdout).contains("after a restart of the daemon"),
        "{text:?}"
    );
    assert!(daemon.stop().success());
}

#[test]
fn without_a_daemon_a_reload_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let output = gridwatch(&["reload", "--config", "configs/demo.toml", "--dry-run", "--state"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("no daemon runs on"),
        "{output:?}"
    );
}
