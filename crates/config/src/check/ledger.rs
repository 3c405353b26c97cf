//! Where the record of what was judged goes, and how much of it is kept.

use std::time::Duration;

use super::{Checker, top};
use crate::raw;
use gridwatch_ledger::Settings;

/// The folder inside the state directory, where the file names none.
const FOLDER: &str = "ledger";

impl Checker<'_> {
    pub(super) fn ledger(&mut self) {
        let at = top("ledger");
        let Some(raw) = self.optional::<raw::Ledger>(&at) else {
            return;
        };
        let (keep_at, file_at, dir_at) = (at.key("keep_mb"), at.key("file_mb"), at.key("dir"));
        if raw.keep_mb / 2 < raw.file_mb && !self.is_taken(&keep_at) && !self.is_taken(&file_at) {
            self.fault(
                &keep_at,
                format!("{} is less than twice file_mb {}", raw.keep_mb, raw.file_mb),
                "whole files go when room is needed: keep two or more",
            );
        }
        let dir = match &raw.dir {
            None => self.draft.state_dir.as_ref().map(|d| d.join(FOLDER)),
            Some(_) if self.is_taken(&dir_at) => None,
            Some(dir) => {
                let absolute = self.absolute(dir);
                if dir.as_os_str().is_empty() {
                    self.fault(&dir_at, "is empty", "name a directory, or remove the line");
                    None
                } else if absolute.exists() && !absolute.is_dir() {
                    self.fault(
                        &dir_at,
                        format!("{} is no directory", absolute.display()),
                        "name a directory, or one that can be made",
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
