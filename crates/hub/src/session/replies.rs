//! Sends the replies that wait in the database.

use std::time::Duration;

use futures::future::join_all;
use gridwatch_base::text::printable;
use gridwatch_mqtt::PublishOutcome;
use jiff::Timestamp;
use metrics::counter;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    HubError,
    database::{Database, ReplyRow},
    metric,
};

/// How often the database is asked for replies.
const EVERY: Duration = Duration::from_millis(500);

/// Replies that are sent at once.
const AT_ONCE: u32 = 32;

/// The broker acknowledges a reply within this time, or the connection is dead.
const OUTCOME_WITHIN: Duration = Duration::from_secs(60);

/// Pause after the database did not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// How often old replies are deleted.
const CLEAN_EVERY: Duration = Duration::from_hours(6);

/// A reply to publish; its outcome goes back.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) reply: ReplyRow,
    pub(super) outcome: oneshot::Sender<PublishOutcome>,
}

/// Sends replies by `publish` until the receiver is gone.
pub(super) async fn send_all(database: Database, publish: mpsc::Sender<Outgoing>) {
    let mut cleaned = None;
    loop {
        match send_due(&database, &publish).await {
            Ok(Some(0)) => tokio::time::sleep(EVERY).await,
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                warn!(%error, "Cannot read the replies to boxes; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
        if cleaned.is_none_or(|at: tokio::time::Instant| at.elapsed() > CLEAN_EVERY) {
            cleaned = Some(tokio::time::Instant::now());
            if let Err(error) = database.delete_old_replies(Timestamp::now()).await {
                warn!(%error, "Cannot delete old replies");
            }
        }
    }
}

/// Sends what is due; returns how many there were, `None` once the connection has ended.
async fn send_due(database: &Database, publish: &mpsc::Sender<Outgoing>) -> Result<Option<usize>, HubError> {
    let replies = database.take_replies(AT_ONCE, Timestamp::now()).await?;
    let count = replies.len();
    let mut sent = Vec::with_capacity(count);
    for reply in replies {
        let (outcome, answer) = oneshot::channel();
        let outgoing = Outgoing {
            reply: reply.clone(),
            outcome,
        };
        if publish.send(outgoing).await.is_err() {
            database.reply_due(&reply, Timestamp::now()).await?;
            return Ok(None);
        }
        sent.push(async move {
            let outcome = timeout(OUTCOME_WITHIN, answer).await;
            (reply, outcome.ok().and_then(Result::ok).unwrap_or(PublishOutcome::Lost))
        });
    }
    for (reply, outcome) in join_all(sent).await {
        settle(database, &reply, &outcome).await?;
    }
    Ok(Some(count))
}

async fn settle(database: &Database, reply: &ReplyRow, outcome: &PublishOutcome) -> Result<(), HubError> {
    let now = Timestamp::now();
    let (result, later) = match outcome {
        PublishOutcome::Delivered => ("delivered", None),
        // The box was never connected with a session that queues replies.
        PublishOutcome::NoSubscriber => ("unheard", Some(Duration::from_secs(60))),
        PublishOutcome::Rejected(_) => ("refused", Some(Duration::from_secs(600))),
        PublishOutcome::Busy(_) => ("busy", Some(Duration::from_secs(10))),
        PublishOutcome::Lost => ("lost", Some(Duration::ZERO)),
    };
    counter!(metric::REPLIES, "result" => result).increment(1);
    let (node, case) = (printable(&reply.node), &reply.case_id);
    match later {
        None => {
            database.reply_sent(reply, now).await?;
            info!(%node, case, "Reply sent");
        }
        Some(later) => {
            if let PublishOutcome::Rejected(reason) | PublishOutcome::Busy(reason) = outcome {
                warn!(%node, case, reason, "The broker refused a reply; trying again later");
            }
            database.reply_due(reply, now + later).await?;
        }
    }
    Ok(())
}
