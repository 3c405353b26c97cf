//! Reviews of cases: stores them, and puts them into the audit log, many in one entry.
//!
//! The audit log is a part of the chain of custody, which is never shortened, and a person reviews a case every few seconds: an entry for each
//! would be most of the chain. So an entry sums up the reviews of one person: how many of each verdict, of which time, and the hash of the list,
//! by which the stored reviews can be held against the chain. It is made after [`BATCH`] reviews, or [`DELAY`] after the first. The store
//! remembers which reviews are in an entry: a restart loses none.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gridwatch_base::digest::sha256_hex;
use gridwatch_store::{Review, ReviewProgress, ReviewVerdict, Store};
use gridwatch_web::{
    Actor, Rejection,
    audit::{Act, Means, Outcome, Person},
};
use jiff::Timestamp;
use tokio::task;

use crate::{access::CameraAccess as _, app::App, cases, error::OrReject as _};

/// Reviews of a person in one entry of the audit log, at most.
const BATCH: u32 = 50;

/// Time from a review to its entry in the audit log, at most.
const DELAY: Duration = Duration::from_mins(10);

/// Before the name of a token in the name of a reviewer; names of users have no `:`.
const TOKEN: &str = "token:";

/// Name of the acts.
pub(crate) const ACT: &str = "console review";
/// A review that is in the audit log was taken back.
pub(crate) const UNDO: &str = "console review undo";

/// Reviews that are not in the audit log yet.
#[derive(Default)]
pub(crate) struct Unrecorded(Mutex<BTreeMap<String, (Person, u32)>>);

/// When the reviews of a person go into the audit log.
enum Due {
    Now,
    After(Duration),
    /// With those before.
    Arranged,
}

impl Unrecorded {
    fn note(&self, reviewer: &str, person: Person) -> Due {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = waiting.is_empty();
        let (_, count) = waiting.entry(reviewer.to_owned()).or_insert((person, 0));
        *count += 1;
        match (*count >= BATCH, is_first) {
            (true, _) => Due::Now,
            (false, true) => Due::After(DELAY),
            (false, false) => Due::Arranged,
        }
    }

    /// Takes one person out, or all.
    fn take(&self, only: Option<&str>) -> BTreeMap<String, (Person, u32)> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match only {
            None => std::mem::take(&mut *waiting),
            Some(only) => waiting.remove_entry(only).into_iter().collect(),
        }
    }
}

/// The name under which a person's reviews are stored.
pub(crate) fn reviewer(actor: &Actor) -> String {
    let name = actor.name.clone().unwrap_or_default();
    match actor.means {
        Means::Token(_) => format!("{TOKEN}{name}"),
        _ => name,
    }
}

/// The token that a reviewer is, if they are one.
pub(crate) fn as_token(reviewer: &str) -> Option<&str> {
    reviewer.strip_prefix(TOKEN)
}

/// What a person says of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opinion {
    pub(crate) verdict: ReviewVerdict,
    /// For a duplicate: the other case.
    pub(crate) duplicate_of: Option<String>,
}

/// Why an opinion cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpinionFault {
    NoOther,
    UnknownOther(String),
    Itself,
    Circular,
}

/// Stores a review in the place of an earlier one by the same person of the same case.
pub(crate) async fn set(
    app: &Arc<App>,
    actor: &Actor,
    case: &str,
    opinion: Opinion,
) -> Result<Result<(), OpinionFault>, Rejection> {
    cases::expect(app, actor, case).await?;
    let reviewer = reviewer(actor);
    let duplicate_of = match (opinion.verdict, opinion.duplicate_of) {
        (ReviewVerdict::Duplicate, None) => return Ok(Err(OpinionFault::NoOther)),
        (ReviewVerdict::Duplicate, Some(other)) => {
            if other == case {
                return Ok(Err(OpinionFault::Itself));
            }
            match cases::expect(app, actor, &other).await {
                Err(Rejection::NotFound) => return Ok(Err(OpinionFault::UnknownOther(other))),
                found => found?,
            }
            let theirs = cases::reviews_of(app, &other).await?;
            let mut own = theirs.iter().filter(|review| review.reviewer == reviewer);
            if own.any(|review| review.duplicate_of.as_deref() == Some(case)) {
                return Ok(Err(OpinionFault::Circular));
            }
            Some(other)
        }
        _ => None,
    };
    let review = Review {
        case_id: case.to_owned(),
        reviewer: reviewer.clone(),
        verdict: opinion.verdict,
        duplicate_of,
        at: Timestamp::now(),
    };
    if !write(app, move |store| store.set_review(&review).or_reject()).await? {
        return Err(Rejection::NotFound);
    }
    match app.reviews.note(&reviewer, actor.person()) {
        Due::Now => record(app, Some(&reviewer)).await?,
        Due::After(delay) => {
            let app = Arc::downgrade(app);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                if let Some(app) = app.upgrade() {
                    record_all(&app).await;
                }
            });
        }
        Due::Arranged => {}
    }
    Ok(Ok(()))
}

/// Takes a person's review of a case back. Returns it, and whether it is in the audit log; `None` if there was none.
pub(crate) async fn remove(app: &Arc<App>, actor: &Actor, case: &str) -> Result<Option<(Review, bool)>, Rejection> {
    cases::expect(app, actor, case).await?;
    let (case, reviewer) = (case.to_owned(), reviewer(actor));
    write(app, move |store| store.remove_review(&case, &reviewer).or_reject()).await
}

/// How far the reviews are, over the cases that the user sees.
pub(crate) async fn progress(app: &Arc<App>, actor: &Actor) -> Result<ReviewProgress, Rejection> {
    let (reviewer, cameras) = (reviewer(actor), actor.cameras(&app.config()));
    let found = cases::read(app, move |store| {
        store.review_progress(&reviewer, cameras.as_deref()).or_reject()
    });
    match found.await {
        Err(Rejection::NotFound) => Ok(ReviewProgress::default()),
        found => found,
    }
}

/// The newest review by the user, to take it back.
pub(crate) async fn newest(app: &Arc<App>, actor: &Actor) -> Result<Option<Review>, Rejection> {
    let reviewer = reviewer(actor);
    let found = cases::read(app, move |store| store.reviews_by(&reviewer, 1).or_reject()).await;
    match found {
        Err(Rejection::NotFound) => Ok(None),
        found => Ok(found?.pop()),
    }
}

/// Puts all reviews that are not in the audit log yet into it: some time after a review, and at the start those that a restart interrupted.
pub(crate) async fn record_all(app: &Arc<App>) {
    if let Err(rejection) = record(app, None).await
        && rejection != Rejection::NotFound
    {
        tracing::error!(reason = %rejection, "Reviews are not in the audit log; trying again with the next ones");
    }
}

/// Puts reviews into the audit log: those of one person, or of all.
async fn record(app: &Arc<App>, only: Option<&str>) -> Result<(), Rejection> {
    let mut persons = app.reviews.take(only);
    let mut by_reviewer: BTreeMap<String, Vec<Review>> = BTreeMap::new();
    for review in cases::read(app, |store| store.unrecorded_reviews().or_reject()).await? {
        if only.is_none_or(|only| only == review.reviewer) {
            by_reviewer.entry(review.reviewer.clone()).or_default().push(review);
        }
    }
    for (reviewer, reviews) in by_reviewer {
        let person = persons.remove(&reviewer).map(|(person, _)| person);
        let person = person.unwrap_or_else(|| person_after_restart(&reviewer));
        app.daemon.record(summary(person, &reviews)).await?;
        write(app, move |store| store.mark_reviews_recorded(&reviews).or_reject()).await?;
    }
    Ok(())
}

/// Who a reviewer was; session and address are not known any more.
fn person_after_restart(reviewer: &str) -> Person {
    let (user, means) = match as_token(reviewer) {
        Some(token) => (token, Means::Token(token.to_owned())),
        None => (reviewer, Means::Local),
    };
    Person {
        user: (!user.is_empty()).then(|| user.to_owned()),
        role: None,
        means,
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// The entry about the reviews of one person, in order of their times.
fn summary(by: Person, reviews: &[Review]) -> Act {
    let count = |verdict| reviews.iter().filter(|review| review.verdict == verdict).count();
    let mut list = String::new();
    for review in reviews {
        // Writing to a String cannot fail.
        let _ = writeln!(
            list,
            "{} {} {} {}",
            review.case_id,
            review.verdict.as_str(),
            review.duplicate_of.as_deref().unwrap_or("-"),
            review.at
        );
    }
    let time = |review: Option<&Review>| review.map_or_else(String::new, |review| review.at.to_string());
    let mut details = vec![
        ("reviews", reviews.len().to_string()),
        ("from", time(reviews.first())),
        ("until", time(reviews.last())),
    ];
    details.extend(ReviewVerdict::ALL.map(|verdict| (verdict.as_str(), count(verdict).to_string())));
    details.push(("sha256", sha256_hex(list.as_bytes())));
    Act {
        name: ACT,
        by,
        subject: None,
        details,
        outcome: Outcome::Done,
    }
}

/// Opens the store beside the daemon's handle and writes.
async fn write<T: Send + 'static>(
    app: &Arc<App>,
    write: impl FnOnce(&mut Store) -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Rejection> {
    let place = Arc::clone(&app.readers).acquire_owned().await;
    let place = place.map_err(|error| Rejection::internal(&error))?;
    let dir = app.state_dir.clone();
    let done = task::spawn_blocking(move || {
        let done = Store::open_unlocked(&dir)
            .or_reject()
            .and_then(|mut store| write(&mut store));
        drop(place);
        done
    });
    done.await.map_err(|error| Rejection::internal(&error))?
}
