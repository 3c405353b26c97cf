//! TLS to cameras: which certificates are trusted, and in words why one is not.
//!
//! Cameras are addressed by IP, and their certificates carry a serial number. So the name in a certificate is checked only
//! where the system's authorities are trusted, which sign for everybody.

use std::{fmt, io, path::Path, sync::Arc};

use gridwatch_base::{digest::sha256_hex, file};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
        client::{
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
            verify_server_cert_signed_by_trust_anchor, verify_server_name,
        },
        crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
        server::ParsedCertificate,
    },
};

use super::Trust;

/// Sets up TLS for one camera. Reads files.
///
/// # Errors
/// What is wrong with the configured file.
pub fn connector(trust: &Trust) -> Result<TlsConnector, String> {
    let verifier = match trust {
        Trust::Pin(sha256) => CameraVerifier::new(vec![sha256.clone()], RootCertStore::empty(), false),
        Trust::CaFile(path) => of_file(path)?,
        Trust::System => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            CameraVerifier::new(Vec::new(), roots, true)
        }
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn of_file(path: &Path) -> Result<CameraVerifier, String> {
    let unusable = |what: &str| {
        format!(
            "ca_file {}: {what}; it must be a PEM file with the certificate of the camera or of its authority",
            path.display()
        )
    };
    let pem = file::read(path, file::MAX_KEY).map_err(|e| unusable(&e.to_string()))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|found: &Vec<_>| !found.is_empty())
        .ok_or_else(|| unusable("it contains no certificate"))?;
    let exact = certificates.iter().map(|c| sha256_hex(c)).collect();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    Ok(CameraVerifier::new(exact, roots, false))
}

/// Opens TLS over a connection.
///
/// # Errors
/// The connection's, or in words why the certificate is not trusted.
pub async fn handshake(connector: &TlsConnector, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    connector.connect(name, stream).await.map_err(in_words)
}

/// Trusts a certificate that is one of `exact`, or that one of `roots` signed.
#[derive(Debug)]
struct CameraVerifier {
    /// SHA-256 of the DER form, in lower-case hex. Neither names nor dates matter then: only the holder of the private
    /// key can complete the handshake.
    exact: Vec<String>,
    roots: RootCertStore,
    checks_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl CameraVerifier {
    fn new(exact: Vec<String>, roots: RootCertStore, checks_name: bool) -> Self {
        Self {
            exact,
            roots,
            checks_name,
            algorithms: ring::default_provider().signature_verification_algorithms,
        }
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        if self.roots.is_empty() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        if self.checks_name {
            verify_server_name(&certificate, name)?;
        }
        Ok(())
    }
}

impl ServerCertVerifier for CameraVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let sha256 = sha256_hex(end_entity);
        if self.exact.contains(&sha256) {
            return Ok(ServerCertVerified::assertion());
        }
        let error = match self.verify(end_entity, intermediates, server_name, now) {
            Ok(()) => return Ok(ServerCertVerified::assertion()),
            Err(rustls::Error::InvalidCertificate(error)) => error,
            Err(other) => return Err(other),
        };
        let message = format!("{}; {}", reason(&error), remedy(&sha256));
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

/// Why the camera's certificate is not trusted, with the remedy.
#[derive(Debug)]
struct Untrusted(String);

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Untrusted {}

fn reason(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet, by this box's clock"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name than the one in the camera's url"
        }
        CertificateError::Revoked => "it has been revoked",
        CertificateError::BadEncoding => "it is malformed",
        _ => "no trusted authority signed it",
    }
}

fn remedy(sha256: &str) -> String {
    format!(
        "compare its SHA-256 with the camera's and set the camera's pin_sha256 to it, or ca_file to its authority's \
         certificate (SHA-256: {sha256})"
    )
}

/// The error of a handshake for the operator.
fn in_words(error: io::Error) -> io::Error {
    let text = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(cause)))) => {
            format!("TLS: the camera's certificate is not trusted: {cause}")
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            "TLS: the camera does not speak TLS on this port; check the port, or use rtsp://".into()
        }
        Some(other) => format!("TLS: {other}"),
        None => return error,
    };
    io::Error::other(text)
}
