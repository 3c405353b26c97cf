//! POST requests to devices: one connection each, bounded in time and size, without redirects.

use std::{future::Future, io, net::IpAddr, time::Duration};

use bytes::Bytes;
use gridwatch_camera::receive::{Trust, tls_connector, tls_handshake};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request,
    client::conn::http1,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, LOCATION, USER_AGENT, WWW_AUTHENTICATE,
    },
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use url::Url;

/// Largest body of a response: 64 profiles have about 300 kB.
pub(crate) const MAX_BODY: usize = 1 << 20;
/// Largest header block.
const MAX_HEADER: usize = 32 << 10;
/// Challenges that are read.
const MAX_CHALLENGES: usize = 8;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Connect(String),
    #[error("the answer exceeds {MAX_BODY} bytes")]
    TooLarge,
    #[error("not a valid HTTP answer: {0}")]
    Protocol(String),
}

/// A response.
#[derive(Debug)]
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    pub(crate) challenges: Vec<String>,
    pub(crate) location: Option<String>,
    pub(crate) body: Bytes,
    /// The address that answered.
    pub(crate) peer: IpAddr,
}

/// A request.
pub(crate) struct HttpRequest<'a> {
    pub(crate) url: &'a Url,
    pub(crate) content_type: &'a str,
    pub(crate) authorization: Option<&'a str>,
    pub(crate) body: String,
}

/// The request target of `url`: path and query.
pub(crate) fn target(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

/// The host of `url` without brackets.
pub(crate) fn host(url: &Url) -> &str {
    url.host_str()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']')
}

/// Sends a request and reads the whole answer within `limit`, however slowly it trickles.
pub(crate) async fn post(request: HttpRequest<'_>, trust: &Trust, limit: Duration) -> Result<HttpResponse, HttpError> {
    timeout(limit, exchange(request, trust))
        .await
        .unwrap_or(Err(HttpError::Timeout(limit)))
}

async fn exchange(request: HttpRequest<'_>, trust: &Trust) -> Result<HttpResponse, HttpError> {
    let connect = |e: io::Error| HttpError::Connect(e.to_string());
    let (name, port) = (host(request.url), request.url.port_or_known_default().unwrap_or(80));
    let stream = TcpStream::connect((name, port)).await.map_err(connect)?;
    let peer = stream.peer_addr().map_err(connect)?.ip();
    if request.url.scheme() == "https" {
        let trust = trust.clone();
        let connector = tokio::task::spawn_blocking(move || tls_connector(&trust)).await;
        let connector = connector
            .map_err(|e| HttpError::Connect(e.to_string()))?
            .map_err(HttpError::Connect)?;
        let stream = tls_handshake(&connector, name, stream).await.map_err(connect)?;
        send(request, stream, peer).await
    } else {
        send(request, stream, peer).await
    }
}

/// Ends the connection on drop.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn send<S>(
    request: HttpRequest<'_>,
    stream: S,
    peer: IpAddr,
) -> impl Future<Output = Result<HttpResponse, HttpError>> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let built = build(&request);
    async move {
        let built = built.map_err(|e| HttpError::Protocol(e.to_string()))?;
        let protocol = |e: hyper::Error| HttpError::Protocol(e.to_string());
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEADER);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(protocol)?;
        let _connection = Connection(tokio::spawn(async move {
            // The request's own error tells why.
            let _ = connection.await;
        }));
        let response = sender.send_request(built).await.map_err(protocol)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|e| match e.downcast::<hyper::Error>() {
            Ok(e) => HttpError::Protocol(e.to_string()),
            Err(_) => HttpError::TooLarge,
        })?;
        Ok(HttpResponse {
            status: head.status.as_u16(),
            challenges: all(&head.headers, &WWW_AUTHENTICATE),
            location: all(&head.headers, &LOCATION).pop(),
            body: body.to_bytes(),
            peer,
        })
    }
}

fn build(request: &HttpRequest<'_>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let authority = match (request.url.host_str(), request.url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let mut builder = Request::post(target(request.url))
        .header(HOST, authority)
        .header(USER_AGENT, concat!("gridwatch/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, request.content_type)
        .header(CONNECTION, "close");
    if let Some(value) = request.authorization {
        builder = builder.header(AUTHORIZATION, value);
    }
    builder.body(Full::from(request.body.clone()))
}

/// The values of a header as text, bounded.
fn all(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().take(MAX_CHALLENGES);
    values
        .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
        .collect()
}
