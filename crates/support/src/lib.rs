//! What those who help need to know of a box: the size of its state directory, its keys, its versions, what ended its decoders, and the
//! support bundle of all of it, for `gridwatch support-bundle` and the console's System pages.
//!
//! This crate reads only. It shows no secret and no picture: `Scrubber` goes over everything that leaves in a bundle.

pub mod crashes;
pub mod disk;
pub mod keys;
pub mod versions;

mod bundle;
mod scrub;

pub use self::{
    bundle::{Bundle, DaemonState, LinkState, Manifest, ManifestEntry, ReadinessState, file_name},
    scrub::Scrubber,
};
