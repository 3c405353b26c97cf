//! Whatever the broker answers, in whatever order: a row leaves the outbox only when it was delivered, and no case is
//! sent before its pictures. Checked against a simple model.

use crate::filing;
use std::collections::{BTreeMap, BTreeSet};

use crate::filing::file;
use gridwatch_store::{OutboxKind, Store};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    File,
    /// The broker's answer about one of the rows that may be sent; the index is taken modulo their number.
    Answer(usize, Answer),
    /// The connection was lost.
    Reconnect,
    Release,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Delivered,
    Unheard,
    Refused,
}

fn step() -> impl Strategy<Value = Step> {
    let answer = prop_oneof![
        6 => Just(Answer::Delivered),
        2 => Just(Answer::Unheard),
        1 => Just(Answer::Refused)
    ];
    prop_oneof![
        2 => Just(Step::File),
        12 => (any::<usize>(), answer).prop_map(|(i, a)| Step::Answer(i, a)),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Release),
    ]
}

/// The state of the platform, and the quarantined cases.
#[derive(Default)]
struct Model {
    /// Pictures per case that the broker accepted without a subscriber since the last reconnect.
    unheard: BTreeMap<String, u32>,
    cases: BTreeSet<String>,
    quarantined: BTreeSet<String>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..Default::default() })]
    #[test]
    fn nothing_is_lost_and_pictures_come_first(steps in prop::collection::vec(step(), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let mut filed = Vec::new();
        let mut model = Model::default();
        // Pictures delivered per case; they have left the outbox.
        let mut delivered: BTreeMap<String, u32> = BTreeMap::new();
        for step in steps {
            match step {
                Step::File => {
                    let n = u32::try_from(filed.len()).unwrap();
                    filed.push(file(&mut store, n));
                }
                Step::Reconnect => {
                    store.outbox_resend_unheard().unwrap();
                    model.unheard.clear();
                }
                Step::Release => {
                    store.outbox_release(None).unwrap();
                    model.quarantined.clear();
                }
                Step::Answer(which, answer) => {
                    let rows = store.outbox_next(1000, filing::at(9999)).unwrap();
                    for row in &rows {
                        prop_assert!(!model.quarantined.contains(&row.case_id), "a quarantined case is not offered");
                        prop_assert!(!model.cases.contains(&row.case_id), "a delivered case is not offered");
                        if matches!(row.kind, OutboxKind::Case { .. }) {
                            let out = delivered.get(&row.case_id).unwrap_or(&0) + model.unheard.get(&row.case_id).unwrap_or(&0);
                            prop_assert_eq!(out, 3, "a case waits for its pictures");
                        }
                    }
                    let Some(row) = rows.get(which % rows.len().max(1)) else { continue };
                    let case = matches!(row.kind, OutboxKind::Case { .. });
                    match answer {
                        Answer::Delivered => {
                            store.outbox_acknowledged(row.seq, filing::at(9999)).unwrap();
                            if case {
                                model.cases.insert(row.case_id.clone());
                            } else {
                                *delivered.entry(row.case_id.clone()).or_default() += 1;
                            }
                        }
                        Answer::Unheard if case => {
                            store.outbox_resend_unheard().unwrap();
                            model.unheard.clear();
                        }
                        Answer::Unheard => {
                            store.outbox_mark_unheard(row.seq).unwrap();
                            *model.unheard.entry(row.case_id.clone()).or_default() += 1;
                        }
                        Answer::Refused => {
                            store.outbox_quarantine(row.seq, "refused").unwrap();
                            model.unheard.remove(&row.case_id);
                            model.quarantined.insert(row.case_id.clone());
                        }
                    }
                }
            }
            // Every case was delivered or is still in the outbox.
            for id in &filed {
                let file = store.case(id).unwrap().unwrap();
                prop_assert_eq!(model.cases.contains(id), file.queued == 0, "{}", id);
                prop_assert_eq!(model.quarantined.contains(id), file.quarantined.is_some(), "{}", id);
            }
        }
        // A broker that accepts everything empties it in the end.
        store.outbox_release(None).unwrap();
        store.outbox_resend_unheard().unwrap();
        while let Some(row) = store.outbox_next(1, filing::at(9999)).unwrap().into_iter().next() {
            store.outbox_acknowledged(row.seq, filing::at(9999)).unwrap();
        }
        prop_assert_eq!(store.outbox_depth().unwrap(), Default::default());
    }
}
