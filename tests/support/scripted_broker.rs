//! A broker that does exactly what a test says, for what mosquitto never does on demand.
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
pub struct Scripted {
    pub port: u16,
    listener: TcpListener,
}

impl Scripted {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        Self { port, listener }
    }

    /// Waits for the next connection and takes it.
    pub async fn accept(&self, max_packet_size: Option<u32>) -> Session {
        let (stream, _) = self.listener.accept().await.expect("it listens");
        let mut session = Session {
            stream,
            read: BytesMut::new(),
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
            .say(Packet::ConnAck(ConnAck {
                session_present: false,
                code: ConnectReturnCode::Success,
                properties: Some(properties),
            }))
            .await;
        session
    }
}

/// One connection.
pub struct Session {
    stream: TcpStream,
    read: BytesMut,
}

impl Session {
    async fn packet(&mut self) -> Packet {
        loop {
            match Packet::read(&mut self.read, None) {
                Ok(packet) => return packet,
                Err(rumqttc::Error::InsufficientBytes(_)) => {}
                Err(e) => panic!("the link does not speak MQTT: {e}"),
            }
            let count = self
                .stream
                .read_buf(&mut self.read)
                .await
                .expect("the connection holds");
            assert!(count > 0, "the link closed the connection");
        }
    }

    pub async fn say(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).expect("it can be written");
        self.stream.write_all(&bytes).await.expect("the connection holds");
    }

    /// The next message from the outbox, or `None` when the link has nothing more to say and pings.
    pub async fn publish(&mut self) -> Option<Publish> {
        loop {
            match self.packet().await {
                Packet::Publish(p) if p.topic.ends_with(b"/status") => self.answer(&p, PubAckReason::Success).await,
                Packet::Publish(p) => return Some(p),
                Packet::Subscribe(s) => {
                    let answer = SubAck {
                        pkid: s.pkid,
                        return_codes: vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)],
                        properties: None,
                    };
                    self.say(Packet::SubAck(answer)).await;
                }
                Packet::PingReq => {
                    self.say(Packet::PingResp).await;
                    return None;
                }
                other => panic!("a box does not send {other:?}"),
            }
        }
    }

    pub async fn answer(&mut self, publish: &Publish, reason: PubAckReason) {
        let mut ack = PubAck::new(publish.pkid, None);
        ack.reason = reason;
        self.say(Packet::PubAck(ack)).await;
    }

    pub async fn disconnect(mut self, reason_code: DisconnectReasonCode) {
        self.say(Packet::Disconnect(Disconnect {
            reason_code,
            properties: None,
        }))
        .await;
        // Closing over unread bytes would be a reset, which may overtake what was just said.
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
    }
}
