//! The engine and its recorder: the only path by which inputs reach the engine, so that none is missing from the
//! ledger.

use std::{sync::Arc, time::Instant};

use super::{LedgerError, write::Recorder};
use gridwatch_engine::{CaseId, Effect, Engine, Input, OpenCase, Plan};

/// An engine whose inputs are recorded, if there is a recorder.
#[derive(Debug)]
pub struct RecordedEngine {
    engine: Engine,
    recorder: Option<Recorder>,
}

impl RecordedEngine {
    /// A new engine with `plan` and the `restored` cases of the last run. `recorder` must have been created for this
    /// run. Other state of the last run is restored with [`Input::Resumed`].
    pub fn start(plan: Arc<Plan>, restored: Vec<OpenCase>, recorder: Option<Recorder>) -> Self {
        let mut this = Self {
            engine: Engine::new(),
            recorder,
        };
        if let Some(recorder) = &mut this.recorder {
            // The head of the file has the configuration.
            recorder.begin(&plan);
        }
        this.engine.apply(Input::Configured(plan));
        for case in restored {
            this.apply(Input::Restored(case));
        }
        this
    }

    /// Records and applies one input; returns the effects in order.
    pub fn apply(&mut self, input: Input) -> Vec<Effect> {
        if let Input::Configured(plan) = input {
            return self.reconfigure(plan, None);
        }
        let Some(recorder) = &mut self.recorder else {
            return self.engine.apply(input);
        };
        recorder.input(&input, &self.engine);
        let effects = self.engine.apply(input);
        recorder.applied(effects.iter().filter_map(opened_case));
        effects
    }

    /// Applies a new configuration ([`Input::Configured`]) and records it: `plan` is kept beside the ledger, and the record names it.
    /// `config_sha256` is the hash of the configuration file, lower-case hex. Waits for no disk.
    pub fn configure(&mut self, plan: Arc<Plan>, config_sha256: &str) -> Vec<Effect> {
        self.reconfigure(plan, Some(config_sha256))
    }

    fn reconfigure(&mut self, plan: Arc<Plan>, config_sha256: Option<&str>) -> Vec<Effect> {
        if let Some(recorder) = &mut self.recorder {
            recorder.configured(&plan, config_sha256, &self.engine);
        }
        self.engine.apply(Input::Configured(plan))
    }

    /// Records with `recorder`, or not at all, from the next input on. What was recorded so far is written to its end; the files that follow
    /// can be replayed by themselves. `plan` is the one in force.
    pub fn record_with(&mut self, recorder: Option<Recorder>, plan: &Arc<Plan>) {
        self.recorder = recorder;
        if let Some(recorder) = &mut self.recorder {
            recorder.take_over(plan, &self.engine);
        }
    }

    /// The engine, for queries.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Ends the run and waits until the ledger is written ([`Recorder::finish`]).
    ///
    /// # Errors
    /// The first write error.
    pub fn finish(self) -> Result<(), LedgerError> {
        self.recorder.map_or(Ok(()), Recorder::finish)
    }

    /// Passes buffered records on to be written; to be called about once a second.
    pub fn flush_if_due(&mut self, now: Instant) {
        if let Some(recorder) = &mut self.recorder {
            recorder.flush_if_due(now);
        }
    }
}

fn opened_case(effect: &Effect) -> Option<&CaseId> {
    match effect {
        Effect::Open(case) => Some(&case.id),
        _ => None,
    }
}
