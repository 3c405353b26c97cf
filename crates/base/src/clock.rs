//! Clock synchronisation state as the kernel reports it (`adjtimex`), fed by chrony, ntpd or systemd-timesyncd.
//!
//! Reads only: no network traffic, and the clock is never set. The kernel marks its clock as unsynchronised some nine hours
//! after the last correction, so the state may be that old. [`trust`] decides what the wall clock is good for.

pub mod trust;

use std::io;

/// Offset and error bound of a synchronised clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSync {
    /// Known, not yet corrected offset from the reference in milliseconds; positive when the clock is ahead.
    pub offset_ms: i64,
    /// Maximum error in milliseconds: the error of the reference plus the possible drift since the last correction.
    pub error_ms: u64,
}

/// Reads the kernel's clock state; `None` when the clock is not synchronised.
///
/// # Errors
/// If the system call is forbidden, for example by the seccomp filter of systemd's `ProtectClock=yes`.
pub fn read() -> io::Result<Option<ClockSync>> {
    let (state, timex) = ask()?;
    let unit = if timex.status & libc::STA_NANO == 0 {
        1_000
    } else {
        1_000_000
    };
    Ok(evaluate(state, timex.status, timex.offset, unit, timex.maxerror))
}

/// Like [`read`], but a forbidden system call counts as an unsynchronised clock.
pub fn try_read() -> Option<ClockSync> {
    read().ok().flatten()
}

/// Calls `adjtimex` without setting anything, which needs no privilege. Returns the clock state and the filled-in struct.
#[expect(
    unsafe_code,
    reason = "neither rustix nor another maintained crate wraps this system call"
)]
fn ask() -> io::Result<(libc::c_int, libc::timex)> {
    // SAFETY: `timex` is a C struct of integers, so all zeros is a valid value; `modes` = 0 sets nothing.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid and exclusively borrowed for the duration of the call.
    match unsafe { libc::adjtimex(&raw mut timex) } {
        -1 => Err(io::Error::last_os_error()),
        state => Ok((state, timex)),
    }
}

/// `offset` is the pending correction, in units of which `unit` make a millisecond; `max_error` is in microseconds.
fn evaluate(state: i32, status: i32, offset: i64, unit: i64, max_error: i64) -> Option<ClockSync> {
    if state == libc::TIME_ERROR || status & libc::STA_UNSYNC != 0 {
        return None;
    }
    Some(ClockSync {
        offset_ms: (-offset + unit / 2).div_euclid(unit),
        error_ms: max_error.max(0).unsigned_abs().div_ceil(1000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLL: i32 = libc::STA_PLL;

    #[test]
    fn a_positive_pending_correction_means_the_clock_is_behind() {
        let sync =
            |offset, unit| evaluate(libc::TIME_OK, PLL, offset, unit, 0).unwrap_or_else(|| panic!("synchronised"));
        assert_eq!(sync(2_500_000, 1_000_000).offset_ms, -2);
        assert_eq!(sync(-7_400_000, 1_000_000).offset_ms, 7);
        assert_eq!(sync(-7_400, 1_000).offset_ms, 7, "microseconds");
        assert_eq!(sync(499_999, 1_000_000).offset_ms, 0);
    }

    #[test]
    fn the_error_is_rounded_up() {
        let error = |max| evaluate(libc::TIME_OK, PLL, 0, 1000, max).map(|k| k.error_ms);
        assert_eq!(error(0), Some(0));
        assert_eq!(error(1), Some(1));
        assert_eq!(error(12_000), Some(12));
        assert_eq!(error(12_001), Some(13));
    }

    #[test]
    fn an_unsynchronised_clock_has_no_offset() {
        assert_eq!(evaluate(libc::TIME_ERROR, PLL, 0, 1000, 0), None);
        assert_eq!(
            evaluate(libc::TIME_OK, PLL | libc::STA_UNSYNC, 0, 1000, 16_000_000),
            None
        );
    }

    #[test]
    fn a_pending_leap_second_is_still_synchronised() {
        assert!(evaluate(libc::TIME_INS, PLL | libc::STA_INS, 0, 1000, 5).is_some());
    }

    #[test]
    fn the_system_call_succeeds_or_is_forbidden() {
        if let Err(e) = read() {
            assert_eq!(e.kind(), io::ErrorKind::PermissionDenied, "{e}");
        }
    }
}
