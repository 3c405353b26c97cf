//! Whether a problem in front of the cameras would be filed now: the part of `/readyz` that depends on the cameras and the
//! broker. What it takes is described in edge-deploy/README.md.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::looks::view_name;
use gridwatch_base::{message, message::Message};
use gridwatch_camera::slot::CameraState;
use gridwatch_engine::View;
use gridwatch_link::{LinkProblem, LinkState};
use gridwatch_store::OutboxEntry;

/// The outbox covers an outage of this length; a broker restart must not make every box of a city unready.
const BROKER_GRACE: Duration = Duration::from_secs(60);

/// A broker that acknowledges nothing for this long, while messages wait for it, is not publishing them.
const ACK_GRACE: Duration = Duration::from_secs(60);

/// A platform that gives no receipt for this long, although the broker took the case, does not have it.
const RECEIPT_GRACE: Duration = Duration::from_mins(15);

/// A camera counts if it had a clear look within this many look periods, or within [`MIN_SIGHT`].
const SIGHT_PERIODS: u32 = 5;
const MIN_SIGHT: Duration = Duration::from_secs(120);

/// Maximum number of cameras named in the blocker.
const NAMED: usize = 5;

/// What `/readyz` needs to know of a camera.
pub(super) struct CameraSight {
    pub(super) id: String,
    pub(super) state: CameraState,
    /// The view at the newest look.
    pub(super) view: Option<View>,
    /// When the newest look whose view was clear was taken.
    pub(super) last_clear: Option<Timestamp>,
    /// Period of its looks, as stretched by overload.
    pub(super) period: Duration,
    /// Longest time for which a PTZ camera is away from its presets.
    pub(super) away: Duration,
}

impl CameraSight {
    /// Why the camera has no clear view now; `None` if it has.
    fn blindness(&self, zone: &TimeZone, now: Timestamp) -> Option<Message> {
        let limit = (self.period * SIGHT_PERIODS).max(MIN_SIGHT) + self.away;
        let is_recent = |at: Timestamp| now.duration_since(at).unsigned_abs() <= limit;
        if self.last_clear.is_some_and(is_recent) {
            return None;
        }
        let since = match self.last_clear {
            Some(at) => message!("no clear look since {at}", at = shown(at, zone)),
            None => "no clear look yet".into(),
        };
        let cause = match (&self.state, self.view) {
            (CameraState::Down { error, since, .. }, _) => {
                message!(
                    "{error}, since {since}",
                    error = error.clone(),
                    since = shown(*since, zone)
                )
            }
            (CameraState::Refused { error, since, until }, _) => message!(
                "{error}, since {since}; next try at {until}",
                error = error.clone(),
                since = shown(*since, zone),
                until = shown(*until, zone)
            ),
            (CameraState::SetAside { reason, until }, _) => {
                message!("set aside until {until}: {reason}", until = shown(*until, zone), reason)
            }
            (CameraState::Live, Some(view)) if view != View::Clear => {
                message!("its view is {view}", view = Message::from(view_name(view)))
            }
            (CameraState::Live, _) => return Some(message!("camera {id}: {since}", id = &self.id, since)),
            (CameraState::Degraded { reason }, Some(view)) if view != View::Clear => {
                message!(
                    "its view is {view}; {reason}",
                    view = Message::from(view_name(view)),
                    reason
                )
            }
            (state, _) => state.message(),
        };
        Some(message!("camera {id}: {since}: {cause}", id = &self.id, since, cause))
    }
}

/// Which cameras have no clear view, and why; one sentence each.
pub(super) fn blind(cameras: &[CameraSight], zone: &TimeZone, now: Timestamp) -> Vec<Message> {
    cameras
        .iter()
        .filter_map(|camera| camera.blindness(zone, now))
        .collect()
}

/// What stands against filing if there are no cameras, all `total` are `blind`, or a larger share of them than `max_share`.
pub(super) fn cameras_blocker(blind: &[Message], total: usize, max_share: f64) -> Option<Message> {
    if total == 0 {
        return Some("no cameras are configured: nothing is watched".into());
    }
    let are_all = blind.len() >= total;
    if !are_all && blind.len() as f64 <= max_share * total as f64 {
        return None;
    }
    let mut named: Vec<Message> = blind.iter().take(NAMED).cloned().collect();
    if let Some(more) = blind.len().checked_sub(NAMED).filter(|more| *more > 0) {
        named.push(message!("and {more} more", more));
    }
    let n = blind.len();
    Some(match are_all {
        true => message!("no camera has a clear view: {named}", named),
        false => message!("{n} of {total} cameras have no clear view: {named}", n, total, named),
    })
}

/// What waits in the outbox.
#[derive(Debug, Default)]
pub(super) struct OutboxSight {
    /// Messages to be sent.
    pub(super) waiting: u32,
    /// Quarantined messages.
    pub(super) quarantined: u32,
    /// The newest quarantined message, if none after it was delivered.
    pub(super) rejected: Option<OutboxEntry>,
    /// Messages that the broker acknowledged and the platform has given no receipt for.
    pub(super) awaiting_receipt: u64,
    /// When the oldest of these was queued.
    pub(super) unreceived_since: Option<Timestamp>,
}

/// What stands against publishing to the broker at `address`.
pub(super) fn broker_blocker(
    link: &LinkState,
    outbox: &OutboxSight,
    address: &str,
    zone: &TimeZone,
    now: Timestamp,
) -> Option<Message> {
    if !link.connected {
        let is_short = |since: Timestamp| now.duration_since(since).unsigned_abs() < BROKER_GRACE;
        if link.problem != Some(LinkProblem::Unreachable) || !link.down_since.is_some_and(is_short) {
            let error = link
                .last_error
                .clone()
                .map_or("not connected yet".into(), Message::from);
            return Some(match link.down_since {
                Some(at) => message!(
                    "{address}: {error}, since {since}",
                    address,
                    error,
                    since = shown(at, zone)
                ),
                None => message!("{address}: {error}", address, error),
            });
        }
    }
    if let Some(rejected) = &outbox.rejected {
        return Some(message!(
            "{address}: cases are rejected: {why}; {count} quarantined; fix the cause, then run `gridwatch outbox retry`",
            address,
            why = rejected.quarantined.as_deref().unwrap_or_default(),
            count = messages(outbox.quarantined)
        ));
    }
    let is_unreceived = |since: &Timestamp| now.duration_since(*since).unsigned_abs() > RECEIPT_GRACE;
    if let Some(since) = outbox.unreceived_since.filter(is_unreceived) {
        return Some(message!(
            "{address}: the broker takes the cases, but the platform has given no receipt since {since}; {count} without one; check that the platform runs and may read and write its topics",
            address,
            since = shown(since, zone),
            count = messages(u32::try_from(outbox.awaiting_receipt).unwrap_or(u32::MAX))
        ));
    }
    let is_overdue = |since: &Timestamp| now.duration_since(*since).unsigned_abs() > ACK_GRACE;
    let since = link
        .unacknowledged_since
        .filter(|since| link.connected && outbox.waiting > 0 && is_overdue(since))?;
    Some(message!(
        "{address}: the broker accepts the connection but has acknowledged no message since {since}; {count} waiting",
        address,
        since = shown(since, zone),
        count = messages(outbox.waiting)
    ))
}

/// What a broker that publishes cases nevertheless lacks.
pub(super) fn broker_impairment(link: &LinkState, address: &str) -> Option<Message> {
    let reason = link.replies_denied.as_ref()?;
    Some(message!(
        "{address}: the subscription to replies is denied ({reason}), so cases get none; allow the topic in the broker's ACL",
        address,
        reason = reason.to_string()
    ))
}

fn messages(count: u32) -> Message {
    match count {
        1 => "1 message".into(),
        count => message!("{count} messages", count),
    }
}

fn shown(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%F %T%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + second).unwrap()
    }

    fn zone() -> TimeZone {
        TimeZone::fixed(jiff::tz::offset(8))
    }

    fn none() -> OutboxSight {
        OutboxSight::default()
    }

    fn camera(id: &str, state: CameraState, view: Option<View>, last_clear: Option<i64>) -> CameraSight {
        CameraSight {
            id: id.into(),
            state,
            view,
            last_clear: last_clear.map(at),
            period: Duration::from_secs(10),
            away: Duration::ZERO,
        }
    }

    #[test]
    fn a_camera_sees_while_its_last_clear_look_is_recent() {
        let seen = camera("gate", CameraState::Live, Some(View::Clear), Some(0));
        assert_eq!(blind(std::slice::from_ref(&seen), &zone(), at(120)), [""; 0]);
        let blind = blind(&[seen], &zone(), at(121));
        assert_eq!(blind, ["camera gate: no clear look since 2026-05-29 04:26:40+08:00"]);
    }

    #[test]
    fn a_slow_or_touring_camera_has_more_time() {
        let mut seen = camera("gate", CameraState::Live, Some(View::Clear), Some(0));
        seen.period = Duration::from_secs(100);
        assert!(seen.blindness(&zone(), at(500)).is_none() && seen.blindness(&zone(), at(501)).is_some());
        seen.away = Duration::from_secs(600);
        assert!(seen.blindness(&zone(), at(1100)).is_none());
    }

    #[test]
    fn each_camera_says_why_it_sees_nothing() {
        let down = CameraState::Down {
            error: "login rejected".into(),
            class: gridwatch_base::error::Class::Config,
            since: at(0),
        };
        let cameras = [
            camera("gate", down, None, None),
            camera("lane", CameraState::Live, Some(View::Dark), Some(0)),
            camera("yard", CameraState::Connecting, None, None),
        ];
        let reasons = blind(&cameras, &zone(), at(1000));
        assert_eq!(
            reasons,
            [
                "camera gate: no clear look yet: login rejected, since 2026-05-29 04:26:40+08:00",
                "camera lane: no clear look since 2026-05-29 04:26:40+08:00: its view is dark",
                "camera yard: no clear look yet: connecting",
            ]
        );
        assert!(cameras_blocker(&reasons, 4, 1.0).is_none(), "the fourth one sees");
        let blocker = cameras_blocker(&reasons, 3, 1.0).unwrap();
        assert!(
            reasons.iter().all(|reason| blocker.contains(reason.as_str())),
            "{blocker}"
        );
        let blocker = cameras_blocker(&[], 0, 1.0).unwrap();
        assert!(blocker.starts_with("no cameras are configured"), "{blocker}");
    }

    #[test]
    fn of_many_blind_cameras_a_few_are_named() {
        let cameras: Vec<CameraSight> = (0..20)
            .map(|i| camera(&format!("c{i}"), CameraState::Connecting, None, None))
            .collect();
        let blocker = cameras_blocker(&blind(&cameras, &zone(), at(0)), 20, 1.0).unwrap();
        assert!(
            blocker.contains("camera c4:") && !blocker.contains("camera c5:"),
            "{blocker}"
        );
        assert!(blocker.ends_with("and 15 more"), "{blocker}");
    }

    #[test]
    fn an_outage_of_seconds_does_not_count_but_one_of_minutes_does() {
        let link = LinkState {
            connected: false,
            down_since: Some(at(0)),
            problem: Some(LinkProblem::Unreachable),
            last_error: Some("connection refused".into()),
            ..LinkState::default()
        };
        assert_eq!(broker_blocker(&link, &none(), "mqtt:1883", &zone(), at(59)), None);
        assert_eq!(
            broker_blocker(&link, &none(), "mqtt:1883", &zone(), at(60)).unwrap(),
            "mqtt:1883: connection refused, since 2026-05-29 04:26:40+08:00"
        );
    }

    #[test]
    fn a_broker_that_was_never_reached_or_cannot_help_counts_at_once() {
        let new = LinkState::default();
        assert_eq!(
            broker_blocker(&new, &none(), "mqtt:1883", &zone(), at(0)).unwrap(),
            "mqtt:1883: not connected yet"
        );
        for problem in [LinkProblem::Unsuitable, LinkProblem::DuplicateNodeId] {
            let link = LinkState {
                down_since: Some(at(0)),
                problem: Some(problem),
                last_error: Some("no retained messages".into()),
                ..LinkState::default()
            };
            assert!(broker_blocker(&link, &none(), "mqtt:1883", &zone(), at(1)).is_some());
        }
        let connected = LinkState {
            connected: true,
            ..LinkState::default()
        };
        assert_eq!(broker_blocker(&connected, &none(), "mqtt:1883", &zone(), at(0)), None);
    }

    #[test]
    fn a_broker_that_rejects_every_case_blocks_although_it_is_connected() {
        let link = LinkState {
            connected: true,
            ..LinkState::default()
        };
        let outbox = OutboxSight {
            waiting: 0,
            quarantined: 3,
            rejected: Some(OutboxEntry {
                seq: 7,
                case_id: "case-1".into(),
                kind: gridwatch_store::OutboxKind::Case { json: "{}".into() },
                topic: "gridwatch/v1/box-7/case".into(),
                revision: 1,
                queued_at: at(0),
                unheard: false,
                sent_at: None,
                attempts: 0,
                due_at: None,
                missing: false,
                quarantined: Some("gridwatch/v1/box-7/case: not authorised".into()),
            }),
            ..none()
        };
        assert_eq!(
            broker_blocker(&link, &outbox, "mqtt:1883", &zone(), at(0)).unwrap(),
            "mqtt:1883: cases are rejected: gridwatch/v1/box-7/case: not authorised; 3 messages quarantined; fix the cause, \
             then run `gridwatch outbox retry`"
        );
        let outbox = OutboxSight {
            rejected: None,
            ..outbox
        };
        assert_eq!(
            broker_blocker(&link, &outbox, "mqtt:1883", &zone(), at(0)),
            None,
            "an old one is no news"
        );
    }

    #[test]
    fn a_broker_that_acknowledges_nothing_for_a_minute_blocks_while_messages_wait() {
        let link = LinkState {
            connected: true,
            unacknowledged_since: Some(at(0)),
            ..LinkState::default()
        };
        let waiting = |waiting| OutboxSight {
            waiting,
            ..OutboxSight::default()
        };
        let blocker = |outbox, now| broker_blocker(&link, &waiting(outbox), "mqtt:1883", &zone(), at(now));
        assert_eq!(blocker(2, 60), None);
        assert_eq!(blocker(0, 61), None);
        assert_eq!(
            blocker(2, 61).unwrap(),
            "mqtt:1883: the broker accepts the connection but has acknowledged no message since 2026-05-29 04:26:40+08:00; \
             2 messages waiting"
        );
    }

    #[test]
    fn a_denied_subscription_to_replies_is_an_impairment() {
        let link = LinkState {
            connected: true,
            replies_denied: Some("not authorised".into()),
            ..LinkState::default()
        };
        assert_eq!(broker_blocker(&link, &none(), "mqtt:1883", &zone(), at(0)), None);
        let impairment = broker_impairment(&link, "mqtt:1883").unwrap();
        assert!(impairment.contains("denied (not authorised)"), "{impairment}");
        assert_eq!(broker_impairment(&LinkState::default(), "mqtt:1883"), None);
    }
}
