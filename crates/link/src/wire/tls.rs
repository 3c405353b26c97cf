//! TLS to the broker: loads the configured PEM files, and turns TLS errors into messages for the operator.

use std::{error::Error, fmt, io, path::Path, sync::Arc};

use rumqttc::tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, OtherError,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{
    super::{LinkError, ServerTrust, Tls, read_pem},
    trust::{BrokerVerifier, Untrusted},
};

/// TLS client configuration, loaded when the link starts.
pub(super) struct TlsClientConfig(Arc<ClientConfig>);

impl fmt::Debug for TlsClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Contains a private key.
        f.write_str("TlsClientConfig")
    }
}

impl TlsClientConfig {
    pub(super) fn load(tls: &Tls) -> Result<Self, LinkError> {
        const CA: &str = "broker.ca_file";
        let verifier = match &tls.trust {
            ServerTrust::CaFile(file) => BrokerVerifier::of_file(certificates(CA, file)?)
                .ok_or_else(|| unusable(CA, file, "contains no usable certificate"))?,
            ServerTrust::Pin(sha256) => BrokerVerifier::pinned(sha256.clone()),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| LinkError::Settings(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &tls.client {
            None => builder.with_no_client_auth(),
            Some((cert_file, key_file)) => {
                const KEY: &str = "broker.client.key_file";
                let chain = certificates("broker.client.cert_file", cert_file)?;
                let key = PrivateKeyDer::from_pem_slice(&read_pem(KEY, key_file)?)
                    // The parser's error may quote the file.
                    .map_err(|_| unusable(KEY, key_file, "contains no PEM private key, or an encrypted one"))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| match e {
                    rustls::Error::InconsistentKeys(_) => unusable(
                        KEY,
                        key_file,
                        "does not match the certificate in broker.client.cert_file",
                    ),
                    other => unusable(KEY, key_file, &format!("is unusable: {other}")),
                })?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn configuration(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

fn certificates(field: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let pem = read_pem(field, path)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(field, path, "contains no PEM certificate")),
    }
}

fn unusable(field: &'static str, path: &Path, what: &str) -> LinkError {
    LinkError::Tls {
        field,
        path: path.to_path_buf(),
        what: what.into(),
    }
}

/// The TLS error behind `error` as a message for the operator; `None` if TLS did not end the connection. A rejected client
/// certificate is reported with the first read after the handshake, so `error` may be any error of the client.
pub(super) fn describe(error: &(dyn Error + 'static)) -> Option<String> {
    let message = match tls_cause(error)? {
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "TLS: the broker requires a client certificate; set broker.client".into()
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => format!(
                "TLS: the broker rejected the client certificate ({alert:?}): is broker.client.cert_file valid now and signed by a CA that the \
                 broker trusts?"
            ),
            // Generic; some servers send it when the client certificate is missing.
            AlertDescription::HandshakeFailure => {
                "TLS: handshake failure: does the broker require a client certificate (broker.client)?".into()
            }
            other => format!("TLS: the broker sent alert {other:?}"),
        },
        e @ rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => {
            match cause.downcast_ref::<Untrusted>() {
                Some(reason) => format!("TLS: {reason}"),
                None => format!("TLS: {e}"),
            }
        }
        e @ rustls::Error::InvalidMessage(_) => {
            format!("TLS: the peer does not speak TLS ({e}): is this the broker's TLS port?")
        }
        e => format!("TLS: {e}"),
    };
    Some(message)
}

/// The rustls error in the source chain. `io::Error` does not expose its inner error through `source`.
fn tls_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
