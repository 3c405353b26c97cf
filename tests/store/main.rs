//! Cases, outbox and chain in SQLite.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/filing.rs"]
mod filing;

mod cases;
mod damage;
mod history;
mod outbox_order;
mod receipts;
mod recovery;
mod reviews;
