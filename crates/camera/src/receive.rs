//! Receiving one RTSP camera for ever: connect, keep the newest keyframe, reconnect.
//!
//! Owns one supervised task a camera. Whatever the camera does (silence, garbage, a panic in the protocol library) ends
//! that camera's connection and nothing else. It does not decode, except through the fall-back for streams that have
//! no keyframes to live on (`full_decode`).
//!
//! `retina` receives and cuts access units: 0.9 ms of CPU and 0.14 MB a camera at 1080p25 and 4 Mb/s over TCP, where
//! GStreamer's `rtspsrc` takes 13 ms and 23 MB. It is asked for Annex B with the parameter sets before each keyframe,
//! so that a keyframe decodes alone and its buffer goes to the decoder as it is. Where retina leaves a choice the
//! lenient one is taken, and this is why:
//!
//! - timestamps are not enforced: a picture's time is its arrival, so a camera may jump as it likes (retina#64);
//! - `rtptime` is ignored, for the same reason, and `seq` of the PLAY response is too: cameras state it wrongly;
//! - RTCP of an unknown sender is dropped, data on unassigned channels is ignored, the first session id is kept;
//! - a refused keep-alive is none of our business as long as pictures arrive (retina#133);
//! - an error about one packet costs the access unit it was in (retina#119). Only a long row of errors without a
//!   picture between them ends the connection: retina does not say which errors can be survived.
//!
//! A keyframe with a lost packet in it or before it is counted as damaged and never offered.

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
    annexb::{self, Start},
    backoff::Backoff,
    pace::Pace,
    slot::{Slot, State},
};
use crate::Transport;
use gridwatch_base::{error::Class, secret::Credentials};
use gridwatch_engine::CameraId;

/// No camera's access unit is larger: 4K intra-only at 100 Mb/s stays under 2 MiB.
const MAX_ACCESS_UNIT: usize = 8 << 20;
/// Errors in a row, without a picture between them, that end a connection: a keyframe of 8 MiB torn at its start makes
/// one error a packet, so this is less than that, and more than an ordinary keyframe has packets.
const MAX_ERRORS: u32 = 512;

/// How patient a receiver is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From dialling to the answer to PLAY.
    pub connect: Duration,
    /// Without a whole access unit; then the camera counts as dead. It bounds what a camera that never ends its access
    /// unit can make us hold.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // Some cameras take seconds to answer DESCRIBE after a reboot.
            connect: Duration::from_secs(10),
            // Street cameras send 5 pictures a second or more, some 1 at night.
            idle: Duration::from_secs(10),
        }
    }
}

/// A camera to receive.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its id.
    pub camera: CameraId,
    /// `rtsp://host[:port]/path`. A user or password in it is ignored.
    pub url: Url,
    /// Basic or Digest, as the camera asks.
    pub credentials: Option<Credentials>,
    /// How RTP travels.
    pub transport: Transport,
    /// How often it is looked at: keyframes much rarer than that are not lived on.
    pub look_every: Duration,
    /// Time limits.
    pub patience: Patience,
}

/// Why a connection ended. Its text never holds a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// 401 or 403.
    #[error(
        "the camera refuses the user or the password (RTSP status {status}); put the right ones where its `credentials` point"
    )]
    Refused {
        /// As the camera said.
        status: u16,
    },
    /// Another RTSP status than success.
    #[error("the camera answers with RTSP status {status}; is the path of its url right? ({what})")]
    Status {
        /// As the camera said.
        status: u16,
        /// Which request.
        what: String,
    },
    /// Nothing answers, or not in time.
    #[error("no answer from {host} within {limit:?} ({step}); is it on, and can this box reach it?")]
    Silent {
        /// Host and port.
        host: String,
        /// What was waited for.
        step: &'static str,
        /// How long.
        limit: Duration,
    },
    /// What the protocol library says of it.
    #[error("{step}: {what}")]
    Protocol {
        /// What was being done.
        step: &'static str,
        /// In the library's words.
        what: String,
    },
    /// No stream that can be looked at.
    #[error("the camera offers no H.264 or H.265 video, but {offers}; change its encoding")]
    NoVideo {
        /// Media and encodings.
        offers: String,
    },
    /// Connected, but dead.
    #[error("no picture for {0:?}")]
    Idle(Duration),
    /// The camera hung up.
    #[error("the camera closed the connection")]
    Closed,
    /// Errors and no pictures.
    #[error("{MAX_ERRORS} errors in a row and no picture between them; the last: {0}")]
    Garbage(String),
    /// An access unit that cannot be one.
    #[error("an access unit of {0} bytes; the limit is {MAX_ACCESS_UNIT}")]
    TooLarge(usize),
    /// Our fault, or the library's.
    #[error("the receiver failed inside: {0}; please report it")]
    Panicked(String),
}

impl ReceiveError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused { .. } | Self::NoVideo { .. } => Class::Config,
            Self::Garbage(_) | Self::TooLarge(_) => Class::Data,
            Self::Panicked(_) => Class::Bug,
            _ => Class::Transient,
        }
    }
}

/// A receiver at work. Dropping it ends it.
#[derive(Debug)]
pub struct Receiver {
    slot: Arc<Slot>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts receiving into `slot` on the runtime `on`.
    pub fn spawn(settings: Settings, slot: Arc<Slot>, on: &tokio::runtime::Handle) -> Self {
        let task = on.spawn(supervise(settings, Arc::clone(&slot)));
        Self { slot, task }
    }

    /// Where its pictures are.
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects once and tells what is there, for `gridwatch check`: codec and width × height where the camera states them.
///
/// # Errors
/// As a receiver would report them.
pub async fn probe(settings: &Settings) -> Result<(Codec, Option<(u32, u32)>), ReceiveError> {
    let (stream, codec) = connect(settings).await?;
    let size = stream.streams().iter().find_map(|s| match s.parameters() {
        Some(retina::codec::ParametersRef::Video(v)) => Some(v.pixel_dimensions()),
        _ => None,
    });
    Ok((codec, size))
}

/// Aborts the task when its supervisor is dropped.
struct Child<T>(JoinHandle<T>);
impl<T> Drop for Child<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn supervise(settings: Settings, slot: Arc<Slot>) {
    let camera = settings.camera.clone();
    let settings = Arc::new(settings);
    let mut backoff = Backoff::default();
    loop {
        let live_since = Arc::new(std::sync::OnceLock::new());
        // A task of its own: a panic comes back as a value.
        let mut child = Child(tokio::spawn({
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
            // The runtime shuts down.
            Err(_) => return,
        };
        drop(child);
        let live = live_since.get().map_or(Duration::ZERO, Instant::elapsed);
        let wait = backoff.failed(live, fastrand::f64());
        let text = error.to_string();
        // Once a row of failures: a camera that is away for a week is not worth a line a second.
        let news = !matches!(slot.state(), State::Down { error, .. } if error == text);
        slot.set_down(text, Timestamp::now());
        slot.set_interval(None);
        slot.count_reconnect();
        if news {
            tracing::warn!(%camera, ?wait, "Camera is away: {error}. It is tried again.");
        } else {
            tracing::debug!(%camera, ?wait, "Camera is still away: {error}.");
        }
        tokio::time::sleep(wait).await;
    }
}

/// One connection, until it ends.
async fn receive(
    settings: &Settings,
    slot: &Arc<Slot>,
    live_since: &std::sync::OnceLock<Instant>,
) -> Result<std::convert::Infallible, ReceiveError> {
    let (mut stream, codec) = connect(settings).await?;
    let began = Instant::now();
    let idle = settings.patience.idle;
    let mut watch = Watch {
        settings,
        slot,
        codec,
        pace: Pace::new(settings.look_every),
        degraded: false,
        torn: false,
        #[cfg(feature = "gst")]
        full: None,
    };
    let mut deadline = tokio::time::Instant::now() + idle;
    let mut errors = 0;
    loop {
        let item = tokio::time::timeout_at(deadline, stream.next())
            .await
            .map_err(|_| ReceiveError::Idle(idle))?;
        match item {
            Some(Ok(CodecItem::VideoFrame(frame))) => {
                errors = 0;
                deadline = tokio::time::Instant::now() + idle;
                if live_since.get().is_none() {
                    let _ = live_since.set(Instant::now());
                    slot.set_state(State::Live);
                    tracing::info!(camera = %settings.camera, ?codec, "Camera is live.");
                }
                watch.frame(frame, began.elapsed(), &stream)?;
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                errors += 1;
                // What follows may be the rest of a torn access unit that looks like a whole one.
                watch.torn = true;
                tracing::debug!(camera = %settings.camera, "Packet error: {}", first_line(&error));
                if errors >= MAX_ERRORS {
                    return Err(ReceiveError::Garbage(first_line(&error)));
                }
            }
            None => return Err(ReceiveError::Closed),
        }
    }
}

/// What is done with the access units of one connection.
struct Watch<'a> {
    settings: &'a Settings,
    slot: &'a Arc<Slot>,
    codec: Codec,
    pace: Pace,
    degraded: bool,
    /// The next access unit may lack its beginning.
    torn: bool,
    #[cfg(feature = "gst")]
    full: Option<super::full_decode::FullDecode>,
}

impl Watch<'_> {
    fn frame(
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
        let torn = std::mem::take(&mut self.torn) || lost > 0;
        let random = frame.is_random_access_point();
        let start = if random {
            annexb::start(self.codec, frame.data())
        } else {
            Start::Other
        };
        let whole = start == Start::Keyframe && !torn;
        if random && !whole && start != Start::Other {
            self.slot.count_damaged();
        }
        let too_slow = self.pace.frame(at, whole);
        if too_slow != self.degraded {
            self.degrade(too_slow);
        }
        if whole {
            self.slot.set_interval(self.pace.interval());
        }

        #[cfg(feature = "gst")]
        if self.degraded {
            self.decode_all(frame, torn, whole, now, stream);
            return Ok(());
        }
        if whole {
            self.slot.offer_keyframe(Arc::new(Keyframe {
                camera: self.settings.camera.clone(),
                seq: self.slot.next_seq(),
                captured_at: now,
                codec: self.codec,
                // retina allocates exactly what it fills: this moves, and copies nothing.
                data: frame.into_data().into(),
            }));
        }
        Ok(())
    }

    fn degrade(&mut self, degraded: bool) {
        self.degraded = degraded;
        let camera = &self.settings.camera;
        if degraded {
            let reason = format!(
                "no keyframe for more than {:?}: every picture is decoded instead, which costs twenty times as much; \
                 set the camera's keyframe interval (GOP) to 2 s",
                self.pace.limit()
            );
            tracing::warn!(%camera, "Camera is degraded: {reason}.");
            self.slot.set_state(State::Degraded { reason });
        } else {
            tracing::info!(%camera, "Camera sends keyframes again.");
            self.slot.set_state(State::Live);
            #[cfg(feature = "gst")]
            {
                self.full = None;
            }
        }
    }

    #[cfg(feature = "gst")]
    fn decode_all(&mut self, frame: VideoFrame, torn: bool, whole_key: bool, now: Timestamp, stream: &Demuxed) {
        use super::full_decode::{FullDecode, Unit};
        let parameters = || {
            stream.streams().iter().find_map(|s| match s.parameters() {
                Some(retina::codec::ParametersRef::Video(v)) => Some(v.extra_data().to_vec()),
                _ => None,
            })
        };
        if self.full.as_ref().is_none_or(FullDecode::is_broken) {
            let every = self.settings.look_every / 4;
            match FullDecode::start(self.codec, Arc::clone(self.slot), every) {
                Ok(full) => {
                    full.parameters(parameters());
                    self.full = Some(full);
                }
                Err(error) => {
                    let reason = format!("no keyframes, and full decoding does not start: {error}");
                    self.slot.set_state(State::Degraded { reason });
                    return;
                }
            }
        }
        if let Some(full) = &mut self.full {
            if frame.has_new_parameters() {
                full.parameters(parameters());
            }
            full.push(Unit {
                data: frame.into_data().into(),
                keyframe: whole_key,
                torn,
                at: now,
            });
        }
    }
}

async fn connect(settings: &Settings) -> Result<(Demuxed, Codec), ReceiveError> {
    let limit = settings.patience.connect;
    let mut step = "connecting";
    match tokio::time::timeout(limit, dial(settings, &mut step)).await {
        Ok(done) => done,
        Err(_) => Err(ReceiveError::Silent {
            host: host(&settings.url),
            step,
            limit,
        }),
    }
}

/// Up to the answer to PLAY. `step` says how far it came, for whom it takes too long.
async fn dial(settings: &Settings, step: &mut &'static str) -> Result<(Demuxed, Codec), ReceiveError> {
    let mut url = settings.url.clone();
    // retina refuses a url with them; ours come by another way.
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
    let mut session = Session::describe(url, options).await.map_err(|e| protocol(step, &e))?;
    *step = "describing its streams";
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
    *step = "setting up its video (SETUP)";
    let transport = match settings.transport {
        Transport::Tcp => client::Transport::Tcp(Default::default()),
        Transport::Udp => client::Transport::Udp(Default::default()),
    };
    let options = SetupOptions::default()
        .transport(transport)
        .frame_format(FrameFormat::SIMPLE);
    session.setup(index, options).await.map_err(|e| protocol(step, &e))?;
    *step = "starting its video (PLAY)";
    let options = PlayOptions::default()
        .initial_timestamp(InitialTimestampPolicy::Ignore)
        .initial_seq(InitialSequenceNumberPolicy::Ignore)
        .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::DropPackets);
    let playing = session.play(options).await.map_err(|e| protocol(step, &e))?;
    Ok((playing.demuxed().map_err(|e| protocol(step, &e))?, codec))
}

fn host(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(554))
}

fn protocol(step: &'static str, error: &retina::Error) -> ReceiveError {
    match error.status_code() {
        Some(status @ (401 | 403)) => ReceiveError::Refused { status },
        Some(status) if !(200..300).contains(&status) => ReceiveError::Status {
            status,
            what: step.to_owned(),
        },
        _ => ReceiveError::Protocol {
            step,
            what: first_line(error),
        },
    }
}

/// retina's messages go on with connection and packet details, for a protocol analyser.
fn first_line(error: &retina::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
