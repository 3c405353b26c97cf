//! Stream URLs and menus of brands, from `brands.toml`: proposals, which a stream that plays confirms.

use std::sync::LazyLock;

use gridwatch_base::language::Language;
use serde::{Deserialize, Serialize};
use url::Url;

/// Main or sub stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamRole {
    /// The stream with the most pixels.
    Main,
    /// The smaller one beside it.
    Sub,
}

/// A text in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    zh: String,
    en: String,
}

impl Text {
    /// The text in this language.
    pub fn of(&self, language: Language) -> &str {
        match language {
            Language::Zh => &self.zh,
            Language::En => &self.en,
        }
    }
}

/// A setting of which a brand's menu is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Keyframe interval.
    Keyframe,
    /// Smart codec.
    SmartCodec,
    /// Clock and NTP.
    Clock,
    /// ONVIF and its users.
    Onvif,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Menu {
    keyframe: Option<Text>,
    smart_codec: Option<Text>,
    clock: Option<Text>,
    onvif: Option<Text>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pattern {
    role: StreamRole,
    path: String,
    #[serde(default)]
    channels: Option<u16>,
}

/// A brand.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brand {
    /// Short name on the command line.
    pub id: String,
    /// What a person reads.
    pub title: Text,
    names: Vec<String>,
    /// What it calls its smart codec.
    pub smart_codec: String,
    /// Where the patterns come from.
    pub sources: Vec<String>,
    streams: Vec<Pattern>,
    #[serde(default)]
    menu: Menu,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    brand: Vec<Brand>,
}

static BRANDS: LazyLock<Vec<Brand>> = LazyLock::new(|| {
    // A test reads the file; it is part of the program.
    let file: Result<File, _> = toml::from_str(include_str!("brands.toml"));
    file.map(|file| file.brand).unwrap_or_default()
});

/// All brands; the last is the generic one.
pub fn brands() -> &'static [Brand] {
    &BRANDS
}

/// The brand with this id.
pub fn by_id(id: &str) -> Option<&'static Brand> {
    brands().iter().find(|brand| brand.id == id)
}

/// The brand that one of `texts` (manufacturer, model, name) belongs to.
pub fn by_name<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<&'static Brand> {
    texts.into_iter().find_map(|text| {
        let text = text.to_lowercase();
        let words = || text.split(|c: char| !c.is_alphanumeric() && c != '-');
        brands()
            .iter()
            .find(|brand| words().any(|word| brand.names.iter().any(|name| name == word)))
    })
}

/// What a stream's URL shows.
#[derive(Debug, Clone, Copy)]
pub struct Recognised {
    /// Whose pattern it is.
    pub brand: &'static Brand,
    /// Main or sub stream.
    pub role: StreamRole,
    /// Channel, from 1.
    pub channel: u16,
}

/// The brand, role and channel of a stream's URL, if it follows a known pattern.
pub fn recognise(url: &Url) -> Option<Recognised> {
    let text = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
    .to_lowercase();
    brands().iter().find_map(|brand| {
        brand.streams.iter().find_map(|pattern| {
            let channel = pattern.channel_of(&text)?;
            let role = pattern.role;
            Some(Recognised { brand, role, channel })
        })
    })
}

/// Channels that are looked for in a URL.
const MAX_CHANNEL: u16 = 256;

impl Pattern {
    fn path(&self, channel: u16) -> Option<String> {
        (channel >= 1 && self.channels.is_none_or(|last| channel <= last))
            .then(|| self.path.replace("{channel}", &channel.to_string()))
    }

    /// The channel of a path with query that follows the pattern; more parameters may follow.
    fn channel_of(&self, text: &str) -> Option<u16> {
        let last = if self.path.contains("{channel}") {
            MAX_CHANNEL
        } else {
            1
        };
        (1..=last).find(|channel| {
            let path = self.path(*channel).map(|path| path.to_lowercase());
            let rest = path.and_then(|path| text.strip_prefix(&*path).map(str::to_owned));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['?', '&', '/']))
        })
    }
}

impl Brand {
    /// The URLs that this brand has for a stream, the likeliest first. `base` names scheme, host and port.
    pub fn streams(&self, base: &Url, role: StreamRole, channel: u16) -> Vec<Url> {
        let patterns = self.streams.iter().filter(|pattern| pattern.role == role);
        patterns
            .filter_map(|pattern| {
                let path = pattern.path(channel)?;
                let (path, query) = match path.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (path.as_str(), None),
                };
                let mut url = base.clone();
                url.set_path(path);
                url.set_query(query);
                Some(url)
            })
            .collect()
    }

    /// Where a setting is in the brand's menu; `None` if that is not known.
    pub fn menu(&self, setting: Setting) -> Option<&Text> {
        match setting {
            Setting::Keyframe => self.menu.keyframe.as_ref(),
            Setting::SmartCodec => self.menu.smart_codec.as_ref(),
            Setting::Clock => self.menu.clock.as_ref(),
            Setting::Onvif => self.menu.onvif.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn first(id: &str, role: StreamRole, channel: u16) -> String {
        let base = url("rtsp://192.0.2.1:554");
        by_id(id).unwrap().streams(&base, role, channel)[0].to_string()
    }

    #[test]
    fn the_file_is_read_and_each_brand_names_its_sources() {
        let file: File = toml::from_str(include_str!("brands.toml")).unwrap();
        assert_eq!(file.brand.len(), brands().len());
        let ids: Vec<&str> = brands().iter().map(|b| b.id.as_str()).collect();
        assert_eq!(ids, ["hikvision", "dahua", "uniview", "tp-link", "generic"]);
        for brand in brands() {
            assert!(!brand.sources.is_empty(), "{}", brand.id);
            for pattern in &brand.streams {
                assert!(pattern.path.starts_with('/'), "{}", pattern.path);
            }
        }
    }

    #[test]
    fn streams_are_proposed_by_channel() {
        use StreamRole::{Main, Sub};
        assert_eq!(
            first("hikvision", Main, 1),
            "rtsp://192.0.2.1:554/Streaming/Channels/101"
        );
        assert_eq!(
            first("hikvision", Sub, 12),
            "rtsp://192.0.2.1:554/Streaming/Channels/1202"
        );
        assert_eq!(
            first("dahua", Sub, 3),
            "rtsp://192.0.2.1:554/cam/realmonitor?channel=3&subtype=1"
        );
        assert_eq!(first("uniview", Main, 1), "rtsp://192.0.2.1:554/media/video1");
        assert_eq!(first("uniview", Main, 2), "rtsp://192.0.2.1:554/unicast/c2/s0/live");
        assert_eq!(first("tp-link", Sub, 1), "rtsp://192.0.2.1:554/stream2");
        let generic = by_id("generic").unwrap();
        assert!(generic.streams(&url("rtsp://192.0.2.1"), Main, 1).is_empty());
    }

    #[test]
    fn brands_are_recognised_by_name_and_by_url() {
        let id = |texts: &[&str]| by_name(texts.iter().copied()).map(|b| b.id.as_str());
        assert_eq!(id(&["", "HIKVISION DS-2CD2T47"]), Some("hikvision"));
        assert_eq!(id(&["Zhejiang Dahua Technology"]), Some("dahua"));
        assert_eq!(id(&["UNV"]), Some("uniview"));
        assert_eq!(id(&["TP-Link"]), Some("tp-link"));
        assert_eq!(id(&["SunVision", "unvarnished"]), None);
        let of = |text: &str| recognise(&url(text)).map(|found| (found.brand.id.as_str(), found.role, found.channel));
        use StreamRole::{Main, Sub};
        assert_eq!(of("rtsp://c/Streaming/Channels/1602"), Some(("hikvision", Sub, 16)));
        assert_eq!(
            of("rtsp://c/streaming/channels/101/?transportmode=unicast"),
            Some(("hikvision", Main, 1))
        );
        assert_eq!(
            of("rtsp://c/cam/realmonitor?channel=2&subtype=0&unicast=true&proto=Onvif"),
            Some(("dahua", Main, 2))
        );
        assert_eq!(of("rtsp://c/stream1"), Some(("tp-link", Main, 1)));
        assert_eq!(of("rtsp://c/stream10"), None);
        assert_eq!(of("rtsp://c/live"), None);
    }
}
