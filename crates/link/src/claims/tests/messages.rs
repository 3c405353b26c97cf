//! What one box makes of messages of others, also of those who attack it.

use super::*;
use crate::claims::{
    message::{MAX_BYTES, UnknownBox},
    peers::{MAX_CLAIMS_PER_BOX, RATE},
};

/// A protocol that has box 9 enrolled, and that box's key.
fn with_peer(now: Now) -> (ClaimProtocol, SigningKey) {
    let key = generate_key();
    let enrolled = [(NodeId::from("box-9"), key.public())].into_iter().collect();
    let mut protocol = claim_protocol("box-0", &generate_key(), &enrolled, now);
    protocol.connected(true, now);
    assert_eq!(protocol.subscribed(Vec::new(), true, now), []);
    (protocol, key)
}

fn topic(claim: &Claim) -> String {
    SiteTopics::new("gridwatch").of(claim)
}

fn later(now: Now, time: Duration) -> Now {
    Now {
        wall: now.wall + time,
        mono: now.mono + time,
    }
}

/// Whether box 0 would hold its case back.
fn is_blocked(protocol: &ClaimProtocol) -> bool {
    protocol.peers.blocking(&claim("box-0")).is_some()
}

#[test]
fn an_invalid_claim_is_rejected_and_changes_nothing() {
    let now = Now::read();
    let (mut protocol, key) = with_peer(now);
    let peer = claim("box-9");
    let payload = |change: fn(&mut ClaimMessage)| {
        let until = When::new(expiry(now.wall), &TimeZone::UTC);
        let mut message = ClaimMessage::new(&peer, ClaimStage::Filed, 7, until, &written(&key));
        change(&mut message);
        sealed(&message, &key)
    };
    let mut receive = |topic: &str, bytes: &[u8]| protocol.received(topic, bytes, false, |_| false, now);
    for (topic, bytes, reason) in [
        (
            "gridwatch/v1/site/1/0102/box-9".to_owned(),
            payload(|_| ()),
            "not a site topic",
        ),
        (
            topic(&Claim {
                case: "another".into(),
                ..peer.clone()
            }),
            payload(|_| ()),
            "cell, category, box or case does not match the topic",
        ),
        (
            topic(&peer),
            payload(|m| m.lat = 134.0),
            "invalid location or merge radius",
        ),
        (
            topic(&peer),
            payload(|m| m.merge_radius_m = 1e6),
            "invalid location or merge radius",
        ),
        (
            topic(&peer),
            payload(|m| m.lat = 35.5),
            "its coordinates lie outside its cell, or the cell is not near this box",
        ),
        (
            topic(&peer),
            payload(|m| m.signature_algorithm = "sm2-sm3".into()),
            "unknown signature algorithm \"sm2-sm3\": this version knows ed25519 and ecdsa-p256-sha256; use a newer gridwatch",
        ),
        (
            topic(&peer),
            payload(|m| m.until = When::new(Timestamp::UNIX_EPOCH, &TimeZone::UTC)),
            "older than the box's last message about that case, or expired",
        ),
        (
            topic(&peer),
            vec![b' '; MAX_BYTES + 1],
            "message of 4097 bytes exceeds the maximum of 4096 bytes",
        ),
    ] {
        assert_eq!(receive(&topic, &bytes).unwrap_err().to_string(), reason);
    }
    assert!(matches!(receive(&topic(&peer), b"{"), Err(InvalidClaim::Malformed(_))));
    assert!(receive(&topic(&peer), b"").unwrap().is_empty());
    assert!(!is_blocked(&protocol));
    let text = String::from_utf8(payload(|_| ())).unwrap();
    let (body, _) = gridwatch_custody::unseal(&text).unwrap();
    let newer = gridwatch_custody::seal(&key, &body.replacen('{', "{\"more\":1,", 1)).unwrap();
    protocol
        .received(&topic(&peer), newer.as_bytes(), false, |_| false, now)
        .unwrap();
    assert!(is_blocked(&protocol), "a newer box may add fields");
}

#[test]
fn a_claim_that_no_enrolled_box_signed_is_ignored_and_its_box_is_named_once() {
    let now = Now::read();
    let (mut protocol, key) = with_peer(now);
    let (stranger, other) = (claim("box-7"), generate_key());
    let unsigned = serde_json::to_vec(&ClaimMessage::new(
        &claim("box-9"),
        ClaimStage::Filed,
        7,
        When::new(expiry(now.wall), &TimeZone::UTC),
        &written(&key),
    ))
    .unwrap();
    let forged = {
        let text = String::from_utf8(message(&claim("box-9"), ClaimStage::Filed, now.wall, &key)).unwrap();
        text.replace("\"filed\":true", "\"filed\":false").into_bytes()
    };
    let by_other = message(&claim("box-9"), ClaimStage::Filed, now.wall, &other);
    let mut refused = |claim: &Claim, bytes: &[u8]| {
        let refused = protocol
            .received(&topic(claim), bytes, true, |_| false, now)
            .unwrap_err();
        (refused.as_str(), protocol.take_first_seen().len())
    };
    assert_eq!(refused(&claim("box-9"), &unsigned), ("signature", 0));
    assert_eq!(refused(&claim("box-9"), &forged), ("signature", 0));
    assert_eq!(
        refused(&claim("box-9"), &by_other),
        ("not_enrolled", 1),
        "its key may have been replaced"
    );
    let mut by_stranger = message(&stranger, ClaimStage::Filed, now.wall, &other);
    assert_eq!(refused(&stranger, &by_stranger), ("not_enrolled", 1));
    assert_eq!(refused(&stranger, &by_stranger), ("not_enrolled", 0));
    assert!(!is_blocked(&protocol));

    // An operator confirms it.
    let unknown = UnknownBox {
        node: "box-7".into(),
        public_key: other.public(),
    };
    let enrolled = protocol.verifier.enrolled.with([(unknown.node, unknown.public_key)]);
    assert!(protocol.enroll(enrolled, now).0);
    by_stranger = message(&stranger, ClaimStage::Filed, now.wall, &other);
    protocol
        .received(&topic(&stranger), &by_stranger, true, |_| false, now)
        .unwrap();
    assert!(is_blocked(&protocol));
    assert!(protocol.enroll(EnrolledBoxes::default(), now).0);
    assert!(!is_blocked(&protocol), "no longer enrolled");
}

#[test]
fn a_box_cannot_release_anothers_claim_nor_bring_back_a_released_one() {
    let now = Now::read();
    let (mut protocol, key) = with_peer(now);
    let peer = claim("box-9");
    let at = |seconds| later(now, Duration::from_secs(seconds));
    let filed = message(&peer, ClaimStage::Filed, now.wall, &key);
    protocol.received(&topic(&peer), &filed, false, |_| false, now).unwrap();
    let forged = message(&peer, ClaimStage::Released, at(1).wall, &generate_key());
    assert!(
        protocol
            .received(&topic(&peer), &forged, false, |_| false, at(1))
            .is_err()
    );
    protocol.received(&topic(&peer), b"", false, |_| false, at(1)).unwrap();
    assert!(is_blocked(&protocol));
    let released = message(&peer, ClaimStage::Released, at(2).wall, &key);
    protocol
        .received(&topic(&peer), &released, false, |_| false, at(2))
        .unwrap();
    assert!(!is_blocked(&protocol));
    // Anyone may repeat what the box said before.
    assert!(matches!(
        protocol.received(&topic(&peer), &filed, true, |_| false, at(3)),
        Err(InvalidClaim::Stale)
    ));
    let reopened = message(&peer, ClaimStage::Filed, at(4).wall, &key);
    protocol
        .received(&topic(&peer), &reopened, false, |_| false, at(4))
        .unwrap();
    assert!(is_blocked(&protocol));
}

#[test]
fn a_box_may_have_so_many_claims_and_send_so_many_messages() {
    let now = Now::read();
    let (mut protocol, key) = with_peer(now);
    let nth = |n: u32| Claim {
        case: format!("case-{n}").into(),
        ..claim("box-9")
    };
    let mut refused = BTreeMap::new();
    for n in 0..10_000 {
        let bytes = message(&nth(n), ClaimStage::Wanted, now.wall, &key);
        if let Err(invalid) = protocol.received(&topic(&nth(n)), &bytes, false, |_| false, now) {
            *refused.entry(invalid.to_string()).or_insert(0) += 1;
        }
    }
    assert_eq!(protocol.peers.len(), MAX_CLAIMS_PER_BOX);
    let too_fast = 10_000 - RATE.0;
    let too_many = RATE.0 as usize - MAX_CLAIMS_PER_BOX;
    assert_eq!(refused["box \"box-9\" sends too many messages"], too_fast);
    assert_eq!(refused["box \"box-9\" has too many open claims"], too_many as u32);
    let soon = later(now, RATE.1);
    let released = message(&nth(0), ClaimStage::Released, soon.wall, &key);
    protocol
        .received(&topic(&nth(0)), &released, false, |_| false, soon)
        .unwrap();
    assert_eq!(protocol.peers.len(), MAX_CLAIMS_PER_BOX - 1);
}

#[test]
fn a_case_waits_for_an_unfiled_one_for_a_day_at_most() {
    let mut sim = all_connected();
    sim.confirm(0);
    sim.deliver_to_broker(0);
    sim.deliver_to_box(0);
    // Box 0 renews its claim for ever and never files.
    sim.boxes[0].is_granted = false;
    sim.confirm(1);
    let hours = |sim: &mut Simulation, hours: u64| {
        for _ in 0..hours * 60 {
            for n in [0, 1].repeat(4) {
                let _ = sim.deliver_to_broker(n) | sim.deliver_to_box(n);
            }
            sim.advance(Duration::from_mins(1));
        }
    };
    hours(&mut sim, 23);
    assert_eq!(sim.boxes[1].is_held_back, Some(false));
    assert!(!sim.boxes[1].is_granted);
    hours(&mut sim, 2);
    assert!(sim.boxes[1].is_granted);
    assert!(
        sim.boxes[1].protocol.peers.blocking(&claim("box-1")).is_none(),
        "its renewals no longer count"
    );
}

#[test]
fn a_case_that_yielded_is_released_with_the_case_it_yielded_to_also_after_a_restart() {
    let mut sim = all_connected();
    sim.confirm(0);
    sim.settle();
    sim.confirm(1);
    sim.settle();
    assert_eq!(sim.boxes[1].is_held_back, Some(true));
    let to = CaseId::from("case-of-box-0");
    // Box 1 restarts; its engine still holds the case back.
    sim.kill(1);
    sim.boxes[1].protocol.yielded_to = BTreeMap::from([(to.clone(), false)]);
    sim.connect(1);
    sim.settle();
    sim.advance(Duration::from_hours(1));
    assert!(sim.boxes[1].released.is_empty());
    sim.boxes[0].row.as_mut().unwrap().is_open = false;
    let rows = sim.rows(0);
    let actions = sim.boxes[0].protocol.rows_changed(rows, sim.now);
    sim.execute(0, actions);
    sim.settle();
    assert_eq!(sim.boxes[1].released, std::slice::from_ref(&to));

    // A case that ended while this box was off is released once the broker has sent what it has.
    sim.kill(1);
    sim.boxes[1].released.clear();
    sim.boxes[1].protocol.yielded_to = BTreeMap::from([(to.clone(), false)]);
    sim.connect(1);
    sim.settle();
    assert!(sim.boxes[1].released.is_empty());
    sim.advance(Duration::from_mins(11));
    assert_eq!(sim.boxes[1].released, [to]);
}

#[test]
fn an_old_claim_of_an_ended_case_that_is_published_again_holds_nothing_back() {
    let now = Now::read();
    let (mut protocol, key) = with_peer(now);
    let peer = claim("box-9");
    let old = message(&peer, ClaimStage::Filed, now.wall, &key);
    let soon = later(now, Duration::from_secs(5));
    let released = message(&peer, ClaimStage::Released, soon.wall, &key);
    let actions = protocol
        .received(&topic(&peer), &released, false, |_| false, soon)
        .unwrap();
    let [ClaimAction::Remember { node, case, until }] = &actions[..] else {
        panic!("{actions:?}")
    };
    let remembered = (node.clone(), case.clone(), *until);
    // This box restarts, and somebody publishes what the other one said before.
    let enrolled = protocol.verifier.enrolled.clone();
    let mut protocol = claim_protocol("box-0", &generate_key(), &enrolled, soon);
    protocol.restore_released([remembered]);
    let repeated = protocol.received(&topic(&peer), &old, false, |_| false, soon);
    assert!(matches!(repeated, Err(InvalidClaim::Stale)));
    assert!(!is_blocked(&protocol));

    // The box whose claim it was says again that it is over.
    let enrolled = EnrolledBoxes::default();
    let mut protocol = claim_protocol("box-9", &key, &enrolled, soon);
    protocol.connected(true, soon);
    let before_rows = protocol.received(&topic(&peer), &old, true, |_| true, soon).unwrap();
    assert_eq!(before_rows, [], "it may be open");
    protocol.subscribed(Vec::new(), true, soon);
    let actions = protocol.received(&topic(&peer), &old, true, |_| true, soon).unwrap();
    let [ClaimAction::Publish { message, .. }, ClaimAction::Clear { .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert!(message.released && message.until.timestamp() >= expiry(soon.wall) - 1.millisecond());
    let flood = (0..1000).flat_map(|_| protocol.received(&topic(&peer), &old, false, |_| true, soon).unwrap());
    assert_eq!(flood.count(), 2 * (CONTRADICTIONS.0 as usize - 1));
}

#[test]
fn whatever_takes_the_place_of_a_claim_it_is_published_again() {
    let mut sim = all_connected();
    sim.confirm(0);
    sim.settle();
    let claimed = topic(&claim("box-0"));
    let genuine = sim.broker.retained[&claimed].clone();
    let stranger = generate_key();
    let forged = message(&claim("box-0"), ClaimStage::Released, sim.now.wall, &stranger);
    for garbage in [b"garbage".to_vec(), forged] {
        let received = sim.boxes[0]
            .protocol
            .received(&claimed, &garbage, false, |_| true, sim.now);
        assert!(received.is_err());
        sim.broker.retained.insert(claimed.clone(), garbage.clone());
        sim.advance(REPUBLISH_AFTER);
        sim.settle();
        let kept = &sim.broker.retained[&claimed];
        assert!(*kept != garbage && *kept != genuine, "published again");
    }
}

#[test]
fn a_claim_with_a_time_far_ahead_is_refused_because_nothing_could_end_it() {
    let now = Now::read();
    let (mut protocol, key) = with_peer(now);
    let peer = claim("box-9");
    let ahead = later(now, Duration::from_hours(25));
    let bytes = message(&peer, ClaimStage::Filed, ahead.wall, &key);
    let refused = protocol
        .received(&topic(&peer), &bytes, false, |_| false, now)
        .unwrap_err();
    assert_eq!(refused.as_str(), "clock");
    assert!(!is_blocked(&protocol));
}

#[test]
fn only_the_box_whose_case_was_yielded_to_ends_that_also_after_a_restart() {
    let now = Now::read();
    let (first, liar) = (generate_key(), generate_key());
    let enrolled = [("box-8", &liar), ("box-9", &first)].map(|(node, key)| (NodeId::from(node), key.public()));
    let mut protocol = claim_protocol("box-0", &generate_key(), &enrolled.into_iter().collect(), now);
    let theirs = claim("box-9");
    protocol.yielded_to = BTreeMap::from([(theirs.case.clone(), false)]);
    protocol.connected(true, now);
    protocol.subscribed(Vec::new(), true, now);
    let lie = Claim {
        node: "box-8".into(),
        ..theirs.clone()
    };
    let bytes = message(&lie, ClaimStage::Released, now.wall, &liar);
    let actions = protocol.received(&topic(&lie), &bytes, true, |_| false, now).unwrap();
    let is_released = |actions: &[ClaimAction]| actions.contains(&ClaimAction::Released(theirs.case.clone()));
    assert!(!is_released(&actions), "{actions:?}");
    let bytes = message(&theirs, ClaimStage::Filed, now.wall, &first);
    protocol
        .received(&topic(&theirs), &bytes, true, |_| false, now)
        .unwrap();
    let soon = later(now, Duration::from_secs(1));
    let bytes = message(&theirs, ClaimStage::Released, soon.wall, &first);
    let actions = protocol
        .received(&topic(&theirs), &bytes, false, |_| false, soon)
        .unwrap();
    assert!(is_released(&actions), "{actions:?}");
}

#[test]
fn own_claims_of_cases_that_the_database_lost_block_their_sites() {
    let now = Now::read();
    let key = generate_key();
    let mut protocol = claim_protocol("box-0", &key, &EnrolledBoxes::default(), now);
    let lost = claim("box-0");
    let payload = |stage| message(&lost, stage, now.wall, &key);
    assert_eq!(protocol.subscribed(Vec::new(), true, now), []);
    // Not filed yet: the platform does not know the case, so it may be filed anew.
    assert_eq!(
        protocol
            .received(&topic(&lost), &payload(ClaimStage::Wanted), true, |_| false, now)
            .unwrap(),
        []
    );
    let forged = message(&lost, ClaimStage::Filed, now.wall, &generate_key());
    assert!(protocol.received(&topic(&lost), &forged, true, |_| false, now).is_err());
    assert!(!is_blocked(&protocol));
    protocol
        .received(&topic(&lost), &payload(ClaimStage::Filed), true, |_| false, now)
        .unwrap();

    // The same problem, confirmed again: it yields to the lost case.
    let again = Claim {
        case: "case-again".into(),
        ..lost.clone()
    };
    let row = |claim: &Claim, state| ClaimRow {
        claim: claim.clone(),
        state,
        is_open: true,
        held_since: None,
    };
    let actions = protocol.rows_changed(vec![row(&again, ClaimState::Wanted)], now);
    let [
        ClaimAction::Publish {
            topic: ours,
            message: wanted,
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    let actions = protocol
        .received(ours, &sealed(wanted, &key), false, |_| false, now)
        .unwrap();
    let yielded = ClaimAction::Yield {
        case: again.case,
        to: lost.case.clone(),
        node: "box-0".into(),
    };
    assert!(actions.contains(&yielded), "{actions:?}");

    // A backup that is restored knows the case: the claim is the box's own again.
    let actions = protocol.subscribed(vec![row(&lost, ClaimState::Filed)], true, now);
    assert!(
        actions.contains(&ClaimAction::Released(lost.case.clone())),
        "{actions:?}"
    );
    assert_eq!(
        protocol
            .received(&topic(&lost), &payload(ClaimStage::Filed), true, |_| false, now)
            .unwrap(),
        []
    );
}
