//! Commands that change something on the box, or take something from it, run through [`audited`], which records them.

use std::{fmt::Display, path::Path};

use super::{Failure, cases::CasesError, terminal::note};
use crate::audit::Act;
use gridwatch_base::error::Class;
use gridwatch_custody::chain::ActResult;
use gridwatch_store::{Store, StoreError};

/// An error of a command, with the class that says whether it was refused or failed.
pub(super) trait CommandError: Display {
    fn class(&self) -> Class;
    fn message(&self) -> String {
        self.to_string()
    }
}

impl CommandError for Failure {
    fn class(&self) -> Class {
        self.class
    }

    fn message(&self) -> String {
        self.message.clone()
    }
}

impl CommandError for CasesError {
    fn class(&self) -> Class {
        CasesError::class(self)
    }
}

/// Runs `command` and records it in the chain of the box with this state directory, whether it succeeds or not. `command` adds to the act
/// what it finds out. If the act cannot be recorded, its result is the same, and a warning says so.
///
/// # Errors
/// The error of `command`.
pub(super) fn audited<T, E: CommandError>(
    state_dir: &Path,
    mut act: Act,
    command: impl FnOnce(&mut Act) -> Result<T, E>,
) -> Result<T, E> {
    let done = command(&mut act);
    let failure = done.as_ref().err().map(|error| {
        let result = match error.class() {
            Class::Config => ActResult::Refused,
            Class::Transient | Class::Data | Class::Bug => ActResult::Failed,
        };
        (result, error.message())
    });
    let recorded = Store::open_unlocked(state_dir).and_then(|mut store| act.record(&mut store, failure));
    match (recorded, &done) {
        // There is no box there, and the command says so.
        (Err(StoreError::Missing { .. }), Err(_)) | (Ok(None), _) => {}
        (Err(StoreError::Missing { .. }), Ok(_)) => {
            note("warning: this act is not in the audit log, which begins with the daemon's first start");
        }
        (Ok(Some(error)), _) => note(format_args!("warning: {error}")),
        (Err(error), _) => note(format_args!("warning: this act is not in the audit log: {error}")),
    }
    done
}
