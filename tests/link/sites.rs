//! Several boxes on one broker that see one site: whoever is first files, whatever dies or forgets meanwhile.

use crate::filing;
use std::time::Duration;

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing::{at, case, pictures_of, record, revision};
use gridwatch_contract::{ClaimMessage, Form, Topics};
use gridwatch_engine::{CaseId, CaseState, Known};
use gridwatch_link::{IncomingReply, Link, LinkHandle, SiteSharing};
use gridwatch_store::Store;
use tempfile::TempDir;
use tokio::sync::mpsc;

const CASES: &str = "gridwatch/v1/+/case";

/// A box as the link sees it: its store, and a daemon that does what it is told.
struct Member {
    node: String,
    dir: TempDir,
    store: Store,
    link: Option<(LinkHandle, mpsc::Receiver<IncomingReply>)>,
    news: mpsc::UnboundedReceiver<Known>,
}

impl Member {
    fn new(n: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            node: format!("box-{n}"),
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
            ..filing::settings(port)
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

    /// It is confirmed here, as the `n`th case of all; every case is of one site.
    fn confirm(&mut self, n: u32) -> CaseId {
        let case = case(n);
        let record = record(&case, pictures_of(self.dir.path(), n, 2_000));
        self.store.commit_case(&record, &case, &self.form()).unwrap();
        case.id
    }

    /// What is told next, but that of others' cases which are of no interest.
    async fn told(&mut self) -> Known {
        within(self.news.recv()).await.unwrap()
    }

    /// Gives way to another box's case, which is given, as the daemon does.
    async fn gives_way(&mut self, ours: &CaseId) -> CaseId {
        loop {
            if let Known::Yielded { case, to } = self.told().await {
                assert_eq!(case, *ours);
                let revision = revision(case.as_str(), CaseState::DuplicateOf, 2000, "Another box was first.");
                self.store.yield_case(&revision, &self.form()).unwrap();
                return to;
            }
        }
    }

    /// Nothing waits to be sent, nor to be said of a case that is over.
    async fn is_quiet(&self) {
        let is_quiet = || {
            let claims = self.store.claims().unwrap();
            self.store.outbox_depth().unwrap().waiting == 0 && claims.iter().all(|c| c.is_open)
        };
        within(async {
            while !is_quiet() {
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

/// The claims of filed cases that a broker holds.
async fn standing(port: u16) -> Vec<String> {
    let mut all = Subscriber::start(port, "gridwatch/v1/site/#").await;
    // Retained messages come before whatever is said from here on.
    all.say("gridwatch/v1/site/end", "", None).await;
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

/// Waits until the broker holds one.
async fn claimed(port: u16) {
    within(async { while standing(port).await.is_empty() {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_boxes_that_confirm_one_problem_at_a_time_file_it_once() {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let mut boxes: Vec<Member> = (1..4).map(Member::new).collect();
    for member in &mut boxes {
        member.connect(broker.port).await;
    }
    let cases: Vec<CaseId> = (1..).zip(&mut boxes).map(|(n, member)| member.confirm(n)).collect();
    let filed = case_of(&platform.next().await);
    for (member, case) in boxes.iter_mut().zip(&cases).filter(|(_, case)| **case != filed) {
        assert_eq!(member.gives_way(case).await, filed);
        assert_eq!(member.state(case), CaseState::DuplicateOf);
    }
    for member in &boxes {
        member.is_quiet().await;
    }
    let claims = standing(broker.port).await;
    assert!(claims.len() == 1 && claims[0].ends_with(filed.as_str()), "{claims:?}");
    assert!(platform.here().is_empty(), "one case, once");
    // What gave way is remembered by nobody: it is the other's.
    for (member, case) in boxes.iter().zip(&cases) {
        let remembered = member.store.cases_to_restore(at(3000)).unwrap();
        assert_eq!(remembered.iter().any(|c| c.id == *case), *case == filed);
    }

    // The case is over: whoever confirms the problem next files it.
    let owner = cases.iter().position(|case| *case == filed).unwrap();
    let closed = revision(filed.as_str(), CaseState::Closed, 4000, "");
    let form = boxes[owner].form();
    boxes[owner].store.revise(&closed, &form).unwrap();
    let next = &mut boxes[(owner + 1) % 3];
    while next.told().await != Known::Released(filed.clone()) {}
    let again = next.confirm(9);
    assert_eq!(case_of(&platform.next().await), again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_dies_holds_its_site_and_so_does_one_that_finds_another_broker() {
    let mut broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let (mut first, mut second) = (Member::new(1), Member::new(2));
    first.connect(broker.port).await;
    let filed = first.confirm(1);
    assert_eq!(case_of(&platform.next().await), filed);
    first.is_quiet().await;
    claimed(broker.port).await;

    // Killed: its last will is said, and its claim stands.
    first.link = None;
    second.connect(broker.port).await;
    let late = second.confirm(2);
    assert_eq!(second.gives_way(&late).await, filed);

    // The broker dies and has forgotten all: the box that comes back says what is its own.
    first.connect(broker.port).await;
    broker.restart();
    platform.listens().await;
    claimed(broker.port).await;
    let mut third = Member::new(3);
    third.connect(broker.port).await;
    let later = third.confirm(3);
    assert_eq!(third.gives_way(&later).await, filed);
    // The case itself may have come again: the broker forgot that it had it.
    assert!(platform.here().iter().all(|message| case_of(message) == filed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_forbids_site_topics_holds_up_no_case() {
    let mut broker = Broker::start_with("acl_file {dir}/acl");
    broker.kill();
    broker.write("acl", "topic readwrite gridwatch/v1/box-1/#\ntopic read gridwatch/#\n");
    broker.restart();
    let mut platform = Subscriber::start(broker.port, CASES).await;
    let mut only = Member::new(1);
    only.connect(broker.port).await;
    let filed = only.confirm(1);
    assert_eq!(case_of(&platform.next().await), filed);
}
