//! Access units of H.264 and H.265 from packets in order. A unit is what shares a timestamp; keyframes are written with
//! all parameter sets first, and pictures that depend on others are only counted unless all are asked for.
//!
//! Packets of those pictures cost a look at their header. Parameter sets are taken wherever they come, also under the
//! timestamp of the picture before.

mod nal;

use std::time::Instant;

use crate::{
    depacketize::{Piece, Syntax},
    outputs::Outputs,
    parameter_sets::{ParameterSets, from_fmtp},
    problem::StreamProblem,
    rtp::RtpPacket,
    unit::UnitEnds,
    video::{AccessUnit, Assemble, UnitKind, VideoCodec},
};

/// State of the access unit whose timestamp the newest packet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnitState {
    /// No slice yet: it may become a keyframe.
    Undecided,
    Keyframe,
    /// Depends on others and is assembled.
    Delta,
    /// Depends on others and is only counted.
    Skipped,
    /// Handed out or dropped: the rest of it is ignored.
    Done,
}

#[derive(Debug)]
struct Unit {
    timestamp: u32,
    first_packet_at: Instant,
    last_packet_at: Instant,
    state: UnitState,
    has_slice: bool,
    /// Decided by its first slice.
    is_keyframe: bool,
    /// The newest packet with a slice had the marker.
    is_marked: bool,
    is_damaged: bool,
}

/// Where the parts of a fragmented NAL unit go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenFragment {
    /// None is open.
    None,
    /// A slice with this header, written to the unit.
    Slice([u8; 2]),
    /// A slice with this header that is not assembled.
    Ignored([u8; 2]),
    /// Anything else, collected in `scratch`.
    Other([u8; 2]),
    /// Its beginning or a part of it is lost.
    Lost,
}

/// Assembles the access units of one stream.
#[derive(Debug)]
pub(crate) struct NalAssembler {
    syntax: Syntax,
    sets: ParameterSets,
    assemble: Assemble,
    /// Largest access unit in bytes.
    limit: usize,
    unit: Option<Unit>,
    /// The unit from its first slice on: parameter sets, then the rest.
    data: Vec<u8>,
    /// SEI and the like before the first slice.
    prefix: Vec<u8>,
    /// The open fragment, unless it is a slice.
    scratch: Vec<u8>,
    fragment: OpenFragment,
    /// The camera sets the end bit of fragments, so that a fragment without it is cut off.
    has_end_bits: bool,
    /// Packets were lost since the last slice.
    loss_before: bool,
    /// Parameter sets came since the last slice.
    sets_came: bool,
    ends: UnitEnds,
    /// Size of the last keyframe, to allocate the next one at once.
    keyframe_len: usize,
}

impl NalAssembler {
    pub(crate) fn new(codec: VideoCodec, fmtp: &str, limit: usize) -> Self {
        let mut sets = ParameterSets::new(codec);
        from_fmtp(&mut sets, fmtp);
        let has_don = crate::parameter_sets::fmtp_value(fmtp, "sprop-max-don-diff")
            .is_some_and(|v| v.parse::<u32>().is_ok_and(|v| v > 0));
        Self {
            syntax: match codec {
                VideoCodec::H265 => Syntax::H265 { has_don },
                _ => Syntax::H264,
            },
            sets,
            assemble: Assemble::Keyframes,
            limit,
            unit: None,
            data: Vec::new(),
            prefix: Vec::new(),
            scratch: Vec::new(),
            fragment: OpenFragment::None,
            has_end_bits: false,
            loss_before: false,
            sets_came: false,
            ends: UnitEnds::default(),
            keyframe_len: 0,
        }
    }

    pub(crate) fn set_assemble(&mut self, assemble: Assemble) {
        self.assemble = assemble;
    }

    pub(crate) fn sets(&self) -> &ParameterSets {
        &self.sets
    }

    /// Takes the next packet. `after_loss`: packets before it are missing.
    pub(crate) fn packet(&mut self, packet: &RtpPacket<'_>, after_loss: bool, at: Instant, out: &mut Outputs) {
        if after_loss {
            self.lost(at);
        }
        // A parameter set whose end is not marked is stored when the slice begins.
        let is_set_open = matches!(self.fragment, OpenFragment::Other(_));
        if self.assemble == Assemble::Keyframes
            && !is_set_open
            && let Some(is_first) = self.syntax.delta_slice(packet.payload)
            && self.skip(packet, is_first, at, out)
        {
            return;
        }
        if !packet.payload.is_empty() {
            self.take(packet, at, out);
        }
    }

    /// Counts a packet of a picture that is not assembled. Returns false if the packet belongs to a unit that is.
    #[inline]
    fn skip(&mut self, packet: &RtpPacket<'_>, is_first: bool, at: Instant, out: &mut Outputs) -> bool {
        self.enter_unit(packet.timestamp, at, out);
        let Some(unit) = &mut self.unit else { return false };
        match unit.state {
            UnitState::Undecided => {
                unit.state = UnitState::Skipped;
                self.prefix.clear();
                out.counters.access_units += 1;
                out.delta_begins(at);
            }
            UnitState::Skipped => {
                if unit.is_marked && !is_first {
                    self.ends.marker_was_wrong();
                }
            }
            _ => return false,
        }
        unit.has_slice = true;
        unit.is_marked = packet.marker;
        self.loss_before = false;
        self.sets_came = false;
        self.fragment = OpenFragment::None;
        true
    }

    /// Makes the unit of this timestamp the current one.
    #[inline]
    fn enter_unit(&mut self, timestamp: u32, at: Instant, out: &mut Outputs) {
        match &mut self.unit {
            Some(unit) if unit.timestamp == timestamp => {
                self.ends.pause(at.saturating_duration_since(unit.last_packet_at), at);
                unit.last_packet_at = at;
            }
            Some(unit) => {
                if unit.has_slice {
                    self.ends
                        .unit_ended(unit.is_marked, unit.is_keyframe && !unit.is_damaged);
                }
                self.begin_unit(timestamp, at, out);
            }
            None => self.begin_unit(timestamp, at, out),
        }
    }

    fn begin_unit(&mut self, timestamp: u32, at: Instant, out: &mut Outputs) {
        self.finish(out);
        self.unit = Some(Unit {
            timestamp,
            first_packet_at: at,
            last_packet_at: at,
            state: UnitState::Undecided,
            has_slice: false,
            is_keyframe: false,
            is_marked: false,
            is_damaged: self.loss_before,
        });
        self.prefix.clear();
        self.fragment = OpenFragment::None;
    }

    #[cold]
    fn lost(&mut self, at: Instant) {
        self.loss_before = true;
        self.ends.lost(at);
        if self.fragment != OpenFragment::None {
            self.fragment = OpenFragment::Lost;
        }
        // Whether it was the end of this unit or the beginning of the next one is unknown: both are damaged.
        self.damage();
    }

    /// Takes a packet that may belong to an assembled unit, or carries parameter sets.
    fn take(&mut self, packet: &RtpPacket<'_>, at: Instant, out: &mut Outputs) {
        self.enter_unit(packet.timestamp, at, out);
        let mut has_slice = false;
        for piece in self.syntax.pieces(packet.payload) {
            has_slice |= match piece {
                Piece::Nal(nal) => self.nal_or_stream(nal, at, out),
                Piece::Fragment(fragment) => self.fragment(&fragment, at, out),
                Piece::Unsupported(name) => {
                    out.counters.unsupported_packets += 1;
                    out.problem(StreamProblem::UnsupportedPacketization { name }, at);
                    self.damage();
                    false
                }
                Piece::CutOff => {
                    out.counters.malformed_packets += 1;
                    self.damage();
                    false
                }
            };
        }
        let Some(unit) = &mut self.unit else { return };
        if has_slice {
            self.loss_before = false;
            self.sets_came = false;
            unit.has_slice = true;
        } else if !unit.has_slice || self.sets_came {
            // Some cameras mark parameter sets. A marked SEI after the slices may be the end.
            return;
        }
        unit.is_marked = packet.marker;
        if packet.marker && self.ends.is_marker_trusted() {
            self.finish(out);
        }
    }

    fn damage(&mut self) {
        if let Some(unit) = &mut self.unit {
            unit.is_damaged = true;
        }
    }

    /// Hands out the unit, if it is assembled.
    fn finish(&mut self, out: &mut Outputs) {
        let is_cut_off = self.has_end_bits && self.fragment != OpenFragment::None && !self.is_marked();
        self.fragment = OpenFragment::None;
        let Some(unit) = &mut self.unit else { return };
        let kind = match unit.state {
            UnitState::Keyframe => UnitKind::Keyframe,
            UnitState::Delta => UnitKind::Delta,
            _ => return,
        };
        unit.state = UnitState::Done;
        let mut data = std::mem::take(&mut self.data);
        if data.capacity() - data.len() > data.len() / 4 {
            data.shrink_to_fit();
        }
        if kind == UnitKind::Keyframe {
            self.keyframe_len = data.len();
        }
        out.unit(AccessUnit {
            kind,
            data,
            rtp_timestamp: unit.timestamp,
            first_packet_at: unit.first_packet_at,
            last_packet_at: unit.last_packet_at,
            is_complete: !unit.is_damaged && !is_cut_off,
        });
    }

    fn is_marked(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| unit.is_marked)
    }

    /// The sender started anew: what follows does not continue what came before.
    pub(crate) fn restart(&mut self, out: &mut Outputs) {
        if !self.ends.is_end_certain(self.is_marked()) {
            self.damage();
        }
        self.finish(out);
        self.unit = None;
        self.prefix.clear();
        self.loss_before = false;
    }

    /// The sender said goodbye: the unit is over.
    pub(crate) fn flush(&mut self, out: &mut Outputs) {
        self.finish(out);
    }

    /// When the current unit counts as over although no packet of the next one came.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let unit = self.unit.as_ref()?;
        let is_assembled = matches!(unit.state, UnitState::Keyframe | UnitState::Delta) && unit.has_slice;
        // An open fragment has more parts, unless the camera never says where they end.
        let is_open = self.fragment != OpenFragment::None && !unit.is_marked;
        (is_assembled && !is_open)
            .then(|| self.ends.quiet_end(unit.is_marked, unit.last_packet_at))
            .flatten()
    }

    pub(crate) fn timeout(&mut self, now: Instant, out: &mut Outputs) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.finish(out);
        }
    }
}
