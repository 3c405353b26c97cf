//! The hub with a real broker, real boxes' outboxes and links, and real databases: SQLite always, PostgreSQL where its server is installed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../../tests/support/broker.rs"]
mod broker;
#[path = "../../../../tests/support/case.rs"]
mod case_fixture;
mod consumer;
mod databases;
mod decisions;
mod delivery;
mod edge_box;
mod ingest;
mod kills;
mod running;
