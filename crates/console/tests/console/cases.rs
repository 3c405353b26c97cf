//! Cases as they are found, shown, checked and mapped.

use std::fs;

use gridwatch_contract::{EvidenceItem, EvidenceRole, Verification, When};
use gridwatch_engine::{CaseState, Finding, Location, LonLat, PlaceMethod};
use gridwatch_store::{Revision, Store, evidence_file};
use jiff::Timestamp;

use crate::{
    case,
    street::{Served, jpeg},
};

/// A cell of the demo's grid, and a place in it.
const CELL: &str = "310115005001001";
const PLACE: LonLat = LonLat {
    lon: 121.4995,
    lat: 31.2299,
};

/// Files a case in a cell of the grid, with more pictures.
fn file_in_cell(served: &Served, n: u32, more: &[EvidenceRole]) -> String {
    fs::create_dir_all(served.state_dir()).unwrap();
    let mut store = Store::open(&served.state_dir()).unwrap();
    let roles = [EvidenceRole::Scene, EvidenceRole::Closeup]
        .into_iter()
        .chain(more.iter().copied());
    let pictures: Vec<EvidenceItem> = roles
        .enumerate()
        .map(|(i, role)| {
            let bytes = jpeg(320, 180, 50 + 7 * i as u8 + (n % 7) as u8);
            let sha256 = evidence_file::write(store.dir(), &bytes).unwrap();
            case::evidence_item(i, role, bytes.len(), sha256)
        })
        .collect();
    let mut found = case::case(n);
    found.located = Location {
        at: PLACE,
        uncertainty_m: 4.0,
        method: PlaceMethod::CameraPoint,
        cell: CELL.into(),
    };
    let mut record = case::record(&found, pictures);
    record.camera.local_id = "street-a".into();
    if !more.is_empty() {
        record.verification.push(Verification {
            asked_at: When::new(case::at(4000), &case::zone()),
            checked_at: When::new(case::at(5000), &case::zone()),
            result: Finding::Cleared,
            evidence_ids: vec!["e2".into(), "e3".into()],
            visible: true,
            looks: 3,
            looks_seen: 0,
            confidence: 1.0,
        });
    }
    store.commit_case(&record, &found, &case::form()).unwrap();
    record.case_id
}

fn reply(served: &Served, id: &str, state: CaseState, reason: &str) {
    let mut store = Store::open(&served.state_dir()).unwrap();
    let revision = Revision {
        case: id.into(),
        state,
        at: When::new(Timestamp::from_second(1_777_700_000).unwrap(), &case::zone()),
        reason: reason.into(),
    };
    store.revise(&revision, &case::form()).unwrap();
}

fn links<'a>(page: &'a crate::http::Response, part: &'a str) -> impl Iterator<Item = String> + 'a {
    let all = page
        .text()
        .split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    all.filter(move |link| link.contains(part))
        .map(|link| link.replace("&#38;", "&").replace("&amp;", "&"))
}

#[test]
fn the_filters_are_in_the_url_and_stay_from_page_to_page_and_from_view_to_view() {
    let served = Served::start();
    let ids: Vec<String> = (1..=60).map(|n| served.file_case(n, "street-a", true)).collect();
    let mut browser = served.browser();
    let query = "state=open&camera=street-a&category=0102&from=2026-05-01&until=2026-05-01";
    let page = browser.get(&format!("/cases?{query}"));
    assert!(page.contains("<option value=\"street-a\" selected>") && page.contains("value=\"2026-05-01\""));
    let next = links(&page, "after=").next().unwrap();
    assert!(next.contains(query), "{next}");
    let second = browser.get(&next);
    assert_eq!(
        ids.iter()
            .filter(|id| second.contains(&format!("/cases/{id}\"")))
            .count(),
        10
    );
    let timeline = links(&page, "view=timeline").next().unwrap();
    assert!(timeline.contains(query), "{timeline}");
    let timeline = browser.get(&timeline);
    assert_eq!(timeline.text().matches("<li class=\"moment open\">").count(), 50);
    assert_eq!(
        timeline.text().matches("<li class=\"day\">").count(),
        1,
        "one day, named once"
    );
    assert!(links(&timeline, "after=").next().unwrap().contains("view=timeline"));
    assert!(links(&page, "/cases/map?").next().unwrap().contains(query));
    // Newest first.
    let at = |id: &String| page.text().find(&format!("/cases/{id}\""));
    let shown: Vec<usize> = ids.iter().filter_map(at).collect();
    assert_eq!(shown.len(), 50);
}

#[test]
fn a_case_is_found_by_a_part_of_its_id() {
    let served = Served::start();
    let ids: Vec<String> = (1..=3).map(|n| served.file_case(n, "street-a", true)).collect();
    let mut browser = served.browser();
    let last = &ids[2][20..];
    let page = browser.get(&format!("/cases?id={}", last.to_lowercase()));
    let shown: Vec<bool> = ids.iter().map(|id| page.contains(&format!("/cases/{id}\""))).collect();
    assert_eq!(shown, [false, false, true], "small letters are meant, too");
    assert!(
        browser.get("/cases?id=%25").contains("没有符合条件的案卷"),
        "no pattern"
    );
    assert_eq!(browser.get(&format!("/cases?id={}", "A".repeat(27))).status, 400);
    assert_eq!(browser.get("/cases?review=x").status, 400);
    let found = browser.get(&format!("/api/v1/cases?id={last}")).json();
    assert_eq!(found.as_array().unwrap().len(), 1);
}

#[test]
fn a_verified_case_shows_before_and_after_and_the_platforms_replies() {
    let served = Served::start();
    let id = file_in_cell(&served, 1, &[EvidenceRole::Before, EvidenceRole::After]);
    reply(&served, &id, CaseState::Accepted, "属实，已立案");
    for (language, words) in [
        (
            "zh",
            [
                "处置前后对比",
                "平台回复",
                "属实，已立案",
                "已处置",
                "上报前的观察",
                "被遮挡",
            ],
        ),
        (
            "en",
            [
                "Before and after",
                "Replies of the platform",
                "属实，已立案",
                "Cleared",
                "Observed before filing",
                "hidden",
            ],
        ),
    ] {
        let page = served
            .browser()
            .with("Accept-Language", language)
            .get(&format!("/cases/{id}"));
        for word in words {
            assert!(page.contains(word), "{word}: {}", page.text());
        }
        let compared = page
            .text()
            .split("<before-after")
            .nth(1)
            .unwrap()
            .split("</before-after>")
            .next()
            .unwrap();
        let order: Vec<_> = ["evidence/e2", "evidence/e3"]
            .map(|url| compared.find(url).unwrap())
            .into();
        assert!(order.is_sorted(), "{compared}");
        assert!(page.contains("\"compare.before\"") && page.contains("/js/before-after.js"));
    }
    // What a clerk asks about.
    let page = served.browser().get(&format!("/cases/{id}"));
    let config = "cd".repeat(32);
    for fact in [
        "garbage_nano 1",
        "onnxruntime",
        config.as_str(),
        "181 次有效查看中 170 次见到",
        "偏差 -3 毫秒",
        CELL,
    ] {
        assert!(page.contains(fact), "{fact}");
    }
    assert!(page.contains(&format!("gridwatch cases export {id}")));
    // Without a verification there is nothing to compare.
    let other = served.file_case(2, "street-a", true);
    assert!(
        !served
            .browser()
            .get(&format!("/cases/{other}"))
            .contains("before-after")
    );
}

#[test]
fn an_unmasked_picture_is_asked_for_knowingly_and_recorded() {
    let served = Served::with_users_and(|file| file.console.unmasked_roles = vec![gridwatch_web::Role::Admin]);
    let id = served.file_case(1, "street-a", false);
    let mut admin = served.logged_in("admin");
    let page = admin.get(&format!("/cases/{id}"));
    assert!(
        page.contains("查看未打码图片") && !page.contains("<img"),
        "{}",
        page.text()
    );
    let views = || {
        served
            .street
            .acts()
            .iter()
            .filter(|(name, _)| *name == "console unmasked picture")
            .count()
    };
    assert_eq!(views(), 0, "the page alone shows none");
    assert_eq!(admin.get(&format!("/cases/{id}/evidence/e0")).status, 200);
    assert_eq!(views(), 1);
    let mut viewer = served.logged_in("viewer");
    assert!(!viewer.get(&format!("/cases/{id}")).contains("查看未打码图片"));
    assert_eq!(viewer.get(&format!("/cases/{id}/evidence/e0")).status, 403);
}

#[test]
fn evidence_is_checked_and_a_change_is_found() {
    let served = Served::start();
    let id = served.file_case(1, "street-a", true);
    let mut browser = served.browser();
    let page = browser.get(&format!("/cases/{id}?check=1"));
    assert!(
        page.contains("核验通过") && page.contains("有效，公钥"),
        "{}",
        page.text()
    );
    let answer = browser.get(&format!("/api/v1/cases/{id}/check")).json();
    assert_eq!(
        (&answer["holds"], &answer["signature"], &answer["chain"]),
        (&true.into(), &"valid".into(), &"complete".into()),
        "{answer}"
    );
    let store = Store::open_read_only(&served.state_dir()).unwrap();
    let files = store.case(&id).unwrap().unwrap().evidence;
    fs::write(&files["e1"], "another picture").unwrap();
    fs::remove_file(&files["e2"]).unwrap();
    let page = browser.get(&format!("/cases/{id}?check=1"));
    for words in ["核验未通过", "与记录不符", "文件缺失"] {
        assert!(page.contains(words), "{words}");
    }
    let answer = browser.get(&format!("/api/v1/cases/{id}/check")).json();
    let states: Vec<_> = answer["pictures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["state"].clone())
        .collect();
    assert_eq!(states, ["intact", "changed", "missing"]);
    assert_eq!(answer["holds"], false);
    assert_eq!(browser.get("/api/v1/cases/01J0000000000000000000000/check").status, 404);
}

#[test]
fn a_record_that_was_changed_in_the_database_does_not_hold() {
    let served = Served::start();
    let id = served.file_case(1, "street-a", true);
    let path = served.state_dir().join("gridwatch.db");
    let db = rusqlite::Connection::open(path).unwrap();
    let changed = "UPDATE cases SET record = replace(record, '暴露垃圾', '占道经营')";
    assert_eq!(db.execute(changed, []).unwrap(), 1);
    drop(db);
    let answer = served.browser().get(&format!("/api/v1/cases/{id}/check")).json();
    assert_eq!(
        (&answer["signature"], &answer["chain"]),
        (&"invalid".into(), &"not_in_chain".into())
    );
}

#[test]
fn the_map_has_cells_near_cameras_with_counts_and_a_table() {
    let served = Served::with_users();
    let ids: Vec<String> = (1..=6).map(|n| file_in_cell(&served, n, &[])).collect();
    reply(&served, &ids[0], CaseState::Rejected, "误报");
    let mut viewer = served.logged_in("viewer");
    let map = viewer.get("/api/v1/cases/map").json();
    let features = map["cells"]["features"].as_array().unwrap();
    let cell = features.iter().find(|cell| cell["properties"]["code"] == CELL).unwrap();
    assert_eq!(
        (&cell["properties"]["cases"], &cell["properties"]["open"]),
        (&6.into(), &5.into())
    );
    let rings = cell["geometry"]["coordinates"][0].as_array().unwrap();
    let ring = rings[0].as_array().unwrap();
    assert!(ring.len() >= 4 && ring.first() == ring.last(), "closed: {ring:?}");
    assert!(
        features.iter().any(|cell| cell["properties"]["cases"] == 0),
        "neighbouring cells, too"
    );
    assert_eq!(map["cameras"].as_array().unwrap().len(), 3);
    assert_eq!(map["cases"].as_array().unwrap().len(), 6);
    assert_eq!(
        viewer.get("/api/v1/cases/map?open=true").json()["cases"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
    let page = viewer.get("/cases/map?state=open");
    assert!(page.contains("<path class=\"cell some\""), "{}", page.text());
    let rows = page.text().split("<tbody>").nth(1).unwrap();
    assert!(
        rows.contains(&format!(
            "{CELL}</a></th><td class=\"number\">5</td><td class=\"number\">5</td>"
        )),
        "{rows}"
    );
    let link = links(&page, &format!("cell={CELL}")).next().unwrap();
    assert!(link.contains("state=open"), "{link}");
    assert_eq!(viewer.get(&link).text().matches("class=\"case open\"").count(), 5);
    // The group "east" has street-b only, which has no case.
    let map = served.logged_in("east").get("/api/v1/cases/map").json();
    assert_eq!(map["cameras"].as_array().unwrap().len(), 1);
    assert_eq!(map["cases"].as_array().unwrap().len(), 0);
    let counted = map["cells"]["features"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|cell| cell["properties"]["cases"] != 0);
    assert_eq!(counted.count(), 0);
}

#[test]
fn the_map_loads_its_library_and_other_pages_do_not() {
    let served = Served::start();
    served.file_case(1, "street-a", true);
    let mut browser = served.browser();
    let page = browser.get("/cases/map");
    assert!(page.contains("vendor/maplibre-gl-csp-5.24.1.js") && !page.contains("pmtiles"));
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("worker-src 'self'")
    );
    let worker = page
        .text()
        .split("data-worker=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let answer = browser.get(&worker);
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("text/javascript; charset=utf-8"))
    );
    for other in ["/", "/cases", "/review"] {
        assert!(!browser.get(other).contains("maplibre"), "{other}");
    }
    assert_eq!(browser.get("/cases/map/basemap").status, 404);
}

#[test]
fn parts_of_the_basemap_are_served() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = b"PMTiles\x03".to_vec();
    bytes.extend((0..40_000_u32).map(|i| i as u8));
    fs::write(file.path(), &bytes).unwrap();
    let path = file.path().to_path_buf();
    let served = Served::with_users_and(move |file| file.console.basemap = Some(path));
    let mut viewer = served.logged_in("viewer");
    let page = viewer.get("/cases/map");
    assert!(page.contains("data-basemap=\"/cases/map/basemap\"") && page.contains("pmtiles-4.5.0.js"));
    let part = viewer.clone().with("Range", "bytes=0-16383").get("/cases/map/basemap");
    assert_eq!(part.status, 206, "{:?}", part.headers);
    assert_eq!(part.header("content-range"), Some("bytes 0-16383/40008"));
    assert_eq!(part.body, &bytes[..16384]);
    let end = viewer
        .clone()
        .with("Range", "bytes=40000-50000")
        .get("/cases/map/basemap");
    assert_eq!((end.status, end.body.as_slice()), (206, &bytes[40000..]));
    assert_eq!(
        viewer
            .clone()
            .with("Range", "bytes=40008-40009")
            .get("/cases/map/basemap")
            .status,
        416
    );
    assert_eq!(viewer.get("/cases/map/basemap").status, 400, "never the whole file");
    assert_eq!(
        served
            .browser()
            .with("Range", "bytes=0-9")
            .get("/cases/map/basemap")
            .status,
        303
    );
}
