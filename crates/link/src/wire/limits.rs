//! What a broker must support to serve a box.

use std::fmt;

/// Bytes that a PUBLISH packet may add to its payload: topic (up to 64 KiB by the standard, about 150 bytes here) and
/// properties.
pub(crate) const PACKET_OVERHEAD: usize = 1024;

/// The limits in a CONNACK. An MQTT 3.1.1 broker announces none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokerLimits {
    /// Maximum packet size in bytes, if the broker limits it.
    pub(crate) max_packet: Option<u32>,
    /// Messages may be published with QoS 1.
    pub(super) has_qos1: bool,
    /// Messages may be retained.
    pub(super) has_retain: bool,
}

impl BrokerLimits {
    pub(super) const UNKNOWN: Self = Self {
        max_packet: None,
        has_qos1: true,
        has_retain: true,
    };

    /// Of a broker that grants QoS 0 at most.
    pub(crate) const NO_QOS1: Self = Self {
        has_qos1: false,
        ..Self::UNKNOWN
    };

    /// What the broker lacks for a box whose largest message has `largest` bytes; one sentence each, with the remedy.
    pub(crate) fn shortcomings(self, largest: usize) -> Vec<String> {
        let mut found = Vec::new();
        if !self.has_qos1 {
            found.push(Shortcoming::Qos1.to_string());
        }
        if !self.has_retain {
            found.push(Shortcoming::Retain.to_string());
        }
        if let Some(max) = self
            .max_packet
            .map(|max| max as usize)
            .filter(|max| largest + PACKET_OVERHEAD > *max)
        {
            found.push(format!(
                "its maximum packet size is {max} bytes, but a picture may have {largest}: allow packets of {} bytes, or \
                 set evidence.max_picture_bytes to {} or less",
                largest + PACKET_OVERHEAD,
                max.saturating_sub(PACKET_OVERHEAD)
            ));
        }
        found
    }
}

/// What no box can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortcoming {
    Qos1,
    Retain,
}

impl fmt::Display for Shortcoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qos1 => "it does not support QoS 1, without which messages are lost unnoticed: enable it",
            Self::Retain => {
                "it does not keep retained messages, which the box's status, last will and claims need: enable them"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_without_limits_lacks_nothing() {
        assert_eq!(BrokerLimits::UNKNOWN.shortcomings(16_000_000), [""; 0]);
    }

    #[test]
    fn the_largest_message_must_fit_with_its_topic() {
        let limits = BrokerLimits {
            max_packet: Some(401_024),
            ..BrokerLimits::UNKNOWN
        };
        assert_eq!(limits.shortcomings(400_000), [""; 0]);
        let found = limits.shortcomings(400_001);
        assert!(
            found[0].contains("401024 bytes") && found[0].contains("max_picture_bytes to 400000"),
            "{found:?}"
        );
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let limits = BrokerLimits {
            max_packet: Some(1000),
            has_qos1: false,
            has_retain: false,
        };
        let found = limits.shortcomings(1);
        assert!(
            found[0].contains("QoS 1") && found[1].contains("retained") && found[2].contains("packet"),
            "{found:?}"
        );
        assert_eq!(found.len(), 3);
    }
}
