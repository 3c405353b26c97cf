//! RTSP messages (RFC 2326, section 4 and following) and the headers they consist of.
//!
//! Reading is lenient: header names in any case, folded lines, bare LF, no reason phrase. It is strict where memory
//! is at stake: see [`Limits`]. The incremental parser is in [`parser`].

use std::fmt::Write;

use base64::Engine;

pub(crate) mod parser;

/// Bounds on what is accepted from a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest header line, in bytes. Digest challenges and `RTP-Info` stay far below 8 KiB.
    pub line: usize,
    /// Largest header block, in bytes; at most half of the read buffer.
    pub header_block: usize,
    /// Most header lines in one message.
    pub headers: usize,
    /// Largest message body, in bytes. Session descriptions of real cameras are below 8 KiB.
    pub body: usize,
    /// Most bytes skipped in a row to find the next frame or message. One interleaved frame that announced a wrong
    /// length costs up to 64 KiB.
    pub garbage: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line: 8 << 10,
            header_block: 32 << 10,
            headers: 64,
            body: 256 << 10,
            garbage: 128 << 10,
        }
    }
}

/// Header lines in the order received, names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of `name`, which is in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Every value of `name`, which is in lower case.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads a header line without its line end. A line without a colon is skipped: it matters to no other player.
    fn push_line(&mut self, line: &[u8]) {
        if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            if let Some((_, value)) = self.0.last_mut() {
                value.push(' ');
                value.push_str(text(line).trim());
            }
            return;
        }
        let line = text(line);
        if let Some((name, value)) = line.split_once(':') {
            self.0.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

/// `bytes` as text: UTF-8 or, where it is not, ISO 8859-1. Control characters become spaces, so that a value which is
/// sent back cannot end a line.
pub(crate) fn text(bytes: &[u8]) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    match std::str::from_utf8(bytes) {
        Ok(utf8) => utf8.chars().map(clean).collect(),
        Err(_) => bytes.iter().map(|&b| clean(char::from(b))).collect(),
    }
}

/// The protocol of a status line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Rtsp,
    /// From the HTTP tunnel, or from a web server on the configured port.
    Http,
}

/// A response. An HTTP response has no body: what follows its headers is the tunnelled stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) protocol: Protocol,
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

/// A request of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerRequest {
    pub(crate) method: String,
    pub(crate) headers: Headers,
}

/// The number at the start of `text`, after spaces; saturates. `None` without a digit.
pub(crate) fn leading_number(text: &str) -> Option<u64> {
    let digits = text.trim_start().bytes().take_while(u8::is_ascii_digit);
    digits.fold(None, |n, d| {
        Some(
            n.unwrap_or(0_u64)
                .saturating_mul(10)
                .saturating_add(u64::from(d - b'0')),
        )
    })
}

/// The parameter `name` of a header value such as `RTP/AVP;unicast;interleaved=0-1`, in any case and with any spaces;
/// the empty string if it has no value.
pub(crate) fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value.split(';').find_map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let is_it = key.trim().eq_ignore_ascii_case(name);
        is_it.then(|| value.trim().trim_matches('"').trim())
    })
}

/// A request as it goes over the wire. No request of this client has a body.
pub(crate) fn write_request(method: &str, uri: &str, headers: &[(&str, String)]) -> Vec<u8> {
    write_message(&format!("{method} {uri} RTSP/1.0"), headers)
}

/// A response without a body.
pub(crate) fn write_response(status: u16, reason: &str, headers: &[(&str, String)]) -> Vec<u8> {
    write_message(&format!("RTSP/1.0 {status} {reason}"), headers)
}

pub(crate) fn write_message(first_line: &str, headers: &[(&str, String)]) -> Vec<u8> {
    let mut text = String::with_capacity(256);
    // Writing to a String cannot fail.
    let _ = write!(text, "{first_line}\r\n");
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// An interleaved frame (RFC 2326, 10.12); `None` if `payload` does not fit one.
pub(crate) fn write_frame(channel: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let [high, low] = u16::try_from(payload.len()).ok()?.to_be_bytes();
    Some([&[b'$', channel, high, low], payload].concat())
}

/// Base64 with padding (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_in_any_case_with_spaces_and_folds() {
        let mut headers = Headers::default();
        for line in [
            &b"CSEQ : 7 "[..],
            b"no colon",
            b"Transport:RTP/AVP/TCP;",
            b"\tinterleaved = 4 - 5",
            b"X: \xe9\x01!",
        ] {
            headers.push_line(line);
        }
        assert_eq!(headers.get("cseq"), Some("7"));
        assert_eq!(headers.get("transport"), Some("RTP/AVP/TCP; interleaved = 4 - 5"));
        assert_eq!(headers.get("x"), Some("é !"));
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn parameters_and_numbers_are_read_leniently() {
        assert_eq!(parameter("4711 ; Timeout = 60", "timeout"), Some("60"));
        assert_eq!(parameter("RTP/AVP;unicast", "unicast"), Some(""));
        assert_eq!(parameter("RTP/AVP", "interleaved"), None);
        assert_eq!(leading_number(" 60s"), Some(60));
        assert_eq!(leading_number("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(leading_number("-1"), None);
    }

    #[test]
    fn a_frame_has_channel_and_length() {
        assert_eq!(write_frame(3, &[1, 2]).unwrap(), [b'$', 3, 0, 2, 1, 2]);
        assert_eq!(write_frame(3, &vec![0; 65_536]), None);
    }
}
