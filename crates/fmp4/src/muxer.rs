//! [`Muxer`]: access units in, initialization segments and fragments out.
//!
//! A fragment states how long its picture is shown, which only the next picture tells. So the muxer holds one picture back, and the newest
//! fragment is one picture late. A guess would be cheaper and wrong whenever the frame rate changes: players drop what follows a gap of two
//! guessed durations, up to the next keyframe.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gridwatch_bitstream::{Codec, nal};

use crate::{
    TIMESCALE,
    boxes::{self, FRAGMENT_HEADER, SampleHeader},
    parameter_sets::{NalUse, ParameterSets, is_skipped_leading, nal_use},
    sample_entry::sample_entry,
    timeline::Timeline,
};

/// Largest access unit, in bytes. The RTP receiver's ends at 8 MiB plus parameter sets.
pub const MAX_UNIT_BYTES: usize = 16 << 20;
/// Most NAL units of an access unit. Levels allow some hundred slices (H.265, table A.8: 600).
pub const MAX_NAL_UNITS: usize = 4_096;

/// Why an access unit was not written. Nothing is written until the next keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MuxError {
    /// It has too many bytes.
    #[error("an access unit exceeds {MAX_UNIT_BYTES} bytes; lower the camera's resolution or bit rate")]
    Oversized,
    /// It has too many NAL units.
    #[error("an access unit has more than {MAX_NAL_UNITS} NAL units; lower the camera's number of slices")]
    TooManyNalUnits,
    /// There is no slice in it.
    #[error("an access unit has no slice; restart the camera or update its firmware")]
    NoSlice,
    /// A keyframe without SPS or PPS.
    #[error("a keyframe came without SPS and PPS; restart the camera or update its firmware")]
    NoParameterSets,
    /// More parameter sets than the sample entry has room for.
    #[error("a keyframe has too many or too large parameter sets; restart the camera or update its firmware")]
    TooManyParameterSets,
    /// The SPS cannot be read.
    #[error("the SPS of a keyframe cannot be read; restart the camera or update its firmware")]
    UnreadableParameterSets,
}

/// An access unit in decoding order.
#[derive(Debug, Clone, Copy)]
pub struct Unit<'a> {
    /// Annex B. A keyframe has its parameter sets.
    pub data: &'a [u8],
    /// It can be decoded on its own: an IDR picture of H.264, an IRAP picture of H.265.
    pub is_keyframe: bool,
    /// The timestamp of its RTP packets.
    pub rtp_timestamp: u32,
    /// When it arrived.
    pub received_at: Instant,
}

/// What a player needs before the fragments that follow it.
#[derive(Clone, PartialEq, Eq)]
pub struct InitSegment {
    /// The codec as in `video/mp4; codecs="…"` (RFC 6381): `avc1.64001F`, `hvc1.1.6.L93.B0`.
    pub codec: String,
    /// `ftyp` and `moov`.
    pub bytes: Bytes,
    /// Width of the pictures in pixels, without what is cropped.
    pub width: u32,
    /// Height, as the width.
    pub height: u32,
}

impl fmt::Debug for InitSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {}×{}, {} bytes",
            self.codec,
            self.width,
            self.height,
            self.bytes.len()
        )
    }
}

/// One picture.
#[derive(Clone)]
pub struct Fragment {
    /// The segment that must come before it. All fragments up to a change of the parameter sets share one.
    pub init: Arc<InitSegment>,
    /// `moof` and `mdat`.
    pub bytes: Bytes,
    /// A player may start here.
    pub is_keyframe: bool,
    /// When it is shown, on the timeline that all fragments of a muxer share. It begins at 2 s.
    pub shown_at: Duration,
    /// How long it is shown, or until the next one in decoding order.
    pub duration: Duration,
    /// [`Unit::received_at`].
    pub received_at: Instant,
}

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_keyframe { "keyframe" } else { "delta" };
        let (bytes, at, duration) = (self.bytes.len(), self.shown_at, self.duration);
        write!(f, "{kind} fragment of {bytes} bytes at {at:?} for {duration:?}")
    }
}

/// A fragment whose duration is not known yet.
struct HeldPicture {
    init: Arc<InitSegment>,
    bytes: Vec<u8>,
    is_keyframe: bool,
    decode: i64,
    composition: i64,
    received_at: Instant,
}

/// Writes one stream, or several that follow each other on one timeline.
pub struct Muxer {
    codec: Codec,
    timeline: Timeline,
    /// `None`: nothing is written before a keyframe.
    stream: Option<Stream>,
    /// Leading pictures that refer to pictures before the keyframe at which writing began are left out.
    skips_leading: bool,
    held: Option<HeldPicture>,
    sequence: u32,
}

/// What the newest keyframe's parameter sets gave.
struct Stream {
    sets: ParameterSets<Vec<u8>>,
    init: Arc<InitSegment>,
    /// Since the newest keyframe, no picture was left out.
    is_whole: bool,
}

impl fmt::Debug for Muxer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let init = self.stream.as_ref().map(|stream| &stream.init);
        write!(f, "Muxer of {:?}, {init:?}", self.codec)
    }
}

impl Muxer {
    /// A muxer of a stream whose RTP timestamps have this rate.
    pub fn new(codec: Codec, clock_rate: u32) -> Self {
        Self {
            codec,
            timeline: Timeline::new(clock_rate),
            stream: None,
            skips_leading: false,
            held: None,
            sequence: 0,
        }
    }

    /// Another stream follows, of the same camera as a rule: its first picture is shown directly after the last one. A picture that is held
    /// is lost; see [`Muxer::flush`].
    pub fn restart(&mut self, codec: Codec, clock_rate: u32) {
        self.codec = codec;
        self.timeline.restart(clock_rate);
        self.stream = None;
        self.held = None;
    }

    /// Whether pictures are written, or only the next keyframe will be.
    pub fn is_writing(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.is_whole)
    }

    /// A picture is missing: nothing is written until the next keyframe, and the last picture is shown until then.
    pub fn interrupt(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.is_whole = false;
        }
    }

    /// The stream has ended, or pauses: the picture that is held, with the usual duration.
    pub fn flush(&mut self) -> Option<Fragment> {
        let held = self.held.take()?;
        Some(held.finish(self.timeline.usual_duration()))
    }

    /// Takes the next access unit. Returns the fragment of the one before, if there was one.
    ///
    /// # Errors
    /// [`MuxError`]: the unit was left out, and all up to the next keyframe are.
    pub fn push(&mut self, unit: Unit<'_>) -> Result<Option<Fragment>, MuxError> {
        let is_whole = self.is_writing();
        if !unit.is_keyframe && !is_whole {
            return Ok(None);
        }
        let sample = Sample::write(self.codec, unit.data).and_then(|sample| {
            if unit.is_keyframe {
                self.keyframe(&sample, !is_whole)?;
            }
            Ok(sample)
        });
        let sample = sample.inspect_err(|_| self.interrupt())?;
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        if !unit.is_keyframe && !stream.sets.contains_all(&sample.sets) {
            // The sample entry lacks what this picture needs; the next keyframe has it.
            stream.is_whole = false;
            return Ok(None);
        }
        if self.skips_leading && is_skipped_leading(self.codec, sample.first_slice) {
            return Ok(None);
        }
        let init = Arc::clone(&stream.init);
        Ok(self.hold(unit, init, sample.fragment))
    }

    /// Prepares for the pictures from this keyframe on.
    fn keyframe(&mut self, sample: &Sample<'_>, begins: bool) -> Result<(), MuxError> {
        self.skips_leading = begins;
        if begins {
            self.timeline.gap();
        }
        match &mut self.stream {
            Some(stream) if stream.sets.equals(&sample.sets) => stream.is_whole = true,
            stream => {
                let (new, reordered) = Stream::new(self.codec, sample)?;
                *stream = Some(new);
                // Cameras that do not say send no bidirectional pictures as a rule, and the timeline notices those that do.
                self.timeline.set_depth(reordered.unwrap_or(0) as usize);
            }
        }
        Ok(())
    }

    /// Holds a picture, and completes the one that was held.
    fn hold(&mut self, unit: Unit<'_>, init: Arc<InitSegment>, sample: Vec<u8>) -> Option<Fragment> {
        let time = self.timeline.next(unit.rtp_timestamp, unit.received_at);
        self.sequence = self.sequence.wrapping_add(1);
        let header = boxes::fragment_header(SampleHeader {
            sequence: self.sequence,
            decode_time: u64::try_from(time.decode).unwrap_or(0),
            composition_offset: i32::try_from(time.composition - time.decode).unwrap_or(0),
            is_keyframe: unit.is_keyframe,
        });
        let mut bytes = sample;
        bytes[..FRAGMENT_HEADER].copy_from_slice(&header);
        let held = HeldPicture {
            init,
            bytes,
            is_keyframe: unit.is_keyframe,
            decode: time.decode,
            composition: time.composition,
            received_at: unit.received_at,
        };
        let before = self.held.replace(held)?;
        let duration = time.decode - before.decode;
        Some(before.finish(duration))
    }
}

impl HeldPicture {
    /// `duration` in ticks, at least 1.
    fn finish(mut self, duration: i64) -> Fragment {
        let ticks = u32::try_from(duration).unwrap_or(u32::MAX);
        boxes::finish_fragment(&mut self.bytes, ticks);
        Fragment {
            init: self.init,
            bytes: Bytes::from(self.bytes),
            is_keyframe: self.is_keyframe,
            shown_at: time(self.composition),
            duration: time(i64::from(ticks)),
            received_at: self.received_at,
        }
    }
}

impl Stream {
    /// The stream, and how many pictures it may reorder, if it says.
    fn new(codec: Codec, sample: &Sample<'_>) -> Result<(Self, Option<u32>), MuxError> {
        let sets = &sample.sets;
        if sets.sequence.is_empty() || sets.picture.is_empty() {
            return Err(MuxError::NoParameterSets);
        }
        let sps = sets.active_sps(codec, sample.first_slice).unwrap_or_default();
        let entry = sample_entry(codec, sets, sps).ok_or(MuxError::UnreadableParameterSets)?;
        let stream = Self {
            sets: sets.to_owned(),
            init: Arc::new(entry.init),
            is_whole: true,
        };
        Ok((stream, entry.reordered))
    }
}

/// An access unit on its way into a fragment.
struct Sample<'a> {
    sets: ParameterSets<&'a [u8]>,
    first_slice: &'a [u8],
    /// Room for the header, then the NAL units, each behind its length.
    fragment: Vec<u8>,
}

impl<'a> Sample<'a> {
    /// Copies the NAL units of a picture, and refers to its parameter sets.
    fn write(codec: Codec, data: &'a [u8]) -> Result<Self, MuxError> {
        if data.len() > MAX_UNIT_BYTES {
            return Err(MuxError::Oversized);
        }
        let mut sets = ParameterSets::default();
        let mut first_slice = None;
        // Start codes of four bytes become lengths of four bytes; those of three are rare.
        let mut fragment = Vec::with_capacity(FRAGMENT_HEADER + data.len() + 16);
        fragment.resize(FRAGMENT_HEADER, 0);
        for (count, nal) in nal::split(data).enumerate() {
            if count >= MAX_NAL_UNITS {
                return Err(MuxError::TooManyNalUnits);
            }
            let end = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let nal = &nal[..end];
            match nal_use(codec, nal) {
                Some(NalUse::Set(kind)) => {
                    if !sets.push(kind, nal) {
                        return Err(MuxError::TooManyParameterSets);
                    }
                    continue;
                }
                Some(NalUse::Slice) => {
                    first_slice.get_or_insert(nal);
                }
                Some(NalUse::Sei) => {}
                Some(NalUse::Dropped) | None => continue,
            }
            // Below MAX_UNIT_BYTES.
            fragment.extend_from_slice(&(nal.len() as u32).to_be_bytes());
            fragment.extend_from_slice(nal);
        }
        Ok(Self {
            sets,
            first_slice: first_slice.ok_or(MuxError::NoSlice)?,
            fragment,
        })
    }
}

/// A time of the timeline, which never lies before its beginning.
fn time(ticks: i64) -> Duration {
    let ticks = u64::try_from(ticks).unwrap_or(0);
    let (seconds, rest) = (ticks / u64::from(TIMESCALE), ticks % u64::from(TIMESCALE));
    Duration::from_secs(seconds) + Duration::from_nanos(rest * 1_000_000_000 / u64::from(TIMESCALE))
}

#[cfg(test)]
mod tests;
