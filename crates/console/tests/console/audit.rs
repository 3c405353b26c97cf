//! What changes something is in the audit log: who, from where, what, and how it ended.

use crate::street::{PASSWORD, Served};
use gridwatch_web::audit::{Means, Outcome};

#[test]
fn changes_of_users_are_recorded_with_their_details_and_without_passwords() {
    let served = Served::with_users();
    let mut admin = served.logged_in("admin");
    let user = [
        ("name", "li"),
        ("role", "viewer"),
        ("groups", "east"),
        ("password", PASSWORD),
    ];
    assert_eq!(served.post(&mut admin, "/users", "/users", &user).status, 303);
    assert_eq!(served.post(&mut admin, "/users", "/users", &user).status, 409);
    let token = [
        ("name", "dashboard"),
        ("role", "viewer"),
        ("groups", ""),
        ("days", "30"),
    ];
    let made = served.post(&mut admin, "/users", "/tokens", &token);
    let value = made
        .text()
        .split("<code>")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap()
        .to_owned();
    assert!(value.starts_with("gw_"), "{value}");
    let acts = served.street.acts.lock().unwrap();
    let login = &acts[0];
    assert_eq!((login.name, login.by.user.as_deref()), ("console login", Some("admin")));
    let Means::Session(id) = &login.by.means else {
        panic!("{login:?}")
    };
    assert!(!admin.cookies["gridwatch_session"].contains(id.as_str()));
    let add = &acts[1];
    assert_eq!((add.name, &add.outcome), ("console user add", &Outcome::Done));
    assert_eq!(
        add.details,
        [
            ("user", "li".into()),
            ("role", "viewer".into()),
            ("groups", "east".to_owned())
        ]
    );
    assert_eq!(add.by.address.to_string(), "127.0.0.1");
    assert!(
        matches!(&acts[2].outcome, Outcome::Refused(why) if why.contains("already")),
        "{:?}",
        acts[2]
    );
    assert_eq!(acts[3].name, "console token add");
    let all = format!("{acts:?}");
    assert!(!all.contains(PASSWORD) && !all.contains(&value), "{all}");
}

#[test]
fn a_refused_change_is_recorded_a_bounded_number_of_times() {
    let served = Served::with_users();
    let mut viewer = served.logged_in("viewer");
    let code = viewer.get("/cases").csrf();
    for _ in 0..40 {
        assert_eq!(viewer.post("/users/admin/remove", &[("csrf", &code)]).status, 403);
    }
    let acts = served.street.acts.lock().unwrap();
    let refused = acts
        .iter()
        .filter(|act| matches!(act.outcome, Outcome::Refused(_)))
        .count();
    assert!((1..=20).contains(&refused), "{refused}");
}

#[test]
fn strangers_cannot_fill_the_audit_log() {
    let served = Served::with_users();
    for i in 0..4 {
        served.browser().log_in("admin", &format!("wrong password {i}"));
        served.browser().post("/users", &[("name", "x")]);
    }
    assert!(served.street.acts().is_empty());
}

#[test]
fn an_act_that_is_not_recorded_is_said_to_be_so() {
    let served = Served::with_users();
    let mut admin = served.logged_in("admin");
    *served.street.is_unrecordable.lock().unwrap() = true;
    let answer = served.post(&mut admin, "/users", "/users/viewer/remove", &[]);
    assert_eq!(answer.status, 500);
    assert!(answer.contains("未能写入审计日志"), "{}", answer.text());
}
