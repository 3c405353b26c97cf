//! What all handlers share.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gridwatch_base::{digest::sha256_hex, disk::write_private, file};
use gridwatch_config::{Config, Console, ConsoleTls};
use tokio::sync::{Semaphore, watch};

use crate::{
    ConsoleError,
    accounts::{Accounts, PasswordPool},
    add::Wizards,
    daemon::Daemon,
    ledger::LedgerQueries,
    live::LivePlaces,
    login_guard::{LoginGuard, Origin, Permission},
    random::{self, MacKey},
    reviews::Unrecorded,
    sessions::Sessions,
    system::System,
};

/// Open pages that are updated, at most. Each holds a connection; a browser shows one at a time.
const MAX_EVENT_STREAMS: usize = 64;

/// Open pages of one user, at most, so that nobody takes all.
pub(crate) const MAX_EVENT_STREAMS_OF_USER: usize = 16;
/// Reads and changes of the configuration's files, and queries of the ledger, at the same time: each takes up to seconds of a core.
const MAX_HEAVY: usize = 2;

/// Reads of the database at the same time: each opens it, and a page takes a few milliseconds.
const MAX_READERS: usize = 4;

const HOUR: Duration = Duration::from_hours(1);

/// Refused changes that are recorded in an hour: enough to notice who tries what, and 2 MB a month in the chain.
const MAX_REFUSALS: u32 = 20;

/// Largest file with the key.
const MAX_KEY: u64 = 1024;

/// What all handlers share.
pub(crate) struct App {
    pub(crate) daemon: Arc<dyn Daemon>,
    /// Settings in force since the console's start; listen address, proxies and TLS change at a restart only.
    pub(crate) settings: Console,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) sessions: Sessions,
    pub(crate) passwords: PasswordPool,
    pub(crate) event_streams: Arc<Semaphore>,
    /// Open pages of each user.
    pub(crate) event_streams_of: Mutex<BTreeMap<String, usize>>,
    pub(crate) readers: Arc<Semaphore>,
    pub(crate) live_places: LivePlaces,
    pub(crate) wizards: Arc<Wizards>,
    pub(crate) heavy: Arc<Semaphore>,
    pub(crate) system: System,
    pub(crate) ledger: LedgerQueries,
    /// Checks of a case's evidence.
    pub(crate) checks: Semaphore,
    pub(crate) reviews: Unrecorded,
    pub(crate) key: MacKey,
    /// True when the console ends: streams of events end then.
    pub(crate) ending: watch::Sender<bool>,
    pub(crate) state_dir: PathBuf,
    logins: Mutex<LoginGuard>,
    /// Refused changes that were recorded since a moment.
    refusals: Mutex<(Instant, u32)>,
    base: String,
}

impl App {
    /// Prepares the console of `daemon`.
    ///
    /// # Errors
    /// The key in the state directory cannot be read or made.
    pub(crate) fn new(daemon: Arc<dyn Daemon>) -> Result<Arc<Self>, ConsoleError> {
        let config = daemon.config();
        let state_dir = config.state_dir.clone();
        let key = load_key(&state_dir.join("console/key"))?;
        let base = config.console.public_url.as_ref().map_or("", |url| url.path());
        Ok(Arc::new(Self {
            settings: config.console.clone(),
            accounts: Arc::new(Accounts::of(&state_dir)),
            sessions: Sessions::load(&state_dir),
            passwords: PasswordPool::new(),
            event_streams: Arc::new(Semaphore::new(MAX_EVENT_STREAMS)),
            event_streams_of: Mutex::default(),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            ending: watch::Sender::new(false),
            live_places: LivePlaces::default(),
            wizards: Arc::default(),
            heavy: Arc::new(Semaphore::new(MAX_HEAVY)),
            system: System::new(),
            ledger: LedgerQueries::new(),
            checks: Semaphore::new(1),
            reviews: Unrecorded::default(),
            key,
            base: base.trim_end_matches('/').to_owned(),
            state_dir,
            logins: Mutex::default(),
            refusals: Mutex::new((Instant::now(), 0)),
            daemon,
        }))
    }

    /// Path under which browsers see the console: empty, or with a `/` at its start and none at its end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// True if browsers reach the console by HTTPS: its own, or that of the reverse proxy.
    pub(crate) fn is_https(&self) -> bool {
        let proxied = self.settings.public_url.as_ref();
        proxied.map_or(self.settings.tls != ConsoleTls::Off, |url| url.scheme() == "https")
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.daemon.config()
    }

    /// Whether a login may be tried now.
    pub(crate) fn try_login(&self, account: &str, origin: &Origin) -> Permission {
        // Names of any length must not fill the memory; a hash has one length.
        let account = sha256_hex(account.to_lowercase().as_bytes());
        self.logins().try_login(&account, origin, Instant::now())
    }

    /// The login was not tried: too many were.
    pub(crate) fn login_not_tried(&self, account: &str, origin: &Origin) {
        let account = sha256_hex(account.to_lowercase().as_bytes());
        self.logins().not_tried(&account, origin);
    }

    /// The login was right.
    pub(crate) fn login_succeeded(&self, account: &str, origin: &Origin) {
        let account = sha256_hex(account.to_lowercase().as_bytes());
        self.logins().succeeded(&account, origin);
    }

    /// Whether one more refused change is recorded.
    pub(crate) fn may_record_refusal(&self) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.0.elapsed() >= HOUR {
            *refusals = (Instant::now(), 0);
        }
        refusals.1 += 1;
        refusals.1 <= MAX_REFUSALS
    }

    fn logins(&self) -> std::sync::MutexGuard<'_, LoginGuard> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of the codes that browsers hold, made at the first start: pages and known browsers outlive a restart.
fn load_key(path: &std::path::Path) -> Result<MacKey, ConsoleError> {
    let io = |source| ConsoleError::Io {
        path: path.to_owned(),
        source,
    };
    match file::read(path, MAX_KEY) {
        Ok(bytes) if bytes.len() == 32 => return Ok(MacKey::new(&bytes)),
        Ok(_) => tracing::warn!(file = %path.display(), "The console's key is damaged; a new one is made"),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
    }
    let bytes = random::bytes::<32>();
    write_private(path, &bytes).map_err(io)?;
    Ok(MacKey::new(&bytes))
}
