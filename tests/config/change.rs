//! The change map: `[change]`, and `[cameras.change]` where a camera differs.

use std::time::Duration;

use crate::config_support::*;
use gridwatch_vision::change::ChangeSettings;

#[test]
fn views_are_compared_unless_it_is_turned_off_or_the_camera_turns() {
    let settings = |general: &str, camera: &str| {
        let folder = Folder::new();
        let draft = match (general, camera) {
            ("", "") => folder.with("", ""),
            (general, "") => folder.with("[grid]", &format!("{general}\n[grid]")),
            (_, camera) => folder.with(
                "[[cameras]]\nid = \"gate\"\n",
                &format!("[[cameras]]\nid = \"gate\"\n{camera}\n"),
            ),
        };
        draft.into_config().unwrap().cameras[0].change
    };
    assert_eq!(settings("", ""), Some(ChangeSettings::default()));
    assert_eq!(settings("[change]\nenabled = false", ""), None);
    let finer = ChangeSettings {
        width: 720,
        absorb_after: Duration::from_hours(8),
    };
    assert_eq!(
        settings("[change]\nwidth = 720\nabsorb_after = \"8h\"", ""),
        Some(finer)
    );
    assert_eq!(
        settings("", "change = { width = 720, absorb_after = \"8h\" }"),
        Some(finer)
    );
    assert_eq!(settings("", "change = { enabled = false }"), None);
    assert_eq!(settings("", "fixed = false"), None);
}

#[test]
fn faults_are_named_with_their_place() {
    for (old, new, fault) in [
        (
            "[grid]",
            "[change]\nwidth = 100\n[grid]",
            "change.width: 100 is below the minimum of 240",
        ),
        (
            "[grid]",
            "[change]\nabsorb_after = \"5m\"\n[grid]",
            "change.absorb_after: 5m is below the minimum of 1h",
        ),
        (
            "[[cameras]]\nid = \"gate\"\n",
            "[[cameras]]\nid = \"gate\"\nchange = { absorb_after = \"2400h\" }\n",
            "cameras[0].change.absorb_after: 2400h is above the maximum of 2160h",
        ),
    ] {
        let found = messages(&Folder::new().with(old, new).faults);
        assert_eq!(found, [fault]);
    }
}
