//! Boxes, and a broker that passes on in one order what it is told, keeps what is retained, and can lose both.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use gridwatch_engine::{Location, LonLat, PlaceMethod};

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
    }
}

type Publish = (String, Vec<u8>);

/// One box: the protocol, what its store holds, and what is on its way to the broker.
struct Member {
    node: String,
    claims: Claims,
    row: Option<ClaimRow>,
    to_broker: VecDeque<Publish>,
    is_connected: bool,
    /// It may send its case.
    may_file: bool,
    files: u32,
    told: Vec<Known>,
}

#[derive(Default)]
struct Broker {
    retained: BTreeMap<String, Vec<u8>>,
    /// For each box that it knows, what it has not taken yet; the last says whether it was retained.
    queues: BTreeMap<usize, VecDeque<(String, Vec<u8>, bool)>>,
}

struct Street {
    members: Vec<Member>,
    broker: Broker,
    now: Moment,
}

fn protocol(node: &str, now: Moment) -> Claims {
    let cells = BTreeSet::from([CellCode::from(CELL)]);
    Claims::new(
        node.into(),
        SiteTopic::new("gridwatch"),
        TimeZone::UTC,
        cells,
        Vec::new(),
        now,
    )
}

impl Street {
    fn new(boxes: usize) -> Self {
        let now = Moment {
            wall: Timestamp::from_second(1_750_000_000).unwrap(),
            mono: Instant::now(),
        };
        let member = |n| {
            let node = format!("box-{n}");
            Member {
                claims: protocol(&node, now),
                node,
                row: None,
                to_broker: VecDeque::new(),
                is_connected: false,
                may_file: false,
                files: 0,
                told: Vec::new(),
            }
        };
        Self {
            members: (0..boxes).map(member).collect(),
            broker: Broker::default(),
            now,
        }
    }

    fn rows(&self, n: usize) -> Vec<ClaimRow> {
        self.members[n].row.iter().cloned().collect()
    }

    fn act(&mut self, n: usize, acts: Vec<Act>) {
        let member = &mut self.members[n];
        for act in acts {
            let publish = match act {
                Act::Say { topic, message } => (topic, serde_json::to_vec(&message).unwrap()),
                Act::TakeBack { topic } => (topic, Vec::new()),
                Act::File(_) | Act::FileUnheard(_) => {
                    let row = member.row.as_mut().unwrap();
                    assert!(row.is_open, "what gave way is not sent");
                    if row.state == ClaimState::Wanted {
                        row.state = ClaimState::Sent;
                    }
                    member.may_file = true;
                    continue;
                }
                Act::Yield { to, .. } => {
                    let row = member.row.as_mut().unwrap();
                    assert_eq!(
                        row.state,
                        ClaimState::Wanted,
                        "what may have been heard does not give way to {to}"
                    );
                    row.is_open = false;
                    let rows = vec![row.clone()];
                    let more = member.claims.news(rows, self.now);
                    self.act(n, more);
                    return;
                }
                Act::Tell(known) => {
                    member.told.push(known);
                    continue;
                }
                Act::Forget(_) => {
                    member.row = None;
                    continue;
                }
            };
            if member.is_connected {
                member.to_broker.push_back(publish);
            }
        }
    }

    /// A problem is confirmed.
    fn confirm(&mut self, n: usize) {
        let member = &mut self.members[n];
        if member.row.is_none() && member.files == 0 {
            member.row = Some(ClaimRow {
                claim: claim(&member.node),
                state: ClaimState::Wanted,
                is_open: true,
            });
            if member.is_connected {
                let rows = self.rows(n);
                let acts = self.members[n].claims.news(rows, self.now);
                self.act(n, acts);
            }
        }
    }

    fn connect(&mut self, n: usize) {
        if self.members[n].is_connected {
            return;
        }
        self.members[n].is_connected = true;
        let is_new = !self.broker.queues.contains_key(&n);
        let queue = self.broker.queues.entry(n).or_default();
        queue.extend(self.broker.retained.iter().map(|(t, p)| (t.clone(), p.clone(), true)));
        let rows = self.rows(n);
        self.members[n].claims.greeted(is_new, self.now);
        let acts = self.members[n].claims.begin(rows, true, self.now);
        self.act(n, acts);
    }

    /// The line is cut: what had not reached the broker is lost; what it had not passed on waits.
    fn cut(&mut self, n: usize) {
        self.members[n].is_connected = false;
        self.members[n].to_broker.clear();
    }

    fn kill(&mut self, n: usize) {
        self.cut(n);
        self.members[n].claims = protocol(&self.members[n].node, self.now);
    }

    /// The broker dies and comes back without its memory.
    fn forget(&mut self) {
        for n in 0..self.members.len() {
            self.cut(n);
        }
        self.broker = Broker::default();
    }

    /// The broker takes one message of box `n`.
    fn reach(&mut self, n: usize) -> bool {
        let Some((topic, payload)) = self.members[n].to_broker.pop_front() else {
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

    /// Box `n` takes one message of the broker.
    fn hear(&mut self, n: usize) -> bool {
        let Some((topic, payload, is_retained)) = self
            .broker
            .queues
            .get_mut(&n)
            .filter(|_| self.members[n].is_connected)
            .and_then(VecDeque::pop_front)
        else {
            return false;
        };
        let acts = self.members[n]
            .claims
            .heard(&topic, &payload, is_retained, self.now)
            .unwrap();
        self.act(n, acts);
        true
    }

    /// The broker acknowledges a case.
    fn file(&mut self, n: usize) -> bool {
        let member = &mut self.members[n];
        let Some(row) = member.row.as_mut().filter(|row| row.state == ClaimState::Sent) else {
            return false;
        };
        if !(member.may_file && member.is_connected) {
            return false;
        }
        row.state = ClaimState::Filed;
        member.files += 1;
        let rows = self.rows(n);
        let acts = self.members[n].claims.news(rows, self.now);
        self.act(n, acts);
        true
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall += time;
        for n in 0..self.members.len() {
            if self.members[n].is_connected {
                let acts = self.members[n].claims.tick(self.now);
                self.act(n, acts);
            }
        }
    }

    /// Until nothing has moved for longer than anybody hesitates.
    fn settle(&mut self) {
        const ROUND: Duration = Duration::from_millis(100);
        let mut quiet = Duration::ZERO;
        for round in 0.. {
            assert!(round < 1000, "they never agree");
            let mut has_moved = false;
            for n in 0..self.members.len() {
                has_moved |= self.reach(n) | self.hear(n) | self.file(n);
            }
            quiet = if has_moved { Duration::ZERO } else { quiet + ROUND };
            if quiet > HESITATION {
                return;
            }
            self.pass(ROUND);
        }
    }

    fn files(&self) -> u32 {
        self.members.iter().map(|m| m.files).sum()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Confirm(usize),
    Connect(usize),
    Cut(usize),
    Kill(usize),
    Reach(usize),
    Hear(usize),
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
        8 => n.clone().prop_map(Step::Reach),
        8 => n.clone().prop_map(Step::Hear),
        2 => n.prop_map(Step::File),
    ]
}

fn play(street: &mut Street, steps: &[Step]) {
    for step in steps {
        match *step {
            Step::Confirm(n) => street.confirm(n),
            Step::Connect(n) => street.connect(n),
            Step::Cut(n) => street.cut(n),
            Step::Kill(n) => street.kill(n),
            Step::Reach(n) => drop(street.reach(n)),
            Step::Hear(n) => drop(street.hear(n)),
            Step::File(n) => drop(street.file(n)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn one_problem_is_filed_by_one_box(steps in prop::collection::vec(step(), 0..120)) {
        let mut street = Street::new(BOXES);
        play(&mut street, &steps);
        for n in 0..BOXES {
            street.connect(n);
            street.confirm(n);
        }
        street.settle();
        prop_assert_eq!(street.files(), 1);
        let open = street.members.iter().filter(|m| m.row.as_ref().is_some_and(|r| r.is_open)).count();
        prop_assert_eq!(open, 1, "the others gave way");
        prop_assert_eq!(street.broker.retained.len(), 1, "and say no more");
    }

    #[test]
    fn a_broker_that_forgets_loses_no_problem(
        before in prop::collection::vec(step(), 0..60), after in prop::collection::vec(step(), 0..60),
    ) {
        let mut street = Street::new(BOXES);
        play(&mut street, &before);
        street.forget();
        play(&mut street, &after);
        for n in 0..BOXES {
            street.connect(n);
            street.confirm(n);
        }
        street.settle();
        prop_assert!(street.files() >= 1);
        let is_in_doubt = |m: &Member| m.row.as_ref().is_some_and(|r| r.is_open && r.state == ClaimState::Wanted);
        prop_assert!(!street.members.iter().any(is_in_doubt));
    }
}

fn all_connected() -> Street {
    let mut street = Street::new(2);
    street.connect(0);
    street.connect(1);
    street.settle();
    street
}

#[test]
fn a_box_that_claims_and_dies_holds_up_nobody_for_ever() {
    let mut street = all_connected();
    street.confirm(0);
    // Its claim is through, and it does not live to hear it.
    street.reach(0);
    street.cut(0);
    street.confirm(1);
    street.settle();
    assert_eq!(street.files(), 0, "the other may be about to file");
    for _ in 0..UNFILED.as_secs() / 10 + 1 {
        street.pass(Duration::from_secs(10));
    }
    street.settle();
    assert_eq!((street.files(), street.members[1].files), (1, 1));
    let theirs = CaseId::from("case-of-box-0");
    assert!(matches!(&street.members[1].told[..], [Known::Claimed(_), Known::Released(id)] if *id == theirs));
    // It comes back, and finds that it was too late.
    street.connect(0);
    street.settle();
    assert_eq!(street.files(), 1);
}

#[test]
fn a_box_that_tries_to_file_is_waited_for() {
    let mut street = all_connected();
    street.confirm(0);
    street.reach(0);
    street.hear(0);
    street.confirm(1);
    let take_turns = |street: &mut Street| {
        for n in [0, 1].repeat(20) {
            let _ = street.reach(n) | street.hear(n);
        }
    };
    take_turns(&mut street);
    for _ in 0..60 {
        // Nobody takes its case, as where the platform is away.
        street.pass(Duration::from_secs(30));
        take_turns(&mut street);
    }
    assert_eq!(
        street.members[1].row.as_ref().map(|r| r.state),
        Some(ClaimState::Wanted)
    );
    street.settle();
    assert_eq!((street.files(), street.members[0].files), (1, 1));
    assert_eq!(street.members[1].row, None, "gave way, and took back what it had said");
}

#[test]
fn a_box_that_filed_and_died_keeps_its_site_for_a_week_and_no_longer() {
    let mut street = all_connected();
    street.confirm(0);
    street.settle();
    street.cut(0);
    street.confirm(1);
    street.settle();
    assert_eq!((street.files(), &street.members[1].row), (1, &None));
    street.pass(KEPT - Duration::from_hours(1));
    let is_released = |street: &Street| street.members[1].told.iter().any(|k| matches!(k, Known::Released(_)));
    assert!(!is_released(&street));
    street.pass(Duration::from_hours(2));
    assert!(is_released(&street));
}

#[test]
fn what_is_open_is_claimed_anew_each_day_and_after_somebody_wiped_it() {
    let mut street = all_connected();
    street.confirm(0);
    street.settle();
    for _ in 0..20 {
        street.pass(Duration::from_hours(13));
        street.settle();
    }
    let is_released = |street: &Street| street.members[1].told.iter().any(|k| matches!(k, Known::Released(_)));
    assert!(!is_released(&street), "eleven days on");
    let topic = SiteTopic::new("gridwatch").of(&claim("box-0"));
    street.members[1].to_broker.push_back((topic.clone(), Vec::new()));
    street.settle();
    assert!(street.broker.retained.contains_key(&topic));
}

#[test]
fn a_case_that_is_over_frees_its_site() {
    let mut street = all_connected();
    street.confirm(0);
    street.settle();
    street.members[0].row.as_mut().unwrap().is_open = false;
    let rows = street.rows(0);
    let acts = street.members[0].claims.news(rows, street.now);
    street.act(0, acts);
    street.settle();
    assert_eq!((street.broker.retained.len(), &street.members[0].row), (0, &None));
    street.confirm(1);
    street.settle();
    assert_eq!(street.members[1].files, 1);
}

#[test]
fn a_broker_that_passes_nothing_on_has_no_say() {
    let mut street = Street::new(1);
    street.members[0].is_connected = true;
    let acts = street.members[0].claims.begin(Vec::new(), true, street.now);
    street.act(0, acts);
    street.confirm(0);
    street.settle();
    assert_eq!(street.files(), 0);
    street.pass(UNHEARD);
    street.settle();
    assert_eq!(street.files(), 1);

    let mut claims = protocol("box-0", street.now);
    let row = ClaimRow {
        claim: claim("box-0"),
        state: ClaimState::Wanted,
        is_open: true,
    };
    let acts = claims.begin(vec![row], false, street.now);
    assert_eq!(acts, [Act::File("case-of-box-0".into())], "not allowed to listen");
}

#[test]
fn what_is_no_claim_changes_nothing() {
    let mut street = all_connected();
    let claims = &mut street.members[0].claims;
    let topic = |claim: &Claim| SiteTopic::new("gridwatch").of(claim);
    let said = |claim: &Claim, change: fn(&mut serde_json::Value)| {
        let until = When::new(kept(street.now.wall), &TimeZone::UTC);
        let mut json = serde_json::to_value(ClaimMessage::new(claim, true, 7, until)).unwrap();
        change(&mut json);
        json.to_string().into_bytes()
    };
    let theirs = claim("box-9");
    let mut heard = |topic: &str, payload: &[u8]| claims.heard(topic, payload, false, street.now);
    for (topic, payload, reason) in [
        (
            "gridwatch/v1/site/1/0102/box-9".to_owned(),
            said(&theirs, |_| ()),
            "its topic is no site's",
        ),
        (
            topic(&claim("box-8")),
            said(&theirs, |_| ()),
            "it is of another cell, category, box or case than its topic",
        ),
        (
            topic(&theirs),
            said(&theirs, |j| j["lat"] = 134.0.into()),
            "its place or its reach is none",
        ),
        (
            topic(&theirs),
            said(&theirs, |j| j["merge_radius_m"] = 1e6.into()),
            "its place or its reach is none",
        ),
        (
            topic(&theirs),
            vec![b' '; MAX_BYTES + 1],
            "it has 4097 bytes, a claim has 4096 at most",
        ),
    ] {
        assert_eq!(heard(&topic, &payload).unwrap_err().to_string(), reason);
    }
    assert!(matches!(heard(&topic(&theirs), b"{"), Err(InvalidClaim::Unreadable(_))));
    assert!(heard(&topic(&theirs), b"").unwrap().is_empty(), "nobody knew it");
    let acts = heard(&topic(&theirs), &said(&theirs, |j| j["more"] = 1.into())).unwrap();
    assert!(
        matches!(&acts[..], [Act::Tell(Known::Claimed(_))]),
        "a newer box may say more"
    );
}
