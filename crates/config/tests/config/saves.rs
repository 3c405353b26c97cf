//! Saves and versions.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    thread,
};

use serde_json::json;

use crate::sample::Folder;
use gridwatch_config::{
    edit::{EditError, Editor, SaveRequest, Saved, Versions},
    files::ConfigFiles,
};

fn save(editor: &mut Editor, who: &str) -> Result<Saved, EditError> {
    let revision = editor.revision().to_owned();
    editor.save(&SaveRequest {
        expected_revision: &revision,
        who,
        why: "a test",
    })
}

fn set_look(folder: &Folder, look: &str) -> Saved {
    let mut editor = Editor::open(&folder.main()).unwrap();
    editor.set("cameras[gate].look_every", &json!(look)).unwrap();
    save(&mut editor, "wang").unwrap()
}

fn versions(folder: &Folder) -> Versions {
    Versions::of(&folder.main()).unwrap()
}

#[test]
fn a_save_keeps_mode_and_link_and_can_be_undone() {
    let folder = Folder::new();
    fs::rename(folder.main(), folder.path("real.toml")).unwrap();
    symlink("real.toml", folder.main()).unwrap();
    fs::set_permissions(folder.path("real.toml"), fs::Permissions::from_mode(0o640)).unwrap();
    let before = folder.read("edge.toml");
    let saved = set_look(&folder, "5s");
    assert_eq!(
        saved.changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["cameras[gate].look_every: 10s → 5s (live)"]
    );
    assert!(folder.main().symlink_metadata().unwrap().is_symlink());
    assert_eq!(folder.path("real.toml").metadata().unwrap().mode() & 0o777, 0o640);
    assert_eq!(saved.revision, ConfigFiles::read(&folder.main()).revision());

    let list = versions(&folder).list().unwrap();
    let shown: Vec<_> = list
        .iter()
        .map(|v| (v.id, v.who.as_deref(), v.why.as_deref()))
        .collect();
    assert_eq!(shown, [(2, Some("wang"), Some("a test")), (1, None, None)]);
    let first = versions(&folder).get(1).unwrap();
    assert_eq!(first.texts().collect::<Vec<_>>(), [("edge.toml", before.clone())]);
    let request = SaveRequest {
        expected_revision: &saved.revision,
        who: "li",
        why: "",
    };
    let restored = versions(&folder).restore(1, &request).unwrap();
    assert_eq!((restored.version, folder.read("edge.toml")), (3, before));
    assert!(matches!(versions(&folder).get(9), Err(EditError::UnknownVersion(9))));
    let configurations = folder.path("state/configurations");
    assert_eq!(configurations.metadata().unwrap().mode() & 0o777, 0o700);
    assert_eq!(
        fs::read_dir(configurations.join("files")).unwrap().count(),
        2,
        "equal files are stored once"
    );
}

#[test]
fn a_file_that_was_changed_meanwhile_is_not_overwritten() {
    let folder = Folder::new();
    let page = Editor::open(&folder.main()).unwrap().revision().to_owned();
    set_look(&folder, "5s");
    let mut editor = Editor::open(&folder.main()).unwrap();
    editor.set("rules[vendor].dwell", &json!("9m")).unwrap();
    let request = SaveRequest {
        expected_revision: &page,
        who: "li",
        why: "",
    };
    let text = folder.read("edge.toml");
    let Err(EditError::Conflict {
        expected,
        found,
        changes,
    }) = editor.save(&request)
    else {
        panic!("no conflict")
    };
    assert_eq!((expected, found.as_str()), (page, editor.revision()));
    let changes: Vec<String> = changes.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["cameras[gate].look_every: 10s → 5s (live)"]);
    assert_eq!(folder.read("edge.toml"), text);
    // The edits are still there, for the person to decide.
    save(&mut editor, "li").unwrap();
    assert!(folder.read("edge.toml").contains("dwell = \"9m\""));

    // By an editor, after this one has read it; a new file in conf.d counts, too.
    let mut editor = Editor::open(&folder.main()).unwrap();
    editor.set("rules[vendor].dwell", &json!("8m")).unwrap();
    folder.write("conf.d/more.toml", "[telemetry]\nfilter = \"debug\"\n");
    let Err(EditError::Conflict { changes, .. }) = save(&mut editor, "li") else {
        panic!("no conflict")
    };
    assert_eq!(changes.unwrap()[0].path, "telemetry.filter");
    let of_nowhere = SaveRequest {
        expected_revision: "of a page of last year",
        who: "li",
        why: "",
    };
    let error = Editor::open(&folder.main()).unwrap().save(&of_nowhere).unwrap_err();
    assert!(matches!(error, EditError::Conflict { changes: None, .. }), "{error}");
}

#[test]
fn a_faulty_configuration_is_not_written() {
    let folder = Folder::new();
    let text = folder.read("edge.toml");
    let mut editor = Editor::open(&folder.main()).unwrap();
    editor
        .set("cameras[gate].zones[pavement].rules", &json!(["vendors"]))
        .unwrap();
    let Err(EditError::Faults(faults)) = save(&mut editor, "wang") else {
        panic!("saved")
    };
    assert!(faults.to_string().starts_with("cameras[0].zones[0].rules"), "{faults}");
    assert_eq!(folder.read("edge.toml"), text);
    assert!(!folder.path("state").exists(), "nothing was recorded");
    for (who, why) in [("", ""), (&*"w".repeat(201), ""), ("wang", &*"y".repeat(1001))] {
        let revision = editor.revision().to_owned();
        let request = SaveRequest {
            expected_revision: &revision,
            who,
            why,
        };
        assert!(matches!(editor.save(&request), Err(EditError::Invalid { .. })));
    }
}

#[test]
fn the_last_twenty_versions_are_kept_whole_with_conf_d() {
    let folder = Folder::new();
    let lane =
        "[[cameras]]\nid = \"lane\"\nurl = \"rtsp://192.0.2.11/stream\"\nplace = { lon = 120.001, lat = 30.001 }\n";
    folder.write("conf.d/lane.toml", lane);
    for n in 1..=25 {
        let mut editor = Editor::open(&folder.main()).unwrap();
        editor.set("cameras[lane].look_every", &json!(format!("{n}s"))).unwrap();
        save(&mut editor, "wang").unwrap();
    }
    let all = versions(&folder);
    let ids: Vec<u64> = all.list().unwrap().iter().map(|v| v.id).collect();
    assert_eq!(ids, (7..=26).rev().collect::<Vec<_>>());
    assert_eq!(
        fs::read_dir(folder.path("state/configurations/files")).unwrap().count(),
        21
    );
    // A version without the second file, and back: two files in one save.
    let mut editor = Editor::open(&folder.main()).unwrap();
    editor.remove("cameras[lane]").unwrap();
    editor.set("cameras[gate].look_every", &json!("7s")).unwrap();
    let saved = save(&mut editor, "wang").unwrap();
    assert!(!folder.path("conf.d/lane.toml").exists());
    let request = |revision| SaveRequest {
        expected_revision: revision,
        who: "li",
        why: "",
    };
    let saved = all.restore(26, &request(&saved.revision)).unwrap();
    assert_eq!(folder.read("conf.d/lane.toml"), format!("{lane}look_every = \"25s\"\n"));
    assert!(!folder.read("edge.toml").contains("7s"));
    let (old, new) = (all.get(27).unwrap(), all.get(saved.version).unwrap());
    let changes: Vec<String> = old.changes_to(&new).iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "cameras[gate].look_every: 7s → 10s (live)",
            "cameras[lane]: added (live)"
        ]
    );
    assert!(!folder.path(".edge.toml.save").exists());
}

#[test]
fn what_a_person_changed_is_recorded_as_found() {
    let folder = Folder::new();
    let all = versions(&folder);
    assert_eq!(all.list().unwrap(), []);
    assert_eq!((all.record_present().unwrap(), all.record_present().unwrap()), (1, 1));
    folder.replace("edge.toml", "dwell = \"5m\"", "dwell = \"6m\"");
    assert_eq!(all.record_present().unwrap(), 2);
    // A file that is damaged beyond reading can still be restored.
    folder.write("edge.toml", "= nothing");
    assert!(matches!(Versions::of(&folder.main()), Err(EditError::Faults(_))));
    let all = Versions::in_state(&folder.main(), &folder.path("state"));
    let revision = ConfigFiles::read(&folder.main()).revision();
    let request = SaveRequest {
        expected_revision: &revision,
        who: "li",
        why: "broken",
    };
    all.restore(2, &request).unwrap();
    assert!(folder.read("edge.toml").contains("dwell = \"6m\""));
    assert_eq!(all.list().unwrap().len(), 4, "the damaged one, too");
}

/// Each thread reads, adds one and saves, and repeats after a conflict: nothing is lost.
#[test]
fn saves_of_several_at_once_follow_one_another() {
    let folder = Folder::new();
    set_look(&folder, "1s");
    thread::scope(|scope| {
        for who in ["wang", "li", "zhao"] {
            let folder = &folder;
            scope.spawn(move || {
                for _ in 0..4 {
                    loop {
                        let mut editor = Editor::open(&folder.main()).unwrap();
                        let now = editor.get("cameras[gate].look_every").unwrap().unwrap();
                        let now: u32 = now.as_str().unwrap().trim_end_matches('s').parse().unwrap();
                        editor
                            .set("cameras[gate].look_every", &json!(format!("{}s", now + 1)))
                            .unwrap();
                        match save(&mut editor, who) {
                            Ok(_) => break,
                            Err(EditError::Conflict { .. }) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
            });
        }
    });
    assert!(folder.read("edge.toml").contains("look_every = \"13s\""));
    assert_eq!(versions(&folder).list().unwrap().len(), 14);
}

#[test]
fn an_interrupted_save_is_read_as_done_and_void_after_an_edit() {
    let folder = Folder::new();
    folder.write("conf.d/a.toml", "[telemetry]\nfilter = \"info\"\n");
    let sha = |name: &str| gridwatch_base::digest::sha256_hex(folder.read(name).as_bytes());
    let main = folder.read("edge.toml").replace("dwell = \"5m\"", "dwell = \"7m\"");
    let journal = json!({ "files": [
        { "name": "edge.toml", "old": sha("edge.toml"), "new": main },
        { "name": "conf.d/a.toml", "old": sha("conf.d/a.toml"), "new": null },
        { "name": "conf.d/b.toml", "old": null, "new": "[telemetry]\nfilter = \"debug\"\n" },
    ] });
    folder.write(".edge.toml.save", &journal.to_string());
    // Killed after the first of three.
    fs::remove_file(folder.path("conf.d/a.toml")).unwrap();
    let config = folder.load();
    assert_eq!(
        (config.telemetry.filter.as_str(), config.plan.rules[0].dwell.as_secs()),
        ("debug", 420)
    );
    // The next save completes it.
    set_look(&folder, "5s");
    assert!(folder.path("conf.d/b.toml").exists() && !folder.path(".edge.toml.save").exists());
    assert!(folder.read("edge.toml").contains("7m") && folder.read("edge.toml").contains("5s"));

    // Somebody has edited one of the files since: what the person sees counts.
    folder.write(".edge.toml.save", &journal.to_string());
    assert!(folder.load().cameras[0].look_every.as_secs() == 5);
    set_look(&folder, "6s");
    assert!(!folder.path(".edge.toml.save").exists());
    // A journal of something else is none.
    let hostile =
        json!({ "files": [{ "name": "conf.d/../../gridwatch-hostile-journal.toml", "old": null, "new": "x" }] });
    folder.write(".edge.toml.save", &hostile.to_string());
    set_look(&folder, "7s");
    assert!(!folder.path("../gridwatch-hostile-journal.toml").exists() && !folder.path(".edge.toml.save").exists());
}
