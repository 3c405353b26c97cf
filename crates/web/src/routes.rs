//! The table of all routes, and the one path that every request takes: who sends it, may they, was it sent by a page of this server, and,
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
        header::{ACCEPT, ALLOW, CONTENT_TYPE, LOCATION, RETRY_AFTER},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    audit::{Act, ActDetails, Means, NotAnAct, NotDone, Outcome, Person},
    client::{self, Client},
    csrf,
    error::{Problem, Rejection},
    identity::{Actor, Identity, identify},
    openapi::Operation,
    settings::Role,
    site::{RejectedRequest, Site},
    state::WebState,
};

/// Body of a request in bytes, at most: forms and documents have a few kilobytes.
pub const MAX_BODY: usize = 256 << 10;

/// Longest time for a handler, the reading of the request's body included.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone who reaches the server: login and assets.
    Public,
    /// Users with this role or a higher one.
    Role(Role),
}

/// One route.
#[derive(Debug, Clone)]
pub struct Route {
    /// HTTP method.
    pub method: Method,
    /// Path below the base, with `{…}` for its parts.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// For what changes something: its name in the audit log.
    pub act: Option<&'static str>,
    /// For the JSON API: its description.
    pub api: Option<Operation>,
    /// Longest time for its handler, the reading of the request's body included.
    time: Duration,
}

/// Routes with their handlers.
pub struct Routes<S> {
    site: Arc<S>,
    table: Vec<Route>,
    router: Router<Arc<S>>,
    /// Time of the routes that are added next.
    time: Duration,
}

impl<S: Site> Routes<S> {
    /// No routes yet.
    pub fn new(site: Arc<S>) -> Self {
        Self {
            site,
            table: Vec::new(),
            router: Router::new(),
            time: HANDLER_TIMEOUT,
        }
    }

    /// Gives the routes that `add` adds another time for their handlers: for large uploads, whose handlers bound the body themselves.
    pub fn taking(mut self, time: Duration, add: impl FnOnce(Self) -> Self) -> Self {
        self.time = time;
        let mut routes = add(self);
        routes.time = HANDLER_TIMEOUT;
        routes
    }

    /// A page, or a part of one.
    pub fn get<H, T>(self, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, Arc<S>>,
        T: 'static,
    {
        self.route(Method::GET, path, access, None, None, handler)
    }

    /// What changes something, sent by a form or a script. `act` names it in the audit log.
    pub fn post<H, T>(self, path: &'static str, access: Access, act: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<S>>,
        T: 'static,
    {
        self.route(Method::POST, path, access, Some(act), None, handler)
    }

    /// An operation of the JSON API; `act` names it in the audit log and is needed for all methods but GET.
    pub fn api<H, T>(self, operation: Operation, handler: H) -> Self
    where
        H: Handler<T, Arc<S>>,
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
        api: Option<Operation>,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<S>>,
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
        let check = middleware::from_fn_with_state((Arc::clone(&self.site), route.clone()), admit);
        self.router = self.router.route(path, on(filter, handler).layer(check));
        self.table.push(route);
        self
    }

    /// The program.
    pub(crate) fn site(&self) -> &Arc<S> {
        &self.site
    }

    /// The routes so far.
    pub fn table(&self) -> &[Route] {
        &self.table
    }

    /// The router, with an answer for paths and methods that it does not have.
    pub(crate) fn router(self) -> Router {
        let site = Arc::clone(&self.site);
        self.router
            .fallback(async || Rejection::NotFound)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(middleware::from_fn_with_state(site, show_rejections::<S>))
            .with_state(self.site)
    }
}

/// Decides whether a request reaches its handler.
async fn admit<S: Site>(State((site, route)): State<(Arc<S>, Route)>, mut request: Request, next: Next) -> Response {
    let Some(client) = request.extensions().get::<Client>().copied() else {
        return Rejection::Internal.into_response();
    };
    let identity = match identify(site.web(), request.headers(), client, Timestamp::now()) {
        Ok(identity) => identity,
        Err(error) => return Rejection::internal(&error).into_response(),
    };
    let permission = authorize(site.web().settings.section, &route, &identity);
    let actor = match identity {
        Identity::Known(actor) => Some(actor),
        _ => None,
    };
    if let Err(rejection) = permission {
        return refused(&*site, &route, actor, client, rejection).await;
    }
    if route.act.is_some() {
        request = match expect_own_page(site.web(), request, actor.as_ref()).await {
            Ok(request) => request,
            Err(rejection) => return refused(&*site, &route, actor, client, rejection).await,
        };
    }
    if let Some(actor) = &actor {
        request.extensions_mut().insert(actor.clone());
    }
    // Ends also a request whose body comes too slowly, as handlers read it.
    let response = tokio::time::timeout(route.time, next.run(request)).await;
    let response = response.unwrap_or_else(|_| Rejection::TimedOut.into_response());
    match route.act {
        Some(act) => recorded(&*site, act, actor, client, response).await,
        None => response,
    }
}

/// The one decision about who may do what.
fn authorize(section: &'static str, route: &Route, identity: &Identity) -> Result<(), Rejection> {
    match (route.access, identity) {
        (Access::Public, _) => Ok(()),
        (Access::Role(role), Identity::Known(actor)) if actor.role >= role => Ok(()),
        (Access::Role(role), Identity::Known(_)) => Err(Rejection::Role(role)),
        (Access::Role(_), Identity::Anonymous) => Err(Rejection::Unauthenticated),
        (Access::Role(_), Identity::NoAccount(user)) => Err(Rejection::UnknownIdentity(user.clone())),
        (Access::Role(_), Identity::ByUnknownProxy) => Err(Rejection::UnknownProxy(section)),
    }
}

/// Lets a change through if a page of this server sent it, or a program with a token, which no browser adds by itself.
async fn expect_own_page(web: &WebState, request: Request, actor: Option<&Actor>) -> Result<Request, Rejection> {
    if actor.is_some_and(|actor| matches!(actor.means, Means::Token(_))) {
        return Ok(request);
    }
    if !client::is_same_origin(&web.settings, request.headers()) {
        return Err(Rejection::Forged);
    }
    if let Some(code) = request.headers().get(csrf::HEADER) {
        let code = code.to_str().unwrap_or_default();
        return if csrf::is_valid(web, actor, code) {
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
    match code.is_some_and(|(_, code)| csrf::is_valid(web, actor, &code)) {
        true => Ok(Request::from_parts(parts, Body::from(body))),
        false => Err(Rejection::Forged),
    }
}

/// Records a refused change, as long as there are few; the others are in the log only, as the audit log is never shortened.
async fn refused<S: Site>(
    site: &S,
    route: &Route,
    actor: Option<Actor>,
    client: Client,
    rejection: Rejection,
) -> Response {
    if let (Some(name), Some(actor)) = (route.act, &actor)
        && site.web().may_record_refusal()
    {
        let act = Act {
            name,
            by: actor.person(),
            subject: None,
            details: Vec::new(),
            outcome: Outcome::Refused(rejection.to_string()),
        };
        if let Err(error) = site.record(act).await {
            return Rejection::from(error).into_response();
        }
    } else if route.act.is_some() {
        tracing::warn!(address = %client.address, path = route.path, reason = %rejection, "Refused a web request");
    }
    rejection.into_response()
}

/// Records an act that was done, refused or failed.
async fn recorded<S: Site>(
    site: &S,
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
    let Some(ActDetails { subject, details, by }) = found.or_else(|| actor.is_some().then(ActDetails::default)) else {
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
            if !site.web().may_record_refusal() {
                tracing::warn!(address = %client.address, act = name, reason = %rejection, "Refused a web request");
                return response;
            }
            Outcome::Refused(rejection.to_string())
        }
        Some(rejection) => Outcome::Failed(rejection.to_string()),
    };
    let act = Act {
        name,
        by,
        subject,
        details,
        outcome,
    };
    match site.record(act).await {
        Ok(()) => response,
        Err(error) => Rejection::from(error).into_response(),
    }
}

/// Fills in the bodies of rejections.
async fn show_rejections<S: Site>(State(site): State<Arc<S>>, request: Request, next: Next) -> Response {
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    let client = request.extensions().get::<Client>().copied();
    let response = next.run(request).await;
    if let Some(rejection) = response.extensions().get::<Rejection>().cloned() {
        return shown(&*site, &headers, &uri, client, &rejection);
    }
    // The router's own answer.
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let mut told = shown(&*site, &headers, &uri, client, &Rejection::Method);
        if let Some(allow) = response.headers().get(ALLOW) {
            told.headers_mut().insert(ALLOW, allow.clone());
        }
        return told;
    }
    response
}

fn shown<S: Site>(site: &S, headers: &HeaderMap, uri: &Uri, client: Option<Client>, rejection: &Rejection) -> Response {
    let is_api = uri.path().starts_with("/api/");
    let is_htmx = headers.contains_key("hx-request");
    let is_stream = headers.get(ACCEPT).is_some_and(|kind| kind == "text/event-stream");
    let mut response = if is_api {
        Problem::response(rejection)
    } else if *rejection == Rejection::Unauthenticated && is_stream {
        // Not the login page: a browser would take it for a broken stream and try again.
        rejection.status().into_response()
    } else if *rejection == Rejection::Unauthenticated {
        to_login(site.web(), uri, is_htmx)
    } else {
        let identity = client.and_then(|client| identify(site.web(), headers, client, Timestamp::now()).ok());
        let actor = match identity {
            Some(Identity::Known(actor)) => Some(actor),
            _ => None,
        };
        let asked = RejectedRequest {
            headers,
            actor: actor.as_ref(),
            is_part: is_htmx,
        };
        site.rejection_page(rejection, &asked)
    };
    if let Some(seconds) = rejection.retry_after_s() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Leads to the login page, and from there back.
fn to_login(web: &WebState, uri: &Uri, is_htmx: bool) -> Response {
    // A part of a page is no place to come back to.
    let next = match is_htmx {
        true => "/",
        false => uri.path_and_query().map_or("/", |path| path.as_str()),
    };
    let target = format!(
        "{}/login?next={}",
        web.base(),
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
