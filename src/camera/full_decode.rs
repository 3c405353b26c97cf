//! Under construction.
use super::{Codec, Slot};
use bytes::Bytes;
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
pub(super) struct FullDecode;
pub(super) struct Unit {
    pub(super) data: Bytes,
    pub(super) keyframe: bool,
    pub(super) torn: bool,
    pub(super) at: Timestamp,
}
impl FullDecode {
    pub(super) fn start(_: Codec, _: Arc<Slot>, _: Duration) -> Result<Self, String> {
        Err("not yet".into())
    }
    pub(super) fn is_broken(&self) -> bool {
        true
    }
    pub(super) fn parameters(&self, _: Option<Vec<u8>>) {}
    pub(super) fn push(&mut self, _: Unit) {}
}
