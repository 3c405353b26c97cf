//! The order of packets: where a packet stands in its sequence, and, for UDP, a buffer that puts packets back in order.
//! It waits for a missing packet as long as its bounds in packets, bytes and time allow, and then gives it up.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Packets that may wait. At 4 Mb/s that is about 150 ms.
pub(crate) const MAX_WAITING_PACKETS: usize = 64;
/// Bytes that may wait: twice 64 packets of the usual 1,000 to 1,400 bytes.
pub(crate) const MAX_WAITING_BYTES: usize = 128 << 10;
/// How long a missing packet is waited for. Reordering within a city network takes milliseconds.
pub(crate) const MAX_WAIT: Duration = Duration::from_millis(100);
/// Packets ahead of the expected one that still count as a loss; beyond, the sender has started anew (MAX_DROPOUT, RFC
/// 3550 A.1).
pub(crate) const MAX_DROPOUT: u16 = 3_000;
/// Packets behind the expected one that still count as late or repeated (MAX_MISORDER, RFC 3550 A.1).
pub(crate) const MAX_MISORDER: u16 = 100;

/// Where a packet stands in relation to the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// The expected packet.
    Next,
    /// So many packets before it are missing, from 1.
    Ahead(u16),
    /// Late or repeated.
    Behind,
    /// Too far away for a loss: the sender has started anew.
    Elsewhere,
}

/// The position of `sequence` when `expected` is due.
pub(crate) fn position(sequence: u16, expected: u16) -> Position {
    let ahead = sequence.wrapping_sub(expected);
    match ahead {
        0 => Position::Next,
        1..MAX_DROPOUT => Position::Ahead(ahead),
        _ if ahead.wrapping_neg() <= MAX_MISORDER => Position::Behind,
        _ => Position::Elsewhere,
    }
}

/// A packet that waits for those before it.
#[derive(Debug)]
pub(crate) struct WaitingPacket {
    pub(crate) sequence: u16,
    pub(crate) arrived_at: Instant,
    pub(crate) bytes: Vec<u8>,
}

/// Packets that arrived before their turn, in order.
#[derive(Debug, Default)]
pub(crate) struct ReorderBuffer {
    packets: VecDeque<WaitingPacket>,
    bytes: usize,
}

impl ReorderBuffer {
    /// Keeps a packet that is `ahead` of the expected one. Returns false if it is already there.
    pub(crate) fn insert(&mut self, packet: WaitingPacket, expected: u16) -> bool {
        let ahead = packet.sequence.wrapping_sub(expected);
        let key = |p: &WaitingPacket| p.sequence.wrapping_sub(expected);
        match self.packets.binary_search_by_key(&ahead, key) {
            Ok(_) => false,
            Err(at) => {
                self.bytes += packet.bytes.len();
                self.packets.insert(at, packet);
                true
            }
        }
    }

    /// Takes the first packet if it is the expected one, or if the missing ones are given up: the buffer is over its
    /// bounds, or a packet has waited for too long.
    pub(crate) fn pop(&mut self, expected: u16, now: Instant) -> Option<WaitingPacket> {
        let is_due = self.packets.front()?.sequence == expected
            || self.packets.len() > MAX_WAITING_PACKETS
            || self.bytes > MAX_WAITING_BYTES
            || self.deadline().is_some_and(|deadline| deadline <= now);
        if is_due { self.pop_any() } else { None }
    }

    /// Takes the first packet.
    pub(crate) fn pop_any(&mut self) -> Option<WaitingPacket> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.bytes.len();
        if self.packets.is_empty() {
            // The next disorder may be hours away.
            self.packets.shrink_to(0);
        }
        Some(packet)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// When the packet that has waited longest has waited enough.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.packets.iter().map(|p| p.arrived_at + MAX_WAIT).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, arrived_at: Instant, len: usize) -> WaitingPacket {
        WaitingPacket {
            sequence,
            arrived_at,
            bytes: vec![0; len],
        }
    }

    #[test]
    fn positions_wrap_around() {
        assert_eq!(position(0, 0), Position::Next);
        assert_eq!(position(2, 65_535), Position::Ahead(3));
        assert_eq!(position(2_999, 0), Position::Ahead(2_999));
        assert_eq!(position(3_000, 0), Position::Elsewhere);
        assert_eq!(position(65_535, 0), Position::Behind);
        assert_eq!(position(65_436, 0), Position::Behind);
        assert_eq!(position(65_435, 0), Position::Elsewhere);
    }

    #[test]
    fn packets_come_out_in_order_across_the_wrap_around() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::default();
        for sequence in [1, 65_535, 0] {
            assert!(buffer.insert(packet(sequence, now, 1), 65_534));
        }
        assert!(!buffer.insert(packet(0, now, 1), 65_534), "a duplicate");
        assert!(buffer.pop(65_534, now).is_none(), "65534 is missing");
        let out: Vec<_> = (0..3)
            .map(|i| buffer.pop(65_535_u16.wrapping_add(i), now).unwrap().sequence)
            .collect();
        assert_eq!(out, [65_535, 0, 1]);
        assert!(buffer.is_empty() && buffer.bytes == 0);
    }

    #[test]
    fn a_missing_packet_is_given_up_after_a_while() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::default();
        buffer.insert(packet(6, now, 1), 5);
        assert_eq!(buffer.deadline(), Some(now + MAX_WAIT));
        assert!(buffer.pop(5, now + MAX_WAIT / 2).is_none());
        assert_eq!(buffer.pop(5, now + MAX_WAIT).unwrap().sequence, 6);
    }

    #[test]
    fn the_buffer_is_bounded_in_packets_and_bytes() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::default();
        for i in 0..MAX_WAITING_PACKETS as u16 {
            buffer.insert(packet(i + 1, now, 1), 0);
        }
        assert!(buffer.pop(0, now).is_none());
        buffer.insert(packet(1_000, now, 1), 0);
        assert_eq!(buffer.pop(0, now).unwrap().sequence, 1);

        let mut buffer = ReorderBuffer::default();
        buffer.insert(packet(1, now, 65_000), 0);
        buffer.insert(packet(2, now, 65_000), 0);
        assert!(buffer.pop(0, now).is_none());
        buffer.insert(packet(3, now, 65_000), 0);
        assert!(buffer.pop(0, now).is_some());
    }
}
