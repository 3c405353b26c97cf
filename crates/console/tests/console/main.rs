//! The console over real HTTP: a served router on a free port, a store with cases, and a daemon whose cameras the test decides.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

#[path = "../../../../tests/support/case.rs"]
mod case;

mod api;
mod assets;
mod audit;
mod cases;
mod events;
mod forged;
mod http;
mod login;
mod pages;
mod proxy;
mod review;
mod roles;
mod street;
mod texts;
mod tls;
