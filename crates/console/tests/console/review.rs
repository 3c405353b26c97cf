//! The review of cases: by forms and by the JSON API, by several persons, and in the audit log.

use gridwatch_contract::EvidenceRole;
use gridwatch_engine::CaseState;
use gridwatch_store::{ReviewVerdict, Revision, Store, evidence_file};
use gridwatch_web::audit::{Act, Outcome};

use crate::{
    case,
    http::{Client, Response},
    street::Served,
};

fn review(served: &Served, browser: &mut Client, id: &str, fields: &[(&str, &str)]) -> Response {
    served.post(browser, "/review", &format!("/review/{id}"), fields)
}

/// The case that a page shows for review.
fn shown(page: &Response) -> Option<String> {
    let action = page
        .text()
        .split("class=\"choices\" method=\"post\" action=\"/review/")
        .nth(1)?;
    Some(action.split('"').next()?.to_owned())
}

fn acts(served: &Served, name: &str) -> Vec<Act> {
    let acts = served.street.acts.lock().unwrap();
    acts.iter().filter(|act| act.name == name).cloned().collect()
}

fn detail(act: &Act, name: &str) -> String {
    let found = act.details.iter().find(|(n, _)| *n == name);
    found.unwrap_or_else(|| panic!("{name}: {act:?}")).1.clone()
}

fn store(served: &Served) -> Store {
    Store::open_read_only(&served.state_dir()).unwrap()
}

#[test]
fn cases_are_reviewed_one_after_the_other_and_taken_back() {
    let served = Served::with_users();
    let ids: Vec<String> = (1..=3).map(|n| served.file_case(n, "street-a", true)).collect();
    let mut operator = served.logged_in("operator");
    let mut page = operator.get("/review");
    let mut seen = Vec::new();
    for verdict in ["true", "false", "unsure"] {
        let id = shown(&page).unwrap();
        assert!(page.contains(&format!("/cases/{id}/evidence/e2")), "the marked scene");
        let answer = review(&served, &mut operator, &id, &[("verdict", verdict), ("queue", "mine")]);
        assert_eq!(answer.status, 303, "{}", answer.text());
        page = operator.get(answer.header("location").unwrap());
        seen.push(id);
    }
    seen.sort();
    assert_eq!(seen, ids, "each once");
    assert_eq!(shown(&page), None);
    assert!(page.contains("没有待复核的案卷") && page.contains("我已复核 3 / 3") && page.contains("撤销：无法判断"));
    let last = store(&served).reviews_by("operator", 1).unwrap().remove(0);
    let undo = format!("/review/{}/undo", last.case_id);
    let answer = served.post(&mut operator, "/review", &undo, &[("queue", "mine")]);
    let page = operator.get(answer.header("location").unwrap());
    assert_eq!(shown(&page), Some(last.case_id.clone()), "the case is shown again");
    assert!(page.contains("我已复核 2 / 3") && page.contains("撤销：误报"));
    assert_eq!(store(&served).reviews_of(&last.case_id).unwrap(), []);
    // Next, without a verdict.
    let page = operator.get(&format!("/review?queue=nobody&after={}", last.case_id));
    assert_ne!(shown(&page), Some(last.case_id));
}

#[test]
fn a_duplicate_names_another_case() {
    let served = Served::with_users();
    let ids: Vec<String> = (1..=2).map(|n| served.file_case(n, "street-a", true)).collect();
    let mut operator = served.logged_in("operator");
    let page = operator.get(&format!("/review?case={}", ids[0]));
    assert!(
        page.contains(&format!("<input type=\"radio\" name=\"of\" value=\"{}\">", ids[1])),
        "cases nearby are offered: {}",
        page.text()
    );
    for (fields, words) in [
        (vec![("of", "")], "请选择或填写"),
        (vec![("of", ids[0].as_str())], "不能与自己重复"),
        (vec![("other", "01J0000000000000000000000")], "没有这个案卷"),
    ] {
        let fields = [vec![("verdict", "duplicate")], fields].concat();
        let answer = review(&served, &mut operator, &ids[0], &fields);
        assert_eq!(answer.status, 400, "{words}");
        assert!(
            answer.contains(words) && answer.contains("<details data-key=\"d\" open>"),
            "{words}"
        );
    }
    assert_eq!(store(&served).reviews_of(&ids[0]).unwrap(), []);
    // Typed in small letters.
    let typed = ids[1].to_lowercase();
    let fields = [("verdict", "duplicate"), ("other", typed.as_str())];
    assert_eq!(review(&served, &mut operator, &ids[0], &fields).status, 303);
    let stored = store(&served).reviews_of(&ids[0]).unwrap().remove(0);
    assert_eq!(
        (stored.verdict, stored.duplicate_of.as_deref()),
        (ReviewVerdict::Duplicate, Some(ids[1].as_str()))
    );
    let fields = [("verdict", "duplicate"), ("of", ids[0].as_str())];
    assert!(review(&served, &mut operator, &ids[1], &fields).contains("标为本案的重复"));
    let page = operator.get(&format!("/cases/{}", ids[0]));
    assert!(
        page.contains("重复上报") && page.contains(&format!("/cases/{}\">与", ids[1])),
        "{}",
        page.text()
    );
}

#[test]
fn persons_may_disagree_and_the_newest_of_each_counts() {
    let served = Served::with_users();
    let id = served.file_case(1, "street-a", true);
    let mut operator = served.logged_in("operator");
    let mut admin = served.logged_in("admin");
    review(&served, &mut operator, &id, &[("verdict", "unsure")]);
    review(&served, &mut operator, &id, &[("verdict", "true")]);
    review(&served, &mut admin, &id, &[("verdict", "false")]);
    assert_eq!(store(&served).reviews_of(&id).unwrap().len(), 2);
    assert!(store(&served).review_labels().unwrap().disputed.contains(&id));
    for (language, words) in [("zh", "复核意见不一"), ("en", "The reviews disagree")] {
        let page = served
            .logged_in("viewer")
            .with("Accept-Language", language)
            .get(&format!("/cases/{id}"));
        assert!(
            page.contains(words) && page.contains("operator") && page.contains("admin"),
            "{}",
            page.text()
        );
        assert!(!page.contains("/review?case="), "a viewer sees and does not review");
    }
    assert_eq!(
        served
            .logged_in("viewer")
            .get("/cases?review=disputed")
            .text()
            .matches("class=\"case ")
            .count(),
        1
    );
    assert_eq!(shown(&admin.get("/review?queue=disputed")), Some(id.clone()));
    assert_eq!(shown(&admin.get("/review")), None);
    review(&served, &mut admin, &id, &[("verdict", "true")]);
    assert_eq!(store(&served).review_labels().unwrap().right.get(&id), Some(&true));
}

#[test]
fn reviews_are_in_the_audit_log_together() {
    let served = Served::with_users();
    let ids: Vec<String> = (1..=51).map(|n| served.file_case(n, "street-a", true)).collect();
    let mut operator = served.logged_in("operator");
    let code = operator.get("/review").csrf();
    let mut review = |id: &str, verdict: &str| {
        let path = format!("/review/{id}");
        assert_eq!(
            operator.post(&path, &[("csrf", &code), ("verdict", verdict)]).status,
            303
        );
    };
    for id in &ids[..49] {
        review(id, "true");
    }
    assert_eq!(acts(&served, "console review").len(), 0, "not one by one");
    review(&ids[49], "false");
    let told = acts(&served, "console review");
    assert_eq!((told.len(), &told[0].outcome), (1, &Outcome::Done));
    assert_eq!(told[0].by.user.as_deref(), Some("operator"));
    let counts = ["reviews", "true", "false", "duplicate", "unsure"].map(|name| detail(&told[0], name));
    assert_eq!(counts, ["50", "49", "1", "0", "0"]);
    assert_eq!(detail(&told[0], "sha256").len(), 64);
    review(&ids[50], "true");
    let unrecorded = store(&served).unrecorded_reviews().unwrap();
    assert_eq!(
        unrecorded.iter().map(|r| r.case_id.as_str()).collect::<Vec<_>>(),
        [ids[50].as_str()]
    );
    // To take back what is in the audit log is there on its own; what is not needs no entry.
    for (id, entries) in [(&ids[50], 0), (&ids[0], 1)] {
        assert_eq!(
            operator.post(&format!("/review/{id}/undo"), &[("csrf", &code)]).status,
            303
        );
        assert_eq!(acts(&served, "console review undo").len(), entries, "{id}");
    }
    let undone = acts(&served, "console review undo").remove(0);
    assert_eq!(
        (undone.subject.as_deref(), detail(&undone, "verdict").as_str()),
        (Some(ids[0].as_str()), "true")
    );
}

#[test]
fn reviews_that_a_restart_kept_from_the_audit_log_are_put_there_at_the_next_start() {
    let served = Served::start_with(
        |file| {
            // The store of the run before.
            let dir = file.node.state_dir.clone();
            std::fs::create_dir_all(&dir).unwrap();
            let mut store = Store::open(&dir).unwrap();
            let case = case::case(1);
            let sha256 = evidence_file::write(&dir, b"a picture").unwrap();
            let picture = case::evidence_item(0, EvidenceRole::Scene, 9, sha256);
            let record = case::record(&case, vec![picture]);
            store.commit_case(&record, &case, &case::form()).unwrap();
            let review = gridwatch_store::Review {
                case_id: record.case_id,
                reviewer: "wang".into(),
                verdict: ReviewVerdict::True,
                duplicate_of: None,
                at: case::at(9000),
            };
            assert!(store.set_review(&review).unwrap());
        },
        |_| {},
    );
    served.wait_until("the reviews are in the audit log", |street| {
        street
            .acts
            .lock()
            .unwrap()
            .iter()
            .any(|act| act.name == "console review")
    });
    let told = acts(&served, "console review").remove(0);
    assert_eq!(
        (told.by.user.as_deref(), detail(&told, "reviews").as_str()),
        (Some("wang"), "1")
    );
}

#[test]
fn a_review_that_cannot_be_recorded_is_said_to_be_so_and_recorded_later() {
    let served = Served::start();
    let ids: Vec<String> = (1..=50).map(|n| served.file_case(n, "street-a", true)).collect();
    let mut browser = served.browser();
    let code = browser.get("/review").csrf();
    *served.street.is_unrecordable.lock().unwrap() = true;
    let answers: Vec<u16> = ids
        .iter()
        .map(|id| {
            browser
                .post(&format!("/review/{id}"), &[("csrf", &code), ("verdict", "true")])
                .status
        })
        .collect();
    assert_eq!((answers[48], answers[49]), (303, 500));
    *served.street.is_unrecordable.lock().unwrap() = false;
    assert_eq!(
        store(&served).unrecorded_reviews().unwrap().len(),
        50,
        "kept for the next entry"
    );
}

#[test]
fn only_cases_that_one_sees_are_reviewed() {
    let served = Served::with_users();
    let id = served.file_case(1, "street-a", true);
    let mut viewer = served.logged_in("viewer");
    assert_eq!(viewer.get("/review").status, 403);
    let code = viewer.get("/account").csrf();
    assert_eq!(
        viewer
            .post(&format!("/review/{id}"), &[("csrf", &code), ("verdict", "true")])
            .status,
        403
    );
    assert!(!viewer.get("/").contains("href=\"/review\""));
    let mut operator = served.logged_in("operator");
    assert!(operator.get("/").contains("href=\"/review\""));
    assert_eq!(
        operator.post(&format!("/review/{id}"), &[("verdict", "true")]).status,
        403,
        "no code"
    );
    for (path, fields, status) in [
        ("/review/01J0000000000000000000000", vec![("verdict", "true")], 404),
        (&*format!("/review/{id}"), vec![("verdict", "perhaps")], 400),
        (&*format!("/review/{id}"), vec![], 400),
    ] {
        assert_eq!(
            served.post(&mut operator, "/review", path, &fields).status,
            status,
            "{path} {fields:?}"
        );
    }
    assert_eq!(operator.get("/review?case=01J0000000000000000000000").status, 404);
    assert_eq!(operator.get("/review?queue=all").status, 400);
    let east = served.logged_in("east").get(&format!("/api/v1/cases/{id}/reviews"));
    assert_eq!(east.status, 404);
}

#[test]
fn programs_review_by_the_api_and_see_progress_and_agreement() {
    let served = Served::with_users();
    let ids: Vec<String> = (1..=3).map(|n| served.file_case(n, "street-a", true)).collect();
    {
        let mut store = Store::open(&served.state_dir()).unwrap();
        for (id, state) in [
            (&ids[0], CaseState::Accepted),
            (&ids[1], CaseState::Rejected),
            (&ids[2], CaseState::Rejected),
        ] {
            let revision = Revision {
                case: id.as_str().into(),
                state,
                at: gridwatch_contract::When::new(case::at(5000), &case::zone()),
                reason: "a clerk looked at it".into(),
            };
            store.revise(&revision, &case::form()).unwrap();
        }
    }
    let mut operator = served.logged_in("operator");
    let code = operator.get("/review").csrf();
    let mut api = operator.clone().with("X-CSRF-Token", &code);
    let mut put = |id: &str, body: &str| {
        api.send(
            "PUT",
            &format!("/api/v1/cases/{id}/review"),
            "application/json",
            body.as_bytes(),
        )
    };
    for id in &ids {
        assert_eq!(put(id, r#"{"verdict":"true"}"#).status, 204);
    }
    let other = format!(r#"{{"verdict":"duplicate","duplicate_of":"{}"}}"#, ids[0]);
    assert_eq!(put(&ids[1], &other).status, 204);
    for (wrong, status) in [
        (r#"{"verdict":"maybe"}"#, 400),
        (r#"{"verdict":"duplicate"}"#, 422),
        ("{}", 400),
        (r#"["true"]"#, 400),
        (r#"{"verdict":"true","x":1}"#, 400),
    ] {
        assert_eq!(put(&ids[0], wrong).status, status, "{wrong}");
    }
    let told = operator.get(&format!("/api/v1/cases/{}/reviews", ids[1])).json();
    assert_eq!(
        (&told[0]["reviewer"], &told[0]["verdict"], &told[0]["duplicate_of"]),
        (&"operator".into(), &"duplicate".into(), &ids[0].as_str().into())
    );
    let progress = operator.get("/api/v1/reviews/progress").json();
    let numbers = [
        "cases",
        "by_user",
        "by_anyone",
        "decided",
        "agreed",
        "right_but_rejected",
    ]
    .map(|n| progress[n].as_u64().unwrap());
    assert_eq!(numbers, [3, 3, 3, 3, 1, 2], "{progress}");
    for (language, words) in [
        ("zh", ["与平台结论一致 1 / 3（33 %）", "平台不予立案：2"]),
        (
            "en",
            [
                "Agreement with the platform: 1 of 3 (33 %)",
                "rejected by the platform: 2",
            ],
        ),
    ] {
        let page = operator.clone().with("Accept-Language", language).get("/review");
        assert!(words.iter().all(|word| page.contains(word)), "{}", page.text());
    }
    let gone = api.send("DELETE", &format!("/api/v1/cases/{}/review", ids[2]), "", b"");
    assert_eq!(gone.status, 204);
    assert_eq!(operator.get("/api/v1/reviews/progress").json()["by_user"], 2);
    assert_eq!(
        operator
            .get("/api/v1/cases?review=mine")
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}
