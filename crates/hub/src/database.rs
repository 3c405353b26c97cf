//! SQLite or PostgreSQL, by the same statements: both understand `$1`, `ON CONFLICT` and `RETURNING`, and no column has a type that only one of
//! them knows. Times are Unix milliseconds.

mod boxes;
mod cases;
mod dead_letters;
mod pictures;
mod replies;

use std::{fs::File, path::Path, time::Duration};

use gridwatch_base::disk::{create_private_dir, restrict_new_files};
use jiff::Timestamp;
use sqlx::{
    Any, AnyConnection, AnyPool, Connection as _, Executor, Transaction,
    any::{AnyPoolOptions, install_default_drivers},
    migrate::Migrator,
};
use tokio::time::timeout;
use url::Url;

pub use self::{
    boxes::{BoxKey, BoxRow},
    cases::{CaseChange, CaseEvent, CaseFilter, CaseRow, HUB, NewRevision},
    dead_letters::{DeadLetter, NewDeadLetter},
    pictures::PictureRow,
    replies::ReplyRow,
};
use crate::HubError;

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// Connections of one process. SQLite has one writer at a time; PostgreSQL one process of the operating system for each.
const CONNECTIONS: u32 = 8;

/// How long a statement waits for a connection, or for SQLite's writer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A transaction that is rolled back unless it is committed.
pub type Tx<'a> = Transaction<'a, Any>;

/// What senders can fill before somebody looks at it. More than this is an attack, or a fault that the first thousand show.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Boxes without a confirmed key.
    pub strangers: u32,
    /// Dead letters of one box; of all boxes without a confirmed key together. What a box repeats is counted, not kept again.
    pub dead_letters: u32,
    /// Bytes of these dead letters.
    pub dead_letter_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            strangers: 1000,
            dead_letters: 1000,
            dead_letter_bytes: 64 << 20,
        }
    }
}

/// A pool of connections.
#[derive(Debug, Clone)]
pub struct Database {
    pool: AnyPool,
    kind: Kind,
    limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

impl Database {
    /// Opens the database at `url` (`sqlite:FILE` or `postgres://USER@HOST/NAME`) and brings its tables to this version's form. A SQLite file is
    /// created if it is missing, readable by its owner only.
    ///
    /// # Errors
    /// Another scheme, a database that cannot be reached, or one of a newer version.
    pub async fn open(url: &str) -> Result<Self, HubError> {
        install_default_drivers();
        let (kind, address) = address(url)?;
        let options = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if kind == Kind::Sqlite {
                        // FULL: what was committed is on the disk, also after a power cut.
                        let settings = format!(
                            "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
                            PATIENCE.as_millis()
                        );
                        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(settings))).await?;
                    }
                    Ok(())
                })
            });
        // The pool would only say that it timed out.
        let unreachable = |reason: String| HubError::Unreachable {
            url: without_password(url),
            reason,
        };
        match timeout(PATIENCE, AnyConnection::connect(&address)).await {
            Ok(Ok(first)) => first.close().await?,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
        let pool = options.connect(&address).await?;
        let (migrator, _alone) = match kind {
            // PostgreSQL has a lock for it.
            Kind::Postgres => (&POSTGRES, None),
            Kind::Sqlite => (&SQLITE, Some(migration_lock(url)?)),
        };
        migrator.run(&pool).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::VersionMissing(version) => HubError::Input(format!(
                "the database has version {version}, which this gridwatch-hub does not know; use a newer one"
            )),
            other => other.into(),
        })?;
        Ok(Self {
            pool,
            kind,
            limits: Limits::default(),
        })
    }

    /// The same database with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Starts a transaction that writes.
    ///
    /// # Errors
    /// No connection within ten seconds.
    pub async fn begin(&self) -> Result<Tx<'_>, HubError> {
        // SQLite: a transaction that first reads and then writes could not wait for another writer.
        let begin = match self.kind {
            Kind::Sqlite => "BEGIN IMMEDIATE",
            Kind::Postgres => "BEGIN",
        };
        Ok(self.pool.begin_with(begin).await?)
    }

    /// Answers as soon as the database does.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), HubError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Writes a copy of a SQLite database to `file`, as of one moment, while hubs work on it.
    ///
    /// # Errors
    /// [`HubError::Input`] for PostgreSQL, which has its own tools, and for a file that is there.
    pub async fn backup(&self, file: &Path) -> Result<(), HubError> {
        if self.kind == Kind::Postgres {
            return Err(HubError::Input(
                "back up PostgreSQL with pg_dump, or as your site does".into(),
            ));
        }
        if file.exists() {
            return Err(HubError::Input(format!(
                "{} is there already; name another file",
                file.display()
            )));
        }
        let name = file
            .to_str()
            .ok_or_else(|| HubError::Input("the name of the file is not UTF-8".into()))?;
        sqlx::query("VACUUM INTO $1").bind(name).execute(&self.pool).await?;
        Ok(())
    }

    /// Closes all connections; what is under way ends first.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Lets only one process at a time bring the tables of a SQLite database to another form. Held until it is dropped.
fn migration_lock(url: &str) -> Result<File, HubError> {
    let mut name = sqlite_file(url).unwrap_or(Path::new("")).as_os_str().to_owned();
    name.push("-migration");
    let io = |source| HubError::Io {
        what: format!("database: {}", name.display()),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(io)?;
    file.lock().map_err(io)?;
    Ok(file)
}

/// The file of a SQLite URL; `None` for other URLs.
fn sqlite_file(url: &str) -> Option<&Path> {
    let file = url.strip_prefix("sqlite:")?;
    Some(Path::new(file.strip_prefix("//").unwrap_or(file)))
}

/// The kind of database, and the address as the driver wants it.
fn address(url: &str) -> Result<(Kind, String), HubError> {
    if let Some(file) = sqlite_file(url) {
        if file.as_os_str().is_empty() || file.ends_with(":memory:") {
            return Err(HubError::Input(
                "database: SQLite needs a file, such as sqlite:hub/hub.db".into(),
            ));
        }
        restrict_new_files();
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            create_private_dir(folder).map_err(|source| HubError::Io {
                what: format!("database: {}", folder.display()),
                source,
            })?;
        }
        let absolute = std::path::absolute(file).map_err(|source| HubError::Io {
            what: format!("database: {}", file.display()),
            source,
        })?;
        let mut url = Url::from_file_path(&absolute)
            .map_err(|()| HubError::Input(format!("database: {} is not a file", file.display())))?;
        // The driver wants `sqlite://PATH`; a file URL encodes what is special in a path.
        url.set_query(Some("mode=rwc"));
        return Ok((Kind::Sqlite, url.as_str().replacen("file:", "sqlite:", 1)));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok((Kind::Postgres, url.to_owned()));
    }
    // The rest of the URL may hold a password.
    Err(HubError::Input(
        "database: expected sqlite:FILE or postgres://USER@HOST/NAME".into(),
    ))
}

/// A database's URL without its password.
pub fn without_password(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut url) => {
            // Fails for URLs that cannot have one. PostgreSQL's may also be among the parameters.
            let _ = url.set_password(None);
            url.set_query(None);
            url.into()
        }
        Err(_) => "as configured".to_owned(),
    }
}

/// Unix milliseconds.
fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// The time of a column.
fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}
