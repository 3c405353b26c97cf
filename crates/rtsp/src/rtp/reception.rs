//! Statistics of one source for receiver reports (RFC 3550, 6.4.1, A.3 and A.8).

use std::time::Instant;

/// What was received of one SSRC. All per-packet work is integer arithmetic on a few words.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) ssrc: u32,
    clock_rate: u64,
    epoch: Instant,
    first_extended: u64,
    /// Highest sequence number, with the number of wrap-arounds above its 16 bits.
    highest_extended: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    transit: u32,
    /// Interarrival jitter in 1/16 timestamp units.
    jitter: u32,
    /// NTP time of the newest sender report, and its arrival.
    pub(crate) sender_report: Option<(u64, Instant)>,
}

/// The numbers of one report block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportBlock {
    pub(crate) ssrc: u32,
    pub(crate) fraction_lost: u8,
    /// 24 bits, signed: duplicates make it negative.
    pub(crate) cumulative_lost: i32,
    pub(crate) highest_sequence: u32,
    pub(crate) jitter: u32,
    pub(crate) last_sender_report: u32,
    /// In 1/65536 s.
    pub(crate) delay_since_sender_report: u32,
}

impl Reception {
    pub(crate) fn new(ssrc: u32, sequence: u16, clock_rate: u32, now: Instant) -> Self {
        // One cycle up, so that a packet before the first does not underflow.
        let first = u64::from(sequence) + (1 << 16);
        Self {
            ssrc,
            clock_rate: u64::from(clock_rate),
            epoch: now,
            first_extended: first,
            highest_extended: first - 1,
            received: 0,
            expected_before: 0,
            received_before: 0,
            transit: 0,
            jitter: 0,
            sender_report: None,
        }
    }

    /// Counts a packet that arrived in time or late, but not twice.
    pub(crate) fn packet(&mut self, sequence: u16, timestamp: u32, now: Instant) {
        self.received += 1;
        let ahead = sequence.wrapping_sub(self.highest_extended as u16);
        if ahead < 0x8000 {
            self.highest_extended += u64::from(ahead);
        }
        let elapsed = now.saturating_duration_since(self.epoch);
        let arrival = elapsed.as_secs().wrapping_mul(self.clock_rate).wrapping_add(
            // Below 2³² · 10⁹, which fits.
            u64::from(elapsed.subsec_nanos()) * self.clock_rate / 1_000_000_000,
        ) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if self.received > 1 {
            let difference = (transit.wrapping_sub(self.transit) as i32).unsigned_abs();
            // A jump of the timestamps does not count as jitter; 2²⁶ units are 12 minutes at 90 kHz.
            if difference < 1 << 26 {
                self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
            }
        }
        self.transit = transit;
    }

    /// Takes a sender report of this source.
    pub(crate) fn sender_report(&mut self, ntp: u64, now: Instant) {
        self.sender_report = Some((ntp, now));
    }

    /// The report for the interval since the last call.
    pub(crate) fn report(&mut self, now: Instant) -> ReportBlock {
        let expected = self.highest_extended + 1 - self.first_extended;
        let lost = expected as i64 - self.received as i64;
        let expected_interval = expected - self.expected_before;
        let received_interval = self.received - self.received_before;
        (self.expected_before, self.received_before) = (expected, self.received);
        let lost_interval = expected_interval.saturating_sub(received_interval);
        let fraction = (lost_interval << 8)
            .checked_div(expected_interval)
            .unwrap_or(0)
            .min(255);
        let (last_sender_report, delay) = self.sender_report.map_or((0, 0), |(ntp, at)| {
            let delay = now.saturating_duration_since(at).as_nanos() * 65_536 / 1_000_000_000;
            // The middle 32 bits (RFC 3550, 6.4.1).
            ((ntp >> 16) as u32, u32::try_from(delay).unwrap_or(u32::MAX))
        });
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: (self.highest_extended as u32).wrapping_sub(1 << 16),
            jitter: self.jitter >> 4,
            last_sender_report,
            delay_since_sender_report: delay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn loss_and_wrap_around_are_reported() {
        let now = Instant::now();
        let mut reception = Reception::new(7, 65_534, 90_000, now);
        for sequence in [65_534, 65_535, 0, 3] {
            reception.packet(sequence, 0, now);
        }
        let report = reception.report(now);
        assert_eq!((report.cumulative_lost, report.fraction_lost), (2, (2 * 256 / 6) as u8));
        assert_eq!(report.highest_sequence, (1 << 16) | 3);
        let report = reception.report(now);
        assert_eq!((report.cumulative_lost, report.fraction_lost), (2, 0), "nothing since");
        reception.packet(2, 0, now);
        assert_eq!(reception.report(now).cumulative_lost, 1, "late but there");
    }

    #[test]
    fn jitter_follows_the_formula_of_the_rfc() {
        let now = Instant::now();
        let mut reception = Reception::new(7, 0, 90_000, now);
        reception.packet(0, u32::MAX - 10, now);
        reception.packet(1, 8_989, now + Duration::from_millis(100));
        assert_eq!(reception.report(now).jitter, 0, "9000 units in 100 ms");
        reception.packet(2, 17_989, now + Duration::from_millis(300));
        assert_eq!(reception.report(now).jitter, 9_000 / 16);
    }

    #[test]
    fn the_delay_since_the_sender_report_is_given() {
        let now = Instant::now();
        let mut reception = Reception::new(7, 0, 90_000, now);
        assert_eq!(reception.report(now).last_sender_report, 0);
        reception.sender_report(0xffff_1234_5678_ffff, now);
        let report = reception.report(now + Duration::from_millis(1_500));
        assert_eq!(
            (report.last_sender_report, report.delay_since_sender_report),
            (0x1234_5678, 98_304)
        );
    }
}
