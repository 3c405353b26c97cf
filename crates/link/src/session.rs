//! One connection after another: each sends the outbox from its oldest row on and ends at the first trouble.
//!
//! Nothing is remembered from one connection to the next but how to be careful: how long to wait, and which message the
//! last ones may have died of.

mod connection;
mod sending;
mod sites;

use std::time::Duration;

use jiff::Timestamp;
use metrics::gauge;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tracing::{debug, error, info, warn};

use self::sites::Sites;
use super::{
    LinkState, Sharing,
    backoff::Backoff,
    poison::PoisonMessageDetector,
    reply::IncomingReply,
    wire::{Blame, Disconnect, Wire},
};
use gridwatch_store::Store;

/// A broker that lives has passed on by then what it acknowledged; one that dies sooner may have forgotten it.
const SETTLES: Duration = Duration::from_secs(60);

/// A connection that lived this long was no accident: the next failure starts from the shortest pause.
const SETTLED: Duration = Duration::from_secs(10);

/// How a connection ended.
enum End {
    /// We were told to stop, or nobody holds the handle any more.
    Stopped,
    /// Disconnect, as a sentence.
    Lost(String),
}

/// What outlives a connection.
struct Link {
    wire: Wire,
    store: Store,
    replies: mpsc::Sender<IncomingReply>,
    health: mpsc::Receiver<String>,
    state: watch::Sender<LinkState>,
    suspicion: PoisonMessageDetector,
    /// The connection had a message of ours delivered: it was not in vain.
    was_useful: bool,
    /// A message waits for us at the broker that ends every connection.
    must_forget: bool,
    /// Nobody hears our cases, and that has been said.
    unheard_said: bool,
    /// Nobody wants our pictures, and that has been said.
    pictures_unheard_said: bool,
    /// Where sites are shared with other boxes.
    sites: Option<Sites>,
}

/// Runs until told to stop.
pub(super) async fn run(
    wire: Wire,
    store: Store,
    replies: mpsc::Sender<IncomingReply>,
    health: mpsc::Receiver<String>,
    state: watch::Sender<LinkState>,
    sharing: Option<Sharing>,
    mut stopped: oneshot::Receiver<()>,
) {
    let sites = sharing.map(|sharing| Sites::new(&wire, sharing));
    let mut link = Link {
        wire,
        store,
        replies,
        health,
        state,
        suspicion: PoisonMessageDetector::default(),
        was_useful: false,
        must_forget: false,
        unheard_said: false,
        pictures_unheard_said: false,
        sites,
    };
    let mut backoff = Backoff::default();
    loop {
        link.measure_outbox();
        let begun = Instant::now();
        let end = link.connection(&mut stopped).await;
        gauge!("gridwatch_link_connected").set(0.0);
        let End::Lost(trouble) = end else {
            link.state.send_modify(|s| s.connected = false);
            return;
        };
        if std::mem::take(&mut link.was_useful) || begun.elapsed() >= SETTLED {
            backoff.reset();
        }
        let pause = backoff.next();
        link.say_lost(trouble, pause);
        tokio::select! {
            () = sleep(pause) => {}
            _ = &mut stopped => return,
        }
        if link.must_forget {
            tokio::select! {
                () = link.forget_session() => {}
                _ = &mut stopped => return,
            }
        }
    }
}

impl Link {
    /// A broker that stays away is a warning once, not at each attempt.
    fn say_lost(&self, trouble: String, pause: Duration) {
        let (host, port) = (&self.wire.settings.host, self.wire.settings.port);
        let news = {
            let s = self.state.borrow();
            s.connected || s.trouble.as_ref() != Some(&trouble)
        };
        let retry_ms = pause.as_millis() as u64;
        if news {
            warn!(
                host,
                port, trouble, retry_ms, "The broker is away; cases are kept in the outbox."
            );
        } else {
            debug!(host, port, trouble, retry_ms, "The broker is still away.");
        }
        self.state.send_replace(LinkState {
            connected: false,
            trouble: Some(trouble),
        });
    }

    /// A connection ended by itself. Where it was for a message of ours, that is quarantined once it is known.
    fn lost(&mut self, in_flight: &[i64], trouble: Disconnect, greeted: bool) -> End {
        if let Some((seq, reason)) = self.suspicion.ended(in_flight, &trouble.blame) {
            match self.store.outbox_quarantine(seq, &reason) {
                Ok(rows) => error!(
                    seq,
                    rows,
                    reason,
                    "A message ends every connection; its case is quarantined. Remove the cause, then run: gridwatch outbox retry"
                ),
                Err(e) => error!(error = %e, "A message that ends every connection cannot be quarantined."),
            }
        }
        if trouble.blame == Blame::Theirs {
            self.must_forget = true;
        }
        End::Lost(self.wire.explain(trouble, greeted))
    }

    /// A message to us that we cannot take would end every connection: the session goes, and whatever else waits in it.
    async fn forget_session(&mut self) {
        match self.wire.forget_session().await {
            Ok(()) => {
                self.must_forget = false;
                error!(
                    topic = self.wire.topics.reply(),
                    "A message to the box was too large, and the broker had to forget it with the replies behind it: have the platform repeat \
                     what is missing, and let the broker limit its packets."
                );
            }
            Err(reason) => debug!(
                reason,
                "The broker could not be asked to forget a message that is too large."
            ),
        }
    }

    /// What was acknowledged a while ago has been passed on.
    fn settle(&mut self) {
        let then = Timestamp::now().saturating_sub(SETTLES).unwrap_or(Timestamp::MIN);
        if let Err(e) = self.store.outbox_settled(then) {
            warn!(error = %e, "What was sent cannot be put away.");
        }
    }

    fn measure_outbox(&self) {
        match self.store.outbox_depth() {
            Ok(depth) => {
                gauge!("gridwatch_outbox_depth").set(depth.waiting as f64);
                gauge!("gridwatch_outbox_quarantined").set(depth.quarantined as f64);
            }
            Err(e) => warn!(error = %e, "The outbox cannot be measured."),
        }
    }

    /// The broker does not know us, or knows us again: what is to go is to go from the oldest on.
    fn take_up(&mut self, is_new_to_broker: bool) -> Result<(), gridwatch_store::StoreError> {
        let rows = match is_new_to_broker {
            true => self.store.outbox_forgotten()?,
            false => 0,
        };
        self.store.outbox_rewind()?;
        if rows > 0 {
            info!(
                rows,
                "The broker does not know us any more; what it acknowledged last is sent again."
            );
        }
        Ok(())
    }
}
