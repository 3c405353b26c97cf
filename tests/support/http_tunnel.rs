//! A web server in front of an RTSP camera that carries RTSP through HTTP, as Apple's specification of 1999 and cameras have it: the answer to a GET request is
//! what the camera sends, and the body of a POST request with the same cookie is what it is sent, in base64.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD};

/// A running tunnel. Its threads end with the connections.
pub struct HttpTunnel {
    port: u16,
    opened: Arc<AtomicU32>,
}

/// Connections to the camera, by cookie.
type Waiting = Mutex<BTreeMap<String, TcpStream>>;

impl HttpTunnel {
    /// Starts a tunnel to the camera on this port.
    pub fn to(camera: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (opened, waiting) = (Arc::<AtomicU32>::default(), Arc::<Waiting>::default());
        std::thread::spawn({
            let opened = Arc::clone(&opened);
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let (opened, waiting) = (Arc::clone(&opened), Arc::clone(&waiting));
                    // Ends with an error when one side disconnects.
                    std::thread::spawn(move || drop(serve(stream, camera, &waiting, &opened)));
                }
            }
        });
        Self { port, opened }
    }

    /// An RTSP URL whose connections go through the tunnel with `transport = "http"`.
    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }

    /// Tunnels of which both connections were opened.
    pub fn opened(&self) -> u32 {
        self.opened.load(Ordering::Relaxed)
    }
}

fn serve(stream: TcpStream, camera: u16, waiting: &Waiting, opened: &AtomicU32) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut request = BufReader::new(stream);
    let (mut method, mut cookie) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        request.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if method.is_empty() {
            method = line.split(' ').next().unwrap_or_default().to_owned();
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("x-sessioncookie")
        {
            cookie = value.trim().to_owned();
        }
    }
    match method.as_str() {
        "GET" => {
            let mut camera = TcpStream::connect(("127.0.0.1", camera))?;
            waiting.lock().unwrap().insert(cookie, camera.try_clone()?);
            out.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/x-rtsp-tunnelled\r\n\r\n")?;
            std::io::copy(&mut camera, &mut out)?;
        }
        "POST" => {
            let camera = waiting.lock().unwrap().remove(&cookie);
            let mut camera = camera.ok_or(std::io::ErrorKind::NotFound)?;
            opened.fetch_add(1, Ordering::Relaxed);
            let mut four = [0; 4];
            // A request may end with padding, and the next one begin behind it.
            while request.read_exact(&mut four).is_ok() {
                camera.write_all(&BASE64_STANDARD.decode(four).map_err(std::io::Error::other)?)?;
            }
        }
        _ => out.write_all(b"HTTP/1.0 405 Method Not Allowed\r\n\r\n")?,
    }
    Ok(())
}
