//! Probes of cameras, before they are added.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use gridwatch_base::secret::Secret;
use gridwatch_camera::{Auth, Transport};
use gridwatch_config::Language;
use gridwatch_onvif::{
    advice::Severity,
    brand::StreamRole,
    probe::{CameraProbe, StreamOutcome, StreamResult},
};
use gridwatch_web::{Actor, Rejection, Role, audit::ActDetails, form::Password};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{super::DetectionAnswer, StartedAnswer, body};
use crate::i18n::messages;
use crate::{
    add::{self, AddressFault, Need, OpenFault, PictureState, ProbeFault, ProbeInput, shown_url},
    app::App,
    pages,
    values::{BrandName, JsonObject, Whole},
};

/// Channels of the largest recorders.
const MAX_CHANNEL: u32 = 256;

/// After this it makes sense to probe again, while many cameras are being probed.
const PROBE_PAUSE: Duration = Duration::from_secs(9);

/// A camera to probe.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeBody {
    /// A stream's URL (`rtsp://`, `rtsps://`), a host, `HOST:PORT`, or the URL of a device service.
    target: Password,
    /// Its user name and password, kept in memory for 15 minutes and never returned.
    #[serde(default)]
    user: Option<Password>,
    #[serde(default)]
    password: Option<Password>,
    /// Absent: as recognised.
    #[serde(default)]
    brand: Option<BrandName>,
    /// Of a recorder. Default 1.
    #[serde(default)]
    channel: Option<Whole<1, MAX_CHANNEL>>,
    /// Default `tcp`.
    #[serde(default)]
    transport: Transport,
    /// Default `digest`, with which the password itself is never sent.
    #[serde(default)]
    auth: Option<Auth>,
    /// Default `objects`.
    #[serde(default)]
    need: Need,
}

pub(super) async fn probe_camera(
    State(app): State<Arc<App>>,
    actor: Actor,
    given: Result<JsonObject<ProbeBody>, Rejection>,
) -> Result<Response, Rejection> {
    let given = body(given)?;
    let secret = |password: Option<Password>| password.map_or_else(|| Secret::new(""), Password::into_secret);
    let input = ProbeInput {
        target: given.target.into_secret(),
        user: secret(given.user),
        password: secret(given.password),
        brand: given.brand.map(|brand| brand.as_str().to_owned()).unwrap_or_default(),
        channel: given.channel.map_or(1, |channel| channel.get() as u16),
        transport: given.transport,
        auth: given.auth.unwrap_or(Auth::Digest),
        need: given.need,
    };
    let wizard = add::open(&app, &actor, input).await.map_err(|fault| match fault {
        OpenFault::Busy => Rejection::TooMany(PROBE_PAUSE),
        OpenFault::Address(AddressFault::Reserved) => Rejection::Role(Role::Admin),
        _ => Rejection::Unfit(pages::probe_refusal(&fault).into()),
    })?;
    let details = ActDetails::new("target", wizard.given.recorded());
    Ok(details.on(Json(StartedAnswer { id: wizard.id.clone() })))
}

/// How far a probe has come.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProbeAnswer {
    /// Nothing more comes.
    is_over: bool,
    /// Manufacturer and model.
    device: Option<String>,
    /// Why it failed, with the remedy.
    error: Option<String>,
    /// Main stream, then sub stream, as far as they were tried.
    streams: Vec<StreamAnswer>,
    /// The stream to use: `main` or `sub`.
    proposed: Option<&'static str>,
    /// The gravest first.
    advice: Vec<AdviceAnswer>,
    /// The first picture, once it is there.
    picture: Option<PictureAnswer>,
    /// Revision of the configuration, for saving.
    revision: String,
}

/// A stream that was tried.
#[derive(Debug, Serialize, JsonSchema)]
struct StreamAnswer {
    /// `main` or `sub`.
    role: &'static str,
    /// Without login.
    url: String,
    /// Why it does not play.
    error: Option<String>,
    /// `h264`, `h265` or `jpeg`.
    codec: Option<&'static str>,
    /// Width and height in pixels.
    size: Option<(u32, u32)>,
    /// Pictures a second.
    frame_rate: Option<f64>,
    /// Bits a second.
    bit_rate: Option<f64>,
    /// The longest time between keyframes in seconds.
    keyframe_interval_s: Option<f64>,
    /// Share of packets lost, 0 to 1.
    loss: Option<f64>,
    /// The camera's clock minus the box's in seconds.
    clock_difference_s: Option<f64>,
}

/// Advice on one matter.
#[derive(Debug, Serialize, JsonSchema)]
struct AdviceAnswer {
    /// `problem`, `warning` or `note`.
    severity: &'static str,
    /// Stable name of the matter.
    code: String,
    zh: String,
    en: String,
}

/// The first picture.
#[derive(Debug, Serialize, JsonSchema)]
struct PictureAnswer {
    /// From the start of the probe, in seconds.
    after_s: f64,
    /// Width and height in pixels.
    size: (u32, u32),
    detections: Vec<DetectionAnswer>,
}

fn role_name(role: StreamRole) -> &'static str {
    match role {
        StreamRole::Main => "main",
        StreamRole::Sub => "sub",
    }
}

impl StreamAnswer {
    fn new(stream: &StreamResult) -> Self {
        let facts = stream.outcome.facts();
        Self {
            role: role_name(stream.role),
            url: shown_url(&stream.url),
            error: match &stream.outcome {
                StreamOutcome::Received(_) => None,
                StreamOutcome::Failed { error, .. } => Some(error.to_string()),
            },
            codec: facts.map(|facts| facts.codec),
            size: facts.map(|facts| (facts.width, facts.height)),
            frame_rate: facts.map(|facts| facts.frame_rate),
            bit_rate: facts.map(|facts| facts.bit_rate),
            keyframe_interval_s: facts.and_then(|facts| facts.keyframe_interval).map(|k| k.longest_s),
            loss: facts.map(|facts| facts.loss),
            clock_difference_s: facts.and_then(|facts| facts.clock_difference_s),
        }
    }
}

fn advice(probe: &CameraProbe) -> Vec<AdviceAnswer> {
    let lines = probe.advice.iter().map(|advice| AdviceAnswer {
        severity: match advice.severity {
            Severity::Problem => "problem",
            Severity::Warning => "warning",
            Severity::Note => "note",
        },
        code: advice.key(),
        zh: messages::advice(advice, Language::Zh),
        en: messages::advice(advice, Language::En),
    });
    lines.collect()
}

pub(super) async fn probe_result(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ProbeAnswer>, Rejection> {
    let wizard = app.wizards.find(&path?.0, &actor).ok_or(Rejection::NotFound)?;
    let revision = add::revision(&app.config()).await?;
    let state = wizard.state();
    let probe = state.probe();
    let error = match &state.outcome {
        Some(Err(ProbeFault::Failed(why))) => Some(why.to_string()),
        Some(Err(ProbeFault::TimedOut)) => Some("it did not finish within 90 s".into()),
        Some(Err(ProbeFault::Abandoned)) => Some("stopped, as nobody asked for it for 30 s".into()),
        Some(Ok(_)) | None => None,
    };
    let picture = match &state.picture {
        PictureState::Made(made) => Some(PictureAnswer {
            after_s: state.picture_after.unwrap_or_default().as_secs_f64(),
            size: made.size,
            detections: made.findings.iter().map(DetectionAnswer::from).collect(),
        }),
        _ => None,
    };
    let streams = probe.as_ref().map_or(&[][..], |probe| &probe.facts.streams);
    Ok(Json(ProbeAnswer {
        is_over: !state.is_going_on(),
        device: state.device.clone(),
        error,
        streams: streams.iter().map(StreamAnswer::new).collect(),
        proposed: probe.as_ref().and_then(|probe| probe.facts.proposed).map(role_name),
        advice: probe.as_ref().map_or_else(Vec::new, |probe| advice(probe)),
        picture,
        revision,
    }))
}

pub(super) async fn probe_picture(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    pages::wizard_picture(&app, &actor, &path?.0)
}
