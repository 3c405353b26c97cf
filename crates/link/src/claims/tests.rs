//! Simulates several boxes and a broker that forwards messages in one order, keeps retained messages and can lose both.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{peers::UNFILED_TIMEOUT, *};
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

mod messages;
