//! The page of approved signs, and its API.

use std::fs;

use gridwatch_console::daemon::{Finding, Look};
use gridwatch_engine::{BBox, Light, View};
use serde_json::{Value, json};

use crate::{
    street::{Served, at},
    zones::{data_of, scripting, send_json},
};

const PAGE: &str = "/cameras/street-a/signs";
const API: &str = "/api/v1/views/street-a/signs";

/// Without files of approved signs: those of the demo are the repository's.
fn served() -> Served {
    let served = Served::with_users_and(|file| {
        for camera in &mut file.cameras {
            camera.approved_signs = None;
        }
    });
    let sign = |x1: f32, label: &str| Finding {
        label: label.into(),
        score: 0.8,
        bbox: BBox {
            x1,
            y1: 0.1,
            x2: x1 + 0.2,
            y2: 0.2,
        },
        counts: false,
    };
    served.street.set_look(
        "street-a",
        Look {
            at: at(20),
            sight: View::Clear,
            light: Light::Day,
            size: (1280, 720),
            detections: vec![sign(0.1, "sign"), sign(0.5, "sign"), sign(0.7, "garbage")],
        },
    );
    served
}

#[test]
fn signs_are_approved_from_the_newest_look_and_struck_out_afterwards() {
    let served = served();
    let mut operator = served.logged_in("operator");
    let page = operator.get(PAGE);
    assert!(page.contains("还没有记录过已批准标牌"), "{}", page.text());
    let data = data_of(&page, "sign-editor");
    assert_eq!(data["found"].as_array().unwrap().len(), 2, "garbage is no sign: {data}");
    assert_eq!(data["signs"], json!([]));
    assert!(!operator.get("/cameras/street-a").contains("<g class=\"sign\">"));
    let approve = json!([{ "box": data["found"][0]["box"], "label": "sign", "note": "药店 </script>", "permit": "2026-118", "valid_until": "2099-06-30" }]);
    let saved = served.post(
        &mut operator,
        PAGE,
        PAGE,
        &[("revision", ""), ("signs", &approve.to_string())],
    );
    assert_eq!(
        (saved.status, saved.header("location")),
        (303, Some("/cameras/street-a/signs?added=1&removed=0")),
        "{}",
        saved.text()
    );
    let file = served.main().with_file_name("signs").join("street-a.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("permit = \"2026-118\"") && text.contains("valid_until = \"2099-06-30\""),
        "{text}"
    );
    assert!(
        fs::read_to_string(served.main())
            .unwrap()
            .contains("approved_signs = \"signs/street-a.toml\"")
    );
    for path in ["/cameras/street-a", "/"] {
        let shown = operator.get(path);
        assert!(
            shown.contains("<g class=\"sign\">") && shown.contains("已批准标牌"),
            "{}",
            shown.text()
        );
    }
    let data = data_of(&operator.get(PAGE), "sign-editor");
    assert_eq!(
        (&data["found"][0]["approved"], &data["found"][1]["approved"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(data["signs"][0]["note"], "药店 </script>", "it ends no element");
    // What a person wrote into the file stays.
    fs::write(&file, text.replace("# 1\n", "# 1, seen at the office\n")).unwrap();
    served.reload();
    let now = operator.get(API).json();
    let mut signs = now["signs"].clone();
    signs[0]["valid_until"] = "2000-01-01".into();
    let renewed = json!({ "revision": now["revision"], "signs": signs });
    let mut script = scripting(&served, "operator");
    let answer = send_json(&mut script, "PUT", API, &renewed);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["problems"], json!([]));
    assert!(fs::read_to_string(&file).unwrap().contains("# 1, seen at the office"));
    assert!(operator.get("/cameras/street-a").contains("<g class=\"sign expired\">"));
    let acts = served.street.acts.lock().unwrap();
    let mine: Vec<_> = acts.iter().filter(|act| act.name == "console signs").collect();
    assert_eq!(mine.len(), 2);
    assert!(mine[0].details.contains(&("view", "street-a".into())) && mine[0].details.contains(&("added", "1".into())));
}

#[test]
fn another_change_and_bad_input_leave_the_file_as_it_is() {
    let served = served();
    let mut operator = scripting(&served, "operator");
    let sign = json!({ "box": [0.1, 0.1, 0.3, 0.2], "label": "sign" });
    let put = |browser: &mut _, revision: &Value, signs: Value| {
        send_json(browser, "PUT", API, &json!({ "revision": revision, "signs": signs }))
    };
    assert_eq!(
        put(&mut operator, &json!("x"), json!([])).status,
        409,
        "there is no file"
    );
    assert_eq!(put(&mut operator, &json!(""), json!([sign])).status, 200);
    assert_eq!(put(&mut operator, &json!(""), json!([])).status, 409, "an older page");
    let now = operator.get(API).json()["revision"].clone();
    for (wrong, status) in [
        (json!([{ "box": [0.3, 0.1, 0.1, 0.2], "label": "sign" }]), 422),
        (json!([{ "box": [0.1, 0.1, 0.3], "label": "sign" }]), 400),
        (json!([{ "box": [0.1, 0.1, 0.3, 0.2] }]), 400),
        (json!([{ "box": [0.1, 0.1, 0.3, 0.2], "label": "" }]), 422),
        (
            json!([{ "box": [0.1, 0.1, 0.3, 0.2], "label": "sign", "valid_until": "2026-02-30" }]),
            422,
        ),
        (
            json!([{ "index": 7, "box": [0.1, 0.1, 0.3, 0.2], "label": "sign" }]),
            400,
        ),
        (
            json!([{ "index": 0, "box": [0.1, 0.1, 0.3, 0.2], "label": "sign", "colour": "red" }]),
            400,
        ),
        (json!("signs"), 400),
    ] {
        let answer = put(&mut operator, &now, wrong.clone());
        assert_eq!(answer.status, status, "{wrong}: {}", answer.text());
    }
    assert_eq!(operator.get(API).json()["revision"], now);
    // The page shows again what was entered, with the old revision.
    let entered = json!([{ "box": [0.4, 0.4, 0.6, 0.5], "label": "sign", "note": "mine" }]).to_string();
    let refused = served.post(&mut operator, PAGE, PAGE, &[("revision", "x"), ("signs", &entered)]);
    assert_eq!(refused.status, 409);
    assert!(
        refused.contains("\"note\":\"mine\"") && refused.contains("没有覆盖任何内容"),
        "{}",
        refused.text()
    );
    // All are taken back: none is approved.
    let none = put(&mut operator, &now, json!([]));
    assert_eq!((none.status, &none.json()["removed"]), (200, &json!(1)));
    // A file that a person broke is said to be broken.
    fs::write(
        served.main().with_file_name("signs").join("street-a.toml"),
        "camera = 1",
    )
    .unwrap();
    assert_eq!(operator.get(API).status, 503);
    assert!(operator.get(PAGE).contains("暂不能在此编辑"));
}

#[test]
fn a_viewer_sees_the_signs_of_the_own_group() {
    let served = served();
    let mut viewer = scripting(&served, "viewer");
    assert!(viewer.get(PAGE).contains("<sign-editor name=\"signs\" readonly>"));
    let body = json!({ "revision": "", "signs": [] });
    assert_eq!(send_json(&mut viewer, "PUT", API, &body).status, 403);
    let mut east = scripting(&served, "east");
    assert_eq!((east.get(PAGE).status, east.get(API).status), (404, 404));
    assert_eq!(east.get("/cameras/street-b/signs").status, 200);
    assert_eq!(viewer.get("/cameras/nowhere/signs").status, 404);
}
