//! A broker with a certificate and passwords: cases arrive over TLS; a broker that cannot prove who it is, or does not
//! know us, gets nothing, and why is said without the password.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/broker.rs"]
mod broker;
#[path = "support/filing.rs"]
mod filing;

use std::path::{Path, PathBuf};

use broker::{Broker, Subscriber, topic, within};
use filing::{NODE, file, topics};
use gridwatch::{
    link::{Link, LinkError, Settings, Tls, probe},
    secret::Credentials,
    store::Store,
};
use rumqttc::Transport;
use tokio::sync::mpsc;

const PASSWORD: &str = "correct-horse";

/// Made once: `ca.pem` signed `server.pem` for localhost and 127.0.0.1, `other_ca.pem` signed nothing; the authorities' keys
/// are gone. `passwords` holds box-7's, hashed by mosquitto_passwd.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tls")
        .join(name)
}

fn secured() -> Broker {
    let file = |name| fixture(name).display().to_string();
    Broker::start_with(&format!(
        "certfile {}\nkeyfile {}\nallow_anonymous false\npassword_file {}\n",
        file("server.pem"),
        file("server.key"),
        file("passwords")
    ))
}

fn settings(broker: &Broker, ca: &str, password: &str) -> Settings {
    Settings {
        tls: Some(Tls {
            ca_file: fixture(ca),
            client: None,
        }),
        login: Some(Credentials {
            user: NODE.into(),
            password: password.into(),
        }),
        ..filing::settings(broker.port)
    }
}

async fn refusal(settings: Settings) -> String {
    match within(probe(settings)).await.unwrap_err() {
        error @ LinkError::Refused { .. } => error.to_string(),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_arrive_over_tls_with_a_password() {
    let broker = secured();
    let ca = std::fs::read(fixture("ca.pem")).unwrap();
    let mut platform = Subscriber::start_with(broker.port, &topics().case(), |options| {
        options.set_transport(Transport::tls(ca, None, None));
        options.set_credentials(NODE, PASSWORD);
    })
    .await;
    within(probe(settings(&broker, "ca.pem", PASSWORD))).await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (replies_in, _replies) = mpsc::channel(16);
    let link = Link::spawn(settings(&broker, "ca.pem", PASSWORD), &store, replies_in).unwrap();
    let message = platform.next().await;
    assert_eq!(topic(&message), topics().case());
    assert!(std::str::from_utf8(&message.payload).unwrap().contains(&id));
    link.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_another_authority_is_not_trusted() {
    let broker = secured();
    let said = refusal(settings(&broker, "other_ca.pem", PASSWORD)).await;
    assert!(said.contains("TLS") && said.contains("broker.ca_file"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_and_not_repeated() {
    let broker = secured();
    let said = refusal(settings(&broker, "ca.pem", "wrong-battery-staple")).await;
    assert!(said.contains("NotAuthorized"), "{said}");
    assert!(!said.contains("wrong-battery"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_tls_is_told_from_one_that_is_not_there() {
    let broker = Broker::start();
    let said = refusal(settings(&broker, "ca.pem", PASSWORD)).await;
    assert!(!said.is_empty() && !said.contains(PASSWORD), "{said}");
}
