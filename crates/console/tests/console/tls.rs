//! Encryption, and what a console that others reach asks for.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use gridwatch_base::digest::sha256_hex;
use gridwatch_config::raw::TlsMode;
use gridwatch_console::{Console, ConsoleError, Daemon};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{
    http::Response,
    street::{Served, Street, configuration},
};

/// Trusts the certificate with one fingerprint, as a person does who compared it with the log.
#[derive(Debug)]
struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = sha256_hex(certificate);
        match found == self.fingerprint.replace(':', "").to_lowercase() {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General(format!("another certificate: {found}"))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn a_console_with_tls_shows_the_certificate_of_its_log_and_marks_cookies_secure() {
    let served = Served::with_users_and(|file| file.console.tls = TlsMode::On);
    let provider = Arc::new(ring::default_provider());
    let verifier = Pinned {
        fingerprint: served.fingerprint.clone().unwrap(),
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, served.browser().connect());
    let request = served.browser().head("GET", "/login") + "Cookie: gridwatch_lang=en\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = Response::parse(&answer);
    assert!(answer.status == 200 && answer.contains("Log in"), "{}", answer.text());
    assert!(answer.header("strict-transport-security").is_some());
    // Plain HTTP gets no page.
    let mut plain = served.browser().connect();
    let _ = plain.write_all(format!("{}\r\n", served.browser().head("GET", "/")).as_bytes());
    let mut nothing = Vec::new();
    let _ = plain.read_to_end(&mut nothing);
    assert!(!nothing.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&nothing));
}

#[test]
fn a_console_that_others_reach_does_not_start_without_users() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), |file| file.console.listen = "0.0.0.0:0".into());
    let warning = config
        .warnings
        .iter()
        .find(|w| w.path == "console.listen")
        .expect("the check says so, too");
    assert!(warning.remedy.contains("gridwatch users add"), "{warning:?}");
    let street: Arc<dyn Daemon> = Arc::new(Street::new(config));
    let refused = Console::new(street).err();
    assert!(matches!(refused, Some(ConsoleError::NoUsers)), "{refused:?}");
}
