//! From packets as they arrive to packets in order: payload types, sources, sequence numbers.

use std::time::Instant;

use super::{Assembler, VideoReceiver, assembler};
use crate::{
    problem::StreamProblem,
    reorder::{Position, WaitingPacket, position},
    rtp::{RtpPacket, reception::Reception},
};

/// Payload types that have no fixed meaning (RFC 3551, 6).
const DYNAMIC_PAYLOAD_TYPES: std::ops::RangeInclusive<u8> = 96..=127;
/// What RTCP packet types 192 to 223 look like, with the marker.
const RTCP_PAYLOAD_TYPES: std::ops::RangeInclusive<u8> = 64..=95;
/// Largest distance in sequence numbers between the two packets that confirm a new beginning.
const MAX_CANDIDATE_DISTANCE: u16 = 8;

impl VideoReceiver {
    /// Whether a packet that is not of the announced type is RTCP on the wrong port or channel: its second byte is the
    /// packet type (RFC 5761, 4).
    pub(super) fn is_rtcp(&self, packet: &RtpPacket<'_>) -> bool {
        packet.marker
            && RTCP_PAYLOAD_TYPES.contains(&packet.payload_type)
            && packet.payload_type != self.format.payload_type
    }

    /// Whether to take packets of a payload type that is not the one taken so far. The announced one is always taken;
    /// another dynamic one is, as long as it is the only one that comes.
    #[cold]
    pub(super) fn takes_payload_type(&mut self, seen: u8, now: Instant) -> bool {
        let announced = self.format.payload_type;
        if seen == announced {
            if self.payload_type.is_some() {
                self.restart();
            }
            self.payload_type = Some(seen);
            return true;
        }
        match self.payload_type {
            None if !self.are_types_mixed && DYNAMIC_PAYLOAD_TYPES.contains(&seen) => {
                self.payload_type = Some(seen);
                true
            }
            Some(taken) if taken != announced => {
                self.are_types_mixed = true;
                self.payload_type = None;
                self.restart();
                self.out
                    .problem(StreamProblem::OtherPayloadTypes { announced, seen }, now);
                false
            }
            None => {
                self.out
                    .problem(StreamProblem::OtherPayloadTypes { announced, seen }, now);
                false
            }
            Some(_) => false,
        }
    }

    /// An ignored packet may use a number of the sequence: it is not lost.
    pub(super) fn pass_over(&mut self, packet: &RtpPacket<'_>, now: Instant) {
        if let Some(reception) = &mut self.reception
            && reception.ssrc == packet.ssrc
            && self.expected == Some(packet.sequence)
        {
            reception.packet(packet.sequence, packet.timestamp, now);
            self.expected = Some(packet.sequence.wrapping_add(1));
            self.drain(now);
        }
    }

    /// Takes a packet of a stream in order, where a missing packet will not come.
    pub(super) fn ordered(&mut self, packet: &RtpPacket<'_>, now: Instant) {
        let Some(expected) = self.expected else {
            return self.begin(packet, now);
        };
        let is_current = self.is_from_current(packet);
        match position(packet.sequence, expected) {
            Position::Next => self.deliver(packet, false, now),
            Position::Ahead(missing) if is_current => self.after_loss(packet, missing, now),
            Position::Behind if is_current => self.out.counters.duplicates += 1,
            _ => {
                self.count_beginning(packet);
                self.begin(packet, now);
            }
        }
    }

    /// Takes a packet of a stream in which packets overtake each other.
    pub(super) fn unordered(&mut self, packet: &RtpPacket<'_>, bytes: &[u8], now: Instant) {
        let Some(expected) = self.expected else {
            return self.begin(packet, now);
        };
        let position = position(packet.sequence, expected);
        let is_current = self.is_from_current(packet);
        match position {
            Position::Next if is_current || self.may_continue(packet) => {
                self.deliver(packet, false, now);
                if !is_current {
                    self.adopt_candidate(packet);
                }
                self.drain(now);
            }
            Position::Ahead(_) if is_current => {
                self.wait(waiting(packet, bytes, now), expected);
                self.drain(now);
            }
            Position::Behind if is_current => self.out.counters.duplicates += 1,
            _ => self.candidate(packet, bytes, now),
        }
    }

    /// A packet that does not fit the sequence. Two that follow each other are a new beginning (RFC 3550, A.1); a
    /// single one is a stray or late one.
    fn candidate(&mut self, packet: &RtpPacket<'_>, bytes: &[u8], now: Instant) {
        let first = match self.candidate.take() {
            Some((ssrc, first)) if ssrc == packet.ssrc => first,
            other => {
                self.out.counters.ignored_packets += u64::from(other.is_some());
                self.candidate = Some((packet.ssrc, waiting(packet, bytes, now)));
                return;
            }
        };
        let distance = packet.sequence.wrapping_sub(first.sequence);
        if distance == 0 || distance > MAX_CANDIDATE_DISTANCE {
            self.out.counters.ignored_packets += 1;
            self.candidate = Some((packet.ssrc, waiting(packet, bytes, now)));
            return;
        }
        self.release_waiting();
        if let Some(parsed) = RtpPacket::parse(&first.bytes) {
            if self.expected == Some(first.sequence) {
                // Only packets that will not come were between the old source and the new one.
                self.deliver(&parsed, false, first.arrived_at);
            } else {
                self.count_beginning(packet);
                self.begin(&parsed, first.arrived_at);
            }
        }
        self.unordered(packet, bytes, now);
    }

    /// Whether the expected number from another source continues the current one: nothing of the current one is behind
    /// it, and nothing of the other one before it.
    fn may_continue(&self, packet: &RtpPacket<'_>) -> bool {
        let is_before = |(ssrc, waiting): &(u32, WaitingPacket)| {
            *ssrc == packet.ssrc && position(waiting.sequence, packet.sequence) == Position::Behind
        };
        self.waiting.is_empty() && !self.candidate.as_ref().is_some_and(is_before)
    }

    /// The SSRC changed while the numbers went on: a packet that came too early for that waits for its turn.
    fn adopt_candidate(&mut self, first: &RtpPacket<'_>) {
        let expected = first.sequence.wrapping_add(1);
        if let Some((_, waiting)) = self.candidate.take_if(|(ssrc, _)| *ssrc == first.ssrc)
            && matches!(
                position(waiting.sequence, expected),
                Position::Next | Position::Ahead(_)
            )
        {
            self.wait(waiting, expected);
        }
    }

    fn wait(&mut self, packet: WaitingPacket, expected: u16) {
        if self.waiting.insert(packet, expected) {
            self.out.counters.reordered += 1;
        } else {
            self.out.counters.duplicates += 1;
        }
    }

    /// Hands on the packets whose turn it is, or that have waited long enough.
    pub(super) fn drain(&mut self, now: Instant) {
        while let Some(expected) = self.expected
            && let Some(waiting) = self.waiting.pop(expected, now)
        {
            self.hand_on(&waiting, expected);
        }
    }

    /// Hands on all packets that wait: those they wait for will not come.
    pub(super) fn release_waiting(&mut self) {
        while let Some(expected) = self.expected
            && let Some(waiting) = self.waiting.pop_any()
        {
            self.hand_on(&waiting, expected);
        }
    }

    fn hand_on(&mut self, waiting: &WaitingPacket, expected: u16) {
        let Some(packet) = RtpPacket::parse(&waiting.bytes) else {
            return;
        };
        match position(packet.sequence, expected) {
            Position::Next => self.deliver(&packet, false, waiting.arrived_at),
            Position::Ahead(missing) => self.after_loss(&packet, missing, waiting.arrived_at),
            Position::Behind | Position::Elsewhere => self.out.counters.duplicates += 1,
        }
    }

    fn after_loss(&mut self, packet: &RtpPacket<'_>, missing: u16, at: Instant) {
        self.out.counters.lost += u64::from(missing);
        self.deliver(packet, true, at);
    }

    fn count_beginning(&mut self, packet: &RtpPacket<'_>) {
        match self.is_from_current(packet) {
            true => self.out.counters.sequence_resets += 1,
            false => self.out.counters.ssrc_changes += 1,
        }
    }

    fn is_from_current(&self, packet: &RtpPacket<'_>) -> bool {
        self.reception
            .as_ref()
            .is_none_or(|reception| reception.ssrc == packet.ssrc)
    }

    /// Forgets where the stream was.
    fn restart(&mut self) {
        self.release_waiting();
        assembler!(&mut self.assembler, a => a.restart(&mut self.out));
        self.reception = None;
        self.expected = None;
        self.candidate = None;
    }

    /// The first packet of a stream, or of a new beginning.
    fn begin(&mut self, packet: &RtpPacket<'_>, at: Instant) {
        self.restart();
        self.deliver(packet, false, at);
    }

    /// Takes the next packet in order.
    fn deliver(&mut self, packet: &RtpPacket<'_>, after_loss: bool, at: Instant) {
        self.expected = Some(packet.sequence.wrapping_add(1));
        match &mut self.reception {
            Some(reception) if reception.ssrc == packet.ssrc => {
                reception.packet(packet.sequence, packet.timestamp, at);
            }
            _ => self.begin_reception(packet, at),
        }
        assembler!(&mut self.assembler, a => a.packet(packet, after_loss, at, &mut self.out));
    }

    #[cold]
    fn begin_reception(&mut self, packet: &RtpPacket<'_>, at: Instant) {
        // Its numbers continue those of the source before.
        self.out.counters.ssrc_changes += u64::from(self.reception.is_some());
        let clock_rate = match self.format.clock_rate {
            0 => super::USUAL_CLOCK_RATE,
            rate => rate,
        };
        let mut reception = Reception::new(packet.ssrc, packet.sequence, clock_rate, at);
        reception.packet(packet.sequence, packet.timestamp, at);
        self.reception = Some(reception);
        if self.report_at.is_none() {
            self.schedule_report(at);
        }
    }
}

fn waiting(packet: &RtpPacket<'_>, bytes: &[u8], now: Instant) -> WaitingPacket {
    WaitingPacket {
        sequence: packet.sequence,
        arrived_at: now,
        bytes: bytes.to_vec(),
    }
}
