//! The counters of a stream.

/// What was received, since the receiver began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// RTP packets, with those that were ignored.
    pub packets: u64,
    /// Bytes of RTP packets, headers included.
    pub bytes: u64,
    /// RTCP packets.
    pub rtcp_packets: u64,
    /// RTP packets missing in the sequence.
    pub lost: u64,
    /// Packets that came before their turn and were put in order.
    pub reordered: u64,
    /// Packets dropped because their turn was over: repeated ones and those given up as lost before.
    pub duplicates: u64,
    /// Access units with slices, by the change of the timestamp; JPEG pictures.
    pub access_units: u64,
    /// Complete keyframes.
    pub keyframes: u64,
    /// Keyframes with a loss or an error.
    pub damaged_keyframes: u64,
    /// Access units dropped because of their size.
    pub oversized: u64,
    /// Changes of the SSRC.
    pub ssrc_changes: u64,
    /// New beginnings of the sequence numbers without a change of the SSRC.
    pub sequence_resets: u64,
    /// Packets of another payload type, and those of an unconfirmed new beginning.
    pub ignored_packets: u64,
    /// Packets that are cut off or not RTP version 2.
    pub malformed_packets: u64,
    /// Packets of a type that is not taken.
    pub unsupported_packets: u64,
    /// Parameter sets dropped: too large or cut off.
    pub refused_parameter_sets: u64,
    /// Outputs dropped because `poll` was not called.
    pub dropped_outputs: u64,
}
