//! The chain in an exported case: it tells nothing of other cases, nothing can be left out of it, and it shows whether the box was set back.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use gridwatch_base::{digest::sha256_hex, person::Person};
use gridwatch_custody::{
    Signer, SigningKey,
    chain::{CaseLines, ChainEntry, ChainHead, CustodyEvent, Details, START, SaltedEvent},
    keys::KeyRing,
    unseal,
};
use gridwatch_engine::CaseState;
use gridwatch_store::Store;
use serde_json::{Value, json};

use crate::filing::{self, at};

struct ChainBox {
    dir: tempfile::TempDir,
    /// Cases 1 to 3; the second was withdrawn.
    cases: Vec<String>,
}

impl ChainBox {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("state")).unwrap();
        let cases: Vec<String> = (1..4).map(|n| filing::file(&mut store, n)).collect();
        let back = filing::revision(&cases[1], CaseState::Withdrawn, 90_000, "gone");
        store.revise(&back, &filing::form()).unwrap();
        Self { dir, cases }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn key(&self) -> Arc<dyn Signer> {
        KeyRing::of(&self.state()).existing().unwrap()
    }

    fn export(&self, case: &str, out: &str, more: &[&str]) -> PathBuf {
        let out = self.dir.path().join(out);
        let output = gridwatch()
            .args(["cases", "export", case, "--state"])
            .arg(self.state())
            .arg("--out")
            .arg(&out)
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        out.join(case)
    }

    /// Exit code and standard output of `evidence verify` with the box's key.
    fn verify(&self, folder: &Path, more: &[&str]) -> (Option<i32>, String) {
        let output = self.try_to_verify(folder, more);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    fn try_to_verify(&self, folder: &Path, more: &[&str]) -> Output {
        gridwatch()
            .args(["evidence", "verify", "--key", &self.key().public().to_string()])
            .arg(folder)
            .args(more)
            .output()
            .unwrap()
    }

    /// The member `chain` of a health message.
    fn head(&self) -> String {
        let store = Store::open(&self.state()).unwrap();
        let (head, signature) = store.signed_chain_head(filing::NODE, at(100_000)).unwrap().unwrap();
        json!({"head": head, "signature": signature}).to_string()
    }
}

fn gridwatch() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gridwatch"));
    command.env_remove("GRIDWATCH_STATE");
    command
}

/// SHA256SUMS as a forger writes it.
fn renew_sums(folder: &Path) {
    let line = "find . -type f ! -name SHA256SUMS -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum > SHA256SUMS";
    let done = Command::new("sh").args(["-c", line]).current_dir(folder).status();
    assert!(done.unwrap().success());
}

fn lines(folder: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn write_lines(folder: &Path, name: &str, lines: &[String]) {
    fs::write(folder.join(name), lines.join("\n") + "\n").unwrap();
}

/// All text in the folder.
fn text_of(folder: &Path) -> String {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter_map(|path| fs::read_to_string(path).ok());
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn an_export_tells_nothing_of_other_cases_and_of_no_reason_or_person() {
    let own = ChainBox::new();
    let [first, second, third] = &own.cases[..] else {
        panic!("three cases")
    };
    let mut details = Details::new(Person::current()).unwrap();
    details.reason = Some("complaint of resident Zhang".into());
    let mut store = Store::open(&own.state()).unwrap();
    for case in [first, second] {
        store.record_originals_opened(case, &[], &details, at(95_000)).unwrap();
    }
    drop(store);
    own.export(second, "before", &[]);
    let folder = own.export(first, "out", &[]);
    assert_eq!(own.verify(&folder, &[]).0, Some(0));
    let text = text_of(&folder);
    let record = Store::open(&own.state())
        .unwrap()
        .sealed_record(second)
        .unwrap()
        .unwrap();
    let sha256 = sha256_hex(unseal(&record).unwrap().0.as_bytes());
    for secret in [second, third, "Zhang", "withdrawn", "retry", &sha256] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    // The hash of an event cannot be found by guessing, although all of its members are known.
    let guess = CustodyEvent::Case {
        case_id: second.clone(),
        revision: 2,
        sha256,
    };
    assert!(!text.contains(&sha256_hex(serde_json::to_string(&guess).unwrap().as_bytes())));
    // Its own events are there, and that its originals were opened.
    let events = lines(&folder, "events.jsonl");
    assert_eq!(events.iter().filter(|event| event.contains(first.as_str())).count(), 2);
    // Who opened them and why can be shown to be what the box recorded, if the box is told to show it.
    let acts = gridwatch()
        .args(["audit", "--json", "--case", first, "--state"])
        .arg(own.state())
        .output()
        .unwrap();
    assert!(String::from_utf8(acts.stdout).unwrap().contains("resident Zhang"));
}

#[test]
fn headers_that_were_dropped_reordered_or_replaced_do_not_hold() {
    let own = ChainBox::new();
    let folder = own.export(&own.cases[0], "out", &[]);
    let chain = lines(&folder, "chain.jsonl");
    assert_eq!(chain.len(), 4, "filed three times, withdrawn once");
    let without = |i: usize| [&chain[..i], &chain[i + 1..]].concat();
    let mut swapped = chain.clone();
    swapped.swap(1, 2);
    let mut copied = chain.clone();
    copied[2].clone_from(&chain[1]);
    let mut changed = chain.clone();
    changed[2] = chain[2].replace("\"at\":\"2026", "\"at\":\"2027");
    assert_ne!(changed, chain);
    let mut withheld = chain.clone();
    withheld[2] = json!({"v": 1, "seq": 3, "withheld": sha256_hex(chain[1].as_bytes())}).to_string();
    // With its true hash, which the next line confirms.
    let mut hidden = chain.clone();
    hidden[2] = json!({"v": 1, "seq": seq_of(&chain[2]), "withheld": sha256_hex(chain[2].as_bytes())}).to_string();
    for forged in [
        hidden,
        without(1),
        without(2),
        without(3),
        swapped,
        copied,
        changed,
        withheld,
    ] {
        write_lines(&folder, "chain.jsonl", &forged);
        renew_sums(&folder);
        let (code, text) = own.verify(&folder, &[]);
        assert_eq!(code, Some(1), "{forged:#?}");
        assert!(text.contains("WRONG  chain.jsonl"), "{text}");
    }
    write_lines(&folder, "chain.jsonl", &chain);
    renew_sums(&folder);
    assert_eq!(own.verify(&folder, &[]).0, Some(0));
}

/// The newest event of a case is left out, and its older record put in the place of the newest.
#[test]
fn an_older_record_cannot_pass_for_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&dir.path().join("state")).unwrap();
    let case = filing::file(&mut store, 1);
    drop(store);
    let own = ChainBox {
        dir,
        cases: vec![case.clone()],
    };
    let older = own.export(&case, "older", &[]);
    let back = filing::revision(&case, CaseState::Withdrawn, 90_000, "gone");
    Store::open(&own.state())
        .unwrap()
        .revise(&back, &filing::form())
        .unwrap();
    let folder = own.export(&case, "newer", &[]);
    for name in ["case.json", "case.sig"] {
        fs::copy(older.join(name), folder.join(name)).unwrap();
    }
    let events = lines(&folder, "events.jsonl");
    let kept: Vec<String> = events
        .iter()
        .filter(|event| !event.contains("\"revision\":2"))
        .cloned()
        .collect();
    assert_eq!(kept.len() + 1, events.len());
    write_lines(&folder, "events.jsonl", &kept);
    renew_sums(&folder);
    let (code, text) = own.verify(&folder, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("some were taken out") && text.contains("events about the case were taken out"),
        "{text}"
    );

    // Root has the key, and signs that there are fewer: the headers still show it.
    let chain = lines(&folder, "chain.jsonl");
    let filed = chain.iter().find(|line| line.contains("\"seq\":1,")).unwrap();
    sign_lines_of_case(&own, &folder, &[filed]);
    renew_sums(&folder);
    let (code, text) = own.verify(&folder, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("events about the case were taken out: those of the entries 3\n"),
        "{text}"
    );
}

/// Root states, with the box's key, that these are the only lines about the case.
fn sign_lines_of_case(own: &ChainBox, folder: &Path, of_case: &[&String]) {
    let text = fs::read_to_string(folder.join("head.json")).unwrap();
    let mut head: ChainHead = serde_json::from_str(&text).unwrap();
    let hashes: Vec<String> = of_case.iter().map(|line| sha256_hex(line.as_bytes())).collect();
    let case = head.case.as_ref().unwrap().case_id.clone();
    head.case = Some(CaseLines::of(&case, hashes.iter().map(String::as_str), 0));
    let head = serde_json::to_string(&head).unwrap();
    let signature = BASE64.decode(own.key().sign(head.as_bytes()).unwrap()).unwrap();
    fs::write(folder.join("head.json"), head).unwrap();
    fs::write(folder.join("head.sig"), signature).unwrap();
}

/// A health message has a signed head of every minute. With the record of that minute, it would make an export that ends before the case did.
#[test]
fn the_head_of_a_health_message_is_no_head_of_an_export() {
    let own = ChainBox::new();
    let folder = own.export(&own.cases[0], "out", &[]);
    let stated: Value = serde_json::from_str(&own.head()).unwrap();
    let head = stated["head"].as_str().unwrap();
    fs::write(folder.join("head.json"), head).unwrap();
    let signature = BASE64.decode(stated["signature"].as_str().unwrap()).unwrap();
    fs::write(folder.join("head.sig"), signature).unwrap();
    renew_sums(&folder);
    let (code, text) = own.verify(&folder, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("not the end of the chain that an export was made with"),
        "{text}"
    );
}

#[test]
fn an_export_that_does_not_begin_with_the_first_revision_says_so() {
    let own = ChainBox::new();
    let folder = own.export(&own.cases[1], "out", &[]);
    assert!(!own.verify(&folder, &[]).1.contains("NOTE"));
    let (chain, events) = (lines(&folder, "chain.jsonl"), lines(&folder, "events.jsonl"));
    assert_eq!((chain.len(), events.len()), (3, 2));
    write_lines(&folder, "chain.jsonl", &chain[1..]);
    write_lines(&folder, "events.jsonl", &events[1..]);
    sign_lines_of_case(&own, &folder, &[&chain[2]]);
    renew_sums(&folder);
    let (code, text) = own.verify(&folder, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("NOTE   the chain in the folder begins with revision 2 of the case"),
        "{text}"
    );
}

#[test]
fn the_chain_continues_from_what_the_platform_received() {
    let own = ChainBox::new();
    let head = own.head();
    let health = own.dir.path().join("health.json");
    let message: Value = serde_json::from_str(&head).unwrap();
    fs::write(&health, json!({"schema_version": 1, "chain": message}).to_string()).unwrap();
    let record = Store::open(&own.state())
        .unwrap()
        .sealed_record(&own.cases[2])
        .unwrap()
        .unwrap();
    let record_file = own.dir.path().join("case.json");
    fs::write(&record_file, &record).unwrap();
    let earlier = own.export(&own.cases[0], "earlier", &[]).join("head.json");
    filing::file(&mut Store::open(&own.state()).unwrap(), 4);
    let folder = own.export(&own.cases[0], "out", &[]);
    for since in [
        head.as_str(),
        health.to_str().unwrap(),
        record_file.to_str().unwrap(),
        record.as_str(),
        earlier.to_str().unwrap(),
    ] {
        let (code, text) = own.verify(&folder, &["--since", since]);
        assert_eq!(code, Some(0), "{since}: {text}");
        assert!(text.contains("Chain  continues from entry"), "{text}");
    }

    // The chain in the folder begins with its case: it is exported again, from the line that the head names.
    let fourth = filing::file(&mut Store::open(&own.state()).unwrap(), 5);
    let late = own.export(&fourth, "late", &[]);
    let (code, text) = own.verify(&late, &["--since", &head]);
    assert_eq!(code, Some(7), "{text}");
    assert!(
        text.contains("not compared with --since") && text.contains("cases export CASE --out DIR --since 4"),
        "{text}"
    );
    // The case's own first record names the line before it.
    let first = Store::open(&own.state())
        .unwrap()
        .sealed_record(&fourth)
        .unwrap()
        .unwrap();
    let (code, text) = own.verify(&late, &["--since", &first]);
    assert_eq!(code, Some(0), "{text}");
    let late = own.export(&fourth, "longer", &["--since", "4"]);
    assert_eq!(own.verify(&late, &["--since", &head]).0, Some(0));
}

#[test]
fn a_box_that_was_set_back_or_whose_chain_was_rewritten_is_noticed() {
    let own = ChainBox::new();
    let backup = own.dir.path().join("backup");
    copy(&own.state(), &backup);
    let mut store = Store::open(&own.state()).unwrap();
    let fourth = filing::file(&mut store, 4);
    drop(store);
    let head = own.head();
    let record = Store::open(&own.state())
        .unwrap()
        .sealed_record(&fourth)
        .unwrap()
        .unwrap();
    filing::file(&mut Store::open(&own.state()).unwrap(), 5);
    let good = own.export(&own.cases[0], "good", &[]);
    for since in [&head, &record] {
        assert_eq!(own.verify(&good, &["--since", since]).0, Some(0));
    }

    // Root puts the directory of yesterday back.
    fs::remove_dir_all(own.state()).unwrap();
    copy(&backup, &own.state());
    let folder = own.export(&own.cases[0], "back", &[]);
    assert_eq!(own.verify(&folder, &[]).0, Some(0), "it is sound in itself");
    let (code, text) = own.verify(&folder, &["--since", &head]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("set back to an earlier state"), "{text}");

    // And lets it grow again, beyond the line that the platform knows.
    let mut store = Store::open(&own.state()).unwrap();
    for n in 6..9 {
        filing::file(&mut store, n);
    }
    drop(store);
    let newer = own.head();
    let folder = own.export(&own.cases[0], "rewritten", &[]);
    assert_eq!(own.verify(&folder, &[]).0, Some(0), "it is sound in itself");
    for since in [&head, &newer] {
        let (code, text) = own.verify(&folder, &["--since", since]);
        assert_eq!(code == Some(0), since != &head, "{text}");
        assert!(since != &head || text.contains("the chain was rewritten"), "{text}");
    }
}

#[test]
fn a_head_that_the_box_did_not_sign_is_refused() {
    let own = ChainBox::new();
    let folder = own.export(&own.cases[0], "out", &[]);
    let head = own.head();
    let (_, stranger) = SigningKey::generate().unwrap();
    let mut forged: Value = serde_json::from_str(&head).unwrap();
    let text = forged["head"].as_str().unwrap().to_owned();
    forged["signature"] = stranger.sign(text.as_bytes()).trim().into();
    let (code, output) = own.verify(&folder, &["--since", &forged.to_string()]);
    assert_eq!(code, Some(1));
    assert!(output.contains("not signed by this box"), "{output}");
    let other: Value = json!({"head": text.replace("box-7", "box-8"), "signature": forged["signature"]});
    assert!(
        own.verify(&folder, &["--since", &other.to_string()])
            .1
            .contains("is of box \"box-8\"")
    );
    let sm2 = json!({"head": text.replace("ed25519", "sm2-sm3"), "signature": forged["signature"]}).to_string();
    for (since, fault) in [
        ("{}", "expected a health message"),
        ("{\"case_id\":\"x\"}", "not a case record"),
        ("/dev/zero", "not a regular file"),
        ("/nonexistent/head.json", "No such file"),
        (&sm2, "unknown signature algorithm \"sm2-sm3\""),
    ] {
        let output = own.try_to_verify(&folder, &["--since", since]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{since}: {message}");
        assert!(message.contains("--since") && message.contains(fault), "{message}");
    }
}

/// A box whose chain was written by an older version: each line contains its event.
fn rewrite_in_the_first_format(own: &ChainBox) {
    let key = own.key();
    let db = rusqlite::Connection::open(own.state().join("gridwatch.db")).unwrap();
    let mut query = db.prepare("SELECT seq, line, event FROM chain ORDER BY seq").unwrap();
    let rows: Vec<(u64, String, String)> = query
        .query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut prev = START.to_owned();
    for (seq, line, event) in rows {
        let line: Value = serde_json::from_str(&line).unwrap();
        let mut event = serde_json::from_str::<SaltedEvent>(&event).unwrap().event;
        if let CustodyEvent::Case {
            case_id,
            revision,
            sha256,
        } = &mut event
        {
            let sealed: String = db
                .query_row("SELECT record FROM cases WHERE id = ?1", [&*case_id], |row| row.get(0))
                .unwrap();
            let mut record: gridwatch_contract::CaseRecord = serde_json::from_str(&sealed).unwrap();
            if record.revision == *revision {
                (record.prev_hash, record.prev_seq, record.signature) = (Some(prev.clone()), None, None);
                let body = serde_json::to_string(&record).unwrap();
                *sha256 = sha256_hex(body.as_bytes());
                db.execute(
                    "UPDATE cases SET record = ?2 WHERE id = ?1",
                    [&*case_id, &gridwatch_custody::seal(&*key, &body).unwrap()],
                )
                .unwrap();
            }
        }
        let entry = ChainEntry {
            seq,
            at: line["at"].as_str().unwrap().parse().unwrap(),
            event,
            prev,
        };
        let line = serde_json::to_string(&entry).unwrap();
        prev = sha256_hex(line.as_bytes());
        db.execute(
            "UPDATE chain SET line = ?2, hash = ?3, event = NULL WHERE seq = ?1",
            rusqlite::params![seq as i64, line, prev],
        )
        .unwrap();
    }
}

#[test]
fn lines_of_an_older_version_are_given_as_hashes_alone_and_nothing_hides_behind_them() {
    let own = ChainBox::new();
    rewrite_in_the_first_format(&own);
    let mut store = Store::open(&own.state()).unwrap();
    let head_before = store.signed_chain_head(filing::NODE, at(0)).unwrap().unwrap();
    filing::file(&mut store, 4);
    drop(store);
    let head = own.head();
    let [first, second, third] = &own.cases[..] else {
        panic!("three cases")
    };
    let folder = own.export(second, "out", &[]);
    let text = text_of(&folder);
    assert!(
        !text.contains(first.as_str()) && !text.contains(third.as_str()),
        "{text}"
    );
    let (code, text) = own.verify(&folder, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("NOTE   of 1 chain entry of an older format"), "{text}");
    // A head from after the upgrade can be compared, one from before it too, if no such line follows it.
    assert_eq!(own.verify(&folder, &["--since", &head]).0, Some(0));
    let before = json!({"head": head_before.0, "signature": head_before.1}).to_string();
    assert_eq!(own.verify(&folder, &["--since", &before]).0, Some(0));

    // A forger puts the hash of a line in its place to hide that the case was withdrawn, and changes what nothing links to any more.
    let chain = lines(&folder, "chain.jsonl");
    let withdrawn = chain.iter().position(|line| line.contains("\"revision\":2")).unwrap();
    let mut hidden = chain.clone();
    hidden[withdrawn] =
        json!({"v": 1, "seq": seq_of(&chain[withdrawn]), "withheld": sha256_hex(chain[withdrawn].as_bytes())})
            .to_string();
    let filed = chain.iter().position(|line| line.contains("\"revision\":1")).unwrap();
    let mut changed = chain.clone();
    changed[filed] = chain[filed].replace("\"revision\":1", "\"revision\":9");
    for forged in [hidden, changed] {
        write_lines(&folder, "chain.jsonl", &forged);
        renew_sums(&folder);
        let (code, text) = own.verify(&folder, &[]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("some were taken out or added"), "{text}");
    }

    // Root chooses the hash of a withheld line: a head that such a line follows proves nothing.
    let folder = own.export(first, "first", &[]);
    let old_line = lines(&folder, "chain.jsonl")[0].clone();
    let claimed = ChainHead {
        seq: seq_of(&old_line),
        hash: sha256_hex(old_line.as_bytes()),
        ..serde_json::from_str(&head_before.0).unwrap()
    };
    let claimed = serde_json::to_string(&claimed).unwrap();
    let signature = own.key().sign(claimed.as_bytes()).unwrap();
    let claimed = json!({"head": claimed, "signature": signature.trim()}).to_string();
    let (code, text) = own.verify(&folder, &["--since", &claimed]);
    assert_eq!(code, Some(7), "{text}");
    assert!(text.contains("only the hash is in the folder"), "{text}");
}

fn seq_of(line: &str) -> u64 {
    serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}
