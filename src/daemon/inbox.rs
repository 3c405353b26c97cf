//! The core's inbox: the events of the daemon's own threads, and the replies and claims that the link receives, each in a
//! channel of its own.
//!
//! All channels are bounded: look workers wait while theirs is full, and the link stops taking replies from the broker while theirs is.
//! A reply that is dropped unhandled was not acknowledged, so the broker redelivers it. What follows from claims waits in the link.

use std::{io, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use super::{messages::CoreEvent, runtime::OwnedRuntime};
use gridwatch_link::{IncomingReply, SiteNews};

/// Capacity for the events of the daemon's threads: a few looks of every camera.
const EVENTS: usize = 256;

/// Capacity for replies that wait for the core.
const REPLIES: usize = 16;

/// Capacity for what follows from claims.
const CLAIMS: usize = 64;

/// The receiving side, which the core's thread owns.
pub(super) struct Inbox {
    events: mpsc::Receiver<CoreEvent>,
    replies: mpsc::Receiver<IncomingReply>,
    claims: mpsc::Receiver<SiteNews>,
    /// Waits on all of them with a timeout.
    runtime: OwnedRuntime,
}

/// The sending sides; the inbox is closed once all of them, and their clones, are dropped.
pub(super) struct InboxSenders {
    /// For threads: `blocking_send` waits while the inbox is full.
    pub(super) events: mpsc::Sender<CoreEvent>,
    pub(super) replies: mpsc::Sender<IncomingReply>,
    pub(super) claims: mpsc::Sender<SiteNews>,
}

/// Why there is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoEvent {
    /// None came in time.
    Timeout,
    /// All senders are gone and every event was received.
    Closed,
}

impl Inbox {
    pub(super) fn new() -> io::Result<(InboxSenders, Self)> {
        let (events, events_out) = mpsc::channel(EVENTS);
        let (replies, replies_out) = mpsc::channel(REPLIES);
        let (claims, claims_out) = mpsc::channel(CLAIMS);
        let inbox = Self {
            events: events_out,
            replies: replies_out,
            claims: claims_out,
            runtime: OwnedRuntime::new(tokio::runtime::Builder::new_current_thread().enable_time().build()?),
        };
        let senders = InboxSenders {
            events,
            replies,
            claims,
        };
        Ok((senders, inbox))
    }

    /// The next event, from whichever channel has one; replies and claims only if `takes_messages`.
    pub(super) fn next(&mut self, wait: Duration, takes_messages: bool) -> Result<CoreEvent, NoEvent> {
        let Self {
            events,
            replies,
            claims,
            runtime,
        } = self;
        runtime.block_on(async {
            let event = async {
                tokio::select! {
                    Some(event) = events.recv() => Some(event),
                    Some(reply) = replies.recv(), if takes_messages => Some(CoreEvent::Reply(reply)),
                    Some(claim) = claims.recv(), if takes_messages => Some(CoreEvent::Claim(claim)),
                    else => None,
                }
            };
            match timeout(wait, event).await {
                Ok(event) => event.ok_or(NoEvent::Closed),
                Err(_) => Err(NoEvent::Timeout),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> SiteNews {
        SiteNews::Released("theirs".into())
    }

    #[test]
    fn events_of_every_channel_are_received_until_all_senders_are_gone() {
        let (senders, mut inbox) = Inbox::new().unwrap();
        senders.events.blocking_send(CoreEvent::Stop).unwrap();
        senders.claims.try_send(claim()).unwrap();
        // Closed channels do not end the inbox while another one is open or holds an event.
        drop((senders.events, senders.claims));
        let mut received = [(); 2].map(|()| match inbox.next(Duration::from_secs(60), true) {
            Ok(CoreEvent::Stop) => "stop",
            Ok(CoreEvent::Claim(_)) => "claim",
            _ => panic!("no other event was sent"),
        });
        received.sort_unstable();
        assert_eq!(received, ["claim", "stop"]);
        assert_eq!(inbox.next(Duration::from_millis(1), true).err(), Some(NoEvent::Timeout));
        drop(senders.replies);
        assert_eq!(inbox.next(Duration::from_secs(60), true).err(), Some(NoEvent::Closed));
    }

    #[test]
    fn messages_wait_while_they_are_not_taken_and_events_do_not() {
        let (senders, mut inbox) = Inbox::new().unwrap();
        senders.claims.try_send(claim()).unwrap();
        assert_eq!(inbox.next(Duration::ZERO, false).err(), Some(NoEvent::Timeout));
        senders.events.blocking_send(CoreEvent::Stop).unwrap();
        assert!(matches!(
            inbox.next(Duration::from_secs(60), false),
            Ok(CoreEvent::Stop)
        ));
        assert!(matches!(
            inbox.next(Duration::from_secs(60), true),
            Ok(CoreEvent::Claim(_))
        ));
    }

    #[test]
    fn a_full_inbox_holds_up_its_senders() {
        let (senders, mut inbox) = Inbox::new().unwrap();
        for _ in 0..EVENTS {
            senders.events.try_send(CoreEvent::Stop).unwrap();
        }
        assert!(senders.events.try_send(CoreEvent::Stop).is_err());
        assert!(inbox.next(Duration::ZERO, true).is_ok());
        assert!(senders.events.try_send(CoreEvent::Stop).is_ok());
    }
}
