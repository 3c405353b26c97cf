//! Random faults lose no case and file none twice, with and without receipts of the platform.
//!
//! `make test` runs this for a minute or so; `make soak MINUTES=30` runs it longer and prints the faults injected. Each run prints its seed;
//! `GRIDWATCH_FAULTS_SEED` repeats one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/broker.rs"]
mod broker;
#[path = "../support/faulty_proxy.rs"]
mod faulty_proxy;
#[path = "../support/filing.rs"]
mod filing;
#[path = "../support/message_faults.rs"]
mod message_faults;
#[path = "../support/platform.rs"]
mod platform;

mod outages;
mod receipts;

/// How long a soak takes, in minutes; `None` in a normal run.
fn soak_minutes() -> Option<u64> {
    number("GRIDWATCH_SOAK_MINUTES")
}

/// The seed of the faults.
fn seed() -> u64 {
    number("GRIDWATCH_FAULTS_SEED").unwrap_or_else(|| fastrand::u64(..))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
