//! Cases, outbox and chain in SQLite.

#[path = "../support/filing.rs"]
mod filing;

mod cases;
mod damage;
mod outbox_order;
