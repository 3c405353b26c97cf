//! Entry points for fuzzing what devices send. Each takes arbitrary bytes and must neither panic nor grow beyond the named limits. Not
//! part of the crate's interface.

use std::net::IpAddr;

use crate::{
    device, discovery,
    soap::Fault,
    xml::{Element, MAX_ELEMENTS},
};

/// A datagram that answers a probe.
pub fn discovery(data: &[u8]) {
    let id = "urn:uuid:1".to_owned();
    for found in discovery::probe_matches(data, IpAddr::from([192, 0, 2, 1]), &[id]) {
        for text in [found.name, found.hardware, found.location, Some(found.endpoint)]
            .into_iter()
            .flatten()
        {
            assert!(!text.contains(char::is_control), "a control character is shown");
        }
    }
}

/// The body of an HTTP answer.
pub fn answer(data: &[u8]) {
    let Ok(envelope) = Element::parse(data) else {
        return;
    };
    assert!(count(&envelope) <= MAX_ELEMENTS, "more elements than the limit");
    let body = envelope.at(&["Body"]).unwrap_or(&envelope);
    let _ = Fault::of(body).map(|fault| fault.is_about_login());
    device::fuzz(body);
    if let Some(content) = body.children().first() {
        device::fuzz(content);
    }
}

fn count(element: &Element) -> usize {
    1 + element.children().iter().map(count).sum::<usize>()
}
