//! Reviews of cases: the newest of each person counts, disagreement gives no label, and they survive a restore.

use crate::filing::{at, file, form, revision};
use gridwatch_engine::CaseState;
use gridwatch_store::{CaseQuery, Review, ReviewFilter, ReviewVerdict, Store, StoreError};
use rusqlite::Connection;

fn review(case: &str, reviewer: &str, verdict: ReviewVerdict, second: i64) -> Review {
    Review {
        case_id: case.into(),
        reviewer: reviewer.into(),
        verdict,
        duplicate_of: None,
        at: at(second),
    }
}

fn found(store: &Store, filter: ReviewFilter) -> Vec<String> {
    let query = CaseQuery {
        review: Some(filter),
        limit: 10,
        ..CaseQuery::default()
    };
    let cases = store.find_cases(&query).unwrap().into_iter();
    cases.map(|record| record.case_id).collect()
}

#[test]
fn labels_are_what_all_who_can_tell_agree_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let ids: Vec<String> = (1..=5).map(|n| file(&mut store, n)).collect();
    use ReviewVerdict::{Duplicate, False, True, Unsure};
    for (case, reviewer, verdict, second) in [
        (0, "wang", False, 1),
        (0, "wang", True, 2),
        (0, "li", Unsure, 3),
        (1, "wang", True, 4),
        (1, "li", False, 5),
        (2, "wang", Duplicate, 6),
        (2, "li", True, 7),
        (3, "wang", Unsure, 8),
    ] {
        assert!(
            store
                .set_review(&review(&ids[case], reviewer, verdict, second))
                .unwrap()
        );
    }
    let labels = store.review_labels().unwrap();
    let right: Vec<_> = labels.right.iter().map(|(id, right)| (id.clone(), *right)).collect();
    assert_eq!(right, [(ids[0].clone(), true), (ids[2].clone(), true)]);
    assert_eq!(labels.disputed.into_iter().collect::<Vec<_>>(), [ids[1].clone()]);
    assert_eq!(store.reviews_of(&ids[0]).unwrap().len(), 2, "one of each person");
    assert_eq!(store.reviews_by("wang", 1).unwrap()[0].case_id, ids[3]);

    assert_eq!(found(&store, ReviewFilter::NotByAnyone), [ids[4].clone()]);
    assert_eq!(
        found(&store, ReviewFilter::NotBy("li".into())),
        [ids[3].clone(), ids[4].clone()]
    );
    assert_eq!(found(&store, ReviewFilter::Disputed), [ids[1].clone()]);

    store
        .revise(&revision(&ids[0], CaseState::Rejected, 2000, "no"), &form())
        .unwrap();
    let progress = store.review_progress("li", None).unwrap();
    assert_eq!(
        (
            progress.cases,
            progress.by_person,
            progress.by_anyone,
            progress.disputed
        ),
        (5, 3, 4, 1)
    );
    let judged: Vec<_> = progress.judged.into_iter().collect();
    assert_eq!(
        judged,
        [((CaseState::Filed, true), 1), ((CaseState::Rejected, true), 1)]
    );
    let none = store.review_progress("li", Some(&["elsewhere".into()])).unwrap();
    assert_eq!((none.cases, none.by_anyone), (0, 0));

    assert!(
        !store
            .set_review(&review("01J0000000000000000000000", "li", True, 9))
            .unwrap()
    );
    let (removed, is_recorded) = store.remove_review(&ids[1], "li").unwrap().unwrap();
    assert_eq!((removed.verdict, is_recorded), (False, false));
    assert_eq!(store.remove_review(&ids[1], "li").unwrap(), None);
    assert!(store.review_labels().unwrap().disputed.is_empty());
}

#[test]
fn a_review_that_replaces_a_recorded_one_is_not_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    store.set_review(&review(&id, "wang", ReviewVerdict::True, 1)).unwrap();
    let first = store.unrecorded_reviews().unwrap();
    store.set_review(&review(&id, "wang", ReviewVerdict::False, 2)).unwrap();
    store.mark_reviews_recorded(&first).unwrap();
    let rest = store.unrecorded_reviews().unwrap();
    assert_eq!(rest.len(), 1, "replaced while the entry was written");
    store.mark_reviews_recorded(&rest).unwrap();
    assert_eq!(store.unrecorded_reviews().unwrap(), []);
    let (_, is_recorded) = store.remove_review(&id, "wang").unwrap().unwrap();
    assert!(is_recorded);
}

#[test]
fn reviews_after_a_backup_are_taken_over_when_it_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup.db");
    let state = dir.path().join("state");
    let mut store = Store::open(&state).unwrap();
    let (one, other) = (file(&mut store, 1), file(&mut store, 2));
    store
        .set_review(&review(&one, "wang", ReviewVerdict::False, 1))
        .unwrap();
    store.backup(&backup).unwrap();
    store.set_review(&review(&one, "wang", ReviewVerdict::True, 2)).unwrap();
    store
        .set_review(&review(&other, "li", ReviewVerdict::False, 3))
        .unwrap();
    // A case whose row is replaced by a newer revision keeps its reviews.
    store
        .revise(&revision(&one, CaseState::Accepted, 2000, "yes"), &form())
        .unwrap();
    let third = file(&mut store, 3);
    store.set_review(&review(&third, "li", ReviewVerdict::True, 4)).unwrap();
    drop(store);
    Store::restore(&state, &backup).unwrap();
    let labels = Store::open(&state).unwrap().review_labels().unwrap().right;
    assert_eq!(
        labels.into_iter().collect::<Vec<_>>(),
        [(one, true), (other, false), (third, true)]
    );
}

#[test]
fn a_database_of_an_older_version_has_no_reviews_and_takes_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    drop(store);
    let db = Connection::open(dir.path().join("gridwatch.db")).unwrap();
    db.execute_batch(crate::filing::WITHOUT_RECEIPTS).unwrap();
    db.execute_batch("DROP TABLE reviews; PRAGMA user_version = 5").unwrap();
    drop(db);
    let store = Store::open_read_only(dir.path()).unwrap();
    assert_eq!(store.reviews_of(&id).unwrap(), []);
    assert!(store.review_labels().unwrap().right.is_empty());
    assert_eq!(store.review_progress("li", None).unwrap().cases, 1);
    assert_eq!(found(&store, ReviewFilter::NotByAnyone), std::slice::from_ref(&id));
    assert_eq!(found(&store, ReviewFilter::Disputed), [] as [String; 0]);
    let mut store = Store::open_unlocked(dir.path()).unwrap();
    let refused = store.set_review(&review(&id, "li", ReviewVerdict::True, 1));
    assert!(
        matches!(refused, Err(StoreError::Older { found: 5, .. })),
        "{refused:?}"
    );
    drop(store);
    // The next start of the daemon migrates it.
    let mut store = Store::open(dir.path()).unwrap();
    assert!(store.set_review(&review(&id, "li", ReviewVerdict::True, 1)).unwrap());
}
