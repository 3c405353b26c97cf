//! Boxes (ISO/IEC 14496-12): how one is written, and those of a fragment with one sample.

/// Appends boxes to a buffer.
#[derive(Debug, Default)]
pub(crate) struct BoxWriter {
    bytes: Vec<u8>,
}

impl BoxWriter {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A box of this type around what `content` writes. Contents are bounded well below the 4 GiB of a 32-bit size.
    pub(crate) fn put(&mut self, kind: &[u8; 4], content: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.u32(0);
        self.raw(kind);
        content(self);
        let size = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        set_u32(&mut self.bytes, start, size);
    }

    /// A `FullBox`.
    pub(crate) fn put_full(&mut self, kind: &[u8; 4], version: u8, flags: u32, content: impl FnOnce(&mut Self)) {
        self.put(kind, |b| {
            b.u32(u32::from(version) << 24 | flags & 0x00ff_ffff);
            content(b);
        });
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }
}

/// Overwrites four bytes, if they are there.
fn set_u32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Bytes before the sample in a fragment: `moof` and the header of `mdat`.
pub(crate) const FRAGMENT_HEADER: usize = MOOF + MDAT_HEADER;
const MOOF: usize = 104;
const MDAT_HEADER: usize = 8;
/// Where `sample_duration` and, after it, `sample_size` lie in a fragment.
const DURATION_AT: usize = MOOF - 16;
const SIZE_AT: usize = DURATION_AT + 4;

/// `sample_flags` (8.8.3.1) of a picture that depends on no other, and of one that does.
const SYNC_SAMPLE: u32 = 0x0200_0000;
const DELTA_SAMPLE: u32 = 0x0101_0000;

/// What a fragment says of its only sample, beside size and duration. Times in units of [`crate::TIMESCALE`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct SampleHeader {
    /// From 1.
    pub(crate) sequence: u32,
    pub(crate) decode_time: u64,
    pub(crate) composition_offset: i32,
    pub(crate) is_keyframe: bool,
}

/// The header of a fragment whose size and duration are not known yet.
pub(crate) fn fragment_header(sample: SampleHeader) -> Vec<u8> {
    let mut b = BoxWriter::default();
    b.put(b"moof", |b| {
        b.put_full(b"mfhd", 0, 0, |b| b.u32(sample.sequence));
        b.put(b"traf", |b| {
            // default-base-is-moof.
            b.put_full(b"tfhd", 0, 0x02_0000, |b| b.u32(1));
            b.put_full(b"tfdt", 1, 0, |b| b.u64(sample.decode_time));
            // Version 1: composition offsets are signed. data-offset, then sample duration, size, flags and composition offset.
            b.put_full(b"trun", 1, 0x00_0f01, |b| {
                b.u32(1);
                b.u32(FRAGMENT_HEADER as u32);
                b.zeros(8);
                b.u32(if sample.is_keyframe { SYNC_SAMPLE } else { DELTA_SAMPLE });
                b.u32(sample.composition_offset as u32);
            });
        });
    });
    b.put(b"mdat", |_| {});
    b.into_bytes()
}

/// Completes a fragment that consists of [`fragment_header`] and the sample.
pub(crate) fn finish_fragment(fragment: &mut [u8], duration: u32) {
    let size = fragment.len().saturating_sub(FRAGMENT_HEADER);
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    set_u32(fragment, DURATION_AT, duration);
    set_u32(fragment, SIZE_AT, size);
    set_u32(fragment, MOOF, size.saturating_add(MDAT_HEADER as u32));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn a_fragment_has_its_fields_where_they_are_completed() {
        let mut fragment = fragment_header(SampleHeader {
            sequence: 7,
            decode_time: 1 << 40,
            composition_offset: -3,
            is_keyframe: true,
        });
        assert_eq!(fragment.len(), FRAGMENT_HEADER);
        assert_eq!((u32_at(&fragment, 0), &fragment[4..8]), (MOOF as u32, &b"moof"[..]));
        fragment.extend([1, 2, 3, 4, 5]);
        finish_fragment(&mut fragment, 3_600);
        let trun = DURATION_AT - 20;
        assert_eq!(&fragment[trun + 4..trun + 8], b"trun");
        assert_eq!((u32_at(&fragment, DURATION_AT), u32_at(&fragment, SIZE_AT)), (3_600, 5));
        assert_eq!(u32_at(&fragment, SIZE_AT + 4), SYNC_SAMPLE);
        assert_eq!(u32_at(&fragment, SIZE_AT + 8) as i32, -3);
        assert_eq!(
            (u32_at(&fragment, MOOF), &fragment[MOOF + 4..MOOF + 8]),
            (13, &b"mdat"[..])
        );
    }
}
