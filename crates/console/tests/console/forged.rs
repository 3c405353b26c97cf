//! Requests that a page elsewhere, or a program that lies, would send.

use std::io::{Read as _, Write as _};

use crate::{http::Response, street::Served};

#[test]
fn a_change_needs_the_code_of_a_page_of_the_same_session() {
    let served = Served::with_users();
    let (mut admin, mut other) = (served.logged_in("admin"), served.logged_in("admin"));
    let fields = [
        ("name", "li"),
        ("role", "viewer"),
        ("groups", ""),
        ("password", "long enough password"),
    ];
    assert_eq!(admin.post("/users", &fields).status, 403);
    let code = other.get("/users").csrf();
    for wrong in [code.as_str(), "", "x.y", "0000"] {
        let mut fields = fields.to_vec();
        fields.push(("csrf", wrong));
        assert_eq!(admin.post("/users", &fields).status, 403, "{wrong}");
    }
    assert!(!served.accounts().users().unwrap().iter().any(|user| user.name == "li"));
    assert_eq!(served.post(&mut admin, "/users", "/users", &fields).status, 303);
}

#[test]
fn a_change_from_another_site_is_refused_with_the_right_code_too() {
    let served = Served::start();
    let code = served.browser().get("/").csrf();
    let own = format!("http://{}", served.address);
    let fields = [("language", "en"), ("next", "/"), ("csrf", &code)];
    for (header, value) in [
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        let answer = served.browser().with(header, value).post("/preferences", &fields);
        assert_eq!(answer.status, 403, "{header}: {value}");
    }
    let browser = served
        .browser()
        .with("Origin", &own)
        .with("Sec-Fetch-Site", "same-origin");
    assert_eq!(browser.clone().post("/preferences", &fields).status, 303);
    // Kinds of bodies that a form elsewhere can send.
    let mut plain = served.browser();
    for kind in ["text/plain", "multipart/form-data; boundary=x", "application/json"] {
        let answer = plain.send(
            "POST",
            "/cameras/street-a/look",
            kind,
            format!("csrf={code}").as_bytes(),
        );
        assert_eq!(answer.status, 403, "{kind}");
    }
}

#[test]
fn a_name_that_was_made_to_resolve_to_the_box_is_refused() {
    let served = Served::start();
    let mut browser = served.browser();
    for host in ["evil.example", "127.0.0.1.evil.example:9480", "localhost.evil.example"] {
        browser.host = host.into();
        let answer = browser.get("/");
        assert_eq!(answer.status, 421, "{host}");
        assert!(!answer.contains("street-a") && answer.contains("console.hosts"));
    }
    browser.host = "localhost:9480".into();
    assert_eq!(browser.get("/").status, 200);
    browser.host = served.address.to_string();
    assert_eq!(browser.get("http://evil.example/").status, 421);
}

#[test]
fn a_redirect_stays_at_this_console() {
    let served = Served::start();
    let code = served.browser().get("/").csrf();
    for next in [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
    ] {
        let answer = served
            .browser()
            .post("/preferences", &[("theme", "dark"), ("next", next), ("csrf", &code)]);
        assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{next}");
    }
}

#[test]
fn what_comes_from_outside_is_text_in_a_page() {
    let served = Served::start();
    let mut browser = served.browser();
    let script = "<script>alert(1)</script>";
    let found = browser.get(&format!("/cases?cell={}", "%22%3E%3Cscript%3Ealert(1)%3C/script%3E"));
    assert_eq!(found.status, 200);
    assert!(!found.contains(script), "{}", found.text());
    served
        .street
        .change("street-a", |status| status.connection_detail = Some(script.into()));
    served.street.block(script);
    assert!(!browser.get("/").contains(script) && !browser.get("/cameras/street-a").contains(script));
}

#[test]
fn oversize_and_unfinished_requests_are_bounded() {
    let served = Served::start();
    let mut browser = served.browser();
    let code = browser.get("/").csrf();
    let large = vec![b'a'; 300 << 10];
    let answer = browser.send("POST", "/preferences", "application/x-www-form-urlencoded", &large);
    assert_eq!(answer.status, 413);
    let mut with_code = browser.clone().with("X-CSRF-Token", &code);
    let answer = with_code.send("POST", "/api/v1/users", "application/json", &large);
    assert_eq!(answer.status, 413, "{}", answer.text());
    // A head without end: cut off at its limit, or by the time limit.
    let mut stream = browser.connect();
    let _ = stream.write_all(browser.head("GET", "/").as_bytes());
    let line = format!("X-Filler: {}\r\n", "x".repeat(1000));
    for _ in 0..100 {
        if stream.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(
        answer.is_empty() || Response::parse(&answer).status == 431,
        "{}",
        String::from_utf8_lossy(&answer)
    );
    // More connections than there are places, none of which asks for anything: those beyond are closed, and after them the console answers.
    let idle: Vec<_> = (0..300).map(|_| browser.connect()).collect();
    let closed = idle.iter().filter(|stream| {
        let mut stream = *stream;
        stream.set_nonblocking(true).unwrap();
        matches!(stream.read(&mut [0]), Ok(0))
    });
    let _ = closed.count();
    drop(idle);
    served.wait_until("a place is free", |_| {
        let mut stream = browser.connect();
        let _ = stream.write_all(format!("{}\r\n", browser.head("GET", "/")).as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer.starts_with(b"HTTP/1.1 200")
    });
}

#[test]
fn every_answer_has_the_headers_that_confine_it() {
    let served = Served::with_users();
    let mut browser = served.browser();
    for path in ["/login", "/", "/nowhere", "/api/v1/views", "/assets/x/css/console.css"] {
        let answer = browser.get(path);
        let policy = answer
            .header("content-security-policy")
            .unwrap_or_else(|| panic!("{path}"));
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
            "{path}"
        );
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"), "{path}");
        assert!(answer.header("cache-control").is_some(), "{path}");
    }
}

#[test]
fn another_site_cannot_load_pictures_but_may_link_to_pages() {
    let served = Served::start();
    let from_elsewhere = |mode: &str, destination: &str| {
        let browser = served.browser().with("Sec-Fetch-Site", "cross-site");
        browser.with("Sec-Fetch-Mode", mode).with("Sec-Fetch-Dest", destination)
    };
    let picture = "/cameras/street-a/picture?unmasked=true";
    assert_eq!(from_elsewhere("no-cors", "image").get(picture).status, 403);
    assert_eq!(from_elsewhere("cors", "empty").get("/api/v1/views").status, 403);
    assert_eq!(from_elsewhere("navigate", "iframe").get("/").status, 403);
    assert!(served.street.acts().is_empty());
    assert_eq!(from_elsewhere("navigate", "document").get("/").status, 200);
}
