//! Login, sessions, and guesses.

use std::fs;

use crate::street::{PASSWORD, Served};

#[test]
fn a_login_leads_to_the_page_that_was_asked_for_and_a_logout_ends_it() {
    let served = Served::with_users();
    let mut browser = served.browser();
    let asked = browser.get("/cases?state=open");
    assert_eq!(asked.header("location"), Some("/login?next=%2Fcases%3Fstate%3Dopen"));
    let code = browser.get("/login").csrf();
    let fields = [
        ("user", "viewer"),
        ("password", PASSWORD),
        ("next", "/cases?state=open"),
        ("csrf", &code),
    ];
    let answer = browser.post("/login", &fields);
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/cases?state=open"))
    );
    let page = browser.get("/cases");
    assert_eq!(page.status, 200);
    let stolen = browser.clone();
    assert_eq!(served.post(&mut browser, "/cases", "/logout", &[]).status, 303);
    assert_eq!(browser.get("/cases").status, 303);
    assert_eq!(
        stolen.clone().get("/cases").status,
        303,
        "the token itself has ended, not only the cookie"
    );
}

#[test]
fn the_session_cookie_is_out_of_reach_of_scripts_and_other_sites() {
    let served = Served::with_users();
    let mut browser = served.browser();
    let answer = browser.log_in("viewer", PASSWORD);
    let cookies: Vec<&String> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, v)| v)
        .collect();
    assert_eq!(cookies.len(), 2);
    for cookie in cookies {
        assert!(
            cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict") && cookie.contains("; Path=/"),
            "{cookie}"
        );
        assert!(!cookie.contains("Domain"), "{cookie}");
        assert!(
            !cookie.contains("Secure"),
            "over plain HTTP on loopback, a browser would not keep it: {cookie}"
        );
    }
    let stored = fs::read_to_string(served.state_dir().join("console/sessions.json")).unwrap();
    assert!(!stored.contains(&browser.cookies["gridwatch_session"]));
}

#[test]
fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    let served = Served::with_users();
    let answers: Vec<(u16, String)> = ["viewer", "nobody"]
        .into_iter()
        .map(|user| {
            let answer = served.browser().log_in(user, "wrong password 1");
            let message = answer
                .text()
                .split("role=\"alert\">")
                .nth(1)
                .unwrap()
                .split('<')
                .next()
                .unwrap()
                .to_owned();
            (answer.status, message)
        })
        .collect();
    assert_eq!(answers[0], answers[1]);
    assert_eq!((answers[0].0, answers[0].1.as_str()), (401, "用户名或密码不正确。"));
}

#[test]
fn a_guesser_is_locked_out_and_the_owner_is_not() {
    let served = Served::with_users();
    let mut owner = served.logged_in("viewer");
    let mut guesser = served.browser();
    let mut statuses = Vec::new();
    for i in 0..7 {
        statuses.push(guesser.log_in("viewer", &format!("wrong password {i}")).status);
    }
    assert_eq!(statuses[..5], [401; 5]);
    assert_eq!(statuses[5..], [429; 2]);
    let locked = guesser.log_in("viewer", PASSWORD);
    assert_eq!(locked.status, 429, "not even the right password");
    assert!(locked.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    // The owner's session goes on, and their browser logs in again from the same address as the guesser.
    assert_eq!(owner.get("/cases").status, 200);
    assert_eq!(served.post(&mut owner, "/cases", "/logout", &[]).status, 303);
    assert_eq!(owner.log_in("viewer", PASSWORD).status, 303);
    assert_eq!(served.post(&mut owner, "/cases", "/logout", &[]).status, 303);
    // A device cookie for one account helps with no other.
    assert_eq!(owner.log_in("admin", PASSWORD).status, 303);
    let mut forged = served.browser();
    forged
        .cookies
        .insert("gridwatch_device".into(), "0123456789abcdef.AAAA".into());
    assert_eq!(forged.log_in("viewer", PASSWORD).status, 429);
}

#[test]
fn a_change_of_password_role_or_user_ends_sessions_at_once() {
    let served = Served::with_users();
    let (mut one, mut two, mut three) = (
        served.logged_in("viewer"),
        served.logged_in("operator"),
        served.logged_in("east"),
    );
    let accounts = served.accounts();
    accounts
        .set_password("viewer", &"another long password".into())
        .unwrap();
    accounts
        .set_role("operator", gridwatch_web::Role::Viewer, None)
        .unwrap();
    accounts.remove("east").unwrap();
    for browser in [&mut one, &mut two, &mut three] {
        assert_eq!(browser.get("/cases").status, 303);
    }
}

#[test]
fn a_user_changes_the_own_password_and_ends_other_sessions() {
    let served = Served::with_users();
    let (mut here, mut there) = (served.logged_in("viewer"), served.logged_in("viewer"));
    let page = here.get("/account");
    let id = page
        .text()
        .split("/account/sessions/")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let ended = served.post(&mut here, "/account", &format!("/account/sessions/{id}/end"), &[]);
    assert_eq!(ended.status, 303);
    assert_eq!((here.get("/cases").status, there.get("/cases").status), (200, 303));
    let wrong = [
        ("old", "not the password"),
        ("new", "a new long one"),
        ("again", "a new long one"),
    ];
    assert_eq!(
        served.post(&mut here, "/account", "/account/password", &wrong).status,
        403
    );
    let differ = [
        ("old", PASSWORD),
        ("new", "a new long one"),
        ("again", "another long one"),
    ];
    assert_eq!(
        served.post(&mut here, "/account", "/account/password", &differ).status,
        400
    );
    let short = [("old", PASSWORD), ("new", "short"), ("again", "short")];
    assert_eq!(
        served.post(&mut here, "/account", "/account/password", &short).status,
        400
    );
    let right = [
        ("old", PASSWORD),
        ("new", "a new long one"),
        ("again", "a new long one"),
    ];
    assert_eq!(
        served.post(&mut here, "/account", "/account/password", &right).status,
        303
    );
    assert_eq!(served.browser().log_in("viewer", "a new long one").status, 303);
    let others = served.post(
        &mut served.logged_in("operator"),
        "/account",
        &format!("/account/sessions/{id}/end"),
        &[],
    );
    assert_eq!(others.status, 404, "a session of another user");
}

#[test]
fn without_users_the_box_itself_is_the_administrator_until_the_first_user() {
    let served = Served::start();
    let mut browser = served.browser();
    assert_eq!(browser.get("/users").status, 200);
    let viewer = [
        ("name", "li"),
        ("role", "viewer"),
        ("groups", ""),
        ("password", PASSWORD),
    ];
    assert_eq!(
        served.post(&mut browser, "/users", "/users", &viewer).status,
        409,
        "nobody could add another"
    );
    let admin = [
        ("name", "王伟"),
        ("role", "admin"),
        ("groups", ""),
        ("password", PASSWORD),
    ];
    assert_eq!(served.post(&mut browser, "/users", "/users", &admin).status, 303);
    assert_eq!(browser.get("/users").status, 303);
    assert_eq!(browser.log_in("王伟", PASSWORD).status, 303);
    assert_eq!(browser.get("/users").status, 200);
}

#[test]
fn a_damaged_list_of_users_closes_the_console_instead_of_opening_it() {
    let served = Served::start();
    fs::write(served.state_dir().join("console/users.json"), "{").unwrap();
    let answer = served.browser().get("/");
    assert_eq!(answer.status, 500);
    assert!(!answer.contains("street-a"));
}
