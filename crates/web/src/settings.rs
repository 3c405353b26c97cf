//! The settings of a server, checked by the program's configuration, and roles.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// Where a server listens, and whom it believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Name of the section of the configuration that these settings are from, for errors that name a setting.
    pub section: &'static str,
    /// Address of the server; `None` if it is off.
    pub listen: Option<SocketAddr>,
    /// URL through a reverse proxy, without query and fragment; its path ends with `/`.
    pub public_url: Option<Url>,
    /// Further host names that requests may name, in lower case.
    pub hosts: Vec<String>,
    /// What these say about clients is believed.
    pub trusted_proxies: Vec<Network>,
    /// Header with the user's name, in lower case, believed from trusted proxies only.
    pub identity_header: Option<String>,
    /// Encryption.
    pub tls: TlsSettings,
}

impl ServerSettings {
    /// True if others than programs on this machine reach the server, so that it must not be used without login.
    pub fn is_exposed(&self) -> bool {
        self.listen.is_some_and(|address| !address.ip().is_loopback())
            || self.public_url.is_some()
            || !self.trusted_proxies.is_empty()
    }

    /// True if `address` is a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address))
    }

    /// True if browsers reach the server by HTTPS: its own, or that of the reverse proxy.
    pub fn is_https(&self) -> bool {
        let proxied = self.public_url.as_ref();
        proxied.map_or(self.tls != TlsSettings::Off, |url| url.scheme() == "https")
    }
}

/// Encryption of the connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSettings {
    /// None.
    Off,
    /// With a certificate that is made at the first start and kept in the program's folder.
    SelfSigned,
    /// With the operator's certificate.
    Own {
        /// PEM of the chain (absolute; exists).
        certificate: PathBuf,
        /// PEM of the private key (absolute; exists).
        key: PathBuf,
    },
}

/// What a user may do. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees the pages.
    Viewer,
    /// Also makes the changes of daily work.
    Operator,
    /// Also manages users and settings.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The value used in files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or_else(|| format!("unknown role {text:?}; use viewer, operator or admin"))
    }
}

/// An IP address, or a network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Number of leading bits that are compared.
    prefix: u8,
}

impl Network {
    /// True if `address` is in this network. An IPv4 address in IPv6 form (`::ffff:10.0.0.1`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, true),
            IpAddr::V6(v6) => (v6.to_bits(), false),
        };
        let ((own, own_v4), (other, other_v4)) = (bits(self.address), bits(address.to_canonical()));
        own_v4 == other_v4 && (own ^ other).leading_zeros() >= u32::from(self.prefix)
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| "not an IP address")?;
        let most: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(prefix) => prefix.parse().map_err(|_| "not a prefix length")?,
        };
        match prefix <= most {
            true => Ok(Self { address, prefix }),
            false => Err("the prefix is longer than the address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        let network: Network = network.parse().unwrap();
        network.contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_contains_addresses_with_its_prefix() {
        assert!(contains("10.0.0.5", "10.0.0.5") && !contains("10.0.0.5", "10.0.0.6"));
        assert!(contains("10.0.0.0/24", "10.0.0.255") && !contains("10.0.0.0/24", "10.0.1.0"));
        assert!(
            contains("10.0.0.0/24", "::ffff:10.0.0.7"),
            "a dual-stack socket reports IPv4 clients so"
        );
        assert!(contains("fd00::/8", "fd12::1") && !contains("fd00::/8", "fe80::1"));
        assert!(!contains("::/0", "10.0.0.1") && contains("0.0.0.0/0", "10.0.0.1"));
        for wrong in ["", "box", "10.0.0.0/33", "10.0.0.0/x", "10.0.0/8", "fd00::/129"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
