//! WS-Discovery over loopback: by unicast and by multicast, with devices that answer well, wrongly and far too often.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    thread,
    time::Duration,
};

use gridwatch_onvif::discovery::{Discovery, DiscoverySettings, GROUP, Interface, MAX_DEVICES, discover};

/// Answers every probe with what `answer` makes of its message id, until the test's process ends.
fn responder(socket: UdpSocket, answer: impl Fn(&str) -> Vec<String> + Send + 'static) {
    thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let probe = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let id = probe
                .split_once("MessageID>")
                .and_then(|(_, rest)| rest.split_once('<'));
            for text in answer(id.unwrap().0) {
                let _ = socket.send_to(text.as_bytes(), from);
            }
        }
    });
}

fn answer(id: &str, endpoint: &str, address: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><SOAP-ENV:Envelope xmlns:SOAP-ENV=\"http://www.w3.org/2003/05/soap-envelope\"><SOAP-ENV:Header>\
         <wsa:MessageID>uuid:1</wsa:MessageID><wsa:RelatesTo>{id}</wsa:RelatesTo></SOAP-ENV:Header><SOAP-ENV:Body><d:ProbeMatches>\
         <d:ProbeMatch><wsa:EndpointReference><wsa:Address>{endpoint}</wsa:Address></wsa:EndpointReference>\
         <d:Types>dn:NetworkVideoTransmitter</d:Types><d:Scopes>onvif://www.onvif.org/hardware/IPC onvif://www.onvif.org/name/Dahua\
         </d:Scopes><d:XAddrs>{address}</d:XAddrs><d:MetadataVersion>1</d:MetadataVersion></d:ProbeMatch></d:ProbeMatches>\
         </SOAP-ENV:Body></SOAP-ENV:Envelope>"
    )
}

fn unicast() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn search(hosts: Vec<SocketAddr>) -> Discovery {
    let settings = DiscoverySettings {
        interfaces: Vec::new(),
        group: GROUP,
        hosts,
        wait: Duration::from_millis(1_500),
    };
    discover(&settings).await
}

#[tokio::test]
async fn a_device_is_found_once_however_often_it_answers() {
    let (socket, address) = unicast();
    responder(socket, |id| {
        let url = "http://127.0.0.1:8080/onvif/device_service http://192.0.2.7/onvif/device_service";
        vec![answer(id, "urn:uuid:cam", url); 3]
    });
    let found = search(vec![address]).await;
    assert_eq!(found.devices.len(), 1, "{found:?}");
    let device = &found.devices[0];
    assert_eq!(
        device.address.as_ref().unwrap().as_str(),
        "http://127.0.0.1:8080/onvif/device_service"
    );
    assert_eq!(device.elsewhere[0].host_str(), Some("192.0.2.7"));
    assert_eq!(
        (device.name.as_deref(), device.hardware.as_deref()),
        (Some("Dahua"), Some("IPC"))
    );
    assert_eq!((found.is_cut_off, found.ignored), (false, 0));
}

#[tokio::test]
async fn devices_are_found_by_multicast() {
    let lo = Ipv4Addr::LOCALHOST;
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.join_multicast_v4(GROUP.ip(), &lo).unwrap();
    let port = socket.local_addr().unwrap().port();
    responder(socket, |id| {
        vec![answer(id, "urn:uuid:cam", "http://127.0.0.1/onvif/device_service")]
    });
    let settings = DiscoverySettings {
        interfaces: vec![Interface {
            name: "lo".into(),
            address: lo,
        }],
        // A port of its own: tests run beside each other.
        group: SocketAddrV4::new(*GROUP.ip(), port),
        hosts: Vec::new(),
        wait: Duration::from_millis(1_500),
    };
    let found = discover(&settings).await;
    assert_eq!(found.devices.len(), 1, "{found:?}");
}

#[tokio::test]
async fn ten_thousand_devices_are_cut_off() {
    let (socket, address) = unicast();
    responder(socket, |id| {
        (0..10_000)
            .map(|n| answer(id, &format!("urn:uuid:{n}"), "http://127.0.0.1/onvif/device_service"))
            .collect()
    });
    let found = search(vec![address]).await;
    assert_eq!((found.devices.len(), found.is_cut_off), (MAX_DEVICES, true));
}

#[tokio::test]
async fn what_is_no_answer_to_this_search_is_counted_and_ignored() {
    let (socket, address) = unicast();
    responder(socket, |id| {
        vec![
            "not XML".into(),
            answer("urn:uuid:another-search", "urn:uuid:x", "http://127.0.0.1/x"),
            "<!DOCTYPE a [<!ENTITY b \"b\">]>".to_owned() + &answer(id, "urn:uuid:bomb", "http://127.0.0.1/x"),
            "<a>".repeat(5_000),
            answer(id, "urn:uuid:cam", "file:///etc/passwd"),
        ]
    });
    let found = search(vec![address]).await;
    assert_eq!(found.devices.len(), 1, "{found:?}");
    assert_eq!(found.devices[0].address, None);
    assert!(found.ignored >= 4, "{found:?}");
}

#[tokio::test]
async fn an_address_that_cannot_be_asked_is_named() {
    let settings = DiscoverySettings {
        interfaces: vec![Interface {
            name: "gone0".into(),
            // Of RFC 5737, and so of no interface.
            address: Ipv4Addr::new(192, 0, 2, 1),
        }],
        group: GROUP,
        hosts: Vec::new(),
        wait: Duration::from_millis(200),
    };
    let found = discover(&settings).await;
    assert!(found.faults[0].contains("gone0 (192.0.2.1)"), "{found:?}");
}
