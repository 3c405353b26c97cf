//! Files edited as texts.

use std::fs;

use crate::sample::Folder;
use gridwatch_config::edit::{EditError, SaveRequest, Saved, TextEditor, Versions};

fn save(editor: &mut TextEditor) -> Result<Saved, EditError> {
    let revision = editor.revision().to_owned();
    editor.save(&SaveRequest {
        expected_revision: &revision,
        who: "wang",
        why: "by hand",
    })
}

#[test]
fn a_text_is_checked_with_lines_and_saved_as_it_is() {
    let folder = Folder::new();
    let mut editor = TextEditor::open(&folder.main()).unwrap();
    let before = editor.text("edge.toml").unwrap().to_owned();
    let commented = format!("# by hand\r\n{before}");
    editor
        .set_text("edge.toml", &format!("{commented}\nnonsense = [\n"))
        .unwrap();
    let faults = editor.check().faults;
    let last = before.lines().count() + 2;
    assert!(
        faults.iter().any(|fault| fault.line.is_some_and(|line| line >= last)),
        "{faults:?}"
    );
    assert!(matches!(save(&mut editor), Err(EditError::Faults(_))));
    assert_eq!(folder.read("edge.toml"), before, "nothing was written");
    editor.set_text("edge.toml", &commented).unwrap();
    assert!(editor.changes().is_empty(), "a comment is no change");
    let saved = save(&mut editor).unwrap();
    assert_eq!(folder.read("edge.toml"), commented);
    assert_eq!(editor.revision(), saved.revision);
    let newest = Versions::of(&folder.main()).unwrap().list().unwrap().remove(0);
    assert_eq!(
        (newest.who.as_deref(), newest.why.as_deref()),
        (Some("wang"), Some("by hand"))
    );
}

#[test]
fn a_file_that_is_not_toml_can_be_mended() {
    let folder = Folder::new();
    let good = folder.read("edge.toml");
    fs::write(folder.main(), "[[cameras\n").unwrap();
    let mut editor = TextEditor::open(&folder.main()).unwrap();
    assert_eq!(editor.text("edge.toml"), Some("[[cameras\n"));
    editor.set_text("edge.toml", &good).unwrap();
    save(&mut editor).unwrap();
    assert_eq!(folder.read("edge.toml"), good);
}

#[test]
fn only_files_of_the_configuration_are_written() {
    let folder = Folder::new();
    let mut editor = TextEditor::open(&folder.main()).unwrap();
    for wrong in [
        "../edge.toml",
        "conf.d/../edge.toml",
        "conf.d/a/b.toml",
        "/etc/passwd",
        "conf.d/.hidden.toml",
        "conf.d/a.txt",
        "conf.d/a\n.toml",
        "conf.d/a\\b.toml",
        "other.toml",
        "",
    ] {
        let error = editor.set_text(wrong, "").unwrap_err();
        assert!(matches!(error, EditError::Invalid { .. }), "{wrong:?}");
    }
    assert!(editor.remove("edge.toml").is_err() && editor.remove("conf.d/none.toml").is_err());
    editor.set_text("conf.d/hours.toml", "# none yet\n").unwrap();
    assert_eq!(editor.file_names(), ["edge.toml", "conf.d/hours.toml"]);
    save(&mut editor).unwrap();
    assert_eq!(folder.read("conf.d/hours.toml"), "# none yet\n");
    editor.remove("conf.d/hours.toml").unwrap();
    save(&mut editor).unwrap();
    assert!(!folder.path("conf.d/hours.toml").exists());
    let large = "#".repeat(17 << 20);
    assert!(editor.set_text("edge.toml", &large).is_err());
}

#[test]
fn a_text_that_is_based_on_an_older_one_is_refused() {
    let folder = Folder::new();
    let mut editor = TextEditor::open(&folder.main()).unwrap();
    let text = folder.read("edge.toml");
    fs::write(folder.main(), format!("{text}\n# another\n")).unwrap();
    editor.set_text("edge.toml", &text).unwrap();
    assert!(matches!(save(&mut editor), Err(EditError::Conflict { .. })));
    assert!(folder.read("edge.toml").ends_with("# another\n"));
}
