//! Adds a camera: finds it on the network, asks it what it sends, knows the stream URLs of common brands, receives its stream for a few
//! seconds and judges it with advice.
//!
//! - [`discovery`] finds devices with WS-Discovery.
//! - [`device`] asks one device over ONVIF: its clock, what it is, its profiles, its stream addresses.
//! - [`brand`] has the stream URLs and menus of brands, as data.
//! - [`probe`] puts these together for one camera and measures its streams; [`advice`] judges what was found.
//!
//! What answers is hostile until proven otherwise: every reply is bounded in size, depth, count and time, and read by [`xml`] without
//! document types or entities. Credentials go to the host that a person named and to no other: an address in a reply that lies elsewhere
//! is reported and not contacted. This crate stores nothing and writes no file.

pub mod advice;
pub mod brand;
pub mod device;
pub mod discovery;
#[doc(hidden)]
pub mod fuzzing;
mod http;
pub mod probe;
mod serialize;
mod soap;
pub mod xml;
