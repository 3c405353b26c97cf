//! Discovery and ONVIF against a device of our own over real sockets: logins, brands, and devices that mean harm.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod altered;
mod brands;
mod discovery;
mod hostile;
mod support;
