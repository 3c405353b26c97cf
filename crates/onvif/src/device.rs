//! Asks one device over ONVIF: its clock, what it is, its video profiles and where their streams are.
//!
//! The person who adds a camera names one host. All calls and the login go there: an address in a reply that lies at another host is
//! reported, and the same path at the named host is used instead, as that is what a device behind a port forwarding or with a wrong
//! address in its settings means. Other hosts are asked only if the person confirmed them.

mod client;
mod error;
mod examination;
mod read;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use futures::future::join_all;
use gridwatch_base::secret::Credentials;
use gridwatch_camera::receive::Trust;
use jiff::Timestamp;
use serde::Serialize;
use url::Url;

pub use self::error::OnvifError;
pub(crate) use self::read::fuzz;
use self::{client::Client, examination::Examination};
use crate::http;

/// Profiles that are read; a recorder with 16 channels has 32.
pub const MAX_PROFILES: usize = 64;
/// Profiles whose addresses are asked for: two calls each.
pub const MAX_STREAMS: usize = 32;
/// Longest address that is taken.
pub(crate) const MAX_URL: usize = 2_048;
/// Paths of the device service; the first is that of ONVIF Core 5.1.2.
const PATH: &str = "/onvif/device_service";
/// Ports on which brands serve ONVIF: the standard one, TP-Link, Hikvision's server port by some resellers, and small makes.
const PORTS: [u16; 5] = [80, 2020, 8000, 8080, 8899];
/// Time to try one of these ports: a closed one refuses at once, a filtered one says nothing.
const PORT_LIMIT: Duration = Duration::from_millis(1_500);
const DEVICE: &str = "http://www.onvif.org/ver10/device/wsdl";
const MEDIA: &str = "http://www.onvif.org/ver10/media/wsdl";
const MEDIA_2: &str = "http://www.onvif.org/ver20/media/wsdl";

/// How a device is asked.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// For HTTP Digest and the UsernameToken, whichever the device asks for. Only digests of the password are sent.
    pub credentials: Option<Credentials>,
    /// Send the password itself (HTTP Basic) if the device takes nothing else.
    pub allows_plain_password: bool,
    /// Certificates that are trusted (https).
    pub trust: Trust,
    /// Limit of one call.
    pub call_limit: Duration,
    /// Limit of all calls together.
    pub limit: Duration,
    /// Other hosts that the person confirmed to be this device's.
    pub confirmed_hosts: Vec<String>,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            allows_plain_password: false,
            trust: Trust::System,
            call_limit: Duration::from_secs(5),
            limit: Duration::from_secs(25),
            confirmed_hosts: Vec::new(),
        }
    }
}

/// The device's clock.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeviceClock {
    /// Its time when it answered.
    pub time: Timestamp,
    /// Its time minus this machine's, in seconds; exact to a second, as ONVIF tells no fractions.
    pub difference_s: f64,
    /// It is set by NTP.
    pub is_ntp: bool,
}

/// What the device is. Texts are printable and short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeviceInformation {
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Firmware.
    pub firmware: String,
    /// Serial number.
    pub serial: String,
}

/// A profile: one encoded stream of one video source, with what the device says of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Profile {
    /// By which the device knows it.
    pub token: String,
    /// Its name.
    pub name: String,
    /// The video source (channel) that it shows.
    pub source: String,
    /// Encoding, such as `H264`.
    pub encoding: String,
    /// Width in pixels; 0: not told.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Limit of pictures a second.
    pub frame_rate: Option<f64>,
    /// Limit in kb/s.
    pub bit_rate_kbps: Option<u32>,
    /// Pictures from one keyframe to the next.
    pub keyframe_pictures: Option<u32>,
    /// Its stream.
    pub stream: Option<NamedAddress>,
    /// A single picture as JPEG.
    pub snapshot: Option<NamedAddress>,
}

/// An address that a device gave for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedAddress {
    /// Where it is used: always at the named host or a confirmed one. Without user and password.
    #[serde(serialize_with = "crate::serialize::url")]
    pub url: Url,
    /// The host it named, if that is another one.
    pub elsewhere: Option<String>,
}

/// What went wrong while a device was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum DeviceProblem {
    /// A call failed.
    CallFailed {
        /// The call.
        call: &'static str,
        /// Why.
        error: String,
    },
    /// It named an address at another host, which was not contacted.
    Elsewhere {
        /// What the address is for.
        what: &'static str,
        /// The host that it named.
        host: String,
    },
    /// It has more profiles than are asked for.
    TooManyProfiles {
        /// The limit.
        limit: usize,
    },
}

/// What a device said of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceReport {
    /// Its device service.
    #[serde(serialize_with = "crate::serialize::url")]
    pub address: Url,
    /// The address that answered.
    pub peer: IpAddr,
    /// Its clock.
    pub clock: Option<DeviceClock>,
    /// What it is.
    pub information: Option<DeviceInformation>,
    /// Its profiles with video.
    pub profiles: Vec<Profile>,
    /// The login it asked for, such as `HTTP Digest MD5` or `UsernameToken`.
    pub login: Option<String>,
    /// The login that is missing or refused; then little else is known.
    pub login_problem: Option<LoginNeeded>,
    /// What went wrong.
    pub problems: Vec<DeviceProblem>,
}

/// What is wrong with the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginNeeded {
    /// None was given.
    Missing,
    /// It was refused.
    Refused,
    /// Only the password itself is taken.
    InClear,
}

/// The address of the device service of `target`: a host, `HOST:PORT`, or its whole URL. `None` for the port: the usual ones are to be
/// tried.
///
/// # Errors
/// It is none of these.
pub fn device_url(target: &str) -> Result<(Url, bool), OnvifError> {
    let is_url = target.contains("://");
    let text = if is_url {
        target.to_owned()
    } else {
        format!("http://{target}")
    };
    // An IPv6 address without brackets is not a URL's host.
    let text = match target.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("http://[{address}]"),
        Err(_) => text,
    };
    let bad = |why: &str| OnvifError::Address(why.to_owned());
    let mut url = Url::parse(&text).map_err(|e| bad(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("its scheme is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it has a user name or a password; give them apart"));
    }
    let has_port = url.port().is_some() || is_url;
    if url.path() == "/" {
        url.set_path(PATH);
    }
    Ok((url, has_port))
}

/// Finds the device service of a host by asking the usual ports for the time, which needs no login.
///
/// # Errors
/// No port answers as ONVIF, or the host cannot be reached.
pub async fn locate(target: &str, options: &DeviceOptions) -> Result<Url, OnvifError> {
    let (url, has_port) = device_url(target)?;
    if has_port {
        return Ok(url);
    }
    let options = DeviceOptions {
        credentials: None,
        call_limit: options.call_limit.min(PORT_LIMIT),
        ..options.clone()
    };
    let asked = PORTS.map(|port| {
        let mut candidate = url.clone();
        // Fails only for a URL without a host.
        let _ = candidate.set_port(Some(port));
        let options = &options;
        async move {
            match Client::new(&candidate, options).system_time().await {
                Ok(_) | Err(OnvifError::Fault { .. } | OnvifError::LoginRequired { .. }) => Some(candidate),
                Err(_) => None,
            }
        }
    });
    // The first of the list that answers, not the fastest: the result is the same each time.
    if let Some(found) = join_all(asked).await.into_iter().flatten().next() {
        return Ok(found);
    }
    Err(OnvifError::NotFound {
        host: http::host(&url).to_owned(),
    })
}

/// Asks the device whose service is at `address`.
///
/// # Errors
/// It does not answer as an ONVIF device. What it refuses or gets wrong later is in the report.
pub async fn examine(address: &Url, options: &DeviceOptions) -> Result<DeviceReport, OnvifError> {
    let mut client = Client::new(address, options);
    let end = Instant::now() + options.limit;
    // First, as it needs no login and the login needs the time.
    let (clock, peer) = match client.system_time().await {
        Ok(found) => found,
        // It answers, though not this.
        Err(OnvifError::Fault { .. } | OnvifError::LoginRequired { .. }) if client.peer().is_some() => {
            (None, client.peer().unwrap_or(IpAddr::from([0, 0, 0, 0])))
        }
        Err(error) => return Err(error),
    };
    let mut report = DeviceReport {
        address: address.clone(),
        peer,
        clock,
        information: None,
        profiles: Vec::new(),
        login: None,
        login_problem: None,
        problems: Vec::new(),
    };
    let mut examination = Examination {
        client: &mut client,
        report: &mut report,
        end,
    };
    if let Err(error) = examination.run().await {
        report.login_problem = match error {
            OnvifError::LoginRequired { .. } => Some(LoginNeeded::Missing),
            OnvifError::LoginRefused { .. } => Some(LoginNeeded::Refused),
            OnvifError::PasswordInClear { .. } => Some(LoginNeeded::InClear),
            _ => None,
        };
        if report.login_problem.is_none() {
            report.problems.push(DeviceProblem::CallFailed {
                call: "GetProfiles",
                error: error.to_string(),
            });
        }
    }
    report.login = client.login();
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_with_or_without_port_or_a_url() {
        let of = |target: &str| device_url(target).map(|(url, has_port)| (url.to_string(), has_port));
        let path = "/onvif/device_service";
        assert_eq!(of("192.0.2.1"), Ok((format!("http://192.0.2.1{path}"), false)));
        assert_eq!(of("cam:8000"), Ok((format!("http://cam:8000{path}"), true)));
        assert_eq!(of("2001:db8::1"), Ok((format!("http://[2001:db8::1]{path}"), false)));
        assert_eq!(of("https://cam/other"), Ok(("https://cam/other".into(), true)));
        let error = of("http://admin:hunter2@cam").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(of("rtsp://cam/x").is_err() && of("a b").is_err());
    }
}
