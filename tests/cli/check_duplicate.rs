//! `gridwatch check` warns of another box that is online under this node id, as after cloning a disk, and disturbs neither.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::broker::{Broker, within};
use crate::filing::link_with;
use gridwatch_base::installation::{Installation, request_take_over};
use gridwatch_link::Settings;
use gridwatch_mqtt::Protocol;
use gridwatch_store::Store;

/// The rows about the broker and the node id.
async fn rows(dir: &Path, broker: &Broker, protocol: Protocol) -> Vec<(String, String, String)> {
    let file = dir.join("edge.toml");
    let text = format!(
        "[node]\nid = \"box-1\"\nstate_dir = \"state\"\n\n[broker]\nurl = \"mqtt://127.0.0.1:{}\"\nprotocol = {:?}\n",
        broker.port,
        protocol.as_str()
    );
    fs::write(&file, text).unwrap();
    let output = tokio::task::spawn_blocking(move || {
        Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args(["check", "--json", "--timeout", "20s", "--config"])
            .arg(file)
            .output()
            .unwrap()
    });
    let report: Value = serde_json::from_slice(&output.await.unwrap().stdout).unwrap();
    let rows = report["checks"].as_array().unwrap().iter();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.filter(|row| row["what"] == "broker" || row["what"] == "node.id")
        .map(|row| (text(row, "what"), text(row, "state"), text(row, "message")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_box_online_under_this_node_id_is_a_warning() {
    for protocol in [Protocol::V5, Protocol::V311] {
        let dir = tempfile::tempdir().unwrap();
        let (own, other) = (dir.path().join("state"), dir.path().join("other"));
        let broker = Broker::start();
        let settings = |state: &Path| Settings {
            node: "box-1".into(),
            protocol,
            installation: Some(Installation::of(state).unwrap()),
            ..crate::filing::settings(broker.port)
        };
        let states = |rows: &[(String, String, String)]| rows.iter().map(|r| r.1.clone()).collect::<Vec<_>>();
        assert_eq!(
            states(&rows(dir.path(), &broker, protocol).await),
            ["ok"],
            "nobody is online"
        );
        assert!(!own.exists(), "check writes nothing");

        let other_store = Store::open(&other).unwrap();
        let (other_box, _replies) = link_with(settings(&other), &other_store);
        let mut state = other_box.state();
        within(state.wait_for(|s| s.connected)).await.unwrap();
        let found = rows(dir.path(), &broker, protocol).await;
        assert_eq!(states(&found), ["ok", "warning"], "{found:?}");
        let message = &found[1].2;
        let id = Installation::of(&other).unwrap().id().to_owned();
        assert!(message.contains(&id) && message.contains("take-over"), "{message}");
        assert!(message.contains("not-started-yet"), "{message}");

        // An operator has decided.
        let own_store = Store::open(&own).unwrap();
        request_take_over(&own).unwrap();
        assert_eq!(states(&rows(dir.path(), &broker, protocol).await), ["ok"]);
        assert!(other_box.state().borrow().connected, "it was not disturbed");
        other_box.shutdown().await;

        // The own daemon is no other box.
        let (own_box, _replies) = link_with(settings(&own), &own_store);
        let mut state = own_box.state();
        within(state.wait_for(|s| s.connected)).await.unwrap();
        let found = rows(dir.path(), &broker, protocol).await;
        assert_eq!(states(&found), ["ok"], "{found:?}");
        own_box.shutdown().await;
    }
}
