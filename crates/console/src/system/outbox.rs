//! Messages that the platform may not have.

use std::sync::Arc;

use gridwatch_store::{OutboxEntry, OutboxState, Store, StoreError};
use gridwatch_web::Rejection;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::task;

use crate::{app::App, error::IntoRejection as _, error::OrReject as _};

/// Messages that are shown, the oldest.
pub(crate) const MAX_SHOWN: u32 = 500;

/// A message in the outbox.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MessageAnswer {
    /// Its number, in the order of sending.
    pub(crate) seq: i64,
    /// Id of its case.
    pub(crate) case_id: String,
    /// `case` or `evidence`.
    pub(crate) kind: &'static str,
    /// The MQTT topic.
    pub(crate) topic: String,
    /// RFC 3339.
    #[schemars(with = "String")]
    pub(crate) queued_at: Timestamp,
    /// How far it has come: `queued`, `sent` (the broker took it, and the platform has given no receipt), `missing` (the platform does not have
    /// this picture) or `quarantined`.
    #[schemars(with = "String")]
    pub(crate) state: OutboxState,
    /// The broker took it, but had no subscriber.
    pub(crate) unheard: bool,
    /// When the broker last took it, RFC 3339, if it awaits the platform's receipt.
    #[schemars(with = "Option<String>")]
    pub(crate) sent_at: Option<Timestamp>,
    /// How many times the broker took it.
    pub(crate) attempts: u32,
    /// When it is sent again unless its receipt comes before, RFC 3339.
    #[schemars(with = "Option<String>")]
    pub(crate) due_at: Option<Timestamp>,
    /// Why it is in quarantine.
    pub(crate) quarantined: Option<String>,
}

impl From<OutboxEntry> for MessageAnswer {
    fn from(entry: OutboxEntry) -> Self {
        Self {
            state: entry.state(),
            sent_at: entry.sent_at,
            attempts: entry.attempts,
            due_at: entry.due_at,
            seq: entry.seq,
            case_id: entry.case_id,
            kind: entry.kind.as_str(),
            topic: entry.topic,
            queued_at: entry.queued_at,
            unheard: entry.unheard,
            quarantined: entry.quarantined,
        }
    }
}

/// The outbox.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct OutboxAnswer {
    /// Number of messages that the broker has not taken.
    pub(crate) waiting: u32,
    /// Number of messages that it took and for which the platform has given no receipt.
    pub(crate) sent: u32,
    /// Number of pictures that the platform does not have.
    pub(crate) missing: u32,
    /// When the oldest message was queued that awaits a receipt, RFC 3339.
    #[schemars(with = "Option<String>")]
    pub(crate) unreceived_since: Option<Timestamp>,
    /// Number of messages in quarantine.
    pub(crate) quarantined: u32,
    /// The oldest messages, 500 at most.
    pub(crate) messages: Vec<MessageAnswer>,
}

/// The outbox with its oldest messages, or only those in quarantine.
pub(crate) async fn list(app: &Arc<App>, quarantined: bool) -> Result<OutboxAnswer, Rejection> {
    let dir = app.state_dir.clone();
    super::scan(app, move || match Store::open_read_only(&dir) {
        Ok(store) => {
            let entries = store.outbox_entries(quarantined, MAX_SHOWN).or_reject()?;
            let depth = store.outbox_depth().or_reject()?;
            Ok(OutboxAnswer {
                waiting: depth.waiting,
                sent: depth.sent,
                missing: depth.missing,
                unreceived_since: depth.unreceived_since,
                quarantined: depth.quarantined,
                messages: entries.into_iter().map(MessageAnswer::from).collect(),
            })
        }
        // Before the daemon's first start there is no database.
        Err(StoreError::Missing { .. }) => Ok(OutboxAnswer::default()),
        Err(error) => Err(error.into_rejection()),
    })
    .await
}

/// What a retry released.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReleasedAnswer {
    /// Messages that left the quarantine.
    pub(crate) released: usize,
}

/// Releases the messages in quarantine, of one case or of all: `gridwatch outbox retry`. The daemon picks them up within 15 s.
pub(crate) async fn retry(app: &Arc<App>, case: Option<String>) -> Result<ReleasedAnswer, Rejection> {
    let dir = app.state_dir.clone();
    // Waits for the database's lock like the daemon's own writes do, so it takes no place of those that only read.
    let done = task::spawn_blocking(move || -> Result<ReleasedAnswer, Rejection> {
        let mut store = Store::open_unlocked(&dir).or_reject()?;
        if let Some(case) = &case
            && !store.has_case(case).or_reject()?
        {
            return Err(Rejection::NotFound);
        }
        let released = store.outbox_release(case.as_deref()).or_reject()?;
        Ok(ReleasedAnswer { released })
    });
    done.await.map_err(|error| Rejection::internal(&error))?
}
