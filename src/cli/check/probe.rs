//! Network checks: connects to the broker and all cameras concurrently, each with its own timeout.

use std::{io, path::Path, time::Duration};

use futures::{StreamExt, stream};
use jiff::tz::TimeZone;
use tokio::time::timeout;

use super::{CheckRow, CheckState};
use crate::{
    first_picture,
    receiver::{is_built_in, receiver_settings},
};
use gridwatch_base::installation::Installation;
use gridwatch_camera::{
    Backend, Transport,
    receive::{
        self, LoginProblem, MeasuredStream, ReceiveError, ReceiverSettings, RtspError, Timeouts, VideoCodec,
        unsupported_format,
    },
};
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
            _ if !draft.misplaced.is_empty() => vec![misplaced(&draft.misplaced)],
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
            false => camera(c, draft.decoders.unwrap_or_default(), limit).await,
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

/// The broker's row while settings that may be its own are in other tables.
fn misplaced(paths: &[String]) -> CheckRow {
    let message = format!(
        "not contacted: {} may be meant for [broker], and without it the password could be sent unencrypted",
        paths.join(", ")
    );
    CheckRow::new("broker", CheckState::Skipped, message)
        .remedy("move it directly below the header of its table; a line belongs to the last [header] above it")
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

async fn camera(camera: &Camera, decoders: Backend, limit: Duration) -> CheckRow {
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
    let (host, port) = (camera.url.host_str().unwrap_or_default(), port(camera));
    // Do not show the whole URL: many cameras carry keys in their paths.
    let name = format!("{host}:{port}");
    // Connect over plain TCP first, to tell a closed port from a wrong route.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match timeout(limit, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Ok(_)) if is_built_in(camera) => open(camera, what, &name, decoders, limit).await,
        Ok(Ok(_)) => CheckRow::ok(
            what,
            format!("{name} accepts connections; its stream is opened when the daemon runs"),
        ),
        Ok(Err(e)) => connect_failed(what, &name, &e),
        Err(_) => timed_out(what, &name, limit),
    }
}

fn port(camera: &Camera) -> u16 {
    let is_tunnel = camera.transport == Transport::Http && is_built_in(camera);
    camera.url.port_or_known_default().unwrap_or(match camera.url.scheme() {
        "rtsp" if is_tunnel => 80,
        "rtsps" if is_tunnel => 443,
        "rtsps" => 322,
        "rtmp" => 1935,
        _ => RTSP_PORT,
    })
}

/// Opens the stream as the daemon does, and decodes its first keyframe.
async fn open(camera: &Camera, what: String, name: &str, decoders: Backend, limit: Duration) -> CheckRow {
    let timeouts = Timeouts {
        connect: limit,
        idle: limit,
    };
    let stream = match receive::probe(&probe_settings(camera, timeouts), limit).await {
        Ok(stream) => stream,
        Err(error) => return open_failed(what, name, &error, limit),
    };
    let codec = match stream.format.codec {
        VideoCodec::H264 => "H264",
        VideoCodec::H265 => "H265",
        VideoCodec::Jpeg => "JPEG",
    };
    let size = match &stream.parameters {
        Some(found) => format!("{}×{}", found.width, found.height),
        // Allowed: the parameter sets then come in band.
        None => "size sent in band".to_owned(),
    };
    let redirect = match &stream.redirected_to {
        Some(to) => format!("; it redirects to {to}"),
        None => String::new(),
    };
    if let Some(unsupported) = stream.parameters.as_ref().and_then(unsupported_format) {
        let (message, remedy) = sentence(&unsupported);
        return CheckRow::wrong(what, format!("{name} {message}"), remedy);
    }
    if stream.keyframe.is_none() {
        let message = format!("{name} offers {codec}, {size}, but sent no keyframe within {limit:?}{redirect}");
        let remedy =
            "set the camera's keyframe interval (GOP) to 2 s; with a longer one, try again with a longer --timeout";
        return CheckRow::new(what, CheckState::Warning, message).remedy(remedy);
    }
    let decoded = tokio::task::spawn_blocking(move || decode(stream, decoders)).await;
    match decoded.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(()) => CheckRow::ok(what, format!("{name} offers {codec}, {size}{redirect}")),
        Err(error) => CheckRow::wrong(
            what,
            format!("{name} offers {codec}, {size}, but its keyframe cannot be decoded: {error}"),
            "restart the camera, or change its video profile to Main",
        ),
    }
}

/// Decodes the keyframe as a look does.
fn decode(stream: MeasuredStream, decoders: Backend) -> Result<(), String> {
    let data = stream.keyframe.unwrap_or_default();
    first_picture::decode(stream.format.codec, data, decoders).map(drop)
}

/// A probe decodes no stream.
fn probe_settings(camera: &Camera, timeouts: Timeouts) -> ReceiverSettings {
    receiver_settings(
        camera,
        timeouts,
        #[cfg(feature = "gst")]
        gridwatch_camera::decode::DecodeMode::InProcess,
    )
}

/// Splits an error into what is wrong and what to do.
fn sentence(text: &str) -> (&str, &str) {
    text.split_once("; ").unwrap_or((text, ""))
}

/// Remedy for a URL that connects but names no usable stream.
const CHECK_PATH: &str = "check the path of its url against the camera's manual";

fn open_failed(what: String, name: &str, error: &ReceiveError, limit: Duration) -> CheckRow {
    let ReceiveError::Rtsp(error) = error else {
        let text = error.to_string();
        let (message, remedy) = sentence(&text);
        return CheckRow::wrong(what, format!("{name}: {message}"), remedy);
    };
    match error {
        RtspError::Unauthorized { login, .. } => login_failed(what, name, login),
        RtspError::NotFound { .. } => CheckRow::wrong(what, format!("{name} has no stream at this path"), CHECK_PATH),
        RtspError::Timeout { .. } => timed_out(what, name, limit),
        RtspError::Protocol { what: answer, .. } => CheckRow::wrong(
            what,
            format!("{name}: {}", sentence(answer).0),
            "check that this is an RTSP camera",
        ),
        other => {
            let text = other.to_string();
            let (message, remedy) = sentence(&text);
            CheckRow::wrong(what, format!("{name}: {message}"), remedy)
        }
    }
}

fn login_failed(what: String, name: &str, login: &LoginProblem) -> CheckRow {
    match login {
        LoginProblem::NoCredentials => CheckRow::wrong(
            what,
            format!("{name} requires a user name and password"),
            "set the camera's `credentials`",
        ),
        LoginProblem::Rejected { tried } => CheckRow::wrong(
            what,
            format!("{name} rejects the user name or password (tried {tried})"),
            "correct them where `credentials` points; some cameras keep separate users for ONVIF and RTSP",
        ),
        other => {
            let text = other.to_string();
            let (message, remedy) = sentence(&text);
            CheckRow::wrong(what, format!("{name}: {message}"), remedy)
        }
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
