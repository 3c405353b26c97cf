//! The HTTP server of `/healthz`, `/readyz` and `/metrics`.
//!
//! It listens on a loopback address, but any program on the box and any page in a browser there reaches that. So it takes few connections,
//! each for a short time, and answers only requests that name an address as host: the name of a page that was made to resolve to this
//! address (DNS rebinding) is refused.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header::HOST, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{Health, RefreshGauges};

/// Connections at a time. A scraper needs one; each takes a descriptor that a camera could need.
const MAX_CONNECTIONS: usize = 16;
/// Time for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest life of a connection, which serves one request. A client that does not read its answer holds its place no longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Pause after a connection could not be accepted, because descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct HttpState {
    health: Arc<Health>,
    metrics: PrometheusHandle,
    refresh: RefreshGauges,
}

/// Serves `/healthz`, `/readyz` and `/metrics` until the runtime ends.
pub fn serve(listener: TcpListener, health: Arc<Health>, metrics: PrometheusHandle, refresh: RefreshGauges) {
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .layer(middleware::from_fn(refuse_names))
        .with_state(HttpState {
            health,
            metrics,
            refresh,
        });
    tokio::spawn(accept(listener, routes));
}

async fn accept(listener: TcpListener, routes: Router) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "Cannot accept a connection to the metrics and health server; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Dropped when there is no place, which closes it: waiting connections would take descriptors, too.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let routes = routes.clone();
        tokio::spawn(async move {
            answer(stream, routes).await;
            drop(place);
        });
    }
}

async fn answer(stream: TcpStream, routes: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // A client that sends no request, or an invalid one, or does not read: nothing that anybody could act on.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

/// Refuses requests for a host name other than `localhost`. A client that sends none is no browser.
async fn refuse_names(request: Request, next: Next) -> Result<Response, Infallible> {
    let headers = request.headers().get_all(HOST).iter();
    let named = headers.map(|h| h.to_str().unwrap_or_default());
    let is_refused = named.chain(request.uri().host()).any(|host| !is_address(host));
    Ok(if is_refused {
        let hint = "use an IP address or localhost as host; a proxy must set it\n";
        (StatusCode::MISDIRECTED_REQUEST, hint).into_response()
    } else {
        next.run(request).await
    })
}

fn is_address(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    if host.contains('@') {
        return false;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

async fn healthz(State(state): State<HttpState>) -> impl IntoResponse {
    if state.health.is_alive() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the core is stuck\n")
    }
}

async fn readyz(State(state): State<HttpState>) -> impl IntoResponse {
    (state.refresh)();
    let readiness = state.health.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness))
}

async fn render(State(state): State<HttpState>) -> impl IntoResponse {
    (state.refresh)();
    state.metrics.run_upkeep();
    ([("content-type", "text/plain; version=0.0.4")], state.metrics.render())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpStream},
        time::Duration,
    };

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    fn connect(address: SocketAddr, sent: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // A connection that is closed at once may not take it.
        let _ = stream.write_all(sent.as_bytes());
        stream
    }

    /// The status line of the answer; empty if the connection was closed without one.
    fn status(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        text.lines().next().unwrap_or_default().to_owned()
    }

    fn get(address: SocketAddr, host: &str) -> String {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        status(connect(address, &request))
    }

    #[test]
    fn unfinished_requests_take_few_connections_for_a_short_time() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _context = runtime.enter();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        serve(listener, Arc::default(), metrics, Arc::new(|| {}));
        assert_eq!(get(address, "localhost:9464"), "HTTP/1.1 200 OK");
        assert_eq!(get(address, "evil.example"), "HTTP/1.1 421 Misdirected Request");
        let unfinished: Vec<_> = (0..1100)
            .map(|_| connect(address, "GET /metrics HTTP/1.1\r\n"))
            .collect();
        // All end: the first by the time limit for a request's head, the others at once.
        for stream in unfinished {
            let status = status(stream);
            assert!(status.is_empty() || status.contains("408"), "{status}");
        }
        assert_eq!(get(address, "127.0.0.1"), "HTTP/1.1 200 OK");
    }

    #[test]
    fn only_addresses_are_hosts() {
        for host in [
            "127.0.0.1:9464",
            "[::1]:9464",
            "localhost",
            "LOCALHOST:9464",
            "10.0.0.7",
        ] {
            assert!(is_address(host), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:9464",
            "localhost.evil.example",
            "",
            "a b",
        ] {
            assert!(!is_address(host), "{host}");
        }
    }
}
