//! A camera that sends Motion JPEG over HTTP: parts of a `multipart/x-mixed-replace` response (RFC 2046) without end, as cameras send them.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How the camera answers.
#[derive(Debug, Clone)]
pub struct Multipart {
    /// The boundary in the header.
    pub boundary: &'static str,
    /// The line between two pictures. RFC 2046 wants the boundary after two dashes; cameras differ.
    pub delimiter: &'static str,
    /// Each part tells its length.
    pub has_length: bool,
    pub pictures_per_second: u32,
}

/// A running camera; stops on drop.
pub struct HttpCamera {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpCamera {
    /// Sends `jpeg` as every picture.
    pub fn start(jpeg: Vec<u8>, multipart: Multipart) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut clients = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            let (jpeg, multipart, stop) = (jpeg.clone(), multipart.clone(), Arc::clone(&stop));
                            // Ends with an error when the client disconnects.
                            clients.push(std::thread::spawn(move || {
                                drop(serve(stream, &jpeg, &multipart, &stop))
                            }));
                        }
                        Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
                        Err(e) => panic!("accept: {e}"),
                    }
                }
                for client in clients {
                    let _ = client.join();
                }
            }
        });
        Self {
            port,
            stop,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/video.cgi?channel=1", self.port)
    }
}

impl Drop for HttpCamera {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, jpeg: &[u8], multipart: &Multipart, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut out = stream.try_clone()?;
    let mut request = BufReader::new(stream);
    let mut line = String::new();
    request.read_line(&mut line)?;
    if !line.starts_with("GET /video.cgi?channel=1 ") {
        return out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    while !line.trim_end().is_empty() {
        line.clear();
        request.read_line(&mut line)?;
    }
    write!(
        out,
        "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary={}\r\nCache-Control: no-cache\r\n\r\n",
        multipart.boundary
    )?;
    while !stop.load(Ordering::Relaxed) {
        write!(out, "{}\r\nContent-Type: image/jpeg\r\n", multipart.delimiter)?;
        if multipart.has_length {
            write!(out, "Content-Length: {}\r\n", jpeg.len())?;
        }
        out.write_all(b"\r\n")?;
        out.write_all(jpeg)?;
        out.write_all(b"\r\n")?;
        std::thread::sleep(Duration::from_secs(1) / multipart.pictures_per_second);
    }
    Ok(())
}
