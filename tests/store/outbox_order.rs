//! Whatever the broker answers and in whatever order: nothing leaves the outbox but what was delivered, and no case goes
//! before its pictures. Checked against a plain list.

use crate::filing;
use std::collections::{BTreeMap, BTreeSet};

use crate::filing::file;
use gridwatch_store::{OutboxKind, Store};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    File,
    /// The answer about one of the rows that may go: which (modulo their number), and what.
    Answer(usize, Answer),
    /// The connection ended.
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

/// What the platform has, and what was refused for good.
#[derive(Default)]
struct World {
    /// Pictures offered and taken (heard or not) since the case was last rewound.
    taken: BTreeMap<String, u32>,
    cases: BTreeSet<String>,
    held: BTreeSet<String>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..Default::default() })]
    #[test]
    fn nothing_is_lost_and_pictures_come_first(steps in prop::collection::vec(step(), 1..80)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let mut filed = Vec::new();
        let mut world = World::default();
        // Pictures that were delivered, per case: they are gone for good.
        let mut delivered: BTreeMap<String, u32> = BTreeMap::new();
        for step in steps {
            match step {
                Step::File => {
                    let n = u32::try_from(filed.len()).unwrap();
                    filed.push(file(&mut store, n));
                }
                Step::Reconnect => {
                    store.outbox_rewind().unwrap();
                    world.taken.clear();
                }
                Step::Release => {
                    store.outbox_release(None).unwrap();
                    world.held.clear();
                }
                Step::Answer(which, answer) => {
                    let rows = store.outbox_next(1000).unwrap();
                    for row in &rows {
                        prop_assert!(!world.held.contains(&row.case_id), "a quarantined case is not offered");
                        prop_assert!(!world.cases.contains(&row.case_id), "a delivered case is not offered");
                        if matches!(row.kind, OutboxKind::Case { .. }) {
                            let out = delivered.get(&row.case_id).unwrap_or(&0) + world.taken.get(&row.case_id).unwrap_or(&0);
                            prop_assert_eq!(out, 3, "a case waits for its pictures");
                        }
                    }
                    let Some(row) = rows.get(which % rows.len().max(1)) else { continue };
                    let case = matches!(row.kind, OutboxKind::Case { .. });
                    match answer {
                        Answer::Delivered => {
                            store.outbox_done(row.seq, filing::at(9999)).unwrap();
                            if case {
                                world.cases.insert(row.case_id.clone());
                            } else {
                                *delivered.entry(row.case_id.clone()).or_default() += 1;
                            }
                        }
                        Answer::Unheard if case => {
                            store.outbox_rewind().unwrap();
                            world.taken.clear();
                        }
                        Answer::Unheard => {
                            store.outbox_unheard(row.seq).unwrap();
                            *world.taken.entry(row.case_id.clone()).or_default() += 1;
                        }
                        Answer::Refused => {
                            store.outbox_quarantine(row.seq, "refused").unwrap();
                            world.taken.remove(&row.case_id);
                            world.held.insert(row.case_id.clone());
                        }
                    }
                }
            }
            // Every case is delivered or still in the outbox.
            for id in &filed {
                let file = store.case(id).unwrap().unwrap();
                prop_assert_eq!(world.cases.contains(id), file.queued == 0, "{}", id);
                prop_assert_eq!(world.held.contains(id), file.quarantined.is_some(), "{}", id);
            }
        }
        // In the end a broker that takes everything empties it.
        store.outbox_release(None).unwrap();
        store.outbox_rewind().unwrap();
        while let Some(row) = store.outbox_next(1).unwrap().into_iter().next() {
            store.outbox_done(row.seq, filing::at(9999)).unwrap();
        }
        prop_assert_eq!(store.outbox_depth().unwrap(), Default::default());
    }
}
