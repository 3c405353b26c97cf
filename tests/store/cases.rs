//! A case is committed completely or not at all; what happens to it later is kept in its history.

use crate::filing;
use crate::filing::{at, case, file, form, pictures, record, revision, unsealed};
use gridwatch_contract::{CaseRecord, ReplyMessage, ReportKind};
use gridwatch_engine::CaseState;
use gridwatch_store::{Filter, OutboxKind, ReplyOutcome, Store, StoreError, evidence_file};

fn reply(case: &str, state: CaseState) -> ReplyMessage {
    ReplyMessage {
        case_id: case.into(),
        state,
        reason: Some("不属实".into()),
        platform_task_no: Some("T-2026-0042".into()),
        at: None,
        due_at: None,
    }
}

#[test]
fn a_committed_case_is_complete_after_reopening_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let id = file(&mut Store::open(dir.path()).unwrap(), 1);

    let store = Store::open(dir.path()).unwrap();
    let found = store.case(&id).unwrap().expect("it was committed");
    assert!(found.record.signature.is_some() && found.record.prev_hash.is_some());
    assert_eq!(unsealed(&found.record), record(&case(1), pictures(dir.path(), 1)));
    assert_eq!(found.history.len(), 1);
    assert_eq!(found.queued, 4);
    for path in found.evidence.values() {
        assert!(path.is_file(), "{}", path.display());
    }
    let open = store.cases_to_restore(at(0)).unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].id.as_str(), open[0].state), (id.as_str(), CaseState::Filed));
    assert_eq!(
        (&open[0].located, open[0].bbox),
        (&case(1).located, case(1).confirmed_box)
    );
}

#[test]
fn pictures_are_sent_before_the_case_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    for _ in 0..3 {
        let rows = store.outbox_next(10, filing::at(9999)).unwrap();
        assert!(
            rows.iter().all(|r| matches!(r.kind, OutboxKind::Evidence { .. })),
            "{rows:?}"
        );
        store.outbox_acknowledged(rows[0].seq, filing::at(9999)).unwrap();
    }
    let rows = store.outbox_next(10, filing::at(9999)).unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let OutboxKind::Case { json } = &row.kind else {
        panic!("{row:?}")
    };
    assert_eq!(serde_json::from_str::<CaseRecord>(json).unwrap().case_id, id);
    store.outbox_acknowledged(row.seq, filing::at(9999)).unwrap();
    assert_eq!(store.outbox_depth().unwrap().waiting, 0);
}

#[test]
fn a_case_without_its_pictures_is_rejected_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut without = record(&case(1), Vec::new());
    let result = store.commit_case(&without, &case(1), &form());
    assert!(matches!(result, Err(StoreError::InvalidEvidence { .. })), "{result:?}");

    without.evidence = pictures(dir.path(), 1);
    std::fs::remove_file(evidence_file::path(dir.path(), &without.evidence[1].sha256)).unwrap();
    let result = store.commit_case(&without, &case(1), &form());
    assert!(matches!(result, Err(StoreError::InvalidEvidence { .. })), "{result:?}");
    assert!(store.cases(Filter::default()).unwrap().is_empty());
    assert_eq!(store.outbox_depth().unwrap().waiting, 0);
}

#[test]
fn committing_a_case_twice_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    file(&mut store, 1);
    let again = record(&case(1), pictures(dir.path(), 1));
    let result = store.commit_case(&again, &case(1), &form());
    assert!(matches!(result, Err(StoreError::CaseExists { .. })), "{result:?}");
    assert_eq!(store.outbox_depth().unwrap().waiting, 4);
}

#[test]
fn a_reply_is_recorded_and_not_echoed_to_the_platform() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let decided = revision(&id, CaseState::Rejected, 4000, "不属实");
    let message = reply(&id, CaseState::Rejected);
    let applied = store.apply_reply(&message, at(4000), Some(&decided), &form()).unwrap();
    assert_eq!(applied, ReplyOutcome::Revised(2));
    // The broker delivers at least once; the engine ignores the repeated reply.
    let applied = store.apply_reply(&message, at(4001), None, &form()).unwrap();
    assert_eq!(applied, ReplyOutcome::Noted);

    let found = store.case(&id).unwrap().unwrap();
    assert_eq!((found.record.state, found.record.revision), (CaseState::Rejected, 2));
    assert_eq!(found.record.platform_task_no.as_deref(), Some("T-2026-0042"));
    let entries: Vec<_> = found
        .history
        .iter()
        .map(|h| (h.author.as_str(), h.state, h.revision))
        .collect();
    assert_eq!(
        entries,
        [("box", CaseState::Filed, 1), ("platform", CaseState::Rejected, 2)]
    );
    assert_eq!((found.history[1].times, found.history[1].last_at), (2, Some(at(4001))));
    assert_eq!(found.queued, 4, "the outbox is unchanged");
}

#[test]
fn a_withdrawal_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    for _ in 0..4 {
        let seq = store.outbox_next(1, filing::at(9999)).unwrap()[0].seq;
        store.outbox_acknowledged(seq, filing::at(9999)).unwrap();
    }
    let number = store
        .revise(
            &revision(&id, CaseState::Withdrawn, 4000, "it was a parked car"),
            &form(),
        )
        .unwrap();
    assert_eq!(number, 2);
    let rows = store.outbox_next(10, filing::at(9999)).unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let OutboxKind::Case { json } = &row.kind else {
        panic!("{row:?}")
    };
    let sent: CaseRecord = serde_json::from_str(json).unwrap();
    assert_eq!(
        (sent.report_kind, sent.state, sent.revision),
        (ReportKind::Withdraw, CaseState::Withdrawn, 2)
    );
    assert_eq!(
        sent.history.last().unwrap().reason.as_deref(),
        Some("it was a parked car")
    );
}

#[test]
fn a_withdrawn_case_can_be_closed_and_its_history_names_the_authors() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let withdrawn = revision(&id, CaseState::Withdrawn, 4000, "its place was empty");
    store.revise(&withdrawn, &form()).unwrap();
    // A reply that crossed the withdrawal is recorded without effect.
    let crossed = reply(&id, CaseState::Accepted);
    let noted = store.apply_reply(&crossed, at(4001), None, &form()).unwrap();
    assert_eq!(noted, ReplyOutcome::Noted);
    let closed = revision(&id, CaseState::Closed, 4002, "");
    let closing = reply(&id, CaseState::Closed);
    let revised = store.apply_reply(&closing, at(4002), Some(&closed), &form()).unwrap();
    assert_eq!(revised, ReplyOutcome::Revised(3));

    let found = store.case(&id).unwrap().unwrap();
    let entries: Vec<_> = found
        .history
        .iter()
        .map(|h| (h.author.as_str(), h.state, h.revision))
        .collect();
    assert_eq!(
        entries,
        [
            ("box", CaseState::Filed, 1),
            ("box", CaseState::Withdrawn, 2),
            ("platform", CaseState::Accepted, 2),
            ("platform", CaseState::Closed, 3)
        ]
    );
    assert_eq!(found.history[1].reason.as_deref(), Some("its place was empty"));
    assert_eq!(found.queued, 5, "three pictures, the case and its withdrawal");
}

#[test]
fn open_cases_are_restored_and_closed_ones_for_a_limited_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let states = [
        CaseState::Dispatched,
        CaseState::Rejected,
        CaseState::Closed,
        CaseState::DuplicateOf,
        CaseState::Withdrawn,
    ];
    for (n, state) in (1..).zip(states) {
        let id = file(&mut store, n);
        let decided = revision(&id, state, 5000, "");
        if state == CaseState::Withdrawn {
            store.revise(&decided, &form()).unwrap();
        } else {
            let message = reply(&id, state);
            store.apply_reply(&message, at(5000), Some(&decided), &form()).unwrap();
        }
    }
    const DAY: i64 = 24 * 3600;
    let restored = |days: i64| -> Vec<_> {
        let now = at(5000 + days * DAY);
        store
            .cases_to_restore(now)
            .unwrap()
            .into_iter()
            .map(|c| c.state)
            .collect()
    };
    use CaseState::{Closed, Dispatched, DuplicateOf, Rejected, Withdrawn};
    assert_eq!(restored(1), [Dispatched, Rejected, Closed, DuplicateOf, Withdrawn]);
    assert_eq!(restored(2), [Dispatched, Rejected, Closed, Withdrawn]);
    assert_eq!(restored(8), [Dispatched, Rejected]);
    assert_eq!(restored(31), [Dispatched]);
}

#[test]
fn a_reply_about_an_unknown_case_is_an_error_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let unknown = "01JW0000000000000000000000";
    let result = store.apply_reply(&reply(unknown, CaseState::Accepted), at(0), None, &form());
    assert!(matches!(result, Err(StoreError::UnknownCase { .. })), "{result:?}");
}

#[test]
fn the_list_filters_by_state_and_counts_queued_messages() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (first, second) = (file(&mut store, 1), file(&mut store, 2));
    store
        .revise(&revision(&first, CaseState::Accepted, 5000, ""), &form())
        .unwrap();
    let reader = Store::open_read_only(dir.path()).unwrap();
    let filed = reader
        .cases(Filter {
            state: Some(CaseState::Filed),
            limit: 10,
        })
        .unwrap();
    assert_eq!(filed.len(), 1);
    assert_eq!((filed[0].case_id.as_str(), filed[0].queued), (second.as_str(), 4));
    assert_eq!(reader.cases(Filter::default()).unwrap().len(), 2);
    assert_eq!(reader.case_ids(&first[..9]).unwrap().len(), 2);
    assert_eq!(reader.case_ids(&first).unwrap(), [first]);
}

#[test]
fn a_second_daemon_on_the_same_state_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let second = store.outbox_handle().unwrap();
    drop(store);
    let result = Store::open(dir.path());
    assert!(matches!(result, Err(StoreError::Busy { .. })), "{result:?}");
    drop(second);
    assert!(Store::open(dir.path()).is_ok());
}

#[test]
fn reading_an_empty_state_directory_fails_and_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let result = Store::open_read_only(dir.path());
    assert!(matches!(result, Err(StoreError::Missing { .. })), "{result:?}");
    assert!(
        std::fs::read_dir(dir.path()).unwrap().next().is_none(),
        "nothing was created"
    );
}

#[test]
fn a_snapshot_survives_reopening_and_an_unreadable_one_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.load_snapshot().unwrap(), None);
    let snapshot = gridwatch_engine::Engine::new().snapshot();
    for second in [0, 60] {
        store.save_snapshot(at(second), &snapshot).unwrap();
    }
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.load_snapshot().unwrap(), Some(snapshot));
    drop(store);
    let db = rusqlite::Connection::open(dir.path().join("gridwatch.db")).unwrap();
    db.execute("UPDATE engine_state SET snapshot = '{\"cameras\": 7}'", [])
        .unwrap();
    drop(db);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.load_snapshot().unwrap(), None);
    let moved = std::fs::read_to_string(dir.path().join("engine-state.unreadable.json")).unwrap();
    assert_eq!(moved, "{\"cameras\": 7}");
    assert_eq!(store.load_snapshot().unwrap(), None, "once");
}
