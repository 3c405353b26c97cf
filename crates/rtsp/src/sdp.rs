//! The session description (RFC 8866; the older RFC 4566 and 2327 read alike), as far as a video stream needs it.
//!
//! Read line by line in any encoding: only `m=` and the attributes `control`, `rtpmap` and `fmtp` matter. What else is
//! wrong or missing, such as the origin, times or addresses, is not looked at.

use crate::{
    message::{leading_number, text},
    video::{VideoCodec, VideoFormat},
};

/// Media sections read. Cameras offer two or three.
const MAX_MEDIA: usize = 32;
/// Payload types, rtpmap and fmtp lines kept of a media section.
const MAX_FORMATS: usize = 32;
/// Offers named in an error, and characters kept of each.
const MAX_OFFERS: usize = 8;
const MAX_OFFER_TEXT: usize = 40;
/// Longest URL and longest format parameters kept. Parameter sets of real cameras take some hundred bytes.
pub(crate) const MAX_URL: usize = 2 << 10;
const MAX_PARAMETERS: usize = 16 << 10;
/// RTP clock of every video format (RFC 6184, 7798, 2435), used where the description has no number.
const VIDEO_CLOCK_RATE: u32 = 90_000;
/// Static payload type of JPEG (RFC 3551, table 5).
const PAYLOAD_TYPE_JPEG: u8 = 26;

/// The video stream that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    /// The session's control URL; `None` if missing, empty or `*`.
    pub(crate) control: Option<String>,
    /// The stream's control URL; `None` if missing, empty or `*`.
    pub(crate) video_control: Option<String>,
    pub(crate) format: VideoFormat,
}

/// Why a description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SdpError {
    /// It contains no line of a session description.
    NotSdp,
    /// It offers no video that can be received, but this.
    NoVideo { offers: String },
}

#[derive(Debug, Default)]
struct Media {
    kind: String,
    protocol: String,
    payload_types: Vec<u8>,
    /// Payload type, encoding and clock rate.
    maps: Vec<(u8, String, u32)>,
    parameters: Vec<(u8, String)>,
    control: Option<String>,
    /// `x-dimensions=W,H` and `framesize=W-H`, for JPEG pictures above 2,040 pixels, whose size RFC 2435 cannot carry.
    dimensions: Vec<String>,
}

/// Reads `body` and chooses its first video stream that can be received.
pub(crate) fn parse(body: &[u8]) -> Result<Description, SdpError> {
    let (control, media, is_sdp) = read(body);
    for one in &media {
        if let Some(format) = one.video_format() {
            return Ok(Description {
                control,
                video_control: one.control.clone(),
                format,
            });
        }
    }
    if !is_sdp {
        return Err(SdpError::NotSdp);
    }
    let mut offers: Vec<_> = media.iter().flat_map(Media::offers).take(MAX_OFFERS).collect();
    if offers.is_empty() {
        offers.push("nothing".into());
    }
    Err(SdpError::NoVideo {
        offers: offers.join(", "),
    })
}

/// The session's control URL, the media sections, and whether there was any line of a description.
fn read(body: &[u8]) -> (Option<String>, Vec<Media>, bool) {
    let (mut control, mut media, mut is_sdp) = (None, Vec::<Media>::new(), false);
    for line in body.split(|b| matches!(b, b'\n' | b'\r' | 0)) {
        let line = text(line);
        let Some((kind, value)) = line.trim_start_matches('\u{feff}').split_once('=') else {
            continue;
        };
        let value = value.trim();
        match kind.trim() {
            "m" | "M" if media.len() == MAX_MEDIA => break,
            "m" | "M" => {
                is_sdp = true;
                media.push(Media::parse(value));
            }
            "a" | "A" => {
                let (name, value) = value.split_once(':').unwrap_or((value, ""));
                let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
                match media.last_mut() {
                    Some(media) => media.attribute(&name, value),
                    None if name == "control" => control = usable_control(value).or(control),
                    None => {}
                }
            }
            "v" | "o" | "s" | "t" => is_sdp = true,
            _ => {}
        }
    }
    (control, media, is_sdp)
}

fn usable_control(value: &str) -> Option<String> {
    (!value.is_empty() && value != "*" && value.len() <= MAX_URL).then(|| value.to_owned())
}

impl Media {
    /// Reads `video 0 RTP/AVP 96 97`.
    fn parse(line: &str) -> Self {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next().unwrap_or_default().to_ascii_lowercase();
        let _port = words.next();
        let protocol = words.next().unwrap_or_default().to_ascii_uppercase();
        let payload_types = words.filter_map(payload_type).take(MAX_FORMATS).collect();
        Self {
            kind,
            protocol,
            payload_types,
            ..Self::default()
        }
    }

    fn attribute(&mut self, name: &str, value: &str) {
        if name == "control" {
            self.control = usable_control(value).or(self.control.take());
            return;
        }
        if name == "x-dimensions" && self.dimensions.len() < MAX_FORMATS {
            self.dimensions.push(format!("x-dimensions={value}"));
            return;
        }
        let (number, rest) = value.split_once(|c: char| c.is_whitespace()).unwrap_or((value, ""));
        let Some(payload_type) = payload_type(number) else {
            return;
        };
        match name {
            "rtpmap" if self.maps.len() < MAX_FORMATS => {
                let mut parts = rest.trim().split('/').map(str::trim);
                let encoding = parts.next().unwrap_or_default().to_ascii_uppercase();
                let rate = parts.next().and_then(leading_number).unwrap_or(0);
                let rate = u32::try_from(rate).ok().filter(|&r| r > 0).unwrap_or(VIDEO_CLOCK_RATE);
                self.maps.push((payload_type, encoding, rate));
            }
            "fmtp" if self.parameters.len() < MAX_FORMATS => {
                self.parameters.push((payload_type, rest.trim().to_owned()));
            }
            "framesize" if self.dimensions.len() < MAX_FORMATS => {
                self.dimensions.push(format!("framesize={}", rest.trim()));
            }
            _ => {}
        }
    }

    /// The first payload type that can be received.
    fn video_format(&self) -> Option<VideoFormat> {
        // SRTP packets are encrypted.
        if self.kind != "video" || self.protocol.contains("SAVP") {
            return None;
        }
        let of_list = self.payload_types.iter().find_map(|&pt| self.format_of(pt));
        // A description whose numbers do not fit each other still names the encoding.
        of_list.or_else(|| {
            let unlisted = self.maps.iter().find_map(|(pt, ..)| self.format_of(*pt))?;
            let payload_type = match self.payload_types[..] {
                [only] if self.maps.len() == 1 => only,
                _ => unlisted.payload_type,
            };
            Some(VideoFormat {
                payload_type,
                ..unlisted
            })
        })
    }

    fn format_of(&self, payload_type: u8) -> Option<VideoFormat> {
        let map = self.maps.iter().find(|(pt, ..)| *pt == payload_type);
        let parameters = self.parameters.iter().filter(|(pt, _)| *pt == payload_type);
        let parameters = parameters.map(|(_, p)| p.as_str());
        let fmtp = parameters.clone().collect::<Vec<_>>().join(";");
        let codec = match map {
            Some((_, encoding, _)) => match encoding.as_str() {
                "H264" | "H.264" | "AVC" => VideoCodec::H264,
                "H265" | "H.265" | "HEVC" => VideoCodec::H265,
                "JPEG" | "MJPEG" => VideoCodec::Jpeg,
                _ => return None,
            },
            None if payload_type == PAYLOAD_TYPE_JPEG => VideoCodec::Jpeg,
            None if fmtp.contains("sprop-parameter-sets") || fmtp.contains("packetization-mode") => VideoCodec::H264,
            None if fmtp.contains("sprop-vps") || fmtp.contains("sprop-sps") => VideoCodec::H265,
            None => return None,
        };
        let mut fmtp = match codec {
            VideoCodec::Jpeg => parameters
                .chain(self.dimensions.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join(";"),
            _ => fmtp,
        };
        if fmtp.len() > MAX_PARAMETERS {
            fmtp.clear();
        }
        Some(VideoFormat {
            codec,
            payload_type,
            clock_rate: map.map_or(VIDEO_CLOCK_RATE, |(_, _, rate)| *rate),
            fmtp,
        })
    }

    /// Each encoding of the section, for an error.
    fn offers(&self) -> Vec<String> {
        let short = |text: String| text.chars().take(MAX_OFFER_TEXT).collect::<String>();
        let is_secure = self.protocol.contains("SAVP");
        let protocol = if is_secure { " (SRTP)" } else { "" };
        let mut offers: Vec<_> = self
            .maps
            .iter()
            .map(|(_, encoding, _)| short(format!("{} {encoding}{protocol}", self.kind)))
            .collect();
        if offers.is_empty() {
            let number = self.payload_types.first();
            let number = number.map_or(String::new(), |n| format!(" payload type {n}"));
            offers.push(short(format!("{}{number}{protocol}", self.kind)));
        }
        offers
    }
}

/// An RTP payload type: 0 to 127.
fn payload_type(text: &str) -> Option<u8> {
    let number = leading_number(text)?;
    u8::try_from(number).ok().filter(|n| *n < 128)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn video(body: &str) -> VideoFormat {
        parse(body.as_bytes()).unwrap().format
    }

    fn offers(body: &str) -> String {
        match parse(body.as_bytes()) {
            Err(SdpError::NoVideo { offers }) => offers,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_video_stream_that_can_be_received_is_taken() {
        let body = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=\r\na=control:*\r\nm=audio 0 RTP/AVP 0\r\na=control:track0\r\n\
            m=video 0 RTP/AVP 98 96\r\na=rtpmap:98 VP9/90000\r\na=rtpmap:96 h264/90000\r\n\
            a=fmtp:96 packetization-mode=1\r\na=fmtp:96 sprop-parameter-sets=Zw==,aA==\r\na=control:track1\r\n\
            m=video 0 RTP/AVP 97\r\na=rtpmap:97 H265/90000\r\na=control:track2";
        let description = parse(body.as_bytes()).unwrap();
        assert_eq!(description.control, None);
        assert_eq!(description.video_control.as_deref(), Some("track1"));
        let expected = VideoFormat {
            codec: VideoCodec::H264,
            payload_type: 96,
            clock_rate: 90_000,
            fmtp: "packetization-mode=1;sprop-parameter-sets=Zw==,aA==".into(),
        };
        assert_eq!(description.format, expected);
    }

    #[test]
    fn only_media_and_their_attributes_matter() {
        let body = b"o=\xff\xfe broken\nt=never\nb=AS:x\n  m = video 99999999 RTP/AVP 96\n\
            \xe9=x\na = rtpmap: 96  H265 / abc\n\
            a=control:rtsp://c/x?a=b\na=rtpmap:999999999999 H264/1\na=";
        let description = parse(body).unwrap();
        assert_eq!(description.format.codec, VideoCodec::H265);
        assert_eq!(description.format.clock_rate, 90_000);
        assert_eq!(description.video_control.as_deref(), Some("rtsp://c/x?a=b"));
    }

    #[test]
    fn missing_and_mismatched_numbers_are_put_right() {
        assert_eq!(video("m=video 0 RTP/AVP 26").codec, VideoCodec::Jpeg);
        let large = video("m=video 0 RTP/AVP 26\na=fmtp:26 x\na=x-dimensions:2560, 1440\na=framesize:26 2560-1440");
        assert_eq!(large.fmtp, "x;x-dimensions=2560, 1440;framesize=2560-1440");
        let guessed = video("m=video 0 RTP/AVP 96\na=fmtp:96 sprop-parameter-sets=Zw==");
        assert_eq!(guessed.codec, VideoCodec::H264);
        let guessed = video("m=video 0 RTP/AVP 96\na=fmtp:96 sprop-vps=QA==;sprop-sps=Qg==");
        assert_eq!(guessed.codec, VideoCodec::H265);
        let other = video("m=video 0 RTP/AVP 96\na=rtpmap:97 H264/90000");
        assert_eq!((other.codec, other.payload_type), (VideoCodec::H264, 96));
        let none = video("m=video 0 RTP/AVP\na=rtpmap:97 H264/0");
        assert_eq!((none.clock_rate, none.payload_type), (90_000, 97));
    }

    #[test]
    fn without_usable_video_the_offers_are_listed() {
        let body = "v=0\nm=audio 0 RTP/AVP 8\na=rtpmap:8 PCMA/8000\nm=video 0 RTP/AVP 96\na=rtpmap:96 MP4V-ES/90000\n\
            m=application 0 RTP/AVP 107\nm=video 0 RTP/SAVP 98\na=rtpmap:98 H264/90000";
        let expected = "audio PCMA, video MP4V-ES, application payload type 107, video H264 (SRTP)";
        assert_eq!(offers(body), expected);
        assert_eq!(offers("v=0\ns=-"), "nothing");
        assert_eq!(parse(b"<html><body a=b>"), Err(SdpError::NotSdp));
        assert_eq!(parse(b""), Err(SdpError::NotSdp));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_bytes_are_read(lines in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..20),
                Just(b"m=video 0 RTP/AVP 96 26".to_vec()),
                Just(b"a=rtpmap:96 H264/90000".to_vec()),
                Just(b"a=fmtp:96 x".to_vec()),
            ], 0..12)
        ) {
            let _ = parse(&lines.join(&b'\n'));
        }
    }
}
