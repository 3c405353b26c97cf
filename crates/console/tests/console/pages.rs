//! What the pages show.

use gridwatch_console::daemon::Connection;
use gridwatch_engine::View;

use crate::street::Served;

#[test]
fn the_wall_shows_problems_first_with_boxes_and_zones() {
    let served = Served::start();
    served
        .street
        .change("street-b", |status| status.sight = Some(View::Blocked));
    served.street.change("square-c", |status| status.open_cases = 2);
    let page = served.browser().get("/");
    let places: Vec<usize> = ["street-b", "square-c", "street-a"]
        .map(|view| page.text().find(&format!("id=\"tile-{view}\"")).unwrap())
        .into();
    assert!(places.is_sorted(), "{places:?}");
    assert!(page.contains("画面被遮挡") && page.contains("未结案卷：2") && page.contains("共 3 路，2 路需要处理"));
    assert!(
        page.contains("<rect class=\"box counts\" x=\"0.25\" y=\"0.5\" width=\"0.25\" height=\"0.25\"/>"),
        "{}",
        page.text()
    );
    assert!(page.contains("<polygon class=\"zone watch\" points=\""));
}

#[test]
fn readiness_and_its_blockers_are_on_the_wall() {
    let served = Served::start();
    assert!(served.browser().get("/").contains("运行正常"));
    served.street.block("mqtt://127.0.0.1:1883: connection refused");
    let page = served.browser().get("/");
    assert!(page.contains("现在不会上报") && page.contains("connection refused"));
}

#[test]
fn a_cameras_page_shows_its_state_and_takes_a_look() {
    let served = Served::with_users();
    let mut operator = served.logged_in("operator");
    let page = operator.get("/cameras/street-a");
    assert!(
        page.contains("87 %") && page.contains("垃圾") && page.contains("/cameras/street-a/picture?at="),
        "{}",
        page.text()
    );
    let picture = operator.get("/cameras/street-a/picture");
    assert_eq!(
        (picture.status, picture.header("content-type")),
        (200, Some("image/jpeg"))
    );
    let code = page.csrf();
    let mut htmx = operator.clone().with("HX-Request", "true").with("X-CSRF-Token", &code);
    let part = htmx.post("/cameras/street-a/look", &[]);
    assert!(
        part.status == 200 && part.text().starts_with("<figure"),
        "{}",
        part.text()
    );
    served.street.change("street-a", |status| {
        status.connection = Connection::Down;
        status.connection_detail = Some("connection refused; check the address".into());
    });
    let refused = htmx.post("/cameras/street-a/look", &[]);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert!(refused.contains("摄像机现在没有视频") && !refused.contains("<html"));
    let page = operator.get("/cameras/street-a");
    assert!(page.contains("离线") && page.contains("check the address"));
    let acts: Vec<_> = served
        .street
        .acts()
        .into_iter()
        .filter(|(name, _)| *name == "console look")
        .collect();
    assert_eq!(acts.len(), 2);
    assert!(!served.logged_in("viewer").get("/cameras/street-a").contains("立即查看"));
    assert_eq!(operator.get("/cameras/nowhere").status, 404);
}

#[test]
fn a_picture_whose_masks_fail_is_not_shown() {
    let served = Served::start();
    *served.street.masks_fail.lock().unwrap() = true;
    let answer = served.browser().get("/cameras/street-a/picture");
    assert_eq!(answer.status, 500);
    assert!(answer.contains("画面生成失败") && !answer.contains("model for faces"));
}

#[test]
fn cases_are_listed_filtered_and_paged() {
    let served = Served::start();
    let mut browser = served.browser();
    assert!(
        browser.get("/cases").contains("没有符合条件的案卷"),
        "before the first start there is no database"
    );
    let ids: Vec<String> = (1..=60)
        .map(|n| served.file_case(n, if n == 7 { "street-b" } else { "street-a" }, true))
        .collect();
    let first = browser.get("/cases");
    let listed =
        |page: &crate::http::Response| ids.iter().filter(|id| page.contains(&format!("/cases/{id}\""))).count();
    assert_eq!(listed(&first), 50);
    let next = first
        .text()
        .split("href=\"")
        .filter_map(|part| part.split('"').next())
        .find(|url| url.contains("after="));
    let second = browser.get(&next.unwrap().replace("&amp;", "&").replace("&#38;", "&"));
    assert_eq!(listed(&second), 10);
    assert!(
        ids.iter().all(|id| first.contains(id) || second.contains(id)),
        "none is skipped"
    );
    assert_eq!(listed(&browser.get("/cases?camera=street-b")), 1);
    assert_eq!(listed(&browser.get("/cases?state=closed")), 0);
    assert_eq!(
        listed(&browser.get("/cases?state=open&category=0102&cell=310115001001042")),
        50
    );
    assert_eq!(listed(&browser.get("/cases?from=2026-05-01&until=2026-05-01")), 50);
    assert_eq!(listed(&browser.get("/cases?until=2026-04-30")), 0);
    for wrong in ["state=x", "from=yesterday", "until=9999-12-31", "from=2026-13-01"] {
        assert_eq!(browser.get(&format!("/cases?{wrong}")).status, 400, "{wrong}");
    }
}

#[test]
fn a_case_shows_its_pictures_facts_and_history() {
    let served = Served::start();
    let id = served.file_case(1, "street-a", true);
    let mut browser = served.browser();
    let page = browser.get(&format!("/cases/{id}"));
    for part in [
        "0102 暴露垃圾",
        "世纪大道88号门前",
        "310115001001042",
        "87 %",
        "30 分钟",
        "已上报",
        "仅作线索",
        "全景",
        "近景",
    ] {
        assert!(page.contains(part), "{part}: {}", page.text());
    }
    let picture = browser.get(&format!("/cases/{id}/evidence/e1"));
    assert_eq!(
        (picture.status, picture.header("content-type")),
        (200, Some("image/jpeg"))
    );
    assert_eq!(browser.get(&format!("/cases/{id}/evidence/e9")).status, 404);
    assert_eq!(browser.get(&format!("/cases/{id}/evidence/..%2f..%2fkey")).status, 404);
    assert_eq!(browser.get("/cases/01J0000000000000000000000").status, 404);
    assert_eq!(browser.get("/cases/%ff").status, 400);
    // Deleted for its age, and changed on the disk.
    let case = served.file_case(2, "street-a", true);
    let store = gridwatch_store::Store::open_read_only(&served.state_dir()).unwrap();
    let files = store.case(&case).unwrap().unwrap().evidence;
    std::fs::remove_file(&files["e0"]).unwrap();
    std::fs::write(&files["e1"], "another picture").unwrap();
    assert_eq!(browser.get(&format!("/cases/{case}/evidence/e0")).status, 410);
    assert_eq!(browser.get(&format!("/cases/{case}/evidence/e1")).status, 500);
}
