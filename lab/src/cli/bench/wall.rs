//! Does to the daemon what a browser does that shows the console's wall: opens the page, listens for changes, and loads each new picture.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Longest wait for a response, and between two events: the console sends something every 20 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a page loads by itself, in the markup of the page or of an event.
const PICTURE: &str = "src=\"";

/// An open wall; closed on drop.
pub(super) struct OpenWall {
    events: TcpStream,
    pictures: Arc<AtomicU64>,
    reader: Option<JoinHandle<io::Result<()>>>,
}

impl OpenWall {
    /// Opens the wall of the console on `port`, with all its pictures, and loads those that change from then on.
    ///
    /// # Errors
    /// If the console does not answer, or its page has no pictures or no events.
    pub(super) fn open(port: u16) -> io::Result<Self> {
        let page = get(port, "/")?;
        let page = String::from_utf8_lossy(&page).into_owned();
        let without = |what| io::Error::new(io::ErrorKind::InvalidData, format!("the console's wall has no {what}"));
        let events = attribute(&page, "sse-connect=\"").ok_or_else(|| without("events"))?;
        let events = request(port, events)?;
        let pictures = Arc::new(AtomicU64::new(0));
        load_pictures(port, &page, &pictures)?;
        if pictures.load(Ordering::Relaxed) == 0 {
            return Err(without("pictures"));
        }
        let (stream, loaded) = (events.try_clone()?, Arc::clone(&pictures));
        let reader = std::thread::Builder::new()
            .name("wall".to_owned())
            .spawn(move || follow(port, stream, &loaded))?;
        Ok(Self {
            events,
            pictures,
            reader: Some(reader),
        })
    }

    /// Pictures loaded so far.
    pub(super) fn pictures(&self) -> u64 {
        self.pictures.load(Ordering::Relaxed)
    }

    /// Closes the wall.
    ///
    /// # Errors
    /// If events or a picture could not be read while it was open.
    pub(super) fn close(mut self) -> io::Result<()> {
        // Ends the reader, which takes it for the end of the stream.
        let _ = self.events.shutdown(Shutdown::Both);
        match self.reader.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Ok(()),
        }
    }
}

impl Drop for OpenWall {
    fn drop(&mut self) {
        let _ = self.events.shutdown(Shutdown::Both);
    }
}

/// Reads events until the stream ends. A picture whose markup lies across two reads is loaded with the second.
fn follow(port: u16, mut events: TcpStream, pictures: &AtomicU64) -> io::Result<()> {
    let (mut text, mut buffer) = (String::new(), vec![0; 64 * 1024]);
    loop {
        let n = events.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        if let Some(whole) = text.rfind('\n') {
            load_pictures(port, &text[..whole], pictures)?;
            text.drain(..=whole);
        }
    }
}

fn load_pictures(port: u16, markup: &str, pictures: &AtomicU64) -> io::Result<()> {
    for (at, _) in markup.match_indices(PICTURE) {
        if let Some(path) = attribute(&markup[at..], PICTURE).filter(|path| path.contains("/thumbnail")) {
            get(port, path)?;
            pictures.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// The value of the first attribute that starts with `name="`.
fn attribute<'a>(markup: &'a str, name: &str) -> Option<&'a str> {
    markup.split_once(name)?.1.split('"').next()
}

fn get(port: u16, path: &str) -> io::Result<Vec<u8>> {
    let mut response = Vec::new();
    request(port, path)?.read_to_end(&mut response)?;
    match response.starts_with(b"HTTP/1.0 200") {
        true => Ok(response),
        false => Err(io::Error::other(format!(
            "GET {path}: {}",
            String::from_utf8_lossy(response.split(|b| *b == b'\r').next().unwrap_or_default())
        ))),
    }
}

/// HTTP/1.0: the response ends with the connection and is never chunked. A browser keeps its connections, which costs the daemon less.
fn request(port: u16, path: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let path = path.replace("&amp;", "&");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n")?;
    Ok(stream)
}
