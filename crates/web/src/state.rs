//! What every program with a web server keeps while it runs: settings, users, sessions, and the key of what browsers hold.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gridwatch_base::{digest::sha256_hex, disk::write_private, file};
use tokio::sync::{Semaphore, watch};

use crate::{
    accounts::{Accounts, PasswordPool},
    error::{AccountFault, Rejection, StartError},
    form,
    login_guard::{LoginGuard, Origin, Permission},
    random::{self, MacKey},
    sessions::Sessions,
    settings::ServerSettings,
};

const HOUR: Duration = Duration::from_hours(1);

/// Open pages that are updated, at most. Each holds a connection; a browser shows one at a time.
const MAX_EVENT_STREAMS: usize = 64;

/// Refused changes that are recorded in an hour: enough to notice who tries what, and 2 MB a month in the audit log.
const MAX_REFUSALS: u32 = 20;

/// Largest file with the key.
const MAX_KEY: u64 = 1024;

/// Settings, users and sessions of a program.
pub struct WebState {
    /// Settings since the start of the server.
    pub settings: ServerSettings,
    /// Users and tokens.
    pub accounts: Arc<Accounts>,
    /// Sessions of logged-in browsers.
    pub sessions: Sessions,
    /// Verifies passwords.
    pub passwords: PasswordPool,
    /// For values that are given to browsers and recognised again.
    pub key: MacKey,
    /// True when the server ends: endless answers end then.
    pub ending: watch::Sender<bool>,
    pub(crate) event_streams: Arc<Semaphore>,
    /// Open pages of each user.
    pub(crate) event_streams_of: Mutex<BTreeMap<String, usize>>,
    logins: Mutex<LoginGuard>,
    /// Refused changes that were recorded since a moment.
    refusals: Mutex<(Instant, u32)>,
    folder: PathBuf,
    base: String,
}

impl WebState {
    /// The state in `folder`, which belongs to this program alone: users, sessions, key and certificate. A missing key is made.
    ///
    /// # Errors
    /// [`StartError::Io`]: the key cannot be read or made.
    pub fn open(settings: ServerSettings, folder: &Path) -> Result<Self, StartError> {
        let key = load_key(&folder.join("key"))?;
        let base = settings.public_url.as_ref().map_or("", |url| url.path());
        Ok(Self {
            accounts: Arc::new(Accounts::of(folder)),
            sessions: Sessions::load(folder),
            passwords: PasswordPool::new(),
            key,
            ending: watch::Sender::new(false),
            event_streams: Arc::new(Semaphore::new(MAX_EVENT_STREAMS)),
            event_streams_of: Mutex::default(),
            logins: Mutex::default(),
            refusals: Mutex::new((Instant::now(), 0)),
            folder: folder.to_owned(),
            base: base.trim_end_matches('/').to_owned(),
            settings,
        })
    }

    /// Path under which browsers see the pages: empty, or with a `/` at its start and none at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The program's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a login may be tried now.
    pub fn try_login(&self, account: &str, origin: &Origin) -> Permission {
        self.logins().try_login(&hashed(account), origin, Instant::now())
    }

    /// The login was not tried: too many were.
    pub fn login_not_tried(&self, account: &str, origin: &Origin) {
        self.logins().not_tried(&hashed(account), origin);
    }

    /// The login was right.
    pub fn login_succeeded(&self, account: &str, origin: &Origin) {
        self.logins().succeeded(&hashed(account), origin);
    }

    /// Removes a user, but not the last one of a server that others reach: nobody could log in any more, and it would not start again.
    ///
    /// # Errors
    /// There is no such user, they are the last administrator, or the users cannot be changed.
    pub async fn remove_user(&self, name: String) -> Result<(), Rejection> {
        if self.settings.is_exposed() && self.accounts.snapshot()?.users.len() == 1 {
            return Err(Rejection::Account(
                AccountFault::LastAdmin,
                format!("the only user of a {} that others reach", self.settings.section),
            ));
        }
        let accounts = Arc::clone(&self.accounts);
        form::blocking(move || accounts.remove(&name)).await
    }

    /// Whether one more refused change is recorded.
    pub fn may_record_refusal(&self) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.0.elapsed() >= HOUR {
            *refusals = (Instant::now(), 0);
        }
        refusals.1 += 1;
        refusals.1 <= MAX_REFUSALS
    }

    fn logins(&self) -> MutexGuard<'_, LoginGuard> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for WebState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebState")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Names of any length must not fill the memory; a hash has one length.
fn hashed(account: &str) -> String {
    sha256_hex(account.to_lowercase().as_bytes())
}

/// The key of the codes that browsers hold, made at the first start: pages and known browsers outlive a restart.
fn load_key(path: &Path) -> Result<MacKey, StartError> {
    let io = |source| StartError::Io {
        path: path.to_owned(),
        source,
    };
    match file::read(path, MAX_KEY) {
        Ok(bytes) if bytes.len() == 32 => return Ok(MacKey::new(&bytes)),
        Ok(_) => tracing::warn!(file = %path.display(), "The key of the web server is damaged; a new one is made"),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
    }
    let bytes = random::bytes::<32>();
    write_private(path, &bytes).map_err(io)?;
    Ok(MacKey::new(&bytes))
}
