//! The byte stream to the broker: TCP, TLS if configured, and a reader that cuts messages that are too large.
//!
//! The MQTT clients end the connection over a message that exceeds their limit, and the broker sends it again on every connection: one
//! retained message would lock the client out for good. MQTT 5 lets the client announce a limit, but mosquitto 2.0.11 counts the messages that it
//! drops for it as unacknowledged for ever, so that sixteen of them stop all others; MQTT 3.1.1 has no such limit. So no limit is announced,
//! and a message over [`ConnectOptions::max_incoming`] arrives with its topic and without its payload, which is skipped as it is received. It
//! is then rejected and acknowledged like any other invalid message. Packets of other kinds that are too large end the connection.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use metrics::counter;
use rumqttc::{
    NetworkOptions,
    tokio_rustls::{
        TlsConnector,
        rustls::{ClientConfig, pki_types::ServerName},
    },
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::warn;

use crate::{ConnectOptions, Protocol, TlsClientConfig};
use gridwatch_base::{log_limit::LogLimit, metric};

/// Packet type of PUBLISH, in the upper half of a packet's first byte (MQTT 5, 2.1.2; MQTT 3.1.1, 2.2.1).
const PUBLISH: u8 = 3;

/// Bytes of a topic that are logged.
const SHOWN_TOPIC: usize = 200;

/// Bytes that are read from the connection at a time.
const CHUNK: usize = 8 * 1024;

/// A stream of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// What is connected to, and how its packets are read.
#[derive(Clone)]
pub(crate) struct Target {
    host: String,
    tls: Option<Arc<ClientConfig>>,
    protocol: Protocol,
    max_incoming: usize,
}

impl Target {
    pub(crate) fn new(options: &ConnectOptions) -> Self {
        Self {
            host: options.host.clone(),
            tls: options.tls.as_ref().map(TlsClientConfig::configuration),
            protocol: options.protocol,
            max_incoming: options.max_incoming,
        }
    }
}

/// Connects to `address` (`host:port`) as `network` says.
///
/// # Errors
/// The I/O error; a TLS error is wrapped in one.
pub(crate) async fn connect(
    address: String,
    network: NetworkOptions,
    target: Target,
) -> io::Result<LimitedStream<Box<dyn Stream>>> {
    let tcp = rumqttc::default_socket_connect(address, network).await?;
    let stream: Box<dyn Stream> = match target.tls {
        None => Box::new(tcp),
        Some(config) => {
            let name = ServerName::try_from(target.host).map_err(io::Error::other)?;
            Box::new(TlsConnector::from(config).connect(name, tcp).await?)
        }
    };
    Ok(LimitedStream {
        inner: stream,
        cutter: MessageCutter::new(target.protocol, target.max_incoming),
        received: Box::new([0; CHUNK]),
    })
}

/// A stream of MQTT packets in which messages that are too large have lost their payload.
pub(crate) struct LimitedStream<S> {
    inner: S,
    cutter: MessageCutter,
    received: Box<[u8; CHUNK]>,
}

impl<S: AsyncRead + Unpin> AsyncRead for LimitedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.cutter.read(out) {
                return Poll::Ready(Ok(()));
            }
            let mut received = ReadBuf::new(&mut this.received[..]);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut received))?;
            if received.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !this.cutter.write(received.filled()) {
                let limit = this.cutter.limit;
                let what = format!("the broker sent a packet over {limit} bytes that is no message");
                return Poll::Ready(Err(io::Error::other(what)));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LimitedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// What the next byte belongs to.
#[derive(Debug)]
enum Position {
    /// A packet's first byte and length.
    Header,
    /// The rest of a packet that is passed on, so many bytes.
    Body(usize),
    /// Topic and packet id of a message that is too large, which has so many bytes after its header.
    Topic(usize),
    /// The rest of a message that is too large, so many bytes.
    Skipped(usize),
    /// Within a packet that cannot be received.
    Unusable,
}

/// Cuts messages that are too large to their topics.
#[derive(Debug)]
struct MessageCutter {
    protocol: Protocol,
    /// Largest packet that is passed on whole, in bytes.
    limit: usize,
    position: Position,
    /// The bytes of the current position that are not decided yet.
    head: Vec<u8>,
    /// Length of the header in `head`, while in a topic.
    header: usize,
    /// A broker, and with MQTT 3.1.1 any client of it, could fill the log.
    log_limit: LogLimit,
    /// To be passed on, from `passed`.
    output: Vec<u8>,
    passed: usize,
}

impl MessageCutter {
    fn new(protocol: Protocol, limit: usize) -> Self {
        Self {
            protocol,
            limit,
            position: Position::Header,
            head: Vec::new(),
            header: 0,
            log_limit: LogLimit::default(),
            output: Vec::new(),
            passed: 0,
        }
    }

    /// Passes on what is there; false if there is nothing.
    fn read(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let ready = &self.output[self.passed..];
        if ready.is_empty() {
            return false;
        }
        let count = ready.len().min(out.remaining());
        out.put_slice(&ready[..count]);
        self.passed += count;
        if self.passed == self.output.len() {
            (self.passed, self.output) = (0, Vec::with_capacity(CHUNK));
        }
        true
    }

    /// Takes bytes from the connection; false if the connection must end.
    fn write(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.position {
                Position::Header => {
                    self.head.push(*first);
                    bytes = rest;
                    self.end_header();
                }
                Position::Topic(_) => {
                    self.head.push(*first);
                    bytes = rest;
                    self.end_topic();
                }
                Position::Body(left) => {
                    let count = bytes.len().min(*left);
                    self.output.extend_from_slice(&bytes[..count]);
                    bytes = &bytes[count..];
                    *left -= count;
                    if *left == 0 {
                        self.position = Position::Header;
                    }
                }
                Position::Skipped(left) => {
                    let count = bytes.len().min(*left);
                    bytes = &bytes[count..];
                    *left -= count;
                    if *left == 0 {
                        self.position = Position::Header;
                    }
                }
                Position::Unusable => return false,
            }
        }
        !matches!(self.position, Position::Unusable)
    }

    /// Decides about a packet once its length is known (MQTT 5, 1.5.5; MQTT 3.1.1, 2.2.3).
    fn end_header(&mut self) {
        let [first, length @ ..] = &self.head[..] else { return };
        let Some(last) = length.last() else { return };
        if last & 0x80 != 0 {
            if length.len() == 4 {
                self.position = Position::Unusable;
            }
            return;
        }
        let digits = length.iter().rev();
        let length = digits.fold(0, |value, digit| value << 7 | usize::from(digit & 0x7f));
        if self.head.len() + length > self.limit {
            self.header = self.head.len();
            self.position = match first >> 4 {
                PUBLISH => Position::Topic(length),
                _ => Position::Unusable,
            };
        } else if length == 0 {
            self.pass_on(Position::Header);
        } else {
            self.pass_on(Position::Body(length));
        }
    }

    /// Passes on the message without its payload once its topic and packet id are known (MQTT 5, 3.3; MQTT 3.1.1, 3.3).
    fn end_topic(&mut self) {
        let Position::Topic(length) = self.position else { return };
        let [high, low, topic @ ..] = &self.head[self.header..] else {
            return;
        };
        let has_packet_id = self.head[0] & 0b110 != 0;
        let topic_length = usize::from(u16::from_be_bytes([*high, *low]));
        let kept = 2 + topic_length + if has_packet_id { 2 } else { 0 };
        if self.head.len() - self.header < kept {
            return;
        }
        let topic = &topic[..topic_length.min(SHOWN_TOPIC)];
        counter!(metric::MESSAGES_OVERSIZED).increment(1);
        if let Some(suppressed) = self.log_limit.admit(Instant::now()) {
            // Debug-formatted: escapes control characters, so that a sender cannot forge log lines.
            warn!(
                topic = ?String::from_utf8_lossy(topic),
                bytes = length,
                limit = self.limit,
                suppressed,
                "Skipped a message that is too large; limit the packet size at the broker"
            );
        }
        let properties: &[u8] = match self.protocol {
            Protocol::V5 => &[0],
            Protocol::V311 => &[],
        };
        self.output.push(self.head[0]);
        push_length(kept + properties.len(), &mut self.output);
        self.output.extend_from_slice(&self.head[self.header..]);
        self.output.extend_from_slice(properties);
        self.head.clear();
        self.position = match length.saturating_sub(kept) {
            0 => Position::Header,
            left => Position::Skipped(left),
        };
    }

    fn pass_on(&mut self, next: Position) {
        self.output.append(&mut self.head);
        self.position = next;
    }
}

/// Writes the length of a packet.
fn push_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let digit = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length == 0 { digit } else { digit | 0x80 });
        if length == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 256 * 1024;

    /// What comes out if `bytes` arrive in pieces of `chunk`.
    fn cut(protocol: Protocol, bytes: &[u8], chunk: usize) -> Vec<u8> {
        let mut cutter = MessageCutter::new(protocol, LIMIT);
        let mut all = Vec::new();
        for piece in bytes.chunks(chunk) {
            assert!(cutter.write(piece));
            let mut space = [0; 100];
            loop {
                let mut out = ReadBuf::new(&mut space);
                if !cutter.read(&mut out) {
                    break;
                }
                all.extend_from_slice(out.filled());
            }
        }
        all
    }

    fn publish(flags: u8, topic: &str, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![PUBLISH << 4 | flags];
        push_length(2 + topic.len() + rest.len(), &mut packet);
        packet.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        packet.extend_from_slice(topic.as_bytes());
        packet.extend_from_slice(rest);
        packet
    }

    #[test]
    fn a_message_that_is_too_large_loses_its_payload_and_what_follows_is_whole() {
        let large = vec![b'x'; 5 << 20];
        let after = publish(0, "b", b"after");
        let with_id = [&[0, 7], &large[..]].concat();
        for chunk in [1, 7, 8192] {
            let bytes = [
                publish(0b0011, "a/b", &with_id),
                after.clone(),
                publish(0, "c", &large),
                after.clone(),
            ]
            .concat();
            let expected = [
                publish(0b0011, "a/b", &[0, 7]),
                after.clone(),
                publish(0, "c", &[]),
                after.clone(),
            ]
            .concat();
            assert_eq!(cut(Protocol::V311, &bytes, chunk), expected);
        }
        // With MQTT 5, no properties are left.
        let expected = publish(0b0010, "a/b", &[0, 7, 0]);
        assert_eq!(cut(Protocol::V5, &publish(0b0010, "a/b", &with_id), 4096), expected);
    }

    #[test]
    fn a_topic_longer_than_its_message_confuses_no_one() {
        // The length says that the message ends within its topic.
        let mut packet = vec![PUBLISH << 4];
        push_length(LIMIT, &mut packet);
        packet.extend_from_slice(&[0xff, 0xff]);
        packet.extend(std::iter::repeat_n(b'x', LIMIT - 2));
        let after = publish(0, "b", b"after");
        let out = cut(Protocol::V311, &[packet, after.clone()].concat(), 1000);
        assert!(out.ends_with(&after));
        assert_eq!(out.len(), 4 + 2 + 0xffff + after.len());
    }

    #[test]
    fn a_packet_of_another_kind_that_is_too_large_or_has_no_length_ends_the_connection() {
        let mut large = vec![9 << 4];
        push_length(LIMIT, &mut large);
        for bytes in [&large[..], &[9 << 4, 0x80, 0x80, 0x80, 0x80]] {
            let mut cutter = MessageCutter::new(Protocol::V5, LIMIT);
            assert!(!cutter.write(bytes));
            assert!(!cutter.write(b"more"));
        }
    }

    proptest! {
        #[test]
        fn packets_of_other_types_are_passed_on_whole(first in (0u8..16).prop_filter("no PUBLISH", |t| *t != PUBLISH), size in 0usize..200_000, chunk in 1000usize..9000) {
            let mut bytes = vec![first << 4];
            push_length(size, &mut bytes);
            bytes.resize(bytes.len() + size, 7);
            bytes.extend(publish(0, "b", b"after"));
            prop_assert_eq!(cut(Protocol::V311, &bytes, chunk), bytes);
        }

        #[test]
        fn small_messages_are_passed_on_whole(rest in prop::collection::vec(any::<u8>(), 0..3000), flags in 0u8..16, chunk in 1usize..300) {
            let bytes = [publish(flags, "a", &rest), publish(flags, "b", &rest)].concat();
            prop_assert_eq!(cut(Protocol::V5, &bytes, chunk), bytes);
        }
    }
}
