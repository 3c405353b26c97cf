//! The model of a second look: it must exist, detect the rule's labels, and still detect them after an update.

use crate::config_support::{Folder, assert_faults, messages};
use gridwatch_engine::Label;

const RULE: &str = "labels = [\"umbrella\"]";

/// The rule of good.toml with a second look by the COCO model, followed by a rule with `second`.
fn two_rules(second: &str) -> String {
    format!(
        "{RULE}\nsecond_look = {{ score = 0.4, model = \"yolox_nano_416_coco\" }}\ndwell = \"5m\"\n\n\
         [[rules]]\nid = \"stall\"\ncategory = \"0501\"\nlabels = [\"chair\", \"umbrella\"]\n{second}"
    )
}

#[test]
fn a_second_look_needs_a_suitable_model() {
    assert_faults(&[
        (
            RULE,
            "labels = [\"umbrella\"]\nsecond_look = { score = 0.4, model = \"garbage\" }",
            "rules[0].second_look.model: unknown model \"garbage\"",
        ),
        (
            RULE,
            "labels = [\"umbrella\"]\nsecond_look = { score = 40 }",
            "rules[0].second_look.score: 40 is above the maximum of 1.0",
        ),
        (
            RULE,
            &two_rules("second_look = { score = 0.4 }"),
            "rules: rules \"stall\" and \"vendor\" share a label but use different models for the second look",
        ),
    ]);
}

#[test]
fn two_rules_may_share_a_second_look_model_or_do_without() {
    for second in ["second_look = { score = 0.6, model = \"yolox_nano_416_coco\" }", ""] {
        let draft = Folder::new().with(RULE, &two_rules(second));
        assert_eq!(
            (messages(&draft.faults), messages(&draft.warnings)),
            (vec![], vec![]),
            "{second}"
        );
    }
}

#[test]
fn a_version_that_loses_the_label_of_a_second_look_is_reported() {
    let draft = Folder::new().with(
        RULE,
        "labels = [\"umbrella\"]\nsecond_look = { score = 0.4, model = \"yolox_nano_416_coco\" }",
    );
    let config = draft.into_config().unwrap();
    let lost_coverage = |new: &[&str]| {
        let labels = |names: &[&str]| names.iter().map(|n| Label::from(*n)).collect::<Vec<_>>();
        let (old, new) = (labels(&["person", "umbrella"]), labels(new));
        // The model runs on no camera.
        config.lost_coverage(0, [], (&old, &new), &|_| Vec::new())
    };
    assert_eq!(lost_coverage(&["umbrella"]), [""; 0]);
    assert_eq!(
        lost_coverage(&["person"]),
        ["rule \"vendor\" uses it for the second look at \"umbrella\", which it does not detect"]
    );
}
