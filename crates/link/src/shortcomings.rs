//! What a broker lacks to serve a box.

use gridwatch_mqtt::{BrokerFeature, BrokerLimits};

/// Bytes that a PUBLISH packet may add to its payload: topic (up to 64 KiB by the standard, about 150 bytes here) and
/// properties.
pub(super) const PACKET_OVERHEAD: usize = 1024;

/// What the broker lacks for a box whose largest message has `largest` bytes; one sentence each, with the remedy.
pub(super) fn of(limits: BrokerLimits, largest: usize) -> Vec<String> {
    let mut found = Vec::new();
    if !limits.has_qos1 {
        found.push(without(BrokerFeature::Qos1).to_owned());
    }
    if !limits.has_retain {
        found.push(without(BrokerFeature::Retain).to_owned());
    }
    if let Some(max) = limits
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

/// What is wrong with a broker that lacks what no box can do without, with the remedy.
pub(super) fn without(feature: BrokerFeature) -> &'static str {
    match feature {
        BrokerFeature::Qos1 => "it does not support QoS 1, without which messages are lost unnoticed: enable it",
        BrokerFeature::Retain => {
            "it does not keep retained messages, which the box's status, last will and claims need: enable them"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_without_limits_lacks_nothing() {
        assert_eq!(of(BrokerLimits::UNKNOWN, 16_000_000), [""; 0]);
    }

    #[test]
    fn the_largest_message_must_fit_with_its_topic() {
        let limits = BrokerLimits {
            max_packet: Some(401_024),
            ..BrokerLimits::UNKNOWN
        };
        assert_eq!(of(limits, 400_000), [""; 0]);
        let found = of(limits, 400_001);
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
            ..BrokerLimits::UNKNOWN
        };
        let found = of(limits, 1);
        assert!(
            found[0].contains("QoS 1") && found[1].contains("retained") && found[2].contains("packet"),
            "{found:?}"
        );
        assert_eq!(found.len(), 3);
    }
}
