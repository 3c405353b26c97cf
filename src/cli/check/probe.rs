//! Network checks: connects to the broker and all cameras concurrently, each with its own timeout.

use std::{io, path::Path, time::Duration};

use futures::{StreamExt, stream};
use jiff::tz::TimeZone;
use retina::client::{Session, SessionOptions};
use tokio::time::timeout;
use url::Url;

use super::{CheckRow, CheckState};
use gridwatch_base::installation::Installation;
use gridwatch_config::{Broker, Camera, Draft};
use gridwatch_link as link;

/// Cameras probed concurrently: enough to finish 200 unreachable cameras within a minute, few enough not to look like a
/// port scan.
const CONCURRENCY: usize = 16;

/// RTSP's default port (RFC 7826 §4.2).
const RTSP_PORT: u16 = 554;

/// A skipped row for the broker and each camera.
pub(super) fn skipped(draft: &Draft) -> Vec<CheckRow> {
    let broker = draft.broker.iter().map(|_| "broker".to_owned());
    let cameras = draft.cameras.iter().map(|c| format!("camera {}", c.id));
    broker
        .chain(cameras)
        .map(|what| CheckRow::new(what, CheckState::Skipped, "not contacted (--offline)"))
        .collect()
}

/// Probes the broker, where it also looks for another box with this node id, and every camera, in the configuration's order. What has a faulty setting is not contacted: the
/// default in its place could send a password unencrypted.
pub(super) async fn rows(draft: &Draft, limit: Duration) -> Vec<CheckRow> {
    let broker = async {
        match (&draft.broker, &draft.node) {
            (Some(at), Some(node)) => {
                let settings = crate::broker::link_settings(node, at, &TimeZone::UTC, draft.max_picture_bytes());
                let row = broker(at, settings.clone(), limit).await;
                // Of a broker that cannot be used, there is nothing more to say.
                let duplicate = match &draft.state_dir {
                    Some(state_dir) if row.state == CheckState::Ok => duplicate(settings, state_dir, limit).await,
                    _ => None,
                };
                std::iter::once(row).chain(duplicate).collect()
            }
            (None, _) => vec![not_contacted("broker", "[broker]")],
            (_, None) => vec![not_contacted("broker", "node.id")],
        }
    };
    let cameras = stream::iter(&draft.cameras)
        .map(async |c| match draft.connection_faults.contains_key(&c.id) {
            true => not_contacted(format!("camera {}", c.id), "its connection"),
            false => camera(c, limit).await,
        })
        .buffered(CONCURRENCY)
        .collect::<Vec<_>>();
    let (broker, cameras) = futures::join!(broker, cameras);
    let broker: Vec<CheckRow> = broker;
    broker.into_iter().chain(cameras).collect()
}

fn not_contacted(what: impl Into<String>, faulty: &str) -> CheckRow {
    let message = format!("not contacted: {faulty} is faulty, see above");
    CheckRow::new(what, CheckState::Skipped, message)
}

/// A warning if another installation is online under this node id: the daemon would publish nothing.
async fn duplicate(settings: link::Settings, state_dir: &Path, limit: Duration) -> Option<CheckRow> {
    const WHAT: &str = "node.id";
    let installation = match Installation::without_writing(state_dir) {
        Ok(installation) => Some(installation),
        Err(e) => {
            let message = format!(
                "not searched for another box with this id: {}: cannot read the installation's identity: {e}",
                state_dir.display()
            );
            let row = CheckRow::new(WHAT, CheckState::Skipped, message);
            return Some(row.remedy("run this as the user of the daemon"));
        }
    };
    let settings = link::Settings {
        installation,
        ..settings
    };
    // What the broker's row did not report is no reason for another one.
    let conflict = timeout(limit, link::find_duplicate(settings)).await.ok()?.ok()??;
    let row = CheckRow::new(WHAT, CheckState::Warning, conflict);
    Some(row.remedy("until then the daemon that starts later publishes no case"))
}

async fn broker(broker: &Broker, settings: link::Settings, limit: Duration) -> CheckRow {
    const WHAT: &str = "broker";
    let name = format!("{}:{}", broker.host, broker.port);
    match timeout(limit, link::probe(settings)).await {
        Ok(Ok(())) => {
            let how = if broker.tls.is_some() { "TLS" } else { "plain TCP" };
            CheckRow::ok(
                WHAT,
                format!("{name} accepts this box (MQTT {}, {how})", broker.protocol.as_str()),
            )
        }
        Ok(Err(link::LinkError::Unsuitable { host, port, reasons })) => CheckRow::wrong(
            WHAT,
            format!("{host}:{port} cannot serve this box: {}", reasons.join("; ")),
            "change the broker's settings, or use another broker; see docs/contract.md, \"Setting up the broker\"",
        ),
        Ok(Err(e)) => {
            let message = match e {
                link::LinkError::Refused { host, port, reason } => format!("{host}:{port}: {reason}"),
                other => other.to_string(),
            };
            CheckRow::wrong(
                WHAT,
                message,
                "check that the broker is running, and url, protocol, ca_file, client and credentials in [broker]",
            )
        }
        Err(_) => CheckRow::wrong(
            WHAT,
            format!("{name} did not answer within {limit:?}"),
            "check the address, the network and its firewalls; a TLS broker needs mqtts://",
        ),
    }
}

async fn camera(camera: &Camera, limit: Duration) -> CheckRow {
    let what = format!("camera {}", camera.id);
    let scheme = camera.url.scheme();
    match scheme {
        "file" => return CheckRow::ok(what, "the file exists; it is opened when the daemon runs"),
        "udp" => {
            return CheckRow::new(
                what,
                CheckState::Skipped,
                "a UDP source cannot be probed; it is received when the daemon runs",
            );
        }
        _ => {}
    }
    let (host, port) = (camera.url.host_str().unwrap_or_default(), port(&camera.url));
    // Do not show the whole URL: many cameras carry keys in their paths.
    let name = format!("{host}:{port}");
    // Connect over plain TCP first: retina does not report why a connection failed.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match timeout(limit, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Ok(_)) if scheme == "rtsp" => describe(camera, what, &name, limit).await,
        Ok(Ok(_)) => CheckRow::ok(
            what,
            format!("{name} accepts connections; its stream is opened when the daemon runs"),
        ),
        Ok(Err(e)) => connect_failed(what, &name, &e),
        Err(_) => timed_out(what, &name, limit),
    }
}

fn port(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(match url.scheme() {
        "rtsps" => 322,
        "rtmp" => 1935,
        _ => RTSP_PORT,
    })
}

/// Sends an RTSP DESCRIBE; no SETUP, no PLAY.
async fn describe(camera: &Camera, what: String, name: &str, limit: Duration) -> CheckRow {
    let credentials = camera.credentials.as_ref().map(|c| retina::client::Credentials {
        username: c.user.expose().to_owned(),
        password: c.password.expose().to_owned(),
    });
    let has_credentials = credentials.is_some();
    let options = SessionOptions::default()
        .creds(credentials)
        .user_agent("gridwatch check".to_owned());
    let session = match timeout(limit, Session::describe(camera.url.clone(), options)).await {
        Err(_) => return timed_out(what, name, limit),
        Ok(Err(e)) => return describe_failed(what, name, &e, has_credentials),
        Ok(Ok(session)) => session,
    };
    let Some(video) = session.streams().iter().find(|s| s.media() == "video") else {
        return CheckRow::wrong(what, format!("{name} has no video stream"), CHECK_PATH);
    };
    let codec = video.encoding_name().to_uppercase();
    let size = match video.parameters() {
        Some(retina::codec::ParametersRef::Video(v)) => {
            let (width, height) = v.pixel_dimensions();
            format!("{width}×{height}")
        }
        // Allowed: the parameter sets then come in band.
        _ => "size sent in band".to_owned(),
    };
    match codec.as_str() {
        "H264" | "H265" => CheckRow::ok(what, format!("{name} offers {codec}, {size}")),
        other => CheckRow::wrong(
            what,
            format!("{name} sends {other}"),
            "set the camera's stream to H.264 or H.265; gridwatch cannot buffer keyframes of other codecs",
        ),
    }
}

/// Remedy for a URL that connects but names no usable stream.
const CHECK_PATH: &str = "check the path of its url against the camera's manual";

fn describe_failed(what: String, name: &str, error: &retina::Error, has_credentials: bool) -> CheckRow {
    match error.status_code() {
        Some(401 | 403) if has_credentials => CheckRow::wrong(
            what,
            format!("{name} rejects the user name or password"),
            "correct them where `credentials` points; some cameras keep separate users for ONVIF and RTSP",
        ),
        Some(401 | 403) => CheckRow::wrong(
            what,
            format!("{name} requires a user name and password"),
            "set the camera's `credentials`",
        ),
        Some(404) => CheckRow::wrong(what, format!("{name} has no stream at this path"), CHECK_PATH),
        Some(status) => CheckRow::wrong(
            what,
            format!("{name} answered with RTSP status {status}"),
            "check the path of its url, and whether the camera has reached its connection limit",
        ),
        // The first line states the error; the rest is for the library's developers.
        None => CheckRow::wrong(
            what,
            format!("{name}: {}", error.to_string().lines().next().unwrap_or_default()),
            "check that this is an RTSP camera",
        ),
    }
}

fn connect_failed(what: String, name: &str, error: &io::Error) -> CheckRow {
    let (message, remedy) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            format!("{name} refused the connection"),
            "enable RTSP on the camera, and check the port",
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => (
            format!("no route to {name}: {error}"),
            "check the box's network and routes",
        ),
        _ => (format!("{name}: {error}"), "check the address and the network"),
    };
    CheckRow::wrong(what, message, remedy)
}

fn timed_out(what: String, name: &str, limit: Duration) -> CheckRow {
    CheckRow::wrong(
        what,
        format!("{name} did not answer within {limit:?}"),
        "check that it is powered, its address, and the firewalls in between",
    )
}
