//! What `gridwatch cases` and `gridwatch outbox` print for a person: local times, a legend, numbers with their nouns.

use std::{fs, path::Path, process::Command};

use crate::filing;
use gridwatch_store::Store;

fn printed(arguments: &[&str], more: [&str; 2]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .args(arguments)
        .args(more)
        .env_remove("GRIDWATCH_STATE")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The RFC 3339 times in a text.
fn times(text: &str) -> Vec<&str> {
    let is_time = |word: &&str| word.len() > 18 && word.as_bytes()[10] == b'T' && word.as_bytes()[4] == b'-';
    text.split_whitespace().filter(is_time).collect()
}

fn all_in(zone: &str, text: &str) {
    let times = times(text);
    assert!(!times.is_empty(), "{text}");
    assert!(times.iter().all(|time| time.ends_with(zone)), "{times:?} in {zone}");
}

#[test]
fn times_are_in_the_configured_zone_or_in_that_of_the_newest_case() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut store = Store::open(&state).unwrap();
    let case = filing::file(&mut store, 1);
    let config = dir.path().join("edge.toml");
    fs::write(
        &config,
        "[node]\nid = \"box-1\"\nstate_dir = \"state\"\ntimezone = \"Asia/Kolkata\"\n",
    )
    .unwrap();
    let [state, config] = [&state, &config].map(|path: &std::path::PathBuf| Path::to_str(path).unwrap());
    for arguments in [&["cases", "list"][..], &["cases", "show", &case], &["outbox", "list"]] {
        all_in("+08:00", &printed(arguments, ["--state", state]));
        all_in("+05:30", &printed(arguments, ["--config", config]));
    }
}

#[test]
fn the_mark_of_a_rejected_message_is_explained_and_one_message_is_singular() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let case = filing::file(&mut store, 1);
    let legend = "\n! The broker rejected a message of the case";
    assert!(!printed(&["cases", "list"], ["--state", state]).contains(legend));

    let entries = store.outbox_entries(false, 10).unwrap();
    let (last, others) = entries.split_last().unwrap();
    for entry in others {
        store.outbox_acknowledged(entry.seq, filing::at(1)).unwrap();
    }
    store
        .outbox_quarantine(last.seq, "the broker does not authorise the box")
        .unwrap();
    let list = printed(&["cases", "list"], ["--state", state]);
    assert!(list.contains("  1!  ") && list.contains(legend), "{list}");
    let show = printed(&["cases", "show", &case], ["--state", state]);
    assert!(show.contains("  1 message quarantined"), "{show}");
    let released = printed(&["outbox", "retry"], ["--state", state]);
    assert_eq!(released, "1 message released for sending.\n");
}
