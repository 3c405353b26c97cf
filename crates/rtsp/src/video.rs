//! Stand-in for the video half; it is replaced as a whole when both halves are merged.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

const REPORT_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoCodec {
    H264,
    H265,
    Jpeg,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoFormat {
    pub codec: VideoCodec,
    pub payload_type: u8,
    pub clock_rate: u32,
    pub fmtp: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketOrder {
    Ordered,
    MayReorder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assemble {
    Keyframes,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    Keyframe,
    Delta,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    pub kind: UnitKind,
    pub data: Vec<u8>,
    pub rtp_timestamp: u32,
    pub first_packet_at: Instant,
    pub last_packet_at: Instant,
    pub is_complete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamProblem {}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoOutput {
    Unit(AccessUnit),
    Rtcp(Vec<u8>),
    Bye,
    Problem(StreamProblem),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamCounters {
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoParameters {}

/// Turns each RTP packet with the marker into an access unit of its payload.
#[derive(Debug)]
pub struct VideoReceiver {
    counters: StreamCounters,
    outputs: Vec<VideoOutput>,
    report_at: Option<Instant>,
}

impl VideoReceiver {
    pub fn new(_format: VideoFormat, _order: PacketOrder, _now: Instant) -> Self {
        Self {
            counters: StreamCounters::default(),
            outputs: Vec::new(),
            report_at: None,
        }
    }

    pub fn with_seed(self, _seed: u64) -> Self {
        self
    }

    pub fn parameter_sets(&self) -> Vec<u8> {
        Vec::new()
    }

    pub fn set_assemble(&mut self, _assemble: Assemble) {}

    pub fn rtp(&mut self, packet: &[u8], now: Instant) {
        self.report_at = self.report_at.or(Some(now + REPORT_INTERVAL));
        self.counters.packets += 1;
        self.counters.bytes += packet.len() as u64;
        if packet.len() > 12 && packet[1] & 0x80 != 0 {
            self.outputs.push(VideoOutput::Unit(AccessUnit {
                kind: UnitKind::Keyframe,
                data: packet[12..].to_vec(),
                rtp_timestamp: u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]),
                first_packet_at: now,
                last_packet_at: now,
                is_complete: true,
            }));
        }
    }

    pub fn rtcp(&mut self, _packet: &[u8], _now: Instant) {}

    pub fn timeout(&mut self, now: Instant) {
        if self.report_at.is_some_and(|at| at <= now) {
            self.report_at = Some(now + REPORT_INTERVAL);
            self.outputs.push(VideoOutput::Rtcp(vec![0x80, 201, 0, 1, 0, 0, 0, 0]));
        }
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        self.report_at
    }

    pub fn poll(&mut self) -> Option<VideoOutput> {
        (!self.outputs.is_empty()).then(|| self.outputs.remove(0))
    }

    pub fn counters(&self) -> &StreamCounters {
        &self.counters
    }

    pub fn parameters(&self) -> Option<VideoParameters> {
        None
    }
}
