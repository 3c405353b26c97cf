//! The JSON API of live video, and of adding and removing cameras.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use axum::{
    Extension, Json,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{HeaderMap, Method},
    response::Response,
};
use gridwatch_base::secret::Secret;
use gridwatch_camera::{Auth, Transport};
use gridwatch_config::{Language, Role};
use gridwatch_engine::CameraId;
use gridwatch_onvif::{
    advice::Severity,
    brand::StreamRole,
    discovery::FoundDevice,
    probe::{CameraProbe, StreamOutcome, StreamResult},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DetectionAnswer;
use crate::{
    add::{
        self, AddFault, AddressFault, CameraInput, Need, OpenFault, PictureState, ProbeFault, ProbeInput, RemoveFault,
        shown_url,
    },
    app::App,
    client::Client,
    error::Rejection,
    events::Watcher,
    form::Password,
    identity::Actor,
    live,
    openapi::{Answer, Operation, schema},
    pages,
    routes::{ActDetails, Routes},
};

/// Adds the operations.
pub(super) fn routes(routes: Routes) -> Routes {
    let get = |path, id, summary, role, answer| Operation {
        method: Method::GET,
        path,
        id,
        summary,
        role,
        act: None,
        answer,
        body: None,
        query: None,
    };
    let post = |path, id, summary, act, answer, body| Operation {
        method: Method::POST,
        act: Some(act),
        body: Some(body),
        ..get(path, id, summary, Role::Operator, answer)
    };
    let operator = Role::Operator;
    routes
        .api(
            get(
                "/api/v1/views/{view}/live.mp4",
                "live",
                "Live video without masks, for the roles that may see those; each start is in the audit log",
                Role::Viewer,
                Answer::Mp4,
            ),
            live_video,
        )
        .api(
            post(
                "/api/v1/camera-searches",
                "search_cameras",
                "Search the box's networks for cameras (WS-Discovery), for 4 s",
                "console camera search",
                Answer::Json(schema::<StartedAnswer>),
                schema::<SearchBody>,
            ),
            search,
        )
        .api(
            get(
                "/api/v1/camera-searches/{id}",
                "camera_search",
                "What a search has found so far",
                operator,
                Answer::Json(schema::<SearchAnswer>),
            ),
            search_result,
        )
        .api(
            post(
                "/api/v1/camera-probes",
                "probe_camera",
                "Probe a camera: ONVIF, both streams for some seconds, advice, and the first picture with detections",
                "console camera probe",
                Answer::Json(schema::<StartedAnswer>),
                schema::<ProbeBody>,
            ),
            probe,
        )
        .api(
            get(
                "/api/v1/camera-probes/{id}",
                "camera_probe",
                "How far a probe has come; it is stopped if nobody asks for 30 s, and forgotten after 15 minutes",
                operator,
                Answer::Json(schema::<ProbeAnswer>),
            ),
            probe_result,
        )
        .api(
            get(
                "/api/v1/camera-probes/{id}/picture",
                "camera_probe_picture",
                "The first picture of a probed camera, masked",
                operator,
                Answer::Jpeg,
            ),
            probe_picture,
        )
        .api(
            post(
                "/api/v1/cameras",
                "add_camera",
                "Save a probed camera into the configuration, and put it into force",
                "console camera add",
                Answer::Json(schema::<AddedAnswer>),
                schema::<AddBody>,
            ),
            add_camera,
        )
        .api(
            Operation {
                method: Method::DELETE,
                act: Some("console camera remove"),
                query: Some(schema::<RevisionQuery>),
                ..get(
                    "/api/v1/cameras/{name}",
                    "remove_camera",
                    "Take a camera out of the configuration, and put that into force",
                    operator,
                    Answer::Json(schema::<RemovedAnswer>),
                )
            },
            remove_camera,
        )
}

/// The body. Messages of a JSON parser could repeat a password, so they are not passed on.
fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Rejection> {
    match body {
        Ok(Json(body)) => Ok(body),
        Err(rejection) => match Rejection::from(rejection) {
            Rejection::BadRequest(_) => Err(Rejection::BadRequest(
                "the body is not the JSON object that the description of the API asks for".into(),
            )),
            other => Err(other),
        },
    }
}

async fn live_video(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    actor: Actor,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    let watcher = Watcher::new(app, actor, client, headers);
    Ok(live::open(watcher, view).await?)
}

/// Something that was started.
#[derive(Debug, Serialize, JsonSchema)]
struct StartedAnswer {
    /// Where to ask for it.
    id: String,
}

/// Where to search.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SearchBody {
    /// IPv4 addresses of the box's interfaces; empty: all.
    #[serde(default)]
    interfaces: Vec<String>,
}

async fn search(
    State(app): State<Arc<App>>,
    actor: Actor,
    given: Result<Json<SearchBody>, JsonRejection>,
) -> Result<Response, Rejection> {
    let given = body(given)?;
    let addresses: Result<Vec<Ipv4Addr>, _> = given.interfaces.iter().map(|text| text.parse()).collect();
    let addresses = addresses.map_err(|_| Rejection::BadRequest("interfaces: not an IPv4 address".into()))?;
    let listed: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    let search = add::search(&app, &actor, &addresses).await?;
    let details = ActDetails::new("interfaces", listed.join(" "));
    Ok(details.on(Json(StartedAnswer { id: search.id.clone() })))
}

/// What a search has found so far.
#[derive(Debug, Serialize, JsonSchema)]
struct SearchAnswer {
    is_over: bool,
    /// More answered than are listed.
    is_cut_off: bool,
    /// Networks that could not be searched, with the reason.
    faults: Vec<String>,
    devices: Vec<DeviceAnswer>,
}

/// A device that answered. All but `from` is its own claim.
#[derive(Debug, Serialize, JsonSchema)]
struct DeviceAnswer {
    /// The IP address that answered.
    from: String,
    /// Its device service at that address, to be probed.
    address: Option<String>,
    name: Option<String>,
    hardware: Option<String>,
    manufacturer: Option<String>,
    location: Option<String>,
}

impl From<&FoundDevice> for DeviceAnswer {
    fn from(device: &FoundDevice) -> Self {
        Self {
            from: device.from.to_string(),
            address: device.address.as_ref().map(ToString::to_string),
            name: device.name.clone(),
            hardware: device.hardware.clone(),
            manufacturer: device.manufacturer.clone(),
            location: device.location.clone(),
        }
    }
}

async fn search_result(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<SearchAnswer>, Rejection> {
    let search = app.wizards.search(&path?.0, &actor).ok_or(Rejection::NotFound)?;
    let state = search.state();
    Ok(Json(SearchAnswer {
        is_over: state.is_over,
        is_cut_off: state.is_cut_off,
        faults: state.faults.clone(),
        devices: state.devices.iter().map(DeviceAnswer::from).collect(),
    }))
}

/// A camera to probe.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProbeBody {
    /// A stream's URL (`rtsp://`, `rtsps://`), a host, `HOST:PORT`, or the URL of a device service.
    target: Password,
    /// Its user name and password, kept in memory for 15 minutes and never returned.
    #[serde(default)]
    user: Option<Password>,
    #[serde(default)]
    password: Option<Password>,
    /// `hikvision`, `dahua`, `uniview`, `tp-link` or `generic`; absent: as recognised.
    #[serde(default)]
    brand: Option<String>,
    /// Of a recorder, 1 to 256. Default 1.
    #[serde(default)]
    channel: Option<u16>,
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

async fn probe(
    State(app): State<Arc<App>>,
    actor: Actor,
    given: Result<Json<ProbeBody>, JsonRejection>,
) -> Result<Response, Rejection> {
    let given = body(given)?;
    let secret = |password: Option<Password>| password.map_or_else(|| Secret::new(""), Password::into_secret);
    let input = ProbeInput {
        target: given.target.into_secret(),
        user: secret(given.user),
        password: secret(given.password),
        brand: given.brand.unwrap_or_default(),
        channel: given.channel.unwrap_or(1),
        transport: given.transport,
        auth: given.auth.unwrap_or(Auth::Digest),
        need: given.need,
    };
    let wizard = add::open(&app, &actor, input).await.map_err(|fault| match fault {
        OpenFault::Busy => Rejection::Unavailable(pages::probe_refusal(&fault)),
        OpenFault::Address(AddressFault::Reserved) => Rejection::Role(Role::Admin),
        _ => Rejection::BadRequest(pages::probe_refusal(&fault)),
    })?;
    let details = ActDetails::new("target", wizard.given.recorded());
    Ok(details.on(Json(StartedAnswer { id: wizard.id.clone() })))
}

/// How far a probe has come.
#[derive(Debug, Serialize, JsonSchema)]
struct ProbeAnswer {
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
                StreamOutcome::Failed { error, .. } => Some(error.clone()),
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
        zh: advice.text(Language::Zh),
        en: advice.text(Language::En),
    });
    lines.collect()
}

async fn probe_result(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ProbeAnswer>, Rejection> {
    let wizard = app.wizards.find(&path?.0, &actor).ok_or(Rejection::NotFound)?;
    let revision = add::revision(&app.config()).await?;
    let state = wizard.state();
    let probe = state.probe();
    let error = match &state.outcome {
        Some(Err(ProbeFault::Failed(why))) => Some(why.clone()),
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

async fn probe_picture(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    pages::wizard_picture(&app, &actor, &path?.0)
}

/// Which stream.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StreamName {
    Main,
    Sub,
}

/// A camera to save.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AddBody {
    /// Id of its probe.
    probe: String,
    /// Its id: letters, digits, `_` and `-`, at most 64.
    id: String,
    stream: StreamName,
    /// Address in words.
    #[serde(default)]
    address: String,
    /// Longitude in degrees, in the configuration's reference system: of the ground that the camera sees.
    lon: f64,
    /// Latitude in degrees.
    lat: f64,
    /// Radius of the view in metres, 1 to 1000. Default 30.
    #[serde(default)]
    uncertainty_m: Option<f64>,
    /// Time between two looks, such as `10s`, the default.
    #[serde(default)]
    look_every: String,
    /// Ids of models; empty: all.
    #[serde(default)]
    models: Vec<String>,
    /// Groups of cameras.
    #[serde(default)]
    groups: BTreeSet<String>,
    /// Revision of the configuration, as the probe's answer has it: if the files were changed since, nothing is saved.
    revision: String,
}

/// A camera that was saved.
#[derive(Debug, Serialize, JsonSchema)]
struct AddedAnswer {
    id: String,
    /// Version of the configuration.
    version: u64,
    /// The file that it was written into.
    file: String,
    /// Why it is not in force although it was saved; empty if it is.
    problems: Vec<String>,
}

async fn add_camera(
    State(app): State<Arc<App>>,
    actor: Actor,
    given: Result<Json<AddBody>, JsonRejection>,
) -> Result<Response, Rejection> {
    let given = body(given)?;
    let wizard = app.wizards.find(&given.probe, &actor).ok_or(Rejection::NotFound)?;
    let details = ActDetails::new("camera", given.id.chars().take(64).collect::<String>())
        .with("target", wizard.given.recorded());
    let input = CameraInput {
        id: given.id,
        stream: match given.stream {
            StreamName::Main => StreamRole::Main,
            StreamName::Sub => StreamRole::Sub,
        },
        address: given.address,
        lon: given.lon,
        lat: given.lat,
        uncertainty_m: given.uncertainty_m,
        look_every: given.look_every,
        models: given.models,
        groups: given.groups,
        revision: given.revision,
    };
    Ok(match add::add(&app, &actor, &wizard, input).await {
        Ok(added) => details.with("version", added.version).on(Json(AddedAnswer {
            id: added.id,
            version: added.version,
            file: added.file,
            problems: added.problems.iter().map(ToString::to_string).collect(),
        })),
        Err(fault) => details.on(match &fault {
            AddFault::Exists | AddFault::Conflict { .. } => Rejection::Conflict(fault.to_string()),
            AddFault::Failed(why) => Rejection::Unavailable(why.clone()),
            _ => Rejection::BadRequest(fault.to_string()),
        }),
    })
}

/// For which state of the files.
#[derive(Debug, Deserialize, JsonSchema)]
struct RevisionQuery {
    /// Revision of the configuration: if the files were changed since, nothing is done. Absent: the present one.
    #[serde(default)]
    revision: Option<String>,
}

/// A camera that was taken out.
#[derive(Debug, Serialize, JsonSchema)]
struct RemovedAnswer {
    /// Version of the configuration.
    version: u64,
    /// What was going on there.
    views: Vec<RemovedViewAnswer>,
    /// Why that is not in force although it was saved; empty if it is.
    problems: Vec<String>,
}

/// A view that is gone.
#[derive(Debug, Serialize, JsonSchema)]
struct RemovedViewAnswer {
    view: String,
    /// Candidates that were given up.
    candidates: usize,
    /// Its open cases, which stay open at the platform.
    open_cases: Vec<String>,
}

async fn remove_camera(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<RevisionQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (Path(name), Query(query), config) = (path?, query?, app.config());
    let camera = config.cameras.iter().find(|camera| camera.id.as_str() == name);
    let camera = camera.filter(|camera| actor.sees(camera)).ok_or(Rejection::NotFound)?;
    let revision = match query.revision {
        Some(revision) => revision,
        None => add::revision(&config).await?,
    };
    let details = ActDetails::new("camera", &camera.id);
    Ok(match add::remove(&app, &actor, camera, revision).await {
        Ok(removed) => details.with("version", removed.version).on(Json(RemovedAnswer {
            version: removed.version,
            views: removed
                .views
                .into_iter()
                .map(|gone| RemovedViewAnswer {
                    view: gone.view.to_string(),
                    candidates: gone.candidates,
                    open_cases: gone.open_cases.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            problems: removed.problems.iter().map(ToString::to_string).collect(),
        })),
        Err(fault) => details.on(match &fault {
            RemoveFault::Conflict { .. } => Rejection::Conflict(fault.to_string()),
            RemoveFault::Faults(_) => Rejection::BadRequest(fault.to_string()),
            RemoveFault::Failed(why) => Rejection::Unavailable(why.clone()),
        }),
    })
}
