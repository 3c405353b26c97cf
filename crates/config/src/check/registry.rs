//! How further versions of the models come to look.

use std::time::Duration;

use super::{Checker, section};
use crate::{Registry, raw};

/// A look takes a few milliseconds at least; one of a minute is none on the spot.
const BUDGET: (Duration, Duration) = (Duration::from_millis(1), Duration::from_mins(1));

impl Checker<'_> {
    pub(super) fn registry(&mut self) {
        let at = section("registry");
        let Some(raw) = self.optional::<raw::Registry>(&at) else {
            return;
        };
        self.check_range(&at.key("latency_budget"), raw.latency_budget, BUDGET);
        let keys_at = at.key("keys");
        let mut keys = Vec::new();
        if !self.is_invalid(&keys_at) {
            for (i, key) in raw.keys.iter().enumerate() {
                match key.parse() {
                    Ok(key) => keys.push(key),
                    // Not shown: somebody may have written the private one.
                    Err(what) => self.fault(&keys_at.index(i), format!("no key: {what}"), "write the public key"),
                }
            }
        }
        self.draft.rest.registry = Some(Registry {
            keys,
            trial_looks: raw.trial_looks,
            slower_at_most: raw.slower_at_most,
            latency_budget: raw.latency_budget.0,
        });
    }
}
