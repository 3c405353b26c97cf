//! Which addresses a probe may go to.
//!
//! Reaching the cameras of the box's network is what a probe is for, so private addresses are allowed. An operator must not reach the box
//! itself through it, where services trust whoever is on the box, nor what answers only on a link (metadata services of clouds). An
//! administrator may: a camera gateway can run on the box. Redirects there are never followed (`gridwatch_camera::receive`).

use std::{net::IpAddr, time::Duration};

use gridwatch_base::net;
use gridwatch_onvif::probe::Target;
use gridwatch_web::Role;
use tokio::{net::lookup_host, time::timeout};
use url::{Host, Url};

use super::Given;

/// Time for a name's addresses.
const LOOKUP: Duration = Duration::from_secs(5);
/// Why an address is not probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressFault {
    #[error("the host name has no address; check it, or use the IP address")]
    Unresolved,
    #[error("this address is the box itself, or not one of a camera's network; only an administrator may probe it")]
    Reserved,
}

/// Checks that the person may probe this address. For others than administrators a name becomes the address that was checked, so that
/// it cannot lead elsewhere a moment later; over TLS it stays, as the certificate is the name's.
pub(super) async fn check(given: &mut Given, role: Role) -> Result<(), AddressFault> {
    let host = given.target.host().to_owned();
    let literal = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let addresses = match literal {
        Some(address) => vec![address],
        None => {
            let found = timeout(LOOKUP, lookup_host((host.as_str(), 0))).await;
            let found = found.ok().and_then(Result::ok).into_iter().flatten();
            found.map(|address| address.ip()).collect()
        }
    };
    let first = *addresses.first().ok_or(AddressFault::Unresolved)?;
    if role >= Role::Admin {
        return Ok(());
    }
    if addresses
        .iter()
        .any(|address| net::is_reserved(*address) || net::is_own(*address))
    {
        return Err(AddressFault::Reserved);
    }
    if literal.is_none() {
        given.target = pinned(&given.target, first);
    }
    Ok(())
}

/// The target at this address in place of its name.
fn pinned(target: &Target, address: IpAddr) -> Target {
    let text = match target {
        Target::Stream(url) => url.to_string(),
        Target::Device { text, .. } if text.contains("://") => text.clone(),
        Target::Device { text, .. } => format!("http://{text}"),
    };
    let Ok(mut url) = Url::parse(&text) else {
        return target.clone();
    };
    if matches!(url.scheme(), "https" | "rtsps") {
        return target.clone();
    }
    let host = match address {
        IpAddr::V4(address) => Host::<String>::Ipv4(address).to_string(),
        IpAddr::V6(address) => Host::<String>::Ipv6(address).to_string(),
    };
    if url.set_host(Some(&host)).is_err() {
        return target.clone();
    }
    let text = match target {
        // Without a port, the usual ones are tried.
        Target::Device { text, .. } if !text.contains("://") => match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => address.to_string(),
        },
        _ => url.to_string(),
    };
    Target::parse(&text).unwrap_or_else(|_| target.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::add::{Need, ProbeInput};
    use gridwatch_camera::{Auth, Transport};

    fn given(target: &str) -> Given {
        let input = ProbeInput {
            target: target.into(),
            user: "".into(),
            password: "".into(),
            brand: String::new(),
            channel: 1,
            transport: Transport::Tcp,
            auth: Auth::Digest,
            need: Need::Objects,
        };
        Given::of(input).unwrap().0
    }

    #[tokio::test]
    async fn an_operator_reaches_cameras_and_not_the_box() {
        for target in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "rtsp://127.8.9.1/x",
            "http://169.254.169.254/latest/meta-data",
            "rtsp://[::1]:554/x",
            "rtsp://[::ffff:127.0.0.1]/x",
            "rtsp://[fe80::1]/x",
            "rtsp://[64:ff9b::7f00:1]/x",
            "0.0.0.0",
            "100.100.100.200",
            "224.0.0.1",
            "localhost",
            "rtsp://0x7f000001/x",
            "rtsp://2130706433/x",
            "rtsp://0177.1/x",
        ] {
            let found = check(&mut given(target), Role::Operator).await;
            assert_eq!(found, Err(AddressFault::Reserved), "{target}");
            assert_eq!(check(&mut given(target), Role::Admin).await, Ok(()), "{target}");
        }
        for target in ["192.0.2.1", "rtsp://10.1.2.3:554/x", "rtsp://[2001:db8::7]/x"] {
            assert_eq!(check(&mut given(target), Role::Operator).await, Ok(()), "{target}");
        }
    }

    #[test]
    fn a_name_is_pinned_to_the_address_that_was_checked() {
        let address = "192.0.2.7".parse().unwrap();
        let of = |text: &str| match pinned(&given(text).target, address) {
            Target::Stream(url) => url.to_string(),
            Target::Device { text, .. } => text,
        };
        assert_eq!(of("rtsp://gate.example:8554/x?y=1"), "rtsp://192.0.2.7:8554/x?y=1");
        assert_eq!(of("gate.example"), "192.0.2.7");
        assert_eq!(of("gate.example:8000"), "192.0.2.7:8000");
        assert_eq!(of("http://gate.example/onvif/x"), "http://192.0.2.7/onvif/x");
        assert_eq!(
            of("rtsps://gate.example/x"),
            "rtsps://gate.example/x",
            "the certificate names it"
        );
    }
}
