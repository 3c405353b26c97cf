//! Rules about what is new in a view.

use crate::config_support::{Folder, assert_faults};
use gridwatch_engine::Appeared;

const RULE: &str = "dwell = \"5m\"";

#[test]
fn scores_of_new_and_old_objects_must_fit_the_rule() {
    assert_faults(&[
        (
            RULE,
            "dwell = \"5m\"\nnew_start_score = 0.4",
            "rules[0].new_start_score: has no effect without appeared",
        ),
        (
            RULE,
            "dwell = \"5m\"\nappeared = \"required\"\nnew_start_score = 0.6",
            "rules[0].new_start_score: 0.6 is above start_score (0.5)",
        ),
        (
            RULE,
            "dwell = \"5m\"\nappeared = \"required\"\nold_start_score = 0.6",
            "rules[0].old_start_score: has no effect without appeared = \"preferred\"",
        ),
        (
            RULE,
            "dwell = \"5m\"\nappeared = \"preferred\"\nold_start_score = 0.4",
            "rules[0].old_start_score: 0.4 is below start_score (0.5)",
        ),
        (
            RULE,
            "dwell = \"5m\"\nappeared = \"always\"",
            "rules[0].appeared: unknown value",
        ),
        (
            RULE,
            "dwell = \"5m\"\nnew_keep_score = 0.2",
            "rules[0].new_keep_score: has no effect without appeared",
        ),
        (
            RULE,
            "dwell = \"5m\"\nappeared = \"required\"\nnew_start_score = 0.2\nnew_keep_score = 0.25",
            "rules[0].new_keep_score: 0.25 is above new_start_score (0.2)",
        ),
        (
            RULE,
            "dwell = \"5m\"\nappeared = \"required\"\nnew_keep_score = 0.4",
            "rules[0].new_keep_score: 0.4 is above keep_score (0.3)",
        ),
        (
            RULE,
            "dwell = \"5m\"\nunidentified_dwell = \"10m\"",
            "rules[0].unidentified_dwell: the rule has no label `object`",
        ),
        (
            "labels = [\"umbrella\"]",
            "labels = [\"umbrella\", \"object\"]\nunidentified_dwell = \"1m\"",
            "rules[0].unidentified_dwell: 1m is less than dwell (5m)",
        ),
        (
            RULE,
            "dwell = \"5m\"\nexcept_labels = { labels = [\"umbrella\"] }",
            "rules[0].except_labels.labels[0]: \"umbrella\" is a label of the rule itself",
        ),
        (
            RULE,
            "dwell = \"5m\"\nexcept_labels = { labels = [\"persn\"] }",
            "rules[0].except_labels.labels[0]: no model detects \"persn\"",
        ),
    ]);
}

#[test]
fn the_defaults_follow_the_rules_own_scores() {
    let compiled = |text: &str| {
        let config = Folder::new()
            .with(RULE, &format!("{RULE}\n{text}"))
            .into_config()
            .unwrap();
        config.plan.rules[0].appeared
    };
    assert_eq!(compiled(""), None);
    assert_eq!(
        compiled("appeared = \"required\""),
        Some(Appeared {
            new_start: 0.3,
            new_keep: None,
            old_start: None
        })
    );
    assert_eq!(
        compiled("appeared = \"preferred\""),
        Some(Appeared {
            new_start: 0.3,
            new_keep: None,
            old_start: Some(0.75)
        })
    );
    assert_eq!(
        compiled("appeared = \"preferred\"\nnew_start_score = 0.4\nnew_keep_score = 0.2\nold_start_score = 0.9"),
        Some(Appeared {
            new_start: 0.4,
            new_keep: Some(0.2),
            old_start: Some(0.9)
        })
    );
}
