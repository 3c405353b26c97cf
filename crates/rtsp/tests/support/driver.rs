//! Drives a [`Client`] over sockets of the standard library, in the calling thread.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    time::{Duration, Instant},
};

use gridwatch_rtsp::{Client, ClientSettings, Connection, Endpoint, Error, Event, Output, UdpPeer, UdpPort};

/// Longest wait for one of several sockets while the others are not read.
const TURN: Duration = Duration::from_millis(2);

#[derive(Default)]
struct Sockets {
    main: Option<TcpStream>,
    post: Option<TcpStream>,
    udp: Option<[UdpSocket; 2]>,
    peer: UdpPeer,
}

/// Runs a connection to its end. `on_event` says whether to go on; otherwise the client is closed in an orderly way.
pub(crate) fn run(settings: ClientSettings, seed: u64, mut on_event: impl FnMut(&Client, Event) -> bool) -> Error {
    let mut client = Client::new(settings, Instant::now(), seed);
    let mut sockets = Sockets::default();
    loop {
        loop {
            match client.poll() {
                Output::Idle => break,
                Output::Closed(error) => return error,
                Output::Event(event) => {
                    if !on_event(&client, event) {
                        client.close(Instant::now());
                    }
                }
                output => {
                    if let Err(error) = sockets.apply(&mut client, output) {
                        client.connection_failed(&error.to_string(), Instant::now());
                    }
                }
            }
        }
        sockets.wait(&mut client);
    }
}

impl Sockets {
    fn apply(&mut self, client: &mut Client, output: Output) -> io::Result<()> {
        match output {
            Output::Connect { connection, endpoint } => {
                *self.stream(connection) = Some(connect(&endpoint)?);
                client.connected(connection, Instant::now());
            }
            Output::Disconnect(connection) => *self.stream(connection) = None,
            Output::Send { connection, data } => {
                if let Some(stream) = self.stream(connection) {
                    // A server that went away is noticed by reading.
                    let _ = stream.write_all(&data);
                }
            }
            Output::OpenUdp => {
                let udp = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
                let port = |n: usize| udp[n].local_addr().map(|a| a.port());
                client.udp_ports_open(port(0)?, port(1)?, Instant::now());
                self.udp = Some(udp);
            }
            Output::UdpPeer(peer) => self.peer = peer,
            Output::SendDatagram { port, data } => {
                let (index, to) = match port {
                    UdpPort::Rtp => (0, self.peer.rtp),
                    UdpPort::Rtcp => (1, self.peer.rtcp),
                };
                if let (Some(udp), Some(to)) = (&self.udp, to) {
                    udp[index].send_to(&data, ("127.0.0.1", to))?;
                }
            }
            Output::Idle | Output::Event(_) | Output::Closed(_) => {}
        }
        Ok(())
    }

    fn stream(&mut self, connection: Connection) -> &mut Option<TcpStream> {
        match connection {
            Connection::Main => &mut self.main,
            Connection::Post => &mut self.post,
        }
    }

    /// Waits for bytes, a datagram or the client's timer.
    fn wait(&mut self, client: &mut Client) {
        let until = client
            .next_timeout()
            .map(|at| at.saturating_duration_since(Instant::now()));
        if until.is_some_and(|d| d.is_zero()) {
            return client.timeout(Instant::now());
        }
        let many = self.post.is_some() || self.udp.is_some();
        let limit = until
            .unwrap_or(Duration::from_secs(1))
            .min(if many { TURN } else { Duration::from_secs(1) });
        if let Some(stream) = &mut self.main {
            let _ = stream.set_read_timeout(Some(limit));
            match stream.read(client.read_buffer()) {
                Ok(len) => client.received(len, Instant::now()),
                Err(error) => unless_slow(client, &error),
            }
        }
        let mut data = [0; 2048];
        if let Some(stream) = &mut self.post {
            let _ = stream.set_read_timeout(Some(TURN));
            match stream.read(&mut data) {
                Ok(len) => client.post_received(&data[..len], Instant::now()),
                Err(error) => unless_slow(client, &error),
            }
        }
        for (socket, port) in self.udp.iter().flatten().zip([UdpPort::Rtp, UdpPort::Rtcp]) {
            let _ = socket.set_nonblocking(true);
            while let Ok((len, _)) = socket.recv_from(&mut data) {
                client.datagram(port, &data[..len], Instant::now());
            }
        }
    }
}

fn unless_slow(client: &mut Client, error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
        client.connection_failed(&error.to_string(), Instant::now());
    }
}

fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let mut addresses = (endpoint.host.as_str(), endpoint.port).to_socket_addrs()?;
    let address: SocketAddr = addresses.next().ok_or(io::ErrorKind::NotFound)?;
    TcpStream::connect_timeout(&address, Duration::from_secs(5))
}
