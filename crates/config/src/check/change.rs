//! The `[change]` section and `[cameras.change]`: the change map.

use std::time::Duration;

use super::{Checker, FieldPath, section};
use crate::{Aim, raw};
use gridwatch_vision::change::ChangeSettings;

/// Limits of `absorb_after`: within an hour crews, lorries and market stalls come and go; what has stood for three months
/// belongs to the street.
const ABSORB_AFTER: (Duration, Duration) = (Duration::from_hours(1), Duration::from_hours(90 * 24));

impl Checker<'_> {
    pub(super) fn change(&mut self) {
        let at = section("change");
        let Some(raw) = self.optional::<raw::Change>(&at) else {
            return;
        };
        self.check_range(&at.key("absorb_after"), raw.absorb_after, ABSORB_AFTER);
        self.draft.rest.change = Some(raw);
    }

    /// The camera's settings; `None` if it has no change map.
    pub(super) fn camera_change(
        &mut self,
        at: &FieldPath,
        raw: Option<&raw::CameraChange>,
        aim: Aim,
    ) -> Option<ChangeSettings> {
        let raw = raw.cloned().unwrap_or_default();
        if let Some(span) = raw.absorb_after {
            self.check_range(&at.key("absorb_after"), span, ABSORB_AFTER);
        }
        let general = self.draft.rest.change.clone().unwrap_or_default();
        let is_enabled = raw.enabled.unwrap_or(general.enabled) && aim != Aim::Unwatched;
        is_enabled.then(|| ChangeSettings {
            width: raw.width.unwrap_or(general.width),
            absorb_after: raw.absorb_after.unwrap_or(general.absorb_after).0,
        })
    }
}
