//! The console: pages for operators and a JSON API, served by the daemon.
//!
//! This crate owns the pages, the API and the assets; the server, users and sessions are those of `gridwatch_web`. What it needs of the running daemon is the trait [`Daemon`]; cases,
//! their history and their pictures it reads from the store. It decides nothing about cameras and cases, and changes nothing without an entry
//! in the audit log.
//!
//! Pages are HTML, rendered here from compiled templates in the browser's language (`i18n`), and kept up to date by server-sent events
//! (`events`), which cost nothing while no browser watches. No script or style is inline, and nothing is loaded from elsewhere.

pub mod daemon;

mod access;
mod add;
mod aim;
mod api;
mod app;
mod assets;
mod cases;
mod cell_map;
mod configuration;
mod error;
mod events;
mod ground;
mod i18n;
mod ledger;
mod live;
mod overlay;
mod page;
mod pages;
mod permits;
mod presets;
mod reviews;
mod signs;
mod system;
mod values;
mod web_texts;

use std::{future::Future, path::Path, sync::Arc};

use gridwatch_config::CONSOLE_DIR;
use gridwatch_web::{Access, Role, WebServer, accounts::Accounts, openapi};
use tokio::net::TcpListener;

use self::app::{App, Routes};
pub use self::{daemon::Daemon, error::ConsoleError};

/// The console, ready to serve.
pub struct Console {
    server: WebServer<App>,
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
        let routes = pages::routes(Routes::new(App::new(daemon)?));
        let routes = api::routes(routes);
        let routes = system::api::routes(routes);
        let server = WebServer::new(openapi::route(routes, &api::ABOUT))?;
        let routes = server.table().iter().map(|route| RouteSummary {
            method: route.method.to_string(),
            path: route.path,
            role: match route.access {
                Access::Public => None,
                Access::Role(role) => Some(role),
            },
            act: route.act,
        });
        Ok(Self {
            routes: routes.collect(),
            server,
        })
    }

    /// Binds the configured address; `None` if the console is off.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(&self) -> Result<Option<TcpListener>, ConsoleError> {
        Ok(self.server.bind().await?)
    }

    /// Where people find it, for the log: the public URL, or that of the address.
    pub fn url(&self, listener: &TcpListener) -> String {
        self.server.url(listener)
    }

    /// SHA-256 of its certificate, as browsers show it; `None` without encryption.
    pub fn fingerprint(&self) -> Option<&str> {
        self.server.fingerprint()
    }

    /// All routes with the roles that they take.
    pub fn routes(&self) -> &[RouteSummary] {
        &self.routes
    }

    /// Serves until `shutdown` completes, and then until the requests that are being answered are done, for 5 seconds at most.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let app = Arc::clone(self.server.site());
        tokio::spawn(async move { reviews::record_all(&app).await });
        self.server.serve(listener, shutdown).await;
    }
}

/// The console's users and tokens, of the box with this state directory.
pub fn accounts(state_dir: &Path) -> Accounts {
    Accounts::of(&state_dir.join(CONSOLE_DIR))
}
