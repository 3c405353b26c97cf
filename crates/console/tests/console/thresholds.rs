//! Thresholds: what would be filed, told with its evidence and its confidence, and applied to the configuration.

use std::fs;

use gridwatch_config::edit::{Editor, SaveRequest};
use gridwatch_engine::CaseState;

use crate::street::Served;

fn english(served: &Served, user: &str) -> crate::http::Client {
    served.logged_in(user).with("Accept-Language", "en")
}

const LOWER: &str = "/thresholds?rule=garbage&days=7&start_score=0.4";

#[test]
fn a_lower_score_files_what_was_too_weak_and_says_so_with_pictures_and_links() {
    let served = Served::with_users();
    let cases = served.record(None);
    assert_eq!(cases.len(), 1, "{cases:?}");
    let mut viewer = english(&served, "viewer");
    let page = viewer.ask(LOWER);
    assert_eq!(page.status, 200);
    assert!(
        page.contains("1 the same, 0 at another time, 1 come, 0 go") && page.contains("square-c"),
        "{}",
        page.text()
    );
    assert!(
        page.contains("in force: 0.5") && page.contains("value=\"0.4\""),
        "{}",
        page.text()
    );
    assert!(page.contains("No case was judged by people or answered by the platform"));
    assert!(page.contains("Applying takes the role operator") && !page.contains("name=\"revision\""));
    // The case at square-c was not filed: no picture, but the looks of that time.
    let looks = page.text().split("/cameras/square-c/looks?before=").nth(1).unwrap();
    let looks = looks.split('"').next().unwrap();
    let looks = viewer.ask(&format!("/cameras/square-c/looks?before={looks}"));
    assert!(
        looks.contains("held back: Score below the start score"),
        "{}",
        looks.text()
    );

    // Nothing is that sure: the real case goes, and is shown with its masked evidence.
    let page = viewer.ask("/thresholds?rule=garbage&start_score=0.95");
    let id = cases[0].id.as_str();
    assert!(
        page.contains("0 the same, 0 at another time, 0 come, 1 go"),
        "{}",
        page.text()
    );
    assert!(page.contains(&format!("/cases/{id}/evidence/e1")) && page.contains(&format!("href=\"/cases/{id}\"")));
    assert!(
        page.contains("Score below the start score"),
        "why it goes: {}",
        page.text()
    );
    assert_eq!(viewer.get(&format!("/cases/{id}/evidence/e1")).status, 200);

    // The same without a change.
    let page = viewer.ask("/thresholds?rule=garbage");
    assert!(
        page.contains("Nothing changes.") && !page.contains("To be written"),
        "{}",
        page.text()
    );
    let page = served.logged_in("viewer").ask(LOWER);
    assert!(
        page.contains("阈值调整") && page.contains("新增 1，减少 0"),
        "{}",
        page.text()
    );
}

#[test]
fn precision_and_recall_come_with_counts_and_limits_and_few_are_called_few() {
    let served = Served::with_users();
    served.record(Some(CaseState::Accepted));
    let mut viewer = english(&served, "viewer");
    let page = viewer.ask(LOWER);
    // Wilson's limits of 1 of 1.
    assert!(
        page.contains("100 % (1 of 1; 95 % limits 21 to 100 %)"),
        "{}",
        page.text()
    );
    assert!(page.contains("Too few judged cases (1)"), "{}", page.text());
    let page = viewer.ask("/thresholds?rule=garbage&start_score=0.95");
    assert!(
        page.contains("0 % (0 of 1; 95 % limits 0 to 79 %)"),
        "recall: {}",
        page.text()
    );
    assert!(page.contains("judged right"));

    let curve = viewer.ask("/thresholds/curve?rule=garbage&curve=start_score&start_score=0.4&precision=90");
    assert_eq!(curve.status, 200);
    assert!(
        curve.contains("<svg")
            && curve.contains("<title id=\"curve-t\">Precision, recall and cases a day by Start score")
    );
    assert!(
        curve.contains("<polyline class=\"share precision\"") && curve.contains("mark tried"),
        "{}",
        curve.text()
    );
    assert!(
        curve.contains("Recommended: ") && curve.contains("The curve&#39;s numbers"),
        "{}",
        curve.text()
    );
    assert!(
        curve.contains("<th scope=\"row\">0.5 <span class=\"dim\">in force"),
        "{}",
        curve.text()
    );
}

#[test]
fn an_operator_applies_what_was_tried_and_it_is_recorded() {
    let served = Served::with_users();
    served.record(None);
    let mut operator = english(&served, "operator");
    let page = operator.ask("/thresholds?rule=garbage&start_score=0.25&dwell=90");
    assert!(
        page.contains("To be written to the configuration") && page.contains("1m 30s"),
        "{}",
        page.text()
    );
    // The keep score moves along, or it would be above the start score.
    assert!(
        page.contains("Keep score: <del>0.3</del> → <ins>0.25</ins>"),
        "{}",
        page.text()
    );
    let revision = page.text().split("name=\"revision\" value=\"").nth(1).unwrap();
    let revision = revision.split('"').next().unwrap().to_owned();
    let fields = [
        ("rule", "garbage"),
        ("start_score", "0.25"),
        ("dwell", "90"),
        ("revision", &revision),
    ];
    let answer = served.post(&mut operator, "/account", "/thresholds", &fields);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer.contains("rules[garbage].start_score: 0.5 → 0.25 (live)"),
        "{}",
        answer.text()
    );
    let rule = served.config().plan.rules[0].clone();
    assert_eq!((rule.day.start, rule.day.keep, rule.night), (0.25, 0.25, rule.day));
    assert_eq!(rule.dwell.as_secs(), 90);
    let acts = served.street.acts.lock().unwrap();
    let act = acts.iter().find(|act| act.name == "console thresholds").unwrap();
    assert!(
        act.details.contains(&("start_score", "0.5 → 0.25".to_owned())),
        "{act:?}"
    );
}

#[test]
fn a_change_of_somebody_else_is_shown_and_not_overwritten() {
    let served = Served::with_users();
    served.record(None);
    let mut operator = english(&served, "operator");
    let page = operator.ask(LOWER);
    let revision = page.text().split("name=\"revision\" value=\"").nth(1).unwrap();
    let revision = revision.split('"').next().unwrap().to_owned();
    let main = served.config().file.clone();
    let mut other = Editor::open(&main).unwrap();
    other.set("rules[garbage].seen_n", &serde_json::json!(2)).unwrap();
    let request = SaveRequest {
        expected_revision: &revision,
        who: "li",
        why: "",
    };
    other.save(&request).unwrap();
    let text = fs::read_to_string(&main).unwrap();
    let fields = [("rule", "garbage"), ("start_score", "0.4"), ("revision", &revision)];
    let answer = served.post(&mut operator, "/account", "/thresholds", &fields);
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(
        answer.contains("nothing was written") && answer.contains("rules[garbage].seen_n: 3 → 2"),
        "{}",
        answer.text()
    );
    assert_eq!(fs::read_to_string(&main).unwrap(), text);
    // The API says the same.
    let code = operator.ask("/account").csrf();
    let mut program = operator.with("X-CSRF-Token", &code);
    let body = format!("{{\"revision\":\"{revision}\",\"thresholds\":{{\"start_score\":0.4}}}}");
    let url = "/api/v1/rules/garbage/thresholds";
    assert_eq!(
        program.send("POST", url, "application/json", body.as_bytes()).status,
        409
    );
    let now = program.ask(url).json();
    assert_eq!(now["thresholds"][0]["name"], "start_score");
    let revision = now["revision"].as_str().unwrap();
    let body = format!("{{\"revision\":\"{revision}\",\"thresholds\":{{\"start_score\":0.4}}}}");
    let applied = program.send("POST", url, "application/json", body.as_bytes());
    assert_eq!(applied.status, 200, "{}", applied.text());
    assert_eq!(served.config().plan.rules[0].day.start, 0.4);
    for (thresholds, status) in [
        ("\"colour\":1", 400),
        ("\"start_score\":7", 400),
        // The rule has none.
        ("\"except_score\":0.5", 422),
        // Nothing would change.
        ("", 422),
    ] {
        let wrong = format!("{{\"revision\":\"{revision}\",\"thresholds\":{{{thresholds}}}}}");
        let answer = program.send("POST", url, "application/json", wrong.as_bytes());
        assert_eq!(answer.status, status, "{wrong}: {}", answer.text());
    }
    let outcomes: Vec<bool> = served
        .street
        .acts
        .lock()
        .unwrap()
        .iter()
        .filter(|act| act.name == "console thresholds")
        .map(|act| act.outcome == gridwatch_web::audit::Outcome::Done)
        .collect();
    assert_eq!(outcomes[..3], [false, false, true], "{outcomes:?}");
}

#[test]
fn a_value_that_the_checks_refuse_is_not_written() {
    let served = Served::with_users();
    served.record(None);
    let mut operator = english(&served, "operator");
    let page = operator.ask("/thresholds?rule=garbage&max_gap=100000");
    let revision = page.text().split("name=\"revision\" value=\"").nth(1).unwrap();
    let revision = revision.split('"').next().unwrap().to_owned();
    let text = fs::read_to_string(&served.config().file).unwrap();
    // In the what-if's range, and below what the configuration takes.
    let fields = [
        ("rule", "garbage"),
        ("start_score", "0"),
        ("keep_score", "0"),
        ("revision", &revision),
    ];
    let answer = served.post(&mut operator, "/account", "/thresholds", &fields);
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(
        answer.contains("did not pass its checks") && answer.contains("start_score"),
        "{}",
        answer.text()
    );
    assert_eq!(fs::read_to_string(&served.config().file).unwrap(), text);
}

#[test]
fn mistakes_are_told_in_words() {
    let served = Served::with_users();
    served.record(None);
    let mut viewer = english(&served, "viewer");
    for (query, words) in [
        ("days=400", "At most 31 days at once"),
        ("days=0", "At most 31 days at once"),
        ("days=many", "At most 31 days at once"),
        ("rule=stall", "There is no such rule: stall"),
        ("rule=garbage&start_score=7", "Start score: 7 is not valid; use 0 to 1"),
        ("rule=garbage&dwell=NaN", "Dwell: NaN is not valid"),
        ("rule=garbage&seen_n=2.5", "is not valid"),
    ] {
        let page = viewer.ask(&format!("/thresholds?{query}"));
        assert_eq!(page.status, 200, "{query}");
        assert!(
            page.contains(words) && page.contains("id=\"values\""),
            "{query}: {}",
            page.text()
        );
        let answer = viewer.ask(&format!("/api/v1/what-if?{query}"));
        assert!(matches!(answer.status, 400 | 404), "{query}: {}", answer.text());
    }
    // A program learns of what a form's reader would pass over.
    for (query, status) in [
        ("colour=1", 400),
        ("rule=", 400),
        ("rule=garbage&rule=garbage", 400),
        ("curve=colour", 400),
        ("precision=NaN", 400),
        ("days=1.5", 400),
        ("rule=garbage&except_score=0.5", 422),
        ("rule=garbage&curve=except_score", 422),
    ] {
        let answer = viewer.ask(&format!("/api/v1/what-if?{query}"));
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
    }
}

#[test]
fn without_records_the_page_says_what_to_do() {
    let served = Served::with_users();
    let mut viewer = english(&served, "viewer");
    for path in ["/thresholds", "/candidates", "/cameras/street-a/looks"] {
        let page = viewer.ask(path);
        assert_eq!(page.status, 200, "{path}");
        assert!(page.contains("Nothing is recorded yet"), "{path}: {}", page.text());
    }
    let answer = viewer.ask("/api/v1/what-if");
    assert!(
        answer.status == 404 && answer.contains("no look in that time"),
        "{}",
        answer.text()
    );
    for (path, list) in [
        ("/api/v1/candidates", "candidates"),
        ("/api/v1/views/street-a/looks", "looks"),
    ] {
        let answer = viewer.ask(path);
        assert_eq!(
            (answer.status, &answer.json()[list]),
            (200, &serde_json::json!([])),
            "{path}"
        );
    }
    let off = Served::with_users_and(|file| file.ledger.enabled = false);
    let mut viewer = english(&off, "viewer");
    for path in ["/thresholds", "/candidates", "/cameras/street-a/looks"] {
        let page = viewer.ask(path);
        assert!(
            page.contains("The ledger is off. Set enabled = true"),
            "{path}: {}",
            page.text()
        );
    }
}

#[test]
fn a_user_of_a_group_gets_the_numbers_of_its_cameras_only() {
    let served = Served::with_users();
    served.record(None);
    let mut east = english(&served, "east");
    let page = east.ask(LOWER);
    assert!(
        page.contains("0 the same, 0 at another time, 0 come, 0 go") && !page.contains("square-c"),
        "{}",
        page.text()
    );
    let answer = east.ask("/api/v1/what-if?rule=garbage&start_score=0.4").json();
    assert_eq!(answer["answer"]["cases"].as_array().unwrap().len(), 0, "{answer}");
    let curve = east.ask("/api/v1/what-if/curve?rule=garbage&camera=square-c").json();
    let points = curve["answer"]["points"].as_array().unwrap();
    assert!(
        points.len() >= 8 && points.iter().all(|point| point["cases"] == 0),
        "{curve}"
    );
    let all = english(&served, "viewer")
        .ask("/api/v1/what-if?rule=garbage&start_score=0.4")
        .json();
    assert_eq!(all["answer"]["cases"].as_array().unwrap().len(), 2, "{all}");
    assert_eq!(all["answer"]["against_filed"]["new"], 1);
}

#[test]
fn a_damaged_file_is_read_up_to_the_damage_and_said() {
    let served = Served::with_users();
    served.record(None);
    let file = served.ledger_dir().join("ledger-00000001.gwl");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&file, bytes).unwrap();
    let mut viewer = english(&served, "viewer");
    for path in [
        "/thresholds?rule=garbage",
        &format!("/candidates?{}", crate::recorded::DAY),
        &format!("/cameras/street-a/looks?before={}", crate::recorded::at(600)),
    ] {
        let page = viewer.ask(path);
        assert_eq!(page.status, 200, "{path}");
        assert!(
            page.contains("Some records could not be read or judged") && page.contains("is damaged at byte"),
            "{path}: {}",
            page.text()
        );
    }
    assert!(file.exists(), "a page renames nothing");
}
