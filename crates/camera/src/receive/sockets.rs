//! The sockets of one connection to a camera: up to two TCP or TLS streams and two UDP ports, waited for together.

use std::{
    future::poll_fn,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::OnceLock,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use gridwatch_base::net;
use gridwatch_rtsp::{Client, Connection, Endpoint, UdpPeer, UdpPort};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UdpSocket, lookup_host},
    time::Sleep,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::tls;

/// Largest datagram: cameras send at most jumbo frames of 9 kB. What is longer is cut off, and so counts as damaged.
const MAX_DATAGRAM: usize = 16 << 10;
/// Bytes that may wait to be sent on one connection: a camera that does not read its requests is cut off.
const MAX_UNSENT: usize = 64 << 10;
/// Receive buffer of a UDP socket: a keyframe comes in one burst. The kernel grants less if `net.core.rmem_max` is less.
const UDP_BUFFER: usize = 1 << 20;
/// Attempts to find two neighbouring free UDP ports.
const PORT_ATTEMPTS: usize = 50;
/// Addresses of one host name that are tried.
const MAX_ADDRESSES: usize = 4;
/// A read shorter than this shows that the camera has sent everything it has.
const SHORT_READ: usize = 16 << 10;
/// Once it plays, a connection without TLS is read at these intervals, the same moments for all cameras, and taken out of
/// the reactor: what a camera sends comes in pieces of a packet, each of which would wake the thread. Reads are repeated
/// until one is short, so this does not limit the rate; it makes the time of a keyframe late by this at most.
const TICK: Duration = Duration::from_millis(40);

/// What happened.
#[derive(Debug)]
pub(super) enum Wake {
    /// Bytes are in the client's read buffer; 0: closed.
    Main(usize),
    /// Bytes of the tunnel's POST connection; 0: closed.
    Post(usize),
    /// A datagram of this length from this address.
    Datagram(UdpPort, usize, SocketAddr),
    /// The time is reached.
    Timer,
    /// Reading or writing failed.
    Failed(io::Error),
}

/// A TCP stream, encrypted or not.
enum Stream {
    Plain(TcpStream),
    /// Not in the reactor: who polls it must come back at the next tick.
    Ticked(std::net::TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What a socket outside the reactor says.
fn now_or_later(result: io::Result<usize>) -> Poll<io::Result<usize>> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// The next moment at which connections are read.
fn next_tick(now: Instant) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let since = now.saturating_duration_since(*FIRST.get_or_init(|| now));
    let into_tick = Duration::from_nanos((since.as_nanos() % TICK.as_nanos()) as u64);
    now + (TICK - into_tick)
}

impl Stream {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Self::Ticked(stream) = self {
            return now_or_later(stream.read(buffer));
        }
        let mut buffer = ReadBuf::new(buffer);
        ready!(match self {
            Self::Ticked(_) => Poll::Pending,
            Self::Plain(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, data),
            Self::Ticked(stream) => now_or_later(stream.write(data)),
            Self::Tls(stream) => {
                let mut stream = Pin::new(stream.as_mut());
                let written = ready!(stream.as_mut().poll_write(context, data))?;
                // What is encrypted waits in the stream until it is flushed.
                let _ = stream.poll_flush(context)?;
                Poll::Ready(Ok(written))
            }
        }
    }
}

/// A stream and what waits to be sent on it.
struct Open {
    stream: Stream,
    unsent: Vec<u8>,
}

impl Open {
    fn poll_send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.poll_write(context, &self.unsent) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => drop(self.unsent.drain(..written)),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }
}

struct UdpPorts {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    peer: UdpPeer,
}

/// The sockets of one connection.
pub(super) struct Sockets {
    main: Option<Open>,
    post: Option<Open>,
    udp: Option<UdpPorts>,
    /// Address of the camera.
    camera: Option<IpAddr>,
    local: Option<IpAddr>,
    datagram: Vec<u8>,
    post_data: [u8; 256],
    timer: Pin<Box<Sleep>>,
    /// When the caller wants to be woken at the latest.
    until: Instant,
    /// Reading from the main connection pauses until then.
    next_read: Option<Instant>,
}

impl Sockets {
    pub(super) fn new() -> Self {
        Self {
            main: None,
            post: None,
            udp: None,
            camera: None,
            local: None,
            datagram: Vec::new(),
            post_data: [0; 256],
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            until: Instant::now(),
            next_read: None,
        }
    }

    /// Opens a connection. `tls` is used if the endpoint is encrypted.
    pub(super) async fn connect(
        &mut self,
        connection: Connection,
        endpoint: &Endpoint,
        tls: Option<&TlsConnector>,
    ) -> io::Result<()> {
        self.disconnect(connection);
        // `camera` is what was reached before a redirect.
        let may_be_here = self
            .camera
            .is_none_or(|camera| net::is_reserved(camera) || net::is_own(camera));
        let tcp = connect_tcp(endpoint, may_be_here).await?;
        // Requests are small and wait for an answer.
        tcp.set_nodelay(true)?;
        let (camera, local) = (tcp.peer_addr()?.ip(), tcp.local_addr()?.ip());
        let stream = match (endpoint.tls, tls) {
            (false, _) => Stream::Plain(tcp),
            (true, Some(tls)) => Stream::Tls(Box::new(tls::handshake(tls, &endpoint.host, tcp).await?)),
            (true, None) => return Err(io::Error::other("TLS is not set up")),
        };
        if connection == Connection::Main {
            (self.camera, self.local) = (Some(canonical(camera)), Some(local));
            self.next_read = None;
        }
        *self.slot(connection) = Some(Open {
            stream,
            unsent: Vec::new(),
        });
        Ok(())
    }

    pub(super) fn disconnect(&mut self, connection: Connection) {
        *self.slot(connection) = None;
    }

    /// Queues bytes to be sent.
    pub(super) fn send(&mut self, connection: Connection, data: &[u8]) -> io::Result<()> {
        let Some(open) = self.slot(connection) else {
            return Ok(());
        };
        if open.unsent.len() + data.len() > MAX_UNSENT {
            return Err(io::Error::other("the camera does not read what is sent to it"));
        }
        open.unsent.extend_from_slice(data);
        Ok(())
    }

    /// Gives what is queued to the kernel as far as it takes it at once: the connection is about to be closed.
    pub(super) async fn send_last(&mut self) {
        poll_fn(|context| {
            for open in [&mut self.main, &mut self.post].into_iter().flatten() {
                // The camera may be gone.
                let _ = open.poll_send(context);
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Binds two neighbouring ports, the first an even number (RFC 3550, section 11), on the address that the camera knows.
    pub(super) fn open_udp(&mut self) -> io::Result<(u16, u16)> {
        let local = self.local.ok_or(io::ErrorKind::NotConnected)?;
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..PORT_ATTEMPTS {
            let port = fastrand::u16(10_000..32_000) * 2;
            match bind(local, port).and_then(|rtp| Ok((rtp, bind(local, port + 1)?))) {
                Ok((rtp, rtcp)) => {
                    self.datagram = vec![0; MAX_DATAGRAM];
                    self.udp = Some(UdpPorts {
                        rtp,
                        rtcp,
                        peer: UdpPeer::default(),
                    });
                    return Ok((port, port + 1));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The camera's ports. Its address is the one of the RTSP connection, whatever it claims.
    pub(super) fn set_udp_peer(&mut self, peer: UdpPeer) {
        if let Some(udp) = &mut self.udp {
            udp.peer = peer;
        }
    }

    /// Sends a datagram, if the camera's port is known. A lost one does no harm.
    pub(super) fn send_datagram(&self, port: UdpPort, data: &[u8]) {
        let (Some(udp), Some(camera)) = (&self.udp, self.camera) else {
            return;
        };
        let (socket, to) = match port {
            UdpPort::Rtp => (&udp.rtp, udp.peer.rtp),
            UdpPort::Rtcp => (&udp.rtcp, udp.peer.rtcp),
        };
        if let Some(to) = to {
            let _ = socket.try_send_to(data, (camera, to).into());
        }
    }

    /// The camera's stream plays over the main connection, which is read in ticks from now on.
    pub(super) fn read_in_ticks(&mut self) -> io::Result<()> {
        if self.udp.is_some() {
            return Ok(());
        }
        if let Some(Open { stream, unsent }) = self.main.take() {
            let stream = match stream {
                Stream::Plain(stream) => Stream::Ticked(stream.into_std()?),
                other => other,
            };
            self.main = Some(Open { stream, unsent });
        }
        Ok(())
    }

    pub(super) fn is_camera(&self, from: SocketAddr) -> bool {
        self.camera.is_some_and(|camera| camera == canonical(from.ip()))
    }

    pub(super) fn datagram(&self, len: usize) -> &[u8] {
        &self.datagram[..len]
    }

    pub(super) fn post_data(&self, len: usize) -> &[u8] {
        &self.post_data[..len]
    }

    /// Waits until something arrives or `until` is reached. Also returns whether it had to wait.
    pub(super) async fn wait(&mut self, client: &mut Client, until: Instant) -> (Wake, bool) {
        let mut has_waited = false;
        self.until = until;
        let until = self.next_read.map_or(until, |at| at.min(until));
        // Moving the timer back costs more than an early wake-up, which does no harm.
        if self.timer.is_elapsed() || tokio::time::Instant::from_std(until) < self.timer.deadline() {
            self.timer.as_mut().reset(until.into());
        }
        let wake = poll_fn(|context| {
            let polled = self.poll(client, context);
            has_waited |= polled.is_pending();
            polled
        })
        .await;
        (wake, has_waited)
    }

    fn poll(&mut self, client: &mut Client, context: &mut Context<'_>) -> Poll<Wake> {
        for open in [&mut self.main, &mut self.post].into_iter().flatten() {
            if let Err(error) = open.poll_send(context) {
                return Poll::Ready(Wake::Failed(error));
            }
        }
        if self.timer.as_mut().poll(context).is_ready() {
            self.next_read = None;
            if Instant::now() >= self.until {
                return Poll::Ready(Wake::Timer);
            }
            self.wake_at(self.until, context);
        }
        if self.next_read.is_none()
            && let Some(open) = &mut self.main
        {
            let read = open.stream.poll_read(context, client.read_buffer());
            let is_all = matches!(read, Poll::Pending | Poll::Ready(Ok(1..SHORT_READ)));
            if is_all && matches!(open.stream, Stream::Ticked(_)) {
                let at = next_tick(Instant::now());
                self.next_read = Some(at);
                if read.is_pending() {
                    self.wake_at(at.min(self.until), context);
                }
            }
            if let Poll::Ready(read) = read {
                return Poll::Ready(read.map_or_else(Wake::Failed, Wake::Main));
            }
        }
        if let Some(open) = &mut self.post
            && let Poll::Ready(read) = open.stream.poll_read(context, &mut self.post_data)
        {
            return Poll::Ready(read.map_or_else(Wake::Failed, Wake::Post));
        }
        if let Some(udp) = &self.udp {
            for (socket, port) in [(&udp.rtp, UdpPort::Rtp), (&udp.rtcp, UdpPort::Rtcp)] {
                let mut buffer = ReadBuf::new(&mut self.datagram);
                if let Poll::Ready(received) = socket.poll_recv_from(context, &mut buffer) {
                    let len = buffer.filled().len();
                    // An ICMP error of an earlier datagram; the RTSP connection tells whether the camera is there.
                    let (len, from) = received.map_or((0, SocketAddr::from(([0, 0, 0, 0], 0))), |from| (len, from));
                    return Poll::Ready(Wake::Datagram(port, len, from));
                }
            }
        }
        Poll::Pending
    }

    /// Sets the timer, and has it wake the task.
    fn wake_at(&mut self, at: Instant, context: &mut Context<'_>) {
        self.timer.as_mut().reset(at.into());
        let _ = self.timer.as_mut().poll(context);
    }

    fn slot(&mut self, connection: Connection) -> &mut Option<Open> {
        match connection {
            Connection::Main => &mut self.main,
            Connection::Post => &mut self.post,
        }
    }
}

fn bind(address: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((address, port))?;
    socket.set_nonblocking(true)?;
    // Best effort.
    let _ = SockRef::from(&socket).set_recv_buffer_size(UDP_BUFFER);
    UdpSocket::from_std(socket)
}

/// An IPv4 address that came as an IPv6 one.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Opens a TCP connection. `may_be_here`: to this box itself, or to what answers only on a link, such as a metadata service. A camera elsewhere could
/// otherwise lead the box to its own services, which trust local clients.
async fn connect_tcp(endpoint: &Endpoint, may_be_here: bool) -> io::Result<TcpStream> {
    let allowed = |address: IpAddr| match may_be_here || !(net::is_reserved(address) || net::is_own(address)) {
        true => Ok(()),
        false => Err(io::Error::other(
            "the camera redirects to this box itself, or to an address that is not one of a camera's network; correct the camera's url",
        )),
    };
    if let Ok(address) = endpoint.host.parse::<IpAddr>() {
        allowed(address)?;
        return TcpStream::connect((address, endpoint.port)).await;
    }
    let addresses: Vec<_> = {
        let found = pin!(lookup_host((endpoint.host.as_str(), endpoint.port))).await;
        found
            .map_err(|e| {
                io::Error::other(format!(
                    "cannot resolve the name: {e}; check the name and the box's DNS"
                ))
            })?
            .take(MAX_ADDRESSES)
            .collect()
    };
    let mut last = io::Error::other("the name has no address");
    for address in addresses {
        allowed(address.ip())?;
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_redirect_from_elsewhere_does_not_lead_to_the_box_itself() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let here = Endpoint {
                host: host.into(),
                port,
                tls: false,
            };
            let refused = connect_tcp(&here, false).await.unwrap_err();
            assert!(
                refused.to_string().contains("redirects to this box itself"),
                "{refused}"
            );
            assert!(connect_tcp(&here, true).await.is_ok());
        }
    }
}
