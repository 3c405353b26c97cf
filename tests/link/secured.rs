//! A broker with a certificate, and with passwords or certificates for its boxes: cases arrive over TLS; a broker that cannot prove who
//! it is, or does not know us, gets nothing, and why is said without any secret.

use crate::filing;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing::{NODE, file, topics};
use gridwatch_base::secret::Credentials;
use gridwatch_link::{Link, LinkError, Protocol, Settings, Tls, probe};
use gridwatch_store::Store;
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
    let link = Link::spawn(settings(&broker, "ca.pem", PASSWORD), &store, replies_in, None).unwrap();
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

/// Authorities and certificates, made for one test: `ours` signed `box`, `theirs` signed `stranger`.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn make() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        for (authority, name) in [("ours", "box"), ("theirs", "stranger")] {
            made.openssl(&["-keyout", "{}.key", "-out", "{}.pem", "-subj", "/CN={}"], authority);
            let signed_by = [format!("{authority}.pem"), format!("{authority}.key")];
            made.openssl(
                &[
                    "-keyout",
                    "{}.key",
                    "-out",
                    "{}.pem",
                    "-subj",
                    "/CN={}-7",
                    "-addext",
                    "basicConstraints=critical,CA:FALSE",
                    "-addext",
                    "extendedKeyUsage=clientAuth",
                    "-CA",
                    &signed_by[0],
                    "-CAkey",
                    &signed_by[1],
                ],
                name,
            );
        }
        made
    }

    fn openssl(&self, arguments: &[&str], name: &str) {
        let output = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ])
            .args(arguments.iter().map(|a| a.replace("{}", name)))
            .current_dir(self.0.path())
            .output()
            .expect("openssl is installed (edge-deploy/setup.sh)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A broker that takes whoever shows a certificate of ours, and calls them by its name.
    fn broker(&self) -> Broker {
        Broker::start_with(&format!(
            "certfile {}\nkeyfile {}\ncafile {}\nrequire_certificate true\nuse_identity_as_username true\nallow_anonymous false\n",
            fixture("server.pem").display(),
            fixture("server.key").display(),
            self.file("ours.pem").display()
        ))
    }

    /// A box that shows the certificate of one with the key of another, speaking either protocol.
    fn settings(&self, broker: &Broker, protocol: Protocol, client: Option<(&str, &str)>) -> Settings {
        Settings {
            protocol,
            tls: Some(Tls {
                ca_file: fixture("ca.pem"),
                client: client.map(|(cert, key)| (self.file(&format!("{cert}.pem")), self.file(&format!("{key}.key")))),
            }),
            ..filing::settings(broker.port)
        }
    }
}

const PROTOCOLS: [Protocol; 2] = [Protocol::V5, Protocol::V311];

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_asks_for_a_certificate_takes_the_box_that_has_one() {
    let made = Certificates::make();
    let broker = made.broker();
    let pem = |path: PathBuf| std::fs::read(path).unwrap();
    let (ca, own) = (
        pem(fixture("ca.pem")),
        (pem(made.file("box.pem")), pem(made.file("box.key"))),
    );
    let mut platform = Subscriber::start_with(broker.port, &topics().case(), |options| {
        options.set_transport(Transport::tls(ca, Some(own), None));
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    for (n, protocol) in (1..).zip(PROTOCOLS) {
        let settings = made.settings(&broker, protocol, Some(("box", "box")));
        within(probe(settings.clone())).await.unwrap();
        let id = file(&mut store, n);
        let (link, _replies) = filing::link_with(settings, &store);
        while !String::from_utf8_lossy(&platform.next().await.payload).contains(&id) {}
        link.shutdown().await;
    }
    assert!(
        broker.log().contains("u'box-7'"),
        "known by its certificate: {}",
        broker.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_without_the_right_certificate_is_told_what_to_do() {
    let made = Certificates::make();
    let broker = made.broker();
    for protocol in PROTOCOLS {
        let said = refusal(made.settings(&broker, protocol, None)).await;
        assert!(
            said.contains("certificate of the box") && said.contains("broker.client"),
            "{said}"
        );
        let said = refusal(made.settings(&broker, protocol, Some(("stranger", "stranger")))).await;
        assert!(
            said.contains("the box's certificate") && said.contains("broker.client"),
            "{said}"
        );
        assert!(!said.contains("PRIVATE"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_is_named_before_anything_is_sent() {
    let made = Certificates::make();
    let broker = made.broker();
    std::fs::write(made.file("empty.key"), "no key\n").unwrap();
    std::fs::write(made.file("empty.pem"), "no certificate\n").unwrap();
    for (client, field, what) in [
        (
            ("box", "stranger"),
            "broker.client.key_file",
            "not the key of the certificate",
        ),
        (("box", "empty"), "broker.client.key_file", "no private key"),
        (("box", "missing"), "broker.client.key_file", "cannot read"),
        (("empty", "box"), "broker.client.cert_file", "no certificate"),
    ] {
        let error = within(probe(made.settings(&broker, Protocol::V5, Some(client))))
            .await
            .unwrap_err();
        let said = error.to_string();
        assert!(
            matches!(error, LinkError::Tls { .. } | LinkError::TlsFile { .. }),
            "{said}"
        );
        assert!(
            said.contains(field) && said.contains(what) && !said.contains("BEGIN"),
            "{said}"
        );
    }
    let settings = Settings {
        tls: Some(Tls {
            ca_file: made.file("empty.pem"),
            client: None,
        }),
        ..filing::settings(broker.port)
    };
    let said = within(probe(settings)).await.unwrap_err().to_string();
    assert!(
        said.contains("broker.ca_file") && said.contains("no certificate"),
        "{said}"
    );
}
