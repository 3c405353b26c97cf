//! What a request says about its client, and how much of it is believed.
//!
//! A browser on this machine, or one that can reach it, may be led here by any web page. So a request must name this server as its host (else a
//! page's own name could be made to resolve to this address, DNS rebinding), and a request that changes something must come from a page of
//! this server. Headers of proxies are believed from the proxies that the configuration names.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{
    HeaderMap, Uri,
    header::{FORWARDED, HOST, ORIGIN},
    uri::Authority,
};
use url::Url;

use crate::settings::ServerSettings;

/// Proxies in a row that are followed in `X-Forwarded-For`.
const MAX_HOPS: usize = 16;

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// An IPv4 address, or the first half of an IPv6 address: a subscriber has all of the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
            v4 => v4,
        })
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Address of the client: the other end of the connection, or what a trusted proxy says.
    pub address: IpAddr,
    /// The connection comes from a trusted proxy.
    pub is_by_trusted_proxy: bool,
    /// The request has headers that only proxies set, and does not come from a trusted one.
    pub is_by_unknown_proxy: bool,
}

impl Client {
    /// What the connection and, behind a trusted proxy, the headers tell.
    pub fn of(settings: &ServerSettings, peer: Peer, headers: &HeaderMap) -> Self {
        let peer = peer.0.ip().to_canonical();
        if settings.trusts(peer) {
            return Self {
                address: forwarded_for(settings, headers).unwrap_or(peer),
                is_by_trusted_proxy: true,
                is_by_unknown_proxy: false,
            };
        }
        let mut of_proxies = ["x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"].into_iter();
        Self {
            address: peer,
            is_by_trusted_proxy: false,
            is_by_unknown_proxy: headers.contains_key(FORWARDED) || of_proxies.any(|name| headers.contains_key(name)),
        }
    }
}

/// The last address in `X-Forwarded-For` that is not a trusted proxy: those before it are the client's own words.
fn forwarded_for(settings: &ServerSettings, headers: &HeaderMap) -> Option<IpAddr> {
    let values = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in hops.iter().rev().take(MAX_HOPS) {
        let address = hop
            .parse::<IpAddr>()
            .or_else(|_| hop.parse::<SocketAddr>().map(|a| a.ip()))
            .ok()?;
        let address = address.to_canonical();
        if !settings.trusts(address) {
            return Some(address);
        }
    }
    None
}

/// True if the request names this server as its host: an address, `localhost`, or a name from the configuration. `false` without any.
pub fn is_host_known(settings: &ServerSettings, headers: &HeaderMap, uri: &Uri) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let is_known = |host: &str| is_known_name(settings, host);
    let host = hosts.next().and_then(|host| host.to_str().ok());
    // Two Host headers are an attack on whoever reads the other one.
    host.is_some_and(is_known) && hosts.next().is_none() && uri.authority().is_none_or(|a| is_known(a.as_str()))
}

fn is_known_name(settings: &ServerSettings, host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    if host.contains('@') {
        return false;
    }
    let name = authority.host().to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let public = settings.public_url.as_ref().and_then(Url::host_str);
    address.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || public.is_some_and(|public| public.eq_ignore_ascii_case(&name))
        || settings.hosts.contains(&name)
}

/// False if another site's page asks for something as a part of itself, such as a picture: what it asks for would be made, and recorded, though
/// that page could not read it. A link to a page is fine (`Sec-Fetch-*`, <https://www.w3.org/TR/fetch-metadata/>).
pub fn may_load(headers: &HeaderMap) -> bool {
    let of = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match of("sec-fetch-site") {
        None | Some("same-origin" | "none") => true,
        Some(_) => of("sec-fetch-mode") == Some("navigate") && of("sec-fetch-dest") == Some("document"),
    }
}

/// True if a request that changes something was sent by a page of this server, as far as its headers tell; programs that are not browsers
/// send neither header.
pub fn is_same_origin(settings: &ServerSettings, headers: &HeaderMap) -> bool {
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return false;
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let Some(origin) = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok()) else {
        return false;
    };
    let is_public = settings
        .public_url
        .as_ref()
        .is_some_and(|url| url.origin() == origin.origin());
    // The scheme is left out: behind a proxy that encrypts, the server does not know it.
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let own = host.and_then(|host| Url::parse(&format!("{}://{host}", origin.scheme())).ok());
    is_public || own.is_some_and(|own| origin.origin().is_tuple() && own.origin() == origin.origin())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::TlsSettings;

    fn settings() -> ServerSettings {
        ServerSettings {
            section: "web",
            listen: None,
            public_url: Some("https://city.example/box-1/".parse().unwrap()),
            hosts: vec!["box-1.lan".into()],
            trusted_proxies: vec!["10.0.0.0/24".parse().unwrap()],
            identity_header: Some("x-forwarded-user".into()),
            tls: TlsSettings::Off,
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&'static str, &str)| (axum::http::HeaderName::from_static(name), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn client(peer: [u8; 4], pairs: &[(&'static str, &str)]) -> Client {
        Client::of(&settings(), Peer((peer, 1).into()), &headers(pairs))
    }

    #[test]
    fn only_a_trusted_proxy_says_who_the_client_is() {
        let told = [("x-forwarded-for", "1.1.1.1, 9.9.9.9, 10.0.0.7")];
        let by_proxy = client([10, 0, 0, 5], &told);
        assert_eq!(
            by_proxy.address,
            IpAddr::from([9, 9, 9, 9]),
            "the first address is the client's own claim"
        );
        let direct = client([8, 8, 8, 8], &told);
        assert_eq!(
            (direct.address, direct.is_by_trusted_proxy),
            ([8, 8, 8, 8].into(), false)
        );
        assert!(direct.is_by_unknown_proxy && !client([8, 8, 8, 8], &[]).is_by_unknown_proxy);
        let garbage = client([10, 0, 0, 5], &[("x-forwarded-for", "1.1.1.1, <script>")]);
        assert_eq!(garbage.address, IpAddr::from([10, 0, 0, 5]));
    }

    #[test]
    fn the_addresses_of_one_subscriber_are_one_source() {
        let of = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }

    #[test]
    fn hosts_are_addresses_and_configured_names() {
        let is_known = |host: &str| is_host_known(&settings(), &headers(&[("host", host)]), &Uri::from_static("/"));
        for host in [
            "127.0.0.1:9480",
            "[::1]:9480",
            "LOCALHOST",
            "10.0.0.7",
            "city.example",
            "Box-1.lan:9480",
        ] {
            assert!(is_known(host), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "a@localhost",
            "city.example.evil",
        ] {
            assert!(!is_known(host), "{host}");
        }
        let two = headers(&[("host", "localhost"), ("host", "localhost")]);
        let mut appended = two.clone();
        appended.append("host", "evil.example".parse().unwrap());
        assert!(!is_host_known(&settings(), &appended, &Uri::from_static("/")));
        assert!(!is_host_known(&settings(), &HeaderMap::new(), &Uri::from_static("/")));
        let absolute = Uri::from_static("http://evil.example/");
        assert!(!is_host_known(
            &settings(),
            &headers(&[("host", "localhost")]),
            &absolute
        ));
    }

    #[test]
    fn writes_come_from_pages_of_this_server() {
        let is_same = |pairs: &[(&'static str, &str)]| is_same_origin(&settings(), &headers(pairs));
        let host = ("host", "127.0.0.1:9480");
        assert!(is_same(&[host]), "a program");
        assert!(is_same(&[
            host,
            ("origin", "http://127.0.0.1:9480"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(
            is_same(&[host, ("origin", "https://city.example")]),
            "a proxy that sets its own Host"
        );
        assert!(
            !is_same(&[host, ("origin", "http://127.0.0.1:8080")]),
            "another program on the box"
        );
        assert!(!is_same(&[host, ("origin", "http://evil.example")]));
        assert!(!is_same(&[host, ("origin", "null")]));
        assert!(!is_same(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(!is_same(&[host, ("sec-fetch-site", "same-site")]));
    }
}
