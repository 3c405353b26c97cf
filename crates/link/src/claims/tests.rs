//! Simulates several boxes and a broker that forwards messages in one order, keeps retained messages and can lose both.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{
    message::{MAX_BYTES, UnknownBox},
    peers::{MAX_CLAIMS_PER_BOX, RATE, UNFILED_TIMEOUT},
    *,
};
use gridwatch_custody::SigningKey;
use gridwatch_engine::{Location, PlaceMethod};

const CELL: &str = "410105001001001";

fn claim(node: &str) -> Claim {
    Claim {
        case: format!("case-of-{node}").into(),
        node: node.into(),
        category: "0102".into(),
        located: Location {
            at: LonLat {
                lon: 113.6005,
                lat: 34.7005,
            },
            uncertainty_m: 5.0,
            method: PlaceMethod::CameraPoint,
            cell: CELL.into(),
        },
        merge_radius_m: 8.0,
        number: None,
        text: None,
    }
}

type Publish = (String, Vec<u8>);

/// One box: the protocol, its store's row, and its messages on the way to the broker.
struct SimBox {
    node: String,
    key: SigningKey,
    protocol: ClaimProtocol,
    row: Option<ClaimRow>,
    to_broker: VecDeque<Publish>,
    is_connected: bool,
    /// Its case has been granted.
    is_granted: bool,
    /// Its case is held back; true if for one that is filed.
    is_held_back: Option<bool>,
    filed: u32,
    released: Vec<CaseId>,
}

#[derive(Default)]
struct SimBroker {
    retained: BTreeMap<String, Vec<u8>>,
    /// Per session, messages not delivered yet: topic, payload, retain flag.
    queues: BTreeMap<usize, VecDeque<(String, Vec<u8>, bool)>>,
}

struct Simulation {
    boxes: Vec<SimBox>,
    enrolled: EnrolledBoxes,
    broker: SimBroker,
    now: Now,
}

/// How long the boxes wait for others.
const WAIT: Duration = Duration::from_hours(24);

fn generate_key() -> SigningKey {
    SigningKey::generate().unwrap().1
}

fn claim_protocol(node: &str, key: &SigningKey, enrolled: &EnrolledBoxes, now: Now) -> ClaimProtocol {
    let settings = ClaimSettings {
        node: node.into(),
        public_key: key.public(),
        topics: SiteTopics::new("gridwatch"),
        zone: TimeZone::UTC,
        cells: BTreeSet::from([CellCode::from(CELL)]),
        // A degree wide.
        cell_of: Box::new(|at| (at.lon.floor() == 113.0 && at.lat.floor() == 34.0).then(|| CELL.into())),
        wait: WAIT,
    };
    ClaimProtocol::new(settings, enrolled.clone(), [], now)
}

fn sealed(message: &ClaimMessage, key: &SigningKey) -> Vec<u8> {
    let object = serde_json::to_string(message).unwrap();
    gridwatch_custody::seal(key, &object).unwrap().into_bytes()
}

fn written(key: &SigningKey) -> ClaimKey {
    ClaimKey {
        algorithm: key.public().algorithm().to_string(),
        public_key: key.public().to_string(),
    }
}

/// A message about `claim` that is valid for the full time from `at`.
fn message(claim: &Claim, stage: ClaimStage, at: Timestamp, key: &SigningKey) -> Vec<u8> {
    let until = When::new(expiry(at), &TimeZone::UTC);
    sealed(&ClaimMessage::new(claim, stage, 7, until, &written(key)), key)
}

impl Simulation {
    fn new(count: usize) -> Self {
        let now = Now {
            wall: Timestamp::from_second(1_750_000_000).unwrap(),
            mono: Instant::now(),
        };
        let keys: Vec<_> = (0..count).map(|n| (format!("box-{n}"), generate_key())).collect();
        let of_key = |(node, key): &(String, SigningKey)| (NodeId::from(node.as_str()), key.public());
        let enrolled: EnrolledBoxes = keys.iter().map(of_key).collect();
        let sim_box = |(node, key): (String, SigningKey)| SimBox {
            protocol: claim_protocol(&node, &key, &enrolled, now),
            node,
            key,
            row: None,
            to_broker: VecDeque::new(),
            is_connected: false,
            is_granted: false,
            is_held_back: None,
            filed: 0,
            released: Vec::new(),
        };
        Self {
            boxes: keys.into_iter().map(sim_box).collect(),
            enrolled,
            broker: SimBroker::default(),
            now,
        }
    }

    fn rows(&self, n: usize) -> Vec<ClaimRow> {
        self.boxes[n].row.iter().cloned().collect()
    }

    fn execute(&mut self, n: usize, actions: Vec<ClaimAction>) {
        let sim_box = &mut self.boxes[n];
        for action in actions {
            let publish = match action {
                ClaimAction::Publish { topic, message } => (topic, sealed(&message, &sim_box.key)),
                ClaimAction::Clear { topic } => (topic, Vec::new()),
                ClaimAction::Grant(_) | ClaimAction::GrantUnconfirmed(_) | ClaimAction::GrantAfterWait(_) => {
                    let row = sim_box.row.as_mut().unwrap();
                    assert!(row.is_open, "a case that yielded is not published");
                    if row.state == ClaimState::Wanted {
                        row.state = ClaimState::Sent;
                    }
                    sim_box.is_granted = true;
                    continue;
                }
                ClaimAction::Yield { to, .. } => {
                    let row = sim_box.row.as_mut().unwrap();
                    assert_eq!(
                        row.state,
                        ClaimState::Wanted,
                        "a case that may have been published must not yield to {to}"
                    );
                    row.is_open = false;
                    let rows = vec![row.clone()];
                    let more = sim_box.protocol.rows_changed(rows, self.now);
                    self.execute(n, more);
                    return;
                }
                ClaimAction::HoldBack { is_filed, .. } => {
                    sim_box.is_held_back = Some(is_filed);
                    continue;
                }
                ClaimAction::Released(case) => {
                    sim_box.released.push(case);
                    continue;
                }
                ClaimAction::Remember { .. } => continue,
                ClaimAction::Forget(_) => {
                    sim_box.row = None;
                    continue;
                }
            };
            if sim_box.is_connected {
                sim_box.to_broker.push_back(publish);
            }
        }
    }

    /// Box `n` confirms the problem.
    fn confirm(&mut self, n: usize) {
        let sim_box = &mut self.boxes[n];
        if sim_box.row.is_none() && sim_box.filed == 0 {
            sim_box.row = Some(ClaimRow {
                claim: claim(&sim_box.node),
                state: ClaimState::Wanted,
                is_open: true,
                held_since: None,
            });
            if sim_box.is_connected {
                let rows = self.rows(n);
                let actions = self.boxes[n].protocol.rows_changed(rows, self.now);
                self.execute(n, actions);
            }
        }
    }

    fn connect(&mut self, n: usize) {
        if self.boxes[n].is_connected {
            return;
        }
        self.boxes[n].is_connected = true;
        let is_new = !self.broker.queues.contains_key(&n);
        let queue = self.broker.queues.entry(n).or_default();
        queue.extend(self.broker.retained.iter().map(|(t, p)| (t.clone(), p.clone(), true)));
        let rows = self.rows(n);
        self.boxes[n].protocol.connected(is_new, self.now);
        let actions = self.boxes[n].protocol.subscribed(rows, true, self.now);
        self.execute(n, actions);
    }

    /// The connection of box `n` is cut: messages on the way to the broker are lost, those to the box wait.
    fn cut(&mut self, n: usize) {
        self.boxes[n].is_connected = false;
        self.boxes[n].to_broker.clear();
    }

    fn kill(&mut self, n: usize) {
        self.cut(n);
        // Its successor starts later.
        self.now.wall += Duration::from_secs(1);
        let killed = &mut self.boxes[n];
        killed.protocol = claim_protocol(&killed.node, &killed.key, &self.enrolled, self.now);
    }

    /// The broker restarts without sessions and retained messages.
    fn reset_broker(&mut self) {
        for n in 0..self.boxes.len() {
            self.cut(n);
        }
        self.broker = SimBroker::default();
    }

    /// The broker receives one message of box `n`.
    fn deliver_to_broker(&mut self, n: usize) -> bool {
        let Some((topic, payload)) = self.boxes[n].to_broker.pop_front() else {
            return false;
        };
        match payload.is_empty() {
            true => self.broker.retained.remove(&topic),
            false => self.broker.retained.insert(topic.clone(), payload.clone()),
        };
        for queue in self.broker.queues.values_mut() {
            queue.push_back((topic.clone(), payload.clone(), false));
        }
        true
    }

    /// Box `n` receives one message from the broker.
    fn deliver_to_box(&mut self, n: usize) -> bool {
        let Some((topic, payload, is_retained)) = self
            .broker
            .queues
            .get_mut(&n)
            .filter(|_| self.boxes[n].is_connected)
            .and_then(VecDeque::pop_front)
        else {
            return false;
        };
        let actions = self.boxes[n]
            .protocol
            .received(&topic, &payload, is_retained, |_| true, self.now);
        let actions = match actions {
            // A retained message overtakes those that were queued before it.
            Err(InvalidClaim::Stale | InvalidClaim::OwnOlder) => Vec::new(),
            actions => actions.unwrap(),
        };
        self.execute(n, actions);
        true
    }

    /// The broker acknowledges the case of box `n`.
    fn file(&mut self, n: usize) -> bool {
        let sim_box = &mut self.boxes[n];
        let Some(row) = sim_box.row.as_mut().filter(|row| row.state == ClaimState::Sent) else {
            return false;
        };
        if !(sim_box.is_granted && sim_box.is_connected) {
            return false;
        }
        row.state = ClaimState::Filed;
        sim_box.filed += 1;
        let rows = self.rows(n);
        let actions = self.boxes[n].protocol.rows_changed(rows, self.now);
        self.execute(n, actions);
        true
    }

    fn advance(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall += time;
        for n in 0..self.boxes.len() {
            if self.boxes[n].is_connected {
                let actions = self.boxes[n].protocol.tick(self.now);
                self.execute(n, actions);
            }
        }
    }

    /// Runs until nothing has moved for longer than the maximum retry delay.
    fn settle(&mut self) {
        const ROUND: Duration = Duration::from_millis(100);
        let mut quiet = Duration::ZERO;
        for round in 0.. {
            assert!(round < 1000, "no agreement");
            let mut has_moved = false;
            for n in 0..self.boxes.len() {
                has_moved |= self.deliver_to_broker(n) | self.deliver_to_box(n) | self.file(n);
            }
            quiet = if has_moved { Duration::ZERO } else { quiet + ROUND };
            if quiet > MAX_RETRY_DELAY {
                return;
            }
            self.advance(ROUND);
        }
    }

    fn total_filed(&self) -> u32 {
        self.boxes.iter().map(|b| b.filed).sum()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Confirm(usize),
    Connect(usize),
    Cut(usize),
    Kill(usize),
    DeliverToBroker(usize),
    DeliverToBox(usize),
    File(usize),
}

const BOXES: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let n = 0..BOXES;
    prop_oneof![
        3 => n.clone().prop_map(Step::Confirm),
        4 => n.clone().prop_map(Step::Connect),
        1 => n.clone().prop_map(Step::Cut),
        1 => n.clone().prop_map(Step::Kill),
        8 => n.clone().prop_map(Step::DeliverToBroker),
        8 => n.clone().prop_map(Step::DeliverToBox),
        2 => n.prop_map(Step::File),
    ]
}

fn run(sim: &mut Simulation, steps: &[Step]) {
    for step in steps {
        match *step {
            Step::Confirm(n) => sim.confirm(n),
            Step::Connect(n) => sim.connect(n),
            Step::Cut(n) => sim.cut(n),
            Step::Kill(n) => sim.kill(n),
            Step::DeliverToBroker(n) => drop(sim.deliver_to_broker(n)),
            Step::DeliverToBox(n) => drop(sim.deliver_to_box(n)),
            Step::File(n) => drop(sim.file(n)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_problem_seen_by_several_boxes_is_filed_once(steps in prop::collection::vec(step(), 0..120)) {
        let mut sim = Simulation::new(BOXES);
        run(&mut sim, &steps);
        for n in 0..BOXES {
            sim.connect(n);
            sim.confirm(n);
        }
        sim.settle();
        prop_assert_eq!(sim.total_filed(), 1);
        let open = sim.boxes.iter().filter(|b| b.row.as_ref().is_some_and(|r| r.is_open)).count();
        prop_assert_eq!(open, 1, "the others yielded");
        prop_assert_eq!(sim.broker.retained.len(), 1, "the others cleared their claims");
    }

    #[test]
    fn a_broker_that_loses_its_state_leaves_no_case_unfiled(
        before in prop::collection::vec(step(), 0..60), after in prop::collection::vec(step(), 0..60),
    ) {
        let mut sim = Simulation::new(BOXES);
        run(&mut sim, &before);
        sim.reset_broker();
        run(&mut sim, &after);
        for n in 0..BOXES {
            sim.connect(n);
            sim.confirm(n);
        }
        sim.settle();
        prop_assert!(sim.total_filed() >= 1);
        let is_in_doubt = |b: &SimBox| b.row.as_ref().is_some_and(|r| r.is_open && r.state == ClaimState::Wanted);
        prop_assert!(!sim.boxes.iter().any(is_in_doubt));
    }
}

fn all_connected() -> Simulation {
    let mut sim = Simulation::new(2);
    sim.connect(0);
    sim.connect(1);
    sim.settle();
    sim
}

#[test]
fn a_box_that_dies_after_claiming_blocks_others_only_until_the_timeout() {
    let mut sim = all_connected();
    sim.confirm(0);
    // The broker has its claim, but it dies before the claim comes back.
    sim.deliver_to_broker(0);
    sim.cut(0);
    sim.confirm(1);
    sim.settle();
    assert_eq!(sim.total_filed(), 0, "box 0 may still file");
    for _ in 0..UNFILED_TIMEOUT.as_secs() / 10 + 1 {
        sim.advance(Duration::from_secs(10));
    }
    sim.settle();
    assert_eq!((sim.total_filed(), sim.boxes[1].filed), (1, 1));
    // Box 0 comes back: it was too late.
    sim.connect(0);
    sim.settle();
    assert_eq!(sim.total_filed(), 1);
}

#[test]
fn a_box_that_keeps_trying_to_file_keeps_its_claim() {
    let mut sim = all_connected();
    sim.confirm(0);
    sim.deliver_to_broker(0);
    sim.deliver_to_box(0);
    sim.confirm(1);
    let deliver_all = |sim: &mut Simulation| {
        for n in [0, 1].repeat(20) {
            let _ = sim.deliver_to_broker(n) | sim.deliver_to_box(n);
        }
    };
    deliver_all(&mut sim);
    for _ in 0..60 {
        // Its case is not acknowledged, as when no platform is subscribed.
        sim.advance(Duration::from_secs(30));
        deliver_all(&mut sim);
    }
    assert_eq!(sim.boxes[1].row.as_ref().map(|r| r.state), Some(ClaimState::Wanted));
    sim.settle();
    assert_eq!((sim.total_filed(), sim.boxes[0].filed), (1, 1));
    assert_eq!(sim.boxes[1].row, None, "yielded and cleared its claim");
}

#[test]
fn the_claim_of_a_dead_box_that_filed_stands_until_its_ttl() {
    let mut sim = all_connected();
    sim.confirm(0);
    sim.settle();
    sim.cut(0);
    sim.confirm(1);
    sim.settle();
    assert_eq!((sim.total_filed(), &sim.boxes[1].row), (1, &None));
    sim.advance(CLAIM_TTL - Duration::from_hours(1));
    let is_released = |sim: &Simulation| !sim.boxes[1].released.is_empty();
    assert!(!is_released(&sim));
    sim.advance(Duration::from_hours(2));
    assert!(is_released(&sim));
}

#[test]
fn an_open_claim_is_renewed_daily_and_when_another_client_clears_it() {
    let mut sim = all_connected();
    sim.confirm(0);
    sim.settle();
    for _ in 0..20 {
        sim.advance(Duration::from_hours(13));
        sim.settle();
    }
    let is_blocking = |sim: &Simulation| sim.boxes[1].protocol.peers.blocking(&claim("box-1")).is_some();
    assert!(is_blocking(&sim), "after eleven days");
    let topic = SiteTopics::new("gridwatch").of(&claim("box-0"));
    sim.boxes[1].to_broker.push_back((topic.clone(), Vec::new()));
    sim.settle();
    assert!(is_blocking(&sim), "only a signed message ends it");
    sim.advance(REPUBLISH_AFTER);
    sim.settle();
    assert!(sim.broker.retained.contains_key(&topic));
}

#[test]
fn a_closed_case_releases_its_site() {
    let mut sim = all_connected();
    sim.confirm(0);
    sim.settle();
    sim.boxes[0].row.as_mut().unwrap().is_open = false;
    let rows = sim.rows(0);
    let actions = sim.boxes[0].protocol.rows_changed(rows, sim.now);
    sim.execute(0, actions);
    sim.settle();
    assert_eq!((sim.broker.retained.len(), &sim.boxes[0].row), (0, &None));
    sim.confirm(1);
    sim.settle();
    assert_eq!(sim.boxes[1].filed, 1);
}

#[test]
fn a_broker_that_does_not_forward_claims_blocks_no_case() {
    let mut sim = Simulation::new(1);
    sim.boxes[0].is_connected = true;
    let actions = sim.boxes[0].protocol.subscribed(Vec::new(), true, sim.now);
    sim.execute(0, actions);
    sim.confirm(0);
    sim.settle();
    assert_eq!(sim.total_filed(), 0);
    sim.advance(ECHO_TIMEOUT);
    sim.settle();
    assert_eq!(sim.total_filed(), 1);

    let mut protocol = claim_protocol("box-0", &generate_key(), &EnrolledBoxes::default(), sim.now);
    let row = ClaimRow {
        claim: claim("box-0"),
        state: ClaimState::Wanted,
        is_open: true,
        held_since: None,
    };
    let actions = protocol.subscribed(vec![row], false, sim.now);
    assert_eq!(
        actions,
        [ClaimAction::Grant("case-of-box-0".into())],
        "subscription denied"
    );
}

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
