//! With receipts of the platform: a message stays until its receipt, a missing picture is sent again, and receipts may come late, twice and in any order.

use jiff::{SignedDuration, Timestamp};

use crate::filing::{self, at, form, revision};
use gridwatch_contract::{PlatformMessage, ReceiptMessage};
use gridwatch_engine::CaseState;
use gridwatch_store::{OutboxKind, OutboxState, ReceiptOutcome, ResendDelays, Resent, Store, evidence_file};

const NOON: i64 = 10_000;

fn receipt(case: &str, revision: u32, missing: &[&str]) -> ReceiptMessage {
    ReceiptMessage {
        case_id: case.into(),
        revision,
        missing: missing.iter().map(|&sha256| sha256.into()).collect(),
    }
}

/// Sends all that may be sent at `now`, with the broker's acknowledgement; returns what it was: the hash of a picture, or `case`.
fn send(store: &mut Store, now: Timestamp) -> Vec<String> {
    let mut sent = Vec::new();
    while let Some(row) = store.outbox_next(1, now).unwrap().into_iter().next() {
        sent.push(match row.kind {
            OutboxKind::Evidence { sha256 } => sha256,
            OutboxKind::Case { .. } => "case".into(),
        });
        store.outbox_sent(row.seq, now).unwrap();
        assert!(sent.len() < 50, "it is sent for ever");
    }
    sent
}

fn states(store: &Store) -> Vec<OutboxState> {
    let entries = store.outbox_entries(false, 100).unwrap();
    entries.iter().map(gridwatch_store::OutboxEntry::state).collect()
}

#[test]
fn a_case_stays_until_its_receipt_and_its_record_is_sent_again_later_and_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = filing::file(&mut store, 1);
    let sent = send(&mut store, at(NOON));
    assert_eq!((sent.len(), sent[3].as_str()), (4, "case"));
    assert_eq!(states(&store), [OutboxState::Sent; 4]);
    let depth = store.outbox_depth().unwrap();
    assert_eq!((depth.waiting, depth.sent, depth.awaiting_receipt()), (0, 4, 4));
    assert!(depth.unreceived_since.is_some());

    // The record alone, after 2, 8 and 32 minutes.
    let mut second = NOON;
    for minutes in [2, 8, 32] {
        assert_eq!(send(&mut store, at(second + minutes * 60 - 1)), [""; 0]);
        second += minutes * 60;
        assert_eq!(send(&mut store, at(second)), ["case"]);
    }

    let outcome = store
        .record_receipt(&receipt(&id, 1, &[]), &form(), at(second))
        .unwrap();
    assert_eq!(outcome, ReceiptOutcome::Received { messages: 4 });
    assert_eq!(states(&store), []);
    let received = store.case(&id).unwrap().unwrap().received.unwrap();
    assert_eq!((received.revision, received.at), (1, at(second)));
    // Once more, and one that comes late.
    let outcome = store
        .record_receipt(&receipt(&id, 1, &[]), &form(), at(second))
        .unwrap();
    assert_eq!(outcome, ReceiptOutcome::Received { messages: 0 });
    assert_eq!(store.outbox_depth().unwrap().unreceived_since, None);
}

#[test]
fn missing_pictures_are_sent_again_before_the_record_and_not_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = filing::file(&mut store, 1);
    let pictures = send(&mut store, at(NOON));
    let missing = receipt(&id, 1, &[&pictures[1]]);
    let outcome = store.record_receipt(&missing, &form(), at(NOON)).unwrap();
    assert_eq!(outcome, ReceiptOutcome::Missing { pictures: 1 });
    assert_eq!(
        states(&store),
        [OutboxState::Missing, OutboxState::Sent],
        "the others arrived"
    );
    assert_eq!(send(&mut store, at(NOON)), [pictures[1].as_str(), "case"]);
    // A platform that keeps asking waits.
    store.record_receipt(&missing, &form(), at(NOON)).unwrap();
    assert_eq!(send(&mut store, at(NOON + 119)), [""; 0]);
    assert_eq!(send(&mut store, at(NOON + 120)), [pictures[1].as_str(), "case"]);
    store.record_receipt(&receipt(&id, 1, &[]), &form(), at(NOON)).unwrap();
    assert_eq!(states(&store), []);

    // It had it, and lost it: record and picture come once more.
    let outcome = store
        .record_receipt(&receipt(&id, 1, &[&pictures[0]]), &form(), at(NOON))
        .unwrap();
    assert_eq!(outcome, ReceiptOutcome::Missing { pictures: 1 });
    assert_eq!(send(&mut store, at(NOON)), [pictures[0].as_str(), "case"]);
}

#[test]
fn a_picture_that_is_not_of_the_case_or_not_kept_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = filing::file(&mut store, 1);
    let pictures = send(&mut store, at(NOON));
    std::fs::remove_file(evidence_file::path(dir.path(), &pictures[2])).unwrap();
    let foreign = "0".repeat(64);
    let outcome = store
        .record_receipt(&receipt(&id, 1, &[&foreign, &pictures[2]]), &form(), at(NOON))
        .unwrap();
    assert_eq!(outcome, ReceiptOutcome::Received { messages: 4 });
}

#[test]
fn a_later_revision_waits_for_a_receipt_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = filing::file(&mut store, 1);
    send(&mut store, at(NOON));
    let withdrawn = revision(&id, CaseState::Withdrawn, NOON, "gone");
    assert_eq!(store.revise(&withdrawn, &form()).unwrap(), 2);
    // The first one's receipt is late: the second is sent nevertheless, and stays after it.
    assert_eq!(send(&mut store, at(NOON)), ["case"]);
    store.record_receipt(&receipt(&id, 1, &[]), &form(), at(NOON)).unwrap();
    assert_eq!(states(&store), [OutboxState::Sent]);
    let outcome = store.record_receipt(&receipt(&id, 2, &[]), &form(), at(NOON)).unwrap();
    assert_eq!(outcome, ReceiptOutcome::Received { messages: 1 });
    // In the other order.
    let outcome = store.record_receipt(&receipt(&id, 1, &[]), &form(), at(NOON)).unwrap();
    assert_eq!(outcome, ReceiptOutcome::Received { messages: 0 });
    assert_eq!(states(&store), []);
}

#[test]
fn receipts_for_what_this_box_does_not_have_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = filing::file(&mut store, 1);
    send(&mut store, at(NOON));
    let mut outcome = |receipt| store.record_receipt(&receipt, &form(), at(NOON)).unwrap();
    assert_eq!(
        outcome(receipt("01KQGKEW01000000000000ZZZZ", 1, &[])),
        ReceiptOutcome::UnknownCase
    );
    assert_eq!(
        outcome(receipt(&id, 2, &[])),
        ReceiptOutcome::UnknownRevision { newest: 1 }
    );
    assert_eq!(states(&store).len(), 4);
}

#[test]
fn a_restarted_platform_or_a_clock_that_was_set_back_gets_the_records_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    filing::file(&mut store, 1);
    send(&mut store, at(NOON));
    assert_eq!(store.outbox_make_due(at(NOON + 1)).unwrap(), 1);
    assert_eq!(send(&mut store, at(NOON + 1)), ["case"]);
    // Two days earlier, the record would not be due for two days.
    assert_eq!(send(&mut store, at(NOON - 2 * 86_400)), ["case"]);
}

#[test]
fn without_receipts_any_more_what_the_broker_acknowledged_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    filing::file(&mut store, 1);
    send(&mut store, at(NOON));
    filing::file(&mut store, 2);
    assert_eq!(store.outbox_settle_sent().unwrap(), 4);
    assert_eq!(
        states(&store),
        [OutboxState::Queued; 4],
        "the second one was not acknowledged"
    );
}

#[test]
fn cases_are_sent_again_to_a_platform_that_was_restored_from_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let ids = [filing::file(&mut store, 1), filing::file(&mut store, 2)];
    let pictures = send(&mut store, at(NOON));
    for id in &ids {
        store.record_receipt(&receipt(id, 1, &[]), &form(), at(NOON)).unwrap();
    }
    store
        .revise(&revision(&ids[1], CaseState::Withdrawn, 50_000, "gone"), &form())
        .unwrap();
    let none = store.outbox_resend(at(60_000), &form(), at(NOON)).unwrap();
    assert_eq!(none, Resent::default());
    // The second changed since; its picture was deleted for its age.
    std::fs::remove_file(evidence_file::path(dir.path(), &pictures[4])).unwrap();
    let again = store.outbox_resend(at(50_000), &form(), at(NOON)).unwrap();
    assert_eq!((again.cases, again.pictures, again.gone), (1, 2, 1));
    let sent = send(&mut store, at(NOON));
    assert_eq!((sent.len(), sent[2].as_str()), (3, "case"));
    let all = store.outbox_resend(at(0), &form(), at(NOON)).unwrap();
    assert_eq!(all.cases, 2);
    assert_eq!(send(&mut store, at(NOON)).len(), 4 + 3);
}

#[test]
fn cases_whose_receipt_came_after_the_backup_are_sent_again_however_old_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let ids: Vec<String> = (1..=3).map(|n| filing::file(&mut store, n)).collect();
    send(&mut store, at(NOON));
    // All were filed long before the backup. One was received before it, one after it, and one not yet.
    store
        .record_receipt(&receipt(&ids[0], 1, &[]), &form(), at(NOON))
        .unwrap();
    store
        .record_receipt(&receipt(&ids[1], 1, &[]), &form(), at(NOON + 60))
        .unwrap();
    let resent = store.outbox_resend(at(NOON + 30), &form(), at(NOON + 90)).unwrap();
    assert_eq!((resent.cases, resent.pictures), (2, 6));
    let queued = store.outbox_entries(false, 100).unwrap();
    assert!(queued.iter().all(|entry| entry.case_id != ids[0]));
    assert_eq!(states(&store), [OutboxState::Queued; 8]);

    // Received once more, after another backup.
    send(&mut store, at(NOON + 100));
    for id in &ids[1..] {
        store
            .record_receipt(&receipt(id, 1, &[]), &form(), at(NOON + 120))
            .unwrap();
    }
    assert_eq!(
        store
            .outbox_resend(at(NOON + 110), &form(), at(NOON + 130))
            .unwrap()
            .cases,
        2
    );
}

#[test]
fn a_picture_that_is_sent_again_after_the_backup_has_its_case_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = filing::file(&mut store, 1);
    let pictures = send(&mut store, at(NOON));
    store.record_receipt(&receipt(&id, 1, &[]), &form(), at(NOON)).unwrap();
    store
        .record_receipt(&receipt(&id, 1, &[&pictures[0]]), &form(), at(NOON + 60))
        .unwrap();
    send(&mut store, at(NOON + 60));
    store
        .record_receipt(&receipt(&id, 1, &[]), &form(), at(NOON + 60))
        .unwrap();
    assert_eq!(states(&store), []);
    assert_eq!(
        store
            .outbox_resend(at(NOON + 30), &form(), at(NOON + 90))
            .unwrap()
            .cases,
        1
    );
}

#[test]
fn a_receipt_from_before_a_resend_does_not_count_for_what_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = filing::file(&mut store, 1);
    send(&mut store, at(NOON));
    store.record_receipt(&receipt(&id, 1, &[]), &form(), at(NOON)).unwrap();
    store.outbox_resend(at(0), &form(), at(NOON)).unwrap();
    // Late, or repeated.
    let outcome = store.record_receipt(&receipt(&id, 1, &[]), &form(), at(NOON)).unwrap();
    assert_eq!(outcome, ReceiptOutcome::Received { messages: 0 });
    assert_eq!(states(&store), [OutboxState::Queued; 4]);
    assert_eq!(store.case(&id).unwrap().unwrap().received, None);
    assert_eq!(send(&mut store, at(NOON)).len(), 4);
    let outcome = store.record_receipt(&receipt(&id, 1, &[]), &form(), at(NOON)).unwrap();
    assert_eq!(outcome, ReceiptOutcome::Received { messages: 4 });
}

#[test]
fn a_receipt_ends_the_quarantine_of_a_case_that_arrived_nevertheless() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = filing::file(&mut store, 1);
    let record = store.outbox_entries(false, 10).unwrap().pop().unwrap();
    store
        .outbox_quarantine(record.seq, "it closes every connection")
        .unwrap();
    let outcome = store.record_receipt(&receipt(&id, 1, &[]), &form(), at(NOON)).unwrap();
    assert_eq!(outcome, ReceiptOutcome::Received { messages: 4 });
}

#[test]
fn the_delays_before_a_record_is_sent_again_can_be_set() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    store.set_resend_delays(ResendDelays {
        first: SignedDuration::from_secs(3),
        longest: SignedDuration::from_secs(5),
    });
    filing::file(&mut store, 1);
    let mut link = store.outbox_handle().unwrap();
    send(&mut link, at(NOON));
    let mut second = NOON;
    for seconds in [3, 5, 5] {
        assert_eq!(send(&mut link, at(second + seconds - 1)), [""; 0]);
        second += seconds;
        assert_eq!(send(&mut link, at(second)), ["case"]);
    }
}

#[test]
fn the_announcement_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let announced = PlatformMessage {
        schema_version: 1,
        receipts: true,
        name: "hub".into(),
        since: None,
    };
    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!(store.platform().unwrap(), None);
    store.set_platform(&announced).unwrap();
    drop(store);
    assert_eq!(Store::open(dir.path()).unwrap().platform().unwrap(), Some(announced));
}
