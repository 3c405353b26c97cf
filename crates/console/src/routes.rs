//! The table of all routes, and the one path that every request takes: who sends it, may they, was it sent by a page of this console, and,
//! for what changes something, the audit log.
//!
//! A route cannot be added without saying which role it takes, and a change cannot be added without a name for the audit log.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{DefaultBodyLimit, Request, State},
    handler::Handler,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri,
        header::{ACCEPT, ALLOW, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use gridwatch_config::Role;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::{
    app::App,
    client::{self, Client},
    csrf,
    daemon::{Act, Means, Outcome, Person},
    error::Rejection,
    identity::{Actor, Identity, identify},
    page::Page,
    pages::ErrorTemplate,
};

/// Body of a request, at most: a view's zones are a few kilobytes.
pub(crate) const MAX_BODY: usize = 256 << 10;

/// Longest time for a handler, the reading of the request's body included. A look takes at most 20 s.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anyone who reaches the console: login and assets.
    Public,
    /// Users with this role or a higher one.
    Role(Role),
}

/// One route.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    /// For what changes something: its name in the audit log.
    pub(crate) act: Option<&'static str>,
    /// For the JSON API: its description.
    pub(crate) api: Option<crate::openapi::Operation>,
    /// Longest time for its handler, the reading of the request's body included.
    time: Duration,
}

/// Routes with their handlers.
pub(crate) struct Routes {
    app: Arc<App>,
    table: Vec<Route>,
    router: Router<Arc<App>>,
    /// Time of the routes that are added next.
    time: Duration,
}

impl Routes {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self {
            app,
            table: Vec::new(),
            router: Router::new(),
            time: HANDLER_TIMEOUT,
        }
    }

    /// Gives the routes that `add` adds another time for their handlers: for large uploads, whose handlers bound the body themselves.
    pub(crate) fn taking(mut self, time: Duration, add: impl FnOnce(Self) -> Self) -> Self {
        self.time = time;
        let mut routes = add(self);
        routes.time = HANDLER_TIMEOUT;
        routes
    }

    /// A page, or a part of one.
    pub(crate) fn get<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.route(Method::GET, path, access, None, None, handler)
    }

    /// What changes something, sent by a form or a script. `act` names it in the audit log.
    pub(crate) fn post<H, T>(self, path: &'static str, access: Access, act: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        self.route(Method::POST, path, access, Some(act), None, handler)
    }

    /// An operation of the JSON API; `act` names it in the audit log and is needed for all methods but GET.
    pub(crate) fn api<H, T>(self, operation: crate::openapi::Operation, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let access = Access::Role(operation.role);
        let (method, path, act) = (operation.method.clone(), operation.path, operation.act);
        self.route(method, path, access, act, Some(operation), handler)
    }

    fn route<H, T>(
        mut self,
        method: Method,
        path: &'static str,
        access: Access,
        act: Option<&'static str>,
        api: Option<crate::openapi::Operation>,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        debug_assert_eq!(act.is_none(), method == Method::GET, "{method} {path}");
        let filter = MethodFilter::try_from(method.clone()).expect("the methods above are standard ones");
        let route = Route {
            method,
            path,
            access,
            act,
            api,
            time: self.time,
        };
        let check = middleware::from_fn_with_state((Arc::clone(&self.app), route.clone()), admit);
        self.router = self.router.route(path, on(filter, handler).layer(check));
        self.table.push(route);
        self
    }

    /// The table.
    pub(crate) fn table(&self) -> &[Route] {
        &self.table
    }

    /// The router, with an answer for paths and methods that it does not have.
    pub(crate) fn router(self) -> Router {
        let app = Arc::clone(&self.app);
        self.router
            .fallback(async || Rejection::NotFound)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(middleware::from_fn_with_state(app, show_rejections))
            .with_state(self.app)
    }
}

/// What a handler adds to the entry of its act in the audit log: put into the extensions of its response.
#[derive(Debug, Clone, Default)]
pub(crate) struct ActDetails {
    pub(crate) case: Option<String>,
    pub(crate) details: Vec<(&'static str, String)>,
    /// Who logged in with this request.
    pub(crate) by: Option<Person>,
}

/// Put into the extensions of the response to a change that concerns the browser only, such as its language: not in the audit log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NotAnAct;

/// Put into the extensions of a response that tells by itself why the act was not done, such as a conflict with another's change.
#[derive(Debug, Clone)]
pub(crate) struct NotDone(pub(crate) String);

impl ActDetails {
    pub(crate) fn new(name: &'static str, value: impl ToString) -> Self {
        Self::default().with(name, value)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.details.push((name, value.to_string()));
        self
    }

    /// Attaches them to a response.
    pub(crate) fn on(self, response: impl IntoResponse) -> Response {
        let mut response = response.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Decides whether a request reaches its handler.
async fn admit(State((app, route)): State<(Arc<App>, Route)>, mut request: Request, next: Next) -> Response {
    let Some(client) = request.extensions().get::<Client>().copied() else {
        return Rejection::Internal.into_response();
    };
    let identity = match identify(&app, request.headers(), client, Timestamp::now()) {
        Ok(identity) => identity,
        Err(error) => return Rejection::internal(&error).into_response(),
    };
    let permission = authorize(&route, &identity);
    let actor = match identity {
        Identity::Known(actor) => Some(actor),
        _ => None,
    };
    if let Err(rejection) = permission {
        return refused(&app, &route, actor, client, rejection).await;
    }
    if route.act.is_some() {
        request = match expect_own_page(&app, request, actor.as_ref()).await {
            Ok(request) => request,
            Err(rejection) => return refused(&app, &route, actor, client, rejection).await,
        };
    }
    if let Some(actor) = &actor {
        request.extensions_mut().insert(actor.clone());
    }
    // Ends also a request whose body comes too slowly, as handlers read it.
    let response = tokio::time::timeout(route.time, next.run(request)).await;
    let response = response.unwrap_or_else(|_| Rejection::TimedOut.into_response());
    match route.act {
        Some(act) => recorded(&app, act, actor, client, response).await,
        None => response,
    }
}

/// The one decision about who may do what.
fn authorize(route: &Route, identity: &Identity) -> Result<(), Rejection> {
    match (route.access, identity) {
        (Access::Public, _) => Ok(()),
        (Access::Role(role), Identity::Known(actor)) if actor.role >= role => Ok(()),
        (Access::Role(role), Identity::Known(_)) => Err(Rejection::Role(role)),
        (Access::Role(_), Identity::Anonymous) => Err(Rejection::Unauthenticated),
        (Access::Role(_), Identity::UnknownToBox(user)) => Err(Rejection::UnknownIdentity(user.clone())),
        (Access::Role(_), Identity::ByUnknownProxy) => Err(Rejection::UnknownProxy),
    }
}

/// Lets a change through if a page of this console sent it, or a program with a token, which no browser adds by itself.
async fn expect_own_page(app: &App, request: Request, actor: Option<&Actor>) -> Result<Request, Rejection> {
    if actor.is_some_and(|actor| matches!(actor.means, Means::Token(_))) {
        return Ok(request);
    }
    if !client::is_same_origin(&app.settings, request.headers()) {
        return Err(Rejection::Forged);
    }
    if let Some(code) = request.headers().get(csrf::HEADER) {
        let code = code.to_str().unwrap_or_default();
        return if csrf::is_valid(app, actor, code) {
            Ok(request)
        } else {
            Err(Rejection::Forged)
        };
    }
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_none_or(|kind| !kind.starts_with("application/x-www-form-urlencoded")) {
        return Err(Rejection::Forged);
    }
    let (parts, body) = request.into_parts();
    let body = tokio::time::timeout(HANDLER_TIMEOUT, to_bytes(body, MAX_BODY)).await;
    let body = body
        .map_err(|_| Rejection::TimedOut)?
        .map_err(|_| Rejection::TooLarge)?;
    let code = url::form_urlencoded::parse(&body).find(|(name, _)| name == csrf::FIELD);
    match code.is_some_and(|(_, code)| csrf::is_valid(app, actor, &code)) {
        true => Ok(Request::from_parts(parts, Body::from(body))),
        false => Err(Rejection::Forged),
    }
}

/// Records a refused change, as long as there are few; the others are in the log only, as the audit log is never shortened.
async fn refused(app: &App, route: &Route, actor: Option<Actor>, client: Client, rejection: Rejection) -> Response {
    if let (Some(name), Some(actor)) = (route.act, &actor)
        && app.may_record_refusal()
    {
        let act = Act {
            name,
            by: actor.person(),
            case: None,
            details: Vec::new(),
            outcome: Outcome::Refused(rejection.to_string()),
        };
        if let Err(error) = app.daemon.record(act).await {
            return Rejection::from(error).into_response();
        }
    } else if route.act.is_some() {
        tracing::warn!(address = %client.address, path = route.path, reason = %rejection, "Refused a request to the console");
    }
    rejection.into_response()
}

/// Records an act that was done, refused or failed.
async fn recorded(
    app: &App,
    name: &'static str,
    actor: Option<Actor>,
    client: Client,
    mut response: Response,
) -> Response {
    if response.extensions().get::<NotAnAct>().is_some() {
        return response;
    }
    let found = response.extensions_mut().remove::<ActDetails>();
    // A login that failed has neither: anyone could fill the audit log with them.
    let Some(ActDetails { case, details, by }) = found.or_else(|| actor.is_some().then(ActDetails::default)) else {
        return response;
    };
    let by = by.or_else(|| actor.as_ref().map(Actor::person)).unwrap_or(Person {
        user: None,
        role: None,
        means: Means::Local,
        address: client.address,
    });
    // Of a page that says in place what was not done.
    let told = response.extensions_mut().remove::<Outcome>();
    let not_done = response.extensions_mut().remove::<NotDone>();
    let not_done = not_done.map(|NotDone(why)| Outcome::Refused(why));
    let outcome = match response.extensions().get::<Rejection>() {
        None => told.or(not_done).unwrap_or(Outcome::Done),
        Some(rejection) if rejection.is_refusal() => {
            if !app.may_record_refusal() {
                tracing::warn!(address = %client.address, act = name, reason = %rejection, "Refused a request to the console");
                return response;
            }
            Outcome::Refused(rejection.to_string())
        }
        Some(rejection) => Outcome::Failed(rejection.to_string()),
    };
    let act = Act {
        name,
        by,
        case,
        details,
        outcome,
    };
    match app.daemon.record(act).await {
        Ok(()) => response,
        Err(error) => Rejection::from(error).into_response(),
    }
}

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct Problem {
    /// `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Name of the status.
    title: String,
    /// HTTP status.
    status: u16,
    /// What happened, in English.
    detail: String,
}

/// Fills in the bodies of rejections.
async fn show_rejections(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    let client = request.extensions().get::<Client>().copied();
    let response = next.run(request).await;
    if let Some(rejection) = response.extensions().get::<Rejection>().cloned() {
        return shown(&app, &headers, &uri, client, &rejection);
    }
    // The router's own answer.
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let mut told = shown(&app, &headers, &uri, client, &Rejection::Method);
        if let Some(allow) = response.headers().get(ALLOW) {
            told.headers_mut().insert(ALLOW, allow.clone());
        }
        return told;
    }
    response
}

fn shown(app: &App, headers: &HeaderMap, uri: &Uri, client: Option<Client>, rejection: &Rejection) -> Response {
    let is_api = uri.path().starts_with("/api/");
    let is_htmx = headers.contains_key("hx-request");
    let is_stream = headers.get(ACCEPT).is_some_and(|kind| kind == "text/event-stream");
    let mut response = if is_api {
        problem(rejection)
    } else if *rejection == Rejection::Unauthenticated && is_stream {
        // Not the login page: a browser would take it for a broken stream and try again.
        rejection.status().into_response()
    } else if *rejection == Rejection::Unauthenticated {
        to_login(app, uri, is_htmx)
    } else {
        let identity = client.and_then(|client| identify(app, headers, client, Timestamp::now()).ok());
        let actor = match identity {
            Some(Identity::Known(actor)) => Some(actor),
            _ => None,
        };
        let page = Page::new(app, headers, actor, "/");
        let message = rejection.text(page.t);
        let shown = match is_htmx {
            true => page.show_with(rejection.status(), &crate::pages::NoticeTemplate { message: &message }),
            false => page.show_with(
                rejection.status(),
                &ErrorTemplate {
                    page: &page,
                    message: &message,
                },
            ),
        };
        shown.unwrap_or_else(|rejection| rejection.status().into_response())
    };
    if let Some(seconds) = rejection.retry_after_s() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn problem(rejection: &Rejection) -> Response {
    let status = rejection.status();
    let problem = Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or_default().to_owned(),
        status: status.as_u16(),
        detail: rejection.to_string(),
    };
    let text = serde_json::to_string(&problem).unwrap_or_default();
    let mut response = (status, [(CONTENT_TYPE, "application/problem+json")], text).into_response();
    if *rejection == Rejection::Unauthenticated {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    response
}

/// Leads to the login page, and from there back.
fn to_login(app: &App, uri: &Uri, is_htmx: bool) -> Response {
    // A part of a page is no place to come back to.
    let next = match is_htmx {
        true => "/",
        false => uri.path_and_query().map_or("/", |path| path.as_str()),
    };
    let target = format!(
        "{}/login?next={}",
        app.base(),
        utf8_percent_encode(next, NON_ALPHANUMERIC)
    );
    let Ok(target) = HeaderValue::from_str(&target) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    match is_htmx {
        true => (StatusCode::UNAUTHORIZED, [("hx-redirect", target)]).into_response(),
        false => (StatusCode::SEE_OTHER, [(LOCATION, target)]).into_response(),
    }
}
