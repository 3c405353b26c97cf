//! Somebody on the line between the box and its broker: cuts connections, leaves them half open, holds back acknowledgements and says
//! them twice. It knows no more of MQTT than where a packet ends and which ones are PUBACKs.
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

/// The line. It ends with its value.
pub struct Meddler {
    pub port: u16,
    mood: watch::Sender<Mood>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

/// What is done to the connections that are open, and to those that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Everything goes through.
    Honest,
    /// Connections are closed as they come.
    Cut,
    /// Connections stay, and nothing goes through.
    HalfOpen,
    /// Of the broker's acknowledgements one in three is held back, and one in three said twice.
    Meddling,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Counts {
    pub connections: AtomicU64,
    pub withheld: AtomicU64,
    pub doubled: AtomicU64,
}

impl Meddler {
    pub async fn start(broker: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (mood, moods) = watch::channel(Mood::Honest);
        let counts = Arc::new(Counts::default());
        let counting = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            loop {
                let Ok((box_side, _)) = listener.accept().await else {
                    continue;
                };
                counting.connections.fetch_add(1, Ordering::Relaxed);
                // Where the broker is away, the box finds a connection that closes.
                if *moods.borrow() == Mood::Cut {
                    continue;
                }
                if let Ok(broker_side) = TcpStream::connect(("127.0.0.1", broker)).await {
                    tokio::spawn(connection(box_side, broker_side, moods.clone(), Arc::clone(&counting)));
                }
            }
        });
        Self {
            port,
            mood,
            counts,
            task,
        }
    }

    pub fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(box_side: TcpStream, broker_side: TcpStream, mood: watch::Receiver<Mood>, counts: Arc<Counts>) {
    let ((from_box, to_box), (from_broker, to_broker)) = (box_side.into_split(), broker_side.into_split());
    let mut cut = mood.clone();
    tokio::select! {
        _ = pass(from_box, to_broker, mood.clone(), None) => {}
        _ = pass(from_broker, to_box, mood, Some(counts)) => {}
        _ = cut.wait_for(|m| *m == Mood::Cut) => {}
    }
}

/// Passes on packet by packet.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mood: watch::Receiver<Mood>,
    acknowledgements: Option<Arc<Counts>>,
) -> std::io::Result<()> {
    let turn = AtomicU32::new(fastrand::u32(..3));
    loop {
        let packet = packet(&mut from).await?;
        // Half open: it waits here, and so does everything behind it.
        let Ok(now) = mood.wait_for(|m| *m != Mood::HalfOpen).await.map(|m| *m) else {
            return Ok(());
        };
        let is_puback = packet[0] & 0xf0 == PUBACK;
        match &acknowledgements {
            Some(counts) if is_puback && now == Mood::Meddling => match turn.fetch_add(1, Ordering::Relaxed) % 3 {
                0 => {
                    counts.withheld.fetch_add(1, Ordering::Relaxed);
                }
                1 => {
                    counts.doubled.fetch_add(1, Ordering::Relaxed);
                    to.write_all(&[&packet[..], &packet].concat()).await?;
                }
                _ => to.write_all(&packet).await?,
            },
            _ => to.write_all(&packet).await?,
        }
    }
}

/// One packet: a byte, its length in up to four of seven bits (MQTT 5, 2.1.4), and so many bytes.
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
