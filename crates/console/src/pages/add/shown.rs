//! What the pages of adding a camera show.

use askama::Template;
use gridwatch_camera::{Auth, Transport};
use gridwatch_config::{Config, Language, raw::Span};
use gridwatch_onvif::{
    advice::Severity,
    brand::{self, StreamRole},
    probe::{CameraProbe, StreamFacts, StreamOutcome, StreamResult},
};
use gridwatch_web::{Actor, Rejection, i18n::Phrase};

use super::Fields;
use crate::{
    add::{self, AddFault, Added, Field, Need, PictureState, ProbeFault, Search, Wizard, shown_url},
    app::App,
    daemon::PictureError,
    i18n::messages,
    overlay::Overlay,
    page::Page,
};

/// A choice in a form.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) name: String,
    pub(super) is_chosen: bool,
}

impl Choice {
    fn new(value: &str, name: impl ToString, chosen: &str) -> Self {
        Self {
            value: value.to_owned(),
            name: name.to_string(),
            is_chosen: value == chosen,
        }
    }
}

/// The form with address and login. The login is never filled in.
pub(super) struct FormView {
    pub(super) message: String,
    pub(super) target: String,
    pub(super) channel: u16,
    /// Id of the wizard that a new one takes the place of.
    pub(super) replaces: String,
    pub(super) brands: Vec<Choice>,
    pub(super) auths: Vec<Choice>,
    pub(super) transports: Vec<Choice>,
    pub(super) needs: Vec<Choice>,
}

/// The name of a value in the configuration.
fn name_of(value: impl serde::Serialize) -> String {
    let name = serde_json::to_value(value).ok();
    name.and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}

impl FormView {
    pub(super) fn new(page: &Page, brand: &str, auth: Auth, transport: Transport, need: Need) -> Self {
        let t = &page.t.add;
        let (auth, transport, need) = (name_of(auth), name_of(transport), name_of(need));
        let brands = brand::brands()
            .iter()
            .map(|known| Choice::new(&known.id, known.title.of(page.language), brand));
        Self {
            message: String::new(),
            target: String::new(),
            channel: 1,
            replaces: String::new(),
            brands: brands.collect(),
            auths: vec![
                Choice::new("digest", t.auth_digest, &auth),
                Choice::new("auto", t.auth_auto, &auth),
                Choice::new("basic", t.auth_basic, &auth),
            ],
            transports: ["tcp", "udp", "http"]
                .map(|name| Choice::new(name, name.to_uppercase(), &transport))
                .into(),
            needs: vec![
                Choice::new("objects", t.need_objects, &need),
                Choice::new("overview", t.need_overview, &need),
                Choice::new("text", t.need_text, &need),
            ],
        }
    }
}

/// What a search has found so far.
#[derive(Template)]
#[template(path = "add_search.html")]
pub(super) struct SearchTemplate<'a> {
    page: &'a Page,
    id: String,
    /// Changes whenever there is something else to show.
    pub(super) seen: u32,
    is_over: bool,
    is_cut_off: bool,
    faults: Vec<String>,
    devices: Vec<DeviceLine>,
}

struct DeviceLine {
    name: String,
    details: String,
    host: String,
    /// What is typed for it: its device service.
    target: String,
    brand: String,
    elsewhere: usize,
    is_configured: bool,
}

impl<'a> SearchTemplate<'a> {
    pub(super) fn new(page: &'a Page, config: &Config, search: &Search) -> Self {
        let state = search.state().clone();
        let devices = state.devices.iter().map(|device| {
            let host = device.from.to_string();
            let texts = [&device.manufacturer, &device.name, &device.hardware];
            let details = [&device.hardware, &device.location, &device.mac];
            let details = details.into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
            let brand = brand::by_name(texts.into_iter().flatten().map(String::as_str));
            DeviceLine {
                name: device.name.clone().unwrap_or_else(|| host.clone()),
                details: details.join(" · "),
                target: device
                    .address
                    .as_ref()
                    .map_or_else(|| host.clone(), ToString::to_string),
                brand: brand.map(|brand| brand.id.clone()).unwrap_or_default(),
                elsewhere: device.elsewhere.len(),
                is_configured: config
                    .cameras
                    .iter()
                    .any(|camera| camera.url.host_str() == Some(host.as_str())),
                host,
            }
        });
        let devices: Vec<DeviceLine> = devices.collect();
        let count = u32::try_from(devices.len()).unwrap_or(u32::MAX / 2);
        Self {
            page,
            id: search.id.clone(),
            // 0 is a page that shows nothing yet.
            seen: 1 + 2 * count + u32::from(state.is_over),
            is_over: state.is_over,
            is_cut_off: state.is_cut_off,
            faults: state.faults,
            devices,
        }
    }
}

/// How far a probe has come, and its result.
#[derive(Template)]
#[template(path = "add_probe.html")]
pub(super) struct ProbeTemplate<'a> {
    page: &'a Page,
    id: String,
    host: String,
    /// Changes whenever there is something else to show.
    pub(super) seen: u32,
    is_going_on: bool,
    is_over: bool,
    fault: String,
    is_login_wrong: bool,
    device: String,
    tried: Vec<String>,
    picture: Option<PictureView>,
    picture_text: String,
    rows: Vec<StreamRow>,
    firmware: String,
    clock: String,
    advice: Vec<AdviceLine>,
    save: Option<SaveView>,
}

struct PictureView {
    width: u32,
    height: u32,
    after: String,
    overlay: Overlay,
}

struct StreamRow {
    role: Phrase,
    url: String,
    is_proposed: bool,
    /// Why it does not play; empty if it does.
    error: String,
    codec: String,
    resolution: String,
    frame_rate: String,
    bit_rate: String,
    keyframes: String,
    loss: String,
    login: String,
}

struct AdviceLine {
    class: &'static str,
    severity: Phrase,
    text: String,
}

impl<'a> ProbeTemplate<'a> {
    pub(super) fn new(page: &'a Page, wizard: &Wizard, save: SaveView) -> Self {
        let t = &page.t.add;
        let state = wizard.state();
        let host = wizard.given.target.host().to_owned();
        let role = |role: StreamRole| if role == StreamRole::Main { t.main } else { t.sub };
        let tried = state.tried.iter().map(|(stream, url)| {
            let line = t.step_stream.with("role", role(*stream)).with("url", url);
            line.to_string()
        });
        let (picture_code, picture, picture_text) = match &state.picture {
            PictureState::Awaited => (0, None, t.picture_awaited.to_string()),
            PictureState::Making => (1, None, t.picture_making.to_string()),
            PictureState::Made(picture) => {
                let after = state.picture_after.unwrap_or_default().as_secs_f64();
                let view = PictureView {
                    width: picture.size.0,
                    height: picture.size.1,
                    after: format!("{after:.1}"),
                    overlay: Overlay::of_findings(page, &picture.findings),
                };
                (2, Some(view), String::new())
            }
            PictureState::Failed(PictureError::Busy) => (3, None, t.picture_busy.to_string()),
            PictureState::Failed(error) => (3, None, t.picture_failed.with("why", error).to_string()),
            PictureState::None => (4, None, t.picture_none.to_string()),
        };
        let fault = match &state.outcome {
            Some(Err(ProbeFault::Failed(why))) => page.message(why),
            Some(Err(ProbeFault::TimedOut)) => t.timed_out.to_string(),
            Some(Err(ProbeFault::Abandoned)) => t.abandoned.to_string(),
            Some(Ok(_)) | None => String::new(),
        };
        let probe = state.probe();
        let streams = probe.as_ref().map_or(&[][..], |probe| &probe.facts.streams);
        let proposed = probe.as_ref().and_then(|probe| probe.facts.proposed);
        let has_stream = streams.iter().any(|stream| stream.outcome.facts().is_some());
        let is_login = |stream: &StreamResult| matches!(stream.outcome, StreamOutcome::Failed { is_login: true, .. });
        let device = probe.as_ref().and_then(|probe| probe.facts.device.as_ref());
        let tried: Vec<String> = tried.collect();
        let steps = u32::try_from(tried.len()).unwrap_or(0);
        Self {
            page,
            id: wizard.id.clone(),
            // 0 is a page that shows nothing yet.
            seen: 1
                + u32::from(state.outcome.is_some())
                + 2 * (u32::from(state.device.is_some()) + 2 * (picture_code + 5 * steps)),
            is_going_on: state.is_going_on(),
            is_over: state.outcome.is_some(),
            fault,
            is_login_wrong: streams.iter().any(is_login),
            device: state.device.clone().unwrap_or_default(),
            tried,
            picture,
            picture_text,
            rows: streams
                .iter()
                .map(|stream| StreamRow::new(page, role(stream.role), stream, proposed))
                .collect(),
            firmware: device
                .and_then(|device| device.information.as_ref())
                .map(|information| information.firmware.clone())
                .unwrap_or_default(),
            clock: probe
                .as_ref()
                .and_then(|probe| clock_difference(probe))
                .map(|seconds| {
                    t.clock_value
                        .with("n", format!("{:+.0}", seconds.round() + 0.0))
                        .to_string()
                })
                .unwrap_or_default(),
            advice: probe.as_ref().map_or_else(Vec::new, |probe| advice(page, probe)),
            save: has_stream.then(|| save.for_probe(page, proposed, streams)),
            host,
        }
    }

    pub(super) fn is_failed(&self) -> bool {
        self.is_over && self.save.is_none()
    }
}

/// The camera's clock minus the box's, as exactly as it is known.
fn clock_difference(probe: &CameraProbe) -> Option<f64> {
    let mut by_rtcp = probe.facts.streams.iter().filter_map(|stream| stream.outcome.facts());
    let by_rtcp = by_rtcp.find_map(|facts| facts.clock_difference_s);
    let clock = probe.facts.device.as_ref().and_then(|device| device.clock.as_ref());
    by_rtcp.or(clock.map(|clock| clock.difference_s))
}

fn advice(page: &Page, probe: &CameraProbe) -> Vec<AdviceLine> {
    let t = &page.t.add;
    let lines = probe.advice.iter().map(|advice| {
        let (class, severity) = match advice.severity {
            Severity::Problem => ("problem", t.problem),
            Severity::Warning => ("warning", t.warning),
            Severity::Note => ("note", t.note),
        };
        AdviceLine {
            class,
            severity,
            text: messages::advice(advice, page.language),
        }
    });
    lines.collect()
}

impl StreamRow {
    fn new(page: &Page, role: Phrase, stream: &StreamResult, proposed: Option<StreamRole>) -> Self {
        let facts = stream.outcome.facts();
        let show = |text: &dyn Fn(&StreamFacts) -> String| facts.map(text).unwrap_or_default();
        let t = &page.t.add;
        Self {
            role,
            url: shown_url(&stream.url),
            is_proposed: proposed == Some(stream.role),
            error: match &stream.outcome {
                StreamOutcome::Received(_) => String::new(),
                StreamOutcome::Failed { error, .. } => page.message(error),
            },
            codec: show(&|facts| match facts.codec {
                "h264" => "H.264".into(),
                "h265" => "H.265".into(),
                _ => "Motion JPEG".into(),
            }),
            resolution: show(&|facts| format!("{}×{}", facts.width, facts.height)),
            frame_rate: show(&|facts| format!("{:.1}", facts.frame_rate)),
            bit_rate: show(&|facts| format!("{:.2} Mb/s", facts.bit_rate / 1e6)),
            keyframes: show(&|facts| match facts.keyframe_interval {
                None => "–".into(),
                Some(k) if k.is_at_least => t.seconds_or_more.with("n", format!("{:.1}", k.longest_s)).to_string(),
                Some(k) if k.longest_s - k.shortest_s > 0.2 => t
                    .seconds_range
                    .with("least", format!("{:.1}", k.shortest_s))
                    .with("most", format!("{:.1}", k.longest_s))
                    .to_string(),
                Some(k) => t.seconds.with("n", format!("{:.1}", k.longest_s)).to_string(),
            }),
            loss: show(&|facts| format!("{:.1} %", 100.0 * facts.loss)),
            login: show(&|facts| facts.login.clone().unwrap_or_else(|| t.no_login.to_string())),
        }
    }
}

/// The form that saves the camera.
pub(super) struct SaveView {
    message: String,
    /// Faults and changes, in English.
    lines: Vec<String>,
    faults: Vec<(&'static str, String)>,
    revision: String,
    id: String,
    /// The chosen stream; empty: the proposed one.
    stream: String,
    streams: Vec<Choice>,
    address: String,
    lon: String,
    lat: String,
    uncertainty: String,
    look_every: String,
    models: Vec<Choice>,
    groups: String,
    own_groups: String,
    crs: String,
}

/// Name of a field in the form.
fn field_name(field: Field) -> &'static str {
    match field {
        Field::Id => "id",
        Field::Stream => "stream",
        Field::Address => "address",
        Field::Lon => "lon",
        Field::Lat => "lat",
        Field::Uncertainty => "uncertainty",
        Field::LookEvery => "look_every",
        Field::Models => "models",
        Field::Groups => "groups",
    }
}

pub(super) fn stream_role(name: &str) -> Option<StreamRole> {
    match name {
        "main" => Some(StreamRole::Main),
        "sub" => Some(StreamRole::Sub),
        _ => None,
    }
}

impl SaveView {
    pub(super) async fn new(page: &Page, app: &App, actor: &Actor, wizard: &Wizard) -> Result<Self, Rejection> {
        let config = app.config();
        let own_groups: Vec<&str> = actor.groups.iter().map(String::as_str).collect();
        let own_groups = own_groups.join(if page.language == Language::Zh { "、" } else { ", " });
        // The host, as far as an id takes it, and a number if that is taken.
        let host: String = wizard
            .given
            .target
            .host()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(50)
            .collect();
        let base = format!("camera-{}", host.trim_matches('-'));
        let is_free = |id: &String| config.cameras.iter().all(|camera| camera.id.as_str() != id);
        let numbered = (2..100).map(|n| format!("{base}-{n}"));
        let id = std::iter::once(base.clone()).chain(numbered).find(is_free);
        Ok(Self {
            message: String::new(),
            lines: Vec::new(),
            faults: Vec::new(),
            revision: add::revision(&config).await?,
            id: id.unwrap_or_default(),
            stream: String::new(),
            streams: Vec::new(),
            address: String::new(),
            lon: String::new(),
            lat: String::new(),
            uncertainty: String::new(),
            // That of the camera before: the rules' times are set up for it.
            look_every: config
                .cameras
                .last()
                .map(|camera| Span(camera.look_every).to_string())
                .unwrap_or_default(),
            models: config
                .models
                .iter()
                .map(|model| Choice::new(&model.id, &model.id, ""))
                .collect(),
            groups: own_groups.clone(),
            own_groups,
            crs: config.crs.clone(),
        })
    }

    /// With the streams that play.
    fn for_probe(mut self, page: &Page, proposed: Option<StreamRole>, streams: &[StreamResult]) -> Self {
        let t = &page.t.add;
        let plays = |role: StreamRole| {
            let mut of_role = streams.iter().filter(|stream| stream.role == role);
            of_role.any(|stream| stream.outcome.facts().is_some())
        };
        let name = |role| if role == StreamRole::Main { "main" } else { "sub" };
        let only = [StreamRole::Main, StreamRole::Sub]
            .into_iter()
            .find(|role| plays(*role));
        let chosen = match self.stream.as_str() {
            "" => proposed.or(only).map(name).unwrap_or_default().to_owned(),
            chosen => chosen.to_owned(),
        };
        for (role, text) in [(StreamRole::Main, t.main), (StreamRole::Sub, t.sub)] {
            if plays(role) {
                self.streams.push(Choice::new(name(role), text, &chosen));
            }
        }
        self
    }

    /// What was typed, and what is wrong with it.
    pub(super) fn take(&mut self, page: &Page, fields: &Fields, fault: &AddFault) {
        let t = &page.t.add;
        let typed = |name: &str| fields.get(name).chars().take(256).collect::<String>();
        self.id = typed("id");
        self.stream = typed("stream");
        self.address = typed("address");
        self.lon = typed("lon");
        self.lat = typed("lat");
        self.uncertainty = typed("uncertainty");
        self.look_every = typed("look_every");
        self.groups = typed("groups");
        for model in &mut self.models {
            model.is_chosen = fields.all("model").any(|id| id == model.value);
        }
        // A conflict is seen by the revision of the page, until the page has shown it.
        self.revision = typed("revision");
        match fault {
            AddFault::Field(field) => {
                let (name, text) = match field {
                    Field::Id => (t.id, t.bad_id),
                    Field::Stream => (t.use_stream, t.bad_stream),
                    Field::Address => (page.t.wall.address, t.bad_address),
                    Field::Lon => (t.lon, t.bad_lon),
                    Field::Lat => (t.lat, t.bad_lat),
                    Field::Uncertainty => (t.uncertainty, t.bad_uncertainty),
                    Field::LookEvery => (t.look_every, t.bad_look_every),
                    Field::Models => (t.models, t.bad_models),
                    Field::Groups => (t.groups, t.bad_groups),
                };
                self.message = t.field_fault.with("field", name).with("text", text).to_string();
                self.faults.push((field_name(*field), text.to_string()));
            }
            AddFault::NotProbed => self.message = t.not_probed.to_string(),
            AddFault::PasswordInUrl => self.message = t.password_in_url.to_string(),
            AddFault::Exists => {
                self.message = t.exists.to_string();
                self.faults.push(("id", t.exists.to_string()));
            }
            AddFault::Conflict { found, changes } => {
                self.revision = found.clone();
                self.message = match changes {
                    Some(_) => t.conflict.to_string(),
                    None => t.conflict_unknown.to_string(),
                };
                self.lines = changes.iter().flatten().map(|change| page.message(change)).collect();
            }
            AddFault::Faults(faults) => {
                self.message = t.faults.to_string();
                for (field, text) in faults {
                    match field {
                        Some(field) => self.faults.push((field_name(*field), page.message(text))),
                        None => self.lines.push(page.message(text)),
                    }
                }
            }
            AddFault::Failed(why) => self.message = t.save_failed.with("why", page.message(why)).to_string(),
        }
    }

    /// What is wrong with a field; empty if nothing is.
    fn fault(&self, name: &str) -> &str {
        let fault = self.faults.iter().find(|(field, _)| *field == name);
        fault.map_or("", |(_, text)| text)
    }
}

/// A camera that was saved, and what to do next.
#[derive(Template)]
#[template(path = "add_done.html")]
pub(super) struct DoneTemplate<'a> {
    pub(super) page: &'a Page,
    pub(super) added: Added,
    /// What is probably not intended in its configuration.
    pub(super) warnings: Vec<String>,
}
