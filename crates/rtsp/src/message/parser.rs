//! Splits the bytes of a connection into interleaved frames, responses and requests of the server.
//!
//! [`Parser::next`] looks at the unread bytes and says how many to drop. It copies nothing but headers and bodies; the
//! payload of a frame stays in the read buffer. Its state is a few numbers, so a byte at a time costs no repeated scan.

use std::ops::Range;

use memchr::memchr;

use super::{Headers, Limits, Protocol, Response, ServerRequest, leading_number, text};

/// Longest method or protocol name that may begin a message.
const MAX_TOKEN: usize = 32;
/// Body capacity reserved at once; a larger body grows as it arrives.
const BODY_RESERVE: usize = 4 << 10;

/// What [`Parser::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// More bytes are needed.
    Incomplete,
    /// The payload of an interleaved frame, as a range of the input.
    Frame {
        channel: u8,
        payload: Range<usize>,
    },
    Response(Response),
    Request(ServerRequest),
}

/// Why the connection cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParseError {
    Limit { what: &'static str, limit: usize },
    Garbage { limit: usize },
}

#[derive(Debug)]
enum State {
    /// Between frames and messages.
    Start,
    /// Bytes that belong to nothing are skipped up to the next plausible start; with `refused`, the start at hand was
    /// just refused.
    Resync { refused: bool },
    /// In a header block. `line` is where the current line starts, `scanned` how far there is no line end, `lines` the
    /// header lines before it.
    Headers { line: usize, scanned: usize, lines: usize },
    /// In an interleaved frame, after its header.
    Frame { channel: u8, len: usize },
    /// In a body.
    Body {
        head: Head,
        headers: Headers,
        body: Vec<u8>,
        len: usize,
    },
}

/// The first line of a message.
#[derive(Debug, Clone)]
enum Head {
    Status { protocol: Protocol, status: u16 },
    Request { method: String },
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Parser {
    limits: Limits,
    state: State,
    /// Bytes skipped since the last frame or message.
    skipped: usize,
    /// Bytes skipped in total.
    garbage: u64,
    /// Channels on which a frame is believed while resynchronising.
    channels: Option<(u8, u8)>,
}

impl Parser {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Start,
            skipped: 0,
            garbage: 0,
            channels: None,
        }
    }

    /// After garbage, a frame is believed only on these channels.
    pub(crate) fn set_channels(&mut self, rtp: u8, rtcp: u8) {
        self.channels = Some((rtp, rtcp));
    }

    /// Bytes that belonged to no frame or message.
    pub(crate) fn garbage(&self) -> u64 {
        self.garbage
    }

    /// Bytes of the body that arrived and bytes announced, while a body is incomplete.
    pub(crate) fn partial_body(&self) -> Option<(usize, usize)> {
        match &self.state {
            State::Body { body, len, .. } => Some((body.len(), *len)),
            _ => None,
        }
    }

    /// Reads the next item of `input`, the bytes not dropped so far, and says how many bytes to drop from its front
    /// after the item was used. Until [`Item::Incomplete`] there may be more.
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<(usize, Item), ParseError> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match &mut self.state {
                State::Start | State::Resync { .. } => match self.begin(rest)? {
                    (used, true) => at += used,
                    (used, false) => return Ok((at + used, Item::Incomplete)),
                },
                State::Frame { channel, len } => {
                    let (channel, len) = (*channel, *len);
                    if rest.len() < len {
                        return Ok((at, Item::Incomplete));
                    }
                    self.restart();
                    let payload = at..at + len;
                    return Ok((at + len, Item::Frame { channel, payload }));
                }
                State::Headers { .. } => match self.headers(rest)? {
                    None if matches!(self.state, State::Resync { .. }) => {}
                    None => return Ok((at, Item::Incomplete)),
                    Some((used, None)) => at += used,
                    Some((used, Some(item))) => {
                        self.restart();
                        return Ok((at + used, item));
                    }
                },
                State::Body { body, len, .. } => {
                    let take = (*len - body.len()).min(rest.len());
                    body.extend_from_slice(&rest[..take]);
                    at += take;
                    if body.len() < *len {
                        return Ok((at, Item::Incomplete));
                    }
                    if let State::Body {
                        head, headers, body, ..
                    } = std::mem::replace(&mut self.state, State::Start)
                    {
                        self.restart();
                        return Ok((at, head.into_item(headers, body)));
                    }
                }
            }
        }
    }

    /// Between frames and messages: how many bytes to drop, and whether to go on with the rest.
    fn begin(&mut self, input: &[u8]) -> Result<(usize, bool), ParseError> {
        if let State::Resync { refused } = &mut self.state {
            let first = usize::from(*refused && !input.is_empty());
            *refused = *refused && input.is_empty();
            let (skip, found) = self.resync(input, first);
            self.garbage = self.garbage.saturating_add(skip as u64);
            self.skip(skip)?;
            if found {
                self.state = State::Start;
            }
            return Ok((skip, found));
        }
        match start(input) {
            Start::Skip(blank) => {
                self.skip(blank)?;
                return Ok((blank, true));
            }
            Start::Incomplete => return Ok((0, false)),
            Start::Frame { channel, len } => {
                self.state = State::Frame { channel, len };
                return Ok((4, true));
            }
            Start::Message => {
                self.state = State::Headers {
                    line: 0,
                    scanned: 0,
                    lines: 0,
                }
            }
            Start::Garbage => self.state = State::Resync { refused: true },
        }
        Ok((0, true))
    }

    fn restart(&mut self) {
        self.state = State::Start;
        self.skipped = 0;
    }

    fn skip(&mut self, bytes: usize) -> Result<(), ParseError> {
        self.skipped = self.skipped.saturating_add(bytes);
        if self.skipped > self.limits.garbage {
            return Err(ParseError::Garbage {
                limit: self.limits.garbage,
            });
        }
        Ok(())
    }

    /// How many bytes to skip, at least `first`, and whether a plausible start follows them. Otherwise more bytes are
    /// needed.
    fn resync(&self, input: &[u8], first: usize) -> (usize, bool) {
        for (i, &byte) in input.iter().enumerate().skip(first) {
            let rest = &input[i..];
            let plausible = match byte {
                b'$' => self.is_plausible_frame(rest),
                b'R' => starts_with(rest, b"RTSP/1."),
                _ => Some(false),
            };
            match plausible {
                Some(true) => return (i, true),
                Some(false) => {}
                None => return (i, false),
            }
        }
        (input.len(), false)
    }

    /// Whether `input` begins with a frame on an assigned channel whose payload is RTP or RTCP version 2; `None` if
    /// more bytes are needed.
    fn is_plausible_frame(&self, input: &[u8]) -> Option<bool> {
        let channel = *input.get(1)?;
        let (rtp, rtcp) = self.channels.unwrap_or((0, 1));
        if channel != rtp && channel != rtcp {
            return Some(false);
        }
        let [high, low] = [*input.get(2)?, *input.get(3)?];
        if u16::from_be_bytes([high, low]) < 8 {
            return Some(false);
        }
        Some(*input.get(4)? >> 6 == 2)
    }

    /// Reads header lines. `None`: more bytes are needed, or, with the state set to [`State::Resync`], the first line
    /// begins no message. Otherwise the bytes used and the message, if it has no body.
    fn headers(&mut self, input: &[u8]) -> Result<Option<(usize, Option<Item>)>, ParseError> {
        let State::Headers { line, scanned, lines } = &mut self.state else {
            return Ok(None);
        };
        loop {
            let end = memchr(b'\n', &input[*scanned..]).map(|n| *scanned + n);
            let (upto, limits) = (end.unwrap_or(input.len()), self.limits);
            if *lines == 0 && input[*scanned..upto].iter().any(|&b| is_binary(b)) {
                self.state = State::Resync { refused: true };
                return Ok(None);
            }
            check("a header line", upto - *line, limits.line)?;
            check("a header block", upto, limits.header_block)?;
            let Some(end) = end else {
                *scanned = input.len();
                return Ok(None);
            };
            if *lines == 0 && Head::parse(&input[..end]).is_none() {
                self.state = State::Resync { refused: true };
                return Ok(None);
            }
            let is_last = input[*line..end].trim_ascii().is_empty();
            (*line, *scanned) = (end + 1, end + 1);
            if is_last {
                return self.message(&input[..=end]).map(Some);
            }
            *lines += 1;
            check("a number of header lines", *lines - 1, limits.headers)?;
        }
    }

    /// Reads the complete header block `block`.
    fn message(&mut self, block: &[u8]) -> Result<(usize, Option<Item>), ParseError> {
        let mut lines = block.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end);
        let head = lines.next().and_then(Head::parse);
        let mut headers = Headers::default();
        lines.filter(|l| !l.is_empty()).for_each(|l| headers.push_line(l));
        let Some(head) = head else {
            // `headers` checked the first line.
            return Ok((block.len(), None));
        };
        let is_http = matches!(
            head,
            Head::Status {
                protocol: Protocol::Http,
                ..
            }
        );
        let len = headers.get("content-length").and_then(leading_number).unwrap_or(0);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if is_http || len == 0 {
            return Ok((block.len(), Some(head.into_item(headers, Vec::new()))));
        }
        check("a message body", len, self.limits.body)?;
        let body = Vec::with_capacity(len.min(BODY_RESERVE));
        self.state = State::Body {
            head,
            headers,
            body,
            len,
        };
        Ok((block.len(), None))
    }
}

fn check(what: &'static str, len: usize, limit: usize) -> Result<(), ParseError> {
    if len > limit {
        return Err(ParseError::Limit { what, limit });
    }
    Ok(())
}

/// What the bytes between frames and messages begin with.
enum Start {
    /// Line ends or spaces.
    Skip(usize),
    Incomplete,
    Frame {
        channel: u8,
        len: usize,
    },
    /// Perhaps a message; its first line decides.
    Message,
    Garbage,
}

fn start(input: &[u8]) -> Start {
    match input {
        [] => Start::Incomplete,
        [b'$', channel, high, low, ..] => Start::Frame {
            channel: *channel,
            len: usize::from(u16::from_be_bytes([*high, *low])),
        },
        [b'$', ..] => Start::Incomplete,
        [b'\r' | b'\n' | b' ' | b'\t' | 0, ..] => {
            let blank = input
                .iter()
                .take_while(|b| matches!(b, b'\r' | b'\n' | b' ' | b'\t' | 0));
            Start::Skip(blank.count())
        }
        [b, ..] if b.is_ascii_alphabetic() => {
            let token = |b: &&u8| b.is_ascii_alphanumeric() || matches!(**b, b'_' | b'-' | b'/' | b'.');
            let len = input.iter().take_while(token).count();
            match input.get(len) {
                _ if len > MAX_TOKEN => Start::Garbage,
                None => Start::Incomplete,
                Some(b' ' | b'\t') => Start::Message,
                Some(_) => Start::Garbage,
            }
        }
        _ => Start::Garbage,
    }
}

impl Head {
    /// Reads `RTSP/1.0 200 OK`, `HTTP/1.1 200`, or `OPTIONS rtsp://host/ RTSP/1.0`.
    fn parse(line: &[u8]) -> Option<Self> {
        let line = text(line);
        let mut words = line.split_ascii_whitespace();
        let first = words.next()?;
        let protocol = |word: &str| {
            let is = |name: &str| word.get(..name.len()).is_some_and(|w| w.eq_ignore_ascii_case(name));
            let rtsp = is("RTSP/").then_some(Protocol::Rtsp);
            rtsp.or_else(|| is("HTTP/").then_some(Protocol::Http))
        };
        if let Some(protocol) = protocol(first) {
            let status = leading_number(words.next()?)?;
            let status = u16::try_from(status).ok().filter(|s| (100..1000).contains(s))?;
            return Some(Self::Status { protocol, status });
        }
        let _uri = words.next()?;
        (protocol(words.next()?)? == Protocol::Rtsp).then(|| Self::Request {
            method: first.to_ascii_uppercase(),
        })
    }

    fn into_item(self, headers: Headers, body: Vec<u8>) -> Item {
        match self {
            Self::Status { protocol, status } => Item::Response(Response {
                protocol,
                status,
                headers,
                body,
            }),
            Self::Request { method } => Item::Request(ServerRequest { method, headers }),
        }
    }
}

/// Bytes that no first line of a message contains.
fn is_binary(byte: u8) -> bool {
    byte < b' ' && !matches!(byte, b'\r' | b'\t')
}

/// Whether `input` begins with `prefix`; `None` if more bytes are needed.
fn starts_with(input: &[u8], prefix: &[u8]) -> Option<bool> {
    let n = input.len().min(prefix.len());
    if input[..n] != prefix[..n] {
        return Some(false);
    }
    (n == prefix.len()).then_some(true)
}

#[cfg(test)]
mod tests;
