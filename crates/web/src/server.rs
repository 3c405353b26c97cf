//! The web server: connections, their limits, encryption, and what applies to every request and response.
//!
//! Every bound is on something that a client decides: how many connections, how long it takes over a head, how large that is, how slowly it
//! reads. Bodies and handlers are bounded in `crate::routes`.

mod stall;

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{
        HeaderName, HeaderValue, Request, Response, Uri,
        header::{
            CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
            REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
        uri::PathAndQuery,
    },
    response::IntoResponse,
};
use flate2::{Compression, write::GzEncoder};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;

use self::stall::StallGuard;
use crate::{
    assets::accepts_gzip,
    client::{self, Client, Peer, Source},
    error::{Rejection, StartError},
    routes::{Route, Routes},
    site::Site,
    tls::{self, ServerIdentity},
};

/// Connections at a time. A browser takes six at most; each costs a descriptor and some 30 kB.
const MAX_CONNECTIONS: usize = 256;
/// Connections of one source at a time, so that it cannot take all; an office behind one address has several browsers.
const MAX_CONNECTIONS_OF_SOURCE: usize = 64;
/// Time for the head of a request; also how long a connection is kept without one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 32 << 10;
/// A client that takes nothing of its answer for this long has gone, or holds the connection on purpose.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the requests that are being answered when the server ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a connection could not be accepted, because descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Nothing is loaded from elsewhere, and no script or style is inline. Pictures and video may come from scripts (`blob:`).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
    media-src 'self' blob:; worker-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Texts of at least this many bytes are compressed; smaller ones fit into a packet.
const MIN_COMPRESSED: usize = 1400;
/// Larger answers are pictures; a page of 64 views has 100 kB.
const MAX_COMPRESSED: usize = 4 << 20;

/// A site with its routes, ready to serve.
pub struct WebServer<S> {
    site: Arc<S>,
    table: Vec<Route>,
    router: Router,
    /// `None`: without encryption.
    identity: Option<ServerIdentity>,
}

impl<S> fmt::Debug for WebServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebServer")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl<S: Site> WebServer<S> {
    /// Prepares the server with these routes: reads or makes key and certificate.
    ///
    /// # Errors
    /// [`StartError::NoUsers`] if others than programs on this machine reach the server and nobody could log in, or a file cannot be used.
    pub fn new(routes: Routes<S>) -> Result<Self, StartError> {
        let site = Arc::clone(routes.site());
        let web = site.web();
        if web.settings.is_exposed() && web.accounts.snapshot()?.users.is_empty() {
            return Err(StartError::NoUsers {
                section: web.settings.section,
            });
        }
        let identity = tls::load(&web.settings, web.folder())?;
        Ok(Self {
            table: routes.table().to_vec(),
            router: routes.router(),
            identity,
            site,
        })
    }

    /// What it serves.
    pub fn site(&self) -> &Arc<S> {
        &self.site
    }

    /// All routes with what they take.
    pub fn table(&self) -> &[Route] {
        &self.table
    }

    /// Binds the configured address; `None` if the server is off.
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub async fn bind(&self) -> Result<Option<TcpListener>, StartError> {
        let settings = &self.site.web().settings;
        let Some(address) = settings.listen else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address).await;
        listener.map(Some).map_err(|source| StartError::Listen {
            section: settings.section,
            address,
            source,
        })
    }

    /// Where people find it, for the log: the public URL, or that of the address.
    pub fn url(&self, listener: &TcpListener) -> String {
        let settings = &self.site.web().settings;
        match (&settings.public_url, listener.local_addr()) {
            (Some(url), _) => url.to_string(),
            (None, Ok(address)) if settings.is_https() => format!("https://{address}/"),
            (None, Ok(address)) => format!("http://{address}/"),
            (None, Err(_)) => String::new(),
        }
    }

    /// SHA-256 of its certificate, as browsers show it; `None` without encryption.
    pub fn fingerprint(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.fingerprint.as_str())
    }

    /// Serves until `shutdown` completes, and then until the requests that are being answered are done, for 5 seconds at most.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let acceptor = self
            .identity
            .as_ref()
            .map(|identity| TlsAcceptor::from(Arc::clone(&identity.config)));
        let site = self.site;
        let service = Service {
            site: Arc::clone(&site),
            router: self.router,
        };
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let sources = Arc::new(Mutex::new(HashMap::new()));
        let (ending, end) = (site.web().ending.clone(), site.web().ending.subscribe());
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "Cannot accept a connection to the web server; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Dropped when there is no place, which closes it: waiting connections would take descriptors, too.
            let (Ok(place), Some(share)) = (
                Arc::clone(&places).try_acquire_owned(),
                Share::take(&sources, peer, site.web().settings.trusts(peer.ip())),
            ) else {
                continue;
            };
            let (service, acceptor, end) = (service.clone(), acceptor.clone(), end.clone());
            tokio::spawn(async move {
                connection(stream, peer, service, acceptor, end).await;
                drop((place, share));
            });
        }
        drop(listener);
        drop(end);
        ending.send_replace(true);
        // Closed when the last connection has dropped its end.
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, ending.closed()).await;
    }
}

/// Connections of each source.
type Sources = Arc<Mutex<HashMap<Source, usize>>>;

/// One connection's part of its source's connections.
struct Share(Sources, Source);

impl Share {
    fn take(sources: &Sources, peer: SocketAddr, is_proxy: bool) -> Option<Self> {
        let source = Source::from(peer.ip());
        let mut counts = sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        // The proxy's or this machine's own connections are many people's.
        let limit = if is_proxy || peer.ip().is_loopback() {
            MAX_CONNECTIONS
        } else {
            MAX_CONNECTIONS_OF_SOURCE
        };
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Self(Arc::clone(sources), source))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

async fn connection<S: Site>(
    stream: TcpStream,
    peer: SocketAddr,
    service: Service<S>,
    acceptor: Option<TlsAcceptor>,
    end: watch::Receiver<bool>,
) {
    // Small answers, such as events, are sent at once.
    let _ = stream.set_nodelay(true);
    let stream = StallGuard::new(stream, WRITE_TIMEOUT);
    match acceptor {
        None => answer(stream, peer, service, end).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                answer(stream, peer, service, end).await;
            }
        }
    }
}

async fn answer<S: Site>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    service: Service<S>,
    mut end: watch::Receiver<bool>,
) {
    let respond = service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.respond(request.map(Body::new), Peer(peer)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), respond);
    tokio::pin!(connection);
    tokio::select! {
        // A client that sends no request, or an invalid one, or does not read: nothing that anyone could act on.
        _ = &mut connection => return,
        _ = end.wait_for(|ends| *ends) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, connection).await;
}

struct Service<S> {
    site: Arc<S>,
    router: Router,
}

impl<S> Clone for Service<S> {
    fn clone(&self) -> Self {
        Self {
            site: Arc::clone(&self.site),
            router: self.router.clone(),
        }
    }
}

impl<S: Site> Service<S> {
    /// Answers one request.
    async fn respond(&self, mut request: Request<Body>, peer: Peer) -> Response<Body> {
        let settings = &self.site.web().settings;
        if !client::is_host_known(settings, request.headers(), request.uri()) {
            let rejection = Rejection::UnknownHost(settings.section);
            return self.finish((rejection.status(), format!("{rejection}\n")).into_response());
        }
        if !client::may_load(request.headers()) {
            let rejection = Rejection::Forged;
            return self.finish((rejection.status(), format!("{rejection}\n")).into_response());
        }
        let client = Client::of(settings, peer, request.headers());
        request.extensions_mut().insert(client);
        if let Some(uri) = below_base(request.uri(), self.site.web().base()) {
            *request.uri_mut() = uri;
        }
        let takes_gzip = accepts_gzip(request.headers());
        let Ok(response) = tower_call(&self.router, request).await;
        let response = if takes_gzip {
            compressed(response).await
        } else {
            response
        };
        self.finish(response)
    }

    /// Adds what every response has.
    fn finish(&self, mut response: Response<Body>) -> Response<Body> {
        let headers = response.headers_mut();
        let mut add = |name: HeaderName, value: &'static str| {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        };
        add(CONTENT_SECURITY_POLICY, POLICY);
        add(X_CONTENT_TYPE_OPTIONS, "nosniff");
        add(X_FRAME_OPTIONS, "DENY");
        add(REFERRER_POLICY, "same-origin");
        add(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
        add(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
        add(
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        );
        add(CACHE_CONTROL, "no-store");
        if self.site.web().settings.is_https() {
            // Half a year, without subdomains, which are not this server's to decide about.
            add(STRICT_TRANSPORT_SECURITY, "max-age=15552000");
        }
        response
    }
}

async fn tower_call(router: &Router, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    use tower_service::Service as _;
    // A router is always ready.
    router.clone().call(request).await
}

/// The path below `base`, if the proxy left that in; `None` to take the path as it is.
fn below_base(uri: &Uri, base: &str) -> Option<Uri> {
    if base.is_empty() {
        return None;
    }
    let rest = uri.path_and_query()?.as_str().strip_prefix(base)?;
    let path = match rest.as_bytes().first() {
        Some(b'/') => rest.to_owned(),
        None | Some(b'?') => format!("/{rest}"),
        // Another path that begins with the same letters.
        Some(_) => return None,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

/// Compresses a text whose size is known; streams and pictures stay as they are.
async fn compressed(response: Response<Body>) -> Response<Body> {
    use axum::body::HttpBody as _;
    let headers = response.headers();
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let is_text = ["text/html", "application/json", "application/geo+json"]
        .iter()
        .any(|text| kind.starts_with(text));
    let size = response
        .body()
        .size_hint()
        .exact()
        .and_then(|size| usize::try_from(size).ok());
    let is_worth_it = size.is_some_and(|size| (MIN_COMPRESSED..=MAX_COMPRESSED).contains(&size));
    if !is_text || !is_worth_it || headers.contains_key(CONTENT_ENCODING) || headers.contains_key(ETAG) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(plain) = to_bytes(body, MAX_COMPRESSED).await else {
        return Rejection::Internal.status().into_response();
    };
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::new(5));
    let packed = std::io::Write::write_all(&mut encoder, &plain).and_then(|()| encoder.finish());
    let Ok(packed) = packed else {
        return Response::from_parts(parts, Body::from(plain));
    };
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    Response::from_parts(parts, Body::from(packed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_may_leave_the_sub_path_or_take_it_off() {
        let below = |path: &'static str| below_base(&Uri::from_static(path), "/box-1").map(|uri| uri.to_string());
        assert_eq!(below("/box-1/cases?state=filed").as_deref(), Some("/cases?state=filed"));
        assert_eq!(below("/box-1").as_deref(), Some("/"));
        assert_eq!(below("/box-1?x").as_deref(), Some("/?x"));
        assert_eq!(below("/cases"), None);
        assert_eq!(below("/box-10/cases"), None);
    }
}
