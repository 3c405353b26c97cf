//! Takes messages, each box's one after the other.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use gridwatch_base::{backoff::Backoff, log_limit::LogLimit, text::printable};
use gridwatch_contract::{ReceiptMessage, parse_box_topic};
use jiff::Timestamp;
use metrics::{counter, gauge};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tracing::{info, warn};

use crate::{
    ingest::{Ingest, Taken},
    metric,
};

/// Messages that are taken side by side. The database does the work; this many wait for it.
const WORKERS: usize = 8;

/// With several hubs on one broker, the pictures of a case may be with another hub when the case comes here. So long they are waited for before the
/// box is asked for them.
const PICTURES_WITHIN: Duration = Duration::from_secs(3);

/// How often they are looked for.
const PICTURES_EVERY: Duration = Duration::from_millis(100);

/// A message to take.
#[derive(Debug)]
pub(super) struct Job {
    /// Its place in the order of acknowledgements; `None` without one.
    pub(super) place: Option<u64>,
    pub(super) topic: String,
    pub(super) payload: Bytes,
}

/// A message that was taken, or set aside, or a receipt that had to wait.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) place: Option<u64>,
    /// It was a message without flow control.
    pub(super) is_uncontrolled: bool,
    /// To whom a receipt is due, and which.
    pub(super) receipt: Option<(String, ReceiptMessage)>,
}

/// The workers of one connection; they end with it.
pub(super) struct Workers {
    queues: Vec<mpsc::UnboundedSender<Job>>,
    prefix: String,
    _tasks: JoinSet<()>,
}

impl Workers {
    /// Starts the workers, which report to `done`.
    pub(super) fn start(
        ingest: &Arc<Ingest>,
        prefix: &str,
        is_shared: bool,
        done: &mpsc::UnboundedSender<Done>,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let log_limit = Arc::new(Mutex::new(LogLimit::default()));
        let queues = (0..WORKERS).map(|_| {
            // Bounded by the messages that the broker sends ahead of their acknowledgements.
            let (queue, jobs) = mpsc::unbounded_channel();
            let worker = Arc::new(Worker {
                ingest: Arc::clone(ingest),
                is_shared,
                done: done.clone(),
                log_limit: Arc::clone(&log_limit),
            });
            tasks.spawn(worker.run(jobs));
            queue
        });
        Self {
            queues: queues.collect(),
            prefix: prefix.to_owned(),
            _tasks: tasks,
        }
    }

    /// Queues a message.
    pub(super) fn take(&self, job: Job) {
        let node = parse_box_topic(&self.prefix, &job.topic).map_or("", |(node, _)| node);
        let mut hasher = DefaultHasher::new();
        node.hash(&mut hasher);
        let queue = (hasher.finish() % self.queues.len() as u64) as usize;
        // A worker ends only with the connection.
        let _ = self.queues[queue].send(job);
    }
}

struct Worker {
    ingest: Arc<Ingest>,
    is_shared: bool,
    done: mpsc::UnboundedSender<Done>,
    /// Of lines about messages that were not taken: a sender could fill the log.
    log_limit: Arc<Mutex<LogLimit>>,
}

impl Worker {
    async fn run(self: Arc<Self>, mut jobs: mpsc::UnboundedReceiver<Job>) {
        while let Some(job) = jobs.recv().await {
            let mut done = Done {
                place: job.place,
                is_uncontrolled: job.place.is_none(),
                receipt: self.take(&job).await,
            };
            if self.is_shared
                && let Some(receipt) = done.receipt.take_if(|(_, receipt)| !receipt.missing.is_empty())
            {
                // Beside what comes next, which must not wait for pictures that may never come.
                tokio::spawn(Arc::clone(&self).receipt_later(receipt));
            }
            let _ = self.done.send(done);
        }
    }

    /// Gives the pictures of a case that another hub may have a moment to arrive, before the box is asked for them.
    async fn receipt_later(self: Arc<Self>, (node, mut receipt): (String, ReceiptMessage)) {
        let until = Instant::now() + PICTURES_WITHIN;
        while !receipt.missing.is_empty() && Instant::now() < until {
            tokio::time::sleep(PICTURES_EVERY).await;
            if let Err(error) = self.ingest.still_missing(&mut receipt).await {
                warn!(%error, case = receipt.case_id, "Cannot look for the pictures of a case; the box is asked for them");
                break;
            }
        }
        let _ = self.done.send(Done {
            place: None,
            is_uncontrolled: false,
            receipt: Some((node, receipt)),
        });
    }

    /// Takes a message, as often as it needs; returns the receipt that is due.
    async fn take(&self, job: &Job) -> Option<(String, ReceiptMessage)> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut has_waited = false;
        let taken = loop {
            match self.ingest.take(&job.topic, &job.payload, Timestamp::now()).await {
                Ok(taken) => break taken,
                Err(error) => {
                    counter!(metric::WAITS).increment(1);
                    if !has_waited {
                        gauge!(metric::WAITING).increment(1.0);
                        warn!(%error, topic = %printable(&job.topic), "Cannot commit a message; trying again");
                    }
                    has_waited = true;
                    tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
                }
            }
        };
        if has_waited {
            info!(topic = %printable(&job.topic), "Committed a message that had to wait");
            gauge!(metric::WAITING).decrement(1.0);
        }
        count(&taken);
        match taken {
            Taken::Case { node, receipt, is_new } => {
                let missing = receipt.missing.len();
                if is_new {
                    info!(node = %printable(&node), case = receipt.case_id, revision = receipt.revision, missing, "Case received");
                }
                Some((node, receipt))
            }
            Taken::DeadLetter(reason) | Taken::Dropped(reason) => {
                let mut limit = self.log_limit.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(suppressed) = limit.admit(std::time::Instant::now()) {
                    warn!(topic = %printable(&job.topic), reason = %printable(&reason), suppressed, "Message not taken; see `gridwatch-hub dead-letters list`");
                }
                None
            }
            Taken::Picture(_) | Taken::Status | Taken::Ignored => None,
        }
    }
}

fn count(taken: &Taken) {
    let (kind, result) = match taken {
        Taken::Case { is_new: true, .. } => ("case", "taken"),
        Taken::Case { is_new: false, .. } => ("case", "repeated"),
        Taken::Picture(true) => ("evidence", "taken"),
        Taken::Picture(false) => ("evidence", "repeated"),
        Taken::Status => ("status", "taken"),
        Taken::DeadLetter(_) => ("other", "dead_letter"),
        Taken::Dropped(_) => ("other", "dropped"),
        Taken::Ignored => ("other", "ignored"),
    };
    counter!(metric::MESSAGES, "kind" => kind, "result" => result).increment(1);
}
