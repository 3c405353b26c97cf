//! Behind a reverse proxy: sub-path, forwarded identity and address.

use gridwatch_config::raw;
use gridwatch_web::{Role, accounts::NewUser};

use crate::street::{PASSWORD, Served};

fn behind_proxy(file: &mut raw::File) {
    file.console.public_url = Some("https://city.example/box-1".into());
    // The tests' own address, as that of a proxy on the box.
    file.console.trusted_proxies = vec!["127.0.0.1".into()];
    file.console.identity_header = Some("X-Forwarded-User".into());
}

/// URLs in the attributes of a page, apart from those within the page.
fn urls(page: &str) -> Vec<&str> {
    let attributes = [
        "href=\"",
        "src=\"",
        "action=\"",
        "hx-get=\"",
        "hx-post=\"",
        "sse-connect=\"",
    ];
    let values = attributes.iter().flat_map(|name| page.split(*name).skip(1));
    values
        .filter_map(|rest| rest.split('"').next())
        .filter(|url| !url.starts_with('#'))
        .collect()
}

#[test]
fn links_forms_redirects_and_cookies_stay_below_the_sub_path() {
    let served = Served::with_users_and(behind_proxy);
    let mut browser = served.browser();
    browser.host = "city.example".into();
    let asked = browser.get("/box-1/cases");
    assert_eq!(asked.header("location"), Some("/box-1/login?next=%2Fcases"));
    let page = browser.get("/box-1/login");
    for url in urls(page.text()) {
        assert!(url.starts_with("/box-1/"), "{url}");
    }
    let code = page.csrf();
    let fields = [
        ("user", "admin"),
        ("password", PASSWORD),
        ("next", "/cases"),
        ("csrf", code.as_str()),
    ];
    let answer = browser
        .clone()
        .with("Origin", "https://city.example")
        .post("/box-1/login", &fields);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/box-1/cases")));
    for (_, cookie) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
        assert!(
            cookie.contains("Path=/box-1;") && cookie.contains("; Secure"),
            "{cookie}"
        );
    }
    assert!(answer.header("strict-transport-security").is_some());
    // A proxy that takes the path off.
    let mut stripped = browser.clone();
    stripped.log_in("admin", PASSWORD);
    for path in ["/", "/cases", "/users", "/cameras/street-a"] {
        let page = stripped.get(path);
        assert_eq!(page.status, 200, "{path}");
        for url in urls(page.text()) {
            assert!(url.starts_with("/box-1/"), "{path}: {url}");
        }
    }
}

#[test]
fn a_trusted_proxy_names_the_user_and_the_box_decides_the_role() {
    let served = Served::with_users_and(behind_proxy);
    served
        .accounts()
        .add(&NewUser {
            name: "王伟",
            role: Role::Viewer,
            groups: Default::default(),
            password: None,
        })
        .unwrap();
    let mut known = served.browser().with("X-Forwarded-User", "王伟");
    assert_eq!(known.get("/cases").status, 200);
    assert_eq!(known.get("/users").status, 403);
    let unknown = served.browser().with("X-Forwarded-User", "nobody").get("/cases");
    assert_eq!(unknown.status, 403);
    assert!(unknown.contains("nobody") && unknown.contains("没有账号"));
    let twice = served
        .browser()
        .with("X-Forwarded-User", "admin")
        .with("X-Forwarded-User", "王伟")
        .get("/cases");
    assert_eq!(twice.status, 403, "one of two headers may be the client's own");
    let mut logged_in = served.logged_in("viewer");
    assert_eq!(logged_in.get("/cases").status, 200, "a password works, too");
    // A user without a password cannot log in with an empty one.
    assert_eq!(served.browser().log_in("王伟", "").status, 401);
}

#[test]
fn nobody_but_a_trusted_proxy_names_a_user() {
    let served = Served::with_users_and(|file| {
        behind_proxy(file);
        file.console.trusted_proxies = vec!["10.0.0.5".into()];
    });
    let forged = served
        .browser()
        .with("X-Forwarded-User", "admin")
        .with("X-Forwarded-For", "10.0.0.5")
        .get("/users");
    assert_eq!(forged.status, 303, "sent to the login page");
}

#[test]
fn a_proxy_that_is_not_configured_does_not_open_a_console_without_users() {
    let served = Served::start();
    for (header, value) in [
        ("X-Forwarded-For", "203.0.113.9"),
        ("Forwarded", "for=203.0.113.9"),
        ("Via", "1.1 proxy"),
    ] {
        let answer = served.browser().with(header, value).get("/");
        assert_eq!(answer.status, 403, "{header}");
        assert!(!answer.contains("street-a"), "{header}");
    }
}

#[test]
fn guesses_through_the_proxy_count_for_their_own_address() {
    let served = Served::with_users_and(behind_proxy);
    let mut guesser = served.browser().with("X-Forwarded-For", "203.0.113.9");
    for i in 0..6 {
        guesser.log_in("viewer", &format!("wrong password {i}"));
    }
    assert_eq!(guesser.log_in("viewer", PASSWORD).status, 429);
    // What the guesser writes in front does not make another address of it.
    let mut disguised = served.browser().with("X-Forwarded-For", "198.51.100.1, 203.0.113.9");
    assert_eq!(disguised.log_in("viewer", PASSWORD).status, 429);
    let mut owner = served.browser().with("X-Forwarded-For", "198.51.100.1");
    assert_eq!(owner.log_in("viewer", PASSWORD).status, 303);
}
