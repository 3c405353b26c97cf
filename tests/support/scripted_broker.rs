//! A broker scripted by the test, for what mosquitto does not do on demand. MQTT 5.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use bytes::BytesMut;
use rumqttc::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Packet, PubAck, PubAckReason,
    Publish, QoS, SubAck, SubscribeReasonCode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Listens on a free port.
pub struct ScriptedBroker {
    pub port: u16,
    listener: TcpListener,
}

impl ScriptedBroker {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        Self { port, listener }
    }

    /// Accepts the next connection, without a session.
    pub async fn accept(&self, max_packet_size: Option<u32>) -> ScriptedSession {
        let (stream, _) = self.listener.accept().await.expect("it listens");
        let mut session = ScriptedSession {
            stream,
            read: BytesMut::new(),
            granted: QoS::AtLeastOnce,
            denies_subscriptions: false,
        };
        let connect = session.packet().await;
        assert!(matches!(connect, Packet::Connect(..)), "{connect:?}");
        let properties = ConnAckProperties {
            session_expiry_interval: None,
            receive_max: None,
            max_qos: None,
            retain_available: None,
            max_packet_size,
            assigned_client_identifier: None,
            topic_alias_max: None,
            reason_string: None,
            user_properties: Vec::new(),
            wildcard_subscription_available: None,
            subscription_identifiers_available: None,
            shared_subscription_available: None,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        };
        session
            .send(Packet::ConnAck(ConnAck {
                session_present: false,
                code: ConnectReturnCode::Success,
                properties: Some(properties),
            }))
            .await;
        session
    }
}

/// One accepted connection.
pub struct ScriptedSession {
    stream: TcpStream,
    read: BytesMut,
    /// The QoS that subscriptions get.
    pub granted: QoS,
    /// Denies every subscription.
    pub denies_subscriptions: bool,
}

impl ScriptedSession {
    async fn packet(&mut self) -> Packet {
        loop {
            match Packet::read(&mut self.read, None) {
                Ok(packet) => return packet,
                Err(rumqttc::Error::InsufficientBytes(_)) => {}
                Err(e) => panic!("invalid packet from the link: {e}"),
            }
            let count = self
                .stream
                .read_buf(&mut self.read)
                .await
                .expect("the connection holds");
            assert!(count > 0, "the link closed the connection");
        }
    }

    async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).expect("it can be written");
        self.stream.write_all(&bytes).await.expect("the connection holds");
    }

    /// The next message from the outbox; `None` once the link has nothing more to send and pings.
    pub async fn next_publish(&mut self) -> Option<Publish> {
        loop {
            match self.packet().await {
                Packet::Publish(p) if p.topic.ends_with(b"/status") => {
                    self.acknowledge(&p, PubAckReason::Success).await
                }
                Packet::Publish(p) => return Some(p),
                Packet::Subscribe(s) => self.grant(s.pkid, s.filters.len()).await,
                Packet::PingReq => {
                    self.send(Packet::PingResp).await;
                    return None;
                }
                other => panic!("unexpected packet: {other:?}"),
            }
        }
    }

    async fn grant(&mut self, pkid: u16, filters: usize) {
        let code = match self.denies_subscriptions {
            true => SubscribeReasonCode::NotAuthorized,
            false => SubscribeReasonCode::Success(self.granted),
        };
        let answer = SubAck {
            pkid,
            return_codes: vec![code; filters],
            properties: None,
        };
        self.send(Packet::SubAck(answer)).await;
    }

    /// Answers until the link disconnects.
    pub async fn until_disconnected(&mut self) {
        loop {
            match self.packet().await {
                Packet::Publish(p) if p.topic.ends_with(b"/status") => {
                    self.acknowledge(&p, PubAckReason::Success).await;
                }
                Packet::Subscribe(s) => self.grant(s.pkid, s.filters.len()).await,
                Packet::PingReq => self.send(Packet::PingResp).await,
                Packet::Disconnect(_) => return,
                other => panic!("unexpected packet: {other:?}"),
            }
        }
    }

    pub async fn acknowledge(&mut self, publish: &Publish, reason: PubAckReason) {
        let mut ack = PubAck::new(publish.pkid, None);
        ack.reason = reason;
        self.send(Packet::PubAck(ack)).await;
    }

    pub async fn disconnect(mut self, reason_code: DisconnectReasonCode) {
        self.send(Packet::Disconnect(Disconnect {
            reason_code,
            properties: None,
        }))
        .await;
        // Closing with unread bytes sends a reset, which may overtake the packet.
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
    }
}
