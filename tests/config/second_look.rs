//! Who looks closer before a case is filed: the model must be there, find what the rule is about, and go on finding it.

use crate::config_support::{Folder, assert_faults, told};
use gridwatch_engine::Label;

const RULE: &str = "labels = [\"umbrella\"]";

/// The good file's rule with a closer look by the COCO model, and a rule after it with `second`.
fn two_rules(second: &str) -> String {
    format!(
        "{RULE}\nsecond_look = {{ score = 0.4, model = \"yolox_nano_416_coco\" }}\ndwell = \"5m\"\n\n\
         [[rules]]\nid = \"stall\"\ncategory = \"0501\"\nlabels = [\"chair\", \"umbrella\"]\n{second}"
    )
}

#[test]
fn who_cannot_look_closer_is_refused() {
    assert_faults(&[
        (
            RULE,
            "labels = [\"umbrella\"]\nsecond_look = { score = 0.4, model = \"garbage\" }",
            "rules[0].second_look.model: there is no model \"garbage\"",
        ),
        (
            RULE,
            "labels = [\"umbrella\"]\nsecond_look = { score = 40 }",
            "rules[0].second_look.score: 40 is more than 1.0",
        ),
        (
            RULE,
            &two_rules("second_look = { score = 0.4 }"),
            "rules: \"stall\" and \"vendor\" are about the same label and have different models look closer",
        ),
    ]);
}

#[test]
fn one_model_may_look_closer_for_two_rules_and_a_rule_may_do_without() {
    for second in ["second_look = { score = 0.6, model = \"yolox_nano_416_coco\" }", ""] {
        let draft = Folder::new().with(RULE, &two_rules(second));
        assert_eq!(
            (told(&draft.faults), told(&draft.warnings)),
            (vec![], vec![]),
            "{second}"
        );
    }
}

#[test]
fn a_version_that_would_doubt_everything_may_not_look_closer() {
    let draft = Folder::new().with(
        RULE,
        "labels = [\"umbrella\"]\nsecond_look = { score = 0.4, model = \"yolox_nano_416_coco\" }",
    );
    let config = draft.into_config().unwrap();
    let lacking = |new: &[&str]| {
        let labels = |names: &[&str]| names.iter().map(|n| Label::from(*n)).collect::<Vec<_>>();
        let (old, new) = (labels(&["person", "umbrella"]), labels(new));
        // No camera looks with it.
        config.lacking(0, [], (&old, &new), &|_| Vec::new())
    };
    assert_eq!(lacking(&["umbrella"]), [""; 0]);
    assert_eq!(
        lacking(&["person"]),
        ["rule \"vendor\" has it look closer at what is \"umbrella\", which it does not find"]
    );
}
