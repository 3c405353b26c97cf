//! The names of the hub's Prometheus metrics, which dashboards and alerts depend on.

use metrics::{describe_counter, describe_gauge};

/// Counter: messages received. Labels: `kind` (`case`, `evidence`, `status`, `health`, `other`) and `result` (`taken`, `repeated`, `dead_letter`,
/// `dropped`, `ignored`).
pub const MESSAGES: &str = "gridwatch_hub_messages_total";
/// Counter: receipts published. Label: `result` (`complete`, `missing`).
pub const RECEIPTS: &str = "gridwatch_hub_receipts_total";
/// Counter: replies published. Label: `result` (`delivered`, `unheard`, `refused`, `busy`, `lost`).
pub const REPLIES: &str = "gridwatch_hub_replies_total";
/// Gauge: replies that the broker does not have yet.
pub const REPLIES_UNSENT: &str = "gridwatch_hub_replies_unsent";
/// Gauge: dead letters.
pub const DEAD_LETTERS: &str = "gridwatch_hub_dead_letters";
/// Gauge: cases by `state`.
pub const CASES: &str = "gridwatch_hub_cases";
/// Gauge: 1 while connected to the broker and subscribed, otherwise 0.
pub const CONNECTED: &str = "gridwatch_hub_connected";
/// Counter: times that a message had to wait because the database or the store of the pictures did not answer.
pub const WAITS: &str = "gridwatch_hub_storage_waits_total";
/// Gauge: messages that wait now because the database or the store of the pictures does not answer.
pub const WAITING: &str = "gridwatch_hub_storage_waiting";

/// Tells the recorder what the metrics mean.
pub fn describe() {
    describe_counter!(MESSAGES, "Messages received, by kind and result");
    describe_counter!(RECEIPTS, "Receipts published, by whether pictures are missing");
    describe_counter!(REPLIES, "Replies published, by result");
    describe_gauge!(REPLIES_UNSENT, "Replies that the broker does not have yet");
    describe_gauge!(
        DEAD_LETTERS,
        "Messages that could not be taken, waiting for an operator"
    );
    describe_gauge!(CASES, "Cases by state");
    describe_gauge!(CONNECTED, "1 while connected to the broker and subscribed");
    describe_gauge!(
        WAITING,
        "Messages that wait now for the database or the store of the pictures"
    );
    describe_counter!(
        WAITS,
        "Messages that had to wait for the database or the store of the pictures"
    );
}
