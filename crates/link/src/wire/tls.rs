//! TLS to the broker: from files to what a connection is made with, and what its refusals mean.

use std::{error::Error, fmt, io, path::Path, sync::Arc};

use rumqttc::{
    TlsConfiguration,
    tokio_rustls::rustls::{
        self, AlertDescription, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::super::{LinkError, Tls, read_pem};

/// What TLS needs, as it was read when the link was made.
pub(super) struct Secured(Arc<ClientConfig>);

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A private key is in it.
        f.write_str("Secured")
    }
}

impl Secured {
    pub(super) fn read(tls: &Tls) -> Result<Self, LinkError> {
        const CA: &str = "broker.ca_file";
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(certificates(CA, &tls.ca_file)?);
        if added == 0 {
            return Err(unusable(CA, &tls.ca_file, "holds no certificate of an authority"));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| LinkError::Settings(e.to_string()))?
            .with_root_certificates(roots);
        let config = match &tls.client {
            None => builder.with_no_client_auth(),
            Some((cert_file, key_file)) => {
                const KEY: &str = "broker.client.key_file";
                let chain = certificates("broker.client.cert_file", cert_file)?;
                let key = PrivateKeyDer::from_pem_slice(&read_pem(KEY, key_file)?)
                    // What the parser says may quote the file.
                    .map_err(|_| unusable(KEY, key_file, "holds no private key in PEM, or one behind a password"))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| match e {
                    rustls::Error::InconsistentKeys(_) => unusable(
                        KEY,
                        key_file,
                        "is not the key of the certificate in broker.client.cert_file",
                    ),
                    other => unusable(KEY, key_file, &format!("cannot be used: {other}")),
                })?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// For either client crate: both take it from one core.
    pub(super) fn configuration(&self) -> TlsConfiguration {
        TlsConfiguration::Rustls(Arc::clone(&self.0))
    }
}

fn certificates(field: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    let pem = read_pem(field, path)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(unusable(field, path, "holds no certificate in PEM")),
    }
}

fn unusable(field: &'static str, path: &Path, what: &str) -> LinkError {
    LinkError::Tls {
        field,
        path: path.to_path_buf(),
        what: what.into(),
    }
}

/// What TLS said about the end of a connection, where it was TLS that ended it; as a sentence. `error` is whatever the
/// client made of it: a certificate that the broker does not accept is told with the first bytes read, not with the handshake.
pub(super) fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    let said = match cause(error)? {
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "TLS: the broker asks for a certificate of the box: set broker.client".into()
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => format!(
                "TLS: the broker does not accept the box's certificate ({alert:?}): is broker.client.cert_file signed by the authority that the \
                 broker trusts, and in force?"
            ),
            // What a server without a better word says, also where it missed a certificate.
            AlertDescription::HandshakeFailure => {
                "TLS: the broker broke off the handshake: does it ask for a certificate of the box (broker.client)?"
                    .into()
            }
            other => format!("TLS: the broker broke off: {other:?}"),
        },
        e @ rustls::Error::InvalidCertificate(_) => {
            format!("TLS: {e}: is broker.ca_file the authority of this broker, and is its name right?")
        }
        e @ rustls::Error::InvalidMessage(_) => {
            format!("TLS: what answers does not speak it ({e}): is the port one for mqtts://?")
        }
        e => format!("TLS: {e}"),
    };
    Some(said)
}

/// The error of rustls among the causes. An I/O error hides what it is made of from `source`.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
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
