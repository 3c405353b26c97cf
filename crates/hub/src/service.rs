//! `gridwatch-hub run`: the parts together, from start to shutdown.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use gridwatch_engine::CaseState;
use jiff::Timestamp;
use metrics::gauge;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::interval,
};
use tracing::{info, warn};
use url::Url;

use crate::{
    HubError,
    database::{CaseFilter, Database, HUB},
    dispatch::DispatchTable,
    ingest::Ingest,
    metric,
    pictures::Pictures,
    session::{BrokerAddress, Session, SessionSettings, connect_options},
};

/// How often the gauges are set.
const GAUGES_EVERY: Duration = Duration::from_secs(15);

/// How often accepted cases are looked for that the table dispatches.
const DISPATCH_EVERY: Duration = Duration::from_secs(2);

/// Where a hub keeps its data.
#[derive(Debug, Clone)]
pub struct Storage {
    /// URL of the database, as [`Database::open`] takes it.
    pub database: String,
    /// Where the pictures are.
    pub objects: PathBuf,
}

impl Storage {
    /// A SQLite database and the pictures in one folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            database: format!("sqlite:{}", folder.join("hub.db").display()),
            objects: folder.join("pictures"),
        }
    }

    /// Opens both.
    ///
    /// # Errors
    /// Those of [`Database::open`] and [`Pictures::folder`].
    pub async fn open(&self) -> Result<(Database, Pictures), HubError> {
        Ok((Database::open(&self.database).await?, Pictures::folder(&self.objects)?))
    }
}

/// What a hub runs with.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Where it keeps its data.
    pub storage: Storage,
    /// The broker.
    pub broker: BrokerAddress,
    /// Topic levels before `/v1/`.
    pub prefix: String,
    /// Name of the shared subscription; see [`SessionSettings::group`].
    pub group: Option<String>,
    /// Who gives receipts, in the announcement.
    pub name: String,
    /// Sends units by itself （自动派遣）, as this table says; `None`: only persons do.
    pub dispatch: Option<DispatchTable>,
    /// Whether the hub closes cases whose place a box found cleared; see [`crate::workflow::reported`].
    pub closes_cleared: bool,
}

/// Runs until `shutdown` is true.
///
/// # Errors
/// The database or the place of the pictures cannot be opened, or a setting is wrong.
pub async fn run(settings: ServiceSettings, shutdown: watch::Receiver<bool>) -> Result<(), HubError> {
    let (database, pictures) = settings.storage.open().await?;
    let ingest = Ingest::new(database.clone(), pictures, &settings.prefix, settings.closes_cleared)?;
    let session = SessionSettings {
        connect: connect_options(settings.broker),
        prefix: settings.prefix,
        group: settings.group,
        name: settings.name,
    };
    info!(database = %shown(&settings.storage.database), pictures = %settings.storage.objects.display(), "Starting");
    let (session, _state) = Session::new(session, ingest, database.clone());
    // They end with this function.
    let mut tasks = JoinSet::new();
    tasks.spawn(set_gauges(database.clone()));
    if let Some(table) = settings.dispatch {
        tasks.spawn(dispatch_accepted(database.clone(), table));
    }
    session.run(shutdown).await;
    tasks.shutdown().await;
    database.close().await;
    info!("Stopped");
    Ok(())
}

/// Completes with SIGINT or SIGTERM.
///
/// # Errors
/// The system refuses to deliver signals.
pub fn shutdown_signal() -> Result<watch::Receiver<bool>, HubError> {
    let io = |source| HubError::Io {
        what: "signals".into(),
        source,
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => info!("SIGINT: stopping"),
            _ = terminate.recv() => info!("SIGTERM: stopping"),
        }
        sender.send_replace(true);
        // Until the receivers are gone.
        sender.closed().await;
    });
    Ok(receiver)
}

/// Dispatches what was accepted and fits a rule of `table`.
async fn dispatch_accepted(database: Database, table: DispatchTable) {
    let mut ticks = interval(DISPATCH_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = dispatch_once(&database, &table).await {
            warn!(%error, "Cannot dispatch accepted cases; trying again");
        }
    }
}

async fn dispatch_once(database: &Database, table: &DispatchTable) -> Result<(), HubError> {
    let accepted = CaseFilter {
        state: Some(CaseState::Accepted),
        limit: u32::MAX,
        ..CaseFilter::default()
    };
    for case in database.cases(&accepted).await? {
        let now = Timestamp::now();
        let Some(act) = table.dispatch(&case.category_code, &case.cell_code, now) else {
            continue;
        };
        match database.decide(&case.case_id, &act, HUB, now).await {
            Ok(case) => info!(case = case.case_id, unit = case.unit, "Case dispatched"),
            // A person was faster.
            Err(HubError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn set_gauges(database: Database) {
    let mut ticks = interval(GAUGES_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = gauges(&database).await {
            warn!(%error, "Cannot count what is in the database");
        }
    }
}

async fn gauges(database: &Database) -> Result<(), HubError> {
    gauge!(metric::DEAD_LETTERS).set(database.count_dead_letters().await? as f64);
    gauge!(metric::REPLIES_UNSENT).set(database.count_unsent_replies().await? as f64);
    for (state, count) in database.count_cases().await? {
        gauge!(metric::CASES, "state" => state.as_str()).set(count as f64);
    }
    Ok(())
}

/// A database's URL without its password.
pub fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut url) => {
            // Fails for URLs that cannot have one.
            let _ = url.set_password(None);
            url.into()
        }
        Err(_) => "as configured".to_owned(),
    }
}
