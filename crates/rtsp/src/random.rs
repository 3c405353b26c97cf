//! Numbers for client nonces, tunnel cookies and jitter, from a seed that the driver draws.

use std::fmt::Write;

/// SplitMix64 (Steele, Lea, Flood 2014). Nothing secret is made of it: a client nonce only has to differ each time.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 22 hex digits.
    pub(crate) fn token(&mut self) -> String {
        let mut text = String::with_capacity(22);
        // Writing to a String cannot fail.
        let _ = write!(text, "{:016x}{:06x}", self.next_u64(), self.next_u64() >> 40);
        text
    }
}
