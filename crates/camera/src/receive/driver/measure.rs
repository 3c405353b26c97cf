//! Receives a stream for a while and measures it, before its camera is configured or to check one that is: nothing is stored, and
//! nothing is decoded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gridwatch_rtsp::{Event, Output, SenderClock, StreamCounters, UnitKind, VideoFormat, VideoParameters};
use jiff::{SignedDuration, Timestamp};

use super::{super::log::CameraLog, Attempt, Driver, ReceiveError, ReceiverSettings};
use crate::slot::Slot;

/// Keyframes whose arrival is kept; Motion JPEG sends 30 a second.
const MAX_KEYFRAMES: usize = 2_000;
/// Problems of the stream that are kept.
const MAX_PROBLEMS: usize = 16;
/// Seconds from 1900, where NTP timestamps begin, to 1970.
const NTP_TO_UNIX: i64 = 2_208_988_800;
/// A sender report that differs by more has no time of day: cameras without a clock send the time since their start, or zero. Those whose
/// clock was reset begin with 2000 or later.
const LONGEST_DIFFERENCE: SignedDuration = SignedDuration::from_hours(24 * 365 * 40);

/// How long a stream is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasureLimits {
    /// Ends once it was received for so long and `keyframes` came.
    pub at_least: Duration,
    /// Ends then in any case; counts from the call, the connection included.
    pub at_most: Duration,
    /// Complete keyframes to wait for.
    pub keyframes: usize,
}

/// What a reception found.
#[derive(Debug)]
pub struct MeasuredStream {
    /// The stream as the camera describes it.
    pub format: VideoFormat,
    /// The `Server` header.
    pub server: Option<String>,
    /// What its parameter sets say, from the description or from the stream.
    pub parameters: Option<VideoParameters>,
    /// The first complete keyframe: Annex B, or a JPEG. `None` if none came in time.
    pub keyframe: Option<Vec<u8>>,
    /// Where the camera redirected to.
    pub redirected_to: Option<String>,
    /// The scheme of the login, such as `Digest MD5`; `None` if the camera asked for none.
    pub login: Option<String>,
    /// From the call to the first complete keyframe.
    pub first_keyframe_after: Option<Duration>,
    /// From the answer to PLAY to the end.
    pub received_for: Duration,
    /// Arrival of each keyframe, damaged ones included, with what had been received before it.
    pub keyframes: Vec<KeyframeArrival>,
    /// Counters of the whole time.
    pub counters: StreamCounters,
    /// The camera's clock minus this machine's, by RTCP; `None` if the camera sent no report, or one without the time of day.
    pub clock_difference: Option<SignedDuration>,
    /// What was wrong with the stream.
    pub problems: Vec<String>,
    /// Why it ended before its time.
    pub ended_early: Option<String>,
}

/// A keyframe of a [`MeasuredStream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyframeArrival {
    /// When its first packet arrived, since the answer to PLAY.
    pub at: Duration,
    /// Its size in bytes.
    pub bytes: usize,
    /// Pictures received before it ([`StreamCounters::access_units`]).
    pub pictures_before: u64,
    /// Bytes received until it was complete ([`StreamCounters::bytes`]).
    pub bytes_until: u64,
}

impl MeasuredStream {
    fn new(format: VideoFormat, server: Option<String>) -> Self {
        Self {
            format,
            server,
            parameters: None,
            keyframe: None,
            redirected_to: None,
            login: None,
            first_keyframe_after: None,
            received_for: Duration::ZERO,
            keyframes: Vec::new(),
            counters: StreamCounters::default(),
            clock_difference: None,
            problems: Vec::new(),
            ended_early: None,
        }
    }
}

/// Connects to a camera, opens its stream and waits for one keyframe, no longer than `limit`.
///
/// # Errors
/// Why the stream cannot be opened.
pub async fn probe(settings: &ReceiverSettings, limit: Duration) -> Result<MeasuredStream, ReceiveError> {
    let limits = MeasureLimits {
        at_least: Duration::ZERO,
        at_most: limit,
        keyframes: 1,
    };
    measure(settings, limits, |_| {}).await
}

/// Receives a stream within `limits`. `first_picture` is called once, with what is known when the first complete keyframe has come.
///
/// # Errors
/// Why the stream cannot be opened, or why it ended before a complete keyframe.
pub async fn measure(
    settings: &ReceiverSettings,
    limits: MeasureLimits,
    mut first_picture: impl FnMut(&MeasuredStream) + Send,
) -> Result<MeasuredStream, ReceiveError> {
    let credentials = settings.read_credentials().await?;
    let slot = Slot::new(settings.camera.clone(), Arc::default());
    let log = CameraLog::new(settings.camera.clone());
    let attempt = Attempt::default();
    let mut driver = Driver::new(settings, credentials, &slot, &log, &attempt);
    let mut measurement = Measurement {
        limits,
        began: Instant::now(),
        playing_at: None,
        complete: 0,
        redirected_to: None,
        found: None,
    };
    let ended = driver.measure(&mut measurement, &mut first_picture).await;
    let Measurement { playing_at, found, .. } = measurement;
    let now = Instant::now();
    let Some(mut found) = found else {
        // The client's own limit names host and step.
        driver
            .client
            .timeout(driver.client.next_timeout().unwrap_or(now).max(now));
        let error = match ended {
            Some(error) => Some(error),
            None => driver.do_outputs().await,
        };
        return Err(error.unwrap_or(ReceiveError::NoFrames(settings.timeouts.idle)));
    };
    driver.describe(&mut found);
    found.received_for = playing_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
    match ended {
        Some(error) if found.keyframe.is_none() => return Err(error),
        ended => found.ended_early = ended.map(|error| error.to_string()),
    }
    driver.client.close(now);
    let _ = driver.do_outputs().await;
    driver.sockets.send_last().await;
    Ok(found)
}

struct Measurement {
    limits: MeasureLimits,
    began: Instant,
    playing_at: Option<Instant>,
    /// Complete keyframes.
    complete: usize,
    redirected_to: Option<String>,
    found: Option<MeasuredStream>,
}

impl Measurement {
    fn ends(&self, now: Instant) -> bool {
        let received = self.playing_at.map(|at| now.saturating_duration_since(at));
        let is_enough =
            self.complete >= self.limits.keyframes && received.is_some_and(|time| time >= self.limits.at_least);
        is_enough || now.saturating_duration_since(self.began) >= self.limits.at_most
    }

    fn wake(&self, next: Instant) -> Instant {
        let end = self.began + self.limits.at_most;
        let enough = self.playing_at.map(|at| at + self.limits.at_least);
        let enough = enough.filter(|_| self.complete >= self.limits.keyframes);
        next.min(end).min(enough.unwrap_or(end))
    }
}

impl Driver<'_> {
    /// Returns why the connection ended, if it did before the time was over.
    async fn measure(
        &mut self,
        measurement: &mut Measurement,
        first_picture: &mut (dyn FnMut(&MeasuredStream) + Send),
    ) -> Option<ReceiveError> {
        loop {
            let now = Instant::now();
            match self.client.poll() {
                Output::Idle => {
                    if measurement.ends(now) {
                        return None;
                    }
                    let until = measurement.wake(self.next_wake(now));
                    let (wake, _) = self.sockets.wait(&mut self.client, until).await;
                    if let Err(error) = self.handle(wake, Instant::now()) {
                        return Some(error);
                    }
                }
                Output::Closed(error) => return Some(ReceiveError::Rtsp(error)),
                Output::Event(Event::Described { format, server }) => {
                    let mut found = MeasuredStream::new(format, server);
                    found.redirected_to.clone_from(&measurement.redirected_to);
                    measurement.found = Some(found);
                }
                Output::Event(Event::Redirected { to, .. }) => measurement.redirected_to = Some(to),
                // The result has the scheme.
                Output::Event(Event::PasswordInClear) => {}
                Output::Event(Event::Problem(problem)) => {
                    if let Some(found) = &mut measurement.found
                        && found.problems.len() < MAX_PROBLEMS
                    {
                        found.problems.push(problem.to_string());
                    }
                }
                Output::Event(Event::Unit(unit)) => {
                    let Some(found) = measurement.found.as_mut().filter(|_| unit.kind == UnitKind::Keyframe) else {
                        continue;
                    };
                    let counters = self.client.stream_counters();
                    let since = measurement.playing_at.unwrap_or(measurement.began);
                    if found.keyframes.len() < MAX_KEYFRAMES {
                        found.keyframes.push(KeyframeArrival {
                            at: unit.first_packet_at.saturating_duration_since(since),
                            bytes: unit.data.len(),
                            // The unit itself was counted.
                            pictures_before: counters.map_or(0, |c| c.access_units.saturating_sub(1)),
                            bytes_until: counters.map_or(0, |c| c.bytes),
                        });
                    }
                    if unit.is_complete {
                        measurement.complete += 1;
                        if found.keyframe.is_none() {
                            found.keyframe = Some(unit.data);
                            found.first_keyframe_after = Some(now.saturating_duration_since(measurement.began));
                            self.describe(found);
                            first_picture(found);
                        }
                    }
                    // Asked for here, too: a camera that floods is never idle.
                    if measurement.ends(now) {
                        return None;
                    }
                }
                output => {
                    if matches!(output, Output::Event(Event::Playing { .. })) {
                        measurement.playing_at = Some(now);
                    }
                    if let Some(error) = self.apply(output, now).await {
                        return Some(error);
                    }
                }
            }
        }
    }

    /// Writes into `found` what the client knows now.
    fn describe(&self, found: &mut MeasuredStream) {
        found.parameters = self.client.parameters();
        found.login = self.client.login();
        found.counters = self.client.stream_counters().cloned().unwrap_or_default();
        found.clock_difference = self.client.sender_clock().and_then(clock_difference);
    }
}

/// The camera's clock minus this machine's.
fn clock_difference(clock: SenderClock) -> Option<SignedDuration> {
    let here = Timestamp::now()
        .checked_sub(clock.arrived_at.elapsed())
        .unwrap_or(Timestamp::MIN);
    let seconds = (clock.ntp >> 32) as i64;
    // NTP's 32 bits of seconds begin again in 2036 (RFC 4330, 3). Until shortly before, small values are no time of day.
    let next_era = 1_i64 << 32;
    let is_next = seconds < next_era / 2 && here.as_second() + NTP_TO_UNIX > next_era - 366 * 86_400;
    let era = if is_next { next_era } else { 0 };
    let nanos = ((clock.ntp & 0xffff_ffff) * 1_000_000_000) >> 32;
    let camera = Timestamp::new(seconds + era - NTP_TO_UNIX, nanos as i32).ok()?;
    let difference = camera.duration_since(here);
    (difference.abs() <= LONGEST_DIFFERENCE).then_some(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ntp(time: Timestamp) -> u64 {
        ((time.as_second() + NTP_TO_UNIX) as u64 & 0xffff_ffff) << 32
    }

    fn difference(ntp: u64) -> Option<i64> {
        let clock = SenderClock {
            ntp,
            arrived_at: Instant::now(),
        };
        clock_difference(clock).map(|d| d.as_secs())
    }

    #[test]
    fn the_clock_of_a_sender_report_is_compared_with_this_machine() {
        let now = Timestamp::now();
        let ahead = difference(ntp(now + SignedDuration::from_secs(3_600))).unwrap();
        assert!((3_598..=3_600).contains(&ahead), "{ahead}");
        assert_eq!(difference(0), None, "no clock");
        assert_eq!(difference(86_400 << 32), None, "the time since the start");
        let reset: Timestamp = "2000-01-01T00:00:00Z".parse().unwrap();
        let days = |seconds: i64| seconds / 86_400;
        assert_eq!(
            difference(ntp(reset)).map(days),
            Some(days(reset.duration_since(now).as_secs()))
        );
    }
}
