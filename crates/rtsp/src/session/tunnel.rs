//! RTSP over HTTP (Apple, "Tunnelling RTSP and RTP over HTTP"): the server sends in the body of an endless GET
//! response, the client in the body of an endless POST request, base64-encoded. A cookie joins the two.

use url::Url;

use crate::{
    auth::{Attempt, Authenticator},
    message::{base64, write_message},
    random::Random,
};

const CONTENT_TYPE: &str = "application/x-rtsp-tunnelled";
/// Bytes kept for a POST connection that is being opened again. A request takes less than 1 KiB.
const MAX_QUEUED: usize = 16 << 10;

/// State of the POST connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Post {
    Closed,
    Connecting,
    Open,
}

/// One tunnel.
pub(super) struct Tunnel {
    pub(super) auth: Authenticator,
    pub(super) attempt: Attempt,
    pub(super) post: Post,
    cookie: String,
    queued: Vec<u8>,
}

/// What to do with bytes for the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sending {
    Now(Vec<u8>),
    /// They are kept; the POST connection is to be opened.
    Connect,
    /// They are kept.
    Later,
}

impl Tunnel {
    pub(super) fn new(auth: Authenticator, random: &mut Random) -> Self {
        Self {
            auth,
            attempt: Attempt::default(),
            post: Post::Closed,
            cookie: random.token(),
            queued: Vec::new(),
        }
    }

    /// The GET request, which opens the server's direction.
    /// The scheme of the login in use.
    pub(super) fn login(&self) -> Option<String> {
        self.auth.in_use()
    }

    pub(super) fn get_request(&mut self, url: &Url, user_agent: &str) -> Vec<u8> {
        self.http_request("GET", url, user_agent, ("Accept", CONTENT_TYPE))
    }

    /// The head of the POST request, and what waited for it.
    pub(super) fn post_opened(&mut self, url: &Url, user_agent: &str) -> Vec<u8> {
        self.post = Post::Open;
        let mut head = self.http_request("POST", url, user_agent, ("Content-Type", CONTENT_TYPE));
        head.append(&mut self.queued);
        head
    }

    /// Encodes `data` for the server.
    pub(super) fn send(&mut self, data: &[u8]) -> Sending {
        let encoded = base64(data).into_bytes();
        match self.post {
            Post::Open => Sending::Now(encoded),
            post => {
                if self.queued.len() + encoded.len() <= MAX_QUEUED {
                    self.queued.extend_from_slice(&encoded);
                }
                self.post = Post::Connecting;
                match post {
                    Post::Closed => Sending::Connect,
                    _ => Sending::Later,
                }
            }
        }
    }

    fn http_request(&mut self, method: &str, url: &Url, user_agent: &str, kind: (&'static str, &str)) -> Vec<u8> {
        let path = match url.path() {
            "" => "/",
            path => path,
        };
        let query = url.query().map_or(String::new(), |q| format!("?{q}"));
        let target = format!("{path}{query}");
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map_or(String::new(), |p| format!(":{p}"));
        let mut headers = vec![
            ("Host", format!("{host}{port}")),
            ("User-Agent", user_agent.to_owned()),
            ("x-sessioncookie", self.cookie.clone()),
            (kind.0, kind.1.to_owned()),
            ("Pragma", "no-cache".into()),
            ("Cache-Control", "no-cache".into()),
        ];
        if let Some(value) = self.auth.authorize(method, &target, b"", &mut self.attempt) {
            headers.push(("Authorization", value));
        }
        if method == "POST" {
            // The length and the date of Apple's document; servers read on beyond it.
            headers.push(("Content-Length", "32767".into()));
            headers.push(("Expires", "Sun, 9 Jan 1972 00:00:00 GMT".into()));
        }
        // HTTP/1.0, as in the document: no server may answer in chunks.
        write_message(&format!("{method} {target} HTTP/1.0"), &headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LoginPolicy;

    #[test]
    fn requests_wait_for_the_post_connection() {
        let mut tunnel = Tunnel::new(
            Authenticator::new(None, false, LoginPolicy::default(), false),
            &mut Random::new(1),
        );
        let url = Url::parse("rtsp://[::1]:8080/cam?x=1").unwrap();
        let get = String::from_utf8(tunnel.get_request(&url, "a")).unwrap();
        assert!(
            get.starts_with("GET /cam?x=1 HTTP/1.0\r\nHost: [::1]:8080\r\n"),
            "{get}"
        );
        assert!(get.contains("Accept: application/x-rtsp-tunnelled\r\n"), "{get}");
        assert_eq!(tunnel.send(b"abc"), Sending::Connect);
        assert_eq!(tunnel.send(b"d"), Sending::Later);
        let post = String::from_utf8(tunnel.post_opened(&url, "a")).unwrap();
        assert!(post.ends_with("\r\n\r\nYWJjZA=="), "{post}");
        assert!(post.contains(&format!("x-sessioncookie: {}\r\n", tunnel.cookie)) && get.contains(&tunnel.cookie));
        assert_eq!(tunnel.send(b"e"), Sending::Now(b"ZQ==".to_vec()));
    }
}
