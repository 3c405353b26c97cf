//! What devices answer, read leniently: what is missing or nonsense is left out.

use gridwatch_base::text::printable;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use url::Url;

use super::{DeviceInformation, MAX_PROFILES, MAX_URL, MEDIA, MEDIA_2, Profile};
use crate::xml::{Element, cut, escaped};

/// Characters of a text that are kept.
const MAX_SHOWN: usize = 128;
/// Longest token; the standard's own limit is 64.
const MAX_TOKEN: usize = 256;
/// Largest width or height that is believed.
const MAX_SIDE: u32 = 32_768;

fn shown(text: &str) -> String {
    printable(cut(text, MAX_SHOWN))
}

/// The device's time, and whether NTP sets it.
pub(super) fn system_time(answer: &Element) -> Option<(Timestamp, bool)> {
    let time = answer.at(&["SystemDateAndTime"])?;
    let utc = time.at(&["UTCDateTime"])?;
    let number = |group: &str, name: &str| utc.text_at(&[group, name])?.parse::<i16>().ok();
    let small = |group: &str, name: &str| i8::try_from(number(group, name)?).ok();
    let date = DateTime::new(
        number("Date", "Year")?,
        small("Date", "Month")?,
        small("Date", "Day")?,
        small("Time", "Hour")?,
        small("Time", "Minute")?,
        // A leap second.
        small("Time", "Second")?.min(59),
        0,
    );
    let timestamp = date.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    let is_ntp = time
        .text_at(&["DateTimeType"])
        .is_some_and(|kind| kind.eq_ignore_ascii_case("NTP"));
    Some((timestamp, is_ntp))
}

/// What the device is.
pub(super) fn information(answer: &Element) -> DeviceInformation {
    let text = |name: &str| answer.text_at(&[name]).map(shown).unwrap_or_default();
    DeviceInformation {
        manufacturer: text("Manufacturer"),
        model: text("Model"),
        firmware: text("FirmwareVersion"),
        serial: text("SerialNumber"),
    }
}

/// The address of the service with this namespace, by GetServices.
pub(super) fn service(answer: &Element, namespace: &str) -> Option<Url> {
    let mut services = answer.all("Service").take(MAX_PROFILES);
    let found = services.find(|service| service.text_at(&["Namespace"]) == Some(namespace))?;
    service_url(found.text_at(&["XAddr"])?)
}

/// The address of the media service, by GetCapabilities.
pub(super) fn media_capability(answer: &Element) -> Option<Url> {
    service_url(answer.text_at(&["Capabilities", "Media", "XAddr"])?)
}

fn service_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (text.len() <= MAX_URL && matches!(url.scheme(), "http" | "https")).then_some(url)
}

/// The profiles with video, of either media service.
pub(super) fn profiles(answer: &Element) -> Vec<Profile> {
    let profiles = answer.all("Profiles").take(MAX_PROFILES);
    profiles.filter_map(profile).collect()
}

fn profile(found: &Element) -> Option<Profile> {
    let token = found
        .attribute("token")
        .filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN)?;
    // Media 2 has the configurations in an element of their own.
    let group = found.at(&["Configurations"]).unwrap_or(found);
    let encoder = group
        .at(&["VideoEncoder"])
        .or_else(|| group.at(&["VideoEncoderConfiguration"]))?;
    let source = group
        .at(&["VideoSource"])
        .or_else(|| group.at(&["VideoSourceConfiguration"]));
    let number = |path: &[&str]| encoder.text_at(path)?.parse::<f64>().ok().filter(|n| n.is_finite());
    let whole = |path: &[&str]| number(path).filter(|n| (1.0..1e9).contains(n)).map(|n| n as u32);
    let side = |name: &str| whole(&["Resolution", name]).filter(|side| *side <= MAX_SIDE);
    let encoding = encoder.text_at(&["Encoding"]).map(shown).unwrap_or_default();
    let gov_2 = encoder.attribute("GovLength").and_then(|text| text.parse::<u32>().ok());
    let gov = gov_2.or_else(|| whole(&["H264", "GovLength"]).or_else(|| whole(&["MPEG4", "GovLength"])));
    Some(Profile {
        token: token.to_owned(),
        name: found.text_at(&["Name"]).map(shown).unwrap_or_default(),
        source: source
            .and_then(|source| source.text_at(&["SourceToken"]))
            .map(shown)
            .unwrap_or_default(),
        width: side("Width").unwrap_or(0),
        height: side("Height").unwrap_or(0),
        frame_rate: number(&["RateControl", "FrameRateLimit"]).filter(|rate| (0.01..1_000.0).contains(rate)),
        bit_rate_kbps: whole(&["RateControl", "BitrateLimit"]),
        // JPEG has no keyframe interval, whatever is sent in its place.
        keyframe_pictures: gov.filter(|n| *n > 0 && !encoding.eq_ignore_ascii_case("JPEG")),
        encoding,
        stream: None,
        snapshot: None,
    })
}

/// Namespace and content of a request for the address of a profile's stream or snapshot.
pub(super) fn address_request(is_2: bool, call: &str, token: &str) -> (&'static str, String) {
    let token = format!("<ProfileToken>{}</ProfileToken>", escaped(token));
    match (is_2, call) {
        (true, "GetStreamUri") => (MEDIA_2, format!("<Protocol>RTSP</Protocol>{token}")),
        (true, _) => (MEDIA_2, token),
        (false, "GetStreamUri") => {
            let setup = "<StreamSetup><Stream xmlns=\"http://www.onvif.org/ver10/schema\">RTP-Unicast</Stream>\
                         <Transport xmlns=\"http://www.onvif.org/ver10/schema\"><Protocol>RTSP</Protocol></Transport></StreamSetup>";
            (MEDIA, format!("{setup}{token}"))
        }
        (false, _) => (MEDIA, token),
    }
}

/// The address in an answer of either media service.
pub(super) fn address(answer: &Element) -> Option<String> {
    let text = answer
        .text_at(&["MediaUri", "Uri"])
        .or_else(|| answer.text_at(&["Uri"]))?;
    (text.len() <= MAX_URL).then(|| text.to_owned())
}

/// Every reader on one answer.
pub(crate) fn fuzz(answer: &Element) {
    let _ = (
        system_time(answer),
        information(answer),
        media_capability(answer),
        address(answer),
    );
    let _ = service(answer, MEDIA);
    let profiles = profiles(answer);
    assert!(profiles.len() <= MAX_PROFILES, "more profiles than the limit");
    for profile in profiles {
        let (_, request) = address_request(false, "GetStreamUri", &profile.token);
        // A token must not become markup.
        let read = Element::parse(format!("<a>{request}</a>").as_bytes()).map(|a| a.children().len());
        assert_eq!(read, Ok(2), "a token changes the request");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(xml: &str) -> Element {
        Element::parse(xml.as_bytes()).unwrap()
    }

    #[test]
    fn profiles_of_both_media_services_are_read() {
        let one = parse(
            r#"<trt:GetProfilesResponse><trt:Profiles token="Profile_1" fixed="true"><tt:Name>mainStream</tt:Name>
            <tt:VideoSourceConfiguration token="V"><tt:SourceToken>VideoSource_1</tt:SourceToken></tt:VideoSourceConfiguration>
            <tt:VideoEncoderConfiguration token="E"><tt:Encoding>H264</tt:Encoding>
            <tt:Resolution><tt:Width>2560</tt:Width><tt:Height>1440</tt:Height></tt:Resolution>
            <tt:RateControl><tt:FrameRateLimit>25</tt:FrameRateLimit><tt:BitrateLimit>4096</tt:BitrateLimit></tt:RateControl>
            <tt:H264><tt:GovLength>50</tt:GovLength></tt:H264></tt:VideoEncoderConfiguration></trt:Profiles>
            <trt:Profiles token="audio"><tt:Name>no video</tt:Name></trt:Profiles></trt:GetProfilesResponse>"#,
        );
        let two = parse(
            r#"<tr2:GetProfilesResponse><tr2:Profiles token="Profile_1"><tr2:Name>mainStream</tr2:Name><tr2:Configurations>
            <tr2:VideoSource token="V"><tt:SourceToken>VideoSource_1</tt:SourceToken></tr2:VideoSource>
            <tr2:VideoEncoder token="E" GovLength="50" Profile="Main"><tt:Encoding>H264</tt:Encoding>
            <tt:Resolution><tt:Width>2560</tt:Width><tt:Height>1440</tt:Height></tt:Resolution>
            <tt:RateControl><tt:FrameRateLimit>25.0</tt:FrameRateLimit><tt:BitrateLimit>4096</tt:BitrateLimit></tt:RateControl>
            </tr2:VideoEncoder></tr2:Configurations></tr2:Profiles></tr2:GetProfilesResponse>"#,
        );
        let (one, two) = (profiles(&one), profiles(&two));
        assert_eq!(one, two);
        assert_eq!(one.len(), 1);
        let found = (
            one[0].width,
            one[0].frame_rate,
            one[0].bit_rate_kbps,
            one[0].keyframe_pictures,
        );
        assert_eq!(found, (2560, Some(25.0), Some(4096), Some(50)));
    }

    #[test]
    fn nonsense_is_left_out() {
        let odd = parse(
            r#"<R><Profiles token="a"><VideoEncoderConfiguration><Encoding>H264</Encoding><Resolution><Width>-1</Width>
            <Height>99999999999</Height></Resolution><RateControl><FrameRateLimit>NaN</FrameRateLimit><BitrateLimit>1e99</BitrateLimit>
            </RateControl></VideoEncoderConfiguration></Profiles></R>"#,
        );
        let found = profiles(&odd).pop().unwrap();
        assert_eq!(
            (found.width, found.height, found.frame_rate, found.bit_rate_kbps),
            (0, 0, None, None)
        );
        let time = |month: &str| {
            let xml = format!(
                "<R><SystemDateAndTime><DateTimeType>NTP</DateTimeType><UTCDateTime><Time><Hour>23</Hour><Minute>59</Minute><Second>60\
                 </Second></Time><Date><Year>2026</Year><Month>{month}</Month><Day>31</Day></Date></UTCDateTime></SystemDateAndTime></R>"
            );
            system_time(&parse(&xml))
        };
        let expected = "2026-12-31T23:59:59Z".parse().unwrap();
        assert_eq!(time("12"), Some((expected, true)));
        assert_eq!((time("13"), time("x"), time("9999")), (None, None, None));
    }

    proptest! {
        #[test]
        fn any_token_stays_text(token in "\\PC{1,40}") {
            let profile = format!(
                "<R><Profiles token=\"{}\"><VideoEncoder/></Profiles></R>", escaped(&token)
            );
            fuzz(&parse(&profile));
        }
    }
}
