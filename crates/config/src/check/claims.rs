//! The `[claims]` section: boxes that share sites with this one.

use std::time::Duration;

use super::{Checker, section};
use crate::{Claims, raw};
use gridwatch_engine::NodeId;
use gridwatch_link::EnrolledBoxes;

/// Limits of `wait`: a case is filed within minutes, and a problem that waits for a week is hardly the same.
const WAIT: (Duration, Duration) = (Duration::from_mins(10), Duration::from_hours(7 * 24));

/// More than share the cells around one box.
const MAX_BOXES: usize = 256;

impl Checker<'_> {
    pub(super) fn claims(&mut self) {
        let at = section("claims");
        let Some(raw) = self.optional::<raw::Claims>(&at) else {
            return;
        };
        self.check_range(&at.key("wait"), raw.wait, WAIT);
        let boxes_at = at.key("boxes");
        let mut boxes = Vec::new();
        if raw.boxes.len() > MAX_BOXES {
            let message = format!("{} boxes; at most {MAX_BOXES} are allowed", raw.boxes.len());
            self.fault(&boxes_at, message, "list only boxes whose cameras see the same streets");
        }
        for (i, enrolled) in raw.boxes.iter().take(MAX_BOXES).enumerate() {
            match enrolled.public_key.parse() {
                Ok(key) => boxes.push((NodeId::from(enrolled.node.as_str()), key)),
                // The value is not printed: it may be the private key, put here by mistake.
                Err(e) => self.fault(
                    &boxes_at.index(i).key("public_key"),
                    format!("invalid key: {e}"),
                    "use the line that `gridwatch keys show` prints on that box",
                ),
            }
        }
        // Without its faulty keys, a box could be confirmed with any other key.
        if self.is_invalid(&at) || !self.draft.faults_in("claims").is_empty() {
            return;
        }
        self.draft.rest.claims = Some(Claims {
            wait: raw.wait.0,
            boxes: EnrolledBoxes::from_iter(boxes),
        });
    }
}
