//! The server's certificate: the operator's, or one that is made at the first start and signs itself.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use gridwatch_base::{digest::sha256_hex, disk::write_private, file};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use tokio_rustls::rustls::{
    self, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{
    error::StartError,
    settings::{ServerSettings, TlsSettings},
};

/// Larger than any chain.
const MAX_PEM: u64 = 256 << 10;

/// What a server shows of itself.
pub(crate) struct ServerIdentity {
    /// For the TLS acceptor.
    pub(crate) config: Arc<ServerConfig>,
    /// SHA-256 of the certificate, as browsers show it: pairs of hex digits in upper case with colons.
    pub(crate) fingerprint: String,
}

/// Reads, or makes at the first start, the certificate and key for these settings; `None` without encryption. `folder`: the program's,
/// where a certificate that signs itself is kept.
///
/// # Errors
/// A file cannot be read or written, or the key does not fit the certificate.
pub(crate) fn load(settings: &ServerSettings, folder: &Path) -> Result<Option<ServerIdentity>, StartError> {
    let (certificate, key) = match &settings.tls {
        TlsSettings::Off => return Ok(None),
        TlsSettings::Own { certificate, key } => (certificate.clone(), key.clone()),
        TlsSettings::SelfSigned => self_signed(settings, folder)?,
    };
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Io { path, source }
    };
    let chain = file::read(&certificate, MAX_PEM).map_err(io(&certificate))?;
    let private = file::read_secret(&key, MAX_PEM).map_err(io(&key))?;
    let unusable = |reason: String| StartError::Certificate {
        section: settings.section,
        reason,
    };
    let bad = |what: &str| unusable(format!("{}: {what}", certificate.display()));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.map_err(|e| bad(&e.to_string()))?;
    let first = chain.first().ok_or_else(|| bad("has no certificate in PEM format"))?;
    let fingerprint = fingerprint(first);
    // The error is not printed: it could quote the key.
    let private = PrivateKeyDer::from_pem_slice(private.as_bytes())
        .map_err(|_| unusable(format!("{}: has no private key in PEM format", key.display())))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    let mut config = config.map_err(|e| bad(&e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(ServerIdentity {
        config: Arc::new(config),
        fingerprint,
    }))
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let hex = sha256_hex(certificate).to_uppercase();
    let pairs: Vec<&str> = (0..hex.len()).step_by(2).filter_map(|i| hex.get(i..i + 2)).collect();
    pairs.join(":")
}

/// Files of the certificate that signs itself, made unless they are there: browsers have stored it, so it stays.
fn self_signed(settings: &ServerSettings, folder: &Path) -> Result<(PathBuf, PathBuf), StartError> {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("certificate.key"));
    if certificate.exists() && key.exists() {
        return Ok((certificate, key));
    }
    let failed = |e: rcgen::Error| StartError::Certificate {
        section: settings.section,
        reason: format!("cannot make one: {e}"),
    };
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(settings.hosts.iter().cloned());
    names.extend(hostname());
    let address = settings.listen.map(|address| address.ip());
    names.extend(
        address
            .filter(|ip: &IpAddr| !ip.is_unspecified())
            .map(|ip| ip.to_string()),
    );
    names.sort();
    names.dedup();
    let mut parameters = CertificateParams::new(names).map_err(failed)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, format!("gridwatch {}", settings.section));
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let pair = KeyPair::generate().map_err(failed)?;
    let made = parameters.self_signed(&pair).map_err(failed)?;
    for (path, text) in [(&key, pair.serialize_pem()), (&certificate, made.pem())] {
        write_private(path, text.as_bytes()).map_err(|source| StartError::Io {
            path: path.clone(),
            source,
        })?;
    }
    Ok((certificate, key))
}

/// The machine's name, if it can stand in a certificate.
fn hostname() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()?
        .trim()
        .to_ascii_lowercase();
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let settings = ServerSettings {
            section: "web",
            listen: Some(([0, 0, 0, 0], 9480).into()),
            public_url: None,
            hosts: vec!["box-1.lan".into()],
            trusted_proxies: Vec::new(),
            identity_header: None,
            tls: TlsSettings::SelfSigned,
        };
        let first = load(&settings, dir.path()).unwrap().unwrap().fingerprint;
        assert_eq!(first.len(), 32 * 3 - 1, "{first}");
        assert_eq!(load(&settings, dir.path()).unwrap().unwrap().fingerprint, first);
        let key = dir.path().join("certificate.key");
        assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        let off = ServerSettings {
            tls: TlsSettings::Off,
            ..settings
        };
        assert!(load(&off, dir.path()).unwrap().is_none());
    }
}
