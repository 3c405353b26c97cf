//! Users, sessions, tokens and one's own account in the JSON API.

use gridwatch_web::audit::Outcome;
use serde_json::{Value, json};

use crate::{
    http::{Client, Response},
    street::{PASSWORD, Served},
};

const OTHER: &str = "another long password";

fn send(client: &mut Client, method: &str, path: &str, body: &Value) -> Response {
    client.send(method, path, "application/json", body.to_string().as_bytes())
}

/// A logged-in browser whose scripts send the code against forged requests.
fn scripted(served: &Served, user: &str) -> Client {
    let mut browser = served.logged_in(user);
    let code = browser.get("/account").csrf();
    browser.with("X-CSRF-Token", &code)
}

#[test]
fn a_token_is_made_used_listed_without_its_value_and_removed() {
    let served = Served::with_users();
    let mut admin = scripted(&served, "admin");
    let body = json!({"name": "dashboard", "role": "viewer", "groups": ["east"], "days": 30});
    let made = send(&mut admin, "POST", "/api/v1/tokens", &body);
    assert_eq!(made.status, 200, "{}", made.text());
    let token = made.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(send(&mut admin, "POST", "/api/v1/tokens", &body).status, 409);
    for (days, status) in [(0, 400), (3651, 400), (-1, 400)] {
        let body = json!({"name": "x", "role": "viewer", "days": days});
        assert_eq!(
            send(&mut admin, "POST", "/api/v1/tokens", &body).status,
            status,
            "{days}"
        );
    }
    let listed = admin.get("/api/v1/tokens");
    assert_eq!(listed.json()[0]["made_by"], "admin");
    assert!(listed.json()[0]["expires_at"].is_string() && !listed.contains(&token) && !listed.contains("sha256"));

    let mut program = served.browser().with("Authorization", &format!("Bearer {token}"));
    assert_eq!(
        program.get("/api/v1/account").json(),
        json!({"name": "dashboard", "role": "viewer", "groups": ["east"], "means": "token"})
    );
    assert_eq!(program.get("/api/v1/views").json().as_array().unwrap().len(), 1);
    assert_eq!(program.get("/api/v1/account/sessions").json(), json!([]));
    let passwords = json!({"old": PASSWORD, "new": OTHER});
    assert_eq!(
        send(&mut program, "PUT", "/api/v1/account/password", &passwords).status,
        404,
        "a program has no password"
    );
    assert_eq!(
        send(&mut admin, "DELETE", "/api/v1/tokens/dashboard", &json!({})).status,
        204
    );
    assert_eq!(
        send(&mut admin, "DELETE", "/api/v1/tokens/dashboard", &json!({})).status,
        404
    );
    assert_eq!(program.get("/api/v1/account").status, 401);
    let acts = served.street.acts.lock().unwrap();
    let refused = acts
        .iter()
        .find(|act| act.name == "console token add" && act.outcome != Outcome::Done)
        .unwrap();
    assert_eq!(refused.details[0], ("token", "dashboard".to_owned()));
    assert!(!format!("{acts:?}").contains(&token));
}

#[test]
fn the_description_states_the_limits_of_names_passwords_and_days() {
    let served = Served::start();
    let document = served.browser().get("/api/v1/openapi.json").json();
    let schemas = &document["components"]["schemas"];
    let limits = |schema: &Value, least: &str, most: &str| (schema[least].as_u64(), schema[most].as_u64());
    let password = &schemas["ChosenPassword"];
    assert_eq!(
        limits(password, "minLength", "maxLength"),
        (Some(10), Some(256)),
        "{schemas}"
    );
    let name = &schemas["NewName"];
    assert_eq!(limits(name, "minLength", "maxLength"), (Some(1), Some(64)), "{name}");
    let days = &schemas["TokenBody"]["properties"]["days"];
    assert_eq!(limits(days, "minimum", "maximum"), (Some(1), Some(3650)), "{days}");
    // Without users nothing is asked for; with them a token, or a session and its code.
    assert_eq!(document["security"].as_array().unwrap().len(), 3);
    let served = Served::with_users();
    let document = served.logged_in("admin").get("/api/v1/openapi.json").json();
    assert_eq!(document["security"].as_array().unwrap().len(), 2);
}

#[test]
fn a_role_or_password_that_an_administrator_sets_ends_the_users_sessions() {
    let served = Served::with_users();
    let mut admin = scripted(&served, "admin");
    let mut east = served.logged_in("east");
    let path = "/api/v1/users/east/role";
    assert_eq!(send(&mut admin, "PUT", path, &json!({"role": "operator"})).status, 204);
    assert_eq!(east.get("/api/v1/account").status, 401);
    let mut east = served.logged_in("east");
    let account = east.get("/api/v1/account").json();
    assert_eq!(
        account,
        json!({"name": "east", "role": "operator", "groups": ["east"], "means": "session"}),
        "groups stay"
    );
    assert_eq!(
        send(&mut admin, "PUT", path, &json!({"role": "viewer", "groups": []})).status,
        204
    );
    assert_eq!(
        served.logged_in("east").get("/api/v1/account").json()["groups"],
        json!([])
    );

    let path = "/api/v1/users/east/password";
    for (body, status) in [
        (json!({"password": "short"}), 400),
        (json!({"password": "x".repeat(257)}), 400),
        (json!({}), 400),
        (json!({"password": OTHER}), 204),
    ] {
        assert_eq!(send(&mut admin, "PUT", path, &body).status, status, "{body}");
    }
    assert_eq!(east.get("/api/v1/account").status, 401);
    assert_eq!(served.browser().log_in("east", PASSWORD).status, 401);
    assert_eq!(served.browser().log_in("east", OTHER).status, 303);
    for path in ["/api/v1/users/nobody/role", "/api/v1/users/nobody/password"] {
        let body = match path.ends_with("role") {
            true => json!({"role": "viewer"}),
            false => json!({"password": OTHER}),
        };
        assert_eq!(send(&mut admin, "PUT", path, &body).status, 404, "{path}");
    }
    let last = send(
        &mut admin,
        "PUT",
        "/api/v1/users/admin/role",
        &json!({"role": "viewer"}),
    );
    assert_eq!(last.status, 409, "the last administrator");
    let groups: Vec<String> = (0..101).map(|i| format!("g{i}")).collect();
    let many = json!({"role": "viewer", "groups": groups});
    assert_eq!(send(&mut admin, "PUT", "/api/v1/users/east/role", &many).status, 400);
    assert!(!format!("{:?}", served.street.acts.lock().unwrap()).contains(OTHER));
}

#[test]
fn sessions_are_listed_and_ended_one_s_own_by_everyone_and_all_by_administrators() {
    let served = Served::with_users();
    let (mut admin, mut viewer) = (scripted(&served, "admin"), scripted(&served, "viewer"));
    let mut second = served.logged_in("viewer");
    assert_eq!(viewer.get("/api/v1/sessions").status, 403);
    let own = viewer.get("/api/v1/account/sessions").json();
    let own = own.as_array().unwrap();
    assert_eq!(own.len(), 2);
    let id = |is_own: bool| {
        let session = own.iter().find(|session| session["is_own"] == is_own).unwrap();
        session["id"].as_str().unwrap().to_owned()
    };
    let all = admin.get("/api/v1/sessions").json();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 3);
    assert!(
        all.iter()
            .all(|session| session.get("sha256").is_none() && session["address"] == "127.0.0.1")
    );
    let of_admin = all.iter().find(|session| session["user"] == "admin").unwrap();
    let others = format!("/api/v1/account/sessions/{}", of_admin["id"].as_str().unwrap());
    assert_eq!(send(&mut viewer, "DELETE", &others, &json!({})).status, 404);
    let path = format!("/api/v1/account/sessions/{}", id(false));
    assert_eq!(send(&mut viewer, "DELETE", &path, &json!({})).status, 204);
    assert_eq!(second.get("/api/v1/account").status, 401);
    let path = format!("/api/v1/sessions/{}", id(true));
    assert_eq!(send(&mut admin, "DELETE", &path, &json!({})).status, 204);
    assert_eq!(viewer.get("/api/v1/account").status, 401);
}

#[test]
fn one_s_own_password_takes_the_old_one_and_is_not_guessed_quickly() {
    let served = Served::with_users();
    let mut viewer = scripted(&served, "viewer");
    let path = "/api/v1/account/password";
    let wrong = json!({"old": "not the right one", "new": OTHER});
    let answer = send(&mut viewer, "PUT", path, &wrong);
    assert_eq!(
        (answer.status, answer.json()["detail"].as_str()),
        (403, Some("the password is wrong"))
    );
    let right = json!({"old": PASSWORD, "new": OTHER});
    assert_eq!(send(&mut viewer, "PUT", path, &right).status, 204);
    assert_eq!(viewer.get("/api/v1/account").status, 401);
    let mut viewer = {
        let mut browser = served.browser();
        assert_eq!(browser.log_in("viewer", OTHER).status, 303);
        let code = browser.get("/account").csrf();
        browser.with("X-CSRF-Token", &code)
    };
    let limited = (0..10)
        .map(|_| send(&mut viewer, "PUT", path, &wrong))
        .find(|answer| answer.status == 429)
        .expect("guesses are limited");
    assert!(limited.header("retry-after").is_some());
}
