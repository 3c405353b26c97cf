//! Replies on their way to the daemon, and the acknowledgements they await.

use std::{collections::VecDeque, time::Instant};

use futures::{FutureExt, future::BoxFuture, stream::FuturesOrdered};
use metrics::counter;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::Session;
use crate::{
    limit::Admission,
    reply::{self, IncomingReply},
};
use gridwatch_base::metric;
use gridwatch_mqtt::{AckHandle, InboundMessage};
use gridwatch_store::StoreError;

/// QoS 0 replies have no flow control: with this many replies pending, further ones are dropped.
const MAX_PENDING: usize = 64;

/// Replies of one connection that are not acknowledged yet.
#[derive(Default)]
pub(super) struct PendingReplies {
    /// Replies for which the daemon's channel had no capacity yet.
    pub(super) undelivered: VecDeque<IncomingReply>,
    /// Messages to acknowledge, in order of arrival as MQTT requires; false: not committed.
    pub(super) acks: FuturesOrdered<BoxFuture<'static, (AckHandle, bool)>>,
}

impl PendingReplies {
    /// Acknowledges a message that needs no commit, after the ones received before it.
    pub(super) fn acknowledge(&mut self, ack: AckHandle) {
        self.push(ack, true);
    }

    /// Ends the connection after the acknowledgements before it, so that the broker delivers the message again.
    pub(super) fn refuse(&mut self, ack: AckHandle) {
        self.push(ack, false);
    }

    /// Validates a message on the reply topic and queues it for the daemon. Too many replies about one case are acknowledged
    /// and dropped: unacknowledged, they would hold up those about other cases.
    ///
    /// # Errors
    /// The store's; the message is then not acknowledged, and ends the connection.
    pub(super) fn received(&mut self, message: InboundMessage, session: &mut Session) -> Result<(), StoreError> {
        if message.is_qos0 && self.acks.len() >= MAX_PENDING {
            counter!(metric::REPLIES, "result" => "flood").increment(1);
            debug!("Dropped a QoS 0 reply: too many replies pending");
            return Ok(());
        }
        let (payload, ack) = (message.payload, message.ack);
        match reply::read(
            &payload,
            message.is_retained,
            message.correlation.as_deref(),
            &session.store,
        ) {
            Ok(Ok((message, reply))) => {
                let admission = session.reply_limit.admit(&message.case_id, Instant::now());
                if admission != Admission::Taken {
                    counter!(metric::REPLIES, "result" => "limited").increment(1);
                    if admission == Admission::FirstOverLimit {
                        warn!(case = %reply.case, "Too many replies about one case; dropping those over the limit. Find out what sends them; the platform must repeat the last one");
                    }
                    self.push(ack, true);
                    return Ok(());
                }
                info!(case = %reply.case, state = reply.state.as_str(), "Received a reply from the platform");
                let (committed, is_committed) = oneshot::channel();
                self.undelivered.push_back(IncomingReply {
                    message,
                    reply,
                    committed,
                });
                self.acks
                    .push_back(is_committed.map(|committed| (ack, count(committed.is_ok()))).boxed());
            }
            Ok(Err(rejected)) => {
                counter!(metric::REPLIES, "result" => rejected.as_str()).increment(1);
                if let Some(suppressed) = session.log_limit.admit(Instant::now()) {
                    // Debug-formatted: escapes control characters, so that a sender cannot forge log lines.
                    warn!(
                        reason = ?rejected.to_string(),
                        bytes = payload.len(),
                        suppressed,
                        "Rejected a message on the reply topic"
                    );
                }
                self.push(ack, true);
            }
            Err(e) => {
                self.push(ack, count(false));
                return Err(e);
            }
        }
        Ok(())
    }

    fn push(&mut self, ack: AckHandle, is_committed: bool) {
        self.acks.push_back(async move { (ack, is_committed) }.boxed());
    }
}

/// Counts a valid reply by whether it was committed.
fn count(is_committed: bool) -> bool {
    let result = if is_committed { "committed" } else { "not_committed" };
    counter!(metric::REPLIES, "result" => result).increment(1);
    is_committed
}
