//! A TCP proxy between the box and its broker that cuts connections, leaves them half open, withholds or duplicates PUBACKs, and does to
//! single messages what `MessageFaults` says. Uses the module `message_faults`.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex as AsyncMutex, watch},
    task::JoinHandle,
};

use crate::message_faults::{Fate, MessageFaults, PublishPacket, variable_integer};

const CONNECT: u8 = 0x10;
const PUBACK: u8 = 0x40;
const SUBACK: u8 = 0x90;

/// How often late messages are looked for.
const LATE_POLL: Duration = Duration::from_millis(10);

/// The proxy; stops on drop.
pub struct FaultyProxy {
    pub port: u16,
    mode: watch::Sender<ProxyMode>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

/// How open and new connections are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// Forwards everything, except for message faults.
    Transparent,
    /// Closes connections.
    Cut,
    /// Keeps connections open without forwarding anything.
    HalfOpen,
    /// Withholds one in three of the broker's PUBACKs and duplicates one in three.
    FaultyAcks,
}

/// Faults injected so far.
#[derive(Debug, Default)]
pub struct Counts {
    pub connections: AtomicU64,
    pub withheld: AtomicU64,
    pub duplicated: AtomicU64,
}

impl FaultyProxy {
    pub async fn start(broker: u16) -> Self {
        Self::start_with(broker, None).await
    }

    /// With faults of single messages.
    pub async fn start_with(broker: u16, faults: Option<Arc<MessageFaults>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (mode, modes) = watch::channel(ProxyMode::Transparent);
        let counts = Arc::new(Counts::default());
        let counting = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            loop {
                let Ok((box_side, _)) = listener.accept().await else {
                    continue;
                };
                counting.connections.fetch_add(1, Ordering::Relaxed);
                if *modes.borrow() == ProxyMode::Cut {
                    continue;
                }
                if let Ok(broker_side) = TcpStream::connect(("127.0.0.1", broker)).await {
                    let (from_box, to_box) = box_side.into_split();
                    let (from_broker, to_broker) = broker_side.into_split();
                    let connection = ProxiedConnection {
                        to_box: AsyncMutex::new(to_box),
                        to_broker: AsyncMutex::new(to_broker),
                        mode: modes.clone(),
                        counts: Arc::clone(&counting),
                        faults: faults.clone(),
                        is_v5: AtomicBool::new(false),
                        has_subscribed: AtomicBool::new(false),
                        late: Mutex::default(),
                        swallow: Mutex::default(),
                    };
                    tokio::spawn(connection.run(from_box, from_broker));
                }
            }
        });
        Self {
            port,
            mode,
            counts,
            task,
        }
    }

    pub fn set_mode(&self, mode: ProxyMode) {
        self.mode.send_replace(mode);
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection of the box, and the one to the broker that stands for it.
struct ProxiedConnection {
    to_box: AsyncMutex<OwnedWriteHalf>,
    to_broker: AsyncMutex<OwnedWriteHalf>,
    mode: watch::Receiver<ProxyMode>,
    counts: Arc<Counts>,
    faults: Option<Arc<MessageFaults>>,
    /// The protocol, by the box's CONNECT.
    is_v5: AtomicBool,
    /// The broker has acknowledged a subscription.
    has_subscribed: AtomicBool,
    /// Packets for the box, and when they are due. The broker takes them for unacknowledged, and sends them again on the next connection.
    late: Mutex<Vec<(Instant, Vec<u8>)>>,
    /// By packet id: how many PUBACKs of the box are not forwarded, because more copies follow than the broker knows of.
    swallow: Mutex<BTreeMap<[u8; 2], u32>>,
}

impl ProxiedConnection {
    async fn run(self, from_box: OwnedReadHalf, from_broker: OwnedReadHalf) {
        let mut cut = self.mode.clone();
        tokio::select! {
            _ = self.forward_from_box(from_box) => {}
            _ = self.forward_from_broker(from_broker) => {}
            _ = self.deliver_late() => {}
            _ = cut.wait_for(|m| *m == ProxyMode::Cut) => {}
        }
    }

    /// The next packet and the mode in which it is forwarded. Half open: it waits, and all behind it.
    async fn next(&self, from: &mut OwnedReadHalf) -> io::Result<(Vec<u8>, ProxyMode)> {
        let packet = packet(from).await?;
        let mut mode = self.mode.clone();
        let now = mode.wait_for(|m| *m != ProxyMode::HalfOpen).await;
        now.map(|now| (packet, *now)).map_err(io::Error::other)
    }

    async fn forward_from_box(&self, mut from: OwnedReadHalf) -> io::Result<()> {
        loop {
            let (packet, _) = self.next(&mut from).await?;
            match packet[0] & 0xf0 {
                // The length and "MQTT" precede the protocol level.
                CONNECT => {
                    let level = variable_integer(&packet[1..]).and_then(|(_, rest)| rest.get(6));
                    self.is_v5.store(level == Some(&5), Ordering::Relaxed);
                }
                PUBACK if self.is_swallowed([packet[2], packet[3]]) => continue,
                _ => {}
            }
            if let Some(faults) = &self.faults
                && let Some(publish) = self.publish(&packet)
                && let Some(id) = publish.id
                && faults.of_box(&publish) == Fate::Dropped
            {
                self.to_box.lock().await.write_all(&puback(id)).await?;
                continue;
            }
            self.to_broker.lock().await.write_all(&packet).await?;
        }
    }

    async fn forward_from_broker(&self, mut from: OwnedReadHalf) -> io::Result<()> {
        let turn = AtomicU32::new(fastrand::u32(..3));
        loop {
            let (packet, mode) = self.next(&mut from).await?;
            match packet[0] & 0xf0 {
                PUBACK if mode == ProxyMode::FaultyAcks => match turn.fetch_add(1, Ordering::Relaxed) % 3 {
                    0 => {
                        self.counts.withheld.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    1 => {
                        self.counts.duplicated.fetch_add(1, Ordering::Relaxed);
                        self.to_box.lock().await.write_all(&packet).await?;
                    }
                    _ => {}
                },
                SUBACK => self.has_subscribed.store(true, Ordering::Relaxed),
                _ => {}
            }
            if let Some(faults) = &self.faults
                && let Some(publish) = self.publish(&packet)
                && !self.takes(faults, &publish, &packet).await?
            {
                continue;
            }
            self.to_box.lock().await.write_all(&packet).await?;
        }
    }

    /// Applies the faults to a message of the broker; returns whether it is forwarded now.
    async fn takes(&self, faults: &MessageFaults, publish: &PublishPacket<'_>, packet: &[u8]) -> io::Result<bool> {
        if publish.topic.ends_with("/v1/platform") {
            // A receipt is not late by so much that a later announcement overtakes it.
            self.deliver_due(None).await?;
        }
        let (true, Some(id)) = (publish.topic.ends_with("/receipt"), publish.id) else {
            return Ok(true);
        };
        let late = |after| {
            let mut late = self.late.lock().expect("no thread panics with it");
            late.push((Instant::now() + after, packet.to_vec()));
        };
        match faults.of_receipt(publish, self.has_subscribed.load(Ordering::Relaxed)) {
            Fate::Forwarded => return Ok(true),
            Fate::Dropped => self.to_broker.lock().await.write_all(&puback(id)).await?,
            Fate::Late(after) => late(after),
            Fate::Twice(after) => {
                *self
                    .swallow
                    .lock()
                    .expect("no thread panics with it")
                    .entry(id)
                    .or_default() += 1;
                late(after);
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn deliver_late(&self) -> io::Result<()> {
        loop {
            tokio::time::sleep(LATE_POLL).await;
            self.deliver_due(Some(Instant::now())).await?;
        }
    }

    /// Forwards the late messages that are due, or all.
    async fn deliver_due(&self, now: Option<Instant>) -> io::Result<()> {
        let due: Vec<_> = {
            let mut late = self.late.lock().expect("no thread panics with it");
            late.extract_if(.., |(due, _)| now.is_none_or(|now| *due <= now))
                .collect()
        };
        for (_, packet) in due {
            self.to_box.lock().await.write_all(&packet).await?;
        }
        Ok(())
    }

    fn publish<'a>(&self, packet: &'a [u8]) -> Option<PublishPacket<'a>> {
        PublishPacket::read(packet, self.is_v5.load(Ordering::Relaxed))
    }

    fn is_swallowed(&self, id: [u8; 2]) -> bool {
        let mut swallow = self.swallow.lock().expect("no thread panics with it");
        match swallow.get_mut(&id) {
            Some(left) if *left > 0 => *left -= 1,
            _ => return false,
        }
        true
    }
}

/// A PUBACK with success, in MQTT 5 and 3.1.1.
fn puback(id: [u8; 2]) -> [u8; 4] {
    [PUBACK, 2, id[0], id[1]]
}

/// Reads one packet: a type byte, the remaining length as a variable byte integer (MQTT 5, 2.1.4), and that many bytes.
async fn packet(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let mut packet = vec![from.read_u8().await?];
    let length = loop {
        packet.push(from.read_u8().await?);
        if let Some((length, _)) = variable_integer(&packet[1..]) {
            break length;
        }
    };
    let head = packet.len();
    packet.resize(head + length, 0);
    from.read_exact(&mut packet[head..]).await?;
    Ok(packet)
}
