//! What answers: the broker and each camera, all at once, each with its own patience.

use std::{io, time::Duration};

use futures::{StreamExt, stream};
use jiff::tz::TimeZone;
use retina::client::{Session, SessionOptions};
use tokio::time::timeout;
use url::Url;

use super::{Row, State};
use gridwatch_config::{Broker, Camera, Draft};
use gridwatch_engine::NodeId;
use gridwatch_link as link;

/// Cameras asked at the same time: enough for two hundred to be through in a minute when all of them are away, few enough
/// not to look like a scan.
const AT_ONCE: usize = 16;

/// RTSP's port (RFC 7826 §4.2).
const RTSP_PORT: u16 = 554;

/// Rows for what would have been asked.
pub(super) fn skipped(draft: &Draft) -> Vec<Row> {
    let broker = draft.broker.iter().map(|_| "broker".to_owned());
    let cameras = draft.cameras.iter().map(|c| format!("camera {}", c.id));
    broker
        .chain(cameras)
        .map(|what| Row::new(what, State::Skipped, "not asked: --offline"))
        .collect()
}

/// Asks them all.
pub(super) async fn rows(draft: &Draft, patience: Duration) -> Vec<Row> {
    let greeted = async {
        let (Some(at), Some(node)) = (&draft.broker, &draft.node) else {
            return None;
        };
        Some(broker(at, node, patience).await)
    };
    let asked = stream::iter(&draft.cameras)
        .map(|c| camera(c, patience))
        .buffered(AT_ONCE)
        .collect::<Vec<_>>();
    let (broker, cameras) = futures::join!(greeted, asked);
    broker.into_iter().chain(cameras).collect()
}

async fn broker(broker: &Broker, node: &NodeId, patience: Duration) -> Row {
    const WHAT: &str = "broker";
    let name = format!("{}:{}", broker.host, broker.port);
    let settings = crate::broker::link_settings(node, broker, &TimeZone::UTC);
    match timeout(patience, link::probe(settings)).await {
        Ok(Ok(())) => {
            let how = if broker.tls.is_some() { "TLS" } else { "plain TCP" };
            Row::ok(
                WHAT,
                format!("{name} takes this box (MQTT {}, {how})", broker.protocol.as_str()),
            )
        }
        Ok(Err(e)) => {
            let message = match e {
                link::LinkError::Refused { host, port, reason } => format!("{host}:{port}: {reason}"),
                other => other.to_string(),
            };
            Row::wrong(
                WHAT,
                message,
                "is it running, and are url, protocol, ca_file, client and credentials of [broker] right?",
            )
        }
        Err(_) => Row::wrong(
            WHAT,
            format!("{name} did not answer within {patience:?}"),
            "check the address, the network and its firewalls; a broker with TLS is mqtts://",
        ),
    }
}

async fn camera(camera: &Camera, patience: Duration) -> Row {
    let what = format!("camera {}", camera.id);
    let scheme = camera.url.scheme();
    match scheme {
        "file" => return Row::ok(what, "a file that exists; it is opened when gridwatch runs"),
        "udp" => {
            return Row::new(
                what,
                State::Skipped,
                "datagrams cannot be asked; they are received when gridwatch runs",
            );
        }
        _ => {}
    }
    let (host, port) = (camera.url.host_str().unwrap_or_default(), port(&camera.url));
    // The URL itself is not shown: many cameras carry keys in their paths.
    let name = format!("{host}:{port}");
    // First a connection of its own: retina does not say why it got none.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match timeout(patience, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Ok(_)) if scheme == "rtsp" => describe(camera, what, &name, patience).await,
        Ok(Ok(_)) => Row::ok(
            what,
            format!("{name} answers; its stream is opened when gridwatch runs"),
        ),
        Ok(Err(e)) => refused(what, &name, &e),
        Err(_) => silent(what, &name, patience),
    }
}

fn port(url: &Url) -> u16 {
    url.port_or_known_default().unwrap_or(match url.scheme() {
        "rtsps" => 322,
        "rtmp" => 1935,
        _ => RTSP_PORT,
    })
}

/// Asks an RTSP camera what it has. Nothing is set up and nothing played.
async fn describe(camera: &Camera, what: String, name: &str, patience: Duration) -> Row {
    let credentials = camera.credentials.as_ref().map(|c| retina::client::Credentials {
        username: c.user.expose().to_owned(),
        password: c.password.expose().to_owned(),
    });
    let given = credentials.is_some();
    let options = SessionOptions::default()
        .creds(credentials)
        .user_agent("gridwatch check".to_owned());
    let session = match timeout(patience, Session::describe(camera.url.clone(), options)).await {
        Err(_) => return silent(what, name, patience),
        Ok(Err(e)) => return told(what, name, &e, given),
        Ok(Ok(session)) => session,
    };
    let Some(video) = session.streams().iter().find(|s| s.media() == "video") else {
        return Row::wrong(
            what,
            format!("{name} has no video stream"),
            "is the path of its url the one of the camera's manual?",
        );
    };
    let codec = video.encoding_name().to_uppercase();
    let size = match video.parameters() {
        Some(retina::codec::ParametersRef::Video(v)) => {
            let (width, height) = v.pixel_dimensions();
            format!("{width}×{height}")
        }
        // Lawful: the parameter sets then come in band.
        _ => "its size comes with the stream".to_owned(),
    };
    match codec.as_str() {
        "H264" | "H265" => Row::ok(what, format!("{name} has {codec}, {size}")),
        other => Row::wrong(
            what,
            format!("{name} sends {other}"),
            "set the camera's stream to H.264 or H.265; the keyframes of others cannot be kept compressed",
        ),
    }
}

fn told(what: String, name: &str, error: &retina::Error, given: bool) -> Row {
    match error.status_code() {
        Some(401 | 403) if given => Row::wrong(
            what,
            format!("{name} refuses the user or the password"),
            "put the right ones where its credentials point; some cameras keep a user for ONVIF and another for RTSP",
        ),
        Some(401 | 403) => Row::wrong(
            what,
            format!("{name} asks for a user and a password"),
            "give it credentials",
        ),
        Some(404) => Row::wrong(
            what,
            format!("{name} knows no such stream"),
            "is the path of its url the one of the camera's manual?",
        ),
        Some(status) => Row::wrong(
            what,
            format!("{name} answers with RTSP status {status}"),
            "is the path of its url right, and has it a connection to spare?",
        ),
        // The first line says what; the rest is for the library's developers.
        None => Row::wrong(
            what,
            format!("{name}: {}", error.to_string().lines().next().unwrap_or_default()),
            "is this an RTSP camera?",
        ),
    }
}

fn refused(what: String, name: &str, error: &io::Error) -> Row {
    let (message, remedy) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (
            format!("nothing listens at {name}"),
            "is RTSP switched on, and the port right?",
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => (
            format!("no way leads to {name}: {error}"),
            "check the box's network and its routes",
        ),
        _ => (format!("{name}: {error}"), "check the address and the network"),
    };
    Row::wrong(what, message, remedy)
}

fn silent(what: String, name: &str, patience: Duration) -> Row {
    Row::wrong(
        what,
        format!("{name} did not answer within {patience:?}"),
        "is it powered, is the address right, and does a firewall stand between?",
    )
}
