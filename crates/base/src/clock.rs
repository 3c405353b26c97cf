//! How well the box's clock is kept, as the kernel knows it from whoever keeps it: chrony, ntpd, systemd-timesyncd.
//!
//! Nothing is asked over a network, and nothing is set. The kernel takes its clock for unsynchronised when nobody has corrected it
//! for a while (some nine hours after the last word), so what it says is no newer than that.

use std::io;

/// A clock that is kept by a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// How far it is ahead of its reference, as far as that is known and not yet corrected, in milliseconds; negative: behind.
    pub offset_ms: i64,
    /// How far it may be off at most, in milliseconds: the reference's own error, and what the clock may have drifted since.
    pub error_ms: u64,
}

/// What the kernel says of its clock: `Some` where it is kept.
///
/// # Errors
/// Where the question is forbidden (a seccomp filter, such as systemd's `ProtectClock=yes`).
pub fn read() -> io::Result<Option<Kept>> {
    let (state, timex) = ask()?;
    let unit = if timex.status & libc::STA_NANO == 0 {
        1_000
    } else {
        1_000_000
    };
    Ok(judge(state, timex.status, timex.offset, unit, timex.maxerror))
}

/// [`read`], with a question that is forbidden taken for a clock that nobody keeps.
pub fn kept() -> Option<Kept> {
    read().ok().flatten()
}

/// `adjtimex` with nothing to set, which needs no privilege: the state it returns and what it filled in.
#[expect(
    unsafe_code,
    reason = "neither rustix nor another maintained crate has this system call"
)]
fn ask() -> io::Result<(libc::c_int, libc::timex)> {
    // SAFETY: `timex` is a C struct of integers, for which zeros are a value; with `modes` 0 nothing is set.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a `timex` that lives and is not otherwise borrowed during the call.
    match unsafe { libc::adjtimex(&raw mut timex) } {
        -1 => Err(io::Error::last_os_error()),
        state => Ok((state, timex)),
    }
}

/// `offset` is what is to be added to the clock, `unit` of it a millisecond; `max_error` is in microseconds.
fn judge(state: i32, status: i32, offset: i64, unit: i64, max_error: i64) -> Option<Kept> {
    if state == libc::TIME_ERROR || status & libc::STA_UNSYNC != 0 {
        return None;
    }
    Some(Kept {
        offset_ms: (-offset + unit / 2).div_euclid(unit),
        error_ms: max_error.max(0).unsigned_abs().div_ceil(1000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLL: i32 = libc::STA_PLL;

    #[test]
    fn what_is_to_be_added_says_how_far_the_clock_is_behind() {
        let kept = |offset, unit| judge(libc::TIME_OK, PLL, offset, unit, 0).unwrap_or_else(|| panic!("kept"));
        assert_eq!(kept(2_500_000, 1_000_000).offset_ms, -2);
        assert_eq!(kept(-7_400_000, 1_000_000).offset_ms, 7);
        assert_eq!(kept(-7_400, 1_000).offset_ms, 7, "microseconds");
        assert_eq!(kept(499_999, 1_000_000).offset_ms, 0);
    }

    #[test]
    fn the_error_is_never_said_smaller_than_it_is() {
        let error = |max| judge(libc::TIME_OK, PLL, 0, 1000, max).map(|k| k.error_ms);
        assert_eq!(error(0), Some(0));
        assert_eq!(error(1), Some(1));
        assert_eq!(error(12_000), Some(12));
        assert_eq!(error(12_001), Some(13));
    }

    #[test]
    fn a_clock_that_nobody_keeps_has_no_offset() {
        assert_eq!(judge(libc::TIME_ERROR, PLL, 0, 1000, 0), None);
        assert_eq!(judge(libc::TIME_OK, PLL | libc::STA_UNSYNC, 0, 1000, 16_000_000), None);
    }

    #[test]
    fn a_leap_second_ahead_is_no_fault() {
        assert!(judge(libc::TIME_INS, PLL | libc::STA_INS, 0, 1000, 5).is_some());
    }

    #[test]
    fn the_kernel_answers_or_says_that_it_may_not() {
        if let Err(e) = read() {
            assert_eq!(e.kind(), io::ErrorKind::PermissionDenied, "{e}");
        }
    }
}
