//! The `[ledger]` section: where the ledger is written, and how much of it is kept.

use std::time::Duration;

use super::{Checker, section};
use crate::raw;
use gridwatch_ledger::Settings;

/// Default folder, below the state directory.
const FOLDER: &str = "ledger";

impl Checker<'_> {
    pub(super) fn ledger(&mut self) {
        let at = section("ledger");
        let Some(raw) = self.optional::<raw::Ledger>(&at) else {
            return;
        };
        let (keep_at, file_at, dir_at) = (at.key("keep_mb"), at.key("file_mb"), at.key("dir"));
        if raw.keep_mb / 2 < raw.file_mb && !self.is_invalid(&keep_at) && !self.is_invalid(&file_at) {
            self.fault(
                &keep_at,
                format!("{} is less than twice file_mb ({})", raw.keep_mb, raw.file_mb),
                "whole files are deleted to free space, so leave room for at least two",
            );
        }
        let dir = match &raw.dir {
            None => self.draft.state_dir.as_ref().map(|d| d.join(FOLDER)),
            Some(_) if self.is_invalid(&dir_at) => None,
            Some(dir) => {
                let absolute = self.absolute(dir);
                if dir.as_os_str().is_empty() {
                    self.fault(&dir_at, "must not be empty", "name a directory, or remove the line");
                    None
                } else if absolute.exists() && !absolute.is_dir() {
                    self.fault(
                        &dir_at,
                        format!("{} is not a directory", absolute.display()),
                        "name a directory, or a path where one can be created",
                    );
                    None
                } else {
                    Some(absolute)
                }
            }
        };
        if let Some(dir) = dir {
            self.draft.rest.ledger = Some(raw.enabled.then(|| Settings {
                dir,
                file_bytes: u64::from(raw.file_mb) << 20,
                keep_bytes: u64::from(raw.keep_mb) << 20,
                keep_for: Duration::from_hours(24) * raw.keep_days,
            }));
        }
    }
}
