//! The console: pages for operators and a JSON API, served by the daemon.
//!
//! This crate owns the web server, users, sessions, pages and assets. What it needs of the running daemon is the trait [`Daemon`]; cases,
//! their history and their pictures it reads from the store. It decides nothing about cameras and cases, and changes nothing without an entry
//! in the audit log.
//!
//! Every request takes one path (`routes`): who sends it (`identity`), whether they may, whether a page of this console sent it (`client`,
//! `csrf`). Pages are HTML, rendered here from compiled templates in the browser's language (`i18n`), and kept up to date by server-sent events
//! (`events`), which cost nothing while no browser watches. No script or style is inline, and nothing is loaded from elsewhere.

pub mod accounts;
pub mod daemon;

mod add;
mod aim;
mod api;
mod app;
mod assets;
mod cases;
mod cell_map;
mod client;
mod configuration;
mod cookies;
mod csrf;
mod error;
mod events;
mod form;
mod ground;
mod i18n;
mod identity;
mod ledger;
mod live;
mod login_guard;
mod openapi;
mod overlay;
mod page;
mod pages;
mod permits;
mod presets;
mod random;
mod reviews;
mod routes;
mod server;
mod sessions;
mod signs;
mod system;
mod tls;
mod values;
mod web_texts;

use std::{future::Future, sync::Arc};

use tokio::net::TcpListener;

use self::{app::App, routes::Routes, server::Server};
pub use self::{daemon::Daemon, error::ConsoleError};
pub use gridwatch_config::{Console as Settings, Role};

/// The console, ready to serve.
pub struct Console {
    server: Server,
    routes: Vec<RouteSummary>,
}

/// What a route asks for, for lists and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSummary {
    /// HTTP method.
    pub method: String,
    /// Path below the console's base, with `{…}` for its parts.
    pub path: &'static str,
    /// The lowest role that may use it; `None`: anyone who reaches the console.
    pub role: Option<Role>,
    /// For what changes something: its name in the audit log.
    pub act: Option<&'static str>,
}

impl Console {
    /// Prepares the console of `daemon` with the settings in its configuration: reads or makes key and certificate.
    ///
    /// # Errors
    /// [`ConsoleError::NoUsers`] if the console is reachable by others than programs on the box and nobody could log in, or a file cannot be used.
    pub fn new(daemon: Arc<dyn Daemon>) -> Result<Self, ConsoleError> {
        let app = App::new(daemon)?;
        if app.settings.is_exposed() && app.accounts.users()?.is_empty() {
            return Err(ConsoleError::NoUsers);
        }
        let identity = tls::load(&app.settings, &app.state_dir)?;
        let routes = pages::routes(Routes::new(Arc::clone(&app)));
        let routes = api::routes(routes);
        let routes = system::api::routes(routes);
        let table = routes.table().to_vec();
        let routes = openapi::route(routes, &table);
        let summary = routes.table().iter().map(|route| RouteSummary {
            method: route.method.to_string(),
            path: route.path,
            role: match route.access {
                routes::Access::Public => None,
                routes::Access::Role(role) => Some(role),
            },
            act: route.act,
        });
        let summary = summary.collect();
        Ok(Self {
            server: Server {
                app,
                router: routes.router(),
                identity,
            },
            routes: summary,
        })
    }

    /// Binds the configured address; `None` if the console is off.
    ///
    /// # Errors
    /// [`ConsoleError::Listen`].
    pub async fn bind(&self) -> Result<Option<TcpListener>, ConsoleError> {
        let Some(address) = self.server.app.settings.listen else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address).await;
        listener
            .map(Some)
            .map_err(|source| ConsoleError::Listen { address, source })
    }

    /// Where people find it, for the log: the public URL, or that of the address.
    pub fn url(&self, listener: &TcpListener) -> String {
        let app = &self.server.app;
        match (&app.settings.public_url, listener.local_addr()) {
            (Some(url), _) => url.to_string(),
            (None, Ok(address)) if app.is_https() => format!("https://{address}/"),
            (None, Ok(address)) => format!("http://{address}/"),
            (None, Err(_)) => String::new(),
        }
    }

    /// SHA-256 of its certificate, as browsers show it; `None` without encryption.
    pub fn fingerprint(&self) -> Option<&str> {
        self.server
            .identity
            .as_ref()
            .map(|identity| identity.fingerprint.as_str())
    }

    /// All routes with the roles that they take.
    pub fn routes(&self) -> &[RouteSummary] {
        &self.routes
    }

    /// Serves until `shutdown` completes, and then until the requests that are being answered are done, for 5 seconds at most.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let app = Arc::clone(&self.server.app);
        tokio::spawn(async move { reviews::record_all(&app).await });
        self.server.run(listener, shutdown).await;
    }
}
