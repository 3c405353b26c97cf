//! The `[registry]` section: model versions installed at run time.

use std::time::Duration;

use super::{Checker, section};
use crate::{Registry, raw};

/// Limits of `latency_budget`: inference takes at least a few milliseconds, and a minute is far too slow for live cameras.
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
                    // The value is not printed: it may be the private key, put here by mistake.
                    Err(e) => self.fault(
                        &keys_at.index(i),
                        format!("invalid key: {e}"),
                        "use the ed25519 public key in base64",
                    ),
                }
            }
        }
        // Without its faulty keys, the list might be empty, and then any package would be used.
        if !self.draft.faults_in(&keys_at.to_string()).is_empty() {
            return;
        }
        self.draft.rest.registry = Some(Registry {
            keys,
            trial_looks: raw.trial_looks,
            slower_at_most: raw.slower_at_most,
            latency_budget: raw.latency_budget.0,
        });
    }
}
