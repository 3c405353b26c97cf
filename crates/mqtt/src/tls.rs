//! TLS to the broker: loads the configured PEM files, and turns TLS errors into messages for the operator.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rumqttc::tokio_rustls::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, OtherError,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use gridwatch_base::{file, secret::Zeroizing};

use crate::{
    Wording,
    trust::{BrokerVerifier, Untrusted},
};

/// TLS to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// By what the broker's certificate is trusted.
    pub trust: ServerTrust,
    /// Client certificate and private key (PEM), for a broker that requires mutual TLS.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// By what the broker's certificate is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerTrust {
    /// PEM file of the CA that signed it, or of the certificate itself. No other CA is trusted.
    CaFile(PathBuf),
    /// SHA-256 of the certificate's DER form, 64 lower-case hex digits. Its name, dates and issuer are not checked.
    Pin(String),
}

/// Why a TLS configuration cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key file cannot be read.
    #[error("{field}: cannot read {}: {source}", .path.display())]
    File {
        /// The setting that names the file.
        field: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A certificate or key file was read but is unusable.
    #[error("{field}: {} {what}", .path.display())]
    Unusable {
        /// The setting that names the file.
        field: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it, completing "PATH …".
        what: String,
    },
}

/// A TLS configuration with its certificates and keys loaded. Cheap to clone.
#[derive(Clone)]
pub struct TlsClientConfig {
    config: Arc<ClientConfig>,
    has_client_certificate: bool,
}

impl fmt::Debug for TlsClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Contains a private key.
        f.write_str("TlsClientConfig")
    }
}

impl TlsClientConfig {
    /// Reads the files that `tls` names. `wording` names the settings in errors, here and while connecting.
    ///
    /// # Errors
    /// A file cannot be read, or has no usable certificate or key; a private key does not match its certificate.
    pub fn load(tls: &Tls, wording: &'static Wording) -> Result<Self, TlsError> {
        let Wording {
            ca_file,
            cert_file,
            key_file,
            ..
        } = wording;
        let verifier = match &tls.trust {
            ServerTrust::CaFile(file) => BrokerVerifier::of_file(certificates(ca_file, file)?, wording)
                .ok_or_else(|| unusable(ca_file, file, "contains no usable certificate"))?,
            ServerTrust::Pin(sha256) => BrokerVerifier::pinned(sha256.clone(), wording),
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites of TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &tls.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(cert_file, certificate)?;
                let parsed = PrivateKeyDer::from_pem_slice(&read_pem(key_file, key)?)
                    // The parser's error may quote the file.
                    .map_err(|_| unusable(key_file, key, "contains no PEM private key, or an encrypted one"))?;
                builder.with_client_auth_cert(chain, parsed).map_err(|e| {
                    let what = match e {
                        rustls::Error::InconsistentKeys(_) => format!("does not match the certificate in {cert_file}"),
                        other => format!("is unusable: {other}"),
                    };
                    unusable(key_file, key, &what)
                })?
            }
        };
        Ok(Self {
            config: Arc::new(config),
            has_client_certificate: tls.client.is_some(),
        })
    }

    pub(crate) fn configuration(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub(crate) fn has_client_certificate(&self) -> bool {
        self.has_client_certificate
    }
}

/// Reads a PEM file, perhaps a private key.
fn read_pem(field: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    file::read(path, file::MAX_KEY)
        .map(Zeroizing::new)
        .map_err(|source| TlsError::File {
            field,
            path: path.to_path_buf(),
            source,
        })
}

fn certificates(field: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_pem(field, path)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(field, path, "contains no PEM certificate")),
    }
}

fn unusable(field: &'static str, path: &Path, what: &str) -> TlsError {
    TlsError::Unusable {
        field,
        path: path.to_path_buf(),
        what: what.into(),
    }
}

/// The TLS error behind `error` as a message for the operator; `None` if TLS did not end the connection. A rejected client
/// certificate is reported with the first read after the handshake, so `error` may be any error of the client.
pub(crate) fn describe(error: &(dyn Error + 'static), wording: &Wording) -> Option<String> {
    let Wording { client, cert_file, .. } = wording;
    let message = match tls_cause(error)? {
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                format!("TLS: the broker requires a client certificate; set {client}")
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => format!(
                "TLS: the broker rejected the client certificate ({alert:?}): is {cert_file} valid now and signed by a CA that the \
                 broker trusts?"
            ),
            // Generic; some servers send it when the client certificate is missing.
            AlertDescription::HandshakeFailure => {
                format!("TLS: handshake failure: does the broker require a client certificate ({client})?")
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
