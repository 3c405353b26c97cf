//! Publishes what a view's change map tells, for `gridwatch view`, and keeps the operator's absorptions until its next look.

use jiff::SignedDuration;

use gridwatch_engine::BBox;
use gridwatch_vision::{
    change::ChangeMap,
    views::{ChangeStatus, ViewFiles, ViewsError},
};

/// Shortest time between two writes of one view. A busy street must not wear out a flash disk.
const WRITE_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// What was last published about a change map.
#[derive(Default)]
pub(super) struct ChangeReport {
    written: Option<ChangeStatus>,
}

impl ChangeReport {
    /// Continues with what the last run published, so that a start writes nothing.
    pub(super) fn restore(files: &ViewFiles) -> Self {
        // A damaged file is written anew at the next look.
        Self {
            written: files.change_status().ok().flatten(),
        }
    }

    /// Publishes `status` if it differs from what was published, at most every [`WRITE_EVERY`]; a later look publishes what was
    /// put off.
    pub(super) fn update(&mut self, files: &ViewFiles, status: ChangeStatus) -> Result<(), ViewsError> {
        let is_due = |before: &ChangeStatus| {
            // A clock that was set back must not put it off.
            let passed = status.at.duration_since(before.at);
            status.differs_from(before) && !(SignedDuration::ZERO..WRITE_EVERY).contains(&passed)
        };
        if !self.written.as_ref().is_none_or(is_due) {
            return Ok(());
        }
        let written = files.write_change_status(&status);
        // After a failure, too: a full disk is not tried at every look.
        self.written = Some(status);
        written
    }
}

/// The operator's absorptions that wait for the view's next look.
#[derive(Default)]
pub(super) struct Absorptions(Vec<BBox>);

impl Absorptions {
    /// Boxes that wait at most. An operator has to wait for a look after each.
    const MAX: usize = 64;

    /// Adds one; false if too many wait.
    pub(super) fn add(&mut self, bbox: BBox) -> bool {
        let has_room = self.0.len() < Self::MAX;
        if has_room {
            self.0.push(bbox);
        }
        has_room
    }

    /// Applies them. True if there were any, so that the map should be saved.
    pub(super) fn apply(&mut self, map: &mut ChangeMap) -> bool {
        let boxes = std::mem::take(&mut self.0);
        boxes.iter().for_each(|bbox| map.absorb(bbox));
        !boxes.is_empty()
    }

    /// Forgets them: the view is another one now.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use gridwatch_vision::views::{ChangeStanding, RegionStatus};

    fn status(second: i64, since: &[i64]) -> ChangeStatus {
        let at = |second| Timestamp::from_second(second).unwrap();
        let region = |since: &i64| RegionStatus {
            bbox: BBox {
                x1: 0.1,
                y1: 0.1,
                x2: 0.2,
                y2: 0.2,
            },
            score: 0.9,
            since: at(*since),
            explained_by: None,
        };
        ChangeStatus {
            state: ChangeStanding::Judging,
            at: at(second),
            looks_left: 0,
            variants: 1,
            regions: since.iter().map(region).collect(),
            more: 0,
        }
    }

    #[test]
    fn a_change_is_written_once_and_at_most_every_minute() {
        let dir = tempfile::tempdir().unwrap();
        let files = ViewFiles::new(dir.path(), "gate".into(), None);
        let mut report = ChangeReport::restore(&files);
        let mut written = Vec::new();
        // A region comes at 20 s, a second one at 30 s, which leaves at 100 s.
        for second in (0..200).step_by(10) {
            let since: &[i64] = match second {
                0..20 => &[],
                20..30 | 100.. => &[20],
                _ => &[20, 30],
            };
            report.update(&files, status(second, since)).unwrap();
            let on_disk = files.change_status().unwrap().unwrap();
            if written.last().is_none_or(|(at, _)| *at != on_disk.at) {
                written.push((on_disk.at, on_disk.regions.len()));
            }
        }
        let written: Vec<_> = written.iter().map(|(at, regions)| (at.as_second(), *regions)).collect();
        assert_eq!(written, [(0, 0), (60, 2), (120, 1)]);
        // The next run does not write what is there.
        let mut report = ChangeReport::restore(&files);
        report.update(&files, status(500, &[20])).unwrap();
        assert_eq!(files.change_status().unwrap().unwrap().at.as_second(), 120);
        // The clock was set back.
        report.update(&files, status(40, &[])).unwrap();
        assert_eq!(files.change_status().unwrap().unwrap().regions, []);
    }
}
