//! Several boxes on one broker that see the same site: the first to claim it files, whatever fails meanwhile.

use std::time::Duration;

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing::{at, case, pictures_of, record, revision};
use crate::settings;
use gridwatch_contract::{ClaimMessage, Form, Topics};
use gridwatch_engine::{CaseId, CaseState, Known};
use gridwatch_link::{IncomingReply, Link, LinkHandle, Protocol, SiteSharing};
use gridwatch_store::Store;
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
    news: mpsc::UnboundedReceiver<Known>,
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
            news: mpsc::unbounded_channel().1,
        }
    }

    fn form(&self) -> Form {
        let node = self.node.as_str().into();
        Form {
            shares_sites: Some(self.node.as_str().into()),
            ..Topics::new("gridwatch", &node).into()
        }
    }

    async fn connect(&mut self, port: u16) {
        let settings = gridwatch_link::Settings {
            node: self.node.as_str().into(),
            ..settings(port, self.protocol)
        };
        let (news_in, news) = mpsc::unbounded_channel();
        let sharing = SiteSharing {
            cells: [case(0).located.cell].into(),
            known: Vec::new(),
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

    /// The next change of other boxes' claims.
    async fn next_news(&mut self) -> Known {
        within(self.news.recv()).await.unwrap()
    }

    /// Waits until the case yields, records that as the daemon does, and returns the other box's case.
    async fn yields(&mut self, own: &CaseId) -> CaseId {
        loop {
            if let Known::Yielded { case, to } = self.next_news().await {
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
);

async fn three_boxes_that_confirm_the_same_problem_file_it_once(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let mut boxes: Vec<_> = (1..4).map(|n| BoxUnderTest::new(n, protocol)).collect();
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
    while next.next_news().await != Known::Released(filed.clone()) {}
    let again = next.confirm(9);
    assert_eq!(case_of(&platform.next().await), again);
}

async fn a_box_keeps_its_site_while_offline_and_when_the_broker_loses_its_state(protocol: Protocol) {
    let mut broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let (mut first, mut second) = (BoxUnderTest::new(1, protocol), BoxUnderTest::new(2, protocol));
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
