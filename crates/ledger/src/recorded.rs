//! The engine with its record: the one place through which inputs reach the engine, so that none can be forgotten.

use std::{sync::Arc, time::Instant};

use super::{LedgerError, write::Recorder};
use gridwatch_engine::{CaseId, Effect, Engine, Input, OpenCase, Plan};

/// An engine whose every input is recorded, if there is a recorder.
#[derive(Debug)]
pub struct RecordedEngine {
    engine: Engine,
    recorder: Option<Recorder>,
}

impl RecordedEngine {
    /// A new engine that works to `plan` and remembers the cases of the last run. `recorder` was begun for this run. What the
    /// engine knew beside them is given back with [`Input::Resumed`].
    pub fn start(plan: Arc<Plan>, restored: Vec<OpenCase>, recorder: Option<Recorder>) -> Self {
        let mut this = Self {
            engine: Engine::new(),
            recorder,
        };
        // The file's head stands for it.
        this.engine.apply(Input::Configured(plan));
        for case in restored {
            this.apply(Input::Restored(case));
        }
        this
    }

    /// Records one input, applies it, and says what is to be done, in order.
    pub fn apply(&mut self, input: Input) -> Vec<Effect> {
        let Some(recorder) = &mut self.recorder else {
            return self.engine.apply(input);
        };
        recorder.input(&input, &self.engine);
        let effects = self.engine.apply(input);
        recorder.applied(effects.iter().filter_map(opened));
        effects
    }

    /// Puts a new configuration to the engine: [`Input::Configured`], with the name it has in the record.
    pub fn configure(&mut self, plan: Arc<Plan>, config_sha256: &str) -> Vec<Effect> {
        if let Some(recorder) = &mut self.recorder {
            recorder.reconfigured(config_sha256);
        }
        self.apply(Input::Configured(plan))
    }

    /// The engine, to ask it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Ends the run, and says whether its record is whole ([`Recorder::finish`]).
    ///
    /// # Errors
    /// What could not be written.
    pub fn finish(self) -> Result<(), LedgerError> {
        self.recorder.map_or(Ok(()), Recorder::finish)
    }

    /// To be called about once a second: what was recorded goes to the disk.
    pub fn flush_if_due(&mut self, now: Instant) {
        if let Some(recorder) = &mut self.recorder {
            recorder.flush_if_due(now);
        }
    }
}

/// The case that an effect opens.
fn opened(effect: &Effect) -> Option<&CaseId> {
    match effect {
        Effect::Open(case) => Some(&case.id),
        _ => None,
    }
}
