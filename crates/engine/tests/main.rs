//! The engine: each module one behaviour, each test a street and what is filed of it.

mod engine_support;

mod advert;
mod blind;
mod calendar;
mod dwell;
mod elsewhere;
mod intake;
mod lifecycle;
mod permits;
mod properties;
mod reasons;
mod recurrence;
mod restart;
mod second_look;
mod sites;
mod small_ads;
mod streets;
mod tour;
mod vendor;
mod verify;
mod withdrawal;
