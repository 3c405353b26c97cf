//! Two boxes with one node id: the later one publishes nothing until that is resolved.

use std::path::Path;

use crate::broker::{Broker, Subscriber, within};
use crate::filing::{file, link_with, topics};
use crate::scripted_broker::ScriptedBroker;
use crate::{client_id, connected, connections_of, settings};
use gridwatch_base::installation::{Installation, request_take_over};
use gridwatch_link::{LinkHandle, LinkProblem, Settings};
use gridwatch_mqtt::Protocol;
use gridwatch_store::Store;
use rumqttc::DisconnectReasonCode;
use serde_json::Value;

for_both_protocols!(
    the_later_of_two_boxes_publishes_nothing_until_it_takes_over,
    a_box_replaces_one_that_is_gone,
    of_two_processes_on_copies_of_one_state_one_stops,
    a_copy_of_a_state_directory_that_starts_later_gives_way,
);

fn settings_in(dir: &Path, port: u16, protocol: Protocol) -> Settings {
    Settings {
        installation: Some(Installation::of(dir).unwrap()),
        ..settings(port, protocol)
    }
}

async fn stopped_as_duplicate(link: &LinkHandle) -> String {
    let mut state = link.state();
    let state = within(state.wait_for(|s| s.problem == Some(LinkProblem::DuplicateNodeId)));
    state.await.unwrap().last_error.clone().unwrap()
}

async fn the_later_of_two_boxes_publishes_nothing_until_it_takes_over(protocol: Protocol) {
    let broker = Broker::start();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [mut first_store, mut later_store] = dirs.each_ref().map(|dir| Store::open(dir.path()).unwrap());
    let settings = dirs
        .each_ref()
        .map(|dir| settings_in(dir.path(), broker.port, protocol));
    let [first_id, later_id] = settings
        .each_ref()
        .map(|s| s.installation.as_ref().unwrap().id().to_owned());
    let [first_settings, later_settings] = settings;
    let (first, _replies) = link_with(first_settings, &first_store);
    connected(&first).await;

    let case = file(&mut later_store, 2);
    let (later, _more_replies) = link_with(later_settings, &later_store);
    let reason = stopped_as_duplicate(&later).await;
    assert!(reason.contains(&first_id) && reason.contains("take-over"), "{reason}");
    assert_eq!(
        connections_of(&broker, &client_id()).len(),
        1,
        "the first one was not disturbed"
    );
    assert!(first.state().borrow().connected);

    let mut cases = Subscriber::start(broker.port, &topics().case()).await;
    request_take_over(dirs[1].path()).unwrap();
    let published = cases.next().await;
    assert!(String::from_utf8_lossy(&published.payload).contains(&case));
    // The other one notices and stops.
    let reason = stopped_as_duplicate(&first).await;
    assert!(reason.contains(&later_id), "{reason}");
    file(&mut first_store, 1);
    assert!(later.state().borrow().connected);
    let mut status = Subscriber::start(broker.port, &topics().status()).await;
    let status: Value = serde_json::from_slice(&status.next().await.payload).unwrap();
    assert_eq!(
        (&status["state"], &status["installation"]),
        (&"online".into(), &later_id.into())
    );
}

async fn a_box_replaces_one_that_is_gone(protocol: Protocol) {
    let broker = Broker::start();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let stores = dirs.each_ref().map(|dir| Store::open(dir.path()).unwrap());
    let (first, _replies) = link_with(settings_in(dirs[0].path(), broker.port, protocol), &stores[0]);
    connected(&first).await;
    let mut status = Subscriber::start(broker.port, &topics().status()).await;
    status.next().await;
    // As in a power failure.
    drop(first);
    let gone: Value = serde_json::from_slice(&status.next().await.payload).unwrap();
    assert_eq!(gone["state"], "offline");
    let (second, _more_replies) = link_with(settings_in(dirs[1].path(), broker.port, protocol), &stores[1]);
    connected(&second).await;
}

/// On one machine, the installation of a copied state directory is that of the original.
async fn of_two_processes_on_copies_of_one_state_one_stops(protocol: Protocol) {
    let broker = Broker::start();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let settings = [0, 1].map(|_| settings_in(dirs[0].path(), broker.port, protocol));
    let stores = dirs.each_ref().map(|dir| Store::open(dir.path()).unwrap());
    let [first_settings, copy_settings] = settings;
    let (first, _replies) = link_with(first_settings, &stores[0]);
    connected(&first).await;
    let (copy, _more_replies) = link_with(copy_settings, &stores[1]);
    let reason = tokio::select! {
        reason = stopped_as_duplicate(&first) => reason,
        reason = stopped_as_duplicate(&copy) => reason,
    };
    assert!(reason.contains("copy of this state"), "{reason}");
    let other = [&first, &copy]
        .into_iter()
        .find(|link| link.state().borrow().problem != Some(LinkProblem::DuplicateNodeId))
        .expect("one of them goes on");
    connected(other).await;
}

async fn a_copy_of_a_state_directory_that_starts_later_gives_way(protocol: Protocol) {
    let broker = Broker::start();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let stores = dirs.each_ref().map(|dir| Store::open(dir.path()).unwrap());
    let original = || settings_in(dirs[0].path(), broker.port, protocol);
    let (before, _replies) = link_with(original(), &stores[0]);
    connected(&before).await;
    before.shutdown().await;
    for name in ["installation", "online-since"] {
        std::fs::copy(dirs[0].path().join(name), dirs[1].path().join(name)).unwrap();
    }
    let (first, _replies) = link_with(original(), &stores[0]);
    connected(&first).await;
    let connections = connections_of(&broker, &client_id()).len();
    let (copy, _more_replies) = link_with(settings_in(dirs[1].path(), broker.port, protocol), &stores[1]);
    let reason = stopped_as_duplicate(&copy).await;
    assert!(reason.contains("copy of this state"), "{reason}");
    assert_eq!(
        connections_of(&broker, &client_id()).len(),
        connections,
        "the first one was not disturbed"
    );
}

/// MQTT 5 only: an MQTT 3.1.1 broker gives no reason.
#[tokio::test(flavor = "multi_thread")]
async fn being_replaced_again_and_again_names_the_cause() {
    let broker = ScriptedBroker::start().await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (link, _replies) = link_with(settings(broker.port, Protocol::V5), &store);
    for time in 1..=3 {
        let session = broker.accept(None).await;
        session.disconnect(DisconnectReasonCode::SessionTakenOver).await;
        if time == 1 {
            let mut state = link.state();
            let state = within(state.wait_for(|s| s.last_error.is_some()))
                .await
                .unwrap()
                .clone();
            assert_eq!(
                state.problem,
                Some(LinkProblem::Unreachable),
                "once may be a late notice"
            );
            assert!(state.last_error.unwrap().contains("0x8E"));
        }
    }
    let reason = stopped_as_duplicate(&link).await;
    assert!(reason.contains("node.id"), "{reason}");
}
