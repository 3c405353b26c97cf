//! What web programs share: the server with its bounds, users and sessions, routes with the roles that they take, and the audit of changes.
//!
//! A program implements [`Site`], adds its routes to [`Routes`] and serves them with [`WebServer`]. Every request takes one path (`routes`): who
//! sends it (`identity`), whether they may, whether a page of this server sent it (`client`, `csrf`), and for what changes something, the audit log.
//! No script or style is inline, and nothing is loaded from elsewhere.
//!
//! This crate knows nothing of what a program is about: its pages, its data, its configuration.

pub mod accounts;
pub mod assets;
pub mod audit;
pub mod client;
pub mod cookies;
pub mod csrf;
pub mod error;
pub mod events;
pub mod form;
pub mod i18n;
pub mod identity;
pub mod login;
pub mod login_guard;
pub mod openapi;
pub mod page;
pub mod random;
pub mod routes;
pub mod server;
pub mod sessions;
pub mod settings;
pub mod site;
pub mod state;

mod tls;

pub use self::{
    error::{Rejection, StartError},
    identity::Actor,
    routes::{Access, Routes},
    server::WebServer,
    settings::{Network, Role, ServerSettings, TlsSettings},
    site::Site,
    state::WebState,
};
