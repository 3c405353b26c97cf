//! Finds out everything about one camera: asks it over ONVIF, receives its streams for a few seconds, and judges both.

mod facts;
mod target;

use std::{fmt, time::Duration};

use futures::future::join;
use gridwatch_base::{
    error::Class,
    message,
    message::Message,
    secret::{CredentialError, CredentialSource},
};
use gridwatch_camera::{
    Transport,
    receive::{
        LoginPolicy, LoginProblem, LoginSchemes, MeasureLimits, MeasuredStream, ReceiveError, ReceiverSettings,
        RtspError, Timeouts, Trust, measure,
    },
};
use serde::Serialize;
use url::Url;

pub use self::{
    facts::{CameraFacts, KeyframeInterval, StreamFacts, StreamOutcome, StreamResult, UrlSource},
    target::Target,
};
use crate::{
    advice::{self, Advice, LookNeed},
    brand::{Brand, StreamRole},
    device::{DeviceOptions, OnvifError},
    discovery::FoundDevice,
};
use target::Candidates;

/// How long a stream is received at least: cameras send a sender report every 5 s or so.
pub const AT_LEAST: Duration = Duration::from_secs(8);
/// How long at most: two intervals of a smart codec that stretches them to 12 s.
pub const AT_MOST: Duration = Duration::from_secs(30);
/// Three keyframes have two intervals between them, which a smart codec makes differ.
const KEYFRAMES: usize = 3;

/// A camera to probe.
#[derive(Debug, Clone)]
pub struct ProbeRequest {
    /// A stream's URL, or a host that ONVIF is asked at.
    pub target: Target,
    /// For ONVIF and RTSP.
    pub credentials: Option<CredentialSource>,
    /// Logins that are answered. [`LoginSchemes::Digest`] never sends the password itself.
    pub login: LoginSchemes,
    /// Certificates that are trusted (https, rtsps).
    pub trust: Trust,
    /// Transport of the video.
    pub transport: Transport,
    /// The brand, if the person knows it.
    pub brand: Option<&'static Brand>,
    /// Channel of a recorder, from 1.
    pub channel: u16,
    /// Ask over ONVIF.
    pub uses_onvif: bool,
    /// Hosts beside the named one that the person confirmed.
    pub confirmed_hosts: Vec<String>,
    /// What it said to a search.
    pub found: Option<FoundDevice>,
    /// What it is to be looked at for.
    pub need: LookNeed,
    /// How long streams are received.
    pub at_least: Duration,
    /// How long at most.
    pub at_most: Duration,
}

impl ProbeRequest {
    /// A request with every choice at its default: Digest logins only, over TCP, with ONVIF.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            credentials: None,
            login: LoginSchemes::Digest,
            trust: Trust::System,
            transport: Transport::Tcp,
            brand: None,
            channel: 1,
            uses_onvif: true,
            confirmed_hosts: Vec::new(),
            found: None,
            need: LookNeed::default(),
            at_least: AT_LEAST,
            at_most: AT_MOST,
        }
    }
}

/// What was found out about a camera, and what to do about it.
#[derive(Debug, Clone, Serialize)]
pub struct CameraProbe {
    /// The facts.
    pub facts: CameraFacts,
    /// Advice, the gravest first.
    pub advice: Vec<Advice>,
}

/// Why nothing could be found out.
#[derive(Debug)]
pub enum ProbeError {
    /// The credentials cannot be read.
    Credentials(CredentialError),
    /// The host does not answer over ONVIF, and there is no URL to try.
    Onvif(OnvifError),
    /// The brand's URLs are unknown, and ONVIF names none.
    NoStream {
        /// The host.
        host: String,
        /// What ONVIF said.
        why: Option<Message>,
    },
}

impl ProbeError {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Credentials(_) | Self::NoStream { .. } => Class::Config,
            Self::Onvif(error) => error.class(),
        }
    }

    /// What happened and what to do, for a person.
    pub fn message(&self) -> Message {
        match self {
            Self::Credentials(error) => message!("credentials: {error}", error = error.to_string()),
            Self::Onvif(error) => error.message(),
            Self::NoStream { host, why: None } => message!(
                "{host}: no stream is known; give the stream's URL, a brand, or the user and password for ONVIF",
                host
            ),
            Self::NoStream { host, why: Some(why) } => message!(
                "{host}: no stream is known: {why}; give the stream's URL, a brand, or the user and password for ONVIF",
                host,
                why = why.clone()
            ),
        }
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

impl std::error::Error for ProbeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Credentials(error) => Some(error),
            Self::Onvif(error) => Some(error),
            Self::NoStream { .. } => None,
        }
    }
}

impl From<CredentialError> for ProbeError {
    fn from(error: CredentialError) -> Self {
        Self::Credentials(error)
    }
}

impl From<OnvifError> for ProbeError {
    fn from(error: OnvifError) -> Self {
        Self::Onvif(error)
    }
}

/// Something happened that a person who waits may want to see.
#[derive(Debug)]
pub enum ProbeProgress<'a> {
    /// The device answered over ONVIF.
    Device(&'a crate::device::DeviceReport),
    /// A stream is tried.
    Stream(StreamRole, &'a Url),
    /// The first picture of the main stream (of the only one, if there is one alone): [`MeasuredStream::keyframe`] has its data.
    Picture(StreamRole, &'a MeasuredStream),
}

/// Probes a camera. `progress` is called as things are found out.
///
/// # Errors
/// There is no stream to try. A stream that does not play is a result.
pub async fn probe(
    request: &ProbeRequest,
    mut progress: impl FnMut(ProbeProgress<'_>) + Send,
) -> Result<CameraProbe, ProbeError> {
    let credentials = match request.credentials.clone() {
        // A file may lie on a disk that hangs.
        Some(source) => match tokio::task::spawn_blocking(move || source.read()).await {
            Ok(read) => Some(read?),
            Err(_) => None,
        },
        None => None,
    };
    let options = DeviceOptions {
        credentials: credentials.clone(),
        allows_plain_password: request.login != LoginSchemes::Digest,
        trust: request.trust.clone(),
        confirmed_hosts: request.confirmed_hosts.clone(),
        ..DeviceOptions::default()
    };
    let mut facts = CameraFacts {
        host: request.target.host().to_owned(),
        brand: None,
        found: request.found.clone(),
        device: None,
        device_error: None,
        streams: Vec::new(),
        proposed: None,
    };
    if request.uses_onvif {
        match request.target.examine(&options).await {
            Ok(report) => {
                progress(ProbeProgress::Device(&report));
                facts.device = Some(report);
            }
            Err(error) => facts.device_error = Some(error.message()),
        }
    }
    let candidates = Candidates::of(request, &facts);
    facts.brand = candidates.brand.map(|brand| brand.id.clone());
    if candidates.main.is_empty() && candidates.sub.is_empty() {
        let login = facts.device.as_ref().and_then(|device| device.login_problem);
        let why = login.map(|_| message!("the device asks for another login"));
        let host = facts.host;
        let why = why.or(facts.device_error);
        return Err(ProbeError::NoStream { host, why });
    }
    let source = credentials.map(CredentialSource::Fixed);
    // One policy for both: whichever asks for Digest first settles it for the camera.
    let policy = LoginPolicy::new(request.login);
    let settings = |url: &Url| ReceiverSettings {
        credentials: source.clone(),
        login: policy.clone(),
        trust: request.trust.clone(),
        transport: request.transport,
        timeouts: Timeouts::default(),
        ..ReceiverSettings::new("probe".into(), url.clone(), Duration::from_secs(10))
    };
    let progress = std::sync::Mutex::new(progress);
    let tell = |event: ProbeProgress<'_>| {
        let mut progress = progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (*progress)(event);
    };
    let main = try_streams(request, StreamRole::Main, candidates.main, &settings, &tell);
    let sub = try_streams(request, StreamRole::Sub, candidates.sub, &settings, &tell);
    let (main, sub) = join(main, sub).await;
    facts.streams.extend([main, sub].into_iter().flatten());
    // A pattern that leads nowhere was a guess: beside a stream that plays it is not worth a word.
    if facts.streams.iter().any(|stream| stream.outcome.facts().is_some()) {
        facts.streams.retain(|stream| {
            let is_missing = matches!(stream.outcome, StreamOutcome::Failed { is_missing: true, .. });
            stream.source != UrlSource::Brand || !is_missing
        });
    }
    facts.proposed = advice::proposed(&facts, request.need);
    let advice = advice::judge(&facts, request.need);
    Ok(CameraProbe { facts, advice })
}

/// A stream to try.
#[derive(Debug, Clone)]
struct Candidate {
    url: Url,
    source: UrlSource,
    announced: Option<crate::device::Profile>,
}

/// Receives the first of the candidates that plays.
async fn try_streams(
    request: &ProbeRequest,
    role: StreamRole,
    candidates: Vec<Candidate>,
    settings: &(impl Fn(&Url) -> ReceiverSettings + Sync),
    tell: &(impl Fn(ProbeProgress<'_>) + Sync),
) -> Option<StreamResult> {
    let mut first = None;
    for candidate in candidates {
        tell(ProbeProgress::Stream(role, &candidate.url));
        let settings = settings(&candidate.url);
        let limits = MeasureLimits {
            at_least: request.at_least,
            at_most: request.at_most,
            keyframes: KEYFRAMES,
        };
        let picture = |stream: &MeasuredStream| tell(ProbeProgress::Picture(role, stream));
        let measured = measure(&settings, limits, picture).await;
        let is_encrypted = candidate.url.scheme() == "rtsps";
        let (outcome, tries_next) = match measured {
            Ok(measured) => {
                let facts = StreamFacts::of(&measured, request.transport, is_encrypted);
                (StreamOutcome::Received(Box::new(facts)), false)
            }
            Err(error) => {
                let is_missing = matches!(error, ReceiveError::Rtsp(RtspError::NotFound { .. }));
                let outcome = StreamOutcome::Failed {
                    error: in_words(&error),
                    is_login: matches!(error, ReceiveError::Rtsp(RtspError::Unauthorized { .. })),
                    is_missing,
                    class: error.class(),
                };
                // Only a path that is not there is worth another one: cameras lock users after a few wrong logins.
                (outcome, is_missing)
            }
        };
        let result = StreamResult {
            role,
            url: candidate.url,
            source: candidate.source,
            announced: candidate.announced,
            outcome,
        };
        if !tries_next {
            return Some(result);
        }
        first.get_or_insert(result);
    }
    first
}

/// Why a stream does not play, with a remedy for logins that were held back.
fn in_words(error: &ReceiveError) -> Message {
    match error {
        ReceiveError::Rtsp(RtspError::Unauthorized {
            login: LoginProblem::NotAllowed { offered },
            ..
        }) => message!(
            "the camera asks for a login in the clear ({offered}), and the password was not sent; enable Digest in its menu, or allow it",
            offered
        ),
        other => other.message(),
    }
}
