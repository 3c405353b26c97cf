//! A TCP proxy between the box and its broker that cuts connections, leaves them half open, and withholds or duplicates
//! PUBACKs.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

const PUBACK: u8 = 0x40;

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
    /// Forwards everything.
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
                    tokio::spawn(connection(box_side, broker_side, modes.clone(), Arc::clone(&counting)));
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

async fn connection(
    box_side: TcpStream,
    broker_side: TcpStream,
    mode: watch::Receiver<ProxyMode>,
    counts: Arc<Counts>,
) {
    let ((from_box, to_box), (from_broker, to_broker)) = (box_side.into_split(), broker_side.into_split());
    let mut cut = mode.clone();
    tokio::select! {
        _ = forward(from_box, to_broker, mode.clone(), None) => {}
        _ = forward(from_broker, to_box, mode, Some(counts)) => {}
        _ = cut.wait_for(|m| *m == ProxyMode::Cut) => {}
    }
}

/// Forwards packet by packet. `acknowledgements` is set for packets from the broker.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<ProxyMode>,
    acknowledgements: Option<Arc<Counts>>,
) -> std::io::Result<()> {
    let turn = AtomicU32::new(fastrand::u32(..3));
    loop {
        let packet = packet(&mut from).await?;
        // Half open: blocks this packet and all behind it.
        let Ok(now) = mode.wait_for(|m| *m != ProxyMode::HalfOpen).await.map(|m| *m) else {
            return Ok(());
        };
        let is_puback = packet[0] & 0xf0 == PUBACK;
        match &acknowledgements {
            Some(counts) if is_puback && now == ProxyMode::FaultyAcks => match turn.fetch_add(1, Ordering::Relaxed) % 3
            {
                0 => {
                    counts.withheld.fetch_add(1, Ordering::Relaxed);
                }
                1 => {
                    counts.duplicated.fetch_add(1, Ordering::Relaxed);
                    to.write_all(&[&packet[..], &packet].concat()).await?;
                }
                _ => to.write_all(&packet).await?,
            },
            _ => to.write_all(&packet).await?,
        }
    }
}

/// Reads one packet: a type byte, the remaining length as a variable byte integer (MQTT 5, 2.1.4), and that many bytes.
async fn packet(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut packet = vec![from.read_u8().await?];
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let byte = from.read_u8().await?;
        packet.push(byte);
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let head = packet.len();
    packet.resize(head + length, 0);
    from.read_exact(&mut packet[head..]).await?;
    Ok(packet)
}
