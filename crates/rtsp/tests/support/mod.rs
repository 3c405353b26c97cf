//! A scripted camera and a driver, both over real sockets of the loopback.

pub(crate) mod camera;
pub(crate) mod driver;
