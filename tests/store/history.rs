//! What others write about a case has a limit: thousands of replies leave a short history and a small record.

use std::collections::BTreeSet;

use crate::filing::{at, case, evidence_item, file, form, picture_bytes, revision, zone};
use gridwatch_contract::{EvidenceRole, ReplyMessage};
use gridwatch_engine::{CaseState, Finding, Verified};
use gridwatch_store::{Store, evidence_file};

fn reply(case: &str, state: CaseState, reason: &str) -> ReplyMessage {
    ReplyMessage {
        case_id: case.into(),
        state,
        reason: Some(reason.into()),
        platform_task_no: None,
        at: None,
        due_at: None,
    }
}

#[test]
fn equal_replies_in_a_row_are_one_entry_with_a_count() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    for second in 0..50 {
        let again = reply(&id, CaseState::Accepted, "受理");
        store.apply_reply(&again, at(5000 + second), None, &form()).unwrap();
    }
    store
        .apply_reply(&reply(&id, CaseState::Accepted, "other"), at(6000), None, &form())
        .unwrap();
    let history = store.case(&id).unwrap().unwrap().history;
    let counts: Vec<_> = history.iter().map(|h| (h.times, h.omitted)).collect();
    assert_eq!(counts, [(1, 0), (50, 0), (1, 0)]);
    assert_eq!((history[1].at, history[1].last_at), (at(5000), Some(at(5049))));
}

#[test]
fn a_flood_of_replies_leaves_the_first_and_the_newest_and_counts_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let replies: u32 = 600;
    // A crew is dispatched and a verification is asked for, over and over, with the longest reason that is accepted.
    let words = "长".repeat(2000);
    for n in 0..replies {
        let state = [CaseState::Dispatched, CaseState::VerifyRequested][(n % 2) as usize];
        let second = 5000 + i64::from(n);
        let decided = revision(&id, state, second, &words);
        store
            .apply_reply(&reply(&id, state, &words), at(second), Some(&decided), &form())
            .unwrap();
    }
    let case = store.case(&id).unwrap().unwrap();
    let (history, record) = (&case.history, &case.record);
    assert_eq!(record.revision, replies + 1);
    let entries: u32 = history.iter().map(|h| h.times + h.omitted).sum();
    assert_eq!(entries, replies + 1, "all are counted");
    assert!(history.len() <= 200, "{}", history.len());
    assert_eq!(
        (history[0].state, history.last().unwrap().revision),
        (CaseState::Filed, replies + 1)
    );
    let entries: u32 = record.history.iter().map(|h| h.times + h.omitted).sum();
    assert_eq!(entries, replies + 1);
    let (first, last) = (&record.history[0], record.history.last().unwrap());
    assert_eq!((first.state, last.revision), (CaseState::Filed, replies + 1));
    let size = store.sealed_record(&id).unwrap().unwrap().len();
    assert!(size < 50_000, "the record has {size} bytes");
}

#[test]
fn short_reasons_do_not_make_the_record_long_either() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    for n in 0..100_u32 {
        let state = [CaseState::Dispatched, CaseState::VerifyRequested][(n % 2) as usize];
        store
            .revise(&revision(&id, state, 5000 + i64::from(n), ""), &form())
            .unwrap();
    }
    let record = store.case(&id).unwrap().unwrap().record;
    assert_eq!(record.history.len(), 40);
    assert_eq!(record.history[4].omitted, 61);
    assert_eq!(record.history.iter().map(|h| h.omitted).sum::<u32>(), 61);
}

#[test]
fn a_platform_that_asks_again_and_again_gets_the_newest_verifications() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    for n in 0..25_u32 {
        let second = 5000 + i64::from(n);
        let bytes = picture_bytes(100 + n, 0, 100);
        let sha256 = evidence_file::write(dir.path(), &bytes).unwrap();
        let after = evidence_item(1, EvidenceRole::After, bytes.len(), sha256);
        let answer = Verified {
            case: id.as_str().into(),
            camera: "gate".into(),
            bbox: case(1).confirmed_box,
            asked_at: at(second),
            at: at(second),
            is_look: true,
            finding: Finding::StillPresent,
            looks: 5,
            looks_seen: 5,
        };
        store
            .record_verification(&answer, vec![after], &zone(), &form())
            .unwrap();
    }
    let record = store.case(&id).unwrap().unwrap().record;
    assert_eq!((record.revision, record.verification.len()), (26, 20));
    let pictures: BTreeSet<&str> = record.evidence.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(pictures.len(), record.evidence.len());
    assert_eq!(
        pictures.len(),
        3 + 20 * 2,
        "those of the case, and two of each verification"
    );
    for verification in &record.verification {
        assert!(
            verification
                .evidence_ids
                .iter()
                .all(|id| pictures.contains(id.as_str()))
        );
    }
    assert_eq!(record.verification[19].evidence_ids, ["v25.1", "v25.2"]);
}
