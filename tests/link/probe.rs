//! The probe reports whether the broker accepts the box, and what to change if it does not.

use crate::broker::{Broker, within};
use crate::filing::NODE;
use crate::{client_id, connections_of, logged_as, settings};
use gridwatch_base::secret::Credentials;
use gridwatch_link::{Settings, probe};
use gridwatch_mqtt::Protocol;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

for_both_protocols!(the_probe_reports_whether_the_broker_accepts_the_box);

async fn the_probe_reports_whether_the_broker_accepts_the_box(protocol: Protocol) {
    let broker = Broker::start();
    within(probe(settings(broker.port, protocol))).await.expect("accepted");
    let probe_id = format!("{}-check-{}", client_id(), std::process::id());
    assert_eq!(
        connections_of(&broker, &probe_id),
        [logged_as(protocol, true)],
        "{}",
        broker.log()
    );

    let closed = Broker::start_with("allow_anonymous false");
    let login = Some(Credentials {
        user: NODE.into(),
        password: "hunter2".into(),
    });
    for login in [None, login] {
        let settings = Settings {
            login,
            ..settings(closed.port, protocol)
        };
        let error = within(probe(settings)).await.unwrap_err().to_string();
        assert!(
            error.contains("NotAuthorized") && error.contains(&closed.port.to_string()),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
}

/// A broker that answers CONNECT with `answer` and closes the connection.
async fn broker_answering(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_buf(&mut Vec::with_capacity(1024)).await.unwrap();
        stream.write_all(answer).await.unwrap();
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_reported_with_what_to_change() {
    // CONNACK with a reason code (MQTT 5, 3.2.2.2).
    for (answer, expected) in [
        (&[0x20, 3, 0, 0x9a, 0], "retained messages"),
        (&[0x20, 3, 0, 0x9b, 0], "QoS 1"),
        (&[0x20, 3, 0, 0x86, 0], "broker.credentials"),
        (&[0x20, 3, 0, 0x85, 0], "client id"),
    ] {
        let port = broker_answering(answer).await;
        let error = within(probe(settings(port, Protocol::V5)))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_the_other_version_is_reported_with_the_setting_to_change() {
    // CONNACK with return code 1, unacceptable protocol version (MQTT 3.1.1, 3.1.2.2 and 3.2.2.3).
    const REFUSED: &[u8] = &[0x20, 2, 0, 1];
    // Some brokers close the connection without a CONNACK.
    const CLOSED: &[u8] = &[];
    for (answer, protocol, remedy) in [
        (REFUSED, Protocol::V5, "broker.protocol = \"3.1.1\""),
        (CLOSED, Protocol::V5, "broker.protocol = \"3.1.1\""),
        (REFUSED, Protocol::V311, "broker.protocol = \"5\""),
    ] {
        let port = broker_answering(answer).await;
        let error = within(probe(settings(port, protocol))).await.unwrap_err().to_string();
        assert!(error.contains(remedy), "{error}");
    }
}
