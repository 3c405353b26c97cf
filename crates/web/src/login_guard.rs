//! Limits how often passwords are guessed, without letting a guesser keep the owner of an account out.
//!
//! Failures are counted per pair of account and source, so that an account is locked for the one who guesses and for no one else. A
//! source that guesses at many accounts is limited as a whole, and an account that many sources guess at is slowed down, never locked. A
//! browser that has logged in to the account before proves it with a cookie and is counted by that instead of its address: whoever shares
//! the address, or knows it, cannot lock it out. Sessions are not asked about at all.
//!
//! This module reads no clock, so that tests decide what time it is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::client::Source;

/// Wrong passwords of an account from one source before it has to wait: a person mistypes three times.
const FREE_FAILURES: u32 = 5;
/// First wait; it doubles with each further failure up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_mins(15);
/// Failures of one source, over all accounts, before it waits: an office behind one address has several people.
const FREE_FAILURES_OF_SOURCE: u32 = 20;
/// Failures of an account, over all sources, after which each login at it takes [`SLOW_DOWN`] longer.
const FREE_FAILURES_OF_ACCOUNT: u32 = 50;
/// Guesses out of many sources also share the one lane of the password pool; a person waits two seconds.
const SLOW_DOWN: Duration = Duration::from_secs(2);
/// Without further failures, they are forgotten after this time.
const FORGET_AFTER: Duration = Duration::from_mins(30);
/// Entries of each kind, at most. When full, the half with the oldest failures goes.
const MAX_ENTRIES: usize = 4096;

/// Where a login comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A browser that has logged in to the account before: id of its cookie.
    Device(String),
    /// Any other client.
    Source(Source),
}

/// Whether a password may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// After this pause.
    After(Duration),
    /// Not before this time has passed.
    Wait(Duration),
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    /// How long to wait after more than `free` failures.
    fn wait(self, free: u32, now: Instant) -> Option<Duration> {
        let more = self.count.checked_sub(free)?;
        let wait = FIRST_WAIT.saturating_mul(1 << more.min(16)).min(LONGEST_WAIT);
        (self.last + wait)
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }
}

/// Counts of failed logins.
#[derive(Debug, Default)]
pub struct LoginGuard {
    by_pair: BTreeMap<(String, Origin), Failures>,
    by_source: BTreeMap<Source, Failures>,
    by_account: BTreeMap<String, Failures>,
}

impl LoginGuard {
    /// Whether the password of `account` may be tried from `origin` now. Counts the try as a failure until [`LoginGuard::succeeded`], so that
    /// tries at the same time do not share one permission.
    pub fn try_login(&mut self, account: &str, origin: &Origin, now: Instant) -> Permission {
        let pair = (account.to_owned(), origin.clone());
        let of_pair = current(&self.by_pair, &pair, now).and_then(|f| f.wait(FREE_FAILURES, now));
        let of_source = match origin {
            Origin::Source(source) => current(&self.by_source, source, now),
            Origin::Device(_) => None,
        };
        let of_source = of_source.and_then(|f| f.wait(FREE_FAILURES_OF_SOURCE, now));
        if let Some(wait) = of_pair.max(of_source) {
            return Permission::Wait(wait);
        }
        count(&mut self.by_pair, pair, now);
        match origin {
            Origin::Device(_) => return Permission::After(Duration::ZERO),
            Origin::Source(source) => count(&mut self.by_source, *source, now),
        }
        count(&mut self.by_account, account.to_owned(), now);
        let account = current(&self.by_account, &account.to_owned(), now);
        let is_attacked = account.is_some_and(|failures| failures.count > FREE_FAILURES_OF_ACCOUNT);
        Permission::After(if is_attacked { SLOW_DOWN } else { Duration::ZERO })
    }

    /// The password was not tried after all, as there were too many logins.
    pub fn not_tried(&mut self, account: &str, origin: &Origin) {
        take_back(&mut self.by_pair, &(account.to_owned(), origin.clone()));
        if let Origin::Source(source) = origin {
            take_back(&mut self.by_source, source);
            take_back(&mut self.by_account, &account.to_owned());
        }
    }

    /// The password was right.
    pub fn succeeded(&mut self, account: &str, origin: &Origin) {
        self.by_pair.remove(&(account.to_owned(), origin.clone()));
        // The others' failures at this account, and this source's at others, stay; only this try is taken back.
        if let Origin::Source(source) = origin {
            take_back(&mut self.by_source, source);
            take_back(&mut self.by_account, &account.to_owned());
        }
    }
}

fn current<K: Ord>(entries: &BTreeMap<K, Failures>, key: &K, now: Instant) -> Option<Failures> {
    let failures = entries.get(key).copied()?;
    (now.saturating_duration_since(failures.last) < FORGET_AFTER).then_some(failures)
}

fn count<K: Ord + Clone>(entries: &mut BTreeMap<K, Failures>, key: K, now: Instant) {
    let before = current(entries, &key, now).map_or(0, |failures| failures.count);
    if entries.len() >= MAX_ENTRIES && !entries.contains_key(&key) {
        entries.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGET_AFTER);
        if entries.len() >= MAX_ENTRIES {
            // Half at once, so that a flood of sources does not cost a search each.
            let mut times: Vec<Instant> = entries.values().map(|failures| failures.last).collect();
            let (_, median, _) = times.select_nth_unstable(MAX_ENTRIES / 2);
            let median = *median;
            entries.retain(|_, failures| failures.last > median);
        }
    }
    let count = before.saturating_add(1);
    entries.insert(key, Failures { count, last: now });
}

fn take_back<K: Ord>(entries: &mut BTreeMap<K, Failures>, key: &K) {
    if let Some(failures) = entries.get_mut(key) {
        failures.count = failures.count.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(last: u8) -> Origin {
        Origin::Source(Source::from(IpAddr::from([10, 0, 0, last])))
    }

    fn fail(guard: &mut LoginGuard, account: &str, origin: &Origin, times: u32, now: Instant) {
        for _ in 0..times {
            guard.try_login(account, origin, now);
        }
    }

    const AT_ONCE: Permission = Permission::After(Duration::ZERO);

    #[test]
    fn a_guesser_waits_longer_and_longer_and_the_owner_elsewhere_does_not() {
        let (mut guard, now) = (LoginGuard::default(), Instant::now());
        fail(&mut guard, "wang", &source(1), FREE_FAILURES, now);
        assert_eq!(guard.try_login("wang", &source(1), now), Permission::Wait(FIRST_WAIT));
        assert_eq!(guard.try_login("wang", &source(2), now), AT_ONCE);
        assert_eq!(
            guard.try_login("li", &source(1), now),
            AT_ONCE,
            "another account of the same office"
        );
        let later = now + FIRST_WAIT;
        assert_eq!(guard.try_login("wang", &source(1), later), AT_ONCE);
        assert_eq!(
            guard.try_login("wang", &source(1), later),
            Permission::Wait(FIRST_WAIT * 2)
        );
        let much_later = later + FORGET_AFTER;
        assert_eq!(guard.try_login("wang", &source(1), much_later), AT_ONCE);
    }

    #[test]
    fn a_source_that_guesses_at_many_accounts_waits_as_a_whole() {
        let (mut guard, now) = (LoginGuard::default(), Instant::now());
        for i in 0..FREE_FAILURES_OF_SOURCE {
            assert_eq!(guard.try_login(&format!("user{i}"), &source(1), now), AT_ONCE);
        }
        assert!(matches!(
            guard.try_login("another", &source(1), now),
            Permission::Wait(_)
        ));
        assert_eq!(guard.try_login("another", &source(2), now), AT_ONCE);
    }

    #[test]
    fn an_account_guessed_at_from_everywhere_is_slow_and_never_locked() {
        let (mut guard, now) = (LoginGuard::default(), Instant::now());
        for i in 0..100 {
            fail(&mut guard, "wang", &source(i), FREE_FAILURES, now);
        }
        assert_eq!(guard.try_login("wang", &source(200), now), Permission::After(SLOW_DOWN));
    }

    #[test]
    fn a_known_browser_is_not_affected_by_others_at_its_address() {
        let (mut guard, now) = (LoginGuard::default(), Instant::now());
        fail(&mut guard, "wang", &source(1), 1000, now);
        let device = Origin::Device("d1".into());
        assert_eq!(guard.try_login("wang", &device, now), AT_ONCE);
        fail(&mut guard, "wang", &device, FREE_FAILURES, now);
        assert!(
            matches!(guard.try_login("wang", &device, now), Permission::Wait(_)),
            "a stolen cookie is no free ticket"
        );
    }

    #[test]
    fn success_forgets_the_owners_mistakes_and_not_those_of_others() {
        let (mut guard, now) = (LoginGuard::default(), Instant::now());
        fail(&mut guard, "wang", &source(1), FREE_FAILURES - 1, now);
        fail(&mut guard, "wang", &source(2), FREE_FAILURES, now);
        assert_eq!(guard.try_login("wang", &source(1), now), AT_ONCE);
        guard.succeeded("wang", &source(1));
        fail(&mut guard, "wang", &source(1), FREE_FAILURES, now);
        assert!(matches!(guard.try_login("wang", &source(2), now), Permission::Wait(_)));
    }

    #[test]
    fn a_login_that_was_not_tried_is_no_failure() {
        let (mut guard, now) = (LoginGuard::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(guard.try_login("wang", &source(1), now), AT_ONCE);
            guard.not_tried("wang", &source(1));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (mut guard, now) = (LoginGuard::default(), Instant::now());
        for i in 0..(2 * MAX_ENTRIES as u32) {
            let origin = Origin::Source(IpAddr::from(i.to_be_bytes()).into());
            guard.try_login(&format!("user{i}"), &origin, now + Duration::from_millis(u64::from(i)));
        }
        assert!(
            guard.by_pair.len() <= MAX_ENTRIES
                && guard.by_source.len() <= MAX_ENTRIES
                && guard.by_account.len() <= MAX_ENTRIES
        );
    }
}
