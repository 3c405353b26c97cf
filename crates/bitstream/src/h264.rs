//! H.264 (ITU-T H.264, 08/2021): parameter sets.

mod sps;

pub use self::sps::{SpsHead, sps_id};
