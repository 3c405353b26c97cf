//! [`VideoReceiver`]: RTP and RTCP packets of one video stream in; keyframes, receiver reports and problems out.

mod counters;
mod receive;

use std::time::{Duration, Instant};

pub use counters::StreamCounters;

pub use crate::problem::{NO_KEYFRAMES_AFTER, PROBLEM_INTERVAL, StreamProblem};
use crate::{
    assemble::NalAssembler,
    depacketize::mjpeg::JpegAssembler,
    outputs::Outputs,
    reorder::{ReorderBuffer, WaitingPacket},
    rtp::{
        RtpPacket,
        reception::Reception,
        rtcp::{self, RtcpItem},
    },
};

/// Largest access unit accepted, in bytes. 4K intra-only at 100 Mb/s stays under 2 MiB.
pub const MAX_ACCESS_UNIT: usize = 8 << 20;
/// Mean time between two receiver reports (RFC 3550, 6.2); each interval is half to one and a half of it (6.3.1).
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Timestamp units a second of every video format (RFC 6184, 7798, 2435), for an SDP that says 0.
const USUAL_CLOCK_RATE: u32 = 90_000;

/// A video encoding that can be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// H.264 (RFC 6184).
    H264,
    /// H.265 (RFC 7798).
    H265,
    /// JPEG (RFC 2435).
    Jpeg,
}

/// What SDP says of the one video stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoFormat {
    /// The encoding.
    pub codec: VideoCodec,
    /// The payload type of its RTP packets, 0 to 127.
    pub payload_type: u8,
    /// Timestamp units a second.
    pub clock_rate: u32,
    /// The parameters of `a=fmtp`, as they are. For JPEG, `x-dimensions=W,H` or `framesize=W-H` give the size of
    /// pictures larger than 2,040 pixels.
    pub fmtp: String,
}

/// Whether packets can overtake each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketOrder {
    /// Packets come in the order of sending: TCP.
    Ordered,
    /// Packets may come in another order: UDP. A missing one is waited for up to 100 ms.
    MayReorder,
}

/// Which access units to assemble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assemble {
    /// Keyframes only: IDR pictures of H.264, IRAP pictures of H.265 (IDR, CRA, BLA), every JPEG. Others are counted.
    Keyframes,
    /// Every access unit, for streams without usable keyframes.
    All,
}

/// Kind of an access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    /// It can be decoded on its own.
    Keyframe,
    /// It depends on others. Only with [`Assemble::All`].
    Delta,
}

/// The data of one picture.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// Keyframe or not.
    pub kind: UnitKind,
    /// Annex B, or a whole JPEG. A keyframe begins with all parameter sets, in the order VPS, SPS, PPS. Delimiters,
    /// filler, ends of sequence and layers above the base layer are left out.
    pub data: Vec<u8>,
    /// The timestamp of its RTP packets.
    pub rtp_timestamp: u32,
    /// Arrival of its first packet.
    pub first_packet_at: Instant,
    /// Arrival of its last packet.
    pub last_packet_at: Instant,
    /// No packet was lost in it or directly before it, its first slice is there, and no header shows an error.
    pub is_complete: bool,
}

impl std::fmt::Debug for AccessUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let completeness = if self.is_complete { "complete" } else { "incomplete" };
        write!(
            f,
            "{:?} of {} bytes at {}, {completeness}",
            self.kind,
            self.data.len(),
            self.rtp_timestamp
        )
    }
}

/// What the SPS, or the JPEG header, says: enough to refuse a format before it reaches a decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoParameters {
    /// The encoding.
    pub codec: VideoCodec,
    /// `profile_idc` (H.264, annex A) or `general_profile_idc` (H.265, annex A); 0 for JPEG.
    pub profile_idc: u8,
    /// `level_idc`: the level times 10 in H.264, times 30 in H.265; 0 for JPEG.
    pub level_idc: u8,
    /// 0: monochrome, 1: 4:2:0, 2: 4:2:2, 3: 4:4:4.
    pub chroma_format_idc: u8,
    /// The three planes of 4:4:4 are coded as monochrome pictures.
    pub separate_colour_planes: bool,
    /// Bits of a luma sample.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample.
    pub bit_depth_chroma: u8,
    /// Width in pixels, without what is cropped.
    pub width: u32,
    /// Height in pixels, without what is cropped.
    pub height: u32,
}

/// The camera's clock by its newest RTCP sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderClock {
    /// NTP timestamp (RFC 3550, 4): seconds since 1900 in the upper 32 bits, their fraction in the lower. Cameras without a clock send
    /// the time since their start, or zero.
    pub ntp: u64,
    /// When the report arrived.
    pub arrived_at: Instant,
}

/// What comes out of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VideoOutput {
    /// An access unit.
    Unit(AccessUnit),
    /// A receiver report to send to the camera.
    Rtcp(Vec<u8>),
    /// The camera ended the stream (RTCP BYE).
    Bye,
    /// Something is wrong with the stream.
    Problem(StreamProblem),
}

#[derive(Debug)]
enum Assembler {
    // The larger of the two.
    Nal(Box<NalAssembler>),
    Jpeg(Box<JpegAssembler>),
}

/// Runs `$call` on whichever assembler there is.
macro_rules! assembler {
    ($assembler:expr, $name:ident => $call:expr) => {
        match $assembler {
            Assembler::Nal($name) => $call,
            Assembler::Jpeg($name) => $call,
        }
    };
}
use assembler;

/// Receives one video stream. Call [`VideoReceiver::poll`] until `None` after each other call.
#[derive(Debug)]
pub struct VideoReceiver {
    format: VideoFormat,
    order: PacketOrder,
    assembler: Assembler,
    out: Outputs,
    /// The payload type of the packets taken, once it is known.
    payload_type: Option<u8>,
    /// Packets of more than one payload type, none of them the announced one.
    are_types_mixed: bool,
    /// Expected next; `None` before the first packet.
    expected: Option<u16>,
    waiting: ReorderBuffer,
    /// The first packet of what may be a new beginning.
    candidate: Option<(u32, WaitingPacket)>,
    reception: Option<Reception>,
    report_at: Option<Instant>,
    receiver_ssrc: u32,
    random: u64,
}

impl VideoReceiver {
    /// A receiver for the stream that SDP announced.
    pub fn new(format: VideoFormat, order: PacketOrder, now: Instant) -> Self {
        let assembler = match format.codec {
            VideoCodec::Jpeg => Assembler::Jpeg(Box::new(JpegAssembler::new(&format.fmtp, MAX_ACCESS_UNIT))),
            codec => Assembler::Nal(Box::new(NalAssembler::new(codec, &format.fmtp, MAX_ACCESS_UNIT))),
        };
        Self {
            format,
            order,
            assembler,
            out: Outputs::new(now),
            payload_type: None,
            are_types_mixed: false,
            expected: None,
            waiting: ReorderBuffer::default(),
            candidate: None,
            reception: None,
            report_at: None,
            receiver_ssrc: 0x6772_6964,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Makes the SSRC of the receiver reports and their intervals differ from those of other receivers. Call it before
    /// the first packet.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.random ^= seed;
        // Never 0, which xorshift would keep.
        self.random |= 1;
        self.receiver_ssrc = (self.next_random() >> 16) as u32;
        self
    }

    /// Sets which access units to assemble, from the next one on.
    pub fn set_assemble(&mut self, assemble: Assemble) {
        if let Assembler::Nal(assembler) = &mut self.assembler {
            assembler.set_assemble(assemble);
        }
    }

    /// Takes an RTP packet. It is not kept.
    pub fn rtp(&mut self, packet: &[u8], now: Instant) {
        self.out.counters.packets += 1;
        self.out.counters.bytes += packet.len() as u64;
        let Some(parsed) = RtpPacket::parse(packet) else {
            self.out.counters.malformed_packets += 1;
            self.out.problem(StreamProblem::MalformedPackets, now);
            return;
        };
        if self.payload_type != Some(parsed.payload_type) && self.is_rtcp(&parsed) {
            return self.rtcp(packet, now);
        }
        if self.payload_type != Some(parsed.payload_type) && !self.takes_payload_type(parsed.payload_type, now) {
            self.out.counters.ignored_packets += 1;
            return self.pass_over(&parsed, now);
        }
        match self.order {
            PacketOrder::Ordered => self.ordered(&parsed, now),
            PacketOrder::MayReorder => self.unordered(&parsed, packet, now),
        }
    }

    /// Takes an RTCP packet.
    pub fn rtcp(&mut self, packet: &[u8], now: Instant) {
        self.out.counters.rtcp_packets += 1;
        let ssrc = self.reception.as_ref().map(|reception| reception.ssrc);
        let mut is_bye = false;
        for item in rtcp::items(packet) {
            match item {
                RtcpItem::SenderReport { ssrc: sender, ntp } => {
                    if let Some(reception) = self.reception.as_mut().filter(|r| r.ssrc == sender) {
                        reception.sender_report(ntp, now);
                    }
                }
                // Before the first packet any source can be the one.
                RtcpItem::Bye { ssrcs } => is_bye |= ssrc.map_or(!ssrcs.is_empty(), |ssrc| item.says_bye_of(ssrc)),
            }
        }
        if is_bye {
            self.release_waiting();
            assembler!(&mut self.assembler, a => a.flush(&mut self.out));
            self.out.push(VideoOutput::Bye);
        }
    }

    /// Does what is due: gives up missing packets, ends a unit after silence, writes a receiver report.
    pub fn timeout(&mut self, now: Instant) {
        self.drain(now);
        // What waits may belong to the unit.
        if self.waiting.is_empty() {
            assembler!(&mut self.assembler, a => a.timeout(now, &mut self.out));
        }
        if self.report_at.is_some_and(|at| at <= now) {
            if let Some(reception) = &mut self.reception {
                let report = rtcp::receiver_report(self.receiver_ssrc, &reception.report(now));
                self.out.push(VideoOutput::Rtcp(report));
            }
            self.schedule_report(now);
        }
    }

    /// When to call [`VideoReceiver::timeout`], if no packet comes before.
    pub fn next_timeout(&self) -> Option<Instant> {
        let unit = match self.waiting.is_empty() {
            true => assembler!(&self.assembler, a => a.deadline()),
            false => self.waiting.deadline(),
        };
        unit.into_iter().chain(self.report_at).min()
    }

    /// The next output.
    pub fn poll(&mut self) -> Option<VideoOutput> {
        self.out.pop()
    }

    /// What was received so far.
    pub fn counters(&self) -> &StreamCounters {
        &self.out.counters
    }

    /// What the parameter sets say of the pictures: of the newest keyframe, or before the first, what SDP says. `None`
    /// without an SPS that can be read.
    pub fn parameters(&self) -> Option<VideoParameters> {
        match &self.assembler {
            Assembler::Nal(assembler) => assembler.sets().parameters().map(|p| p.video.clone()),
            Assembler::Jpeg(assembler) => assembler.parameters().cloned(),
        }
    }

    /// The camera's clock; `None` before its first sender report.
    pub fn sender_clock(&self) -> Option<SenderClock> {
        let (ntp, arrived_at) = self.reception.as_ref()?.sender_report?;
        Some(SenderClock { ntp, arrived_at })
    }

    /// All parameter sets received so far, in Annex B, for a decoder that starts with a delta unit.
    pub fn parameter_sets(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Assembler::Nal(assembler) = &self.assembler {
            assembler.sets().write(&mut out);
        }
        out
    }

    fn schedule_report(&mut self, now: Instant) {
        // Half to one and a half of the interval, in milliseconds.
        let interval = REPORT_INTERVAL.as_millis() as u64;
        let wait = interval / 2 + self.next_random() % (interval + 1);
        self.report_at = Some(now + Duration::from_millis(wait));
    }

    /// Xorshift64, to spread reports; unpredictability is not needed.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests;
