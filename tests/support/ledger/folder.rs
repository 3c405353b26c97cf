//! The valid configuration, ninety minutes of one camera in a ledger, and the program to run on both.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use gridwatch_config as config;
use gridwatch_engine::{CaseState, Detection, Effect, Input, Newness, Reply};
use serde_json::Value;

use super::{look, record, settings, start};
use crate::engine_support::{at, bbox, garbage};

pub struct Folder {
    pub dir: tempfile::TempDir,
}

impl Folder {
    /// The valid configuration without its credentials file, and ninety minutes in which a stall is present twice for
    /// ten minutes: first with a high score, then with a low one, so long after the first case was closed that it
    /// becomes a new case.
    pub fn new() -> Self {
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let judged = config::examine(&this.config("edge.toml", &[]))
            .into_replay_config()
            .unwrap();
        let other: Vec<&str> = judged.other_faults.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(other, ["cameras[0].credentials.file"]);
        let score = |s: u32| match s {
            0..600 => Some(0.8),
            3600..4200 => Some(0.6),
            _ => None,
        };
        let looks = (0..5400).step_by(10).map(|s| {
            let stall = score(s).map(|score| Detection {
                label: "umbrella".into(),
                ..garbage(score, bbox(0.3, 0.5, 0.4, 0.7))
            });
            Input::Observed(look("gate", s.into(), stall.into_iter().collect()))
        });
        let mut live = start(settings(&this.ledger()), at(-1.0), &judged.plan, vec![]);
        let mut looks: Vec<Input> = looks.collect();
        let rest = looks.split_off(120);
        let mut filed = None;
        for look in looks {
            for effect in live.apply(look) {
                if let Effect::Open(case) = effect {
                    filed = Some(case.id);
                }
            }
        }
        // The platform closes the first case, so that the second becomes a new one.
        live.apply(Input::Reply(Reply {
            case: filed.unwrap(),
            state: CaseState::Closed,
            at: at(1199.0),
            reason: None,
            due: None,
        }));
        record(live, rest);
        this
    }

    /// Records one stall an hour, each present for ten minutes with a score and a newness, in place of the ledger. Each case is closed
    /// by the platform. Returns the ids of the cases that `config` files.
    pub fn record_stalls(&self, config: &Path, stalls: &[(f32, Option<Newness>)]) -> Vec<String> {
        fs::remove_dir_all(self.ledger()).unwrap();
        let judged = config::examine(config).into_replay_config().unwrap();
        let mut live = start(settings(&self.ledger()), at(-1.0), &judged.plan, vec![]);
        let mut filed = Vec::new();
        for (hour, (score, newness)) in stalls.iter().enumerate() {
            for s in (0..3600).step_by(10) {
                let stall = Detection {
                    label: "umbrella".into(),
                    newness: *newness,
                    ..garbage(*score, bbox(0.3, 0.5, 0.4, 0.7))
                };
                let seconds = (hour * 3600 + s) as f64;
                let found = (s < 600).then_some(stall).into_iter().collect();
                let effects = live.apply(Input::Observed(look("gate", seconds, found)));
                let opened = effects.into_iter().filter_map(|e| match e {
                    Effect::Open(case) => Some(case.id),
                    _ => None,
                });
                for case in opened {
                    filed.push(case.to_string());
                    live.apply(Input::Reply(Reply {
                        case,
                        state: CaseState::Closed,
                        at: at(seconds + 1.0),
                        reason: None,
                        due: None,
                    }));
                }
            }
        }
        record(live, []);
        filed
    }

    pub fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    pub fn config(&self, name: &str, changes: &[(&str, &str)]) -> PathBuf {
        let mut text = fs::read_to_string("tests/golden/good.toml")
            .unwrap()
            .replace("@ROOT@", env!("CARGO_MANIFEST_DIR"));
        for (old, new) in changes {
            assert!(text.contains(old), "{old:?} is not in good.toml");
            text = text.replacen(old, new, 1);
        }
        let file = self.dir.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }

    pub fn replay(&self, config: &Path, arguments: &[&str]) -> Output {
        self.run("replay", config, arguments)
    }

    /// Runs `gridwatch COMMAND` on the ledger.
    pub fn run(&self, command: &str, config: &Path, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args([command, "--ledger"])
            .arg(self.ledger())
            .arg("--config")
            .arg(config)
            .args(arguments)
            .output()
            .unwrap()
    }
}

/// The JSON lines printed by a command.
pub fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone())
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}
