//! Model versions installed in a running daemon with the command line: a good one goes live while three cameras are watched and
//! candidates dwell, and costs neither a case nor a look; broken ones are refused, and the good one stays live.

use std::{path::Path, time::Duration};

use crate::broker::{Broker, Subscriber, topic};
use crate::daemon::{Daemon, farm, gridwatch};
use crate::packages::{MODEL, edit, package, without_self_test, zero_weights};
use gridwatch_config::raw;
use gridwatch_contract::CaseRecord;
use serde_json::Value;

const CAMERAS: [&str; 3] = ["street-a", "street-b", "square-c"];

/// `gridwatch model …`: its exit code, the JSON object on standard output, and standard error.
fn model(config: &str, arguments: &[&str]) -> (i32, Value, String) {
    let all = [&["model", "--config", config], arguments, &["--json"]].concat();
    let output = gridwatch(&all).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), printed, stderr)
}

fn install(config: &str, dir: &Path, version: &str, change: impl FnOnce(&Path)) {
    let folder = package(&dir.join("package"), version);
    change(&folder);
    let (code, printed, stderr) = model(config, &["install", folder.to_str().unwrap()]);
    assert_eq!((code, &printed["version"]), (0, &version.into()), "{stderr}");
}

/// Checks that a version without a self-test replaces none that has one, and that its trial, if asked for, is refused because it
/// misses one of `labels`.
fn refused_as_blind(config: &str, version: &str, labels: &[&str]) {
    let version = format!("{MODEL}@{version}");
    let (code, _, stderr) = model(config, &["use", &version]);
    assert!(code == 5 && stderr.contains("has no self-test"), "{code} {stderr}");
    let (code, printed, stderr) = model(config, &["use", &version, "--force"]);
    assert_eq!(
        (code, &printed["outcome"]),
        (1, &"refused".into()),
        "{printed} {stderr}"
    );
    let reason = printed["reason"].as_str().unwrap();
    let is_missed = |label: &&str| reason.contains(&format!("from which rules count {label:?}"));
    assert!(
        labels.iter().any(is_missed) && reason.contains("looks in which the running model did"),
        "{printed}"
    );
}

fn short_trials(file: &mut raw::File) {
    // Two of the three cameras show garbage, not in each look, and it takes 10 looks with it to refuse a version for missing it.
    file.registry.trial_looks = 40;
    // Debug builds on a shared machine: speed is not under test here.
    file.registry.slower_at_most = 100.0;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_under_load_loses_no_case_and_no_look_and_a_broken_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let farm = farm(&CAMERAS);
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/+/case").await;
    let mut running = Daemon::start_with(dir.path(), &farm, &CAMERAS, broker.port, short_trials);
    running.until("the heap as a candidate", |d| {
        (d.metric("gridwatch_presence_total", "rule=\"garbage\",reason=\"appeared\"") >= 1.0).then_some(())
    });

    // The same weights under a new version, while the heap dwells.
    install(running.config(), dir.path(), "1.1.1", |_| {});
    let version = format!("{MODEL}@1.1.1");
    let (code, printed, stderr) = model(running.config(), &["use", &version, "--force"]);
    assert_eq!((code, &printed["outcome"]), (0, &"live".into()), "{printed} {stderr}");
    let report = &printed["entry"]["report"];
    assert_eq!((&report["looks"], &report["errors"]), (&40.into(), &0.into()));
    for (label, of) in report["differences"]["labels"].as_object().unwrap() {
        assert_eq!(
            (&of["only_old"], &of["only_new"]),
            (&0.into(), &0.into()),
            "{label}: the weights are the same"
        );
    }
    assert_eq!(running.metric("gridwatch_model_live", "version=\"1.1.1\""), 1.0);

    // Wrong scaling: the network sees almost black frames and detects nothing on any street. The self-test catches it; without a
    // self-test it replaces no version that has one, and if an operator insists, the trial catches it.
    let spoil = |folder: &Path| edit(folder, "pad", "pad = 114\nstd = [255.0, 255.0, 255.0]");
    let folder = package(&dir.path().join("package"), "1.1.2");
    spoil(&folder);
    let (code, _, stderr) = model(running.config(), &["install", folder.to_str().unwrap()]);
    assert_eq!(code, 5, "{stderr}");
    install(running.config(), dir.path(), "1.1.2", |folder| {
        spoil(folder);
        without_self_test(folder);
    });
    refused_as_blind(running.config(), "1.1.2", &["garbage", "sign"]);
    // Every weight is zero, so that the first class is reported everywhere at 0.25, below what the rule of that class counts.
    install(running.config(), dir.path(), "1.1.3", |folder| {
        zero_weights(folder);
        without_self_test(folder);
    });
    refused_as_blind(running.config(), "1.1.3", &["garbage", "sign"]);
    // Two classes are swapped: it finds as much as before, under other names.
    install(running.config(), dir.path(), "1.1.4", |folder| {
        let swapped = "labels = [\"garbage_bin\", \"garbage\", \"overflow\", \"sign\"]";
        edit(folder, "labels", swapped);
        without_self_test(folder);
    });
    refused_as_blind(running.config(), "1.1.4", &["garbage"]);

    // In a shadow run it decides nothing, and the list shows what it would have missed.
    let (code, printed, stderr) = model(
        running.config(),
        &["shadow", &format!("{MODEL}@1.1.2"), "--looks", "20"],
    );
    assert_eq!(
        (code, &printed["outcome"]),
        (0, &"shadow_ended".into()),
        "{printed} {stderr}"
    );
    let output = gridwatch(&["model", "--config", running.config(), "list", "--json"])
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let list: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = list.iter().find(|l| l["id"] == MODEL).unwrap();
    assert_eq!(
        (&of["live_version"], &of["daemon"]),
        (&"1.1.1".into(), &true.into()),
        "{of}"
    );
    let shadowed = &of["outcomes"]["1.1.2"];
    assert_eq!(shadowed["report"]["looks"], 20, "{shadowed}");
    let garbage = &shadowed["report"]["differences"]["labels"]["garbage"];
    assert!(
        garbage["only_old"].as_u64().unwrap() > 0 && garbage["both"] == 0,
        "{shadowed}"
    );
    let (list, check) = (
        ["model", "--config", running.config(), "list"],
        ["check", "--offline", "--config", running.config()],
    );
    let printed = |arguments: &[&str]| String::from_utf8(gridwatch(arguments).output().unwrap().stdout).unwrap();
    let (list, check) = (printed(&list), printed(&check));
    assert!(list.contains("1.1.1") && list.contains("shadow run ended"), "{list}");
    let row = check
        .lines()
        .find(|l| l.contains(&format!("model {MODEL}, live")))
        .unwrap();
    assert!(row.starts_with("ok") && row.contains("version 1.1.1"), "{check}");

    // The heap that two cameras see, and the vendor: each is filed once, whichever version was live.
    let mut received: Vec<CaseRecord> = Vec::new();
    running.until("both cases at the platform", |_| {
        let messages = platform.drain().into_iter().filter(|m| topic(m).ends_with("/case"));
        received.extend(messages.map(|m| serde_json::from_slice(&m.payload).unwrap()));
        (received.len() >= 2).then_some(())
    });
    let mut categories: Vec<&str> = received.iter().map(|r| r.category_code.as_str()).collect();
    categories.sort_unstable();
    assert_eq!(categories, ["0102", "0501"]);
    assert_eq!(
        running.metric("gridwatch_looks_failed_total", ""),
        0.0,
        "{}",
        running.log()
    );
    assert!(running.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_requested_while_no_daemon_ran_is_used_from_the_start_and_named_in_the_case() {
    let dir = tempfile::tempdir().unwrap();
    let cameras = ["street-a"];
    let farm = farm(&cameras);
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/+/case").await;
    // The trial, and the self-test before it, end before the heap can be confirmed, also where other tests keep the machine busy.
    let two_looks = |file: &mut raw::File| {
        short_trials(file);
        file.registry.trial_looks = 2;
        for rule in file.rules.iter_mut().filter(|rule| rule.id == "garbage") {
            rule.dwell = raw::Span(Duration::from_secs(40));
        }
    };
    // Started only for its configuration file; how far it got does not matter.
    let first = Daemon::start_with(dir.path(), &farm, &cameras, broker.port, two_looks);
    let config = first.config().to_owned();
    first.kill();
    install(&config, dir.path(), "1.1.1", |_| {});
    // The self-test shows garbage and signs; that the network finds overflowing bins, two looks of this street cannot tell.
    let (code, printed, stderr) = model(&config, &["use", &format!("{MODEL}@1.1.1"), "--force"]);
    assert_eq!((code, &printed["outcome"]), (0, &"asked".into()), "{printed}");
    assert!(!stderr.contains("Not in its self-test"), "{stderr}");
    assert!(
        printed["reason"].as_str().unwrap().contains("no daemon runs"),
        "{printed}"
    );

    let mut running = Daemon::start_with(dir.path(), &farm, &cameras, broker.port, two_looks);
    let message = running.until("the case at the platform", |_| {
        platform.drain().into_iter().find(|m| topic(m).ends_with("/case"))
    });
    let record: CaseRecord = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(
        (record.model.id.as_str(), record.model.version.as_str()),
        (MODEL, "1.1.1")
    );
    let (code, printed, _) = model(&config, &["rollback", MODEL]);
    assert_eq!((code, &printed["outcome"]), (0, &"rolled_back".into()), "{printed}");
    let (code, _, stderr) = model(&config, &["rollback", MODEL]);
    assert_eq!(code, 3, "{stderr}");
    assert!(running.stop().success());
}
