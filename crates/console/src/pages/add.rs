//! Adding and removing a camera: the pages of [`crate::add`].
//!
//! Operators may add and remove cameras, as whoever works with a box does; an administrator alone may probe the box's own addresses. Forms are
//! read by hand ([`Fields`]), as the messages of a form's parser could repeat a password.

mod remove;
mod shown;

use std::{net::Ipv4Addr, sync::Arc};

use askama::Template;
use axum::{
    extract::{
        Path, Query, RawForm, State,
        rejection::{PathRejection, QueryRejection, RawFormRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use gridwatch_base::{
    message,
    secret::{Secret, Zeroizing},
};
use gridwatch_camera::{Auth, Transport};
use gridwatch_onvif::discovery::Interface;
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::{ActDetails, NotDone},
    form,
    i18n::Phrase,
};
use serde::{Deserialize, de::DeserializeOwned};

use self::shown::{DoneTemplate, FormView, ProbeTemplate, SaveView, SearchTemplate};
use super::{Keep, jpeg};
use crate::{
    add::{
        self, AddFault, AddressFault, CameraInput, Field, GivenFault, Need, OpenFault, PictureState, ProbeInput, Wizard,
    },
    app::{App, Routes},
    configuration,
    i18n::Texts,
    page::Page,
};

pub(super) fn routes(routes: Routes) -> Routes {
    let operator = Access::Role(Role::Operator);
    let routes = routes
        .get("/cameras/add", operator, show)
        .post("/cameras/add/search", operator, "console camera search", search)
        .get("/cameras/add/search/{id}", operator, search_progress)
        .post("/cameras/add/probe", operator, "console camera probe", probe)
        .get("/cameras/add/{id}", operator, wizard)
        .get("/cameras/add/{id}/progress", operator, progress)
        .get("/cameras/add/{id}/picture", operator, picture)
        .post("/cameras/add/{id}/save", operator, "console camera add", save);
    remove::routes(routes)
}

/// Status that makes htmx stop asking (<https://htmx.org/docs/#polling>).
const STOP_POLLING: u16 = 286;

/// The fields of a form, in order. Values are overwritten when dropped.
pub(super) struct Fields(Vec<(String, Zeroizing<String>)>);

impl Fields {
    pub(super) fn read(form: Result<RawForm, RawFormRejection>) -> Result<Self, Rejection> {
        let RawForm(body) = form.map_err(|_| Rejection::BadRequest(message!("not a form")))?;
        let pairs = url::form_urlencoded::parse(&body);
        let pairs = pairs.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned())));
        Ok(Self(pairs.collect()))
    }

    /// The first value of a field; empty without one.
    pub(super) fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(other, _)| other == name);
        named.map(|(_, value)| -> &str { value })
    }
}

/// The value with this name in the configuration; the default for an unknown one, which no form of the console sends.
fn named<T: DeserializeOwned + Default>(name: &str) -> T {
    let name = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name);
    T::deserialize(name).unwrap_or_default()
}

#[derive(Template)]
#[template(path = "add.html")]
struct AddTemplate<'a> {
    page: &'a Page,
    interfaces: Vec<Interface>,
    search: Option<SearchTemplate<'a>>,
    form: FormView,
}

#[derive(Template)]
#[template(path = "add_camera.html")]
struct WizardTemplate<'a> {
    page: &'a Page,
    probe: ProbeTemplate<'a>,
    is_failed: bool,
    form: FormView,
}

#[derive(Template)]
#[template(path = "add_expired.html")]
struct ExpiredTemplate<'a> {
    page: &'a Page,
    target: &'static str,
    message: Phrase,
}

#[derive(Debug, Default, Deserialize)]
struct StartQuery {
    /// Id of a search.
    #[serde(default)]
    search: String,
    /// A host that the search found.
    #[serde(default)]
    target: String,
    #[serde(default)]
    brand: String,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<StartQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(query) = query?;
    let form = FormView {
        target: add::shown_again(&query.target).unwrap_or_default().to_owned(),
        ..FormView::new(&page, &query.brand, Auth::Digest, Transport::Tcp, Need::Objects)
    };
    start_page(&app, &actor, &page, &query.search, form, StatusCode::OK).await
}

async fn start_page(
    app: &App,
    actor: &Actor,
    page: &Page,
    search: &str,
    form: FormView,
    status: StatusCode,
) -> Result<Response, Rejection> {
    let search = app.wizards.search(search, actor);
    let template = AddTemplate {
        page,
        // Without a list, an address can still be typed.
        interfaces: add::interfaces().await.unwrap_or_default(),
        search: search.map(|search| SearchTemplate::new(page, &app.config(), &search)),
        form,
    };
    page.show_with(status, &template)
}

async fn search(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let fields = Fields::read(form)?;
    let addresses: Result<Vec<Ipv4Addr>, _> = fields.all("interface").map(str::parse).collect();
    let addresses = addresses.map_err(|_| Rejection::BadRequest(message!("interface: not an IPv4 address")))?;
    let listed: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    let search = add::search(&app, &actor, &addresses).await?;
    let details = ActDetails::new("interfaces", listed.join(" "));
    Ok(details.on(page.redirect(&format!("/cameras/add?search={}", search.id))))
}

#[derive(Deserialize)]
struct SeenQuery {
    /// What the page shows already.
    #[serde(default)]
    seen: u32,
}

async fn search_progress(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<SeenQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (Path(id), Query(query)) = (path?, query?);
    let Some(search) = app.wizards.search(&id, &actor) else {
        return expired(&page, "found", page.t.add.search_gone);
    };
    let template = SearchTemplate::new(&page, &app.config(), &search);
    match template.seen == query.seen {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => page.show(&template),
    }
}

fn expired(page: &Page, target: &'static str, message: Phrase) -> Result<Response, Rejection> {
    let status = StatusCode::from_u16(STOP_POLLING).unwrap_or_default();
    page.show_with(status, &ExpiredTemplate { page, target, message })
}

/// Opens a wizard; without JavaScript, too, as it leads to a page.
async fn probe(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let fields = Fields::read(form)?;
    let (auth, transport, need) = (
        named::<Auth>(fields.get("auth")),
        named::<Transport>(fields.get("transport")),
        named::<Need>(fields.get("need")),
    );
    let channel = match fields.get("channel").trim() {
        "" => 1,
        // 0 is refused.
        text => text.parse().unwrap_or(0),
    };
    let input = ProbeInput {
        target: Secret::new(fields.get("target")),
        user: Secret::new(fields.get("user")),
        password: Secret::new(fields.get("password")),
        brand: fields.get("brand").to_owned(),
        channel,
        transport,
        auth,
        need,
    };
    match add::open(&app, &actor, input).await {
        Ok(wizard) => {
            let replaced = app.wizards.find(fields.get("replaces"), &actor);
            if let Some(replaced) = replaced {
                app.wizards.forget(&replaced.id);
            }
            let details = ActDetails::new("target", wizard.given.recorded());
            Ok(details.on(page.redirect(&format!("/cameras/add/{}", wizard.id))))
        }
        Err(fault) => {
            let (status, message) = open_fault(page.t, &fault);
            let form = FormView {
                message: message.to_string(),
                target: add::shown_again(fields.get("target")).unwrap_or_default().to_owned(),
                channel: channel.max(1),
                ..FormView::new(&page, fields.get("brand"), auth, transport, need)
            };
            let mut response = start_page(&app, &actor, &page, "", form, status).await?;
            response.extensions_mut().insert(NotDone(reason(&fault)));
            Ok(response)
        }
    }
}

/// Status and text of a refused probe.
fn open_fault(t: &Texts, fault: &OpenFault) -> (StatusCode, Phrase) {
    let t = &t.add;
    let message = match fault {
        OpenFault::Busy => return (StatusCode::SERVICE_UNAVAILABLE, t.busy),
        OpenFault::Address(AddressFault::Reserved) => return (StatusCode::FORBIDDEN, t.reserved),
        OpenFault::Address(AddressFault::Unresolved) => t.unresolved,
        OpenFault::Given(fault) => match fault {
            GivenFault::Target => t.bad_target,
            GivenFault::PasswordInQuery => t.bad_query,
            GivenFault::HalfLogin => t.bad_half,
            GivenFault::Login => t.bad_login,
            GivenFault::Brand => t.bad_brand,
            GivenFault::Channel => t.bad_channel,
        },
    };
    (StatusCode::UNPROCESSABLE_ENTITY, message)
}

/// For the audit log and for programs.
pub(crate) fn reason(fault: &OpenFault) -> String {
    match fault {
        OpenFault::Given(fault) => fault.to_string(),
        OpenFault::Address(fault) => fault.to_string(),
        OpenFault::Busy => "too many cameras are being added; try again in a moment".into(),
    }
}

async fn wizard(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = path?;
    let wizard = app.wizards.find(&id, &actor);
    let Some(wizard) = wizard else {
        let form = FormView {
            message: page.t.add.expired.to_string(),
            ..FormView::new(&page, "", Auth::Digest, Transport::Tcp, Need::Objects)
        };
        return start_page(&app, &actor, &page, "", form, StatusCode::NOT_FOUND).await;
    };
    let save = SaveView::new(&page, &app, &actor, &wizard).await?;
    wizard_page(&page, &wizard, save, StatusCode::OK)
}

fn wizard_page(page: &Page, wizard: &Wizard, save: SaveView, status: StatusCode) -> Result<Response, Rejection> {
    let probe = ProbeTemplate::new(page, wizard, save);
    let given = &wizard.given;
    let brand = given.brand.map_or("", |brand| brand.id.as_str());
    let template = WizardTemplate {
        page,
        is_failed: probe.is_failed(),
        probe,
        form: FormView {
            target: given.shown.clone(),
            channel: given.channel,
            replaces: wizard.id.clone(),
            ..FormView::new(page, brand, given.auth, given.transport, given.need)
        },
    };
    page.show_with(status, &template)
}

async fn progress(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<SeenQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (Path(id), Query(query)) = (path?, query?);
    let Some(wizard) = app.wizards.find(&id, &actor) else {
        return expired(&page, "probe", page.t.add.expired);
    };
    let save = SaveView::new(&page, &app, &actor, &wizard).await?;
    let template = ProbeTemplate::new(&page, &wizard, save);
    match template.seen == query.seen {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => page.show(&template),
    }
}

async fn picture(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    wizard_picture(&app, &actor, &path?.0)
}

/// The first picture of a wizard's camera.
pub(crate) fn wizard_picture(app: &App, actor: &Actor, id: &str) -> Result<Response, Rejection> {
    let wizard = app.wizards.find(id, actor).ok_or(Rejection::NotFound)?;
    let made = match &wizard.state().picture {
        PictureState::Made(picture) => Arc::clone(picture),
        _ => return Err(Rejection::NotFound),
    };
    Ok(jpeg(made.jpeg.clone(), Keep::Never))
}

async fn save(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let (Path(id), fields) = (path?, Fields::read(form)?);
    let wizard = app.wizards.find(&id, &actor).ok_or(Rejection::NotFound)?;
    let details = ActDetails::new("camera", fields.get("id").chars().take(64).collect::<String>())
        .with("target", wizard.given.recorded());
    let added = match camera_input(&fields) {
        Ok(input) => add::add(&app, &actor, &wizard, input).await,
        Err(field) => Err(AddFault::Field(field)),
    };
    match added {
        Ok(added) => {
            let details = details.with("version", added.version);
            Ok(details.on(page.show(&DoneTemplate {
                page: &page,
                warnings: configuration::camera_warnings(&app.config(), &added.id, page.language),
                added,
            })?))
        }
        Err(fault) => {
            let mut view = SaveView::new(&page, &app, &actor, &wizard).await?;
            view.take(&page, &fields, &fault);
            let status = match fault {
                AddFault::Exists | AddFault::Conflict { .. } => StatusCode::CONFLICT,
                AddFault::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::UNPROCESSABLE_ENTITY,
            };
            let mut response = details.on(wizard_page(&page, &wizard, view, status)?);
            response.extensions_mut().insert(NotDone(fault.to_string()));
            Ok(response)
        }
    }
}

/// What was typed; the first field that is not even of its kind.
fn camera_input(fields: &Fields) -> Result<CameraInput, Field> {
    let number = |name: &str, field: Field| fields.get(name).trim().parse::<f64>().map_err(|_| field);
    Ok(CameraInput {
        id: fields.get("id").trim().to_owned(),
        stream: shown::stream_role(fields.get("stream")).ok_or(Field::Stream)?,
        address: fields.get("address").to_owned(),
        lon: number("lon", Field::Lon)?,
        lat: number("lat", Field::Lat)?,
        uncertainty_m: match fields.get("uncertainty").trim() {
            "" => None,
            _ => Some(number("uncertainty", Field::Uncertainty)?),
        },
        look_every: fields.get("look_every").to_owned(),
        models: fields.all("model").map(str::to_owned).collect(),
        groups: form::names(fields.get("groups")),
        revision: fields.get("revision").to_owned(),
    })
}
