//! The link's settings from the configuration.

use gridwatch_config::Broker;
use gridwatch_engine::NodeId;
use gridwatch_link::Settings;
use jiff::tz::TimeZone;

/// How the link of the box `node` reaches `broker`, whose messages have at most `largest_payload` bytes; times in status
/// messages are in `zone`.
pub(crate) fn link_settings(node: &NodeId, broker: &Broker, zone: &TimeZone, largest_payload: usize) -> Settings {
    Settings {
        node: node.clone(),
        host: broker.host.clone(),
        port: broker.port,
        protocol: broker.protocol,
        tls: broker.tls.clone(),
        login: broker.credentials.clone(),
        keep_alive: broker.keep_alive,
        in_flight: broker.in_flight,
        topic_prefix: broker.topic_prefix.clone(),
        session_expiry: broker.session_expiry,
        zone: zone.clone(),
        largest_payload,
        installation: None,
        receipts: broker.receipts,
        template: broker.template.clone(),
    }
}
