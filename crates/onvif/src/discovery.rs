//! WS-Discovery (2005/04, as ONVIF Core 7 asks for): a probe by multicast on the chosen interfaces, or by unicast to named addresses, and
//! the matches that come back in a bounded time.
//!
//! Everything in a match is a claim of whoever sent it: no login goes anywhere because of it, and an address at another host than the
//! sender's is listed apart.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use gridwatch_base::text::printable;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use url::Url;

use crate::{
    http,
    xml::{Element, cut},
};

/// Multicast group and port of WS-Discovery.
pub const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 3702);
/// Time to wait for matches: devices delay theirs by up to 0.5 s (SOAP-over-UDP, 3.2), slow ones by seconds.
pub const WAIT: Duration = Duration::from_secs(4);
/// Longest time that may be waited for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Devices listed at most: more than a subnet of 254 addresses has.
pub const MAX_DEVICES: usize = 512;
/// Datagrams read at most; each device answers up to six.
pub const MAX_DATAGRAMS: u64 = 8_192;
/// Largest datagram: that of SOAP-over-UDP.
const MAX_DATAGRAM: usize = 65_507;
/// Matches read of one datagram.
const MAX_MATCHES: usize = 16;
/// Addresses read of one match.
const MAX_ADDRESSES: usize = 8;
/// Scopes read of one match.
const MAX_SCOPES: usize = 64;
/// Characters of a name or an address that are kept.
const MAX_SHOWN: usize = 256;
/// When the probe is sent, as datagrams get lost (SOAP-over-UDP, 4.1).
const REPEATS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_millis(900)];
/// What is asked for: video transmitters, and all devices of ONVIF, as some answer one alone.
const TYPES: [&str; 2] = ["dn:NetworkVideoTransmitter", "tds:Device"];

/// An IPv4 address of this machine from which devices are searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// The interface's name, such as `eth0`.
    pub name: String,
    /// One of its addresses.
    pub address: Ipv4Addr,
}

/// The addresses of this machine's interfaces that are up, without loopback.
///
/// # Errors
/// The system does not list them.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let all = if_addrs::get_if_addrs()?;
    let mut found: Vec<Interface> = all
        .into_iter()
        .filter(|interface| !interface.is_loopback() && interface.is_oper_up())
        .filter_map(|interface| match interface.ip() {
            IpAddr::V4(address) => Some(Interface {
                name: interface.name,
                address,
            }),
            IpAddr::V6(_) => None,
        })
        .collect();
    found.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
    Ok(found)
}

/// Where and how long to search.
#[derive(Debug, Clone)]
pub struct DiscoverySettings {
    /// Interfaces on which the probe is multicast.
    pub interfaces: Vec<Interface>,
    /// The multicast group; [`GROUP`] but in tests.
    pub group: SocketAddrV4,
    /// Addresses that are asked by unicast, for devices behind a router.
    pub hosts: Vec<SocketAddr>,
    /// How long matches are waited for; at most [`LONGEST_WAIT`].
    pub wait: Duration,
}

/// What a search found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Discovery {
    /// Devices by address, each endpoint once.
    pub devices: Vec<FoundDevice>,
    /// Datagrams that were no match to this probe.
    pub ignored: u64,
    /// More than [`MAX_DEVICES`] or [`MAX_DATAGRAMS`] answered, and the rest was not read.
    pub is_cut_off: bool,
    /// Interfaces and addresses that could not be asked, with the reason.
    pub faults: Vec<String>,
}

/// A device that answered. Texts are printable and short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundDevice {
    /// Its endpoint reference, usually `urn:uuid:…`.
    pub endpoint: String,
    /// The address that answered.
    pub from: IpAddr,
    /// Its device service at that address.
    #[serde(serialize_with = "crate::serialize::optional_url")]
    pub address: Option<Url>,
    /// Addresses it names that lie at other hosts. Not contacted; some are other interfaces of the device, others are wrong.
    #[serde(serialize_with = "crate::serialize::urls")]
    pub elsewhere: Vec<Url>,
    /// Other addresses that answered for the same endpoint.
    pub also_from: Vec<IpAddr>,
    /// Types, such as `NetworkVideoTransmitter`.
    pub types: Vec<String>,
    /// Name of the make or model (scope `name`).
    pub name: Option<String>,
    /// Model (scope `hardware`).
    pub hardware: Option<String>,
    /// Manufacturer, where a scope names one.
    pub manufacturer: Option<String>,
    /// Where it says it is.
    pub location: Option<String>,
    /// MAC address.
    pub mac: Option<String>,
}

/// Searches for devices. Returns when the time is over, or sooner when a limit is reached.
pub async fn discover(settings: &DiscoverySettings) -> Discovery {
    discover_with(settings, |_| {}).await
}

/// [`discover`], for a person who waits: `found_one` is called with each device when it answers for the first time. What later answers
/// add to it is in the result only.
pub async fn discover_with(settings: &DiscoverySettings, mut found_one: impl FnMut(&FoundDevice) + Send) -> Discovery {
    let mut found = Discovery::default();
    let end = Instant::now() + settings.wait.min(LONGEST_WAIT);
    let (sender, mut received) = mpsc::channel(64);
    let mut tasks = JoinSet::new();
    let mut ids = Vec::new();
    let mut ask = |socket: UdpSocket, to: SocketAddr, name: String| {
        let socket = Arc::new(socket);
        let probes: Vec<String> = TYPES
            .iter()
            .map(|types| {
                let id = message_id();
                let probe = probe(&id, types);
                ids.push(id);
                probe
            })
            .collect();
        tasks.spawn(listen(Arc::clone(&socket), sender.clone()));
        tasks.spawn(send(socket, to, probes, name, sender.clone()));
    };
    for interface in &settings.interfaces {
        let name = format!("{} ({})", interface.name, interface.address);
        match multicast_socket(interface.address) {
            Ok(socket) => ask(socket, settings.group.into(), name),
            Err(error) => found.faults.push(format!("{name}: {error}")),
        }
    }
    for host in &settings.hosts {
        let any: IpAddr = match host {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        match UdpSocket::bind((any, 0)).await {
            Ok(socket) => ask(socket, *host, host.to_string()),
            Err(error) => found.faults.push(format!("{host}: {error}")),
        }
    }
    drop(sender);
    let mut devices: HashMap<String, FoundDevice> = HashMap::new();
    let mut datagrams = 0;
    while let Ok(Some(received)) = timeout_at(end, received.recv()).await {
        let (bytes, from) = match received {
            Received::Datagram(bytes, from) => (bytes, from),
            Received::Fault(fault) => {
                found.faults.push(fault);
                continue;
            }
        };
        datagrams += 1;
        let matches = probe_matches(&bytes, from, &ids);
        found.ignored += u64::from(matches.is_empty());
        for device in matches {
            let is_full = devices.len() >= MAX_DEVICES;
            match devices.get_mut(&device.endpoint) {
                Some(known) => known.merge(device),
                None if is_full => found.is_cut_off = true,
                None => {
                    found_one(&device);
                    devices.insert(device.endpoint.clone(), device);
                }
            }
        }
        found.is_cut_off |= datagrams == MAX_DATAGRAMS;
        // The time is asked for here, too: with a flood there is always a next datagram, and the timer is not looked at.
        if datagrams == MAX_DATAGRAMS || Instant::now() >= end {
            break;
        }
    }
    found.devices = devices.into_values().collect();
    found
        .devices
        .sort_by(|a, b| (a.from, &a.endpoint).cmp(&(b.from, &b.endpoint)));
    found
}

enum Received {
    Datagram(Vec<u8>, IpAddr),
    Fault(String),
}

async fn listen(socket: Arc<UdpSocket>, to: mpsc::Sender<Received>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    // ICMP errors of a host that has no such port come back as errors of receiving: others may answer.
    let mut errors = 0;
    while errors < 16 {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                if to.send(Received::Datagram(datagram, from.ip())).await.is_err() {
                    return;
                }
            }
            Err(_) => errors += 1,
        }
    }
}

async fn send(
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    probes: Vec<String>,
    name: String,
    faults: mpsc::Sender<Received>,
) {
    let began = Instant::now();
    for repeat in REPEATS {
        sleep_until(began + repeat).await;
        for probe in &probes {
            if let Err(error) = socket.send_to(probe.as_bytes(), to).await {
                // Once is enough; nobody listens any more once the search is over.
                let _ = faults.send(Received::Fault(format!("{name}: {error}"))).await;
                return;
            }
        }
    }
}

fn multicast_socket(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_multicast_if_v4(&address)?;
    // The group is of local scope.
    socket.set_multicast_ttl_v4(1)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    UdpSocket::from_std(socket.into())
}

fn message_id() -> String {
    let (high, low) = (fastrand::u64(..), fastrand::u64(..));
    // Version 4, variant 1 (RFC 9562, 5.4).
    let (high, low) = (high & !0xf000 | 0x4000, low & !(0b11 << 62) | 0b10 << 62);
    format!(
        "urn:uuid:{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

fn probe(id: &str, types: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <e:Envelope xmlns:e=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:w=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\" xmlns:dn=\"http://www.onvif.org/ver10/network/wsdl\" \
         xmlns:tds=\"http://www.onvif.org/ver10/device/wsdl\"><e:Header><w:MessageID>{id}</w:MessageID>\
         <w:To e:mustUnderstand=\"true\">urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To>\
         <w:Action e:mustUnderstand=\"true\">http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</w:Action></e:Header>\
         <e:Body><d:Probe><d:Types>{types}</d:Types></d:Probe></e:Body></e:Envelope>"
    )
}

/// The devices in a datagram that answers one of the probes `ids`.
pub(crate) fn probe_matches(datagram: &[u8], from: IpAddr, ids: &[String]) -> Vec<FoundDevice> {
    let Ok(envelope) = Element::parse(datagram) else {
        return Vec::new();
    };
    let answers = envelope.text_at(&["Header", "RelatesTo"]);
    if !answers.is_some_and(|id| ids.iter().any(|own| own == id)) {
        return Vec::new();
    }
    let Some(matches) = envelope.at(&["Body", "ProbeMatches"]) else {
        return Vec::new();
    };
    let matches = matches.all("ProbeMatch").take(MAX_MATCHES);
    matches.filter_map(|found| FoundDevice::of(found, from)).collect()
}

impl FoundDevice {
    fn of(found: &Element, from: IpAddr) -> Option<Self> {
        let endpoint = found.text_at(&["EndpointReference", "Address"])?;
        let addresses = found.text_at(&["XAddrs"]).unwrap_or_default().split_ascii_whitespace();
        let addresses = addresses.take(MAX_ADDRESSES).filter_map(device_address);
        let (here, elsewhere): (Vec<Url>, Vec<Url>) = addresses.partition(|url| http::host(url).parse() == Ok(from));
        let types = found.text_at(&["Types"]).unwrap_or_default().split_ascii_whitespace();
        let mut device = Self {
            endpoint: shown(endpoint),
            from,
            // Encrypted before plain.
            address: here
                .iter()
                .find(|url| url.scheme() == "https")
                .or(here.first())
                .cloned(),
            elsewhere,
            also_from: Vec::new(),
            types: types
                .take(MAX_ADDRESSES)
                .map(|name| shown(name.rsplit(':').next().unwrap_or_default()))
                .collect(),
            name: None,
            hardware: None,
            manufacturer: None,
            location: None,
            mac: None,
        };
        let scopes = found.text_at(&["Scopes"]).unwrap_or_default().split_ascii_whitespace();
        for scope in scopes.take(MAX_SCOPES) {
            device.take_scope(scope);
        }
        Some(device)
    }

    /// `onvif://www.onvif.org/KIND/VALUE` (ONVIF Core 7.3.2.2).
    fn take_scope(&mut self, scope: &str) {
        let Some((kind, value)) = scope
            .strip_prefix("onvif://www.onvif.org/")
            .and_then(|rest| rest.split_once('/'))
        else {
            return;
        };
        let value = percent_decode_str(value).decode_utf8_lossy();
        let field = match kind.to_ascii_lowercase().as_str() {
            "name" => &mut self.name,
            "hardware" => &mut self.hardware,
            "manufacturer" | "manufacture" => &mut self.manufacturer,
            "location" => &mut self.location,
            "mac" => &mut self.mac,
            _ => return,
        };
        // A country and a city come as two scopes.
        match field {
            Some(before) if kind == "location" && before.len() + value.len() < MAX_SHOWN => {
                before.push_str(", ");
                before.push_str(&shown(&value));
            }
            Some(_) => {}
            None => *field = Some(shown(&value)).filter(|text| !text.is_empty()),
        }
    }

    /// Another answer for the same endpoint: of another interface of this machine, or by someone else.
    fn merge(&mut self, other: Self) {
        if other.from == self.from {
            self.address = self.address.take().or(other.address);
        } else if !self.also_from.contains(&other.from) && self.also_from.len() < MAX_ADDRESSES {
            self.also_from.push(other.from);
        }
        for kind in other.types {
            if !self.types.contains(&kind) && self.types.len() < MAX_ADDRESSES {
                self.types.push(kind);
            }
        }
    }
}

/// The address of a device service, if it can be one.
fn device_address(text: &str) -> Option<Url> {
    let url = Url::parse(cut(text, MAX_SHOWN)).ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none() && text.len() <= MAX_SHOWN;
    (is_plain && matches!(url.scheme(), "http" | "https") && url.host_str().is_some()).then_some(url)
}

fn shown(text: &str) -> String {
    printable(cut(text.trim(), MAX_SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: &str, endpoint: &str, addresses: &str, scopes: &str) -> String {
        format!(
            "<SOAP-ENV:Envelope><SOAP-ENV:Header><wsa:RelatesTo>{id}</wsa:RelatesTo></SOAP-ENV:Header><SOAP-ENV:Body>\
             <d:ProbeMatches><d:ProbeMatch><wsa:EndpointReference><wsa:Address>{endpoint}</wsa:Address></wsa:EndpointReference>\
             <d:Types>dn:NetworkVideoTransmitter tds:Device</d:Types><d:Scopes>{scopes}</d:Scopes><d:XAddrs>{addresses}</d:XAddrs>\
             </d:ProbeMatch></d:ProbeMatches></SOAP-ENV:Body></SOAP-ENV:Envelope>"
        )
    }

    fn device(addresses: &str, scopes: &str) -> FoundDevice {
        let text = answer("urn:uuid:1", "urn:uuid:a", addresses, scopes);
        let ids = ["urn:uuid:1".to_owned()];
        probe_matches(text.as_bytes(), [192, 0, 2, 9].into(), &ids)
            .pop()
            .unwrap()
    }

    #[test]
    fn a_match_is_read_with_its_scopes() {
        let device = device(
            "http://169.254.1.2/onvif/device_service http://192.0.2.9/onvif/device_service",
            "onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/name/HIKVISION%20DS-2CD2T47 \
             onvif://www.onvif.org/location/country/china onvif://www.onvif.org/location/city/hangzhou \
             onvif://www.onvif.org/hardware/DS-2CD2T47 onvif://www.onvif.org/MAC/a4:14:37:00:00:01 ldap://other onvif://www.onvif.org/x",
        );
        assert_eq!(
            device.address.unwrap().as_str(),
            "http://192.0.2.9/onvif/device_service"
        );
        assert_eq!(device.elsewhere.len(), 1);
        assert_eq!(device.name.as_deref(), Some("HIKVISION DS-2CD2T47"));
        assert_eq!(device.hardware.as_deref(), Some("DS-2CD2T47"));
        assert_eq!(device.mac.as_deref(), Some("a4:14:37:00:00:01"));
        assert_eq!(device.location.as_deref(), Some("country/china, city/hangzhou"));
        assert_eq!(device.types, ["NetworkVideoTransmitter", "Device"]);
    }

    #[test]
    fn addresses_that_are_no_device_service_are_left_out() {
        let device = device(
            "file:///etc/passwd http://u:p@192.0.2.9/x gopher://192.0.2.9/ not-a-url http://192.0.2.10/x",
            "onvif://www.onvif.org/name/%1b%5b2J%0aInjected",
        );
        assert_eq!(device.address, None, "an address with a login, and one elsewhere");
        assert_eq!(device.elsewhere.len(), 1);
        assert_eq!(device.name.as_deref(), Some("\\u001b[2J\\u000aInjected"));
    }

    #[test]
    fn what_answers_another_probe_is_ignored() {
        let text = answer("urn:uuid:other", "urn:uuid:a", "http://192.0.2.9/x", "");
        assert!(probe_matches(text.as_bytes(), [192, 0, 2, 9].into(), &["urn:uuid:1".into()]).is_empty());
        assert!(probe_matches(b"<x/>", [192, 0, 2, 9].into(), &[]).is_empty());
    }

    #[test]
    fn another_sender_cannot_replace_the_address_of_an_endpoint() {
        let mut first = device("http://192.0.2.9/x", "");
        let text = answer("urn:uuid:1", "urn:uuid:a", "http://192.0.2.66/evil", "");
        let forged = probe_matches(text.as_bytes(), [192, 0, 2, 66].into(), &["urn:uuid:1".into()]);
        first.merge(forged.into_iter().next().unwrap());
        assert_eq!(first.address.unwrap().as_str(), "http://192.0.2.9/x");
        assert_eq!(first.also_from, [IpAddr::from([192, 0, 2, 66])]);
    }

    #[test]
    fn message_ids_are_uuids_of_version_4() {
        let id = message_id();
        assert_eq!((id.len(), &id[..9], &id[23..24]), (45, "urn:uuid:", "4"), "{id}");
        assert!("89ab".contains(&id[28..29]), "{id}");
        assert_ne!(id, message_id());
    }
}
