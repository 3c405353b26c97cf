//! The configuration as files: what differs between two, `conf.d`, credentials, and edits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod conf_d;
mod credentials;
mod edits;
mod sample;
mod saves;
mod schema_walk;
mod texts;
mod zones;
