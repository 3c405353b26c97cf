//! TLS and authentication: cases arrive over TLS; an untrusted broker gets nothing; failures are reported with a remedy and
//! without secrets.

use crate::{filing, settings};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing::{NODE, file, topics};
use gridwatch_base::secret::Credentials;
use gridwatch_link::{LinkError, Settings, probe};
use gridwatch_mqtt::{Protocol, ServerTrust, Tls};
use gridwatch_store::Store;
use rumqttc::Transport;

const PASSWORD: &str = "correct-horse";

/// Checked-in files: `ca.pem` signed `server.pem` for localhost and 127.0.0.1; `other_ca.pem` signed nothing; the CA keys were
/// deleted. `passwords` has the password of box-7, hashed by mosquitto_passwd.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tls")
        .join(name)
}

/// A TLS broker that requires a password.
fn broker_with_password() -> Broker {
    let file = |name| fixture(name).display().to_string();
    Broker::start_with(&format!(
        "certfile {}\nkeyfile {}\nallow_anonymous false\npassword_file {}\n",
        file("server.pem"),
        file("server.key"),
        file("passwords")
    ))
}

fn with_password(broker: &Broker, protocol: Protocol, ca: &str, password: &str) -> Settings {
    Settings {
        tls: Some(Tls {
            trust: ServerTrust::CaFile(fixture(ca)),
            client: None,
        }),
        login: Some(Credentials {
            user: NODE.into(),
            password: password.into(),
        }),
        ..settings(broker.port, protocol)
    }
}

/// The error with which the probe fails.
async fn refusal(settings: Settings) -> String {
    match within(probe(settings)).await.unwrap_err() {
        error @ LinkError::Refused { .. } => error.to_string(),
        other => panic!("{other}"),
    }
}

for_both_protocols!(
    cases_arrive_over_tls_with_a_password,
    a_broker_with_a_certificate_of_another_ca_is_not_trusted,
    a_wrong_password_is_refused_and_not_logged,
    a_broker_without_tls_is_reported,
    a_box_with_the_required_client_certificate_is_accepted,
    a_missing_or_untrusted_client_certificate_is_reported_with_the_remedy,
);

async fn cases_arrive_over_tls_with_a_password(protocol: Protocol) {
    let broker = broker_with_password();
    let ca = std::fs::read(fixture("ca.pem")).unwrap();
    let mut platform = Subscriber::start_with(broker.port, &topics().case(), |options| {
        options.set_transport(Transport::tls(ca, None, None));
        options.set_credentials(NODE, PASSWORD);
    })
    .await;
    within(probe(with_password(&broker, protocol, "ca.pem", PASSWORD)))
        .await
        .unwrap();

    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (link, _replies) = filing::link_with(with_password(&broker, protocol, "ca.pem", PASSWORD), &store);
    let message = platform.next().await;
    assert_eq!(topic(&message), topics().case());
    assert!(std::str::from_utf8(&message.payload).unwrap().contains(&id));
    link.shutdown().await;
}

async fn a_broker_with_a_certificate_of_another_ca_is_not_trusted(protocol: Protocol) {
    let broker = broker_with_password();
    let error = refusal(with_password(&broker, protocol, "other_ca.pem", PASSWORD)).await;
    assert!(error.contains("TLS") && error.contains("broker.ca_file"), "{error}");
}

async fn a_wrong_password_is_refused_and_not_logged(protocol: Protocol) {
    let broker = broker_with_password();
    let error = refusal(with_password(&broker, protocol, "ca.pem", "wrong-battery-staple")).await;
    assert!(error.contains("NotAuthorized"), "{error}");
    assert!(!error.contains("wrong-battery"), "{error}");
}

async fn a_broker_without_tls_is_reported(protocol: Protocol) {
    let broker = Broker::start();
    let error = refusal(with_password(&broker, protocol, "ca.pem", PASSWORD)).await;
    assert!(!error.is_empty() && !error.contains(PASSWORD), "{error}");
}

/// CAs and certificates made for one test: `ours` signed `box`, `theirs` signed `stranger`.
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

    /// A broker's certificate for these names, signed by `authority`.
    fn server(&self, name: &str, names: &str, authority: &str) {
        let (names, signed_by) = (
            format!("subjectAltName={names}"),
            [".pem", ".key"].map(|e| format!("{authority}{e}")),
        );
        self.openssl(
            &[
                "-keyout",
                "{}.key",
                "-out",
                "{}.pem",
                "-subj",
                "/CN={}",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-addext",
                &names,
                "-CA",
                &signed_by[0],
                "-CAkey",
                &signed_by[1],
            ],
            name,
        );
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A broker that requires a client certificate signed by `ours`, and uses its common name as the user name.
    fn broker(&self) -> Broker {
        Broker::start_with(&format!(
            "certfile {}\nkeyfile {}\ncafile {}\nrequire_certificate true\nuse_identity_as_username true\nallow_anonymous false\n",
            fixture("server.pem").display(),
            fixture("server.key").display(),
            self.file("ours.pem").display()
        ))
    }

    /// Settings with the certificate and key of these names.
    fn settings(&self, broker: &Broker, protocol: Protocol, client: Option<(&str, &str)>) -> Settings {
        Settings {
            protocol,
            tls: Some(Tls {
                trust: ServerTrust::CaFile(fixture("ca.pem")),
                client: client.map(|(cert, key)| (self.file(&format!("{cert}.pem")), self.file(&format!("{key}.key")))),
            }),
            ..filing::settings(broker.port)
        }
    }
}

async fn a_box_with_the_required_client_certificate_is_accepted(protocol: Protocol) {
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
    let settings = made.settings(&broker, protocol, Some(("box", "box")));
    within(probe(settings.clone())).await.unwrap();
    let id = file(&mut store, 1);
    let (link, _replies) = filing::link_with(settings, &store);
    while !String::from_utf8_lossy(&platform.next().await.payload).contains(&id) {}
    link.shutdown().await;
    assert!(
        broker.log().contains("u'box-7'"),
        "user name from its certificate: {}",
        broker.log()
    );
}

async fn a_missing_or_untrusted_client_certificate_is_reported_with_the_remedy(protocol: Protocol) {
    let made = Certificates::make();
    let broker = made.broker();
    for client in [None, Some(("stranger", "stranger"))] {
        let error = refusal(made.settings(&broker, protocol, client)).await;
        assert!(
            error.contains("client certificate") && error.contains("broker.client"),
            "{error}"
        );
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}

/// The SHA-256 of the certificate in a PEM file, by OpenSSL.
fn fingerprint(file: &Path) -> String {
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(file)
        .output()
        .unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.split_once('=').unwrap().1.trim().replace(':', "").to_lowercase()
}

/// A broker with the certificate `name`, which these settings trust by `trust`.
fn tls_settings(made: &Certificates, name: &str, trust: ServerTrust) -> (Broker, Settings) {
    let file = |ending: &str| made.file(&format!("{name}.{ending}")).display().to_string();
    let broker = Broker::start_with(&format!("certfile {}\nkeyfile {}\n", file("pem"), file("key")));
    let settings = Settings {
        tls: Some(Tls { trust, client: None }),
        ..filing::settings(broker.port)
    };
    (broker, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_is_trusted_by_its_file_or_its_hash() {
    let made = Certificates::make();
    // Self-signed, a CA certificate, and for no name: what `openssl req -x509` makes.
    let own = made.file("ours.pem");
    for trust in [ServerTrust::CaFile(own.clone()), ServerTrust::Pin(fingerprint(&own))] {
        let (_broker, settings) = tls_settings(&made, "ours", trust);
        within(probe(settings)).await.unwrap();
    }
    // Another key with the same name is not that certificate.
    let (_broker, settings) = tls_settings(&made, "theirs", ServerTrust::Pin(fingerprint(&own)));
    let error = refusal(settings).await;
    let presented = fingerprint(&made.file("theirs.pem"));
    assert!(
        error.contains("broker.pin_sha256") && error.contains(&presented),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_certificate_is_not_trusted_is_said_in_words() {
    let made = Certificates::make();
    let ca = made.file("ours.pem");
    made.server("elsewhere", "DNS:mqtt.elsewhere.example", "ours");
    made.server("foreign", "IP:127.0.0.1", "theirs");
    for (name, expected) in [
        ("elsewhere", "is not for 127.0.0.1, but for mqtt.elsewhere.example"),
        ("theirs", "a CA certificate, as self-signed ones are"),
        ("foreign", "none of the CAs in broker.ca_file signed"),
        ("box", "not for servers"),
    ] {
        let (_broker, settings) = tls_settings(&made, name, ServerTrust::CaFile(ca.clone()));
        let error = refusal(settings).await;
        assert!(error.contains(expected), "{name}: {error}");
        assert!(
            error.contains(&fingerprint(&made.file(&format!("{name}.pem")))),
            "{error}"
        );
        for constant in [
            "CaUsedAsEndEntity",
            "NotValidForName",
            "UnknownIssuer",
            "InvalidPurpose",
            "UNIX",
        ] {
            assert!(!error.contains(constant), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_certificate_or_key_is_reported_before_connecting() {
    let made = Certificates::make();
    let broker = made.broker();
    std::fs::write(made.file("empty.key"), "no key\n").unwrap();
    std::fs::write(made.file("empty.pem"), "no certificate\n").unwrap();
    for (client, field, what) in [
        (
            ("box", "stranger"),
            "broker.client.key_file",
            "does not match the certificate",
        ),
        (("box", "empty"), "broker.client.key_file", "no PEM private key"),
        (("box", "missing"), "broker.client.key_file", "cannot read"),
        (("empty", "box"), "broker.client.cert_file", "no PEM certificate"),
    ] {
        let error = within(probe(made.settings(&broker, Protocol::V5, Some(client))))
            .await
            .unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, LinkError::Tls(_)), "{message}");
        assert!(
            message.contains(field) && message.contains(what) && !message.contains("BEGIN"),
            "{message}"
        );
    }
    let settings = Settings {
        tls: Some(Tls {
            trust: ServerTrust::CaFile(made.file("empty.pem")),
            client: None,
        }),
        ..filing::settings(broker.port)
    };
    let message = within(probe(settings)).await.unwrap_err().to_string();
    assert!(
        message.contains("broker.ca_file") && message.contains("no PEM certificate"),
        "{message}"
    );
}
