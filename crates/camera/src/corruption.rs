//! Detects runs of zero bytes in keyframes, which coded video cannot contain: packets that were lost and replaced.
//!
//! [`gridwatch_bitstream::SliceCheck`] finds them as well, but not in what it cannot check, such as interlaced H.264. RTP sequence numbers come
//! first: a keyframe with a lost packet is dropped by the receiver.

/// Length of a run of zero bytes that proves corruption. Emulation prevention (7.4.1 of both standards) allows two in a
/// NAL unit, and padding at its end adds a few; encoders never write this many.
const ZERO_RUN: usize = 16;

/// The fault in a keyframe's data, if one is found without decoding it.
pub(super) fn find_corruption(data: &[u8]) -> Option<&'static str> {
    has_zero_run(data).then_some("it contains a run of zero bytes, which coded video cannot")
}

/// True if `data` contains `ZERO_RUN` consecutive zero bytes. Any such run covers an aligned chunk of half its
/// length, so only chunks that are all zero are examined further.
fn has_zero_run(data: &[u8]) -> bool {
    let half = ZERO_RUN / 2;
    let chunks = data.chunks_exact(half);
    let mut before = 0;
    for (i, chunk) in chunks.enumerate() {
        if chunk == [0; ZERO_RUN / 2] {
            let at = i * half;
            let after = data[at..].iter().take(ZERO_RUN).take_while(|b| **b == 0).count();
            if before + after >= ZERO_RUN {
                return true;
            }
        }
        before = chunk.iter().rev().take_while(|b| **b == 0).count();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_run_is_found_at_any_offset() {
        for at in 0..40 {
            let mut data = vec![7u8; 64];
            data[at..at + ZERO_RUN].fill(0);
            assert!(has_zero_run(&data), "at {at}");
            data[at + ZERO_RUN / 2] = 1;
            assert!(!has_zero_run(&data), "broken at {at}");
        }
        assert!(!has_zero_run(&[]));
        assert!(!has_zero_run(&[0; ZERO_RUN - 1]));
        assert!(has_zero_run(&[0; ZERO_RUN]));
    }
}
