//! A browser that does nothing by itself: it keeps cookies, and sends what a test tells it, byte for byte.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use flate2::read::GzDecoder;

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the whole answer as sent.
    pub(crate) sent: usize,
}

impl Response {
    /// The answer in these bytes; chunks are joined and gzip is unpacked.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no head: {bytes:?}"));
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut response = Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
            sent: bytes.len(),
        };
        if response.header("transfer-encoding") == Some("chunked") {
            response.body = joined(&response.body);
        }
        if response.header("content-encoding") == Some("gzip") {
            let mut plain = Vec::new();
            GzDecoder::new(&response.body[..]).read_to_end(&mut plain).unwrap();
            response.body = plain;
        }
        response
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The code against forged requests in a page.
    pub(crate) fn csrf(&self) -> String {
        let text = self.text();
        let at = text
            .find("data-csrf=\"")
            .unwrap_or_else(|| panic!("no code in: {text}"))
            + 11;
        text[at..].split('"').next().unwrap().to_owned()
    }

    pub(crate) fn contains(&self, part: &str) -> bool {
        self.text().contains(part)
    }
}

fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&chunks[end + 2..end + 2 + size]);
        chunks = &chunks[end + 2 + size + 2..];
    }
    body
}

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    pub(crate) host: String,
    pub(crate) cookies: BTreeMap<String, String>,
    /// Sent with each request.
    pub(crate) headers: Vec<(String, String)>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            host: address.to_string(),
            cookies: BTreeMap::new(),
            headers: Vec::new(),
        }
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Head of a request without its end.
    pub(crate) fn head(&self, method: &str, path: &str) -> String {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.host
        );
        if !self.cookies.is_empty() {
            let pairs: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
            head += &format!("Cookie: {}\r\n", pairs.join("; "));
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Response {
        let mut request = self.head(method, path);
        if method != "GET" {
            request += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        }
        let mut stream = self.connect();
        stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        // A body that is too large may be refused before all of it was sent.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let response = Response::parse(&answer);
        self.keep_cookies(&response);
        response
    }

    /// Sends the head of a request with a body of this size, but not the body.
    pub(crate) fn announce(&self, method: &str, path: &str, kind: &str, size: u64) -> Response {
        let mut head = self.head(method, path);
        head += &format!("Content-Type: {kind}\r\nContent-Length: {size}\r\n\r\n");
        let mut stream = self.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Response::parse(&answer)
    }

    /// Posts a body in chunks until the server takes no more, up to `max` bytes; returns how many it took.
    pub(crate) fn flood(&self, path: &str, kind: &str, max: u64) -> u64 {
        let mut head = self.head("POST", path);
        head += &format!("Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut stream = self.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let mut chunk = b"100000\r\n".to_vec();
        chunk.resize(chunk.len() + 0x10_0000, b'x');
        chunk.extend_from_slice(b"\r\n");
        let mut sent = 0;
        while sent < max && stream.write_all(&chunk).is_ok() {
            sent += 0x10_0000;
        }
        sent
    }

    fn keep_cookies(&mut self, response: &Response) {
        for (_, cookie) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (pair, rest) = cookie.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if rest.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.into(), value.into());
            }
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, "", b"")
    }

    pub(crate) fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let body = form(fields);
        self.send("POST", path, "application/x-www-form-urlencoded", body.as_bytes())
    }

    pub(crate) fn log_in(&mut self, user: &str, password: &str) -> Response {
        let code = self.get("/login").csrf();
        self.post(
            "/login",
            &[("user", user), ("password", password), ("next", "/"), ("csrf", &code)],
        )
    }
}

pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields).finish()
}
