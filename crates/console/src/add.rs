//! Adds a camera: searches for cameras, probes one, and writes it into the configuration.
//!
//! A [`Wizard`] is one person's way from an address to a saved camera. It lives in memory alone, for some minutes and for its owner only:
//! the login of the camera that it holds is shown to nobody, is in no URL, log or audit entry, and is written to one file when the camera is
//! saved. What answers on the network is hostile; `gridwatch_onvif` bounds it, and this module bounds how much is asked at a time.
//!
//! Nothing here decodes or shows a picture: the daemon does ([`Daemon::try_picture`](crate::Daemon::try_picture)).

mod address;
mod given;
mod probing;
mod save;
mod search;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gridwatch_base::secret::Credentials;
use gridwatch_web::{Actor, random};
use tokio::{sync::Semaphore, time::Instant};

pub(crate) use self::{
    address::AddressFault,
    given::{Given, GivenFault, Need, ProbeInput, shown_again, shown_url},
    probing::{PictureState, ProbeFault, ProbeState, start},
    save::{AddFault, Added, CameraInput, Field, RemoveFault, Removed, add, remove, revision},
    search::{Search, interfaces, search},
};
use crate::{app::App, daemon::MAX_PROBES};

/// Wizards at a time, at most; each holds a picture of a few hundred kilobytes.
const MAX_WIZARDS: usize = 16;
/// Wizards of one person; the oldest makes way.
const MAX_WIZARDS_OF_OWNER: usize = 4;
/// Probes of one person at a time, so that nobody takes all.
const MAX_PROBES_OF_OWNER: usize = 3;
/// A wizard that was not used for this long is forgotten, with its login.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(15);
/// How often that is looked after.
const SWEEP: Duration = Duration::from_secs(30);
/// Searches at a time, and searches that are kept to be read.
const MAX_SEARCHES: usize = 2;

/// One person's way from an address to a saved camera.
pub(crate) struct Wizard {
    pub(crate) id: String,
    owner: String,
    pub(crate) given: Given,
    credentials: Option<Credentials>,
    state: Mutex<ProbeState>,
    used_at: Mutex<Instant>,
}

impl Wizard {
    /// What is known so far.
    pub(crate) fn state(&self) -> MutexGuard<'_, ProbeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if a login was given for the camera.
    pub(crate) fn has_login(&self) -> bool {
        self.credentials.is_some()
    }

    fn touch(&self) {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle_for(&self) -> Duration {
        self.used_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// All wizards and searches.
#[derive(Default)]
pub(crate) struct Wizards {
    wizards: Mutex<HashMap<String, Arc<Wizard>>>,
    searches: Mutex<HashMap<String, Arc<Search>>>,
    probing: Places<MAX_PROBES>,
    searching: Places<MAX_SEARCHES>,
    /// Held while a camera is saved or removed: between the check of its id and the write of its login, nobody takes the id.
    saving: Arc<tokio::sync::Mutex<()>>,
}

/// A number of places.
struct Places<const N: usize>(Arc<Semaphore>);

impl<const N: usize> Default for Places<N> {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(N)))
    }
}

impl Wizards {
    /// The wizard with this id, if it is this person's.
    pub(crate) fn find(&self, id: &str, actor: &Actor) -> Option<Arc<Wizard>> {
        let wizard = self.wizards().get(id).cloned()?;
        if wizard.owner != actor.csrf_subject() {
            return None;
        }
        wizard.touch();
        Some(wizard)
    }

    /// Forgets a wizard; what runs for it stops.
    pub(crate) fn forget(&self, id: &str) {
        self.wizards().remove(id);
    }

    fn wizards(&self) -> MutexGuard<'_, HashMap<String, Arc<Wizard>>> {
        self.wizards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a new wizard; `None` if there are too many of other persons, or too many of this one are still probing.
    fn keep(self: &Arc<Self>, actor: &Actor, given: Given, credentials: Option<Credentials>) -> Option<Arc<Wizard>> {
        let wizard = Arc::new(Wizard {
            id: random::id(),
            owner: actor.csrf_subject(),
            given,
            credentials,
            state: Mutex::default(),
            used_at: Mutex::new(Instant::now()),
        });
        let mut wizards = self.wizards();
        wizards.retain(|_, wizard| wizard.idle_for() < FORGOTTEN_AFTER);
        let own = wizards.values().filter(|other| other.owner == wizard.owner);
        let is_running = |other: &&Arc<Wizard>| other.state().outcome.is_none();
        if own.clone().filter(is_running).count() >= MAX_PROBES_OF_OWNER {
            return None;
        }
        if own.clone().count() >= MAX_WIZARDS_OF_OWNER {
            let oldest = own.max_by_key(|other| other.idle_for()).map(|other| other.id.clone());
            oldest.and_then(|id| wizards.remove(&id));
        }
        if wizards.len() >= MAX_WIZARDS {
            return None;
        }
        wizards.insert(wizard.id.clone(), Arc::clone(&wizard));
        drop(wizards);
        tokio::spawn(forget_in_time(Arc::clone(self), wizard.id.clone()));
        Some(wizard)
    }
}

/// Forgets a wizard that is not used any more, so that its login does not stay in memory until somebody adds the next camera.
async fn forget_in_time(wizards: Arc<Wizards>, id: String) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let mut known = wizards.wizards();
        match known.get(&id) {
            None => return,
            Some(wizard) if wizard.idle_for() >= FORGOTTEN_AFTER => drop(known.remove(&id)),
            Some(_) => {}
        }
    }
}

/// Opens a wizard for what was given, and starts to probe the camera.
///
/// # Errors
/// [`OpenFault`]; nothing was asked of the camera then.
pub(crate) async fn open(app: &Arc<App>, actor: &Actor, input: ProbeInput) -> Result<Arc<Wizard>, OpenFault> {
    let (mut given, credentials) = Given::of(input).map_err(OpenFault::Given)?;
    address::check(&mut given, actor.role)
        .await
        .map_err(OpenFault::Address)?;
    let place = Arc::clone(&app.wizards.probing.0).try_acquire_owned();
    let place = place.map_err(|_| OpenFault::Busy)?;
    let wizard = app.wizards.keep(actor, given, credentials).ok_or(OpenFault::Busy)?;
    start(app, &wizard, place);
    Ok(wizard)
}

/// Why no wizard was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpenFault {
    Given(GivenFault),
    Address(AddressFault),
    /// Too many cameras are probed, or too many wizards are open.
    Busy,
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv4Addr};

    use gridwatch_base::secret::Secret;
    use gridwatch_camera::{Auth, Transport};
    use gridwatch_web::{Role, audit::Means};

    use super::*;

    /// A program of an operator.
    fn token(name: &str) -> Actor {
        Actor {
            name: Some(name.to_owned()),
            role: Role::Operator,
            groups: BTreeSet::new(),
            means: Means::Token(name.to_owned()),
            address: Ipv4Addr::LOCALHOST.into(),
        }
    }

    fn keep(wizards: &Arc<Wizards>, user: &str) -> Option<Arc<Wizard>> {
        let input = ProbeInput {
            target: "192.0.2.1".into(),
            user: "admin".into(),
            password: "hunter2".into(),
            brand: String::new(),
            channel: 1,
            transport: Transport::Tcp,
            auth: Auth::Digest,
            need: Need::Objects,
        };
        let (given, credentials) = Given::of(input).unwrap();
        wizards.keep(&token(user), given, credentials)
    }

    fn end(wizard: &Wizard) {
        wizard.state().outcome = Some(Err(ProbeFault::TimedOut));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wizard_that_is_not_used_is_forgotten_with_its_login() {
        let wizards = Arc::<Wizards>::default();
        let wizard = keep(&wizards, "li").unwrap();
        assert_eq!(
            wizard.credentials.as_ref().map(|c| &c.password),
            Some(&Secret::new("hunter2"))
        );
        let (id, li) = (wizard.id.clone(), token("li"));
        let kept = Arc::downgrade(&wizard);
        drop(wizard);
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_mins(10)).await;
            assert!(wizards.find(&id, &li).is_some(), "it is used");
            assert!(wizards.find(&id, &token("wang")).is_none(), "by its owner alone");
        }
        tokio::time::sleep(FORGOTTEN_AFTER + SWEEP).await;
        assert!(kept.upgrade().is_none(), "its login is not in memory any more");
    }

    #[tokio::test]
    async fn nobody_takes_all_wizards() {
        let wizards = Arc::<Wizards>::default();
        let first: Vec<_> = (0..MAX_PROBES_OF_OWNER)
            .map(|_| keep(&wizards, "li").unwrap())
            .collect();
        assert!(keep(&wizards, "li").is_none(), "three are probing");
        assert!(keep(&wizards, "wang").is_some());
        first.iter().for_each(|wizard| end(wizard));
        let fourth = keep(&wizards, "li").unwrap();
        end(&fourth);
        end(&keep(&wizards, "li").unwrap());
        assert!(
            wizards.find(&first[0].id, &token("li")).is_none(),
            "the oldest made way"
        );
        assert!(wizards.find(&fourth.id, &token("li")).is_some());
        for n in 0..20 {
            let _ = keep(&wizards, &format!("user-{n}"));
        }
        assert_eq!(wizards.wizards().len(), MAX_WIZARDS);
        assert!(keep(&wizards, "late").is_none());
    }
}
