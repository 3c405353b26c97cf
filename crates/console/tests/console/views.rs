//! The page on which a view is confirmed.

use gridwatch_vision::views::{Standing, ViewFiles, ViewRequest, ViewStatus};
use gridwatch_web::audit::Outcome;

use crate::street::{Served, at};

#[test]
fn a_moved_view_is_shown_and_confirmed_once() {
    let served = Served::with_users();
    let files = ViewFiles::new(&served.state_dir(), "street-a".into(), None);
    let mut operator = served.logged_in("operator");
    assert!(operator.get("/cameras/street-a/aim").contains("尚未查看"));
    files
        .write_status(&ViewStatus {
            standing: Standing::Moved,
            since: at(0),
            shift: None,
        })
        .unwrap();
    let page = operator.get("/cameras/street-a/aim");
    assert!(
        page.contains("画面已偏移") && page.contains("/cameras/street-a/aim/learned"),
        "{}",
        page.text()
    );
    assert_eq!(
        operator.get("/cameras/street-a/aim/learned").header("content-type"),
        Some("image/jpeg")
    );
    assert_eq!(operator.get("/api/v1/views/street-a/aim").json()["standing"], "moved");
    let confirm = "/cameras/street-a/aim/confirm";
    let answer = served.post(&mut operator, "/cameras/street-a/aim", confirm, &[]);
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/cameras/street-a/aim"))
    );
    assert!(operator.get("/cameras/street-a/aim").contains("将在下一次查看时处理"));
    assert_eq!(
        served.post(&mut operator, "/account", confirm, &[]).status,
        409,
        "one request at a time"
    );
    assert_eq!(files.take_request().unwrap(), Some(ViewRequest::Confirm));
    let acts = served.street.acts.lock().unwrap();
    let outcomes: Vec<_> = acts
        .iter()
        .filter(|act| act.name == "console view confirm")
        .map(|act| &act.outcome)
        .collect();
    assert!(
        matches!(outcomes[..], [Outcome::Done, Outcome::Refused(_)]),
        "{outcomes:?}"
    );
}

#[test]
fn confirming_takes_an_operator_and_a_view_that_stands_still() {
    let served = Served::with_users_and(|file| file.cameras[2].fixed = false);
    let confirm = "/cameras/street-a/aim/confirm";
    let mut viewer = served.logged_in("viewer");
    assert!(!viewer.get("/cameras/street-a/aim").contains("aim/confirm"));
    assert_eq!(served.post(&mut viewer, "/account", confirm, &[]).status, 403);
    let mut operator = served.logged_in("operator");
    assert_eq!(operator.post(confirm, &[]).status, 403, "without the code");
    for view in ["nowhere", "..%2f..%2fx"] {
        let path = format!("/cameras/{view}/aim/confirm");
        assert_eq!(served.post(&mut operator, "/account", &path, &[]).status, 404, "{view}");
    }
    let unwatched = "/cameras/square-c/aim";
    assert!(operator.get(unwatched).contains("不监测画面位置"));
    assert_eq!(
        served
            .post(&mut operator, unwatched, &format!("{unwatched}/confirm"), &[])
            .status,
        409
    );
    assert_eq!(
        served.logged_in("east").get("/cameras/street-a/aim/learned").status,
        404
    );
    *served.street.masks_fail.lock().unwrap() = true;
    assert_eq!(
        operator.get("/cameras/street-a/aim/learned").status,
        500,
        "never without masks"
    );
}
