//! Edits that keep what a person wrote.

use std::fs;

use serde_json::{Value, json};

use crate::sample::{Folder, root};
use gridwatch_config::edit::{EditError, Editor};

/// The lines that differ, each with `-` or `+`.
fn changed_lines(before: &str, after: &str) -> Vec<String> {
    let (before, after): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let head = before
        .iter()
        .zip(&after)
        .take_while(|(one, other)| one == other)
        .count();
    let tail = before[head..].iter().rev().zip(after[head..].iter().rev());
    let tail = tail.take_while(|(one, other)| one == other).count();
    let gone = before[head..before.len() - tail].iter().map(|line| format!("-{line}"));
    gone.chain(after[head..after.len() - tail].iter().map(|line| format!("+{line}")))
        .collect()
}

fn open(folder: &Folder) -> Editor {
    Editor::open(&folder.main()).unwrap()
}

#[test]
fn one_field_changes_one_line_and_keeps_its_comment() {
    let folder = Folder::new();
    folder.replace(
        "edge.toml",
        "dwell = \"5m\"",
        "dwell   =   \"5m\"   # as the city wants it",
    );
    let before = folder.read("edge.toml");
    for (path, value, lines) in [
        (
            "rules[vendor].dwell",
            json!("10m"),
            vec![
                "-dwell   =   \"5m\"   # as the city wants it",
                "+dwell   =   \"10m\"   # as the city wants it",
            ],
        ),
        ("cameras[gate].look_every", json!("5s"), vec!["+look_every = \"5s\""]),
        (
            "cameras[gate].place.uncertainty_m",
            json!(12.5),
            vec![
                "-place = { lon = 120.001, lat = 30.001 }",
                "+place = { lon = 120.001, lat = 30.001, uncertainty_m = 12.5 }",
            ],
        ),
        (
            "cameras[gate].zones[windows].polygon",
            json!([[0.5, 0], [1, 0], [1, 0.25]]),
            vec![
                "-polygon = [[0.7, 0.0], [1.0, 0.0], [1.0, 0.3]]",
                "+polygon = [[0.5, 0], [1, 0], [1, 0.25]]",
            ],
        ),
        (
            "intake.per_camera_day",
            json!(5),
            vec!["+", "+[intake]", "+per_camera_day = 5"],
        ),
        (
            "telemetry",
            json!({ "filter": "debug" }),
            vec!["+telemetry = { filter = \"debug\" }"],
        ),
    ] {
        let mut editor = open(&folder);
        editor.set(path, &value).unwrap();
        let found: Vec<String> = changed_lines(&before, &editor.text("edge.toml").unwrap());
        assert_eq!(found, lines, "{path}");
        let faults: Vec<String> = editor.check().faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults, [""; 0], "{path}");
        assert_eq!(editor.changes().len(), 1, "{path}: {:?}", editor.changes());
    }
}

#[test]
fn elements_are_added_replaced_and_removed_by_their_ids() {
    let folder = Folder::new();
    folder.replace(
        "edge.toml",
        "[[cameras.zones]]\nid = \"windows\"",
        "# Flats above the shop.\n[[cameras.zones]]\nid = \"windows\" # since May",
    );
    let before = folder.read("edge.toml");
    let mut editor = open(&folder);
    let zone = json!({ "id": "stand", "kind": "exclude", "polygon": [[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]], "rules": ["vendor"] });
    editor.add("cameras[gate].zones", &zone, None).unwrap();
    let camera = json!({
        "id": "lane", "url": "rtsp://192.0.2.11/stream", "credentials": { "file": "gate.secret" },
        "place": { "lon": 120.001, "lat": 30.001 }, "zones": [zone],
    });
    editor.add("cameras", &camera, None).unwrap();
    assert_eq!(
        changed_lines(&before, &editor.text("edge.toml").unwrap()),
        [
            "+",
            "+[[cameras.zones]]",
            "+id = \"stand\"",
            "+kind = \"exclude\"",
            "+polygon = [[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]",
            "+rules = [\"vendor\"]",
            "+",
            "+[[cameras]]",
            "+id = \"lane\"",
            "+url = \"rtsp://192.0.2.11/stream\"",
            "+credentials = { file = \"gate.secret\" }",
            "+place = { lon = 120.001, lat = 30.001 }",
            "+",
            "+[[cameras.zones]]",
            "+id = \"stand\"",
            "+kind = \"exclude\"",
            "+polygon = [[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]",
            "+rules = [\"vendor\"]",
        ]
    );
    assert!(editor.check().faults.is_empty());
    // A zone of the first camera goes to the first camera, not to the end of the file.
    editor
        .add(
            "cameras[gate].zones",
            &json!({ "id": "late", "kind": "watch", "polygon": [[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]] }),
            None,
        )
        .unwrap();
    let ids = |camera: &str, editor: &Editor| -> Vec<String> {
        let zones = editor.get(&format!("cameras[{camera}].zones")).unwrap().unwrap();
        zones
            .as_array()
            .unwrap()
            .iter()
            .map(|z| z["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("gate", &editor), ["pavement", "windows", "stand", "late"]);
    assert_eq!(ids("lane", &editor), ["stand"]);

    editor.remove("cameras[lane]").unwrap();
    editor.remove("cameras[gate].zones[late]").unwrap();
    editor.remove("cameras[gate].zones[stand]").unwrap();
    assert_eq!(editor.text("edge.toml").unwrap(), before);

    let mut windows = editor.get("cameras[gate].zones[windows]").unwrap().unwrap();
    windows["polygon"] = json!([[0.6, 0.0], [1.0, 0.0], [1.0, 0.3]]);
    editor.replace("cameras[gate].zones[windows]", &windows).unwrap();
    assert_eq!(changed_lines(&before, &editor.text("edge.toml").unwrap()).len(), 2);
    assert!(
        editor
            .text("edge.toml")
            .unwrap()
            .contains("# Flats above the shop.\n[[cameras.zones]]\nid = \"windows\" # since May\n")
    );
    editor.unset("cameras[gate].credentials").unwrap();
    assert!(!editor.text("edge.toml").unwrap().contains("gate.secret"));
}

#[test]
fn a_list_in_another_order_is_written_in_that_order_with_its_comments() {
    let folder = Folder::new();
    let mut editor = open(&folder);
    let mut zones = editor.get("cameras[gate].zones").unwrap().unwrap();
    zones.as_array_mut().unwrap().reverse();
    editor.set("cameras[gate].zones", &zones).unwrap();
    assert_eq!(editor.get("cameras[gate].zones").unwrap().unwrap(), zones);
    let text = editor.text("edge.toml").unwrap();
    assert!(
        text.find("\"windows\"").unwrap() < text.find("\"pavement\"").unwrap(),
        "{text}"
    );
    assert!(
        text.find("[cameras.calibration]").unwrap() < text.find("\"windows\"").unwrap(),
        "{text}"
    );
}

#[test]
fn what_is_not_there_or_does_not_fit_is_refused() {
    let folder = Folder::new();
    let mut editor = open(&folder);
    let before = editor.text("edge.toml");
    let zone = json!({ "id": "windows", "kind": "watch" });
    let results = [
        editor.set("cameras[none].look_every", &json!("5s")),
        editor.set("cameras[gate].zones[none].kind", &json!("watch")),
        editor.set("node.id.more", &json!(1)),
        editor.set("node..id", &json!(1)),
        editor.set("node.id", &Value::Null),
        editor.unset("cameras[gate].address"),
        editor.remove("cameras[none]"),
        editor.replace("cameras[gate]", &json!(3)),
        editor.add("cameras[gate].zones", &zone, None),
        editor.add("cameras", &json!({ "url": "rtsp://x/" }), None),
        editor.add("node", &json!({ "id": "x" }), None),
        editor.add("cameras", &json!({ "id": "lane" }), Some("../lane.toml")),
        editor.add("cameras", &json!({ "id": "lane" }), Some("conf.d/../lane.toml")),
        editor.add("cameras", &json!({ "id": "lane" }), Some("conf.d/.lane.toml")),
    ];
    let messages: Vec<String> = results.into_iter().map(|r| r.unwrap_err().to_string()).collect();
    let gone = "does not exist; the configuration may have been changed in the meantime";
    let place = "name the main file, or a file such as conf.d/gate.toml";
    assert_eq!(
        messages,
        [
            format!("cameras[none].look_every {gone}"),
            format!("cameras[gate].zones[none].kind {gone}"),
            "node.id.more: there is another value in its place".into(),
            "not a path to a field; write it like cameras[gate].zones[pavement].polygon".into(),
            "node.id: TOML has no null; unset the field instead".into(),
            format!("cameras[gate].address {gone}"),
            format!("cameras[none] {gone}"),
            "cameras[gate]: an element is a table".into(),
            "cameras[gate].zones[windows] exists already; choose another id".into(),
            "cameras: an element needs an id".into(),
            "node: is not a list of elements".into(),
            format!("../lane.toml: {place}"),
            format!("conf.d/../lane.toml: {place}"),
            format!("conf.d/.lane.toml: {place}"),
        ]
    );
    assert_eq!(editor.text("edge.toml"), before);
    let error = Editor::open(&folder.path("none.toml")).unwrap_err();
    assert!(matches!(error, EditError::Faults(_)), "{error}");
}

#[test]
fn a_field_is_changed_in_the_file_in_which_it_is() {
    let folder = Folder::new();
    let lane = "# The lane.\n[[cameras]]\nid = \"lane\"\nurl = \"rtsp://192.0.2.11/stream\"\nplace = { lon = 120.001, lat = 30.001 }\n";
    folder.write("conf.d/lane.toml", lane);
    folder.write("conf.d/telemetry.toml", "[telemetry]\nfilter = \"info\"\n");
    let main = folder.read("edge.toml");
    let mut editor = open(&folder);
    editor.set("cameras[lane].look_every", &json!("5s")).unwrap();
    editor.set("telemetry.filter", &json!("debug")).unwrap();
    editor.set("telemetry.log", &json!("json")).unwrap();
    assert_eq!(editor.text("edge.toml").unwrap(), main);
    assert_eq!(
        editor.text("conf.d/lane.toml").unwrap(),
        format!("{lane}look_every = \"5s\"\n")
    );
    assert_eq!(
        editor.text("conf.d/telemetry.toml").unwrap(),
        "[telemetry]\nfilter = \"debug\"\nlog = \"json\"\n"
    );
    for path in ["cameras", "telemetry"] {
        folder.write("conf.d/more.toml", "[telemetry]\nmax_blind_share = 0.5\n");
        let mut editor = open(&folder);
        let whole = editor.get(path).unwrap().unwrap();
        let error = editor.set(path, &whole).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{path}: lies in several files; set its fields or elements")
        );
    }
    // A camera beside others that have files of their own gets one, too.
    let other = json!({ "id": "alley", "url": "rtsp://192.0.2.12/stream", "place": { "lon": 120.001, "lat": 30.001 } });
    editor.add("cameras", &other, None).unwrap();
    let names: Vec<&str> = editor.file_names().collect();
    assert_eq!(
        names,
        [
            "edge.toml",
            "conf.d/alley.toml",
            "conf.d/lane.toml",
            "conf.d/telemetry.toml"
        ]
    );
    assert_eq!(
        editor.text("conf.d/alley.toml").unwrap(),
        "[[cameras]]\nid = \"alley\"\nurl = \"rtsp://192.0.2.12/stream\"\nplace = { lon = 120.001, lat = 30.001 }\n"
    );
    assert!(editor.check().faults.is_empty());
    // One that holds nothing else goes with its camera.
    editor.remove("cameras[lane]").unwrap();
    assert_eq!(editor.text("conf.d/lane.toml"), None);
}

/// Every field of the reference configuration, set to what it is, changes nothing; set to something else, it changes its own text only.
#[test]
fn the_reference_keeps_its_text() {
    let folder = Folder::new();
    let reference = fs::read_to_string(root().join("configs/edge.toml")).unwrap();
    for (text, ends) in [
        (reference.clone(), "LF"),
        (format!("\u{feff}{}", reference.replace('\n', "\r\n")), "CRLF"),
    ] {
        fs::write(folder.main(), &text).unwrap();
        let mut editor = open(&folder);
        let mut leaves = Vec::new();
        collect(&editor.document(), "", &mut leaves);
        assert!(leaves.len() > 200, "{}", leaves.len());
        for (path, value) in &leaves {
            editor.set(path, value).unwrap_or_else(|e| panic!("{path}: {e}"));
        }
        let whole = editor.document();
        for (key, section) in whole.as_object().unwrap() {
            editor.set(key, section).unwrap();
        }
        assert!(editor.text("edge.toml").unwrap() == text, "{ends}");
        assert_eq!(editor.changes(), []);
        for (path, value) in leaves.iter().step_by(7) {
            let other = match value {
                Value::String(text) => json!(format!("{text}x")),
                Value::Number(number) => json!(number.as_f64().unwrap() + 1.0),
                Value::Bool(is_set) => json!(!is_set),
                _ => continue,
            };
            let id = ["].id", "].dir", "].node"].iter().any(|end| path.ends_with(end));
            if id {
                continue;
            }
            let mut editor = open(&folder);
            editor.set(path, &other).unwrap();
            let changed = editor.text("edge.toml").unwrap();
            assert_eq!(changed_lines(&text, &changed).len(), 2, "{path} {ends}");
            assert_eq!(changed.contains("\r\n"), text.contains("\r\n"));
        }
    }
}

fn collect(value: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                let path = if at.is_empty() {
                    key.clone()
                } else {
                    format!("{at}.{key}")
                };
                collect(value, &path, found);
            }
        }
        Value::Array(list) if list.iter().all(|e| e.is_object()) && !list.is_empty() => {
            for element in list {
                let id = ["id", "node", "dir"].iter().find_map(|key| element.get(key)?.as_str());
                match id {
                    Some(id) => collect(element, &format!("{at}[{id}]"), found),
                    None => return found.push((at.into(), value.clone())),
                }
            }
        }
        other => found.push((at.into(), other.clone())),
    }
}

#[test]
fn a_list_of_values_keeps_its_lines_and_the_comments_at_values_that_stay() {
    let folder = Folder::new();
    folder.replace(
        "edge.toml",
        "polygon = [[0.7, 0.0], [1.0, 0.0], [1.0, 0.3]]",
        "polygon = [\n  [0.7, 0.0],\n  # the kerb\n  [1.0, 0.0], # its end\n  [1.0, 0.3],\n]",
    );
    let before = folder.read("edge.toml");
    let mut editor = open(&folder);
    let polygon = json!([[0.7, 0.0], [1.0, 0.0], [0.9, 0.2], [1.0, 0.4]]);
    editor.set("cameras[gate].zones[windows].polygon", &polygon).unwrap();
    let after = editor.text("edge.toml").unwrap();
    assert_eq!(
        changed_lines(&before, &after),
        ["-  [1.0, 0.3],", "+  [0.9, 0.2],", "+  [1.0, 0.4],"],
        "{after}"
    );
    editor
        .set(
            "cameras[gate].zones[windows].polygon",
            &json!([[1.0, 0.0], [0.5, 0.5], [0.6, 0.7]]),
        )
        .unwrap();
    let after = editor.text("edge.toml").unwrap();
    assert!(
        after.contains("# the kerb\n  [1.0, 0.0], # its end\n  [0.5, 0.5],\n  [0.6, 0.7],\n]"),
        "{after}"
    );
}
