//! Notices that another box uses this box's node id, as after cloning a disk. Of two boxes, the later one stops publishing.
//!
//! Both would connect with one client id, so the broker would close one connection for the other, again and again, and both
//! would file every problem. So before it connects for the first time, and after a connection that another client may have
//! taken over, a box reads the retained status of its node id, under a separate client id: if another installation is
//! online, this box is the later one. A second daemon that was started on a copy of the whole state directory, on the same
//! machine, has the same installation, too: it is told apart by the time at which its status says that it came online. Each
//! daemon notes such times in its state directory before it publishes them, so that a copy that starts and finds a time online that
//! its directory does not have gives way. A copy that was made since the original connected last has that time; then the one
//! whose connection was taken over, the original, gives way: nothing shows which of the two was meant to go on.

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use crate::{LinkError, Settings, connector::Connector};
use gridwatch_contract::{Presence, StatusMessage, When};

/// So many connections taken over within [`TAKEN_OVER_WITHIN`] are not a reconnect that the broker noticed late, but
/// another client that also reconnects. It may be of a version that publishes no installation.
const TAKEN_OVER_TIMES: usize = 3;
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(600);

/// Delay before the status is read after a connection ended: the box that took it over has published its status by then.
const SETTLE: Duration = Duration::from_secs(1);

/// Number of own connections whose times are remembered; a status that one of the last of them published is this box's.
const OWN_CONNECTIONS: usize = 64;

/// Reads the status of this node id as a start does, and returns the conflict with another box that is online under it. `None` also
/// if the broker cannot be reached, which [`probe`](crate::probe) reports.
///
/// # Errors
/// [`LinkError::Tls`] or [`LinkError::Settings`].
pub async fn find_duplicate(settings: Settings) -> Result<Option<String>, LinkError> {
    let connector = Connector::new(settings, None)?;
    Ok(DuplicateWatch::new().conflict(&connector).await)
}

/// Watches for another box with this node id.
#[derive(Debug, Default)]
pub(super) struct DuplicateWatch {
    /// The status must be read before the next connection.
    must_read: bool,
    /// The status must be read only after [`SETTLE`].
    must_settle: bool,
    /// A connection was ready before, so the retained status is this box's own unless another one replaced it.
    has_published: bool,
    /// The `since` of the statuses that this process published, and of the one that it found at its start.
    own_since: VecDeque<When>,
    taken_over: VecDeque<Instant>,
    /// The times at which daemons of this state directory came online; `None` if not known.
    noted: Option<Vec<String>>,
    /// Why this box does not connect.
    conflict: Option<String>,
}

impl DuplicateWatch {
    pub(super) fn new() -> Self {
        Self {
            must_read: true,
            ..Self::default()
        }
    }

    /// Why this box must not connect now; reads the retained status if there is a reason to.
    pub(super) async fn conflict(&mut self, connector: &Connector) -> Option<String> {
        let installation = connector.settings.installation.as_ref()?;
        if installation.has_take_over_request() {
            info!("Taking over the node id, as requested by an operator");
            *self = Self::default();
            return None;
        }
        if !self.must_read && self.conflict.is_none() {
            return None;
        }
        if std::mem::take(&mut self.must_settle) {
            sleep(SETTLE).await;
        }
        let own = installation.id();
        match connector.retained_status(&own[..8]).await {
            Ok(payload) => {
                let status = payload.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                self.noted = installation.online_times();
                self.conflict = self.judge(status.as_ref(), own);
                if self.conflict.is_none()
                    && let Some(since) = status.and_then(|status: StatusMessage| status.since)
                {
                    self.published(since);
                }
            }
            // The connection itself reports a broker that cannot be reached. Some only accept known client ids.
            Err(reason) => debug!(reason, "Cannot read the status of this node id"),
        }
        self.must_read = false;
        self.conflict.clone()
    }

    /// The conflict with the box whose status this is.
    fn judge(&self, status: Option<&StatusMessage>, own: &str) -> Option<String> {
        // The broker lost it: no news.
        let Some(status) = status else {
            return self.conflict.clone();
        };
        let is_other = match &status.installation {
            Some(installation) if installation == own => return self.judge_copy(status),
            Some(_) => true,
            // Of an older version, perhaps this box before its update.
            None => self.has_published || self.conflict.is_some(),
        };
        if !is_other {
            return None;
        }
        let installation = status.installation.as_deref().unwrap_or("of an older version");
        let is_held = match (status.state, &status.since) {
            (Presence::Online, _) => true,
            // It was stopped.
            (Presence::Offline, Some(_)) => false,
            // Its last will: broken or replaced if seen first, but perhaps only cut off if it was online before.
            (Presence::Offline, None) => self.conflict.is_some(),
        };
        is_held.then(|| {
            format!(
                "another box uses the node id {:?} (its installation is {installation}, this one is {own}). Give one of them \
                 another node.id; if the other one is gone for good, run `gridwatch take-over` here",
                status.node_id
            )
        })
    }

    /// The conflict with a process that runs on a copy of this box's state, whose status this may be.
    fn judge_copy(&self, status: &StatusMessage) -> Option<String> {
        let is_copy = match (status.state, &status.since) {
            (Presence::Online, Some(since)) if self.has_published => !self.own_since.contains(since),
            // At the start: its own last run, or another process.
            (Presence::Online, Some(since)) => {
                let since = since.to_string();
                self.noted.as_ref().is_some_and(|noted| !noted.contains(&since))
            }
            (Presence::Online, None) | (Presence::Offline, Some(_)) => false,
            // A last will does not say whose it is.
            (Presence::Offline, None) => self.conflict.is_some(),
        };
        is_copy.then(|| {
            format!(
                "a second gridwatch runs with the node id {:?} and a copy of this state directory. Find out which copy holds the newest \
                 cases (`gridwatch cases list --state DIR`), stop the other one and delete its state directory; if the other one is gone for \
                 good, run `gridwatch take-over` here",
                status.node_id
            )
        })
    }

    /// A status with this time is this box's.
    fn published(&mut self, since: When) {
        if self.own_since.len() == OWN_CONNECTIONS {
            self.own_since.pop_front();
        }
        self.own_since.push_back(since);
    }

    /// This process is about to publish that it is online since then.
    pub(super) fn publishing(&mut self, since: When, connector: &Connector) {
        if let Some(installation) = &connector.settings.installation {
            installation.note_online(&since.to_string());
        }
        self.published(since);
    }

    /// The connection is ready. A request that an operator made meanwhile has nothing left to do.
    pub(super) fn connected(&mut self, connector: &Connector) {
        self.has_published = true;
        if let Some(installation) = &connector.settings.installation {
            installation.end_take_over_request();
        }
    }

    /// A ready connection was closed for no reason that the broker gave: with MQTT 3.1.1 perhaps for another client's.
    pub(super) fn closed_without_reason(&mut self) {
        (self.must_read, self.must_settle) = (true, true);
    }

    /// Another client took the connection over. Returns the conflict if that happens again and again.
    pub(super) fn taken_over(&mut self, now: Instant) -> Option<String> {
        self.closed_without_reason();
        self.taken_over.push_back(now);
        while self.taken_over.len() > TAKEN_OVER_TIMES {
            self.taken_over.pop_front();
        }
        let first = *self.taken_over.front()?;
        if self.taken_over.len() == TAKEN_OVER_TIMES && now.saturating_duration_since(first) <= TAKEN_OVER_WITHIN {
            let minutes = TAKEN_OVER_WITHIN.as_secs() / 60;
            self.conflict = Some(format!(
                "another client connected with this box's client id {TAKEN_OVER_TIMES} times within {minutes} min: another box \
                 has the same node.id, as after cloning a disk. Give one of them another node.id"
            ));
        }
        self.conflict.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "00000000000000000000000000000001";
    const OTHER: &str = "00000000000000000000000000000002";

    fn when(second: i64) -> When {
        When::new(jiff::Timestamp::from_second(second).unwrap(), &jiff::tz::TimeZone::UTC)
    }

    fn status(installation: Option<&str>, state: Presence, has_since: bool) -> StatusMessage {
        StatusMessage {
            schema_version: 1,
            node_id: "box-7".into(),
            state,
            since: has_since.then(|| when(0)),
            version: "1".into(),
            public_key: None,
            installation: installation.map(Into::into),
        }
    }

    fn judge(watch: &DuplicateWatch, installation: Option<&str>, state: Presence, has_since: bool) -> bool {
        watch
            .judge(Some(&status(installation, state, has_since)), OWN)
            .is_some()
    }

    #[test]
    fn another_installation_that_is_online_is_a_conflict() {
        let watch = DuplicateWatch::new();
        let conflict = watch
            .judge(Some(&status(Some(OTHER), Presence::Online, true)), OWN)
            .unwrap();
        assert!(conflict.contains(OTHER) && conflict.contains("node.id"), "{conflict}");
        assert!(
            !judge(&watch, Some(OWN), Presence::Online, true),
            "its own, after a crash"
        );
        assert!(watch.judge(None, OWN).is_none());
    }

    #[test]
    fn a_box_replaces_one_that_is_offline() {
        let watch = DuplicateWatch::new();
        assert!(!judge(&watch, Some(OTHER), Presence::Offline, true));
        assert!(!judge(&watch, Some(OTHER), Presence::Offline, false));
    }

    #[test]
    fn a_conflict_ends_when_the_other_box_is_stopped_but_not_when_it_is_cut_off() {
        let watch = DuplicateWatch {
            conflict: Some("another box".into()),
            ..DuplicateWatch::default()
        };
        assert!(judge(&watch, Some(OTHER), Presence::Offline, false));
        assert!(watch.judge(None, OWN).is_some(), "the broker lost the status");
        assert!(!judge(&watch, Some(OTHER), Presence::Offline, true));
    }

    #[test]
    fn a_copy_of_the_state_on_the_same_machine_is_found_by_the_time_of_its_status() {
        let mut watch = DuplicateWatch::new();
        assert!(
            !judge(&watch, Some(OWN), Presence::Online, true),
            "before its own: its last run"
        );
        watch.has_published = true;
        watch.published(when(0));
        watch.published(when(60));
        assert!(
            !judge(&watch, Some(OWN), Presence::Online, true),
            "its earlier connection"
        );
        let other = StatusMessage {
            since: Some(when(59)),
            ..status(Some(OWN), Presence::Online, true)
        };
        let conflict = watch.judge(Some(&other), OWN).unwrap();
        assert!(conflict.contains("copy of this state"), "{conflict}");
        watch.conflict = Some(conflict);
        assert!(judge(&watch, Some(OWN), Presence::Offline, false), "cut off");
        assert!(!judge(&watch, Some(OWN), Presence::Offline, true), "stopped");
    }

    #[test]
    fn a_copy_that_starts_later_gives_way_if_its_directory_shows_that_it_is_one() {
        let mut watch = DuplicateWatch::new();
        let is_conflict = |watch: &DuplicateWatch| judge(watch, Some(OWN), Presence::Online, true);
        watch.noted = Some(vec![when(0).to_string()]);
        assert!(!is_conflict(&watch), "its own last run");
        watch.noted = Some(vec![when(60).to_string()]);
        let conflict = watch
            .judge(Some(&status(Some(OWN), Presence::Online, true)), OWN)
            .unwrap();
        assert!(
            conflict.contains("gridwatch cases list") && !conflict.contains("  "),
            "{conflict}"
        );
        watch.noted = None;
        assert!(!is_conflict(&watch), "of an older version");
    }

    #[test]
    fn the_status_of_an_older_version_is_its_own_only_before_it_published_one() {
        let mut watch = DuplicateWatch::new();
        assert!(!judge(&watch, None, Presence::Online, true));
        watch.has_published = true;
        assert!(judge(&watch, None, Presence::Online, true));
    }

    #[test]
    fn three_take_overs_within_ten_minutes_are_a_conflict() {
        let mut watch = DuplicateWatch::new();
        let start = Instant::now();
        let minute = Duration::from_secs(60);
        for minutes in [0, 6, 12] {
            assert_eq!(watch.taken_over(start + minute * minutes), None);
        }
        assert!(watch.taken_over(start + minute * 13).is_some());
    }
}
