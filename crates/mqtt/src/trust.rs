//! Decides whether the broker's certificate is trusted, and says in words why not.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use rumqttc::tokio_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::Wording;
use gridwatch_base::digest::sha256_hex;

/// Trusts the broker's certificate if it is one of `exact`, or else if a CA among `roots` signed it for the broker's name.
///
/// A certificate in `exact` identifies the broker by itself, so neither its name nor its dates are checked: self-signed
/// certificates often have neither right, and only the holder of its private key can complete the handshake.
#[derive(Debug)]
pub(crate) struct BrokerVerifier {
    /// SHA-256 of the DER form, in lower-case hex.
    exact: Vec<String>,
    /// `None` if only pinned certificates are trusted.
    roots: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    wording: &'static Wording,
}

impl BrokerVerifier {
    /// Trusts the certificate with this SHA-256 alone.
    pub(crate) fn pinned(sha256: String, wording: &'static Wording) -> Self {
        Self {
            exact: vec![sha256],
            roots: None,
            algorithms: ring::default_provider().signature_verification_algorithms,
            wording,
        }
    }

    /// Trusts these certificates as CAs, and as the broker's own; `None` if none of them is usable.
    pub(crate) fn of_file(certificates: Vec<CertificateDer<'static>>, wording: &'static Wording) -> Option<Self> {
        let exact = certificates.iter().map(|c| sha256_hex(c)).collect();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates);
        // Fails without a root.
        let provider = Arc::new(ring::default_provider());
        let roots = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider);
        Some(Self {
            exact,
            roots: Some(roots.build().ok()?),
            algorithms: ring::default_provider().signature_verification_algorithms,
            wording,
        })
    }
}

impl ServerCertVerifier for BrokerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let sha256 = sha256_hex(end_entity);
        if self.exact.contains(&sha256) {
            return Ok(ServerCertVerified::assertion());
        }
        let reason = match &self.roots {
            Some(roots) => match roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                Ok(verified) => return Ok(verified),
                Err(rustls::Error::InvalidCertificate(error)) => in_words(&error, now, self.wording),
                Err(other) => return Err(other),
            },
            None => format!(
                "the broker's certificate is not the one in {}: if it was renewed, compare its SHA-256 with the broker's and set the \
                 new one; otherwise the connection may be intercepted",
                self.wording.pin_sha256
            ),
        };
        let message = format!("{reason} (the certificate's SHA-256: {sha256})");
        Err(CertificateError::Other(OtherError(Arc::new(Untrusted(message)))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Why the broker's certificate is not trusted, with the remedy.
#[derive(Debug)]
pub(crate) struct Untrusted(pub(crate) String);

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Untrusted {}

fn in_words(error: &CertificateError, now: UnixTime, wording: &Wording) -> String {
    let Wording {
        machine,
        url,
        ca_file,
        pin_sha256,
        ..
    } = wording;
    let or_pin = format!("or trust this very certificate: compare its SHA-256 with the broker's and set {pin_sha256}");
    match error {
        CertificateError::UnknownIssuer => {
            format!("none of the CAs in {ca_file} signed the broker's certificate: name the CA that did, {or_pin}")
        }
        CertificateError::BadSignature => format!(
            "a CA in {ca_file} has the name of the one that signed the broker's certificate, but another key: name \
             the CA's current certificate, {or_pin}"
        ),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the broker's certificate is not for {}, but for {}: use a name from the certificate in {url}, {or_pin}",
            expected.to_str(),
            names(presented)
        ),
        CertificateError::NotValidForName => {
            format!("the broker's certificate is for another name than the one in {url}: use that one, {or_pin}")
        }
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "the broker's certificate expired on {}: renew it, or correct this {machine}'s clock, which says {}",
            date(*not_after),
            date(now)
        ),
        CertificateError::Expired => {
            format!(
                "the broker's certificate has expired: renew it, or correct this {machine}'s clock, which says {}",
                date(now)
            )
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "the broker's certificate is valid from {}: correct this {machine}'s clock, which says {}",
            date(*not_before),
            date(now)
        ),
        CertificateError::NotValidYet => format!(
            "the broker's certificate is not valid yet: correct this {machine}'s clock, which says {}",
            date(now)
        ),
        CertificateError::Revoked => "the broker's certificate has been revoked: renew it".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => format!(
            "the broker's certificate is not for servers: issue one with the extended key usage serverAuth, {or_pin}"
        ),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
            "the broker's certificate is signed in a way that is no longer safe, such as SHA-1: issue a new one, {or_pin}"
        ),
        CertificateError::BadEncoding => "the broker's certificate is malformed: issue a new one".into(),
        // The error of the library below, which rustls does not export.
        CertificateError::Other(OtherError(inner)) if format!("{inner:?}").contains("CaUsedAsEndEntity") => format!(
            "the broker's own certificate is a CA certificate, as self-signed ones are, and not in {ca_file}: name \
             its PEM file there, {or_pin}"
        ),
        other => format!("the broker's certificate is not accepted: {other}"),
    }
}

/// The names in a certificate, which the library gives as `DnsName("broker.example")` or `IpAddress(192.0.2.1)`.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all (it has no subjectAltName)".into();
    }
    let bare = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest);
        inner.trim_end_matches(')').trim_matches('"').to_owned()
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}

fn date(at: UnixTime) -> String {
    let at = i64::try_from(at.as_secs())
        .ok()
        .and_then(|s| Timestamp::from_second(s).ok());
    at.unwrap_or(Timestamp::MAX).strftime("%F %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::WORDING;

    fn at(second: u64) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(second))
    }

    #[test]
    fn dates_are_printed_as_dates() {
        let (past, now) = (at(1_700_000_000), at(1_780_000_000));
        let expired = CertificateError::ExpiredContext {
            time: now,
            not_after: past,
        };
        let text = in_words(&expired, now, &WORDING);
        assert!(text.contains("expired on 2023-11-14 22:13 UTC"), "{text}");
        assert!(text.contains("clock, which says 2026-05-28 20:26 UTC"), "{text}");
        let early = CertificateError::NotValidYetContext {
            time: past,
            not_before: now,
        };
        let text = in_words(&early, past, &WORDING);
        assert!(text.contains("valid from 2026-05-28 20:26 UTC"), "{text}");
    }

    #[test]
    fn no_error_is_printed_as_the_name_of_a_constant() {
        use CertificateError::*;
        for error in [
            UnknownIssuer,
            BadSignature,
            NotValidForName,
            Expired,
            NotValidYet,
            Revoked,
            InvalidPurpose,
            BadEncoding,
        ] {
            let text = in_words(&error, at(0), &WORDING);
            assert!(text.contains("the broker's certificate"), "{text}");
            assert!(!text.contains(&format!("{error:?}")), "{text}");
        }
    }

    #[test]
    fn the_names_in_a_certificate_are_listed_without_the_librarys_notation() {
        let presented = [
            "DnsName(\"mqtt.example\")".to_owned(),
            "IpAddress(192.0.2.1)".to_owned(),
        ];
        assert_eq!(names(&presented), "mqtt.example, 192.0.2.1");
    }
}
