//! What a person names, and the streams to try for it.

use gridwatch_camera::receive::is_rtsp;
use url::Url;

use super::{CameraFacts, Candidate, ProbeRequest, UrlSource};
use crate::{
    brand::{self, Brand, StreamRole},
    device::{DeviceOptions, DeviceReport, OnvifError, Profile, device_url, examine, locate},
    http,
};

/// The port of RTSP (RFC 7826, 4.2).
const RTSP_PORT: u16 = 554;

/// What a person named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A stream, without user and password.
    Stream(Url),
    /// A device service: a host, `HOST:PORT` or a URL.
    Device {
        /// As it was given.
        text: String,
        /// Its host.
        host: String,
    },
}

impl Target {
    /// A stream's URL (`rtsp://…`, without user and password), a host, `HOST:PORT`, or the URL of a device service.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, OnvifError> {
        if let Ok(url) = Url::parse(text)
            && is_rtsp(&url)
        {
            if !url.username().is_empty() || url.password().is_some() {
                return Err(OnvifError::Address(
                    "it has a user name or a password; give them apart".into(),
                ));
            }
            return match url.host_str() {
                Some(host) if !host.is_empty() => Ok(Self::Stream(url)),
                _ => Err(OnvifError::Address("it names no host".into())),
            };
        }
        let (url, _) = device_url(text)?;
        Ok(Self::Device {
            text: text.to_owned(),
            host: http::host(&url).to_owned(),
        })
    }

    /// The host that was named.
    pub fn host(&self) -> &str {
        match self {
            Self::Stream(url) => http::host(url),
            Self::Device { host, .. } => host,
        }
    }

    /// Asks the device at this host over ONVIF.
    pub(super) async fn examine(&self, options: &DeviceOptions) -> Result<DeviceReport, OnvifError> {
        let text = match self {
            Self::Stream(url) => http::host(url),
            Self::Device { text, .. } => text,
        };
        let address = locate(text, options).await?;
        examine(&address, options).await
    }

    /// `rtsp://HOST:554`, for the patterns of brands.
    fn base(&self) -> Option<Url> {
        match self {
            Self::Stream(url) => Some(url.clone()),
            Self::Device { host, .. } => {
                let host = if host.contains(':') {
                    format!("[{host}]")
                } else {
                    host.clone()
                };
                Url::parse(&format!("rtsp://{host}:{RTSP_PORT}")).ok()
            }
        }
    }
}

/// The streams to try, and the brand that was recognised.
pub(super) struct Candidates {
    pub(super) main: Vec<Candidate>,
    pub(super) sub: Vec<Candidate>,
    pub(super) brand: Option<&'static Brand>,
}

impl Candidates {
    pub(super) fn of(request: &ProbeRequest, facts: &CameraFacts) -> Self {
        let recognised = match &request.target {
            Target::Stream(url) => brand::recognise(url),
            Target::Device { .. } => None,
        };
        let brand = request
            .brand
            .or_else(|| brand::by_name(texts(facts)))
            .or(recognised.map(|found| found.brand));
        let mut candidates = Self {
            main: Vec::new(),
            sub: Vec::new(),
            brand,
        };
        let channel = recognised.map_or(request.channel, |found| found.channel);
        let given = match &request.target {
            Target::Stream(url) => Some(url.clone()),
            Target::Device { .. } => None,
        };
        // Where a URL was given, ONVIF tells of the other streams of a camera, but not which channel of a recorder it is.
        let profiles = facts.device.as_ref().map_or(&[][..], |device| &device.profiles);
        let is_one_source = profiles.windows(2).all(|pair| pair[0].source == pair[1].source);
        let named = match given.is_none() || is_one_source {
            true => main_and_sub(profiles, if given.is_none() { channel } else { 1 }),
            false => (None, None),
        };
        // A person who gives the sub stream means that one.
        let is_given_sub = given.as_ref().is_some_and(|given| {
            let stream = named.1.and_then(|sub| sub.stream.as_ref());
            stream.is_some_and(|stream| (stream.url.path(), stream.url.query()) == (given.path(), given.query()))
        });
        let role = match (recognised, is_given_sub) {
            (Some(found), _) => found.role,
            (None, true) => StreamRole::Sub,
            (None, false) => StreamRole::Main,
        };
        if let Some(url) = &given {
            candidates.add(role, url.clone(), UrlSource::Given, None);
        }
        for (role, profile) in [(StreamRole::Main, named.0), (StreamRole::Sub, named.1)] {
            let address = profile.and_then(|profile| profile.stream.clone());
            if let Some(address) = address.filter(|address| Some(&address.url) != given.as_ref()) {
                candidates.add(role, address.url, UrlSource::Onvif, profile.cloned());
            }
        }
        // A brand's patterns, where nothing better is known; never another main stream than the given one.
        if let (Some(brand), Some(base)) = (brand, request.target.base()) {
            for role in [StreamRole::Main, StreamRole::Sub] {
                if candidates.role(role).is_empty() {
                    for url in brand.streams(&base, role, channel) {
                        candidates.add(role, url, UrlSource::Brand, None);
                    }
                }
            }
        }
        candidates
    }

    fn role(&mut self, role: StreamRole) -> &mut Vec<Candidate> {
        match role {
            StreamRole::Main => &mut self.main,
            StreamRole::Sub => &mut self.sub,
        }
    }

    fn add(&mut self, role: StreamRole, url: Url, source: UrlSource, announced: Option<Profile>) {
        let candidates = self.role(role);
        // What was given or named is the one; patterns are guesses, of which each may be tried.
        if candidates
            .iter()
            .all(|known| known.source == UrlSource::Brand && known.url != url)
        {
            candidates.push(Candidate { url, source, announced });
        }
    }
}

/// Texts by which the brand is recognised.
fn texts(facts: &CameraFacts) -> impl Iterator<Item = &str> {
    let information = facts.device.as_ref().and_then(|device| device.information.as_ref());
    let said = information
        .into_iter()
        .flat_map(|i| [i.manufacturer.as_str(), i.model.as_str()]);
    let found = facts.found.as_ref();
    let scopes = found.into_iter().flat_map(|f| [&f.manufacturer, &f.name, &f.hardware]);
    said.chain(scopes.flatten().map(String::as_str))
}

/// The profiles of a channel with the most pixels, and with the fewest.
fn main_and_sub(profiles: &[Profile], channel: u16) -> (Option<&Profile>, Option<&Profile>) {
    let mut sources: Vec<&str> = Vec::new();
    for profile in profiles {
        if !sources.contains(&profile.source.as_str()) {
            sources.push(&profile.source);
        }
    }
    let source = sources.get(usize::from(channel.max(1)) - 1);
    let pixels = |profile: &&Profile| u64::from(profile.width) * u64::from(profile.height);
    let of_channel = || {
        profiles
            .iter()
            .filter(|p| Some(&p.source.as_str()) == source && p.stream.is_some())
    };
    // The first of several equal ones: devices list the main stream first.
    let main = of_channel().rev().max_by_key(pixels);
    // The largest of the smaller ones: third streams are thumbnails for telephones.
    let sub = of_channel()
        .filter(|profile| main.is_some_and(|main| pixels(profile) < pixels(&main)))
        .max_by_key(pixels);
    (main, sub)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::NamedAddress;

    fn profile(token: &str, source: &str, width: u32, height: u32) -> Profile {
        Profile {
            token: token.into(),
            source: source.into(),
            width,
            height,
            stream: Some(NamedAddress {
                url: Url::parse(&format!("rtsp://192.0.2.1/{token}")).unwrap(),
                elsewhere: None,
            }),
            ..Profile::default()
        }
    }

    #[test]
    fn a_target_is_a_stream_or_a_device() {
        let host = |text: &str| Target::parse(text).map(|target| target.host().to_owned());
        assert_eq!(host("rtsp://192.0.2.1:8554/x"), Ok("192.0.2.1".into()));
        assert_eq!(host("192.0.2.1"), Ok("192.0.2.1".into()));
        assert_eq!(
            host("http://[2001:db8::1]:8000/onvif/device_service"),
            Ok("2001:db8::1".into())
        );
        let error = Target::parse("rtsp://u:hunter2@h/x").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(Target::parse("rtsp:///x").is_err() && Target::parse("file:///x").is_err());
    }

    #[test]
    fn main_and_sub_are_of_the_same_channel() {
        let profiles = [
            profile("a_main", "V1", 1920, 1080),
            profile("a_sub", "V1", 704, 576),
            profile("a_third", "V1", 320, 240),
            profile("b_main", "V2", 3840, 2160),
            profile("b_copy", "V2", 3840, 2160),
        ];
        let tokens = |channel| {
            let (main, sub) = main_and_sub(&profiles, channel);
            [main, sub].map(|p| p.map(|p| p.token.as_str()))
        };
        assert_eq!(tokens(1), [Some("a_main"), Some("a_sub")]);
        assert_eq!(tokens(2), [Some("b_main"), None]);
        assert_eq!(tokens(3), [None, None]);
    }

    fn candidates(target: &str, brand: Option<&'static Brand>) -> Vec<String> {
        let request = ProbeRequest {
            brand,
            ..ProbeRequest::new(Target::parse(target).unwrap())
        };
        let facts = CameraFacts {
            host: String::new(),
            brand: None,
            found: None,
            device: None,
            device_error: None,
            streams: Vec::new(),
            proposed: None,
        };
        let found = Candidates::of(&request, &facts);
        found.main.iter().chain(&found.sub).map(|c| c.url.to_string()).collect()
    }

    #[test]
    fn a_given_url_brings_the_sub_stream_of_its_brand() {
        assert_eq!(
            candidates("rtsp://192.0.2.1/cam/realmonitor?channel=2&subtype=0", None),
            [
                "rtsp://192.0.2.1/cam/realmonitor?channel=2&subtype=0",
                "rtsp://192.0.2.1/cam/realmonitor?channel=2&subtype=1"
            ]
        );
        assert_eq!(candidates("rtsp://192.0.2.1/live", None), ["rtsp://192.0.2.1/live"]);
        assert_eq!(candidates("192.0.2.1", None), [""; 0]);
        let streams = candidates("192.0.2.1", brand::by_id("tp-link"));
        assert_eq!(
            streams,
            ["rtsp://192.0.2.1:554/stream1", "rtsp://192.0.2.1:554/stream2"]
        );
    }
}
