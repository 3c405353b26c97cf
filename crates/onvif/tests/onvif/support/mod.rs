//! A little ONVIF device: an HTTP server that answers SOAP calls from a brand's fixtures, checks the login as devices do, and misbehaves
//! on request. And a thief: a listener at another address that must never hear anything.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses what it needs")]

mod login;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
pub use login::DeviceLogin;

/// How long the device waits for a request, or for its client to read.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a device misbehaves in every answer.
#[derive(Debug, Clone, Default)]
pub enum Manner {
    #[default]
    Good,
    /// Redirects to this URL.
    Redirect(String),
    /// Sends a body without end.
    EndlessBody,
    /// Sends headers without end.
    EndlessHeaders,
    /// Sends a byte at a time, for as long as it is listened to.
    Trickle,
    /// Accepts, and says nothing.
    Silence,
    /// Closes in the middle of the body.
    CutOff,
    /// Sends this as the body of each answer.
    Body(String),
    /// Sends this as the answer to GetProfiles.
    Profiles(String),
}

/// A device to start.
#[derive(Debug, Clone)]
pub struct DeviceScript {
    /// Folder of the fixtures.
    pub brand: &'static str,
    pub login: DeviceLogin,
    pub user: &'static str,
    pub password: &'static str,
    /// Its clock minus this machine's.
    pub clock: SignedDuration,
    /// `HOST:PORT` of its streams.
    pub rtsp: String,
    /// What it names as its own address, if that is wrong.
    pub named_host: Option<String>,
    /// Paths of the streams by profile token; without one, the token is the path.
    pub paths: BTreeMap<&'static str, &'static str>,
    pub manner: Manner,
}

impl DeviceScript {
    pub fn new(brand: &'static str, login: DeviceLogin) -> Self {
        Self {
            brand,
            login,
            user: "admin",
            password: "a-Secret:word&1",
            clock: SignedDuration::ZERO,
            rtsp: "127.0.0.1:554".into(),
            named_host: None,
            paths: BTreeMap::new(),
            manner: Manner::Good,
        }
    }
}

/// A call that came in.
#[derive(Debug, Clone)]
pub struct SeenCall {
    pub operation: String,
    /// `none`, `http digest`, `http basic` or `token`.
    pub login: &'static str,
    pub is_accepted: bool,
    /// All of the request.
    pub text: String,
}

/// A running device; stops on drop.
pub struct OnvifDevice {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    calls: Arc<Mutex<Vec<SeenCall>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl OnvifDevice {
    pub fn start(script: DeviceScript) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new((script, address, Arc::clone(&calls), Arc::clone(&stop)));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    // Ends with an error when the client disconnects.
                    thread::spawn(move || {
                        stream.and_then(|stream| serve(stream, &shared.0, shared.1, &shared.2, &shared.3))
                    });
                }
            }
        });
        Self {
            address,
            stop,
            calls,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/onvif/device_service", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn calls(&self) -> Vec<SeenCall> {
        self.calls.lock().unwrap().clone()
    }
}

impl Drop for OnvifDevice {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: TcpStream,
    script: &DeviceScript,
    own: SocketAddr,
    calls: &Mutex<Vec<SeenCall>>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)))
            .map(|(_, value)| value.trim().to_owned())
    };
    let length = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let content = body.split_once("<s:Body><").map(|(_, rest)| rest).unwrap_or_default();
    let operation: String = content.chars().take_while(|c| c.is_alphanumeric()).collect();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let (login, is_accepted) = match operation.as_str() {
        // Before any login (ONVIF Core 5.9.4.5).
        "GetSystemDateAndTime" => ("none", true),
        _ => script
            .login
            .check(script, &target, header("authorization").as_deref(), &body),
    };
    calls.lock().unwrap().push(SeenCall {
        operation: operation.clone(),
        login,
        is_accepted,
        text: format!("{head}{body}"),
    });
    if misbehave(&mut out, script, &operation, stop)? {
        return Ok(());
    }
    if !is_accepted {
        return script.login.refuse(&mut out);
    }
    let is_2 = content.contains("ver20/media");
    let token = content.split_once("<ProfileToken>").map(|(_, rest)| rest);
    let token = token
        .and_then(|rest| rest.split_once('<'))
        .map_or("", |(token, _)| token);
    match fixture(script, own, &operation, is_2, token) {
        Some(answer) => respond(&mut out, 200, "", &answer),
        None => respond(
            &mut out,
            500,
            "",
            &fault(
                "s:Receiver",
                "ter:ActionNotSupported",
                "Optional Action Not Implemented",
            ),
        ),
    }
}

/// Whether that was the answer.
fn misbehave(out: &mut TcpStream, script: &DeviceScript, operation: &str, stop: &AtomicBool) -> std::io::Result<bool> {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\n";
    match &script.manner {
        Manner::Good => return Ok(false),
        Manner::Redirect(to) => respond(out, 302, &format!("Location: {to}\r\n"), "")?,
        Manner::Silence => {
            // Until the client gives up.
            let _ = out.read(&mut [0; 16]);
        }
        Manner::EndlessBody => {
            write!(out, "{HEAD}Transfer-Encoding: chunked\r\n\r\n")?;
            while !stop.load(Ordering::Relaxed) {
                write!(out, "2000\r\n{}\r\n", " ".repeat(0x2000))?;
            }
        }
        Manner::EndlessHeaders => {
            write!(out, "{HEAD}")?;
            while !stop.load(Ordering::Relaxed) {
                write!(out, "X-Padding: {}\r\n", "x".repeat(512))?;
            }
        }
        Manner::Trickle => {
            write!(out, "{HEAD}Content-Length: 1000000\r\n\r\n")?;
            while !stop.load(Ordering::Relaxed) {
                out.write_all(b" ")?;
                thread::sleep(Duration::from_millis(20));
            }
        }
        Manner::CutOff => write!(out, "{HEAD}Content-Length: 5000\r\n\r\n<Envelope><Body>")?,
        Manner::Body(body) => respond(out, 200, "", body)?,
        Manner::Profiles(body) if operation == "GetProfiles" => respond(out, 200, "", body)?,
        Manner::Profiles(_) => return Ok(false),
    }
    Ok(true)
}

fn respond(out: &mut TcpStream, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    write!(
        out,
        "HTTP/1.1 {status} Status\r\nContent-Type: application/soap+xml; charset=utf-8\r\n{headers}Content-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

pub fn fault(code: &str, subcode: &str, reason: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" xmlns:ter=\"http://www.onvif.org/ver10/error\"><s:Body><s:Fault>\
         <s:Code><s:Value>{code}</s:Value><s:Subcode><s:Value>{subcode}</s:Value></s:Subcode></s:Code>\
         <s:Reason><s:Text xml:lang=\"en\">{reason}</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>"
    )
}

fn fixture(script: &DeviceScript, own: SocketAddr, operation: &str, is_2: bool, token: &str) -> Option<String> {
    let suffix = if is_2 { ".2" } else { "" };
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    // From this crate, or from the tests of the whole program.
    let root = ["tests/onvif/fixtures", "crates/onvif/tests/onvif/fixtures"]
        .map(|path| format!("{dir}{path}"))
        .into_iter()
        .find(|path| std::path::Path::new(path).is_dir())
        .unwrap();
    let text = std::fs::read_to_string(format!("{root}/{}/{operation}{suffix}.xml", script.brand)).ok()?;
    let time = (Timestamp::now() + script.clock).to_zoned(TimeZone::UTC);
    let named = script.named_host.clone().unwrap_or_else(|| own.to_string());
    let path = script.paths.get(token).copied().unwrap_or(token);
    let values = [
        ("@YEAR@", time.year().to_string()),
        ("@MONTH@", time.month().to_string()),
        ("@DAY@", time.day().to_string()),
        ("@HOUR@", time.hour().to_string()),
        ("@MINUTE@", time.minute().to_string()),
        ("@SECOND@", time.second().to_string()),
        ("@HOST@", named),
        ("@PASSWORD@", "other-password".to_owned()),
        (
            "@RTSP_PORT@",
            script.rtsp.rsplit(':').next().unwrap_or_default().to_owned(),
        ),
        ("@RTSP@", script.rtsp.clone()),
        ("@TOKEN@", path.to_owned()),
    ];
    Some(
        values
            .iter()
            .fold(text, |text, (name, value)| text.replace(name, value)),
    )
}

/// A listener at another host, which counts who comes.
pub struct Thief {
    pub address: SocketAddr,
    visits: Arc<AtomicUsize>,
}

impl Thief {
    /// 127.0.0.2 is another host than 127.0.0.1, and on every Linux machine.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let address = listener.local_addr().unwrap();
        let visits = Arc::new(AtomicUsize::new(0));
        thread::spawn({
            let visits = Arc::clone(&visits);
            // Until the test's process ends.
            move || {
                for _ in listener.incoming() {
                    visits.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { address, visits }
    }

    pub fn visits(&self) -> usize {
        // A visit that waits to be accepted is in the queue before this one.
        let _own = TcpStream::connect(self.address).unwrap();
        let began = std::time::Instant::now();
        while self.visits.load(Ordering::Relaxed) == 0 {
            assert!(began.elapsed() < PATIENCE, "the listener hangs");
            thread::yield_now();
        }
        self.visits.swap(0, Ordering::Relaxed) - 1
    }
}
