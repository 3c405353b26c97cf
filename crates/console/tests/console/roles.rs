//! Every route states who may use it, and is refused to all others.

use gridwatch_web::Role;
use std::{collections::BTreeSet, fs, path::Path};

use crate::street::Served;

/// A path of the route that leads nowhere in particular.
fn sample(path: &str) -> String {
    path.replace("{version}", "x")
        .replace("{*name}", "x")
        .replace("{view}", "street-a")
        .replace("{id}", "01J0000000000000000000000")
        .replace("{item}", "e0")
        .replace("{name}", "nobody")
}

#[test]
fn a_user_is_refused_what_takes_a_higher_role_on_every_route() {
    let served = Served::with_users();
    let mut checked = 0;
    for (user, role) in [("viewer", Role::Viewer), ("operator", Role::Operator)] {
        let mut browser = served.logged_in(user);
        let code = browser.get("/account").csrf();
        for route in served
            .routes
            .iter()
            .filter(|route| route.role.is_some_and(|needed| needed > role))
        {
            // The code is right, so that nothing but the role can be the reason.
            let mut with_code = browser.clone().with("X-CSRF-Token", &code);
            let answer = with_code.send(&route.method, &sample(route.path), "application/json", b"{}");
            assert_eq!(
                answer.status,
                403,
                "{user}: {} {}: {}",
                route.method,
                route.path,
                answer.text()
            );
            let words = answer.contains("权限")
                || answer.json()["detail"]
                    .as_str()
                    .is_some_and(|d| d.contains("takes the role"));
            assert!(words, "{}", answer.text());
            checked += 1;
        }
    }
    assert!(checked >= 15, "{checked}");
}

#[test]
fn without_login_every_route_but_the_public_ones_is_closed() {
    let served = Served::with_users();
    let mut browser = served.browser();
    for route in served.routes.iter().filter(|route| route.role.is_some()) {
        let answer = browser.send(&route.method, &sample(route.path), "application/json", b"{}");
        match route.path.starts_with("/api/") {
            true => assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, Some("Bearer")),
                "{route:?}"
            ),
            false => {
                assert_eq!(answer.status, 303, "{route:?}");
                assert!(
                    answer.header("location").unwrap().starts_with("/login?next="),
                    "{route:?}"
                );
            }
        }
    }
    let public: BTreeSet<&str> = served
        .routes
        .iter()
        .filter(|r| r.role.is_none())
        .map(|r| r.path)
        .collect();
    // A new entry here is a decision about security.
    assert_eq!(
        public,
        BTreeSet::from(["/assets/{version}/{*name}", "/login", "/preferences"])
    );
}

#[test]
fn every_change_has_a_name_for_the_audit_log() {
    let served = Served::start();
    for route in &served.routes {
        assert_eq!(route.act.is_some(), route.method != "GET", "{route:?}");
        // What a command does, too, has the name of the command.
        let commands = [
            "model install",
            "model rollback",
            "model shadow",
            "model use",
            "outbox retry",
            "support-bundle",
        ];
        let is_named = |act: &str| act.starts_with("console ") || commands.contains(&act);
        assert!(route.act.is_none_or(is_named), "{route:?}");
    }
}

#[test]
fn a_user_of_a_group_sees_its_cameras_and_cases_only() {
    let served = Served::with_users();
    let (own, other) = (
        served.file_case(1, "street-b", true),
        served.file_case(2, "street-a", true),
    );
    let mut east = served.logged_in("east");
    let wall = east.get("/");
    assert!(
        wall.contains("street-b") && !wall.contains("street-a"),
        "{}",
        wall.text()
    );
    assert_eq!(east.get("/cameras/street-b").status, 200);
    for path in [
        "/cameras/street-a",
        "/cameras/street-a/thumbnail",
        "/cameras/street-a/picture",
        "/cameras/street-a/events",
    ] {
        assert_eq!(east.get(path).status, 404, "{path}");
    }
    assert!(east.get("/cases").contains(&own) && !east.get("/cases").contains(&other));
    assert!(!east.get("/cases?camera=street-a").contains(&other));
    assert_eq!(east.get(&format!("/cases/{own}")).status, 200);
    assert_eq!(east.get(&format!("/cases/{other}")).status, 404);
    assert_eq!(east.get(&format!("/cases/{other}/evidence/e0")).status, 404);
    let views = east.get("/api/v1/views").json();
    assert_eq!(views.as_array().unwrap().len(), 1, "{views}");
    assert_eq!(east.get("/api/v1/views/street-a").status, 404);
    assert_eq!(east.get("/api/v1/cases").json().as_array().unwrap().len(), 1);
    let mut all = served.logged_in("viewer");
    assert!(all.get("/cases").contains(&other) && all.get("/").contains("street-a"));
}

#[test]
fn unmasked_pictures_are_for_the_configured_roles_and_each_is_recorded_first() {
    let served = Served::with_users_and(|file| file.console.unmasked_roles = vec![Role::Admin]);
    let id = served.file_case(1, "street-a", false);
    let evidence = format!("/cases/{id}/evidence/e0");
    let unmasked = "/cameras/street-a/picture?unmasked=true";
    let mut operator = served.logged_in("operator");
    assert_eq!(
        (operator.get(unmasked).status, operator.get(&evidence).status),
        (403, 403)
    );
    assert!(!operator.get("/cameras/street-a").contains("unmasked=true"));
    let mut admin = served.logged_in("admin");
    let before = served.street.acts().len();
    assert_eq!(admin.get("/cameras/street-a/picture").status, 200);
    assert_eq!(served.street.acts().len(), before, "a masked picture is no act");
    let picture = admin.get(unmasked);
    assert_eq!(
        (picture.status, picture.header("cache-control")),
        (200, Some("no-store"))
    );
    assert_eq!(admin.get(&evidence).status, 200);
    let act = ("console unmasked picture", Some("admin".to_owned()));
    assert_eq!(served.street.acts()[before..], [act.clone(), act]);
    *served.street.is_unrecordable.lock().unwrap() = true;
    assert_eq!(
        (admin.get(unmasked).status, admin.get(&evidence).status),
        (500, 500),
        "not shown if not recorded"
    );
}

/// The browser tests visit each page of this list, so that none is added that they do not know. `GRIDWATCH_BLESS=1` writes it.
#[test]
fn the_browser_tests_know_every_route_that_is_read() {
    let served = Served::start();
    let paths: BTreeSet<&str> = served
        .routes
        .iter()
        .filter(|route| route.method == "GET" && !route.path.starts_with("/api/"))
        .map(|route| route.path)
        .collect();
    let current = serde_json::to_string_pretty(&paths).unwrap() + "\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/test/e2e/harness/routes.json");
    if std::env::var_os("GRIDWATCH_BLESS").is_some() {
        fs::write(&file, &current).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&file).unwrap_or_default(),
        current,
        "{} is out of date",
        file.display()
    );
}
