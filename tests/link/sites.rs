//! Several boxes on one broker that see the same site: the first to claim it files, whatever fails meanwhile.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing::{at, case, pictures_of, record, revision};
use crate::settings;
use gridwatch_contract::{ClaimKey, ClaimMessage, ClaimStage, Form, SiteTopics, Topics, When};
use gridwatch_custody::SigningKey;
use gridwatch_engine::{CaseId, CaseState, Claim};
use gridwatch_link::{EnrolledBoxes, IncomingReply, Link, LinkHandle, SiteNews, SiteSharing};
use gridwatch_mqtt::Protocol;
use gridwatch_store::Store;
use jiff::{Timestamp, tz::TimeZone};
use tempfile::TempDir;
use tokio::sync::mpsc;

const CASES: &str = "gridwatch/v1/+/case";

/// A box: its store and link, and a daemon that carries out what the link reports.
struct BoxUnderTest {
    node: String,
    protocol: Protocol,
    dir: TempDir,
    store: Store,
    link: Option<(LinkHandle, mpsc::Receiver<IncomingReply>)>,
    news: mpsc::Receiver<SiteNews>,
}

impl BoxUnderTest {
    fn new(n: u32, protocol: Protocol) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            node: format!("box-{n}"),
            protocol,
            store: Store::open(dir.path()).unwrap(),
            dir,
            link: None,
            news: mpsc::channel(1).1,
        }
    }

    fn form(&self) -> Form {
        let node = self.node.as_str().into();
        Form {
            shares_sites: Some(self.node.as_str().into()),
            ..Topics::new("gridwatch", &node).into()
        }
    }

    /// Confirms another box, as an operator does.
    fn enroll(&mut self, other: &Self) {
        let key = other.store.public_key().unwrap();
        let node = other.node.as_str().into();
        self.store.confirm_box(&node, &key, at(0)).unwrap();
    }

    async fn connect(&mut self, port: u16) {
        let settings = gridwatch_link::Settings {
            node: self.node.as_str().into(),
            ..settings(port, self.protocol)
        };
        let (news_in, news) = mpsc::channel(64);
        let here = case(0).located;
        let sharing = SiteSharing {
            cells: [here.cell.clone()].into(),
            cell_of: Box::new(move |at| (at == here.at).then(|| here.cell.clone())),
            boxes: EnrolledBoxes::default(),
            wait: Duration::from_hours(24),
            yielded_to: BTreeSet::new(),
            news: news_in,
        };
        let (replies_in, replies) = mpsc::channel(16);
        let link = Link::spawn(settings, &self.store, replies_in, Some(sharing)).unwrap();
        within(link.state().wait_for(|s| s.connected)).await.unwrap();
        (self.link, self.news) = (Some((link, replies)), news);
    }

    /// Commits the `n`th case here; all cases are of the same site.
    fn confirm(&mut self, n: u32) -> CaseId {
        let case = case(n);
        let record = record(&case, pictures_of(self.dir.path(), n, 2_000));
        self.store.commit_case(&record, &case, &self.form()).unwrap();
        case.id
    }

    /// What follows next from other boxes' claims.
    async fn next_news(&mut self) -> SiteNews {
        within(self.news.recv()).await.unwrap()
    }

    /// Waits until the case yields, records that as the daemon does, and returns the other box's case.
    async fn yields(&mut self, own: &CaseId) -> CaseId {
        loop {
            if let SiteNews::Yielded { case, to, .. } = self.next_news().await {
                assert_eq!(case, *own);
                let revision = revision(case.as_str(), CaseState::DuplicateOf, 2000, "another box was first");
                self.store.yield_case(&revision, &self.form()).unwrap();
                return to;
            }
        }
    }

    /// Waits until the outbox is empty and the claims of closed cases are cleared.
    async fn wait_idle(&self) {
        let is_idle = || {
            let claims = self.store.claims().unwrap();
            self.store.outbox_depth().unwrap().waiting == 0 && claims.iter().all(|c| c.is_open)
        };
        within(async {
            while !is_idle() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    fn state(&self, case: &CaseId) -> CaseState {
        self.store.case(case.as_str()).unwrap().unwrap().record.state
    }
}

/// Every box obeys the claims of every other one.
fn enroll_all(boxes: &mut [BoxUnderTest]) {
    let known: Vec<_> = boxes
        .iter()
        .map(|b| (b.node.clone(), b.store.public_key().unwrap()))
        .collect();
    for (node, key) in known {
        for other in boxes.iter_mut().filter(|b| b.node != node) {
            other.store.confirm_box(&node.as_str().into(), &key, at(0)).unwrap();
        }
    }
}

/// A claim of the `n`th case on the boxes' site.
fn claim(node: &str, n: u32) -> Claim {
    case(n).claim(&node.into())
}

/// Topic and message of a claim of `key`'s owner.
fn signed(claim: &Claim, stage: ClaimStage, key: &SigningKey) -> (String, String) {
    let until = When::new(Timestamp::now() + Duration::from_hours(24), &TimeZone::UTC);
    let written = ClaimKey {
        algorithm: key.public().algorithm().to_string(),
        public_key: key.public().to_string(),
    };
    let message = ClaimMessage::new(claim, stage, fastrand::u64(..), until, &written);
    let sealed = gridwatch_custody::seal(key, &serde_json::to_string(&message).unwrap()).unwrap();
    (SiteTopics::new("gridwatch").of(claim), sealed)
}

fn case_of(message: &rumqttc::Publish) -> CaseId {
    let value: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    value["case_id"].as_str().unwrap().into()
}

/// Topics of the retained claims of filed cases at the broker.
async fn filed_claims(port: u16) -> Vec<String> {
    let mut all = Subscriber::start(port, "gridwatch/v1/site/#").await;
    // Retained messages arrive before anything published from here on.
    all.publish("gridwatch/v1/site/end", "", None).await;
    let mut claims = Vec::new();
    loop {
        let message = all.next().await;
        match topic(&message).strip_prefix("gridwatch/v1/site/") {
            Some("end") => return claims,
            _ if message.payload.is_empty() => {}
            _ => {
                let claim: ClaimMessage = serde_json::from_slice(&message.payload).unwrap();
                claims.extend(claim.filed.then(|| topic(&message).to_owned()));
            }
        }
    }
}

/// Waits until the broker has the claim of a filed case.
async fn wait_filed_claim(port: u16) {
    within(async { while filed_claims(port).await.is_empty() {} }).await;
}

for_both_protocols!(
    three_boxes_that_confirm_the_same_problem_file_it_once,
    a_box_keeps_its_site_while_offline_and_when_the_broker_loses_its_state,
    a_message_on_a_site_topic_is_no_reply_after_sharing_was_switched_off,
    claims_of_strangers_hold_nothing_back_until_they_are_confirmed,
    no_one_can_end_anothers_claim,
    an_oversized_retained_message_on_a_site_topic_silences_no_box,
    ten_thousand_claims_of_an_enrolled_box_cost_little,
);

/// Three messages from any client of the broker, and one from a box that nobody confirmed.
async fn claims_of_strangers_hold_nothing_back_until_they_are_confirmed(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let (_, stranger) = SigningKey::generate().unwrap();
    let (topic, text) = signed(&claim("box-2", 90), ClaimStage::Filed, &stranger);
    let unsigned = gridwatch_custody::unseal(&text).unwrap().0;
    for n in 0..3 {
        let topic = SiteTopics::new("gridwatch").of(&claim("box-2", 70 + n));
        platform.publish_retained(&topic, &unsigned).await;
    }
    platform.publish_retained(&topic, &text).await;
    let mut node = BoxUnderTest::new(1, protocol);
    node.connect(broker.port).await;
    let filed = node.confirm(1);
    assert_eq!(case_of(&platform.next().await), filed);
    let known = within(async {
        loop {
            match node.store.boxes().unwrap().pop() {
                Some(known) => return known,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    assert_eq!((known.node_id.as_str(), known.confirmed_at), ("box-2", None));
    assert_eq!(known.public_key, stranger.public().to_string());

    // Once it is confirmed, its claim counts, without a restart.
    node.store
        .confirm_box(&"box-2".into(), &stranger.public(), at(0))
        .unwrap();
    let theirs = claim("box-2", 90).case;
    let mut confirmed = 2;
    let yielded = within(async {
        loop {
            let late = node.confirm(confirmed);
            confirmed += 1;
            let soon = tokio::time::timeout(Duration::from_secs(3), node.yields(&late)).await;
            if let Ok(to) = soon {
                return (late, to);
            }
        }
    })
    .await;
    assert_eq!(yielded.1, theirs);
    let held_back = node.store.held_back(10).unwrap();
    let held = &held_back
        .iter()
        .find(|(case, _)| *case == yielded.0.as_str())
        .unwrap()
        .1;
    assert_eq!((held.node_id.as_str(), held.is_filed), ("box-2", true));
    let told = node.store.cases(gridwatch_store::Filter::default()).unwrap();
    assert!(
        told.iter()
            .any(|c| c.case_id == yielded.0.as_str() && c.held_back_for.as_ref() == Some(held))
    );
}

async fn no_one_can_end_anothers_claim(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let mut boxes = [BoxUnderTest::new(1, protocol), BoxUnderTest::new(2, protocol)];
    enroll_all(&mut boxes);
    let [first, second] = &mut boxes;
    first.connect(broker.port).await;
    let filed = first.confirm(1);
    assert_eq!(case_of(&platform.next().await), filed);
    first.wait_idle().await;
    wait_filed_claim(broker.port).await;
    // Gone, so that it cannot publish its claim again.
    first.link.take().unwrap().0.shutdown().await;
    second.connect(broker.port).await;
    let late = second.confirm(2);
    assert_eq!(second.yields(&late).await, filed);
    let (_, stranger) = SigningKey::generate().unwrap();
    let (topic, released) = signed(&claim("box-1", 1), ClaimStage::Released, &stranger);
    platform.publish_retained(&topic, &released).await;
    platform.publish_retained(&topic, "").await;
    let again = second.confirm(3);
    assert_eq!(second.yields(&again).await, filed);

    // Its box does.
    first.connect(broker.port).await;
    let closed = revision(filed.as_str(), CaseState::Closed, 4000, "");
    let form = first.form();
    first.store.revise(&closed, &form).unwrap();
    while second.next_news().await != SiteNews::Released(filed.clone()) {}
    assert!(second.store.held_back(10).unwrap().is_empty());
}

async fn an_oversized_retained_message_on_a_site_topic_silences_no_box(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let topic = SiteTopics::new("gridwatch").of(&claim("box-2", 90));
    platform.publish_retained(&topic, &"x".repeat(5 << 20)).await;
    let mut node = BoxUnderTest::new(1, protocol);
    node.connect(broker.port).await;
    let filed = node.confirm(1);
    assert_eq!(case_of(&platform.next().await), filed);
    node.wait_idle().await;
    let connections = broker.log().matches("as gridwatch-box-1 (").count();
    assert_eq!(connections, 1, "{}", broker.log());
}

async fn ten_thousand_claims_of_an_enrolled_box_cost_little(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let (_, key) = SigningKey::generate().unwrap();
    let mut node = BoxUnderTest::new(1, protocol);
    node.store.confirm_box(&"box-2".into(), &key.public(), at(0)).unwrap();
    node.connect(broker.port).await;
    let before = folder_size(node.dir.path());
    let mut elsewhere = claim("box-2", 0);
    elsewhere.category = "0999".into();
    let begun = Instant::now();
    for n in 0..10_000 {
        elsewhere.case = format!("01JW00000000000000000{n:05}").as_str().into();
        let (topic, text) = signed(&elsewhere, ClaimStage::Filed, &key);
        let options = rumqttc::PublishOptions::at_most_once();
        platform.client.publish(topic, text, options).await.unwrap();
    }
    let filed = node.confirm(1);
    assert_eq!(case_of(&platform.next().await), filed);
    node.wait_idle().await;
    // Bytes, not seconds: nothing of it is stored.
    let grown = folder_size(node.dir.path()).saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes in {:?}", begun.elapsed());
    assert_eq!(node.store.held_back(10).unwrap(), []);
}

/// Bytes in the files of a folder, without those in folders below it.
fn folder_size(dir: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap());
    files.filter(|file| file.is_file()).map(|file| file.len()).sum()
}

async fn three_boxes_that_confirm_the_same_problem_file_it_once(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let mut boxes: Vec<_> = (1..4).map(|n| BoxUnderTest::new(n, protocol)).collect();
    enroll_all(&mut boxes);
    for node in &mut boxes {
        node.connect(broker.port).await;
    }
    let cases: Vec<CaseId> = (1..).zip(&mut boxes).map(|(n, node)| node.confirm(n)).collect();
    let filed = case_of(&platform.next().await);
    for (node, case) in boxes.iter_mut().zip(&cases).filter(|(_, case)| **case != filed) {
        assert_eq!(node.yields(case).await, filed);
        assert_eq!(node.state(case), CaseState::DuplicateOf);
    }
    for node in &boxes {
        node.wait_idle().await;
    }
    let claims = filed_claims(broker.port).await;
    assert!(claims.len() == 1 && claims[0].ends_with(filed.as_str()), "{claims:?}");
    assert!(platform.drain().is_empty(), "one case, once");
    // A box does not restore a case that yielded.
    for (node, case) in boxes.iter().zip(&cases) {
        let remembered = node.store.cases_to_restore(at(3000)).unwrap();
        assert_eq!(remembered.iter().any(|c| c.id == *case), *case == filed);
    }

    // The case is closed: the next box to confirm the problem files it.
    let owner = cases.iter().position(|case| *case == filed).unwrap();
    let closed = revision(filed.as_str(), CaseState::Closed, 4000, "");
    let form = boxes[owner].form();
    boxes[owner].store.revise(&closed, &form).unwrap();
    let next = &mut boxes[(owner + 1) % 3];
    while next.next_news().await != SiteNews::Released(filed.clone()) {}
    let again = next.confirm(9);
    assert_eq!(case_of(&platform.next().await), again);
}

async fn a_box_keeps_its_site_while_offline_and_when_the_broker_loses_its_state(protocol: Protocol) {
    let mut broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let (mut first, mut second) = (BoxUnderTest::new(1, protocol), BoxUnderTest::new(2, protocol));
    second.enroll(&first);
    first.connect(broker.port).await;
    let filed = first.confirm(1);
    assert_eq!(case_of(&platform.next().await), filed);
    first.wait_idle().await;
    wait_filed_claim(broker.port).await;

    // Offline without a clean disconnect: its claim stands.
    first.link = None;
    second.connect(broker.port).await;
    let late = second.confirm(2);
    assert_eq!(second.yields(&late).await, filed);

    // The broker loses its state: the box publishes its claim again when it reconnects.
    first.connect(broker.port).await;
    broker.restart();
    platform.wait_subscribed().await;
    wait_filed_claim(broker.port).await;
    let mut third = BoxUnderTest::new(3, protocol);
    third.enroll(&first);
    third.connect(broker.port).await;
    let later = third.confirm(3);
    assert_eq!(third.yields(&later).await, filed);
    // The case itself may have been resent, because the broker may have lost it.
    assert!(platform.drain().iter().all(|message| case_of(message) == filed));
}

/// The broker keeps the site filters in the box's session.
async fn a_message_on_a_site_topic_is_no_reply_after_sharing_was_switched_off(protocol: Protocol) {
    let broker = Broker::start_with("log_type all");
    let platform = Subscriber::start(broker.port, CASES).await;
    let mut node = BoxUnderTest::new(1, protocol);
    node.connect(broker.port).await;
    let id = node.confirm(1);
    node.wait_idle().await;
    node.link.take().unwrap().0.shutdown().await;

    let settings = gridwatch_link::Settings {
        node: node.node.as_str().into(),
        ..settings(broker.port, protocol)
    };
    let (replies_in, mut replies) = mpsc::channel(16);
    let link = Link::spawn(settings, &node.store, replies_in, None).unwrap();
    within(link.state().wait_for(|s| s.connected)).await.unwrap();
    let cell = case(0).located.cell;
    let foreign = format!("gridwatch/v1/site/{cell}/garbage/box-9/01JW0000000000000000000009");
    let reply = |state: &str| serde_json::json!({"case_id": id, "state": state}).to_string();
    // More than may be unacknowledged at once.
    for _ in 0..40 {
        platform.publish(&foreign, &reply("closed"), None).await;
    }
    let own = Topics::new("gridwatch", &node.node.as_str().into()).reply();
    platform.publish(&own, &reply("accepted"), None).await;
    let incoming = within(replies.recv()).await.unwrap();
    assert_eq!(incoming.reply.state, CaseState::Accepted);
    drop(incoming);
    let unsubscribed = || broker.log().contains("UNSUBSCRIBE from gridwatch-box-1");
    within(async {
        while !unsubscribed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// MQTT 5 only: an MQTT 3.1.1 broker acknowledges a denied claim, and the case waits for the timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_denies_site_topics_blocks_no_case() {
    let mut broker = Broker::start_with("acl_file {dir}/acl");
    broker.kill();
    broker.write_file("acl", "topic readwrite gridwatch/v1/box-1/#\ntopic read gridwatch/#\n");
    broker.restart();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let mut only = BoxUnderTest::new(1, Protocol::V5);
    only.connect(broker.port).await;
    let filed = only.confirm(1);
    assert_eq!(case_of(&platform.next().await), filed);
}
