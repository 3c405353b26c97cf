//! Clients that speak HTTP wrongly on purpose, and an administrator of the console who wants to read files of the daemon.

use std::{
    fs,
    io::{Read as _, Write as _},
};

use gridwatch_config::{edit::Editor, raw};
use serde_json::json;

use crate::street::Served;

/// In files that an administrator of the console may not read.
const SECRET: &str = "hunter2hunter2";

/// Answers on one connection to these bytes: the statuses, in order.
fn answers(served: &Served, request: &[u8]) -> Vec<String> {
    let mut stream = served.browser().connect();
    stream.write_all(request).unwrap();
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    let statuses = text.split("HTTP/1.1 ").skip(1);
    statuses.map(|rest| rest.chars().take(3).collect()).collect()
}

#[test]
fn a_body_whose_length_is_ambiguous_is_refused_and_hides_no_request() {
    let served = Served::with_users();
    let host = served.address;
    let hidden = format!("GET /api/v1/openapi.json HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let n = hidden.len();
    for framing in [
        // Two lengths.
        format!("Content-Length: 0\r\nContent-Length: {n}\r\n"),
        format!("Content-Length: 0, {n}\r\n"),
        format!("Content-Length: +{n}\r\n"),
        format!("Content-Length: 0x{n:x}\r\n"),
        format!("Content-Length: {n}\u{b}\r\n"),
        // An encoding that only some understand.
        "Transfer-Encoding: xchunked\r\n".into(),
        "Transfer-Encoding: chunked, identity\r\n".into(),
        "Transfer-Encoding : chunked\r\n".into(),
        // A folded header, and one with a bare line feed in its value.
        "X: y\r\n Transfer-Encoding: chunked\r\n".into(),
        "X: y\rTransfer-Encoding: chunked\r\n".into(),
    ] {
        let request = format!("POST /login HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n{hidden}");
        let seen = answers(&served, request.as_bytes());
        assert!(
            matches!(seen.as_slice(), [] | [_]) && seen.iter().all(|status| status.starts_with('4')),
            "{framing:?}: {seen:?}"
        );
    }
    // Chunks whose size is not one, or too large.
    for chunk in ["g\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "5;\nx\r\n"] {
        let request =
            format!("POST /login HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{hidden}");
        let seen = answers(&served, request.as_bytes());
        assert!(
            seen.len() <= 1 && seen.iter().all(|status| status.starts_with('4')),
            "{chunk:?}: {seen:?}"
        );
    }
}

#[test]
fn heads_that_are_not_http_are_refused_and_the_console_goes_on() {
    let served = Served::with_users();
    let host = served.address;
    let long = "a".repeat(100 << 10);
    for head in [
        // No host, two, one with a user or another name.
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: evil@{host}\r\n\r\n"),
        format!("GET http://evil.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: \r\n\r\n".to_owned(),
        // Paths that are not paths.
        format!("GET /\u{0} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX\u{0}: y\r\n\r\n"),
        // Other protocols.
        format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        format!("GET / HTTP/9.9\r\nHost: {host}\r\n\r\n"),
        "\u{16}\u{3}\u{1}\u{0}\u{5}hello".to_owned(),
    ] {
        let seen = answers(&served, head.as_bytes());
        assert!(
            seen.len() <= 1 && seen.iter().all(|status| status.starts_with('4')),
            "{:?}: {seen:?}",
            head.chars().take(60).collect::<String>()
        );
    }
    // An upgrade is not done: the answer is that of a request without it.
    let upgrade = format!(
        "GET /login HTTP/1.1\r\nHost: {host}\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    assert_eq!(answers(&served, upgrade.as_bytes()), ["200"]);
    let mut browser = served.browser();
    for path in [
        "/%2e%2e/%2e%2e/etc/passwd",
        "/cases/%2e%2e%2f%2e%2e%2fedge.toml",
        "/cases/%00",
        "/cases/%c0%af",
        "/cameras/..%5c..%5cedge.toml/picture",
        "//etc/passwd",
        "/login/..;/users",
        "/assets/x/..;/users",
    ] {
        let answer = browser.get(path);
        assert!(
            matches!(answer.status, 303 | 400 | 404),
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
        let leads_to_login = |to: &str| to.starts_with("/login?next=");
        assert!(answer.header("location").is_none_or(leads_to_login), "{path}");
    }
}

#[test]
fn no_header_of_a_client_gets_into_an_answer_or_a_redirect() {
    let served = Served::with_users();
    let names = [
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Prefix",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Forwarded",
        "Referer",
    ];
    for name in names {
        for value in ["evil.example", "https", "/users", "host=evil.example;proto=https"] {
            let mut browser = served.browser().with(name, value);
            for path in ["/", "/login?next=%0d%0aSet-Cookie:%20a=b", "/login?next=//evil.example"] {
                let answer = browser.get(path);
                let told = format!("{:?} {}", answer.headers, answer.text());
                assert!(
                    !told.contains("evil.example") || path.contains("evil"),
                    "{name}: {value}: {path}: {told}"
                );
                let location = answer.header("location").unwrap_or("/");
                assert!(location.starts_with('/') && !location.starts_with("//"), "{location}");
                let cookies = answer.headers.iter().filter(|(name, _)| name == "set-cookie");
                assert!(cookies.clone().all(|(_, cookie)| !cookie.starts_with("a=")), "{told}");
            }
        }
    }
}

#[test]
fn a_file_that_the_configuration_names_is_not_repeated_in_its_faults() {
    let served = Served::start();
    let mut admin = served.browser();
    let code = admin.get("/").csrf();
    let mut admin = admin.with("X-CSRF-Token", &code);
    let file = served.main().with_file_name("secret");
    let text = fs::read_to_string(served.main()).unwrap();
    for contents in [
        format!("{SECRET}\n"),
        format!("admin:{SECRET}\n"),
        format!("[table]\nkey = {SECRET}\n"),
        format!("{{\"key\": \"{SECRET}\"}}"),
        format!("\"{SECRET}\""),
        format!("type,{SECRET}\n1,2\n"),
    ] {
        fs::write(&file, &contents).unwrap();
        let count = toml::from_str::<raw::File>(&text).unwrap().data_paths_mut().count();
        assert!(count >= 5, "{count}");
        for n in 0..=count {
            let mut edited: raw::File = toml::from_str(&text).unwrap();
            if n < count {
                *edited.data_paths_mut().nth(n).unwrap() = file.clone();
            } else {
                edited.console.certificate = Some(file.clone());
                edited.console.key = Some(file.clone());
            }
            let revision = Editor::open(&served.main()).unwrap().revision().to_owned();
            let body = json!({ "revision": revision, "file": "edge.toml", "text": toml::to_string(&edited).unwrap() });
            let answer = admin.send(
                "PUT",
                "/api/v1/configuration/text",
                "application/json",
                body.to_string().as_bytes(),
            );
            assert!(
                !answer.contains(SECRET),
                "path {n}, {contents:?}: {} {}",
                answer.status,
                answer.text()
            );
            if answer.status == 200 {
                fs::write(served.main(), &text).unwrap();
            }
        }
    }
}
