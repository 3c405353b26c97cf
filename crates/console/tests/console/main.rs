//! The console over real HTTP: a served router on a free port, a store with cases, and a daemon whose cameras the test decides.

#[path = "../../../../tests/support/case.rs"]
#[allow(dead_code, reason = "shared with the tests of the store")]
mod case;

mod api;
mod assets;
mod audit;
mod events;
mod forged;
mod http;
mod login;
mod pages;
mod proxy;
mod roles;
mod street;
mod texts;
mod tls;
