//! Why things were not filed, how a case came to be filed, and what was made of each look.

use crate::{
    recorded::{DAY, at},
    street::Served,
};

#[test]
fn what_was_not_filed_is_listed_with_what_was_missing() {
    let served = Served::with_users();
    let cases = served.record(None);
    let mut viewer = served.logged_in("viewer").with("Accept-Language", "en");
    let page = viewer.ask(&format!("/candidates?{DAY}"));
    assert_eq!(page.status, 200);
    assert!(
        page.contains("Candidates: 1<") && page.contains("Left before its dwell was reached"),
        "{}",
        page.text()
    );
    assert!(
        page.contains("dwell 6 s of 12 s") && page.contains("<time datetime=\"2026-06-01T02:01:40Z\">"),
        "{}",
        page.text()
    );
    assert!(!page.contains(cases[0].id.as_str()), "a filed one is not among them");
    // With what became no candidate.
    let page = viewer.ask(&format!(
        "/candidates?{DAY}&unstarted=1&camera=square-c&rule=garbage&reason=score_too_low"
    ));
    assert!(
        page.contains("Candidates: 1<") && page.contains("score 45 %, start score 50 %"),
        "{}",
        page.text()
    );
    assert!(page.contains("Score below the start score (1)"), "{}", page.text());
    let page = viewer.ask(&format!("/candidates?{DAY}&reason=moved"));
    assert!(
        page.contains("Nothing matches in this time") && page.contains("value=\"moved\" selected"),
        "{}",
        page.text()
    );
    let chinese = served.logged_in("viewer").ask(&format!("/candidates?{DAY}"));
    assert!(
        chinese.contains("停留时长未达标就已离开") && chinese.contains("停留 6 秒，要求 12 秒"),
        "{}",
        chinese.text()
    );

    let list = viewer.ask(&format!("/api/v1/candidates?{DAY}&unstarted=true")).json();
    assert_eq!(list["reasons"]["score_too_low"], 1, "{list}");
    assert_eq!(list["reasons"]["left_before_dwell"], 1, "{list}");
    let newest = &list["candidates"][0];
    assert_eq!(
        (&newest["camera"], &newest["reason"]),
        (&"square-c".into(), &"score_too_low".into())
    );
    // Of its cameras only.
    let mut east = served.logged_in("east").with("Accept-Language", "en");
    let page = east.ask(&format!("/candidates?{DAY}&unstarted=1"));
    assert!(
        page.contains("Candidates: 0<") && !page.contains("square-c"),
        "{}",
        page.text()
    );
    let list = east
        .ask(&format!("/api/v1/candidates?{DAY}&unstarted=true&camera=square-c"))
        .json();
    assert_eq!((&list["count"], &list["reasons"]), (&0.into(), &serde_json::json!({})));
}

#[test]
fn a_time_that_is_too_long_or_none_is_refused_in_words() {
    let served = Served::with_users();
    served.record(None);
    let mut viewer = served.logged_in("viewer").with("Accept-Language", "en");
    for query in ["from=2020-01-01&until=2026-06-01", "from=2026-06-02&until=2026-06-01"] {
        let page = viewer.ask(&format!("/candidates?{query}"));
        assert_eq!(page.status, 200);
        assert!(page.contains("At most 14 days at once"), "{}", page.text());
        assert_eq!(viewer.ask(&format!("/api/v1/candidates?{query}")).status, 422);
    }
    let page = viewer.ask("/candidates?from=yesterday");
    assert!(page.contains("The input is not valid: yesterday"), "{}", page.text());
    assert_eq!(viewer.ask("/candidates?page=-1").status, 400);
    assert_eq!(
        viewer
            .ask(&format!("/candidates?{DAY}&page=18446744073709551615"))
            .status,
        200
    );
    assert_eq!(viewer.ask("/cameras/street-a/looks?before=now").status, 400);
    assert_eq!(viewer.ask("/cameras/nowhere/looks").status, 404);
}

#[test]
fn a_cases_page_tells_how_it_came_to_be_filed() {
    let served = Served::with_users();
    let cases = served.record(None);
    let id = cases[0].id.as_str();
    let mut viewer = served.logged_in("viewer").with("Accept-Language", "en");
    let page = viewer.ask(&format!("/cases/{id}"));
    assert!(
        page.contains(&format!("hx-get=\"/cases/{id}/candidate\" hx-trigger=\"revealed\"")),
        "{}",
        page.text()
    );
    let part = viewer.ask(&format!("/cases/{id}/candidate"));
    assert_eq!(part.status, 200);
    assert!(
        part.contains("Scored high enough: became a candidate") && part.contains("Met dwell and presence"),
        "{}",
        part.text()
    );
    assert_eq!(
        served.logged_in("east").ask(&format!("/cases/{id}/candidate")).status,
        404
    );
    // A case that the ledger does not have any more.
    let old = served.file_case(1, "street-a", true);
    let part = viewer.ask(&format!("/cases/{old}/candidate"));
    assert!(
        part.contains("The ledger does not have that time any more"),
        "{}",
        part.text()
    );
}

#[test]
fn the_looks_of_a_camera_are_paged_from_the_newest() {
    let served = Served::with_users();
    let cases = served.record(None);
    let mut viewer = served.logged_in("viewer").with("Accept-Language", "en");
    let first = viewer.ask("/cameras/street-a/looks");
    assert!(
        first.contains("<time datetime=\"2026-06-01T02:09:58Z\">"),
        "{}",
        first.text()
    );
    assert!(
        first.contains("Nothing found") && !first.contains(">Newest<"),
        "{}",
        first.text()
    );
    let older = viewer.ask(&format!("/cameras/street-a/looks?before={}", at(60)));
    let text = older.text();
    assert!(text.contains("View dark") || text.contains("View too dark"), "{text}");
    assert!(
        text.contains("garbage</strong> 80 % · counted: starts a candidate"),
        "{text}"
    );
    assert!(
        text.contains("counted: goes on") && text.contains("Met dwell and presence: a case was filed"),
        "{text}"
    );
    assert!(
        text.contains(&format!("/cases/{}", cases[0].id)) && text.contains(">Newest<"),
        "{text}"
    );
    // All looks are reached page by page, each once.
    let (mut before, mut seen) = (String::new(), Vec::new());
    while seen.len() < 299 {
        let page = viewer.ask(&format!("/api/v1/views/street-a/looks{before}")).json();
        let looks = page["looks"].as_array().unwrap();
        assert!(!looks.is_empty(), "{} looks, then {page}", seen.len());
        seen.extend(looks.iter().map(|look| look["at"].as_str().unwrap().to_owned()));
        before = format!("?before={}", page["older"].as_str().unwrap());
    }
    assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    assert_eq!(served.logged_in("east").ask("/cameras/street-a/looks").status, 404);
}
