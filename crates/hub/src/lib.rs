//! The receiving side of the contract: takes what boxes publish into a database and a folder of pictures, gives receipts, and sends the
//! platform's decisions back as replies.
//!
//! Data goes one way: [`session`] receives a message and hands it to [`ingest`], which commits it; only then is the receipt published and the
//! message acknowledged to the broker. What a person decides is checked by [`workflow`], and committed with the reply that tells the box, which
//! [`session`] sends. Nothing outside the database must survive, so a process may be killed at any time, and several may work on one database.

pub mod cli;
pub mod database;
pub mod dispatch;
pub mod error;
pub mod ingest;
pub mod metric;
pub mod pictures;
pub mod service;
pub mod session;
pub mod workflow;

pub use self::error::HubError;
