//! The URLs of SETUP and PLAY (RFC 2326, C.1.1).
//!
//! The standard resolves a relative control URL as any relative reference (RFC 3986). Cameras are built for players
//! that append it to the base instead, even behind a query. So the appended form is tried first, and then the others,
//! for the servers that insist on the standard.

use url::Url;

use crate::{
    message::Headers,
    sdp::{Description, MAX_URL},
    settings::is_tls,
};

/// URLs tried for one request.
const MAX_CANDIDATES: usize = 4;

/// Candidates, the most likely first; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) stream: Vec<String>,
    pub(super) aggregate: Vec<String>,
}

/// The request URI of `url`: without user, password and fragment.
pub(super) fn request_uri(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for a URL without a host, which has no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    url.into()
}

/// The URLs of a presentation described in the response with `headers` to DESCRIBE for `request`.
pub(super) fn addresses(request: &Url, headers: &Headers, description: &Description) -> Addresses {
    let request_uri = request_uri(request);
    let named = ["content-base", "content-location"]
        .map(|name| headers.get(name).filter(|v| !v.is_empty() && v.len() <= MAX_URL));
    let named = named
        .into_iter()
        .flatten()
        .find_map(|base| absolute(base).or_else(|| resolve(request, base)));
    let session = description.control.as_deref();
    let session_absolute = session.and_then(absolute);
    let bases: Vec<String> = [session_absolute.clone(), named, Some(request_uri.clone())]
        .into_iter()
        .flatten()
        .collect();
    let base = bases[0].as_str();

    let stream = match description.video_control.as_deref() {
        None => bases.clone(),
        Some(control) => match absolute(control) {
            Some(url) => vec![url],
            None => {
                let mut urls = vec![append(base, control)];
                urls.extend(Url::parse(base).ok().and_then(|b| resolve(&b, control)));
                urls.extend(append_before_query(base, control));
                urls.extend(bases[1..].iter().map(|b| append(b, control)));
                urls
            }
        },
    };
    let aggregate = match (session_absolute, session) {
        (Some(url), _) => url,
        (None, Some(relative)) => append(base, relative),
        (None, None) => base.to_owned(),
    };
    Addresses {
        aggregate: distinct(vec![aggregate, stream[0].clone(), request_uri]),
        stream: distinct(stream),
    }
}

fn distinct(urls: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for url in urls {
        if !kept.contains(&url) && kept.len() < MAX_CANDIDATES {
            kept.push(url);
        }
    }
    kept
}

/// `text` if it is an absolute RTSP URL, as it is written unless it contains what must not be sent.
fn absolute(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| is_tls(url).is_some())?;
    url.host_str()?;
    let is_clean = !text.contains(|c: char| c == '@' || c == '#' || c.is_whitespace() || !c.is_ascii());
    Some(if is_clean { text.to_owned() } else { request_uri(&url) })
}

fn resolve(base: &Url, relative: &str) -> Option<String> {
    let url = base.join(relative).ok().filter(|url| is_tls(url).is_some())?;
    Some(request_uri(&url))
}

fn append(base: &str, control: &str) -> String {
    let control = control.strip_prefix('/').unwrap_or(control).replace(' ', "%20");
    let slash = if base.ends_with('/') { "" } else { "/" };
    format!("{base}{slash}{control}")
}

/// The control URL appended to the path of `base`, its query last.
fn append_before_query(base: &str, control: &str) -> Option<String> {
    let (path, query) = base.split_once('?')?;
    Some(format!("{}?{query}", append(path, control)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parser::{Item, Parser};

    fn of(request: &str, headers: &str, session: &str, stream: &str) -> Addresses {
        let response = format!("RTSP/1.0 200 OK\r\n{headers}\r\n");
        let parsed = Parser::new(Default::default()).next(response.as_bytes()).unwrap().1;
        let Item::Response(response) = parsed else {
            panic!("{parsed:?}");
        };
        let sdp = format!("a=control:{session}\nm=video 0 RTP/AVP 26\na=control:{stream}\n");
        let description = crate::sdp::parse(sdp.as_bytes()).unwrap();
        addresses(&Url::parse(request).unwrap(), &response.headers, &description)
    }

    #[test]
    fn a_relative_control_url_is_appended_to_the_base() {
        let a = of("rtsp://u:p@c/cam", "Content-Base: rtsp://c/cam/\r\n", "*", "track1");
        assert_eq!(a.stream[0], "rtsp://c/cam/track1");
        assert_eq!(a.aggregate[0], "rtsp://c/cam/");
        let a = of("rtsp://u:p@c/cam", "", "*", "track1");
        assert_eq!(a.stream, ["rtsp://c/cam/track1", "rtsp://c/track1"]);
        assert_eq!(a.aggregate, ["rtsp://c/cam", "rtsp://c/cam/track1"]);
        let a = of("rtsp://c/cam", "Content-Location: /other/\r\n", "", "/track1");
        assert_eq!(a.stream[..2], ["rtsp://c/other/track1", "rtsp://c/track1"]);
    }

    #[test]
    fn behind_a_query_it_is_appended_first_and_resolved_next() {
        let a = of("rtsp://c/live/x?a=b", "", "*", "trackID=1");
        let expected = [
            "rtsp://c/live/x?a=b/trackID=1",
            "rtsp://c/live/trackID=1",
            "rtsp://c/live/x/trackID=1?a=b",
        ];
        assert_eq!(a.stream, expected);
    }

    #[test]
    fn absolute_control_urls_are_used_as_written_but_without_a_password() {
        let a = of(
            "rtsp://c/cam",
            "",
            "rtsp://10.0.0.1:554/agg",
            "rtsp://u:p@10.0.0.1/agg/t?x=1",
        );
        assert_eq!(a.stream, ["rtsp://10.0.0.1/agg/t?x=1"]);
        assert_eq!(a.aggregate[0], "rtsp://10.0.0.1:554/agg");
        let a = of("rtsp://c/cam", "Content-Base: rtsp://c/base/\r\n", "rtsp://c/agg", "t");
        assert_eq!(a.stream[..2], ["rtsp://c/agg/t", "rtsp://c/t"]);
        assert!(a.stream.contains(&"rtsp://c/base/t".into()));
    }

    #[test]
    fn without_control_urls_the_base_is_used() {
        let a = of("rtsp://c/cam", "Content-Base: nonsense://x\r\n", "*", "*");
        assert_eq!(
            (a.stream, a.aggregate),
            (vec!["rtsp://c/cam".into()], vec!["rtsp://c/cam".into()])
        );
    }
}
