//! Searches for cameras on the networks that a person chose.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gridwatch_base::message;
use gridwatch_onvif::discovery::{self, Discovery, DiscoverySettings, FoundDevice, GROUP, Interface};
use gridwatch_web::{Actor, Rejection, random};

use crate::app::App;

/// What a search has found so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct SearchState {
    pub(crate) devices: Vec<FoundDevice>,
    /// Interfaces that could not be asked, with the reason, in English.
    pub(crate) faults: Vec<String>,
    pub(crate) is_cut_off: bool,
    pub(crate) is_over: bool,
}

/// A search that runs or has ended.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) id: String,
    owner: String,
    state: Mutex<SearchState>,
}

impl Search {
    /// What it has found so far.
    pub(crate) fn state(&self) -> MutexGuard<'_, SearchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, found: Discovery) {
        *self.state() = SearchState {
            devices: found.devices,
            faults: found.faults,
            is_cut_off: found.is_cut_off,
            is_over: true,
        };
    }
}

impl super::Wizards {
    /// The search with this id, if it is this person's.
    pub(crate) fn search(&self, id: &str, actor: &Actor) -> Option<Arc<Search>> {
        let found = self.searches().get(id).cloned()?;
        (found.owner == actor.csrf_subject()).then_some(found)
    }

    fn searches(&self) -> MutexGuard<'_, std::collections::HashMap<String, Arc<Search>>> {
        self.searches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a search on the interfaces of these addresses; none: on all. The search of the same person before is forgotten.
///
/// # Errors
/// [`Rejection::Unfit`] for an address that no interface has, and [`Rejection::TooMany`] while too many searches run.
pub(crate) async fn search(app: &Arc<App>, actor: &Actor, addresses: &[Ipv4Addr]) -> Result<Arc<Search>, Rejection> {
    let mut interfaces = interfaces().await?;
    if !addresses.is_empty() {
        if !addresses
            .iter()
            .all(|asked| interfaces.iter().any(|known| known.address == *asked))
        {
            return Err(Rejection::Unfit(message!(
                "interfaces: no interface of this box has the address"
            )));
        }
        interfaces.retain(|known| addresses.contains(&known.address));
    }
    let place = Arc::clone(&app.wizards.searching.0).try_acquire_owned();
    let place = place.map_err(|_| Rejection::TooMany(discovery::WAIT))?;
    let search = Arc::new(Search {
        id: random::id(),
        owner: actor.csrf_subject(),
        state: Mutex::default(),
    });
    {
        let mut searches = app.wizards.searches();
        searches.retain(|_, other| other.owner != search.owner);
        // Of many persons, the finished ones make way.
        if searches.len() >= super::MAX_WIZARDS {
            searches.retain(|_, other| !other.state().is_over);
        }
        searches.insert(search.id.clone(), Arc::clone(&search));
    }
    let running = Arc::clone(&search);
    tokio::spawn(async move {
        let settings = DiscoverySettings {
            interfaces,
            group: GROUP,
            hosts: Vec::new(),
            wait: discovery::WAIT,
        };
        let found = discovery::discover_with(&settings, |device| running.state().devices.push(device.clone())).await;
        running.take(found);
        drop(place);
    });
    Ok(search)
}

/// The networks of this box.
pub(crate) async fn interfaces() -> Result<Vec<Interface>, Rejection> {
    let listed = tokio::task::spawn_blocking(discovery::interfaces).await;
    let listed = listed.map_err(|error| Rejection::internal(&error))?;
    listed.map_err(|error| Rejection::internal(&error))
}
