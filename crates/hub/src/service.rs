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

use crate::{
    HubError,
    database::{CaseFilter, Database, HUB, without_password},
    dispatch::DispatchTable,
    ingest::Ingest,
    metric,
    pictures::Pictures,
    session::{BrokerAddress, Session, SessionSettings, connect_options},
    workflow::{self, Act},
};

/// How often the gauges are set.
const GAUGES_EVERY: Duration = Duration::from_secs(15);

/// How often cases are looked for that need no person.
const DECIDE_EVERY: Duration = Duration::from_secs(2);

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
    /// Closes cases whose place a box found cleared （智能结案）; otherwise only persons do.
    pub closes_cleared: bool,
}

/// Runs until `shutdown` is true.
///
/// # Errors
/// The database or the place of the pictures cannot be opened, or a setting is wrong.
pub async fn run(settings: ServiceSettings, shutdown: watch::Receiver<bool>) -> Result<(), HubError> {
    let (database, pictures) = settings.storage.open().await?;
    let ingest = Ingest::new(database.clone(), pictures, &settings.prefix)?;
    let session = SessionSettings {
        connect: connect_options(settings.broker),
        prefix: settings.prefix,
        group: settings.group,
        name: settings.name,
    };
    info!(database = %without_password(&settings.storage.database), pictures = %settings.storage.objects.display(), "Starting");
    let session = Session::new(session, ingest, database.clone());
    // They end with this function.
    let mut tasks = JoinSet::new();
    tasks.spawn(set_gauges(database.clone()));
    if settings.dispatch.is_some() || settings.closes_cleared {
        tasks.spawn(decide_alone(
            database.clone(),
            settings.dispatch,
            settings.closes_cleared,
        ));
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

/// Decides what needs no person: dispatches what was accepted and fits a rule of `table`, and closes what was found cleared.
async fn decide_alone(database: Database, table: Option<DispatchTable>, closes_cleared: bool) {
    let mut ticks = interval(DECIDE_EVERY);
    let mut states = Vec::new();
    if table.is_some() {
        states.push(CaseState::Accepted);
    }
    if closes_cleared {
        states.extend([CaseState::Dispatched, CaseState::Disposed, CaseState::VerifyRequested]);
    }
    loop {
        ticks.tick().await;
        for state in &states {
            if let Err(error) = decide_in(&database, *state, table.as_ref()).await {
                warn!(%error, state = state.as_str(), "Cannot decide about cases; trying again");
            }
        }
    }
}

async fn decide_in(database: &Database, state: CaseState, table: Option<&DispatchTable>) -> Result<(), HubError> {
    let filter = CaseFilter {
        state: Some(state),
        limit: u32::MAX,
        ..CaseFilter::default()
    };
    for case in database.cases(&filter).await? {
        let now = Timestamp::now();
        let act = match (state, table) {
            (CaseState::Accepted, Some(table)) => table.dispatch(&case.category_code, &case.cell_code, now),
            _ => workflow::is_cleared(&case).then(|| Act::Close {
                reason: Some("cleared".into()),
            }),
        };
        let Some(act) = act else { continue };
        match database.decide(&case.case_id, &act, Some(state), HUB, now).await {
            Ok(case) => info!(case = case.case_id, unit = case.unit, "Case {}", act.as_str()),
            // Somebody was faster.
            Err(HubError::Conflict(_)) => {}
            Err(error) => warn!(%error, case = case.case_id, "Cannot decide about a case; trying again"),
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
    let counts = database.count_cases().await?;
    for state in CaseState::ALL {
        let count = counts
            .iter()
            .find(|(counted, _)| *counted == state)
            .map_or(0, |(_, count)| *count);
        gauge!(metric::CASES, "state" => state.as_str()).set(count as f64);
    }
    Ok(())
}
