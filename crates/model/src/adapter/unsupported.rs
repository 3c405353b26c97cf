//! Says what outputs that fit no family look like, so that the engineer who exported the network knows what to export instead.
//!
//! A guess from shapes alone: it explains a refusal and never decides one.

use super::{NetworkFacts, TensorInfo, yolo};

/// Values that a keypoint, a mask and an angle add to the row of a box (ultralytics, `nn/modules/head.py`: `Pose`, `Segment`, `OBB`).
const KEYPOINT: i64 = 3;
const MASK_COEFFICIENTS: i64 = 32;
const ANGLE: i64 = 1;

/// What is supported, for the end of a refusal.
pub(crate) const SUPPORTED: &str = "Only object detectors are supported: upright boxes, each with a score for every class; \
    docs/models.md lists their outputs";

/// What the outputs of `facts` look like; `None` if they resemble no known kind of network. `classes` is the number of classes, if it
/// is known.
pub(crate) fn describe(facts: &NetworkFacts<'_>, classes: Option<usize>) -> Option<String> {
    let (rows, maps): (Vec<&TensorInfo>, Vec<&TensorInfo>) = facts.outputs.iter().partition(|o| o.shape.len() <= 3);
    match (&rows[..], &maps[..]) {
        ([boxes], [protos]) if protos.shape[1] == MASK_COEFFICIENTS => Some(format!(
            "instance segmentation: boxes with {MASK_COEFFICIENTS} mask coefficients each ({boxes}) and the masks they combine ({protos})"
        )),
        ([only], []) => describe_rows(facts, only, classes),
        ([], [only]) if only.shape[1] == 1 => Some(format!(
            "one value for each place of the picture ({only}): a text detector, which belongs under [reading] with adapter \"db\", or a \
             heat map"
        )),
        ([], [_, ..]) => Some("values for each place of the picture: semantic segmentation or heat maps".into()),
        _ => None,
    }
}

fn describe_rows(facts: &NetworkFacts<'_>, only: &TensorInfo, classes: Option<usize>) -> Option<String> {
    let (a, b) = match only.shape[..] {
        [_, n] => {
            return Some(format!(
                "a classifier: {n} scores for the whole picture, and no boxes ({only})"
            ));
        }
        [_, a, b] => (a, b),
        _ => return None,
    };
    let width = match (yolo::is_cell_count(facts, a), yolo::is_cell_count(facts, b)) {
        (true, false) => b,
        (false, true) => a,
        _ => return None,
    };
    let found = |without: i64| width - without;
    let Some(classes) = classes.map(|n| n as i64) else {
        return Some(format!("a detector whose rows have {width} values ({only})"));
    };
    let more = found(4 + classes);
    let count = format!(
        "a detector of {} classes, or of {} with an objectness, where {classes} are named",
        found(4),
        found(5)
    );
    Some(match more {
        ANGLE => format!("oriented boxes (OBB), which have an angle after the {classes} classes ({only}); or {count}"),
        MASK_COEFFICIENTS => format!("boxes with {MASK_COEFFICIENTS} mask coefficients each ({only}); or {count}"),
        _ if classes == 1 && more >= 4 * KEYPOINT && more % KEYPOINT == 0 => {
            format!(
                "a pose network: boxes with {} keypoints each ({only}); or {count}",
                more / KEYPOINT
            )
        }
        _ => format!("{count} ({only})"),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn describe_shapes(shapes: &[&[i64]], classes: Option<usize>) -> String {
        let port = |shape: &&[i64]| TensorInfo {
            name: "out".into(),
            element: "f32".into(),
            shape: shape.to_vec(),
        };
        let outputs: Vec<TensorInfo> = shapes.iter().map(port).collect();
        let facts = NetworkFacts {
            inputs: &[],
            outputs: &outputs,
            metadata: &BTreeMap::new(),
            classes: 1,
            size: (640, 640),
        };
        describe(&facts, classes).unwrap_or_default()
    }

    #[test]
    fn networks_of_other_tasks_are_named() {
        type Case = (&'static [&'static [i64]], Option<usize>, &'static str);
        let cases: [Case; 6] = [
            (
                &[&[1, 56, 8400]],
                Some(1),
                "a pose network: boxes with 17 keypoints each (out f32 [1, 56, 8400])",
            ),
            (
                &[&[1, 20, 8400]],
                Some(15),
                "oriented boxes (OBB), which have an angle after the 15 classes",
            ),
            (
                &[&[1, 116, 8400], &[1, 32, 160, 160]],
                Some(80),
                "instance segmentation: boxes with 32 mask coefficients each",
            ),
            (
                &[&[1, 1000]],
                Some(1000),
                "a classifier: 1000 scores for the whole picture, and no boxes",
            ),
            (
                &[&[1, 1, 640, 640]],
                None,
                "a text detector, which belongs under [reading]",
            ),
            (&[&[1, 19, 640, 640]], Some(19), "semantic segmentation or heat maps"),
        ];
        for (shapes, classes, expected) in cases {
            let said = describe_shapes(shapes, classes);
            assert!(said.contains(expected), "{shapes:?}: {said}");
        }
    }

    #[test]
    fn a_wrong_number_of_classes_is_named() {
        let said = describe_shapes(&[&[1, 84, 8400]], Some(3));
        assert_eq!(
            said,
            "a detector of 80 classes, or of 79 with an objectness, where 3 are named (out f32 [1, 84, 8400])"
        );
        assert_eq!(
            describe_shapes(&[&[1, 8400, 84]], None),
            "a detector whose rows have 84 values (out f32 [1, 8400, 84])"
        );
    }

    #[test]
    fn what_resembles_nothing_is_not_guessed() {
        let unknown: [&[&[i64]]; 4] = [&[], &[&[1, 7, 9]], &[&[5]], &[&[1, 4], &[1, 5, 6]]];
        for shapes in unknown {
            assert_eq!(describe_shapes(shapes, Some(2)), "", "{shapes:?}");
        }
    }
}
