//! The `[claims]` section: whose claims are obeyed, and how long a case waits for them.

use std::time::Duration;

use crate::config_support::*;
use gridwatch_config as config;

const KEY: &str = "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";

fn with(section: &str) -> config::Draft {
    Folder::new().with("[grid]", &format!("{section}\n[grid]"))
}

#[test]
fn boxes_are_enrolled_with_their_keys() {
    let config = with("").into_config().unwrap();
    assert_eq!(config.claims.wait, Duration::from_hours(24));
    let text = format!("[claims]\nwait = \"2h\"\n[[claims.boxes]]\nnode = \"box-02\"\npublic_key = \"{KEY}\"");
    let config = with(&text).into_config().unwrap();
    assert_eq!(config.claims.wait, Duration::from_hours(2));
    assert!(config.claims.boxes.contains(&"box-02".into()));
}

#[test]
fn a_faulty_key_is_named_without_its_content_and_enrols_nothing() {
    let text = "[[claims.boxes]]\nnode = \"box-02\"\npublic_key = \"hunter2\"";
    let faults = with(text).into_config().unwrap_err().to_string();
    assert!(
        faults.contains("claims.boxes[0].public_key") && faults.contains("gridwatch keys show"),
        "{faults}"
    );
    assert!(!faults.contains("hunter2"), "{faults}");
    let faults = with("[claims]\nwait = \"1m\"").into_config().unwrap_err().to_string();
    assert!(faults.contains("claims.wait"), "{faults}");
}
