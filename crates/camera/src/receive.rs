//! RTSP receiver: connects to a camera, stores its newest keyframe and reconnects after every failure.
//!
//! One supervised task per camera. A silent camera, malformed packets or a panic in the protocol library end that
//! camera's connection and affect no other. Nothing is decoded here, except by the fallback for streams without usable
//! keyframes (`full_decode`).
//!
//! `retina` receives RTP and assembles access units: 0.9 ms of CPU per second and 0.14 MB per camera at 1080p25 and
//! 4 Mb/s over TCP, against 13 ms and 23 MB for GStreamer's `rtspsrc`. It delivers Annex B with the parameter sets before
//! each keyframe, so the buffer goes to the decoder unchanged. Its policies are set to the lenient choice:
//!
//! - Timestamps are not enforced. Frames are timed by arrival, so timestamp jumps do no harm (retina#64).
//! - `rtptime` is ignored for the same reason, and so is `seq` in the PLAY response, which cameras get wrong.
//! - RTCP from unknown SSRCs is dropped, data on unassigned channels is ignored, and the first session id is kept.
//! - A rejected keep-alive is ignored as long as frames arrive (retina#133).
//! - A packet error costs the access unit it belongs to (retina#119). retina does not say which errors are fatal, so
//!   only a long run of errors without a frame in between ends the connection.
//!
//! A keyframe with a lost packet in it or right before it counts as damaged and is not stored.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use jiff::Timestamp;
use retina::{
    client::{
        self, Demuxed, InitialSequenceNumberPolicy, InitialTimestampPolicy, PlayOptions, Session, SessionIdPolicy,
        SessionOptions, SetupOptions, UnassignedChannelDataPolicy, UnknownRtcpSsrcPolicy,
    },
    codec::{CodecItem, FrameFormat, VideoFrame},
};
use tokio::task::JoinHandle;
use url::Url;

use super::{
    Codec, Keyframe,
    annexb::{self, UnitKind},
    cadence::KeyframeCadence,
    reconnect::{HEALTHY, reconnect_backoff},
    slot::{CameraState, Slot},
};
use crate::Transport;
use gridwatch_base::{error::Class, secret::Credentials};
use gridwatch_engine::CameraId;

/// Largest access unit accepted, in bytes. 4K intra-only at 100 Mb/s stays under 2 MiB.
const MAX_ACCESS_UNIT: usize = 8 << 20;
/// Consecutive packet errors, without a frame in between, that end a connection. A keyframe that lost its beginning
/// gives one error per packet: this is more than the packets of an ordinary keyframe, and less than those of one of 8 MiB.
const MAX_ERRORS: u32 = 512;

/// The first step of a connection.
const CONNECTING: &str = "connection and DESCRIBE";

/// Time limits of a receiver.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the TCP connect to the response to PLAY.
    pub connect: Duration,
    /// Without a complete access unit, after which the connection is dropped. It also bounds the memory that an access
    /// unit that never ends can take.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            // After a reboot some cameras take seconds to answer DESCRIBE.
            connect: Duration::from_secs(10),
            // Street cameras send at least 5 frames a second; some drop to 1 at night.
            idle: Duration::from_secs(10),
        }
    }
}

/// How to receive one camera.
#[derive(Debug, Clone)]
pub struct ReceiverSettings {
    /// The camera's id.
    pub camera: CameraId,
    /// `rtsp://host[:port]/path`. A user or password in it is ignored.
    pub url: Url,
    /// For Basic or Digest authentication, whichever the camera asks for.
    pub credentials: Option<Credentials>,
    /// Transport of the RTP packets.
    pub transport: Transport,
    /// Look period. If keyframes come much less often, the receiver falls back to decoding every frame.
    pub look_every: Duration,
    /// Time limits.
    pub timeouts: Timeouts,
}

/// Why a connection failed or ended. The text never contains credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// RTSP status 401 or 403.
    #[error(
        "login rejected by the camera (RTSP status {status}); correct the user name and password (`credentials` in the configuration, \
         or rtsp://user:password@… in a URL on the command line)"
    )]
    Unauthorized {
        /// The status code.
        status: u16,
    },
    /// Any other RTSP status that is not a success.
    #[error("RTSP status {status} on {step}; check the path in the camera's url")]
    Status {
        /// The status code.
        status: u16,
        /// The request.
        step: &'static str,
    },
    /// No response within the connect timeout.
    #[error(
        "no answer from {host} within {limit:?} (waiting for {step}); check that the camera is on and reachable from this box"
    )]
    Timeout {
        /// Host and port.
        host: String,
        /// The pending request.
        step: &'static str,
        /// The timeout.
        limit: Duration,
    },
    /// A connection or protocol error.
    #[error("{step} failed: {what}")]
    Protocol {
        /// The request that failed.
        step: &'static str,
        /// The error of the protocol library.
        what: String,
    },
    /// The camera offers no stream that can be decoded.
    #[error("the camera offers no H.264 or H.265 video, only {offers}; change its video encoding")]
    NoVideo {
        /// Media types and encodings offered.
        offers: String,
    },
    /// Connected, but no frame within the idle timeout.
    #[error("no frame received for {0:?}")]
    NoFrames(Duration),
    /// The camera closed the connection.
    #[error("the camera closed the connection")]
    Closed,
    /// Too many packet errors without a frame in between.
    #[error("{MAX_ERRORS} packet errors in a row without a frame; the last: {0}")]
    PacketErrors(String),
    /// An access unit above the size limit.
    #[error("an access unit of {0} bytes exceeds the limit of {MAX_ACCESS_UNIT} bytes")]
    TooLarge(usize),
    /// A bug in the receiver or in the protocol library.
    #[error("internal error in the receiver: {0}; please report it")]
    Panicked(String),
}

impl ReceiveError {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Unauthorized { .. } | Self::NoVideo { .. } => Class::Config,
            Self::PacketErrors(_) | Self::TooLarge(_) => Class::Data,
            Self::Panicked(_) => Class::Bug,
            _ => Class::Transient,
        }
    }
}

/// A running receiver. It stops on drop.
#[derive(Debug)]
pub struct Receiver {
    slot: Arc<Slot>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts receiving into `slot` on the given runtime.
    pub fn spawn(settings: ReceiverSettings, slot: Arc<Slot>, runtime: &tokio::runtime::Handle) -> Self {
        let task = runtime.spawn(supervise(settings, Arc::clone(&slot)));
        Self { slot, task }
    }

    /// The slot that it fills.
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Aborts the task on drop.
struct AbortOnDrop<T>(JoinHandle<T>);
impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn supervise(settings: ReceiverSettings, slot: Arc<Slot>) {
    let camera = settings.camera.clone();
    let settings = Arc::new(settings);
    let mut backoff = reconnect_backoff();
    loop {
        let live_since = Arc::new(std::sync::OnceLock::new());
        // In its own task, so that a panic comes back as an error.
        let mut child = AbortOnDrop(tokio::spawn({
            let (settings, slot) = (Arc::clone(&settings), Arc::clone(&slot));
            let live_since = Arc::clone(&live_since);
            async move { receive(&settings, &slot, &live_since).await }
        }));
        let error = match (&mut child.0).await {
            Ok(Err(error)) => error,
            Ok(Ok(never)) => match never {},
            Err(join) if join.is_panic() => {
                let panic = join.into_panic();
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                ReceiveError::Panicked(text.unwrap_or("no message").to_owned())
            }
            // The runtime is shutting down.
            Err(_) => return,
        };
        drop(child);
        let live = live_since.get().map_or(Duration::ZERO, Instant::elapsed);
        let wait = backoff.next_delay_after(live, HEALTHY, fastrand::f64());
        let text = error.to_string();
        // Warn only when the error changes: a camera may be down for a week.
        let is_new = !matches!(slot.state(), CameraState::Down { error, .. } if error == text);
        slot.set_down(text, error.class(), Timestamp::now());
        slot.set_keyframe_interval(None);
        slot.count_reconnect();
        if is_new {
            tracing::warn!(%camera, retry_in = ?wait, "Camera down: {error}");
        } else {
            tracing::debug!(%camera, retry_in = ?wait, "Camera still down: {error}");
        }
        tokio::time::sleep(wait).await;
    }
}

/// Runs one connection until it ends.
async fn receive(
    settings: &ReceiverSettings,
    slot: &Arc<Slot>,
    live_since: &std::sync::OnceLock<Instant>,
) -> Result<std::convert::Infallible, ReceiveError> {
    let (mut stream, codec) = connect(settings).await?;
    let connected_at = Instant::now();
    let idle = settings.timeouts.idle;
    let mut handler = StreamHandler {
        settings,
        slot,
        codec,
        cadence: KeyframeCadence::new(settings.look_every),
        degraded: false,
        after_error: false,
        #[cfg(feature = "gst")]
        full_decoder: None,
    };
    let mut deadline = tokio::time::Instant::now() + idle;
    let mut errors = 0;
    loop {
        let item = tokio::time::timeout_at(deadline, stream.next())
            .await
            .map_err(|_| ReceiveError::NoFrames(idle))?;
        match item {
            Some(Ok(CodecItem::VideoFrame(frame))) => {
                errors = 0;
                deadline = tokio::time::Instant::now() + idle;
                if live_since.get().is_none() {
                    let _ = live_since.set(Instant::now());
                    slot.set_state(CameraState::Live);
                    tracing::info!(camera = %settings.camera, ?codec, "Camera live");
                }
                handler.handle(frame, connected_at.elapsed(), &stream)?;
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                errors += 1;
                // The next access unit may be the tail of a broken one and still look complete.
                handler.after_error = true;
                tracing::debug!(camera = %settings.camera, "RTP packet error: {}", first_line(&error));
                if errors >= MAX_ERRORS {
                    return Err(ReceiveError::PacketErrors(first_line(&error)));
                }
            }
            None => return Err(ReceiveError::Closed),
        }
    }
}

/// Processes the access units of one connection.
struct StreamHandler<'a> {
    settings: &'a ReceiverSettings,
    slot: &'a Arc<Slot>,
    codec: Codec,
    cadence: KeyframeCadence,
    /// Keyframes are too rare: every frame is decoded.
    degraded: bool,
    /// Packets were in error since the last access unit: the next one may lack its beginning.
    after_error: bool,
    #[cfg(feature = "gst")]
    full_decoder: Option<super::full_decode::FullDecoder>,
}

impl StreamHandler<'_> {
    /// Handles an access unit that arrived `at` this time since the connection began.
    fn handle(
        &mut self,
        frame: VideoFrame,
        at: Duration,
        #[cfg_attr(not(feature = "gst"), expect(unused_variables))] stream: &Demuxed,
    ) -> Result<(), ReceiveError> {
        let size = frame.data().len();
        if size > MAX_ACCESS_UNIT {
            return Err(ReceiveError::TooLarge(size));
        }
        let now = Timestamp::now();
        let lost = frame.loss();
        self.slot.count_frame(size, lost, now);
        let is_damaged = std::mem::take(&mut self.after_error) || lost > 0;
        let is_random_access = frame.is_random_access_point();
        let kind = if is_random_access {
            annexb::classify(self.codec, frame.data())
        } else {
            UnitKind::Other
        };
        let is_keyframe = kind == UnitKind::Keyframe && !is_damaged;
        if is_random_access && !is_keyframe && kind != UnitKind::Other {
            self.slot.count_damaged();
        }
        let too_rare = self.cadence.update(at, is_keyframe);
        if too_rare != self.degraded {
            self.set_degraded(too_rare);
        }
        if is_keyframe {
            self.slot.set_keyframe_interval(self.cadence.interval());
        }

        #[cfg(feature = "gst")]
        if self.degraded {
            self.decode_fully(frame, is_damaged, is_keyframe, now, stream);
            return Ok(());
        }
        if is_keyframe {
            self.slot.store_keyframe(Arc::new(Keyframe {
                camera: self.settings.camera.clone(),
                seq: self.slot.next_seq(),
                captured_at: now,
                codec: self.codec,
                // A move, not a copy: retina allocates exactly the size it fills.
                data: frame.into_data().into(),
            }));
        }
        Ok(())
    }

    fn set_degraded(&mut self, degraded: bool) {
        self.degraded = degraded;
        let camera = &self.settings.camera;
        if degraded {
            let reason = format!(
                "no keyframe for more than {:?}, so every frame is decoded at about twenty times the CPU cost; set the \
                 camera's keyframe interval (GOP) to 2 s",
                self.cadence.limit()
            );
            tracing::warn!(%camera, "Camera degraded: {reason}");
            self.slot.set_state(CameraState::Degraded { reason });
        } else {
            tracing::info!(%camera, "Camera sends keyframes again; decoding keyframes only");
            self.slot.set_state(CameraState::Live);
            #[cfg(feature = "gst")]
            {
                self.full_decoder = None;
            }
        }
    }

    #[cfg(feature = "gst")]
    fn decode_fully(
        &mut self,
        frame: VideoFrame,
        is_damaged: bool,
        is_keyframe: bool,
        now: Timestamp,
        stream: &Demuxed,
    ) {
        use super::full_decode::{AccessUnit, FullDecoder};
        let parameters = || {
            stream.streams().iter().find_map(|s| match s.parameters() {
                Some(retina::codec::ParametersRef::Video(v)) => Some(v.extra_data().to_vec()),
                _ => None,
            })
        };
        if self.full_decoder.as_ref().is_none_or(FullDecoder::is_broken) {
            let every = self.settings.look_every / 4;
            match FullDecoder::start(self.codec, Arc::clone(self.slot), every) {
                Ok(decoder) => {
                    decoder.set_parameter_sets(parameters());
                    self.full_decoder = Some(decoder);
                }
                Err(error) => {
                    let reason = format!("no keyframes, and the decoder for all frames cannot start: {error}");
                    self.slot.set_state(CameraState::Degraded { reason });
                    return;
                }
            }
        }
        if let Some(decoder) = &mut self.full_decoder {
            if frame.has_new_parameters() {
                decoder.set_parameter_sets(parameters());
            }
            decoder.push(AccessUnit {
                data: frame.into_data().into(),
                is_keyframe,
                is_damaged,
                arrived_at: now,
            });
        }
    }
}

async fn connect(settings: &ReceiverSettings) -> Result<(Demuxed, Codec), ReceiveError> {
    let limit = settings.timeouts.connect;
    let mut step = CONNECTING;
    match tokio::time::timeout(limit, start_session(settings, &mut step)).await {
        Ok(done) => done,
        Err(_) => Err(ReceiveError::Timeout {
            host: host(&settings.url),
            step,
            limit,
        }),
    }
}

/// DESCRIBE, SETUP and PLAY. `step` is the request in progress, for the error of a timeout.
async fn start_session(settings: &ReceiverSettings, step: &mut &'static str) -> Result<(Demuxed, Codec), ReceiveError> {
    let mut url = settings.url.clone();
    // retina rejects a URL with credentials; they are passed in `SessionOptions`.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let credentials = settings.credentials.as_ref();
    let options = SessionOptions::default()
        .creds(credentials.map(|c| client::Credentials {
            username: c.user.expose().to_owned(),
            password: c.password.expose().to_owned(),
        }))
        .user_agent(concat!("gridwatch/", env!("CARGO_PKG_VERSION")).to_owned())
        .unassigned_channel_data(UnassignedChannelDataPolicy::Ignore)
        .session_id(SessionIdPolicy::UseFirst);
    let mut session = Session::describe(url, options)
        .await
        .map_err(|e| request_error(step, &e))?;
    let found = session.streams().iter().enumerate().find_map(|(i, s)| {
        let codec = match (s.media(), s.encoding_name()) {
            ("video", "h264") => Codec::H264,
            ("video", "h265") => Codec::H265,
            _ => return None,
        };
        Some((i, codec))
    });
    let Some((index, codec)) = found else {
        let offers: Vec<_> = session
            .streams()
            .iter()
            .map(|s| format!("{} {}", s.media(), s.encoding_name()))
            .collect();
        return Err(ReceiveError::NoVideo {
            offers: match offers.as_slice() {
                [] => "nothing".into(),
                some => some.join(", "),
            },
        });
    };
    *step = "SETUP";
    let transport = match settings.transport {
        Transport::Tcp => client::Transport::Tcp(Default::default()),
        Transport::Udp => client::Transport::Udp(Default::default()),
    };
    let options = SetupOptions::default()
        .transport(transport)
        .frame_format(FrameFormat::SIMPLE);
    session
        .setup(index, options)
        .await
        .map_err(|e| request_error(step, &e))?;
    *step = "PLAY";
    let options = PlayOptions::default()
        .initial_timestamp(InitialTimestampPolicy::Ignore)
        .initial_seq(InitialSequenceNumberPolicy::Ignore)
        .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::DropPackets);
    let playing = session.play(options).await.map_err(|e| request_error(step, &e))?;
    Ok((playing.demuxed().map_err(|e| request_error(step, &e))?, codec))
}

fn host(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(554))
}

fn request_error(step: &'static str, error: &retina::Error) -> ReceiveError {
    match error.status_code() {
        Some(status @ (401 | 403)) => ReceiveError::Unauthorized { status },
        Some(status) if !(200..300).contains(&status) => ReceiveError::Status { status, step },
        _ => ReceiveError::Protocol {
            step,
            what: match step {
                CONNECTING => format!(
                    "{}; check the address and port in the camera's url, and that it is on and serves RTSP there",
                    first_line(error)
                ),
                _ => first_line(error),
            },
        },
    }
}

/// retina's messages continue with connection and packet details for a protocol analyser.
fn first_line(error: &retina::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
